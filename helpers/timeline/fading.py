"""Does an effect last? Early against late, the curve on which it settles, and how far that can be carried forward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import optimize, special, stats

from helpers.errors import ParameterError
from helpers.report.readout import describe
from helpers.results import Check, Estimate, NotEstimable, about, figures, nothing
from helpers.timeline.bands import full_rank, mean_of
from helpers.timeline.course import LOG_RATIO, Course, contrast, is_relative

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

_GRID = 240  # values of tau at which the likelihood is profiled
_LONGEST = 1_000.0  # times the time observed: carried on twice as far, the curve is still a straight line
_MISFIT = 0.01
_FAST = "what fades is gone so soon that periods of {} days do not tell how fast; shorter ones would"
_FLAT = "in some periods the values do not vary by themselves, so that no curve can be weighed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """An effect that starts at `asymptote + drop` and settles at `asymptote`, a + b exp(-day / tau).

    Standard errors are asymptotic; `low` to `high` is the asymptote's profile-likelihood interval, which knows that tau
    is estimated too. `misfit_p` asks whether the curve describes the effects at all; None without their covariance.
    Tau, its half-life and the drop are None where a curve that is gone at once describes the effects as well: where it
    ends is known then, and how soon is not.
    """

    asymptote: float
    asymptote_se: float
    low: float
    high: float
    drop: float | None
    drop_se: float | None
    tau_days: float | None
    tau_se: float | None
    half_life_days: float | None
    misfit_p: float | None
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The effect expected on a later day, with an interval over every curve of the family that the data allow."""

    day: float
    effect: float
    low: float
    high: float
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """A late effect as early periods predict it, as it was measured, and predicted minus measured."""

    predicted: Estimate
    measured: Estimate
    gap: Estimate
    explained: float  # share of the late outcome's variance that the early periods explain in control


def halves(course: Course) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Say which periods are early (the first quarter since the launch, at least one) and which late (the second half).

    An effect that halves every week loses most of its extra in the first; what is compared with the first must lie far
    enough behind, and be long enough to be known well.
    """
    order = np.cumsum(course.after) * course.after
    n = int(course.after.sum())
    return (order > 0) & (order <= max(n // 4, 1)), order > n - max(n // 2, 1)


def early_minus_late(course: Course | NotEstimable) -> Estimate | NotEstimable:
    """Estimate by how much the effect was larger early than late.

    An interval that contains 0 does not show that the effect lasts: it may be too wide to see a fading that matters,
    and `mde` says how much would have been seen.
    """
    if isinstance(course, NotEstimable):
        return replace(course, metric=f"{course.metric}: early minus late")
    if course.after.sum() < 2:
        return NotEstimable(metric=course.metric, reason="fewer than two periods since the launch", slice=course.slice)
    early, late = halves(course)
    return _in_its_unit(
        contrast(course, mean_of(early) - mean_of(late), name=f"{course.metric}: early minus late"), course
    )


def late(course: Course | NotEstimable) -> Estimate | NotEstimable:
    """Estimate the effect over the second half of the window."""
    if isinstance(course, NotEstimable):
        return replace(course, metric=f"{course.metric}: late")
    return _in_its_unit(contrast(course, mean_of(halves(course)[1]), name=f"{course.metric}: late"), course)


def _in_its_unit(found: Estimate | NotEstimable, course: Course) -> Estimate | NotEstimable:
    """Say in which unit an estimate is that has no relative size."""
    if isinstance(found, NotEstimable) or is_relative(course):
        return found
    return replace(found, note=f"in {course.unit}: {found.note}")


def decay(course: Course | NotEstimable) -> Decay | NotEstimable:
    """Fit the curve on which an effect settles, where the data show that it moves and tell a curve from a line."""
    if isinstance(course, NotEstimable):
        return course
    moved = early_minus_late(course)
    if isinstance(moved, NotEstimable):
        return moved
    if moved.low <= 0 <= moved.high:
        reason = (
            "early and late effects cannot be told apart, so that there is no fading to fit: "
            f"their difference lies between {figures(moved.low)} and {figures(moved.high)} ({course.unit})"
        )
        return NotEstimable(metric=course.metric, reason=reason, slice=course.slice)
    since = course.since()
    if not full_rank(since.effect_cov):
        return NotEstimable(metric=course.metric, reason=_FLAT, slice=course.slice)
    found = fit(since.starts, since.effect, since.effect_cov, step_days=course.step_days, level=course.level)
    return NotEstimable(metric=course.metric, reason=found, slice=course.slice) if isinstance(found, str) else found


def fit(
    days: Sequence[float] | Floats,
    effect: Sequence[float] | Floats,
    cov: Floats | None = None,
    *,
    step_days: int = 1,
    level: float = 0.95,
) -> Decay | str:
    """Fit a + b exp(-day / tau) by generalised least squares; a sentence where the data cannot tell.

    Args:
        days: first day of each period, (w,), at least 4.
        effect: the effects, (w,).
        cov: their covariance (w, w); without it they are taken to be independent, of one variance read from the fit.
        step_days: length of a period; the curve is averaged over its days.
        level: of the asymptote's interval.

    Returns:
        The curve, which may have no tau (see `Decay`), or the reason why there is none: too few periods, or a straight
        line describes them as well, so that where the fading would end lies outside what was observed.

    >>> day = np.arange(12.0)
    >>> curve = fit(day, 1 + 2 * np.exp(-day / 4), 1e-4 * np.eye(12))
    >>> round(curve.asymptote, 2), round(curve.half_life_days, 2)
    (1.0, 2.77)
    """
    d, y = np.asarray(days, dtype=np.float64), np.asarray(effect, dtype=np.float64)
    if not len(d) == len(y):
        raise ParameterError(f"there are {len(d)} days and {len(y)} effects; one of each is needed for every period")
    if len(d) < 4:
        return f"a curve with three unknowns needs at least 4 periods, there are {len(d)}"
    profile = _profile(d, y, np.eye(len(d)) if cov is None else cov, step_days)
    best = int(np.argmin(profile.misfit))
    scale, q = 1.0, stats.chi2.ppf(level, 1)
    if cov is None:
        scale, q = profile.misfit[best] / (len(d) - 3), stats.f.ppf(level, 1, len(d) - 3)
    near = profile.misfit - profile.misfit[best] <= q * scale
    if near[-1]:
        return (
            "a straight line describes the effects as well as a curve that settles, so that the value on which they "
            "would settle lies outside what was observed; a longer window would tell"
        )

    def curve(day: Floats, a: float, b: float, tau: float) -> Floats:
        return a + b * _shape(day, tau, step_days)

    start = (*profile.beta[best], profile.tau[best])
    sigma = np.eye(len(d)) if cov is None else cov
    low, high = _limits(profile, np.tile([1.0, 0.0], (_GRID, 1)), q, scale)
    a, a_se = float(profile.beta[best, 0]), math.sqrt(scale * profile.cov[best, 0, 0])
    p = None if cov is None else float(stats.chi2.sf(profile.misfit[best], len(d) - 3))
    settled = Decay(
        asymptote=a, asymptote_se=a_se, low=low, high=high, drop=None, drop_se=None, tau_days=None, tau_se=None,
        half_life_days=None, misfit_p=p, level=level,
    )  # fmt: skip
    if near[0]:  # what is gone at once fits as well
        return settled
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            values, errors = optimize.curve_fit(curve, d, y, p0=start, sigma=sigma, absolute_sigma=cov is not None)
    except (RuntimeError, ValueError):  # it ran to a tau of nothing
        return settled
    a, b, tau = (float(v) for v in values)
    if not profile.tau[0] < tau < profile.tau[-1]:
        return settled
    se = np.sqrt(np.diag(errors))
    return replace(
        settled, asymptote=a, asymptote_se=float(se[0]), low=min(low, a), high=max(high, a), drop=b,
        drop_se=float(se[1]), tau_days=tau, tau_se=float(se[2]), half_life_days=tau * math.log(2),
    )  # fmt: skip


def forecast(course: Course | NotEstimable, day: float) -> Forecast | NotEstimable:
    """Carry the effect forward to a later day, over all curves a + b exp(-day / tau) that the data allow.

    The family holds effects that settle at once, slowly, or not at all (a straight line on). Where the data cannot tell
    these apart, the interval contains them all and widens with the distance: it is honest about the curve, not
    about what no curve knows, such as a new season of the show.
    """
    if isinstance(course, NotEstimable):
        return course
    since = course.since()
    if len(since.starts) < 4:
        reason = f"a curve with three unknowns needs at least 4 periods, there are {len(since.starts)}"
        return NotEstimable(metric=course.metric, reason=reason, slice=course.slice)
    if not full_rank(since.effect_cov):
        return NotEstimable(metric=course.metric, reason=_FLAT, slice=course.slice)
    profile = _profile(np.array(since.starts, dtype=float), since.effect, since.effect_cov, course.step_days)
    at = np.column_stack([np.ones(_GRID), _shape(np.array(day), profile.tau, course.step_days)])
    best = int(np.argmin(profile.misfit))
    q = float(special.chdtri(1, 1 - course.level))
    low, high = _limits(profile, at, q, 1.0)
    note = ""
    if profile.misfit[-1] - profile.misfit[best] <= q:
        note = "the data do not say whether the effect settles: the interval contains lines that go on"
    if special.chdtrc(len(since.starts) - 3, profile.misfit[best]) < _MISFIT:
        note = "; ".join(filter(None, [note, "no such curve describes the effects, so that this is a rough guide"]))
    return Forecast(day=day, effect=float(at[best] @ profile.beta[best]), low=low, high=high, note=note)


def surrogate(course: Course | NotEstimable, *, early_periods: int) -> Surrogate | NotEstimable:
    """Predict the late effect from the early periods, and hold the prediction against what was then measured.

    The index is the regression of the late outcome (mean of the remaining periods) on the early periods in the control
    arm; the predicted effect is its difference between the arms: Athey, Chetty, Imbens and Kang (2019), the linear
    case of their surrogate index. It is right only if everything that the launch does to the late outcome goes through
    the early periods, and in the way in which chance moves both: a novelty breaks exactly that, and the gap shows it.

    Args:
        course: periods since the launch, of a metric of which control has some.
        early_periods: how many of them are known; the others are the future.
    """
    if isinstance(course, NotEstimable):
        return course
    since = course.since()
    n, k = len(since.starts), early_periods
    if not 1 <= k < n:
        reason = f"the early periods must be from 1 to {n - 1}, got {k}; there are {n} periods since the launch"
        return NotEstimable(metric=course.metric, reason=reason, slice=course.slice)
    n_control = since.n[0]
    cov = since.cov[0] * n_control  # of accounts
    rest = mean_of(np.arange(n) >= k)
    early, towards, total = cov[:k, :k], cov[:k] @ rest, rest @ cov @ rest
    if not total > 0 or np.linalg.matrix_rank(early) < k:
        reason = "in control the periods do not vary, so that the early ones predict nothing"
        return NotEstimable(metric=course.metric, reason=reason, slice=course.slice)
    slope = np.linalg.solve(early, towards)
    residual = total - slope @ towards
    moved = since.effect[:k]
    extra = float(moved @ np.linalg.solve(early, moved) * residual / max(n_control - k - 1, 1))
    index = np.concatenate([slope, np.zeros(n - k)])
    found = [
        contrast(since, weights, name=f"{course.metric}: late effect, {name}")
        for name, weights in (("predicted", index), ("measured", rest), ("predicted minus measured", index - rest))
    ]
    if any(isinstance(e, NotEstimable) for e in found):
        return NotEstimable(metric=course.metric, reason="the periods do not vary within the arms", slice=course.slice)
    predicted, measured, gap = (e for e in found if isinstance(e, Estimate))
    return Surrogate(
        predicted=_widened(predicted, extra),
        measured=measured,
        gap=_widened(gap, extra),
        explained=float(1 - residual / total),
    )


def outlook(course: Course | NotEstimable, *, days: Sequence[int]) -> pd.DataFrame:
    """Lay out where the effect settles and what it will be on later days: what, effect, low, high, note.

    Effects that are log ratios come back as relative changes.
    """
    import pandas as pd

    if isinstance(course, NotEstimable):
        return nothing(course.reason, ["what", "effect", "low", "high", "note"])
    settled = decay(course)
    rows: list[dict[str, object]] = []
    if isinstance(settled, NotEstimable):
        rows.append({"what": "settles at", "note": settled.reason})
    else:
        note = _FAST.format(course.step_days)
        if settled.half_life_days is not None:
            note = f"half of what fades is gone after {settled.half_life_days:.1f} days"
        rows.append(
            {"what": "settles at", "effect": settled.asymptote, "low": settled.low, "high": settled.high, "note": note}
        )
    for day in days:
        found = forecast(course, day)
        if isinstance(found, NotEstimable):
            rows.append({"what": f"on day {day}", "note": found.reason})
        else:
            rows.append(
                {
                    "what": f"on day {day}",
                    "effect": found.effect,
                    "low": found.low,
                    "high": found.high,
                    "note": found.note,
                }
            )
    frame = pd.DataFrame(rows).reindex(columns=["what", "effect", "low", "high", "note"])
    if is_relative(course):
        frame[["effect", "low", "high"]] = np.expm1(frame[["effect", "low", "high"]].astype(float))
    return frame


def words(moved: Estimate | NotEstimable, remains: Estimate | NotEstimable, *, unit: str, told: str = "") -> str:
    """Say the late effect, and how much larger it was early, in one sentence; a reason that was `told` only once."""
    if isinstance(moved, NotEstimable) or isinstance(remains, NotEstimable):
        reason = getattr(moved, "reason", "") or getattr(remains, "reason", "")
        said_before = bool(reason) and reason in told
        return f"The course of the effect could not be read{' for that reason' if said_before else f': {reason}'}."

    def said(e: Estimate) -> str:
        told = describe(e, unit)
        if unit == LOG_RATIO:
            return f"{told['relative']} ({told['relative_interval']})"
        return f"{told['change']} {told['step'] or unit} ({told['low']} to {told['high']})"

    return f"In the second half of the window the effect was {said(remains)}; early minus late, it was {said(moved)}."


def parts(found: Surrogate | NotEstimable) -> tuple[Estimate | NotEstimable, ...]:
    """List what is predicted, what was measured, and the gap between them."""
    return (found,) if isinstance(found, NotEstimable) else (found.predicted, found.measured, found.gap)


def verdict(
    moved: Estimate | NotEstimable,
    remains: Estimate | NotEstimable,
    *,
    better: Literal["higher", "lower"],
    viewers: Check | None = None,
    finishing: Check | None = None,
    whole: Estimate | NotEstimable | None = None,
    title: str = "",
) -> Check:
    """Say whether an effect fades, holds, grows, or whether it cannot be told.

    The effect of a show falls as its episodes get watched, also where nobody loses interest: if its later viewers go on
    like the first, that is no alarm. Otherwise the alarm is raised when the effect moves to the worse from early to
    late and what remains late is no certain gain, or when later viewers of a show go on less than its first. Each is
    raised by chance in 2.5 %, so that a steady launch is left alone at least nineteen times out of twenty. It is never
    raised because the hours of a limited series fall: they must. Its benchmark is who finishes, and only that, or its
    later viewers, speaks against it. That an effect holds is said only where a change as large as the effect itself
    would have been seen (with the power of `mde`): an interval too wide for that shows nothing.

    Args:
        moved: early minus late.
        remains: the effect late.
        better: which direction of the metric is good.
        viewers: for a show, whether later starters go on like the first ones (`retention.honeymoon`).
        finishing: for a limited series alone, whether as many finish as of others (`retention.finishing`).
        whole: the effect over the whole window as chapter 04 has it. Where the late weeks alone stand out from chance
            and that does not, the answer says so.
        title: of the metric, where the answer must name it.

    Returns:
        A Check that begins with the word; passed is False for "Fades" and "Falls short", None where it cannot be told,
        or where a show runs out or ends and nothing else speaks for or against it; otherwise True.
    """
    name = "Novelty"
    if viewers and viewers.passed is False:
        return Check(name=name, passed=False, detail=f"Fades: {_lower(viewers.detail)}", p=viewers.p)
    if finishing and finishing.passed is False:
        return Check(name=name, passed=False, detail=f"Falls short: {_lower(finishing.detail)}")
    if isinstance(moved, NotEstimable) or isinstance(remains, NotEstimable):
        reason = moved.reason if isinstance(moved, NotEstimable) else getattr(remains, "reason", "")
        return about(title, Check(name=name, passed=None, detail=f"Cannot tell: {reason}."))
    good = 1 if better == "higher" else -1
    at_first = good * (remains.diff + moved.diff)
    worst, best = sorted((good * remains.low, good * remains.high))
    worse, moves = good * moved.diff > 0, not moved.low <= 0 <= moved.high

    def say(passed: bool | None, detail: str) -> Check:
        if not worst <= 0 <= best and isinstance(whole, Estimate) and not _told_apart(whole):
            detail += " Over the whole window (chapter 04) it cannot be told from chance."
        if finishing and finishing.detail not in detail:
            detail += f" What counts for a limited series is who finishes. {finishing.detail}"
        return about(title, Check(name=name, passed=passed, detail=detail, p=moved.p))

    if moves and worse and finishing:
        text = "Ends: the effect is smaller late than early, as it must be when a limited series ends"
        text += ", and late it is a loss. " if best < 0 else ". "
        text += f"What counts is who finishes. {finishing.detail}"
        return say(finishing.passed, text)
    if moves and worse and best < 0:
        if at_first > 0:
            return say(False, "Turns: what was a gain early is a loss late, and the loss stands out from chance.")
        return say(False, "Gets worse: the loss is larger late than early.")
    if moves and worse and viewers and viewers.passed:
        text = "Runs out: the effect is smaller late than early, as with any title whose episodes get watched; "
        return say(None, text + "those who began later go on like the first.")
    if moves and worse and worst > 0:
        text = "Settles lower: the effect is smaller late than early, and late it still stands out from chance."
        return say(True, text)
    if moves and worse and at_first <= 0:
        return say(False, "Gets worse: the loss is larger late than early, but late it cannot be told from nothing.")
    if moves and worse:
        return say(False, "Fades: the effect is smaller late than early, and late it cannot be told from nothing.")
    if moves and best < 0:
        return say(None, "Shrinks: the loss is smaller late than early, and late it still stands out from chance.")
    if moves and at_first < 0 and worst <= 0 and good * remains.diff > 0:
        return say(None, "The loss is over: what looked like one early is none late, and no gain that can be told yet.")
    if moves and at_first < 0 and worst <= 0:
        return say(None, "The loss fades: it is smaller late than early, and late it cannot be told from nothing.")
    if moves:
        text = "Grows: the effect is better late than early; people needed time, and an early look understates it."
        return say(True, text)
    if worst <= 0 <= best:
        text = "Cannot tell: neither a late effect nor a change from early to late stands out from chance."
        return say(None, text)
    what = "gain" if worst > 0 else "loss"
    if moved.mde >= abs(remains.diff):
        text = f"Cannot tell: in the late weeks alone the {what} stands out from chance, but a change from early to "
        return say(None, text + "late as large as itself would probably not have been seen.")
    text = f"in the late weeks alone the {what} stands out from chance, and a change as large as itself was not seen."
    return say(True, f"Holds{', as a loss' if worst <= 0 else ''}: {text}")


def _told_apart(e: Estimate) -> bool:
    """Say whether an estimate stands out from chance, after correction where it was made."""
    return (e.p if e.p_adjusted is None else e.p_adjusted) < 1 - e.level


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """For each tau: the best a and b (t, 2), their covariance (t, 2, 2), and the misfit that remains (t,)."""

    tau: Floats
    beta: Floats
    cov: Floats
    misfit: Floats


def _shape(day: Floats, tau: Floats | float, step_days: int) -> Floats:
    """Average exp(-day / tau) over the days of each period that begins on `day`."""
    within = np.exp(-np.arange(step_days) / np.asarray(tau)[..., None]).mean(axis=-1)
    return within * np.exp(-day / tau)


def _profile(day: Floats, effect: Floats, cov: Floats, step_days: int) -> _Profile:
    """Solve for a and b by generalised least squares at every tau of a grid, from a spike to almost a line."""
    tau = np.geomspace(step_days / 20, _LONGEST * (day[-1] + step_days - day[0]), _GRID)
    root = np.linalg.cholesky(cov)
    y = np.linalg.solve(root, effect)
    shapes = _shape(day, tau[:, None], step_days)
    x = np.linalg.solve(root, np.stack([np.ones_like(shapes), shapes], axis=-1))
    inverse = np.linalg.inv(np.einsum("tia,tib->tab", x, x))
    beta = np.einsum("tab,tib,i->ta", inverse, x, y)
    misfit = ((y - np.einsum("tia,ta->ti", x, beta)) ** 2).sum(axis=1)
    return _Profile(tau=tau, beta=beta, cov=inverse, misfit=misfit)


def _limits(profile: _Profile, at: Floats, q: float, scale: float) -> tuple[float, float]:
    """Give the profile-likelihood interval of a linear function of a and b that may depend on tau, `at` (t, 2).

    Given tau the likelihood is quadratic, so that the interval is the union over the grid of those that are left.
    """
    room = q * scale - (profile.misfit - profile.misfit.min())
    value = (at * profile.beta).sum(axis=1)
    half = np.sqrt(np.einsum("ta,tab,tb->t", at, profile.cov, at) * np.maximum(room, 0))
    allowed = room >= 0
    return float((value - half)[allowed].min()), float((value + half)[allowed].max())


def _widened(e: Estimate, variance: float) -> Estimate:
    """Add the variance of an estimated weight to an estimate."""
    se = math.sqrt(e.se**2 + variance)
    half = (e.high - e.diff) * se / e.se
    p = 2 * special.ndtr(-abs(e.diff) / se)
    return replace(e, se=se, low=e.diff - half, high=e.diff + half, p=float(p), mde=e.mde * se / e.se)
