"""Every metric of the catalogue on damaged and unusual launches, against plain pandas on the rows as they were written."""

from dataclasses import replace

import damage
import numpy as np
import pandas as pd
import pytest
from damage import CALENDAR, DAY, HOUR

from helpers import causal, reception, scorecard, units
from helpers.detectors import past
from helpers.metrics import CATALOGUE, Measure, Metric
from helpers.schema import TABLES
from helpers.units import query

CASES = {  # what is unusual, and the zone in which times are written
    "dropped": ("drop duplicates impossible long_days late removed flagged caps target", "America/New_York"),
    "kept": ("duplicates impossible rollout weights caps impossible_accounts csv", "Asia/Kolkata"),
    "households": ("drop household deleted short caps caps_before no_times", "UTC"),
}
SOON = Metric(
    name="soon", title="Saw a play soon", kind="proportion", better="higher", unit="share", covariates=(),
    numerator=Measure(table="sessions", agg="any", where=CATALOGUE["browse_to_play"].numerator.where),
)  # fmt: skip


def events(tables, name, begin, days=None):
    """Open the events of accounts over days from their own `begin`, all of them without days; titles beside them."""
    rows = tables[name][tables[name]["account"].isin(begin.index)]
    rows = rows.assign(at=rows[TABLES[name].time], begin=rows["account"].map(begin))
    rows = rows.merge(tables["titles"], on="title", how="left", suffixes=("", "_")) if "title" in rows else rows
    return rows if days is None else rows[(rows["at"] >= rows["begin"]) & (rows["at"] < rows["begin"] + days * DAY)]


def numbers(tables, begin, days):
    """Work every metric's numerator and denominator (none: 1) out for each account, as its definition says."""

    def n(rows, column=None):
        found = rows.groupby("account").size() if column is None else rows.groupby("account")[column].sum()
        return found.reindex(begin.index).astype(float).fillna(0.0)

    def some(rows):
        return (n(rows) > 0).astype(float)

    def on_days(rows):
        return rows.assign(day=(rows["at"] - rows["begin"]) // DAY).drop_duplicates(["account", "day"])

    def wait(*several):
        rows = pd.concat([rows[["account", "at", "begin"]] for rows in several])
        first = (rows["at"].dt.floor("s") - rows["begin"]).groupby(rows["account"]).min() / DAY  # read to the second
        return first.reindex(begin.index).fillna(float(days))

    def after_a_view(rows):
        rows, views = rows.reset_index(drop=True), events(tables, "plays", begin)
        both = rows.reset_index().merge(
            views[views["watch_minutes"] >= 5][["account", "title", "at"]], on=["account", "title"]
        )
        return rows[rows.index.isin(both.loc[(both["at_x"] - both["at_y"]).between(0 * DAY, 7 * DAY), "index"])]

    opens = events(tables, "app_opens", begin).query("~background").sort_values("at")
    opens = opens[~(opens.groupby("account")["at"].diff() < HOUR / 2)]
    opens = opens[(opens["at"] >= opens["begin"]) & (opens["at"] < opens["begin"] + days * DAY)]
    plays, sessions, shown, gone, tickets, said, asked = (
        events(tables, name, begin, days)
        for name in ("plays", "sessions", "impressions", "cancellations", "tickets", "feedback", "surveys")
    )
    show, views, shadow = (
        plays[plays["is_launch_title"].eq(True)],
        plays[plays["watch_minutes"] >= 5],
        plays[plays["shadow_recommended"]],
    )
    minutes, active, visits, ended = (
        n(plays, "watch_minutes"),
        some(sessions),
        n(sessions),
        show[show["completed_share"] >= 0.9],
    )
    titles, came = n(views.drop_duplicates(["account", "title"])), on_days(sessions)
    again = came.merge(came.assign(day=came["day"] - 1)[["account", "day"]])
    chosen = plays[~plays["initiation"].isin(["autoplay_next", "autoplay_preview"])]
    value = wait(plays[plays["completed_share"] >= 0.9], said[said["thumb"] == "up"])
    silent, answers = sessions[sessions["seconds_to_first_play"].isna()], n(asked.dropna(subset="score"))
    crashed, promoters = sessions[sessions["crashed"]], n(asked[asked["nps"] >= 9]) - n(asked[asked["nps"] <= 6])
    effort = n(sessions, "seconds_to_first_play") + 300 * n(silent) + 30 * n(plays[plays["initiation"] == "search"])
    nth = sessions["at"].dt.floor("D") - sessions["begin"].dt.floor("D")
    return {
        "hours_per_account_week": (minutes / 60, 1), "hours_per_active_account_week": (minutes / 60, active),
        "active_account_share": (active, 1), "sessions_per_active_account_week": (visits, active),
        "discovery_rate": (n(shadow), n(plays)), "browse_to_play": (n(sessions[sessions["seconds_to_first_play"] <= 300]), visits),
        "session_minutes": (minutes, visits), "session_minutes_by_account": ((minutes / visits).where(visits > 0, 0.0), active),
        "opens_per_account_week": (visits, 1), "app_opens_per_account_week": (n(opens), 1),
        "distinct_titles_per_account": (titles, 1), "titles_per_ten_hours": (10 * titles, minutes / 60),
        "churn_28d": (some(gone), 1), "voluntary_churn_28d": (some(gone[gone["kind"] == "voluntary"]), 1),
        "payment_churn_28d": (some(gone[gone["kind"] == "payment"]), 1), "time_to_cancel": (wait(gone), 1),
        "net_churn_28d": (some(gone[gone["resubscribed_at"].isna()]), 1), "tickets_per_account": (n(tickets), 1),
        "finding_tickets_per_1000": (1000 * n(tickets[tickets["topic"] == "finding titles"]), 1),
        "crash_rate": (n(crashed), visits), "crashed_account_share": (some(crashed), 1), "never_played_share": (n(silent), visits),
        "tail_creator_share": (n(plays[plays["creator_tier"] == "tail"], "watch_minutes"), minutes),
        "tail_impression_share": (n(shown[shown["creator_tier"] == "tail"]), n(shown)),
        "start_failure_rate": (n(sessions[sessions["start_failed"]]), visits),
        **{c: (n(sessions, c), n(sessions.dropna(subset=c))) for c in ("play_delay_ms", "rebuffer_ratio")},
        "intentional_start_share": (n(chosen), n(plays)), "intentional_hours_share": (n(chosen, "watch_minutes"), minutes),
        "survey_score": (n(asked, "score"), answers), "survey_top_box": (n(asked[asked["score"] == 5]), answers),
        "survey_response_rate": (answers, n(asked)), "net_promoter_score": (100 * promoters, n(asked.dropna(subset="nps"))),
        "effort_score": (n(asked, "effort"), n(asked.dropna(subset="effort"))), "effort_index": (effort, visits),
        "regret_rate": (n(after_a_view(said[said["thumb"] == "down"])), n(views)),
        "hidden_after_view_rate": (n(after_a_view(said[said["hide"]])), n(views)),
        "next_day_return": (n(again), n(came[came["day"] < days - 1])), "time_to_value": (value, 1), "days_to_value": (value, 1),
        "feature_repeat_use": ((n(on_days(shadow)) >= 2).astype(float), 1), "show_reach": (some(shown[shown["is_launch_title"].eq(True)]), 1),
        "show_start_rate": (some(show), 1), "show_pilot_completion": (some(ended[ended["episode"] == 1]), 1),
        **{f"show_episode_{k}_rate": (some(show[show["episode"] >= k]), 1) for k in (2, 4, 8)},
        "show_completion": (n(ended), n(show)), "show_repeat_rate": ((n(on_days(show)) >= 2).astype(float), 1),
        "show_hours_per_account": (n(show, "watch_minutes") / 60, 1), "net_hours_per_account": (minutes / 60, 1),
        "other_hours_per_account": (n(plays[plays["is_launch_title"].eq(False)], "watch_minutes") / 60, 1),
        **{name: (some(sessions[nth.between(a * DAY, b * DAY)]), 1) for name, (a, b) in CALENDAR.items()},
    }  # fmt: skip


def remaining(tables, spec, anchor, days):
    """Say which accounts the launch leaves in: without those it removes, and those with what it calls impossible."""
    rule, out = spec.get("outliers", {}), pd.Series(data=False, index=anchor.index)
    if "remove" in rule:
        known = tables["accounts"].set_index("account").reindex(anchor.index)
        out |= (known["bot_suspect"].eq(True) | known["region"].eq("phone")) & (known["flagged_on"] < anchor)
    if "impossible_above" in rule:
        amounts = numbers(tables, anchor, days)
        out |= (amounts["hours_per_account_week"][0] / days * 7 > 5) | (amounts["tickets_per_account"][0] > 4)
    return anchor[~out]


def cap(amounts, weight, share):
    """Find the quantile among those who have any; of the population, where accounts have weights."""
    some = amounts[amounts > 0]
    if weight.max() - weight.min() < 1e-9:
        return np.quantile(some, share)
    so_far = weight[some.index].groupby(some).sum().cumsum()
    return so_far.index[np.searchsorted(so_far / so_far.iloc[-1], share - 1e-12)]


def way_through(tables, anchor, days):
    """Say of each account how far it came with the launch title."""
    plays, shown = (
        events(tables, name, anchor, days).query("is_launch_title == True") for name in ("plays", "impressions")
    )
    whole = plays[plays["completed_share"] >= 0.7]
    steps = {
        "shown": pd.concat([plays, shown]),
        "started": plays,
        "pilot": whole[whole["episode"] == 1],
        "second": plays[plays["episode"] >= 2],
        "finished": whole[whole["episode"] == plays["episode"].max()],
    }
    came = pd.Series(data=True, index=anchor.index)
    for name, rows in steps.items():
        came &= anchor.index.isin(rows["account"])
        yield name, came.astype(float)


def pairs(folder, words, zone, seed):
    """Yield, for everything that is measured: what it is, what Premiere says of it, and what pandas does."""
    rng = np.random.default_rng(seed)
    tables, spec = damage.damaged(damage.service(rng), words.split(), rng)
    data = damage.opened(folder, tables, spec, words.split(), zone)
    days, pre = spec["dates"]["days"], spec["dates"]["pre_days"]
    tables = damage.sound(tables) if spec["data"]["faults"] == "drop" else tables
    assigned = tables["assignments"].set_index("account")
    anchor = assigned.get("assigned_at", pd.Series(damage.START, index=assigned.index))
    anchor = remaining(tables, spec, anchor, days)
    arm, weight = assigned["arm"][anchor.index], 1 / assigned["inclusion_probability"][anchor.index]
    weight /= weight.groupby(arm).transform("mean")
    yield "days before", data.launch.pre_days, pre
    found, read = units.load(data).execute().set_index("account"), scorecard.pooled(data)
    assert sorted(found.index) == sorted(anchor.index)
    found = found.loc[anchor.index]
    windows = {None: numbers(tables, anchor, days), 13: numbers(tables, anchor, 13)}
    before = numbers(tables, anchor - pre * DAY, pre)
    for metric in (p.metric for p in data.launch.plan):
        if metric.kind == "quantile" and metric.quantile != 0.95:
            continue  # of the same values as the 95th percentile
        if metric.kind == "quantile":
            values = units.values(data, metric).execute()
            rows = events(tables, metric.numerator.table, anchor, days).dropna(subset=metric.numerator.column)
            for name, part in rows.groupby(rows["account"].map(arm)):
                yield metric.name, sorted(values["value"][values["arm"] == name]), sorted(part[metric.numerator.column])
            continue
        if metric.over:
            rows = events(tables, metric.numerator.table, anchor, days).dropna(subset=metric.over)
            rows["amount"] = rows["watch_minutes"] if metric.numerator.agg == "sum" else 1.0
            values = query.items(data, metric).execute().groupby(["account", "item"])["amount"].sum().sort_index()
            wanted = rows.groupby(["account", metric.over])["amount"].sum().sort_index()
            yield f"{metric.name}: items", list(values.index) == list(wanted.index), True
            yield metric.name, values, wanted
            continue
        top, bottom = windows[metric.window_days][metric.name]
        for window, parts in (("post", (top, bottom)), ("pre", before[metric.name])):
            for measure, wanted in zip(metric.measures, parts, strict=False):
                if window == "post" or (metric.covariates == "own" and units.covariates(data, metric)):
                    name = measure.name(window, metric.window_days if window == "post" else None)
                    yield f"{metric.name} {window}", found[name].astype(float) * measure.scale, wanted
        if metric.cap:
            past_too = "caps_before" in words
            limit = cap((before[metric.name] if past_too else (top, bottom))[0], weight, metric.cap)
            shrunk = (limit / top).where(top > limit, 1.0)
            top, bottom = top * shrunk, bottom * shrunk if metric.denominator else 1
        answer = scorecard.estimate(data, read, metric, treatment="trt", adjust=False)
        for name, value in (("ctl", answer.control), ("trt", answer.treatment)):
            here = arm == name
            wanted = (top * weight)[here].sum() / (bottom * weight)[here].sum()
            yield (
                f"{metric.name} of {name}",
                value,
                wanted * (7 / (metric.window_days or days) if metric.per_week else 1),
            )
    if "rollout" in words:
        for step, (name, came) in zip(
            reception.funnel(data), way_through(tables, anchor[arm == "trt"], days), strict=True
        ):
            yield f"way through: {name}", step.of_all.value, (came * weight).sum() / weight[came.index].sum()
        metric = replace(CATALOGUE["net_hours_per_account"], covariates=())
        (triggered,) = (r.answer for r in causal.readings(data, metric, trigger=SOON) if r.name == "exposed")
        soon = events(tables, "sessions", anchor, days).query("seconds_to_first_play <= 300")["account"]
        here, hours = (arm == "ctl") & arm.index.isin(soon), windows[None][metric.name][0]
        yield "triggered", triggered.control, (hours * weight)[here].sum() / weight[here].sum()
    if "target" in words:
        rows = [events(tables, name, anchor - pre * DAY, pre) for name in ("plays", "sessions")]
        minutes, visits = (r.groupby(r["at"].dt.floor("D")) for r in rows)
        by_day = minutes["watch_minutes"].sum() / visits.size()
        since = damage.START - 8 * DAY
        earlier, later = by_day[by_day.index < since][-14:], by_day[by_day.index >= since][:7]
        said = f"was {earlier.mean():.4g} a day before {since.date()} and {later.mean():.4g} in the 7 days"
        yield "target since", said in past.regime_change(data).detail, True


def same(found, wanted):
    """Compare to one part in a billion."""
    if np.size(found) != np.size(wanted):
        return False
    return np.allclose(np.asarray(found, float), np.asarray(wanted, float), rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_every_metric_is_what_pandas_makes_of_the_rows(tmp_path, case):
    compared = list(pairs(tmp_path, *CASES[case], seed=1))
    assert len(compared) > 3 * len(CATALOGUE)
    assert [name for name, found, wanted in compared if not same(found, wanted)] == []
