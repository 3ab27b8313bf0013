"""For whom it worked: effects by segment, drawn together by as much as chance explains of their spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import special, stats

from helpers import inference, scorecard, units
from helpers.decision.claims import negligible
from helpers.errors import ParameterError, did_you_mean
from helpers.inference import holm
from helpers.inference.levels import compared, differ
from helpers.metrics import Bound, Metric
from helpers.results import SUCCESS, Check, Estimate, NotEstimable, nothing
from helpers.study import Study

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

Weighting = Literal["accounts", "mantel-haenszel", "precision"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
NO_GROUPS = "the launch names no groups, or none of them could be compared"
FEWEST = 3  # levels: from two, nothing can be learned about how effects spread
_SPREADS = 200  # points of the grid over the spread of true effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The effect in one level of an attribute: as it came out, and what is to be expected of a repetition there.

    `effect` is the shrunken one, in the metric's unit, None where fewer than three levels could be compared. `low` to
    `high` is what a claim about the level rests on: the shrunken interval, at the estimate's level, or where there are
    two levels their own intervals, made wide enough to hold together (Bonferroni). None where there is neither.
    """

    level: str
    estimate: Estimate | NotEstimable
    effect: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute's segments, and whether their effects differ by more than chance.

    `p` is that of Welch's test over the levels, `p_adjusted` after Holm's correction for all that was looked at
    together; None where fewer than two levels could be compared. A large p does not show that the effect is the same
    for all. `beyond` is what a gain has to exceed, in the metric's unit: 0, or the target where the control arm can
    have none of it. Nothing is claimed of one not `declared` before the data were seen, or `untested`, which says why.
    """

    name: str
    metric: str
    segments: tuple[Segment, ...]
    p: float | None = None
    p_adjusted: float | None = None
    better: Literal["higher", "lower"] = "higher"
    beyond: float = 0.0
    declared: bool = True
    untested: str = ""


def effects(
    data: Study, metric: Metric, *, attributes: Sequence[str] = (), treatment: str = "", checks: Sequence[Check] = ()
) -> list[Attribute]:
    """Estimate a metric's effect in every level of each attribute, shrink, and test whether the levels differ.

    Args:
        data: the study.
        metric: one of the plan's; adjusted by its past where the launch says so.
        attributes: segments of the launch; empty means all of them. For others see `explore`.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, no effect is shown.

    Raises:
        ParameterError: an attribute is not among the launch's segments.
    """
    for name in attributes:
        if name not in data.launch.segments:
            hint = did_you_mean(name, data.launch.segments)
            raise ParameterError(f"attribute {name!r} is no segment of {data.launch.name}; {hint}")
    return corrected(_effects(data, [metric], attributes or data.launch.segments, treatment, checks))


def chosen(data: Study, name: str = "") -> Metric:
    """Find a metric of the plan by its name; empty means the north star.

    Raises:
        ParameterError: the plan has no such metric.
    """
    return units.chosen(data, name, obstacle=lambda _: None).metric


def family(
    data: Study, metric: Metric, *, treatment: str = "", checks: Sequence[Check] = ()
) -> dict[str, list[Attribute]]:
    """Estimate in every segment of the launch what a verdict about a group rests on: all success metrics, by name.

    The tests of whether levels differ are corrected together over all success metrics and attributes. Of the other
    metrics only the one asked for is looked at; it decides nothing, and its tests are corrected by themselves.
    Arguments are those of `effects`.
    """
    success = [p.metric for p in units.measurable(data) if p.role in SUCCESS]
    parts = [success] if metric in success else [[metric], success]
    read = [a for m in parts for a in corrected(_effects(data, m, data.launch.segments, treatment, checks))]
    return {m.name: [a for a in read if a.metric == m.name] for m in dict.fromkeys([metric, *success])}


def targets(data: Study, *, treatment: str = "", checks: Sequence[Check] = ()) -> list[str]:
    """Name the segments in which a gain of a success metric may be claimed, in words, for `decision.decide`."""
    found = family(data, data.launch.plan[0].metric, treatment=treatment, checks=checks)
    return [
        f"{a.name} {s.level} ({p.metric.title})"
        for p in data.launch.plan
        if p.role in SUCCESS
        for a, s in gaining(found.get(p.metric.name, []), alpha=data.launch.error())
    ]


def explore(
    data: Study, metric: Metric, names: str, *, treatment: str = "", checks: Sequence[Check] = ()
) -> list[Attribute]:
    """Look at attributes that the launch does not declare; whatever stands out there is a question, and no claim.

    The events are read anew, with these attributes beside the accounts.

    Args:
        data: the study.
        metric: one of the plan's.
        names: of attributes that were known before the assignment, parted by commas; empty looks at none.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, no effect is shown.

    Raises:
        ParameterError: an attribute is declared already, or cannot have been known before the assignment.
        DataError: the data have no such attribute, or it has too many levels.
    """
    wanted = tuple(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))
    for name in wanted:
        if fault := "declared already" if name in data.launch.segments else data.launch.unfit(name):
            raise ParameterError(f"attribute {name!r} cannot be explored: {fault}")
    if not wanted:
        return []
    beside = replace(data, launch=data.launch.sliced_by(*wanted))
    return [replace(a, declared=False) for a in effects(beside, metric, treatment=treatment, checks=checks)]


def _effects(
    data: Study, metrics: Sequence[Metric], attributes: Sequence[str], treatment: str, checks: Sequence[Check]
) -> list[Attribute]:
    """Compare metrics in every level of each attribute; p is not corrected yet."""
    failed = next((f"not shown, because the check '{c.name}' failed" for c in checks if c.passed is False), "")
    closed = {m.name: failed or units.why_not(data, m) for m in metrics}
    read = scorecard.sliced(data, attributes, known) if (known := [m for m in metrics if not closed[m.name]]) else {}
    planned = {p.metric.name: p for p in data.launch.plan}
    apart, found = units.together(data, "a test between levels") if read else "", []  # a cluster may be in several
    for metric in metrics:
        for name in attributes:
            if reason := closed[metric.name]:
                missing = Segment(level="all", estimate=NotEstimable(metric=metric.name, reason=reason))
                found.append(Attribute(name=name, metric=metric.name, segments=(missing,)))
                continue

            def at(
                level: float | None = None, metric: Metric = metric, name: str = name
            ) -> list[Estimate | NotEstimable]:
                return compared(scorecard.within(data, read[name], metric, name, treatment=treatment, level=level))

            answers = at()
            if apart:
                alone = tuple(Segment(level=e.slice[name], estimate=e) for e in answers)
                found.append(Attribute(name=name, metric=metric.name, segments=alone, untested=apart))
                continue
            target = planned[metric.name].target if metric.name in planned else None
            found.append(
                Attribute(
                    name=name,
                    metric=metric.name,
                    segments=shrunken(answers, name, at=at, apart=apart),
                    p=None if apart else differ(answers),
                    untested=apart,
                    better=metric.better,
                    beyond=_beyond(answers, target),
                )
            )
    return found


def _beyond(answers: Iterable[Estimate | NotEstimable], target: Bound | None) -> float:
    """Say what a gain has to exceed: 0, or the target where the control arm can have none of it, as in `decision`."""
    read = [e for e in answers if isinstance(e, Estimate)]
    whole = [sum(getattr(e, arm) * getattr(e, f"n_{arm}") for e in read) for arm in ("control", "treatment")]
    if not read or not negligible(*whole):
        return 0.0
    return math.inf if target is None or target.relative else abs(target.value)


def corrected(attributes: Sequence[Attribute]) -> list[Attribute]:
    """Fill `p_adjusted` by Holm over all attributes that could be tested, and that of every level by false discoveries.

    A level's own `p_adjusted` is a q-value (Benjamini and Hochberg 1995, over all levels of all attributes): list the
    levels with q below 0.1, and about one in ten of the list moved by chance alone. It is for looking around; what may
    be claimed says `gaining`. The levels of one attribute share no accounts, and those of two attributes share some, so
    that their estimates lean the same way: the positive dependence under which the rate is kept (Benjamini and
    Yekutieli 2001, theorem 1.2), which spares their correction for any dependence. Tests are two-sided, where that
    theorem is silent; the simulation in the tests keeps the rate there too.
    """
    listed = iter(inference.adjust_family([s.estimate for a in attributes for s in a.segments], method="bh"))
    attributes = [replace(a, segments=tuple(replace(s, estimate=next(listed)) for s in a.segments)) for a in attributes]
    asked = [a.p for a in attributes if a.p is not None]
    adjusted = iter(holm(asked))
    return [a if a.p is None else replace(a, p_adjusted=float(next(adjusted))) for a in attributes]


def shrunken(
    answers: Iterable[Estimate | NotEstimable],
    name: str,
    *,
    at: Callable[[float], Sequence[Estimate | NotEstimable]] | None = None,
    apart: str = "",
) -> tuple[Segment, ...]:
    """Pair each level's estimate with what is left of it after shrinkage, where three or more compare.

    From two nothing can be learned about how effects spread; with `at`, which estimates the same levels at another
    confidence level, they get their own intervals instead, wide enough for both; where `apart` says why not, nothing.
    """
    answers = list(answers)
    read = [e for e in answers if isinstance(e, Estimate) and not apart]
    levels = [a.slice[name] for a in answers]
    if len(read) >= FEWEST:
        effect, low, high = shrink([e.diff for e in read], [e.se for e in read], level=read[0].level)
        left = iter(zip(effect.tolist(), low.tolist(), high.tolist(), strict=True))
        found = [next(left) if isinstance(a, Estimate) else (None, None, None) for a in answers]
    elif len(read) == 2 and at is not None:
        both = at(1 - (1 - read[0].level) / 2)
        found = [(None, e.low, e.high) if isinstance(e, Estimate) else (None, None, None) for e in both]
    else:
        found = [(None, None, None)] * len(answers)
    return tuple(
        Segment(level=label, estimate=a, effect=effect, low=low, high=high)
        for label, a, (effect, low, high) in zip(levels, answers, found, strict=True)
    )


def shrink(effect: Sequence[float], se: Sequence[float], *, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Draw noisy effects towards their common mean, by the spread of true effects that they suggest.

    The hierarchical normal model with flat priors on the mean and on the spread, integrated over a grid of spreads
    (Gelman et al. 2013, Bayesian Data Analysis, sec. 5.4, eqs. 5.17 to 5.21). Integrating, rather than plugging one
    estimated spread in, keeps the intervals honest where there are few levels.

    Args:
        effect: estimated effects of k levels, k at least 3.
        se: their standard errors, above 0.
        level: of the intervals.

    Returns:
        Posterior mean and limits, (k,) each: what a repetition would find on average, not what this sample was.

    Raises:
        ParameterError: fewer than three levels, or a standard error that is not above 0.

    >>> mean, low, high = shrink([28, 8, -3, 7, -1, 1, 18, 12], [15, 10, 16, 11, 9, 11, 10, 18])
    >>> mean.round(0)
    array([11.,  8.,  6.,  8.,  5.,  6., 11.,  8.])
    """
    y, s = np.asarray(effect, float), np.asarray(se, float)
    if len(y) < FEWEST or not (s > 0).all():
        raise ParameterError(f"shrinking needs at least {FEWEST} effects with errors above 0, got {len(y)}: {se}")
    spread = 5 * max(y.std(ddof=1), s.max()) * ((np.arange(_SPREADS) + 0.5) / _SPREADS)[:, None]
    precision = 1 / (s**2 + spread**2)
    total = precision.sum(axis=1)
    mean = (precision * y).sum(axis=1) / total
    log = 0.5 * (np.log(precision).sum(axis=1) - np.log(total) - (precision * (y - mean[:, None]) ** 2).sum(axis=1))
    chance = np.exp(log - log.max())
    chance /= chance.sum()
    keep = spread**2 * precision  # of a level's own effect, given the spread
    centre = mean[:, None] + keep * (y - mean[:, None])
    sd = np.sqrt(keep * s**2 + (1 - keep) ** 2 / total[:, None])
    tail = (1 - level) / 2
    return chance @ centre, _quantile(chance, centre, sd, tail), _quantile(chance, centre, sd, 1 - tail)


def _quantile(chance: Floats, centre: Floats, sd: Floats, share: float) -> Floats:
    """Find a quantile of each level's mixture of normals by bisection."""
    low, high = (centre - 12 * sd).min(axis=0), (centre + 12 * sd).max(axis=0)
    for _ in range(40):
        middle = (low + high) / 2
        below = chance @ special.ndtr((middle - centre) / sd) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def overall(answers: Iterable[Estimate | NotEstimable], by: Weighting = "accounts") -> Estimate | NotEstimable:
    """Put one attribute's effects together, so that the arms' mix of levels has no say (Simpson's paradox).

    Where the split between the arms differs from level to level, as in a roll-out in stages, accounts that were simply
    pooled compare different mixes. `accounts` weights a level by its accounts, n: the effect in all of them.
    `mantel-haenszel` weights it by n_c n_t / n (Mantel and Haenszel 1959; for differences Greenland and Robins 1985):
    a level with hardly anybody in one arm then hardly counts, which makes the error much smaller, and the effect one of
    the levels that both arms share. `precision` weights by 1 / se^2, whose error is the smallest; but where a level's
    effect and its error move together, as with shares near 0, it leans. The three estimate one number only if the
    effect is the same in every level: see `differ`.

    Args:
        answers: the effects of the levels, which must share no accounts; levels that are not estimable are left out.
        by: the weights.

    Returns:
        The effect, with a normal interval and the `mde` of a power of 0.8. `control` and `treatment` are the arms'
        values with these weights. Accounts count as they are in the arms, not as the population that they stand for.

    Raises:
        ParameterError: the weights are not known.
    """
    if by not in WEIGHTINGS:
        raise ParameterError(f"by is {by!r}; {did_you_mean(by, WEIGHTINGS)}")
    answers = list(answers)
    read = [e for e in answers if isinstance(e, Estimate)]
    if not read:
        metric = answers[0].metric if answers else ""
        return NotEstimable(metric=metric, reason="none of the levels could be compared")
    n = np.array([[e.n_control, e.n_treatment] for e in read], dtype=float).T
    diff, se = np.array([[e.diff, e.se] for e in read]).T
    weight = {"accounts": n.sum(axis=0), "mantel-haenszel": n.prod(axis=0) / n.sum(axis=0), "precision": se**-2.0}[by]
    share = weight / weight.sum()
    level, error = read[0].level, float(np.hypot.reduce(share * se))
    half = float(stats.norm.isf((1 - level) / 2)) * error
    control, effect = float(share @ [e.control for e in read]), float(share @ diff)
    return Estimate(
        metric=read[0].metric,
        control=control,
        treatment=control + effect,
        diff=effect,
        se=error,
        low=effect - half,
        high=effect + half,
        rel=None,
        rel_low=None,
        rel_high=None,
        p=float(2 * stats.norm.sf(abs(effect) / error)),
        n_control=int(n[0].sum()),
        n_treatment=int(n[1].sum()),
        method=f"levels weighted by {by}",
        mde=half + float(stats.norm.ppf(0.8)) * error,
        level=level,
        note="no relative effect, because levels are weighted"
        + (f"; {left} of {len(answers)} levels left out" if (left := len(answers) - len(read)) else ""),
    )


def put_together(attributes: Sequence[Attribute]) -> pd.DataFrame:
    """Set the effects over each attribute's levels beside one another: attribute, weights, effect, low, high, p."""
    import pandas as pd

    found = [(a, by, overall([s.estimate for s in a.segments], by)) for a in attributes for by in WEIGHTINGS]
    rows = [
        {"attribute": a.name, "weights": by, "effect": e.diff, "low": e.low, "high": e.high, "p": e.p}
        for a, by, e in found
        if isinstance(e, Estimate) and not a.untested
    ]
    columns = ["attribute", "weights", "effect", "low", "high", "p"]
    why = next((a.untested for a in attributes if a.untested), NO_GROUPS)
    return pd.DataFrame(rows, columns=columns) if rows else nothing(why, columns)


def gaining(attributes: Iterable[Attribute], *, alpha: float = 0.05) -> list[tuple[Attribute, Segment]]:
    """List the segments of which a gain may be claimed: the levels differ after correction, and what is left is a gain.

    A segment that merely looks best is not among them: where levels do not differ, neither do their effects.
    """
    return [(a, s) for a, s, worst, _ in _apart(attributes, alpha) if worst > a.beyond]


def _apart(attributes: Iterable[Attribute], alpha: float) -> Iterator[tuple[Attribute, Segment, float, float]]:
    """Yield the segments of attributes whose levels differ, with the limits of what is left, in the good direction."""
    for a in attributes:
        differ = a.declared and a.p_adjusted is not None and a.p_adjusted < alpha
        for s in a.segments if differ else ():
            if s.low is not None and s.high is not None:
                yield a, s, *((s.low, s.high) if a.better == "higher" else (-s.high, -s.low))


def standing_out(attributes: Sequence[Attribute], metric: Metric, *, alpha: float = 0.05) -> Check:
    """Ask whether any group stands out, in one sentence; None where no attribute could be tested."""
    name, asked = "Groups", [a for a in attributes if a.p_adjusted is not None]
    if not asked:
        missing = {s.estimate.reason for a in attributes for s in a.segments if isinstance(s.estimate, NotEstimable)}
        why = "of its segments none has two levels that could be compared" if attributes else "it names no segments"
        why = missing.pop() if len(missing) == 1 else why
        if apart := next((a.untested for a in attributes if a.untested), ""):
            return Check(name=name, passed=None, detail=f"Of no group may a gain be claimed: {apart}.")
        return Check(name=name, passed=None, detail=f"The launch shows no effects by group: {why}.")
    worst = min(asked, key=lambda a: a.p_adjusted or 0.0)
    levels = sum(isinstance(s.estimate, Estimate) for a in asked for s in a.segments)
    worse = "; ".join(f"{a.name} {s.level}" for a, s, _, best in _apart(attributes, alpha) if best < 0)
    worse = f", and got worse in {worse}" if worse else ""
    if won := gaining(attributes, alpha=alpha):
        told = "; ".join(f"{a.name} {s.level}" for a, s in won)
        gained = "reached its target" if won[0][0].beyond else "gained"
        return Check(name=name, passed=True, detail=f"{metric.title} {gained} in {told}{worse}.", p=worst.p_adjusted)
    if (worst.p_adjusted or 0.0) < alpha:
        left = "none of its groups reaches a target" if worst.beyond else "a gain is left in none of its groups"
        detail = f"{metric.title} moved differently by {worst.name}, but {left}{worse}."
        return Check(name=name, passed=False, detail=detail, p=worst.p_adjusted)
    detail = (
        f"Of {levels} groups none stands out in {metric.title.lower()}: their effects differ by no more than chance "
        "allows, which does not show that they are the same."
    )
    return Check(name=name, passed=None, detail=detail, p=worst.p_adjusted)


def to_frame(attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Lay the segments out as a table: as they came out, with the q-value of `corrected`, and shrunken."""
    import pandas as pd

    frame = pd.DataFrame(
        [
            {
                "attribute": a.name,
                "level": s.level,
                "accounts": s.estimate.n_control + s.estimate.n_treatment,
                "effect": s.estimate.diff if isinstance(s.estimate, Estimate) else None,
                "low": s.estimate.low if isinstance(s.estimate, Estimate) else None,
                "high": s.estimate.high if isinstance(s.estimate, Estimate) else None,
                "q": s.estimate.p_adjusted if isinstance(s.estimate, Estimate) else None,
                "shrunken": s.effect,
                "shrunken low": s.low,
                "shrunken high": s.high,
                "reason": s.estimate.reason if isinstance(s.estimate, NotEstimable) else None,
            }
            for a in attributes
            for s in a.segments
        ],
        columns=[
            *("attribute", "level", "accounts", "effect", "low", "high", "q"),
            *("shrunken", "shrunken low", "shrunken high", "reason"),
        ],
    )
    frame.attrs["why"] = NO_GROUPS
    return frame


def tests(attributes: Iterable[Attribute], alpha: float) -> pd.DataFrame:
    """Lay out whether the levels of each attribute differ, one row each, and of which of them a gain may be claimed.

    p is missing where it could not be tested.
    """
    import pandas as pd

    rows = [
        {
            "metric": a.metric,
            "attribute": a.name,
            "p": a.p,
            "after correction": a.p_adjusted,
            "gain may be claimed in": ", ".join(s.level for _, s in gaining([a], alpha=alpha)) or "no group",
        }
        for a in attributes
    ]
    return pd.DataFrame(rows, columns=["metric", "attribute", "p", "after correction", "gain may be claimed in"])


def explored(attributes: Sequence[Attribute]) -> pd.DataFrame:
    """Lay out what `explore` found, with the p of each attribute and no claim; a row says so if nothing was asked."""
    import pandas as pd

    if not attributes:
        return pd.DataFrame({"explored": ["nothing: the parameter 'explore' names no attribute"]})
    p = {a.name: a.p_adjusted for a in attributes}
    rows = to_frame(attributes).drop(columns=["shrunken low", "shrunken high"])
    rows.insert(1, "after correction", rows["attribute"].map(p).astype(float))
    return rows.assign(attribute=rows["attribute"] + " (exploratory)").dropna(axis="columns", how="all")


def hasty(attributes: Sequence[Attribute], *, alpha: float = 0.05) -> pd.DataFrame:
    """Count the groups that a hasty reader would name, and those in which a gain may be claimed; no row of none."""
    import pandas as pd

    read = [s.estimate for a in attributes for s in a.segments if isinstance(s.estimate, Estimate)]
    apart = sum(not e.low <= 0 <= e.high for e in read)
    claimed = len(gaining(attributes, alpha=alpha))
    row = {"groups": len(read), "own interval misses zero": apart, "gain may be claimed": claimed}
    return pd.DataFrame([row] if read else [], columns=list(row))
