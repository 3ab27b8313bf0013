"""The whole catalogue from event tables: speed and memory at one and ten million events, beside pandas.

`python benchmarks/catalogue.py [ACCOUNTS ...]` simulates the events and runs every contestant on them, in a process of
its own; it takes some minutes. An account has about 290 events in eight weeks. What pandas computes is the tests'
independent reading of the metrics: values alone, without errors.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import run

ACCOUNTS = (3_600, 36_000)  # one and ten million events
EVENTS = ("app_opens", "sessions", "plays", "impressions", "cancellations", "tickets", "feedback", "surveys")


def opened(folder: str) -> Any:
    """Open the simulated service with a plan that holds the whole catalogue."""
    from helpers import study
    from helpers.launch import Launch
    from helpers.metrics import CATALOGUE

    star, *others = CATALOGUE
    plan = {
        "name": "catalogue",
        "data": {"source": folder},
        "arms": {"control": "control", "treatment": "treatment"},
        "dates": {"start": "2026-09-07", "days": 28, "pre_days": 28},
        "metrics": {"north_star": star, "supporting": others},
    }
    return study.open(Launch.model_validate(plan))


def duckdb_reads_the_events(folder: str) -> None:
    """Add up one number of every event table by account: what any computation costs at least."""
    data = opened(folder)
    for name in EVENTS:
        data.tables[name].aggregate(by="account", n=data.tables[name].count()).count().execute()


def premiere_catalogue(folder: str) -> None:
    """Compile all metrics, scan each event table once, read moments, and compare the arms with adjustment."""
    from helpers import inference, moments, units
    from helpers.units import query

    data = opened(folder)
    table = query.build(data, units.cells(data)).cache()
    planned = [p.metric for p in units.measurable(data) if p.metric.averaged]
    needed = [inference.needed(m, adjust=bool(units.covariates(data, m))) for m in planned]
    columns = tuple({c: None for mine, _pairs in needed for c in mine})
    read = moments.from_table(table, columns=columns, pairs={p for _, pairs in needed for p in pairs}, by=["arm"])
    for m in planned:
        adjust = bool(units.covariates(data, m))
        inference.compare(read, m, control="control", treatment="treatment", days=28, pre_days=28, adjust=adjust)


def premiere_quantiles(folder: str) -> None:
    """Compare the quantiles of events, which need the values themselves."""
    from helpers import units
    from helpers.robust import events

    data = opened(folder)
    for p in units.measurable(data):
        if p.metric.quantile is not None:
            events.compare(data, p.metric, treatment="treatment")


def premiere_checks_the_logs(folder: str) -> None:
    """Count the faults of every event table by arm."""
    from helpers import logs

    data = opened(folder)
    assert logs.count(data.tables, data.assignments.select("account", "arm")).empty


def pandas_catalogue(folder: str) -> None:
    """Load all tables and compute the values of the same metrics."""
    tables = {name: table.execute() for name, table in opened(folder).tables.items()}
    _tests().independently(tables)


def _tests() -> ModuleType:
    path = Path(__file__).parents[1] / "tests" / "test_metrics.py"
    spec = importlib.util.spec_from_file_location("test_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTESTANTS: list[Callable[[str], None]] = [
    duckdb_reads_the_events,
    premiere_catalogue,
    premiere_quantiles,
    premiere_checks_the_logs,
    pandas_catalogue,
]


def write(folder: str, accounts: int) -> None:
    """Simulate the service and say how many events it has."""
    from helpers import simulate, study

    simulate.stream(simulate.Simulation(scenario="homepage", accounts=accounts), Path(folder))
    connection = study.connect_embedded()
    print(sum(study.read_file(connection, Path(folder) / name).count().execute() for name in EVENTS))


def main(sizes: list[int]) -> None:
    """Print each contestant's time, as it passed and of all cores, its ratio to that of the first, and peak memory."""
    for accounts in sizes:
        with tempfile.TemporaryDirectory() as parent:
            folder = str(Path(parent) / "service")
            command = [sys.executable, __file__, "--write", folder, str(accounts)]
            events = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(
                f"\nthe catalogue over {events:,} events of {accounts:,} accounts (medians of {run.REPEATS})",
                flush=True,
            )
            run.contest(CONTESTANTS, folder, script=__file__)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--race"]:
        run.race(globals()[sys.argv[2]], sys.argv[3])
    elif sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], int(sys.argv[3]))
    else:
        main([int(size) for size in sys.argv[1:]] or list(ACCOUNTS))
