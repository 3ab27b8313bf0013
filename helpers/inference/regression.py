"""Least squares on rows, with the errors that fit: classical, robust to unequal variances, or clustered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import statsmodels.api as sm
from scipy import stats

from helpers.errors import DataError, ParameterError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

Robust = Literal["classic", "HC0", "HC1", "HC2", "HC3"]
Errors = Literal[Robust, "cluster"]


def regress(
    y: Sequence[float] | Floats,
    x: Mapping[str, Sequence[float] | Floats],
    *,
    errors: Errors = "HC2",
    clusters: Sequence[Any] | npt.NDArray[Any] | None = None,
    weights: Sequence[float] | Floats | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Regress an outcome on columns and a constant by least squares (statsmodels).

    `classic` takes equal variances for granted; HC0 to HC3 do not (MacKinnon and White 1985), and with the arm alone in
    `x` HC2 is Welch's error. `cluster` is CR1 (Liang and Zeger 1986), with t of one degree of freedom less than there
    are clusters; two columns of clusters give two-way errors (Cameron, Gelbach and Miller 2011). With fewer than about
    forty clusters they are too small; see `timeline.clusters.wild`. A coefficient is an effect only of what was drawn
    by chance, and only if nothing in `x` follows it.

    Args:
        y: (n,).
        x: named columns (n,), without the constant. A 0/1 column for each group but one are the group's fixed effects.
        errors: which standard errors.
        clusters: (n,) or (n, 2) labels, for `cluster` alone.
        weights: (n,), above 0: what each row counts for, such as the accounts whose mean it is.
        level: of the intervals.

    Returns:
        A row per term: term, value, se, low, high, p; its `attrs` hold `r2`, the share of variance that is explained.

    Raises:
        DataError: a column repeats others, so that its coefficient is not determined.
        ParameterError: the kind of errors is not known, clusters are missing, or a weight is not above 0.

    >>> found = regress([1.0, 2.0, 4.0, 7.0], {"treated": [0, 0, 1, 1]})
    >>> found[["value", "se"]].round(3).values.tolist()
    [[1.5, 0.5], [4.0, 1.581]]
    """
    import pandas as pd

    known = (*get_args(Robust), "cluster")
    if errors not in known:
        raise ParameterError(f"errors is {errors!r}; {did_you_mean(errors, known)}")
    weight = 1.0 if weights is None else np.asarray(weights, dtype=np.float64)
    if not np.all(weight > 0):
        raise ParameterError("weights must be above 0; leave out the rows that count for nothing")
    model = sm.WLS(np.asarray(y, dtype=np.float64), design(x), weight)
    if errors == "cluster":
        if clusters is None:
            raise ParameterError("clustered errors need 'clusters', a label for every row")
        fitted = model.fit()
        cov, df = _clustered(model, np.asarray(clusters))
    else:
        fitted = model.fit(cov_type="nonrobust" if errors == "classic" else errors)
        cov, df = fitted.cov_params(), model.df_resid
    value, se = fitted.params, np.sqrt(np.diag(cov))
    half = stats.t.isf((1 - level) / 2, df) * se
    p = 2 * stats.t.sf(np.abs(value) / se, df)
    columns = {"value": value, "se": se, "low": value - half, "high": value + half, "p": p}
    frame = pd.DataFrame({"term": ["constant", *x], **columns})
    frame.attrs["r2"] = float(fitted.rsquared) if fitted.centered_tss > 0 else float("nan")
    return frame


def design(x: Mapping[str, Sequence[float] | Floats]) -> Floats:
    """Put a constant before the columns; refuse what is not determined."""
    columns = [np.asarray(column, dtype=np.float64) for column in x.values()]
    made = np.column_stack([np.ones(len(columns[0])), *columns])
    if np.linalg.matrix_rank(made) < made.shape[1]:
        raise DataError(f"among {', '.join(x)} a column repeats the others or the constant; leave it out")
    return made


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
