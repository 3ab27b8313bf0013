"""The measurement plan of a launch as one offline page: what is asked, how it is judged, and what follows from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from scipy import stats

from helpers import brief, linter, register
from helpers.errors import ReportError
from helpers.launch import Launch
from helpers.launch.context import Outliers
from helpers.launch.entry import Planned
from helpers.launch.families import family
from helpers.linter import Finding
from helpers.linter.rule import Subject, power, size
from helpers.metrics import Bound
from helpers.report import index, theme
from helpers.report.readout import DECISIONS, number, percent
from helpers.results import Decision, figures, titled


class Framing(NamedTuple):
    """How a service speaks of success: the chain from a metric to the business, and what to be careful about."""

    heading: str
    lead: str
    chain: tuple[str, ...]
    caution: str


FRAMINGS = {
    "netflix": Framing(
        heading="Why these metrics: the value chain",
        lead="The business lives on members who stay. A metric is worth moving if moving it moves the next link.",
        chain=(
            "People find something that they chose",
            "they watch it, and are glad that they did",
            "they come back by themselves",
            "they stay members",
            "what they pay makes the next title",
        ),
        caution="That those who watch more leave less is true of any service, and no proof: both may come from being "
        "keen. Only launches that were drawn by chance show whether added viewing makes people stay.",
    ),
    "prime": Framing(
        heading="Why these metrics: the flywheel",
        lead="Work backwards from the customer. Each metric stands beside what it means in the customer's own terms, "
        "and each turn of the wheel has to be easier than the last.",
        chain=(
            "Choosing takes less effort",
            "customers find more of what their membership includes",
            "they come back, and keep the membership",
            "more customers attract more selection",
            "selection and scale lower the cost, which makes choosing easier and the membership worth more",
        ),
        caution="A wheel also turns the other way: what is recommended trains what is recommended next, in both arms. "
        "Where the arms share a model, the difference between them is smaller than what the launch does.",
    ),
}
LAYERS = {
    "north_star": "North star",
    "supporting": "Supporting: what drives it",
    "guardrail": "Guardrails: what must not break",
    "operational": "Operational: does it work technically?",
    "satisfaction": "Satisfaction: are people glad?",
}
TONES = {"E": "bad", "W": "warn", "I": "plain"}


def write(launch: Launch, out: Path, *, today: dt.date | None = None) -> Path:
    """Write the plan as a page that needs no server and no network.

    Raises:
        ReportError: the page cannot be written there.
    """
    html = render(launch, linter.lint(launch), today or dt.datetime.now(dt.UTC).date())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        index.write_whole(out, html)
    except OSError as error:
        raise ReportError(f"the plan cannot be written to {out}: {error.strerror}") from None
    return out


def render(launch: Launch, findings: Sequence[Finding], today: dt.date) -> str:
    """Fill the page of a plan."""
    told = launch.context.model_dump() if launch.context else {}
    subject = Subject(launch=launch)
    layers = [(title, [p for p in launch.plan if p.role == role]) for role, title in LAYERS.items()]
    return theme.render(
        "plan.html.j2",
        script="page.js",
        launch=launch,
        title=launch.title or launch.name,
        date=(told.get("planned_on") or today).isoformat(),
        standing=register.standing(launch),
        framing=FRAMINGS[launch.service],
        context=[(name.capitalize(), told.get(name)) for name in ("feature", "who", "where", "when", "constraint")]
        + [("Decision", told.get("decision")), ("Decided by", launch.decision_owner)],
        layers=[(title, [_metric(p, subject, launch) for p in layer]) for title, layer in layers if layer],
        customer=launch.service == "prime",
        risks=[_risk(launch, risk.risk, risk.metric, risk.accepted) for risk in launch.risks],
        method=_method(launch),
        decisions=[
            (verdict, DECISIONS[verdict][0], DECISIONS[verdict][1], launch.decision.actions.get(verdict))
            for verdict in get_args(Decision)
        ],
        findings=findings,
        tones=TONES,
        blocking=linter.blocking(launch, findings),
    )


def _metric(p: Planned, subject: Subject, launch: Launch) -> dict[str, Any]:
    """Prepare one line of the dictionary."""
    m = p.metric
    asked = p.target or p.limit
    spread = subject.spread(p)
    row: dict[str, Any] = {
        "p": p,
        "formula": brief.formula(p),
        "window": f"{m.window_days or launch.days} days from assignment",
        "kind": m.kind.replace("_", " ")
        + (f", capped at the {m.cap:.1%} quantile of those that have any" if m.cap else ""),
        "asked": "" if asked is None else p.asked,
        "both": "" if asked is None else _both_ways(asked, p.baseline, m.unit),
        "drives": titled(p.drives or (launch.plan[0].metric.name if p.role == "supporting" else ""), launch.titles),
        "counter": titled(p.counter, launch.titles),
        "family": family(p) if p.role == "guardrail" else "",
        "power": "",
        "visible": "",
    }
    if spread and spread.baseline:
        rule = launch.decision
        alpha = launch.alpha(p)
        visible = (stats.norm.isf(alpha / 2) + stats.norm.ppf(rule.power)) * spread.se / abs(spread.baseline)
        row["visible"] = percent(visible)
        if bound := asked or p.detect:
            level, error = (rule.alpha.of(p.role), spread.beside(bound)) if p.limit else (alpha, spread.se)
            chance = power(size(bound, spread.baseline), error, level)
            row["power"] = percent(max(2 * chance - 1, 0) if p.equivalence else chance, digits=0)
            row["power_of"] = bound.text
    return row


def _both_ways(bound: Bound, baseline: float | None, unit: str) -> str:
    """Write a bound in the other scale too, relative or absolute, where the launch gives the level to expect.

    >>> _both_ways(Bound(value=0.25, relative=True, text="+25%"), 0.02, "share")
    '0.5 percentage points at a level of 2%'
    """
    if not baseline:
        return ""
    scale, word, mark = (100, "percentage points", "%") if unit == "share" else (1, unit, "")
    level = f"a level of {baseline * scale:g}{mark}"
    if not bound.relative:
        return f"{percent(bound.value / baseline, signed=True)} of {level}"
    sign = "±" if bound.text.startswith("±") else ""
    return f"{sign}{figures(abs(bound.value * baseline) * scale)} {word} at {level}".replace("  ", " ")


def _risk(launch: Launch, risk: str, metric: str, accepted: str) -> tuple[str, str]:
    if metric:
        return risk, f"Watched: {titled(metric, launch.titles)}"
    return risk, f"Accepted {accepted}" if accepted else "Neither watched nor accepted"


def _method(launch: Launch) -> list[tuple[str, str]]:
    """Lay out how the answer is found."""
    rule, unit, privacy = launch.decision, launch.unit, launch.privacy
    n = launch.sampling.n if launch.sampling else {}
    dates = launch.dates
    rows = {
        "Accounts": ", ".join(f"{arm} {size:,}" for arm, size in n.items()),
        "Drawn": _drawn(launch),
        "Frame": launch.frame.recruited if launch.frame else "",
        "Needs": (launch.frame.needs or "") if launch.frame else "",
        "Unit": f"{unit.randomised} drawn, {unit.analysed} analysed" + f", by column '{launch.cluster}'" * unit.together
        if unit
        else "",
        "Window": f"{dates.post_days} days from {dates.start}, {dates.pre_days} days before" if dates else "",
        "Error rates": f"{rule.alpha}; {rule.power:.0%} power",
        "Several successes": {
            "holm": "corrected together (Holm, one procedure for gains and one for losses)",
            "bonferroni": "corrected together (Bonferroni)",
            "none": "not corrected: with each further one a false alarm is more likely",
        }[rule.correction],
        "Stopping": rule.stopping,
        "Looks": ", ".join(f"day {day}" for day in launch.looks) if rule.looks else "one, at the end",
        "Stage": "the last: what is good enough is shipped" if rule.stage == "last" else "",
        "Novelty": rule.novelty,
        "Show": _show(launch),
        "Outliers": "; ".join(outliers(launch)),
        "Segments": ", ".join(launch.segments),
        "Post-stratified by": ", ".join(rule.poststratify),
        "Calendar": _calendar(launch),
        "Holdback": launch.rollout.holdback if launch.rollout else "",
        "Capacity": launch.rollout.capacity_limit if launch.rollout else "",
        "Taken back by": launch.rollout.rollback_owner if launch.rollout else "",
        "Privacy": "; ".join(
            filter(
                None,
                (
                    privacy.legal_basis,
                    f"kept {number(privacy.retention_days, 0)} days" if privacy.retention_days else "",
                    f"minors {privacy.minors}",
                    f"no group below {privacy.k}",
                ),
            )
        ),
    }
    return list(rows.items())


def outliers(launch: Launch) -> list[str]:
    """Say what becomes of extreme accounts: the plan's own sentence, which changes nothing, and what is done."""
    rule = launch.outliers or Outliers()
    done = [
        f"{launch.titles[m]} above {figures(at, 4)} is impossible, and removed"
        for m, at in rule.impossible_above.items()
    ]
    done += [f"removed: {register.removed(rule)}"] * bool(rule.remove)
    done += ["made for those who watch most, nobody is capped"] * rule.heavy_viewers_are_target
    if capped := [p.metric.title for p in launch.plan if p.metric.cap]:
        where = "all arms together" if rule.caps == "pooled" else "before the launch"
        done.append(f"capped: {', '.join(capped)}, caps from {where}")
    said = [f"in the plan's words: {rule.rule}"] if rule.rule else []
    return [*said, *(done or ["nothing is capped, and nobody removed"])]


def _drawn(launch: Launch) -> str:
    if launch.sampling is None:
        return ""
    strata = ", ".join(launch.sampling.strata)
    return f"by chance within {strata}" if strata else "by chance"


def _show(launch: Launch) -> str:
    if launch.show is None:
        return ""
    episodes = f"{launch.show.episodes} episodes" if launch.show.episodes else ""
    judged = "judged by who finishes: that its hours fall is its end" if launch.show.format == "limited" else ""
    return ", ".join(filter(None, ("limited series" if judged else "series", episodes, judged)))


def _calendar(launch: Launch) -> str:
    if launch.calendar is None:
        return ""
    return ", ".join(f"{e.event} ({e.start} to {e.last})" for e in launch.calendar) or "nothing known"
