"""How often the methods for heavy tails are right: error rates, coverage and verdicts over many simulated launches.

Every launch has accounts of its own: none is drawn twice, so that launches are independent.
`python benchmarks/tails.py [LAUNCHES]`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from helpers import simulate
from helpers.results import Estimate
from helpers.robust import accounts, bootstrap, estimators, influence, parts, quantiles, ranks
from helpers.robust.accounts import Arms

SIZES = ((10_000, 10_000), (30_000, 10_000))  # accounts of control and treatment
SCENARIOS = ("outlier_driven", "broad_lift")
SHARES = (0.5, 0.9, 0.99)


def launches(scenario: str, seed: int) -> tuple[Arms, Arms, float]:
    """Simulate a launch, one on the same accounts that does nothing, and the truth for the rank test.

    The truth is by how much the chance that a treated account has more lies above one half.
    """
    pool = simulate.pool(simulate.Simulation(scenario=scenario, accounts=sum(SIZES[-1]), seed=seed))
    before, hours = (pool.columns.index(name) for name in ("hours_before", "hours"))
    usual, changed = (world[:, [before, hours]].astype(float) / 4 for world in (pool.control, pool.treatment))
    places = np.searchsorted(np.sort(usual[:, 1]), np.array([usual[:, 1], changed[:, 1]])) / len(usual)
    found = []
    for world in (changed, usual):
        arms = accounts.of(usual[:-10_000, 1], world[-10_000:, 1], metric="hours_per_account_week", unit="hours")
        found.append(replace(arms, control_before=usual[:-10_000, :1], treatment_before=world[-10_000:, :1]))
    return found[0], found[1], float((places[1] - places[0]).mean())


def rows(scenario: str, arms: Arms, chance: float) -> Iterator[dict[str, object]]:
    """Say what the usual tests and the verdict find in one launch, at each size."""
    for size in SIZES:
        one = arms.where(*(np.arange(n) for n in size))
        mean, rank = estimators.mean(one), ranks.rank(one)
        (median,) = quantiles.difference(one.control, one.treatment, [0.5])
        found, meant = parts.split(one), influence.check(one, heavy_viewers_are_target=True)
        if isinstance(mean, Estimate) and isinstance(rank, Estimate) and isinstance(median, Estimate) and found:
            yield {
                "scenario": scenario,
                "accounts": f"{size[0]:,} + {size[1]:,}",
                "mean": mean.p < 0.05,
                "rank": rank.p < 0.05,
                "rank, by theory": by_theory(chance, *size),
                "median": median.rel,
                "median differs": median.p < 0.05,
                **{word: found.verdict == word for word in ("broad", "concentrated", "cannot tell")},
                "passes where heavy viewers are the target": meant.passed is True,
            }


def by_theory(chance: float, control: int, treatment: int, *, alpha: float = 0.05) -> float:
    """Give the power of a rank test where treated accounts have more with a chance of one half and `chance`.

    Normal, with the variance 1/12 (1/n + 1/m) that the two arms have where they hardly differ.
    """
    z, limit = chance / np.sqrt((1 / control + 1 / treatment) / 12), stats.norm.isf(alpha / 2)
    return float(stats.norm.sf(limit - z) + stats.norm.sf(limit + z))


def coverage(arms: Arms, seed: int) -> Iterator[dict[str, object]]:
    """Compare order statistics with the percentile bootstrap on 1,000 + 1,000 accounts without any effect."""
    one = arms.where(np.arange(1_000), np.arange(1_000))
    fast = quantiles.difference(one.control, one.treatment, SHARES)
    for share, e in zip(SHARES, fast, strict=True):
        rng = np.random.default_rng(seed)
        again = bootstrap.difference(one.control, one.treatment, bootstrap.quantile(share), rng=rng, replicates=500)
        for method, answer in (("order statistics", e), ("bootstrap", again)):
            if isinstance(answer, Estimate):
                hit = answer.low <= 0 <= answer.high
                yield {"quantile": share, "method": method, "covers": hit, "width": answer.high - answer.low}


def one(scenario: str, seed: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Do one launch, in a process of its own; the launch that does nothing is read once."""
    planted, nothing, chance = launches(scenario, seed)
    if scenario != SCENARIOS[0]:
        return list(rows(scenario, planted, chance)), []
    return [*rows(scenario, planted, chance), *rows("nothing", nothing, 0.0)], list(coverage(nothing, seed))


def main(times: int) -> None:
    """Print the rates for each scenario, and the coverage."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for nth, scenario in enumerate(SCENARIOS):
            seeds = range(1_000 * nth + 1, 1_000 * nth + 1 + times)
            rates, covered = zip(*pool.map(partial(one, scenario), seeds), strict=True)
            for found, by in ((rates, ["scenario", "accounts"]), (covered, ["quantile", "method"])):
                if frame := [row for part in found for row in part]:
                    print(pd.DataFrame(frame).groupby(by).mean().round(4).T.to_string(), "\n", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
