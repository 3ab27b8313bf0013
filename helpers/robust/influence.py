"""Do a few accounts carry the result? How much of an effect comes from the heaviest, and what is left without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from helpers import units
from helpers.errors import ParameterError
from helpers.report import readout
from helpers.results import Check, Estimate, NotEstimable, nothing
from helpers.robust import accounts, estimators, values
from helpers.robust.accounts import Arms
from helpers.robust.readings import NO_STORIES, Reading, middle

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.study import Study

    Floats = npt.NDArray[np.float64]

Verdict = Literal["broad", "concentrated", "cannot tell"]
TOPS = (0.001, 0.005, 0.01)
LEFT_OUT = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05)
MOST = 10.0  # times the effect: a limit beyond that says no more than that there is none
HALF = 0.5  # of the effect: more than that from the top is concentrated
CHOICE = "Choice of cap"
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
    """The effect on a mean, split at an amount that only a share `top` of all accounts exceed.

    `heavy` is what the accounts above it bring with all that they have, `beyond` only what they have beyond it; the
    first counts too much as theirs, the second too little. `accounts` are so many of control and treatment.
    """

    top: float
    above: float
    accounts: tuple[int, int]
    effect: float
    heavy: Part
    beyond: Part
    verdict: Verdict


def split(arms: Arms, top: float = 0.01, *, level: float = 0.95) -> Split | None:
    """Split an effect into what the heaviest accounts bring and what all others bring.

    Heavy is whoever has more than the amount t that a share 1 - top of all accounts, both arms together, stays at or
    below: one limit, found without looking at the arm. With x the amount of an account, and in each arm,

        mean(x) = mean(x where x > t, else 0) + mean(x where x <= t, else 0)
        mean(x) = mean(x - t where x > t, else 0) + mean(x, capped at t)

    so that the difference of the arms splits likewise. All terms are means over accounts; the past is taken out of all
    of them, and the ratio of the first term to the effect has Fieller's interval (1954).

    The verdict is *concentrated* if the heavy accounts surely bring more than half of the effect. Else it is *broad* if
    surely less than half is lost when no account counts for more than t. Else it is *cannot tell*, and so it is where
    no effect stands out from chance. A gain of the same few per cent for everybody lifts some accounts above t, which
    then bring there all that they have: at the top hundredth of usual viewing about a third of the gain, not half.

    Args:
        arms: the accounts.
        top: share of all accounts called heavy, above 0 and at most one half.
        level: confidence level.

    Returns:
        None where fewer than ten accounts are heavy (and not because they are capped there), and for shares, in which
        every account counts once.

    Raises:
        ParameterError: `top` or `level` is out of range.
    """
    values.check(level)
    if not 0 < top <= HALF:
        raise ParameterError(f"top is {top}, must be above 0 and at most {HALF}")
    if arms.refusal() or arms.shares:
        return None
    above = arms.quantile(1 - top)
    at_cap = arms.limit is not None and bool(np.isclose(above, arms.limit))
    above = arms.limit if at_cap and arms.limit is not None else above
    counted = (int((arms.control > above).sum()), int((arms.treatment > above).sum()))
    if sum(counted) < LEAST and not at_cap:
        return None
    columns = (np.column_stack([x, x * (x > above), np.maximum(x - above, 0)]) for x in (arms.control, arms.treatment))
    mean, cov, _ = accounts.means(arms, *columns)
    found, error = mean[1] - mean[0], cov.sum(axis=0)
    heavy, beyond = (_part(found[[0, i]], error[np.ix_([0, i], [0, i])], level) for i in (1, 2))
    verdict: Verdict = "cannot tell"
    if heavy.low is not None and heavy.low > HALF:
        verdict = "concentrated"
    elif beyond.high is not None and beyond.high < HALF:
        verdict = "broad"
    return Split(
        top=top,
        above=above,
        accounts=counted,
        effect=float(found[0]),
        heavy=heavy,
        beyond=beyond,
        verdict=verdict,
    )


def _part(found: Floats, error: Floats, level: float) -> Part:
    """Give a part of an effect from (effect, part) and their covariance, with Fieller's interval for its share."""
    effect, amount = map(float, found)
    z = float(stats.norm.isf((1 - level) / 2))
    a, b, c = (found[i] * found[j] - z**2 * error[i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    if not a > 0:
        return Part(amount=amount, share=None, low=None, high=None)
    wide = np.sqrt(max(b**2 - a * c, 0.0))
    return Part(amount=amount, share=amount / effect, low=float((b - wide) / a), high=float((b + wide) / a))


def splits(arms: Arms, tops: Sequence[float] = TOPS, *, level: float = 0.95) -> pd.DataFrame:
    """Split the effect at several tops; a top with fewer than ten accounts is left out.

    Returns:
        top, above (the amount), control and treatment (heavy accounts), effect, they bring (in the metric's unit), as a
        share, lost under a cap there (as a share); shares with their intervals, in words.
    """
    found = [s for top in tops if (s := split(arms, top, level=level)) is not None]
    if not found:
        return nothing(arms.why_not_amounts)
    return pd.DataFrame(
        {
            "top": [f"{s.top:.1%}" for s in found],
            "above": [s.above for s in found],
            "control": [s.accounts[0] for s in found],
            "treatment": [s.accounts[1] for s in found],
            "effect": [s.effect for s in found],
            "they bring": [s.heavy.amount for s in found],
            "as a share": [_words(s.heavy) for s in found],
            "lost under a cap there": [_words(s.beyond) for s in found],
        }
    )


def leave_out(arms: Arms, left_out: Sequence[float] = LEFT_OUT, *, level: float = 0.95) -> pd.DataFrame:
    """Repeat the comparison without the heaviest accounts of both arms together, from none to more and more.

    Where a few carry the effect, the curve falls to 0 at once; where it is broad, it falls slowly. What is left
    compares accounts that were chosen by what they did, and so is a way to look at an effect, not one on anybody.

    Returns:
        left_out (share), accounts (so many), diff, low, high.
    """
    values.check(level)
    rows, all_ = [], sum(arms.n)
    for top in left_out if not (arms.refusal() or arms.shares) else ():
        limit = arms.quantile(1 - top)
        kept = arms.where(arms.control <= limit, arms.treatment <= limit)
        e = estimators.mean(kept, level=level)
        if isinstance(e, Estimate):
            gone = all_ - sum(kept.n)
            rows.append({"left_out": top, "accounts": gone, "diff": e.diff, "low": e.low, "high": e.high})
    columns = ["left_out", "accounts", "diff", "low", "high"]
    return pd.DataFrame(rows, columns=columns, dtype=float) if rows else nothing(arms.why_not_amounts, columns)


def leave_out_each(stories: Mapping[str, Arms], *, level: float = 0.95) -> pd.DataFrame:
    """Leave the heaviest out of several stories; the column `story` names them."""
    parts = [leave_out(arms, level=level).assign(story=name) for name, arms in stories.items()]
    return pd.concat(parts) if parts else nothing(NO_STORIES, ["left_out", "diff", "low", "high"])


def check(arms: Arms, *, top: float = 0.01, heavy_viewers_are_target: bool = False, level: float = 0.95) -> Check:
    """Ask whether more than half of the effect comes from the heaviest accounts, or the middle moved the other way.

    It passes where the effect is broad, or concentrated in those for whom the launch was made; fails where a few
    accounts carry what is told of all, or where the median surely lies on the other side: then the mean is not what
    most accounts have. It is open (None) where these data cannot tell. It concerns how the effect is told and whether
    it will repeat, not whether the data may be read. Where the plan caps the metric, the effect is that of the capped
    amounts, unless heavy viewers are the target.
    """
    passed, detail = _asked(arms, top, heavy_viewers_are_target, level)
    return Check(name="Concentration", passed=passed, detail=detail)


def _asked(arms: Arms, top: float, target: bool, level: float) -> tuple[bool | None, str]:
    """Say whether the question is passed, failed or open, and why."""
    if arms.closed:
        return None, f"Cannot tell: {arms.closed}."
    if arms.shares:
        return True, "Every account counts at most once in a share, so that a few cannot carry it."
    found = split(arms if target else arms.capped(), top, level=level)
    if found is None:
        return None, f"Cannot tell: fewer than {LEAST} accounts are among the heaviest {_percent(top)}."
    if found.heavy.share is None:
        return (
            None,
            "Cannot tell: the difference of plain means does not stand out from chance, "
            "so that it cannot be divided among accounts.",
        )
    limit = f"{found.above:,.4g} {arms.unit}".rstrip()
    of = f"the effect{' on capped amounts' * (arms.limit is not None and not target)}"
    brought = f"the heaviest {_percent(top)} of accounts (above {limit}) bring {_words(found.heavy)} of {of}"
    beyond = f"{_words(found.beyond)} of {of} would be lost if no account counted for more than {limit}"
    if found.above == arms.limit and not target:
        beyond = f"as planned no account counts for more than {limit}, which only {_percent(top)} exceed"
    if found.verdict == "broad":
        half = middle(arms, level=level)
        if not target and isinstance(half, Estimate) and (half.high < 0 < found.effect or found.effect < 0 < half.low):
            return (
                False,
                f"Not shared: the mean came out {'higher' if found.effect > 0 else 'lower'}, but {_lies(arms, half)}.",
            )
        return True, f"Broad: {beyond}."
    if found.verdict == "cannot tell":
        return None, f"Cannot tell: {brought}; {beyond}."
    if target:
        return True, f"Concentrated, as intended: {brought}, and the launch was made for them."
    way = {"gain": "What the average account gained", "loss": "What the average account lost"}
    return (
        False,
        f"Concentrated: {brought}. {way.get(called(arms, found.effect), 'How the average moved')}, most did not.",
    )


def _lies(arms: Arms, half: Estimate) -> str:
    """Say where the middle of the accounts lies."""
    size, told = readout.describe(half, arms.unit), half.low > 0 or half.high < 0
    way = f"lies {'higher' if half.diff > 0 else 'lower'}" if told else "cannot be told to have moved"
    change = f"{size['change']} {arms.unit}".rstrip()
    return f"the middle of the accounts {way}: {change} (between {size['low']} and {size['high']})"


def called(arms: Arms, effect: float) -> str:
    """Name an effect by the way that is better for its metric: a gain, a loss, or only an effect where neither is."""
    return "effect" if not arms.better else "gain" if (effect > 0) == (arms.better == "higher") else "loss"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _words(part: Part) -> str | None:
    """Write a share with its interval; None where there is no effect to have shares of."""
    if part.share is None:
        return None
    low, high = (f"{end:.0%}" if abs(end) <= MOST else None for end in (part.low or 0.0, part.high or 0.0))
    ends = f"between {low} and {high}" if low and high else f"at least {low}" if low else f"at most {high}"
    return f"{part.share:.0%} ({ends if low or high else 'or anything'})".replace("-", "−")


def concentration(data: Study, metric: str = "", treatment: str = "", *, top: float = 0.01) -> Check:
    """Ask of a launch whether a few accounts carry the effect on a metric: by default the first amount of its plan.

    Heavy viewers are the target where the launch says so under `outliers`.

    Raises:
        ParameterError: the plan has no such metric or treatment.
        DataError: the metric cannot be measured on these data.
    """
    arms = accounts.read(data, metric, treatment=treatment)
    target = meant_for_heavy_viewers(data)
    return check(arms, top=top, heavy_viewers_are_target=target, level=1 - data.launch.error(metric))


def survives_caps(data: Study, metric: str = "", treatment: str = "") -> Check:
    """Ask of a launch whether its conclusion on a metric, by default the first amount of its plan, hangs on the cap.

    Raises:
        ParameterError: the plan has no such metric or treatment.
        DataError: the metric is named, and cannot be measured on these data.
    """
    can = [p.metric for p in units.measurable(data) if p.metric.per_account]
    target = meant_for_heavy_viewers(data)
    if not metric and not any(m.kind in ("mean", "count") for m in can):
        return Check(name=CHOICE, passed=None, detail="Not asked: the plan has no amount that could be capped.")
    level = 1 - data.launch.error(metric)
    arms = accounts.read(data, metric, treatment=treatment)
    return cap_choice(arms, heavy_viewers_are_target=target, level=level)


def cap_choice(
    arms: Arms,
    caps: Sequence[float] = estimators.CAPS,
    *,
    heavy_viewers_are_target: bool = False,
    level: float = 0.95,
) -> Check:
    """Ask whether the conclusion of the planned mean, capped or not, would be another under another cap.

    It passes if the effect stands out from chance, on the same side, under every cap and without one. It fails if under
    one of them surely more than half of the planned effect is gone (Fieller's interval of the part that is), or the
    effect stands out on the other side. Else it is open (None): what is lost may be the precision alone.

    Args:
        arms: the accounts.
        caps: quantiles of the accounts that have something, both arms together.
        heavy_viewers_are_target: whether the launch is made for them; then nothing is asked, as nobody is capped.
        level: confidence level of each comparison.
    """
    if heavy_viewers_are_target:
        detail = "Not asked: the launch is for those who watch most; none is capped."
        return Check(name=CHOICE, passed=None, detail=detail)
    if arms.shares:
        return Check(name=CHOICE, passed=None, detail="Not asked: a share has no amounts that could be capped.")
    if refusal := arms.refusal():
        return Check(name=CHOICE, passed=None, detail=f"Cannot tell: {refusal.reason}.")
    planned = np.inf if arms.limit is None else arms.limit
    limits = np.array([planned, *(estimators.limit(arms, share) for share in caps), np.inf])
    mean, cov, _ = accounts.means(arms, *(np.minimum(x[:, None], limits) for x in (arms.control, arms.treatment)))
    found, error = mean[1] - mean[0], cov.sum(axis=0)
    side = [_side(mean[:, i], cov[:, i, i], arms.n, level) for i in range(len(limits))]
    if not side[0]:
        detail = "Not asked: as planned, the difference does not stand out from chance."
        return Check(name=CHOICE, passed=None, detail=detail)
    which, failed, weak = called(arms, found[0]), [], []
    for i, limit in enumerate(limits[1:], start=1):
        name = f"capped at {limit:,.4g} {arms.unit}".rstrip() if np.isfinite(limit) else "without a cap"
        pair = np.zeros((2, len(limits)))
        pair[:, 0], pair[1, i] = 1, pair[1, i] - 1  # the planned effect, and what of it is gone under this cap
        part = _part(pair @ found, pair @ error @ pair.T, level)
        weak += [name] * (side[i] == 0)
        failed += [f"{name}, it points the other way"] * (side[i] == -side[0])
        failed += [f"{name}, {_words(part)} of it is gone"] * (part.low is not None and part.low > HALF)
    if failed:
        return Check(name=CHOICE, passed=False, detail=f"The {which} hangs on the choice of the cap: {failed[0]}.")
    if weak:
        said = f"Cannot tell: {weak[0]}, the {which} does not stand out from chance, nor is surely half of it gone."
        return Check(name=CHOICE, passed=None, detail=said)
    detail = f"The {which} stands out from chance under every cap asked for, and without one."
    return Check(name=CHOICE, passed=True, detail=detail)


def _side(value: Floats, error: Floats, n: tuple[int, int], level: float) -> int:
    """Say on which side of 0 the difference of two means (2,) with squared errors (2,) stands out: -1, 1, or 0."""
    if not error.sum() > 0:
        return 0
    q, _p = values.t_test(value, error, np.array(n), level)
    return int(np.sign(value[1] - value[0]) * (abs(value[1] - value[0]) > q * np.sqrt(error.sum())))


def meant_for_heavy_viewers(data: Study) -> bool:
    """Say whether the launch names those who watch most as its target."""
    return data.launch.outliers is not None and data.launch.outliers.heavy_viewers_are_target


def audience(arms: Arms, share_of_accounts: float = 0.1) -> Arms | None:
    """Keep those who were the heaviest before the launch: the target audience, chosen by what it could not touch.

    The limit is one amount for both arms. None where the data have no past, where several columns hold it and none is
    named (an age does not say who was heavy), or where nobody stands out in it.
    """
    if arms.heavy_by is None or not arms.control_before.shape[1]:
        return None
    before = arms.control_before[:, arms.heavy_by], arms.treatment_before[:, arms.heavy_by]
    limit = accounts.quantile(np.concatenate(before), 1 - share_of_accounts, arms.weights)
    kept = arms.where(*(b > limit for b in before))
    return kept if min(kept.n) > 1 else None


def primary(
    arms: Arms, *, cap: float = 0.99, heavy_viewers_are_target: bool = False, level: float = 0.95
) -> list[Reading]:
    """Answer with the methods that belong to the question; the first reading is the planned one.

    That is the mean capped as the plan caps it, or else the mean of all amounts; a cap that the plan does not name
    stands beside it, to see what it would do. Where heavy viewers are the target, nobody is capped, and the second
    reading is the mean among those who were heavy before the launch, where that is known. An estimate bears the name of
    its method behind the metric's.
    """
    cap = arms.cap or cap
    limit = estimators.limit(arms, cap)
    target = audience(arms)
    everybody = Reading(
        name="mean",
        estimand="what the average account gains, and so the whole service",
        estimate=estimators.mean(arms, level=level),
    )
    limited = Reading(
        name=f"mean capped at the {_percent(cap)} quantile of those that have any",
        estimand=f"what it gains when no account counts for more than {limit:,.4g} {arms.unit}".rstrip(),
        estimate=estimators.capped(arms, limit, level=level),
    )
    heavy = Reading(
        name="mean of the heaviest tenth before",
        estimand="what the tenth gains that was heaviest before the launch",
        estimate=arms.unable(
            "several covariates are known from before; 'outliers: {heavy_by: …}' says which tells who was heavy"
            if arms.heavy_by is None
            else "the data do not say who was heavy before the launch"
        )
        if target is None
        else estimators.mean(target, level=level),
    )
    found = [everybody, heavy] if heavy_viewers_are_target else [everybody, limited, heavy]
    if arms.cap and not heavy_viewers_are_target:
        found = [limited, everybody, heavy]
    return [
        replace(r, estimate=replace(r.estimate, metric=f"{arms.metric}: {r.name}"))
        for r in ([everybody] if arms.shares else found)
    ]


def answer(
    arms: Arms, found: Check, first: Reading, choice: Check | None = None, *, heavy_viewers_are_target: bool = False
) -> tuple[str, str, str]:
    """Say in three plain sentences who brings the effect, what the primary reading is, and what to do.

    `choice` is what `cap_choice` found. That no more than half hangs on the heaviest does not say that most accounts
    moved, so the middle of the accounts is told beside it; who moved, and which way, is in no comparison of two crowds.
    """
    e = first.estimate
    title = f"{arms.title or arms.metric} ({e.metric.removeprefix(f'{arms.metric}: ')})"
    which = "effect"
    if isinstance(e, NotEstimable):
        told = f"{title} could not be estimated: {e.reason}."
    else:
        size = readout.describe(e, "share" if arms.shares else arms.unit)
        unit = "percentage points" if arms.shares else arms.unit
        way = "a rise" if e.low > 0 else "a fall" if e.high < 0 else "neither a rise nor a fall"
        which = called(arms, e.diff)
        way += f", and so a {which}," * (which != "effect" and (e.low > 0 or e.high < 0))
        told = (
            f"{title}: {size['change']} {unit}".rstrip() + f" (between {size['low']} and {size['high']}); "
            f"by this measure {way} stands out from chance."
        )
    if found.passed is None and isinstance(e, NotEstimable):
        act = "There is nothing to quote, and more accounts of the same kind are no remedy."
    elif found.passed is None:
        act = "Quote the plain mean and the capped mean together, and say that more accounts are needed to tell."
    elif arms.shares:
        act = "Read the share as it is; this chapter is about amounts, and the plan has none that these data hold."
    elif not found.passed:
        act = f"Do not tell it as a {which} for everybody: find out who the few are, and whether it happens again."
    elif heavy_viewers_are_target and found.detail.startswith("Concentrated"):
        act = f"Judge it by what these viewers {'gain' if which != 'loss' else 'lose'}, and keep every one of them in."
    elif choice is not None and choice.passed is False:
        act = "Quote it with a cap and without: how large it is hangs on that choice."
    elif isinstance(e, NotEstimable) or isinstance(half := middle(arms, level=e.level), NotEstimable):
        act = "No more than half of it hangs on the heaviest accounts; whether the middle moved cannot be told."
    elif half.low > 0 < e.diff or half.high < 0 > e.diff:
        act = f"The plain mean may be read as it is; {_lies(arms, half)}. How many gained, two crowds cannot say."
    else:
        act = f"Read the plain mean as the service's; {_lies(arms, half)}, so that it may not be most accounts'."
    return found.detail, told, act
