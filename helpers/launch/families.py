"""What a guardrail protects, by its own word or by what it reads; and which of them are about whether the app works."""

from __future__ import annotations

import re

from helpers.launch.entry import Planned
from helpers.metrics import UNITS_TABLE

_COLUMNS = {  # what a guardrail reads says what it protects
    "technical": {"crashed", "start_failed", "play_delay_ms", "rebuffer_ratio", "recommendation_ms"},
    "ecosystem": {"creator_tier", "creator"},
    "effort": {"seconds_to_first_play", "effort"},
    "satisfaction": {"initiation", "thumb", "score"},
}
_NAMES = {  # of metrics of the user's own
    "retention": r"retention|retained|churn|cancel|kept|stay",
    "support": r"ticket|contact|complaint|support",
    "technical": r"crash|error|fail|latency|delay|buffer",
    "satisfaction": r"satisf|score|rating|nps|regret|survey",
    "ecosystem": r"creator|seller|catalogue|coverage",
    "effort": r"effort|time_to|search",
}
_TABLES = {
    "retention": {"cancellations"},
    "support": {"tickets"},
    "satisfaction": {"surveys", "feedback"},
    "ecosystem": {"impressions"},
}


def family(p: Planned) -> str:
    """Say what a guardrail protects: as the launch says, or by what it reads or is called; empty where that is open.

    >>> from helpers import metrics
    >>> family(Planned(metric=metrics.get("churn_28d"), role="guardrail"))
    'retention'
    """
    if p.family:
        return p.family
    bases = [base for m in p.metric.measures for base in m.bases]
    columns = {c for b in bases for c in (b.column, *(w.column for w in b.where))} | {p.metric.over}
    for name, words in _COLUMNS.items():
        if columns & words:
            return name
    tables = {b.table for b in bases}
    if UNITS_TABLE in tables:
        return next((name for name, words in _NAMES.items() if re.search(words, p.metric.name)), "")
    return next((name for name, read in _TABLES.items() if tables & read), "")


def technical(p: Planned) -> bool:
    """Say whether a guardrail is about the app doing its work: crashes, failed starts, delays, time to the first play.

    It is of the family *technical*, or a quantile of the time that people look for something. A share of visits that
    end in a play reads that time too, but is about choosing.

    >>> from helpers import metrics
    >>> names = ("crash_rate", "seconds_to_first_play_p95", "browse_to_play", "churn_28d")
    >>> [technical(Planned(metric=metrics.get(name), role="guardrail")) for name in names]
    [True, True, False, False]
    """
    return family(p) == "technical" or (p.metric.kind == "quantile" and family(p) == "effort")
