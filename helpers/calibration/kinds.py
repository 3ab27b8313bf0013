"""Types of metrics on trial: how a launch compares its arms by each of them, and what the answer should have been."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from operator import add
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import sparse, stats

from helpers import anytime, diversity, inference, moments, sequential
from helpers.calibration.service import CREATORS, RARE, Samples, World, spans
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import Moments
from helpers.results import Estimate, NotEstimable
from helpers.robust import estimators, quantiles
from helpers.survival.kaplan_meier import Tally, restricted_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

Answers = list[Estimate | NotEstimable]

LEVEL = 0.95
CAP = 0.99  # quantile of both arms together
HORIZON = 21  # days
LOOKS = 28  # one a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A type of metric on trial: how a launch compares its arms, and what the answer should have been.

    `compare` gets both arms of r experiments and gives r answers; `truth` gets the two worlds, and the accounts in each
    arm. `cautious` says that the method promises to err at most so often, and may err less.
    """

    compare: Callable[[Samples, Samples], Answers]
    truth: Callable[[World, World, int], float]
    cautious: bool = False


def _averaged(metric: Metric, *, by: str = "") -> Kind:
    """Try a metric that Moments answer, perhaps with post-strata."""
    columns, _ = inference.needed(metric, adjust=bool(metric.covariates))
    taken, form = [*columns, by] if by else columns, inference.form(metric, days=28)

    def value(world: World) -> float:
        top, *bottom = (world.columns[c].mean() for c in form.columns)
        return float(form.scale * top / (bottom[0] if bottom else 1.0))

    return Kind(
        compare=lambda control, treatment: _batch(metric, control.take(*taken), treatment.take(*taken), by=by),
        truth=lambda control, treatment, _: value(treatment) - value(control),
    )


def _batch(metric: Metric, control: Floats, treatment: Floats, *, by: str = "") -> Answers:
    """Compare r pairs of arms (r, n, k) as groups of one Moments; a last column `by` holds the post-strata."""
    columns, _ = inference.needed(metric, adjust=bool(metric.covariates))
    arms = {"c": control, "t": treatment}
    one, other = (
        _within(rows, columns, by, arm=name) if by else moments.from_samples([rows], columns=columns, arm=name)
        for name, rows in arms.items()
    )
    return inference.compare(
        one + other,
        metric,
        control="c",
        treatment="t",
        poststrata=[by] if by else [],
        days=28,
        pre_days=28,
        adjust=bool(metric.covariates),
        level=LEVEL,
        small_groups=metric.kind != "proportion",
    )


def _within(rows: Floats, columns: Sequence[str], by: str, *, arm: str) -> Moments:
    """Reduce samples (r, n, k + 1) to a group for each sample and value of the last column, `by`."""
    parts = []
    for h in np.unique(rows[..., -1]):
        mine = rows[..., -1:] == h
        n = mine.sum(axis=1).astype(np.float64)
        mean = (rows[..., :-1] * mine).sum(axis=1) / np.maximum(n, 1)
        off = (rows[..., :-1] - mean[:, None]) * mine
        groups = pd.DataFrame({"arm": arm, "replay": np.arange(len(rows)), by: h})[n[:, 0] > 0]
        at = groups.index
        scatter = np.matmul(off.transpose(0, 2, 1), off)
        parts.append(Moments(groups=groups, columns=tuple(columns), n=n[at, 0], mean=mean[at], scatter=scatter[at]))
    return reduce(add, parts)


def _relative(metric: Metric) -> Kind:
    """Try the relative change of a metric that Moments answer."""
    plain = _averaged(metric)

    def compare(control: Samples, treatment: Samples) -> Answers:
        return [_as_relative(e) for e in plain.compare(control, treatment)]

    def truth(control: World, treatment: World, n: int) -> float:
        nothing = replace(
            control, columns={c: 0 * x for c, x in control.columns.items()}
        )  # a difference to it is a level
        return plain.truth(control, treatment, n) / plain.truth(nothing, control, n)

    return Kind(compare=compare, truth=truth)


def _as_relative(e: Estimate | NotEstimable) -> Estimate | NotEstimable:
    if isinstance(e, NotEstimable):
        return e
    if e.rel is None or e.rel_low is None or e.rel_high is None:
        return NotEstimable(metric=e.metric, reason=e.note)
    return replace(e, diff=e.rel, low=e.rel_low, high=e.rel_high, se=e.se / e.control)


def _capped(metric: Metric, cap: float) -> Kind:
    """Try a mean of amounts up to a quantile of both arms together: each experiment finds its own cap, as a launch."""
    column = metric.column(metric.numerator)

    def compare(control: Samples, treatment: Samples) -> Answers:
        arms = control.take(column), treatment.take(column)
        top = np.array([[[estimators.cap_at(x, cap)]] for x in np.concatenate(arms, axis=1)])
        return _batch(metric, *(np.minimum(arm, top) for arm in arms))

    def truth(control: World, treatment: World, _: int) -> float:
        arms = control.columns[column], treatment.columns[column]
        top = estimators.cap_at(np.concatenate(arms), cap)
        return float(np.minimum(arms[1], top).mean() - np.minimum(arms[0], top).mean())

    return Kind(compare=compare, truth=truth)


def _quantile(column: str, share: float) -> Kind:
    """Try a quantile over accounts."""

    def compare(control: Samples, treatment: Samples) -> Answers:
        pairs = zip(control.take(column)[..., 0], treatment.take(column)[..., 0], strict=True)
        return [quantiles.difference(c, t, [share], level=LEVEL)[0] for c, t in pairs]

    def truth(control: World, treatment: World, _: int) -> float:
        return float(np.quantile(treatment.columns[column], share) - np.quantile(control.columns[column], share))

    return Kind(compare=compare, truth=truth)


def _quantile_of_events(share: float) -> Kind:
    """Try a quantile over all plays, where accounts are what was assigned."""

    def events(of: Samples) -> Iterator[tuple[Floats, Integers]]:
        return ((of.world.waits[play], who) for play, who in of.plays())

    def compare(control: Samples, treatment: Samples) -> Answers:
        pairs = zip(events(control), events(treatment), strict=True)
        return [quantiles.of_events(c, t, [share], level=LEVEL)[0] for c, t in pairs]

    def truth(control: World, treatment: World, _: int) -> float:
        return float(np.quantile(treatment.waits, share) - np.quantile(control.waits, share))

    return Kind(compare=compare, truth=truth)


def _time(horizon: float) -> Kind:
    """Try the time to an event of accounts that were followed for unequal lengths."""

    def arms(of: Samples) -> Iterator[Tally]:
        """Take every account as a row of its own: hardly two have the same time."""
        one = np.ones(of.rows.shape[1])
        for time, left in np.moveaxis(of.take("time", "left"), -1, 1):
            yield Tally(
                time=time, event=left == 1, accounts=one, weight=one, square=one, stratum=0 * one.astype(np.intp)
            )

    def compare(control: Samples, treatment: Samples) -> Answers:
        pairs = zip(arms(control), arms(treatment), strict=True)
        return [restricted_mean(*pair, horizon=horizon, level=LEVEL) for pair in pairs]

    def truth(control: World, treatment: World, _: int) -> float:
        one, other = (np.minimum(w.columns["stayed"], horizon).mean() for w in (control, treatment))
        return float(other - one)

    return Kind(compare=compare, truth=truth)


def _of_arm(question: Literal["inequality", "reach"]) -> Kind:
    """Try a number that describes an arm as a whole: Gini of creators by hours, or how many of them are reached."""
    gini = question == "inequality"

    @lru_cache(maxsize=2)
    def items(world: World) -> sparse.csr_array:
        """Give what each account adds to each creator (N, k): its hours, or 1 where it played anything of theirs."""
        owner, shape = np.repeat(np.arange(world.accounts), np.diff(world.first)), (world.accounts, CREATORS)
        amount = world.columns["hours_per_play"][owner] if gini else np.ones(len(owner))
        added = sparse.coo_array((amount, (owner, world.creators)), shape=shape).tocsr()  # sums what occurs twice
        if not gini:
            added.data[:] = 1.0
        return added

    def arms(of: Samples) -> Iterator[diversity.Arm]:
        added, group = items(of.world), np.arange(of.rows.shape[1]) % diversity.GROUPS
        for rows in of.rows:
            at, who = spans(added.indptr, rows)
            place = group[who] * CREATORS + added.indices[at]
            summed = np.bincount(place, added.data[at], diversity.GROUPS * CREATORS).astype(np.float64)
            yield diversity.Arm(sizes=np.bincount(group).astype(float), items=summed.reshape(-1, CREATORS))

    def compare(control: Samples, treatment: Samples) -> Answers:
        ask = diversity.inequality if gini else diversity.reach
        return [
            ask(c, t, catalogue=CREATORS, metric=question, level=LEVEL)
            for c, t in zip(arms(control), arms(treatment), strict=True)
        ]

    def value(world: World, n: int) -> float:
        """Give what n accounts have on average: Gini of every n in turn, or the chance that a quarter of them miss."""
        if gini:
            parts = [items(world)[first : first + n].sum(axis=0) for first in range(0, world.accounts - n + 1, n)]
            return float(diversity.gini(np.array(parts)).mean())
        missed: Floats = 1 - items(world).sum(axis=0) / world.accounts
        return float(1 - (missed ** max(n // 4, 1)).mean())

    return Kind(compare=compare, truth=lambda control, treatment, n: value(treatment, n) - value(control, n))


def _looks(metric: Metric, rule: Literal["sequence", "spending"]) -> Kind:
    """Try a mean that is looked at every day while accounts come in evenly: found on any day, missed on any day.

    An answer is that of the last day, with the limits that all days agree on, and a p below 5 % where a day found a
    difference.
    """
    column, bound = metric.column(metric.numerator), sequential.plan_looks(LOOKS).z

    def compare(control: Samples, treatment: Samples) -> Answers:
        arms = control.take(column), treatment.take(column)
        n = np.arange(1, LOOKS + 1) * arms[0].shape[1] // LOOKS
        last = _batch(metric, *arms)
        if n[0] < 2:
            few = NotEstimable(metric=metric.name, reason="an arm has fewer than 2 accounts on the first day")
            return [few for _ in last]
        sums = [[(x[..., 0] ** k).cumsum(axis=1)[:, n - 1] for k in (1, 2)] for x in arms]
        diff = (sums[1][0] - sums[0][0]) / n
        se = np.sqrt(sum((square - total**2 / n) / (n - 1) for total, square in sums) / n)
        if rule == "sequence":
            low, high = anytime.confidence_sequence(diff, se, 2 * n, tuned_for=2 * n[-1], alpha=1 - LEVEL)
            p = anytime.anytime_p(diff, se, 2 * n, tuned_for=2 * n[-1], alpha=1 - LEVEL)[:, -1]
        else:
            low, high = diff - bound * se, diff + bound * se
            p = 2 * stats.norm.sf(stats.norm.isf((1 - LEVEL) / 2) * np.abs(diff / se / bound).max(axis=1))
        read = zip(last, low.max(axis=1), high.min(axis=1), p, strict=True)
        return [
            replace(e, low=float(below), high=float(above), p=float(each)) if isinstance(e, Estimate) else e
            for e, below, above, each in read
        ]

    return replace(_averaged(metric), compare=compare, cautious=rule == "sequence")


def _metric(
    kind: Literal["mean", "proportion", "count", "ratio"], column: str, *, per: str = "", past: str = ""
) -> Metric:
    def of(name: str) -> Measure:
        return Measure(table=UNITS_TABLE, agg="value", column=name)

    return Metric(
        name=column,
        title=column,
        kind=kind,
        numerator=of(column),
        denominator=of(per) if per else None,
        better="higher",
        unit="",
        covariates=(of(past),) if past else (),
    )


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "mean: hours": _averaged(_metric("mean", "hours")),
        "mean, adjusted: hours by hours before": _averaged(_metric("mean", "hours", past="hours_before")),
        f"mean, capped at {CAP:.0%}: hours": _capped(_metric("mean", "hours"), CAP),
        "mean, relative change: hours": _relative(_metric("mean", "hours")),
        "count: sessions": _averaged(_metric("count", "sessions")),
        "count, rare: tickets": _averaged(_metric("count", "tickets")),
        "mean, post-stratified: hours by hours before": _averaged(_metric("mean", "hours"), by="stratum"),
        "ratio: hours per session": _averaged(_metric("ratio", "hours", per="sessions")),
        "proportion: a session a day": _averaged(_metric("proportion", "daily")),
        "proportion, small: cancelled": _averaged(_metric("proportion", "cancelled")),
        "proportion, relative change: cancelled": _relative(_metric("proportion", "cancelled")),
        f"proportion, rare: over {RARE} hours": _averaged(_metric("proportion", "rare")),
        "quantile: median hours": _quantile("hours", 0.5),
        "quantile: 95th percentile of hours": _quantile("hours", 0.95),
        "quantile of events: 95th percentile of waits": _quantile_of_events(0.95),
        f"time to event: days of {HORIZON} before cancelling": _time(HORIZON),
        "gini: hours by creator": _of_arm("inequality"),
        "coverage: creators reached": _of_arm("reach"),
        f"mean, {LOOKS} looks: group-sequential bound": _looks(_metric("mean", "hours"), "spending"),
        f"mean, {LOOKS} looks: confidence sequence": _looks(_metric("mean", "hours"), "sequence"),
    }
)
