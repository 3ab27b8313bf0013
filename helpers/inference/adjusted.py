"""Arms brought to the same mix before they are compared: post-stratification, read from Moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.moments import WEIGHT

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.integer]

FEWEST = 10  # accounts of each arm in a stratum: with fewer, its variance is hardly known
_CELL = "post-stratum"


def poststratified(
    moments: Moments, by: Sequence[str], *, arm: str = "arm", stratum: str | None = None, ddof: int = 1
) -> tuple[Moments, list[int]]:
    """Give all arms the shares of strata that they have together, and keep the variance that is then left.

    Over the remaining groups, an arm's mean becomes sum_h W_h mean_h, with the shares W_h of all arms' accounts (or
    weights) together, and `cov / n` becomes sum_h W_h^2 cov_h / n_h: the variance given how many accounts of the arm
    fell into each stratum (Miratrix, Sekhon and Yu 2013; Imbens and Rubin 2015, sec. 9.5). As the n_h are those that
    came out, it already holds what their formula over all splits adds for shares that are left to chance. Weighted
    columns are linearised as ratios to the weight, and what varies within the strata of the draw is kept apart.

    Strata with fewer than 10 accounts in an arm are put together; where even these are too few, the smallest of the
    others joins them. Counts alone decide that, so the answer keeps its meaning: the effect in all these accounts.

    Args:
        moments: groups by `arm` (those that are to be compared, no others), the columns in `by`, and any slices; all
            covariances are there.
        by: group columns whose combinations are the strata, known before the assignment.
        arm: the group column of the arms.
        stratum: the group column of the strata of the draw, which stays.
        ddof: 1, or 0 for shares, whose variance p (1 - p) / n needs no correction.

    Returns:
        The moments without the columns in `by`; and for each slice, how many strata were put together.

    Raises:
        DataError: a group column does not exist.

    >>> from helpers import moments
    >>> rows = pd.DataFrame({"arm": ["a"] * 40 + ["b"] * 40, "tv": [0] * 30 + [1] * 10 + [0] * 10 + [1] * 30})
    >>> read = moments.from_rows(rows.assign(hours=rows["tv"] * 6.0), columns=["hours"], by=["arm", "tv"])
    >>> read.pool(["arm"]).mean.tolist(), poststratified(read, ["tv"])[0].mean.tolist()
    ([[1.5], [4.5]], [[3.0], [3.0]])
    """
    moments.pool([*by, arm])  # refuses a column that does not exist
    slices = [str(c) for c in moments.groups if c not in {*by, arm, stratum}]
    cell, joined = _joined(moments, by, slices, arm)
    read = replace(moments, groups=moments.groups.drop(columns=list(by)).assign(**{_CELL: cell}))

    def over(*labels: str) -> tuple[Moments, Integers]:
        """Pool, and say where each group went."""
        return read.pool(labels), _codes(read.groups, labels)

    at = read.columns.index(WEIGHT) if WEIGHT in read.columns else None

    def size(one: Moments, code: Integers) -> Floats:
        """Give the number, or weight, of the accounts in each group's pool."""
        return (one.n if at is None else one.n * one.mean[:, at])[code]

    (mine, of), (whole, of_arm) = over(*slices, arm, _CELL), over(*slices, arm)
    share = size(*over(*slices, _CELL)) / size(*over(*slices))
    factor = share * size(whole, of_arm) / size(mine, of)
    centre = replace(read, mean=factor[:, None] * read.mean).pool([*slices, arm]).mean[of_arm]
    n, n_arm, mean = mine.n[of], whole.n[of_arm], mine.mean[of]
    square = factor**2 * n / np.maximum(n - ddof, 1) * (n_arm - 1) / n_arm
    off, scatter = read.mean - mean, read.scatter
    if at is not None:  # each stratum's ratios to the weight become those of the arm
        target, per = centre / centre[:, [at]], mean[:, [at]]
        turn = np.eye(len(read.columns)) + (target - mean / per)[:, :, None] * np.eye(len(read.columns))[at]
        off, scatter = np.einsum("gij,gj->gi", turn, off), np.einsum("gij,gjk,glk->gil", turn, scatter, turn)
        centre = factor[:, None] * per * target
    moved = replace(
        read,
        groups=read.groups.drop(columns=_CELL),
        mean=centre + np.sqrt(square)[:, None] * off,
        scatter=square[:, None, None] * scatter,
    )
    return moved.pool([str(c) for c in moved.groups]), joined


def _codes(groups: pd.DataFrame, labels: Sequence[str]) -> Integers:
    """Number the distinct labels of groups in the order of `Moments.pool`."""
    if not labels:
        return np.zeros(len(groups), dtype=np.intp)
    return groups.groupby(list(labels), observed=True, dropna=False).ngroup().to_numpy(np.intp)


def _joined(moments: Moments, by: Sequence[str], slices: Sequence[str], arm: str) -> tuple[Integers, list[int]]:
    """Number each group's stratum, -1 where those with too few accounts are put together; and count these by slice."""
    arms = moments.pool([*slices, *by, arm]).split(arm, moments.groups[arm].unique())
    piece, counts = _codes(arms[0].groups, slices), pd.DataFrame([a.n for a in arms]).T
    order = counts.min(axis=1).sort_values(kind="stable").index
    before = (counts.loc[order].groupby(piece[order]).cumsum() - counts.loc[order]).sort_index()
    short = before.sum(axis=1).gt(0) & before.min(axis=1).lt(FEWEST)  # what was put together is still too little
    few = (counts.min(axis=1).lt(FEWEST) | short).to_numpy()
    cell = _codes(moments.groups, [*slices, *by])
    return np.where(few[cell], -1, cell), np.bincount(piece, weights=few).astype(int).tolist()
