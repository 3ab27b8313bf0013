"""Surveys: who is asked after an episode, what they think, and who answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.simulate.plays import Played
from helpers.simulate.simulation import Simulation
from helpers.simulate.viewing import Chances
from helpers.simulate.worlds import Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What chance decides about each account's survey: uniform numbers, and four standard normals."""

    prompted: np.ndarray
    which: np.ndarray
    answers: np.ndarray
    one_tap: np.ndarray
    rewarded: np.ndarray
    match: np.ndarray  # normal, as the next three
    taste: np.ndarray
    noise: np.ndarray
    effort: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The surveys shown in one world, at most one per account."""

    account: np.ndarray
    play: np.ndarray  # after which it is shown, row in the plays that happened
    thinks: np.ndarray  # the score that everybody has, 1 to 5
    score: np.ndarray  # that would be given
    nps: np.ndarray
    effort: np.ndarray
    one_tap: np.ndarray
    rewarded: np.ndarray
    answered: np.ndarray


def draw(n: int, rng: np.random.Generator) -> Opinions:
    """Draw the chances of `n` accounts."""
    prompted, which, answers, one_tap, rewarded = rng.random((5, n))
    match, taste, noise, effort = rng.standard_normal((4, n))
    return Opinions(
        prompted=prompted,
        which=which,
        answers=answers,
        one_tap=one_tap,
        rewarded=rewarded,
        match=match,
        taste=taste,
        noise=noise,
        effort=effort,
    )


def prompts(simulation: Simulation, chances: Chances, opinions: Opinions, played: Played, life: Life) -> Prompts:
    """Ask some accounts after an episode since the launch: the first of the show, or any for those who saw none."""
    s, people = simulation.satisfaction, chances.people
    rows = np.flatnonzero(chances.launched[played.session] & ~played.film)
    count = np.bincount(played.account[rows], minlength=len(people))
    firsts = np.cumsum(count) - count
    account = np.flatnonzero((count > 0) & (opinions.prompted < s.prompted))
    chosen = np.zeros(len(people), np.int64)
    chosen[account] = rows[firsts[account] + np.floor(opinions.which[account] * count[account]).astype(np.int64)]
    pilot = rows[played.of_show[rows] & (played.nth[rows] + life.show.before[played.session[rows]] == 0)]
    chosen[played.account[pilot]] = pilot
    play = chosen[account]

    affinity = np.where(
        played.of_show[play], people["affinity"].to_numpy()[account], s.chosen + opinions.match[account]
    )
    latent = s.mean + s.affinity * affinity + s.taste * opinions.taste[account] + s.noise * opinions.noise[account]
    latent += life.of("liking")[account]
    thinks = _scored(latent)
    rewarded, one_tap = opinions.rewarded[account] < s.incentive, opinions.one_tap[account] < s.one_tap
    says = _scored(latent + s.incentive_shift * rewarded)
    effort = s.effort - 0.6 * (latent - s.mean) + 1.2 * opinions.effort[account]
    response = np.where(one_tap, s.one_tap_response, np.take(s.response, thinks - 1))
    response = response * np.where(rewarded, s.incentive_response, 1)
    return Prompts(
        account=account,
        play=play,
        thinks=thinks,
        score=says,
        nps=np.clip(np.rint(2.5 * (latent + s.incentive_shift * rewarded - 1)), 0, 10).astype(np.int8),
        effort=np.clip(np.rint(effort), 1, 7).astype(np.int8),
        one_tap=one_tap,
        rewarded=rewarded,
        answered=opinions.answers[account] < response,
    )


def _scored(latent: np.ndarray) -> np.ndarray:
    scores: np.ndarray = np.clip(np.rint(latent), 1, 5).astype(np.int8)
    return scores
