"""Regression where errors go together: robust and clustered errors, and the wild bootstrap for few clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import statsmodels.api as sm
from scipy import optimize, stats

from helpers.errors import DataError, ParameterError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

Errors = Literal["classic", "HC0", "HC1", "HC2", "HC3", "cluster"]
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


def regress(
    y: Sequence[float] | Floats,
    x: Mapping[str, Sequence[float] | Floats],
    *,
    errors: Errors = "HC2",
    clusters: Sequence[Any] | npt.NDArray[Any] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Regress an outcome on columns and a constant by least squares (statsmodels).

    `cluster` is CR1 (Liang and Zeger 1986), with t of one degree of freedom less than there are clusters; two columns
    of clusters give two-way errors (Cameron, Gelbach and Miller 2011). With fewer than about forty clusters they are
    too small; see `wild`. A coefficient is an effect only of what was drawn by chance, and only if nothing in `x`
    follows it.

    Args:
        y: (n,).
        x: named columns (n,), without the constant.
        errors: which standard errors.
        clusters: (n,) or (n, 2) labels, for `cluster` alone.
        level: of the intervals.

    Returns:
        A row per term: term, value, se, low, high, p.

    Raises:
        DataError: a column repeats others, so that its coefficient is not determined.
        ParameterError: the kind of errors is not known, or clusters are missing.
    """
    import pandas as pd

    if errors not in get_args(Errors):
        raise ParameterError(f"errors is {errors!r}; {did_you_mean(errors, get_args(Errors))}")
    model = sm.OLS(np.asarray(y, dtype=np.float64), _design(x))
    if errors == "cluster":
        if clusters is None:
            raise ParameterError("clustered errors need 'clusters', a label for every row")
        cov, df = _clustered(model, np.asarray(clusters))
    else:
        cov = model.fit(cov_type="nonrobust" if errors == "classic" else errors).cov_params()
        df = model.df_resid
    value, se = model.fit().params, np.sqrt(np.diag(cov))
    half = stats.t.isf((1 - level) / 2, df) * se
    p = 2 * stats.t.sf(np.abs(value) / se, df)
    columns = {"value": value, "se": se, "low": value - half, "high": value + half, "p": p}
    return pd.DataFrame({"term": ["constant", *x], **columns})


def _clustered(model: Any, labels: npt.NDArray[Any]) -> tuple[Floats, int]:
    """Give the covariance by one or two columns of clusters, and the degrees of freedom of the fewer.

    Two ways: those of either, less those of the clusters that are alike in both, which get no correction of their own.
    """
    columns = [np.unique(column, return_inverse=True)[1] for column in labels.reshape(len(labels), -1).T]

    def cov(groups: npt.NDArray[np.intp], *, correct: bool = True) -> Floats:
        how = {"groups": groups, "use_correction": correct}
        return model.fit(cov_type="cluster", cov_kwds=how).cov_params()

    total = sum(cov(column) for column in columns)
    if len(columns) == 2:
        total = total - cov(columns[0] * (columns[1].max() + 1) + columns[1], correct=False)
    return np.asarray(total), int(min(column.max() for column in columns))


def in_models(
    y: Sequence[float] | Floats, models: Mapping[str, Mapping[str, Sequence[float] | Floats]], term: str
) -> pd.DataFrame:
    """Set one term's coefficient beside itself in several models: model, value, se, low, high, p."""
    import pandas as pd

    rows = [_of(regress(y, x), term).assign(term=name) for name, x in models.items()]
    return pd.concat(rows, ignore_index=True).rename(columns={"term": "model"})


def _of(frame: pd.DataFrame, term: str) -> pd.DataFrame:
    return frame[frame["term"] == term]


def three_errors(
    y: Sequence[float] | Floats,
    x: Mapping[str, Sequence[float] | Floats],
    term: str,
    clusters: Sequence[Any] | npt.NDArray[Any],
    *,
    rng: np.random.Generator,
    draws: int = 9_999,
) -> pd.DataFrame:
    """Set one coefficient's inference beside itself, as if rows were independent, clustered, and by the wild bootstrap.

    Returns:
        A row for each: errors, value, low, high (missing where the interval goes on without end), p.
    """
    import pandas as pd

    rows = [
        _of(regress(y, x), term).assign(errors="rows independent"),
        _of(regress(y, x, errors="cluster", clusters=clusters), term).assign(errors="clustered"),
    ]
    boot = wild(y, x, term, clusters, rng=rng, draws=draws)
    last = {"errors": "wild cluster bootstrap", "value": boot.value, "low": boot.low, "high": boot.high, "p": boot.p}
    frame = pd.concat([*rows, pd.DataFrame([last])], ignore_index=True)
    return frame[["errors", "value", "low", "high", "p"]]


def wild(
    y: Sequence[float] | Floats,
    x: Mapping[str, Sequence[float] | Floats],
    term: str,
    clusters: Sequence[Any] | npt.NDArray[Any],
    *,
    rng: np.random.Generator,
    draws: int = 9_999,
    level: float = 0.95,
) -> Wild:
    """Test and bound one coefficient by the wild cluster bootstrap with the null imposed.

    Residuals of whole clusters are turned over together (Cameron, Gelbach and Miller 2008): by signs (Rademacher), or
    by Webb's (2023) six weights where there are fewer than 12 clusters. Where all combinations are fewer than `draws`,
    each is used once. The interval holds every value that the test does not reject. With very few clusters the p cannot
    become small, whatever the data: that is the point. Where only one or two clusters were treated it is not to be
    trusted either.

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
    design, outcome = _design(x), np.asarray(y, dtype=np.float64)
    at = 1 + list(x).index(term)
    others = np.delete(design, at, axis=1)

    def left(values: Floats, by: Floats) -> Floats:
        rest: Floats = values - by @ np.linalg.lstsq(by, values, rcond=None)[0]
        return rest

    own = left(design[:, at], others)
    member = np.eye(groups)[code]
    inverse = np.linalg.inv(design.T @ design)
    towards = (member * own[:, None]).T @ design @ inverse

    def pieces(residual: Floats) -> tuple[Floats, Floats]:
        each = member * residual[:, None]
        score = own @ each
        return score, np.diag(score) - towards @ (design.T @ each)

    of_y, of_x = pieces(left(outcome, others)), pieces(own)
    few = groups < FEW
    choices = _WEBB if few else (-1.0, 1.0)
    if len(choices) ** groups <= draws:
        v = np.array(list(product(choices, repeat=groups))).T
    else:
        v = rng.choice(choices, (groups, draws))
    value = float(own @ outcome) / float(own @ own)
    residual = left(outcome, design)
    spread, total = float(np.sqrt(((own @ (member * residual[:, None])) ** 2).sum())), float(own @ own)

    def p_at(null: float) -> float:
        score, each = of_y[0] - null * of_x[0], of_y[1] - null * of_x[1]
        t = abs(value - null) * total / spread
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = np.abs(score @ v) / np.sqrt(((each @ v) ** 2).sum(axis=0))
        return float((np.nan_to_num(drawn, nan=0.0) >= t * (1 - 1e-9)).mean())

    step = spread / total
    return Wild(
        value=value, p=p_at(0.0), low=_end(p_at, value, -step, 1 - level), high=_end(p_at, value, step, 1 - level),
        clusters=groups, draws=v.shape[1], weights="Webb" if few else "Rademacher",
    )  # fmt: skip


def _end(p_at: Any, value: float, step: float, alpha: float) -> float | None:
    """Walk away from the estimate until the test rejects, and find where it begins to; None where it never does."""
    for power in range(12):
        far = value + step * 2.0**power
        if p_at(far) < alpha:
            return float(optimize.bisect(lambda null: p_at(null) - alpha, value, far, xtol=abs(step) * 1e-4))
    return None


def _design(x: Mapping[str, Sequence[float] | Floats]) -> Floats:
    """Put a constant before the columns; refuse what is not determined."""
    columns = [np.asarray(column, dtype=np.float64) for column in x.values()]
    design = np.column_stack([np.ones(len(columns[0])), *columns])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise DataError(f"among {', '.join(x)} a column repeats the others or the constant; leave it out")
    return design
