"""The draw: exact totals, the same accounts every time and everywhere, and every chance as stated."""

import hashlib

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import case, near
from scipy import optimize, stats

from helpers import sampling
from helpers.errors import DataError, ParameterError
from helpers.metrics import Condition
from helpers.sampling import Design, drawing
from helpers.sampling.allocation import quotas


def people(n=3_000, seed=3):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "account": [f"a{i}" for i in range(n)],
            "region": rng.choice(["north", "south", None], n, p=[0.6, 0.3, 0.1]),
            "tv": rng.random(n) < 0.2,
            "hours": rng.gamma(2.0, 5.0, n),
            "household": [f"h{i - (i % 5 == 1)}" for i in range(n)],
            "employee": rng.random(n) < 0.05,
        }
    )


def drawn(frame, n=None, salt="s", strata=("region",), **more):
    table = sampling.draw(ibis.memtable(frame), n=n or {"early": 300, "control": 900}, strata=strata, salt=salt, **more)
    return table.execute().sort_values("account", ignore_index=True)


def by_hand(frame, n, salt, strata):
    """Read the written rule anew: rank by SHA-256 of "salt:account" within the stratum, serve the arms in turn."""
    key = {a: hashlib.sha256(f"{salt}:{a}".encode()).hexdigest() for a in frame["account"]}
    label = frame[strata].fillna("unknown").agg(" · ".join, axis=1) if strata else pd.Series("all", index=frame.index)
    sizes, found, start = label.value_counts().sort_index(), {}, {}
    for arm, wanted in n.items():
        share = sampling.allocate(sizes, wanted)
        for stratum, k in share.items():
            ranked = sorted(frame["account"][label == stratum], key=key.get)
            first = start.get(stratum, 0)
            found |= dict.fromkeys(ranked[first : first + k], arm)
            start[stratum] = first + k
    return found


@pytest.fixture(scope="module")
def frame():
    return people()


# Allocation


@given(sizes=st.lists(st.integers(0, 500), min_size=1, max_size=12), share=st.floats(0, 1))
def test_allocation_is_exact_and_never_more_than_one_off_proportional(sizes, share):
    sizes = pd.Series(sizes, index=[f"s{i}" for i in range(len(sizes))])
    n = int(share * sizes.sum())
    got = sampling.allocate(sizes, n)
    exact = sizes * n / max(sizes.sum(), 1)
    assert got.sum() == n
    assert ((got >= np.floor(exact)) & (got <= np.ceil(exact)) & (got <= sizes)).all()


@settings(deadline=None)
@given(
    cells=st.lists(st.tuples(st.integers(0, 300), st.floats(0.01, 50)), min_size=1, max_size=10),
    share=st.floats(0, 1),
    minimum=st.integers(0, 20),
)
def test_bounded_allocation_is_exact_within_bounds_and_that_of_a_root_finder(cells, share, minimum):
    sizes, scores = (pd.Series(c) for c in zip(*cells, strict=True))
    low = np.minimum(minimum, sizes)
    n = int(low.sum() + share * (sizes.sum() - low.sum()))
    got = sampling.allocate(sizes, n, scores=scores, minimum=minimum)
    assert got.sum() == n
    assert ((got >= low) & (got <= sizes)).all()
    gap = lambda scale: np.clip(scale * scores, low, sizes).sum() - n  # noqa: E731
    if low.sum() < n < sizes.sum():
        scale = optimize.brentq(gap, 0, 301 / scores.min())
        assert (got - np.clip(scale * scores, low, sizes)).abs().max() < 1 + 1e-6


def test_allocation_matches_a_published_apportionment():
    # Largest remainder (Hamilton) on the 1790 census of the 15 states, 105 seats: Balinski and Young (1982), table 1.
    states = pd.Series(
        {"VA": 630_560, "MA": 475_327, "PA": 432_879, "NC": 353_523, "NY": 331_589, "MD": 278_514, "CT": 236_841,
         "SC": 206_236, "NJ": 179_570, "NH": 141_822, "VT": 85_533, "GA": 70_835, "KY": 68_705, "RI": 68_446, "DE": 55_540}
    )  # fmt: skip
    seats = [18, 14, 13, 10, 10, 8, 7, 6, 5, 4, 2, 2, 2, 2, 2]
    assert sampling.allocate(states, 105).tolist() == seats


@pytest.mark.parametrize("n", [-1, 101])
def test_allocation_refuses_what_the_population_does_not_hold(n):
    with pytest.raises(ParameterError, match="must be from 0 to the population of 100"):
        sampling.allocate(pd.Series({"a": 60, "b": 40}), n)


def test_minimums_that_ask_for_more_than_n_are_refused():
    with pytest.raises(ParameterError, match=r"a minimum of 30 in 2 strata asks for 60 accounts, n is 50"):
        sampling.allocate(pd.Series({"a": 60, "b": 40}), 50, minimum=30)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=15),
    shares=st.tuples(st.floats(0.01, 0.5), st.floats(0.01, 0.5)),
    rule=st.sampled_from(["proportional", "equal"]),
    minimum=st.integers(0, 3),
)
def test_whatever_the_strata_totals_are_exact_and_nobody_is_left_without_a_chance(sizes, shares, rule, minimum):
    cells = pd.DataFrame({"x": [f"l{i}" for i in range(len(sizes))], "size": sizes})
    n = {arm: max(2, int(share * sum(sizes))) for arm, share in zip("ab", shares, strict=True)}
    if sum(n.values()) > sum(sizes) or minimum * len(sizes) > min(n.values()):
        return
    named, cuts = quotas(cells, ["x"], n, Design(rule=rule, minimum=minimum), {})
    assert cuts.groupby("arm")["n"].sum().to_dict() == n
    per_stratum = cuts.groupby("stratum")
    assert (per_stratum["last"].max() <= per_stratum["size"].first()).all()
    assert (cuts["n"] >= 1).all() or len(per_stratum) == 1
    assert named.groupby("stratum")["size"].sum().to_dict() == per_stratum["size"].first().to_dict()


# The draw


def test_totals_are_exact_arms_disjoint_and_strata_proportional(frame):
    got = drawn(frame)
    assert got.groupby("arm").size().to_dict() == {"control": 900, "early": 300}
    assert got["account"].is_unique
    sizes = frame["region"].fillna("unknown").value_counts().sort_index()
    for arm, n in {"early": 300, "control": 900}.items():
        counts = got[got["arm"] == arm].groupby("stratum").size()
        assert counts.to_dict() == sampling.allocate(sizes, n).to_dict()
        probability = got[got["arm"] == arm].groupby("stratum")["inclusion_probability"].first()
        assert probability["north"] == pytest.approx(counts["north"] / sizes["north"])
    weights = got.groupby("arm")["weight"].sum()
    assert weights.to_numpy() == pytest.approx([3_000, 3_000])  # they sum to the population


@settings(deadline=None, max_examples=8)
@given(
    n=st.integers(30, 400),
    arms=st.tuples(st.integers(4, 10), st.integers(4, 10)),
    strata=st.sampled_from([[], ["region"], ["region", "tv"]]),
    salt=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8),
    floor=st.sampled_from([0.0, 1 / 128, 1.0]),
    rare=st.sampled_from([1e-9, 0.5, 1 - 1e-12]),
)
def test_the_draw_is_that_of_the_written_rule_however_few_candidates_are_ranked(n, arms, strata, salt, floor, rare):
    frame = people(n, seed=n).assign(tv=lambda f: f["tv"].map({True: "true", False: "false"}))
    wanted = dict(zip(["early", "control"], arms, strict=True))
    sizes = frame[strata].fillna("unknown").value_counts() if strata else pd.Series([n])
    if any((sampling.allocate(sizes, k) < 2).any() for k in arms):
        strata = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_AT_LEAST", floor)
        patch.setattr(drawing, "_RARE", rare)  # with 0.5, every other stratum is short of candidates
        got = drawn(frame, wanted, salt=salt + "'\"; --", strata=strata)
    assert got.set_index("account")["arm"].to_dict() == by_hand(frame, wanted, salt + "'\"; --", strata)


def test_the_same_accounts_after_shuffling_and_in_another_file_order(frame):
    shuffled = frame.sample(frac=1, random_state=9).set_index(np.zeros(len(frame), int))
    pd.testing.assert_frame_equal(drawn(frame), drawn(shuffled))


def test_numbers_as_ids_are_drawn_as_their_text(frame):
    numbered = frame.assign(account=range(len(frame)))
    as_text = numbered.assign(account=numbered["account"].astype(str))
    pd.testing.assert_frame_equal(drawn(numbered), drawn(as_text))


def test_accounts_that_join_later_move_only_those_at_the_cut(frame):
    more = pd.concat([frame, people(60).assign(account=[f"new{i}" for i in range(60)])])
    before, after = (set(drawn(f, {"early": 300}, strata=())["account"]) for f in (frame, more))
    assert len(before - after) <= 15  # 60 newcomers take about 300 * 60 / 3060 = 6 places


def test_another_salt_draws_independently(frame):
    a, b = (set(drawn(frame, {"early": 600}, salt=s, strata=())["account"]) for s in "xy")
    shared = len(a & b)  # hypergeometric: 600 of 3,000 twice
    assert 1e-4 < stats.hypergeom(3_000, 600, 600).cdf(shared) < 1 - 1e-4


def test_the_frame_is_not_changed(frame):
    copy = frame.copy(deep=True)
    drawn(frame, household="household", holdout=0.1)
    pd.testing.assert_frame_equal(frame, copy)


def test_more_accounts_than_there_are_is_an_error(frame):
    with pytest.raises(ParameterError, match=r"ask for 3,001 accounts, the frame has 3,000"):
        drawn(frame, {"early": 3_001})
    with pytest.raises(ParameterError, match=r"ask for 1 accounts, the frame has 0"):
        drawn(frame.head(0), {"early": 1})


def test_the_whole_population_can_be_drawn(frame):
    assert len(drawn(frame, {"early": 1_000, "control": 2_000})) == 3_000


def test_repeated_or_missing_accounts_and_missing_columns_are_errors(frame):
    few = frame.head(100)
    twice = pd.concat([few, few.head(2)])
    for more in ({}, {"household": "household"}):
        with pytest.raises(DataError, match="2 rows of the frame repeat an account"):
            drawn(twice, {"early": 10}, **more)
    with pytest.raises(DataError, match="1 rows of the frame have no account"):
        drawn(few.assign(account=[None, *few["account"][1:]]), {"early": 10}, strata=())
    with pytest.raises(DataError, match=r"no column 'regoin'; did you mean 'region'\?"):
        drawn(few, {"early": 10}, strata=("regoin",))


def test_in_a_large_frame_no_account_is_drawn_twice_either(frame, monkeypatch):
    monkeypatch.setattr(drawing, "COUNTED", 0)
    with pytest.raises(DataError, match="rows of the frame repeat an account"):
        drawn(pd.concat([frame, frame]), {"early": 300})


def test_a_salt_that_cannot_be_printed_is_refused(frame):
    with pytest.raises(ParameterError, match="cannot be printed"):
        drawn(frame.head(50), {"early": 5}, salt="\0")


def test_two_strata_of_one_name_are_refused():
    frame = pd.DataFrame({"account": ["1", "2"], "x": ["a · b", "a"], "y": ["c", "b · c"]})
    with pytest.raises(DataError, match="two strata would both be called 'a · b · c'"):
        drawn(frame, {"early": 1}, strata=("x", "y"))


# Designs


def test_oversampling_multiplies_a_level_s_chance_and_its_column_becomes_a_stratum(frame):
    got = drawn(frame, {"early": 400}, design=Design(oversample={"tv=true": 4}))
    assert len(got) == 400
    assert got["weight"].sum() == pytest.approx(3_000)
    chance = got.groupby(got["stratum"].str.endswith("true"))["inclusion_probability"].mean()
    assert chance[True] / chance[False] == pytest.approx(4, rel=0.05)  # but for rounding to whole accounts


def test_a_level_can_have_a_number_of_accounts_in_every_arm(frame):
    got = drawn(frame, design=Design(fixed={"tv=true": 120}))
    mine = got["account"].isin(frame.loc[frame["tv"], "account"])
    assert got[mine].groupby("arm").size().to_dict() == {"control": 120, "early": 120}
    assert got.groupby("arm").size().to_dict() == {"control": 900, "early": 300}
    with pytest.raises(ParameterError, match=r"early is to have 599 accounts of tv=true, there are 240 for it"):
        drawn(frame, {"early": 600, "control": 900}, design=Design(fixed={"tv=true": 599}))


def test_an_arm_takes_no_more_of_a_scarce_stratum_than_its_share(frame):
    got = drawn(frame, {"early": 500, "control": 500}, design=Design(oversample={"tv=true": 50}))
    tv = got["account"].isin(frame.loc[frame["tv"], "account"])
    counts = got[tv].groupby("arm").size()
    assert counts.sum() == frame["tv"].sum()  # all of them, and half in each arm
    assert abs(counts["early"] - counts["control"]) <= 3


def test_neyman_follows_size_times_spread(frame):
    wide = frame.assign(hours=frame["hours"] * np.where(frame["region"] == "south", 10, 1))
    got = drawn(wide, {"early": 300}, design=Design(rule="neyman", past="hours")).groupby("stratum").size()
    by = wide.assign(region=wide["region"].fillna("unknown")).groupby("region")["hours"]
    score = by.size() * by.std(ddof=0)
    assert (got - 300 * score / score.sum()).abs().max() < 1


@pytest.mark.parametrize("name", ["sampling__kuairand_strata_follow_num", "sampling__oversample_heavy_viewers"])
def test_allocations_are_those_of_r(name):
    # R 4.2.2: Neyman and proportional allocation before rounding.
    c = case(name)
    given = c["inputs"] or {"N": c["expected"]["N"], "sd": c["expected"]["sd"]}
    size, spread = pd.Series(given["N"]), pd.Series(given["sd"])
    expected = c["expected"]
    neyman = pd.Series(expected.get("neyman", expected.get("neyman_n1000")), index=size.index)
    in_proportion = pd.Series(expected.get("proportional", expected.get("prop_n1000")), index=size.index)
    assert (sampling.allocate(size, 1_000, scores=size * spread) - neyman).abs().max() < 1
    assert (sampling.allocate(size, 1_000) - in_proportion).abs().max() < 1
    # a million times as many accounts, so that whole ones are fractions of the case's
    many = 10**6
    for got, want in (
        (sampling.allocate(size * many, 1_000 * many, scores=size * spread), neyman),
        (sampling.allocate(size * many, 1_000 * many), in_proportion),
    ):
        assert list(got / many) == near(c, list(want))


def test_equal_shares_and_minimums(frame):
    assert drawn(frame, {"early": 300}, design=Design(rule="equal")).groupby("stratum").size().tolist() == [100] * 3
    least = drawn(frame, {"early": 300}, design=Design(minimum=60)).groupby("stratum").size()
    assert least["unknown"] == 60
    assert least.sum() == 300


def test_strata_too_small_for_every_arm_are_drawn_as_one():
    frame = people(1_000).assign(region=[*["rare"] * 3, *["scarce"] * 5, *["big"] * 992])
    got = drawn(frame, {"early": 100, "control": 100})
    assert set(got["stratum"]) == {"big", sampling.SMALL} or set(got["stratum"]) == {sampling.SMALL}
    assert (got.groupby(["arm", "stratum"]).size() >= 2).all()
    assert got["weight"].sum() == pytest.approx(2_000)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rule": "neyman"}, "needs 'past'"),
        ({"past": "hours"}, "other rules do not"),
        ({"minimum": -1}, "minimum is -1"),
        ({"oversample": {"tv": 3}}, "'tv' names no level"),
        ({"oversample": {"tv=true": 0}}, "factor of 'tv=true' is 0"),
    ],
)
def test_impossible_designs_are_refused(bad, message):
    with pytest.raises(ParameterError, match=message):
        Design(**bad)


def test_a_level_that_does_not_occur_names_the_nearest(frame):
    with pytest.raises(DataError, match=r"no eligible account has region 'nord'.* did you mean 'north'\?"):
        drawn(frame, design=Design(oversample={"region=nord": 2}))


# Eligibility, households, hold-outs, later stages


RULES = [
    "employee",
    Condition(column="region", op="in", value=("south",)),
    Condition(column="hours", op="gt", value=25),
]


def test_the_funnel_counts_every_rule_once_and_the_excluded_never_appear(frame):
    table = ibis.memtable(frame)
    got = sampling.funnel(table, RULES)
    south, heavy = frame["region"] == "south", frame["hours"] > 25
    assert got["rule"].tolist() == ["all accounts", "employee", "region in south", "hours > 25"]
    assert got["excluded"].tolist() == [
        0,
        frame["employee"].sum(),
        (south & ~frame["employee"]).sum(),
        (heavy & ~south & ~frame["employee"]).sum(),
    ]
    left = sampling.eligible(table, RULES)
    assert got["left"].iloc[-1] == left.count().execute()
    accounts = drawn(left.execute(), {"early": int(got["left"].iloc[-1])}, strata=())["account"]
    assert not set(accounts) & set(frame.loc[frame["employee"] | south | heavy, "account"])


@settings(deadline=None, max_examples=8)
@given(
    flags=st.lists(
        st.tuples(st.sampled_from([True, False, None]), st.sampled_from(["", "exp7", None]), st.integers(0, 2))
    ),
)
def test_excluded_accounts_can_never_appear(flags):
    frame = people(len(flags) + 20)
    padded = [*flags, *[(False, None, 0)] * 20]
    frame["opted_out"], frame["experiment"], frame["strikes"] = (
        pd.Series(c, dtype=object) for c in zip(*padded, strict=True)
    )
    frame["strikes"] = frame["strikes"].astype(int)
    table = sampling.eligible(ibis.memtable(frame.astype({"experiment": "str"})), ["opted_out", "strikes"])
    out = frame["opted_out"].eq(True) | (frame["strikes"] != 0)
    got = drawn(table.execute(), {"early": int((~out).sum())}, strata=())
    assert set(got["account"]) == set(frame.loc[~out, "account"])


def test_a_column_of_experiments_takes_out_who_is_in_one():
    frame = pd.DataFrame({"account": ["1", "2", "3"], "experiment": ["exp7", " ", None]})
    assert sampling.eligible(ibis.memtable(frame), ["experiment"]).account.execute().tolist() == ["2", "3"]


def test_an_exclusion_that_names_no_column_is_an_error(frame):
    with pytest.raises(DataError, match=r"no column 'employe', which 'exclude' names; did you mean 'employee'\?"):
        sampling.eligible(ibis.memtable(frame), ["employe"])


@settings(deadline=None, max_examples=8)
@given(
    homes=st.lists(st.one_of(st.none(), st.integers(0, 12)), min_size=30, max_size=60), salt=st.text("abc", min_size=1)
)
def test_households_are_never_split_and_totals_stay_exact(homes, salt):
    frame = people(len(homes)).assign(household=[None if h is None else f"h{h}" for h in homes])
    units = frame["household"].fillna(frame["account"])
    n = {"early": 3, "control": 4, "later": units.nunique() - 7} if units.nunique() > 9 else {"early": units.nunique()}
    got = drawn(frame, n, salt=salt, strata=(), household="household")
    assert got.groupby("arm").size().to_dict() == n
    assert units[frame["account"].isin(got["account"])].is_unique  # so no household has accounts in two arms
    members = units.map(units.value_counts()).set_axis(frame["account"])
    chance = pd.Series(n)[got["arm"]].to_numpy() / units.nunique() / members[got["account"]].to_numpy()
    assert got["inclusion_probability"].to_numpy() == pytest.approx(chance)
    if len(n) == 3:
        assert got["weight"].mul(got["inclusion_probability"]).to_numpy() == pytest.approx(np.ones(len(got)))


def test_weights_of_shared_households_count_the_others_in():
    frame = people(4_000)
    got = drawn(frame, {"early": 1_500, "control": 1_500}, strata=(), household="household")
    total = got.groupby("arm")["weight"].sum()
    assert total.to_numpy() == pytest.approx([4_000, 4_000], rel=0.02)  # in expectation; the SD is about 0.5 %


@settings(deadline=None, max_examples=6)
@given(holdout=st.floats(0.0, 0.5), stages=st.lists(st.integers(2, 200), max_size=3))
def test_arms_hold_outs_and_later_stages_are_disjoint_and_later_ones_move_nobody(holdout, stages):
    frame = people(1_500)
    later = {f"stage_{i + 2}": n for i, n in enumerate(stages)}
    alone = drawn(frame, {"early": 40, "control": 60}, holdout=holdout)
    got = drawn(frame, {"early": 40, "control": 60}, holdout=holdout, later=later)
    assert got["account"].is_unique
    assert got.groupby("arm").size().to_dict() == {"early": 40, "control": 60, **later}
    pd.testing.assert_frame_equal(got[got["arm"].isin(["early", "control"])].reset_index(drop=True), alone)
    held = {
        a
        for a in frame["account"]
        if int(hashlib.sha256(f"s:{a}".encode()).hexdigest()[:13], 16) >= (1 - holdout) * 16**13
    }
    assert not held & set(got["account"])
    if holdout > 0.05:
        assert stats.binom(1_500, holdout).ppf(1e-6) <= len(held) <= stats.binom(1_500, holdout).isf(1e-6)


# Chances and weights


DESIGNS = {
    "simple random": ([], Design()),
    "proportional": (["region"], Design()),
    "oversampled": (["region"], Design(oversample={"tv=true": 3})),
    "equal": (["region"], Design(rule="equal")),
    "neyman": (["region"], Design(rule="neyman", past="hours")),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_in_two_thousand_redraws_chances_are_as_stated_means_unbiased_and_intervals_cover(name):
    strata, design = DESIGNS[name]
    table, times = ibis.memtable(people(300, seed=8)), 2_000
    settled = sampling.plan(table, n={"early": 60, "control": 90}, strata=strata, design=design, salt="s")
    got = sampling.repeat(settled, table.select("account", y=ibis._.hours.sqrt()), times=times, salt="s")
    assert got.exact
    assert got.inside == pytest.approx(0.95, abs=0.025)  # 1,200 counts: SD 0.6 points, draws of one arm are correlated
    means = got.means
    assert (means["bias"].abs() < 4 * means["error"] / np.sqrt(times)).all()
    assert means["stated"].to_numpy() == pytest.approx(means["error"].to_numpy(), rel=0.08)
    assert means["covered"].between(0.93, 0.97).all()


def test_repeats_equal_a_loop_over_single_draws(frame):
    small = frame.head(400)
    settled = sampling.plan(ibis.memtable(small), n={"early": 40}, strata=["tv"], salt="s")
    got = sampling.repeat(settled, ibis.memtable(small).select("account", y="hours"), times=5, salt="s")
    hours, means = small.set_index("account")["hours"], []
    for k in range(1, 6):
        one = drawn(small, {"early": 40}, salt=f"s#{k}", strata=["tv"])
        means.append((one["weight"] * hours[one["account"]].to_numpy()).sum() / 400)
    assert got.means["bias"].item() == pytest.approx(np.mean(means) - hours.mean())
    assert got.means["error"].item() == pytest.approx(np.std(means, ddof=1))


def test_spark_draws_the_same_accounts(frame):
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed; the same draw on Spark is not tried")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    rows = session.createDataFrame(frame.astype(object).where(frame.notna(), None))
    rows.createOrReplaceTempView("frame")
    there = ibis.pyspark.connect(session).table("frame")
    asked = {"n": {"early": 300, "control": 900}, "strata": ["region"], "salt": "s", "household": "household"}
    asked["design"] = Design(oversample={"tv=true": 3})
    here = sampling.draw(ibis.memtable(frame), **asked).execute().sort_values("account", ignore_index=True)
    spark = sampling.draw(there, **asked).execute().sort_values("account", ignore_index=True)
    pd.testing.assert_frame_equal(here, spark, check_dtype=False)
    session.stop()
