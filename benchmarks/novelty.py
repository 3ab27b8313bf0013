"""How often notebook 07 finds a planted novelty, and how often it alarms where there is none.

By the effect, for a feature: launches drawn from the means and covariances of a simulated service (`later.follow`),
what so many accounts show up to the normal approximation. By the viewers, for a show, whose effect falls as its
episodes get watched: launches of accounts of their own.
`python benchmarks/novelty.py [LAUNCHES OF A SHOW] [LAUNCHES BY THE EFFECT]`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from helpers import retention, simulate
from helpers.timeline import course, fading, later

SIZES = ((10_000, 3_000), (20_000, 6_000), (30_000, 10_000), (25_000, 25_000))  # accounts of control and treatment
VIEWERS = (3_000, 6_000, 10_000)  # accounts treated


def by_the_effect(scenario: str, launches: int) -> pd.DataFrame:
    """Count alarms of the weekly effect at each size."""
    followed, rng, rows = later.follow(scenario, accounts=20_000, weeks=5), np.random.default_rng(1), []
    for n, _ in product(SIZES, range(launches)):
        weekly = course.relative(later.first(followed.launch(n, rng)))
        found = fading.verdict(fading.early_minus_late(weekly), fading.late(weekly), better="higher")
        size = f"{n[0]:,} + {n[1]:,}"
        rows.append({"accounts": size, "alarm": found.detail.startswith(("Fades", "Settles"))})
    return pd.DataFrame(rows)


def by_the_viewers(scenario: str, seed: int) -> list[dict[str, object]]:
    """Say of the viewers of one launch, at each size, whether they raise the alarm."""
    world = simulate.pool(
        simulate.Simulation(scenario=scenario, accounts=VIEWERS[-1], seed=seed), what="weeks"
    ).treatment
    found = [retention.honeymoon(counted(world[:n]), strata="engagement") for n in VIEWERS]
    return [{"accounts": f"{n:,} treated", "alarm": f.passed is False} for n, f in zip(VIEWERS, found, strict=True)]


def counted(world: np.ndarray) -> retention.Viewers:
    """Count the show's viewers, as `retention.read` does from the events; alike in thirds of the hours before."""
    third = np.searchsorted(np.quantile(world[:, 0], [1 / 3, 2 / 3]), world[:, 0])
    frame = pd.DataFrame(world[:, -3:].astype(int), columns=["start_day", "watched", "left"]).assign(engagement=third)
    counts = frame[frame["start_day"] >= 0].groupby(list(frame), as_index=False).size()
    counts = counts.rename(columns={"size": "viewers"}).astype({"left": bool})
    return retention.Viewers(
        counts=counts, episodes=8, visits=4, weeks=pd.DataFrame(), states=pd.Series(dtype=int), elsewhere=0
    )


def tell(scenario: str, found: pd.DataFrame) -> None:
    """Print the share of alarms at each size, with its standard error."""
    share = found.groupby("accounts", sort=False)["alarm"].agg(["mean", "count"])
    share["error"] = np.sqrt(share["mean"] * (1 - share["mean"]) / share["count"])
    print(f"\n{scenario}\n{share.round(3).to_string()}", flush=True)


def main(viewers: int, effects: int) -> None:
    """Print the share of alarms for each scenario and size."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for nth, how in enumerate(("stable", "honeymoon")):
            seeds, one = range(1_000 * nth + 1, 1_000 * nth + 1 + viewers), f"show_premiere+{how}"
            found = pool.map(partial(by_the_viewers, one), seeds)
            tell(f"{one}, by its viewers", pd.DataFrame([row for part in found for row in part]))
            other = f"homepage_optimistic+{how}"
            tell(f"{other}, by the effect", by_the_effect(other, effects))


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(200, 1_000)[len(given) :])
