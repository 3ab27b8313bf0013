"""A drafted launch file is valid, guesses the obvious, and stays harmless whatever the table holds."""

import pandas as pd
import pytest

from helpers import draft, launch, study, units
from helpers.errors import DataError, LaunchError


def drafted(tmp_path, table, suffix="csv"):
    path = tmp_path / f"players.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    return draft.write(path, tmp_path / "players.yaml")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_draft_runs_as_it_stands(tmp_path, players, suffix):
    read = launch.load(drafted(tmp_path, players[1], suffix))
    assert (read.data.account, read.data.arm) == ("user", "version")
    assert [m.column for m in read.plan[0].metric.covariates] == ["history"]
    assert {p.metric.name: p.metric.kind for p in read.plan} == {
        "hours": "mean",
        "sessions": "mean",
        "kept": "proportion",
    }
    assert read.segments == ("country",)
    assert units.load(study.open(read)).count().execute() == len(players[1])


def test_the_control_is_the_arm_that_sounds_like_one(tmp_path):
    table = pd.DataFrame({"id": range(8), "variant": ["treated", "control"] * 4, "y": [0, 1] * 4})
    assert launch.load(drafted(tmp_path, table)).arms.control == "control"


def test_hostile_names_stay_text(tmp_path):
    arm = "b: {x}\n- <script>alert(1)</script>"
    table = pd.DataFrame({"user id": list("abcdef"), 'group"]: #': ["a", arm] * 3, "watch: [1]": range(6)})
    table = table.rename(columns={'group"]: #': "group"})
    read = launch.load(drafted(tmp_path, table, "parquet"))
    assert read.arms.treatment == (arm,)
    assert read.plan[0].metric.numerator.column == "watch: [1]"


def test_an_existing_file_is_not_overwritten(tmp_path, players):
    drafted(tmp_path, players[1])
    with pytest.raises(LaunchError, match="exists already"):
        drafted(tmp_path, players[1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.assign(user="same", history=1.0, hours=1.0), "no column has a value of its own"),
        (lambda t: t.drop(columns=["version", "country"]), "no column looks like the arm"),
        (lambda t: t[["user", "version"]], "no numeric or true/false column to measure"),
    ],
)
def test_a_table_that_is_no_launch_is_refused_and_nothing_is_written(tmp_path, players, change, sentence):
    with pytest.raises(DataError, match=sentence):
        drafted(tmp_path, change(players[1]))
    assert not list(tmp_path.glob("*players.yaml*"))
