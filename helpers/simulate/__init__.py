"""A streaming service whose truth is known: its accounts, what they watch, and what a launch changes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from helpers.errors import ParameterError, did_you_mean
from helpers.schema import TABLES
from helpers.simulate import events, people, truth, viewing, worlds
from helpers.simulate.parameters import SCENARIOS, Simulation

__all__ = ["SCENARIOS", "Simulation", "write"]

_BLOCK = 5_000  # assigned accounts that live from one seed of their own
_DRAWN = ["account", "arm", "stratum", "inclusion_probability"]


def write(simulation: Simulation, folder: Path, assign: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Simulate a launch and write its tables as Parquet, one file each, with `truth.parquet` beside them.

    Every assigned account is lived through twice, in the world of the control arm and in that of the treatment arm,
    with the same chances. The tables hold the world of its own arm; the truth compares both worlds over all of them.
    It is the truth of the assigned accounts, weighted to the population: another draw has a slightly different one.

    Args:
        simulation: all parameters. Equal ones, with an equal assignment, give byte-identical files.
        folder: must not exist or be empty; it appears complete or not at all.
        assign: gets the population (the columns of the contract's `accounts`), returns account, arm, stratum and
            inclusion_probability for the accounts that take part.

    Raises:
        ParameterError: the folder is not empty, or the assignment does not fit the population.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError(f"{folder} is not an empty folder; name a new one or empty it")
    population_seed, events_seed = np.random.SeedSequence(simulation.seed).spawn(2)
    population = people.draw(simulation, population_seed)
    accounts = population[[column.name for column in TABLES["accounts"].columns]]
    assigned = _checked(simulation, population, assign(_as_text(accounts)))
    with _appearing(folder) as unfinished, _Writer(unfinished) as writer:
        writer.frame("accounts", accounts)
        writer.frame("assignments", assigned.assign(stage=1, assigned_at=pd.Timestamp(simulation.start, tz="UTC")))
        scenario = SCENARIOS[simulation.scenario]
        with_show = scenario.control.show or scenario.treatment.show
        writer.table("titles", events.titles(simulation, with_show))
        alive, control, treatment = population.loc[assigned.index], [], []
        firsts = range(0, len(assigned), _BLOCK)
        for first, seed in zip(firsts, events_seed.spawn(len(firsts)), strict=True):
            block = slice(first, first + _BLOCK)
            treated = (assigned["arm"].iloc[block] == simulation.treatment).to_numpy()
            tables, *outcomes = _block(simulation, alive.iloc[block], treated, np.random.default_rng(seed))
            for name, table in tables.items():
                writer.table(name, table)
            control.append(outcomes[0])
            treatment.append(outcomes[1])
        weight = 1 / assigned["inclusion_probability"].to_numpy()
        known = truth.contrast(pd.concat(control), pd.concat(treatment), alive, weight)
        writer.frame("truth", known if with_show else known[~known["metric"].isin(truth.OF_THE_SHOW)])


def _block(
    simulation: Simulation, alive: pd.DataFrame, treated: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, pa.Table], pd.DataFrame, pd.DataFrame]:
    """Live through a block of accounts: what the logs would hold, and the outcomes of both worlds."""
    scenario = SCENARIOS[simulation.scenario]
    chances = viewing.draw(simulation, alive, max(1, scenario.control.opens, scenario.treatment.opens), rng)
    control = worlds.live(simulation, chances, scenario.control)
    treatment = worlds.live(simulation, chances, scenario.treatment, usual_hours=control.hours)
    plays = events.draw_plays(simulation, np.maximum(control.plays, treatment.plays), rng)
    seen = worlds.observed(chances, treated, control, treatment)
    return (
        events.tables(simulation, chances, plays, seen, rng),
        truth.outcomes(simulation, chances, plays, control),
        truth.outcomes(simulation, chances, plays, treatment),
    )


def _checked(simulation: Simulation, population: pd.DataFrame, assigned: pd.DataFrame) -> pd.DataFrame:
    """Refuse an assignment that cannot be lived; order it as the population, whose rows it is indexed by."""
    for column in _DRAWN:
        if column not in assigned:
            raise ParameterError(f"the assignment has no column {column!r}; {did_you_mean(column, assigned.columns)}")
    rows = pd.Index(population["account"]).get_indexer(assigned["account"])
    assigned = assigned[_DRAWN].set_axis(rows).sort_index()
    if (rows < 0).any():
        raise ParameterError(f"the assignment names {(rows < 0).sum():,} accounts that are not in the population")
    if not assigned.index.is_unique:
        raise ParameterError(f"the assignment repeats {assigned.index.duplicated().sum():,} accounts; one row for each")
    arms = {simulation.control, simulation.treatment}
    if set(assigned["arm"]) != arms:
        raise ParameterError(f"the arms assigned are {sorted(map(str, set(assigned['arm'])))}, must be {sorted(arms)}")
    probability = assigned["inclusion_probability"]
    if not ((probability > 0) & (probability <= 1)).all():
        raise ParameterError("an inclusion probability of the assignment is not above 0 and at most 1")
    return assigned


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn categories into plain text."""
    return frame.astype(dict.fromkeys(frame.select_dtypes("category").columns, "str"))


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside `folder` that takes its place when all went well and is removed otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".unfinished", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


class _Writer(ExitStack):
    """Parquet files in one folder, each opened by its first table and closed together."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._open: dict[str, parquet.ParquetWriter] = {}

    def table(self, name: str, table: pa.Table) -> None:
        """Append rows."""
        if name not in self._open:
            path = self._folder / f"{name}.parquet"
            writer = parquet.ParquetWriter(path, table.schema, compression="zstd", store_schema=False)
            self._open[name] = self.enter_context(writer)
        self._open[name].write_table(table)

    def frame(self, name: str, frame: pd.DataFrame) -> None:
        """Append the rows of a frame."""
        self.table(name, pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata())
