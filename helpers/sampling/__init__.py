"""Who gets it: an exact, repeatable draw of accounts, what it costs and gives, and how like the population they are.

Everything that touches accounts runs as Ibis expressions inside the engine; only counts by stratum leave it.
"""

from __future__ import annotations

from helpers.sampling.allocation import SMALL, Design, allocate
from helpers.sampling.designs import (
    Recommendation,
    compare,
    control_gain,
    design_effect,
    effective_n,
    kish,
    recommend,
    standard_error,
)
from helpers.sampling.drawing import FLAGS, Plan, describe, draw, drawable, eligible, funnel, plan
from helpers.sampling.likeness import BALANCE_LIMIT, RATIO_LIMITS, balance, by_chance, joint
from helpers.sampling.matching import CALIPER, Match, nearest
from helpers.sampling.repeats import Repeats, repeat

__all__ = [
    "BALANCE_LIMIT",
    "CALIPER",
    "FLAGS",
    "RATIO_LIMITS",
    "SMALL",
    "Design",
    "Match",
    "Plan",
    "Recommendation",
    "Repeats",
    "allocate",
    "balance",
    "by_chance",
    "compare",
    "control_gain",
    "describe",
    "design_effect",
    "draw",
    "drawable",
    "effective_n",
    "eligible",
    "funnel",
    "joint",
    "kish",
    "nearest",
    "plan",
    "recommend",
    "repeat",
    "standard_error",
]
