"""The catalogue: every streaming metric by its name. The definition of each says what it is computed from."""

from __future__ import annotations

from dataclasses import replace

from helpers.errors import LaunchError, did_you_mean
from helpers.metrics import opinion, service, viewing
from helpers.metrics.words import Metric

CATALOGUE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *viewing.NORTH_STAR,
        *viewing.SUPPORTING,
        *service.GUARDRAILS,
        *service.OPERATIONAL,
        *opinion.SATISFACTION,
        *viewing.OF_A_TITLE,
        *opinion.OF_THE_CUSTOMER,
    )
}

FACTORS = tuple(
    replace(CATALOGUE[name], covariates=())
    for name in (
        "hours_per_account_week",
        "active_account_share",
        "sessions_per_active_account_week",
        "session_minutes",
    )
)
"""The north star, and the three factors whose product it is but for the unit of time; without their past."""


def get(name: str) -> Metric:
    """Look a metric up in the catalogue.

    Raises:
        LaunchError: no metric has this name; the nearest one is named.

    >>> get("churn_28d").better
    'lower'
    """
    if name not in CATALOGUE:
        raise LaunchError(f"metric {name!r} is not in the catalogue; {did_you_mean(name, CATALOGUE)}")
    return CATALOGUE[name]
