"""Power: accounts, change, chance; any one of the three follows from the other two, before anybody looks at an effect.

One function, `_chance`, gives the chance that a claim is made; `power` reads it, `mde` and `sample_size` invert it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import optimize, special

from helpers.errors import ParameterError, did_you_mean
from helpers.metrics import Bound
from helpers.power.design import STANDARD, Design
from helpers.results import Aim, Power

if TYPE_CHECKING:
    from helpers.power.outcome import Outcome

MOST = 1e13  # accounts; more than this is "never"
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(60)
_NODES, _WEIGHTS = 8 * _NODES, 8 * _WEIGHTS * np.exp(-32 * _NODES**2) / math.sqrt(2 * math.pi)  # of a standard normal


def relative(change: float) -> Bound:
    """Say a change as a share of the control's value: 0.10 is ten per cent more.

    >>> relative(-0.1).text
    '-10%'
    """
    return Bound(value=change, relative=True, text=f"{100 * change:+.6g}%")


def absolute(change: float) -> Bound:
    """Say a change in the outcome's own unit; for a share, 0.01 is one percentage point."""
    return Bound(value=change, relative=False, text=f"{change:+.6g}")


def sample_size(
    outcome: Outcome,
    *,
    effect: Bound | None = None,
    margin: Bound | None = None,
    aim: Aim = "superiority",
    design: Design = STANDARD,
) -> Power:
    """Say how many accounts make the claim with the design's power.

    Superiority: the effect is really there, and the interval lies on its side of 0, or beyond `margin` where one is
    given. Non-inferiority: the interval stays on the good side of a harmful `margin`. Equivalence: it lies between
    minus and plus `margin` (two one-sided tests). In the last two `effect` is the true difference, 0 if not given.

    A relative margin m is read as the claim will read it, by the interval of the ratio: on t - (1 + m) c, because the
    control's value c is estimated too (Kieser and Hauschke 1999; Hauschke et al. 1999). Against a rise by half, equal
    arms need 1.6 times the accounts that a margin of the same size in the outcome's own unit does.

    Args:
        outcome: what is measured; see `helpers.power.outcome`.
        effect: `relative(...)` or `absolute(...)`; a bare number is refused.
        margin: likewise.
        aim: which claim.
        design: error rates, allocation and all that widens or narrows the interval.

    Raises:
        ParameterError: an effect of zero, one that takes the outcome where it cannot be, a margin on the wrong side or
            already crossed by the effect, or more accounts than anybody has.

    >>> from helpers.power.outcome import proportion
    >>> found = sample_size(proportion(0.021), effect=relative(0.10))
    >>> found.n_treatment, found.n_control
    (76757, 76757)
    """
    ask = _asked(outcome, effect, margin, aim)
    wanted = design.chance(aim)

    def gap(log_n: float) -> float:
        n = math.exp(log_n)
        return _chance(outcome, design, ask, n, n * design.controls) - wanted

    least = 2 * max(1.0, 1 / design.controls)
    n = least if gap(math.log(least)) >= 0 else math.exp(_root(gap, math.log(least), math.log(MOST), "accounts"))
    treated, control = (math.ceil(x - 1e-6) for x in (n, n * design.controls))
    return _answer(outcome, design, ask, treated, control, n)


def mde(
    outcome: Outcome,
    *,
    n_treatment: int,
    n_control: int | None = None,
    effect: Bound | None = None,
    aim: Aim = "superiority",
    direction: Literal["up", "down"] | None = None,
    rel_margin: bool = False,
    design: Design = STANDARD,
) -> Power:
    """Say the smallest effect that so many accounts find, or the smallest margin that they exclude, with the power.

    Args:
        outcome: what is measured.
        n_treatment: treated accounts, assigned; at least 2.
        n_control: control accounts; `design.controls` times as many where not given.
        effect: for non-inferiority and equivalence, the true difference; 0 if not given.
        aim: which claim.
        direction: of the effect to be found; the outcome's good side where not given. A margin lies on the bad one.
        rel_margin: whether the margin will be read as a share of the control's value; see `sample_size`.
        design: error rates and all that widens or narrows the interval.

    Raises:
        ParameterError: no effect that is possible at all would be found.

    >>> from helpers.power.outcome import mean
    >>> found = mde(mean(value=100, sd=120, test="z"), n_treatment=10_000, aim="superiority")
    >>> round(found.change, 4), round(found.rel, 4)
    (4.7544, 0.0475)
    """
    n_t, n_c = _counts(design, n_treatment, n_control)
    truth = 0.0 if effect is None else _size(outcome, effect, "effect")
    good = 1 if outcome.better == "higher" else -1
    sign = good if direction is None else 1 if direction == "up" else -1
    if aim != "superiority":
        sign = 1 if aim == "equivalence" else -good
    wanted = design.chance(aim)

    shared = rel_margin and outcome.value > 0

    def ask(size: float) -> _Ask:
        if aim == "superiority":
            return _Ask(aim=aim, truth=sign * size, margin=0.0)
        margin = truth + sign * size if aim == "non-inferiority" else abs(truth) + size
        return _Ask(aim=aim, truth=truth, margin=margin, relative=shared)

    def gap(log_size: float) -> float:
        return _chance(outcome, design, ask(math.exp(log_size)), n_t, n_c) - wanted

    room = _room(outcome, sign) - sign * truth
    if aim == "equivalence":
        room = min(_room(outcome, 1), _room(outcome, -1), outcome.value if shared else math.inf) - abs(truth)
    top = min(room * (1 - 1e-9), 1e6 * outcome.sd)
    size = math.exp(_root(gap, math.log(1e-12 * top), math.log(top), "effect"))
    return _answer(outcome, design, ask(size), n_t, n_c, n_t)


def power(
    outcome: Outcome,
    *,
    n_treatment: int,
    n_control: int | None = None,
    effect: Bound | None = None,
    margin: Bound | None = None,
    aim: Aim = "superiority",
    design: Design = STANDARD,
) -> Power:
    """Say how surely so many accounts make the claim, if the effect is true; arguments as in `sample_size` and `mde`.

    >>> from helpers.power.outcome import proportion
    >>> round(power(proportion(0.5), n_treatment=50, effect=absolute(0.25)).power, 7)
    0.7401659
    """
    n_t, n_c = _counts(design, n_treatment, n_control)
    return _answer(outcome, design, _asked(outcome, effect, margin, aim), n_t, n_c, n_t)


def exact(share: float, effect: Bound, *, n_treatment: int, n_control: int, alpha: float = 0.05) -> float:
    """Give the exact power of the two-sided pooled z-test of two shares, by enumeration of all that can happen.

    The formulas are approximations to this number. It rises with n in small teeth, because counts are whole.

    >>> round(exact(0.5, absolute(0.25), n_treatment=50, n_control=50), 3)
    0.745
    """
    from scipy import stats

    from helpers.power.outcome import proportion

    after = share + _asked(proportion(share), effect, None, "superiority").truth
    if after < share:
        share, after = 1 - share, 1 - after
    crit = special.ndtri(1 - alpha / 2)
    x = np.arange(n_control + 1)
    mass = stats.binom.pmf(x, n_control, share)
    x, mass = x[mass > 1e-15], mass[mass > 1e-15]
    low, high = np.zeros(len(x), dtype=np.int64), np.full(len(x), n_treatment + 1)
    while (open_ := low < high).any():  # for the fewest treated successes that are found, beside each control count
        middle = np.minimum((low + high) // 2, n_treatment)
        pooled = (x + middle) / (n_control + n_treatment)
        se = np.sqrt(pooled * (1 - pooled) * (1 / n_control + 1 / n_treatment))
        found = middle / n_treatment - x / n_control > crit * se
        low, high = np.where(open_ & ~found, middle + 1, low), np.where(open_ & found, middle, high)
    return float(mass @ stats.binom.sf(low - 1, n_treatment, after))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """A claim in the outcome's unit: what is true, what has to be excluded, and whether that is a share of control."""

    aim: Aim
    truth: float
    margin: float
    relative: bool = False


def _asked(outcome: Outcome, effect: Bound | None, margin: Bound | None, aim: Aim) -> _Ask:
    """Refuse what cannot be asked, and put the rest into the outcome's unit."""
    if aim not in get_args(Aim):
        raise ParameterError(f"aim is {aim!r}; {did_you_mean(aim, get_args(Aim))}")
    truth = 0.0 if effect is None else _size(outcome, effect, "effect")
    bound = 0.0 if margin is None else _size(outcome, margin, "margin")
    shared = margin is not None and margin.relative
    if aim == "superiority":
        if truth == 0:
            raise ParameterError(
                "effect is 0, must differ from 0: no number of accounts finds a change that is not there"
            )
        if margin is not None and not 0 < bound / truth < 1:
            raise ParameterError(f"margin {margin.text} must lie between 0 and the effect, so that it can be exceeded")
        return _Ask(aim=aim, truth=truth, margin=bound, relative=shared)
    if margin is None or bound == 0:
        raise ParameterError(f"margin is {'missing' if margin is None else 0}: {aim} needs one other than 0")
    good = 1 if outcome.better == "higher" else -1
    if aim == "equivalence":
        bound = abs(bound)
        if bound >= min(_room(outcome, 1), _room(outcome, -1)):
            raise ParameterError(f"margin {margin.text} to both sides takes {outcome.value:g} to where it cannot be")
        crossed = abs(truth) >= bound
    else:
        if bound * good > 0:
            raise ParameterError(
                f"margin {margin.text} is no harm where {outcome.better} is better; give the other sign"
            )
        crossed = truth * good <= bound * good
    if crossed:
        raise ParameterError(f"the true effect must lie within the margin of {margin.text}, or it cannot be excluded")
    return _Ask(aim=aim, truth=truth, margin=bound, relative=shared)


def _size(outcome: Outcome, change: Bound, name: str) -> float:
    """Put a change into the outcome's unit (a hazard stays relative), and refuse one that leads out of its range."""
    if not isinstance(change, Bound):
        raise ParameterError(
            f"{name} is {change!r}, which may mean two things; say power.relative(0.1) for a tenth of the control's "
            "value, or power.absolute(0.1) in its own unit"
        )
    hazard = outcome.kind == "time_to_event"
    if hazard and not change.relative:
        raise ParameterError(f"{name} {change.text} of a time to an event must be relative: it changes the hazard")
    if change.relative and not outcome.value > 0:
        raise ParameterError(
            f"{name} {change.text} is relative, and the control's value {outcome.value:g} is not above 0"
        )
    size = change.value * (outcome.value if change.relative and not hazard else 1)
    if not math.isfinite(size):
        raise ParameterError(f"{name} is {change.text}, must be finite")
    if abs(size) >= _room(outcome, 1 if size > 0 else -1):
        after = 1 + size if hazard else outcome.value + size
        bound = "below 1" if size > 0 else "above 0"
        what = (
            f"hazard ratio would be {after:g}" if hazard else f"{outcome.kind} of {outcome.value:g} would be {after:g}"
        )
        raise ParameterError(f"{name} is {change.text}: the {what}, must stay {bound}")
    return size


def _room(outcome: Outcome, sign: int) -> float:
    """Say how far the outcome can go up or down."""
    if outcome.kind == "proportion":
        return 1 - outcome.value if sign > 0 else outcome.value
    if outcome.kind == "time_to_event":
        return math.inf if sign > 0 else 1.0
    return outcome.value if outcome.kind == "count" and sign < 0 else math.inf


def _counts(design: Design, n_treatment: int, n_control: int | None) -> tuple[int, int]:
    for name, n in (("n_treatment", n_treatment), ("n_control", n_control)):
        if n is not None and (not 2 <= n <= MOST or n != int(n)):
            raise ParameterError(f"{name} is {n}, must be a whole number from 2 on")
    return int(n_treatment), max(2, math.ceil(n_treatment * design.controls)) if n_control is None else int(n_control)


def _chance(outcome: Outcome, design: Design, ask: _Ask, n_treatment: float, n_control: float) -> float:
    """Give the chance that the claim is made: that the estimate lies far enough beyond the margin.

    For a t-test the standard error is itself estimated; the chance is averaged over what it may come out as.
    """
    pooled = ask.aim == "superiority" and not ask.margin

    def errors(margin: float) -> tuple[float, float]:
        times = 1 + margin / outcome.value if ask.relative else 1.0
        null, alternative = _errors(outcome, ask.truth, n_treatment, n_control, pooled=pooled, times=times)
        return math.sqrt(design.variance) * null, math.sqrt(design.variance) * alternative

    null, alternative = errors(ask.margin)
    tail = design.tail(ask.aim)
    if outcome.test == "t":
        df = max((n_treatment + n_control) * (1 - design.attrition) - 2, 0.5)
        spread = np.sqrt(special.chdtri(df, special.ndtr(-_NODES)) / df)
        weights, quantile = _WEIGHTS, special.stdtrit(df, 1 - tail)
    else:
        spread, weights, quantile = np.ones(1), np.ones(1), special.ndtri(1 - tail)
    needed = quantile * spread * null / alternative
    here = _position(outcome, ask.truth)
    if ask.aim == "equivalence":
        up, down = (_position(outcome, ask.margin) - here, here - _position(outcome, -ask.margin))
        below = errors(-ask.margin)[1]  # outside superiority both errors are the same
        inside = special.ndtr(up / alternative - needed) + special.ndtr(down / below - needed) - 1
        return float(weights @ np.maximum(inside, 0))
    beyond = abs(here - _position(outcome, ask.margin))
    return float(weights @ special.ndtr(beyond / alternative - needed))


def _position(outcome: Outcome, change: float) -> float:
    """Put a change on the scale on which the test is made."""
    if outcome.test == "arcsine":
        return 2 * (math.asin(math.sqrt(outcome.value + change)) - math.asin(math.sqrt(outcome.value)))
    return math.log1p(change) if outcome.test == "log-rank" else change


def _errors(
    outcome: Outcome, change: float, n_treatment: float, n_control: float, *, pooled: bool, times: float
) -> tuple[float, float]:
    """Give the standard error that the test takes for true, and the one under the change, of t - `times` c."""
    before, after = outcome.value, outcome.value + change
    if outcome.test == "log-rank":  # Schoenfeld (1983): 1 / (events x both arms' shares)
        events = n_control * before + n_treatment * (1 - (1 - before) ** (1 + change))
        share = n_treatment / (n_treatment + n_control)
        se = 1 / math.sqrt(events * share * (1 - share))
        return se, se
    v_control = v_treatment = outcome.sd**2
    if outcome.test == "arcsine":
        v_control, v_treatment, times = 1.0, 1.0, 1.0
    elif outcome.kind == "proportion":
        v_control, v_treatment = before * (1 - before), after * (1 - after)
    elif outcome.kind == "count":
        v_treatment *= after / before
    se = math.sqrt(times**2 * v_control / n_control + v_treatment / n_treatment)
    if outcome.test == "pooled" and pooled:
        both = (n_control * before + n_treatment * after) / (n_control + n_treatment)
        return math.sqrt(both * (1 - both) * (1 / n_control + 1 / n_treatment)), se
    return se, se


def _root(gap: Callable[[float], float], low: float, high: float, what: str) -> float:
    """Find where the power is reached, between two bounds."""
    if gap(high) < 0:
        raise ParameterError(f"no possible number or size of {what} reaches the power that is asked for")
    return low if gap(low) >= 0 else float(optimize.brentq(gap, low, high, xtol=1e-13, rtol=1e-13))


def _answer(outcome: Outcome, design: Design, ask: _Ask, n_t: int, n_c: int, n_exact: float) -> Power:
    change = ask.truth if ask.aim == "superiority" else ask.margin
    hazard = outcome.kind == "time_to_event"
    return Power(
        aim=ask.aim,
        control=outcome.value,
        change=change,
        rel=change if hazard else change / outcome.value if outcome.value > 0 else None,
        truth=ask.truth,
        n_control=n_c,
        n_treatment=n_t,
        n_exact=n_exact,
        power=_chance(outcome, design, ask, n_t, n_c),
        alpha=design.tail(ask.aim),
        method=f"{outcome.kind.replace('_', ' ')}, {outcome.test}",
    )
