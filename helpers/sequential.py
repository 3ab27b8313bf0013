"""Looking before the end: bounds for planned looks, intervals that hold at every look, and what either costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from scipy import optimize, special, stats

from helpers.errors import ParameterError, did_you_mean
from helpers.results import Estimate, NotEstimable, figures, with_width

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

Rule = Literal[
    "obrien_fleming", "pocock", "wang_tsiatis", "spend_obrien_fleming", "spend_pocock", "spend_power"
]  # the first three fix the shape of the bounds, the others how the error is spent
Sides = Literal[1, 2]

REACH = 16.0  # paths are followed this many standard errors from 0; beyond lies less than 1e-50
SMALLEST = 1e-15  # p-values below it are not told apart
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """When a launch is looked at, and how far its z must be from 0 at each look to stop.

    `when` (k,) are the looks as planned: days, accounts, or whatever information grows in proportion to; `z` (k,) the
    bounds, `spent` (k,) the share of sound A/A launches that have stopped up to each look. With one side only an upward
    crossing counts.
    """

    when: Floats
    z: Floats
    spent: Floats
    alpha: float
    sides: Sides
    rule: Rule
    shape: float

    def to_frame(self) -> pd.DataFrame:
        """Lay the looks out as a table: when, share of information, z, the nominal p of z, error spent."""
        import pandas as pd

        return pd.DataFrame(
            {
                "look": np.arange(1, len(self.when) + 1),
                "when": self.when,
                "share": self.when / self.when[-1],
                "z": self.z,
                "p": self.sides * stats.norm.sf(self.z),
                "spent": self.spent,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look, read against its bound: z, whether to stop, and the interval that holds at all looks together."""

    look: int
    when: float
    estimate: Estimate
    z: float
    bound: float
    stop: bool
    words: str


class _Step(NamedTuple):
    """One look of a Brownian path: where the paths still running stood at the look before, and what stops them now."""

    before: float
    information: float
    scores: Floats
    mass: Floats
    low: float
    high: float


def plan_looks(
    when: int | Sequence[float] | Floats,
    *,
    alpha: float = 0.05,
    sides: Sides = 2,
    rule: Rule = "spend_obrien_fleming",
    shape: float = 1.0,
) -> Looks:
    """Plan bounds so that a launch that does nothing stops at any of its looks with probability `alpha` at most.

    The bounds are found by recursive numerical integration over the paths that have not stopped (Armitage, McPherson
    and Rowe 1969; Jennison and Turnbull 2000, ch. 19). They hold for estimates whose increments are independent, as
    those of means over growing samples or windows are; where looks are more alike, they err on the safe side.

    Args:
        when: how many equally spaced looks, or when they are: above 0, rising; the last is the planned end.
        alpha: error over all looks and sides together, between 0 and 0.5.
        sides: 2 to stop for either sign, 1 to stop upwards only.
        rule: `obrien_fleming` (hard to stop early), `pocock` (the same z at each look) and between them `wang_tsiatis`
            with z in proportion to share**(shape - 1/2) (Wang and Tsiatis 1987); or how the error is spent (Lan and
            DeMets 1983), which allows looks at other times than planned: `spend_obrien_fleming`, `spend_pocock`, and
            `spend_power` in proportion to share**shape (Kim and DeMets 1987).
        shape: for `wang_tsiatis` and `spend_power`; above 0 for the latter.

    Raises:
        ParameterError: an argument is out of its range.

    >>> plan_looks(5, rule="obrien_fleming").z.round(3)
    array([4.562, 3.226, 2.634, 2.281, 2.04 ])
    >>> plan_looks([7, 14, 28]).spent.round(4)
    array([0.    , 0.0031, 0.05  ])
    """
    if rule not in get_args(Rule):
        raise ParameterError(f"rule is {rule!r}; {did_you_mean(rule, get_args(Rule))}")
    if sides not in (1, 2):
        raise ParameterError(f"sides is {sides!r}, must be 1 or 2")
    if not 0 < alpha < 0.5:
        raise ParameterError(f"alpha is {alpha}, must lie between 0 and 0.5")
    if rule == "spend_power" and not shape > 0:
        raise ParameterError(f"shape is {shape}, must be above 0 to spend error in proportion to share ** shape")
    times = np.arange(1.0, when + 1) if isinstance(when, int | np.integer) else np.asarray(when, dtype=np.float64)
    _rising(times, "looks")
    share = times / times[-1]
    if rule.startswith("spend_"):
        spent = _spent(share, alpha, sides, rule, shape)
        z = _spending(share, spent, sides)
    else:
        power = {"obrien_fleming": -0.5, "pocock": 0.0}.get(rule, shape - 0.5)
        z = share**power * _constant(share, power, alpha, sides)
        spent = crossing(z, share, sides=sides).sum(axis=1).cumsum()
    return Looks(when=times, z=z, spent=spent, alpha=alpha, sides=sides, rule=rule, shape=shape)


def crossing(
    z: Sequence[float] | Floats, information: Sequence[float] | Floats, *, sides: Sides = 2, drift: float = 0.0
) -> Floats:
    """Give the probability of stopping at each look for the first time, below and above: (k, 2).

    Args:
        z: (k,) the bounds, inf where a look cannot stop.
        information: (k,) at each look: above 0, rising; the expected z is `drift` times its square root.
        sides: with 1 no path stops below.
        drift: the effect, in the unit whose squared standard error is 1 / information; 0 if nothing changed.

    Looking five times at the usual 1.96 (Armitage, McPherson and Rowe 1969):

    >>> crossing([1.96] * 5, [1, 2, 3, 4, 5]).sum().round(3)
    np.float64(0.142)
    """
    levels, bounds = np.asarray(information, dtype=np.float64), np.asarray(z, dtype=np.float64)
    _rising(levels, "information")
    if bounds.shape != levels.shape or np.isnan(bounds).any():
        raise ParameterError(f"there are {levels.size} looks; expected as many bounds, got {bounds.tolist()}")
    return np.array([(_below(s, s.low, drift), _above(s, s.high, drift)) for s in _paths(bounds, levels, sides)])


def inflation(looks: Looks, power: float = 0.8) -> float:
    """Say how many times the accounts of a single-look design the last look needs, to have the same power.

    That is the price of being allowed to stop early, paid only if one does not (Jennison and Turnbull 2000, sec. 2.1).

    >>> round(inflation(plan_looks(5, rule="pocock")), 3)
    1.229
    """
    if not looks.alpha < power < 1:
        raise ParameterError(f"power is {power}, must lie between alpha ({looks.alpha}) and 1")
    paths = _paths(looks.z, looks.when / looks.when[-1], looks.sides)
    drift = optimize.brentq(lambda d: sum(_above(s, s.high, d) for s in paths) - power, 0, 2 * REACH)
    more = (drift / (stats.norm.isf(looks.alpha / looks.sides) + stats.norm.ppf(power))) ** 2
    return max(1.0, float(more))  # a look that spends next to nothing costs nothing, but for the last digit


def follow(
    estimates: Sequence[Estimate | NotEstimable],
    looks: Looks,
    *,
    better: Literal["higher", "lower"],
    unit: str = "",
    clock: str = "day",
) -> list[Reading]:
    """Read the estimates of the looks so far, the first look first, and say at each whether to stop.

    Where the rule spends error, each look spends what was planned for it (Lan and DeMets 1983), and looks count as no
    more alike than the plan says, or the information that came: 1 / se**2. (Information alone would say too much where
    the same accounts are watched for longer, whose days are less alike than their means.) Otherwise the bounds are as
    planned. The intervals are repeated confidence intervals (Jennison and Turnbull 1989): all of them contain the truth
    together with probability 1 - alpha, whether or not one stops. Their p is the repeated p-value (ibid., sec. 4): the
    smallest alpha whose bounds, planned in the same way, this look would have crossed. A look that could not be
    estimated, or whose interval has no width, is passed over, and its error is spent at the next.

    Args:
        estimates: one for each look so far, each over all data up to it.
        looks: as planned; with one side only harm stops the launch.
        better: the good direction of the metric.
        unit: that of the metric, for the words.
        clock: what `looks.when` counts.

    Raises:
        ParameterError: there are more estimates than looks.
    """
    there, information, bounds = _bounds(estimates, looks)
    readings: list[Reading] = []
    for i, ((k, e), bound) in enumerate(zip(there, bounds, strict=True), start=1):
        crossed = _far(e, looks, better) >= bound
        interval = _repeated(there[:i], information[:i], bound, looks, better)
        said = f"{clock.capitalize()} {looks.when[k]:g}, look {k + 1} of {len(looks.when)}: " * (len(looks.when) > 1)
        gain, last = (e.diff > 0) == (better == "higher"), k + 1 == len(looks.when)
        said += _words(interval, crossed=crossed, last=last, gain=gain, sides=looks.sides, unit=unit)
        readings.append(
            Reading(
                look=k + 1,
                when=float(looks.when[k]),
                estimate=interval,
                z=_z(e),
                bound=float(bound),
                stop=bool(crossed),
                words=said,
            )
        )
    return readings


def repeated(
    estimates: Sequence[Estimate | NotEstimable], looks: Looks, *, better: Literal["higher", "lower"]
) -> Estimate | NotEstimable:
    """Give the interval and p of the newest look alone, as `follow` does: both hold at all looks together."""
    there, information, bounds = _bounds(estimates, looks)
    newest = with_width(estimates[-1])
    return newest if isinstance(newest, NotEstimable) else _repeated(there, information, bounds[-1], looks, better)


def settle(
    estimates: Sequence[Estimate | NotEstimable], looks: Looks, *, better: Literal["higher", "lower"]
) -> Estimate:
    """Give the estimate, interval and p of a launch that stopped, corrected for having been able to stop early.

    A launch that stops because its effect looks large overstates it. The corrected estimate lies below the true effect
    as often as above it; interval and p come from the same order of outcomes, in which an earlier stop is more
    extreme than a later one (stage-wise ordering: Tsiatis, Rosner and Mehta 1984; Jennison and Turnbull 2000, ch. 8).
    The values of the arms are as observed. Arguments are those of `follow`.

    Raises:
        ParameterError: no bound was crossed and looks are left: the launch goes on, and `follow` has its intervals.
    """
    readings = follow(estimates, looks, better=better)
    ended = [i for i, r in enumerate(readings) if r.stop or r.look == len(looks.when)]
    if not ended:
        raise ParameterError(
            f"after {len(estimates)} of {len(looks.when)} looks no bound is crossed: nothing to settle"
        )
    past = readings[: ended[0] + 1]
    seen = [e for e in map(with_width, estimates) if isinstance(e, Estimate)][: len(past)]
    side, last = _side(looks, better) or 1, seen[-1]
    unit = last.se  # of the effect while it is searched for
    information = _information(seen)
    information /= information[-1]  # in that unit, also where the errors of totals grow with the window
    steps = _paths(np.array([r.bound for r in past]), information, looks.sides)
    score = side * past[-1].z * np.sqrt(information[-1])

    def more_extreme(effect: float) -> float:
        earlier = sum(_above(s, s.high, effect) for s in steps[:-1])
        return earlier + _above(steps[-1], score, effect)

    def at(probability: float) -> float:
        near = side * last.diff / unit
        return float(optimize.brentq(lambda d: more_extreme(d) - probability, near - 2 * REACH, near + 2 * REACH))

    tail = looks.alpha / looks.sides
    low, middle, high = sorted(side * unit * at(q) for q in (tail, 0.5, 1 - tail))
    p = more_extreme(0.0)
    settled = limited(last, middle, low, high)
    return replace(
        settled,
        p=float(2 * min(p, 1 - p) if looks.sides == 2 else p),
        level=1 - 2 * tail,
        mde=float(last.mde * np.sqrt(inflation(looks))),
        method=f"{last.method}, median-unbiased after look {past[-1].look} of {len(looks.when)}",
    )


def stopped_by(z: Floats, bounds: npt.ArrayLike) -> Floats:
    """Give the share of launches (rows of z) whose z has passed a bound, on either side, up to each look.

    >>> stopped_by(np.array([[0.3, 2.2, 0.4], [1.0, 0.5, -2.0]]), 1.96)
    array([0. , 0.5, 1. ])
    """
    return np.maximum.accumulate(np.abs(z) >= np.asarray(bounds), axis=1).mean(axis=0)


def _bounds(
    estimates: Sequence[Estimate | NotEstimable], looks: Looks
) -> tuple[list[tuple[int, Estimate]], Floats, Floats]:
    """Number the looks that could be estimated, and give the information and the bound of each."""
    if len(estimates) > len(looks.when):
        raise ParameterError(f"there are {len(estimates)} estimates, but {len(looks.when)} looks were planned")
    there = [(k, e) for k, e in enumerate(map(with_width, estimates)) if isinstance(e, Estimate)]
    if not there:
        return [], np.zeros(0), np.zeros(0)
    numbers = [k for k, _ in there]
    information = _information([e for _, e in there], looks.when[numbers])
    bounds = looks.z[numbers]
    if looks.rule.startswith("spend_"):
        bounds = _spending(information, looks.spent[numbers], looks.sides)
    return there, information, np.minimum(bounds, REACH)


def _repeated(
    there: Sequence[tuple[int, Estimate]], information: Floats, bound: float, looks: Looks, better: str
) -> Estimate:
    """Give the newest estimate the interval and p that hold at all looks together."""
    k, e = there[-1]
    usual = stats.norm.isf((1 - e.level) / 2)
    widened = bound / usual
    low, high = e.diff - widened * (e.diff - e.low), e.diff + widened * (e.high - e.diff)
    if abs(_z(e)) < bound:  # which a limit without width does not know
        low, high = min(low, 0.0), max(high, 0.0)
    interval = limited(e, e.diff, low, high)
    return replace(
        interval,
        p=_repeated_p(_far(e, looks, better), looks, [number for number, _ in there], information),
        level=1 - looks.alpha * (2 // looks.sides),
        mde=float(e.mde + (widened - 1) * usual * e.se),
        method=f"{e.method}, repeated interval of look {k + 1} of {len(looks.when)}",
    )


def _far(e: Estimate, looks: Looks, better: str) -> float:
    """Say how far an estimate is from 0, in normal errors, towards a side that stops the launch."""
    return _side(looks, better) * _z(e) or abs(_z(e))


def _z(e: Estimate) -> float:
    """Say at which normal quantile the interval, scaled, reaches 0; without width on that side, p says it."""
    near = e.diff - e.low if e.diff > 0 else e.high - e.diff
    z = abs(e.diff) / near * stats.norm.isf((1 - e.level) / 2) if near > 0 else stats.norm.isf(max(e.p, 1e-300) / 2)
    return float(np.copysign(z, e.diff))


def _side(looks: Looks, better: str) -> int:
    """Give the sign of z that stops the launch; 0 where both do."""
    return 0 if looks.sides == 2 else -1 if better == "higher" else 1


def _information(estimates: Sequence[Estimate], planned: Floats | None = None) -> Floats:
    """Give 1 / se**2 of each look; it grows by a thousandth at least, or as planned: both on the safe side."""
    growth = np.array([before.se**2 / now.se**2 for before, now in pairwise(estimates)])
    growth = np.maximum(growth, 1.001 if planned is None else planned[1:] / planned[:-1])
    return np.cumprod(np.append(1.0, growth)) / estimates[0].se ** 2


def limited(e: Estimate, diff: float, low: float, high: float) -> Estimate:
    """Give an estimate another value and limits; the relative ones move in proportion, or where it was 0, as they."""
    rel, rel_low, rel_high = e.rel, e.rel_low, e.rel_high
    if rel is not None:
        rel = diff / e.control
        if e.rel is not None and rel_low is not None and rel_high is not None:
            below, above = e.diff - e.low, e.high - e.diff
            rel_low = rel - (diff - low) * ((e.rel - rel_low) / below if below else 1 / e.control)
            rel_high = rel + (high - diff) * ((rel_high - e.rel) / above if above else 1 / e.control)
    return replace(e, diff=float(diff), low=float(low), high=float(high), rel=rel, rel_low=rel_low, rel_high=rel_high)


def _repeated_p(far: float, looks: Looks, numbers: Sequence[int], information: Floats) -> float:
    """Find the alpha whose bound at the last of these looks lies where z does, `far` from 0; at least `SMALLEST`."""
    share = looks.when / looks.when[-1]
    if not looks.rule.startswith("spend_"):
        shape = looks.z / looks.z[-1]
        least = max(far, 1e-9) / shape[numbers[-1]]
        return float(crossing(least * shape, share, sides=looks.sides).sum())

    def room(u: float) -> float:
        """Compare the chance of getting here and beyond z with the error that such an alpha has left for this look."""
        alpha = float(4 * special.ndtr(-u))
        spent = _spent(share, alpha, looks.sides, looks.rule, looks.shape)[list(numbers)]
        before = _spending(information[:-1], spent[:-1], looks.sides)
        step = _paths(np.append(before, np.inf), information, looks.sides)[-1]
        error = np.diff(spent, prepend=0.0)[-1] / looks.sides
        found = _above(step, far * np.sqrt(information[-1]), 0.0)
        return float(np.log(max(found, 1e-300)) - np.log(max(error, 1e-300)))

    ends = -special.ndtri(SMALLEST / 4), -special.ndtri((1 - 1e-9) / 4)  # on this scale it is nearly straight
    if far >= REACH or room(ends[0]) <= 0:
        return SMALLEST
    return 1.0 if room(ends[1]) >= 0 else float(4 * special.ndtr(-optimize.brentq(room, *ends, xtol=1e-7)))


def _words(e: Estimate, *, crossed: bool, last: bool, gain: bool, sides: Sides, unit: str) -> str:
    ends = f"{figures(e.low, sign=True)} to {figures(e.high, sign=True)} {unit}".rstrip()
    limits = f"{figures(e.diff, sign=True)} ({ends}, at all looks together)"
    if crossed:
        return f"a bound is crossed; a {'gain' if gain else 'loss'} is established: {limits}."
    open_ = "neither gain nor loss is established" if sides == 2 else "no loss is established"
    return f"the planned end; {open_}: {limits}." if last else f"go on; {open_} yet: {limits}."


def _rising(values: Floats, name: str) -> None:
    """Refuse looks that are not above 0, finite and rising."""
    good = values.ndim == 1 and 1 <= values.size <= 1_000 and np.isfinite(values).all()
    if not (good and values[0] > 0 and (np.diff(values) > 0).all()):
        raise ParameterError(f"{name} must be 1 to 1,000 finite numbers above 0 that rise, got {values.tolist()}")


def _paths(z: Floats, information: Floats, sides: Sides) -> list[_Step]:
    """Follow a path without drift from look to look: the mass of those that have not stopped, on quadrature nodes."""
    steps: list[_Step] = []
    before, scores, mass = 0.0, np.zeros(1), np.ones(1)
    for k, (now, bound) in enumerate(zip(information, z, strict=True)):
        high = bound * np.sqrt(now)
        low = -high if sides == 2 else -np.inf
        steps.append(_Step(before, now, scores, mass, low, high))
        if k + 1 < len(information):
            scores, mass = _survive(steps[-1], information[k + 1])
        before = now
    return steps


def _survive(step: _Step, following: float) -> tuple[Floats, Floats]:
    """Lay nodes over the scores that do not stop, fine enough for this step and the next, and weigh them."""
    edge = REACH * np.sqrt(step.information)
    low, high = max(step.low, -edge), max(min(step.high, edge), -edge)
    span = step.information - step.before
    panels = int(np.ceil((high - low) / (2 * np.sqrt(min(span, following - step.information))))) or 1
    half = (high - low) / (2 * panels)
    centres = low + half * (2 * np.arange(panels) + 1)
    nodes = (centres[:, None] + half * _NODES).ravel()
    density = np.exp(-((nodes[:, None] - step.scores) ** 2) / (2 * span)) @ step.mass / np.sqrt(2 * np.pi * span)
    return nodes, np.tile(half * _WEIGHTS, panels) * density


def _above(step: _Step, score: float, drift: float) -> float:
    """Give the probability of getting to this look and standing above a score there.

    Drift changes the mass of a path by its likelihood ratio, which depends on its last score only.
    """
    root = np.sqrt(step.information - step.before)
    tilted = step.mass * np.exp(drift * step.scores - drift**2 * step.before / 2)
    return float(tilted @ special.ndtr((step.scores - score) / root + drift * root))


def _below(step: _Step, score: float, drift: float) -> float:
    return _above(step._replace(scores=-step.scores), -score, -drift)


def _spent(share: Floats, alpha: float, sides: Sides, rule: Rule, shape: float) -> Floats:
    """Say how much error may have been spent up to each share; each side spends by itself."""
    side = alpha / sides
    if rule == "spend_obrien_fleming":
        return np.asarray(sides * 2 * special.ndtr(special.ndtri(side / 2) / np.sqrt(share)))
    if rule == "spend_pocock":
        return alpha * np.log1p((np.e - 1) * share)
    return alpha * share**shape


def _spending(information: Floats, spent: Floats, sides: Sides) -> Floats:
    """Find the bounds, one look after the other, at which the error spent is as given."""
    z = np.full(len(information), np.inf)
    before, scores, mass = 0.0, np.zeros(1), np.ones(1)
    for k, (now, error) in enumerate(zip(information, np.diff(spent, prepend=0.0) / sides, strict=True)):
        step = _Step(before, now, scores, mass, -np.inf, np.inf)
        if error > 0:
            z[k] = _bound(step, error)
        high = z[k] * np.sqrt(now)
        step = step._replace(low=-high if sides == 2 else -np.inf, high=high)
        if k + 1 < len(information):
            scores, mass = _survive(step, information[k + 1])
        before = now
    return z


def _bound(step: _Step, error: float) -> float:
    """Find the z above which this look stops a path with probability `error`; inf where it cannot be told from 0."""
    root = np.sqrt(step.information)
    if not step.before:
        first = float(-special.ndtri(error))
        return first if first < REACH else float("inf")

    def excess(z: float) -> float:
        found = _above(step, z * root, 0.0)
        return float(np.log(max(found, 1e-300)) - np.log(error))

    if excess(REACH) > 0:
        return float("inf")
    return float(optimize.brentq(excess, -REACH, REACH, xtol=1e-10))


def _constant(share: Floats, power: float, alpha: float, sides: Sides) -> float:
    """Find the factor of bounds of a given shape at which the error over all looks is alpha."""

    def excess(factor: float) -> float:
        return float(np.log(crossing(factor * share**power, share, sides=sides).sum()) - np.log(alpha))

    return float(optimize.brentq(excess, stats.norm.isf(alpha / sides) - 1e-9, REACH, xtol=1e-10))
