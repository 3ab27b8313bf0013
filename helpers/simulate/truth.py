"""The truth: what each metric would be if every assigned account lived in one world, and if all lived in the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from helpers.simulate import events
from helpers.simulate.parameters import Service
from helpers.simulate.plays import PlayChances, Played, thumbs
from helpers.simulate.simulation import Simulation
from helpers.simulate.surveys import Prompts
from helpers.simulate.viewing import Chances
from helpers.simulate.worlds import Life

SEGMENTS = ("region", "device", "tenure", "engagement", "new_tv")
METRICS = {  # name in the catalogue: numerator and denominator, summed over accounts
    "hours_per_account_week": ("hours", "weeks"),
    "show_start_rate": ("starts", "accounts"),
    "show_hours_per_account": ("show_hours", "accounts"),
    "discovery_rate": ("shadow", "plays"),
    "browse_to_play": ("fast", "sessions"),
    "session_minutes": ("minutes", "sessions"),
    "opens_per_account_week": ("sessions", "weeks"),
    "churn_28d": ("cancelled", "accounts"),
    "start_failure_rate": ("failed", "sessions"),
    "crash_rate": ("crashed", "sessions"),
    "play_delay_ms": ("delay", "delayed"),
    "intentional_start_share": ("chosen", "plays"),
    "survey_score": ("scores", "answers"),
    "regret_rate": ("down", "long_plays"),
    "tickets_per_account": ("tickets", "accounts"),
}
OF_THE_SHOW = ("show_start_rate", "show_hours_per_account")
ALSO = {  # not in the catalogue: what scenarios are about
    "hours_per_active_week": ("hours", "active_weeks"),
    "show_reach": ("reached", "accounts"),
    "satisfaction_of_all_asked": ("thinks", "asked"),
}
MEDIAN = "median_hours_per_account_week"
COLUMNS = ["arm", "metric", "segment", "level", "week", "control", "treatment", "diff", "rel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What a block's accounts did in one world after the launch: sums per account, and per week over all of them."""

    accounts: pd.DataFrame
    weeks: pd.DataFrame


def outcomes(
    simulation: Simulation,
    chances: Chances,
    plays: PlayChances,
    life: Life,
    played: Played,
    prompts: Prompts,
    weight: np.ndarray,
) -> Outcomes:
    """Sum one world over the days after the launch; `weight`, per account, counts in the weekly sums alone."""
    n, size = len(chances.people), len(chances.account)
    after = chances.launched & life.happens
    counted = chances.launched[played.session]

    def per_session(flag: np.ndarray) -> np.ndarray:
        return np.bincount(played.session, weights=counted & flag, minlength=size)

    plays_per_session = per_session(np.ones(len(counted), bool))
    delayed = after & (life.seconds > 0)
    rated_down = thumbs(simulation, plays, played) & (played.stars <= 2)
    sums = {
        "hours": life.seconds * after / 3600,
        "show_hours": life.show.seconds * ~life.of("placebo")[chances.account] / 3600,
        "sessions": after,
        "fast": delayed & (life.first_play_seconds <= 300),
        "failed": after & (life.seconds == 0) & events.start_failed(simulation, chances),
        "crashed": after & (chances.crashes < simulation.quality.crash),
        "delayed": delayed,
        "delay": delayed * events.delay_ms(simulation, chances, life),
        "plays": plays_per_session,
        "shadow": per_session(played.shadow),
        "chosen": plays_per_session - per_session(played.autoplay),
        "down": per_session(rated_down),
        "long_plays": per_session(played.seconds >= 300),
    }
    sums["minutes"] = 60 * sums["hours"]
    week = np.maximum(chances.day - simulation.pre_days, 0) // 7
    weeks = -(-simulation.days // 7)
    of_week = chances.account * weeks + week
    weighted = weight[chances.account]
    watched = np.bincount(of_week, weights=sums["hours"], minlength=n * weeks).reshape(n, weeks)
    frame = pd.DataFrame({name: chances.per_account(values) for name, values in sums.items()})
    answered = prompts.account[prompts.answered]
    new = ~life.of("placebo")
    return Outcomes(
        accounts=frame.assign(
            accounts=1.0,
            weeks=simulation.days / 7,
            active_weeks=(watched > 0).sum(axis=1),
            starts=(life.show.starters & new).astype(float),
            reached=(life.show.reached & new).astype(float),
            cancelled=(life.cancelled < 28).astype(float),
            tickets=np.isfinite(events.asks(simulation, chances, life)).astype(float),
            scores=np.bincount(answered, weights=prompts.score[prompts.answered], minlength=n),
            answers=np.bincount(answered, minlength=n),
            thinks=np.bincount(prompts.account, weights=prompts.thinks, minlength=n),
            asked=np.bincount(prompts.account, minlength=n),
        ),
        weeks=pd.DataFrame(
            {name: np.bincount(week, weights=values * weighted, minlength=weeks) for name, values in sums.items()}
        ).assign(
            accounts=weight.sum(),
            weeks=weight.sum() * np.minimum(simulation.days / 7 - np.arange(weeks), 1),
            active_weeks=(watched > 0).T @ weight,
        ),
    )


def summed(outcomes: Outcomes, people: pd.DataFrame, weight: np.ndarray) -> pd.DataFrame:
    """Add a block's accounts up: overall, by the levels of each segment, and by week.

    Args:
        outcomes: of one world.
        people: the accounts' attributes, row by row.
        weight: one over the inclusion probability, so that the truth is the population's where a draw is not even; 0
            for accounts that do not stand for it.

    Returns:
        A row per segment, level and week (0: all of them), in this index; sums of blocks add up.
    """
    weighted = outcomes.accounts.mul(weight, axis=0)
    parts = [weighted.groupby(np.full(len(people), "all")).sum()]
    parts += [weighted.groupby(people[segment].astype(str).to_numpy()).sum() for segment in SEGMENTS]
    sums = pd.concat(dict(zip(("all", *SEGMENTS), parts, strict=True)), names=["segment", "level"])
    sums = sums.assign(week=0).set_index("week", append=True)
    by_week = outcomes.weeks.assign(segment="week", level="all", week=np.arange(1, len(outcomes.weeks) + 1))
    return pd.concat([sums, by_week.set_index(["segment", "level", "week"])])


def contrast(worlds: Sequence[pd.DataFrame], arms: Sequence[str], *, with_show: bool = True) -> pd.DataFrame:
    """Contrast the sums of the control world, which is first, with those of each other.

    Returns:
        arm, metric, segment, level, week (0: the whole window), control, treatment, diff, rel (missing where control
        is 0).
    """
    rows = []
    for arm, world in zip(arms[1:], worlds[1:], strict=True):
        for metric, (numerator, denominator) in (METRICS | ALSO).items():
            of_show = metric in OF_THE_SHOW or metric == "show_reach"
            if not of_show or with_show:
                values = [sums[numerator] / sums[denominator] for sums in (worlds[0], world)]
                row = pd.DataFrame({"control": values[0], "treatment": values[1]})
                rows.append(row[row["control"].notna()].assign(arm=arm, metric=metric))
    return _with_difference(pd.concat(rows).reset_index())


def medians(hours: Sequence[np.ndarray], weight: np.ndarray, weeks: float, arms: Sequence[str]) -> pd.DataFrame:
    """Contrast the median account's weekly hours of every world with the control world's."""
    found = []
    for values in hours:
        order = np.argsort(values)
        reached = np.cumsum(weight[order])
        found.append(values[order][np.searchsorted(reached, reached[-1] / 2)] / weeks)
    rows = [(arm, MEDIAN, "all", "all", 0, found[0], one) for arm, one in zip(arms[1:], found[1:], strict=True)]
    return _with_difference(pd.DataFrame(rows, columns=COLUMNS[:7]))


def planted(simulation: Simulation) -> pd.DataFrame:
    """List what the scenario sets, as rows of segment "planted": what would be there without it, and what is."""
    usual, rows = Service(), []
    for name, scenario in simulation.scenarios.items():
        for key, value in scenario.world.items():
            for level, number in _numbers(key, value):
                rows.append(("", name, "planted", level, 0, np.nan, number))
        if scenario.pool:
            rows.append(("", name, "planted", f"treatment among {scenario.pool}", 0, 0.0, 1.0))
    base = next(iter(simulation.scenarios))
    for arm, service in zip(simulation.arms, simulation.services, strict=True):
        pairs = [(f.name, float(getattr(usual, f.name)), float(getattr(service, f.name))) for f in fields(Service)]
        rows += [(arm, base, "planted", name, 0, was, now) for name, was, now in pairs if now != was]
    return _with_difference(pd.DataFrame(rows, columns=COLUMNS[:7]).astype({"control": float, "treatment": float}))


def _numbers(key: str, value: object) -> list[tuple[str, float]]:
    """Spread a setting over its numbers."""
    if key == "events":
        return [(f"{name}, from day {first} for {days}", factor) for name, first, days, factor in value]  # type: ignore[attr-defined]
    values = value if isinstance(value, tuple) else (value,)
    return [(f"{key}[{nth}]" if len(values) > 1 else key, float(one)) for nth, one in enumerate(values)]


def _with_difference(rows: pd.DataFrame) -> pd.DataFrame:
    rows["diff"] = rows["treatment"] - rows["control"]
    rows["rel"] = (rows["diff"] / rows["control"]).where(rows["control"] > 0)
    return rows[COLUMNS]
