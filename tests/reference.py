"""Numbers of others, kept outside the project: R, published tables, peers' tests. Where they are absent, tests skip."""

import json
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "reference"


def _there(*names):
    path = FOLDER.joinpath(*names)
    if not path.exists():
        pytest.skip(f"the reference is not here: {path.name}")
    return path


def case(name):
    """Read a case: inputs, expected values and the tolerance within which they are to be met."""
    return json.loads(_there("cases", f"{name}.json").read_text(encoding="utf-8"))


def data(of):
    """Read a data set by its file name, or that of a case."""
    path = _there("data", (of if isinstance(of, str) else of["data"]["file"]).removeprefix("data/"))
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def near(c, expected):
    """Accept what lies within the tolerance of a case."""
    return pytest.approx(expected, rel=c["tolerance"]["rel"], abs=c["tolerance"]["abs"])
