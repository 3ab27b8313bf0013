"""Plain words: how long the first screen of a page is, and what it may not say: jargon, and what no data show."""

from __future__ import annotations

import re
from collections.abc import Iterable

from helpers.results import Claim

FIRST_SCREEN_WORDS = 120  # at most, verdict included
ABSENCE = re.compile(
    r"\b(no (?:effect|change|impact|difference)|not? affect(?:ed)?|unchanged|unaffected|maintained|"
    r"stayed (?:the same|flat|at)|remained (?:the same|stable|at)|did not (?:change|move))\b",
    re.IGNORECASE,
)
JARGON = re.compile(
    r"[\u0370-\u03ff]|\bp[- ]values?\b|\b(?:in)?significan\w*|\bnull hypothes[ie]s\b|\bstatistical\w*|"
    r"\bconfidence (?:intervals?|levels?)\b|\bstandard (?:error|deviation)s?\b|\bdegrees of freedom\b|"
    r"\bt-test\w*|\btype (?:I|II|1|2)\b",
    re.IGNORECASE,
)


def unplain(text: str, claims: Iterable[Claim] = ()) -> str:
    """Give the first words of a text that the first screen may not use; empty where it is plain.

    That something is unchanged may be said of nothing but a passed equivalence, and with its margin.

    >>> unplain("Churn was unaffected (p-value 0.4)."), unplain("Hours rose.")
    ('p-value', '')
    """
    for c in claims:
        if c.aim == "equivalence" and c.status == "passed":
            text = text.replace(f"unchanged within {c.bound_text}", "")
    found = JARGON.search(text) or ABSENCE.search(text)
    return found[0] if found else ""
