"""What several test files share: a cache of their own, and a small launch on a table with a row per account."""

import os
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep simulated services and units tables apart from the user's; PREMIERE_TEST_CACHE keeps them between runs."""
    os.environ["PREMIERE_CACHE"] = os.environ.get("PREMIERE_TEST_CACHE") or str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def players(tmp_path):
    """Write a table with a row per account and a launch file beside it; return the launch's path and the table."""
    rng = np.random.default_rng(7)
    n = 4_000
    history = rng.gamma(2.0, 4.0, n)
    arm = rng.permutation(np.repeat(["old", "new"], n // 2))
    table = pd.DataFrame(
        {
            "user": [f"u{i:05d}" for i in range(n)],
            "version": arm,
            "country": rng.choice(["NO", "SE", None], n),
            "history": history,
            "hours": 0.7 * history + rng.gamma(2.0, 2.0, n) + 0.4 * (arm == "new"),
            "sessions": rng.poisson(6, n),
            "kept": rng.random(n) < np.where(arm == "new", 0.62, 0.60),
        }
    )
    table.to_csv(tmp_path / "players.csv", index=False)
    launch = tmp_path / "gate.yaml"
    launch.write_text(
        textwrap.dedent("""\
            name: gate
            data: {units: players.csv, account: user, arm: version}
            arms: {control: old, treatment: new}
            metrics:
              north_star: {name: hours, kind: mean, column: hours, better: higher, covariates: [history]}
              supporting:
                - {name: per_session, kind: ratio, numerator: hours, denominator: sessions, better: higher, target: +2%}
              guardrails:
                - {name: kept, kind: proportion, column: kept, better: higher, margin: -10%}
            segments: [country]
            """),
        encoding="utf-8",
    )
    return launch, table
