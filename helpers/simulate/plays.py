"""Plays: what a session's hours are made of, in any world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.simulate.simulation import Simulation
from helpers.simulate.viewing import Chances
from helpers.simulate.worlds import Life


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayChances:
    """The plays that a block's sessions may hold in any world, and what chance decides about them."""

    session: np.ndarray  # row in the block's sessions
    position: np.ndarray  # in the session, from 0
    recommended: np.ndarray  # flag: found through a personalised row
    shadow: np.ndarray  # uniform, as the next four
    initiation: np.ndarray
    title: np.ndarray
    episode: np.ndarray
    rated: np.ndarray
    liking: np.ndarray  # standard normal


def draw(simulation: Simulation, most: np.ndarray, rng: np.random.Generator) -> PlayChances:
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
        rated=rng.random(size, dtype=np.float32),
        liking=rng.standard_normal(size, dtype=np.float32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """The plays that happened in one world, in order."""

    row: np.ndarray  # in the chances
    session: np.ndarray
    account: np.ndarray
    of_show: np.ndarray  # or of the title in its place
    form: np.ndarray  # position in `choice.formats`, past the last for the show
    nth: np.ndarray  # of the plays of this kind in the session, from 0
    offset: np.ndarray  # seconds from the session's first play
    seconds: np.ndarray
    whole: np.ndarray  # seconds to be watched in all
    film: np.ndarray
    autoplay: np.ndarray
    shadow: np.ndarray  # of a title that the new ranking would put forward
    stars: np.ndarray  # that its viewer would give


def happened(
    simulation: Simulation, chances: Chances, plays: PlayChances, life: Life, *, since_launch: bool = False
) -> Played:
    """Fill the sessions of one world with plays: the show first, then titles of the session's format."""
    c = simulation.choice
    count = life.plays * chances.launched if since_launch else life.plays
    row = np.flatnonzero(plays.position < count[plays.session])
    session, position = plays.session[row], plays.position[row]
    account, episodes = chances.account[session], life.show.episodes[session]
    of_show = position < episodes
    form = np.where(of_show, len(c.formats), chances.format[session])
    whole = 60 * np.append(c.format_minutes, simulation.show.minutes)[form]
    nth = np.where(of_show, position, position - episodes)
    before = np.where(of_show, 0, life.show.seconds[session])  # of the show, in the same session
    available = np.where(of_show, life.show.seconds[session], life.seconds[session] - before)
    usual = np.where(plays.recommended[row], c.shadow_if_recommended, c.shadow_otherwise)
    autoplay = c.autoplay * np.where(chances.launched, life.of("autoplay")[chances.account], 1)[session]
    return Played(
        row=row,
        session=session,
        account=account,
        of_show=of_show,
        form=form,
        nth=nth,
        offset=before + nth * whole,
        seconds=np.minimum(whole, available - nth * whole),
        whole=whole,
        film=np.array([*(label == "film" for label, _ in c.formats), False])[form],
        autoplay=(position > 0) & ((plays.initiation[row] < autoplay) | of_show),
        shadow=plays.shadow[row] < usual * life.discovery[session],
        stars=_stars(simulation, plays.liking[row], (life.of("liking")[chances.account] * chances.launched)[session]),
    )


def _stars(simulation: Simulation, normal: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Turn what viewers think of titles that they chose into 1 to 5 stars."""
    s = simulation.satisfaction
    latent = s.mean + s.affinity * s.chosen + shift + np.hypot(np.hypot(s.affinity, s.taste), s.noise) * normal
    stars: np.ndarray = np.clip(np.rint(latent), 1, 5).astype(np.int8)
    return stars


def thumbs(simulation: Simulation, plays: PlayChances, played: Played) -> np.ndarray:
    """Flag the plays that their viewers rate: some of those watched to the end."""
    flags: np.ndarray = (plays.rated[played.row] < simulation.satisfaction.thumbs) & (played.seconds == played.whole)
    return flags
