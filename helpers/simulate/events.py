"""From lives to event tables: sessions, plays, cancellations and titles, in the words of the contract."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from helpers.simulate.parameters import Mix, Simulation
from helpers.simulate.people import pick
from helpers.simulate.viewing import DAY, Chances
from helpers.simulate.worlds import Life

LAUNCH_TITLE = "t00000"
_AUTOPLAY = "autoplay_next"
_SPILL = 4 / 24  # of a day: by then the sessions of the day before have ended


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayChances:
    """The plays that a block's sessions may hold in any world, and their uniform numbers."""

    session: np.ndarray  # row in the block's sessions
    position: np.ndarray  # in the session, from 0
    recommended: np.ndarray  # flag: found through a personalised row
    shadow: np.ndarray  # uniform
    initiation: np.ndarray  # uniform
    title: np.ndarray  # uniform
    episode: np.ndarray  # uniform


def draw_plays(simulation: Simulation, most: np.ndarray, rng: np.random.Generator) -> PlayChances:
    """Draw the chances of up to `most` plays in each session."""
    session = np.repeat(np.arange(len(most)), most)
    size = len(session)
    return PlayChances(
        session=session,
        position=np.arange(size) - (np.cumsum(most) - most)[session],
        recommended=rng.random(size, dtype=np.float32) < simulation.choice.recommended,
        shadow=rng.random(size, dtype=np.float32),
        initiation=rng.random(size, dtype=np.float32),
        title=rng.random(size, dtype=np.float32),
        episode=rng.random(size, dtype=np.float32),
    )


def shadow_recommended(simulation: Simulation, plays: PlayChances, life: Life) -> np.ndarray:
    """Flag plays of titles that the new ranking would put forward."""
    c = simulation.choice
    usual = np.where(plays.recommended, c.shadow_if_recommended, c.shadow_otherwise)
    flags: np.ndarray = plays.shadow < usual * life.discovery[plays.session]
    return flags


def instant(start: dt.date, seconds: np.ndarray) -> pa.Array:
    """Turn seconds after midnight UTC of a date into times."""
    midnight = np.datetime64(start, "s").astype(np.int64)
    return pa.array((midnight + seconds.astype(np.int64)) * 1_000_000, pa.timestamp("us", tz="UTC"))


def text(codes: np.ndarray, labels: list[str]) -> pa.Array:
    """Turn positions in a list of labels into text; -1 is missing."""
    codes = codes.astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), labels)


def names(mix: Mix) -> list[str]:
    """List the labels of a mix."""
    return [label for label, _ in mix]


def tables(
    simulation: Simulation, chances: Chances, plays: PlayChances, life: Life, rng: np.random.Generator
) -> dict[str, pa.Table]:
    """Write down what the service's logs would hold of a block's lives."""
    accounts = chances.people["account"].tolist()
    first_day = simulation.start - dt.timedelta(days=simulation.pre_days)
    number = 1 + chances.before(life.happens.astype(np.int64))
    starts = _session_starts(simulation, chances, life)
    sessions = _sessions(simulation, chances, life, number, instant(first_day, starts), rng)
    left = np.flatnonzero(np.isfinite(life.cancelled))
    payment = rng.random(len(accounts)) < simulation.churn.payment
    return {
        "sessions": pa.table(sessions).filter(life.happens),
        "plays": pa.table(_plays(simulation, chances, plays, life, number, starts, first_day, rng)),
        "cancellations": pa.table(
            {
                "account": text(left, accounts),
                "cancelled_at": instant(simulation.start, DAY * life.cancelled[left]),
                "kind": text(payment[left], ["voluntary", "payment"]),
            }
        ),
    }


def _session_starts(simulation: Simulation, chances: Chances, life: Life) -> np.ndarray:
    """Seconds from the first day to each session: by its clock, or once the one before has ended.

    A session that would run far into the next day, or past the launch, the last day or the day of leaving, is moved
    forward. So no window cuts a session, and no day holds the plays of two.
    """
    busy = np.where(life.happens, life.first_play_seconds + life.seconds, 0)
    before = np.cumsum(busy) - busy
    horizon = simulation.pre_days + simulation.days
    left = np.minimum(simulation.pre_days + np.floor(life.cancelled), horizon)[chances.account]
    window = np.where(chances.launched, left, simulation.pre_days)
    deadline = DAY * np.minimum(chances.day + 1 + _SPILL, window)
    apart = 2.0 * DAY * horizon * (2 * chances.account + chances.launched) - before  # no queue between windows
    earliest = np.maximum.accumulate(DAY * (chances.day + chances.clock) + apart)
    latest = np.minimum.accumulate((deadline - busy + apart)[::-1])[::-1]
    starts: np.ndarray = np.floor(np.minimum(earliest, latest) - apart)
    return starts


def _sessions(
    simulation: Simulation,
    chances: Chances,
    life: Life,
    number: np.ndarray,
    started_at: pa.Array,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    q, who, size = simulation.quality, simulation.people, len(number)
    main = chances.people["device"].cat.codes.to_numpy()[chances.account]
    other = pick(who.devices, rng.random(size))
    slow = np.where(rng.random(size) < q.slow_network, q.slow_network_factor, 1)
    delay = q.play_delay_ms * slow * np.exp(q.play_delay_sd * rng.standard_normal(size))
    rebuffer = np.minimum(q.rebuffer_ratio * np.exp(q.rebuffer_sd * rng.standard_normal(size)), 1)
    silent = life.seconds == 0
    release = chances.day // 14
    return {
        "account": text(chances.account, chances.people["account"].tolist()),
        "session": pa.array(number, pa.int32()),
        "started_at": started_at,
        "device": text(np.where(rng.random(size) < simulation.viewing.main_device, main, other), names(who.devices)),
        "seconds_to_first_play": pa.array(life.first_play_seconds, mask=silent),
        "crashed": pa.array(rng.random(size) < q.crash),
        "play_delay_ms": pa.array(np.rint(delay), mask=silent),
        "rebuffer_ratio": pa.array(rebuffer.round(5), mask=silent),
        "start_failed": pa.array(silent & (chances.plays >= 1 - q.start_failure)),
        "app_version": text(release, [f"9.{i}" for i in range(release.max(initial=0) + 1)]),
    }


def _plays(
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    life: Life,
    number: np.ndarray,
    starts: np.ndarray,
    first_day: dt.date,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    c = simulation.choice
    happened = np.flatnonzero(plays.position < life.plays[plays.session])
    session, position = plays.session[happened], plays.position[happened]
    episodes, account = life.show.episodes[session], chances.account[session]
    of_show = position < episodes
    form = np.where(of_show, len(c.formats), chances.format[session])
    whole = 60 * np.append(c.format_minutes, simulation.show.minutes)[form]
    nth = np.where(of_show, position, position - episodes)
    in_show = life.show.seconds[session]
    available = np.where(of_show, in_show, life.seconds[session] - in_show)
    watched = np.minimum(whole, available - nth * whole)
    began = starts[session] + life.first_play_seconds[session] + np.where(of_show, 0, in_show) + nth * whole

    film = np.array([*(label == "film" for label in names(c.formats)), False])[form]
    autoplay = (position > 0) & ((plays.initiation[happened] < c.autoplay) | of_show)
    chosen = pick(c.chosen, rng.random(len(happened)))
    browse, resume = names(c.chosen).index("browse"), names(c.chosen).index("continue_watching")
    chosen[of_show] = np.where(life.show.before[session[of_show]] == 0, browse, resume)
    head = of_show | (nth == 0) | film | ~autoplay
    last_head = np.maximum.accumulate(np.where(head, np.arange(len(head)), 0))
    title = _titles_drawn(simulation, form, plays.title[happened])[last_head]
    episode = 1 + np.floor(10 * plays.episode[happened])[last_head] + np.arange(len(head)) - last_head
    episode = np.where(of_show, life.show.before[session] + position + 1, episode)
    profiles = chances.people["profiles"].to_numpy()[account]
    profile = np.floor(rng.random(len(starts))[session] * profiles)
    return {
        "account": text(account, chances.people["account"].tolist()),
        "session": pa.array(number[session], pa.int32()),
        "profile": text(profile, [f"p{i + 1}" for i in range(simulation.people.max_profiles)]),
        "title": text(title, title_ids(simulation)),
        "episode": pa.array(episode.astype(np.int32), mask=film),
        "started_at": instant(first_day, began),
        "watch_minutes": pa.array(watched / 60),
        "completed_share": pa.array((watched / whole).round(4)),
        "initiation": text(np.where(autoplay, len(c.chosen), chosen), [*names(c.chosen), _AUTOPLAY]),
        "recommended": pa.array(plays.recommended[happened]),
        "shadow_recommended": pa.array(shadow_recommended(simulation, plays, life)[happened]),
    }


def title_ids(simulation: Simulation) -> list[str]:
    """List the launch title, then the catalogue, most popular first within each format."""
    return [LAUNCH_TITLE, *(f"t{number:05d}" for number in range(1, simulation.choice.titles + 1))]


def _title_formats(simulation: Simulation) -> np.ndarray:
    """Say which format each catalogue title has."""
    sizes = np.array([share for _, share in simulation.choice.formats]) * simulation.choice.titles
    ends = np.rint(np.cumsum(sizes)).astype(int)
    return np.searchsorted(ends, np.arange(simulation.choice.titles), side="right")


def _titles_drawn(simulation: Simulation, form: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw titles of the wanted formats by popularity, as positions in `title_ids`; past the last format: the show."""
    sizes = np.bincount(_title_formats(simulation), minlength=len(simulation.choice.formats))
    firsts = np.append(1 + np.cumsum(sizes) - sizes, 0)
    drawn: np.ndarray = firsts[form] + np.floor(
        np.append(sizes, 1)[form] * uniform.astype(float) ** simulation.choice.popularity
    )
    return drawn.astype(np.int64)


def titles(simulation: Simulation, launched: bool) -> pa.Table:
    """Describe every title: the launch title where the scenario has one, then the catalogue."""
    c = simulation.choice
    form = _title_formats(simulation)
    order = np.arange(c.titles) - np.searchsorted(form, form)
    rank = order / np.bincount(form)[form]
    frame = pd.DataFrame(
        {
            "title": title_ids(simulation),
            "name": [simulation.show.name, *(f"Title {number}" for number in range(1, c.titles + 1))],
            "creator": ["Studio 0", *(f"Studio {1 + number % max(c.titles // 5, 1)}" for number in range(c.titles))],
            "creator_tier": ["head", *np.take(["head", "torso", "tail"], np.searchsorted([0.05, 0.3], rank))],
            "minutes": np.append(simulation.show.minutes, np.take(c.format_minutes, form)).astype(float),
            "is_launch_title": np.arange(c.titles + 1) == 0,
        }
    )

    return pa.Table.from_pandas(frame if launched else frame[1:], preserve_index=False)
