"""For whom it worked: effects by segment, drawn together by as much as chance explains of their spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import special, stats

from helpers import inference, scorecard, units
from helpers.errors import ParameterError, did_you_mean
from helpers.inference import holm
from helpers.metrics import Metric
from helpers.results import SUCCESS, Check, Estimate, NotEstimable
from helpers.study import Study

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]

Weighting = Literal["accounts", "mantel-haenszel", "precision"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
FEWEST = 3  # levels: from two, nothing can be learned about how effects spread
_SPREADS = 200  # points of the grid over the spread of true effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The effect in one level of an attribute: as it came out, and what is to be expected of a repetition there.

    `effect`, `low` and `high` are the shrunken ones, in the metric's unit, at the estimate's level; None where the
    level could not be compared or the attribute has fewer than three levels that could.
    """

    level: str
    estimate: Estimate | NotEstimable
    effect: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute's segments, and whether their effects differ by more than chance.

    `p` is that of Cochran's Q over the levels, `p_adjusted` after Holm's correction for the attributes that were looked
    at; None where fewer than two levels could be compared. A large p does not show that the effect is the same for all.
    """

    name: str
    metric: str
    segments: tuple[Segment, ...]
    p: float | None = None
    p_adjusted: float | None = None


def effects(data: Study, metric: Metric, *, attributes: Sequence[str] = (), treatment: str = "") -> list[Attribute]:
    """Estimate a metric's effect in every level of each attribute, shrink, and test whether the levels differ.

    Args:
        data: the study.
        metric: one of the plan's that these data can measure; adjusted by its past where the launch says so.
        attributes: segments of the launch; empty means all of them. Others were not declared before the data were seen,
            and whoever searches long enough finds one that stands out.
        treatment: the arm to judge; empty means the launch's first.

    Raises:
        ParameterError: an attribute is not among the launch's segments.
    """
    for name in attributes:
        if name not in data.launch.segments:
            hint = did_you_mean(name, data.launch.segments)
            raise ParameterError(f"attribute {name!r} is no segment of {data.launch.name}; {hint}")
    read = scorecard.sliced(data, attributes or data.launch.segments, [metric])
    return corrected(_effects(data, metric, read, treatment))


def targets(data: Study, *, treatment: str = "") -> list[str]:
    """Name the segments in which a gain of a success metric may be claimed, in words, for `decision.decide`.

    The tests of whether levels differ are corrected together over all success metrics and attributes.
    """
    read = scorecard.sliced(data, data.launch.segments)
    plan = [p for p in units.measurable(data) if p.role in SUCCESS]
    found = [(p, a) for p in plan for a in _effects(data, p.metric, read, treatment)]
    adjusted = corrected([a for _, a in found])
    return [
        f"{a.name} {s.level} ({p.metric.title})"
        for (p, _), one in zip(found, adjusted, strict=True)
        for a, s in gaining([one], better=p.metric.better, alpha=data.launch.decision.alpha)
    ]


def _effects(data: Study, metric: Metric, read: Mapping[str, Moments], treatment: str) -> list[Attribute]:
    """Compare a metric in every level of each attribute; p is not corrected yet."""
    found = []
    for name, slices in read.items():
        answers = scorecard.within(data, slices, metric, name, treatment=treatment)
        found.append(Attribute(name=name, metric=metric.name, segments=shrunken(answers, name), p=differ(answers)))
    return found


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


def shrunken(answers: Iterable[Estimate | NotEstimable], name: str) -> tuple[Segment, ...]:
    """Pair each level's estimate with what is left of it after shrinkage; without it where fewer than three compare."""
    answers = list(answers)
    read = [e for e in answers if isinstance(e, Estimate)]
    levels = [a.slice[name] for a in answers]
    if len(read) < FEWEST:
        return tuple(Segment(level=label, estimate=a) for label, a in zip(levels, answers, strict=True))
    effect, low, high = shrink([e.diff for e in read], [e.se for e in read], level=read[0].level)
    place = {id(e): i for i, e in enumerate(read)}
    return tuple(
        Segment(level=label, estimate=a, effect=float(effect[i]), low=float(low[i]), high=float(high[i]))
        if (i := place.get(id(a))) is not None
        else Segment(level=label, estimate=a)
        for label, a in zip(levels, answers, strict=True)
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


def differ(answers: Iterable[Estimate | NotEstimable]) -> float | None:
    """Test whether effects differ between levels by more than chance: p of Cochran's (1954) Q; None from one level.

    >>> differ([]) is None
    True
    """
    read = [e for e in answers if isinstance(e, Estimate)]
    if len(read) < 2:
        return None
    y, precision = np.array([e.diff for e in read]), np.array([e.se for e in read]) ** -2.0
    q = (precision * (y - precision @ y / precision.sum()) ** 2).sum()
    return float(stats.chi2.sf(q, len(read) - 1))


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


def put_together(attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Set the effects over each attribute's levels beside one another: attribute, weights, effect, low, high, p."""
    import pandas as pd

    found = [(a.name, by, overall([s.estimate for s in a.segments], by)) for a in attributes for by in WEIGHTINGS]
    rows = [
        {"attribute": name, "weights": by, "effect": e.diff, "low": e.low, "high": e.high, "p": e.p}
        for name, by, e in found
        if isinstance(e, Estimate)
    ]
    return pd.DataFrame(rows, columns=["attribute", "weights", "effect", "low", "high", "p"])


def gaining(attributes: Iterable[Attribute], *, better: str, alpha: float = 0.05) -> list[tuple[Attribute, Segment]]:
    """List the segments of which a gain may be claimed: the levels differ after correction, and what is left is a gain.

    A segment that merely looks best is not among them: where levels do not differ, neither do their effects.
    """
    good = 1 if better == "higher" else -1
    return [
        (a, s)
        for a in attributes
        if a.p_adjusted is not None and a.p_adjusted < alpha
        for s in a.segments
        if s.low is not None and s.high is not None and min(good * s.low, good * s.high) > 0
    ]


def standing_out(attributes: Sequence[Attribute], metric: Metric, *, alpha: float = 0.05) -> Check:
    """Ask whether any group stands out, in one sentence; None where no attribute could be tested."""
    name, asked = "Groups", [a for a in attributes if a.p_adjusted is not None]
    if not asked:
        why = "of its segments none has two levels that could be compared" if attributes else "it names no segments"
        detail = f"The launch shows no effects by group: {why}."
        return Check(name=name, passed=None, detail=detail)
    worst = min(asked, key=lambda a: a.p_adjusted or 0.0)
    levels = sum(isinstance(s.estimate, Estimate) for a in asked for s in a.segments)
    if won := gaining(attributes, better=metric.better, alpha=alpha):
        told = "; ".join(f"{a.name} {s.level}" for a, s in won)
        return Check(name=name, passed=True, detail=f"{metric.title} gained in {told}.", p=worst.p_adjusted)
    if (worst.p_adjusted or 0.0) < alpha:
        detail = f"{metric.title} moved differently by {worst.name}, but a gain is left in none of its groups."
        return Check(name=name, passed=False, detail=detail, p=worst.p_adjusted)
    detail = (
        f"Of {levels} groups none stands out in {metric.title.lower()}: their effects differ by no more than chance "
        "allows, which does not show that they are the same."
    )
    return Check(name=name, passed=None, detail=detail, p=worst.p_adjusted)


def to_frame(attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Lay the segments out as a table: as they came out, with the q-value of `corrected`, and shrunken."""
    import pandas as pd

    return pd.DataFrame(
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
                "reason": s.estimate.reason if isinstance(s.estimate, NotEstimable) else "",
            }
            for a in attributes
            for s in a.segments
        ],
        columns=[
            *("attribute", "level", "accounts", "effect", "low", "high", "q"),
            *("shrunken", "shrunken low", "shrunken high", "reason"),
        ],
    )


def tests(attributes: Iterable[Attribute]) -> pd.DataFrame:
    """Lay out whether the levels of each attribute differ, one row each; p is missing where it could not be tested."""
    import pandas as pd

    rows = [{"attribute": a.name, "p": a.p, "after correction": a.p_adjusted} for a in attributes]
    return pd.DataFrame(rows, columns=["attribute", "p", "after correction"])


def hasty(attributes: Sequence[Attribute], *, better: str, alpha: float = 0.05) -> pd.DataFrame:
    """Count the groups that a hasty reader would name, and those in which a gain may be claimed."""
    import pandas as pd

    read = [s.estimate for a in attributes for s in a.segments if isinstance(s.estimate, Estimate)]
    apart = sum(not e.low <= 0 <= e.high for e in read)
    claimed = len(gaining(attributes, better=better, alpha=alpha))
    row = {"groups": len(read), "own interval misses zero": apart, "gain may be claimed": claimed}
    return pd.DataFrame([row])
