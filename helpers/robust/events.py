"""Quantiles for a launch's metric: of events (delays, times to the first play), or of amounts per account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from ibis import _

from helpers import inference, units
from helpers.metrics import Metric
from helpers.results import Estimate, NotEstimable
from helpers.robust import accounts, quantiles
from helpers.study import Study
from helpers.units import query

if TYPE_CHECKING:
    import pandas as pd


def compare(data: Study, metric: Metric, *, treatment: str, level: float | None = None) -> Estimate | NotEstimable:
    """Compare a metric of kind quantile between treatment and control: over accounts, or over all events in the window.

    A measure that gives each account one amount (a column of an own table, a sum of its events) has the quantile of
    accounts (`quantiles.difference`); one that stands for the events' own values (`each`) that of events, with accounts
    as what was assigned (`quantiles.of_events`). The interval is at the launch's level if none is given.

    Of events, only those with a value are in it: a session in which nothing was ever played has no time to the
    first play, and a launch that makes slow sessions give up looks faster. Read the share that never played beside
    it. All count equally, also where the accounts were drawn with unequal probabilities.

    Raises:
        DataError: the data break the contract.
    """
    if metric.quantile is None:
        return NotEstimable(metric=metric.name, reason=f"a {metric.kind} is no quantile")
    if reason := units.why_not(data, metric):
        return NotEstimable(metric=metric.name, reason=reason)
    if metric.per_account:
        people, rule = accounts.read(data, metric.name, treatment=treatment), data.launch.decision
        level, arms = level or 1 - data.launch.error(metric.name), (people.control, people.treatment)
        return quantiles.difference(*arms, [metric.quantile], metric=metric.name, level=level, power=rule.power)[0]
    events = query.values(data, metric)
    names = (data.launch.arms.control, treatment)
    each = [events.filter(events.arm == name).select("account", "value").execute() for name in names]
    return _answer(data, metric, each, level)


def within(
    data: Study, metric: Metric, by: str, *, treatment: str, level: float | None = None
) -> list[Estimate | NotEstimable]:
    """Compare a metric of kind quantile as `compare` does, in every level of an attribute of the launch.

    Raises:
        DataError: the data break the contract.
    """
    table, names = units.load(data), (data.launch.arms.control, treatment)
    if metric.per_account:
        scale = inference.form(metric, metric.window_days or data.launch.days).scale
        column = metric.numerator.name("post", metric.window_days)
        rows = table.mutate(value=table[column].cast("float64") * scale, level=table[by])
    else:
        rows = query.values(data, metric).join(table.select("account", level=by), "account")
    found = rows.filter(_.arm.isin(names)).select("account", "arm", "level", "value").execute()
    answers: list[Estimate | NotEstimable] = []
    for label in sorted(table.select(by).distinct().execute()[by]):
        arms = [found[(found["level"] == label) & (found["arm"] == name)] for name in names]
        answers.append(replace(_answer(data, metric, arms, level), slice={by: label}))
    return answers


def _answer(data: Study, metric: Metric, arms: Sequence[pd.DataFrame], level: float | None) -> Estimate | NotEstimable:
    """Compare the quantile of accounts, or of events with their accounts: control first."""
    rule, shares = data.launch.decision, [float(metric.quantile or 0)]
    level = level or 1 - data.launch.error(metric.name)
    x, y = (rows["value"].to_numpy(np.float64) for rows in arms)
    if metric.per_account:
        return quantiles.difference(x, y, shares, metric=metric.name, level=level, power=rule.power)[0]
    control, treatment = zip((x, y), (rows["account"].to_numpy() for rows in arms), strict=True)
    return quantiles.of_events(control, treatment, shares, metric=metric.name, level=level, power=rule.power)[0]
