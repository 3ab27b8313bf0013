"""The draw: exact totals, the same accounts every time, and balance that says what it should."""

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import sampling
from helpers.errors import DataError, ParameterError


def people(n=3_000, seed=3):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "account": [f"a{i}" for i in range(n)],
            "region": rng.choice(["north", "south", None], n, p=[0.6, 0.3, 0.1]),
            "hours": rng.gamma(2.0, 5.0, n),
        }
    )


def drawn(frame, n=None, salt="s", strata=("region",)):
    table = sampling.draw(ibis.memtable(frame), n=n or {"early": 300, "control": 900}, strata=strata, salt=salt)
    return table.execute().sort_values("account", ignore_index=True)


@given(sizes=st.lists(st.integers(0, 500), min_size=1, max_size=12), share=st.floats(0, 1))
def test_allocation_is_exact_and_never_more_than_one_off_proportional(sizes, share):
    sizes = pd.Series(sizes, index=[f"s{i}" for i in range(len(sizes))])
    n = int(share * sizes.sum())
    got = sampling.allocate(sizes, n)
    exact = sizes * n / max(sizes.sum(), 1)
    assert got.sum() == n
    assert ((got >= np.floor(exact)) & (got <= np.ceil(exact)) & (got <= sizes)).all()


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


def test_totals_are_exact_arms_disjoint_and_strata_proportional():
    frame = people()
    got = drawn(frame)
    assert got.groupby("arm").size().to_dict() == {"control": 900, "early": 300}
    assert got["account"].is_unique
    sizes = frame["region"].fillna("unknown").value_counts()
    first = got[got["arm"] == "early"].groupby("stratum").size()
    assert first.to_dict() == sampling.allocate(sizes.sort_index(), 300).to_dict()
    probability = got.groupby(["arm", "stratum"])["inclusion_probability"].first()
    assert probability["early", "north"] == pytest.approx(first["north"] / sizes["north"])


def test_the_same_accounts_after_shuffling_and_in_another_file_order():
    frame = people()
    shuffled = frame.sample(frac=1, random_state=1, ignore_index=True)
    pd.testing.assert_frame_equal(drawn(frame), drawn(shuffled))


def test_accounts_that_join_later_move_only_those_at_the_cut():
    frame = people()
    more = pd.concat([frame, people(60, seed=9).assign(account=[f"new{i}" for i in range(60)])])
    before, after = (set(drawn(f, {"early": 300}, strata=())["account"]) for f in (frame, more))
    assert len(before - after) <= 15  # 60 newcomers take about 300 * 60 / 3060 = 6 places


def test_the_draw_is_that_of_the_written_rule():
    # An independent reading of the rule: rank by SHA-256 of "salt:account", take the first ones.
    import hashlib

    frame = people(500)
    order = sorted(frame["account"], key=lambda a: hashlib.sha256(f"s:{a}".encode()).hexdigest())
    assert set(drawn(frame, {"early": 50}, strata=())["account"]) == set(order[:50])


def test_another_salt_draws_independently():
    a, b = (set(drawn(people(), {"early": 600}, salt=s, strata=())["account"]) for s in "xy")
    shared = len(a & b)  # hypergeometric: 600 of 3,000 twice
    assert 1e-4 < stats.hypergeom(3_000, 600, 600).cdf(shared) < 1 - 1e-4


def test_every_account_is_drawn_equally_often():
    frame = people(40)
    counts = sum(
        frame["account"].isin(drawn(frame, {"early": 10}, salt=f"s{i}", strata=())["account"]).astype(int)
        for i in range(300)
    )
    # 300 redraws at probability 1/4: under simple random sampling (counts of one redraw sum to 10) this is chi-square
    # with 39 degrees of freedom.
    statistic = ((counts - 75) ** 2 / (75 * 0.75)).sum() * 39 / 40
    assert 1e-4 < stats.chi2(39).cdf(statistic) < 1 - 1e-4


def test_more_accounts_than_there_are_is_an_error():
    with pytest.raises(ParameterError, match=r"ask for 3,001 accounts, the frame has 3,000"):
        drawn(people(), {"early": 3_001})


def test_the_whole_population_can_be_drawn():
    assert len(drawn(people(), {"early": 1_000, "control": 2_000})) == 3_000


def test_repeated_accounts_and_missing_columns_are_errors():
    frame = people(100)
    with pytest.raises(DataError, match="2 rows of the frame repeat an account"):
        drawn(pd.concat([frame, frame.head(2)]), {"early": 10})
    with pytest.raises(DataError, match=r"no column 'regoin'; did you mean 'region'\?"):
        drawn(frame, {"early": 10}, strata=("regoin",))


def test_balance_equals_its_formula_computed_by_hand():
    frame = people(1_000)
    assigned = pd.DataFrame({"account": frame["account"].head(200), "arm": "early"})
    got = sampling.balance(ibis.memtable(frame), ibis.memtable(assigned), ["region", "hours"])
    got = got.set_index(["attribute", "level"])["std_diff"]
    sample = frame.head(200)
    p, q = (frame["region"] == "north").mean(), (sample["region"] == "north").mean()
    assert got["region", "north"] == pytest.approx((q - p) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2), rel=1e-12)
    spread = np.sqrt((frame["hours"].var() + sample["hours"].var()) / 2)
    assert got["hours", "mean"] == pytest.approx((sample["hours"].mean() - frame["hours"].mean()) / spread, rel=1e-9)


def test_a_planted_imbalance_is_seen_and_a_random_draw_is_balanced():
    frame = people(20_000)
    fair = drawn(frame, {"early": 4_000}, strata=())
    keen = frame.sort_values("hours").tail(4_000)[["account"]].assign(arm="early")
    gaps = [
        sampling.balance(ibis.memtable(frame), ibis.memtable(d[["account", "arm"]]), ["hours"])["std_diff"].abs().max()
        for d in (fair, keen)
    ]
    assert gaps[0] < 0.05 < sampling.BALANCE_LIMIT < gaps[1]


@settings(deadline=None, max_examples=10)
@given(salt=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20))
def test_any_plain_text_is_a_salt_quotes_included(salt):
    assert len(drawn(people(50), {"early": 5}, salt=salt + "'\"; --")) == 5


def test_a_salt_that_cannot_be_printed_is_refused():
    with pytest.raises(ParameterError, match="cannot be printed"):
        drawn(people(50), {"early": 5}, salt="\0")
