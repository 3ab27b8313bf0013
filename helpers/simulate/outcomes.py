"""Outcomes without events: replicated experiments for calibration, drawn from the same population and process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from helpers.errors import ParameterError
from helpers.simulate import people, viewing, worlds
from helpers.simulate.simulation import Simulation

Read = Callable[[Simulation, viewing.Chances, worlds.Life], list[np.ndarray]]
What = Literal["launch", "later", "title", "weeks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What each of many accounts does in either world: replicated experiments are draws from it.

    `columns` names those of `control` and `treatment`, which hold a row per account. `waits`, on request, are the
    seconds to the first play, one for each session that has a play, account after account, in both worlds; a last
    column, `waits`, then says how many.
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


COLUMNS = ("hours_before", "hours", "sessions", "started", "cancelled", "stayed")
LATER = ("hours_before", "hours_7d", "hours", "sessions", "viewed", "cancelled", "cancelled_later")
TITLE = ("hours_before", "hours", "title_hours")
VIEWER = ("start_day", "watched", "left")
VISITS = 4  # without a further episode, after which a viewer has left the show


def pool(simulation: Simulation, *, what: What = "launch", waits: bool = False) -> Pool:
    """Live all accounts of a simulation through its first two worlds, and keep their outcomes alone.

    No event is written: only what chance decides about sessions is drawn. It is the process of the event tables, so
    that means, variances, correlations and tails are the same; the accounts are others.

    Args:
        simulation: all parameters.
        what: the columns. `launch`: hours before the launch, hours, sessions, started the show and cancelled within 28
            days (0 or 1), and the days until it cancelled, or all of them. `later`: what a launch measures in its first
            7 and 28 days, and who cancelled in all days. `title`: hours before the launch, hours of all titles after
            it, and of the launch's own among them.
            `weeks`: hours before the launch and of each week after it (`week_1` …), then of the show's viewers the day
            on which they began (-1 for the others), after how many episodes they could be seen to go on or not, and
            whether they left there, having come four times without a further episode.
        waits: whether to keep the seconds to the first play of every session too, about 27 times as many numbers.

    Raises:
        ParameterError: an account would not live one of the services: the scenario recruits, loses or mixes accounts.
    """
    simulation = simulation.lived
    logs = simulation.logs
    if simulation.pool or logs.lost or logs.leak or logs.control_gains or logs.luck != 1:
        raise ParameterError(f"scenario {simulation.scenario!r} changes who is in which world; simulate its events")
    columns, read = {
        "launch": (COLUMNS, _usual),
        "later": (LATER, _later),
        "title": (TITLE, _title),
        "weeks": (("hours_before", *(f"week_{nth + 1}" for nth in range(simulation.days // 7)), *VIEWER), _weeks),
    }[what]
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
    return [[x.astype(np.float32) for x in read(simulation, chances, life)] for life in lives]


def _usual(simulation: Simulation, chances: viewing.Chances, life: worlds.Life) -> list[np.ndarray]:
    after = chances.launched
    return [
        _hours(chances, life, ~after),
        _hours(chances, life, after),
        chances.per_account(life.happens & after),
        life.show.starters,
        life.cancelled < 28,
        np.minimum(life.cancelled, simulation.days),
    ]


def _later(simulation: Simulation, chances: viewing.Chances, life: worlds.Life) -> list[np.ndarray]:
    after, day = chances.launched, chances.day - simulation.pre_days
    first = after & (day < 28)
    hours = _hours(chances, life, first)
    return [
        _hours(chances, life, ~after),
        _hours(chances, life, after & (day < 7)),
        hours,
        chances.per_account(life.happens & first),
        hours > 0,
        life.cancelled < 28,
        np.isfinite(life.cancelled),
    ]


def _title(_: Simulation, chances: viewing.Chances, life: worlds.Life) -> list[np.ndarray]:
    after = chances.launched
    title = chances.per_account(life.show.seconds * after) / 3600
    return [_hours(chances, life, ~after), _hours(chances, life, after), title]


def _weeks(simulation: Simulation, chances: viewing.Chances, life: worlds.Life) -> list[np.ndarray]:
    week = (chances.day - simulation.pre_days) // 7
    by_week = [_hours(chances, life, chances.launched & (week == nth)) for nth in range(simulation.days // 7)]
    return [_hours(chances, life, ~chances.launched), *by_week, *_viewers(simulation, chances, life)]


def _hours(chances: viewing.Chances, life: worlds.Life, where: np.ndarray) -> np.ndarray:
    hours: np.ndarray = chances.per_account(life.seconds * where) / 3600
    return hours


def _viewers(simulation: Simulation, chances: viewing.Chances, life: worlds.Life) -> list[np.ndarray]:
    """Find the columns `VIEWER`: a viewer stops at the first sitting after which no further episode is seen in time."""
    visit = np.flatnonzero(life.happens & chances.launched)
    account, episodes, seen = chances.account[visit], life.show.episodes[visit], life.show.before[visit]
    ends = np.searchsorted(account, np.arange(len(chances.people)), side="right")[account]
    sitting = np.flatnonzero(episodes)
    who, last, every = account[sitting], (seen + episodes)[sitting], 1 + len(simulation.show.going_on)
    further = np.append(sitting[1:], len(visit))
    goes_on = (np.append(who[1:], -1) == who) & (further - sitting <= VISITS)
    observed = sitting + VISITS < ends[sitting] - 1
    over = np.flatnonzero(~observed | ~goes_on | (last == every))[::-1]  # the first of an account comes last
    left = observed & ~goes_on & (last < every)
    watched = np.where(left, last, np.where(observed, last - 1, seen[sitting]))
    found = [np.full(len(chances.people), -1), *np.zeros((2, len(chances.people)), np.int64)]
    found[0][who[::-1]] = chances.day[visit[sitting]][::-1] - simulation.pre_days
    for column, values in zip(found[1:], (watched, left), strict=True):
        column[who[over]] = values[over]
    return found


def _waiting(read: Read, simulation: Simulation, chances: viewing.Chances, life: worlds.Life) -> list[np.ndarray]:
    """Add how many sessions of each account had a play, and how long each of them took."""
    plays = chances.launched & life.happens & (life.seconds > 0)
    return [*read(simulation, chances, life), chances.per_account(plays), life.first_play_seconds[plays]]
