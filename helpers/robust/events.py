"""Quantiles for a launch's metric: of events (delays, times to the first play), or of amounts per account."""

from __future__ import annotations

import numpy as np

from helpers import units
from helpers.metrics import Metric
from helpers.results import Estimate, NotEstimable
from helpers.robust import accounts, quantiles
from helpers.study import Study
from helpers.units import query


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
    launch, rule = data.launch, data.launch.decision
    name, level, shares = metric.name, level or 1 - rule.alpha, [metric.quantile]
    if metric.per_account:
        people = accounts.read(data, metric.name, treatment=treatment)
        arms = (people.control, people.treatment)
        return quantiles.difference(*arms, shares, metric=name, level=level, power=rule.power)[0]
    events, each = query.values(data, metric), []
    for arm in (launch.arms.control, treatment):
        rows = events.filter(events.arm == arm).select("account", "value").execute()
        each.append((rows["value"].to_numpy(np.float64), rows["account"].to_numpy()))
    return quantiles.of_events(each[0], each[1], shares, metric=name, level=level, power=rule.power)[0]
