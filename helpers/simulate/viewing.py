"""When accounts may come and how long they would stay: all that chance decides, drawn once for both worlds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.simulate.people import next_deviation, pick, weekly_rate
from helpers.simulate.simulation import Simulation

DAY = 86_400  # seconds
ORDINARY, WAKING, BINGE = 0, 1, 2
_BINGE_HOURS, _BINGE_SD = (
    14.1,
    0.2,
)  # of a day, median and log scale over accounts: about 370 h in 28 days, with the caps


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """A block of accounts, the sessions that may happen (by account, day and clock), and their uniform numbers."""

    people: pd.DataFrame
    account: np.ndarray  # per session, row in `people`
    day: np.ndarray  # from the first day of the events
    launched: np.ndarray  # not before the launch day
    clock: np.ndarray  # share of the UTC day
    kind: np.ndarray  # ORDINARY, WAKING: in a week that would be idle, or BINGE: of a heavy day on top
    happens: np.ndarray  # uniform x the busiest service's factor on opens, where it is ordinary
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
    sees: np.ndarray  # per account, uniform, as the next two
    leaks: np.ndarray
    asks: np.ndarray  # the support
    delay: np.ndarray  # standard normal, as the next
    rebuffers: np.ndarray
    slow: np.ndarray  # uniform, as the next
    crashes: np.ndarray

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
    account, day, clock, kind, happens = _arrivals(simulation, people, busiest, rng)
    size = len(account)
    length = v.session_account_sd * people["length"].to_numpy()[account] + v.session_sd * rng.standard_normal(size)
    hours = v.session_hours * np.exp(length)
    hours[kind == BINGE] = (_BINGE_HOURS * np.exp(_BINGE_SD * rng.standard_normal(n)))[account[kind == BINGE]]
    first_play = v.first_play_minutes * np.exp(v.first_play_sd * rng.standard_normal(size))
    return Chances(
        people=people,
        account=account,
        day=day,
        launched=day >= simulation.pre_days,
        clock=clock,
        kind=kind,
        happens=happens,
        plays=np.where(kind == BINGE, 0, rng.random(size)),
        hours=np.minimum(hours, v.session_cap_hours),
        first_play_seconds=60 * np.minimum(first_play, v.first_play_cap_minutes),
        format=pick(simulation.choice.formats, rng.random(size)),
        pull=rng.gumbel(size=size),
        starts=rng.random(n),
        goes_on=rng.random((n, len(simulation.show.going_on))),
        quits=rng.random(n),
        cancels=rng.random(n),
        persistence=rng.standard_normal(n),
        sees=rng.random(n),
        leaks=rng.random(n),
        asks=rng.random(n),
        delay=rng.standard_normal(size, dtype=np.float32),
        rebuffers=rng.standard_normal(size, dtype=np.float32),
        slow=rng.random(size, dtype=np.float32),
        crashes=rng.random(size),
    )


def _arrivals(
    simulation: Simulation, people: pd.DataFrame, busiest: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Account, day, clock, kind and `happens` of every session that may happen, in the order of the first three."""
    v, n = simulation.viewing, len(people)
    horizon = simulation.pre_days + simulation.days
    weeks = -(-horizon // 7)
    deviation, rates = people["deviation"].to_numpy(), np.empty((n, weeks))
    for nth in range(weeks):
        deviation = next_deviation(simulation, deviation, rng)
        rates[:, nth] = weekly_rate(simulation, people, deviation)
    active = rng.random((n, weeks)) < people["active"].to_numpy()[:, None]
    by_day = _by_day(simulation, weeks)
    rates *= by_day.mean(axis=1)
    counts = rng.poisson(active * rates * busiest / (1 - v.never_start))
    who, week = np.divmod(np.repeat(np.arange(n * weeks), counts.ravel()), weeks)
    # In the sum of all weeks' weights, a uniform number falls on a day of its week.
    ends = np.cumsum(by_day / by_day.sum(axis=1, keepdims=True))
    day = np.searchsorted(ends, week + rng.random(len(week)), side="right")

    offset = np.take(simulation.people.utc_offsets, people["region"].cat.codes.to_numpy())
    clock = (rng.triangular(*v.local_hours, len(week)) - offset[who]) / 24 % 1
    place = who * horizon + day + clock
    inside = day < horizon
    extra_place, extra_kind, extra_happens = _extra(simulation, offset, counts == 0, rng)
    if not len(extra_place):
        place = np.sort(place[inside])
        kind, happens = np.zeros(len(place), np.int8), rng.random(len(place)) * busiest
    else:
        place = np.append(place[inside], extra_place)
        order = np.argsort(place)
        place = place[order]
        ordinary = len(place) - len(extra_place)
        kind = np.append(np.zeros(ordinary, np.int8), extra_kind)[order]
        happens = np.append(rng.random(ordinary) * busiest, extra_happens)[order]
    account_day = place.astype(np.int64)
    account, day = np.divmod(account_day, horizon)
    return account, day, place - account_day, kind, happens


def _by_day(simulation: Simulation, weeks: int) -> np.ndarray:
    """Factor on viewing of each day, a row per week: weekday and calendar."""
    first = (simulation.start - dt.timedelta(days=simulation.pre_days)).weekday()
    weekday = np.array(simulation.viewing.weekday)
    days = np.tile(np.roll(weekday / weekday.mean(), -first), weeks)
    for _, from_launch, length, factor in simulation.events:
        begin = max(simulation.pre_days + from_launch, 0)
        days[begin : max(simulation.pre_days + from_launch + length, 0)] *= factor
    return days.reshape(weeks, 7)


def _extra(
    simulation: Simulation, offset: np.ndarray, idle: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sessions that only some service brings about: in idle weeks after the launch, and of those who then binge."""
    horizon, (n, weeks) = simulation.pre_days + simulation.days, idle.shape
    wakes, binges = (max(getattr(service, name) for service in simulation.services) for name in ("wakes", "binges"))
    uniform: np.ndarray = rng.random((n, weeks)) if wakes else np.ones((n, weeks))
    woken, week = np.nonzero(idle & (uniform < wakes))
    visits = 1 + rng.poisson(0.53, len(woken))
    woken, week = np.repeat(woken, visits), np.repeat(week, visits)
    bingeing: np.ndarray = rng.random((n,)) if binges else np.ones(n)
    heavy, day = np.divmod(np.repeat(np.flatnonzero(bingeing < binges), horizon) * horizon, horizon)
    day = day + np.tile(np.arange(horizon), len(heavy) // horizon)
    who = np.append(woken, heavy)
    day = np.append(7 * week + rng.integers(0, 7, len(week)), day)
    local = np.append(rng.uniform(17, 22, len(woken)), np.full(len(heavy), 9.0))
    place = who * horizon + day + (local - offset[who]) / 24 % 1
    kind = np.repeat(np.array([WAKING, BINGE], np.int8), [len(woken), len(heavy)])
    happens: np.ndarray = np.append(uniform[woken, week], np.take(bingeing, heavy))
    after = (day >= simulation.pre_days) & (day < horizon)
    return place[after], kind[after], happens[after]
