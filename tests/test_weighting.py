"""Weights meet known totals, cost what Kish says, and give the errors of R's survey; their intervals hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import reference
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import inference, moments, weighting
from helpers.errors import DataError, ParameterError
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import WEIGHT

EXACT = 1e-9  # relative


def totals(name, **levels):
    return pd.Series(levels).rename_axis(name)


def people(n=300, seed=4):
    rng = np.random.default_rng(seed)
    device = rng.choice(["tv", "phone", "web"], n, p=[0.6, 0.3, 0.1])
    return pd.DataFrame({"device": device, "region": rng.choice(["north", "south"], n), "y": rng.gamma(2, 3, n)})


DEVICE, REGION = totals("device", tv=300, phone=400, web=300), totals("region", north=450, south=550)


# R


def case(name: str):
    c = reference.case(name)
    return c["inputs"], c["expected"]


def near(*expected):
    return pytest.approx(expected, rel=1e-6, abs=1e-9)  # the tolerance of the cases


def normal(one):
    """Give R's limits, which are normal; ours are of t."""
    half = stats.norm.isf(0.025) * one.se
    return one.value - half, one.value + half


def test_post_stratified_schools_equal_r():
    given_, want = case("poststratification__api_srs_stype")
    frame = reference.data("survey_apisrs.csv")
    got = weighting.rake(frame, [totals("stype", **given_["population"])])
    by_type = pd.Series(got.weight).groupby(frame["stype"]).first()
    assert tuple(by_type) == near(*(want["weights_by_stype"][k] for k in by_type.index))
    assert got.rounds == 1
    without = weighting.mean(frame["api00"], got)
    within = weighting.mean(frame["api00"], got, sampled_share=200 / 6194)
    for one, key in ((without, "srs_mean_api00_nofpc"), (within, "srs_mean_api00")):
        assert (one.value, one.se, *normal(one)) == near(want[key]["est"], want[key]["se"], *want[key]["ci"])
    enroll = weighting.mean(frame["enroll"], got, sampled_share=200 / 6194)
    assert (6194 * enroll.value, 6194 * enroll.se) == near(
        want["srs_total_enroll"]["est"], want["srs_total_enroll"]["se"]
    )
    assert tuple(6194 * x for x in normal(enroll)) == near(*want["srs_total_enroll"]["ci"])


def test_raked_schools_equal_r():
    given_, want = case("raking__api_srs_stype_schwide")
    frame = reference.data("survey_apisrs.csv")
    got = weighting.rake(frame, [totals(name, **levels) for name, levels in given_.items()])
    cells = pd.Series(got.weight).groupby([frame["sch.wide"], frame["stype"]]).agg(["first", "size"])
    assert tuple(cells["first"]) == near(*want["cells"]["weight"])
    assert list(cells["size"]) == want["cells"]["n"]
    assert (got.n_effective,) == near(want["kish_neff"])
    for key, share in (("mean_api00", 200 / 6194), ("mean_api00_nofpc", 0.0)):
        one = weighting.mean(frame["api00"], got, sampled_share=share)
        assert (one.value, one.se, *normal(one)) == near(want[key]["est"], want[key]["se"], *want[key]["ci"])


def test_cells_of_gender_and_age_equal_r():
    _, want = case("poststratification__balance_sim_gender_age")
    sample, target = (
        reference.data(f"balance_sim_{which}.csv.gz").fillna({"gender": "unknown"}) for which in ("sample", "target")
    )
    got = weighting.rake(sample, [target.groupby(["gender", "age_group"]).size()])
    one = weighting.mean(sample["happiness"], got)
    assert (one.value, one.se) == near(want["mean"], want["se"])
    assert (len(sample) / one.n_effective,) == near(want["kish_deff"])
    with pytest.raises(DataError, match="column 'gender' is missing in 88 rows"):
        weighting.rake(reference.data("balance_sim_sample.csv.gz"), [target.groupby(["gender", "age_group"]).size()])


def test_weighting_classes_equal_r():
    given_, want = case("nonresponse__weighting_classes")
    parts = []
    for c in given_["classes"]:
        values = np.random.default_rng(1).normal(size=c["resp"])
        values = c["mean"] + c["sd"] * (values - values.mean()) / values.std(ddof=1)
        y = np.r_[values, np.full(c["sampled"] - c["resp"], np.nan)]
        parts.append(pd.DataFrame({"cls": c["cls"], "y": y, "w": c["w"]}))
    asked = pd.concat(parts, ignore_index=True).assign(answered=lambda f: f["y"].notna(), arm="a")
    got = weighting.nonresponse(asked, by=["cls"], answered="answered")
    yes = asked[asked["answered"]]
    assert tuple(got.weight) == near(*yes["w"])
    assert (len(yes) / got.n_effective, yes["y"].mean()) == near(want["kish_deff"], want["unweighted"])
    assert (weighting.mean(yes["y"], got).value,) == near(want["weighted"])
    y = Measure(table=UNITS_TABLE, agg="value", column="y")
    read = moments.from_rows(
        yes.assign(**{WEIGHT: got.weight}), columns=["y", WEIGHT], by=["arm", "cls"], weighted=True
    )
    what = Metric(name="y", title="Y", kind="mean", numerator=y, better="higher", unit="")
    (one,) = inference.average(read, what, of="a", stratum="cls", days=28)
    assert (one.value, one.se) == near(want["weighted"], want["se_strat"])


# Other oracles and properties


def test_the_error_is_that_of_residuals_of_weighted_least_squares():
    frame = people()
    base = np.random.default_rng(1).uniform(1, 3, len(frame))
    got = weighting.rake(frame, [DEVICE, REGION], weight=base)
    dummies = sm.add_constant(pd.get_dummies(frame[["device", "region"]], drop_first=True).astype(float))
    z = got.weight * sm.WLS(frame["y"], dummies, weights=base).fit().resid
    one = weighting.mean(frame["y"], got)
    assert one.se == pytest.approx(np.sqrt(len(z) * z.var(ddof=1)) / got.weight.sum(), rel=EXACT)
    assert one.value == pytest.approx(np.average(frame["y"], weights=got.weight), rel=EXACT)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_every_total_is_met_and_the_scale_of_the_start_does_not_matter(seed, scale):
    frame = people(seed=seed)
    got = weighting.rake(frame, [DEVICE, REGION])
    for total in (DEVICE, REGION):
        name = str(total.index.name)
        met = pd.Series(got.weight).groupby(frame[name]).sum()
        assert met[total.index].to_numpy() == pytest.approx(total.to_numpy(), rel=1e-9)
    assert got.n_effective == pytest.approx(got.weight.sum() ** 2 / (got.weight**2).sum(), rel=EXACT)
    again = weighting.rake(frame, [DEVICE, REGION], weight=np.full(len(frame), scale))
    assert again.weight == pytest.approx(got.weight, rel=1e-8)
    margin = weighting.mean((frame["device"] == "tv").astype(float), got)
    assert margin.value == pytest.approx(0.3, rel=1e-8)
    assert margin.se < 1e-10  # what is known has no error
    ratio = pd.crosstab(frame["device"], frame["region"], values=got.weight, aggfunc="first").to_numpy()
    assert ratio[0] / ratio[1] == pytest.approx(np.full(2, ratio[0, 0] / ratio[1, 0]), rel=1e-8)  # no interaction


def test_trimming_trades_the_totals_for_precision():
    frame = people(120)
    got = weighting.rake(frame, [totals("device", tv=200, phone=300, web=500), REGION])
    cut = weighting.trim(got, 2)
    assert got.largest > 2
    assert cut.largest == pytest.approx(2, rel=1e-6)
    assert cut.weight.sum() == pytest.approx(got.weight.sum(), rel=EXACT)
    assert cut.n_effective > got.n_effective
    assert cut.miss > 0.05
    assert f"miss a total by up to {cut.miss:.1%}" in cut.words
    assert "meet every total" in got.words
    low = got.weight < 1.5 * got.weight.mean()
    kept = np.unique((cut.weight / got.weight)[low & (cut.weight < cut.weight.max())].round(9))
    assert len(kept) == 1  # the others rise alike
    assert weighting.trim(got, 1_000).weight == pytest.approx(got.weight)


@pytest.mark.parametrize(
    ("margins", "error", "words"),
    [
        (
            [totals("device", tv=3, phone=3, web=3, console=1)],
            DataError,
            "nobody in the sample has device 'console', 10",
        ),
        ([totals("device", tv=3, phone=3)], DataError, "device 'web' has no known total"),
        ([totals("devise", tv=3)], DataError, "no column 'devise'; did you mean 'device'"),
        ([DEVICE, totals("region", north=1, south=2)], DataError, "the margins disagree .* 1,000, 3"),
        ([totals("device", tv=3, phone=3, web=0)], ParameterError, "by device must be above 0"),
        ([], ParameterError, "totals is empty"),
    ],
)
def test_what_cannot_be_met_is_refused_by_name(margins, error, words):
    with pytest.raises(error, match=words):
        weighting.rake(people(), margins)


def test_margins_without_a_common_solution_are_refused():
    frame = pd.DataFrame({"device": ["tv", "web"], "region": ["north", "south"]})
    with pytest.raises(DataError, match="no weights meet all margins"):
        weighting.rake(frame, [totals("device", tv=70, web=30), totals("region", north=50, south=50)])


def test_a_class_of_which_nobody_answered_is_refused_by_name():
    asked = people().assign(answered=lambda f: f["device"] != "web")
    with pytest.raises(DataError, match="nobody among those who answered has device 'web'"):
        weighting.nonresponse(asked, by=["device"], answered="answered")


# Simulation


def test_intervals_of_a_raked_mean_cover_the_populations():
    """Inclusion depends on device and region, hours too: the plain mean misses, the raked one is covered in 95 %."""
    rng = np.random.default_rng(19400101)
    size, n, replicates = 20_000, 400, 600
    frame = people(size, seed=9)
    level = frame["device"].map({"tv": 6.0, "phone": 3.0, "web": 1.0}) + frame["region"].map({"north": 2.0, "south": 0})
    frame["y"] = rng.gamma(2, level / 2)
    known = [frame.groupby("device").size(), frame.groupby("region").size()]
    chance = frame["device"].map({"tv": 1.0, "phone": 2.0, "web": 4.0}) * frame["region"].map({"north": 1, "south": 2})
    chance = (chance / chance.sum()).to_numpy()
    truth, covered, plain, errors, values = frame["y"].mean(), [], [], [], []
    for _ in range(replicates):
        drawn = frame.iloc[rng.choice(size, n, p=chance)]
        one = weighting.mean(drawn["y"], weighting.rake(drawn, known))
        covered.append(one.low <= truth <= one.high)
        errors.append(one.se)
        values.append(one.value)
        plain.append(drawn["y"].mean())
    # 600 replicates: two standard errors of a coverage are 1.8 points, of a standard deviation 6 %
    assert 0.925 <= np.mean(covered) <= 0.975
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.08)
    assert np.mean(plain) < truth - 4 * np.std(plain)
