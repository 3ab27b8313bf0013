"""Trust: may a gain be believed? Who carries it, does it last, was it a typical time, does it hide harm?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from helpers import capability, decision, detectors, register, retention, units
from helpers.decision.claims import out_of_reach
from helpers.metrics import Metric
from helpers.results import Check
from helpers.robust import influence
from helpers.scorecard import Scorecard
from helpers.study import Study
from helpers.timeline import course, fading, seasons

AMOUNTS = ("mean", "count", "ratio")  # of which a few accounts can have most
ALIKE = "engagement"  # within which early and late viewers of a show are compared


def questions(data: Study, card: Scorecard) -> tuple[Check, ...]:
    """Ask everything of a gain that could keep it from coming back, or that it could hide.

    `detectors.of_trust` and `of_harm` choose those that `decision.decide` weighs; the others inform its reader, such as
    how much of a win is likely to be left. One that could not be asked (None) says why, and holds nothing up. None of
    them makes a result wrong: a gain that fails is to be replicated before it is built upon.

    Args:
        data: the study.
        card: what was measured on it.
    """
    found = detectors.inspect(data, card, register.read(data.launch))
    if any(c.passed is False for c in card.checks):
        return found
    planned = {c.metric: c.estimate for c in card.claims}
    stands = seasons.ask(data, treatment=card.treatment, checks=card.checks, planned=planned)
    return (*carried(data, card), *lasting(data, card), stands, *seasons.typical(data), *usable(data, card), *found)


def usable(data: Study, card: Scorecard) -> tuple[Check, ...]:
    """Ask, where no larger group is left, whether the launch was tried on those who cannot use it (chapter 05).

    Only a test that found no loss among them passes: one that is missing, or too small to tell, is a reason to wait.
    Before the last stage, or where nothing is needed to use the launch, nothing is asked.
    """
    if data.launch.decision.stage != "last" or not (data.launch.frame and data.launch.frame.needs):
        return ()
    found = capability.measure(data, data.launch.plan[0].metric, treatment=card.treatment, checks=card.checks)
    asked = capability.check(found)
    return (replace(asked, passed=bool(asked.passed)),)


def by_region(data: Study, card: Scorecard) -> dict[str, str]:
    """Say of each metric whose effect differs between regions (chapter 08) from which effect to which it reaches."""
    launch = data.launch
    places = seasons.regions(data, treatment=card.treatment, checks=card.checks)
    apart = seasons.differing(places, alpha=launch.error())
    known = [p.metric for p in launch.plan]
    return {place.metric: seasons.spread(place, known) for place in apart}


def carried(data: Study, card: Scorecard) -> tuple[Check, ...]:
    """Ask of each gain whether a few accounts carry it, and whether it hangs on the choice of a cap (chapter 06).

    Without a gain the first amount is asked.
    """
    amounts = [p.metric for p in units.measurable(data) if p.metric.per_account and p.metric.kind in AMOUNTS]
    asked = _won(card, amounts) or [m for m in amounts if m.denominator is None][:1]
    if not asked:
        detail = "Not asked: the plan has no amount of which a few accounts could have most."
        return (Check(name="Concentration", passed=None, detail=detail),)
    both = (influence.concentration, influence.survives_caps)
    return tuple(_about(m, ask(data, m.name, card.treatment)) for m in asked for ask in both)


def lasting(data: Study, card: Scorecard) -> tuple[Check, ...]:
    """Ask of each gain, and without one of the metric that chapter 07 follows, whether it fades within the window.

    Of a show, whether its later viewers do. What the control cannot have at all has no effect that could be followed:
    there that metric is asked, and the viewers.
    """
    followed, arm = course.chosen(data).metric, card.treatment
    viewers = retention.read(data, treatment=arm, by=[ALIKE], checks=card.checks)
    honeymoon, finishing = retention.honeymoon(viewers, strata=ALIKE), retention.finishing(viewers, data.launch)

    def ask(metric: Metric) -> Check:
        weekly = course.relative(course.measure(data, metric, treatment=arm, checks=card.checks)["all"])
        early, late = fading.early_minus_late(weekly), fading.late(weekly)
        whole = next(c.estimate for c in card.claims if c.metric == metric.name)
        return fading.verdict(early, late, better=metric.better, viewers=honeymoon, finishing=finishing, whole=whole)

    return tuple(_about(m, ask(m)) for m in _won(card, [p.metric for p in units.measurable(data)]) or [followed])


def _won(card: Scorecard, metrics: Sequence[Metric]) -> list[Metric]:
    """Keep the metrics that won, apart from those that the control cannot have."""
    gains = {c.metric for c in decision.won(card.claims) if not out_of_reach(c)}
    return [m for m in metrics if m.name in gains]


def _about(metric: Metric, check: Check) -> Check:
    """Say of which metric something was asked."""
    amount = metric.denominator and not check.name.startswith("Novelty")
    title = f"{metric.title}, its numerator" if amount else metric.title
    detail = f"{title}: {check.detail[:1].lower()}{check.detail[1:]}"
    return replace(check, name=f"{check.name}: {metric.title}", detail=detail)
