"""Scenarios: everything that can be planted in a launch, by name, and how names combine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from helpers.errors import ParameterError, did_you_mean
from helpers.simulate.parameters import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing to plant: a base says what is tested, a switch changes something about it.

    `services` are those of the arms, control first; a switch has none, but `treated`, changes to every treatment, and
    `world`, changes to the simulation by dotted name. `on` says what is tested where the switch makes sense. `pool`
    is who can be in the treatment arms, where that is not everybody.
    """

    services: tuple[Service, ...] = ()
    treated: Mapping[str, Any] = field(default_factory=dict)
    world: Mapping[str, Any] = field(default_factory=dict)
    on: Literal["show", "feature", "anything"] = "anything"
    pool: Literal["", "volunteers", "new_tv"] = ""


_USUAL, _SHOW = Service(), Service(show=True)
_BINGES = Scenario(services=(_USUAL, Service(binges=0.005)))

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "show_premiere": Scenario(services=(_USUAL, _SHOW)),
        "aa": Scenario(services=(_SHOW, _SHOW)),
        # Hours +0.8 %, opens +0.5 %, session length +0.6 %: some of the extra opens only look. Browse-to-play +2 %.
        "homepage": Scenario(
            services=(
                _USUAL,
                Service(opens=1.005, playing=0.997, session_hours=1.006, first_play=0.907, discovery=1.06, churn=0.99),
            )
        ),
        # The targets that teams set: session length +12 %, opens +5 %, discovery +15 %, browse-to-play +8 %.
        "homepage_optimistic": Scenario(
            services=(_USUAL, Service(opens=1.05, session_hours=1.12, first_play=0.677, discovery=1.15, churn=0.99))
        ),
        # Recommendations that shorten the search and help to find what is included in the membership.
        "prime_recommendations": Scenario(
            services=(
                _USUAL,
                Service(opens=1.006, session_hours=1.002, first_play=0.85, discovery=1.08, churn=0.985, tickets=0.97),
            )
        ),
        "broad_lift": Scenario(services=(_USUAL, Service(session_hours=1.03))),
        "activation": Scenario(services=(_USUAL, Service(wakes=0.25))),
        "hollow_engagement": Scenario(
            services=(_USUAL, Service(session_hours=1.06, autoplay=1.38, liking=-0.21, late_churn=1.03))
        ),
        "outlier_driven": _BINGES,
        "heavy_target": _BINGES,  # the same viewers, only that here they are whom the feature is for
        "interactive_feature": Scenario(services=(_USUAL, Service(session_hours=1.05, first_play=0.9, new_tv=True))),
        "told_vs_quiet": Scenario(services=(_USUAL, _SHOW, Service(show=True, told=True))),
        "placebo_title": Scenario(
            services=(_USUAL, Service(placebo=True, opens=1.004), Service(show=True, opens=1.004))
        ),
        "niche_show": Scenario(world={"show.audience": 0.91}, on="show"),
        "bad_show": Scenario(world={"show.quality": -0.55}, on="show"),
        "good_show_low_reach": Scenario(world={"show.quality": 0.3}, treated={"reach": 0.5}, on="show"),
        "opt_in": Scenario(pool="volunteers"),
        "device_limited": Scenario(pool="new_tv"),
        "regional_marketing": Scenario(world={"logs.campaign": (0.8, 0.5, 0.25, 0.0)}, on="show"),
        "honeymoon": Scenario(world={"show.honeymoon": 0.4}, treated={"novelty": 1.0}),
        "stable": Scenario(world={"show.honeymoon": 0.0}, treated={"novelty": 0.0}),
        "miniseries": Scenario(world={"show.going_on": (0.72, 0.9, 0.95), "show.minutes": 55}, on="show"),
        "holiday": Scenario(
            world={"events": (("holiday season", 0, 28, 1.09), ("sports final", 9, 1, 0.92), ("holidays", 14, 7, 1.1))}
        ),  # the week of the holidays: 1.09 x 1.1 = 1.2
        "j_shaped_survey": Scenario(world={"satisfaction.one_tap": 0.4, "satisfaction.incentive": 0.2}),
        "srm": Scenario(world={"logs.lost": 0.03}),
        "household_leak": Scenario(world={"logs.leak": 0.15}),
        "shared_model": Scenario(world={"logs.control_gains": 0.4}, on="feature"),
        "winners_curse": Scenario(world={"logs.luck": 2.0}, on="feature"),
        "overload": Scenario(treated={"overload": 1.05}),
        "creator_concentration": Scenario(treated={"tail": 0.88}),
        "slow_tail": Scenario(treated={"slow_network": 1.4}),
        "dirty_events": Scenario(world={"logs.duplicates": 0.01, "logs.long_days": 0.001, "logs.skewed": 0.005}),
    }
)


def combined(text: str) -> Mapping[str, Scenario]:
    """Read names joined by +, such as `show_premiere+holiday`; without a base, the switches' usual one is meant.

    Raises:
        ParameterError: a name is not known, or two do not go together; the sentence says which.

    >>> list(combined("shared_model"))
    ['homepage', 'shared_model']
    >>> combined("homepage+bad_show")
    Traceback (most recent call last):
    helpers.errors.ParameterError: scenario 'homepage+bad_show': 'bad_show' needs a show, 'homepage' tests a feature
    """
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name not in SCENARIOS:
            raise ParameterError(f"scenario {name!r} is not known; {did_you_mean(name, SCENARIOS)}")
        if names.count(name) > 1:
            raise ParameterError(f"scenario {text!r} names {name!r} twice; once is enough")
    bases = [name for name in names if SCENARIOS[name].services]
    if len(bases) > 1:
        raise ParameterError(f"scenario {text!r}: {bases[0]!r} and {bases[1]!r} each say what is tested; name one")
    if not bases:
        bases = ["homepage" if any(SCENARIOS[name].on == "feature" for name in names) else "show_premiere"]
    base, switches = bases[0], [name for name in names if name not in bases]
    tested = "show" if any(service.show for service in SCENARIOS[base].services) else "feature"
    seen: dict[str, str] = {}
    for name in switches:
        scenario = SCENARIOS[name]
        if scenario.on not in {tested, "anything"}:
            raise ParameterError(f"scenario {text!r}: {name!r} needs a {scenario.on}, {base!r} tests a {tested}")
        for changed in (*scenario.world, *scenario.treated, *(["the treatment arms"] if scenario.pool else [])):
            if changed in seen:
                raise ParameterError(f"scenario {text!r}: {seen[changed]!r} and {name!r} both set {changed}; name one")
            seen[changed] = name
    return {name: SCENARIOS[name] for name in (base, *switches)}
