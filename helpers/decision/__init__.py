"""What to do: one verdict from checks and claims, in a fixed order, and the sentences that say it.

The order. Lines are asked from top to bottom, and the first that applies is the verdict.

| what is so | verdict |
|---|---|
| a check of the data failed | INVALID |
| a guardrail is breached, or worse where it has no margin | ROLL BACK; HOLD where all of these were to pause |
| harm that an average hides is certain | ROLL BACK where that was planned; else HOLD |
| a guardrail is neither passed nor better | HOLD, with the accounts or days that would tell |
| a success metric won, and another one or satisfaction got worse | HOLD |
| a success metric won, and a question of trust failed | HOLD, to replicate |
| a success metric won | PROCEED; SHIP at the last stage |
| every success metric got worse, or its interval falls short of what it was to reach | DELAY/REWORK |
| a group that was named beforehand gained, nothing got worse, no question of trust failed | TARGETED |
| anything else | HOLD |

Harm that an average hides is a guardrail breached in a group (by an interval that holds for all groups, guardrails and
looks), or at the slow end of a delay (a canary, by limits for all canaries at all times). What happens then is what the
guardrail's own `on_breach` says: any words but *pause* are a roll-back. Where it says nothing this is a hold, unlike
a breach over all accounts: the margin was set for these, and whether it holds for each group is for its owner to
say. PROCEED without any guardrail is allowed, but its sentence says that harm was not looked for. Futility comes before
a group: where the gain that was asked for is ruled out over all accounts, the launch as it was planned is over, and its
sentence names the group that is worth a launch of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from helpers import wording
from helpers.decision import settling
from helpers.decision.claims import in_unit, out_of_reach, own_level, read, scaled, short, side, size, span
from helpers.results import SUCCESS, Check, Claim, Decision, Estimate, Look, NotEstimable, Verdict

__all__ = ["action", "answer", "at_look", "decide", "read", "rolls_back", "won"]

ORDER = ("guardrail", *SUCCESS, "satisfaction", "operational")  # in which claims are weighed
SENTENCE_WORDS, BASIS_WORDS, STATE_WORDS = 60, 34, 16
MOST = 3  # sentences below the verdict's
NEXT_LOOK = "Hold: go on to the next look"
HEADLINE = 145  # characters: two lines of a page 900 pixels wide


def decide(
    checks: Sequence[Check],
    claims: Sequence[Claim],
    *,
    harm: Sequence[Check] = (),
    trust: Sequence[Check] = (),
    targeted: Sequence[str] = (),
    by_region: Mapping[str, str] | None = None,
    last_stage: bool = False,
) -> Verdict:
    """Weigh checks and claims in the order of this module's table; the first line that applies is the verdict.

    A success metric (north star, supporting) has won if it is superior to 0, after correction where it was made, even
    where it falls short of its target: a gain that is smaller than hoped is a gain, and the sentence says what it falls
    short of. What the control arm cannot have (starts of a title that it does not see, but for less than a tenth of the
    treatment's) must meet its target instead. What it was to reach is its target, or where it has none, what the launch
    wants to detect. A guardrail that was to stay as
    it is (equivalence) is breached by a change beyond its margin to either side.

    Operational metrics are reported and decide nothing, unless one is a canary that fails. PROCEED says that the launch
    helped here; it does not say by how much it will help the next, larger group.

    Args:
        checks: the questions asked of the data; one that could not be asked (None) does not make it invalid.
        claims: one for each metric, over all accounts rather than a slice.
        harm: questions about harm that the average hides, each with what was planned for it; one that could not be
            asked (None) does not hold it up.
        trust: questions about a gain, such as whether it fades; as for `harm`.
        targeted: the segments in which a gain may be claimed, in words.
        by_region: of each metric whose effect differs between regions, from where to where: an average is no headline.
        last_stage: whether no larger group is left to go on to.

    >>> decide([Check(name="Arm counts", passed=False, detail="...")], []).decision
    'INVALID'
    """
    if failed := [c for c in checks if c.passed is False]:
        names = short(", ".join(c.name for c in failed), 50)
        text = f"The data cannot be trusted ({names}): the effects are not to be read until the cause is known."
        return _verdict("INVALID", text, "", [c.detail for c in failed])

    reasons = [c.detail for c in checks] + [c.words for c in sorted(claims, key=lambda c: ORDER.index(c.role))]
    guardrails = [c for c in claims if c.role == "guardrail"]
    success, gained, lost = [c for c in claims if c.role in SUCCESS], won(claims), _lost(claims)
    doubts = [c for c in trust if c.passed is False]

    if harmed := [c for c in guardrails if c.status in ("breached", "worse")]:
        return _harmed(harmed, reasons)
    if hidden := [c for c in harm if c.passed is False]:
        return _hidden(hidden, reasons)
    if open_ := [c for c in guardrails if c.status not in ("passed", "better")]:
        return _verdict("HOLD", *_undecided(open_, lost), reasons)
    if gained and lost:
        hollow = ": hollow engagement" if any(c.role == "satisfaction" for c in lost) else ""
        text = f"Hold: {_improved(gained, 46)}, but {_names(lost, 46)} got worse{hollow}."
        return _verdict("HOLD", text, "Find out why before going on.", reasons)
    if gained and doubts:
        text = f"Hold and replicate: {_improved(gained, 46)}, but to be cleared up first: "
        about = f": {gained[0].title}" if len(gained) == 1 else ""
        text += f"{short(doubts[0].name.removesuffix(about), 45)}."
        rest = "" if wording.unplain(doubts[0].detail) else _told(doubts)
        return _verdict("HOLD", text, rest, [c.detail for c in doubts] + reasons)
    if gained:
        lead = "Ship" if last_stage else "Proceed to the next stage"
        head, rest = _gain(gained, claims, by_region or {})
        return _verdict("SHIP" if last_stage else "PROCEED", f"{lead}: {head}", rest, reasons)

    where = short("; ".join(targeted), 80)
    where = "groups that were named beforehand" if wording.unplain(where) else where
    follow = bool(targeted) and not lost and not doubts
    if success and all(c.missed or side(c) == "worse" for c in success):
        head, rest = _ruled_out(success)
        rest += f" There is a gain in {where}: that is a launch of its own." if follow else ""
        return _verdict("DELAY/REWORK", f"Delay and rework: {head}", rest, reasons)
    if follow:
        text = f"Target: over all accounts no gain is shown, but there is one in {where}."
        return _verdict("TARGETED", text, "Follow up there.", reasons)
    text, rest = _nothing_shown(success, lost)
    if targeted:
        rest += f" The gain in {where} has to wait" + ("." if lost else f" until this is cleared up: {_told(doubts)}")
    return _verdict("HOLD", text, rest, [c.detail for c in doubts if targeted] + reasons)


def won(claims: Sequence[Claim]) -> list[Claim]:
    """List the success metrics that won: superior to 0, whatever their target; of what the control cannot have, met."""
    success = [c for c in claims if c.role in SUCCESS]
    return [c for c in success if side(c) == "better" and (c.status == "met" or not out_of_reach(c))]


def at_look(verdict: Verdict, claims: Sequence[Claim], look: Look, harm: Sequence[Check] = ()) -> Verdict:
    """Say whether a launch stops at a look before its end; at its end the verdict is as it was.

    It stops for harm where a guardrail's harm, harm that the average hides, or the loss of a success metric (corrected
    for their number) is established by bounds that hold at all looks, for a gain where the verdict is to go on to the
    next stage, and on invalid data. Anything else waits: what is open, missed or doubted now need not be so at the end.

    Args:
        verdict: what `decide` says of this look.
        claims: read with intervals that hold at all looks together.
        look: which of the planned looks this is.
        harm: what `decide` was given.

    >>> found = Verdict(decision="HOLD", sentence="Hold: a gain is neither shown nor ruled out for Hours.")
    >>> at_look(found, [], Look(day=7, planned=(7, 14))).sentence
    'Hold: go on to the next look, after day 14. At look 1 of 2, after day 7, no bound is crossed.'
    """
    if look.following is None:
        return verdict
    harmed = [c for c in claims if c.role == "guardrail" and c.status in ("breached", "worse")]
    success = [(c, c.estimate) for c in claims if c.role in SUCCESS and isinstance(c.estimate, Estimate)]
    sure = [c for c, e in success if (e.p if e.p_adjusted is None else e.p_adjusted) < 1 - e.level]
    lost = [c for c in sure if side(c) == "worse"]
    hidden = any(c.passed is False for c in harm)
    if harmed or hidden or lost or verdict.decision in ("INVALID", "PROCEED", "SHIP"):
        if lost:
            head, rest = f"Stop: worse beyond chance: {_names(lost)}.", verdict.sentence
        else:
            head, rest = verdict.headline or verdict.sentence, verdict.rest
        return _verdict(verdict.decision, head, f"Stop at {look}. {rest}", verdict.reasons)
    gained = [c for c in won(claims) if c in sure]
    worse = [c for c in _lost(claims) if c not in lost]
    but = (
        f"{_names(worse)} looks worse"
        if worse
        else "is not yet trusted"
        if _doubted(verdict)
        else "the rest is still open"
    )
    beyond = [c for c in sure if c not in gained]  # what the control arm cannot have, short of a target or without one
    now = f"{_improved(gained)}, but {but}." if gained else "no bound is crossed."
    if beyond and not gained:
        now = f"{_names(beyond)} came out beyond chance, but control has next to none, and no target is met."
    head = f"{NEXT_LOOK}, after day {look.following}."
    return _verdict("HOLD", head, f"At {look}, {now}", verdict.reasons)


def action(verdict: Verdict, actions: Mapping[str, str]) -> str:
    """Give what the launch wrote down to do at this verdict; nothing where it only waits for its next look.

    >>> action(Verdict(decision="HOLD", sentence="Hold: wait."), {"HOLD": "four more weeks"})
    'four more weeks'
    """
    return "" if verdict.headline.startswith(NEXT_LOOK) else actions.get(verdict.decision, "")


def answer(
    verdict: Verdict, claims: Sequence[Claim], basis: str, by_region: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Give up to three sentences below the verdict's: the north star, the guardrails, and on what all of it rests.

    Where effects differ between regions (`by_region`, as for `decide`), that stands first, and no average of the north
    star that differs: it is nobody's effect. The state of the guardrails is left out where the verdict's sentence gives
    it. With the verdict the sentences have at most 120 words, however long the names in them. A sentence that names of
    the data have made unplain (see `wording`) is left to the tables.
    """
    known, state = _words(basis, BASIS_WORDS), ""
    guardrails = [c for c in claims if c.role == "guardrail"]
    if verdict.decision not in ("INVALID", "ROLL BACK") and all(c.status in ("passed", "better") for c in guardrails):
        state = _words(f"{_safe(guardrails)}.", STATE_WORDS)
        state = "" if state in verdict.sentence else state
    left = wording.FIRST_SCREEN_WORDS - len(f"{verdict.sentence} {state} {known}".split())
    parted = [c for c in claims if c.metric in (by_region or {}) and isinstance(c.estimate, Estimate)]
    apart = [f"{_names(parted[:1])}: {(by_region or {})[parted[0].metric]}."] if parted else []
    apart = [] if apart and apart[0] in verdict.sentence else [_words(a, left // 2) for a in apart]
    star = [c.words for c in claims if c.role == "north_star" and c not in parted]
    star = [_words(words, left - len(" ".join(apart).split())) for words in star]
    told = [s for s in (*apart, *star, state, known) if s and not wording.unplain(s, claims)]
    if len(told) > MOST:
        told[MOST - 1 :] = [" ".join(told[MOST - 1 :])]
    return tuple(told) or ("What was measured stands in the tables below.",)


def _doubted(verdict: Verdict) -> bool:
    """Say whether a gain waits for a question of trust."""
    return verdict.sentence.startswith("Hold and replicate")


def _lost(claims: Sequence[Claim]) -> list[Claim]:
    """List what got worse of success and satisfaction, without correction: harm is not to be explained away."""
    return [c for c in claims if c.role in (*SUCCESS, "satisfaction") and side(c) == "worse" and c.status != "passed"]


def _harmed(harmed: Sequence[Claim], reasons: Sequence[str]) -> Verdict:
    """Take it back, or pause where that was planned for every breach that happened."""
    gains = any(c.aim == "equivalence" and side(c) != "worse" for c in harmed)
    found = "a change beyond the margin" if gains else "harm"
    if all(_pauses(c) for c in harmed):
        head = f"Hold: pause, {found} is established for {_names(harmed)}."
        return _verdict("HOLD", head, _owner(harmed), reasons)
    return _verdict("ROLL BACK", f"Roll back: {found} is established for {_names(harmed)}.", "", reasons)


def _hidden(found: Sequence[Check], reasons: Sequence[str]) -> Verdict:
    """Do what was planned for harm that the average hides: take it back if any of it says so."""
    reasons = [*(c.detail for c in found), *reasons]
    if drastic := [c for c in found if rolls_back(c)]:
        return _verdict("ROLL BACK", "Roll back: harm that the average hides is established.", _told(drastic), reasons)
    lead = "Hold: pause, harm" if any(_pauses(c) for c in found) else "Hold: harm"
    return _verdict(
        "HOLD", f"{lead} that the average hides is established.", f"{_told(found)} {_owner(found)}", reasons
    )


def rolls_back(harmed: Claim | Check) -> bool:
    """Say whether it was planned to take the launch back for this harm: anything that is no pause."""
    return bool(harmed.on_breach) and not _pauses(harmed)


def _pauses(harmed: Claim | Check) -> bool:
    return "pause" in harmed.on_breach.lower()


def _owner(harmed: Sequence[Claim] | Sequence[Check]) -> str:
    """Say who decides after a pause."""
    owners = ", ".join(dict.fromkeys(c.owner for c in harmed if c.owner)) or "its owner"
    return f"What happens next is decided by {short(owners, 80)}."


def _undecided(open_: Sequence[Claim], lost: Sequence[Claim]) -> tuple[str, str]:
    """Say of which guardrails harm is not ruled out, what would tell, and what got worse already."""
    blind = [c for c in open_ if isinstance(c.estimate, NotEstimable)]
    unsure = [c for c in open_ if c not in blind]
    worse = [*lost, *(c for c in unsure if side(c) == "worse")]
    beyond = "a change" if any(c.aim == "equivalence" for c in unsure) else "harm"
    measured = f"harm could not be measured for {_names(blind)}." if blind else ""
    if not unsure:
        head, rest = f"Hold: {measured}", ""
    else:
        head = f"Hold: {beyond} beyond the margin cannot be ruled out yet for {_names(unsure)}."
        rest = f"{settling.words(unsure)} {measured[:1].upper()}{measured[1:]}"
    return head, rest + (f" Worse already: {_names(worse)}." if worse else "")


def _gain(gained: Sequence[Claim], claims: Sequence[Claim], by_region: Mapping[str, str]) -> tuple[str, str]:
    """Say what was gained, or from where to where if regions differ; the state of guardrails, and what is open."""
    first, effect = next((c, c.estimate) for c in gained if isinstance(c.estimate, Estimate))
    others = [c for c in gained if c is not first and not out_of_reach(c)]
    more = f"{len(others)} more improved. " if others else ""
    met = [c for c in gained if c is not first and out_of_reach(c)]
    more += f"{_names(met, 45)} met the target. " if met else ""
    missed = [c for c in claims if c.role in SUCCESS and c.missed and (c not in gained or c.status == "not met")]
    unsure = [c for c in claims if c.role in SUCCESS and c.status == "cannot tell" and c not in missed]
    rest = f" Still open: {_names(unsure, 45)}{_ceiling(unsure)}." if unsure else ""
    rest += f" Short of what was asked: {_names(missed, 45)}{_ceiling(missed)}." if missed else ""
    safe = _safe([c for c in claims if c.role == "guardrail"])
    came = re.sub(r"(between \S+ and [\d.,]+%?)[^)]*\)$", r"\1)", span(effect, first.unit))  # the unit stands before
    head = f"{_names([first], 60)} came out {came}."
    if out_of_reach(first):
        head = f"{_names([first], 45)} {own_level(effect, first.unit)}; {_level_asked(first, effect)} was asked."
    if first.metric in by_region:
        head = f"{_names([first], 60)}: {by_region[first.metric]}."
    return head, f"{more}{safe}.{rest}"


def _level_asked(claim: Claim, e: Estimate) -> str:
    """Write what a target asks: the treated arm's level, or the difference where a few accounts leaked into control."""
    if e.control or claim.bound is None:
        return claim.bound_text
    return f"{100 * claim.bound:,.3g}%" if claim.unit == "share" else in_unit(f"{claim.bound:,.3g}", claim.unit)


def _improved(gained: Sequence[Claim], most: int = 80) -> str:
    """Name what improved, or where nothing did that the control arm can have, what met its target."""
    lifts = [c for c in gained if not out_of_reach(c)]
    return f"{_names(lifts, most)} improved" if lifts else f"{_names(gained, most)} met the target"


def _ruled_out(claims: Sequence[Claim]) -> tuple[str, str]:
    """Say of success metrics that none can be what was asked for, and then which of them got worse."""
    worse = [c for c in claims if side(c) == "worse"]
    missed = [c for c in claims if c.missed and c not in worse]
    found = [f"the gain that was asked for is ruled out for {_names(missed)}."] if missed else []
    head, *rest = [*found, *([f"{_names(worse)} got worse."] if worse else [])]
    return head, " ".join(rest)


def _nothing_shown(success: Sequence[Claim], lost: Sequence[Claim]) -> tuple[str, str]:
    """Say of success metrics without a gain which are open, which are ruled out, and what got worse."""
    blind = [c for c in success if isinstance(c.estimate, NotEstimable)]
    missed = [c for c in success if c.missed and c not in lost]
    free = [c for c in success if side(c) == "better" and out_of_reach(c) and c.status == "better"]
    unsure = [c for c in success if c not in (*blind, *missed, *lost, *free)]
    if free and not unsure:
        head = (
            f"Hold: {_names(free, 60)} moved as it had to, for control cannot have it; no target says what is enough."
        )
    elif unsure:
        head = f"Hold: a gain is neither shown nor ruled out for {_names(unsure)}."
    elif missed or lost:
        head = "Hold: no gain is shown, and not all could be read."
    else:
        head = "Hold: the launch names no success metric that could be read."
    text = settling.words(unsure)
    text += f" What was asked for is ruled out for {_names(missed)}." if missed else ""
    text += f" Not estimable: {_names(blind)}." if blind and (unsure or missed or lost) else ""
    return head, text + (f" Worse already: {_names(lost)}." if lost else "")


def _safe(guardrails: Sequence[Claim]) -> str:
    """Say how guardrails stand that all passed or got better, and which of them are worse within their margin."""
    if not guardrails:
        return "Harm was not looked for, because the launch names no guardrail"
    worse = [c for c in guardrails if side(c) == "worse"]
    better = " or got better" if any(c.status == "better" for c in guardrails) else ""
    return f"Every guardrail stayed within its margin{better}" + (f" (worse: {_names(worse)})" if worse else "")


def _ceiling(claims: Sequence[Claim]) -> str:
    """Say beyond which gain of the north star, should it be the first of these, its interval leaves nothing.

    Where what it was to reach is ruled out, its own sentence says so, with another number.
    """
    e, claim = claims[0].estimate, claims[0]
    if claim.role != "north_star" or not isinstance(e, Estimate) or side(claim) == "better" or claim.missed:
        return ""
    _, low, high, relative = scaled(e, None)
    best = high if claim.better == "higher" else -low
    found = in_unit(*size(best, claim.unit, half=(high - low) / 2, relative=relative))
    where = "of the north star, " if len(claims) > 1 else ""
    return f" ({where}{'above +' if claim.better == 'higher' else 'below −'}{found} ruled out)"


def _told(failed: Sequence[Check]) -> str:
    """Give what the first of failed questions found, or its name where names of the data have made that unplain."""
    first = failed[0]
    return short(first.name if wording.unplain(first.detail) else first.detail, 200)


def _names(claims: Sequence[Claim], most: int = 80) -> str:
    """List titles, as many whole ones as fit with what counts the others, so that any sentence around stays short."""

    def listed(shown: int) -> tuple[str, str]:
        more = f" and {len(claims) - shown} more" if shown < len(claims) else ""
        return ", ".join(c.title for c in claims[:shown]), more

    fit = [shown for shown in range(1, len(claims) + 1) if len("".join(listed(shown))) <= most]
    titles, more = listed(max(fit, default=1))
    return short(titles, most - len(more)) + more


def _verdict(decision: Decision, head: str, rest: str, reasons: Sequence[str]) -> Verdict:
    head = short(_words(" ".join(head.split()), SENTENCE_WORDS), HEADLINE)
    sentence = _words(" ".join(f"{head} {rest}".split()), SENTENCE_WORDS)
    return Verdict(decision=decision, sentence=sentence, reasons=tuple(reasons), headline=head)


def _words(text: str, most: int) -> str:
    """Cut a text to so many words."""
    words = text.split()
    return text if len(words) <= most else " ".join([*words[: most - 1], "…"])
