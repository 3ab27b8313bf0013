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
from helpers.power.design import Design, error_gain
from helpers.power.replay import Replay, replay
from helpers.prospect import Prospect, words
from helpers.report.readout import percent
from helpers.results import Power, nothing
from helpers.study import Study


def by_days(prospect: Prospect, days: int, *, weeks: Sequence[int] = tuple(range(1, 27))) -> pd.DataFrame:
    """Lay out the smallest visible change against the length of the window, as `outcome.days_to` assumes."""
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
                found = power.mde(prospect.outcome, n_treatment=n, direction=prospect.direction, design=prospect.design)
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
            shown = {n: words.share(relative[n]) if n in relative and relative[n] == relative[n] else "" for n in sizes}
            rows.append({"metric": p.planned.metric.title} | {f"{n:,}": shown[n] for n in sizes})
    return pd.DataFrame(rows)


def formulas(prospects: Sequence[Prospect]) -> pd.DataFrame:
    """Compare what several formulas say of the plan's proportions: accounts of each arm, alone and in equal numbers.

    Alpha and power are the launch's. A proportion whose bound would lead beyond 0 or 1 is left out.

    The exact power is that of the pooled z-test with the accounts that the pooled formula asks for, by enumeration.
    """
    rows = []
    for p in prospects:
        if p.outcome is None or p.outcome.kind != "proportion" or p.bound is None:
            continue
        if not 0 < p.outcome.value + p.bound.value * (p.outcome.value if p.bound.relative else 1) < 1:
            continue
        design = Design() if p.design is None else Design(alpha=p.design.alpha, power=p.design.power)
        n = {
            test: power.sample_size(replace(p.outcome, test=test), effect=p.bound, design=design).n_treatment
            for test in ("pooled", "unpooled", "arcsine")
        }
        chance = power.exact(
            p.outcome.value, p.bound, n_treatment=n["pooled"], n_control=n["pooled"], alpha=design.alpha
        )
        counts = {test: f"{accounts:,}" for test, accounts in n.items()}
        rows.append(
            {"metric": p.planned.metric.title, "change": p.bound.text.replace("-", "−")}
            | counts
            | {"exact power": percent(chance)}
        )
    return pd.DataFrame(rows)


def by_allocation(controls: Sequence[float]) -> pd.DataFrame:
    """Lay out the standard error against control accounts per treated one, over that of equal arms."""
    return pd.DataFrame({"controls": [float(k) for k in controls], "standard error": [error_gain(k) for k in controls]})


def level(prospect: Prospect) -> dict[str, float]:
    """Name on a relative axis what is asked: target or margin, what is to be detected, what is plausible."""
    o, planned = prospect.outcome, prospect.planned
    kind = "plausible" if prospect.assumed else planned.asked.partition(" ")[0]
    asked = {kind: prospect.bound, "detect": planned.detect}
    if o is None or not o.value > 0:
        return {}
    return {
        f"{name} {bound.text}".replace("-", "−"): abs(bound.value) / (1 if bound.relative else o.value)
        for name, bound in asked.items()
        if bound is not None
    }


def chances(prospect: Prospect) -> list[float]:
    """Give the power for the target, or for what is plausible, as a list of one; empty where it cannot be said."""
    seen, bound = prospect.seen, prospect.bound
    if prospect.outcome is None or prospect.design is None or bound is None or not isinstance(seen, Power):
        return []
    design = replace(prospect.design, successes=1)
    n_t, n_c = seen.n_treatment, seen.n_control
    return [power.power(prospect.outcome, n_treatment=n_t, n_control=n_c, effect=bound, design=design).power]


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

    Accounts are drawn with replacement from the control after the start, each with its past, without strata and
    weights; one metric is tested alone, at the launch's alpha. A change that a share cannot have is left out.
    """
    metric, launch = prospect.planned.metric, data.launch
    columns = ["accounts", "planted", "formula", "replayed", "low", "high", "overstated", "agree"]
    if apart := units.together(data, "a replay, which draws single accounts,"):
        return nothing(apart, columns)
    if prospect.outcome is None or prospect.design is None:
        return pd.DataFrame(columns=columns)
    days, pre_days = metric.window_days or launch.days, max(launch.pre_days, 1)
    adjust = prospect.design.explained > 0
    wanted, _pairs = inference.needed(metric, adjust=adjust)
    table = units.load(data).filter(_.arm == launch.arms.control).order_by("account").select(*wanted).execute()
    pool = table.astype(np.float64)
    rng = np.random.default_rng(seed)
    here = _moments(pool)
    reading, _effect = outcome.read(here, metric, days=days)
    if not reading.value > 0:
        return nothing("the control's value is not above 0, so that no change is a share of it", columns)
    past = outcome.explained(here, metric, days=days, pre_days=pre_days) if adjust else 0.0
    design = replace(prospect.design, successes=1, explained=past, design_effect=1.0)
    rows = []
    for n in accounts:
        controls = round(n * design.controls)
        for change in rel if metric.kind != "proportion" else [c for c in rel if reading.value * (1 + c) <= 1]:
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
