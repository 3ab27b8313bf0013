"""The law that experiments are drawn from: all accounts of a simulated service in two worlds, and samples of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from helpers import simulate

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

RARE, DAILY = 300, 28  # hours and sessions in 28 days
STRATA = 5  # of equal size, by the hours before
WATCHED = (7, 28)  # days for which an account is followed until its data end
TICKETS, DISPERSION, FEWER = 0.02, 3, 0.8  # mean of an account, variance over it, factor of the treatment
CREATORS, APPEAL, EVENER, LOYAL = 300, 2.5, 0.9, 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """All accounts of the service in one world: columns of one number each (N,), and of each of their plays.

    The plays of account i are those from `first[i]` to `first[i + 1]`: how long they were waited for, in seconds, and
    whose title each is, from 0 to 299.
    """

    columns: Mapping[str, Floats]
    waits: Floats
    creators: Integers
    first: Integers

    @property
    def accounts(self) -> int:
        """Count the accounts."""
        return len(self.first) - 1


def worlds(scenario: str, *, accounts: int, seed: int) -> tuple[World, World]:
    """Simulate a service without its events, in the world of the control and in that of the treatment.

    Three things are stand-ins, because the service without its events does not say them. Tickets are Poisson counts
    whose rates differ by a gamma law, so that their variance is three times their mean, and a fifth fewer in the
    treatment. An account is followed for 7 to 28 days. Creators differ in appeal by a lognormal law with a deviation of
    2.5; half of an account's plays go to the creator of its first; the treatment brings appeals a little closer.

    Raises:
        ParameterError: the scenario is not known, or changes who is in which world.
    """
    pool = simulate.pool(simulate.Simulation(scenario=scenario, accounts=accounts, seed=seed), waits=True)
    rng = np.random.default_rng([seed, 1])
    rate = rng.gamma(TICKETS / (DISPERSION - 1), DISPERSION - 1, accounts)
    watched, appeal = rng.uniform(*WATCHED, accounts), rng.lognormal(0, APPEAL, CREATORS)
    past = pool.control[:, pool.columns.index("hours_before")]
    stratum = np.searchsorted(np.quantile(past, np.arange(1, STRATA) / STRATA), past)

    def world(rows: Floats, waits: Floats, fewer: float, evener: float) -> World:
        columns = dict(zip(pool.columns, rows.T.astype(np.float64), strict=True))
        left = columns["cancelled"] * (columns["stayed"] <= watched)
        columns |= {
            "daily": (columns["sessions"] >= DAILY) * 1.0,
            "rare": (columns["hours"] > RARE) * 1.0,
            "tickets": rng.poisson(fewer * rate) * 1.0,
            "stratum": stratum * 1.0,
            "left": left,
            "time": np.where(left, columns["stayed"], watched),
            "hours_per_play": columns["hours"] / np.maximum(columns["waits"], 1),
        }
        first = np.concatenate([[0], np.cumsum(columns["waits"])]).astype(np.int64)
        share = appeal**evener / (appeal**evener).sum()
        creators = rng.choice(CREATORS, len(waits), p=share)
        usual = np.repeat(first[:-1], np.diff(first))
        creators = np.where(rng.random(len(waits)) < LOYAL, creators[usual], creators)
        return World(columns=columns, waits=waits.astype(np.float64), creators=creators, first=first)

    usual, changed = world(pool.control, pool.waits[0], 1, 1), world(pool.treatment, pool.waits[1], FEWER, EVENER)
    return usual, changed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """One arm of several experiments: the rows (r, n) of a world that were drawn."""

    world: World
    rows: Integers

    def take(self, *columns: str) -> Floats:
        """Give the drawn accounts' columns, (r, n, k)."""
        return np.stack([self.world.columns[c][self.rows] for c in columns], axis=-1)

    def plays(self) -> Iterator[tuple[Integers, Integers]]:
        """Say which plays of the world the drawn accounts have, and whose each is (0 to n - 1), one experiment a time.

        An account that was drawn twice is two accounts here.
        """
        return (spans(self.world.first, rows) for rows in self.rows)


def spans(first: Integers, rows: Integers) -> tuple[Integers, Integers]:
    """List what belongs to drawn accounts, where account i has all from `first[i]` to `first[i + 1]`, and whose it is.

    >>> spans(np.array([0, 1, 1, 4]), np.array([2, 0]))
    (array([1, 2, 3, 0]), array([0, 0, 0, 1]))
    """
    count = first[rows + 1] - first[rows]
    code = np.repeat(np.arange(len(rows)), count)
    before = np.cumsum(count) - count
    return np.arange(len(code)) + (first[rows] - before)[code], code
