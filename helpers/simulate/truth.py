"""The truth: what each metric would be if every assigned account lived in one world, and if all lived in the other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.simulate.events import PlayChances, shadow_recommended
from helpers.simulate.parameters import Simulation
from helpers.simulate.viewing import Chances
from helpers.simulate.worlds import Life

SEGMENTS = ("region", "device", "tenure", "engagement")
METRICS = {  # name in the catalogue: numerator and denominator, summed over accounts
    "hours_per_account_week": ("hours", "weeks"),
    "show_start_rate": ("starts", "accounts"),
    "show_hours_per_account": ("show_hours", "accounts"),
    "discovery_rate": ("shadow", "plays"),
    "browse_to_play": ("fast", "sessions"),
    "session_minutes": ("minutes", "sessions"),
    "opens_per_account_week": ("sessions", "weeks"),
    "churn_28d": ("cancelled", "accounts"),
}
OF_THE_SHOW = ("show_start_rate", "show_hours_per_account")


def outcomes(simulation: Simulation, chances: Chances, plays: PlayChances, life: Life) -> pd.DataFrame:
    """Sum one world over the days after the launch, one row per account of the block."""
    after = chances.launched & life.happens
    counted = after[plays.session] & (plays.position < life.plays[plays.session])
    shadow = counted & shadow_recommended(simulation, plays, life)
    hours = chances.per_account(life.seconds * after) / 3600
    per_play = chances.account[plays.session]
    return pd.DataFrame(
        {
            "accounts": 1.0,
            "weeks": simulation.days / 7,
            "hours": hours,
            "minutes": 60 * hours,
            "sessions": chances.per_account(after),
            "fast": chances.per_account(after & (life.seconds > 0) & (life.first_play_seconds <= 300)),
            "plays": np.bincount(per_play, weights=counted, minlength=len(hours)),
            "shadow": np.bincount(per_play, weights=shadow, minlength=len(hours)),
            "starts": life.show.starters.astype(float),
            "show_hours": chances.per_account(life.show.seconds) / 3600,
            "cancelled": (life.cancelled < 28).astype(float),
        }
    )


def contrast(control: pd.DataFrame, treatment: pd.DataFrame, people: pd.DataFrame, weight: np.ndarray) -> pd.DataFrame:
    """Contrast the two worlds over the same accounts, overall and by segment.

    Args:
        control: `outcomes` of all assigned accounts in the control world.
        treatment: the same accounts in the treatment world.
        people: their attributes, row by row.
        weight: one over the inclusion probability, so that the truth is the population's where a draw is not even.

    Returns:
        metric, segment, level, control, treatment, diff, rel (missing where control is 0).
    """
    rows = []
    for segment in ("all", *SEGMENTS):
        level = people[segment].astype(str).to_numpy() if segment in people else np.full(len(people), "all")
        worlds = [world.mul(weight, axis=0).groupby(level).sum() for world in (control, treatment)]
        for metric, (numerator, denominator) in METRICS.items():
            values = [world[numerator] / world[denominator] for world in worlds]
            rows.append(
                pd.DataFrame({"metric": metric, "segment": segment, "control": values[0], "treatment": values[1]})
            )
    truth = pd.concat(rows).rename_axis("level").reset_index()
    truth["diff"] = truth["treatment"] - truth["control"]
    truth["rel"] = (truth["diff"] / truth["control"]).where(truth["control"] > 0)
    return truth[["metric", "segment", "level", "control", "treatment", "diff", "rel"]]
