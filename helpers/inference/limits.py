"""Intervals from values and errors: Welch's t, score intervals at an effective n, and those of relative effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from helpers.moments import WEIGHT

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]

Relative = Literal["fieller", "delta"]
FEW = 5  # expected events of an arm, below which p is exact
EVERY = {False: "none occurred in either arm", True: "all occurred in both arms"}


def design(moments: Moments, stratum: str | None, poststrata: Sequence[str] = ()) -> str:
    """Say what an estimate takes into account of how the accounts were drawn, and of the mix that came out."""
    whole = ", weighted to the population" if moments.held is None else ", over clusters of accounts"
    drawn = whole * (WEIGHT in moments.columns) + ", within strata" * (stratum is not None)
    return drawn + f", post-stratified by {' and '.join(poststrata)}" * bool(poststrata)


def kish(moments: Moments) -> Floats:
    """Give the effective number of accounts (g,): n, less what unequal weights cost (Kish 1965, sec. 11.7).

    It says how many equally weighted accounts would give as precise a mean of something unrelated to the weights.

    >>> import pandas as pd
    >>> from helpers import moments
    >>> rows = pd.DataFrame({moments.WEIGHT: [0.5] * 50 + [2.0] * 50})
    >>> kish(moments.from_rows(rows, columns=[moments.WEIGHT], weighted=True))
    array([73.52941176])
    """
    if WEIGHT not in moments.columns:
        return moments.n
    at = moments.columns.index(WEIGHT)
    mean = moments.mean[:, at] ** 2
    return moments.n * mean / (mean + moments.scatter[:, at, at] / moments.n)


def worth(share: Floats, variance: Floats, arms: Sequence[Moments]) -> Floats:
    """Give the n at which a simple random sample's share has this variance (of the mean), (arms, g).

    Kish's n where the share is 0 or 1. Of weighted accounts it is at most what the design effect of all arms together
    leaves of Kish's n: where the few accounts of great weight happen to have no event, the arm's own variance is far
    too small.
    """
    n = np.array([kish(a) for a in arms])

    def equal(share: Floats, variance: Floats, otherwise: Floats) -> Floats:
        simple = share * (1 - share)
        return np.where((variance > 0) & (simple > 0), simple / variance, otherwise)

    own = equal(share, variance, n)
    if WEIGHT not in arms[0].columns or arms[0].held is not None:
        return own
    part = n / n.sum(axis=0)
    together = equal((part * share).sum(axis=0), (part * variance * n).sum(axis=0), np.ones(n.shape[1]))
    return np.minimum(own, together * n)


def welch(
    value: Floats, variance: Floats, n: Floats, level: float, alike: npt.NDArray[np.bool_] | bool = False
) -> tuple[Floats, Floats]:
    """Give the t quantile of the level and the two-sided p (Welch 1947); Student's where arms vary `alike` (g,)."""
    share = variance / n
    df = share.sum(axis=0) ** 2 / (share**2 / (n - 1)).sum(axis=0)
    df = np.where(alike, n.sum(axis=0) - 2, df)
    t = (value[1] - value[0]) / np.sqrt(share.sum(axis=0))
    return stats.t.isf((1 - level) / 2, df), 2 * stats.t.sf(np.abs(t), df)


def score(value: Floats, n: Floats, scale: float, level: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Give a share's quantile, Wilson distances below and above (Wilson 1927), and the pooled z-test's p."""
    share = value / scale
    q = np.full(n.shape[1], stats.norm.isf((1 - level) / 2))
    middle = (share + q**2 / (2 * n)) / (1 + q**2 / n)
    half = q * np.sqrt(share * (1 - share) / n + q**2 / (4 * n**2)) / (1 + q**2 / n)
    pooled = (n * share).sum(axis=0) / n.sum(axis=0)
    z = (share[1] - share[0]) / np.sqrt(pooled * (1 - pooled) * (1 / n).sum(axis=0))
    below, above = (np.maximum(distance, 0) * scale for distance in (share - middle + half, middle + half - share))
    return q, below, above, 2 * stats.norm.sf(np.abs(z))


def exact(value: Floats, n: Floats, scale: float, level: float) -> tuple[Floats, Floats]:
    """Give a share's distances below and above of Clopper and Pearson (1934), at an effective n as Korn, Graubard do.

    >>> below, above = exact(np.array([[0.0]]), np.array([[10.0]]), 1.0, 0.95)
    >>> below.round(4), above.round(4)  # 1 - 0.025 ** (1 / 10)
    (array([[0.]]), array([[0.3085]]))
    """
    share = np.clip(value / scale, 0, 1)
    x, tail = share * n, (1 - level) / 2
    low = np.where(share > 0, stats.beta.ppf(tail, x, n - x + 1), 0)
    high = np.where(share < 1, stats.beta.isf(tail, x + 1, n - x), 1)
    return (share - low) * scale, (high - share) * scale


def rare(value: Floats, n: Floats, scale: float) -> npt.NDArray[np.bool_]:
    """Say for each group (g,) whether an arm expects fewer than 5 events, or fewer than 5 accounts without one.

    Expected is what both arms together suggest; below 5 the normal approximation is not trusted (Cochran 1954).
    """
    pooled = (n * value).sum(axis=0) / n.sum(axis=0) / scale
    expected: npt.NDArray[np.bool_] = (n * np.minimum(pooled, 1 - pooled)).min(axis=0) < FEW
    return expected


def fisher(value: Floats, n: Floats, scale: float) -> Floats:
    """Give the two-sided p of Fisher's exact test (1935) for each group (g,), given how many events there were in all.

    It holds its error rate with any number of events, and is conservative with few.
    """
    tables = np.array([x := np.rint(np.clip(value / scale, 0, 1) * n), n - x]).transpose(2, 0, 1)
    return np.array([stats.fisher_exact(table).pvalue for table in tables], dtype=np.float64)


def relative(value: Floats, below: Floats, above: Floats, half: Floats, how: Relative) -> tuple[Floats, Floats, Floats]:
    """Give treatment / control - 1 with its limits; NaN where the control is not above 0 or the interval has no end.

    The limits r solve (t - r c)^2 = (distance of t)^2 + r^2 (distance of c)^2 with the arms' own distances from value
    to limit: Fieller (1954) where they are symmetric, MOVER-R (Donner and Zou 2012) where they are not.
    """
    c, t = np.where(value[0] > 0, value[0], np.nan), value[1]
    ratio = t / c
    if how == "delta":
        wide = np.hypot(half[1], ratio * half[0]) / c
        return ratio - 1, ratio - wide - 1, ratio + wide - 1

    def root(off_t: Floats, off_c: Floats, sign: int) -> Floats:
        square = (off_c * t) ** 2 + (off_t * c) ** 2 - (off_t * off_c) ** 2
        spread = np.sqrt(np.maximum(square, 0))  # below 0 by rounding only
        limit: Floats = (t * c + sign * spread) / (c**2 - off_c**2)
        return limit

    bounded = below[0] < c
    low, high = root(below[1], above[0], -1), root(above[1], below[0], +1)
    return ratio - 1, np.where(bounded, low - 1, np.nan), np.where(bounded, high - 1, np.nan)
