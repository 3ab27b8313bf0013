"""Balance and matching: differences as by hand, a joint test with its error rate, and pairs nearest first."""

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_sampling import drawn, people

from helpers import sampling
from helpers.errors import DataError, ParameterError
from helpers.moments import Moments
from helpers.sampling import likeness


def of(frame, assigned, attributes):
    return sampling.balance(ibis.memtable(frame), ibis.memtable(assigned), attributes)


def test_balance_equals_its_formula_computed_by_hand():
    frame = people(1_000)
    got = of(frame, pd.DataFrame({"account": frame["account"].head(200), "arm": "early"}), ["region", "hours"])
    got = got.set_index(["attribute", "level"])
    sample = frame.head(200)
    p, q = (frame["region"] == "north").mean(), (sample["region"] == "north").mean()
    spread = np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert got["std_diff"]["region", "north"] == pytest.approx((q - p) / spread, rel=1e-12)
    a, b = frame["hours"], sample["hours"]
    assert got["std_diff"]["hours", "mean"] == pytest.approx((b.mean() - a.mean()) / np.sqrt((a.var() + b.var()) / 2))
    assert got["var_ratio"]["hours", "mean"] == pytest.approx(b.var() / a.var())


def test_an_oversampled_arm_looks_like_the_population_once_it_is_weighted():
    frame = people(6_000)
    got = drawn(frame, {"early": 1_500}, design=sampling.Design(oversample={"tv=true": 4}))
    gaps = [
        of(frame, table, ["tv"])["std_diff"].abs().max()
        for table in (got[["account", "arm"]], got[["account", "arm", "inclusion_probability"]])
    ]
    assert gaps[0] > 0.5
    assert gaps[1] < 1e-9


def test_missing_numbers_are_compared_as_missing():
    frame = people(400)
    frame.loc[:99, "hours"] = np.nan
    got = of(frame, frame.iloc[:50][["account"]].assign(arm="early"), ["hours"]).set_index("level")
    assert got.loc["missing", ["population", "sample"]].tolist() == [0.25, 1.0]
    assert list(got.index) == ["missing"]  # nobody in the arm has a number, so there is no mean to compare


def test_without_attributes_there_is_nothing_to_compare():
    frame = people(50)
    assert of(frame, frame[["account"]].head(9).assign(arm="early"), []).empty
    tests = sampling.joint(ibis.memtable(frame), ibis.memtable(frame[["account"]].head(9).assign(arm="e")), [])
    assert sampling.by_chance(tests).passed is None


def test_the_joint_test_without_strata_is_that_of_the_formula():
    # Hansen and Bowers (2008): for one group it is n N / (N - n) times the Mahalanobis distance of the means.
    frame = people(2_000)
    frame["more"] = frame["hours"] + np.random.default_rng(1).normal(size=2_000)
    assigned = frame[["account"]].head(300).assign(arm="early")
    got = sampling.joint(ibis.memtable(frame), ibis.memtable(assigned), ["hours", "more", "tv"]).iloc[0]
    x = frame[["hours", "more", "tv"]].to_numpy(float)
    gap = x[:300].mean(axis=0) - x.mean(axis=0)
    expected = 300 * 2_000 / 1_700 * gap @ np.linalg.solve(np.cov(x, rowvar=False), gap)
    assert (got["chi2"], got["df"]) == (pytest.approx(expected), 3)
    assert got["p"] == pytest.approx(stats.chi2.sf(expected, 3))


def test_false_alarms_of_the_joint_test_are_as_rare_as_stated_whatever_the_number_of_attributes():
    # The numerical part alone, on 300 stratified draws: 20 attributes, skewed, rare and correlated ones among them.
    rng, n, times = np.random.default_rng(4), 1_200, 300
    x = np.column_stack([rng.gamma(2, 5, (n, 12)), rng.random((n, 7)) < 0.1, np.zeros(n)])
    x[:, -1] = x[:, 0] + x[:, 1] + rng.normal(size=n)
    strata = rng.permutation(np.repeat([0, 1], [800, 400]))

    def moments(rows):
        parts = [x[rows[strata[rows] == s]] for s in (0, 1)]
        off = [p - p.mean(axis=0) for p in parts]
        return Moments(
            groups=pd.DataFrame({"stratum": [0, 1]}),
            columns=tuple(map(str, range(x.shape[1]))),
            n=np.array([float(len(p)) for p in parts]),
            mean=np.array([p.mean(axis=0) for p in parts]),
            scatter=np.array([np.einsum("ni,nj->ij", o, o) for o in off]),
        )

    everybody, p = moments(np.arange(n)), []
    for _ in range(times):
        taken = [rng.choice(np.flatnonzero(strata == s), k, replace=False) for s, k in ((0, 150), (1, 100))]
        p.append(likeness._omnibus(everybody, moments(np.concatenate(taken)))["p"])
    assert 4 <= np.sum(np.array(p) < 0.05) <= 27  # 15 expected, SD 3.8
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_a_planted_imbalance_is_flagged_and_a_random_draw_is_not():
    frame = people(8_000)
    odds = np.exp(0.15 * (frame["hours"] - frame["hours"].mean()) / frame["hours"].std())
    keen = frame.sample(1_000, weights=odds, random_state=1)[["account"]].assign(arm="early")
    fair = drawn(frame, {"early": 1_000}, salt="t")[["account", "arm"]]
    settled = sampling.plan(ibis.memtable(frame), n={"early": 1_000}, strata=["region"], salt="t")
    for arms, passed in ((keen, False), (fair, True)):
        tests = sampling.joint(
            ibis.memtable(frame), ibis.memtable(arms), ["region", "hours", "tv"], strata=settled.strata
        )
        check = sampling.by_chance(tests)
        assert check.passed is passed
        assert ("more than chance" in check.detail) is not passed


def test_what_the_strata_hold_in_place_is_no_covariate():
    frame = people(2_000)
    settled = sampling.plan(ibis.memtable(frame), n={"early": 200}, strata=["region"], salt="s")
    got = sampling.joint(ibis.memtable(frame), settled.draw(), ["region"], strata=settled.strata)
    assert got.empty


# Matching


def greedy(treated, pool, caliper):
    """Match by looking at every pair, the nearest first."""
    distance = np.linalg.norm(treated.to_numpy()[:, None] - pool.to_numpy()[None], axis=2)
    pairs, order = {}, np.dstack(np.unravel_index(np.argsort(distance, axis=None), distance.shape))[0]
    for i, j in order:
        if distance[i, j] <= caliper and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return {treated.index[i]: pool.index[j] for i, j in pairs.items()}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), sizes=st.tuples(st.integers(1, 60), st.integers(1, 90)), caliper=st.floats(0.01, 3))
def test_matches_are_those_of_looking_at_every_pair(seed, sizes, caliper):
    rng = np.random.default_rng(seed)
    treated, pool = (
        pd.DataFrame(rng.normal(size=(n, 2)), columns=["x", "y"], index=[f"{side}{i:03d}" for i in range(n)])
        for side, n in zip("tc", sizes, strict=True)
    )
    spread = pd.Series({"x": 1.0, "y": 1.0})
    got = sampling.nearest(treated, pool, caliper=caliper, spread=spread)
    assert got.pairs.set_index("treated")["control"].to_dict() == greedy(treated, pool, caliper)
    assert set(got.unmatched) == set(treated.index) - set(got.pairs["treated"])
    again = sampling.nearest(treated.sample(frac=1, random_state=1), pool[::-1], caliper=caliper, spread=spread)
    pd.testing.assert_frame_equal(got.pairs, again.pairs)


def test_matching_takes_out_an_imbalance_and_uses_nobody_twice():
    rng = np.random.default_rng(2)
    treated = pd.DataFrame({"hours": rng.normal(1, 1, 300)}, index=[f"t{i}" for i in range(300)])
    pool = pd.DataFrame({"hours": rng.normal(0, 1, 5_000)}, index=[f"c{i}" for i in range(5_000)])
    got = sampling.nearest(treated, pool, ratio=2)
    assert got.pairs["control"].is_unique
    assert got.pairs["treated"].value_counts().max() == 2
    chosen = pool.loc[got.pairs["control"], "hours"].mean()
    assert treated["hours"].mean() - pool["hours"].mean() > 0.8
    assert abs(treated.loc[got.pairs["treated"], "hours"].mean() - chosen) < 0.02
    assert got.words.startswith(f"Matched control: {len(got.pairs)} accounts")
    spread = pd.concat([treated, pool])["hours"].std()
    assert got.balance["before"].item() == pytest.approx((treated["hours"].mean() - pool["hours"].mean()) / spread)
    assert abs(got.balance["after"].item()) < 0.02 < 0.8 < got.balance["before"].item()


def test_it_is_called_matched_only_when_it_is():
    far = pd.DataFrame({"x": [9.0]}, index=["c"])
    got = sampling.nearest(pd.DataFrame({"x": [0.0]}, index=["t"]), far, spread=pd.Series({"x": 1.0}))
    assert got.words.startswith("No control was matched")
    assert got.unmatched == ("t",)


@pytest.mark.parametrize(
    ("treated", "pool", "more", "error", "message"),
    [
        ({"x": [1.0]}, {"y": [1.0]}, {}, DataError, "the pool has no covariate 'x'"),
        ({"x": [np.nan]}, {"x": [1.0]}, {}, DataError, "1 accounts of the treated have a missing covariate"),
        ({"x": [1.0]}, {"x": [1.0, 1.0]}, {}, DataError, "none of the covariates x varies"),
        ({"x": [1.0]}, {"x": [2.0]}, {"caliper": 0.0}, ParameterError, "caliper 0.0 must be above 0"),
    ],
)
def test_what_cannot_be_matched_is_said(treated, pool, more, error, message):
    a, b = (
        pd.DataFrame(t, index=[f"{side}{i}" for i in range(len(next(iter(t.values()))))])
        for side, t in (("t", treated), ("c", pool))
    )
    with pytest.raises(error, match=message):
        sampling.nearest(a, b, **more)
    with pytest.raises(DataError, match="accounts are treated and in the pool"):
        sampling.nearest(pd.DataFrame({"x": [1.0]}, index=["a"]), pd.DataFrame({"x": [2.0]}, index=["a"]))
