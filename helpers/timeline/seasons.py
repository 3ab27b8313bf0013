"""Was it a typical time? Holidays, events and campaigns inside the windows, weekdays, and the verdict on all of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ibis import _
from statsmodels.tsa.stattools import acf

from helpers import segments, units
from helpers.errors import ParameterError
from helpers.metrics import Metric
from helpers.report.readout import digits, number
from helpers.results import Check, Estimate, NotEstimable
from helpers.segments import Attribute
from helpers.timeline import course, did

if TYPE_CHECKING:
    import pandas as pd

    from helpers.study import Study

_DIFFER = 0.05  # level at which regions are said to differ
_LARGE = 0.2  # spread of the regions' effects against their mean, from which an average hides too much
_CHANGED = 0.25  # relative change of a region's daily spend that is called a campaign


def typical(data: Study) -> tuple[Check, Check, Check]:
    """Ask whether the launch's windows were a typical time: events, campaigns, and whole weeks.

    An event meets both arms, so that their comparison stands; it speaks of an untypical time all the same, and any
    comparison of before with after is lost.
    """
    return _events(data), _campaigns(data), _whole_weeks(data)


def _windows(data: Study) -> tuple[dt.date, dt.date, dt.date] | None:
    """Give the first day before the launch, the launch's, and the day after its last."""
    launch = data.launch
    if launch.dates is None:
        return None
    start = launch.dates.start
    return start - dt.timedelta(days=launch.pre_days), start, start + dt.timedelta(days=launch.days)


def _events(data: Study) -> Check:
    name, windows = "Calendar", _windows(data)
    if windows is None or "calendar" not in data.tables:
        missing = "the launch has no dates" if windows is None else "the data have no table 'calendar'"
        return Check(name=name, passed=None, detail=f"Could not be asked: {missing}. Look the dates up by hand.")
    first, start, end = windows
    rows = data.table("calendar").filter((_.day >= first) & (_.day < end))
    since, before = _.day.nunique(where=_.day >= start), _.day.nunique(where=_.day < start)
    counts = rows.group_by("event").agg(since=since, before=before).order_by("event").execute()
    if counts.empty:
        return Check(name=name, passed=True, detail="The calendar names no holiday or event in the windows.")
    parts = []
    for where, column in (("since the launch", "since"), ("before it", "before")):
        lasted = zip(counts["event"], counts[column], strict=True)
        named = [f"{event} ({n} day{'s' * (n > 1)})" for event, n in lasted if n]
        if named:
            parts.append(f"{where}: {', '.join(named)}")
    detail = f"Not a typical time, {'; '.join(parts)}. Before and after cannot be compared; the arms can."
    return Check(name=name, passed=False, detail=detail)


def _campaigns(data: Study) -> Check:
    name, windows = "Campaigns", _windows(data)
    if windows is None or "marketing" not in data.tables:
        missing = "the launch has no dates" if windows is None else "the data have no table 'marketing'"
        return Check(name=name, passed=None, detail=f"Could not be asked: {missing}.")
    first, start, end = windows
    rows = data.table("marketing").filter((_.day >= first) & (_.day < end))
    spend = rows.group_by("region").agg(
        before=_.spend.mean(where=_.day < start), since=_.spend.mean(where=_.day >= start)
    )
    frame = spend.execute().dropna().set_index("region").sort_index()
    if frame.empty:
        return Check(name=name, passed=None, detail="Could not be asked: the spend does not cover both windows.")
    ratio = frame["since"] / frame["before"].where(frame["before"] > 0)
    changed = ratio[(ratio - 1).abs() > _CHANGED]
    if changed.empty:
        return Check(
            name=name, passed=True, detail="Daily spend since the launch was about what it was before, everywhere."
        )
    told = ", ".join(f"{region} {value:.1f} times" for region, value in changed.items())
    detail = f"Daily spend changed with the launch: {told} what it was. Read the effect by region, campaign included."
    return Check(name=name, passed=False, detail=detail)


def _whole_weeks(data: Study) -> Check:
    launch, name = data.launch, "Whole weeks"
    odd = [f"{days} days {where}" for days, where in ((launch.pre_days, "before"), (launch.days, "after")) if days % 7]
    if launch.dates is None:
        return Check(name=name, passed=None, detail="Could not be asked: the launch has no dates.")
    if odd:
        detail = f"The windows hold no whole weeks ({', '.join(odd)}), so that they weigh weekends differently."
        return Check(name=name, passed=False, detail=detail)
    return Check(name=name, passed=True, detail="Both windows hold whole weeks, so that each weekday counts the same.")


def weekdays(days: pd.Series[pd.Timestamp], values: pd.Series[float]) -> pd.DataFrame:
    """Describe the week: the mean of each weekday and its index against the mean of all days.

    Returns:
        A row per ISO weekday (1 is Monday): weekday, mean, index. `attrs["acf7"]` is the autocorrelation at a lag of
        seven days (biased, mean-centred), missing where there are fewer than 14 days.

    Raises:
        ParameterError: the days are not consecutive, so that a lag of seven rows is no week.
    """
    import pandas as pd

    order = days.argsort()
    days, values = days.iloc[order], values.iloc[order]
    if (days.diff().dropna() != pd.Timedelta(days=1)).any():
        raise ParameterError("the days are not consecutive; a weekday index needs one value for every day")
    mean = values.groupby(days.dt.day_of_week + 1).mean()
    frame = pd.DataFrame({"weekday": mean.index, "mean": mean.to_numpy(), "index": (mean / values.mean()).to_numpy()})
    frame.attrs["acf7"] = float(acf(values, nlags=7)[7]) if len(values) >= 14 else np.nan
    return frame


def regions(
    data: Study, metric: Metric, region: str, *, treatment: str = "", checks: Sequence[Check] = ()
) -> list[Attribute]:
    """Estimate the effect in each region; none where a check failed, or the data or the launch lack what it needs."""
    failed = any(check.passed is False for check in checks)
    if failed or region not in data.launch.segments or units.why_not(data, metric):
        return []
    return segments.effects(data, metric, attributes=[region], treatment=treatment)


def ask(data: Study, metric: Metric, *, region: str, treatment: str = "", checks: Sequence[Check] = ()) -> Check:
    """Ask in one go whether season and marketing leave the comparison of the arms standing; see `verdict`."""
    path = course.measure(data, metric, treatment=treatment, adjust=False, checks=checks)["all"]
    placebo = did.placebo_in_time(path)
    places = regions(data, metric, region, treatment=treatment, checks=checks)
    return verdict(did.three_ways(path), did.pre_trend(did.event_study(path)), [placebo], places)


def words(ways: Sequence[Estimate | NotEstimable], *, unit: str) -> str:
    """Say what the three comparisons of `did.three_ways` found, in one sentence."""
    said = []
    for e in ways:
        if isinstance(e, Estimate):
            step = digits(e.low, e.high)
            diff, low, high = (number(v, step, signed=True) for v in (e.diff, e.low, e.high))
            said.append(f"{e.metric} {diff} {unit}".rstrip() + f" ({low} to {high})")
    reason = next((e.reason for e in ways if isinstance(e, NotEstimable)), "")
    return f"Found: {'; '.join(said)}." if said else f"Nothing could be compared: {reason}."


def _apart(places: Attribute) -> float:
    """Give the distance between the largest and the smallest effect, drawn together where they are, over their mean."""
    own = [
        s.estimate.diff if s.effect is None else s.effect for s in places.segments if isinstance(s.estimate, Estimate)
    ]
    mean = abs(sum(own)) / max(len(own), 1)
    return (max(own) - min(own)) / mean if len(own) > 1 and mean else float("inf")


def verdict(
    ways: Sequence[Estimate | NotEstimable],
    pre_trend: Check,
    placebos: Sequence[Estimate | NotEstimable],
    regions: Sequence[Attribute],
) -> Check:
    """Say whether the comparison with control stands, whatever the season and the campaigns did.

    Args:
        ways: before/after, against control, and difference in differences, as `did.three_ways` gives them.
        pre_trend: of the event study.
        placebos: effects where there can be none; together they alarm falsely in one launch in a hundred.
        regions: the effect by region, if it could be read. They differ if chance does not explain it and it is much:
            with many accounts a difference that matters to nobody is no chance either.

    Returns:
        A Check that begins with the word: "Suspect" (passed is False), "Differs by region" (True: it stands, but not
        as one number), "Stands" (True), or "Cannot tell" (None).
    """
    name = "Season and marketing"
    against = ways[1]
    if isinstance(against, NotEstimable):
        return Check(name=name, passed=None, detail=f"Cannot tell: {against.reason}.")
    known = [e for e in placebos if isinstance(e, Estimate)]
    failed = [e.metric for e in known if e.p * len(known) < 0.01]
    if pre_trend.passed is False or failed:
        reason = f"an effect shows where there can be none ({', '.join(failed)})" if failed else pre_trend.detail
        return Check(name=name, passed=False, detail=f"Suspect: {reason}")
    p = regions[0].p if regions else None
    if p is not None and p < _DIFFER and _apart(regions[0]) > _LARGE:
        detail = (
            "Differs by region: the effects of the regions lie further apart than chance explains, and by more than a "
            "fifth of their mean. The comparison stands in each of them; their average is no headline."
        )
        return Check(name=name, passed=True, detail=detail, p=p)
    if pre_trend.passed is None and not known:
        return Check(name=name, passed=None, detail="Cannot tell: nothing before the launch could be looked at.")
    detail = "Stands: control lived through the same days, and no placebo stands out from chance."
    return Check(name=name, passed=True, detail=detail)
