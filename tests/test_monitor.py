"""A look equals the analysis of a launch that ends there; chance does on real accounts what theory says it does."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import anytime, decision, launch, metrics, monitor, plots, scorecard, sequential, study
from helpers.errors import DataError, ParameterError
from helpers.results import Check, Estimate, NotEstimable

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: hand
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 3, pre_days: 7}
metrics: {north_star: hours_per_account_week}
"""


def estimate(diff: float, se: float) -> Estimate:
    return Estimate(
        metric="m",
        control=1.0,
        treatment=1 + diff,
        diff=diff,
        se=se,
        low=diff - 1.96 * se,
        high=diff + 1.96 * se,
        rel=None,
        rel_low=None,
        rel_high=None,
        p=0.5,
        n_control=10,
        n_treatment=10,
        method="",
        mde=1.0,
    )


def cohort(rng, accounts: int = 2_000, days: int = 28) -> monitor.Days:
    """Give hours by account and day: heavy tails, lasting differences between accounts, days without viewing."""
    taste = rng.normal(0, 0.4, (accounts, 1))
    hours = rng.lognormal(taste, 1.0, (accounts, days)) * (rng.random((accounts, days)) < 0.4)
    return monitor.Days(so_far=hours.cumsum(axis=1), treated=rng.random(accounts) < 0.25)


def test_a_redrawn_launch_equals_scipys_welch():
    days = cohort(np.random.default_rng(2), accounts=100, days=3)
    luck = monitor.chance(days, replicates=2, rng=np.random.default_rng(3))
    drawn = np.random.default_rng(3).random((2, 100), np.float32) < days.treated.mean()
    for arm, row in zip(drawn, luck.diff / luck.se, strict=True):
        oracle = stats.ttest_ind(days.so_far[arm], days.so_far[~arm], equal_var=False)
        assert row == pytest.approx(oracle.statistic, rel=1e-9)


def test_a_daily_peek_finds_what_is_not_there_and_other_ways_of_looking_do_not():
    found = monitor.false_stops(monitor.chance(cohort(np.random.default_rng(13)), rng=np.random.default_rng(14)))
    once, planned, always = found.iloc[-1]
    assert once > 0.12  # less than 27 %, because the same accounts come back day after day
    assert max(planned, always) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1_000)
    assert (found.diff().dropna() >= 0).all(axis=None)


def test_days_that_do_not_resemble_one_another_cost_what_the_integral_says():
    rng = np.random.default_rng(14)
    days = monitor.Days(so_far=rng.normal(size=(1_000, 28)).cumsum(axis=1), treated=np.arange(1_000) % 2 == 0)
    once = monitor.false_stops(monitor.chance(days, replicates=2_000, rng=rng))["a test made for one look"]
    assert once[28] == pytest.approx(0.2747, abs=0.03)


def test_a_course_has_wider_limits_for_all_looks_together():
    looks = [estimate(0.5, 0.4), NotEstimable(metric="m", reason="no data"), estimate(0.3, 0.2)]
    got = monitor.course(looks)
    assert got.index.tolist() == [1, 3]
    low, high = anytime.confidence_sequence([0.5, 0.3], [0.4, 0.2], [1, 4], tuned_for=4)
    assert got["always_low"].tolist() == pytest.approx(low)
    assert got["always_high"].tolist() == pytest.approx(high)
    assert got["once_low"].tolist() == pytest.approx([0.5 - 1.96 * 0.4, 0.3 - 1.96 * 0.2])


def test_without_days_there_is_nothing_to_draw():
    none = NotEstimable(metric="m", reason="no days")
    assert monitor.chance(none, rng=np.random.default_rng(1)) is none
    assert monitor.replay(none) is none
    assert monitor.false_stops(none).empty
    assert monitor.course([none]).empty
    for ax in (plots.alarms(monitor.false_stops(none)), plots.sequence(monitor.course([none]), label="h")):
        assert "Nothing to draw" in ax.texts[0].get_text()


def at(day, hour):
    return START + pd.Timedelta(days=day, hours=hour)


@pytest.fixture
def opened(tmp_path):
    def write(tables, text=LAUNCH):
        (tmp_path / "tables").mkdir(exist_ok=True)
        for name, table in tables.items():
            table.to_parquet(tmp_path / "tables" / f"{name}.parquet")
        (tmp_path / "hand.yaml").write_text(text)
        return study.open(launch.load(tmp_path / "hand.yaml"))

    return write


def test_hours_are_added_up_by_account_and_day_since_the_assignment(opened):
    tables = {
        "assignments": pd.DataFrame({"account": list("abcde"), "arm": ["control", "early", "control", "early", "other"]}),
        "titles": pd.DataFrame({"title": ["x"], "is_launch_title": [False]}),
        "sessions": pd.DataFrame({"account": ["a"], "session": ["2"], "started_at": [at(2, 1)], "seconds_to_first_play": [1.0]}),
        "plays": pd.DataFrame(
            {
                "account": ["a", "a", "b", "b", "b", "e"],
                "session": "1",
                "title": "x",
                "started_at": [at(-1, 5), at(0, 0), at(0, 23), at(2, 1), at(3, 1), at(1, 1)],
                "watch_minutes": [600.0, 60.0, 30.0, 90.0, 600.0, 600.0],
            }
        ),
    }  # fmt: skip
    data = opened(tables)
    got = monitor.watch(data, metrics.get("hours_per_account_week")).accounts
    assert got.treated.tolist() == [False, True, False, True]  # a, b, c, d; the other arm is not asked
    hours = np.array([[1.0, 1.0, 1.0], [0.5, 0.5, 2.0], [0, 0, 0], [0, 0, 0]])
    assert got.so_far == pytest.approx(hours * 7 / np.array([1, 2, 3]))
    hours = metrics.get("hours_per_account_week")
    on_day_2 = replace(hours.numerator, calendar_days=(2, 2))  # one play: b's of an hour and a half
    third = replace(hours, numerator=on_day_2)
    last = monitor.watch(data, third).accounts.so_far[:, -1]
    assert last == pytest.approx(np.array([0.0, 1.5, 0.0, 0.0]) * 7 / 3)
    ratio = monitor.watch(data, metrics.get("browse_to_play")).accounts
    assert isinstance(ratio, NotEstimable)
    assert ratio.reason == "a ratio is no number of each account"
    assert "it needs table 'tickets'" in monitor.watch(data, metrics.get("tickets_per_account")).accounts.reason
    failed = (Check(name="Arm counts", passed=False, detail=""),)
    nothing = monitor.watch(data, metrics.get("hours_per_account_week"), checks=failed)
    assert nothing.estimates == ()
    assert nothing.accounts.reason == "not shown, because the check 'Arm counts' failed"
    assert [c.passed for c in monitor.canaries(data, checks=failed)] == [None]


def test_an_arm_of_one_account_has_no_chance_to_draw_from(players):
    path, table = players
    table.drop_duplicates("version").to_csv(path.parent / "players.csv", index=False)
    got = monitor.watch(study.open(launch.load(path)), launch.load(path).plan[0].metric)
    assert got.accounts.reason == "an arm has fewer than two accounts"
    assert monitor.false_stops(monitor.chance(got.accounts, rng=np.random.default_rng(1))).empty
    five = monitor.Days(so_far=np.arange(60.0)[:, None], treated=np.arange(60) < 3)
    luck = monitor.chance(five, replicates=400, rng=np.random.default_rng(1))
    assert 300 < len(luck.diff) < 400  # about one draw in five leaves fewer than two of three
    assert np.isfinite(luck.diff).all()


def test_a_quantile_of_an_own_table_is_no_canary_and_stops_nothing(tmp_path):
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {"user": range(400), "arm": ["a", "b"] * 200, "delay": rng.gamma(2, 1, 400), "x": rng.random(400)}
    )
    rows.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.yaml").write_text(
        "name: t\ndata: {units: t.csv, account: user, arm: arm}\narms: {control: a, treatment: b}\nmetrics:\n"
        "  north_star: {name: x, kind: mean, column: x, better: higher}\n  guardrails:\n"
        "    - {name: slow, kind: quantile, quantile: 0.9, column: delay, better: lower, margin: +20%}\n"
    )
    data = study.open(launch.load(tmp_path / "t.yaml"))
    (canary,) = monitor.canaries(data)
    assert canary.passed is None
    assert canary.detail.startswith("Not asked: a table with a row per account")
    slow = next(c.estimate for c in scorecard.measure(data).claims if c.metric == "slow")
    assert slow.diff == pytest.approx(np.diff([np.quantile(rows.delay[rows.arm == a], 0.9) for a in "ab"])[0], abs=0.2)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("hours_per_account_week", True),  # a sum
        ("opens_per_account_week", False),  # a count
        ("active_account_share", False),  # whether there was any
        ("browse_to_play", False),  # a ratio with a condition
        ("distinct_titles_per_account", False),  # what does not add up over days
    ],
)
def test_a_look_equals_the_launch_that_ends_there(opened, name, weights):
    rng, n = np.random.default_rng(6), 600
    assignments = pd.DataFrame({"account": np.arange(n), "arm": np.where(rng.random(n) < 0.5, "early", "control")})
    if weights:
        part = np.where(np.arange(n) % 3 == 0, "few", "many")
        assignments = assignments.assign(stratum=part, inclusion_probability=np.where(part == "few", 0.5, 0.1))
    sessions = pd.DataFrame({"account": rng.integers(0, n, 6_000), "session": np.arange(6_000)})
    sessions["started_at"] = START + pd.to_timedelta(rng.uniform(-7, 3, 6_000), unit="D")
    sessions["seconds_to_first_play"] = rng.exponential(200, 6_000)
    plays = sessions[["account", "session", "started_at"]].assign(title="x", watch_minutes=rng.gamma(2, 20, 6_000))
    tables = {"assignments": assignments, "sessions": sessions, "plays": plays, "titles": pd.DataFrame({"title": ["x"], "is_launch_title": [False]})}  # fmt: skip
    text = LAUNCH.replace("hours_per_account_week", name)
    data = opened(tables, text)
    looks = monitor.watch(data, data.launch.plan[0].metric).estimates
    assert len(looks) == 3
    for day, found in zip((1, 3), looks[::2], strict=True):
        ended = opened(tables, text.replace("days: 3,", f"days: {day},"))
        planned = scorecard.measure(ended).claims[0].estimate
        assert [found.diff, found.se, found.low, found.high, found.p] == pytest.approx(
            [planned.diff, planned.se, planned.low, planned.high, planned.p], rel=1e-9
        )
        assert (found.method, found.n_treatment) == (planned.method, planned.n_treatment)


def logs(rng, n=400, days=3.0, times=3):
    """Let every account of one arm play `times` as long as those of the other, over some days."""
    arm = np.where(np.arange(n) % 2 == 0, "early", "control")
    plays = pd.DataFrame({"account": rng.integers(0, n, 4_000), "session": np.arange(4_000), "title": "x"})
    plays["started_at"] = START + pd.to_timedelta(rng.uniform(0, days, 4_000), unit="D")
    plays["watch_minutes"] = rng.gamma(2, 8, 4_000) * np.where(arm[plays["account"]] == "early", times, 1)
    sessions = plays[["account", "session", "started_at"]].assign(seconds_to_first_play=1.0)
    tables = {"assignments": pd.DataFrame({"account": np.arange(n), "arm": arm}), "plays": plays, "sessions": sessions}
    return tables | {"titles": pd.DataFrame({"title": ["x"], "is_launch_title": [False]})}


def test_a_launch_is_read_at_the_looks_that_it_planned(opened, players):
    tables = logs(np.random.default_rng(7))
    data = opened(tables, LAUNCH + "decision: {looks: [1, 3]}\n")
    star, card = data.launch.plan[0].metric, scorecard.measure(data)
    got = monitor.readings(card, star)
    assert got["day"].tolist() == [1, 3, 3]
    assert got["words"][0].startswith("Day 1, look 1 of 2: a bound is crossed; a gain is established: +")
    assert got["words"][0].endswith(" h/week, at all looks together).")
    settled = sequential.settle(card.so_far[star.name], sequential.plan_looks([1, 3]), better="higher")
    assert got["diff"][2] == settled.diff
    assert got["words"][2].startswith(f"Corrected for having been able to stop: {settled.diff:+.3g} (")
    assert (got["low"] < got["diff"]).all()
    once = opened(tables)
    only = monitor.readings(scorecard.measure(once), star)
    assert only["bound"].tolist() == pytest.approx([1.959964])
    assert "day" not in only.columns  # an own table has no days: "day 28" was said of one
    blind = replace(card, so_far={star.name: (NotEstimable(metric=star.name, reason="no plays"),)})
    assert monitor.readings(blind, star)["words"].tolist() == ["Day 1: cannot be estimated, no plays."]
    blind = replace(blind, look=replace(card.look, planned=(3,)))
    assert monitor.readings(blind, star)["words"].tolist() == ["Cannot be estimated, no plays."]


def test_logs_that_end_before_the_launch_are_refused(opened):
    tables = {
        "assignments": pd.DataFrame({"account": list("abcd"), "arm": ["control", "early"] * 2}),
        "plays": pd.DataFrame({"account": ["a"], "session": "1", "title": "x", "started_at": [at(0, 1)], "watch_minutes": [9.0]}),
    }  # fmt: skip
    data = opened(tables)
    with pytest.raises(DataError, match="table 'plays' does not cover the window up to 2026-09-10"):
        monitor.watch(data, data.launch.plan[0].metric)


def test_a_table_with_a_row_per_account_has_no_days_but_its_accounts_can_be_drawn_anew(players):
    path, table = players
    data = study.open(launch.load(path))
    got = monitor.watch(data, data.launch.plan[0].metric)
    assert got.estimates == ()
    luck = monitor.chance(got.accounts, replicates=5, rng=np.random.default_rng(1))
    means = table.groupby("version")["hours"].mean()
    assert monitor.replay(luck).observed == pytest.approx(means["new"] - means["old"])
    assert monitor.false_stops(luck).empty
    with pytest.raises(ParameterError, match="treatment 'nwe' is no treatment of gate"):
        monitor.watch(data, data.launch.plan[0].metric, treatment="nwe")


def test_canaries_ask_the_first_event_of_each_account_and_sing_when_the_slow_end_has_risen(opened):
    rng, n = np.random.default_rng(8), 4_000
    arm = np.where(np.arange(n) % 2 == 0, "early", "control")
    starts = pd.DataFrame({"account": np.repeat(np.arange(n), 2), "session": np.arange(2 * n)})
    starts["started_at"] = at(0, 1) + pd.to_timedelta(np.tile([0, 50], n), unit="h")
    first = rng.lognormal(1, 0.5, n) * np.where(arm == "early", 1.6, 1.0)
    starts["seconds_to_first_play"] = np.stack([first, 99 * rng.random(n)], axis=1).ravel()  # the second tells nothing
    tables = logs(rng) | {"assignments": pd.DataFrame({"account": np.arange(n), "arm": arm}), "sessions": starts}
    text = LAUNCH.replace(
        "hours_per_account_week}", "hours_per_account_week, guardrails: [{metric: seconds_to_first_play_p95, margin: +20%, on_breach: roll back, owner: player}], operational: [seconds_to_first_play_p50, crash_rate]}"
    )  # fmt: skip
    slow, middle = monitor.canaries(opened(tables, text))
    assert (slow.passed, middle.passed) == (False, False)
    told = anytime.canary(first[1::2], first[::2], title="", margin=0.2, tuned_for=n / 2, alpha=0.05 / 2)
    assert told.detail.removeprefix(":") in slow.detail
    assert "the 50th percentile changed by" in middle.detail
    assert [(c.on_breach, c.owner) for c in (slow, middle)] == [("roll back", "player"), ("", "")]
    for harm, wanted in (((slow, middle), "ROLL BACK"), ((middle,), "HOLD")):
        assert decision.decide([], [], harm=harm).decision == wanted
    few = tables | {"sessions": starts[starts["account"] < 1_000]}  # an earlier look: tuned as it will be at the end
    told = anytime.canary(first[1:1_000:2], first[:1_000:2], title="", margin=0.2, tuned_for=n / 2, alpha=0.05 / 2)
    assert told.detail.removeprefix(":") in monitor.canaries(opened(few, text))[0].detail
    calm = tables | {"sessions": starts.assign(seconds_to_first_play=rng.lognormal(1, 0.5, 2 * n))}
    assert [c.passed for c in monitor.canaries(opened(calm, text))] == [None, None]


@pytest.mark.parametrize(
    ("so_far", "treated", "sentence"),
    [
        (np.ones(5), np.ones(5, bool), "so_far needs a finite row for each account"),
        (np.full((4, 2), np.nan), np.array([True, True, False, False]), "so_far needs a finite row"),
        (np.ones((4, 2)), np.array([True, False, False, False]), "at least two accounts in each arm"),
    ],
)
def test_replays_that_cannot_be_are_refused(so_far, treated, sentence):
    with pytest.raises(ParameterError, match=sentence):
        monitor.Days(so_far=so_far, treated=treated)
    with pytest.raises(ParameterError, match="replicates is 0, must be 1 or more"):
        monitor.chance(cohort(np.random.default_rng(1), 20), replicates=0, rng=np.random.default_rng(1))
