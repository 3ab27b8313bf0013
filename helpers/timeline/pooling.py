"""Several slices, one question: do they differ, what do they say together, and what does each say with help?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers.inference import holm
from helpers.results import Estimate, NotEstimable

if TYPE_CHECKING:
    import pandas as pd

_DIFFER = 0.1  # a test of heterogeneity among few slices has little power, so that it gets more than the usual 5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Slices read together.

    `mean` is the mean effect over slices like these (random effects, DerSimonian and Laird 1986, with the interval of
    Hartung and Knapp, never narrower than without their scale); `tau` the standard deviation of the true effects
    between slices. `q` and `p` are Cochran's test of whether they differ at all, `share` (I squared) the share of the
    spread that is not chance. `slices` has a row per slice with its own value, its p corrected over all of them (Holm),
    and what the value is when it borrows from the others.
    """

    mean: float
    low: float
    high: float
    tau: float
    q: float
    p: float
    share: float
    slices: pd.DataFrame

    @property
    def differ(self) -> bool:
        """Say whether the slices disagree so much that one number for all of them should not be the headline."""
        return self.p < _DIFFER


def pool(estimates: Sequence[Estimate | NotEstimable], *, level: float = 0.95) -> Pooled | NotEstimable:
    """Pool independent estimates of one metric, one for each of several disjoint slices; see `pool_values`."""
    known = [e for e in estimates if isinstance(e, Estimate)]
    if len(known) < 2:
        reason = next((e.reason for e in estimates if isinstance(e, NotEstimable)), "there is one slice only")
        metric = estimates[0].metric if estimates else "slices"
        return NotEstimable(metric=metric, reason=f"slices cannot be compared: {reason}")
    return pool_values(
        [e.diff for e in known],
        [e.se for e in known],
        names=[", ".join(map(str, e.slice.values())) or "all" for e in known],
        accounts=[e.n_control + e.n_treatment for e in known],
        p=[e.p for e in known],
        level=level,
    )


def pool_values(
    values: Sequence[float],
    se: Sequence[float],
    *,
    names: Sequence[str],
    accounts: Sequence[int],
    p: Sequence[float],
    level: float = 0.95,
) -> Pooled:
    """Pool independent values with their standard errors: heterogeneity, the mean, and each with the others' help.

    A slice that borrows moves towards the mean of all, the more the less it knows by itself. It is the number to quote
    for a slice that was picked because it looked best; it is no proof that the slices are alike.

    Args:
        values: at least two, of disjoint slices.
        se: above 0.
        names: of the slices.
        accounts: in each slice.
        p: two-sided, of each slice's own question; they are corrected together (Holm).
        level: of all intervals.

    >>> found = pool_values([0.1, 0.5, 0.9], [0.1] * 3, names=["a", "b", "c"], accounts=[9, 9, 9], p=[0.3, 0.01, 0.01])
    >>> round(found.q, 1), round(found.tau, 3), round(found.mean, 2)
    (32.0, 0.387, 0.5)
    """
    import pandas as pd

    y, v = np.asarray(values, dtype=np.float64), np.asarray(se, dtype=np.float64) ** 2
    fixed, rest = 1 / v, len(y) - 1
    q = float(fixed @ (y - fixed @ y / fixed.sum()) ** 2)
    tau2 = max((q - rest) / float(fixed.sum() - (fixed**2).sum() / fixed.sum()), 0.0)
    weight = 1 / (v + tau2)
    total, mean = float(weight.sum()), float(weight @ y / weight.sum())
    wide = stats.t.isf((1 - level) / 2, rest) * math.sqrt(max(float(weight @ (y - mean) ** 2) / rest, 1.0) / total)
    own = v / (v + tau2)  # how far each moves towards the mean
    shrunk = y + own * (mean - y)
    z = stats.norm.isf((1 - level) / 2)
    half = z * np.sqrt((1 - own) * v + own**2 / total)
    frame = pd.DataFrame(
        {
            "slice": list(names),
            "accounts": list(accounts),
            "value": y,
            "low": y - z * np.sqrt(v),
            "high": y + z * np.sqrt(v),
            "p_adjusted": holm(p),
            "pooled": shrunk,
            "pooled_low": shrunk - half,
            "pooled_high": shrunk + half,
        }
    )
    return Pooled(
        mean=mean,
        low=mean - wide,
        high=mean + wide,
        tau=math.sqrt(tau2),
        q=q,
        p=float(stats.chi2.sf(q, rest)),
        share=max(0.0, 1 - rest / q) if q > 0 else 0.0,
        slices=frame,
    )


def slices(found: Pooled | NotEstimable) -> pd.DataFrame:
    """Lay the slices out, one row each; no rows where they could not be pooled."""
    import pandas as pd

    columns = ["slice", "accounts", "value", "low", "high", "p_adjusted", "pooled", "pooled_low", "pooled_high"]
    return pd.DataFrame(columns=columns) if isinstance(found, NotEstimable) else found.slices
