"""Speed and memory of the parts that users would otherwise take from elsewhere: medians of five runs, as ratios.

Each contestant runs in a process of its own, so that its peak memory is its own. `python benchmarks/run.py [ROWS]`.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

METRICS = 12
REPEATS = 5
SLOW = 10.0  # seconds; what takes longer is run once
RESAMPLES = 2_000
COLUMNS = [f"m{i}" for i in range(METRICS)]


def write(path: Path, rows: int) -> None:
    """Write an account table with twelve skewed metrics, an arm and a segment."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.gamma(2.0, 5.0, (rows, METRICS)), columns=COLUMNS)
    frame["account"] = np.char.add("a", np.arange(rows).astype(str))
    frame["variant"] = rng.integers(0, 2, rows)
    frame["region"] = rng.choice(["n", "s", "e", "w"], rows)
    frame.to_parquet(path)


def duckdb_aggregates(path: str) -> None:
    """Ask the engine for counts, means and variances, and nothing else."""
    import duckdb

    asked = ", ".join(f"avg({c}), var_samp({c})" for c in COLUMNS)
    duckdb.sql(f"SELECT variant, count(*), {asked} FROM '{path}' GROUP BY variant").fetchall()


def premiere_moments(path: str) -> None:
    """Read moments and compare every metric."""
    import ibis

    from helpers import inference, moments
    from helpers.metrics import UNITS_TABLE, Measure, Metric

    table = ibis.duckdb.connect().read_parquet(path).mutate(variant=ibis._.variant.cast("string"))
    read = moments.from_table(table, columns=COLUMNS, pairs=[(c, c) for c in COLUMNS], by=["variant"])
    for c in COLUMNS:
        measure = Measure(table=UNITS_TABLE, agg="value", column=c)
        metric = Metric(name=c, title=c, kind="mean", numerator=measure, better="higher", unit="")
        inference.compare(read, metric, control="0", treatment="1", arm="variant", days=28, pre_days=28)


def tea_tasting_on_ibis(path: str) -> None:
    """Give the same table to tea-tasting through Ibis."""
    import ibis
    import tea_tasting as tt

    table = ibis.duckdb.connect().read_parquet(path)
    tt.Experiment({c: tt.Mean(c) for c in COLUMNS}).analyze(table)


def scipy_on_pandas(path: str) -> None:
    """Load the columns and run Welch's test on each."""
    from scipy import stats

    frame = pd.read_parquet(path, columns=[*COLUMNS, "variant"])
    arm = frame["variant"] == 1
    for c in COLUMNS:
        stats.ttest_ind(frame.loc[arm, c], frame.loc[~arm, c], equal_var=False).confidence_interval()


def duckdb_hashes(path: str) -> None:
    """Hash every id once: what any repeatable draw costs at least."""
    import duckdb

    duckdb.sql(f"SELECT min(sha256('s:' || account)) FROM '{path}'").fetchall()


def premiere_draw(path: str) -> None:
    """Draw 10,000 accounts in strata, the same ones every time."""
    import ibis

    from helpers import sampling

    table = ibis.duckdb.connect().read_parquet(path)
    sampling.draw(table, n={"early": 10_000}, strata=["region"], salt="s").execute()


def pandas_groupby_sample(path: str) -> None:
    """Draw with a seed in memory: fast, and another sample as soon as a row moves."""
    frame = pd.read_parquet(path, columns=["account", "region"])
    frame.groupby("region").sample(frac=10_000 / len(frame), random_state=1)


@cache
def tail(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hold a heavy-tailed amount of a million accounts, another amount and their arm: what ranks and resamples read."""
    del path  # the contest's own table is not needed
    rng, n = np.random.default_rng(1), 1_000_000
    return rng.lognormal(3.4, 0.85, n) * (rng.random(n) < 0.98), 1.0 + rng.poisson(6, n), np.arange(n) % 2


@cache
def arms(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Part the amounts by arm."""
    amount, _, arm = tail(path)
    return amount[arm == 0], amount[arm == 1]


@cache
def pairs(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Part both amounts by arm."""
    amount, other, arm = tail(path)
    both = np.column_stack([amount, other])
    return both[arm == 0], both[arm == 1]


def numpy_partition(path: str) -> None:
    """Find one order statistic of all amounts: less than any quantile comparison can cost."""
    amount = tail(path)[0]
    np.partition(amount, len(amount) // 2)


def premiere_quantiles(path: str) -> None:
    """Compare median and 90th percentile, with intervals."""
    from helpers.robust import quantiles

    quantiles.difference(*arms(path), [0.5, 0.9])


def tea_tasting_bootstrap(path: str) -> None:
    """Give the same accounts to tea-tasting's quantiles."""
    import tea_tasting as tt

    amount, _, arm = tail(path)
    frame = pd.DataFrame({"variant": arm, "m": amount})
    asked = {f"q{q}": tt.Quantile("m", q=q, n_resamples=RESAMPLES, batch=8) for q in (0.5, 0.9)}
    tt.Experiment(asked).analyze(frame)


def scipy_bootstrap(path: str) -> None:
    """Resample the difference of medians and of 90th percentiles with scipy."""
    from scipy import stats

    def difference(c: np.ndarray, t: np.ndarray, axis: int) -> np.ndarray:
        return np.quantile(t, [0.5, 0.9], axis=axis) - np.quantile(c, [0.5, 0.9], axis=axis)

    stats.bootstrap(arms(path), difference, n_resamples=RESAMPLES, method="percentile", batch=8, rng=1)


def premiere_bootstrap_mean(path: str) -> None:
    """Resample a mean on counts of blocks."""
    _premiere_bootstrap(arms(path), "MEAN")


def premiere_bootstrap_ratio(path: str) -> None:
    """Resample a ratio of sums."""
    _premiere_bootstrap(pairs(path), "RATIO")


def premiere_bootstrap_trimmed(path: str) -> None:
    """Resample a mean without the lowest and the highest fifth."""
    _premiere_bootstrap(arms(path), "trimmed")


def _premiere_bootstrap(pair: tuple[np.ndarray, np.ndarray], name: str) -> None:
    from helpers.robust import bootstrap

    statistic = bootstrap.trimmed_mean(0.2, 0.2) if name == "trimmed" else getattr(bootstrap, name)
    bootstrap.difference(*pair, statistic, rng=np.random.default_rng(1), replicates=RESAMPLES)


def numpy_loop(path: str) -> None:
    """Resample a mean by drawing every account again."""
    rng = np.random.default_rng(1)
    for _ in range(RESAMPLES):
        for arm in arms(path):
            arm[rng.integers(0, len(arm), len(arm))].mean()


CONTESTS: dict[str, list[Callable[[str], None]]] = {
    f"{METRICS} metrics, two arms": [duckdb_aggregates, premiere_moments, tea_tasting_on_ibis, scipy_on_pandas],
    "a stratified draw of 10,000": [duckdb_hashes, premiere_draw, pandas_groupby_sample],
    "median and 90th percentile of a million amounts in memory": [
        numpy_partition,
        premiere_quantiles,
        tea_tasting_bootstrap,
        scipy_bootstrap,
    ],
    f"{RESAMPLES:,} resamples of a million amounts in memory": [
        premiere_bootstrap_mean,
        premiere_bootstrap_ratio,
        premiere_bootstrap_trimmed,
        numpy_loop,
    ],
}


def race(name: str, path: str) -> None:
    """Run one contestant and print its median seconds and peak memory as JSON; imports and warm-up are not timed."""
    run = globals()[name]
    start = time.perf_counter()
    run(path)
    times = [time.perf_counter() - start]
    for _ in range(REPEATS if times.pop() < SLOW else 1):
        start = time.perf_counter()
        run(path)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": statistics.median(times), "GiB": peak}))


def main(rows: int) -> None:
    """Write the table, run every contest, print ratios to the first contestant."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "accounts.parquet")
        # Written by a process of its own: a child's peak memory would otherwise begin with that of this one.
        subprocess.run([sys.executable, __file__, "--write", path, str(rows)], check=True)
        for title, contestants in CONTESTS.items():
            print(f"\n{title}, {rows:,} accounts in Parquet (medians of {REPEATS})")
            first = None
            for contestant in contestants:
                command = [sys.executable, __file__, "--race", contestant.__name__, path]
                got = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                first = first or got["seconds"]
                ratio = got["seconds"] / first
                print(f"  {contestant.__name__:<27} {got['seconds']:9.4f} s {ratio:9.2f} x {got['GiB']:6.2f} GiB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--race"]:
        race(*sys.argv[2:])
    elif sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000)
