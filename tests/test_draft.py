"""A drafted launch file is valid, guesses the obvious, and stays harmless whatever the table holds."""

import re

import pandas as pd
import pytest

from helpers import draft, launch, study, units
from helpers.errors import DataError, LaunchError


def drafted(tmp_path, table, suffix="csv", out="players.yaml"):
    path = tmp_path / f"players.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    return draft.write(path, tmp_path / out)


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


def test_three_arms_are_a_control_and_two_treatments(tmp_path):
    table = pd.DataFrame({"id": range(9), "variant": ["red", "control", "blue"] * 3, "y": range(9)})
    path = drafted(tmp_path, table)
    path.write_text(path.read_text().replace("# sampling:", "sampling:"))
    read = launch.load(path)
    assert (read.arms.control, read.arms.treatment) == ("control", ("blue", "red"))
    assert read.sampling.n == {"control": 1, "blue": 1, "red": 1}


def test_what_counts_harm_is_better_lower_and_leaves_the_north_star_to_the_others(tmp_path):
    harm = ["refunds", "Churned", "n_cancelled", "crash_rate", "errors", "support_tickets", "complaint"]
    fine = ["terrors", "hours"]  # a stem starts a word
    table = pd.DataFrame({"id": range(8), "arm": ["a", "b"] * 4} | {c: range(8) for c in [*harm, *fine]})
    found = {p.metric.numerator.column: p.metric.better for p in launch.load(drafted(tmp_path, table)).plan}
    assert found == dict.fromkeys(fine, "higher") | dict.fromkeys(harm, "lower")
    assert next(iter(found)) == "terrors"


@pytest.mark.parametrize("weight", ["pw", "weight", "w", "sampling_weight"])
def test_a_weight_is_no_metric_and_works_as_suggested(tmp_path, weight):
    table = pd.DataFrame({"id": range(8), "arm": ["a", "b"] * 4, weight: [1.5, 2.5] * 4, "y": range(8)})
    path = drafted(tmp_path, table)
    assert [p.metric.name for p in launch.load(path).plan] == ["y"]
    (told,) = re.findall(r"# does each .*: (weight: .*)", path.read_text())
    path.write_text(path.read_text().replace('arm: "arm"}', f'arm: "arm", {told}}}'))
    assert launch.load(path).data.weight == weight


@pytest.mark.parametrize("event", ["left", "churned", "cancelled", "event"])
def test_a_time_to_an_event_is_suggested_and_works_as_it_stands(tmp_path, event):
    table = pd.DataFrame(
        {"id": range(8), "arm": ["a", "b"] * 4, "y": range(8), "tenure": range(8), event: [0, 0, 1, 1] * 2}
    )
    path = drafted(tmp_path, table)
    assert "time_to_event" not in {p.metric.kind for p in launch.load(path).plan}
    path.write_text(re.sub(r"# (- \{name: time_to_event)", r"\1", path.read_text()))
    (stay,) = (p.metric for p in launch.load(path).plan if p.metric.kind == "time_to_event")
    assert (stay.numerator.column, stay.event.column, stay.better) == ("tenure", event, "higher")
    assert "time_to_event" not in drafted(tmp_path, table.drop(columns="tenure"), out="other.yaml").read_text()


@pytest.mark.parametrize(("suffix", "control"), [("csv", "False"), ("parquet", "false")])
def test_a_true_or_false_arm_passes_the_first_check(tmp_path, suffix, control):
    table = pd.DataFrame({"id": range(8), "treatment": [True, False] * 4, "y": range(8)})
    read = launch.load(drafted(tmp_path, table, suffix))
    assert read.arms.control == control
    assert units.load(study.open(read)).count().execute() == 8


def test_flags_gaps_and_columns_that_are_left_out_are_told_and_the_first_check_passes(tmp_path):
    n = 40
    table = pd.DataFrame(
        {
            "id": range(n),
            "arm": ["a", "b"] * (n // 2),
            "hours": [None, *range(n - 1)],
            "kept": [None, None, *[0, 1] * 19],
        }
        | {"is_bot": [0, 1] * (n // 2), "internal": [True, False] * (n // 2), "botany": [0, 1] * (n // 2)}
        | {"price": [f"${i}.30" for i in range(n)], "note": [f"note {i} of it" for i in range(n)], "site": "x"}
        | {"signup": pd.date_range("2026-01-01", periods=n), "empty": None, "os": ["1.2", "b"] * (n // 2)}
    )
    path = drafted(tmp_path, table)
    read, text = launch.load(path), path.read_text()
    kinds = {p.metric.name: p.metric.kind for p in read.plan}
    assert kinds == {"hours": "mean", "kept": "proportion", "botany": "proportion"}
    assert read.segments == ("os",)
    assert "# missing values: hours (1), kept (2)." in text
    assert units.load(study.open(read)).count().execute() == len(table.dropna(subset=["hours", "kept"]))
    for line in (
        "# not used: price, numbers written as text: take out what is no digit ($, %, commas) to measure it",
        "# not used: note, text with 40 values, too many to compare",
        "# not used: site, the same in every row",
        "# not used: signup, a day or time",
        "# not used: empty, it has no values",
    ):
        assert line in text
    assert text.count("# not used") == 5
    assert "note 1" not in text  # values may be anything, a name or an address
    path.write_text(text.replace("# outliers:", "outliers:"))
    assert list(launch.load(path).outliers.remove) == ["is_bot", "internal"]


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
