"""From lives to event tables: what the service's logs hold of them, in the words of the contract."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from helpers.simulate import surveys, titles
from helpers.simulate.parameters import Mix
from helpers.simulate.people import pick
from helpers.simulate.plays import PlayChances, Played, thumbs
from helpers.simulate.simulation import Simulation
from helpers.simulate.viewing import DAY, Chances
from helpers.simulate.worlds import Life

_AUTOPLAY = "autoplay_next"
_ROWS = ["Continue watching", "Top picks", "Trending now", "New releases"]
_SPILL = 4 / 24  # of a day: by then the sessions of the day before have ended


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
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    life: Life,
    played: Played,
    prompts: surveys.Prompts,
    rng: np.random.Generator,
) -> dict[str, pa.Table]:
    """Write down what the service's logs would hold of a block's lives."""
    accounts = chances.people["account"].tolist()
    first_day = simulation.start - dt.timedelta(days=simulation.pre_days)
    number = 1 + chances.before(life.happens.astype(np.int64))
    starts = _session_starts(simulation, chances, life)
    began = starts[played.session] + life.first_play_seconds[played.session] + played.offset
    left = np.flatnonzero(np.isfinite(life.cancelled))
    payment = rng.random(len(accounts)) < simulation.churn.payment
    return {
        "app_opens": pa.table(_app_opens(simulation, chances, life, starts, first_day, rng)),
        "sessions": pa.table(_sessions(simulation, chances, life, number, instant(first_day, starts), rng)).filter(
            life.happens
        ),
        "plays": pa.table(_plays(simulation, chances, plays, life, played, number, instant(first_day, began), rng)),
        "impressions": pa.table(_impressions(simulation, chances, life, number, starts, first_day, rng)),
        "cancellations": pa.table(
            {
                "account": text(left, accounts),
                "cancelled_at": instant(simulation.start, DAY * life.cancelled[left]),
                "kind": text(payment[left], ["voluntary", "payment"]),
            }
        ),
        "tickets": pa.table(_tickets(simulation, chances, life, rng)),
        "feedback": pa.table(_feedback(simulation, chances, plays, life, played, began, first_day, rng)),
        "surveys": pa.table(_surveys(simulation, chances, played, prompts, began, first_day, rng)),
    }


def concurrent(simulation: Simulation, starts: np.ndarray, seconds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Count the streams that run at each full hour from the launch on, weighted to the population."""
    hours = 24 * (simulation.pre_days + simulation.days)
    first, after = np.ceil(starts / 3600).astype(np.int64), np.ceil((starts + seconds) / 3600).astype(np.int64)
    change = np.bincount(first, weight, hours + 1) - np.bincount(after, weight, hours + 1)
    running: np.ndarray = np.cumsum(change)[24 * simulation.pre_days : hours]
    return running


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


def _app_opens(
    simulation: Simulation,
    chances: Chances,
    life: Life,
    starts: np.ndarray,
    first_day: dt.date,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    """Every session begins with an opening; beside some, the app also starts unseen, up to an hour before."""
    held = np.flatnonzero(life.happens)
    beside = held[rng.random(len(held), dtype=np.float32) < simulation.logs.background]
    earlier = starts[beside] - rng.integers(60, 3600, len(beside))
    inside = earlier >= np.where(chances.launched[beside], DAY * simulation.pre_days, 0)
    session = np.append(held, beside[inside])
    opened, order = np.append(starts[held], earlier[inside]), np.argsort(session, kind="stable")
    return {
        "account": text(chances.account[session][order], chances.people["account"].tolist()),
        "opened_at": instant(first_day, opened[order]),
        "background": pa.array(order >= len(held)),
    }


def _sessions(
    simulation: Simulation,
    chances: Chances,
    life: Life,
    number: np.ndarray,
    started_at: pa.Array,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    who, size = simulation.people, len(number)
    main = chances.people["device"].cat.codes.to_numpy()[chances.account]
    other = pick(who.devices, rng.random(size, dtype=np.float32))
    on_main = rng.random(size, dtype=np.float32) < simulation.viewing.main_device
    silent = life.seconds == 0
    release = chances.day // 14
    return {
        "account": text(chances.account, chances.people["account"].tolist()),
        "session": pa.array(number, pa.int32()),
        "started_at": started_at,
        "device": text(np.where(on_main, main, other), names(who.devices)),
        "seconds_to_first_play": pa.array(life.first_play_seconds, mask=silent),
        "crashed": pa.array(chances.crashes < simulation.quality.crash),
        "play_delay_ms": pa.array(delay_ms(simulation, chances, life), mask=silent),
        "rebuffer_ratio": pa.array(life.rebuffer.round(5), mask=silent),
        "start_failed": pa.array(silent & start_failed(simulation, chances)),
        "app_version": text(release, [f"9.{i}" for i in range(release.max(initial=0) + 1)]),
    }


def delay_ms(simulation: Simulation, chances: Chances, life: Life) -> np.ndarray:
    """Milliseconds from pressing play to the first picture."""
    q = simulation.quality
    more = np.where(chances.launched, life.of("slow_network")[chances.account], 1)
    slow = np.where(chances.slow < q.slow_network, q.slow_network_factor * more, 1)
    delay: np.ndarray = np.rint(q.play_delay_ms * slow * np.exp(q.play_delay_sd * chances.delay.astype(float)))
    return delay


def start_failed(simulation: Simulation, chances: Chances) -> np.ndarray:
    """Flag sessions in which playing would fail."""
    flags: np.ndarray = chances.plays >= 1 - simulation.quality.start_failure
    return flags


def _plays(
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    life: Life,
    played: Played,
    number: np.ndarray,
    started_at: pa.Array,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    c, of_show, session = simulation.choice, played.of_show, played.session
    chosen = pick(c.chosen, rng.random(len(session), dtype=np.float32))
    browse, resume = names(c.chosen).index("browse"), names(c.chosen).index("continue_watching")
    before = life.show.before[session]
    chosen[of_show] = np.where(before[of_show] == 0, browse, resume)
    last_head = _heads(played)
    episode = 1 + np.floor(10 * plays.episode[played.row])[last_head] + np.arange(len(session)) - last_head
    episode = np.where(of_show, before + played.nth + 1, episode)
    profiles = chances.people["profiles"].to_numpy()
    profile = np.floor(rng.random(len(number)) * profiles[chances.account])[session]
    return {
        "account": text(played.account, chances.people["account"].tolist()),
        "session": pa.array(number[session], pa.int32()),
        "profile": text(profile, [f"p{i + 1}" for i in range(simulation.people.max_profiles)]),
        "title": text(_title(simulation, plays, life, played), titles.ids(simulation)),
        "episode": pa.array(episode.astype(np.int32), mask=played.film),
        "started_at": started_at,
        "watch_minutes": pa.array(played.seconds / 60),
        "completed_share": pa.array((played.seconds / played.whole).round(4)),
        "initiation": text(np.where(played.autoplay, len(c.chosen), chosen), [*names(c.chosen), _AUTOPLAY]),
        "recommended": pa.array(plays.recommended[played.row]),
        "shadow_recommended": pa.array(played.shadow),
    }


def _heads(played: Played) -> np.ndarray:
    """Row of the play that began each run: what autoplay brings is the next episode of the same title."""
    head = played.of_show | (played.nth == 0) | played.film | ~played.autoplay
    rows: np.ndarray = np.maximum.accumulate(np.where(head, np.arange(len(head)), 0))
    return rows


def _title(simulation: Simulation, plays: PlayChances, life: Life, played: Played) -> np.ndarray:
    """Position in `titles.ids` of each play's title."""
    title = titles.drawn(simulation, played.form, plays.title[played.row])[_heads(played)]
    placebo = played.of_show & life.of("placebo")[played.account]
    return np.where(placebo, simulation.choice.titles + 1, title)


def _impressions(
    simulation: Simulation,
    chances: Chances,
    life: Life,
    number: np.ndarray,
    starts: np.ndarray,
    first_day: dt.date,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    """First screens of some sessions, and where each account was first shown the new title."""
    logs, n = simulation.logs, len(chances.people)
    held = np.flatnonzero(life.happens)
    session = np.repeat(held[rng.random(len(held), dtype=np.float32) < logs.first_screens], logs.first_screen)
    position = np.tile(np.arange(logs.first_screen), len(session) // max(logs.first_screen, 1))
    form = pick(simulation.choice.formats, rng.random(len(session)))
    title = titles.drawn(simulation, form, rng.random(len(session)))
    small = np.append(False, titles.tiers(simulation) == titles.TIERS.index("tail"))[title]
    kept = np.where(chances.launched, life.of("tail")[chances.account], 1)[session]
    replaced = small & (rng.random(len(session)) >= kept)
    firsts = np.searchsorted(titles.formats(simulation), np.arange(len(simulation.choice.formats)))
    title[replaced] = 1 + firsts[form[replaced]]

    later = held[chances.launched[held]]
    of = np.full(n, -1)
    of[chances.account[later][::-1]] = later[::-1]  # the first session since the launch
    begins = later[(life.show.episodes[later] > 0) & (life.show.before[later] == 0)]
    of[chances.account[begins]] = begins  # who starts the title is shown it in that session at the latest
    shown = of[life.show.reached & (of >= 0)]
    new = np.where(life.of("placebo")[chances.account[shown]], simulation.choice.titles + 1, 0)
    session, title = np.append(shown, session), np.append(new, title)
    position = np.append(np.zeros(len(shown), np.int64), position)
    row = np.append(np.full(len(shown), len(_ROWS) - 1), rng.integers(0, len(_ROWS) - 1, len(title) - len(shown)))
    return {
        "account": text(chances.account[session], chances.people["account"].tolist()),
        "session": pa.array(number[session], pa.int32()),
        "title": text(title, titles.ids(simulation)),
        "shown_at": instant(first_day, starts[session]),
        "row": text(row, _ROWS),
        "position": pa.array(position.astype(np.int32)),
    }


def asks(simulation: Simulation, chances: Chances, life: Life) -> np.ndarray:
    """Day from the launch on which each account asks the support, infinite where it does not or has left."""
    hazard = -np.log1p(-simulation.logs.tickets) * life.of("tickets")
    with np.errstate(divide="ignore"):
        day = np.where(hazard > 0, -28 * np.log1p(-chances.asks) / np.maximum(hazard, 1e-300), np.inf)
    return np.where((day < simulation.days) & (day < life.cancelled), day, np.inf)


def _tickets(simulation: Simulation, chances: Chances, life: Life, rng: np.random.Generator) -> dict[str, pa.Array]:
    day = asks(simulation, chances, life)
    topic = pick(simulation.logs.topics, rng.random(len(day)))
    account = np.flatnonzero(np.isfinite(day))
    return {
        "account": text(account, chances.people["account"].tolist()),
        "opened_at": instant(simulation.start, DAY * day[account]),
        "topic": text(topic[account], names(simulation.logs.topics)),
    }


def _feedback(
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    life: Life,
    played: Played,
    began: np.ndarray,
    first_day: dt.date,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    rated = np.flatnonzero(thumbs(simulation, plays, played))
    stars = played.stars[rated]
    thumb = np.select([stars <= 2, stars >= 4], [0, 1], -1)
    return {
        "account": text(played.account[rated], chances.people["account"].tolist()),
        "title": text(_title(simulation, plays, life, played)[rated], titles.ids(simulation)),
        "given_at": instant(first_day, (began + played.seconds)[rated]),
        "thumb": text(thumb, ["down", "up"]),
        "stars": pa.array(stars),
        "hide": pa.array((thumb == 0) & (rng.random(len(rated)) < simulation.satisfaction.hide)),
    }


def _surveys(
    simulation: Simulation,
    chances: Chances,
    played: Played,
    prompts: surveys.Prompts,
    began: np.ndarray,
    first_day: dt.date,
    rng: np.random.Generator,
) -> dict[str, pa.Array]:
    at = (began + played.seconds)[prompts.play]
    waits = 60 * simulation.satisfaction.answer_minutes * np.exp(rng.standard_normal(len(at)))
    silent = ~prompts.answered
    responded = pa.array((at + waits).astype(np.int64), mask=silent)
    midnight = int(np.datetime64(first_day, "s").astype(np.int64))
    return {
        "account": text(prompts.account, chances.people["account"].tolist()),
        "prompted_at": instant(first_day, at),
        "responded_at": pc.multiply(pc.add(responded, midnight), 1_000_000).cast(pa.timestamp("us", tz="UTC")),
        "score": pa.array(prompts.score, mask=silent),
        "nps": pa.array(prompts.nps, mask=silent | prompts.one_tap),
        "incentive": pa.array(prompts.rewarded),
    }
