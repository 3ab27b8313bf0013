"""The answers that cross modules: one type per question, each with its interval, n and method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

Decision = Literal["INVALID", "ROLL BACK", "DELAY/REWORK", "HOLD", "TARGETED", "PROCEED", "SHIP"]
Role = Literal["north_star", "supporting", "guardrail", "operational", "satisfaction"]
SUCCESS: tuple[Role, ...] = ("north_star", "supporting")
Aim = Literal["superiority", "non-inferiority", "equivalence"]
Status = Literal["met", "not met", "better", "worse", "passed", "breached", "cannot tell", "not estimable"]
NO_WIDTH = "so many values are exactly the quantile that its interval has no width, and no error follows from it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One contrast of two arms on one metric.

    `diff` is treatment minus control in the metric's unit, `low` to `high` its interval at `level`; `rel` is
    treatment / control - 1 and is None, with the reason in `note`, where the control value does not allow it.
    `mde` is the smallest true difference, in the metric's unit, that this design finds with the launch's power: an
    interval that contains 0 rules out only effects beyond its ends, it does not show that nothing changed.

    Where several estimates are read as one family, `p_adjusted` is p after correction, and `low_adjusted` to
    `high_adjusted` (`rel_…` likewise) the interval that holds for all of the family at once at `level`. It excludes 0
    exactly if `p_adjusted` is below 1 - `level`; an end at 0 then belongs to the excluded side. `mde` then is that of
    alpha over the number of estimates, which is what plans count on.
    """

    metric: str
    slice: Mapping[str, str] = field(default_factory=dict)
    control: float
    treatment: float
    diff: float
    se: float
    low: float
    high: float
    rel: float | None
    rel_low: float | None
    rel_high: float | None
    p: float
    n_control: int
    n_treatment: int
    method: str
    mde: float
    level: float = 0.95
    p_adjusted: float | None = None
    low_adjusted: float | None = None
    high_adjusted: float | None = None
    rel_low_adjusted: float | None = None
    rel_high_adjusted: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """What one arm tells of the population that it was drawn from: a mean, share or ratio, not an effect.

    `low` to `high` is the interval at `level`; `n_effective` the simple random sample that would be as precise.
    """

    metric: str
    slice: Mapping[str, str] = field(default_factory=dict)
    value: float
    se: float
    low: float
    high: float
    n: int
    n_effective: float
    method: str
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class NotEstimable:
    """A number that these data cannot give, and why. It is never 0 and never p = 1."""

    metric: str
    reason: str
    slice: Mapping[str, str] = field(default_factory=dict)
    n_control: int = 0
    n_treatment: int = 0


def with_width(e: Estimate | NotEstimable) -> Estimate | NotEstimable:
    """Put a reason in the place of an estimate whose interval has no width, which nothing can be weighed by.

    It stands as it is, at its level: a quantile in a block of equal values. But neither another level nor an error of
    its own follows from it, which several looks, groups and plans need.
    """
    if isinstance(e, NotEstimable) or e.se > 0:
        return e
    return NotEstimable(
        metric=e.metric, slice=e.slice, n_control=e.n_control, n_treatment=e.n_treatment, reason=NO_WIDTH
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What a design of this size can show about one outcome, and how surely.

    `change` is what the claim is about, as a difference in the outcome's unit (for a time to event, of the hazard in
    relative terms): the effect to be found for superiority, the margin to be excluded otherwise. `rel` is the same over
    the control's value, None where that is not above 0. `power` is the chance of the claim if the true difference is
    `truth`; `alpha` the error rate of one tail of this one test, after correction. `n_exact` is the number of treated
    accounts before rounding up. None of it says which effect is there.
    """

    aim: Aim
    control: float
    change: float
    rel: float | None
    truth: float
    n_control: int
    n_treatment: int
    n_exact: float
    power: float
    alpha: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """What chance alone does: differences between arms drawn anew among the same accounts, and the one observed.

    `drawn` (replicates,) and `observed` are plain differences in the metric's unit, unadjusted and unweighted; `words`
    says how often chance did as much.
    """

    drawn: npt.NDArray[np.float64]
    observed: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about the data, asked before any effect is read. `passed` is None when it could not be asked.

    Where its failing is harm, `owner` and `on_breach` say who decides and what was planned, as the guardrail does.
    """

    name: str
    passed: bool | None
    detail: str
    p: float | None = None
    owner: str = ""
    on_breach: str = ""


def closed(checks: Iterable[Check]) -> str:
    """Say why no effect may be read: the first check that failed; nothing where none did.

    >>> closed([Check(name="Arm counts", passed=None, detail="")])
    ''
    """
    failed = next((check.name for check in checks if check.passed is False), None)
    return "" if failed is None else f"not shown, because the check '{failed}' failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Which of a launch's planned readings this is: after `day` of the days that were `planned`, the end last."""

    day: int
    planned: tuple[int, ...]

    @property
    def following(self) -> int | None:
        """Name the day of the next look; None at the planned end."""
        return next((day for day in self.planned if day > self.day), None)

    def __str__(self) -> str:
        """Say it in words.

        >>> str(Look(day=7, planned=(7, 14)))
        'look 1 of 2, after day 7'
        """
        return f"look {self.planned.index(self.day) + 1} of {len(self.planned)}, after day {self.day}"


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """What would settle a claim that is open: `factor` times the accounts of both arms, with the power of the launch.

    `condition` says of which truth that holds. `days` is how long the launch would have to last in all instead, where
    that is known and would do.
    """

    factor: float
    condition: str
    days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An estimate read against what the launch asked of it: a target to reach, or a margin not to cross.

    `words` is the whole reading as one sentence, `meaning` its last part: what the interval says about the bound.
    `bound` is the target or margin as a difference in the metric's unit; None where the launch set neither. With the
    aim equivalence it is the margin to both sides, above 0. `missed` is the gain that a success metric was to reach, as
    the launch writes it, where the whole interval falls short of it: its target, or what the launch wants to detect.
    `worth` is that gain as a difference in the metric's unit, fallen short of or not. `more` says what would settle a
    claim that is open. `owner` and `on_breach` say who decides, and what was planned, should a guardrail be breached.
    """

    metric: str
    title: str
    unit: str
    role: Role
    better: Literal["higher", "lower"]
    estimate: Estimate | NotEstimable
    status: Status
    words: str
    meaning: str = ""
    bound: float | None = None
    bound_text: str = ""
    aim: Aim = "superiority"
    missed: str = ""
    worth: float | None = None
    more: More | None = None
    owner: str = ""
    on_breach: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, the sentence that says it, and the reasons in the order in which they were weighed.

    `headline` is how the sentence begins: the decision and its main reason. What follows it says the rest.
    """

    decision: Decision
    sentence: str
    reasons: tuple[str, ...] = ()
    headline: str = ""

    @property
    def rest(self) -> str:
        """Give what the sentence says after its headline.

        >>> Verdict(decision="HOLD", sentence="Hold: wait. Worse already: M.", headline="Hold: wait.").rest
        'Worse already: M.'
        """
        return self.sentence.removeprefix(self.headline or self.sentence).strip()


def about(title: str, check: Check) -> Check:
    """Say of which metric a verdict is, after the word with which it begins; without a title it is left as it is.

    >>> about("Hours", Check(name="Novelty", passed=True, detail="Holds: the gain stands out.")).detail
    'Holds (Hours): the gain stands out.'
    """
    return replace(check, detail=check.detail.replace(":", f" ({title}):", 1)) if title else check


def titled(name: str, titles: Mapping[str, str]) -> str:
    """Write the name of a metric as its title, before or after a colon too; a name without a title stays.

    >>> titled("hours: late", {"hours": "Hours watched"})
    'Hours watched: late'
    """
    return ": ".join(titles.get(part, part) for part in name.split(": "))


def counted(n: float, noun: str = "account") -> str:
    """Write a number of things, one of which is no plural.

    >>> counted(1), counted(1200)
    ('1 account', '1,200 accounts')
    """
    return f"{n:,.0f} {noun}{'' if n == 1 else 's'}"


def figures(x: float, n: int = 3, *, sign: bool = False) -> str:
    """Write a number to so many significant digits, without an exponent.

    >>> figures(-5.512e-05, sign=True), figures(12_345.6, 4), figures(2.50), figures(0.0, sign=True)
    ('-0.0000551', '12,350', '2.5', '+0')
    """
    rounded = float(f"{x:.{n}g}")
    whole = not rounded or not math.isfinite(rounded)
    decimals = 0 if whole else max(0, n - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:{'+' * sign},.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def change(diff: float, low: float, high: float, unit: str = "") -> str:
    """Write a difference with its interval to three significant digits; that of a share ends at 100 percentage points.

    >>> change(0.5, -1e-05, 1), change(0.486, -0.185, 1.51, "share")
    ('+0.5 (-0.00001 to +1)', '+0.486 share (-0.185 to +1)')
    """
    low, high = (max(low, -1.0), min(high, 1.0)) if unit == "share" else (low, high)
    told = [figures(x, sign=True) for x in (diff, low, high)]
    return f"{told[0]}{f' {unit}' * bool(unit)} ({told[1]} to {told[2]})"


def nothing(why: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Make a table without rows that knows why; a page says so in its place.

    >>> nothing("nobody came", ["day"]).attrs["why"]
    'nobody came'
    """
    import pandas as pd

    frame = pd.DataFrame(columns=list(columns), dtype=float)
    frame.attrs["why"] = why.rstrip(".")
    return frame


def to_frame(answers: Iterable[Estimate | NotEstimable | Check | Claim]) -> pd.DataFrame:
    """Lay answers out as a table, one row each, for display or export.

    >>> to_frame([Check(name="SRM", passed=True, detail="p = 0.40", p=0.4)])[["name", "passed"]].values.tolist()
    [['SRM', True]]
    """
    import pandas as pd

    return pd.DataFrame([asdict(answer) for answer in answers])
