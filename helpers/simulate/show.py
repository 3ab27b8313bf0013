"""The launch title: who starts it, in which session, and how far each gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.simulate.parameters import Simulation
from helpers.simulate.viewing import Chances


@dataclass(frozen=True, slots=True, kw_only=True)
class Sittings:
    """What each session holds of the show."""

    before: np.ndarray  # episodes that the account has seen
    episodes: np.ndarray
    seconds: np.ndarray
    starters: np.ndarray  # per account


def none(chances: Chances) -> Sittings:
    """Describe a service without the show."""
    nothing = np.zeros(len(chances.account), dtype=np.int64)
    return Sittings(before=nothing, episodes=nothing, seconds=nothing, starters=np.zeros(len(chances.people), bool))


def watch(simulation: Simulation, chances: Chances, seconds: np.ndarray) -> Sittings:
    """Fit the show into sessions of the lengths `seconds`, so that `incremental` of its hours comes on top.

    A session holds as many episodes as replace no more than its own length; the next session with room goes on.
    Who has no such session cannot start: the show draws nobody to the service.
    """
    s = simulation.show
    week = (chances.day - simulation.pre_days) // 7
    weights = np.append(s.start_weeks, 0.0)[np.where(chances.launched, np.minimum(week, len(s.start_weeks)), -1)]
    room = np.floor(seconds / (60 * s.minutes * (1 - s.incremental))).astype(np.int64)

    starters = chances.starts < _start_probability(simulation, chances)
    eligible = np.flatnonzero((weights > 0) & (room > 0) & starters[chances.account])
    order = eligible[np.argsort(np.log(weights[eligible]) + chances.pull[eligible])]
    first = np.full(len(starters), len(room))
    first[chances.account[order]] = order  # the last of an account stays: weighted choice by the Gumbel maximum
    room[np.arange(len(room)) < first[chances.account]] = 0

    before = chances.before(room)
    reach = _reach(simulation, chances)[chances.account]
    episodes = np.clip(reach - before, 0, room)
    quits_here = (episodes > 0) & (before + episodes == reach) & (reach <= len(s.going_on))
    unseen = np.where(quits_here, 0.9 * chances.quits[chances.account], 0)  # of the episode in which they stop, A
    return Sittings(
        before=before,
        episodes=episodes,
        seconds=np.rint(60 * s.minutes * (episodes - unseen)).astype(np.int64),
        starters=first < len(room),
    )


def _start_probability(simulation: Simulation, chances: Chances) -> np.ndarray:
    """Probability to start within 28 days, or within the launch where that is shorter."""
    s, people = simulation.show, chances.people
    covered = np.repeat(np.array(s.start_weeks) / 7, 7)[: simulation.days].sum() / sum(s.start_weeks)
    log_odds = (
        s.start
        + s.start_affinity * people["affinity"].to_numpy()
        + s.start_intensity * people["intensity"].to_numpy()
        + s.start_new_tv * people["new_tv"].to_numpy()
    )
    probability: np.ndarray = covered / (1 + np.exp(-log_odds))
    return probability


def _reach(simulation: Simulation, chances: Chances) -> np.ndarray:
    """Last episode that each account would get to, given time."""
    s = simulation.show
    base = np.log(np.array(s.going_on) / (1 - np.array(s.going_on)))
    person = s.going_on_affinity * chances.people["affinity"].to_numpy() + s.going_on_sd * chances.persistence
    goes_on = chances.goes_on < 1 / (1 + np.exp(-(base + s.quality + person[:, None])))
    reach: np.ndarray = 1 + np.cumprod(goes_on, axis=1).sum(axis=1)
    return reach
