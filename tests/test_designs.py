"""What a design costs and gives: standard errors as R has them, and a recommendation that follows the objective."""

import ibis
import numpy as np
import pandas as pd
import pytest
from reference import case, data
from test_sampling import people

from helpers import moments, sampling
from helpers.errors import ParameterError


def test_standard_errors_of_designs_are_those_of_r():
    # R 4.2.2 on 27,285 short-video users in four strata; the sizes before rounding, as there.
    c = case("sampling__kuairand_strata_follow_num")["expected"]
    size, spread = pd.Series(c["N"]), pd.Series(c["sd"])
    users = data("kuairand_user_features.csv.gz")
    degree = users["user_active_degree"].where(users["user_active_degree"].isin(size.index), "other")
    read = moments.from_rows(users.assign(stratum=degree), columns=["follow_user_num"], by=["stratum"])
    at = [list(read.groups["stratum"]).index(name) for name in size.index]
    assert list(read.n[at]) == list(size)
    assert list(read.mean[at, 0]) == pytest.approx(list(c["mean"].values()), rel=1e-6)
    assert list(np.sqrt(read.cov[at, 0, 0])) == pytest.approx(list(spread), rel=1e-6)
    assert read.pool([]).mean[0, 0] == pytest.approx(c["pop_mean"], rel=1e-6)
    for name, n in (
        ("neyman", c["neyman"]),
        ("prop", c["proportional"]),
        ("equal", dict.fromkeys(size.index, 250)),
    ):
        got = sampling.standard_error(size, spread, pd.Series(n, dtype=float))
        assert got == pytest.approx(c[f"se_{name}"], rel=1e-6)
    mean = pd.Series(c["mean"])
    cells = pd.DataFrame(
        {"size": size, "mean": mean, "variance": spread**2 * (size - 1) / size, "audience": [True, *[False] * 3]}
    )
    table = sampling.compare(cells, 1_000).set_index("design")
    assert table.loc["simple random", "population_width"] / 1.959964 == pytest.approx(c["se_srs"], rel=1e-6)
    # Whole accounts instead of fractions move the error in the fifth digit.
    assert table.loc["Neyman", "population_width"] / 1.959964 == pytest.approx(c["se_neyman"], rel=1e-4)
    assert table.loc["in proportion", "population_width"] / 1.959964 == pytest.approx(c["se_prop"], rel=1e-4)


def test_an_oversampled_mean_s_error_is_that_of_r():
    c = case("sampling__oversample_heavy_viewers")
    size, n, spread = (pd.Series(c["inputs"][k], dtype=float) for k in ("N", "n", "sd"))
    assert sampling.standard_error(size, spread, n) == pytest.approx(c["expected"]["se_fpc"], rel=1e-6)


def test_kish_is_that_of_r_and_of_the_published_example():
    cells = case("raking__api_srs_stype_schwide")["expected"]
    weights = np.repeat(cells["cells"]["weight"], cells["cells"]["n"])
    assert sampling.kish(weights) == pytest.approx(cells["kish_neff"], rel=1e-6)


def test_five_times_a_fifth_leaves_6600_in_effect():
    # The plan's own example: 5 × oversampling of a 20 % group, 10,000 accounts.
    size = pd.Series({"audience": 200_000, "others": 800_000})
    n = sampling.allocate(size, 10_000, scores=size * [5, 1])
    assert sampling.effective_n(size, n) == pytest.approx(6_614, abs=2)
    assert sampling.design_effect(size, n) == pytest.approx(1.512, abs=1e-3)
    assert sampling.design_effect(size, sampling.allocate(size, 10_000)) == pytest.approx(1.0)


def test_the_widths_compared_are_the_spread_of_real_draws():
    frame, n, times = people(4_000, seed=6), 400, 300
    audience = frame["tv"].map({True: "true", False: "false"})
    by = frame.groupby(audience)["hours"]
    cells = pd.DataFrame({"size": by.size(), "mean": by.mean(), "variance": by.var(ddof=0)})
    cells["audience"] = cells.index == "true"
    table = sampling.compare(cells, n, factor=4).set_index("design")
    settled = sampling.plan(
        ibis.memtable(frame), n={"early": n}, design=sampling.Design(oversample={"tv=true": 4}), salt="s"
    )
    rng, means = np.random.default_rng(3), []
    for _ in range(times):
        taken = [
            (size, rng.choice(frame["hours"][audience == s], k, replace=False).mean())
            for s, size, k in settled.cuts[["stratum", "size", "n"]].itertuples(index=False)
        ]
        means.append(sum(size * mean for size, mean in taken) / len(frame))
    # The SD of 300 draws is known to 4 %.
    assert table.loc["audience × 4", "population_width"] / 1.96 == pytest.approx(np.std(means), rel=0.15)
    assert table.loc["audience × 4", "audience"] == settled.cuts.set_index("stratum")["n"]["true"]
    assert table.loc["audience × 4", "audience_width"] < table.loc["simple random", "audience_width"]


def test_the_recommendation_follows_the_objective_and_says_why():
    asked = {"n": 10_000, "audience": "engagement=heavy", "share": 0.1}
    population = sampling.recommend("population", **asked)
    target = sampling.recommend("target_audience", **asked)
    both = sampling.recommend("both", **asked)
    assert population.design == sampling.Design()
    assert "everybody" in population.reason
    assert target.design.oversample == {"engagement=heavy": 9}
    assert "1,000 accounts" in target.reason
    assert "5,000" in target.reason
    factor = both.design.oversample["engagement=heavy"]
    assert 1 < factor < 9
    size = pd.Series({"audience": 100_000, "others": 900_000})
    kept, less = (
        sampling.effective_n(size, sampling.allocate(size, 10_000, scores=size * [f, 1])) for f in (factor, factor + 1)
    )
    assert less < 8_000 <= kept


def test_an_audience_nobody_named_cannot_be_oversampled():
    got = sampling.recommend("target_audience", n=10_000)
    assert got.design == sampling.Design()
    assert "nobody has said which one" in got.reason
    assert sampling.recommend("both", n=100, audience="a=b", share=0.6).name == "in proportion"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampling.recommend("everyone", n=1), "objective is 'everyone'"),
        (lambda: sampling.recommend("both", n=1, audience="a=b", share=1.2), "must be between 0 and 1"),
        (lambda: sampling.kish([]), "above 0 and finite"),
        (lambda: sampling.kish([1, 0]), "above 0 and finite"),
        (lambda: sampling.control_gain(0, 5), "at least one"),
        (
            lambda: sampling.standard_error(pd.Series({"a": 5}), pd.Series({"a": 1.0}), pd.Series({"a": 0})),
            "no account is drawn from 'a'",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def test_a_larger_control_is_worth_as_much_as_the_plan_says():
    # Requirement: 100,000 controls against 10,000 treated multiply the standard error by 0.74.
    assert sampling.control_gain(10_000, 100_000) == pytest.approx(0.74, abs=0.005)
