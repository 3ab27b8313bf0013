"""Units: events become one row per assigned account, as Ibis expressions compiled from Metrics.

Every assigned account keeps its row: one without events counts as zero and is never dropped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ibis
import numpy as np
import pandas as pd
from ibis import _

from helpers import cache, clock, logs, metrics, sampling, schema, study
from helpers.errors import DataError, ParameterError, did_you_mean
from helpers.launch.entry import Planned
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import FEW, WEIGHT
from helpers.results import nothing
from helpers.study import Study
from helpers.units import query
from helpers.units.contract import MOST_LEVELS, check
from helpers.units.query import CLUSTER, STRATUM, Cell, anchor, design, drawn, flagged, impossible, limits, near, values

__all__ = [
    "CLUSTER",
    "MOST_LEVELS",
    "STRATUM",
    "Cell",
    "Chosen",
    "anchor",
    "capped_at",
    "cells",
    "check",
    "chosen",
    "clusters",
    "covariates",
    "daily",
    "days_before",
    "design",
    "distribution",
    "drawn",
    "faults",
    "flagged",
    "impossible",
    "kept",
    "limits",
    "load",
    "measurable",
    "near",
    "rows",
    "scarce",
    "together",
    "told",
    "values",
    "weighted",
    "why_not",
]

MOST = sys.float_info.max  # an amount that nobody passes
# Units of time on own tables, in hours.
HOURS = dict.fromkeys(("h", "h/week", "hours"), 1.0) | dict.fromkeys(("min", "minutes"), 1 / 60)


def measurable(data: Study) -> list[Planned]:
    """List the metrics of the plan that these data can measure."""
    return [p for p in data.launch.plan if why_not(data, p.metric) is None]


def why_not(data: Study, metric: Metric) -> str | None:
    """Say why a metric cannot be measured on these data; None when it can.

    Raises:
        DataError: the launch names a column of its own table that is not there.
    """
    bases = [base for measure in metric.measures for base in measure.bases]
    for measure in bases:
        if measure.table == UNITS_TABLE and UNITS_TABLE in data.tables:
            _own_column(data, measure, f"metric {metric.name!r}")
        elif measure.table == UNITS_TABLE:
            return "it reads a column of a table with a row per account; these data are event tables"
        elif UNITS_TABLE in data.tables:
            return f"it needs the event table {measure.table!r}; these data are one table with a row per account"
        elif reason := query.lacking(data, query.reads(measure)):
            return reason
    if metric.over and (reason := query.lacking(data, [(metric.numerator.table, [metric.over])])):
        return reason
    if metric.window_days is not None and metric.window_days > data.launch.days:
        return f"it needs {metric.window_days} days after assignment; the launch observes {data.launch.days}"
    days = metric.window_days or data.launch.days
    if days > (most := min(map(query.longest, bases))):
        return f"it counts days one by one, at most {most:.0f}; its window has {days}: give it 'window_days'"
    if short := sorted(t for t in metric.tables if days > data.held.get(t, (0, days))[1]):
        held = data.held[short[0]][1]
        return f"table {short[0]!r} ends after {held} of the {days} days: wait for it, or give the metric 'window_days'"
    if days < (least := max(map(query.shortest, bases))):
        return f"it asks for calendar day {least - 1}, which a window of {days} days does not hold to its end"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The metric that a chapter reads, and why; `aside` is its title where it is not the north star, else empty."""

    metric: Metric
    why: str
    aside: str

    def to_frame(self) -> pd.DataFrame:
        """Lay both out in one row, for a page."""
        return pd.DataFrame([{"metric": self.metric.title, "read because": self.why}])


def chosen(data: Study, name: str = "", *, obstacle: Callable[[Metric], str | None]) -> Chosen:
    """Find the metric that a chapter reads: the one named, or the first of the plan that its question can be asked of.

    Args:
        data: the study.
        name: of a metric of the plan; empty means the first without an obstacle, the north star first, or the north
            star where each has one.
        obstacle: says why a metric cannot be read, or nothing where it can.

    Raises:
        ParameterError: the plan has no such metric.
    """
    planned, star = {p.metric.name: p.metric for p in data.launch.plan}, data.launch.plan[0].metric
    if name and name not in planned:
        raise ParameterError(f"metric {name!r} is not in the plan of {data.launch.name}; {did_you_mean(name, planned)}")
    found = planned[name] if name else next((m for m in planned.values() if not obstacle(m)), star)
    why = "it was asked for" if name else "it is the north star of the plan"
    if not name and found != star:
        why = f"it is the first of the plan that can be; the north star, {star.title}, cannot: {obstacle(star)}"
    return Chosen(metric=found, why=why, aside="" if found == star else found.title)


def covariates(data: Study, metric: Metric) -> tuple[Measure, ...]:
    """List the measures before assignment that these data have for a metric: all that it names, or none."""
    named = metric.measures if metric.covariates == "own" else metric.covariates
    for measure in (base for one in named for base in one.bases):
        if measure.table == UNITS_TABLE and UNITS_TABLE in data.tables:
            _own_column(data, measure, f"the adjustment of {metric.name!r}")
        elif (
            measure.table not in data.tables
            or days_before(data, [measure.table]) < data.launch.pre_days
            or not (query.shortest(measure) <= data.launch.pre_days <= query.longest(measure))
        ):
            return ()
    return tuple(named)


def days_before(data: Study, tables: Iterable[str]) -> int:
    """Count the days before the launch that all of these tables hold."""
    return min((data.held[t][0] for t in tables if t in data.held), default=data.launch.pre_days)


def cells(data: Study) -> list[Cell]:
    """List the columns that the measurable metrics need, each once; the north star brings its factors along."""
    found: dict[str, Cell] = {}
    wanted = [p.metric for p in measurable(data) if p.metric.per_account or p.metric.event]
    if data.launch.plan[0].metric.name == metrics.FACTORS[0].name:
        wanted += [factor for factor in metrics.FACTORS if why_not(data, factor) is None]
    for metric in wanted:
        post = [Cell(m, "post", metric.window_days) for m in metric.measures]
        pre = [Cell(m, "pre", None) for m in covariates(data, metric)]
        found |= {cell.name: cell for cell in (*post, *pre)}
    return list(found.values())


def load(data: Study) -> ibis.Table:
    """Open the units table: account, arm, weight and stratum, the segment columns, and a column for each measure.

    The first call checks the data against the contract and scans the events once; the result is kept in the cache
    under the hash of launch, data and code, so that every notebook of a run reads the same small file.

    Raises:
        DataError: the data break the contract; counted, with what to do.
    """
    if data.fingerprint is None:
        check(data)
        table = query.build(data, cells(data)).cache()
        check_values(data, table)
    else:
        path = _place(data)
        table = data.connection.read_parquet(str(cache.kept(path, lambda partial: _write(data, partial, path))))
    return _capped(data, _policy(data, table, cells(data)))


def rows(data: Study, wanted: Sequence[Cell]) -> ibis.Table:
    """Open a table like that of `load` that holds at least these columns, whether or not the plan's metrics need them.

    Missing values are treated in it as the launch says, so that what is read beside the scorecard is read from the same
    accounts: one that is dropped for any column of the plan is dropped here too.
    """
    table = load(data)
    if {c.name for c in wanted} <= set(table.columns):
        return table
    if UNITS_TABLE in data.tables:
        wanted = list({c.name: c for c in (*cells(data), *wanted)}.values())
    return _policy(data, query.build(data, wanted), wanted)


def faults(data: Study) -> pd.DataFrame:
    """Say which rows of the event tables cannot be, by arm: what `logs.count` found; without rows for own tables."""
    if data.fingerprint is None:
        return check(data)
    load(data)
    return pd.read_parquet(_place(data).with_suffix(".faults.parquet"))


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


def _write(data: Study, partial: Path, path: Path) -> None:
    """Write the units table and check its values, with the faults of the events at the place where it will stand."""
    faults = check(data)
    query.build(data, cells(data)).order_by("account").to_parquet(str(partial))
    check_values(data, data.connection.read_parquet(str(partial)))
    faults.to_parquet(path.with_suffix(".faults.parquet"))


def check_values(data: Study, table: ibis.Table) -> None:
    """Refuse what no account can have: missing values (unless the launch treats them), negative or impossible times.

    Raises:
        DataError: column, count and what to do.
    """
    wanted = {c.name: c for c in cells(data)}
    if CLUSTER in design(data) and (bad := int(table[CLUSTER].isnull().sum().execute())):
        where = f"column {data.launch.cluster!r}, which says what was drawn together"
        raise DataError(f"{data.launch.name}: {bad:,} accounts have no value in {where}; fill it or drop them")
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
        mine = [p.metric for p in launch.plan if cell.measure in p.metric.measures]
        censored = [m for m in mine if m.event]
        if launch.data.missing == "zero" and censored:
            rules["have no value, which is no time or event of 0; clean them, or write 'data: {missing: drop}'"] = (
                lambda v: v.isnull()
            )
        if any(m.event == cell.measure for m in censored):
            rules["have an event other than 1 (it came) and 0 (last seen without it)"] = lambda v: ~v.isin([0.0, 1.0])
        if any(m.numerator == cell.measure for m in censored):
            rules["have a negative time to the event; times count from the assignment"] = lambda v: v < 0
        if launch.data.missing == "refuse":
            rules["have a missing, NaN or infinite value; clean them, or write 'data: {missing: zero}' or 'drop'"] = (
                lambda v: v.isnull()
            )
        if any(m.kind == "proportion" for m in mine):
            rules["have a value other than 0 and 1; a proportion needs one of them for every account"] = lambda v: (
                ~v.isin([0.0, 1.0])
            )
        if any(m.kind == "count" for m in mine):
            rules["have a value below 0, which is no count"] = lambda v: v < 0
        hours = next((HOURS[m.unit] for m in mine if m.unit in HOURS and not m.event), None)
        limit = None if hours is None else 24 * launch.days / hours
    else:
        kept = launch.data.faults == "keep"
        timed = not kept and cell.measure.simple and (cell.measure.agg, cell.measure.column) == ("sum", "watch_minutes")
        limit = 24 * 60 * max(launch.days, launch.pre_days) if timed else None
    if limit is not None:
        rules["have a negative time; clean them first"] = lambda v: v < 0
        rules["have more than 24 hours a day; clean them first"] = lambda v: v > limit
    return rules


def _policy(data: Study, table: ibis.Table, columns: Iterable[Cell]) -> ibis.Table:
    """Treat missing values of an own table as the launch says."""
    names = [c.name for c in columns]
    if UNITS_TABLE not in data.tables or data.launch.data.missing == "refuse":
        return table
    if data.launch.data.missing == "zero":
        return table.mutate(**{name: table[name].fill_null(0.0) for name in names})
    return table.drop_null(names)


def clusters(data: Study) -> int:
    """Count the clusters in which accounts came into the arms together; 0 where each account was drawn by itself."""
    if CLUSTER not in design(data):
        return 0
    table = load(data)
    accounts, found = table.aggregate(accounts=table.count(), found=table[CLUSTER].nunique()).execute().iloc[0]
    return int(found) if found < accounts else 0


def together(data: Study, what: str, *, few: bool = False) -> str:
    """Say that `what` has no error for accounts that were drawn together; nothing where each was drawn by itself.

    With `few`, only where the clusters are too few for an error that needs many of them.
    """
    n = clusters(data)
    if not n or (few and not scarce(data, n)):
        return ""
    drawn = f"{data.launch.unit.randomised if data.launch.unit else 'cluster'}s"
    return f"{n:,} {drawn} were drawn, and {what} has no error for {'so few' if few else 'accounts drawn together'}"


def scarce(data: Study, n: int) -> bool:
    """Say whether so many clusters are too few for errors that need many of them, two arms at a time."""
    return 0 < 2 * n < FEW * len(data.launch.arms.names)


def capped_at(data: Study, table: ibis.Table | None = None) -> dict[str, float]:
    """Give the amounts, in the unit of the units column, at which the metrics with a cap are capped.

    It is the quantile among the accounts that have something, both arms together: before the launch where its plan says
    so, else in the window of the metric. Zeros do not count, because among many of them the quantile would fall to
    nearly nothing; it is infinite where nobody has anything. Accounts that were drawn with unequal probabilities count
    by their weights, so that it is the quantile of the population: the least amount at which the share is reached.
    """
    table = load(data) if table is None else table
    rule = data.launch.outliers
    asked: dict[str, tuple[Any, float]] = {}
    for metric in (p.metric for p in measurable(data)):
        if metric.cap is None:
            continue
        past = rule is not None and rule.caps == "before"
        if past and (held := days_before(data, metric.tables)) < data.launch.pre_days:
            said = f"the logs of {metric.name!r} hold {held} of the {data.launch.pre_days} days before the launch"
            raise DataError(f"{data.launch.name}: 'caps: before' needs all of its days, but {said}")
        top = table[metric.numerator.name("pre") if past else metric.numerator.name("post", metric.window_days)]
        asked[metric.name] = top, metric.cap
    if asked and WEIGHT in design(data):
        ends = table.aggregate(least=table[WEIGHT].min(), most=table[WEIGHT].max()).execute().iloc[0]
        if ends["most"] > ends["least"] * (1 + 1e-9):
            return {name: _weighted_quantile(table, top, share) for name, (top, share) in asked.items()}
    plain = {name: top.quantile(share, where=top > 0) for name, (top, share) in asked.items()}
    found = table.aggregate(**plain).execute().iloc[0] if plain else pd.Series(dtype=float)
    return {str(name): float(np.nan_to_num(at, nan=np.inf)) for name, at in found.astype(float).items()}


def _weighted_quantile(table: ibis.Table, top: Any, share: float) -> float:
    """Find the least amount above 0 that a weighted share of those that have any stays at or below."""
    by_amount = table.select(amount=top, weight=table[WEIGHT]).filter(_.amount > 0)
    by_amount = by_amount.aggregate(by="amount", weight=_.weight.sum())
    order = ibis.window(order_by="amount", preceding=None, following=0)
    reached = by_amount.mutate(so_far=_.weight.sum().over(order) / _.weight.sum().over())
    found = reached.filter(_.so_far >= share - 1e-12).amount.min().execute()
    return float("inf") if found is None or np.isnan(found) else float(found)


def _capped(data: Study, table: ibis.Table) -> ibis.Table:
    """Add the columns of capped metrics: greater amounts are set to the cap, denominators shrink by the same factor."""
    found, columns = capped_at(data, table), {}
    for metric in (p.metric for p in measurable(data) if p.metric.name in found):
        top, limit = table[metric.numerator.name("post", metric.window_days)], min(found[metric.name], MOST)
        columns[metric.column(metric.numerator)] = ibis.least(top, limit)
        if metric.denominator is not None:
            bottom = table[metric.denominator.name("post", metric.window_days)]
            factor = (top > limit).ifelse(limit / top, 1.0)
            columns[metric.column(metric.denominator)] = bottom * factor
    return table.mutate(**columns) if columns else table


def distribution(table: ibis.Table, column: str, *, points: int = 101, by_arm: bool = True) -> pd.DataFrame:
    """Describe the distribution of a units column by evenly spaced quantiles, computed by the engine.

    Returns:
        arm ("all accounts" where the arms are taken together), share (0 to 1) and value: `points` rows for each arm;
        none where the units have no such column.
    """
    if column not in table.columns:
        return nothing("it is no amount of single accounts that these data hold", ["arm", "share", "value"])
    shares = np.linspace(0, 1, points)
    found = table.aggregate(by="arm" if by_arm else (), value=table[column].quantile(shares.tolist())).execute()
    if (found := found.dropna(subset="value")).empty:
        return nothing("no account has any", ["arm", "share", "value"])
    found = found.assign(share=[shares] * len(found)).explode(["share", "value"], ignore_index=True)
    found["value"] = found["value"].astype(float)
    found["arm"] = found["arm"] if by_arm else "all accounts"
    return found[["arm", "share", "value"]].sort_values(["arm", "share"], ignore_index=True)


def daily(data: Study, measure: Measure) -> ibis.Table:
    """Add the events of a measure up by account and day from assignment, once: account, day (before it < 0), value.

    Days are of 24 hours from the account's assignment. What was added up is kept, as `load` keeps the units table.
    """
    events = near(data, measure)
    day = (clock.seconds(events["at"]) - clock.seconds(events.anchor)) // query.DAY
    found = events.aggregate(by=[events.account, day.cast("int64").name("day")], value=events.value.sum())
    return kept(data, "daily", found, measure)


def kept(data: Study, what: str, table: ibis.Table, *facts: object, code: Iterable[ModuleType] = ()) -> ibis.Table:
    """Compute a table once and keep it under launch, data, code and `facts`; for now, where data cannot be told apart.

    Args:
        data: the study.
        what: a word for its place in the cache.
        table: what to keep.
        facts: whatever else it depends on.
        code: modules that make it, beside this one and those of metrics and tables.
    """
    if data.fingerprint is None:
        return table.cache()
    path = _place(data, what, *facts, code=code)
    read = data.connection.read_parquet(str(cache.kept(path, lambda partial: table.to_parquet(str(partial)))))
    return read.cast(table.schema())  # DuckDB writes a plain 1.0 as a decimal


def weighted(data: Study) -> bool:
    """Say whether the accounts of an arm have unequal weights."""
    if WEIGHT not in design(data):
        return False
    table = load(data)
    spread = table.aggregate(by="arm", ratio=table[WEIGHT].max() / table[WEIGHT].min()).execute()["ratio"]
    return bool((spread > 1 + 1e-9).any())


def told(data: Study, what: str, tell: Callable[[], Any], *, code: Iterable[ModuleType] = ()) -> Any:
    """Compute what can be written as JSON once, and keep it like `kept`, under every word of the launch."""
    if data.fingerprint is None:
        return tell()
    path = _place(data, what, data.launch.model_dump_json(), code=code).with_suffix(".json")
    kept_at = cache.kept(path, lambda partial: partial.write_text(json.dumps(tell(), default=float), encoding="utf-8"))
    return json.loads(kept_at.read_text(encoding="utf-8"))


def _place(data: Study, what: str = "units", *facts: object, code: Iterable[ModuleType] = ()) -> Path:
    """Say where something read from these data is kept: its name tells launch, data, facts and code."""
    made_by = (metrics, sampling, sys.modules[__name__], logs, schema, study, *code)
    return (
        cache.folder() / what / f"{cache.key(data.launch.content_hash, data.fingerprint, *facts, code=made_by)}.parquet"
    )
