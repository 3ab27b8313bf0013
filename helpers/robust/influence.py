"""Do a few accounts carry the result? How much of an effect comes from the heaviest, and what is left without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from helpers.errors import ParameterError
from helpers.results import Check, Estimate
from helpers.robust import accounts, estimators, values
from helpers.robust.accounts import Arms

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.study import Study

    Floats = npt.NDArray[np.float64]

Verdict = Literal["broad", "concentrated", "cannot tell"]
TOPS = (0.001, 0.005, 0.01)
LEFT_OUT = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05)
HALF = 0.5  # of the effect: more than that from the top is concentrated
LEAST = 10  # accounts in the top; fewer have no average worth a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How much of the difference of two means comes from accounts above an amount that few of both arms exceed.

    `above` is that amount, `top` the share of all accounts that exceed it, `accounts` how many of each arm do. `part`
    is what they bring to the difference, in the metric's unit, `rest` what all others do; the two add up to the effect.
    `share`, part / effect, lies below 0 or above 1 where the two point in different ways. `low` to `high` is Fieller's
    interval, None where the effect itself cannot be told from 0: a share of nothing can be anything.
    """

    top: float
    above: float
    accounts: tuple[int, int]
    part: float
    rest: float
    share: float
    low: float | None
    high: float | None
    verdict: Verdict
    why: str


def share(arms: Arms, top: float = 0.01, *, level: float = 0.95) -> Share | None:
    """Split the effect into what the heaviest accounts bring and what all others bring.

    Heavy is whoever has more than the amount t that a share 1 - top of all accounts, both arms together, stays at or
    below: one limit, found without looking at the arm. With x the amount of an account,

        mean(x) = mean(x where x > t, else 0) + mean(x where x <= t, else 0)

    in each arm, and so for their difference. Both terms are means over accounts, the past is taken out of both, and
    their ratio has Fieller's interval (1954). An account that the launch lifts above t brings all of its amount to the
    first term, so that a gain of a few per cent for everybody shows there as well, with about a fifth to a quarter
    of itself at the top hundredth of usual viewing. Hence one half, not the top's share of accounts, is the mark.

    The verdict is *concentrated* if the top brings surely more than half of the effect, *broad* if surely less, else
    *cannot tell*; *cannot tell* too where no effect stands out from chance.

    Args:
        arms: the accounts.
        top: share of all accounts called heavy, above 0 and at most one half.
        level: confidence level.

    Returns:
        None where fewer than ten accounts are heavy.

    Raises:
        ParameterError: `top` or `level` is out of range.
    """
    values.check(level)
    if not 0 < top <= HALF:
        raise ParameterError(f"top is {top}, must be above 0 and at most {HALF}")
    if min(arms.n) < 2:
        return None
    above = float(np.quantile(arms.pooled, 1 - top))
    heavy = (int((arms.control > above).sum()), int((arms.treatment > above).sum()))
    if sum(heavy) < LEAST:
        return None
    mean, cov, _ = accounts.means(
        arms, *(np.column_stack([x, x * (x > above)]) for x in (arms.control, arms.treatment))
    )
    (effect, part), v = mean[1] - mean[0], cov.sum(axis=0)
    z = float(stats.norm.isf((1 - level) / 2))
    if abs(effect) <= z * np.sqrt(v[0, 0]):
        why = "no effect stands out from chance, so that none can be divided among accounts"
        verdict: Verdict = "cannot tell"
        low = high = None
    else:
        a, b, c = effect**2 - z**2 * v[0, 0], effect * part - z**2 * v[0, 1], part**2 - z**2 * v[1, 1]
        wide = np.sqrt(max(b**2 - a * c, 0.0))
        low, high = float((b - wide) / a), float((b + wide) / a)
        verdict = "concentrated" if low > HALF else "broad" if high < HALF else "cannot tell"
        why = "" if verdict != "cannot tell" else "the interval holds shares below and above one half"
    return Share(
        top=top,
        above=above,
        accounts=heavy,
        part=float(part),
        rest=float(effect - part),
        share=float(part / effect) if effect else float("nan"),
        low=low,
        high=high,
        verdict=verdict,
        why=why,
    )


def shares(arms: Arms, tops: Sequence[float] = TOPS, *, level: float = 0.95) -> pd.DataFrame:
    """Split the effect at several tops; a top with fewer than ten accounts is left out.

    Returns:
        top (in words), above (the amount), accounts (in control and treatment), from the top, from all others, share,
        low, high, verdict.
    """
    found = [s for top in tops if (s := share(arms, top, level=level)) is not None]
    return pd.DataFrame(
        {
            "top": [f"{s.top:.1%}" for s in found],
            "above": [s.above for s in found],
            "accounts": [f"{s.accounts[0]:,} and {s.accounts[1]:,}" for s in found],
            "from the top": [s.part for s in found],
            "from all others": [s.rest for s in found],
            "share": [s.share if s.low is not None else None for s in found],
            "low": [s.low for s in found],
            "high": [s.high for s in found],
            "verdict": [s.verdict for s in found],
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
    rows, pooled = [], arms.pooled
    for top in left_out if min(arms.n) > 1 else ():
        limit = np.quantile(pooled, 1 - top)
        kept = arms.where(arms.control <= limit, arms.treatment <= limit)
        e = estimators.mean(kept, level=level)
        if isinstance(e, Estimate):
            gone = len(pooled) - sum(kept.n)
            rows.append({"left_out": top, "accounts": gone, "diff": e.diff, "low": e.low, "high": e.high})
    return pd.DataFrame(rows, columns=["left_out", "accounts", "diff", "low", "high"])


def check(arms: Arms, *, top: float = 0.01, heavy_viewers_are_target: bool = False, level: float = 0.95) -> Check:
    """Ask whether more than half of the effect comes from the heaviest accounts.

    It passes where the effect is broad, or concentrated in those for whom the launch was made; fails where a few
    accounts carry what is told of all; and is open (None) where these data cannot tell. It concerns how the effect is
    told and whether it will repeat, not whether the data may be read.
    """
    name = "Concentration"
    if arms.shares:
        detail = "Every account counts at most once in a share, so that a few cannot carry it."
        return Check(name=name, passed=True, detail=detail)
    found = share(arms, top, level=level)
    heaviest = f"the heaviest {top:.4g}".replace(f"{top:.4g}", f"{100 * top:.3g}%") + " of accounts"
    if found is None:
        detail = f"Cannot tell: {heaviest} are fewer than {LEAST}, too few to ask what they bring."
        return Check(name=name, passed=None, detail=detail)
    if found.low is None or found.high is None:
        return Check(name=name, passed=None, detail=f"Cannot tell: {found.why}.")
    number = f"{found.share:.0%} of the effect (between {found.low:.0%} and {found.high:.0%})".replace("-", "−")
    if found.verdict == "cannot tell":
        return Check(name=name, passed=None, detail=f"Cannot tell: {heaviest} bring {number}; {found.why}.")
    if found.verdict == "broad":
        return Check(name=name, passed=True, detail=f"Broad: {heaviest} bring {number}.")
    if heavy_viewers_are_target:
        detail = f"Concentrated, as intended: {heaviest} bring {number}, and the launch was made for them."
        return Check(name=name, passed=True, detail=detail)
    detail = f"Concentrated: {heaviest} bring {number}. What the average gained, most accounts did not."
    return Check(name=name, passed=False, detail=detail)


def concentration(
    data: Study, metric: str = "", treatment: str = "", *, top: float = 0.01, heavy_viewers_are_target: bool = False
) -> Check:
    """Ask of a launch whether a few accounts carry the effect on a metric: by default the first amount of its plan.

    Raises:
        ParameterError: the plan has no such metric or treatment.
        DataError: the metric cannot be measured on these data.
    """
    arms = accounts.read(data, metric, treatment=treatment)
    level = 1 - data.launch.decision.alpha
    return check(arms, top=top, heavy_viewers_are_target=heavy_viewers_are_target, level=level)


def audience(arms: Arms, share_of_accounts: float = 0.1) -> Arms | None:
    """Keep those who were the heaviest before the launch: the target audience, chosen by what it could not touch.

    The limit is one amount for both arms. None where the data have no past, or where nobody stands out in it.
    """
    if not arms.control_before.shape[1]:
        return None
    before = arms.control_before[:, 0], arms.treatment_before[:, 0]
    limit = np.quantile(np.concatenate(before), 1 - share_of_accounts)
    kept = arms.where(*(b > limit for b in before))
    return kept if min(kept.n) > 1 else None


def primary(
    arms: Arms, *, cap: float = 0.99, heavy_viewers_are_target: bool = False, level: float = 0.95
) -> pd.DataFrame:
    """Answer the question that the launch asks, with the method that belongs to it, and the other one beside it.

    Where heavy viewers are the target, nobody is capped: the mean over all accounts comes first, then the mean among
    those who were heavy before. Where they are not, the capped mean comes first and the plain one is beside it.
    """
    limit = estimators.cap_at(arms.pooled, cap) if (arms.pooled > 0).any() else np.inf
    plain = ("all accounts, nobody capped", estimators.mean(arms, level=level))
    limited = (f"all accounts, capped at {limit:,.4g}", estimators.capped(arms, limit, level=level))
    target = audience(arms)
    heavy = ("heaviest tenth before the launch", None if target is None else estimators.mean(target, level=level))
    chosen = [plain, heavy, limited] if heavy_viewers_are_target else [limited, plain, heavy]
    keys = ("control", "treatment", "diff", "low", "high", "p", "mde", "n_control", "n_treatment")
    return pd.DataFrame(
        [
            {"primary": "primary" if i == 0 else "beside it", "who": who} | {k: getattr(e, k) for k in keys}
            for i, (who, e) in enumerate(chosen)
            if isinstance(e, Estimate)
        ],
        columns=["primary", "who", *keys],
    )


def two_stories(arms: Arms, *, rng: np.random.Generator, few: float = 0.005, errors: float = 4.0) -> tuple[Arms, Arms]:
    """Invent two launches with the same average gain on the control's own accounts: one broad, one of a few.

    The control is split in two by chance. In the first story everybody in the second half has a few per cent more, in
    the second story a few accounts, drawn by chance, have a great deal more. The gain is so many standard errors, so
    that a comparison of means finds it nearly always. An illustration: it says nothing about the launch.

    Args:
        arms: whose control is used.
        rng: splits the control and chooses the few.
        few: their share.
        errors: the gain, in standard errors of the difference of means.
    """
    order = rng.permutation(arms.n[0])
    one, other = order[: len(order) // 2], order[len(order) // 2 :]
    half = replace(
        arms,
        names=("one half", "the other half"),
        control=arms.control[one],
        treatment=arms.control[other],
        control_before=arms.control_before[one],
        treatment_before=arms.control_before[other],
    )
    base = estimators.mean(half)
    gain = errors * base.se if isinstance(base, Estimate) else 0.0
    average = float(half.treatment.mean()) if len(other) else 0.0
    broad = half.treatment * (1 + gain / average if average > 0 else 1.0)
    lucky = rng.permutation(len(other)) < max(round(few * len(other)), 1)
    heavy = half.treatment + np.where(lucky, gain / max(lucky.mean(), 1e-12) if len(other) else 0.0, 0.0)
    return replace(half, treatment=broad), replace(half, treatment=heavy)
