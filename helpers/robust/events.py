"""Quantiles of events (delays, times to the first play) for a launch's metric, with accounts as what was assigned."""

from __future__ import annotations

import numpy as np

from helpers import units
from helpers.metrics import Metric
from helpers.results import Estimate, NotEstimable
from helpers.robust import quantiles
from helpers.study import Study
from helpers.units import query


def compare(data: Study, metric: Metric, *, treatment: str, level: float | None = None) -> Estimate | NotEstimable:
    """Compare a metric of kind quantile between treatment and control over all its events in the window.

    The interval is at the launch's level if none is given.

    Only events with a value are in it: a session in which nothing was ever played has no time to the first play, and a
    launch that makes slow sessions give up looks faster. Read the share that never played beside it. Events count
    equally, also where the accounts were drawn with unequal probabilities.

    Raises:
        DataError: the data break the contract.
    """
    if metric.quantile is None:
        return NotEstimable(metric=metric.name, reason=f"a {metric.kind} is no quantile of events")
    if reason := units.why_not(data, metric):
        return NotEstimable(metric=metric.name, reason=reason)
    launch, events = data.launch, query.values(data, metric)
    arms = []
    for name in (launch.arms.control, treatment):
        rows = events.filter(events.arm == name).select("account", "value").execute()
        arms.append((rows["value"].to_numpy(np.float64), rows["account"].to_numpy()))
    rule = launch.decision
    (answer,) = quantiles.of_events(
        arms[0], arms[1], [metric.quantile], metric=metric.name, level=level or 1 - rule.alpha, power=rule.power
    )
    return answer
