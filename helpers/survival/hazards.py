"""Rates at which events come, compared between arms: the log-rank test and the ratio of hazards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from helpers.errors import ParameterError
from helpers.results import NotEstimable
from helpers.robust import values
from helpers.survival.kaplan_meier import Tally, steps

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_UNWEIGHTED = "it takes accounts as equally weighted, and these are not; the difference in restricted means is weighted"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogRank:
    """Whether survival differs anywhere between g arms; `variance` (g, g) is that of observed less expected events."""

    chi2: float
    df: int
    p: float
    observed: Floats
    expected: Floats
    variance: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardRatio:
    """By what the treatment multiplies the rate at which those who are left have the event, with its interval.

    One number stands for all times only if the ratio is the same at all of them; else it is an average that depends
    on how long accounts were watched, and the difference in restricted means is what to read.
    """

    ratio: float
    low: float
    high: float
    p: float
    events: tuple[int, int]
    method: str
    level: float = 0.95


def log_rank(arms: Sequence[Tally], *, rho: float = 0) -> LogRank | NotEstimable:
    """Test whether arms have the same survival (Mantel 1966); `rho=1` weighs early times (Peto and Peto 1972).

    The family is that of Harrington and Fleming (1982): an event counts S(t)^rho, S the curve of all arms just before.
    A large p does not show that the curves are alike, and curves that cross may cancel out.

    Raises:
        ParameterError: there are fewer than two arms.
    """
    if len(arms) < 2:
        raise ParameterError(f"a log-rank test compares at least 2 arms, got {len(arms)}")
    if any(a.weighted for a in arms):
        return NotEstimable(metric="log-rank", reason=_UNWEIGHTED)
    risk, events = _together(arms)
    y, d = risk.sum(axis=0), events.sum(axis=0)
    weight = np.append(1, np.cumprod(1 - d / y))[:-1] ** rho
    share = risk / y
    observed, expected = events @ weight, (share * d) @ weight
    spread = weight**2 * d * (y - d) / np.maximum(y - 1, 1)
    variance = np.diag(share @ spread) - (share * spread) @ share.T
    if not np.trace(variance) > 0:
        return NotEstimable(metric="log-rank", reason="there is no event while accounts of several arms are at risk")
    off, df = (observed - expected)[:-1], len(arms) - 1
    chi2 = float(off @ np.linalg.pinv(variance[:-1, :-1], hermitian=True) @ off)
    p = float(stats.chi2.sf(chi2, df))
    return LogRank(chi2=chi2, df=df, p=p, observed=observed, expected=expected, variance=variance)


def hazard_ratio(control: Tally, treatment: Tally, *, level: float = 0.95) -> HazardRatio | NotEstimable:
    """Estimate the ratio of hazards by the partial likelihood (Cox 1972) with Efron's (1977) treatment of equal times.

    Raises:
        ParameterError: the level is out of range.
    """
    values.check(level)
    if control.weighted or treatment.weighted:
        return NotEstimable(metric="hazard ratio", reason=_UNWEIGHTED)
    risk, events = _together((control, treatment))
    counts = events.sum(axis=1)
    if not counts.all():
        return NotEstimable(metric="hazard ratio", reason="an arm has no event, so that the ratio has no end")
    d = events.sum(axis=0).astype(int)
    nth = np.arange(d.sum()) - np.repeat(np.cumsum(d) - d, d)  # of the events at one time, from 0
    still = np.repeat(risk, d, axis=1) - nth / np.repeat(d, d) * np.repeat(events, d, axis=1)

    def share(beta: float) -> Floats:
        """Give the treated share of the hazard before each event."""
        found: Floats = still[1] * np.exp(beta) / (still[0] + still[1] * np.exp(beta))
        return found

    def score(beta: float) -> float:
        return float(counts[1] - share(beta).sum())

    if score(-30) <= 0 or score(30) >= 0:
        reason = "the arms are never at risk together when events come, so that the ratio has no end"
        return NotEstimable(metric="hazard ratio", reason=reason)
    beta = float(optimize.brentq(score, -30, 30, xtol=1e-12))
    se = float(1 / np.sqrt((share(beta) * (1 - share(beta))).sum()))
    half = float(stats.norm.isf((1 - level) / 2)) * se
    return HazardRatio(
        ratio=float(np.exp(beta)),
        low=float(np.exp(beta - half)),
        high=float(np.exp(beta + half)),
        p=float(2 * stats.norm.sf(abs(beta) / se)),
        events=(int(counts[0]), int(counts[1])),
        method="Cox, Efron's ties",
        level=level,
    )


def _together(arms: Sequence[Tally]) -> tuple[Floats, Floats]:
    """Lay the accounts at risk and the events of each arm (g, k) along the times at which any arm has an event."""
    along = [steps(a) for a in arms]
    times = np.unique(np.concatenate([s.time[s.events > 0] for s in along]))
    risk = [np.append(s.at_risk, 0)[np.searchsorted(s.time, times)] for s in along]
    total = [np.append(0, np.cumsum(s.events))[np.searchsorted(s.time, times, side="right")] for s in along]
    return np.array(risk), np.diff(np.array(total), axis=1, prepend=0)
