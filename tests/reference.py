"""Numbers of others, kept outside the project: R, published tables, peers' tests. Where they are absent, tests skip."""

import json
from pathlib import Path

import pandas as pd
import pytest
from scipy import optimize, stats

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "reference"


def path(*names):
    """Find a file, or skip the test that needs it."""
    found = FOLDER.joinpath(*names)
    if not found.exists():
        pytest.skip(f"the reference is not here: {found.name}")
    return found


def case(name):
    """Read a case: inputs, expected values and the tolerance within which they are to be met."""
    return json.loads(path("cases", f"{name}.json").read_text(encoding="utf-8"))


def data(of):
    """Read a data set by its file name, or that of a case."""
    file = path("data", (of if isinstance(of, str) else of["data"]["file"]).removeprefix("data/"))
    return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)


def near(c, expected):
    """Accept what lies within the tolerance of a case."""
    return pytest.approx(expected, rel=c["tolerance"]["rel"], abs=c["tolerance"]["abs"])


def freedom(estimate):
    """Recover the degrees of freedom of t from an estimate's interval and error."""
    q, tail = (estimate.high - estimate.low) / 2 / estimate.se, (1 - estimate.level) / 2
    return optimize.brentq(lambda df: stats.t.isf(tail, df) / q - 1, 1, 1e12, xtol=1e-12, rtol=1e-12)
