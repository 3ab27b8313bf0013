"""The metric plan as the launch file writes it: names from the catalogue or definitions, and what is asked of each."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from helpers import wording
from helpers.errors import did_you_mean
from helpers.metrics import (
    CATALOGUE,
    UNITS_TABLE,
    After,
    Aggregation,
    Bound,
    Condition,
    Kind,
    Measure,
    Metric,
    Operator,
)
from helpers.results import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A metric and what the launch asks of it.

    `equivalence` is a margin to both sides, above 0: the metric is to stay as it is, give or take so much.
    `drives` names the metric that it is meant to move, `customer` says in the customer's terms what it stands for,
    `family` what a guardrail protects. `detect` is the change that the design must be able to see, where no target
    is set; `baseline` and `sd` (between accounts, what the past explains taken out) are numbers to plan with.
    `target_since` says when people began to be held to it, `history` names a file of its days.
    """

    metric: Metric
    role: Role
    target: Bound | None = None
    margin: Bound | None = None
    equivalence: Bound | None = None
    counter: str = ""
    harm: str = ""
    owner: str = ""
    on_breach: str = ""
    drives: str = ""
    customer: str = ""
    family: str = ""
    detect: Bound | None = None
    baseline: float | None = None
    sd: float | None = None
    target_since: dt.date | None = None
    history: str = ""

    @property
    def limit(self) -> Bound | None:
        """Give what must not be crossed: the margin, or that of an equivalence, which lies on both sides."""
        return self.margin or self.equivalence

    @property
    def asked(self) -> str:
        """Say what is asked of the metric, with its name: "margin +25%"; empty where nothing is."""
        bounds = {"equivalence": self.equivalence, "margin": self.margin, "target": self.target, "detect": self.detect}
        return next((f"{name} {bound.text}" for name, bound in bounds.items() if bound), "")


def _parse_bound(value: object) -> object:
    """Read '+15%' as relative, '-2pp' and 0.05 as absolute."""
    if value is None or isinstance(value, Bound):
        return value
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*(%|pp)?", str(value).strip())
    if match is None:
        raise PydanticCustomError("bound", "write '+10%' (relative), '-2pp' (percentage points) or a plain number")
    number, sign = float(match[1]), match[2]
    return Bound(value=number / 100 if sign else number, relative=sign == "%", text=str(value).strip())


def _parse_band(value: object) -> object:
    """Read '±2%', or '2%' without the sign, as a margin to both sides."""
    if value is None or isinstance(value, Bound):
        return value
    bound = _parse_bound(str(value).strip().removeprefix("±").strip())
    if not isinstance(bound, Bound) or bound.value <= 0 or bound.text.startswith("+"):
        raise PydanticCustomError("band", "an equivalence has a margin to both sides: write '±2%', '±0.5pp' or '±0.1'")
    return replace(bound, text=f"±{bound.text}")


DAY_BY_DAY = {"days", "days_but_last", "returns", "until"}
WITHOUT_COLUMN = {"count", "any", *DAY_BY_DAY}
_OWN = (  # what only a metric of the user's own may say
    "name", "kind", "column", "numerator", "denominator", "better", "unit", "per_week", "quantile", "over", "event",
    "horizon",
)  # fmt: skip
COUNTED = {"gap_minutes", "calendar_days", "also", "per", "at_least"}
AsBound = Annotated[Bound | None, BeforeValidator(_parse_bound)]
AsBand = Annotated[Bound | None, BeforeValidator(_parse_band)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Column = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of the launch file: immutable, and every unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        for key in data if isinstance(data, Mapping) else ():
            if key not in cls.model_fields:
                hint = did_you_mean(str(key), cls.model_fields).replace("{", "{{").replace("}", "}}")
                raise PydanticCustomError("unknown_key", f"unknown key; {hint}", {"key": key})
        return data


class AfterSpec(Section):
    """An order between events as the file writes it: how long after one of which table."""

    table: str
    hours: float = Field(gt=0)
    same: tuple[Column, ...] = ()
    where: dict[str, Any] = Field(default_factory=dict)

    def after(self) -> After:
        """Build the order."""
        return After(table=self.table, hours=self.hours, on=self.same, where=_conditions(self.where))


class MeasureSpec(Section):
    """A measure as the file writes it: a column of the units table, or an aggregate of an event table."""

    table: str = UNITS_TABLE
    agg: Aggregation = "value"
    column: Column | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    scale: float = 1.0
    gap_minutes: float | None = Field(default=None, gt=0)
    calendar_days: tuple[Annotated[int, Field(ge=0)], int] | None = None
    after: AfterSpec | None = None
    also: tuple[MeasureSpec, ...] = ()
    per: MeasureSpec | None = None
    at_least: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, data: object) -> object:
        return {"column": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _sound(self) -> MeasureSpec:
        """Refuse what cannot be computed, or has no meaning."""
        if self.column is None and self.agg not in WITHOUT_COLUMN:
            raise PydanticCustomError("measure", f"aggregation '{self.agg}' needs a 'column'")
        if self.column is not None and self.agg in WITHOUT_COLUMN - {"count", "any"}:
            raise PydanticCustomError("measure", f"aggregation '{self.agg}' is about events and takes no 'column'")
        if (self.table == UNITS_TABLE) != (self.agg == "value"):
            raise PydanticCustomError(
                "measure", "an event table needs an 'agg' (count, sum, ...), the units table none"
            )
        no = {"value": {"where", "after", *COUNTED}, "each": COUNTED}.get(self.agg, set()) & self.model_fields_set
        if no:
            raise PydanticCustomError("measure", f"'{min(no)}' is for numbers that are counted from events")
        if self.gap_minutes is not None and self.agg != "count":
            raise PydanticCustomError("measure", f"'gap_minutes' is for counts; this is a {self.agg}")
        if self.calendar_days and self.agg in DAY_BY_DAY:
            raise PydanticCustomError("measure", f"'calendar_days' is no part of '{self.agg}'; use 'any' or 'count'")
        if self.calendar_days and self.calendar_days[0] > self.calendar_days[1]:
            raise PydanticCustomError("measure", "'calendar_days' are [from, to], the first not after the last")
        if self.scale == 0:
            raise PydanticCustomError("measure", "'scale' is 0, which would erase the measure")
        parts = (*self.also, *([self.per] if self.per else []))
        if any(part.agg in {"value", "each"} for part in parts):
            raise PydanticCustomError("measure", "'also' and 'per' take aggregates of event tables, with an 'agg'")
        for agg in ("until", "any"):
            if any((self.agg == agg) != (other.agg == agg) for other in self.also):
                raise PydanticCustomError("measure", f"'also' joins '{agg}' with '{agg}' only")
        self.measure()
        return self

    def measure(self) -> Measure:
        """Build the measure."""
        return Measure(
            table=self.table,
            agg=self.agg,
            column=self.column,
            where=_conditions(self.where),
            scale=self.scale,
            gap_minutes=self.gap_minutes,
            calendar_days=self.calendar_days,
            after=None if self.after is None else self.after.after(),
            also=tuple(other.measure() for other in self.also),
            per=None if self.per is None else self.per.measure(),
            at_least=self.at_least,
        )


def _conditions(where: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple(condition(column, value) for column, value in where.items())


def condition(column: str, value: Any) -> Condition:
    """Read `crashed: true` as equality, `seconds: {le: 300}` as a comparison, `seconds: missing` as a gap."""
    op: Any = "eq"
    value = {"missing": True} if value == "missing" else value
    if isinstance(value, dict):
        if len(value) != 1 or next(iter(value)) not in get_args(Operator):
            raise PydanticCustomError("where", f"a condition is one of {', '.join(get_args(Operator))}: value")
        op, value = next(iter(value.items()))
    value = tuple(value) if isinstance(value, list) else value
    if op == "missing" and not isinstance(value, bool):
        raise PydanticCustomError("where", "'missing' is true or false")
    scalars = value if isinstance(value, tuple) else (value,)
    wants_list = op in {"in", "not_in"}
    if wants_list != isinstance(value, tuple) or not all(isinstance(s, str | int | float) for s in scalars):
        raise PydanticCustomError(
            "where", "a condition compares with one text, number or flag; in and not_in with a list"
        )
    return Condition(column=column, op=op, value=value)


class Entry(Section):
    """One metric of the plan: a name from the catalogue, or a definition of the user's own; and what is asked of it."""

    metric: str | None = None
    name: Slug | None = None
    title: str | None = None
    kind: Kind | None = None
    column: Column | None = None
    numerator: MeasureSpec | None = None
    denominator: MeasureSpec | None = None
    better: Literal["higher", "lower"] | None = None
    unit: str | None = None
    definition: str | None = None
    window_days: int | None = Field(default=None, ge=1)
    per_week: bool | None = None
    cap: float | None = Field(default=None, gt=0.5, lt=1)
    quantile: float | None = Field(default=None, gt=0, lt=1)
    over: Column | None = None
    event: Column | None = None
    horizon: float | None = Field(default=None, gt=0)
    covariates: tuple[MeasureSpec, ...] | None = None
    target: AsBound = None
    margin: AsBound = None
    equivalence: AsBand = None
    counter: str = ""
    harm: str = ""
    owner: str = ""
    on_breach: str = ""
    drives: str = ""
    customer: str = ""
    family: Literal["", "retention", "satisfaction", "technical", "ecosystem", "support"] = ""
    detect: AsBound = None
    baseline: float | None = None
    sd: float | None = Field(default=None, gt=0)
    target_since: dt.date | None = None
    history: str = ""
    _resolved: Metric = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: object) -> object:
        return {"metric": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _resolve(self) -> Entry:
        self._resolved = self._from_catalogue() if self.metric is not None else self._of_their_own()
        metric = self._resolved
        if metric.cap is not None and metric.kind not in {"mean", "count", "ratio"}:
            raise PydanticCustomError(
                "cap", f"'cap' is for means, counts and ratios; '{metric.name}' is a {metric.kind}"
            )
        if (metric.kind == "ratio") != (metric.denominator is not None):
            raise PydanticCustomError("ratio", f"'{metric.name}': a ratio has a 'denominator', other kinds have none")
        self._check_kind(metric)
        for name in ("target", "margin", "equivalence", "detect"):
            bound: Bound | None = getattr(self, name)
            if bound is not None and metric.unit == "share" and not bound.text.endswith(("%", "pp")):
                raise PydanticCustomError(
                    "bound",
                    f"{name} {bound.text} of '{metric.name}', a share, may mean two things: write '{bound.text}%' for "
                    f"a part of its value, or '{bound.text}pp' for percentage points",
                )
        for words in (metric.title, metric.unit, self.owner):
            if found := wording.unplain(words):
                raise PydanticCustomError(
                    "plain",
                    f"'{metric.name}' is shown with the words '{words}'; the first screen of a page never says "
                    f"'{found}', so choose other words",
                )
        if self.history and self.target_since is None:
            raise PydanticCustomError("history", f"'history' of '{metric.name}' needs 'target_since', a date")
        good = 1 if metric.better == "higher" else -1
        if self.target is not None and self.target.value * good <= 0:
            raise PydanticCustomError(
                "target",
                f"target {self.target.text} points the wrong way: for '{metric.name}' {metric.better} is better",
            )
        if self.margin is not None and self.margin.value * good >= 0:
            raise PydanticCustomError(
                "margin",
                f"margin {self.margin.text} points the wrong way: it is the harm that is just not accepted, "
                f"and for '{metric.name}' {metric.better} is better",
            )
        if self.equivalence is not None and (self.target is not None or self.margin is not None):
            raise PydanticCustomError(
                "equivalence",
                f"'{metric.name}' is to stay within {self.equivalence.text}: 'equivalence' stands instead of 'target' "
                "and 'margin', not beside them",
            )
        return self

    @staticmethod
    def _check_kind(metric: Metric) -> None:
        """Refuse a kind that its measures or its other words do not fit."""
        kind, measures, said = metric.kind, metric.measures, f"'{metric.name}' is a {metric.kind}:"
        if (kind == "quantile") != (metric.quantile is not None):
            raise PydanticCustomError("kind", f"{said} 'quantile: 0.95' says which, for the kind 'quantile' alone")
        if (kind in {"gini", "coverage"}) != (metric.over is not None):
            raise PydanticCustomError(
                "kind", f"{said} 'over' names the column that shares, for gini and coverage alone"
            )
        plain = metric.numerator.simple and metric.numerator.gap_minutes is None
        if metric.over is not None and not (plain and metric.numerator.agg in {"sum", "count"}):
            raise PydanticCustomError("kind", f"{said} its numerator is a plain 'sum' or 'count' of events")
        if kind != "quantile" and any(m.agg == "each" for m in measures):
            raise PydanticCustomError("kind", f"{said} 'each' stands for the events' own values, for quantiles alone")
        if kind == "time_to_event" and metric.numerator.agg not in {"until", "value"}:
            raise PydanticCustomError("kind", f"{said} its numerator counts the days 'until' an event")
        Entry._check_time(metric, said)
        if any(m.scale < 0 for m in measures):
            raise PydanticCustomError("kind", f"{said} a negative 'scale' is for measures under 'also'")

    @staticmethod
    def _check_time(metric: Metric, said: str) -> None:
        """Refuse a time to an event of which nobody knows who was censored, and words that are for such times alone."""
        time, own = metric.numerator, metric.numerator.table == UNITS_TABLE
        if metric.kind != "time_to_event" or not own:
            name = "event" if metric.event else "horizon" if metric.horizon else ""
            if name:
                raise PydanticCustomError("kind", f"{said} '{name}' is for a time_to_event that is a column of its own")
        elif metric.event is None:
            raise PydanticCustomError(
                "kind",
                f"{said} 'event' must name the column that says whether the event came (1), or the account was last "
                "seen without it (0)",
            )
        elif metric.covariates or metric.window_days:
            name = "covariates" if metric.covariates else "window_days"
            raise PydanticCustomError(
                "kind", f"{said} '{name}' is not for times with an 'event'; 'horizon' says up to when they are compared"
            )
        if metric.kind == "time_to_event" and (time.at_least is not None or time.per is not None or metric.per_week):
            raise PydanticCustomError("kind", f"{said} 'at_least', 'per' and 'per_week' would make it another number")

    def _given(self, *names: str) -> dict[str, Any]:
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def _from_catalogue(self) -> Metric:
        own = self._given(*_OWN)
        if own:
            raise PydanticCustomError(
                "entry", f"'metric' takes a definition from the catalogue; '{min(own)}' belongs to a metric of your own"
            )
        if self.metric not in CATALOGUE:
            raise PydanticCustomError(
                "catalogue", f"no metric '{self.metric}' in the catalogue; {did_you_mean(str(self.metric), CATALOGUE)}"
            )
        changed = self._given("title", "definition", "window_days", "cap")
        if self.covariates is not None:
            changed["covariates"] = tuple(c.measure() for c in self.covariates)
        return replace(CATALOGUE[self.metric], **changed)

    def _of_their_own(self) -> Metric:
        if self.name is None or self.kind is None or self.better is None:
            missing = next(n for n in ("name", "kind", "better") if getattr(self, n) is None)
            raise PydanticCustomError(
                "entry", f"needs 'metric: <name in the catalogue>', or a definition of its own; '{missing}' is missing"
            )
        if (self.column is None) == (self.numerator is None):
            raise PydanticCustomError("entry", f"'{self.name}' needs either 'column' or 'numerator'")
        numerator = (
            self.numerator.measure() if self.numerator else Measure(table=UNITS_TABLE, agg="value", column=self.column)
        )
        metric = Metric(
            name=self.name,
            title=self.title or self.name.replace("_", " ").capitalize(),
            kind=self.kind,
            numerator=numerator,
            denominator=self.denominator.measure() if self.denominator else None,
            better=self.better,
            unit=self.unit if self.unit is not None else "share" if self.kind == "proportion" else "",
            definition=self.definition or "",
            window_days=self.window_days,
            per_week=bool(self.per_week),
            covariates=tuple(c.measure() for c in self.covariates or ()),
            cap=self.cap,
            quantile=self.quantile,
            over=self.over,
            event=None if self.event is None else Measure(table=UNITS_TABLE, agg="value", column=self.event),
            horizon=self.horizon,
            owner=self.owner,
        )
        has_past = self.covariates is None and metric.averaged and numerator.table != UNITS_TABLE
        return replace(metric, covariates="own") if has_past else metric

    def planned(self, role: Role) -> Planned:
        """Join the metric with what the launch asks of it."""
        return Planned(
            metric=self._resolved,
            role=role,
            target=self.target,
            margin=self.margin,
            equivalence=self.equivalence,
            counter=self.counter,
            harm=self.harm,
            owner=self.owner,
            on_breach=self.on_breach,
            drives=self.drives,
            customer=self.customer,
            family=self.family,
            detect=self.detect,
            baseline=self.baseline,
            sd=self.sd,
            target_since=self.target_since,
            history=self.history,
        )


class Plan(Section):
    """The metrics by layer: one north star, what drives it, what must not break, and what says whether it works."""

    north_star: Entry
    supporting: tuple[Entry, ...] = ()
    guardrails: tuple[Entry, ...] = ()
    operational: tuple[Entry, ...] = ()
    satisfaction: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        names = [p.metric.name for p in self.planned]
        star = self.planned[0].metric
        if not star.averaged or star.kind == "time_to_event":
            raise PydanticCustomError(
                "plan", f"the north star is a mean, proportion, count or ratio, not a {star.kind}"
            )
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise PydanticCustomError("plan", f"metric '{twice[0]}' stands in the plan twice; one role each")
        for p in self.planned:
            if p.role == "guardrail" and p.limit is None:
                raise PydanticCustomError(
                    "plan", f"guardrail '{p.metric.name}' has no 'margin': how much harm is just not accepted?"
                )
            if p.role in ("north_star", "supporting") and p.equivalence:
                raise PydanticCustomError(
                    "plan",
                    f"'{p.metric.name}' is a success metric, and success is a gain; what has to stay within "
                    f"{p.equivalence.text} belongs under 'guardrails', 'operational' or 'satisfaction'",
                )
        return self

    @cached_property
    def planned(self) -> tuple[Planned, ...]:
        """List all metrics with their role, north star first."""
        layers: tuple[tuple[Role, tuple[Entry, ...]], ...] = (
            ("north_star", (self.north_star,)),
            ("supporting", self.supporting),
            ("guardrail", self.guardrails),
            ("operational", self.operational),
            ("satisfaction", self.satisfaction),
        )
        return tuple(entry.planned(role) for role, entries in layers for entry in entries)
