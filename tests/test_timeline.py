"""Effects over time: periods with their covariance, fading, curves that settle, and slices that borrow."""

import json

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from helpers import launch, metrics, results, study
from helpers.errors import ParameterError
from helpers.results import Check, Estimate, NotEstimable
from helpers.timeline import course, fading, pooling
from helpers.timeline.course import Course

START = pd.Timestamp("2026-09-07", tz="UTC")
HOURS = metrics.get("hours_per_account_week")
DEPENDENT = 0.5 * np.eye(4) + 0.5  # unit variances, correlations of a half


def case(name):
    path = SHARED / "reference" / "cases" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    found = json.loads(path.read_text())
    return found["inputs"], found["expected"], found["tolerance"]


def weekly(effect, *, n=20_000, sd=13.0, control=10.0, rng=None):
    """Describe four weeks as two arms of normal accounts would show them; with a generator, with their noise."""
    cov = np.array([DEPENDENT * sd**2 / n] * 2)
    mean = np.array([np.full(4, control), control + np.asarray(effect, dtype=float)])
    if rng is not None:
        mean = mean + np.stack([np.linalg.cholesky(c) @ rng.standard_normal(4) for c in cov])
    return Course(
        metric="hours", unit="h", starts=(0, 7, 14, 21), step_days=7, mean=mean, cov=cov, n=(n, n), method="made"
    )


@pytest.fixture
def tables():
    """Eight accounts for two weeks before and two after; account k of an arm watches k hours in each session."""
    accounts = [f"{arm}{k}" for arm in "ct" for k in range(4)]
    rows = [
        (account, START + pd.Timedelta(days=day, hours=12), 60.0 * (k + 1) + (30 if arm == "t" and day >= 0 else 0))
        for arm in "ct"
        for k, account in enumerate(a for a in accounts if a[0] == arm)
        for day in (-13, -6, 1, 2, 8)
        if not (k == 3 and day > 0)
    ]
    rows.append(("z", START + pd.Timedelta(days=20, hours=12), 1.0))  # of nobody: the log covers the window
    plays = pd.DataFrame(rows, columns=["account", "started_at", "watch_minutes"])
    return {
        "assignments": pd.DataFrame({"account": accounts, "arm": ["control"] * 4 + ["early"] * 4}),
        "plays": plays.assign(session="s", title="x"),
        "sessions": plays.assign(session=[str(i) for i in range(len(plays))], seconds_to_first_play=60.0).drop(
            columns="watch_minutes"
        ),
        "accounts": pd.DataFrame({"account": accounts, "tenure": ["new", "old", "new", "old"] * 2}),
    }


def opened(tables, **dates):
    plan = launch.Launch.model_validate(
        {
            "name": "hand",
            "data": {"source": "tables"},
            "arms": {"control": "control", "treatment": "early"},
            "dates": {"start": "2026-09-07", "days": 14, "pre_days": 14} | dates,
            "metrics": {"north_star": "hours_per_account_week", "supporting": ["session_minutes"]},
            "segments": ["tenure"],
        }
    )
    memory = {name: ibis.memtable(frame) for name, frame in tables.items()}
    return study.Study(launch=plan, tables=memory, fingerprint=None, connection=study.connect_embedded())


def test_periods_are_counted_from_the_assignment_with_zeros_and_with_their_covariance(tables):
    found = course.measure(opened(tables), HOURS, adjust=False)["all"]
    assert found.starts == (-14, -7, 0, 7)
    by_hand = np.array([[1, 1, 2, 1], [2, 2, 4, 2], [3, 3, 6, 3], [4, 4, 0, 0]], dtype=float)
    treated = by_hand + np.array([[0, 0, 1, 0.5]] * 3 + [[0, 0, 0, 0]])
    np.testing.assert_allclose(found.mean, [by_hand.mean(axis=0), treated.mean(axis=0)])
    np.testing.assert_allclose(found.cov, [np.cov(x.T) / 4 for x in (by_hand, treated)])


def test_a_contrast_of_weeks_is_welchs_test_of_each_accounts_own_contrast(tables):
    found = course.contrast(course.measure(opened(tables), HOURS, adjust=False)["all"], [0, 0, 1, -1])
    control, treated = [1.0, 2, 3, 0], [1.5, 2.5, 3.5, 0]
    oracle = stats.ttest_ind(treated, control, equal_var=False)
    assert (found.diff, found.p) == (pytest.approx(np.mean(treated) - np.mean(control)), pytest.approx(oracle.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval()))


def test_what_the_time_before_explains_is_taken_out_of_every_week(tables):
    found = course.measure(opened(tables), HOURS)["all"]
    assert found.starts == (0, 7)
    before = np.tile([1.0, 2, 3, 4], 2) * 2
    after = np.array([2.0, 4, 6, 0, 3, 5, 7, 0])
    slope = np.cov(before, after)[0, 1] / np.var(before, ddof=1)
    left = after - slope * (before - before.mean())
    assert found.effect[0] == pytest.approx(left[4:].mean() - left[:4].mean())
    assert found.effect_cov[0, 0] == pytest.approx((left[:4].var(ddof=1) + left[4:].var(ddof=1)) / 4)


def test_slices_ratios_clocks_and_levels_come_from_the_same_events(tables):
    data = opened(tables)
    found = course.measure(data, HOURS, by="tenure", adjust=False)
    assert list(found) == ["all", "new", "old"]
    assert found["new"].n == (2, 2)
    minutes = course.measure(data, metrics.get("session_minutes"), adjust=False)["all"]
    assert minutes.mean[0] == pytest.approx([150, 150, 120, 120])
    calendar = course.measure(data, HOURS, clock="calendar", adjust=False)["all"]
    np.testing.assert_allclose(calendar.mean, found["all"].mean)
    levels = course.levels(data, HOURS, step_days=7)
    np.testing.assert_allclose(levels["value"].to_numpy().reshape(2, 4), found["all"].mean)
    half = stats.norm.isf(0.025) * np.sqrt(found["all"].cov[0].diagonal())
    np.testing.assert_allclose(levels.query("arm == 'control'").eval("high - value"), half)


def test_from_the_first_visit_only_those_who_came_in_the_first_week_are_read(tables):
    data = opened(tables, days=21)
    found = course.measure(data, HOURS, clock="visit", adjust=False)["all"]
    assert found.n == (3, 3)
    assert found.mean[0] == pytest.approx([4, 2])  # days 1 and 2; day 8 is seven days after day 1


def test_where_there_are_no_times_or_too_few_the_reason_is_said(tables, players):
    own = study.open(launch.load(players[0]))
    assert "without times" in course.measure(own, own.launch.plan[0].metric)["all"].reason
    assert course.levels(own, own.launch.plan[0].metric).empty
    without = {name: frame for name, frame in tables.items() if name != "plays"}
    assert "'plays'" in course.measure(opened(without), HOURS)["all"].reason
    assert "fewer than two periods" in course.measure(opened(tables, days=10), HOURS)["all"].reason
    failed = [Check(name="Arm counts", passed=False, detail="")]
    assert "'Arm counts' failed" in course.measure(opened(tables), HOURS, checks=failed)["all"].reason
    with pytest.raises(ParameterError, match="did you mean 'visit'"):
        course.measure(opened(tables), HOURS, clock="visits")


def test_the_joint_band_is_the_quantile_of_the_largest_deviation():
    independent = stats.norm.isf((1 - 0.95 ** (1 / 4)) / 2)  # Sidak, exact without correlation
    assert course.joint_quantile(np.eye(4), draws=200_000) == pytest.approx(independent, abs=0.01)
    assert course.joint_quantile(np.ones((4, 4))) == pytest.approx(1.96, abs=0.03)
    assert 1.96 < course.joint_quantile(DEPENDENT) < independent


@given(scale=st.floats(0.01, 100), factor=st.floats(0.5, 2))
@settings(max_examples=25, deadline=None)
def test_relative_courses_do_not_mind_the_unit_or_a_busy_season(scale, factor):
    busy = np.array([1, factor, 1, factor]) * scale
    plain = weekly([1, 1, 1, 1])
    moved = Course(
        metric="hours", unit="h", starts=plain.starts, step_days=7, mean=plain.mean * busy,
        cov=plain.cov * np.outer(busy, busy), n=plain.n, method="made",
    )  # fmt: skip
    one, other = (fading.early_minus_late(course.relative(c)) for c in (plain, moved))
    assert (other.diff, other.se) == (pytest.approx(one.diff, abs=1e-9), pytest.approx(one.se))


def test_the_curve_agrees_with_r():
    inputs, expected, tolerance = case("novelty__exponential_decay_nls")
    found = fading.fit(inputs["day"], inputs["effect"])
    got = {
        "a": found.asymptote, "b": found.drop, "tau": found.tau_days, "se_a": found.asymptote_se,
        "se_b": found.drop_se, "se_tau": found.tau_se, "half_life": found.half_life_days,
    }  # fmt: skip
    for name, value in got.items():
        assert value == pytest.approx(expected[name], rel=tolerance["rel"], abs=tolerance["abs"]), name
    assert found.low < expected["a"] < found.high


def test_no_curve_is_fitted_where_the_data_cannot_tell():
    assert "no fading to fit" in fading.decay(weekly([1, 1, 1, 1])).reason
    line = fading.decay(weekly([3.0, 2.4, 1.8, 1.2]))
    assert "straight line" in line.reason
    assert "at least 4 periods" in fading.fit([0, 7, 14], [3, 2, 1])
    held = fading.forecast(weekly([1, 1, 1, 1]), 84)
    assert "does not" not in held.note
    assert "go on" in held.note
    assert held.high - held.low > 3 * (fading.forecast(weekly([1, 1, 1, 1]), 24).high - held.low) / 10


def test_the_asymptotes_interval_covers_it_and_the_forecast_covers_the_curve():
    rng = np.random.default_rng(7)
    shape = np.exp(-np.arange(28).reshape(4, 7) / 7).mean(axis=1)
    inside, ahead, fitted = 0, 0, 0
    for _ in range(200):
        found = weekly(2 + 3 * shape, rng=rng)
        settled, later = fading.decay(found), fading.forecast(found, 56)
        ahead += later.low <= 2 + 3 * np.exp(-8) <= later.high
        if not isinstance(settled, NotEstimable):
            fitted += 1
            inside += settled.low <= 2 <= settled.high
    assert fitted > 100
    assert inside / fitted > 0.91  # 95 % less three standard errors of a share of 100 to 200 runs
    assert ahead / 200 > 0.91


def test_a_planted_fading_is_found_and_a_steady_effect_raises_no_alarm():
    rng = np.random.default_rng(11)
    doubled = 0.5 ** (np.arange(28).reshape(4, 7) / 7)  # on top of the effect at first, halving every week
    steady, alarms, found, n = np.full(4, 1.0), 0, 0, 400
    for _ in range(n):
        quiet = course.relative(weekly(steady, rng=rng))
        alarm = fading.verdict(fading.early_minus_late(quiet), fading.late(quiet), better="higher")
        alarms += alarm.detail.startswith(("Fades", "Settles"))
        novel = course.relative(weekly(steady * (1 + doubled.mean(axis=1)), n=25_000, rng=rng))
        found += fading.early_minus_late(novel).low > 0
    assert alarms / n < 0.05
    assert found / n > 0.8


def test_the_surrogate_index_predicts_what_goes_through_early_weeks_and_shows_what_does_not():
    slope = np.linalg.solve(DEPENDENT[:2, :2], DEPENDENT[:2, 2:].mean(axis=1))
    through = np.array([1.0, 0.5, *[slope @ [1.0, 0.5]] * 2])
    found = fading.surrogate(weekly(through), early_periods=2)
    assert found.predicted.diff == pytest.approx(found.measured.diff)
    assert found.explained == pytest.approx(1 - (0.75 - slope @ [0.5, 0.5]) / 0.75)
    lasting = fading.surrogate(weekly([1, 1, 1, 1]), early_periods=2)
    assert lasting.gap.high < 0
    assert lasting.gap.se > course.contrast(weekly([1, 1, 1, 1]), [*slope, -0.5, -0.5]).se  # slopes are estimated too
    assert "from 1 to 3" in fading.surrogate(weekly([1, 1, 1, 1]), early_periods=4).reason


@pytest.mark.parametrize(
    ("effect", "options", "word", "passed"),
    [
        ([3, 2, 1.5, 1.2], {}, "Settles lower", True),
        ([2, 0.5, 0, 0], {}, "Fades", False),
        ([2, 0.5, 0, 0], {"limited": True}, "Ends", None),
        ([0, 1, 2, 2], {}, "Grows", True),
        ([1, 1, 1, 1], {}, "Holds", True),
        ([0, 0, 0, 0], {}, "Cannot tell", None),
        ([-1, -1, -1, -1], {}, "Holds, as a loss", True),
        ([2, 0.5, 0, 0], {"better": "lower"}, "Grows", True),
    ],
)
def test_the_verdict_is_one_word_with_its_reason(effect, options, word, passed):
    found = weekly(effect)
    answer = fading.verdict(fading.early_minus_late(found), fading.late(found), **{"better": "higher"} | options)
    assert answer.detail.startswith(word + (":" if word in ("Fades", "Ends", "Settles lower", "Grows") else ""))
    assert answer.passed is passed


def test_later_viewers_who_go_on_less_are_a_fading_whatever_the_weeks_say():
    quiet, less = weekly([0, 0, 0, 0]), Check(name="viewers", passed=False, detail="Less.", p=0.01)
    answer = fading.verdict(fading.early_minus_late(quiet), fading.late(quiet), better="higher", viewers=less)
    assert (answer.passed, answer.detail, answer.p) == (False, "Fades: less.", 0.01)
    missing = NotEstimable(metric="hours", reason="there are no times")
    assert fading.verdict(missing, missing, better="higher").detail == "Cannot tell: there are no times."


def test_slices_are_pooled_as_statsmodels_does_and_borrow_in_proportion():
    y, se = [0.1, 0.3, 0.5, 0.9], [0.1, 0.14, 0.1, 0.17]
    found = pooling.pool_values(y, se, names=list("abcd"), accounts=[1] * 4, p=[0.3, 0.03, 0.001, 0.001])
    oracle = combine_effects(np.array(y), np.square(se), method_re="chi2")
    assert (found.tau**2, found.q, found.mean) == pytest.approx((oracle.tau2, oracle.q, oracle.mean_effect_re))
    assert found.share == pytest.approx(oracle.i2)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.conf_int(use_t=True)[3]))
    weight = oracle.tau2 / (oracle.tau2 + np.square(se))
    np.testing.assert_allclose(found.slices["pooled"], weight * y + (1 - weight) * oracle.mean_effect_re)
    assert found.differ
    alike = pooling.pool_values([0.5] * 3, [0.1] * 3, names=list("abc"), accounts=[1] * 3, p=[0.1] * 3)
    assert (alike.tau, alike.share, alike.differ) == (0, 0, False)
    assert alike.slices["pooled"].tolist() == pytest.approx([0.5] * 3)
    assert isinstance(pooling.pool([NotEstimable(metric="x", reason="none")]), NotEstimable)


def test_an_outlook_says_in_words_what_it_cannot_give():
    shown = fading.outlook(course.relative(weekly([1, 1, 1, 1])), days=[28, 56])
    assert shown["what"].tolist() == ["settles at", "on day 28", "on day 56"]
    assert shown["effect"].isna().tolist() == [True, False, False]
    assert shown["effect"].iloc[1] == pytest.approx(0.1)
    gone = NotEstimable(metric="hours", reason="no times")
    assert "no times" in fading.words(gone, gone, unit="")
    assert isinstance(results.to_frame(fading.parts(gone)), pd.DataFrame)
    assert isinstance(fading.late(weekly([1, 1, 1, 1])), Estimate)
