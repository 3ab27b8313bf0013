"""Everything that can be set about the simulated service, with its unit and where its default comes from.

P marks a published figure, D one derived from published figures, A an assumption for which no public figure was found.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from helpers.errors import ParameterError, did_you_mean

Mix = tuple[tuple[str, float], ...]


def _within(default: Any, low: float = 0, high: float = math.inf) -> Any:
    """Declare a number, or a tuple of numbers, and its inclusive bounds."""
    return field(default=default, metadata={"bounds": (low, high)})


def _share(default: Any) -> Any:
    return _within(default, 0, 1)


def _mix(*shares: tuple[str, float]) -> Any:
    """Declare labels with shares that sum to 1."""
    return field(default=shares, metadata={"mix": True})


class _Checked:
    """Refuse values outside the bounds that the fields declare."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, f.name)
            name = f"{type(self).__name__.lower()}.{f.name}".removeprefix("simulation.")
            if "bounds" in f.metadata:
                _check_bounds(name, value, f.default, *f.metadata["bounds"])
            if "mix" in f.metadata:
                _check_length(name, value, f.default)
                shares = [share for _, share in value]
                if any(not 0 <= share <= 1 for share in shares) or not math.isclose(math.fsum(shares), 1):
                    raise ParameterError(f"the shares of {name} are {shares}, must be from 0 to 1 and sum to 1")


def _check_bounds(name: str, value: Any, default: Any, low: float, high: float) -> None:
    wanted = int if isinstance(default, int) else (int, float)
    if isinstance(default, tuple):
        _check_length(name, value, default)
    for number in value if isinstance(default, tuple) else (value,):
        if not isinstance(number, wanted) or not low <= number <= high or math.isinf(number):
            kind = "a whole number" if wanted is int else "a number"
            bounds = f"of at least {low:,}" if math.isinf(high) else f"from {low:,} to {high:,}"
            raise ParameterError(f"{name} is {number!r}, must be {kind} {bounds}")


def _check_length(name: str, value: Any, default: Any) -> None:
    if len(value) != len(default):
        raise ParameterError(f"{name} has {len(value)} entries, must have {len(default)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class People(_Checked):
    """Who the accounts are."""

    regions: tuple[tuple[str, float], ...] = _mix(
        ("North America", 0.30), ("EMEA", 0.34), ("LATAM", 0.17), ("APAC", 0.19)
    )  # A
    utc_offsets: tuple[float, ...] = _within((-6.0, 1.0, -3.0, 8.0), -12, 14)  # hours, in the order of regions, A
    age_bands: tuple[tuple[str, float], ...] = _mix(
        ("18-24", 0.14), ("25-34", 0.24), ("35-49", 0.30), ("50-64", 0.21), ("65+", 0.11)
    )  # A
    devices: tuple[tuple[str, float], ...] = _mix(
        ("tv", 0.70), ("computer", 0.15), ("phone", 0.10), ("tablet", 0.05)
    )  # P Netflix 2018
    first_year: float = _share(0.39)  # P Antenna, premium services at end-2023; 0.20 for a leader
    later_tenure_days: float = _within(900.0)  # mean beyond the first year, A
    extra_profiles: float = _within(1.3)  # Poisson mean beyond the first profile, A
    max_profiles: int = _within(5, 1, 100)
    new_tv: float = _within(0.30, 0.001, 0.999)  # A
    new_tv_intensity: float = _within(0.35, -5, 5)  # log-odds per SD of viewing intensity, A (planted)
    affinity: tuple[float, float] = _within((2.0, 3.0), 0.01, 1000)  # Beta, taste for the show's genre, A
    affinity_age: tuple[float, ...] = _within((0.15, 0.08, 0.0, -0.08, -0.15), -5, 5)  # SD by age band, A
    shared_household: float = _share(0.02)  # shares a household with another account, A
    employee: float = _share(0.0005)  # A, as the next four
    bot_suspect: float = _share(0.002)
    kids_only: float = _share(0.01)
    test_account: float = _share(0.0002)
    opted_out: float = _share(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing(_Checked):
    """Weekly hours = active-week gate x Poisson sessions x lognormal length. All A, tuned together to the anchors.

    The anchors: 10.9 h a week in 2015 (P Netflix), heaviest fifth about half of all viewing (P Nielsen).
    """

    intensity_sd: float = _within(0.62, 0.01, 3)  # log scale, between accounts
    deviation_sd: float = _within(0.45, 0, 3)  # log scale, from week to week
    deviation_memory: float = _within(0.5, 0, 0.99)  # AR(1) coefficient
    sessions: float = _within(7.5, 0, 200)  # with a play, mean in an active week
    active_week: tuple[float, float] = _within((2.55, 0.45), 0.01, 1000)  # Beta, mean 0.85
    session_hours: float = _within(1.25, 0.01, 16)  # median
    session_account_sd: float = _within(0.25, 0, 3)  # log scale
    session_sd: float = _within(0.75, 0, 3)  # log scale, within account
    session_cap_hours: float = _within(16.0, 0.1, 18)
    day_cap_hours: float = _within(18.0, 0.1, 18)  # 126 h a week
    weekday: tuple[float, ...] = _within((0.92, 0.92, 0.92, 0.92, 1.05, 1.15, 1.12), 0.01, 100)  # Monday first
    local_hours: tuple[float, float, float] = _within((6.0, 20.5, 28.0), 0, 48)  # earliest, usual, latest start
    never_start: float = _within(0.08, 0, 0.99)  # sessions without a play
    first_play_minutes: float = _within(1.6, 0.001, 60)  # median
    first_play_sd: float = _within(1.1, 0, 3)  # log scale
    first_play_cap_minutes: float = _within(30.0, 1, 60)
    main_device: float = _share(0.75)  # sessions on the account's main device


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(_Checked):
    """What is played, and how it was found."""

    formats: tuple[tuple[str, float], ...] = _mix(
        ("half_hour", 0.20), ("hour", 0.50), ("film", 0.30)
    )  # of an evening, A
    format_minutes: tuple[int, int, int] = _within((25, 45, 105), 1, 600)
    titles: int = _within(1500, 10, 1_000_000)
    popularity: float = _within(2.5, 1, 10)  # 1: all titles alike; larger: more in the head, A
    autoplay: float = _share(0.29)  # of plays that follow another, which makes about 18 % of all, A
    chosen: tuple[tuple[str, float], ...] = _mix(
        ("continue_watching", 40 / 82), ("browse", 30 / 82), ("search", 8 / 82), ("notification", 4 / 82)
    )  # A
    recommended: float = _share(0.66)  # P Gomez-Uribe & Hunt: two of three hours are found on the homepage
    shadow_if_recommended: float = _share(0.45)  # also put forward by the new ranking, A
    shadow_otherwise: float = _share(0.15)  # A


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality(_Checked):
    """How well playing works."""

    play_delay_ms: float = _within(1800.0, 1, 60_000)  # median, A; P Akamai 2017: mean 4,840
    play_delay_sd: float = _within(0.5, 0, 3)  # log scale, A
    slow_network: float = _share(0.05)  # of sessions, A
    slow_network_factor: float = _within(4.0, 1, 100)  # A
    rebuffer_ratio: float = _within(0.002, 0, 1)  # median, A
    rebuffer_sd: float = _within(1.16, 0, 3)  # log scale: 1 % of sessions above 3 %, A
    start_failure: float = _share(0.007)  # of sessions, counted among those without a play, A; P Conviva 2015: 2.6 %
    crash: float = _share(0.0005)  # of sessions, P Instabug


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn(_Checked):
    """Who cancels: probability in 28 days = level x (floor + slope x exp(-hours in 28 days / scale)), times tenure."""

    level: float = _within(1.0, 0, 10)  # 1.0 gives 1.9 % in 28 days; P Netflix 1.8-2.4 % a month (Antenna)
    floor: float = _share(0.008)  # P for the shape only, as the next two
    slope: float = _share(0.08)
    scale_hours: float = _within(10.0, 0.1, 1000)
    first_year: float = _within(2.1, 0.1, 20)  # hazard against later years, P Antenna: 8.6 % against 4.0 %
    payment: float = _share(0.20)  # of cancellations, A
    causal: float = _share(0.40)  # part of the slope that added hours really move; the rest is confounding, A


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(_Checked):
    """The launch title, and what those who may see it do."""

    name: str = "Northern Lights"
    minutes: int = _within(45, 1, 300)  # per episode, A
    start: float = _within(-1.02, -20, 20)  # log-odds to start within 28 days: 31 % on average, A
    start_affinity: float = _within(0.9, -10, 10)  # per SD, A
    start_intensity: float = _within(0.45, -10, 10)  # per SD, A
    start_new_tv: float = _within(0.25, -10, 10)  # A
    # Pull of each week: starts fall 52/25/14/9 %, later than the pull, as not everybody comes every week.
    start_weeks: tuple[float, ...] = _within(
        (0.61, 0.225, 0.105, 0.06), 0.001, 1
    )  # D Samba TV: 75 % of views in 15 days
    going_on: tuple[float, ...] = _within(
        (0.669, 0.870, 0.935, 0.945, 0.941, 0.915, 0.973), 0.001, 0.999
    )  # from each episode to the next, P First Kill
    going_on_affinity: float = _within(0.55, -10, 10)  # log-odds per SD, A
    going_on_sd: float = _within(0.6, 0, 10)  # log-odds, between accounts, A
    quality: float = _within(0.0, -10, 10)  # log-odds; -0.55 poor, 0.3 good, 0.9 a hit, anchors P 1899, Heartstopper
    incremental: float = _within(0.25, 0, 0.5)  # of the show's hours; the rest replaces other viewing (0.15-0.40), A
    churn: float = _within(0.97, 0, 10)  # hazard of those who start, A


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(_Checked):
    """The service as one arm meets it, from the launch on, as factors on the service as it is."""

    show: bool = False  # may the launch title be watched?
    opens: float = _within(1.0, 0, 10)
    playing: float = _within(1.0, 0, 10)  # on the share of sessions that start a play
    session_hours: float = _within(1.0, 0, 10)  # of sessions with a play
    first_play: float = _within(1.0, 0.01, 10)  # on the time to the first play
    discovery: float = _within(1.0, 0, 2)  # on the share of plays that the new ranking puts forward
    churn: float = _within(1.0, 0, 10)  # hazard


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Two services that differ in what is being tested."""

    control: Service = Service()
    treatment: Service = Service()


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "show_premiere": Scenario(treatment=Service(show=True)),
        "aa": Scenario(control=Service(show=True), treatment=Service(show=True)),
        # Hours +0.8 %, opens +0.5 %, session length +0.6 %: some of the extra opens only look. Browse-to-play +2 %.
        "homepage": Scenario(
            treatment=Service(
                opens=1.005, playing=0.997, session_hours=1.006, first_play=0.907, discovery=1.06, churn=0.99
            )
        ),
        # The targets that teams set: session length +12 %, opens +5 %, discovery +15 %, browse-to-play +8 %.
        "homepage_optimistic": Scenario(
            treatment=Service(opens=1.05, session_hours=1.12, first_play=0.677, discovery=1.15, churn=0.99)
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation(_Checked):
    """One run of the simulated service: equal values give byte-identical files.

    Raises:
        ParameterError: a value is impossible, or the scenario unknown; the sentence names value and bounds.

    >>> Simulation(scenario="show_premier")
    Traceback (most recent call last):
    helpers.errors.ParameterError: scenario 'show_premier' is not known; did you mean 'show_premiere'?
    """

    scenario: str = "show_premiere"
    accounts: int = _within(400_000, 1, 100_000_000)
    seed: int = _within(20261121, 0)
    start: dt.date = dt.date(2026, 9, 7)  # the launch, at midnight UTC
    pre_days: int = _within(28, 0, 730)
    days: int = _within(28, 1, 730)
    control: str = "control"
    treatment: str = "treatment"
    people: People = People()
    viewing: Viewing = Viewing()
    choice: Choice = Choice()
    quality: Quality = Quality()
    churn: Churn = Churn()
    show: Show = Show()

    def __post_init__(self) -> None:
        _Checked.__post_init__(self)
        if self.scenario not in SCENARIOS:
            raise ParameterError(f"scenario {self.scenario!r} is not known; {did_you_mean(self.scenario, SCENARIOS)}")
        if type(self.start) is not dt.date:
            raise ParameterError(f"start is {self.start!r}, must be a date")
        if self.control == self.treatment:
            raise ParameterError(f"both arms are called {self.control!r}; each needs a name of its own")
