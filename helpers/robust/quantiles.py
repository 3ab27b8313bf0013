"""Quantile treatment effects: what changed for the median account, for the slowest start in twenty, along the curve.

Every limit is an order statistic. The value below which a share p of all accounts lies is surely one of the sample's
values near rank n p; which ranks are near enough is known from the binomial distribution alone, whatever the shape of
the data. So there is no density to estimate, no bandwidth to choose and nothing to resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from helpers.errors import DataError, ParameterError
from helpers.results import Estimate, NotEstimable
from helpers.robust import values
from helpers.robust.values import Values

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

FEW = 3  # quantiles; for more of them one sort is faster than partitions
FARTHEST = 37.0  # standard errors; beyond, the normal tail is no number any more
PERCENTILES = tuple(round(i / 100, 2) for i in range(1, 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arm:
    """One arm as order statistics: how many there are, the value at a rank, and the ranks that bound a quantile.

    Ranks count from 1; those beyond 1 to n say that the arm is too small to have the limit. `bounds` takes shares and
    the number of standard errors.
    """

    n: int
    at: Callable[[Integers], Floats]
    bounds: Callable[[Floats, float], tuple[Floats, Floats]]

    def read(self, shares: Floats, z: float) -> Floats:
        """Give value, low and high (3, s) of the quantiles, with NaN for limits that it is too small to have."""
        place = (self.n - 1) * shares  # type 7 of Hyndman and Fan (1996)
        ranks = np.array([np.floor(place), np.ceil(place), *(b - 1 for b in self.bounds(shares, z))])
        inside = (ranks >= 0) & (ranks < self.n)
        below, above, low, high = np.where(inside, self.at(np.clip(ranks, 0, self.n - 1).astype(np.int64)), np.nan)
        value = below + (place - ranks[0]) * (above - below)
        return np.array([value, np.minimum(low, value), np.maximum(high, value)])


def difference(
    control: Floats | Values,
    treatment: Floats | Values,
    shares: Sequence[float] = (0.5, 0.9),
    *,
    metric: str = "value",
    level: float = 0.95,
    power: float = 0.8,
) -> list[Estimate | NotEstimable]:
    """Compare quantiles between two arms of independent accounts, one answer for each share.

    Each arm's quantile lies between the order statistics of ranks l and u, where l is the quantile of the binomial
    (n, p) at half the error rate and u that at the rest, plus 1: sound whatever the distribution (Thompson 1936). The
    two intervals are combined by squares, diff - low = sqrt((t - t_l)^2 + (c_u - c)^2), as Price and Bonett (2002) do
    for medians and Zou and Donner (2008) in general. p belongs to the interval that would just end at 0.

    It is the difference between two distributions at one height. It is not the change of the account that stood there:
    nobody knows where that account would have stood in the other arm.

    Args:
        control: the values of its accounts, one each; or distinct values with counts.
        treatment: likewise.
        shares: of accounts at or below, each between 0 and 1.
        metric: its name.
        level: confidence level.
        power: with which `mde` would be found.

    Raises:
        ParameterError: a share, `level` or `power` is not between 0 and 1.
        DataError: a value is missing, NaN or infinite.

    >>> rng = np.random.default_rng(1)
    >>> (median,) = difference(rng.gamma(2, 5, 4_000), 1 + rng.gamma(2, 5, 4_000), [0.5])
    >>> f"{median.diff:.2f} ({median.low:.2f} to {median.high:.2f})"
    '1.16 (0.83 to 1.51)'
    """
    _check(shares, level, power)
    pair = [s if isinstance(s, Values) else values.finite(s) for s in (control, treatment)]
    arms = [_independent(s, whole=len(shares) > FEW) for s in pair]
    method = "order statistics (binomial ranks), limits combined by squares"
    return _answers(arms, pair, shares, metric=metric, method=method, level=level, power=power)


def of_events(
    control: tuple[Floats, npt.NDArray[np.generic]],
    treatment: tuple[Floats, npt.NDArray[np.generic]],
    shares: Sequence[float] = (0.5, 0.75, 0.95, 0.99),
    *,
    metric: str = "value",
    level: float = 0.95,
    power: float = 0.8,
) -> list[Estimate | NotEstimable]:
    """Compare quantiles over all events (sessions, starts), while accounts are what was assigned.

    Events of one account resemble one another, so that many events say less than as many accounts would. With S of an
    account's N events at or below the quantile, the share p has the error of a ratio over m accounts,
    se^2 = var(S - p N) / (m mean(N)^2) (the delta method), and the ranks n (p ± z se) bound the quantile: the outer
    interval of Deng, Knoblich and Lu (2018, sec. 4); Liu, Sun, Varadhan and Xu (2019) use the same error at scale. The
    two arms' limits are combined as in `difference`.

    Those who come often weigh more here, event by event; the median over accounts is another number. Where values are
    whole seconds, a quantile moves by whole seconds, and each arm's is off by up to half of one on average: that tells
    where the interval is no wider than a few of them, and nowhere else.

    Args:
        control: the events' values, and the account of each.
        treatment: likewise.
        shares: of events at or below, each between 0 and 1.
        metric: its name.
        level: confidence level.
        power: with which `mde` would be found.

    Returns:
        One answer for each share; its n counts accounts.

    Raises:
        ParameterError: a share, `level` or `power` is out of range, or values and accounts differ in number.
        DataError: a value is missing, NaN or infinite, or has no account.
    """
    _check(shares, level, power)
    arms, pair, n = [], [], []
    for rows, accounts in (control, treatment):
        x = values.finite(rows)
        if len(x) != len(accounts):
            raise ParameterError(f"{len(x):,} values have {len(accounts):,} accounts; one for each value is needed")
        code, known = pd.factorize(accounts)
        if unknown := int((code < 0).sum()):
            raise DataError(f"{unknown:,} of {len(x):,} values have no account; every event needs one")
        n.append(len(known))
        pair.append(np.sort(x))
        arms.append(_clustered(x, code, pair[-1]))
    method = "order statistics of events (ranks by the delta method over accounts), limits combined by squares"
    return _answers(arms, pair, shares, metric=metric, method=method, level=level, power=power, accounts=(n[0], n[1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighted:
    """The values of one arm (n,) with the account of each, its weight, and the stratum within which it was drawn.

    Accounts and strata are numbered from 0; an account's weight and stratum are the same in all its rows.
    """

    value: Floats
    account: Integers
    weight: Floats
    stratum: Integers


def weighted(
    control: Weighted,
    treatment: Weighted,
    shares: Sequence[float] = (0.5, 0.9),
    *,
    metric: str = "value",
    level: float = 0.95,
    power: float = 0.8,
) -> list[Estimate | NotEstimable]:
    """Compare quantiles of the population that weights stand for, over accounts or over their events.

    An arm's quantile is the value at which the weights below reach the share. The share of weight at or below it, or of
    that below it, whichever is larger, has the error of a ratio over accounts, linearised within strata: that all is at
    or below the greatest value does not vary, and in arms of 40 made every 0.99 quantile differ. The values where the
    weights reach the share, less and plus z of these errors, bound the quantile (Woodruff 1952; R's `survey`:
    `svyquantile`). Limits are combined as in `difference`. Accounts without a value are none of the arm's, as in
    `of_events`.

    Raises:
        ParameterError: a share, `level` or `power` is not between 0 and 1.
        DataError: a value is missing, NaN or infinite.
    """
    _check(shares, level, power)
    pair = [values.finite(of.value) for of in (control, treatment)]
    n = tuple(len(np.unique(of.account)) for of in (control, treatment))
    method = "weighted to the population, limits where the weights reach the share (Woodruff), combined by squares"
    arms = [_Woodruff(of=of, n=k) for of, k in zip((control, treatment), n, strict=True)]
    return _answers(arms, pair, shares, metric=metric, method=method, level=level, power=power, accounts=(n[0], n[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Woodruff:
    """One arm with weights: quantiles and limits where the weights reach a share."""

    of: Weighted
    n: int

    def read(self, shares: Floats, z: float) -> Floats:
        """Give value, low and high (3, s) of the quantiles, with NaN for limits that it is too small to have."""
        order = np.argsort(self.of.value)
        x, reached = self.of.value[order], np.cumsum(self.of.weight[order])
        _, first, code = np.unique(self.of.account, return_index=True, return_inverse=True)
        stratum = self.of.stratum[first]
        found = []
        for share in shares:
            value = x[np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))]
            square = 0.0
            for below in (self.of.value <= value, self.of.value < value):
                each = np.bincount(code, self.of.weight * (below - share))
                n, total, squares = (np.bincount(stratum, w) for w in (np.ones(len(each)), each, each**2))
                within = np.where(n > 1, (squares - total**2 / np.maximum(n, 1)) * n / np.maximum(n - 1, 1), squares)
                square = max(square, within.sum())
            half = z * np.sqrt(square) / reached[-1]
            ends = np.array([share - half, share + half])
            at = np.minimum(np.searchsorted(reached, ends * reached[-1]), len(x) - 1)
            low, high = np.where((ends > 0) & (ends < 1), x[at], np.nan)
            found.append([value, min(low, value), max(high, value)])
        return np.array(found).T


def curve(
    control: Floats | Values, treatment: Floats | Values, shares: Sequence[float] = PERCENTILES, *, level: float = 0.95
) -> pd.DataFrame:
    """Compare two distributions along their quantiles, with limits for each share and a band for all at once.

    Along the shares an arm's rank, over its standard error, is a Brownian bridge over its own standard deviation: an
    Ornstein-Uhlenbeck process in log(p / (1 - p)) / 2 (Doob 1949). The band widens every limit from the normal quantile
    to the number below which the largest of that process stays. It then covers the whole curve as often as `level`
    says where the spreads of the two arms stand in the same proportion all along, and nearly so otherwise.

    Returns:
        share, control, treatment, diff, low, high (each share alone), band_low, band_high (all together); shares whose
        limits an arm is too small to have are left out.

    Raises:
        ParameterError: a share or `level` is not between 0 and 1, or the shares do not rise.
    """
    _check(shares, level)
    if list(shares) != sorted(set(shares)):
        raise ParameterError("the shares of a curve must rise")
    samples = [s if isinstance(s, Values) else values.finite(s) for s in (control, treatment)]
    arms = [_independent(s, whole=True) for s in samples]

    p = np.array(shares if min(a.n for a in arms) > 1 else (), dtype=np.float64)
    while True:  # a wide band loses shares at the ends, without which it need not be as wide
        z = _widest(tuple(p), level)
        wide = np.array([a.read(p, z) for a in arms])
        if not (lost := np.isnan(wide).any(axis=(0, 1))).any():
            break
        p = p[~lost]
    read = np.array([a.read(p, _normal(level)) for a in arms])
    (low, high), (band_low, band_high) = _combined(read), _combined(wide)
    c, t = read[:, 0]
    columns = (p, c, t, t - c, low, high, band_low, band_high)
    names = ("share", "control", "treatment", "diff", "low", "high", "band_low", "band_high")
    return pd.DataFrame(dict(zip(names, columns, strict=True)))


def _normal(level: float) -> float:
    return float(-special.ndtri((1 - level) / 2))


def _combined(read: Floats) -> tuple[Floats, Floats]:
    """Combine value, low and high of both arms (2, 3, ...) into the limits of the difference, by squares."""
    (c, c_low, c_high), (t, t_low, t_high) = read
    return t - c - np.hypot(t - t_low, c_high - c), t - c + np.hypot(t_high - t, c - c_low)


def _check(shares: Sequence[float], level: float, power: float = 0.8) -> None:
    values.check(level, power)
    for share in shares:
        if not 0 < share < 1:
            raise ParameterError(f"the share of a quantile is {share}, must lie between 0 and 1")


def _independent(sample: Floats | Values, *, whole: bool) -> _Arm:
    """Read an arm whose values are independent; the whole of it is sorted where many quantiles are asked."""
    n = sample.n if isinstance(sample, Values) else len(sample)

    def bounds(shares: Floats, z: float) -> tuple[Floats, Floats]:
        tail = special.ndtr(-z)
        below, above = stats.binom.ppf(tail, n, np.array([shares, 1 - shares]))
        return below, n - above + 1

    if isinstance(sample, Values):
        return _Arm(n=n, at=sample.at, bounds=bounds)
    rows = sample
    return _Arm(n=n, at=np.sort(rows).__getitem__ if whole else lambda ranks: _partitioned(rows, ranks), bounds=bounds)


def _partitioned(rows: Floats, ranks: Integers) -> Floats:
    """Look up the order statistics of a few shares (columns of ranks), sorting only what lies between their limits."""
    x = rows.copy()
    first, last = ranks.min(axis=0), ranks.max(axis=0)
    order = np.argsort(first)
    ends = [*first[order][1:], len(x)]
    if (last[order] >= ends).any():  # the limits of two shares overlap
        x.sort()
        return x[ranks]
    done = 0
    for start in first[order]:
        x[done:].partition(start - done)
        done = start
    for start, stop, end in zip(first[order], last[order], ends, strict=True):
        x[start:end].partition(stop - start)
        x[start:stop].sort()
    return x[ranks]


def _clustered(rows: Floats, code: Integers, ordered: Floats) -> _Arm:
    """Read an arm of events whose accounts are numbered."""
    n, events = len(rows), np.bincount(code)
    accounts = len(events)

    def bounds(shares: Floats, z: float) -> tuple[Floats, Floats]:
        near = ordered[np.ceil(n * shares).astype(np.int64) - 1]
        kept = [rows < value if value == ordered[-1] else rows <= value for value in near]  # nothing lies above
        below = np.array([np.bincount(code, weights=k) for k in kept])
        share = below.sum(axis=1, keepdims=True) / n
        se = np.sqrt((below - share * events).var(axis=1, ddof=1) / accounts) / events.mean()
        return np.floor(n * (shares - z * se)), np.ceil(n * (shares + z * se)) + 1

    return _Arm(n=n, at=ordered.__getitem__, bounds=bounds)


def _answers(
    arms: Sequence[_Arm | _Woodruff],
    pair: Sequence[Floats | Values],
    shares: Sequence[float],
    *,
    metric: str,
    method: str,
    level: float,
    power: float,
    accounts: tuple[int, int] | None = None,
) -> list[Estimate | NotEstimable]:
    n = accounts or (arms[0].n, arms[1].n)
    if few := values.too_few(metric, n):
        return [few] * len(shares)
    q = _normal(level)
    read = np.array([arm.read(np.array(shares, dtype=np.float64), q) for arm in arms])
    low, high = _combined(read)
    answers: list[Estimate | NotEstimable] = []
    for i, share in enumerate(shares):
        if np.isnan(read[:, :, i]).any():
            reason = f"so few accounts do not bound the {share:.4g} quantile at {level:.0%}"
            answers.append(NotEstimable(metric=metric, reason=reason, n_control=n[0], n_treatment=n[1]))
            continue
        value, lower, upper = read[:, :, i].T
        diff = value[1] - value[0]
        near = diff - low[i] if diff > 0 else high[i] - diff
        counted = (lower == upper).any()
        step, note = (
            _step([s if isinstance(s, Values) else values.of(s) for s in pair], value) if counted else (0.0, "")
        )
        if diff == 0:
            p = 1.0
        elif near > 0:
            p = float(2 * special.ndtr(-q * abs(diff) / near))
        else:
            p = _far(arms, share, diff, q)
        answers.append(
            values.contrast(
                metric,
                value,
                value - lower,
                upper - value,
                n=n,
                p=p,
                q=q,
                method=f"{share:.4g} quantile: {method}",
                level=level,
                power=power,
                note=note,
                smallest=step,
            )
        )
    return answers


def _far(arms: Sequence[_Arm | _Woodruff], share: float, diff: float, q: float) -> float:
    """Find the p of two quantiles that lie fast in blocks of equal values: when does the interval reach 0?"""

    def clear(z: float) -> float:
        low, high = _combined(np.array([arm.read(np.array([share]), z) for arm in arms]))
        edge = float(low[0] if diff > 0 else -high[0])
        return 1.0 if edge > 0 else -1.0

    if clear(FARTHEST) > 0:
        return float(2 * special.ndtr(-FARTHEST))
    return float(2 * special.ndtr(-optimize.bisect(clear, q, FARTHEST, xtol=1e-6)))


def _step(pair: Sequence[Values], value: Floats) -> tuple[float, str]:
    """Say how far the next values lie from two quantiles, and what it means that they come in steps."""
    gaps = [np.abs(s.value - v) for s, v in zip(pair, value, strict=True)]
    step = min((float(g[g > 0].min()) for g in gaps if (g > 0).any()), default=0.0)
    equal = [float(s.count[s.value == v].sum() / s.n) for s, v in zip(pair, value, strict=True)]
    note = (
        f"{equal[0]:.0%} of control and {equal[1]:.0%} of treatment have exactly the value of their quantile, which "
        "moves in steps: within one, a change of the distribution does not show"
    )
    return step, note


@cache
def _widest(shares: tuple[float, ...], level: float) -> float:
    """Find the number that the largest of a standardised Brownian bridge at these shares stays below at `level`.

    The process is a Markov chain from share to share, with correlation sqrt(u (1 - v) / (v (1 - u))) for u < v; the
    chance to stay within ± z is its density carried along by Gaussian quadrature.
    """
    if len(shares) < 2:
        return _normal(level)
    odds = np.array(shares) / (1 - np.array(shares))
    correlation = np.sqrt(odds[:-1] / odds[1:])
    node, weight = np.polynomial.legendre.leggauss(121)

    def stays(z: float) -> float:
        at, mass = z * node, z * weight
        density = stats.norm.pdf(at)
        for r in correlation:
            s = np.sqrt(1 - r * r)
            density = np.exp(-(((at[:, None] - r * at) / s) ** 2) / 2) @ (density * mass) / (s * np.sqrt(2 * np.pi))
        return float(density @ mass) - level

    return float(optimize.brentq(stays, _normal(level) - 1e-9, 8, xtol=1e-4))
