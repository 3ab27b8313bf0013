"""The catalogue: the launch title, another new title beside it, and what else there is to watch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from helpers.simulate.simulation import Simulation

LAUNCH_TITLE, PLACEBO_TITLE = "t00000", "t99999"
TIERS = ("head", "torso", "tail")
_TIER_ENDS = (0.05, 0.3)  # share of a format's titles, most popular first


def ids(simulation: Simulation) -> list[str]:
    """List the launch title, the catalogue, most popular first within each format, and last the other new title."""
    return [LAUNCH_TITLE, *(f"t{number:05d}" for number in range(1, simulation.choice.titles + 1)), PLACEBO_TITLE]


def formats(simulation: Simulation) -> np.ndarray:
    """Say which format each catalogue title has."""
    sizes = np.array([share for _, share in simulation.choice.formats]) * simulation.choice.titles
    ends = np.rint(np.cumsum(sizes)).astype(int)
    return np.searchsorted(ends, np.arange(simulation.choice.titles), side="right")


def drawn(simulation: Simulation, form: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw titles of the wanted formats by popularity, as positions in `ids`; past the last format: the show."""
    sizes = np.bincount(formats(simulation), minlength=len(simulation.choice.formats))
    firsts = np.append(1 + np.cumsum(sizes) - sizes, 0)
    found: np.ndarray = firsts[form] + np.floor(
        np.append(sizes, 1)[form] * uniform.astype(float) ** simulation.choice.popularity
    )
    return found.astype(np.int64)


def tiers(simulation: Simulation) -> np.ndarray:
    """Position in `TIERS` of each catalogue title."""
    form = formats(simulation)
    rank = (np.arange(len(form)) - np.searchsorted(form, form)) / np.bincount(form)[form]
    return np.searchsorted(_TIER_ENDS, rank, side="right")


def creators(simulation: Simulation) -> np.ndarray:
    """Number the creator of each title in `ids`: 0 makes the new ones, the others about five titles each."""
    c = simulation.choice
    return np.concatenate([[0], 1 + np.arange(c.titles) % max(c.titles // 5, 1), [0]])


def offered(simulation: Simulation) -> np.ndarray:
    """Flag the titles of `ids` that some arm of the simulation can watch."""
    placebo = any(service.placebo for service in simulation.services)
    return np.array([simulation.with_show, *[True] * simulation.choice.titles, placebo])


def table(simulation: Simulation) -> pa.Table:
    """Describe every title: the new ones where the scenario has them, and the catalogue."""
    c, show = simulation.choice, simulation.show
    minutes = np.take(c.format_minutes, formats(simulation))
    frame = pd.DataFrame(
        {
            "title": ids(simulation),
            "name": [show.name, *(f"Title {number}" for number in range(1, c.titles + 1)), "Another new title"],
            "creator": [f"Studio {number}" for number in creators(simulation).tolist()],
            "creator_tier": ["head", *np.take(TIERS, tiers(simulation)), "head"],
            "minutes": np.r_[show.minutes, minutes, show.minutes].astype(float),
            "is_launch_title": np.arange(c.titles + 2) == 0,
        }
    )
    return pa.Table.from_pandas(frame[offered(simulation)], preserve_index=False)
