"""The linter: what an experienced reader would object to in a plan, found before data are opened.

A launch with a `context` is a plan: a finding of severity E blocks its report, unless `overrides: {RULE: reason}` says
why not, which every page then shows. A launch without one can be read, but not confirmed; there, findings are advice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import scorecard
from helpers.errors import LaunchError, did_you_mean
from helpers.launch import Launch, load, strict_yaml
from helpers.linter import metrics, rigour
from helpers.linter.rule import Finding, Hit, Rule, Severity, Spread, Subject
from helpers.results import Estimate
from helpers.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RULES",
    "Finding",
    "Rule",
    "Spread",
    "blocking",
    "check",
    "family",
    "lint",
    "lint_file",
    "measured",
    "overridden",
    "sentence",
    "to_frame",
    "to_json",
    "to_text",
]

RULES: Mapping[str, Rule] = {rule.id: rule for rule in (*metrics.RULES, *rigour.RULES)}
ORDER: tuple[Severity, ...] = ("E", "W", "I")


def lint(launch: Launch, spreads: Mapping[str, Spread] | None = None) -> list[Finding]:
    """Hold a launch to every rule, worst findings first.

    Args:
        launch: a launch that could be loaded.
        spreads: level and error of its metrics, as `measured` reads them from data; they are used where the launch
            gives no planning numbers of its own.
    """
    subject = Subject(launch=launch, measured=spreads or {})
    found = [_finding(rule, hit, launch) for rule in RULES.values() for hit in rule.check(subject)]
    for rule_id in launch.overrides:
        if rule_id not in RULES:
            hit = Hit("E", ("overrides",), f"no rule is called '{rule_id}'", did_you_mean(rule_id, RULES))
            found.append(_finding(RULES["K1"], hit, launch))
    return sorted(found, key=lambda f: ORDER.index(f.severity))


def lint_file(path: Path, spreads: Mapping[str, Spread] | None = None) -> list[Finding]:
    """Lint a launch file, also one that cannot be loaded for want of a north star or of a guardrail's margin.

    Raises:
        LaunchError: the file cannot be read as a launch for another reason.
    """
    data, lines = strict_yaml.read(path)
    if found := _raw(data, lines):
        return found
    return lint(load(path), spreads)


def measured(data: Study) -> dict[str, Spread]:
    """Read level and standard error of every metric's difference from data; it is no effect, and shows none."""
    read, treatment = scorecard.pooled(data), data.launch.arms.treatment[0]
    estimates = {
        p.metric.name: scorecard.estimate(data, read, p.metric, treatment=treatment, adjust=True)
        for p in data.launch.plan
    }
    return {
        name: Spread(baseline=e.control, se=e.se, control=e.n_treatment / (e.n_control + e.n_treatment))
        for name, e in estimates.items()
        if isinstance(e, Estimate) and e.se > 0
    }


def blocking(launch: Launch, findings: Iterable[Finding]) -> list[Finding]:
    """List what stops the report: findings of severity E in a full plan, unless they are overridden."""
    return [f for f in findings if f.blocks] if launch.context is not None else []


def check(launch: Launch, findings: Iterable[Finding]) -> None:
    """Refuse to go on with a plan that has findings of severity E.

    Raises:
        LaunchError: one sentence for each, with line, place and remedy.
    """
    if found := blocking(launch, findings):
        raise LaunchError(
            "\n".join(
                f"{launch.name}, line {f.line}, {f.place}: {f.what} (rule {f.rule}); {f.fix}, "
                f"or say why not under 'overrides: {{{f.rule}: …}}'"
                for f in found
            )
        )


def overridden(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Say in a sentence each which objections the launch overrides, and why."""
    return tuple(
        f"Overridden: {f.what} (rule {f.rule}). Reason given: {f.overridden}"
        for f in findings
        if f.overridden and f.severity == "E"
    )


def to_text(launch: str, findings: Sequence[Finding]) -> str:
    """Write findings for the terminal."""
    if not findings:
        return f"{launch}: nothing to object."
    lines = []
    for f in findings:
        where = f"line {f.line}" if f.line else "at the top level"
        lines.append(f"{f.severity} {f.rule:<4} {launch}, {where}, {f.place}: {f.what}")
        lines += [f"       why: {f.why}", f"       fix: {f.fix}", f"       see: {f.section}"]
        lines += [f"       overridden: {f.overridden}"] if f.overridden else []
    counts = ", ".join(f"{sum(f.severity == s for f in findings)} {s}" for s in ORDER)
    overridden = sum(bool(f.overridden) for f in findings if f.severity == "E")
    return "\n".join([*lines, f"{launch}: {counts}" + (f", {overridden} of the E overridden" if overridden else "")])


def to_frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """Lay findings out as a table: rule, what was found (and why it was overridden), why it matters, how to mend it."""
    import pandas as pd

    rows = [
        (f"{f.severity} {f.rule}", f.what + (f" (overridden: {f.overridden})" if f.overridden else ""), f.why, f.fix)
        for f in findings
    ]
    return pd.DataFrame(rows, columns=["rule", "found", "why it matters", "how to mend it"])


def sentence(launch: Launch, findings: Sequence[Finding]) -> str:
    """Say in one sentence how the plan stands."""
    grave = sum(f.severity == "E" for f in findings)
    if launch.context is None:
        return f"The launch has no written plan; a full one would have to meet {grave} objections that stop a report."
    if not findings:
        return "The plan meets every rule."
    lifted = sum(f.severity == "E" and not f.blocks for f in findings)
    rest = len(findings) - grave
    said = f"{grave} objections stop it" if grave else "nothing stops the plan"
    return (
        f"Of the rules for a plan, {said}{f' ({lifted} overridden)' if lifted else ''}; {rest} remarks stand beside it."
    )


def to_json(found: Iterable[tuple[str, Sequence[Finding]]]) -> str:
    """Write the findings of several launches for other programs, as one flat list."""
    rows = [{"launch": name} | asdict(f) | {"blocks": f.blocks} for name, findings in found for f in findings]
    return json.dumps(rows, indent=1, ensure_ascii=False)


def _finding(rule: Rule, hit: Hit, launch: Launch) -> Finding:
    return Finding(
        rule=rule.id,
        severity=hit.severity,
        place=_place(hit.at),
        line=launch.line(*hit.at),
        what=hit.what,
        why=rule.why,
        fix=hit.fix,
        section=rule.section,
        overridden=launch.overrides.get(rule.id, ""),
    )


def _place(at: Sequence[str | int]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in at).lstrip(".")


def _raw(data: Any, lines: strict_yaml.Lines) -> list[Finding]:
    """Find what keeps a plan from being loaded at all, and is a fault of the plan rather than of the file."""
    plan = data.get("metrics")
    if not isinstance(plan, dict):
        return []
    hits: list[tuple[str, Hit]] = []
    star = plan.get("north_star")
    if star is None or isinstance(star, list):
        n = 0 if star is None else len(star)
        at = ("metrics", "north_star") if star is not None else ("metrics",)
        hits.append(("O2", Hit("E", at, f"there are {n} north stars", "choose one; what drives it is 'supporting'")))
    guardrails = plan.get("guardrails")
    for i, entry in enumerate(guardrails if isinstance(guardrails, list) else ()):
        if not isinstance(entry, dict) or (entry.get("margin") is None and entry.get("equivalence") is None):
            name = (entry.get("metric") or entry.get("name")) if isinstance(entry, dict) else entry
            fix = "say under 'margin' how much harm is just not accepted"
            hits.append(("G3", Hit("E", ("metrics", "guardrails", i), f"guardrail '{name}' has no margin", fix)))
    return [
        Finding(
            rule=rule,
            severity=hit.severity,
            place=_place(hit.at),
            line=strict_yaml.line(lines, hit.at),
            what=hit.what,
            why=RULES[rule].why,
            fix=hit.fix,
            section=RULES[rule].section,
        )
        for rule, hit in hits
    ]
