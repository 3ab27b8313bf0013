"""Heavy tails: quantiles, bootstrap, ranks and concentration against scipy, tea-tasting, R and simulation."""

import functools
import math
import re
import textwrap
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import reference
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import inference, metrics, moments, plots, scorecard, segments, simulate, study
from helpers.errors import DataError, LaunchError, ParameterError
from helpers.launch import load
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import WEIGHT
from helpers.report import figure
from helpers.results import Check, Estimate, NotEstimable
from helpers.robust import accounts, bootstrap, estimators, events, influence, parts, quantiles, ranks, readings, values
from helpers.robust import stories as stories_
from helpers.units import query


def made(seed):
    """Make 20 to 60 amounts, coarse or fine, many of them equal or 0."""
    rng = np.random.default_rng(seed)
    rows = np.round(rng.lognormal(2, 1, rng.integers(20, 60)), rng.integers(-1, 4))
    return rows * (rng.random(len(rows)) < rng.choice([0.5, 1.0]))


amounts = st.integers(0, 2**32 - 1).map(made)
few_examples = settings(max_examples=40, deadline=None)


def case(name):
    found = reference.case(name)
    return found["inputs"], found["expected"], found["tolerance"]


@functools.cache
def rounds():
    table = reference.data("cookie_cats.csv")
    return tuple(table.loc[table["version"] == arm, "sum_gamerounds"].to_numpy(float) for arm in ("gate_30", "gate_40"))


def near(tolerance):
    return functools.partial(pytest.approx, rel=tolerance["rel"], abs=tolerance["abs"])


def hours(rng, n):
    """Hours of four weeks as the simulator makes them: heavy tail, a few who never come."""
    return rng.lognormal(3.4, 0.85, n) * (rng.random(n) < 0.98)


# Values with counts


@few_examples
@given(amounts, st.floats(0.001, 0.999))
def test_a_quantile_of_counted_values_is_that_of_the_rows(rows, share):
    assert values.of(rows).quantile(share) == pytest.approx(np.quantile(rows, share), rel=1e-12, abs=1e-12)


def test_the_engine_counts_what_the_rows_hold():
    import ibis

    frame = pd.DataFrame({"arm": ["a", "b", "a", "a"], "x": [120, 60, 60, 120]})
    found = values.from_table(ibis.memtable(frame), "x", scale=1 / 60)
    assert found["a"].value.tolist() == [1, 2]
    assert found["a"].count.tolist() == [1, 2]
    assert found["b"].mean == 1


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="1 of 3 values are missing, NaN or infinite"):
        quantiles.difference(np.array([1, np.nan, 3]), np.array([1.0, 2.0]))
    with pytest.raises(DataError, match="2 of 3"):
        bootstrap.difference([1, np.inf, -np.inf], [1.0, 2.0], rng=np.random.default_rng(1))


# Quantiles


def test_quantiles_and_their_limits_are_those_of_r():
    _, expected, tolerance = case("quantiles__cookiecats_gate_30")
    near_ = near(tolerance)
    control, _ = rounds()
    arm = quantiles._independent(control, whole=True)
    q = stats.norm.isf(0.025)
    assert arm.read(np.array([0.25, 0.5, 0.75, 0.9, 0.95, 0.99]), q)[0].tolist() == near_(expected["type7"])
    for share, name in ((0.5, "ci_median"), (0.9, "ci_p90"), (0.99, "ci_p99")):
        assert arm.read(np.array([share]), q)[1:, 0].tolist() == near_(expected[name])


@few_examples
@given(amounts, amounts)
def test_rows_sorted_rows_and_counted_values_answer_alike(control, treatment):
    few = quantiles.difference(control, treatment, [0.5, 0.7])
    many = quantiles.difference(control, treatment, [0.4, 0.5, 0.6, 0.7])
    counted = quantiles.difference(values.of(control), values.of(treatment), [0.5, 0.7])
    assert few == [many[1], many[3]] == counted


@few_examples
@given(amounts, amounts)
def test_exchanging_the_arms_turns_the_difference_round(control, treatment):
    (one,), (other,) = (quantiles.difference(*pair, [0.5]) for pair in ((control, treatment), (treatment, control)))
    assert (one.diff, one.low, one.high) == pytest.approx((-other.diff, -other.high, -other.low), abs=1e-9)
    assert one.p == pytest.approx(other.p, abs=1e-9)


@few_examples
@given(amounts, amounts)
def test_p_is_below_alpha_exactly_if_the_interval_leaves_out_zero(control, treatment):
    (e,) = quantiles.difference(control, treatment, [0.5])
    assert (e.p < 0.05) == (not e.low <= 0 <= e.high) or math.isclose(min(abs(e.low), abs(e.high)), 0, abs_tol=1e-9)
    assert 0 < e.p <= 1


def test_two_medians_that_lie_fast_in_blocks_differ_with_a_p_that_is_no_zero():
    control, treatment = np.repeat([1.0, 2.0], [600, 400]), np.repeat([1.0, 2.0], [400, 600])
    (e,) = quantiles.difference(control, treatment, [0.5])
    assert (e.diff, e.low, e.high, e.mde) == (1, 1, 1, 1)
    exact = 2 * stats.binom.sf(599, 1_000, 0.5)  # the chance that a median lies in the other block, for one arm
    assert 0.1 * exact < e.p < 10 * exact
    assert "exactly the value of their quantile" in e.note


def test_too_few_accounts_have_no_limits_of_a_far_quantile():
    median, far = quantiles.difference(np.arange(100.0), np.arange(100.0) + 3, [0.5, 0.99])
    assert isinstance(median, Estimate)
    assert isinstance(far, NotEstimable)
    assert "0.99 quantile" in far.reason
    assert isinstance(quantiles.difference(np.array([]), np.array([1.0]), [0.5])[0], NotEstimable)
    with pytest.raises(ParameterError, match=r"is 50, must lie between 0 and 1"):
        quantiles.difference(np.arange(9.0), np.arange(9.0), [50])


def covered(estimates, truth):
    return np.array([e.low <= t <= e.high for e, t in zip(estimates, truth, strict=True)])


def test_intervals_of_quantiles_cover_on_heavy_tails_as_often_as_they_say():  # 400 launches: 95 % ± 2.1
    rng, shares = np.random.default_rng(5), [0.5, 0.9, 0.99]
    truth = 0.1 * np.quantile(hours(rng, 2_000_000), shares)
    hit = sum(
        covered(quantiles.difference(hours(rng, 10_000), 1.1 * hours(rng, 10_000), shares), truth) for _ in range(400)
    )
    assert ((hit / 400 > 0.93) & (hit / 400 < 0.98)).all(), hit / 400  # ranks are whole, so a little more


def test_intervals_of_quantiles_of_counts_cover_at_least_as_often():
    rng, shares = np.random.default_rng(6), [0.5, 0.9]
    hit = sum(
        covered(quantiles.difference(rng.poisson(6, 2_000) + 0.0, rng.poisson(6, 2_000) + 0.0, shares), [0, 0])
        for _ in range(200)
    )
    assert (hit / 200 > 0.93).all(), hit / 200


def sessions(rng, accounts_):
    """Delays of sessions whose accounts have slow and fast networks."""
    code = np.repeat(np.arange(accounts_), 1 + rng.poisson(4, accounts_))
    return np.exp(rng.normal(0, 0.8, accounts_)[code] + rng.normal(0, 0.6, len(code))), code


def test_quantiles_of_events_are_compared_over_accounts():
    rng, hit, naive = np.random.default_rng(7), 0, 0
    for _ in range(300):
        control, treatment = sessions(rng, 600), sessions(rng, 800)
        hit += covered(quantiles.of_events(control, treatment, [0.5, 0.95]), [0, 0])
        naive += covered(quantiles.difference(control[0], treatment[0], [0.5, 0.95]), [0, 0])
    assert ((hit / 300 > 0.925) & (hit / 300 < 0.98)).all(), hit / 300
    assert (naive / 300 < 0.88).all()  # sessions taken for people: far too sure


def test_quantiles_of_events_of_one_each_are_those_of_accounts():
    rng = np.random.default_rng(8)
    control, treatment = hours(rng, 4_000), hours(rng, 4_000)
    (events,) = quantiles.of_events((control, np.arange(4_000)), (treatment, np.arange(4_000)), [0.5])
    (one_each,) = quantiles.difference(control, treatment, [0.5])
    assert (events.diff, events.n_control) == (one_each.diff, 4_000)
    assert (events.low, events.high) == pytest.approx((one_each.low, one_each.high), abs=0.05)
    with pytest.raises(DataError, match="1 of 2 values have no account"):
        quantiles.of_events((control[:2], np.array(["a", None])), (treatment, np.arange(4_000)))
    with pytest.raises(ParameterError, match="one for each value"):
        quantiles.of_events((control, np.arange(3)), (treatment, np.arange(4_000)))


def test_the_band_covers_the_whole_curve_and_the_limits_alone_do_not():
    rng, whole, alone = np.random.default_rng(9), 0, 0
    truth = 0.1 * np.quantile(hours(rng, 2_000_000), quantiles.PERCENTILES)
    for _ in range(200):
        found = quantiles.curve(hours(rng, 3_000), 1.1 * hours(rng, 2_000))
        true = truth[np.isin(quantiles.PERCENTILES, found["share"])]
        whole += found["band_low"].le(true).all() and found["band_high"].ge(true).all()
        alone += found["low"].le(true).all() and found["high"].ge(true).all()
    assert 0.93 <= whole / 200 <= 1
    assert alone / 200 < 0.8


def test_the_width_of_the_band_is_that_of_simulated_bridges():
    shares, rng = np.linspace(0.05, 0.95, 19), np.random.default_rng(10)
    cov = np.minimum.outer(shares, shares) - np.outer(shares, shares)
    sd = np.sqrt(np.diag(cov))
    highest = np.abs(rng.multivariate_normal(np.zeros(19), cov, 200_000) / sd).max(axis=1)
    assert quantiles._widest(tuple(shares), 0.95) == pytest.approx(np.quantile(highest, 0.95), abs=0.02)
    assert quantiles._widest((0.5,), 0.95) == pytest.approx(1.96, abs=1e-3)


def test_a_curve_of_too_few_accounts_is_shorter_or_empty():
    assert quantiles.curve(np.arange(50.0), np.arange(50.0))["share"].between(0.1, 0.9).all()
    assert quantiles.curve(np.array([1.0]), np.array([])).empty
    with pytest.raises(ParameterError, match="must rise"):
        quantiles.curve(np.arange(9.0), np.arange(9.0), [0.5, 0.4])


# The bootstrap


def test_the_bootstrap_of_five_values_is_the_ideal_one():
    inputs, expected, tolerance = case("bootstrap__ideal_mean_5_values")
    every = np.array(list(product(inputs["x"], repeat=5))).mean(axis=1)  # the ideal one draws all samples there are
    assert (len(every), every.std()) == (expected["n_resamples"], pytest.approx(expected["se_mean"], rel=1e-9))
    e = bootstrap.difference(
        [0.0, 0.0], inputs["x"], rng=np.random.default_rng(1), replicates=40_000, interval="percentile"
    )
    assert e.se == pytest.approx(expected["se_mean"], rel=tolerance["rel"])
    assert [e.low, e.high] == pytest.approx(np.array(expected["quantiles"])[[0, 2]], rel=0.03, abs=tolerance["abs"])
    assert e.treatment == pytest.approx(expected["quantiles"][1], rel=tolerance["rel"])  # the mean is the middle


def test_the_bootstrap_of_skewed_counts_is_that_of_r():
    _, expected, tolerance = case("bootstrap__cookiecats_median_p90_trim")
    control, treatment = rounds()
    asked = {
        "median": bootstrap.quantile(0.5),
        "p90": bootstrap.quantile(0.9),
        "trim10": bootstrap.trimmed_mean(0.1, 0.1),
    }
    found = {k: bootstrap.difference(control, treatment, s, rng=np.random.default_rng(2)) for k, s in asked.items()}
    for name, e in found.items():
        assert e.se == pytest.approx(expected[f"{name}_diff_se"], rel=tolerance["rel"])
    assert (found["median"].diff, found["p90"].diff) == (expected["median_diff"], expected["p90_diff"])
    assert [found["median"].low, found["median"].high] == expected["median_diff_ci"]
    (fast,) = quantiles.difference(control, treatment, [0.9])
    assert fast.diff == expected["p90_diff"]
    assert fast.se == pytest.approx(expected["p90_diff_se"], rel=tolerance["rel"])


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_limits_are_those_of_scipy(method):
    rng = np.random.default_rng(3)
    control, treatment = rng.lognormal(0, 1, 80), rng.lognormal(0.2, 1, 60)
    theirs = stats.bootstrap(
        (control, treatment), lambda c, t, axis: t.mean(axis) - c.mean(axis), n_resamples=30_000, method=method, rng=1
    )
    ours = bootstrap.difference(control, treatment, rng=rng, replicates=30_000, interval=method.lower())
    wide = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.03)
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.03 * wide)


def test_limits_are_those_of_tea_tasting():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"variant": np.repeat([0, 1], 500), "hours": hours(rng, 1_000)})
    theirs = tt.Experiment(q=tt.Quantile("hours", q=0.9, n_resamples=4_000, rng=1)).analyze(frame)["q"]
    arms = [frame.loc[frame["variant"] == k, "hours"].to_numpy() for k in (0, 1)]
    (ours,) = quantiles.difference(*arms, [0.9])
    wide = theirs.effect_size_ci_upper - theirs.effect_size_ci_lower
    assert ours.diff == pytest.approx(theirs.effect_size, rel=1e-9)
    assert (ours.low, ours.high) == pytest.approx(
        (theirs.effect_size_ci_lower, theirs.effect_size_ci_upper), abs=0.25 * wide
    )


@pytest.mark.parametrize("draw", ["multinomial", "poisson"])
def test_blocks_stand_for_their_values(draw):
    rng = np.random.default_rng(5)
    minutes, starts = hours(rng, 60_000), 1.0 + rng.poisson(6, 60_000)
    control, treatment = (np.column_stack([minutes[k::2], starts[k::2]]) for k in (0, 1))
    mean = bootstrap.difference(control[:, 0], treatment[:, 0], rng=rng, draw=draw)
    assert mean.se == pytest.approx(np.sqrt(sum(x[:, 0].var() / len(x) for x in (control, treatment))), rel=0.06)
    ratio = bootstrap.difference(control, treatment, bootstrap.RATIO, rng=rng, draw=draw)
    delta = [
        (x[:, 0] - x[:, 0].sum() / x[:, 1].sum() * x[:, 1]).var() / x[:, 1].mean() ** 2 / len(x)
        for x in (control, treatment)
    ]
    assert ratio.se == pytest.approx(np.sqrt(sum(delta)), rel=0.06)
    yuen = estimators.trimmed(accounts.of(control[:, 0], treatment[:, 0]), 0.2)
    trim = bootstrap.difference(control[:, 0], treatment[:, 0], bootstrap.trimmed_mean(0.2, 0.2), rng=rng, draw=draw)
    assert trim.se == pytest.approx(yuen.se, rel=0.06)
    assert trim.diff == pytest.approx(yuen.diff, abs=0.01 * yuen.se)


def test_blocks_keep_totals_and_lose_next_to_no_variance():
    rows = hours(np.random.default_rng(6), 50_000)[:, None]
    blocks = bootstrap.compress(rows)
    assert blocks.n == 50_000
    assert len(blocks.count) <= bootstrap.BLOCKS
    assert blocks.count @ blocks.value[:, 0] == pytest.approx(rows.sum())
    assert 0 < blocks.lost < 1e-3
    assert bootstrap.compress(np.round(rows)).lost == 0


def test_the_same_state_gives_the_same_answer():
    control, treatment = (hours(np.random.default_rng(k), 500) for k in (1, 2))
    one, same = (bootstrap.difference(control, treatment, rng=np.random.default_rng(3)) for _ in range(2))
    assert one == same


def test_intervals_of_the_bootstrap_cover_a_mean_with_a_heavy_tail():
    rng, truth = np.random.default_rng(8), 0.1 * np.exp(3.4 + 0.85**2 / 2) * 0.98
    found = [bootstrap.difference(hours(rng, 300), 1.1 * hours(rng, 300), rng=rng, replicates=400) for _ in range(200)]
    assert 0.91 <= covered(found, [truth] * 200).mean() <= 0.985
    assert np.mean([(e.p < 0.05) == (not e.low <= 0 <= e.high) for e in found]) > 0.99


def test_what_the_bootstrap_cannot_tell_is_said():
    rng = np.random.default_rng(9)
    assert "at least 2" in bootstrap.difference([1.0], [1.0, 2.0], rng=rng).reason
    assert "same in all resamples" in bootstrap.difference([1.0, 1.0], [2.0, 2.0], rng=rng).reason
    never = np.column_stack([np.ones(4), [0, 0, 0, 1]])
    assert "not defined in" in bootstrap.difference(never, never, bootstrap.RATIO, rng=rng).reason
    assert (
        "not smooth"
        in bootstrap.difference(hours(rng, 5_000), hours(rng, 5_000), bootstrap.quantile(0.5), rng=rng).reason
    )
    with pytest.raises(ParameterError, match="did you mean 'bca'"):
        bootstrap.difference([1.0, 2.0], [1.0, 2.0], rng=rng, interval="bcaa")
    with pytest.raises(ParameterError, match="replicates is 10"):
        bootstrap.difference([1.0, 2.0], [1.0, 2.0], rng=rng, replicates=10)
    with pytest.raises(ParameterError, match="leaves nobody"):
        bootstrap.trimmed_mean(0.5, 0.5)


# Averages


def test_trimmed_means_are_those_of_r():
    for name in ("yuen__cookiecats_tr0.2", "yuen__wrs2_soccer"):
        inputs, expected, tolerance = case(name)
        y, x = rounds() if "cookie" in name else (inputs["y"], inputs["x"])  # x minus y: gate_40 minus gate_30
        e, near_ = estimators.trimmed(accounts.of(y, x), inputs["tr"]), near(tolerance)
        sign = np.sign(e.diff) * np.sign(expected["diff"])
        assert (sign * e.diff, e.se, e.p) == near_((expected["diff"], expected["se"], expected["p"]))
        assert (sign * e.diff / e.se, reference.freedom(e)) == near_((expected["t"], expected["df"]))
        if "trimmed_mean_1" in expected:
            assert sorted((e.control, e.treatment)) == near_(sorted(expected[f"trimmed_mean_{i}"] for i in (1, 2)))
        assert sorted((sign * e.low, sign * e.high)) == near_(expected["ci"])


def test_the_error_of_one_trimmed_mean_is_that_of_wilcox():
    inputs, expected, tolerance = case("trimmed_mean__wilcox_self_awareness")
    x = np.array(inputs["x"], float)
    e = estimators.trimmed(accounts.of(x, x), inputs["tr"])
    assert e.control == near(tolerance)(expected["trim"])
    cut, n = int(inputs["tr"] * len(x)), len(x)  # Yuen's error is over the accounts that are kept
    wilcox = expected["trim_se"] * (1 - 2 * inputs["tr"]) * np.sqrt(n) / np.sqrt(n - 1) * (n - 1)
    assert e.se == near(tolerance)(np.sqrt(2) * wilcox / np.sqrt((n - 2 * cut) * (n - 2 * cut - 1)))
    variance = e.se**2 / 2 * (n - 2 * cut) * (n - 2 * cut - 1) / (n - 1)
    assert variance == near(tolerance)(expected["winvar"])
    assert np.sqrt(variance / n) / (1 - 2 * inputs["tr"]) == near(tolerance)(expected["trim_se"])
    # a mean winsorised at both ends is offered nowhere; what scipy makes of the case:
    assert stats.mstats.winsorize(x, (inputs["tr"],) * 2).mean() == near(tolerance)(expected["winmean"])


@few_examples
@given(amounts, amounts, st.sampled_from([0.0, 0.1, 0.2]))
def test_trimmed_means_are_compared_as_scipy_does(control, treatment, share):
    e = estimators.trimmed(accounts.of(control, treatment), share)
    if isinstance(e, NotEstimable):
        return
    theirs = stats.ttest_ind(treatment, control, equal_var=False, trim=share)
    assert e.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert reference.freedom(e) == pytest.approx(theirs.df, rel=1e-5)  # digits are lost on the way back from limits


def test_of_a_capped_metric_the_capped_amounts_are_asked_who_carries_them():
    """Everybody gets 4 % more, and 0.6 % 300 h: the plan caps near 36 h; who carries what is left of that?"""
    rng = np.random.default_rng(5)
    control, treatment = rng.gamma(2, 5, (2, 20_000))
    treatment = 1.04 * treatment + 300.0 * (rng.random(20_000) < 0.006)
    plain = accounts.of(control, treatment)
    limit = float(np.quantile(plain.pooled, 0.99))
    capped = replace(plain, cap=0.99, limit=limit)
    assert influence.check(plain).detail.startswith("Concentrated: the heaviest 5% of accounts")
    same = influence.check(accounts.of(np.minimum(control, limit), np.minimum(treatment, limit)))
    asked = influence.check(capped)
    assert asked.detail.replace(" on capped amounts", "") == same.detail
    assert asked.passed is same.passed is True
    assert asked.detail.startswith("Leaning to the top: the heaviest 5% of accounts (above 24")
    at_cap = parts.split(capped, 0.01)  # where both arms have the cap: what all others bring is all that is left
    assert at_cap.part.amount == pytest.approx(0, abs=0.02 * at_cap.effect)
    assert influence.check(capped, heavy_viewers_are_target=True).detail.startswith("Concentrated, as intended")


def test_a_capped_mean_is_that_of_r():
    _, expected, tolerance = case("winsorized__cookiecats_upper_0.99")  # R's cap is a quantile of zeros and all
    e = estimators.capped(accounts.of(*rounds()), expected["cap"])
    found = (e.control, e.treatment, e.diff, e.se, e.p, e.low, e.high)
    keys = ("mean_2", "mean_1", "diff", "se", "p")
    assert found == near(tolerance)((*(expected[k] for k in keys), *expected["ci"]))
    assert (e.diff / e.se, reference.freedom(e)) == near(tolerance)((expected["t"], expected["df"]))


def test_a_cap_stays_where_it_is_however_many_have_nothing():
    some = np.random.default_rng(3).lognormal(3, 1, 51)
    limits = {n: estimators.cap_at(np.r_[np.zeros(n), some[:k]], 0.95) for n, k in ((0, 51), (949, 51), (99_949, 51))}
    assert set(limits.values()) == {np.quantile(some, 0.95)}  # numpy's, of those who have something
    left = [
        np.minimum(some[:k], estimators.cap_at(np.r_[np.zeros(1_000 - k), some[:k]], 0.95)).sum() / some[:k].sum()
        for k in (49, 50, 51)
    ]
    assert np.ptp(left) < 0.01  # a quantile of zeros and all leaves 98 %, 0.3 % and 7 % of such means
    table = estimators.caps(accounts.of(np.r_[np.zeros(949), some], np.r_[np.zeros(900), some, some[:49]]))
    assert table["at"].dropna().is_monotonic_increasing
    assert table["over_control"].is_monotonic_decreasing
    with pytest.raises(ParameterError, match="nothing to cap"):
        estimators.cap_at(np.zeros(5), 0.99)


def test_means_are_those_of_the_scorecard():
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"arm": np.repeat(["c", "t"], [600, 400]), "before": hours(rng, 1_000)})
    frame["y"] = 0.6 * frame["before"] + hours(rng, 1_000)
    past = Measure(table=UNITS_TABLE, agg="value", column="before")
    measure = Measure(table=UNITS_TABLE, agg="value", column="y")
    metric = Metric(name="y", title="", kind="mean", numerator=measure, better="higher", unit="", covariates=(past,))
    read = moments.from_rows(frame, columns=["y", "before"], by=["arm"])
    for adjust in (False, True):
        (theirs,) = inference.compare(read, metric, control="c", treatment="t", days=28, pre_days=28, adjust=adjust)
        cut = dict(iter(frame.groupby("arm")))
        b = {a: rows[["before"]].to_numpy() if adjust else np.empty((len(rows), 0)) for a, rows in cut.items()}
        arms = accounts.Arms(
            metric="y", control=cut["c"]["y"].to_numpy(), treatment=cut["t"]["y"].to_numpy(),
            control_before=b["c"], treatment_before=b["t"],
        )  # fmt: skip
        ours = estimators.mean(arms)
        for key in ("control", "treatment", "diff", "se", "low", "high", "rel_low", "rel_high", "p", "mde"):
            assert getattr(ours, key) == pytest.approx(getattr(theirs, key), rel=1e-9), key


def drawn_unequally(folder):
    """Write an own table whose heavy viewers were oversampled within strata, and open it."""
    rng, n = np.random.default_rng(31), 3_000
    stratum = rng.choice(["light", "medium", "heavy"], n, p=[0.3, 0.3, 0.4])
    level = pd.Series(stratum).map({"light": 2.0, "medium": 8.0, "heavy": 25.0}).to_numpy()
    arm = rng.choice(["old", "new"], n, p=[0.6, 0.4])
    past, luck = rng.gamma(2, level / 2), rng.gamma(2, level / 3)
    weight = pd.Series(stratum).map({"light": 30.0, "medium": 10.0, "heavy": 2.0})
    table = pd.DataFrame(
        {"user": [f"u{i}" for i in range(n)], "version": arm, "type": stratum, "pw": weight, "past": past}
    )
    table["hours"] = past + luck + np.where(arm == "new", 0.3 * level, 0)
    table.to_csv(folder / "players.csv", index=False)
    (folder / "gate.yaml").write_text(
        textwrap.dedent("""\
            name: gate
            data: {units: players.csv, account: user, arm: version, weight: pw, stratum: type}
            arms: {control: old, treatment: new}
            metrics:
              north_star: {name: hours, kind: mean, column: hours, better: higher, covariates: [past]}
              supporting: [{name: capped, kind: mean, column: hours, better: higher, cap: 0.9, covariates: [past]}]
            """)
    )
    return study.open(load(folder / "gate.yaml")), table


def test_weighted_means_are_those_of_the_scorecard(tmp_path):
    data, table = drawn_unequally(tmp_path)
    hours, capped = (c.estimate for c in scorecard.measure(data).claims)
    plain, *_ = scorecard.measure(data).plain
    arms, limited = accounts.read(data), accounts.read(data, "capped")
    weight = table["pw"] / table.groupby("version")["pw"].transform("mean")
    told = {share: np.quantile(table["hours"], share, weights=weight, method="inverted_cdf") for share in (0.9, 0.99)}
    assert limited.limit == pytest.approx(told[0.9], rel=1e-12)  # of the population, by numpy; the engine found ours
    assert estimators.limit(limited, 0.99) == pytest.approx(told[0.99], rel=1e-12)
    assert limited.limit < 0.8 * np.quantile(table["hours"], 0.9)  # of the accounts, among whom heavy ones are too many
    pairs = [
        (hours, estimators.mean(arms)),
        (plain, estimators.mean(arms.without_past())),
        (capped, influence.primary(limited)[0].estimate),
    ]
    for theirs, ours in pairs:
        for key in ("control", "treatment", "diff", "se", "p", "rel_low", "rel_high"):
            assert getattr(ours, key) == pytest.approx(getattr(theirs, key), rel=1e-7), key
        assert "weighted to the population" in ours.method
    new = table[table["version"] == "new"]
    assert plain.treatment == pytest.approx(np.average(new["hours"], weights=new["pw"]), rel=1e-9)


def test_weights_go_into_who_is_heavy_and_what_they_bring(tmp_path):
    """Oracle: each account repeated as often as its weight says, ordered, and the last twentieth summed."""
    data, table = drawn_unequally(tmp_path)
    bare = parts.split(accounts.read(data).without_past(), 0.05)
    over = table["hours"] > bare.above
    assert np.average(over, weights=table["pw"]) == pytest.approx(0.05, abs=0.003)
    assert over.mean() > 0.08  # of the accounts, among whom heavy ones are too many
    brought, has = {}, {}
    for arm, rows in table.groupby("version"):
        many = np.sort(np.repeat(rows["hours"], np.round(1_000 * rows["pw"] / rows["pw"].min()).astype(int)))
        brought[arm], has[arm] = many[int(0.95 * len(many)) :].sum() / len(many), many.mean()
    assert bare.part.amount == pytest.approx(brought["new"] - brought["old"], rel=1e-3)
    assert bare.held == pytest.approx(brought["old"] / has["old"], rel=1e-3)


def test_what_cannot_be_weighted_says_so(tmp_path):
    arms = accounts.read(drawn_unequally(tmp_path)[0])
    rng = np.random.default_rng(1)
    found = {r.name: r.estimate for r in readings.readings(arms, rng=rng, replicates=200)}
    weighted = {n for n, e in found.items() if "weighted to the population" in e.method}
    once = {n for n, e in found.items() if "each account counts once, whatever its weight" in e.note}
    assert weighted | once == set(found)
    assert not weighted & once
    mean, trimmed = readings.resampled(arms, (bootstrap.MEAN, bootstrap.trimmed_mean(0, 0.01)), rng=rng)
    assert mean.diff == pytest.approx(estimators.mean(arms.without_past()).diff, rel=1e-3)  # blocks of neighbours
    assert "each account counts once" in trimmed.note


def test_equal_weights_leave_a_cap_where_it_is(tmp_path):
    data, table = drawn_unequally(tmp_path)
    table.assign(pw=3.0).to_csv(tmp_path / "players.csv", index=False)
    again = accounts.read(study.open(data.launch), "capped")
    assert again.limit == pytest.approx(np.quantile(table["hours"], 0.9), rel=1e-12)


def test_means_say_that_the_mix_is_not_evened_out_where_the_scorecard_does_it(tmp_path):
    data, _ = drawn_unequally(tmp_path)
    rule = data.launch.decision.model_copy(update={"poststratify": ("type",)})
    evened = replace(data, launch=data.launch.model_copy(update={"decision": rule}))
    arms = accounts.read(evened)
    assert "the mix of type is not evened out" in estimators.mean(arms).note
    assert "post-stratified" in scorecard.measure(evened).claims[0].estimate.method
    assert not estimators.mean(accounts.read(data)).note
    arms = replace(accounts.read(data), looks=True)
    assert estimators.mean(arms).note == "the interval is not widened for the planned looks, as that of 04 is"
    kept = replace(accounts.of(np.eye(9)[0], np.eye(8)[0]), shares=True)
    assert estimators.mean(kept).note.startswith("04 has the interval of two shares")  # that of Newcombe


def test_a_geometric_mean_is_a_mean_of_logarithms():
    rng = np.random.default_rng(12)
    control, treatment = rng.lognormal(1, 1, 300), rng.lognormal(1.2, 1, 200)
    e = estimators.power_mean(accounts.of(control, treatment))
    theirs = stats.ttest_ind(np.log(treatment), np.log(control), equal_var=False)
    ci = theirs.confidence_interval()
    assert e.control == pytest.approx(stats.gmean(control))
    assert (e.p, e.rel_low, e.rel_high) == pytest.approx((theirs.pvalue, np.expm1(ci.low), np.expm1(ci.high)), rel=1e-9)
    half = estimators.power_mean(accounts.of(control, treatment), 0.5)
    assert half.treatment == pytest.approx(stats.pmean(treatment, 0.5))


def test_zeros_have_no_logarithm_and_the_offset_decides():
    arms = accounts.of([0.0, 10, 10, 10], [0.0, 0, 10, 40])
    refused = estimators.power_mean(arms)
    assert "25.0% of control and 50.0% of treatment have nothing" in refused.reason
    one, hundred = (estimators.power_mean(arms, offset=c).rel for c in (1, 100))
    assert one < 0 < hundred
    assert estimators.box_cox(arms) is None
    assert estimators.box_cox(arms, 1) == pytest.approx(stats.boxcox(arms.pooled + 1)[1], abs=1e-6)


# Ranks and labels


def test_rank_tests_are_those_of_r():
    inputs, expected, tolerance = case("mann_whitney__r_airquality")
    arms, near_ = accounts.of(inputs["y"], inputs["x"]), near(tolerance)
    e, moved = ranks.rank(arms, "mann-whitney"), ranks.shift(arms)
    assert e.p == near_(expected["p"])
    assert e.treatment * len(inputs["x"]) * len(inputs["y"]) == near_(expected["W"])
    plain = stats.mannwhitneyu(inputs["x"], inputs["y"], use_continuity=False, method="asymptotic")
    assert plain.pvalue == near_(expected["p_nocorr"])  # not ours: with continuity, small arms err less
    assert (moved.diff, moved.low, moved.high, moved.p) == near_(
        (expected["hodges_lehmann"], *expected["hl_ci"], expected["p"])
    )
    _, expected, tolerance = case("mann_whitney__cookiecats_rounds")
    control, treatment = rounds()
    e, near_ = ranks.rank(accounts.of(control, treatment), "mann-whitney"), near(tolerance)
    assert (e.p, e.treatment) == near_((expected["p_continuity"], expected["prob_superiority"]))
    assert e.treatment * len(control) * len(treatment) == near_(expected["W_gate40"])
    # ours has the correction for continuity, which costs large arms nothing; what scipy makes of the case without it:
    plain = stats.mannwhitneyu(treatment, control, use_continuity=False)
    assert plain.pvalue == near_(expected["p_nocorr"])
    inputs, expected, _ = case("mann_whitney__teatasting_separated")
    apart = ranks.rank(accounts.of(inputs["control"], inputs["treatment"]))
    assert f"p = {expected['p']:.3g}" in apart.reason
    assert "no account of one arm lies among those of the other" in apart.reason  # a chance of 1, U = 16 of 16 pairs
    assert expected["U"] == expected["prob_superiority"] * len(inputs["control"]) * len(inputs["treatment"])


def test_ranks_are_those_of_scipy_and_tea_tasting():
    rng = np.random.default_rng(31)
    control, treatment = np.round(hours(rng, 200)), np.round(1.2 * hours(rng, 150))
    e = ranks.rank(accounts.of(control, treatment), "mann-whitney")
    u, p = stats.mannwhitneyu(treatment, control)
    frame = pd.DataFrame({"variant": np.repeat([0, 1], [200, 150]), "x": np.r_[control, treatment]})
    theirs = tt.Experiment(x=tt.MannWhitneyU("x")).analyze(frame)["x"]
    assert (e.treatment, e.p) == pytest.approx((u / (200 * 150), p), rel=1e-9)
    assert e.p == pytest.approx(theirs.pvalue, rel=1e-9)
    (median,) = quantiles.difference(control, treatment, [0.5])
    assert (median.control, median.treatment) == pytest.approx((np.median(control), np.median(treatment)), rel=1e-9)


@few_examples
@given(amounts, amounts)
def test_the_chance_to_have_more_is_tested_as_scipy_does(control, treatment):
    e = ranks.rank(accounts.of(control, treatment))
    if isinstance(e, NotEstimable):
        return
    theirs = stats.brunnermunzel(control, treatment)
    assert e.p == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-12)
    wins = np.subtract.outer(treatment, control)
    assert e.treatment == pytest.approx((wins > 0).mean() + (wins == 0).mean() / 2)


def test_a_shift_among_ties_has_no_answer_instead_of_a_false_one():
    most = np.r_[np.zeros(800), np.arange(1.0, 201)]
    refused = ranks.shift(accounts.of(most, most[10:]))
    assert "so many accounts have the same amount" in refused.reason
    rng = np.random.default_rng(2)
    counts = ranks.shift(accounts.of(rng.poisson(6, 200), rng.poisson(6.3, 200)))
    assert counts.low == counts.diff == 0  # differences of counts are whole, and 0.000000005 would be above 0
    assert counts.high == pytest.approx(1, abs=1e-6)


def test_medians_may_differ_while_the_chance_is_one_half():
    control = np.array([0.0, 1, 2, 3, 4, 5, 6] * 50)
    treatment = np.array([-9.0, -9, -9, 4.5, 4.5, 9, 9] * 50)
    assert np.median(treatment) > np.median(control)
    e = ranks.rank(accounts.of(control, treatment))
    assert e.treatment < 0.5
    with pytest.raises(ParameterError, match="did you mean 'mann-whitney'"):
        ranks.rank(accounts.of(control, treatment), "mann-whitny")


def test_labels_dealt_anew_agree_with_scipy():
    rng = np.random.default_rng(13)
    control, treatment = hours(rng, 40), hours(rng, 30) + 12

    def welch(c, t, axis):
        return np.abs(t.mean(axis) - c.mean(axis)) / np.sqrt(
            c.var(axis, ddof=1) / c.shape[axis] + t.var(axis, ddof=1) / t.shape[axis]
        )

    theirs = stats.permutation_test(
        (control, treatment), welch, n_resamples=20_000, vectorized=True, alternative="greater", rng=1
    )
    ours = ranks.permutation(accounts.of(control, treatment), rng=rng, replicates=20_000)
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.01)
    assert (ours.p < 0.05) == (not ours.low <= 0 <= ours.high)


def test_labels_dealt_over_all_orders_are_exact():
    control, treatment = np.array([1.0, 2, 3, 4]), np.array([3.5, 5, 6, 9])
    theirs = stats.permutation_test(
        (control, treatment),
        lambda c, t: abs(stats.ttest_ind(t, c, equal_var=False).statistic),
        n_resamples=np.inf,
        alternative="greater",
    )
    ours = ranks.permutation(accounts.of(control, treatment), rng=np.random.default_rng(1), replicates=50_000)
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.005)
    same = ranks.permutation(accounts.of([2.0, 2.0], [2.0, 2.0]), rng=np.random.default_rng(1))
    assert isinstance(same, NotEstimable)


def test_every_method_says_what_it_estimates_and_none_says_zero_for_nothing():
    rng = np.random.default_rng(14)
    found = readings.readings(accounts.of(hours(rng, 300), hours(rng, 300)), rng=rng, replicates=200)
    assert len({r.estimand for r in found}) == len(found)
    assert sum(isinstance(r.estimate, Estimate) for r in found) == len(found) - 1  # zeros have no logarithm
    nothing = readings.readings(accounts.of([], [1.0]), rng=rng)
    assert all(isinstance(r.estimate, NotEstimable) for r in nothing)
    assert readings.to_frame(nothing)["note"].str.startswith("not estimable").all()
    flat = readings.readings(accounts.of(np.ones(9), np.ones(9)), rng=rng, replicates=200)
    assert not any(isinstance(r.estimate, Estimate) and r.estimate.se > 0 for r in flat)


# Influence


def launches(rng, runs, story, n=5_000):
    """Launches whose mean rises by about 4 % or more, with the past known to 0.7."""
    for _ in range(runs):
        base = rng.normal(0, 0.62, 2 * n)
        before, after = (np.exp(3.4 + base + rng.normal(0, 0.45, 2 * n)) for _ in range(2))
        arm = np.arange(2 * n) < n
        yield accounts.Arms(
            metric="hours", control=after[~arm], treatment=story(after[arm]),
            control_before=before[~arm, None], treatment_before=before[arm, None],
        )  # fmt: skip


def of_three_stories(ask, runs, rng):
    """Ask launches from which a few accounts gain much, all a little, and nobody anything."""
    stories = (lambda x: x + 500 * (rng.random(len(x)) < 0.005), lambda x: 1.08 * x, lambda x: x)
    return [[ask(arms) for arms in launches(rng, runs, story)] for story in stories]


def test_an_effect_of_a_few_is_called_concentrated_and_a_broad_one_broad():
    few, all_, none = of_three_stories(influence.check, 40, np.random.default_rng(15))
    assert sum(c.passed is False for c in few) >= 30
    assert not any(c.passed for c in few)
    assert sum(c.passed is True for c in all_) >= 30
    assert not any(c.passed is False for c in all_)
    assert sum(c.passed is not None for c in none) <= 6  # no effect to divide
    assert next(c for c in few if c.passed is False).detail.startswith(
        "Concentrated: the heaviest 5% of accounts (above"
    )


def test_the_top_is_the_end_of_the_curve_and_the_interval_covers_its_share():
    """Oracle: the sums of the highest fiftieth of each arm, ordered by numpy; coverage against a million accounts."""

    def story(x):
        return x + 400 * (rng.random(len(x)) < 0.01)

    rng, hit = np.random.default_rng(16), []
    (big,) = launches(rng, 1, story, n=1_000_000)
    truth = parts.split(big, 0.02)
    for arms in launches(rng, 250, story, n=4_000):
        s = parts.split(arms, 0.02)
        assert s.effect == pytest.approx(estimators.mean(arms).diff)
        (left,) = parts.leave_out(arms, [0.02])["diff"]
        assert s.part.amount + left == pytest.approx(s.effect)
        if s.part.low is not None:
            hit.append(s.part.low <= truth.part.share <= s.part.high)
    ends = [np.sort(x)[-80:].sum() / 4_000 for x in (arms.control, arms.treatment)]
    bare = parts.split(arms.without_past(), 0.02)
    assert bare.part.amount == pytest.approx(ends[1] - ends[0], rel=1e-9)
    assert bare.held == pytest.approx(ends[0] / arms.control.mean(), rel=1e-9)
    assert len(hit) > 230
    assert 0.91 <= np.mean(hit) <= 0.99


@pytest.mark.parametrize("payers", [0.5, 1.0])
def test_a_gain_of_the_same_per_cent_for_everybody_is_not_called_concentrated(payers):
    """Lognormal amounts of which one in twenty has most: so much of the gain is theirs, and no more."""
    rng, found = np.random.default_rng(41), []
    for _ in range(60):
        x = np.exp(rng.normal(0, 2, (2, 20_000))) * (rng.random((2, 20_000)) < payers)
        found.append(parts.split(accounts.of(x[0], 1.4 * x[1])))
    told = [s for s in found if s.part.share is not None]
    assert len(told) > 30
    whole = stats.norm.sf(stats.norm.isf(0.05 / payers) - 2)  # of a lognormal: the share of all above a quantile
    assert np.mean([s.held for s in found]) == pytest.approx(whole, abs=0.02)
    assert np.median([s.part.share for s in told]) == pytest.approx(whole, abs=0.05)
    assert sum(s.verdict == "concentrated" for s in told) <= 0.08 * len(told)


def test_a_few_who_gain_and_stay_among_the_rest_are_not_called_a_broad_gain():
    """One in a hundred gets 25 h where the tenth at the top has 19: 42 % of that gain is the heaviest twentieth's."""
    rng, found = np.random.default_rng(42), []
    for _ in range(20):
        control, treatment = rng.gamma(2, 5, (2, 50_000))
        found.append(influence.check(accounts.of(control, treatment + 25 * (rng.random(50_000) < 0.01))))
    assert not any(c.detail.startswith(("Broad", "Concentrated")) for c in found)
    assert sum(c.detail.startswith("Leaning to the top") for c in found) >= 3


def test_arms_exchanged_have_the_same_share_from_the_top():
    rng = np.random.default_rng(17)
    arms = accounts.of(hours(rng, 3_000), hours(rng, 3_000) + 5)
    one, other = (parts.split(a) for a in (arms, accounts.of(arms.treatment, arms.control)))
    assert (one.part.share, one.part.low, one.part.high) == pytest.approx(
        (other.part.share, other.part.low, other.part.high)
    )
    assert one.part.amount == pytest.approx(-other.part.amount)


def test_without_the_heaviest_a_narrow_effect_is_gone_and_a_broad_one_is_not():
    rng = np.random.default_rng(18)
    base = accounts.of(hours(rng, 30_000), hours(rng, 10))
    broad, narrow = (parts.leave_out(a) for a in stories_.two(base, rng=rng))
    assert abs(narrow["diff"].iloc[-1]) < 0.5 * narrow["diff"].iloc[0]
    assert broad["diff"].iloc[-1] > 0.5 * broad["diff"].iloc[0]
    means = [estimators.mean(a) for a in stories_.two(base, rng=rng)]
    assert all(m.p < 0.05 for m in means)


def test_the_planned_mean_comes_first_and_the_words_follow_plan_and_direction():
    rng = np.random.default_rng(19)
    (arms,) = launches(rng, 1, lambda x: x + 600 * (rng.random(len(x)) < 0.01))
    plain, meant = (influence.check(arms, heavy_viewers_are_target=t) for t in (False, True))
    assert (plain.passed, meant.passed) == (False, True)
    assert "as intended" in meant.detail
    limited = replace(arms, cap=0.999, limit=300.0)
    first = [
        influence.primary(arms),
        influence.primary(limited),
        influence.primary(arms, heavy_viewers_are_target=True),
    ]
    planned = ["mean", "mean capped at the 99.9% quantile of those that have any", "mean"]
    assert [r[0].name for r in first] == planned
    assert first[0][0].estimate == replace(estimators.mean(arms), metric="hours: mean")
    assert first[1][0].estimate.diff == estimators.capped(arms, 300.0).diff
    assert [r.name for r in first[2]] == ["mean", "mean of the heaviest tenth before"]
    assert first[2][1].estimate.n_control < 0.15 * arms.n[0]
    told = influence.answer(arms, plain, first[0][0])
    assert re.fullmatch(
        r"hours \(mean\): \+\d\.\d+ \(between \+\d\.\d+ and \+\d\.?\d+\); "
        r"by this measure a rise, and so a gain, stands out from chance\.",
        told[1],
    )
    assert "Do not tell it as a gain for everybody" in told[2]
    assert "keep every one of them in" in influence.answer(arms, meant, first[2][0], heavy_viewers_are_target=True)[2]
    worse = replace(arms, better="lower")
    asked = influence.check(worse)
    assert asked.detail.endswith("What the average account lost, most did not.")
    told = influence.answer(worse, asked, influence.primary(worse)[0])
    assert "a rise, and so a loss, stands out" in told[1]
    assert "Do not tell it as a loss for everybody" in told[2]


def test_a_mean_that_rises_is_never_told_of_most_accounts():
    """Where 8 % gain 150 hours and others lose a fifth, the median falls; with a tenth, 60 and 5 % even it rises."""
    rng = np.random.default_rng(31)

    def told(few, more, loss):
        for arms in launches(rng, 10, lambda x: np.where(rng.random(len(x)) < few, x + more, (1 - loss) * x)):
            found = influence.check(arms)
            yield found, influence.answer(arms, found, influence.primary(arms)[0])[2]

    falls, hidden, all_gain = list(told(0.08, 150, 0.2)), list(told(0.1, 60, 0.05)), list(told(0, 0, -0.06))
    against = "Not shared: the mean came out higher, but the middle of the accounts lies lower"
    assert sum(found.passed is False and found.detail.startswith(against) for found, _ in falls) >= 8
    assert not any(found.passed and "may be read as it is" in said for found, said in falls)
    for found, said in (*hidden, *all_gain):
        assert not found.passed or "How many gained, two crowds cannot say." in said or "may not be most" in said
    assert sum(bool(found.passed) for found, _ in all_gain) >= 8
    (arms,) = launches(rng, 1, lambda x: 1.1 * x)
    hangs = Check(name="Choice of cap", passed=False, detail="")
    said = influence.answer(arms, influence.check(arms), influence.primary(arms)[0], hangs)[2]
    assert said == "Quote it with a cap and without: how large it is hangs on that choice."


def test_who_was_heavy_is_told_by_one_column_and_a_numerator_has_no_better_way(tmp_path):
    rng = np.random.default_rng(32)
    past = np.exp(3 + rng.normal(0, 1, 4_000))
    table = pd.DataFrame(
        {
            "user": range(4_000),
            "version": np.repeat(["old", "new"], 2_000),
            "past": past,
            "age": rng.integers(18, 80, 4_000),
        }
    )
    table["hours"] = past * np.exp(rng.normal(0, 0.3, 4_000)) + 6 * (
        (table["version"] == "new") & (past > np.quantile(past, 0.9))
    )
    table["visits"] = 1 + rng.poisson(5, 4_000)
    table.to_csv(tmp_path / "t.csv", index=False)

    def read(rule, metric):
        (tmp_path / "t.yaml").write_text(
            "name: t\ndata: {units: t.csv, account: user, arm: version}\narms: {control: old, treatment: new}\n"
            "metrics:\n  north_star: {name: hours, kind: mean, column: hours, better: higher, covariates: [age, past]}\n"
            "  supporting:\n    - {name: each, title: Hours a visit, kind: ratio, better: higher, numerator: {column: hours},"
            " denominator: {column: visits}}\n"
            f"outliers: {{rule: none, heavy_viewers_are_target: true{rule}}}\n"
        )
        return accounts.read(study.open(load(tmp_path / "t.yaml")), metric)

    unsaid = influence.primary(read("", "hours"), heavy_viewers_are_target=True)[1].estimate
    assert "'outliers: {heavy_by: …}'" in unsaid.reason
    heavy = influence.primary(read(", heavy_by: past", "hours"), heavy_viewers_are_target=True)[1].estimate
    assert heavy.low < 6 < heavy.high
    with pytest.raises(
        LaunchError, match="'heavy_by' names 'pats', which is no covariate of the plan; did you mean 'past'"
    ):
        read(", heavy_by: pats", "hours")
    ratio = read("", "each")
    assert (ratio.title, ratio.better) == ("Hours a visit, its numerator", "")
    said = influence.answer(ratio, influence.check(ratio), influence.primary(ratio)[0])
    assert not any(word in " ".join(said) for word in ("gain", "loss"))


def test_a_conclusion_hangs_on_the_cap_where_a_few_carry_it_and_not_where_all_gain():
    rng = np.random.default_rng(24)
    few, all_, none = of_three_stories(influence.cap_choice, 30, rng)
    assert sum(c.passed is False for c in few) >= 22
    assert sum(c.passed is True for c in few) <= 4  # where what is left stands out by chance, one in twenty
    assert sum(c.passed is True for c in all_) >= 25
    assert not any(c.passed is False for c in all_)
    assert sum(c.passed is not None for c in none) <= 5  # nothing that could hang on a cap
    failed = next(c for c in few if c.passed is False)
    assert failed.detail.startswith("The gain hangs on the choice of the cap: capped at ")
    (turned,) = launches(rng, 1, lambda x: np.where(rng.random(len(x)) < 0.01, x + 900, 0.9 * x))
    assert influence.cap_choice(turned).passed is False


def test_arms_whose_data_failed_a_check_show_no_effect():
    rng = np.random.default_rng(21)
    failed = [Check(name="Arm counts", passed=False, detail="")]
    closed = accounts.gate(accounts.of(hours(rng, 500), hours(rng, 500)), failed)
    found = [r.estimate for r in (*readings.readings(closed, rng=rng), *influence.primary(closed))]
    assert {e.reason for e in found if isinstance(e, NotEstimable)} == {
        "not shown, because the check 'Arm counts' failed",
        "the data do not say who was heavy before the launch",
    }
    assert not any(isinstance(e, Estimate) for e in found)
    assert readings.curve(closed).empty
    assert parts.leave_out(closed).empty
    assert influence.check(closed).passed is None
    for chart in (
        plots.leave_out(parts.leave_out(closed), label="h"),
        plots.quantile_differences(readings.curve(closed), label="h"),
    ):
        figure.show(chart, caption="Nothing to draw.", alt="An empty chart.")


def test_a_share_without_a_bound_is_written_without_one():
    """A difference of just two errors: how large a part of it something is, has hardly an upper limit."""
    rng = np.random.default_rng(3)
    base = rng.gamma(1.1, 10, 4_000)
    control, treatment = base[:2_000], base[2_000:]
    treatment = treatment - treatment.mean() + control.mean()
    se = np.hypot(control.std(ddof=1), treatment.std(ddof=1)) / np.sqrt(2_000)
    found = parts.split(accounts.of(control, treatment + 1.9607 * se), 0.01)
    assert found.part.low < -10 < found.part.high < 10
    said = parts.splits(accounts.of(control, treatment + 1.9607 * se), [0.01])["as a share"].iloc[0]
    assert said == f"−2% (at most {found.part.high:.0%})"


def test_events_that_stop_at_a_greatest_value_do_not_make_a_quantile_near_it_certain():
    """Launches without effect, waits cut at a timeout that 48 % of them reach: 9 % (of 600) were called different."""
    rng, wrong, runs = np.random.default_rng(7), 0, 300
    for _ in range(runs):
        arms = []
        for n in (1_000, 300):
            account = np.repeat(np.arange(n), 1 + rng.poisson(4, n))
            waited = 0.5 * rng.normal(size=n)[account] + rng.normal(size=len(account))
            arms.append((np.minimum(waited, 0.0501 * np.sqrt(1.25)), account))
        (e,) = quantiles.of_events(*arms, [0.5])
        wrong += not e.low <= 0 <= e.high
    assert wrong <= stats.binom.ppf(0.99, runs, 0.05)


def test_the_planned_mean_and_what_is_said_of_its_parts_agree_on_whether_there_is_an_effect():
    """Rare counts and weights, 27 to 130 treated accounts beside more: 06 said of one page that the gain stands out."""
    rng, said = np.random.default_rng(8), []
    for _ in range(60):
        n = int(rng.integers(200, 400)), int(rng.integers(27, 130))
        control, treatment = (
            rng.poisson(x, k).astype(float) for x, k in zip((0.13, rng.choice([0.02, 0.4])), n, strict=True)
        )
        weights = tuple(rng.choice([1.0, 8.0], k) for k in n) if rng.random() < 0.3 else None
        arms = replace(accounts.of(control, treatment), weights=weights)
        e, left = estimators.mean(arms), parts.leave_out(arms, [0.0]).iloc[0]
        told = e.low > 0 or e.high < 0
        found = parts.split(arms, 0.1)
        assert (found.part.share is not None) == told
        assert (influence.cap_choice(arms).detail.startswith("Not asked: as planned")) == (not told)
        assert tuple(left[["diff", "low", "high"]]) == pytest.approx((e.diff, e.low, e.high))
        said.append(told)
    assert 10 < sum(said) < 50


def test_where_all_others_have_nothing_what_they_bring_has_no_limits():
    few = np.array([0.0] * 990 + [1.0, 2.0] * 5)
    left = parts.leave_out(accounts.of(few, 2 * few), [0.0, 0.05])
    assert left["diff"].tolist() == pytest.approx([0.015, 0.0])  # 15 more over 1,000 accounts, and nobody else has any
    assert left["low"].isna().tolist() == [False, True]


def test_shares_cannot_be_carried_by_a_few_and_small_tops_are_not_asked():
    rng = np.random.default_rng(20)
    kept = replace(accounts.of(rng.random(100) < 0.5, rng.random(100) < 0.6), shares=True)
    assert influence.check(kept).passed is True
    assert influence.cap_choice(kept).passed is None
    once = "every account counts at most once in a share"
    empty = (parts.splits(kept), parts.leave_out(kept), estimators.caps(kept), readings.curve(kept))
    assert [(len(frame), frame.attrs["why"]) for frame in empty] == [(0, once)] * 4
    alone = readings.readings(kept, rng=rng, replicates=50)
    assert readings.questions(alone).attrs["why"] == "of a share there is only the mean"
    (only,) = influence.primary(kept)
    told = influence.answer(replace(kept, title="Stayed"), influence.check(kept), only)
    assert told[0].endswith("cannot carry it.")
    assert told[1].startswith("Stayed (mean): ")
    assert "percentage points" in influence.answer(kept, influence.check(kept), only)[1]
    few = accounts.of(hours(rng, 90), hours(rng, 90))
    assert influence.check(few).passed is None
    assert parts.splits(few).empty
    assert parts.leave_out(accounts.of([], [])).empty
    assert estimators.caps(accounts.of([], [])).empty
    with pytest.raises(ParameterError, match="must be above 0 and at most"):
        parts.split(few, 0.9)


# Launches of the simulated service


def simulated(folder, scenario, *, seed=1, n=(3_000, 1_500), metrics="hours_per_account_week", pre_days=28, more=""):
    """Open a small launch of a scenario."""
    path = folder / "planted.yaml"
    path.write_text(
        textwrap.dedent(f"""\
            name: planted
            data: {{source: simulate, scenario: {scenario}, accounts: {round(1.2 * sum(n))}, seed: {seed}}}
            arms: {{control: control, treatment: treated}}
            dates: {{start: 2026-09-07, days: 28, pre_days: {pre_days}}}
            sampling: {{n: {{control: {n[0]}, treated: {n[1]}}}}}
            metrics: {{north_star: {metrics}}}
            """)
        + textwrap.dedent(more)
    )
    return study.open(load(path))


def test_a_slow_tail_breaches_the_margin_of_a_far_quantile_and_passes_that_of_the_mean(tmp_path):  # +10 %, both
    more = """\
        decision: {adjust: false}
        segments: [device]
    """
    data = simulated(tmp_path, "slow_tail", n=(2_500, 2_500), pre_days=1, metrics="play_delay_ms", more=more)
    mean = scorecard.measure(data).claims[0].estimate
    assert mean.rel_high < 0.1
    asked = ("play_delay_ms_p50", "play_delay_ms_p99")
    found = {name: events.compare(data, metrics.get(name), treatment="treated") for name in asked}
    assert found["play_delay_ms_p99"].rel_low > 0.1
    assert found["play_delay_ms_p99"].rel == pytest.approx(0.4, abs=0.15)  # planted: the slow networks 40 % slower
    assert abs(found["play_delay_ms_p50"].rel) < 0.06
    assert events.compare(data, metrics.get("hours_per_account_week"), treatment="treated").reason.endswith(
        "is no quantile"
    )
    median = metrics.get("play_delay_ms_p50")
    rows = query.values(data, median).execute().merge(data.table("accounts").execute()[["account", "device"]])
    (apart,) = segments.effects(data, median)
    assert [s.level for s in apart.segments] == sorted(rows["device"].unique())
    for s in apart.segments:
        own = rows[rows["device"] == s.level]
        for arm, got in (("control", s.estimate.control), ("treated", s.estimate.treatment)):
            mine = own[own["arm"] == arm]  # strata are shared out in whole accounts, so that weights differ a little
            middle = np.quantile(mine["value"], 0.5, weights=mine[WEIGHT], method="inverted_cdf")
            assert got == pytest.approx(middle, abs=1)  # of two values that share the middle, rounding takes one
            assert got == pytest.approx(mine["value"].median(), rel=0.01)
        assert s.estimate.n_control == own[own["arm"] == "control"]["account"].nunique()


def test_a_quantile_of_accounts_on_an_own_table_is_that_of_its_column(tmp_path):
    rows = pd.DataFrame(
        {"id": range(2_000), "arm": ["c", "t"] * 1_000, "hours": np.random.default_rng(5).gamma(2, 5, 2_000)}
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    path = tmp_path / "own.yaml"
    path.write_text(
        textwrap.dedent("""\
            name: own
            data: {units: rows.csv, account: id, arm: arm}
            arms: {control: c, treatment: t}
            metrics:
              north_star: {name: hours, kind: mean, column: hours, better: higher}
              supporting:
                - {name: middle, kind: quantile, quantile: 0.5, column: hours, better: higher}
            sampling: {n: {c: 1, t: 1}}
            """)
    )
    found = {c.estimate.metric: c.estimate for c in scorecard.measure(study.open(load(path))).claims}["middle"]
    middle = rows.groupby("arm")["hours"].median()  # pandas
    assert (found.control, found.treatment) == pytest.approx((middle["c"], middle["t"]))
    assert found.low < found.diff < found.high


def test_a_slow_tail_is_seen_in_quantiles_and_missed_by_a_mean_that_hanging_sessions_carry():
    """A second planted case beside the scenario, in which the mean is not blind.

    There the slow network's 5 % of sessions take 40 % longer in a tail as light as a lognormal's, and the mean rises by
    7 %; a p99 that rises by 40 % raises it by at least 0.01 x 0.4 x p99 / mean = 1.9 %. A launch sees both. Here 0.4 % of
    sessions also hang for minutes, in both arms alike, which brings the mean to the 4.8 s that Akamai (2017) published:
    the same slow tail is then 3 % of a mean whose coefficient of variation is about 16.
    """
    rng, times, n = np.random.default_rng(22), 40, 10_000

    def arm(factor):
        account = np.repeat(np.arange(n), rng.poisson(6.4, n))  # a week
        delay = 1.8 * np.exp(0.5 * rng.standard_normal(len(account)))
        delay *= np.where(rng.random(len(account)) < 0.05, factor, 1)
        hangs = rng.random(len(account)) < 0.004
        delay[hangs] += 300 * np.exp(1.2 * rng.standard_normal(hangs.sum()))
        return delay, account

    found = []
    for _ in range(times):
        control, treatment = arm(4.0), arm(4.0 * 1.4)
        sums = [np.column_stack([np.bincount(a, d, n), np.bincount(a, None, n)]) for d, a in (control, treatment)]
        mean = bootstrap.difference(*sums, bootstrap.RATIO, rng=rng, replicates=200)
        median, far = quantiles.of_events(control, treatment, [0.5, 0.99])
        found.append([mean.low > 0, median.low > 0, far.low > 0])
    missed, still, caught = np.mean(found, axis=0)
    assert missed < 0.2
    assert still < 0.2
    assert caught > 0.95


def test_a_few_heavy_accounts_move_the_chance_to_have_more_by_a_quarter_of_a_point():
    """Half of 0.5 % of the accounts: a treated account that binges overtakes the half of the others it lay below.

    With the variance 1/12 (1/n + 1/m) a rank test then rejects in 9.4 % of launches of 10,000 + 10,000 accounts, and in
    11.6 % of 30,000 + 10,000: the planted 10 %.
    """
    rng, over = np.random.default_rng(23), []
    for _ in range(80):
        control, treatment = hours(rng, 10_000), hours(rng, 10_000)
        over.append(ranks.rank(accounts.of(control, treatment + 350 * (rng.random(10_000) < 0.005))).diff)
    assert np.mean(over) == pytest.approx(0.0025, abs=3 * np.std(over) / np.sqrt(80))
    assert np.std(over) == pytest.approx(np.sqrt(2 / 10_000 / 12), rel=0.25)
    z = 0.0025 / np.sqrt(np.array([1 / 10_000 + 1 / 10_000, 1 / 30_000 + 1 / 10_000]) / 12)
    power = stats.norm.sf(1.96 - z) + stats.norm.sf(1.96 + z)
    assert power == pytest.approx([0.094, 0.116], abs=0.001)


@functools.cache
def pooled(scenario):
    """Simulate a service twice with the same luck, without events: hours before, without the launch, and with it."""
    pool = simulate.pool(simulate.Simulation(scenario=scenario, accounts=24_000, seed=5))
    before, hours = (pool.columns.index(name) for name in ("hours_before", "hours"))
    usual, changed = (world[:, [before, hours]].astype(float) / 4 for world in (pool.control, pool.treatment))
    return usual[:, 0], usual[:, 1], changed[:, 1]


def dealt(scenario, runs):
    """Deal the same accounts into two arms again and again."""
    before, usual, changed = pooled(scenario)
    rng = np.random.default_rng(25)
    for _ in range(runs):
        new = rng.random(len(usual)) < 0.5
        arms = accounts.of(usual[~new], changed[new], metric="hours_per_account_week", unit="h/week")
        yield replace(arms, control_before=before[~new, None], treatment_before=before[new, None])


def test_the_chapter_calls_binges_of_a_few_concentrated_and_a_lift_of_all_broad():
    """Per scenario, ten launches of 12,000 + 12,000 accounts; +4.3 % by 0.5 % of the accounts, or 3 % longer sessions."""
    told = {}
    for scenario in ("outlier_driven", "broad_lift"):
        for arms in dealt(scenario, 10):
            first, found, choice = influence.primary(arms)[0], influence.check(arms), influence.cap_choice(arms)
            assert first.name == "mean"
            told.setdefault(scenario, []).append(
                (first.estimate.low > 0, found.passed, choice.passed, influence.answer(arms, found, first))
            )
    few, all_ = (list(zip(*told[s], strict=True)) for s in ("outlier_driven", "broad_lift"))
    assert sum(few[0]) >= 9  # the mean finds it, in 90 % or more of launches
    assert few[1].count(False) >= 6
    assert few[2].count(False) >= 6
    assert True not in few[1]
    assert "Do not tell it as a gain for everybody" in few[3][few[1].index(False)][2]
    assert all_[1].count(True) >= 4
    assert False not in (*all_[1], *all_[2])
    assert (
        "The plain mean may be read as it is; the middle of the accounts lies higher" in all_[3][all_[1].index(True)][2]
    )
    (arms,) = dealt("outlier_driven", 1)
    stories = stories_.invent(arms, rng=np.random.default_rng(1))
    table = readings.side_by_side(stories, rng=np.random.default_rng(1), replicates=200).set_index("method")
    assert table.loc["mean", "finds that"] == "everybody gains and a few gain"
    assert table.loc["rank test (Brunner-Munzel)", "finds that"] == "everybody gains"


def test_the_few_of_a_planted_launch_are_found_and_kept_where_they_are_meant(tmp_path):
    target = "outliers: {rule: none, heavy_viewers_are_target: true}\n"
    data = simulated(tmp_path, "heavy_target", seed=3, n=(6_000, 6_000), more=target)
    meant = influence.concentration(data)
    arms = accounts.read(data)
    found = influence.check(arms)
    assert arms.control_before.shape == (6_000, 1)
    assert found.detail.startswith("Cannot tell: the heaviest 5% of accounts")  # whose 78% may be half, or all
    assert found == meant
    (larger,) = dealt("heavy_target", 1)
    asked = (influence.check(larger, heavy_viewers_are_target=t) for t in (False, True))
    assert [(c.passed, c.detail[:26]) for c in asked] == [
        (False, "Concentrated: the heaviest"),
        (True, "Concentrated, as intended:"),
    ]
    assert influence.cap_choice(arms).passed is False
    asked = influence.survives_caps(data), influence.cap_choice(arms, heavy_viewers_are_target=True)
    assert all(c.passed is None and c.detail.startswith("Not asked: the launch is for those who watch") for c in asked)
    assert influence.primary(arms, heavy_viewers_are_target=True)[0].name == "mean"
    few = arms.treatment > np.quantile(arms.pooled, 0.999)
    assert few.sum() > 5  # nobody was taken out
    with pytest.raises(ParameterError, match="did you mean 'treated'"):
        accounts.read(data, treatment="treatd")
    with pytest.raises(ParameterError, match="not in the plan"):
        accounts.read(data, "hours")


def test_a_launch_for_heavy_viewers_without_any_amount_is_not_asked_about_caps(players):
    players[0].write_text(
        "name: gate\ndata: {units: players.csv, account: user, arm: version}\narms: {control: old, treatment: new}\n"
        "metrics: {north_star: hours_per_account_week}\noutliers: {rule: none, heavy_viewers_are_target: true}\n"
    )  # hours that a table without events does not hold
    data = study.open(load(players[0]))
    assert influence.survives_caps(data).detail == "Not asked: the plan has no amount that could be capped."
    arms, why = accounts.read(data), "no metric of the plan is an amount per account in these data"  # and no DataError
    assert (arms.closed, arms.n, arms.title) == (why, (0, 0), data.launch.plan[0].metric.title)
    assert accounts.chosen(data).why.startswith(f"{why}; the north star cannot: it needs the event table 'plays'")
    found = readings.readings(arms, rng=np.random.default_rng(1))
    assert [r.estimate.reason for r in found] == [why] * len(found)
    assert influence.check(arms).detail == f"Cannot tell: {why}."
    with pytest.raises(DataError, match="'hours_per_account_week' cannot be read here: it needs the event table"):
        accounts.read(data, "hours_per_account_week")


def test_where_nobody_has_anything_no_text_names_an_amount_without_end():
    arms = accounts.of(np.zeros(30), np.zeros(40), metric="calls", unit="calls")
    found = readings.readings(arms, rng=np.random.default_rng(1))
    said = {r.name: r.estimand for r in (*found, *influence.primary(arms))}
    assert not [text for text in said.values() if "inf" in text.split()]
    assert said["logarithm after adding 1"].startswith("a factor on amounts plus 1 (in calls);")
    assert estimators.limited(arms, 12_345.6) == "what it gains when no account counts for more than 12,350 calls"
    assert found[-1].estimate.reason == "all have the same amount"  # and not that some lie below 0


def test_an_amount_is_read_from_an_own_table_with_its_past(players):
    path, table = players
    arms = accounts.read(study.open(load(path)))
    new = table[table["version"] == "new"]
    assert sorted(arms.treatment) == pytest.approx(sorted(new["hours"]))
    assert sorted(arms.treatment_before[:, 0]) == pytest.approx(sorted(new["history"]))
    assert accounts.read(study.open(load(path)), "kept").shares
    assert accounts.read(study.open(load(path)), "per_session").treatment.sum() == pytest.approx(new["hours"].sum())
