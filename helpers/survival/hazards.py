"""Rates at which events come, compared between arms: the log-rank test and the ratio of hazards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize, stats

from helpers.errors import ParameterError
from helpers.results import NotEstimable
from helpers.robust import values
from helpers.survival.kaplan_meier import Tally, spread, steps

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogRank:
    """Whether survival differs anywhere between g arms; `variance` (g, g) is that of observed less expected events."""

    chi2: float
    df: int
    p: float
    observed: Floats
    expected: Floats
    variance: Floats
    method: str = "log-rank"


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
    method: str
    level: float = 0.95


def log_rank(arms: Sequence[Tally], *, rho: float = 0) -> LogRank | NotEstimable:
    """Test whether arms have the same survival (Mantel 1966); `rho=1` weighs early times (Peto and Peto 1972).

    The family is that of Harrington and Fleming (1982): an event counts S(t)^rho, S the curve of all arms just before.
    Two arms with unequal weights get the robust variance of the same sums (Lin and Wei 1989). A large p does not show
    that the curves are alike, and curves that cross may cancel out.

    Raises:
        ParameterError: there are fewer than two arms.
    """
    if len(arms) < 2:
        raise ParameterError(f"a log-rank test compares at least 2 arms, got {len(arms)}")
    weighted = any(a.weighted for a in arms)
    if weighted and len(arms) > 2:
        return NotEstimable(metric="log-rank", reason="with unequal weights two arms are compared, not more")
    along = _along(arms)
    y, d = along.risk.sum(axis=0), along.events.sum(axis=0)
    weight = np.append(1, np.cumprod(1 - d / y))[:-1] ** rho
    share = along.risk / y
    observed, expected = along.events @ weight, (share * d) @ weight
    if weighted:
        v = sum(spread(a, x) for a, x in zip(arms, _residuals(arms, along, 0.0, weight), strict=True))
        variance = np.array([[v, -v], [-v, v]])
    else:
        each = weight**2 * d * (y - d) / np.maximum(y - 1, 1)
        variance = np.diag(share @ each) - (share * each) @ share.T
    if not np.trace(variance) > 0:
        return NotEstimable(metric="log-rank", reason="there is no event while accounts of several arms are at risk")
    off, df = (observed - expected)[:-1], len(arms) - 1
    chi2 = float(off @ np.linalg.pinv(variance[:-1, :-1], hermitian=True) @ off)
    p = float(stats.chi2.sf(chi2, df))
    method = "log-rank, weighted to the population, robust error" if weighted else "log-rank"
    return LogRank(chi2=chi2, df=df, p=p, observed=observed, expected=expected, variance=variance, method=method)


def hazard_ratio(control: Tally, treatment: Tally, *, level: float = 0.95) -> HazardRatio | NotEstimable:
    """Estimate the ratio of hazards by the partial likelihood (Cox 1972) with Efron's (1977) treatment of equal times.

    With unequal weights it is the weighted likelihood with Breslow's (1974) treatment and a robust error (Lin and Wei
    1989), which holds whether or not the ratio is the same at all times.

    Raises:
        ParameterError: the level is out of range.
    """
    values.check(level)
    arms = (control, treatment)
    weighted, along = control.weighted or treatment.weighted, _along(arms)
    d, treated = along.events.sum(axis=0), float(along.events[1].sum())
    if not along.events.sum(axis=1).all():
        return NotEstimable(metric="hazard ratio", reason="an arm has no event, so that the ratio has no end")
    still = along.risk
    if not weighted:  # one column for each event: of those at one time the nth sees n fewer at risk
        k = d.astype(int)
        nth = np.arange(k.sum()) - np.repeat(np.cumsum(k) - k, k)
        still = np.repeat(still, k, axis=1) - nth / np.repeat(k, k) * np.repeat(along.events, k, axis=1)
        d = np.ones(k.sum())

    def share(beta: float) -> Floats:
        """Give the treated share of the hazard when events come."""
        found: Floats = still[1] * np.exp(beta) / (still[0] + still[1] * np.exp(beta))
        return found

    def score(beta: float) -> float:
        return float(treated - share(beta) @ d)

    if score(-30) <= 0 or score(30) >= 0:
        reason = "the arms are never at risk together when events come, so that the ratio has no end"
        return NotEstimable(metric="hazard ratio", reason=reason)
    beta = float(optimize.brentq(score, -30, 30, xtol=1e-12))
    variance = 1 / float((share(beta) * (1 - share(beta))) @ d)
    if weighted:
        residuals = _residuals(arms, along, beta, np.ones_like(d))
        variance *= variance * sum(spread(a, x) for a, x in zip(arms, residuals, strict=True))
    se = float(np.sqrt(variance))
    half = float(stats.norm.isf((1 - level) / 2)) * se
    return HazardRatio(
        ratio=float(np.exp(beta)),
        low=float(np.exp(beta - half)),
        high=float(np.exp(beta + half)),
        p=float(2 * stats.norm.sf(abs(beta) / se)),
        method="Cox, weighted to the population, robust error" if weighted else "Cox, Efron's ties",
        level=level,
    )


class _Along(NamedTuple):
    """The k times at which any arm has an event, and by arm (g, k) who is at risk then and who has it."""

    times: Floats
    risk: Floats
    events: Floats


def _along(arms: Sequence[Tally]) -> _Along:
    each = [steps(a) for a in arms]
    times = np.unique(np.concatenate([s.time[s.events > 0] for s in each]))
    risk = [np.append(s.at_risk, 0)[np.searchsorted(s.time, times)] for s in each]
    total = [np.append(0, np.cumsum(s.events))[np.searchsorted(s.time, times, side="right")] for s in each]
    return _Along(times, np.array(risk), np.diff(np.array(total), axis=1, prepend=0))


def _residuals(arms: Sequence[Tally], along: _Along, beta: float, weight: Floats) -> list[Floats]:
    """Say for each row of two arms what one of its accounts adds to the score of the treated arm, at this ratio."""
    hazards = along.risk * np.exp([[0.0], [beta]])
    share, rate = hazards[1] / hazards.sum(axis=0), along.events.sum(axis=0) / hazards.sum(axis=0)
    found = []
    for treated, of in enumerate(arms):
        gap = weight * (treated - share)
        drift = np.append(0, np.cumsum(gap * rate * np.exp(beta * treated)))
        last = np.searchsorted(along.times, of.time, side="right")
        found.append(of.event * np.append(0, gap)[last] - drift[last])
    return found
