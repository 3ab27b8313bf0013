"""Accounts that were drawn together: errors over clusters, few clusters by the wild bootstrap, launches to the verdict."""

from math import comb

import numpy as np
import pandas as pd
import pytest
import reference
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import adequacy, decision, inference, launch, moments, monitor, prospect, scorecard, segments, study, trust
from helpers.errors import DataError, LaunchError, ParameterError
from helpers.inference.clustered import Wild, multipliers
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import FEW, WEIGHT
from helpers.results import Estimate, NotEstimable
from helpers.timeline import clusters as on_rows


def own(column):
    return Measure(table=UNITS_TABLE, agg="value", column=column)


def metric(kind="mean", *, per=None, past=()):
    return Metric(
        name="y", title="Y", kind=kind, numerator=own("y"), denominator=own(per) if per else None,
        better="higher", unit="", covariates=tuple(map(own, past)),
    )  # fmt: skip


def drawn(groups, *, seed=1, most=12, icc=0.3):
    """Draw accounts of clusters of unequal size: arm, cluster, y, its past x, plays, a weight and a stratum."""
    rng, rows = np.random.default_rng(seed), []
    for arm, many in zip("ct", groups, strict=True):
        for k in range(many):
            n = int(rng.integers(1, most))
            x = rng.normal(size=n) + rng.normal()
            y = 5 + 0.5 * x + rng.normal() * icc**0.5 + rng.normal(size=n)
            part = {"arm": arm, "place": f"{arm}{k}", "y": y, "x": x, "plays": rng.integers(1, 5, n)}
            rows.append(pd.DataFrame(part | {WEIGHT: rng.uniform(0.5, 2, n), "stratum": "ns"[k % 2]}))
    return pd.concat(rows, ignore_index=True)


def compared(rows, of, *, few=False, weighted=False, by=(), cluster="place", **asked):
    columns, _ = inference.needed(of, adjust=bool(of.covariates), weighted=True)
    groups = ["arm", *by, *([cluster] if few else [])]
    read = moments.from_rows(rows, columns=columns, by=groups, weighted=weighted, cluster=cluster)
    kept = {"cluster": cluster if few else None} | asked
    return inference.compare(
        read, of, control="c", treatment="t", days=7, pre_days=7, adjust=bool(of.covariates), **kept
    )


def by_arm(rows, of, weights):
    """Cluster each arm's own mean with statsmodels: with one coefficient its correction is G / (G - 1) alone."""
    found = []
    for arm in "ct":
        mine = (rows["arm"] == arm).to_numpy()
        model = sm.WLS(of[mine], np.ones(mine.sum()), weights=weights[mine])
        codes = pd.factorize(rows["place"][mine])[0]
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": codes})
        found.append((float(fit.params[0]), float(fit.bse[0])))
    return np.array(found).T


@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_has_the_error_of_clustered_least_squares(weighted):
    rows = drawn((22, 25))
    weights = rows[WEIGHT].to_numpy() if weighted else np.ones(len(rows))
    value, se = by_arm(rows, rows["y"].to_numpy(), weights)
    (e,) = compared(rows, metric(), weighted=weighted)
    assert (e.control, e.treatment) == pytest.approx(value, rel=1e-12)
    assert e.se == pytest.approx(np.hypot(*se), rel=1e-9)
    df = (se**2).sum() ** 2 / (se**4 / [21, 24]).sum()  # Satterthwaite, of clusters
    assert reference.freedom(e) == pytest.approx(df, rel=1e-6)
    assert e.p == pytest.approx(2 * stats.t.sf(abs(e.diff) / e.se, df), rel=1e-9)
    assert e.mde == pytest.approx((stats.t.isf(0.025, df) + stats.t.ppf(0.8, df)) * e.se, rel=1e-9)
    assert (e.n_control, e.n_treatment) == tuple((rows["arm"] == arm).sum() for arm in "ct")
    assert e.method == "Welch t, over clusters of accounts"


@pytest.mark.parametrize("few", [False, True])
def test_of_a_share_that_did_not_occur_the_smallest_visible_one_is_a_number(few):
    (e,) = compared(drawn((22, 25) if not few else (8, 9)).assign(y=0.0), metric("proportion"), few=few)
    df = (22 if not few else 8) - 1  # the smaller arm's: nothing varies that could say more
    assert (e.control, e.treatment) == (0, 0)
    assert e.mde == pytest.approx((stats.t.isf(0.025, df) + stats.t.ppf(0.8, df)) * e.se, rel=1e-9)


def test_a_ratio_has_the_error_of_clustered_least_squares_weighted_by_its_denominator():
    rows = drawn((22, 25), seed=2)
    value, se = by_arm(rows, (rows["y"] / rows["plays"]).to_numpy(), rows["plays"].to_numpy(float))
    (e,) = compared(rows, metric("ratio", per="plays"))
    assert (e.control, e.treatment) == pytest.approx(value, rel=1e-12)
    assert e.se == pytest.approx(np.hypot(*se), rel=1e-9)


def test_cable_systems_have_the_clustered_error_of_r():
    case = reference.case("clustered_se__rock_the_vote_tv_ads")
    systems, told = reference.data(case), case["expected"]["individual_level"]
    n = systems["n"].to_numpy()
    voted = np.concatenate([np.arange(k) < r for k, r in zip(n, systems["r"], strict=True)])
    frame = {"arm": np.where(systems["treated"], "t", "c"), "place": systems.index.astype(str)}
    rows = pd.DataFrame(frame).loc[np.repeat(systems.index, n)].assign(y=voted.astype(float)).reset_index(drop=True)
    (e,) = compared(rows, metric())
    assert e.diff == reference.near(case, told["est"])
    parts = []  # R's CR0 without a factor; ours has that of each arm
    for arm in "ct":
        mine = rows[rows["arm"] == arm]
        off = (mine["y"] - mine["y"].mean()).groupby(mine["place"]).sum()
        parts.append((float((off**2).sum()) / len(mine) ** 2, len(off)))
    assert np.sqrt(sum(part for part, _ in parts)) == reference.near(case, told["se_CR0"])
    assert e.se == pytest.approx(np.sqrt(sum(part * g / (g - 1) for part, g in parts)), rel=1e-9)
    assert e.se > 4 * told["se_naive"]


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
def test_clusters_of_one_account_are_accounts(seed):
    rows = drawn((30, 25), seed=seed, most=2)
    for of in (metric(), metric("ratio", per="plays"), metric(past=("x",))):
        columns, _ = inference.needed(of, adjust=bool(of.covariates))
        read = moments.from_rows(rows, columns=columns, by=["arm"])
        asked = {"control": "c", "treatment": "t", "days": 7, "pre_days": 7, "adjust": bool(of.covariates)}
        (plain,), (whole,) = inference.compare(read, of, **asked), compared(rows, of)
        for field in ("control", "treatment", "se", "low", "high", "p", "rel_low", "rel_high", "n_control"):
            assert getattr(whole, field) == pytest.approx(getattr(plain, field), rel=1e-9, abs=1e-12), field


def test_clusters_add_up():
    rows = drawn((20, 24), seed=4)
    late = rows["place"].str.endswith(("1", "3", "5"))
    parts = [
        moments.from_rows(part, columns=["y", WEIGHT], by=["arm"], cluster="place")
        for part in (rows[late], rows[~late])
    ]
    whole, added = moments.from_rows(rows, columns=["y", WEIGHT], by=["arm"], cluster="place"), parts[0] + parts[1]
    for field in ("n", "held", "mean", "scatter"):
        np.testing.assert_allclose(getattr(added, field), getattr(whole, field), rtol=1e-10)
    np.testing.assert_allclose(added.n, [20, 24])
    np.testing.assert_allclose(added.accounts, rows.groupby("arm").size())
    with pytest.raises(DataError, match="of accounts and of clusters"):
        whole + moments.from_rows(rows, columns=["y", WEIGHT], by=["arm"], weighted=True)


def test_moments_of_accounts_keep_the_variance_of_the_mean():
    whole = moments.from_rows(drawn((20, 24)), columns=["y", WEIGHT], by=["arm"], cluster="place")
    each = whole.of_accounts()
    np.testing.assert_allclose(each.cov / each.n[:, None, None], whole.cov / whole.n[:, None, None], rtol=1e-12)
    np.testing.assert_allclose(each.n, whole.held)


def test_strata_of_clusters_are_summed_out_as_in_a_stratified_sample():
    rows = drawn((24, 26), seed=5)
    rows["y"] += 3.0 * (rows["stratum"] == "n")
    (e,) = compared(rows, metric(), by=["stratum"], stratum="stratum")
    se = 0.0
    for _, arm in rows.groupby("arm"):  # Cochran 1977, eq. 5.7, over the clusters' linearised sums
        off = (arm["y"] - arm["y"].mean()).groupby([arm["stratum"], arm["place"]]).sum()
        for _, part in off.groupby(level=0):
            se += len(part) / (len(part) - 1) * float(((part - part.mean()) ** 2).sum()) / len(arm) ** 2
    assert e.se == pytest.approx(se**0.5, rel=1e-9)
    assert e.method.endswith("over clusters of accounts, within strata")


def test_strata_of_clusters_that_are_split_unlike_are_brought_to_one_mix():
    rows = pd.concat([drawn((60, 30)).assign(stratum="n"), drawn((20, 50), seed=2).assign(stratum="s")])
    rows["place"] += rows["stratum"]
    rows["y"] += 3.0 * (rows["stratum"] == "s")
    (e,) = compared(rows, metric(), by=["stratum"], poststrata=["stratum"])
    share = rows["stratum"].value_counts(normalize=True)
    each = {h: by_arm(part, part["y"].to_numpy(), np.ones(len(part))) for h, part in rows.groupby("stratum")}
    assert [e.control, e.treatment] == pytest.approx(sum(share[h] * of[0] for h, of in each.items()), rel=1e-9)
    se = sum(share[h] ** 2 * (of[1] ** 2).sum() for h, of in each.items()) ** 0.5
    assert e.se == pytest.approx(se, rel=1e-9)  # statsmodels, arm by arm within each stratum
    plain = compared(rows, metric(), by=["stratum"], stratum="stratum")[0]
    assert plain.low > 0.5
    assert e.low < 0 < e.high  # nothing was planted


def test_a_value_that_is_missing_in_a_cluster_is_refused():
    rows = drawn((20, 24))
    rows.loc[3, "y"] = np.nan
    with pytest.raises(DataError, match="'y' has 1 missing"):
        compared(rows, metric())
    with pytest.raises(ParameterError, match="not post-stratified"):
        compared(drawn((20, 24)), metric(), few=True, by=["stratum"], poststrata=["stratum"])


@pytest.mark.parametrize("groups", [(6, 6), (4, 8)])  # 12 clusters: all 4,096 signs, in both implementations
@pytest.mark.parametrize("per", [None, "plays"])
def test_few_clusters_are_read_by_the_wild_bootstrap_of_rows(groups, per):
    rows = drawn(groups, seed=6)
    (e,) = compared(rows, metric("ratio" if per else "mean", per=per), few=True)
    root = np.sqrt(rows[per].to_numpy(float)) if per else np.ones(len(rows))  # weighted least squares by hand
    y = rows["y"].to_numpy() / (root**2 if per else 1)
    treated = (rows["arm"] == "t").to_numpy(float)
    if per is None:
        told = on_rows.wild(y, {"t": treated}, "t", rows["place"], rng=np.random.default_rng(1))
        assert (e.low, e.high) == pytest.approx((told.low, told.high), abs=1e-3 * e.se)
        assert (e.p, e.diff) == pytest.approx((told.p, told.value), rel=1e-9)
    assert e.p == pytest.approx(refitted(y, treated, rows["place"], root), abs=1e-12)
    assert e.method == f"wild cluster bootstrap (Rademacher) of {groups[0]} and {groups[1]} clusters"
    assert (e.rel_low < 0 < e.rel_high) == (e.low < 0 < e.high)


def refitted(y, treated, places, root):
    """Refit every bootstrap sample of weighted least squares: the wild cluster bootstrap as its definition says."""
    x, y = np.column_stack([np.ones(len(y)), treated]) * root[:, None], y * root
    code, inverse = pd.factorize(places)[0], np.linalg.inv(x.T @ x)

    def t(outcome):
        b = inverse @ x.T @ outcome
        score = np.array([x[code == g].T @ (outcome - x @ b)[code == g] for g in range(code.max() + 1)])
        return b[1] / np.sqrt((inverse @ score.T @ score @ inverse)[1, 1])

    level = x[:, 0] * (x[:, 0] @ y / (x[:, 0] @ x[:, 0]))
    own_t = abs(t(y)) * (1 - 1e-9)
    return np.mean([abs(t(level + (y - level) * v[code])) >= own_t for v in multipliers(code.max() + 1).T])


def test_few_clusters_at_the_ends_of_their_interval_are_just_not_rejected():
    rng = np.random.default_rng(3)
    off = [u - u.mean() for u in (rng.normal(size=7), rng.normal(size=9))]
    wild = Wild([4.0, 5.5], off, [np.ones(7), np.ones(9)], [70.0, 90.0])
    for ratio in (False, True):
        low, high = wild.interval(0.95, ratio=ratio)
        assert min(wild.p(low + 1e-3, ratio=ratio), wild.p(high - 1e-3, ratio=ratio)) >= 0.05
        assert max(wild.p(low - 1e-3, ratio=ratio), wild.p(high + 1e-3, ratio=ratio)) < 0.05
    assert wild.p(0.0) == wild.p(1.0, ratio=True)


@pytest.mark.parametrize(("groups", "ways"), [((2, 2), 6), ((3, 3), 20), ((3, 4), 35)])
def test_so_few_clusters_that_the_draw_had_few_outcomes_are_not_estimable(groups, ways):
    assert comb(sum(groups), groups[0]) == ways
    (e,) = compared(drawn(groups), metric(), few=True)
    assert isinstance(e, NotEstimable)
    assert f"could make {ways} pairs of arms" in e.reason


def nothing(rng, groups):
    """Draw two arms of clusters without an effect, lognormal sizes, an intra-cluster correlation of 0.08."""
    value, off, share, size = [], [], [], []
    for many in groups:
        n = np.maximum(2, np.round(50 * np.exp(0.5 * rng.normal(size=many))))
        y = 0.3 * rng.normal(size=many) + rng.normal(size=many) / np.sqrt(n)
        w = n / n.mean()
        value.append(10 + (w * y).mean())
        off.append(w * (y + 10 - value[-1]))
        share.append(w)
        size.append(n.sum())
    return value, off, share, size


@pytest.mark.parametrize(("groups", "runs"), [((60, 60), 2_000), ((8, 8), 250)])
def test_errors_over_accounts_reject_far_too_often_and_those_over_clusters_do_not(groups, runs):
    rng, found = np.random.default_rng(8), []
    for _ in range(runs):
        value, off, share, size = nothing(rng, groups)
        se = [np.sqrt((u @ u) / (len(u) * (len(u) - 1))) for u in off]
        z = abs(value[1] - value[0])
        naive = z > 1.96 * np.sqrt(1.09 * (1 / size[0] + 1 / size[1]))
        if sum(groups) >= FEW:
            df = (se[0] ** 2 + se[1] ** 2) ** 2 / (se[0] ** 4 + se[1] ** 4) * (groups[0] - 1)
            found.append((naive, 2 * stats.t.sf(z / np.hypot(*se), df) < 0.05))
        else:
            found.append((naive, Wild(value, off, share, size).p(0.0) < 0.05))
    naive, whole = np.mean(found, axis=0)
    assert naive > 0.3
    assert abs(whole - 0.05) < 3 * np.sqrt(0.05 * 0.95 / runs)


def woodruff(rows, values, share=0.5):
    """Bound the difference of quantiles by clustered errors of the shares below them (Woodruff 1952), from statsmodels."""
    arms = []
    for arm in "ct":
        x = np.sort(values[rows["arm"] == arm].to_numpy())
        at = x[np.ceil(share * len(x)).astype(int) - 1]
        of = [by_arm(rows, below.to_numpy(float), np.ones(len(rows)))[1] for below in (values <= at, values < at)]
        half = stats.norm.isf(0.025) * max(errors["ct".index(arm)] for errors in of)  # at or below it, or below alone
        reached = np.arange(1, len(x) + 1) / len(x)
        arms.append([at, *(x[np.searchsorted(reached, share + side * half)] for side in (-1, 1))])
    (c, c_low, c_high), (t, t_low, t_high) = arms
    return t - c - np.hypot(t - t_low, c_high - c), t - c + np.hypot(t_high - t, c - c_low)


PLAN = """
name: markets
data: {{units: t.csv, account: id, arm: version}}
arms: {{control: old, treatment: new}}
unit: {unit}
metrics:
  north_star: {{name: hours, kind: mean, column: hours, better: higher, covariates: [hours_before]}}
  supporting:
    - {{name: per_play, kind: ratio, numerator: hours, denominator: plays, better: higher}}
    - {{name: middle, kind: quantile, quantile: 0.5, column: hours, better: higher}}
    - {{name: tenure, kind: time_to_event, column: hours, event: left, better: higher}}
  guardrails: [{{name: left, kind: proportion, column: left, better: lower, margin: +50%}}]
sampling: {{n: {{old: 1, new: 1}}}}
segments: [device]
"""


@pytest.fixture
def opened(tmp_path):
    def build(groups, size, unit, *, effect=0.0, change=None):
        rng, code = np.random.default_rng(9), np.repeat(np.arange(groups), size)
        new, shared, n = rng.permutation(np.arange(groups) % 2)[code], rng.normal(size=groups)[code], groups * size
        before = 4 + shared + rng.normal(size=n)
        frame = {
            "id": np.arange(n), "version": np.where(new, "new", "old"), "market": [f"m{g}" for g in code],
            "device": rng.choice(["tv", "web"], n), "hours_before": before, "plays": rng.integers(1, 5, n),
            "hours": 6 + 0.5 * before + 0.5 * shared + rng.normal(size=n) + effect * new,
            "left": (rng.random(n) < 0.2).astype(int),
        }  # fmt: skip
        frame = pd.DataFrame(frame)
        (frame if change is None else change(frame)).to_csv(tmp_path / "t.csv", index=False)
        (tmp_path / "plan.yaml").write_text(PLAN.format(unit=unit))
        return study.open(launch.load(tmp_path / "plan.yaml"))

    return build


REGIONS = "{randomised: region, errors: cluster, cluster: market}"


def test_a_launch_drawn_by_region_is_analysed_by_region(opened):
    data = opened(60, 20, REGIONS, effect=1.5)
    card = scorecard.measure(data)
    assert not [c.name for c in card.checks if c.passed is False]
    counts = next(c for c in card.checks if c.name == "Arm counts")
    assert "new 30 (" in counts.detail
    assert "Drawn were 30 and 30 regions" in card.basis
    by_name = {c.metric: c.estimate for c in card.claims}
    rows = pd.read_csv(data.launch.folder / "t.csv").rename(columns={"version": "arm", "market": "place"})
    rows["arm"] = rows["arm"].map({"old": "c", "new": "t"})
    plain = next(e for e in card.plain if e.metric == "hours")
    assert plain.se == pytest.approx(np.hypot(*by_arm(rows, rows["hours"].to_numpy(), np.ones(len(rows)))[1]), rel=1e-9)
    assert card.before[0].se == pytest.approx(
        np.hypot(*by_arm(rows, rows["hours_before"].to_numpy(), np.ones(len(rows)))[1]), rel=1e-9
    )
    assert by_name["hours"].low > 0
    assert by_name["hours"].se < plain.se  # its past tells which regions watch much
    assert (by_name["middle"].low, by_name["middle"].high) == pytest.approx(woodruff(rows, rows["hours"]), rel=1e-12)
    assert by_name["middle"].n_control == 600
    assert "no error for accounts drawn together" in by_name["tenure"].reason
    assert decision.decide(card.checks, card.claims).decision in ("PROCEED", "HOLD")


def test_what_cannot_be_read_of_accounts_drawn_together_says_so(opened):
    data = opened(60, 20, REGIONS, effect=1.5)
    card, star = scorecard.measure(data), data.launch.plan[0].metric
    assert "drawn" in monitor.watch(data, star, checks=card.checks).accounts.reason
    groups = segments.effects(data, star, checks=card.checks)
    assert all(isinstance(s.estimate, Estimate) and s.low is None for a in groups for s in a.segments)
    assert "60 regions were drawn" in segments.standing_out(groups, star).detail
    asked = {c.name: c for c in trust.questions(data, card)}
    assert "60 regions" in segments.put_together(groups).attrs["why"]
    assert "one by one" in adequacy.frame(card.spreads, ("old", "new")).attrs["why"]
    (late,) = scorecard.within(
        data, scorecard.sliced(data, ["device"])["device"], data.launch.plan[3].metric, "device"
    )[:1]
    assert late.slice == {"device": "tv"}
    assert "time with censoring" in late.reason
    assert asked["Concentration: Hours"].passed is None
    seen = {p.planned.metric.name: p for p in prospect.measure(data)}
    assert "60 clusters drawn" in seen["left"].basis
    plain = next(e for e in card.plain if e.metric == "hours")
    assert seen["per_play"].seen.n_control == 600
    assert seen["hours"].outcome.sd * np.sqrt(2 / 600) == pytest.approx(plain.se, rel=0.3)  # of the control alone


def test_strata_are_used_where_clusters_lie_within_one_and_their_clusters_are_split_alike(opened):
    def parted(by):
        data = opened(60, 20, REGIONS, change=lambda r: r.assign(part=np.where(by(r, r["market"].str[-1]), "a", "b")))
        path = data.launch.folder / "plan.yaml"
        path.write_text(path.read_text().replace("arm: version}", "arm: version, stratum: part}"))
        return scorecard.measure(study.open(launch.load(path)))

    within, across = parted(lambda _, last: last < "5"), parted(lambda r, _: r["device"] == "tv")
    assert within.plain[0].method == "Welch t, over clusters of accounts, post-stratified by sampling_stratum"
    assert across.plain[0].method == "Welch t, over clusters of accounts"
    assert "Drawn were 30 and 30 regions" in across.basis
    unlike = parted(lambda r, last: last < np.where(r["version"] == "old", "9", "2"))
    asked = [{c.name: c.passed for c in card.checks}.get("Strata drawn together") for card in (within, across, unlike)]
    assert asked == [True, None, False]
    assert "Strata drawn together" in unlike.claims[0].words


def test_a_launch_of_few_regions_is_read_by_the_wild_bootstrap(opened):
    card = scorecard.measure(opened(12, 20, REGIONS, effect=1.5))
    by_name = {c.metric: c.estimate for c in card.claims}
    assert by_name["hours"].method.startswith("wild cluster bootstrap (Rademacher) of 6 and 6 clusters, adjusted for")
    assert "has no error for so few" in by_name["middle"].reason
    claim = next(c for c in card.claims if c.metric == "left")
    assert claim.more is None  # more accounts of the same regions would not settle it


def test_a_launch_of_six_regions_shows_nothing(opened):
    card = scorecard.measure(opened(6, 50, REGIONS, effect=5.0))
    assert all(isinstance(c.estimate, NotEstimable) for c in card.claims)
    assert decision.decide(card.checks, card.claims).decision == "HOLD"


def test_a_launch_drawn_by_household_is_analysed_by_household(opened):
    unit = "{randomised: household, errors: cluster, cluster: market}"
    blank = lambda rows: rows.assign(market=rows["market"].where(rows.index > 3))  # noqa: E731
    card = scorecard.measure(opened(400, 2, unit, change=blank))
    assert "households" in card.basis
    e = next(c.estimate for c in card.claims if c.metric == "left")
    assert e.method.endswith("over clusters of accounts")
    alone = scorecard.measure(opened(400, 1, unit))
    assert "one account stands for each" in next(c.detail for c in alone.checks if c.name == "Drawn together")
    assert "clusters" not in next(c.estimate.method for c in alone.claims if c.metric == "left")


def test_regions_in_both_arms_were_not_drawn_whole(opened):
    def mixed(rows):
        return rows.assign(version=np.where(rows.index % 2, "new", "old"))

    card = scorecard.measure(opened(60, 20, REGIONS, change=mixed))
    assert [c.name for c in card.checks if c.passed is False] == ["Drawn together"]
    assert decision.decide(card.checks, card.claims).decision == "INVALID"


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("{randomised: account, cluster: market}", "accounts were drawn and accounts are analysed; leave it out"),
        (
            "{randomised: region, cluster: version}",
            "'unit.cluster' names 'version', which tells accounts or arms apart",
        ),
        ("{randomised: region, cluster: hours}", "'unit.cluster' names 'hours', which is measured after"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_in_one_sentence(opened, unit, said):
    with pytest.raises(LaunchError, match=said):
        opened(12, 2, unit)


def test_a_cluster_that_is_not_in_the_data_or_missing_is_refused(opened):
    with pytest.raises(DataError, match=r"'unit.cluster' names 'markt', no column of .*did you mean 'market'"):
        scorecard.measure(opened(12, 2, "{randomised: region, cluster: markt}"))
    with pytest.raises(DataError, match="4 accounts have no value in column 'market'"):
        scorecard.measure(opened(12, 2, REGIONS, change=lambda r: r.assign(market=r["market"].where(r.index > 3))))
