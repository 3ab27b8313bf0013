"""The study: a launch's data, opened through Ibis; the only module that knows where they live and what reads them."""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
from ibis import _

from helpers import assignment, cache, logs, sampling, schema, simulate
from helpers.errors import DataError, did_you_mean
from helpers.launch import Launch
from helpers.metrics import UNITS_TABLE

MEMORY_LIMIT = "4GB"
SUFFIXES = (".parquet", ".csv")
_TRUTH = ("arm", "metric", "segment", "level", "week", "control", "treatment", "diff", "rel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The tables of one launch, by name.

    `tables` holds event tables of the contract in `schema`, or the single table `units` with a row per account.
    Where the launch drops rows that cannot be, they are without them, and `raw` holds the tables as they came.
    `fingerprint` changes when the data do; None when the source cannot tell. `begun` says that the logs begin after the
    first of the days before that the launch names; its `pre_days` are then those that they do hold. `held` names other
    logs that hold fewer days: how many of those before, and of those after the newest assignment.
    """

    launch: Launch
    tables: Mapping[str, ibis.Table]
    raw: Mapping[str, ibis.Table] = field(default_factory=dict)
    fingerprint: str | None
    connection: Any = field(repr=False)
    truth: Path | None = field(default=None, repr=False)
    begun: str = ""
    held: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def table(self, name: str) -> ibis.Table:
        """Open a table.

        Raises:
            DataError: the data have no such table; the nearest is named.
        """
        if name not in self.tables:
            raise DataError(f"{self.launch.name}: the data have no table {name!r}; {did_you_mean(name, self.tables)}")
        return self.tables[name]

    @property
    def everyone(self) -> ibis.Table:
        """Open the rows account and arm of all accounts in the data, with what else stands in the same table."""
        if UNITS_TABLE in self.tables:
            data = self.launch.data
            table = self.tables[UNITS_TABLE].mutate(account=_[data.account], arm=_[data.arm])
        else:
            table = self.table("assignments")
        return table.mutate(arm=_.arm.cast("string"))

    @property
    def assignments(self) -> ibis.Table:
        """Open the rows of the accounts in the arms that the launch names."""
        return self.everyone.filter(_.arm.isin(self.launch.arms.names))

    def reveal(self) -> pd.DataFrame:
        """Open the planted truth of a simulated launch: for cells tagged `reveal`, never for an analysis.

        Returns:
            arm, metric, segment, level, week (0: the whole window), control, treatment, diff, rel; without rows where
            the data are real, because then nobody knows the truth. Rows of segment "all" are the overall effects, those
            of "planted" what the scenario set.
        """
        if self.truth is None:
            return pd.DataFrame(columns=[*_TRUTH])
        return pd.read_parquet(self.truth)


def open(launch: Launch) -> Study:  # noqa: A001  (study.open reads as it should)
    """Open a launch's data, simulating the service first where the launch asks for it.

    Where it planned to be read before its end, and the logs do not reach that yet, the study's launch is the one until
    the newest look that they do reach. Where they begin later than it says, its days before are those that they hold.

    Raises:
        DataError: nothing readable is there; what was found and what was expected is said.
    """
    opened = _since_begun(_opened(launch))
    if launch.data.faults == "drop":
        if faults := [fault for name, table in opened.tables.items() for fault in schema.faults(name, table)]:
            raise DataError(f"{launch.name}: {faults[0]}")
        opened = replace(opened, tables=logs.sound(opened.tables), raw=opened.tables)
    looks = launch.looks if len(launch.looks) > 1 and launch.data.source != "simulate" else ()
    days = reached(opened) if looks else math.inf
    opened = at(opened, max((day for day in looks if day <= days), default=looks[0])) if looks else opened
    return replace(opened, held=_held(opened))


def at(data: Study, day: int) -> Study:
    """Give the study as it is read at one of its launch's looks: what came later is not counted."""
    return replace(data, launch=data.launch.until(day))


def reached(data: Study) -> float:
    """Count the days after the newest assignment that sessions and plays reach; one that has begun is one.

    Infinite where the tables do not tell, and below 1 where the logs end before the assignment.
    """
    newest = [t for name in ("sessions", "plays") if (t := _newest(data, name, schema.table(name).time))]
    since = _newest(data, "assignments", "assigned_at")
    if since is None and data.launch.dates:
        since = pd.Timestamp(data.launch.dates.start, tz="UTC")
    return (min(newest) - since) / pd.Timedelta(days=1) + 1 if newest and since else math.inf


def _since_begun(data: Study) -> Study:
    """Shorten the days before to those that the logs hold: others would read as zeros.

    Sessions or plays are taken to begin late where so many would leave such a gap by chance, evenly spread, less than
    once in a million times, and the gap is more than a day.

    Raises:
        DataError: a cap is taken from before the launch, over more days than the logs hold.
    """
    launch, (since, _end, _n) = data.launch, _span(data, "assignments", "assigned_at")
    if launch.dates is None or not launch.pre_days:
        return data
    since = since or pd.Timestamp(launch.dates.start, tz="UTC")
    held, begins, day = launch.pre_days, None, pd.Timedelta(days=1)
    for name in ("sessions", "plays"):
        oldest, newest, n = _span(data, name, schema.table(name).time)
        gap = (oldest - since) / day + launch.pre_days if oldest else 0.0
        span = (newest - oldest) / day + 1 if oldest and newest else 1.0
        if oldest and gap > 1 and n * math.log(span / (gap + span)) < math.log(1e-6):
            held, begins = min((held, begins), (max(math.ceil((since - oldest) / day), 0), oldest), key=lambda h: h[0])
    if begins is None:
        return data
    said = f"the logs begin on {begins:%Y-%m-%d} and hold {held} of the {launch.pre_days} days before the launch"
    if launch.outliers and launch.outliers.caps == "before" and any(p.metric.cap for p in launch.plan):
        raise DataError(f"{launch.name}: 'caps: before' needs all of its days, but {said}")
    dates = launch.dates.model_copy(update={"pre_days": held})
    return replace(data, launch=launch.model_copy(update={"dates": dates}), begun=f"{said[0].upper()}{said[1:]}.")


def _held(data: Study) -> dict[str, tuple[int, int]]:
    """Find the logs beside sessions and plays that begin late or end early; what they lack would read as zeros.

    Where little happens days are quiet: a gap counts that is longer than a day and than any in the log, and that so
    many events, evenly spread over it, would leave less than once in a million times, if they fall on a week of days or
    more. Only who has not cancelled is assigned, so cancellations may begin with the launch; and a survey is sent on
    the days that its sender chooses.
    """
    launch, day = data.launch, pd.Timedelta(days=1)
    found: dict[str, tuple[int, int]] = {}
    if launch.dates is None:
        return found
    since, until, timed = _span(data, "assignments", "assigned_at")
    since = since or pd.Timestamp(launch.dates.start, tz="UTC")
    until = until or since
    for name in ("app_opens", "impressions", "cancellations", "tickets", "feedback"):
        time = schema.table(name).time
        oldest, newest, n = _span(data, name, time)
        if not (oldest and newest) or (
            oldest - since <= (1 - launch.pre_days) * day and until - newest <= (1 - launch.days) * day
        ):
            continue
        when = data.tables["assignments"].assigned_at.execute() if timed and since < until else pd.Series([since])
        early = ((oldest - when) / day + launch.pre_days).clip(0, launch.pre_days)
        late = ((when - newest) / day + launch.days).clip(0, launch.days)
        days = (data.tables[name][time].epoch_seconds() // 86_400).name("day").as_table().distinct().execute()["day"]
        quiet, span = days.sort_values().diff().max(), (newest - oldest) / day + 1
        begins, ends = (
            len(days) >= 7 and gap.max() > quiet and n * math.log(span / (gap.mean() + span)) < math.log(1e-6)
            for gap in (early, late)
        )
        before = math.ceil(launch.pre_days - early.max()) if begins and name != "cancellations" else launch.pre_days
        after = math.ceil(launch.days - late.max()) if ends else launch.days
        if (before, after) != (launch.pre_days, launch.days):
            found[name] = (before, after)
    return found


def _newest(data: Study, name: str, column: str) -> pd.Timestamp | None:
    """Find the newest time in a table; None where there is none."""
    return _span(data, name, column)[1]


def _span(data: Study, name: str, column: str) -> tuple[pd.Timestamp | None, pd.Timestamp | None, int]:
    """Find the oldest and the newest time in a table, and how many there are; None where there is none."""
    table = data.tables.get(name)
    if table is None or column not in table.columns or not table[column].type().is_timestamp():
        return None, None, 0
    time = table[column]
    oldest, newest, n = table.aggregate(oldest=time.min(), newest=time.max(), n=time.count()).execute().iloc[0]
    if not n:
        return None, None, 0
    first, last = (t if t.tz else t.tz_localize("UTC") for t in map(pd.Timestamp, (oldest, newest)))
    return first, last, int(n)


def _opened(launch: Launch) -> Study:
    """Open the tables as they are."""
    data = launch.data
    if data.source == "simulate":
        folder = _simulated(launch)
        return _from_folder(launch, folder, fingerprint=folder.name, truth=folder / "truth.parquet")
    if data.source is None:
        path = launch.folder / str(data.units)
        connection = connect_embedded()
        columns = (data.account, data.arm)
        return Study(
            launch=launch,
            tables={UNITS_TABLE: read_file(connection, path, as_text=columns)},
            fingerprint=_fingerprint([path]),
            connection=connection,
        )
    if "://" in data.source:
        return _from_connection(launch, _connect(data.source), fingerprint=None)
    path = launch.folder / data.source
    if path.is_dir():
        return _from_folder(launch, path)
    _must_be_a_file(path)
    return _from_connection(launch, connect_embedded(path), fingerprint=_fingerprint([path]))


def _simulated(launch: Launch) -> Path:
    """Generate the service that the launch describes, once: the folder is named by the hash of its parameters."""
    if launch.dates is None or launch.sampling is None:
        raise DataError(f"{launch.name}: a simulated launch needs 'dates' and 'sampling'")
    simulation = simulate.Simulation(
        scenario=launch.data.scenario,
        accounts=launch.data.accounts,
        seed=launch.data.seed,
        start=launch.dates.start,
        pre_days=launch.pre_days,
        days=launch.days,
        control=launch.arms.control,
        treatments=launch.arms.treatment,
    )
    facts = (simulation, json.dumps(launch.sampling.model_dump(), sort_keys=True))
    folder = cache.folder() / "simulated" / cache.key(*facts, code=(simulate, sampling))
    if not folder.exists():
        try:
            simulate.write(
                simulation,
                folder,
                assign=lambda frame: assignment.draw(launch, ibis.memtable(frame)).execute(),
                processes=2 if sum(launch.sampling.n.values()) > 20_000 else 1,
            )
        except OSError:
            if not folder.exists():  # another process may have been first; what it wrote is the same
                raise
    return folder


def connect_embedded(path: Path | None = None) -> Any:
    """Open DuckDB in this process, on a file or in memory: UTC, and a memory limit beyond which it spills to disk."""
    try:
        connection = ibis.duckdb.connect(path, read_only=True) if path else ibis.duckdb.connect()
    except Exception as error:  # the engine raises its own types
        raise DataError(f"{path}: cannot be opened as a DuckDB file: {_first_line(error)}") from None
    connection.raw_sql(f"SET memory_limit = '{MEMORY_LIMIT}'; SET TimeZone = 'UTC'")
    return connection


def _connect(url: str) -> Any:
    try:
        return ibis.connect(url)
    except Exception as error:  # every back end raises its own types
        shown = url.split("://")[0] + "://…"  # the rest may hold a password
        reason = re.sub(r"\S+://\S+", shown, _first_line(error))
        raise DataError(f"{shown}: cannot be opened through Ibis: {reason}") from None


def _from_connection(launch: Launch, connection: Any, *, fingerprint: str | None) -> Study:
    names = connection.list_tables()
    if launch.data.units is not None:
        if launch.data.units not in names:
            raise DataError(f"the source has no table {launch.data.units!r}; {did_you_mean(launch.data.units, names)}")
        tables = {UNITS_TABLE: connection.table(launch.data.units)}
    else:
        tables = {name: connection.table(name) for name in schema.TABLES if name in names}
        _known_tables(launch, tables, names)
    return Study(launch=launch, tables=tables, fingerprint=fingerprint, connection=connection)


def _from_folder(launch: Launch, folder: Path, *, fingerprint: str | None = None, truth: Path | None = None) -> Study:
    """Open every table of the contract that the folder holds: NAME.parquet, NAME.csv, or a folder NAME of parts."""
    connection = connect_embedded()
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.stem if path.suffix in SUFFIXES else path.name
        if name in found and name in schema.TABLES:
            raise DataError(f"{folder}: both {found[name].name!r} and {path.name!r} are there; keep one of them")
        found[name] = path
    tables = {}
    for name in schema.TABLES:
        if name in found:
            ids = tuple(c.name for c in schema.TABLES[name].columns if c.type in {"id", "text"})
            tables[name] = read_file(connection, found[name], as_text=ids)
            _zoned(connection, found[name], schema.TABLES[name], tables[name])
    _known_tables(launch, tables, found)
    files = sorted(p for name in tables for p in _files(found[name]))
    return Study(
        launch=launch,
        tables=tables,
        fingerprint=fingerprint or _fingerprint(files),
        connection=connection,
        truth=truth,
    )


def _known_tables(launch: Launch, tables: Mapping[str, ibis.Table], found: Iterable[str]) -> None:
    """Refuse a source without assignments, or with a table whose name is nearly one of the contract that is missing."""
    missing = [name for name in schema.TABLES if name not in tables]
    for name in found:
        if name not in schema.TABLES and (near := difflib.get_close_matches(name, missing, n=1, cutoff=0.8)):
            raise DataError(f"{launch.name}: {name!r} is no table of the contract; did you mean {near[0]!r}?")
    if "assignments" not in tables:
        raise DataError(
            f"{launch.name}: the data have no table 'assignments' (account, arm), only "
            f"{', '.join(sorted(found)) or 'nothing'}; one table with a row per account is given as 'data.units'"
        )


def _files(path: Path) -> Iterator[Path]:
    yield from (p for p in sorted(path.rglob("*")) if p.is_file()) if path.is_dir() else (path,)


def _must_be_a_file(path: Path) -> None:
    if not path.exists():
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        there = [p.name for p in beside if p.suffix == path.suffix or not path.suffix]
        raise DataError(f"{path}: there is no such file; {did_you_mean(path.name, there)}")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: is empty; expected a table with a header and rows")


def read_file(connection: Any, path: Path, *, as_text: tuple[str, ...] = ()) -> ibis.Table:
    """Read Parquet or CSV; in a CSV the columns `as_text` are never taken for numbers (007 is not 7).

    Raises:
        DataError: there is no such file, it is empty, or it is not what its name says.
    """
    _must_be_a_file(path)
    parts = [p for p in _files(path) if p.suffix in SUFFIXES]
    suffixes = {p.suffix for p in parts}
    if len(suffixes) != 1:
        raise DataError(
            f"{path}: expected Parquet or CSV, one of them; found {', '.join(sorted(suffixes)) or 'neither'}"
        )
    names = [str(p) for p in parts]
    try:
        if suffixes == {".parquet"}:
            return connection.read_parquet(names)
        header = connection.read_csv(names, sample_size=-1)
        types = {c: "VARCHAR" for c in as_text if c in header.columns and not header[c].type().is_string()}
        table = connection.read_csv(names, sample_size=-1, types=types) if types else header
    except Exception as error:  # the engine raises its own types
        kind = "Parquet" if suffixes == {".parquet"} else "CSV"
        told = _uneven(parts) if "sniffing" in str(error) else _first_line(error)
        raise DataError(f"{path}: cannot be read as {kind}: {told}") from None
    with parts[0].open(encoding="utf-8", errors="replace", newline="") as file:
        fields = next(csv.reader([file.readline(1 << 16)]), [])
    if len(fields) not in {0, 1, len(table.columns)} and fields[0] != table.columns[0]:  # taken apart in another way
        raise DataError(f"{path}: cannot be read as CSV: {_uneven(parts)}")
    return table


def _zoned(connection: Any, path: Path, contract: schema.Table, table: ibis.Table) -> None:
    """Refuse a CSV in which only some times have a zone: the engine would read the others as UTC without a word.

    Where none has one, the column's type says so, and `schema.faults` does.
    """
    parts = [str(p) for p in _files(path) if p.suffix == ".csv"]
    times = [c.name for c in contract.columns if c.type == "time" and c.name in table.columns]
    for time in [t for t in times if parts and getattr(table[t].type(), "timezone", None)]:
        texts = connection.read_csv(parts, types={time: "VARCHAR"})[time]
        bare = int((~texts.re_search(r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)\s*$")).sum().execute() or 0)
        if bare:
            raise DataError(
                f"{path}: {bare:,} times in column {time!r} have no time zone, others have; write 2026-09-07T20:15:00Z"
            )


def _uneven(parts: list[Path]) -> str:
    """Say what keeps a CSV from being one, which the engine does not: lines that end in two ways, else uneven rows."""
    for part in parts:
        with part.open("rb") as file:
            start = file.read(1 << 20)
        if 0 < start.count(b"\r\n") < start.count(b"\n"):
            return f"some lines of {part.name} end in CR LF and others in LF alone; save it with one kind"
    return "its rows do not all have as many fields as the header; quote the texts that hold a comma"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _fingerprint(paths: list[Path]) -> str:
    """Tell files apart by name, size and time of change, without reading them."""
    facts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for path in paths for p in _files(path)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
