"""The launch title: who starts it, in which session, and how far each gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helpers.simulate.parameters import Service
from helpers.simulate.people import habit
from helpers.simulate.simulation import Simulation
from helpers.simulate.viewing import Chances

_SHOW = Service(show=True)
_TOP_DECILE = 1.2816  # of a standard normal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sittings:
    """What each session holds of the show."""

    before: np.ndarray  # episodes that the account has seen
    episodes: np.ndarray
    seconds: np.ndarray
    starters: np.ndarray  # per account
    reached: np.ndarray  # per account: has seen the title shown


def none(chances: Chances) -> Sittings:
    """Describe a service without the show."""
    nothing = np.zeros(len(chances.account), dtype=np.int64)
    nobody = np.zeros(len(chances.people), bool)
    return Sittings(before=nothing, episodes=nothing, seconds=nothing, starters=nobody, reached=nobody)


def watch(simulation: Simulation, chances: Chances, seconds: np.ndarray, service: Service) -> Sittings:
    """Fit the show into sessions of the lengths `seconds`, so that `incremental` of its hours comes on top.

    A session holds as many episodes as replace no more than its own length; the next session with room goes on.
    Who has no such session cannot start: the show draws nobody to the service.
    """
    s = simulation.show
    week = (chances.day - simulation.pre_days) // 7
    weights = np.append(s.start_weeks, 0.0)[np.where(chances.launched, np.minimum(week, len(s.start_weeks)), -1)]
    weights *= 0.5 ** (chances.day % 7 / 7)  # falls within a week about as from week to week
    room = np.floor(seconds / (60 * s.minutes * (1 - s.incremental))).astype(np.int64)
    weights *= room  # begun when there is time for it

    starts = start_probability(simulation, chances, service) * service.reach
    starters = chances.starts < starts
    shown = s.impression * service.reach  # starters have seen it; of the others, as many as make up the reach
    reached = starters | (chances.sees < np.maximum(shown - starts, 0) / np.maximum(1 - starts, 1e-9))
    eligible = np.flatnonzero((weights > 0) & starters[chances.account])
    order = eligible[np.argsort(np.log(weights[eligible]) + chances.pull[eligible])]
    first = np.full(len(starters), len(room))
    first[chances.account[order]] = order  # the last of an account stays: weighted choice by the Gumbel maximum
    room[np.arange(len(room)) < first[chances.account]] = 0

    before = chances.before(room)
    began = np.append(chances.day, simulation.pre_days)[first] - simulation.pre_days
    last = reach(simulation, chances, began)[chances.account]
    episodes = np.clip(last - before, 0, room)
    quits_here = (episodes > 0) & (before + episodes == last) & (last <= len(s.going_on))
    unseen = np.where(
        quits_here, 0.3 * chances.quits[chances.account], 0
    )  # of the last episode: few stop within one, A
    return Sittings(
        before=before,
        episodes=episodes,
        seconds=np.rint(60 * s.minutes * (episodes - unseen)).astype(np.int64),
        starters=first < len(room),
        reached=reached,
    )


def start_probability(simulation: Simulation, chances: Chances, service: Service = _SHOW) -> np.ndarray:
    """Probability to start within 28 days, or within the launch where that is shorter."""
    s, people = simulation.show, chances.people
    covered = np.repeat(np.array(s.start_weeks) / 7, 7)[: simulation.days].sum() / sum(s.start_weeks)
    affinity, usual = people["affinity"].to_numpy(), habit(simulation, people)
    campaign = np.take(simulation.logs.campaign, people["region"].cat.codes.to_numpy())
    log_odds = s.start + s.start_affinity * affinity + s.start_habit * usual + campaign
    log_odds += s.start_new_tv * people["new_tv"].to_numpy() + s.placebo * service.placebo
    if service.told:
        log_odds += s.disclosure * np.where(usual > _TOP_DECILE, s.disclosure_heavy, 1)
    log_odds[affinity < s.audience] = s.elsewhere
    probability: np.ndarray = covered / (1 + np.exp(-log_odds))
    return probability


def reach(simulation: Simulation, chances: Chances, began: np.ndarray | float = math.inf) -> np.ndarray:
    """Last episode that each account would get to, given time; `began` is the day from the launch on which it started.

    Who starts in the first two weeks is carried on by the honeymoon, if there is one.
    """
    s = simulation.show
    honeymoon = np.where(np.asarray(began) < 14, s.honeymoon * 0.5 ** (np.asarray(began) / 7), 0)
    base = np.log(np.array(s.going_on) / (1 - np.array(s.going_on)))
    person = (
        s.going_on_affinity * chances.people["affinity"].to_numpy() + s.going_on_sd * chances.persistence + honeymoon
    )
    goes_on = chances.goes_on < 1 / (1 + np.exp(-(base + s.quality + person[:, None])))
    last: np.ndarray = 1 + np.cumprod(goes_on, axis=1).sum(axis=1)
    return last
