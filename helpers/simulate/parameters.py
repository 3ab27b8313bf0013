"""Everything that can be set about the simulated service, with its unit and where its default comes from.

P marks a published figure, D one derived from published figures, A an assumption for which no public figure was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from helpers.errors import ParameterError

Mix = tuple[tuple[str, float], ...]


def within(default: Any, low: float = 0, high: float = math.inf, *, any_length: bool = False) -> Any:
    """Declare a number, or a tuple of numbers, and its inclusive bounds."""
    return field(default=default, metadata={"bounds": (low, high), "any_length": any_length})


def share(default: Any) -> Any:
    """Declare a number from 0 to 1."""
    return within(default, 0, 1)


def _mix(*shares: tuple[str, float]) -> Any:
    """Declare labels with shares that sum to 1."""
    return field(default=shares, metadata={"mix": True})


class Checked:
    """Refuse values outside the bounds that the fields declare."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, f.name)
            name = f"{type(self).__name__.lower()}.{f.name}".removeprefix("simulation.")
            if "bounds" in f.metadata:
                low, high = f.metadata["bounds"]
                _check_bounds(name, value, f.default, low, high, f.metadata["any_length"])
            if "mix" in f.metadata:
                _check_length(name, value, f.default)
                shares = [part for _, part in value]
                if any(not 0 <= part <= 1 for part in shares) or not math.isclose(math.fsum(shares), 1):
                    raise ParameterError(f"the shares of {name} are {shares}, must be from 0 to 1 and sum to 1")


def _check_bounds(name: str, value: Any, default: Any, low: float, high: float, any_length: bool) -> None:
    wanted = int if isinstance(default, int) else (int, float)
    if isinstance(default, tuple) and not any_length:
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
class People(Checked):
    """Who the accounts are."""

    regions: tuple[tuple[str, float], ...] = _mix(
        ("North America", 0.30), ("EMEA", 0.34), ("LATAM", 0.17), ("APAC", 0.19)
    )  # A
    utc_offsets: tuple[float, ...] = within((-6.0, 1.0, -3.0, 8.0), -12, 14)  # hours, in the order of regions, A
    age_bands: tuple[tuple[str, float], ...] = _mix(
        ("18-24", 0.14), ("25-34", 0.24), ("35-49", 0.30), ("50-64", 0.21), ("65+", 0.11)
    )  # A
    devices: tuple[tuple[str, float], ...] = _mix(
        ("tv", 0.70), ("computer", 0.15), ("phone", 0.10), ("tablet", 0.05)
    )  # P Netflix 2018
    first_year: float = share(0.39)  # P Antenna, premium services at end-2023; 0.20 for a leader
    later_tenure_days: float = within(900.0)  # mean beyond the first year, A
    extra_profiles: float = within(1.3)  # Poisson mean beyond the first profile, A
    max_profiles: int = within(5, 1, 100)
    new_tv: float = within(0.30, 0.001, 0.999)  # A
    new_tv_intensity: float = within(0.35, -5, 5)  # log-odds per SD of viewing intensity, A (planted)
    affinity: tuple[float, float] = within((2.0, 3.0), 0.01, 1000)  # Beta, taste for the show's genre, A
    affinity_age: tuple[float, ...] = within((0.15, 0.08, 0.0, -0.08, -0.15), -5, 5)  # SD by age band, A
    shared_household: float = share(0.02)  # shares a household with another account, A
    employee: float = share(0.0005)  # A, as the next four
    bot_suspect: float = share(0.002)
    kids_only: float = share(0.01)
    test_account: float = share(0.0002)
    opted_out: float = share(0.02)
    volunteer: float = within(-2.42, -20, 20)  # log-odds to accept an invitation: 12 % on average, A
    volunteer_affinity: float = within(0.9, -10, 10)  # per SD, A
    volunteer_habit: float = within(0.62, -10, 10)  # per SD of the log of usual hours, A


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing(Checked):
    """Weekly hours = active-week gate x Poisson sessions x lognormal length. All A, tuned together to the anchors.

    The anchors: 10.9 h a week in 2015 (P Netflix), heaviest fifth about half of all viewing (P Nielsen).
    """

    intensity_sd: float = within(0.62, 0.01, 3)  # log scale, between accounts
    deviation_sd: float = within(0.45, 0, 3)  # log scale, from week to week
    deviation_memory: float = within(0.5, 0, 0.99)  # AR(1) coefficient
    sessions: float = within(7.5, 0, 200)  # with a play, mean in an active week
    active_week: tuple[float, float] = within((2.55, 0.45), 0.01, 1000)  # Beta, mean 0.85
    session_hours: float = within(1.25, 0.01, 16)  # median
    session_account_sd: float = within(0.25, 0, 3)  # log scale
    session_sd: float = within(0.75, 0, 3)  # log scale, within account
    session_cap_hours: float = within(16.0, 0.1, 18)
    day_cap_hours: float = within(18.0, 0.1, 18)  # 126 h a week
    weekday: tuple[float, ...] = within((0.92, 0.92, 0.92, 0.92, 1.05, 1.15, 1.12), 0.01, 100)  # Monday first
    local_hours: tuple[float, float, float] = within((6.0, 20.5, 28.0), 0, 48)  # earliest, usual, latest start
    never_start: float = within(0.08, 0, 0.99)  # sessions without a play
    first_play_minutes: float = within(1.6, 0.001, 60)  # median
    first_play_sd: float = within(1.1, 0, 3)  # log scale
    first_play_cap_minutes: float = within(30.0, 1, 60)
    main_device: float = share(0.75)  # sessions on the account's main device


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Checked):
    """What is played, and how it was found."""

    formats: tuple[tuple[str, float], ...] = _mix(
        ("half_hour", 0.20), ("hour", 0.50), ("film", 0.30)
    )  # of an evening, A
    format_minutes: tuple[int, int, int] = within((25, 45, 105), 1, 600)
    titles: int = within(1500, 10, 1_000_000)
    popularity: float = within(2.5, 1, 10)  # 1: all titles alike; larger: more in the head, A
    autoplay: float = share(0.285)  # of plays that follow another, which makes about 18 % of all, A
    chosen: tuple[tuple[str, float], ...] = _mix(
        ("continue_watching", 40 / 82), ("browse", 30 / 82), ("search", 8 / 82), ("notification", 4 / 82)
    )  # A
    recommended: float = share(0.66)  # P Gomez-Uribe & Hunt: two of three hours are found on the homepage
    shadow_if_recommended: float = share(0.45)  # also put forward by the new ranking, A
    shadow_otherwise: float = share(0.15)  # A


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality(Checked):
    """How well playing works."""

    play_delay_ms: float = within(1800.0, 1, 60_000)  # median, A; P Akamai 2017: mean 4,840
    play_delay_sd: float = within(0.5, 0, 3)  # log scale, A
    slow_network: float = share(0.05)  # of sessions, A
    slow_network_factor: float = within(4.0, 1, 100)  # A
    rebuffer_ratio: float = within(0.002, 0, 1)  # median, A
    rebuffer_sd: float = within(1.16, 0, 3)  # log scale: 1 % of sessions above 3 %, A
    rebuffer_minutes: float = within(10.0, 0, 100)  # of a mean session lost per percentage point, P (-8 to -14)
    utilisation: float = within(0.7, 0, 3)  # of the capacity, at the peak, A
    spare: float = within(0.8, 0, 3)  # utilisation up to which load does no harm, A
    load: float = within(100.0, 0, 10_000)  # rebuffering x (1 + load x excess utilisation squared): x 7 at 1.05, A
    start_failure: float = share(0.007)  # of sessions, counted among those without a play, A; P Conviva 2015: 2.6 %
    recommendation_ms: float = within(150.0, 1, 60_000)  # median time to recommendations, A
    recommendation_sd: float = within(0.4, 0, 3)  # log scale, A
    crash: float = share(0.0005)  # of sessions, P Instabug


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn(Checked):
    """Who cancels: probability in 28 days = level x (floor + slope x exp(-hours in 28 days / scale)), times tenure."""

    level: float = within(1.0, 0, 10)  # 1.0 gives 1.9 % in 28 days; P Netflix 1.8-2.4 % a month (Antenna)
    floor: float = share(0.008)  # P for the shape only, as the next two
    slope: float = share(0.08)
    scale_hours: float = within(10.0, 0.1, 1000)
    first_year: float = within(2.1, 0.1, 20)  # hazard against later years, P Antenna: 8.6 % against 4.0 %
    payment: float = share(0.20)  # of cancellations, A
    returns: float = within(0.34, 0, 0.99)  # of those who left, within a year, P Antenna
    causal: float = share(0.40)  # part of the slope that added hours really move; the rest is confounding, A


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Checked):
    """The launch title, and what those who may see it do."""

    name: str = "Northern Lights"
    minutes: int = within(45, 1, 300)  # per episode, A
    start: float = within(-1.0, -20, 20)  # log-odds to start within 28 days: 31 % on average, A
    start_affinity: float = within(0.9, -10, 10)  # per SD, A
    start_habit: float = within(0.45, -10, 10)  # per SD of the log of usual hours, A
    start_new_tv: float = within(0.25, -10, 10)  # A
    # Pull of each week. Starts fall later than the pull, as not everybody comes every week, and hours later than
    # starts: eight episodes are six hours. The published curve, 52/25/14/9 %, lies between the starts and the hours.
    start_weeks: tuple[float, ...] = within((0.65, 0.195, 0.1, 0.055), 0.001, 1)  # D Samba TV: 75 % of views in 15 days
    going_on: tuple[float, ...] = within(
        (0.690, 0.871, 0.933, 0.941, 0.936, 0.903, 0.968), 0.001, 0.999, any_length=True
    )  # from each episode to the next: with quality -0.3, viewers fall off as those of First Kill, P
    going_on_affinity: float = within(0.55, -10, 10)  # log-odds per SD, A
    going_on_sd: float = within(0.6, 0, 10)  # log-odds, between accounts, A
    quality: float = within(0.0, -10, 10)  # log-odds; -0.55 poor, 0.3 good, 0.9 a hit, anchors P 1899, Heartstopper
    incremental: float = within(0.25, 0, 0.5)  # of the show's hours; the rest replaces other viewing (0.15-0.40), A
    churn: float = within(0.97, 0, 10)  # hazard of those who start, A
    impression: float = within(0.943, 0.001, 1)  # of those who come sees the title: 92 % of all within 28 days, A
    audience: float = within(-10.0, -10, 10)  # affinity (SD) from which the show appeals at all
    elsewhere: float = within(-3.5, -20, 0)  # log-odds to start below that, A
    disclosure: float = within(0.35, -10, 10)  # log-odds to start when told of the special treatment, A
    disclosure_heavy: float = within(2.0, 0, 10)  # times as strong in the top decile of intensity, A
    honeymoon: float = within(0.0, -10, 10)  # log-odds to go on at the launch; halves in a week, ends after two, A
    placebo: float = within(-0.6, -10, 10)  # log-odds to start another new title instead, A


@dataclass(frozen=True, slots=True, kw_only=True)
class Satisfaction(Checked):
    """What people think of what they watched, and who says so. Scores are 1 to 5."""

    mean: float = within(3.55, 1, 5)  # latent, at average affinity, A as all below
    affinity: float = within(0.55, 0, 5)  # per SD
    chosen: float = within(0.56, -5, 5)  # SD of affinity above average, of those who chose a title
    taste: float = within(0.35, 0, 5)  # SD between accounts
    noise: float = within(0.85, 0.01, 5)
    prompted: float = share(0.26)  # of accounts, after an episode: about 225 answers of 10,000 accounts
    response: tuple[float, ...] = within((0.16, 0.07, 0.04, 0.07, 0.17), 0, 1)  # by score: J-shaped, 8.8 % in all
    one_tap: float = share(0.0)  # of prompts, at random: one tap instead of a form, which also asks for the NPS
    one_tap_response: float = share(0.25)  # whatever the score
    incentive: float = share(0.0)  # of prompts, at random: rewarded
    incentive_response: float = within(1.5, 0, 10)  # factor
    incentive_shift: float = within(0.2, -4, 4)  # points that a reward adds to the answer
    answer_minutes: float = within(1.0, 0.01, 1000)  # median
    effort: float = within(
        4.0, 1, 7
    )  # mean answer of 1 to 7 at average satisfaction; 0.6 less for every point above, A
    thumbs: float = share(0.12)  # of plays watched to the end
    hide: float = share(0.3)  # of thumbs down


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs(Checked):
    """What else is logged, and what goes wrong in logging. Shares are 0 where nothing is planted."""

    tickets: float = share(0.015)  # accounts with a ticket in 28 days, A
    topics: tuple[tuple[str, float], ...] = _mix(
        ("payment", 0.35), ("playback", 0.30), ("finding titles", 0.20), ("account", 0.15)
    )  # A
    background: float = share(0.25)  # sessions beside which the app also starts unseen, A
    first_screens: float = share(0.05)  # of sessions, whose impressions are logged, A
    first_screen: int = within(10, 1, 100)  # titles in it; P Gomez-Uribe & Hunt: 10-20 are considered
    campaign: tuple[float, float, float, float] = within((0.0,) * 4, -10, 10)  # log-odds to start, by region, A
    spend: float = within(2000.0)  # a day and region without a campaign, A
    lost: float = share(0.0)  # treated accounts that vanish from the logs, all of them heavy viewers
    leak: float = share(0.0)  # control accounts that get the treatment through their household
    control_gains: float = share(0.0)  # of the effect, through a shared model
    luck: float = within(1.0, 0, 10)  # factor on the effect that the accounts drawn show
    duplicates: float = share(0.0)  # of plays, repeated
    long_days: float = share(0.0)  # of plays, said to have lasted more than a day
    skewed: float = share(0.0)  # of plays, whose clock is days behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Checked):
    """The service as one arm meets it, from the launch on, as factors on the service as it is."""

    show: bool = False  # may the launch title be watched?
    placebo: bool = False  # or another new title in its place?
    told: bool = False  # that this is special
    reach: float = within(1.0, 0, 1)  # on the impressions of the launch title
    opens: float = within(1.0, 0, 10)
    playing: float = within(1.0, 0, 10)  # on the share of sessions that start a play
    session_hours: float = within(1.0, 0, 10)  # of sessions with a play
    first_play: float = within(1.0, 0.01, 10)  # on the time to the first play
    discovery: float = within(1.0, 0, 2)  # on the share of plays that the new ranking puts forward
    churn: float = within(1.0, 0, 10)  # hazard
    late_churn: float = within(1.0, 0, 10)  # hazard after 28 days
    autoplay: float = within(1.0, 0, 3)  # on the share of plays begun by autoplay
    liking: float = within(0.0, -4, 4)  # points of satisfaction
    tickets: float = within(1.0, 0, 50)
    slow_network: float = within(1.0, 1, 100)  # on the delay of slow sessions
    tail: float = within(1.0, 0, 1)  # on the impressions of small creators
    overload: float = within(0.0, 0, 3)  # peak utilisation in stage 2, the second half of the window
    wakes: float = share(0.0)  # of the account-weeks that would have been idle
    binges: float = share(0.0)  # of accounts, that watch about 370 h more in 28 days
    new_tv: bool = False  # works on new TV sets only
    novelty: float = within(0.0, 0, 10)  # part of the effects that comes on top at first, and halves every week
