"""Times to an event: against R, statsmodels and Welch, by hand, on simulated truth, and through a launch."""

import dataclasses
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from helpers import (
    brief,
    decision,
    launch,
    metrics,
    plots,
    prospect,
    scorecard,
    segments,
    simulate,
    study,
    survival,
    units,
)
from helpers.errors import DataError, LaunchError, ParameterError
from helpers.moments import WEIGHT
from helpers.results import Check, Estimate, NotEstimable
from helpers.survival import hazards
from helpers.survival import kaplan_meier as km

EXACT = 1e-9  # the same formula, in another order of operations


def case(name):
    c = reference.case(name)
    return c["expected"], partial(reference.near, c)


def censored(n, seed, *, rate=0.1, until=12.0):
    """Draw exponential times, about a third of them censored before the end by a uniform time."""
    rng = np.random.default_rng(seed)
    time, limit = rng.exponential(1 / rate, n), np.minimum(rng.uniform(0, 3 * until, n), until)
    return np.minimum(time, limit), time <= limit


# R 4.2.2, package survival: the reference cases say how they were made.


def same_curve(of, want, near, interval="log"):
    found = km.curve(of, at=np.array(want["times"], float), interval=interval)
    for name, ours in (("surv", "survival"), ("se", "se"), ("lower", "low"), ("upper", "high"), ("n_risk", "at_risk")):
        got = found[ours].tolist()
        known = [i for i, x in enumerate(want[name]) if x is not None]  # R has no error where nobody is left
        assert len(got) == len(want[name])
        assert [got[i] for i in known] == near([want[name][i] for i in known]), name
    if "median" in want:
        whole = km.curve(of, interval=interval)
        middle = [crossed(whole, name) for name in ("survival", "low", "high")]
        assert middle == [want["median"], *want["median_ci"]]


def crossed(curve, name):
    """Find when a curve, or a limit of it, falls to one half: R's median and its interval; None where it never does."""
    told = curve if name == "survival" else curve[curve["survival"] > 0]  # R has no limits where nobody is left
    below = told[told[name] <= 0.5]
    return None if below.empty else below["time"].iloc[0]


def test_curves_of_aml_are_those_of_r_on_all_three_scales():
    want, near = case("survival_km__aml")
    arms = {arm: km.tally(rows["time"], rows["status"]) for arm, rows in reference.data("aml.csv").groupby("x")}
    for name, expected in want.items():
        arm, _, scale = name.partition("_")
        same_curve(arms[arm], expected, near, {"": "log", "loglog": "log-log", "plain": "plain"}[scale])


def test_curves_of_freireich_are_those_of_r():
    want, near = case("survival_km__freireich_6mp")
    rows = reference.data("drug6mp.csv")
    same_curve(km.tally(rows["t2"], rows["relapse"]), want["km_6mp"], near)
    same_curve(km.tally(rows["t1"], np.ones(len(rows))), want["km_placebo"], near)


def test_subscribers_of_seven_thousand_contracts_are_those_of_r():
    want, near = case("survival_km__telco_churn_by_contract")
    rows = reference.data("telco_churn.csv")
    assert (len(rows), (rows["churn"] == "Yes").mean()) == (want["n"], near(want["churn_rate"]))
    arms = {arm: km.tally(r["tenure"], r["churn"] == "Yes") for arm, r in rows.groupby("contract")}
    for arm, of in arms.items():
        same_curve(of, want[arm], near)
    test = hazards.log_rank(list(arms.values()))
    assert (test.chi2, test.df) == (near(want["logrank"]["chisq"]), want["logrank"]["df"])
    assert (test.observed.tolist(), test.expected.tolist()) == (
        near(want["logrank"]["obs"]),
        near(want["logrank"]["exp"]),
    )


def test_log_rank_tests_of_aml_are_those_of_r():
    want, near = case("survival_logrank__aml")
    arms = [km.tally(rows["time"], rows["status"]) for _, rows in reference.data("aml.csv").groupby("x")]
    test, early = hazards.log_rank(arms), hazards.log_rank(arms, rho=1)
    asked = want["logrank"]
    assert (test.chi2, test.p, test.variance[0, 0]) == near((asked["chisq"], asked["p"], asked["var"]))
    assert (test.observed.tolist(), test.expected.tolist()) == (near(asked["obs"]), near(asked["exp"]))
    assert (early.chi2, early.p) == near((want["peto"]["chisq"], want["peto"]["p"]))


def test_log_rank_tests_of_veterans_are_those_of_r():
    want, near = case("survival_logrank__veteran")
    for column, name in (("trt", "logrank"), ("celltype", "celltype")):
        arms = [km.tally(rows["time"], rows["status"]) for _, rows in reference.data("veteran.csv").groupby(column)]
        test = hazards.log_rank(arms)
        assert (test.chi2, test.p) == near((want[name]["chisq"], want[name]["p"])), name
    assert test.df == want["celltype"]["df"]


MAINTAINED = km.tally([9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161], [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0])
NOT = km.tally([5, 5, 8, 8, 12, 16, 23, 27, 30, 33, 43, 45], [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1])


def test_restricted_means_are_those_that_r_prints():
    """R's `print(survfit(Surv(time, status) ~ x, aml), print.rmean = TRUE)`: 52.6 (19.83) and 22.7 (4.18), up to 161."""
    e = km.restricted_mean(NOT, MAINTAINED, horizon=161)
    assert (e.treatment, e.control) == pytest.approx((52.6, 22.7), abs=0.05)
    assert e.se**2 == pytest.approx(19.83**2 * 11 / 10 + 4.18**2 * 12 / 11, rel=1e-3)  # R does not divide by n - 1


# statsmodels, and what is worked out by definition.


def test_curves_and_errors_are_those_of_statsmodels():
    time, event = censored(300, 1)
    time = np.ceil(time)  # ties, and events where others leave
    ours, theirs = km.curve(km.tally(time, event)), SurvfuncRight(time, event.astype(int))
    at = ours.set_index("time").loc[theirs.surv_times]
    assert at["survival"].tolist() == pytest.approx(theirs.surv_prob.tolist(), rel=EXACT)
    assert at["se"].tolist() == pytest.approx(theirs.surv_prob_se.tolist(), rel=EXACT)
    assert at["at_risk"].tolist() == theirs.n_risk.tolist()


def test_the_log_rank_test_is_that_of_statsmodels():
    (x, dead), (y, gone) = censored(120, 2), censored(90, 3, rate=0.2)
    group = np.repeat([0, 1], [120, 90])
    chi2, p = survdiff(np.r_[x, y], np.r_[dead, gone].astype(int), group)
    test = hazards.log_rank([km.tally(x, dead), km.tally(y, gone)])
    assert (test.chi2, test.p) == pytest.approx((chi2, p), rel=EXACT)


def test_the_ratio_of_hazards_is_that_of_statsmodels_with_many_ties():
    (x, dead), (y, gone) = censored(120, 4), censored(90, 5, rate=0.2)
    x, y = np.ceil(x / 2), np.ceil(y / 2)
    rows = PHReg(np.r_[x, y], np.repeat([0.0, 1.0], [120, 90])[:, None], np.r_[dead, gone].astype(int), ties="efron")
    fit = rows.fit(tol=1e-14, maxiter=100)
    found = hazards.hazard_ratio(km.tally(x, dead), km.tally(y, gone))
    (low, high), z = np.exp(fit.conf_int()[0]), fit.params[0] / fit.bse[0]
    assert (found.ratio, found.low, found.high) == pytest.approx((np.exp(fit.params[0]), low, high), rel=1e-9)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


@pytest.mark.parametrize("read", ["mean", "share"])
def test_errors_are_the_jackknife_of_the_accounts(read):
    """Leave each account out in turn: the plain definition, and no formula of Greenwood's."""
    time, event = censored(60, 6)
    other = km.tally(*censored(60, 7))

    def value(keep, weight=None):
        of = km.tally(time[keep], event[keep], weight=None if weight is None else weight[keep])
        e = km.restricted_mean(other, of, horizon=8) if read == "mean" else km.surviving(other, of, at=8)
        return e.treatment, e

    whole = np.ones(60, bool)
    for weight in (None, np.random.default_rng(8).uniform(0.5, 3, 60)):
        out = np.array([value(np.arange(60) != i, weight)[0] for i in range(60)])
        jackknife = 59 / 60 * ((out - out.mean()) ** 2).sum()
        _, e = value(whole, weight)
        of_other = (
            km.restricted_mean(other, other, horizon=8) if read == "mean" else km.surviving(other, other, at=8)
        ).se
        assert e.se**2 - of_other**2 / 2 == pytest.approx(jackknife, rel=0.04)  # of order 1 / n apart


def test_the_weighted_curve_is_that_of_repeated_accounts_and_its_errors_are_not():
    time, event = censored(80, 9)
    weight = np.random.default_rng(10).integers(1, 5, 80)
    ours, theirs = km.tally(time, event, weight=weight), km.tally(np.repeat(time, weight), np.repeat(event, weight))
    one, other = km.curve(ours), km.curve(theirs)
    assert one["survival"].tolist() == pytest.approx(other["survival"].tolist(), rel=EXACT)
    assert (one["se"][5:] > 1.2 * other["se"][5:]).all()  # 80 accounts know less than the 200 they stand for
    assert km.curve(km.tally(time, event, weight=np.full(80, 7.0)))["se"].tolist() == pytest.approx(
        km.curve(km.tally(time, event))["se"].tolist(), rel=EXACT
    )


@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0.2, 5), st.integers(0, 2)), min_size=3, max_size=40),
    st.lists(st.tuples(st.integers(0, 12), st.floats(0.2, 5), st.integers(0, 2)), min_size=3, max_size=40),
    st.booleans(),
)
@example(  # one of control has most of the weight
    control=[(0, 1.0, 0), (0, 1.0, 0), (0, 5.0, 0)],
    treatment=[(0, 1.0, 0), (0, 1.0, 0), (1, 1.0, 0)],
    weighted=True,
)
@settings(max_examples=25, deadline=None)
def test_where_everybody_is_watched_to_the_end_it_is_welch_on_the_column(control, treatment, weighted):
    """Weights and strata included: `inference` reads the same column from Moments."""
    from helpers import inference, moments

    rows = [
        pd.DataFrame(x, columns=["time", "weight", "stratum"]).assign(arm=a)
        for a, x in (("c", control), ("t", treatment))
    ]
    frame = pd.concat(rows, ignore_index=True)
    if not weighted:
        frame = frame.assign(weight=1.0, stratum=0)
    frame = frame.assign(**{moments.WEIGHT: frame["weight"] / frame.groupby("arm")["weight"].transform("mean")})
    arms = [
        km.tally(r["time"], r["time"] < 12, weight=r[moments.WEIGHT], stratum=r["stratum"])
        for _, r in frame.groupby("arm")
    ]
    e = km.restricted_mean(*arms, horizon=12)
    columns = ["time", moments.WEIGHT] if weighted else ["time"]
    m = moments.from_rows(frame, columns=columns, by=["arm", "stratum"], weighted=weighted)
    asked = metrics.Metric(
        name="x", title="X", kind="mean", better="higher", unit="days", covariates=(),
        numerator=metrics.Measure(table="units", agg="value", column="time"),
    )  # fmt: skip
    (w,) = inference.compare(m, asked, control="c", treatment="t", stratum="stratum", days=28, pre_days=28)
    if isinstance(w, NotEstimable) or w.se < 1e-9:
        assert isinstance(e, NotEstimable) or e.se < 1e-6
    else:
        for name in ("control", "treatment", "diff", "se", "low", "high", "p"):
            assert getattr(e, name) == pytest.approx(getattr(w, name), rel=1e-6, abs=1e-9), name


def test_a_tally_does_not_depend_on_the_order_or_number_of_its_rows():
    time, event = censored(200, 11)
    time = np.ceil(time)
    order = np.random.default_rng(12).permutation(200)
    a, b = km.tally(time, event), km.tally(time[order], event[order])
    assert km.curve(a).equals(km.curve(b))
    assert len(a.time) < 30
    assert km.restricted_mean(a, b, horizon=10).diff == 0


def rows(time, event, weight=1.0):
    """Take accounts as a tally without counting them, which is quick and changes nothing."""
    one = np.ones(len(time))
    return km.Tally(
        time=time,
        event=event,
        stratum=np.zeros(len(time), int),
        accounts=one,
        weight=weight * one,
        square=weight**2 * one,
    )


def test_the_weighted_ratio_of_hazards_is_that_of_repeated_accounts():
    (x, dead), (y, gone) = censored(80, 20), censored(80, 21, rate=0.15)
    x, y = np.ceil(x), np.ceil(y)
    weight = np.random.default_rng(22).integers(1, 5, 160)
    found = hazards.hazard_ratio(km.tally(x, dead, weight=weight[:80]), km.tally(y, gone, weight=weight[80:]))
    group, event = np.repeat([0.0, 1.0], 80)[:, None], np.r_[dead, gone].astype(int)
    again = [np.repeat(a, weight, axis=0) for a in (np.r_[x, y], group, event)]
    assert np.log(found.ratio) == pytest.approx(
        PHReg(again[0], again[1], again[2], ties="breslow").fit().params[0], rel=1e-6
    )


def test_robust_errors_of_weighted_hazards_are_the_jackknife_of_the_accounts():
    (x, dead), (y, gone) = censored(60, 23), censored(60, 24, rate=0.15)
    time, event, treated = np.r_[x, y], np.r_[dead, gone], np.repeat([False, True], 60)
    weight = np.random.default_rng(25).uniform(0.5, 3, 120)

    def fit(keep):
        arms = [rows(time[m], event[m], weight[m]) for m in (keep & ~treated, keep & treated)]
        return arms, hazards.hazard_ratio(*arms)

    out = np.array([np.log(fit(np.arange(120) != i)[1].ratio) for i in range(120)])
    arms, found = fit(np.ones(120, bool))
    se = np.log(found.high / found.low) / (2 * stats.norm.isf(0.025))
    assert se**2 == pytest.approx(119 / 120 * ((out - out.mean()) ** 2).sum(), rel=0.06)  # of order 1 / n apart
    assert hazards.log_rank(arms).p == pytest.approx(found.p, abs=0.02)  # score and Wald test of one likelihood


# Error rates and coverage, on a truth that is known: the mean of min(T, 10) of an exponential time.


def test_intervals_cover_the_truth_and_tests_reject_as_often_as_they_say():
    """1,000 launches of 2 x 150 accounts, hazards 0.10 and 0.15, a third censored; and as many where both are 0.10."""
    covered, false, rank, heavy = [], [], [], []
    truth = (1 - np.exp(-1.5)) / 0.15 - (1 - np.exp(-1.0)) / 0.10
    for i in range(1_000):
        one, same, other = (rows(*censored(150, [13, i, j], rate=r)) for j, r in enumerate((0.10, 0.10, 0.15)))
        e = km.restricted_mean(one, other, horizon=10)
        covered.append(e.low <= truth <= e.high)
        false.append(km.restricted_mean(one, same, horizon=10).p < 0.05)
        rank.append(hazards.log_rank([one, same]).p < 0.05)
        weight = np.random.default_rng([26, i]).choice([1.0, 2.0], 300)
        arms = [rows(a.time, a.event, w) for a, w in ((one, weight[:150]), (same, weight[150:]))]
        heavy.append(hazards.log_rank(arms).p < 0.05)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert 0.035 <= np.mean(false) <= 0.065
    assert 0.035 <= np.mean(rank) <= 0.065
    assert 0.035 <= np.mean(heavy) <= 0.065


def test_an_arm_of_few_accounts_has_the_larger_error():
    """Where all are watched to the end, Student's test of scipy on min(time, horizon); Welch's where that is larger."""
    control, early = (np.random.default_rng([31, n]).exponential(100, n) for n in (300, 30))
    for times, student in ((early, True), (early / 20, False)):
        arms = [km.tally(np.minimum(x, 12), x < 12) for x in (control, times)]
        e = km.restricted_mean(*arms, horizon=12, small_groups=True)
        oracle = stats.ttest_ind(np.minimum(times, 12), np.minimum(control, 12), equal_var=student)
        assert (e.p, e.low, e.high) == pytest.approx((oracle.pvalue, *oracle.confidence_interval()), rel=1e-9)
        assert ("arms taken to vary alike" in e.method) == student


def test_rare_events_in_few_accounts_raise_no_more_alarms_than_promised():
    """120 launches without effect, of 55 and 5; one account in nine has the event: by Welch's error 39 % differ."""
    false = []
    for i in range(120):
        times = (np.random.default_rng([32, i, n]).exponential(100, n) for n in (55, 5))
        e = km.restricted_mean(*(km.tally(np.minimum(x, 12), x < 12) for x in times), horizon=12, small_groups=True)
        false.append(isinstance(e, Estimate) and e.p < 0.05)
    assert np.mean(false) <= 0.05 + 0.06  # three errors


def test_leaving_the_censored_out_would_be_wrong():
    """The mean of those whose end was seen, which is what a hasty reader takes, misses the truth in every launch."""
    time, event = censored(20_000, 14)
    truth = (1 - np.exp(-1.0)) / 0.1
    assert np.minimum(time[event], 10).mean() < 0.75 * truth
    mean = km.restricted_mean(km.tally(time, event), km.tally(time, event), horizon=10).control
    assert mean == pytest.approx(truth, rel=0.02)


# What cannot be said.


def test_what_was_not_watched_is_not_estimated():
    one, two = km.tally([2, 5, 9], [1, 0, 0]), km.tally([3, 4, 6], [1, 0, 0])
    assert km.restricted_mean(one, two).method.endswith("up to 6, by Kaplan-Meier")
    far = km.restricted_mean(one, two, horizon=8)
    assert far.reason == "treatment was watched up to 6 only, not to 8; name a 'horizon' of 6 or less"
    ended = km.tally([3, 4, 6], [1, 0, 1])  # nobody is left after 6, so the curve is known for ever
    assert isinstance(km.restricted_mean(one, ended, horizon=8), Estimate)
    none = km.tally([6, 9, 9], [0, 0, 0])
    assert "nobody in either arm has the event" in km.restricted_mean(none, none, horizon=6).reason
    assert "has no event" in hazards.hazard_ratio(one, none).reason
    assert "no event while" in hazards.log_rank([none, none]).reason
    assert "at least 2" in km.restricted_mean(one, km.tally([9], [0]), horizon=6).reason
    heavy = km.tally([2, 5, 9], [1, 0, 0], weight=[1, 2, 3])
    assert "two arms are compared, not more" in hazards.log_rank([one, two, heavy]).reason


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: km.tally([], []), "there are no accounts"),
        (lambda: km.tally([1, np.nan], [1, 0]), "1 accounts have a missing or infinite time"),
        (lambda: km.tally([1, -1, -2], [1, 0, 1]), "2 accounts have a negative time"),
        (lambda: km.tally([1, 2], [1, 2]), "1 accounts have an event other than 1"),
        (lambda: km.tally([1, 2], [1, np.nan]), "1 accounts have an event other than 1"),
        (lambda: km.tally([1, 2], [1, 0], weight=[1, 0]), "1 accounts have no weight above 0"),
        (lambda: km.restricted_mean(NOT, MAINTAINED, horizon=-1), "horizon is -1, must be a time above 0"),
        (lambda: km.surviving(NOT, MAINTAINED, at=-1), "at is -1, must be a time of 0 or more"),
        (lambda: km.curve(NOT, level=95), "level is 95, must lie between 0 and 1"),
        (lambda: hazards.log_rank([NOT]), "at least 2 arms, got 1"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(call, sentence):
    with pytest.raises((DataError, ParameterError), match=sentence):
        call()


# Through a launch: a table with a row per account.

GATE = """\
name: gate
data: {units: members.csv, account: user, arm: version}
arms: {control: old, treatment: new}
metrics:
  north_star: {name: hours, kind: mean, column: hours, better: higher}
  guardrails:
    - {name: stay, kind: time_to_event, column: tenure, event: left, horizon: 10, better: higher, unit: months, margin: -5%}
segments: [country]
"""


def members(n=2_000, seed=15):
    rng = np.random.default_rng(seed)
    time, event = censored(n, seed)
    return pd.DataFrame(
        {
            "user": np.arange(n).astype(str),
            "version": rng.permutation(np.repeat(["old", "new"], n // 2)),
            "hours": rng.gamma(2, 4, n),
            "tenure": np.ceil(time),
            "left": event.astype(int),
            "country": rng.choice(["NO", "SE", "DK"], n),
            "worth": rng.uniform(0.5, 2, n),
        }
    )


def opened(tmp_path, table, text=GATE):
    table.to_csv(tmp_path / "members.csv", index=False)
    (tmp_path / "gate.yaml").write_text(text)
    return study.open(launch.load(tmp_path / "gate.yaml"))


def of(table, weight=None):
    return [
        km.tally(r["tenure"], r["left"], weight=None if weight is None else r[weight])
        for r in (table[table["version"] == arm] for arm in ("old", "new"))
    ]


def test_a_censored_time_on_an_own_table_reaches_the_scorecard(tmp_path):
    table = members()
    data = opened(tmp_path, table)
    claim = {c.metric: c for c in scorecard.measure(data).claims}["stay"]
    assert brief.formula(data.launch.plan[1]) == "time to event: tenure, left = 1"
    expected = km.restricted_mean(*of(table), horizon=10, metric="stay", small_groups=True)
    got, want = dataclasses.asdict(claim.estimate), dataclasses.asdict(expected)
    assert {k: v for k, v in got.items() if k != "p"} == {k: v for k, v in want.items() if k != "p"}
    assert got["p"] == pytest.approx(want["p"], rel=EXACT)
    assert claim.status in ("passed", "cannot tell", "breached")
    assert claim.bound == pytest.approx(-0.05 * expected.control)
    low, high = expected.rel_low, expected.rel_high
    assert (claim.status == "passed") == (low > -0.05)
    assert low < expected.rel < high


def test_better_lower_reads_a_longer_time_as_harm():
    metric = replace(metrics.get("time_to_value"), event=None)
    one, two = km.tally(*censored(2_000, 16, rate=0.2)), km.tally(*censored(2_000, 17, rate=0.1))
    e = km.restricted_mean(one, two, horizon=10)
    assert e.low > 0
    assert decision.read(metric, e, role="supporting").status == "worse"
    assert decision.read(replace(metric, better="higher"), e, role="supporting").status == "better"


def test_weights_and_strata_of_an_own_table_go_into_the_error(tmp_path):
    table = members()
    text = GATE.replace("arm: version}", "arm: version, weight: worth, stratum: country}")
    data = opened(tmp_path, table, text)
    found = {c.metric: c for c in scorecard.measure(data).claims}["stay"].estimate
    arms = [
        km.tally(r["tenure"], r["left"], weight=r["worth"] / r["worth"].mean(), stratum=r["country"])
        for r in (table[table["version"] == arm] for arm in ("old", "new"))
    ]
    expected = km.restricted_mean(*arms, horizon=10, metric="stay")
    assert (found.diff, found.se, found.p) == pytest.approx((expected.diff, expected.se, expected.p), rel=EXACT)
    assert found.method.endswith("weighted to the population, within strata")
    shown = survival.readings(data).set_index("reading")
    assert shown["note"].str.contains("weighted to the population").all()
    assert shown["p"].between(0, 1).all()


def test_segments_are_compared_up_to_one_horizon(tmp_path):
    table = members()
    data = opened(tmp_path, table)
    metric = data.launch.plan[1].metric
    (country,) = segments.effects(data, metric)
    assert len(country.segments) == 3
    assert country.p is not None
    for s in country.segments:
        expected = km.restricted_mean(*of(table[table["country"] == s.level]), horizon=10)
        assert (s.estimate.diff, s.estimate.se) == pytest.approx((expected.diff, expected.se), rel=EXACT)
    free = opened(tmp_path, table, GATE.replace(", horizon: 10", ""))
    (country,) = segments.effects(free, free.launch.plan[1].metric)
    assert len({s.estimate.method for s in country.segments}) == 1
    assert "'horizon' is not set" in country.segments[0].estimate.note


def test_without_a_horizon_the_page_and_the_scorecard_look_as_far(tmp_path):
    """Everybody in one arm leaves by day 9; the other was watched for 12 days, so both curves are known to there."""
    table, old = members(), members()["version"] == "old"
    table = table.assign(
        tenure=table["tenure"].where(~old, table["tenure"].clip(upper=9)), left=table["left"].where(~old, 1)
    )
    data = opened(tmp_path, table, GATE.replace(", horizon: 10", ""))
    claim = {c.metric: c for c in scorecard.measure(data).claims}["stay"].estimate
    shown = survival.readings(data).iloc[0]
    assert shown["reading"].endswith("up to 12")
    assert shown["value"] == pytest.approx(claim.diff, rel=EXACT)


def test_what_its_accounts_can_show_is_said_beforehand(tmp_path):
    data = opened(tmp_path, members())
    plan = {p.planned.metric.name: p for p in prospect.measure(data)}["stay"]
    e = {c.metric: c for c in scorecard.measure(data).claims}["stay"].estimate
    assert plan.basis == "both arms, after the start: their spread alone"
    assert abs(plan.seen.change) == pytest.approx(e.mde, rel=0.02)


def test_many_distinct_times_are_rounded_and_the_method_says_so(tmp_path, monkeypatch):
    table = members().assign(tenure=censored(2_000, 15)[0])
    exact = {c.metric: c for c in scorecard.measure(opened(tmp_path, table)).claims}["stay"].estimate
    monkeypatch.setattr(survival, "MOST_TIMES", 200)
    rounded = {c.metric: c for c in scorecard.measure(opened(tmp_path, table)).claims}["stay"].estimate
    assert rounded.method.endswith("times rounded to 0.06")
    assert rounded.diff == pytest.approx(exact.diff, abs=0.03)
    assert rounded.se == pytest.approx(exact.se, rel=0.01)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tenure": -1}, "column 'tenure': 2,000 accounts have a negative time to the event"),
        ({"left": 2}, "column 'left': 2,000 accounts have an event other than 1"),
        (
            {"left": "gone"},
            "needs column 'left', which holds string such as 'gone'; expected numbers or true and false",
        ),
        ({"tenure": None}, "column 'tenure'.*(missing|string)"),
    ],
)
def test_bad_times_and_events_are_refused(tmp_path, change, sentence):
    with pytest.raises(DataError, match=sentence):
        scorecard.measure(opened(tmp_path, members().assign(**change)))


def test_a_missing_time_is_no_time_of_zero(tmp_path):
    table = members()
    table.loc[:9, "tenure"] = np.nan
    for policy in ("refuse", "zero"):
        with pytest.raises(DataError, match="column 'tenure': 10 accounts have"):
            scorecard.measure(
                opened(tmp_path, table, GATE.replace("arm: version}", f"arm: version, missing: {policy}}}"))
            )
    data = opened(tmp_path, table, GATE.replace("arm: version}", "arm: version, missing: drop}"))
    e = {c.metric: c for c in scorecard.measure(data).claims}["stay"].estimate
    assert e.n_control + e.n_treatment == 1_990


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (", event: left", "", "'event' must name the column that says whether the event came"),
        ("kind: time_to_event", "kind: mean", "'event' is for a time_to_event that is a column of its own"),
        ("horizon: 10", "window_days: 10", "'window_days' is not for times with an 'event'; 'horizon' says"),
        ("horizon: 10", "horizon: 10, covariates: [hours]", "'covariates' is not for times with an 'event'"),
        ("horizon: 10", "horizon: -1", "horizon"),
        ("horizon: 10", "per_week: true", "'at_least', 'per' and 'per_week' would make it another number"),
        (
            "column: tenure, event: left",
            "numerator: {table: plays, agg: until}",
            "'horizon' is for a time_to_event that",
        ),
        ("event: left", "event: lft", "did you mean 'left'"),
    ],
)
def test_a_time_is_planned_in_words_that_fit(tmp_path, old, new, sentence):
    with pytest.raises((LaunchError, DataError), match=sentence):
        scorecard.measure(opened(tmp_path, members(), GATE.replace(old, new)))


def test_a_time_to_an_event_is_no_north_star(tmp_path):
    star = "  north_star: {name: stay, kind: time_to_event, column: tenure, event: left, better: higher}\nsegments"
    with pytest.raises(LaunchError, match="the north star is a mean, proportion, count or ratio, not a time_to_event"):
        opened(tmp_path, members(), GATE[: GATE.index("  north_star")] + star + GATE.split("segments")[1])


# Simulated services: everybody is watched to the end of the window, and the truth is known.


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    path = tmp_path_factory.mktemp("service") / "cancel.yaml"
    path.write_text("""\
name: cancel
data: {source: simulate, scenario: homepage, accounts: 20_000, seed: 5}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 28, pre_days: 28}
metrics: {north_star: hours_per_account_week, supporting: [time_to_value], guardrails: [{metric: time_to_cancel, margin: -2%}]}
sampling: {n: {control: 6_000, early: 6_000}}
""")
    return study.open(launch.load(path))


def test_the_difference_in_restricted_means_covers_the_planted_truth(service):
    truth = service.reveal().query("segment == 'all' and week == 0").set_index("metric")["diff"]
    found = {c.metric: c for c in scorecard.measure(service).claims}
    for name in ("time_to_cancel", "time_to_value"):
        e = found[name].estimate
        assert e.low <= truth[name] <= e.high, name
        assert e.method.startswith("difference in restricted mean survival time, everybody watched to its end: Welch t")
    assert found["time_to_cancel"].status in ("passed", "cannot tell")


def test_moments_and_curves_give_the_same_difference(service):
    card = scorecard.measure(service)
    cancel = metrics.get("time_to_cancel")
    shown = survival.readings(service, cancel, checks=card.checks).set_index("reading")
    e = {c.metric: c for c in card.claims}["time_to_cancel"].estimate
    row = shown.loc["difference in days without the event, up to 28"]
    assert (row["value"], row["low"], row["high"], row["p"]) == pytest.approx((e.diff, e.low, e.high, e.p), rel=EXACT)
    share = shown.loc["difference in the share without it at 28"]
    table = units.load(service).execute()
    weight = table[WEIGHT]
    left = ((table["cancellations_until"] < 28) * weight).groupby(table["arm"]).sum() / weight.groupby(
        table["arm"]
    ).sum()
    assert share["value"] == pytest.approx(left["control"] - left["early"], rel=EXACT)
    assert shown["p"].between(0, 1).all()


def test_curves_of_a_metric_outside_the_plan_are_drawn(service):
    rows = survival.curves(service, metrics.get("time_to_cancel"))
    text_only = replace(metrics.get("time_to_cancel"), window_days=14)
    assert len(survival.curves(service, text_only)) == 2 * 15
    assert list(rows.columns) == survival.CURVE
    assert rows.groupby("arm")["time"].agg(["min", "max"]).to_numpy().tolist() == [[0, 28], [0, 28]]
    assert rows["survival"].between(rows["low"], rows["high"]).all()
    ax = plots.survival(rows, labels=("Days since assignment", "Accounts that have not cancelled"))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["control", "early"]
    assert sum(t.get_text() == "6,000" for t in ax.texts) == 2
    assert {"control", "early"} <= {t.get_text() for t in ax.texts}  # whose row it is, not by colour alone
    failed = Check(name="Arm counts", passed=False, detail="")
    assert survival.curves(service, checks=[failed]).empty
    assert survival.readings(service, checks=[failed]).empty
    assert "Nothing to draw" in plots.survival(rows[:0], labels=("", "")).texts[0].get_text()
    with pytest.raises(ParameterError, match="is a mean; a curve is drawn of kind time_to_event"):
        survival.curves(service, metrics.get("days_to_value"))
    with pytest.raises(ParameterError, match="did you mean 'early'"):
        survival.curves(service, treatment="erly")


def test_every_time_of_the_catalogue_has_a_planted_truth():
    times = {name for name, metric in metrics.CATALOGUE.items() if metric.kind == "time_to_event"}
    assert times <= set(simulate.truth.METRICS)
