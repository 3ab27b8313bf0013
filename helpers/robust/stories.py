"""Two launches with the same average gain, invented on a launch's own accounts: everybody gains, or a few do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from helpers.results import Estimate
from helpers.robust import estimators
from helpers.robust.parts import LEAST

if TYPE_CHECKING:
    from helpers.robust.accounts import Arms


def invent(arms: Arms, *, rng: np.random.Generator) -> dict[str, Arms]:
    """Name the two launches that `two` invents; none for shares, and where hardly anybody has anything."""
    if arms.shares or (arms.control > 0).sum() < LEAST:
        return {}
    broad, narrow = two(arms, rng=rng)
    return {"everybody gains": broad, "a few gain": narrow}


def two(arms: Arms, *, rng: np.random.Generator, few: float = 0.005, errors: float = 4.0) -> tuple[Arms, Arms]:
    """Invent two launches with the same average gain on the control's own accounts: one broad, one of a few.

    The control is split in two by chance. In the first story everybody in the second half has a few per cent more, in
    the second story a few accounts, drawn by chance, have a great deal more. The gain is so many standard errors, so
    that a comparison of means finds it nearly always. An illustration: it says nothing about the launch.

    Args:
        arms: whose control is used.
        rng: splits the control and chooses the few.
        few: their share.
        errors: the gain, in standard errors of the difference of means.
    """
    order = rng.permutation(arms.n[0])
    one, other = order[: len(order) // 2], order[len(order) // 2 :]
    half = replace(
        arms,
        names=("one half", "the other half"),
        closed="",
        weights=None,
        strata=None,
        control=arms.control[one],
        treatment=arms.control[other],
        control_before=np.empty((len(one), 0)),
        treatment_before=np.empty((len(other), 0)),
    )
    base = estimators.mean(half)
    gain = errors * base.se if isinstance(base, Estimate) else 0.0
    average = float(half.treatment.mean()) if len(other) else 0.0
    broad = half.treatment * (1 + gain / average if average > 0 else 1.0)
    lucky = rng.permutation(len(other)) < max(round(few * len(other)), 1)
    heavy = half.treatment + np.where(lucky, gain / max(lucky.mean(), 1e-12) if len(other) else 0.0, 0.0)
    return replace(half, treatment=broad), replace(half, treatment=heavy)
