"""Gini and coverage of a whole arm: definitions by enumeration, errors and coverage in simulation, truth of launches."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from helpers import diversity, launch, prospect, scorecard, study
from helpers.errors import LaunchError, ParameterError
from helpers.results import Estimate, NotEstimable

AMOUNTS = arrays.arrays(np.float64, st.integers(1, 12), elements=st.floats(0.01, 1e4))


def arm(rows, *, reached=False, groups=100):
    """Share accounts (rows) out over groups in turn."""
    rows = (rows > 0).astype(float) if reached else rows
    nth = np.arange(len(rows)) % groups
    items = np.zeros((min(groups, len(rows)), rows.shape[1]))
    np.add.at(items, nth, rows)
    return diversity.Arm(sizes=np.bincount(nth).astype(float), items=items)


# Definitions.


def test_gini_is_the_published_one():
    # R, package ineq, help page of `Gini`: the ten incomes of Lasso de la Vega and others, 0.4620911.
    incomes = np.array([541, 1463, 2445, 3438, 4437, 5401, 6392, 8304, 11904, 22261], dtype=float)
    assert diversity.gini(incomes) == pytest.approx(0.4620911, abs=5e-8)


@given(AMOUNTS)
def test_gini_is_half_the_relative_mean_absolute_difference(x):
    expected = np.abs(x[:, None] - x).mean() / (2 * x.mean())
    assert diversity.gini(x) == pytest.approx(expected, abs=1e-9)


@given(AMOUNTS, st.floats(0.01, 100), st.integers(2, 4))
def test_gini_knows_neither_units_nor_how_often_the_catalogue_is_copied(x, scale, copies):
    assert diversity.gini(scale * x) == pytest.approx(float(diversity.gini(x)), abs=1e-9)
    assert diversity.gini(np.tile(x, copies)) == pytest.approx(float(diversity.gini(x)), abs=1e-9)


@given(AMOUNTS, st.integers(0, 9))
def test_items_that_have_nothing_count_as_if_they_stood_there(x, more):
    listed = diversity.gini(np.append(x, np.zeros(more)))
    assert diversity.gini(x, k=len(x) + more) == pytest.approx(float(listed), abs=1e-12)


@pytest.mark.parametrize("m", [1, 2, 3, 5, 6])
def test_rarefaction_is_the_mean_over_all_choices_of_m_accounts(m):
    seen = np.random.default_rng(1).random((6, 9)) < 0.3
    every = [seen[list(chosen)].any(axis=0).sum() for chosen in itertools.combinations(range(6), m)]
    assert diversity.rarefied(seen.sum(axis=0), 6, m) == pytest.approx(np.mean(every), rel=1e-12)


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=20), st.integers(1, 5_000))
def test_rarefaction_is_hypergeometric_and_at_all_accounts_what_was_reached(reached, m):
    reached = np.array(reached)
    expected = stats.hypergeom.sf(0, 5_000, reached, m).sum()
    assert diversity.rarefied(reached, 5_000, m) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    assert diversity.rarefied(reached, 5_000, 5_000) == (reached > 0).sum()
    assert diversity.rarefied(reached, 5_000, 1) == pytest.approx(reached.sum() / 5_000)


@pytest.mark.parametrize("m", [0, 11])
def test_no_more_accounts_are_chosen_than_there_are(m):
    with pytest.raises(ParameterError, match="between 1 and the number of accounts, 10"):
        diversity.rarefied(np.array([3.0]), 10, m)


# Errors, on accounts that differ widely in how much they watch and alike in what.


def population(rng, *, tail=1.0, accounts=10_000, items=80):
    """Draw minutes (account, item): lognormal activity, five tastes, a long tail that may be shown less."""
    activity, taste = rng.lognormal(0, 1.2, accounts), rng.integers(0, 5, accounts)
    liking = np.arange(1, items + 1) ** -1.1 * np.where(np.arange(items) % 5 == np.arange(5)[:, None], 4, 1)
    liking[:, items // 2 :] *= tail
    plays = rng.poisson(4 * activity[:, None] * (liking / liking.sum(axis=1, keepdims=True))[taste])
    return plays * rng.gamma(2, 10, plays.shape)


def drawn(rng, people, n):
    return people[rng.integers(0, len(people), n)]


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(20261127)
    return population(rng), population(rng, tail=0.5)


def inequality(c, t):
    return diversity.inequality(arm(c), arm(t), catalogue=c.shape[1])


def reach(c, t):
    return diversity.reach(arm(c, reached=True), arm(t, reached=True), catalogue=c.shape[1])


@pytest.mark.parametrize("n", [(900, 300), (300, 300)])
@pytest.mark.parametrize("compare", [inequality, reach])
def test_arms_of_one_population_differ_one_time_in_twenty_also_where_one_is_larger(people, n, compare):
    rng = np.random.default_rng(1)
    found = [compare(drawn(rng, people[0], n[0]), drawn(rng, people[0], n[1])) for _ in range(200)]
    wrong = np.mean([e.p < 0.05 for e in found])
    assert wrong == pytest.approx(0.05, abs=0.046)  # three standard errors of a share in 200
    bias = np.mean([e.diff for e in found]) / np.std([e.diff for e in found])
    assert abs(bias) < 3.5 / np.sqrt(200)


def test_a_raw_comparison_of_unequal_arms_would_be_wrong(people):
    rng = np.random.default_rng(2)
    pairs = [(drawn(rng, people[0], 900), drawn(rng, people[0], 300)) for _ in range(60)]
    raw = np.array([diversity.gini(t.sum(axis=0)) - diversity.gini(c.sum(axis=0)) for c, t in pairs])
    assert raw.mean() > 5 * raw.std() / np.sqrt(60)
    raw = np.array([(t[:60].sum(axis=0) > 0).mean() - (c[:180].sum(axis=0) > 0).mean() for c, t in pairs])
    assert raw.mean() < -5 * raw.std() / np.sqrt(60)


def test_intervals_cover_the_difference_of_arms_of_that_size(people):
    rng, n = np.random.default_rng(3), 400
    usual, changed = people
    inside = {"gini": [], "reach": []}
    each = [[diversity.gini(drawn(rng, p, n).sum(axis=0)) for _ in range(1_000)] for p in people]
    true_gini = np.mean(each[1]) - np.mean(each[0])
    share = [1 - ((1 - (p > 0).mean(axis=0)) ** (n // 4)).mean() for p in people]
    for _ in range(300):
        c, t = drawn(rng, usual, n), drawn(rng, changed, n)
        for name, e, true in (("gini", inequality(c, t), true_gini), ("reach", reach(c, t), share[1] - share[0])):
            inside[name].append(e.low <= true <= e.high)
    for hits in inside.values():
        assert np.mean(hits) == pytest.approx(0.95, abs=0.04)  # three standard errors of a share in 300, rounded up


def test_what_cannot_be_told_is_said():
    rng = np.random.default_rng(4)
    some, none = rng.poisson(1.0, (50, 5)).astype(float), np.zeros((50, 5))
    assert "has 20 accounts, at least 30" in inequality(some, some[:20]).reason
    assert "treatment has no amounts" in inequality(some, none).reason
    assert "whichever accounts are left out" in reach(np.ones((50, 5)), np.ones((50, 5))).reason
    full, sparse = np.ones((200, 5)), rng.random((200, 5)) < 0.02
    full[:, 0] = np.arange(200) % 10 == 0
    assert "reach nearly all items" in reach(full, full).note
    assert reach(sparse, sparse).note == ""
    with pytest.raises(ParameterError, match="catalogue is 3, fewer than the 5 items"):
        diversity.reach(arm(some), arm(some), catalogue=3)


# Launches.

PLAN = """\
name: whole
data: {source: simulate, scenario: SCENARIO, accounts: 20_000, seed: 5}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 28, pre_days: 7}
sampling: {n: {control: 1_500, early: 1_000}}
metrics:
  north_star: hours_per_account_week
  guardrails:
    - {metric: creator_gini, margin: +5%}
    - {metric: catalogue_coverage, margin: -5%}
    - {metric: recommendation_coverage, margin: -5%}
    - {name: shown_gini, title: Inequality of visibility, kind: gini, over: title, better: lower, unit: "", margin: +5%,
       numerator: {table: impressions, agg: count}}
"""
NAMES = ("creator_gini", "catalogue_coverage", "recommendation_coverage")


def opened(folder, text):
    (folder / "whole.yaml").write_text(text)
    return study.open(launch.load(folder / "whole.yaml"))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Open simulated launches, each once."""
    known = {}

    def get(scenario):
        if scenario not in known:
            data = opened(tmp_path_factory.mktemp("whole"), PLAN.replace("SCENARIO", scenario))
            known[scenario] = data, {c.metric: c for c in scorecard.measure(data).claims}
        return known[scenario]

    return get


@pytest.mark.parametrize("scenario", ["show_premiere", "homepage", "creator_concentration+homepage"])
def test_the_truth_of_a_simulated_launch_lies_within_the_intervals(simulated, scenario):
    data, claims = simulated(scenario)
    truth = data.reveal().query("segment == 'all' and metric in @NAMES").set_index("metric")
    for name in NAMES:
        e = claims[name].estimate
        assert abs(e.diff - truth.loc[name, "diff"]) < 3 * e.se, name
        assert abs(e.control - truth.loc[name, "control"]) < 4 * e.se
        assert claims[name].status in {"passed", "breached", "cannot tell"}


def test_values_are_those_of_the_raw_events(simulated):
    """Weighted, because the quotas of small strata are rounded; the smaller arm's Gini is that of all its events."""
    data, claims = simulated("show_premiere")
    arms = data.assignments.select("account", "arm", "inclusion_probability").execute()
    arms["weight"] = 1 / arms["inclusion_probability"]
    early = arms[arms["arm"] == "early"]
    titles = data.table("titles").execute()

    def events(name, time):
        rows = data.table(name).execute().merge(early).merge(titles[["title", "creator"]])
        inside = rows[time].between(pd.Timestamp("2026-09-07", tz="UTC"), pd.Timestamp("2026-10-05", tz="UTC"), "left")
        return rows[inside]

    plays, impressions = events("plays", "started_at"), events("impressions", "shown_at")
    minutes = (plays["watch_minutes"] * plays["weight"]).groupby(plays["creator"]).sum()
    x = np.append(minutes, np.zeros(titles["creator"].nunique() - len(minutes)))
    gini = np.abs(x[:, None] - x).mean() / (2 * x.mean())
    assert claims["creator_gini"].estimate.treatment == pytest.approx(gini, rel=1e-9)
    n = early["weight"].sum() ** 2 / (early["weight"] ** 2).sum()
    for name, rows in (("catalogue_coverage", plays), ("recommendation_coverage", impressions)):
        seen = rows.drop_duplicates(["account", "title"]).groupby("title")["weight"].sum() / early["weight"].sum()
        taken = np.arange(round(n) // 4)  # one account after the other, and none that reached the title
        missed = (np.maximum(n * (1 - seen.to_numpy()[:, None]) - taken, 0) / (n - taken)).prod(axis=1)
        e = claims[name].estimate
        assert f"that {len(taken)} accounts reach" in e.method
        assert e.treatment == pytest.approx((1 - missed).sum() / len(titles), rel=1e-9)


def test_small_creators_that_lose_visibility_are_seen(simulated):
    _, claims = simulated("creator_concentration+homepage")
    e = claims["shown_gini"].estimate
    assert e.low > 0
    _, usual = simulated("homepage")
    assert usual["shown_gini"].estimate.low <= 0 <= usual["shown_gini"].estimate.high


def test_accounts_count_with_their_weights(tmp_path):
    """Heavy viewers are drawn five times as often; weighted back, both numbers are those of the population."""
    rng, n = np.random.default_rng(6), 6_000
    heavy = np.arange(n) % 6 < 5
    ids = [f"a{i}" for i in range(n)]
    who = np.repeat(np.arange(n), rng.poisson(np.where(heavy, 4.0, 1.0)))
    title = (60 * rng.random(len(who)) ** np.where(heavy[who], 4, 2)).astype(int)  # and watch other titles
    folder = tmp_path / "tables"
    folder.mkdir()
    at = pd.Timestamp("2026-09-07", tz="UTC") + pd.to_timedelta(rng.integers(0, 28 * 24, len(who)), unit="h")
    plays = pd.DataFrame(
        {"account": np.take(ids, who), "session": [f"s{i}" for i in range(len(who))], "title": [f"t{i}" for i in title]}
    )
    plays = plays.assign(started_at=at, watch_minutes=10.0)
    plays.loc[0, "started_at"] = pd.Timestamp("2026-10-04 23:30", tz="UTC")
    plays.to_parquet(folder / "plays.parquet")
    text = (
        "name: whole\ndata: {source: tables}\narms: {control: c, treatment: t}\n"
        "dates: {start: 2026-09-07, days: 28, pre_days: 0}\nmetrics:\n"
        "  north_star: hours_per_account_week\n  supporting:\n    - catalogue_coverage\n"
        "    - {name: gini, title: Gini, kind: gini, over: title, better: lower, unit: '', "
        "numerator: {table: plays, agg: sum, column: watch_minutes}}\n"
    )

    def measured(probability):
        rows = {"account": ids, "arm": np.where(np.arange(n) // 6 % 2, "t", "c"), "inclusion_probability": probability}
        pd.DataFrame(rows).to_parquet(folder / "assignments.parquet")
        return [c.estimate for c in scorecard.measure(opened(tmp_path, text)).claims[:0:-1]]

    equal, half = measured(np.ones(n)), measured(np.full(n, 0.5))
    assert [e.diff for e in equal] == pytest.approx([e.diff for e in half])
    assert "weighted" not in equal[0].method
    gini, coverage = measured(np.where(heavy, 0.5, 0.1))
    mine = np.arange(n)[who] // 6 % 2 == 1
    amounts = np.bincount(title[mine], np.where(heavy[who], 1.0, 5.0)[mine], 60)
    assert gini.treatment == pytest.approx(float(diversity.gini(amounts[amounts > 0])), rel=0.01)
    assert gini.method.endswith("weighted to the population")
    seen = np.zeros((n, 60), bool)
    seen[who, title] = True
    p = (seen[heavy].mean(axis=0) + seen[~heavy].mean(axis=0)) / 2
    m = int(coverage.method.split(" that ")[1].split()[0].replace(",", ""))
    assert m < 3_000 // 4
    assert abs(coverage.control - (1 - (1 - p) ** m).mean()) < 4 * coverage.se


def test_a_plan_says_what_such_a_metric_can_show(simulated):
    data, claims = simulated("show_premiere")
    found = {p.planned.metric.name: p for p in prospect.measure(data)}
    gini = found["creator_gini"]
    assert isinstance(claims["creator_gini"].estimate, Estimate)
    assert not isinstance(gini.seen, NotEstimable)
    assert "spread alone" in gini.basis


def test_a_numerator_that_does_not_add_up_over_events_is_refused(tmp_path):
    text = PLAN.replace("SCENARIO", "aa").replace("{table: impressions, agg: count}", "{table: plays, agg: days}")
    with pytest.raises(LaunchError, match="'shown_gini' is a gini: its numerator is a plain 'sum' or 'count'"):
        opened(tmp_path, text)
