"""The course of an effect: both arms' means by day or week, with the covariances that comparing them needs."""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, Literal, get_args

import ibis
import numpy as np
from ibis import _
from scipy import special, stats

from helpers import moments, units
from helpers.clock import seconds
from helpers.errors import ParameterError, did_you_mean
from helpers.inference import Form
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import WEIGHT
from helpers.results import Check, Estimate, NotEstimable, closed, nothing
from helpers.timeline.bands import joint_quantile

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from helpers.moments import Moments
    from helpers.study import Study

    Floats = npt.NDArray[np.float64]

Clock = Literal["assignment", "calendar", "visit"]
_DAY = 86_400
THIS = sys.modules[__name__]
_FRAME = ["from_day", "control", "treatment", "effect", "low", "high", "joint_low", "joint_high"]
LOG_RATIO = "log ratio"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """Both arms' means in successive periods of `step_days`, in `unit`: that of the metric, or of it in one period.

    `starts` (w) are the periods' first days, counted from the clock's zero; before it they are negative. `mean` (2, w)
    holds control, then treatment; `cov` (2, w, w) the covariances of these means, because the same accounts are
    in every period. `n` counts what was drawn into each arm, accounts or clusters of so many `accounts`; `level` is
    that of all intervals made from it.

    `window_days` is the metric's own window, 0 for all that is there; `adds_up` says that the metric is the sum of its
    periods over that window, such as hours, and not a rate or a ratio, of which a period has one of its own.
    """

    metric: str
    unit: str
    starts: tuple[int, ...]
    step_days: int
    mean: Floats
    cov: Floats
    n: tuple[int, int]
    accounts: tuple[int, int] | None = None
    method: str
    level: float = 0.95
    slice: Mapping[str, str] = field(default_factory=dict)
    window_days: int = 0
    adds_up: bool = False

    @property
    def effect(self) -> Floats:
        """Give treatment minus control (w,)."""
        difference: Floats = self.mean[1] - self.mean[0]
        return difference

    @property
    def effect_cov(self) -> Floats:
        """Give the covariance (w, w) of the effects."""
        return self.cov.sum(axis=0)

    @property
    def after(self) -> npt.NDArray[np.bool_]:
        """Say which periods lie after the clock's zero."""
        return np.array(self.starts) >= 0

    @property
    def own(self) -> npt.NDArray[np.bool_]:
        """Say which periods lie within the metric's own window after the clock's zero."""
        ends = np.array(self.starts) + self.step_days
        return self.after & ((ends <= self.window_days) | (not self.window_days))

    @property
    def periods(self) -> float:
        """Give how many periods of its window a metric that adds up is the sum of; 1 for a rate."""
        return self.window_days / self.step_days if self.adds_up and self.window_days else 1.0

    def since(self) -> Course:
        """Keep the periods after the clock's zero."""
        keep = self.after
        return replace(
            self,
            starts=tuple(np.array(self.starts)[keep].tolist()),
            mean=self.mean[:, keep],
            cov=self.cov[:, keep][:, :, keep],
        )


def measure(
    data: Study,
    metric: Metric,
    *,
    treatment: str = "",
    step_days: int = 7,
    clock: Clock = "assignment",
    by: str = "",
    adjust: bool = True,
    checks: Sequence[Check] = (),
) -> dict[str, Course | NotEstimable]:
    """Measure a metric in every period for both arms, with one scan of its tables and one Moments.

    Accounts that were drawn with unequal probabilities are weighted to the population.

    Args:
        data: the study; its launch says the window.
        metric: a mean, count or ratio whose measures add up over events.
        treatment: the arm to judge; empty means the launch's first.
        step_days: length of a period, at least 1; what is left at the end of the window is not read.
        clock: from where periods count: each account's assignment, the calendar (the launch's first midnight), or its
            first visit after assignment. The first visit is the same event in both arms, and before it nothing new can
            have been seen; only accounts that come in the first seven days are read then, each for as many periods.
        by: a segment of the launch whose levels are read too; ignored where no segment, or clusters drawn.
        adjust: whether to take out what the same metric before the launch explains, period by period (CUPED); the
            periods before it are then used up. Otherwise they come first, with negative days.
        checks: of the data; where one failed, no effect is read.

    Returns:
        The course of all accounts under "all", then one for each level of `by`, from the same scan. Where the data have
        no times, or too short a window, it is NotEstimable, with the reason. A course of effects per assigned account
        says nothing about why they move.
    """
    if step_days < 1:
        raise ParameterError(f"step_days is {step_days}, must be at least 1")
    if clock not in get_args(Clock):
        raise ParameterError(f"clock is {clock!r}; {did_you_mean(clock, get_args(Clock))}")
    launch = data.launch
    arms = (launch.arms.control, launch.judged(treatment))
    days = launch.days - (7 if clock == "visit" else 0)
    post, pre = max(days, 0) // step_days, units.days_before(data, metric.tables) // step_days
    reason = closed(checks) or obstacle(data, metric, clock, post)
    if reason:
        return {"all": NotEstimable(metric=metric.name, reason=reason)}

    by = by if by in launch.segments and not units.clusters(data) else ""
    past = pre > 0 and metric.covariates == "own"
    adjusted = adjust and past and bool(units.covariates(data, metric))
    starts = [step_days * p for p in range(0 if adjust or not past or clock == "visit" else -pre, post)]
    columns = {m.name(): _columns(f"m{i}_", starts, step_days) for i, m in enumerate(metric.measures)}
    before = {m.name(): f"m{i}_pre" for i, m in enumerate(metric.measures)} if adjusted else {}
    rows = _wide(data, metric, columns, before, clock=clock, step_days=step_days)
    heavy, cluster = units.weighted(data), units.CLUSTER if units.clusters(data) else None
    weighted, groups = heavy or cluster is not None, ["arm", *([by] if by else [])]
    if more := [*([by] if by else []), *([WEIGHT] * heavy), *([cluster] if cluster else [])]:
        rows = rows.join(units.load(data).select("account", *more), "account")
    rows = rows.filter(_.arm.isin(arms))
    names = [*(c for group in columns.values() for c in group.values()), *before.values(), *([WEIGHT] * weighted)]
    pairs = list(combinations_with_replacement(names, 2))
    read = moments.from_table(rows, columns=names, pairs=pairs, by=groups, weighted=heavy, cluster=cluster)
    scale = 7 / step_days if metric.per_week else 1.0
    over = WEIGHT if weighted else None
    forms = [form(metric, [columns[m.name()][start] for m in metric.measures], scale, over) for start in starts]
    covariate = form(metric, [before[m.name()] for m in metric.measures], 1.0, over) if before else None
    found = _courses(read, arms, metric, forms, covariate, starts=starts, step_days=step_days, by=by, clock=clock)
    level, window = 1 - launch.error(metric.name), metric.window_days or launch.days
    return {
        name: replace(one, level=level, window_days=window) if isinstance(one, Course) else one
        for name, one in found.items()
    }


def chosen(data: Study, name: str = "") -> units.Chosen:
    """Find the metric whose weeks a chapter follows: the one named, or the first of the plan that has some.

    Raises:
        ParameterError: the plan has no such metric.
    """
    return units.chosen(data, name, obstacle=lambda m: obstacle(data, m, "assignment", data.launch.days // 7))


def adds_up(metric: Metric) -> bool:
    """Say whether a metric is the sum of its periods: neither a rate by week nor a ratio."""
    return metric.denominator is None and not metric.per_week


def is_relative(course: Course | NotEstimable) -> bool:
    """Say whether effects are log ratios, as `relative` gives them where control is above 0 in every period."""
    return isinstance(course, Course) and course.unit == LOG_RATIO


def axis(course: Course | NotEstimable) -> str:
    """Name what `frame` has of a course's effects: with their unit, or as relative changes."""
    if isinstance(course, NotEstimable) or is_relative(course):
        return "Effect, relative to control"
    return f"Effect, {course.unit}"


def unit(metric: Metric, step_days: int) -> str:
    """Name the unit of a metric's periods.

    >>> from helpers import metrics
    >>> unit(metrics.get("show_hours_per_account"), 7), unit(metrics.get("hours_per_account_week"), 7)
    ('h per 7 days', 'h/week')
    """
    return f"{metric.unit} per {'day' if step_days == 1 else f'{step_days} days'}" if adds_up(metric) else metric.unit


def contrast(
    course: Course | NotEstimable,
    weights: Sequence[float] | Floats,
    *,
    name: str = "",
    arm: Literal["", "treatment"] = "",
) -> Estimate | NotEstimable:
    """Estimate a weighted sum of the periods' effects, such as late minus early, with its interval.

    Welch's t with the degrees of freedom of the two arms' own contrasts. With `arm="treatment"` the sum is over the
    treated arm's own means and control is left out: a before/after, which takes for an effect whatever else happened.

    Args:
        course: the periods.
        weights: (w,), one for each period.
        name: what the contrast is called; empty means the metric's name.
        arm: which arms are read.

    >>> flat = Course(metric="hours", unit="h", starts=(0, 7), step_days=7, mean=np.array([[1.0, 1.0], [1.5, 1.1]]),
    ...               cov=np.array([np.eye(2), np.eye(2)]) * 1e-4, n=(100, 100), method="by hand")
    >>> round(contrast(flat, [1, -1]).diff, 3)
    0.4
    """
    if isinstance(course, NotEstimable):
        return course
    w = np.asarray(weights, dtype=np.float64)
    values, parts = course.mean @ w, np.einsum("i,aij,j->a", w, course.cov, w)
    n = np.array(course.n, dtype=np.float64)
    if arm:
        values, parts = np.array([-(course.mean[1] @ np.minimum(w, 0)), course.mean[1] @ np.maximum(w, 0)]), parts[1:]
        n = n[1:]
    total = parts.sum()
    if not total > 0:
        return NotEstimable(metric=name or course.metric, reason="the values do not vary within the arms")
    df = total**2 / (parts**2 / (n - 1)).sum()
    diff, se = values[1] - values[0], np.sqrt(total)
    low, high = (float(diff + side * special.stdtrit(df, (1 + course.level) / 2) * se) for side in (-1, 1))
    ratio = course.unit == LOG_RATIO and not arm
    rel, rel_low, rel_high = (math.expm1(v) if ratio else None for v in (float(diff), low, high))
    return Estimate(
        metric=name or course.metric,
        slice=course.slice,
        control=float(values[0]),
        treatment=float(values[1]),
        diff=float(diff),
        se=float(se),
        low=low,
        high=high,
        rel=rel,
        rel_low=rel_low,
        rel_high=rel_high,
        p=float(2 * special.stdtr(df, -abs(diff / se))),
        n_control=(course.accounts or course.n)[0],
        n_treatment=(course.accounts or course.n)[1],
        method=f"{'treated arm alone, ' if arm else ''}{course.method}",
        mde=float((special.ndtri((1 + course.level) / 2) + special.ndtri(0.8)) * se),
        level=course.level,
        note="differences of logarithms" if ratio else "no relative effect, because it is read over periods",
    )


def relative(course: Course | NotEstimable) -> Course | NotEstimable:
    """Turn means into their logarithms: effects become log ratios, which a busy season leaves alone.

    A launch that adds a tenth adds more hours at Christmas; only against the control of the same days is it steady.
    First-order covariances (delta method). A course with a mean that is not above 0 comes back as it is.
    """
    if isinstance(course, NotEstimable) or not (course.mean > 0).all():
        return course
    each = course.mean[:, :, None] * course.mean[:, None, :]
    return replace(course, unit=LOG_RATIO, mean=np.log(course.mean), cov=course.cov / each)


def frame(course: Course | NotEstimable) -> pd.DataFrame:
    """Lay the periods out, one row each, with pointwise intervals and the joint band of all; no rows if there are none.

    Effects that are log ratios come back as relative changes. A period in which no account varies has no limits: that
    nobody had any says little of who might.
    """
    import pandas as pd

    if isinstance(course, NotEstimable):
        return nothing(course.reason, _FRAME)
    variance = np.diag(course.effect_cov)
    se = np.sqrt(np.where(variance > 0, variance, np.nan))
    half, band = stats.norm.isf((1 - course.level) / 2) * se, joint_quantile(course.effect_cov, course.level) * se
    lines = [course.effect + shift for shift in (0.0, -half, half, -band, band)]
    if course.unit == LOG_RATIO:
        lines = [np.expm1(line) for line in lines]
    mean = np.exp(course.mean) if course.unit == LOG_RATIO else course.mean
    values = [course.starts, *mean, *lines]
    return pd.DataFrame(dict(zip(_FRAME, values, strict=True))).assign(**course.slice)


def obstacle(data: Study, metric: Metric, clock: Clock, post: int) -> str:
    """Say why a metric has no course in these data, or nothing where it has one."""
    if UNITS_TABLE in data.tables:
        return (
            "these data are one table with a row per account, without times; a course needs event tables, such as "
            "'plays' or 'sessions', in which every row says when it happened"
        )
    if reason := units.why_not(data, replace(metric, window_days=None)) or units.together(data, "a course", few=True):
        return reason
    if any(m.agg == "any" for m in metric.measures):
        return (
            "the metric asks whether an account ever did something within the window: the weeks of such a share do not "
            "add up to it, and fall once everybody has; ask a sum or a count, such as days on which it was done"
        )
    if not metric.averaged or not all(m.adds_up for m in metric.measures):
        return "it is no sum over events of accounts, so that weeks of it do not add up to the whole"
    if clock == "visit" and "sessions" not in data.tables:
        return "counting from the first visit needs table 'sessions', which is not among the data"
    assigned = data.assignments
    dated = clock == "calendar" and "assigned_at" in assigned.columns
    if dated and assigned.assigned_at.cast("date").nunique().execute() > 1:
        return "accounts were assigned on several days, and a week of the calendar holds some before their own"
    return "" if post >= 2 else "the window holds fewer than two periods, so that there is no course"


def _columns(prefix: str, starts: Sequence[int], step_days: int) -> dict[int, str]:
    """Name a column for each period, by its first day."""
    return {start: f"{prefix}{start // step_days}".replace("-", "b") for start in starts}


def form(metric: Metric, columns: Sequence[str], scale: float, weight: str | None = None) -> Form:
    """Say how the columns of a period are read: a mean, which may be weighted, or the ratio of two."""
    if metric.denominator is None:
        return Form(numerator=columns[0], denominator=weight, scale=scale)
    return Form(numerator=columns[0], denominator=columns[1])


def _wide(
    data: Study,
    metric: Metric,
    columns: Mapping[str, Mapping[int, str]],
    before: Mapping[str, str],
    *,
    clock: Clock,
    step_days: int,
) -> ibis.Table:
    """Give every assigned account a row, with one column per measure and period; zero where nothing happened."""
    rows = units.drawn(data).select("account", "arm")
    zero = _visits(data) if clock == "visit" else None
    if zero is not None:
        rows = rows.semi_join(zero, "account")
    for measure_ in metric.measures:
        named = columns[measure_.name()]
        found = _per_period(data, measure_, named, before.get(measure_.name()), zero, clock, step_days)
        rows = rows.left_join(found, "account").drop("account_right")
    filled = [c for c in rows.columns if c not in ("account", "arm")]
    rows = rows.mutate(**{c: _[c].cast("float64").fill_null(0.0) for c in filled})
    return units.kept(data, "courses", rows, metric.measures, columns, before, clock, step_days, code=[THIS])


def _per_period(
    data: Study,
    measure_: Measure,
    named: Mapping[int, str],
    before: str | None,
    zero: ibis.Table | None,
    clock: Clock,
    step_days: int,
) -> ibis.Table:
    """Add one measure up by account and period: from its daily amounts, or its events where these count otherwise."""
    if zero is None and (clock == "assignment" or _at_once(data)):
        events = units.daily(data, measure_)
        events = events.mutate(period=(_.day / step_days).floor().cast("int64"), before=_.day < 0)
    else:
        events = units.near(data, measure_)
        events = events.mutate(zero=_launch_day(data)) if zero is None else events.join(zero, "account")
        period = (seconds(events["at"]) - seconds(events.zero)) / (_DAY * step_days)
        events = events.mutate(period=period.floor().cast("int64"), before=events["at"] < events.anchor)
    value = events.value.cast("float64")
    periods = {name: value.sum(where=events.period == start // step_days) for start, name in named.items()}
    past = {before: value.sum(where=events.before)} if before else {}
    return events.aggregate(by="account", **periods, **past)


def _at_once(data: Study) -> bool:
    """Say whether all accounts were assigned at the launch's first midnight, so that their days are the calendar's."""
    if "assigned_at" not in data.assignments.columns:
        return True
    found = data.assignments.aggregate(same=(_.assigned_at.cast("timestamp('UTC')") == _launch_day(data)).all())
    return bool(found.execute()["same"].iloc[0])


def _visits(data: Study) -> ibis.Table:
    """Find each account's first visit after assignment, of those that come in the first seven days."""
    visits = units.near(data, Measure(table="sessions", agg="count")).filter(_["at"] >= _.anchor)
    first = visits.aggregate(by="account", zero=_["at"].min(), anchor=_.anchor.max())
    return first.filter(_.zero < _.anchor + ibis.interval(days=7)).select("account", "zero")


def _launch_day(data: Study) -> Any:
    start = data.launch.dates.start if data.launch.dates else dt.date.min
    return ibis.literal(dt.datetime.combine(start, dt.time(), tzinfo=dt.UTC))


def _courses(
    read: Moments,
    arms: tuple[str, str],
    metric: Metric,
    forms: Sequence[Form],
    covariate: Form | None,
    *,
    starts: Sequence[int],
    step_days: int,
    by: str,
    clock: Clock,
) -> dict[str, Course | NotEstimable]:
    """Turn the moments of each slice into a course."""
    levels_ = [(str(level), read.select(**{by: level})) for level in sorted(set(read.groups[by]))] if by else []
    found: dict[str, Course | NotEstimable] = {}
    for level, part in [("all", read), *levels_]:
        row = {} if part is read else {by: level}
        present = part.pool(by=["arm"])
        sizes = dict(zip(present.groups["arm"], present.n, strict=True))
        held = dict(zip(present.groups["arm"], present.accounts.astype(int), strict=True))
        if min(sizes.get(arm, 0) for arm in arms) < 2:
            reason = "an arm has fewer than 2 accounts"
            found[level] = NotEstimable(metric=metric.name, reason=reason, slice=row)
            continue
        mean, cov, n = _read([present.select(arm=arm) for arm in arms], forms, covariate)
        if not np.isfinite(mean).all():
            reason = "the denominator is 0 in a period of an arm"
            found[level] = NotEstimable(metric=metric.name, reason=reason, slice=row)
            continue
        since = {"assignment": "assignment", "calendar": "launch day", "visit": "first visit"}[clock]
        adjusted = ", adjusted for the time before" if covariate else ""
        found[level] = Course(
            metric=metric.name,
            unit=unit(metric, step_days),
            adds_up=adds_up(metric),
            starts=tuple(starts),
            step_days=step_days,
            mean=mean,
            cov=cov,
            n=(int(n[0]), int(n[1])),
            accounts=None if read.held is None else (held[arms[0]], held[arms[1]]),
            method=f"Welch t on periods of {step_days} days from {since}{adjusted}"
            + ", over clusters of accounts" * (read.held is not None),
            slice=row,
        )
    return found


def _read(
    arms: Sequence[Moments], forms: Sequence[Form], covariate: Form | None
) -> tuple[Floats, Floats, tuple[int, int]]:
    """Read every period from both arms: means (2, w) and their covariances (2, w, w), adjusted where asked."""
    values = np.array([[f.read(a)[0][0] for f in forms] for a in arms])
    weights = np.array([[f.read(a)[1][0] for f in forms] for a in arms])
    if covariate is not None:
        total = arms[0].pool() + arms[1].pool()
        x, towards = covariate.read(total)
        variance = towards[0] @ total.cov[0] @ towards[0]
        outcome = np.array([f.read(total)[1][0] for f in forms])
        slope = outcome @ total.cov[0] @ towards[0] / variance if variance > 0 else np.zeros(len(forms))
        for i, a in enumerate(arms):
            own, own_weights = covariate.read(a)
            values[i] -= slope * (own[0] - x[0])
            weights[i] -= np.outer(slope, own_weights[0])
    cov = np.array([w @ a.cov[0] @ w.T / a.n[0] for w, a in zip(weights, arms, strict=True)])
    same = np.arange(len(forms))
    cov[:, same, same] = np.maximum(cov[:, same, same], 0.0)  # below 0 by rounding only
    return values, cov, (int(arms[0].n[0]), int(arms[1].n[0]))
