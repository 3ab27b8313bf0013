"""The prospect in words: a table of what can be seen, and three sentences that say what that is good for."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from helpers.prospect import Prospect
from helpers.report.readout import percent
from helpers.results import SUCCESS, Aim, NotEstimable, Power, figures

NOTHING = "none in per cent: of so few accounts the control's own value is too near 0"


def table(prospects: Sequence[Prospect]) -> pd.DataFrame:
    """Lay prospects out in words: what was asked, what can be seen or ruled out, and what it would take."""
    rows = []
    for p in prospects:
        row: dict[str, object] = {"metric": p.planned.metric.title, "asked": asked(p), "measured on": p.basis}
        if isinstance(p.seen, NotEstimable):
            sure = "" if p.precision is None else f"yes, to ±{_change(p, p.precision)}"
            rows.append(row | {"can it be seen?": sure or f"not estimable: {p.seen.reason}"})
            continue
        row |= {
            "without the launch": float(f"{p.seen.control:.4g}"),
            "smallest visible change": _change(p, p.seen.change),
            "relative": "" if p.seen.rel is None else percent(abs(p.seen.rel)),
            "harm ruled out": _harm(p),
            "can it be seen?": _reached(p),
        }
        aim: Aim = "non-inferiority" if _guards(p) else "superiority"
        if p.design is not None:
            row |= {"alpha": f"{2 * p.design.tail(aim):.3g}", "power": f"{p.design.chance(aim):.3g}"}
        rows.append(row | {"it would take": _cost(p)})
    columns = [
        "metric", "asked", "without the launch", "smallest visible change", "relative", "harm ruled out",
        "can it be seen?", "it would take", "measured on", "alpha", "power",
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
    lead = "If the launch does no harm, these accounts rule out harm beyond the margin"
    if not guards:
        second = "The launch names no guardrail, so nothing says which harm would be too much."
    elif open_:
        safe = f"{len(guards) - len(open_)} of {len(guards)} guardrails"
        blind = _some(
            [f"{p.planned.metric.title} ({'only a ' * bool(p.ruled_out)}{_harm(p) or 'not estimable'})" for p in open_]
        )
        second = f"{lead} for {safe}, all at once; not for {blind}."
    else:
        safe = f"all {len(guards)} guardrails at once" if len(guards) > 1 else "the only guardrail"
        second = f"{lead} for {safe}."
    return first, second, _meaning(prospects, sees=bool(star.reached), safe=bool(guards) and not open_)


def _north_star(star: Prospect) -> str:
    """Say which change of the north star is found, and whether that is small enough."""
    title, bound = star.planned.metric.title, star.bound
    if isinstance(star.seen, NotEstimable) or bound is None:
        return f"{title}: {star.seen.reason if isinstance(star.seen, NotEstimable) else 'nothing was asked'}."
    n = f"{star.seen.n_treatment:,} accounts against {star.seen.n_control:,}"
    than = f"the plausible {bound.text} (assumed: no target)" if star.assumed else f"the target of {bound.text}"
    found = f"{title}: {n} find a change of {_short(star)}"
    if star.reached:
        return f"{found}, enough for {than}."
    enough = (
        f"enough for the {star.planned.detect.text} to detect, but " if star.planned.detect and detects(star) else ""
    )
    return f"{found}, {enough}more than {than}; that would take {_cost(star)}."


def _meaning(prospects: Sequence[Prospect], *, sees: bool, safe: bool) -> str:
    """Say what these accounts are good for."""
    star = prospects[0].planned.metric.title
    about = [p for p in prospects[1:] if p.planned.role in SUCCESS and p.reached]
    show = any(p.precision is not None for p in about)
    evidence = "show-level evidence" if show else "evidence on what drives the north star"
    if sees and safe:
        return "So these accounts can carry the decision: such a gain would be seen, harm beyond the margins ruled out."
    if sees:
        return (
            "So these accounts can show the gain, but not that nothing broke: for harm they are a stop-if-harm check."
        )
    if safe:
        return f"So these accounts can show that no margin is broken, but not what the launch does to {star}."
    lead = f"{evidence} and a stop-if-harm check" if about else "a stop-if-harm check and little more"
    if isinstance(prospects[0].seen, NotEstimable):
        return f"So these accounts are {lead}: what the launch does to {star} cannot be told."
    return f"So these accounts are {lead}: a change of {star} that is as small as plausible would go unseen."


def asked(p: Prospect) -> str:
    """Say what the launch asks of a metric."""
    if p.bound is None:
        return ""
    detect, said = p.planned.detect, p.planned.asked
    if p.assumed:
        said = f"detect {detect.text}, plausible {p.bound.text}" if detect else f"plausible {p.bound.text}"
    return said.replace("-", "−") + of_level(p)


def of_level(p: Prospect) -> str:
    """Say how much of the level without the launch a bound in the metric's own unit is, so that a forgotten % shows."""
    planned = p.planned
    bound = planned.limit or planned.target or planned.detect
    if bound is None or bound.relative or planned.metric.unit == "share" or not isinstance(p.seen, Power):
        return ""
    if not (level := p.seen.control):
        return ""
    told = percent(bound.value / level, signed=True)
    return f" ({f'±{told[1:]}' if planned.equivalence else told} of {level:.4g})"


def detects(p: Prospect) -> bool:
    """Say whether a north star shows the change that the launch wants to detect, though perhaps not a plausible one."""
    detect = p.planned.detect
    if detect is None or isinstance(p.seen, NotEstimable) or (detect.relative and p.seen.rel is None):
        return False
    return abs((p.seen.rel or 0.0) if detect.relative else p.seen.change) <= abs(detect.value)


def _guards(p: Prospect) -> bool:
    """Say whether a margin is to be kept, rather than a change to be seen."""
    return p.planned.role == "guardrail" or p.planned.equivalence is not None


def _harm(p: Prospect) -> str:
    if p.ruled_out is None:
        return NOTHING if _guards(p) and isinstance(p.seen, Power) else ""
    way = "change" if p.planned.equivalence else "rise" if p.ruled_out.change > 0 else "fall"
    return f"{way} of {_short(p)}"


def _short(p: Prospect) -> str:
    """Write what is ruled out on the scale of its margin."""
    if p.limit is None:
        return "not estimable"
    if p.limit.rel is not None and (p.bound is None or p.bound.relative):
        return percent(abs(p.limit.rel))
    return _change(p, p.limit.change)


def _change(p: Prospect, change: float) -> str:
    """Write the size of a difference in the metric's own unit; of shares, in percentage points."""
    unit = p.planned.metric.unit
    return f"{100 * abs(change):.2g} pp" if unit == "share" else f"{figures(abs(change))} {unit}".rstrip()


def percents(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Write columns of shares as percentages."""
    return frame.assign(**{c: [share(x) for x in frame[c]] for c in columns})


def share(value: float) -> str:
    """Write a share as a percentage; what is nearly nothing says so.

    >>> share(0.25), share(0.0004), share(0)
    ('25.0%', 'under 0.1%', '0.0%')
    """
    return "under 0.1%" if 0 < value < 0.001 else percent(value)


def _reached(p: Prospect) -> str:
    if p.bound is None:
        return "nothing was asked"
    if p.reached:
        return "yes"
    if p.assumed and detects(p):
        return "what is to be detected, but not what is plausible"
    return (
        f"no, {'a change' if p.planned.equivalence else 'harm'} beyond the margin stays possible"
        if _guards(p)
        else "no, more accounts or days are needed"
    )


def _cost(p: Prospect) -> str:
    """Say how many accounts, or days instead, would reach what was asked."""
    if p.bound is None or p.reached or p.accounts is None:
        return ""
    accounts = f"{float(f'{p.accounts:.3g}'):,.0f} treated accounts"
    if p.days is not None:
        return f"{accounts}, or {p.days:,} days"
    if p.lasting:
        return f"{accounts}; more days alone are not enough"
    return f"{accounts}; waiting does not help" if p.planned.metric.window_days else accounts


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:3]) + (" …" if len(names) > 3 else "")
