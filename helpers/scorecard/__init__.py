"""The scorecard: a launch's metrics measured on its data, checked first, then read against what the launch asked."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import stats

from helpers import (
    adequacy,
    anytime,
    decision,
    diversity,
    inference,
    logs,
    moments,
    preflight,
    sequential,
    study,
    survival,
    units,
    validity,
)
from helpers.launch.entry import Planned
from helpers.launch.families import technical
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import WEIGHT, Moments
from helpers.power import outcome
from helpers.results import SUCCESS, Check, Claim, Estimate, Look, NotEstimable, closed, with_width
from helpers.robust import events
from helpers.scorecard.reading import amounts, draw, grouping, pooled, scale, seen, sliced
from helpers.study import Study
from helpers.units import STRATUM

__all__ = [
    "Scorecard",
    "amounts",
    "arm_counts",
    "draw",
    "estimate",
    "event_logs",
    "grouping",
    "measure",
    "newest",
    "noted",
    "pooled",
    "scale",
    "seen",
    "sliced",
    "within",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """One treatment against control: may it be read, what came out, and what that means for each metric.

    `claims` rest on the estimates that the launch planned (adjusted or post-stratified where it says so); `plain`
    holds the same metrics without either, `before` the comparison in the pre-period. Where a check failed, no effect is
    in here: every metric is not estimable, and the reason names the check. `basis` says on what all of it rests;
    `spreads` what the errors of the planned means are made of. Where an arm has too few accounts for so long a tail,
    the note of the estimate says so.

    Where the launch planned several looks, intervals and p hold at all of them together, at alpha / 2 in each
    direction; `so_far` keeps, by metric, what each look up to this one shows alone.
    """

    treatment: str
    checks: tuple[Check, ...]
    claims: tuple[Claim, ...]
    plain: tuple[Estimate | NotEstimable, ...]
    before: tuple[Estimate | NotEstimable, ...]
    basis: str
    spreads: tuple[adequacy.Spread, ...]
    look: Look
    so_far: Mapping[str, tuple[Estimate | NotEstimable, ...]]


def measure(data: Study, *, treatment: str = "") -> Scorecard:
    """Measure every metric of the plan in one pass over the accounts.

    Args:
        data: the study.
        treatment: the arm to judge; empty means the launch's first.

    Raises:
        ParameterError: the launch has no such treatment arm.
        DataError: the data break the contract.
    """
    launch, treatment = data.launch, data.launch.judged(treatment)
    read, plan = pooled(data), launch.plan
    pasts = {past.name: past for p in units.measurable(data) for past in _pasts(data, p.metric)}
    before = [_compare(data, read, past, treatment=treatment) for past in pasts.values()]
    checks = (arm_counts(data, read), *preflight.checks(data), validity.pre_period(before), *event_logs(data))
    reason = closed(checks) or (
        units.together(data, "a reading at several looks", few=True) if len(launch.looks) > 1 else ""
    )
    earlier = [study.at(data, day) for day in launch.looks if day < launch.days and not reason]
    looks = [*((one, pooled(one)) for one in earlier), (data, read)]

    @functools.cache
    def so_far(i: int, *, adjust: bool = True, level: float | None = None) -> tuple[Estimate | NotEstimable, ...]:
        metric = plan[i].metric
        if reason:
            return (NotEstimable(metric=metric.name, reason=reason),) * sum(day <= launch.days for day in launch.looks)
        found = (estimate(one, m, metric, treatment=treatment, adjust=adjust, level=level) for one, m in looks)
        return tuple(map(with_width, found) if len(launch.looks) > 1 else found)

    def compare(
        asked: Sequence[Planned], *, adjust: bool = True, level: float | None = None
    ) -> list[Estimate | NotEstimable]:
        return [
            newest(
                so_far(plan.index(p), adjust=adjust, level=level),
                launch.looks,
                better=p.metric.better,
                alpha=launch.error(p.metric.name) if level is None else 1 - level,
                watched=p.role == "guardrail" and technical(p),
            )
            for p in asked
        ]

    family = [p for p in plan if p.role in SUCCESS]
    corrected = inference.adjust_family(
        compare(family),
        method=launch.decision.correction,
        at=lambda level: compare(family, level=level),
        better=[p.metric.better for p in family],
    )
    rest = [p for p in plan if p not in family]
    answers = dict(zip([p.metric.name for p in (*family, *rest)], [*corrected, *compare(rest)], strict=True))
    told = [p.metric for p in plan if isinstance(answers[p.metric.name], Estimate)]
    spreads = adequacy.measure(data, *_planned(data, read), told, treatment=treatment)
    for one in spreads:
        answers[one.metric] = noted(answers[one.metric], one.note)

    return Scorecard(
        treatment=treatment,
        checks=checks,
        claims=tuple(_claim(data, read, p, answers[p.metric.name]) for p in plan),
        plain=tuple(compare(plan, adjust=False)),
        before=tuple(before),
        basis=_basis(data, read, treatment) + ("" if reason else _any_arm(data, read)),
        spreads=tuple(spreads),
        look=Look(day=launch.days, planned=launch.looks),
        so_far={p.metric.name: so_far(i) for i, p in enumerate(plan)},
    )


def newest(
    so_far: Sequence[Estimate | NotEstimable],
    looks: Sequence[int],
    *,
    better: Literal["higher", "lower"],
    alpha: float,
    watched: bool = False,
) -> Estimate | NotEstimable:
    """Read the newest of a launch's looks so far against bounds for all of them; the only look stands as it is.

    Either direction spends alpha / 2 by itself, so that the limit on the bad side is also the one-sided bound of a
    guardrail (Lan and DeMets 1983, in the manner of O'Brien and Fleming).

    A technical guardrail is `watched`: the limit that establishes its harm is that of a one-sided confidence sequence
    at alpha / 2, which holds whenever and however often one looks, so that early harm need not wait for a bound that
    hardly anything crosses. Its price is paid at the end, where it is about half as far again from the estimate. The
    limit that rules harm out stays that of the planned looks, and so does p: nothing is passed between them.

    With a single look nothing was read before it (a report of logs that end earlier is refused), and the usual interval
    is right: a wider one would only overlook harm. Whoever watches a technical guardrail elsewhere, day by day, has to
    say so by planning looks; what watches without any plan are the canaries (`monitor.canaries`).
    """
    if len(looks) == 1:
        return so_far[-1]
    read = sequential.repeated(so_far, _bounds(tuple(looks), alpha), better=better)
    return _watched(read, so_far, looks, better=better, alpha=alpha) if watched and isinstance(read, Estimate) else read


def _watched(
    read: Estimate,
    so_far: Sequence[Estimate | NotEstimable],
    looks: Sequence[int],
    *,
    better: Literal["higher", "lower"],
    alpha: float,
) -> Estimate:
    """Put the end of a confidence sequence in the place of the limit on the bad side.

    Its clock is information, 1 / se**2. It is tightest at the planned end, by what the first look that could be read
    says of it, which no later look changes.
    """
    there = [(looks[k], e) for k, e in enumerate(so_far) if isinstance(e, Estimate)]
    (day, first), (_, last) = there[0], there[-1]
    now, end = last.se**-2.0, first.se**-2.0 * looks[-1] / day
    low, _ = anytime.confidence_sequence(last.diff, last.se, now, tuned_for=end, alpha=alpha / 2, sides=1)
    wider = (last.diff - float(low)) / last.se / stats.norm.isf((1 - last.level) / 2)
    limits = (read.low, last.diff + wider * (last.high - last.diff))
    if better == "lower":
        limits = (last.diff - wider * (last.diff - last.low), read.high)
    limited = sequential.limited(last, last.diff, *limits)
    harm = "lower" if better == "lower" else "upper"
    method = f"{read.method}; {harm} limit, of harm: anytime-valid (one-sided confidence sequence)"
    return replace(limited, p=read.p, level=read.level, mde=read.mde, method=method)


@functools.cache
def _bounds(looks: tuple[int, ...], alpha: float) -> sequential.Looks:
    return sequential.plan_looks(looks, alpha=alpha)


def estimate(
    data: Study, read: Moments, metric: Metric, *, treatment: str, adjust: bool, level: float | None = None
) -> Estimate | NotEstimable:
    """Compare one metric over all accounts, at the launch's level if none is given.

    With `adjust`, as the launch plans it: less what the past explains, the arms brought to the same mix of post-strata.
    Not estimable, with the reason, where the data lack what it needs.
    """
    if reason := units.why_not(data, metric):
        return NotEstimable(metric=metric.name, reason=reason)
    if metric.kind == "quantile" or metric.event or metric.over:
        answer = (
            events.compare(data, metric, treatment=treatment, level=level)
            if metric.kind == "quantile"
            else survival.compare(data, metric, treatment=treatment, level=level)[0]
            if metric.event
            else diversity.compare(data, metric, treatment=treatment, level=level)
        )
        mixed = adjust and data.launch.decision.poststratify
        return noted(answer, f"a {metric.kind.replace('_', ' ')} is not post-stratified") if mixed else answer
    past = data.launch.decision.adjust and bool(units.covariates(data, metric))
    answer = _compare(data, read, metric, treatment=treatment, adjust=adjust and past, planned=adjust, level=level)
    mixed = adjust and read.held is not None and data.launch.decision.poststratify
    return noted(answer, "not post-stratified, because accounts were drawn together") if mixed else answer


def _compare(
    data: Study,
    read: Moments,
    metric: Metric,
    *,
    treatment: str,
    adjust: bool = False,
    planned: bool = False,
    level: float | None = None,
) -> Estimate | NotEstimable:
    """Compare one metric; `planned` says that the arms are brought to the same mix, where the launch wants that."""
    read, stratum, poststrata = _planned(data, read, planned=planned)
    (answer,) = _answers(
        data, read, metric, treatment=treatment, stratum=stratum, poststrata=poststrata, adjust=adjust, level=level
    )
    return answer


def _planned(data: Study, read: Moments, *, planned: bool = True) -> tuple[Moments, str | None, list[str]]:
    """Keep the groups that a comparison over all accounts needs; name the strata of the draw and the post-strata.

    Strata without weights are post-strata: arms that were split alike within them keep their values, and where the
    split differs, by chance or not, pooled values differ with it, of which an error within strata knows nothing. Only
    clusters so few that each is read by itself keep theirs.
    """
    stratum = STRATUM if STRATUM in read.groups else None
    poststrata = [c for c in data.launch.decision.poststratify if planned and c in read.groups]
    if stratum and WEIGHT not in units.design(data) and units.CLUSTER not in read.groups:
        stratum, poststrata = None, [STRATUM, *poststrata]
    kept = [c for c in (STRATUM, units.CLUSTER) if c in read.groups and c not in poststrata]
    return read.pool(by=["arm", *kept, *poststrata]), stratum, poststrata


def noted(answer: Estimate | NotEstimable, note: str) -> Estimate | NotEstimable:
    """Add a note to an estimate."""
    if not note or isinstance(answer, NotEstimable):
        return answer
    return replace(answer, note="; ".join(filter(None, (answer.note, note))))


def within(
    data: Study,
    read: Moments,
    metric: Metric,
    by: str,
    *,
    treatment: str = "",
    adjust: bool = True,
    level: float | None = None,
) -> list[Estimate | NotEstimable]:
    """Compare one metric in every level of an attribute, from what `sliced` read; strata of the draw are not used.

    With `adjust`, less what the past explains, where the launch plans that.
    """
    treatment = data.launch.judged(treatment)
    if metric.event:
        return survival.compare(data, metric, treatment=treatment, by=[by], level=level)
    if metric.kind == "quantile":
        return events.within(data, metric, by, treatment=treatment, level=level)
    past = adjust and data.launch.decision.adjust and bool(units.covariates(data, metric))
    return _answers(data, read, metric, treatment=treatment, adjust=past, level=level, small_groups=True)


def _answers(
    data: Study,
    read: Moments,
    metric: Metric,
    *,
    treatment: str,
    adjust: bool,
    level: float | None,
    stratum: str | None = None,
    poststrata: Sequence[str] = (),
    small_groups: bool = False,
) -> list[Estimate | NotEstimable]:
    """Compare at what the launch says of arms, windows and error rates.

    Where a share of events (crashes of sessions) did not occur in either arm, it is read as one of the accounts that
    had any event, each of them one try: how many may have been missed then holds however those of an account go
    together.
    """
    launch = data.launch
    compare = functools.partial(
        inference.compare,
        control=launch.arms.control,
        treatment=treatment,
        stratum=stratum,
        poststrata=poststrata,
        cluster=units.CLUSTER if units.CLUSTER in read.groups else None,
        days=metric.window_days or launch.days,
        pre_days=max(launch.pre_days, 1),
        level=level or 1 - launch.error(metric.name),
        power=launch.decision.power,
        small_groups=small_groups or metric.kind != "proportion",
    )
    answers = compare(read, metric, adjust=adjust)
    if metric.kind != "ratio" or metric.unit != "share" or all(isinstance(e, Estimate) for e in answers):
        return answers
    share = replace(metric, kind="proportion", denominator=None)
    tries = _tries(data, read, metric, share, arms={launch.arms.control, treatment})
    tried = compare(tries, share, small_groups=small_groups) if tries else []
    none = {str(e.slice): e for e in tried if isinstance(e, Estimate) and e.control == 0 == e.treatment}
    return [none.get(str(e.slice), e) if isinstance(e, NotEstimable) else e for e in answers]


def _tries(data: Study, read: Moments, metric: Metric, share: Metric, *, arms: set[str]) -> Moments | None:
    """Read again, of the accounts alone that had an event of which `metric` is a share; None where an arm has none."""
    table, tried = units.load(data), metric.column(metric.measures[-1])
    if tried not in table.columns:  # of a day before the window's last
        return None
    if arms - {*read.groups.loc[read.only([tried]).mean[:, 0] > 0, "arm"]}:
        return None
    weighted, cluster = units.weighted(data), None if read.held is None else units.CLUSTER
    columns, pairs = inference.needed(share, adjust=False, weighted=weighted or cluster is not None)
    by = [str(c) for c in read.groups]
    rows = table.filter(table[tried] > 0)
    return moments.from_table(rows, columns=columns, pairs=pairs, by=by, weighted=weighted, cluster=cluster)


def event_logs(data: Study) -> tuple[Check, ...]:
    """Ask whether the faults of the event tables fell on the arms alike; own tables have no events to ask about."""
    if UNITS_TABLE in data.tables:
        return ()
    return (logs.check(units.faults(data), data.launch.arms.names, data.launch.data.faults),)


def arm_counts(data: Study, read: Moments) -> Check:
    """Ask whether the arms are as large as planned, in what was drawn: accounts, or clusters of them.

    Where the launch plans no numbers, equal arms pass as equal; unequal ones may have been meant so: nobody can say.
    """
    by_arm = read.pool(by=["arm"])
    counts = {str(arm): int(n) for arm, n in zip(by_arm.groups["arm"], by_arm.n, strict=True)}
    if data.launch.sampling:
        found = validity.srm(counts, data.launch.sampling.n)
        what = f" Counted are {data.launch.unit.randomised}s, which were drawn." if data.launch.unit else ""
        return found if read.held is None else replace(found, detail=found.detail + what)
    equal = validity.srm(counts, dict.fromkeys(counts, 1))
    sizes = ", ".join(f"{arm} {n:,}" for arm, n in counts.items())
    if equal.passed is not False:
        return replace(equal, detail=f"The arms are equally large, within chance ({sizes}); the launch plans no split.")
    detail = f"The arms are not equal ({sizes}); say under 'sampling: {{n: …}}' which split was planned."
    return replace(equal, passed=None, detail=detail)


def _pasts(data: Study, metric: Metric) -> list[Metric]:
    """Turn a metric into what the data have of it from before the assignment: itself, or each of its covariates."""

    def value(measure: Measure) -> Measure:
        return Measure(table=UNITS_TABLE, agg="value", column=metric.column(measure, "pre"), scale=measure.scale)

    known = units.covariates(data, metric)
    past = replace(metric, window_days=max(data.launch.pre_days, 1), covariates=(), cap=None)
    if metric.covariates == "own":
        top, *bottom = map(value, known) if known else (None,)
        return [replace(past, numerator=top, denominator=next(iter(bottom), None))] if top else []
    one = replace(past, kind="mean", denominator=None, per_week=False, event=None, unit="")
    return [replace(one, name=str(m), title=str(m), numerator=value(m)) for m in known]


def _basis(data: Study, read: Moments, treatment: str) -> str:
    arms = read.pool(by=["arm"])
    n = dict(zip(arms.groups["arm"], arms.accounts, strict=True))
    drawn = dict(zip(arms.groups["arm"], arms.n, strict=True))
    control, launch = data.launch.arms.control, data.launch
    window = f" over {launch.days} days from {launch.dates.start}" if launch.dates else ""
    worth = dict(zip(arms.groups["arm"], inference.kish(arms), strict=True))
    told = (
        f" Weighted to the population, which leaves the precision of {worth[treatment]:,.0f} and {worth[control]:,.0f}."
        if WEIGHT in arms.columns
        and arms.held is None
        and min(worth[arm] / n[arm] for arm in (control, treatment)) < 0.995
        else ""
    )
    if arms.held is not None and launch.unit:
        what = f"{launch.unit.randomised}s"
        told = f" Drawn were {drawn[treatment]:,.0f} and {drawn[control]:,.0f} {what}, and errors are over {what}."
        told += " Weighted to the population." * units.weighted(data)
    if len(launch.looks) > 1:
        window += f", look {launch.looks.index(launch.days) + 1} of {len(launch.looks)}"
    return (
        f"Measured on {n[treatment]:,.0f} accounts of {treatment} against {n[control]:,.0f} of {control}{window}.{told}"
    )


def _any_arm(data: Study, read: Moments) -> str:
    """Say of a launch with several treatments whether any arm differs in the north star, before one is judged."""
    launch, star = data.launch, data.launch.plan[0].metric
    if len(launch.arms.names) < 3 or not star.averaged or units.why_not(data, star):
        return ""
    if units.scarce(data, units.clusters(data)):  # too few for a chi-square
        return ""
    days = star.window_days or launch.days
    p = inference.differ(read.pool(by=["arm"]), star, arms=launch.arms.names, days=days)
    if p is None:  # no accounts in an arm, or values that do not vary in it
        return ""
    shown = "shows" if p < launch.error(star.name) else "does not show"
    return f" One test of all {len(launch.arms.names)} arms {shown} that any differs."


def _claim(data: Study, read: Moments, p: Planned, answer: Estimate | NotEstimable) -> Claim:
    """Read an estimate against what the plan asks of its metric; guardrails must all pass at once."""
    together = [q for q in data.launch.plan if q.role == "guardrail" and units.why_not(data, q.metric) is None]
    claim = decision.read(
        p.metric,
        answer,
        role=p.role,
        target=p.target,
        margin=p.margin,
        equivalence=p.equivalence,
        detect=p.detect,
        owner=p.owner,
        on_breach=p.on_breach,
        power=data.launch.decision.power,
        together=max(1, len(together)) if p.role == "guardrail" else 1,
        longer=lambda more: _days(data, read, p.metric, more),
    )
    return claim if read.held is None else replace(claim, more=None)  # more accounts of the same clusters would not do


def _days(data: Study, read: Moments, metric: Metric, more: float) -> int | None:
    """Say how long a launch would last in all that does what so many times its accounts would; None where unknown.

    Either each account is watched for longer, if it is known how much of it stays from window to window; or, where
    accounts came over several days, as many more days of the same arrivals are waited for.
    """
    launch = data.launch
    if launch.dates is None:
        return None
    days, pre_days = launch.days, max(launch.pre_days, 1)
    if metric.averaged and launch.decision.adjust and units.covariates(data, metric):
        control = read.pool(by=["arm"]).select(arm=launch.arms.control)
        share = outcome.explained(control, metric, days=days, pre_days=pre_days)
        if r := outcome.lasting(metric, share, days=days, pre_days=pre_days):
            return outcome.days_to(r, more, days)
    came = preflight.arrivals(data)
    span = (came.index.max() - came.index.min()).days + 1 if len(came) else 1
    return days + math.ceil((more - 1) * span) if span > 1 else None
