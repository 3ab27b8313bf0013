"""All arms of a launch at once: does any of them differ, before one is held against control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers.inference.arms import asked
from helpers.inference.forms import form
from helpers.metrics import Metric
from helpers.moments import WEIGHT

if TYPE_CHECKING:
    from helpers.moments import Moments


def differ(moments: Moments, metric: Metric, *, arms: Sequence[str], days: int) -> float | None:
    """Test that a metric is the same in all arms (chi-square of k - 1 degrees of freedom); None where nothing varies.

    The squares of what each arm lies beside their common value, over its squared error. A plain proportion has the
    common variance p (1 - p), which makes it Pearson's (1900) test of a table of k arms; any other metric each arm's
    own, which is Cochran's Q (1954), as good as Welch's analysis of variance with thousands of accounts. A small p says
    that some arm differs, not which; a large one does not show that they are alike.

    Args:
        moments: groups by `arm` alone, with the columns and pairs that `needed` names.
        metric: a mean, count, ratio or proportion, without adjustment.
        arms: k names, at least 2.
        days: length of the window.

    >>> from helpers import moments
    >>> import pandas as pd
    >>> from helpers.metrics import UNITS_TABLE, Measure, Metric
    >>> opened = Measure(table=UNITS_TABLE, agg="value", column="x")
    >>> share = Metric(name="x", title="X", kind="proportion", numerator=opened, better="higher", unit="share")
    >>> rows = pd.DataFrame({"arm": ["a"] * 100 + ["b"] * 100 + ["c"] * 100, "x": ([1] * 3 + [0] * 7) * 30})
    >>> differ(moments.from_rows(rows, columns=["x"], by=["arm"]), share, arms=["a", "b", "c"], days=28)
    1.0
    """
    moments = asked(moments, metric, adjust=False)
    weighted = WEIGHT in moments.columns
    told = form(metric, days, weighted=weighted)
    parts = moments.split("arm", arms)
    read = [told.read(a) for a in parts]
    value = np.array([v[0] for v, _ in read])
    n = np.array([a.n[0] for a in parts])
    if metric.kind == "proportion" and not weighted:
        common = n @ value / n.sum()
        error = common * (told.scale - common) / n
    else:
        error = np.array([w[0] @ a.cov[0] @ w[0] for a, (_, w) in zip(parts, read, strict=True)]) / n
        common = (value / error).sum() / (1 / error).sum() if error.all() else np.nan
    if not (error > 0).all():
        return None
    return float(stats.chi2.sf(((value - common) ** 2 / error).sum(), len(arms) - 1))
