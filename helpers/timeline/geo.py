"""One region, no arms: a synthetic control from other regions, an interrupted series, and placebos for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import statsmodels.api as sm
from scipy import optimize

from helpers.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

_SUM = 1e3  # weight of the condition that a double's weights sum to 1, against days whose values are about 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """A treated region beside the mixture of others that followed it best before.

    `gap` has the treated region minus its double, a row per day; `effect` is its mean since the start, `before` the
    root mean square of it until then: a double that did not fit before says nothing afterwards. `ratio` is how much
    larger the gap became, `p` the share of regions, the treated one included, with a ratio at least as large when each
    in turn is taken for the treated one. With 20 regions p cannot fall below 0.05.
    """

    region: str
    weights: pd.Series[float]
    gap: pd.Series[float]
    effect: float
    before: float
    ratio: float
    p: float
    placebos: pd.DataFrame


def synthetic(panel: pd.DataFrame, region: str, start: int) -> Synthetic:
    """Compare a region with a weighted mean of the others (Abadie, Diamond and Hainmueller 2010).

    The weights are not negative and sum to 1, so that nothing is extrapolated; they minimise the squared distance
    before the start. It is right if the regions would have gone on moving together and no other region was touched: a
    campaign that is seen next door, or a local holiday, breaks it.

    Args:
        panel: a column per region, a row per day, no value missing.
        region: the column that was treated.
        start: the row of the first treated day; at least two rows before and one after are needed.

    Raises:
        DataError: the region is not there, the start leaves no days, a value is missing, or there are too few others.
    """
    import pandas as pd

    if region not in panel.columns:
        raise DataError(f"the panel has no region {region!r}; {did_you_mean(region, map(str, panel.columns))}")
    if not 2 <= start < len(panel):
        raise DataError(
            f"the start is row {start}, must leave at least 2 rows before it and one after, of {len(panel)}"
        )
    if len(panel.columns) < 3:
        raise DataError(f"{region} has {len(panel.columns) - 1} other regions, at least 2 are needed")
    values = panel.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError("the panel has missing or infinite values; every region needs a number for every day")
    found = {name: _gap(values, at, start) for at, name in enumerate(map(str, panel.columns))}
    size = {name: np.sqrt((gap[:start] ** 2).mean()) for name, (_, gap) in found.items()}
    ratio = {name: np.sqrt((gap[start:] ** 2).mean()) / max(size[name], 1e-12) for name, (_, gap) in found.items()}
    weights, gap = found[region]
    others = [str(c) for c in panel.columns if c != region]
    placebos = pd.DataFrame({"region": list(ratio), "before": list(size.values()), "ratio": list(ratio.values())})
    return Synthetic(
        region=region,
        weights=pd.Series(weights, index=others).sort_values(ascending=False),
        gap=pd.Series(gap, index=panel.index),
        effect=float(gap[start:].mean()),
        before=float(size[region]),
        ratio=float(ratio[region]),
        p=float(np.mean([r >= ratio[region] for r in ratio.values()])),
        placebos=placebos.sort_values("ratio", ascending=False, ignore_index=True),
    )


def _gap(values: Floats, at: int, start: int) -> tuple[Floats, Floats]:
    """Find the weights of one region's double, and the gap between the two on every day."""
    own, others = values[:, at], np.delete(values, at, axis=1)
    scale = max(float(np.abs(own[:start]).mean()), 1e-12)
    sums = np.full(others.shape[1], _SUM)
    found, _ = optimize.nnls(np.vstack([others[:start] / scale, sums]), np.append(own[:start] / scale, _SUM))
    weights = found / found.sum()
    return weights, own - others @ weights


def interrupted(series: pd.Series[float], start: int, *, period: int = 7, level: float = 0.95) -> dict[str, float]:
    """Estimate a jump at the start in a single series with its trend and its week (interrupted time series).

    Least squares on a line, the day of the week and a step; standard errors that allow for neighbouring days to go
    together (Newey and West 1987, lags of one period). Nothing in a single series tells the campaign from anything
    else that began on the same day: that is assumed, not tested.

    Returns:
        effect (in the series' unit, per day), se, low, high, p.

    Raises:
        DataError: fewer than two periods before the start or one after it.
    """
    y = series.to_numpy(dtype=np.float64)
    if start < 2 * period or len(y) - start < period:
        raise DataError(
            f"there are {start} days before and {len(y) - start} after; {2 * period} and {period} are needed"
        )
    day = np.arange(len(y))
    week = (day[:, None] % period == np.arange(1, period)).astype(float)
    design = np.column_stack([day >= start, np.ones(len(y)), day, week]).astype(float)
    found = sm.OLS(y, design).fit(cov_type="HAC", cov_kwds={"maxlags": period, "use_correction": True}, use_t=True)
    low, high = found.conf_int(1 - level)[0]
    return {
        "effect": float(found.params[0]), "se": float(found.bse[0]), "low": float(low), "high": float(high),
        "p": float(found.pvalues[0]),
    }  # fmt: skip


def side_by_side(series: pd.Series[float], double: Synthetic, *, start: int, planted: float) -> pd.DataFrame:
    """Set the interrupted series and the synthetic control beside the planted relative lift.

    Returns:
        A row for each: method, per day (the jump in the series' unit), relative (to what would have been without it),
        p, planted.
    """
    import pandas as pd

    line, after = interrupted(series, start), float(series.iloc[start:].mean())
    rows = [("interrupted series", line["effect"], line["p"]), ("synthetic control", double.effect, double.p)]
    frame = pd.DataFrame(rows, columns=["method", "per day", "p"]).assign(planted=planted)
    return frame.assign(relative=frame["per day"] / (after - frame["per day"]))


def starts_tried(series: pd.Series[float], start: int, *, period: int = 7, level: float = 0.95) -> pd.DataFrame:
    """Pretend that the campaign began on earlier days, and estimate each jump from the days before the real start.

    Where invented starts show "effects" as large as the real one, the method does not know what it claims to know.
    """
    import pandas as pd

    before = series.iloc[:start]
    tried = range(2 * period, start - period + 1, period)
    rows = [{"start": day} | interrupted(before, day, period=period, level=level) for day in tried]
    return pd.DataFrame(rows, columns=["start", "effect", "se", "low", "high", "p"])
