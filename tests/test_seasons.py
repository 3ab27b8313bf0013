"""Season and marketing: the calendar, the week, the regions, and the word that stands above them."""

import dataclasses
import datetime as dt
import textwrap

import ibis
import numpy as np
import pandas as pd
import pytest
import reference
import statsmodels.api as sm

from helpers import launch, metrics, scorecard, study, trust, wording
from helpers.errors import ParameterError
from helpers.results import Check, Estimate, NotEstimable
from helpers.segments import Attribute, Segment
from helpers.timeline import course, did, fading, practice, seasons
from helpers.timeline import marketing as marketing_
from helpers.timeline.course import Course

START = pd.Timestamp("2026-09-07", tz="UTC")
HOURS = metrics.get("hours_per_account_week")
STARTED = metrics.get("show_start_rate")
GONE = NotEstimable(metric="hours", reason="no times")


def known(effect, *, drift=0.0, sd=13.0, n=20_000, level=0.95):
    """Describe four weeks before and four after, independent in each arm, with a season that both arms share."""
    season = np.array([0, 0.2, 0.4, 0.6, 3, 3.2, 3.4, 3.6])
    mean = np.array([10 + season, 10.5 + season + drift * np.arange(8) + np.repeat([0, effect], 4)])
    return Course(
        metric="hours", unit="h", starts=tuple(range(-28, 28, 7)), step_days=7, mean=mean,
        cov=np.array([np.eye(8) * sd**2 / n] * 2), n=(n, n), method="made", level=level,
    )  # fmt: skip


def places(metric, effects, *, p, se=0.1):
    """Describe a metric's effects in regions A, B, …, and how surely they differ."""
    one = did.three_ways(known(1.0))[1]
    one = dataclasses.replace(one, metric=metric, se=se, control=0.0 if metric == STARTED.name else one.control)
    found = [dataclasses.replace(one, diff=d, low=d - 2 * se, high=d + 2 * se) for d in effects]
    levels = tuple(Segment(level=name, estimate=e) for name, e in zip("ABCD", found, strict=False))
    return Attribute(name="region", metric=metric, segments=levels, p=p, p_adjusted=p)


def verdict(path, placebos=(), regions=(), **how):
    return seasons.verdict(did.three_ways(path), did.pre_trend(did.event_study(path)), placebos, regions, **how)


@pytest.fixture
def tables():
    """Two arms of four accounts, a session of an hour on each day of four weeks before and two after, two on Saturdays."""
    accounts = [f"{arm}{k}" for arm in "ct" for k in range(4)]
    days = pd.DataFrame([(d, hour) for d in range(-28, 14) for hour in ((12, 15) if d % 7 == 5 else (12,))])
    plays = days.merge(pd.DataFrame({"account": accounts}), how="cross")
    plays = plays.assign(
        started_at=START + pd.to_timedelta(24 * plays[0] + plays[1], unit="h"),
        watch_minutes=60.0,
        session="s",
        title="x",
    ).drop(columns=[0, 1])
    late = pd.DataFrame({"account": ["z"], "started_at": [START + pd.Timedelta(days=20)], "watch_minutes": [1.0]})
    return {
        "assignments": pd.DataFrame({"account": accounts, "arm": ["control"] * 4 + ["early"] * 4}),
        "plays": pd.concat([plays, late.assign(session="s", title="x")], ignore_index=True),
        "accounts": pd.DataFrame({"account": accounts, "region": ["N", "S"] * 4}),
    }


def opened(tables, **changes):
    plan = {
        "name": "hand",
        "data": {"source": "tables"},
        "arms": {"control": "control", "treatment": "early"},
        "dates": {"start": "2026-09-07", "days": 14, "pre_days": 28},
        "metrics": {"north_star": "hours_per_account_week"},
        "segments": ["region"],
    }
    memory = {name: ibis.memtable(frame) for name, frame in tables.items()}
    return study.Study(
        launch=launch.Launch.model_validate(plan | changes), tables=memory, fingerprint=None,
        connection=study.connect_embedded(),
    )  # fmt: skip


def test_the_week_agrees_with_r():
    c = reference.case("seasonality__upworthy_autumn_2014_weekday_index")
    expected, tolerance = c["expected"], c["tolerance"]
    views = reference.data("upworthy_daily_pageviews.csv")
    date, count = views.columns[:2]
    views[date] = pd.to_datetime(views[date], format="%m/%d/%y")
    views[count] = views[count].astype(str).str.replace(",", "").astype(float)
    autumn = views[views[date].between("2014-09-01", "2014-11-30")]
    assert len(autumn) == expected["n"]
    found = seasons.weekdays(autumn[date], autumn[count]).set_index("weekday")
    for key in map(str, range(1, 8)):
        assert found["mean"][int(key)] == pytest.approx(expected["mean_by_isoweekday"][key], rel=tolerance["rel"])
        assert found["index"][int(key)] == pytest.approx(expected["index_vs_mean"][key], rel=tolerance["rel"])
    assert found.attrs["acf7"] == pytest.approx(expected["acf7"], rel=tolerance["rel"])
    with pytest.raises(ParameterError, match="not consecutive"):
        seasons.weekdays(autumn[date].iloc[::2], autumn[count].iloc[::2])


def test_the_week_of_the_control_arm_is_that_of_its_days(tables, players):
    week = seasons.week(opened(tables), HOURS).set_index("weekday")
    assert list(week.index[[0, 6]]) == ["Monday", "Sunday"]
    assert week["index"].tolist() == pytest.approx([7 / 8] * 5 + [14 / 8, 7 / 8])  # an hour a day, two on Saturdays
    later = tables["assignments"].assign(assigned_at=[START] * 7 + [START + pd.Timedelta(days=10)])
    some = seasons.week(opened(tables | {"assignments": later}), HOURS)  # the last one is not control
    assert some["index"].tolist() == week["index"].tolist()
    far = later.assign(assigned_at=[START + pd.Timedelta(days=40)] + [START] * 7)
    assert seasons.week(opened(tables | {"assignments": far}), HOURS).empty  # never watched together
    assert seasons.week(study.open(launch.load(players[0])), HOURS).empty
    assert seasons.week(opened(tables), STARTED).empty
    on_day_7 = dataclasses.replace(HOURS.numerator, calendar_days=(7, 7))  # of such an amount other days have none
    assert seasons.week(opened(tables), dataclasses.replace(HOURS, numerator=on_day_7)).empty


def test_the_calendar_and_the_spend_say_whether_it_was_a_typical_time(tables, players):
    day = START.tz_localize(None).normalize().date()
    ago = day - pd.Timedelta(days=3)
    around = {
        "calendar": pd.DataFrame({"day": [day, ago], "event": ["<b>final</b>", "rain"]}).assign(region="N"),
        "marketing": pd.DataFrame({"region": ["N", "N", "S", "S"], "day": [ago, day] * 2, "spend": [10.0, 50, 10, 5]}),
    }
    events, campaigns, weeks = seasons.typical(opened(tables | around))
    assert "since the launch: <b>final</b> (1 day); before it: rain (1 day)" in events.detail
    assert (events.passed, campaigns.passed, weeks.passed) == (False, False, True)
    assert "launch: N 10.0 times what it was. Read" in campaigns.detail  # 10 in 28 days, 50 in 14; S twice
    quiet = {"calendar": around["calendar"].iloc[:0], "marketing": around["marketing"].iloc[2:]}
    assert [c.passed for c in seasons.typical(opened(tables | quiet))] == [True, True, True]
    odd = {"start": "2026-09-07", "days": 15, "pre_days": 14}
    assert [c.passed for c in seasons.typical(opened(tables, dates=odd))] == [None, None, False]
    assert [c.passed for c in seasons.typical(study.open(launch.load(players[0])))] == [None, None, None]


@pytest.mark.parametrize(
    ("spend", "passed", "said"),
    [
        ({"N": [0.0] * 28 + [1_000.0] * 14, "S": [100.0] * 42}, False, "launch: N from nothing to 1,000. Read"),
        ({"N": [None] * 28 + [1_000.0] * 14, "S": [100.0] * 42}, False, "launch: N from nothing to 1,000. Read"),
        ({"N": [None] * 28 + [1_000.0] * 14}, False, "launch: N from nothing to 1,000. Read"),
        ({"N": [None] * 8 + [100.0] + [None] * 19 + [100.0] * 14}, False, "launch: N 28.0 times what it was. Read"),
        ({"N": [100.0] * 28 + [None] * 14}, False, "launch: N 0.0 times what it was. Read"),
        ({"N": [700.0 if day % 7 == 0 else None for day in range(42)]}, True, "about what it was"),
        ({"N": [None] * 42}, None, "no spend is recorded"),
        (
            {"N": [100.0] * 14 + [190.0] * 7 + [100.0] * 21},
            False,
            "N from 2026-08-24 on 1.9 times its usual week. Read",
        ),
        ({"N": [100.0] * 7 + [20.0] * 7 + [100.0] * 28}, False, "N from 2026-08-17 on 0.2 times its usual week"),
        ({"N": [100.0, 130.0] * 21}, True, "and in every week"),
    ],
)
def test_a_campaign_is_a_change_of_the_daily_spend_and_a_day_without_a_row_has_none(tables, spend, passed, said):
    """By hand: sums over 28 days before and 14 since, divided by the days of each."""
    day = START.tz_localize(None).date() - pd.Timedelta(days=28)
    rows = [(r, day + pd.Timedelta(days=n), v) for r, of in spend.items() for n, v in enumerate(of) if v is not None]
    marketing = pd.DataFrame(rows or [("N", day - pd.Timedelta(days=99), 1.0)], columns=["region", "day", "spend"])
    campaigns = seasons.typical(opened(tables | {"marketing": marketing}))[1]
    assert campaigns.passed is passed
    assert said in campaigns.detail


def test_the_launchs_own_calendar_is_read_beside_the_table_each_day_once(tables):
    known_of = [{"event": "final", "start": "2026-09-06", "end": "2026-09-08"}, {"event": "old", "start": "2020-01-01"}]
    table = pd.DataFrame({"day": [dt.date(2026, 9, 8), dt.date(2026, 9, 9)], "event": "final", "region": ["N", "S"]})
    for more, said in (({}, "final (2 days)"), ({"calendar": table}, "final (3 days)")):
        events = seasons.typical(opened(tables | more, calendar=known_of))[0]
        assert events.passed is False
        assert f"since the launch: {said}; before it: final (1 day)." in events.detail
    assert seasons.typical(opened(tables, calendar=[]))[0].passed is True
    assert seasons.typical(opened(tables | {"calendar": table.iloc[:0]}))[0].passed is True
    assert seasons.typical(opened(tables))[0].passed is None


def test_the_same_placebos_are_asked_by_the_chapter_and_by_the_analysis(tables, monkeypatch):
    """The outcome that nothing can move moves: either says so, and with the same word."""
    data, path = opened(tables), known(1.0)
    moved = dataclasses.replace(did.three_ways(known(3.0))[2], metric="placebo outcome: Waiting")
    monkeypatch.setattr(seasons, "placebo", lambda *_, **__: moved)
    monkeypatch.setattr(course, "measure", lambda *_, **__: {"all": path})
    monkeypatch.setattr(seasons, "regions", lambda *_, **__: [])
    here = verdict(path, seasons.placebos(data, path), known=[HOURS])
    assert here == seasons.ask(data)
    assert here.detail.startswith("Suspect: an effect shows where there can be none (placebo outcome: Waiting)")


def test_the_analysis_asks_the_metric_that_the_chapters_follow_and_names_it(tables):
    """Without sessions the north star has no weeks; hours have."""
    some = opened(tables, metrics={"north_star": "opens_per_account_week", "supporting": ["hours_per_account_week"]})
    card = scorecard.measure(some)
    found = {c.name: c.detail for c in trust.questions(some, card)}
    title = HOURS.title
    assert found["Season and marketing"] == f"Cannot tell ({title}): the values do not vary within the arms."
    assert found[f"Novelty: {title}"].startswith(f"{title}: cannot tell: the values do not vary")
    assert fading.verdict(GONE, GONE, better="higher", title="Hours").detail == "Cannot tell (Hours): no times."


def test_the_season_is_asked_about_in_one_go(tables, players):
    data = opened(tables)
    flat = seasons.ask(data)
    assert (flat.passed, flat.detail) == (None, "Cannot tell: the values do not vary within the arms.")
    assert seasons.regions(data, "tenure") == []
    failed = [Check(name="Arm counts", passed=False, detail="Lost.")]
    assert seasons.regions(data, checks=failed) == []
    assert "'Arm counts' failed" in seasons.ask(data, checks=failed).detail
    own = study.open(launch.load(players[0]))
    assert seasons.ask(own, region="country").detail.startswith("Cannot tell: these data")


def test_a_placebo_that_the_plan_watches_is_refused(tables):
    data = opened(tables, metrics={"north_star": "hours_per_account_week", "supporting": ["session_minutes"]})
    refused = seasons.placebo(data, "session_minutes")
    assert "the plan itself watches" in refused.reason
    assert refused.metric == "placebo outcome: Minutes watched per session"
    assert "sessions" in seasons.placebo(data, "crash_rate").reason


@pytest.mark.parametrize(
    ("drift", "placebos", "p", "word", "passed"),
    [
        (0.0, False, 0.9, "Stands", True),
        (0.0, False, 0.001, "Differs by region", True),
        (0.5, False, 0.001, "Suspect", False),
        (0.0, True, 0.9, "Suspect", False),
    ],
)
def test_the_verdict_is_one_word_with_its_reason(drift, placebos, p, word, passed):
    path = known(1.0, drift=drift)
    wrong = [dataclasses.replace(did.three_ways(known(3.0))[1], metric="placebo in time")] if placebos else []
    answer = verdict(path, wrong, [places(HOURS.name, (1.0, 1.4), p=p)], known=[HOURS])
    assert answer.detail.startswith(word + ":")
    assert answer.passed is passed


@pytest.mark.parametrize(
    ("effect", "low", "high", "word", "but"),
    [
        (0.15, -0.01, 0.32, "Cannot tell", "but the effect itself cannot be told from chance."),
        (0.3, 0.2, 0.4, "Stands", "would probably not have been seen: the draw of the arms rules it out."),
        (0.5, 0.3, 0.7, "Stands", "(the weeks before; placebo in time)."),
    ],
)
def test_only_an_effect_that_is_there_stands_and_an_unseen_drift_of_its_size_is_said(effect, low, high, word, but):
    """The placebo in time is two weeks against two; an hour a week has the deviation 13 h, of 20,000 accounts an arm."""
    path = known(1.0)
    fake = did.placebo_in_time(path)
    assert fake.mde == pytest.approx(2.8 * 13 * np.sqrt(2 / 20_000), rel=0.01)  # 0.364: two weeks against two
    planned = dataclasses.replace(did.three_ways(path)[1], diff=effect, low=low, high=high)
    ways = seasons.compared(did.three_ways(path), planned, [])
    alike = did.pre_trend(did.event_study(path))
    answer = seasons.verdict(ways, alike, [fake], [], known=[HOURS])
    assert answer.detail.startswith(f"{word}: control lived through the same days")
    assert answer.detail.endswith(but)
    assert ("cannot be told from chance" in answer.detail) is (word == "Cannot tell")
    assert answer.passed is (True if word == "Stands" else None)  # neither holds a verdict up
    said = seasons.told(answer, ways, [], alike, [], [HOURS]).sentences[1]
    assert said.startswith("The number to defend" if word == "Stands" else "It is that of chapter 04: ")


def test_regions_are_told_by_their_own_effects_in_the_metric_that_differs():
    alike, apart = places(HOURS.name, (1.0, 1.01), p=1e-9), places(STARTED.name, (0.459, 0.326, 0.4), p=1e-6)
    answer = verdict(known(1.0), regions=[alike, apart], known=[HOURS, STARTED])
    assert "from +32.6 pp in B to +45.9 pp in A." in answer.detail
    assert STARTED.title in answer.detail
    assert "more metrics" not in answer.detail  # of hours the regions differ surely, but by a hundredth
    drawn = seasons.shown([alike, apart], alpha=0.05)
    ways = seasons.compared(did.three_ways(known(1.0)), did.three_ways(known(1.0))[1], [])
    told = seasons.told(answer, ways, [], did.pre_trend(did.event_study(known(1.0))), drawn, [HOURS, STARTED])
    assert [e.metric for e in told.estimates] == [STARTED.name] * 3
    assert told.unit == "share"
    assert not any("chapter 04" in sentence for sentence in told.sentences)
    assert seasons.shown([alike], alpha=0.05) == [alike]
    assert seasons.tests([alike, apart])["highest"].tolist() == [1.01, 0.459]
    assert seasons.tests([]).empty


def test_about_nothing_regions_are_held_against_the_level_of_control():
    """Control has 13.3 hours since the launch: a twentieth is 0.665, and a fifth of that 0.133."""
    for apart, differ in ((0.12, False), (0.15, True)):
        found = places(HOURS.name, (-apart / 2, apart / 2), p=1e-9)
        assert bool(seasons.differing([found], alpha=0.05)) is differ
    assert seasons.differing([places(HOURS.name, (2.0, 2.3), p=1e-9)], alpha=0.05) == []  # a seventh of their mean


def test_how_many_metrics_differ_is_told_in_the_right_number():
    apart = [places(m.name, (1.0, 3.0), p=1e-9) for m in (HOURS, STARTED, metrics.get("session_minutes"))]
    assert "(1 more metric differs too)" in verdict(known(1.0), regions=apart[:2]).detail
    assert "(2 more metrics differ too)" in verdict(known(1.0), regions=apart).detail


def test_a_looser_alpha_of_the_launch_lets_regions_differ_sooner():
    apart = places(HOURS.name, (1.0, 1.4), p=0.08)
    assert verdict(known(1.0), regions=[apart]).detail.startswith("Stands")
    assert verdict(known(1.0), regions=[apart], alpha=0.1).detail.startswith("Differs")


def test_regions_that_differ_are_told_even_where_no_week_could_be_read():
    apart = places(STARTED.name, (0.2, 0.6), p=1e-6)
    assert verdict(GONE, regions=[apart]).detail.startswith("Differs")
    assert verdict(GONE, [GONE]).detail == "Cannot tell: no times."


def test_what_could_not_be_asked_is_not_said_to_stand():
    young = known(1.0).since()
    other = dataclasses.replace(did.three_ways(known(0.0))[2], metric="placebo outcome: Waiting", p=0.7)
    answer = verdict(young, [did.placebo_in_time(young), other])
    assert answer.detail.endswith("(placebo outcome: Waiting). Could not be asked: the weeks before; placebo in time.")
    assert verdict(young, [did.placebo_in_time(young)]).detail.startswith("Cannot tell: nothing before")


def test_before_and_after_is_called_misleading_when_the_calendar_failed():
    path, unusual = known(1.0), [Check(name="Calendar", passed=False, detail="A final.")]
    planned = dataclasses.replace(did.three_ways(path)[1], diff=0.0643, low=0.01, high=0.12)
    for checks, said in ((unusual, True), ([], False)):
        ways = seasons.compared(did.three_ways(path), planned, checks)
        told = seasons.told(verdict(path), ways, checks, did.pre_trend(did.event_study(path)), [], [STARTED])
        assert ("misleading" in ways[0].note) is said
        assert ("misleads here: calendar" in told.sentences[2]) is said
        assert told.sentences[1].endswith("chapter 04: +6.4 pp (+1.0 to +12.0).")
        assert ways[-1].metric == "as planned (chapter 04)"
        assert not any(wording.unplain(sentence) for sentence in told.sentences)
    capped = [e.note for e in seasons.compared(did.three_ways(path), planned, [], cap=0.99)]
    assert [note.rpartition("; ")[2] for note in capped] == ["nothing is capped"] * 3 + ["capped as planned"]
    none = seasons.compared(did.three_ways(GONE), GONE, [])
    assert [e.reason for e in none] == ["no times"] * 4
    assert seasons.told(verdict(GONE), none, [], did.pre_trend(GONE), [], [HOURS]).sentences == (
        "Cannot tell: no times.",
    )


def test_the_effect_beside_the_spend_of_regions_is_that_of_a_regression_on_rows():
    """Sixty accounts in three regions; the oracle is statsmodels on rows made by hand, spend by day as planted."""
    rng = np.random.default_rng(4)
    accounts = pd.DataFrame({"account": [f"a{k}" for k in range(60)], "region": list("NSE") * 20})
    arm = np.where(rng.random(60) < 0.5, "early", "control")
    minutes = 60 * rng.gamma(2, 2, 60) + 120 * (accounts["region"] == "N") + 60 * (arm == "early")
    plays = accounts[["account"]].assign(
        started_at=START + pd.Timedelta(days=3), watch_minutes=minutes, session="s", title="x"
    )
    late = pd.DataFrame({"account": ["z"], "started_at": [START + pd.Timedelta(days=20)], "watch_minutes": [1.0]})
    day = START.tz_localize(None).date()
    marketing = pd.DataFrame(
        {"region": ["N", "N", "S", "N"], "day": [day, day + pd.Timedelta(days=1), day, day - pd.Timedelta(days=2)],
         "spend": [140.0, 140.0, 70.0, 9_999.0], "impressions": [5, 5, 5, 99]}
    )  # fmt: skip
    made = {
        "assignments": accounts[["account"]].assign(arm=arm),
        "plays": pd.concat([plays, late.assign(session="s", title="x")], ignore_index=True),
        "accounts": accounts,
        "marketing": marketing,
    }
    found = marketing_.adjusted(opened(made), HOURS).set_index("model")
    x = pd.DataFrame(
        {"one": 1.0, "treated": arm == "early", "spend": accounts["region"].map({"N": 20, "S": 5, "E": 0})}
    )
    for model, columns in (("treatment alone", ["one", "treated"]), ("with spend", ["one", "treated", "spend"])):
        oracle = sm.OLS(minutes / 60 / 2, x[columns].astype(float)).fit(cov_type="HC2", use_t=True)
        got = found.loc[model, ["value", "se"]].tolist()
        assert got == pytest.approx([oracle.params["treated"], oracle.bse["treated"]])
    assert "wrong if the launch itself" in found.loc["with impressions", "note"]
    level = made | {"marketing": marketing.iloc[3:]}  # before the launch alone
    assert (
        "explains nothing" in marketing_.adjusted(opened(level), HOURS).set_index("model").loc["with spend", "reason"]
    )
    without = {name: table for name, table in made.items() if name != "marketing"}
    for tables, plan, metric, said in (
        (without, {}, HOURS, "no table 'marketing'"),
        (made, {"segments": []}, HOURS, "no segment 'region'"),
        (made, {}, metrics.get("session_minutes"), "no mean over accounts"),
    ):
        assert said in marketing_.adjusted(opened(tables, **plan), metric)["reason"].item()


@pytest.mark.parametrize("markets", [60, 12])
def test_beside_the_spend_of_regions_whole_markets_are_what_was_drawn(markets):
    """Accounts of a market share an hour a week of luck; the oracle is statsmodels, clustered, on rows made by hand."""
    rng, each = np.random.default_rng(8), 5
    market = np.repeat(np.arange(markets), each)
    accounts = pd.DataFrame({"account": [f"a{k}" for k in range(len(market))], "market": market, "region": "N"})
    accounts.loc[market % 3 == 0, "region"] = "S"
    treated = (market % 2).astype(float)
    minutes = 600 + 120 * rng.normal(size=markets)[market] + 30 * rng.normal(size=len(market))
    plays = accounts[["account"]].assign(
        started_at=START + pd.Timedelta(days=3), watch_minutes=minutes, session="s", title="x"
    )
    late = plays.iloc[:1].assign(account="z", started_at=START + pd.Timedelta(days=20))
    made = {
        "assignments": accounts[["account"]].assign(arm=np.where(treated, "early", "control")),
        "plays": pd.concat([plays, late], ignore_index=True),
        "accounts": accounts,
        "marketing": pd.DataFrame({"region": ["N"], "day": [START.tz_localize(None).date()], "spend": [140.0]}),
    }
    unit = {"randomised": "region", "errors": "cluster", "cluster": "market"}
    found = marketing_.adjusted(opened(made, unit=unit), HOURS).set_index("model")
    if markets == 12:
        assert "12 regions were drawn" in found["reason"].item()
        return
    x = pd.DataFrame({"one": 1.0, "treated": treated, "spend": np.where(accounts["region"] == "N", 10.0, 0.0)})
    for model, columns in (("treatment alone", ["one", "treated"]), ("with spend", ["one", "treated", "spend"])):
        oracle = sm.OLS(minutes / 60 / 2, x[columns]).fit(cov_type="cluster", cov_kwds={"groups": market})
        assert found.loc[model, ["value", "se"]].tolist() == pytest.approx([oracle.params.iloc[1], oracle.bse.iloc[1]])


def test_what_is_suspect_has_no_number_to_defend():
    path = known(1.0, drift=0.5)
    ways, alike = did.three_ways(path), did.pre_trend(did.event_study(path))
    told = seasons.told(verdict(path), seasons.compared(ways, ways[1], []), [], alike, [], [HOURS])
    assert len(told.sentences) == 1
    assert told.sentences[0] == f"Suspect: {alike.detail}"


def test_nothing_is_simulated_where_the_question_cannot_be_asked():
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    shown = [
        practice.busy_season(GONE, rng, effect=0.5, busier=1.2),
        practice.two_by_two(GONE, rng, show=0.5, marketing=0.3, interaction=0.6),
        practice.adjusted(GONE, rng, direct=0.2, by_impressions=0.3),
        practice.false_alarms(GONE, rng, regions=8),
    ]
    campaign = practice.campaign(GONE, rng, lift=0.15, shock=0.1)
    assert all(frame.empty for frame in (*shown, campaign.gap, campaign.methods, campaign.tried))
    assert "no times" in campaign.words
    assert rng.bit_generator.state == before
    assert did.arms(GONE, ("old", "new")).empty


@pytest.mark.parametrize("exhibit", ["busy_season", "two_by_two", "adjusted", "campaign"])
def test_demonstrations_have_the_intervals_of_the_launch(exhibit):
    """The same draws at two levels: intervals are as wide as their normal quantiles, 1.645 and 2.576, say."""
    how = {
        "busy_season": lambda a, r: practice.busy_season(a, r, effect=0.5, busier=1.2),
        "two_by_two": lambda a, r: practice.two_by_two(a, r, show=0.5, marketing=0.3, interaction=0.6),
        "adjusted": lambda a, r: practice.adjusted(a, r, direct=0.2, by_impressions=0.3),
        "campaign": lambda a, r: practice.campaign(a, r, lift=0.15, shock=0.1).tried.rename(columns={"effect": "diff"}),
    }[exhibit]
    narrow, wide = (how(known(1.0, level=level), np.random.default_rng(1)) for level in (0.9, 0.99))
    ratio = ((wide["high"] - wide["low"]) / (narrow["high"] - narrow["low"])).to_numpy()
    few = exhibit == "campaign"  # t with few degrees of freedom spreads further
    assert ratio == pytest.approx(2.5758 / 1.6449, rel=0.3 if few else 0.001)


def test_a_busy_season_is_taken_for_an_effect_by_before_and_after_alone():
    found = practice.busy_season(known(1.0), np.random.default_rng(2), effect=0.5, busier=1.2)
    assert found["covered"].tolist() == [False, True, True]
    assert found["diff"].iloc[0] == pytest.approx(0.5 + 0.2 * 10, abs=0.2)  # ten hours a week, a fifth more


def test_a_campaign_that_does_nothing_is_called_an_effect_by_account_errors_only():
    found = practice.false_alarms(known(1.0), np.random.default_rng(3), regions=8, runs=60)
    alarms = found["false alarms"].to_numpy()
    assert alarms[0] > 0.3
    assert alarms[2] < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_the_arms_are_drawn_with_their_own_means_and_intervals():
    path = known(1.0)
    drawn = did.arms(path, ("old", "new"))
    new = drawn[drawn["arm"] == "new"]
    assert new["value"].tolist() == path.mean[1].tolist()
    assert (new["high"] - new["value"]).to_numpy() == pytest.approx(1.95996 * 13 / np.sqrt(20_000), rel=1e-4)


def test_a_launch_in_the_holidays_with_a_campaign_by_region_is_read_as_both_say(tmp_path):
    """Planted: days 1.09 times as busy for four weeks, one of them 1.1 times more, a final that takes 8 per cent.

    The campaign pushes the title in three regions of four: starts differ, hours hardly.
    """
    text = """\
    name: busy
    data: {source: simulate, scenario: show_premiere+holiday+regional_marketing, accounts: 8_000, seed: 3}
    arms: {control: control, treatment: early_access}
    dates: {start: 2026-12-07, days: 28, pre_days: 28}
    sampling: {n: {control: 4_000, early_access: 2_000}}
    metrics: {north_star: hours_per_account_week, supporting: [{metric: show_start_rate, target: +25pp}]}
    segments: [region]
    """
    (tmp_path / "busy.yaml").write_text(textwrap.dedent(text))
    data = study.open(launch.load(tmp_path / "busy.yaml"))
    card = scorecard.measure(data)
    when = seasons.typical(data)
    assert [c.passed for c in when] == [False, False, True]
    assert "holidays (7 days), sports final (1 day)" in when[0].detail
    path = course.measure(data, HOURS, adjust=False, checks=card.checks)["all"]
    truth = data.reveal().query("segment == 'all' and week == 0 and metric == @HOURS.name")["diff"].iloc[0]
    ways = seasons.compared(did.three_ways(path), card.claims[0].estimate, when)
    assert all(isinstance(e, Estimate) for e in ways)
    assert ways[0].low > truth + 0.2  # the season is in it
    assert all(e.low < truth < e.high for e in ways[1:])
    before, after = path.mean[0, :4].mean(), path.mean[0, 4:].mean()
    busier = 1.09 * (1 + (7 * 0.1 - 0.08) / 28)
    error = ways[0].se * np.sqrt(2_000 / 4_000) / before  # of the control arm, twice as large
    assert after / before == pytest.approx(busier, abs=4 * error)
    answer = seasons.ask(data, checks=card.checks)
    assert answer.detail.startswith(f"Differs by region: {STARTED.title}")
    assert answer.detail.split(". ")[0].endswith("North America")  # nine times the spend
