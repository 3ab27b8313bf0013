"""The design: how arms are drawn and answers read, and what clusters, weights, strata and larger controls change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from helpers.errors import ParameterError
from helpers.results import Aim


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How the arms are drawn and how the answer will be read.

    `alpha` and `sides`: with 2, the two-sided interval at 1 - alpha is read, so that every claim errs with alpha / 2;
    with 1, a single limit is read and errs with alpha. `power` is the chance that is asked for. `controls` is the
    number of control accounts for each treated one. `explained` is the share of the variance that covariates from
    before take out (rho squared). `attrition` is the share of accounts that will be lost. `design_effect` multiplies
    the variance: that of clusters, weights and strata, multiplied (see the functions below). `inflation` is what
    looking early costs: the accounts of the sequential design over those of a single look.

    Alpha is divided by the number of `successes`, any of which would count (Bonferroni; Holm needs no more accounts).
    `guardrails` is the number of margins that must all be kept at once: each gets the power
    1 - (1 - power) / guardrails, its alpha stays. Where a success must come with them, count it too (Schultzberg,
    Ankargren and Frånberg 2024).

    Raises:
        ParameterError: a number is out of range; name, value and bound are said.

    >>> Design(guardrails=5).chance("non-inferiority")
    0.96
    """

    alpha: float = 0.05
    sides: Literal[1, 2] = 2
    power: float = 0.8
    controls: float = 1.0
    explained: float = 0.0
    attrition: float = 0.0
    design_effect: float = 1.0
    inflation: float = 1.0
    successes: int = 1
    guardrails: int = 1

    def __post_init__(self) -> None:
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name):g}, must lie between 0 and 1")
        if self.sides not in (1, 2):
            raise ParameterError(f"sides is {self.sides!r}, must be 1 or 2")
        if not self.alpha / self.sides < self.power:
            raise ParameterError(
                f"power is {self.power:g}, must be above {self.alpha / self.sides:g}: a test finds so much by chance"
            )
        for name in ("explained", "attrition"):
            if not 0 <= getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name):g}, must be at least 0 and below 1")
        for name in ("controls", "design_effect"):
            if not 0 < getattr(self, name) < math.inf:
                raise ParameterError(f"{name} is {getattr(self, name):g}, must be above 0")
        if not 1 <= self.inflation < math.inf:
            raise ParameterError(f"inflation is {self.inflation:g}, must be at least 1: looking early costs accounts")
        for name in ("successes", "guardrails"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}, must be at least 1")

    def tail(self, aim: Aim) -> float:
        """Give the error rate of one tail of one test."""
        return self.alpha / self.sides / (self.successes if aim == "superiority" else 1)

    def chance(self, aim: Aim) -> float:
        """Give the power that one test needs."""
        return self.power if aim == "superiority" else 1 - (1 - self.power) / self.guardrails

    @property
    def variance(self) -> float:
        """Say by what the variance of a simple comparison of all assigned accounts is multiplied."""
        return self.design_effect * self.inflation * (1 - self.explained) / (1 - self.attrition)


STANDARD = Design()


def arm_count_shift(n: int, *, planned: float = 0.5, alpha: float = 0.001, power: float = 0.8) -> float:
    """Say by how much an arm's share of all accounts must differ from the plan for the arm-count check to notice.

    >>> round(arm_count_shift(20_000), 4)
    0.0146
    """
    spread = math.sqrt(planned * (1 - planned) / n)
    return float((special.ndtri(1 - alpha / 2) + special.ndtri(power)) * spread)


def error_gain(controls: float) -> float:
    """Say by what the standard error is multiplied when each treated account has so many controls instead of one.

    >>> round(error_gain(10), 2)
    0.74
    """
    if not controls > 0:
        raise ParameterError(f"controls is {controls:g}, must be above 0")
    return math.sqrt((1 + 1 / controls) / 2)


def cluster_effect(size: float, icc: float, *, cv: float = 0.0) -> float:
    """Give the design effect of drawing whole clusters (households, markets): 1 + ((1 + cv^2) size - 1) icc.

    `size` is the mean cluster size, `cv` its coefficient of variation (Eldridge, Ashby and Kerry 2006), `icc` the
    correlation of two members. With fewer than about forty clusters the answer is too hopeful.

    >>> round(cluster_effect(20, 0.05), 9)
    1.95
    """
    if not size >= 1 or not 0 <= icc <= 1 or not cv >= 0:
        raise ParameterError(f"size {size:g} must be at least 1, icc {icc:g} between 0 and 1, cv {cv:g} at least 0")
    return 1 + ((1 + cv**2) * size - 1) * icc


def kish_effect(weights: Sequence[float]) -> float:
    """Give the design effect of unequal weights that are unrelated to the outcome: n sum w^2 / (sum w)^2 (Kish 1965).

    >>> kish_effect([1, 1, 1, 1])
    1.0
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.size == 0 or not (w >= 0).all() or not 0 < w.sum() < math.inf:
        raise ParameterError("weights must be finite, not negative, and some above 0")
    return float(w.size * (w**2).sum() / w.sum() ** 2)


def stratified_effect(
    *, shares: Sequence[float], means: Sequence[float], sds: Sequence[float], drawn: Sequence[float] | None = None
) -> float:
    """Give the design effect of a stratified draw with weights: its variance over that of a simple random one.

    Args:
        shares: of the population, by stratum; they sum to 1.
        means: of the outcome, by stratum.
        sds: likewise.
        drawn: shares of the draw; those of the population where not given (Cochran 1977, ch. 5).

    >>> stratified_effect(shares=[0.5, 0.5], means=[0, 2], sds=[1, 1])
    0.5
    """
    w, m, s, a = (np.asarray(x, dtype=np.float64) for x in (shares, means, sds, shares if drawn is None else drawn))
    for name, x in (("shares", w), ("drawn", a)):
        if not (x > 0).all() or not math.isclose(x.sum(), 1, rel_tol=1e-6):
            raise ParameterError(f"{name} must be above 0 and sum to 1, got {x.tolist()}")
    total = w @ s**2 + w @ (m - w @ m) ** 2
    if not total > 0:
        raise ParameterError("the outcome does not vary: all sds are 0 and all means alike")
    return float((w**2 * s**2 / a).sum() / total)
