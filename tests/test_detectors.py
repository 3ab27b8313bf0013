"""What is suspicious about a result: each pattern is found where it was planted, and not where it was not."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers import decision, detectors, inference, launch, metrics, register, scorecard, study
from helpers.launch.entry import Planned
from helpers.metrics import Bound
from helpers.results import Estimate

HOURS = metrics.get("hours_per_account_week")
CHOSEN = metrics.get("intentional_start_share")
CHURN = metrics.get("churn_28d")


def estimate(metric, rel, se, control=10.0):
    return Estimate(
        metric=metric.name, control=control, treatment=control * (1 + rel), diff=control * rel, se=control * se,
        low=control * (rel - 1.96 * se), high=control * (rel + 1.96 * se), rel=rel, rel_low=rel - 1.96 * se,
        rel_high=rel + 1.96 * se, p=0.01, n_control=100, n_treatment=100, method="made up", mde=control * 2.8 * se,
    )  # fmt: skip


def claim(metric, rel, se, role):
    margin = Bound(value=0.1, relative=True, text="+10%") if role == "guardrail" else None
    return decision.read(metric, estimate(metric, rel, se), role=role, margin=margin)


def planned(*pairs):
    return [Planned(metric=m, role=role) for m, role in pairs]


PLAN = planned((HOURS, "north_star"), (CHOSEN, "satisfaction"))


@pytest.mark.parametrize(
    ("hours", "chosen", "passed"),
    [(0.05, -0.05, False), (0.05, 0.05, True), (0.05, -0.005, None), (-0.05, -0.05, True)],
)
def test_a_gain_whose_counterpart_falls_is_hollow(hours, chosen, passed):
    claims = [claim(HOURS, hours, 0.01, "north_star"), claim(CHOSEN, chosen, 0.01, "satisfaction")]
    assert detectors.divergence(claims, PLAN).passed is passed


def test_without_a_counterpart_divergence_cannot_be_asked():
    assert detectors.divergence([claim(HOURS, 0.05, 0.01, "north_star")], PLAN[:1]).passed is None


@pytest.mark.parametrize(("rel", "passed"), [(0.5, False), (-0.5, False), (0.02, True)])
def test_an_effect_beyond_four_times_the_usual_spread_is_to_be_repeated(rel, passed):
    assert detectors.twyman([claim(HOURS, rel, 0.005, "north_star")], prior=0.03).passed is passed


def test_a_large_number_that_may_be_zero_is_not_too_good_to_be_true():
    assert detectors.twyman([claim(HOURS, 0.5, 0.4, "north_star")], prior=0.03).passed


def test_a_win_is_shrunk_as_the_posterior_mean_of_two_normals():
    found = detectors.curse([claim(HOURS, 0.04, 0.01, "north_star")], prior=0.01)
    assert "+4.0% found, +2.0% expected" in found.detail  # equal variances: half
    assert detectors.curse([claim(HOURS, 0.001, 0.01, "north_star")], prior=0.01).passed is None


def test_shrunk_estimates_are_right_on_average_where_raw_winners_are_not():
    rng = np.random.default_rng(2)
    true, se = rng.normal(0, 0.01, 20_000), 0.01
    found = true + rng.normal(0, se, len(true))
    won = found > 1.96 * se
    shrunk = found * 0.01**2 / (0.01**2 + se**2)
    assert found[won].mean() > 1.8 * true[won].mean()
    assert shrunk[won].mean() == pytest.approx(true[won].mean(), rel=0.03)


def test_that_nothing_changed_is_replaced_by_what_was_found():
    guardrail = claim(CHURN, 0.02, 0.1, "guardrail")
    said = detectors.plain_words("Hours rose by 5%. Churn was maintained at 2.1%.", [guardrail])
    assert said.startswith("Hours rose by 5%. ")
    assert "maintained" not in said
    assert said.endswith(guardrail.words)
    assert detectors.plain_words("Hours rose by 5%.", [guardrail]) == "Hours rose by 5%."


@pytest.mark.parametrize("text", ["It had no effect.", "Tickets were unaffected.", "Crashes did not change."])
def test_absence_of_evidence_is_never_left_standing(text):
    assert detectors.plain_words(text, []) == "That nothing changed was not shown."


def opening(plan, data):
    return register.Opening(date="2026-11-25", plan=plan, data=data, decisive={})


def test_looks_and_plans_beyond_the_planned_are_counted(players):
    one = launch.load(players[0])
    assert detectors.forking(one, []).passed is None
    assert detectors.forking(one, [opening("a", "1")]).passed
    assert detectors.forking(one, [opening("a", "1"), opening("a", "2")]).passed is False
    assert detectors.forking(one, [opening("a", "1"), opening("b", "1")]).passed is False


@pytest.fixture
def gate(tmp_path):
    """Write a launch on an own table, and measure it."""

    def write(table, plan):
        table.assign(user=[f"u{i}" for i in range(len(table))]).to_parquet(tmp_path / "t.parquet")
        (tmp_path / "gate.yaml").write_text(
            "name: gate\ndata: {units: t.parquet, account: user}\narms: {control: old, treatment: new}\n"
            f"segments: [country]\nmetrics:\n{plan}"
        )
        data = study.open(launch.load(tmp_path / "gate.yaml"))
        return data, scorecard.measure(data)

    return write


RATIO = "  north_star: {name: per_session, kind: ratio, numerator: hours, denominator: sessions, better: higher}\n"


@pytest.mark.parametrize(("more_hours", "more_sessions", "passed"), [(0, 1.0, False), (2.0, 0, True), (0, 0, True)])
def test_a_ratio_that_moves_by_its_denominator_is_found(gate, more_hours, more_sessions, passed):
    rng = np.random.default_rng(3)
    new = np.repeat([False, True], 4_000)
    table = pd.DataFrame(
        {
            "arm": np.where(new, "new", "old"),
            "country": rng.choice(["NO", "SE"], len(new)),
            "sessions": rng.poisson(6 + more_sessions * new) + 1,
            "hours": rng.gamma(10, 1, len(new)) + more_hours * new,
        }
    )
    assert detectors.denominators(*gate(table, RATIO)).passed is passed


@pytest.mark.parametrize(("share_new", "passed"), [(0.8, False), (0.5, True)])
def test_arms_of_different_people_are_found_by_weighting_segments_alike(gate, share_new, passed):
    # In each country the new gate loses 0.3 h; more people of the country that plays more make it look like a gain.
    rng = np.random.default_rng(4)
    new = np.repeat([False, True], 6_000)
    norway = rng.random(len(new)) < np.where(new, share_new, 0.5)
    hours = rng.gamma(2, 1, len(new)) + 4 * norway - 0.3 * new
    table = pd.DataFrame({"arm": np.where(new, "new", "old"), "country": np.where(norway, "NO", "SE"), "hours": hours})
    plan = "  north_star: {name: hours, kind: mean, column: hours, better: higher}\n"
    data, card = gate(table, plan)
    stopped = next((c.name for c in card.checks if c.passed is False), "")
    assert stopped == ("" if passed else "Arm counts by slice")  # which is asked first, and closes the effects
    plain = inference.compare(
        scorecard.pooled(data), data.launch.plan[0].metric, control="old", treatment="new", days=28, pre_days=1
    )
    assert detectors.composition(data, replace(card, plain=tuple(plain))).passed is passed


@pytest.mark.parametrize(("harm", "passed"), [(0.25, False), (0.0, True)])
def test_harm_in_one_group_is_found_though_the_mean_passes(gate, harm, passed):
    rng = np.random.default_rng(5)
    new = np.repeat([False, True], 20_000)
    country = rng.choice(["NO", "SE", "DK", "FI"], len(new), p=[0.03, 0.47, 0.25, 0.25])
    kept = rng.random(len(new)) < 0.6 - harm * (new & (country == "NO"))
    table = pd.DataFrame(
        {"arm": np.where(new, "new", "old"), "country": country, "kept": kept, "hours": 1.0 + rng.random(len(new))}
    )
    plan = (
        "  north_star: {name: hours, kind: mean, column: hours, better: higher}\n"
        "  guardrails: [{name: kept, kind: proportion, column: kept, better: higher, margin: -5%}]\n"
    )
    data, card = gate(table, plan)
    assert next(c for c in card.claims if c.metric == "kept").status == "passed"
    found = detectors.tail_harm(data, card)
    assert found.passed is passed
    assert ("country NO" in found.detail) is (not passed)


@pytest.fixture
def events(tmp_path):
    """Write assignments, sessions and plays of 4,000 accounts, and measure hours a week."""

    def write(*, chosen=1.0, by_itself=1.0, pushed=0.0):
        rng, n = np.random.default_rng(6), 4_000
        start = pd.Timestamp("2026-09-07", tz="UTC")
        new = np.arange(n) % 2 == 1
        who = np.repeat(np.arange(n), 6)
        folder = tmp_path / "tables"
        folder.mkdir()
        ids = np.array([f"a{i}" for i in range(n)])
        pd.DataFrame({"account": ids, "arm": np.where(new, "new", "old")}).to_parquet(folder / "assignments.parquet")
        seconds = rng.lognormal(5.6, 0.5, len(who))
        late = (seconds > 300) & (seconds < 360) & new[who] & (rng.random(len(who)) < pushed)
        at = start + pd.to_timedelta(rng.integers(0, 14 * 24, len(who)), unit="h")
        at = at.where(np.arange(len(who)) > 0, start + pd.Timedelta(days=13, hours=23))
        common = {"account": ids[who], "session": [f"s{i}" for i in range(len(who))], "started_at": at}
        pd.DataFrame(common | {"seconds_to_first_play": np.where(late, 299.0, seconds)}).to_parquet(
            folder / "sessions.parquet"
        )
        alone = rng.random(len(who)) < 0.3
        factor = np.where(new[who], np.where(alone, by_itself, chosen), 1.0)
        plays = {
            "title": "t",
            "watch_minutes": rng.gamma(4, 10, len(who)) * factor,
            "initiation": np.where(alone, "autoplay_next", "browse"),
        }
        pd.DataFrame(common | plays).to_parquet(folder / "plays.parquet")
        (tmp_path / "gate.yaml").write_text(
            "name: gate\ndata: {source: tables}\narms: {control: old, treatment: new}\n"
            "dates: {start: 2026-09-07, days: 14, pre_days: 0}\nmetrics: {north_star: hours_per_account_week}\n"
        )
        data = study.open(launch.load(tmp_path / "gate.yaml"))
        return data, scorecard.measure(data)

    return write


@pytest.mark.parametrize(
    ("change", "passed"),
    [({"by_itself": 1.3}, False), ({"chosen": 1.1}, True), ({}, None)],
    ids=["alone", "chosen", "none"],
)
def test_a_gain_that_played_by_itself_is_told_from_one_that_was_chosen(events, change, passed):
    assert detectors.autoplay(*events(**change)).passed is passed


def test_the_hours_without_autoplay_are_those_of_the_events(events):
    data, card = events(by_itself=1.3)
    plays = data.table("plays").filter(lambda t: t.initiation == "browse").execute()
    by_arm = plays.merge(data.assignments.execute(), on="account").groupby("arm")["watch_minutes"].sum() / 60 / 2_000
    assert f"without autoplay {by_arm['new'] - by_arm['old']:+.2f}" in detectors.autoplay(data, card).detail


@pytest.mark.parametrize(("pushed", "passed"), [(0.4, False), (0.0, True)])
def test_starts_pushed_just_below_the_threshold_are_found(events, pushed, passed):
    found = detectors.bunching(*events(pushed=pushed))
    assert found.passed is passed
    assert ("seconds_to_first_play at 300 s" in found.detail) or passed


def test_nothing_is_asked_of_data_that_failed_a_check(players):
    path, table = players
    table[(table["version"] == "old") | (table.index % 4 > 0)].to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text() + "sampling: {n: {old: 1, new: 1}}\n")
    data = study.open(launch.load(path))
    (check,) = detectors.inspect(data, scorecard.measure(data))
    assert check.passed is None


def test_on_an_own_table_every_detector_answers_in_words(players):
    data = study.open(launch.load(players[0]))
    register.note(data.launch, data.fingerprint, dt.date(2026, 11, 25))
    found = detectors.inspect(data, scorecard.measure(data), register.read(data.launch))
    assert len(found) == 9
    assert all(c.detail.endswith(".") for c in found)
    assert set(detectors.INFORMING) < {c.name for c in found}
    assert len(detectors.of_trust(found)) == len(found) - len(detectors.INFORMING)


def test_a_win_of_many_errors_is_not_said_to_exaggerate():
    e = replace(estimate(HOURS, 0.4, 0.002), p=0.0)
    told = detectors.curse([decision.read(HOURS, e, role="north_star")], prior=0.03)
    assert told.passed
    assert "exaggerates by 1.0" in told.detail
