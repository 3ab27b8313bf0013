"""What validity asks is counted rightly from tables; a planted loss closes the gate, a sound service opens it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers import launch, preflight, study, units, validity
from helpers.results import closed

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: hand
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 14, pre_days: 14}
sampling: {n: {control: 3, early: 1}}
metrics: {north_star: opens_per_account_week}
segments: [region]
"""


@pytest.fixture
def tables():
    """Write a service down: 8,000 accounts with a session in each of four weeks, a few nights without one."""
    rng, n = np.random.default_rng(5), 8_000
    accounts = pd.DataFrame(
        {
            "account": np.arange(n),
            "region": rng.choice(["N", "S", None], n),
            "device": rng.choice(["tv", "phone"], n),
        }
    )
    assignments = pd.DataFrame({"account": np.arange(n), "arm": np.where(np.arange(n) % 4 == 0, "early", "control")})
    sessions = pd.DataFrame({"account": np.tile(np.arange(n), 4), "week": np.repeat(np.arange(-2, 2), n)})
    sessions = sessions[rng.random(4 * n) < 0.99]
    sessions = sessions.assign(
        session=np.arange(len(sessions)),
        started_at=START + pd.to_timedelta(7 * sessions["week"] + rng.uniform(0, 7, len(sessions)), unit="D"),
        seconds_to_first_play=10.0,
        device=np.where(rng.random(len(sessions)) < 0.02, None, "tv"),
    ).drop(columns="week")
    return {"accounts": accounts, "assignments": assignments, "sessions": sessions}


@pytest.fixture
def opened(tmp_path):
    def write(tables, text=LAUNCH):
        (tmp_path / "tables").mkdir(exist_ok=True)
        for name, table in tables.items():
            table.to_parquet(tmp_path / "tables" / f"{name}.parquet")
        (tmp_path / "hand.yaml").write_text(text)
        return study.open(launch.load(tmp_path / "hand.yaml"))

    return write


def failed(data):
    return [check.name for check in preflight.checks(data) if check.passed is False]


def test_a_sound_service_passes_every_check(tables, opened):
    checks = preflight.checks(opened(tables))
    assert [(c.name, c.passed) for c in checks] == [
        ("One arm each", True),
        ("Arm counts by slice", True),
        ("Seen again", True),
        ("Missing values", True),
    ]
    assert not closed(checks)


def test_counts_equal_pandas(tables, opened):
    data = opened(tables)
    joined = tables["assignments"].merge(tables["accounts"], on="account").fillna({"region": "unknown"})
    expected = joined.groupby(["region", "arm"]).size()
    got = preflight.slices(data).query("attribute == 'region'").set_index(["level", "arm"])
    assert got["n"].to_dict() == expected.to_dict()
    assert got.xs("early", level="arm")["planned"].tolist() == pytest.approx([0.25] * 3)

    sessions = tables["sessions"].merge(tables["assignments"], on="account")
    recent = sessions[sessions["started_at"].between(START - pd.Timedelta(days=7), START, inclusive="left")]
    after = sessions[sessions["started_at"] >= START]
    seen, nulls = preflight.logged(data)
    by_arm = seen.set_index("arm")
    for arm, accounts in tables["assignments"].groupby("arm")["account"]:
        regulars = set(recent.loc[recent["arm"] == arm, "account"])
        mine = after[after["arm"] == arm]
        found = by_arm.loc[arm]
        assert found["regulars"] == len(regulars)
        assert found["again"] == len(regulars & set(mine["account"]))
        assert found["rows"] == pytest.approx(len(mine) / len(accounts))
        (lacking,) = nulls.query("arm == @arm and column == 'device of sessions'")["share"]
        assert lacking == pytest.approx(mine["device"].isna().mean())
        per_account = mine.groupby("account")["device"].agg(nulls=lambda d: d.isna().sum(), rows="size")
        scatter = ((per_account["nulls"] - lacking * per_account["rows"]) ** 2).sum()
        (se,) = nulls.query("arm == @arm and column == 'device of sessions'")["se"]
        assert se == pytest.approx(np.sqrt(scatter) / len(mine))


def test_a_region_that_loses_its_treated_accounts_is_named(tables, opened):
    joined = tables["assignments"].merge(tables["accounts"], on="account")
    lost = joined.query("arm == 'early' and region == 'N'")["account"].iloc[:200]
    data = opened(tables | {"assignments": tables["assignments"][~tables["assignments"]["account"].isin(lost)]})
    assert failed(data) == ["Arm counts by slice"]
    assert "in region N: early holds" in preflight.checks(data)[1].detail


def test_an_app_that_stops_logging_is_found(tables, opened):
    silent = np.arange(0, 400, 4)  # one in twenty of the early arm
    gone = tables["sessions"]["account"].isin(silent) & (tables["sessions"]["started_at"] >= START)
    assert failed(opened(tables | {"sessions": tables["sessions"][~gone]})) == ["Seen again"]


def test_impressions_that_one_arm_stops_logging_are_found(tables, opened):
    shown = tables["sessions"][["account", "session", "started_at"]].rename(columns={"started_at": "shown_at"})
    shown = shown.assign(title="t")
    titles = pd.DataFrame({"title": ["t"], "is_launch_title": False})
    assert failed(opened(tables | {"impressions": shown, "titles": titles})) == []
    silent = np.arange(0, 400, 4)  # one in twenty of the early arm
    gone = shown["account"].isin(silent) & (shown["shown_at"] >= START)
    data = opened(tables | {"impressions": shown[~gone], "titles": titles})
    assert failed(data) == ["Seen again"]
    assert "seen in impressions" in preflight.checks(data)[2].detail
    nameless = shown["session"].where((shown["account"] % 4 > 0) | (np.arange(len(shown)) % 10 > 0))
    assert failed(opened(tables | {"impressions": shown.assign(session=nameless), "titles": titles})) == [
        "Missing values"
    ]


def test_the_country_is_a_slice_wherever_accounts_have_one(tables, opened):
    country = np.where(np.arange(8_000) % 5 == 0, "DK", "NO")
    data = opened(tables | {"accounts": tables["accounts"].assign(country=country)})
    assert set(preflight.slices(data)["attribute"]) == {"region", "device", "country"}


def test_values_that_one_arm_does_not_log_are_found(tables, opened):
    sessions = tables["sessions"].copy()
    early = (sessions["account"] % 4 == 0) & (sessions["started_at"] >= START)
    sessions.loc[early & (np.arange(len(sessions)) % 10 == 0), "device"] = None
    assert failed(opened(tables | {"sessions": sessions})) == ["Missing values"]


def test_accounts_in_two_arms_are_counted(tables, opened):
    again = tables["assignments"].iloc[:3].assign(arm=["early", "early", "control"])  # the first is early already
    check = preflight.one_arm_each(opened(tables | {"assignments": pd.concat([tables["assignments"], again])}))
    assert check.passed is False
    assert "Of 8,000 accounts 1 stand in more than one arm and 3 more than once" in check.detail


def test_days_of_assignment_are_a_slice_and_fill_day_by_day(tables, opened):
    n = len(tables["assignments"])
    days = START + pd.to_timedelta(np.arange(n) // 1_000, unit="D")
    assigned = tables["assignments"].assign(assigned_at=days)
    lost = (assigned["arm"] == "early") & (days >= START + pd.Timedelta(days=6)) & (np.arange(n) % 8 == 0)
    data = opened(tables | {"assignments": assigned[~lost]})
    assert (
        "in day assigned 2026-09-13: early holds 125 accounts where 219"
        in validity.srm_by(preflight.slices(data)).detail
    )
    counts = preflight.arrivals(data)
    assert counts["early"].tolist() == [250] * 6 + [125] * 2
    check = validity.srm_so_far(counts, data.launch.sampling.n, accounts=n)
    assert check.passed is False
    assert re.match(r"Since 2026-09-1\d the arms", check.detail)  # the day, without the hour of midnight
    (asked,) = preflight.filling(data)
    assert (asked.passed, asked.detail) == (check.passed, check.detail)
    assert asked in preflight.checks(data)
    assert preflight.filling(opened(tables)) == ()  # nobody knows when these came


def test_strata_with_other_splits_are_held_against_their_own_plan(tables, opened):
    # 40 % of the phones are early and 10 % of the others, as the inclusion probabilities say; without them an alarm
    joined = tables["assignments"].merge(tables["accounts"], on="account")
    rng, phone = np.random.default_rng(1), joined["device"] == "phone"
    size = phone.map({True: phone.sum(), False: (~phone).sum()})
    early = rng.random(len(joined)) < np.where(phone, 0.4, 0.1)
    assigned = pd.DataFrame(
        {
            "account": joined["account"],
            "arm": np.where(early, "early", "control"),
            "stratum": joined["device"],
            "inclusion_probability": np.where(phone, np.where(early, 0.4, 0.6), np.where(early, 0.1, 0.9)) / size.max() * size.min(),
        }
    )  # fmt: skip
    data = opened(tables | {"assignments": assigned})
    assert validity.srm_by(preflight.slices(data)).passed is True
    blind = opened(tables | {"assignments": assigned.assign(inclusion_probability=0.5)})
    assert validity.srm_by(preflight.slices(blind)).passed is False


def test_a_table_with_a_row_per_account_is_asked_what_it_can_answer(players):
    path, table = players
    checks = preflight.checks(study.open(launch.load(path)))
    assert [(c.name, c.passed) for c in checks] == [
        ("One arm each", True),
        ("Arm counts by slice", True),
        ("Seen again", None),
        ("Missing values", None),
    ]
    table.loc[(table["version"] == "new") & (np.arange(len(table)) % 5 == 0), "hours"] = None
    table.to_csv(path.parent / "players.csv", index=False)


def without_values(players, missing, lost):
    """Take the hours of these accounts away, and treat what is missing so."""
    path, table = players
    table.assign(hours=table["hours"].mask(lost)).to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("arm: version}", f"arm: version, missing: {missing}}}"))
    return {c.name: c for c in preflight.checks(study.open(launch.load(path)))}


@pytest.mark.parametrize(("missing", "done"), [("zero", "were set to 0"), ("drop", "are left out")])
def test_values_that_one_arm_lacks_are_found_before_they_are_filled_or_dropped(players, missing, done):
    lost = (players[1]["version"] == "old") & (np.arange(len(players[1])) % 10 == 0)
    asked = without_values(players, missing, lost)
    assert asked["Missing values"].passed is False
    assert f"hours, 0.00% in new and {lost.sum() / 2_000:.2%} in old" in asked["Missing values"].detail
    assert asked["Missing values treated"].passed
    assert asked["Missing values treated"].detail.endswith(f"(hours) {done}, as the launch says: "
        f"{lost.sum()} of 2,000 of old, 0 of 2,000 of new.")  # fmt: skip


def test_values_that_both_arms_lack_alike_are_counted(players):
    lost = np.arange(len(players[1])) % 10 == 0
    asked = without_values(players, "zero", lost)
    assert asked["Missing values"].passed
    old, new = (int((lost & (players[1]["version"] == arm)).sum()) for arm in ("old", "new"))
    assert f"{old} of 2,000 of old, {new} of 2,000 of new" in asked["Missing values treated"].detail


def test_where_no_value_is_missing_nothing_is_said_to_be_treated(players):
    assert "Missing values treated" not in without_values(players, "zero", np.zeros(4_000, bool))


def test_of_several_treatments_it_is_said_how_much_more_often_one_looks_like_a_gain(players):
    path, table = players
    arm = table["version"].where(np.arange(len(table)) % 4 != 0, "newer")
    table.assign(version=arm).to_csv(path.parent / "players.csv", index=False)
    assert "Several treatments" not in {c.name for c in preflight.checks(study.open(launch.load(path)))}
    path.write_text(path.read_text().replace("treatment: new", "treatment: [new, newer]"))
    (said,) = (c for c in preflight.checks(study.open(launch.load(path))) if c.name == "Several treatments")
    assert "Each of 2 treatments is judged against old at the full error rate" in said.detail
    assert "up to 5.0% of launches, where a single one would in 2.5%" in said.detail


def test_accounts_in_no_arm_of_the_launch_are_counted(players):
    path, table = players
    arm = table["version"].where(np.arange(len(table)) % 20 != 0).mask(np.arange(len(table)) % 50 == 1, "newer")
    table.assign(version=arm).to_csv(path.parent / "players.csv", index=False)
    (said,) = (c for c in preflight.checks(study.open(launch.load(path))) if c.name == "Other arms")
    assert said.passed is None
    assert "280 accounts (200 without an arm, 80 of newer)" in said.detail
    path.write_text(path.read_text() + "sampling: {n: {old: 1, new: 1}, later: {newer: 80}}\n")
    table.assign(version=arm.fillna("newer")).to_csv(path.parent / "players.csv", index=False)
    assert [c.passed for c in preflight.checks(study.open(launch.load(path))) if c.name == "Other arms"] == [True]


def test_a_launch_without_a_planned_split_is_asked_whether_its_slices_are_alike(players):
    data = study.open(launch.load(players[0]))
    cells = preflight.slices(data)
    assert set(cells["attribute"]) == {"country"}
    assert cells["planned"].tolist() == pytest.approx([0.5] * len(cells))
    assert set(cells["level"]) == {"NO", "SE", "unknown"}
    assert "planned" not in preflight.checks(data)[1].detail


def test_attributes_with_too_many_levels_are_left_out(tables, opened, monkeypatch):
    monkeypatch.setattr(units, "MOST_LEVELS", 2)
    assert set(preflight.slices(opened(tables))["attribute"]) == {"device"}


def test_without_an_account_table_or_dates_of_assignment_nothing_is_made_up(tables, opened):
    data = opened({k: v for k, v in tables.items() if k != "accounts"}, LAUNCH.replace("segments: [region]\n", ""))
    data = replace(data, tables={k: v for k, v in data.tables.items() if k != "accounts"})
    assert validity.srm_by(preflight.slices(data)).passed is None
    assert preflight.arrivals(data).empty


def test_an_own_table_with_strata_and_weights_is_held_against_its_own_plan(players):
    path, table = players
    rng, norway = np.random.default_rng(2), table["country"] == "NO"
    new = rng.random(len(table)) < np.where(norway, 0.8, 0.3)
    chance = np.where(norway, np.where(new, 0.8, 0.2), np.where(new, 0.3, 0.7))
    drawn = table.assign(version=np.where(new, "new", "old"), part=np.where(norway, "NO", "else"), weight=1 / chance)
    drawn.to_csv(path.parent / "players.csv", index=False)
    split = f"sampling: {{n: {{old: {(~new).sum()}, new: {new.sum()}}}}}\n"
    path.write_text(path.read_text() + split)
    assert failed(study.open(launch.load(path))) == ["Arm counts by slice"]
    path.write_text(path.read_text().replace("arm: version}", "arm: version, weight: weight, stratum: part}"))
    assert failed(study.open(launch.load(path))) == []


def test_strata_without_weights_must_be_split_alike(players):
    path, table = players
    heavy = table["history"] > table["history"].median()
    new = table["version"] == "new"
    few = heavy & ~new & (table.index % 2 == 0)  # half of the heavy accounts of one arm is lost
    table.assign(part=np.where(heavy, "heavy", "light"))[~few].to_csv(path.parent / "players.csv", index=False)
    assert failed(study.open(launch.load(path))) == []
    path.write_text(path.read_text().replace("arm: version}", "arm: version, stratum: part}"))
    assert failed(study.open(launch.load(path))) == ["Arm counts by slice"]


@pytest.mark.parametrize(
    ("unit", "members", "passed", "said"),
    [
        ("{randomised: account}", 1, "not asked", ""),
        ("{randomised: region, analysed: region}", 1, "not asked", ""),
        ("{randomised: region, errors: cluster}", 1, False, "1 of 2 have accounts in several arms"),
        ("{randomised: household, errors: cluster}", 1, True, "one account stands for each"),
        ("{randomised: household, errors: cluster}", 2, True, "households (4,000 of them), each whole in one arm"),
        ("{randomised: household, errors: cluster}", 0, None, "no column 'household' says which accounts share one"),
    ],
)
def test_accounts_that_were_drawn_together_are_not_read_as_if_alone(tables, opened, unit, members, passed, said):
    accounts = tables["accounts"].assign(region=np.where(np.arange(8_000) % 2, "N", "S"))
    if members:
        accounts = accounts.assign(household=[f"h{k // (4 * members) * 4 + k % 4}" for k in range(8_000)])
    data = opened(tables | {"accounts": accounts}, LAUNCH + f"unit: {unit}\n")
    found = [c for c in preflight.checks(data) if c.name == "Drawn together"]
    assert [c.passed for c in found] == ([] if passed == "not asked" else [passed])
    assert all(said in c.detail for c in found)


def test_a_log_that_knows_no_household_of_an_arm_stops_a_launch_that_drew_households_too(tables, opened):
    home = np.array([f"h{k // 8 * 4 + k % 4}" for k in range(8_000)])
    treated = tables["assignments"]["arm"].eq("early").to_numpy()
    tables["sessions"] = tables["sessions"][treated[tables["sessions"]["account"]]]
    homes = {"accounts": tables["accounts"].assign(household=home)}
    check = seen_again(opened(tables | homes, LAUNCH + "unit: {randomised: household, errors: cluster}\n"))
    assert check.passed is False  # 4,000 households of two: it was "not held against the launch"
    assert check.detail.endswith("of other arms and none of control: " + validity.LOST + ".")
    few = np.where(treated, np.arange(8_000) // 4 % 3, 3 + np.arange(8_000) % 3).astype(str)
    few = {"accounts": tables["accounts"].assign(household=few)}
    few = seen_again(opened(tables | few, LAUNCH + "unit: {randomised: household, errors: cluster}\n"))
    assert few.passed is None  # six clusters may fall like this


def seen_again(data):
    return next(c for c in preflight.checks(data) if c.name == "Seen again")


def test_regions_of_an_own_table_are_counted_too(players):
    path, _ = players
    path.write_text(path.read_text().replace("segments:", "unit: {randomised: region}\nsegments:"))
    (asked,) = preflight.drawn_together(study.open(launch.load(path)))
    assert asked.passed is False
    assert "no column 'region' says which accounts share one" in asked.detail
    named = path.read_text().replace("unit: {randomised: region}", "unit: {randomised: household}\n")
    named = named.replace("metrics:", "sampling: {n: {old: 1, new: 1}, household: country}\nmetrics:")
    path.write_text(named)
    (asked,) = preflight.drawn_together(study.open(launch.load(path)))
    assert "have accounts in several arms" in asked.detail  # nobody drew countries whole
