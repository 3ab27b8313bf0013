"""Event logs without sense, damaged as logs are, and launches that are unusual: for the differential test."""

import numpy as np
import pandas as pd
import yaml

from helpers import launch, study
from helpers.metrics import CATALOGUE
from helpers.schema import SAME_PLAY, TABLES

DAY, HOUR, START = pd.Timedelta(days=1), pd.Timedelta(hours=1), pd.Timestamp("2026-09-07", tz="UTC")
SIZES = {
    "accounts": 3_000, "titles": 40, "sessions": 15_000, "plays": 20_000, "app_opens": 10_000, "impressions": 6_000,
    "cancellations": 1_500, "tickets": 3_000, "feedback": 5_000, "surveys": 3_000,
}  # fmt: skip
LOGS = tuple(SIZES)[2:]
CALENDAR = {"d1": (1, 1), "d6": (6, 6), "first_days": (0, 2)}  # retention on days of the calendar
IMPOSSIBLE = {"sessions": ("rebuffer_ratio", 1.5), "plays": ("watch_minutes", 2_000.0)}
REPEATED = {"sessions", "plays", "app_opens", "tickets", "feedback"}


def service(rng):
    """Draw tables as the contract describes them: evenly, without any sense, but for what has to agree."""
    tables = {}
    for name, n in SIZES.items():
        rows = pd.DataFrame({"account": [f"a{i:04}" for i in rng.integers(0, SIZES["accounts"], n)]})
        for c in TABLES[name].columns[0 if name == "titles" else 1 :]:
            permitted = c.values  # noqa: PD011  (a column of the contract)
            high = c.high if c.high and c.high < 100 else 9
            rows[c.name] = (
                START + pd.to_timedelta(rng.integers(-30 * 86_400, 30 * 86_400, n), unit="s") if c.type == "time"
                else rng.random(n) < 0.3 if c.type == "flag"
                else rng.integers(c.low or 0, high + 1, n).astype(float) if c.type == "count"
                else rng.random(n) * high if c.type == "number"
                else rng.choice([*(permitted or ("tv", "phone", "finding titles"))], n)
            )  # fmt: skip
            if c.null and c.type != "time":
                rows[c.name] = rows[c.name].where(rng.random(n) > 0.1, None)
        tables[name] = rows
    titles = [f"t{i}" for i in range(SIZES["titles"])]
    tables["accounts"]["account"] = [f"a{i:04}" for i in range(SIZES["accounts"])]
    tables["titles"] = tables["titles"].assign(title=titles, is_launch_title=[t in {"t0", "t1"} for t in titles])
    tables["sessions"]["session"] = [f"s{i}" for i in range(SIZES["sessions"])]
    tables["sessions"]["seconds_to_first_play"] *= 60
    of = tables["sessions"].sample(SIZES["plays"], replace=True, random_state=4, ignore_index=True)
    minutes, began = (
        rng.exponential(40, len(of)),
        of["started_at"] + pd.to_timedelta(rng.integers(0, 3_600, len(of)), unit="s"),
    )
    tables["plays"] = tables["plays"].assign(
        account=of["account"], session=of["session"], started_at=began, watch_minutes=minutes
    )
    for name in LOGS:
        rows = tables[name].drop(columns="received_at", errors="ignore")
        for later in {"responded_at", "resubscribed_at"} & {*rows}:
            rows[later] = (rows[TABLES[name].time] + 9 * HOUR).where(rng.random(len(rows)) < 0.5)
        named = {"title": rng.choice(["gone"] * (name == "plays") + titles, len(rows))} if "title" in rows else {}
        tables[name] = rows.assign(**named)
    return tables


def damaged(tables, asked, rng):
    """Damage the tables, and say what launch goes with them."""
    days, pre = (14, 14) if "short" in asked else (28, 28)
    accounts, outliers, plan = tables["accounts"], {}, {name: {} for name in CATALOGUE}
    who = rng.permutation(accounts["account"])[: 2 * len(accounts) // 3]
    assigned = pd.DataFrame({"account": who, "arm": rng.choice(["ctl", "trt"], len(who)), "assigned_at": START})
    assigned["inclusion_probability"] = rng.choice([0.02, 0.2, 0.9], len(who)) if "weights" in asked else 0.5
    if "rollout" in asked:
        days, late = 21, pd.to_timedelta(rng.integers(0, 7 * 86_400, len(who)), unit="s")
        assigned["assigned_at"] += late
    if "household" in asked:
        number = accounts["account"].str[1:].astype(int) // 2
        accounts = accounts.assign(household="h" + number.astype(str))
        assigned["arm"] = np.where(assigned["account"].str[1:].astype(int) // 2 % 2, "ctl", "trt")
    if "removed" in asked:
        accounts = accounts.assign(bot_suspect=rng.random(len(accounts)) < 0.05)
        outliers |= {"remove": ["bot_suspect", {"region": ["phone"]}]}
    if "flagged" in asked:
        accounts["flagged_on"] = START + pd.to_timedelta(rng.integers(-20, 20, len(accounts)), unit="D")
        outliers |= {"flagged_at": "flagged_on"}
    if "impossible_accounts" in asked:
        outliers |= {"impossible_above": {"hours_per_account_week": 5, "tickets_per_account": 4}}
    if "deleted" in asked:
        accounts = accounts[rng.random(len(accounts)) > 0.03]
    if "caps" in asked:
        plan |= {m: {"cap": 0.9} for m in ("hours_per_account_week", "session_minutes", "tickets_per_account")}
        outliers |= {"caps": "before"} if "caps_before" in asked else {}
    if "target" in asked:
        plan["session_minutes"] = plan["session_minutes"] | {"target_since": (START - 8 * DAY).date()}
    for name in ("churn_28d", "voluntary_churn_28d", "payment_churn_28d", "net_churn_28d", "tail_creator_share"):
        plan[name] = {"window_days": 13}
    anchor = assigned.set_index("account")["assigned_at"]
    found = {"accounts": accounts, "titles": tables["titles"], "assignments": assigned}
    for name in LOGS:
        rows, time = tables[name].copy(), TABLES[name].time
        edge = rows["account"].isin(anchor.index) & (rng.random(len(rows)) < 0.1)  # to the exact edges of windows
        to = pd.to_timedelta(rng.choice([0, days, -pre, 1, 7, days - 1, 13], len(rows)), unit="D")
        to += pd.to_timedelta(rng.choice([0, 0, -1, 1], len(rows)), unit="us")
        moved = (rows["account"].map(anchor) + to).where(edge, rows[time]) - rows[time]
        for column in (c.name for c in TABLES[name].columns if c.type == "time" and c.name in rows):
            rows[column] += moved
        if "impossible" in asked and name in IMPOSSIBLE:
            column, value = IMPOSSIBLE[name]
            rows.loc[rng.random(len(rows)) < 0.01, column] = value
        if name == "app_opens":  # shortly before another, also over the edge of a window
            rows = pd.concat(
                [rows, rows.sample(frac=0.3, random_state=5).assign(opened_at=lambda r: r["opened_at"] - HOUR / 3)]
            )
        if name == "plays" and "long_days" in asked:
            more = rows.sample(60, random_state=1)
            rows = pd.concat([rows, more.assign(watch_minutes=1_000.0), more.assign(watch_minutes=900.0)])
        if "late" in asked and name == "plays":
            rows["received_at"] = (
                rows[time] + rng.choice([0.2, 60, -0.05, -24], len(rows), p=[0.9, 0.05, 0.03, 0.02]) * HOUR
            )
        if TABLES[name].key:  # of rows with one key but other values, either may stay
            rows = rows.drop_duplicates([*TABLES[name].key])
        again = 0.03 if "duplicates" in asked and name in REPEATED else 0.0
        found[name] = pd.concat([rows, rows.sample(frac=again, random_state=2)], ignore_index=True)
    if "no_times" in asked:
        found["assignments"] = assigned.drop(columns="assigned_at")
    own = [{"name": name, "kind": "proportion", "better": "higher", "numerator": {"table": "sessions", "agg": "any", "calendar_days": [*between]}}
           for name, between in CALENDAR.items()]  # fmt: skip
    star, *others = [
        {"metric": name, **more} for name, more in sorted(plan.items(), key=lambda p: p[0] != "hours_per_account_week")
    ]
    spec = {
        "name": "damaged",
        "data": {"source": "events", "faults": "drop" if "drop" in asked else "keep"},
        "arms": {"control": "ctl", "treatment": "trt"},
        "dates": {"start": START.date(), "days": days, "pre_days": pre},
        "metrics": {"north_star": star, "supporting": [*others, *own]},
    }
    spec |= {"unit": {"randomised": "household", "errors": "cluster"}} if "household" in asked else {}
    return found, spec | ({"outliers": outliers} if outliers else {})


def opened(folder, tables, spec, asked, zone):
    """Write the tables, their times in a zone, and open the launch on them."""
    (folder / "events").mkdir()
    for name, rows in tables.items():
        times = rows.select_dtypes("datetimetz").apply(lambda t: t.dt.tz_convert(zone))
        if "csv" in asked and name in {"sessions", "tickets"}:
            rows.assign(**times).to_csv(folder / "events" / f"{name}.csv", index=False)
        else:
            rows.assign(**times).to_parquet(folder / "events" / f"{name}.parquet", index=False)
    (folder / "damaged.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return study.open(launch.load(folder / "damaged.yaml"))


def sound(tables):
    """Leave out rows that cannot be: values, times before what they follow, repeats, and days of over 24 hours."""
    kept = dict(tables)
    for name in LOGS:
        rows, contract = tables[name], TABLES[name]
        bad = pd.Series(data=False, index=rows.index)
        for c in (c for c in contract.columns if c.name in rows):
            low, number = 0 if c.type == "count" and c.low is None else c.low, c.type in {"count", "number"}
            value = pd.to_numeric(rows[c.name]) if number else rows[c.name]
            permitted = c.values  # noqa: PD011  (a column of the contract)
            bad |= (value.isna() & (not c.null)) | (value.notna() & ~value.isin(permitted) if permitted else False)
            bad |= (value < low if low is not None else False) | (value > c.high if c.high is not None else False)
        for later, least in {"responded_at": 0, "resubscribed_at": 0, "received_at": -1 / 12}.items():
            bad |= rows[later] < rows[contract.time] + least * HOUR if later in rows else False
        if name == "plays":
            begun = kept["sessions"].set_index(["account", "session"])["started_at"]
            bad |= (
                rows["started_at"].to_numpy()
                < begun.reindex(pd.MultiIndex.from_frame(rows[["account", "session"]])).to_numpy()
            )
        rows, key = rows[~bad], SAME_PLAY if name == "plays" else contract.key
        rows = rows.drop_duplicates([*key]) if key else rows
        if name == "plays":
            day = rows["started_at"].dt.floor("D")
            left = (day + DAY - rows["started_at"]) / HOUR * 60
            today = rows["watch_minutes"].clip(upper=left).groupby([rows["account"], day]).sum()
            over = (rows["watch_minutes"] - left).clip(lower=0).groupby([rows["account"], day + DAY]).sum()
            total = today.add(over, fill_value=0).reindex(pd.MultiIndex.from_arrays([rows["account"], day]))
            rows = rows[total.to_numpy() <= 1440 + 1e-6]
        kept[name] = rows
    return kept
