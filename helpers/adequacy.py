"""Whether there are accounts enough for so long a tail: both arms' spread, and how lopsided it leaves an interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from helpers import inference, units
from helpers.metrics import Metric
from helpers.moments import WEIGHT, Moments
from helpers.results import nothing
from helpers.study import Study

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

RULE = 355  # accounts of an arm for each squared skewness (Kohavi, Deng, Longbotham and Xu 2014, rule 7)
TOLERATED = 0.3  # of a side's error rate: 2.5 % within 1.75 and 3.25 %, so that both together keep 3.5 to 6.5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What the error of a difference is made of, control first: se^2 = sum of variance / n, or Student's where larger.

    `mean` and `variance` are in the metric's unit: adjusted, weighted, stratified and linearised as the estimate is. Of
    a `ratio` the variance is that of an account's part in it, (numerator - ratio * denominator) / mean denominator:
    `n` counts all accounts, and one without a denominator (nobody asked it) has the part 0.
    `skewness` is that of the accounts' own parts in it, without post-strata and strata of the draw. A sample's skewness
    is at most the root of n and falls short where the tail goes on beyond its largest accounts: a warning is to be
    believed, and the want of one says only that these accounts show no reason for it.
    """

    metric: str
    n: tuple[int, int]
    mean: tuple[float, float]
    variance: tuple[float, float]
    skewness: tuple[float, float]
    level: float
    ratio: bool = False

    @property
    def misses(self) -> tuple[float, float]:
        """Give the shares of intervals that are to be expected wholly below the truth, and wholly above it."""
        n, variance, skewness = (np.array([x]).T for x in (self.n, self.variance, self.skewness))
        below, above = misses(n, variance, skewness, self.level)
        return float(below[0]), float(above[0])

    @property
    def note(self) -> str:
        """Say that the two sides of the interval err unequally, where they do by more than 0.3 of their rate."""
        side = (1 - self.level) / 2
        if max(abs(m - side) for m in self.misses) <= TOLERATED * side:
            return ""
        below, above = self.misses
        return (
            f"few accounts for so long a tail (skewness {self.skewness[0]:.2g} and {self.skewness[1]:.2g}): of such "
            f"intervals about {below:.1%} lie below the truth and {above:.1%} above it, where {side:.1%} should"
        )


def misses(n: Floats, variance: Floats, skewness: Floats, level: float) -> tuple[Floats, Floats]:
    """Estimate how often Welch's interval lies wholly below and wholly above the truth, to the order of 1 / root n.

    With g the skewness of the difference, (k_t / n_t^2 - k_c / n_c^2) / se^3 of the arms' third central moments k, the
    chance of t <= z is Phi(z) + g (2 z^2 + 1) phi(z) / 6: Hall (1992, sec. 2.6) for one sample, Zhou and Dinh (2005)
    for two. Both sides together err as often as they should to this order, and with equal arms of one shape g is 0:
    that is why differences need far fewer accounts than means do. Kohavi et al. ask 355 skewness^2 accounts of each arm
    as if it stood alone (after Boos and Hughes-Oliver 2000); we judge by what the interval is of.

    Args:
        n: accounts (2, g), control first.
        variance: of an account (2, g).
        skewness: of an account (2, g).
        level: of the interval.

    >>> below, above = misses(np.array([[1e5], [1e3]]), np.ones((2, 1)), np.full((2, 1), 8.0), 0.95)
    >>> f"{below[0]:.1%} below, {above[0]:.1%} above"
    '4.6% below, 0.4% above'
    """
    z, third = stats.norm.isf((1 - level) / 2), skewness * variance**1.5 / n**2
    with np.errstate(divide="ignore", invalid="ignore"):
        lopsided = (third[1] - third[0]) / (variance / n).sum(axis=0) ** 1.5
    shift = lopsided * (2 * z**2 + 1) * stats.norm.pdf(z) / 6
    side = (1 - level) / 2
    return np.clip(side + shift, 0, 1), np.clip(side - shift, 0, 1)


def measure(
    data: Study,
    read: Moments,
    stratum: str | None,
    poststrata: Sequence[str],
    asked: Sequence[Metric],
    *,
    treatment: str,
) -> list[Spread]:
    """Read both arms' spread of metrics that are compared as means, in one query over the accounts.

    Args:
        data: the study.
        read: as for `inference.compare`, without slices.
        stratum: the group column of the strata of the draw.
        poststrata: group columns of the post-strata.
        asked: means, counts, ratios and times; others are left out. A share has the variance p (1 - p). Of clusters
            none is read: what lopsides an interval over clusters is the tail of their sums.
        treatment: the arm that is judged.
    """
    launch, table = data.launch, units.load(data)
    names = (launch.arms.control, treatment)
    found, cubes = {}, {}
    for metric in asked if read.held is None else ():
        if not metric.averaged or metric.kind == "proportion":
            continue
        line = inference.linear(
            read,
            metric,
            control=names[0],
            treatment=treatment,
            stratum=stratum,
            poststrata=poststrata,
            days=metric.window_days or launch.days,
            pre_days=max(launch.pre_days, 1),
            adjust=launch.decision.adjust and bool(units.covariates(data, metric)),
        )
        if not line.variance.any():  # none occurred
            continue
        found[metric.name] = line
        for i, name in enumerate(names):
            part = sum(
                float(w) * (table[c] * table[WEIGHT] if line.weighted and c != WEIGHT else table[c]).cast("float64")
                for c, w in zip(line.columns, line.weights[i], strict=True)
                if w
            )
            standard = (part - float(line.centre[i])) / (float(line.spread[i]) or 1.0)
            cubes[f"{metric.name}|{i}"] = (standard**3).mean(where=table["arm"] == name)
    ratios = {m.name for m in asked if m.denominator is not None}
    told = table.aggregate(**cubes).execute().iloc[0] if cubes else {}
    return [
        Spread(
            metric=name,
            n=(int(line.n[0]), int(line.n[1])),
            mean=(float(line.value[0]), float(line.value[1])),
            variance=(float(line.variance[0]), float(line.variance[1])),
            skewness=(float(told[f"{name}|0"]), float(told[f"{name}|1"])),
            level=1 - launch.error(name),
            ratio=name in ratios,
        )
        for name, line in found.items()
    ]


def frame(found: Iterable[Spread], arms: tuple[str, str]) -> pd.DataFrame:
    """Lay the arms out, two rows for each metric.

    Returns:
        metric, arm, n, mean, variance, `variance of` (an account's value, or its part in a ratio), skewness, `asked by
        the rule` (355 skewness^2), and of the difference `misses below` and `misses above`.
    """
    rows = [
        {
            "metric": s.metric,
            "arm": arms[i],
            "n": s.n[i],
            "mean": s.mean[i],
            "variance": s.variance[i],
            "variance of": "an account's part in the ratio" if s.ratio else "an account's value",
            "skewness": s.skewness[i],
            "asked by the rule": int(np.ceil(RULE * s.skewness[i] ** 2)),
            "misses below": f"{s.misses[0]:.1%}",
            "misses above": f"{s.misses[1]:.1%}",
        }
        for s in found
        for i in (0, 1)
    ]
    columns = (
        "metric",
        "arm",
        "n",
        "mean",
        "variance",
        "variance of",
        "skewness",
        "asked by the rule",
        "misses below",
        "misses above",
    )
    why = "no metric that could be estimated is a mean of accounts that were drawn one by one"
    return pd.DataFrame(rows, columns=list(columns)) if rows else nothing(why, columns)
