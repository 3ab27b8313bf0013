"""Scenarios: what each one plants is there, at its documented size, and recorded; what does not go together is refused."""

import functools
import tempfile
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import logs, schema, simulate
from helpers.errors import ParameterError
from helpers.simulate import parameters, people, scenarios, viewing, worlds


def in_turn(frame, arms):
    """Assign everybody, to the arms in turn."""
    share = 1 / len(arms)
    arm = np.take(arms, np.arange(len(frame)) % len(arms))
    return pd.DataFrame({"account": frame["account"], "arm": arm, "stratum": "all", "inclusion_probability": share})


@functools.cache
def lived(scenario, accounts=3_000, **changes):
    """Simulate a scenario without days before the launch; return its folder and its truth."""
    folder = Path(tempfile.mkdtemp()) / "out"
    arms = simulate.arms(scenario)
    simulation = simulate.Simulation(
        **({"scenario": scenario, "accounts": accounts, "treatments": arms[1:], "pre_days": 0} | changes)
    )
    simulate.write(simulation, folder, lambda frame: in_turn(frame, arms))
    return folder, pd.read_parquet(folder / "truth.parquet")


def true(scenario, metric, column="rel", arm=None, segment="all", **changes):
    known = lived(scenario, **changes)[1].query("metric == @metric and segment == @segment")
    (found,) = known.loc[known["arm"] == (arm or simulate.arms(scenario)[1]), column]
    return found


def value(scenario, query, **changes):
    """Ask the tables one number."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    for path in lived(scenario, **changes)[0].iterdir():
        connection.execute(f"create view {path.stem} as from '{path / '*.parquet' if path.is_dir() else path}'")
    return connection.sql(query).fetchall()[0][0]


# Effects of documented size: section 9 of the simulator's specification, with the same chances in both worlds.


@pytest.mark.parametrize(
    ("scenario", "metric", "effect", "tolerance"),
    [
        ("broad_lift", "hours_per_account_week", 0.03, 0.002),
        ("activation", "hours_per_account_week", 0.010, 0.0015),
        ("activation", "hours_per_active_week", -0.044, 0.004),
        ("hollow_engagement", "hours_per_account_week", 0.06, 0.005),
        ("hollow_engagement", "intentional_start_share", -0.09, 0.008),
        ("hollow_engagement", "regret_rate", 0.4, 0.06),
        (
            "homepage+honeymoon",
            "discovery_rate",
            0.0813,
            0.0045,
        ),  # 6 %, and 6 % more that halve every week: 35 % of them
    ],
)
def test_effects_have_the_documented_size(scenario, metric, effect, tolerance):
    assert true(scenario, metric) == pytest.approx(effect, abs=tolerance)


@pytest.mark.parametrize("scenario", ["outlier_driven", "heavy_target"])
def test_a_few_accounts_move_the_mean_and_not_the_median(scenario):
    """Mean +4.3 %, of 0.5 % of accounts; the median moves by their half below it over the density there, about +0.5 %."""
    pool = simulate.pool(simulate.Simulation(scenario=scenario, accounts=30_000, pre_days=0))
    usual, more = (world[:, pool.columns.index("hours")].astype(float) for world in (pool.control, pool.treatment))
    added = more - usual
    binge = added > 50
    assert binge.mean() == pytest.approx(0.005, abs=4 * np.sqrt(0.005 / 30_000))
    error = added[binge].std() / np.sqrt(binge.sum()) / added[binge].mean()
    assert 0.005 * added[binge].mean() / usual.mean() == pytest.approx(0.043, rel=4 * error, abs=0.0005)
    middle = np.median(usual)
    density = ((usual > 0.9 * middle) & (usual < 1.1 * middle)).mean() / 0.2  # times the median itself
    law = (binge & (usual < middle)).mean() / density
    assert np.median(more) / middle - 1 == pytest.approx(law, rel=0.25)
    assert true(scenario, "median_hours_per_account_week") < 0.2 * true(scenario, "hours_per_account_week")


def test_churn_after_autoplay_rises_late():
    longer = simulate.Simulation(scenario="hollow_engagement", days=84).services[1]
    assert (longer.late_churn, longer.churn) == (1.03, 1.0)


def test_who_is_told_starts_more_often_than_who_is_not():
    quiet, told = (true("told_vs_quiet", "show_start_rate", "treatment", f"treatment_{nth}") for nth in (1, 2))
    assert (quiet, told) == (pytest.approx(0.31, abs=0.025), pytest.approx(0.38, abs=0.025))
    assert told - quiet == pytest.approx(0.07, abs=0.015)


def test_another_new_title_has_starts_of_its_own_and_the_same_curiosity():
    opens = [true("placebo_title", "opens_per_account_week", arm=f"treatment_{nth}") for nth in (1, 2)]
    assert opens[0] == pytest.approx(opens[1], rel=0.02) == pytest.approx(0.004, abs=0.0015)
    assert true("placebo_title", "show_start_rate", "treatment", "treatment_1") == 0
    assert value("placebo_title", "select count(distinct account) from plays where title = 't99999'") > 100


@pytest.mark.parametrize(
    ("scenario", "metric", "anchor", "tolerance"),
    [
        ("good_show_low_reach", "show_reach", 0.46, 0.025),
        ("good_show_low_reach", "show_start_rate", 0.155, 0.02),
        ("show_premiere", "show_reach", 0.92, 0.025),
        ("niche_show", "show_start_rate", 0.135, 0.02),  # of the top fifth 59 %, of the others 3 %
    ],
)
def test_shows_reach_and_start_as_documented(scenario, metric, anchor, tolerance):
    assert true(scenario, metric, "treatment") == pytest.approx(anchor, abs=tolerance)


def finishers(scenario):
    """Share of starters who came to the last episode."""
    return value(
        scenario,
        "with s as (select max(episode) = (select max(episode) from plays where title = 't00000') as done "
        "from plays where title = 't00000' group by account) select avg(done::int) from s",
    )


def test_a_bad_show_is_finished_less_and_a_miniseries_is_short():
    assert finishers("bad_show") < finishers("show_premiere") - 0.05
    assert finishers("honeymoon") > finishers("stable")
    assert value("miniseries", "select max(episode) from plays where title = 't00000'") == 4


def test_volunteers_start_more_often_than_the_population():  # 48 % against 31 %, 59.6 h against 43.4 h
    population = people.draw(simulate.Simulation(accounts=40_000), np.random.SeedSequence(3))
    accept = people.volunteers(simulate.Simulation(), population, np.random.default_rng(3))
    assert accept.mean() == pytest.approx(0.12, abs=0.01)
    ratio = population["past_weekly_hours"][accept].mean() / population["past_weekly_hours"].mean()
    hours = population["past_weekly_hours"]  # the four weeks before: what follows is as unequal
    error = hours[accept].std() / np.sqrt(accept.sum()) / hours.mean()
    assert ratio == pytest.approx(59.6 / 43.4, abs=4 * error)
    starts = "with t as (from assignments where arm = 'treatment') select avg((account in (select account from plays " \
        "where title = 't00000'))::int) from t"  # fmt: skip
    assert value("opt_in", starts, accounts=12_000) == pytest.approx(0.48, abs=0.05)
    assert true("opt_in", "show_start_rate", "treatment", accounts=12_000) == pytest.approx(0.31, abs=0.02)


def test_owners_of_new_devices_start_more_often():  # 36 % against 29 % elsewhere, 31 % overall
    known = lived("show_premiere", accounts=12_000)[1].query("metric == 'show_start_rate' and segment == 'new_tv'")
    owners = known.set_index("level")["treatment"]
    assert owners["True"] == pytest.approx(0.36, abs=0.025)
    assert owners["False"] == pytest.approx(0.29, abs=0.02)
    others = "select count(*) from assignments join accounts using (account) where arm = 'treatment' and not new_tv"
    assert value("device_limited", others) == 0
    assert true("device_limited", "show_start_rate", "treatment") == pytest.approx(0.31, abs=0.03)


def test_an_interactive_feature_moves_owners_of_new_devices_only():
    known = lived("interactive_feature")[1].query("metric == 'hours_per_account_week' and segment == 'new_tv'")
    rel = known.set_index("level")["rel"]
    assert rel["False"] == 0
    assert rel["True"] == pytest.approx(0.05, abs=0.005)


def test_a_campaign_moves_starts_where_it_runs():  # 31, 36, 41 and 47 %
    known = lived("regional_marketing", accounts=12_000)[1].query("metric == 'show_start_rate' and segment == 'region'")
    rates = known.set_index("level")["treatment"][["APAC", "LATAM", "EMEA", "North America"]]
    np.testing.assert_allclose(rates, [0.31, 0.36, 0.41, 0.47], atol=0.035)
    spend = "select max(spend) / min(spend) from marketing where region = 'North America'"
    assert value("regional_marketing", spend, accounts=12_000, pre_days=7) == pytest.approx(9)


def test_holidays_lift_both_worlds_and_stand_in_the_calendar():
    lift = true("holiday", "hours_per_account_week", "control") / true(
        "show_premiere", "hours_per_account_week", "control"
    )
    assert lift == pytest.approx(1.09 * (1 + 0.25 * 0.1), abs=0.03)
    assert value("holiday", "select count(distinct event) from calendar") == 3
    assert value("show_premiere", "select count(*) from calendar") == 0


def test_a_one_tap_prompt_repairs_what_a_j_shaped_response_distorts():  # truth 3.8, naive 4.2, response 8.8 %
    asked, wide = {"accounts": 12_000}, "from surveys where not incentive and "
    naive = value("j_shaped_survey", f"select avg(score) {wide} nps is not null", **asked)
    one_tap = value("j_shaped_survey", f"select avg(score) {wide} nps is null", **asked)
    assert naive == pytest.approx(4.2, abs=0.25)
    assert one_tap == pytest.approx(3.8, abs=0.2)
    assert true("j_shaped_survey", "satisfaction_of_all_asked", "control", **asked) == pytest.approx(3.8, abs=0.06)
    answered = "select avg((responded_at is not null)::int) from surveys"
    assert value("show_premiere", answered, accounts=12_000) == pytest.approx(0.088, abs=0.015)


def test_lost_logs_unbalance_the_arms():
    arms = "select count(*) filter (arm = 'treatment') / count(*) filter (arm = 'control') from assignments"
    assert value("srm", arms) == pytest.approx(0.97, abs=0.001)


def test_a_leak_shows_the_title_to_control_accounts():
    reached = "select count(distinct account) / 1500 from impressions join assignments using (account)" \
        " where arm = 'control' and title = 't00000'"  # fmt: skip
    assert value("household_leak", reached) == pytest.approx(0.15 * 0.92, abs=0.03)
    assert value("show_premiere", reached) == 0


def observed_effect(scenario):
    """Difference of the arms in shadow-recommended plays, over that of the two worlds."""
    seen = value(scenario, "with p as (select arm, avg(shadow_recommended::int) as rate from plays join assignments "
        "using (account) group by arm) select max(rate) filter (arm = 'treatment') - max(rate) filter (arm = 'control') "
        "from p")  # fmt: skip
    return seen / true(scenario, "discovery_rate", "diff")


def test_a_shared_model_hides_and_a_lucky_draw_doubles_the_effect():
    assert observed_effect("shared_model") == pytest.approx(0.6, abs=0.2)
    assert observed_effect("winners_curse") == pytest.approx(2.0, abs=0.2)


def test_overload_costs_hours_at_the_second_stage_only():
    known = lived("overload")[1].query("metric == 'hours_per_account_week' and segment == 'week'")
    assert (known.loc[known["week"] <= 2, "rel"] > 0).all()  # the show
    assert (known.loc[known["week"] > 2, "rel"] < -0.01).all()
    peaks = 'select max(streams / "limit") from capacity where stage = {}'
    assert value("overload", peaks.format(1)) == pytest.approx(0.7, abs=0.02)
    assert value("overload", peaks.format(2)) == pytest.approx(1.05, abs=0.02)


def test_small_creators_lose_visibility():
    tail = "select avg((creator_tier = 'tail')::int) from impressions join assignments using (account) " \
        "join titles using (title) where title <> 't00000' and arm = '{}'"  # fmt: skip
    parts = [value("creator_concentration", tail.format(arm), accounts=12_000) for arm in ("treatment", "control")]
    assert parts[0] / parts[1] == pytest.approx(0.88, abs=0.03)


def test_a_slow_tail_leaves_the_median():
    delay = "select quantile_cont(play_delay_ms, {}) from sessions join assignments using (account) where arm = '{}'"
    ratio = [
        value("slow_tail", delay.format(q, "treatment")) / value("slow_tail", delay.format(q, "control"))
        for q in (0.5, 0.99)
    ]
    assert ratio == [pytest.approx(1.0, abs=0.02), pytest.approx(1.4, abs=0.1)]


def test_planted_faults_are_found():
    folder = lived("dirty_events")[0]
    connection = ibis.duckdb.connect()
    tables = {
        path.stem: connection.read_parquet(path / "*.parquet" if path.is_dir() else path)
        for path in folder.iterdir()
        if path.stem in schema.TABLES
    }
    found = logs.count(tables).set_index("fault")["rows"]
    rows = tables["plays"].count().execute()
    for fault, share in (
        ("watch_minutes: are above 1,440", 0.001),
        ("repeat another's account, session, title, started_at, watch_minutes", 0.01),
        ("begin before their session; is a clock wrong?", 0.005),
    ):
        assert found[fault] / rows == pytest.approx(share, rel=0.15)


# Every scenario runs and is recorded; combinations make sense or are refused.


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS)
def test_every_scenario_records_what_it_sets(scenario):
    arms = simulate.arms(scenario)
    simulation = simulate.Simulation(scenario=scenario, treatments=arms[1:])
    recorded = simulate.truth.planted(simulation)
    assert scenario in set(recorded["metric"]) | {"stable"} or scenarios.SCENARIOS[scenario].treated
    assert len(recorded)
    assert simulation.lived.lived == simulation.lived


def test_scenarios_combine():
    simulation = simulate.Simulation(scenario="show_premiere+holiday+bad_show+srm").lived
    assert (len(simulation.events), simulation.show.quality, simulation.logs.lost) == (3, -0.55, 0.03)


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("homepage+nich_show", "scenario 'nich_show' is not known; did you mean 'niche_show'"),
        ("homepage+aa", "'homepage' and 'aa' each say what is tested; name one"),
        ("homepage+bad_show", "'bad_show' needs a show, 'homepage' tests a feature"),
        ("show_premiere+shared_model", "'shared_model' needs a feature, 'show_premiere' tests a show"),
        ("opt_in+device_limited", "'opt_in' and 'device_limited' both set the treatment arms"),
        ("honeymoon+stable", "'honeymoon' and 'stable' both set show.honeymoon"),
        ("srm+srm", "names 'srm' twice"),
        ("told_vs_quiet", "needs 2 treatment arms, there are 1: treatment"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_sentence(scenario, words):
    with pytest.raises(ParameterError, match=words) as refused:
        simulate.Simulation(scenario=scenario)
    assert "\n" not in str(refused.value)


# Naive methods go wrong on these data as they do elsewhere, and by as much.


@pytest.fixture(scope="module")
def same():
    """Hours of accounts between whom nothing differs."""
    pool = simulate.pool(simulate.Simulation(scenario="aa", accounts=11_200, pre_days=0))
    return pool.control[:, pool.columns.index("hours")].astype(float)


def looks(hours, rng, experiments, batches, *, shift=0.0):
    """Replay experiments in which both arms grow by equal batches: z after each, with `shift` added in standard errors."""
    z = np.empty((experiments, batches))
    for nth in range(experiments):
        drawn = rng.permutation(hours).reshape(2, batches, -1)
        n = np.arange(1, batches + 1) * drawn.shape[2]
        total, squares = drawn.sum(axis=2).cumsum(axis=1), (drawn**2).sum(axis=2).cumsum(axis=1)
        variance = (squares / n - (total / n) ** 2).sum(axis=0) / n
        z[nth] = (total[1] - total[0]) / n / np.sqrt(variance) + shift
    return z


def rate(flags):
    """Share of replays, with four of its standard errors."""
    share = flags.mean()
    return share, 4 * np.sqrt(share * (1 - share) / len(flags))


@pytest.mark.parametrize(("times", "error"), [(1, 0.05), (7, 0.16), (14, 0.22), (28, 0.27)])
def test_looking_again_and_again_raises_the_error(same, times, error):
    z = looks(same, np.random.default_rng(3), 1_200, 28)
    share, margin = rate((np.abs(z[:, 28 // times - 1 :: 28 // times]) > 1.96).any(axis=1))
    assert share == pytest.approx(error, abs=margin + 0.005)


def test_sessions_are_not_independent():
    """A z-test over sessions takes accounts for many; with a design effect of 4.5 it errs in 36 % of A/A tests."""
    simulation = simulate.Simulation(accounts=4_000, pre_days=0)
    population = people.draw(simulation, np.random.SeedSequence(8))
    chances = viewing.draw(simulation, population, 1.0, np.random.default_rng(8))
    minutes = worlds.live(simulation, chances, parameters.Service()).seconds / 60
    n, total, squares = (chances.per_account(x) for x in (minutes > 0, minutes, minutes**2))
    rng, wrong = np.random.default_rng(9), []
    for _ in range(1_000):
        arms = np.array_split(rng.permutation(len(n)), 2)
        means = [total[rows].sum() / n[rows].sum() for rows in arms]
        variances = [
            (squares[rows].sum() / n[rows].sum() - mean**2) / n[rows].sum()
            for rows, mean in zip(arms, means, strict=True)
        ]
        wrong.append(abs(means[1] - means[0]) > 1.96 * np.sqrt(sum(variances)))
    share, margin = rate(np.array(wrong))
    assert share > 0.2
    assert share == pytest.approx(2 * stats.norm.sf(1.96 / np.sqrt(4.5)), abs=margin + 0.03)


def test_among_thirty_metrics_one_alarms(same):
    """Thirty metrics that do not go together: as many groups of accounts."""
    rng, size = np.random.default_rng(4), len(same) // 60
    drawn = [rng.permutation(same)[: 60 * size].reshape(2, 30, size) for _ in range(1_000)]
    z = [(d[1].mean(1) - d[0].mean(1)) / np.sqrt((d.var(axis=2) / size).sum(0)) for d in drawn]
    share, margin = rate((np.abs(z) > 1.96).any(axis=1))
    assert share == pytest.approx(1 - 0.95**30, abs=margin + 0.02)  # 79 %


def test_significant_results_of_weak_tests_overstate(same):
    """With 20 % power, those that come out significant show 2.25 times the truth."""
    shift = 1.96 - stats.norm.isf(0.2)
    z = looks(same, np.random.default_rng(5), 3_000, 1, shift=shift)[:, 0]
    found = z[np.abs(z) > 1.96]
    assert rate(np.abs(z) > 1.96)[0] == pytest.approx(0.20, abs=rate(np.abs(z) > 1.96)[1])
    assert np.abs(found).mean() / shift == pytest.approx(2.25, abs=4 * found.std() / np.sqrt(len(found)) / shift + 0.06)


def test_a_fifth_of_the_wins_are_none(same):
    """One idea in ten works, 80 % power: 22 % of the significant gains are chance (Kohavi)."""
    rng = np.random.default_rng(6)
    z, works = looks(same, rng, 4_000, 1)[:, 0], rng.random(4_000) < 0.1
    won = z + works * (1.96 + stats.norm.isf(0.2)) > 1.96
    share, margin = rate(~works[won])
    assert share == pytest.approx(0.025 * 0.9 / (0.025 * 0.9 + 0.8 * 0.1), abs=margin)
