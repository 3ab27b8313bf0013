"""What a plan says besides its metrics: who it is for, what could go wrong, when, and what is done about it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from helpers.errors import did_you_mean
from helpers.launch.entry import AsBound, Column, Section
from helpers.launch.sampling import Exclusions
from helpers.results import Decision

Unit = Literal["region", "household", "account", "profile", "device", "session", "play", "impression"]
UNITS: tuple[str, ...] = get_args(Unit)  # from coarse to fine


class Context(Section):
    """What is launched, for whom, where and when, within which limits, and which decision waits for the answer.

    A launch file with a context is a plan: the linter holds it to every rule before a page is published.
    """

    feature: str = ""
    who: str = ""
    where: str = ""
    when: str = ""
    constraint: str = ""
    decision: str = ""
    planned_on: dt.date | None = None


class Risk(Section):
    """What could go wrong, and the metric that would show it, or who accepted it and why."""

    risk: Annotated[str, Field(min_length=1)]
    metric: str = ""
    accepted: str = ""


class Event(Section):
    """Something outside the launch that moves viewing: a holiday, a campaign, a change of price."""

    event: Annotated[str, Field(min_length=1)]
    start: dt.date
    end: dt.date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Event:
        if self.end is not None and self.end < self.start:
            raise PydanticCustomError("event", f"'end' ({self.end}) is before 'start' ({self.start})")
        return self

    @property
    def last(self) -> dt.date:
        """Give its last day."""
        return self.end or self.start


class Randomisation(Section):
    """What was drawn into arms, what is analysed, and how the error is worked out where the two differ.

    `cluster` is the column that says which accounts were drawn together, of the own table or of `accounts`; without it
    that of the name of what was drawn, for households that of `sampling`.
    """

    randomised: Unit
    analysed: Unit = "account"
    errors: Literal["", "cluster", "delta"] = ""
    cluster: Column | None = None

    @model_validator(mode="after")
    def _something_to_cluster(self) -> Randomisation:
        if self.cluster is not None and not self.together:
            raise PydanticCustomError(
                "cluster",
                f"'cluster' names what was drawn together, but {self.randomised}s were drawn and {self.analysed}s are "
                "analysed; leave it out",
            )
        return self

    @property
    def together(self) -> bool:
        """Say whether several accounts came into an arm together: then errors over accounts are too small."""
        drawn = UNITS.index(self.randomised)
        return drawn < UNITS.index("account") and UNITS.index(self.analysed) > drawn


class Frame(Section):
    """How accounts came into the frame that is drawn from, whom it leaves out, and who in it can use what is launched.

    `needs` names the flag of an account without which it cannot: `new_tv`, where the feature runs on new sets alone.
    """

    recruited: Literal["random", "invited", "volunteers"]
    left_out: tuple[str, ...] = ()
    devices_left_out: tuple[str, ...] = ()
    weights: str = ""
    needs: Annotated[str, Field(min_length=1)] | None = None


class Outliers(Section):
    """How extreme accounts are treated, decided before they are seen.

    `rule` is the plan's own sentence about them: it is printed, and changes nothing; the other keys and a metric's
    `cap` do. `impossible_above` names amounts of the plan that no account can have, in the metric's unit: who has more
    in its window is removed, in all arms and from every chapter. So is who meets a rule of `remove`, written as those
    of `sampling: {exclude: …}`, such as a flag of bots. `flagged_at` names the column that says when the flag was set:
    one set since the assignment may be the launch's doing, and that account stays in. `caps` says of which amounts a
    metric's `cap` is the quantile: those of all arms together, or those from before the launch.
    `heavy_viewers_are_target` says that the launch is made for those who watch most: they stay as they are, and no
    metric is capped; `heavy_by` names which of several covariates says who they were before the launch.
    """

    rule: Annotated[str, Field(min_length=1)] = ""
    caps: Literal["pooled", "before"] = "pooled"
    heavy_viewers_are_target: bool = False
    heavy_by: Column | None = None
    impossible_above: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    remove: Exclusions = ()
    flagged_at: Column | None = None

    @model_validator(mode="after")
    def _flags(self) -> Outliers:
        if self.flagged_at and not self.remove:
            raise PydanticCustomError("outliers", "'flagged_at' says when flags were set; name them under 'remove'")
        return self


class Show(Section):
    """The title that is launched: whether it goes on (`series`) or ends by itself (`limited`), and its episodes.

    The hours of a limited series fall because it ends. It is judged by who finishes, beside `comparables`.
    """

    format: Literal["series", "limited"] = "series"
    episodes: Annotated[int, Field(ge=1)] | None = None


Milestone = Literal["shown", "started", "pilot", "second", "finished"]  # on the way through a title
Share = Annotated[float, Field(ge=0, le=1)]


class Rollout(Section):
    """What comes after: who stays without, how much load is borne, and who takes it back."""

    holdback: str = ""
    capacity_limit: str = ""
    rollback_owner: str = ""


class Actions(Section):
    """What is done at each verdict, and by whom."""

    actions: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    stopping: str = ""
    novelty: str = ""
    past_lifts: AsBound = None

    @model_validator(mode="after")
    def _known_verdicts(self) -> Actions:
        for verdict in self.actions:
            if verdict not in get_args(Decision):
                raise PydanticCustomError(
                    "actions", f"no verdict is called '{verdict}'; {did_you_mean(verdict, get_args(Decision))}"
                )
        return self
