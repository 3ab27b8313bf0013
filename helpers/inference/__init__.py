"""Differences between two arms, read from Moments: means, proportions and ratios, adjusted or not, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
from scipy import stats

from helpers.errors import ParameterError, did_you_mean
from helpers.inference import clustered, levels, limits
from helpers.inference.adjusted import FEWEST, poststratified
from helpers.inference.arms import asked, both_arms, check_ranges, pooled
from helpers.inference.family import adjust_family, holm
from helpers.inference.forms import UNTOLD, Form, Linear, covariates, form, needed
from helpers.inference.limits import Relative, kish
from helpers.inference.refusals import REPEATED, lonely, not_estimable, obstacles, slices
from helpers.inference.together import differ
from helpers.metrics import Metric
from helpers.moments import WEIGHT
from helpers.results import Average, Estimate, NotEstimable

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]

__all__ = [
    "REPEATED",
    "Form",
    "Linear",
    "adjust_family",
    "average",
    "compare",
    "covariates",
    "differ",
    "form",
    "holm",
    "joint",
    "kish",
    "linear",
    "needed",
    "poststratified",
]

_METHODS = {
    "ratio": "Welch t by the delta method",
    "count": "Welch t, robust to over-dispersion",
    "time_to_event": "difference in restricted mean survival time, everybody watched to its end: Welch t",
}
ROUNDING = 1e-12  # a variance below this share of its own terms is rounding, not variation


def compare(
    moments: Moments,
    metric: Metric,
    *,
    control: str,
    treatment: str,
    arm: str = "arm",
    stratum: str | None = None,
    poststrata: Sequence[str] = (),
    cluster: str | None = None,
    days: int,
    pre_days: int,
    adjust: bool = False,
    level: float = 0.95,
    power: float = 0.8,
    relative: Relative = "fieller",
    small_groups: bool = False,
) -> list[Estimate | NotEstimable]:
    """Estimate treatment minus control, once for each combination of the group columns beside `arm`.

    Means, counts and ratios (by the delta method) get Welch's t. A proportion gets Newcombe's hybrid score interval
    (1998, method 10) with the p of the pooled z-test. Where an arm expects fewer than 5 events (or accounts without
    one), no covariate is used, because an adjusted mean of so few events is not normal, and p is that of Fisher's exact
    test, but for weights and strata. The interval needs no exchange: with 10,000 accounts in each arm it covers 95 % or
    more from shares of 0.002 % on, as the tests work out. Where none occurred in either arm, or all, it still says how
    many may have been missed, and `se` is that of its width.

    The error of a count is that of a Poisson regression with robust (sandwich) errors, right however over-dispersed the
    counts are; `note` says how much. A time to an event whose accounts were all watched to the end of the window has
    as its mean the restricted mean survival time.

    With `adjust`, what the metric's covariates from before the assignment explain is taken out first (CUPED: Deng, Xu,
    Kohavi and Walker 2013; several covariates by multiple regression), with coefficients from both arms together; a
    proportion is then read like a mean, and `control` and `treatment` are the adjusted values.

    The relative effect has Fieller's interval, which contains 0 exactly if the interval of the difference does. For
    a plain proportion the same equation is solved from Newcombe's own score limits (MOVER-R: Donner and Zou 2012).
    `relative="delta"` gives the symmetric first-order interval instead.

    With `stratum`, the accounts of each arm were drawn within strata, and only what varies within them counts as
    chance. Where the moments are weighted, values are those of the population that the weights stand for, and the
    errors are linearised as in R's `survey`; a proportion then keeps its score interval, at the n that has the same
    error (Korn and Graubard 1998).

    With `poststrata`, both arms first get the mix of strata that they have together, and only what varies within
    strata counts (`poststratified`); a proportion keeps its score interval as above. A ratio is that of the two
    post-stratified means, not a mean of ratios. Together with `adjust`, one coefficient of each covariate, taken
    within strata, serves all of them: one for each stratum and arm, as in Lin (2013), could only gain where slopes
    differ much, and in small strata would be mostly noise. Shares are those of the accounts in the two arms, so that
    an effect that differs between strata adds no error: a mix of strata that differs elsewhere is another question.

    Where the moments are of clusters (`Moments.held`), values are still those of accounts, errors those of clusters,
    with one degree of freedom less than an arm has of them; each must lie whole in one post-stratum. Fewer than 40 of
    both arms together are read cluster by cluster (`cluster`): p and interval are then those of the wild bootstrap
    (`clustered.Wild`), and where they are so few that it rejects nothing, nothing is estimated.

    The number is the effect of being assigned, over all assigned accounts; it says nothing about those who used the
    feature. Its interval holds for one look at the planned end, not for a peek every day.

    Args:
        moments: groups by `arm` and any slices, with the columns and pairs that `needed` names.
        metric: what is compared; quantiles and times with censoring need more and come back as NotEstimable.
        control: name of the arm that is compared against.
        treatment: name of the arm that is judged.
        arm: the group column of the arms.
        stratum: the group column of the strata within which the arms were drawn; it is summed out.
        poststrata: group columns, known before the assignment, whose combinations are the post-strata; summed out.
        cluster: the group column of few clusters, each in one arm; summed out, with strata as chance.
        days: length of the window after assignment, for metrics per week; at least 1.
        pre_days: length of the window before it; at least 1.
        adjust: whether to use the metric's covariates.
        level: confidence level of all intervals, between 0 and 1.
        power: the power with which `mde`, the smallest difference found (normal approximation), would be found.
        relative: which interval `rel_low` to `rel_high` is.
        small_groups: whether errors are to hold in small, unequal arms too. The error is then Student's where Welch's
            is smaller (`levels.error`; of a share only `se`), what is divided by a denominator or weights rests on the
            accounts that carry them, and limits of a share are at least Clopper and Pearson's where events are few.

    Raises:
        ParameterError: `level`, `power`, `days` or `pre_days` is out of range, `relative` is neither of the two, or
            few clusters come with post-strata.
        DataError: an arm does not occur, or the moments lack a column or a covariance.
    """
    check_ranges({"level": level, "power": power}, {"days": days, "pre_days": pre_days})
    if relative not in get_args(Relative):
        raise ParameterError(f"relative is {relative!r}; {did_you_mean(relative, get_args(Relative))}")
    if cluster is not None and poststrata:
        raise ParameterError("arms of few clusters are not post-stratified: leave out 'poststrata'")
    names, each = (control, treatment), moments
    if cluster is not None:
        moments, stratum = pooled(moments, cluster, stratum), None
    design = limits.design(moments, stratum, poststrata)
    if not metric.averaged:
        reason = UNTOLD[metric.kind]
        arms = pooled(moments, stratum, *poststrata).split(arm, names)
        return [not_estimable(metric, reason, row, counts) for row, counts in slices(arms)]

    weighted = WEIGHT in moments.columns
    moments = asked(moments, metric, adjust=adjust)
    outcome = form(metric, days, weighted=weighted)
    before = covariates(metric, pre_days, weighted=weighted) if adjust else ()
    score = metric.kind == "proportion" and not before
    simple = not weighted and stratum is None
    whole, arms, joined = both_arms(moments, arm, names, stratum, poststrata, ddof=0 if score and simple else 1)
    n = np.array([a.n for a in arms])
    few = np.zeros(n.shape[1], dtype=bool)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # `obstacles` finds what could not be divided
        if metric.kind == "proportion":
            effective = np.array([kish(a) if a.held is None else a.held for a in whole])
            few = limits.rare(_read(arms, outcome)[0], effective, outcome.scale)
        value, weights, methods, notes = _adjusted(arms, metric, outcome, before)
        few |= (metric.kind == "proportion" and not score) & np.isin(methods, "Welch t")  # no covariate varies
        variance = _quadratic(weights, np.array([a.cov for a in arms]))
        if score and simple and not poststrata:
            variance = value * (outcome.scale - value)
        used, count, alike = variance, n, np.zeros(n.shape[1], dtype=bool)
        if small_groups:
            used, count, alike = levels.error(variance, whole, outcome.denominator)
        if score:
            tests = np.full(len(methods), "the pooled z-test", dtype=object)
            worth = n.astype(np.float64)
            if poststrata or not simple:
                worth = limits.worth(value / outcome.scale, variance / outcome.scale**2 / n, whole)
                worth = worth if moments.held is None else clustered.fewer(worth, n, level)
            q, below, above, p = limits.score(value, worth, outcome.scale, level)
            if simple and not poststrata and few.any():
                p[few] = limits.fisher(value[:, few], n[:, few], outcome.scale)
                tests[few] = "Fisher's exact test"
            silent = np.asarray(~value.any(axis=0) | np.isclose(value, outcome.scale).all(axis=0))  # as any draw has it
            p[silent], tests[silent] = 1.0, "Fisher's exact test"
            interval = np.full(len(methods), "Newcombe hybrid score interval", dtype=object)
            if small_groups and few.any():
                wide = limits.exact(value[:, few], worth[:, few], outcome.scale, level)
                below[:, few], above[:, few] = np.maximum(below[:, few], wide[0]), np.maximum(above[:, few], wide[1])
                interval[few] = "hybrid of exact intervals"
            methods = [f"{hybrid}, p from {test}" for hybrid, test in zip(interval, tests, strict=True)]
        else:
            q, p = limits.welch(value, used, count, level, alike)
            below = above = q * np.sqrt(used / count)
            methods = [f"{m}, arms taken to vary alike" if a else m for m, a in zip(methods, alike, strict=True)]
        diff = value[1] - value[0]
        se = np.sqrt((used / count).sum(axis=0))
        low, high = diff - np.hypot(below[1], above[0]), diff + np.hypot(above[1], below[0])
        if score:
            se[silent] = ((high - low) / (2 * q))[silent]
        rel, rel_low, rel_high = limits.relative(value, below, above, q * np.sqrt(used / count), relative)
        df = np.inf if moments.held is None else clustered.degrees(used, n)
        mde = (stats.t.isf((1 - level) / 2, df) + stats.t.ppf(power, df)) * se
    for note, alone in zip(notes, lonely(moments, arm, names, stratum, poststrata), strict=False):
        note.extend(alone)
    for note, thin in zip(notes, joined, strict=False):
        note.extend([f"{thin} strata with fewer than {FEWEST} accounts in an arm were put together"] * bool(thin))

    spread = _dispersion(whole, outcome) if metric.kind == "count" else None
    answers: list[Estimate | NotEstimable] = []
    reasons = obstacles(metric, whole, names, se, adjusted=bool(before), small_groups=small_groups)
    for i, ((row, counts), reason) in enumerate(zip(slices(arms), reasons, strict=True)):
        if reason:
            answers.append(not_estimable(metric, reason, row, counts))
            continue
        notes[i].extend([limits.EVERY[bool(value[0, i])]] * bool(score and silent[i]))
        if not value[0, i] > 0:
            notes[i].append("no relative effect, because the control value is not above 0")
        elif np.isnan(rel_low[i]):
            notes[i].append("no relative interval, because the control value cannot be told from 0")
        if spread is not None:
            cost = f", with what {'unequal weights' if moments.held is None else 'clusters'} cost," * weighted
            said = f"the variance between accounts{cost} is {spread[i]:.2g} times the mean; of a Poisson count it is 1"
            notes[i].append(said)
        answers.append(
            Estimate(
                metric=metric.name,
                slice=row,
                control=float(value[0, i]),
                treatment=float(value[1, i]),
                diff=float(diff[i]),
                se=float(se[i]),
                low=float(low[i]),
                high=float(high[i]),
                rel=_or_none(rel[i]),
                rel_low=_or_none(rel_low[i]),
                rel_high=_or_none(rel_high[i]),
                p=float(p[i]),
                n_control=counts[0],
                n_treatment=counts[1],
                method=methods[i] + design,
                mde=float(mde[i]),
                level=level,
                note="; ".join(notes[i]),
            )
        )
    if cluster is not None:
        laid = clustered.Laid(
            each=each.only(moments.columns), cluster=cluster, arm=arm, names=names, arms=arms,
            denominator=str(outcome.denominator), value=value, weights=weights,
        )  # fmt: skip
        answers = clustered.bootstrapped(answers, laid)
    if before and few.any():
        plain = compare(
            each, metric, control=control, treatment=treatment, arm=arm, stratum=stratum, poststrata=poststrata,
            cluster=cluster, days=days, pre_days=pre_days, level=level, power=power, relative=relative,
            small_groups=small_groups,
        )  # fmt: skip
        answers = [exact if f else a for exact, a, f in zip(plain, answers, few, strict=True)]
    return answers


def joint(
    moments: Moments,
    metrics: Sequence[Metric],
    *,
    control: str,
    treatment: str,
    arm: str = "arm",
    stratum: str | None = None,
    poststrata: Sequence[str] = (),
    days: int,
    pre_days: int,
    adjust: bool = False,
) -> tuple[Floats, Floats, Floats]:
    """Read several metrics of the same accounts at once, as `compare` reads each, with their covariances.

    Args:
        moments: as for `compare`, with the covariances among the columns of all the metrics.
        metrics: m of them.
        control: name of the arm that is compared against.
        treatment: name of the arm that is judged.
        arm: the group column of the arms.
        stratum: the group column of the strata within which the arms were drawn.
        poststrata: group columns of the post-strata.
        days: length of the window of a metric that has none of its own.
        pre_days: length of the window before the assignment.
        adjust: whether to use the covariates of each metric.

    Returns:
        Values (m, 2, g), control first; covariances of these values (2, g, m, m); and accounts (2, g).

    Raises:
        DataError: an arm does not occur, or the moments lack a column or a covariance.
    """
    weighted, names = WEIGHT in moments.columns, (control, treatment)
    moments = asked(moments, *metrics, adjust=adjust)
    _, arms, _ = both_arms(moments, arm, names, stratum, poststrata, ddof=1)
    n, cov = np.array([a.n for a in arms]), np.array([a.cov for a in arms])
    with np.errstate(divide="ignore", invalid="ignore"):
        read = [
            _adjusted(
                arms,
                metric,
                form(metric, metric.window_days or days, weighted=weighted),
                covariates(metric, pre_days, weighted=weighted) if adjust else (),
            )
            for metric in metrics
        ]
    values, weights = np.array([r[0] for r in read]), np.array([r[1] for r in read])
    return values, np.einsum("magi,agij,nagj->agmn", weights, cov, weights) / n[..., None, None], n


def linear(
    moments: Moments,
    metric: Metric,
    *,
    control: str,
    treatment: str,
    stratum: str | None = None,
    poststrata: Sequence[str] = (),
    days: int,
    pre_days: int,
    adjust: bool = False,
) -> Linear:
    """Say what each account adds to what `compare` finds of a metric, without slices; arguments as there."""
    weighted = WEIGHT in moments.columns
    moments = asked(moments, metric, adjust=adjust)
    whole, arms, _ = both_arms(moments, "arm", (control, treatment), stratum, poststrata, ddof=1)
    before = covariates(metric, pre_days, weighted=weighted) if adjust else ()
    value, weights, _, _ = _adjusted(arms, metric, form(metric, days, weighted=weighted), before)
    return Linear(
        columns=moments.columns,
        weighted=weighted,
        weights=weights[:, 0],
        n=np.array([a.n[0] for a in whole]),
        value=value[:, 0],
        variance=_quadratic(weights, np.array([a.cov for a in arms]))[:, 0],
        centre=np.einsum("ak,ak->a", weights[:, 0], np.array([a.mean[0] for a in whole])),
        spread=np.sqrt(_quadratic(weights, np.array([a.scatter / a.n[:, None, None] for a in whole]))[:, 0]),
    )


def average(
    moments: Moments,
    metric: Metric,
    *,
    of: str,
    arm: str = "arm",
    stratum: str | None = None,
    sampled_share: Floats | None = None,
    days: int,
    level: float = 0.95,
) -> list[Average | NotEstimable]:
    """Estimate a metric's value in the population that one arm stands for, once for each slice.

    Means and ratios get a t interval, proportions Wilson's (1927) at the n that has the same error. Weights and strata
    are used as in `compare`, so that the errors are those of R's `svymean` and `svyratio`. The number describes the
    arm's world: what the treatment changes is the difference to another arm, which `compare` estimates.

    Args:
        moments: groups by `arm`, any strata and slices, with the columns and pairs that `needed` names.
        metric: what is averaged.
        of: name of the arm.
        arm: the group column of the arms.
        stratum: the group column of the strata within which the arm was drawn; it is summed out.
        sampled_share: per stratum of the arm, in the order of `moments.select(arm=of)`, the share of its accounts that
            was drawn; the error then is that of this very population, and 0 when all of it was drawn.
        days: length of the window after assignment, for metrics per week; at least 1.
        level: confidence level, between 0 and 1.

    Raises:
        ParameterError: `level` or `days` is out of range, or `sampled_share` came without strata.
        DataError: the arm does not occur, or the moments lack a column or a covariance.
    """
    check_ranges({"level": level}, {"days": days})
    if sampled_share is not None and stratum is None:
        raise ParameterError("sampled_share is given by stratum; name the column that holds the strata")
    weighted = WEIGHT in moments.columns
    read = asked(moments, metric, adjust=False).select(**{arm: of})
    whole = pooled(read, stratum)
    drawn = whole if stratum is None else read.within(stratum, sampled_share=sampled_share)
    outcome = form(metric, days, weighted=weighted)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, weights = outcome.read(drawn)
        variance = _quadratic(weights, drawn.cov) / drawn.n
        q = stats.t.isf((1 - level) / 2, drawn.n - 1)
        low, high, worth = value - q * np.sqrt(variance), value + q * np.sqrt(variance), kish(whole)
        method = "t interval by the delta method" if metric.kind == "ratio" else "t interval"
        if metric.kind == "proportion":
            share = value / outcome.scale
            if weighted or stratum is not None:
                worth = limits.worth(share, variance / outcome.scale**2, [whole])[0]
            _, below, above, _ = limits.score(np.array([value, value]), np.array([worth, worth]), outcome.scale, level)
            low, high, method = value - below[0], value + above[0], "Wilson score interval"
    reasons = obstacles(metric, [whole], [of], np.sqrt(variance) if metric.kind != "proportion" else whole.n)
    return [
        NotEstimable(metric=metric.name, reason=reason, slice=row, n_treatment=n)
        if reason
        else Average(
            metric=metric.name,
            slice=row,
            value=float(value[i]),
            se=float(np.sqrt(variance[i])),
            low=float(low[i]),
            high=float(high[i]),
            n=n,
            n_effective=float(worth[i]),
            method=method + limits.design(moments, stratum),
            level=level,
        )
        for i, ((row, (n, _)), reason) in enumerate(zip(slices([whole, whole]), reasons, strict=True))
    ]


def _adjusted(
    arms: Sequence[Moments], metric: Metric, outcome: Form, before: Sequence[Form]
) -> tuple[Floats, Floats, list[str], list[list[str]]]:
    """Give value (2, g) and gradient (2, g, k), less what the covariates explain; and each group's words."""
    value, weights = _read(arms, outcome)
    method = _METHODS.get(metric.kind, "Welch t")
    if not before:
        return value, weights, [method] * len(value.T), [[] for _ in value.T]

    cov, n = np.array([a.cov for a in arms]), np.array([a.n for a in arms])
    plain, total = _quadratic(weights, cov), arms[0] + arms[1]
    theta, used, collinear = _coefficients(total, outcome, before)
    for f, coefficient, use in zip(before, theta.T, used.T, strict=True):
        x, x_weights = _read(arms, f)
        value = value - np.where(use, coefficient * (x - f.read(total)[0]), 0)
        weights = weights - np.where(use[:, None], coefficient[:, None] * x_weights, 0)
    variance = _quadratic(weights, cov)

    change = (variance / n).sum(axis=0) / (plain / n).sum(axis=0) - 1
    names = np.array(["own pre-period"] if metric.covariates == "own" else [f.numerator for f in before])
    methods = [
        f"{method}, adjusted for {' and '.join(names[use])} ({_gain(c)})" if use.any() else method
        for use, c in zip(used, change, strict=True)
    ]
    notes = [
        [f"{name} does not vary and was not used" for name in names[~use]]
        + ["one covariate repeats the others, which does not harm the estimate"] * bool(mixed)
        for use, mixed in zip(used, collinear, strict=True)
    ]
    return value, weights, methods, notes


def _dispersion(arms: Sequence[Moments], outcome: Form) -> Floats:
    """Give the variance of an account's count over the mean count (g,), both arms together; 1 for a Poisson count.

    A Poisson test takes its errors for smaller than they are, by the root of this.
    """
    arms = [a.of_accounts() for a in arms]
    n = np.array([a.n for a in arms])
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is counted
        value, weights = _read(arms, outcome)
        variance = _quadratic(weights, np.array([a.cov for a in arms]))
        return np.asarray((n * variance).sum(axis=0) / (outcome.scale * (n * value).sum(axis=0)))


def _gain(change: float) -> str:
    """Say by how much the variance of the difference changed."""
    return f"variance {change:+.0%}".replace("-", "−") if abs(change) >= 0.005 else "without gain"


def _coefficients(
    total: Moments, outcome: Form, before: Sequence[Form]
) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Regress the linearised outcome on the covariates in both arms together: slopes (g, c), which vary, collinear."""
    cov = total.cov
    x, weights = map(np.array, zip(*(f.read(total) for f in before), strict=True))
    sd = np.sqrt(_quadratic(weights, cov)).T
    used = sd > ROUNDING * np.abs(x.T)
    unit = np.divide(1.0, sd, out=np.zeros_like(sd), where=used)
    weights = np.where(used.T[:, :, None], weights * unit.T[:, :, None], 0)
    cov = np.where(used.any(axis=1)[:, None, None], cov, 0)  # NaN where an arm is empty
    correlation = np.einsum("agi,gij,bgj->gab", weights, cov, weights)
    slopes = np.nan_to_num(np.einsum("agi,gij,gj->ga", weights, cov, outcome.read(total)[1]))
    inverse = np.linalg.pinv(correlation, rtol=1e-10, hermitian=True)
    rank = np.linalg.matrix_rank(correlation, rtol=1e-10, hermitian=True)
    return np.einsum("gab,gb->ga", inverse, slopes) * unit, used, rank < used.sum(axis=1)


def _read(arms: Sequence[Moments], form_: Form) -> tuple[Floats, Floats]:
    """Read a form from both arms: values (2, g) and weights (2, g, k)."""
    values, weights = zip(*(form_.read(a) for a in arms), strict=True)
    return np.array(values), np.array(weights)


def _quadratic(weights: Floats, cov: Floats) -> Floats:
    """Give w' cov w over the last axes, and exactly 0 where only rounding is left of it."""
    variance = np.einsum("...i,...ij,...j", weights, cov, weights)
    terms = np.einsum("...i,...ij,...j", np.abs(weights), np.abs(cov), np.abs(weights))
    return np.where(variance <= ROUNDING * terms, 0, variance)


def _or_none(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
