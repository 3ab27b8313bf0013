"""Replays of a design with known truth: how often each type of metric errs, covers, is off, and finds what is there.

Accounts are drawn with replacement from a large simulated service, arm by arm. That service is the law: its own values
are the truth, so that no correction for a finite population is due. What it cannot show is a tail that reaches beyond
its accounts, of which it has forty for each one in an arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from helpers.calibration.kinds import KINDS, LEVEL, Answers, Kind
from helpers.calibration.service import Samples, World, worlds
from helpers.errors import ParameterError, did_you_mean
from helpers.results import Estimate

__all__ = ["KINDS", "Calibration", "Kind", "Samples", "World", "calibrate", "check", "pick", "row", "worlds"]

ERROR, COVERAGE = (0.035, 0.065), (0.93, 0.97)  # what a 5 % test and a 95 % interval have to keep to
PER_DRAWN = 40  # accounts of the service for each one in an arm
AT_ONCE = 50  # replicates
FEWEST = 1_000  # replicates; of fewer, chance alone leads outside the bounds
HEADER = f"{'type of metric':<45}{'A/A error':>16}{'coverage':>16}{'bias, errors':>16}{'power':>16}"
BOUNDS = (
    f"Bounds: error {ERROR[0]:.1%} to {ERROR[1]:.1%}, coverage {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}. "
    "A confidence sequence may err less. ± is the chance error of so few experiments."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What came of many experiments with `n` accounts in each arm.

    `error` is the share that found a difference at 5 % where both arms live in one world; `coverage` the share whose
    interval held the `truth` where they do not; `bias` the mean distance from it, over the mean standard error; `power`
    the share that found the difference, on its side. They are shares of the `answers`; `untold` counts the experiments
    that gave none. `cautious` is that of the kind. All of it holds for this service and this size, not for any other.
    """

    kind: str
    n: int
    truth: float
    answers: int
    untold: int
    error: float
    coverage: float
    bias: float
    power: float
    cautious: bool = False

    @property
    def holds(self) -> bool | None:
        """Say whether error rate and coverage are within the bounds and no answer is missing; None of too few."""
        within = self.error <= ERROR[1] and COVERAGE[0] <= self.coverage
        within &= self.cautious or (ERROR[0] <= self.error and self.coverage <= COVERAGE[1])
        return within and not self.untold if self.answers >= FEWEST or self.untold else None


def calibrate(
    control: World,
    treatment: World,
    *,
    kinds: Mapping[str, Kind] = KINDS,
    n: int = 10_000,
    replicates: int = 5_000,
    rng: np.random.Generator,
) -> Iterator[Calibration]:
    """Run experiments with a treatment and without, and hold every answer against the truth, one type after the other.

    Args:
        control: the world of the control, and of both arms where nothing is to be found.
        treatment: the world of the treatment.
        kinds: by name.
        n: accounts in each arm, at least 2.
        replicates: experiments of either sort, at least 1. Their chance error is the root of p (1 - p) / replicates:
            0.3 percentage points for an error rate of 5 % and 5,000 of them.
        rng: where chance comes from.

    Raises:
        ParameterError: `n` or `replicates` is out of range.

    >>> control, treatment = worlds("homepage_optimistic", accounts=500, seed=1)
    >>> kinds = {"mean": KINDS["mean: hours"]}
    >>> (found,) = calibrate(control, treatment, kinds=kinds, n=50, replicates=20, rng=np.random.default_rng(1))
    >>> found.kind, found.answers, round(found.truth, 1)
    ('mean', 20, 7.2)
    """
    check(n, replicates)
    for name, kind in kinds.items():
        same, other = [], []
        for done in range(0, replicates, AT_ONCE):
            shape = (min(AT_ONCE, replicates - done), n)
            usual, again, treated = (
                Samples(world=world, rows=rng.integers(world.accounts, size=shape))
                for world in (control, control, treatment)
            )
            same += kind.compare(usual, again)
            other += kind.compare(usual, treated)
        yield _summary(name, n, kind, kind.truth(control, treatment, n), same, other)


def check(n: int, replicates: int) -> None:
    """Refuse arms or numbers of experiments that are too small."""
    for name, number, least in (("n", n, 2), ("replicates", replicates, 1)):
        if number < least:
            raise ParameterError(f"{name} is {number}, must be at least {least}")


def _summary(name: str, n: int, kind: Kind, truth: float, same: Answers, other: Answers) -> Calibration:
    read, found = ([e for e in answers if isinstance(e, Estimate)] for answers in (same, other))
    low, high, diff, se, p = (np.array([getattr(e, k) for e in found]) for k in ("low", "high", "diff", "se", "p"))
    return Calibration(
        kind=name,
        n=n,
        truth=truth,
        answers=min(len(read), len(found)),
        untold=len(same) + len(other) - len(read) - len(found),
        error=float(np.mean([e.p < 1 - LEVEL for e in read])),
        coverage=float(((low <= truth) & (truth <= high)).mean()),
        bias=float((diff.mean() - truth) / se.mean()),
        power=float(((p < 1 - LEVEL) & (np.sign(diff) == np.sign(truth))).mean()),
        cautious=kind.cautious,
    )


def pick(words: str) -> Mapping[str, Kind]:
    """Choose the types whose name holds one of some words.

    Raises:
        ParameterError: a word is in no name.

    >>> list(pick("ratio,count"))
    ['count: sessions', 'count, rare: tickets', 'ratio: hours per session']
    """
    wanted = [word.strip() for word in words.split(",")]
    for word in wanted:
        if not any(word in name for name in KINDS):
            valid = dict.fromkeys(name.split(":")[0].split(",")[0] for name in KINDS)
            raise ParameterError(f"no type of metric is called {word!r}; {did_you_mean(word, valid)}")
    return {name: kind for name, kind in KINDS.items() if any(word in name for word in wanted)}


def row(found: Calibration) -> str:
    """Lay a calibration out as one line of a table, each share with its chance error.

    >>> found = Calibration(
    ...     kind="mean", n=9, truth=1, answers=400, untold=0, error=0.05, coverage=0.9, bias=0, power=0.5
    ... )
    >>> row(found).split()[-8:]
    ['50.0', '%', '±', '2.5', 'too', 'few', 'to', 'judge']
    """

    def share(s: float) -> str:
        return f"{s:8.1%}".replace("%", " %") + f" ± {100 * np.sqrt(s * (1 - s) / found.answers):.1f}"

    bias = f"{found.bias:+8.2f} ± {found.answers**-0.5:.2f}"
    said = {True: "holds", False: "OUTSIDE", None: "too few to judge"}[found.holds]
    if found.untold:
        said += f", {found.untold:,} without an answer"
    return f"{found.kind:<45}{share(found.error)}{share(found.coverage)}{bias}{share(found.power)}   {said}"
