"""What became of forecasts: simulated launches, followed for longer and held against what was said of them."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import cache, simulate
from helpers.errors import ParameterError
from helpers.results import Estimate, NotEstimable, nothing
from helpers.timeline import fading
from helpers.timeline.course import Course, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

IDEAS = {  # scenario: what its effect does
    "broad_lift": "lasts",
    "homepage_optimistic+honeymoon": "is twice as large at first, and settles",
    "show_premiere+honeymoon": "ends with the show",
}
NOT_FOLLOWED = "no forecast could be made of this launch, so that none is tried elsewhere"
WEEKS = 13  # for which launches are followed: 91 days
ACCOUNTS = 5_000  # lived through with and without each idea
SEED = 20261121


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Followed:
    """Weekly hours of accounts without and with an idea, less what their past explains: of one account, not of a mean.

    `mean` (2, w) and `cov` (2, w, w), control first. As the same accounts lived both ways, their effect is known far
    better than from two arms; `truth` (w,) is its logarithm.
    """

    mean: Floats
    cov: Floats

    @property
    def truth(self) -> Floats:
        """Give the true effect in each week, as a log ratio."""
        log: Floats = np.log(self.mean)
        return log[1] - log[0]

    def mixed(self, share: float, *, taken_away: bool = False) -> Followed:
        """Bring the idea to a share of the accounts only, or take it from them who had it."""
        gap = self.mean[1] - self.mean[0]
        between = share * (1 - share) * np.outer(gap, gap)
        mean = np.array([self.mean[0], self.mean[0] + share * gap])
        cov = np.array([self.cov[0], (1 - share) * self.cov[0] + share * self.cov[1] + between])
        order = [1, 0] if taken_away else [0, 1]
        return Followed(mean=mean[order], cov=cov[order])

    def launch(self, n: tuple[int, int], rng: np.random.Generator, level: float = 0.95) -> Course:
        """Draw the course that a launch with so many accounts in control and treatment would show."""
        cov = self.cov / np.array(n)[:, None, None]
        noise = [rng.multivariate_normal(np.zeros(len(c)), c, method="cholesky") for c in cov]
        return _course(self.mean + noise, cov, n, level)


@functools.cache
def follow(scenario: str, *, accounts: int = ACCOUNTS, weeks: int = WEEKS, seed: int = SEED) -> Followed:
    """Live the accounts of a scenario through so many weeks, with and without its idea.

    Raises:
        ParameterError: fewer than 5 weeks, or a scenario in which an account would not live one of the services.
    """
    if weeks < 5:
        raise ParameterError(f"weeks is {weeks}, must be at least 5: four of the launch, and what comes after")
    simulation = simulate.Simulation(scenario=scenario, accounts=accounts, days=7 * weeks, seed=seed)

    def live(partial: Path) -> None:
        pool = simulate.pool(simulation, what="weeks")
        mean, cov = _moments([pool.control[:, : weeks + 1], pool.treatment[:, : weeks + 1]])
        partial.write_text(json.dumps({"mean": mean.tolist(), "cov": cov.tolist()}), encoding="utf-8")

    name = cache.key(simulation, weeks, code=[simulate, sys.modules[__name__]])
    told = json.loads(cache.kept(cache.folder() / "corpus" / f"{scenario}-{name}.json", live).read_text("utf-8"))
    return Followed(mean=np.array(told["mean"]), cov=np.array(told["cov"]))


def held(
    ideas: Sequence[str] = tuple(IDEAS),
    *,
    n: tuple[int, int] = (30_000, 10_000),
    weeks: Sequence[int] = (8, 12),
    launches: int = 100,
    accounts: int = ACCOUNTS,
    seed: int = SEED,
    level: float = 0.95,
) -> pd.DataFrame:
    """Forecast from four weeks, many times over, and hold the forecast against the effect that was to come.

    The first rows of an idea are forecasts of one later week (`fading.forecast`). The last is the surrogate index for
    all weeks from the fifth on (`fading.surrogate`), by the relation of early and late weeks that control shows in
    those weeks; with real data that comes from an earlier year. An interval that covers too rarely is no error of
    chance: the launch does later what its first weeks do not foretell.

    Args:
        ideas: scenarios of the simulator.
        n: accounts of control and treatment in each launch.
        weeks: which later weeks are forecast, the fifth at the earliest.
        launches: how many of each idea.
        accounts: lived through for each idea.
        seed: of the accounts, and of the launches.
        level: of the intervals.

    Returns:
        A row per idea and forecast: effect (what it does), forecast, truth (relative), low and high (middle of the
        launches' limits), covers (share of the launches whose interval holds the truth).
    """
    rng, rows = np.random.default_rng(seed), []
    if not ideas:
        return nothing(NOT_FOLLOWED, ["effect", "forecast", "truth", "low", "high", "covers"])
    for idea in ideas:
        followed = follow(idea, accounts=accounts, weeks=max(*weeks, WEEKS), seed=seed)
        drawn = [relative(followed.launch(n, rng, level)) for _ in range(launches)]
        for week in weeks:
            found = [fading.forecast(first(c), 7 * (week - 1)) for c in drawn]
            rows.append(_held(idea, f"week {week}", float(followed.truth[week - 1]), found))
        truth = float(followed.truth[4:].mean())
        index = [fading.surrogate(c, early_periods=4) for c in drawn]
        predicted = [s.predicted if isinstance(s, fading.Surrogate) else s for s in index]
        rows.append(_held(idea, f"surrogate index, weeks 5 to {len(followed.truth)}", truth, predicted))
    return pd.DataFrame(rows, columns=["effect", "forecast", "truth", "low", "high", "covers"])


def agreement(
    ideas: Sequence[str] = tuple(IDEAS),
    *,
    n: tuple[int, int] = (30_000, 10_000),
    launches: int = 200,
    seed: int = 7,
    level: float = 0.95,
) -> pd.DataFrame:
    """Say how often the surrogate index and the later measurement agree that a launch moved the later weeks.

    Moved is what differs from 0 at the `level`. Each launch brings one of the ideas to a random share of its accounts,
    or takes it away.

    Returns:
        A row, or none without ideas: launches; differed, those whose later weeks were then measured to differ; recall,
        the share of these that the index from four weeks had called so and in that direction; called, those that it
        called so; precision, the share of these that was then measured so.
    """
    columns = ["launches", "differed", "recall", "called", "precision"]
    if not ideas:
        return nothing(NOT_FOLLOWED, columns)
    rng = np.random.default_rng(seed)
    lived = [follow(idea, accounts=ACCOUNTS, weeks=WEEKS, seed=SEED) for idea in ideas]
    said = np.zeros((launches, 2))
    for row in said:
        idea = lived[rng.integers(len(lived))].mixed(rng.uniform(0.1, 1.0), taken_away=rng.random() < 0.3)
        found = fading.surrogate(relative(idea.launch(n, rng, level)), early_periods=4)
        if isinstance(found, fading.Surrogate):
            row[:] = [np.sign(e.diff) * (e.p < 1 - level) for e in (found.predicted, found.measured)]
    both = ((said[:, 0] == said[:, 1]) & (said[:, 0] != 0)).sum()
    called, differed = (said != 0).sum(axis=0)
    recall, precision = (float(both / n) if n else np.nan for n in (differed, called))
    return pd.DataFrame([(launches, int(differed), recall, int(called), precision)], columns=columns)


def _moments(arms: Sequence[npt.NDArray[np.floating]]) -> tuple[Floats, Floats]:
    """Give the means (2, w) and covariances (2, w, w) of weekly hours, less what the hours before explain in both."""
    past = np.concatenate([arm[:, 0] for arm in arms]).astype(np.float64)
    weeks = [arm[:, 1:].astype(np.float64) for arm in arms]
    centred = past - past.mean()
    slope = centred @ (np.concatenate(weeks) - np.concatenate(weeks).mean(axis=0)) / (centred @ centred)
    rest = [y - np.outer(arm[:, 0] - past.mean(), slope) for y, arm in zip(weeks, arms, strict=True)]
    return np.array([y.mean(axis=0) for y in rest]), np.array([np.cov(y, rowvar=False) for y in rest])


def _course(mean: Floats, cov: Floats, n: tuple[int, int], level: float) -> Course:
    return Course(
        metric="hours_per_account_week",
        unit="hours",
        starts=tuple(range(0, 7 * mean.shape[1], 7)),
        step_days=7,
        mean=mean,
        cov=cov,
        n=n,
        method="Welch t on periods of 7 days from assignment, adjusted for the time before",
        level=level,
    )


def first(course: Course | NotEstimable, weeks: int = 4) -> Course | NotEstimable:
    """Keep what is known after so many weeks."""
    if isinstance(course, NotEstimable):
        return course
    return replace(course, starts=course.starts[:weeks], mean=course.mean[:, :weeks], cov=course.cov[:, :weeks, :weeks])


def _held(
    idea: str, forecast: str, truth: float, found: Sequence[fading.Forecast | Estimate | NotEstimable]
) -> dict[str, object]:
    """Hold the intervals of many launches against the truth; those that gave none are left out of the share."""
    limits = np.array([(f.low, f.high) for f in found if not isinstance(f, NotEstimable)]).reshape(-1, 2)
    low, high = np.median(limits, axis=0)
    covers = float(((limits[:, 0] <= truth) & (truth <= limits[:, 1])).mean())
    truth, low, high = np.expm1([truth, low, high]).tolist()
    return {
        "effect": IDEAS.get(idea, idea),
        "forecast": forecast,
        "truth": truth,
        "low": low,
        "high": high,
        "covers": covers,
    }
