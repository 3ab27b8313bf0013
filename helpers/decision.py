"""What to do: each estimate read against its target or margin, then one verdict and the sentence that says it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from helpers import wording
from helpers.errors import ParameterError
from helpers.metrics import Bound, Metric
from helpers.results import SUCCESS, Aim, Check, Claim, Decision, Estimate, NotEstimable, Role, Status, Verdict

ORDER = ("guardrail", *SUCCESS, "satisfaction", "operational")  # in which claims are weighed
SENTENCE_WORDS, TITLE_LENGTH = 60, 80


def read(
    metric: Metric,
    estimate: Estimate | NotEstimable,
    *,
    role: Role,
    target: Bound | None = None,
    margin: Bound | None = None,
    equivalence: Bound | None = None,
    owner: str = "",
    on_breach: str = "",
) -> Claim:
    """Read one estimate against its margin (guardrails) or its target (all other roles), by the interval alone.

    A relative bound is compared with the relative interval, an absolute one with that of the difference. An interval at
    95 % thus tests each side at 2.5 %.

    - Equivalence, in any role: *passed*, and only then called unchanged, if the whole interval lies between minus and
      plus the margin, *breached* if it is wholly beyond either, else *cannot tell*. These are two one-sided tests
      (Schuirmann 1987) at 2.5 % each. Textbooks that test each at 5 % read the 90 % interval; the 95 % interval is
      what the page shows, so the claim errs less often and needs more accounts.

    - Guardrail: *passed* if the whole interval is on the good side of the margin, *breached* if it is wholly beyond it,
      else *cannot tell*. Without a margin it is read like a metric without a target.
    - With a target: *met* if the whole interval lies beyond the target, *not met* if all of it falls short, else
      *cannot tell*. Not met may still be a gain.
    - Without a target: *better* if superior to 0 (after correction, where `p_adjusted` is filled), *worse* if the whole
      interval is on the bad side of 0, else *cannot tell*, which is not evidence that nothing changed.

    Raises:
        ParameterError: a target that asks for a loss, a margin that asks for a gain, or an equivalence that is not
            above 0 or stands beside either.
    """
    bound = equivalence or (margin if role == "guardrail" else target)
    good = _good(metric.better)
    if equivalence is not None and (equivalence.value <= 0 or target or margin):
        raise ParameterError(
            f"equivalence {equivalence.text} of {metric.name} is a margin to both sides: above 0, and instead of a "
            "target or a margin to one side"
        )
    if target is not None and good * target.value < 0:
        raise ParameterError(f"target {target.text} of {metric.name} points to the bad side: {metric.better} is better")
    if margin is not None and good * margin.value > 0:
        raise ParameterError(
            f"margin {margin.text} of {metric.name} points to the good side: {metric.better} is better, "
            "and a margin says how much worse is still acceptable"
        )
    aim: Aim = "equivalence" if equivalence else "non-inferiority" if role == "guardrail" and margin else "superiority"
    title = _short(metric.title, TITLE_LENGTH)
    if isinstance(estimate, NotEstimable):
        status: Status = "not estimable"
        meaning = ""
        words, absolute = f"{title} could not be estimated: {_short(estimate.reason, 200)}.", None
    else:
        status = _status(estimate, good, bound, role, aim)
        meaning = _meaning(estimate, metric, role, bound, status, aim)
        words = f"{title} came out {_range(estimate, metric.unit, bound)}: {meaning}."
        absolute = None if bound is None else bound.value * (estimate.control if bound.relative else 1)
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
        owner=owner,
        on_breach=on_breach,
    )


def decide(
    checks: Sequence[Check],
    claims: Sequence[Claim],
    *,
    trust: Sequence[Check] = (),
    targeted: Sequence[str] = (),
    last_stage: bool = False,
) -> Verdict:
    """Weigh checks and claims in a fixed order; the first of these that applies is the verdict.

    1. INVALID: a check failed.
    2. ROLL BACK: a guardrail is breached, or is worse where it has no margin. HOLD, as a pause until the owners have
       decided, where the launch planned to pause on every breach that happened. A guardrail that was to stay as it is
       (equivalence) is breached by a change beyond its margin to either side.
    3. HOLD: a guardrail is neither passed nor breached; the sentence says how many accounts would tell.
    4. HOLD: a success metric (north star, supporting) is superior to 0, but another one or satisfaction got worse.
    5. HOLD, to replicate: a success metric is superior to 0, but a question of trust failed: the gain rests on a few
       accounts, fades, or is too large to be believed.
    6. PROCEED, or SHIP at the last stage: a success metric is superior to 0, after correction where it was made. What
       the control arm cannot have at all (starts of a title that it does not see) must meet its target instead.
    7. TARGETED: none is over all accounts, but in a segment declared beforehand a gain is left after shrinkage.
    8. DELAY/REWORK: every success metric falls short of its target, or got worse.
    9. HOLD: anything else.

    Operational metrics are reported and decide nothing. PROCEED says that the launch helped here; it does not say by
    how much it will help the next, larger group.

    Args:
        checks: the questions asked of the data; one that could not be asked (None) does not make it invalid.
        claims: one for each metric, over all accounts rather than a slice.
        trust: questions about a gain, such as whether it fades; one that could not be asked (None) does not hold it up.
        targeted: the segments in which a gain may be claimed, in words.
        last_stage: whether no larger group is left to go on to.

    >>> decide([Check(name="Arm counts", passed=False, detail="...")], []).decision
    'INVALID'
    """
    if failed := [c for c in checks if c.passed is False]:
        names = ", ".join(c.name for c in failed)
        text = f"The data cannot be trusted ({names}): the effects are not to be read until the cause is known."
        return _verdict("INVALID", text, [c.detail for c in failed])

    reasons = [c.detail for c in checks] + [c.words for c in sorted(claims, key=lambda c: ORDER.index(c.role))]
    guardrails = [c for c in claims if c.role == "guardrail"]
    success = [c for c in claims if c.role in SUCCESS]
    won = [c for c in success if _side(c) == "better" and (c.status == "met" or not _out_of_reach(c))]
    lost = [c for c in claims if c.role in (*SUCCESS, "satisfaction") and _side(c) == "worse" and c.status != "passed"]

    if harmed := [c for c in guardrails if c.status in ("breached", "worse")]:
        gains = any(c.aim == "equivalence" and _side(c) != "worse" for c in harmed)
        found = "a change beyond the margin" if gains else "harm"
        if all("pause" in c.on_breach.lower() for c in harmed):
            owners = ", ".join(dict.fromkeys(c.owner for c in harmed if c.owner)) or "its owner"
            text = (
                f"Hold: pause, {found} is established for {_names(harmed)}; {_short(owners, 80)} decides what happens "
                "next."
            )
            return _verdict("HOLD", text, reasons)
        return _verdict("ROLL BACK", f"Roll back: {found} is established for {_names(harmed)}.", reasons)
    if open_ := [c for c in guardrails if c.status not in ("passed", "better")]:
        blind = [c for c in open_ if isinstance(c.estimate, NotEstimable)]
        unsure = [c for c in open_ if c not in blind]
        worse = [*lost, *(c for c in unsure if _side(c) == "worse")]
        beyond = "a change" if any(c.aim == "equivalence" for c in unsure) else "harm"
        text = "Hold:"
        text += (
            f" {beyond} beyond the margin cannot be ruled out yet for {_names(unsure)}{_missing(unsure)}."
            if unsure
            else ""
        )
        text += f" harm could not be measured for {_names(blind)}." if blind else ""
        text += f" Worse already: {_names(worse)}." if worse else ""
        return _verdict("HOLD", text, reasons)
    if won and lost:
        hollow = ": hollow engagement" if any(c.role == "satisfaction" for c in lost) else ""
        text = f"Hold: {_names(won)} improved, but {_names(lost)} got worse{hollow}; find out why before going on."
        return _verdict("HOLD", text, reasons)
    if won and (doubts := [c for c in trust if c.passed is False]):
        doubt = _short(doubts[0].name if wording.unplain(doubts[0].detail) else doubts[0].detail, 200)
        text = f"Hold and replicate: {_names(won)} improved, but this has to be cleared up first: {doubt}"
        return _verdict("HOLD", text, [c.detail for c in doubts] + reasons)
    if won:
        first, effect = next((c, c.estimate) for c in won if isinstance(c.estimate, Estimate))
        more = f", {len(won) - 1} more improved" if len(won) > 1 else ""
        gain = f"{_names([first])} came out {_range(effect, first.unit)}{more}"
        safe = "every guardrail stayed within its margin" if guardrails else "the launch names no guardrail"
        lead = "Ship" if last_stage else "Proceed to the next stage"
        missed = [c for c in success if c.status == "not met"]
        unsure = [c for c in success if c.status == "cannot tell"]
        worse = [c for c in guardrails if _side(c) == "worse"]
        safe += f" (worse: {_names(worse)})" if worse else ""
        rest = f" Still open: {_names(unsure)}{_ceiling(unsure)}." if unsure else ""
        rest += f" Target missed: {_names(missed)}{_ceiling(missed)}." if missed else ""
        return _verdict("SHIP" if last_stage else "PROCEED", f"{lead}: {gain}, and {safe}.{rest}", reasons)
    if targeted:
        where = _short("; ".join(targeted), 160)
        where = "groups that were named beforehand" if wording.unplain(where) else where
        text = f"Target: over all accounts no gain is shown, but there is one in {where}. Follow up there."
        return _verdict("TARGETED", text, reasons)
    if success and all(c.status in ("not met", "worse") for c in success):
        text = f"Delay and rework: the gain that was asked for is ruled out for {_names(success)}."
        return _verdict("DELAY/REWORK", text, reasons)
    blind = [c for c in success if isinstance(c.estimate, NotEstimable)]
    unsure = [c for c in success if c not in blind]
    if not unsure:
        return _verdict("HOLD", "Hold: the launch names no success metric that could be read.", reasons)
    text = f"Hold: a gain is neither shown nor ruled out for {_names(unsure)}."
    text += f" Not estimable: {_names(blind)}." if blind else ""
    return _verdict("HOLD", text, reasons)


def answer(verdict: Verdict, claims: Sequence[Claim], basis: str) -> tuple[str, ...]:
    """Give the sentences below the verdict's: the north star's reading, and on what all of it rests.

    With the verdict they have at most 120 words, however long the names in them. A sentence that names of the data
    have made unplain (see `wording`) is left to the tables.
    """
    known = _words(basis, 40)
    left = wording.FIRST_SCREEN_WORDS - len(f"{verdict.sentence} {known}".split())
    shown = [_words(c.words, left) for c in claims if c.role == "north_star"] + [known]
    plain = tuple(sentence for sentence in shown if not wording.unplain(sentence, claims))
    return plain or ("What was measured stands in the tables below.",)


def _status(e: Estimate, good: int, bound: Bound | None, role: Role, aim: Aim) -> Status:
    """Compare the interval with the bound, or with 0 where there is none."""
    guardrail = role == "guardrail"
    if bound is None:
        return _against_zero(e, good)
    if bound.relative and e.rel_low is None:
        return "cannot tell"
    _, low, high, _ = _scaled(e, bound)
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


def _against_zero(e: Estimate, good: int) -> Status:
    """Say better only after correction for several metrics, worse without it: harm is not to be explained away."""
    worst, best = sorted((good * e.low, good * e.high))
    if worst > 0 and (e.p if e.p_adjusted is None else e.p_adjusted) < 1 - e.level:
        return "better"
    return "worse" if best < 0 else "cannot tell"


def _side(claim: Claim) -> Status:
    """Say on which side of 0 a claim's metric lies, whatever its target."""
    if isinstance(claim.estimate, NotEstimable):
        return "not estimable"
    return _against_zero(claim.estimate, _good(claim.better))


def _out_of_reach(claim: Claim) -> bool:
    """Say whether the control arm could not have any: against nothing, any use at all is superior to 0."""
    return isinstance(claim.estimate, Estimate) and claim.estimate.control == 0


def _good(better: str) -> int:
    return 1 if better == "higher" else -1


def _scaled(e: Estimate, bound: Bound | None) -> tuple[float, float, float, bool]:
    """Give the effect and its interval relative, where that is possible and no absolute bound is set; else absolute."""
    if (bound is None or bound.relative) and e.rel is not None and e.rel_low is not None and e.rel_high is not None:
        return e.rel, e.rel_low, e.rel_high, True
    return e.diff, e.low, e.high, False


def _range(e: Estimate, unit: str, bound: Bound | None = None) -> str:
    """Say the effect and its interval: "3.2% higher (between 1.1 and 5.3% higher)"."""
    effect, low, high, relative = _scaled(e, bound)
    sizes = [_size(x, unit, half=(high - low) / 2, relative=relative) for x in (effect, low, high)]
    number, lower, upper = (_in(*size) for size in sizes)
    way = "higher" if effect > 0 else "lower"
    if low < 0 < high:
        return f"{number} {way} (between {lower} lower and {upper} higher)"
    near, far = (sizes[1][0], upper) if low >= 0 else (sizes[2][0], lower)
    return f"{number} {way} (between {near} and {far} {way})"


def _size(x: float, unit: str, *, half: float, relative: bool) -> tuple[str, str]:
    """Write a size to the digits that half the interval's width supports, two of it, and its unit.

    A difference of shares is in percentage points.
    """
    percent = relative or unit == "share"
    scale = 100 if percent else 1
    decimals = max(0, 1 - math.floor(math.log10(half * scale))) if half > 0 else 2
    return f"{abs(x) * scale:,.{decimals}f}", "%" if relative else "percentage points" if percent else unit


def _in(digits: str, unit: str) -> str:
    return digits + unit if unit == "%" else f"{digits} {unit}".rstrip()


def _ceiling(claims: Sequence[Claim]) -> str:
    """Say beyond which gain of the north star, should it be the first of these, its interval leaves nothing."""
    e, claim = claims[0].estimate, claims[0]
    if claim.role != "north_star" or not isinstance(e, Estimate) or _side(claim) == "better":
        return ""
    _, low, high, relative = _scaled(e, None)
    best = high if claim.better == "higher" else -low
    size = _in(*_size(best, claim.unit, half=(high - low) / 2, relative=relative))
    where = f" for {_names([claim])}" if len(claims) > 1 else ""
    return f" ({'above +' if claim.better == 'higher' else 'below −'}{size} ruled out{where})"


def _meaning(e: Estimate, metric: Metric, role: Role, bound: Bound | None, status: Status, aim: Aim) -> str:
    """Say what the interval means for the bound."""
    good = _good(metric.better)
    side = _against_zero(e, good)
    if bound is None and role != "guardrail":
        found = {"better": "an improvement", "worse": "a deterioration"}
        alone = "a gain on its own, but with so many metrics it may be chance"
        open_ = alone if min(good * e.low, good * e.high) > 0 else "neither a gain nor a loss can be told from chance"
        return found.get(side, open_)
    if bound is not None and bound.relative and e.rel_low is None:
        return f"{bound.text} cannot be checked, {e.note or 'for want of a relative interval'}"
    if bound is not None and aim == "equivalence":
        if status == "passed":
            return f"unchanged within {bound.text}"
        if status == "breached":
            return f"a change beyond {bound.text} is established"
        return f"a change beyond {bound.text} is neither shown nor ruled out"
    if bound is not None and role != "guardrail":
        if status == "met":
            return f"the target of {bound.text} is met"
        lead = {"better": "a gain, but ", "worse": "a loss, and "}.get(side, "")
        missed = f"the target of {bound.text} is missed"
        return lead + (missed if status == "not met" else f"whether the target of {bound.text} is met cannot be told")

    _, low, high, relative = _scaled(e, bound)
    digits, unit = _size(max(0.0, -good * low, -good * high), metric.unit, half=(high - low) / 2, relative=relative)
    ruled_out = f"only a {'fall' if good > 0 else 'rise'} of more than {_in(digits, unit)} is ruled out"
    if bound is None:
        return f"{ruled_out if status == 'cannot tell' else status}, and no margin was set"
    if status == "passed":
        return f"{'worse, though' if side == 'worse' else 'any harm stays'} within the margin of {bound.text}"
    if status == "breached":
        return f"harm beyond the margin of {bound.text} is established"
    lead = "worse already, and " if side == "worse" else ""
    return f"{lead}{ruled_out}, so harm beyond the margin of {bound.text} remains possible"


def _missing(claims: Sequence[Claim]) -> str:
    """Say how many treated accounts would tell harm from harmlessness, each with as many controls as now.

    Where the design is too small, assume no harm: the interval clears the margin with the power of the design once
    `mde` equals the margin. Where it is large enough and chance was unkind, assume the difference found: its interval
    just clears the margin. Both shrink with the root of n. More accounts do not help where harm is established.
    """
    read = [(c.estimate, c.bound) for c in claims if isinstance(c.estimate, Estimate) and c.bound]
    if len(read) < len(claims) or any(c.aim == "equivalence" for c in claims):
        return ""
    n = max(e.n_treatment for e, _ in read)
    if all(e.mde > abs(bound) for e, bound in read):
        factor, condition = max((e.mde / bound) ** 2 for e, bound in read), "if there is none"
    elif all(e.low < 0 < e.high and e.diff / bound < 1 for e, bound in read):
        factor = max((((e.high if bound > 0 else e.low) - e.diff) / (bound - e.diff)) ** 2 for e, bound in read)
        condition = "if the difference stays as it is"
    else:
        return ""
    accounts = f"{float(f'{n * factor:.2g}'):,.0f} treated accounts instead of {n:,}"
    return f"; {condition}, about {accounts}, controls in proportion, would show it"


def _names(claims: Sequence[Claim]) -> str:
    """List titles, shortened so that any sentence around them stays short."""
    return _short(", ".join(c.title for c in claims), 80)


def _short(text: str, length: int) -> str:
    """Cut a text to a length, between words where it has any."""
    short = textwrap.shorten(text, length, placeholder=" …")
    return short if short.strip(" …") else text.strip()[: length - 1] + "…"


def _verdict(decision: Decision, sentence: str, reasons: Sequence[str]) -> Verdict:
    return Verdict(decision=decision, sentence=_words(sentence, SENTENCE_WORDS), reasons=tuple(reasons))


def _words(text: str, most: int) -> str:
    """Cut a text to so many words."""
    words = text.split()
    return text if len(words) <= most else " ".join([*words[: most - 1], "…"])
