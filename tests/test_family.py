"""Families: corrections equal R's and scipy's, and the intervals beside them hold together and say the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import case, data
from scipy import special, stats
from statsmodels.stats import multitest

from helpers import inference
from helpers.errors import ParameterError
from helpers.inference import limits
from helpers.inference.family import adjust_family
from helpers.results import Estimate, NotEstimable

ALPHA = 0.05


def estimate(z, level=1 - ALPHA, p=None):
    """A difference that is known up to a normal error of 1, on a control value of 10."""
    q = special.ndtri((1 + level) / 2)
    p = 2 * special.ndtr(-abs(z)) if p is None else p
    return Estimate(
        metric="m", control=10, treatment=10 + z, diff=z, se=1, low=z - q, high=z + q, rel=z / 10, rel_low=(z - q) / 10,
        rel_high=(z + q) / 10, p=float(p), n_control=9, n_treatment=9, method="z", mde=2.8, level=level,
    )  # fmt: skip


def family(zs, method="holm"):
    return adjust_family([estimate(z) for z in zs], method=method, at=lambda level: [estimate(z, level) for z in zs])


def of(p, method):
    return [e.p_adjusted for e in adjust_family([estimate(1.0, p=x) for x in p], method=method)]


@given(st.lists(st.tuples(st.floats(-4, 4), st.booleans()), min_size=1, max_size=5))
def test_a_metric_that_should_fall_is_corrected_as_the_mirror_image_of_one_that_should_rise(drawn):
    def turned(level=1 - ALPHA):
        return [estimate(-z if falls else z, level) for z, falls in drawn]

    up = family([z for z, _ in drawn])
    mixed = adjust_family(turned(), at=turned, better=["lower" if falls else "higher" for _, falls in drawn])
    for a, b, (_, falls) in zip(up, mixed, drawn, strict=True):
        assert b.p_adjusted == pytest.approx(a.p_adjusted)
        ends = (-a.high_adjusted, -a.low_adjusted) if falls else (a.low_adjusted, a.high_adjusted)
        assert (b.low_adjusted, b.high_adjusted) == pytest.approx(ends)


@pytest.mark.parametrize("name", ["bh1995", "ties"])
def test_corrections_equal_r(name):
    c = case(f"multiple_testing__{name}")
    for ours, theirs in (("holm", "holm"), ("bonferroni", "bonferroni"), ("bh", "BH")):
        found = of(c["inputs"]["p"], ours)
        assert found == pytest.approx(c["expected"][theirs], rel=1e-6)
        rejected = {"holm": "n_reject_holm", "bonferroni": "n_reject_bonf_05", "bh": "n_reject_BH_05"}[ours]
        if rejected in c["expected"]:
            assert np.sum(np.array(found) < ALPHA) == c["expected"][rejected]


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrections_equal_statsmodels(p):
    for ours, theirs in (("holm", "holm"), ("bonferroni", "bonferroni"), ("bh", "fdr_bh")):
        assert of(p, ours) == pytest.approx(list(multitest.multipletests(p, method=theirs)[1]), rel=1e-9, abs=1e-300)


def test_corrections_of_381_real_tests_reject_as_many_as_r():
    c = case("multiple_testing__asos_381_tests")
    last = data(c).dropna(subset=["variance_c", "variance_t"])
    last = last.sort_values("time_since_start").groupby(["experiment_id", "variant_id", "metric_id"]).tail(1)
    n, v, mean = (last[[f"{x}_c", f"{x}_t"]].to_numpy(float).T for x in ("count", "variance", "mean"))
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing varies
        _, found = limits.welch(mean, v, n, 1 - ALPHA)
    p = found[np.isfinite(found)]
    want = c["expected"]
    assert (len(p), np.sum(p < ALPHA)) == (want["n_tests"], want["n_p_lt_05"])
    counts = [np.sum(np.array(of(p, method)) < ALPHA) for method in ("bh", "holm", "bonferroni")]
    assert counts == [want["n_BH_05"], want["n_holm_05"], want["n_bonf_05"]]


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_where_all_point_one_way_both_directions_together_are_holm(p):
    assert of(p, "holm") == pytest.approx(inference.holm(p).tolist(), rel=1e-12)


@given(
    zs=st.lists(st.floats(-5, 5).filter(bool), min_size=1, max_size=5), method=st.sampled_from(["holm", "bonferroni"])
)
@settings(max_examples=60, deadline=None)
def test_the_interval_that_holds_together_excludes_zero_exactly_if_the_corrected_p_is_small(zs, method):
    plain = inference.holm([estimate(z).p for z in zs])
    for e, least in zip(family(zs, method), plain, strict=True):
        claimed = e.p_adjusted < ALPHA
        assert claimed == (e.low_adjusted >= 0 or e.high_adjusted <= 0)
        assert claimed == (e.rel_low_adjusted >= 0 or e.rel_high_adjusted <= 0)
        assert e.low_adjusted <= e.diff <= e.high_adjusted
        assert e.low_adjusted <= max(e.low, 0)
        assert e.high_adjusted >= min(e.high, 0)
        assert e.p <= e.p_adjusted <= 1
        assert e.p_adjusted >= least - 1e-15


def test_holms_limits_by_hand():
    """z of 3 and 2: both claimed (p 0.0027 and 0.0455 below 0.025 and 0.05), so both keep what the 97.5 % limit leaves."""
    two = stats.norm.isf(0.0125)
    first, second = family([3, 2])
    assert [first.low_adjusted, first.high_adjusted] == pytest.approx([3 - two, 3 + two])
    assert [second.low_adjusted, second.high_adjusted] == pytest.approx([0, 2 + two])
    first, second = family([3, 1])  # the second is left alone, at its own 95 % below and 97.5 % above
    assert [first.low_adjusted, first.high_adjusted] == pytest.approx([0, 3 + two])
    assert [second.low_adjusted, second.high_adjusted] == pytest.approx([1 - stats.norm.isf(0.025), 1 + two])
    assert [e.low_adjusted for e in family([3, 1], "bonferroni")] == pytest.approx([3 - two, 1 - two])


@pytest.mark.parametrize("truth", [(0, 0, 0), (0, 0, 8), (0, 2.2, 4.5), (0, 3, -3)])
def test_intervals_cover_all_truths_at_once(truth):
    """At least 95 % by design; 500 runs have an error of 1 point. An end at 0 belongs to what is excluded."""
    rng = np.random.default_rng(20261127)
    held = []
    for z in rng.multivariate_normal(truth, 0.5 + 0.5 * np.eye(3), 500):
        ends = [(e.low_adjusted, e.high_adjusted, e.p_adjusted < ALPHA) for e in family(z)]
        held.append(
            all(
                low <= t <= high and not (claimed and t == 0)
                for (low, high, claimed), t in zip(ends, truth, strict=True)
            )
        )
    assert np.mean(held) >= 1 - ALPHA - 3 * 0.01


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_a_list_by_q_holds_few_false_discoveries(correlation):
    """Nine of twelve without effect: 10 % x 9 / 12 by design; two-sided, and estimates lean together."""
    rng = np.random.default_rng(20261128)
    truth = np.repeat([0.0, 3.0], [9, 3])
    shares = []
    for z in rng.multivariate_normal(truth, correlation + (1 - correlation) * np.eye(12), 600):
        listed = np.array([e.p_adjusted < 0.1 for e in adjust_family([estimate(x) for x in z], method="bh")])
        shares.append(listed[:9].sum() / max(listed.sum(), 1))
    assert np.mean(shares) <= 0.075 + 3 * np.std(shares) / np.sqrt(len(shares))


def test_what_is_not_corrected_stays_and_what_was_not_estimated_is_not_counted():
    none = NotEstimable(metric="x", reason="no data")
    alone = [none, estimate(2.0)]
    assert adjust_family(alone, method="none") == alone
    again = adjust_family(alone, at=lambda level: [none, estimate(2.0, level)])
    assert again[0] is none
    assert again[1].p_adjusted == pytest.approx(again[1].p)
    assert (again[1].low_adjusted, again[1].high_adjusted) == pytest.approx((again[1].low, again[1].high))
    assert adjust_family([none], at=lambda _: [none]) == [none]
    with pytest.raises(ParameterError, match="method is 'hom'; did you mean 'holm'"):
        adjust_family(alone, method="hom")
    with pytest.raises(ParameterError, match="several confidence levels"):
        adjust_family([estimate(1.0), estimate(1.0, 0.9)])


@pytest.mark.parametrize("at", [0, 1, 2])
def test_limits_that_a_higher_level_does_not_have_are_missing_and_the_others_stay_their_own(at):
    """As of a quantile of few accounts. Its mde is that of a normal error of 1: 2.8, and what alpha / 3 adds to it."""
    zs = [3.0, 0.5, -1.0]

    def wider(level):
        lost = NotEstimable(metric="m", reason="too few accounts")
        return [lost if i == at and level > 1 - ALPHA else estimate(z, level) for i, z in enumerate(zs)]

    found, whole = adjust_family([estimate(z) for z in zs], at=wider), family(zs)
    assert [e for i, e in enumerate(found) if i != at] == [e for i, e in enumerate(whole) if i != at]
    e, claimed = found[at], at == 0
    assert (e.p_adjusted, e.low_adjusted, e.high_adjusted) == (whole[at].p_adjusted, 0.0 if claimed else None, None)
    assert e.mde == pytest.approx(2.8 + stats.norm.isf(ALPHA / 6) - stats.norm.isf(ALPHA / 2))
