"""Weights and strata go with the accounts to the end: estimates equal R's survey package, and their intervals hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import reference
from columns import metric
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from helpers import inference, launch, moments, scorecard, study, units
from helpers.errors import DataError, LaunchError, ParameterError
from helpers.moments import WEIGHT
from helpers.results import Estimate, NotEstimable
from helpers.robust import events, quantiles

EXACT = 1e-9  # relative


def rows(n=600, seed=5) -> pd.DataFrame:
    """Draw two arms within three strata, the heavy viewers oversampled."""
    rng = np.random.default_rng(seed)
    stratum = rng.choice(["light", "medium", "heavy"], n, p=[0.3, 0.3, 0.4])
    level = pd.Series(stratum).map({"light": 2.0, "medium": 8.0, "heavy": 25.0}).to_numpy()
    before = rng.gamma(2, level / 2)
    return pd.DataFrame(
        {
            "arm": rng.choice(["control", "early"], n, p=[0.6, 0.4]),
            "stratum": stratum,
            WEIGHT: pd.Series(stratum).map({"light": 30.0, "medium": 10.0, "heavy": 2.0}),
            "before": before,
            "y": before * rng.gamma(4, 0.25, n),
            "sessions": 1 + rng.poisson(level / 2),
            "kept": (rng.random(n) < 0.9 + 0.002 * level).astype(float),
        }
    )


def read(frame, columns, *, by=("arm", "stratum")):
    return moments.from_rows(frame, columns=[*columns, WEIGHT], by=by, weighted=True)


def by_hand(frame, contribution):
    """Variance of a total of linearised contributions, stratum by stratum (Lohr 2022, eq. 9.3, without fpc)."""
    total = 0.0
    for _, z in contribution.groupby(frame["stratum"]):
        total += len(z) * z.var(ddof=1)
    return total


def compare(read_, m, **more):
    (answer,) = inference.compare(
        read_, m, control="control", treatment="early", stratum="stratum", days=28, pre_days=28, **more
    )
    return answer


@pytest.mark.parametrize(
    ("what", "columns"),
    [
        (metric(), ["y"]),
        (metric("proportion", numerator="kept"), ["kept"]),
        (metric("ratio", denominator="sessions"), ["y", "sessions"]),
    ],
    ids=["mean", "proportion", "ratio"],
)
def test_weighted_values_and_errors_equal_the_linearised_formula(what, columns):
    frame = rows()
    answer = compare(read(frame, columns), what)
    values, variances = [], []
    for _, arm in frame.groupby("arm"):
        bottom = arm[columns[1]] if what.denominator else 1.0
        value = (arm[WEIGHT] * arm[columns[0]]).sum() / (arm[WEIGHT] * bottom).sum()
        z = arm[WEIGHT] * (arm[columns[0]] - value * bottom) / (arm[WEIGHT] * bottom).sum()
        values.append(value)
        variances.append(by_hand(arm, z))
    assert (answer.control, answer.treatment) == pytest.approx(values, rel=EXACT)
    assert answer.se == pytest.approx(np.sqrt(sum(variances)), rel=EXACT)
    assert answer.method.endswith("weighted to the population, within strata")


def test_adjustment_takes_out_the_weighted_past_within_strata():
    frame = rows()
    answer = compare(read(frame, ["y", "before"]), metric(covariates=["before"]), adjust=True)
    plain = compare(read(frame, ["y"]), metric())
    arms = dict(list(frame.groupby("arm")))

    def mean(arm, column):
        return np.average(arm[column], weights=arm[WEIGHT])

    shift = mean(arms["early"], "before") - mean(arms["control"], "before")
    theta = (plain.diff - answer.diff) / shift  # the one slope that was used
    variance = 0.0
    for arm in arms.values():
        residual = arm["y"] - mean(arm, "y") - theta * (arm["before"] - mean(arm, "before"))
        variance += by_hand(arm, arm[WEIGHT] * residual / arm[WEIGHT].sum())
    assert answer.se == pytest.approx(np.sqrt(variance), rel=EXACT)
    assert answer.se < 0.7 * plain.se


def test_weighted_amounts_are_no_proportion_and_weighted_shares_are():
    frame, share = rows(), metric("proportion", numerator="kept")
    assert isinstance(compare(read(frame, ["kept"]), share), Estimate)
    (frame.loc[7, "kept"],) = (1 - frame.loc[[7], "kept"]) + 0.5
    for said in (
        compare(read(frame, ["kept"]), share),
        inference.average(read(frame, ["kept"]), share, of=frame.loc[7, "arm"], stratum="stratum", days=28)[0],
    ):
        assert said.reason == f"kept holds values other than 0 and 1 in {frame.loc[7, 'arm']}, so it is no proportion"


def test_strata_of_the_draw_in_one_arm_only_are_counted_in_a_note():
    frame = rows()
    frame["device"] = np.where(np.arange(len(frame)) % 2, "tv", "web")
    assert compare(read(frame, ["y"]), metric()).note == ""
    lone = (frame["stratum"] == "heavy") & (frame["device"] == "tv")
    frame = frame[~(lone & (frame["arm"] == "control"))]
    asked = {"control": "control", "treatment": "early", "stratum": "stratum", "days": 28, "pre_days": 28}
    for weighted in (True, False):
        columns = ["y", WEIGHT] if weighted else ["y"]
        found = moments.from_rows(frame, columns=columns, by=["arm", "stratum", "device"], weighted=weighted)
        tv, web = inference.compare(found, metric(), **asked)
        n = (lone[frame.index] & (frame["arm"] == "early")).sum()
        assert tv.note.startswith(f"1 strata of the draw have accounts in one arm only ({n} of them)")
        assert web.note == ""
    assert compare(found.pool(["arm", "stratum"]), metric()).note == ""


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_only_the_proportions_of_the_weights_matter(seed, scale):
    frame = rows(200, seed)
    one = compare(read(frame, ["y"]), metric())
    other = compare(read(frame.assign(**{WEIGHT: scale * frame[WEIGHT]}), ["y"]), metric())
    assert (one.diff, one.low, one.high) == pytest.approx((other.diff, other.low, other.high), rel=1e-9)


def test_equal_weights_in_one_stratum_change_nothing_but_the_degrees_of_the_score_interval():
    frame = rows().assign(**{WEIGHT: 3.0, "stratum": "all"})
    for m, columns in ((metric(), ["y"]), (metric("ratio", denominator="sessions"), ["y", "sessions"])):
        plain = moments.from_rows(frame, columns=columns, by=["arm"])
        (unweighted,) = inference.compare(plain, m, control="control", treatment="early", days=28, pre_days=28)
        weighted = compare(read(frame, columns), m)
        assert (weighted.low, weighted.high, weighted.p) == pytest.approx(
            (unweighted.low, unweighted.high, unweighted.p), rel=EXACT
        )
    kept = metric("proportion", numerator="kept")
    plain = moments.from_rows(frame, columns=["kept"], by=["arm"])
    (unweighted,) = inference.compare(plain, kept, control="control", treatment="early", days=28, pre_days=28)
    weighted = compare(read(frame, ["kept"]), kept)  # n and n - 1 stand for n: a share of 1 / 240
    assert (weighted.low, weighted.high) == pytest.approx((unweighted.low, unweighted.high), rel=0.01)


def test_a_stratum_with_one_account_counts_with_its_distance_from_the_mean():
    frame = rows(60).assign(**{WEIGHT: 1.0})
    lonely = pd.concat([frame, frame.head(1).assign(stratum="alone", arm="early")], ignore_index=True)
    answer = compare(read(lonely, ["y"]), metric())
    early = lonely[lonely["arm"] == "early"]
    z = (early["y"] - early["y"].mean()) / len(early)
    several = early["stratum"] != "alone"
    variance = by_hand(early[several], z[several]) + z[~several].item() ** 2
    control = lonely[lonely["arm"] == "control"]
    variance += by_hand(control, (control["y"] - control["y"].mean()) / len(control))
    assert answer.se == pytest.approx(np.sqrt(variance), rel=EXACT)


def test_a_share_of_nothing_keeps_an_interval_at_kishs_n():
    frame = rows().assign(kept=0.0)
    read_ = read(frame, ["kept"])
    (share,) = inference.average(read_, metric("proportion", numerator="kept"), of="early", stratum="stratum", days=28)
    early = frame.loc[frame["arm"] == "early", WEIGHT]
    kish = early.sum() ** 2 / (early**2).sum()
    assert share.value == 0
    assert share.n_effective == pytest.approx(kish, rel=EXACT)
    assert share.high == pytest.approx(1.959964**2 / (kish + 1.959964**2), rel=1e-6)  # Wilson's limit at 0


def two_weights(rng, replicates, accounts, heavy, weight, share):
    """Draw launches of an arm's accounts, a part of them with a weight beside 1, and events of this share in both."""
    found = []
    for arm, n in zip(("control", "early"), accounts, strict=True):
        for stratum, size, w in (("heavy", round(n * heavy), weight), ("light", n - round(n * heavy), 1.0)):
            y = rng.binomial(size, share, replicates) / size
            scatter = np.zeros((replicates, 2, 2))
            scatter[:, 0, 0] = size * w**2 * y * (1 - y)  # the weight itself does not vary within its stratum
            found.append(
                moments.Moments(
                    groups=pd.DataFrame({"arm": arm, "stratum": stratum, "replay": np.arange(replicates)}),
                    columns=("kept", WEIGHT),
                    n=np.full(replicates, float(size)),
                    mean=np.column_stack([w * y, np.full(replicates, w)]),
                    scatter=scatter,
                )
            )
    return sum(found[1:], found[0])


@pytest.mark.parametrize(
    ("accounts", "heavy", "weight", "share"),
    [((3_000, 3_000), 0.05, 50.0, 0.02), ((10_000, 3_000), 0.1, 20.0, 0.01), ((20_000, 2_000), 0.05, 20.0, 0.02)],
)
@pytest.mark.parametrize("stratum", ["stratum", None])
def test_intervals_of_weighted_rare_shares_cover(accounts, heavy, weight, share, stratum):
    """Of 1,000 launches 95 %, within 2 points, and three errors of 0.7. By the arms' own variances 90, 91 and 85 %."""
    read_ = two_weights(np.random.default_rng(17), 1_000, accounts, heavy, weight, share)
    read_ = read_ if stratum else read_.pool(["arm", "replay"])
    found = inference.compare(
        read_, metric("proportion", numerator="kept"), control="control", treatment="early",
        stratum=stratum, days=28, pre_days=28,
    )  # fmt: skip
    assert 0.93 - 0.021 <= np.mean([e.low <= 0 <= e.high for e in found]) <= 0.97 + 0.021


def test_an_arm_whose_heavy_accounts_had_no_event_is_worth_what_both_arms_leave():
    """By hand: 40 accounts of weight 9 and 160 of 1 in each arm, no event and 4 among the heavy, 8 among the light."""
    heavy = pd.DataFrame({"arm": np.repeat(["control", "early"], 40), WEIGHT: 9.0, "kept": [1.0] * 4 + [0.0] * 76})
    light = pd.DataFrame(
        {"arm": np.repeat(["control", "early"], 160), WEIGHT: 1.0, "kept": ([1.0] * 8 + [0.0] * 152) * 2}
    )
    frame = pd.concat([heavy, light])
    (e,) = inference.compare(
        read(frame, ["kept"], by=["arm"]), metric("proportion", numerator="kept"), control="control",
        treatment="early", days=28, pre_days=28,
    )  # fmt: skip
    shares, variances = [], []
    for _, arm in frame.groupby("arm"):
        share = np.average(arm["kept"], weights=arm[WEIGHT])
        shares.append(share)
        variances.append((arm[WEIGHT] * (arm["kept"] - share) / arm[WEIGHT].sum()).var(ddof=1) * 200)
    both = np.mean(shares)
    worth = np.minimum(
        [s * (1 - s) / v for s, v in zip(shares, variances, strict=True)], both * (1 - both) / np.mean(variances)
    )  # Kish's n is the same in both
    assert worth[1] < 0.5 * shares[1] * (1 - shares[1]) / variances[1]
    (c, t) = shares
    (low, high) = proportion_confint(np.array(shares) * worth, worth, method="wilson")
    assert e.low == pytest.approx(t - c - np.hypot(t - low[1], high[0] - c), rel=1e-9)
    assert e.high == pytest.approx(t - c + np.hypot(high[1] - t, c - low[0]), rel=1e-9)


def test_whether_events_are_few_is_asked_of_kishs_n():
    """20 of 1,000 in each arm, all of weight 1 beside 50 of weight 20: worth 181 accounts, 2 in 100 of which are 4."""
    frame = pd.DataFrame({"arm": np.repeat(["control", "early"], 1_000), WEIGHT: 1.0, "kept": 0.0})
    at = np.arange(2_000) % 1_000
    frame["before"] = np.random.default_rng(18).random(2_000)
    frame.loc[at < 50, WEIGHT] = 20.0
    frame.loc[(at == 0) | ((at >= 50) & (at < 69)), "kept"] = 1.0
    kept = metric("proportion", numerator="kept", covariates=["before"])
    read_ = read(frame, ["kept", "before"], by=["arm"])
    n = inference.kish(read_)[0]
    share = np.average(frame["kept"], weights=frame[WEIGHT])
    assert n * share < 5 < 1_000 * share
    (e,) = inference.compare(read_, kept, control="control", treatment="early", days=28, pre_days=28, adjust=True)
    assert e.method.startswith("Newcombe hybrid score interval")


def test_kish_of_a_fivefold_oversample_of_a_fifth():
    # 10,000 accounts of which 5/9 are from the 20 % group: n_eff = (sum w)^2 / sum w^2 (requirements: about 6,600)
    heavy = round(10_000 * 5 / 9)
    frame = pd.DataFrame({WEIGHT: np.r_[np.full(heavy, 0.2), np.full(10_000 - heavy, 1.0)]})
    (worth,) = inference.kish(moments.from_rows(frame, columns=[WEIGHT], weighted=True))
    assert worth == pytest.approx(6_600, rel=0.03)


def test_population_averages_equal_r():
    case = reference.case("sampling__api_srs_mean")["expected"]
    frame = reference.data("survey_apisrs.csv").assign(arm="a", stratum="all", y=lambda f: f["api00"])
    frame[WEIGHT] = frame["pw"]
    read_ = read(frame, ["y"])
    asked = {"of": "a", "stratum": "stratum", "days": 28}
    (without,) = inference.average(read_, metric(), **asked)
    (within,) = inference.average(read_, metric(), sampled_share=np.array([200 / 6194]), **asked)
    assert (without.value, without.se) == pytest.approx(
        (case["mean_api00_nofpc"]["est"], case["mean_api00_nofpc"]["se"]), rel=1e-6
    )
    assert (within.value, within.se) == pytest.approx((case["mean_api00"]["est"], case["mean_api00"]["se"]), rel=1e-6)
    (enroll,) = inference.average(
        read(frame.assign(y=frame["enroll"]), ["y"]), metric(), sampled_share=np.array([200 / 6194]), **asked
    )
    schools = frame["pw"].sum()
    for one, scale, key in (
        (without, 1, "mean_api00_nofpc"),
        (within, 1, "mean_api00"),
        (enroll, schools, "total_enroll"),
    ):
        low, high = (scale * (one.value + z * one.se) for z in stats.norm.interval(0.95))  # R's normal, ours t
        want = case[key]
        assert (scale * one.value, scale * one.se, low, high) == pytest.approx(
            (want["est"], want["se"], *want["ci"]), rel=1e-6
        )


def test_stratified_averages_equal_r():
    """662.29 (SE 9.4089) is what R's documentation of survey::svymean prints for `apistrat`, with fpc."""
    frame = reference.data("survey_apistrat.csv").assign(arm="a", y=lambda f: f["api00"])
    frame[WEIGHT], frame["stratum"] = frame["pw"], frame["stype"]
    read_ = read(frame, ["y"])
    share = (frame.groupby("stype").size() / frame.groupby("stype")["fpc"].first()).to_numpy()
    (got,) = inference.average(read_, metric(), of="a", stratum="stratum", sampled_share=share, days=28)
    assert (got.value, got.se) == pytest.approx((662.29, 9.4089), abs=0.005)


def test_oversampled_viewers_equal_r():
    case = reference.case("sampling__oversample_heavy_viewers")
    given_, expected = case["inputs"], case["expected"]
    size, n, mean, sd = (np.array(given_[k], float) for k in ("N", "n", "mean", "sd"))
    weight = size / n
    weighted = np.column_stack([weight * mean, weight])
    scatter = np.zeros((3, 2, 2))
    scatter[:, 0, 0] = (n - 1) * (weight * sd) ** 2
    read_ = moments.Moments(
        groups=pd.DataFrame({"arm": "a", "stratum": ["1", "2", "3"]}),
        columns=("y", WEIGHT),
        n=n,
        mean=weighted,
        scatter=scatter,
    )
    asked = {"of": "a", "stratum": "stratum", "days": 28}
    (without,) = inference.average(read_, metric(), **asked)
    (within,) = inference.average(read_, metric(), sampled_share=n / size, **asked)
    assert (without.value, without.se, within.se) == pytest.approx(
        (expected["est"], expected["se_nofpc"], expected["se_fpc"]), rel=1e-6
    )
    plain = moments.Moments(
        groups=read_.groups, columns=("y",), n=n, mean=mean[:, None], scatter=((n - 1) * sd**2)[:, None, None]
    )
    (wrong,) = inference.average(plain, metric(), **asked)
    assert wrong.value == pytest.approx(expected["unweighted"], rel=1e-6)


def replicate(design: str, seed: int, *, replicates: int, size: int = 50_000, n: int = 2_500):
    """Draw `replicates` samples of a heavy-tailed population by a design; give its values and the drawn rows."""
    rng = np.random.default_rng(seed)
    stratum = rng.choice(4, size, p=[0.45, 0.35, 0.16, 0.04])
    hours = rng.lognormal(np.array([0.2, 1.5, 2.6, 3.6])[stratum], 0.7)
    population = pd.DataFrame(
        {"stratum": stratum, "y": hours, "kept": (rng.random(size) < 0.9 + 0.02 * stratum).astype(float)}
    )
    sizes = np.bincount(stratum)
    if design == "simple":
        share = np.full(4, n / size)
    elif design == "proportional":
        share = np.round(sizes * n / size) / sizes
    elif design == "neyman":
        spread = sizes * population.groupby("stratum")["y"].std().to_numpy()
        share = np.round(n * spread / spread.sum()) / sizes
    else:
        want = sizes * np.array([1, 1, 5, 5])
        share = np.round(n * want / want.sum()) / sizes
    drawn = []
    for r in range(replicates):
        key = rng.random(size)
        if design == "simple":
            taken = population.iloc[np.argpartition(key, n)[:n]].assign(stratum=0, **{WEIGHT: 1.0})
        else:
            parts = [
                np.flatnonzero(stratum == h)[np.argsort(key[stratum == h])[: round(share[h] * sizes[h])]]
                for h in range(4)
            ]
            taken = population.iloc[np.concatenate(parts)]
            taken = taken.assign(**{WEIGHT: 1 / share[taken["stratum"]]})
        drawn.append(taken.assign(replicate=r, arm="a"))
    return population, pd.concat(drawn, ignore_index=True)


@pytest.mark.parametrize("design", ["simple", "proportional", "neyman", "oversample"])
def test_intervals_of_every_design_cover_the_populations_value(design):
    population, drawn = replicate(design, 12, replicates=500)
    read_ = read(drawn, ["y", "kept"], by=("replicate", "arm", "stratum"))
    for what, truth in (
        (metric(), population["y"].mean()),
        (metric("proportion", numerator="kept"), population["kept"].mean()),
    ):
        answers = inference.average(read_, what, of="a", stratum="stratum", days=28)
        covered = np.mean([a.low <= truth <= a.high for a in answers])
        assert 0.93 <= covered <= 0.97, (design, what.kind, covered)
        values = np.array([a.value for a in answers])
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values))


def test_the_unweighted_mean_of_an_oversample_misses():
    population, drawn = replicate("oversample", 11, replicates=1)
    assert drawn["y"].mean() > 1.5 * population["y"].mean()


# Through a launch, on a table with a row per account.


@pytest.fixture
def weighted_launch(tmp_path):
    frame = rows(2_000).rename(columns={WEIGHT: "pw", "stratum": "viewing"}).assign(user=range(2_000))
    frame.to_parquet(tmp_path / "viewers.parquet")
    path = tmp_path / "viewers.yaml"
    path.write_text(
        "name: viewers\n"
        "data: {units: viewers.parquet, account: user, weight: pw, stratum: viewing}\n"
        "arms: {control: control, treatment: early}\n"
        "sampling: {n: {control: 6, early: 4}}\n"
        "metrics:\n"
        "  north_star: {name: hours, kind: mean, column: y, better: higher, covariates: [before]}\n"
        "  guardrails: [{name: kept, kind: proportion, column: kept, better: higher, margin: -10%}]\n",
        encoding="utf-8",
    )
    return path, frame


def test_a_launch_weights_every_metric_and_says_what_that_costs(weighted_launch):
    path, frame = weighted_launch
    card = scorecard.measure(study.open(launch.load(path)))
    stars = [c.estimate for c in card.claims]
    assert all(isinstance(e, Estimate) and "weighted to the population, within strata" in e.method for e in stars)
    plain = card.plain[0]
    early = frame[frame["arm"] == "early"]
    assert plain.treatment == pytest.approx(np.average(early["y"], weights=early["pw"]), rel=EXACT)
    worth = early["pw"].sum() ** 2 / (early["pw"] ** 2).sum()
    assert f"leaves the precision of {worth:,.0f} and " in card.basis


def test_weights_average_one_in_each_arm(weighted_launch):
    path, _ = weighted_launch
    table = units.load(study.open(launch.load(path)))
    means = table.aggregate(by="arm", mean=table[WEIGHT].mean()).execute()["mean"]
    assert means.tolist() == pytest.approx([1, 1])


def test_faulty_weights_are_refused(weighted_launch):
    path, frame = weighted_launch
    early = frame["arm"] == "early"
    faults = {"1": frame["pw"].where(frame.index != 3, 0.0), "2": frame["pw"].where(frame.index > 1)}
    faults[f"{early.sum():,}"] = frame["pw"].where(~early, 0.0)  # of which the mean of an arm is 0
    faults[f"{len(frame):,}"] = 0 * frame["pw"] - 1  # all alike, and as if 1 when divided by their mean
    for n, weights in faults.items():
        frame.assign(pw=weights).to_parquet(path.parent / "viewers.parquet")
        with pytest.raises(DataError, match=f"column 'pw' gives {n} accounts no weight above 0"):
            units.load(study.open(launch.load(path)))


def test_weights_of_event_tables_are_not_given_twice(weighted_launch):
    path, _ = weighted_launch
    path.write_text(path.read_text().replace("units: viewers.parquet", "source: events"), encoding="utf-8")
    with pytest.raises(LaunchError, match="'weight' and 'stratum' are for 'units' only"):
        launch.load(path)


def test_shares_drawn_need_strata():
    with pytest.raises(ParameterError, match="sampled_share is given by stratum"):
        inference.average(read(rows(), ["y"]), metric(), of="early", sampled_share=np.array([0.1]), days=28)


def test_an_arm_of_one_account_has_no_average():
    frame = rows(50).head(1)
    (answer,) = inference.average(read(frame, ["y"]), metric(), of=frame["arm"].item(), stratum="stratum", days=28)
    assert isinstance(answer, NotEstimable)
    assert "at least 2" in answer.reason


# Quantiles of the population


def sample(rng, size, *, plays=False):
    """Draw an arm from a population of two strata, the heavy ones four times as often; or events of its accounts."""
    stratum = (rng.random(size) < 0.5).astype(int)  # of the population 4 in 5 are light
    value = rng.lognormal(stratum, 1.0)
    account = np.arange(size)
    if plays:
        account = np.repeat(account, 1 + rng.poisson(2, size))
        value = value[account] * rng.lognormal(0, 0.3, len(account))
    weight = np.where(stratum, 1.0, 4.0)[account]
    return quantiles.Weighted(value=value, account=account, weight=weight, stratum=stratum[account])


def test_weighted_quantiles_are_those_of_numpy_with_the_linearised_limits_of_woodruff():
    rng = np.random.default_rng(5)
    arms, shares = [sample(rng, 900), sample(rng, 700)], [0.5, 0.9]
    for share, e in zip(shares, quantiles.weighted(*arms, shares), strict=True):
        sides = []
        for arm, got in zip(arms, (e.control, e.treatment), strict=True):
            value = np.quantile(arm.value, share, weights=arm.weight, method="inverted_cdf")
            assert got == value
            off = [arm.weight * (below - share) for below in (arm.value <= value, arm.value < value)]
            frames = [pd.DataFrame({"z": z, "stratum": arm.stratum}) for z in off]
            half = 1.959964 * np.sqrt(max(by_hand(f, f["z"]) for f in frames)) / arm.weight.sum()
            ends = [share - half, share + half]
            low, high = np.quantile(arm.value, ends, weights=arm.weight, method="inverted_cdf")
            sides.append((value, low, high))
        (c, c_low, c_high), (t, t_low, t_high) = sides
        assert e.low == pytest.approx(t - c - np.hypot(t - t_low, c_high - c), rel=1e-9)
        assert e.high == pytest.approx(t - c + np.hypot(t_high - t, c - c_low), rel=1e-9)


@pytest.mark.parametrize(("n", "share"), [((40, 40), 0.99), ((150, 50), 0.99), ((150, 50), 0.9), ((150, 50), 0.1)])
@pytest.mark.parametrize("heavy", [1.5, 20.0])
def test_few_weighted_accounts_do_not_bound_their_greatest_values(n, share, heavy):
    """Launches without effect, two in five accounts with the greater weight: up to all of them were called different."""
    rng, wrong, bounded = np.random.default_rng(13), 0, 0
    for _ in range(100):
        drawn = ((rng.lognormal(0, 2, k), np.where(rng.random(k) < 0.6, 1.0, heavy)) for k in n)
        arms = (
            quantiles.Weighted(value=x, account=np.arange(len(x)), weight=w, stratum=np.zeros(len(x), dtype=int))
            for x, w in drawn
        )
        (e,) = quantiles.weighted(*arms, [share])
        bounded += isinstance(e, Estimate)
        wrong += isinstance(e, Estimate) and not e.low <= 0 <= e.high
    assert wrong <= 10  # of 100, where 5 are asked for: binomial, 99 %
    assert bounded == 0 or share != 0.99


@pytest.mark.parametrize("plays", [False, True], ids=["accounts", "events"])
def test_weighted_quantiles_cover_the_population_s_and_unweighted_ones_do_not(plays):
    """400 draws of two arms of one population: the difference is 0; the treated arm keeps its weights or loses them."""
    rng, found, naive = np.random.default_rng(11), [], []
    for _ in range(400):
        control, treatment = (sample(rng, 1_500, plays=plays) for _ in range(2))
        (e,) = quantiles.weighted(control, treatment, [0.75])
        found.append(e.p < 0.05)
        assert (e.p < 0.05) == (not e.low <= 0 <= e.high)
        (wrong,) = quantiles.weighted(control, replace(treatment, weight=np.ones(len(treatment.weight))), [0.75])
        naive.append(wrong.p < 0.05)
    low, high = stats.binom.ppf([0.0005, 0.9995], 400, 0.05) / 400
    assert low <= np.mean(found) <= high
    assert np.mean(naive) > 0.9


def test_a_launch_with_weights_weights_its_quantiles_overall_and_in_slices(weighted_launch):
    path, frame = weighted_launch
    frame = frame.assign(device=np.where(np.arange(len(frame)) % 3, "tv", "web"))
    frame.to_parquet(path.parent / "viewers.parquet")
    ask = "  supporting: [{name: middle, kind: quantile, quantile: 0.5, column: y, better: higher}]\n"
    path.write_text(path.read_text().replace("  guardrails", ask + "  guardrails") + "segments: [device]\n")
    data = study.open(launch.load(path))
    (whole,) = (c.estimate for c in scorecard.measure(data).claims if c.metric == "middle")
    asked = next(p.metric for p in data.launch.plan if p.metric.name == "middle")
    tv, web = events.within(data, asked, "device", treatment="early")
    for e, mine in ((whole, frame), (tv, frame[frame["device"] == "tv"]), (web, frame[frame["device"] == "web"])):
        for arm, got in (("control", e.control), ("early", e.treatment)):
            part = mine[mine["arm"] == arm]
            assert got == np.quantile(part["y"], 0.5, weights=part["pw"], method="inverted_cdf")  # numpy
        assert "weighted to the population" in e.method
    assert whole.control < 0.8 * np.median(frame.loc[frame["arm"] == "control", "y"])  # the heavy were oversampled
