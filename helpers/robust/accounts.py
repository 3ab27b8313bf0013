"""The accounts of two arms: one amount each, what each had before, and for how many others each one stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from helpers import inference, units
from helpers.errors import DataError, ParameterError
from helpers.inference import levels, limits
from helpers.metrics import UNITS_TABLE, Kind, Metric
from helpers.moments import WEIGHT
from helpers.results import Check, NotEstimable, closed
from helpers.robust import values
from helpers.units import STRATUM

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.study import Study

    Floats = npt.NDArray[np.float64]
    Codes = npt.NDArray[np.int64]
    Chosen = npt.NDArray[np.bool_] | npt.NDArray[np.int64]


NO_AMOUNT = "no metric of the plan is an amount per account in these data"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arms:
    """Two arms of accounts on one metric, in its own unit and without any cap.

    `control` (n,) and `treatment` (m,) hold one amount per account; `control_before` (n, b) and `treatment_before`
    (m, b) what was measured of it before the launch, with b = 0 where nothing was; `heavy_by` is the column of these
    that says who was heavy, None where that is not said. `weights` ((n,), (m,)) say for how many each one stands where
    they were drawn with unequal probabilities, `strata` ((n,), (m,)) within which strata; both are None otherwise.
    `better` is empty where neither way is. `closed` says why no effect may be read from them, or nothing.
    """

    metric: str
    title: str = ""
    unit: str = ""
    names: tuple[str, str] = ("control", "treatment")
    better: str = "higher"
    shares: bool = False  # amounts that are 0 or 1
    cap: float | None = None  # the quantile at which the plan caps the metric; the amounts are not capped
    limit: float | None = None  # the amount that this quantile is
    closed: str = ""
    heavy_by: int | None = 0
    poststrata: tuple[str, ...] = ()  # whose mix the scorecard makes the same in both arms
    looks: bool = False  # whether the scorecard's intervals hold at several
    weights: tuple[Floats, Floats] | None = None
    strata: tuple[Codes, Codes] | None = None
    control: Floats
    treatment: Floats
    control_before: Floats
    treatment_before: Floats

    @property
    def n(self) -> tuple[int, int]:
        """Count the accounts of control and treatment."""
        return len(self.control), len(self.treatment)

    @property
    def pooled(self) -> Floats:
        """Give the amounts of all accounts, whichever their arm."""
        return np.concatenate([self.control, self.treatment])

    @property
    def carried(self) -> Floats:
        """Count the accounts (2,) that a mean of each arm rests on: all, or what their weights leave."""
        if self.weights is None:
            return np.array(self.n, dtype=np.float64)
        return np.array([w.sum() ** 2 / (w**2).sum() for w in self.weights])

    @property
    def once(self) -> str:
        """Say that a method counts each account once, where others count them by their weights; else nothing."""
        return "each account counts once, whatever its weight" if self.weights else ""

    @property
    def unlike(self) -> str:
        """Say why the scorecard's interval is another: its post-strata, its looks, or its intervals for shares."""
        mix = f"the mix of {' and '.join(self.poststrata)} is not evened out, as in 04"
        ways = {mix: self.poststrata, "the interval is not widened for the planned looks, as that of 04 is": self.looks}
        return "; ".join([*filter(ways.get, ways), *["04 has the interval of two shares"] * self.shares])

    def quantile(self, share: float) -> float:
        """Find the amount that a share of all accounts, both arms together and weighted, stays at or below."""
        return quantile(self.pooled, share, self.weights)

    @property
    def why_not_amounts(self) -> str:
        """Say why there are no heavy accounts to ask about."""
        refusal = self.refusal()
        if refusal:
            return refusal.reason
        return "every account counts at most once in a share" if self.shares else "too few accounts have an amount"

    def unable(self, reason: str) -> NotEstimable:
        """Say why these arms do not give a number."""
        return NotEstimable(metric=self.metric, reason=reason, n_control=self.n[0], n_treatment=self.n[1])

    def without_past(self) -> Arms:
        """Forget what was measured before the launch."""
        before = (np.empty((n, 0)) for n in self.n)
        return replace(self, control_before=next(before), treatment_before=next(before))

    def capped(self) -> Arms:
        """Set amounts beyond the plan's cap to it; the same arms where the plan has none."""
        if self.limit is None:
            return self
        return replace(
            self, control=np.minimum(self.control, self.limit), treatment=np.minimum(self.treatment, self.limit)
        )

    def refusal(self) -> NotEstimable | None:
        """Say why no effect at all is read from these arms, where that is so."""
        return self.unable(self.closed) if self.closed else values.too_few(self.metric, self.n)

    def where(self, control: Chosen, treatment: Chosen) -> Arms:
        """Keep some accounts of each arm, by a mask or by their places."""
        return replace(
            self,
            control=self.control[control],
            treatment=self.treatment[treatment],
            control_before=self.control_before[control],
            treatment_before=self.treatment_before[treatment],
            weights=self.weights and (self.weights[0][control], self.weights[1][treatment]),
            strata=self.strata and (self.strata[0][control], self.strata[1][treatment]),
        )


def of(control: npt.ArrayLike, treatment: npt.ArrayLike, *, metric: str = "value", unit: str = "") -> Arms:
    """Take two arms from plain numbers, one per account.

    Raises:
        DataError: a value is missing, NaN or infinite.
    """
    c, t = values.finite(control), values.finite(treatment)
    before = (np.empty((len(x), 0)) for x in (c, t))
    return Arms(
        metric=metric, unit=unit, control=c, treatment=t, control_before=next(before), treatment_before=next(before)
    )


def read(data: Study, metric: str = "", *, treatment: str = "") -> Arms:
    """Read one amount per account, and its past, for one metric of the launch.

    Without a name it is the first metric of the plan that is an amount per account (a mean or a count); where the plan
    has none, the first that can be measured, and where none can, nobody's, `closed` for that reason. Of a ratio the
    numerator is read: the amount that a few accounts may hold.

    Raises:
        ParameterError: the plan has no such metric, or the launch no such treatment.
        DataError: the metric asked for cannot be measured on these data.
    """
    launch = data.launch
    treatment = launch.judged(treatment)
    asked = chosen(data, metric).metric
    if _obstacle(data, asked):
        nobody = replace(of([], [], metric=asked.name), title=asked.title, names=(launch.arms.control, treatment))
        return replace(nobody, better=asked.better, closed=NO_AMOUNT)
    outcome = asked.numerator
    past = [m for m in units.covariates(data, asked) if asked.denominator is None]
    columns = [outcome.name("post", asked.window_days), *(m.name("pre") for m in past)]
    named = [m.column for m in past]
    by = launch.outliers.heavy_by if launch.outliers else None
    only = 0 if asked.covariates == "own" or len(past) < 2 else None
    if len(set(columns)) < len(columns) or any(m.table == UNITS_TABLE and m == outcome for m in past):
        raise ParameterError(f"a covariate of {asked.name} is the outcome itself; name one from before")
    names, table = (launch.arms.control, treatment), units.load(data)
    table = table.filter(table.arm.isin(names))
    design = units.design(data)
    frame = table.select("arm", *design, **{f"x{i}": table[c] for i, c in enumerate(columns)}).execute()
    mine = [frame["arm"] == name for name in names]
    control, treated = (values.finite(frame.loc[rows, [f"x{i}" for i in range(len(columns))]]) for rows in mine)
    weights = strata = None
    if WEIGHT in design:
        weights = frame.loc[mine[0], WEIGHT].to_numpy(np.float64), frame.loc[mine[1], WEIGHT].to_numpy(np.float64)
        weights = weights if max(map(np.ptp, weights)) > 1e-9 else None
    if STRATUM in design:
        codes = pd.factorize(frame[STRATUM])[0]
        strata = codes[mine[0]], codes[mine[1]]
    scale = inference.form(asked, asked.window_days or launch.days).scale
    if asked.denominator is not None:
        scale = outcome.scale
    return Arms(
        metric=asked.name,
        title=asked.title if asked.denominator is None else f"{asked.title}, its numerator",
        unit=asked.unit if asked.denominator is None else "",
        names=names,
        better=asked.better if asked.denominator is None else "",
        heavy_by=(named.index(by) if by in named else None) if by else only,
        shares=asked.kind == "proportion",
        cap=asked.cap,
        limit=None if asked.cap is None else scale * units.capped_at(data)[asked.name],
        closed=units.together(data, "what this chapter compares"),
        poststrata=tuple(data.launch.decision.poststratify),
        looks=len(data.launch.looks) > 1,
        weights=weights,
        strata=strata,
        control=scale * control[:, 0],
        treatment=scale * treated[:, 0],
        control_before=control[:, 1:],
        treatment_before=treated[:, 1:],
    )


def chosen(data: Study, name: str = "") -> units.Chosen:
    """Find the metric whose amounts per account are read: see `read`, which raises the same errors."""
    found = units.chosen(data, name, obstacle=lambda m: _obstacle(data, m, ("mean", "count")))
    if not name and _obstacle(data, found.metric, ("mean", "count")):
        found = units.chosen(data, obstacle=lambda m: _obstacle(data, m))
    reason = _obstacle(data, found.metric)
    if name and reason:
        raise DataError(f"{data.launch.name}: metric {name!r} cannot be read here: {reason}")
    return replace(found, why=f"{NO_AMOUNT}; the north star cannot: {reason}") if reason else found


def _obstacle(data: Study, metric: Metric, kinds: Sequence[str] = get_args(Kind)) -> str | None:
    """Say why a metric is no amount per account of these kinds here, or nothing where it is."""
    here = metric.per_account and metric.kind in kinds
    return units.why_not(data, metric) or (None if here else "it is no amount per account")


def gate(arms: Arms, checks: Iterable[Check]) -> Arms:
    """Close the arms to every effect where a check of the data failed."""
    reason = closed(checks)
    return replace(arms, closed=reason) if reason else arms


def quantile(amounts: Floats, share: float, weights: Sequence[Floats] | None = None) -> float:
    """Find the amount that a share of accounts stays at or below; with weights, the least at which it is reached."""
    if weights is None:
        return float(np.quantile(amounts, share))
    return float(np.quantile(amounts, share, weights=np.concatenate(weights), method="inverted_cdf"))


def means(arms: Arms, control: Floats, treatment: Floats) -> tuple[Floats, Floats, int]:
    """Give the means of columns made from the accounts, and the covariance of their error, past taken out.

    Means are weighted where the accounts have weights, their errors linearised, and only what varies within the strata
    of the draw counts, all as in `inference.compare`.

    Args:
        arms: whose past, weights and strata are used.
        control: (n, c) columns of its accounts.
        treatment: (m, c) likewise.

    Returns:
        means (2, c) and covariances of the means (2, c, c), control first; how many columns of the past were used.
    """
    columns, before = (control, treatment), (arms.control_before, arms.treatment_before)
    weights = arms.weights or (np.ones(len(control)), np.ones(len(treatment)))
    strata = arms.strata or (np.zeros(len(control), dtype=np.int64), np.zeros(len(treatment), dtype=np.int64))
    x = np.concatenate(before)
    used = x.std(axis=0) > 1e-12 * np.abs(x).max(axis=0, initial=0)
    if used.any():
        both = [np.column_stack([b[:, used], y]) for b, y in zip(before, columns, strict=True)]
        every = np.concatenate(weights)
        centre, weight = np.average(np.concatenate(both), axis=0, weights=every), every.mean()
        off = [w[:, None] * (v - centre) / weight for v, w in zip(both, weights, strict=True)]
        n, apart = [len(z) for z in off], off[1].mean(axis=0) - off[0].mean(axis=0)
        scatter = sum(k * (k - 1) * _error(z, s) for k, z, s in zip(n, off, strata, strict=True))
        scatter = scatter + n[0] * n[1] / sum(n) * np.outer(apart, apart)
        k = int(used.sum())
        sd = np.sqrt(np.diag(scatter)[:k])
        theta = np.linalg.pinv(scatter[:k, :k] / np.outer(sd, sd), rtol=1e-10, hermitian=True)
        theta = theta @ (scatter[:k, k:] / sd[:, None]) / sd[:, None]
        left = [v[:, k:] - (v[:, :k] - centre[:k]) @ theta for v in both]
        columns = left[0], left[1]
    mean = np.array([np.average(y, axis=0, weights=w) for y, w in zip(columns, weights, strict=True)])
    off = [w[:, None] * (y - m) / w.mean() for y, w, m in zip(columns, weights, mean, strict=True)]
    return mean, np.array([_error(z, s) for z, s in zip(off, strata, strict=True)]), int(used.sum())


def held(arms: Arms, mean: Floats, cov: Floats, level: float) -> tuple[Floats, Floats, Floats]:
    """Give differences of `means` the error and t of the planned mean, which hold in small, unequal arms too.

    Args:
        arms: the accounts.
        mean: (2, c) means of columns, the effect first.
        cov: (2, c, c) the covariance of their error.
        level: confidence level.

    Returns:
        squared errors of the differences (c,), their t quantiles (c,), and the covariance of the differences (c, c), as
        much greater than that of `means` as the effect's squared error is.
    """
    n, own = np.array(arms.n)[:, None], np.diagonal(cov, axis1=1, axis2=2)
    used, rests, alike = levels.resting(own * n, n, arms.carried[:, None])
    error = (used / rests).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # columns that do not vary
        q, _ = limits.welch(mean, used, rests, level, alike)
        grown = error[0] / own[:, 0].sum()
    return error, q, cov.sum(axis=0) * (grown if error[0] > 0 else 1.0)


def _error(rows: Floats, stratum: Codes) -> Floats:
    """Give the covariance of the mean of rows (n, c) that were drawn within strata (Cochran 1977, eq. 5.7).

    A stratum with one account counts with its distance from the mean of all.
    """
    n, total = len(rows), np.zeros((rows.shape[1], rows.shape[1]))
    for code in np.unique(stratum):
        mine = rows[stratum == code]
        k = len(mine)
        off = mine - (mine if k > 1 else rows).mean(axis=0)
        total += (k / (k - 1) if k > 1 else 1.0) * off.T @ off
    return total / n**2
