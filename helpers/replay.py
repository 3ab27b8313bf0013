"""Replay: what chance alone does on a launch's own accounts, day by day, when the arms are drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ibis import _

from helpers import units
from helpers.errors import ParameterError
from helpers.metrics import UNITS_TABLE, Metric
from helpers.results import NotEstimable
from helpers.study import Study
from helpers.units.query import Cell, build

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Days:
    """What each account came to up to the end of each day since its assignment, zeros included.

    `so_far` (accounts, days) is in the metric's unit, as its value would be if the launch ended on that day; `treated`
    (accounts,) says who was in the treatment arm.
    """

    so_far: Floats
    treated: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse what has no two accounts in each arm, no day, or values that are not finite."""
        accounts, days = self.so_far.shape if self.so_far.ndim == 2 else (0, 0)
        if days < 1 or self.treated.shape != (accounts,) or not np.isfinite(self.so_far).all():
            raise ParameterError(
                f"so_far needs a finite row for each account and a column for each day, got {self.so_far.shape}"
            )
        if min(self.treated.sum(), (~self.treated).sum()) < 2:
            raise ParameterError("a replay needs at least two accounts in each arm")


def read(data: Study, metric: Metric, *, treatment: str = "") -> Days | NotEstimable:
    """Measure a metric for every account up to each day since its assignment, in one treatment arm and control.

    Only what is a number for each account can be replayed so: means, counts and shares of accounts, without their cap.
    The rows leave the engine, one number for each account and day: 220 MB for a million accounts and 28 days.

    Raises:
        DataError: the data lack what the metric reads.
    """
    launch = data.launch
    arms = (launch.arms.control, treatment or launch.arms.treatment[0])
    if UNITS_TABLE in data.tables:
        return _none(metric, "a table with a row per account does not tell one day from another")
    if metric.kind not in ("mean", "count", "proportion"):
        return _none(metric, f"a {metric.kind.replace('_', ' ')} is no number of each account")
    if reason := units.why_not(data, metric):
        return _none(metric, reason)
    days = np.arange(1, (metric.window_days or launch.days) + 1)
    cells = [Cell(metric.numerator, "post", int(day)) for day in days]
    accounts = build(data, cells).filter(_.arm.isin(arms)).order_by("account").execute()
    scale = metric.numerator.scale * (7 / days if metric.per_week else 1.0)
    so_far = accounts[[cell.name for cell in cells]].to_numpy(np.float64) * scale
    return Days(so_far=so_far, treated=(accounts["arm"] == arms[1]).to_numpy())


def _none(metric: Metric, reason: str) -> NotEstimable:
    return NotEstimable(metric=metric.name, reason=reason)


def observed(days: Days) -> tuple[Floats, Floats]:
    """Give the difference between the arms up to each day, and its standard error (Welch): two arrays (days,)."""
    diff, se = _contrast(days.so_far, days.treated[None].astype(np.float64))
    return diff[0], se[0]


def chance(days: Days, *, replicates: int = 1_000, rng: np.random.Generator) -> Floats:
    """Draw the arms anew again and again, and give z on each day as a peek would find it: (replicates, days).

    Whatever the launch did stays with the accounts that it was done to, spread over both new arms; z tells chance.

    Args:
        days: the accounts; the new treatment arm is as large as theirs on average.
        replicates: how many launches that do nothing, at least 1.
        rng: the source of chance.

    Raises:
        ParameterError: `replicates` is below 1.
    """
    if replicates < 1:
        raise ParameterError(f"replicates is {replicates}, must be 1 or more")
    accounts, share = len(days.treated), days.treated.mean()
    batch = max(1, 4_000_000 // accounts)
    z = []
    for first in range(0, replicates, batch):
        drawn = rng.random((min(batch, replicates - first), accounts)) < share
        diff, se = _contrast(days.so_far, drawn.astype(np.float64))
        z.append(diff / se)
    return np.concatenate(z)


def _contrast(so_far: Floats, treated: Floats) -> tuple[Floats, Floats]:
    """Contrast the accounts that each row of `treated` marks with the others: differences and standard errors."""
    centred = so_far - so_far.mean(axis=0)
    sums, total = (
        treated @ np.hstack([centred, centred**2]),
        np.concatenate([np.zeros(so_far.shape[1]), (centred**2).sum(axis=0)]),
    )
    n = np.stack([treated.sum(axis=1), treated.shape[1] - treated.sum(axis=1)])[:, :, None]
    mean, square = np.split(np.stack([sums, total - sums]) / n, 2, axis=2)
    variance = np.maximum(square - mean**2, 0) / (n - 1)
    return mean[0] - mean[1], np.sqrt(variance.sum(axis=0))
