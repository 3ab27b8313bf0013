"""One life per service: the same chances, lived through under the service that an arm meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from helpers.simulate import show
from helpers.simulate.parameters import Service
from helpers.simulate.simulation import Simulation
from helpers.simulate.viewing import BINGE, ORDINARY, WAKING, Chances

_PER_ACCOUNT = {"cancelled", "hours", "starters", "reached"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What became of the sessions and accounts of a block in one world, or of each account in its own."""

    happens: np.ndarray
    first_play_seconds: np.ndarray  # or of looking around, where nothing is played
    seconds: np.ndarray  # watched, 0 where nothing is played
    rebuffer: np.ndarray  # share of the time
    show: show.Sittings
    other_plays: np.ndarray  # plays of other titles
    discovery: np.ndarray  # factor on the new ranking's share of plays
    cancelled: np.ndarray  # per account, days after the launch, infinite where not
    hours: np.ndarray  # per account and 28 days after the launch, had nobody cancelled
    service: np.ndarray  # per account, position in `services`
    services: tuple[Service, ...]

    @property
    def plays(self) -> np.ndarray:
        """Count the plays of each session."""
        plays: np.ndarray = self.show.episodes + self.other_plays
        return plays

    def of(self, name: str) -> np.ndarray:
        """Look a value of each account's service up."""
        return np.array([getattr(service, name) for service in self.services])[self.service]


def busiest(services: Sequence[Service]) -> float:
    """Find the largest factor on opens, with what comes on top while a service is new."""
    return max(1, *(s.opens + s.novelty * max(s.opens - 1, 0) for s in services))


def live(simulation: Simulation, chances: Chances, service: Service, usual_hours: np.ndarray | None = None) -> Life:
    """Live through a block's chances under one service.

    Args:
        simulation: the parameters.
        chances: what chance decided.
        service: applies from the launch on; before it, every world is the service as it is.
        usual_hours: 28-day hours of the world to which this one is an alternative: of the difference, only the causal
            share moves churn. None where this world is itself the usual one.
    """
    v = simulation.viewing
    felt = _felt(simulation, chances, service)
    bound = np.where(chances.kind == ORDINARY, 1 + (service.opens - 1) * felt, 0)
    bound[chances.kind == WAKING], bound[chances.kind == BINGE] = service.wakes, service.binges
    happens = chances.happens < bound
    plays = happens & (chances.plays < (1 - v.never_start) * (1 + (service.playing - 1) * felt))
    rebuffer = rebuffering(simulation, chances, service)
    seconds = 3600 * chances.hours * plays * (1 + (service.session_hours - 1) * felt)
    seconds *= _patience(simulation, rebuffer)
    seconds = np.ceil(_within_days(simulation, chances, seconds)).astype(np.int64)

    new = service.show or service.placebo
    sittings = show.watch(simulation, chances, seconds, service) if new else show.none(chances)
    seconds += np.rint(simulation.show.incremental * sittings.seconds).astype(np.int64)
    hours = chances.per_account(seconds * chances.launched) / 3600 * 28 / simulation.days
    cancelled = _cancelled(simulation, chances, service, sittings.starters, hours, usual_hours)
    stays = chances.day < simulation.pre_days + np.floor(cancelled)[chances.account]  # nothing on the day of leaving
    seconds *= stays
    sittings = replace(
        sittings,
        episodes=sittings.episodes * stays,
        seconds=sittings.seconds * stays,
        starters=chances.per_account(sittings.episodes * stays) > 0,
        reached=sittings.reached & (chances.per_account(happens & stays & chances.launched) > 0),
    )
    format_seconds = 60 * np.take(simulation.choice.format_minutes, chances.format)
    return Life(
        happens=happens & stays,
        first_play_seconds=np.floor(chances.first_play_seconds * (1 + (service.first_play - 1) * felt)),
        seconds=seconds,
        rebuffer=rebuffer,
        show=sittings,
        other_plays=-(-np.maximum(seconds - sittings.seconds, 0) // format_seconds),
        discovery=1 + (service.discovery - 1) * felt,
        cancelled=cancelled,
        hours=hours,
        service=np.zeros(len(chances.people), np.int8),
        services=(service,),
    )


def _felt(simulation: Simulation, chances: Chances, service: Service) -> np.ndarray:
    """How much of a service's effects each session meets: none before the launch, more while they are new."""
    felt = chances.launched.astype(float)
    if service.novelty:
        felt *= 1 + service.novelty * 0.5 ** (np.maximum(chances.day - simulation.pre_days, 0) / 7)
    if service.new_tv:
        felt *= chances.people["new_tv"].to_numpy()[chances.account]
    return felt


def rebuffering(simulation: Simulation, chances: Chances, service: Service) -> np.ndarray:
    """Share of each session spent waiting, more of it at hours of high load."""
    q = simulation.quality
    ratio = q.rebuffer_ratio * np.exp(q.rebuffer_sd * chances.rebuffers)
    if service.overload:
        offset = np.take(simulation.people.utc_offsets, chances.people["region"].cat.codes.to_numpy())[chances.account]
        local = (24 * chances.clock + offset) % 24
        low, top, high = simulation.viewing.local_hours
        local = np.where(local < low, local + 24, local)
        load = service.overload * np.interp(local, [low, top, high], [0, 1, 0])
        late = chances.day >= simulation.pre_days + simulation.days // 2
        ratio *= 1 + late * q.load * np.maximum(load - q.spare, 0) ** 2
    return np.minimum(ratio, 1)


def _patience(simulation: Simulation, rebuffer: np.ndarray) -> np.ndarray:
    """Factor on a session's length, 1 at the usual mean of rebuffering: people leave a session that stutters."""
    q, v = simulation.quality, simulation.viewing
    usual = q.rebuffer_ratio * np.exp(q.rebuffer_sd**2 / 2)
    mean_minutes = 60 * v.session_hours * np.exp((v.session_account_sd**2 + v.session_sd**2) / 2)
    factor: np.ndarray = np.maximum(1 - 100 * q.rebuffer_minutes / mean_minutes * (rebuffer - usual), 0.1)
    return factor


def _within_days(simulation: Simulation, chances: Chances, seconds: np.ndarray) -> np.ndarray:
    """Move what a day cannot hold to the account's other sessions of that week; what these cannot hold is lost."""
    cap, before = 3600 * simulation.viewing.day_cap_hours, -(-simulation.pre_days // 7)
    day = chances.account * (simulation.pre_days + simulation.days) + chances.day
    kept = np.minimum(1, cap / np.maximum(np.bincount(day, weights=seconds), 1))[day]
    full = np.flatnonzero(kept < 1)
    if not len(full):
        return seconds
    weeks = before - (-simulation.days // 7)
    week = chances.account * weeks + before + (chances.day - simulation.pre_days) // 7
    free = np.bincount(week, weights=seconds * (kept == 1))
    moved = np.bincount(week[full], weights=(seconds * (1 - kept))[full], minlength=len(free))
    seconds = seconds * np.where(kept < 1, kept, 1 + moved[week] / np.maximum(free[week], 1))
    spread: np.ndarray = seconds * np.minimum(1, cap / np.maximum(np.bincount(day, weights=seconds), 1))[day]
    return spread


def _cancelled(
    simulation: Simulation,
    chances: Chances,
    service: Service,
    starters: np.ndarray,
    hours: np.ndarray,
    usual_hours: np.ndarray | None,
) -> np.ndarray:
    """Days from the launch to each account's cancellation, infinite where it falls after the last day."""
    c, people = simulation.churn, simulation.people
    felt = hours if usual_hours is None else usual_hours + c.causal * (hours - usual_hours)
    probability = c.level * (c.floor + c.slope * np.exp(-felt / c.scale_hours))
    first_year = (chances.people["tenure_days"] < 365).to_numpy()
    tenure = np.where(first_year, c.first_year, 1) / (1 + (c.first_year - 1) * people.first_year)
    reached = chances.people["new_tv"].to_numpy() if service.new_tv else 1
    hazard = -np.log1p(-np.minimum(probability * tenure, 0.99)) * (1 + (service.churn - 1) * reached)
    hazard *= np.where(starters, simulation.show.churn, 1)
    with np.errstate(divide="ignore"):
        days = -28 * np.log1p(-chances.cancels) / hazard
        days = np.where(days < 28, days, 28 + (days - 28) / service.late_churn)
    return np.where(days < simulation.days, days, np.inf)


def leaning(control: Service, service: Service, share: float) -> Service:
    """Move from control's service to another by a share of the difference; above 1, beyond it."""
    return replace(
        service,
        **{
            f.name: getattr(control, f.name) + share * (getattr(service, f.name) - getattr(control, f.name))
            for f in fields(Service)
            if isinstance(f.default, float)
        },
    )


def observed(chances: Chances, arm: np.ndarray, lives: Sequence[Life]) -> Life:
    """Give every account the life of its own arm; `arm` is a position in `lives` per account."""
    session = arm[chances.account]

    def merged(parts: Sequence[Any], names: Sequence[str]) -> dict[str, np.ndarray]:
        own = {}
        for name in names:
            by = arm if name in _PER_ACCOUNT else session
            own[name] = getattr(parts[0], name).copy()
            for nth, part in enumerate(parts[1:], start=1):
                np.copyto(own[name], getattr(part, name), where=by == nth)
        return own

    sittings = show.Sittings(**merged([life.show for life in lives], [f.name for f in fields(show.Sittings)]))
    arrays = [f.name for f in fields(Life) if f.name not in {"show", "service", "services"}]
    services = tuple(life.services[0] for life in lives)
    return Life(**merged(lives, arrays), show=sittings, service=arm, services=services)
