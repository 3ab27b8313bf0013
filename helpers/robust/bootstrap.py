"""The bootstrap, for whatever has no formula: accounts drawn again, counted rather than copied.

A resample of n accounts is known by how often each value occurs in it: one multinomial draw over distinct values. Where
the values are too many, neighbours are put into a block that stands for them, so that a thousand counts replace a
million draws. The unit is the account: rows of one account belong together and are summed before they come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import stats

from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.results import Estimate, NotEstimable, figures
from helpers.robust import values

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

Interval = Literal["bca", "percentile"]
Draw = Literal["multinomial", "poisson"]
BLOCKS = 1_024
CELLS = 4_000_000  # counts held at a time
LEAST_REPLICATES = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Accounts in `k` blocks: the values (k, c) that stand for each, and how many accounts it holds.

    `lost` is the share of the variance that lies within the blocks and is therefore not resampled: 0 where each block
    is one distinct value, and the bootstrap then exact.
    """

    value: Floats
    count: Integers
    lost: float

    @property
    def n(self) -> int:
        """Count the accounts."""
        return int(self.count.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A number told by values (k, c) and how often each counts (r, k): one result for each of r resamples.

    `smooth` says that blocks may stand for their values; a quantile is not smooth. `along` gives the one number per
    account (n,) by which neighbours are found: by default the first column.
    """

    name: str
    of: Callable[[Floats, Floats], Floats]
    smooth: bool = True
    along: Callable[[Floats], Floats] = lambda rows: rows[:, 0]


MEAN = Statistic(name="mean", of=lambda value, count: count @ value[:, 0] / count.sum(axis=1))
RATIO = Statistic(
    name="ratio of sums",
    of=lambda value, count: (count @ value[:, 0]) / (count @ value[:, 1]),
    along=lambda rows: rows[:, 0] - rows[:, 0].sum() / rows[:, 1].sum() * rows[:, 1],
)


def trimmed_mean(lower: float, upper: float) -> Statistic:
    """Define the mean without the lowest and the highest shares of accounts, whole accounts only.

    Raises:
        ParameterError: a share is negative, or nobody is left.
    """
    if min(lower, upper) < 0 or lower + upper >= 1:
        raise ParameterError(f"trimming {lower} and {upper} leaves nobody; both are shares, together below 1")

    def of(value: Floats, count: Floats) -> Floats:
        upto = np.cumsum(count, axis=1)
        n = upto[:, -1:]
        first, last = np.floor(lower * n), n - np.floor(upper * n)
        kept = np.diff(np.clip(upto, first, last), axis=1, prepend=first)
        return kept @ value[:, 0] / (last - first)[:, 0]

    ends = " and ".join(f"the {end} {100 * x:.4g}%" for end, x in (("lowest", lower), ("highest", upper)) if x)
    return Statistic(name=f"mean without {ends}" if ends else "mean", of=of)


def quantile(share: float) -> Statistic:
    """Define the quantile, interpolated as numpy does; `quantiles.difference` gives its limits without resampling."""

    def of(value: Floats, count: Floats) -> Floats:
        upto = np.cumsum(count, axis=1)
        place = (upto[:, -1:] - 1) * share
        low, high = (value[(upto <= rank).sum(axis=1), 0] for rank in (np.floor(place), np.ceil(place)))
        return low + (place - np.floor(place))[:, 0] * (high - low)

    return Statistic(name=f"{share:.4g} quantile", of=of, smooth=False)


def difference(
    control: npt.ArrayLike,
    treatment: npt.ArrayLike,
    statistic: Statistic = MEAN,
    *,
    rng: np.random.Generator,
    metric: str = "value",
    replicates: int = 2_000,
    interval: Interval = "bca",
    draw: Draw = "multinomial",
    level: float = 0.95,
    power: float = 0.8,
    blocks: int = BLOCKS,
) -> Estimate | NotEstimable:
    """Compare a statistic between two arms by drawing the accounts of each arm again.

    The default interval is BCa (Efron 1987): on skewed hours the percentile interval misses more often on the side of
    the long tail, and a studentised one needs a standard error that the general statistic does not have. For a
    statistic that is not smooth the acceleration means nothing, and the percentile interval is used. The relative
    effect takes the same acceleration. p is the error rate at which the interval just ends at 0, never below
    1 / (replicates + 1).

    A bootstrap repeats the sample that there is: it knows of no heavier account than the heaviest that was drawn.

    Args:
        control: (n,) values of its accounts, or (n, c) where the statistic reads several.
        treatment: likewise.
        statistic: what is compared: MEAN, RATIO, `trimmed_mean`, `quantile`, or your own.
        rng: the source of randomness; the same state gives the same answer.
        metric: its name.
        replicates: resamples, at least 200.
        interval: "bca" or "percentile".
        draw: "multinomial" keeps the number of accounts; "poisson" lets it vary, which is faster.
        level: confidence level.
        power: with which `mde` would be found.
        blocks: up to so many distinct values are resampled exactly, more are put into so many blocks.

    Raises:
        ParameterError: a parameter is out of range, or not among its names.
        DataError: a value is missing, NaN or infinite.

    >>> rng = np.random.default_rng(1)
    >>> found = difference(rng.gamma(2, 5, 4_000), 1 + rng.gamma(2, 5, 4_000), rng=rng)
    >>> f"{found.diff:.2f} ({found.low:.2f} to {found.high:.2f})"
    '1.27 (0.97 to 1.57)'
    """
    values.check(level, power)
    for name, given, known in (("interval", interval, Interval), ("draw", draw, Draw)):
        if given not in get_args(known):
            raise ParameterError(f"{name} is {given!r}; {did_you_mean(given, get_args(known))}")
    for name, number, least in (("replicates", replicates, LEAST_REPLICATES), ("blocks", blocks, 2)):
        if number < least:
            raise ParameterError(f"{name} is {number}, must be at least {least}")
    rows = [_columns(arm) for arm in (control, treatment)]
    n = (len(rows[0]), len(rows[1]))
    if few := values.too_few(metric, n):
        return few
    arms = [compress(arm, along=statistic.along, blocks=blocks) for arm in rows]

    def unable(reason: str) -> NotEstimable:
        return NotEstimable(metric=metric, reason=reason, n_control=n[0], n_treatment=n[1])

    if not statistic.smooth and any(arm.lost > 0 for arm in arms):
        return unable(f"the {statistic.name} is not smooth, and more than {blocks:,} distinct values are not resampled")
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.array([statistic.of(arm.value, arm.count[None, :].astype(float))[0] for arm in arms])
        drawn = np.array([_resampled(arm, statistic, replicates, draw, rng) for arm in arms])
    undefined = int((~np.isfinite(drawn)).any(axis=0).sum())
    if undefined or not np.isfinite(found).all():
        return unable(f"the {statistic.name} is not defined in {undefined:,} of {replicates:,} resamples")
    diffs = drawn[1] - drawn[0]
    if np.ptp(diffs) == 0:
        return unable(f"the {statistic.name} is the same in all resamples, so that its error cannot be seen")

    bca = interval == "bca" and statistic.smooth
    acceleration = _acceleration(arms, statistic) if bca else 0.0
    diff = float(found[1] - found[0])
    bounds = _limits(diffs, diff, acceleration, level, bca=bca)
    if bounds is None:
        return unable(f"the {statistic.name} lies outside all resamples, so that no interval can be read from them")
    rel, rel_limits, note = None, None, "no relative effect, because the control value is not above 0"
    if found[0] > 0:
        rel = float(found[1] / found[0] - 1)
        note = "no relative interval, because the control value cannot be told from 0"
        if (drawn[0] > 0).all():
            rel_limits = _limits(drawn[1] / drawn[0] - 1, rel, acceleration, level, bca=bca)
            note = "" if rel_limits else note
    se = float(diffs.std(ddof=1))
    lost = max(arm.lost for arm in arms)
    blocked = f"; {blocks:,} blocks, {figures(lost, 1)} of the variance within them" if lost else ""
    return Estimate(
        metric=metric,
        control=float(found[0]),
        treatment=float(found[1]),
        diff=diff,
        se=se,
        low=bounds[0],
        high=bounds[1],
        rel=rel,
        rel_low=rel_limits and rel_limits[0],
        rel_high=rel_limits and rel_limits[1],
        p=_p(diffs, diff, acceleration, bca=bca),
        n_control=n[0],
        n_treatment=n[1],
        method=f"{statistic.name}: {'BCa' if bca else 'percentile'} bootstrap of accounts, {replicates:,} resamples",
        mde=float(stats.norm.isf((1 - level) / 2) + stats.norm.ppf(power)) * se,
        level=level,
        note=(note + blocked).lstrip("; "),
    )


def compress(
    rows: Floats, *, along: Callable[[Floats], Floats] = lambda rows: rows[:, 0], blocks: int = BLOCKS
) -> Blocks:
    """Put accounts into blocks of neighbours; distinct values stay themselves where there are no more than blocks.

    A block is short in accounts and in range alike, so that the few heaviest accounts stand for themselves.

    Args:
        rows: (n, c) numbers of each account.
        along: gives the number of each account (n,) by which neighbours are found.
        blocks: at most so many.
    """
    if rows.shape[1] == 1:
        counted = values.of(rows[:, 0])
        value, count = counted.value[:, None], counted.count
        order = value[:, 0]
    else:
        value, count = rows, np.ones(len(rows), np.int64)
        with np.errstate(divide="ignore", invalid="ignore"):
            order = np.nan_to_num(along(value))
        rank = np.argsort(order, kind="stable")
        value, count, order = value[rank], count[rank], order[rank]
    if len(value) <= blocks:
        return Blocks(value=value, count=count, lost=0.0)
    upto = np.cumsum(count)
    way = upto / upto[-1] + (order - order[0]) / (np.ptp(order) or 1.0)
    block = np.minimum((way * blocks / 2).astype(np.int64), blocks - 1)
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    size = np.add.reduceat(count, starts)
    mean = np.add.reduceat(value * count[:, None], starts) / size[:, None]
    mean_order = np.add.reduceat(order * count, starts) / size
    total = upto[-1]
    center = order @ count / total
    between = (mean_order - center) ** 2 @ size
    whole = (order - center) ** 2 @ count
    return Blocks(value=mean, count=size, lost=float(max(1 - between / whole, 0.0)) if whole else 0.0)


def _columns(rows: npt.ArrayLike) -> Floats:
    x = values.finite(rows)
    if x.ndim not in (1, 2):
        raise DataError(f"the bootstrap reads values (n,) or columns (n, c), got {x.ndim} dimensions")
    return x[:, None] if x.ndim == 1 else x


def _resampled(arm: Blocks, statistic: Statistic, replicates: int, draw: Draw, rng: np.random.Generator) -> Floats:
    """Give the statistic of each resample."""
    found, k = [], len(arm.count)
    for rows in _batches(replicates, k):
        if draw == "poisson":
            count = rng.poisson(arm.count, (len(rows), k))
        else:
            count = rng.multinomial(arm.n, arm.count / arm.n, len(rows))
        found.append(statistic.of(arm.value, count.astype(np.float64)))
    return np.concatenate(found)


def _batches(rows: int, cells: int) -> Iterator[range]:
    """Cut so many rows of so many cells into parts that fit into memory."""
    size = max(CELLS // cells, 1)
    yield from (range(start, min(start + size, rows)) for start in range(0, rows, size))


def _acceleration(arms: list[Blocks], statistic: Statistic) -> float:
    """Give a sixth of the skewness of the difference, from leaving out one account at a time (Efron 1987; scipy)."""
    top = bottom = 0.0
    for sign, arm in zip((-1, 1), arms, strict=True):
        k = len(arm.count)
        left = [statistic.of(arm.value, arm.count - np.eye(len(rows), k, rows.start)) for rows in _batches(k, k)]
        without = np.concatenate(left)
        influence = sign * (arm.count @ without / arm.n - without) * (arm.n - 1) / arm.n
        top += float(arm.count @ influence**3)
        bottom += float(arm.count @ influence**2)
    return top / (6 * bottom**1.5) if bottom > 0 else 0.0


def _limits(drawn: Floats, found: float, a: float, level: float, *, bca: bool) -> tuple[float, float] | None:
    """Read the limits off the resamples: plain percentiles, or those that BCa shifts them to."""
    z = np.array([-1, 1]) * stats.norm.isf((1 - level) / 2)
    if bca:
        below = _share_below(drawn, found)
        if not 0 < below < 1:
            return None
        bias = stats.norm.ppf(below)
        z = bias + (bias + z) / (1 - a * (bias + z))
    low, high = np.quantile(drawn, stats.norm.cdf(z))
    return float(low), float(high)


def _share_below(drawn: Floats, point: float) -> float:
    """Say which share of the resamples lies below a point, ties counted as half."""
    return float(((drawn < point).sum() + (drawn <= point).sum()) / (2 * len(drawn)))


def _p(drawn: Floats, found: float, a: float, *, bca: bool) -> float:
    """Find the error rate at which an end of the interval just touches 0."""
    r = len(drawn)
    z = stats.norm.ppf(min(max(_share_below(drawn, 0.0), 0.5 / (r + 1)), 1 - 0.5 / (r + 1)))
    if bca:
        bias = stats.norm.ppf(_share_below(drawn, found))
        w = z - bias
        z = w / (1 + a * w) - bias
    return float(max(2 * stats.norm.sf(abs(z)), 1 / (r + 1)))
