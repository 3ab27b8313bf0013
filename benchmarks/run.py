"""Speed and memory of the parts that users would otherwise take from elsewhere: medians of five runs, as ratios.

The first ratio is of the time that passed, the second of the time that all cores worked, which a busy machine changes
less.

Each contestant has a process of its own, so that its peak memory is its own; they run in turn, round after round, so
that a slow minute of the machine costs all alike. Imports, the warm-up and the connection to DuckDB are not timed.

`python benchmarks/run.py [ROWS [WORD]]` runs the contests whose title holds WORD.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

METRICS = 12
REPEATS = 5
SLOW = 30.0  # seconds; what takes longer is run once
RESAMPLES = 2_000
DRAWN = 10_000
DRAW = f"a stratified draw of {DRAWN:,}"
QUANTILES = "median and 90th percentile of a million amounts in memory"
COLUMNS = [f"m{i}" for i in range(METRICS)]
SEGMENTS, LEVELS = [f"s{i}" for i in range(5)], 5


def write(path: Path, rows: int) -> None:
    """Write an account table with twelve skewed metrics, an arm, a region, and five segments of five levels."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.gamma(2.0, 5.0, (rows, METRICS)), columns=COLUMNS)
    frame["account"] = np.char.add("a", np.arange(rows).astype(str))
    frame["variant"] = rng.choice(["control", "early"], rows)
    frame["region"] = rng.choice(["n", "s", "e", "w"], rows)
    names = np.array([f"level {level}" for level in range(LEVELS)])
    for segment in SEGMENTS:
        frame[segment] = pd.Categorical.from_codes(rng.integers(0, LEVELS, rows), pd.Index(names))
    frame.to_parquet(path)


def duckdb_aggregates(path: str) -> None:
    """Ask the engine for counts, means and variances, and nothing else."""
    import duckdb

    asked = ", ".join(f"avg({c}), var_samp({c})" for c in COLUMNS)
    duckdb.sql(f"SELECT variant, count(*), {asked} FROM '{path}' GROUP BY variant").fetchall()


@cache
def opened(path: str) -> Any:
    """Open the table once, as DuckDB's own default connection is kept open."""
    import ibis

    return ibis.duckdb.connect().read_parquet(path)


def premiere_moments(path: str) -> None:
    """Read moments and compare every metric."""
    from helpers import moments

    table = opened(path)
    _compare(moments.from_table(table, columns=COLUMNS, pairs=[(c, c) for c in COLUMNS], by=["variant"]))


def premiere_segments(path: str) -> None:
    """Read moments of all segments in one pass and compare every metric in every level."""
    from helpers import moments

    table = opened(path)
    pairs = [(c, c) for c in COLUMNS]
    for read in moments.by_each(table, each=SEGMENTS, columns=COLUMNS, pairs=pairs, by=["variant"]).values():
        _compare(read)


def _compare(read: Any) -> None:
    from helpers import inference
    from helpers.metrics import UNITS_TABLE, Measure, Metric

    for c in COLUMNS:
        measure = Measure(table=UNITS_TABLE, agg="value", column=c)
        metric = Metric(name=c, title=c, kind="mean", numerator=measure, better="higher", unit="")
        inference.compare(read, metric, control="control", treatment="early", arm="variant", days=28, pre_days=28)


def tea_tasting_on_ibis(path: str) -> None:
    """Give the same table to tea-tasting through Ibis."""
    import tea_tasting as tt

    table = opened(path)
    tt.Experiment({c: tt.Mean(c) for c in COLUMNS}).analyze(table)


def tea_tasting_slice_by_slice(path: str) -> None:
    """Give every slice to tea-tasting through Ibis."""
    import tea_tasting as tt

    table, asked = opened(path), tt.Experiment({c: tt.Mean(c) for c in COLUMNS})
    for segment in SEGMENTS:
        for level in range(LEVELS):
            asked.analyze(table.filter(table[segment] == f"level {level}"))


def scipy_on_pandas(path: str) -> None:
    """Load the columns and run Welch's test on each."""
    from scipy import stats

    frame = pd.read_parquet(path, columns=[*COLUMNS, "variant"])
    arm = frame["variant"] == "early"
    for c in COLUMNS:
        stats.ttest_ind(frame.loc[arm, c], frame.loc[~arm, c], equal_var=False).confidence_interval()


def duckdb_hashes(path: str) -> None:
    """Hash every id once: what any repeatable draw costs at least."""
    import duckdb

    duckdb.sql(f"SELECT min(sha256('s:' || account)) FROM '{path}'").fetchall()


def premiere_draw(path: str) -> list[str]:
    """Premiere: in the engine, exact, the same accounts whatever the order of rows; weights come with it."""
    from helpers import sampling

    table = opened(path)
    return sampling.draw(table, n={"early": DRAWN}, strata=["region"], salt="s").execute()["account"].tolist()


def pandas_groupby_sample(path: str) -> list[str]:
    """The frame in memory; a share of each stratum, rounded, so the total can be off; a seed and the rows' order."""
    frame = pd.read_parquet(path, columns=["account", "region"])
    return frame.groupby("region").sample(frac=DRAWN / len(frame), random_state=1)["account"].tolist()


def sklearn_stratified_split(path: str) -> list[str]:
    """The frame in memory; exact total; a seed and the rows' order; no weights, no minimum."""
    from sklearn.model_selection import train_test_split

    frame = pd.read_parquet(path, columns=["account", "region"])
    return train_test_split(frame, train_size=DRAWN, stratify=frame["region"], random_state=1)[0]["account"].tolist()


def stochatreat_assignment(path: str) -> list[str]:
    """The frame in memory; treatment and control within strata; a seed, after sorting by id; no unequal shares."""
    from stochatreat import stochatreat

    frame = pd.read_parquet(path, columns=["account", "region"])
    done = stochatreat(data=frame, stratum_cols=["region"], treats=2, idx_col="account", random_state=1, size=2 * DRAWN)
    return done.loc[done["treat"] == 1, "account"].tolist()


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


def arch_bootstrap(path: str) -> None:
    """Resample the difference of medians and of 90th percentiles with arch."""
    from arch.bootstrap import IndependentSamplesBootstrap

    def difference(c: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.quantile(t, [0.5, 0.9]) - np.quantile(c, [0.5, 0.9])

    IndependentSamplesBootstrap(*arms(path), seed=1).conf_int(difference, reps=RESAMPLES, method="percentile")


def coverage(path: str, accounts: int = 1_000, experiments: int = 400) -> None:
    """Say how often intervals of 95 % hold a difference of 90th percentiles, by order statistics and by resampling."""
    from scipy import stats

    from helpers.robust import quantiles

    pool, rng, held = tail(path)[0], np.random.default_rng(2), np.zeros(2)
    for _ in range(experiments):
        control, treatment = rng.choice(pool, (2, accounts))
        (ours,) = quantiles.difference(control, treatment, [0.9])
        theirs = stats.bootstrap(
            (control, treatment),
            lambda c, t, axis: np.quantile(t, 0.9, axis=axis) - np.quantile(c, 0.9, axis=axis),
            n_resamples=RESAMPLES // 4,
            method="percentile",
            batch=100,
            rng=rng,
        ).confidence_interval
        held += [limits.low <= 0 <= limits.high for limits in (ours, theirs)]  # both arms are drawn from one pool
    for name, share in zip(("order statistics", "percentile bootstrap"), held / experiments, strict=True):
        error = (share * (1 - share) / experiments) ** 0.5
        print(
            f"  coverage by {name:<22} {share:6.1%} ± {1.96 * error:.1%}, {experiments} experiments of 2 x {accounts:,}"
        )


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


CONTESTS: dict[str, list[Callable[[str], object]]] = {
    f"{METRICS} metrics, two arms": [duckdb_aggregates, premiere_moments, tea_tasting_on_ibis, scipy_on_pandas],
    f"{METRICS} metrics in {len(SEGMENTS) * LEVELS} slices": [
        premiere_moments,
        premiere_segments,
        tea_tasting_slice_by_slice,
    ],
    DRAW: [
        duckdb_hashes,
        premiere_draw,
        pandas_groupby_sample,
        sklearn_stratified_split,
        stochatreat_assignment,
    ],
    QUANTILES: [
        numpy_partition,
        premiere_quantiles,
        tea_tasting_bootstrap,
        scipy_bootstrap,
        arch_bootstrap,
    ],
    f"{RESAMPLES:,} resamples of a million amounts in memory": [
        premiere_bootstrap_mean,
        premiere_bootstrap_ratio,
        premiere_bootstrap_trimmed,
        numpy_loop,
    ],
}


def race(run: Callable[[str], None], path: str) -> None:
    """Warm up; then answer each line that comes in with the seconds of a run and the peak memory, as JSON.

    While others have their turn, a contestant's memory grows cold: it runs once before it is timed, unless slow.
    """
    start = time.perf_counter()
    run(path)
    slow = time.perf_counter() - start > SLOW
    print(json.dumps({"slow": slow}), flush=True)
    for _ in sys.stdin:
        if not slow:
            run(path)
        start, worked = time.perf_counter(), time.process_time()
        run(path)
        wall, cpu = time.perf_counter() - start, time.process_time() - worked
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": wall, "cpu": cpu, "GiB": peak}), flush=True)


def contest(contestants: Sequence[Callable[[str], object]], path: str, *, script: str = __file__) -> None:
    """Run all contestants in turn, round after round, so that a slow minute of the machine costs all of them alike."""
    runners: dict[str, subprocess.Popen[str]] = {}
    rounds: dict[str, int] = {}
    got: dict[str, list[dict[str, float]]] = {}
    for name in (contestant.__name__ for contestant in contestants):
        command = [sys.executable, script, "--race", name, path]
        pipe = subprocess.PIPE
        runner = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
        if warm := runner.stdout.readline():
            runners[name], rounds[name], got[name] = runner, 1 if json.loads(warm)["slow"] else REPEATS, []
        else:
            print(f"  {name:<27} not here: {runner.stderr.read().strip().splitlines()[-1]}")
    for done in range(REPEATS):
        for name in (name for name, asked in rounds.items() if done < asked):
            print("again", file=runners[name].stdin, flush=True)
            got[name].append(json.loads(runners[name].stdout.readline()))
    for runner in runners.values():
        runner.communicate()
    found = {name: {k: statistics.median(each[k] for each in runs) for k in runs[0]} for name, runs in got.items()}
    for name, numbers in found.items():
        print(line(name, numbers, next(iter(found.values()))), flush=True)


def main(rows: int, word: str = "") -> None:
    """Write the table, run the contests, print ratios to the first contestant."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "accounts.parquet")
        # Written by a process of its own: a child's peak memory would otherwise begin with that of this one.
        subprocess.run([sys.executable, __file__, "--write", path, str(rows)], check=True)
        for title, contestants in CONTESTS.items():
            if word in title:
                print(f"\n{title}, {rows:,} accounts in Parquet (medians of {REPEATS})")
                contest(contestants, path)
        if word in QUANTILES:
            print("\nwhat the limits of quantiles are worth")
            coverage("")
        if word not in DRAW:
            return
        print(f"\n{DRAW}: what it gives, tried on 100,000 accounts, with the rows as they are and shuffled")
        for contestant in CONTESTS[DRAW][1:]:
            command = [sys.executable, __file__, "--traits", contestant.__name__, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(done.stdout.rstrip() if not done.returncode else f"  {contestant.__name__:<27} not here")


def line(name: str, got: dict[str, float], first: dict[str, float]) -> str:
    """Lay one contestant's time and memory out beside the first's."""
    wall, cpu = (f"{got[k]:8.3f} s {got[k] / first[k]:8.2f} x" for k in ("seconds", "cpu"))
    return f"  {name:<27} {wall}   on all cores {cpu} {got['GiB']:6.2f} GiB"


def traits(name: str, folder: str) -> None:
    """Say how many accounts a contestant drew, and how many of them it draws again when the rows are shuffled."""
    frame = pd.DataFrame({"account": [f"a{i}" for i in range(100_000)]})
    frame["region"] = np.random.default_rng(2).choice(["n", "s", "e", "w"], 100_000, p=[0.4001, 0.3003, 0.1998, 0.0998])
    drawn = []
    for nth, rows in enumerate((frame, frame.sample(frac=1, random_state=3, ignore_index=True))):
        path = str(Path(folder) / f"traits{nth}.parquet")
        rows.to_parquet(path)
        drawn.append(set(globals()[name](path)))
    kept = len(drawn[0] & drawn[1]) / len(drawn[0])
    print(f"  {name:<27} {len(drawn[0]):>7,} accounts, {kept:6.1%} of them again. {globals()[name].__doc__}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--traits"]:
        traits(*sys.argv[2:])
    elif sys.argv[1:2] == ["--race"]:
        race(globals()[sys.argv[2]], sys.argv[3])
    elif sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000, *sys.argv[2:])
