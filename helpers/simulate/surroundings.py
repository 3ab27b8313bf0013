"""What surrounds the accounts: campaigns, the calendar, and the load that all their viewing adds up to."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa

from helpers.simulate.simulation import Simulation


def marketing(simulation: Simulation) -> pa.Table:
    """Spend by region and day: the usual, and since the launch the scenario's campaign."""
    logs, horizon = simulation.logs, simulation.pre_days + simulation.days
    days = np.tile(np.arange(horizon) - simulation.pre_days, len(simulation.people.regions))
    regions = np.repeat(np.arange(len(simulation.people.regions)), horizon)
    spend = logs.spend * (1 + 10 * np.take(logs.campaign, regions) * (days >= 0))
    return pa.table(
        {
            "region": np.take([label for label, _ in simulation.people.regions], regions),
            "day": pa.array([simulation.start + dt.timedelta(days=day) for day in days.tolist()]),
            "spend": spend.round(2),
            "impressions": (50 * spend).astype(np.int64),
        }
    )


def calendar(simulation: Simulation) -> pa.Table:
    """Name what happens on each day: every event of the scenario, everywhere."""
    rows = [
        (simulation.start + dt.timedelta(days=first + nth), name)
        for name, first, days, _ in simulation.events
        for nth in range(days)
        if first + nth < simulation.days
    ]
    days, events = [day for day, _ in rows], [event for _, event in rows]
    return pa.table(
        {
            "day": pa.array(days, pa.date32()),
            "event": pa.array(events, pa.string()),
            "region": pa.nulls(len(rows), pa.string()),
        }
    )


def capacity(simulation: Simulation, streams: np.ndarray) -> pa.Table:
    """Set the streams at each full hour since the launch beside what the service can carry.

    The peak of a stage is the utilisation that its parameters name. There is a second stage only under overload.
    """
    load = max(service.overload for service in simulation.services)
    hour = np.arange(len(streams))
    stage = np.where((hour >= 24 * (simulation.days // 2)) & (load > 0), 2, 1)
    peak = pd.Series(streams).groupby(stage).transform("max").to_numpy()
    limit = np.ceil(peak / np.where(stage == 2, load, simulation.quality.utilisation))
    midnight = np.datetime64(simulation.start, "s").astype(np.int64)
    return pa.table(
        {
            "stage": stage.astype(np.int32),
            "hour": pa.array((midnight + 3600 * hour) * 1_000_000, pa.timestamp("us", tz="UTC")),
            "streams": np.rint(streams).astype(np.int64),
            "limit": limit.astype(np.int64),
        }
    )
