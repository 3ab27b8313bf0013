"""Both arms as a comparison needs them: what a metric reads, pooled, within strata or post-stratified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from helpers.errors import DataError, ParameterError
from helpers.inference.adjusted import poststratified
from helpers.inference.forms import needed
from helpers.metrics import Metric
from helpers.moments import WEIGHT

if TYPE_CHECKING:
    from helpers.moments import Moments


def check_ranges(shares: Mapping[str, float], lengths: Mapping[str, int]) -> None:
    """Refuse shares that do not lie between 0 and 1, and lengths below 1."""
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ParameterError(f"{name} is {share}, must lie between 0 and 1")
    for name, length in lengths.items():
        if length < 1:
            raise ParameterError(f"{name} is {length}, must be at least 1")


def asked(moments: Moments, *metrics: Metric, adjust: bool) -> Moments:
    """Keep what metrics read, and refuse moments that lack some of it."""
    weighted = WEIGHT in moments.columns
    columns = list(dict.fromkeys(c for m in metrics for c in needed(m, adjust=adjust, weighted=weighted)[0]))
    moments = moments.only(columns)
    if np.isnan(moments.scatter).any():
        raise DataError(f"the moments lack a covariance among {', '.join(columns)}; ask for those that `needed` names")
    return moments


def both_arms(
    moments: Moments, arm: str, names: tuple[str, str], stratum: str | None, poststrata: Sequence[str], *, ddof: int
) -> tuple[tuple[Moments, ...], tuple[Moments, ...], list[int]]:
    """Give both arms as they are, and as design and post-strata demand; and how many strata were put together."""
    joined: list[int] = []
    if poststrata:
        moments = moments.select(**{arm: names[0]}) + moments.select(**{arm: names[1]})
    whole = pooled(moments, stratum, *poststrata).split(arm, names)
    if not poststrata and stratum is None:
        return whole, whole, joined
    if poststrata:
        moments, joined = poststratified(moments, poststrata, arm=arm, stratum=stratum, ddof=ddof)
    return whole, (moments if stratum is None else moments.within(stratum)).split(arm, names), joined


def pooled(moments: Moments, *summed: str | None) -> Moments:
    """Sum group columns out, those that there are."""
    kept = [str(c) for c in moments.groups if c not in summed]
    return moments if len(kept) == len(moments.groups.columns) else moments.pool(kept)
