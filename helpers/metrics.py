"""Metrics as data: what is counted, in which table, over which window, and which direction is good.

A `Metric` holds no code and no design: alpha, power and arms belong to the launch. It can be written in YAML,
hashed and shown in a dictionary; `units` compiles it to a query, `inference` reads it from Moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from helpers.errors import LaunchError, did_you_mean

Kind = Literal["mean", "proportion", "ratio", "count", "quantile", "time_to_event"]
Aggregation = Literal["count", "sum", "mean", "min", "max", "nunique", "any", "value"]
Operator = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in"]
Scalar = str | int | float | bool
Window = Literal["post", "pre"]

UNITS_TABLE = "units"  # the measure is already a column of a table with one row per account


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison that an event must satisfy to be counted; a missing value satisfies none."""

    column: str
    op: Operator = "eq"
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number per account: an aggregate of the account's events in a window, or 0 where it has none.

    `scale` turns the column's unit into the metric's (1/60 for minutes shown as hours).
    """

    table: str
    agg: Aggregation
    column: str | None = None
    where: tuple[Condition, ...] = ()
    scale: float = 1.0

    def name(self, window: Window = "post", days: int | None = None) -> str:
        """Name the column that this measure becomes in the units table; equal measures share one column.

        >>> Measure(table="plays", agg="sum", column="watch_minutes").name()
        'plays_sum_watch_minutes'
        >>> Measure(table="plays", agg="count", where=(Condition(column="recommended", value=True),)).name("pre")
        'plays_count[recommended eq True]_pre'
        """
        if self.agg == "value":
            return str(self.column)
        conditions = " & ".join(f"{c.column} {c.op} {c.value}" for c in self.where)
        name = "_".join(part for part in (self.table, self.agg, self.column) if part)
        name += f"[{conditions}]" if conditions else ""
        return name + ("_pre" if window == "pre" else f"_{days}d" if days else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is measured, as data.

    `denominator` is set for ratios only: the metric is then the sum of numerators over the sum of denominators.
    `window_days` counts from the account's assignment; None means the whole window of the launch. `per_week` divides by
    the weeks in the window. `covariates` are measured before the assignment and may sharpen the estimate: "own" means
    the metric itself in the pre-period, a tuple names other measures, an empty one means none. `cap` is the quantile
    of all accounts, both arms together, above which the account's value is set to that quantile.
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
    owner: str = ""
    version: int = 1

    def column(self, measure: Measure, window: Window = "post") -> str:
        """Name the units column that holds one of this metric's measures: its window and cap are part of the name.

        >>> CATALOGUE["churn_28d"].column(CATALOGUE["churn_28d"].numerator)
        'cancellations_any_28d'
        """
        name = measure.name(window, self.window_days)
        capped = self.cap is not None and window == "post" and measure == self.numerator
        return f"{name}_cap{self.cap:g}" if capped else name

    @property
    def measures(self) -> tuple[Measure, ...]:
        """List the measures after assignment: the numerator and, for a ratio, the denominator."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)

    @property
    def tables(self) -> frozenset[str]:
        """Name the tables without which this metric cannot be measured."""
        return frozenset(m.table for m in self.measures) - {UNITS_TABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A target to reach or a margin not to cross, as a change: "+10%" is relative, "-2pp" and 0.05 are absolute."""

    value: float
    relative: bool
    text: str


def _where(**conditions: Scalar | tuple[Operator, Scalar | tuple[Scalar, ...]]) -> tuple[Condition, ...]:
    """Write conditions briefly: `_where(crashed=True, seconds=("le", 300))`."""
    return tuple(
        Condition(column=column, op=c[0], value=c[1]) if isinstance(c, tuple) else Condition(column=column, value=c)
        for column, c in conditions.items()
    )


_HOURS = Measure(table="plays", agg="sum", column="watch_minutes", scale=1 / 60)
_PLAYS = Measure(table="plays", agg="count")
_SESSIONS = Measure(table="sessions", agg="count")
_DELIBERATE = _where(initiation=("not_in", ("autoplay_next", "autoplay_preview")))

CATALOGUE: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(
            name="hours_per_account_week",
            title="Hours watched per account and week",
            kind="mean",
            numerator=_HOURS,
            better="higher",
            unit="h/week",
            per_week=True,
            definition="All hours played, over all assigned accounts and the weeks of the window. Accounts and weeks "
            "without viewing count as zero, so that the denominator cannot move with the treatment.",
        ),
        Metric(
            name="show_start_rate",
            title="Accounts that started the launch title",
            kind="proportion",
            numerator=Measure(table="plays", agg="any", where=_where(is_launch_title=True)),
            better="higher",
            unit="share",
            covariates=(),  # the control has none; adjusting would give it some
            definition="Assigned accounts with at least one play of the launch title, over all assigned accounts.",
        ),
        Metric(
            name="show_hours_per_account",
            title="Hours of the launch title per account",
            kind="mean",
            numerator=Measure(
                table="plays", agg="sum", column="watch_minutes", where=_where(is_launch_title=True), scale=1 / 60
            ),
            better="higher",
            unit="h",
            covariates=(),
            definition="Hours played of the launch title over all assigned accounts. They are not extra hours: most "
            "of them replace other viewing.",
        ),
        Metric(
            name="discovery_rate",
            title="Plays of titles that the new ranking recommends",
            kind="ratio",
            numerator=Measure(table="plays", agg="count", where=_where(shadow_recommended=True)),
            denominator=_PLAYS,
            better="higher",
            unit="share",
            definition="Plays of titles that the new ranking puts before the account, over all plays. The control arm "
            "is scored by the same ranking in the shadow, so that the metric means the same in both arms.",
        ),
        Metric(
            name="browse_to_play",
            title="Sessions in which playing starts within five minutes",
            kind="ratio",
            numerator=Measure(table="sessions", agg="count", where=_where(seconds_to_first_play=("le", 300))),
            denominator=_SESSIONS,
            better="higher",
            unit="share",
            definition="Sessions with a first play within 300 seconds, over all sessions. A session that never "
            "starts playing counts as one that did not.",
        ),
        Metric(
            name="session_minutes",
            title="Minutes watched per session",
            kind="ratio",
            numerator=Measure(table="plays", agg="sum", column="watch_minutes"),
            denominator=_SESSIONS,
            better="higher",
            unit="min",
            definition="Minutes played over all sessions, those without a play included.",
        ),
        Metric(
            name="opens_per_account_week",
            title="Sessions per account and week",
            kind="count",
            numerator=_SESSIONS,
            better="higher",
            unit="per week",
            per_week=True,
            definition="Sessions over all assigned accounts and the weeks of the window; accounts without one count "
            "as zero. A session is one opening of the app: the log joins openings that no pause separates.",
        ),
        Metric(
            name="churn_28d",
            title="Accounts that cancelled within 28 days",
            kind="proportion",
            numerator=Measure(table="cancellations", agg="any"),
            better="lower",
            unit="share",
            window_days=28,
            covariates=(),
            definition="Accounts with a cancellation, of their own will or for want of payment, in the 28 days from "
            "assignment, over all assigned accounts.",
        ),
        Metric(
            name="start_failure_rate",
            title="Sessions in which playing failed to start",
            kind="ratio",
            numerator=Measure(table="sessions", agg="count", where=_where(start_failed=True)),
            denominator=_SESSIONS,
            better="lower",
            unit="share",
            definition="Sessions with a failed start over all sessions.",
        ),
        Metric(
            name="crash_rate",
            title="Sessions with a crash",
            kind="ratio",
            numerator=Measure(table="sessions", agg="count", where=_where(crashed=True)),
            denominator=_SESSIONS,
            better="lower",
            unit="share",
            definition="Sessions in which the app crashed over all sessions.",
        ),
        Metric(
            name="play_delay_ms",
            title="Delay between pressing play and the first picture",
            kind="ratio",
            numerator=Measure(table="sessions", agg="sum", column="play_delay_ms"),
            denominator=Measure(table="sessions", agg="count", where=_where(play_delay_ms=("ge", 0))),
            better="lower",
            unit="ms",
            definition="Mean play delay over the sessions that have one. A mean hides a slow tail.",
        ),
        Metric(
            name="intentional_start_share",
            title="Plays that somebody chose",
            kind="ratio",
            numerator=Measure(table="plays", agg="count", where=_DELIBERATE),
            denominator=_PLAYS,
            better="higher",
            unit="share",
            definition="Plays not begun by autoplay, over all plays.",
        ),
        Metric(
            name="survey_score",
            title="Survey score of those who answered",
            kind="ratio",
            numerator=Measure(table="surveys", agg="sum", column="score"),
            denominator=Measure(table="surveys", agg="count", where=_where(score=("ge", 0))),
            better="higher",
            unit="points",
            covariates=(),
            definition="Mean score over the answers. It speaks for those who answered, not for those who were silent.",
        ),
        Metric(
            name="regret_rate",
            title="Plays rated down afterwards",
            kind="ratio",
            numerator=Measure(table="feedback", agg="count", where=_where(thumb="down")),
            denominator=Measure(table="plays", agg="count", where=_where(watch_minutes=("ge", 5))),
            better="lower",
            unit="share",
            covariates=(),
            definition="Thumbs down over plays of at least five minutes.",
        ),
        Metric(
            name="tickets_per_account",
            title="Support tickets per account",
            kind="count",
            numerator=Measure(table="tickets", agg="count"),
            better="lower",
            unit="tickets",
            definition="Tickets over all assigned accounts; accounts without one count as zero.",
        ),
    )
}


def get(name: str) -> Metric:
    """Look a metric up in the catalogue.

    Raises:
        LaunchError: no metric has this name; the nearest one is named.

    >>> get("churn_28d").better
    'lower'
    """
    if name not in CATALOGUE:
        raise LaunchError(f"metric {name!r} is not in the catalogue; {did_you_mean(name, CATALOGUE)}")
    return CATALOGUE[name]
