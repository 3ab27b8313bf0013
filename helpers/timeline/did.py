"""Before and after, against control, and both at once; the event study around the launch, and its placebos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers.results import Check, Estimate, NotEstimable, figures, nothing
from helpers.timeline.bands import full_rank, joint_quantile, mean_of
from helpers.timeline.course import Course, contrast

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

IN_TIME = "placebo in time"
_NO_PAST = "the data hold no whole period of it before the launch"
_PRE_TREND = 0.01  # how rarely arms that were drawn by chance may fail


def three_ways(course: Course | NotEstimable) -> list[Estimate | NotEstimable]:
    """Estimate one effect in three ways: before/after, against control, and difference in differences.

    Each is of the metric as it is defined: of an amount that adds up over a window, the sum of its periods, against as
    many of the time before.

    Before/after takes for an effect whatever else happened since. Against control takes for one what differed before.
    The difference in differences is free of both as long as the arms would have moved alike; between arms that were
    drawn by chance it is no less biased than the plain comparison, only noisier or less noisy.

    Args:
        course: periods before and after the launch, not adjusted.
    """
    names = ("before/after, treated arm alone", "against control", "difference in differences")
    if isinstance(course, NotEstimable):
        return [replace(course, metric=name) for name in names]
    if not course.own.any():
        reason = f"the metric's window of {course.window_days} days holds no whole period of {course.step_days}"
        return [NotEstimable(metric=name, reason=reason) for name in names]
    after = course.periods * mean_of(course.own)
    if course.after.all():
        missing = [NotEstimable(metric=name, reason=_NO_PAST) for name in names]
        return [missing[0], contrast(course, after, name=names[1]), missing[2]]
    step = after - course.periods * mean_of(~course.after)
    return [
        contrast(course, step, name=names[0], arm="treatment"),
        contrast(course, after, name=names[1]),
        contrast(course, step, name=names[2]),
    ]


def arms(course: Course | NotEstimable, names: Sequence[str]) -> pd.DataFrame:
    """Lay out both arms' own means, for a picture.

    Args:
        course: periods before and after the launch, not adjusted.
        names: of control and treatment.

    Returns:
        A row per arm and period: arm, from_day, value, low, high (pointwise, normal); none where there is no course.
    """
    import pandas as pd

    columns = ["arm", "from_day", "value", "low", "high"]
    if isinstance(course, NotEstimable):
        return nothing(course.reason, columns)
    z = float(stats.norm.isf((1 - course.level) / 2))
    half = z * np.sqrt(np.diagonal(course.cov, axis1=1, axis2=2))
    rows = zip(names, course.mean, course.mean - half, course.mean + half, strict=True)
    parts = [
        pd.DataFrame({"arm": arm, "from_day": course.starts, "value": mean, "low": low, "high": high})
        for arm, mean, low, high in rows
    ]
    return pd.concat(parts, ignore_index=True)[columns]


def event_study(course: Course | NotEstimable) -> Course | NotEstimable:
    """Express every period's difference between the arms relative to that of the last period before the launch."""
    if isinstance(course, NotEstimable):
        return course
    if course.after.all():
        return NotEstimable(metric=course.metric, reason=_NO_PAST)
    reference = int((~course.after).sum()) - 1
    keep = np.arange(len(course.starts)) != reference
    lift = np.eye(len(course.starts))[keep]
    lift[:, reference] = -1
    return replace(
        course,
        starts=tuple(np.array(course.starts)[keep].tolist()),
        mean=course.mean @ lift.T,
        cov=np.array([lift @ c @ lift.T for c in course.cov]),
        method=f"{course.method}, relative to the last period before",
    )


def pre_trend(study: Course | NotEstimable) -> Check:
    """Ask whether the arms drifted apart before the launch (Wald test over all periods before, in an event study).

    A pass does not show that they would have moved alike afterwards; the detail says what drift may have been missed.
    """
    name = "Moved alike before"
    if isinstance(study, NotEstimable):
        return Check(name=name, passed=None, detail=f"Could not be asked: {study.reason}.")
    before = ~study.after
    if not before.any():
        return Check(name=name, passed=None, detail="Could not be asked: it needs two whole periods before the launch.")
    effect, cov = study.effect[before], study.effect_cov[np.ix_(before, before)]
    if not full_rank(cov):
        return Check(name=name, passed=None, detail="Could not be asked: before the launch the values hardly vary.")
    p = float(stats.chi2.sf(effect @ np.linalg.solve(cov, effect), len(effect)))
    widest = joint_quantile(cov, study.level) * float(np.sqrt(np.diag(cov)).max())
    unseen = f"a drift of up to {figures(widest)} {study.unit} would hardly have been seen"
    if p < _PRE_TREND:
        detail = "The arms drifted apart before the launch, more than chance allows; what follows holds that too."
        return Check(name=name, passed=False, detail=detail, p=p)
    return Check(name=name, passed=True, detail=f"No drift before the launch stands out from chance; {unseen}.", p=p)


def placebo_outcome(course: Course | NotEstimable) -> Estimate | NotEstimable:
    """Estimate the difference in differences of an outcome that the launch cannot move."""
    return replace(three_ways(course)[2], metric=f"placebo outcome: {course.metric}")


def placebo_in_time(course: Course | NotEstimable) -> Estimate | NotEstimable:
    """Estimate the effect of a launch that did not happen: the second half of the time before against its first.

    Of an amount that adds up over the metric's window, it is the effect over such a window.
    """
    if isinstance(course, NotEstimable):
        return replace(course, metric=IN_TIME)
    n = int((~course.after).sum())
    if n < 2:
        reason = "it needs two whole periods before the launch"
        return NotEstimable(metric=IN_TIME, reason=reason)
    order = np.arange(len(course.starts))
    step = mean_of((order >= n // 2) & (order < n)) - mean_of(order < n // 2)
    return contrast(course, course.periods * step, name=IN_TIME)
