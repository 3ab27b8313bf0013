"""Many periods at once: the band that holds for all, weights that average some, whether a covariance has full rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def mean_of(keep: npt.NDArray[np.bool_]) -> Floats:
    """Give weights that average the periods that are kept.

    >>> mean_of(np.array([True, False, True]))
    array([0.5, 0. , 0.5])
    """
    return keep / keep.sum()


def joint_quantile(cov: Floats, level: float = 0.95, *, draws: int = 20_000) -> float:
    """Give the factor on all standard errors that makes their intervals hold together (sup-t).

    The quantile of the largest of w correlated absolute normal values, by simulation from their correlation with a
    fixed seed: Montiel Olea and Plagborg-Moller (2019), algorithm 1. It lies between the normal quantile and Sidak's.

    >>> 1.96 < joint_quantile(np.eye(4)) < 2.55
    True
    """
    cov = cov[np.ix_(np.diag(cov) > 0, np.diag(cov) > 0)]
    if not len(cov):
        return 0.0  # what does not vary is known without error
    se = np.sqrt(np.diag(cov))
    correlation = cov / np.outer(se, se)
    values, vectors = np.linalg.eigh(correlation)
    z = np.random.default_rng(20_190_211).standard_normal((draws, len(se)))
    z = z @ (vectors * np.sqrt(np.maximum(values, 0))).T
    return float(np.quantile(np.abs(z).max(axis=1), level))


def full_rank(cov: Floats) -> bool:
    """Say whether every period varies, and none is a combination of others: whether there is an inverse."""
    se = np.sqrt(np.diag(cov))
    return bool((se > 0).all()) and int(np.linalg.matrix_rank(cov / np.outer(se, se), rtol=1e-10)) == len(cov)
