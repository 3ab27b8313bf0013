"""From events to one row per account: windows, zeros, conditions, caps, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import (
    cache,
    detectors,
    inference,
    launch,
    metrics,
    moments,
    preflight,
    register,
    retention,
    scorecard,
    study,
    units,
)
from helpers.errors import DataError, LaunchError, PremiereError
from helpers.results import Estimate, NotEstimable
from helpers.timeline import course, levels, seasons

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: hand
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 28, pre_days: 28}
metrics:
  north_star: hours_per_account_week
  supporting: [show_start_rate, browse_to_play, session_minutes]
  guardrails: [{metric: churn_28d, margin: +10%}]
  satisfaction: [intentional_start_share, survey_score]
segments: [region]
"""


def at(day, hour=12):
    return START + pd.Timedelta(days=day, hours=hour)


@pytest.fixture
def tables():
    """Six plays, worked out by hand below."""
    return {
        "accounts": pd.DataFrame({"account": ["a", "b", "c", "d"], "region": ["N", "S", None, "N"]}),
        "assignments": pd.DataFrame({"account": ["a", "b", "c", "d"], "arm": ["control", "control", "early", "early"]}),
        "titles": pd.DataFrame({"title": ["x", "show"], "is_launch_title": [False, True]}),
        "sessions": pd.DataFrame(
            {
                "account": ["a", "a", "c", "c", "z"],
                "session": ["1", "2", "3", "4", "5"],
                "started_at": [at(-3), at(1), at(0, 0), at(27, 23), at(1)],
                "seconds_to_first_play": [20.0, 60.0, 300.0, 301.0, 1.0],
            }
        ),
        "plays": pd.DataFrame(
            {
                "account": ["a", "a", "c", "c", "c", "z"],
                "session": ["1", "2", "3", "4", "4", "5"],
                "title": ["x", "x", "show", "show", "x", "show"],
                "started_at": [at(-3), at(1), at(0, 0), at(27, 23), at(28, 0), at(1)],
                "watch_minutes": [120.0, 240.0, 60.0, 30.0, 600.0, 99.0],
                "initiation": ["search", "autoplay_next", "browse", "search", "search", "search"],
            }
        ),
        "cancellations": pd.DataFrame({"account": ["b", "d"], "cancelled_at": [at(5), at(30)]}),
    }


def save(tables, folder, kind="parquet"):
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        if kind == "parquet":
            table.to_parquet(folder / f"{name}.parquet")
        else:
            table.to_csv(folder / f"{name}.csv", index=False, date_format="%Y-%m-%dT%H:%M:%SZ")


def opened(tmp_path, text=LAUNCH):
    path = tmp_path / "hand.yaml"
    path.write_text(text)
    return study.open(launch.load(path))


def rows(tmp_path, text=LAUNCH):
    return units.load(opened(tmp_path, text)).execute().set_index("account").sort_index()


def test_units_equal_the_hand_computed_fixture(tmp_path, tables):
    save(tables, tmp_path / "tables")
    got = rows(tmp_path)
    assert got.index.tolist() == ["a", "b", "c", "d"]  # z was never assigned; b and d have no events and stay
    assert got["region"].tolist() == ["N", "S", "unknown", "N"]
    expected = {
        "plays_sum_watch_minutes": [240, 0, 90, 0],  # the window holds its first instant and not that after its end
        "plays_sum_watch_minutes_pre": [120, 0, 0, 0],
        "plays_any[is_launch_title eq True]": [0, 0, 1, 0],
        "sessions_count": [1, 0, 2, 0],
        "sessions_count[seconds_to_first_play le 300]": [1, 0, 1, 0],
        "cancellations_any_28d": [0, 1, 0, 0],  # d cancelled after its 28 days
        "plays_count[initiation not_in ('autoplay_next', 'autoplay_preview')]": [0, 0, 2, 0],
    }
    for column, values in expected.items():
        assert got[column].tolist() == values, column


def test_ids_may_be_numbers_in_one_table_and_text_in_another(tmp_path, tables):
    ids = {"a": "1", "b": "2", "c": "3", "d": "4", "z": "5"}
    for name in ("accounts", "assignments", "sessions", "plays", "cancellations"):
        tables[name] = tables[name].assign(account=tables[name]["account"].map(ids))
    tables["plays"]["account"] = tables["plays"]["account"].astype(int)
    tables["accounts"]["account"] = tables["accounts"]["account"].astype(int)
    save(tables, tmp_path / "tables")
    assert rows(tmp_path)["plays_sum_watch_minutes"].tolist() == [240, 0, 90, 0]


def test_the_north_star_counts_idle_accounts_and_weeks(tmp_path, tables):
    save(tables, tmp_path / "tables")
    data = opened(tmp_path)
    metric = data.launch.plan[0].metric
    columns, pairs = inference.needed(metric, adjust=False)
    read = moments.from_table(units.load(data), columns=columns, pairs=pairs, by=["arm"])
    value, _ = inference.form(metric, days=28).read(read)
    assert dict(zip(read.groups["arm"], value, strict=True)) == pytest.approx(
        {"control": 4 / 2 / 4, "early": 1.5 / 2 / 4}
    )


def test_windows_follow_each_accounts_own_assignment(tmp_path, tables):
    tables["assignments"]["assigned_at"] = [at(0, 0), at(0, 0), at(28, 0), at(0, 0)]
    for name in ("sessions", "plays"):  # the log goes on until the last account's window ends
        tables[name] = pd.concat([tables[name], tables[name].tail(1).assign(session="9", started_at=at(55, 20))])
    save(tables, tmp_path / "tables")
    assert rows(tmp_path).loc["c", ["plays_sum_watch_minutes", "plays_sum_watch_minutes_pre"]].tolist() == [600, 90]


def test_a_visit_that_goes_on_past_the_first_midnight_is_not_counted_again(tmp_path, tables):
    minutes = pd.to_timedelta([-10, 5, 60], unit="min")  # 15 minutes after the one before it, and 55
    tables["app_opens"] = pd.DataFrame({"account": "a", "opened_at": at(-28, 0) + minutes, "background": False})
    save(tables, tmp_path / "tables")
    opens = opened(tmp_path, LAUNCH.replace("browse_to_play", "app_opens_per_account_week"))
    found = units.load(opens).execute().set_index("account")
    assert found.filter(like="app_opens_count").filter(like="_pre").loc["a"].tolist() == [1]


def ticketed(folder, first, last, n=900, days=None, plan=""):
    """Open a service of 300 accounts whose tickets lie between two days, or on these alone."""
    rng = np.random.default_rng(3)
    minutes = rng.integers(first * 1440, last * 1440, n) if days is None else 1440 * rng.choice(days, n)
    who = rng.choice([f"0{i}" for i in range(300)], n)
    tickets = pd.DataFrame({"account": who, "opened_at": START + pd.to_timedelta(minutes, unit="min")})
    save(made(300) | {"tickets": tickets}, folder / "tables")
    return opened(folder, LAUNCH.replace("browse_to_play", "tickets_per_account, browse_to_play") + plan)


def test_a_log_that_ends_early_is_not_measured_and_the_rest_is(tmp_path):
    data = ticketed(tmp_path, -28, 18)
    card = scorecard.measure(data)
    answers = {claim.metric: claim.estimate for claim in card.claims}
    assert answers["tickets_per_account"].reason == (
        "table 'tickets' ends after 18 of the 28 days: wait for it, or give the metric 'window_days'"
    )
    assert isinstance(answers["hours_per_account_week"], Estimate)
    short = LAUNCH.replace("browse_to_play", "{metric: tickets_per_account, window_days: 18}, browse_to_play")
    assert units.why_not(opened(tmp_path, short), data.launch.plan[2].metric) is not None
    assert units.why_not(opened(tmp_path, short), opened(tmp_path, short).launch.plan[2].metric) is None


def test_days_before_that_a_rarer_log_does_not_hold_are_no_zeros_of_its_own_metrics_only(tmp_path):
    data = ticketed(tmp_path, -10, 28)
    tickets, hours = data.launch.plan[2].metric, data.launch.plan[0].metric
    assert (data.launch.pre_days, data.held) == (28, {"tickets": (10, 28)})
    assert units.covariates(data, tickets) == ()
    assert len(units.covariates(data, hours)) == 1
    assert levels.measure(data, tickets, step_days=7)["from_day"].min() == -7
    assert levels.measure(data, hours, step_days=7)["from_day"].min() == -28
    assert course.measure(data, tickets, adjust=False)["all"].starts == (-7, 0, 7, 14, 21)
    assert isinstance(course.measure(data, tickets, adjust=True)["all"], course.Course)
    said = "Of table 'tickets' only 10 of 28 days before the launch are there: what reads it is not adjusted."
    assert said in [check.detail for check in preflight.checks(data)]
    capped = LAUNCH.replace("browse_to_play", "{metric: tickets_per_account, cap: 0.9}, browse_to_play")
    with pytest.raises(DataError, match="hold 10 of the 28 days before the launch"):
        units.load(opened(tmp_path, capped + "outliers: {caps: before}\n"))


@pytest.mark.parametrize(
    "more",
    [
        {"n": 12, "first": -28, "last": 18},  # too few to say: (46 / 56) ** 12 = 9 % of such logs have no later event
        {"days": [-21, -14, -7, 0, 7, 14, 21]},  # once a week
        {"days": [3]},  # on a single day
        {"last": 27.5},  # the last day is not over
    ],
    ids=str,
)
def test_quiet_days_of_a_rare_log_are_no_end_of_it(tmp_path, more):
    data = ticketed(tmp_path, **{"first": -28, "last": 28} | more)
    assert data.held.get("tickets", (28, 28))[1] == 28


def test_csv_parquet_and_duckdb_give_identical_estimates(tmp_path):
    tables = made(200)
    answers = []
    for kind in ("parquet", "csv", "duckdb", "parts"):
        folder = tmp_path / kind
        folder.mkdir()
        source = "tables"
        if kind == "duckdb":
            source = "all.duckdb"
            with duckdb.connect(str(folder / source)) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                for name, frame in tables.items():
                    connection.register("frame", frame)
                    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
        else:
            save(tables, folder / "tables", "csv" if kind == "csv" else "parquet")
        if kind == "parts":
            (folder / "tables" / "plays").mkdir()
            for i in range(3):
                tables["plays"].iloc[i::3].to_parquet(folder / "tables" / "plays" / f"{i}.parquet")
            (folder / "tables" / "plays.parquet").unlink()
        data = opened(folder, LAUNCH.replace("source: tables", f"source: {source}"))
        answers.append(estimates(data))
    for other in answers[1:]:
        assert other == answers[0]


def made(n, seed=5):
    """Write a small service whose minutes are whole, so that sums are exact in any order."""
    rng = np.random.default_rng(seed)
    accounts = [f"0{i}" for i in range(n)]
    plays = pd.DataFrame(
        {
            "account": rng.choice(accounts[: n - 20], 8 * n),
            "started_at": START + pd.to_timedelta(rng.integers(-28 * 1440, 28 * 1440, 8 * n), unit="min"),
            "watch_minutes": rng.integers(1, 90, 8 * n).astype(float),
            "title": rng.choice(["x", "show"], 8 * n),
            "initiation": rng.choice(["search", "autoplay_next"], 8 * n),
        }
    )
    plays["session"] = [f"s{i}" for i in range(len(plays))]
    sessions = plays[["account", "session", "started_at"]].assign(
        seconds_to_first_play=rng.integers(1, 900, len(plays)).astype(float)
    )
    gone = rng.choice(accounts, n // 10, replace=False)
    return {
        "accounts": pd.DataFrame({"account": accounts, "region": rng.choice(["N", "S"], n)}),
        "assignments": pd.DataFrame({"account": accounts, "arm": rng.permutation(["control", "early"] * (n // 2))}),
        "titles": pd.DataFrame({"title": ["x", "show"], "is_launch_title": [False, True]}),
        "sessions": sessions,
        "plays": plays,
        "cancellations": pd.DataFrame({"account": gone, "cancelled_at": [at(3)] * len(gone)}),
    }


def estimates(data):
    found = {}
    for p in units.measurable(data):
        columns, pairs = inference.needed(p.metric, adjust=True)
        read = moments.from_table(units.load(data), columns=columns, pairs=pairs, by=["arm"])
        (found[p.metric.name],) = inference.compare(
            read, p.metric, control="control", treatment="early", days=28, pre_days=28, adjust=True
        )
    assert all(isinstance(e, Estimate) for e in found.values())
    return found


def test_units_equal_an_independent_computation_from_the_raw_events(tmp_path):
    tables = made(300)
    save(tables, tmp_path / "tables")
    got = rows(tmp_path)
    plays = tables["plays"]
    inside = plays[(plays["started_at"] >= START) & (plays["started_at"] < at(28, 0))]
    before = plays[(plays["started_at"] < START) & (plays["started_at"] >= at(-28, 0))]
    for frame, column in ((inside, "plays_sum_watch_minutes"), (before, "plays_sum_watch_minutes_pre")):
        expected = frame.groupby("account")["watch_minutes"].sum().reindex(got.index, fill_value=0)
        pd.testing.assert_series_equal(
            got[column], expected, check_names=False, check_dtype=False, check_index_type=False
        )


def test_days_before_that_the_logs_do_not_hold_are_no_zeros(tmp_path):
    tables = made(300)
    save(tables, tmp_path / "tables")
    data = opened(tmp_path)
    assert (data.launch.pre_days, data.begun) == (28, "")
    whole = scorecard.measure(data).before[0].control
    cut = {n: tables[n][tables[n]["started_at"] >= at(-10, 0)] for n in ("sessions", "plays")}
    save(tables | cut, tmp_path / "tables")
    data = opened(tmp_path)
    said = "The logs begin on 2026-08-28 and hold 10 of the 28 days before the launch."
    assert (data.launch.pre_days, data.begun) == (10, said)
    card = scorecard.measure(data)
    assert said in [check.detail for check in card.checks]
    arm = tables["assignments"].set_index("account")["arm"]
    before = cut["plays"][(cut["plays"]["started_at"] < START) & (cut["plays"]["account"].map(arm) == "control")]
    by_hand = before["watch_minutes"].sum() / 60 / 150 * 7 / 10  # hours of 150 accounts a week
    assert card.before[0].control == pytest.approx(by_hand)
    assert by_hand == pytest.approx(whole, rel=0.1)  # as over all 28 days, and not ten twenty-eighths of it
    path = course.measure(data, data.launch.plan[0].metric, adjust=False)["all"]
    assert path.starts == (-7, 0, 7, 14, 21)
    capped = LAUNCH.replace(
        "north_star: hours_per_account_week", "north_star: {metric: hours_per_account_week, cap: 0.99}"
    )
    with pytest.raises(DataError, match="'caps: before' needs all of its days, but the logs begin on 2026-08-28"):
        opened(tmp_path, capped + "outliers: {rule: none, caps: before}\n")


def test_a_missing_table_costs_its_metrics_only(tmp_path, tables):
    del tables["cancellations"]
    save(tables, tmp_path / "tables")
    data = opened(tmp_path)
    reasons = {p.metric.name: units.why_not(data, p.metric) for p in data.launch.plan}
    assert reasons["churn_28d"] == "it needs table 'cancellations', which is not among the data"
    assert reasons["survey_score"] == "it needs table 'surveys', which is not among the data"
    assert reasons["hours_per_account_week"] is None
    assert "cancellations_any_28d" not in units.load(data).columns


def test_a_window_longer_than_the_launch_is_not_measured(tmp_path, tables):
    save(tables, tmp_path / "tables")
    data = opened(tmp_path, LAUNCH.replace("days: 28, pre", "days: 14, pre"))
    churn = next(p.metric for p in data.launch.plan if p.metric.name == "churn_28d")
    assert units.why_not(data, churn) == "it needs 28 days after assignment; the launch observes 14"


def test_the_second_load_reads_what_the_first_one_kept(tmp_path, tables, monkeypatch):
    save(tables, tmp_path / "tables")
    first = rows(tmp_path)
    monkeypatch.setattr(units.query, "build", lambda *_: pytest.fail("scanned the events again"))
    pd.testing.assert_frame_equal(rows(tmp_path), first)


def test_a_ratio_of_two_counts_has_days_where_they_are_kept_as_files(tmp_path, tables):
    """By hand: of a, day -3 a search and day 1 autoplay; of c, a chosen play on days 0 and 27."""
    save(tables, tmp_path / "tables")
    chosen = metrics.get("intentional_start_share")
    found = levels.measure(opened(tmp_path), chosen).set_index(["arm", "from_day"])["value"]
    assert found.to_dict() == {("control", -3): 1, ("control", 1): 0, ("early", 0): 1, ("early", 27): 1}
    hours = levels.measure(opened(tmp_path), metrics.get("hours_per_account_week"))  # days without any are days of 0
    assert hours.groupby("arm")["from_day"].agg(list).tolist() == [list(range(-28, 28))] * 2
    assert (hours["value"] == 0).sum() == 2 * 56 - 4


def test_changed_data_are_not_read_from_the_cache(tmp_path, tables):
    save(tables, tmp_path / "tables")
    before = rows(tmp_path)
    tables["plays"].loc[1, "watch_minutes"] = 1.0
    tables["plays"]["profile"] = "p"
    save(tables, tmp_path / "tables")
    assert rows(tmp_path).loc["a", "plays_sum_watch_minutes"] != before.loc["a", "plays_sum_watch_minutes"]


def broken(name, column, row, value):
    def change(tables):
        tables[name] = tables[name].astype({column: object}) if isinstance(value, str) else tables[name]
        tables[name].loc[row, column] = value

    return change


def no_zone(tables):
    tables["plays"]["started_at"] = tables["plays"]["started_at"].dt.tz_localize(None)


def cut_short(tables):
    tables["sessions"] = tables["sessions"][tables["sessions"]["started_at"] < at(20)]


def again(name):
    def change(tables):
        tables[name] = pd.concat([tables[name], tables[name].head(1)], ignore_index=True)

    return change


def other_arm(tables):
    again("assignments")(tables)
    tables["assignments"].loc[4, "arm"] = "early"


def without(name, column):
    def change(tables):
        tables[name] = tables[name].rename(columns={column: column[:-1] + "x"})

    return change


FAULTS = {
    "an arm that does not occur": (lambda t: t.update(assignments=t["assignments"].replace({"arm": {"early": "earli"}})), r"arm 'early' has no accounts; table 'assignments' has 'control' \(2\), 'earli' \(2\); did you mean 'earli'\?"),
    "no rows": (lambda t: t.update(assignments=t["assignments"].head(0)), r"no rows"),
    "an account twice": (again("assignments"), r"1 accounts have more than one row in table 'assignments', .*; remove the copies"),
    "an account in two arms": (other_arm, r"1 accounts stand in more than one arm"),
    "a title twice": (again("titles"), r"1 rows repeat a key that must be unique"),
    "a log that ends early": (cut_short, r"'sessions' does not cover the window up to 2026-10-05: its newest row is of 2026-09-08"),
    "an empty log": (lambda t: t.update(plays=t["plays"].head(0)), r"'plays' does not cover the window .*: it has no rows"),
    "times without a zone": (no_zone, r"column 'started_at' of table 'plays' holds timestamp.*expected instants with a time zone"),
    "negative minutes": (broken("plays", "watch_minutes", 0, -5.0), r"column 'watch_minutes' of table 'plays': 1 rows are below 0"),
    "more than a day in one play": (broken("plays", "watch_minutes", 0, 1500.0), r"1 rows are above 1,440"),
    "NaN minutes": (broken("plays", "watch_minutes", 0, np.nan), r"'watch_minutes' of table 'plays': 1 rows (have no value|are NaN)"),
    "infinite seconds": (broken("sessions", "seconds_to_first_play", 0, np.inf), r"'seconds_to_first_play' of table 'sessions': 1 rows (are NaN or infinite|are above)"),
    "a word that means nothing": (broken("plays", "initiation", 0, "magic"), r"1 rows are none of continue_watching"),
    "a missing column": (without("plays", "watch_minutes"), r"table 'plays' has no column 'watch_minutes'; did you mean 'watch_minutex'\?"),
    "numbers as text": (broken("plays", "watch_minutes", 0, "long"), r"column 'watch_minutes' of table 'plays' holds string"),
    "no assignments": (lambda t: t.pop("assignments"), r"no table 'assignments'"),
    "a misspelt table": (lambda t: t.update(playz=t.pop("plays")), r"'playz' is no table of the contract; did you mean 'plays'\?"),
    "a missing segment": (without("accounts", "region"), r"segment 'region' is not a column of 'accounts'; did you mean 'regiox'\?"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_in_event_tables_are_counted_and_refused(tmp_path, tables, change, sentence):
    change(tables)
    kind = "csv" if "long" in str(tables["plays"].get("watch_minutes", "") if "plays" in tables else "") else "parquet"
    save(tables, tmp_path / "tables", kind)
    with pytest.raises(DataError, match=sentence):
        units.load(opened(tmp_path))


def test_a_csv_in_which_some_times_lack_their_zone_is_refused(tmp_path, tables):
    save(tables, tmp_path / "tables", "csv")
    rows(tmp_path)
    plays = tmp_path / "tables" / "plays.csv"
    plays.write_text(plays.read_text().replace("Z,240.0", ",240.0"))
    with pytest.raises(DataError, match="1 times in column 'started_at' have no time zone, others have"):
        opened(tmp_path)


def test_more_than_24_hours_in_a_day_are_refused_and_a_film_past_midnight_is_not(tmp_path, tables):
    extra = tables["plays"].iloc[[1]].assign(started_at=at(1, 23), watch_minutes=1_300.0)
    tables["plays"] = pd.concat([tables["plays"], extra], ignore_index=True)  # 240 + 60 minutes on its first day
    save(tables, tmp_path / "tables")
    units.load(opened(tmp_path))
    extra = extra.assign(started_at=at(1, 0), watch_minutes=1_300.0)
    tables["plays"] = pd.concat([tables["plays"], extra], ignore_index=True)
    save(tables, tmp_path / "tables")
    with pytest.raises(DataError, match="1 account days have more than 24 hours of viewing"):
        units.load(opened(tmp_path))


def test_a_fault_leaves_no_units_table_behind(tmp_path, players, monkeypatch):
    monkeypatch.setenv("PREMIERE_CACHE", str(tmp_path / "alone"))  # others write to the common one meanwhile
    path, table = players
    table.loc[3, "hours"] = np.inf
    table.to_csv(path.parent / "players.csv", index=False)
    with pytest.raises(DataError):
        units.load(study.open(launch.load(path)))
    assert not [p for p in cache.folder().rglob("*") if p.is_file()]


def test_what_was_computed_once_is_read_again_and_not_when_the_data_changed(tmp_path, players, monkeypatch):
    monkeypatch.setenv("PREMIERE_CACHE", str(tmp_path / "alone"))
    path, table = players
    first = scorecard.measure(study.open(launch.load(path)))
    counts = {p: p.stat().st_mtime_ns for p in cache.folder().rglob("*") if p.is_file()}
    assert {p.parent.name for p in counts} >= {"units", "checks"}
    monkeypatch.setattr(preflight, "_asked", lambda data: pytest.fail("asked again"))
    assert scorecard.measure(study.open(launch.load(path))).checks == first.checks
    assert {p: p.stat().st_mtime_ns for p in cache.folder().rglob("*") if p.is_file()} == counts
    table.assign(hours=table["hours"] + 1).to_csv(path.parent / "players.csv", index=False)
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        scorecard.measure(study.open(launch.load(path)))


def test_a_write_that_fails_leaves_nothing_and_a_name_follows_facts_and_code(tmp_path):
    def half(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.kept(tmp_path / "deep" / "one.json", half)
    assert not list((tmp_path / "deep").iterdir())
    assert cache.kept(tmp_path / "one.json", lambda at: at.write_text("whole")).read_text() == "whole"
    assert cache.kept(tmp_path / "one.json", half).read_text() == "whole"
    names = [cache.key(1, 2), cache.key(1, 3), cache.key(1, 2, code=[units]), cache.key(1, 2, code=[launch])]
    assert len(set(names)) == 4
    assert cache.key(1, 2) == names[0]


OWN_FAULTS = {
    "missing value": ({"hours": np.nan}, r"column 'hours': 1 accounts have a missing, NaN or infinite value"),
    "infinite value": ({"hours": np.inf}, r"column 'hours': 1 accounts have a missing, NaN or infinite value"),
    "negative hours": ({"hours": -1.0}, r"column 'hours': 1 accounts have a negative time"),
    "impossible hours": ({"hours": 700.0}, r"column 'hours': 1 accounts have more than 24 hours a day"),
    "half a proportion": ({"kept": 0.5}, r"column 'kept': 1 accounts have a value other than 0 and 1"),
    "account twice": ({"user": "u00001"}, r"1 accounts have more than one row in players.csv, .*; remove the copies"),
    "two arms": ({"user": "u00001", "version": "swap"}, r"1 accounts stand in more than one arm"),
    "no account id": ({"user": None}, r"rows without an account id"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), OWN_FAULTS.values(), ids=OWN_FAULTS.keys())
def test_faults_in_an_own_table_are_counted_and_refused(players, change, sentence):
    path, table = players
    path.write_text(path.read_text().replace("column: hours, better", "column: hours, unit: h, better"))
    table["kept"] = table["kept"].astype(float)
    other = "old" if table.loc[1, "version"] == "new" else "new"
    for column, value in change.items():
        table.loc[7, column] = other if value == "swap" else value
    if change.get("user") and "version" not in change:
        table.loc[7, "version"] = table.loc[1, "version"]
    table.to_csv(path.parent / "players.csv", index=False)
    with pytest.raises(DataError, match=sentence):
        units.load(study.open(launch.load(path)))


def test_a_count_below_zero_is_refused(players):
    path, table = players
    ratio = "kind: ratio, numerator: hours, denominator: sessions"
    path.write_text(path.read_text().replace(ratio, "kind: count, column: sessions"))
    units.load(study.open(launch.load(path)))
    table.loc[7, "sessions"] = -1
    table.to_csv(path.parent / "players.csv", index=False)
    with pytest.raises(DataError, match="column 'sessions': 1 accounts have a value below 0, which is no count"):
        units.load(study.open(launch.load(path)))


@pytest.mark.parametrize(("policy", "n", "mean"), [("zero", 4_000, 0.0), ("drop", 3_999, None)])
def test_missing_values_are_treated_as_the_launch_says(players, policy, n, mean):
    path, table = players
    table.loc[7, "hours"] = np.nan
    table.to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("arm: version}", f"arm: version, missing: {policy}}}"))
    got = units.load(study.open(launch.load(path))).execute().set_index("account")
    assert len(got) == n
    if policy == "zero":
        assert got.loc["u00007", "hours"] == mean
    else:
        assert "u00007" not in got.index


def test_a_cap_is_the_quantile_of_both_arms_together(players):
    path, table = players
    path.write_text(path.read_text().replace("column: hours, better", "column: hours, cap: 0.99, better"))
    got = units.load(study.open(launch.load(path))).execute()
    assert got["hours_cap0.99"].max() == pytest.approx(table["hours"].quantile(0.99), rel=1e-12)
    assert got["hours"].max() == pytest.approx(table["hours"].max())


def test_a_cap_of_what_few_accounts_have_is_taken_among_those(players):
    path, table = players
    table["hours"] = 0.0
    table.loc[:9, "hours"] = np.arange(1.0, 11)
    table.to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("column: hours, better", "column: hours, cap: 0.9, better"))
    got = units.load(study.open(launch.load(path))).execute()
    assert got["hours_cap0.9"].max() == pytest.approx(np.quantile(np.arange(1.0, 11), 0.9))
    assert (got["hours_cap0.9"] > 0).sum() == 10


LIMIT = "outliers: {rule: none, impossible_above: {hours: 100}}\n"


def with_limit(players, extra):
    """Give some accounts of either arm 900 hours, which the launch calls impossible."""
    path, table = players
    for arm, n in extra.items():
        table.loc[table.index[table["version"] == arm][:n], "hours"] = 900.0
    table.to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text() + LIMIT)
    return study.open(launch.load(path)), table[table["hours"] < 100]


def test_impossible_accounts_are_in_no_chapter_and_are_counted_by_arm(players):
    data, left = with_limit(players, {"old": 7, "new": 9})
    got = units.load(data).execute()
    assert set(got["account"]) == set(left["user"])
    assert units.drawn(data).count().execute() == len(left)
    card = scorecard.measure(data)
    check = next(c for c in card.checks if c.name == "Impossible accounts")
    assert check.passed is True
    assert check.detail.startswith("7 of 2,000 accounts of old and 9 of 2,000 of new were removed as impossible (Hours")
    assert card.claims[0].estimate.n_control == 1_993
    assert register.decisive(data.launch)["what is impossible"] == "hours above 100"
    assert not any(c.name == "Impossible accounts" for c in preflight.checks(replace(data, launch=unlimited(data))))


def test_impossible_accounts_of_one_arm_close_the_reading(players):
    data, _ = with_limit(players, {"old": 1, "new": 30})
    check = next(c for c in preflight.checks(data) if c.name == "Impossible accounts")
    assert check.passed is False
    assert check.p == pytest.approx(stats.fisher_exact([[1, 30], [1_999, 1_970]]).pvalue, rel=1e-9)
    assert isinstance(scorecard.measure(data).claims[0].estimate, NotEstimable)


def unlimited(data):
    return data.launch.model_copy(update={"outliers": None})


def test_flagged_accounts_that_were_assigned_all_the_same_are_counted_by_arm(players):
    path, table = players
    table.assign(bot_suspect=table.index < 40).to_csv(path.parent / "players.csv", index=False)
    data = study.open(launch.load(path))
    check = next(c for c in preflight.checks(data) if c.name == "Excluded accounts")
    arms = table[:40]["version"].value_counts()
    assert check.detail.startswith(f"{arms['old']} of 2,000 accounts of old and {arms['new']} of 2,000 of new carry")
    assert "bot_suspect" in check.detail
    assert units.load(data).count().execute() == len(table)  # they stay in


def test_impossible_accounts_are_known_from_their_events_and_leave_them_all(tmp_path, tables):
    save(tables, tmp_path / "tables")
    limit = "outliers: {rule: none, impossible_above: {hours_per_account_week: 0.9}}\n"  # a: 4 hours in four weeks
    data = opened(tmp_path, LAUNCH + limit)
    assert units.load(data).execute()["account"].sort_values().tolist() == ["b", "c", "d"]
    plays = units.values(data, replace(data.launch.plan[0].metric, kind="quantile")).execute()
    assert set(plays["account"]) == {"c"}
    (check,) = (c for c in preflight.checks(data) if c.name == "Impossible accounts")
    assert check.detail.startswith("1 of 2 accounts of control and 0 of 2 of early were removed as impossible")
    del tables["plays"]
    save(tables, tmp_path / "fewer")
    (blind,) = (
        c
        for c in preflight.checks(opened(tmp_path, LAUNCH.replace("source: tables", "source: fewer") + limit))
        if c.name == "Impossible accounts"
    )
    assert blind.passed is None


def flags(players, rule, **columns):
    """Open the players with columns of flags beside them and a rule about extreme accounts."""
    path, table = players
    table.assign(**columns).to_csv(path.parent / "players.csv", index=False)
    text = path.read_text().partition("dates:")[0]
    path.write_text(text + f"dates: {{start: 2026-09-07, days: 28}}\noutliers: {{rule: none, {rule}}}\n")
    return study.open(launch.load(path))


def test_accounts_with_a_flag_that_the_launch_names_are_in_no_chapter_and_counted_by_arm(players):
    bots = players[1].index < 40
    arms = players[1][bots]["version"].value_counts()
    data = flags(players, "remove: [is_bot, {country: SE}]", is_bot=bots)
    left = players[1][~bots & (players[1]["country"] != "SE")]
    assert set(units.load(data).execute()["account"]) == set(left["user"])
    assert register.decisive(data.launch)["who is removed"] == "is_bot, country = SE"
    (check,) = (c for c in preflight.checks(data) if c.name == "Removed accounts")
    assert check.passed is None  # nobody knows when they were flagged
    assert "were removed, as the launch says of is_bot, country = SE" in check.detail
    assert "When they were flagged is not in the data" in check.detail
    only = flags(players, "remove: [is_bot]", is_bot=bots)
    (check,) = preflight.removed(only)
    assert check.detail.startswith(f"{arms['old']} of 2,000 accounts of old and {arms['new']} of 2,000 of new were")


def test_a_flag_set_since_the_assignment_removes_nobody(players):
    bots = players[1].index < 40
    at_ = np.where(players[1].index < 25, "2026-09-01", "2026-09-07")  # the day of the launch is too late
    at_[:3] = ""  # nobody knows when: not known to be early
    data = flags(players, "remove: [is_bot], flagged_at: since", is_bot=bots, since=at_)
    early = players[1].index.isin(range(3, 25))
    assert set(units.load(data).execute()["account"]) == set(players[1]["user"][~early])
    checks = {c.name: c for c in preflight.removed(data)}
    arms = players[1][bots & ~early]["version"].value_counts()
    assert checks["Removed accounts"].passed is True
    assert checks["Flagged too late"].detail.startswith(f"{arms['old']} of 2,000 accounts of old and {arms['new']} of")
    assert "only since the assignment, and stay in" in checks["Flagged too late"].detail


def test_flags_that_one_arm_has_more_of_close_the_reading_unless_they_came_too_late(players):
    more = players[1].index.isin(players[1].index[players[1]["version"] == "new"][:30])
    data = flags(players, "remove: [is_bot]", is_bot=more)
    (check,) = preflight.removed(data)
    assert check.passed is False
    assert check.p == pytest.approx(stats.fisher_exact([[0, 30], [2_000, 1_970]]).pvalue, rel=1e-9)
    assert isinstance(scorecard.measure(data).claims[0].estimate, NotEstimable)
    data = flags(players, "remove: [is_bot], flagged_at: since", is_bot=more, since="2026-09-20")
    checks = {c.name: c for c in preflight.removed(data)}
    assert checks["Removed accounts"].passed is True
    assert checks["Flagged too late"].passed is None


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("remove: [is_bott]", r"'outliers' needs column 'is_bott' of players.csv, .* did you mean 'is_bot'"),
        ("remove: [is_bot], flagged_at: when", r"needs column 'when' of players.csv"),
        ("remove: [is_bot], flagged_at: history", r"'flagged_at: history' is held against the day .* holds float64"),
    ],
)
def test_flags_that_are_not_there_are_refused_by_name(players, rule, said):
    with pytest.raises(DataError, match=said):
        units.load(flags(players, rule, is_bot=False))


def viewed():
    """Write what forty accounts of each arm watched for two weeks before and after; a few of them like nobody else."""
    rng, rows = np.random.default_rng(11), []
    names = [f"{arm}{k:02d}" for arm in "ct" for k in range(40)]
    odd = {"c00", "t00", "t01"}
    for account in names:
        for day in range(-14, 14):
            minutes = 900.0 if account in odd else float(rng.gamma(3, 15)) + 10 * (account[0] == "t") * (day >= 0)
            rows.append(
                (account, f"{account}{day}", at(day), minutes, ("browse", "autoplay_next")[day % 2], 1 + day // 2)
            )
    plays = pd.DataFrame(rows, columns=["account", "session", "started_at", "watch_minutes", "initiation", "episode"])
    show = (plays["started_at"] >= START) & (plays["episode"] < 5)
    plays = plays.assign(title=np.where(show, "show", "x"), episode=plays["episode"].where(show).astype("Int64"))
    accounts = pd.DataFrame({"account": names, "tenure": "old", "bot_suspect": [name in odd for name in names]})
    return odd, {
        "assignments": pd.DataFrame({"account": names, "arm": np.where(np.arange(80) < 40, "control", "early")}),
        "accounts": accounts,
        "titles": pd.DataFrame({"title": ["show", "x"], "is_launch_title": [True, False]}),
        "plays": plays,
        "sessions": plays[["account", "session", "started_at"]].assign(seconds_to_first_play=60.0, device="tv"),
    }


def chapters(data):
    """Read what does not come from the units table, but from events."""
    metric, viewers, card = data.launch.plan[0].metric, retention.read(data), SimpleNamespace(treatment="early")
    return {
        "weeks": course.frame(course.measure(data, metric, adjust=False)["all"]),
        "since the first visit": course.frame(course.measure(data, metric, clock="visit", step_days=3)["all"]),
        "days": levels.measure(data, metric),
        "weekdays": seasons.week(data, metric),
        "viewers": viewers.counts,
        "hours of the show": viewers.weeks,
        "displacement": pd.DataFrame({"said": [detectors.displacement(data, card).detail]}),
        "history": detectors.past._days(data, data.launch.plan[0]).reset_index(),
    }


def test_who_is_removed_is_in_no_chapter_that_reads_events_by_itself(tmp_path):
    odd, frames = viewed()
    save(frames, tmp_path / "tables")
    text = LAUNCH.replace("28", "14").replace("[region]", "[tenure]")
    text = "".join(line for line in text.splitlines(True) if "churn" not in line and "[show_start" not in line)
    assigned = frames["assignments"]
    save(frames | {"assignments": assigned[~assigned["account"].isin(odd)]}, tmp_path / "never")
    want = chapters(opened(tmp_path, text.replace("source: tables", "source: never")))  # as if never assigned
    everybody = chapters(opened(tmp_path, text))
    for rule in ("impossible_above: {hours_per_account_week: 80}", "remove: [bot_suspect]"):
        got = chapters(opened(tmp_path, f"{text}outliers: {{rule: none, {rule}}}\n"))
        for name, frame in want.items():
            assert len(frame), name
            pd.testing.assert_frame_equal(got[name], frame, obj=name)
            assert not frame.equals(everybody[name]), name


def test_a_cap_may_be_taken_from_before_the_launch(tmp_path, tables):
    save(tables, tmp_path / "tables")
    text = LAUNCH.replace(
        "north_star: hours_per_account_week", "north_star: {metric: hours_per_account_week, cap: 0.9}"
    )
    data = opened(tmp_path, text + "outliers: {rule: none, caps: before}\n")
    got = units.load(data).execute().set_index("account")
    column = data.launch.plan[0].metric.column(data.launch.plan[0].metric.numerator)
    assert got.loc[["a", "b", "c", "d"], column].tolist() == [120, 0, 90, 0]  # a's 240, held to its 120 before
    with pytest.raises(LaunchError, match="there are 14 and 28"):
        opened(tmp_path, text.replace("pre_days: 28", "pre_days: 14") + "outliers: {rule: none, caps: before}\n")


def test_a_capped_ratio_is_capped_on_the_same_accounts(players):
    path, table = players
    table["sessions"] += 1
    table.to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("denominator: sessions,", "denominator: sessions, cap: 0.99,"))
    data = study.open(launch.load(path))
    metric = next(p.metric for p in data.launch.plan if p.metric.name == "per_session")
    got = units.load(data).execute()
    top, bottom = (got[metric.column(m)] for m in metric.measures)
    limit = table["hours"].quantile(0.99)
    assert top.max() == pytest.approx(limit)
    assert (top / bottom).to_numpy() == pytest.approx((got["hours"] / got["sessions"]).to_numpy(), rel=1e-9)
    same = got["hours"] <= limit
    assert (bottom[same] == got["sessions"][same]).all()
    assert scorecard.measure(data).claims[1].estimate.diff != 0


def test_accounts_in_arms_that_the_launch_does_not_name_are_left_out(players):
    path, table = players
    table.loc[:99, "version"] = "third"
    table.to_csv(path.parent / "players.csv", index=False)
    assert units.load(study.open(launch.load(path))).count().execute() == 3_900


def test_the_wrong_column_for_the_arm_is_told_with_what_it_holds(players):
    path, table = players
    path.write_text(path.read_text().replace("arm: version", "arm: country").replace("segments: [country]", ""))
    n = table["country"].value_counts()
    with pytest.raises(DataError) as told:
        units.load(study.open(launch.load(path)))
    assert str(told.value) == (
        f"gate: arm 'old' has no accounts; players.csv: column 'country' has 'NO' ({n['NO']:,}), 'SE' ({n['SE']:,}); "
        "correct 'arms', or 'data: {arm: …}'"
    )
    path.write_text(path.read_text().replace("arm: country", "arm: user"))
    with pytest.raises(DataError, match=r"column 'user' has 4,000 different values; correct 'arms'"):
        units.load(study.open(launch.load(path)))


def test_a_missing_column_names_the_nearest(players):
    path, _ = players
    path.write_text(path.read_text().replace("column: hours", "column: huors"))
    with pytest.raises(
        DataError, match=r"players.csv: metric 'hours' needs column 'huors', which is not there; did you mean 'hours'\?"
    ):
        units.load(study.open(launch.load(path)))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("players.csv", None, r"there is no such file; did you mean"),
        ("players.csv", b"", r"is empty"),
        ("players.parquet", b"PAR1 this is none", r"cannot be read as Parquet"),
        ("players.txt", b"a,b\n1,2\n", r"expected Parquet or CSV"),
        ("players.csv", b"user,version\r\nu1,old\nu2,new\r\n", r"some lines of players.csv end in CR LF and others"),
        ("players.csv", b"user,version\nu1,old\nu2,new,7\n", r"do not all have as many fields as the header"),
    ],
)
def test_files_that_cannot_be_read_are_one_sentence(players, name, content, sentence):
    path, _ = players
    target = path.parent / name
    (path.parent / "players.csv").rename(path.parent / "playerz.csv")
    if content is not None:
        target.write_bytes(content)
    path.write_text(path.read_text().replace("players.csv", name))
    with pytest.raises(PremiereError, match=sentence):
        units.load(study.open(launch.load(path)))


def test_ids_with_leading_zeros_stay_apart(tmp_path):
    (tmp_path / "t.csv").write_text("id,arm,y\n07,a,1\n7,a,2\n8,b,3\n9,b,5\n")
    (tmp_path / "t.yaml").write_text(
        "name: t\ndata: {units: t.csv, account: id, arm: arm}\narms: {control: a, treatment: b}\n"
        "metrics: {north_star: {name: y, kind: mean, column: y, better: higher}}\n"
    )
    assert sorted(units.load(study.open(launch.load(tmp_path / "t.yaml"))).execute()["account"]) == [
        "07",
        "7",
        "8",
        "9",
    ]


def test_a_table_inside_a_database_serves_as_own_data(players):
    path, table = players
    with duckdb.connect(str(path.parent / "w.duckdb")) as connection:
        connection.register("frame", table)
        connection.execute("CREATE TABLE players AS SELECT * FROM frame")
    text = path.read_text()
    from_file = units.load(study.open(launch.load(path))).execute()
    path.write_text(
        text.replace("units: players.csv", "source: w.duckdb, units: players").replace(
            "name: gate", "name: gate\ndates: {start: 2026-09-07, days: 28}"
        )
    )
    from_database = units.load(study.open(launch.load(path))).execute()
    pd.testing.assert_frame_equal(from_file, from_database)


def test_any_ibis_url_serves_and_gives_the_same_estimates(tmp_path):
    tables = made(200)
    save(tables, tmp_path / "tables")
    from_folder = estimates(opened(tmp_path))
    with duckdb.connect(str(tmp_path / "all.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, frame in tables.items():
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    data = opened(
        tmp_path, LAUNCH.replace("source: tables", f'source: "duckdb://{tmp_path}/all.duckdb?read_only=True"')
    )
    assert data.fingerprint is None
    for name, e in estimates(data).items():  # a database owes no order of rows, so sums may differ in their last digit
        assert [e.diff, e.low, e.high, e.p] == pytest.approx(
            [getattr(from_folder[name], f) for f in ("diff", "low", "high", "p")], rel=1e-9
        )


def test_passwords_in_a_url_are_not_repeated(players):
    path, _ = players
    text = path.read_text().replace("units: players.csv", 'source: "postgres://me:secret@127.0.0.1:1/x"')
    path.write_text(text.replace("name: gate", "name: gate\ndates: {start: 2026-09-07, days: 28}"))
    with pytest.raises(DataError, match=r"postgres://…: cannot be opened") as caught:
        study.open(launch.load(path))
    assert "secret" not in str(caught.value)


def test_units_of_two_parts_of_a_launch_add_up(players):
    path, _ = players
    data = study.open(launch.load(path))
    table = units.load(data)
    columns, pairs = inference.needed(data.launch.plan[0].metric, adjust=True)
    whole = moments.from_table(table, columns=columns, pairs=pairs, by=["arm"])
    parts = [
        moments.from_table(table.filter(c), columns=columns, pairs=pairs, by=["arm"])
        for c in (table.hours < 8, table.hours >= 8)
    ]
    both = parts[0] + parts[1]
    np.testing.assert_allclose(both.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(both.scatter, whole.scatter, rtol=1e-9)


@pytest.mark.parametrize(
    ("segments", "sentence"),
    [
        ("hours", "'segments' names 'hours', which is measured after the assignment"),
        ("version", "'segments' names 'version', which tells accounts or arms apart"),
        ("history", "'segments' names 'history', which is a covariate"),
        ("country, country", "'segments' names 'country', twice"),
        ("user", "'segments' names 'user', which tells accounts or arms apart"),
    ],
)
def test_a_segment_that_is_no_attribute_is_refused(players, segments, sentence):
    path, _ = players
    path.write_text(path.read_text().replace("segments: [country]", f"segments: [{segments}]"))
    with pytest.raises(PremiereError, match=sentence):
        launch.load(path)


def test_a_segment_with_a_level_for_nearly_each_account_is_refused(players):
    path, table = players
    table.assign(code=np.arange(len(table)) // 8).to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("segments: [country]", "segments: [country, code]"))
    with pytest.raises(DataError, match=r"attribute 'code' has 500 levels; .* at most 100 are compared"):
        units.load(study.open(launch.load(path)))
