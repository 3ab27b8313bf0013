"""The truth: what each metric would be if every assigned account lived in one world, and if all lived in the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from scipy.special import gammaln

from helpers.simulate.parameters import Service
from helpers.simulate.simulation import Simulation
from helpers.simulate.tally import BINS, REBUFFER_BINS, Tally

METRICS = {  # name in the catalogue: numerator and denominator, summed over accounts
    "hours_per_account_week": ("hours", "weeks"),
    "hours_per_active_account_week": ("hours", "active_time"),
    "active_account_share": ("active", "accounts"),
    "sessions_per_active_account_week": ("sessions", "active_time"),
    "discovery_rate": ("shadow", "plays"),
    "browse_to_play": ("fast", "sessions"),
    "session_minutes": ("minutes", "sessions"),
    "session_minutes_by_account": ("own_minutes", "active"),
    "opens_per_account_week": ("sessions", "weeks"),
    "app_opens_per_account_week": ("visits", "weeks"),
    "distinct_titles_per_account": ("titles", "accounts"),
    "titles_per_ten_hours": ("titles", "ten_hours"),
    "churn_28d": ("left", "accounts"),
    "voluntary_churn_28d": ("left_by_choice", "accounts"),
    "net_churn_28d": ("left_for_good", "accounts"),
    "payment_churn_28d": ("left_unpaid", "accounts"),
    "time_to_cancel": ("days_to_leave", "accounts"),
    "tickets_per_account": ("tickets", "accounts"),
    "finding_tickets_per_1000": ("finding_1000", "accounts"),
    "crash_rate": ("crashed", "sessions"),
    "crashed_account_share": ("crashes", "accounts"),
    "never_played_share": ("never", "sessions"),
    "tail_creator_share": ("tail_minutes", "minutes"),
    "tail_impression_share": ("tail_impressions", "impressions"),
    "start_failure_rate": ("failed", "sessions"),
    "play_delay_ms": ("delay", "delayed"),
    "rebuffer_ratio": ("waiting", "delayed"),
    "intentional_start_share": ("chosen", "plays"),
    "intentional_hours_share": ("chosen_minutes", "minutes"),
    "survey_score": ("scores", "answers"),
    "survey_top_box": ("top", "answers"),
    "survey_response_rate": ("answers", "asked"),
    "net_promoter_score": ("promoters", "nps_answers"),
    "regret_rate": ("down", "long_plays"),
    "hidden_after_view_rate": ("hidden", "long_plays"),
    "next_day_return": ("returns", "days_but_last"),
    "effort_score": ("efforts", "nps_answers"),
    "effort_index": ("effort", "sessions"),
    "time_to_value": ("days_to_value", "accounts"),
    "days_to_value": ("days_to_value", "accounts"),
    "feature_repeat_use": ("found_repeats", "accounts"),
    "other_hours_per_account": ("other_hours", "accounts"),
    "net_hours_per_account": ("hours", "accounts"),
}
OF_THE_SHOW = {
    "show_reach": ("reached", "accounts"),
    "show_start_rate": ("starts", "accounts"),
    "show_pilot_completion": ("finishes_pilot", "accounts"),
    **{f"show_episode_{nth}_rate": (f"reaches_{nth}", "accounts") for nth in (2, 4, 8)},
    "show_completion": ("show_whole", "show_plays"),
    "show_repeat_rate": ("show_repeats", "accounts"),
    "show_hours_per_account": ("show_hours", "accounts"),
}
ALSO = {  # not in the catalogue: what scenarios are about
    "hours_per_active_week": ("hours", "active_weeks"),
    "satisfaction_of_all_asked": ("thinks", "asked"),
}
QUANTILES = {  # name in the catalogue: what is spread over sessions, and the share below
    f"{name}_p{share}": (name, share / 100)
    for name, shares in {
        "seconds_to_first_play": (50, 75, 95, 99),
        "play_delay_ms": (50, 95, 99),
        "rebuffer_ratio": (95, 99),
        "recommendation_ms": (50, 95, 99),
    }.items()
    for share in shares
}
GINI = "creator_gini"
REACHED = ("catalogue_coverage", "recommendation_coverage")
MEDIAN = "median_hours_per_account_week"
COLUMNS = ["arm", "metric", "segment", "level", "week", "control", "treatment", "diff", "rel"]


def contrast(
    worlds: Sequence[Tally], arms: Sequence[str], *, assigned: Sequence[int] | np.ndarray, offered: np.ndarray
) -> pd.DataFrame:
    """Contrast the tally of the control world, which is first, with those of each other.

    A week is taken as a window of its own: who starts the show in two weeks counts in both. What can be said of the
    whole window alone, such as the days until something happens, has no weeks. Coverage is that of a quarter of the
    smaller arm's accounts; a group that has no more than so many has none.

    Args:
        worlds: their tallies.
        arms: their names.
        assigned: the accounts of each arm.
        offered: which titles of `titles.ids` there are.

    Returns:
        arm, metric, segment, level, week (0: the whole window), control, treatment, diff, rel (missing where control
        is 0).
    """
    found = [_values(world, offered) for world in worlds]
    rows = []
    for nth, arm in enumerate(arms[1:], 1):
        m = max(min(assigned[0], assigned[nth]) // 4, 1)
        pair = [pd.concat([found[i], _reach(worlds[i], m, offered)], axis=1) for i in (0, nth)]
        for metric in pair[1]:
            row = pd.DataFrame({"control": pair[0][metric], "treatment": pair[1][metric]})
            rows.append(row[row["treatment"].notna()].assign(arm=arm, metric=str(metric)))
    return _with_difference(pd.concat(rows).reset_index())


def _values(world: Tally, offered: np.ndarray) -> pd.DataFrame:
    """Read every metric off a tally: a row per segment, level and week."""
    sums = world.sums.assign(ten_hours=world.sums["hours"] / 10)
    asked = METRICS | ALSO | (OF_THE_SHOW if offered[0] else {})
    values = {name: sums[numerator] / sums[denominator] for name, (numerator, denominator) in asked.items()}
    for name, (of, share) in QUANTILES.items():
        scale = REBUFFER_BINS if BINS[of] == BINS["rebuffer_ratio"] else 1
        values[name] = pd.Series(_quantile(world.spread[of], share) / scale, index=sums.index)
    known = slice(0 if offered[[0, -1]].any() else 1, None)  # who makes the new titles is first
    values[GINI] = pd.Series([_gini(minutes[known]) for minutes in world.creators], index=sums.index)
    return pd.DataFrame(values)


def _quantile(counts: np.ndarray, share: float) -> np.ndarray:
    """Find the value that a share of each row's counts does not pass."""
    reached = np.cumsum(counts, axis=1)
    found: np.ndarray = (reached < share * reached[:, -1:]).sum(axis=1)
    return np.where(reached[:, -1] > 0, found, np.nan)


def _gini(minutes: np.ndarray) -> float:
    """Gini coefficient of all creators, of whom some may have nothing."""
    x = np.sort(minutes)
    with np.errstate(invalid="ignore"):
        return float(2 * (np.arange(1, len(x) + 1) * x).sum() / (len(x) * x.sum()) - (len(x) + 1) / len(x))


def _reach(world: Tally, m: int, offered: np.ndarray) -> pd.DataFrame:
    """Share of the titles that m accounts reach on average, of all that there are (Hurlbert 1971, eq. 3)."""
    n = world.sums["accounts"].to_numpy(float)[:, None]
    found = {}
    for name in REACHED:
        rest = n - world.reached[name][:, offered]
        log_missed = gammaln(rest + 1) - gammaln(np.maximum(rest - m, 0) + 1) - gammaln(n + 1) + gammaln(n - m + 1)
        share = 1 - np.where(rest >= m, np.exp(log_missed), 0).mean(axis=1)
        found[name] = pd.Series(np.where(n[:, 0] > m, share, np.nan), index=world.sums.index)
    return pd.DataFrame(found)


def medians(hours: Sequence[np.ndarray], weight: np.ndarray, weeks: float, arms: Sequence[str]) -> pd.DataFrame:
    """Contrast the median account's weekly hours of every world with the control world's."""
    found = []
    for values in hours:
        order = np.argsort(values)
        reached = np.cumsum(weight[order])
        found.append(values[order][np.searchsorted(reached, reached[-1] / 2)] / weeks)
    rows = [(arm, MEDIAN, "all", "all", 0, found[0], one) for arm, one in zip(arms[1:], found[1:], strict=True)]
    return _with_difference(pd.DataFrame(rows, columns=COLUMNS[:7]))


def planted(simulation: Simulation) -> pd.DataFrame:
    """List what the scenario sets, as rows of segment "planted": what would be there without it, and what is."""
    usual, rows = Service(), []
    for name, scenario in simulation.scenarios.items():
        for key, value in scenario.world.items():
            for level, number in _numbers(key, value):
                rows.append(("", name, "planted", level, 0, np.nan, number))
        if scenario.pool:
            rows.append(("", name, "planted", f"treatment among {scenario.pool}", 0, 0.0, 1.0))
    base = next(iter(simulation.scenarios))
    for arm, service in zip(simulation.arms, simulation.services, strict=True):
        pairs = [(f.name, float(getattr(usual, f.name)), float(getattr(service, f.name))) for f in fields(Service)]
        rows += [(arm, base, "planted", name, 0, was, now) for name, was, now in pairs if now != was]
    return _with_difference(pd.DataFrame(rows, columns=COLUMNS[:7]).astype({"control": float, "treatment": float}))


def _numbers(key: str, value: object) -> list[tuple[str, float]]:
    """Spread a setting over its numbers."""
    if key == "events":
        return [(f"{name}, from day {first} for {days}", factor) for name, first, days, factor in value]  # type: ignore[attr-defined]
    values = value if isinstance(value, tuple) else (value,)
    return [(f"{key}[{nth}]" if len(values) > 1 else key, float(one)) for nth, one in enumerate(values)]


def _with_difference(rows: pd.DataFrame) -> pd.DataFrame:
    rows["diff"] = rows["treatment"] - rows["control"]
    rows["rel"] = (rows["diff"] / rows["control"]).where(rows["control"] > 0)
    return rows[COLUMNS]
