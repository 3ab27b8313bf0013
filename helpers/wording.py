"""Plain words: how long the first screen of a page is, and what it may not say: jargon, and what no data show."""

from __future__ import annotations

import re
from collections.abc import Iterable

from helpers.results import Claim

FIRST_SCREEN_WORDS = 120  # at most, verdict included
_SAME = r"(?:about |exactly |much )?(?:flat|stable|steady|constant|identical|neutral)"
_HARM = r"(?:harm|loss(?:es)?|damage|deterioration|increase|decrease|decline|drop|dip|fall|rise)"
_LIKE = r"(?:similar|comparable|equal|equivalent)"
_MOVE = (
    r"(?:rise|rose|risen|increased?|grow|grew|grown|(?:go|gone|went) (?:up|down)|fall|fell|fallen|drop(?:ped)?|"
    r"decreased?|declined?|climb(?:ed)?|budged?|shift(?:ed)?|changed?|moved?|differ(?:ed|ent)?)"
)
ABSENCE = re.compile(
    r"\b(no (?!relative )(?:\w+ )?(?:effect|effects (?:was|were|are)|changes?|impacts?|differences?|influence)|"
    r"no (?:\w+ )?movements?|"
    rf"no (?:\w+ )?{_HARM}(?! (?:beyond [^.,;]* )?(?:is|was|are|were) (?:shown|established))|makes? no|made no|"
    r"(?:no|without|lacks?) (?:\w+ )?(?:evidence|signs?|indication) (?:of|for|that)|"
    rf"without (?:any )?(?:effect|change|impact|{_HARM})|"
    r"(?:not?|\w+n't) (?:\w+ly )?affect(?:ed)?|un(?:changed|affected|altered|harmed|touched)|harmless|maintained|"
    rf"(?:is|are|was|were) {_SAME}|(?:stay|remain|keep|kept|hold|held)(?:s|ed)? (?:the same|{_SAME})|"
    r"(?:stay|remain)(?:s|ed)? at|(?:was|were) (?:about |exactly )?the same|"
    r"(?:is|are) the same (?:in|across|for|between) (?:both|all|the two)|"
    rf"(?:not|\w+n't) (?:\w+ly )?(?:{_MOVE}(?! for certain)|harm(?:ed)?|worsen(?:ed)?|suffer(?:ed)?)|"
    rf"(?:barely|hardly|scarcely) {_MOVE}|in line with|neutral (?:result|outcome|finding|test)s?|"
    rf"(?:is|are|was|were|look|seem|stay|remain)(?:s|ed)? (?:(?!not |less )\w+ )?{_LIKE}(?! titles)|"
    rf"{_LIKE} (?:in|across|between|for) (?:both|all|the two|the arms)|"
    r"(?:is|are|was|were|stay|remain)(?:s|ed)? (?:just |much )?as (?:it was |they were )?before|"
    rf"{_HARM} (?:is|was|are|were|has been|can be) ruled out|"
    rf"rul(?:e|es|ed|ing) out (?:any |all )?{_HARM}(?! beyond| of)|"
    r"(?:is|are|was|were|be|proved?) (?:\w+ )?safe(?! side)|(?:see|sees|saw|seen|find|finds|found) nothing|"
    r"nothing (?:has |was )?(?:changed|happened|moved|broken)(?! was not)|on (?:a )?par with)\b",
    re.IGNORECASE,
)
JARGON = re.compile(
    r"[\u0370-\u03ff]|\bp[- ]values?\b|\bp ?[=<>\u2264\u2265] ?[01]?\.\d|\b(?:in)?significan\w*|\bnull hypothes[ie]s\b|"
    r"\bstatistical\w*|\bconfidence (?:intervals?|levels?|limits?|sequences?)\b|\bcredible (?:intervals?|sets?)\b|"
    r"\d ?% (?:CI|confidence)\b|\d ?%CI\b|(?-i:\bCIs? (?:exclude|include|contain|cover|cross|overlap|of|from)\w*)|"
    r"\bstandard (?:error|deviation)s?\b|(?-i:\d ?S[ED]s?\b|\bS[ED]s? (?:of|=))|\bdegrees of freedom\b|"
    r"\b[tzF]-(?:tests?|scores?|statistics?|values?)\b|\b[tzF] ?[=<>] ?[\u2212-]?\d|\bstats?[ .-]*sig\b|"
    r"\bhazard ratios?\b|\b(?:log-?)?odds(?: ratios?)?\b|\bdelta method\b|\bFieller\b|"
    r"\bchi-?squared?\b|\btype[ -](?:I|II|1|2)\b|\balpha\b|\b(?:co)?varian(?:ce|ces)\b|\bbootstrap\w*|\bposteriors?\b|"
    r"\bBayes\w*|\bnon-?inferior\w*|\bBonferroni\b|\bWelch\b|(?-i:\b(?:SRM|MDE|ITT|CUPED|FDR|FPR|FWER|ANOVA)\b)",
    re.IGNORECASE,
)
_NO_CLAIM = re.compile(  # that something is not shown, and what would follow if it were so
    r"\b(?:does|do|did|is) not (?:show|shown|prove|mean)(?:ing)? that [^.;:]*|\bif [^,.;:]*", re.IGNORECASE
)


def unplain(text: str, claims: Iterable[Claim] = ()) -> str:
    """Give the first words of a text that the first screen may not use; empty where it is plain.

    That something is unchanged may be said of nothing but a passed equivalence, and with its margin; or after an *if*,
    or where it is said not to be shown.

    >>> unplain("Churn was unaffected (p-value 0.4)."), unplain("Hours rose.")
    ('p-value', '')
    >>> unplain("Churn did not differ."), unplain("Which does not show that they are the same.")
    ('not differ', '')
    """
    for c in claims:
        if c.aim == "equivalence" and c.status == "passed":
            text = text.replace(f"unchanged within {c.bound_text}", "")
    found = JARGON.search(text) or ABSENCE.search(_NO_CLAIM.sub("", text))
    return found[0] if found else ""


def fitted(*parts: str) -> tuple[str, ...]:
    """Leave sentences off the ends of the longest parts of an answer until the first screen holds them all.

    The first sentence of each part stays. What is left off stands with the checks, below.

    >>> [len(part.split()) for part in fitted("It rose. " + "More of it. " * 50, "It held.")]
    [116, 2]
    """
    sentences = [re.split(r"(?<=[.!?]) (?=[A-Z])", part.strip()) for part in parts]

    def words(nth: int) -> int:
        return len(" ".join(sentences[nth]).split())

    while sum(map(words, range(len(parts)))) > FIRST_SCREEN_WORDS:
        longer = [nth for nth, told in enumerate(sentences) if len(told) > 1]
        if not longer:
            break
        sentences[max(longer, key=words)].pop()
    return tuple(" ".join(told) for told in sentences)
