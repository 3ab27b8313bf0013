"""Assigned, shown, taken up: three effects of one launch, and the comparison that looks like a fourth and is none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd
from scipy import stats

from helpers import inference, metrics, moments, scorecard, units
from helpers.errors import ParameterError, did_you_mean
from helpers.inference.regression import Robust
from helpers.metrics import Metric
from helpers.moments import WEIGHT, Moments
from helpers.results import Check, Estimate, NotEstimable, change, closed, figures
from helpers.study import Study
from helpers.units import STRATUM
from helpers.units.query import Cell

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

WEAK = 10.0  # F of the first stage below which the usual interval misleads (Staiger and Stock 1997)
SAME = 0.001  # p of the check that both arms came to the trigger alike, as for the counts of the arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Complier:
    """The effect on those whom the assignment moved to take part: the effect of assignment over the change in uptake.

    `diff` is in the metric's unit (for each unit taken, where taking part is no yes or no), with an interval at `level`
    that holds however few take part (Anderson and Rubin 1949); `p` is Welch's of the effect of assignment, which is 0
    exactly if this one is. `uptake` is the share moved, or the amount, `f` the first stage's F (the squared t of
    `uptake`). It says nothing of those who would take part in either arm, or in neither.
    """

    metric: str
    slice: Mapping[str, str] = field(default_factory=dict)
    diff: float
    se: float
    low: float
    high: float
    p: float
    uptake: float
    f: float
    n_control: int
    n_treatment: int
    method: str
    level: float = 0.95
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One comparison: its name, whom it is about, the answer, and in words what it may be used for.

    `over` names the metric whose change the effect of assignment is divided by: "" for those assigned, None where the
    answer is no such ratio.
    """

    name: str
    about: str
    answer: Estimate | Complier | NotEstimable
    words: str
    over: str | None = None


def complier(
    read: Moments,
    metric: Metric,
    taken: Metric,
    *,
    control: str,
    treatment: str,
    stratum: str | None = None,
    poststrata: Sequence[str] = (),
    days: int,
    pre_days: int = 1,
    adjust: bool = False,
    errors: Robust = "HC2",
    level: float = 0.95,
) -> list[Complier | NotEstimable]:
    """Divide the effect of assignment by the change in uptake, once for each slice (Wald 1940; Angrist et al. 1996).

    Without covariates this is two-stage least squares with the assignment as instrument. It rests on two things that
    no data can show: assignment changes nothing for those who do not take part because of it, and it keeps nobody from
    taking part. The interval inverts the test that diff = theta * uptake, with the covariance of both: Fieller's
    (1954) and, for one instrument, Anderson and Rubin's. It contains 0 exactly if Welch's interval of the effect of
    assignment does, and where uptake cannot be told from unchanged it has no end.

    Args:
        read: moments by arm, strata and any slices, with the covariances among the columns of both metrics; see
            `inference.needed`.
        metric: a mean, count or proportion.
        taken: a proportion: who took part; or a mean: how much of it an account took, in which case the answer is the
            effect for each unit of it.
        control: name of the arm that is compared against.
        treatment: name of the arm that is judged.
        stratum: the group column of the strata of the draw.
        poststrata: group columns of the post-strata.
        days: length of the window after assignment.
        pre_days: length of the window before it.
        adjust: whether to use the covariates of the metric.
        errors: HC2, as Welch's, is free of assumptions on variances; the others are those of two-stage least squares
            as published tables have them, `classic` with equal variances. They are defined without weights and strata.
        level: confidence level, between 0 and 1.

    Returns:
        The effect in each slice; not estimable for a ratio, or where the interval has no end.

    Raises:
        ParameterError: `taken` is no mean over accounts, `level` is out of range, or `errors` is not known or not
            defined here.
        DataError: an arm does not occur, or the moments lack a column or a covariance.
    """
    if errors not in get_args(Robust):
        raise ParameterError(f"errors is {errors!r}; {did_you_mean(errors, get_args(Robust))}")
    if errors != "HC2" and (poststrata or stratum is not None or WEIGHT in read.columns):
        raise ParameterError(f"{errors} errors are defined without weights and strata only; leave out 'errors'")
    if taken.kind not in {"mean", "count", "proportion"}:
        raise ParameterError(f"{taken.name} is a {taken.kind}; what was taken must be a mean or a share over accounts")
    if not 0 < level < 1:
        raise ParameterError(f"level is {level}, must lie between 0 and 1")
    read = read.select(arm=control) + read.select(arm=treatment)
    rest = [str(c) for c in read.groups if c not in {"arm", stratum, *poststrata}]
    labels = [{str(k): str(v) for k, v in row.items()} for row in read.pool(rest).groups.to_dict("records")] or [{}]
    if metric.kind not in {"mean", "count", "proportion"}:
        reason = f"a {metric.kind} is no mean over accounts, so no account has an effect on it"
        return [NotEstimable(metric=metric.name, reason=reason, slice=row) for row in labels]
    people = [a.accounts for a in read.pool([*rest, "arm"]).split("arm", (control, treatment))]
    value, cov, n = inference.joint(
        read,
        [metric, taken],
        control=control,
        treatment=treatment,
        stratum=stratum,
        poststrata=poststrata,
        days=days,
        pre_days=pre_days,
        adjust=adjust,
    )
    cov = _as(errors, cov, n)
    (effect, uptake), both = value[:, 1] - value[:, 0], cov.sum(axis=0)
    own, shared, first = both[:, 0, 0], both[:, 0, 1], both[:, 1, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        df = own**2 / (cov[..., 0, 0] ** 2 / (n - 1)).sum(axis=0)  # Welch's, of the effect of assignment
        q = stats.t.isf((1 - level) / 2, df)
        f = np.where(uptake == 0, 0, uptake**2 / first)
        square, middle = uptake**2 - q**2 * first, effect * uptake - q**2 * shared
        root = np.sqrt(np.maximum(middle**2 - square * (effect**2 - q**2 * own), 0))
        low, high, diff = (middle - root) / square, (middle + root) / square, effect / uptake
        se = np.sqrt(np.maximum(own - 2 * diff * shared + diff**2 * first, 0)) / np.abs(uptake)
        p = 2 * stats.t.sf(np.abs(effect) / np.sqrt(own), df)

    answers: list[Complier | NotEstimable] = []
    for i, row in enumerate(labels):
        if n[:, i].min() < 2 or not own[i] > 0:
            reason = "an arm has fewer than 2 accounts" if n[:, i].min() < 2 else "the values do not vary within arms"
        elif not value[1, :, i].any():
            reason = "nobody took part in either arm"
        elif not square[i] > 0:
            share = taken.kind == "proportion"
            step = (
                f"{100 * uptake[i]:+.1f} percentage points"
                if share
                else f"{figures(uptake[i], sign=True)} {taken.unit}".rstrip()
            )
            reason = (
                f"assignment changed {'who' if share else 'how much they'} took part by {step} (F = {f[i]:.1f}), which "
                "cannot be told from 0: the interval of the effect on those whom it moved has no end"
            )
        else:
            note = f"few were moved (F = {f[i]:.1f}): the interval holds, the value leans towards the naive one"
            answers.append(
                Complier(
                    metric=metric.name,
                    slice=row,
                    diff=float(diff[i]),
                    se=float(se[i]),
                    low=float(low[i]),
                    high=float(high[i]),
                    p=float(p[i]),
                    uptake=float(uptake[i]),
                    f=float(f[i]),
                    n_control=int(people[0][i]),
                    n_treatment=int(people[1][i]),
                    method="ratio of two effects of assignment (two-stage least squares), Anderson-Rubin interval"
                    + f", {errors} errors" * (errors != "HC2"),
                    level=level,
                    note=note if f[i] < WEAK else "",
                )
            )
            continue
        answers.append(
            NotEstimable(
                metric=metric.name, reason=reason, slice=row, n_control=int(people[0][i]), n_treatment=int(people[1][i])
            )
        )
    return answers


def _as(errors: Robust, cov: Floats, n: Floats) -> Floats:
    """Turn covariances of arms' means, (2, g, m, m) with n - 1 in them, into those that other kinds of errors have."""
    n = n[..., None, None]
    if errors == "classic":
        return np.asarray(((n - 1) * n * cov).sum(axis=0) / (n.sum(axis=0) - 2) / n)
    if errors == "HC1":
        return np.asarray(cov * (n - 1) / n * (whole := n.sum(axis=0)) / (whole - 2))
    return np.asarray(cov * ((n - 1) / n) ** {"HC0": 1, "HC2": 0, "HC3": -1}[errors])


def readings(
    data: Study,
    metric: Metric,
    *,
    taken: str | Metric = "show_start_rate",
    seen: str | Metric = "show_reach",
    trigger: Metric | None = None,
    treatment: str = "",
    checks: Iterable[Check] = (),
) -> tuple[Reading, ...]:
    """Set side by side what a launch did to those assigned, those exposed and those who took part, and the fallacy.

    Assigned is the launch's own estimate (intention to treat). The effect on the exposed compares, where the logs of
    both arms hold who came to the point at which the arms part (counterfactual logging), these accounts alone;
    otherwise it is the ratio to the share of accounts that were `seen` to be shown it. All are adjusted as the launch
    says, over the same accounts, from one query. A reading that these data do not allow says why, and the others stand.

    Args:
        data: the study.
        metric: a mean, proportion, count or ratio; a cap is left out.
        taken: who took part: a proportion, or its name in the catalogue.
        seen: who was shown it, likewise.
        trigger: a proportion that is logged alike in both arms: who would have been shown it.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, nothing is read.

    Raises:
        ParameterError: the launch has no such treatment, or `taken`, `seen` or `trigger` is no proportion.
        LaunchError: the catalogue has no metric of that name.
        DataError: the launch post-stratifies by a column that is not there.
    """
    arm, control = data.launch.judged(treatment), data.launch.arms.control
    took, shown = (metrics.get(m) if isinstance(m, str) else m for m in (taken, seen))
    for one in (took, shown, *([trigger] if trigger else [])):
        if one.kind != "proportion":
            raise ParameterError(f"{one.name} is a {one.kind}; it must be a proportion of accounts")
    metric, exposed = replace(metric, cap=None), trigger or shown
    flags = [m for m in dict.fromkeys((took, exposed)) if units.why_not(data, m) is None]
    nothing = _obstacle(data, metric, checks)

    @functools.cache
    def read() -> Moments:
        return _read(data, [metric], flags)

    def assigned(of: Metric) -> Estimate | NotEstimable:
        return scorecard.estimate(data, read(), of, treatment=arm, adjust=True)

    def moved(of: Metric) -> Complier | NotEstimable:
        return _moved(data, read().pool(scorecard.grouping(data)), metric, of, arm)

    def triggered(of: Metric) -> Estimate | NotEstimable:
        if apart := units.together(data, "a comparison among some of their accounts"):
            return NotEstimable(metric=metric.name, reason=apart)
        alike = scorecard.estimate(data, read(), of, treatment=arm, adjust=False)
        why = ""
        if isinstance(alike, NotEstimable) or not alike.control > 0:
            why = f"the logs of {control} do not hold who would have been exposed ({of.title})"
        elif alike.p < SAME:
            why = (
                f"{alike.treatment:.1%} of {arm} and {alike.control:.1%} of {control} came to the point where the arms "
                f"part ({of.title}): assignment itself changed who does, so that these accounts are not alike"
            )
        if why:
            return NotEstimable(metric=metric.name, reason=why)
        return scorecard.estimate(data, read().select(**{_flag(of): 1.0}), metric, treatment=arm, adjust=True)

    def watchers(of: Metric) -> Estimate | NotEstimable:
        if apart := units.together(data, "a comparison among some of their accounts"):
            return NotEstimable(metric=metric.name, reason=apart)
        if not ((read().groups["arm"] == arm) & (read().groups[_flag(of)] > 0)).any():
            return NotEstimable(metric=metric.name, reason=f"nobody in {arm} took part")
        among = read().select(arm=arm, **{_flag(of): 1.0}) + read().select(arm=control)
        return scorecard.estimate(data, among, metric, treatment=arm, adjust=False)

    def told(
        name: str,
        about: str,
        ask: Callable[[Metric], Estimate | Complier | NotEstimable],
        of: Metric,
        use: str,
    ) -> Reading:
        reason = nothing or units.why_not(data, of)
        answer = NotEstimable(metric=metric.name, reason=reason) if reason else ask(of)
        over = "" if ask == assigned else of.name if ask == moved else None
        return Reading(name=name, about=about, answer=answer, words=_words(answer, use, metric), over=over)

    return (
        told(
            "assigned",
            f"all accounts of {arm}, against all of {control}",
            assigned,
            metric,
            "It is what a launch to everybody like them would change, those included who never come across it.",
        ),
        told(
            "exposed",
            f"accounts of both arms that came to the point where the arms part ({exposed.title})",
            triggered,
            exposed,
            "As many came so far in one arm as in the other, as far as chance lets one see: then chance decided which "
            "of them got it. For everybody, it shrinks to their share.",
        )
        if trigger
        else told(
            "exposed",
            f"accounts that were shown it because they were assigned ({exposed.title})",
            moved,
            exposed,
            "It takes for granted that assignment does nothing to those who are not shown it.",
        ),
        told(
            "took part",
            f"accounts that took part because they were assigned ({took.title})",
            moved,
            took,
            "It takes for granted that assignment does nothing to those who do not take part. It is no forecast for "
            "people who would not choose to.",
        ),
        told(
            "fallacy: watchers against control",
            f"accounts of {arm} that took part, against all of {control}",
            watchers,
            took,
            "This is no effect of anything: nobody drew who takes part, and the keen do. It stands here because it is "
            "often quoted.",
        ),
    )


def displaced(data: Study, *, treatment: str = "", checks: Iterable[Check] = ()) -> tuple[Reading, ...]:
    """Tell the hours of a new title from extra hours: its own, those it took from other titles, and what is left.

    The last reading is the net hours for each hour of the title: 1 where nobody watched less of anything else, 0 where
    it replaced other viewing hour by hour. Assignment works on the net through the title alone, if at all; then this is
    the ratio of two effects, with the interval of `complier`.

    Args:
        data: the study.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, nothing is read.
    """
    arm = data.launch.judged(treatment)
    title, others, net = (metrics.get(f"{what}_hours_per_account") for what in ("show", "other", "net"))
    asked = (title, others, net)
    reason = next(filter(None, (_obstacle(data, m, checks) for m in asked)), "")
    answers: list[Estimate | Complier | NotEstimable] = [
        NotEstimable(metric=m.name, reason=reason) for m in (*asked, net)
    ]
    if not reason:
        read = _read(data, asked)
        answers = [scorecard.estimate(data, read, m, treatment=arm, adjust=True) for m in asked]
        answers.append(_moved(data, read, net, title, arm))
    fell, added = "By how much they fall is what the title displaced.", "It is what the title added to viewing."
    if isinstance(answers[0], NotEstimable):
        fell = added = "No hours of the title are told beside them, so that this is not laid to it."
    told = (
        (
            "hours of the title",
            "all assigned",
            title,
            "They are not all extra hours: some of them replace other viewing.",
            "",
        ),
        ("hours of other titles", "all assigned", others, fell, ""),
        ("net hours", "all assigned", net, added, ""),
        (
            "net hours for each hour of the title",
            "hours that were watched of the title because of the assignment",
            net,
            "1 would mean that nothing else was watched less, 0 that all of it replaced other viewing.",
            title.name,
        ),
    )
    return tuple(
        Reading(name=name, about=about, answer=answer, words=_words(answer, use, m), over=over)
        for (name, about, m, use, over), answer in zip(told, answers, strict=True)
    )


def table(found: Sequence[Reading]) -> pd.DataFrame:
    """Lay readings out: comparison, whom it is about, diff with its limits (missing where not estimable), and words."""
    rows = [
        {
            "comparison": r.name,
            "about": r.about,
            **{k: getattr(r.answer, k, None) for k in ("diff", "low", "high")},
            "words": r.words,
        }
        for r in found
    ]
    return pd.DataFrame(rows).astype({"diff": float, "low": float, "high": float})


def planted(found: Sequence[Reading], truth: Mapping[str, float]) -> pd.DataFrame:
    """Set readings beside the planted effect of assignment, for each account that it moved to be shown it or take part.

    Args:
        found: the readings of one metric.
        truth: planted differences by metric; where one that is needed is not there, the reading is left out.

    Returns:
        comparison, diff, low, high, truth, covered; without the fallacy, which is no effect of anything.

    >>> e = Complier(metric="hours", diff=0.5, se=0.1, low=0.3, high=0.7, p=0, uptake=0.3, f=9, n_control=9,
    ...              n_treatment=9, method="")
    >>> part = Reading(name="took part", about="", answer=e, words="", over="started")
    >>> planted([part], {"hours": 0.12, "started": 0.3})[["diff", "truth", "covered"]].values.tolist()
    [[0.5, 0.4, True]]
    """
    rows = []
    for r in found:
        if r.over is None or isinstance(r.answer, NotEstimable) or r.answer.metric not in truth:
            continue
        if moved := truth.get(r.over, 0.0) if r.over else 1.0:
            e, effect = r.answer, truth[r.answer.metric] / moved
            limits = {"diff": e.diff, "low": e.low, "high": e.high}
            rows.append({"comparison": r.name, **limits, "truth": effect, "covered": e.low <= effect <= e.high})
    return pd.DataFrame(rows, columns=["comparison", "diff", "low", "high", "truth", "covered"])


def _obstacle(data: Study, metric: Metric, checks: Iterable[Check]) -> str:
    """Say why no effect on a metric may be read here; nothing where one may."""
    return (
        closed(checks)
        or units.why_not(data, metric)
        or ("" if metric.averaged else f"a {metric.kind.replace('_', ' ')} is no mean over accounts")
    )


def _flag(metric: Metric) -> str:
    return f"is {metric.column(metric.numerator)}"


def _moved(data: Study, read: Moments, metric: Metric, of: Metric, arm: str) -> Complier | NotEstimable:
    """Ask `complier` at what the launch says of arms, strata, windows and error rates."""
    launch, groups = data.launch, scorecard.grouping(data)
    if apart := units.together(data, "a ratio of two effects", few=True):
        return NotEstimable(metric=metric.name, reason=apart)
    (answer,) = complier(
        read,
        metric,
        of,
        control=launch.arms.control,
        treatment=arm,
        stratum=STRATUM if STRATUM in groups else None,
        poststrata=() if read.held is not None else launch.decision.poststratify,
        days=launch.days,
        pre_days=max(launch.pre_days, 1),
        adjust=launch.decision.adjust and bool(units.covariates(data, metric)),
        level=1 - launch.error(metric.name),
    )
    return answer


def _read(data: Study, asked: Sequence[Metric], flags: Sequence[Metric] = ()) -> Moments:
    """Read the moments of metrics and of who did what, by all of it, with at most one query over the events."""
    how, past = scorecard.draw(data), {m: units.covariates(data, m) for m in asked}
    heavy = how["weighted"] or how["cluster"] is not None
    cells = [Cell(m, "post", one.window_days) for one in (*asked, *flags) for m in one.measures]
    cells += [Cell(m, "pre", None) for measures in past.values() for m in measures]
    own = [c for m in asked for c in inference.needed(m, adjust=bool(past[m]), weighted=heavy)[0]]
    columns = tuple(dict.fromkeys([*own, *(c for f in flags for c in inference.needed(f, adjust=False)[0])]))
    rows = units.rows(data, list({cell.name: cell for cell in cells}.values()))
    rows = rows.mutate(**{_flag(f): rows[f.column(f.numerator)] for f in flags}).cache()
    if how["cluster"] is None:  # a cluster has accounts of every kind
        how["by"] = (*how["by"], *(_flag(f) for f in flags))
    pairs = {(a, b) for a in columns for b in columns}
    return moments.from_table(rows, columns=columns, pairs=pairs, **how)


def _words(answer: Estimate | Complier | NotEstimable, use: str, metric: Metric) -> str:
    if isinstance(answer, NotEstimable):
        return f"Not estimable: {answer.reason}."
    words = f"{change(answer.diff, answer.low, answer.high, metric.unit)}. {use}"
    return words + (f" Note: {answer.note}." if isinstance(answer, Complier) and answer.note else "")
