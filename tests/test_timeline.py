"""Effects over time: periods with their covariance, fading, curves; before and after; clusters and geography."""

import dataclasses
import itertools

import ibis
import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import brief, launch, metrics, results, study, units, wording
from helpers.errors import DataError, ParameterError
from helpers.inference import regression
from helpers.metrics import Measure
from helpers.results import Check, Estimate, NotEstimable
from helpers.timeline import bands, clusters, course, did, factorial, fading, geo, later, levels, practice, seasons
from helpers.timeline.course import Course

START = pd.Timestamp("2026-09-07", tz="UTC")
HOURS = metrics.get("hours_per_account_week")
DEPENDENT = 0.5 * np.eye(4) + 0.5  # unit variances, correlations of a half


def case(name):
    found = reference.case(name)
    return found["inputs"], found["expected"], found["tolerance"]


def weekly(effect, *, n=20_000, sd=13.0, control=10.0, rng=None):
    """Describe four weeks as two arms of normal accounts would show them; with a generator, with their noise."""
    cov = np.array([DEPENDENT * sd**2 / n] * 2)
    mean = np.array([np.full(4, control), control + np.asarray(effect, dtype=float)])
    if rng is not None:
        mean = mean + np.stack([np.linalg.cholesky(c) @ rng.standard_normal(4) for c in cov])
    return Course(
        metric="hours", unit="h", starts=(0, 7, 14, 21), step_days=7, mean=mean, cov=cov, n=(n, n), method="made"
    )


@pytest.fixture
def tables():
    """Eight accounts for two weeks before and two after; account k of an arm watches k hours in each session."""
    accounts = [f"{arm}{k}" for arm in "ct" for k in range(4)]
    rows = [
        (account, START + pd.Timedelta(days=day, hours=12), 60.0 * (k + 1) + (30 if arm == "t" and day >= 0 else 0))
        for arm in "ct"
        for k, account in enumerate(a for a in accounts if a[0] == arm)
        for day in (-13, -6, 1, 2, 8)
        if not (k == 3 and day > 0)
    ]
    rows.append(("z", START + pd.Timedelta(days=20, hours=12), 1.0))  # of nobody: the log covers the window
    plays = pd.DataFrame(rows, columns=["account", "started_at", "watch_minutes"])
    return {
        "assignments": pd.DataFrame({"account": accounts, "arm": ["control"] * 4 + ["early"] * 4}),
        "plays": plays.assign(session="s", title="x"),
        "sessions": plays.assign(session=[str(i) for i in range(len(plays))], seconds_to_first_play=60.0).drop(
            columns="watch_minutes"
        ),
        "accounts": pd.DataFrame({"account": accounts, "tenure": ["new", "old", "new", "old"] * 2}),
    }


def opened(tables, metrics=None, **dates):
    plan = launch.Launch.model_validate(
        {
            "name": "hand",
            "data": {"source": "tables"},
            "arms": {"control": "control", "treatment": "early"},
            "dates": {"start": "2026-09-07", "days": 14, "pre_days": 14} | dates,
            "metrics": metrics or {"north_star": "hours_per_account_week", "supporting": ["session_minutes"]},
            "segments": ["tenure"],
        }
    )
    memory = {name: ibis.memtable(frame) for name, frame in tables.items()}
    return study.Study(launch=plan, tables=memory, fingerprint=None, connection=study.connect_embedded())


def test_periods_are_counted_from_the_assignment_with_zeros_and_with_their_covariance(tables):
    found = course.measure(opened(tables), HOURS, adjust=False)["all"]
    assert found.starts == (-14, -7, 0, 7)
    by_hand = np.array([[1, 1, 2, 1], [2, 2, 4, 2], [3, 3, 6, 3], [4, 4, 0, 0]], dtype=float)
    treated = by_hand + np.array([[0, 0, 1, 0.5]] * 3 + [[0, 0, 0, 0]])
    np.testing.assert_allclose(found.mean, [by_hand.mean(axis=0), treated.mean(axis=0)])
    np.testing.assert_allclose(found.cov, [np.cov(x.T) / 4 for x in (by_hand, treated)])


def test_a_contrast_of_weeks_is_welchs_test_of_each_accounts_own_contrast(tables):
    found = course.contrast(course.measure(opened(tables), HOURS, adjust=False)["all"], [0, 0, 1, -1])
    control, treated = [1.0, 2, 3, 0], [1.5, 2.5, 3.5, 0]
    oracle = stats.ttest_ind(treated, control, equal_var=False)
    assert (found.diff, found.p) == (pytest.approx(np.mean(treated) - np.mean(control)), pytest.approx(oracle.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval()))


def test_what_the_time_before_explains_is_taken_out_of_every_week(tables):
    found = course.measure(opened(tables), HOURS)["all"]
    assert found.starts == (0, 7)
    before = np.tile([1.0, 2, 3, 4], 2) * 2
    after = np.array([2.0, 4, 6, 0, 3, 5, 7, 0])
    slope = np.cov(before, after)[0, 1] / np.var(before, ddof=1)
    left = after - slope * (before - before.mean())
    assert found.effect[0] == pytest.approx(left[4:].mean() - left[:4].mean())
    assert found.effect_cov[0, 0] == pytest.approx((left[:4].var(ddof=1) + left[4:].var(ddof=1)) / 4)


def test_slices_ratios_clocks_and_levels_come_from_the_same_events(tables):
    data = opened(tables)
    found = course.measure(data, HOURS, by="tenure", adjust=False)
    assert list(found) == ["all", "new", "old"]
    assert found["new"].n == (2, 2)
    minutes = course.measure(data, metrics.get("session_minutes"), adjust=False)["all"]
    assert minutes.mean[0] == pytest.approx([150, 150, 120, 120])
    calendar = course.measure(data, HOURS, clock="calendar", adjust=False)["all"]
    np.testing.assert_allclose(calendar.mean, found["all"].mean)
    drawn = levels.measure(data, HOURS, step_days=7)
    np.testing.assert_allclose(drawn["value"].to_numpy().reshape(2, 4), found["all"].mean)
    half = stats.norm.isf(0.025) * np.sqrt(found["all"].cov[0].diagonal())
    np.testing.assert_allclose(drawn.query("arm == 'control'").eval("high - value"), half)


def test_a_count_of_a_column_is_of_the_events_that_have_it_in_every_week(tables):
    """By hand: every second survey of each account has a score."""
    days = [(account, day) for account in tables["accounts"]["account"] for day in (1, 2, 8, 9)]
    surveys = pd.DataFrame(days, columns=["account", "day"])
    surveys["prompted_at"] = surveys["responded_at"] = pd.Timestamp("2026-09-07", tz="UTC") + pd.to_timedelta(
        surveys["day"], unit="D"
    )
    surveys["score"] = np.where(surveys["day"] % 7 == 1, 4.0, np.nan)
    data = opened(tables | {"surveys": surveys}, {"north_star": "survey_response_rate"}, pre_days=0)
    found = course.measure(data, metrics.get("survey_response_rate"), adjust=False)["all"]
    np.testing.assert_allclose(found.mean, 0.5)
    assert (np.diagonal(found.cov, axis1=1, axis2=2) >= 0).all()


def test_the_first_metric_of_the_plan_that_has_weeks_is_followed_and_said_to_be_it(tables):
    star = course.chosen(opened(tables))
    assert (star.metric, star.why, star.aside) == (HOURS, "it is the north star of the plan", "")
    opens = {"north_star": "opens_per_account_week", "supporting": ["hours_per_account_week"]}
    thin = opened({name: frame for name, frame in tables.items() if name != "sessions"}, metrics=opens)
    found = course.chosen(thin)
    assert (found.metric, found.aside) == (HOURS, HOURS.title)
    assert found.to_frame().loc[0, "read because"] == (
        "it is the first of the plan that can be; the north star, Sessions per account and week, cannot: "
        "it needs table 'sessions', which is not among the data"
    )
    asked = course.chosen(thin, "opens_per_account_week")
    assert (asked.metric.name, asked.why) == ("opens_per_account_week", "it was asked for")
    assert "'sessions'" in course.measure(thin, asked.metric)["all"].reason
    with pytest.raises(ParameterError, match="did you mean 'hours_per_account_week'"):
        course.chosen(thin, "hours_per_account_weak")
    bare = opened({"assignments": tables["assignments"]})
    assert course.chosen(bare).metric == HOURS  # nothing has weeks: the north star, with its reason
    missing = units.distribution(units.load(thin), "sessions_count")
    assert missing.empty
    assert missing.attrs["why"].startswith("it is no amount of single accounts")
    assert brief.accounts(thin)["with a north star of 0"].isna().all()
    assert brief.accounts(thin)["kept"].tolist() == [4, 4]


def test_weeks_of_the_calendar_are_not_read_where_accounts_were_assigned_on_several_days(tables):
    """Only an account's own weeks hold nothing from before its assignment; hours of one day are no roll-out."""
    day = pd.Series([0, 0, 0, 0, 0, 0, 0, 1])
    found = {}
    for unit in ("D", "h"):
        assigned = tables["assignments"].assign(assigned_at=START + pd.to_timedelta(day, unit=unit))
        data = opened(tables | {"assignments": assigned}, days=7)
        own, found[unit] = (
            course.measure(data, HOURS, clock=clock, step_days=1)["all"] for clock in ("assignment", "calendar")
        )
        assert isinstance(own, Course)
    assert isinstance(found["h"], Course)
    assert found["D"].reason == (
        "accounts were assigned on several days, and a week of the calendar holds some before their own"
    )


def test_accounts_drawn_with_unequal_probabilities_are_weighted(tables):
    rare = np.array([1.0, 0.5, 0.25, 0.5] * 2)
    drawn = {"assignments": tables["assignments"].assign(inclusion_probability=rare)}
    tables["sessions"] = tables["sessions"][tables["sessions"]["account"] != "z"]
    tables["plays"] = tables["plays"][tables["plays"]["account"] != "z"]
    found = course.measure(opened(tables | drawn, days=8, pre_days=0), HOURS, step_days=4, adjust=False)["all"]
    assert found.mean[0, 0] == pytest.approx(np.average([2, 4, 6, 0], weights=1 / rare[:4]) * 7 / 4)


def test_from_the_first_visit_only_those_who_came_in_the_first_week_are_read(tables):
    data = opened(tables, days=21)
    found = course.measure(data, HOURS, clock="visit", adjust=False)["all"]
    assert found.n == (3, 3)
    assert found.mean[0] == pytest.approx([4, 2])  # days 1 and 2; day 8 is seven days after day 1


def test_intervals_have_the_level_of_the_launch(tables):
    data = opened(tables)
    decision = type(data.launch.decision).model_validate({"alpha": 0.1})
    lenient = dataclasses.replace(data, launch=data.launch.model_copy(update={"decision": decision}))
    late = [fading.late(course.measure(d, HOURS)["all"]) for d in (data, lenient)]
    assert [e.level for e in late] == pytest.approx([0.95, 0.9])
    assert late[1].high - late[1].low < late[0].high - late[0].low


def test_where_there_are_no_times_or_too_few_the_reason_is_said(tables, players):
    own = study.open(launch.load(players[0]))
    assert "without times" in course.measure(own, own.launch.plan[0].metric)["all"].reason
    assert levels.measure(own, own.launch.plan[0].metric).empty
    without = {name: frame for name, frame in tables.items() if name != "plays"}
    assert "'plays'" in course.measure(opened(without), HOURS)["all"].reason
    ever = dataclasses.replace(HOURS, numerator=metrics.Measure(table="plays", agg="any"), kind="proportion")
    assert "ever did something" in course.measure(opened(tables), ever)["all"].reason
    assert "fewer than two periods" in course.measure(opened(tables, days=10), HOURS)["all"].reason
    pieces = (
        {"at_least": 60.0},
        {"calendar_days": (0, 1)},
        {"gap_minutes": 30.0},
        {"per": Measure(table="plays", agg="count")},
    )
    for piece in pieces:  # which single events do not tell, so that their sum by week would be another number
        made = dataclasses.replace(HOURS, numerator=dataclasses.replace(HOURS.numerator, **piece))
        reason = course.measure(opened(tables), made)["all"].reason
        assert "no sum over events" in reason
        assert not wording.unplain(reason)  # it stands on the first screens of 07 and 08
    whole = [metrics.get(name) for name in ("catalogue_coverage", "creator_gini")]  # of an arm, not of its accounts
    for made in [dataclasses.replace(m, over="title") for m in whole]:
        assert "no sum over events" in course.measure(opened(tables), made)["all"].reason
        assert levels.measure(opened(tables), made).empty
        assert seasons.week(opened(tables), made).empty
    failed = [Check(name="Arm counts", passed=False, detail="")]
    assert "'Arm counts' failed" in course.measure(opened(tables), HOURS, checks=failed)["all"].reason
    with pytest.raises(ParameterError, match="did you mean 'visit'"):
        course.measure(opened(tables), HOURS, clock="visits")


def test_the_joint_band_is_the_quantile_of_the_largest_deviation():
    independent = stats.norm.isf((1 - 0.95 ** (1 / 4)) / 2)  # Sidak, exact without correlation
    assert bands.joint_quantile(np.eye(4), draws=200_000) == pytest.approx(independent, abs=0.01)
    assert bands.joint_quantile(np.ones((4, 4))) == pytest.approx(1.96, abs=0.03)
    assert 1.96 < bands.joint_quantile(DEPENDENT) < independent


@given(scale=st.floats(0.01, 100), factor=st.floats(0.5, 2))
@settings(max_examples=25, deadline=None)
def test_relative_courses_do_not_mind_the_unit_or_a_busy_season(scale, factor):
    busy = np.array([1, factor, 1, factor]) * scale
    plain = weekly([1, 1, 1, 1])
    moved = Course(
        metric="hours", unit="h", starts=plain.starts, step_days=7, mean=plain.mean * busy,
        cov=plain.cov * np.outer(busy, busy), n=plain.n, method="made",
    )  # fmt: skip
    one, other = (fading.early_minus_late(course.relative(c)) for c in (plain, moved))
    assert (other.diff, other.se) == (pytest.approx(one.diff, abs=1e-9), pytest.approx(one.se))


def test_the_curve_agrees_with_r():
    inputs, expected, tolerance = case("novelty__exponential_decay_nls")
    found = fading.fit(inputs["day"], inputs["effect"])
    got = {
        "a": found.asymptote, "b": found.drop, "tau": found.tau_days, "se_a": found.asymptote_se,
        "se_b": found.drop_se, "se_tau": found.tau_se, "half_life": found.half_life_days,
    }  # fmt: skip
    for name, value in got.items():
        assert value == pytest.approx(expected[name], rel=tolerance["rel"], abs=tolerance["abs"]), name
    curve = found.asymptote + found.drop * np.exp(-np.array(inputs["day"]) / found.tau_days)
    rss = ((np.array(inputs["effect"]) - curve) ** 2).sum()
    assert rss == pytest.approx(expected["rss"], rel=tolerance["rel"])
    assert found.low < expected["a"] < found.high


def test_no_curve_is_fitted_where_the_data_cannot_tell():
    assert "no fading to fit" in fading.decay(weekly([1, 1, 1, 1])).reason
    line = fading.decay(weekly([3.0, 2.4, 1.8, 1.2]))
    assert "straight line" in line.reason
    assert "at least 4 periods" in fading.fit([0, 7, 14], [3, 2, 1])
    held = fading.forecast(weekly([1, 1, 1, 1]), 84)
    assert "does not" not in held.note
    assert "go on" in held.note
    near = fading.forecast(weekly([1, 1, 1, 1]), 24)  # within the window: it widens to more than three times this
    assert held.high - held.low > 3 * (near.high - near.low)


@pytest.mark.parametrize("slope", [-0.6, 0.3])
def test_a_forecast_holds_effects_that_go_on_in_a_straight_line(slope):
    """Of 200 launches; 95 % less three standard errors of a share of 200 is 90.4 %."""
    rng = np.random.default_rng(9)
    found = [fading.forecast(weekly(2 + slope * np.arange(4), rng=rng), 7 * week) for week in [8, 12] * 200]
    for nth, truth in enumerate((2 + slope * 8, 2 + slope * 12)):
        assert np.mean([f.low <= truth <= f.high for f in found[nth::2]]) > 0.904


def test_the_asymptotes_interval_covers_it_and_the_forecast_covers_the_curve():
    rng = np.random.default_rng(7)
    shape = np.exp(-np.arange(28).reshape(4, 7) / 7).mean(axis=1)
    inside, ahead, fitted = 0, 0, 0
    for _ in range(200):
        found = weekly(2 + 3 * shape, rng=rng)
        settled, later = fading.decay(found), fading.forecast(found, 56)
        ahead += later.low <= 2 + 3 * np.exp(-8) <= later.high
        if not isinstance(settled, NotEstimable):
            fitted += 1
            inside += settled.low <= 2 <= settled.high
    assert fitted > 100
    assert inside / fitted > 0.91  # 95 % less three standard errors of a share of 100 to 200 runs
    assert ahead / 200 > 0.91


def test_a_planted_fading_is_found_and_a_steady_effect_raises_no_alarm():
    rng = np.random.default_rng(11)
    doubled = 0.5 ** (np.arange(28).reshape(4, 7) / 7)  # on top of the effect at first, halving every week
    steady, alarms, found, n = np.full(4, 1.0), 0, 0, 400
    for _ in range(n):
        quiet = course.relative(weekly(steady, rng=rng))
        alarm = fading.verdict(fading.early_minus_late(quiet), fading.late(quiet), better="higher")
        alarms += alarm.detail.startswith(("Fades", "Settles"))
        novel = course.relative(weekly(steady * (1 + doubled.mean(axis=1)), n=25_000, rng=rng))
        found += fading.early_minus_late(novel).low > 0
    assert alarms / n < 0.05
    assert found / n > 0.8


def test_the_surrogate_index_predicts_what_goes_through_early_weeks_and_shows_what_does_not():
    slope = np.linalg.solve(DEPENDENT[:2, :2], DEPENDENT[:2, 2:].mean(axis=1))
    through = np.array([1.0, 0.5, *[slope @ [1.0, 0.5]] * 2])
    found = fading.surrogate(weekly(through), early_periods=2)
    assert found.predicted.diff == pytest.approx(found.measured.diff)
    assert found.explained == pytest.approx(1 - (0.75 - slope @ [0.5, 0.5]) / 0.75)
    lasting = fading.surrogate(weekly([1, 1, 1, 1]), early_periods=2)
    assert lasting.gap.high < 0
    assert lasting.gap.se > course.contrast(weekly([1, 1, 1, 1]), [*slope, -0.5, -0.5]).se  # slopes are estimated too
    assert "from 1 to 3" in fading.surrogate(weekly([1, 1, 1, 1]), early_periods=4).reason


@pytest.mark.parametrize(
    ("effect", "options", "word", "passed"),
    [
        ([3, 2, 1.5, 1.2], {}, "Settles lower", True),
        ([2, 0.5, 0, 0], {}, "Fades", False),
        ([2, 0.5, 0, 0], {"finishing": Check(name="", passed=None, detail="43 % finish.")}, "Ends", None),
        ([2, 0.5, 0, 0], {"finishing": Check(name="", passed=True, detail="73 % finish.")}, "Ends", True),
        ([1, 1, 1, 1], {"finishing": Check(name="", passed=False, detail="13 % finish.")}, "Falls short", False),
        ([2, 0.5, 0, 0], {"viewers": Check(name="", passed=True, detail="Alike.")}, "Runs out", None),
        ([2, 0.5, 0, 0], {"viewers": Check(name="", passed=None, detail="No show.")}, "Fades", False),
        ([0, 1, 2, 2], {}, "Grows", True),
        ([1, 1, 1, 1], {}, "Holds", True),
        ([0, 0, 0, 0], {}, "Cannot tell", None),
        ([-1, -1, -1, -1], {}, "Holds, as a loss", True),
        ([-1, -2, -3, -3], {}, "Gets worse", False),
        ([-1, -2, -3, -3], {"viewers": Check(name="", passed=True, detail="Alike.")}, "Gets worse", False),
        ([1, -1, -2, -2], {}, "Turns", False),
        ([-3, -2, -1, -1], {}, "Shrinks", None),
        ([-3, -1, 0, 0], {}, "The loss fades", None),
        ([2, 0.5, 0, 0], {"better": "lower"}, "The loss fades", None),
        ([-0.3, -0.3, 0.1, 0.1], {}, "The loss is over", None),
        ([-3, -2, -1.5, -1.2], {"better": "lower"}, "Settles lower", True),
        ([0.27, 0.27, 0.27, 0.27], {}, "Cannot tell: in the late weeks alone the gain", None),
        ([-0.27, -0.27, -0.27, -0.27], {}, "Cannot tell: in the late weeks alone the loss", None),
    ],
)
def test_the_verdict_is_one_word_with_its_reason(effect, options, word, passed):
    found = weekly(effect)
    answer = fading.verdict(fading.early_minus_late(found), fading.late(found), **{"better": "higher"} | options)
    assert answer.detail.startswith(
        word + (":" if word in ("Fades", "Falls short", "Ends", "Runs out", "Settles lower", "Grows") else "")
    )
    assert answer.passed is passed


def test_a_loss_that_grows_but_is_uncertain_late_is_not_called_a_smaller_effect():
    found = weekly([-0.1, -0.2, -0.5, -0.5])
    vague = dataclasses.replace(fading.late(found), low=-1.2, high=0.2)
    answer = fading.verdict(fading.early_minus_late(found), vague, better="higher")
    assert answer.detail.startswith("Gets worse: the loss is larger late than early, but late it cannot be told")
    assert answer.passed is False


@pytest.mark.parametrize(("p", "open_"), [(0.2, True), (0.001, False)])
def test_late_weeks_that_stand_out_do_not_hide_that_the_whole_window_does_not(p, open_):
    for effect, told in (([0.27] * 4, open_), ([1] * 4, open_), ([0] * 4, False)):
        found = weekly(effect)
        moved, remains = fading.early_minus_late(found), fading.late(found)
        whole = dataclasses.replace(remains, p=0.001, p_adjusted=p)
        answer = fading.verdict(moved, remains, better="higher", whole=whole)
        assert answer.detail.endswith("Over the whole window (chapter 04) it cannot be told from chance.") is told


def test_later_viewers_who_go_on_less_are_a_fading_whatever_the_weeks_say():
    quiet, less = weekly([0, 0, 0, 0]), Check(name="viewers", passed=False, detail="Less.", p=0.01)
    answer = fading.verdict(fading.early_minus_late(quiet), fading.late(quiet), better="higher", viewers=less)
    assert (answer.passed, answer.detail, answer.p) == (False, "Fades: less.", 0.01)
    missing = NotEstimable(metric="hours", reason="there are no times")
    assert fading.verdict(missing, missing, better="higher").detail == "Cannot tell: there are no times."


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.sampled_from([None, True]), st.booleans())
def test_a_limited_series_is_never_held_against_for_the_course_of_its_hours(effect, finished, viewers):
    found, ends = weekly(effect), Check(name="ends", passed=finished, detail="So many finish.")
    others = Check(name="viewers", passed=True, detail="Alike.") if viewers else None
    moved, remains = fading.early_minus_late(found), fading.late(found)
    answer = fading.verdict(moved, remains, better="higher", viewers=others, finishing=ends)
    assert answer.passed is not False
    assert answer.detail.count("So many finish.") == 1  # its benchmark is always told


# What became of forecasts


def test_forecasts_made_after_four_weeks_hold_what_comes_and_an_index_does_not():
    found = later.held(launches=60)
    curves, index = (found[found["forecast"].str.startswith(kind)] for kind in ("week", "surrogate"))
    assert curves["forecast"].tolist() == ["week 8", "week 12"] * 3
    assert (curves["covers"] > 0.865).all()  # 95 % less three standard errors of 60 launches
    assert found["truth"].iloc[:3].to_numpy() == pytest.approx([0.03] * 3, abs=0.004)  # what the scenario plants
    assert found["truth"].iloc[6:].to_numpy() == pytest.approx([0.0] * 3, abs=0.004)  # no episodes are left
    assert (index["covers"].iloc[:2] < 0.2).all()
    assert (index["high"] < index["truth"]).tolist() == [True, True, False]  # it understates what goes on pushing


def test_the_index_finds_the_direction_of_what_lasts():
    found = later.agreement(["broad_lift"], n=(100_000, 100_000), launches=40)
    assert (found[["recall", "precision"]] > 0.5).all(axis=None)  # a coin would agree in half of what it called
    assert later.agreement(()).empty
    assert later.held(()).empty


def test_what_can_be_followed_is_said_beforehand():
    with pytest.raises(ParameterError, match="weeks is 4, must be at least 5"):
        later.follow("aa", weeks=4)


def test_an_idea_for_some_is_a_part_of_it_and_taken_away_it_is_its_reverse():
    settles = later.follow("homepage_optimistic+honeymoon", accounts=2_000, weeks=5)
    assert settles.mixed(0.0).truth == pytest.approx(np.zeros(5))
    assert settles.mixed(1.0).truth == pytest.approx(settles.truth)
    assert settles.mixed(0.4, taken_away=True).truth == pytest.approx(-settles.mixed(0.4).truth)
    rng, half = np.random.default_rng(3), settles.mixed(0.5)
    people = np.where(
        (rng.random(400_000) < 0.5)[:, None],
        rng.multivariate_normal(settles.mean[1], settles.cov[1], 400_000),
        rng.multivariate_normal(settles.mean[0], settles.cov[0], 400_000),
    )
    assert half.mean[1] == pytest.approx(people.mean(axis=0), rel=0.01)
    np.testing.assert_allclose(half.cov[1], np.cov(people.T), rtol=0.05)


@pytest.mark.parametrize(("how", "least", "most"), [("stable", 0.0, 0.06), ("honeymoon", 0.8, 1.0)])
def test_the_simulated_novelty_is_found_at_the_documented_size_and_a_stable_launch_raises_no_alarm(how, least, most):
    rng, followed = np.random.default_rng(6), later.follow(f"homepage_optimistic+{how}", accounts=4_000, weeks=5)
    alarms = 0
    for _ in range(200):
        weeks = course.relative(later.first(followed.launch((25_000, 25_000), rng)))
        answer = fading.verdict(fading.early_minus_late(weeks), fading.late(weeks), better="higher")
        alarms += answer.detail.startswith(("Fades", "Settles"))
    assert least <= alarms / 200 <= most  # launches/homepage.yaml: 25,000 in each arm


def test_what_does_not_vary_is_said_and_breaks_nothing():
    still = dataclasses.replace(weekly([0, 0, 0, 0]), cov=np.zeros((2, 4, 4)))
    assert bands.joint_quantile(still.effect_cov) == 0
    assert "do not vary" in fading.forecast(still, 30).reason
    assert "do not vary" in fading.early_minus_late(still).reason
    assert "do not vary" in fading.surrogate(still, early_periods=2).reason
    assert fading.outlook(still, days=[28])["effect"].isna().all()
    assert course.frame(still)[["effect", "low", "joint_high"]].isna().sum().tolist() == [0, 4, 4]  # no false certainty
    halved = known(1.0)
    held = dataclasses.replace(halved, cov=halved.cov * (np.arange(8) > 3))
    assert did.pre_trend(did.event_study(dataclasses.replace(held, cov=np.zeros((2, 8, 8))))).passed is None


def test_an_outlook_says_in_words_what_it_cannot_give():
    shown = fading.outlook(course.relative(weekly([1, 1, 1, 1])), days=[28, 56])
    assert shown["what"].tolist() == ["settles at", "on day 28", "on day 56"]
    assert shown["effect"].isna().tolist() == [True, False, False]
    assert shown["effect"].iloc[1] == pytest.approx(0.1)
    gone = NotEstimable(metric="hours", reason="no times")
    assert "no times" in fading.words(gone, gone, unit="")
    assert "no times" not in fading.words(gone, gone, unit="", told=f"Cannot tell: {gone.reason}.")
    assert isinstance(results.to_frame(fading.parts(gone)), pd.DataFrame)
    assert isinstance(fading.late(weekly([1, 1, 1, 1])), Estimate)


def known(effect, *, drift=0.0, sd=13.0, n=20_000):
    """Describe four weeks before and four after, independent in each arm, with a season that both arms share."""
    season = np.array([0, 0.2, 0.4, 0.6, 3, 3.2, 3.4, 3.6])
    mean = np.array([10 + season, 10.5 + season + drift * np.arange(8) + np.repeat([0, effect], 4)])
    starts = tuple(range(-28, 28, 7))
    cov = np.array([np.eye(8) * sd**2 / n] * 2)
    return Course(metric="hours", unit="h", starts=starts, step_days=7, mean=mean, cov=cov, n=(n, n), method="made")


def test_before_after_takes_the_season_for_an_effect_and_differences_in_differences_do_not():
    before_after, against, both = did.three_ways(known(1.0))
    assert before_after.diff == pytest.approx(1 + 3)
    assert against.diff == pytest.approx(1 + 0.5)  # what differed before is in it
    assert both.diff == pytest.approx(1)
    assert both.se == pytest.approx(13 * np.sqrt(2 * (1 / 4 + 1 / 4) / 20_000))
    assert before_after.se == pytest.approx(both.se / np.sqrt(2))
    late = known(1.0).since()
    assert [isinstance(e, NotEstimable) for e in did.three_ways(late)] == [True, False, True]


def test_what_is_drawn_and_told_names_the_scale_that_it_has():
    """Where control has nothing in a week there are no ratios: neither axis nor note may speak of them."""
    plain = dataclasses.replace(weekly([1, 1, 1, 1]), unit="h per 7 days")
    none = course.relative(dataclasses.replace(plain, mean=plain.mean * [[0.0], [1.0]]))
    for path, axis, note in (
        (course.relative(plain), "Effect, relative to control", "differences of logarithms"),
        (none, "Effect, h per 7 days", "in h per 7 days: no relative effect, because it is read over periods"),
    ):
        assert course.axis(path) == axis
        assert {fading.late(path).note, fading.early_minus_late(path).note} == {note}


def test_an_amount_that_adds_up_is_compared_over_its_window_and_its_periods_say_their_unit(tables):
    """By hand: hours of each account since the launch, those of Welch's test; before it, as many weeks."""
    total = dataclasses.replace(HOURS, name="total", unit="h", per_week=False)
    path = course.measure(opened(tables), total, adjust=False)["all"]
    assert (path.unit, course.unit(total, 1), course.unit(HOURS, 7)) == ("h per 7 days", "h per day", "h/week")
    np.testing.assert_allclose(path.mean, course.measure(opened(tables), HOURS, adjust=False)["all"].mean)
    control, treated = np.array([3.0, 6, 9, 0]), np.array([4.5, 7.5, 10.5, 0])
    before_after, against, both = did.three_ways(path)
    oracle = stats.ttest_ind(treated, control, equal_var=False)
    assert (against.diff, against.p) == (pytest.approx(np.mean(treated - control)), pytest.approx(oracle.pvalue))
    assert before_after.diff == pytest.approx(np.mean(treated - [2, 4, 6, 8]))
    assert both.diff == pytest.approx(against.diff)  # the same accounts watched as much before
    first = course.measure(opened(tables), dataclasses.replace(total, window_days=7), adjust=False)["all"]
    assert did.three_ways(first)[1].diff == pytest.approx(np.mean([1, 1, 1, 0]))  # its second week is not its own
    short = course.measure(opened(tables), dataclasses.replace(total, window_days=5), adjust=False)["all"]
    assert "window of 5 days holds no whole period of 7" in did.three_ways(short)[1].reason


def test_the_event_study_is_relative_to_the_last_week_before_and_asks_for_drift():
    study_ = did.event_study(known(1.0))
    assert study_.starts == (-28, -21, -14, 0, 7, 14, 21)
    assert study_.effect == pytest.approx([0, 0, 0, 1, 1, 1, 1], abs=1e-9)
    assert study_.effect_cov[0, 1] == pytest.approx(2 * 13**2 / 20_000)  # the reference week is in every difference
    assert did.pre_trend(study_).passed
    drifting = did.pre_trend(did.event_study(known(1.0, drift=0.5)))
    assert drifting.passed is False
    gone = NotEstimable(metric="hours", reason="no times")
    assert did.pre_trend(did.event_study(gone)).passed is None
    assert "no whole period" in did.event_study(known(1.0).since()).reason


def test_the_pre_trend_test_holds_its_level():
    rng = np.random.default_rng(2)
    root = np.linalg.cholesky(known(0).cov[0])
    p = []
    for _ in range(200):
        one = known(1.0)
        noise = np.stack([root @ rng.standard_normal(8) for _ in "ct"])
        p.append(did.pre_trend(did.event_study(dataclasses.replace(one, mean=one.mean + noise))).p)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_an_invented_launch_before_the_real_one_has_no_effect():
    assert did.placebo_in_time(known(1.0)).diff == pytest.approx(0, abs=1e-9)
    assert did.placebo_in_time(known(1.0, drift=0.5)).low > 0
    assert "two whole periods" in did.placebo_in_time(known(1.0).since()).reason


def brute_force(y, x, z, code, v):
    """Refit every bootstrap sample with statsmodels: the wild cluster bootstrap as its definition says."""
    import statsmodels.api as sm

    design, groups = np.column_stack([np.ones(len(y)), x, z]), {"groups": code}
    t = sm.OLS(y, design).fit(cov_type="cluster", cov_kwds=groups).tvalues[1]
    null = sm.OLS(y, design[:, [0, 2]]).fit()
    drawn = [
        sm.OLS(null.fittedvalues + signs[code] * null.resid, design).fit(cov_type="cluster", cov_kwds=groups).tvalues[1]
        for signs in v
    ]
    return np.mean(np.abs(drawn) >= abs(t) * (1 - 1e-9))


def test_the_wild_bootstrap_is_the_refitted_one_of_its_definition():
    rng = np.random.default_rng(8)
    code = np.repeat(np.arange(4), 6)
    x, z = (code > 1) + 0.3 * rng.standard_normal(24), rng.standard_normal(24)
    y = 0.4 * x + z + rng.standard_normal(4)[code] + rng.standard_normal(24)
    found = clusters.wild(y, {"x": x, "z": z}, "x", code, rng=rng)
    weights = np.array(
        list(itertools.product(np.sqrt([0.5, 1, 1.5]).tolist() + (-np.sqrt([0.5, 1, 1.5])).tolist(), repeat=4))
    )
    some = weights[rng.choice(len(weights), 150, replace=False)]
    assert (found.draws, found.weights) == (6**4, "Webb")
    share = brute_force(y, x, z, code, some)
    assert found.p == pytest.approx(share, abs=4 * np.sqrt(found.p * (1 - found.p) / 150) + 0.01)
    assert (found.low < 0 < found.high) is (found.p > 0.05)


def test_few_clusters_reject_too_often_with_their_errors_and_not_with_the_wild_bootstrap():
    rng = np.random.default_rng(4)
    code, treated = np.repeat(np.arange(8), 25), np.repeat(np.arange(8) % 2, 25).astype(float)
    naive, robust, wild = [], [], []
    for _ in range(150):
        y = rng.standard_normal(8)[code] + rng.standard_normal(200)
        naive.append(regression.regress(y, {"treated": treated}, errors="HC1")["p"].iloc[1])
        robust.append(regression.regress(y, {"treated": treated}, errors="cluster", clusters=code)["p"].iloc[1])
        wild.append(clusters.wild(y, {"treated": treated}, "treated", code, rng=rng, draws=399).p)
    assert np.mean(np.array(naive) < 0.05) > 0.4
    assert np.mean(np.array(wild) < 0.05) < 0.12  # three standard errors of 150 runs above 5 %
    assert np.mean(np.array(robust) < 0.05) >= np.mean(np.array(wild) < 0.05) - 0.02


def test_the_wild_interval_is_where_its_test_does_not_reject():
    rng = np.random.default_rng(6)
    code = np.repeat(np.arange(20), 10)
    x = (code % 2).astype(float)
    y = 2 * x + rng.standard_normal(20)[code] + rng.standard_normal(200)
    found = clusters.wild(y, {"x": x}, "x", code, rng=np.random.default_rng(1), draws=999)
    assert found.low < 2 < found.high
    assert found.weights == "Rademacher"
    at_end = clusters.wild(y - found.high * x, {"x": x}, "x", code, rng=np.random.default_rng(1), draws=999)
    assert at_end.p == pytest.approx(0.05, abs=0.01)
    with pytest.raises(ParameterError, match="no column"):
        clusters.wild(y, {"x": x}, "z", code, rng=rng)
    with pytest.raises(DataError, match="one cluster"):
        clusters.wild(y, {"x": x}, "x", np.zeros(200), rng=rng)
    with pytest.raises(DataError, match="repeats"):
        regression.regress(y, {"x": x, "again": 2 * x})
    with pytest.raises(ParameterError, match="need 'clusters'"):
        regression.regress(y, {"x": x}, errors="cluster")
    with pytest.raises(ParameterError, match="did you mean 'HC2'"):
        regression.regress(y, {"x": x}, errors="HC22")


def test_a_factorial_experiment_recovers_both_effects_and_the_interaction():
    rows = practice.four_groups(np.random.default_rng(1), n=4_000, show=1.0, marketing=0.5, interaction=2.0)
    found = factorial.two_by_two(rows, factors=("show", "marketing"), outcome="hours")
    both = rows["show"] & rows["marketing"]
    saturated = regression.regress(
        rows["hours"], {"show": rows["show"], "marketing": rows["marketing"], "both": both}, errors="HC2"
    ).set_index("term")
    both = saturated["value"]["both"], saturated["se"]["both"]
    assert (found[2].diff, found[2].se) == pytest.approx(both, rel=1e-9)
    assert found[0].diff == pytest.approx(saturated["value"]["show"] + saturated["value"]["both"] / 2)
    assert found[2].se == pytest.approx(2 * found[0].se, rel=0.01)
    assert factorial.differences(found, [2.0, 1.5, 2.0])["covered"].all()
    with pytest.raises(ParameterError, match="with and without"):
        factorial.two_by_two(rows[rows["show"]], factors=("show", "marketing"), outcome="hours")


def test_adjusting_for_impressions_that_follow_the_treatment_takes_part_of_the_effect_away():
    rows = practice.impressions(np.random.default_rng(3), n=40_000, direct=0.2, by_impressions=0.3)
    asked = {"total": "spend", "adjusted": "impressions"}
    models = {name: {"treated": rows["treated"], also: rows[also]} for name, also in asked.items()}
    shown = clusters.in_models(rows["hours"], models, "treated").set_index("model")
    total, adjusted = (shown.loc[name, ["value", "se"]].tolist() for name in asked)
    assert abs(total[0] - 0.5) < 3 * total[1]
    assert adjusted[0] < 0.2 - 3 * adjusted[1]  # worse than direct: seen is keen


def test_a_synthetic_control_finds_the_mixture_that_made_a_region():
    rng = np.random.default_rng(5)
    others = pd.DataFrame(rng.uniform(50, 150, (40, 4)), columns=list("abcd"))
    panel = others.assign(own=0.25 * others["a"] + 0.75 * others["c"] + 7 * (np.arange(40) >= 30))
    found = geo.synthetic(panel, "own", 30)
    assert found.weights[["a", "c"]].tolist() == pytest.approx([0.25, 0.75], abs=1e-3)
    assert found.effect == pytest.approx(7, abs=0.05)
    assert found.p == pytest.approx(1 / 5)
    assert found.weights.sum() == pytest.approx(1)
    for wrong, words in (((panel, "x", 30), "no region"), ((panel, "own", 1), "at least 2 rows"),
                         ((panel[["own", "a"]], "own", 30), "at least 2 are needed"),
                         ((panel.assign(a=np.nan), "own", 30), "missing")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            geo.synthetic(*wrong)


def test_a_shock_to_all_regions_fools_the_interrupted_series_and_not_the_synthetic_control():
    panel = practice.signups(np.random.default_rng(10), lift=0.0, shock=0.2)
    own = panel["region 01"]
    series = geo.interrupted(own, 63)
    assert series["low"] > 0
    double = geo.synthetic(panel, "region 01", 63)
    assert abs(double.effect) < 0.08 * own.mean()
    assert double.p > 0.05
    lifted = geo.synthetic(practice.signups(np.random.default_rng(10), lift=0.2), "region 01", 63)
    assert lifted.p == pytest.approx(0.05)
    assert len(geo.starts_tried(own, 63)) == 7
    with pytest.raises(DataError, match="are needed"):
        geo.interrupted(own, 10)


def test_an_interrupted_series_gives_the_jump_of_a_clean_line_back():
    day = np.arange(70)
    series = pd.Series(100 + 0.5 * day + 10 * (day % 7 == 5) + 8.0 * (day >= 49))
    assert geo.interrupted(series, 49)["effect"] == pytest.approx(8)


def test_a_curve_that_is_over_at_once_has_no_speed_and_ends_at_the_mean_of_the_later_weeks():
    """Weeks of a fading of which nothing is left after the first: least squares runs to a half-life of nothing.

    Of weeks that are all alike correlated, the best combination of the later ones is their mean.
    """
    effect = [0.07961193623759395, 0.039147491122453075, 0.04822447279292513, 0.04177611941281035]
    cov = 0.012**2 * DEPENDENT
    for values in (effect, np.round(effect, 4)):
        found = fading.fit([0, 7, 14, 21], values, cov, step_days=7)
        assert (found.half_life_days, found.tau_days) == (None, None)
        assert found.asymptote == pytest.approx(np.mean(values[1:]), abs=1e-6)
        assert found.asymptote_se == pytest.approx(0.012 * np.sqrt((1 + 2 * 0.5) / 3), rel=1e-3)
        assert found.low < found.asymptote < found.high
    gone = Course(
        metric="hours", unit="h", starts=(0, 7, 14, 21), step_days=7, mean=np.array([[0.0] * 4, np.array(effect) * 9]),
        cov=np.array([cov / 2] * 2), n=(9, 9), method="made",
    )  # fmt: skip
    row = fading.outlook(gone, days=[28]).set_index("what").loc["settles at"]
    assert row["effect"] == pytest.approx(9 * np.mean(effect[1:]), abs=1e-5)
    assert row["note"] == "what fades is gone so soon that periods of 7 days do not tell how fast; shorter ones would"


@pytest.mark.parametrize("tau", [0.5, 2.0, 5.0])
def test_where_a_fast_fading_settles_is_covered_as_often_as_said(tau):
    """The truth is the curve's own weekly means with normal noise; 200 launches, four weeks, noise of 0.012."""
    rng, cov = np.random.default_rng(5), 0.012**2 * DEPENDENT
    weeks = (0.04 + 0.3 * np.exp(-np.arange(28) / tau)).reshape(4, 7).mean(axis=1)
    drawn = weeks + rng.standard_normal((200, 4)) @ np.linalg.cholesky(cov).T
    found = [f for y in drawn if not isinstance(f := fading.fit([0, 7, 14, 21], y, cov, step_days=7), str)]
    assert len(found) > 160  # the others are straight lines as well
    low, high = stats.binom(len(found), 0.95).ppf([0.0005, 0.9995])
    assert low <= sum(f.low <= 0.04 <= f.high for f in found) <= high
    told = sum(f.half_life_days is not None for f in found)
    assert told > 160 if tau == 5 else told < 20
