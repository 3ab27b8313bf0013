"""Who can use what was launched: the effect among accounts whose devices run it is not everybody's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from helpers import roster, schema, scorecard
from helpers.errors import DataError
from helpers.metrics import Metric
from helpers.report.readout import percent
from helpers.results import Check, Estimate, NotEstimable, change, closed
from helpers.study import Study

NAME = "Works for everybody"
FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One metric's effect among accounts that can use the launch (`able`), those that cannot, and all that took part.

    `share` is that of accounts of the frame that can. The effect on the able is theirs alone: that a service on which
    fewer can gains less is arithmetic, and what happens to the others is known only where some of them took part.
    """

    needs: str
    share: float
    able: Estimate | NotEstimable
    unable: Estimate | NotEstimable
    everybody: Estimate | NotEstimable
    better: Literal["higher", "lower"] = "higher"


def measure(data: Study, metric: Metric, *, treatment: str = "", checks: Iterable[Check] = ()) -> Capability | None:
    """Compare a metric apart for accounts that have the flag `frame: {needs: …}` and those that do not.

    Args:
        data: the study.
        metric: one of the plan's that has a number for each account.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, no effect is shown.

    Returns:
        None where the launch names no such flag.

    Raises:
        DataError: the flag is no flag.
    """
    needs = data.launch.frame.needs if data.launch.frame else None
    if needs is None:
        return None
    treatment = data.launch.judged(treatment)
    if reason := closed(checks):
        everybody: Estimate | NotEstimable = NotEstimable(metric=metric.name, reason=reason)
    else:
        everybody = scorecard.estimate(data, scorecard.pooled(data), metric, treatment=treatment, adjust=True)
    if isinstance(none := everybody, NotEstimable):
        return Capability(
            needs=needs, share=_share(data, needs), able=none, unable=none, everybody=none, better=metric.better
        )
    read = scorecard.sliced(data, [needs], [metric])[needs]
    found = {}
    for answer in scorecard.within(data, read, metric, needs, treatment=treatment):
        if (level := answer.slice[needs].removesuffix(".0").lower()) in FLAGS:
            found[FLAGS[level]] = answer
        elif level != schema.UNKNOWN:
            raise DataError(f"{data.launch.name}: {needs!r} holds {answer.slice[needs]!r}; a flag is true or false")
    missing = NotEstimable(metric=metric.name, reason="no such account took part")
    return Capability(
        needs=needs,
        share=_share(data, needs),
        able=found.get(True, missing),
        unable=found.get(False, missing),
        everybody=everybody,
        better=metric.better,
    )


def _share(data: Study, needs: str) -> float:
    """Count who has the flag, as a share of the frame."""
    accounts = roster.frame(data)
    return float(accounts[needs].cast("string").lower().isin(["true", "1"]).mean().execute())


def check(found: Capability | None) -> Check:
    """Ask whether the effect is known for those who cannot use the launch too, before everybody gets it.

    It fails where none of them took part, and where they surely lose. It cannot tell where so few took part that their
    interval, unless it holds gains alone, is wider than the effect on those who can.

    >>> check(None).passed is None
    True
    """
    if found is None:
        detail = "Not asked: the launch names no flag that an account needs, under 'frame: {needs: …}'."
        return Check(name=NAME, passed=None, detail=detail)
    able, unable, who = found.able, found.unable, f"{percent(found.share, digits=0)} of the frame have {found.needs}"
    if isinstance(able, NotEstimable):
        return Check(name=NAME, passed=None, detail=f"{who}; among them nothing can be estimated: {able.reason}.")
    with_it = f"{who}. Among them {_range(able)}"
    if isinstance(unable, NotEstimable):
        diluted = change(found.share * able.diff, found.share * able.low, found.share * able.high)
        detail = (
            f"{with_it}; of the others nothing is known ({unable.reason}). If they gain and lose nothing, all accounts "
            f"together change by {diluted}. Test on the others before everybody gets it."
        )
        return Check(name=NAME, passed=False, detail=detail)
    good = 1 if found.better == "higher" else -1
    worst, best = sorted((good * unable.low, good * unable.high))
    detail = f"{with_it}, among the others {_range(unable)}"
    if best < 0:
        detail += ": they lose, and what they lose is no part of what the able gain. Keep it from them, or rework it."
        return Check(name=NAME, passed=False, detail=detail)
    if worst < 0 and unable.high - unable.low > abs(able.diff):
        detail += f": too few of them took part ({unable.n_treatment:,} treated) to say whether they lose."
        return Check(name=NAME, passed=None, detail=detail)
    if isinstance(found.everybody, Estimate):
        detail += f", over all that took part {_range(found.everybody)}: only this is what opening it would change"
        if min(good * found.everybody.low, good * found.everybody.high) > 0:
            detail += f". Who quotes the first for everybody overstates it {able.diff / found.everybody.diff:.1f} times"
    return Check(name=NAME, passed=True, detail=f"{detail}.")


def _range(e: Estimate) -> str:
    return change(e.diff, e.low, e.high)
