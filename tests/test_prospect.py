"""What a launch's accounts can show: read from before it, held against what was asked, said in words."""

import math
import os
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import brief, calculator, launch, plots, power, prospect, scorecard, sequential, study
from helpers.errors import ParameterError
from helpers.metrics import Bound
from helpers.power import outcome
from helpers.power.design import Design
from helpers.power.outcome import count
from helpers.prospect import curves, words
from helpers.results import NotEstimable, Power

START = pd.Timestamp("2026-09-07", tz="UTC")
N = 1_500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a small service: sessions four weeks before and after, cancellations, a show that the control cannot see."""
    rng = np.random.default_rng(12)
    accounts = np.array([f"a{i:04d}" for i in range(2 * N)])
    keen = rng.gamma(2, 4, 2 * N)
    arm = np.where(np.arange(2 * N) % 2, "early", "control")
    at = []
    for first in (-28, 0):
        sessions = rng.poisson(keen * rng.gamma(8, 1 / 8, 2 * N))
        days = rng.uniform(first, first + 28, sessions.sum())
        at.append(
            pd.DataFrame(
                {"account": np.repeat(accounts, sessions), "started_at": START + pd.to_timedelta(days, unit="D")}
            )
        )
    sessions = pd.concat(at, ignore_index=True)
    sessions["session"] = np.arange(len(sessions))
    sessions["seconds_to_first_play"] = rng.lognormal(4, 1, len(sessions))
    sessions["crashed"] = rng.random(len(sessions)) < 0.05
    folder = tmp_path_factory.mktemp("service")
    sessions.to_parquet(folder / "sessions.parquet")
    pd.DataFrame({"account": accounts, "arm": arm}).to_parquet(folder / "assignments.parquet")
    gone = accounts[rng.random(2 * N) < 0.05]
    pd.DataFrame({"account": gone, "cancelled_at": START + pd.Timedelta(days=9)}).to_parquet(
        folder / "cancellations.parquet"
    )
    return folder


def opened(folder, text="", decision=""):
    path = folder / f"l{abs(hash((text, decision)))}.yaml"
    path.write_text(
        "name: small\n"
        f"data: {{source: {folder}}}\n"
        "arms: {control: control, treatment: early}\n"
        "dates: {start: 2026-09-07, days: 28, pre_days: 28}\n"
        "metrics:\n  north_star: opens_per_account_week\n"
        "  guardrails:\n"
        "    - {metric: churn_28d, margin: +10%}\n"
        "    - {metric: crash_rate, margin: +80%}\n" + text + decision,
        encoding="utf-8",
    )
    return study.open(launch.load(path))


def test_value_and_spread_come_from_before_and_the_rest_from_the_control(folder):
    data = opened(folder)
    opens, churn, crash = prospect.measure(data)
    sessions = pd.read_parquet(folder / "sessions.parquet")
    arms = pd.read_parquet(folder / "assignments.parquet").set_index("account")["arm"]
    counts = {}
    for name, rows in (("pre", sessions["started_at"] < START), ("post", sessions["started_at"] >= START)):
        counts[name] = sessions[rows].groupby("account").size().reindex(arms.index, fill_value=0) / 4
    assert [opens.outcome.value, opens.outcome.sd] == pytest.approx(
        [counts["pre"].mean(), counts["pre"].std()], rel=1e-3
    )
    control = arms == "control"
    r = counts["pre"][control].corr(counts["post"][control])
    assert [opens.explained, opens.lasting] == pytest.approx([r**2, r])
    assert opens.basis == f"both arms, 28 days before; the past explains {r**2:.0%}"
    gone = arms.index.isin(pd.read_parquet(folder / "cancellations.parquet")["account"])
    assert churn.outcome.value == pytest.approx(gone[control].mean())
    assert [churn.basis, churn.explained, churn.lasting] == ["control, after the start", 0.0, None]
    assert crash.outcome.kind == "ratio"


def test_the_numbers_are_those_of_the_power_functions(folder):
    opens, churn, _ = prospect.measure(opened(folder))
    o = opens.outcome
    want = power.mde(
        count(o.value, dispersion=o.sd**2 / o.value), n_treatment=N, design=Design(explained=opens.explained)
    )
    assert isinstance(opens.seen, Power)
    assert opens.seen.change == pytest.approx(want.change)
    design = Design(guardrails=2)
    kept = power.mde(churn.outcome, n_treatment=N, aim="non-inferiority", rel_margin=True, design=design)
    assert [churn.ruled_out.rel, churn.ruled_out.n_control] == pytest.approx([kept.rel, N])
    needed = power.sample_size(churn.outcome, margin=power.relative(0.1), aim="non-inferiority", design=design)
    assert [churn.reached, churn.accounts, churn.days] == [False, needed.n_treatment, None]
    assert [opens.assumed, opens.bound.text] == [True, "+1%"]


def test_looking_early_is_priced(folder):
    single, looked = (
        prospect.measure(opened(folder, decision=d))[0] for d in ("", "decision: {looks: [7, 14, 21, 28]}\n")
    )
    price = sequential.inflation(sequential.plan_looks([7, 14, 21, 28]))
    assert price > 1
    assert looked.accounts == pytest.approx(single.accounts * price, rel=1e-4)


def test_what_cannot_be_planned_is_named_with_its_reason(folder):
    more = "  supporting:\n    - {metric: show_start_rate, target: +25pp}\n    - hours_per_account_week\n"
    plan = prospect.measure(opened(folder, more))
    assert all(isinstance(p.seen, NotEstimable) and "table 'plays'" in p.seen.reason for p in plan[1:3])
    shown = words.table(plan)
    assert shown["can it be seen?"].str.startswith("not estimable: it needs table 'plays'").sum() == 2
    assert not shown.isna().any().any()


def test_a_quantile_is_planned_from_its_own_standard_error(folder):
    data = opened(folder, "  operational: [seconds_to_first_play_p95]\n")
    p = prospect.measure(data)[-1]
    e = scorecard.estimate(data, scorecard.pooled(data), p.planned.metric, treatment="early", adjust=False)
    assert p.seen.control == e.control
    assert abs(p.seen.change) == pytest.approx(e.mde, rel=1e-3)
    assert p.basis == "both arms, after the start: their spread alone"


def test_what_only_the_treated_can_have_is_known_to_the_precision_of_one_arm(folder, tmp_path):
    plays = pd.DataFrame({"account": [f"a{i:04d}" for i in range(1, 2 * N, 6)], "title": "show"})
    plays = plays.assign(
        play=plays.index,
        session=plays.index,
        started_at=START + pd.Timedelta(days=27.9),
        watch_minutes=40.0,
        is_launch_title=True,
    )
    more = "  supporting:\n    - {metric: show_start_rate, target: +25pp}\n"
    here = shutil.copytree(folder, tmp_path / "service")
    plays.to_parquet(here / "plays.parquet")
    p = prospect.measure(opened(here, more))[1]
    assert [p.reached, p.precision] == [True, pytest.approx(1.959964 * math.sqrt(0.25 * 0.75 / N), rel=1e-6)]
    assert "the control cannot have it" in p.seen.reason


def test_extra_weeks_are_worth_what_two_variance_components_say(folder):
    # An account's level with variance 0.5 and fresh weeks of variance 0.5 a window: r = 0.5.
    p = next(iter(prospect.measure(opened(folder))))
    p = prospect.replace(p, lasting=0.5)
    rng = np.random.default_rng(2)
    stays = rng.normal(0, math.sqrt(0.5), 60_000)
    before = stays + rng.normal(0, math.sqrt(0.5), 60_000)
    windows = stays[:, None] + rng.normal(0, math.sqrt(0.5), (60_000, 4))
    left = []
    for k in (1, 2, 4):
        y = windows[:, :k].mean(axis=1)
        left.append(y.var() * (1 - np.corrcoef(y, before)[0, 1] ** 2))
    curve = curves.by_days(p, 28, weeks=[4, 8, 16])["smallest visible change"].to_numpy()
    assert (curve / curve[0]) ** 2 == pytest.approx(np.array(left) / left[0], rel=0.03)
    for days in (56, 112):
        more = (curve[0] / curve[{56: 1, 112: 2}[days]]) ** 2
        assert outcome.days_to(p.lasting, more * (1 - 1e-9), 28) == days
    assert outcome.days_to(p.lasting, 3.0, 28) is None  # (1 + r) / r = 3 is never passed
    assert outcome.days_to(None, 1.1, 28) is None


@pytest.fixture(scope="module")
def plan(folder):
    return prospect.measure(opened(folder))


def test_it_concludes_what_the_accounts_are_good_for(folder, plan):
    first, harm, meaning = words.conclude(plan)
    assert re.search(r"1,500 accounts against 1,500 find a change of [\d.]+%, more than the plausible \+1%", first)
    assert re.search(
        r"for 1 of 2 guardrails, all at once; not for Accounts that cancelled.* \(only a rise of [\d.]+%\)\.$", harm
    )
    assert meaning.startswith("So these accounts are a stop-if-harm check and little more")
    big = [prospect.replace(p, reached=True) for p in plan]
    assert "can carry the decision" in words.conclude(big)[2]
    assert "not that nothing broke" in words.conclude([big[0], *plan[1:]])[2]
    assert "no margin is broken, but not what the launch does" in words.conclude([plan[0], *big[1:]])[2]
    show = prospect.replace(big[0], planned=prospect.replace(big[0].planned, role="supporting"), precision=0.01)
    assert "show-level evidence and a stop-if-harm check" in words.conclude([plan[0], show, *plan[1:]])[2]
    assert "names no guardrail" in words.conclude(plan[:1])[1]
    for sentence in (*words.conclude(plan), brief.verdict(opened(folder))):
        assert not re.search(r"\bno effect\b|unchanged|nan\b", sentence)


def test_the_facts_say_which_loss_of_accounts_would_be_noticed(folder):
    sampled = brief.facts(opened(folder, decision="sampling: {n: {control: 1500, early: 1500}}\n")).set_index("what")
    # z(0.0005) + z(0.8) = 4.132 standard errors of a share of one half
    assert f"{100 * 4.132 * math.sqrt(0.25 / (2 * N)):.2g} percentage points" in sampled.loc["Split", "this launch"]
    assert brief.facts(opened(folder)).set_index("what").loc["Split", "this launch"] == "not planned"


def test_what_the_launch_wants_to_detect_is_told_apart_from_what_is_plausible(folder):
    text = "  satisfaction: [{metric: session_minutes, detect: +9%}]\n"
    data = opened(folder, text)
    star = prospect.measure(data)[0]
    star = prospect.replace(star, planned=prospect.replace(star.planned, detect=power.relative(0.2)))
    row = words.table([star]).iloc[0]
    assert [row["asked"], row["can it be seen?"]] == [
        "detect +20%, plausible +1%",
        "what is to be detected, but not what is plausible",
    ]
    assert "enough for the +20% to detect, but more than the plausible +1%" in words.conclude([star])[0]


def test_an_own_table_has_its_prospect_too(players):
    path, table = players
    hours, per_session, kept = prospect.measure(study.open(launch.load(path)))
    old = table[table["version"] == "old"]
    assert hours.explained == pytest.approx(old["hours"].corr(old["history"]) ** 2)
    assert [hours.outcome.sd, kept.outcome.value] == pytest.approx([old["hours"].std(), old["kept"].mean()])
    assert [per_session.planned.target.text, kept.reached] == ["+2%", True]
    assert hours.lasting is None  # another column's past says nothing about how its own weeks go on
    with pytest.raises(ParameterError, match="no treatment of gate"):
        prospect.measure(study.open(launch.load(path)), treatment="newer")


def test_weights_and_strata_are_in_the_prospect(players):
    path, table = players
    rng = np.random.default_rng(3)
    keen = table["history"] > table["history"].median()
    table["drawn"], table["weight"] = (
        np.where(keen, "keen", "other"),
        np.where(keen, 1.0, 4.0) * rng.uniform(0.8, 1.2, len(table)),
    )
    table.to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("arm: version", "arm: version, weight: weight, stratum: drawn"))
    data = study.open(launch.load(path))
    read = scorecard.pooled(data)
    for p in prospect.measure(data):
        e = scorecard.estimate(data, read, p.planned.metric, treatment="new", adjust=True)
        se = abs(p.seen.change) / (stats.norm.isf(p.seen.alpha) + stats.norm.ppf(0.8))
        assert se == pytest.approx(e.se, rel=0.05), p.planned.metric.name  # its spread is the control's, not both arms'


def test_an_arm_drawn_more_unequally_than_the_other_counts(players):
    path, table = players
    rng = np.random.default_rng(3)
    table["weight"] = np.where(
        table["version"] == "new", rng.choice([1.0, 9.0], len(table)), rng.choice([1.0, 2.0], len(table))
    )
    table.to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("arm: version", "arm: version, weight: weight"))
    data = study.open(launch.load(path))
    kept = prospect.measure(data)[2]
    e = scorecard.estimate(data, scorecard.pooled(data), kept.planned.metric, treatment="new", adjust=True)
    se = abs(kept.seen.change) / (stats.norm.isf(kept.seen.alpha) + stats.norm.ppf(0.8))
    assert se == pytest.approx(e.se, rel=0.04)


def test_curves_and_their_charts(plan):
    by_accounts = curves.by_accounts(plan[0], sizes=[1_000, 4_000])
    assert by_accounts["smallest visible change"][0] == pytest.approx(
        2 * by_accounts["smallest visible change"][1], rel=2e-2
    )
    allocation = curves.by_allocation([1, 10])
    assert allocation["standard error"].tolist() == pytest.approx([1, 0.7416], abs=1e-4)
    ax = plots.trade(by_accounts, labels=("Accounts", "Change"), marks=curves.level(plan[0]), log=True)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["change", "plausible +1%"]
    empty = plots.trade(by_accounts.head(0), labels=("a", "b"))
    assert "Nothing to draw" in empty.texts[0].get_text()
    grid = curves.grid(plan, sizes=[N])
    assert grid[f"{N:,}"].tolist() == words.table(plan)["relative"].tolist()
    shares = curves.formulas(plan)
    assert shares["metric"].tolist() == ["Accounts that cancelled within 28 days"]
    assert float(shares["exact power"][0].rstrip("%")) == pytest.approx(80, abs=0.5)
    assert curves.formulas([prospect.replace(p, bound=power.relative(100.0)) for p in plan]).empty
    assert 0.05 < curves.chances(plan[0])[0] < 0.8
    blind = prospect.replace(plan[0], outcome=None, seen=NotEstimable(metric="x", reason="y"))
    assert curves.chances(blind) == []
    assert curves.level(blind) == {}
    assert curves.by_accounts(blind, sizes=[10]).empty
    assert curves.grid([blind], sizes=[10]).empty


def test_the_launchs_own_accounts_are_replayed(folder, plan):
    data = opened(folder)
    came = curves.replayed(data, plan[0], rel=[0.0, 0.1], accounts=[N], replays=200, seed=3)
    assert came["agree"].all()
    again = curves.replayed(data, plan[0], rel=[0.0, 0.1], accounts=[N], replays=200, seed=3)
    assert came.equals(again)
    blind = prospect.replace(plan[0], outcome=None)
    assert curves.replayed(data, blind, rel=[0.1], accounts=[100], replays=10, seed=1).empty


def test_what_no_change_is_a_share_of_and_what_no_share_can_reach_is_not_replayed(players):
    path, table = players
    table["hours"], table["kept"] = -table["hours"], np.arange(len(table)) % 30 > 0
    table.to_csv(path.parent / "players.csv", index=False)
    data = study.open(launch.load(path))
    below, _, kept = prospect.measure(data)
    why = "the control's value is not above 0, so that no change is a share of it"
    assert curves.replayed(data, below, rel=[0.1], accounts=[100], replays=10, seed=1).attrs["why"] == why
    came = curves.replayed(data, kept, rel=[0.0, 0.05], accounts=[100], replays=10, seed=1)
    assert came["planted"].tolist() == [0.0]  # of 96.7 %, 5 % more is more than all
    assert len(curves.formulas([kept])) == 1
    assert curves.formulas([prospect.replace(kept, bound=Bound(value=0.05, relative=True, text="+5%"))]).empty
    drawn = plots.trade(curves.by_accounts(below, sizes=[500]), labels=("Accounts", "Change"), log=True)
    drawn.figure.canvas.draw()


def test_the_calculator_says_what_the_functions_say(plan, monkeypatch):
    p = plan[1]
    said = calculator.said(p, accounts=12_345.4, controls=3, chance=0.9, alpha=0.05)
    design = Design(controls=3, power=0.9, guardrails=2)
    seen = power.mde(p.outcome, n_treatment=12_345, direction="up", design=design)
    kept = power.mde(p.outcome, n_treatment=12_345, aim="non-inferiority", rel_margin=True, design=design)
    assert f"12,345 treated accounts and {seen.n_control:,} controls find a change of {abs(seen.rel):.2%}" in said
    assert f"harm of {kept.rel:.2%} where there is none, for all 2 guardrails at once, in 90% of launches" in said
    assert "must lie between" in calculator.said(p, accounts=100, controls=1, chance=1.0, alpha=0.05)


def test_the_calculator_lives_in_jupyterlab_only(plan, monkeypatch):
    ipywidgets = pytest.importorskip("ipywidgets")
    monkeypatch.delenv(calculator.LIVE, raising=False)
    assert calculator.show(plan) is None
    monkeypatch.setenv(calculator.LIVE, "notebooks/02_power.ipynb")
    box = calculator.show(plan)
    metric, accounts, *_rest, answer = box.children
    assert isinstance(answer, ipywidgets.HTML)
    before = answer.value
    accounts.value = 100_000
    assert "100,000 treated accounts" in answer.value != before
    metric.value = "Sessions with a crash"
    assert "for all 2 guardrails at once" in answer.value
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert calculator.show(plan) is None
    assert os.environ[calculator.LIVE]
