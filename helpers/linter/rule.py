"""What a rule is, what it finds, and what it may look at: the launch, and numbers to plan with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from scipy import stats

from helpers.launch import Launch
from helpers.launch.entry import Planned
from helpers.metrics import Bound

Severity = Literal["E", "W", "I"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a rule found: where, what, why it matters, how to mend it, and which chapter shows the failure.

    E blocks the report of a plan, unless the launch overrides the rule; `overridden` is then the reason that it gives.
    """

    rule: str
    severity: Severity
    place: str
    line: int
    what: str
    why: str
    fix: str
    section: str
    overridden: str = ""

    @property
    def blocks(self) -> bool:
        """Say whether it stops a report."""
        return self.severity == "E" and not self.overridden


class Hit(NamedTuple):
    """What a rule's check yields: severity, path in the launch file, what is wrong, how to mend it."""

    severity: Severity
    at: tuple[str | int, ...]
    what: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A metric's level in control, and the standard error that its difference has, or will have.

    `control` is the control arm's share of the squared error.
    """

    baseline: float
    se: float
    control: float = 0.5

    def beside(self, margin: Bound) -> float:
        """Give the standard error of what a margin m is read on: relative, of t - (1 + m) c (see `power.sample_size`).

        >>> round(Spread(baseline=2.0, se=1.0).beside(Bound(value=0.5, relative=True, text="+50%")) ** 2, 9)
        1.625
        """
        return self.se * math.sqrt(1 + ((1 + margin.value) ** 2 - 1) * self.control * margin.relative)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the rules look at: a launch, and what its data say about spreads where they were asked."""

    launch: Launch
    measured: Mapping[str, Spread] = field(default_factory=dict)

    def entries(self) -> Iterator[tuple[tuple[str | int, ...], Planned]]:
        """Give every metric of the plan with its place in the file."""
        seen: dict[str, int] = {}
        names = {"north_star": "north_star", "guardrail": "guardrails"}
        for p in self.launch.plan:
            layer = names.get(p.role, p.role)
            nth = seen[layer] = seen.get(layer, -1) + 1
            yield ("metrics", layer) if layer == "north_star" else ("metrics", layer, nth), p

    @property
    def arms(self) -> tuple[int, int] | None:
        """Count the planned accounts of control and of the smallest treatment; None where only parts are planned."""
        launch = self.launch
        if launch.sampling is None:
            return None
        n = launch.sampling.n
        sizes = n[launch.arms.control], min(n[arm] for arm in launch.arms.treatment)
        return sizes if min(sizes) >= PARTS else None

    def spread(self, p: Planned) -> Spread | None:
        """Work out level and error from the launch's planning numbers; what the data say where it has none.

        How alike the accounts of a cluster are is in no planning number: where clusters are drawn, the data say it.
        """
        sd = p.sd
        if p.baseline is not None and sd is None and p.metric.kind == "proportion" and 0 < p.baseline < 1:
            sd = math.sqrt(p.baseline * (1 - p.baseline))
        drawn = self.launch.unit  # of clusters, planning numbers say too little
        if p.baseline is None or sd is None or self.arms is None or (drawn and drawn.together):
            return self.measured.get(p.metric.name)
        control, treated = self.arms
        se = sd * math.sqrt(1 / control + 1 / treated)
        return Spread(baseline=p.baseline, se=se, control=treated / (control + treated))


PARTS = 50  # a planned number of accounts below this is a part of a split, such as 1 to 1, and no size


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: its id, what it is about, why it matters, which chapter shows the failure, and how it is checked."""

    id: str
    title: str
    why: str
    section: str
    check: Callable[[Subject], Iterator[Hit]]


def size(bound: Bound, baseline: float) -> float:
    """Turn a target or margin into a distance from no difference, in the metric's unit."""
    return abs(bound.value) * (abs(baseline) if bound.relative else 1.0)


def power(distance: float, se: float, alpha: float) -> float:
    """Give the chance that a two-sided test at `alpha` finds a true difference of so much (normal approximation).

    The chance to be significant on the wrong side is left out, so that no difference has alpha / 2.

    >>> round(power(2.8016, 1.0, 0.05), 3)
    0.8
    """
    return float(stats.norm.cdf(distance / se - stats.norm.isf(alpha / 2)))
