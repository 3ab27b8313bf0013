"""Reception: a hand-made title is followed step by step; reach is told from liking on the simulated service."""

import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint, samplesize_proportions_2indep_onetail

from helpers import launch, plots, reception, study
from helpers.errors import LaunchError
from helpers.power import absolute
from helpers.results import Average, Check, NotEstimable

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: title
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 28, pre_days: 28}
metrics:
  north_star: hours_per_account_week
segments: [device]
comparables: {finished: [0.2, 0.3, 0.4, 0.5]}
privacy: {k: 2}
"""


@pytest.fixture
def tables():
    """Ten accounts have access: eight see the title, six start, five watch the pilot, three go on, two finish."""
    accounts = [f"a{i}" for i in range(12)]
    plays = pd.DataFrame(
        [
            *[(f"a{i}", 1, 0.9, 2) for i in range(5)],
            ("a5", 1, 0.2, 2),  # left the pilot
            *[(f"a{i}", 2, 0.9, 3) for i in range(3)],
            *[(f"a{i}", 3, 0.8, 4) for i in range(2)],
            ("a7", 3, 1.0, 4),  # began at the end: took no earlier step
            ("a4", 2, 1.0, 40),  # after the window
            ("a11", 1, 1.0, 2),  # control
        ],
        columns=["account", "episode", "completed_share", "day"],
    )
    return {
        "accounts": pd.DataFrame({"account": accounts, "device": ["tv"] * 5 + ["phone"] * 7}),
        "assignments": pd.DataFrame({"account": accounts, "arm": ["early"] * 10 + ["control"] * 2}),
        "titles": pd.DataFrame({"title": ["show", "other"], "is_launch_title": [True, False]}),
        "plays": plays.assign(
            session="1", title="show", watch_minutes=30.0, started_at=START + pd.to_timedelta(plays["day"], unit="D")
        ).drop(columns="day"),
        "impressions": pd.DataFrame(
            {"account": [f"a{i}" for i in range(8)], "title": "show", "shown_at": START + pd.Timedelta(hours=3)}
        ),
        "sessions": pd.DataFrame(
            {"account": accounts, "session": "1", "started_at": START, "seconds_to_first_play": 20.0}
        ),
        "feedback": pd.DataFrame(
            {"account": ["a0", "a5", "a6"], "title": ["show", "show", "other"], "given_at": START, "thumb": "down"}
        ),
    }


def opened(folder, tables, text=LAUNCH):
    (folder / "tables").mkdir(exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(folder / "tables" / f"{name}.parquet")
    path = folder / "title.yaml"
    path.write_text(text, encoding="utf-8")
    return study.open(launch.load(path))


def values(steps, name="share"):
    return [round(getattr(s, name).value, 4) for s in steps]


def test_each_step_counts_those_who_took_every_earlier_one(tmp_path, tables):
    steps = reception.funnel(opened(tmp_path, tables))
    # a7 played the last episode, and an account that plays has come across the title; it started, and left it there
    assert values(steps, "of_all") == [0.8, 0.7, 0.5, 0.3, 0.2]
    assert values(steps) == [
        0.8,
        0.875,
        round(5 / 7, 4),
        0.6,
        round(2 / 7, 4),
    ]  # who finish, as other titles are told: of starters
    low, high = proportion_confint(3, 5, method="wilson")
    assert (steps[3].share.low, steps[3].share.high) == pytest.approx((low, high), rel=1e-9)
    assert [s.among for s in steps] == [
        "all accounts",
        "came across the title",
        "started it",
        "watched the first episode",
        "started it",
    ]


def test_every_arm_is_held_against_the_same_last_episode(tmp_path, tables):
    both = LAUNCH.replace("treatment: early", "treatment: [early, later]")
    tables["assignments"].loc[8:9, "arm"] = "later"
    more = tables["plays"].iloc[:1].assign(account="a9")
    tables["plays"] = pd.concat([tables["plays"], more, more.assign(episode=2)])  # a8 and a9 are offered it later
    finished = reception.funnel(opened(tmp_path, tables, both), treatment="later")[-1]
    assert finished.of_all.value == 0  # the second of three is not the last, though nobody in this arm went further
    declared = reception.funnel(opened(tmp_path, tables, both + "show: {episodes: 2}\n"), treatment="later")[-1]
    assert declared.of_all.value == 0.5
    longer = reception.funnel(opened(tmp_path, tables, LAUNCH + "show: {episodes: 4}\n"))[-1]
    assert longer.of_all.value == 0  # of four episodes nobody has watched the last


def test_without_impressions_the_first_step_says_so_and_the_next_counts_among_all(tmp_path, tables):
    del tables["impressions"]
    steps = reception.funnel(opened(tmp_path, tables))
    assert isinstance(steps[0].share, NotEstimable)
    assert steps[1].among == "all accounts"
    assert values(steps[1:]) == [0.7, round(5 / 7, 4), 0.6, round(2 / 7, 4)]
    frame = reception.to_frame(steps)
    assert "impressions" in frame["standing"][0]


def test_a_title_that_nobody_started_has_no_later_steps(tmp_path, tables):
    tables["plays"] = tables["plays"].assign(title="other")
    steps = reception.funnel(opened(tmp_path, tables))
    assert steps[1].share.value == 0
    assert [s.share.reason for s in steps[2:]] == ["nobody came so far"] * 3
    assert plots.funnel(reception.to_frame(steps)).patches


def test_of_a_title_that_nobody_started_it_is_not_said_that_people_came_across_it_and_went_on(tmp_path, tables):
    tables["plays"] = tables["plays"].assign(title="other")
    del tables["impressions"]
    said = LAUNCH.replace("{finished: ", "{started: [0.6, 0.7, 0.8, 0.9], finished: ")
    words = reception.diagnosis(reception.funnel(opened(tmp_path, tables, said)))
    assert words == "Fewer started it than comparable titles; whether those who did went on cannot be told."


def test_without_segments_and_accounts_no_reasons_are_laid_out(tmp_path, tables):
    del tables["accounts"]
    unnamed = LAUNCH.replace("segments: [device]\n", "")
    assert reception.reasons(opened(tmp_path, tables, unnamed)).attrs["why"] == "the launch names no segments"


def test_what_the_data_lack_is_said(tmp_path, tables, players):
    tables["plays"] = tables["plays"].drop(columns="episode")
    lacking = reception.funnel(opened(tmp_path, tables))
    assert isinstance(lacking, NotEstimable)
    assert "episode" in lacking.reason
    assert "cannot be followed" in reception.diagnosis(lacking)
    assert reception.to_frame(lacking).empty
    own = study.open(launch.load(players[0]))
    assert "plays" in reception.funnel(own).reason
    assert reception.reasons(own, by=["country"]).empty


def average(low, value, high):
    return Average(
        metric="m", value=value, se=0.01, low=low, high=high, n=100, n_effective=100.0, method="Wilson score interval"
    )


@pytest.mark.parametrize(
    ("ends", "standing"),
    [
        ((0.1, 0.15, 0.2), "under"),
        ((0.2, 0.25, 0.33), "cannot tell"),
        ((0.33, 0.35, 0.42), "in line"),
        ((0.40, 0.45, 0.50), "cannot tell"),
        ((0.50, 0.55, 0.6), "above"),
        ((0.1, 0.35, 0.6), "cannot tell"),
    ],
)
def test_a_share_stands_by_its_interval_against_the_middle_half(ends, standing):
    comparable = [0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.6]  # quartiles 0.3 and 0.45
    assert reception.against(average(*ends), comparable) == standing
    assert reception.against(average(*ends), comparable[:3]) == "cannot tell"


def test_reasons_have_intervals_and_leave_small_groups_out(tmp_path, tables):
    found = reception.reasons(opened(tmp_path, tables)).set_index("level")
    wilson = {k: f"{100 * low:.0f} to {high:.0%}" for k in (0, 1, 2) for low, high in [interval(k)]}
    assert found.loc["tv"].fillna("").to_dict() == {
        "attribute": "device",
        "starters": 5,
        "left in the first episode": f"0% ({wilson[0]})",
        "no second episode": f"40% ({wilson[2]})",
        "unfinished, last seen in": "episode 1 (67%), half by minute 30",  # a3 and a4; a2 went on to the second
        "thumb down or hidden": f"20% ({wilson[1]})",
        "survey score": "",
    }
    assert found.loc["phone", "left in the first episode"].startswith("100%")  # a5 and a7
    small = reception.reasons(opened(tmp_path, tables, LAUNCH.replace("k: 2", "k: 3")))
    assert small["level"].tolist() == ["tv"]
    failed = [Check(name="Arm counts", passed=False, detail="...")]
    assert reception.reasons(opened(tmp_path, tables), checks=failed).empty
    assert "'Arm counts' failed" in reception.funnel(opened(tmp_path, tables), checks=failed).reason


def interval(k, n=5):
    return (max(x, 0.0) for x in proportion_confint(k, n, method="wilson"))


def test_reasons_weigh_accounts_as_they_were_drawn(tmp_path, tables):
    tables["assignments"]["inclusion_probability"] = [0.5 if i != 4 else 0.1 for i in range(12)]  # a4 stands for five
    pilot = tables["plays"]["episode"] == 1
    tables["plays"].loc[pilot & (tables["plays"]["account"] == "a3"), "watch_minutes"] = 12.0
    tables["surveys"] = pd.DataFrame(
        {"account": ["a0", "a4"], "prompted_at": START, "responded_at": START, "score": [2, 5]}
    )
    found = reception.reasons(opened(tmp_path, tables), by=["device"]).set_index("level").loc["tv"]
    assert found["no second episode"].startswith("67% (")  # a3 and a4: 1 + 5 of 9
    assert found["unfinished, last seen in"] == "episode 1 (86%), half by minute 30"  # 6 of 7; unweighted, 12
    assert found["survey score"].startswith("4.50 (")  # (2 + 5 * 5) / 6
    assert found["survey score"].endswith(", of 2")


@pytest.mark.parametrize(
    ("scenario", "words"),
    [("good_show_low_reach", "it was not found"), ("bad_show", "it was not liked enough")],
)
def test_reach_is_told_from_liking_on_the_simulated_service(tmp_path, scenario, words):
    path = tmp_path / "show.yaml"
    path.write_text(
        "name: show\n"
        f"data: {{source: simulate, scenario: {scenario}, accounts: 20_000, seed: 5}}\n"
        "arms: {control: control, treatment: early}\n"
        "dates: {start: 2026-09-07, days: 28, pre_days: 28}\n"
        "sampling: {n: {control: 1_000, early: 4_000}}\n"
        "metrics: {north_star: hours_per_account_week}\n"
        "comparables: {shown: [0.85, 0.88, 0.93, 0.95], finished: [0.43, 0.45, 0.51, 0.65, 0.73]}\n",
        encoding="utf-8",
    )
    assert words in reception.diagnosis(reception.funnel(study.open(launch.load(path))))


def test_comparable_titles_are_shares_of_known_steps(tmp_path, tables):
    for faulty in ("{ended: [0.1, 0.2, 0.3, 0.4]}", "{finished: [0.1, 0.2]}", "{finished: [0.1, 0.2, 0.3, 1.4]}"):
        with pytest.raises(LaunchError, match="comparables"):
            opened(tmp_path, tables, LAUNCH.replace("{finished: [0.2, 0.3, 0.4, 0.5]}", faulty))


def started(value):
    steps = {"metric": "m", "se": 0.01, "low": 0, "high": 1, "n": 100, "n_effective": 100.0, "method": "w"}
    found = value if isinstance(value, NotEstimable) else Average(value=value, **steps)
    return (reception.Step(name="started", title="started it", among="all accounts", share=found, of_all=found),)


@pytest.mark.parametrize(("alpha", "chance"), [(0.05, 0.8), (0.01, 0.9)])
def test_a_factorial_reads_each_factor_over_all_accounts(alpha, chance):
    plan = reception.follow_up(started(0.3), absolute(0.02), alpha=alpha, chance=chance)
    # each factor has half of all accounts at each level, and alpha is divided by two factors
    half = samplesize_proportions_2indep_onetail(
        0.02, 0.3, chance, ratio=1, alpha=alpha / 4, value=0, alternative="larger"
    )
    *cells, total = plan["accounts for either"]
    assert total == sum(cells) == pytest.approx(2 * half, rel=0.005)
    assert (plan["accounts for both together"] == 4 * plan["accounts for either"]).all()
    pairs = plan.iloc[:4][["placement", "message"]].drop_duplicates()
    assert len(pairs) == 4
    assert pairs.nunique().tolist() == [2, 2]


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (NotEstimable(metric="funnel", reason="it needs table 'plays'"), "nobody knows how many would start"),
        (started(NotEstimable(metric="m", reason="no plays")), "nobody knows how many would start: no plays"),
        (
            started(0.0),
            "0.0% of accounts started the title, and a share that does not vary says nothing of how many it",
        ),
        (started(0.99), "99.0% of accounts started the title, and a change of +0.02 leads out of 0 to 100%"),
    ],
)
def test_where_nothing_can_be_planned_the_reason_is_said_and_no_number_is_made_up(way, why):
    (said,) = reception.follow_up(way, absolute(0.02)).to_numpy().ravel()
    assert why in said
