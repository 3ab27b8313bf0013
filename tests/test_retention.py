"""Going on from episode to episode: censoring, hazards, what hooks, cohorts, and hours beside episodes left."""

from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from helpers import launch, metrics, retention, simulate, study, wording
from helpers.errors import ParameterError
from helpers.results import Check, Estimate, NotEstimable
from helpers.simulate import outcomes, people, viewing, worlds
from helpers.timeline import fading

START = pd.Timestamp("2026-09-07", tz="UTC")
AML = {  # R 4.2.2, survival::survfit(Surv(time, status) ~ 1, aml, subset = x == "Maintained", conf.type = "log-log")
    "time": [9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161],
    "status": [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0],
}


def counted(times, events):
    rows = pd.DataFrame({"watched": times, "left": np.asarray(events, dtype=bool)})
    return rows.groupby(["watched", "left"], as_index=False).size().rename(columns={"size": "viewers"})


def opened(plays, /, **changes):
    """Open a launch with 28 days: `plays` names account, episode and day, for 45 minutes; everybody comes every day."""
    frame = pd.DataFrame(plays, columns=["account", "episode", "day"])
    accounts = sorted({a for a, _, _ in plays} | {"nobody"})
    tables = {
        "assignments": pd.DataFrame({"account": accounts, "arm": "early"}),
        "accounts": pd.DataFrame({"account": accounts, "engagement": "light"}),
        "titles": pd.DataFrame({"title": ["show", "x"], "is_launch_title": [True, False]}),
        "plays": pd.DataFrame(
            {
                "account": frame["account"],
                "session": "s",
                "title": "show",
                "episode": frame["episode"],
                "started_at": START + pd.to_timedelta(frame["day"], unit="D"),
                "watch_minutes": 45.0,
            }
        ),
        "sessions": pd.DataFrame(
            [(a, f"{a}{day}", START + pd.Timedelta(days=day)) for a in accounts for day in range(28)],
            columns=["account", "session", "started_at"],
        ),
    } | changes
    plan = launch.Launch.model_validate(
        {
            "name": "hand",
            "data": {"source": "tables"},
            "arms": {"control": "control", "treatment": "early"},
            "dates": {"start": "2026-09-07", "days": 28},
            "metrics": {"north_star": "hours_per_account_week"},
        }
    )
    memory = {name: ibis.memtable(table) for name, table in tables.items() if table is not None}
    return study.Study(launch=plan, tables=memory, fingerprint=None, connection=study.connect_embedded())


PLAYS = [
    *(("finisher", k, 2 * k) for k in (1, 2, 3)),
    ("quitter", 1, 3),
    ("pauses", 1, 1), ("pauses", 2, 15),  # came back, but only after more than four visits
    ("late", 1, 25),  # could not be watched for long enough
    ("on", 1, 20), ("on", 2, 23.5),  # was seen to go on once, then not watched for long enough
    ("middle", 2, 4),  # did not begin at the beginning
]  # fmt: skip


def test_who_could_not_be_watched_for_long_enough_is_no_quitter():
    found = retention.read(opened(PLAYS))
    counts = found.counts.set_index("start_day")[["watched", "left", "viewers"]]
    assert counts.loc[2].tolist() == [2, False, 1]  # the finisher was seen to go on twice
    assert counts.loc[3].tolist() == [1, True, 1]
    assert counts.loc[1].tolist() == [1, True, 1]
    assert counts.loc[25].tolist() == [0, False, 1]
    assert counts.loc[20].tolist() == [1, False, 1]
    assert (found.episodes, found.elsewhere) == (3, 1)
    assert found.states.to_dict() == {"finished": 1, "still watching": 2, "lapsed": 2}
    later = retention.read(opened(PLAYS), visits=14).counts.set_index("start_day")
    assert later.loc[1, ["watched", "left"]].tolist() == [1, False]  # with more visits allowed the pause is none


def test_who_comes_seldom_is_no_quitter_either():
    seldom = pd.DataFrame(
        {"account": "a", "session": ["1", "2", "3"], "started_at": [START + pd.Timedelta(days=d) for d in (1, 9, 20)]}
    )
    counts = retention.read(opened([("a", 1, 1.1), ("a", 2, 20.1)], sessions=seldom)).counts
    assert counts["left"].tolist() == [False]


def test_weighted_viewers_who_have_begun_sum_to_as_many_as_the_sentence_names():
    """Expected by hand: the pause stands for two accounts, all others for one, so that of 5 viewers it counts 10/6."""
    plays = [*PLAYS, ("control", 1, 27.5)]
    accounts = sorted({a for a, _, _ in plays})
    drawn = pd.DataFrame({"account": accounts, "arm": "early", "inclusion_probability": 0.5}).set_index("account")
    drawn.loc["pauses", "inclusion_probability"], drawn.loc["control", "arm"] = 0.25, "control"
    every = [(a, f"{a}{d}", START + pd.Timedelta(days=d), 9.0) for a in accounts for d in range(28)]
    sessions = pd.DataFrame(every, columns=["account", "session", "started_at", "seconds_to_first_play"])
    found = retention.read(opened(plays, assignments=drawn.reset_index(), sessions=sessions))
    weeks = retention.weeks(found)
    assert weeks["begun"].tolist() == [3, 3, 4, 5]  # 20/6 until the third week, 25/6 in it, then all
    assert found.states["lapsed"] == pytest.approx(15 / 6)
    assert retention.words(found).startswith("Of 5 viewers, weighted to the population, 17% finished, 33% were")
    assert retention.words(retention.read(opened(PLAYS))).startswith("Of 5 viewers 20% finished, 40% were")


def test_hours_are_set_beside_those_who_have_episodes_left():
    weeks = retention.weeks(retention.read(opened(PLAYS))).set_index("week")
    assert weeks["begun"].tolist() == [3, 3, 4, 5]
    assert weeks["episodes_left"].tolist() == [3, 2, 3, 4]  # the finisher has none left from the second week on
    assert weeks.loc[1, "hours"] == pytest.approx(0.75 * 5)
    assert weeks.loc[3, "hours_per_viewer_with_episodes_left"] == pytest.approx(0.75 * 2 / 3)


def test_the_longest_answer_of_the_chapter_fits_the_first_screen():
    counts = counted(np.repeat([1, 2, 3], [800, 200, 9_000]), np.repeat([True, False, False], [800, 200, 9_000]))
    states = pd.Series({"finished": 9_000.0, "still watching": 500.0, "lapsed": 500.0})
    viewers = retention.Viewers(
        counts=counts.assign(start_day=0), weeks=pd.DataFrame(), states=states, episodes=4, visits=4, elsewhere=0
    )
    asked = launch.Launch.model_validate(
        {
            "name": "hand",
            "data": {"source": "tables"},
            "arms": {"control": "control", "treatment": "early"},
            "metrics": {"north_star": "hours_per_account_week"},
            "show": {"format": "limited", "episodes": 4},
            "dates": {"start": "2026-09-07", "days": 28},
            "comparables": {"finished": [0.917, 0.92, 0.95, 0.96]},  # the middle half begins within the interval
        }
    )
    late = Estimate(
        metric="hours", control=0.1, treatment=0.0, diff=-0.1, se=0.02, low=-0.14, high=-0.06, rel=-0.1, rel_low=-0.14,
        rel_high=-0.06, p=0.001, n_control=9, n_treatment=9, method="made", mde=0.1,
    )  # fmt: skip
    moved = replace(late, diff=0.2, low=0.1, high=0.3, rel=0.2, rel_low=0.1, rel_high=0.3)
    detail = fading.verdict(
        moved, late, better="higher", finishing=retention.finishing(viewers, asked), whole=replace(late, p=0.5),
        title=metrics.get("net_hours_per_account").title,
    ).detail  # fmt: skip
    answer = (detail, fading.words(moved, late, unit="log ratio"), retention.words(viewers, told=detail))
    assert detail.startswith("Ends (")
    assert "whether that is usual cannot be told" in detail
    assert detail.endswith("cannot be told from chance.")
    assert answer[2].endswith("before the end. Episode 1 is the first whose viewers finish with at least 70%.")
    assert sum(len(part.split()) for part in answer) <= wording.FIRST_SCREEN_WORDS


def test_what_cannot_be_read_says_why(players):
    assert "row per account" in retention.read(study.open(launch.load(players[0]))).reason
    assert "'is_launch_title'" in retention.read(opened(PLAYS, titles=None)).reason
    assert "nobody" in retention.read(opened([("middle", 2, 1)])).reason
    assert "one part only" in retention.read(opened([("a", 1, 1)])).reason
    assert "'sessions'" in retention.read(opened(PLAYS, sessions=None)).reason
    failed = [Check(name="Arm counts", passed=False, detail="")]
    assert "'Arm counts' failed" in retention.read(opened(PLAYS), checks=failed).reason
    with pytest.raises(ParameterError, match="at least 1"):
        retention.read(opened(PLAYS), visits=0)
    gone = NotEstimable(metric="episodes", reason="no show")
    assert retention.curve(gone).empty
    assert retention.cohorts(gone).empty
    assert retention.weeks(gone).empty
    assert retention.honeymoon(gone).passed is None
    assert "no show" in retention.words(gone)


def test_the_curve_agrees_with_r():
    found = retention.survival(counted(AML["time"], AML["status"]), 46, at_least=3).set_index("episode")
    for time, reached, low, high in (
        (13, 0.818181818181818, 0.447428614682181, 0.951162228582492),
        (23, 0.613636363636364, 0.265752040001286, 0.835299243250221),
        (31, 0.490909090909091, 0.167330909876751, 0.753399790370811),
    ):
        row = found.loc[time + 1]
        assert (row["reached"], row["low"], row["high"]) == pytest.approx((reached, low, high), rel=1e-6)


@given(st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=30, max_size=200))
@settings(max_examples=25, deadline=None)
def test_the_curve_is_kaplan_meiers_and_only_falls(people):
    times, events = zip(*people, strict=True)
    found = retention.survival(counted(times, events), 8, at_least=1)
    km = SurvfuncRight(np.array(times), np.array(events, dtype=int))
    for time, reached in zip(km.surv_times, km.surv_prob, strict=True):
        assert found.set_index("episode").loc[time + 1, "reached"] == pytest.approx(reached, abs=1e-9)
    assert (found["reached"].diff().dropna() <= 1e-12).all()
    assert ((found["low"] <= found["reached"] + 1e-12) & (found["reached"] <= found["high"] + 1e-12)).all()


def test_the_curve_ends_where_too_few_were_watched():
    found = retention.survival(counted([1] * 30 + [2] * 5, [1] * 20 + [0] * 15), 4)
    assert found["episode"].tolist() == [1, 2]
    assert found["finish"].isna().all()
    assert retention.hooked(found) is None
    assert retention.survival(counted([1] * 5, [1] * 5), 4).empty


def test_the_hooked_episode_and_the_finish_follow_from_the_curve():
    found = retention.survival(counted([1] * 40 + [2] * 10 + [3] * 50, [1] * 40 + [1] * 10 + [0] * 50), 4)
    assert found["reached"].tolist() == pytest.approx([1, 0.6, 0.5, 0.5])
    assert found["finish"].tolist() == pytest.approx([0.5, 50 / 60, 1, 1])
    assert retention.hooked(found) == 2


def test_the_trend_is_the_log_rank_test_where_the_score_has_two_values():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"watched": rng.integers(1, 8, 400), "left": rng.random(400) < 0.6, "late": rng.random(400) < 0.4}
    ).assign(group=np.where(rng.random(400) < 0.5, "a", "b"), viewers=1)
    for strata in ("", "group"):
        within = {"strata": frame["group"].to_numpy()} if strata else {}
        chi2, _ = survdiff(frame["watched"], frame["left"].astype(int), frame["late"].to_numpy(), **within)
        assert retention.trend(frame, frame["late"], strata) ** 2 == pytest.approx(chi2)
    assert retention.trend(frame.assign(left=False), frame["late"]) is None


def test_the_log_rank_test_agrees_with_r():
    aml = reference.data("aml.csv")
    rows = pd.DataFrame({"watched": aml["time"], "left": aml["status"] == 1, "viewers": 1})
    z = retention.trend(rows, aml["x"] == "Nonmaintained")
    assert z**2 == pytest.approx(3.3963886989776, rel=1e-6)  # R 4.2.2, survival::survdiff
    assert z > 0  # without maintenance they relapse sooner


def simulated(honeymoon, rng, n=3_000, episodes=8):
    """Draw viewers who go on as the simulator's documented show does, watched for a week after every episode."""
    start = rng.choice(21, n, p=np.repeat([0.61, 0.225, 0.105], 7) / 7 / 0.94)
    going_on = np.array([0.669, 0.870, 0.935, 0.945, 0.941, 0.915, 0.973])
    boost = np.where(start < 14, honeymoon * 0.5 ** (start / 7), 0)
    person = rng.normal(0, 0.8, n) + boost
    stays = rng.random((n, 7)) < 1 / (1 + np.exp(-(np.log(going_on / (1 - going_on)) + person[:, None])))
    reach = 1 + np.cumprod(stays, axis=1).sum(axis=1)
    seen = 21 - start  # an episode a day; the last week only follows up
    left = (reach < episodes) & (reach <= seen)
    watched = np.where(left, reach, np.minimum(np.minimum(reach, episodes) - 1, seen))
    frame = pd.DataFrame({"start_day": start, "watched": watched, "left": left})
    counts = frame.groupby(list(frame), as_index=False).size().rename(columns={"size": "viewers"})
    return retention.Viewers(
        counts=counts, weeks=pd.DataFrame(), states=pd.Series(dtype=int), episodes=8, visits=4, elsewhere=0
    )


def test_a_planted_honeymoon_is_found_and_a_stable_show_raises_no_alarm():
    rng = np.random.default_rng(5)

    def alarm(planted):
        viewers = simulated(planted, rng)
        alike = replace(viewers, counts=viewers.counts.assign(engagement="medium"))
        asked = [retention.honeymoon(v, strata="engagement") for v in (alike, viewers)]
        assert asked[1].passed is not False  # without strata later viewers may be other people
        assert asked[0].p == asked[1].p
        return asked[0].passed is False

    quiet, found = [alarm(0.0) for _ in range(60)], [alarm(0.4) for _ in range(25)]
    assert np.mean(quiet) < 0.09  # 2.5 % are expected on this side; three standard errors of 60 runs are 6 points
    assert np.mean(found) >= 0.8


def test_a_level_in_which_everybody_finishes_keeps_its_row_and_is_weighed_by_nobody():
    viewers = simulated(0.0, np.random.default_rng(9))
    done = pd.DataFrame({"start_day": [0], "watched": [7], "left": [False], "viewers": [200], "region": ["all done"]})
    parts = [done, *(viewers.counts.assign(region=region) for region in "NSE")]
    shown = retention.by_segment(replace(viewers, counts=pd.concat(parts)), "region").set_index("level")
    assert shown.loc["all done", "finish"] == 1
    assert shown.loc["all done", ["shrunken", "p_adjusted"]].isna().all()
    assert shown.drop("all done")["p_adjusted"].tolist() == [1, 1, 1]


def test_viewers_who_were_drawn_unequally_count_by_their_weights():
    """Heavy viewers finish in 67 %, others in 16 %; heavy ones were drawn all, others at 15 %.

    The oracle is a weighted share; intervals cover the share of the population as they say.
    """
    rng, n, covered = np.random.default_rng(3), 1_000, []
    heavy = np.arange(n) < n // 4
    for _ in range(300):
        drawn = rng.random(n) < np.where(heavy, 1.0, 0.15)
        finishes, weight = rng.random(n) < np.where(heavy, 0.67, 0.16), np.where(heavy, 1.0, 1 / 0.15)
        rows = pd.DataFrame({"watched": 1, "left": ~finishes, "weight": weight})[drawn]
        rows["squares"] = rows["weight"] ** 2
        end = retention.survival(rows.assign(viewers=1), 2).iloc[-1]
        assert end["reached"] == pytest.approx(np.average(finishes[drawn], weights=weight[drawn]))
        covered.append(end["low"] <= 0.25 * 0.67 + 0.75 * 0.16 <= end["high"])
    assert 0.91 <= np.mean(covered) <= 0.99


def test_each_group_of_unequally_drawn_viewers_has_its_own_errors():
    """Region N holds heavy viewers alone, who were all drawn; of S's light ones 15 % were: truth by multiplication.

    One effective number for all would make N's interval 2.3 times as wide, and that of S cover 92.9 % (1,500 draws).
    """
    rng, n, level = np.random.default_rng(1), 3_000, stats.binom(120, 0.95).ppf([0.0005, 0.9995]) / 120
    heavy = np.arange(n) < n // 4
    region = np.where(heavy & (np.arange(n) % 2 == 0), "N", "S")
    stay = np.where(heavy[:, None], [0.9, 0.95], [0.5, 0.8])
    covered, trends = {"N": [], "S": []}, []
    for _ in range(120):
        drawn = rng.random(n) < np.where(heavy, 1, 0.15)
        reach = 1 + np.cumprod(rng.random((drawn.sum(), 2)) < stay[drawn], axis=1).sum(axis=1)
        seen, start = rng.choice([1, 9], len(reach), p=[0.2, 0.8]), rng.choice([0, 7, 14], len(reach))
        left = (reach < 3) & (reach <= seen)
        watched = np.where(left, reach, np.minimum(np.minimum(reach, 3) - 1, seen))
        rows = pd.DataFrame(
            {"watched": watched, "left": left, "viewers": 1, "weight": np.where(heavy, 1, 1 / 0.15)[drawn]}
        )
        rows = rows.assign(squares=rows["weight"] ** 2, taste=heavy[drawn], start=start)
        for name, found in covered.items():
            mine = rows[region[drawn] == name]
            end = retention.survival(mine, 3).iloc[-1]
            found.append(end["low"] <= stay[region == name].prod(axis=1).mean() <= end["high"])
            if name == "N" and len(found) == 1:
                plain = retention.survival(mine.drop(columns="weight"), 3).iloc[-1]
                assert end[["at_risk", "low", "high"]].tolist() == pytest.approx(
                    plain[["at_risk", "low", "high"]].tolist()
                )
        trends.append(retention.trend(rows, rows["start"], "taste"))
    assert level[0] <= np.mean(covered["N"]) <= level[1]
    assert level[0] <= np.mean(covered["S"]) <= level[1]
    spread = 120 * np.mean(np.square(trends))  # chi-square where nothing goes with the start
    assert 0.0005 < stats.chi2.cdf(spread, 120) < 0.9995


def test_cohorts_and_segments_are_counted_apart():
    viewers = simulated(0.0, np.random.default_rng(9))
    table = retention.cohorts(viewers)
    assert table.groupby("week")["viewers"].first().sum() == viewers.counts["viewers"].sum()
    assert table["reached"].between(0, 1).all()
    thrice = [viewers.counts.assign(region=region) for region in "NSE"]
    shown = retention.by_segment(replace(viewers, counts=pd.concat(thrice)), "region")
    assert shown["finish"].to_numpy() == pytest.approx([retention.curve(viewers)["reached"].iloc[-1]] * 3)
    assert shown["p_adjusted"].tolist() == [1, 1, 1]
    assert (shown["shrunken high"] - shown["shrunken low"] < shown["high"] - shown["low"]).all()
    assert retention.by_segment(viewers, "region").empty


def test_viewers_without_events_are_those_that_the_events_show():
    simulation = simulate.Simulation(accounts=600, days=28, pre_days=7, seed=4).lived
    accounts = people.block(simulation, 0, np.random.SeedSequence(4))
    shows = simulation.services[1]
    chances = viewing.draw(simulation, accounts, worlds.busiest([shows]), np.random.default_rng(4))
    life = worlds.live(simulation, chances, shows)
    visit = np.flatnonzero(life.happens & chances.launched)
    at = START + pd.to_timedelta(chances.day[visit] - 7 + chances.clock[visit], unit="D").round("s")
    frame = pd.DataFrame(
        {"account": chances.account[visit].astype(str), "session": visit.astype(str), "started_at": at}
    )
    part = np.repeat(np.arange(len(visit)), life.show.episodes[visit])
    nth = np.concatenate([np.arange(k) for k in life.show.episodes[visit]]).astype(int)
    plays = frame.iloc[part].assign(title="show", watch_minutes=45.0, episode=1 + life.show.before[visit][part] + nth)
    plays["started_at"] += pd.to_timedelta(1 + nth, unit="s")
    everybody = pd.DataFrame({"account": [str(k) for k in range(600)], "arm": "early"})
    events = retention.read(opened([], assignments=everybody, plays=plays, sessions=frame))
    columns = dict(zip(outcomes.VIEWER, outcomes._viewers(simulation, chances, life), strict=True))
    rows = pd.DataFrame(columns).query("start_day >= 0").astype({"left": bool})
    assert len(rows) > 100
    found = rows.groupby(list(rows), as_index=False).size().rename(columns={"size": "viewers"})
    pd.testing.assert_frame_equal(found, events.counts[list(found)], check_dtype=False)


def test_a_miniseries_is_held_against_who_finishes():
    plan = {
        "name": "mini",
        "show": {"format": "limited", "episodes": 4},
        "data": {"source": "simulate", "scenario": "miniseries", "accounts": 1_200, "seed": 3},
        "arms": {"control": "control", "treatment": "treated"},
        "dates": {"start": "2026-09-07", "days": 28, "pre_days": 1},
        "sampling": {"n": {"control": 100, "treated": 900}},
        "metrics": {"north_star": "hours_per_account_week"},
    }
    data = study.open(launch.Launch.model_validate(plan))
    viewers = retention.read(data)
    assert viewers.episodes == 4
    beside = {"few": [0.1, 0.2, 0.2, 0.3], "many": [0.9, 0.95, 0.95, 0.99], "far": [0.1, 0.2, 0.9, 0.95], "none": []}
    found = {
        name: retention.finishing(viewers, data.launch.model_copy(update={"comparables": {"finished": shares}}))
        for name, shares in beside.items()
    }
    assert {name: check.passed for name, check in found.items()} == {
        "few": True,
        "many": False,
        "far": True,
        "none": None,
    }
    assert "fewer than usual" in found["many"].detail
    series = data.launch.model_copy(update={"show": None})
    assert retention.finishing(viewers, series) is None
    assert "could not be read" in retention.finishing(NotEstimable(metric="x", reason="no plays"), data.launch).detail
