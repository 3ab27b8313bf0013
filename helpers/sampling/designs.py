"""What a design costs and gives: effective sample size, standard errors, and which one the objective asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from helpers.errors import ParameterError
from helpers.sampling.allocation import Design, allocate

Objective = Literal["population", "target_audience", "both"]
KEPT = 0.8  # of the accounts, in effect, that a design for two objectives leaves to the population's estimate


def kish(weights: np.ndarray | pd.Series) -> float:
    """Find the effective sample size of weighted accounts, (Σw)² / Σw² (Kish 1965, sec. 11.7).

    It is what a mean loses when weights have nothing to do with the outcome. A stratified mean can be better than it.

    Raises:
        ParameterError: there are no weights, or one is not above 0 and finite.

    >>> round(kish(np.repeat([0.36, 1.8], [5_556, 4_444])))
    6614
    """
    w = np.asarray(weights, float)
    if not w.size or not (np.isfinite(w) & (w > 0)).all():
        raise ParameterError("an effective sample size needs weights that are all above 0 and finite")
    return float(w.sum() ** 2 / (w**2).sum())


def effective_n(sizes: pd.Series, n: pd.Series) -> float:
    """Find Kish's effective sample size of an allocation: every account of a stratum weighs size / n."""
    used = n > 0
    return kish(np.repeat((sizes / n)[used], n[used]))


def design_effect(sizes: pd.Series, n: pd.Series) -> float:
    """Find by what unequal weights multiply the variance of a mean: n over Kish's effective n, 1 in proportion."""
    return float(n.sum()) / effective_n(sizes, n)


def standard_error(sizes: pd.Series, spread: pd.Series, n: pd.Series) -> float:
    """Find the standard error of the weighted mean of a stratified draw without replacement.

    Args:
        sizes: accounts by stratum.
        spread: standard deviation of the outcome within each (ddof = 1).
        n: accounts drawn in each, at least 1.

    Returns:
        sqrt(Σ W² (1 − n/N) S² / n) (Cochran 1977, eq. 5.12).

    Raises:
        ParameterError: a stratum with accounts has none drawn: nothing is known about it.
    """
    there = sizes > 0
    if (n[there] < 1).any():
        raise ParameterError(f"no account is drawn from {sizes.index[there & (n < 1)][0]!r}, so its mean is not known")
    share = sizes / sizes.sum()
    parts = (share**2 * (1 - n / sizes) * spread**2 / n)[there]
    return float(np.sqrt(parts.sum()))


def compare(cells: pd.DataFrame, n: int, *, factor: float = 5.0, level: float = 0.95) -> pd.DataFrame:
    """Compare designs for a show with an audience: whom they find, and how wide the intervals get.

    Args:
        cells: size, mean and variance (ddof = 0) of a number from before the launch, and audience (is this stratum
            part of it?), one row per stratum.
        n: accounts to draw.
        factor: by which the last design raises the audience's share.
        level: of the intervals.

    Returns:
        design, audience (its accounts in the sample), population_width and audience_width (half the interval of the
        mean of that number, finite population correction included), n_eff. The widths are those of a past number:
        those of the launch's own outcomes are as good or bad as that number resembles them.
    """
    size, audience = cells["size"], cells["audience"].astype(bool)
    spread = pd.Series(np.sqrt(cells["variance"] * size / (size - 1).clip(lower=1)), index=size.index)
    z = stats.norm.isf((1 - level) / 2)
    allocations = {
        "simple random": None,
        "in proportion": allocate(size, n),
        "Neyman": allocate(size, n, scores=size * spread),
        f"audience × {factor:g}": allocate(size, n, scores=size * np.where(audience, factor, 1.0)),
    }
    rows: list[tuple[object, ...]] = []
    for name, drawn in allocations.items():
        if drawn is None:  # the audience's accounts are then as many as chance gives: their expected number
            found, left = n * float(size[audience].sum() / size.sum()), 1 - n / float(size.sum())
            errors = [np.sqrt(left * _pooled(part) / m) for part, m in ((cells, n), (cells[audience], found))]
            rows.append((name, found, *errors, float(n)))
        else:
            errors = [
                standard_error(size[part], spread[part], drawn[part]) for part in (size.index, size.index[audience])
            ]
            rows.append((name, float(drawn[audience].sum()), *errors, effective_n(size, drawn)))
    table = pd.DataFrame(rows, columns=["design", "audience", "population_width", "audience_width", "n_eff"])
    return table.assign(population_width=z * table["population_width"], audience_width=z * table["audience_width"])


def _pooled(cells: pd.DataFrame) -> float:
    """Find the variance (ddof = 1) over all accounts of these strata."""
    size = cells["size"].sum()
    mean = (cells["size"] * cells["mean"]).sum() / size
    square = (cells["size"] * (cells["variance"] + (cells["mean"] - mean) ** 2)).sum()
    return float(square / max(size - 1, 1))


def control_gain(treated: int, control: int) -> float:
    """Find by what a control of another size multiplies the standard error of a difference, against arms of one size.

    The outcome is taken to vary as much in both arms.

    >>> round(control_gain(10_000, 100_000), 3), control_gain(10_000, 10_000)
    (0.742, 1.0)
    """
    if min(treated, control) < 1:
        raise ParameterError(
            f"arms of {treated:,} and {control:,} accounts cannot be compared; each needs at least one"
        )
    return float(np.sqrt((1 / treated + 1 / control) / (2 / treated)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The design that an objective asks for, and why, in words."""

    name: str
    design: Design
    reason: str


def recommend(objective: Objective, *, n: int, audience: str = "", share: float | None = None) -> Recommendation:
    """Choose the design for an objective.

    Args:
        objective: is the question about everybody, about the audience that the launch is made for, or about both?
        n: accounts of the arm.
        audience: the level that it is made for, as 'engagement=heavy'; empty where nobody has said.
        share: its share of the eligible accounts, above 0 and below 1.

    Returns:
        Everybody: in proportion, all weights equal. The audience: oversampled until it makes up half of the arm, the
        other half left to harm and to comparison. Both: oversampled as far as the effective sample size for the
        population stays at 80 % of the accounts.

    Raises:
        ParameterError: the objective is not one of the three, or the share is not between 0 and 1.

    >>> recommend("both", n=10_000, audience="engagement=heavy", share=0.2).design.oversample
    {'engagement=heavy': 3}
    """
    proportional = Design()
    if objective == "population":
        reason = (
            "The question is about everybody: every account has nearly the same chance and weighs the same, so all "
            f"{n:,} accounts count in full, and no stratum is left short by accident."
        )
        return Recommendation(name="in proportion", design=proportional, reason=reason)
    if objective not in ("target_audience", "both"):
        raise ParameterError(f"objective is {objective!r}; valid: both, population, target_audience")
    if not audience or share is None:
        reason = (
            "The question is about an audience, but nobody has said which one; until then every account has the same "
            "chance. Name it as a level, such as 'engagement=heavy'."
        )
        return Recommendation(name="in proportion", design=proportional, reason=reason)
    if not 0 < share < 1:
        raise ParameterError(f"the audience's share is {share}, must be between 0 and 1")
    random = f"A random draw would hold {n * share:,.0f} accounts of {audience}, {share:.0%} of {n:,}"
    half = max(1, round((1 - share) / share))
    kept = [f for f in range(1, 101) if 1 / ((share * f + 1 - share) * (share / f + 1 - share)) >= KEPT]
    factor = half if objective == "target_audience" else min(max(kept), half)
    if factor == 1:
        reason = f"{random}: enough for it, so everybody is drawn with the same chance."
        return Recommendation(name="in proportion", design=proportional, reason=reason)
    found = n * share * factor / (share * factor + 1 - share)
    n_eff = n / ((share * factor + 1 - share) * (share / factor + 1 - share))
    aim = "Oversampled until it is about half" if objective == "target_audience" else "For both questions, oversampled"
    reason = (
        f"{random}. {aim}, {factor} times, it holds {found:,.0f}; weighted back, the whole arm says as much about "
        f"everybody as {n_eff:,.0f} accounts drawn in proportion."
    )
    return Recommendation(name=f"{audience} × {factor}", design=Design(oversample={audience: factor}), reason=reason)
