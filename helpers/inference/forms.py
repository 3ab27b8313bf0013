"""What a metric reads from Moments: a mean, a weighted mean or a ratio, and what sharpens it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from helpers.errors import ParameterError
from helpers.metrics import Metric, Window
from helpers.moments import WEIGHT

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]

UNTOLD = {
    "quantile": "a quantile needs the accounts' own values, not their means and covariances",
    "time_to_event": "accounts were censored: the difference comes from survival curves, not from means",
    "gini": "a Gini coefficient describes an arm as a whole and needs what its accounts add to each item",
    "coverage": "coverage describes an arm as a whole and needs the items that its accounts reach",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A number that Moments can tell: `scale` times the mean of one column, or the ratio of two columns' means."""

    numerator: str
    denominator: str | None = None
    scale: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """List the columns that it reads."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)

    def read(self, moments: Moments) -> tuple[Floats, Floats]:
        """Give its value (g,) and its gradient (g, k) by the column means, so that its variance is w' cov w / n.

        For a ratio this is the delta method: Deng, Knoblich and Lu (2018), sec. 3. A denominator of 0 gives NaN.

        >>> import pandas as pd
        >>> from helpers import moments
        >>> m = moments.from_rows(pd.DataFrame({"plays": [1, 3], "sessions": [2, 2]}), columns=["plays", "sessions"])
        >>> Form(numerator="plays", denominator="sessions").read(m)
        (array([1.]), array([[ 0.5, -0.5]]))
        """
        weights = np.zeros_like(moments.mean)
        at = [moments.columns.index(c) for c in self.columns]
        top = self.scale * moments.mean[:, at[0]]
        if self.denominator is None:
            weights[:, at[0]] = self.scale
            return top, weights
        bottom = np.where(moments.mean[:, at[1]] == 0, np.nan, moments.mean[:, at[1]])
        weights[:, at[0]] = self.scale / bottom
        weights[:, at[1]] -= top / bottom**2
        return top / bottom, weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """What each account adds to a comparison: a weighted sum of its columns, control first.

    `value` (2,) and `variance` (2,) are those of the estimate, whose squared error is the sum of variance / n; `centre`
    and `spread` (2,) are mean and standard deviation (over n) of the sum with `weights` (2, k) over the accounts as
    they are.
    """

    columns: tuple[str, ...]
    weighted: bool
    weights: Floats
    n: Floats
    value: Floats
    variance: Floats
    centre: Floats
    spread: Floats


def form(metric: Metric, days: int, window: Window = "post", *, weighted: bool = False) -> Form:
    """Say how a mean, proportion, count or ratio metric is read from Moments over a window of so many days.

    A weighted mean is the ratio of the weighted sum to the sum of the weights.

    >>> from helpers import metrics
    >>> form(metrics.get("opens_per_account_week"), days=28)
    Form(numerator='sessions_count', denominator=None, scale=0.25)
    """
    scale = metric.numerator.scale * (7 / days if metric.per_week else 1.0)
    if metric.denominator is None:
        denominator = WEIGHT if weighted else None
        return Form(numerator=metric.column(metric.numerator, window), denominator=denominator, scale=scale)
    return Form(
        numerator=metric.column(metric.numerator, window),
        denominator=metric.column(metric.denominator, window),
        scale=scale / metric.denominator.scale,
    )


def covariates(metric: Metric, pre_days: int = 7, *, weighted: bool = False) -> tuple[Form, ...]:
    """List what was measured before the assignment and may sharpen the estimate; the scale does not matter for that.

    A metric that is a ready-made column of the units table has no pre-period of its own, so "own" gives none.

    Raises:
        ParameterError: a covariate is one of the metric's own columns after assignment.
    """
    if metric.covariates == "own":
        ready_made = any(m.agg == "value" for m in metric.measures)
        return () if ready_made else (form(metric, pre_days, "pre", weighted=weighted),)
    per = WEIGHT if weighted else None
    forms = tuple(Form(numerator=m.name("pre"), denominator=per, scale=m.scale) for m in metric.covariates)
    for f in forms:
        if f.numerator in (metric.column(m) for m in metric.measures):
            raise ParameterError(
                f"covariate {f.numerator!r} of {metric.name} is the outcome itself; name one from before"
            )
    return forms


def needed(
    metric: Metric, *, adjust: bool, weighted: bool = False
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Name the columns, and the pairs of them whose covariances Moments must hold, before `compare` is called.

    >>> from helpers import metrics
    >>> needed(metrics.get("hours_per_account_week"), adjust=True)[0]
    ('plays_sum_watch_minutes', 'plays_sum_watch_minutes_pre')
    """
    before = covariates(metric, weighted=weighted) if adjust else ()
    read = [c for f in (form(metric, days=7, weighted=weighted), *before) for c in f.columns]
    columns = tuple(dict.fromkeys([*read, WEIGHT] if weighted else read))
    return columns, tuple(combinations_with_replacement(columns, 2))
