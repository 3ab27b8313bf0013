"""The words in which a metric is written: conditions, measures, and what is made of them.

A `Metric` holds no code and no design: alpha, power and arms belong to the launch. It can be written in YAML,
hashed and shown in a dictionary; `units` compiles it to a query, `inference` reads it from Moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["mean", "proportion", "ratio", "count", "quantile", "time_to_event", "gini", "coverage"]
Aggregation = Literal[
    "count", "sum", "mean", "min", "max", "nunique", "any", "days", "days_but_last", "returns", "until", "each", "value"
]
Operator = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "missing"]
Scalar = str | int | float | bool
Window = Literal["post", "pre"]

UNITS_TABLE = "units"  # the measure is already a column of a table with one row per account


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison that an event must satisfy to be counted; a missing value satisfies none but `missing`."""

    column: str
    op: Operator = "eq"
    value: Scalar | tuple[Scalar, ...]

    def __str__(self) -> str:
        return f"{self.column} {self.op} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """An order between events: one of another table came first, by the same account and with the same `on` columns.

    An event counts if such a one lies at most `hours` before it, or at the same instant.
    """

    table: str
    hours: float
    on: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        conditions = "".join(f" & {c}" for c in self.where)
        return f"{self.hours:g} h after {self.table} of same {' '.join(('account', *self.on))}{conditions}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number per account: an aggregate of the account's events in a window, or 0 where it has none.

    `days` counts days with an event: spans of 24 hours from the account's first instant in the window, so that no time
    zone matters. `days_but_last` leaves out the window's last day, whose morrow nobody has seen; `returns` counts
    those of them that are followed by another day with an event. `until` is the days that pass before the first event;
    without one it is the length of the window. `each` stands for the events' own values, not for a number per account.
    `calendar_days` counts only events on these days of the calendar (UTC), both included; the day of the account's
    first instant in the window is day 0, so that `any` on (7, 7) is the D7 retention of a dashboard.

    `scale` turns the column's unit into the metric's (1/60 for minutes shown as hours). `gap_minutes` counts an event
    only so long after the account's previous one. `also` names other measures that count too, each times its scale:
    they are added; with `any` either of them will do, with `until` the earliest. `per` divides by another measure of
    the same account; where that is 0, so is the result. `at_least` turns the number into 1 where it is reached, else 0.
    """

    table: str
    agg: Aggregation
    column: str | None = None
    where: tuple[Condition, ...] = ()
    scale: float = 1.0
    gap_minutes: float | None = None
    calendar_days: tuple[int, int] | None = None
    after: After | None = None
    also: tuple[Measure, ...] = ()
    per: Measure | None = None
    at_least: float | None = None

    @property
    def base(self) -> Measure:
        """Strip what is computed from other columns of the same account: one aggregate of one table remains."""
        return replace(self, scale=1.0, also=(), per=None, at_least=None)

    @property
    def bases(self) -> Iterator[Measure]:
        """Yield every aggregate that the number is computed from."""
        yield self.base
        for other in (*self.also, *([self.per] if self.per else [])):
            yield from other.bases

    @property
    def simple(self) -> bool:
        """Say whether the number is one aggregate of one table, and nothing is computed from it."""
        return not self.also and self.per is None and self.at_least is None

    @property
    def adds_up(self) -> bool:
        """Say whether the number is a sum over events to which each adds its own, whatever the others are."""
        return self.simple and self.agg in {"sum", "count"} and not (self.gap_minutes or self.calendar_days)

    def name(self, window: Window = "post", days: int | None = None) -> str:
        """Name the column that this measure becomes in the units table; equal measures share one column.

        >>> Measure(table="plays", agg="sum", column="watch_minutes").name()
        'plays_sum_watch_minutes'
        >>> Measure(table="plays", agg="count", where=(Condition(column="recommended", value=True),)).name("pre")
        'plays_count[recommended eq True]_pre'
        """
        return str(self) + ("" if self.agg == "value" else "_pre" if window == "pre" else f"_{days}d" if days else "")

    def __str__(self) -> str:
        if self.agg == "value":
            return str(self.column)
        said = [str(c) for c in self.where]
        said += [f"gap {self.gap_minutes:g} min"] if self.gap_minutes else []
        said += ["calendar days {} to {}".format(*self.calendar_days)] if self.calendar_days else []
        said += [str(self.after)] if self.after else []
        name = "_".join(part for part in (self.table, self.agg, self.column) if part)
        name += f"[{' & '.join(said)}]" if said else ""
        name += "".join(f" + {other.scale:g} {other}" for other in self.also)
        name += f" per {self.per}" if self.per else ""
        return name + (f" >= {self.at_least:g}" if self.at_least is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is measured, as data.

    `denominator` is set for ratios only: the metric is then the sum of numerators over the sum of denominators.
    `window_days` counts from the account's assignment; None means the whole window of the launch. `per_week` divides by
    the weeks in the window. `covariates` are measured before the assignment and may sharpen the estimate: "own" means
    the metric itself in the pre-period, a tuple names other measures, an empty one means none. `cap` is the quantile
    of the accounts above 0, both arms together, to which an account's greater value is set. Of a ratio the numerator is
    capped, and the denominator shrinks by the same factor, so that the account keeps its own ratio and loses weight.
    `quantile` is for the kind of that name; `over`
    names the column whose values share the whole of an arm, for Gini and coverage.

    A time to an event is compared by its restricted mean. From event tables it is `until`, and every account is watched
    to the end of the window. On an own table `event` is the column that says whether the event came (1) or the account
    was last seen without it (0: censored); `horizon`, in the time's unit, is up to when the mean is taken.
    """

    name: str
    title: str
    kind: Kind
    numerator: Measure
    denominator: Measure | None = None
    better: Literal["higher", "lower"]
    unit: str
    definition: str = ""
    window_days: int | None = None
    per_week: bool = False
    covariates: tuple[Measure, ...] | Literal["own"] = "own"
    cap: float | None = None
    quantile: float | None = None
    over: str | None = None
    event: Measure | None = None
    horizon: float | None = None
    owner: str = ""
    version: int = 1

    def column(self, measure: Measure, window: Window = "post") -> str:
        """Name the units column that holds one of this metric's measures: its window and cap are part of the name.

        >>> from helpers import metrics
        >>> metrics.get("churn_28d").column(metrics.get("churn_28d").numerator)
        'cancellations_any_28d'
        """
        name = measure.name(window, self.window_days)
        if self.cap is None or window == "pre" or measure not in self.measures:
            return name
        by = "" if measure == self.numerator else f"_with_{self.numerator.name(window, self.window_days)}"
        return f"{name}_cap{self.cap:g}{by}"

    @property
    def measures(self) -> tuple[Measure, ...]:
        """List the measures after assignment: the numerator and, where there are some, denominator and event."""
        return tuple(m for m in (self.numerator, self.denominator, self.event) if m is not None)

    @property
    def tables(self) -> frozenset[str]:
        """Name the tables without which this metric cannot be measured."""
        bases = [base for measure in self.measures for base in measure.bases]
        return frozenset({b.table for b in bases} | {b.after.table for b in bases if b.after}) - {UNITS_TABLE}

    @property
    def per_account(self) -> bool:
        """Say whether it is read from a number for each account, as opposed to the events' values or a whole arm."""
        return self.numerator.agg != "each" and self.kind not in {"gini", "coverage"} and self.event is None

    @property
    def averaged(self) -> bool:
        """Say whether Moments tell it: a mean over accounts, or the ratio of two."""
        return self.kind in {"mean", "proportion", "count", "ratio", "time_to_event"} and self.event is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A target to reach or a margin not to cross, as a change: "+10%" is relative, "-2pp" and 0.05 are absolute."""

    value: float
    relative: bool
    text: str


def where(**conditions: Scalar | tuple[Operator, Scalar | tuple[Scalar, ...]]) -> tuple[Condition, ...]:
    """Write conditions briefly: `where(crashed=True, seconds=("le", 300))`."""
    return tuple(
        Condition(column=column, op=c[0], value=c[1]) if isinstance(c, tuple) else Condition(column=column, value=c)
        for column, c in conditions.items()
    )
