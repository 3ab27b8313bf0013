"""Trust: may a gain be believed? Who carries it, does it last, and is anything about it suspicious?"""

from __future__ import annotations

from helpers import detectors, register, retention, units
from helpers.results import Check
from helpers.robust import influence
from helpers.scorecard import Scorecard
from helpers.study import Study
from helpers.timeline import course, fading

ALIKE = "engagement"  # within which early and late viewers of a show are compared


def questions(data: Study, card: Scorecard) -> tuple[Check, ...]:
    """Ask everything of a gain that could keep it from coming back; for `decision.decide`, which weighs the answers.

    One that could not be asked (None) says why, and holds nothing up. None of them makes a result wrong: a gain that
    fails is to be replicated before it is built upon.

    Args:
        data: the study.
        card: what was measured on it.
    """
    found = detectors.inspect(data, card, register.read(data.launch))
    if any(c.passed is False for c in card.checks):
        return found
    return (carried(data, card), lasting(data, card), *detectors.of_trust(found))


def carried(data: Study, card: Scorecard) -> Check:
    """Ask whether a few accounts carry the effect on the first amount of the plan (chapter 06)."""
    if not any(p.metric.per_account and p.metric.kind in ("mean", "count") for p in units.measurable(data)):
        detail = "Not asked: the plan has no amount of which a few accounts could have most."
        return Check(name="Concentration", passed=None, detail=detail)
    return influence.concentration(data, treatment=card.treatment)


def lasting(data: Study, card: Scorecard) -> Check:
    """Ask whether the effect on the north star, or the later viewers of a show, fade within the window (chapter 07)."""
    star, arm = data.launch.plan[0].metric, card.treatment
    weekly = course.relative(course.measure(data, star, treatment=arm, checks=card.checks)["all"])
    viewers = retention.read(data, treatment=arm, by=[ALIKE], checks=card.checks)
    return fading.verdict(
        fading.early_minus_late(weekly),
        fading.late(weekly),
        better=star.better,
        viewers=retention.honeymoon(viewers, strata=ALIKE),
        finishing=retention.finishing(viewers, data.launch),
    )
