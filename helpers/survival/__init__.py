"""How long until it happens: survival of two arms, where some accounts were not watched to the end.

Of each arm only a tally is read: when accounts had the event, when they were last seen without it, and how many. The
main number is the difference in restricted mean survival time: the days without the event within the window, on
average. It is in the metric's unit, everybody can read it, and it needs no proportional hazards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd
from ibis import _

from helpers import units
from helpers.errors import ParameterError
from helpers.metrics import CATALOGUE, Metric
from helpers.moments import WEIGHT
from helpers.results import Check, Estimate, NotEstimable, figures, nothing
from helpers.survival.hazards import HazardRatio, LogRank, hazard_ratio, log_rank
from helpers.survival.kaplan_meier import Tally, counted, curve, restricted_mean, surviving, watched
from helpers.units import STRATUM, Cell

if TYPE_CHECKING:
    from helpers.study import Study

MOST_TIMES = 10_000  # distinct times that are kept apart; more are rounded to as many even steps
NO_TIMES = "no metric of the launch is the time until an event, or a check of the data failed"
CURVE = ["arm", "time", "survival", "low", "high", "at_risk"]
READINGS = ["reading", "value", "low", "high", "p", "note"]


def compare(
    data: Study, metric: Metric, *, treatment: str, by: Sequence[str] = (), level: float | None = None
) -> list[Estimate | NotEstimable]:
    """Compare the restricted mean of a time on an own table whose `event` says who was censored, slice by slice.

    The intervals are at the launch's level if none is given.

    The engine counts accounts by arm, time and event. More than 10,000 distinct times are rounded to as many even
    steps, and the method says so; the mean then moves by less than half a step. Without a `horizon` it is as long as
    both arms were watched in every slice.

    Raises:
        DataError: the data break the contract.
    """
    if apart := units.together(data, "a time with censoring"):
        levels = units.load(data).select(*by).distinct().order_by(*by).execute().to_dict("records") if by else [{}]
        return [NotEstimable(metric=metric.name, reason=apart, slice=row) for row in levels]
    slices, step = _tallies(data, metric, by)
    control, chance = data.launch.arms.control, data.launch.decision.power
    level = level or 1 - data.launch.error(metric.name)
    both = {row: (arms[control], arms[treatment]) for row, arms in slices.items() if {control, treatment} <= set(arms)}
    horizon = metric.horizon or (watched([a for pair in both.values() for a in pair]) if both else None)
    found: list[Estimate | NotEstimable] = []
    for row, arms in slices.items():
        label = dict(zip(by, row, strict=True))
        if row not in both:
            n = {arm: a.n for arm, a in arms.items()}
            reason = "an arm has no accounts here"
            counts = {"n_control": n.get(control, 0), "n_treatment": n.get(treatment, 0)}
            found.append(NotEstimable(metric=metric.name, reason=reason, slice=label, **counts))
            continue
        e = restricted_mean(
            *both[row], horizon=horizon, metric=metric.name, level=level, power=chance, small_groups=True
        )
        if isinstance(e, Estimate):
            told = [e.note] if e.note else []
            told += [] if metric.horizon else ["'horizon' is not set: it is as long as both arms were watched"]
            e = replace(e, method=e.method + step, note="; ".join(told))
        found.append(replace(e, slice=label))
    return found


def timed(data: Study) -> Metric:
    """Choose the time to an event that the pages draw: the plan's first that can be measured, else time to cancel."""
    planned = (p.metric for p in units.measurable(data) if p.metric.kind == "time_to_event")
    return next(planned, CATALOGUE["time_to_cancel"])


def curves(
    data: Study, metric: Metric | None = None, *, treatment: str = "", checks: Iterable[Check] = ()
) -> pd.DataFrame:
    """Estimate both arms' curves, for `plots.survival`.

    Args:
        data: the study.
        metric: of kind time_to_event, in the plan or not; None means `timed`.
        treatment: the arm beside the control; empty means the launch's first.
        checks: of the data; where one failed, nothing is shown.

    Returns:
        arm, time (in the metric's unit; whole days of the window for event tables), survival, low and high (pointwise,
        at the launch's level) and at_risk; no rows where the data do not hold it.

    Raises:
        ParameterError: the metric is no time to an event, or the launch has no such treatment arm.
    """
    metric = metric or timed(data)
    if metric.kind != "time_to_event":
        raise ParameterError(f"metric {metric.name!r} is a {metric.kind}; a curve is drawn of kind time_to_event")
    pair = _pair(data, metric, treatment, checks)
    if pair is None:
        return nothing(units.together(data, "a curve over time") or NO_TIMES, CURVE)
    times = np.unique(np.concatenate([a.time for a in pair.values()]))
    if metric.event is None:
        at = metric.numerator.scale * np.arange((metric.window_days or data.launch.days) + 1.0)
    else:
        at = np.linspace(0, times[-1], 61) if len(times) > 60 else np.unique([0, *times])
    level = 1 - data.launch.error(metric.name)
    found = [curve(a, at=at, level=level).assign(arm=arm) for arm, a in pair.items()]
    return pd.concat(found, ignore_index=True)[CURVE]


def readings(
    data: Study, metric: Metric | None = None, *, treatment: str = "", checks: Iterable[Check] = ()
) -> pd.DataFrame:
    """Read two curves in four ways; arguments are those of `curves`.

    Returns:
        reading, value, low, high, p and note: the difference in restricted means (what the scorecard shows, without
        adjustment), that in survival at the end, the ratio of hazards, and the log-rank test, which has a p only.
    """
    metric = metric or timed(data)
    pair = _pair(data, metric, treatment, checks)
    if pair is None:
        return nothing(units.together(data, "a curve over time") or NO_TIMES, READINGS)
    control, treated = pair.values()
    level, end = 1 - data.launch.error(metric.name), metric.horizon or watched([control, treated])
    mean = restricted_mean(control, treated, horizon=end, level=level, small_groups=True)
    share = surviving(control, treated, at=end, level=level, small_groups=True)
    hazard, test = hazard_ratio(control, treated, level=level), log_rank([control, treated])
    rows = (
        _row(f"difference in {metric.unit or 'time'} without the event, up to {end:g}", mean),
        _row(f"difference in the share without it at {end:g}", share),
        _row("ratio of hazards", hazard),
        _row("log-rank test", test),
    )
    return pd.DataFrame(rows, columns=READINGS)


def _row(reading: str, found: Estimate | HazardRatio | LogRank | NotEstimable) -> dict[str, Any]:
    if isinstance(found, NotEstimable):
        return {"reading": reading, "note": found.reason}
    told: dict[str, Any] = {"reading": reading, "p": found.p}
    if isinstance(found, LogRank):
        return told | {"note": f"{found.method}: whether the curves differ, not by how much"}
    value = found.diff if isinstance(found, Estimate) else found.ratio
    return told | {"value": value, "low": found.low, "high": found.high, "note": found.method}


def _pair(data: Study, metric: Metric, treatment: str, checks: Iterable[Check]) -> dict[str, Tally] | None:
    """Count both arms; None where a check failed, the data do not hold the metric, or accounts were drawn together."""
    named = data.launch.arms
    treatment = data.launch.judged(treatment)
    if any(c.passed is False for c in checks) or units.why_not(data, metric) or units.clusters(data):
        return None
    arms = _tallies(data, metric, ())[0][()]
    return {name: arms[name] for name in (named.control, treatment)}


def _tallies(data: Study, metric: Metric, by: Sequence[str]) -> tuple[dict[tuple[str, ...], dict[str, Tally]], str]:
    """Count accounts by slice, arm, time and event in the engine, and say to what step the times were rounded."""
    measure, table = metric.numerator, units.rows(data, [Cell(m, "post", metric.window_days) for m in metric.measures])
    time, scale = table[metric.column(measure)], measure.scale
    if metric.event is None:
        event = time < (metric.window_days or data.launch.days)
    else:
        event = table[metric.column(metric.event)] == 1
    seen = table.aggregate(n=time.nunique(), last=time.max()).execute().iloc[0]
    step = float(seen["last"]) / MOST_TIMES if seen["n"] > MOST_TIMES else 0.0
    weight = table[WEIGHT] if WEIGHT in table.columns else ibis.literal(1.0)
    stratum = table[STRATUM] if STRATUM in table.columns and not by else ibis.literal("")
    rows = (
        table.select(
            "arm", *by, stratum=stratum, time=(time / step).round() * step if step else time, event=event, weight=weight
        )
        .aggregate(
            by=["arm", *by, "stratum", "time", "event"],
            accounts=_.count(),
            weight=_.weight.sum(),
            square=(_.weight**2).sum(),
        )
        .execute()
    )
    rows = rows.assign(time=rows["time"] * scale, stratum=pd.factorize(rows["stratum"], sort=True)[0])
    found: dict[tuple[str, ...], dict[str, Tally]] = {}
    for (arm, *row), part in rows.groupby(["arm", *by]):
        found.setdefault(tuple(map(str, row)), {})[str(arm)] = counted(part)
    return found, f", times rounded to {figures(step * scale)}" if step else ""
