"""Differences between two arms, read from Moments: means, proportions and ratios, adjusted or not, slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import stats

from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.metrics import Metric, Window
from helpers.results import Estimate, NotEstimable

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]
    Limits = tuple[Floats, Floats]

Relative = Literal["fieller", "delta"]
ROUNDING = 1e-12  # a variance below this share of its own terms is rounding, not variation


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A number that Moments can tell: `scale` times the mean of one column, or the ratio of two columns' means."""

    numerator: str
    denominator: str | None = None
    scale: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """List the columns that it reads."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)

    def read(self, moments: Moments) -> tuple[Floats, Floats]:
        """Give its value (g,) and its gradient (g, k) by the column means, so that its variance is w' cov w / n.

        For a ratio this is the delta method: Deng, Knoblich and Lu (2018), sec. 3. A denominator of 0 gives NaN.

        >>> import pandas as pd
        >>> from helpers import moments
        >>> m = moments.from_rows(pd.DataFrame({"plays": [1, 3], "sessions": [2, 2]}), columns=["plays", "sessions"])
        >>> Form(numerator="plays", denominator="sessions").read(m)
        (array([1.]), array([[ 0.5, -0.5]]))
        """
        weights = np.zeros_like(moments.mean)
        at = [moments.columns.index(c) for c in self.columns]
        top = self.scale * moments.mean[:, at[0]]
        if self.denominator is None:
            weights[:, at[0]] = self.scale
            return top, weights
        bottom = np.where(moments.mean[:, at[1]] == 0, np.nan, moments.mean[:, at[1]])
        weights[:, at[0]] = self.scale / bottom
        weights[:, at[1]] -= top / bottom**2
        return top / bottom, weights


def form(metric: Metric, days: int, window: Window = "post") -> Form:
    """Say how a mean, proportion, count or ratio metric is read from Moments over a window of so many days.

    >>> from helpers import metrics
    >>> form(metrics.get("opens_per_account_week"), days=28)
    Form(numerator='sessions_count', denominator=None, scale=0.25)
    """
    scale = metric.numerator.scale * (7 / days if metric.per_week else 1.0)
    if metric.denominator is None:
        return Form(numerator=metric.column(metric.numerator, window), scale=scale)
    return Form(
        numerator=metric.column(metric.numerator, window),
        denominator=metric.column(metric.denominator, window),
        scale=scale / metric.denominator.scale,
    )


def covariates(metric: Metric, pre_days: int = 7) -> tuple[Form, ...]:
    """List what was measured before the assignment and may sharpen the estimate; the scale does not matter for that.

    A metric that is a ready-made column of the units table has no pre-period of its own, so "own" gives none.

    Raises:
        ParameterError: a covariate is one of the metric's own columns after assignment.
    """
    if metric.covariates == "own":
        ready_made = any(m.agg == "value" for m in metric.measures)
        return () if ready_made else (form(metric, pre_days, "pre"),)
    forms = tuple(Form(numerator=m.name("pre"), scale=m.scale) for m in metric.covariates)
    for f in forms:
        if f.numerator in (metric.column(m) for m in metric.measures):
            raise ParameterError(
                f"covariate {f.numerator!r} of {metric.name} is the outcome itself; name one from before"
            )
    return forms


def needed(metric: Metric, *, adjust: bool) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Name the columns, and the pairs of them whose covariances Moments must hold, before `compare` is called.

    >>> from helpers import metrics
    >>> needed(metrics.get("hours_per_account_week"), adjust=True)[0]
    ('plays_sum_watch_minutes', 'plays_sum_watch_minutes_pre')
    """
    forms = (form(metric, days=7), *(covariates(metric) if adjust else ()))
    columns = tuple(dict.fromkeys(c for f in forms for c in f.columns))
    return columns, tuple(combinations_with_replacement(columns, 2))


def compare(
    moments: Moments,
    metric: Metric,
    *,
    control: str,
    treatment: str,
    arm: str = "arm",
    days: int,
    pre_days: int,
    adjust: bool = False,
    level: float = 0.95,
    power: float = 0.8,
    relative: Relative = "fieller",
) -> list[Estimate | NotEstimable]:
    """Estimate treatment minus control, once for each combination of the group columns beside `arm`.

    Means, counts and ratios (by the delta method) get Welch's t. A proportion gets Newcombe's hybrid score interval
    (1998, method 10) with the p of the pooled z-test. With `adjust`, what the metric's covariates from before the
    assignment explain is taken out first (CUPED: Deng, Xu, Kohavi and Walker 2013; several covariates by
    multiple regression), with coefficients from both arms together; a proportion is then read like a mean, and
    `control` and `treatment` are the adjusted values.

    The relative effect has Fieller's interval, which contains 0 exactly if the interval of the difference does. For
    a plain proportion the same equation is solved from Newcombe's own score limits (MOVER-R: Donner and Zou 2012).
    `relative="delta"` gives the symmetric first-order interval instead.

    The number is the effect of being assigned, over all assigned accounts; it says nothing about those who used the
    feature. Its interval holds for one look at the planned end, not for a peek every day.

    Args:
        moments: groups by `arm` and any slices, with the columns and pairs that `needed` names.
        metric: what is compared; quantiles and times to an event need rows and come back as NotEstimable.
        control: name of the arm that is compared against.
        treatment: name of the arm that is judged.
        arm: the group column of the arms.
        days: length of the window after assignment, for metrics per week; at least 1.
        pre_days: length of the window before it; at least 1.
        adjust: whether to use the metric's covariates.
        level: confidence level of all intervals, between 0 and 1.
        power: the power with which `mde`, the smallest difference found (normal approximation), would be found.
        relative: which interval `rel_low` to `rel_high` is.

    Raises:
        ParameterError: `level`, `power`, `days` or `pre_days` is out of range, or `relative` is neither of the two.
        DataError: an arm does not occur, or the moments lack a column or a covariance.
    """
    for name, share in (("level", level), ("power", power)):
        if not 0 < share < 1:
            raise ParameterError(f"{name} is {share}, must lie between 0 and 1")
    for name, length in (("days", days), ("pre_days", pre_days)):
        if length < 1:
            raise ParameterError(f"{name} is {length}, must be at least 1")
    if relative not in get_args(Relative):
        raise ParameterError(f"relative is {relative!r}; {did_you_mean(relative, get_args(Relative))}")
    names = (control, treatment)
    if metric.kind in ("quantile", "time_to_event"):
        reason = f"a {metric.kind.replace('_', ' ')} needs the accounts' own values, not their means and covariances"
        arms = moments.split(arm, names)
        return [_not_estimable(metric, reason, row, counts) for row, counts in _slices(arms)]

    columns, _ = needed(metric, adjust=adjust)
    moments = moments.only(columns)
    if np.isnan(moments.scatter).any():
        raise DataError(f"the moments lack a covariance among {', '.join(columns)}; ask for those that `needed` names")
    arms = moments.split(arm, names)
    n = np.array([a.n for a in arms])
    outcome = form(metric, days)
    before = covariates(metric, pre_days) if adjust else ()

    with np.errstate(divide="ignore", invalid="ignore"):  # _obstacles finds what could not be divided
        value, variance, methods, notes = _adjusted(arms, metric, outcome, before)
        if metric.kind == "proportion" and not before:
            methods = ["Newcombe hybrid score interval, p from the pooled z-test"] * len(methods)
            variance, q, below, above, p = _score(value, n, outcome.scale, level)
        else:
            q, p = _welch(value, variance, n, level)
            below = above = q * np.sqrt(variance / n)
        diff = value[1] - value[0]
        se = np.sqrt((variance / n).sum(axis=0))
        low, high = diff - np.hypot(below[1], above[0]), diff + np.hypot(above[1], below[0])
        rel, rel_low, rel_high = relative_limits(value, below, above, q * np.sqrt(variance / n), relative)
    mde = (stats.norm.isf((1 - level) / 2) + stats.norm.ppf(power)) * se

    answers: list[Estimate | NotEstimable] = []
    for i, ((row, counts), reason) in enumerate(zip(_slices(arms), _obstacles(metric, arms, names, se), strict=True)):
        if reason:
            answers.append(_not_estimable(metric, reason, row, counts))
            continue
        if not value[0, i] > 0:
            notes[i].append("no relative effect, because the control value is not above 0")
        elif np.isnan(rel_low[i]):
            notes[i].append("no relative interval, because the control value cannot be told from 0")
        answers.append(
            Estimate(
                metric=metric.name,
                slice=row,
                control=float(value[0, i]),
                treatment=float(value[1, i]),
                diff=float(diff[i]),
                se=float(se[i]),
                low=float(low[i]),
                high=float(high[i]),
                rel=_or_none(rel[i]),
                rel_low=_or_none(rel_low[i]),
                rel_high=_or_none(rel_high[i]),
                p=float(p[i]),
                n_control=counts[0],
                n_treatment=counts[1],
                method=methods[i],
                mde=float(mde[i]),
                level=level,
                note="; ".join(notes[i]),
            )
        )
    return answers


def holm(p: Sequence[float]) -> Floats:
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


def adjust_family(estimates: Sequence[Estimate | NotEstimable]) -> list[Estimate | NotEstimable]:
    """Fill `p_adjusted` by Holm over all estimates of one family; what could not be tested passes through uncounted."""
    adjusted = iter(holm([e.p for e in estimates if isinstance(e, Estimate)]))
    return [replace(e, p_adjusted=float(next(adjusted))) if isinstance(e, Estimate) else e for e in estimates]


def _adjusted(
    arms: Sequence[Moments], metric: Metric, outcome: Form, before: Sequence[Form]
) -> tuple[Floats, Floats, list[str], list[list[str]]]:
    """Give value and account-level variance, (2, g) each, less what the covariates explain; and each group's words."""
    value, weights = _read(arms, outcome)
    cov = np.array([a.cov for a in arms])
    plain = _quadratic(weights, cov)
    method = "Welch t by the delta method" if metric.kind == "ratio" else "Welch t"
    if not before:
        return value, plain, [method] * len(value.T), [[] for _ in value.T]

    total = arms[0] + arms[1]
    theta, used, collinear = _coefficients(total, outcome, before)
    for f, coefficient, use in zip(before, theta.T, used.T, strict=True):
        x, x_weights = _read(arms, f)
        value = value - np.where(use, coefficient * (x - f.read(total)[0]), 0)
        weights = weights - np.where(use[:, None], coefficient[:, None] * x_weights, 0)
    variance = _quadratic(weights, cov)

    n = np.array([a.n for a in arms])
    change = (variance / n).sum(axis=0) / (plain / n).sum(axis=0) - 1
    names = np.array(["own pre-period"] if metric.covariates == "own" else [f.numerator for f in before])
    methods = [
        f"{method}, adjusted for {' and '.join(names[use])} ({_gain(c)})" if use.any() else method
        for use, c in zip(used, change, strict=True)
    ]
    notes = [
        [f"{name} does not vary and was not used" for name in names[~use]]
        + ["one covariate repeats the others, which does not harm the estimate"] * bool(mixed)
        for use, mixed in zip(used, collinear, strict=True)
    ]
    return value, variance, methods, notes


def _gain(change: float) -> str:
    """Say by how much the variance of the difference changed."""
    return f"variance {change:+.0%}".replace("-", "−") if abs(change) >= 0.005 else "without gain"


def _coefficients(
    total: Moments, outcome: Form, before: Sequence[Form]
) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Regress the linearised outcome on the covariates in both arms together: slopes (g, c), which vary, collinear."""
    cov = total.cov
    x, weights = map(np.array, zip(*(f.read(total) for f in before), strict=True))
    sd = np.sqrt(_quadratic(weights, cov)).T
    used = sd > ROUNDING * np.abs(x.T)
    unit = np.where(used, 1 / sd, 0)
    weights = np.where(used.T[:, :, None], weights * unit.T[:, :, None], 0)
    cov = np.where(used.any(axis=1)[:, None, None], cov, 0)  # NaN where an arm is empty
    correlation = np.einsum("agi,gij,bgj->gab", weights, cov, weights)
    slopes = np.nan_to_num(np.einsum("agi,gij,gj->ga", weights, cov, outcome.read(total)[1]))
    inverse = np.linalg.pinv(correlation, rtol=1e-10, hermitian=True)
    rank = np.linalg.matrix_rank(correlation, rtol=1e-10, hermitian=True)
    return np.einsum("gab,gb->ga", inverse, slopes) * unit, used, rank < used.sum(axis=1)


def _read(arms: Sequence[Moments], form_: Form) -> tuple[Floats, Floats]:
    """Read a form from both arms: values (2, g) and weights (2, g, k)."""
    values, weights = zip(*(form_.read(a) for a in arms), strict=True)
    return np.array(values), np.array(weights)


def _quadratic(weights: Floats, cov: Floats) -> Floats:
    """Give w' cov w over the last axes, and exactly 0 where only rounding is left of it."""
    variance = np.einsum("...i,...ij,...j", weights, cov, weights)
    terms = np.einsum("...i,...ij,...j", np.abs(weights), np.abs(cov), np.abs(weights))
    return np.where(variance <= ROUNDING * terms, 0, variance)


def _welch(value: Floats, variance: Floats, n: Floats, level: float) -> tuple[Floats, Floats]:
    """Give the t quantile of the level and the two-sided p (Welch 1947)."""
    share = variance / n
    df = share.sum(axis=0) ** 2 / (share**2 / (n - 1)).sum(axis=0)
    t = (value[1] - value[0]) / np.sqrt(share.sum(axis=0))
    return stats.t.isf((1 - level) / 2, df), 2 * stats.t.sf(np.abs(t), df)


def _score(value: Floats, n: Floats, scale: float, level: float) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Give a share's variance, quantile, Wilson distances below and above (Wilson 1927), and the pooled z-test's p."""
    share = value / scale
    q = np.full(n.shape[1], stats.norm.isf((1 - level) / 2))
    middle = (share + q**2 / (2 * n)) / (1 + q**2 / n)
    half = q * np.sqrt(share * (1 - share) / n + q**2 / (4 * n**2)) / (1 + q**2 / n)
    pooled = (n * share).sum(axis=0) / n.sum(axis=0)
    z = (share[1] - share[0]) / np.sqrt(pooled * (1 - pooled) * (1 / n).sum(axis=0))
    below, above = (np.maximum(distance, 0) * scale for distance in (share - middle + half, middle + half - share))
    return share * (1 - share) * scale**2, q, below, above, 2 * stats.norm.sf(np.abs(z))


def relative_limits(
    value: Floats, below: Floats, above: Floats, half: Floats, how: Relative
) -> tuple[Floats, Floats, Floats]:
    """Give treatment / control - 1 with its limits; NaN where the control is not above 0 or the interval has no end.

    The limits r solve (t - r c)^2 = (distance of t)^2 + r^2 (distance of c)^2 with the arms' own distances from value
    to limit: Fieller (1954) where they are symmetric, MOVER-R (Donner and Zou 2012) where they are not.
    """
    c, t = np.where(value[0] > 0, value[0], np.nan), value[1]
    ratio = t / c
    if how == "delta":
        wide = np.hypot(half[1], ratio * half[0]) / c
        return ratio - 1, ratio - wide - 1, ratio + wide - 1

    def root(off_t: Floats, off_c: Floats, sign: int) -> Floats:
        spread = np.sqrt((off_c * t) ** 2 + (off_t * c) ** 2 - (off_t * off_c) ** 2)
        limit: Floats = (t * c + sign * spread) / (c**2 - off_c**2)
        return limit

    bounded = below[0] < c
    low, high = root(below[1], above[0], -1), root(above[1], below[0], +1)
    return ratio - 1, np.where(bounded, low - 1, np.nan), np.where(bounded, high - 1, np.nan)


def _obstacles(metric: Metric, arms: Sequence[Moments], names: Sequence[str], se: Floats) -> list[str]:
    """Say for each group why it cannot be estimated, or nothing where it can; column 0 holds the numerator."""
    denominator = -1 if metric.denominator is None else arms[0].columns.index(metric.column(metric.denominator))

    def of_arm(a: Moments, name: str, i: int) -> str:
        if a.n[i] < 2:
            return f"{name} has {a.n[i]:.0f} accounts, at least 2 are needed"
        if denominator >= 0 and a.mean[i, denominator] == 0:
            return f"the denominator is 0 for all accounts of {name}"
        share = a.mean[i, 0]
        if metric.kind == "proportion" and not np.isclose(a.scatter[i, 0, 0], a.n[i] * share * (1 - share), atol=1e-6):
            return f"{a.columns[0]} holds values other than 0 and 1 in {name}, so it is no proportion"
        return ""

    return [
        next(filter(None, (of_arm(a, name, i) for a, name in zip(arms, names, strict=True))), "")
        or ("" if se[i] > 0 else "the values do not vary within either arm")
        for i in range(len(se))
    ]


def _slices(arms: Sequence[Moments]) -> list[tuple[Mapping[str, str], tuple[int, int]]]:
    """Label each group, with its number of accounts in control and treatment."""
    labels = arms[0].groups.astype(str).to_dict("records") or [{}]
    return [
        ({str(k): v for k, v in row.items()}, (int(c), int(t)))
        for row, c, t in zip(labels, arms[0].n, arms[1].n, strict=True)
    ]


def _not_estimable(metric: Metric, reason: str, row: Mapping[str, str], counts: tuple[int, int]) -> NotEstimable:
    return NotEstimable(metric=metric.name, reason=reason, slice=row, n_control=counts[0], n_treatment=counts[1])


def _or_none(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
