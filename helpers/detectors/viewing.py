"""Gains in the events themselves: those that play by themselves, just count, or are taken from elsewhere."""

from __future__ import annotations

import datetime as dt

import ibis

from helpers import inference, moments, schema
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import Moments
from helpers.results import Check, Estimate, NotEstimable
from helpers.scorecard import Scorecard
from helpers.study import Study

AUTOPLAY = ("autoplay_next", "autoplay_preview")
THRESHOLDS = (  # at which an event begins to count: table, column, place, unit
    ("plays", "watch_minutes", 2.0, "min"),
    ("plays", "watch_minutes", 5.0, "min"),
    ("plays", "completed_share", 0.7, "of the title"),
    ("sessions", "seconds_to_first_play", 300.0, "s"),
)


def autoplay(data: Study, card: Scorecard) -> Check:
    """Ask whether more hours are left of a gain when those that played by themselves are taken out (H6)."""
    name = "Gain without autoplay"
    star = card.claims[0]
    lacking = _lacking(data, "plays", "initiation", "watch_minutes")
    if (
        lacking
        or not isinstance(star.estimate, Estimate)
        or "watch_minutes" not in _columns(data.launch.plan[0].metric)
    ):
        return Check(name=name, passed=None, detail=f"Not asked, because {lacking or 'the north star is not viewing'}.")
    if star.estimate.low <= 0:
        return Check(name=name, passed=None, detail="Not asked, because viewing did not rise for certain.")
    plays = data.table("plays")
    chosen = plays.initiation.notin(AUTOPLAY).fill_null(True)
    read = _by_account(
        data, "plays", all=plays.watch_minutes.sum() / 60, chosen=plays.watch_minutes.sum(where=chosen) / 60
    )
    whole, kept = (_contrast(data, read, card.treatment, column) for column in ("all", "chosen"))
    if not isinstance(whole, Estimate) or not isinstance(kept, Estimate):
        return Check(name=name, passed=None, detail="Not asked, because the hours could not be compared.")
    said = f"{whole.diff:+.2f} h an account, without autoplay {kept.diff:+.2f} ({kept.low:+.2f} to {kept.high:+.2f})"
    if kept.low > 0:
        return Check(name=name, passed=True, detail=f"Viewing rose, and not by autoplay alone: {said}.")
    return Check(name=name, passed=False, detail=f"The gain vanishes without what played by itself: {said}.")


def bunching(data: Study, card: Scorecard) -> Check:
    """Ask whether events gather just beyond a counting threshold in the treatment (H2): gaming of the definition.

    Of the events within a fifth of the threshold, the share that just counts is compared between the arms, over
    accounts, at alpha divided by the number of thresholds. A launch that truly moves everything moves this share
    a little as well; so less than two percentage points are let pass.
    """
    name = "Events just beyond a threshold"
    asked = [(t, c, at, unit) for t, c, at, unit in THRESHOLDS if not _lacking(data, t, c)]
    if not asked:
        return Check(name=name, passed=None, detail="Not asked, because the data hold no events with a threshold.")
    told = []
    for table, column, at, unit in asked:
        value = data.table(table)[column]
        near, beyond = value.between(0.8 * at, 1.2 * at), value >= at if unit != "s" else value <= at
        read = _by_account(data, table, near=near.sum(), beyond=(near & beyond).sum())
        e = _contrast(data, read, card.treatment, "beyond", "near", level=1 - data.launch.decision.alpha / len(asked))
        if isinstance(e, Estimate) and e.low > 0:
            told.append(
                f"{column} at {at:g} {unit}: {e.treatment:.1%} of the events near it just count, not {e.control:.1%}"
            )
    if told:
        return Check(name=name, passed=False, detail=f"{'; '.join(told)}. Was the definition gamed?")
    places = ", ".join(f"{column} at {at:g} {unit}" for _, column, at, unit in asked)
    return Check(name=name, passed=True, detail=f"No more events than in control lie just beyond {places}.")


def _lacking(data: Study, table: str, *columns: str) -> str:
    """Say what the data lack of a table and its columns; empty where nothing."""
    if table not in data.tables:
        return f"the data have no table '{table}'"
    absent = [c for c in columns if c not in data.tables[table].columns]
    return f"'{table}' has no column '{absent[0]}'" if absent else ""


def _columns(metric: Metric) -> set[str | None]:
    return {base.column for m in metric.measures for base in m.bases}


def _by_account(data: Study, table: str, **numbers: ibis.Value) -> Moments:
    """Sum events of the launch's days by assigned account, zeros included, and give the moments of each arm."""
    events, launch = data.table(table), data.launch
    start = dt.datetime.combine(launch.dates.start if launch.dates else dt.date.min, dt.time(), tzinfo=dt.UTC)
    time = events[str(schema.table(table).time)]
    inside = (time >= start) & (time < start + dt.timedelta(days=launch.days))
    found = events.filter(inside).aggregate(by="account", **numbers)
    accounts = data.assignments.select("account", "arm")
    rows = accounts.left_join(found.mutate(account=found.account.cast(accounts.account.type())), "account")
    rows = rows.select("arm", **{name: rows[name].cast("float64").fill_null(0.0) for name in numbers})
    pairs = [(a, b) for a in numbers for b in numbers]
    return moments.from_table(rows, columns=list(numbers), pairs=pairs, by=["arm"])


def _contrast(
    data: Study, read: Moments, treatment: str, top: str, bottom: str | None = None, *, level: float = 0.95
) -> Estimate | NotEstimable:
    """Compare a column, or the ratio of two, between the arms."""
    metric = Metric(
        name=top,
        title="",
        kind="ratio" if bottom else "mean",
        numerator=Measure(table=UNITS_TABLE, agg="value", column=top),
        denominator=Measure(table=UNITS_TABLE, agg="value", column=bottom) if bottom else None,
        better="higher",
        unit="",
        covariates=(),
    )
    control = data.launch.arms.control
    (answer,) = inference.compare(read, metric, control=control, treatment=treatment, days=1, pre_days=1, level=level)
    return answer
