"""Replays of a design with known truth: how often each type of metric errs, covers, is off, and finds what is there.

Accounts are drawn with replacement from a large simulated service, arm by arm. That service is the law: its own values
are the truth, so that no correction for a finite population is due. What it cannot show is a tail that reaches beyond
its accounts, of which it has forty for each one in an arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from helpers import inference, moments, simulate
from helpers.errors import ParameterError, did_you_mean
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.results import Estimate, NotEstimable
from helpers.robust import estimators, quantiles

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

Answers = list[Estimate | NotEstimable]

LEVEL = 0.95
ERROR, COVERAGE = (0.035, 0.065), (0.93, 0.97)  # what a 5 % test and a 95 % interval have to keep to
RARE, DAILY, CAP = 300, 28, 0.99  # hours and sessions in 28 days; quantile of both arms together
PER_DRAWN = 40  # accounts of the service for each one in an arm
AT_ONCE = 50  # replicates
FEWEST = 1_000  # replicates; of fewer, chance alone leads outside the bounds
HEADER = f"{'type of metric':<45}{'A/A error':>16}{'coverage':>16}{'bias, errors':>16}{'power':>16}"
BOUNDS = (
    f"Bounds: error {ERROR[0]:.1%} to {ERROR[1]:.1%}, coverage {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}. "
    "± is the chance error of so few experiments."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """All accounts of the service in one world: columns of one number each (N,), and their waits for a first play.

    The waits of account i are those from `first[i]` to `first[i + 1]`.
    """

    columns: Mapping[str, Floats]
    waits: Floats
    first: Integers

    @property
    def accounts(self) -> int:
        """Count the accounts."""
        return len(self.first) - 1


def worlds(scenario: str, *, accounts: int, seed: int) -> tuple[World, World]:
    """Simulate a service without its events, in the world of the control and in that of the treatment.

    Raises:
        ParameterError: the scenario is not known, or changes who is in which world.
    """
    pool = simulate.pool(simulate.Simulation(scenario=scenario, accounts=accounts, seed=seed), waits=True)

    def world(rows: Floats, waits: Floats) -> World:
        columns = dict(zip(pool.columns, rows.T.astype(np.float64), strict=True))
        columns |= {"daily": (columns["sessions"] >= DAILY) * 1.0, "rare": (columns["hours"] > RARE) * 1.0}
        first = np.concatenate([[0], np.cumsum(columns["waits"])]).astype(np.int64)
        return World(columns=columns, waits=waits.astype(np.float64), first=first)

    return world(pool.control, pool.waits[0]), world(pool.treatment, pool.waits[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """One arm of several experiments: the rows (r, n) of a world that were drawn."""

    world: World
    rows: Integers

    def take(self, *columns: str) -> Floats:
        """Give the drawn accounts' columns, (r, n, k)."""
        return np.stack([self.world.columns[c][self.rows] for c in columns], axis=-1)

    def waits(self) -> Iterator[tuple[Floats, Integers]]:
        """Give the drawn accounts' waits, and the account of each, experiment by experiment.

        An account that was drawn twice is two accounts here.
        """
        for rows in self.rows:
            count = np.diff(self.world.first)[rows]
            code = np.repeat(np.arange(len(rows)), count)
            before = np.cumsum(count) - count
            yield self.world.waits[np.arange(len(code)) + (self.world.first[rows] - before)[code]], code


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A type of metric on trial: how a launch compares its arms, and what the answer should have been.

    `compare` gets both arms of r experiments and gives r answers; `truth` gets the two worlds.
    """

    compare: Callable[[Samples, Samples], Answers]
    truth: Callable[[World, World], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What came of many experiments with `n` accounts in each arm.

    `error` is the share that found a difference at 5 % where both arms live in one world; `coverage` the share whose
    interval held the `truth` where they do not; `bias` the mean distance from it, over the mean standard error; `power`
    the share that found the difference, on its side. They are shares of the `answers`; `untold` counts the experiments
    that gave none. All of it holds for this service and this size, not for any other.
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

    @property
    def holds(self) -> bool | None:
        """Say whether error rate and coverage are within the bounds and no answer is missing; None of too few."""
        within = ERROR[0] <= self.error <= ERROR[1] and COVERAGE[0] <= self.coverage <= COVERAGE[1]
        return within and not self.untold if self.answers >= FEWEST or self.untold else None


def _averaged(metric: Metric) -> Kind:
    """Try a metric that Moments answer."""
    columns, _ = inference.needed(metric, adjust=bool(metric.covariates))
    form = inference.form(metric, days=28)

    def value(world: World) -> float:
        top, *bottom = (world.columns[c].mean() for c in form.columns)
        return float(form.scale * top / (bottom[0] if bottom else 1.0))

    return Kind(
        compare=lambda control, treatment: _batch(metric, control.take(*columns), treatment.take(*columns)),
        truth=lambda control, treatment: value(treatment) - value(control),
    )


def _batch(metric: Metric, control: Floats, treatment: Floats) -> Answers:
    """Compare r pairs of arms (r, n, k) as groups of one Moments."""
    columns, _ = inference.needed(metric, adjust=bool(metric.covariates))
    one, other = (
        moments.from_samples([rows], columns=columns, arm=name) for name, rows in (("c", control), ("t", treatment))
    )
    adjust = bool(metric.covariates)
    return inference.compare(
        one + other, metric, control="c", treatment="t", days=28, pre_days=28, adjust=adjust, level=LEVEL
    )


def _capped(metric: Metric, cap: float) -> Kind:
    """Try a mean of amounts up to a quantile of both arms together: each experiment finds its own cap, as a launch."""
    column = metric.column(metric.numerator)

    def compare(control: Samples, treatment: Samples) -> Answers:
        arms = control.take(column), treatment.take(column)
        top = np.array([[[estimators.cap_at(x, cap)]] for x in np.concatenate(arms, axis=1)])
        return _batch(metric, *(np.minimum(arm, top) for arm in arms))

    def truth(control: World, treatment: World) -> float:
        arms = control.columns[column], treatment.columns[column]
        top = estimators.cap_at(np.concatenate(arms), cap)
        return float(np.minimum(arms[1], top).mean() - np.minimum(arms[0], top).mean())

    return Kind(compare=compare, truth=truth)


def _quantile(column: str, share: float) -> Kind:
    """Try a quantile over accounts."""

    def compare(control: Samples, treatment: Samples) -> Answers:
        pairs = zip(control.take(column)[..., 0], treatment.take(column)[..., 0], strict=True)
        return [quantiles.difference(c, t, [share], level=LEVEL)[0] for c, t in pairs]

    def truth(control: World, treatment: World) -> float:
        return float(np.quantile(treatment.columns[column], share) - np.quantile(control.columns[column], share))

    return Kind(compare=compare, truth=truth)


def _quantile_of_events(share: float) -> Kind:
    """Try a quantile over all sessions, where accounts are what was assigned."""

    def compare(control: Samples, treatment: Samples) -> Answers:
        pairs = zip(control.waits(), treatment.waits(), strict=True)
        return [quantiles.of_events(c, t, [share], level=LEVEL)[0] for c, t in pairs]

    def truth(control: World, treatment: World) -> float:
        return float(np.quantile(treatment.waits, share) - np.quantile(control.waits, share))

    return Kind(compare=compare, truth=truth)


def _metric(
    kind: Literal["mean", "proportion", "count", "ratio"], column: str, *, per: str = "", past: str = ""
) -> Metric:
    def of(name: str) -> Measure:
        return Measure(table=UNITS_TABLE, agg="value", column=name)

    return Metric(
        name=column,
        title=column,
        kind=kind,
        numerator=of(column),
        denominator=of(per) if per else None,
        better="higher",
        unit="",
        covariates=(of(past),) if past else (),
    )


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "mean: hours": _averaged(_metric("mean", "hours")),
        "mean, adjusted: hours by hours before": _averaged(_metric("mean", "hours", past="hours_before")),
        f"mean, capped at {CAP:.0%}: hours": _capped(_metric("mean", "hours"), CAP),
        "count: sessions": _averaged(_metric("count", "sessions")),
        "ratio: hours per session": _averaged(_metric("ratio", "hours", per="sessions")),
        "proportion: a session a day": _averaged(_metric("proportion", "daily")),
        "proportion, small: cancelled": _averaged(_metric("proportion", "cancelled")),
        f"proportion, rare: over {RARE} hours": _averaged(_metric("proportion", "rare")),
        "quantile: median hours": _quantile("hours", 0.5),
        "quantile: 95th percentile of hours": _quantile("hours", 0.95),
        "quantile of events: 95th percentile of waits": _quantile_of_events(0.95),
    }
)


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
        yield _summary(name, n, kind.truth(control, treatment), same, other)


def check(n: int, replicates: int) -> None:
    """Refuse arms or numbers of experiments that are too small."""
    for name, number, least in (("n", n, 2), ("replicates", replicates, 1)):
        if number < least:
            raise ParameterError(f"{name} is {number}, must be at least {least}")


def _summary(kind: str, n: int, truth: float, same: Answers, other: Answers) -> Calibration:
    read, found = ([e for e in answers if isinstance(e, Estimate)] for answers in (same, other))
    low, high, diff, se, p = (np.array([getattr(e, k) for e in found]) for k in ("low", "high", "diff", "se", "p"))
    return Calibration(
        kind=kind,
        n=n,
        truth=truth,
        answers=min(len(read), len(found)),
        untold=len(same) + len(other) - len(read) - len(found),
        error=float(np.mean([e.p < 1 - LEVEL for e in read])),
        coverage=float(((low <= truth) & (truth <= high)).mean()),
        bias=float((diff.mean() - truth) / se.mean()),
        power=float(((p < 1 - LEVEL) & (np.sign(diff) == np.sign(truth))).mean()),
    )


def pick(words: str) -> Mapping[str, Kind]:
    """Choose the types whose name holds one of some words.

    Raises:
        ParameterError: a word is in no name.

    >>> list(pick("ratio,count"))
    ['count: sessions', 'ratio: hours per session']
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
