"""Effects in the levels of an attribute: which may be held against one another, and whether they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers.results import Estimate, NotEstimable, counted, with_width

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]

ROUNDING = 1e-9  # by which two errors of equal arms may differ
FEW_CARRIERS = 100  # of a ratio's denominator, or of the weight, in an arm
FEWEST_ACCOUNTS = 20  # in each arm of a level: of fewer, the error is itself too uncertain to weigh the level by


def larger(variance: Floats, n: Floats) -> Floats:
    """Give the arms' own variances, as in Welch's test, or where their error is larger, Student's of both arms.

    In a level with few accounts the smaller arm may happen to lack the rare event or the long tail. Its mean then is
    off and its variance too small at once, so that Welch's test errs too often on this side, and weights by the error
    trust that level most. Both arms together know better what an account varies by; where the smaller arm does vary
    more, its own variance stays. With equally many accounts both errors are the same (Student 1908; Welch 1938).

    Args:
        variance: of an account (2, g).
        n: accounts (2, g).

    >>> larger(np.array([[1.0], [0.0]]), np.array([[301.0], [101.0]])).T  # (300 * 1 + 100 * 0) / 400
    array([[0.75, 0.75]])
    >>> larger(np.array([[1.0], [4.0]]), np.array([[301.0], [101.0]])).T
    array([[1., 4.]])
    """
    both = ((n - 1) * variance).sum(axis=0) / (n.sum(axis=0) - 2)
    student, welch = both * (1 / n).sum(axis=0), (variance / n).sum(axis=0)
    return np.where(student > (1 + ROUNDING) * welch, both, variance)


def error(
    variance: Floats, arms: Sequence[Moments], denominator: str | None
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Give the variances by which small arms are compared, the accounts that they rest on, and whether both share one.

    Means rest on all accounts, with the `larger` error. Where one account in thirty answers a survey, a score rests on
    those who did: the delta method divides by all accounts less one, and its t has their degrees of freedom. With three
    answers in either arm it called a quarter of launches without effect different. What counts is m = (sum d)^2 / sum
    d^2 (Kish 1965, with denominators in the place of weights); where d is 0 or 1, the test is that of those who have 1.
    Weighted means are ratios to the weight. From 100 on in both arms the error differs by half a per cent at most, and
    stays as the delta method has it.

    Args:
        variance: of an account, or of its part in the ratio by the delta method (2, g).
        arms: control and treatment, as they came into the arms.
        denominator: the column of a ratio's denominator, or of the weights; None for plain means. What is over clusters
            rests on these.

    Returns:
        The variance (2, g) and the number it is divided by (2, g) for the squared error; and who is alike (g,).
    """
    n = np.array([a.n for a in arms])
    if denominator is None or arms[0].held is not None:
        used = larger(variance, n)
        return used, n, (used != variance).any(axis=0)
    return resting(variance, n, np.array([carriers(a, denominator) for a in arms]))


def resting(variance: Floats, n: Floats, m: Floats) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Give what `error` gives, from the accounts (2, g) and those who carry a denominator or weight (2, g)."""
    few = m.min(axis=0) < FEW_CARRIERS
    with np.errstate(divide="ignore", invalid="ignore"):  # of fewer than 2 nothing is known; `obstacles` says so
        own = variance * m / n * np.where(few, (n - 1) / n * m / (m - 1), 1)
        used = larger(own, m)
    alike = (used != own).any(axis=0)
    return np.where(few | alike, used, variance), np.where(few | alike, m, n), alike


def carriers(arm: Moments, denominator: str) -> Floats:
    """Count the accounts that carry a denominator (g,): equal ones as 1, others as (sum d)^2 / sum d^2.

    >>> import pandas as pd
    >>> from helpers import moments
    >>> answers = pd.DataFrame({"answers": [1.0] * 3 + [0.0] * 97})
    >>> carriers(moments.from_rows(answers, columns=["answers"]), "answers").round(9)
    array([3.])
    """
    at = arm.columns.index(denominator)
    square = arm.mean[:, at] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):  # where nobody has any
        return np.asarray(arm.n * square / (square + arm.scatter[:, at, at] / arm.n))


def compared(answers: Iterable[Estimate | NotEstimable]) -> list[Estimate | NotEstimable]:
    """Put a reason in the place of levels that cannot be held against the others: few accounts in an arm, no error."""
    return [
        NotEstimable(
            metric=e.metric,
            slice=e.slice,
            n_control=e.n_control,
            n_treatment=e.n_treatment,
            reason=f"an arm has {counted(few)} here, and groups are compared from {FEWEST_ACCOUNTS} on",
        )
        if isinstance(e, Estimate) and (few := min(e.n_control, e.n_treatment)) < FEWEST_ACCOUNTS
        else with_width(e)
        for e in answers
    ]


def differ(answers: Iterable[Estimate | NotEstimable]) -> float | None:
    """Test whether effects differ between levels by more than chance; None from one level.

    Welch's (1951, Biometrika 38:330) F for means with unequal variances, each effect in the place of a mean: the
    squares that Cochran (1954) adds up, made smaller and held against F, because the errors are estimated. The degrees
    of freedom of an effect are Satterthwaite's for arms whose accounts vary alike.

    Returns:
        p. It says nothing about how alike the effects are.

    >>> differ([]) is None
    True
    """
    read = [e for e in answers if isinstance(e, Estimate)]
    k = len(read)
    if k < 2:
        return None
    y, weight = np.array([e.diff for e in read]), np.array([e.se for e in read]) ** -2.0
    n = np.array([[e.n_control, e.n_treatment] for e in read], dtype=float)
    df = (1 / n).sum(axis=1) ** 2 / (1 / (n**2 * np.maximum(n - 1, 1))).sum(axis=1)
    q = (weight * (y - weight @ y / weight.sum()) ** 2).sum()
    spread = ((1 - weight / weight.sum()) ** 2 / df).sum() / (k**2 - 1)
    return float(stats.f.sf(q / (k - 1) / (1 + 2 * (k - 2) * spread), k - 1, 1 / (3 * spread)))
