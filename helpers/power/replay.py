"""Simulated power: the launch's own estimator on resampled accounts into which an effect was planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import inference, moments
from helpers.errors import ParameterError
from helpers.results import Estimate

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.metrics import Metric

    Floats = npt.NDArray[np.float64]

AT_ONCE = 4_000_000  # values drawn at a time, so that memory stays small


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of launching the same thing many times.

    `found` is the share of replays whose interval excludes 0 on the side of the planted effect (on either side, where
    none was planted), with its Monte Carlo limits (Wilson, 95 %); `wrong` the share on the other side; `covered` the
    share whose interval holds the planted effect; `overstated` the mean size of what was found over the planted effect,
    None where none was planted or found.
    """

    n_treatment: int
    n_control: int
    planted: float
    replays: int
    found: float
    low: float
    high: float
    wrong: float
    covered: float
    overstated: float | None


def replay(
    accounts: pd.DataFrame,
    metric: Metric,
    *,
    rel: float,
    n_treatment: int,
    n_control: int,
    days: int,
    pre_days: int,
    rng: np.random.Generator,
    adjust: bool = True,
    replays: int = 400,
    level: float = 0.95,
) -> Replay:
    """Draw both arms from the same accounts, plant an effect into the treated ones, estimate; many times.

    The effect multiplies an account's value by 1 + rel; of a proportion it turns as many zeros into ones (or ones into
    zeros) as that takes. With `rel` 0 this is an A/A test, and `found` its rate of false alarms.

    Args:
        accounts: one row each, with the columns that `inference.needed` names.
        metric: a mean, count, ratio or proportion.
        rel: the planted effect, relative to the mean of these accounts.
        n_treatment: accounts of the treated arm, drawn with replacement.
        n_control: of the control.
        days: length of the window, for metrics per week.
        pre_days: of the window before.
        rng: where chance comes from.
        adjust: whether the past is used, as in the launch.
        replays: how many launches.
        level: of the intervals.

    Raises:
        ParameterError: there is no effect of that size, or nothing to draw from.
    """
    columns, _ = inference.needed(metric, adjust=adjust)
    values = accounts[list(columns)].to_numpy(np.float64)
    if len(values) < 2 or replays < 1:
        raise ParameterError(f"{len(values)} accounts and {replays} replays; at least 2 and 1 are needed")
    form = inference.form(metric, days)
    top = columns.index(form.numerator)
    share = values[:, top].mean()
    if rel <= -1 or (metric.kind == "proportion" and not 0 <= share * (1 + rel) <= 1):
        raise ParameterError(
            f"the effect is {rel:+.1%}, which takes {metric.name} from {share:.3g} to where it cannot be"
        )

    def treated(rows: Floats) -> Floats:
        if metric.kind == "proportion":
            move = rng.random(rows.shape[:2]) < (share * rel / (1 - share) if rel > 0 else -rel)
            rows[..., top] = np.where(move, float(rel > 0), rows[..., top])
        else:
            rows[..., top] *= 1 + rel
        return rows

    control, treated_ = (
        moments.from_samples(_draws(rng, values, n, replays, change), columns=columns, arm=arm)
        for arm, n, change in (("control", n_control, None), ("treatment", n_treatment, treated))
    )
    answers = inference.compare(
        control + treated_,
        metric,
        control="control",
        treatment="treatment",
        days=days,
        pre_days=pre_days,
        adjust=adjust,
        level=level,
        small_groups=metric.kind != "proportion",
    )
    value = (
        form.scale * share / (1.0 if form.denominator is None else values[:, columns.index(form.denominator)].mean())
    )
    return _summary([e for e in answers if isinstance(e, Estimate)], rel * value, replays, n_treatment, n_control)


def _draws(
    rng: np.random.Generator, values: Floats, n: int, replays: int, change: Callable[[Floats], Floats] | None
) -> Iterator[Floats]:
    """Draw samples of n accounts with replacement, (some replays, n, k) at a time, and change them."""
    step = max(1, AT_ONCE // (n * values.shape[1]))
    for start in range(0, replays, step):
        rows = values[rng.integers(len(values), size=(min(step, replays - start), n))]
        yield rows if change is None else change(rows)


def _summary(answers: list[Estimate], planted: float, replays: int, n_treatment: int, n_control: int) -> Replay:
    low, high, diff = (np.array([getattr(e, name) for e in answers]) for name in ("low", "high", "diff"))
    some = (low > 0) | (high < 0)
    right = some & (np.sign(diff) == np.sign(planted)) if planted else some
    share, z = right.sum() / replays, 1.959963984540054
    middle = (share + z**2 / (2 * replays)) / (1 + z**2 / replays)
    half = z * np.sqrt(share * (1 - share) / replays + z**2 / (4 * replays**2)) / (1 + z**2 / replays)
    return Replay(
        n_treatment=n_treatment,
        n_control=n_control,
        planted=planted,
        replays=replays,
        found=float(share),
        low=float(middle - half),
        high=float(middle + half),
        wrong=float((some & ~right).sum() / replays),
        covered=float(((low <= planted) & (planted <= high)).sum() / replays),
        overstated=float(np.abs(diff[some]).mean() / abs(planted)) if planted and some.any() else None,
    )
