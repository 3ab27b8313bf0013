"""The worked examples: copied formulas give their wrong numbers, ours the right ones, computed here once more."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from helpers import launch, lessons, quadrant, scorecard, study, units


@pytest.fixture(scope="module")
def harm():
    return lessons.harmful()


@pytest.fixture
def four_sessions(tmp_path):
    """Write the fixture: two long sessions that start at once, two that never play."""
    start = pd.Timestamp("2026-09-07", tz="UTC")
    folder = tmp_path / "tables"
    folder.mkdir()
    accounts = [f"a{i}" for i in range(8)]
    pd.DataFrame({"account": accounts, "arm": ["old", "new"] * 4}).to_parquet(folder / "assignments.parquet")
    at = [start + pd.Timedelta(days=d) for d in (1, 2, 13, 13)]
    sessions = pd.DataFrame(
        {
            "account": ["a0", "a0", "a2", "a4"],
            "session": ["s0", "s1", "s2", "s3"],
            "started_at": at,
            "seconds_to_first_play": [60.0, 30.0, np.nan, np.nan],
        }
    )
    sessions.to_parquet(folder / "sessions.parquet")
    plays = pd.DataFrame(
        {
            "account": ["a0", "a0", "a1"],
            "session": ["s0", "s1", "x"],
            "title": "t",
            "started_at": [at[0], at[1], at[3]],
            "watch_minutes": [120.0, 30.0, 60.0],
            "initiation": "browse",
        }
    )
    plays.to_parquet(folder / "plays.parquet")
    path = tmp_path / "small.yaml"
    path.write_text(
        "name: small\ndata: {source: tables}\narms: {control: old, treatment: new}\n"
        "dates: {start: 2026-09-07, days: 14}\nmetrics: {north_star: hours_per_account_week}\n"
    )
    return study.open(launch.load(path))


def test_on_a_fixture_by_hand_the_copied_code_errs_and_ours_does_not(four_sessions):
    rows = lessons.copied(four_sessions).set_index("the question")
    fast, hours = rows.iloc[0], rows.iloc[1]
    # Two of four sessions started within five minutes; none of the two lasted so short.
    assert (fast["its answer"], fast["the right answer"]) == ("0.0%", "50.0%")
    # One account came in one week, 150 minutes; four accounts and two weeks.
    assert (hours["its answer"], hours["the right answer"]) == ("2.50 h", f"{150 / 60 / 8:.2f} h")


def test_the_impossible_lift_gets_four_accounts_by_the_formula_and_none_by_us(four_sessions):
    row = lessons.copied(four_sessions).iloc[3]
    assert row["its answer"] == "4 in each arm"
    assert "108%" in row["the right answer"]


def test_on_simulated_data_the_right_answers_are_those_of_the_units_table(harm):
    rows = lessons.copied(harm)
    table = units.load(harm)
    minutes = table.filter(table.arm == "as it is")["plays_sum_watch_minutes"].execute()
    assert rows["the right answer"][1] == f"{minutes.mean() / 60 / 4:.2f} h"
    assert rows["its answer"][2].startswith("error: root of −")


def test_own_data_lose_their_rows_in_words_only(players):
    rows = lessons.copied(study.open(launch.load(players[0])))
    assert len(rows) == 5
    assert rows["its answer"][0].startswith("not computed")
    assert "kept" in rows["the right answer"][4]


def test_a_total_rises_in_both_arms_of_a_launch_that_is_hollow(harm):
    totals = lessons.running_total(harm)
    for _, rows in totals.groupby("arm"):
        assert (rows["total"].diff().dropna() > 0).all()
    hours = harm.table("plays").select("started_at", "watch_minutes").execute()
    hours = hours[(hours["started_at"] >= pd.Timestamp(dt.date(2026, 9, 7), tz="UTC"))]["watch_minutes"].sum() / 60_000
    assert totals.groupby("arm")["total"].max().sum() == pytest.approx(hours, rel=1e-9)
    assert quadrant.find(scorecard.measure(harm).claims).label == "hollow engagement"
