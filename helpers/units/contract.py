"""The contract of the data: what must hold of tables, arms and window before any of it is used."""

from __future__ import annotations

import datetime as dt

import ibis
import pandas as pd
from ibis import _

from helpers import logs, schema
from helpers.errors import DataError, did_you_mean
from helpers.launch import Launch
from helpers.metrics import UNITS_TABLE
from helpers.moments import WEIGHT
from helpers.study import Study
from helpers.units import query
from helpers.units.query import CLUSTER, design

MOST_LEVELS = 100  # of an attribute: one with more is a number or an id


def check(data: Study) -> pd.DataFrame:
    """Hold the data against the contract before any of it is used.

    Returns:
        The faults of the event tables, counted by arm, where the launch drops or keeps such rows.

    Raises:
        DataError: one sentence per fault, counted.
    """
    launch = data.launch
    if launch.unit and launch.unit.cluster and CLUSTER not in design(data):
        there = data.tables.get(UNITS_TABLE, data.tables.get("accounts"))
        hint = "there is none" if there is None else did_you_mean(launch.unit.cluster, there.columns)
        where = "the table with a row per account" if UNITS_TABLE in data.tables else "table 'accounts'"
        raise DataError(f"{launch.name}: 'unit.cluster' names {launch.unit.cluster!r}, no column of {where}; {hint}")
    if UNITS_TABLE in data.tables:
        own = data.tables[UNITS_TABLE]
        given = (launch.data.account, launch.data.arm, launch.data.weight, launch.data.stratum, *launch.attributes)
        for column in (c for c in given if c is not None):
            if column not in own.columns:
                raise DataError(f"{launch.data.units}: has no column {column!r}; {did_you_mean(column, own.columns)}")
    else:
        _refuse(launch, [fault for name, table in data.tables.items() for fault in schema.faults(name, table)])
    _check_levels(data)
    _check_arms(data)
    _check_weights(data)
    for name in ("sessions", "plays"):
        if name in data.tables:
            _check_window(data, name)
    if UNITS_TABLE in data.tables:
        return logs.count({})
    counts = logs.count(data.raw or data.tables, data.assignments.select("account", "arm"))
    if launch.data.faults == "refuse" and (said := logs.sentences(counts)):
        _refuse(launch, [*said[:5], "mend the tables, or write 'data: {faults: drop}' to leave such rows out"])
    return counts


def _refuse(launch: Launch, faults: list[str]) -> None:
    if faults:
        raise DataError("\n".join(f"{launch.name}: {fault}" for fault in faults[:6]))


def _check_levels(data: Study) -> None:
    """Refuse an attribute with so many levels that it is a number or an id, and its groups are single accounts."""
    table = data.tables.get(UNITS_TABLE, data.tables.get("accounts"))
    names = [name for name in data.launch.attributes if table is not None and name in table.columns]
    if table is None or not names:
        return
    for name, n in table.aggregate(**{name: table[name].nunique() for name in names}).execute().iloc[0].items():
        if n > MOST_LEVELS:
            raise DataError(
                f"{data.launch.name}: attribute {str(name)!r} has {n:,} levels; groups need accounts, so at most "
                f"{MOST_LEVELS} are compared: name one with fewer, or cut this one into bands first"
            )


def _check_arms(data: Study) -> None:
    """Every arm has accounts, and every account has one row and one arm."""
    names, everyone = data.launch.arms.names, data.everyone
    counted = everyone.aggregate(by="arm", n=_.count()).execute()
    if counted.empty:
        raise DataError(f"{data.launch.name}: the data have no rows; expected one per assigned account")
    sizes = counted.dropna().set_index("arm")["n"]
    own = UNITS_TABLE in data.tables
    where = f"{data.launch.data.units}: column {data.launch.data.arm!r}" if own else "table 'assignments'"
    for arm in names:
        if arm not in sizes.index:
            found = ", ".join(f"{other!r} ({n:,})" for other, n in sorted(sizes.items())) or "no arm at all"
            found = found if len(sizes) <= MOST_LEVELS else f"{len(sizes):,} different values"  # perhaps account ids
            hint = did_you_mean(arm, set(sizes.index) - set(names)) if len(sizes) <= MOST_LEVELS else ""
            hint = hint if hint.startswith("did") else "correct 'arms'" + ", or 'data: {arm: …}'" * own
            raise DataError(f"{data.launch.name}: arm {arm!r} has no accounts; {where} has {found}; {hint}")
    per_account = everyone.filter(_.arm.isin(names)).aggregate(by="account", rows=_.count(), arms=_.arm.nunique())
    twice = per_account.aggregate(
        unknown=_.account.isnull().sum(), rows=(_["rows"] > 1).sum(), arms=(_.arms > 1).sum()
    ).execute()
    unknown, rows, arms = (int(n) for n in twice.fillna(0).iloc[0])
    if unknown:
        raise DataError(f"{data.launch.name}: there are assigned rows without an account id; every row needs one")
    where = f"{data.launch.data.units}" if own else "table 'assignments'"
    if arms:
        raise DataError(
            f"{data.launch.name}: {arms:,} accounts stand in more than one arm in {where}; each belongs to one"
        )
    if rows:
        raise DataError(
            f"{data.launch.name}: {rows:,} accounts have more than one row in {where}, where one is expected; remove "
            "the copies, or add the rows of an account up to one"
        )


def _check_weights(data: Study) -> None:
    """Refuse weights that are not above 0, also where all are alike, before they are set to 1 on average."""
    if WEIGHT not in design(data):
        return
    own = UNITS_TABLE in data.tables
    column = str(data.launch.data.weight) if own else "inclusion_probability"
    value = data.assignments[column].cast("float64")
    bad = int((~(value > 0).fill_null(False) | value.isnan() | value.isinf()).fill_null(True).sum().execute() or 0)
    if bad:
        where = f"column {column!r}" if own else "the inclusion probability"
        raise DataError(f"{data.launch.name}: {where} gives {bad:,} accounts no weight above 0; correct or drop them")


def _check_window(data: Study, name: str) -> None:
    """Refuse an event log that ends before the launch's window does: its last days would all read as zeros."""
    end = data.assignments.select(end=query.anchor(data) + ibis.interval(days=data.launch.days)).end.max()
    time = data.table(name)[schema.table(name).time]
    last, newest = end.execute(), time.max().execute()
    if pd.isna(newest) or newest < last - dt.timedelta(days=1):
        found = "it has no rows" if pd.isna(newest) else f"its newest row is of {newest:%Y-%m-%d}"
        raise DataError(
            f"{data.launch.name}: table {name!r} does not cover the window up to {last:%Y-%m-%d}: {found}; "
            "correct 'dates', or wait for the data"
        )
