"""Segments: shrinkage equals published and integrated posteriors; a flat world has no winner, a planted niche is found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.meta_analysis import combine_effects

from helpers import launch, segments, study
from helpers.errors import ParameterError
from helpers.results import Estimate, NotEstimable

SCHOOLS = [28, 8, -3, 7, -1, 1, 18, 12], [15, 10, 16, 11, 9, 11, 10, 18]  # Rubin (1981), eight parallel experiments


def estimate(diff, se, level="a", n=1_000):
    half = 1.959964 * se
    return Estimate(
        metric="m", slice={"device": level}, control=10, treatment=10 + diff, diff=diff, se=se, low=diff - half,
        high=diff + half, rel=None, rel_low=None, rel_high=None, p=float(2 * stats.norm.sf(abs(diff / se))),
        n_control=n, n_treatment=n, method="t", mde=2.8 * se,
    )  # fmt: skip


def attribute(diffs, ses):
    answers = [estimate(d, s, f"level {i}") for i, (d, s) in enumerate(zip(diffs, ses, strict=True))]
    found = segments.shrunken(answers, "device")
    return segments.Attribute(name="device", metric="m", segments=found, p=segments.differ(answers))


def test_shrinkage_of_the_eight_schools_is_near_the_published_posterior():
    """Gelman et al. (2013), table 5.2: 2.5 %, median and 97.5 % from 200 draws, hence a tolerance of three points."""
    mean, low, high = segments.shrink(*SCHOOLS)
    assert low == pytest.approx([-2, -5, -11, -7, -9, -7, -1, -6], abs=3)
    assert mean == pytest.approx([10, 8, 7, 8, 5, 6, 10, 8], abs=2)
    firm = [0, 1, 2, 3, 4, 6]  # the printed tails of the other two, 28 and 33, rest on single draws
    assert high[firm] == pytest.approx([31, 23, 19, 21, 18, 26], abs=3)


def test_shrinkage_equals_the_integral_over_the_spread():
    y, s = np.array(SCHOOLS[0], float), np.array(SCHOOLS[1], float)

    def likelihood(spread):
        precision = 1 / (s**2 + spread**2)
        middle = precision @ y / precision.sum()
        return np.exp(-0.5 * precision @ (y - middle) ** 2) * np.sqrt(precision.prod() / precision.sum())

    def centre(spread, i):
        precision = 1 / (s**2 + spread**2)
        middle = precision @ y / precision.sum()
        return middle + spread**2 / (s[i] ** 2 + spread**2) * (y[i] - middle)

    whole = integrate.quad(likelihood, 0, 90)[0]
    expected = [integrate.quad(lambda t, i=i: likelihood(t) * centre(t, i), 0, 90)[0] / whole for i in range(8)]
    assert segments.shrink(*SCHOOLS)[0] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("by", "weight"), [("accounts", "n"), ("mantel-haenszel", "cross"), ("precision", "se")])
def test_levels_are_put_together_as_the_weights_say(by, weight):
    diffs, ses, n = np.array([1.0, -0.5, 2.0]), np.array([0.3, 0.2, 0.5]), np.array([[100, 300], [200, 100], [50, 50]])
    answers = [
        replace(estimate(d, s, f"level {i}"), n_control=int(c), n_treatment=int(t))
        for i, (d, s, (c, t)) in enumerate(zip(diffs, ses, n, strict=True))
    ]
    got = segments.overall([*answers, NotEstimable(metric="m", reason="empty")], by)
    w = {"n": n.sum(axis=1), "cross": n.prod(axis=1) / n.sum(axis=1), "se": ses**-2}[weight]
    assert got.diff == pytest.approx(np.average(diffs, weights=w), rel=1e-12)
    assert got.se == pytest.approx(np.sqrt(w**2 @ ses**2) / w.sum(), rel=1e-12)
    assert (got.n_control, got.n_treatment) == (350, 450)
    assert got.note.endswith("1 of 4 levels left out")
    if by == "precision":
        theirs = combine_effects(diffs, ses**2, method_re="dl")
        assert (got.diff, got.se) == pytest.approx((theirs.mean_effect_fe, theirs.sd_eff_w_fe), rel=1e-9)
        assert (got.low, got.high) == pytest.approx(theirs.conf_int()[0], rel=1e-9)


def test_nothing_comes_of_levels_that_could_not_be_compared():
    assert "none of the levels" in segments.overall([NotEstimable(metric="m", reason="empty")]).reason
    assert segments.put_together([]).empty
    one = segments.put_together([attribute([1.0, 2.0], [0.1, 0.2])])
    assert one["weights"].tolist() == ["accounts", "mantel-haenszel", "precision"]
    with pytest.raises(ParameterError, match="did you mean 'precision'"):
        segments.overall([], "precison")


def test_common_weights_keep_their_promise_where_the_split_changes_and_pooling_does_not():
    """Three stages of a roll-out, 2, 20 and 50 % treated, of which the first watches most; the effect is 0.3."""
    rng, runs, share, size = (
        np.random.default_rng(20090628),
        400,
        np.array([0.02, 0.2, 0.5]),
        np.array([3_000, 2_000, 1_000]),
    )
    covered, width, naive = dict.fromkeys(segments.WEIGHTINGS, 0), dict.fromkeys(segments.WEIGHTINGS, 0.0), 0
    for _ in range(runs):
        answers, all_c, all_t = [], [], []
        for stage, (p, n) in enumerate(zip(share, size, strict=True)):
            k = int(n * p)
            c, t = rng.normal(5 - stage, 2, n - k), rng.normal(5.3 - stage, 2, k)
            se = float(np.hypot(c.std(ddof=1) / np.sqrt(n - k), t.std(ddof=1) / np.sqrt(k)))
            answers.append(
                replace(estimate(float(t.mean() - c.mean()), se, f"{stage}"), n_control=n - k, n_treatment=k)
            )
            all_c.append(c), all_t.append(t)
        for by in segments.WEIGHTINGS:
            e = segments.overall(answers, by)
            covered[by] += e.low <= 0.3 <= e.high
            width[by] += (e.high - e.low) / runs
        naive += np.concatenate(all_t).mean() - np.concatenate(all_c).mean() < 0
    assert all(0.92 < c / runs < 0.98 for c in covered.values())  # three standard errors of 400 runs
    assert width["precision"] <= width["mantel-haenszel"] < 0.7 * width["accounts"]
    assert naive == runs


def test_q_equals_statsmodels():
    answers = [estimate(d, s) for d, s in zip(*SCHOOLS, strict=True)]
    oracle = combine_effects(np.array(SCHOOLS[0], float), np.array(SCHOOLS[1], float) ** 2)
    assert segments.differ(answers) == pytest.approx(stats.chi2.sf(oracle.q, 7), rel=1e-9)


@given(
    diffs=st.lists(st.floats(-50, 50), min_size=3, max_size=8),
    scale=st.floats(0.1, 10),
    shift=st.floats(-20, 20),
)
@settings(max_examples=20, deadline=None)
def test_shrinkage_follows_shift_and_scale_and_stays_between_own_effect_and_mean(diffs, scale, shift):
    ses = np.linspace(1, 3, len(diffs))
    mean, low, high = segments.shrink(diffs, ses)
    moved = segments.shrink([scale * d + shift for d in diffs], scale * ses)
    assert moved[0] == pytest.approx(scale * mean + shift, abs=1e-6 * (1 + scale * 100))
    assert moved[1] == pytest.approx(scale * low + shift, abs=1e-6 * (1 + scale * 100))
    assert ((min(diffs) - 1e-9 <= mean) & (mean <= max(diffs) + 1e-9)).all()
    assert (low < high).all()


def worlds(truth, ses, replicates, seed):
    rng = np.random.default_rng(seed)
    for _ in range(replicates):
        yield segments.corrected([attribute(truth + ses * rng.standard_normal(len(ses)), ses)])


def test_a_flat_world_announces_a_winner_in_few_runs():
    """Effects alike, and none: at most 5 % by design; 400 runs have an error of 1.1 points."""
    ses = np.array([1.0, 1.3, 1.6, 2.0, 2.5])
    for common in (0.0, 2.0):
        told = [bool(segments.gaining(w, better="higher")) for w in worlds(np.full(5, common), ses, 400, 3)]
        assert np.mean(told) <= 0.05 + 3 * 0.011


def test_a_planted_niche_is_found_and_named():
    """One level in five gains four times its error, the others nothing."""
    ses = np.ones(5)
    truth = np.array([0, 0, 0, 0, 4.2])
    named = [[s.level for _, s in segments.gaining(w, better="higher")] for w in worlds(truth, ses, 300, 4)]
    assert np.mean(["level 4" in n for n in named]) >= 0.8
    wrong = np.mean([any(x != "level 4" for x in n) for n in named])
    assert wrong <= 4 * 0.025 + 3 * 0.017  # four others, each at 2.5 %, where the levels do differ


def test_shrunken_intervals_cover_where_effects_vary():
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(300):
        truth = rng.normal(1, 1, 5)
        _, low, high = segments.shrink(truth + rng.standard_normal(5), np.ones(5))
        covered.append((low <= truth) & (truth <= high))
    assert 0.93 <= np.mean(covered) <= 0.985


def test_from_two_levels_nothing_is_shrunk_and_one_has_no_test():
    found = attribute([1, 2], [1, 1])
    assert [s.effect for s in found.segments] == [None, None]
    assert found.p is not None
    assert attribute([1], [1]).p is None
    with pytest.raises(ParameterError, match="at least 3 effects"):
        segments.shrink([1, 2], [1, 1])


def test_a_level_that_cannot_be_compared_keeps_its_reason():
    answers = [estimate(1, 1, "a"), estimate(2, 1, "b"), estimate(3, 1, "c")]
    answers.insert(1, NotEstimable(metric="m", reason="one account", slice={"device": "d"}))
    found = segments.shrunken(answers, "device")
    assert [s.level for s in found] == ["a", "d", "b", "c"]
    assert found[1].effect is None
    assert found[3].effect is not None
    frame = segments.to_frame([segments.Attribute(name="device", metric="m", segments=found)])
    assert frame["reason"].tolist() == ["", "one account", "", ""]


def test_effects_of_a_launch_are_those_of_its_slices(players):
    path, table = players
    data = study.open(launch.load(path))
    metric = data.launch.plan[0].metric
    (found,) = segments.effects(data, metric)
    assert [s.level for s in found.segments] == ["NO", "SE", "unknown"]
    sizes = table["country"].fillna("unknown").value_counts()
    assert [s.estimate.n_control + s.estimate.n_treatment for s in found.segments] == sizes[
        ["NO", "SE", "unknown"]
    ].tolist()
    assert found.p == found.p_adjusted
    assert isinstance(segments.to_frame([found]), pd.DataFrame)
    with pytest.raises(ParameterError, match="attribute 'land' is no segment of gate; valid: country"):
        segments.effects(data, metric, attributes=["land"])


def test_words_say_which_group_gained_which_differ_and_that_nothing_stands_out(players):
    metric = study.open(launch.load(players[0])).launch.plan[0].metric
    apart = segments.corrected([attribute([0, 0, 0, 0, 8], [1] * 5)])
    assert segments.standing_out(apart, metric).detail == "Hours gained in device level 4."
    flat = segments.corrected([attribute([0.1, 0, -0.1], [1] * 3)])
    assert "Of 3 groups none stands out" in segments.standing_out(flat, metric).detail
    assert segments.standing_out([], metric).passed is None
    worse = segments.corrected([attribute([0, 0, -9], [1] * 3)])
    assert segments.standing_out(worse, metric).passed is False
    assert segments.hasty(apart, better="higher").iloc[0].tolist() == [5, 1, 1]
    assert segments.tests(apart)["after correction"].tolist() == [apart[0].p_adjusted]


def test_targets_name_the_groups_that_may_be_followed_up(players):
    path, table = players
    assert segments.targets(study.open(launch.load(path))) == []
    gain = np.where((table["country"] == "NO") & (table["version"] == "new"), 4.0, 0.0)
    table.assign(hours=table["hours"] + gain).to_csv(path.parent / "players.csv", index=False)
    found = segments.targets(study.open(launch.load(path)))
    assert {"country NO (Hours)", "country NO (Per session)"} <= set(found)
