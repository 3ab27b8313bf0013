"""Errors of quantiles and of arm counts that are looked at on 28 days.

`python benchmarks/looking_early.py [REPLICATES]`; the tests ask the same with a few hundred. Those of means are told by
`premiere calibrate --only looks`.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from scipy import stats

from helpers import anytime, validity

DAYS = np.arange(1, 29)


def quantiles(rng: np.random.Generator, replicates: int) -> dict[str, float]:
    """Count sequences of limits that miss the 95th percentile, and canaries that raise an alarm over nothing."""
    n, missed, alarms = 100 * DAYS, 0, 0
    low, high = anytime.quantile_ranks(n, 0.95, tuned_for=n[-1])
    truth = np.exp(stats.norm.ppf(0.95))
    for _ in range(replicates):
        control, treatment = rng.lognormal(0, 1, (2, n[-1]))
        below = (control <= truth).cumsum()[n - 1]
        missed += ((below < low) | (below >= high)).any()
        looks = (anytime.canary(control[:k], treatment[:k], title="", tuned_for=n[-1]).passed for k in n)
        alarms += any(passed is False for passed in looks)
    return {"95th percentile, limits": missed / replicates, "95th percentile, canary": alarms / replicates}


def counts(rng: np.random.Generator, replicates: int) -> pd.DataFrame:
    """Lose a share of the treatment arm of 30,000 and 10,000 accounts: how often, and on which day, it is found."""
    rows = []
    for lost in (0.0, 0.03, 0.05, 0.1, 0.2):
        kept = np.array([0.75, 0.25 * (1 - lost)])
        days = rng.multinomial(round(40_000 / 28 * kept.sum()), kept / kept.sum(), (replicates, 28)).cumsum(axis=1)
        p = np.array([anytime.split_p(day, [3, 1], tuned_for=40_000) for day in days])
        hit = p < validity.ALPHA
        day = np.median(hit.argmax(axis=1)[hit.any(axis=1)] + 1) if hit.any() else np.nan
        rows.append({"lost": lost, "found": hit[:, -1].mean(), "median day": day})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    replicates = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    rng = np.random.default_rng(20261121)
    for what, error in quantiles(rng, replicates).items():
        print(f"{what:45s} {error:7.2%}")
    print("\nArm counts day by day, alpha 0.1 %\n", counts(rng, replicates).to_string(index=False))
