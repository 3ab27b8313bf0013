"""Event logs of others, counted from the raw rows to arm means: what R and Spark made of them is in the reference."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import reference
from columns import metric

from helpers import diversity, inference, launch, moments, scorecard, study, units
from helpers.robust import quantiles

LAUNCH = """\
name: log
data: {{source: tables, faults: {faults}}}
arms: {{control: {control}, treatment: [{treatments}]}}
dates: {{start: {start}, days: {days}, pre_days: 0}}
metrics:
  north_star: {first}
  supporting:
"""


def case(name):
    found = reference.case(f"event_log__{name}")
    return found, found["expected"]


def times(column):
    """Read times, to the microsecond as the engine does."""
    return pd.to_datetime(column, format="ISO8601", utc=True).astype("datetime64[us, UTC]")


def opened(folder, tables, metrics, *, control, treatments, start, days, faults="refuse"):
    """Write tables and a launch with these metrics, a line each; open it."""
    (folder / "tables").mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    first, *others = [f"{{name: {name}, better: higher, {words}}}" for name, words in metrics.items()]
    text = LAUNCH.format(
        faults=faults, control=control, treatments=", ".join(treatments), start=start, days=days, first=first
    )
    path = folder / "log.yaml"
    path.write_text(text + "".join(f"    - {line}\n" for line in others))
    return study.open(launch.load(path))


def arm_means(data):
    """Give every planned metric's plain value by arm."""
    read = scorecard.pooled(data).pool(by=["arm"])
    found = {}
    for p in data.launch.plan:
        values, _ = inference.form(p.metric, data.launch.days).read(read)
        found[p.metric.name] = dict(zip(read.groups["arm"], values, strict=True))
    return found


def test_a_small_log_is_counted_as_by_hand(tmp_path):
    c, expected = case("hand_small_log_a")
    events = pd.DataFrame(c["inputs"]["events"])
    since = {"u1": "10:00:00", "u2": "12:00:00", "u3": "24:00:00", "u4": "09:00:00"}
    assignments = pd.DataFrame(
        {
            "account": list(since),
            "arm": list("TCTC"),
            "assigned_at": [pd.Timestamp("2024-03-01", tz="UTC") + pd.Timedelta(t) for t in since.values()],
        }
    )
    plays = pd.DataFrame(
        {
            "account": events["user"],
            "session": events["event_id"],
            "title": events["title"],
            "started_at": times(events["ts"]),
            "watch_minutes": events["minutes"].astype(float),
            "completed_share": events["completed"].astype(float),
        }
    )
    late = plays.tail(1).assign(account="u9", session="last", started_at=pd.Timestamp("2024-03-09T12", tz="UTC"))
    data = opened(
        tmp_path,
        {"assignments": assignments, "plays": pd.concat([plays, late])},  # a log that goes on after the window
        {
            "minutes": "kind: mean, numerator: {table: plays, agg: sum, column: watch_minutes}",
            "titles": "kind: mean, numerator: {table: plays, agg: nunique, column: title}",
            "completed": "kind: mean, numerator: {table: plays, agg: count, where: {completed_share: 1.0}}",
            "days": "kind: mean, numerator: {table: plays, agg: days}",
            "per_day": "kind: ratio, numerator: {table: plays, agg: sum, column: watch_minutes}, "
            "denominator: {table: plays, agg: days}",
        },
        control="C", treatments=["T"], start="2024-03-01", days=7, faults="drop",
    )  # fmt: skip
    rows = units.load(data).execute().set_index("account")
    columns = {p.metric.name: p.metric.column(p.metric.numerator) for p in data.launch.plan[:4]}
    asked = {"minutes": "minutes", "titles": "titles", "completed": "completed", "days": "active_days"}
    for user in since:
        assert {name: rows.loc[user, columns[name]] for name in asked} == {
            n: expected[user][e] for n, e in asked.items()
        }
    found = arm_means(data)
    assert found["minutes"] == pytest.approx(expected["arm_mean_minutes"], rel=1e-12)
    assert found["per_day"] == pytest.approx(expected["ratio_minutes_per_active_day"], rel=1e-12)


def test_events_count_from_the_exposure_on_as_in_spark(tmp_path):
    _, expected = case("optimizely_conversion_pageviews")
    decisions, events = (reference.data(f"optimizely_event_log/{name}.csv.gz") for name in ("decisions", "events"))
    assignments = pd.DataFrame(
        {"account": decisions["visitor_id"], "arm": decisions["variation_name"], "assigned_at": times(decisions["timestamp"])}
    )  # fmt: skip
    opens = pd.DataFrame({"account": events["visitor_id"], "topic": events["event_name"], "opened_at": times(events["timestamp"])})  # fmt: skip
    assert len(opens) == expected["n_raw_events"]
    kinds = {"purchased": "purchase", "detail_page_views": "detail_page_view"}
    data = opened(
        tmp_path,
        {"assignments": assignments, "tickets": opens},
        {
            "purchased": "kind: proportion, numerator: {table: tickets, agg: any, where: {topic: purchase}}",
            "detail_page_views": "kind: mean, numerator: {table: tickets, agg: count, where: {topic: detail_page_view}}",
            **{
                f"all_{kind}": f"kind: mean, numerator: {{table: tickets, agg: count, where: {{topic: {kind}}}}}"
                for kind in expected["in_window_events"]
            },
        },
        control="control", treatments=["message_1", "message_2"], start="2020-09-14", days=2, faults="keep",
    )  # fmt: skip
    found = arm_means(data)
    for name in kinds:
        by_arm = {arm: values[name] for arm, values in expected["by_variation_mean"].items()}
        assert found[name] == pytest.approx(by_arm, rel=1e-9)
    n = assignments["arm"].value_counts()
    for kind, count in expected["in_window_events"].items():
        assert sum(n[arm] * mean for arm, mean in found[f"all_{kind}"].items()) == pytest.approx(count)


def test_retention_by_the_calendar_is_that_of_r(tmp_path):
    """Each user's first day is moved to one Monday, the time of day stays; what comes later than 60 days comes then."""
    c, expected = case("movielens_engagement")
    ratings = reference.data(c)
    first = ratings.groupby("userId")["timestamp"].transform("min")
    monday = pd.Timestamp("2026-01-05", tz="UTC")
    since = (ratings["timestamp"] - first // 86_400 * 86_400).clip(upper=60 * 86_400)
    at = monday + pd.to_timedelta(since, unit="s")
    rated = pd.DataFrame({"account": ratings["userId"].astype(str), "topic": "rating", "opened_at": at})
    assignments = (
        rated.groupby("account", as_index=False)["opened_at"].min().rename(columns={"opened_at": "assigned_at"})
    )
    late = pd.DataFrame({"account": ["other"], "arm": ["rest"], "assigned_at": [monday]})
    end = pd.DataFrame({"account": ["other"], "topic": "rating", "opened_at": [monday + pd.Timedelta(days=70)]})
    asked = {
        "ret_exact_D1": "1, 1",
        "ret_exact_D7": "7, 7",
        "ret_window_D1_7": "1, 7",
        "ret_window_D8_14": "8, 14",
        "ret_any_after_D0": "1, 60",
    }
    data = opened(
        tmp_path,
        {"assignments": pd.concat([assignments.assign(arm="all"), late]), "tickets": pd.concat([rated, end])},
        {
            "ratings": "kind: mean, numerator: {table: tickets, agg: count}",
            **{
                name.lower(): f"kind: proportion, numerator: {{table: tickets, agg: any, calendar_days: [{days}]}}"
                for name, days in asked.items()
            },
        },
        control="all", treatments=["rest"], start="2026-01-05", days=62, faults="keep",
    )  # fmt: skip
    found = arm_means(data)
    for name in asked:
        assert found[name.lower()]["all"] == pytest.approx(expected[name], rel=1e-6), name
    assert found["ratings"]["all"] == pytest.approx(expected["mean_ratings_per_user"], rel=1e-6)
    too_long = replace(data.launch.plan[1].metric, window_days=1)
    assert (
        units.why_not(data, too_long) == "it asks for calendar day 1, which a window of 1 days does not hold to its end"
    )


def test_sessions_by_a_gap_and_their_ratio_are_those_of_r(tmp_path):
    c, expected = case("movielens_engagement")
    ratings = reference.data(c).sort_values(["userId", "timestamp"])
    gap = ratings.groupby("userId")["timestamp"].diff().fillna(0)
    short = gap.clip(upper=3600).groupby(ratings["userId"]).cumsum()  # a longer gap parts sessions just as well
    begin = pd.Timestamp("2026-01-05", tz="UTC")
    users = ratings["userId"].unique()
    last = pd.DataFrame({"account": ["other"], "arm": ["rest"], "assigned_at": [begin]})
    assignments = pd.concat([pd.DataFrame({"account": users.astype(str), "arm": "all", "assigned_at": begin}), last])
    sessions, week = (
        pd.DataFrame(
            {"account": ratings["userId"].astype(str), "opened_at": begin + pd.to_timedelta(seconds, unit="s")}
        )
        for seconds in (short, ratings["timestamp"] - ratings.groupby("userId")["timestamp"].transform("min"))
    )
    end = pd.DataFrame({"account": ["other"], "opened_at": [begin + pd.Timedelta(days=60)]})  # the log goes on
    data = opened(
        tmp_path,
        {"assignments": assignments, "app_opens": pd.concat([sessions, end]), "tickets": week.assign(topic="rating")},
        {
            "sessions": "kind: mean, numerator: {table: app_opens, agg: count, gap_minutes: 30}",
            "first_week": "kind: mean, numerator: {table: tickets, agg: count}, window_days: 7",
            "per_session": "kind: ratio, numerator: {table: app_opens, agg: count}, "
            "denominator: {table: app_opens, agg: count, gap_minutes: 30}",
        },
        control="all", treatments=["rest"], start="2026-01-05", days=60, faults="keep",
    )  # fmt: skip
    read, metrics = scorecard.pooled(data).pool(by=["arm"]), {p.metric.name: p.metric for p in data.launch.plan}
    found = {name: inference.average(read, m, of="all", days=60)[0] for name, m in metrics.items()}
    assert (len(users), len(ratings)) == (expected["n_users"], expected["n_ratings"])
    assert len(users) * found["sessions"].value == pytest.approx(expected["sessions_gap30_total"])
    assert (
        quantiles.difference(*2 * [ratings.groupby("userId").size()])[0].control == expected["median_ratings_per_user"]
    )
    assert found["sessions"].value == pytest.approx(expected["sessions_gap30_mean"], rel=1e-6)
    assert found["first_week"].value == pytest.approx(expected["first_7d_ratings_mean"], rel=1e-6)
    assert found["per_session"].value == pytest.approx(expected["ratings_per_session_ratio"], rel=1e-6)
    assert found["per_session"].se == pytest.approx(expected["ratings_per_session_delta_se"], rel=1e-6)
    assert np.isfinite(found["per_session"].low)


def test_totals_of_a_log_are_those_of_r():
    """Sums over users are averages times users, titles what all users together reach; days are those of the log itself."""
    c, expected = case("movielens_engagement")
    ratings = reference.data(c).sort_values(["userId", "timestamp"])
    day, gap = ratings["timestamp"] // 86_400, ratings.groupby("userId")["timestamp"].diff()
    rows = ratings.assign(rated=1.0, seconds=gap.where(gap <= 1_800, 0.0)).groupby("userId", as_index=False)
    users = rows[["rating", "rated", "seconds"]].sum().assign(arm="all")
    users["days"] = day.groupby(ratings["userId"]).nunique().to_numpy(float)
    read = moments.from_rows(users, columns=["rating", "rated", "seconds", "days"], by=["arm"])

    def of(name, **more):
        return inference.average(read, metric(numerator=name, **more), of="all", days=28)[0].value

    assert of("rating", kind="ratio", denominator="rated") == pytest.approx(expected["mean_rating"], rel=1e-9)
    assert len(users) * of("seconds") == pytest.approx(expected["session_seconds_total"], rel=1e-9)
    assert len(users) * of("days") == pytest.approx(expected["active_days_total"], rel=1e-9)
    reached = ratings.groupby("movieId")["userId"].nunique().to_numpy(float)
    assert diversity.rarefied(reached, len(users), len(users)) == pytest.approx(expected["n_movies"], rel=1e-9)
    daily = ratings.groupby(day)["userId"].nunique()
    assert (daily.max(), len(daily)) == (expected["max_dau"], expected["n_days_active"])
