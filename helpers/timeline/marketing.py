"""The effect beside a campaign: what a regression with the spend or the impressions of each region makes of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ibis import _

from helpers import inference, units
from helpers.inference.regression import regress
from helpers.metrics import UNITS_TABLE, Metric
from helpers.moments import WEIGHT
from helpers.results import Check, closed

if TYPE_CHECKING:
    import pandas as pd

    from helpers.study import Study

NOTES = {  # column of table 'marketing': what a regression with it says
    "spend": "right if the spend was fixed before the launch, whatever came of it",
    "impressions": "wrong if the launch itself brings impressions: what works through them is taken away",
}


def adjusted(
    data: Study, metric: Metric, *, region: str = "region", treatment: str = "", checks: Sequence[Check] = ()
) -> pd.DataFrame:
    """Regress a metric of accounts on their arm, alone and with what their region met of the campaign each day.

    Arms that were drawn by chance met the same campaign in each region, so that what was spent there explains
    differences between accounts, and hardly moves the effect. Where it does, the arms were not alike by region.

    Args:
        data: the study.
        metric: one with a number for each account.
        region: the attribute of accounts that table 'marketing' calls region.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, no effect is read.

    Returns:
        A row per model: model, value (the effect, in the metric's unit over its window), se (HC2; over clusters where
        accounts were drawn together), low, high, p, note; or a row with the reason why there is none.
    """
    import pandas as pd

    launch, columns = data.launch, ["model", "value", "se", "low", "high", "p", "note", "reason"]
    if reason := closed(checks) or _obstacle(data, metric, region):
        return pd.DataFrame([{"model": "with spend", "reason": reason}], columns=columns)
    arms, column = (launch.arms.control, launch.judged(treatment)), metric.column(metric.numerator)
    beside = [c for c in (WEIGHT, units.CLUSTER) if c in units.design(data)]
    rows = units.load(data).filter(_.arm.isin(arms)).select("arm", region, column, *beside).execute()
    drawn: dict[str, Any] = {"errors": "cluster", "clusters": rows[units.CLUSTER]} if units.clusters(data) else {}
    value = rows[column].to_numpy(dtype=float) * inference.form(metric, metric.window_days or launch.days).scale
    known = {"treated": (rows["arm"] == arms[1]).to_numpy(dtype=float)}
    met, found = _daily(data), []
    for name in ("", *(c for c in NOTES if c in met)):
        x = known | ({name: rows[region].astype(str).map(met[name]).fillna(0.0).to_numpy(dtype=float)} if name else {})
        row: dict[str, object] = {"model": f"with {name}" if name else "treatment alone"}
        if name and np.ptp(x[name]) == 0:
            found.append(row | {"reason": f"{name} was the same in all regions, and then explains nothing"})
            continue
        weights = rows[WEIGHT].to_numpy(dtype=float) if WEIGHT in beside else None
        fitted = regress(value, x, weights=weights, level=1 - launch.error(metric.name), **drawn)
        told = fitted.set_index("term").loc["treated"]
        found.append(
            row
            | {c: told[c] for c in columns[1:6]}
            | {"note": NOTES.get(name, "the arms as they are, not adjusted for their past")}
        )
    return pd.DataFrame(found, columns=columns)


def _obstacle(data: Study, metric: Metric, region: str) -> str:
    """Say why there is no such regression, or nothing where there is one."""
    if UNITS_TABLE in data.tables or "marketing" not in data.tables or data.launch.dates is None:
        return "the data have no table 'marketing' (region, day, spend)"
    if region not in data.launch.segments:
        return f"the launch names no segment '{region}', so that accounts cannot be given the spend of theirs"
    if metric.denominator is not None or not (metric.per_account and metric.averaged):
        return "the metric is no mean over accounts, each of which has a number to regress"
    return units.why_not(data, metric) or units.together(data, "a regression with the spend", few=True)


def _daily(data: Study) -> pd.DataFrame:
    """Give each region's spend, and impressions where they are counted, by day since the launch; region as index."""
    launch, marketing = data.launch, data.table("marketing")
    start = launch.dates.start if launch.dates else dt.date.min
    rows = marketing.filter((_.day >= start) & (_.day < start + dt.timedelta(days=launch.days)))
    sums = {name: rows[name].sum().fill_null(0) / launch.days for name in NOTES if name in marketing.columns}
    found = rows.aggregate(by="region", **sums).execute()
    return found.set_index(found.pop("region").astype(str)).astype(float)
