"""How many accounts it takes to tell the net hours of a new title from its hours, and how often that is right.

The show of the simulated service takes three quarters of its hours from other titles (planted: `Show.incremental`). At
each size, experiments are drawn from 100,000 accounts that lived in both worlds, and read as chapter 04 reads a launch:
the change of all hours over the change of the title's, with the interval of Anderson and Rubin.
`python benchmarks/net_hours.py [EXPERIMENTS]`.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np

from helpers import causal, moments, simulate
from helpers.metrics import UNITS_TABLE, Measure, Metric

SIZES = (10_000, 50_000, 150_000, 250_000, 500_000)  # accounts of each arm


def mean(column: str, *past: str) -> Metric:
    """Name the mean of a column, adjusted for others."""
    of = {c: Measure(table=UNITS_TABLE, agg="value", column=c) for c in (column, *past)}
    return Metric(
        name=column, title=column, kind="mean", numerator=of[column], better="higher", unit="h",
        covariates=tuple(of[c] for c in past),
    )  # fmt: skip


def main(experiments: int) -> None:
    """Print, for each size, coverage, mean limits, and how often the interval excludes 0 and 1."""
    rng = np.random.default_rng(1)
    pool = simulate.pool(simulate.Simulation(scenario="show_premiere", accounts=100_000, seed=1), what="title")
    change = dict(zip(pool.columns, (pool.treatment - pool.control).astype(float).mean(axis=0), strict=True))
    truth = change["hours"] / change["title_hours"]
    print(f"{experiments:,} experiments of each size; true net hours for each hour of the title: {truth:.3f}")
    for n in SIZES:
        draw = partial(moments.from_draws, columns=pool.columns, n=n, replicates=experiments, rng=rng)
        read = draw(pool.control, arm="c") + draw(pool.treatment, arm="t")
        found = causal.complier(
            read, mean("hours", "hours_before"), mean("title_hours"), control="c", treatment="t", days=28, adjust=True
        )
        low, high = np.array([[e.low, e.high] for e in found if isinstance(e, causal.Complier)]).T
        print(
            f"{n:>9,} an arm: covers {np.mean((low <= truth) & (truth <= high)):.1%}, from {low.mean():.2f} to "
            f"{high.mean():.2f} on average, excludes 0 in {np.mean(low > 0):.0%} and 1 in {np.mean(high < 1):.0%}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
