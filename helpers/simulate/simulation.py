"""One run of the simulated service: the whole tree of parameters, with the scenario's changes worked in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from helpers.errors import ParameterError
from helpers.simulate import scenarios
from helpers.simulate.parameters import (
    Checked,
    Choice,
    Churn,
    Logs,
    People,
    Quality,
    Satisfaction,
    Service,
    Show,
    Viewing,
    within,
)

Event = tuple[str, int, int, float]
"""What happens, first day from the launch, days, factor on viewing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation(Checked):
    """One run of the simulated service: equal values give byte-identical files.

    `scenario` is a name of `SCENARIOS`, or several joined by +: what is tested first, then what goes with it. What a
    scenario sets takes the place of what is given here. `treatments` names the arms beside control, one for each
    service that the scenario tests.

    Raises:
        ParameterError: a value is impossible, or the scenario unknown; the sentence names value and bounds.

    >>> Simulation(scenario="show_premier")
    Traceback (most recent call last):
    helpers.errors.ParameterError: scenario 'show_premier' is not known; did you mean 'show_premiere'?
    >>> Simulation(scenario="bad_show").lived.show.quality
    -0.55
    """

    scenario: str = "show_premiere"
    accounts: int = within(400_000, 1, 100_000_000)
    seed: int = within(20261121, 0)
    start: dt.date = dt.date(2026, 9, 7)  # the launch, at midnight UTC
    pre_days: int = within(28, 0, 730)
    days: int = within(28, 1, 730)
    control: str = "control"
    treatments: tuple[str, ...] = ("treatment",)
    events: tuple[Event, ...] = ()  # of the calendar
    people: People = field(default_factory=People)
    viewing: Viewing = field(default_factory=Viewing)
    choice: Choice = field(default_factory=Choice)
    quality: Quality = field(default_factory=Quality)
    churn: Churn = field(default_factory=Churn)
    show: Show = field(default_factory=Show)
    satisfaction: Satisfaction = field(default_factory=Satisfaction)
    logs: Logs = field(default_factory=Logs)

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if type(self.start) is not dt.date:
            raise ParameterError(f"start is {self.start!r}, must be a date")
        if len(set(self.arms)) != len(self.arms):
            twice = next(arm for arm in self.arms if self.arms.count(arm) > 1)
            raise ParameterError(f"both arms are called {twice!r}; each needs a name of its own")
        if len(self.services) != len(self.arms):
            raise ParameterError(
                f"scenario {self.scenario!r} needs {len(self.services) - 1} treatment arms, "
                f"there are {len(self.treatments)}: {', '.join(self.treatments)}"
            )

    @property
    def arms(self) -> tuple[str, ...]:
        """Name all arms, control first."""
        return (self.control, *self.treatments)

    @property
    def scenarios(self) -> Mapping[str, scenarios.Scenario]:
        """List what the scenario combines, what is tested first."""
        return scenarios.combined(self.scenario)

    @property
    def services(self) -> tuple[Service, ...]:
        """Describe the service that each arm meets, control first."""
        base, *switches = self.scenarios.values()
        treated = {name: value for switch in switches for name, value in switch.treated.items()}
        return (base.services[0], *(replace(service, **treated) for service in base.services[1:]))

    @property
    def with_show(self) -> bool:
        """Say whether any arm may watch the launch title."""
        return any(service.show for service in self.services)

    @property
    def pool(self) -> str:
        """Say who can be in the treatment arms; everybody where it is empty."""
        return next((scenario.pool for scenario in self.scenarios.values() if scenario.pool), "")

    @property
    def lived(self) -> Simulation:
        """Work the scenario's changes of the world in."""
        changes = [change for scenario in self.scenarios.values() for change in scenario.world.items()]
        return reduce(_changed, changes, self)


def _changed(simulation: Simulation, change: tuple[str, Any]) -> Simulation:
    """Set one parameter by its dotted name."""
    part, _, name = change[0].rpartition(".")
    if not part:
        return replace(simulation, **{name: change[1]})
    return replace(simulation, **{part: replace(getattr(simulation, part), **{name: change[1]})})
