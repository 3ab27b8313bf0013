"""What a block's accounts did in one world since the launch: the sums and distributions that the truth is read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.simulate import events, titles
from helpers.simulate.events import Luck
from helpers.simulate.people import pick
from helpers.simulate.plays import PlayChances, Played, thumbs
from helpers.simulate.simulation import Simulation
from helpers.simulate.surveys import Prompts
from helpers.simulate.viewing import DAY, Chances
from helpers.simulate.worlds import Life

SEGMENTS = ("region", "device", "tenure", "engagement", "new_tv")
BINS = {  # the last: that or more
    "seconds_to_first_play": 1_801,
    "play_delay_ms": 30_001,
    "rebuffer_ratio": 10_001,
    "recommendation_ms": 3_001,
}
REBUFFER_BINS = 100_000  # to the whole: as finely as it is logged
_VIEW, _WHOLE, _GAP = 300, 0.9, 1_800  # seconds of a view, share of a whole one, seconds between two visits


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over accounts of one world, of which those of blocks add up.

    Attributes:
        sums: a row per segment, level and week (0: all of them), in this index; a column per count.
        spread: for each name in `BINS`, sessions by group (row, in the order of `sums`) and value (column).
        creators: minutes by group and creator.
        reached: accounts by group and title, of those that played it and of those that were shown it.
    """

    sums: pd.DataFrame
    spread: Mapping[str, np.ndarray]
    creators: np.ndarray
    reached: Mapping[str, np.ndarray]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            sums=self.sums + other.sums,
            spread={name: counts + other.spread[name] for name, counts in self.spread.items()},
            creators=self.creators + other.creators,
            reached={name: counts + other.reached[name] for name, counts in self.reached.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of each account, over all weeks and by week (account, week); what only the whole has is in `whole`."""

    weekly: Mapping[str, np.ndarray]
    whole: Mapping[str, np.ndarray]

    @property
    def hours(self) -> np.ndarray:
        """Hours of each account."""
        hours: np.ndarray = self.weekly["hours"].sum(axis=1)
        return hours


@dataclass(frozen=True, slots=True, kw_only=True)
class _Happened:
    """The sessions and plays since the launch, with the seconds from it."""

    session: np.ndarray
    session_at: np.ndarray
    who: np.ndarray  # account of each session
    play_at: np.ndarray


def tally(
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    luck: Luck,
    life: Life,
    played: Played,
    prompts: Prompts,
    weight: np.ndarray,
) -> tuple[Tally, np.ndarray]:
    """Add a block up in one world, and give the hours of each account beside.

    `played` are the plays since the launch. `weight`, per account, is one over the inclusion probability, so that the
    truth is the population's where a draw is not even, and 0 for accounts that do not stand for it.
    """
    begins = events.session_starts(simulation, chances, life) - DAY * simulation.pre_days
    session = np.flatnonzero(chances.launched & life.happens)
    happened = _Happened(
        session=session,
        session_at=begins[session],
        who=chances.account[session],
        play_at=(begins + life.first_play_seconds)[played.session] + played.offset,
    )
    counts = _counts(simulation, chances, plays, luck, life, played, prompts, happened, begins)
    codes, levels = _levels(chances.people)
    weeks = -(-simulation.days // 7)
    sums = np.concatenate(
        [
            np.column_stack([np.bincount(code, values.sum(1) * weight, size) for values in counts.weekly.values()])
            for code, size in codes
        ]
    )
    frame = pd.DataFrame(sums, columns=list(counts.weekly))
    for name, values in counts.whole.items():
        frame[name] = np.concatenate([np.bincount(code, values * weight, size) for code, size in codes])
    of_week = pd.DataFrame({name: values.T @ weight for name, values in counts.weekly.items()})
    frame = pd.concat([frame, _flagged(counts, codes, weight)], axis=1)
    of_week = pd.concat([of_week, _flagged_by_week(counts, weight)], axis=1)
    by_week = [("week", "all", nth + 1) for nth in range(weeks)]
    frame.index = pd.MultiIndex.from_tuples([(*level, 0) for level in levels], names=["segment", "level", "week"])
    of_week.index = pd.MultiIndex.from_tuples(by_week, names=frame.index.names)
    rows = [(code[happened.who], size) for code, size in codes] + [(_week(happened.session_at), weeks)]
    played_rows = [(code[played.account], size) for code, size in codes] + [(_week(happened.play_at), weeks)]
    reached = {
        "catalogue_coverage": (played.account, events.title(simulation, plays, life, played), happened.play_at),
        "recommendation_coverage": _shown(simulation, chances, luck, life, begins),
    }
    return (
        Tally(
            sums=pd.concat([frame, of_week]),
            spread=_spread(simulation, chances, luck, life, session, rows, weight[happened.who]),
            creators=_creators(simulation, plays, life, played, played_rows, weight[played.account]),
            reached={
                name: _reached(*seen, codes, weeks, weight, simulation.choice.titles + 2)
                for name, seen in reached.items()
            },
        ),
        counts.hours,
    )


def _week(at: np.ndarray) -> np.ndarray:
    return (at // (7 * DAY)).astype(np.int64)


def _levels(people: pd.DataFrame) -> tuple[list[tuple[np.ndarray, int]], list[tuple[str, str]]]:
    """Number the levels of each segment: codes of the accounts and their number, and what the levels are called."""
    codes: list[tuple[np.ndarray, int]] = [(np.zeros(len(people), np.int64), 1)]
    levels = [("all", "all")]
    for segment in SEGMENTS:
        column = people[segment]
        names = ["False", "True"] if column.dtype == bool else column.cat.categories.tolist()
        numbers = column.astype(np.int64) if column.dtype == bool else column.cat.codes
        codes.append((numbers.to_numpy(np.int64), len(names)))
        levels += [(segment, str(name)) for name in names]
    return codes, levels


def _counts(
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    luck: Luck,
    life: Life,
    played: Played,
    prompts: Prompts,
    happened: _Happened,
    begins: np.ndarray,
) -> Counts:
    n, weeks = len(chances.people), -(-simulation.days // 7)

    def by(account: np.ndarray, at: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        keys = account * weeks + np.minimum(_week(at), weeks - 1)
        return np.bincount(keys, values, n * weeks).reshape(n, weeks).astype(float)

    s, who, at = happened.session, happened.who, happened.session_at
    silent, first = life.seconds[s] == 0, life.first_play_seconds[s]
    account, play_at, minutes = played.account, happened.play_at, played.seconds / 60
    show = played.of_show & ~life.of("placebo")[account]
    how, browsed = events.initiation(simulation, luck, life, played), events.names(simulation.choice.chosen)
    autoplay, view = how == len(browsed), played.seconds >= _VIEW
    title = events.title(simulation, plays, life, played)
    small = np.concatenate([[False], titles.tiers(simulation) == titles.TIERS.index("tail"), [False]])
    end = play_at + played.seconds
    rated = thumbs(simulation, plays, played) & (end < DAY * simulation.days)
    down = rated & (played.stars <= 2)
    whole, episode = events.completed(played) >= _WHOLE, events.nth_episode(life, played)
    screen, shown, *_ = events.screens(simulation, chances, luck, life)
    screen, shown = screen[chances.launched[screen]], shown[chances.launched[screen]]
    new = events.shown_in(chances, life)
    new_to = np.flatnonzero(new >= 0)
    of_launch = ~life.of("placebo")[new_to]
    visits = _visits(chances, life, begins)[s]
    gone, asks = np.isfinite(life.cancelled), events.asks(simulation, chances, life)
    left, helped = np.flatnonzero(gone & (life.cancelled < 28)), np.flatnonzero(np.isfinite(asks))
    returned = events.back(simulation, luck, life)
    payment = luck.payment[left] < simulation.churn.payment
    topic = pick(simulation.logs.topics, luck.topic)[helped]
    finding = events.names(simulation.logs.topics).index("finding titles")
    said = end[prompts.play]
    asked = said < DAY * simulation.days
    answers = prompts.answered & asked
    nps = answers & ~prompts.one_tap
    days, returns = _days(simulation, n, who, at)
    show_days, _ = _days(simulation, n, account[show], play_at[show])
    found_days, _ = _days(simulation, n, account[played.shadow], play_at[played.shadow])
    value = np.full(n, float(simulation.days))
    np.minimum.at(value, account[whole], play_at[whole] / DAY)
    up = rated & (played.stars >= 4)
    np.minimum.at(value, account[up], end[up] / DAY)
    length = np.minimum(simulation.days / 7 - np.arange(weeks), 1)
    weekly = {
        "weeks": np.tile(length, (n, 1)),
        "minutes": by(account, play_at, minutes),
        "hours": by(account, play_at, minutes / 60),
        "sessions": by(who, at),
        "visits": by(who, at, visits),
        "fast": by(who, at, ~silent & (first <= _VIEW)),
        "never": by(who, at, silent),
        "effort": by(who, at, np.where(silent, 300, first)) + 30 * by(account, play_at, how == browsed.index("search")),
        "failed": by(who, at, silent & events.start_failed(simulation, chances)[s]),
        "crashed": by(who, at, chances.crashes[s] < simulation.quality.crash),
        "delayed": by(who, at, ~silent),
        "delay": by(who, at, ~silent * events.delay_ms(simulation, chances, life)[s]),
        "waiting": by(who, at, ~silent * life.rebuffer[s].round(5)),
        "returns": _weekly(returns, weeks),
        "days_but_last": _weekly(days[:, : simulation.days - 1], weeks),
        "plays": by(account, play_at),
        "shadow": by(account, play_at, played.shadow),
        "chosen": by(account, play_at, ~autoplay),
        "chosen_minutes": by(account, play_at, ~autoplay * minutes),
        "tail_minutes": by(account, play_at, small[title] * minutes),
        "long_plays": by(account, play_at, view),
        "down": by(account, end, down),
        "hidden": by(account, end, down & (luck.hides[played.row] < simulation.satisfaction.hide)),
        "show_plays": by(account, play_at, show),
        "show_whole": by(account, play_at, show & whole),
        "show_hours": by(account, play_at, show * minutes / 60),
        "other_hours": by(account, play_at, ~show * minutes / 60),
        "pilots": by(account, play_at, show & whole & (episode == 1)),
        **{f"episode_{nth}": by(account, play_at, show & (episode >= nth)) for nth in (2, 4, 8)},
        "show_days": _weekly(show_days, weeks),
        "found_days": _weekly(found_days, weeks),
        "shown": by(new_to, begins[new[new_to]], of_launch),
        "impressions": by(chances.account[screen], begins[screen]) + by(new_to, begins[new[new_to]]),
        "tail_impressions": by(chances.account[screen], begins[screen], small[shown]),
        "left": by(left, DAY * life.cancelled[left]),
        "left_by_choice": by(left, DAY * life.cancelled[left], ~payment),
        "left_for_good": by(left, DAY * life.cancelled[left], returned[left] >= simulation.days),
        "left_unpaid": by(left, DAY * life.cancelled[left], payment),
        "tickets": by(helped, DAY * asks[helped]),
        "finding_1000": 1000 * by(helped, DAY * asks[helped], topic == finding),
        "asked": by(prompts.account, said, asked),
        "thinks": by(prompts.account, said, asked * prompts.thinks),
        "answers": by(prompts.account, said, answers),
        "scores": by(prompts.account, said, answers * prompts.score),
        "top": by(prompts.account, said, answers & (prompts.score == 5)),
        "nps_answers": by(prompts.account, said, nps),
        "efforts": by(prompts.account, said, nps * prompts.effort),
        "promoters": 100 * by(prompts.account, said, nps * ((prompts.nps >= 9).astype(float) - (prompts.nps <= 6))),
        "titles": _distinct(account[view], title[view], play_at[view], n, weeks, len(small)),
    }
    return Counts(
        weekly=weekly,
        whole={
            "titles": _distinct(account[view], title[view], 0 * play_at[view], n, 1, len(small))[:, 0],
            "days_to_value": value,
            "days_to_leave": np.minimum(life.cancelled, simulation.days),
        },
    )


def _visits(chances: Chances, life: Life, begins: np.ndarray) -> np.ndarray:
    """Flag the sessions that begin half an hour or more after the account's previous one."""
    held = np.flatnonzero(life.happens)
    apart = np.diff(begins[held], prepend=-np.inf) >= _GAP
    apart[np.diff(chances.account[held], prepend=-1) > 0] = True
    flags = np.zeros(len(begins), bool)
    flags[held] = apart
    return flags


def _days(simulation: Simulation, n: int, account: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flag the days with an event of each account, and those of them that another follows."""
    days = np.zeros((n, simulation.days), bool)
    days[account, np.minimum(at // DAY, simulation.days - 1).astype(np.int64)] = True
    return days, days[:, :-1] & days[:, 1:]


def _weekly(days: np.ndarray, weeks: int) -> np.ndarray:
    """Count flagged days by week."""
    padded = np.zeros((len(days), 7 * weeks))
    padded[:, : days.shape[1]] = days
    counted: np.ndarray = padded.reshape(len(days), weeks, 7).sum(axis=2)
    return counted


def _distinct(account: np.ndarray, title: np.ndarray, at: np.ndarray, n: int, weeks: int, size: int) -> np.ndarray:
    """Count the different titles of each account by week."""
    keys = np.unique((account * weeks + _week(at)) * size + title)
    return np.bincount(keys // size, minlength=n * weeks).reshape(n, weeks).astype(float)


_ONCE = {  # whether it happened at all
    "active": "sessions",
    "starts": "show_plays",
    "finishes_pilot": "pilots",
    **{f"reaches_{nth}": f"episode_{nth}" for nth in (2, 4, 8)},
    "reached": "shown",
    "crashes": "crashed",
    "active_weeks": "delayed",
}
_TWICE = {"show_repeats": "show_days", "found_repeats": "found_days"}  # on two days at least


def _flags(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn counts into what is said of an account as a whole."""
    found = {name: values[of] > 0 for name, of in _ONCE.items()}
    found |= {name: values[of] > 1 for name, of in _TWICE.items()}
    found["accounts"] = np.ones_like(values["sessions"], bool)
    found["own_minutes"] = found["active"] * values["minutes"] / np.maximum(values["sessions"], 1)
    found["active_time"] = found["active"] * values["weeks"]
    return {name: flag.astype(float) for name, flag in found.items()}


def _flagged(counts: Counts, codes: list[tuple[np.ndarray, int]], weight: np.ndarray) -> pd.DataFrame:
    flags = _flags({name: values.sum(axis=1) for name, values in counts.weekly.items()})
    flags["active_weeks"] = (counts.weekly["delayed"] > 0).sum(axis=1).astype(float)
    return pd.DataFrame(
        {
            name: np.concatenate([np.bincount(code, flag * weight, size) for code, size in codes])
            for name, flag in flags.items()
        }
    )


def _flagged_by_week(counts: Counts, weight: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({name: flag.T @ weight for name, flag in _flags(counts.weekly).items()})


def _spread(
    simulation: Simulation,
    chances: Chances,
    luck: Luck,
    life: Life,
    session: np.ndarray,
    rows: list[tuple[np.ndarray, int]],
    weight: np.ndarray,
) -> dict[str, np.ndarray]:
    """Count the sessions that have a value by group and value; without a play there is none but the last."""
    everywhere = np.ones(len(session), bool)
    with_play = life.seconds[session] > 0
    values = {
        "seconds_to_first_play": life.first_play_seconds[session],
        "play_delay_ms": events.delay_ms(simulation, chances, life)[session],
        "rebuffer_ratio": np.rint(REBUFFER_BINS * life.rebuffer[session]),
        "recommendation_ms": events.recommendation_ms(simulation, luck)[session],
    }
    spread = {}
    for name, size in BINS.items():
        playing = everywhere if name == "recommendation_ms" else with_play
        value = np.minimum(values[name][playing], size - 1).astype(np.int64)
        spread[name] = np.concatenate(
            [
                np.bincount(row[playing] * size + value, weight[playing], groups * size).reshape(groups, size)
                for row, groups in rows
            ]
        )
    return spread


def _creators(
    simulation: Simulation,
    plays: PlayChances,
    life: Life,
    played: Played,
    rows: list[tuple[np.ndarray, int]],
    weight: np.ndarray,
) -> np.ndarray:
    """Add minutes up by group and creator."""
    creator = titles.creators(simulation)[events.title(simulation, plays, life, played)]
    size, minutes = int(titles.creators(simulation).max()) + 1, weight * played.seconds / 60
    return np.concatenate(
        [np.bincount(row * size + creator, minutes, groups * size).reshape(groups, size) for row, groups in rows]
    )


def _shown(
    simulation: Simulation, chances: Chances, luck: Luck, life: Life, begins: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give account, title and second of every impression since the launch."""
    screen, shown, *_ = events.screens(simulation, chances, luck, life)
    since = chances.launched[screen]
    new = events.shown_in(chances, life)
    to = np.flatnonzero(new >= 0)
    which = np.where(life.of("placebo")[to], simulation.choice.titles + 1, 0)
    session = np.append(screen[since], new[to])
    return chances.account[session], np.append(shown[since], which), begins[session]


def _reached(
    account: np.ndarray,
    title: np.ndarray,
    at: np.ndarray,
    codes: list[tuple[np.ndarray, int]],
    weeks: int,
    weight: np.ndarray,
    size: int,
) -> np.ndarray:
    """Count the accounts of each group, and at last of each week, that reached each title."""
    who, what = np.divmod(np.unique(account * size + title), size)
    found = [
        np.bincount(code[who] * size + what, weight[who], groups * size).reshape(groups, size) for code, groups in codes
    ]
    who, what = np.divmod(np.unique((account * weeks + np.minimum(_week(at), weeks - 1)) * size + title), size)
    by_week = np.bincount(who % weeks * size + what, weight[who // weeks], weeks * size).reshape(weeks, size)
    return np.concatenate([*found, by_week])
