"""A launch read before its end: at its planned looks, against their bounds, and stopped wrongly as rarely as planned."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from columns import metric
from scipy import stats

from helpers import anytime, decision, inference, launch, moments, register, scorecard, sequential, study
from helpers.errors import DataError, ParameterError
from helpers.metrics import Bound
from helpers.results import Check, Claim, Estimate, Look, NotEstimable, Verdict

START = pd.Timestamp("2026-09-07", tz="UTC")
LAUNCH = """\
name: early
data: {source: tables}
arms: {control: control, treatment: early}
dates: {start: 2026-09-07, days: 14, pre_days: 7}
metrics:
  north_star: hours_per_account_week
  supporting: [opens_per_account_week]
  guardrails: [{metric: browse_to_play, margin: -5%}, {metric: churn_14d, margin: +50%}]
sampling: {n: {control: 300, early: 300}}
decision: {looks: [7, 14]}
"""
CHURN = "{name: churn_14d, kind: proportion, better: lower, numerator: {table: cancellations, agg: any}, window_days: 14, margin: +50%}"  # fmt: skip


@pytest.fixture
def opened(tmp_path):
    """Write event tables with rows up to some day, and open the launch that reads them."""
    text = LAUNCH.replace("{metric: churn_14d, margin: +50%}", CHURN)

    def write(days: float, text: str = text, late: pd.Timedelta | None = None):
        rng, n = np.random.default_rng(11), 600
        (tmp_path / "tables").mkdir(exist_ok=True)
        arm = np.where(np.arange(n) % 2 == 0, "early", "control")
        assignments = pd.DataFrame({"account": np.arange(n), "arm": arm})
        if late is not None:
            assignments["assigned_at"] = START + late * (np.arange(n) >= n - 2).astype(int)
        plays = pd.DataFrame({"account": rng.integers(0, n, 21_000), "session": np.arange(21_000), "title": "x"})
        plays["started_at"] = START + pd.to_timedelta(rng.uniform(-7, 14, 21_000), unit="D")
        plays["watch_minutes"] = rng.gamma(2, 8, 21_000)
        plays["seconds_to_first_play"] = rng.exponential(200, len(plays))
        plays = plays[plays["started_at"] < START + pd.Timedelta(days=days)]
        sessions = plays[["account", "session", "started_at", "seconds_to_first_play"]]
        left = plays.iloc[::400][["account", "started_at"]].rename(columns={"started_at": "cancelled_at"})
        tables = {
            "assignments": assignments,
            "plays": plays.drop(columns="seconds_to_first_play"),
            "sessions": sessions,
        }
        tables |= {"titles": pd.DataFrame({"title": ["x"], "is_launch_title": [False]})}
        tables |= {"cancellations": left.assign(kind="voluntary").drop_duplicates("account")}
        for name, table in tables.items():
            table.to_parquet(tmp_path / "tables" / f"{name}.parquet")
        (tmp_path / "early.yaml").write_text(text)
        return study.open(launch.load(tmp_path / "early.yaml"))

    return write


@pytest.mark.parametrize(("days", "look"), [(6.5, 7), (7.0, 7), (12.9, 7), (14.0, 14)])
def test_logs_are_read_up_to_the_newest_look_that_they_reach(opened, days, look):
    data = opened(days)
    assert (data.launch.days, data.launch.horizon, data.launch.looks) == (look, 14, (7, 14))
    card = scorecard.measure(data)
    assert card.look == Look(day=look, planned=(7, 14))
    assert f"over {look} days from 2026-09-07" in card.basis


def test_logs_that_do_not_reach_the_first_look_wait_for_it(opened):
    with pytest.raises(DataError, match="does not cover the window up to 2026-09-14"):
        scorecard.measure(opened(5.0))


def test_a_look_counts_from_the_newest_assignment(opened):
    assert opened(14.0, late=pd.Timedelta(days=3)).launch.days == 7


def test_an_end_that_is_not_named_is_a_look_too(opened):
    text = LAUNCH.replace("looks: [7, 14]", "looks: [7]").replace("{metric: churn_14d, margin: +50%}", CHURN)
    assert opened(8.0, text).launch.looks == (7, 14)
    assert opened(14.0, text.replace("decision: {looks: [7]}\n", "")).launch.looks == (14,)


def test_a_look_is_the_launch_that_ends_there_with_intervals_for_all_looks(opened):
    data = opened(14.0)
    card, names = scorecard.measure(data), [p.metric.name for p in data.launch.plan]
    first = scorecard.measure(opened(7.0))
    alone = {c.metric: c.estimate for c in scorecard.measure(opened(7.0, LAUNCH_ONCE)).claims}
    for name in names[:3]:  # the fourth has a window that the first look does not
        assert card.so_far[name][0].diff == pytest.approx(alone[name].diff, rel=1e-12)
        assert first.so_far[name] == card.so_far[name][:1]
        for shown, bound in ((first, sequential.plan_looks([7, 14]).z[0]), (card, None)):
            e, plain = next(c.estimate for c in shown.claims if c.metric == name), shown.so_far[name][-1]
            read = sequential.follow(shown.so_far[name], sequential.plan_looks([7, 14]), better="higher")[-1]
            assert (e.diff, e.se) == (plain.diff, plain.se)
            assert (e.low, e.high, e.p) == pytest.approx((read.estimate.low, read.estimate.high, read.estimate.p))
            assert bound is None or (e.high - e.low) / (plain.high - plain.low) == pytest.approx(bound / 1.959964)
            assert (e.p_adjusted is None) == (name == "browse_to_play")
    assert isinstance(first.so_far["churn_14d"][0], NotEstimable)  # its window ends with the launch
    last = next(c.estimate for c in card.claims if c.metric == "churn_14d")
    assert last.high - last.low == pytest.approx(card.so_far["churn_14d"][-1].high - card.so_far["churn_14d"][-1].low)
    assert "over 7 days from 2026-09-07, look 1 of 2." in first.basis


LAUNCH_ONCE = LAUNCH.replace("days: 14", "days: 7").replace("decision: {looks: [7, 14]}\n", "").replace(", {metric: churn_14d, margin: +50%}", "")  # fmt: skip


def test_a_failed_check_blanks_every_look(opened):
    text = LAUNCH.replace("{metric: churn_14d, margin: +50%}", CHURN).replace("early: 300", "early: 900")
    card = scorecard.measure(opened(14.0, text))
    reason = "not shown, because the check 'Arm counts' failed"
    assert {e.reason for found in card.so_far.values() for e in found} == {reason}
    assert {len(found) for found in card.so_far.values()} == {2}  # "day 7" alone was said to be blank, on day 14
    assert {c.estimate.reason for c in card.claims} == {reason}


def test_looking_as_planned_leaves_the_plan_as_it_was(opened):
    early, full = opened(7.0).launch, opened(14.0).launch
    assert register.decisive(early) == register.decisive(full)
    assert early.content_hash != full.content_hash  # units tables of looks lie apart
    assert full.until(7).content_hash == early.content_hash
    with pytest.raises(ParameterError, match="early has no look on day 8; planned are the days 7, 14"):
        full.until(8)
    register.note(full, "first", dt.date(2026, 9, 14))
    assert register.changes(register.read(early)[0].decisive, register.decisive(early)) == ()


# The verdict


def claim(role, low, high, *, bound=None, name="Hours") -> Claim:
    e = Estimate(
        metric="m", control=10.0, treatment=10 + (low + high) / 2, diff=(low + high) / 2, se=(high - low) / 4,
        low=low, high=high, rel=(low + high) / 20, rel_low=low / 10, rel_high=high / 10,
        p=0.5 if low <= 0 <= high else 0.001, n_control=100, n_treatment=100, method="", mde=1.0,
    )  # fmt: skip
    margin = {"margin": Bound(value=bound, relative=False, text=f"{bound:g}")} if bound else {}
    return decision.read(metric(), e, role=role, **margin)


GAIN, LOSS, OPEN = claim("north_star", 1, 3), claim("north_star", -3, -1), claim("north_star", -1, 1)
SAFE, HARM, UNSURE = (claim("guardrail", *ends, bound=-2) for ends in ((-1, 1), (-5, -3), (-3, 1)))
FIRST, LAST = Look(day=7, planned=(7, 14)), Look(day=14, planned=(7, 14))


@pytest.mark.parametrize(
    ("claims", "stops", "word"),
    [
        ([GAIN, SAFE], "PROCEED", "Stop at look 1 of 2, after day 7. Every guardrail"),
        ([GAIN, HARM], "ROLL BACK", "Roll back: harm is established for M. Stop at look 1 of 2, after day 7."),
        ([OPEN, HARM], "ROLL BACK", "Stop at look 1 of 2"),
        ([LOSS, SAFE], None, "Stop: worse beyond chance: M. Stop at look 1 of 2, after day 7."),
        ([GAIN, UNSURE], "HOLD", "after day 14. At look 1 of 2, after day 7, M improved, but the rest is still open."),
        ([OPEN, SAFE], "HOLD", "Hold: go on to the next look, after day 14. At look 1 of 2, after day 7, no bound is"),
        ([OPEN, UNSURE], "HOLD", "no bound is crossed"),
    ],
)
def test_before_the_end_a_launch_stops_only_for_harm_or_for_a_gain(claims, stops, word):
    once = decision.decide([], claims)
    got = decision.at_look(once, claims, FIRST)
    assert word in got.sentence
    assert got.decision == (stops or once.decision)
    assert decision.at_look(once, claims, LAST) == once


def test_a_bound_crossed_by_what_control_cannot_have_is_not_said_to_be_uncrossed():
    none = replace(GAIN.estimate, control=0.0, treatment=2.0, rel=None, rel_low=None, rel_high=None)
    use = decision.read(metric(), none, role="north_star")
    said = decision.at_look(decision.decide([], [use, SAFE]), [use, SAFE], FIRST).sentence
    assert said.endswith("after day 7, M came out beyond chance, but control has next to none, and no target is met.")


def test_what_is_doubted_missed_or_found_in_a_group_waits_for_the_next_look():
    doubt = decision.decide([], [GAIN, SAFE], trust=[Check(name="Fading", passed=False, detail="It fades.")])
    for found in (doubt, Verdict(decision="TARGETED", sentence="x"), Verdict(decision="DELAY/REWORK", sentence="x")):
        got = decision.at_look(found, [OPEN, SAFE], FIRST)
        assert (got.decision, got.sentence[:24]) == ("HOLD", "Hold: go on to the next ")
    failed = decision.decide([Check(name="Arm counts", passed=False, detail="")], [])
    assert decision.at_look(failed, [], FIRST).decision == "INVALID"


# Errors


def simulated(rng, launches, n=400, effect=0.0):
    """Give estimates by metric, look and launch: half of what an account does comes after the first look.

    Two success metrics and a guardrail that resemble each other (correlation 0.5).
    """
    root = np.linalg.cholesky(np.full((3, 3), 0.5) + 0.5 * np.eye(3))
    read = []
    for arm, shift in (("control", 0.0), ("early", effect)):
        parts = rng.normal(size=(launches, n, 2, 3)) @ root.T + shift + 10  # a level, which the control has too
        parts[..., 2] -= shift  # the guardrail moves with nothing
        looks = np.stack([parts[:, :, 0], parts.mean(axis=2)], axis=2).reshape(launches, n, 6)
        names = [f"{m}{k}" for k in (1, 2) for m in "abg"]
        read.append(moments.from_samples([looks], columns=names, arm=arm))
    both = read[0] + read[1]

    def compare(name, level=0.95):
        return inference.compare(
            both, metric(numerator=name), control="control", treatment="early", days=14, pre_days=1, level=level
        )

    return {(m, k): compare(f"{m}{k}") for m, k in itertools.product("abg", (1, 2))}


def verdicts(found, launch_number, margin):
    """Read one launch at both looks as the scorecard does; give the verdict of each."""
    said = []
    for k in (1, 2):
        so_far = {m: [found[m, look][launch_number] for look in range(1, k + 1)] for m in "abg"}

        def at(level, so_far=so_far):
            return [scorecard.newest(so_far[m], [7, 14], better="higher", alpha=1 - level) for m in "ab"]

        family = inference.adjust_family(at(0.95), method="holm", at=at)
        claims = [decision.read(metric(), e, role=role) for e, role in zip(family, ("north_star", "supporting"), strict=True)]  # fmt: skip
        guard = scorecard.newest(so_far["g"], [7, 14], better="higher", alpha=0.05)
        claims.append(decision.read(metric(), guard, role="guardrail", margin=margin))
        look = Look(day=7 * k, planned=(7, 14))
        said.append(decision.at_look(decision.decide([], claims), claims, look))
    return said


def stopped(said):
    """Say whether a launch was stopped before its end, or at its end for a gain or for harm."""
    first, last = said
    return "Stop at look" in first.sentence or last.decision in ("PROCEED", "ROLL BACK", "DELAY/REWORK")


def test_a_launch_that_does_nothing_is_stopped_wrongly_in_at_most_one_of_twenty():
    launches, margin = 250, Bound(value=-0.3, relative=False, text="-0.3")
    found = simulated(np.random.default_rng(21), launches)
    said = [verdicts(found, i, margin) for i in range(launches)]
    wrong = np.mean([stopped(s) for s in said])
    assert wrong <= 0.05
    usual = [any(abs(found[m, k][i].diff / found[m, k][i].se) > 1.96 for m in "ab" for k in (1, 2)) for i in range(launches)]  # fmt: skip
    assert np.mean(usual) > 0.1  # what reading both looks at the usual bound would do


def test_a_large_gain_and_a_large_harm_stop_at_the_first_look():
    launches = 20
    found = simulated(np.random.default_rng(22), launches, effect=0.5)
    safe, harmed = (Bound(value=v, relative=False, text=f"{v:g}") for v in (-0.5, -0.3))
    gains = [verdicts(found, i, safe)[0] for i in range(launches)]
    # z is 0.5 / sqrt(2 / 400) = 7.1 for the gain, and as much for the margin: either passes 2.96 almost surely
    assert {v.decision for v in gains} == {"PROCEED"}
    turned = {key: [harmed_by(e) if key[0] == "g" else e for e in es] for key, es in found.items()}
    assert {verdicts(turned, i, harmed)[0].decision for i in range(launches)} == {"ROLL BACK"}


def harmed_by(e):
    """Move a guardrail's estimate down by 0.8: 0.5 beyond its margin."""
    return replace(e, diff=e.diff - 0.8, low=e.low - 0.8, high=e.high - 0.8)


# Technical guardrails and canaries: whenever and however often one looks

DAILY = list(range(1, 29))


def watched(path, se, day, **more):
    """Read a technical guardrail, better low, as the scorecard does at the newest of the looks so far."""
    so_far = [estimated(d, s) for d, s in zip(path[:day], se[:day], strict=True)]
    return scorecard.newest(so_far, DAILY, better="lower", alpha=0.05, watched=True, **more)


def estimated(diff, se, half=1.959964):
    ends = {"low": diff - half * se, "high": diff + half * se}
    return Estimate(
        metric="m", control=10.0, treatment=10 + diff, diff=diff, se=se, p=0.5, n_control=9, n_treatment=9, method="t",
        mde=2.8 * se, rel=diff / 10, rel_low=ends["low"] / 10, rel_high=ends["high"] / 10, **ends,
    )  # fmt: skip


def test_a_technical_guardrail_is_breached_by_a_confidence_sequence_and_passes_by_the_planned_bound():
    rng, se = np.random.default_rng(3), 1 / np.sqrt(DAILY)
    path = rng.normal(size=28).cumsum() / DAILY
    for day in (1, 4):
        e, usual = watched(path, se, day), sequential.repeated([estimated(*x) for x in zip(path[:day], se, strict=False)], sequential.plan_looks(DAILY), better="lower")  # fmt: skip
        # One-sided boundary of Howard and others (2021, eq. 3.7, normal mixture), solved without its closed form:
        # the mixture over the half-line, 2 / sqrt(1 + x) * exp(...) * Phi(...), reaches 1 / alpha at the limit or before.
        x = 9.504 * day / 28  # -2 log(0.025) + log(1 - 2 log(0.025)), tightest at the last of the looks
        z = (e.diff - e.low) / e.se
        mixture = 2 / np.sqrt(1 + x) * np.exp(z**2 * x / (2 * (1 + x))) * stats.norm.cdf(z * np.sqrt(x / (1 + x)))
        assert 1 <= mixture * 0.025 <= 1.5
        assert (e.high, e.p, e.mde) == (usual.high, usual.p, usual.mde)
        assert e.rel_low == pytest.approx(e.low / 10)
        assert "lower limit, of harm: anytime-valid (one-sided confidence sequence)" in e.method
    assert watched(path, se, 1).low > usual_low(path, se)  # after a day, a planned bound is crossed by hardly anything
    mirror = scorecard.newest([estimated(-path[0], se[0])], DAILY, better="higher", alpha=0.05, watched=True)
    assert (mirror.low, mirror.high) == pytest.approx((-watched(path, se, 1).high, -watched(path, se, 1).low))


def usual_low(path, se):
    return scorecard.newest([estimated(path[0], se[0])], DAILY, better="lower", alpha=0.05).low


def test_a_single_look_is_read_as_it_stands():
    e = estimated(0.1, 0.2)
    assert scorecard.newest([e], [28], better="lower", alpha=0.05, watched=True) == e


def daily(rng, launches, accounts=600):
    """Look at launches that do nothing on each of 28 days; say which are stopped, and what single claims err at 0."""
    days, bounds = np.array(DAILY), sequential.plan_looks(DAILY).z
    down, up = (
        Bound(value=v, relative=False, text=f"{v:+g}") for v in (-1.0, 3.0)
    )  # five errors at the end, and half of all crashes
    wrong = dict.fromkeys(("stopped", "technical", "canary", "usual"), 0)
    for _ in range(launches):
        found: set[str] = set()
        gain, business = rng.normal(size=(2, 28)).cumsum(axis=1) / days
        crashes = rng.poisson(6, size=(2, 28)).cumsum(axis=1) / days  # a day and arm: rare, and no normal draw
        se, noise = 1 / np.sqrt(days), np.sqrt(crashes.sum(axis=0) / days)
        low, _ = anytime.confidence_sequence(
            crashes[1] - crashes[0], noise, noise**-2, tuned_for=28 * noise[0] ** -2, alpha=0.025, sides=1
        )
        first = rng.lognormal(0.6, 0.6, (2, accounts))
        for k, day in enumerate(DAILY):
            app = estimated(float(crashes[1, k] - crashes[0, k]), noise[k])
            harm = replace(app, low=low[k], high=app.diff + bounds[k] * app.se)
            seen = first[:, : accounts * day // 28]
            sung = anytime.canary(*seen, margin=0.0, title="Delay", tuned_for=accounts)
            claims = [
                decision.read(metric(), estimated(gain[k], se[k], bounds[k]), role="north_star"),
                decision.read(metric(), estimated(business[k], se[k], bounds[k]), role="guardrail", margin=down),
                decision.read(replace(metric(), better="lower"), harm, role="guardrail", margin=up),
            ]
            verdict = decision.decide([], claims, harm=[sung])
            said = decision.at_look(verdict, claims, Look(day=day, planned=tuple(DAILY)), [sung])
            last = day == 28 and said.decision in ("PROCEED", "ROLL BACK", "DELAY/REWORK")
            found |= {"stopped"} if "Stop at look" in said.sentence or last else set()
            found |= {"technical"} if harm.low > 0 else set()
            found |= {"usual"} if app.low > 0 else set()
            found |= {"canary"} if sung.passed is False else set()
        wrong = {name: count + (name in found) for name, count in wrong.items()}
    return {name: count / launches for name, count in wrong.items()}


def test_daily_looks_at_a_launch_that_does_nothing_err_in_at_most_alpha_all_in_all():
    """Success, business, technical and canary together; the last with no margin at all, so that no effect lies on it."""
    launches = 40
    wrong = daily(np.random.default_rng(31), launches)
    assert wrong["stopped"] <= 0.05
    slack = 3 * np.sqrt(0.025 * 0.975 / launches)
    assert wrong["technical"] <= 0.025 + slack
    assert wrong["canary"] <= 0.05
    assert wrong["usual"] > 0.025 + slack  # what the limit of a single look would do
