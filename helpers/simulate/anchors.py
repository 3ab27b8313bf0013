"""Anchors: what is published or set down about services like this one, and what the simulated one makes of it.

Two kinds of error are kept apart. `low` and `high` are the values that the statement itself allows: its rounding, or
the range of what is published. To these, four standard errors of the simulation are added, measured between groups of
its own accounts. Nothing else is: an anchor that is missed is a fault of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from helpers.simulate.observed import GROUPS, Lived, survival

FIRST_KILL = (0.669, 0.582, 0.544, 0.514, 0.484, 0.443, 0.431)  # of those who saw the first episode, from the second on
_TUNED_ON = 200_000  # accounts of the run from which assumed figures were read: they have its error too
ERRORS = 4  # standard errors that chance may account for: with 19 degrees of freedom, 1 in 1,300 for each anchor

LEFT_OUT = (  # what is published and the model does not hold: the figure, its source, and why
    ("80 % of hours are influenced by recommendations", "Gomez-Uribe and Hunt", "influence has no event that shows it"),
    ("watch time within a title: exponential, then a truncated power law", "PPLive study", "titles are left at random"),
    ("members lose interest after 60 to 90 s of choosing", "Gomez-Uribe and Hunt", "told of people, not seen in logs"),
    ("10.5 to 12 min of choosing per session; 19 to 21 % give up", "surveys: Gracenote, Nielsen", "stated, not logged"),
    ("21 min a day less without autoplay", "Schaffner et al. 2024/25", "76 heavy users; no switch turns it off"),
    ("a third of those who sign up come and go", "Antenna", "nobody signs up in the window of a launch"),
)

Measure = Callable[[Lived], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One figure: as it is stated, the values that this allows, where it comes from, and how it is measured."""

    about: str
    name: str
    stated: str
    low: float
    high: float
    basis: Literal["published", "derived", "assumed"]
    source: str
    measure: Measure


def realised(lived: Lived, anchors: Sequence[Anchor] | None = None) -> pd.DataFrame:
    """Measure every anchor, with its error.

    Args:
        lived: of at least some thousand accounts.
        anchors: all of `ANCHORS` where None.

    Returns:
        A row per anchor: about, anchor, stated, low, high, realised, error (standard, of the simulation), holds, basis,
        source.
    """
    split = {name: dict(list(getattr(lived, name).groupby("group"))) for name in ("accounts", "sessions", "asked")}
    groups = [Lived(**{name: parts[nth] for name, parts in split.items()}) for nth in range(GROUPS)]
    rows = []
    for anchor in ANCHORS if anchors is None else anchors:
        value = anchor.measure(lived)
        with np.errstate(divide="ignore", invalid="ignore"):  # a small group may lack what is rare
            by_group = np.array([anchor.measure(group) for group in groups])
        told = by_group[np.isfinite(by_group)]
        error = np.std(told, ddof=1) / np.sqrt(len(told))
        if anchor.basis == "assumed":
            error *= np.sqrt(1 + len(lived.accounts) / _TUNED_ON)
        holds = anchor.low - ERRORS * error <= value <= anchor.high + ERRORS * error
        stated = (anchor.about, anchor.name, anchor.stated, anchor.low, anchor.high)
        rows.append((*stated, value, error, bool(holds), anchor.basis, anchor.source))
    columns = ["about", "anchor", "stated", "low", "high", "realised", "error", "holds", "basis", "source"]
    return pd.DataFrame(rows, columns=columns)


def _mean(column: str, lived: Lived) -> float:
    return float(lived.accounts[column].mean())


def _ratio(numerator: str, denominator: str, lived: Lived) -> float:
    return float(lived.accounts[numerator].sum() / lived.accounts[denominator].sum())


def _session(how: Callable[[pd.Series[float]], float], column: str, lived: Lived) -> float:
    return float(how(lived.sessions[column]))


def top(share: float, lived: Lived) -> float:
    """Share of four weeks' hours that the heaviest accounts hold."""
    ordered = np.sort(lived.month)[::-1]
    return float(ordered[: int(share * len(ordered))].sum() / ordered.sum())


def gini(lived: Lived) -> float:
    """Inequality of four weeks' hours: 0 where all watch the same, near 1 where one watches everything."""
    x = np.sort(lived.month)
    return float(2 * (np.arange(1, len(x) + 1) * x).sum() / (len(x) * x.sum()) - (len(x) + 1) / len(x))


def hill(lived: Lived) -> float:
    """Tail index over the top per cent (Hill 1975)."""
    x = np.sort(lived.month)[-max(len(lived.month) // 100, 2) :]
    return float(1 / np.log(x[1:] / x[0]).mean())


def _skew(values: np.ndarray) -> float:
    return float(((values - values.mean()) ** 3).mean() / values.std() ** 3)


def intraclass(lived: Lived) -> float:
    """Intraclass correlation of session minutes, by one-way analysis of variance with groups of unequal size."""
    a = lived.accounts[lived.accounts["visits"] > 0]
    n, total, k = a["visits"], a["visits"].sum(), len(a)
    within = (a["squares"] - a["minutes"] ** 2 / n).sum() / (total - k)
    between = ((a["minutes"] ** 2 / n).sum() - a["minutes"].sum() ** 2 / total) / (k - 1)
    size = (total - (n**2).sum() / total) / (k - 1)
    return float((between - within) / (between + (size - 1) * within))


def _design_effect(lived: Lived) -> float:
    visits = lived.accounts["visits"]
    return float(1 + ((visits**2).sum() / visits.sum() - 1) * intraclass(lived))


def _correlation(lived: Lived) -> float:
    return float(np.corrcoef(lived.month, lived.accounts["after"])[0, 1])


def _weekday(days: Sequence[int], lived: Lived) -> float:
    by_day = lived.accounts[[f"weekday_{nth}" for nth in range(7)]].sum().to_numpy()
    return float(by_day[list(days)].mean() / by_day.mean())


def _season(window: str, against: str, lived: Lived) -> float:
    lift = _ratio(f"season_{window}", f"usual_{window}", lived)
    return lift / _ratio(f"season_{against}", f"usual_{against}", lived) if against else lift


def _lost_minutes(lived: Lived) -> float:
    """Slope of session minutes on rebuffering, in percentage points."""
    playing = lived.sessions[lived.sessions["minutes"] > 0]
    cov = np.cov(100 * playing["rebuffer"], playing["minutes"])
    return float(cov[0, 1] / cov[0, 0])


def _churn(low: float, high: float, lived: Lived) -> float:
    return float(lived.accounts.loc[lived.accounts["uncancelled"].between(low, high), "cancelled"].mean())


def _early(lived: Lived) -> float:
    left = lived.accounts[lived.accounts["cancelled"]]
    return float((left["uncancelled"] < 5).mean())


def _back(lived: Lived) -> float:
    return float(lived.accounts.loc[lived.accounts["left"], "back"].mean())


def _first_year(lived: Lived) -> float:
    by = lived.accounts.groupby("first_year")["cancelled"].mean()
    return float(by[True] / by[False])


def _fifth(nth: int, lived: Lived) -> float:
    return float(lived.accounts.loc[lived.accounts["fifth"] == nth, "show_started"].mean())


def _comes_to(episode: int, quality: str, lived: Lived) -> float:
    return float((lived.starters[f"reach_{quality}"] >= episode).mean())


def _hooked(lived: Lived) -> float:
    """First episode of an average show whose viewers finish with at least 70 %."""
    left = survival(lived)["average"]
    return float(left.index[left.iloc[-1] / left >= 0.7][0])


def _week_share(what: str, week: int, lived: Lived) -> float:
    weeks = lived.accounts[[f"show_{what}_{nth}" for nth in range(4)]].sum()
    return float(weeks.iloc[week] / weeks.sum())


def _per_starter(lived: Lived) -> float:
    return float(lived.starters["show_hours"].mean())


def _net(lived: Lived) -> float:
    return _ratio("show_after", "after", lived) - 1


def _on_top(lived: Lived) -> float:
    stay = lived.accounts[~lived.accounts["cancelled"] & ~lived.accounts["show_cancelled"]]
    return float((stay["show_after"] - stay["after"]).sum() / stay["show_hours"].sum())


def _response(score: int, lived: Lived) -> float:
    return float(lived.asked.loc[lived.asked["thinks"] == score, "answered"].mean())


def _answers(how: Callable[[pd.Series[int]], float], lived: Lived) -> float:
    return float(how(lived.asked.loc[lived.asked["answered"], "score"]))


def _share(column: pd.Series[float]) -> float:
    return float(column.mean())


def _allowed(stated: str) -> tuple[float, float]:
    """Turn a stated figure into the values that its rounding allows.

    >>> _allowed("18 %")
    (0.175, 0.185)
    """
    number, _, unit = stated.partition(" ")
    decimals = len(number.partition(".")[2])
    scale = 0.01 if unit.startswith("%") else 1
    low, high = (round((float(number) + side * 0.5 * 10.0**-decimals) * scale, 8) for side in (-1, 1))
    return low, high


def _anchor(
    about: str,
    name: str,
    stated: str,
    measure: Measure,
    basis: Literal["published", "derived", "assumed"] = "assumed",
    source: str = "",
    allowed: tuple[float, float] | None = None,
) -> Anchor:
    low, high = allowed or _allowed(stated)
    return Anchor(
        about=about, name=name, stated=stated, low=low, high=high, basis=basis, source=source, measure=measure
    )


def _months(measure: Callable[[np.ndarray], float]) -> Measure:
    return lambda lived: float(measure(lived.month))


def _of_weeks(measure: Callable[[np.ndarray], float]) -> Measure:
    return lambda lived: float(measure(lived.weeks))


_TUNED = "tuned to the published figures"
_NETFLIX_HOURS = "Netflix 2015: 568 h a year; first half of 2023: 100 bn h over 235 m memberships"
_SAMBA = "75 % of views in 15 days (Samba TV), of which the curve is derived; that curve itself gives 79 %"
_KILL = "First Kill: viewers of each episode over those of the first"

ANCHORS: tuple[Anchor, ...] = (
    _anchor("viewing", "hours per account and week", "10.8", _of_weeks(np.mean), source=_TUNED),
    _anchor(
        "viewing",
        "hours per account and week",
        "10.9 to 16",
        _of_weeks(np.mean),
        "published",
        _NETFLIX_HOURS,
        (10.85, 16.5),
    ),
    _anchor("viewing", "hours per active week", "13.3", _of_weeks(lambda w: w[w > 0].mean()), source=_TUNED),
    _anchor(
        "viewing", "hours in the median active week", "9.3", _of_weeks(lambda w: np.median(w[w > 0])), source=_TUNED
    ),
    _anchor("viewing", "accounts idle in a week", "18 %", _of_weeks(lambda w: (w == 0).mean())),
    _anchor("viewing", "accounts idle in four weeks", "1.8 %", _months(lambda m: (m == 0).mean())),
    _anchor("viewing", "variation (SD / mean) of a week", "1.22", _of_weeks(lambda w: w.std() / w.mean())),
    _anchor("viewing", "variation (SD / mean) of four weeks", "0.96", _months(lambda m: m.std() / m.mean())),
    _anchor("viewing", "skewness of a week", "2.8", _of_weeks(lambda w: _skew(w.ravel()))),
    _anchor("viewing", "skewness of four weeks", "2.7", _months(_skew)),
    _anchor("viewing", "hours of the top 20 %", "49.5 %", partial(top, 0.2), source=_TUNED),
    _anchor(
        "viewing", "hours of the top 20 %", "50 %", partial(top, 0.2), "published", "Nielsen: about half", (0.45, 0.55)
    ),
    _anchor("viewing", "hours of the top 10 %", "32 %", partial(top, 0.1)),
    _anchor("viewing", "hours of the top 1 %", "6.1 %", partial(top, 0.01)),
    _anchor("viewing", "Gini coefficient of four weeks", "0.46", gini),
    _anchor("viewing", "tail index over the top 1 % (Hill)", "4", hill),
    _anchor(
        "viewing",
        "correlation of a week with the next",
        "0.52",
        _of_weeks(lambda w: np.corrcoef(w[:, 1], w[:, 2])[0, 1]),
    ),
    _anchor("viewing", "correlation of four weeks with the next four", "0.71", _correlation),
    _anchor(
        "viewing",
        "variance that four weeks before explain",
        "50 %",
        lambda s: _correlation(s) ** 2,
        source="about",
        allowed=(0.45, 0.55),
    ),
    _anchor("viewing", "intraclass correlation of session lengths", "0.076", intraclass),
    _anchor("viewing", "design effect of sessions", "4.5", _design_effect, source="about", allowed=(4.25, 4.75)),
    _anchor("viewing", "Monday to Thursday, against the mean day", "0.92", partial(_weekday, (0, 1, 2, 3))),
    _anchor("viewing", "Friday", "1.05", partial(_weekday, (4,))),
    _anchor("viewing", "Saturday", "1.15", partial(_weekday, (5,))),
    _anchor("viewing", "Sunday", "1.12", partial(_weekday, (6,))),
    _anchor(
        "viewing",
        "holiday season, against the usual",
        "1.09",
        partial(_season, "season", ""),
        "published",
        "Nielsen Gauge, December 2024",
    ),
    _anchor("viewing", "week of the holidays", "1.20", partial(_season, "holidays", ""), "derived", "Nielsen, 2021"),
    _anchor("viewing", "evening of a final, within the season", "0.92", partial(_season, "final", "season")),
    _anchor("viewing", "day of an outage, within the season", "0.85", partial(_season, "outage", "season")),
    _anchor(
        "choosing",
        "hours found in personalised rows",
        "66 %",
        partial(_ratio, "found", "seconds"),
        "published",
        "Gomez-Uribe and Hunt: two of three",
    ),
    _anchor(
        "choosing",
        "sessions that play within five minutes",
        "78 %",
        partial(_session, lambda x: float((x <= 5).mean()), "first_play"),
    ),
    _anchor("choosing", "sessions that never play", "8 %", partial(_session, lambda x: x.isna().mean(), "first_play")),
    _anchor("choosing", "median minutes to the first play", "1.6", partial(_session, pd.Series.median, "first_play")),
    *(
        _anchor(
            "choosing", f"plays begun by {name.replace('_', ' ')}", stated, partial(_ratio, f"begun_{name}", "plays")
        )
        for name, stated in {
            "continue_watching": "40 %",
            "browse": "30 %",
            "autoplay_next": "18 %",
            "search": "8 %",
            "notification": "4 %",
        }.items()
    ),
    _anchor(
        "quality",
        "median play delay on an ordinary network, ms",
        "1800",
        partial(_session, pd.Series.median, "delay"),
        source="Akamai 2017: mean 4,840",
    ),
    _anchor("quality", "sessions on a slow network", "5 %", partial(_session, _share, "slow")),
    _anchor("quality", "median rebuffering", "0.2 %", partial(_session, pd.Series.median, "rebuffer")),
    _anchor(
        "quality",
        "rebuffering of the worst 1 %",
        "3 %",
        partial(_session, lambda x: float(x.quantile(0.99)), "rebuffer"),
    ),
    _anchor("quality", "failed starts", "0.7 %", partial(_session, _share, "failed"), source="Conviva 2015: 2.6 %"),
    _anchor(
        "quality", "sessions with a crash", "0.05 %", partial(_session, _share, "crashed"), "published", "Instabug"
    ),
    _anchor(
        "quality",
        "minutes lost per percentage point of rebuffering",
        "-8 to -14",
        _lost_minutes,
        "published",
        "range of published values",
        (-14, -8),
    ),
    _anchor(
        "quality",
        "rebuffering at 105 % of the capacity, against the usual",
        "7",
        lambda s: float(s.accounts["rebuffering"].max()),
    ),
    _anchor("quality", "accounts that ask the support in 28 days", "1.5 %", partial(_mean, "asks")),
    _anchor("churn", "accounts that cancel in 28 days", "1.9 %", partial(_mean, "cancelled"), source=_TUNED),
    _anchor(
        "churn",
        "accounts that cancel in 28 days",
        "1.8 to 2.4 %",
        partial(_mean, "cancelled"),
        "published",
        "Netflix, by Antenna 2021-24",
        (0.018, 0.024),
    ),
    _anchor("churn", "at 0 hours in 28 days", "8.8 %", partial(_churn, 0, 0)),
    _anchor("churn", "at 10 hours", "3.7 %", partial(_churn, 8, 12)),
    _anchor("churn", "at 40 hours", "0.9 %", partial(_churn, 34, 46)),
    _anchor("churn", "cancellations from accounts below 5 hours", "22 %", _early),
    _anchor("churn", "first year against later years", "2.1", _first_year, "derived", "Antenna: 8.6 % against 4.0 %"),
    _anchor("churn", "cancellations for want of payment", "20 %", partial(_ratio, "pays", "left")),
    _anchor("churn", "return within a year", "34 %", _back, "published", "Antenna: of gross additions"),
    _anchor("show", "accounts that are shown it in 28 days", "92 %", partial(_mean, "show_reached")),
    _anchor("show", "accounts that start it", "31 %", partial(_mean, "show_started")),
    _anchor("show", "would start, lowest fifth of affinity", "12 %", partial(_fifth, 0)),
    _anchor("show", "would start, highest fifth of affinity", "59 %", partial(_fifth, 4)),
    _anchor("show", "would start if told that it is special", "38 %", partial(_mean, "show_told")),
    *(
        _anchor("show", f"would start with a campaign of +{shift} log-odds", stated, partial(_mean, f"would_{shift}"))
        for shift, stated in {0.25: "36 %", 0.5: "41 %", 0.8: "47 %"}.items()
    ),
    *(
        _anchor(
            "show",
            f"starters of a weak show who come to episode {nth}",
            f"{100 * share:.1f} %",
            partial(_comes_to, nth, "weak"),
            "published",
            _KILL,
        )
        for nth, share in enumerate(FIRST_KILL, start=2)
    ),
    *(
        _anchor("show", f"starters who finish a show that is {name}", stated, partial(_comes_to, 8, name))
        for name, stated in {"poor": "36 %", "weak": "43 %", "average": "51 %", "good": "59 %", "hit": "72 %"}.items()
    ),
    _anchor(
        "show",
        "starters who finish, poor show",
        "32 to 43 %",
        partial(_comes_to, 8, "poor"),
        "published",
        "1899, First Kill",
        (0.315, 0.435),
    ),
    _anchor("show", "starters who finish, hit", "73 %", partial(_comes_to, 8, "hit"), "published", "Heartstopper"),
    _anchor("show", "episode that hooks", "2 to 8", _hooked, "published", "Netflix: never the first episode", (2, 8)),
    *(
        _anchor(
            "show",
            f"{what} in week {week + 1}",
            f"{stated} %",
            partial(_week_share, what, week),
            "derived",
            _SAMBA,
            (stated / 100 - 0.04, stated / 100 + 0.04),
        )
        for what in ("starts", "hours")
        for week, stated in enumerate((52, 25, 14, 9))
    ),
    _anchor(
        "show",
        "hours within 15 days",
        "75 %",
        partial(_ratio, "show_hours_15", "show_hours"),
        "published",
        "Samba TV",
        (0.725, 0.775),
    ),
    _anchor("show", "hours per account with access", "1.17", partial(_mean, "show_hours")),
    _anchor("show", "hours per starter", "3.7", _per_starter),
    _anchor("show", "share of all viewing", "2.7 %", partial(_ratio, "show_hours", "show_after")),
    _anchor("show", "share of its hours that come on top", "25 %", _on_top),
    _anchor("show", "more hours in all", "0.7 %", _net),
    _anchor("satisfaction", "mean score of all who are asked", "3.80", lambda s: float(s.asked["thinks"].mean())),
    _anchor(
        "satisfaction", "top score among all who are asked", "27 %", lambda s: float((s.asked["thinks"] == 5).mean())
    ),
    _anchor("satisfaction", "surveys answered", "8.8 %", lambda s: float(s.asked["answered"].mean())),
    *(
        _anchor("satisfaction", f"answered by those who would give {score}", stated, partial(_response, score))
        for score, stated in enumerate(("16 %", "7 %", "4 %", "7 %", "17 %"), start=1)
    ),
    _anchor("satisfaction", "mean score of the answers", "4.20", partial(_answers, pd.Series.mean)),
    _anchor("satisfaction", "top score among the answers", "51 %", partial(_answers, lambda x: (x == 5).mean())),
    _anchor("satisfaction", "thumbs per play watched to the end", "12 %", partial(_ratio, "rated", "whole")),
)
