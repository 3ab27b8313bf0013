"""A streaming service whose truth is known: its accounts, what they watch, and what a launch changes."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from helpers.errors import ParameterError, did_you_mean
from helpers.schema import TABLES
from helpers.simulate import people, surroundings, titles, truth
from helpers.simulate.block import ACCOUNTS, Block, Known, Writer
from helpers.simulate.block import write as write_blocks
from helpers.simulate.outcomes import Pool, pool
from helpers.simulate.scenarios import SCENARIOS, combined
from helpers.simulate.simulation import Simulation

__all__ = ["SCENARIOS", "Pool", "Simulation", "arms", "pool", "stream", "write"]

_BLOCKS = 4  # in one part of the events
_DRAWN = ["account", "arm", "stratum", "inclusion_probability"]
_COLUMNS = [column.name for column in TABLES["accounts"].columns]


def write(
    simulation: Simulation, folder: Path, assign: Callable[[pd.DataFrame], pd.DataFrame], *, processes: int = 1
) -> None:
    """Simulate a launch and write its tables as Parquet, with `truth.parquet` beside them.

    Every assigned account is lived through in the world of each arm, with the same chances. The tables hold the world
    of its own arm; the truth compares the worlds over all of them. It is the truth of the assigned accounts, weighted
    to the population: another draw has a slightly different one. Where the scenario recruits the treatment arms from
    a pool, or loses some of them, it is that of the control arm, which stands for everybody.

    Args:
        simulation: all parameters. Equal ones, with an equal assignment, give byte-identical files.
        folder: must not exist or be empty; it appears complete or not at all.
        assign: gets the population (the columns of the contract's `accounts`), returns account, arm, stratum and
            inclusion_probability for the accounts that take part. Where the scenario has a pool, it is asked again
            with that alone, and the treatment arms are those of the second answer.
        processes: that share the work; the files are the same for any number.

    Raises:
        ParameterError: the folder is not empty, or the assignment does not fit the population.
    """
    _must_be_empty(folder)
    simulation = simulation.lived
    population_seed, events_seed, draw_seed = np.random.SeedSequence(simulation.seed).spawn(3)
    population = people.draw(simulation, population_seed)
    assigned = _assigned(simulation, population, assign, np.random.default_rng(draw_seed))
    alive, weight = population.loc[assigned.index], 1 / assigned["inclusion_probability"].to_numpy()
    arm = pd.Index(simulation.arms).get_indexer(pd.Index(assigned["arm"])).astype(np.int8)
    represents = not (simulation.pool or simulation.logs.lost)
    firsts = range(0, len(assigned), ACCOUNTS)
    blocks = [
        Block(
            people=alive.iloc[first : first + ACCOUNTS],
            arm=arm[first : first + ACCOUNTS],
            weight=weight[first : first + ACCOUNTS],
            represents=represents,
            seed=seed,
        )
        for first, seed in zip(firsts, events_seed.spawn(len(firsts)), strict=True)
    ]
    parts = [blocks[first : first + _BLOCKS] for first in range(0, len(blocks), _BLOCKS)]
    with _appearing(folder) as unfinished:
        _frame(unfinished, "accounts", population[_COLUMNS])
        _frame(
            unfinished, "assignments", assigned.assign(stage=1, assigned_at=pd.Timestamp(simulation.start, tz="UTC"))
        )
        job = partial(_write_part, simulation, unfinished)
        _finish(simulation, unfinished, _shared(job, list(enumerate(parts)), processes))


def stream(simulation: Simulation, folder: Path, *, processes: int = 1) -> None:
    """Simulate a service in which every account takes part, in bounded memory, as a folder of parts for each table.

    The arms are of equal size, by chance. Otherwise as `write`: the same for any number of processes, complete or not
    there at all.

    Raises:
        ParameterError: the folder is not empty, or the scenario recruits its arms from a pool.
    """
    _must_be_empty(folder)
    if simulation.pool:
        raise ParameterError(f"scenario {simulation.scenario!r} recruits its arms; name it in a launch file instead")
    simulation = simulation.lived
    population_seed, events_seed = np.random.SeedSequence(simulation.seed).spawn(2)
    seeds = people.seeds(simulation, population_seed)
    thirds = people.thirds(people.block(simulation, 0, seeds[0]))
    with _appearing(folder) as unfinished:
        job = partial(_stream_part, simulation, unfinished, thirds)
        tasks = list(zip(range(len(seeds)), seeds, events_seed.spawn(len(seeds)), strict=True))
        _finish(simulation, unfinished, _shared(job, tasks, processes))


def arms(scenario: str) -> tuple[str, ...]:
    """Name the arms that a scenario needs, control first.

    >>> arms("told_vs_quiet")
    ('control', 'treatment_1', 'treatment_2')
    """
    more = len(next(iter(combined(scenario).values())).services) - 1
    return ("control", *(["treatment"] if more == 1 else [f"treatment_{nth + 1}" for nth in range(more)]))


def _write_part(simulation: Simulation, folder: Path, task: tuple[int, list[Block]]) -> Known:
    return write_blocks(simulation, task[1], folder, task[0])


def _stream_part(
    simulation: Simulation,
    folder: Path,
    thirds: tuple[float, float],
    task: tuple[int, np.random.SeedSequence, np.random.SeedSequence],
) -> Known:
    """Draw a block of the population, assign it and live through it."""
    part, own, seed = task
    population = people.with_engagement(people.block(simulation, part, own), thirds)
    assign_seed, *seeds = seed.spawn(1 + -(-len(population) // ACCOUNTS))
    rng = np.random.default_rng(assign_seed)
    arm = rng.integers(0, len(simulation.arms), len(population)).astype(np.int8)
    here = np.ones(len(population), bool)
    here[_lost(simulation, population, arm > 0, rng)] = False
    assigned = pd.DataFrame(
        {
            "account": population["account"],
            "arm": np.take(simulation.arms, arm),
            "stratum": "all",
            "inclusion_probability": 1.0,
            "stage": 1,
            "assigned_at": pd.Timestamp(simulation.start, tz="UTC"),
        }
    )
    with Writer(folder, part) as writer:
        writer.table("accounts", _table(population[_COLUMNS]))
        writer.table("assignments", _table(assigned[here]))
    population, arm = population[here], arm[here]

    def blocks() -> Iterator[Block]:
        for nth, one in enumerate(seeds):
            rows = slice(nth * ACCOUNTS, (nth + 1) * ACCOUNTS)
            mine = population.iloc[rows]
            if len(mine):
                ones = np.ones(len(mine))
                lost = simulation.logs.lost > 0
                yield Block(people=mine, arm=arm[rows], weight=ones, represents=not lost, seed=one)

    return write_blocks(simulation, blocks(), folder, part)


def _shared(job: Callable[[Any], Known], tasks: list[Any], processes: int) -> Known:
    """Do all tasks, in several processes where there are several of both; the order of the tasks is kept.

    Where processes cannot start (a script without `if __name__ == "__main__"`, code from standard input), or one is
    ended from outside, this one does everything: what is written does not depend on their number.
    """
    if min(processes, len(tasks)) <= 1:
        return _added(map(job, tasks))
    pool = ProcessPoolExecutor(min(processes, len(tasks)), mp_context=multiprocessing.get_context("spawn"))
    try:
        return _added(pool.map(job, tasks))
    except BrokenProcessPool:
        return _added(map(job, tasks))
    finally:
        pool.shutdown(cancel_futures=True)


def _added(known: Iterable[Known]) -> Known:
    return reduce(Known.__add__, known)


def _finish(simulation: Simulation, folder: Path, known: Known) -> None:
    """Write what needs all accounts, or none."""
    parquet.write_table(titles.table(simulation), folder / "titles.parquet")
    parquet.write_table(surroundings.marketing(simulation), folder / "marketing.parquet")
    parquet.write_table(surroundings.calendar(simulation), folder / "calendar.parquet")
    parquet.write_table(surroundings.capacity(simulation, known.streams), folder / "capacity.parquet")
    contrasts = truth.contrast(
        known.worlds, simulation.arms, assigned=known.assigned, offered=titles.offered(simulation)
    )
    medians = truth.medians(known.hours, known.weight, simulation.days / 7, simulation.arms)
    _frame(folder, "truth", pd.concat([contrasts, medians, truth.planted(simulation)], ignore_index=True))


def _assigned(
    simulation: Simulation,
    population: pd.DataFrame,
    assign: Callable[[pd.DataFrame], pd.DataFrame],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Let the accounts be drawn, the treatment arms from the scenario's pool, and lose those that it loses."""
    accounts = _as_text(population[_COLUMNS])
    assigned = _checked(simulation, population, assign(accounts))
    if simulation.pool:
        control = assigned[assigned["arm"] == simulation.control]
        pool = people.volunteers(simulation, population, rng) if simulation.pool == "volunteers" else accounts["new_tv"]
        pool = pool.drop(control.index)
        again = _checked(simulation, population, assign(accounts.loc[pool.index[pool]]))
        assigned = pd.concat([control, again[again["arm"] != simulation.control]]).sort_index()
    lost = _lost(simulation, population.loc[assigned.index], assigned["arm"] != simulation.control, rng)
    return assigned.drop(assigned.index[lost])


def _lost(simulation: Simulation, people_: pd.DataFrame, treated: Any, rng: np.random.Generator) -> np.ndarray:
    """Rows of the treated accounts that vanish: heavy viewers only."""
    n = round(simulation.logs.lost * np.sum(treated))
    heavy = np.flatnonzero(treated & (people_["engagement"] == "heavy"))
    return rng.choice(heavy, min(n, len(heavy)), replace=False) if n else np.array([], int)


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
    arms = set(simulation.arms)
    if set(assigned["arm"]) != arms:
        raise ParameterError(f"the arms assigned are {sorted(map(str, set(assigned['arm'])))}, must be {sorted(arms)}")
    probability = assigned["inclusion_probability"]
    if not ((probability > 0) & (probability <= 1)).all():
        raise ParameterError("an inclusion probability of the assignment is not above 0 and at most 1")
    return assigned


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn categories into plain text."""
    return frame.astype(dict.fromkeys(frame.select_dtypes("category").columns, "str"))


def _must_be_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError(f"{folder} is not an empty folder; name a new one or empty it")


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


def _frame(folder: Path, name: str, frame: pd.DataFrame) -> None:
    """Write a frame as one file."""
    parquet.write_table(_table(frame), folder / f"{name}.parquet", compression="zstd", store_schema=False)


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
