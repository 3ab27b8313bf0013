"""A launch's draw: what the file says is what is drawn, and later it can be proved."""

import textwrap

import ibis
import numpy as np
import pandas as pd
import pytest
from test_sampling import people

from helpers import assignment, cli, handover, launch, roster, sampling, study
from helpers.errors import DataError, LaunchError, ParameterError

LAUNCH = textwrap.dedent("""\
    name: early
    data: {source: events, account: account}
    arms: {control: usual, treatment: early}
    dates: {start: 2026-09-07, days: 28}
    metrics:
      north_star: hours_per_account_week
      supporting: [opens_per_account_week]
      guardrails: [{metric: churn_28d, margin: +10%}]
    segments: [tv]
    sampling: {n: {usual: 200, early: 100}, strata: [region]MORE}
    """)
KEY = "a secret of sixteen"


def written(folder, more=""):
    path = folder / "early.yaml"
    path.write_text(LAUNCH.replace("MORE", more and f", {more}"))
    return path


@pytest.fixture
def accounts(tmp_path):
    frame = people(3_000).rename(columns={"hours": "past_weekly_hours"})
    frame.to_parquet(tmp_path / "accounts.parquet")
    return frame


def loaded(folder, more=""):
    return launch.load(written(folder, more))


def taken(one, frame, **more):
    return assignment.draw(one, ibis.memtable(frame), **more).execute().sort_values("account", ignore_index=True)


def test_flags_of_the_contract_and_households_need_not_be_named(tmp_path, accounts):
    got = taken(loaded(tmp_path), accounts)
    mine = accounts.set_index("account").loc[got["account"]]
    assert got.groupby("arm").size().to_dict() == {"early": 100, "usual": 200}
    assert not mine["employee"].any()
    assert mine["household"].is_unique


def test_what_the_launch_excludes_replaces_the_defaults(tmp_path, accounts):
    one = loaded(tmp_path, "exclude: [{region: [south, unknown]}, {past_weekly_hours: {gt: 20}}, {tv: true}]")
    mine = accounts.set_index("account").loc[taken(one, accounts)["account"]]
    assert mine["employee"].any()
    assert not ((mine["region"] == "south") | mine["tv"] | (mine["past_weekly_hours"] > 20)).any()


def test_designs_are_written_in_the_launch(tmp_path, accounts):
    one = loaded(
        tmp_path, "oversample: {tv=true: 3, region=south: {n: 40}}, minimum: 5, holdout: 2%, later: {stage_2: 500}"
    )
    assert assignment.design(one) == sampling.Design(minimum=5, oversample={"tv=true": 3.0}, fixed={"region=south": 40})
    assert one.sampling.holdout == 0.02
    got = taken(one, accounts)
    south = got["account"].isin(accounts.loc[accounts["region"] == "south", "account"])
    assert got[south].groupby("arm").size().to_dict() == {"early": 40, "usual": 40}
    everybody = taken(one, accounts, later=True)
    assert everybody.groupby("arm").size()["stage_2"] == 500
    assert everybody["account"].is_unique


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("oversample: {engagement: 5}", "write the level as 'column=level'"),
        ("rule: neyman", "needs 'past'"),
        ("salts: 5", "go together"),
        ("later: {early: 5}", "'early' is an arm of this launch"),
        ("holdout: 120%", "less than 1"),
        ("exclude: [{region: {near: x}}]", "a condition is one of"),
        ("match: {by: [past_weekly_hours]}, later: {x: 5}", "neither 'salts' nor 'later'"),
        ("obective: both", "did you mean 'objective'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_line_and_key(tmp_path, more, message):
    with pytest.raises(LaunchError, match=message):
        loaded(tmp_path, more)


def test_a_matched_control_needs_a_whole_multiple(tmp_path):
    text = LAUNCH.replace("MORE", ", match: {by: [past_weekly_hours]}").replace("usual: 200", "usual: 250")
    (tmp_path / "early.yaml").write_text(text)
    with pytest.raises(LaunchError, match="one, two, three … times its accounts"):
        launch.load(tmp_path / "early.yaml")


def test_the_best_of_several_salts_is_chosen_the_same_way_every_time(tmp_path, accounts):
    one = loaded(tmp_path, "salts: 3, balance: [past_weekly_hours, tv]")
    table = assignment.salts(one, ibis.memtable(accounts))
    assert table["salt"].tolist() == ["early", *(f"early#{k}" for k in range(2, 4))]
    best = table.loc[table["imbalance"].idxmin(), "salt"]
    assert assignment.chosen_salt(one, ibis.memtable(accounts)) == best
    pd.testing.assert_frame_equal(taken(one, accounts), taken(one, accounts.sample(frac=1, random_state=3), salt=best))


def test_ordinary_intervals_are_conservative_after_the_choice_among_salts():
    # Morgan and Rubin (2012), with the best of 10 draws: an outcome that the attribute explains varies less over the
    # launches than an ordinary interval thinks, so the interval covers more often than it says.
    rng, times, n = np.random.default_rng(1), 1_000, 100
    x = rng.normal(size=(times, 10, 2 * n))
    best = np.abs(x[:, :, :n].mean(axis=2) - x[:, :, n:].mean(axis=2)).argmin(axis=1)
    x = x[np.arange(times), best]
    y = x + rng.normal(scale=0.5, size=x.shape)
    gap = y[:, :n].mean(axis=1) - y[:, n:].mean(axis=1)
    error = np.sqrt((y[:, :n].var(axis=1, ddof=1) + y[:, n:].var(axis=1, ddof=1)) / n)
    assert np.mean(np.abs(gap) <= 1.96 * error) > 0.985
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(times)


def test_a_matched_control_stands_beside_its_treated_and_in_no_held_out_household(tmp_path, accounts):
    one = loaded(tmp_path, "match: {by: [past_weekly_hours]}, holdout: 10%")
    frame = ibis.memtable(accounts)
    got, match = taken(one, accounts), assignment.matched(one, frame)
    assert match.words.startswith("Matched control: ")
    assert got.groupby("arm").size()["early"] == 100
    assert got["account"].is_unique
    assert accounts.set_index("account").loc[got["account"], "household"].is_unique
    random = loaded(tmp_path, "holdout: 10%")
    everybody = sampling.drawable(assignment.eligible(random, frame), salt="early", household="household", holdout=0.1)
    allowed = assignment.plan(one, frame).units.account.execute()
    assert len(allowed) == everybody
    assert set(got["account"]) <= set(allowed)
    side = [
        accounts.set_index("account")["past_weekly_hours"].loc[match.pairs[c]].to_numpy()
        for c in ("treated", "control")
    ]
    assert np.abs(side[0] - side[1]).max() <= 0.25 * accounts["past_weekly_hours"].std() * 1.01
    with pytest.raises(LaunchError, match="drawn at random"):
        assignment.matched(random, frame)


def test_columns_that_are_not_there_name_the_nearest(tmp_path, accounts):
    for more in ("salts: 2, balance: [past_weekly_hour]", "match: {by: [past_weekly_hour]}", "household: houshold"):
        with pytest.raises(DataError, match=r"did you mean '(past_weekly_hours|household)'"):
            taken(loaded(tmp_path, more), accounts)


# The file


@pytest.mark.parametrize("name", ["draw.csv", "draw.parquet"])
def test_the_draw_goes_to_a_file_and_is_proved_later(tmp_path, accounts, monkeypatch, capsys, name):
    monkeypatch.setenv(handover.KEY, KEY)
    path, out, frame = written(tmp_path, "later: {stage_2: 300}"), tmp_path / name, str(tmp_path / "accounts.parquet")
    assert cli.main(["draw", str(path), "--frame", frame, "--out", str(out)]) == 0
    rows = handover.read(out)
    assert list(rows) == ["pseudonym", "arm", "stratum", "inclusion_probability", "weight", "salt", "launch"]
    assert rows["arm"].value_counts().to_dict() == {"stage_2": 300, "usual": 200, "early": 100}
    assert not set(rows["pseudonym"]) & set(accounts["account"])
    assert set(rows["launch"]) == {launch.load(path).content_hash}
    assert cli.main(["check", str(path), "--assignment", str(out), "--frame", frame]) == 0
    assert "holds the 600 accounts" in capsys.readouterr().out
    assert cli.main(["draw", str(path), "--frame", frame, "--out", str(out)]) == 2  # a record stays
    assert "is there already" in capsys.readouterr().err


def test_what_was_changed_is_counted(tmp_path, accounts, capsys):
    path, out, frame = written(tmp_path), tmp_path / "draw.csv", str(tmp_path / "accounts.parquet")
    assert cli.main(["draw", str(path), "--frame", frame, "--out", str(out), "--accounts"]) == 0
    rows = pd.read_csv(out)
    assert set(rows["account"]) <= set(accounts["account"])
    rows.loc[0, "arm"] = "usual" if rows.loc[0, "arm"] == "early" else "early"
    rows.loc[1, "account"] = "somebody else"
    rows.loc[2, "weight"] = 1.0
    pd.concat([rows, rows.tail(1)]).to_csv(out, index=False)
    capsys.readouterr()
    assert cli.main(["check", str(path), "--assignment", str(out), "--frame", frame]) == 1
    said = capsys.readouterr().out
    assert "accounts: 1 drawn but not in the file, 1 in the file but not drawn, 1 in another arm, " in said
    assert "1 with another stratum or weight, 1 in the file twice." in said


def test_a_launch_that_changed_since_is_said(tmp_path, accounts, capsys):
    path, out, frame = written(tmp_path), tmp_path / "draw.csv", str(tmp_path / "accounts.parquet")
    cli.main(["draw", str(path), "--frame", frame, "--out", str(out), "--accounts"])
    path.write_text(path.read_text() + "decision: {alpha: 0.1}\n")
    assert cli.main(["check", str(path), "--assignment", str(out), "--frame", frame]) == 0
    assert "has changed since the file was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "L", "--assignment", "missing.csv", "--frame", "F"], "there is no such file"),
        (["check", "L", "--assignment", "F", "--frame", "F"], "expected a file that 'premiere draw' has written"),
        (["check", "L", "--frame", "F"], "--frame goes with --assignment"),
        (["draw", "L", "--out", "x.csv", "--frame", "F"], "PREMIERE_KEY is not set"),
        (["draw", "L", "--out", "x.xlsx", "--frame", "F", "--accounts"], "write .csv or .parquet"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_sentence(tmp_path, accounts, monkeypatch, capsys, arguments, message):
    monkeypatch.delenv(handover.KEY, raising=False)
    places = {"L": str(written(tmp_path)), "F": str(tmp_path / "accounts.parquet")}
    assert cli.main([places.get(a, a) for a in arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_key_too_short_to_be_secret_is_refused(monkeypatch):
    monkeypatch.setenv(handover.KEY, "short")
    with pytest.raises(ParameterError, match="fewer than 16 characters"):
        handover.secret()


# The roster


@pytest.fixture
def events(tmp_path, accounts):
    one = loaded(tmp_path)
    folder = tmp_path / "events"
    folder.mkdir()
    accounts.to_parquet(folder / "accounts.parquet")
    taken(one, accounts).drop(columns="weight").to_parquet(folder / "assignments.parquet")
    return study.open(one)


def test_the_roster_tells_eligibility_quotas_and_chances(events, accounts):
    funnel = roster.funnel(events)
    assert funnel["rule"].tolist() == ["all accounts", "employee", "shares a household with one that stands for it"]
    left = accounts[~accounts["employee"]]
    assert funnel["left"].tolist() == [3_000, len(left), left["household"].nunique()]
    assert roster.verify(events).passed is True
    assert roster.quotas(events)[["early", "usual"]].sum().tolist() == [100, 200]
    check, means = roster.redraws(events, times=300)
    assert check.passed is True
    assert means["design"].tolist() == ["simple random", "as planned"]
    assert means["covered"].between(0.9, 0.99).all()
    assert "random" in roster.control(events)
    attributes = roster.attributes(events)
    chance = roster.chance(events, attributes)
    assert chance.passed is True
    balance = sampling.balance(roster.frame(events), roster.assigned(events), attributes)
    assert roster.likeness(events, balance, chance).passed in (True, None)
    assert roster.summary(events)["stand for"].tolist() == pytest.approx([len(left)] * 2, rel=0.1)


def test_a_moved_account_fails_the_check_and_a_missing_stratum_is_said(tmp_path, events):
    path = tmp_path / "events" / "assignments.parquet"
    rows = pd.read_parquet(path)
    rows.loc[0, "arm"] = "usual" if rows.loc[0, "arm"] == "early" else "early"
    rows.to_parquet(path)
    assert "1 accounts are not in the arm" in roster.verify(study.open(events.launch)).detail
    other = study.open(launch.load(written(tmp_path, "minimum: 90")))
    assert roster.verify(other).passed is None
    assert "cannot be made from these data: a minimum of 90" in roster.verify(other).detail
    assert roster.quotas(other).empty


def test_designs_for_an_audience_are_compared_in_words(events):
    table = roster.designs(events, "tv=true")
    assert table["design"].tolist() == ["simple random", "in proportion", "Neyman", "audience × 5"]
    assert "narrower" in roster.niche(table, "tv=true")
    assert roster.recommended(events, "tv=true").name == "in proportion"
    for absent in ("", "tv=maybe", "nothing=x"):
        assert roster.designs(events, absent).empty
    assert "cannot be compared" in roster.niche(roster.designs(events, ""), "")
    assert roster.control_sizes(events, sizes=(1_000,))["standard error ×"].tolist() == [1.0, 0.866, 0.742]
