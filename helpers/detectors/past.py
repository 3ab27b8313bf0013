"""What was there before: looks and plans that were tried, past launches, a metric before it was a target."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.launch import Launch
from helpers.register import Opening
from helpers.results import Check


def forking(launch: Launch, openings: Sequence[Opening]) -> Check:
    """Ask whether the data were looked at more often, or with more plans, than was planned (H12)."""
    name = "Looks and plans"
    if not openings:
        return Check(name=name, passed=None, detail="No report has opened these data yet, so nothing was counted.")
    looks, plans = len({o.data for o in openings}), len({o.plan for o in openings})
    planned = max(1, len(launch.decision.looks))
    detail = f"States of the data that were opened: {looks}, planned {planned}. Versions of the plan: {plans}."
    if looks > planned:
        detail += " Each further look is another chance to be fooled; the intervals hold for the planned ones."
    return Check(name=name, passed=looks <= planned and plans == 1, detail=detail)
