"""The north star taken apart: it multiplies back, and tells who comes from how long they stay."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import decomposition, launch, plots, scorecard, study, units
from helpers.errors import ParameterError
from helpers.metrics import FACTORS
from helpers.results import Check, NotEstimable

LAUNCH = """\
name: parts
data: {{source: simulate, scenario: {scenario}, accounts: 7_000, seed: {seed}}}
arms: {{control: control, treatment: early}}
dates: {{start: 2026-09-07, days: 28, pre_days: 7}}
sampling: {{n: {{control: {n}, early: {n}}}, strata: [engagement]}}
metrics: {{north_star: hours_per_account_week}}
"""


def opened(tmp_path, scenario, n=1_500, seed=5):
    (tmp_path / "parts.yaml").write_text(LAUNCH.format(scenario=scenario, n=n, seed=seed))
    return study.open(launch.load(tmp_path / "parts.yaml"))


@pytest.fixture(scope="module")
def activation(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("activation"), "activation", n=3_000)


def test_the_factors_multiply_back_to_the_north_star(activation):
    found = decomposition.measure(activation)
    for arm in ("control", "treatment"):
        active, sessions, minutes = (getattr(e, arm) for e in found.factors)
        assert active * sessions * minutes / 60 == pytest.approx(getattr(found.whole, arm), rel=1e-12)
    table = decomposition.frame(found)
    assert table["log_change"].iloc[1:].sum() == pytest.approx(table["log_change"].iloc[0], abs=1e-12)
    assert (table["low"] <= table["change"]).all()
    assert (table["change"] <= table["high"]).all()


def test_the_whole_is_the_launchs_own_unadjusted_estimate(activation):
    assert decomposition.measure(activation).whole == scorecard.measure(activation).plain[0]


def test_waking_idle_accounts_shows_as_more_people_and_fewer_hours_of_each(activation):
    """The scenario wakes a quarter of idle account-weeks: hours rise a little, those who come watch less on average."""
    active, sessions, _minutes = decomposition.measure(activation).factors
    assert active.low > 0
    assert sessions.diff < active.diff / active.control * sessions.control  # diluted by those who were woken
    assert "can be told from chance" in decomposition.sentence(decomposition.measure(activation))


def test_a_factors_interval_is_that_of_the_delta_method_on_a_log_scale(activation):
    """Deng, Knoblich and Lu (2018), by hand on the accounts of one arm at a time; n is large enough to agree."""
    rows = units.load(activation).execute()
    minutes, sessions = (FACTORS[3].column(m) for m in FACTORS[3].measures)
    half = 0.0
    for _arm, mine in rows.groupby("arm"):
        y, x = mine[minutes].to_numpy(), mine[sessions].to_numpy()
        half += np.var(y / y.mean() - x / x.mean(), ddof=1) / len(mine)
    half = stats.norm.isf(0.025) * np.sqrt(half)
    found = decomposition.measure(activation).factors[2]
    width = np.log1p(found.rel_high) - np.log1p(found.rel_low)
    assert width == pytest.approx(2 * half, rel=0.05)  # within strata it is a little narrower


def test_a_failed_check_takes_nothing_apart(activation):
    failed = [Check(name="Arm counts", passed=False, detail="")]
    closed = decomposition.measure(activation, checks=failed)
    assert closed.reason == "not shown, because the check 'Arm counts' failed"
    assert decomposition.frame(closed).empty


def test_what_cannot_be_taken_apart_says_why(tmp_path, players):
    path, _ = players
    own = decomposition.measure(study.open(launch.load(path)))
    assert isinstance(own, NotEstimable)
    assert "the north star is another" in own.reason
    assert decomposition.frame(own).empty
    assert "could not be taken apart" in decomposition.sentence(own)
    assert "Nothing to draw" in plots.tree(decomposition.frame(own)).texts[0].get_text()
    start = pd.Timestamp("2026-09-07", tz="UTC")
    (tmp_path / "tables").mkdir()
    pd.DataFrame({"account": list("abcd"), "arm": ["control", "early"] * 2}).to_parquet(
        tmp_path / "tables/assignments.parquet"
    )
    pd.DataFrame(
        {
            "account": "a",
            "session": "1",
            "title": "x",
            "started_at": [start + pd.Timedelta(days=27)],
            "watch_minutes": 9.0,
        }
    ).to_parquet(tmp_path / "tables/plays.parquet")
    text = LAUNCH.format(scenario="aa", n=2, seed=1).replace("source: simulate", "source: tables")
    (tmp_path / "x.yaml").write_text(
        "\n".join(text.replace(", scenario: aa, accounts: 7_000, seed: 1", "").split("\n"))
    )
    found = decomposition.measure(study.open(launch.load(tmp_path / "x.yaml")))
    assert found.reason == "it needs table 'sessions', which is not among the data"


def test_an_unknown_treatment_is_refused(activation):
    with pytest.raises(ParameterError, match="did you mean 'early'"):
        decomposition.measure(activation, treatment="earli")


def test_the_tree_names_every_branch_with_its_change(activation):
    table = decomposition.frame(decomposition.measure(activation))
    drawn = " ".join(text.get_text() for text in plots.tree(table).texts)
    assert all(branch in drawn for branch in table["branch"])
    assert drawn.count(" to ") == 4
