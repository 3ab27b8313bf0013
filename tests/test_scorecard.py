"""From a launch to claims: the launch's own question answered, blanked where the data cannot be trusted."""

import datetime as dt
from dataclasses import replace

import columns
import ibis
import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from helpers import (
    brief,
    decision,
    launch,
    linter,
    plan,
    plots,
    prospect,
    register,
    roster,
    sampling,
    scorecard,
    study,
    units,
)
from helpers.errors import DataError, ParameterError
from helpers.metrics import Bound
from helpers.prospect import words
from helpers.report.readout import Readout, percent
from helpers.results import Estimate, NotEstimable
from helpers.scorecard import reading


@pytest.fixture
def card(players):
    path, table = players
    data = study.open(launch.load(path))
    return data, table, scorecard.measure(data)


def by_name(estimates):
    return {e.metric: e for e in estimates}


def test_plain_estimates_equal_scipy_and_statsmodels(card):
    _, table, got = card
    old, new = (table[table["version"] == v] for v in ("old", "new"))
    hours = by_name(got.plain)["hours"]
    oracle = stats.ttest_ind(new["hours"], old["hours"], equal_var=False)
    low, high = oracle.confidence_interval()
    assert [hours.diff, hours.p, hours.low, hours.high] == pytest.approx(
        [new["hours"].mean() - old["hours"].mean(), oracle.pvalue, low, high], rel=1e-9
    )
    kept = by_name(got.plain)["kept"]
    counts, n = [new["kept"].sum(), old["kept"].sum()], [len(new), len(old)]
    assert kept.p == pytest.approx(proportions_ztest(counts, n)[1], rel=1e-9)
    assert [kept.low, kept.high] == pytest.approx(
        confint_proportions_2indep(counts[0], n[0], counts[1], n[1], method="newcomb"), rel=1e-9
    )


def test_few_accounts_of_a_whole_launch_have_the_larger_error_and_that_of_those_who_carry_a_ratio(tmp_path):
    """scipy: Student's test, where the smaller arm lacks the tail, and Welch's of the accounts that answered."""
    rng, n = np.random.default_rng(11), np.array([300, 30])
    rows = pd.DataFrame({"id": np.arange(n.sum()), "arm": np.repeat(["old", "new"], n)})
    tail = np.where(np.arange(n.sum()) % 15 == 0, rng.gamma(1, 50, n.sum()), 0.0)
    rows["spent"] = tail * (rows["arm"] == "old") + 1.0
    rows["spent"] += rng.random(n.sum())
    rows["asked"] = (np.arange(n.sum()) % 25 == 7) | (np.arange(n.sum()) > 322)
    rows["score"] = rows["asked"] * rng.normal(10, np.where(rows["arm"] == "old", 10, 60))
    rows.to_csv(tmp_path / "u.csv", index=False)
    path = tmp_path / "few.yaml"
    path.write_text(
        """\
name: few
data: {units: u.csv, account: id, arm: arm}
arms: {control: old, treatment: new}
metrics:
  north_star: {name: spent, kind: mean, column: spent, better: higher}
  satisfaction:
    - {name: score, kind: ratio, numerator: score, denominator: asked, better: higher}
""",
        encoding="utf-8",
    )
    told = by_name(c.estimate for c in scorecard.measure(study.open(launch.load(path))).claims)
    for name, kept, student in (("spent", rows, True), ("score", rows[rows["asked"]], False)):
        old, new = (kept.loc[kept["arm"] == arm, name] for arm in ("old", "new"))
        oracle = stats.ttest_ind(new, old, equal_var=student)
        expected = oracle.pvalue, oracle.confidence_interval()[0]
        assert (told[name].p, told[name].low) == pytest.approx(expected, rel=1e-9)
    old, new = (rows.loc[rows["arm"] == arm, "spent"] for arm in ("old", "new"))
    assert stats.ttest_ind(new, old, equal_var=False).pvalue < 0.05  # which Welch's takes for a fall


def test_adjusted_and_ratio_estimates_equal_tea_tasting(card):
    _, table, got = card
    experiment = tt.Experiment(hours=tt.Mean("hours", "history"), per_session=tt.RatioOfMeans("hours", "sessions"))
    oracle = experiment.analyze(table.assign(variant=table["version"].map({"old": 0, "new": 1})))
    for name in ("hours", "per_session"):
        mine = by_name(c.estimate for c in got.claims)[name]
        theirs = oracle[name]
        assert [mine.control, mine.treatment, mine.diff, mine.low, mine.high, mine.p] == pytest.approx(
            [theirs.control, theirs.treatment, theirs.effect_size, theirs.effect_size_ci_lower, theirs.effect_size_ci_upper, theirs.pvalue],
            rel=1e-9,
        )  # fmt: skip


def test_success_metrics_are_corrected_together_and_guardrails_are_not(card):
    _, _, got = card
    hours, per_session, kept = (c.estimate for c in got.claims)
    raw = sorted([hours.p, per_session.p])
    assert sorted([hours.p_adjusted, per_session.p_adjusted]) == pytest.approx(
        [min(1, 2 * raw[0]), max(2 * raw[0], raw[1])]
    )
    assert kept.p_adjusted is None


def test_strata_without_weights_do_not_make_a_mix_that_came_by_chance_an_effect(players):
    """Accounts drawn without regard to them: the effect is that of the strata, weighted alike in both arms."""
    path, table = players
    part = np.where(table["history"] > table["history"].median(), "heavy", "light")
    rng = np.random.default_rng(3)
    new = (table["version"] == "new") & ~((part == "heavy") & (rng.random(len(table)) < 0.06))  # which no check sees
    mixed = table.assign(part=part)[new | (table["version"] == "old")]
    mixed.to_csv(path.parent / "players.csv", index=False)
    text = path.read_text().replace("arm: version}", "arm: version, stratum: part}")
    path.write_text(text.replace(", covariates: [history]", ""))
    card = scorecard.measure(study.open(launch.load(path)))
    e = card.claims[0].estimate
    means = mixed.pivot_table(index="part", columns="version", values="hours", aggfunc=["mean", "var", "size"])
    share = means["size"].sum(axis=1) / len(mixed)
    assert e.diff == pytest.approx(share @ (means["mean", "new"] - means["mean", "old"]))
    errors = (means["var"] / means["size"]).sum(axis=1)  # stratum by stratum (Miratrix, Sekhon and Yu 2013)
    assert e.se == pytest.approx(np.sqrt(share**2 @ errors), rel=5e-3)
    assert card.plain[0].diff == e.diff


@pytest.mark.parametrize("read", [scorecard.measure, prospect.measure])
def test_an_arm_of_which_no_account_is_left_is_said_in_one_sentence(players, read):
    path, table = players
    table.assign(hours=table["hours"].where(table["version"] == "old")).to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text().replace("arm: version}", "arm: version, missing: drop}"))
    with pytest.raises(DataError, match="gate: arm 'new' has no account left"):
        read(study.open(launch.load(path)))


def test_a_covariate_that_repeats_the_outcome_is_named_as_that(players):
    path, table = players
    table.assign(history=2 * table["hours"]).to_csv(path.parent / "players.csv", index=False)
    data = study.open(launch.load(path))
    answers = [scorecard.measure(data).claims[0].estimate, prospect.measure(data)[0].seen]
    assert all("its covariates repeat the values" in answer.reason for answer in answers)


def test_a_failed_check_blanks_every_effect(players):
    path, table = players
    table[(table["version"] == "old") | (table.index % 4 > 0)].to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text() + "sampling: {n: {old: 1, new: 1}}\n")
    got = scorecard.measure(study.open(launch.load(path)))
    assert got.checks[0].passed is False
    shown = [*(c.estimate for c in got.claims), *got.plain]
    assert all(isinstance(e, NotEstimable) and "Arm counts" in e.reason for e in shown)
    assert decision.decide(got.checks, got.claims).decision == "INVALID"


def test_unequal_arms_without_a_plan_are_neither_passed_nor_failed(players):
    path, table = players
    table[(table["version"] == "old") | (table.index % 4 > 0)].to_csv(path.parent / "players.csv", index=False)
    check = scorecard.measure(study.open(launch.load(path))).checks[0]
    assert check.passed is None
    assert "say under 'sampling: {n: …}' which split was planned" in check.detail


def test_the_planned_split_is_what_arm_counts_are_held_against(players):
    path, table = players
    thinned = table[(table["version"] == "old") | (table.index % 4 == 0)]
    n = thinned["version"].value_counts()
    thinned.to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text() + f"sampling: {{n: {{old: {n['old']}, new: {n['new']}}}}}\n")
    assert scorecard.measure(study.open(launch.load(path))).checks[0].passed is True


@pytest.mark.parametrize(("more", "told"), [(0.0, "does not show"), (1.5, "shows")])
def test_a_treatment_can_be_chosen_and_a_wrong_one_names_the_nearest(players, more, told):
    path, table = players
    table.loc[:999, "version"] = "newer"
    table["hours"] += more * (table["version"] == "newer") - 0.4 * (table["version"] == "new")
    table.to_csv(path.parent / "players.csv", index=False)
    text = path.read_text().replace("treatment: new", "treatment: [new, newer]")
    sizes = table["version"].value_counts().to_dict()
    path.write_text(text + f"sampling: {{n: {sizes}}}\n".replace("'", ""))
    data = study.open(launch.load(path))
    card = scorecard.measure(data, treatment="newer")
    assert card.claims[0].estimate.n_treatment == 1_000
    three = stats.f_oneway(*(part["hours"] for _, part in table.groupby("version")))
    assert (three.pvalue < 1e-6, three.pvalue > 0.1) == (more > 0, more == 0)
    assert f"One test of all 3 arms {told} that any differs." in card.basis
    with pytest.raises(ParameterError, match=r"did you mean 'newer'\?"):
        scorecard.measure(data, treatment="newr")


def test_slices_pool_to_the_whole(card):
    data, _, _ = card
    sliced, whole = scorecard.pooled(data, by=["country"]), scorecard.pooled(data)
    assert set(sliced.groups["country"]) == {"NO", "SE", "unknown"}
    again = sliced.pool(by=["arm"])
    np.testing.assert_allclose(again.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(again.scatter, whole.scatter, rtol=1e-9)


def test_what_can_be_seen_is_the_same_before_and_after_and_on_the_plan(card, players):
    (path, _), (data, _, got) = players, card
    claims = {c.metric: c.estimate for c in got.claims}
    alphas = {"hours": 0.025, "per_session": 0.025, "kept": 0.05}  # two success metrics share 5 %; a guardrail has it
    for name, alpha in alphas.items():  # replay: a true difference of `mde` is found by a z-test with 80 % power
        z = claims[name].mde / claims[name].se
        assert stats.norm.sf(stats.norm.isf(alpha / 2) - z) == pytest.approx(0.8, abs=1e-6)
    assert {p.metric.name: data.launch.alpha(p) for p in data.launch.plan} == alphas
    # Beforehand the spread is that of the control alone: two per cent are room for it, the correction is 8.8 %.
    table = brief.sensitivity(data)
    assert float(table.loc[0, "smallest visible change"]) == pytest.approx(claims["hours"].mde, rel=0.02)
    assert table["asked"].tolist() == ["plausible +1%", "target +2%", "margin −10%"]

    hours = claims["hours"]
    sd = hours.se / np.sqrt(2 / 2_000)
    text = path.read_text().replace("name: hours,", f"name: hours, detect: +0.5%, baseline: {hours.control}, sd: {sd},")
    path.write_text(text + "sampling: {n: {old: 2_000, new: 2_000}}\n")
    again = launch.load(path)
    power = stats.norm.cdf(0.005 * hours.control / hours.se - stats.norm.isf(0.0125))
    page = plan.render(again, [], dt.date(2026, 9, 1))
    assert percent(hours.mde / hours.control) in page
    assert percent(power, digits=0) in page
    (said,) = (f.what for f in linter.lint(again) if f.rule == "R7")
    assert f"would be found in {power:.0%} of cases" in said
    path.write_text(path.read_text() + "decision: {correction: none}\n")
    assert launch.load(path).alpha(again.plan[0]) == 0.05


def test_the_brief_counts_whom_the_launch_leaves_out(players):
    path, table = players
    table.loc[:6, "hours"] = np.nan
    table["bot"] = table.index.isin([5, 6, 7, 8])
    table.loc[11, "version"], table.loc[12, "hours"] = None, 1e7
    table.to_csv(path.parent / "players.csv", index=False)
    plain = path.read_text()
    path.write_text(
        plain.replace("arm: version}", "arm: version, missing: drop}")
        + "outliers: {rule: bots go, remove: [bot], impossible_above: {hours: 1e6}}\n"
    )
    data = study.open(launch.load(path))
    sizes = table.groupby("version")["user"].count()  # by pandas, as is what follows
    left = table[(table["hours"] < 1e6) & ~table["bot"]].groupby("version")["user"].count()
    told = brief.facts(data).set_index("what")["this launch"]
    assert told["Accounts"] == f"old {left['old']:,} of {sizes['old']:,}, new {left['new']:,} of {sizes['new']:,}"
    want = "accounts: 1 in no arm, 4 removed by a flag, 1 with more than is possible, 5 with a missing value, from every metric"
    assert told["Left out"] == want
    assert f"{sizes.sum():,} accounts in 2 arms, 10 of them left out; " in brief.describe(data)
    assert want in brief.describe(data)
    path.write_text(plain)
    table.fillna({"hours": 1.0, "version": "old"}).to_csv(path.parent / "players.csv", index=False)
    assert brief.facts(study.open(launch.load(path))).set_index("what").loc["Left out", "this launch"] == "nobody"


def test_missing_values_are_counted_whatever_a_column_is_called(players):
    path, table = players
    table = table.rename(columns={"hours": "share", "sessions": "accounts"})
    table["share"] = table["share"].where(
        table["version"] == "old", np.where(table.index % 3 > 0, table["share"], np.nan)
    )
    table.to_csv(path.parent / "players.csv", index=False)
    text = (
        path.read_text()
        .replace("column: hours", "column: share")
        .replace("arm: version}", "arm: version, missing: drop}")
    )
    path.write_text(text.replace("numerator: hours, denominator: sessions", "numerator: share, denominator: accounts"))
    (lost,) = (c for c in scorecard.measure(study.open(launch.load(path))).checks if c.name == "Missing values")
    assert lost.passed is False
    assert "share" in lost.detail


def test_the_brief_shows_no_effect(card):
    data, _, got = card
    text = brief.sensitivity(data).to_string() + brief.plan(data).to_string() + " ".join(brief.answer(data))
    assert not any(f"{c.estimate.diff:.3g}" in text for c in got.claims)


def test_design_effects_show_what_the_copied_formula_gets_wrong(tmp_path):
    # 400 accounts with 10 sessions each that are all alike: the right variance is ten times the naive one.
    rng = np.random.default_rng(1)
    start = pd.Timestamp("2026-09-07", tz="UTC")
    accounts = [f"a{i}" for i in range(800)]
    quick = np.repeat(rng.random(800) < 0.5, 10)
    folder = tmp_path / "tables"
    folder.mkdir()
    pd.DataFrame({"account": accounts, "arm": ["c", "t"] * 400}).to_parquet(folder / "assignments.parquet")
    pd.DataFrame(
        {
            "account": np.repeat(accounts, 10),
            "session": np.tile(np.arange(10), 800),
            "started_at": start + pd.to_timedelta(np.tile(np.arange(10), 800), unit="h"),
            "seconds_to_first_play": np.where(quick, 10.0, 900.0),
        }
    ).to_parquet(folder / "sessions.parquet")
    (tmp_path / "s.yaml").write_text(
        "name: s\ndata: {source: tables}\narms: {control: c, treatment: t}\ndates: {start: 2026-09-07, days: 1}\n"
        "metrics: {north_star: browse_to_play}\n"
    )
    effect = brief.design_effects(study.open(launch.load(tmp_path / "s.yaml")))
    assert effect["design effect"].tolist() == pytest.approx([10 * 400 / 399], abs=0.01)
    assert effect["false alarms at 5%"].tolist() == ["53.6%"]  # 2 * Phi(-1.96 / sqrt(10.03))


def test_accounts_are_counted_and_none_is_lost(card):
    data, _, _ = card
    assert brief.accounts(data)["lost"].tolist() == [0, 0]


def test_an_own_table_has_no_draw_to_repeat_but_can_be_compared(card):
    data, _, _ = card
    assert roster.verify(data).passed is None
    assert roster.attributes(data) == ["country", "history"]
    balance = sampling.balance(roster.frame(data), roster.assigned(data), roster.attributes(data))
    found = roster.likeness(data, balance)
    assert found.passed is True
    assert "accounts at hand" in found.detail
    assert roster.second_draw(data, salt="x", attributes=["country"]).empty
    assert roster.past(data).empty


def test_charts_draw_what_they_are_given(card):
    data, _, got = card
    wide = replace(got.claims[0], title="Wide", estimate=replace(got.claims[0].estimate, rel_low=-0.9, rel_high=0.9))
    near, far = plots.forest([wide, *got.claims]).axes
    assert [t.get_text() for t in near.get_yticklabels()] == ["Kept", "Per session", "Hours"]
    assert [t.get_text() for t in far.get_yticklabels()] == ["Wide"]
    assert max(map(abs, near.get_xlim())) < 30
    assert len(plots.forest([]).axes) == 1
    nothing = replace(got.claims[0].estimate, rel=None, rel_low=None, rel_high=None, note="control is 0")
    blind = NotEstimable(metric="m", reason="no surveys")
    left = [replace(got.claims[0], title=t, estimate=e) for t, e in (("A", nothing), ("B", blind), ("C", nothing))]
    assert plots.left_out([*left, *got.claims]) == "Not drawn: A, C (control is 0); B (no surveys)."
    assert plots.left_out(got.claims) == ""
    balance = sampling.balance(roster.frame(data), roster.assigned(data), roster.attributes(data))
    assert len(plots.love(balance, limit=0.1).lines) == 2 + 3
    empty = plots.quantiles(roster.past(data), label="x")
    assert "Nothing to draw" in empty.texts[0].get_text()


def test_estimates_hold_everything_a_reader_needs(card):
    _, _, got = card
    for claim in got.claims:
        e = claim.estimate
        assert isinstance(e, Estimate)
        assert e.low <= e.diff <= e.high
        assert e.method
        assert e.mde > 0
        assert e.n_control + e.n_treatment == 4_000


def test_a_launch_says_how_its_successes_are_corrected_and_the_intervals_follow(players):
    path, _ = players
    text = path.read_text()
    found = {}
    for how in ("holm", "bonferroni", "none"):
        path.write_text(text + f"decision: {{correction: {how}}}\n")
        found[how] = [c.estimate for c in scorecard.measure(study.open(launch.load(path))).claims]
    p = [e.p for e in found["none"][:2]]
    assert [e.p_adjusted for e in found["none"]] == [None] * 3
    assert prospect.measure(study.open(launch.load(path)))[0].design.successes == 1  # as the last of the three says
    assert [e.p_adjusted for e in found["bonferroni"][:2]] == pytest.approx([min(2 * x, 1) for x in p])
    path.write_text(text + "decision: {alpha: 0.025}\n")
    wide = scorecard.measure(study.open(launch.load(path))).claims
    for c, e in zip(wide[:2], found["bonferroni"], strict=False):
        ends = (e.low_adjusted, e.high_adjusted, e.rel_low_adjusted, e.rel_high_adjusted)
        assert ends == pytest.approx((c.estimate.low, c.estimate.high, c.estimate.rel_low, c.estimate.rel_high))
    for e in (*found["holm"][:2], *found["bonferroni"][:2]):
        assert (e.p_adjusted < 0.05) == (e.low_adjusted >= 0 or e.high_adjusted <= 0)
    assert all(e.low_adjusted is None for e in (found["holm"][2], *found["none"]))


def test_what_is_to_stay_as_it_is_is_read_drawn_and_shown_with_both_margins(players):
    path, _ = players
    path.write_text(path.read_text().replace("margin: -10%", "equivalence: ±20%"))
    data = study.open(launch.load(path))
    claim = scorecard.measure(data).claims[2]
    assert (claim.status, claim.aim, claim.meaning) == ("passed", "equivalence", "higher, and within ±20%")
    ticks = [x for line in plots.forest([claim]).axes[0].lines if line.get_marker() == "|" for x in line.get_xdata()]
    assert sorted(ticks) == pytest.approx([-20, 20])
    wanted = Bound(value=0.04, relative=True, text="+4%")
    star = decision.read(data.launch.plan[2].metric, claim.estimate, role="north_star", detect=wanted)
    drawn = plots.forest([star]).axes[0].lines
    assert [x for line in drawn if line.get_marker() == "|" for x in line.get_xdata()] == pytest.approx([4])
    html = Readout(headline="One.", answer=("Two.",), claims=(claim,)).to_html()
    assert html.count('class="bound bad"') == 2
    told = prospect.measure(data)[2]
    assert told.ruled_out.aim == "equivalence"
    assert words.asked(told) == "equivalence ±20%"
    assert "change of" in words.table([told])["harm ruled out"][0]
    shown = Readout(headline="One.", answer=("Two.",), claims=scorecard.measure(data).claims[:1]).to_html()
    assert "holds for all success metrics at once" in shown


def test_covariates_of_an_own_table_are_compared_before_any_effect_is_read(players):
    path, table = players
    card = scorecard.measure(study.open(launch.load(path)))
    (before,) = card.before
    by_arm = [table.loc[table["version"] == arm, "history"] for arm in ("new", "old")]
    expected = stats.ttest_ind(*by_arm, equal_var=False)
    assert [before.diff, before.p] == pytest.approx([by_arm[0].mean() - by_arm[1].mean(), expected.pvalue], rel=1e-9)
    assert next(c for c in card.checks if c.name == "Before the launch").passed
    shifted = table.assign(history=table["history"] + 1.5 * (table["version"] == "new"))
    shifted.to_csv(path.parent / "players.csv", index=False)
    failed = scorecard.measure(study.open(launch.load(path)))
    assert [c.name for c in failed.checks if c.passed is False] == ["Before the launch"]
    assert all(isinstance(c.estimate, NotEstimable) for c in failed.claims)


@pytest.mark.parametrize(
    ("margin", "status", "said"),
    [
        ("+0.1pp", "passed", "any harm stays within the margin of +0.1pp"),
        ("+0.01pp", "cannot tell", "so harm beyond the margin of +0.01pp remains possible"),
        ("+50%", "cannot tell", "+50% cannot be checked, none occurred in either arm"),
    ],
)
def test_of_a_harm_that_never_occurred_only_what_so_many_accounts_rule_out_is_claimed(tmp_path, margin, status, said):
    n = 10_000
    rows = pd.DataFrame({"arm": ["old", "new"] * n, "crashed": 0, "sessions": np.arange(2 * n) % 40 + 1})
    rows.assign(hours=np.arange(2 * n) % 7).to_csv(tmp_path / "p.csv", index_label="account")
    rate = "numerator: {table: units, agg: value, column: crashed}, denominator: {table: units, agg: value, column: sessions}"
    (tmp_path / "rare.yaml").write_text(f"""
name: rare
data: {{units: p.csv}}
arms: {{control: old, treatment: new}}
metrics:
  north_star: {{name: hours, kind: mean, column: hours, better: higher}}
  guardrails:
    - {{name: per_account, kind: proportion, column: crashed, better: lower, margin: {margin}}}
    - {{name: per_session, kind: ratio, unit: share, {rate}, better: lower, margin: {margin}}}
""")
    claims = scorecard.measure(study.open(launch.load(tmp_path / "rare.yaml"))).claims[1:]
    for c in claims:
        assert (c.status, c.estimate.control, c.estimate.treatment) == (status, 0, 0)
        assert said in c.words
        low, high = confint_proportions_2indep(0, n, 0, n, method="newcomb")
        assert (c.estimate.low, c.estimate.high) == pytest.approx((low, high))
    verdict = decision.decide([], claims)
    assert verdict.sentence.startswith("Hold: ")
    assert ("harm beyond the margin cannot be ruled out yet for" in verdict.sentence) is (status == "cannot tell")


def test_a_picture_of_a_ratio_is_of_each_accounts_own_in_its_unit(players):
    path, table = players
    data = study.open(launch.load(path))
    hours, per_session = (p.metric for p in data.launch.plan[:2])
    for metric, by_hand in (
        (hours, table["hours"]),
        (per_session, (table["hours"] / table["sessions"])[table["sessions"] > 0]),
    ):
        rows = scorecard.amounts(data, metric).execute()
        assert sorted(rows["value"]) == pytest.approx(sorted(by_hand))
        drawn = units.distribution(scorecard.amounts(data, metric), "value", by_arm=False, points=3)["value"]
        assert drawn.tolist() == pytest.approx([by_hand.min(), by_hand.median(), by_hand.max()])
    missing = replace(hours, numerator=replace(hours.numerator, column="not_there"))
    assert units.distribution(scorecard.amounts(data, missing), "value").empty
    nobody = scorecard.amounts(data, per_session).filter(ibis._.value < 0)  # as of a ratio that no account has
    assert units.distribution(nobody, "value", by_arm=False).empty


def test_what_nobody_tried_or_few_did_is_no_share_of_all_accounts(tmp_path):
    n = 1_000
    rows = pd.DataFrame({"arm": ["old", "new"] * n, "top": 0, "answers": np.arange(2 * n) < 40, "shown": 0})
    rows.assign(hours=np.arange(2 * n) % 7).to_csv(tmp_path / "p.csv", index_label="account")
    top = "kind: ratio, unit: share, better: higher, margin: -5pp, numerator: {table: units, agg: value, column: top}"
    text = f"""
name: few
data: {{units: p.csv}}
arms: {{control: old, treatment: new}}
metrics:
  north_star: {{name: hours, kind: mean, column: hours, better: higher}}
  guardrails:
    - {{name: of_answers, {top}, denominator: {{table: units, agg: value, column: answers}}}}
    - {{name: of_none, {top}, denominator: {{table: units, agg: value, column: shown}}}}
"""
    (tmp_path / "few.yaml").write_text(text)
    card = scorecard.measure(study.open(launch.load(tmp_path / "few.yaml")))
    few, none = card.claims[1:]
    low, high = confint_proportions_2indep(0, 20, 0, 20, method="newcomb")  # 20 accounts of each arm answered
    assert (few.estimate.low, few.estimate.high, few.status) == (pytest.approx(low), pytest.approx(high), "cannot tell")
    assert none.estimate.reason == "the denominator is 0 for all accounts of old"
    assert [s.metric for s in card.spreads] == ["hours"]  # of what did not occur there is no tail
    third = rows.assign(arm=rows["arm"].mask(rows.index % 4 == 3, "other"))  # of whom none is asked
    third.loc[third["arm"] == "other", "answers"] = False
    third.assign(hours=np.arange(2 * n) % 7).to_csv(tmp_path / "p.csv", index_label="account")
    (tmp_path / "few.yaml").write_text(text.replace("treatment: new", "treatment: [new, other]"))
    few = scorecard.measure(study.open(launch.load(tmp_path / "few.yaml"))).claims[1].estimate
    low, high = confint_proportions_2indep(0, 10, 0, 20, method="newcomb")
    assert (few.low, few.high) == pytest.approx((low, high))


def test_each_role_has_the_error_rate_that_the_launch_gives_it(players):
    path, _ = players
    text = path.read_text()
    before = launch.load(path)
    path.write_text(text + "decision: {alpha: 0.05}\n")
    assert launch.load(path).content_hash == before.content_hash
    assert register.decisive(before)["alpha"] == "0.05"
    path.write_text(text + "decision: {alpha: {success: 0.04, guardrails: 0.2}}\n")
    data = study.open(launch.load(path))
    changed = register.changes(register.decisive(before), register.decisive(data.launch))
    wanted = "success: 0.04, guardrails: 0.2, satisfaction: 0.05, operational: 0.05"
    assert changed == (f"alpha was 0.05 and is now {wanted}.",)
    card = scorecard.measure(data)
    hours, per_session, kept = (c.estimate for c in card.claims)
    assert [hours.level, per_session.level, kept.level] == [0.96, 0.96, 0.8]
    old, new = (players[1].query("version == @v")["kept"] for v in ("old", "new"))
    oracle = confint_proportions_2indep(new.sum(), 2_000, old.sum(), 2_000, method="newcomb", alpha=0.2)
    assert (kept.low, kept.high) == pytest.approx(oracle)
    assert sorted([hours.p_adjusted, per_session.p_adjusted])[0] == pytest.approx(2 * min(hours.p, per_session.p))
    for e in (hours, per_session):  # claimed at 4 % after correction, and only then
        assert (e.p_adjusted < 0.04) == (e.low_adjusted >= 0 or e.high_adjusted <= 0)
    assert [p.design.alpha for p in prospect.measure(data)] == [0.04, 0.04, 0.2]
    said = "false alarms: success 4%, guardrails 20%, satisfaction 5%, operational 5%"
    assert said in plan.render(data.launch, [], dt.date(2026, 9, 1))
    assert said in brief.facts(data)["this launch"].str.cat()
    html = Readout(headline="One.", answer=("Two.",), claims=card.claims).to_html()
    assert (html.count("<small>at 96%</small>"), html.count("<small>at 80%</small>")) == (2, 1)


def test_a_share_has_no_visible_change_of_more_than_all_of_it():
    share = replace(columns.metric(kind="proportion"), unit="share")
    e = Estimate(
        metric="s", control=0.5, treatment=0.6, diff=0.1, se=0.5, low=-0.8, high=0.9, rel=None, rel_low=None,
        rel_high=None, p=0.8, n_control=3, n_treatment=3, method="w", mde=1.4,
    )  # fmt: skip
    claims = [decision.read(share, x, role="operational") for x in (e, replace(e, mde=0.9, note="n"))]
    found = scorecard.seen([*claims, decision.read(replace(share, unit="h"), e, role="operational")])
    assert found["mde"].isna().tolist() == [True, False, False]
    assert found["note"].tolist() == [reading.UNSEEN, "n", ""]
