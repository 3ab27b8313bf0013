"""A matched control: for every treated account the nearest ones that are left, where no random control can be had."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.errors import DataError, ParameterError, did_you_mean

CALIPER = 0.25  # standard deviations; about the 0.2 of Austin (2011, Pharm Stat 10:150), which is for one number
_NEIGHBOURS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Pairs of a treated account and one that stands beside it as control, and who found none.

    `pairs` holds treated, control, distance (in standard deviations); `unmatched` the treated accounts that have fewer
    controls than asked for: nobody like them was left, and what is found does not speak for them. `balance` holds
    covariate, before and after: how far the treated lie from the whole pool, and the matched treated from their
    controls, in standard deviations.
    """

    pairs: pd.DataFrame
    unmatched: tuple[str, ...]
    balance: pd.DataFrame

    @property
    def words(self) -> str:
        """Say what came of it, in a sentence; it is called matched only where pairs were found."""
        n = self.pairs["treated"].nunique()
        if self.pairs.empty:
            return "No control was matched: no account lies within the caliper of a treated one."
        lost = f"; {len(self.unmatched):,} treated accounts found too few" if self.unmatched else ""
        was, now = self.balance[["before", "after"]].abs().max()
        return (
            f"Matched control: {len(self.pairs):,} accounts for {n:,} treated ones{lost}. The largest difference "
            f"in what they were matched by was {was:.2f} standard deviations before, and is {now:.2f} now."
        )


def nearest(
    treated: pd.DataFrame,
    pool: pd.DataFrame,
    *,
    caliper: float = CALIPER,
    ratio: int = 1,
    spread: pd.Series | None = None,
) -> Match:
    """Match every treated account with the nearest accounts of the pool, each used once, nearest pairs first.

    Covariates are divided by their standard deviation; the distance is Euclidean. Pairs are made in the order of their
    distance, over tables sorted by account, so the result does not depend on the order of rows. With `ratio` above 1,
    everybody gets a first control before anybody gets a second.

    Args:
        treated: numbers, one column per covariate, indexed by account.
        pool: the same columns, for the accounts that may become controls; none of them treated.
        caliper: the largest distance of a pair, in standard deviations, above 0.
        ratio: controls for each treated account, 1 or more.
        spread: standard deviation by covariate; that of both tables together, unless given.

    Raises:
        DataError: the columns differ, a value is missing, or an account is in both tables or twice in one.
        ParameterError: the caliper or the ratio is out of range.

    >>> a, b = pd.DataFrame({"x": [1.0, 5.0]}, index=["t1", "t2"]), pd.DataFrame({"x": [1.1, 9.0]}, index=["c1", "c2"])
    >>> nearest(a, b, spread=pd.Series({"x": 1.0})).pairs[["treated", "control"]].values.tolist()
    [['t1', 'c1']]
    """
    if caliper <= 0 or ratio < 1:
        raise ParameterError(f"caliper {caliper} must be above 0 and ratio {ratio} at least 1")
    _must_fit(treated, pool)
    if spread is None:
        spread = pd.concat([treated, pool]).std()
    used = [str(c) for c in spread.index[spread > 0] if c in treated]
    if not used:
        raise DataError(f"none of the covariates {', '.join(map(str, treated))} varies, so nothing can be matched")
    here, there = (f.sort_index()[used] / spread[used] for f in (treated, pool))
    free = np.ones(len(there), bool)
    parts = []
    for _ in range(ratio):
        i, j, distance = _greedy(here.to_numpy(float), there.to_numpy(float), free, caliper)
        free[j] = False
        parts.append(pd.DataFrame({"treated": here.index[i], "control": there.index[j], "distance": distance}))
    pairs = pd.concat(parts, ignore_index=True)
    counts = pairs["treated"].value_counts().reindex(here.index, fill_value=0)
    sides = here.loc[pairs["treated"]].mean() - there.loc[pairs["control"]].mean()
    balance = pd.DataFrame(
        {"covariate": used, "before": (here.mean() - there.mean()).to_numpy(), "after": sides.to_numpy()}
    )
    return Match(pairs=pairs, unmatched=tuple(counts.index[counts < ratio]), balance=balance)


def _must_fit(treated: pd.DataFrame, pool: pd.DataFrame) -> None:
    for column in treated:
        if column not in pool:
            raise DataError(f"the pool has no covariate {column!r}; {did_you_mean(str(column), map(str, pool))}")
    for name, table in (("treated", treated), ("pool", pool)):
        if missing := int(table[list(treated)].isna().any(axis=1).sum()):
            raise DataError(f"{missing:,} accounts of the {name} have a missing covariate; fill it or leave them out")
        if not table.index.is_unique:
            raise DataError(f"{int(table.index.duplicated().sum()):,} rows of the {name} repeat an account")
    if both := len(treated.index.intersection(pool.index)):
        raise DataError(f"{both:,} accounts are treated and in the pool; take them out of one")


def _greedy(
    here: np.ndarray, there: np.ndarray, free: np.ndarray, caliper: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make the nearest pair that is left, again and again.

    Everybody waits in a heap with the nearest neighbour known to be free so far. Who finds it taken waits again with
    the next one, and asks for more neighbours when those asked for are used up.
    """
    from scipy.spatial import cKDTree

    tree, reach, taken = cKDTree(there), caliper * (1 + 1e-12), ~free

    def neighbours(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        k = min(k, len(there))
        found = tree.query(here[rows], k=k, distance_upper_bound=reach)
        return found[0].reshape(len(rows), k), found[1].reshape(len(rows), k)

    lists = dict(enumerate(zip(*neighbours(np.arange(len(here)), _NEIGHBOURS), strict=True))) if len(there) else {}
    heap = [(float(distance[0]), i, 0) for i, (distance, _) in lists.items()]
    heapq.heapify(heap)
    made: list[tuple[int, int, float]] = []
    while heap and np.isfinite(heap[0][0]):
        d, i, nth = heapq.heappop(heap)
        distance, near = lists[i]
        if not taken[near[nth]]:
            taken[near[nth]] = True
            made.append((i, int(near[nth]), d))
            continue
        while nth < len(near) and np.isfinite(distance[nth]) and taken[near[nth]]:
            nth += 1
            if nth == len(near) < len(there):
                more = neighbours(np.array([i]), 4 * len(near))
                lists[i] = distance, near = more[0][0], more[1][0]
        if nth < len(near):
            heapq.heappush(heap, (float(distance[nth]), i, nth))
    pairs = np.array(made or np.empty((0, 3)))
    return pairs[:, 0].astype(int), pairs[:, 1].astype(int), pairs[:, 2]
