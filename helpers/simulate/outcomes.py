"""Outcomes without events: replicated experiments for calibration, drawn from the same population and process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from helpers.errors import ParameterError
from helpers.simulate import people, viewing, worlds
from helpers.simulate.simulation import Simulation

Read = Callable[[viewing.Chances, worlds.Life, int], list[np.ndarray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What each of many accounts does in either world: replicated experiments are draws from it.

    Columns of `control` and `treatment`, a row per account: hours before the launch, hours, sessions, started the
    show (0 or 1), cancelled within 28 days (0 or 1), all over the days after it; on request the number of waits. Those
    are the seconds to the first play, one for each session that has a play, account after account, in both worlds.
    """

    columns: tuple[str, ...]
    control: np.ndarray  # (accounts, columns), float32
    treatment: np.ndarray
    waits: tuple[np.ndarray, ...] = ()

    def replicate(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw one experiment with `n` accounts in each arm, none of them twice.

        Returns:
            The outcomes of the control arm and of the treatment arm, each (n, columns).

        Raises:
            ParameterError: both arms together ask for more accounts than there are.
        """
        size = len(self.control)
        if not 0 < 2 * n <= size:
            raise ParameterError(f"n is {n:,}, must be from 1 to {size // 2:,}: two arms of {size:,} accounts")
        rows = rng.choice(size, 2 * n, replace=False)
        return self.control[rows[:n]], self.treatment[rows[n:]]


COLUMNS = ("hours_before", "hours", "sessions", "started", "cancelled")
LONG = ("hours_before", "hours_7d", "hours", "sessions", "viewed", "cancelled", "cancelled_later")


def pool(simulation: Simulation, *, long: bool = False, waits: bool = False) -> Pool:
    """Live all accounts of a simulation through its first two worlds, and keep their outcomes alone.

    No event is written: only what chance decides about sessions is drawn. It is the process of the event tables, so
    that means, variances, correlations and tails are the same; the accounts are others. With `long`, the columns are
    those of `LONG`: what a launch measures in its first 7 and 28 days, and who cancelled in all days simulated. With
    `waits`, the seconds to the first play of every session are kept as well, about 27 times as many numbers.

    Raises:
        ParameterError: an account would not live one of the services: the scenario recruits, loses or mixes accounts.
    """
    simulation = simulation.lived
    logs = simulation.logs
    if simulation.pool or logs.lost or logs.leak or logs.control_gains or logs.luck != 1:
        raise ParameterError(f"scenario {simulation.scenario!r} changes who is in which world; simulate its events")
    columns, read = (LONG, _long) if long else (COLUMNS, _usual)
    if waits:
        columns, read = (*columns, "waits"), partial(_waiting, read)
    found = [
        world
        for nth, seed in enumerate(people.seeds(simulation, np.random.SeedSequence(simulation.seed)))
        for world in _block(simulation, nth, seed, read)
    ]
    k = len(columns)
    worlds_ = [[np.concatenate(parts) for parts in zip(*found[world::2], strict=True)] for world in (0, 1)]
    control, treatment = (np.column_stack(world[:k]) for world in worlds_)
    return Pool(columns=columns, control=control, treatment=treatment, waits=tuple(w for x in worlds_ for w in x[k:]))


def _block(simulation: Simulation, nth: int, seed: np.random.SeedSequence, read: Read) -> Iterator[list[np.ndarray]]:
    """Give what is read of some thousand accounts at a time: in the first world, in the second, in the first, ..."""
    own, seed = seed.spawn(2)
    accounts = people.block(simulation, nth, own)
    parts = [accounts.iloc[first : first + 5_000] for first in range(0, len(accounts), 5_000)]
    for part, one in zip(parts, seed.spawn(len(parts)), strict=True):
        yield from _lived(simulation, part, one, read)


def _lived(
    simulation: Simulation, accounts: pd.DataFrame, seed: np.random.SeedSequence, read: Read
) -> list[list[np.ndarray]]:
    services = simulation.services
    chances = viewing.draw(simulation, accounts, worlds.busiest(services), np.random.default_rng(seed))
    usual = worlds.live(simulation, chances, services[0])
    lives = (usual, worlds.live(simulation, chances, services[1], usual.hours))
    return [[x.astype(np.float32) for x in read(chances, life, simulation.pre_days)] for life in lives]


def _usual(chances: viewing.Chances, life: worlds.Life, _: int) -> list[np.ndarray]:
    after = chances.launched
    return [
        chances.per_account(life.seconds * ~after) / 3600,
        chances.per_account(life.seconds * after) / 3600,
        chances.per_account(life.happens & after),
        life.show.starters,
        life.cancelled < 28,
    ]


def _long(chances: viewing.Chances, life: worlds.Life, pre_days: int) -> list[np.ndarray]:
    after = chances.launched
    first = after & (chances.day < pre_days + 28)
    hours = chances.per_account(life.seconds * first) / 3600
    return [
        chances.per_account(life.seconds * ~after) / 3600,
        chances.per_account(life.seconds * (after & (chances.day < pre_days + 7))) / 3600,
        hours,
        chances.per_account(life.happens & first),
        hours > 0,
        life.cancelled < 28,
        np.isfinite(life.cancelled),
    ]


def _waiting(read: Read, chances: viewing.Chances, life: worlds.Life, pre_days: int) -> list[np.ndarray]:
    """Add how many sessions of each account had a play, and how long each of them took."""
    plays = chances.launched & life.happens & (life.seconds > 0)
    return [*read(chances, life, pre_days), chances.per_account(plays), life.first_play_seconds[plays]]
