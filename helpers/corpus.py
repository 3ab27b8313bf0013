"""A corpus of past launches of a simulated service: which early metric agrees with what matters in the long run?

Whether a metric is *valid* cannot be seen in one launch, and not among accounts either, where keen people do more of
everything. It shows over many launches: where the metric moved, did the long-term outcome move as well?
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from helpers import cache, simulate
from helpers.errors import ParameterError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

IDEAS = ("broad_lift", "activation", "hollow_engagement", "homepage_optimistic", "outlier_driven")
LATER_DAYS = 84
ACCOUNTS = 20_000  # lived through with and without each idea
PROXIES = {  # as differences of logarithms of means: +1 numerator, -1 denominator
    "Hours per account, first week": ({"hours_7d": 1}, 7),
    "Hours per account, four weeks": ({"hours": 1}, 28),
    "Sessions per account": ({"sessions": 1}, 28),
    "Hours per session": ({"hours": 1, "sessions": -1}, 28),
    "Hours per account that watched": ({"hours": 1, "viewed": -1}, 28),
    "Accounts that watched at all": ({"viewed": 1}, 28),
    "Accounts still there after four weeks": ({"stayed": 1}, 28),
}
OUTCOME = "Accounts still there after twelve weeks"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corpus:
    """What K past launches found: relative effects (K, m) as log ratios, and the covariance of their errors (K, m, m).

    The last of the m columns is the long-term outcome. `truth` (K, m) is what each launch really did: for tests and
    cells tagged `reveal` only. `users` holds, for the accounts of the service as it was, the correlation of each
    metric with the outcome; `slope` how the chance to leave in twelve weeks changes with one more hour a week, among
    accounts.
    """

    names: tuple[str, ...]
    effects: Floats
    errors: Floats
    truth: Floats
    users: Floats
    slope: float
    hours: float  # per account and week, where effects are measured from
    stayed: float
    fifths: Floats  # (5, 2): hours a week before, and share that left in twelve weeks, by fifth of the accounts


def past(*, launches: int = 150, accounts: int = 100_000, seed: int = 20261121) -> Corpus:
    """Look back on past launches of the simulated service, each with so many accounts in either arm.

    Each launch brought one of five ideas to a random share of its treatment arm, or took it away. What each idea does
    was found by living the same accounts through both worlds; the errors are those of a launch of this size.

    Raises:
        ParameterError: fewer than 10 launches or 1,000 accounts.
    """
    if launches < 10 or accounts < 1_000:
        raise ParameterError(f"{launches} launches of {accounts:,} accounts: at least 10 of 1,000 are needed")
    lived = [_lived(idea) for idea in IDEAS]
    base = lived[0]
    rng = np.random.default_rng(seed)
    rows = np.array([list(_weights(words).values()) for words, _ in PROXIES.values()] + [[0] * 5 + [1]], dtype=float)
    effects, errors, truth = [], [], []
    for _ in range(launches):
        with_, without = _mixed(lived[rng.integers(len(lived))], rng.uniform(0.1, 1.0))
        arms = (with_, without) if rng.random() < 0.7 else (without, with_)
        cov = sum(arm.cov / np.outer(arm.mean, arm.mean) / accounts for arm in arms)
        true = np.log(arms[0].mean / arms[1].mean)
        effects.append(rows @ (true + rng.multivariate_normal(np.zeros(len(true)), cov, method="cholesky")))
        errors.append(rows @ cov @ rows.T)
        truth.append(rows @ true)
    return Corpus(
        names=(*PROXIES, OUTCOME),
        effects=np.array(effects),
        errors=np.array(errors),
        truth=np.array(truth),
        users=base.users,
        slope=base.slope,
        hours=float(base.mean[_BASE.index("hours")] / 4),
        stayed=float(base.mean[-1]),
        fifths=base.fifths,
    )


def validity(corpus: Corpus, *, level: float = 0.95, seed: int = 20261121) -> pd.DataFrame:
    """Say for each metric how often it moves (sensitivity), and whether it moves with the long term (validity).

    Estimated effects of one launch share their noise: the same accounts are in both metrics. Their plain correlation
    therefore mixes agreement of effects with agreement of errors; here the mean error covariance is taken out first
    (the total covariance of estimates is that of effects plus that of errors: Cunningham and Kim 2020, Interpreting
    experiments with multiple outcomes). The interval is a percentile bootstrap over launches.

    Returns:
        metric, days (until it can be read), moved (share of launches in which it differs from 0 at 5 %), validity, low,
        high, plain (the correlation with the noise left in), among_users. `validity` is missing where the metric's true
        effects cannot be told from noise.
    """
    rng = np.random.default_rng(seed)
    moved = np.abs(corpus.effects) / np.sqrt(np.diagonal(corpus.errors, axis1=1, axis2=2)) > stats.norm.isf(0.025)
    found = correlation(corpus.effects, corpus.errors)
    draws = rng.integers(len(corpus.effects), size=(500, len(corpus.effects)))
    again = np.array([correlation(corpus.effects[d], corpus.errors[d]) for d in draws])
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(again, [(1 - level) / 2, (1 + level) / 2], axis=0)
    plain = np.atleast_2d(np.corrcoef(corpus.effects.T))[-1, :-1]
    return pd.DataFrame(
        {
            "metric": corpus.names[:-1],
            "days": [days for _, days in PROXIES.values()],
            "moved": moved.mean(axis=0)[:-1],
            "validity": found,
            "low": low,
            "high": high,
            "plain": plain,
            "among_users": corpus.users,
        }
    )


def correlation(effects: Floats, errors: Floats) -> Floats:
    """Correlate the true effects of each column with those of the last: total covariance less that of the errors.

    Args:
        effects: (K, m) estimated effects of K launches.
        errors: (K, m, m) covariance of each launch's errors.

    Returns:
        (m - 1,) correlations, kept within -1 and 1; NaN where no variance is left after the noise is taken out.
    """
    true = np.cov(effects.T) - errors.mean(axis=0)
    variance = np.diag(true)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = true[-1, :-1] / np.sqrt(variance[:-1] * variance[-1])
    return np.clip(np.where((variance[:-1] > 0) & (variance[-1] > 0), found, np.nan), -1, 1)


def leaving(corpus: Corpus) -> pd.DataFrame:
    """Lay the chance to leave in twelve weeks beside hours a week: as accounts differ, and as added hours change it.

    Returns:
        read_from, hours (a week), left (per cent): five points from accounts by their hours before the launch, and the
        ends of the line through their middle whose slope is that of the true effects of launches.
    """
    i = corpus.names.index("Hours per account, four weeks")
    true = np.cov(corpus.effects.T) - corpus.errors.mean(axis=0)
    slope = -true[i, -1] / true[i, i] * corpus.stayed / corpus.hours
    hours, left = corpus.fifths.T
    ends = np.array([0.5, 1.5]) * hours.mean()
    return pd.DataFrame(
        {
            "read_from": ["accounts, by how much they watch"] * 5 + ["launches drawn by chance"] * 2,
            "hours": [*hours, *ends],
            "left": [*(100 * left), *(100 * (left.mean() + slope * (ends - hours.mean())))],
        }
    )


def slopes(corpus: Corpus) -> tuple[float, float]:
    """Give the change of leaving, in percentage points for one more hour a week: among accounts, and among launches."""
    line = leaving(corpus).tail(2)
    return 100 * corpus.slope, float(np.diff(line["left"])[0] / np.diff(line["hours"])[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lived:
    """Moments of the accounts with and without an idea, and what the accounts without it say about one another."""

    mean: Floats
    cov: Floats
    with_mean: Floats
    with_cov: Floats
    users: Floats
    fifths: Floats
    slope: float


_BASE = ("hours_7d", "hours", "sessions", "viewed", "stayed", "stayed_later")


def _weights(words: dict[str, int]) -> dict[str, int]:
    return {name: words.get(name, 0) for name in _BASE}


def _mixed(lived: _Lived, share: float) -> tuple[_Lived, _Lived]:
    """Bring an idea to a share of the accounts: moments of the mixture, and of the service without it."""
    mean = (1 - share) * lived.mean + share * lived.with_mean
    gap = lived.with_mean - lived.mean
    cov = (1 - share) * lived.cov + share * lived.with_cov + share * (1 - share) * np.outer(gap, gap)
    return replace(lived, mean=mean, cov=cov), lived


def _lived(idea: str) -> _Lived:
    """Live through an idea once, and keep what is needed of it in the cache."""
    name = cache.key(idea, ACCOUNTS, LATER_DAYS, inspect.getsource(_read), code=[simulate])
    path = cache.folder() / "corpus" / f"{idea}-{name}.json"
    kept = cache.kept(path, lambda at: at.write_text(json.dumps(_read(idea)), encoding="utf-8"))
    told = json.loads(kept.read_text(encoding="utf-8"))
    arrays = {name: np.array(told[name]) for name in ("mean", "cov", "with_mean", "with_cov", "users", "fifths")}
    return _Lived(**arrays, slope=told["slope"])


def _read(idea: str) -> dict[str, object]:
    simulation = simulate.Simulation(scenario=idea, accounts=ACCOUNTS, pre_days=28, days=LATER_DAYS)
    pool = simulate.pool(simulation, what="later")
    usual, changed = (_columns(pool.columns, world) for world in (pool.control, pool.treatment))
    before = pool.control[:, pool.columns.index("hours_before")].astype(float) / 4
    sessions = np.maximum(usual[:, 2], 1)
    seen = [usual[:, 0], usual[:, 1], usual[:, 2], usual[:, 1] / sessions, usual[:, 1], usual[:, 3], usual[:, 4]]
    watched = usual[:, 3] > 0
    rows = [slice(None)] * 4 + [watched] + [slice(None)] * 2
    users = [np.corrcoef(x[r], usual[r, -1])[0, 1] for x, r in zip(seen, rows, strict=True)]
    slope = -np.cov(before, usual[:, -1])[0, 1] / before.var(ddof=1)
    fifth = np.array_split(np.argsort(before, kind="stable"), 5)
    return {
        "mean": usual.mean(axis=0).tolist(),
        "cov": np.cov(usual.T).tolist(),
        "with_mean": changed.mean(axis=0).tolist(),
        "with_cov": np.cov(changed.T).tolist(),
        "users": [float(u) for u in users],
        "slope": float(slope),
        "fifths": [[float(before[r].mean()), float(1 - usual[r, -1].mean())] for r in fifth],
    }


def _columns(names: tuple[str, ...], world: np.ndarray) -> Floats:
    """Take the columns of `_BASE`; who has not cancelled stayed."""
    at = {name: world[:, i].astype(float) for i, name in enumerate(names)}
    found: Floats = np.column_stack(
        [
            *(at[name] for name in ("hours_7d", "hours", "sessions", "viewed")),
            1 - at["cancelled"],
            1 - at["cancelled_later"],
        ]
    )
    return found
