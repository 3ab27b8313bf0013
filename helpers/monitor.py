"""Monitor: a launch's metric as it stood at each look, and what chance alone does on the same accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers import anytime, inference, moments, scorecard, sequential, units
from helpers.errors import ParameterError
from helpers.metrics import UNITS_TABLE, Metric
from helpers.results import Estimate, NotEstimable, Replay
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
            raise ParameterError("chance needs at least two accounts in each arm")


def estimates(
    data: Study, metric: Metric, days: Sequence[int], *, treatment: str = ""
) -> list[Estimate | NotEstimable]:
    """Compare a metric over the first days since each account's assignment, once for each look, in one query.

    Adjusted and weighted as the launch's own estimate is, without its cap. Each interval holds for one look alone:
    `sequential.follow` widens them for planned looks, `anytime.confidence_sequence` for any.

    Args:
        data: the study.
        metric: what is compared.
        days: the looks, each of them in days since assignment, within the launch.
        treatment: the arm to judge; empty means the launch's first.

    Raises:
        ParameterError: a look lies outside the launch, or it has no such treatment arm.
        DataError: the data lack what the metric reads.
    """
    launch, arm = data.launch, data.launch.judged(treatment)
    if not days or not all(1 <= day <= launch.days for day in days):
        raise ParameterError(f"the looks are {list(days)}, must be days from 1 to {launch.days}")
    if reason := _obstacle(data, metric):
        return [NotEstimable(metric=metric.name, reason=reason)] * len(days)
    asked = [replace(metric, window_days=int(day), cap=None) for day in days]
    before, weighted = units.covariates(data, metric), scorecard.weighted(data)
    cells = [Cell(m, "post", one.window_days) for one in asked for m in metric.measures]
    cells += [Cell(m, "pre", None) for m in before]
    needed = [inference.needed(one, adjust=bool(before), weighted=weighted) for one in asked]
    read = moments.from_table(
        build(data, list({cell.name: cell for cell in cells}.values())),
        columns=list(dict.fromkeys(column for columns, _pairs in needed for column in columns)),
        pairs={pair for _columns, pairs in needed for pair in pairs},
        by=scorecard.grouping(data),
        weighted=weighted,
    )
    return [scorecard.estimate(data, read, one, treatment=arm, adjust=True) for one in asked]


def readings(data: Study, metric: Metric, *, treatment: str = "") -> pd.DataFrame:
    """Read a metric at every look that the launch planned, or at its end alone, against bounds that keep its alpha.

    Returns:
        day, diff, low, high (at all looks together), z, bound, and words that say whether to stop; where a look cannot
        be estimated the words say why, and the numbers are missing.

    Raises:
        ParameterError: the launch has no such treatment arm.
        DataError: the data lack what the metric reads.
    """
    launch = data.launch
    days = launch.decision.looks or (launch.days,)
    looks = sequential.plan_looks(days, alpha=launch.decision.alpha)
    found = estimates(data, metric, days, treatment=treatment)
    read = {r.look: r for r in sequential.follow(found, looks, better=metric.better, unit=metric.unit)}
    rows: list[dict[str, object]] = []
    for number, (day, e) in enumerate(zip(days, found, strict=True), start=1):
        if isinstance(e, NotEstimable):
            rows.append({"day": day, "words": f"Day {day}: cannot be estimated, {e.reason}."})
        else:
            r = read[number]
            limits = {"diff": r.estimate.diff, "low": r.estimate.low, "high": r.estimate.high}
            rows.append({"day": day, **limits, "z": r.z, "bound": r.bound, "words": r.words})
    return pd.DataFrame(rows, columns=["day", "diff", "low", "high", "z", "bound", "words"])


def accounts(data: Study, metric: Metric, *, treatment: str = "") -> Days | NotEstimable:
    """Measure a metric for every account up to each day since its assignment, in one treatment arm and control.

    Only what is a number for each account has such days: means, counts and shares of accounts, without their cap. The
    rows leave the engine, one number for each account and day: 220 MB for a million accounts and 28 days.

    Raises:
        ParameterError: the launch has no such treatment arm.
        DataError: the data lack what the metric reads.
    """
    launch = data.launch
    arms = (launch.arms.control, launch.judged(treatment))
    if reason := _obstacle(data, metric):
        return NotEstimable(metric=metric.name, reason=reason)
    if metric.denominator is not None:
        return NotEstimable(metric=metric.name, reason="a ratio is no number of each account")
    days = np.arange(1, (metric.window_days or launch.days) + 1)
    cells = [Cell(metric.numerator, "post", int(day)) for day in days]
    rows = build(data, cells).filter(_.arm.isin(arms)).order_by("account").execute()
    scale = metric.numerator.scale * (7 / days if metric.per_week else 1.0)
    so_far = rows[[cell.name for cell in cells]].to_numpy(np.float64) * scale
    return Days(so_far=so_far, treated=(rows["arm"] == arms[1]).to_numpy())


def chance(days: Days, *, replicates: int = 1_000, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the arms anew again and again: what a launch that does nothing shows on each day.

    Whatever the launch did stays with the accounts that it was done to, spread over both new arms. The differences are
    plain (Welch), without adjustment or weights.

    Args:
        days: the accounts; the new treatment arm is as large as theirs on average.
        replicates: how many launches that do nothing, at least 1.
        rng: the source of chance.

    Returns:
        Difference between the arms up to each day, and its standard error: two arrays (replicates, days).

    Raises:
        ParameterError: `replicates` is below 1.
    """
    if replicates < 1:
        raise ParameterError(f"replicates is {replicates}, must be 1 or more")
    size, share = len(days.treated), days.treated.mean()
    centred = days.so_far - days.so_far.mean(axis=0)
    both, batch, found = np.hstack([centred, centred**2]), max(1, 4_000_000 // size), []
    for first in range(0, replicates, batch):
        treated = (rng.random((min(batch, replicates - first), size)) < share).astype(np.float64)
        n = np.stack([treated.sum(axis=1), size - treated.sum(axis=1)])[:, :, None]
        sums = treated @ both
        mean, square = np.split(np.stack([sums, both.sum(axis=0) - sums]) / n, 2, axis=2)
        variance = np.maximum(square - mean**2, 0) / (n - 1)
        found.append(np.stack([mean[0] - mean[1], np.sqrt(variance.sum(axis=0))]))
    diff, se = np.concatenate(found, axis=1)
    return diff, se


def replay(
    data: Study, metric: Metric, *, treatment: str = "", replicates: int = 1_000, rng: np.random.Generator
) -> Replay | NotEstimable:
    """Draw the arms of a launch anew, again and again, and see how often a launch that does nothing looks like it.

    Works on event tables and on a table with a row per account alike, for means, counts and shares of accounts.

    Raises:
        ParameterError: the launch has no such treatment arm.
    """
    launch = data.launch
    arms = (launch.arms.control, launch.judged(treatment))
    if reason := units.why_not(data, metric):
        return NotEstimable(metric=metric.name, reason=reason)
    if metric.denominator is not None or not metric.per_account:
        return NotEstimable(metric=metric.name, reason="it is no number of each account")
    table = units.load(data)
    rows = table.filter(table.arm.isin(arms)).order_by("account")
    rows = rows.select("arm", value=table[metric.column(metric.numerator)] * scorecard.scale(data, metric)).execute()
    days = Days(so_far=rows[["value"]].to_numpy(np.float64), treated=(rows["arm"] == arms[1]).to_numpy())
    drawn = chance(days, replicates=replicates, rng=rng)[0][:, -1]
    value = days.so_far[:, 0]
    observed = float(value[days.treated].mean() - value[~days.treated].mean())
    beyond = int((np.abs(drawn) >= abs(observed)).sum())
    told = f"Of {replicates:,} launches that do nothing, {beyond:,} differ by at least as much as this one."
    return Replay(drawn=drawn, observed=observed, words=told)


def false_stops(
    days: Days | NotEstimable, *, alpha: float = 0.05, replicates: int = 1_000, rng: np.random.Generator
) -> pd.DataFrame:
    """Say which share of launches that do nothing has been stopped up to each day, by three ways of looking daily.

    Args:
        days: what each account came to; without it the table is empty.
        alpha: the error that each way promises.
        replicates: how many such launches are drawn from the accounts.
        rng: the source of chance.

    Returns:
        Indexed by day, a column for each way of looking.
    """
    if isinstance(days, NotEstimable):
        return pd.DataFrame(index=pd.Index([], name="day"))
    diff, se = chance(days, replicates=replicates, rng=rng)
    last = diff.shape[1]
    p = anytime.anytime_p(diff, se, 1 / se**2, tuned_for=float((1 / se[:, -1] ** 2).mean()), alpha=alpha)
    return pd.DataFrame(
        {
            "a test made for one look": sequential.stopped_by(diff / se, stats.norm.isf(alpha / 2)),
            "bounds planned for every day": sequential.stopped_by(
                diff / se, sequential.plan_looks(last, alpha=alpha).z
            ),
            "a confidence sequence": (p <= alpha).mean(axis=0),
        },
        index=pd.Index(range(1, last + 1), name="day"),
    )


def course(looks: Sequence[Estimate | NotEstimable], days: Sequence[int]) -> pd.DataFrame:
    """Lay out a difference so far with the limits for one look and those for all looks together (asymptotic).

    The clock of the confidence sequence is information, 1 / se**2; it is tightest on the last day.

    Returns:
        Indexed by day: diff, once_low, once_high, always_low, always_high; no rows where nothing could be estimated.
    """
    rows = [(day, e) for day, e in zip(days, looks, strict=True) if isinstance(e, Estimate)]
    names = ["diff", "once_low", "once_high", "always_low", "always_high"]
    if not rows:
        return pd.DataFrame(columns=names, index=pd.Index([], name="day"))
    diff, low, high, se = np.array([(e.diff, e.low, e.high, e.se) for _day, e in rows]).T
    alpha = 1 - rows[-1][1].level
    always = anytime.confidence_sequence(diff, se, 1 / se**2, tuned_for=float(1 / se[-1] ** 2), alpha=alpha)
    index = pd.Index([day for day, _e in rows], name="day")
    return pd.DataFrame(dict(zip(names, (diff, low, high, *always), strict=True)), index=index)


def _obstacle(data: Study, metric: Metric) -> str:
    """Say why a metric has no course over days in these data; nothing where it has one."""
    if UNITS_TABLE in data.tables:
        return "a table with a row per account does not tell one day from another"
    if not metric.per_account:
        return f"a {metric.kind.replace('_', ' ')} is no number of each account"
    if reason := units.why_not(data, metric):
        return reason
    units.load(data)  # refuses logs that end before the launch does: their missing days would read as zeros
    return ""


def words(luck: Replay | NotEstimable) -> str:
    """Say how often chance did as much, or why it was not tried."""
    return f"Not drawn: {luck.reason}." if isinstance(luck, NotEstimable) else luck.words


def to_frame(luck: Replay | NotEstimable) -> pd.DataFrame:
    """Lay the differences that chance made out by their share, with the observed one beside them."""
    if isinstance(luck, NotEstimable):
        return pd.DataFrame(columns=["share of launches", "difference at most", "observed"])
    shares = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])
    found = {"share of launches": shares, "difference at most": np.quantile(luck.drawn, shares)}
    return pd.DataFrame(found | {"observed": luck.observed})
