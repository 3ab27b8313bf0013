"""Units: events become one row per assigned account, as Ibis expressions compiled from Metrics.

Every assigned account keeps its row: one without events counts as zero and is never dropped.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import numpy as np
import pandas as pd
from ibis import _

from helpers import metrics, schema, study
from helpers.errors import DataError, did_you_mean
from helpers.launch.entry import Planned
from helpers.metrics import UNITS_TABLE, Condition, Measure, Metric, Window
from helpers.study import Study

HOURS = {
    "h": 1.0,
    "h/week": 1.0,
    "hours": 1.0,
    "min": 1 / 60,
    "minutes": 1 / 60,
}  # units of time on own tables, in hours


class Cell(NamedTuple):
    """One column of the units table: a measure over a window."""

    measure: Measure
    window: Window
    days: int | None

    @property
    def name(self) -> str:
        """Name the column."""
        return self.measure.name(self.window, self.days)


def measurable(data: Study) -> list[Planned]:
    """List the metrics of the plan that these data can measure."""
    return [p for p in data.launch.plan if why_not(data, p.metric) is None]


def why_not(data: Study, metric: Metric) -> str | None:
    """Say why a metric cannot be measured on these data; None when it can.

    Raises:
        DataError: the launch names a column of its own table that is not there.
    """
    for measure in metric.measures:
        if measure.table == UNITS_TABLE and UNITS_TABLE in data.tables:
            _own_column(data, measure, f"metric {metric.name!r}")
        elif measure.table == UNITS_TABLE:
            return "it reads a column of a table with a row per account; these data are event tables"
        elif UNITS_TABLE in data.tables:
            return f"it needs the event table {measure.table!r}; these data are one table with a row per account"
        elif measure.table not in data.tables:
            schema.table(measure.table)
            return f"it needs table {measure.table!r}, which is not among the data"
        elif absent := [c for c in _used(measure) if c not in _joined(data, measure.table).columns]:
            schema.table(measure.table)
            return f"it needs column {absent[0]!r} of table {measure.table!r}, which is not among the data"
    if metric.window_days is not None and metric.window_days > data.launch.days:
        return f"it needs {metric.window_days} days after assignment; the launch observes {data.launch.days}"
    return None


def covariates(data: Study, metric: Metric) -> tuple[Measure, ...]:
    """List the measures before assignment that these data have for a metric: all that it names, or none."""
    named = metric.measures if metric.covariates == "own" else metric.covariates
    for measure in named:
        if measure.table == UNITS_TABLE and UNITS_TABLE in data.tables:
            _own_column(data, measure, f"the adjustment of {metric.name!r}")
        elif measure.table not in data.tables or data.launch.pre_days == 0:
            return ()
    return tuple(named)


def cells(data: Study) -> list[Cell]:
    """List the columns that the measurable metrics need, each once."""
    found: dict[str, Cell] = {}
    for planned in measurable(data):
        metric = planned.metric
        post = [Cell(m, "post", metric.window_days) for m in metric.measures]
        pre = [Cell(m, "pre", None) for m in covariates(data, metric)]
        found |= {cell.name: cell for cell in (*post, *pre)}
    return list(found.values())


def load(data: Study) -> ibis.Table:
    """Open the units table: account, arm, the segment columns, and a column for each measure.

    The first call checks the data against the contract and scans the events once; the result is kept in the cache
    under the hash of launch, data and code, so that every notebook of a run reads the same small file.

    Raises:
        DataError: the data break the contract; counted, with what to do.
    """
    if data.fingerprint is None:
        check(data)
        table = build(data).cache()
        check_values(data, table)
    else:
        path = study.cache_folder() / "units" / f"{_key(data)}.parquet"
        if not path.exists():
            check(data)
            _keep(data, path)
        table = data.connection.read_parquet(str(path))
    return _capped(data, _policy(data, table))


def check(data: Study) -> None:
    """Hold the data against the contract before any of it is used.

    Raises:
        DataError: one sentence per fault, counted.
    """
    launch = data.launch
    if UNITS_TABLE in data.tables:
        own = data.tables[UNITS_TABLE]
        for column in (launch.data.account, launch.data.arm, *launch.segments):
            if column not in own.columns:
                raise DataError(f"{launch.data.units}: has no column {column!r}; {did_you_mean(column, own.columns)}")
    else:
        faults = [f for name, table in data.tables.items() for f in schema.faults(name, table)]
        if faults:
            raise DataError("\n".join(f"{launch.name}: {fault}" for fault in faults[:5]))
    _check_arms(data)
    for name in ("sessions", "plays"):
        if name in data.tables:
            _check_window(data, name)


def _check_arms(data: Study) -> None:
    """Every arm has accounts, and every account has one row and one arm."""
    names, everyone = data.launch.arms.names, data.everyone
    sizes = everyone.aggregate(by="arm", n=_.count()).execute().set_index("arm")["n"]
    if sizes.empty:
        raise DataError(f"{data.launch.name}: the data have no rows; expected one per assigned account")
    found = ", ".join(f"{arm!r} ({n:,})" for arm, n in sizes.sort_index().items())
    for arm in names:
        if arm not in sizes.index:
            raise DataError(
                f"{data.launch.name}: arm {arm!r} has no accounts; the data have {found}; "
                f"{did_you_mean(arm, set(sizes.index) - set(names))}"
            )
    per_account = everyone.filter(_.arm.isin(names)).aggregate(by="account", rows=_.count(), arms=_.arm.nunique())
    twice = per_account.aggregate(
        unknown=_.account.isnull().sum(), rows=(_["rows"] > 1).sum(), arms=(_.arms > 1).sum()
    ).execute()
    unknown, rows, arms = (int(n) for n in twice.fillna(0).iloc[0])
    if unknown:
        raise DataError(f"{data.launch.name}: there are assigned rows without an account id; every row needs one")
    if arms:
        raise DataError(f"{data.launch.name}: {arms:,} accounts stand in more than one arm; each belongs to one")
    if rows:
        raise DataError(
            f"{data.launch.name}: {rows:,} accounts stand in the data twice; one row per account is expected"
        )


def _check_window(data: Study, name: str) -> None:
    """Refuse an event log that ends before the launch's window does: its last days would all read as zeros."""
    end = data.assignments.select(end=_anchor(data) + ibis.interval(days=data.launch.days)).end.max()
    time = data.table(name)[schema.table(name).time]
    last, newest = end.execute(), time.max().execute()
    if pd.isna(newest) or newest < last - dt.timedelta(days=1):
        found = "it has no rows" if pd.isna(newest) else f"its newest row is of {newest:%Y-%m-%d}"
        raise DataError(
            f"{data.launch.name}: table {name!r} does not cover the window up to {last:%Y-%m-%d}: {found}; "
            "correct 'dates', or wait for the data"
        )


def build(data: Study) -> ibis.Table:
    """Compile the launch's metrics to one query: one row per assigned account, one scan per event table."""
    wanted = cells(data)
    if UNITS_TABLE in data.tables:
        return data.assignments.select(
            "account",
            "arm",
            **{s: _[s].cast("string").fill_null(schema.UNKNOWN) for s in data.launch.segments},
            **{c.name: _finite(data, c.name) for c in wanted},
        )
    accounts = _windows(data, wanted)
    result = accounts.select("account", "arm")
    if data.launch.segments:
        result = _beside(result, _segments(data))
        result = result.mutate(**{s: _[s].cast("string").fill_null(schema.UNKNOWN) for s in data.launch.segments})
    for table in sorted({c.measure.table for c in wanted}):
        result = _beside(result, _per_account(data, table, accounts, [c for c in wanted if c.measure.table == table]))
    return result.mutate(**{c.name: _[c.name].cast("float64").fill_null(0.0) for c in wanted})


def _windows(data: Study, wanted: list[Cell]) -> ibis.Table:
    """Lay out each account's instants: `first` before, `anchor`, and the end of every window in use."""
    launch = data.launch
    anchored = data.assignments.select("account", "arm", anchor=_anchor(data))
    ends = {
        _end(days): _.anchor + ibis.interval(days=days)
        for days in {launch.days, *(c.days or launch.days for c in wanted)}
    }
    return anchored.mutate(first=_.anchor - ibis.interval(days=launch.pre_days), **ends)


def _end(days: int) -> str:
    return f"end_{days}d"


def _beside(left: ibis.Table, right: ibis.Table) -> ibis.Table:
    """Put the columns of `right` beside the accounts of `left`, which all stay."""
    return left.left_join(right, "account").drop("account_right")


def _segments(data: Study) -> ibis.Table:
    accounts = data.table("accounts")
    for segment in data.launch.segments:
        if segment not in accounts.columns:
            raise DataError(
                f"{data.launch.name}: segment {segment!r} is not a column of 'accounts'; "
                f"{did_you_mean(segment, accounts.columns)}"
            )
    return accounts.select(*data.launch.segments, account=_.account.cast(data.assignments.account.type()))


def _anchor(data: Study) -> Any:
    """Say from which instant an account's window counts: its assignment, or the launch's first midnight (UTC)."""
    if "assigned_at" in data.assignments.columns:
        return _.assigned_at
    start = data.launch.dates.start if data.launch.dates else dt.date.min
    return ibis.literal(dt.datetime.combine(start, dt.time(), tzinfo=dt.UTC))


def _events(data: Study, table: str) -> ibis.Table:
    """Open an event table, its account ids of the type that they have in the assignments."""
    return data.table(table).mutate(account=_.account.cast(data.assignments.account.type()))


def _joined(data: Study, table: str) -> ibis.Table:
    """Open an event table, with the columns of `titles` where it names a title."""
    events = _events(data, table)
    if "title" in events.columns and "titles" in data.tables:
        titles = data.tables["titles"]
        return events.left_join(titles.select("title", *set(titles.columns) - set(events.columns)), "title")
    return events


def _used(measure: Measure) -> list[str]:
    """Name the columns that a measure reads."""
    return [c for c in (measure.column, *(condition.column for condition in measure.where)) if c is not None]


def _per_account(data: Study, table: str, accounts: ibis.Table, wanted: list[Cell]) -> ibis.Table:
    """Aggregate one event table to a row per account that has events in the windows."""
    used = {column for cell in wanted for column in _used(cell.measure)}
    events = _joined(data, table) if used - set(data.table(table).columns) else _events(data, table)
    time = schema.table(table).time
    events = events.select("account", time, *used - {"account", time})
    near = events.join(accounts, "account").filter((_[time] >= _["first"]) & (_[time] < _[_end(data.launch.days)]))
    return near.aggregate(by="account", **{c.name: _aggregate(near, time, c, data.launch.days) for c in wanted})


def _aggregate(events: ibis.Table, time: str, cell: Cell, days: int) -> Any:
    """Compile one cell: its aggregate over the events in its window that meet its conditions."""
    if cell.window == "pre":
        where = events[time] < events.anchor
    else:
        where = (events[time] >= events.anchor) & (events[time] < events[_end(cell.days or days)])
    for condition in cell.measure.where:
        where &= _holds(events[condition.column], condition)
    agg, column = cell.measure.agg, cell.measure.column
    if agg in {"count", "any"}:
        counted = events.count(where=where) if column is None else events[column].count(where=where)
        return counted if agg == "count" else (counted > 0).cast("float64")
    return getattr(events[str(column)], agg)(where=where)


def _holds(column: Any, condition: Condition) -> Any:
    if condition.op in {"in", "not_in"}:
        inside = column.isin(list(condition.value))  # type: ignore[arg-type]  # the launch checked that it is a list
        return inside if condition.op == "in" else ~inside
    return getattr(column, f"__{condition.op}__")(condition.value)


def near(data: Study, measure: Measure) -> ibis.Table:
    """Open the events that a measure counts, from the pre-period to the launch's last day.

    Returns:
        account, `at` (the instant of the event), `anchor` (that of the account's assignment) and `value` (what the
        event adds to the measure, in its own unit; 1 for one that is counted).
    """
    events, time = _joined(data, measure.table), schema.table(measure.table).time
    events = events.join(_windows(data, []).drop("arm"), "account")
    events = events.filter((_[time] >= _["first"]) & (_[time] < _[_end(data.launch.days)]))
    for condition in measure.where:
        events = events.filter(_holds(events[condition.column], condition))
    value = measure.scale if measure.column is None or measure.agg != "sum" else _[measure.column] * measure.scale
    return events.select("account", "anchor", at=_[time], value=value)


def _own_column(data: Study, measure: Measure, user: str) -> None:
    """Refuse a column that the table with a row per account does not have, or that holds no numbers."""
    table, name = data.tables[UNITS_TABLE], str(measure.column)
    where = f"{data.launch.data.units}: {user} needs column {name!r}"
    if name not in table.columns:
        raise DataError(f"{where}, which is not there; {did_you_mean(name, table.columns)}")
    if not (table[name].type().is_numeric() or table[name].type().is_boolean()):
        other = (
            table.filter(~table[name].isnull() & table[name].try_cast("float64").isnull())[name]
            .as_table()
            .limit(1)
            .execute()
        )
        example = f" such as {other.iloc[0, 0]!r}" if len(other) else ""
        raise DataError(f"{where}, which holds {table[name].type()}{example}; expected numbers or true and false")


def _finite(data: Study, name: str) -> Any:
    """Read an own column as a number, null where it is missing, NaN or infinite."""
    column = data.tables[UNITS_TABLE][name]
    number = _[name].cast("float64")
    return (
        number.isinf().__or__(number.isnan()).ifelse(ibis.null("float64"), number)
        if column.type().is_floating()
        else number
    )


def _keep(data: Study, path: Path) -> None:
    """Write the units table beside its place, check its values, and only then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        build(data).order_by("account").to_parquet(str(partial))
        check_values(data, data.connection.read_parquet(str(partial)))
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def check_values(data: Study, table: ibis.Table) -> None:
    """Refuse what no account can have: missing values (unless the launch treats them), negative or impossible times.

    Raises:
        DataError: column, count and what to do.
    """
    wanted = {c.name: c for c in cells(data)}
    asked = {
        f"{name}|{what}": rule(table[name]).sum()
        for name, cell in wanted.items()
        for what, rule in _rules(data, cell).items()
    }
    counts = table.aggregate(**asked).execute().iloc[0] if asked else {}
    for key, n in dict(counts).items():
        if n and n == n:
            name, what = key.rsplit("|", 1)
            raise DataError(f"{data.launch.name}: column {name!r}: {int(n):,} accounts {what}")


def _rules(data: Study, cell: Cell) -> dict[str, Any]:
    """List what must not be true of a column's values, with the words that say so."""
    launch, rules = data.launch, {}
    if cell.measure.table == UNITS_TABLE:
        if launch.data.missing == "refuse":
            rules["have a missing, NaN or infinite value; clean them, or write 'data: {missing: zero}' or 'drop'"] = (
                lambda v: v.isnull()
            )
        mine = [p.metric for p in launch.plan if cell.measure in p.metric.measures]
        if any(m.kind == "proportion" for m in mine):
            rules["have a value other than 0 and 1; a proportion needs one of them for every account"] = lambda v: (
                ~v.isin([0.0, 1.0])
            )
        hours = next((HOURS[m.unit] for m in mine if m.unit in HOURS), None)
        limit = None if hours is None else 24 * launch.days / hours
    else:
        timed = cell.measure.agg == "sum" and cell.measure.column == "watch_minutes"
        limit = 24 * 60 * max(launch.days, launch.pre_days) if timed else None
    if limit is not None:
        rules["have a negative time; clean them first"] = lambda v: v < 0
        rules["have more than 24 hours a day; clean them first"] = lambda v: v > limit
    return rules


def _policy(data: Study, table: ibis.Table) -> ibis.Table:
    """Treat missing values of an own table as the launch says."""
    names = [c.name for c in cells(data)]
    if UNITS_TABLE not in data.tables or data.launch.data.missing == "refuse":
        return table
    if data.launch.data.missing == "zero":
        return table.mutate(**{name: table[name].fill_null(0.0) for name in names})
    return table.drop_null(names)


def _capped(data: Study, table: ibis.Table) -> ibis.Table:
    """Add a column for every capped numerator: values above the quantile of both arms together are set to it.

    Raises:
        DataError: the quantile is 0, so that the cap would erase the metric.
    """
    capped = {p.metric.column(m): (p.metric, m) for p in measurable(data) if p.metric.cap for m in [p.metric.numerator]}
    if not capped:
        return table
    sources = {name: metric_.numerator.name("post", metric_.window_days) for name, (metric_, _m) in capped.items()}
    limits = table.aggregate(
        **{name: table[sources[name]].quantile(metric.cap) for name, (metric, _m) in capped.items()}
    ).execute()
    for name in capped:
        if not limits[name][0] > 0:
            raise DataError(
                f"{data.launch.name}: the cap of {name!r} is {limits[name][0]:g}; it would erase the metric"
            )
    return table.mutate(**{name: ibis.least(table[sources[name]], float(limits[name][0])) for name in capped})


def distribution(
    table: ibis.Table, column: str, *, scale: float = 1.0, points: int = 101, by_arm: bool = True
) -> pd.DataFrame:
    """Describe the distribution of a units column by evenly spaced quantiles, computed by the engine.

    Returns:
        arm ("all accounts" where the arms are taken together), share (0 to 1) and value: `points` rows for each arm.
    """
    shares = np.linspace(0, 1, points)
    found = table.aggregate(by="arm" if by_arm else (), value=table[column].quantile(shares.tolist())).execute()
    found = found.assign(share=[shares] * len(found)).explode(["share", "value"], ignore_index=True)
    found["value"] = found["value"].astype(float) * scale
    found["arm"] = found["arm"] if by_arm else "all accounts"
    return found[["arm", "share", "value"]].sort_values(["arm", "share"], ignore_index=True)


def _key(data: Study) -> str:
    """Name a units table by everything that it depends on: launch, data and this code."""
    code = b"".join(Path(str(m.__file__)).read_bytes() for m in (metrics, schema, study, sys.modules[__name__]))
    return hashlib.sha256(f"{data.launch.content_hash}{data.fingerprint}".encode() + code).hexdigest()[:16]
