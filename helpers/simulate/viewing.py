"""When accounts may come and how long they would stay: all that chance decides, drawn once for both worlds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.simulate.parameters import Simulation
from helpers.simulate.people import next_deviation, pick, weekly_rate

DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """A block of accounts, the sessions that may happen (by account, day and clock), and their uniform numbers."""

    people: pd.DataFrame
    account: np.ndarray  # per session, row in `people`
    day: np.ndarray  # from the first day of the events
    launched: np.ndarray  # not before the launch day
    clock: np.ndarray  # share of the UTC day
    happens: np.ndarray  # uniform x the busiest service's factor on opens
    plays: np.ndarray  # uniform
    hours: np.ndarray  # to be watched, if played
    first_play_seconds: np.ndarray
    format: np.ndarray  # position in `choice.formats`
    pull: np.ndarray  # Gumbel, which session starts the show
    starts: np.ndarray  # per account, uniform, as the next three
    goes_on: np.ndarray  # by episode
    quits: np.ndarray
    cancels: np.ndarray
    persistence: np.ndarray  # per account, standard normal

    def per_account(self, weights: np.ndarray) -> np.ndarray:
        """Sum a number per session over each account's sessions."""
        return np.bincount(self.account, weights=weights, minlength=len(self.people))

    def before(self, counts: np.ndarray) -> np.ndarray:
        """Sum a count per session over the account's earlier sessions."""
        running = np.cumsum(counts) - counts
        firsts = np.searchsorted(self.account, np.arange(len(self.people)))
        before: np.ndarray = running - np.append(running, 0)[firsts][self.account]
        return before


def draw(simulation: Simulation, people: pd.DataFrame, busiest: float, rng: np.random.Generator) -> Chances:
    """Draw every chance of a block of accounts; `busiest` is the largest factor on opens of the services compared."""
    v, n = simulation.viewing, len(people)
    account, day, clock = _arrivals(simulation, people, busiest, rng)
    size = len(account)
    length = v.session_account_sd * people["length"].to_numpy()[account] + v.session_sd * rng.standard_normal(size)
    first_play = v.first_play_minutes * np.exp(v.first_play_sd * rng.standard_normal(size))
    return Chances(
        people=people,
        account=account,
        day=day,
        launched=day >= simulation.pre_days,
        clock=clock,
        happens=rng.random(size) * busiest,
        plays=rng.random(size),
        hours=np.minimum(v.session_hours * np.exp(length), v.session_cap_hours),
        first_play_seconds=60 * np.minimum(first_play, v.first_play_cap_minutes),
        format=pick(simulation.choice.formats, rng.random(size)),
        pull=rng.gumbel(size=size),
        starts=rng.random(n),
        goes_on=rng.random((n, len(simulation.show.going_on))),
        quits=rng.random(n),
        cancels=rng.random(n),
        persistence=rng.standard_normal(n),
    )


def _arrivals(
    simulation: Simulation, people: pd.DataFrame, busiest: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Account, day and clock of every session that may happen, in this order."""
    v, n = simulation.viewing, len(people)
    horizon = simulation.pre_days + simulation.days
    weeks = -(-horizon // 7)
    deviation, rates = people["deviation"].to_numpy(), np.empty((n, weeks))
    for nth in range(weeks):
        deviation = next_deviation(simulation, deviation, rng)
        rates[:, nth] = weekly_rate(simulation, people, deviation)
    active = rng.random((n, weeks)) < people["active"].to_numpy()[:, None]
    counts = rng.poisson(active * rates * busiest / (1 - v.never_start))
    who, week = np.divmod(np.repeat(np.arange(n * weeks), counts.ravel()), weeks)

    first = (simulation.start - dt.timedelta(days=simulation.pre_days)).weekday()
    weights = np.cumsum(np.roll(v.weekday, -first))
    day = 7 * week + np.searchsorted(weights / weights[-1], rng.random(len(week)), side="right")
    offset = np.take(simulation.people.utc_offsets, people["region"].cat.codes.to_numpy())[who]
    clock = (rng.triangular(*v.local_hours, len(week)) - offset) / 24 % 1
    place = who * horizon + day + clock
    place = np.sort(place[day < horizon])
    account_day = place.astype(np.int64)
    account, day = np.divmod(account_day, horizon)
    return account, day, place - account_day
