"""The event-table contract is complete, agrees with itself, and finds what breaks it."""

import datetime as dt
from pathlib import Path

import ibis
import pyarrow as pa
import pytest

from helpers import schema
from helpers.errors import DataError

COLUMNS = [(table, column) for table in schema.TABLES.values() for column in table.columns]
TYPES = {"id", "text", "time", "date", "number", "count", "flag"}


def test_every_table_of_the_architecture_is_there():
    plan = Path(__file__).resolve().parents[2] / "shared" / "design" / "architecture.md"
    if not plan.exists():
        pytest.skip(f"{plan} is not on this machine")
    section = plan.read_text().partition("## Event tables")[2].partition("Times are UTC")[0]
    for name in schema.TABLES:
        assert f"`{name}`" in section
    assert section.count("`") // 2 - 1 == len(schema.TABLES)  # the heading names the module too


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda t: t.name)
def test_keys_are_columns_without_missing_values_and_foreign_keys_lead_to_columns(table):
    assert table.unlocks
    for name in table.key:
        assert not table.column(name).null
    for foreign in table.foreign_keys:
        other = schema.table(foreign.table)
        for name in foreign.columns:
            assert table.column(name).type == other.column(name).type


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda c: c.name)
def test_columns_have_a_plain_type_and_bounds_only_where_there_is_an_order(table, column):
    assert column.type in TYPES
    if column.low is not None or column.high is not None:
        assert column.type in {"number", "count"}
    if column.values:
        assert column.type == "text"


def test_column_names_do_not_repeat():
    for table in schema.TABLES.values():
        names = [column.name for column in table.columns]
        assert len(names) == len(set(names))


def test_an_unknown_column_is_refused_with_the_nearest():
    with pytest.raises(DataError, match=r"'plays' has no column 'watch_minute' in the contract.*'watch_minutes'"):
        schema.table("plays").column("watch_minute")


def plays(**changes):
    row = {
        "account": "a",
        "session": 1,
        "title": "t",
        "episode": 1,
        "started_at": dt.datetime(2026, 9, 7, 20, tzinfo=dt.UTC),
        "watch_minutes": 45.0,
        "completed_share": 0.5,
        "initiation": "browse",
    }
    types = {name: pa.array([value]).type for name, value in row.items()}  # of the sound row, also for a missing value
    return ibis.memtable(pa.table({name: pa.array([v], types[name]) for name, v in (row | changes).items()}))


def test_a_sound_play_has_no_fault():
    assert schema.faults("plays", plays()) == []


def test_an_optional_column_may_be_missing_and_a_required_one_may_not():
    assert schema.faults("plays", plays().drop("episode")) == []
    (fault,) = schema.faults("plays", plays().drop("title"))
    assert "has no column 'title'" in fault


def test_a_time_without_zone_is_refused():
    (fault,) = schema.faults("plays", plays().cast({"started_at": "timestamp"}))
    assert "expected instants with a time zone" in fault
