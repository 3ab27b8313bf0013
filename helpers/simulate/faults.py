"""Faults of logging, planted on purpose: plays repeated, plays longer than a day, and clocks that are wrong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from helpers.simulate.parameters import Logs

LONG_MINUTES = 1_500.0
_BEHIND = (1, 72)  # hours


def spoil(plays: pa.Table, logs: Logs, rng: np.random.Generator) -> pa.Table:
    """Plant a block's share of faults in its plays; nothing where the shares are 0."""
    n = len(plays)
    if logs.long_days:
        minutes = plays["watch_minutes"].to_numpy().copy()
        minutes[rng.random(n) < logs.long_days] = LONG_MINUTES
        plays = plays.set_column(plays.schema.get_field_index("watch_minutes"), "watch_minutes", pa.array(minutes))
    if logs.skewed:
        behind = np.where(rng.random(n) < logs.skewed, rng.integers(*_BEHIND, n, endpoint=True), 0)
        shift = pa.array(3_600_000_000 * behind, pa.duration("us"))
        at = plays.schema.get_field_index("started_at")
        plays = plays.set_column(at, "started_at", pc.subtract(plays["started_at"], shift))
    if logs.duplicates:
        plays = plays.take(np.repeat(np.arange(n), 1 + (rng.random(n) < logs.duplicates)))
    return plays
