"""What is measured on one account, as a design needs to know it: the value without the launch, its spread, its test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from helpers import inference
from helpers.errors import DataError, ParameterError
from helpers.metrics import Kind, Metric, Window
from helpers.moments import WEIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helpers.moments import Moments

Better = Literal["higher", "lower"]
Test = Literal["t", "z", "pooled", "unpooled", "arcsine", "log-rank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One account's outcome without the launch. Make one with the functions below, which check what they are given.

    `value` is the control's mean, share, rate, ratio or quantile; for a time to event the share of accounts that have
    the event within the window. `sd` is the standard deviation of one account's part in it, so that the value of n
    accounts has the standard error sd / sqrt(n).
    """

    kind: Kind
    value: float
    sd: float
    test: Test
    better: Better = "higher"


def mean(*, value: float, sd: float, better: Better = "higher", test: Literal["t", "z"] = "t") -> Outcome:
    """Describe a mean: its value and the standard deviation between accounts, above 0; both arms share it.

    Raises:
        ParameterError: the standard deviation is not above 0, or a number is not finite.

    >>> mean(value=10.8, sd=10.4).sd
    10.4
    """
    return _sound(Outcome(kind="mean", value=value, sd=sd, test=test, better=better))


def proportion(
    share: float, *, better: Better = "higher", test: Literal["pooled", "unpooled", "arcsine"] = "pooled"
) -> Outcome:
    """Describe a proportion between 0 and 1, by its share alone.

    "pooled" takes the variance of both arms together where nothing has changed and of each arm where it has (Fleiss,
    Levin and Paik 2003, eq. 4.14; R's power.prop.test); "unpooled" takes each arm's own throughout; "arcsine" works
    with Cohen's h (1988, eq. 6.2.1).

    >>> proportion(1.2)
    Traceback (most recent call last):
    helpers.errors.ParameterError: share is 1.2, must lie between 0 and 1
    """
    _between("share", share, 0, 1)
    return Outcome(kind="proportion", value=share, sd=math.sqrt(share * (1 - share)), test=test, better=better)


def count(rate: float, *, dispersion: float = 1.0, better: Better = "higher") -> Outcome:
    """Describe a count by its mean and its dispersion, variance / mean: 1 for Poisson, more where accounts differ.

    The variance is taken to follow the mean, so it grows with the effect.

    >>> round(count(4.0, dispersion=9.0).sd, 6)
    6.0
    """
    _above("rate", rate, 0)
    _above("dispersion", dispersion, 0)
    return _sound(Outcome(kind="count", value=rate, sd=math.sqrt(rate * dispersion), test="t", better=better))


def ratio(
    *,
    numerator: float,
    denominator: float,
    numerator_sd: float,
    denominator_sd: float,
    correlation: float,
    better: Better = "higher",
) -> Outcome:
    """Describe a ratio of sums by the means and standard deviations of both over accounts, and their correlation.

    The spread is that of the linearised account (delta method: Deng, Knoblich and Lu 2018, sec. 3).

    >>> round(ratio(numerator=6, denominator=3, numerator_sd=3, denominator_sd=1.5, correlation=0).sd ** 2, 9)
    2.0
    """
    _above("denominator", denominator, 0)
    _between("correlation", correlation, -1, 1, closed=True)
    for name, spread in (("numerator_sd", numerator_sd), ("denominator_sd", denominator_sd)):
        if not spread >= 0:
            raise ParameterError(f"{name} is {spread:g}, must not be negative")
    value = numerator / denominator
    variance = (
        numerator_sd**2 + (value * denominator_sd) ** 2 - 2 * value * correlation * numerator_sd * denominator_sd
    ) / denominator**2
    return _sound(Outcome(kind="ratio", value=value, sd=math.sqrt(max(variance, 0)), test="t", better=better))


def quantile(*, value: float, share: float, density: float, better: Better = "lower") -> Outcome:
    """Describe a quantile: its value, the share of accounts below it, and the density of accounts there, per unit.

    >>> quantile(value=math.log(2), share=0.5, density=0.5).sd  # the median of an exponential with mean 1
    1.0
    """
    _between("share", share, 0, 1)
    _above("density", density, 0)
    sd = math.sqrt(share * (1 - share)) / density
    return _sound(Outcome(kind="quantile", value=value, sd=sd, test="z", better=better))


def quantile_of(values: Sequence[float], share: float, *, better: Better = "lower") -> Outcome:
    """Describe a quantile by accounts' own values; the order statistics around it give its spread (Woodruff 1952).

    Raises:
        DataError: there are too few values on either side of the quantile.
    """
    _between("share", share, 0, 1)
    x = np.sort(np.asarray(values, dtype=np.float64))
    n = len(x)
    reach = 1.96 * math.sqrt(n * share * (1 - share))
    low, high = math.floor(n * share - reach), math.ceil(n * share + reach)
    if low < 0 or high >= n or not np.isfinite(x).all():
        raise DataError(
            f"{n:,} values do not determine the {share:.0%} quantile; all must be finite, and more are needed"
        )
    sd = math.sqrt(n) * float(x[high] - x[low]) / (2 * 1.96)
    return _sound(Outcome(kind="quantile", value=float(np.quantile(x, share)), sd=sd, test="z", better=better))


def time_to_event(share: float, *, better: Better = "lower") -> Outcome:
    """Describe a time to an event by the share of control accounts that have it within the window.

    Effects are relative changes of the hazard, alike at all times; the test is the log-rank (Schoenfeld 1983).
    """
    _between("share", share, 0, 1)
    return Outcome(kind="time_to_event", value=share, sd=1.0, test="log-rank", better=better)


def read(moments: Moments, metric: Metric, *, days: int, window: Window = "post") -> tuple[Outcome, float]:
    """Read a mean, proportion, count or ratio, and its design effect, from Moments of one group.

    The spread of a mean, count or ratio is that of the draw: strata that were summed out by `Moments.within` narrow it,
    weights widen it, and its design effect is 1. A proportion has the spread of its share; what the draw makes of it is
    the design effect.

    Args:
        moments: one group, with the columns and pairs of the metric, weighted or not.
        metric: what is measured.
        days: length of the window, for metrics per week.
        window: after the assignment, or before it.

    Raises:
        DataError: there are fewer than two accounts, or their values do not vary.
    """
    if moments.n[0] < 2:
        raise DataError(f"{metric.name}: {moments.n[0]:.0f} accounts, at least 2 are needed")
    form = inference.form(metric, days, window, weighted=WEIGHT in moments.columns)
    here = moments.only(form.columns)
    (value,), (weights,) = form.read(here)
    variance = float(weights @ here.cov[0] @ weights)
    if not math.isfinite(value) or not variance > 0:
        raise DataError(f"{metric.name}: the values of {moments.n[0]:,.0f} accounts do not vary")
    if metric.kind == "proportion":
        found = proportion(float(value), better=metric.better)
        return found, variance * (1 - 1 / here.n[0]) / found.sd**2  # a share's own variance divides by n
    kind = "mean" if metric.kind == "time_to_event" else metric.kind  # its restricted mean, not its hazard
    return Outcome(kind=kind, value=float(value), sd=math.sqrt(variance), test="t", better=metric.better), 1.0


def explained(moments: Moments, metric: Metric, *, days: int, pre_days: int) -> float:
    """Give the share of a metric's variance that its covariates from before explain (rho squared), in one group."""
    weighted = WEIGHT in moments.columns
    before = inference.covariates(metric, pre_days, weighted=weighted)
    if not before:
        return 0.0
    forms = (inference.form(metric, days, weighted=weighted), *before)
    weights = np.array([f.read(moments)[1][0] for f in forms])
    if not np.isfinite(weights).all():  # of a ratio nobody had any before
        return 0.0
    used = weights.any(axis=0)
    cov = weights[:, used] @ moments.cov[0][np.ix_(used, used)] @ weights[:, used].T
    gain = cov[0, 1:] @ np.linalg.pinv(cov[1:, 1:], rtol=1e-10, hermitian=True) @ cov[1:, 0]
    return float(np.clip(gain / cov[0, 0], 0, 1 - 1e-9)) if cov[0, 0] > 0 else 0.0


def lasting(metric: Metric, share: float, *, days: int, pre_days: int) -> float | None:
    """Give the correlation between one window of an account and the next, where what its past explains tells it.

    `share` is that of the variance (see `explained`). None where the past is another metric or window, where the window
    is part of the metric (whoever cancels within 28 days), or where the past explains nothing.
    """
    own = metric.covariates == "own" and metric.cap is None and (metric.window_days or days) == pre_days
    fixed = metric.kind == "proportion" or metric.window_days is not None
    return math.sqrt(share) if own and not fixed and share else None


def days_to(lasting: float | None, more: float, days: int) -> int | None:
    """Say after how many days, in whole weeks, a longer window does what `more` times the accounts would do.

    An account's average over T days is taken as a part that stays and a part that is new in each window of `days`, with
    the correlation r between one window and the next. Its variance is then r + (1 - r) days / T of that of one window,
    of which the past takes out r^2: extra weeks are worth less than extra accounts, and beyond some point nothing.
    None where no length suffices, or where r is not known.
    """
    r = lasting
    if r is None or (1 + r) / more <= r:
        return None
    return max(7, 7 * math.ceil(days / ((1 + r) / more - r) / 7 - 1e-9))


def _sound(outcome: Outcome) -> Outcome:
    if not math.isfinite(outcome.value):
        raise ParameterError(f"value is {outcome.value}, must be a finite number")
    if not 0 < outcome.sd < math.inf:
        raise ParameterError(f"sd is {outcome.sd:g}, must be above 0: without spread no test is needed")
    return outcome


def _above(name: str, value: float, bound: float) -> None:
    if not bound < value < math.inf:
        raise ParameterError(f"{name} is {value:g}, must be above {bound:g}")


def _between(name: str, value: float, low: float, high: float, *, closed: bool = False) -> None:
    if not (low <= value <= high if closed else low < value < high):
        raise ParameterError(f"{name} is {value:g}, must lie between {low:g} and {high:g}")
