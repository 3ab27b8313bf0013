"""Checks equal scipy and R, fire as often as they should, and say what they found and what they did not ask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers import validity
from helpers.errors import ParameterError
from helpers.results import Check, Estimate, NotEstimable

CASES = Path(__file__).resolve().parents[2] / "shared" / "reference" / "cases"
EVEN = {"control": 0.5, "early": 0.5}


def estimate(metric: str, p: float, **slices: str) -> Estimate:
    return Estimate(
        metric=metric,
        slice=slices,
        control=2.0,
        treatment=2.5,
        diff=0.5,
        se=0.1,
        low=0.3,
        high=0.7,
        rel=0.25,
        rel_low=0.15,
        rel_high=0.35,
        p=p,
        n_control=100,
        n_treatment=100,
        method="Welch t",
        mde=0.28,
    )


@pytest.mark.parametrize("name", ["cookiecats", "made_10_10_80", "wikipedia_600_400"])
def test_arm_counts_equal_r(name):
    path = CASES / f"srm_chisq__{name}.json"
    if not path.exists():
        pytest.skip(f"the reference cases are not here: {path.name}")
    case = json.loads(path.read_text())
    counts = {f"arm {i}": n for i, n in enumerate(case["inputs"]["counts"])}
    planned = {f"arm {i}": share for i, share in enumerate(case["inputs"]["expected_share"])}
    check = validity.srm(counts, planned)
    assert check.p == pytest.approx(case["expected"]["p"], rel=1e-6)
    assert check.passed == (case["expected"]["p"] >= 0.001)


@given(
    counts=st.lists(st.integers(1, 10**7), min_size=2, max_size=5),
    shares=st.lists(st.floats(0.01, 100), min_size=5, max_size=5),
)
def test_arm_counts_equal_scipy_for_shares_of_any_size(counts, shares):
    arms = [f"arm {i}" for i in range(len(counts))]
    planned = np.array(shares[: len(counts)])
    oracle = stats.chisquare(counts, planned / planned.sum() * sum(counts)).pvalue
    check = validity.srm(dict(zip(arms, counts, strict=True)), dict(zip(arms, planned, strict=True)))
    assert check.p == pytest.approx(oracle, rel=1e-9, abs=1e-300)


def test_the_order_of_arms_does_not_matter():
    counts, planned = {"a": 600, "b": 300}, {"b": 1.0, "a": 2.0}
    assert validity.srm(counts, planned).p == pytest.approx(1.0)


def test_a_mismatch_tells_observed_planned_and_what_it_means():
    check = validity.srm({"control": 30_000, "early": 9_500}, {"control": 30_000, "early": 10_000})
    assert check.passed is False
    assert "early 9,500 (24.05%, planned 25.00%)" in check.detail
    assert "the effects cannot be trusted" in check.detail


def test_a_sound_assignment_fails_as_rarely_as_alpha_says():
    rng = np.random.default_rng(20261121)
    treated = rng.binomial(10_000, 0.25, 4000)
    failed = [
        not validity.srm({"control": 10_000 - t, "early": int(t)}, {"control": 3, "early": 1}, alpha=0.05).passed
        for t in treated
    ]
    assert 0.04 < np.mean(failed) < 0.06  # 3 standard errors of 4,000 draws at 5 %


@pytest.mark.parametrize(
    ("counts", "expected", "why"),
    [
        ({"control": 5, "early": 5}, None, "No split was planned"),
        ({"control": 0, "early": 0}, EVEN, "at least two arms and one account"),
        ({"control": 5}, {"control": 1.0}, "at least two arms"),
    ],
)
def test_a_count_check_that_cannot_be_asked_neither_passes_nor_fails(counts, expected, why):
    check = validity.srm(counts, expected)
    assert check.passed is None
    assert check.p is None
    assert why in check.detail


@pytest.mark.parametrize(
    ("counts", "expected", "sentence"),
    [
        ({"control": 5, "erly": 5}, EVEN, "the arms counted are control, erly, but those planned are control, early"),
        ({"control": 5, "early": -1}, EVEN, "counts must be 0 or more"),
        ({"control": 5, "early": 5}, {"control": 1.0, "early": 0.0}, "planned shares above 0"),
        ({"control": 5, "early": 5}, {"control": 1.0, "early": float("nan")}, "planned shares above 0"),
    ],
)
def test_plans_that_do_not_fit_are_refused(counts, expected, sentence):
    with pytest.raises(ParameterError, match=sentence):
        validity.srm(counts, expected)


def test_a_difference_before_the_launch_is_found_and_named():
    check = validity.pre_period([estimate("hours", 0.3), estimate("plays", 2e-4, device="tv"), estimate("opens", 0.9)])
    assert check.passed is False
    assert check.p == pytest.approx(6e-4)
    assert "plays, device tv was 2 in control and 2.5 in treatment" in check.detail


def test_the_bar_rises_with_the_number_of_metrics():
    one = estimate("hours", 6e-4)
    assert validity.pre_period([one]).passed is False
    passed = validity.pre_period([one, estimate("plays", 0.5)])
    assert passed.passed is True
    assert "none of 2 metrics" in passed.detail


def test_without_a_comparable_metric_the_pre_period_was_not_asked():
    for asked in ([], [NotEstimable(metric="hours", reason="no data")]):
        assert validity.pre_period(asked).passed is None


@pytest.mark.parametrize(
    ("passed", "opened"), [([], True), ([True, None], True), ([None], True), ([True, False], False), ([False], False)]
)
def test_only_a_failed_check_closes_the_gate(passed, opened):
    assert validity.gate(Check(name="x", passed=p, detail="") for p in passed) is opened
