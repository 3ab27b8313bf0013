"""The prospect: what a launch's accounts can show of each metric, said before anybody looks at an effect."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from helpers import inference, power, scorecard, sequential, units
from helpers.errors import DataError, ParameterError
from helpers.launch.entry import Planned
from helpers.metrics import Bound, Metric, Window
from helpers.moments import Moments
from helpers.power import outcome
from helpers.power.design import Design
from helpers.power.outcome import Outcome
from helpers.results import SUCCESS, Aim, Estimate, NotEstimable, Power, with_width
from helpers.study import Study

if TYPE_CHECKING:
    import numpy.typing as npt

SURE = 1.959963984540054
NEARLY_ALL = 1 - 1e-8  # of the variance: beyond it only rounding is left
PLAUSIBLE = power.relative(
    0.01
)  # what a good launch does to a north star in a mature service (Kohavi, Tang and Xu 2020)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What these accounts can show of one metric.

    `seen` is the smallest change that is found with the launch's power; `ruled_out`, for a guardrail, the smallest harm
    that is excluded if there is none, with the power that all guardrails together need; for a metric that is to stay as
    it is, the smallest change to either side. `bound` is the target, the
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

    Value and spread come from before the launch, both arms, where the data have the metric's own past over a window of
    the same length; else from the control arm after it, which the launch cannot have touched. Neither depends
    on what came out. A north star without a target is held against the `plausible` change.

    Raises:
        ParameterError: the launch has no such treatment arm.
    """
    launch = data.launch
    treatment = launch.judged(treatment)
    arms = _read_arms(data, treatment)
    n_control, n_treatment = (int(n) for n in arms.n)
    roles = [p.role for p in units.measurable(data)]
    design = Design(
        power=launch.decision.power,
        controls=n_control / n_treatment,
        guardrails=max(1, roles.count("guardrail")),
    )
    successes = launch.successes(units.measurable(data))
    found = []
    for p in launch.plan:
        prospect = _start(data, p, arms, treatment)
        if prospect.bound is None and p.role == "north_star":
            prospect = replace(prospect, bound=plausible, assumed=True)
        if prospect.outcome is not None:
            mine = replace(
                design,
                alpha=launch.decision.alpha.of(p.role),
                inflation=_price(data, launch.decision.alpha.of(p.role)),
                explained=prospect.explained,
                design_effect=prospect.design_effect,
                successes=successes if p.role in SUCCESS else 1,
            )
            prospect = _finish(
                replace(prospect, design=mine), n_treatment, n_control, p.metric.window_days or launch.days
            )
        found.append(prospect)
    return found


def _price(data: Study, alpha: float) -> float:
    """Say what looking before the end costs in accounts: 1 where the launch plans a single look."""
    rule, looks = data.launch.decision, data.launch.looks
    return sequential.inflation(sequential.plan_looks(looks, alpha=alpha), rule.power) if len(looks) > 1 else 1.0


class _Arms(NamedTuple):
    """Moments of control and treated arm, their accounts (2,), and what unequal weights cost each (2,), by Kish."""

    control: Moments
    treated: Moments
    n: npt.NDArray[np.float64]
    unequal: npt.NDArray[np.float64]

    def error(self, variance: npt.ArrayLike) -> float:
        """Give the variance that both arms would need alike, so that their difference has the same error."""
        return float((np.asarray(variance) / self.n).sum() / (1 / self.n).sum())


def _read_arms(data: Study, treatment: str) -> _Arms:
    """Read both arms' moments, of accounts: within the strata of the draw, with the spread that its clusters leave."""
    read, names = scorecard.pooled(data), (data.launch.arms.control, treatment)
    whole = [read.pool(by=["arm"]).select(arm=name) for name in names]
    if units.STRATUM in read.groups:
        within = read.pool(by=["arm", units.STRATUM]).within(units.STRATUM)
        control, treated = (within.select(arm=name) for name in names)
    else:
        control, treated = whole
    n = np.array([m.accounts[0] for m in whole])
    if read.held is not None:
        return _Arms(control.of_accounts(), treated.of_accounts(), n, np.ones(2))
    return _Arms(control, treated, n, n / np.array([inference.kish(m)[0] for m in whole]))


def _start(data: Study, p: Planned, arms: _Arms, treatment: str) -> Prospect:
    """Read what is known of a metric without the launch: value, spread, and what its past explains."""
    metric, launch = p.metric, data.launch
    bound = p.limit or p.target or (None if p.role == "north_star" else p.detect)
    empty = Prospect(planned=p, bound=bound, basis="", seen=NotEstimable(metric=metric.name, reason=""))
    if reason := units.why_not(data, metric):
        return replace(empty, seen=NotEstimable(metric=metric.name, reason=reason))
    if metric.kind == "quantile" or metric.event or metric.over:
        return _of_events(
            empty, scorecard.estimate(data, arms.control, metric, treatment=treatment, adjust=False), arms
        )
    days, pre_days = metric.window_days or launch.days, max(launch.pre_days, 1)
    past = bool(units.covariates(data, metric))
    own = past and metric.covariates == "own" and metric.cap is None and days == pre_days
    known, basis = _before(arms, metric, days) if own else None, f"both arms, {pre_days} days before"
    if known is None:
        known, basis = _after(arms, metric, days), "control, after the start"
    if known is None:
        return _without_control(empty, arms)
    explained = (
        outcome.explained(arms.control, metric, days=days, pre_days=pre_days) if past and launch.decision.adjust else 0
    )
    if explained > NEARLY_ALL:
        return replace(empty, seen=NotEstimable(metric=metric.name, reason=inference.REPEATED))
    return replace(
        empty,
        outcome=known[0],
        design_effect=known[1],
        basis=basis + (f"; the past explains {explained:.0%}" if explained >= 0.005 else "") + _drawn(data),
        explained=explained,
        lasting=outcome.lasting(metric, explained, days=launch.days, pre_days=pre_days),
    )


def _drawn(data: Study) -> str:
    """Say what was drawn where that were not accounts, and whether a design with so few is too hopeful."""
    if not (n := units.clusters(data)):
        return ""
    return f"; {n:,} clusters drawn" + ", too few for these numbers not to be too hopeful" * units.scarce(data, n)


def _before(arms: _Arms, metric: Metric, days: int) -> tuple[Outcome, float] | None:
    """Read both arms before the start: the mean of their values, and the spread that their difference has."""
    read = [found for m in (arms.control, arms.treated) if (found := _read(m, metric, days, "pre"))]
    if len(read) < 2:
        return None
    value = float(arms.n @ [o.value for o, _ in read] / arms.n.sum())
    variance = arms.error([o.sd**2 * effect for o, effect in read])
    if metric.kind == "proportion":
        known = outcome.proportion(value, better=metric.better)
        return known, variance / known.sd**2
    return replace(read[0][0], value=value, sd=math.sqrt(variance)), 1.0


def _after(arms: _Arms, metric: Metric, days: int) -> tuple[Outcome, float] | None:
    """Read the control after the start; of the treated arm, only how unequal its weights are."""
    if (read := _read(arms.control, metric, days, "post")) is None:
        return None
    more = arms.error(arms.unequal / arms.unequal[0])
    if metric.kind == "proportion":
        return read[0], read[1] * more
    return replace(read[0], sd=read[0].sd * math.sqrt(more)), 1.0


def _of_events(p: Prospect, e: Estimate | NotEstimable, arms: _Arms) -> Prospect:
    """Take the spread of what has no number per account from its standard error: it says nothing of the effect."""
    if isinstance(e := with_width(e), NotEstimable):
        return replace(p, seen=e)
    sd = e.se / math.sqrt((1 / arms.n).sum())
    metric = p.planned.metric
    kind = "mean" if metric.event else metric.kind
    known = Outcome(kind=kind, value=e.control, sd=sd, test="z", better=metric.better)
    return replace(p, outcome=known, basis="both arms, after the start: their spread alone")


def _read(moments: Moments, metric: Metric, days: int, window: Window) -> tuple[Outcome, float] | None:
    with contextlib.suppress(DataError):  # it does not vary there
        return outcome.read(moments, metric, days=days, window=window)
    return None


def _finish(p: Prospect, n_treatment: int, n_control: int, days: int) -> Prospect:
    """Work out what is seen and ruled out, and what would reach the target or margin."""
    if p.outcome is None or p.design is None:
        return p
    aim: Aim | None = "non-inferiority" if p.planned.role == "guardrail" else None
    aim = "equivalence" if p.planned.equivalence else aim
    try:
        seen = power.mde(
            p.outcome,
            n_treatment=n_treatment,
            n_control=n_control,
            direction=p.direction,
            design=p.design,
        )
        p = replace(p, seen=seen, ruled_out=_ruled_out(p, n_treatment, n_control, aim) if aim else None)
        if p.bound is None:
            return p
        asked = {"margin": p.bound, "aim": aim} if aim else {"effect": p.bound}
        needed = power.sample_size(p.outcome, design=p.design, **asked)  # type: ignore[arg-type]
    except ParameterError as error:
        return replace(p, seen=NotEstimable(metric=p.planned.metric.name, reason=str(error)), ruled_out=None)
    return replace(
        p,
        reached=needed.n_exact <= n_treatment,
        accounts=needed.n_treatment,
        days=outcome.days_to(p.lasting, needed.n_exact / n_treatment, days),
    )


def _ruled_out(p: Prospect, n_treatment: int, n_control: int, aim: Aim) -> Power | None:
    """Give the smallest margin that is excluded, relative as its bound is; None where the control is too near to 0."""
    if p.outcome is None or p.design is None:
        return None
    of_control = p.bound is None or p.bound.relative
    with contextlib.suppress(ParameterError):
        return power.mde(
            p.outcome, n_treatment=n_treatment, n_control=n_control, aim=aim, rel_margin=of_control, design=p.design
        )
    return None


def _without_control(p: Prospect, arms: _Arms) -> Prospect:
    """Say what can be said of a metric that does not vary in the control: it may be what only the launch can give."""
    metric, target = p.planned.metric, p.bound
    column = arms.control.columns.index(metric.column(metric.numerator))
    if arms.control.mean[0, column] != 0 or metric.kind != "proportion" or target is None or target.relative:
        reason = "its values do not vary in the control, so its spread is known only afterwards"
        return replace(p, seen=NotEstimable(metric=metric.name, reason=reason))
    half = SURE * math.sqrt(target.value * (1 - target.value) * arms.unequal[1] / arms.n[1])
    reason = "the control cannot have it, so the treated arm's own share is what is measured"
    return replace(
        p,
        basis="treated arm alone: the control cannot have it",
        seen=NotEstimable(metric=metric.name, reason=reason),
        reached=half < target.value,
        precision=half,
    )
