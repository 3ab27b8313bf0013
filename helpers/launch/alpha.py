"""How often a claim may err, by the part that a metric has in the plan: in one place, and said in words."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, model_serializer
from pydantic_core import PydanticCustomError

from helpers.launch.entry import Section
from helpers.results import Role


def _rate(value: object) -> object:
    """Refuse what is no error rate, and say how one is written."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 0.5:
        raise PydanticCustomError(
            "alpha", "it should be a number above 0 and less than 0.5, such as 0.05 for 5%, or one for each role"
        )
    return value


Rate = Annotated[float, BeforeValidator(_rate)]
_ROLES: dict[Role, str] = {"north_star": "success", "supporting": "success", "guardrail": "guardrails"}


class Alpha(Section):
    """Two-sided error rates, each at all looks together: of the success metrics as one family, and of any other metric.

    The names are those of the launch file's layers; `success` is the north star and what supports it. Half of a rate is
    left to each side, so that a guardrail's margin is tested at half of `guardrails`.
    """

    success: Rate = 0.05
    guardrails: Rate = 0.05
    satisfaction: Rate = 0.05
    operational: Rate = 0.05

    def of(self, role: Role) -> float:
        """Give the rate of a role.

        >>> Alpha(guardrails=0.1).of("guardrail"), Alpha(guardrails=0.1).of("supporting")
        (0.1, 0.05)
        """
        return self._rates[_ROLES.get(role, role)]

    @property
    def written(self) -> str:
        """Write it as a launch file does: one number where all roles have the same.

        >>> Alpha().written, Alpha(guardrails=0.1).written
        ('0.05', 'success: 0.05, guardrails: 0.1, satisfaction: 0.05, operational: 0.05')
        """
        return f"{self.success:g}" if self._one else ", ".join(f"{k}: {v:g}" for k, v in self._rates.items())

    def __str__(self) -> str:
        """Say it in words.

        >>> print(Alpha(), "/", Alpha(guardrails=0.1))
        5% false alarms / false alarms: success 5%, guardrails 10%, satisfaction 5%, operational 5%
        """
        if self._one:
            return f"{100 * self.success:.3g}% false alarms"
        return "false alarms: " + ", ".join(f"{name} {100 * rate:.3g}%" for name, rate in self._rates.items())

    @property
    def _rates(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    @property
    def _one(self) -> bool:
        return len(set(self._rates.values())) == 1

    @model_serializer
    def _as_written(self) -> float | dict[str, float]:
        return self.success if self._one else self._rates


def _each(value: object) -> object:
    """Give every role the same rate, where one number stands for all."""
    if isinstance(value, Alpha | dict):
        return value
    return dict.fromkeys(Alpha.model_fields, _rate(value))


Alphas = Annotated[Alpha, BeforeValidator(_each)]
