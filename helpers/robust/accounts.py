"""The accounts of two arms: one amount each, what each had before, and which of them cannot be people at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers import inference, units
from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.metrics import UNITS_TABLE, Metric
from helpers.moments import WEIGHT
from helpers.results import Check, NotEstimable, closed
from helpers.robust import values

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.study import Study

    Floats = npt.NDArray[np.float64]
    Chosen = npt.NDArray[np.bool_] | npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arms:
    """Two arms of accounts on one metric, in its own unit and without any cap.

    `control` (n,) and `treatment` (m,) hold one amount per account; `control_before` (n, b) and `treatment_before`
    (m, b) what was measured of it before the launch, with b = 0 where nothing was. `closed` says why no effect may be
    read from them, or nothing. `weighted` says that they were drawn with unequal probabilities; here each counts once.
    """

    metric: str
    title: str = ""
    unit: str = ""
    names: tuple[str, str] = ("control", "treatment")
    better: str = "higher"
    shares: bool = False  # amounts that are 0 or 1
    cap: float | None = None  # the quantile of both arms at which the plan caps the metric; the amounts are not capped
    closed: str = ""
    weighted: bool = False
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

    def unable(self, reason: str) -> NotEstimable:
        """Say why these arms do not give a number."""
        return NotEstimable(metric=self.metric, reason=reason, n_control=self.n[0], n_treatment=self.n[1])

    def without_past(self) -> Arms:
        """Forget what was measured before the launch."""
        before = (np.empty((n, 0)) for n in self.n)
        return replace(self, control_before=next(before), treatment_before=next(before))

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
    has none, the first that can be measured. Of a ratio the numerator is read: the amount that a few accounts may hold.

    Raises:
        ParameterError: the plan has no such metric, or the launch no such treatment.
        DataError: no metric, or not this one, can be measured on these data.
    """
    launch = data.launch
    treatment = launch.judged(treatment)
    chosen = _chosen(data, metric)
    outcome = chosen.numerator
    past = [m for m in units.covariates(data, chosen) if chosen.denominator is None]
    columns = [outcome.name("post", chosen.window_days), *(m.name("pre") for m in past)]
    if len(set(columns)) < len(columns) or any(m.table == UNITS_TABLE and m == outcome for m in past):
        raise ParameterError(f"a covariate of {chosen.name} is the outcome itself; name one from before")
    names, table = (launch.arms.control, treatment), units.load(data)
    table = table.filter(table.arm.isin(names))
    weight = {"weight": table[WEIGHT]} if WEIGHT in table.columns else {}
    frame = table.select("arm", **weight, **{f"x{i}": table[c] for i, c in enumerate(columns)}).execute()
    control, treated = (
        values.finite(frame.loc[frame["arm"] == name, [f"x{i}" for i in range(len(columns))]]) for name in names
    )
    scale = inference.form(chosen, chosen.window_days or launch.days).scale
    if chosen.denominator is not None:
        scale = outcome.scale
    return Arms(
        metric=chosen.name,
        title=chosen.title,
        unit=chosen.unit if chosen.denominator is None else "",
        names=names,
        better=chosen.better,
        shares=chosen.kind == "proportion",
        cap=chosen.cap,
        weighted=bool(weight) and bool((frame.groupby("arm")["weight"].agg(np.ptp) > 1e-9).any()),
        control=scale * control[:, 0],
        treatment=scale * treated[:, 0],
        control_before=control[:, 1:],
        treatment_before=treated[:, 1:],
    )


def _chosen(data: Study, name: str) -> Metric:
    can = [p.metric for p in units.measurable(data) if p.metric.per_account]
    if name:
        planned = {p.metric.name: p.metric for p in data.launch.plan}
        if name not in planned:
            raise ParameterError(
                f"metric {name!r} is not in the plan of {data.launch.name}; {did_you_mean(name, planned)}"
            )
        if reason := units.why_not(data, planned[name]):
            raise DataError(f"{data.launch.name}: metric {name!r} cannot be measured: {reason}")
        if not planned[name].per_account:
            raise DataError(f"{data.launch.name}: metric {name!r} is no amount per account")
        return planned[name]
    if not can:
        raise DataError(f"{data.launch.name}: no metric of the plan is an amount per account in these data")
    return next((m for m in can if m.kind in ("mean", "count")), can[0])


def gate(arms: Arms, checks: Iterable[Check]) -> Arms:
    """Close the arms to every effect where a check of the data failed."""
    reason = closed(checks)
    return replace(arms, closed=reason) if reason else arms


def screen(arms: Arms, impossible_above: float | None, *, alpha: float = 0.001) -> tuple[Arms, Check]:
    """Remove accounts that nobody can be (bots, broken meters), in both arms by one rule that does not see the arm.

    The rule must be set beforehand: a limit beyond which an amount is impossible, not merely large. Whether the launch
    itself made accounts pass it is asked by Fisher's exact test: if it did, removing them removes an effect.

    Args:
        arms: the accounts.
        impossible_above: the largest possible amount, in the metric's unit; None where no limit was set.
        alpha: how rarely a sound comparison may fail.

    Raises:
        ParameterError: the limit is not above 0.

    >>> kept, check = screen(of([1.0, 2.0, 900.0], [1.0, 3.0, 2.0]), 672)
    >>> kept.n, check.detail
    ((2, 3), 'Removed as impossible (above 672): 1 of 3 control and 0 of 3 treatment accounts, as chance may do.')
    """
    name = "Impossible accounts"
    if impossible_above is None:
        detail = "No limit of the possible was set, so no account was removed."
        return arms, Check(name=name, passed=None, detail=detail)
    if not impossible_above > 0:
        raise ParameterError(f"impossible_above is {impossible_above}, must be above 0")
    kept = [x <= impossible_above for x in (arms.control, arms.treatment)]
    removed = [int((~k).sum()) for k in kept]
    p = float(stats.fisher_exact([removed, [int(k.sum()) for k in kept]]).pvalue)
    counted = " and ".join(f"{r:,} of {n:,} {name}" for r, n, name in zip(removed, arms.n, arms.names, strict=True))
    detail = f"Removed as impossible (above {impossible_above:,.4g}): {counted} accounts"
    passed = p >= alpha
    detail += ", as chance may do." if passed else ": more than chance does, so the launch may have made them."
    return arms.where(*kept), Check(name=name, passed=passed, detail=detail, p=p)


def means(arms: Arms, control: Floats, treatment: Floats) -> tuple[Floats, Floats, int]:
    """Give the means of columns made from the accounts, and the covariance of their error, past taken out.

    Args:
        arms: whose past is used.
        control: (n, c) columns of its accounts.
        treatment: (m, c) likewise.

    Returns:
        means (2, c) and covariances of the means (2, c, c), control first; how many columns of the past were used.
    """
    columns, before = (control, treatment), (arms.control_before, arms.treatment_before)
    x = np.concatenate(before)
    spread = x.std(axis=0)
    used = spread > 1e-12 * np.abs(x).max(axis=0, initial=0)
    if used.any():
        x, y = x[:, used], np.concatenate(columns)
        theta = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(axis=0), rcond=None)[0]
        both = zip(before, columns, strict=True)
        control, treatment = (y - (b[:, used] - x.mean(axis=0)) @ theta for b, y in both)
        columns = (control, treatment)
    mean = np.array([y.mean(axis=0) for y in columns])
    cov = np.array([np.atleast_2d(np.cov(y, rowvar=False)) / len(y) for y in columns])
    return mean, cov, int(used.sum())
