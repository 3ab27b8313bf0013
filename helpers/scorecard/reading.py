"""How the moments of a launch are read: with the weights, within the strata and of the clusters of its draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import ibis

from helpers import inference, moments, units
from helpers.errors import DataError
from helpers.metrics import Metric
from helpers.moments import WEIGHT, Moments
from helpers.results import Claim, Estimate, to_frame
from helpers.study import Study
from helpers.units import STRATUM

if TYPE_CHECKING:
    import pandas as pd

UNSEEN = "too few accounts for any change of this share to be seen"


class Draw(TypedDict):
    """How moments are read, as the accounts were drawn: by which groups, with weights, of which clusters."""

    by: tuple[str, ...]
    weighted: bool
    cluster: str | None


class _Asked(TypedDict):
    columns: tuple[str, ...]
    pairs: set[tuple[str, str]]


def pooled(data: Study, by: Sequence[str] = (), metrics: Sequence[Metric] | None = None) -> Moments:
    """Read the moments of all measurable metrics by arm and slice, with only the covariances that they need.

    `metrics` names others whose columns stand in the units table.

    They are weighted where the accounts of an arm were drawn with unequal probabilities. Without slices the strata of
    the draw and the post-strata are kept as groups, for `inference` to sum out; within slices they would be too thin.

    Raises:
        DataError: an arm has no account left.
    """
    how = draw(data, by)
    read = moments.from_table(units.load(data), **how, **_asked(data, metrics, how))
    if gone := set(data.launch.arms.names) - set(read.groups["arm"]):
        raise DataError(
            f"{data.launch.name}: arm {min(gone)!r} has no account left, after those without a value, with an "
            "impossible amount or a flag were left out; correct the data, or 'missing' and 'outliers'"
        )
    return read


def sliced(data: Study, attributes: Sequence[str], metrics: Sequence[Metric] | None = None) -> dict[str, Moments]:
    """Read what `pooled(data, by=[name])` gives for each attribute, all of them in one pass where memory allows."""
    how = draw(data, by=[""])
    how["by"] = tuple(filter(None, how["by"]))
    return moments.by_each(units.load(data), each=attributes, **how, **_asked(data, metrics, how))


def scale(data: Study, metric: Metric) -> float:
    """Say by what the units column of a metric is multiplied to read in the metric's own unit."""
    return inference.form(metric, metric.window_days or data.launch.days).scale


def amounts(data: Study, metric: Metric) -> ibis.Table:
    """Open what each account has of a metric, in its unit, for a picture: arm and value; no value without such columns.

    Of a ratio it is the account's own, of those that have one: their mean is not the ratio of the arm.
    """
    table = units.load(data)
    top, bottom = metric.numerator, metric.denominator
    if not {metric.column(m) for m in (top, bottom) if m} <= {*table.columns}:
        return table.select("arm")
    value = table[metric.column(top)].cast("float64") * scale(data, metric)
    if bottom is None:
        return table.select("arm", value=value)
    below = table[metric.column(bottom)]
    return table.select("arm", value=value / below, below=below).filter(ibis._.below > 0).drop("below")


def draw(data: Study, by: Sequence[str] = ()) -> Draw:
    """Say how moments are read for `estimate`, or in slices; few clusters are kept as groups, for `inference`.

    Who gives `cluster` to `moments.from_table` asks `inference.needed` for weighted columns.
    """
    n = units.clusters(data)
    groups = (*(("arm", *by) if by else grouping(data)), *[units.CLUSTER] * units.scarce(data, n))
    heavy = units.weighted(data)
    if not n:
        return {"by": groups, "weighted": heavy, "cluster": None}
    return {"by": groups, "weighted": heavy, "cluster": units.CLUSTER}


def _asked(data: Study, metrics: Sequence[Metric] | None, how: Draw) -> _Asked:
    """List the columns and pairs that metrics need, those of the plan unless others are named."""
    heavy = how["weighted"] or how["cluster"] is not None
    columns: dict[str, None] = {}
    pairs: set[tuple[str, str]] = set()
    for metric in [p.metric for p in units.measurable(data)] if metrics is None else metrics:
        if not metric.per_account:
            continue
        mine, together = inference.needed(metric, adjust=bool(units.covariates(data, metric)), weighted=heavy)
        columns |= dict.fromkeys(mine)
        pairs |= set(together)
    if heavy and not columns:  # arms are counted all the same
        columns, pairs = {WEIGHT: None}, {(WEIGHT, WEIGHT)}
    return {"columns": tuple(columns), "pairs": pairs}


def grouping(data: Study) -> tuple[str, ...]:
    """Name the columns by which moments are read for `estimate`: arm, stratum of the draw, post-strata.

    Accounts of a cluster may be in several post-strata, so that arms of clusters are not brought to the same mix; and
    where a cluster has accounts in several strata, it was not drawn within one.
    """
    whole, strata = units.clusters(data) > 0, [s for s in units.design(data) if s == STRATUM]
    if whole and strata:
        table = units.load(data)
        most = table.aggregate(by=units.CLUSTER, strata=table[STRATUM].nunique()).strata.max().execute()
        strata = strata * (most == 1)
    return ("arm", *strata, *(() if whole else data.launch.decision.poststratify))


def seen(claims: Sequence[Claim]) -> pd.DataFrame:
    """Lay out the estimates of claims, one row each; where only more than all of a share would be found, no `mde`."""
    frame = to_frame(c.estimate for c in claims)
    for row, claim in enumerate(claims):
        if isinstance(e := claim.estimate, Estimate) and claim.unit == "share" and e.mde > 1:
            frame.loc[row, ["mde", "note"]] = [None, "; ".join(filter(None, (e.note, UNSEEN)))]
    return frame
