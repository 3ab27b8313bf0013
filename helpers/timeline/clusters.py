"""Where errors go together: one coefficient in several models, with clustered errors, and by the wild bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize

from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.inference.regression import design, regress

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

FEW = 12  # clusters below which two signs give too few bootstrap samples, and Webb's six weights are used
_WEBB = tuple(sign * np.sqrt(k / 2) for sign in (-1, 1) for k in (1, 2, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wild:
    """A coefficient by the wild cluster bootstrap; an end of its interval is None where it goes on without end."""

    value: float
    p: float
    low: float | None
    high: float | None
    clusters: int
    draws: int
    weights: str


def in_models(
    y: Sequence[float] | Floats,
    models: Mapping[str, Mapping[str, Sequence[float] | Floats]],
    term: str,
    *,
    level: float = 0.95,
) -> pd.DataFrame:
    """Set one term's coefficient beside itself in several models: model, value, se, low, high, p."""
    import pandas as pd

    found = {name: regress(y, x, level=level) for name, x in models.items()}
    rows = [frame[frame["term"] == term].assign(term=name) for name, frame in found.items()]
    return pd.concat(rows, ignore_index=True).rename(columns={"term": "model"})


def wild(
    y: Sequence[float] | Floats,
    x: Mapping[str, Sequence[float] | Floats],
    term: str,
    clusters: Sequence[Any] | npt.NDArray[Any],
    *,
    rng: np.random.Generator,
    draws: int = 9_999,
    level: float = 0.95,
    ends: bool = True,
) -> Wild:
    """Test and bound one coefficient by the wild cluster bootstrap with the null imposed.

    Residuals of whole clusters are turned over together (Cameron, Gelbach and Miller 2008): by signs (Rademacher), or
    by Webb's (2023) six weights where there are fewer than 12 clusters. Where all combinations are fewer than `draws`,
    each is used once. The interval holds every value that the test does not reject; without `ends` it is not looked
    for, and both are None. With very few clusters the p cannot become small, whatever the data: that is the point.
    Where only one or two clusters were treated it is not to be trusted either.

    Raises:
        ParameterError: `term` is no column of `x`.
        DataError: there are fewer than 2 clusters, or a column repeats others.
    """
    if term not in x:
        raise ParameterError(f"no column {term!r}; {did_you_mean(term, x)}")
    names, code = np.unique(np.asarray(clusters), return_inverse=True)
    groups = len(names)
    if groups < 2:
        raise DataError("there is one cluster only; errors that go together need at least two")
    columns, outcome = design(x), np.asarray(y, dtype=np.float64)
    at = 1 + list(x).index(term)
    others = np.delete(columns, at, axis=1)

    def left(values: Floats, by: Floats) -> Floats:
        rest: Floats = values - by @ np.linalg.lstsq(by, values, rcond=None)[0]
        return rest

    own = left(columns[:, at], others)
    member = np.eye(groups)[code]
    inverse = np.linalg.inv(columns.T @ columns)
    towards = (member * own[:, None]).T @ columns @ inverse

    def pieces(residual: Floats) -> tuple[Floats, Floats]:
        each = member * residual[:, None]
        score = own @ each
        return score, np.diag(score) - towards @ (columns.T @ each)

    of_y, of_x = pieces(left(outcome, others)), pieces(own)
    few = groups < FEW
    choices = _WEBB if few else (-1.0, 1.0)
    if len(choices) ** groups <= draws:
        v = np.array(list(product(choices, repeat=groups))).T
    else:
        v = rng.choice(choices, (groups, draws))
    value = float(own @ outcome) / float(own @ own)
    residual = left(outcome, columns)
    spread, total = float(np.sqrt(((own @ (member * residual[:, None])) ** 2).sum())), float(own @ own)

    def p_at(null: float) -> float:
        score, each = of_y[0] - null * of_x[0], of_y[1] - null * of_x[1]
        t = abs(value - null) * total / spread
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = np.abs(score @ v) / np.sqrt(((each @ v) ** 2).sum(axis=0))
        return float((np.nan_to_num(drawn, nan=0.0) >= t * (1 - 1e-9)).mean())

    low, high = (_end(p_at, value, side * spread / total, 1 - level) if ends else None for side in (-1, 1))
    return Wild(
        value=value, p=p_at(0.0), low=low, high=high,
        clusters=groups, draws=v.shape[1], weights="Webb" if few else "Rademacher",
    )  # fmt: skip


def _end(p_at: Any, value: float, step: float, alpha: float) -> float | None:
    """Walk away from the estimate until the test rejects, and find where it begins to; None where it never does."""
    for power in range(12):
        far = value + step * 2.0**power
        if p_at(far) < alpha:
            return float(optimize.bisect(lambda null: p_at(null) - alpha, value, far, xtol=abs(step) * 1e-4))
    return None
