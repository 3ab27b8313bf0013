"""What an onlooker would see who knows everything: both worlds of each account, its traits, and its past."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from helpers.simulate import events, people, plays, show, surveys, viewing, worlds
from helpers.simulate.parameters import Service
from helpers.simulate.scenarios import SCENARIOS
from helpers.simulate.simulation import Event, Simulation

GROUPS = 20  # of accounts, between which the error of the simulation is measured
QUALITIES = {"poor": -0.55, "weak": -0.3, "average": 0.0, "good": 0.3, "hit": 0.9}  # log-odds to go on
HOW = ("continue_watching", "browse", "search", "notification", "autoplay_next")
_OUTAGE: Event = ("outage", 23, 1, 0.85)
_WINDOWS = {"season": range(7), "final": range(9, 10), "holidays": range(14, 21), "outage": range(23, 24)}
_BLOCK = 5_000
_USUAL, _SHOW = Service(), Service(show=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What some accounts did in four weeks before the launch and four after it, in the world without the show.

    `accounts` has a row for each and sums of what it did; columns that begin with `show_` are of the world with the
    show. `sessions` has a row for each session, `asked` one for each survey. All have the column `group`.
    """

    accounts: pd.DataFrame
    sessions: pd.DataFrame
    asked: pd.DataFrame

    @property
    def weeks(self) -> np.ndarray:
        """Hours by account and week before the launch."""
        return self.accounts[[f"before_{week}" for week in range(4)]].to_numpy()

    @property
    def month(self) -> np.ndarray:
        """Hours by account in the four weeks before the launch."""
        total: np.ndarray = self.weeks.sum(axis=1)
        return total

    @property
    def starters(self) -> pd.DataFrame:
        """Keep the accounts that start the show."""
        return self.accounts[self.accounts["show_started"]]


def live(simulation: Simulation) -> Lived:
    """Live all accounts of a simulation through both worlds and a holiday season; offer them shows of any quality."""
    people_seed, events_seed = np.random.SeedSequence(simulation.seed).spawn(2)
    everyone = people.draw(simulation, people_seed)
    parts = [everyone.iloc[first : first + _BLOCK] for first in range(0, len(everyone), _BLOCK)]
    lived = [_block(simulation, part, seed) for part, seed in zip(parts, events_seed.spawn(len(parts)), strict=True)]
    frames = {
        name: pd.concat([getattr(one, name) for one in lived], ignore_index=True)
        for name in ("accounts", "sessions", "asked")
    }
    fifth = pd.qcut(frames["accounts"]["affinity"], 5, labels=False)
    return Lived(accounts=frames["accounts"].assign(fifth=fifth), sessions=frames["sessions"], asked=frames["asked"])


def daily(simulation: Simulation) -> pd.Series[float]:
    """Hours per account on each day, counted from the launch, in the world without one."""
    everyone = people.draw(simulation, np.random.SeedSequence(simulation.seed))
    chances = viewing.draw(simulation, everyone, 1.0, np.random.default_rng(simulation.seed))
    life = worlds.live(simulation, chances, _USUAL)
    days = pd.RangeIndex(-simulation.pre_days, simulation.days, name="day")
    hours = np.bincount(chances.day, weights=life.seconds, minlength=len(days)) / 3600 / len(everyone)
    return pd.Series(hours, index=days, name="hours")


def holidays(simulation: Simulation) -> Simulation:
    """Put the calendar of the holiday season, and an outage, on a simulation."""
    return replace(simulation, events=(*SCENARIOS["holiday"].world["events"], _OUTAGE))


def survival(lived: Lived) -> pd.DataFrame:
    """Share of those who start that come to each episode, given time, by the quality of the show."""
    starters = lived.starters
    last = int(starters["reach_average"].max())
    return pd.DataFrame(
        {name: [(starters[f"reach_{name}"] >= nth).mean() for nth in range(1, last + 1)] for name in QUALITIES},
        index=pd.RangeIndex(1, last + 1, name="episode"),
    )


def _block(simulation: Simulation, everyone: pd.DataFrame, seed: np.random.SeedSequence) -> Lived:
    rng, n = np.random.default_rng(seed), len(everyone)
    group = np.arange(n) % GROUPS
    chances = viewing.draw(simulation, everyone, 1.0, rng)
    control = worlds.live(simulation, chances, _USUAL)
    treated = worlds.live(simulation, chances, _SHOW, control.hours)
    possible, opinions = plays.draw(simulation, control.plays, rng), surveys.draw(n, rng)
    played = plays.happened(simulation, chances, possible, control)
    prompts = surveys.prompts(simulation, chances, opinions, played, control)
    luck = events.draw(simulation, chances, possible, rng)
    logs = events.tables(simulation, chances, possible, luck, control, played, prompts)
    held = control.happens
    silent, slow = control.seconds[held] == 0, chances.slow[held] < simulation.quality.slow_network
    sessions = pd.DataFrame(
        {
            "group": group[chances.account[held]],
            "minutes": control.seconds[held] / 60,
            "first_play": np.where(silent, np.nan, control.first_play_seconds[held] / 60),
            "delay": np.where(silent | slow, np.nan, events.delay_ms(simulation, chances, control)[held]),
            "slow": slow,
            "rebuffer": np.where(silent, np.nan, control.rebuffer[held]),
            "failed": silent & events.start_failed(simulation, chances)[held],
            "crashed": chances.crashes[held] < simulation.quality.crash,
        }
    )
    asked = pd.DataFrame(
        {
            "group": group[prompts.account],
            "thinks": prompts.thinks,
            "score": prompts.score,
            "answered": prompts.answered,
        }
    )
    how = logs["plays"]["initiation"].combine_chunks()
    begun = np.array(how.dictionary.to_pylist())[how.indices.to_numpy()]
    payment = pd.Series(logs["cancellations"]["kind"].to_pylist(), dtype=str).eq("payment").to_numpy()
    accounts = (
        _of_viewing(simulation, chances, control)
        | _of_the_show(simulation, chances, treated, control.hours)
        | {f"begun_{name}": np.bincount(played.account[begun == name], minlength=n) for name in HOW}
        | {
            "group": group,
            "first_year": (everyone["tenure_days"] < 365).to_numpy(),
            "affinity": everyone["affinity"].to_numpy(),
            "plays": np.bincount(played.account, minlength=n),
            "seconds": np.bincount(played.account, played.seconds, n),
            "found": np.bincount(played.account, played.seconds * possible.recommended[played.row], n),
            "whole": np.bincount(played.account, played.seconds == played.whole, n),
            "rated": np.bincount(played.account, plays.thumbs(simulation, possible, played), n),
            "asks": np.isfinite(events.asks(simulation, chances, control)),
            "left": np.isfinite(control.cancelled),
            "back": events.days_away(simulation, luck) < 365,
            "pays": _flags(n, np.flatnonzero(np.isfinite(control.cancelled))[payment]),
        }
    )
    return Lived(accounts=pd.DataFrame(accounts), sessions=sessions, asked=asked)


def _flags(n: int, rows: np.ndarray) -> np.ndarray:
    flags = np.zeros(n, bool)
    flags[rows] = True
    return flags


def _of_viewing(simulation: Simulation, chances: viewing.Chances, control: worlds.Life) -> dict[str, np.ndarray]:
    """Sum hours by account: by week and weekday before the launch, after it, and on the days of a season's calendar."""
    day = chances.day - simulation.pre_days
    hours = control.seconds / 3600
    weekday = (chances.day + (simulation.start.weekday() - simulation.pre_days)) % 7
    before = ~chances.launched
    minutes = 60 * hours * before * (hours > 0)
    season = holidays(simulation)
    other = viewing.draw(season, chances.people, 1.0, np.random.default_rng(chances.people.index[0]))
    lived = worlds.live(season, other, _USUAL)
    loaded = worlds.rebuffering(simulation, chances, Service(overload=1.05))
    slower = np.where(loaded < 1, loaded / worlds.rebuffering(simulation, chances, _USUAL), 1)
    most = np.zeros(len(chances.people))
    np.maximum.at(most, chances.account, slower)
    return (
        {f"before_{week}": chances.per_account(hours * (chances.day // 7 == week) * before) for week in range(4)}
        | {f"weekday_{nth}": chances.per_account(hours * before * (weekday == nth)) for nth in range(7)}
        | {f"usual_{name}": chances.per_account(hours * np.isin(day, list(days))) for name, days in _WINDOWS.items()}
        | {
            f"season_{name}": other.per_account(lived.seconds / 3600 * np.isin(other.day - season.pre_days, list(days)))
            for name, days in _WINDOWS.items()
        }
        | {
            "after": chances.per_account(hours * chances.launched),
            "uncancelled": control.hours,
            "cancelled": control.cancelled < 28,
            "visits": chances.per_account(minutes > 0),
            "minutes": chances.per_account(minutes),
            "squares": chances.per_account(minutes**2),
            "rebuffering": most,
        }
    )


def _of_the_show(
    simulation: Simulation, chances: viewing.Chances, treated: worlds.Life, usual_hours: np.ndarray
) -> dict[str, np.ndarray]:
    """What each account does with the show; `reach` as if it had all the time it needs."""
    day = chances.day - simulation.pre_days
    hours, begins = treated.show.seconds / 3600, (treated.show.episodes > 0) & (treated.show.before == 0)

    everybody = replace(simulation, show=replace(simulation.show, start=20.0))
    able = worlds.live(everybody, chances, _SHOW, usual_hours).show.starters

    def would(service: Service, log_odds: float = 0) -> np.ndarray:
        logs = replace(simulation.logs, campaign=(log_odds, log_odds, log_odds, log_odds))
        wants = chances.starts < show.start_probability(replace(simulation, logs=logs), chances, service)
        flags: np.ndarray = wants & able
        return flags

    def last_episode(quality: float) -> np.ndarray:
        return show.reach(replace(simulation, show=replace(simulation.show, quality=quality)), chances)

    return (
        {f"show_hours_{week}": chances.per_account(hours * (day // 7 == week)) for week in range(4)}
        | {f"show_starts_{week}": chances.per_account(begins & (day // 7 == week)) for week in range(4)}
        | {f"would_{shift}": would(_SHOW, shift) for shift in (0.25, 0.5, 0.8)}
        | {f"reach_{name}": last_episode(quality) for name, quality in QUALITIES.items()}
        | {
            "show_hours": chances.per_account(hours),
            "show_hours_15": chances.per_account(hours * (day < 15)),
            "show_started": treated.show.starters,
            "show_told": would(replace(_SHOW, told=True)),
            "show_reached": treated.show.reached,
            "show_after": chances.per_account(treated.seconds * chances.launched) / 3600,
            "show_cancelled": treated.cancelled < 28,
        }
    )
