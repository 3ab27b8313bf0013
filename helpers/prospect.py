"""The prospect: what a launch's accounts can show of each metric, said before anybody looks at an effect."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from ibis import _

from helpers import inference, power, scorecard, units
from helpers.decision import SUCCESS
from helpers.errors import DataError, ParameterError
from helpers.launch.entry import Planned
from helpers.metrics import Bound, Metric, Window
from helpers.moments import Moments
from helpers.power import outcome
from helpers.power.design import Design, error_gain
from helpers.power.outcome import Outcome
from helpers.power.replay import Replay, replay
from helpers.report.readout import percent
from helpers.results import NotEstimable, Power
from helpers.study import Study

SURE = 1.959963984540054
PLAUSIBLE = power.relative(
    0.01
)  # what a good launch does to a north star in a mature service (Kohavi, Tang and Xu 2020)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What these accounts can show of one metric.

    `seen` is the smallest change that is found with the launch's power; `ruled_out`, for a guardrail, the smallest harm
    that is excluded if there is none, with the power that all guardrails together need. `bound` is the target or
    margin; of a north star without a target it is what is plausible, and `assumed`. `reached` says whether it is large
    enough to be seen or ruled out, `accounts` how many treated accounts (with as many controls for each as now) would
    make it so, `days` how many days would instead; None where none would, or where that cannot be said.

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
    lasting: float | None = None
    outcome: Outcome | None = None
    design: Design | None = None

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
    read = scorecard.pooled(data).pool(by=["arm"])
    sizes = dict(zip(read.groups["arm"], read.n.astype(int), strict=True))
    n_treatment, n_control = int(sizes[treatment]), int(sizes[launch.arms.control])
    roles = [p.role for p in units.measurable(data)]
    design = Design(
        alpha=launch.decision.alpha,
        power=launch.decision.power,
        controls=n_control / n_treatment,
        guardrails=max(1, roles.count("guardrail")),
    )
    successes = max(1, sum(r in SUCCESS for r in roles))
    control = read.select(arm=launch.arms.control)
    found = []
    for p in launch.plan:
        prospect = _start(data, p, control=control, everyone=read.pool(), n_treatment=n_treatment)
        if prospect.bound is None and p.role == "north_star":
            prospect = replace(prospect, bound=plausible, assumed=True)
        if prospect.outcome is not None:
            role = replace(design, explained=prospect.explained, successes=successes if p.role in SUCCESS else 1)
            prospect = _finish(
                replace(prospect, design=role), n_treatment, n_control, p.metric.window_days or launch.days
            )
        found.append(prospect)
    return found


def _start(data: Study, p: Planned, *, control: Moments, everyone: Moments, n_treatment: int) -> Prospect:
    """Read what is known of a metric without the launch: value, spread, and what its past explains."""
    metric, launch = p.metric, data.launch
    bound = p.margin if p.role == "guardrail" else p.target
    empty = Prospect(planned=p, bound=bound, basis="", seen=NotEstimable(metric=metric.name, reason=""))
    if reason := units.why_not(data, metric) or _rows_needed(metric):
        return replace(empty, seen=NotEstimable(metric=metric.name, reason=reason))
    days, pre_days = metric.window_days or launch.days, max(launch.pre_days, 1)
    past = bool(units.covariates(data, metric))
    own = past and metric.covariates == "own" and metric.cap is None and days == pre_days
    known, basis = _read(everyone, metric, days, "pre") if own else None, f"all arms, {pre_days} days before"
    if known is None:
        known, basis = _read(control, metric, days, "post"), "control, after the start"
    if known is None:
        return _without_control(empty, control, n_treatment)
    explained = (
        outcome.explained(control, metric, days=days, pre_days=pre_days) if past and launch.decision.adjust else 0
    )
    fixed = metric.kind == "proportion" or metric.window_days is not None
    return replace(
        empty,
        outcome=known,
        basis=basis + (f"; the past explains {explained:.0%}" if explained >= 0.005 else ""),
        explained=explained,
        lasting=math.sqrt(explained) if own and not fixed and explained else None,
    )


def _read(moments: Moments, metric: Metric, days: int, window: Window) -> Outcome | None:
    with contextlib.suppress(DataError):  # it does not vary there
        return outcome.read(moments, metric, days=days, window=window)
    return None


def _finish(p: Prospect, n_treatment: int, n_control: int, days: int) -> Prospect:
    """Work out what is seen and ruled out, and what would reach the target or margin."""
    if p.outcome is None or p.design is None:
        return p
    guardrail = p.planned.role == "guardrail"
    harm: Literal["up", "down"] = "up" if p.outcome.better == "lower" else "down"
    try:
        seen = power.mde(
            p.outcome,
            n_treatment=n_treatment,
            n_control=n_control,
            direction=harm if guardrail else None,
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


def table(prospects: Sequence[Prospect]) -> pd.DataFrame:
    """Lay prospects out in words: what was asked, what can be seen or ruled out, and what it would take."""
    rows = []
    for p in prospects:
        row: dict[str, object] = {"metric": p.planned.metric.title, "asked": asked(p), "measured on": p.basis}
        if isinstance(p.seen, NotEstimable):
            said = f"not estimable: {p.seen.reason}"
            if p.precision is not None:
                said = f"yes, to ±{_points(p.precision)}: {p.seen.reason}"
            rows.append(row | {"can it be seen?": said})
            continue
        row |= {
            "control": float(f"{p.seen.control:.4g}"),
            "smallest visible change": float(f"{abs(p.seen.change):.3g}"),
            "relative": "" if p.seen.rel is None else percent(abs(p.seen.rel)),
            "harm ruled out": _harm(p),
            "can it be seen?": _reached(p),
        }
        rows.append(row | {"it would take": _cost(p)})
    columns = [
        "metric", "asked", "control", "smallest visible change", "relative", "harm ruled out", "can it be seen?",
        "it would take", "measured on",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype(object).fillna("")


def conclude(prospects: Sequence[Prospect]) -> tuple[str, str, str]:
    """Say in three sentences what the north star would show, which harm can be ruled out, and what that makes of it.

    These accounts decide about the north star only if its smallest visible change is no larger than its target, or than
    what is plausible where the launch sets none.
    """
    star = prospects[0]
    first = _north_star(star)
    guards = [p for p in prospects if p.planned.role == "guardrail"]
    open_ = [p for p in guards if not p.reached]
    if not guards:
        second = "The launch names no guardrail, so nothing says which harm would be too much."
    elif open_:
        safe = f"{len(guards) - len(open_)} of {len(guards)} guardrails"
        blind = _some([f"{p.planned.metric.title} ({_short(p)})" for p in open_])
        second = f"If there is none, harm beyond the margin can be ruled out for {safe}, all at once; not for {blind}."
    else:
        second = f"If there is none, harm beyond the margin can be ruled out for all {len(guards)} guardrails at once."
    return first, second, _meaning(prospects, sees=bool(star.reached), safe=bool(guards) and not open_)


def _north_star(star: Prospect) -> str:
    """Say which change of the north star is found, and whether that is small enough."""
    title, bound = star.planned.metric.title, star.bound
    if isinstance(star.seen, NotEstimable) or bound is None:
        return f"{title}: {star.seen.reason if isinstance(star.seen, NotEstimable) else 'nothing was asked'}."
    than = f"the plausible {bound.text}" if star.assumed else f"the target of {bound.text}"
    n = f"{star.seen.n_treatment:,} accounts against {star.seen.n_control:,}"
    verdict = "enough for" if star.reached else f"more than {than}; that would take {_cost(star)}"
    return f"{title}: {n} find a change of {_short(star)}, {verdict}{f' {than}' if star.reached else ''}."


def _meaning(prospects: Sequence[Prospect], *, sees: bool, safe: bool) -> str:
    """Say what these accounts are good for."""
    star = prospects[0].planned.metric.title
    about = [p for p in prospects[1:] if p.planned.role in SUCCESS and p.reached]
    evidence = "show-level evidence" if any(p.precision is not None for p in about) else "evidence on what it drives"
    if sees and safe:
        return "So these accounts are enough for the decision: they show the gain, and that no margin is broken."
    if sees:
        return (
            "So these accounts can show the gain, but not that nothing broke: for harm they are a stop-if-harm check."
        )
    if safe:
        return f"So these accounts can show that no margin is broken, but not what the launch does to {star}."
    lead = f"{evidence} and a stop-if-harm check" if about else "a stop-if-harm check and little more"
    return f"So these accounts are {lead}: what the launch does to {star} stays open whatever comes out."


def asked(p: Prospect) -> str:
    """Say what the launch asks of a metric."""
    kind = "plausible" if p.assumed else "margin" if p.planned.role == "guardrail" else "target"
    return "" if p.bound is None else f"{kind} {p.bound.text}"


def _harm(p: Prospect) -> str:
    if p.ruled_out is None:
        return ""
    way = "rise" if p.ruled_out.change > 0 else "fall"
    return f"{way} of {_short(p)}"


def _short(p: Prospect) -> str:
    """Write what is ruled out on the scale of its margin."""
    if p.limit is None:
        return "not estimable"
    if p.limit.rel is not None and (p.bound is None or p.bound.relative):
        return percent(abs(p.limit.rel))
    return _points(abs(p.limit.change)) if p.planned.metric.unit == "share" else f"{abs(p.limit.change):.3g}"


def _points(share: float) -> str:
    return f"{100 * share:.2g} percentage points"


def _reached(p: Prospect) -> str:
    if p.bound is None:
        return "nothing was asked"
    if p.reached:
        return "yes"
    return "no, harm beyond the margin stays possible" if p.ruled_out else "no, more accounts or days are needed"


def _cost(p: Prospect) -> str:
    """Say how many accounts, or days instead, would reach what was asked."""
    if p.bound is None or p.reached or p.accounts is None:
        return ""
    accounts = f"{float(f'{p.accounts:.3g}'):,.0f} treated accounts"
    if p.days is not None:
        return f"{accounts}, or {p.days:,} days"
    waiting = (
        "; no length is enough" if p.lasting else "; waiting does not help" if p.planned.metric.window_days else ""
    )
    return accounts + waiting


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:3]) + (" …" if len(names) > 3 else "")


def by_days(prospect: Prospect, days: int, *, weeks: Sequence[int] = tuple(range(1, 27))) -> pd.DataFrame:
    """Lay out the smallest visible change against the length of the window, under the assumption of `days_to`."""
    seen, r = prospect.seen, prospect.lasting
    rows: list[tuple[int, float]] = []
    if isinstance(seen, Power) and seen.rel is not None and r is not None:
        rows = [(7 * w, abs(seen.rel) * math.sqrt((r + days / (7 * w)) / (1 + r))) for w in weeks]
    return pd.DataFrame(rows, columns=["days", "smallest visible change"]).astype(float)


def by_accounts(prospect: Prospect, *, sizes: Sequence[int]) -> pd.DataFrame:
    """Lay out the smallest visible change against treated accounts, each with as many controls as in the launch."""
    rows = []
    if prospect.outcome is not None and prospect.design is not None:
        for n in sizes:
            try:
                found = power.mde(prospect.outcome, n_treatment=n, design=prospect.design)
            except ParameterError:
                continue
            rows.append((n, abs(found.change), None if found.rel is None else abs(found.rel)))
    return pd.DataFrame(rows, columns=["accounts", "change", "smallest visible change"]).astype(float)


def by_allocation(n_treatment: int, *, controls: Sequence[float] = (0.5, 1, 2, 3, 5, 10, 20)) -> pd.DataFrame:
    """Lay out the standard error against control accounts per treated one, over that of equal arms."""
    rows = [(k, error_gain(n_treatment, round(k * n_treatment))) for k in controls]
    return pd.DataFrame(rows, columns=["controls", "standard error"]).astype(float)


def replayed(
    data: Study,
    prospect: Prospect,
    *,
    rel: Sequence[float],
    accounts: Sequence[int],
    replays: int,
    seed: int,
) -> pd.DataFrame:
    """Replay the launch's own analysis on its control accounts with planted effects, beside what the formula says.

    Accounts are drawn with replacement from the control after the start, the past that goes with each beside it.
    """
    metric, launch = prospect.planned.metric, data.launch
    columns = ["accounts", "planted", "formula", "replayed", "low", "high", "overstated", "agree"]
    if prospect.outcome is None or prospect.design is None:
        return pd.DataFrame(columns=columns)
    days, pre_days = metric.window_days or launch.days, max(launch.pre_days, 1)
    adjust = prospect.design.explained > 0
    wanted, _pairs = inference.needed(metric, adjust=adjust)
    table = units.load(data).filter(_.arm == launch.arms.control).order_by("account").select(*wanted).execute()
    pool = table.astype(np.float64)
    rng = np.random.default_rng(seed)
    reading = outcome.read(_moments(pool), metric, days=days)
    design = replace(prospect.design, successes=1)
    rows = []
    for n in accounts:
        controls = round(n * design.controls)
        for change in rel:
            came: Replay = replay(
                pool, metric, rel=change, n_treatment=n, n_control=controls, days=days, pre_days=pre_days,
                rng=rng, adjust=adjust, replays=replays, level=1 - design.alpha,
            )  # fmt: skip
            said = (
                power.power(
                    reading, n_treatment=n, n_control=controls, effect=power.relative(change), design=design
                ).power
                if change
                else design.alpha
            )
            inside = came.low <= said <= came.high
            rows.append((n, change, said, came.found, came.low, came.high, came.overstated, inside))
    return pd.DataFrame(rows, columns=columns)


def _moments(frame: pd.DataFrame) -> Moments:
    """Reduce accounts to one group of moments."""
    x = frame.to_numpy(np.float64)
    off = x - x.mean(axis=0)
    return Moments(
        groups=pd.DataFrame(index=range(1)),
        columns=tuple(map(str, frame)),
        n=np.array([float(len(x))]),
        mean=x.mean(axis=0)[None],
        scatter=(off.T @ off)[None],
    )


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
        basis="the target, as a share of the treated arm",
        seen=NotEstimable(metric=metric.name, reason=reason),
        reached=half < target.value,
        precision=half,
    )


def _rows_needed(metric: Metric) -> str | None:
    if metric.kind in ("quantile", "time_to_event"):
        return f"a {metric.kind.replace('_', ' ')} needs the accounts' own values; see its own chapter"
    return None
