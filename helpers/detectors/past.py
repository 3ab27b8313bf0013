"""What was there before: looks and plans that were tried, past launches, a metric before it was a target."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from helpers import corpus, units
from helpers.errors import DataError, did_you_mean
from helpers.launch import Launch
from helpers.launch.entry import Planned
from helpers.metrics import UNITS_TABLE, Measure
from helpers.register import Opening
from helpers.results import SUCCESS, Check, figures
from helpers.study import Study

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

WINDOW = 50  # past launches that a correlation is read from
LEAST = 20
AGREES = 0.5  # of true effects; below, a proxy says little about what it stands for
SHEWHART = 0.0027  # of the points of a steady process lie beyond three standard deviations
WEEK = 7
SINCE = 2  # weeks after the change that are read at most
PAST_LAUNCHES = ("ended", "metric", "effect", "se", "outcome", "outcome_se")


def forking(launch: Launch, openings: Sequence[Opening]) -> Check:
    """Ask whether the data were looked at more often, or with more plans, than was planned (H12)."""
    name = "Looks and plans"
    if not openings:
        return Check(name=name, passed=None, detail="No report has opened these data yet, so nothing was counted.")
    looks, plans = len({o.data for o in openings}), len({o.plan for o in openings})
    planned = len(launch.looks)
    detail = f"States of the data that were opened: {looks}, planned {planned}. Versions of the plan: {plans}."
    if looks > planned:
        detail += " Each further look is another chance to be fooled; the intervals hold for the planned ones."
    return Check(name=name, passed=looks <= planned and plans == 1, detail=detail)


def proxy_decay(launch: Launch) -> Check:
    """Ask whether a success metric still moves with what it stands for, over the last launches of an archive (H13).

    `decision: {archive: …}` names a CSV with a row for each past launch and metric: `ended` (day), `metric`, `effect`
    and `se` (relative), `outcome` and `outcome_se` of what matters in the long run, and, where known, the `correlation`
    of the two errors, which are of the same accounts. Estimated effects agree less than true ones because they are
    noisy, or more because their noise is shared; so the covariance of the errors is taken out (`corpus.correlation`).
    The interval is a percentile bootstrap over launches. A correlation over launches says nothing of this one.

    Raises:
        DataError: the archive lacks a column, or holds what is no number, day or error.
    """
    name = "Proxies that no longer agree"
    if not launch.decision.archive:
        detail = "Not asked, because the launch names no archive of past launches ('decision: {archive: …}')."
        return Check(name=name, passed=None, detail=detail)
    archive = _read(launch.folder / launch.decision.archive, PAST_LAUNCHES, day="ended", above=("se", "outcome_se"))
    told: list[str] = []
    open_: list[str] = []
    kept: list[str] = []
    for p in launch.plan:
        rows = archive[archive["metric"] == p.metric.name].sort_values("ended")
        if p.role not in SUCCESS or len(rows) < LEAST:
            continue
        now, low, high = agreement(*_effects(rows.tail(WINDOW)))
        then, *_ = agreement(*_effects(rows.head(WINDOW)))
        said = f"{p.metric.title} {now:.2f} ({low:.2f} to {high:.2f}; over the first {WINDOW}: {then:.2f})"
        if np.isnan(now):
            open_.append(f"{p.metric.title}: true effects cannot be told from noise")
        else:
            (told if high < AGREES else kept if low >= AGREES else open_).append(said)
    if not told + open_ + kept:
        detail = f"Not asked, because no success metric has {LEAST} past launches in {launch.decision.archive}."
        return Check(name=name, passed=None, detail=detail)
    asked = f"Correlation of true effects with those on the long-term outcome, last {WINDOW} launches at most"
    detail = f"{asked}: {'; '.join([*told, *open_, *kept])}. "
    if told:
        return Check(name=name, passed=False, detail=detail + f"Below {AGREES:g} for certain: choose another proxy.")
    return Check(
        name=name,
        passed=None if open_ else True,
        detail=detail + ("The interval leaves it open." if open_ else f"Above {AGREES:g} for certain."),
    )


def agreement(effects: Floats, errors: Floats, *, level: float = 0.95, draws: int = 500) -> tuple[float, float, float]:
    """Correlate the true effects of a proxy with those on the outcome, with a bootstrap interval over launches.

    Args:
        effects: (K, 2) estimated effects, proxy first.
        errors: (K, 2, 2) covariance of their errors.
        level: confidence level.
        draws: resamples of the launches; their seed is fixed.

    Returns:
        Correlation, low, high; NaN where the true effects cannot be told from noise, in a tenth of the resamples or
        more.
    """
    rng = np.random.default_rng(20261127)
    again = rng.integers(len(effects), size=(draws, len(effects)))
    found = np.array([corpus.correlation(effects[d], errors[d])[0] for d in again])
    now = float(corpus.correlation(effects, errors)[0])
    if np.isnan(now) or np.isnan(found).mean() >= 0.1:
        return np.nan, np.nan, np.nan
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return now, float(low), float(high)


def _effects(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Take effects (K, 2) and the covariances of their errors (K, 2, 2) from rows of an archive."""
    a, b = rows["se"].to_numpy(float), rows["outcome_se"].to_numpy(float)
    shared = a * b * (rows["correlation"].to_numpy(float) if "correlation" in rows else 0.0)
    errors = np.moveaxis(np.array([[a**2, shared], [shared, b**2]]), -1, 0)
    return rows[["effect", "outcome"]].to_numpy(float), errors


def regime_change(data: Study) -> Check:
    """Ask whether a metric jumped when people began to be held to it (H14: Goodhart's law).

    A metric of the plan says when with `target_since: 2026-08-24`. Its days are those of `history: FILE` (columns
    `day`, `value`), or of the logs before the start. A jump may have other causes: the season, a release, a price.

    Raises:
        DataError: a history lacks a column, or holds what is no day or number.
    """
    name = "Jump when it became a target"
    asked = [p for p in data.launch.plan if p.target_since]
    if not asked:
        detail = "Not asked, because no metric says since when it is a target ('target_since')."
        return Check(name=name, passed=None, detail=detail)
    told: list[str] = []
    kept: list[str] = []
    open_: list[str] = []
    for p in asked:
        days = _days(data, p)
        found = (
            days if isinstance(days, str) else jump(days, p.target_since or dt.date.min, alpha=SHEWHART / len(asked))
        )
        if isinstance(found, str):
            open_.append(f"{p.metric.title}: {found}")
            continue
        said = (
            f"{p.metric.title} was {figures(found.before, 4)} a day before {p.target_since} and "
            f"{figures(found.after, 4)} in the {found.days} days from it; its history allows "
            f"{figures(found.low, 4)} to {figures(found.high, 4)}"
        )
        (kept if found.low <= found.after <= found.high else told).append(said)
    detail = "; ".join([*told, *kept, *open_]) + "."
    if told:
        return Check(name=name, passed=False, detail=f"{detail} Did the counting change, or what people do?")
    return Check(name=name, passed=True if kept else None, detail=detail if kept else f"Not asked. {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A metric's level before and after a day, and the limits that its history sets to the latter."""

    before: float
    after: float
    low: float
    high: float
    days: int


def jump(history: pd.Series, since: dt.date, *, alpha: float = SHEWHART) -> Jump | str:
    """Hold the first days from a change against the control limits of those before it.

    A control chart of means (Shewhart 1931; Montgomery, Introduction to Statistical Quality Control, sec. 6.2): both
    sides are whole weeks, so that weekdays cancel. The spread is that of the days before within their weekday; the
    limits are those of a prediction by Student's t, widened for days that resemble the day before by
    sqrt((1 + r) / (1 - r)) with their correlation r where that is positive.

    Args:
        history: a value for each day, indexed by date without gaps.
        since: the first day after the change.
        alpha: the chance of limits that a steady metric leaves.

    Returns:
        The jump, or why it cannot be told.
    """
    first = int((history.index < since).sum())
    before, after = history.iloc[first % WEEK : first].to_numpy(float), history.iloc[first:].to_numpy(float)
    k = min(len(after) // WEEK, SINCE) * WEEK
    if len(before) < 2 * WEEK or not k:
        return f"{first} days before {since} and {len(after)} from it; at least {2 * WEEK} and {WEEK} are needed"
    by_weekday = before.reshape(-1, WEEK)
    rest = (by_weekday - by_weekday.mean(axis=0)).ravel()
    df = len(before) - WEEK
    sd = float(np.sqrt(rest @ rest / df))
    if not sd > 1e-12 * abs(before.mean()):
        return "it does not vary from week to week"
    r = max(float(rest[1:] @ rest[:-1] / (rest @ rest)), 0.0)
    half = stats.t.isf(alpha / 2, df) * sd * np.sqrt((1 + r) / (1 - r) * (1 / k + 1 / len(before)))
    level = float(before.mean())
    return Jump(before=level, after=float(after[:k].mean()), low=level - half, high=level + half, days=k)


def _days(data: Study, p: Planned) -> pd.Series | str:
    """Read the days of a metric before the launch: from its file, or from the logs of all assigned accounts."""
    if p.history:
        rows = _read(data.launch.folder / p.history, ("day", "value"), day="day")
        days = rows.set_index("day")["value"].sort_index()
        gaps = days.index.has_duplicates or len(days) != (days.index[-1] - days.index[0]).days + 1
        return "its history has days twice or not at all" if gaps else days
    launch, metric = data.launch, p.metric
    if launch.dates is None or not metric.averaged or reason_not(metric.measures):
        return "it does not add up over days; name a 'history' file"
    if reason := units.why_not(data, metric):
        return reason
    when = units.drawn(data).select(at=units.anchor(data))
    early, late = map(pd.Timestamp, when.aggregate(early=when["at"].min(), late=when["at"].max()).execute().iloc[0])
    first = late.ceil("D") - pd.Timedelta(
        days=units.days_before(data, metric.tables)
    )  # from here on all accounts were watched
    before = pd.Index(pd.date_range(first, early.floor("D"), inclusive="left").date)
    sums = []
    for measure in metric.measures:
        events = units.near(data, measure)
        by_day = events.aggregate(by=events["at"].date().name("day"), value=events["value"].sum()).execute()
        by_day["day"] = pd.to_datetime(by_day["day"]).dt.date
        sums.append(by_day.set_index("day")["value"].reindex(before, fill_value=0.0).astype(float))
    accounts = float(units.drawn(data).count().execute())
    series = sums[0] / (accounts if len(sums) == 1 else sums[1])
    return "on some day there is nothing to divide by" if series.isna().any() else series


def reason_not(measures: Sequence[Measure]) -> bool:
    """Say whether a metric is no sum or count of events, which alone add up over days."""
    return any(m.table == UNITS_TABLE or not m.adds_up for m in measures)


def _read(path: Path, columns: Sequence[str], *, day: str, above: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV of the past, and refuse what cannot be meant."""
    rows = pd.read_csv(path)
    for column in columns:
        if column not in rows:
            raise DataError(f"{path}: has no column {column!r}; {did_you_mean(column, rows.columns)}")
    rows[day] = pd.to_datetime(rows[day], format="%Y-%m-%d", errors="coerce").dt.date
    if (bad := rows[day].isna()).any():
        raise DataError(f"{path}, line {int(np.flatnonzero(bad)[0]) + 2}: {day!r} is no day; write 2026-09-07")
    for column in {*columns, *({"correlation"} & set(rows))} - {day, "metric"}:
        number = pd.to_numeric(rows[column], errors="coerce")
        low = 0 if column in above else -np.inf
        bad = ~(np.isfinite(number) & (number > low)) | ((column == "correlation") & (number.abs() > 1))
        if bad.any():
            expected = (
                "a number above 0" if column in above else "from -1 to 1" if column == "correlation" else "a number"
            )
            line = int(np.flatnonzero(bad)[0]) + 2
            raise DataError(f"{path}, line {line}: {column!r} is {rows[column][line - 2]}; expected {expected}")
        rows[column] = number
    if rows.empty:
        raise DataError(f"{path}: has no rows")
    return rows
