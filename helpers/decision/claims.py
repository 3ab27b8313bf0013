"""One estimate read against what the launch asked of its metric, in words that its interval allows."""

from __future__ import annotations

import math
import textwrap

from helpers.decision import settling
from helpers.errors import ParameterError
from helpers.metrics import Bound, Metric
from helpers.results import SUCCESS, Aim, Claim, Estimate, NotEstimable, Role, Status

TITLE_LENGTH = 80
FROM_ZERO = ("proportion", "count", "time_to_event", "gini", "coverage")  # kinds that cannot fall below 0
BLOCK = "a value that many share, and a change among these does not show"
LEAKED = (
    0.1  # of the treatment's level: what a control arm may show of what it cannot have, by shared screens or faults
)


def read(
    metric: Metric,
    estimate: Estimate | NotEstimable,
    *,
    role: Role,
    target: Bound | None = None,
    margin: Bound | None = None,
    equivalence: Bound | None = None,
    detect: Bound | None = None,
    owner: str = "",
    on_breach: str = "",
    power: float = 0.8,
    together: int = 1,
    longer: settling.Longer | None = None,
) -> Claim:
    """Read one estimate against its margin (guardrails) or its target (all other roles), by the interval alone.

    A relative bound is compared with the relative interval, an absolute one with that of the difference. An interval at
    95 % thus tests each side at 2.5 %.

    - Equivalence, in any role but success: *passed* if the whole interval lies between minus and plus the margin,
      *breached* if it is wholly beyond either, else *cannot tell*. Only what passed is called unchanged, and not where
      the interval excludes 0: that is higher, or lower, and within the margin. These are two one-sided tests
      (Schuirmann 1987) at 2.5 % each. Textbooks that test each at 5 % read the 90 % interval; the 95 % interval is what
      the page shows, so the claim errs less often and needs more accounts.

    - Guardrail: *passed* if the whole interval is on the good side of the margin, *breached* if it is wholly beyond it,
      else *cannot tell*. Without a margin it is read like a metric without a target.
    - With a target: *met* if the whole interval lies beyond the target, *not met* if all of it falls short, else
      *cannot tell*. Not met may still be a gain.
    - Without a target: *better* if superior to 0 (after correction, where `p_adjusted` is filled), *worse* if the whole
      interval is on the bad side of 0, else *cannot tell*, which is not evidence that nothing changed.

    A success metric has `missed` what it was to reach if its whole interval falls short of that: of the target, or
    where there is none, of what the launch wants to `detect`, the smallest gain worth having. No correction is needed
    there, as a launch is futile only if all of them are missed. `power`, `together` and `longer` say what would settle
    a claim that is open; see `settling.more`.

    Raises:
        ParameterError: a target that asks for a loss, a margin that asks for a gain, or an equivalence that is not
            above 0, stands beside either, or is asked of a success metric: success is a gain.
    """
    bound = equivalence or (margin if role == "guardrail" else target)
    good = good_way(metric.better)
    if equivalence is not None and (equivalence.value <= 0 or target or margin or role in SUCCESS):
        raise ParameterError(
            f"equivalence {equivalence.text} of {metric.name} is a margin to both sides: above 0, instead of a "
            "target or a margin to one side, and not of a success metric, because success is a gain"
        )
    if target is not None and good * target.value < 0:
        raise ParameterError(f"target {target.text} of {metric.name} points to the bad side: {metric.better} is better")
    if margin is not None and good * margin.value > 0:
        raise ParameterError(
            f"margin {margin.text} of {metric.name} points to the good side: {metric.better} is better, "
            "and a margin says how much worse is still acceptable"
        )
    aim: Aim = "equivalence" if equivalence else "non-inferiority" if role == "guardrail" and margin else "superiority"
    title = short(metric.title, TITLE_LENGTH)
    worth, missed, more = (target or detect) if role in SUCCESS else None, "", None
    if isinstance(estimate, NotEstimable):
        status: Status = "not estimable"
        meaning = ""
        words, absolute = f"{title} could not be estimated: {short(estimate.reason, 200)}.", None
    else:
        status = _status(estimate, good, bound, role, aim)
        missed = worth.text if worth is not None and _short_of(estimate, good, worth) else ""
        meaning = _meaning(estimate, metric, role, bound, status, aim)
        if missed and target is None and status != "worse":
            ruled_out = f"{missed.lstrip('+-')} is ruled out"
            meaning += f", though one of {ruled_out}" if status == "better" else f", and a gain of {ruled_out}"
        words = f"{title} came out {span(estimate, metric.unit, bound)}: {meaning}."
        if role in SUCCESS and estimate.low > 0 and negligible(estimate.control, estimate.treatment):
            has = "none" if estimate.control == 0 else "next to none"
            words = f"{title} {own_level(estimate, metric.unit)}, and control has {has}: {meaning}."
        absolute = None if bound is None else _absolute(bound, estimate)
        wanted = bound or worth
        if status == "cannot tell" and not missed and wanted:
            more = settling.more(estimate, wanted, aim=aim, better=good, power=power, together=together, longer=longer)
    return Claim(
        metric=metric.name,
        title=metric.title,
        unit=metric.unit,
        role=role,
        better=metric.better,
        estimate=estimate,
        status=status,
        words=words,
        meaning=meaning,
        bound=absolute,
        bound_text="" if bound is None else bound.text,
        aim=aim,
        missed=missed,
        worth=_absolute(worth, estimate) if worth is not None and isinstance(estimate, Estimate) else None,
        more=more,
        owner=owner,
        on_breach=on_breach,
    )


def _status(e: Estimate, good: int, bound: Bound | None, role: Role, aim: Aim) -> Status:
    """Compare the interval with the bound, or with 0 where there is none."""
    guardrail = role == "guardrail"
    if bound is None:
        return against_zero(e, good)
    if bound.relative and e.rel_low is None:
        return "breached" if aim == "non-inferiority" and _surely_beyond(e, good, bound) else "cannot tell"
    _, low, high, _ = scaled(e, bound)
    if aim == "equivalence":
        if -bound.value < low and high < bound.value:
            return "passed"
        return "breached" if low > bound.value or high < -bound.value else "cannot tell"
    worst, best = sorted((good * low, good * high))
    if worst > good * bound.value:
        return "passed" if guardrail else "met"
    if best < good * bound.value:
        return "breached" if guardrail else "not met"
    return "cannot tell"


def _surely_beyond(e: Estimate, good: int, bound: Bound) -> bool:
    """Say whether harm is beyond a relative margin m though control may be 0: T - (1 + m) C needs no division by it.

    Its error is at most the greater of 1 and 1 + m times that of T - C, as the arms are independent.
    """
    half = e.high - e.diff if good > 0 else e.diff - e.low
    return e.control >= 0 and good * (e.diff - bound.value * e.control) + max(1.0, 1 + bound.value) * half < 0


def _short_of(e: Estimate, good: int, worth: Bound) -> bool:
    """Say whether the whole interval falls short of a gain."""
    if worth.relative and e.rel_low is None:
        return False
    _, low, high, _ = scaled(e, worth)
    return max(good * low, good * high) < abs(worth.value)


def _absolute(bound: Bound, e: Estimate) -> float:
    """Write a bound as a difference in the metric's unit."""
    return bound.value * (e.control if bound.relative else 1)


def against_zero(e: Estimate, good: int) -> Status:
    """Say better only after correction for several metrics, worse without it: harm is not to be explained away."""
    worst, best = sorted((good * e.low, good * e.high))
    if worst > 0 and (e.p if e.p_adjusted is None else e.p_adjusted) < 1 - e.level:
        return "better"
    return "worse" if best < 0 else "cannot tell"


def side(claim: Claim) -> Status:
    """Say on which side of 0 a claim's metric lies, whatever its target."""
    if isinstance(claim.estimate, NotEstimable):
        return "not estimable"
    return against_zero(claim.estimate, good_way(claim.better))


def out_of_reach(claim: Claim) -> bool:
    """Say whether the control arm could not have any: against nothing, any use at all is superior to 0."""
    return isinstance(claim.estimate, Estimate) and negligible(claim.estimate.control, claim.estimate.treatment)


def negligible(control: float, treatment: float) -> bool:
    """Say whether the control arm has next to nothing of what the treatment has, so that no lift can be told.

    >>> negligible(0.0, 0.2), negligible(0.0002, 0.2), negligible(0.18, 0.2)
    (True, True, False)
    """
    return abs(control) <= LEAKED * abs(treatment)


def own_level(e: Estimate, unit: str) -> str:
    """Tell what the control arm has next to nothing of by the treatment's own level: of a share it is no lift.

    The interval is that of the difference, put upon the control's level, which is at most a tenth of the treatment's.
    """
    reach = (e.treatment, e.low + e.control, e.high + e.control)
    number, low, high = (size(x, unit, half=(e.high - e.low) / 2, relative=False)[0] for x in reach)
    unit = "%" if unit == "share" else unit
    return f"reached {in_unit(number, unit)} in the treated arm ({low} to {in_unit(high, unit)})"


def good_way(better: str) -> int:
    """Give the sign of an improvement."""
    return 1 if better == "higher" else -1


def scaled(e: Estimate, bound: Bound | None) -> tuple[float, float, float, bool]:
    """Give the effect and its interval relative, where that is possible and no absolute bound is set; else absolute.

    Without a bound, what the control arm has next to nothing of is told in the metric's unit too.
    """
    relative = bound.relative if bound is not None else not negligible(e.control, e.treatment)
    if relative and e.rel is not None and e.rel_low is not None and e.rel_high is not None:
        return e.rel, e.rel_low, e.rel_high, True
    return e.diff, e.low, e.high, False


def span(e: Estimate, unit: str, bound: Bound | None = None) -> str:
    """Say the effect and its interval: "3.2% higher (between 1.1 and 5.3% higher)".

    A quantile that lies deep in a block of equal values in both arms has no width: then its value, and why, are said.
    No share moves by more than 100 percentage points, however few answers leave its interval wider.
    """
    if e.low == e.high == 0:
        return f"at {in_unit(f'{e.control:,.6g}', unit)} in both arms ({BLOCK})"
    effect, low, high, relative = scaled(e, bound)
    if unit == "share" and not relative:
        low, high = max(low, -1.0), min(high, 1.0)
    sizes = [size(x, unit, half=(high - low) / 2, relative=relative) for x in (effect, low, high)]
    number, lower, upper = (in_unit(*one) for one in sizes)
    way = "higher" if effect > 0 or (effect == 0 and low >= 0) else "lower"
    if float(sizes[0][0].replace(",", "")) == 0 and low < 0 < high:
        return f"equal to the digits shown (between {lower} lower and {upper} higher)"
    if low < 0 < high:
        return f"{number} {way} (between {lower} lower and {upper} higher)"
    near, far = (sizes[1][0], upper) if low >= 0 else (sizes[2][0], lower)
    return f"{number} {way} (between {near} and {far} {way})"


def size(x: float, unit: str, *, half: float, relative: bool) -> tuple[str, str]:
    """Write a size to the digits that half the interval's width supports, two of it, and its unit.

    A difference of shares is in percentage points.
    """
    percent = relative or unit == "share"
    scale = 100 if percent else 1
    decimals = max(0, 1 - math.floor(math.log10(half * scale))) if half > 0 else 2
    return f"{abs(x) * scale:,.{decimals}f}", "%" if relative else "percentage points" if percent else unit


def in_unit(digits: str, unit: str) -> str:
    """Put a unit behind a number."""
    return digits + unit if unit == "%" else f"{digits} {unit}".rstrip()


def _meaning(e: Estimate, metric: Metric, role: Role, bound: Bound | None, status: Status, aim: Aim) -> str:
    """Say what the interval means for the bound."""
    good = good_way(metric.better)
    lies = against_zero(e, good)
    if bound is None and role in SUCCESS and lies == "better" and e.low > 0 and negligible(e.control, e.treatment):
        return "no target says what is enough"
    if bound is None and role != "guardrail":
        found = {"better": "an improvement", "worse": "a deterioration"}
        alone = "a gain on its own, but with so many metrics it may be chance"
        open_ = alone if min(good * e.low, good * e.high) > 0 else "neither a gain nor a loss can be told from chance"
        return found.get(lies, open_)
    if bound is not None and bound.relative and e.rel_low is None and status == "cannot tell":
        told = (n for n in e.note.split("; ") if n.startswith(("none occurred", "no relative")))
        return f"{bound.text} cannot be checked, {next(told, 'for want of a relative interval')}"
    if bound is not None and aim == "equivalence":
        if status == "passed":
            moved = "higher, and" if e.low > 0 else "lower, and" if e.high < 0 else "unchanged"
            return f"{moved} within {bound.text}"
        if status == "breached":
            return f"a change beyond {bound.text} is established"
        return f"a change beyond {bound.text} is neither shown nor ruled out"
    if bound is not None and role != "guardrail":
        if status == "met":
            return f"the target of {bound.text} is met"
        lead = {"better": "a gain, but ", "worse": "a loss, and "}.get(lies, "")
        missed = f"the target of {bound.text} is missed"
        return lead + (missed if status == "not met" else f"whether the target of {bound.text} is met cannot be told")

    _, low, high, relative = scaled(e, bound)
    digits, unit = size(max(0.0, -good * low, -good * high), metric.unit, half=(high - low) / 2, relative=relative)
    ruled_out = f"only a {'fall' if good > 0 else 'rise'} of more than {in_unit(digits, unit)} is ruled out"
    if relative and good > 0 and metric.kind in FROM_ZERO and float(digits.replace(",", "")) >= 100:
        ruled_out = "a fall to nothing is not ruled out"
    if bound is None and low == high == 0:
        return "neither a rise nor a fall of it is shown, and no margin was set"
    if bound is None:
        return f"{ruled_out if status == 'cannot tell' else status}, and no margin was set"
    if status == "passed":
        return f"{'worse, though' if lies == 'worse' else 'any harm stays'} within the margin of {bound.text}"
    if status == "breached":
        return f"harm beyond the margin of {bound.text} is established"
    lead = "worse already, and " if lies == "worse" else ""
    return f"{lead}{ruled_out}, so harm beyond the margin of {bound.text} remains possible"


def short(text: str, length: int) -> str:
    """Cut a text to a length, between words where it has any."""
    cut = textwrap.shorten(text, length, placeholder=" …")
    return cut if cut.strip(" …") else text.strip()[: length - 1] + "…"
