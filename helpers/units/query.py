"""The query behind the units table: measures compiled to Ibis, one scan for each event table."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import ibis
from ibis import _

from helpers import clock, sampling, schema
from helpers.errors import DataError, did_you_mean
from helpers.metrics import UNITS_TABLE, After, Condition, Measure, Metric, Window
from helpers.moments import WEIGHT
from helpers.study import Study

DAY = 86_400  # seconds
MOST_DAYS = 62  # that fit in the bits of one whole number
_BIT = "bit of the day"
STRATUM = "sampling_stratum"
CLUSTER = "sampling_cluster"
OF_DAYS = {"days", "days_but_last", "returns"}


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def bit_count(bits: int) -> int:  # type: ignore[empty-body]
    """Count the ones of a whole number in the engine."""


class Cell(NamedTuple):
    """One column of the units table: a measure over a window."""

    measure: Measure
    window: Window
    days: int | None

    @property
    def name(self) -> str:
        """Name the column."""
        return self.measure.name(self.window, self.days)

    def of(self, measure: Measure) -> Cell:
        """Take another measure over the same window."""
        return self._replace(measure=measure)


def build(data: Study, wanted: Sequence[Cell]) -> ibis.Table:
    """Compile cells to one query: one row per assigned account, each event table scanned once.

    An order between tables (`after`) reads both of them once more, for the columns of that comparison alone.
    """
    if UNITS_TABLE in data.tables:
        return drawn(data).select(
            "account",
            "arm",
            *design(data),
            **{s: _[s].cast("string").fill_null(schema.UNKNOWN) for s in data.launch.attributes},
            **{c.name: _finite(data, c.name) for c in wanted},
        )
    bases = {base.name: base for cell in wanted for base in map(cell.of, cell.measure.bases)}
    accounts = _windows(data, bases.values())
    result = accounts.select("account", "arm", *design(data))
    if data.launch.attributes:
        result = _beside(result, _attributes(data))
        result = result.mutate(**{s: _[s].cast("string").fill_null(schema.UNKNOWN) for s in data.launch.attributes})
    for table, after in sorted({(c.measure.table, c.measure.after) for c in bases.values()}, key=str):
        mine = [c for c in bases.values() if (c.measure.table, c.measure.after) == (table, after)]
        result = _beside(result, _per_account(data, table, after, accounts, mine))
    nothing = {c.name: float(_length(data, c)) if c.measure.agg == "until" else 0.0 for c in bases.values()}
    result = result.mutate(**{name: _[name].cast("float64").fill_null(nothing[name]) for name in bases})
    return result.select(
        "account", "arm", *design(data), *data.launch.attributes, **{c.name: _composed(result, c) for c in wanted}
    )


def design(data: Study) -> tuple[str, ...]:
    """Name the columns that say how the accounts were drawn: their weight, stratum and cluster, as far as there are.

    The weight is the inverse of the inclusion probability, 1 on average in each arm, so that sums stay numbers of
    accounts.
    """
    beside = data.tables.get(UNITS_TABLE, data.tables.get("accounts"))
    whole = (CLUSTER,) * (beside is not None and data.launch.cluster in beside.columns)
    if UNITS_TABLE in data.tables:
        own = data.launch.data
        return (WEIGHT,) * (own.weight is not None) + (STRATUM,) * (own.stratum is not None) + whole
    there = data.assignments.columns
    return (WEIGHT,) * ("inclusion_probability" in there) + (STRATUM,) * ("stratum" in there) + whole


def values(data: Study, metric: Metric) -> ibis.Table:
    """Open the values that a metric over events is about: a row for each event in its window, with account and arm.

    Values of one account resemble each other: an interval must treat the account, not the event, as drawn by chance.
    """
    measure = metric.numerator
    cell = Cell(measure, "post", metric.window_days)
    time = schema.table(measure.table).time
    near = _near(data, measure.table, measure.after, _windows(data, [cell]), [cell])
    kept = near.filter(_inside(near, time, cell, data.launch.days), near[str(measure.column)].notnull())
    return kept.select("account", "arm", *design(data), value=kept[str(measure.column)].cast("float64") * measure.scale)


def items(data: Study, metric: Metric) -> ibis.Table:
    """Open the events that a metric over items (`over`) is about: those of its window that name an item.

    Returns:
        account, item, amount (what the event adds to the item; 1 for one that is counted).
    """
    measure, over = metric.numerator, str(metric.over)
    cell = Cell(measure, "post", metric.window_days)
    time = schema.table(measure.table).time
    events = _near(data, measure.table, measure.after, _windows(data, [cell]), [cell], also=[over])
    events = events.filter(_inside(events, time, cell, data.launch.days), events[over].notnull())
    if measure.column is not None:
        events = events.filter(events[measure.column].notnull())
    amount = events[measure.column].cast("float64") if measure.agg == "sum" else ibis.literal(1.0)
    return events.select("account", item=events[over], amount=amount * measure.scale)


def near(data: Study, measure: Measure) -> ibis.Table:
    """Open the events that a measure counts, from the pre-period to the launch's last day.

    Returns:
        account, `at` (the instant of the event), `anchor` (that of the account's assignment) and `value` (what the
        event adds to the measure, in its own unit; 1 for one that is counted).
    """
    cell = Cell(measure, "post", None)
    events = _near(data, measure.table, measure.after, _windows(data, [cell]), [cell])
    for condition in measure.where:
        events = events.filter(_holds(events[condition.column], condition))
    if measure.column is not None:
        events = events.filter(events[measure.column].notnull())
    counted = measure.column is None or measure.agg != "sum"
    value = ibis.literal(1.0) if counted else _[measure.column].cast("float64")
    return events.select("account", "anchor", at=_[schema.table(measure.table).time], value=value * measure.scale)


def reads(measure: Measure) -> list[tuple[str, list[str]]]:
    """Name the tables that a measure without parts reads, each with its columns."""
    after = measure.after
    own = [c for c in (measure.column, *(c.column for c in measure.where), *(after.on if after else ())) if c]
    earlier = [(after.table, [*after.on, *(c.column for c in after.where)])] if after else []
    return [(measure.table, own), *earlier]


def longest(measure: Measure) -> float:
    """Say how many days a window of this measure, which has no parts, may have."""
    return MOST_DAYS if measure.agg in OF_DAYS else math.inf


def shortest(measure: Measure) -> int:
    """Say how many days a window must have to hold all of the calendar days that a measure asks for."""
    return measure.calendar_days[1] + 1 if measure.calendar_days else 1


def columns(data: Study, table: str) -> set[str]:
    """Name what an event table holds, with the columns of `titles` where it names a title."""
    own = set(data.table(table).columns)
    return own | set(data.tables["titles"].columns) if "title" in own and "titles" in data.tables else own


def anchor(data: Study) -> Any:
    """Say from which instant an account's window counts: its assignment, or the launch's first midnight (UTC)."""
    if "assigned_at" in data.assignments.columns:
        return _.assigned_at
    start = data.launch.dates.start if data.launch.dates else dt.date.min
    return ibis.literal(dt.datetime.combine(start, dt.time(), tzinfo=dt.UTC))


def _composed(table: ibis.Table, cell: Cell) -> Any:
    """Compute a measure from the columns of its parts."""
    measure = cell.measure
    value = table[cell.of(measure.base).name]
    others = [(other.scale, _composed(table, cell.of(other))) for other in measure.also]
    if others and measure.agg == "until":
        value = ibis.least(value, *(other for _scale, other in others))
    elif others and measure.agg == "any":
        value = ibis.greatest(value, *(other for _scale, other in others))
    elif others:
        value = reduce(lambda total, other: total + other[0] * other[1], others, value)
    if measure.per is not None:
        divisor = _composed(table, cell.of(measure.per)) * measure.per.scale
        value = (divisor > 0).ifelse(value / divisor, 0.0)
    return value if measure.at_least is None else (value >= measure.at_least).cast("float64")


def lacking(data: Study, reads: Iterable[tuple[str, list[str]]]) -> str | None:
    """Say which table or column of event data is not there; None when all are."""
    for table, names in reads:
        if table not in data.tables:
            schema.table(table)
            return f"it needs table {table!r}, which is not among the data"
        if absent := [c for c in names if c not in columns(data, table)]:
            return f"it needs column {absent[0]!r} of table {table!r}, which is not among the data"
    return None


def limits(data: Study) -> dict[str, tuple[Cell, float]]:
    """Read the amounts that the launch calls impossible: by metric, the units column and the limit in its unit.

    Without those that these data cannot hold against anybody.
    """
    asked, found = data.launch.outliers.impossible_above if data.launch.outliers else {}, {}
    own = UNITS_TABLE in data.tables
    for metric in (p.metric for p in data.launch.plan if p.metric.name in asked):
        cell = Cell(metric.numerator, "post", metric.window_days)
        bases = cell.measure.bases
        there = [(b.table == UNITS_TABLE) == own and (own or lacking(data, reads(b)) is None) for b in bases]
        weeks = (metric.window_days or data.launch.days) / 7 if metric.per_week else 1.0
        if all(there):
            found[metric.name] = (cell, asked[metric.name] * weeks / metric.numerator.scale)
    return found


def impossible(data: Study) -> ibis.Table | None:
    """Open account and arm of those with an amount that the launch calls impossible; None where it sets no limit.

    The rule does not see the arm.
    """
    if not (asked := limits(data).values()):
        return None
    everybody = replace(data, launch=data.launch.model_copy(update={"outliers": None}))
    table = build(everybody, list(dict.fromkeys(cell for cell, _limit in asked)))
    over = [(table[cell.name] > limit).fill_null(False) for cell, limit in asked]
    return table.filter(reduce(lambda one, other: one | other, over)).select("account", "arm")


def flagged(data: Study) -> ibis.Table | None:
    """Open account, arm and `late` of those who meet a rule by which the launch removes accounts; None without a rule.

    `late` says that the flag is not known to have been set before the account was assigned: the launch may have made
    it, and such an account stays in. The rule does not see the arm.

    Raises:
        DataError: a rule, or `flagged_at`, names a column that is not there or holds no times.
    """
    rule, rows = data.launch.outliers, data.assignments
    if rule is None or not rule.remove:
        return None
    own, needed = data.tables.get(UNITS_TABLE), [r if isinstance(r, str) else r.column for r in rule.remove]
    needed += [rule.flagged_at] if rule.flagged_at else []
    frame = data.table("accounts") if own is None else own
    for name in needed:
        if name not in frame.columns:
            where = "'accounts'" if own is None else data.launch.data.units
            hint = did_you_mean(name, frame.columns)
            raise DataError(
                f"{data.launch.name}: 'outliers' needs column {name!r} of {where}, which is not there; {hint}"
            )
    if own is None:
        beside = frame.select(account=_.account.cast(rows.account.type()), **{c: frame[c] for c in set(needed)})
        rows = rows.drop(*(c for c in set(needed) if c in rows.columns)).inner_join(beside, "account")
    late: Any = ibis.literal(False)
    if rule.flagged_at:
        time = rows[rule.flagged_at]
        if not (time.type().is_temporal() and (data.launch.dates or "assigned_at" in rows.columns)):
            raise DataError(
                f"{data.launch.name}: 'flagged_at: {rule.flagged_at}' is held against the day of the assignment; it "
                f"holds {time.type()}, and needs days or times, and the launch 'dates'"
            )
        late = ~(time.cast("timestamp('UTC')") < anchor(data)).fill_null(False)
    left = sampling.eligible(rows, rule.remove)
    return rows.mutate(late=late).anti_join(left, "account").select("account", "arm", "late")


def drawn(data: Study) -> ibis.Table:
    """Open the assigned accounts as drawn, without the impossible and those that the launch removes.

    Beside them stand weight, stratum and cluster; who shares a household with nobody that is known was drawn alone.
    """
    rows, columns = data.assignments, design(data)
    if (gone := flagged(data)) is not None:
        rows = rows.anti_join(gone.filter(~_.late), "account")
    if (gone := impossible(data)) is not None:
        rows = rows.anti_join(gone, "account")
    own = UNITS_TABLE in data.tables
    if WEIGHT in columns:
        weight = _[data.launch.data.weight].cast("float64") if own else 1 / _.inclusion_probability
        rows = rows.mutate(**{WEIGHT: weight})
        rows = rows.mutate(**{WEIGHT: _[WEIGHT] / _[WEIGHT].mean().over(group_by="arm")})
    if STRATUM in columns:
        stratum = _[data.launch.data.stratum] if own else _.stratum
        rows = rows.mutate(**{STRATUM: stratum.cast("string").fill_null(schema.UNKNOWN)})
    if CLUSTER in columns:
        name = str(data.launch.cluster)
        if own:
            rows = rows.mutate(**{CLUSTER: rows[name].cast("string")})
        else:
            labels = data.table("accounts").select(account=_.account.cast(rows.account.type()), cluster=_[name])
            rows = _beside(rows, labels.select("account", **{CLUSTER: _.cluster.cast("string")}))
        if data.launch.unit and data.launch.unit.randomised == "household":
            rows = rows.mutate(**{CLUSTER: _[CLUSTER].fill_null(_.account.cast("string") + " alone")})
    return rows


def _windows(data: Study, wanted: Iterable[Cell]) -> ibis.Table:
    """Lay out each account's instants: `first` before, `anchor`, and the end of every window in use."""
    launch = data.launch
    anchored = drawn(data).select("account", "arm", *design(data), anchor=anchor(data))
    ends = {
        _end(days): _.anchor + ibis.interval(days=days)
        for days in {launch.days, *(c.days or launch.days for c in wanted)}
    }
    return anchored.mutate(first=_.anchor - ibis.interval(days=launch.pre_days), **ends)


def _end(days: int) -> str:
    return f"end_{days}d"


def _length(data: Study, cell: Cell) -> int:
    """Count the days of a cell's window."""
    return data.launch.pre_days if cell.window == "pre" else cell.days or data.launch.days


def _beside(left: ibis.Table, right: ibis.Table) -> ibis.Table:
    """Put the columns of `right` beside the accounts of `left`, which all stay."""
    return left.left_join(right, "account").drop("account_right")


def _attributes(data: Study) -> ibis.Table:
    accounts = data.table("accounts")
    for name in data.launch.attributes:
        if name not in accounts.columns:
            named = {"segment": data.launch.segments, "post-stratum": data.launch.decision.poststratify}
            what = next((what for what, names in named.items() if name in names), "flag under 'frame: {needs: …}'")
            raise DataError(
                f"{data.launch.name}: {what} {name!r} is not a column of 'accounts'; "
                f"{did_you_mean(name, accounts.columns)}"
            )
    return accounts.select(*data.launch.attributes, account=_.account.cast(data.assignments.account.type()))


def _events(data: Study, table: str) -> ibis.Table:
    """Open an event table, its account ids of the type that they have in the assignments."""
    return data.table(table).mutate(account=_.account.cast(data.assignments.account.type()))


def _with(data: Study, table: str, needed: Iterable[str]) -> ibis.Table:
    """Open an event table, joined with `titles` where some column that is needed stands there."""
    events = _events(data, table)
    if set(needed) <= set(events.columns):
        return events
    titles = data.tables["titles"]
    return events.left_join(titles.select("title", *set(titles.columns) - set(events.columns)), "title")


def _near(
    data: Study,
    table: str,
    after: After | None,
    accounts: ibis.Table,
    wanted: Sequence[Cell],
    also: Sequence[str] = (),
    earlier: float = 0,
) -> ibis.Table:
    """Open the assigned accounts' events in any window, or so many seconds before, with the instants of the account."""
    needed = {*also, *(column for cell in wanted for column in reads(cell.measure)[0][1])}
    time = schema.table(table).time
    events = _with(data, table, needed).select("account", time, *needed - {"account", time})
    near = events.join(accounts, "account").filter(_[time] < _[_end(data.launch.days)])
    near = near.filter(_[time] >= _["first"] - ibis.interval(seconds=round(earlier)))
    return near if after is None else _following(data, near, time, after)


def _following(data: Study, events: ibis.Table, time: str, after: After) -> ibis.Table:
    """Keep the events that come so soon after one of another table."""
    other = _with(data, after.table, [c.column for c in after.where])
    for condition in after.where:
        other = other.filter(_holds(other[condition.column], condition))
    same = ("account", *after.on)
    other = other.select(*same, earlier=other[schema.table(after.table).time])
    last = other.earlier + ibis.interval(seconds=round(3600 * after.hours))
    return events.semi_join(
        other, [*(events[c] == other[c] for c in same), other.earlier <= events[time], events[time] <= last]
    )


def _per_account(
    data: Study, table: str, after: After | None, accounts: ibis.Table, wanted: Sequence[Cell]
) -> ibis.Table:
    """Aggregate one event table to a row per account that has events in the windows."""
    time = schema.table(table).time
    gaps = {_previous(c): c.measure for c in wanted if c.measure.gap_minutes}
    before = 60 * max((m.gap_minutes or 0 for m in gaps.values()), default=0)
    near = _near(data, table, after, accounts, wanted, earlier=before)
    earlier = ibis.window(group_by="account", order_by=time, preceding=(None, 1))
    near = near.mutate(
        **{
            name: reduce(lambda kept, c: kept & _holds(near[c.column], c), m.where, ibis.literal(True))
            .ifelse(near[time], ibis.null(near[time].type()))
            .max()
            .over(earlier)
            for name, m in gaps.items()
        }
    )
    if any(c.measure.agg in OF_DAYS for c in wanted):  # each day is one bit of a whole number
        begin = (near[time] < near.anchor).ifelse(near["first"], near.anchor)
        day = (clock.seconds(near[time]) - clock.seconds(begin)) // DAY
        near = near.mutate(**{_BIT: ibis.literal(1, "int64") << day.clip(0, MOST_DAYS)})
    return near.aggregate(by="account", **{c.name: _aggregate(data, near, time, c) for c in wanted})


def _previous(cell: Cell) -> str:
    """Name the column that holds the account's previous event of this measure."""
    return f"previous of {replace(cell.measure, agg='count', column=None)}"


def _inside(events: ibis.Table, time: str, cell: Cell, days: int) -> Any:
    """Say of each event whether it lies in a cell's window and meets its conditions."""
    if cell.window == "pre":
        where = (events[time] >= events["first"]) & (events[time] < events.anchor)
    else:
        where = (events[time] >= events.anchor) & (events[time] < events[_end(cell.days or days)])
    if cell.measure.calendar_days:
        begin = events["first"] if cell.window == "pre" else events.anchor
        day = clock.seconds(events[time]) // DAY - clock.seconds(begin) // DAY
        where &= day.between(*cell.measure.calendar_days)
    for condition in cell.measure.where:
        where &= _holds(events[condition.column], condition)
    return where


def _aggregate(data: Study, events: ibis.Table, time: str, cell: Cell) -> Any:
    """Compile one cell: its aggregate over the events in its window that meet its conditions."""
    where = _inside(events, time, cell, data.launch.days)
    measure, agg, column = cell.measure, cell.measure.agg, cell.measure.column
    if measure.gap_minutes:
        previous = events[_previous(cell)]
        gap = ibis.interval(seconds=round(60 * measure.gap_minutes))
        where &= previous.isnull() | (events[time] >= previous + gap)
    if agg in {"count", "any"}:
        counted = events.count(where=where) if column is None else events[column].count(where=where)
        return counted if agg == "count" else (counted > 0).cast("float64")
    if agg == "until":
        begin = (events["first"] if cell.window == "pre" else events.anchor).min()
        return (clock.seconds(events[time].min(where=where)) - clock.seconds(begin)) / DAY
    if agg in OF_DAYS:
        bits = events[_BIT].bit_or(where=where)
        last = ibis.literal((1 << (_length(data, cell) - 1)) - 1, "int64")
        return bit_count({"returns": bits & (bits >> 1), "days_but_last": bits & last}.get(agg, bits))
    return getattr(events[str(column)], agg)(where=where)


def _holds(column: Any, condition: Condition) -> Any:
    if condition.op == "missing":
        return column.isnull() if condition.value else column.notnull()
    if condition.op in {"in", "not_in"}:
        inside = column.isin(list(condition.value))  # type: ignore[arg-type]  # the launch checked that it is a list
        return inside if condition.op == "in" else ~inside
    return getattr(column, f"__{condition.op}__")(condition.value)


def _finite(data: Study, name: str) -> Any:
    """Read an own column as a number, null where it is missing, NaN or infinite."""
    column = data.tables[UNITS_TABLE][name]
    number = _[name].cast("float64")
    return (
        number.isinf().__or__(number.isnan()).ifelse(ibis.null("float64"), number)
        if column.type().is_floating()
        else number
    )
