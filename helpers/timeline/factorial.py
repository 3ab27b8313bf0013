"""Two things at once, each with and without: the effect of either, and whether one changes the other's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers.errors import ParameterError
from helpers.results import Estimate

if TYPE_CHECKING:
    import pandas as pd


def two_by_two(
    rows: pd.DataFrame, *, factors: tuple[str, str], outcome: str, level: float = 0.95, power: float = 0.8
) -> list[Estimate]:
    """Estimate both main effects and the interaction of a 2x2 factorial experiment.

    Each main effect is the mean of the factor's effects with and without the other; the interaction is by how much the
    first factor's effect is larger with the second. Welch's t over the four cells. The interaction's error is twice
    that of a main effect: to find one of the same size takes four times the accounts.

    Args:
        rows: a row per account, with both factors (true or false, drawn independently of one another) and the outcome.
        factors: the two columns.
        outcome: the column of the outcome.
        level: of the intervals.
        power: with which `mde` would be found.

    Raises:
        ParameterError: a cell holds fewer than two accounts.

    >>> import pandas as pd
    >>> y = [1.0, 3, 2, 4, 2, 4, 6, 8]
    >>> cells = pd.DataFrame({"show": [0, 0, 0, 0, 1, 1, 1, 1], "ad": [0, 0, 1, 1, 0, 0, 1, 1], "y": y})
    >>> [e.diff for e in two_by_two(cells, factors=("show", "ad"), outcome="y")]
    [2.5, 2.5, 3.0]
    """
    one, other = factors
    groups = rows.groupby([rows[one].astype(bool), rows[other].astype(bool)])[outcome].agg(["mean", "var", "count"])
    if len(groups) < 4 or groups["count"].min() < 2:
        raise ParameterError(f"{one} and {other} must occur with and without one another, each in two accounts or more")
    mean, variance, n = (groups[c].to_numpy(dtype=float) for c in ("mean", "var", "count"))  # 00, 01, 10, 11
    weights = {one: [-0.5, -0.5, 0.5, 0.5], other: [-0.5, 0.5, -0.5, 0.5], f"{one} x {other}": [1.0, -1.0, -1.0, 1.0]}
    return [_estimate(name, np.array(w), mean, variance, n, level, power) for name, w in weights.items()]


def _estimate(
    name: str, w: np.ndarray, mean: np.ndarray, variance: np.ndarray, n: np.ndarray, level: float, power: float
) -> Estimate:
    parts = w**2 * variance / n
    se, df = float(np.sqrt(parts.sum())), float(parts.sum() ** 2 / (parts**2 / (n - 1)).sum())
    with_, without = float(np.maximum(w, 0) @ mean), float(np.maximum(-w, 0) @ mean)
    half = float(stats.t.isf((1 - level) / 2, df)) * se
    return Estimate(
        metric=name,
        control=without,
        treatment=with_,
        diff=with_ - without,
        se=se,
        low=with_ - without - half,
        high=with_ - without + half,
        rel=None,
        rel_low=None,
        rel_high=None,
        p=float(2 * stats.t.sf(abs(with_ - without) / se, df)),
        n_control=int(n[w < 0].sum()),
        n_treatment=int(n[w > 0].sum()),
        method="Welch t over the four cells",
        mde=float((stats.norm.isf((1 - level) / 2) + stats.norm.ppf(power)) * se),
        level=level,
        note="in the outcome's own unit",
    )


def differences(estimates: Sequence[Estimate], planted: Sequence[float]) -> pd.DataFrame:
    """Set estimates beside what was planted: metric, diff, low, high, planted, covered."""
    import pandas as pd

    frame = pd.DataFrame(
        [{"effect": e.metric, "diff": e.diff, "low": e.low, "high": e.high, "mde": e.mde} for e in estimates]
    ).assign(planted=list(planted))
    return frame.assign(covered=frame["planted"].between(frame["low"], frame["high"]))
