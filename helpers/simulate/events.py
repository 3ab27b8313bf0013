"""From lives to event tables: what the service's logs hold of them, in the words of the contract."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

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

AUTOPLAY = "autoplay_next"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Luck:
    """What chance decides about the logs alone, in any world: uniform numbers, and normal ones where it says so."""

    background: np.ndarray  # per session that may happen, as the next five
    earlier: np.ndarray
    on_main: np.ndarray
    other_device: np.ndarray
    profile: np.ndarray
    screen: np.ndarray
    chosen: np.ndarray  # per play that may happen, as the next
    hides: np.ndarray
    recommends: np.ndarray  # normal, per session
    payment: np.ndarray  # per account, as the next three
    topic: np.ndarray
    returns: np.ndarray
    waits: np.ndarray  # normal
    screens: np.ndarray  # four for each title of the first screens that are logged: format, title, kept, row


def draw(simulation: Simulation, chances: Chances, plays: PlayChances, rng: np.random.Generator) -> Luck:
    """Draw what chance decides about the logs of a block, once for all worlds."""
    sessions, n = len(chances.account), len(chances.people)
    background, earlier, on_main, other_device, profile, screen = rng.random((6, sessions), dtype=np.float32)
    chosen, hides = rng.random((2, len(plays.session)), dtype=np.float32)
    payment, topic, returns = rng.random((3, n))
    logged = np.count_nonzero(screen < simulation.logs.first_screens) * simulation.logs.first_screen
    return Luck(
        background=background,
        earlier=earlier,
        on_main=on_main,
        other_device=other_device,
        profile=profile,
        screen=screen,
        chosen=chosen,
        hides=hides,
        recommends=rng.standard_normal(sessions, dtype=np.float32),
        payment=payment,
        topic=topic,
        returns=returns,
        waits=rng.standard_normal(n),
        screens=rng.random((4, logged)),
    )


def tables(
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    luck: Luck,
    life: Life,
    played: Played,
    prompts: surveys.Prompts,
) -> dict[str, pa.Table]:
    """Write down what the service's logs would hold of a block's lives."""
    accounts = chances.people["account"].tolist()
    first_day = simulation.start - dt.timedelta(days=simulation.pre_days)
    number = 1 + chances.before(life.happens.astype(np.int64))
    starts = session_starts(simulation, chances, life)
    began = starts[played.session] + life.first_play_seconds[played.session] + played.offset
    left = np.flatnonzero(np.isfinite(life.cancelled))
    payment = luck.payment < simulation.churn.payment
    return {
        "app_opens": pa.table(_app_opens(simulation, chances, luck, life, starts, first_day)),
        "sessions": pa.table(_sessions(simulation, chances, luck, life, number, instant(first_day, starts))).filter(
            life.happens
        ),
        "plays": pa.table(_plays(simulation, chances, plays, luck, life, played, number, instant(first_day, began))),
        "impressions": pa.table(_impressions(simulation, chances, luck, life, number, starts, first_day)),
        "cancellations": pa.table(
            {
                "account": text(left, accounts),
                "cancelled_at": instant(simulation.start, DAY * life.cancelled[left]),
                "kind": text(payment[left], ["voluntary", "payment"]),
                "resubscribed_at": _resubscribed(simulation, luck, life, left),
            }
        ),
        "tickets": pa.table(_tickets(simulation, chances, luck, life)),
        "feedback": pa.table(_feedback(simulation, chances, plays, luck, life, played, began, first_day)),
        "surveys": pa.table(_surveys(simulation, chances, luck, played, prompts, began, first_day)),
    }


def back(simulation: Simulation, luck: Luck, life: Life) -> np.ndarray:
    """Days from the launch until each account is back, infinite where it never left or never returns.

    Who is back watches nothing yet: within weeks of leaving it is one in a hundred.
    """
    return life.cancelled + days_away(simulation, luck)


def days_away(simulation: Simulation, luck: Luck) -> np.ndarray:
    """Days until each account would return, if it left."""
    hazard = -np.log1p(-simulation.churn.returns) / 365
    days: np.ndarray = -np.log1p(-luck.returns) / max(hazard, 1e-300)
    return days


def _resubscribed(simulation: Simulation, luck: Luck, life: Life, left: np.ndarray) -> pa.Array:
    """Times at which accounts that left came back, missing where the days of the launch do not show it."""
    day = back(simulation, luck, life)[left]
    seen = day < simulation.days
    microseconds = instant(simulation.start, np.where(seen, DAY * day, 0)).cast(pa.int64()).to_numpy()
    return pa.array(microseconds, pa.int64(), mask=~seen).cast(pa.timestamp("us", tz="UTC"))


def recommendation_ms(simulation: Simulation, luck: Luck) -> np.ndarray:
    """Milliseconds until the recommendations of each session are there."""
    q = simulation.quality
    delay: np.ndarray = np.rint(q.recommendation_ms * np.exp(q.recommendation_sd * luck.recommends.astype(float)))
    return delay


def concurrent(simulation: Simulation, starts: np.ndarray, seconds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Count the streams that run at each full hour from the launch on, weighted to the population."""
    hours = 24 * (simulation.pre_days + simulation.days)
    first, after = np.ceil(starts / 3600).astype(np.int64), np.ceil((starts + seconds) / 3600).astype(np.int64)
    change = np.bincount(first, weight, hours + 1) - np.bincount(after, weight, hours + 1)
    running: np.ndarray = np.cumsum(change)[24 * simulation.pre_days : hours]
    return running


def session_starts(simulation: Simulation, chances: Chances, life: Life) -> np.ndarray:
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
    simulation: Simulation, chances: Chances, luck: Luck, life: Life, starts: np.ndarray, first_day: dt.date
) -> dict[str, pa.Array]:
    """Every session begins with an opening; beside some, the app also starts unseen, up to an hour before."""
    held = np.flatnonzero(life.happens)
    beside = held[luck.background[held] < simulation.logs.background]
    earlier = starts[beside] - np.floor(60 + 3540 * luck.earlier[beside].astype(float))
    inside = earlier >= np.where(chances.launched[beside], DAY * simulation.pre_days, 0)
    session = np.append(held, beside[inside])
    opened, order = np.append(starts[held], earlier[inside]), np.argsort(session, kind="stable")
    return {
        "account": text(chances.account[session][order], chances.people["account"].tolist()),
        "opened_at": instant(first_day, opened[order]),
        "background": pa.array(order >= len(held)),
    }


def _sessions(
    simulation: Simulation, chances: Chances, luck: Luck, life: Life, number: np.ndarray, started_at: pa.Array
) -> dict[str, pa.Array]:
    who = simulation.people
    main = chances.people["device"].cat.codes.to_numpy()[chances.account]
    other = pick(who.devices, luck.other_device)
    on_main = luck.on_main < simulation.viewing.main_device
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
        "recommendation_ms": pa.array(recommendation_ms(simulation, luck)),
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
    luck: Luck,
    life: Life,
    played: Played,
    number: np.ndarray,
    started_at: pa.Array,
) -> dict[str, pa.Array]:
    of_show, session = played.of_show, played.session
    last_head = _heads(played)
    episode = 1 + np.floor(10 * plays.episode[played.row])[last_head] + np.arange(len(session)) - last_head
    episode = np.where(of_show, nth_episode(life, played), episode)
    profiles = chances.people["profiles"].to_numpy()
    profile = np.floor(luck.profile * profiles[chances.account])[session]
    return {
        "account": text(played.account, chances.people["account"].tolist()),
        "session": pa.array(number[session], pa.int32()),
        "profile": text(profile, [f"p{i + 1}" for i in range(simulation.people.max_profiles)]),
        "title": text(title(simulation, plays, life, played), titles.ids(simulation)),
        "episode": pa.array(episode.astype(np.int32), mask=played.film),
        "started_at": started_at,
        "watch_minutes": pa.array(played.seconds / 60),
        "completed_share": pa.array(completed(played)),
        "initiation": text(initiation(simulation, luck, life, played), [*names(simulation.choice.chosen), AUTOPLAY]),
        "recommended": pa.array(plays.recommended[played.row]),
        "shadow_recommended": pa.array(played.shadow),
    }


def completed(played: Played) -> np.ndarray:
    """Share of its length that each play covers, as it is logged."""
    share: np.ndarray = (played.seconds / played.whole).round(4)
    return share


def nth_episode(life: Life, played: Played) -> np.ndarray:
    """Number of the episode that each play of the show would be."""
    number: np.ndarray = life.show.before[played.session] + played.nth + 1
    return number


def initiation(simulation: Simulation, luck: Luck, life: Life, played: Played) -> np.ndarray:
    """Position of how each play began in `choice.chosen`; past the last: by autoplay."""
    c, of_show = simulation.choice, played.of_show
    how = pick(c.chosen, luck.chosen[played.row])
    browse, resume = names(c.chosen).index("browse"), names(c.chosen).index("continue_watching")
    how[of_show] = np.where(life.show.before[played.session[of_show]] == 0, browse, resume)
    return np.where(played.autoplay, len(c.chosen), how)


def _heads(played: Played) -> np.ndarray:
    """Row of the play that began each run: what autoplay brings is the next episode of the same title."""
    head = played.of_show | (played.nth == 0) | played.film | ~played.autoplay
    rows: np.ndarray = np.maximum.accumulate(np.where(head, np.arange(len(head)), 0))
    return rows


def title(simulation: Simulation, plays: PlayChances, life: Life, played: Played) -> np.ndarray:
    """Position in `titles.ids` of each play's title."""
    found = titles.drawn(simulation, played.form, plays.title[played.row])[_heads(played)]
    placebo = played.of_show & life.of("placebo")[played.account]
    return np.where(placebo, simulation.choice.titles + 1, found)


def screens(simulation: Simulation, chances: Chances, luck: Luck, life: Life) -> tuple[np.ndarray, ...]:
    """Sessions and titles of the first screens that are logged, and the row and position of each title on them."""
    logs = simulation.logs
    logged = np.flatnonzero(luck.screen < logs.first_screens)
    session = np.repeat(logged, logs.first_screen)
    position = np.tile(np.arange(logs.first_screen), len(logged))
    form, which, keeps, row = luck.screens
    form = pick(simulation.choice.formats, form)
    shown = titles.drawn(simulation, form, which)
    small = np.append(False, titles.tiers(simulation) == titles.TIERS.index("tail"))[shown]
    kept = np.where(chances.launched, life.of("tail")[chances.account], 1)[session]
    replaced = small & (keeps >= kept)
    firsts = np.searchsorted(titles.formats(simulation), np.arange(len(simulation.choice.formats)))
    shown[replaced] = 1 + firsts[form[replaced]]
    there = life.happens[session]
    return session[there], shown[there], np.floor((len(_ROWS) - 1) * row).astype(np.int64)[there], position[there]


def shown_in(chances: Chances, life: Life) -> np.ndarray:
    """Session in which each account is shown the new title first, -1 where it is not."""
    of = np.full(len(chances.people), -1)
    later = np.flatnonzero(life.happens & chances.launched)
    of[chances.account[later][::-1]] = later[::-1]  # the first session since the launch
    begins = later[(life.show.episodes[later] > 0) & (life.show.before[later] == 0)]
    of[chances.account[begins]] = begins  # who starts the title is shown it in that session at the latest
    return np.where(life.show.reached, of, -1)


def _impressions(
    simulation: Simulation,
    chances: Chances,
    luck: Luck,
    life: Life,
    number: np.ndarray,
    starts: np.ndarray,
    first_day: dt.date,
) -> dict[str, pa.Array]:
    """First screens of some sessions, and where each account was first shown the new title."""
    session, shown, row, position = screens(simulation, chances, luck, life)
    first = shown_in(chances, life)
    accounts = np.flatnonzero(first >= 0)
    new = np.where(life.of("placebo")[accounts], simulation.choice.titles + 1, 0)
    session, shown = np.append(first[accounts], session), np.append(new, shown)
    position = np.append(np.zeros(len(accounts), np.int64), position)
    row = np.append(np.full(len(accounts), len(_ROWS) - 1), row)
    return {
        "account": text(chances.account[session], chances.people["account"].tolist()),
        "session": pa.array(number[session], pa.int32()),
        "title": text(shown, titles.ids(simulation)),
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


def _tickets(simulation: Simulation, chances: Chances, luck: Luck, life: Life) -> dict[str, pa.Array]:
    day = asks(simulation, chances, life)
    topic = pick(simulation.logs.topics, luck.topic)
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
    luck: Luck,
    life: Life,
    played: Played,
    began: np.ndarray,
    first_day: dt.date,
) -> dict[str, pa.Array]:
    rated = np.flatnonzero(thumbs(simulation, plays, played))
    stars = played.stars[rated]
    thumb = np.select([stars <= 2, stars >= 4], [0, 1], -1)
    return {
        "account": text(played.account[rated], chances.people["account"].tolist()),
        "title": text(title(simulation, plays, life, played)[rated], titles.ids(simulation)),
        "given_at": instant(first_day, (began + played.seconds)[rated]),
        "thumb": text(thumb, ["down", "up"]),
        "stars": pa.array(stars),
        "hide": pa.array((thumb == 0) & (luck.hides[played.row[rated]] < simulation.satisfaction.hide)),
    }


def _surveys(
    simulation: Simulation,
    chances: Chances,
    luck: Luck,
    played: Played,
    prompts: surveys.Prompts,
    began: np.ndarray,
    first_day: dt.date,
) -> dict[str, pa.Array]:
    at = (began + played.seconds)[prompts.play]
    waits = 60 * simulation.satisfaction.answer_minutes * np.exp(luck.waits[prompts.account])
    silent = ~prompts.answered
    responded = pa.array((at + waits).astype(np.int64), mask=silent)
    midnight = int(np.datetime64(first_day, "s").astype(np.int64))
    return {
        "account": text(prompts.account, chances.people["account"].tolist()),
        "prompted_at": instant(first_day, at),
        "responded_at": pc.multiply(pc.add(responded, midnight), 1_000_000).cast(pa.timestamp("us", tz="UTC")),
        "score": pa.array(prompts.score, mask=silent),
        "nps": pa.array(prompts.nps, mask=silent | prompts.one_tap),
        "effort": pa.array(prompts.effort, mask=silent | prompts.one_tap),
        "incentive": pa.array(prompts.rewarded),
    }
