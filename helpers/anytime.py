"""Answers that hold at any time: intervals, p-values, arm counts and quantiles that may be looked at every day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import special

from helpers.errors import ParameterError
from helpers.results import Check

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


class Interval(NamedTuple):
    """An estimate and the limits that hold at every look together."""

    value: float
    low: float
    high: float


def confidence_sequence(
    diff: npt.ArrayLike, se: npt.ArrayLike, n: npt.ArrayLike, *, tuned_for: float, alpha: float = 0.05, sides: int = 2
) -> tuple[Floats, Floats]:
    """Give limits that contain the true difference at all looks at once, whenever and however often one looks.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024, theorem 2.2), for any
    estimate that is a mean in the limit: differences, adjusted differences, ratios. Like every central limit theorem it
    asks for enough accounts at the first look; a few hundred an arm, more where a few accounts carry the metric.

    Args:
        diff: (…, looks) estimates.
        se: (…, looks) their standard errors, above 0.
        n: (…, looks) accounts so far, both arms; where the same accounts are watched for longer, 1 / se**2 instead.
        tuned_for: the `n` at which the interval is to be tightest, fixed before the first look; others stay valid.
        alpha: how rarely any of the intervals may miss, between 0 and 0.5.
        sides: 2 for intervals; 1 for limits of which only one is read.

    Raises:
        ParameterError: an argument is out of its range.

    Three times the accounts halve the width, and the price against a single look (1.96) is a factor of 1.5 or so:

    >>> low, high = confidence_sequence([0.0, 0.0], [1.0, 0.577], [10_000, 30_000], tuned_for=30_000)
    >>> high.round(2)
    array([3.17, 1.75])
    """
    values, errors, x = _clocked(diff, se, n, tuned_for, alpha)
    if sides not in (1, 2):
        raise ParameterError(f"sides is {sides!r}, must be 1 or 2")
    if sides == 2:
        z = np.sqrt((1 + 1 / x) * (np.log1p(x) - 2 * np.log(alpha)))
    else:  # the same mixture, its half on one side of 0
        z = np.sqrt((1 + 1 / x) * 2 * np.log1p(np.sqrt(1 + x) / (2 * alpha)))
    return values - z * errors, values + z * errors


def anytime_p(
    diff: npt.ArrayLike, se: npt.ArrayLike, n: npt.ArrayLike, *, tuned_for: float, alpha: float = 0.05
) -> Floats:
    """Give p-values that may be compared with any threshold at any look; they never rise again along the last axis.

    They fall to `alpha` exactly when the confidence sequence first excludes 0; other arguments are the same.

    >>> anytime_p([0.0, 2.0, 1.0], [1.0, 0.5, 0.5], [1, 4, 4], tuned_for=4).round(3)
    array([1.   , 0.002, 0.002])
    """
    values, errors, x = _clocked(diff, se, n, tuned_for, alpha)
    return _running(_log_mixture(values / errors, x))


def msprt(diff: npt.ArrayLike, se: npt.ArrayLike, *, spread: float) -> tuple[Floats, Floats]:
    """Give likelihood ratios and p-values of the mixture sequential test (Johari and others 2017).

    It is the confidence sequence's own martingale, tuned by the size of the effects that one expects.

    Args:
        diff: (…, looks) estimates.
        se: (…, looks) their standard errors, above 0.
        spread: standard deviation of true effects around 0, in the unit of `diff`, above 0, fixed beforehand.

    Raises:
        ParameterError: a standard error or the spread is not above 0.
    """
    values, errors = np.asarray(diff, dtype=np.float64), np.asarray(se, dtype=np.float64)
    if not ((errors > 0).all() and spread > 0):
        raise ParameterError(f"standard errors and spread must be above 0, got spread {spread}")
    log_ratio = _log_mixture(values / errors, (spread / errors) ** 2)
    return np.exp(log_ratio), _running(log_ratio)


def split_p(counts: npt.ArrayLike, planned: Sequence[float], *, tuned_for: float, alpha: float = 0.001) -> Floats:
    """Give p-values, valid at every look, for arms that fill as planned (Lindon and Malek 2022).

    The Bayes factor of a Dirichlet-multinomial around the planned split against the split itself is a martingale.

    Args:
        counts: (looks, arms) accounts so far, 0 or more, not falling from look to look.
        planned: (arms,) planned shares or parts, above 0.
        tuned_for: the number of accounts at which a deviation is to be found soonest; others stay valid.
        alpha: the threshold for which it is tuned.

    Raises:
        ParameterError: counts fall, or a share is not above 0.

    >>> split_p([[500, 500], [1500, 1500], [2600, 2900]], [1, 1], tuned_for=5_000).round(4)
    array([1.    , 1.    , 0.0019])
    """
    found, share = np.asarray(counts, dtype=np.float64), np.asarray(planned, dtype=np.float64)
    if found.ndim != 2 or share.shape != found.shape[1:] or not (share > 0).all():
        raise ParameterError(f"counts need a row for each look and a planned share above 0 for each arm, got {planned}")
    if not ((found >= 0).all() and (np.diff(found, axis=0) >= 0).all()):
        raise ParameterError("counts are accounts so far: 0 or more, and none may fall from look to look")
    share = share / share.sum()
    weight = _concentration(tuned_for, alpha) * share
    log_ratio = (
        special.gammaln(weight.sum())
        - special.gammaln(weight.sum() + found.sum(axis=1))
        + (special.gammaln(weight + found) - special.gammaln(weight) - found * np.log(share)).sum(axis=1)
    )
    return _running(log_ratio)


def quantile_ranks(
    n: npt.ArrayLike, share: float, *, tuned_for: float, alpha: float = 0.05
) -> tuple[Integers, Integers]:
    """Name the order statistics (1 = the smallest) between which a quantile lies at every sample size at once.

    Exact for any distribution, ties included: as many values as a binomial draw lie below a quantile, and the
    beta-binomial mixture bounds such draws at all times (after Howard and Ramdas 2022). A rank of 0 or n + 1 says
    that the data give no limit on that side yet.

    >>> quantile_ranks([100, 10_000], 0.5, tuned_for=10_000)
    (array([   5, 4849]), array([  96, 5152]))
    """
    sizes = np.asarray(n, dtype=np.int64)
    if not 0 < share < 1 or (sizes < 0).any():
        raise ParameterError(f"share is {share}, must lie between 0 and 1, and n must be 0 or more")
    weight = _concentration(tuned_for, alpha)
    a, b = weight * share, weight * (1 - share)

    def inside(k: Integers) -> npt.NDArray[np.bool_]:
        ratio = special.betaln(a + k, b + sizes - k) - special.betaln(a, b)
        return ratio - k * np.log(share) - (sizes - k) * np.log1p(-share) < -np.log(alpha)

    middle = np.floor(sizes * share).astype(np.int64)
    return _edge(inside, middle, np.full_like(sizes, -1)), _edge(inside, middle, sizes + 1) + 1


def quantile_difference(
    control: npt.ArrayLike, treatment: npt.ArrayLike, share: float, *, tuned_for: float, alpha: float = 0.05
) -> tuple[Interval, Interval]:
    """Compare a quantile of two arms, as a difference and relative to control, with limits that hold at every look.

    Each arm's quantile lies between two order statistics at all times with probability 1 - alpha / 2; the limits
    combine the worst of both. They are wide, being exact, and say nothing about other quantiles.

    Args:
        control: one value for each account so far, inf where nothing came (such as a play that never started).
        treatment: the same for the other arm; several values of an account are not independent, so take one.
        share: which quantile, between 0 and 1.
        tuned_for: accounts in an arm at which the limits are to be tightest.
        alpha: how rarely any of the intervals may miss.

    Returns:
        The difference, and the relative change (NaN limits where the control's may be 0 or below).

    Raises:
        ParameterError: an arm has no values or NaN, or an argument is out of its range.
    """
    ends = []
    for name, given in (("control", control), ("treatment", treatment)):
        values = np.sort(np.asarray(given, dtype=np.float64))
        if values.ndim != 1 or not values.size or np.isnan(values[-1]):
            raise ParameterError(f"{name} needs one value for each account and no NaN; write inf where nothing came")
        low, high = quantile_ranks(values.size, share, tuned_for=tuned_for, alpha=alpha / 2)
        padded = np.concatenate([[-np.inf], values, [np.inf]])
        ends.append(padded[[int(np.ceil(share * values.size)), int(low), int(high)]])
    (c, c_low, c_high), (t, t_low, t_high) = ends
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = Interval(t / c - 1, t_low / c_high - 1, t_high / c_low - 1)
        difference = Interval(t - c, t_low - c_high, t_high - c_low)
    return difference, relative if c_low > 0 else Interval(relative.value, np.nan, np.nan)


def canary(
    control: npt.ArrayLike,
    treatment: npt.ArrayLike,
    *,
    title: str,
    share: float = 0.95,
    margin: float = 0.1,
    tuned_for: float,
    alpha: float = 0.05,
) -> Check:
    """Ask of the first accounts, as often as one likes, whether a quantile that should stay low has risen.

    Fails once a rise beyond `margin` (relative) is established, passes once it is ruled out, and cannot tell before:
    what is within the margin was accepted beforehand. Arguments are those of `quantile_difference`.
    """
    name = f"Canary: {title}"
    _, change = quantile_difference(control, treatment, share, tuned_for=tuned_for, alpha=alpha)
    if not np.isfinite(change.low):
        return Check(name=name, passed=None, detail=f"{title}: too few accounts so far, or values of 0 or below.")
    top = f"to {change.high:+.0%}" if np.isfinite(change.high) else "or more"
    said = f"{title}: the {100 * share:g}th percentile changed by {change.value:+.0%} ({change.low:+.0%} {top})"
    said += "; " + "it has risen, and " * bool(change.low > 0) + f"a rise beyond {margin:+.0%}"
    if change.low > margin:
        return Check(name=name, passed=False, detail=f"{said} is established, however often one looked.")
    if change.high < margin:
        return Check(name=name, passed=True, detail=f"{said} is ruled out.")
    return Check(name=name, passed=None, detail=f"{said} remains possible.")


def _tightest(alpha: float) -> float:
    """Give n / prior n at which the normal mixture is tightest (Howard and others 2021, sec. 3.5)."""
    return float(-2 * np.log(alpha) + np.log1p(-2 * np.log(alpha)))


def _concentration(tuned_for: float, alpha: float) -> float:
    """Say how much a Dirichlet or beta prior weighs, in accounts, to be tightest at `tuned_for` of them."""
    if not (tuned_for > 0 and 0 < alpha < 0.5):
        raise ParameterError(f"tuned_for must be above 0 and alpha between 0 and 0.5, got {tuned_for} and {alpha}")
    return max(tuned_for / _tightest(alpha) - 1, 1.0)


def _clocked(
    diff: npt.ArrayLike, se: npt.ArrayLike, n: npt.ArrayLike, tuned_for: float, alpha: float
) -> tuple[Floats, Floats, Floats]:
    values, errors, clock = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (diff, se, n)))
    if not 0 < alpha < 0.5:
        raise ParameterError(f"alpha is {alpha}, must lie between 0 and 0.5")
    if not ((errors > 0).all() and (clock > 0).all() and tuned_for > 0):
        raise ParameterError("standard errors, n and tuned_for must be above 0; leave out looks without accounts")
    return values, errors, _tightest(alpha) * clock / tuned_for


def _log_mixture(z: Floats, x: Floats) -> Floats:
    """Give the log of the normal mixture martingale, x the variance of the mixture in squared standard errors."""
    return z**2 * x / (2 * (1 + x)) - np.log1p(x) / 2


def _running(log_ratio: Floats) -> Floats:
    return np.exp(-np.maximum.accumulate(np.atleast_1d(np.maximum(log_ratio, 0)), axis=-1))


def _edge(inside: Any, within: Integers, beyond: Integers) -> Integers:
    """Find the last whole number from `within` towards `beyond` that is inside."""
    while (np.abs(beyond - within) > 1).any():
        middle = within + np.fix((beyond - within) / 2).astype(np.int64)
        good = inside(middle)
        within, beyond = np.where(good, middle, within), np.where(good, beyond, middle)
    return within
