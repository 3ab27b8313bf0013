"""The simulated service: plausible to someone who knows one, sound as an event log, and with a known truth."""

import datetime as dt
import filecmp
import functools
import math
import subprocess
import sys

import duckdb
import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers import metrics, schema, simulate
from helpers.errors import ParameterError
from helpers.logs import count
from helpers.simulate import block, events, parameters, people, tally, titles, truth, viewing, worlds

TABLES = tuple(schema.TABLES)


def halves(frame, treated="even"):
    """Assign everybody, every other account to treatment."""
    even = np.arange(len(frame)) % 2 == 0
    arms = np.where(even == (treated == "even"), "treatment", "control")
    return pd.DataFrame({"account": frame["account"], "arm": arms, "stratum": "all", "inclusion_probability": 0.5})


def database(folder):
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    for path in folder.iterdir():
        parts = path / "*.parquet" if path.is_dir() else path
        connection.execute(f"create view {path.stem} as from '{parts}'")
    return connection


def value(connection, query):
    return connection.sql(query).fetchall()[0][0]


def true_value(folder, metric, column="rel", segment="all", arm="treatment"):
    known = pd.read_parquet(folder / "truth.parquet").query("segment == @segment and arm == @arm")
    (found,) = known.loc[known["metric"] == metric, column]
    return found


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """12,000 accounts through `show_premiere`."""
    folder = tmp_path_factory.mktemp("service") / "show_premiere"
    simulate.write(simulate.Simulation(accounts=12_000), folder, halves)
    return folder


@pytest.fixture(scope="module")
def logs(service):
    return database(service)


# Plausible: the figures that are published or set down stand in test_portrait.


@pytest.mark.parametrize(
    ("anchor", "tolerance", "query"),
    [
        (0.34, 0.014, "avg((region = 'EMEA')::int)"),
        (0.30, 0.013, "avg((age_band = '35-49')::int)"),
        (0.39, 0.014, "avg((tenure = 'first year')::int)"),
        (0.70, 0.013, "avg((device = 'tv')::int)"),
        (0.30, 0.013, "avg(new_tv::int)"),
        (1 / 3, 0.01, "avg((engagement = 'heavy')::int)"),
        (10.8, 0.35, "avg(past_weekly_hours)"),
    ],
)
def test_the_population_is_mixed_as_specified(logs, anchor, tolerance, query):  # (1)
    assert value(logs, f"select {query} from accounts") == pytest.approx(anchor, abs=tolerance)


def test_a_quarter_of_the_hours_of_the_show_come_on_top(service):
    added = 4 * true_value(service, "hours_per_account_week", "diff")
    watched = true_value(service, "show_hours_per_account", "treatment")
    assert true_value(service, "show_start_rate", "treatment") == pytest.approx(0.31, abs=0.015)
    assert watched == pytest.approx(1.17, rel=0.12)  # (5); here some have no time to finish
    assert added / watched == pytest.approx(0.25, abs=0.02)
    assert true_value(service, "hours_per_account_week") == pytest.approx(0.007, abs=0.0015)


@pytest.mark.parametrize(
    ("scenario", "effects"),
    [
        (
            "homepage",  # (7)
            {"hours_per_account_week": 0.008, "discovery_rate": 0.06, "browse_to_play": 0.02}
            | {"opens_per_account_week": 0.005, "session_minutes": 0.003},  # sessions with a play: +0.6 %
        ),
        (
            "homepage_optimistic",  # the targets of the first source document; hours follow from opens and length
            {"hours_per_account_week": 0.176, "discovery_rate": 0.15, "browse_to_play": 0.08}
            | {"opens_per_account_week": 0.05, "session_minutes": 0.12},
        ),
    ],
)
def test_the_homepage_has_the_specified_effects(tmp_path, scenario, effects):
    simulate.write(simulate.Simulation(scenario=scenario, accounts=6_000, pre_days=0), tmp_path / "out", halves)
    for metric, effect in effects.items():
        assert true_value(tmp_path / "out", metric) == pytest.approx(effect, rel=0.08, abs=0.001), metric


# Sound as an event log.


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_keep_the_contract(service, name):
    place = service / f"{name}.parquet"
    rows = ibis.duckdb.connect().read_parquet(place if place.exists() else service / name / "*.parquet")
    order = [column.name for column in schema.TABLES[name].columns]
    assert schema.faults(name, rows) == []
    assert count({name: rows}).empty
    assert list(rows.columns) == [column for column in order if column in rows.columns]


@pytest.mark.parametrize("name", TABLES)
def test_keys_are_unique_and_foreign_keys_found(logs, name):
    table = schema.TABLES[name]
    if table.key:
        repeated = f"select count(*) from (from {name} select {', '.join(table.key)} group by all having count(*) > 1)"
        assert value(logs, repeated) == 0
    for foreign in table.foreign_keys:
        columns = ", ".join(foreign.columns)
        assert value(logs, f"select count(*) from {name} anti join {foreign.table} using ({columns})") == 0


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(
            "plays p join sessions s using (account, session) where s.seconds_to_first_play is null "
            "or epoch(p.started_at) < epoch(s.started_at) + s.seconds_to_first_play",
            id="a play begins before its session's first play",
        ),
        pytest.param(
            "(select started_at, session = lag(session) over later as same, lag(session) over later as previous, session,"
            " lag(epoch(started_at) + 60 * watch_minutes) over later as until"
            " from plays window later as (partition by account order by started_at, session))"
            " where epoch(started_at) < until - 0.001 or session < previous",
            id="plays overlap, or those of two sessions are mixed",
        ),
        pytest.param(
            "sessions s anti join plays using (account, session) where s.seconds_to_first_play is not null",
            id="a session with a first play has no play",
        ),
        pytest.param(
            "(select initiation, row_number() over (partition by account, session order by started_at) as nth from plays)"
            " where nth = 1 and initiation = 'autoplay_next'",
            id="autoplay without a play before it",
        ),
        pytest.param("plays anti join sessions using (account, session)", id="a play outside of a session"),
        pytest.param(
            "sessions s join (select account, session, max(epoch(started_at) + 60 * watch_minutes) as until from plays"
            " group by all) using (account, session) join (select account, session, lead(started_at) over"
            " (partition by account order by started_at, session) as next from sessions) using (account, session)"
            " where until > epoch(next) + 0.001",
            id="a play that lasts into the next session",
        ),
        pytest.param("sessions anti join assignments using (account)", id="a session of an account not assigned"),
        pytest.param(
            "(select initiation, title, episode, lag(title) over seen as last, lag(episode) over seen as before from plays"
            " window seen as (partition by account, session order by started_at)) where initiation = 'autoplay_next'"
            " and title <> 't00000' and last = title and episode <> before + 1",
            id="autoplay that does not bring the next episode",
        ),
        pytest.param(
            "(select account, epoch(prompted_at) as until from surveys) anti join (select account, epoch(started_at)"
            " + round(60 * watch_minutes) as until from plays where episode is not null) using (account, until)",
            id="a prompt that no watched episode precedes",
        ),
        pytest.param("surveys where responded_at < prompted_at", id="an answer before the question"),
        pytest.param(
            "surveys where responded_at is null and (score is not null or nps is not null or effort is not null)",
            id="a score without an answer",
        ),
        pytest.param(
            "(select account, title, epoch(given_at) as until from feedback) anti join (select account, title,"
            " epoch(started_at) + round(60 * watch_minutes) as until from plays where completed_share = 1)"
            " using (account, title, until)",
            id="a thumb for what was not watched to its end",
        ),
        pytest.param(
            "impressions join sessions using (account, session) where shown_at <> started_at",
            id="a screen outside of its session",
        ),
        pytest.param(
            "(from plays where title = 't00000') anti join impressions using (account, title)",
            id="the show played without having been shown",
        ),
        pytest.param(
            "sessions anti join (select account, opened_at as started_at from app_opens where not background)"
            " using (account, started_at)",
            id="a session without an opening",
        ),
        pytest.param(
            "(select account, opened_at as moment from app_opens union all select account, opened_at from tickets"
            " union all select account, given_at from feedback) join cancellations using (account)"
            " where epoch(moment) > epoch(cancelled_at)",
            id="anything after leaving",
        ),
        pytest.param("cancellations where resubscribed_at <= cancelled_at", id="back before leaving"),
        pytest.param(
            "plays join cancellations using (account) where epoch(started_at) + 60 * watch_minutes > epoch(cancelled_at)",
            id="viewing after leaving",
        ),
        pytest.param(
            "sessions join cancellations using (account) where started_at > cancelled_at", id="a session after leaving"
        ),
        pytest.param(
            "plays join assignments using (account) where title = 't00000'"
            " and (arm = 'control' or started_at < assigned_at)",
            id="the show without access",
        ),
        pytest.param(
            "(select sum(watch_minutes) as m from plays group by account, started_at::date) where m > 24 * 60",
            id="more than 24 hours in a day",
        ),
        pytest.param(
            "plays join titles using (title) where watch_minutes > minutes + 0.001"
            " or abs(completed_share - watch_minutes / minutes) > 0.001",
            id="more watched than there is",
        ),
        pytest.param(
            "plays where started_at < timestamptz '2026-08-10' or started_at >= timestamptz '2026-10-05'",
            id="outside the window",
        ),
    ],
)
def test_the_logs_hold_nothing_impossible(logs, broken):
    assert value(logs, f"select count(*) from {broken}") == 0


def test_capacity_follows_from_plays(logs):
    """The streams of an hour are the plays that run at its beginning, each weighted to the population."""
    plays = logs.sql(
        "select epoch(started_at) as begin, epoch(started_at) + round(60 * watch_minutes) as until from plays"
    ).df()
    load = logs.sql('select epoch(hour) as hour, streams, "limit" from capacity order by hour').df()
    begun, ended = (np.searchsorted(np.sort(plays[edge]), load["hour"], side="right") for edge in ("begin", "until"))
    np.testing.assert_array_equal(load["streams"], 2 * (begun - ended))  # half of the accounts are in each arm
    assert len(load) == 24 * 28
    assert load["streams"].max() / load["limit"].iloc[0] == pytest.approx(0.7, abs=0.001)


def test_episodes_of_the_show_are_seen_once_and_in_order(logs):
    out_of_order = """
        (select episode, row_number() over (partition by account order by started_at) as nth
         from plays where title = 't00000') where episode <> nth
    """
    assert value(logs, f"select count(*) from {out_of_order}") == 0
    assert value(logs, "select max(episode) from plays where title = 't00000'") == 8


@given(
    first=st.integers(0, 40),
    pre_days=st.integers(0, 10),
    days=st.integers(1, 30),
    seed=st.integers(0, 2**32),
)
def test_any_window_is_filled_and_kept(first, pre_days, days, seed):
    start = dt.date(2026, 9, 1) + dt.timedelta(days=first)
    simulation = simulate.Simulation(accounts=40, start=start, pre_days=pre_days, days=days, seed=seed)
    population = people.draw(simulation, np.random.SeedSequence(seed))
    chances = viewing.draw(simulation, population, 1.0, np.random.default_rng(seed))
    life = worlds.live(simulation, chances, parameters.Service(show=True))
    starts = events.session_starts(simulation, chances, life)
    ends = starts + life.first_play_seconds + life.seconds
    launch = pre_days * viewing.DAY
    held = life.happens
    assert starts[held].min(initial=0) >= 0
    assert ends[held].max(initial=0) <= launch + days * viewing.DAY
    assert ((starts < launch) == (ends <= launch))[held].all()  # none is cut by the launch
    assert (np.diff(starts[held]) >= (ends - starts)[held][:-1] - 1)[np.diff(chances.account[held]) == 0].all()


# A known truth.


VIEW = "watch_minutes >= 5"
QUERIES = {  # every metric from the tables alone; w: the weeks of the window, n: its days, a: the accounts
    "hours_per_account_week": "(select sum(watch_minutes) / 60 from p) / a / w",
    "hours_per_active_account_week": "(select sum(watch_minutes) / 60 from p) / active / w",
    "active_account_share": "active / a",
    "sessions_per_active_account_week": "(select count(*) from s) / active / w",
    "discovery_rate": "(select avg(shadow_recommended::int) from p)",
    "browse_to_play": "(select avg((coalesce(seconds_to_first_play, 999) <= 300)::int) from s)",
    "session_minutes": "(select sum(watch_minutes) from p) / (select count(*) from s)",
    "session_minutes_by_account": "(select sum(m / c) from (select account, count(*) as c from s group by account) "
    "join (select account, sum(watch_minutes) as m from p group by account) using (account)) / active",
    "opens_per_account_week": "(select count(*) from s) / a / w",
    "app_opens_per_account_week": "(select count(*) from (select opened_at, lag(opened_at) over (partition by account "
    "order by opened_at) as last from app_opens where not background) where opened_at >= '{launch}' and opened_at < '{end}' and "
    "(last is null or opened_at >= last + interval 30 minutes)) / a / w",
    "distinct_titles_per_account": "(select count(distinct (account, title)) from p where {view}) / a",
    "titles_per_ten_hours": "(select count(distinct (account, title)) from p where {view}) * 10 "
    "/ (select sum(watch_minutes) / 60 from p)",
    "churn_28d": "(select count(*) from cancellations) / a",
    "voluntary_churn_28d": "(select count(*) from cancellations where kind = 'voluntary') / a",
    "net_churn_28d": "(select count(*) from cancellations where resubscribed_at is null) / a",
    "effort_score": "(select avg(effort) from surveys)",
    "payment_churn_28d": "(select count(*) from cancellations where kind = 'payment') / a",
    "time_to_cancel": "n - (select coalesce(sum(n - epoch(cancelled_at - timestamptz '{launch}') / 86400), 0)"
    " from cancellations) / a",
    "tickets_per_account": "(select count(*) from tickets) / a",
    "finding_tickets_per_1000": "(select 1000 * count(*) from tickets where topic = 'finding titles') / a",
    "crash_rate": "(select avg(crashed::int) from s)",
    "crashed_account_share": "(select count(distinct account) from s where crashed) / a",
    "never_played_share": "(select avg((seconds_to_first_play is null)::int) from s)",
    "tail_creator_share": "(select sum(watch_minutes) filter (creator_tier = 'tail') / sum(watch_minutes) from p)",
    "tail_impression_share": "(select avg((creator_tier = 'tail')::int) from i join titles using (title))",
    "start_failure_rate": "(select avg(start_failed::int) from s)",
    "play_delay_ms": "(select avg(play_delay_ms) from s)",
    "rebuffer_ratio": "(select avg(rebuffer_ratio) from s)",
    "intentional_start_share": "(select avg((initiation <> 'autoplay_next')::int) from p)",
    "intentional_hours_share": "(select sum(watch_minutes) filter (initiation <> 'autoplay_next') / sum(watch_minutes)"
    " from p)",
    "survey_score": "(select avg(score) from surveys)",
    "survey_top_box": "(select avg((score = 5)::int) from surveys where score is not null)",
    "survey_response_rate": "(select count(score) / count(*) from surveys)",
    "net_promoter_score": "(select 100 * (count(*) filter (nps >= 9) - count(*) filter (nps <= 6)) / count(nps) from surveys)",
    "regret_rate": "(select count(*) from f where thumb = 'down') / (select count(*) from p where {view})",
    "hidden_after_view_rate": "(select count(*) from f where hide) / (select count(*) from p where {view})",
    "next_day_return": "(select count(*) filter (next = day + 1) / count(*) filter (day < n - 1) from (select day, "
    "lead(day) over (partition by account order by day) as next from (select distinct account, day from s)))",
    "effort_index": "((select sum(coalesce(seconds_to_first_play, 300)) from s)"
    " + (select 30 * count(*) from p where initiation = 'search')) / (select count(*) from s)",
    "days_to_value": "n - (select sum(n - least(coalesce(x, n), coalesce(y, n))) from (select account, "
    "min(t) as x from p where completed_share >= 0.9 group by account) full join (select account, min(t) as y from f "
    "where thumb = 'up' group by account) using (account)) / a",
    "feature_repeat_use": "(select count(*) from (from p select account where shadow_recommended group by account"
    " having count(distinct day) > 1)) / a",
    "show_reach": "(select count(distinct account) from i where title = 't00000') / a",
    "show_start_rate": "(select count(distinct account) from p where is_launch_title) / a",
    "show_pilot_completion": "(select count(distinct account) from p where is_launch_title and episode = 1"
    " and completed_share >= 0.9) / a",
    **{
        f"show_episode_{nth}_rate": f"(select count(distinct account) from p where is_launch_title and episode >= {nth}) / a"
        for nth in (2, 4, 8)
    },
    "show_completion": "(select avg((completed_share >= 0.9)::int) from p where is_launch_title)",
    "show_repeat_rate": "(select count(*) from (from p select account where is_launch_title group by account"
    " having count(distinct day) > 1)) / a",
    "show_hours_per_account": "(select coalesce(sum(watch_minutes), 0) / 60 from p where is_launch_title) / a",
    "other_hours_per_account": "(select sum(watch_minutes) / 60 from p where not is_launch_title) / a",
    "net_hours_per_account": "(select sum(watch_minutes) / 60 from p) / a",
    "creator_gini": "(select 2 * sum(nth * m) / (count(*) * sum(m)) - (count(*) + 1) / count(*) from (select sum(m) as m, "
    "row_number() over (order by sum(m)) as nth from (select creator, watch_minutes as m from p union all "
    "select creator, 0 from titles) group by creator))",
    **{name: f"(select quantile_disc({of}, {share}) from s)" for name, (of, share) in truth.QUANTILES.items()},
    "hours_per_active_week": "(select sum(watch_minutes) / 60 from p) / (select count(distinct (account, day // 7)) from s"
    " where seconds_to_first_play is not null)",
}
QUERIES["time_to_value"] = QUERIES["days_to_value"]


REACHED = {"catalogue_coverage": ("p", 125), "recommendation_coverage": ("i", 125)}  # a quarter of 500 accounts


def reach(world, table, m):
    """Share of the titles that m accounts reach, if each is missed with the chance of a hypergeometric distribution.

    In `halves` every account is drawn with probability 1/2 and stands for two.
    """
    n, k = (value(world, f"select count(*) from {name}") for name in ("accounts", "titles"))
    counts = world.sql(f"select count(distinct account) from {table} group by title").fetchnumpy()
    return (1 - stats.hypergeom.pmf(0, 2 * n, 2 * next(iter(counts.values())), m)).sum() / k


TIMES = {"plays": "started_at", "sessions": "started_at", "feedback": "given_at", "impressions": "shown_at"}
TIMES |= {"cancellations": "cancelled_at", "tickets": "opened_at", "surveys": "prompted_at"}


def whole_world(folders, arm, *, level="true", begin=0, days=28):
    """Join what the accounts of one arm did in each folder in a window; together they are all accounts of a level."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set threads = 1")
    connection.execute(f"create table titles as from '{folders[0]}/titles.parquet'")
    who = f"(select account from accounts where {level})"
    connection.execute(f"create table accounts as from '{folders[0]}/accounts.parquet' where {level}")
    for name in ("app_opens", *TIMES):
        parts = [
            f"from '{folder}/{name}/*.parquet' semi join {who} using (account) "
            f"semi join (from '{folder}/assignments.parquet' where arm = '{arm}') using (account)"
            for folder in folders
        ]
        since = f"epoch({TIMES[name]} - timestamptz '2026-09-07') / 86400 - {begin}" if name in TIMES else "0"
        more = " join titles using (title)" if name == "plays" else ""
        connection.execute(
            f"create table {name} as from (select *, {since} as t, floor(t)::int as day "
            f"from ({' union all '.join(parts)}){more}) where t >= 0 and t < {days}"
        )
    for name in "psfi":
        (table,) = (table for table in ("plays", "sessions", "feedback", "impressions") if table.startswith(name))
        connection.execute(f"create view {name} as from {table}")
    return connection


def asked_of(world, metric, *, begin=0, days=28):
    first = dt.date(2026, 9, 7) + dt.timedelta(days=begin)
    query = QUERIES[metric].format(launch=first, end=first + dt.timedelta(days=days), view=VIEW)
    with_ = f"select (select count(*) from accounts)::double as a, {days / 7} as w, {days} as n"
    return value(world, f"with x as ({with_}, (select count(distinct account) from s) as active) select {query} from x")


@pytest.mark.parametrize("scenario", ["show_premiere", "homepage", "aa"])
def test_truth_is_what_the_logs_show_when_every_account_is_seen_in_both_arms(tmp_path, scenario):
    """Every metric, over all accounts, over those of one level and in one week, counted by another engine."""
    simulation = simulate.Simulation(scenario=scenario, accounts=1_000, pre_days=7)
    folders = [tmp_path / which for which in ("even", "odd")]
    for folder in folders:
        simulate.write(simulation, folder, functools.partial(halves, treated=folder.name))
    assert filecmp.cmp(folders[0] / "truth.parquet", folders[1] / "truth.parquet", shallow=False)
    known = pd.read_parquet(folders[0] / "truth.parquet")
    slices = {
        ("all", "all", 0): {},
        ("device", "tv", 0): {"level": "device = 'tv'"},
        ("week", "all", 2): {"begin": 7, "days": 7},
    }
    for place, window in list(slices.items())[: 3 if scenario == "show_premiere" else 1]:
        there = known.set_index(["segment", "level", "week"]).loc[[place]].set_index("metric")
        assert {*QUERIES, *REACHED} >= set(there.index) - {"satisfaction_of_all_asked", truth.MEDIAN}
        for arm in ("control", "treatment"):
            world = whole_world(folders, arm, **window)
            span = {name: window[name] for name in ("begin", "days") if name in window}
            for metric in {*QUERIES, *REACHED} & set(there.index[there[arm].notna()]):
                if place[0] == "week" and metric == "next_day_return":
                    continue  # the day after a week's last is the next week's
                # Episodes end on whole seconds, so that a session's hours are exact to one of them.
                found = asked_of(world, metric, **span) if metric in QUERIES else reach(world, *REACHED[metric])
                assert there.loc[metric, arm] == pytest.approx(found, rel=1e-5), (metric, arm, place)


def test_truth_covers_catalogue_metrics_overall_and_by_segment(service):
    known = pd.read_parquet(service / "truth.parquet")
    asked = known.loc[known["segment"] == "all", "metric"]
    assert set(metrics.CATALOGUE) <= set(asked)
    for segment in ("region", "device", "tenure", "engagement", "new_tv"):
        assert set(known.loc[known["segment"] == segment, "metric"]) == set(asked) - {truth.MEDIAN}
    by_week = set(known.loc[known["segment"] == "week", "metric"])
    assert set(asked) - by_week == {truth.MEDIAN, "time_to_cancel", "time_to_value", "days_to_value"}
    assert set(known["segment"]) == {"all", *tally.SEGMENTS, "week", "planted"}
    of_hours = known[known["metric"] == "hours_per_account_week"]
    assert of_hours["segment"].value_counts().to_dict() == {
        "all": 1,
        "region": 4,
        "device": 4,
        "tenure": 3,
        "engagement": 3,
        "new_tv": 2,
        "week": 4,
    }
    weekly = of_hours[of_hours["segment"] == "week"]
    assert weekly["week"].tolist() == [1, 2, 3, 4]
    assert weekly["diff"].mean() == pytest.approx(of_hours.loc[of_hours["segment"] == "all", "diff"].item())
    np.testing.assert_allclose(known["diff"], known["treatment"] - known["control"])
    assert known.loc[known["control"] == 0, "rel"].isna().all()


def test_nothing_changes_in_aa(tmp_path):
    simulate.write(simulate.Simulation(scenario="aa", accounts=1_000), tmp_path / "out", halves)
    known = pd.read_parquet(tmp_path / "out" / "truth.parquet")
    assert (known.loc[known["segment"] != "planted", "diff"] == 0).all()
    assert true_value(tmp_path / "out", "show_start_rate", "control") > 0.2  # so that a test of starts can be tried


def test_without_a_launch_title_nothing_is_said_about_one(tmp_path):
    simulate.write(simulate.Simulation(scenario="homepage", accounts=500), tmp_path / "out", halves)
    assert not pd.read_parquet(tmp_path / "out" / "titles.parquet")["is_launch_title"].any()
    assert not set(pd.read_parquet(tmp_path / "out" / "truth.parquet")["metric"]) & set(truth.OF_THE_SHOW)


def test_truth_is_weighted_to_the_population():
    """Accounts that stand for three others count three times, and those that stand for nobody do not count."""
    simulation = simulate.Simulation(accounts=400, pre_days=0)
    everyone = people.with_engagement(people.draw(simulation, np.random.SeedSequence(1)), (5.0, 12.0))

    def tallies(rows, weight):
        seed = np.random.SeedSequence(2)
        one = block.Block(
            people=everyone.iloc[rows], arm=np.zeros(len(rows), np.int8), weight=weight, represents=True, seed=seed
        )
        return block.live(simulation, one)[1].worlds

    rows = np.arange(400)
    once, thrice = tallies(rows, np.ones(400)), tallies(rows, 3 * np.ones(400))
    half = tallies(rows, np.where(rows % 2, 2.0, 0.0))
    for one, three in zip(once, thrice, strict=True):
        np.testing.assert_allclose(three.sums, 3 * one.sums)
        np.testing.assert_allclose(three.creators, 3 * one.creators)
    assert half[0].sums.loc[("all", "all", 0), "accounts"] == 400
    told = functools.partial(
        truth.contrast, arms=["control", "treatment"], assigned=[200, 200], offered=titles.offered(simulation)
    )
    known, again = (told(worlds).query("metric not in @truth.REACHED") for worlds in (once, thrice))
    pd.testing.assert_frame_equal(known, again)
    assert truth.medians([np.array([1.0, 5.0])] * 2, np.array([3.0, 1.0]), 1, ["c", "t"])["control"].item() == 1


def test_only_the_causal_share_of_added_hours_moves_churn():
    """With no causal share, a world with twice the hours loses the same accounts on the same days."""
    lives = {}
    for causal in (0.0, 1.0):
        simulation = simulate.Simulation(accounts=5_000, pre_days=0, churn=parameters.Churn(causal=causal, level=5.0))
        population = people.draw(simulation, np.random.SeedSequence(1))
        chances = viewing.draw(simulation, population, 1.0, np.random.default_rng(1))
        usual = worlds.live(simulation, chances, parameters.Service())
        longer = parameters.Service(session_hours=2.0)
        lives[causal] = (usual.cancelled, worlds.live(simulation, chances, longer, usual.hours).cancelled)
    np.testing.assert_array_equal(*lives[0.0])
    assert np.isfinite(lives[1.0][1]).sum() < np.isfinite(lives[1.0][0]).sum()


# The same again, or nothing.


def test_equal_parameters_give_identical_bytes_in_any_order_of_the_assignment(tmp_path):
    simulation = simulate.Simulation(accounts=6_000, pre_days=7, days=7)  # more than one block
    simulate.write(simulation, tmp_path / "one", halves)
    simulate.write(simulation, tmp_path / "two", lambda frame: halves(frame).sample(frac=1, random_state=1))
    names = files(tmp_path / "one")
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "two", names, shallow=False) == (names, [], [])
    assert {name.partition("/")[0].removesuffix(".parquet") for name in names} == {*TABLES, "truth"}


def test_a_launch_is_the_same_on_one_process_and_two(tmp_path, monkeypatch):
    monkeypatch.setattr(simulate, "_BLOCKS", 1)  # blocks in a part, so that few accounts make two parts
    simulation = simulate.Simulation(accounts=5_200, pre_days=1, days=2)
    for processes in (1, 2):
        simulate.write(simulation, tmp_path / str(processes), halves, processes=processes)
    names = files(tmp_path / "1")
    assert filecmp.cmpfiles(tmp_path / "1", tmp_path / "2", names, shallow=False) == (names, [], [])
    assert {"plays/00001.parquet", "truth.parquet", "capacity.parquet"} <= set(names)


def test_one_process_and_two_stream_the_same_bytes(tmp_path):
    simulation = simulate.Simulation(scenario="homepage", accounts=51_000, pre_days=0, days=1)  # more than one part
    for processes in (1, 2):
        simulate.stream(simulation, tmp_path / str(processes), processes=processes)
    names = files(tmp_path / "1")
    assert filecmp.cmpfiles(tmp_path / "1", tmp_path / "2", names, shallow=False) == (names, [], [])
    assert "plays/00001.parquet" in names
    logs = database(tmp_path / "1")
    assert value(logs, "select count(distinct account) from accounts join assignments using (account)") == 51_000
    assert value(logs, "select avg((arm = 'treatment')::int) from assignments") == pytest.approx(0.5, abs=0.01)
    for name in TABLES:
        for foreign in schema.TABLES[name].foreign_keys:
            columns = ", ".join(foreign.columns)
            assert value(logs, f"select count(*) from {name} anti join {foreign.table} using ({columns})") == 0


def test_where_no_process_can_start_this_one_does_everything(tmp_path):
    """Code from standard input cannot be started again, and so no process can be spawned from it."""
    code = (
        "from pathlib import Path\nfrom helpers import simulate\n"
        "simulation = simulate.Simulation(scenario='homepage', accounts=51_000, pre_days=0, days=1)\n"
        f"simulate.stream(simulation, Path({str(tmp_path / 'out')!r}), processes=2)\n"
    )
    done = subprocess.run([sys.executable, "-"], input=code, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "plays/00001.parquet" in files(tmp_path / "out")


def test_a_stream_recruits_nobody(tmp_path):
    with pytest.raises(ParameterError, match="recruits its arms; name it in a launch file"):
        simulate.stream(simulate.Simulation(scenario="opt_in", accounts=100), tmp_path / "out")


# Experiments without events.


@pytest.fixture(scope="module")
def both_paths(service, logs):
    """Outcomes of the accounts of each arm, from the event tables and from the path without events."""
    from_events = logs.sql("""
        select arm, coalesce(sum(watch_minutes) filter (p.started_at < assigned_at), 0) / 60 as hours_before,
            coalesce(sum(watch_minutes) filter (p.started_at >= assigned_at), 0) / 60 as hours,
            (select count(*) from sessions s where s.account = a.account and s.started_at >= assigned_at) as sessions,
            coalesce(max((p.title = 't00000')::int), 0) as started,
            (select count(*) from cancellations c where c.account = a.account) as cancelled,
            coalesce((select min(epoch(cancelled_at - assigned_at)) / 86400 from cancellations c
                where c.account = a.account), 28) as stayed
        from assignments a left join plays p using (account) group by a.account, arm, assigned_at
    """).df()
    pool = simulate.pool(simulate.Simulation(accounts=12_000, seed=3))
    return {
        arm: (from_events.loc[from_events["arm"] == arm, list(pool.columns)].to_numpy(float), world)
        for arm, world in (("control", pool.control), ("treatment", pool.treatment))
    }


@pytest.mark.parametrize("arm", ["control", "treatment"])
def test_both_paths_share_means_variances_correlations_and_tails(both_paths, arm):
    events_, fast = both_paths[arm]
    error = np.sqrt(events_.var(axis=0) / len(events_) + fast.var(axis=0) / len(fast))
    assert (np.abs(events_.mean(axis=0) - fast.mean(axis=0)) <= 4 * error).all()
    np.testing.assert_allclose(events_[:, :3].std(axis=0), fast[:, :3].std(axis=0), rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(events_[:, :3].T), np.corrcoef(fast[:, :3].T), atol=0.03)
    for share, tolerance in ((0.5, 0.05), (0.9, 0.05), (0.99, 0.1)):
        tails = [np.quantile(path[:, :3], share, axis=0) for path in (events_, fast)]
        np.testing.assert_allclose(*tails, rtol=tolerance)


def test_weeks_add_up_to_the_hours_and_starters_have_a_first_day():
    simulation = simulate.Simulation(accounts=1_500, pre_days=7, days=35, seed=5)
    usual, weeks = (simulate.pool(simulation, what=what) for what in ("launch", "weeks"))
    assert weeks.columns[1:6] == tuple(f"week_{nth}" for nth in range(1, 6))
    for one, other in ((usual.control, weeks.control), (usual.treatment, weeks.treatment)):
        np.testing.assert_allclose(other[:, 1:6].sum(axis=1), one[:, 1], rtol=1e-5)
        np.testing.assert_array_equal(other[:, 6] >= 0, one[:, 3] > 0)
    assert (weeks.control[:, 6] == -1).all()


def test_an_experiment_without_events_takes_each_account_once():
    pool = simulate.pool(simulate.Simulation(scenario="homepage", accounts=1_000, pre_days=7))
    control, treatment = pool.replicate(500, np.random.default_rng(1))
    assert control.shape == treatment.shape == (500, len(pool.columns))
    before = np.concatenate([control[:, 0], treatment[:, 0]])
    np.testing.assert_array_equal(np.sort(before), np.sort(pool.control[:, 0]))  # before the launch the worlds agree
    with pytest.raises(ParameterError, match="n is 501, must be from 1 to 500"):
        pool.replicate(501, np.random.default_rng(1))
    with pytest.raises(ParameterError, match="changes who is in which world"):
        simulate.pool(simulate.Simulation(scenario="household_leak", accounts=100))


def test_another_seed_gives_another_service(tmp_path):
    for seed in (1, 2):
        simulate.write(simulate.Simulation(accounts=200, seed=seed), tmp_path / str(seed), halves)
    for name in ("accounts.parquet", "sessions/00000.parquet", "plays/00000.parquet"):
        assert not filecmp.cmp(tmp_path / "1" / name, tmp_path / "2" / name, shallow=False)


def test_the_draw_sees_the_contract_and_no_hidden_trait(tmp_path):
    seen = {}

    def assign(frame):
        seen.update(frame.dtypes)
        return halves(frame)

    simulate.write(simulate.Simulation(accounts=100), tmp_path / "out", assign)
    assert list(seen) == [column.name for column in schema.TABLES["accounts"].columns]
    assert not set(seen) & set(people.LATENT)
    assert seen["region"] == "str"


def test_events_exist_for_assigned_accounts_only(tmp_path):
    simulate.write(simulate.Simulation(accounts=1_000), tmp_path / "out", lambda frame: halves(frame[:100]))
    logs = database(tmp_path / "out")
    assert value(logs, "select count(*) from accounts") == 1_000
    assert value(logs, "select count(distinct account) from sessions") <= 100


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(truth, "contrast", interrupted)  # the last step, after all events are written
    with pytest.raises(KeyboardInterrupt):
        simulate.write(simulate.Simulation(accounts=100), tmp_path / "out", halves)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused_and_kept(tmp_path):
    (tmp_path / "kept").write_text("mine")
    for place in (tmp_path, tmp_path / "kept"):
        with pytest.raises(ParameterError, match="not an empty folder"):
            simulate.write(simulate.Simulation(accounts=100), place, halves)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: a.drop(columns="stratum"), "no column 'stratum'"),
        (lambda a: a.assign(account="x"), "100 accounts that are not in the population"),
        (lambda a: pd.concat([a, a[:3]]), "repeats 3 accounts"),
        (lambda a: a.assign(arm="treatment"), r"are \['treatment'\], must be \['control', 'treatment'\]"),
        (lambda a: a.assign(inclusion_probability=0.0), "inclusion probability"),
        (lambda a: a.assign(inclusion_probability=np.nan), "inclusion probability"),
    ],
)
def test_an_assignment_that_cannot_be_lived_is_refused(tmp_path, spoil, words):
    with pytest.raises(ParameterError, match=words):
        simulate.write(simulate.Simulation(accounts=100), tmp_path / "out", lambda frame: spoil(halves(frame)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: simulate.Simulation(scenario="homepag"), "scenario 'homepag' is not known; did you mean 'homepage'"),
        (lambda: simulate.Simulation(accounts=0), "accounts is 0, must be a whole number from 1 to"),
        (lambda: simulate.Simulation(accounts=1.5), "accounts is 1.5, must be a whole number"),
        (lambda: simulate.Simulation(days=-1), "days is -1"),
        (lambda: simulate.Simulation(seed=-1), "seed is -1, must be a whole number of at least 0"),
        (lambda: simulate.Simulation(start="2026-09-07"), "start is '2026-09-07', must be a date"),
        (lambda: simulate.Simulation(control="treatment"), "both arms are called 'treatment'"),
        (lambda: parameters.Viewing(never_start=math.nan), "viewing.never_start is nan"),
        (lambda: parameters.Viewing(weekday=(1.0, 1.0)), "viewing.weekday has 2 entries, must have 7"),
        (lambda: parameters.Show(going_on=(1.5,) * 7), "show.going_on is 1.5"),
        (lambda: parameters.People(devices=(("tv", 0.5),) * 4), r"people.devices are .* sum to 1"),
        (lambda: parameters.People(new_tv="many"), "people.new_tv is 'many', must be a number"),
    ],
)
def test_impossible_parameters_are_refused_in_one_sentence(make, words):
    with pytest.raises(ParameterError, match=words) as refused:
        make()
    assert "\n" not in str(refused.value)


@given(st.floats().filter(lambda share: not 0 <= share <= 1))
def test_no_probability_outside_zero_and_one_is_accepted(share):
    with pytest.raises(ParameterError, match=r"churn\.payment is .* from 0 to 1"):
        parameters.Churn(payment=share)
