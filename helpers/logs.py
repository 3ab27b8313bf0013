"""Event logs held against the contract: what cannot be is counted by arm, then refused, dropped or kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers import clock, schema
from helpers.results import Check

Policy = Literal["refuse", "drop", "keep"]
Tables = Mapping[str, ibis.Table]

COLUMNS = ["table", "fault", "impossible", "arm", "rows", "of", "se"]
LATE_HOURS = 48
_DAY_MINUTES = 24 * 60
_PARTNERS = {foreign.table for table in schema.TABLES.values() for foreign in table.foreign_keys}
_OUTSIDE = "none"  # the arm of a row without an account


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Something that must not be true of a row: the words that say so, and whether it is impossible or only a pity."""

    column: str
    words: str
    broken: Any
    impossible: bool = True

    @property
    def fault(self) -> str:
        """Name the fault."""
        return f"{self.column}: {self.words}" if self.column else self.words


def count(tables: Tables, assigned: ibis.Table | None = None) -> pd.DataFrame:
    """Count the faults of every table, by arm.

    One aggregate for each table; `plays` takes two more, for rows that repeat another and for days that are too long.

    Args:
        tables: event tables whose columns and types keep the contract.
        assigned: account and arm of the accounts that are measured: rows of others are passed over. None counts all
            rows as of one arm.

    Returns:
        table, fault, impossible (or merely to be known), arm, rows, all rows of the arm, and
        the standard error of their share, over accounts.
        A fault that nowhere occurs has no row, so that sound data give an empty table.
    """
    found, partners = [], dict(tables)
    for name in sorted(tables, key=lambda name: name not in _PARTNERS):  # those that others refer to come first
        mine = list(_faults(name, tables[name], partners, assigned))
        if any("repeat" in fault for part in mine for fault in part["fault"]):
            partners[name] = tables[name].distinct(on=_key(name, tables[name]))
        found += mine
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def sentences(counts: pd.DataFrame) -> list[str]:
    """Say every impossible fault in one sentence.

    >>> import ibis
    >>> tables = {"tickets": ibis.memtable({"account": ["a"], "opened_at": [None]}, schema={"account": "string",
    ...     "opened_at": "timestamp('UTC')"})}
    >>> sentences(count(tables))
    ["column 'opened_at' of table 'tickets': 1 rows have no value"]
    """
    impossible = counts[counts["impossible"].astype(bool)]
    totals = impossible.groupby(["table", "fault"], sort=False, as_index=False)["rows"].sum()
    return [_sentence(*row) for row in totals.itertuples(index=False)]


def sound(tables: Tables) -> dict[str, ibis.Table]:
    """Leave out the rows that cannot be, of every account alike: nothing here knows of arms.

    Of rows that repeat another, one stays. Rows that only lack a partner, or came late, stay too.
    """
    kept: dict[str, ibis.Table] = {}
    for name, rows in sorted(tables.items(), key=lambda item: item[0] not in _PARTNERS):
        columns, beside = rows.columns, _beside(name, rows, kept)
        for rule in _rules(name, beside):
            if rule.impossible:
                beside = beside.filter(~rule.broken.fill_null(False))
        clean = beside.select(columns)
        if (key := _key(name, clean)) and name != "assignments":  # whose arms are looked at elsewhere
            clean = clean.distinct(on=key)
        kept[name] = _possible_days(clean) if name == "plays" else clean
    return kept


def check(counts: pd.DataFrame, arms: Sequence[str], policy: Policy, alpha: float = 0.001) -> Check:
    """Ask whether faults of the logs fell on the arms alike; where they did not, leaving them out bends the comparison.

    For each fault, its share of the rows is compared between every arm and the first, with errors over accounts: a
    launch that makes people watch more makes more rows, and more faulty ones. The smallest p times the number of
    comparisons is held against `alpha`. A pass shows no difference large enough to see, not that there is none.

    Args:
        counts: what `count` found.
        arms: names of the arms, control first.
        policy: what was done with the rows that cannot be.
        alpha: how rarely faults that fall by chance may fail.
    """
    name = "Event logs"
    if counts.empty:
        return Check(name=name, passed=True, detail="No row of the logs breaks the contract.")
    done = {"drop": "left out, in all arms by the same rule", "keep": "kept, as the launch says"}
    said, p = [], 1.0
    faults = counts.groupby(["table", "fault", "impossible"], sort=False)
    for (table, fault, impossible), found in faults:
        by_arm = found.set_index("arm")
        share = (by_arm["rows"] / by_arm["of"]).reindex(list(arms), fill_value=0.0)
        se = by_arm["se"].reindex(list(arms), fill_value=0.0)
        words = str(fault).rpartition(": ")[2]
        split = ", ".join(f"{arm} {share[arm]:.2%}" for arm in arms)
        said.append(
            f"{by_arm['rows'].sum():,} of {table} {words} ({split}; {done.get(policy, '') if impossible else 'noted'})"
        )
        of = by_arm["of"].reindex(list(arms), fill_value=0.0)
        smooth = (share * of + 1) / (of + 2)  # where it is all rows of an arm, or none, no account varies
        if share.isin([0, 1]).all():
            se = (smooth * (1 - smooth) / of.clip(lower=1)) ** 0.5
        apart, error = (share - share.iloc[0]).abs().iloc[1:], np.hypot(se, se.iloc[0]).iloc[1:]
        z = float((apart / error.where(error > 0)).max())
        p = min(p, 2 * float(stats.norm.sf(z)) * len(faults) * len(apart)) if z == z else p
    detail = f"Faults of logging: {'; '.join(said)}."
    if p >= alpha:
        return Check(name=name, passed=True, detail=f"{detail} They fell on the arms alike, within chance.", p=p)
    detail += " They fell on one arm more than on the other, so that the rows that are left are not comparable."
    return Check(name=name, passed=False, detail=detail, p=p)


def _faults(name: str, rows: ibis.Table, tables: Tables, assigned: ibis.Table | None) -> Iterator[pd.DataFrame]:
    """Yield the faults of one table."""
    beside = _with_arm(_beside(name, rows, tables), assigned)
    rules = _rules(name, beside)
    counts = {f"n{i}": rule.broken.sum() for i, rule in enumerate(rules)}
    arms = beside.aggregate(by="arm", of=_.count(), **counts).execute().set_index("arm")
    for i, rule in enumerate(rules):
        if arms[f"n{i}"].fillna(0).sum():
            yield _frame(name, rule.fault, beside, beside.filter(rule.broken), impossible=rule.impossible)
    if (key := _key(name, rows)) and name != "assignments" and (name != "plays" or _same_instant(rows)):
        again = beside.aggregate(by=["arm", *key], hits=_.count() - 1).filter(_.hits > 0)
        words = "repeat a key that must be unique" if len(key) == 1 else f"repeat another's {', '.join(key)}"
        if _any(again):
            yield _frame(name, f"{key[0]}: {words}" if len(key) == 1 else words, beside, again)
    if name == "plays":
        long = _with_arm(_days(rows).filter(_.minutes > _DAY_MINUTES + 1e-6), assigned)
        if _any(long):
            yield _frame(name, "account days have more than 24 hours of viewing", beside, long)


def _any(rows: ibis.Table) -> bool:
    return bool(rows.limit(1).count().execute())


def _sentence(table: str, fault: str, rows: int) -> str:
    column, colon, words = fault.rpartition(": ")
    where = f"column {column!r} of table {table!r}" if colon else f"table {table!r}"
    return f"{where}: {rows:,} {words}" if words.startswith("account days") else f"{where}: {rows:,} rows {words}"


def _whole(number: int) -> Any:
    return ibis.literal(number, "int64")


def _frame(name: str, fault: str, rows: ibis.Table, broken: ibis.Table, *, impossible: bool = True) -> pd.DataFrame:
    """Count broken rows by arm, beside all rows, with the error of their share over accounts (delta method)."""
    hits = broken.hits if "hits" in broken.columns else _whole(1)
    who = ["arm", "account"] if "account" in rows.columns else ["arm"]
    parts = rows.select(*who, n=_whole(1), k=_whole(0)).union(broken.select(*who, n=_whole(0), k=hits.cast("int64")))
    each = parts.aggregate(by=who, n=_.n.sum().cast("float64"), k=_.k.sum().cast("float64"))
    sums = each.aggregate(
        by="arm", rows=_.k.sum(), of=_.n.sum(), kk=(_.k * _.k).sum(), kn=(_.k * _.n).sum(), nn=(_.n * _.n).sum()
    ).execute()
    found = sums[sums["rows"] > 0].assign(table=name, fault=fault, impossible=impossible)
    share = found["rows"] / found["of"]
    variance = found["kk"] - 2 * share * found["kn"] + share**2 * found["nn"]
    return found.assign(se=np.sqrt(variance.clip(lower=0)) / found["of"]).astype({"rows": int, "of": int})[COLUMNS]


def _with_arm(rows: ibis.Table, assigned: ibis.Table | None) -> ibis.Table:
    """Put each row's arm beside it, and leave out those of accounts that are not measured."""
    if assigned is None or "account" not in rows.columns:
        return rows.mutate(arm=ibis.literal("all"))
    arms = assigned.select(arm_account=_.account.cast("string"), arm_of=_.arm)
    rows = rows.drop("arm") if "arm" in rows.columns else rows
    joined = rows.left_join(arms, rows.account.cast("string") == arms.arm_account)
    return joined.filter(~_.arm_of.isnull() | _.account.isnull()).mutate(arm=_.arm_of.fill_null(_OUTSIDE))


def _beside(name: str, rows: ibis.Table, tables: Tables) -> ibis.Table:
    """Put beside each row what it refers to: `found_TABLE` for each foreign key, and when its session began."""
    for foreign in schema.table(name).foreign_keys:
        other, keys = tables.get(foreign.table), foreign.columns
        if other is None or foreign.table == "assignments" or not set(keys) <= {*rows.columns} & {*other.columns}:
            continue
        there = {f"{foreign.table}_{key}": other[key].cast("string") for key in keys}
        extra = {"began": other.started_at} if name == "plays" and foreign.table == "sessions" else {}
        partner = other.select(**there, **extra, **{f"found_{foreign.table}": ibis.literal(True)})
        rows = rows.left_join(partner, [rows[key].cast("string") == partner[f"{foreign.table}_{key}"] for key in keys])
    return rows


def _rules(name: str, rows: ibis.Table) -> list[Rule]:
    """List what must not be true of a row."""
    contract = schema.table(name)
    there = [c for c in contract.columns if c.name in rows.columns]
    rules = [Rule(column=c.name, words=words, broken=broken) for c in there for words, broken in schema.broken(rows, c)]
    times = [c.name for c in there if c.type == "time"]
    if times:
        main = rows[times[0]]
        later = [t for t in times[1:] if t not in {"received_at", "assigned_at"}]
        rules += [Rule(column=t, words=f"lie before their {times[0]}", broken=rows[t] < main) for t in later]
        if "received_at" in times:
            late = rows.received_at > main + ibis.interval(hours=LATE_HOURS)
            ahead = rows.received_at < main - ibis.interval(minutes=5)
            rules.append(Rule(column=times[0], words="lie after they were received; is a clock wrong?", broken=ahead))
            rules.append(
                Rule(column="", words=f"came more than {LATE_HOURS} hours late", broken=late, impossible=False)
            )
    if "began" in rows.columns:
        words = "begin before their session; is a clock wrong?"
        rules.append(Rule(column="", words=words, broken=rows.started_at < rows.began))
    for foreign in contract.foreign_keys:
        if f"found_{foreign.table}" in rows.columns:
            words = f"have no partner in {foreign.table!r} ({', '.join(foreign.columns)})"
            lost = rows[f"found_{foreign.table}"].isnull()
            rules.append(Rule(column="", words=words, broken=lost, impossible=False))
    return rules


def _key(name: str, rows: ibis.Table) -> tuple[str, ...]:
    """Name the columns that tell a table's rows apart; none where equal rows are allowed or a column is not there."""
    key = schema.SAME_PLAY if name == "plays" else schema.table(name).key
    return key if set(key) <= set(rows.columns) else ()


def _same_instant(plays: ibis.Table) -> bool:
    """Say whether any account has two plays that begin at once: without any, no play repeats another."""
    before = plays.started_at.lag().over(group_by="account", order_by="started_at")
    return bool(plays.select(same=plays.started_at == before).same.any().fill_null(False).execute())


def _days(plays: ibis.Table) -> ibis.Table:
    """Add up each account's day; what runs past midnight (UTC) belongs to the next one. `day` counts from 1970."""
    second, minutes = clock.seconds(plays.started_at), plays.watch_minutes
    until_midnight = _DAY_MINUTES - (second % 86_400) / 60
    split = plays.select(
        "account", day=second // 86_400, today=ibis.least(minutes, until_midnight), rest=minutes - until_midnight
    )
    days = split.aggregate(by=["account", "day"], today=split.today.sum(), rest=ibis.greatest(split.rest, 0.0).sum())
    order = ibis.window(group_by="account", order_by="day")
    yesterday = (days.day.lag().over(order) == days.day - 1).ifelse(days.rest.lag().over(order), 0.0)
    return days.select("account", "day", "rest", minutes=days.today + yesterday.fill_null(0.0))


def _possible_days(plays: ibis.Table) -> ibis.Table:
    """Leave out all plays that began on a day on which their account has more than 24 hours of viewing."""
    long = _days(plays).filter(_.minutes > _DAY_MINUTES + 1e-6).select(long_account="account", long_day="day")
    numbered = plays.mutate(day=clock.seconds(plays.started_at) // 86_400)
    return numbered.anti_join(long, [numbered.account == long.long_account, numbered.day == long.long_day]).drop("day")
