"""What happened in each arm by itself, day by day: a picture before any comparison."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import ibis
import numpy as np
from ibis import _
from scipy import stats

from helpers import moments, units
from helpers.results import nothing
from helpers.timeline.course import form, obstacle

if TYPE_CHECKING:
    import pandas as pd

    from helpers.metrics import Metric
    from helpers.study import Study


def measure(data: Study, metric: Metric, *, step_days: int = 1) -> pd.DataFrame:
    """Measure each arm's own mean in every period, before and after assignment, for a picture: of accounts as drawn.

    Returns:
        A row per arm and period: arm, from_day, value (in `course.unit`), low, high (pointwise, at the launch's level;
        missing where accounts were drawn together); none where the data hold no times.
    """
    import pandas as pd

    launch, names = data.launch, [f"x{i}" for i in range(len(metric.measures))]
    post, pre = launch.days // step_days, units.days_before(data, metric.tables) // step_days
    if why := obstacle(data, metric, "assignment", post):
        return nothing(why, ["arm", "from_day", "value", "low", "high"])
    parts = []
    for nth, measure_ in enumerate(metric.measures):
        daily = units.daily(data, measure_).mutate(period=(_.day / step_days).floor().cast("int64"))
        parts.append(daily.select("account", "period", **{x: _.value if x == names[nth] else 0.0 for x in names}))
    each = ibis.union(*parts).aggregate(by=["account", "period"], **{x: _[x].sum() for x in names})
    each = each.join(units.drawn(data).select("account", "arm"), "account")
    squares = {f"{a}{b}": (_[a] * _[b]).sum() for a, b in combinations_with_replacement(names, 2)}
    sums = each.aggregate(by=["arm", "period"], **{x: _[x].sum() for x in names}, **squares).execute()
    sizes = units.drawn(data).aggregate(by="arm", n=_.count()).execute().set_index("arm")["n"].sort_index()
    every = pd.MultiIndex.from_product([sizes.index, range(-pre, post)], names=["arm", "period"])
    sums = sums.set_index(["arm", "period"]).reindex(every, fill_value=0.0).reset_index()
    if metric.denominator is not None:  # of which a period without any has no ratio
        sums = sums[sums[names[-1]] > 0].reset_index(drop=True)
    n = sums["arm"].map(sizes).to_numpy(dtype=float)
    mean = sums[names].to_numpy(dtype=float) / n[:, None]
    scatter = -n[:, None, None] * mean[:, :, None] * mean[:, None, :]
    for (i, a), (j, b) in combinations_with_replacement(enumerate(names), 2):
        scatter[:, i, j] = scatter[:, j, i] = scatter[:, i, j] + sums[f"{a}{b}"]
    read = moments.Moments(groups=sums[["arm", "period"]], columns=tuple(names), n=n, mean=mean, scatter=scatter)
    value, weights = form(metric, names, 7 / step_days if metric.per_week else 1.0).read(read)
    se = np.sqrt(np.maximum(np.einsum("gi,gij,gj->g", weights, read.cov, weights), 0.0) / n)  # below by rounding only
    half = stats.norm.isf(launch.error(metric.name) / 2) * se * (np.nan if units.clusters(data) else 1.0)
    return pd.DataFrame(
        {
            "arm": sums["arm"],
            "from_day": step_days * sums["period"],
            "value": value,
            "low": value - half,
            "high": value + half,
        }
    )
