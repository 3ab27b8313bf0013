"""Every fault of an event log is found, counted by arm, and treated as the launch says; sound logs pass."""

import math

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import launch, logs, scorecard, study, units
from helpers.errors import DataError
from helpers.results import Estimate

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: hand
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 28, pre_days: 28}
metrics: {north_star: hours_per_account_week, supporting: [session_minutes]}
"""
DIRTY = """\
name: dirty
data: {source: simulate, scenario: show_premiere+dirty_events, accounts: 4_000, seed: 3}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 28, pre_days: 28}
sampling: {n: {control: 1_200, early: 1_200}}
metrics: {north_star: hours_per_account_week, supporting: [session_minutes]}
"""


def at(day, hour=12):
    return START + pd.Timedelta(days=day, hours=hour)


def tables(n=40):
    """Write a small sound service: each account has one session with two plays on most days."""
    rng = np.random.default_rng(5)
    account = np.repeat([f"a{i:02}" for i in range(n)], 20)
    began = START + pd.to_timedelta(np.tile(np.linspace(-10, 27, 20).round(), n), unit="D") + pd.Timedelta(hours=12)
    session = [f"s{i}" for i in range(len(account))]
    sessions = pd.DataFrame(
        {"account": account, "session": session, "started_at": began, "seconds_to_first_play": 30.0}
    )
    first = pd.DataFrame(
        {
            "account": account,
            "session": session,
            "title": rng.choice(["x", "y"], len(account)),
            "started_at": began + pd.Timedelta(seconds=30),
            "watch_minutes": rng.integers(10, 60, len(account)).astype(float),
            "completed_share": 0.5,
            "initiation": "browse",
        }
    )
    return {
        "assignments": pd.DataFrame({"account": sorted(set(account)), "arm": ["control", "early"] * (n // 2)}),
        "titles": pd.DataFrame({"title": ["x", "y"], "is_launch_title": [True, False]}),
        "sessions": sessions,
        "plays": pd.concat([first, first.assign(started_at=first["started_at"] + pd.Timedelta(hours=1))]),
        "surveys": pd.DataFrame({"account": ["a00"], "prompted_at": [at(3)], "responded_at": [at(3, 13)]}),
    }


def count(frames, **more):
    opened = {name: ibis.memtable(frame.reset_index(drop=True)) for name, frame in frames.items()}
    return logs.count(opened, opened["assignments"], **more)


def test_a_sound_log_has_no_fault():
    assert count(tables()).empty
    found = logs.check(count(tables()), ["control", "early"], "refuse")
    assert found.passed
    assert "No row" in found.detail


def changed(table, column, value, row=0):
    def change(frames):
        frame = frames[table].reset_index(drop=True)
        frame[column] = frame[column].astype(object) if isinstance(value, str) else frame[column]
        frame.loc[row, column] = value
        frames[table] = frame

    return change


def again(table):
    def change(frames):
        frames[table] = pd.concat([frames[table], frames[table].head(1)])

    return change


def all_day(frames):
    extra = frames["plays"].head(1)
    extra = pd.concat([extra.assign(started_at=extra["started_at"] + pd.Timedelta(hours=h)) for h in (2, 3, 4)])
    frames["plays"] = pd.concat([frames["plays"], extra.assign(watch_minutes=500.0)])


def received(hours):
    def change(frames):
        frames["plays"]["received_at"] = frames["plays"]["started_at"] + pd.Timedelta(hours=1)
        changed("plays", "received_at", frames["plays"]["started_at"].iloc[0] + pd.Timedelta(hours=hours))(frames)

    return change


REPEATED = "repeat another's account, session, title, started_at, watch_minutes"
FAULTS = {
    "negative": (changed("plays", "watch_minutes", -1.0), "watch_minutes: are below 0", True),
    "more than a day in one play": (changed("plays", "watch_minutes", 1441.0), "watch_minutes: are above 1,440", True),
    "more than a day in all": (all_day, "account days have more than 24 hours of viewing", True),
    "NaN": (changed("plays", "completed_share", math.inf), "completed_share: are NaN or infinite", True),
    "beyond the whole": (changed("plays", "completed_share", 1.01), "completed_share: are above 1", True),
    "a word that means nothing": (changed("plays", "initiation", "<script>"), "initiation: are none of", True),
    "no account": (changed("plays", "account", None), "account: have no value", True),
    "the same play twice": (again("plays"), REPEATED, True),
    "the same session twice": (again("sessions"), "repeat another's account, session", True),
    "the same title twice": (again("titles"), "title: repeat a key that must be unique", True),
    "a clock behind": (changed("plays", "started_at", at(-12)), "begin before their session; is a clock wrong?", True),
    "a clock ahead": (received(-1), "started_at: lie after they were received; is a clock wrong?", True),
    "an answer before its question": (changed("surveys", "responded_at", at(2)), "responded_at: lie before their", True),
    "late": (received(72), "came more than 48 hours late", False),
    "a play without its session": (changed("plays", "session", "?"), "have no partner in 'sessions'", False),
    "a play of no title": (changed("plays", "title", "?"), "have no partner in 'titles' (title)", False),
}  # fmt: skip


@pytest.mark.parametrize(("change", "fault", "impossible"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_found_alone_and_in_its_arm(change, fault, impossible):
    frames = tables()
    change(frames)
    found, *others = count(frames).to_dict("records")
    assert len(others) == ((fault.startswith("account: ") or "infinite" in fault) and 1)  # no partner; above 1
    assert found["fault"].startswith(fault)
    assert found["impossible"] == impossible
    assert found["rows"] == 1
    assert found["arm"] == {"title: repeat a key that must be unique": "all", "account: have no value": "none"}.get(
        found["fault"], "control"
    )


@pytest.mark.parametrize(("change", "fault", "impossible"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_left_has_no_impossible_row_and_every_other_one(change, fault, impossible):
    frames = tables()
    change(frames)
    opened = {name: ibis.memtable(frame.reset_index(drop=True)) for name, frame in frames.items()}
    kept = logs.sound(opened)
    left = logs.count(kept, opened["assignments"])
    assert not left["impossible"].any()
    assert len(left) == (not impossible)
    lost = sum(len(frames[name]) - kept[name].count().execute() for name in frames)
    assert lost == (5 if "24 hours" in fault else 1 if impossible else 0)  # the whole day, of five plays


def test_rows_of_accounts_that_nobody_assigned_are_passed_over():
    frames = tables()
    changed("plays", "watch_minutes", -1.0)(frames)
    frames["assignments"] = frames["assignments"].iloc[1:]
    assert count(frames).empty


def write(tmp_path, frames, text):
    (tmp_path / "tables").mkdir(exist_ok=True)
    for name, frame in frames.items():
        frame.to_parquet(tmp_path / "tables" / f"{name}.parquet")
    (tmp_path / "hand.yaml").write_text(text)
    return study.open(launch.load(tmp_path / "hand.yaml"))


def policy(word):
    return LAUNCH.replace("source: tables", f"source: tables, faults: {word}")


def test_a_launch_refuses_drops_or_keeps_as_it_says(tmp_path):
    frames = tables()
    again("plays")(frames)
    with pytest.raises(DataError, match=f"hand: table 'plays': 1 rows {REPEATED}\n.*faults: drop"):
        units.load(write(tmp_path, frames, LAUNCH))
    dropped = units.load(write(tmp_path, frames, policy("drop"))).execute().set_index("account")
    kept = units.load(write(tmp_path, frames, policy("keep"))).execute().set_index("account")
    column = "plays_sum_watch_minutes"
    first = frames["plays"].iloc[0]
    expected = tables()["plays"].query("account == 'a00' and started_at >= @START")["watch_minutes"].sum()
    assert dropped.loc["a00", column] == expected
    before = first["started_at"] < START
    assert (
        kept.loc["a00", column + "_pre" * before]
        == dropped.loc["a00", column + "_pre" * before] + first["watch_minutes"]
    )


def test_what_is_late_or_lacks_a_partner_is_told_and_refuses_nothing(tmp_path):
    frames = tables()
    changed("plays", "session", "?")(frames)
    card = scorecard.measure(write(tmp_path, frames, LAUNCH))
    (check,) = [c for c in card.checks if c.name == "Event logs"]
    assert check.passed
    assert "1 of plays have no partner in 'sessions' (account, session)" in check.detail


def test_an_own_table_has_no_events_to_ask_about(players):
    path, _ = players
    card = scorecard.measure(study.open(launch.load(path)))
    assert "Event logs" not in [c.name for c in card.checks]
    path.write_text(path.read_text().replace("arm: version}", "arm: version, faults: drop}"))
    with pytest.raises(launch.LaunchError, match="'faults' is for event tables; for one table, see 'missing'"):
        launch.load(path)


def test_dirty_events_are_refused_and_can_be_dropped_alike_in_both_arms(tmp_path):
    (tmp_path / "dirty.yaml").write_text(DIRTY)
    with pytest.raises(DataError) as refused:
        units.load(study.open(launch.load(tmp_path / "dirty.yaml")))
    for words in ("are above 1,440", "repeat another's", "begin before their session"):
        assert words in str(refused.value)
    (tmp_path / "dirty.yaml").write_text(DIRTY.replace("seed: 3", "seed: 3, faults: drop"))
    data = study.open(launch.load(tmp_path / "dirty.yaml"))
    card = scorecard.measure(data)
    (check,) = [c for c in card.checks if c.name == "Event logs"]
    assert check.passed
    assert "left out, in all arms by the same rule" in check.detail
    assert all(arm in check.detail for arm in ("control", "early"))
    found = units.faults(data).groupby("fault")["rows"].sum()
    rows = data.raw["plays"].count().execute()
    assert found["watch_minutes: are above 1,440"] / rows == pytest.approx(0.001, rel=0.3)
    assert found[REPEATED] / rows == pytest.approx(0.01, rel=0.1)
    assert found["begin before their session; is a clock wrong?"] / rows == pytest.approx(0.005, rel=0.15)
    truth = data.reveal().query("segment == 'all'").set_index("metric")["diff"]
    for claim in card.claims:
        assert isinstance(e := claim.estimate, Estimate)
        assert abs(truth[claim.metric] - e.diff) < 3 * e.se


def test_faults_of_one_arm_alone_close_the_gate():
    frame = pd.DataFrame(
        {
            "table": "plays",
            "fault": "repeat another's key",
            "impossible": True,
            "arm": ["control", "early"],
            "rows": [900, 1_100],
            "of": [90_000, 92_000],
            "se": [0.0003, 0.0004],
        }
    )
    found = logs.check(frame, ["control", "early"], "drop")
    assert found.p == pytest.approx(2 * stats.norm.sf((1_100 / 92_000 - 0.01) / 0.0005))
    assert found.passed is False
    assert "on one arm more than on the other" in found.detail
    more = frame.assign(rows=[900, 1_080], of=[90_000, 108_000])  # a fifth more rows, and as many more faulty ones
    assert logs.check(more, ["control", "early"], "drop").passed
    lost = frame.assign(fault="have no partner in 'sessions'", impossible=False, rows=[90_000, 0], se=0.0)
    found = logs.check(lost, ["control", "early"], "drop")  # the sessions of control are gone: no account varies
    assert (found.passed, "control 100.00%, early 0.00%" in found.detail) == (False, True)
    assert logs.check(lost.assign(rows=[90_000, 92_000]), ["control", "early"], "drop").passed
    assert logs.check(lost.assign(rows=[1, 0], of=[1, 5]), ["control", "early"], "drop").passed  # may well be chance


def test_the_error_of_a_faults_share_is_over_accounts():
    frames = tables()
    rng = np.random.default_rng(6)
    plays = frames["plays"].reset_index(drop=True)
    plays.loc[rng.choice(len(plays), 60, replace=False), "watch_minutes"] = -1.0
    found = count(frames | {"plays": plays}).set_index("arm")
    arm = frames["assignments"].set_index("account")["arm"]
    each = plays.assign(k=plays["watch_minutes"] < 0).groupby("account")["k"].agg(["sum", "size"])
    for name, mine in each.groupby(arm):
        share = mine["sum"].sum() / mine["size"].sum()
        residual = mine["sum"] - share * mine["size"]
        assert found.loc[name, "se"] == pytest.approx(np.sqrt((residual**2).sum()) / mine["size"].sum())
