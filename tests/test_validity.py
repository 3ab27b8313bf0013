"""Checks equal scipy and R, fire as often as they should, and say what they found and what they did not ask."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import reference
import tea_tasting as tt
from columns import metric
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers import inference, moments, validity
from helpers.errors import ParameterError
from helpers.results import Check, Estimate, NotEstimable, closed

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
    case = reference.case(f"srm_chisq__{name}")
    counts = {f"arm {i}": n for i, n in enumerate(case["inputs"]["counts"])}
    planned = {f"arm {i}": share for i, share in enumerate(case["inputs"]["expected_share"])}
    check = validity.srm(counts, planned)
    assert check.p == pytest.approx(case["expected"]["p"], rel=1e-6)
    assert check.passed == (case["expected"]["p"] >= 0.001)
    chi2 = stats.chi2.isf(check.p, case["expected"]["df"])
    assert chi2 == pytest.approx(case["expected"]["chisq"], rel=1e-6)


def test_arm_counts_of_tea_tasting_are_those_of_the_normal_and_of_the_exact_test():
    case = reference.case("srm_chisq__teatasting_53_47")
    n, want = case["inputs"]["counts"], case["expected"]
    check = validity.srm({"control": n[1], "early": n[0]}, EVEN)
    assert check.p == pytest.approx(want["norm_no_corr"], rel=1e-6)
    assert validity.srm_by(slices(("device", "tv", n[1], n[0]), planned=0.5)).p == pytest.approx(
        want["binom"], rel=1e-6
    )
    # the correction for continuity is not ours: few accounts are asked about exactly
    corrected = 2 * stats.norm.sf((abs(n[0] - 50) - 0.5) / 5)
    assert corrected == pytest.approx(want["norm_corr"], rel=1e-6)


def test_arm_counts_equal_tea_tastings():
    frame = pd.DataFrame({"variant": np.repeat([0, 1], [5_200, 4_900])})
    theirs = tt.Experiment(x=tt.SampleRatio(1, method="norm", correction=False)).analyze(frame)["x"]
    assert validity.srm({"control": 5_200, "early": 4_900}, EVEN).p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_arm_counts_of_4873_real_tests_fail_as_often_as_in_r():
    case = reference.case("srm_chisq__upworthy_4873_tests")
    frame, want = reference.data(case), case["expected"]
    by = frame.groupby("clickability_test_id", sort=False)
    assert (len(frame), by.ngroups) == (want["n_packages"], want["n_tests"])
    assert (frame["impressions"].sum(), frame["clicks"].sum()) == (want["total_impressions"], want["total_clicks"])
    p, week = [], []
    for _, test in by:
        counts = {f"package {i}": int(n) for i, n in enumerate(test["impressions"])}
        check = validity.srm(counts, dict.fromkeys(counts, 1.0))
        p.append(np.nan if check.p is None else check.p)
        week.append(test["test_week"].iloc[0])
    p, flagged = np.array(p), pd.Series(week).between(201325, 201402).to_numpy()
    found = [np.sum(p < alpha) for alpha in (0.001, 0.01, 0.05)]
    assert found == [want["n_srm_p_lt_001"], want["n_srm_p_lt_01"], want["n_srm_p_lt_05"]]
    for inside, key in ((flagged, "weeks_201325_201402"), (~flagged, "other_weeks")):
        assert (inside.sum(), np.sum(p[inside] < 0.01)) == (want[key]["n"], want[key]["n_srm_p_lt_01"])


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
    alone = validity.pre_period([estimate("hours", 0.3)])
    assert (
        alone.detail == "Before the launch the arms differed no more on hours, the only one asked, than chance allows."
    )


def test_without_a_comparable_metric_the_pre_period_was_not_asked():
    for asked in ([], [NotEstimable(metric="hours", reason="no data")]):
        assert validity.pre_period(asked).passed is None


@pytest.mark.parametrize(
    ("passed", "opened"), [([], True), ([True, None], True), ([None], True), ([True, False], False), ([False], False)]
)
def test_only_a_failed_check_closes_the_gate(passed, opened):
    reason = closed([Check(name="x", passed=p, detail="") for p in passed])
    assert reason == ("" if opened else "not shown, because the check 'x' failed")


# By slice


def slices(*levels: tuple[str, str, int, int], planned=0.25) -> pd.DataFrame:
    """Lay out attribute, level, control and early counts, of which `planned` are to be early."""
    return pd.DataFrame(
        [
            {"attribute": a, "level": level, "arm": arm, "n": n, "planned": share}
            for a, level, *counts in levels
            for arm, n, share in zip(EVEN, counts, (1 - planned, planned), strict=True)
        ]
    )


def drawn(rng, sizes, lost=0, planned=0.25) -> pd.DataFrame:
    """Split levels of these sizes by chance; the last level then loses early accounts."""
    early = rng.binomial(sizes, planned)
    kept = early - lost * (np.arange(len(sizes)) == len(sizes) - 1)
    levels = zip(map(str, range(len(sizes))), np.asarray(sizes) - early, kept, strict=True)
    return slices(*(("engagement", *level) for level in levels), planned=planned)


def test_a_slice_equals_scipys_binomial_test_times_their_number():
    counts = slices(("device", "tv", 300, 60), ("device", "phone", 300, 100))
    oracle = stats.binom.cdf(60, 360, 0.25) * 2
    assert validity.srm_by(counts).p == pytest.approx(2 * oracle, rel=1e-9)
    one = slices(("device", "tv", 300, 60), planned=0.5)
    assert validity.srm_by(one).p == pytest.approx(stats.binomtest(60, 360, 0.5).pvalue, rel=1e-9)


def test_the_slice_that_carries_a_loss_is_named_with_what_the_others_say():
    counts = slices(
        ("device", "tv", 3000, 1010), ("device", "phone", 3000, 995), ("engagement", "light", 3000, 1005), ("engagement", "heavy", 3000, 700)
    )  # fmt: skip
    check = validity.srm_by(counts)
    assert check.passed is False
    assert "in engagement heavy: early holds 700 accounts where 925 were planned (-8.5 standard errors)" in check.detail
    assert "The other levels of engagement together are as planned: the cause follows engagement." in check.detail


def test_a_loss_that_spreads_is_told_from_one_that_does_not():
    check = validity.srm_by(slices(("device", "tv", 3000, 700), ("device", "phone", 3000, 720)))
    assert "The other levels of device together are not as planned either." in check.detail


def test_sound_slices_pass_and_tell_the_farthest():
    check = validity.srm_by(slices(("device", "tv", 300, 100), ("device", "phone", 300, 110), ("day", "none", 0, 0)))
    assert check.passed is True
    assert "In 2 slices (device) the arms are split as planned" in check.detail
    assert "Farthest off is device phone: early holds 110 accounts where 102 were planned (+0.9" in check.detail


def test_slices_of_a_launch_without_a_planned_split_are_never_called_planned():
    sound = slices(("device", "tv", 300, 100), ("device", "phone", 300, 110))
    lost = slices(("device", "tv", 3000, 1010), ("device", "phone", 3000, 700))
    for counts, said in (
        (sound, "In 2 slices (device) the arms are split like all accounts together, within chance."),
        (lost, "split like all accounts together in device phone: early holds 700 accounts where 925 would be its"),
    ):
        check = validity.srm_by(counts, planned=False)
        assert check.p == validity.srm_by(counts).p
        assert said in check.detail
        assert "planned" not in check.detail


def test_with_three_arms_every_arm_is_asked():
    counts = pd.DataFrame(
        {"attribute": "device", "level": "tv", "arm": ["control", "b", "c"], "n": [700, 1000, 1000], "planned": 1 / 3}
    )
    check = validity.srm_by(counts)
    assert check.passed is False
    assert "control holds 700 accounts where 900 were planned" in check.detail


def test_without_attributes_slices_were_not_asked():
    assert validity.srm_by(slices(("device", "tv", 3, 1)).iloc[:0]).passed is None


def test_sound_slices_fail_as_rarely_as_alpha_says():
    rng, sizes = np.random.default_rng(2), [5_000, 800, 2_500, 60, 12_000]
    failed = [validity.srm_by(drawn(rng, sizes), alpha=0.05).passed is False for _ in range(300)]
    assert np.mean(failed) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_three_per_cent_lost_among_heavy_viewers_are_found_where_the_totals_hide_them():
    # 300 of 10,000 early accounts, all of them among the third that is heavy; an exact draw by strata finds it always
    rng, sizes = np.random.default_rng(3), [13_333, 13_333, 13_334]
    totals, found = [], []
    for _ in range(150):
        counts = drawn(rng, sizes, lost=300)
        by_arm = counts.groupby("arm")["n"].sum()
        totals.append(validity.srm(by_arm.to_dict(), {"control": 0.75, "early": 0.25}).passed is False)
        found.append(validity.srm_by(counts).passed is False)
    assert np.mean(found) > 0.7
    assert np.mean(totals) < 0.4


# Day by day


def test_the_day_is_named_on_which_a_loss_was_known():
    days = pd.DataFrame({"control": [300] * 20, "early": [100] * 5 + [60] * 15}, index=[f"day {d}" for d in range(20)])
    check = validity.srm_so_far(days, {"early": 1, "control": 3}, accounts=8_000)
    assert check.passed is False
    assert (
        "Since day 8 the arms are known not to fill as planned; by then control 2,700 (78.49%, planned 75.00%)"
        in check.detail
    )
    assert validity.srm_so_far(days.iloc[:5], {"early": 1, "control": 3}, accounts=8_000).passed is True
    assert validity.srm_so_far(days.iloc[:0], {"early": 1, "control": 3}, accounts=8_000).passed is None
    with pytest.raises(ParameterError, match="but those planned are"):
        validity.srm_so_far(days, {"control": 1}, accounts=8_000)


# Logs


def log(name="sessions", regulars=(20_000, 10_000), again=(19_700, 9_850), rows=(30.0, 30.0)) -> pd.DataFrame:
    known = {"accounts": (20_400, 10_200), "regulars": regulars, "again": again, "rows": rows}
    return pd.DataFrame({"log": name, "arm": list(EVEN), **known})


def test_accounts_missing_from_a_log_are_found_and_a_launchs_own_pull_is_borne():
    lost = validity.returned(log(again=(19_700, 9_850 - 250)), "control")
    assert lost.passed is False
    assert "seen in sessions before the launch, 96.00% of early and 98.50% of control were seen again" in lost.detail
    pulled = validity.returned(log(again=(19_700, 9_850 + 80)), "control")  # 0.8 points more came back
    assert pulled.passed is True
    few = validity.returned(log(regulars=(50, 50), again=(49, 46)), "control")  # 6 points fewer, of 50 accounts
    se = np.hypot(*(np.sqrt(p * (1 - p) / 50) for p in (50 / 52, 47 / 52)))
    assert few.passed is True
    assert few.detail.endswith(
        f"no loss of accounts beyond 1% is shown; up to {(0.06 + 1.959964 * se) / 0.98:.1%} is not ruled out."
    )
    twice = pd.concat([log(), log("plays", again=(19_700, 9_600))])
    assert validity.returned(twice, "control").p == pytest.approx(2 * lost.p)


def test_a_log_that_lacks_an_arm_wholly_has_lost_it():
    both = pd.concat([log(), log("impressions", regulars=(40, 0), again=(9, 0))], ignore_index=True)
    check = validity.returned(both, "control")
    assert (check.passed, check.p) == (False, pytest.approx(4 * (2 / 3) ** 40))  # two logs of two arms
    assert check.detail.startswith("Before the launch impressions knows 40 accounts of other arms and none of early:")
    few = pd.concat([log(), log("impressions", regulars=(5, 0), again=(4, 0))], ignore_index=True)
    assert validity.returned(few, "control").passed is True


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (log(again=(12_000, 6_000)), "too few of its accounts come back anyway"),
        (log(regulars=(0, 0), again=(0, 0)), "no log reaches back before the launch"),
        (log().iloc[:0], "no log reaches back before the launch"),
    ],
)
def test_logs_that_cannot_show_a_loss_were_not_asked(seen, why):
    check = validity.returned(seen, "control")
    assert (check.passed, check.p) == (None, None)
    assert why in check.detail


def nulls(*shares: tuple[float, float], se=0.001) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"column": f"c{i}", "arm": arm, "share": share, "se": se}
            for i, both in enumerate(shares)
            for arm, share in zip(EVEN, both, strict=True)
        ]
    )


def test_values_missing_in_one_arm_are_found_and_small_differences_borne():
    found = validity.missing(nulls((0.1, 0.1), (0.02, 0.04)), "control")
    assert found.passed is False
    assert "unequally: c1, 4.00% in early and 2.00% in control" in found.detail
    assert validity.missing(nulls((0.1, 0.1), (0.02, 0.029)), "control").passed is True
    alike = validity.missing(nulls((0.1, 0.1), (0.02, 0.029)), "control")
    assert (
        alike.detail
        == "2 columns that may lack values lack them about as often in all arms, at most c1, 2.90% in early and 2.00% in control."
    )
    nowhere = validity.missing(nulls((0.0, 0.0), se=0.0), "control")
    assert (nowhere.passed, nowhere.detail) == (True, "Of 1 column that may lack values none does.")
    assert validity.missing(nulls((0.0, 0.5), se=0.0), "control").passed is False
    assert validity.missing(nulls().reindex(columns=["column", "arm", "share", "se"]), "control").passed is None


def test_sound_logs_fail_as_rarely_as_alpha_says():
    rng, failed = np.random.default_rng(4), []
    for _ in range(200):
        again = rng.binomial([4_000, 2_000], 0.95)
        failed.append(
            validity.returned(log(regulars=(4_000, 2_000), again=again), "control", alpha=0.05).passed is False
        )
    assert np.mean(failed) < 0.05


def test_accounts_in_two_arms_close_the_gate():
    assert validity.one_arm_each(100, repeated=0, switched=0).passed is True
    check = validity.one_arm_each(100, repeated=3, switched=2)
    assert check.passed is False
    assert "Of 100 accounts 2 stand in more than one arm and 3 more than once" in check.detail


def test_all_checks_together_say_how_rarely_they_stop_a_sound_launch():
    asked = [Check(name=str(i), passed=True, detail="", p=0.5) for i in range(5)]
    words = validity.false_alarms([*asked, Check(name="x", passed=True, detail="")])
    assert words.startswith("5 checks leave room for chance. Each stops at most 0.1% of sound launches")
    assert words.endswith("all together at most 0.5%.")
    assert (
        validity.false_alarms(asked[:1]) == "One check leaves room for chance. It stops at most 0.1% of sound launches."
    )


def test_the_exact_test_of_a_slice_is_rs_sign_test():
    case = reference.case("sign_test__made_14_of_20")
    wins, n = case["inputs"]["wins"], case["inputs"]["n"]
    counts = slices(("device", "tv", n - wins, wins), planned=0.5)
    p = validity.srm_by(counts).p
    assert (p, p / 2) == pytest.approx((case["expected"]["p_two"], case["expected"]["p_greater"]), rel=1e-6)


def test_impressions_of_four_packages_are_split_and_clicked_as_r_says():
    case = reference.case("proportions_kxm__upworthy_ctr_4_packages")
    counts = {f"package {i}": n for i, n in enumerate(case["inputs"]["impressions"])}
    assert validity.srm(counts, dict.fromkeys(counts, 1)).p == pytest.approx(case["expected"]["srm_p"], rel=1e-6)
    n, clicks = (np.array(case["inputs"][k]) for k in ("impressions", "clicks"))
    rows = np.array([[f"package {i}", clicked] for i in range(4) for clicked in (0, 1)])
    times = np.stack([n - clicks, clicks], axis=1).ravel()
    frame = pd.DataFrame(np.repeat(rows, times, axis=0), columns=["arm", "y"]).astype({"y": float})
    read = moments.from_rows(frame, columns=["y"], by=["arm"])
    p = inference.differ(read, metric("proportion"), arms=list(counts), days=28)
    assert p == pytest.approx(case["expected"]["ctr_p"], rel=1e-6)
    assert stats.chi2.isf(p, 3) == pytest.approx(case["expected"]["ctr_chisq"], rel=1e-6)
