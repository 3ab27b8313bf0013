"""The launch: one validated YAML file that says what is asked, of which data, and how the answer is read."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from helpers.errors import LaunchError, ParameterError, did_you_mean
from helpers.launch import strict_yaml
from helpers.launch.alpha import Alpha, Alphas
from helpers.launch.context import (
    Actions,
    Context,
    Event,
    Frame,
    Milestone,
    Outliers,
    Randomisation,
    Risk,
    Rollout,
    Share,
    Show,
)
from helpers.launch.entry import Column, Plan, Planned, Section, Slug
from helpers.launch.sampling import Arm, Sampling
from helpers.metrics import CATALOGUE, UNITS_TABLE
from helpers.results import SUCCESS

_PROSE = {  # words about a metric, and numbers to plan with, that change no conclusion
    "title", "definition", "owner", "harm", "on_breach", "drives", "customer", "family", "baseline", "sd",
}  # fmt: skip
_WORDS = {  # parts of the launch that change none either
    "title", "question", "decision_owner", "service", "context", "risks", "calendar", "rollout", "overrides",
}  # fmt: skip


class Data(Section):
    """Where the data are: the simulator, a folder, a DuckDB file, an Ibis URL, or one table with a row per account.

    On an own table, `weight` is the column that says how many accounts of the population each one stands for, `stratum`
    that of the strata within which the arms were drawn; event tables have both in `assignments`. `scenario` says what
    the simulator plants: what is tested, then what goes with it, as in `show_premiere+holiday`.
    """

    source: str | None = None
    units: str | None = None
    account: Column = "account"
    arm: Column = "arm"
    weight: Column | None = None
    stratum: Column | None = None
    missing: Literal["refuse", "zero", "drop"] = "refuse"
    faults: Literal["refuse", "drop", "keep"] = "refuse"
    scenario: str = "show_premiere"
    accounts: int = Field(default=400_000, ge=100, le=50_000_000)
    seed: int = Field(default=20261121, ge=0)

    @model_validator(mode="after")
    def _one_place(self) -> Data:
        if self.source is None and self.units is None:
            raise PydanticCustomError(
                "place", "needs 'source' (event tables) or 'units' (one table, a row per account)"
            )
        simulator_only = {"scenario", "accounts", "seed"} & self.model_fields_set
        if self.source != "simulate" and simulator_only:
            raise PydanticCustomError("place", f"'{min(simulator_only)}' is for 'source: simulate' only")
        if self.units is None and {"weight", "stratum"} & self.model_fields_set:
            raise PydanticCustomError(
                "place", "'weight' and 'stratum' are for 'units' only; event tables have their own"
            )
        if self.units is not None and "faults" in self.model_fields_set:
            raise PydanticCustomError("place", "'faults' is for event tables; for one table, see 'missing'")
        if self.source == "simulate" and self.units is not None:
            raise PydanticCustomError("place", "'units' and 'source: simulate' exclude one another")
        return self


class Arms(Section):
    """The names that the arms have in the data; several treatments are a list."""

    control: Arm
    treatment: Annotated[
        tuple[Arm, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,)), Field(min_length=1)
    ]

    @model_validator(mode="after")
    def _distinct(self) -> Arms:
        if len({self.control, *self.treatment}) != 1 + len(self.treatment):
            raise PydanticCustomError("arms", "every arm needs a name of its own")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Name all arms, control first."""
        return (self.control, *self.treatment)


class Dates(Section):
    """The window: `pre_days` before `start`, and `days` from it (or up to and including `end`)."""

    start: dt.date
    days: int | None = Field(default=None, ge=1, le=730)
    end: dt.date | None = None
    pre_days: int = Field(default=28, ge=0, le=730)

    @model_validator(mode="after")
    def _one_end(self) -> Dates:
        if (self.days is None) == (self.end is None):
            raise PydanticCustomError("dates", "needs either 'days' or 'end', and not both")
        if self.end is not None and self.end < self.start:
            raise PydanticCustomError("dates", f"'end' ({self.end}) is before 'start' ({self.start})")
        return self

    @property
    def post_days(self) -> int:
        """Count the days after the start."""
        return self.days if self.days is not None else ((self.end or self.start) - self.start).days + 1


class DecisionRule(Actions):
    """How the answer is read: error rates, correction, on which days it is looked at, and what is then done.

    `adjust` takes out what each metric's covariates explain; `poststratify` names attributes, known before the
    assignment, whose mix is made the same in both arms. `archive` names a file of past launches. `stage` is the last
    where no larger group is left to go on to: what is good enough is then shipped.
    """

    alpha: Alphas = Alpha()
    power: float = Field(default=0.8, gt=0.5, lt=1)
    correction: Literal["holm", "bonferroni", "none"] = "holm"
    adjust: bool = True
    poststratify: tuple[Column, ...] = ()
    looks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    archive: str = ""
    stage: Literal["early", "last"] = "early"

    @model_validator(mode="after")
    def _looks_in_order(self) -> DecisionRule:
        if list(self.looks) != sorted(set(self.looks)):
            raise PydanticCustomError("looks", "the days of the looks must rise")
        return self


class Privacy(Section):
    """On which basis the data are used, for how long, and how small a group may be shown."""

    legal_basis: str = ""
    retention_days: int | None = Field(default=None, ge=1)
    minors: Literal["excluded", "included"] = "excluded"
    k: int = Field(default=10, ge=1)


class Launch(Section):
    """One launch: what is asked, of which data, and how the answer is read.

    `folder` is where the file stands: relative paths in `data` start there. With a `context` it is a full plan, which
    the linter holds to its rules; without, it is a reading of data, and its pages say so.
    """

    name: Slug
    title: str = ""
    service: Literal["netflix", "prime"] = "netflix"
    question: str = ""
    decision_owner: str = ""
    data: Data
    arms: Arms
    dates: Dates | None = None
    sampling: Sampling | None = None
    metrics: Plan
    segments: tuple[Column, ...] = ()
    decision: DecisionRule = DecisionRule()
    privacy: Privacy = Privacy()
    context: Context | None = None
    show: Show | None = None
    unit: Randomisation | None = None
    frame: Frame | None = None
    risks: tuple[Risk, ...] = ()
    outliers: Outliers | None = None
    calendar: tuple[Event, ...] | None = None
    rollout: Rollout | None = None
    comparables: dict[Milestone, Annotated[tuple[Share, ...], Field(min_length=4)]] = Field(default_factory=dict)
    overrides: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    _folder: Path = PrivateAttr(default=Path())
    _horizon: int = PrivateAttr(default=0)
    _lines: strict_yaml.Lines = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _parts_agree(self) -> Launch:
        if self.dates is None and self.decision.looks:
            raise PydanticCustomError("looks", "'looks' are days of the launch: they need 'dates'")
        if self.dates is None and self.data.source is not None:
            raise PydanticCustomError("dates", "event tables need 'dates' with 'start' and 'days'")
        if self.dates and self.decision.looks and self.decision.looks[-1] > self.dates.post_days:
            raise PydanticCustomError(
                "looks", f"the last look is on day {self.decision.looks[-1]}, the launch ends on day {self.days}"
            )
        if self.decision.looks and self.data.units is not None and self.data.source is None:
            raise PydanticCustomError(
                "looks", "'looks' need event tables: a table with a row per account does not say which look it is for"
            )
        self._check_past()
        self._check_outliers()
        if self.sampling is not None and self.sampling.later and self.decision.stage == "last":
            raise PydanticCustomError(
                "stage", "'decision.stage' is the last, but 'sampling.later' keeps accounts for later stages"
            )
        if self.sampling is not None:
            for arm in sorted(set(self.sampling.n) ^ set(self.arms.names)):
                raise PydanticCustomError(
                    "sampling", f"'sampling.n' and 'arms' must name the same arms; '{arm}' stands in only one of them"
                )
            treated = [self.sampling.n[arm] for arm in self.arms.treatment]
            if self.sampling.match and (len(treated) > 1 or self.sampling.n[self.arms.control] % treated[0]):
                raise PydanticCustomError(
                    "match", "a matched control needs one treatment, and one, two, three … times its accounts"
                )
        self._check_attributes()
        if self.data.source == "simulate":
            if self.sampling is None or self.dates is None:
                raise PydanticCustomError("sampling", "a simulated launch needs 'sampling' with 'n' for every arm")
            if sum(self.sampling.n.values()) > self.data.accounts:
                raise PydanticCustomError(
                    "sampling",
                    f"the arms ask for {sum(self.sampling.n.values()):,} accounts, "
                    f"the service has {self.data.accounts:,}",
                )
        return self

    def unfit(self, name: str) -> str:
        """Say why a column cannot be an attribute that was known before the assignment; nothing where it may be."""
        own = [p.metric for p in self.plan]
        measured = {b.column for m in own for one in m.measures for b in one.bases if b.table == UNITS_TABLE}
        measured |= {str(m.event.column) for m in own if m.event}
        named = (m.covariates for m in own if isinstance(m.covariates, tuple))
        past = {c.column for measures in named for c in measures if c.table == UNITS_TABLE}
        faults = {
            "which is measured after the assignment": name in measured,
            "which is a covariate, and no attribute with a few levels": name in past,
            "which tells accounts or arms apart": name in {self.data.account, self.data.arm, self.data.weight},
        }
        return next((fault for fault, found in faults.items() if found), "")

    def _check_attributes(self) -> None:
        """Refuse attributes that cannot have been known before the assignment, or that stand for something else."""
        for key, names in (("segments", self.segments), ("decision.poststratify", self.decision.poststratify)):
            for name in names:
                if fault := "twice" if names.count(name) > 1 else self.unfit(name):
                    raise PydanticCustomError(
                        "attributes",
                        f"'{key}' names '{name}', {fault}; name attributes known before the assignment, each once, "
                        "such as a device or a country",
                    )

        if self.unit and self.unit.cluster:
            fault = self.unfit(self.unit.cluster)
            other = self.sampling.household if self.sampling and self.unit.randomised == "household" else None
            if not fault and other not in (None, self.unit.cluster):
                fault = f"but 'sampling.household' names '{other}'"
            if fault:
                raise PydanticCustomError("cluster", f"'unit.cluster' names '{self.unit.cluster}', {fault}")

    def _check_outliers(self) -> None:
        """Refuse rules about extreme accounts that contradict one another, or that nothing could be held against."""
        rule, planned = self.outliers or Outliers(), {p.metric.name: p.metric for p in self.plan}
        for name in rule.impossible_above:
            if name not in planned or planned[name].kind not in ("mean", "count"):
                hint = f"it is a {planned[name].kind}" if name in planned else did_you_mean(name, planned)
                raise PydanticCustomError(
                    "outliers", f"'impossible_above' names '{name}', which is no mean or count of the plan; {hint}"
                )
        measured = {base.column for m in planned.values() for measure in m.measures for base in measure.bases}
        seen = dict.fromkeys(measured if self.data.units else (), "what the plan measures") | {self.data.arm: "the arm"}
        for name in (r if isinstance(r, str) else r.column for r in rule.remove):
            if name in seen:
                raise PydanticCustomError(
                    "outliers",
                    f"'remove' names '{name}', {seen[name]}; name what was known of an account before it was assigned",
                )
        past = {str(m.column) for one in planned.values() if one.covariates != "own" for m in one.covariates}
        if rule.heavy_by and rule.heavy_by not in past:
            raise PydanticCustomError(
                "outliers",
                f"'heavy_by' names '{rule.heavy_by}', which is no covariate of the plan; "
                f"{did_you_mean(rule.heavy_by, past)}",
            )
        for metric in (m for m in planned.values() if m.cap is not None):
            days, before = metric.window_days or self.days, self.pre_days if metric.covariates == "own" else 0
            if rule.heavy_viewers_are_target:
                raise PydanticCustomError(
                    "outliers",
                    f"'{metric.name}' has a 'cap', but 'heavy_viewers_are_target' keeps heavy viewers as they are; "
                    "drop one of the two",
                )
            if rule.caps == "before" and days != before:
                raise PydanticCustomError(
                    "outliers",
                    f"'caps: before' needs '{metric.name}' over as many days before the launch as after it; "
                    f"there are {before} and {days}",
                )

    def _check_past(self) -> None:
        """Refuse files of the past that are not there, and targets that have no past."""
        files = {"archive": self.decision.archive} | {f"history of '{p.metric.name}'": p.history for p in self.plan}
        for what, file in files.items():
            if file and not (self.folder / file).is_file():
                raise PydanticCustomError("past", f"{what}: there is no file {self.folder / file}")
        for p in self.plan:
            name, since = p.metric.name, p.target_since
            if since and self.dates and since > self.dates.start:
                raise PydanticCustomError(
                    "past",
                    f"'{name}' is a target since {since}, after the start ({self.dates.start}): nothing is before",
                )
            if since and not p.history and self.data.source is None:
                raise PydanticCustomError(
                    "past",
                    f"'{name}' is a target since {since}; a table of accounts has no days: name a 'history' file",
                )

    def model_post_init(self, context: Any) -> None:
        """Remember where the file stands, and on which line each key."""
        self._folder = (context or {}).get("folder", Path())
        self._lines = (context or {}).get("lines", {})

    def line(self, *at: str | int) -> int:
        """Say on which line of the file a key stands, or the nearest key around it; 0 where it has none of them."""
        return strict_yaml.line(self._lines, at)

    def judged(self, treatment: str = "") -> str:
        """Name the arm to judge: this one, or the first treatment where none is named.

        Raises:
            ParameterError: it is no treatment of this launch.
        """
        arm = treatment or self.arms.treatment[0]
        if arm not in self.arms.treatment:
            hint = "it is the control" if arm == self.arms.control else did_you_mean(arm, self.arms.treatment)
            raise ParameterError(f"treatment {arm!r} is no treatment of {self.name}; {hint}")
        return arm

    @property
    def plan(self) -> tuple[Planned, ...]:
        """List all metrics with their role, north star first."""
        return self.metrics.planned

    @property
    def titles(self) -> dict[str, str]:
        """Map each metric of the catalogue and the plan to its title, for tables."""
        known = {m.name: m.title for m in CATALOGUE.values()}
        return known | {p.metric.name: p.metric.title for p in self.plan}

    def sliced_by(self, *segments: str) -> Launch:
        """Give the same launch with other segments, for a look at what it does not declare."""
        return self.model_copy(update={"segments": segments})

    def successes(self, among: Sequence[Planned] | None = None) -> int:
        """Count the success metrics that share alpha, of the plan or of those that can be measured; at least 1."""
        planned = self.plan if among is None else among
        return 1 if self.decision.correction == "none" else max(1, sum(p.role in SUCCESS for p in planned))

    def alpha(self, p: Planned, among: Sequence[Planned] | None = None) -> float:
        """Give the two-sided error rate at which it is tested whether a metric moved at all.

        Success metrics share alpha in equal parts (Bonferroni's; Holm's procedure begins there, and may end with more).
        Every other metric, and every margin, has all of it.
        """
        return self.decision.alpha.of(p.role) / (self.successes(among) if p.role in SUCCESS else 1)

    def error(self, metric: str = "") -> float:
        """Give the two-sided error rate of a metric's role, shared by nobody; that of success without such a metric."""
        return self.decision.alpha.of(next((p.role for p in self.plan if p.metric.name == metric), "north_star"))

    @property
    def cluster(self) -> str | None:
        """Name the column that says which accounts were drawn together; None where each was drawn by itself."""
        if self.unit is None or not self.unit.together:
            return None
        household = self.sampling.household if self.sampling and self.unit.randomised == "household" else None
        return self.unit.cluster or household or self.unit.randomised

    @property
    def attributes(self) -> tuple[str, ...]:
        """Name what describes accounts before the assignment: segments, post-strata, the flag that the launch needs."""
        needs = [self.frame.needs] if self.frame and self.frame.needs else []
        return tuple(dict.fromkeys([*self.segments, *self.decision.poststratify, *needs]))

    @property
    def days(self) -> int:
        """Count the days after the start, at one of its looks those so far; without dates there is a window of 28."""
        return self.dates.post_days if self.dates else 28

    @property
    def horizon(self) -> int:
        """Count the days after the start up to the planned end, at whatever look it is read."""
        return self._horizon or self.days

    @property
    def looks(self) -> tuple[int, ...]:
        """List the days after which it is read, as planned: those of its looks, and its end."""
        return tuple(dict.fromkeys([*self.decision.looks, self.horizon]))

    def until(self, day: int) -> Launch:
        """Give the launch as it is read at one of its looks: its window ends there, all else is as planned.

        Raises:
            ParameterError: no look was planned for that day.
        """
        if day not in self.looks or self.dates is None:
            planned = ", ".join(map(str, self.looks))
            raise ParameterError(f"{self.name} has no look on day {day}; planned are the days {planned}")
        cut = self.model_copy(update={"dates": self.dates.model_copy(update={"days": day, "end": None})})
        cut._horizon = self.horizon  # noqa: SLF001  (of another launch)
        return cut

    @property
    def pre_days(self) -> int:
        """Count the days before the start; none without dates."""
        return self.dates.pre_days if self.dates else 0

    @property
    def folder(self) -> Path:
        """Say where the file stands."""
        return self._folder

    @property
    def content_hash(self) -> str:
        """Hash everything that could change a conclusion: data, arms, dates, metric definitions, decision rule.

        Titles and other prose are left out. The data's own content is not part of it: see `Study.fingerprint`.
        """
        spec = self.model_dump(mode="json", exclude={"metrics", *_WORDS})
        spec["decision"] = {k: v for k, v in spec["decision"].items() if k not in Actions.model_fields}
        spec["plan"] = [_without_prose(asdict(p)) for p in self.plan]
        text = json.dumps(spec, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_prose(v) for k, v in value.items() if k not in _PROSE}
    return value


def load(path: str | Path) -> Launch:
    """Read and validate a launch file.

    Raises:
        LaunchError: one sentence per fault: file, line, key, value, what was expected, the nearest valid name.
    """
    path = Path(path)
    data, lines = strict_yaml.read(path)
    try:
        return Launch.model_validate(data, context={"folder": path.resolve().parent, "lines": lines})
    except ValidationError as error:
        raise LaunchError("\n".join(_sentence(path, e, lines) for e in error.errors()[:5])) from None


_EXPECTED = {
    "missing": "is missing and must be given",
    "string_pattern_mismatch": "use small letters, digits, '-' and '_', a letter or digit first, at most 64",
    "string_type": "it should be text; put it in quotes",
    "string_too_short": "it should not be empty",
    "too_short": "at least one is needed",
    "model_type": "it should be keys and values",
    "float_parsing": "it should be a number; a share is written 0.05, not 5%",
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        "it should be a day, written YYYY-MM-DD, such as 2026-11-21",
    ),
}


def _shown(value: object) -> str:
    return "empty" if value is None else repr(value) if isinstance(value, str) else str(value)


def _sentence(path: Path, error: Any, lines: strict_yaml.Lines) -> str:
    """Say one validation error as one sentence."""
    at: tuple[str | int, ...] = error["loc"]
    if error["type"] == "unknown_key":
        at = (*at, error["ctx"]["key"])
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in at).lstrip(".")
    message = _EXPECTED.get(error["type"], error["msg"].replace("Input should", "it should"))
    found = error["input"]
    shown = "" if isinstance(found, dict | list | tuple) or error["type"] == "missing" else f" is {_shown(found)}"
    return f"{path}, {strict_yaml.where(lines, at)}, {key}{shown}: {message}" if at else f"{path}: {message}"
