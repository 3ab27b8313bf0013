"""How many accounts of which stratum: allocation rules, oversampling, strata too small to stand alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from helpers.errors import DataError, ParameterError, did_you_mean

SMALL = "small strata"
FEWEST = 2  # accounts that each arm needs in a stratum: without two there is no variance to estimate there

Rule = Literal["proportional", "neyman", "equal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How an arm's accounts are shared among the strata; every arm follows the same design.

    `rule` shares them in proportion to a stratum's accounts, to accounts times the standard deviation of `past`
    (Neyman 1934: the narrowest interval for the population's mean of an outcome that varies like `past`), or equally.
    `minimum` is what every stratum gets at least, or all its accounts. `oversample` multiplies a level's share
    ("engagement=heavy": 5), `fixed` sets a level's accounts in every arm; the column of either becomes a stratum.
    """

    rule: Rule = "proportional"
    past: str = ""
    minimum: int = 0
    oversample: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no draw can follow."""
        if (self.rule == "neyman") != bool(self.past):
            raise ParameterError("the rule 'neyman' needs 'past', a number from before the launch; other rules do not")
        if self.minimum < 0:
            raise ParameterError(f"minimum is {self.minimum}, must be 0 or more accounts per stratum")
        for level in self.levels:
            if "=" not in level[1:-1]:
                raise ParameterError(f"{level!r} names no level; write 'column=level', such as 'engagement=heavy'")
        for level, factor in self.oversample.items():
            if not 0 < factor < np.inf:
                raise ParameterError(f"the oversampling factor of {level!r} is {factor}, must be above 0 and finite")

    @property
    def levels(self) -> tuple[str, ...]:
        """Name the levels that are treated apart, as 'column=level'."""
        return (*self.oversample, *self.fixed)

    def strata(self, columns: Sequence[str]) -> list[str]:
        """List the stratum columns: the given ones, and those of the levels that are treated apart."""
        return list(dict.fromkeys([*columns, *(level.partition("=")[0] for level in self.levels)]))


def allocate(
    sizes: pd.Series,
    n: int,
    *,
    scores: pd.Series | None = None,
    minimum: int = 0,
    room: pd.Series | None = None,
) -> pd.Series:
    """Share `n` accounts among strata in proportion to their scores, by largest remainder, so that the total is exact.

    A stratum that would get more than its room is taken whole, one that would get less than the minimum gets it, and
    the others share the rest in proportion. Ties go to the larger stratum, then to the earlier one.

    Args:
        sizes: accounts in each stratum, indexed by stratum.
        n: accounts wanted in all, from 0 to the room there is.
        scores: 0 or more, by stratum; the sizes, unless given.
        minimum: accounts that every stratum gets at least, or all of its room.
        room: accounts that may be taken, by stratum; the sizes, unless given.

    Raises:
        ParameterError: `n` is negative, more than the room, or less than the minimums together.

    >>> allocate(pd.Series({"a": 50, "b": 30, "c": 20}), 9).to_dict()
    {'a': 4, 'b': 3, 'c': 2}
    >>> allocate(pd.Series({"a": 900, "b": 90, "c": 10}), 100, minimum=15).to_dict()
    {'a': 75, 'b': 15, 'c': 10}
    """
    size = sizes.to_numpy(float)
    high = size if room is None else room.to_numpy(float)
    if not 0 <= n <= high.sum():
        raise ParameterError(f"n is {n:,}, must be from 0 to the population of {int(high.sum()):,} accounts")
    low = np.minimum(minimum, high)
    if low.sum() > n:
        raise ParameterError(
            f"a minimum of {minimum:,} in {len(size):,} strata asks for {int(low.sum()):,} accounts, n is {n:,}"
        )
    score = size if scores is None else scores.to_numpy(float)
    exact = _within(score, n, low, high)
    whole = np.floor(exact).astype(int)
    order = np.lexsort((np.arange(len(size)), -size, -(exact - whole)))
    order = order[whole[order] < high[order]]
    whole[order[: n - whole.sum()]] += 1
    return pd.Series(whole, index=sizes.index)


def _within(score: np.ndarray, n: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Share `n` in proportion to scores, bounded: fix all that break the worse side's bounds, share the rest anew.

    The bounds are met in at most as many rounds as there are strata (Stenger and Gabler 2005, for Neyman allocation).
    """
    exact, free = np.zeros(len(score)), np.ones(len(score), bool)
    while free.any():
        left = n - exact[~free].sum()
        weight = score[free] if score[free].sum() > 0 else high[free]
        share = weight * left / max(weight.sum(), 1e-300)
        over, under = np.maximum(share - high[free], 0), np.maximum(low[free] - share, 0)
        exact[free] = share
        if not (over.any() or under.any()):
            break
        where = np.flatnonzero(free)
        fixed = where[(over if over.sum() >= under.sum() else under) > 0]
        exact[fixed] = (high if over.sum() >= under.sum() else low)[fixed]
        free[fixed] = False
    return np.clip(exact, low, high)


def quotas(
    cells: pd.DataFrame, columns: Sequence[str], n: Mapping[str, int], design: Design, later: Mapping[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn the population's cells into strata, and give every arm its range of ranks within each stratum.

    A stratum in which an arm would get fewer than two accounts is merged with the others that are too small, and the
    next larger ones if need be, into one named "small strata": nobody is left without a chance, and every
    stratum has a variance. Levels that are treated apart are merged only among themselves. The arms of `n` share a
    stratum that cannot serve them all as their sizes are; those of `later` take from what remains.

    Args:
        cells: the columns, size, and for Neyman mean and variance of the past number, one row per combination.
        columns: the stratum columns among them.
        n: arm name to accounts.
        design: how they are shared.
        later: arm name to accounts of later stages.

    Returns:
        The cells with their stratum, and a table of stratum, arm, size, n, first, last (ranks, the last not
        included), inclusion_probability.
    """
    cells = cells.assign(stratum=_labels(cells, columns), group=_groups(cells, design), factor=_factors(cells, design))
    while True:
        strata = _pooled(cells, design)
        cuts = _cuts(strata, n, design, later)
        least = cuts[cuts["arm"].isin(list(n))].groupby("stratum", sort=False)["n"].min().reindex(strata.index)
        small = strata.index[least < FEWEST]
        merged = _merged(strata, small)
        if not merged:
            return cells, cuts
        cells["stratum"] = cells["stratum"].replace(merged)


def _labels(cells: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    if not columns:
        return pd.Series("all", index=cells.index)
    labels = cells[list(columns)].agg(" · ".join, axis="columns")
    if not labels.is_unique:
        twice = labels[labels.duplicated()].iloc[0]
        raise DataError(f"two strata would both be called {twice!r}; take ' · ' out of the levels of {columns[0]!r}")
    return labels


def _matching(cells: pd.DataFrame, level: str) -> pd.Series:
    column, _, value = level.partition("=")
    found = cells[column] == value
    if not found.any():
        hint = did_you_mean(value, cells[column].unique())
        raise DataError(f"no eligible account has {column} {value!r}, which the design treats apart; {hint}")
    return found


def _groups(cells: pd.DataFrame, design: Design) -> pd.Series:
    """Name the level or levels treated apart that a cell belongs to, one a line."""
    group, counted = pd.Series("", index=cells.index), pd.Series(0, index=cells.index)
    for level in design.levels:
        found = _matching(cells, level)
        group = group.where(~found, group + level + "\n")
        counted += found & (level in design.fixed)
    if (counted > 1).any():
        raise ParameterError(f"an account can belong to two of {', '.join(design.fixed)}; only one can be a number")
    return group


def _factors(cells: pd.DataFrame, design: Design) -> pd.Series:
    factor = pd.Series(1.0, index=cells.index)
    for level, times in design.oversample.items():
        factor = factor.where(~_matching(cells, level), factor * times)
    return factor


def _pooled(cells: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Add up the cells of each stratum: size, group, and the score that its share follows."""
    by = cells.groupby("stratum", sort=False)
    size = by["size"].sum()
    if design.rule == "neyman":
        spread = _spread(cells, size)
        score = size * spread
    else:
        score = size.astype(float) if design.rule == "proportional" else pd.Series(1.0, index=size.index)
    factor = (cells["size"] * cells["factor"]).groupby(cells["stratum"], sort=False).sum() / size
    return pd.DataFrame({"size": size, "score": score * factor, "group": by["group"].first()})


def _spread(cells: pd.DataFrame, size: pd.Series) -> pd.Series:
    """Find each stratum's standard deviation; where nobody's past is known, the average one."""
    known, mean, variance = (cells[c].fillna(0.0) for c in ("known", "mean", "variance"))
    moments = pd.DataFrame({"n": known, "sum": known * mean, "square": known * (variance + mean**2)})
    pooled = moments.groupby(cells["stratum"], sort=False).sum().reindex(size.index)
    n = pooled["n"].where(pooled["n"] >= 2)
    spread = np.sqrt((pooled["square"] / n - (pooled["sum"] / n) ** 2).clip(lower=0))
    if not spread.notna().any() or not spread.max() > 0:
        raise DataError("the past number of a Neyman allocation does not vary within any stratum; name another one")
    return spread.fillna((spread * size).sum() / size[spread.notna()].sum())


def _merged(strata: pd.DataFrame, small: pd.Index) -> dict[str, str]:
    """Say which strata get a common name; nothing where all are large enough or no other one could join."""
    renamed: dict[str, str] = {}
    for group in strata["group"].unique():
        members = strata[strata["group"] == group]
        too_small = members.index.intersection(small)
        if too_small.empty or len(members) == 1:
            continue
        if len(too_small) == 1:  # the pool alone, or one stratum: the next larger one joins it
            others = members.drop(too_small)
            too_small = too_small.append(others.sort_values("size", kind="stable").index[:1])
        name = ", ".join([SMALL, *str(group).splitlines()])
        renamed |= dict.fromkeys(too_small, name)
    return renamed


def _cuts(strata: pd.DataFrame, n: Mapping[str, int], design: Design, later: Mapping[str, int]) -> pd.DataFrame:
    """Give every arm its own range of ranks within each stratum."""
    size, parts = strata["size"], []
    taken, waiting = pd.Series(0, index=strata.index), sum(n.values())
    for arm, wanted in {**n, **later}.items():
        room = size - taken
        if arm in n:
            room = np.minimum(room, np.ceil(room * wanted / max(waiting, 1)))
            waiting -= wanted
        share = _shared(strata, arm, wanted, design, room)
        parts.append(
            pd.DataFrame(
                {
                    "stratum": strata.index,
                    "arm": arm,
                    "size": size.to_numpy(),
                    "n": share.to_numpy(),
                    "first": taken.to_numpy(),
                    "last": (taken + share).to_numpy(),
                    "inclusion_probability": (share / size).to_numpy(),
                }
            )
        )
        taken = taken + share
    return pd.concat(parts, ignore_index=True)


def _shared(strata: pd.DataFrame, arm: str, wanted: int, design: Design, room: pd.Series) -> pd.Series:
    """Share one arm's accounts: the levels with a number of their own first, then the others."""
    share, rest, left = pd.Series(0, index=strata.index), pd.Series(True, index=strata.index), wanted
    parts: list[tuple[pd.Series, int]] = []
    for level, number in design.fixed.items():
        mine = strata["group"].str.split("\n").map(lambda levels, level=level: level in levels)
        if number > room[mine].sum():
            raise ParameterError(
                f"{arm} is to have {number:,} accounts of {level}, there are {int(room[mine].sum()):,} for it"
            )
        parts, rest, left = [*parts, (mine, number)], rest & ~mine, left - number
    if left < 0 or left > room[rest].sum():
        raise ParameterError(
            f"{arm} is to have {wanted:,} accounts, {wanted - left:,} of levels with a number of their own and "
            f"{left:,} others, of whom there are {int(room[rest].sum()):,}"
        )
    for mine, number in [*parts, (rest, left)]:
        if mine.any():
            one = strata[mine]
            share[mine] = allocate(
                one["size"], number, scores=one["score"], minimum=design.minimum, room=room[mine].astype(int)
            )
    return share
