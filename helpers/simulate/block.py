"""A block of accounts, lived through in every world and written down in the one that each was assigned to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from helpers.simulate import events, faults, plays, surveys, viewing, worlds
from helpers.simulate.simulation import Simulation
from helpers.simulate.tally import Tally, tally

ACCOUNTS = 5_000  # that live from one seed of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Assigned accounts: who they are, the position of each one's arm, and how many others each stands for."""

    people: pd.DataFrame
    arm: np.ndarray
    weight: np.ndarray  # one over the inclusion probability
    represents: bool  # whether the treatment arms stand for the population
    seed: np.random.SeedSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of some blocks beside their logs: per world the tally and each account's hours, and the load.

    `assigned` counts the accounts of each arm.
    """

    worlds: list[Tally]
    assigned: np.ndarray
    hours: list[np.ndarray]
    weight: np.ndarray
    streams: np.ndarray

    def __add__(self, other: Known) -> Known:
        return Known(
            worlds=[a + b for a, b in zip(self.worlds, other.worlds, strict=True)],
            assigned=self.assigned + other.assigned,
            hours=[np.append(a, b) for a, b in zip(self.hours, other.hours, strict=True)],
            weight=np.append(self.weight, other.weight),
            streams=self.streams + other.streams,
        )


def write(simulation: Simulation, blocks: Iterable[Block], folder: Path, part: int) -> Known:
    """Live through blocks one after the other and append their events to one file per table, `TABLE/PART.parquet`."""
    known = []
    with Writer(folder, part) as writer:
        for block in blocks:
            tables, one = live(simulation, block)
            known.append(one)
            for name, table in tables.items():
                writer.table(name, table)
    return reduce(Known.__add__, known)


def live(simulation: Simulation, block: Block) -> tuple[dict[str, pa.Table], Known]:
    """Live through a block of accounts: what the logs would hold, and what is true of every world."""
    rng, services, logs = np.random.default_rng(block.seed), simulation.services, simulation.logs
    chances = viewing.draw(simulation, block.people, worlds.busiest(services), rng)
    usual = worlds.live(simulation, chances, services[0])
    lives = [usual]
    for service in services[1:]:
        same = service == services[0]
        lives.append(usual if same else worlds.live(simulation, chances, service, usual.hours))
    seen = list(lives)
    if logs.control_gains:
        mixed = worlds.leaning(services[0], services[1], logs.control_gains)
        seen[0] = worlds.live(simulation, chances, mixed, usual.hours)
    if logs.luck != 1:
        seen[1:] = [
            worlds.live(simulation, chances, worlds.leaning(services[0], service, logs.luck), usual.hours)
            for service in services[1:]
        ]
    arm = np.where((block.arm == 0) & (chances.leaks < logs.leak), len(services) - 1, block.arm).astype(np.int8)
    own = worlds.observed(chances, arm, seen)

    most = reduce(np.maximum, [life.plays for life in (*lives, *seen)])
    possible = plays.draw(simulation, most, rng)
    opinions, luck = surveys.draw(len(block.people), rng), events.draw(simulation, chances, possible, rng)
    weight = block.weight if block.represents else block.weight * (block.arm == 0)
    tallies: list[Tally] = []
    hours: list[np.ndarray] = []
    for nth, life in enumerate(lives):
        if nth and life is usual:
            tallies.append(tallies[0])
            hours.append(hours[0])
            continue
        played = plays.happened(simulation, chances, possible, life, since_launch=True)
        prompts = surveys.prompts(simulation, chances, opinions, played, life)
        found, watched = tally(simulation, chances, possible, luck, life, played, prompts, weight)
        tallies.append(found)
        hours.append(watched.astype(np.float32))
    played = plays.happened(simulation, chances, possible, own)
    prompts = surveys.prompts(simulation, chances, opinions, played, own)
    tables = events.tables(simulation, chances, possible, luck, own, played, prompts)
    began = _since_first_day(simulation, tables["plays"]["started_at"])
    streams = events.concurrent(simulation, began, played.seconds, block.weight[played.account])
    tables["plays"] = faults.spoil(tables["plays"], logs, rng)
    assigned = np.bincount(block.arm, minlength=len(services))
    return tables, Known(worlds=tallies, assigned=assigned, hours=hours, weight=weight, streams=streams)


def _since_first_day(simulation: Simulation, times: pa.ChunkedArray) -> np.ndarray:
    """Turn times into seconds from the first day."""
    first = np.datetime64(simulation.start - dt.timedelta(days=simulation.pre_days), "s").astype(np.int64)
    seconds: np.ndarray = times.cast(pa.int64()).to_numpy() / 1e6 - first
    return seconds


class Writer(ExitStack):
    """Parquet files of one part, each opened by its table's first rows and closed together."""

    def __init__(self, folder: Path, part: int) -> None:
        super().__init__()
        self._folder, self._part = folder, part
        self._open: dict[str, parquet.ParquetWriter] = {}

    def table(self, name: str, table: pa.Table) -> None:
        """Append rows."""
        if name not in self._open:
            path = self._folder / name / f"{self._part:05d}.parquet"
            path.parent.mkdir(exist_ok=True)
            repeating = [f.name for f in table.schema if pa.types.is_dictionary(f.type) or pa.types.is_string(f.type)]
            writer = parquet.ParquetWriter(
                path, table.schema, compression="lz4", use_dictionary=repeating, store_schema=False
            )
            self._open[name] = self.enter_context(writer)
        self._open[name].write_table(table)
