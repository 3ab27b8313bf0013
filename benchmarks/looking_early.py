"""Error and coverage of everything that may be looked at early, over 28 daily looks at heavy-tailed accounts.

`python benchmarks/looking_early.py [REPLICATES]`; the tests ask the same with a few hundred.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from scipy import stats

from helpers import anytime, sequential, validity

DAYS = np.arange(1, 29)
PER_DAY = 360  # accounts an arm and day: 10,000 at the end


def streams(rng: np.random.Generator, launches: int) -> tuple[np.ndarray, np.ndarray]:
    """Let two equal arms fill with hours (a tenth never comes, others are lognormal); give differences and errors."""
    n, means, variances = PER_DAY * DAYS, [], []
    for _ in range(2):
        shape = (launches, len(DAYS), PER_DAY)
        hours = rng.lognormal(0, 1.1, shape) * (rng.random(shape) < 0.9)
        means.append(hours.sum(axis=2).cumsum(axis=1) / n)
        variances.append(((hours**2).sum(axis=2).cumsum(axis=1) - n * means[-1] ** 2) / (n - 1))
    return means[1] - means[0], np.sqrt(sum(variances) / n)


def means(rng: np.random.Generator, replicates: int) -> dict[str, float]:
    """Count launches that do nothing and are stopped nevertheless."""
    parts = [streams(rng, min(100, replicates - first)) for first in range(0, replicates, 100)]
    diff, se = (np.concatenate(part) for part in zip(*parts, strict=True))
    n = 2 * PER_DAY * DAYS
    found = {"a fixed test, looked at daily": (np.abs(diff / se) > stats.norm.isf(0.025)).any(axis=1).mean()}
    for rule in ("obrien_fleming", "spend_obrien_fleming", "spend_pocock"):
        found[f"planned looks, {rule}"] = sequential.stopped_by(diff / se, sequential.plan_looks(28, rule=rule).z)[-1]
    for week in (1, 4):
        low, high = anytime.confidence_sequence(diff, se, n, tuned_for=n[7 * week - 1])
        found[f"confidence sequence, tuned for week {week}"] = ((low > 0) | (high < 0)).any(axis=1).mean()
    return found


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
    replicates = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    rng = np.random.default_rng(20261121)
    for what, error in (means(rng, replicates) | quantiles(rng, replicates // 5)).items():
        print(f"{what:45s} {error:7.2%}")
    print("\nArm counts day by day, alpha 0.1 %\n", counts(rng, replicates // 5).to_string(index=False))
