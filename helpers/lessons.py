"""Worked examples on live numbers: a launch that harms while a total rises, copied formulas beside the right ones."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping

import ibis
import pandas as pd
from ibis import _
from scipy import stats

from helpers import clock, scorecard, study
from helpers.launch import Launch
from helpers.metrics import UNITS_TABLE
from helpers.results import Estimate
from helpers.study import Study

COPIED = ["the question", "the copied code", "its answer", "the right answer", "what went wrong"]
Measured = Mapping[str, Estimate]
_HARMFUL = {
    "name": "autoplay",
    "title": "A home page that plays the next thing by itself",
    "data": {"source": "simulate", "scenario": "hollow_engagement", "accounts": 40_000, "seed": 20261124},
    "arms": {"control": "as it is", "treatment": "plays by itself"},
    "dates": {"start": "2026-09-07", "days": 28, "pre_days": 28},
    "sampling": {"n": {"as it is": 8_000, "plays by itself": 8_000}},
    "metrics": {
        "north_star": "hours_per_account_week",
        "satisfaction": ["intentional_start_share", "regret_rate", "survey_score"],
    },
}


def harmful() -> Study:
    """Open a simulated launch that makes people watch more and like it less."""
    return study.open(Launch.model_validate(_HARMFUL))


def running_total(data: Study) -> pd.DataFrame:
    """Add up the hours streamed since the launch, day by day and arm by arm: day, arm, total (thousand hours)."""
    plays = data.table("plays").join(data.assignments.select("account", "arm"), "account")
    by_day = plays.mutate(day=_day(data, plays) + 1).filter((_.day >= 1) & (_.day <= data.launch.days))
    found = by_day.aggregate(by=["arm", "day"], hours=_.watch_minutes.sum() / 60_000).order_by("day").execute()
    found["total"] = found.groupby("arm")["hours"].cumsum()
    return found[["day", "arm", "total"]]


def copied(data: Study) -> pd.DataFrame:
    """Run five formulas as they are often copied beside the right ones, on the control arm of a launch's own data."""
    measured = _measured(data)
    rows = [
        _fast_starts(data),
        _active_only(data),
        _share_of_minutes(data, measured),
        _impossible_size(),
        _maintained(data, measured),
    ]
    return pd.DataFrame(rows, columns=COPIED)


def _control(data: Study) -> ibis.Table:
    return data.assignments.filter(_.arm == data.launch.arms.control).select("account")


def _without(data: Study, table: str) -> str | None:
    if UNITS_TABLE in data.tables:
        return "not computed: these data are one table with a row per account"
    return None if table in data.tables else f"not computed: the data have no table '{table}'"


def _day(data: Study, events: ibis.Table) -> ibis.Value:
    """Count whole days from the launch's first midnight (UTC)."""
    start = data.launch.dates.start if data.launch.dates else dt.date.min
    midnight = dt.datetime.combine(start, dt.time(), tzinfo=dt.UTC)
    return (clock.seconds(events.started_at) - int(midnight.timestamp())) // 86_400


def _fast_starts(data: Study) -> tuple[str, ...]:
    """Sessions that started within five minutes, or sessions that *lasted* five minutes?"""
    asked = "In which share of sessions does playing start within five minutes?"
    code = "drop sessions that never started; count durations of at most 5 minutes"
    wrong = "it counts short sessions, not fast starts, and forgets those that gave up"
    if (reason := _without(data, "sessions") or _without(data, "plays")) is not None:
        return asked, code, reason, reason, wrong
    sessions = data.table("sessions").semi_join(_control(data), "account")
    watched = data.table("plays").aggregate(by="session", minutes=_.watch_minutes.sum())
    started = sessions.filter(_.seconds_to_first_play >= 0).left_join(watched, "session")
    short = (started.minutes.fill_null(0.0) <= 5).cast("float64").mean().execute()
    fast = (sessions.seconds_to_first_play <= 300).fill_null(False).cast("float64").mean().execute()
    return asked, code, f"{short:.1%}", f"{fast:.1%}", wrong


def _active_only(data: Study) -> tuple[str, ...]:
    """Hours a week of whom: of accounts, or of accounts in the weeks in which they came?"""
    asked = "How many hours does an account watch in a week?"
    code = "group plays by account and week; take the mean"
    wrong = "weeks and accounts without a play have no row, so that those who stay away raise the mean"
    if (reason := _without(data, "plays")) is not None:
        return asked, code, reason, reason, wrong
    control, days = _control(data), data.launch.days
    plays = data.table("plays").semi_join(control, "account")
    inside = plays.mutate(day=_day(data, plays)).filter((_.day >= 0) & (_.day < days))
    weekly = inside.mutate(week=_.day // 7).aggregate(by=["account", "week"], hours=_.watch_minutes.sum() / 60)
    told = weekly.aggregate(mean=_.hours.mean(), total=_.hours.sum()).execute().iloc[0]
    right = told["total"] / int(control.count().execute()) / (days / 7)
    return asked, code, f"{told['mean']:.2f} h", f"{right:.2f} h", wrong


def _share_of_minutes(data: Study, measured: Measured) -> tuple[str, ...]:
    """A test for shares, on a number that is none."""
    asked = "Does the north star differ between the arms?"
    code = "two-proportion z-test on the column, whatever it holds"
    wrong = "p(1 − p) is negative; the comparison with 'not a number' is False, so no effect is ever found"
    e = measured.get(data.launch.plan[0].metric.name)
    if e is None or data.launch.plan[0].metric.kind == "proportion":
        return asked, code, "not computed: the north star is a share, for which this test is right", "–", wrong
    p = e.control
    variance = p * (1 - p)
    if variance > 0:
        wrong = "the variance of a share is put in the place of the number's own"
    said = (
        "error: root of " + f"{variance:,.3g}".replace("-", "−") + (", hence 'not significant'" if variance < 0 else "")
    )
    return asked, code, said, f"error {e.se:.3g}; a change of {e.mde:.3g} would show", wrong


def _impossible_size() -> tuple[str, ...]:
    """Accounts for a lift that cannot be."""
    p, lift, z_alpha, z_power = 0.9, 0.2, stats.norm.isf(0.025), stats.norm.ppf(0.8)
    q, mid = p * (1 + lift), p * (1 + lift / 2)
    root = z_alpha * math.sqrt(2 * mid * (1 - mid)) + z_power * math.sqrt(p * (1 - p) + q * (1 - q))
    return (
        "How many accounts show a lift of 20% on a share of 90%?",
        "the textbook formula, without a look at its input",
        f"{math.ceil(root**2 / (q - p) ** 2)} in each arm",
        f"none: the share would have to be {q:.0%}",
        "nobody asked whether the target can exist",
    )


def _maintained(data: Study, measured: Measured) -> tuple[str, ...]:
    """What a guardrail without a significant change has shown."""
    asked = "Was the guardrail kept?"
    code = "not significant, hence 'maintained'"
    wrong = "what was not found may still be there: ask whether the interval stays within the margin"
    guardrails = [p.metric for p in data.launch.plan if p.role == "guardrail" and p.metric.name in measured]
    if not guardrails or not measured[guardrails[0].name].control > 0:
        return asked, code, "not computed: no guardrail can be measured", "–", wrong
    metric, e = guardrails[0], measured[guardrails[0].name]
    half = float(stats.norm.isf((1 - e.level) / 2)) * e.se
    unit = f"{100 * half:.2g} percentage points" if metric.unit == "share" else f"{half:.2g}"
    return (
        asked,
        code,
        "'maintained'",
        f"known to ± {unit} only, {half / e.control:.0%} of {metric.name}",
        wrong,
    )


def _measured(data: Study) -> Measured:
    """Estimate what can be estimated of the plan, for the errors; no effect is shown of it."""
    read, treatment = scorecard.pooled(data), data.launch.arms.treatment[0]
    found = [
        scorecard.estimate(data, read, p.metric, treatment=treatment, adjust=True)
        for p in data.launch.plan
        if p.role in ("north_star", "guardrail")
    ]
    return {e.metric: e for e in found if isinstance(e, Estimate)}


def lags(data: Study) -> pd.DataFrame:
    """Say for each metric of the plan after how long it can be read, and which metric would suffer if it were gamed."""
    titles = {p.metric.name: p.metric.title for p in data.launch.plan}
    return pd.DataFrame(
        {
            "metric": p.metric.title,
            "readable after": f"{p.metric.window_days or data.launch.days} days",
            "counter-metric": titles.get(p.counter, p.counter) or "–",
        }
        for p in data.launch.plan
    )
