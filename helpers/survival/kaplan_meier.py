"""Survival curves from tallies, and what is read from two of them: restricted means, and shares at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers.errors import DataError, ParameterError
from helpers.results import Estimate, NotEstimable
from helpers.robust import values

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Interval = Literal["log-log", "log", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """One arm, counted: a row for each time, whether the event came then, and stratum; all arrays are (r,).

    `accounts` had the event at `time`, or were last seen without it then; `weight` and `square` are the sums of their
    weights and of the squares of those. Who leaves at the time of an event was still at risk of it.
    """

    time: Floats
    event: npt.NDArray[np.bool_]
    stratum: npt.NDArray[np.intp]
    accounts: Floats
    weight: Floats
    square: Floats

    @property
    def n(self) -> int:
        """Count the accounts."""
        return int(self.accounts.sum())

    @property
    def weighted(self) -> bool:
        """Say whether the accounts have unequal weights."""
        return not np.allclose(self.square * self.accounts.sum() / self.weight.sum(), self.weight, rtol=1e-9)

    @property
    def reach(self) -> float:
        """Say up to when the curve is known: the last time anybody was watched, or for ever where nobody is left."""
        last = self.time == self.time.max()
        return float("inf") if self.event[last].all() else float(self.time.max())


class Steps(NamedTuple):
    """The Kaplan-Meier curve of a tally at its k distinct times, and for each row of the tally which time is its own.

    `jump` is Greenwood's addition to the variance of log S, 0 where nobody is left; `left` those at risk afterwards.
    """

    time: Floats
    at: npt.NDArray[np.intp]
    at_risk: Floats
    events: Floats
    left: Floats
    survival: Floats
    jump: Floats


def tally(
    time: npt.ArrayLike, event: npt.ArrayLike, *, weight: npt.ArrayLike | None = None, stratum: Any = None
) -> Tally:
    """Count one arm's accounts by their times.

    Args:
        time: (n,) until the event, or until the account was last seen without it; 0 or more.
        event: (n,) 1 or True where the event came, 0 or False where the account was censored.
        weight: (n,) how many accounts of the population each one stands for, above 0; None means all the same.
        stratum: (n,) labels of the strata within which the arm was drawn.

    Raises:
        DataError: there are no accounts, or a time, event or weight is none; one sentence with the number of accounts.

    >>> tally([5, 3, 5, 5], [1, 0, 1, 0]).accounts
    array([1., 1., 2.])
    """
    rows = pd.DataFrame({"time": np.asarray(time, float), "event": np.asarray(event, float)})
    rows["weight"] = 1.0 if weight is None else np.asarray(weight, float)
    rows["stratum"] = 0 if stratum is None else pd.factorize(np.asarray(stratum))[0]
    rows = rows.assign(square=rows["weight"] ** 2, accounts=1.0)
    return counted(rows.groupby(["stratum", "time", "event"], as_index=False, dropna=False).sum())


def counted(rows: pd.DataFrame) -> Tally:
    """Check counted rows and take them as a tally."""
    if rows.empty:
        raise DataError("there are no accounts, so there is no time to an event")
    n, weight = rows["accounts"], rows["weight"]
    for bad, fault in (
        (~np.isfinite(rows["time"].astype(float)), "have a missing or infinite time; drop them, or correct it"),
        (rows["time"] < 0, "have a negative time; times count from the assignment"),
        (~rows["event"].isin([0, 1]), "have an event other than 1 (it came) and 0 (last seen without it)"),
        (~((weight > 0) & np.isfinite(weight)), "have no weight above 0"),
    ):
        if bad.any():
            raise DataError(f"{n[bad].sum():,.0f} accounts {fault}")
    numbers = {c: rows[c].to_numpy(np.float64) for c in ("time", "accounts", "weight", "square")}
    return Tally(event=rows["event"].to_numpy() == 1, stratum=rows["stratum"].to_numpy(np.intp), **numbers)


def steps(of: Tally) -> Steps:
    """Lay a tally out along its times."""
    time, at = np.unique(of.time, return_inverse=True)
    events = np.bincount(at, of.weight * of.event).astype(np.float64)
    at_risk: Floats = np.bincount(at, of.weight)[::-1].cumsum()[::-1]
    left: Floats = np.where(at_risk - events > 1e-12 * at_risk, at_risk - events, 0.0).astype(np.float64)
    jump = np.divide(events, at_risk * left, out=np.zeros_like(left), where=left > 0)
    return Steps(time, at, at_risk, events, left, np.cumprod(left / at_risk, dtype=np.float64), jump)


def curve(of: Tally, *, at: Floats | None = None, level: float = 0.95, interval: Interval = "log-log") -> pd.DataFrame:
    """Estimate the share of accounts without the event (Kaplan and Meier 1958), with pointwise intervals.

    Errors are Greenwood's (1926); with unequal weights those of the linearised curve, which without weights are the
    same. The intervals hold for one time each, not for the whole curve at once. A certain 0 or 1 has none.

    Args:
        of: one arm.
        at: times to read the curve at, in rising order; None means every time in the tally. It ends where its accounts
            were last watched, and no row lies beyond.
        level: of the intervals, between 0 and 1.
        interval: on which scale they are symmetric; "log-log" is right also near 0 and 1, "log" is R's default.

    Returns:
        time, at_risk and events (weights, where there are some; with `at`, the events since the time before), survival,
        se (missing where nobody is left), low, high.

    Raises:
        ParameterError: the level is out of range.

    >>> curve(tally([6, 6, 6, 6, 7, 9], [1, 1, 1, 0, 1, 0])).round(3)[["time", "at_risk", "survival", "low", "high"]]
       time  at_risk  survival    low   high
    0   6.0      6.0      0.50  0.111  0.804
    1   7.0      2.0      0.25  0.012  0.646
    2   9.0      1.0      0.25  0.012  0.646
    """
    values.check(level)
    s = steps(of)
    drift = np.cumsum(s.jump)
    fell = (s.left > 0) / np.where(s.left > 0, s.left, 1)
    gone = np.bincount(s.at, of.square * (drift[s.at] - of.event * fell[s.at]) ** 2).cumsum()
    variance = gone + drift**2 * (of.square.sum() - np.bincount(s.at, of.square).cumsum())
    low, high = bounds(s.survival, variance, float(stats.norm.isf((1 - level) / 2)), interval)
    se = np.where(s.survival > 0, s.survival * np.sqrt(variance), np.nan)
    told = np.array([s.survival, se, low, high])
    time = s.time if at is None else at[at <= of.reach]
    last, risk = np.searchsorted(s.time, time, side="right"), np.append(s.at_risk, 0)[np.searchsorted(s.time, time)]
    told = np.column_stack([[1.0, 0.0, 1.0, 1.0], told])[:, last]
    events = np.diff(np.append(0, np.cumsum(s.events))[last], prepend=0)
    columns = dict(zip(("survival", "se", "low", "high"), told, strict=True))
    return pd.DataFrame({"time": time, "at_risk": risk, "events": events, **columns})


def bounds(survival: Floats, variance: Floats, q: float, interval: Interval = "log-log") -> tuple[Floats, Floats]:
    """Give a survival's limits from the variance of its logarithm; a certain 0 or 1 has none, and is its own.

    On the scale log(-log S) they stay within 0 and 1 (Kalbfleisch and Prentice 2002, sec. 1.4.1).
    """
    inside = (survival > 0) & (survival < 1)
    share, half = np.where(inside, survival, 0.5), q * np.sqrt(np.where(inside, variance, 0))
    if interval == "log-log":
        low, high = (share ** np.exp(sign * half / np.abs(np.log(share))) for sign in (1, -1))
    elif interval == "log":
        low, high = share * np.exp(-half), np.minimum(share * np.exp(half), 1)
    else:
        low, high = np.maximum(share * (1 - half), 0), np.minimum(share * (1 + half), 1)
    return np.where(inside, low, survival), np.where(inside, high, survival)


def watched(arms: Sequence[Tally]) -> float:
    """Give up to when every arm's curve is known; where nobody is left in any, it is the last event.

    >>> watched([tally([5, 8], [1, 0]), tally([3, 4], [1, 1])])
    8.0
    """
    seen = min(a.reach for a in arms)
    return seen if seen < float("inf") else max(float(a.time.max()) for a in arms)


def restricted_mean(
    control: Tally,
    treatment: Tally,
    *,
    horizon: float | None = None,
    metric: str = "",
    level: float = 0.95,
    power: float = 0.8,
    small_groups: bool = False,
) -> Estimate | NotEstimable:
    """Estimate the difference in restricted mean survival time: the time without the event, up to the horizon.

    It is the area between the two curves (Royston and Parmar 2013). The error is that of Klein and Moeschberger (2003,
    eq. 4.5.2) times n / (n - 1); with weights or strata the curve is linearised, as R's `survey` does. Where everybody
    was watched up to the horizon, value, error, interval and p are those of Welch's t on min(time, horizon).

    The curves are those of all accounts only if who was censored would have fared like the others. That holds where the
    data simply end; it does not where accounts drop out of sight because they are about to have the event.

    Args:
        control: the arm that is compared against.
        treatment: the arm that is judged.
        horizon: up to when, in the unit of the times, above 0; None means as long as both arms were watched.
        metric: its name.
        level: of the intervals, between 0 and 1.
        power: for `mde`.
        small_groups: whether the error is Student's where that is larger, as in `inference.compare`: of rare events the
            smaller arm may happen to have none, and its own error then is 0.

    Raises:
        ParameterError: horizon, level or power is out of range.
    """
    values.check(level, power)
    arms = (control, treatment)
    if horizon is not None and not 0 < horizon < float("inf"):
        raise ParameterError(f"horizon is {horizon:g}, must be a time above 0")
    until = horizon or watched(arms)

    def area(s: Steps) -> tuple[float, Floats]:
        edges = np.append(np.minimum(s.time, until), until)
        after = np.append((s.survival * np.diff(edges))[::-1].cumsum()[::-1], 0)[:-1]
        return float(edges[0] + after[0]), np.where(s.time <= until, after, 0)

    method = f"difference in restricted mean survival time up to {until:g}, by Kaplan-Meier"
    return _contrast(
        arms, area, until, metric=metric, method=method, level=level, power=power, small_groups=small_groups
    )


def surviving(
    control: Tally,
    treatment: Tally,
    *,
    at: float,
    metric: str = "",
    level: float = 0.95,
    power: float = 0.8,
    small_groups: bool = False,
) -> Estimate | NotEstimable:
    """Estimate the difference in the share of accounts without the event at one time, such as the end of the window.

    It says nothing about the way there: two curves may meet at the end and lie apart before. Arguments, errors and what
    is raised are those of `restricted_mean`; with a handful of events read the limits of `curve` instead.
    """
    values.check(level, power)
    if not 0 <= at < float("inf"):
        raise ParameterError(f"at is {at:g}, must be a time of 0 or more")

    def height(s: Steps) -> tuple[float, Floats]:
        share = float(np.append(1.0, s.survival)[np.searchsorted(s.time, at, side="right")])
        return share, np.where(s.time <= at, share, 0)

    method = f"difference in Kaplan-Meier survival at {at:g}"
    return _contrast(
        (control, treatment), height, at, metric=metric, method=method, level=level, power=power,
        small_groups=small_groups,
    )  # fmt: skip


def _contrast(
    arms: tuple[Tally, Tally],
    read: Any,
    until: float,
    *,
    metric: str,
    method: str,
    level: float,
    power: float,
    small_groups: bool,
) -> Estimate | NotEstimable:
    """Compare a number that `read` takes from each arm's curve, with the weight that the curve's fall at a time has."""
    n = (arms[0].n, arms[1].n)
    if few := values.too_few(metric, n):
        return few
    for name, a in zip(("control", "treatment"), arms, strict=True):
        if a.reach < until:
            reason = (
                f"{name} was watched up to {a.reach:g} only, not to {until:g}; name a 'horizon' of {a.reach:g} or less"
            )
            return NotEstimable(metric=metric, reason=reason, n_control=n[0], n_treatment=n[1])
    value, variance = np.empty(2), np.empty(2)
    for i, a in enumerate(arms):
        s = steps(a)
        value[i], kernel = read(s)
        fell = kernel * (s.left > 0) / np.where(s.left > 0, s.left, 1)
        variance[i] = spread(a, np.cumsum(s.jump * kernel)[s.at] - a.event * fell[s.at])
    if not variance.sum() > 0:
        reason = f"nobody in either arm has the event before {until:g}, so there is no spread to judge a difference by"
        return NotEstimable(metric=metric, reason=reason, n_control=n[0], n_treatment=n[1])
    method += ", weighted to the population" * any(a.weighted for a in arms)
    method += ", within strata" * any(a.stratum.any() for a in arms)
    count = np.array(n, float)
    carried = count if small_groups else None
    return values.welch(metric, value, variance, count, n=n, method=method, level=level, power=power, carried=carried)


def spread(of: Tally, pull: Floats) -> float:
    """Give the variance of a number to which an account of row r of weight 1 adds `pull[r]`, within strata.

    For a curve's number the pull is the derivative by a weight (the infinitesimal jackknife, Efron 1981): without
    weights its sum of squares is exactly Greenwood's. All pulls of an arm sum to 0, with which an only account of its
    stratum is compared.
    """
    n, total, squares = (np.bincount(of.stratum, x) for x in (of.accounts, of.weight * pull, of.square * pull**2))
    alone = n <= 1
    return float(np.where(alone, squares, (squares - total**2 / np.maximum(n, 1)) * n / np.maximum(n - 1, 1)).sum())
