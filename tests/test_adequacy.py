"""Both arms' spread, and whether there are accounts enough for so long a tail: a warning where intervals fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from columns import metric
from scipy import stats

from helpers import adequacy, inference, launch, moments, scorecard, study
from helpers.moments import WEIGHT
from helpers.results import Estimate

ARMS = {"control": "control", "treatment": "early", "days": 28, "pre_days": 28}


@pytest.mark.parametrize(("n", "warns"), [((2_000, 60), True), ((300, 300), False)])
def test_lopsided_misses_are_those_of_simulated_exponentials(n, warns):
    """An exponential has skewness 2 and variance 1; intervals are scipy's. What the expansion leaves is of order 1 / n."""
    rng, replicates = np.random.default_rng(20261128), 2_000
    expected = np.array(adequacy.misses(np.array([n]).T, np.ones((2, 1)), np.full((2, 1), 2.0), 0.95))[:, 0]
    arms = [rng.exponential(size=(replicates, size)) for size in n]
    low, high = stats.ttest_ind(arms[1], arms[0], axis=1, equal_var=False).confidence_interval()
    found = np.array([(high < 0).mean(), (low > 0).mean()])
    assert found == pytest.approx(expected, abs=4 * np.sqrt(0.025 * 0.975 / replicates) + 0.5 / min(n))
    assert (abs(found - 0.025).max() > 0.0075) == warns
    read = zip(*(zip(x.var(axis=1, ddof=1), stats.skew(x, axis=1), strict=True) for x in arms), strict=True)
    told = [
        adequacy.Spread(metric="", n=n, mean=(1.0, 1.0), variance=(c[0], t[0]), skewness=(c[1], t[1]), level=0.95).note
        for c, t in read
    ]
    assert (np.mean([note != "" for note in told]) > 0.5) == warns


def test_the_table_holds_both_arms_and_their_variances_give_the_error(players):
    """Of a mean that is adjusted and of a ratio; n, mean and skewness by pandas and scipy where nothing is adjusted."""
    path, table = players
    card = scorecard.measure(study.open(launch.load(path)))
    found = {e.metric: e for e in (c.estimate for c in card.claims)}
    assert [s.metric for s in card.spreads] == ["hours", "per_session"]  # a share has the variance p (1 - p)
    for s in card.spreads:
        e = found[s.metric]
        assert s.n == (e.n_control, e.n_treatment)
        assert s.mean == pytest.approx((e.control, e.treatment), rel=1e-9)
        assert np.hypot(*np.sqrt(np.array(s.variance) / s.n)) == pytest.approx(e.se, rel=1e-9)
    ratio = card.spreads[1]
    for i, name in enumerate(("old", "new")):
        arm = table[table["version"] == name]
        part = (arm["hours"] - ratio.mean[i] * arm["sessions"]) / arm["sessions"].mean()
        assert ratio.variance[i] == pytest.approx(part.var(), rel=1e-9)
        assert ratio.skewness[i] == pytest.approx(stats.skew(part), rel=1e-6)
    shown = adequacy.frame(card.spreads, ("old", "new"))
    assert shown[["metric", "arm", "n"]].to_numpy().tolist()[:2] == [["hours", "old", 2_000], ["hours", "new", 2_000]]
    assert shown["variance"][0] == card.spreads[0].variance[0]
    assert [s.split()[-1] for s in shown["variance of"][:4]] == ["value", "value", "ratio", "ratio"]
    assert shown["asked by the rule"][2] == np.ceil(355 * ratio.skewness[0] ** 2)


def test_an_own_table_with_too_long_a_tail_warns_beside_the_estimate_and_with_enough_accounts_does_not(players):
    path, table = players
    text = path.read_text().replace(", covariates: [history]", "")
    rng = np.random.default_rng(3)
    for few, warns in ((150, True), (2_000, False)):
        rows = pd.concat([table[table["version"] == "old"], table[table["version"] == "new"].head(few)])
        rows = rows.assign(hours=rng.lognormal(0, 0.8, len(rows)))
        rows.to_csv(path.parent / "players.csv", index=False)
        path.write_text(text + f"sampling: {{n: {{old: 2000, new: {few}}}}}\n")
        card = scorecard.measure(study.open(launch.load(path)))
        assert all(check.passed is not False for check in card.checks)
        e, spread = card.claims[0].estimate, card.spreads[0]
        assert ("few accounts for so long a tail" in e.note) == warns
        arms = [rows.loc[rows["version"] == v, "hours"] for v in ("old", "new")]
        assert spread.skewness == pytest.approx([stats.skew(x) for x in arms], rel=1e-6)
        assert spread.variance == pytest.approx([x.var() for x in arms], rel=1e-9)
        below, above = spread.misses
        assert (below - 0.025 > 0.0075) == warns
        assert below + above == pytest.approx(0.05, abs=1e-9) or above == 0


def test_weights_and_strata_are_in_the_variance():
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"arm": np.repeat(["control", "early"], 500), "stratum": rng.choice(["a", "b"], 1_000)})
    frame[WEIGHT] = frame["stratum"].map({"a": 1.0, "b": 4.0})
    frame["y"] = rng.gamma(2, frame[WEIGHT])
    read = moments.from_rows(frame, columns=["y", WEIGHT], by=["arm", "stratum"], weighted=True)
    line = inference.linear(read, metric(), stratum="stratum", **ARMS)
    (e,) = inference.compare(read, metric(), stratum="stratum", **ARMS)
    assert isinstance(e, Estimate)
    assert np.hypot(*np.sqrt(line.variance / line.n)) == pytest.approx(e.se, rel=1e-9)
    parts = np.column_stack([frame["y"] * frame[WEIGHT], frame[WEIGHT]])
    for i, arm in enumerate(("control", "early")):
        own = parts[frame["arm"] == arm] @ line.weights[i]
        assert (own.mean(), own.std()) == pytest.approx((line.centre[i], line.spread[i]), rel=1e-9, abs=1e-12)
