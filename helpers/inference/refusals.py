"""What an answer says of its groups: labels and counts, why one cannot be estimated, and who has no counterpart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from helpers.inference.levels import carriers
from helpers.metrics import Metric
from helpers.moments import WEIGHT
from helpers.results import NotEstimable, counted

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]

REPEATED = "its covariates repeat the values, and nothing is left to compare; they must be measured before"
LEAST = 1.5  # accounts that carry a denominator or weight: of two, one has up to 79 % of it; t's quantile then is 165


def obstacles(
    metric: Metric,
    arms: Sequence[Moments],
    names: Sequence[str],
    se: Floats,
    *,
    adjusted: bool = False,
    small_groups: bool = False,
) -> list[str]:
    """Say for each group why it cannot be estimated, or nothing where it can; column 0 holds the numerator.

    Values other than 0 and 1 are found because a sum of squares then is no sum of values, with weights or without. With
    `small_groups` also where what the number rests on (`levels.error`) is one account and little else.
    """
    columns = arms[0].columns
    denominator = -1 if metric.denominator is None else columns.index(metric.column(metric.denominator))
    weight = columns.index(WEIGHT) if WEIGHT in columns else None

    def of_arm(a: Moments, name: str, i: int) -> str:
        if a.n[i] < 2:
            return f"{name} has {counted(a.n[i], 'account' if a.held is None else 'cluster')}, at least 2 are needed"
        if denominator >= 0 and a.mean[i, denominator] == 0:
            return f"the denominator is 0 for all accounts of {name}"
        rests = WEIGHT if denominator < 0 else columns[denominator]
        asked = small_groups and rests in columns and metric.kind != "proportion" and a.held is None
        if asked and carriers(a, rests)[i] < LEAST:
            what = "weight" if denominator < 0 else "denominator"
            return f"the {what} of {name} lies with one account, or nearly so; at least 2 are needed"
        share = a.mean[i, 0]
        if metric.kind == "count" and share < 0:
            return f"{a.columns[0]} holds values below 0 in {name}, so it is no count"
        if metric.kind == "proportion" and a.held is None:  # sums of a cluster are no 0 and 1
            squares = a.scatter[i, 0, 0] + a.n[i] * share**2
            values = a.n[i] * share
            if weight is not None:
                values = a.scatter[i, 0, weight] + values * a.mean[i, weight]
            if not np.isclose(squares, values, rtol=1e-9, atol=1e-6):
                return f"{a.columns[0]} holds values other than 0 and 1 in {name}, so it is no proportion"
        return ""

    def varies(i: int) -> bool:
        return denominator < 0 and any(a.scatter[i, 0, 0] > 0 for a in arms)

    return [
        next(filter(None, (of_arm(a, name, i) for a, name in zip(arms, names, strict=True))), "")
        or ("" if se[i] > 0 else REPEATED if adjusted and varies(i) else "the values do not vary within either arm")
        for i in range(len(se))
    ]


def slices(arms: Sequence[Moments]) -> list[tuple[Mapping[str, str], tuple[int, int]]]:
    """Label each group, with its number of accounts in control and treatment."""
    groups = arms[0].groups
    names, labels = [str(c) for c in groups], groups.astype(str).to_numpy()
    return [
        (dict(zip(names, row, strict=True)), (int(c), int(t)))
        for row, c, t in zip(labels, arms[0].accounts, arms[1].accounts, strict=True)
    ]


def not_estimable(metric: Metric, reason: str, row: Mapping[str, str], counts: tuple[int, int]) -> NotEstimable:
    """Say of one group why it has no answer."""
    return NotEstimable(metric=metric.name, reason=reason, slice=row, n_control=counts[0], n_treatment=counts[1])


def lonely(
    moments: Moments, arm: str, names: tuple[str, str], stratum: str | None, poststrata: Sequence[str]
) -> list[list[str]]:
    """Say of each group whether strata of the draw have accounts in one arm only; nothing where none has.

    The arms then do not stand for the same people: what these accounts add to their arm has nothing beside it.
    """
    if stratum is None:
        return []
    kept = [str(c) for c in moments.groups if c not in poststrata]
    one, other = (moments if len(kept) == len(moments.groups.columns) else moments.pool(kept)).split(arm, names)
    alone = (one.n > 0) ^ (other.n > 0)
    rest = [c for c in kept if c not in {arm, stratum}]
    found = one.groups[rest].assign(strata=alone, accounts=np.where(alone, one.n + other.n, 0))
    parts = [part for _, part in found.groupby(rest, observed=True, dropna=False)] if rest else [found]
    return [
        [
            f"{part['strata'].sum():,} strata of the draw have accounts in one arm only "
            f"({part['accounts'].sum():,.0f} of them): the arms do not stand for the same people"
        ]
        * bool(part["strata"].any())
        for part in parts
    ]
