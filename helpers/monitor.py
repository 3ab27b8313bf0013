"""Monitor: a launch's metric as it stood at each look, and what chance alone does on the same accounts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers import anytime, inference, moments, scorecard, sequential, units
from helpers.errors import ParameterError
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.results import Check, Estimate, NotEstimable, Replay, change, closed, nothing
from helpers.scorecard import Scorecard
from helpers.study import Study
from helpers.units.query import Cell, design, near

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A metric as it stood day by day, each day counted from an account's own assignment.

    `estimates` are the planned comparison (adjusted, weighted) up to the end of day 1, 2, …, each with an interval for
    one look alone; empty where the data tell no days. `accounts` is what `chance` draws from.
    """

    estimates: tuple[Estimate | NotEstimable, ...]
    accounts: Days | NotEstimable


def watch(data: Study, metric: Metric, *, treatment: str = "", checks: Iterable[Check] = ()) -> Watch:
    """Read a metric up to every day since the assignment, in one pass over the events, for all that is shown of it.

    Without its cap. The rows leave the engine, one number for each account and day: 220 MB for a million accounts and
    28 days. A table with a row per account has its whole window as the only day.

    Args:
        data: the study.
        metric: what is compared.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, nothing is read.

    Raises:
        ParameterError: the launch has no such treatment arm.
        DataError: the data lack what the metric reads, or the logs end before the launch does.
    """
    launch = data.launch
    arms = (launch.arms.control, launch.judged(treatment))
    reason = closed(checks) or units.why_not(data, metric) or units.together(data, "a course by day", few=True)
    if not reason and not metric.per_account:
        reason = f"a {metric.kind.replace('_', ' ')} is no number of each account"
    if reason:
        return Watch(estimates=(), accounts=NotEstimable(metric=metric.name, reason=reason))
    table = units.load(data)  # refuses logs that end before the launch does: their missing days would read as zeros
    days: tuple[Estimate | NotEstimable, ...] = ()
    if UNITS_TABLE in data.tables:
        rows = table.filter(table.arm.isin(arms)).order_by("account")
        rows = rows.select("arm", value=table[metric.column(metric.numerator)]).execute()
        values = rows[["value"]].to_numpy(np.float64) * scorecard.scale(data, metric)
    else:
        window = metric.window_days or launch.days
        asked = [replace(metric, window_days=day, cap=None) for day in range(1, window + 1)]
        rows = _daily(data, metric, asked)
        days = tuple(_estimates(data, rows, asked, treatment=arms[1]))
        rows = rows[rows["arm"].isin(arms)]
        scale = np.array([inference.form(one, int(one.window_days or 0)).scale for one in asked])
        values = rows[[one.column(one.numerator) for one in asked]].to_numpy(np.float64) * scale
    treated = (rows["arm"] == arms[1]).to_numpy()
    if metric.denominator is not None:
        reason = "a ratio is no number of each account"
    elif min(treated.sum(), (~treated).sum()) < 2:
        reason = "an arm has fewer than two accounts"
    else:
        reason = units.together(data, "chance among single accounts")
    accounts = NotEstimable(metric=metric.name, reason=reason) if reason else Days(so_far=values, treated=treated)
    return Watch(estimates=days, accounts=accounts)


def _daily(data: Study, metric: Metric, asked: Sequence[Metric]) -> pd.DataFrame:
    """Lay out each account's measures up to each day, with arm, design, post-strata and the past.

    What adds up over events is added up by day, once; anything else takes a column for each day.
    """
    past = [Cell(m, "pre", None) for m in units.covariates(data, metric)]
    plain = [m for m in metric.measures if _adds_up(m)]
    other = [Cell(m, "post", one.window_days) for one in asked for m in one.measures if m not in plain]
    wanted = {cell.name: cell for cell in (*past, *other)}
    table = units.rows(data, list(wanted.values()))
    names = dict.fromkeys(["account", *scorecard.grouping(data), *design(data), *wanted])
    rows = table.select(*names).order_by("account").execute()
    columns: dict[str, Floats] = {}
    for measure in plain:
        found = units.daily(data, measure).filter(_.day >= 0, _.day < len(asked)).fill_null({"value": 0.0}).execute()
        by_day = np.zeros((len(rows), len(asked)))
        by_day[rows.set_index("account").index.get_indexer(found["account"]), found["day"]] = found["value"]
        so_far = by_day.cumsum(axis=1) / measure.scale
        values = np.sign(so_far) if measure.agg == "any" else so_far
        columns |= {Cell(measure, "post", day).name: values[:, day - 1] for day in range(1, len(asked) + 1)}
    return pd.concat([rows, pd.DataFrame(columns, index=rows.index)], axis=1)


def _adds_up(measure: Measure) -> bool:
    """Say whether a measure of a window is the sum of its events, or whether there are any."""
    counted = replace(measure, agg="count") if measure.agg == "any" else measure
    return counted.adds_up and (counted.agg == "sum" or counted.column is None)


def _estimates(
    data: Study, rows: pd.DataFrame, asked: Sequence[Metric], *, treatment: str
) -> list[Estimate | NotEstimable]:
    """Compare the arms up to each day, as the launch plans it."""
    adjust, how = bool(units.covariates(data, asked[0])), scorecard.draw(data)
    weighted = how["weighted"] or how["cluster"] is not None
    needed = [inference.needed(one, adjust=adjust, weighted=weighted) for one in asked]
    read = moments.from_table(
        ibis.memtable(rows.drop(columns="account")),
        columns=list(dict.fromkeys(column for columns, _pairs in needed for column in columns)),
        pairs={pair for _columns, pairs in needed for pair in pairs},
        **how,
    )
    return [scorecard.estimate(data, read, one, treatment=treatment, adjust=True) for one in asked]


def readings(card: Scorecard, metric: Metric, *, alpha: float = 0.05) -> pd.DataFrame:
    """Read a metric of the plan at every planned look so far, or at the end alone, against bounds that keep alpha.

    Where the launch stops or ends at one of several looks, a last row corrects the estimate for having been able to.

    Returns:
        day (where several looks are planned: an own table has none), diff, low, high (at all looks together), z, bound,
        and words that say whether to stop; where a look cannot be estimated the words say why, and the numbers are
        missing.
    """
    found, better = card.so_far[metric.name], metric.better
    days = card.look.planned
    looks = sequential.plan_looks(days, alpha=alpha)
    read = {r.look: r for r in sequential.follow(found, looks, better=better, unit=metric.unit)}
    rows: list[dict[str, object]] = []
    for number, (day, e) in enumerate(zip(days, found, strict=False), start=1):
        if isinstance(e, NotEstimable):
            lead = f"Day {day}: cannot" if len(days) > 1 else "Cannot"
            rows.append({"day": day, "words": f"{lead} be estimated, {e.reason}."})
        else:
            r = read[number]
            limits = {"diff": r.estimate.diff, "low": r.estimate.low, "high": r.estimate.high}
            rows.append({"day": day, **limits, "z": r.z, "bound": r.bound, "words": r.words})
    if len(days) > 1 and any(r.stop or r.look == len(days) for r in read.values()):
        e = sequential.settle(found, looks, better=better)
        said = f"Corrected for having been able to stop: {change(e.diff, e.low, e.high)}, {e.method}."
        rows.append({"day": card.look.day, "diff": e.diff, "low": e.low, "high": e.high, "words": said})
    columns = ["day", "diff", "low", "high", "z", "bound", "words"]
    return pd.DataFrame(rows, columns=columns if len(days) > 1 else columns[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chance:
    """What launches that do nothing show on these accounts, and what this one shows, all of it plain (Welch).

    `diff` and `se` (replicates, days) are the difference between arms drawn anew up to each day, and its standard
    error; `observed` is the launch's own difference on the last day.
    """

    diff: Floats
    se: Floats
    observed: float


def chance(days: Days | NotEstimable, *, replicates: int = 1_000, rng: np.random.Generator) -> Chance | NotEstimable:
    """Draw the arms anew again and again: what a launch that does nothing shows on each day.

    Whatever the launch did stays with the accounts that it was done to, spread over both new arms. The differences are
    without adjustment or weights. A draw that leaves an arm fewer than two accounts is left out.

    Args:
        days: the accounts; the new treatment arm is as large as theirs on average.
        replicates: how many launches that do nothing, at least 1.
        rng: the source of chance.

    Raises:
        ParameterError: `replicates` is below 1.
    """
    if replicates < 1:
        raise ParameterError(f"replicates is {replicates}, must be 1 or more")
    if isinstance(days, NotEstimable):
        return days
    size, share = len(days.treated), days.treated.mean()
    centred = days.so_far - days.so_far.mean(axis=0)
    both, batch, found = np.hstack([centred, centred**2]), max(1, 4_000_000 // size), []
    for first in range(0, replicates, batch):
        treated = (rng.random((min(batch, replicates - first), size), np.float32) < share).astype(np.float64)
        treated = treated[np.abs(treated.sum(axis=1) - size / 2) <= size / 2 - 2]  # of one account there is no spread
        n = np.stack([treated.sum(axis=1), size - treated.sum(axis=1)])[:, :, None]
        sums = treated @ both
        mean, square = np.split(np.stack([sums, both.sum(axis=0) - sums]) / n, 2, axis=2)
        variance = np.maximum(square - mean**2, 0) / (n - 1)
        found.append(np.stack([mean[0] - mean[1], np.sqrt(variance.sum(axis=0))]))
    diff, se = np.concatenate(found, axis=1)
    last = days.so_far[:, -1]
    return Chance(diff=diff, se=se, observed=float(last[days.treated].mean() - last[~days.treated].mean()))


def replay(luck: Chance | NotEstimable) -> Replay | NotEstimable:
    """Say how often a launch that does nothing looks like this one at its last day."""
    if isinstance(luck, NotEstimable):
        return luck
    drawn = luck.diff[:, -1]
    beyond = int((np.abs(drawn) >= abs(luck.observed)).sum())
    told = f"Of {len(drawn):,} launches that do nothing, {beyond:,} differ by at least as much as this one."
    return Replay(drawn=drawn, observed=luck.observed, words=told)


def false_stops(luck: Chance | NotEstimable, *, alpha: float = 0.05) -> pd.DataFrame:
    """Say which share of launches that do nothing has been stopped up to each day, by three ways of looking daily.

    Args:
        luck: such launches, as `chance` draws them; without them, or with a single day, the table is empty.
        alpha: the error that each way promises.

    Returns:
        Indexed by day, those on which every launch has something to compare; a column for each way of looking.
    """
    none = pd.DataFrame(index=pd.Index([], name="day"))
    if isinstance(luck, NotEstimable):
        return none
    days = np.flatnonzero(luck.se.min(axis=0) > 0)
    if len(days) < 2:
        return none
    diff, se = luck.diff[:, days], luck.se[:, days]
    p = anytime.anytime_p(diff, se, 1 / se**2, tuned_for=float((1 / se[:, -1] ** 2).mean()), alpha=alpha)
    return pd.DataFrame(
        {
            "a test made for one look": sequential.stopped_by(diff / se, stats.norm.isf(alpha / 2)),
            "bounds planned for every day": sequential.stopped_by(
                diff / se, sequential.plan_looks(list(days + 1.0), alpha=alpha).z
            ),
            "a confidence sequence": (p <= alpha).mean(axis=0),
        },
        index=pd.Index(days + 1, name="day"),
    )


def course(looks: Sequence[Estimate | NotEstimable]) -> pd.DataFrame:
    """Lay out a difference up to each day with the limits for one look and those for all looks together (asymptotic).

    The clock of the confidence sequence is information, 1 / se**2; it is tightest on the last day.

    Args:
        looks: what `watch` estimates up to day 1, 2, …

    Returns:
        Indexed by day: diff, once_low, once_high, always_low, always_high; no rows where nothing could be estimated.
    """
    rows = [(day, e) for day, e in enumerate(looks, start=1) if isinstance(e, Estimate)]
    names = ["diff", "once_low", "once_high", "always_low", "always_high"]
    if not rows:
        why = next(
            (e.reason for e in looks if isinstance(e, NotEstimable)), "no day of these data can be looked at by itself"
        )
        return nothing(why, names).rename_axis("day")
    diff, low, high, se = np.array([(e.diff, e.low, e.high, e.se) for _day, e in rows]).T
    alpha = 1 - rows[-1][1].level
    always = anytime.confidence_sequence(diff, se, 1 / se**2, tuned_for=float(1 / se[-1] ** 2), alpha=alpha)
    index = pd.Index([day for day, _e in rows], name="day")
    return pd.DataFrame(dict(zip(names, (diff, low, high, *always), strict=True)), index=index)


def canaries(data: Study, *, treatment: str = "", checks: Iterable[Check] = ()) -> tuple[Check, ...]:
    """Ask of delays and other values of events whether their slow end has risen, with limits for any number of looks.

    Each guardrail and operational metric that is a quantile or a mean of events, and is better low, is asked of its
    95th percentile, or the quantile that it names. From each account only the first event counts, so that what was
    seen stays as it was when more accounts come. What is asked is whether the rise is beyond the metric's relative
    margin, or 10 %; all canaries together err in at most alpha, at all looks together. Accounts that come first may be
    others than those that come later, in both arms alike. One that fails is harm, which `decision.decide` weighs as the
    metric's own entry says (`on_breach`, `owner`); one that cannot tell holds nothing up.

    Args:
        data: the study.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, nothing is asked.
    """
    launch, arm = data.launch, data.launch.judged(treatment)
    if reason := closed(checks) or units.together(data, "a canary"):
        return (Check(name="Canary", passed=None, detail=f"{reason.capitalize()}."),)
    if UNITS_TABLE in data.tables:
        detail = "Not asked: a table with a row per account does not say which of its events came first."
        return (Check(name="Canary", passed=None, detail=detail),)
    most = _accounts(data, (launch.arms.control, arm))  # not those seen so far: limits are tuned before the first look
    found = []
    layers = [p for p in units.measurable(data) if p.role in ("guardrail", "operational")]
    asked = [(p, column) for p in layers if p.metric.better == "lower" and (column := _of_events(p.metric))]
    for p, column in asked:
        metric = p.metric
        events = near(data, replace(metric.numerator, agg="sum", column=column, scale=1.0))
        events = events.filter(_["at"] >= _.anchor, ~_.value.isnull())
        first = events.aggregate(by="account", value=_.value.argmin(_["at"]))
        rows = first.join(data.assignments.select("account", "arm"), "account").select("arm", "value").execute()
        control, treated = (rows.loc[rows["arm"] == name, "value"].to_numpy() for name in (launch.arms.control, arm))
        margin = abs(p.margin.value) if p.margin and p.margin.relative else 0.1
        if len(control) and len(treated):
            alpha = launch.decision.alpha.of(p.role) / len(asked)
            settings = {"share": metric.quantile or 0.95, "margin": margin, "alpha": alpha, "tuned_for": most}
            sung = anytime.canary(control, treated, title=f"{metric.title}, first of each account", **settings)
            found.append(replace(sung, owner=p.owner, on_breach=p.on_breach))
    return tuple(found)


def _accounts(data: Study, arms: Sequence[str]) -> int:
    """Count the accounts of the smaller arm, as planned where more were planned than came so far."""
    came = data.assignments.group_by("arm").count().execute().set_index("arm").iloc[:, 0]
    planned = data.launch.sampling.n if data.launch.sampling else {}
    return max(1, min(max(int(came.get(arm, 0)), planned.get(arm, 0)) for arm in arms))


def _of_events(metric: Metric) -> str | None:
    """Name the column whose single values a metric is about; None where it counts or adds up."""
    top, bottom = metric.numerator, metric.denominator
    mean = bottom is not None and (top.agg, bottom.agg, top.column) == ("sum", "count", bottom.column)
    return top.column if metric.kind == "quantile" or mean else None


def words(luck: Replay | NotEstimable) -> str:
    """Say how often chance did as much, or why it was not tried."""
    return f"Not drawn: {luck.reason}." if isinstance(luck, NotEstimable) else luck.words


def to_frame(luck: Replay | NotEstimable) -> pd.DataFrame:
    """Lay the differences that chance made out by their share, with the observed one beside them."""
    if isinstance(luck, NotEstimable):
        return nothing(luck.reason, ["share of launches", "difference at most", "observed"])
    shares = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])
    found = {"share of launches": shares, "difference at most": np.quantile(luck.drawn, shares)}
    return pd.DataFrame(found | {"observed": luck.observed})
