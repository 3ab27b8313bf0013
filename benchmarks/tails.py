"""How often the methods for heavy tails are right: error rates, coverage and verdicts over many simulated launches.

One large service is simulated for each scenario, and launches of a documented size are drawn from its accounts.
`python benchmarks/tails.py [LAUNCHES] [ACCOUNTS]`.
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import study
from helpers.launch import load
from helpers.results import Estimate
from helpers.robust import accounts, bootstrap, estimators, influence, quantiles, ranks
from helpers.robust.accounts import Arms

SHARES = (0.5, 0.9, 0.99)
SIZES = ((10_000, 10_000), (30_000, 10_000))
SCENARIOS = ("aa", "broad_lift", "outlier_driven")


def service(scenario: str, accounts_: int, folder: Path) -> Arms:
    """Simulate a scenario with half of the accounts in each arm."""
    each = round(0.45 * accounts_)
    path = folder / f"{scenario}.yaml"
    path.write_text(
        textwrap.dedent(f"""\
            name: tails_{scenario}
            data: {{source: simulate, scenario: {scenario}, accounts: {accounts_}, seed: 77}}
            arms: {{control: control, treatment: treated}}
            dates: {{start: 2026-09-07, days: 28, pre_days: 28}}
            sampling: {{n: {{control: {each}, treated: {each}}}}}
            metrics: {{north_star: hours_per_account_week}}
            """),
        encoding="utf-8",
    )
    return accounts.read(study.open(load(path)))


def draw(arms: Arms, size: tuple[int, int], rng: np.random.Generator) -> Arms:
    """Draw a launch of so many accounts, with replacement: the service is the population."""
    return arms.where(*(rng.integers(0, n, k) for n, k in zip(arms.n, size, strict=True)))


def verdicts(arms: Arms, size: tuple[int, int], launches: int, rng: np.random.Generator) -> dict[str, object]:
    """Count verdicts and what the usual tests find."""
    rows = []
    for _ in range(launches):
        one = draw(arms, size, rng)
        mean, rank = estimators.mean(one), ranks.rank(one)
        (median,) = quantiles.difference(one.control, one.treatment, [0.5])
        split = influence.split(one)
        if isinstance(mean, Estimate) and isinstance(rank, Estimate) and isinstance(median, Estimate) and split:
            rows.append({"mean": mean.p < 0.05, "rank": rank.p < 0.05, "median": median.rel, split.verdict: True})
    found = pd.DataFrame(rows).fillna(value=False).astype(float).mean()
    wanted = ["mean", "rank", "median", "broad", "concentrated", "cannot tell"]
    return {"accounts": f"{size[0]:,} + {size[1]:,}", **found.reindex(wanted, fill_value=0.0).round(4).to_dict()}


def coverage(arms: Arms, launches: int, rng: np.random.Generator) -> pd.DataFrame:
    """Compare order statistics with the percentile bootstrap on 1,000 + 1,000 accounts: coverage and width."""
    truth = np.quantile(arms.treatment, SHARES) - np.quantile(arms.control, SHARES)
    rows = []
    for _ in range(launches):
        one = draw(arms, (1_000, 1_000), rng)
        fast = quantiles.difference(one.control, one.treatment, SHARES)
        for share, true, e in zip(SHARES, truth, fast, strict=True):
            again = bootstrap.difference(one.control, one.treatment, bootstrap.quantile(share), rng=rng, replicates=500)
            for method, answer in (("order statistics", e), ("bootstrap", again)):
                if isinstance(answer, Estimate):
                    width, hit = answer.high - answer.low, answer.low <= true <= answer.high
                    rows.append({"quantile": share, "method": method, "covers": hit, "width": width})
    return pd.DataFrame(rows).groupby(["quantile", "method"])[["covers", "width"]].mean().round(4)


def main(launches: int, accounts_: int) -> None:
    """Print both tables."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        for scenario in SCENARIOS:
            arms = service(scenario, accounts_, Path(folder))
            if scenario == "aa":  # one population, so that nothing differs but by chance
                arms = replace(arms, treatment=arms.control, treatment_before=arms.control_before)
            for size in SIZES:
                print(scenario, verdicts(arms, size, launches, rng), flush=True)
            if scenario == "aa":
                print(coverage(arms, launches, rng), flush=True)


if __name__ == "__main__":
    given = [int(argument.replace("_", "")) for argument in sys.argv[1:]]
    main(*given, *(400, 200_000)[len(given) :])
