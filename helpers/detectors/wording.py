"""Sentences that say of a metric that nothing changed, and what is to stand in their place."""

from __future__ import annotations

import re
from collections.abc import Sequence

from helpers.results import Claim
from helpers.wording import ABSENCE


def plain_words(text: str, claims: Sequence[Claim]) -> str:
    """Put what was found in the place of sentences that say of a metric that nothing changed (H11).

    A guardrail that passed may be said to stay within its margin; that nothing changed is never shown by a test that
    found nothing.

    >>> plain_words("Churn was maintained. Hours rose.", [])
    'That nothing changed was not shown. Hours rose.'
    """
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    return " ".join(_said(s, claims) if ABSENCE.search(s) else s for s in sentences)


def _said(sentence: str, claims: Sequence[Claim]) -> str:
    words = set(re.findall(r"[a-z]{4,}", sentence.lower()))
    for c in claims:
        if words & set(re.findall(r"[a-z]{4,}", f"{c.metric} {c.title}".lower().replace("_", " "))):
            return c.words
    return "That nothing changed was not shown."
