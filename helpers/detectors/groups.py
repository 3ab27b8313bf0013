"""Effects that depend on who is in the arms: their composition, and harm that a mean hides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from helpers import decision, scorecard, units
from helpers.detectors.effects import MOVED
from helpers.launch.entry import Planned
from helpers.results import SUCCESS, Check, Claim, Estimate, NotEstimable, figures
from helpers.scorecard import Scorecard
from helpers.study import Study

MOST = 0.9  # of the accounts must be in levels that can be compared, for their mean to speak of the whole


def composition(data: Study, card: Scorecard) -> Check:
    """Ask whether an effect depends on who happens to be in which arm (H4: Simpson): each segment weighted alike.

    The effect is averaged over the levels of each segment by their share of both arms together, and compared with the
    plain one. Under a sound draw the two agree but for chance. Levels that cannot be compared are left out and named;
    where more than a tenth of the accounts would be, the segment is not compared.
    """
    name = "Composition of the arms"
    if closed := _closed(card, name):
        return closed
    plain = {e.metric: e for e in card.plain if isinstance(e, Estimate) and not e.low <= 0 <= e.high}
    success = [p for p in data.launch.plan if p.role in SUCCESS and p.metric.name in plain]
    if not data.launch.segments or not success:
        why = (
            "the launch names no segments" if not data.launch.segments else "no success metric differs between the arms"
        )
        return Check(name=name, passed=None, detail=f"Not asked, because {why}.")
    told: list[str] = []
    compared: dict[str, None] = {}
    left: dict[str, None] = {}
    for segment, p, slices in _slices(data, success, card.treatment):
        found = [e for e in slices if isinstance(e, Estimate)]
        n = np.array([e.n_control + e.n_treatment for e in found])
        lacking = [f"{segment} {e.slice[segment]}" for e in slices if isinstance(e, NotEstimable)]
        left |= dict.fromkeys(lacking)
        if not found or n.sum() < MOST * sum(e.n_control + e.n_treatment for e in slices):
            continue
        compared[segment] = None
        weighted = float(n @ [e.diff for e in found] / n.sum())
        whole = plain[p.metric.name].diff
        if weighted * whole < 0 or abs(weighted - whole) > MOVED * abs(whole):
            told.append(
                f"{p.metric.title} differs by {figures(whole)}, with {segment} weighted alike by {figures(weighted)}"
            )
    without = f" Left out, because they could not be compared: {', '.join(left)}." if left else ""
    if told:
        return Check(name=name, passed=False, detail=f"{'; '.join(told)}: the arms hold different people.{without}")
    if not compared:
        return Check(name=name, passed=None, detail=f"Of no segment enough could be compared.{without}")
    detail = f"Weighting {', '.join(compared)} alike in both arms moves no effect by more than {MOVED:.0%} of itself."
    return Check(name=name, passed=True, detail=detail + without)


def _closed(card: Scorecard, name: str) -> Check | None:
    """Say that a question about effects is not asked, where a check of the data failed."""
    if failed := [c.name for c in card.checks if c.passed is False]:
        return Check(name=name, passed=None, detail=f"Not asked, because the check '{failed[0]}' failed.")
    return None


def tail_harm(data: Study, card: Scorecard) -> Check:
    """Ask whether a guardrail breaks its margin in some group though it may hold on average (H15).

    The worst pair of a group and a guardrail is named with its interval: the one that reaches farthest into harm, in
    parts of its margin, or where it breaks it, one that was planned to be taken back for. The intervals hold for all
    pairs, and all planned looks, together (Bonferroni), in small groups of unequal arms too (`small_groups` of
    `inference.compare`). The check says what its guardrails plan, and who decides. It passes only where every pair
    does: where harm beyond a margin is neither certain nor ruled out, or could not be asked, it remains possible.
    """
    name = "Harm in a group"
    if closed := _closed(card, name):
        return closed
    guardrails = [p for p in data.launch.plan if p.role == "guardrail" and p.limit]
    if not guardrails or not data.launch.segments:
        what = "guardrail with a margin" if not guardrails else "segments"
        return Check(name=name, passed=None, detail=f"Not asked: the launch names no {what}.")
    found: list[tuple[float, Claim]] = []
    lacking: list[str] = []
    groups = 0
    table = units.load(data)
    sizes = table.aggregate(**{segment: table[segment].nunique() for segment in data.launch.segments}).execute()
    pairs = len(guardrails) * int(sizes.to_numpy().sum())
    level = 1 - data.launch.decision.alpha.guardrails / (pairs * len(data.launch.looks))
    for segment, p, slices in _slices(data, guardrails, card.treatment, level=level):
        for e in slices:
            groups += 1
            if isinstance(e, NotEstimable):
                lacking.append(f"{p.metric.title} in {segment} {e.slice[segment]}: {e.reason}")
                continue
            metric = replace(p.metric, title=f"{p.metric.title} in {segment} {e.slice[segment]}")
            claim = decision.read(
                metric,
                e,
                role="guardrail",
                margin=p.margin,
                equivalence=p.equivalence,
                owner=p.owner,
                on_breach=p.on_breach,
            )
            if claim.bound or claim.status == "breached":  # of nothing in control any rise is beyond the margin
                harm = {"higher": -e.low, "lower": e.high}[claim.better]
                moved = max(-e.low, e.high) if p.equivalence else harm
                found.append((moved / abs(claim.bound) if claim.bound else math.inf, claim))
    if not found:
        detail = f"Not asked: in none of {groups} pairs of a group and a guardrail could the margin be checked."
        detail += f" Of {len(lacking)} nothing is known, as of {lacking[0]}." if lacking else ""
        return Check(name=name, passed=None, detail=detail)
    breached = [pair for pair in found if pair[1].status == "breached"]
    drastic = [pair for pair in breached if decision.rolls_back(pair[1])]
    _, worst = max(drastic or breached or found, key=lambda pair: pair[0])
    if breached:
        more = f" Besides: {', '.join(c.title for _, c in breached if c is not worst)}." if len(breached) > 1 else ""
        detail = worst.words + more
        return Check(name=name, passed=False, detail=detail, owner=worst.owner, on_breach=worst.on_breach)
    left = groups - sum(claim.status == "passed" for _, claim in found)
    detail = f"In none of {groups} pairs of a group and a guardrail is harm beyond the margin certain"
    detail += f", and in {left} it remains possible" if left else ", and in all it is ruled out"
    detail += (
        f" ({len(lacking)} of them not compared, as {lacking[0]}). The worst of the others: "
        if lacking
        else ". The worst: "
    )
    told = worst.words.replace("unchanged within", "within")  # which is said of nothing but a whole launch's claim
    return Check(name=name, passed=None if left else True, detail=detail + told)


def _slices(
    data: Study, plan: Iterable[Planned], treatment: str, *, level: float = 0.95
) -> Iterator[tuple[str, Planned, list[Estimate | NotEstimable]]]:
    """Compare metrics within every level of each segment, without adjustment."""
    plan = [p for p in plan if units.why_not(data, p.metric) is None]
    for segment, read in scorecard.sliced(data, data.launch.segments, [p.metric for p in plan]).items():
        for p in plan:
            yield (
                segment,
                p,
                scorecard.within(data, read, p.metric, segment, treatment=treatment, adjust=False, level=level),
            )
