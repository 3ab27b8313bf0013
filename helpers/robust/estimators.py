"""Averages of amounts with a few heavy accounts: all of it, capped, trimmed, or on another scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.inference.regression import Robust, regress
from helpers.results import Estimate, NotEstimable, counted, figures, nothing
from helpers.robust import accounts, values
from helpers.robust.accounts import Arms

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Slopes = Literal["common", "own"]
CAPS = (0.9, 0.95, 0.99, 0.995, 0.999, 0.9999)


def mean(arms: Arms, *, level: float = 0.95, power: float = 0.8) -> Estimate | NotEstimable:
    """Compare the means by Welch's t, past taken out: what the average account gains, and so the whole service.

    It is the only one of these that adds up to a total. It says nothing about how many accounts gained. The
    error is that of the scorecard, which holds in small, unequal arms too (`levels.error`).
    """
    return _means(arms, arms.control, arms.treatment, "Welch t on all amounts", level=level, power=power)


def regression(
    arms: Arms, slopes: Slopes = "own", *, errors: Robust = "HC2", level: float = 0.95, power: float = 0.8
) -> Estimate | NotEstimable:
    """Compare the means by least squares on the arm and what was known before, which takes the past out in another way.

    With `common` slopes, the same within both arms, this is the analysis of covariance (ANCOVA); with `own` ones, a
    slope for each arm and the past centred over both, it is Lin's (2013) regression, which in large samples is never
    less precise than the plain difference; its error is that of the effect in these accounts, with the past that they
    have, and a little small for that in all whom they stand for where slopes differ much. `mean` and the scorecard
    take one slope from both arms together (CUPED). All three estimate the same gain of the average account. Where they
    differ by more than a small part of their errors, the arms differed before the launch or are small, and the plan,
    not the answer, decides which to believe.

    Args:
        arms: the accounts. Dummies of an attribute may stand among the columns of their past.
        slopes: of the past, `common` or `own`.
        errors: `HC2` makes no assumption on variances; others are there to stand beside what others published.
        level: confidence level.
        power: with which `mde` would be found.

    Returns:
        The difference; `control` and `treatment` are the means at the average past of both. The relative interval
        takes these two for independent, which they are but for the slopes.

    Raises:
        ParameterError: `slopes` or `errors` is not among those named.
    """
    values.check(level, power)
    if slopes not in get_args(Slopes):
        raise ParameterError(f"slopes is {slopes!r}; {did_you_mean(slopes, get_args(Slopes))}")
    if refusal := arms.refusal():
        return refusal
    past = np.concatenate([arms.control_before, arms.treatment_before])
    past = past[:, past.std(axis=0) > 1e-12 * np.abs(past).max(axis=0, initial=0)]
    past = past - past.mean(axis=0)
    treated = np.repeat([0.0, 1.0], arms.n)
    x = {"treated": treated} | {f"past {i}": column for i, column in enumerate(past.T)}
    if slopes == "own":
        x |= {f"treated past {i}": treated * column for i, column in enumerate(past.T)}
    try:
        found = regress(arms.pooled, x, errors=errors, level=level)
    except DataError as fault:
        return arms.unable(str(fault))
    (control, diff), se = found["value"][:2], found["se"].to_numpy()
    if not se[1] > 1e-12 * abs(control):
        return arms.unable("the values do not vary within either arm")
    if not np.isfinite(se).all():
        return arms.unable("one account alone decides a slope of the past, which leaves no error")
    q = float((found["high"][1] - diff) / se[1])
    half = q * np.array([se[0], np.sqrt(max(se[1] ** 2 - se[0] ** 2, 0.0))])
    method = f"least squares with {slopes} slopes of the past, {errors} errors"
    return values.contrast(
        arms.metric,
        np.array([control, control + diff]),
        half,
        half,
        n=arms.n,
        p=float(found["p"][1]),
        q=q,
        method=method,
        level=level,
        power=power,
        note=arms.once,
    )


def capped(arms: Arms, cap: float, *, level: float = 0.95, power: float = 0.8) -> Estimate | NotEstimable:
    """Compare the means when no account counts for more than the cap (winsorised above), by Welch's t, past taken out.

    The cap is one number for both arms, set in the plan or found by `cap_at` on pooled or past amounts. A quantile of
    each arm would cap the arm with more heavy accounts higher, and hide just what was to be limited.

    Raises:
        ParameterError: the cap is not above 0.
    """
    if not cap > 0:
        raise ParameterError(f"the cap is {cap}, must be above 0; `cap_at` finds one")
    over = [float((x > cap).mean()) if len(x) else 0.0 for x in (arms.control, arms.treatment)]
    note = f"the cap of {figures(cap, 4)} holds back {over[0]:.2%} of control and {over[1]:.2%} of treatment"
    note *= bool(np.isfinite(cap))
    return _means(
        arms,
        np.minimum(arms.control, cap),
        np.minimum(arms.treatment, cap),
        f"Welch t on amounts up to {figures(cap, 4)}",
        level=level,
        power=power,
        note=note,
    )


def cap_at(pooled: Floats, share: float, weights: tuple[Floats, Floats] | None = None) -> float:
    """Find the amount that a share of the accounts that have something, both arms together, stays at or below.

    Zeros do not count: among many of them the quantile would fall to nearly nothing, and with it the metric.

    Args:
        pooled: amounts of both arms, or amounts from before the launch.
        share: above 0, below 1.
        weights: of the accounts of control and treatment, if they were drawn with unequal probabilities.

    Raises:
        ParameterError: the share is out of range, or nobody has anything.

    >>> cap_at(np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 3]), 0.5)
    2.0
    """
    if not 0 < share < 1:
        raise ParameterError(f"the share of a cap is {share}, must lie between 0 and 1")
    if not (pooled > 0).any():
        raise ParameterError("there is no amount above 0, so there is nothing to cap")
    some = pooled > 0
    if weights is None:
        return float(np.quantile(pooled[some], share))
    return accounts.quantile(pooled[some], share, (np.concatenate(weights)[some],))


def limit(arms: Arms, share: float) -> float:
    """Give the amount of a cap: the plan's own at its quantile, else `cap_at`; infinite where nobody has anything."""
    if arms.limit is not None and share == arms.cap:
        return arms.limit
    return cap_at(arms.pooled, share, arms.weights) if (arms.pooled > 0).any() else np.inf


def limited(arms: Arms, at: float) -> str:
    """Say what a mean capped at an amount estimates; there is none where nobody has anything."""
    if not np.isfinite(at):
        return "what it gains when no account counts for more than a cap; nobody has anything to be capped"
    return f"what it gains when no account counts for more than {figures(at, 4)} {arms.unit}".rstrip()


def caps(arms: Arms, shares: Sequence[float] = CAPS, *, level: float = 0.95, power: float = 0.8) -> pd.DataFrame:
    """Repeat the comparison under caps at several pooled quantiles, and without one: does the answer hang on the cap?

    Returns:
        cap (a share of the accounts that have something, or "none"), at (the amount), over_control and over_treatment
        (shares of all accounts, above it), diff, low, high, p, mde; without rows for shares of accounts, and where the
        arms cannot be compared.
    """
    rows = []
    for share in (*shares, None) if not arms.shares else ():
        at = np.inf if share is None else limit(arms, share)
        e = capped(arms, at, level=level, power=power)
        if isinstance(e, Estimate):
            over = [float((x > at).mean()) for x in (arms.control, arms.treatment)]
            row = {"cap": "none" if share is None else f"{share:.2%}", "at": None if share is None else at}
            row |= dict(zip(("over_control", "over_treatment"), over, strict=True))
            rows.append(row | {key: getattr(e, key) for key in ("diff", "low", "high", "p", "mde")})
    columns = ["cap", "at", "over_control", "over_treatment", "diff", "low", "high", "p", "mde"]
    return pd.DataFrame(rows, columns=columns) if rows else nothing(arms.why_not_amounts, columns)


def trimmed(arms: Arms, share: float = 0.2, *, level: float = 0.95, power: float = 0.8) -> Estimate | NotEstimable:
    """Compare trimmed means by Yuen's t (1974): the average of those in the middle of each arm.

    Each arm loses the lowest and the highest share of its own accounts, so the middles are of the two distributions,
    not of the same people. A launch that moves only the heaviest fifth does not exist for it.

    Args:
        arms: the accounts.
        share: trimmed at each end, at least 0 and below 0.5.
        level: confidence level.
        power: with which `mde` would be found.

    Raises:
        ParameterError: the share is out of range.
    """
    values.check(level, power)
    if not 0 <= share < 0.5:
        raise ParameterError(f"the trimmed share is {share}, must be at least 0 and below 0.5")
    if refusal := arms.refusal():
        return refusal
    middle, error, kept = np.empty(2), np.empty(2), np.empty(2)
    for i, rows in enumerate((arms.control, arms.treatment)):
        cut, n = int(share * len(rows)), len(rows)
        if n - 2 * cut < 2:
            return arms.unable(f"{arms.names[i]} has {counted(n)}, too few to trim")
        x = np.sort(rows)
        middle[i], kept[i] = x[cut : n - cut].mean(), n - 2 * cut
        winsorised = np.clip(x, x[cut], x[n - cut - 1])
        error[i] = (n - 1) * winsorised.var(ddof=1) / (kept[i] * (kept[i] - 1))
    method = f"Yuen t, {share:.0%} trimmed at each end"
    return _welch(arms, middle, error, kept, method, level=level, power=power, note=arms.once)


def power_mean(
    arms: Arms, exponent: float = 0.0, offset: float = 0.0, *, level: float = 0.95, power: float = 0.8
) -> Estimate | NotEstimable:
    """Compare means of log(x + offset), or of (x + offset)^exponent, turned back into the metric's unit.

    With exponent 0 the values are geometric means of x + offset, and the relative effect is their ratio less 1: by
    which factor amounts changed, if all changed by one factor. Zeros have no logarithm. Adding an offset lets them in
    and makes the answer depend on the unit in which it was added, as strongly as one likes (Chen and Roth 2024);
    leaving zeros out compares people whom the launch may have chosen. Hence no offset is added unasked.

    Args:
        arms: the accounts.
        exponent: 0 for the logarithm; `box_cox` finds one.
        offset: added to every amount, in the metric's unit, 0 or more.
        level: confidence level.
        power: with which `mde` would be found.

    Raises:
        ParameterError: the offset is negative, or the exponent is not finite.
    """
    values.check(level, power)
    if not (offset >= 0 and np.isfinite(exponent)):
        raise ParameterError(f"offset is {offset} and exponent {exponent}; expected 0 or more, and a finite number")
    if refusal := arms.refusal():
        return refusal
    if (arms.pooled + offset).min() <= 0:
        none = [float((x + offset <= 0).mean()) for x in (arms.control, arms.treatment)]
        what = "logarithm" if exponent == 0 else "power mean"
        reason = f"{none[0]:.1%} of control and {none[1]:.1%} of treatment have nothing, which has no {what}"
        return arms.unable(f"{reason}; an offset would let them in, and decide the answer")
    rows = [x + offset for x in (arms.control, arms.treatment)]
    made = [(np.log(x) if exponent == 0 else x**exponent)[:, None] for x in rows]
    n, (mean, cov, _) = np.array(arms.n), accounts.means(arms.without_past(), made[0], made[1])
    middle, error = mean[:, 0], cov[:, 0, 0]
    if not error.sum() > 0:
        return arms.unable("the values do not vary within either arm")
    q, p = values.t_test(middle, error, n, level)
    half = q * np.sqrt(error)

    def back(y: Floats) -> Floats:
        return np.exp(y) if exponent == 0 else np.maximum(y, 0) ** (1 / exponent)

    with np.errstate(divide="ignore"):
        value, ends = back(middle), np.sort([back(middle - half), back(middle + half)], axis=0)
    if not np.isfinite([value, *ends]).all():
        return arms.unable("a limit on the bent scale stands for no amount")
    name = "geometric means" if exponent == 0 else f"power means (exponent {exponent:.3g})"
    told = f" of amounts plus {figures(offset, 4)}" if offset else ""
    told += ", weighted to the population" * (arms.weights is not None)
    e = values.contrast(
        arms.metric,
        value,
        value - ends[0],
        ends[1] - value,
        n=arms.n,
        p=p,
        q=q,
        method=f"{name}{told}, Welch t before turning back",
        level=level,
        power=power,
        note=f"zeros count as {figures(offset, 4)}; another offset gives another answer" if offset else "",
    )
    if exponent == 0:  # the limits of a ratio are exact on the scale of the logarithm
        log, wide = middle[1] - middle[0], float(np.hypot(*half))
        e = replace(e, rel_low=float(np.expm1(log - wide)), rel_high=float(np.expm1(log + wide)))
    return e


def box_cox(arms: Arms, offset: float = 0.0) -> float | None:
    """Find the exponent that makes both arms together most nearly normal (Box and Cox 1964); None for x + offset <= 0.

    It is found without looking at the arm. The comparison that follows treats it as known.
    """
    x = arms.pooled + offset
    if len(x) < 2 or x.min() <= 0 or np.ptp(x) == 0:
        return None
    return float(stats.boxcox_normmax(x, method="mle"))


def _means(
    arms: Arms, control: Floats, treatment: Floats, method: str, *, level: float, power: float, note: str = ""
) -> Estimate | NotEstimable:
    values.check(level, power)
    if refusal := arms.refusal():
        return refusal
    mean, cov, used = accounts.means(arms, control[:, None], treatment[:, None])
    method += ", weighted to the population" * (arms.weights is not None)
    method += f", adjusted for {used} amounts from before" if used > 1 else ", adjusted for the amount before" * used
    note = "; ".join(filter(None, [note, arms.unlike]))
    n = np.array(arms.n)
    middle, error = mean[:, 0], cov[:, 0, 0]
    return _welch(arms, middle, error, n, method, level=level, power=power, note=note, carried=arms.carried)


def _welch(arms: Arms, middle: Floats, error: Floats, n: Floats, method: str, **asked: Any) -> Estimate | NotEstimable:
    """Compare two averages with squared errors (2,) from so many values each; the rest is as in `values.welch`."""
    if not error.sum() > 1e-24 * (middle**2).sum():
        return arms.unable("the values do not vary within either arm")
    return values.welch(arms.metric, middle, error, n, n=arms.n, method=method, **asked)
