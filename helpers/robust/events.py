"""Quantiles for a launch's metric: of events (delays, times to the first play), or of amounts per account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from ibis import _

from helpers import inference, units
from helpers.metrics import Metric
from helpers.moments import WEIGHT
from helpers.results import Estimate, NotEstimable
from helpers.robust import quantiles
from helpers.study import Study
from helpers.units import CLUSTER, STRATUM, query

if TYPE_CHECKING:
    import ibis


def compare(data: Study, metric: Metric, *, treatment: str, level: float | None = None) -> Estimate | NotEstimable:
    """Compare a metric of kind quantile between treatment and control: over accounts, or over all events in the window.

    A measure that gives each account one amount (a column of an own table, a sum of its events) has the quantile of
    accounts (`quantiles.difference`); one that stands for the events' own values (`each`) that of events, with accounts
    as what was assigned (`quantiles.of_events`). The interval is at the launch's level if none is given.

    Of events, only those with a value are in it: a session in which nothing was ever played has no time to the
    first play, and a launch that makes slow sessions give up looks faster. Read the share that never played beside
    it. Where the accounts of an arm were drawn with unequal probabilities, it is the quantile of the population
    (`quantiles.weighted`). Where they were drawn together, errors are over clusters in the place of accounts.

    Raises:
        DataError: the data break the contract.
    """
    if metric.quantile is None:
        return NotEstimable(metric=metric.name, reason=f"a {metric.kind} is no quantile")
    if reason := units.why_not(data, metric):
        return NotEstimable(metric=metric.name, reason=reason)
    if apart := units.together(data, "a quantile", few=True):
        return NotEstimable(metric=metric.name, reason=apart)
    rows, arms = _rows(data, metric), (data.launch.arms.control, treatment)
    rows = rows.drop("account") if metric.per_account and not units.clusters(data) else rows
    return _answer(data, metric, [rows.filter(_.arm == name).execute() for name in arms], level)


def within(
    data: Study, metric: Metric, by: str, *, treatment: str, level: float | None = None
) -> list[Estimate | NotEstimable]:
    """Compare a metric of kind quantile as `compare` does, in every level of an attribute; strata are not used.

    Raises:
        DataError: the data break the contract.
    """
    table, names = units.load(data), (data.launch.arms.control, treatment)
    rows = _rows(data, metric).join(table.select("account", level=by), "account")
    found = rows.filter(_.arm.isin(names)).execute().drop(columns=STRATUM, errors="ignore")
    apart = units.together(data, "a quantile", few=True)
    answers: list[Estimate | NotEstimable] = []
    for label in sorted(table.select(by).distinct().execute()[by]):
        arms = [found[(found["level"] == label) & (found["arm"] == name)] for name in names]
        answer = NotEstimable(metric=metric.name, reason=apart) if apart else _answer(data, metric, arms, level)
        answers.append(replace(answer, slice={by: label}))
    return answers


def _rows(data: Study, metric: Metric) -> ibis.Table:
    """Open what a quantile is of: a row for each account, or each event, with account, arm, value and design."""
    if not metric.per_account:
        return query.values(data, metric)
    scale = inference.form(metric, metric.window_days or data.launch.days).scale
    table = units.load(data)
    value = table[metric.numerator.name("post", metric.window_days)].cast("float64") * scale
    return table.select("account", "arm", *units.design(data), value=value)


def _answer(data: Study, metric: Metric, arms: Sequence[pd.DataFrame], level: float | None) -> Estimate | NotEstimable:
    """Compare the quantile of accounts, or of events with their accounts: control first."""
    rule, shares = data.launch.decision, [float(metric.quantile or 0)]
    level = level or 1 - data.launch.error(metric.name)
    if units.clusters(data):
        return _of_clusters(metric, arms, level=level, power=rule.power)
    if any(WEIGHT in rows and len(rows) and np.ptp(rows[WEIGHT]) > 1e-9 * rows[WEIGHT].max() for rows in arms):
        c, t = (_weighted(metric, rows) for rows in arms)
        return quantiles.weighted(c, t, shares, metric=metric.name, level=level, power=rule.power)[0]
    x, y = (rows["value"].to_numpy(np.float64) for rows in arms)
    if metric.per_account:
        return quantiles.difference(x, y, shares, metric=metric.name, level=level, power=rule.power)[0]
    control, treatment = zip((x, y), (rows["account"].to_numpy() for rows in arms), strict=True)
    return quantiles.of_events(control, treatment, shares, metric=metric.name, level=level, power=rule.power)[0]


def _of_clusters(
    metric: Metric, arms: Sequence[pd.DataFrame], *, level: float, power: float
) -> Estimate | NotEstimable:
    """Compare the quantile where accounts were drawn together; strata of the draw count as chance."""
    control, treatment = (
        quantiles.Weighted(
            value=rows["value"].to_numpy(np.float64),
            account=pd.factorize(rows[CLUSTER])[0],
            weight=rows[WEIGHT].to_numpy(np.float64) if WEIGHT in rows else np.ones(len(rows)),
            stratum=np.zeros(len(rows), np.int64),
        )
        for rows in arms
    )
    shares = [float(metric.quantile or 0)]
    (found,) = quantiles.weighted(control, treatment, shares, metric=metric.name, level=level, power=power)
    n = [rows["account"].nunique() for rows in arms]
    found = replace(found, n_control=n[0], n_treatment=n[1])
    if isinstance(found, NotEstimable):
        return found
    method = found.method.replace("weighted to the population", "over clusters of accounts")
    return replace(found, method=method)


def _weighted(metric: Metric, rows: pd.DataFrame) -> quantiles.Weighted:
    """Take an arm's rows with their weights, and the strata of the draw where they are known."""
    stratum = pd.factorize(rows[STRATUM])[0] if STRATUM in rows else np.zeros(len(rows), np.int64)
    account = np.arange(len(rows)) if metric.per_account else pd.factorize(rows["account"])[0]
    value, weight = (rows[c].to_numpy(np.float64) for c in ("value", WEIGHT))
    return quantiles.Weighted(value=value, account=account, weight=weight, stratum=stratum)
