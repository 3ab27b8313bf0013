"""Weights that bring a sample to known totals: post-stratification, raking, non-response, and what trimming costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.results import Average

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.intp]

CLOSE = 1e-10  # relative distance from every total at which raking has converged
ROUNDS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """A weight for each of n sampled accounts, and what they cost.

    `weight` (n,) says how many accounts of the population each one stands for, `base` (n,) from what that started.
    `n_effective` (Kish) is the number of equally weighted accounts that would be as precise for something unrelated to
    the weights; `largest` the greatest weight over their mean; `miss` the largest relative distance that is left from a
    total; `rounds` how often all margins were gone through. `margins` holds for each margin the number of every
    account's level (n,), and the totals. Weights repair what the margins explain and nothing else: within a level, the
    accounts in the sample must be like those that are not.
    """

    weight: Floats
    base: Floats
    n_effective: float
    largest: float
    miss: float
    rounds: int
    margins: tuple[tuple[Integers, Floats], ...]

    @property
    def words(self) -> str:
        """Say in a sentence what the weights reach and what they cost."""
        met = "meet every total" if self.miss < 1e-6 else f"miss a total by up to {self.miss:.1%}"
        return (
            f"{len(self.weight):,} accounts are worth {self.n_effective:,.0f} of equal weight; the largest weight is "
            f"{self.largest:.1f} times the mean; the weights {met}."
        )


def rake(sample: pd.DataFrame, totals: Sequence[pd.Series], *, weight: npt.ArrayLike | None = None) -> Weights:
    """Bring a sample to the known totals of one or several margins, by iterative proportional fitting.

    One margin is post-stratification and takes one round. With several, each round scales the weights to one margin
    after the other (Deming and Stephan 1940); the result is the calibration with the least change by the
    multiplicative distance (Deville and Sarndal 1992, case 2).

    Args:
        sample: a row per sampled account.
        totals: for each margin the number of accounts of the population by level, above 0; the names of the index are
            columns of the sample, several for totals of their combinations.
        weight: weights to start from, above 0, one for each row; None for equal ones.

    Raises:
        ParameterError: a total or a starting weight is not above 0, or there is no margin.
        DataError: a column is missing or has gaps; a level stands on one side only, and is named; the margins disagree
            about the size of the population; or no weights meet them all.

    >>> people = pd.DataFrame({"device": ["tv", "tv", "tv", "phone"]})
    >>> rake(people, [pd.Series({"tv": 50, "phone": 50}).rename_axis("device")]).weight.round(2)
    array([16.67, 16.67, 16.67, 50.  ])
    """
    return _rake(sample, totals, weight, "in the sample")


def nonresponse(
    sample: pd.DataFrame, *, by: Sequence[str], answered: str, weight: npt.ArrayLike | None = None
) -> Weights:
    """Let those who answered stand for everybody who was asked in the same weighting class.

    The variance of a mean is then that of a sample within classes: `inference.average` with the class as stratum
    (Lohr 2022, sec. 8.5.1). Those who answer are taken to be like the others of their class; the data cannot say that.

    Args:
        sample: a row per account that was asked.
        by: columns, known of everybody, whose combinations are the classes.
        answered: column of true and false.
        weight: weights of the draw, above 0; None for equal ones.

    Returns:
        Weights for the rows that answered, in their order.

    Raises:
        DataError: nobody of a class answered; it is named. Also as in `rake`.
    """
    _known(sample, [*by, answered])
    base = _start(weight, len(sample))
    yes = sample[answered].to_numpy(bool)
    asked = pd.Series(base).groupby([sample[c].to_numpy() for c in by]).sum().rename_axis(list(by))
    return _rake(sample[yes], [asked], base[yes], "among those who answered")


def trim(found: Weights, most: float) -> Weights:
    """Cut weights at `most` times their mean, and spread what was cut over the others in proportion.

    It buys precision (`n_effective` rises) with bias: the totals are missed by up to `miss`, and so is all that goes
    with them. The error of a mean does not show that bias.

    Raises:
        ParameterError: `most` is not above 1.
    """
    if not most > 1:
        raise ParameterError(f"most is {most}, must be above 1: weights are cut at so many times their mean")
    total, weight = found.weight.sum(), found.weight
    limit = most * total / len(weight)
    for _ in range(ROUNDS):
        over = weight >= limit * (1 - CLOSE)
        if not (weight > limit * (1 + CLOSE)).any():
            break
        weight = np.where(over, limit, weight * (total - limit * over.sum()) / weight[~over].sum())
    return replace(_told(weight, found.base, found.margins), rounds=found.rounds)


def mean(
    values: npt.ArrayLike, found: Weights, *, name: str = "mean", sampled_share: float = 0.0, level: float = 0.95
) -> Average:
    """Estimate the population's mean from calibrated weights, with the linearised error of that calibration.

    Only what the margins do not explain is left to chance: the variance is that of the weighted residuals of the
    regression of the values on all margins, fitted with the weights before calibration (Deville and Sarndal 1992,
    sec. 3; R's `survey` after `postStratify` and `rake`). A total is the mean times the size of the population, and
    so is its error.

    Args:
        values: (n,), in the order of the weights; the interval (t) needs n of at least 2.
        found: weights from `rake` or `trim`.
        name: what is averaged.
        sampled_share: share of the population that was sampled, from 0 to below 1, where the number is meant for this
            very population.
        level: of the interval, between 0 and 1.

    Raises:
        ParameterError: `level` or `sampled_share` is out of range.
        DataError: there are fewer than two values, not one for each weight, or some are missing.
    """
    y, w = np.asarray(values, float), found.weight
    if not 0 < level < 1 or not 0 <= sampled_share < 1:
        raise ParameterError(f"level is {level}, sampled_share {sampled_share}; both are shares below 1")
    if y.shape != w.shape or len(y) < 2 or not np.isfinite(y).all():
        raise DataError(f"{name}: expected {len(w):,} finite values, one for each weight, and at least 2")
    n, total = len(y), w.sum()
    levels, cell = np.unique(np.stack([code for code, _ in found.margins]), axis=1, return_inverse=True)
    of_cell = np.bincount(cell, found.base)
    x = np.concatenate([np.eye(code.max() + 1)[code] for code in levels], axis=1)  # a row per combination of levels
    root = np.sqrt(of_cell)
    slope = np.linalg.lstsq(root[:, None] * x, np.bincount(cell, found.base * y) / root, rcond=None)[0]
    z = w * (y - (x @ slope)[cell])
    value = float(w @ y / total)
    se = float(np.sqrt((1 - sampled_share) * n * z.var(ddof=1)) / total)
    half = float(stats.t.isf((1 - level) / 2, n - 1)) * se
    return Average(
        metric=name,
        value=value,
        se=se,
        low=value - half,
        high=value + half,
        n=n,
        n_effective=found.n_effective,
        method=f"t interval, {'post-stratified' if len(found.margins) == 1 else 'raked'} to known totals",
        level=level,
    )


def _rake(sample: pd.DataFrame, totals: Sequence[pd.Series], weight: npt.ArrayLike | None, who: str) -> Weights:
    if not totals:
        raise ParameterError("totals is empty; give the known totals of at least one margin")
    margins = tuple(_margin(sample, one, who) for one in totals)
    sizes = [total.sum() for _, total in margins]
    if max(sizes) > min(sizes) * (1 + 1e-6):
        raise DataError(
            f"the margins disagree about the size of the population: {', '.join(f'{s:,.0f}' for s in sizes)}"
        )
    base = w = _start(weight, len(sample))
    for rounds in range(1, ROUNDS + 1):
        for code, total in margins:
            w = w * (total / np.bincount(code, w, len(total)))[code]
        found = _told(w, base, margins)
        if found.miss < CLOSE:
            return replace(found, rounds=rounds)
    raise DataError(
        f"no weights meet all margins: after {ROUNDS:,} rounds a total is still missed by {found.miss:.1%}; "
        "merge levels whose combinations are empty in the sample"
    )


def _margin(sample: pd.DataFrame, total: pd.Series, who: str) -> tuple[Integers, Floats]:
    """Number the accounts' levels of a margin, and refuse levels that stand on one side only."""
    names = [str(c) for c in total.index.names]
    _known(sample, names)
    size = total.to_numpy(float)
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise ParameterError(f"the totals by {' and '.join(names)} must be above 0; leave empty levels out")
    if total.index.has_duplicates:
        raise ParameterError(f"the totals by {' and '.join(names)} name a level twice; give one total for each")
    rows = pd.MultiIndex.from_frame(sample[names]) if len(names) > 1 else pd.Index(sample[names[0]])
    code = total.index.get_indexer(rows).astype(np.intp)

    def label(level: object) -> str:
        parts = level if isinstance(level, tuple) else (level,)
        return ", ".join(f"{name} {part!r}" for name, part in zip(names, parts, strict=True))

    if (code < 0).any():
        raise DataError(f"{label(rows[code < 0][0])} has no known total; give one, or leave such accounts out")
    empty = np.bincount(code, minlength=len(size)) == 0
    if empty.any():
        raise DataError(
            f"nobody {who} has {label(total.index[empty][0])}, {size[empty][0] / size.sum():.1%} of the population: no "
            "weight can stand for them, and nothing can be said of them; sample some, merge the level with one like "
            "it, or speak of the others alone"
        )
    return code, size


def _told(w: Floats, base: Floats, margins: tuple[tuple[Integers, Floats], ...]) -> Weights:
    """Say what weights reach and cost."""
    miss = max(float(np.abs(np.bincount(code, w, len(t)) / t - 1).max()) for code, t in margins)
    return Weights(
        weight=w,
        base=base,
        n_effective=float(w.sum() ** 2 / (w @ w)),  # Kish 1965, sec. 11.7
        largest=float(w.max() / w.mean()),
        miss=miss,
        rounds=0,
        margins=margins,
    )


def _start(weight: npt.ArrayLike | None, n: int) -> Floats:
    base = np.ones(n) if weight is None else np.asarray(weight, float)
    if base.shape != (n,) or not (np.isfinite(base) & (base > 0)).all():
        raise ParameterError(f"weight must hold {n:,} numbers above 0, one for each row")
    return base


def _known(sample: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in sample.columns:
            raise DataError(f"the sample has no column {name!r}; {did_you_mean(name, map(str, sample.columns))}")
        if gaps := int(sample[name].isna().sum()):
            raise DataError(f"column {name!r} is missing in {gaps:,} rows; give them a level such as 'unknown'")
