"""The north star taken apart: accounts that come, sessions of those who do, minutes of a session, and their changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers import scorecard, units
from helpers.metrics import FACTORS
from helpers.results import Check, Estimate, NotEstimable, closed, nothing
from helpers.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """Hours per account and week, and the three factors whose product they are, each compared between the arms.

    The changes on a log scale add up to that of the whole, exactly. Only the whole and the share of accounts that came
    are averages over all assigned accounts: the other two are over those who came and over sessions, so that a factor
    can move because other people come, not because anybody does something else.
    """

    whole: Estimate
    factors: tuple[Estimate, ...]


def measure(data: Study, *, treatment: str = "", checks: Iterable[Check] = ()) -> Decomposition | NotEstimable:
    """Take the hours of a launch apart, without adjustment: adjusted factors would no longer multiply back.

    Args:
        data: the study; its north star must be the hours per account and week.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, nothing is read.
    """
    treatment = data.launch.judged(treatment)
    star, name, whole = data.launch.plan[0].metric, FACTORS[0].name, FACTORS[0].title.lower()
    if star.name != name:
        return NotEstimable(metric=star.name, reason=f"only {whole} are taken apart, and the north star is another")
    if reason := closed(checks) or next(filter(None, (units.why_not(data, factor) for factor in FACTORS)), ""):
        return NotEstimable(metric=name, reason=reason)
    read = scorecard.pooled(data, metrics=FACTORS)
    answers = [scorecard.estimate(data, read, factor, treatment=treatment, adjust=False) for factor in FACTORS]
    found = [answer for answer in answers if isinstance(answer, Estimate) and answer.rel is not None]
    if len(found) < len(answers):
        reasons = (answer.reason for answer in answers if isinstance(answer, NotEstimable))
        return NotEstimable(metric=name, reason=next(reasons, "one arm watched nothing"))
    return Decomposition(whole=found[0], factors=tuple(found[1:]))


def frame(found: Decomposition | NotEstimable) -> pd.DataFrame:
    """Lay the tree out, the whole first.

    Returns:
        branch, control, treatment, change, low, high (relative), log_change: the last adds up to that of the whole.
        Without rows where the north star could not be taken apart.
    """
    columns = ["branch", "unit", "control", "treatment", "change", "low", "high", "log_change"]
    if isinstance(found, NotEstimable):
        return nothing(found.reason, columns)
    rows = [
        (m.title, m.unit, e.control, e.treatment, e.rel, e.rel_low, e.rel_high, np.log(e.treatment / e.control))
        for m, e in zip(FACTORS, (found.whole, *found.factors), strict=True)
    ]
    return pd.DataFrame(rows, columns=columns)


def sentence(found: Decomposition | NotEstimable) -> str:
    """Say which factor carries most of the change, where any is told from chance."""
    if isinstance(found, NotEstimable):
        return f"The north star could not be taken apart: {found.reason}."
    clear = [
        (m.title, e)
        for m, e in zip(FACTORS[1:], found.factors, strict=True)
        if e.rel is not None and (e.low > 0 or e.high < 0)
    ]
    if not clear:
        return (
            "None of the three factors can be told to have moved; the data cannot say where a change would come from."
        )
    title, e = max(clear, key=lambda pair: abs(np.log(pair[1].treatment / pair[1].control)))
    return f"{title}: {100 * (e.rel or 0):+.1f}%, the largest change of a factor that can be told from chance."
