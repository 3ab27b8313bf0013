"""One life per service: the same chances, lived through under the service that an arm meets."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from helpers.simulate import show
from helpers.simulate.parameters import Service, Simulation
from helpers.simulate.viewing import Chances


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What became of the sessions and accounts of a block in one world."""

    happens: np.ndarray
    first_play_seconds: np.ndarray  # or of looking around, where nothing is played
    seconds: np.ndarray  # watched, 0 where nothing is played
    show: show.Sittings
    other_plays: np.ndarray  # plays of other titles
    discovery: np.ndarray  # factor on the new ranking's share of plays
    cancelled: np.ndarray  # per account, days after the launch, infinite where not
    hours: np.ndarray  # per account and 28 days after the launch, had nobody cancelled

    @property
    def plays(self) -> np.ndarray:
        """Count the plays of each session."""
        plays: np.ndarray = self.show.episodes + self.other_plays
        return plays


def live(simulation: Simulation, chances: Chances, service: Service, usual_hours: np.ndarray | None = None) -> Life:
    """Live through a block's chances under one service.

    Args:
        simulation: the parameters.
        chances: what chance decided.
        service: applies from the launch on; before it, every world is the service as it is.
        usual_hours: 28-day hours of the world to which this one is an alternative: of the difference, only the causal
            share moves churn. None where this world is itself the usual one.
    """
    v, launched = simulation.viewing, chances.launched
    happens = chances.happens < np.where(launched, service.opens, 1)
    plays = happens & (chances.plays < (1 - v.never_start) * np.where(launched, service.playing, 1))
    seconds = 3600 * chances.hours * plays * np.where(launched, service.session_hours, 1)
    account_day = chances.account * (simulation.pre_days + simulation.days) + chances.day
    per_day = np.bincount(account_day, weights=seconds)
    seconds *= np.minimum(1, 3600 * v.day_cap_hours / np.maximum(per_day, 1))[account_day]
    seconds = np.ceil(seconds).astype(np.int64)

    sittings = show.watch(simulation, chances, seconds) if service.show else show.none(chances)
    seconds += np.rint(simulation.show.incremental * sittings.seconds).astype(np.int64)
    hours = chances.per_account(seconds * launched) / 3600 * 28 / simulation.days
    cancelled = _cancelled(simulation, chances, service, sittings.starters, hours, usual_hours)
    stays = chances.day < simulation.pre_days + np.floor(cancelled)[chances.account]  # nothing on the day of leaving
    seconds *= stays
    sittings = show.Sittings(
        before=sittings.before,
        episodes=sittings.episodes * stays,
        seconds=sittings.seconds * stays,
        starters=chances.per_account(sittings.episodes * stays) > 0,
    )
    format_seconds = 60 * np.take(simulation.choice.format_minutes, chances.format)
    return Life(
        happens=happens & stays,
        first_play_seconds=np.floor(chances.first_play_seconds * np.where(launched, service.first_play, 1)),
        seconds=seconds,
        show=sittings,
        other_plays=-(-np.maximum(seconds - sittings.seconds, 0) // format_seconds),
        discovery=np.where(launched, service.discovery, 1),
        cancelled=cancelled,
        hours=hours,
    )


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
    hazard = -np.log1p(-np.minimum(probability * tenure, 0.99)) * service.churn
    hazard *= np.where(starters, simulation.show.churn, 1)
    with np.errstate(divide="ignore"):
        days = -28 * np.log1p(-chances.cancels) / hazard
    return np.where(days < simulation.days, days, np.inf)


def observed(chances: Chances, treated: np.ndarray, control: Life, treatment: Life) -> Life:
    """Give every account the life of its own arm; `treated` is a flag per account."""
    session = treated[chances.account]

    def of(name: str, mask: np.ndarray = session) -> np.ndarray:
        own: np.ndarray = np.where(mask, attrgetter(name)(treatment), attrgetter(name)(control))
        return own

    return Life(
        happens=of("happens"),
        first_play_seconds=of("first_play_seconds"),
        seconds=of("seconds"),
        show=show.Sittings(
            before=of("show.before"),
            episodes=of("show.episodes"),
            seconds=of("show.seconds"),
            starters=of("show.starters", treated),
        ),
        other_plays=of("other_plays"),
        discovery=of("discovery"),
        cancelled=of("cancelled", treated),
        hours=of("hours", treated),
    )
