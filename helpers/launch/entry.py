"""The metric plan as the launch file writes it: names from the catalogue or definitions, and what is asked of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from helpers.errors import did_you_mean
from helpers.metrics import CATALOGUE, UNITS_TABLE, Aggregation, Bound, Condition, Kind, Measure, Metric, Operator
from helpers.results import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A metric and what the launch asks of it.

    `drives` names the metric that it is meant to move, `customer` says in the customer's terms what it stands for,
    `family` what a guardrail protects. `detect` is the change that the design must be able to see, where no target
    is set; `baseline` and `sd` (between accounts, what the past explains taken out) are numbers to plan with.
    """

    metric: Metric
    role: Role
    target: Bound | None = None
    margin: Bound | None = None
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


def _parse_bound(value: object) -> object:
    """Read '+15%' as relative, '-2pp' and 0.05 as absolute."""
    if value is None or isinstance(value, Bound):
        return value
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*(%|pp)?", str(value).strip())
    if match is None:
        raise PydanticCustomError("bound", "write '+10%' (relative), '-2pp' (percentage points) or a plain number")
    number, sign = float(match[1]), match[2]
    return Bound(value=number / 100 if sign else number, relative=sign == "%", text=str(value).strip())


AsBound = Annotated[Bound | None, BeforeValidator(_parse_bound)]
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


class MeasureSpec(Section):
    """A measure as the file writes it: a column of the units table, or an aggregate of an event table."""

    table: str = UNITS_TABLE
    agg: Aggregation = "value"
    column: Column | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    scale: float = Field(default=1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, data: object) -> object:
        return {"column": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _column_given(self) -> MeasureSpec:
        if self.column is None and self.agg not in {"count", "any"}:
            raise PydanticCustomError("measure", f"aggregation '{self.agg}' needs a 'column'")
        if (self.table == UNITS_TABLE) != (self.agg == "value"):
            raise PydanticCustomError(
                "measure", "an event table needs an 'agg' (count, sum, ...), the units table none"
            )
        self.measure()
        return self

    def measure(self) -> Measure:
        """Build the measure."""
        return Measure(
            table=self.table,
            agg=self.agg,
            column=self.column,
            where=tuple(condition(c, v) for c, v in self.where.items()),
            scale=self.scale,
        )


def condition(column: str, value: Any) -> Condition:
    """Read `crashed: true` as equality and `seconds: {le: 300}` as a comparison."""
    op: Any = "eq"
    if isinstance(value, dict):
        if len(value) != 1 or next(iter(value)) not in get_args(Operator):
            raise PydanticCustomError("where", f"a condition is one of {', '.join(get_args(Operator))}: value")
        op, value = next(iter(value.items()))
    value = tuple(value) if isinstance(value, list) else value
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
    covariates: tuple[MeasureSpec, ...] | None = None
    target: AsBound = None
    margin: AsBound = None
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
    _resolved: Metric = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: object) -> object:
        return {"metric": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _resolve(self) -> Entry:
        self._resolved = self._from_catalogue() if self.metric is not None else self._of_their_own()
        metric = self._resolved
        if metric.cap is not None and metric.kind not in {"mean", "count"}:
            raise PydanticCustomError("cap", f"'cap' is for means and counts; '{metric.name}' is a {metric.kind}")
        if (metric.kind == "ratio") != (metric.denominator is not None):
            raise PydanticCustomError("ratio", f"'{metric.name}': a ratio has a 'denominator', other kinds have none")
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
        return self

    def _given(self, *names: str) -> dict[str, Any]:
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def _from_catalogue(self) -> Metric:
        own = self._given("name", "kind", "column", "numerator", "denominator", "better", "unit", "per_week")
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
        covariates: tuple[Measure, ...] | Literal["own"] = () if numerator.table == UNITS_TABLE else "own"
        if self.covariates is not None:
            covariates = tuple(c.measure() for c in self.covariates)
        return Metric(
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
            covariates=covariates,
            cap=self.cap,
            owner=self.owner,
        )

    def planned(self, role: Role) -> Planned:
        """Join the metric with what the launch asks of it."""
        return Planned(
            metric=self._resolved,
            role=role,
            target=self.target,
            margin=self.margin,
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
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise PydanticCustomError("plan", f"metric '{twice[0]}' stands in the plan twice; one role each")
        for p in self.planned:
            if p.role == "guardrail" and p.margin is None:
                raise PydanticCustomError(
                    "plan", f"guardrail '{p.metric.name}' has no 'margin': how much harm is just not accepted?"
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
