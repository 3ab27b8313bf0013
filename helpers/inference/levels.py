"""Effects in the levels of an attribute: which may be held against one another, and whether they differ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers.results import Estimate, NotEstimable, with_width

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ROUNDING = 1e-9  # by which two errors of equal arms may differ
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


def compared(answers: Iterable[Estimate | NotEstimable]) -> list[Estimate | NotEstimable]:
    """Put a reason in the place of levels that cannot be held against the others: few accounts in an arm, no error."""
    return [
        NotEstimable(
            metric=e.metric,
            slice=e.slice,
            n_control=e.n_control,
            n_treatment=e.n_treatment,
            reason=f"an arm has {few} accounts here, and groups are compared from {FEWEST_ACCOUNTS} on",
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
