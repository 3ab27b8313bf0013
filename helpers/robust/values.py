"""Values with counts, and what every robust comparison of two arms ends in: one Estimate, built from two intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from helpers.errors import DataError, ParameterError
from helpers.inference import levels, limits
from helpers.results import Estimate, NotEstimable, counted

if TYPE_CHECKING:
    import ibis
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Values:
    """Distinct values in rising order, each with the number of accounts that have it.

    All that ranks need: minutes and counts repeat, so ten million accounts are often a few thousand values.
    """

    value: Floats
    count: Integers

    @property
    def n(self) -> int:
        """Count the accounts."""
        return int(self.count.sum())

    @property
    def mean(self) -> float:
        """Average over the accounts."""
        return float(self.value @ self.count / self.n)

    def at(self, ranks: Integers) -> Floats:
        """Give the values at these ranks, 0 for the smallest."""
        found: Floats = self.value[np.searchsorted(np.cumsum(self.count), ranks, side="right")]
        return found

    def quantile(self, share: float) -> float:
        """Interpolate between ranks as numpy and R do by default (Hyndman and Fan 1996, type 7).

        >>> of([3.0, 1.0, 2.0, 2.0]).quantile(0.9)
        2.7
        """
        place = (self.n - 1) * share
        low, high = self.at(np.array([np.floor(place), np.ceil(place)], dtype=np.int64))
        return float(low + (place - np.floor(place)) * (high - low))


def of(rows: npt.ArrayLike) -> Values:
    """Count how often each value occurs.

    Raises:
        DataError: a value is missing, NaN or infinite.

    >>> of([2.0, 0.0, 2.0])
    Values(value=array([0., 2.]), count=array([1, 2]))
    """
    value, count = np.unique(finite(rows), return_counts=True)
    return Values(value=value, count=count.astype(np.int64))


def from_table(table: ibis.Table, column: str, *, arm: str = "arm", scale: float = 1.0) -> dict[str, Values]:
    """Read each arm's values with counts; the table's own engine does the counting.

    Args:
        table: a row per account, or per event.
        column: the numbers to read.
        arm: the column of the arms.
        scale: what the numbers are multiplied by.
    """
    counted = table.aggregate(by=[arm, column], n=table.count()).order_by(arm, column).execute()
    return {
        str(name): Values(value=scale * finite(rows[column]), count=rows["n"].to_numpy(np.int64))
        for name, rows in counted.groupby(arm)
    }


def finite(rows: npt.ArrayLike) -> Floats:
    """Take numbers as an array; refuse what is none."""
    x = np.asarray(rows, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(x.sum())
    if suspect and (bad := int((~np.isfinite(x)).sum())):
        raise DataError(f"{bad:,} of {x.size:,} values are missing, NaN or infinite; clean or drop them first")
    return x


def check(level: float, power: float = 0.8) -> None:
    """Refuse a level or power outside 0 to 1."""
    for name, share in (("level", level), ("power", power)):
        if not 0 < share < 1:
            raise ParameterError(f"{name} is {share}, must lie between 0 and 1")


def too_few(metric: str, n: tuple[int, int], least: int = 2) -> NotEstimable | None:
    """Say that an arm has fewer accounts than a method needs, where that is so."""
    for name, k in zip(("control", "treatment"), n, strict=True):
        if k < least:
            reason = f"{name} has {counted(k)}, at least {least:,} are needed"
            return NotEstimable(metric=metric, reason=reason, n_control=n[0], n_treatment=n[1])
    return None


def welch(
    metric: str,
    value: Floats,
    error: Floats,
    count: Floats,
    *,
    n: tuple[int, int],
    method: str,
    level: float,
    power: float,
    note: str = "",
    carried: Floats | None = None,
) -> Estimate:
    """Compare two values by Welch's t, from their squared errors (2,) and from how many values each error is known.

    With `carried`, the accounts that each rests on (all, or what their weights leave), the error holds in small,
    unequal arms too: Student's, where that is larger (`levels.resting`).
    """
    alike = False
    if carried is not None:
        used, rests, both = levels.resting((error * count)[:, None], count[:, None], carried[:, None])
        count, alike = rests[:, 0], bool(both[0])
        error = used[:, 0] / count
        method += ", arms taken to vary alike" * alike
    q, p = t_test(value, error, count, level, alike=alike)
    half = q * np.sqrt(error)
    return contrast(metric, value, half, half, n=n, p=p, q=q, method=method, level=level, power=power, note=note)


def t_test(value: Floats, error: Floats, count: Floats, level: float, *, alike: bool = False) -> tuple[float, float]:
    """Give the t quantile of the level and the two-sided p of two values with squared errors (2,)."""
    q, p = limits.welch(value[:, None], (error * count)[:, None], count[:, None], level, alike)
    return float(q[0]), float(p[0])


def contrast(
    metric: str,
    value: Floats,
    below: Floats,
    above: Floats,
    *,
    n: tuple[int, int],
    p: float,
    q: float,
    method: str,
    level: float,
    power: float,
    note: str = "",
    smallest: float = 0.0,
) -> Estimate:
    """Combine two arms' values and the distances to their own limits into a difference and a ratio with theirs.

    The limits of the difference are recovered from those of the arms by squares (MOVER: Zou and Donner 2008),
    those of the ratio likewise (MOVER-R: Donner and Zou 2012); with symmetric limits these are Welch's and
    Fieller's. `se` is the width of the interval in units of a normal one.

    Args:
        metric: its name.
        value: control, treatment.
        below: how far each lies above its lower limit, 0 or more.
        above: how far each lies below its upper limit, 0 or more.
        n: accounts in control and treatment.
        p: two-sided, of no difference.
        q: the quantile of the reference distribution that made the limits.
        method: in words.
        level: confidence level of the limits.
        power: for `mde`.
        note: what else the reader must know.
        smallest: a difference below which nothing can be seen, such as the step of a value that is counted.
    """
    diff = float(value[1] - value[0])
    low, high = diff - float(np.hypot(below[1], above[0])), diff + float(np.hypot(above[1], below[0]))
    se = (high - low) / (2 * q)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = value[:, None], below[:, None], above[:, None]
        rel, rel_low, rel_high = (float(x[0]) for x in limits.relative(*columns, below[:, None], "fieller"))
    told = [note] if note else []
    if not value[0] > 0:
        told.append("no relative effect, because the control value is not above 0")
    elif np.isnan(rel_low):
        told.append("no relative interval, because the control value cannot be told from 0")
    return Estimate(
        metric=metric,
        control=float(value[0]),
        treatment=float(value[1]),
        diff=diff,
        se=se,
        low=low,
        high=high,
        rel=None if np.isnan(rel) else rel,
        rel_low=None if np.isnan(rel_low) else rel_low,
        rel_high=None if np.isnan(rel_high) else rel_high,
        p=p,
        n_control=n[0],
        n_treatment=n[1],
        method=method,
        mde=max(float(special.ndtri((1 + level) / 2) + special.ndtri(power)) * se, smallest),
        level=level,
        note="; ".join(told),
    )
