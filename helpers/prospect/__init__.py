"""The prospect: what a launch's accounts can show of each metric, said before anybody looks at an effect."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import Literal

from helpers import power, scorecard, sequential, units
from helpers.decision import SUCCESS
from helpers.errors import DataError, ParameterError
from helpers.launch.entry import Planned
from helpers.metrics import Bound, Metric, Window
from helpers.moments import Moments
from helpers.power import outcome
from helpers.power.design import Design
from helpers.power.outcome import Outcome
from helpers.results import Estimate, NotEstimable, Power
from helpers.study import Study

SURE = 1.959963984540054
PLAUSIBLE = power.relative(
    0.01
)  # what a good launch does to a north star in a mature service (Kohavi, Tang and Xu 2020)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What these accounts can show of one metric.

    `seen` is the smallest change that is found with the launch's power; `ruled_out`, for a guardrail, the smallest harm
    that is excluded if there is none, with the power that all guardrails together need. `bound` is the target, the
    margin or what the launch wants to detect; of a north star without a target it is what is plausible, and `assumed`.
    `reached` says whether it is large enough to be seen or ruled out, `accounts` how many treated accounts (with as
    many controls for each as now) would make it so, `days` how many days would instead; None where none would, or where
    that cannot be said.

    `basis` says what was measured, on whom. `explained` is the share of the variance that the past takes out; `lasting`
    the correlation between one window of an account and the next, where it is known; `precision` half the interval of
    the treated arm's own share, for what the control cannot have.
    """

    planned: Planned
    basis: str
    seen: Power | NotEstimable
    ruled_out: Power | None = None
    bound: Bound | None = None
    assumed: bool = False
    reached: bool | None = None
    accounts: int | None = None
    days: int | None = None
    precision: float | None = None
    explained: float = 0.0
    design_effect: float = 1.0
    lasting: float | None = None
    outcome: Outcome | None = None
    design: Design | None = None

    @property
    def direction(self) -> Literal["up", "down"]:
        """Say which way a change is looked for: the good way, and for a guardrail the harmful one."""
        harm = self.planned.role == "guardrail"
        return "up" if (self.planned.metric.better == "higher") != harm else "down"

    @property
    def limit(self) -> Power | None:
        """Give what is compared with the bound: what is ruled out for a guardrail, what is seen for the others."""
        return self.ruled_out or (self.seen if isinstance(self.seen, Power) else None)


def measure(data: Study, *, treatment: str = "", plausible: Bound = PLAUSIBLE) -> list[Prospect]:
    """Say for each metric of the plan what the launch's accounts can show.

    Value and spread come from before the launch, all arms together, where the data have the metric's own past over a
    window of the same length; else from the control arm after it, which the launch cannot have touched. Neither depends
    on what came out. A north star without a target is held against the `plausible` change.

    Raises:
        ParameterError: the launch has no such treatment arm.
    """
    launch = data.launch
    treatment = treatment or launch.arms.treatment[0]
    scorecard.check_treatment(launch, treatment)
    by_arm, everyone = _moments(data)
    sizes = dict(zip(by_arm.groups["arm"], by_arm.n.astype(int), strict=True))
    n_treatment, n_control = int(sizes[treatment]), int(sizes[launch.arms.control])
    roles = [p.role for p in units.measurable(data)]
    design = Design(
        alpha=launch.decision.alpha,
        power=launch.decision.power,
        controls=n_control / n_treatment,
        guardrails=max(1, roles.count("guardrail")),
        inflation=_price(data),
    )
    successes = max(1, sum(r in SUCCESS for r in roles))
    control = by_arm.select(arm=launch.arms.control)
    found = []
    for p in launch.plan:
        prospect = _start(
            data, p, control=control, everyone=everyone, treatment=treatment, sizes=(n_treatment, n_control)
        )
        if prospect.bound is None and p.role == "north_star":
            prospect = replace(prospect, bound=plausible, assumed=True)
        if prospect.outcome is not None:
            mine = replace(
                design,
                explained=prospect.explained,
                design_effect=prospect.design_effect,
                successes=successes if p.role in SUCCESS else 1,
            )
            prospect = _finish(
                replace(prospect, design=mine), n_treatment, n_control, p.metric.window_days or launch.days
            )
        found.append(prospect)
    return found


def _price(data: Study) -> float:
    """Say what looking before the end costs in accounts: 1 where the launch plans a single look."""
    rule = data.launch.decision
    if len(rule.looks) < 2:
        return 1.0
    return sequential.inflation(sequential.plan_looks(rule.looks, alpha=rule.alpha), rule.power)


def _moments(data: Study) -> tuple[Moments, Moments]:
    """Read the moments of each arm and of all accounts; within the strata of the draw, where it had some."""
    read = scorecard.pooled(data)
    if units.STRATUM not in read.groups:
        return read.pool(by=["arm"]), read.pool()
    by_arm, everyone = read.pool(by=["arm", units.STRATUM]), read.pool(by=[units.STRATUM])
    return by_arm.within(units.STRATUM), everyone.within(units.STRATUM)


def _start(
    data: Study, p: Planned, *, control: Moments, everyone: Moments, treatment: str, sizes: tuple[int, int]
) -> Prospect:
    """Read what is known of a metric without the launch: value, spread, and what its past explains."""
    metric, launch = p.metric, data.launch
    bound = p.margin or p.target or (None if p.role == "north_star" else p.detect)
    empty = Prospect(planned=p, bound=bound, basis="", seen=NotEstimable(metric=metric.name, reason=""))
    if reason := units.why_not(data, metric) or _untold(metric):
        return replace(empty, seen=NotEstimable(metric=metric.name, reason=reason))
    if metric.kind == "quantile":
        return _of_events(empty, scorecard.estimate(data, control, metric, treatment=treatment, adjust=False), sizes)
    days, pre_days = metric.window_days or launch.days, max(launch.pre_days, 1)
    past = bool(units.covariates(data, metric))
    own = past and metric.covariates == "own" and metric.cap is None and days == pre_days
    known, basis = _read(everyone, metric, days, "pre") if own else None, f"all arms, {pre_days} days before"
    if known is None:
        known, basis = _read(control, metric, days, "post"), "control, after the start"
    if known is None:
        return _without_control(empty, control, sizes[0])
    explained = (
        outcome.explained(control, metric, days=days, pre_days=pre_days) if past and launch.decision.adjust else 0
    )
    fixed = metric.kind == "proportion" or metric.window_days is not None
    return replace(
        empty,
        outcome=known[0],
        design_effect=known[1],
        basis=basis + (f"; the past explains {explained:.0%}" if explained >= 0.005 else ""),
        explained=explained,
        lasting=math.sqrt(explained) if own and not fixed and explained else None,
    )


def _of_events(p: Prospect, e: Estimate | NotEstimable, sizes: tuple[int, int]) -> Prospect:
    """Take the spread of a quantile of events from its standard error, which says nothing of the difference."""
    if isinstance(e, NotEstimable):
        return replace(p, seen=e)
    sd = e.se / math.sqrt(1 / sizes[0] + 1 / sizes[1])
    known = Outcome(kind="quantile", value=e.control, sd=sd, test="z", better=p.planned.metric.better)
    return replace(p, outcome=known, basis="both arms, after the start: their spread alone")


def _read(moments: Moments, metric: Metric, days: int, window: Window) -> tuple[Outcome, float] | None:
    with contextlib.suppress(DataError):  # it does not vary there
        return outcome.read(moments, metric, days=days, window=window)
    return None


def _finish(p: Prospect, n_treatment: int, n_control: int, days: int) -> Prospect:
    """Work out what is seen and ruled out, and what would reach the target or margin."""
    if p.outcome is None or p.design is None:
        return p
    guardrail = p.planned.role == "guardrail"
    try:
        seen = power.mde(
            p.outcome,
            n_treatment=n_treatment,
            n_control=n_control,
            direction=p.direction,
            design=p.design,
        )
        ruled_out = (
            power.mde(p.outcome, n_treatment=n_treatment, n_control=n_control, aim="non-inferiority", design=p.design)
            if guardrail
            else None
        )
        p = replace(p, seen=seen, ruled_out=ruled_out)
        if p.bound is None:
            return p
        asked = {"margin": p.bound, "aim": "non-inferiority"} if guardrail else {"effect": p.bound}
        needed = power.sample_size(p.outcome, design=p.design, **asked)  # type: ignore[arg-type]
    except ParameterError as error:
        return replace(p, seen=NotEstimable(metric=p.planned.metric.name, reason=str(error)), ruled_out=None)
    return replace(
        p,
        reached=needed.n_exact <= n_treatment,
        accounts=needed.n_treatment,
        days=days_to(p, needed.n_exact / n_treatment, days),
    )


def days_to(prospect: Prospect, more: float, days: int) -> int | None:
    """Say after how many days, in whole weeks, a longer window does what `more` times the accounts would do.

    An account's average over T days is taken as a part that stays and a part that is new in each window of `days`, with
    the correlation r between one window and the next. Its variance is then r + (1 - r) days / T of that of one window,
    of which the past takes out r^2: extra weeks are worth less than extra accounts, and beyond some point nothing.
    None where no length suffices, or where the window is part of the metric (whoever cancels within 28 days) or its
    past is not known.
    """
    r = prospect.lasting
    if r is None or (1 + r) / more <= r:
        return None
    return max(7, 7 * math.ceil(days / ((1 + r) / more - r) / 7 - 1e-9))


def _without_control(p: Prospect, control: Moments, n: int) -> Prospect:
    """Say what can be said of a metric that does not vary in the control: it may be what only the launch can give."""
    metric, target = p.planned.metric, p.bound
    column = control.columns.index(metric.column(metric.numerator))
    if control.mean[0, column] != 0 or metric.kind != "proportion" or target is None or target.relative:
        reason = "its values do not vary in the control, so its spread is known only afterwards"
        return replace(p, seen=NotEstimable(metric=metric.name, reason=reason))
    half = SURE * math.sqrt(target.value * (1 - target.value) / n)
    reason = "the control cannot have it, so the treated arm's own share is what is measured"
    return replace(
        p,
        basis="treated arm alone: the control cannot have it",
        seen=NotEstimable(metric=metric.name, reason=reason),
        reached=half < target.value,
        precision=half,
    )


def _untold(metric: Metric) -> str | None:
    if metric.kind == "time_to_event":
        return "a time to event is planned from the share that has it: see `power.outcome`"
    arm = metric.kind in ("gini", "coverage")
    return f"{metric.kind} describes an arm as a whole, so accounts have no spread in it" if arm else None
