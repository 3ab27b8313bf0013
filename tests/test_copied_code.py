"""Faults of two much-copied examples, re-created as behaviour: what the naive way gives, and what ours gives instead.

CS1 to CS17 stand for the metrics of a streaming feature, CT1 to CT10 for choosing and judging 10,000 early accounts.
"""

import math

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats import proportion as shares

from helpers import decision, inference, launch, metrics, moments, power, sampling, scorecard, simulate, study, units
from helpers.errors import DataError, ParameterError
from helpers.metrics import CATALOGUE, UNITS_TABLE, Bound, Measure, Metric
from helpers.power import outcome
from helpers.results import Estimate, NotEstimable
from helpers.simulate import people

START = pd.Timestamp("2026-09-07", tz="UTC")


def at(day, hour=12, minute=0):
    return START + pd.Timedelta(days=day, hours=hour, minutes=minute)


def metric(kind="mean", column="y", denominator=None, better="higher"):
    top, bottom = (name and Measure(table=UNITS_TABLE, agg="value", column=name) for name in (column, denominator))
    return Metric(
        name=column, title=column, kind=kind, numerator=top, denominator=bottom, better=better, unit="", covariates=()
    )


def compared(frame, asked):
    columns, pairs = inference.needed(asked, adjust=False)
    read = moments.from_table(ibis.memtable(frame), columns=columns, pairs=pairs, by=["arm"])
    (answer,) = inference.compare(read, asked, control="old", treatment="new", days=28, pre_days=28)
    return answer


def events(tmp_path, names, **tables):
    """Open a hand-made service; accounts a and b are the control, c and d see the launch."""
    folder = tmp_path / "tables"
    folder.mkdir(exist_ok=True)
    arms = pd.DataFrame({"account": list("abcd"), "arm": ["old", "old", "new", "new"]})
    for name, table in {"assignments": arms, **tables}.items():
        table.to_parquet(folder / f"{name}.parquet")
    star, *rest = names
    (tmp_path / "x.yaml").write_text(
        "name: x\ndata: {source: tables}\narms: {control: old, treatment: new}\n"
        "dates: {start: 2026-09-07, days: 14, pre_days: 0}\n"
        f"metrics: {{north_star: {star}, supporting: [{', '.join(rest)}]}}\n"
    )
    return study.open(launch.load(tmp_path / "x.yaml"))


def value(data, name, arm="old"):
    asked = CATALOGUE[name]
    columns, _ = inference.needed(asked, adjust=False)
    read = moments.from_table(units.load(data), columns=columns, pairs=[], by=["arm"]).select(arm=arm)
    return inference.form(asked, days=14).read(read)[0][0]


def frame(columns, *rows):
    return pd.DataFrame(list(rows), columns=columns.split())


PLAYS = "account session title started_at watch_minutes"
SESSIONS = "account session started_at seconds_to_first_play"
LAST = frame(SESSIONS, ["z", "9", at(13, 23), 1.0])  # of nobody in the launch: the log reaches the window's end
LAST_PLAY = frame(PLAYS, ["z", "9", "x", at(13, 23), 1.0])


# The metrics of a feature.


def test_cs1_a_sample_size_runs_and_equals_the_textbook():
    """A missing import stops the copied function at its first line; ours agrees with statsmodels' formula."""
    found = power.sample_size(outcome.proportion(0.021, test="unpooled"), effect=power.relative(0.10))
    p, q = 0.021, 0.0231
    z = stats.norm.isf(0.025) + stats.norm.ppf(0.8)
    assert found.n_treatment == math.ceil(z**2 * (p * (1 - p) + q * (1 - q)) / (q - p) ** 2)


def test_cs2_a_fast_start_is_not_a_short_session(tmp_path):
    """Two of four sessions start within five minutes; none lasts so little, and one never starts."""
    sessions = frame(
        SESSIONS, ["a", "1", at(0), 60.0], ["a", "2", at(1), 60.0], ["a", "3", at(2), None], ["a", "4", at(3), 900.0]
    )
    minutes = pd.Series([60.0, 45.0, 30.0])  # of the three that started
    assert (minutes <= 5).mean() == 0
    data = events(tmp_path, ["browse_to_play"], sessions=pd.concat([sessions, LAST]))
    assert value(data, "browse_to_play") == 0.5


def test_cs3_minutes_are_not_put_to_a_test_for_shares():
    """A gain of half in minutes: the z-test of proportions takes the root of a negative number and shrugs."""
    rng = np.random.default_rng(1)
    minutes = np.append(rng.gamma(4, 10, 500), rng.gamma(4, 15, 500))
    data = pd.DataFrame({"arm": np.repeat(["old", "new"], 500), "y": minutes})
    pooled = data["y"].mean()
    with np.errstate(invalid="ignore"):
        z = 20 / np.sqrt(pooled * (1 - pooled) * (2 / 500))
    assert np.isnan(z)
    assert not stats.norm.sf(z) < 0.05
    right = compared(data, metric())
    assert right.p < 1e-20
    refused = compared(data, metric("proportion"))
    assert isinstance(refused, NotEstimable)
    assert "values other than 0 and 1" in refused.reason


def test_cs3_a_fraction_keeps_its_own_variance():
    """The completed share of an account varies less than a coin: p(1 - p) throws the difference away."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"arm": np.repeat(["old", "new"], 400), "y": rng.beta(20, 20, 800)})
    data.loc[data["arm"] == "new", "y"] += 0.02
    answer = compared(data, metric())
    wrong = math.sqrt(2 * 0.25 / 400)
    assert answer.se < wrong / 5
    assert answer.p < 0.001 < stats.norm.sf(answer.diff / wrong)


def test_cs4_events_of_one_account_are_not_independent_people():
    """Nothing changes, and accounts differ: rows as people cry wolf in most launches, accounts in one of twenty."""
    rng, launches, accounts = np.random.default_rng(3), 200, 200
    n = rng.poisson(15, launches * accounts) + 1
    hits = rng.binomial(n, rng.beta(0.5, 0.5, len(n)))
    data = pd.DataFrame({"arm": ["old", "new"] * (len(n) // 2), "y": hits, "n": n})
    data["launch"] = np.repeat(np.arange(launches), accounts)
    totals = [rows.groupby("arm")[["y", "n"]].sum() for _, rows in data.groupby("launch")]
    naive = np.mean([shares.proportions_ztest(rows["y"], rows["n"])[1] < 0.05 for rows in totals])
    asked = metric("ratio", denominator="n")
    read = moments.from_rows(data, columns=["y", "n"], by=["arm", "launch"])
    answers = inference.compare(read, asked, control="old", treatment="new", days=28, pre_days=28)
    ours = np.mean([e.p < 0.05 for e in answers])
    assert len(answers) == launches
    assert naive > 0.4
    assert ours < 0.05 + 3 * math.sqrt(0.05 * 0.95 / launches)


def test_cs5_a_single_number_is_no_sample():
    """The copied code asks a plain number for its mean; an arm of one account is told to be too few."""
    with pytest.raises(AttributeError):
        (0.5).mean()  # type: ignore[attr-defined]
    answer = compared(pd.DataFrame({"arm": ["old", "new", "new"], "y": [0.5, 0.4, 0.6]}), metric())
    assert answer.reason == "old has 1 account, at least 2 are needed"


@pytest.mark.parametrize("flags", [[0, 1, 1, 1], [False, True, True, True], [0.0, 1.0, 1.0, 1.0]])
def test_cs6_flags_may_be_numbers(flags):
    """Ones and zeros taken for row labels raise, or select the wrong rows; here they count as what they are."""
    with pytest.raises(KeyError):
        pd.DataFrame({"y": [1.0, 2.0]}, index=["p", "q"])[pd.Series([0, 1])]
    data = pd.DataFrame({"arm": ["old", "old", "new", "new"], "y": flags})
    answer = compared(data, metric("proportion"))
    assert (answer.control, answer.treatment) == (0.5, 1.0)


def test_cs7_discovery_means_the_same_in_both_arms(tmp_path):
    """Streams "from the new algorithm" do not exist in control; scored in the shadow, both arms have the metric."""
    plays = frame(
        f"{PLAYS} recommended_by shadow_recommended",
        ["a", "1", "x", at(0), 30.0, "old", True],
        ["b", "2", "y", at(0), 30.0, "old", False],
        ["c", "3", "x", at(0), 30.0, "new", True],
        ["d", "4", "y", at(0), 30.0, "old", False],
    )
    assert (plays.loc[plays["account"].isin(["a", "b"]), "recommended_by"] == "new").mean() == 0  # whatever it does
    more = pd.concat([plays.drop(columns="recommended_by"), LAST_PLAY.assign(shadow_recommended=False)])
    data = events(tmp_path, ["discovery_rate"], plays=more)
    assert [value(data, "discovery_rate", arm) for arm in ("old", "new")] == [0.5, 0.5]
    assert metrics.get("discovery_rate").denominator.table == "plays"


def test_cs8_weeks_and_accounts_without_viewing_count(tmp_path):
    """20 hours in the first week, none in the second: the mean over weeks with rows is not that of the fortnight."""
    hours = pd.DataFrame({"account": ["a", "b"], "week": [0, 0], "hours": [20.0, 10.0]})
    assert hours.groupby(["account", "week"])["hours"].sum().mean() == 15
    plays = frame(PLAYS, ["a", "1", "x", at(0), 1200.0], ["c", "2", "x", at(0), 600.0])
    data = events(tmp_path, ["hours_per_account_week"], plays=pd.concat([plays, LAST_PLAY]))
    table = units.load(data).execute().set_index("account")["plays_sum_watch_minutes"]
    assert (table / 60 / 2).to_dict() == {"a": 10, "b": 0, "c": 5, "d": 0}  # b and d have no events at all and stay
    assert value(data, "hours_per_account_week") == 5


def test_cs9_session_ids_belong_to_an_account_and_accounts_may_weigh_the_same(tmp_path):
    """Both accounts call a session "1": pooled over ids it lasts 105 minutes, though nobody watched so long."""
    sessions = frame(SESSIONS, ["a", "1", at(0), 1.0], ["b", "1", at(0), 1.0], ["b", "2", at(1), 1.0])
    plays = frame(PLAYS, ["a", "1", "x", at(0), 100.0], ["b", "1", "x", at(0), 5.0], ["b", "2", "x", at(1), 5.0])
    assert plays.groupby("session")["watch_minutes"].sum().tolist() == [105, 5]
    more = {"sessions": pd.concat([sessions, LAST]), "plays": pd.concat([plays, LAST_PLAY])}
    data = events(tmp_path, ["session_minutes", "session_minutes_by_account"], **more)
    assert value(data, "session_minutes") == pytest.approx(110 / 3)
    assert value(data, "session_minutes_by_account") == pytest.approx((100 + 5) / 2)


def test_cs10_diversity_counts_idle_accounts_titles_watched_and_a_window(tmp_path):
    """Of three titles one was left after a minute, and the other account watched nothing: 3, or 1?"""
    plays = frame(PLAYS, ["a", "1", "x", at(0), 30.0], ["a", "1", "y", at(0), 30.0], ["a", "1", "z", at(0), 1.0])
    assert plays.groupby("account")["title"].nunique().mean() == 3
    data = events(
        tmp_path, ["distinct_titles_per_account", "titles_per_ten_hours"], plays=pd.concat([plays, LAST_PLAY])
    )
    assert value(data, "distinct_titles_per_account") == 1
    assert value(data, "titles_per_ten_hours") == pytest.approx(2 / (61 / 600))  # apart from how long they watched


def test_cs11_what_the_words_name_is_there_to_be_computed():
    """Return frequency, every guardrail and every operational metric were described, and none was written."""
    asked = {"app_opens_per_account_week", "churn_28d", "tickets_per_account", "crash_rate", "tail_creator_share"}
    asked |= {"seconds_to_first_play_p95", "play_delay_ms_p99", "rebuffer_ratio", "start_failure_rate"}
    assert asked <= set(CATALOGUE)
    assert all(CATALOGUE[name].definition for name in asked)


def test_cs12_every_answer_has_an_interval_what_it_could_see_and_its_family():
    """A difference and a star are not an answer."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"arm": ["old", "new"] * 200, "y": rng.normal(10, 2, 400), "x": rng.normal(10, 2, 400)})
    answers = inference.adjust_family([compared(data, metric(column=c)) for c in ("x", "y")])
    for e in answers:
        assert e.low < e.diff < e.high
        assert e.mde == pytest.approx((stats.norm.isf(0.025) + stats.norm.ppf(0.8)) * e.se)
        assert e.p <= e.p_adjusted <= 1


def test_cs13_impossible_sizes_are_refused():
    """A lift of 20% on 90% is a share of 108%: the formula says four accounts in each arm."""
    p, q = 0.9, 1.08
    z = stats.norm.isf(0.025) + stats.norm.ppf(0.8)
    assert 0 < z**2 * (p * (1 - p) + q * (1 - q)) / (q - p) ** 2 < 4
    with pytest.raises(ParameterError):
        power.sample_size(outcome.proportion(0.9), effect=power.relative(0.2))
    with pytest.raises(ParameterError):
        power.sample_size(outcome.proportion(0.9), effect=power.relative(0.0))
    with pytest.raises(ParameterError):
        power.sample_size(outcome.proportion(1.2), effect=power.relative(0.1))
    found = [
        power.sample_size(outcome.proportion(0.5), effect=e).n_treatment
        for e in (power.relative(0.05), power.absolute(0.05))
    ]
    assert found[0] > 3 * found[1]  # 2.5 percentage points or 5: never left to be guessed


def test_cs14_nothing_over_nothing_is_not_insignificant():
    """No sessions in one arm: NaN is not below 0.05, so the copied code reports no effect."""
    data = pd.DataFrame({"arm": ["old", "old", "new", "new"], "y": [0, 0, 1, 2], "n": [0, 0, 3, 4]})
    with np.errstate(invalid="ignore"):
        assert not (np.float64(0) / np.float64(0)) < 0.05
    answer = compared(data, metric("ratio", denominator="n"))
    assert isinstance(answer, NotEstimable)
    assert answer.reason == "the denominator is 0 for all accounts of old"
    with pytest.raises(DataError, match="1 missing, NaN or infinite values in 4"):
        compared(data.assign(y=[np.nan, 0, 1, 2]), metric())


def test_cs15_returning_is_asked_of_days_whose_morrow_was_seen(tmp_path):
    """The last day's morrow was not observed: it is no chance to return that was missed."""
    sessions = frame(
        SESSIONS,
        ["a", "1", at(0), 1.0],
        ["a", "2", at(1), 1.0],
        ["a", "3", at(13), 1.0],  # the last day
        ["b", "4", at(5), 1.0],
    )
    dates = sessions["started_at"].dt.date
    naive = sum(
        d + pd.Timedelta(days=1) in set(dates[sessions["account"] == a]) for a, d in zip("aaab", dates, strict=True)
    )
    assert naive / len(sessions) == 1 / 4
    data = events(tmp_path, ["next_day_return"], sessions=pd.concat([sessions, LAST]))
    assert value(data, "next_day_return") == 1 / 3


def test_cs15_regret_follows_a_view_within_a_week(tmp_path):
    """Three thumbs down, of which one is for a title that was never played, and one comes three weeks later."""
    plays = pd.concat([frame(PLAYS, ["a", "1", "x", at(0), 30.0], ["a", "2", "y", at(1), 30.0]), LAST_PLAY])
    feedback = frame(
        "account title given_at thumb", ["a", "x", at(1), "down"], ["a", "z", at(1), "down"], ["a", "y", at(9), "down"]
    )
    assert len(feedback) / 2 == 1.5  # "regrets" per view
    data = events(tmp_path, ["regret_rate"], plays=plays, feedback=feedback)
    assert value(data, "regret_rate") == 0.5


def test_cs16_not_significant_is_not_maintained():
    """Churn of 2% in arms of 10,000: the interval reaches 0.4 points either way, a fifth of churn itself."""
    churned = np.repeat([1, 0, 1, 0], [200, 9_800, 204, 9_796])
    data = pd.DataFrame({"arm": np.repeat(["old", "new"], 10_000), "y": churned})
    e = compared(data, metric("proportion", better="lower"))
    assert e.p > 0.8
    assert (e.high - e.low) / 2 == pytest.approx(0.0039, abs=0.0001)
    margin = Bound(value=0.1, relative=True, text="+10%")
    claim = decision.read(CATALOGUE["churn_28d"], e, role="guardrail", margin=margin)
    assert claim.status == "cannot tell"
    assert "remains possible" in claim.words
    assert not any(word in claim.words for word in ("maintained", "unchanged", "no effect"))


@pytest.mark.parametrize(("course", "sign"), [([0.8, 0.5, 0.2, 0.0], 1), ([0.0, 0.2, 0.5, 0.8], -1)])
def test_cs17_an_effect_that_fades_is_not_one_that_grows(course, sign):
    """Both were called novelty; early minus late has the sign that tells them apart, and an interval."""
    rng = np.random.default_rng(6)
    weeks = rng.normal(10, 1, (2_000, 4)) + np.outer(np.tile([0, 1], 1_000), course)
    data = pd.DataFrame({"arm": ["old", "new"] * 1_000, "y": weeks[:, 0] - weeks[:, 3]})
    e = compared(data, metric())
    assert np.sign(e.low) == np.sign(e.high) == sign
    assert abs((weeks[1::2].mean() - weeks[::2].mean()) - np.mean(course)) < 0.1  # the average alone cannot say


# Choosing the early accounts.


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(8)
    n = 20_000
    heavy = rng.random(n) < 0.3
    return pd.DataFrame(
        {
            "account": [f"u{i}" for i in range(n)],
            "engagement": np.where(heavy, "heavy", "light"),
            "hours": np.where(heavy, rng.gamma(8, 3, n), rng.gamma(2, 2, n)),
        }
    )


def drawn(frame_, **how):
    return sampling.draw(ibis.memtable(frame_), n=how.pop("n", {"early": 1_000}), salt="s", **how).execute()


def test_ct1_representative_strata_are_exact(population):
    """A plain random sample misses the share of heavy viewers by chance; in strata it is exact."""
    share = (population["engagement"] == "heavy").mean()
    plain = population.sample(1_000, random_state=1)["engagement"].eq("heavy").mean()
    assert abs(plain - share) > 1 / 1_000
    ours = drawn(population, strata=["engagement"])
    heavy = population.set_index("account").loc[ours["account"], "engagement"].eq("heavy").mean()
    assert abs(heavy - share) <= 1 / 1_000


def test_ct2_the_population_comes_from_its_seed():
    """Numbers drawn without a seed are others every time, whatever seed the sample has."""
    assert np.random.default_rng().random() != np.random.default_rng().random()
    one, other = (people.draw(simulate.Simulation(accounts=500, seed=7), np.random.SeedSequence(7)) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


def test_ct3_the_draw_does_not_depend_on_row_order_or_index(population):
    """Shuffled rows: a seeded sample keeps one account in twenty, ours all of them; a repeated index loses nobody."""
    shuffled = population.sample(frac=1, random_state=2)
    once, again = (set(f.sample(1_000, random_state=1)["account"]) for f in (population, shuffled))
    assert len(once & again) < 200
    assert set(drawn(population)["account"]) == set(drawn(shuffled)["account"])
    repeated = population.set_axis(np.arange(len(population)) // 2)
    left = repeated.drop(repeated.sample(1_000, random_state=1).index)
    assert len(left) < len(population) - 1_000
    arms = drawn(repeated, n={"early": 1_000, "control": 19_000})
    assert arms["account"].nunique() == len(population)


def test_ct4_a_control_is_called_matched_only_if_it_was(population):
    """The label said matched, the code drew at random: here the words come from the pairs that were found."""
    hours = population.set_index("account")[["hours"]]
    found = sampling.nearest(hours.iloc[:50], hours.iloc[50:])
    assert found.words.startswith("Matched control: 50 accounts")
    assert found.pairs["distance"].max() < 0.1
    none = sampling.nearest(hours.iloc[:5], hours.iloc[50:60] + 1e6, spread=pd.Series({"hours": 1.0}))
    assert none.words.startswith("No control was matched")


def test_ct5_without_an_effect_nothing_grows():
    """Afterwards = before + positive noise grows by design; here idle accounts exist, and tops fall back to the mean."""
    rng = np.random.default_rng(9)
    before = rng.normal(10, 3, 2_000)
    after = before + rng.normal(2, 1, 2_000)
    assert after.mean() > before.mean() + 1.5
    assert (after[before > 15] > before[before > 15]).mean() > 0.9
    pool = simulate.pool(simulate.Simulation(scenario="aa", accounts=4_000, seed=3))
    hours_before, hours = (pool.control[:, pool.columns.index(c)] for c in ("hours_before", "hours"))
    assert abs(hours.mean() / hours_before.mean() - 1) < 0.1
    assert (hours == 0).mean() > 0.005
    top = hours_before > np.quantile(hours_before, 0.95)
    assert (hours[top] < hours_before[top]).mean() > 0.6
    assert stats.skew(hours) > 1


def test_ct6_a_difference_comes_with_its_error():
    """The formula was announced and never computed: the root of s1^2 / n1 + s2^2 / n2."""
    rng = np.random.default_rng(10)
    data = pd.DataFrame({"arm": np.repeat(["old", "new"], [300, 100]), "y": rng.gamma(2, 5, 400)})
    spread = data.groupby("arm")["y"].agg(["var", "size"])
    e = compared(data, metric())
    assert e.se == pytest.approx(math.sqrt((spread["var"] / spread["size"]).sum()), rel=1e-12)
    assert e.p == pytest.approx(stats.ttest_ind(*(g for _, g in data.groupby("arm")["y"]), equal_var=False).pvalue)


def test_ct7_oversampled_accounts_carry_weights(population):
    """Heavy viewers drawn five times as often: the plain mean is theirs, the weighted one the population's."""
    design = sampling.Design(oversample={"engagement=heavy": 5.0})
    part = drawn(population, n={"early": 2_000}, design=design).merge(population, on="account")
    truth = population["hours"].mean()
    assert part["hours"].mean() > 1.3 * truth
    weights = part.assign(**{moments.WEIGHT: part["weight"] / part["weight"].mean()})
    read = moments.from_table(
        ibis.memtable(weights), columns=["hours", moments.WEIGHT], pairs=[], by=["arm"], weighted=True
    )
    assert read.mean[0, 0] / read.mean[0, 1] == pytest.approx(truth, rel=0.03)


def test_ct8_a_draw_leaves_the_frame_as_it_was(population):
    """Columns added to a slice of another frame warn, or change the original; a draw is a new table."""
    before = population.copy()
    ours = drawn(population)
    pd.testing.assert_frame_equal(population, before)
    assert list(ours.columns) == ["account", "arm", "stratum", "inclusion_probability", "weight"]


def test_ct9_who_may_take_part_and_who_lives_together_is_settled_before_the_draw(population):
    """Employees and bots were drawn like anybody, and one household stood in both arms."""
    rng = np.random.default_rng(12)
    frame_ = population.assign(
        employee=rng.random(len(population)) < 0.05, household=[f"h{i // 2}" for i in range(20_000)]
    )
    naive = frame_.sample(1_000, random_state=1)
    assert naive["employee"].any()
    allowed = sampling.eligible(ibis.memtable(frame_), ["employee"])
    ours = sampling.draw(allowed, n={"early": 1_000, "control": 1_000}, salt="s", household="household").execute()
    told = frame_.set_index("account").loc[ours["account"]]
    assert not told["employee"].any()
    assert told["household"].is_unique
    with pytest.raises(DataError, match="repeat an account"):
        drawn(pd.concat([population, population.head(1)]))


def test_ct10_strata_say_something_about_viewing():
    """With attributes drawn evenly and apart from viewing, no stratification can ever show its use."""
    rng = np.random.default_rng(13)
    hours, age = rng.gamma(2, 5, 4_000), rng.integers(0, 5, 4_000)
    between = pd.Series(hours).groupby(age).mean().var(ddof=0)
    assert between / hours.var() < 0.01
    simulation = simulate.Simulation(accounts=4_000, seed=3)
    accounts = people.draw(simulation, np.random.SeedSequence(3))
    past = accounts["past_weekly_hours"].astype(float)
    explained = 1 - past.groupby(accounts["engagement"].astype(str)).transform("var", ddof=0).mean() / past.var(ddof=0)
    assert explained > 0.4
    assert accounts["region"].value_counts(normalize=True).max() > 0.3


def test_a_scorecard_never_reports_a_number_that_is_none(tmp_path):
    """All faults above end in a silent 0, 1 or NaN; every answer of a scorecard is a number or a reason."""
    plays = frame(PLAYS, ["a", "1", "x", at(0), 30.0], ["c", "2", "x", at(1), 40.0], ["d", "3", "x", at(1), 20.0])
    data = events(tmp_path, ["hours_per_account_week", "session_minutes"], plays=pd.concat([plays, LAST_PLAY]))
    first, second = (claim.estimate for claim in scorecard.measure(data).claims)
    assert isinstance(first, Estimate)
    assert np.isfinite([first.diff, first.se, first.low, first.high, first.p, first.mde]).all()
    assert second.reason == "it needs table 'sessions', which is not among the data"
