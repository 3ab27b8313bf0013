"""What is suspicious about a result: patterns that have turned out to be artefacts, looked for after the estimate.

Each detector gives a `Check`. One that fails is no proof of a fault, but a reason to replicate and to look at the logs
before the result is believed; one that could not be asked says why. `decision.decide` weighs those of `of_harm` before
a gain, those of `of_trust` after it; the others are for the reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helpers.detectors.effects import curse, denominators, divergence, prior_sd, prior_source, twyman
from helpers.detectors.groups import composition, tail_harm
from helpers.detectors.past import forking, proxy_decay, regime_change
from helpers.detectors.viewing import autoplay, bunching, displacement
from helpers.register import Opening
from helpers.results import Check
from helpers.scorecard import Scorecard
from helpers.study import Study

__all__ = [
    "autoplay",
    "bunching",
    "composition",
    "curse",
    "denominators",
    "displacement",
    "divergence",
    "forking",
    "inspect",
    "of_harm",
    "of_trust",
    "prior_sd",
    "prior_source",
    "proxy_decay",
    "regime_change",
    "tail_harm",
    "twyman",
]

HARM = ("Harm in a group",)
INFORMING = (
    "Ratios that moved by their denominator",
    "What is likely to be left of a win",
    "Looks and plans",
    "Holidays and events",
    "Campaigns",
    "Whole weeks",
)


def inspect(data: Study, card: Scorecard, openings: Sequence[Opening] = ()) -> tuple[Check, ...]:
    """Ask everything that these data and this plan allow.

    Args:
        data: the study.
        card: what was measured on it.
        openings: the register's lines, for the looks and plans that were tried.
    """
    launch = data.launch
    prior, source = prior_sd(launch), prior_source(launch)
    if any(c.passed is False for c in card.checks):
        return (
            Check(name="Suspicious patterns", passed=None, detail="Not asked, because a check of the data failed."),
        )
    return (
        divergence(card.claims, launch.plan),
        denominators(data, card),
        autoplay(data, card),
        bunching(data, card),
        displacement(data, card),
        composition(data, card),
        twyman(card.claims, prior, source),
        curse(card.claims, prior, source),
        tail_harm(data, card),
        proxy_decay(launch),
        regime_change(data),
        forking(launch, openings),
    )


def of_trust(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Choose those that a gain must pass before it is trusted: the others inform, or are about harm."""
    return tuple(c for c in checks if c.name not in (*INFORMING, *HARM))


def of_harm(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Choose those about harm that an average hides, which are weighed before any gain."""
    return tuple(c for c in checks if c.name in HARM)
