"""Bounds equal published tables and R; errors and coverage hold over all looks, on paths and on heavy-tailed accounts."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import sequential
from helpers.errors import ParameterError
from helpers.results import Estimate, NotEstimable

TABLE = 5.1e-4  # published tables have three decimals


def case(name: str) -> dict:
    found = reference.case(name)
    return found | {"near": {"rel": found["tolerance"]["rel"], "abs": found["tolerance"]["abs"]}}


# Bounds: Jennison and Turnbull (2000), tables 2.1 (Pocock), 2.3 (O'Brien-Fleming) and 2.9 (Wang-Tsiatis, shape 1/4)

PUBLISHED = {
    ("pocock", 0.05): {1: 1.960, 2: 2.178, 3: 2.289, 4: 2.361, 5: 2.413, 8: 2.512, 10: 2.555, 15: 2.626, 20: 2.672},
    ("pocock", 0.01): {2: 2.772, 3: 2.873, 4: 2.939, 5: 2.986, 10: 3.117},
    ("pocock", 0.1): {2: 1.875, 3: 1.992, 4: 2.067, 5: 2.122, 10: 2.270},
    ("obrien_fleming", 0.05): {2: 1.977, 3: 2.004, 4: 2.024, 5: 2.040, 8: 2.072, 10: 2.087, 15: 2.110, 20: 2.126},
    ("obrien_fleming", 0.01): {2: 2.580, 3: 2.595, 4: 2.609, 5: 2.621, 10: 2.660},
    ("obrien_fleming", 0.1): {2: 1.678, 3: 1.710, 4: 1.733, 5: 1.751, 10: 1.801},
    ("wang_tsiatis", 0.05): {2: 2.038, 3: 2.083, 4: 2.113, 5: 2.136},
}


@pytest.mark.parametrize(("rule", "alpha"), PUBLISHED)
def test_bounds_equal_the_published_tables(rule, alpha):
    for looks, constant in PUBLISHED[rule, alpha].items():
        planned = sequential.plan_looks(looks, rule=rule, alpha=alpha, shape=0.25)
        assert planned.z[-1] == pytest.approx(constant, abs=TABLE), looks
        assert planned.spent[-1] == pytest.approx(alpha, rel=1e-9)


def test_bounds_equal_r():
    published = case("group_sequential__obrienfleming_boundaries_K2_10")
    for row in published["expected"]:
        found = sequential.plan_looks(row["K"], rule="obrien_fleming")
        assert found.z == pytest.approx(row["critical"], **published["near"])
        assert found.to_frame()["p"].tolist() == pytest.approx(row["nominal_p_two"], **published["near"])


@pytest.mark.parametrize("name", ["lan_demets_obf_equal", "kim_demets_power_family"])
def test_spent_error_equals_r(name):
    published = case(f"group_sequential__{name}")
    for row in published["expected"]:
        rule = "spend_obrien_fleming" if row["type"] == "asOF" else "spend_power"
        found = sequential.plan_looks(row["info"], rule=rule, shape=float(row["type"][-1].replace("F", "1")))
        assert found.z == pytest.approx(row["critical"], **published["near"])
        assert found.spent == pytest.approx(row["alpha_spent"], abs=2e-8)  # the case spends a little less than alpha


def test_the_price_of_looking_equals_r():
    published = case("group_sequential__inflation_factors_power_80")
    rules = {"OBrienFleming": "obrien_fleming", "Pocock": "pocock"}
    for row in published["expected"]:
        factor = sequential.inflation(sequential.plan_looks(row["K"], rule=rules[row["type"]]), power=0.8)
        assert factor == pytest.approx(row["inflation_80"], **published["near"])


@pytest.mark.parametrize("days", [[1, 2, 28], [1, 28], [3, 42], [7, 90]])
def test_looks_that_spend_next_to_nothing_cost_nothing_and_never_give_accounts_back(days):
    assert 1 <= sequential.inflation(sequential.plan_looks(days)) < 1 + 1e-3


def test_peeking_at_a_fixed_test_costs_what_is_published():
    published = case("group_sequential__naive_peeking_type1")
    for row in published["expected"]:
        looks = np.arange(1, row["K"] + 1)
        found = sequential.crossing(np.full(row["K"], stats.norm.isf(0.025)), looks).sum()
        assert found == pytest.approx(row["alpha"], **published["near"])


@pytest.mark.parametrize(("looks", "error"), [(7, 0.16), (14, 0.22), (28, 0.27)])
def test_a_daily_peek_at_the_usual_threshold_errs_often(looks, error):
    # the specification of the simulator, section 9
    found = sequential.crossing(np.full(looks, stats.norm.isf(0.025)), np.arange(1, looks + 1)).sum()
    assert found == pytest.approx(error, abs=0.0075)


RULES = st.sampled_from(["obrien_fleming", "pocock", "spend_obrien_fleming", "spend_pocock", "spend_power"])


@settings(max_examples=12, deadline=None)
@given(
    steps=st.lists(st.floats(0.05, 10), min_size=1, max_size=5),
    rule=RULES,
    alpha=st.sampled_from([0.01, 0.05, 0.2]),
    sides=st.sampled_from([1, 2]),
)
def test_any_unequal_looks_spend_alpha_in_all_as_multivariate_normals_say(steps, rule, alpha, sides):
    at = np.cumsum(steps)
    planned = sequential.plan_looks(at, rule=rule, alpha=alpha, sides=sides)
    assert (np.diff(planned.spent) >= 0).all()
    correlation = np.sqrt(np.minimum.outer(at, at) / np.maximum.outer(at, at))
    low = -planned.z if sides == 2 else np.full(len(at), -np.inf)
    cdf = stats.multivariate_normal(cov=correlation, allow_singular=True, maxpts=200_000, abseps=1e-6, seed=1)
    stay = cdf.cdf(planned.z, lower_limit=low) if len(at) > 1 else stats.norm.cdf(planned.z[0]) - stats.norm.cdf(low[0])
    assert 1 - stay == pytest.approx(alpha, abs=2e-4)  # the error of the randomised oracle


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-6, 1e6), rule=RULES)
def test_only_the_spacing_of_looks_counts(scale, rule):
    at = np.array([1.0, 2.5, 4.0])
    one, other = (sequential.plan_looks(a, rule=rule) for a in (at, scale * at))
    assert one.z == pytest.approx(other.z, rel=1e-6)


def test_effects_cross_as_often_as_paths_do():
    rng, information, drift = np.random.default_rng(3), np.array([0.2, 0.5, 1.0]), 2.0
    planned = sequential.plan_looks(information, rule="pocock")
    steps = np.diff(information, prepend=0)
    paths = (rng.normal(drift * steps, np.sqrt(steps), (200_000, 3))).cumsum(axis=1) / np.sqrt(information)
    above, below = paths > planned.z, paths < -planned.z
    free = np.cumsum(above | below, axis=1) - (above | below) == 0
    simulated = np.stack([(below & free).mean(axis=0), (above & free).mean(axis=0)], axis=1)
    exact = sequential.crossing(planned.z, information, drift=drift)
    assert simulated == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 200_000))


def test_bounds_for_28_looks_take_less_than_a_second():
    for rule in ("spend_obrien_fleming", "spend_pocock"):
        began = time.process_time()
        sequential.plan_looks(28, rule=rule)
        assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"when": []}, "looks must be 1 to 1,000 finite numbers above 0 that rise"),
        ({"when": 0}, "looks must be 1 to 1,000"),
        ({"when": [14, 7]}, "that rise"),
        ({"when": [0, 7]}, "above 0"),
        ({"when": [7, float("inf")]}, "finite"),
        ({"alpha": 0.0}, "alpha is 0.0, must lie between 0 and 0.5"),
        ({"sides": 3}, "sides is 3, must be 1 or 2"),
        ({"rule": "obrien"}, "rule is 'obrien'; did you mean 'obrien_fleming'"),
        ({"rule": "spend_power", "shape": 0}, "shape is 0, must be above 0"),
    ],
)
def test_plans_that_cannot_be_are_refused(change, sentence):
    with pytest.raises(ParameterError, match=sentence):
        sequential.plan_looks(**({"when": 4} | change))


def test_bounds_that_do_not_fit_the_looks_are_refused():
    with pytest.raises(ParameterError, match="there are 3 looks; expected as many bounds"):
        sequential.crossing([2, 2], [1, 2, 3])
    with pytest.raises(ParameterError, match=r"power is 0.01, must lie between alpha \(0.05\) and 1"):
        sequential.inflation(sequential.plan_looks(3), power=0.01)


# Looks as they come: repeated intervals, and estimates after stopping


def estimate(diff: float, se: float, **changes) -> Estimate:
    half = 1.959963984540054 * se
    return Estimate(
        **{
            "metric": "hours",
            "control": 10.0,
            "treatment": 10 + diff,
            "diff": diff,
            "se": se,
            "low": diff - half,
            "high": diff + half,
            "rel": diff / 10,
            "rel_low": (diff - half) / 10,
            "rel_high": (diff + half) / 10,
            "p": 2 * stats.norm.sf(abs(diff / se)),
            "n_control": 1_000,
            "n_treatment": 1_000,
            "method": "Welch t",
            "mde": 2.8 * se,
        }
        | changes
    )


WEEKS = sequential.plan_looks([7, 14, 21, 28])


def test_a_launch_goes_on_until_a_bound_is_crossed_and_says_so():
    se = 1 / np.sqrt([1, 2, 3, 4])
    readings = sequential.follow([estimate(2.0, se[0]), estimate(2.2, se[1])], WEEKS, better="higher", unit="h/week")
    assert [r.stop for r in readings] == [False, True]
    assert readings[0].words.startswith("Day 7, look 1 of 4: go on; neither gain nor loss is established yet: +2 (-2.3")
    assert readings[1].words.startswith("Day 14, look 2 of 4: a bound is crossed; a gain is established: +2.2 (+0.1")
    assert readings[1].words.endswith(" h/week, at all looks together).")
    for r, z in zip(
        readings, WEEKS.z[:2], strict=True
    ):  # equal information at equally spaced looks: the planned bounds
        assert r.bound == pytest.approx(z, rel=1e-6)
        e = r.estimate
        assert (e.low, e.high) == pytest.approx((e.diff - z * e.se, e.diff + z * e.se), rel=1e-6)
        assert (e.rel_low, e.rel_high) == pytest.approx((e.low / 10, e.high / 10))
        assert e.mde == pytest.approx((z + 2.8 - 1.95996) * e.se, rel=1e-4)


@pytest.mark.parametrize("rule", ["spend_obrien_fleming", "spend_pocock", "obrien_fleming"])
@pytest.mark.parametrize("sides", [1, 2])
def test_the_p_of_a_look_is_the_alpha_whose_bound_it_just_reaches(rule, sides):
    # Jennison and Turnbull (2000), sec. 9.2: the definition, by planning anew at that alpha
    at, se = (7, 14, 28), 1 / np.sqrt([1, 2, 4])
    so_far = [estimate(-z * s, s) for z, s in zip((2.8, 2.2, 2.1), se, strict=True)]
    looks = sequential.plan_looks(at, rule=rule, sides=sides)
    for k, r in enumerate(sequential.follow(so_far, looks, better="higher")):
        again = sequential.plan_looks(at, rule=rule, sides=sides, alpha=r.estimate.p)
        assert again.z[k] == pytest.approx(abs(so_far[k].diff / so_far[k].se), abs=1e-6)
        assert (r.estimate.p < 0.05) == r.stop
        assert sequential.repeated(so_far[: k + 1], looks, better="higher") == r.estimate
    far = sequential.follow([estimate(-30.0, 1.0)], sequential.plan_looks(at, rule=rule, sides=sides), better="higher")
    assert far[0].estimate.p <= sequential.SMALLEST


def test_less_is_a_gain_where_lower_is_better():
    last = [estimate(-2.0, s) for s in (1, 0.7, 0.5, 0.4)]
    assert "a gain is established" in sequential.follow(last, WEEKS, better="lower")[-1].words
    assert "a loss is established" in sequential.follow(last, WEEKS, better="higher")[-1].words


@pytest.mark.parametrize(
    ("low", "high", "p"),
    [
        *((-1.7, 0.02, 0.01), (-1.02, -0.4, 0.06), (-2.0, -0.005, 0.001)),  # p here is that of another method
        *((-1.0, -1.0, 0.001), (-1.0, -1.0, 0.04), (-1.0, -1.0, 0.2)),  # equal values: only p can tell it from 0
    ],
)
def test_the_repeated_p_and_its_own_interval_agree_where_an_interval_is_not_symmetric(low, high, p):
    e = estimate(-1.0, 0.3, low=low, high=high, rel_low=low / 10, rel_high=high / 10, p=p)
    for so_far in ([e], [estimate(-0.5, 0.6), e]):
        reading = sequential.follow(so_far, sequential.plan_looks([7, 14, 28]), better="lower")[-1]
        found = reading.estimate
        assert (found.p < 0.05) == (found.high < 0) == reading.stop
        assert found.low <= low


def test_one_side_stops_for_harm_only():
    looks = sequential.plan_looks(2, sides=1)
    (gain,) = sequential.follow([estimate(9.0, 1.0)], looks, better="higher")
    (loss,) = sequential.follow([estimate(-9.0, 1.0)], looks, better="higher")
    assert (gain.stop, loss.stop) == (False, True)
    assert "no loss is established yet" in gain.words
    assert sequential.settle([estimate(-9.0, 1.0)], looks, better="higher").p < 1e-9


def test_the_planned_end_is_said_and_a_look_without_an_estimate_passed_over():
    blind = NotEstimable(metric="hours", reason="no data")
    readings = sequential.follow([blind, blind, blind, estimate(0.1, 0.5)], WEEKS, better="higher")
    assert [r.look for r in readings] == [4]
    assert "the planned end; neither gain nor loss is established: +0.1" in readings[0].words
    assert readings[0].bound == pytest.approx(1.959964, abs=1e-5)  # all error is left for it
    assert sequential.follow([blind], WEEKS, better="higher") == []


def test_a_look_at_which_a_quantile_has_no_width_is_passed_over_and_one_that_reaches_its_value_is_not():
    blind, tied = NotEstimable(metric="hours", reason="no data"), replace(estimate(0.0, 1.0), se=0.0, low=0.0, high=0.0)
    then = estimate(0.1, 0.5)
    seen = sequential.follow([tied, then], WEEKS, better="higher")
    assert seen == sequential.follow([blind, then], WEEKS, better="higher")
    newest = sequential.repeated([then, tied], WEEKS, better="higher")
    assert isinstance(newest, NotEstimable)
    assert "has no width" in newest.reason
    half = estimate(1.0, 0.5, low=1.0, rel_low=0.1, high=3.0, rel_high=0.3)  # equal values below it, none above
    (reading,) = sequential.follow([half], sequential.plan_looks(1), better="higher")
    e = reading.estimate
    assert (e.rel_low, e.rel_high) == pytest.approx((e.low / 10, e.high / 10))  # the control's value is 10


def test_bounds_follow_the_information_that_came_where_the_plan_said_more():
    info = np.array([0.2, 0.5, 1.0])
    planned = sequential.plan_looks([1, 2, 3])
    readings = sequential.follow([estimate(0.0, s) for s in 1 / np.sqrt(info)], planned, better="higher")
    bounds = np.array([r.bound for r in readings])
    assert sequential.crossing(bounds, info).sum(axis=1).cumsum() == pytest.approx(planned.spent, rel=1e-7)
    slower = sequential.follow([estimate(0.0, s) for s in (1.0, 0.9, 0.8)], planned, better="higher")
    assert [r.bound for r in slower] == pytest.approx(planned.z, rel=1e-7)


def test_information_that_does_not_grow_is_borne():
    readings = sequential.follow([estimate(0.1, s) for s in (0.5, 0.5, 0.6, 0.4)], WEEKS, better="higher")
    assert len(readings) == 4
    assert all(2 < r.bound < 6 for r in readings)


def test_estimates_after_stopping_are_where_the_bivariate_normal_says():
    looks, se = sequential.plan_looks(2, rule="pocock"), np.array([1.0, np.sqrt(0.5)])
    found = sequential.settle([estimate(1.0, se[0]), estimate(1.8, se[1])], looks, better="higher")
    correlation = np.array([[1, np.sqrt(0.5)], [np.sqrt(0.5), 1]])

    def more_extreme(effect: float) -> float:
        mean, (bound, _) = effect / se, looks.z
        joint = stats.multivariate_normal(mean=mean, cov=correlation)
        stay_and_above = joint.cdf([bound, np.inf], lower_limit=[-bound, 1.8 / se[1]])
        return stats.norm.sf(bound - mean[0]) + stay_and_above

    assert [more_extreme(d) for d in (found.low, found.diff, found.high)] == pytest.approx(
        [0.025, 0.5, 0.975], abs=1e-6
    )
    assert found.p == pytest.approx(2 * more_extreme(0), abs=1e-6)
    assert found.diff < 1.8
    assert "median-unbiased after look 2 of 2" in found.method


def test_a_launch_that_stops_at_its_first_look_needs_no_correction():
    plain = estimate(6.0, 1.0)
    found = sequential.settle([plain], WEEKS, better="higher")
    assert (found.diff, found.low, found.high) == pytest.approx((plain.diff, plain.low, plain.high), abs=1e-6)
    assert found.rel_low == pytest.approx(plain.rel_low)


@pytest.mark.parametrize("drift", [0.0, 1.5, 3.0])
def test_estimates_after_stopping_miss_as_rarely_and_err_to_both_sides_as_often_as_said(drift):
    rng, info = np.random.default_rng(12), np.array([1 / 3, 2 / 3, 1])
    looks, launches = sequential.plan_looks(3, rule="pocock"), 300
    paths = rng.normal(drift / 3, np.sqrt(1 / 3), (launches, 3)).cumsum(axis=1) / info
    stop = np.where(
        (np.abs(paths * np.sqrt(info)) >= looks.z).any(axis=1),
        np.argmax(np.abs(paths * np.sqrt(info)) >= looks.z, axis=1),
        2,
    )
    settled = [
        sequential.settle([estimate(d, s) for d, s in zip(path[: k + 1], 1 / np.sqrt(info), strict=False)], looks, better="higher")
        for path, k in zip(paths, stop, strict=True)
    ]  # fmt: skip
    covered = np.mean([e.low <= drift <= e.high for e in settled])
    above = np.mean([e.diff > drift for e in settled])
    assert covered == pytest.approx(0.95, abs=3 * np.sqrt(0.05 * 0.95 / launches))
    assert above == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(launches))


def test_a_total_whose_error_grows_with_its_window_is_settled_by_the_error_of_its_last_look():
    """Where hardly a launch stops before, the last look stands as it is (Jennison and Turnbull 2000, ch. 8)."""
    looks = sequential.plan_looks([7, 20], alpha=0.1)
    assert looks.z[0] > 3
    found = sequential.settle([estimate(0.0185, 0.1187), estimate(0.2073, 0.2308)], looks, better="higher")
    reach = stats.norm.isf(0.05) * 0.2308
    assert [found.diff, found.low, found.high] == pytest.approx([0.2073, 0.2073 - reach, 0.2073 + reach], abs=0.01)


def test_nothing_is_settled_while_a_launch_goes_on():
    with pytest.raises(ParameterError, match="after 1 of 4 looks no bound is crossed: nothing to settle"):
        sequential.settle([estimate(1.0, 1.0)], WEEKS, better="higher")
    with pytest.raises(ParameterError, match="there are 5 estimates, but 4 looks were planned"):
        sequential.follow([estimate(1.0, 1.0)] * 5, WEEKS, better="higher")


def test_launches_are_counted_once_they_have_passed_a_bound():
    z = np.array([[0.3, 2.2, 0.4], [1.0, 0.5, -2.0], [0.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])
    assert sequential.stopped_by(z, [2.5, 2.0, 1.9]).tolist() == [0.25, 0.5, 0.75]
