"""The prospect as curves: what accounts, days and controls buy, and what replays of the launch's own analysis say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from ibis import _

from helpers import inference, power, units
from helpers.errors import ParameterError
from helpers.moments import Moments
from helpers.power import outcome
from helpers.power.design import error_gain
from helpers.power.replay import Replay, replay
from helpers.prospect import Prospect
from helpers.report.readout import percent
from helpers.results import Power
from helpers.study import Study


def by_days(prospect: Prospect, days: int, *, weeks: Sequence[int] = tuple(range(1, 27))) -> pd.DataFrame:
    """Lay out the smallest visible change against the length of the window, under the assumption of `days_to`."""
    seen, r = prospect.seen, prospect.lasting
    rows: list[tuple[int, float]] = []
    if isinstance(seen, Power) and seen.rel is not None and r is not None:
        rows = [(7 * w, abs(seen.rel) * math.sqrt((r + days / (7 * w)) / (1 + r))) for w in weeks]
    return pd.DataFrame(rows, columns=["days", "smallest visible change"]).astype(float)


def by_accounts(prospect: Prospect, *, sizes: Sequence[int]) -> pd.DataFrame:
    """Lay out the smallest visible change against treated accounts, each with as many controls as in the launch."""
    rows = []
    if prospect.outcome is not None and prospect.design is not None:
        for n in sizes:
            try:
                found = power.mde(prospect.outcome, n_treatment=n, design=prospect.design)
            except ParameterError:
                continue
            rows.append((n, abs(found.change), None if found.rel is None else abs(found.rel)))
    return pd.DataFrame(rows, columns=["accounts", "change", "smallest visible change"]).astype(float)


def grid(prospects: Sequence[Prospect], *, sizes: Sequence[int]) -> pd.DataFrame:
    """Lay out the smallest visible change of every metric against treated accounts: a calculator on paper."""
    rows = []
    for p in prospects:
        found = by_accounts(p, sizes=sizes).set_index("accounts")
        if len(found):
            relative = found["smallest visible change"]
            shown = {n: percent(relative[n]) if n in relative and relative[n] == relative[n] else "" for n in sizes}
            rows.append({"metric": p.planned.metric.title} | {f"{n:,} accounts": shown[n] for n in sizes})
    return pd.DataFrame(rows)


def formulas(prospects: Sequence[Prospect]) -> pd.DataFrame:
    """Compare what several formulas say of the plan's proportions: accounts of each arm, alone and in equal numbers.

    The exact power is that of the pooled z-test with the accounts that the pooled formula asks for, by enumeration.
    """
    rows = []
    for p in prospects:
        if p.outcome is None or p.outcome.kind != "proportion" or p.bound is None:
            continue
        n = {
            test: power.sample_size(replace(p.outcome, test=test), effect=p.bound).n_treatment
            for test in ("pooled", "unpooled", "arcsine")
        }
        chance = power.exact(p.outcome.value, p.bound, n_treatment=n["pooled"], n_control=n["pooled"])
        rows.append({"metric": p.planned.metric.title, "change": p.bound.text} | n | {"exact power": chance})
    return pd.DataFrame(rows)


def by_allocation(n_treatment: int, *, controls: Sequence[float] = (0.5, 1, 2, 3, 5, 10, 20)) -> pd.DataFrame:
    """Lay out the standard error against control accounts per treated one, over that of equal arms."""
    rows = [(k, error_gain(n_treatment, round(k * n_treatment))) for k in controls]
    return pd.DataFrame(rows, columns=["controls", "standard error"]).astype(float)


def replayed(
    data: Study,
    prospect: Prospect,
    *,
    rel: Sequence[float],
    accounts: Sequence[int],
    replays: int,
    seed: int,
) -> pd.DataFrame:
    """Replay the launch's own analysis on its control accounts with planted effects, beside what the formula says.

    Accounts are drawn with replacement from the control after the start, the past that goes with each beside it.
    """
    metric, launch = prospect.planned.metric, data.launch
    columns = ["accounts", "planted", "formula", "replayed", "low", "high", "overstated", "agree"]
    if prospect.outcome is None or prospect.design is None:
        return pd.DataFrame(columns=columns)
    days, pre_days = metric.window_days or launch.days, max(launch.pre_days, 1)
    adjust = prospect.design.explained > 0
    wanted, _pairs = inference.needed(metric, adjust=adjust)
    table = units.load(data).filter(_.arm == launch.arms.control).order_by("account").select(*wanted).execute()
    pool = table.astype(np.float64)
    rng = np.random.default_rng(seed)
    reading = outcome.read(_moments(pool), metric, days=days)
    design = replace(prospect.design, successes=1)
    rows = []
    for n in accounts:
        controls = round(n * design.controls)
        for change in rel:
            came: Replay = replay(
                pool, metric, rel=change, n_treatment=n, n_control=controls, days=days, pre_days=pre_days,
                rng=rng, adjust=adjust, replays=replays, level=1 - design.alpha,
            )  # fmt: skip
            said = (
                power.power(
                    reading, n_treatment=n, n_control=controls, effect=power.relative(change), design=design
                ).power
                if change
                else design.alpha
            )
            inside = came.low <= said <= came.high
            rows.append((n, change, said, came.found, came.low, came.high, came.overstated, inside))
    return pd.DataFrame(rows, columns=columns)


def _moments(frame: pd.DataFrame) -> Moments:
    """Reduce accounts to one group of moments."""
    x = frame.to_numpy(np.float64)
    off = x - x.mean(axis=0)
    return Moments(
        groups=pd.DataFrame(index=range(1)),
        columns=tuple(map(str, frame)),
        n=np.array([float(len(x))]),
        mean=x.mean(axis=0)[None],
        scatter=(off.T @ off)[None],
    )
