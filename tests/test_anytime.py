"""Answers that hold at any time equal published numbers; over whole paths of heavy-tailed data they err as said."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from helpers import anytime
from helpers.errors import ParameterError

DAYS = np.arange(1, 29)


def case(name: str) -> dict:
    found = reference.case(f"always_valid__{name}")
    return found | {"near": {"rel": found["tolerance"]["rel"], "abs": found["tolerance"]["abs"]}}


def streams(rng, draw, launches: int, per_day: int):
    """Let two equal arms fill for 28 days; give each day's difference, its standard error and the accounts so far."""
    n = per_day * DAYS
    mean, variance = [], []
    for _ in range(2):
        values = draw(rng, (launches, len(DAYS), per_day))
        mean.append(values.sum(axis=2).cumsum(axis=1) / n)
        variance.append(((values**2).sum(axis=2).cumsum(axis=1) - n * mean[-1] ** 2) / (n - 1))
    return mean[1] - mean[0], np.sqrt(sum(variance) / n), np.broadcast_to(2 * n, mean[0].shape)


# Published numbers


def test_limits_equal_gbstats():
    known = case("gbstats_asymptotic_cs")
    for kind, told in known["expected"].items():
        a, b = known["inputs"][kind]["a"], known["inputs"][kind]["b"]
        (n_a, n_b), (m_a, m_b) = (a["n"], b["n"]), (a["sum"] / a["n"], b["sum"] / b["n"])
        if kind == "means":
            v_a, v_b = ((s["sum_squares"] - s["sum"] ** 2 / s["n"]) / (s["n"] - 1) for s in (a, b))
        else:
            v_a, v_b = m_a * (1 - m_a), m_b * (1 - m_b)
        se = np.sqrt(v_b / n_b / m_a**2 + v_a / n_a * m_b**2 / m_a**4)
        found = anytime.confidence_sequence(m_b / m_a - 1, se, n_a + n_b, tuned_for=known["inputs"][kind]["tuning"])
        assert found == pytest.approx(told["ci"], **known["near"])
        assert sum(found) / 2 == pytest.approx(told["lift"], **known["near"])


def test_limits_and_likelihood_ratio_equal_confseq():
    known = case("confseq_normal_mixture")
    given_, told = known["inputs"], known["expected"]
    _, high = anytime.confidence_sequence(0.0, 1.0, given_["v"], tuned_for=given_["v_opt"], alpha=given_["alpha"])
    assert high * np.sqrt(given_["v"]) == pytest.approx(told["bound_v100"], **known["near"])
    spread = np.sqrt(1 / told["rho"])  # the prior's variance is 1 / rho where the clock is the variance
    ratio, _ = anytime.msprt(given_["s"] / given_["v"], 1 / np.sqrt(given_["v"]), spread=spread)
    assert np.log(ratio) == pytest.approx(told["log_mixture_s10_v100"], **known["near"])


def test_the_mixture_test_equals_r():
    known = case("msprt_normal_20_pairs")
    pairs, sigma = known["inputs"], known["inputs"]["sigma"]
    n = np.arange(1, 21)
    diff = np.cumsum(np.subtract(pairs["x"], pairs["y"])) / n
    ratio, p = anytime.msprt(diff, np.sqrt(2 * sigma**2 / n), spread=pairs["tau"])
    assert ratio == pytest.approx(known["expected"]["lambda"], **known["near"])
    assert p == pytest.approx(known["expected"]["p"], **known["near"])
    assert np.argmax(ratio > 20) + 1 == known["expected"]["first_reject_05"]


def test_the_mixture_is_what_its_integral_says():
    z, spread, se = 2.3, 0.7, 0.4
    integral, _ = integrate.quad(
        lambda e: stats.norm.pdf(e, 0, spread) * np.exp(z * e / se - (e / se) ** 2 / 2), -10, 10, epsabs=1e-12
    )
    assert anytime.msprt(z * se, se, spread=spread)[0] == pytest.approx(integral, rel=1e-9)


def test_the_split_factor_is_what_its_integral_says():
    counts, planned, weight = np.array([[30, 20, 60]]), np.array([1, 1, 2]), anytime._concentration(400, 0.001)
    prior = stats.dirichlet(weight * planned / 4)
    draws = prior.rvs(400_000, random_state=np.random.default_rng(2))
    exact = -np.log(anytime.split_p(counts, planned, tuned_for=400)[0])
    simulated = np.log(np.mean(np.exp(counts[0] @ (np.log(draws) - np.log(planned / 4)).T)))
    assert max(simulated, 0) == pytest.approx(exact, abs=0.02)


# What follows from the definition


@settings(max_examples=60, deadline=None)
@given(
    z=st.lists(st.floats(-6, 6), min_size=1, max_size=6),
    tuned_for=st.floats(1, 1e5),
    alpha=st.sampled_from([0.01, 0.05, 0.2]),
    scale=st.floats(1e-3, 1e3),
)
def test_p_falls_to_alpha_exactly_when_the_limits_exclude_zero(z, tuned_for, alpha, scale):
    n = 100.0 * np.arange(1, len(z) + 1)
    se = scale / np.sqrt(n)
    low, high = anytime.confidence_sequence(z * se, se, n, tuned_for=tuned_for, alpha=alpha)
    p = anytime.anytime_p(z * se, se, n, tuned_for=tuned_for, alpha=alpha)
    assert (np.diff(p) <= 0).all()
    assert (p[-1] <= alpha) == ((low > 0) | (high < 0)).any()


def test_limits_are_tightest_where_they_are_tuned():
    def width(tuned_for):
        low, high = anytime.confidence_sequence(0.0, 1.0, 5_000.0, tuned_for=tuned_for)
        return high - low

    best = optimize.minimize_scalar(width, bounds=(500, 50_000), method="bounded", options={"xatol": 1})
    assert best.x == pytest.approx(5_000, rel=0.1)  # the closed form approximates the optimum
    assert width(5_000) == pytest.approx(best.fun, rel=1e-4)


def test_one_limit_alone_is_tighter_than_an_interval():
    (_, one), (_, two) = (anytime.confidence_sequence(0.0, 1.0, 9.0, tuned_for=9.0, sides=s) for s in (1, 2))
    assert 0.85 * two < one < two


def test_a_quantile_lies_between_the_ranks_that_the_definition_allows():
    n, share, alpha = 137, 0.3, 0.05
    weight = anytime._concentration(200, alpha)
    k = np.arange(n + 1)
    marginal = special.betaln(weight * share + k, weight * (1 - share) + n - k) - special.betaln(
        weight * share, weight * (1 - share)
    )
    inside = k[marginal - k * np.log(share) - (n - k) * np.log(1 - share) < -np.log(alpha)]
    low, high = anytime.quantile_ranks(n, share, tuned_for=200, alpha=alpha)
    assert (low, high) == (inside[0], inside[-1] + 1)


@settings(max_examples=30, deadline=None)
@given(n=st.lists(st.integers(0, 10**6), min_size=1, max_size=5), share=st.floats(0.01, 0.99))
def test_ranks_surround_the_quantile_and_narrow(n, share):
    sizes = np.sort(n)
    low, high = anytime.quantile_ranks(sizes, share, tuned_for=10_000)
    assert ((low >= 0) & (low <= share * sizes + 1e-9)).all()
    assert ((high >= share * sizes) & (high <= sizes + 1)).all()


# Error over whole paths


HEAVY = {
    "a tenth never comes, the others are lognormal": lambda rng, size: (
        rng.lognormal(0, 1.1, size) * (rng.random(size) < 0.9)
    ),
    "lognormal, skewness 33": lambda rng, size: rng.lognormal(0, 1.5, size),
}


@pytest.mark.parametrize("draw", HEAVY.values(), ids=HEAVY)
def test_28_daily_looks_err_at_most_as_often_as_said_on_heavy_tails(draw):
    diff, se, n = streams(np.random.default_rng(5), draw, launches=400, per_day=100)
    low, high = anytime.confidence_sequence(diff, se, n, tuned_for=n[0, -1])
    assert ((low > 0) | (high < 0)).any(axis=1).mean() <= 0.05
    assert (np.abs(diff / se) > 1.96).any(axis=1).mean() > 0.2  # the fixed test, looked at as often
    one, _ = anytime.confidence_sequence(diff, se, n, tuned_for=n[0, -1], sides=1)
    assert (one > 0).any(axis=1).mean() <= 0.05


def test_a_path_that_never_ends_errs_at_most_as_often_as_said():
    rng = np.random.default_rng(6)
    n = np.unique(np.geomspace(1, 1e6, 400).round())
    diff = np.cumsum(rng.normal(0, np.sqrt(np.diff(n, prepend=0)), (2_000, n.size)), axis=1) / n
    for sides in (1, 2):
        low, high = anytime.confidence_sequence(diff, 1 / np.sqrt(n), n, tuned_for=1_000, sides=sides)
        error = (low > 0).any(axis=1) if sides == 1 else ((low > 0) | (high < 0)).any(axis=1)
        assert 0.015 < error.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2_000)


def test_a_sound_split_fails_as_rarely_as_alpha_says_on_28_days():
    rng = np.random.default_rng(7)
    p = [
        anytime.split_p(day.cumsum(axis=0), [1, 3], tuned_for=10_000, alpha=0.05)[-1]
        for day in rng.multinomial(360, [0.25, 0.75], (2_000, 28))
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.05


def test_a_tenth_lost_from_one_arm_is_found_in_the_second_week():
    rng, kept = np.random.default_rng(8), np.array([0.25 * 0.9, 0.75])
    days = rng.multinomial(1_430, kept / kept.sum(), (100, 28)).cumsum(axis=1)
    found = np.array([anytime.split_p(day, [1, 3], tuned_for=40_000) < 0.001 for day in days])
    assert found[:, -1].mean() > 0.98
    assert np.median(found.argmax(axis=1) + 1) < 10


def test_a_quantile_stays_inside_over_28_days_also_with_ties():
    rng, n = np.random.default_rng(9), 100 * DAYS
    values = rng.lognormal(0, 1, (600, 2_800)).round(1)
    truth = np.quantile(rng.lognormal(0, 1, 10**6).round(1), 0.95, method="inverted_cdf")
    low, high = anytime.quantile_ranks(n, 0.95, tuned_for=2_800)
    below, up_to = ((values < truth).cumsum(axis=1)[:, n - 1], (values <= truth).cumsum(axis=1)[:, n - 1])
    outside = (up_to < low) | (below >= high)  # the low rank lies above the truth, or the high one below it
    assert outside.any(axis=1).mean() <= 0.05


# The canary


def test_a_canary_sings_once_the_tail_has_risen_and_not_before():
    rng = np.random.default_rng(10)
    control, same = rng.lognormal(0.6, 0.6, (2, 1_000))
    settings_ = {"title": "Seconds to first play", "tuned_for": 1_000}
    unsure = anytime.canary(control, same, **settings_)
    risen = anytime.canary(control, 1.6 * same, **settings_)
    sound = anytime.canary(*rng.lognormal(0.6, 0.6, (2, 200_000)), **(settings_ | {"tuned_for": 200_000}))
    assert (unsure.passed, risen.passed, sound.passed) == (None, False, True)
    assert "a rise beyond +10% remains possible" in unsure.detail
    assert (
        "the 95th percentile changed by +74% (+30% to +119%); it has risen, and a rise beyond +10% is established"
        in risen.detail
    )
    within = anytime.canary(control, 1.6 * same, margin=0.5, **settings_)  # by 30 % at least, but 50 % were accepted
    assert (within.passed, "it has risen, and a rise beyond +50% remains possible" in within.detail) == (None, True)
    assert "a rise beyond +10% is ruled out" in sound.detail


def test_a_canary_with_too_few_accounts_cannot_tell():
    assert anytime.canary([1.0, 2.0], [3.0, np.inf], title="Delay", tuned_for=1_000).passed is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: anytime.confidence_sequence(0, 0, 10, tuned_for=10), "standard errors, n and tuned_for must be above 0"),
        (lambda: anytime.confidence_sequence(0, 1, 10, tuned_for=0), "must be above 0"),
        (lambda: anytime.confidence_sequence(0, 1, 10, tuned_for=10, alpha=1), "alpha is 1, must lie between 0 and 0.5"),
        (lambda: anytime.confidence_sequence(0, 1, 10, tuned_for=10, sides=3), "sides is 3, must be 1 or 2"),
        (lambda: anytime.msprt(0, 1, spread=0), "spread must be above 0"),
        (lambda: anytime.split_p([[5, 5], [4, 9]], [1, 1], tuned_for=10), "none may fall from look to look"),
        (lambda: anytime.split_p([[5, 5]], [1, 0], tuned_for=10), "a planned share above 0 for each arm"),
        (lambda: anytime.split_p([[5, 5]], [1, 1], tuned_for=-1), "tuned_for must be above 0"),
        (lambda: anytime.quantile_ranks(10, 1.0, tuned_for=10), "share is 1.0, must lie between 0 and 1"),
        (lambda: anytime.quantile_difference([1.0], [np.nan], 0.5, tuned_for=10), "treatment needs one value"),
        (lambda: anytime.quantile_difference([], [1.0], 0.5, tuned_for=10), "control needs one value"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(call, sentence):
    with pytest.raises(ParameterError, match=sentence):
        call()
