"""Replays equal scipy on every day, and chance does on real accounts what theory says it does."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import launch, metrics, replay, sequential, study
from helpers.errors import ParameterError
from helpers.results import NotEstimable

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: hand
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 3, pre_days: 7}
metrics: {north_star: hours_per_account_week}
"""


def cohort(rng, accounts: int = 2_000, days: int = 28) -> replay.Days:
    """Give hours by account and day: heavy tails, lasting differences between accounts, days without viewing."""
    taste = rng.normal(0, 0.4, (accounts, 1))
    hours = rng.lognormal(taste, 1.0, (accounts, days)) * (rng.random((accounts, days)) < 0.4)
    return replay.Days(so_far=hours.cumsum(axis=1), treated=rng.random(accounts) < 0.25)


def test_each_day_equals_scipys_welch():
    days = cohort(np.random.default_rng(1), accounts=200)
    for diff, se, so_far in zip(*replay.observed(days), days.so_far.T, strict=True):
        oracle = stats.ttest_ind(so_far[days.treated], so_far[~days.treated], equal_var=False)
        assert diff / se == pytest.approx(oracle.statistic, rel=1e-9)
        assert diff == pytest.approx(so_far[days.treated].mean() - so_far[~days.treated].mean(), rel=1e-9)


def test_a_redrawn_launch_equals_scipys_welch():
    days = cohort(np.random.default_rng(2), accounts=100, days=3)
    z = replay.chance(days, replicates=2, rng=np.random.default_rng(3))
    drawn = np.random.default_rng(3).random((2, 100)) < days.treated.mean()
    for arm, row in zip(drawn, z, strict=True):
        oracle = stats.ttest_ind(days.so_far[arm], days.so_far[~arm], equal_var=False)
        assert row == pytest.approx(oracle.statistic, rel=1e-9)


def test_a_daily_peek_finds_what_is_not_there_and_planned_looks_do_not():
    rng = np.random.default_rng(13)
    z = replay.chance(cohort(rng), rng=rng)
    peeked = sequential.stopped_by(z, stats.norm.isf(0.025))
    planned = sequential.stopped_by(z, sequential.plan_looks(28).z)
    assert z.std(axis=0) == pytest.approx(np.ones(28), abs=0.1)
    assert (np.diff(peeked) >= 0).all()
    assert peeked[-1] > 0.12  # less than 27 %, because the same accounts come back day after day
    assert planned[-1] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1_000)


def test_days_that_do_not_resemble_one_another_cost_what_the_integral_says():
    rng = np.random.default_rng(14)
    days = replay.Days(so_far=rng.normal(size=(1_000, 28)).cumsum(axis=1), treated=np.arange(1_000) % 2 == 0)
    z = replay.chance(days, replicates=2_000, rng=rng)
    assert sequential.stopped_by(z, stats.norm.isf(0.025))[-1] == pytest.approx(0.2747, abs=0.03)


def test_hours_are_added_up_by_account_and_day_since_the_assignment(tmp_path):
    def at(day, hour):
        return START + pd.Timedelta(days=day, hours=hour)

    tables = {
        "assignments": pd.DataFrame({"account": list("abcde"), "arm": ["control", "early", "control", "early", "other"]}),
        "titles": pd.DataFrame({"title": ["x"], "is_launch_title": [False]}),
        "sessions": pd.DataFrame({"account": ["a"], "session": ["1"], "started_at": [at(2, 1)], "seconds_to_first_play": [1.0]}),
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
    (tmp_path / "tables").mkdir()
    for name, table in tables.items():
        table.to_parquet(tmp_path / "tables" / f"{name}.parquet")
    (tmp_path / "hand.yaml").write_text(LAUNCH)
    data = study.open(launch.load(tmp_path / "hand.yaml"))
    got = replay.read(data, metrics.get("hours_per_account_week"))
    assert got.treated.tolist() == [False, True, False, True]  # a, b, c, d; the other arm is not asked
    hours = np.array([[1.0, 1.0, 1.0], [0.5, 0.5, 2.0], [0, 0, 0], [0, 0, 0]])
    assert got.so_far == pytest.approx(hours * 7 / np.array([1, 2, 3]))
    ratio = replay.read(data, metrics.get("browse_to_play"))
    assert isinstance(ratio, NotEstimable)
    assert ratio.reason == "a ratio is no number of each account"
    assert "it needs table 'tickets'" in replay.read(data, metrics.get("tickets_per_account")).reason


def test_a_table_with_a_row_per_account_has_no_days(players):
    data = study.open(launch.load(players[0]))
    got = replay.read(data, data.launch.plan[0].metric)
    assert got.reason == "a table with a row per account does not tell one day from another"


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
        replay.Days(so_far=so_far, treated=treated)
    with pytest.raises(ParameterError, match="replicates is 0, must be 1 or more"):
        replay.chance(cohort(np.random.default_rng(1), 20), replicates=0, rng=np.random.default_rng(1))
