"""Several estimates read as one family: corrected p-values, and intervals that hold together and say the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import stats

from helpers.errors import ParameterError, did_you_mean
from helpers.results import Estimate, NotEstimable

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Answers = Sequence[Estimate | NotEstimable]

Correction = Literal["holm", "bonferroni", "bh", "none"]


def holm(p: Sequence[float] | Floats) -> Floats:
    """Adjust p-values so that all that stay below alpha may be claimed together (Holm 1979).

    Raises:
        ParameterError: a value is not between 0 and 1.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    raw = np.asarray(p, dtype=np.float64)
    if not ((raw >= 0) & (raw <= 1)).all():
        raise ParameterError(f"p-values must lie between 0 and 1, got {list(p)}")
    order = np.argsort(raw)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)), 1)
    return adjusted


def adjust_family(
    estimates: Answers,
    *,
    method: Correction = "holm",
    at: Callable[[float], Answers] | None = None,
    better: Sequence[str] = (),
) -> list[Estimate | NotEstimable]:
    """Fill `p_adjusted` over all estimates of one family, and with `at` the intervals that match it.

    - *holm*: one step-down procedure for gains and one for losses, each at alpha / 2, so that the direction is claimed
      too. `p_adjusted` is Holm's over the two-sided p where all are gains or all losses, and no smaller where they
      are not. The intervals are the bounds that belong to it (Guilbaud 2008; Strassburger and Bretz 2008, sec. 4): with
      s hypotheses left on one side, what is left has its limit at 1 - alpha / s; what is claimed has 0 for its limit
      towards 0, and more only when everything is claimed. That is the price of Holm's power: a claim, and not how far
      from 0. The far limits are Bonferroni's, and so is `mde`. No dependence between the metrics breaks it.
    - *bonferroni*: p times the number of tests, intervals at 1 - alpha / number (Dunn 1961).
    - *bh*: the smallest share of false discoveries at which an estimate would be listed (Benjamini and Hochberg 1995),
      without intervals. It is for a list that is searched, not for a decision.
    - *none*: nothing is filled.

    What could not be estimated passes through uncounted. What cannot be at a higher level (a quantile of few accounts
    has no limits so far out) has no corrected limits either, but for a 0, and its `mde` is that of its own error.

    Args:
        estimates: of one family, all at one level.
        method: how to correct.
        at: estimates the same family anew at a confidence level, in the same order.
        better: which way each of them is better, `higher` or `lower`; empty means higher.

    Raises:
        ParameterError: an unknown method, or estimates at several levels.
    """
    if method not in get_args(Correction):
        raise ParameterError(f"method is {method!r}; {did_you_mean(method, get_args(Correction))}")
    read = [e for e in estimates if isinstance(e, Estimate)]
    if not read or method == "none":
        return list(estimates)
    if len({e.level for e in read}) > 1:
        raise ParameterError("the estimates of one family have several confidence levels, must share one")
    ways = zip(estimates, better or ["higher"] * len(estimates), strict=True)
    falls = np.array([way == "lower" for e, way in ways if isinstance(e, Estimate)])
    p, n, up = np.array([e.p for e in read]), len(read), np.array([e.diff > 0 for e in read]) != falls
    if method == "bh":
        return _filled(estimates, stats.false_discovery_control(p))
    alpha = 1 - read[0].level
    gain, loss = (2 * holm(np.where(side, p / 2, 1 - p / 2)) for side in (up, ~up))
    if method == "bonferroni":
        gain, loss = (np.where(side, n * p, 1) for side in (up, ~up))
    filled = _filled(estimates, np.minimum(np.minimum(gain, loss), 1))
    if at is None:
        return filled
    left = [n if method == "bonferroni" else int((side >= alpha).sum()) for side in (gain, loss)]
    here = [isinstance(e, Estimate) for e in estimates]
    wide = {s: [e for e, kept in zip(at(1 - alpha / s), here, strict=True) if kept] for s in {n, *left} - {0}}

    def limit(i: int, end: str, *, low: bool) -> float | None:
        side, s = (gain, left[0]) if low != falls[i] else (loss, left[1])
        claimed = side[i] < alpha
        if claimed and s > 0 and method == "holm":
            return 0.0
        value: float | None = getattr(wide[s or n][i], end, None)
        if value is None:
            return None
        return max(value, 0.0) if low == claimed else min(value, 0.0)

    places = iter(range(n))
    return [
        replace(
            e,
            low_adjusted=limit(i := next(places), "low", low=True),
            high_adjusted=limit(i, "high", low=False),
            rel_low_adjusted=limit(i, "rel_low", low=True),
            rel_high_adjusted=limit(i, "rel_high", low=False),
            mde=last.mde if isinstance(last := wide[n][i], Estimate) else _mde(e, alpha / n),
        )
        if isinstance(e, Estimate)
        else e
        for e in filled
    ]


def _mde(e: Estimate, alpha: float) -> float:
    """Give the smallest difference found at another error rate, by the normal approximation."""
    return e.mde + float(stats.norm.isf(alpha / 2) - stats.norm.isf((1 - e.level) / 2)) * e.se


def _filled(estimates: Answers, adjusted: Floats) -> list[Estimate | NotEstimable]:
    values = iter(adjusted)
    return [replace(e, p_adjusted=float(next(values))) if isinstance(e, Estimate) else e for e in estimates]
