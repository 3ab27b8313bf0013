"""The launch's `sampling`: how many accounts each arm gets, of whom, drawn how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from helpers.launch.entry import Column, Section, condition
from helpers.metrics import Condition


def _as_written(value: Any) -> Any:
    """Take 0, 1, true and false for the names that they are in the data; a single treatment for a list of one."""
    if isinstance(value, list):
        return tuple(_as_written(v) for v in value)
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else value


Arm = Annotated[Column, BeforeValidator(_as_written)]


def _exclusions(value: object) -> object:
    """Read `employee` as a flag, `region: [APAC, LATAM]` and `tenure_days: {lt: 30}` as conditions."""
    if not isinstance(value, list):
        return value
    rules: list[object] = []
    for rule in value:
        if not isinstance(rule, Mapping):
            rules.append(rule)
            continue
        for column, asked in rule.items():
            rules.append(condition(str(column), {"in": asked} if isinstance(asked, list) else asked))
    return tuple(rules)


def _share(value: object) -> object:
    """Read '2%' or 0.02."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value.strip()) if isinstance(value, str) else None
    return float(match[1]) / 100 if match else value


def _level(value: object) -> object:
    """Refuse a level that is not written as 'column=level'."""
    if not isinstance(value, str) or not re.fullmatch(r"[^=]+=.+", value):
        raise PydanticCustomError("level", "write the level as 'column=level', such as 'engagement=heavy'")
    return value


Level = Annotated[str, BeforeValidator(_level)]
Exclusions = Annotated[tuple[str | Condition, ...], BeforeValidator(_exclusions)]
Number = Annotated[int, Field(ge=1)]


class Fixed(Section):
    """A level's accounts in every arm, in numbers."""

    n: Number


class Match(Section):
    """How a matched control is found: by which numbers, and how near a pair must be, in standard deviations."""

    by: tuple[Column, ...] = Field(min_length=1)
    caliper: float = Field(default=0.25, gt=0)


class Sampling(Section):
    """How many accounts each arm gets, drawn how; see `sampling.Design` and `sampling.draw` for what the words mean.

    `exclude` defaults to the flags of the contract that the frame holds, `household` to the column of that name where
    there is one. `salts` is how many draws the best-balanced one is chosen from, by the attributes in `balance`.
    """

    n: dict[Arm, Number]
    objective: Literal["population", "target_audience", "both"] = "population"
    exclude: Exclusions | None = None
    household: Column | None = None
    strata: tuple[Column, ...] = ()
    rule: Literal["proportional", "neyman", "equal"] = "proportional"
    past: Column | None = None
    minimum: int = Field(default=0, ge=0)
    oversample: dict[Level, Annotated[float, Field(gt=0)] | Fixed] = Field(default_factory=dict)
    holdout: Annotated[float, BeforeValidator(_share), Field(ge=0, lt=1)] = 0.0
    later: dict[Arm, Number] = Field(default_factory=dict)
    salts: int = Field(default=1, ge=1, le=1_000)
    balance: tuple[Column, ...] = ()
    match: Match | None = None
    salt: str = ""

    @model_validator(mode="after")
    def _agree(self) -> Sampling:
        if (self.rule == "neyman") != (self.past is not None):
            raise PydanticCustomError(
                "past", "'rule: neyman' needs 'past', a number from before the launch; other rules have none"
            )
        if (self.salts > 1) != bool(self.balance):
            raise PydanticCustomError(
                "salts", "'salts' (draws to choose from) and 'balance' (the attributes to choose by) go together"
            )
        if self.match and (self.salts > 1 or self.later):
            raise PydanticCustomError("match", "a matched control goes together with neither 'salts' nor 'later'")
        for arm in sorted(set(self.n) & set(self.later)):
            raise PydanticCustomError("later", f"'{arm}' is an arm of this launch; a later stage needs another name")
        return self

    @property
    def factors(self) -> dict[str, float]:
        """Name the levels that are oversampled by a factor."""
        return {level: float(by) for level, by in self.oversample.items() if not isinstance(by, Fixed)}

    @property
    def numbers(self) -> dict[str, int]:
        """Name the levels that have a number of accounts in every arm."""
        return {level: by.n for level, by in self.oversample.items() if isinstance(by, Fixed)}
