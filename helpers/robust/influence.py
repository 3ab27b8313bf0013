"""Do a few accounts carry the result, does it hang on a cap, and what may then be said of it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from helpers import units
from helpers.report import readout
from helpers.results import Check, Estimate, NotEstimable, figures
from helpers.robust import accounts, estimators, parts
from helpers.robust.accounts import Arms
from helpers.robust.readings import Reading, middle

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.study import Study

    Floats = npt.NDArray[np.float64]

CHOICE = "Choice of cap"


def check(arms: Arms, *, top: float = parts.TOP, heavy_viewers_are_target: bool = False, level: float = 0.95) -> Check:
    """Ask whether more than half of the effect comes from the heaviest accounts, or the middle moved the other way.

    It passes where the effect is broad, or leans to the heaviest but is less than half theirs, or is concentrated in
    those for whom the launch was made; fails where a few accounts carry what is told of all, or where the median surely
    lies on the other side: then the mean is not what most accounts have. It is open (None) where these data cannot
    tell. It concerns how the effect is told and whether it will repeat, not whether the data may
    be read. Where the plan caps the metric, the effect is that on capped amounts, unless heavy viewers are the target.
    """
    passed, detail = _asked(arms, top, heavy_viewers_are_target, level)
    return Check(name="Concentration", passed=passed, detail=detail)


def _asked(arms: Arms, top: float, target: bool, level: float) -> tuple[bool | None, str]:
    """Say whether the question is passed, failed or open, and why."""
    if arms.closed:
        return None, f"Cannot tell: {arms.closed}."
    if arms.shares:
        return True, "Every account counts at most once in a share, so that a few cannot carry it."
    arms = replace(arms, limit=None) if target else arms
    found = parts.split(arms, top, level=level)
    if found is None:
        return None, f"Cannot tell: fewer than {parts.LEAST} accounts are among the heaviest {_percent(top)}."
    if found.part.share is None:
        return (
            None,
            "Cannot tell: the difference of means does not stand out from chance, "
            "so that it cannot be divided among accounts.",
        )
    limit = f"{figures(found.above, 4)} {arms.unit}".rstrip()
    of = f"of the effect{' on capped amounts' * (arms.limit is not None)}"
    brought = f"the heaviest {_percent(top)} of accounts (above {limit}) bring {parts.words(found.part)} {of}"
    has = "" if found.held is None else f"{found.held:.0%} of everything"
    more = f"{brought}, more than the {has} that they have, but less than half"
    brought += f" and have {has}" * bool(has)
    if found.verdict == "concentrated" and target:
        return True, f"Concentrated, as intended: {brought}, and the launch was made for them."
    if found.verdict == "concentrated":
        way = {"gain": "What the average account gained", "loss": "What the average account lost"}
        moved = way.get(called(arms, found.effect), "How the average moved")
        return False, f"Concentrated: {brought}. {moved}, most did not."
    half = middle(arms, level=level)
    if not target and isinstance(half, Estimate) and (half.high < 0 < found.effect or found.effect < 0 < half.low):
        side = "higher" if found.effect > 0 else "lower"
        return False, f"Not shared: the mean came out {side}, but {_lies(arms, half)}."
    told = {"broad": f"Broad: {brought}.", "leaning": f"Leaning to the top: {more}."}.get(found.verdict)
    return (None, f"Cannot tell: {brought}.") if told is None else (True, told)


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


def concentration(data: Study, metric: str = "", treatment: str = "", *, top: float = parts.TOP) -> Check:
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
    found, (error, q, both) = mean[1] - mean[0], accounts.held(arms, mean, cov, level)
    side = np.where(error > 0, np.sign(found) * (np.abs(found) > q * np.sqrt(error)), 0).tolist()
    if not side[0]:
        detail = "Not asked: as planned, the difference does not stand out from chance."
        return Check(name=CHOICE, passed=None, detail=detail)
    which, failed, weak = called(arms, found[0]), [], []
    for i, limit in enumerate(limits[1:], start=1):
        name = f"capped at {figures(limit, 4)} {arms.unit}".rstrip() if np.isfinite(limit) else "without a cap"
        pair = np.zeros((2, len(limits)))
        pair[:, 0], pair[1, i] = 1, pair[1, i] - 1  # the planned effect, and what of it is gone under this cap
        part = parts.part(pair @ found, pair @ both @ pair.T, q[0])
        weak += [name] * (side[i] == 0)
        failed += [f"{name}, it points the other way"] * (side[i] == -side[0])
        failed += [f"{name}, {parts.words(part)} of it is gone"] * (part.low is not None and part.low > parts.HALF)
    if failed:
        return Check(name=CHOICE, passed=False, detail=f"The {which} hangs on the choice of the cap: {failed[0]}.")
    if weak:
        said = f"Cannot tell: {weak[0]}, the {which} does not stand out from chance, nor is surely half of it gone."
        return Check(name=CHOICE, passed=None, detail=said)
    detail = f"The {which} stands out from chance under every cap asked for, and without one."
    return Check(name=CHOICE, passed=True, detail=detail)


def meant_for_heavy_viewers(data: Study) -> bool:
    """Say whether the launch names those who watch most as its target."""
    return data.launch.outliers is not None and data.launch.outliers.heavy_viewers_are_target


def audience(arms: Arms, share_of_accounts: float = 0.1) -> Arms | None:
    """Keep those who were the heaviest before the launch: the target audience, chosen by what it could not touch.

    The limit is one amount for both arms; where many have just that, all of them are kept, and more than asked. None
    where the data have no past, where several columns hold it and none is named (an age does not say who was heavy),
    or where nobody stands out in it.
    """
    if arms.heavy_by is None or not arms.control_before.shape[1]:
        return None
    before = arms.control_before[:, arms.heavy_by], arms.treatment_before[:, arms.heavy_by]
    every = np.concatenate(before)
    limit = accounts.quantile(every, 1 - share_of_accounts, arms.weights)
    kept = arms.where(*(b >= limit if limit > every.min() else b > limit for b in before))
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
        estimand=estimators.limited(arms, limit),
        estimate=estimators.capped(arms, limit, level=level),
    )
    tenth = "tenth" if target is None or (kept := round(100 * _worth(target) / _worth(arms))) == 10 else f"{kept}%"
    heavy = Reading(
        name=f"mean of the heaviest {tenth} before",
        estimand=f"what the {tenth} gain that were heaviest before the launch",
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


def _worth(arms: Arms) -> float:
    """Give the number of accounts for which these stand."""
    return float(sum(map(np.sum, arms.weights))) if arms.weights else float(sum(arms.n))


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
    elif found.passed is None and heavy_viewers_are_target:
        act = "Quote the plain mean, in which nobody is capped, and say that it is open who carries it."
    elif found.passed is None:
        act = "Quote the plain mean and the capped mean together, and say that it is open who carries the effect."
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
