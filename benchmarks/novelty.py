"""How often notebook 07 finds a planted novelty, and how often it alarms where there is none.

Every launch has accounts of its own. `python benchmarks/novelty.py [LAUNCHES]`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from helpers import retention, simulate
from helpers.timeline import course, fading, later

SIZES = ((10_000, 3_000), (20_000, 6_000), (30_000, 10_000))  # control and treatment
SCENARIOS = ("show_premiere", "homepage_optimistic")


def rows(scenario: str, seed: int) -> Iterator[dict[str, object]]:
    """Say of one launch, at each size, whether its effect or its viewers raise the alarm."""
    pool = simulate.pool(simulate.Simulation(scenario=scenario, accounts=40_000, seed=seed), what="weeks")
    for control, treated in SIZES:
        usual, changed = pool.control[:control], pool.treatment[-treated:]
        weekly = course.relative(later.course(usual[:, :5], changed[:, :5]))
        viewers = retention.honeymoon(viewers_of(changed), strata="engagement")
        moved, remains = fading.early_minus_late(weekly), fading.late(weekly)
        effect = fading.verdict(moved, remains, better="higher").detail
        yield {
            "accounts": f"{control:,} + {treated:,}",
            "by the effect": effect.startswith(("Fades", "Settles")),
            "by the viewers": viewers.passed is False,
            "alarm": effect.startswith(("Fades", "Settles")) or viewers.passed is False,
        }


def viewers_of(world: np.ndarray) -> retention.Viewers:
    """Count the show's viewers, as `retention.read` does from the events; alike in thirds of the hours before."""
    third = np.searchsorted(np.quantile(world[:, 0], [1 / 3, 2 / 3]), world[:, 0])
    frame = pd.DataFrame(world[:, -3:].astype(int), columns=["start_day", "watched", "left"]).assign(engagement=third)
    counts = frame[frame["start_day"] >= 0].groupby(list(frame), as_index=False).size()
    counts = counts.rename(columns={"size": "viewers"}).astype({"left": bool})
    nothing = {"weeks": pd.DataFrame(), "states": pd.Series(dtype=int), "elsewhere": 0}
    return retention.Viewers(counts=counts, episodes=8, visits=4, **nothing)


def one(scenario: str, seed: int) -> list[dict[str, object]]:
    """Do one launch, in a process of its own."""
    return list(rows(scenario, seed))


def main(launches: int) -> None:
    """Print the share of alarms for each scenario and size, with its standard error."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for nth, (what, how) in enumerate(product(SCENARIOS, ("stable", "honeymoon"))):
            scenario = f"{what}+{how}"
            seeds = range(1_000 * nth + 1, 1_000 * nth + 1 + launches)
            found = pd.DataFrame([row for part in pool.map(partial(one, scenario), seeds) for row in part])
            share = found.groupby("accounts", sort=False).mean()
            share["± of alarm"] = np.sqrt(share["alarm"] * (1 - share["alarm"]) / launches)
            print(f"\n{scenario}, {launches} launches\n{share.round(3).to_string()}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
