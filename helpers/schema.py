"""The event-table contract: what each table holds, what its columns may be, and what having it makes measurable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from helpers.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import ibis

SAME_PLAY = ("account", "session", "title", "started_at", "watch_minutes")  # twice the same is a fault of logging
UNKNOWN = "unknown"  # the level of an account whose attribute is missing

ColumnType = Literal["id", "text", "time", "date", "number", "count", "flag"]
"""`id`: text or whole number, never computed with · `time`: an instant with its zone, read as UTC ·
`date`: a calendar day · `number`: finite · `count`: whole, not negative · `flag`: true or false."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type and the values it may hold.

    `null` allows missing values, `optional` a missing column. `low` and `high` are inclusive, in `unit`.
    """

    name: str
    type: ColumnType
    _: KW_ONLY
    null: bool = False
    optional: bool = False
    low: float | None = None
    high: float | None = None
    unit: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """Columns whose combined value must occur in the columns of the same names of another table."""

    columns: tuple[str, ...]
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: a row is identified by `key` (an empty key allows equal rows); `unlocks` says what it is good for."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    unlocks: str

    @property
    def required(self) -> tuple[str, ...]:
        """Name the columns that must be there."""
        return tuple(column.name for column in self.columns if not column.optional)

    @property
    def time(self) -> str:
        """Name the column that says when a row happened: the first instant in it."""
        return next(column.name for column in self.columns if column.type == "time")

    def column(self, name: str) -> Column:
        """Find a column by its name.

        Raises:
            DataError: the contract has no such column in this table; the nearest is named.
        """
        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        raise DataError(f"table {self.name!r} has no column {name!r} in the contract; {did_you_mean(name, names)}")


ASSIGNED = ForeignKey(columns=("account",), table="assignments")
IN_SESSION = ForeignKey(columns=("account", "session"), table="sessions")
OF_TITLE = ForeignKey(columns=("title",), table="titles")
RECEIVED = Column("received_at", "time", optional=True, null=True)  # by the service, whose clock is right

_ALL = (
    Table(
        name="accounts",
        columns=(
            Column("account", "id"),
            Column("region", "text", optional=True, null=True),
            Column("age_band", "text", optional=True, null=True),
            Column("tenure", "text", optional=True, null=True),
            Column("tenure_days", "count", optional=True, null=True, unit="days"),
            Column("device", "text", optional=True, null=True),
            Column("new_tv", "flag", optional=True, null=True),
            Column("profiles", "count", optional=True, null=True, low=1),
            Column("engagement", "text", optional=True, null=True),
            Column("past_weekly_hours", "number", optional=True, null=True, low=0, high=168, unit="hours"),
            Column("household", "id", optional=True, null=True),
            Column("employee", "flag", optional=True),
            Column("bot_suspect", "flag", optional=True),
            Column("kids_only", "flag", optional=True),
            Column("test_account", "flag", optional=True),
            Column("opted_out", "flag", optional=True),
        ),
        key=("account",),
        unlocks="who the service's accounts are: eligibility, strata, segments, weighting",
    ),
    Table(
        name="assignments",
        columns=(
            Column("account", "id"),
            Column("arm", "text"),
            Column("stratum", "text", optional=True, null=True),
            Column("inclusion_probability", "number", optional=True, low=0, high=1),
            Column("stage", "count", optional=True, low=1),
            Column("assigned_at", "time", optional=True),
        ),
        key=("account",),
        foreign_keys=(ForeignKey(columns=("account",), table="accounts"),),
        unlocks="every comparison of arms; with inclusion probabilities, estimates for the whole population",
    ),
    Table(
        name="app_opens",
        columns=(
            Column("account", "id"),
            Column("opened_at", "time"),
            Column("background", "flag", optional=True),
            RECEIVED,
        ),
        foreign_keys=(ASSIGNED,),
        unlocks="how often people return",
    ),
    Table(
        name="sessions",
        columns=(
            Column("account", "id"),
            Column("session", "id"),
            Column("started_at", "time"),
            Column("device", "text", optional=True, null=True),
            Column("seconds_to_first_play", "number", null=True, low=0, high=86_400, unit="seconds"),
            Column("crashed", "flag", optional=True),
            Column("play_delay_ms", "number", optional=True, null=True, low=0, unit="milliseconds"),
            Column("rebuffer_ratio", "number", optional=True, null=True, low=0, high=1),
            Column("start_failed", "flag", optional=True),
            Column("app_version", "text", optional=True, null=True),
            Column("recommendation_ms", "number", optional=True, null=True, low=0, unit="milliseconds"),
            RECEIVED,
        ),
        key=("account", "session"),
        foreign_keys=(ASSIGNED,),
        unlocks="visits, time to first play, browsing that ends in a play, crashes, playback quality",
    ),
    Table(
        name="plays",
        columns=(
            Column("account", "id"),
            Column("session", "id"),
            Column("profile", "id", optional=True, null=True),
            Column("title", "id"),
            Column("episode", "count", null=True, optional=True, low=1),
            Column("started_at", "time"),
            Column("watch_minutes", "number", low=0, high=1440, unit="minutes"),
            Column("completed_share", "number", optional=True, null=True, low=0, high=1),
            Column(
                "initiation",
                "text",
                optional=True,
                values=(
                    "continue_watching",
                    "browse",
                    "autoplay_next",
                    "autoplay_preview",
                    "search",
                    "notification",
                ),
            ),
            Column("recommended", "flag", optional=True),
            Column("shadow_recommended", "flag", optional=True),
            RECEIVED,
        ),
        foreign_keys=(ASSIGNED, IN_SESSION, OF_TITLE),
        unlocks="hours watched, starts and completion of titles, deliberate viewing, discovery",
    ),
    Table(
        name="impressions",
        columns=(
            Column("account", "id"),
            Column("session", "id", optional=True, null=True),
            Column("title", "id"),
            Column("shown_at", "time"),
            Column("row", "text", optional=True, null=True),
            Column("position", "count", optional=True, null=True),
        ),
        foreign_keys=(ASSIGNED, OF_TITLE),
        unlocks="reach apart from liking, visibility of small creators, recommendation coverage",
    ),
    Table(
        name="titles",
        columns=(
            Column("title", "id"),
            Column("name", "text", optional=True, null=True),
            Column("creator", "text", optional=True, null=True),
            Column("creator_tier", "text", optional=True, null=True, values=("head", "torso", "tail")),
            Column("minutes", "number", optional=True, null=True, low=0, unit="minutes"),
            Column("is_launch_title", "flag"),
        ),
        key=("title",),
        unlocks="the launch title's own numbers, and the share of each tier of creators",
    ),
    Table(
        name="cancellations",
        columns=(
            Column("account", "id"),
            Column("cancelled_at", "time"),
            Column("kind", "text", optional=True, values=("voluntary", "payment")),
            Column("resubscribed_at", "time", optional=True, null=True),
        ),
        key=("account", "cancelled_at"),
        foreign_keys=(ASSIGNED,),
        unlocks="churn: voluntary and payment, as a rate and over time",
    ),
    Table(
        name="tickets",
        columns=(
            Column("account", "id"),
            Column("opened_at", "time"),
            Column("topic", "text", optional=True, null=True),
        ),
        foreign_keys=(ASSIGNED,),
        unlocks="support load, and confusion about the change",
    ),
    Table(
        name="feedback",
        columns=(
            Column("account", "id"),
            Column("title", "id"),
            Column("given_at", "time"),
            Column("thumb", "text", optional=True, null=True, values=("up", "down")),
            Column("stars", "count", optional=True, null=True, low=1, high=5),
            Column("hide", "flag", optional=True),
        ),
        foreign_keys=(ASSIGNED, OF_TITLE),
        unlocks="liking and regret",
    ),
    Table(
        name="surveys",
        columns=(
            Column("account", "id"),
            Column("prompted_at", "time"),
            Column("responded_at", "time", null=True),
            Column("score", "count", optional=True, null=True, low=1, high=5),
            Column("nps", "count", optional=True, null=True, low=0, high=10),
            Column("effort", "count", optional=True, null=True, low=1, high=7),
            Column("incentive", "flag", optional=True),
        ),
        key=("account", "prompted_at"),
        foreign_keys=(ASSIGNED,),
        unlocks="stated satisfaction, net promoter score, and who does not answer",
    ),
    Table(
        name="marketing",
        columns=(
            Column("region", "text"),
            Column("day", "date"),
            Column("spend", "number", low=0),
            Column("impressions", "count", optional=True, null=True),
        ),
        key=("region", "day"),
        unlocks="telling a campaign's effect from the launch's",
    ),
    Table(
        name="calendar",
        columns=(
            Column("day", "date"),
            Column("event", "text"),
            Column("region", "text", optional=True, null=True),
        ),
        unlocks="warnings about holidays, matches and outages inside the windows",
    ),
    Table(
        name="capacity",
        columns=(
            Column("stage", "count", low=1),
            Column("hour", "time"),
            Column("streams", "count", unit="concurrent streams"),
            Column("limit", "count", unit="concurrent streams"),
        ),
        key=("stage", "hour"),
        unlocks="peak load, and whether the next stage fits",
    ),
)

TABLES: Mapping[str, Table] = MappingProxyType({table.name: table for table in _ALL})


def table(name: str) -> Table:
    """Find a table of the contract by its name.

    Raises:
        DataError: the contract has no such table; the nearest is named.

    >>> table("cancellations").required
    ('account', 'cancelled_at')
    >>> table("play")
    Traceback (most recent call last):
    helpers.errors.DataError: the contract has no table 'play'; did you mean 'plays'?
    """
    if name not in TABLES:
        raise DataError(f"the contract has no table {name!r}; {did_you_mean(name, TABLES)}")
    return TABLES[name]


_EXPECTED: Mapping[ColumnType, tuple[str, Callable[[ibis.DataType], bool]]] = {
    "id": ("text or whole numbers", lambda t: t.is_string() or t.is_integer()),
    "text": ("text", lambda t: t.is_string()),
    "time": (
        "instants with a time zone, such as 2026-09-07T20:15:00Z",
        lambda t: t.is_timestamp() and bool(t.timezone),
    ),
    "date": ("days, such as 2026-09-07", lambda t: t.is_date()),
    "number": ("numbers", lambda t: t.is_numeric()),
    "count": ("whole numbers", lambda t: t.is_numeric()),
    "flag": ("true and false", lambda t: t.is_boolean()),
}


def faults(name: str, rows: ibis.Table) -> list[str]:
    """Say where a table's columns break the contract: missing, misspelt, or of another type. No row is read.

    >>> import ibis
    >>> faults("cancellations", ibis.memtable({"account": ["a"], "canceled_at": ["2026-09-07"]}))
    ["table 'cancellations' has no column 'cancelled_at'; did you mean 'canceled_at'?"]
    """
    contract, found = table(name), rows.schema()
    said = [
        f"table {name!r} has no column {column!r}; {did_you_mean(column, found)}"
        for column in contract.required
        if column not in found
    ]
    return said + [
        f"column {c.name!r} of table {name!r} holds {found[c.name]}; expected {_EXPECTED[c.type][0]}"
        for c in contract.columns
        if c.name in found and not _EXPECTED[c.type][1](found[c.name])
    ]


def broken(rows: ibis.Table, column: Column) -> list[tuple[str, Any]]:
    """List what must not be true of a column's values, with the words that say so."""
    values, rules = rows[column.name], []
    if not column.null:
        rules.append(("have no value", values.isnull()))
    if values.type().is_floating():
        rules.append(("are NaN or infinite", values.isnan() | values.isinf()))
    low = 0 if column.type == "count" and column.low is None else column.low
    if low is not None:
        rules.append((f"are below {low:g}", values < low))
    if column.high is not None:
        rules.append((f"are above {column.high:,g}", values > column.high))
    if column.values:
        rules.append((f"are none of {', '.join(column.values)}", values.notin(column.values)))
    return rules
