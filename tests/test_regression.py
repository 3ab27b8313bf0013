"""Least squares on rows equals R, statsmodels and Welch's test: every kind of errors, weights, groups and slopes."""

import numpy as np
import pandas as pd
import pytest
import reference
import statsmodels.api as sm
from columns import metric
from reference import case, near
from scipy import stats

from helpers import inference, moments
from helpers.errors import ParameterError
from helpers.inference.regression import regress
from helpers.results import NotEstimable
from helpers.robust import accounts, estimators

EXACT = 1e-9  # relative: the same formula, in another order of operations
KINDS = {"se_const": "classic", "se_HC0": "HC0", "se_HC1": "HC1", "se_HC2": "HC2", "se_HC3": "HC3"}


def fitted(y, x, **how):
    found = regress(y, x, **how).set_index("term")
    return found["value"], found["se"]


def dummies(labels):
    """Give a column for each group but the first."""
    return dict(pd.get_dummies(labels.astype(str), drop_first=True, dtype=float).items())


def same(c, expected, y, x, **how):
    """Hold coefficients, by name, and their errors against those of a case.

    R's sandwich takes w e, not sqrt(w) e, for equally spread where rows have weights w: no classical error of lm's, and
    not ours. What numpy makes of it is held beside.
    """
    for name, errors in KINDS.items():
        if "weights" in how and errors == "classic":
            w, design = np.asarray(how["weights"], float), np.column_stack([np.ones(len(y)), *x.values()]).astype(float)
            bread = np.linalg.inv(design.T @ (w[:, None] * design))
            score = w * (y - design @ (bread @ design.T @ (w * y)))
            cov = bread @ design.T @ design @ bread * (score @ score) / (len(y) - design.shape[1])
            for term, want in expected.items():
                assert np.sqrt(cov[i := 1 + list(x).index(term), i]) == near(c, want[name])
            continue
        value, se = fitted(y, x, errors=errors, **how)
        for term, want in expected.items():
            assert (value[term], se[term]) == near(c, (want["est"], want[name])), (term, name)


def test_differences_in_differences_of_card_and_krueger_agree_with_r():
    c = case("did__card_krueger")
    wide, want = reference.data(c).dropna(subset=["fte"]), c["expected"]
    x = {"nj": wide["nj"], "d": wide["d"], "did": wide["nj"] * wide["d"]}
    assert len(wide) == want["n"]
    same(c, {"did": want["did"]}, wide["fte"], x)
    cell = wide["nj"].map({0: "pa", 1: "nj"}) + wide["d"].map({0: "_before", 1: "_after"})
    read = moments.from_rows(wide.assign(arm=cell), columns=["fte"], by=["arm"])
    for name in want["means"]:
        (found,) = inference.average(read, metric(numerator="fte"), of=name, days=1)
        assert (found.value, found.se) == near(c, (want["means"][name], want["ses"][name]))
    both = reference.data(c).dropna(subset=["demp"])
    both = both[both["d"] == 0]  # the change of a shop stands in both of its rows
    same(c, {"nj": want["did_demp"]}, both["demp"], {"nj": both["nj"]})


def test_the_incinerator_agrees_with_r():
    c = case("did__kielmc_incinerator")
    house, want = reference.data(c), c["expected"]
    x = {"y81": house["y81"], "nearinc": house["nearinc"], "did": house["y81"] * house["nearinc"]}
    assert len(house) == want["n"]
    same(c, {"did": want["did"]}, house["rprice"], x)
    same(c, {"did": want["did_age"]}, house["rprice"], x | {"age": house["age"], "age2": house["age"] ** 2})
    same(c, {"did": want["did_log"]}, np.log(house["rprice"]), x)
    value, _ = fitted(house["rprice"], x)
    assert list(value) == near(c, list(want["coef"].values()))


def test_two_way_fixed_effects_with_clustered_errors_agree_with_r():
    c = case("did__mpdta_twfe")
    panel, want = reference.data(c), c["expected"]
    treated = ((panel["first.treat"] > 0) & (panel["year"] >= panel["first.treat"])).astype(float)

    def within(column):
        by = [column.groupby(panel[key]).transform("mean") for key in ("countyreal", "year")]
        return column - by[0] - by[1] + column.mean()  # balanced: as good as a dummy for each county and year

    value, se = fitted(within(panel["lemp"]), {"D": within(treated)}, errors="cluster", clusters=panel["countyreal"])
    n, counties, years = len(panel), panel["countyreal"].nunique(), panel["year"].nunique()
    dummies_counted = np.sqrt((n - 2) / (n - counties - years))  # R's k holds them, ours two columns
    correction = np.sqrt(counties / (counties - 1) * (n - 1) / (n - 2))  # which CR1 has and CR0 has not
    assert (value["D"], se["D"] * dummies_counted, se["D"] / correction) == near(
        c, (want["est"], want["se_CR1"], want["se_CR0"])
    )


def test_clustered_errors_agree_with_r_and_petersen():
    c = case("clustered_se__petersen")
    firms, want = reference.data(c), c["expected"]
    both = firms[["firm", "year"]].to_numpy()
    assert len(firms) == want["n"]
    for named, how in {
        "se_ols": {"errors": "classic"}, "se_white_HC1": {"errors": "HC1"},
        "se_firm": {"errors": "cluster", "clusters": firms["firm"]},
        "se_year": {"errors": "cluster", "clusters": firms["year"]},
        "se_both": {"errors": "cluster", "clusters": both},
    }.items():  # fmt: skip
        value, se = fitted(firms["y"], {"x": firms["x"]}, **how)
        assert (value["x"], value["constant"]) == near(c, (want["est"], want["const"]))
        assert se["x"] == near(c, want[named]), named


def test_a_trial_by_cable_systems_agrees_with_r_by_system_and_by_voter():
    c = case("clustered_se__rock_the_vote_tv_ads")
    systems, want = reference.data(c), c["expected"]
    voters = systems.loc[systems.index.repeat(systems["n"])].reset_index()
    votes = (voters.groupby("index").cumcount() < voters["r"]).astype(float)
    assert (len(systems), len(voters), votes.sum()) == (want["n_clusters"], want["n_individuals"], want["sum_r"])
    treated, strata = {"treated": systems["treated"]}, dummies(systems["strata"])
    same(c, {"treated": want["unweighted"]}, systems["p"], treated)
    same(c, {"treated": want["weighted"]}, systems["p"], treated, weights=systems["n"])
    same(c, {"treated": want["strataFE"]}, systems["p"], treated | strata)
    same(c, {"treated": want["strataFE_weighted"]}, systems["p"], treated | strata, weights=systems["n"])

    each, one = want["individual_level"], {"treated": voters["treated"]}
    value, se = fitted(votes, one, errors="cluster", clusters=voters["index"])
    assert (value["treated"], se["treated"]) == near(c, (each["est"], each["se_CR1"]))
    assert fitted(votes, one, errors="classic")[1]["treated"] == near(c, each["se_naive"])
    # without a correction for few clusters, voters by systems are systems weighted by their voters
    assert fitted(systems["p"], treated, weights=systems["n"], errors="HC0")[1]["treated"] == near(c, each["se_CR0"])
    value, se = fitted(votes, one | dummies(voters["strata"]), errors="cluster", clusters=voters["index"])
    assert (value["treated"], se["treated"]) == near(
        c, (want["individual_strataFE"]["est"], want["individual_strataFE"]["se_CR1"])
    )


def test_small_classes_of_star_agree_with_r_with_and_without_a_level_for_each_school():
    """Stock and Watson's table 13.1 prints 13.90 (2.45), 0.31 (2.27) and 918.04 (1.63)."""
    c = case("regression_adjustment__star_kindergarten")
    frame, want = reference.data(c).dropna(subset=["readk", "mathk", "stark"]), c["expected"]
    arms = {"small": "small", "aide": "regular+aide"}

    def model(rows):
        return rows["readk"] + rows["mathk"], {k: (rows["stark"] == v).astype(float) for k, v in arms.items()}

    y, x = model(frame)
    same(c, {term: want[term] for term in arms}, y, x)
    found = regress(y, x, errors="HC1")
    assert (len(frame), found.attrs["r2"]) == (want["n"], near(c, want["r2"]))
    assert found.loc[0, ["value", "se"]].tolist() == near(c, [want["const"], want["const_se_HC1"]])
    known = frame.dropna(subset=["experiencek", "schoolidk"])
    y, x = model(known)
    x |= {"experience": known["experiencek"]} | dummies(known["schoolidk"])
    same(c, {term: want[f"{term}_schoolFE"] for term in arms}, y, x)


def hillstrom(c, past):
    """Read two arms of the mail campaign with columns of their past; words become a 0/1 column for each but one."""
    frame = reference.data(c)
    frame = frame[frame["segment"].isin(["Mens E-Mail", "No E-Mail"])]
    before = pd.get_dummies(frame[past], drop_first=True, dtype=float).to_numpy(float)
    treated = (frame["segment"] == "Mens E-Mail").to_numpy()
    spend = frame["spend"].to_numpy(float)
    return accounts.Arms(
        metric="spend", control=spend[~treated], treatment=spend[treated],
        control_before=before[~treated], treatment_before=before[treated],
    )  # fmt: skip


def test_adjustment_by_regression_agrees_with_r():
    c = case("regression_adjustment__hillstrom_mens_spend")
    want = c["expected"]
    everything = ["history", "recency", "mens", "womens", "newbie", "zip_code", "channel"]
    for key, past in (("unadj", []), ("ancova", ["history"]), ("ancova_full", everything)):
        arms = hillstrom(c, past) if past else hillstrom(c, ["history"]).without_past()
        for name, errors in KINDS.items():
            got = estimators.regression(arms, "common", errors=errors)
            assert (got.diff, got.se) == near(c, (want[key]["est"], want[key][name])), (key, name)
    lin = estimators.regression(hillstrom(c, ["history"]), "own")
    assert (lin.diff, lin.se, lin.low, lin.high) == near(
        c, (want["lin"]["est"], want["lin"]["se_HC2"], *want["lin"]["ci"])
    )


def test_cuped_with_the_slope_within_arms_agrees_with_r():
    """The estimate is that of ANCOVA; the error then taken is Welch's of what is left."""
    c = case("cuped__hillstrom_mens_spend")
    arms, want = hillstrom(c, ["history"]), c["expected"]
    plain, found = estimators.mean(arms.without_past()), estimators.regression(arms, "common")
    gap = arms.treatment_before.mean() - arms.control_before.mean()
    theta = (plain.diff - found.diff) / gap
    sides = {"c": (arms.control, arms.control_before), "t": (arms.treatment, arms.treatment_before)}
    rows = pd.concat(pd.DataFrame({"arm": arm, "y": y - theta * x[:, 0]}) for arm, (y, x) in sides.items())
    read = moments.from_rows(rows, columns=["y"], by=["arm"])
    (left,) = inference.compare(read, metric(), control="c", treatment="t", days=1, pre_days=1)
    inside = want["cuped_within"]
    assert (theta, left.diff, left.se, left.p) == near(
        c, (want["theta_within"], inside["diff"], inside["se"], inside["p"])
    )
    pooled = estimators.mean(arms)
    assert (plain.diff - pooled.diff) / gap == near(c, want["theta_pooled"])
    rho = (
        (plain.diff - pooled.diff)
        / gap
        * np.std(np.concatenate([arms.control_before, arms.treatment_before]))
        / np.std(arms.pooled)
    )
    assert (rho, rho**2) == near(c, (want["rho"], want["var_reduction"]))


# statsmodels and scipy


def made(n=300, seed=5):
    rng = np.random.default_rng(seed)
    before = rng.lognormal(0, 0.8, (n, 2))
    treated = rng.random(n) < 0.4
    y = before @ [1.0, 0.3] * (1 + 0.3 * treated) + rng.lognormal(0, 1 + 0.3 * treated)
    return treated, before, y


def arms_of(treated, before, y):
    return accounts.Arms(
        metric="y", control=y[~treated], treatment=y[treated],
        control_before=before[~treated], treatment_before=before[treated],
    )  # fmt: skip


@pytest.mark.parametrize("slopes", ["common", "own"])
def test_both_slopes_equal_statsmodels(slopes):
    treated, before, y = made()
    got = estimators.regression(arms_of(treated, before, y), slopes)
    centred = before - before.mean(axis=0)
    columns = [treated, *centred.T, *((treated * centred.T) if slopes == "own" else ())]
    theirs = sm.OLS(y, sm.add_constant(np.column_stack(columns).astype(float))).fit(cov_type="HC2", use_t=True)
    low, high = theirs.conf_int()[1]
    assert (got.diff, got.se, got.p, got.low, got.high) == pytest.approx(
        (theirs.params[1], theirs.bse[1], theirs.pvalues[1], low, high), rel=EXACT
    )
    assert (got.control, got.treatment) == pytest.approx((theirs.params[0], theirs.params[:2].sum()), rel=EXACT)


def test_own_slopes_are_one_regression_in_each_arm():
    """Lin's estimate is what each arm's own least-squares line says of the average past of both (his equation 2)."""
    treated, before, y = made(seed=6)
    ends = []
    for arm in (False, True):
        line = np.linalg.lstsq(
            np.column_stack([np.ones((treated == arm).sum()), before[treated == arm]]), y[treated == arm], rcond=None
        )[0]
        ends.append(line[0] + before.mean(axis=0) @ line[1:])
    got = estimators.regression(arms_of(treated, before, y), "own")
    assert (got.control, got.treatment) == pytest.approx(ends, rel=EXACT)


def test_without_a_past_it_is_students_and_welchs_difference():
    treated, _, y = made()
    arms = accounts.of(y[~treated], y[treated])
    equal = stats.ttest_ind(y[treated], y[~treated])
    interval = equal.confidence_interval()
    got = estimators.regression(arms, errors="classic")
    assert (got.low, got.high, got.p) == pytest.approx((interval.low, interval.high, equal.pvalue), rel=EXACT)
    assert estimators.regression(arms).se == pytest.approx(estimators.mean(arms).se, rel=EXACT)  # HC2


def test_a_relative_interval_is_fiellers_of_the_adjusted_means():
    treated, before, y = made(n=4_000)
    arms = arms_of(treated, before, y)
    got, cuped = estimators.regression(arms), estimators.mean(arms)
    assert (got.rel, got.rel_low, got.rel_high) == pytest.approx((cuped.rel, cuped.rel_low, cuped.rel_high), abs=0.02)
    assert (got.rel_low < 0 < got.rel_high) == (got.low < 0 < got.high)


def test_what_the_past_does_not_determine_is_said_and_a_constant_past_is_left_out():
    treated, before, y = made()
    flat = arms_of(treated, np.column_stack([before, np.full(len(y), 3.0)]), y)
    assert estimators.regression(flat) == estimators.regression(arms_of(treated, before, y))
    twice = estimators.regression(arms_of(treated, np.column_stack([before, before[:, 0]]), y))
    assert isinstance(twice, NotEstimable)
    assert "repeats the others" in twice.reason
    assert "do not vary" in estimators.regression(accounts.of([1.0, 1.0], [1.0, 1.0])).reason
    with pytest.raises(ParameterError, match="did you mean 'common'"):
        estimators.regression(flat, "commn")
    with pytest.raises(ParameterError, match="weights must be above 0"):
        regress(y, {"treated": treated}, weights=np.zeros(len(y)))


@pytest.mark.parametrize("slopes", ["common", "own"])
def test_error_rate_and_coverage_hold_where_slopes_and_variances_differ(slopes):
    """The arms are unequal (1 to 4) and the treatment changes slope and variance: what ANCOVA's critics fear."""
    rng, covered, runs = np.random.default_rng(20130301), 0, 800
    for _ in range(runs):
        treated = np.arange(400) % 5 == 0
        x = rng.normal(0, 1, 400)
        y = 10 + x * np.where(treated, 2.0, 0.5) + rng.normal(0, 1, 400) * np.where(treated, 2.0, 1.0) + 0.5 * treated
        got = estimators.regression(arms_of(treated, x[:, None], y), slopes)
        truth = 0.5 + 1.5 * x.mean() * (slopes == "own")  # in these accounts, where each arm has its own slope
        covered += got.low <= truth <= got.high
    assert 0.93 < covered / runs < 0.97  # two and a half standard errors of 800 runs


@pytest.mark.parametrize("ways", [1, 2])
def test_clustered_errors_equal_statsmodels(ways):
    rng = np.random.default_rng(9)
    groups = np.column_stack([rng.integers(0, 20, 600), rng.integers(0, 15, 600)])
    x = rng.standard_normal(600) + rng.standard_normal(20)[groups[:, 0]]
    y = x + rng.standard_normal(20)[groups[:, 0]] + rng.standard_normal(15)[groups[:, 1]] + rng.standard_normal(600)
    labels = groups[:, :ways].squeeze()
    found = regress(y, {"x": x}, errors="cluster", clusters=labels)
    theirs = sm.OLS(y, sm.add_constant(x)).fit(cov_type="cluster", cov_kwds={"groups": groups[:, 0]}, use_t=True)
    if ways == 2:
        by = [
            sm.OLS(y, sm.add_constant(x)).fit(cov_type="cluster", cov_kwds={"groups": g}).cov_params() for g in groups.T
        ]
        cell = sm.OLS(y, sm.add_constant(x)).fit(
            cov_type="cluster", cov_kwds={"groups": groups[:, 0] * 15 + groups[:, 1], "use_correction": False}
        )
        assert found["se"][1] == pytest.approx(np.sqrt((sum(by) - cell.cov_params())[1, 1]), rel=EXACT)
        return
    low, high = theirs.conf_int()[1]
    assert (found["se"][1], found["p"][1], found["low"][1], found["high"][1]) == pytest.approx(
        (theirs.bse[1], theirs.pvalues[1], low, high), rel=EXACT
    )
