"""How much of an effect on a mean the heaviest accounts bring, and what is left of it without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from helpers.errors import ParameterError
from helpers.results import nothing
from helpers.robust import accounts, values
from helpers.robust.accounts import Arms
from helpers.robust.readings import NO_STORIES

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Verdict = Literal["broad", "leaning", "concentrated", "cannot tell"]
TOP = 0.05  # of the accounts: more than half of an effect from one in twenty is not everybody's
TOPS = (0.001, 0.005, 0.01, TOP)
LEFT_OUT = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05)
MOST = 10.0  # times the effect: a limit beyond that says no more than that there is none
HALF = 0.5  # of the effect: more than that from the top is concentrated
LEAST = 10  # accounts in the top; fewer have no average worth a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of an effect: in the metric's unit, and as a share with Fieller's interval.

    The limits are None where the effect itself cannot be told from 0: a share of nothing can be anything. A share lies
    below 0 or above 1 where the part and the rest point in different ways.
    """

    amount: float
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The effect on a mean, split between the heaviest share `top` of each arm and all others.

    `above` is the amount that this share of all accounts exceed, both arms together; `held` is the share of all that
    control has which its own heaviest have, None where amounts lie below 0.
    """

    top: float
    above: float
    effect: float
    part: Part
    held: float | None
    verdict: Verdict


def split(arms: Arms, top: float = TOP, *, level: float = 0.95) -> Split | None:
    """Split an effect into what the heaviest accounts of each arm bring and what all others bring.

    With x the amount of an account, Q the quantile function of its arm, p = `top` and t = Q(1 - p), the mean is

        integral of Q over (1 - p, 1)  +  integral of Q over (0, 1 - p)  =  mean(p t + max(x - t, 0))  +  rest

    (Rockafellar and Uryasev 2000, theorem 1), so that the difference of the arms splits likewise: into the areas under
    the curve of quantile differences to the right and to the left of 1 - p. The first term does not change with t near
    Q(1 - p), by the same theorem, and the error of the quantile itself is left out. The past is taken out of both, and
    the ratio of the first to the effect has Fieller's interval (1954). The same share of each arm is heavy; a limit in
    hours for both would count all hours of somebody as theirs whom a small gain lifted across it.

    The verdict is *concentrated* if the heaviest surely bring more than half of the effect, and a larger share of it
    than they have of everything anyway: where one in twenty has 77% of all spend, a gain of the same per cent for
    everybody brings 77% to them. Where they surely bring less than half, it is *leaning* to them if they surely bring
    more than what they have anyway, and else *broad*. All else is *cannot tell*, also where no effect stands out.

    It compares two crowds in order. Who gained is not in it: amounts given to light viewers who then are
    heavy count as the heaviest accounts'.

    Args:
        arms: the accounts. Where the plan caps the metric, the effect on capped amounts is split.
        top: share of each arm called heavy, above 0 and at most one half.
        level: confidence level.

    Returns:
        None where fewer than ten accounts are heavy, and for shares, in which every account counts once.

    Raises:
        ParameterError: `top` or `level` is out of range.
    """
    values.check(level)
    if not 0 < top <= HALF:
        raise ParameterError(f"top is {top}, must be above 0 and at most {HALF}")
    if arms.refusal() or arms.shares or top * sum(arms.n) < LEAST:
        return None
    arms = arms.capped()
    limits = _limits(arms, [top])
    columns = [
        np.column_stack([x, np.maximum(x - t, 0) + top * t])
        for x, t in zip((arms.control, arms.treatment), limits, strict=True)
    ]
    mean, cov, _ = accounts.means(arms, *columns)
    found = mean[1] - mean[0]
    _error, q, both = accounts.held(arms, mean, cov, level)
    has, heavy = np.average(columns[0], axis=0, weights=arms.weights[0] if arms.weights else None)
    here = Split(
        top=top,
        above=arms.quantile(1 - top),
        effect=float(found[0]),
        part=part(found, both, q[0]),
        held=float(heavy / has) if arms.control.min() >= 0 < has else None,
        verdict="cannot tell",
    )
    return replace(here, verdict=_verdict(here.part, here.held))


def _verdict(part: Part, held: float | None) -> Verdict:
    """Judge what the heaviest bring of the effect, beside what they have of everything."""
    if part.low is None or part.high is None:
        return "cannot tell"
    if part.low > max(HALF, held or 0.0):
        return "concentrated"
    if part.high < HALF:
        return "broad" if held is None or part.low <= held else "leaning"
    return "cannot tell"


def part(found: Floats, error: Floats, q: float) -> Part:
    """Give a part of an effect from (effect, part), their covariance and its t quantile, with Fieller's interval."""
    effect, amount = map(float, found)
    a, b, c = (found[i] * found[j] - q**2 * error[i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    if not a > 0:
        return Part(amount=amount, share=None, low=None, high=None)
    wide = np.sqrt(max(b**2 - a * c, 0.0))
    return Part(amount=amount, share=amount / effect, low=float((b - wide) / a), high=float((b + wide) / a))


def words(part: Part) -> str | None:
    """Write a share with its interval; None where there is no effect to have shares of.

    >>> words(Part(amount=0.0, share=0.0, low=-1e-17, high=0.04))
    '0% (between 0% and 4%)'
    """
    if part.share is None:
        return None
    ends = (round(end or 0.0, 2) + 0.0 for end in (part.low, part.high))  # no -0%
    low, high = (f"{end:.0%}" if abs(end) <= MOST else None for end in ends)
    limits = f"between {low} and {high}" if low and high else f"at least {low}" if low else f"at most {high}"
    share = round(part.share, 2) + 0.0
    return f"{share:.0%} ({limits if low or high else 'or anything'})".replace("-", "−")


def splits(arms: Arms, tops: Sequence[float] = TOPS, *, level: float = 0.95) -> pd.DataFrame:
    """Split the effect at several tops; a top with fewer than ten accounts is left out.

    Returns:
        top, above (the amount), effect, they bring and all others bring (in the metric's unit), as a share (what they
        bring, with its interval in words), of everything they have (a share, of control).
    """
    found = [s for top in tops if (s := split(arms, top, level=level)) is not None]
    if not found:
        return nothing(arms.why_not_amounts)
    return pd.DataFrame(
        {
            "top": [f"{s.top:.1%}" for s in found],
            "above": [s.above for s in found],
            "effect": [s.effect for s in found],
            "they bring": [s.part.amount for s in found],
            "all others bring": [s.effect - s.part.amount for s in found],
            "as a share": [words(s.part) for s in found],
            "of everything they have": [None if s.held is None else f"{s.held:.0%}" for s in found],
        }
    )


def leave_out(arms: Arms, left_out: Sequence[float] = LEFT_OUT, *, level: float = 0.95) -> pd.DataFrame:
    """Say what all others bring when the heaviest accounts of each arm are left out, from none to more and more.

    That is the second part of `split`, with the interval of the planned mean: where a few carry the effect, the curve
    falls to 0 at once; where it is broad, it falls slowly. What is left compares accounts that were chosen by what they
    did, and so is a way to look at an effect, not one on anybody.

    Returns:
        left_out (share of each arm), diff, low, high (in the metric's unit, over all accounts); no limits where the
        others do not vary.
    """
    values.check(level)
    columns, arms = ["left_out", "diff", "low", "high"], arms.capped()
    if arms.refusal() or arms.shares:
        return nothing(arms.why_not_amounts, columns)
    share = np.array(left_out)
    rest = [
        np.minimum(x[:, None], t) - share * t
        for x, t in zip((arms.control, arms.treatment), _limits(arms, left_out), strict=True)
    ]
    mean, cov, _ = accounts.means(arms, *rest)
    error, q, _both = accounts.held(arms, mean, cov, level)
    diff, half = mean[1] - mean[0], np.where(error > 0, q, np.nan) * np.sqrt(error)  # all others may have nothing
    return pd.DataFrame(np.column_stack([share, diff, diff - half, diff + half]), columns=columns)


def leave_out_each(stories: Mapping[str, Arms], *, level: float = 0.95) -> pd.DataFrame:
    """Leave the heaviest out of several stories; the column `story` names them."""
    curves = [leave_out(arms, level=level).assign(story=name) for name, arms in stories.items()]
    return pd.concat(curves) if curves else nothing(NO_STORIES, ["left_out", "diff", "low", "high"])


def _limits(arms: Arms, tops: Sequence[float]) -> list[Floats]:
    """Find the amounts (one for each top) that the heaviest of an arm exceed: control, treatment."""
    weights = arms.weights or (None, None)
    return [
        np.array([accounts.quantile(x, 1 - top, None if w is None else (w,)) for top in tops])
        for x, w in zip((arms.control, arms.treatment), weights, strict=True)
    ]
