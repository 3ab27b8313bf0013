"""Was it a typical time? Holidays, events and campaigns inside the windows, weekdays, and the verdict on all of it."""

from __future__ import annotations

import calendar
import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from ibis import _
from statsmodels.tsa.stattools import acf

from helpers import metrics, segments, units
from helpers.clock import seconds
from helpers.errors import ParameterError
from helpers.metrics import UNITS_TABLE, Metric
from helpers.report.readout import describe, digits, number
from helpers.results import SUCCESS, Check, Estimate, NotEstimable, about, figures, nothing
from helpers.segments import Attribute
from helpers.timeline import course, did
from helpers.timeline.course import Course

if TYPE_CHECKING:
    import pandas as pd

    from helpers.study import Study

EVENTS, CAMPAIGNS, WEEKS = "Holidays and events", "Campaigns", "Whole weeks"  # the checks of `typical`
PLACEBO = "rebuffer_ratio"  # a metric that launches cannot move, where nothing else is said
REGION = "region"  # the segment in which campaigns differ, where nothing else is said
DIFFERS = "Differs by region"  # how `verdict` begins where it finds that
PLANNED = "as planned (chapter 04)"
_DAY = 86_400
_LARGE = 0.2  # spread of the regions' effects against their mean, from which an average hides too much
_WORTH = 0.05  # of control's level: the least effect that a spread is held against
_CHANGED = 0.25  # relative change of a region's daily spend that is called a campaign
_ODD_WEEK = 0.5  # of a single week against the region's usual one


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
    """Name what the launch's own calendar and the table of that name have in the windows, each day of an event once."""
    launch, name, windows = data.launch, EVENTS, _windows(data)
    if windows is None or (launch.calendar is None and "calendar" not in data.tables):
        missing = "the launch has no dates" if windows is None else "neither launch nor data have a 'calendar'"
        return Check(name=name, passed=None, detail=f"Could not be asked: {missing}. Look the dates up by hand.")
    first, start, end = windows
    days = {
        (e.event, e.start + dt.timedelta(days=nth))
        for e in launch.calendar or ()
        for nth in range((e.last - e.start).days + 1)
    }
    if "calendar" in data.tables:
        rows = data.table("calendar").filter((_.day >= first) & (_.day < end)).select("event", "day").execute()
        days |= {(event, dt.date(day.year, day.month, day.day)) for event, day in rows.itertuples(index=False)}
    since = Counter(event for event, day in days if start <= day < end)
    before = Counter(event for event, day in days if first <= day < start)
    parts = []
    for where, found in (("since the launch", since), ("before it", before)):
        named = [f"{event} ({n} day{'s' * (n > 1)})" for event, n in sorted(found.items())]
        parts += [f"{where}: {', '.join(named)}"] if named else []
    if not parts:
        return Check(name=name, passed=True, detail="The calendar names no holiday or event in the windows.")
    detail = f"Not a typical time, {'; '.join(parts)}. Before and after cannot be compared; the arms can."
    return Check(name=name, passed=False, detail=detail)


def _campaigns(data: Study) -> Check:
    """Compare each region's daily spend since the launch with that before it; where it is alike, each week of it.

    A day without a row has none. A week is held against the region's median of whole weeks, counted from the launch, in
    both windows; where that is nothing, only the windows are compared.
    """
    launch, name, windows = data.launch, CAMPAIGNS, _windows(data)
    if windows is None or "marketing" not in data.tables or not launch.pre_days:
        missing = "the data have no table 'marketing'" if windows else "the launch has no dates"
        missing = missing if launch.pre_days or "marketing" not in data.tables else "the launch names no days before it"
        return Check(name=name, passed=None, detail=f"Could not be asked: {missing}.")
    first, start, end = windows
    rows = data.table("marketing").filter((_.day >= first) & (_.day < end)).select("region", "day", "spend").execute()
    if rows.empty:
        return Check(name=name, passed=None, detail="Could not be asked: no spend is recorded in the windows.")
    day = np.array([(dt.date(d.year, d.month, d.day) - start).days for d in rows["day"]])
    daily = rows.assign(day=day).pivot_table(index="region", columns="day", values="spend", aggfunc="sum")
    daily = daily.reindex(columns=range(-launch.pre_days, launch.days)).fillna(0.0)
    changed, odd = [], []
    for region, spend in daily.astype(float).iterrows():
        before, since = (float(part.mean()) for part in (spend[spend.index < 0], spend[spend.index >= 0]))
        if abs(since - before) > _CHANGED * before:
            times = f"{since / before:.1f} times what it was" if before else f"from nothing to {figures(since, 4)}"
            changed.append(f"{region} {times}")
            continue
        weeks = spend.groupby(spend.index // 7).agg(["sum", "size"]).query("size == 7")["sum"]
        usual = float(weeks.median())
        odd += [
            f"{region} from {start + dt.timedelta(days=7 * week):%Y-%m-%d} on {of / usual:.1f} times its usual week"
            for week, of in weeks.items()
            if usual and abs(of - usual) > _ODD_WEEK * usual
        ]
    if not changed and not odd:
        detail = "Daily spend since the launch was about what it was before, everywhere and in every week."
        return Check(name=name, passed=True, detail=detail)
    found = [f"Daily spend changed with the launch: {', '.join(changed)}."] if changed else []
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        found.append(f"Single weeks had a campaign: {', '.join(odd[:3])}{more}.")
    detail = f"{' '.join(found)} Read the effect by region, campaign included."
    return Check(name=name, passed=False, detail=detail)


def _whole_weeks(data: Study) -> Check:
    launch, name = data.launch, WEEKS
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


def week(data: Study, metric: Metric) -> pd.DataFrame:
    """Describe the week of the control arm, over the days (UTC) on which all of its accounts were watched.

    Returns:
        weekday (its name), index (the day's mean over that of all days, of the metric's numerator); no rows where the
        data hold no times, or fewer than two such weeks.
    """
    import pandas as pd

    launch, none = data.launch, nothing("the data hold no times of it, or fewer than two weeks", ["weekday", "index"])
    if UNITS_TABLE in data.tables or not (metric.averaged and metric.numerator.adds_up) or units.why_not(data, metric):
        return none
    events = units.near(data, metric.numerator)
    events = events.semi_join(data.assignments.filter(_.arm == launch.arms.control), "account")
    events = events.mutate(day=seconds(events["at"]) // _DAY, anchor=seconds(events.anchor))
    sums = events.aggregate(by="day", value=_.value.sum(), early=_.anchor.min(), late=_.anchor.max()).execute()
    if sums.empty:
        return none
    first, last = -(-sums["late"].max() // _DAY) - launch.pre_days, sums["early"].min() // _DAY + launch.days
    days = np.arange(first, last)[: max(last - first, 0) // 7 * 7]
    if len(days) < 14:
        return none
    value = sums.set_index("day")["value"].reindex(days, fill_value=0.0).reset_index(drop=True)
    found = weekdays(pd.Series(pd.to_datetime(days, unit="D")), value)
    return found.assign(weekday=list(calendar.day_name))[["weekday", "index"]]


def placebo(data: Study, name: str, *, treatment: str = "", checks: Sequence[Check] = ()) -> Estimate | NotEstimable:
    """Estimate the difference in differences of a metric of the catalogue that the launch cannot move.

    One of the plan's is refused: if the launch is watched for moving it, its moving is no fault of the comparison.
    """
    metric = metrics.get(name)
    if any(p.metric.name == name for p in data.launch.plan):
        reason = "the plan itself watches this metric; name one that the launch cannot move"
        return NotEstimable(metric=f"placebo outcome: {metric.title}", reason=reason)
    path = course.measure(data, metric, treatment=treatment, adjust=False, checks=checks)["all"]
    return replace(did.placebo_outcome(path), metric=f"placebo outcome: {metric.title}")


def placebos(
    data: Study,
    path: Course | NotEstimable,
    name: str = PLACEBO,
    *,
    treatment: str = "",
    checks: Sequence[Check] = (),
) -> list[Estimate | NotEstimable]:
    """Ask of a course for an effect where there can be none: before the launch, and in an outcome it cannot move."""
    return [did.placebo_in_time(path), placebo(data, name, treatment=treatment, checks=checks)]


def regions(data: Study, region: str = REGION, *, treatment: str = "", checks: Sequence[Check] = ()) -> list[Attribute]:
    """Estimate the effects on the launch's success metrics in each region, the north star first.

    The tests of whether regions differ are corrected together (Holm). None where a check failed, or the launch does not
    name the segment.
    """
    if any(check.passed is False for check in checks) or region not in data.launch.segments:
        return []
    success = [p.metric for p in units.measurable(data) if p.role in SUCCESS]
    found = [segments.effects(data, metric, attributes=[region], treatment=treatment) for metric in success]
    return segments.corrected([one for each in found for one in each])


def differing(places: Sequence[Attribute], *, alpha: float) -> list[Attribute]:
    """List the metrics whose effects differ between regions by more than chance, and by much, most surely first.

    With many accounts a difference that matters to nobody is no chance either. Much is a fifth of the mean effect, and
    where that is small, of a twentieth of control's level: about nothing, any spread is large.
    """
    apart = [a for a in places if a.p_adjusted is not None and a.p_adjusted < alpha and _apart(a) > _LARGE]
    return sorted(apart, key=lambda a: (a.p_adjusted or 0.0, a.p or 0.0))


def shown(places: Sequence[Attribute], *, alpha: float) -> list[Attribute]:
    """Choose the metric whose regions are drawn: the first that differs, or else the launch's first."""
    return [*differing(places, alpha=alpha), *places][:1]


def tests(places: Sequence[Attribute]) -> pd.DataFrame:
    """Lay out Welch's test by metric: metric, lowest and highest effect (drawn together), p, p_adjusted (Holm)."""
    import pandas as pd

    ends = [[v for v, _ in _effects(a)] for a in places]
    rows = [
        {"metric": a.metric, "lowest": min(v, default=None), "highest": max(v, default=None), "p": a.p,
         "p_adjusted": a.p_adjusted}
        for a, v in zip(places, ends, strict=True)
    ]  # fmt: skip
    columns = ["metric", "lowest", "highest", "p", "p_adjusted"]
    if not rows:
        return nothing(segments.NO_GROUPS, columns)
    return pd.DataFrame(rows, columns=columns).astype({"p": float, "p_adjusted": float})


def compared(
    ways: Sequence[Estimate | NotEstimable],
    planned: Estimate | NotEstimable,
    typical: Sequence[Check],
    *,
    cap: float | None = None,
) -> list[Estimate | NotEstimable]:
    """Set the number of chapter 04 under the three ways, and say of each what is in it.

    Args:
        ways: as `did.three_ways` gives them.
        planned: the estimate that the launch planned, as the scorecard has it.
        typical: whether it was a typical time; where not, before/after is called misleading.
        cap: the metric's own, which is of the whole window: the three ways know none.
    """
    spoilt = [c.name.lower() for c in typical if c.passed is False]
    since = "the launch and all else since" + (f"; misleading here ({', '.join(spoilt)})" if spoilt else "")
    holds = (since, "the launch, and what differed before", "the launch, if the arms would have moved alike")
    named = [*ways, replace(planned, metric=PLANNED)]
    capped = ("; nothing is capped", "; capped as planned") if cap else ("", "")
    notes = (*(note + capped[0] for note in holds), "the launch; the number to defend" + capped[1])
    return [replace(e, note=n) if isinstance(e, Estimate) else e for e, n in zip(named, notes, strict=True)]


def ask(
    data: Study,
    *,
    treatment: str = "",
    checks: Sequence[Check] = (),
    region: str = REGION,
    planned: Mapping[str, Estimate | NotEstimable] | None = None,
) -> Check:
    """Ask in one go, as chapter 08 does, whether season and marketing leave the comparison standing (`course.chosen`).

    `planned` are the estimates that the launch planned, by metric, as the scorecard has them.
    """
    launch, read = data.launch, course.chosen(data)
    path = course.measure(data, read.metric, treatment=treatment, adjust=False, checks=checks)["all"]
    ways = did.three_ways(path)
    return verdict(
        compared(ways, planned[read.metric.name], ()) if planned else ways,
        did.pre_trend(did.event_study(path)),
        placebos(data, path, treatment=treatment, checks=checks),
        regions(data, region, treatment=treatment, checks=checks),
        known=[p.metric for p in launch.plan],
        alpha=launch.error(),
        title=read.aside,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a first screen says of season and marketing: the sentences, and the estimates behind them in their unit."""

    sentences: tuple[str, ...]
    estimates: tuple[Estimate | NotEstimable, ...]
    unit: str


def told(
    check: Check,
    ways: Sequence[Estimate | NotEstimable],
    typical: Sequence[Check],
    pre_trend: Check,
    places: Sequence[Attribute],
    known: Sequence[Metric],
) -> Told:
    """Choose what the first screen says: where regions differ, their estimates, and no average over them.

    Args:
        check: of `verdict`.
        ways: those of `compared`, of the first metric that is known, the planned estimate last.
        typical: whether it was a typical time.
        pre_trend: of the event study.
        places: those of `shown`.
        known: the metrics of the plan.
    """
    drift = [] if pre_trend.passed is None else [pre_trend.detail]
    if check.detail.startswith(DIFFERS):
        unit = next((m.unit for m in known if m.name == places[0].metric), "")
        own = tuple(s.estimate for s in places[0].segments)
        return Told(sentences=(check.detail, *drift), estimates=own, unit=unit)
    unit, (before_after, *_others, planned) = known[0].unit, ways
    said = [check.detail]
    if isinstance(planned, Estimate) and check.passed is not False:
        lead = "It is that of chapter 04" if check.passed is None else "The number to defend is that of chapter 04"
        said.append(f"{lead}: {_written(planned, unit)}.")
    spoilt = [c.name.lower() for c in typical if c.passed is False]
    if spoilt and isinstance(before_after, Estimate):
        said.append(f"Before against after, {_written(before_after, unit)}, misleads here: {_listed(spoilt)}.")
    elif pre_trend.detail not in check.detail:
        said += drift
    return Told(sentences=tuple(said), estimates=tuple(ways), unit=unit)


def _written(e: Estimate, unit: str) -> str:
    """Write a change with its unit and interval."""
    words = describe(e, unit)
    return f"{words['change']} {words['step'] or unit}".rstrip() + f" ({words['low']} to {words['high']})"


def _effects(places: Attribute) -> list[tuple[float, str]]:
    """List each region's effect, drawn together where it is, with the region's name."""
    return [
        (s.estimate.diff if s.effect is None else s.effect, s.level)
        for s in places.segments
        if isinstance(s.estimate, Estimate)
    ]


def _apart(places: Attribute) -> float:
    """Give the distance between largest and smallest effect over their mean, or over what would be worth having."""
    own = [effect for effect, _ in _effects(places)]
    levels = [s.estimate.control for s in places.segments if isinstance(s.estimate, Estimate)]
    if len(own) < 2:
        return 0.0
    worth = max(abs(sum(own)) / len(own), _WORTH * abs(sum(levels)) / len(levels))
    return (max(own) - min(own)) / worth if worth else float("inf")


def _range(places: Attribute, known: Sequence[Metric]) -> str:
    """Name the metric whose effects reach so far."""
    title = next((m.title for m in known if m.name == places.metric), places.metric)
    return f"{title}, {spread(places, known)}"


def spread(places: Attribute, known: Sequence[Metric]) -> str:
    """Write from which effect in which region to which the effects of a metric reach, in its unit if it is known."""
    metric = next((m for m in known if m.name == places.metric), None)
    found = sorted(_effects(places))
    scale, unit = (100, "pp") if metric and metric.unit == "share" else (1, metric.unit if metric else "")
    step = digits(found[0][0] * scale, found[-1][0] * scale)
    low, high = (
        " ".join([number(effect * scale, step, signed=True), *([unit] if unit else []), "in", level])
        for effect, level in (found[0], found[-1])
    )
    return f"from {low} to {high}"


def verdict(
    ways: Sequence[Estimate | NotEstimable],
    pre_trend: Check,
    placebos: Sequence[Estimate | NotEstimable],
    regions: Sequence[Attribute],
    *,
    known: Sequence[Metric] = (),
    alpha: float = 0.05,
    title: str = "",
) -> Check:
    """Say whether the comparison with control stands, whatever the season and the campaigns did.

    Args:
        ways: before/after, against control, and difference in differences, as `did.three_ways` gives them; then the
            planned estimate (`compared`), which otherwise is the second.
        pre_trend: of the event study.
        placebos: effects where there can be none; together they alarm falsely in one launch in a hundred.
        regions: the effects by region, for each success metric; see `differing`.
        known: metrics with the titles and units in which those of `regions` are told.
        alpha: the level at which regions are said to differ.
        title: of the metric whose ways these are, where the answer must name it.

    Returns:
        A Check that begins with the word: "Suspect" (passed is False), "Differs by region" (True: it stands, but not
        as one number), "Stands" (True), or "Cannot tell" (None). Only an effect stands that can be told from chance.
        Where a drift of its size would not have been seen before the launch (`mde` of the placebo in time), it says so.
    """
    name = "Season and marketing"
    asked = [e for e in placebos if isinstance(e, Estimate)]
    failed = [e.metric for e in asked if e.p * len(asked) < 0.01]
    if pre_trend.passed is False or failed:
        reason = f"an effect shows where there can be none ({', '.join(failed)})." if failed else pre_trend.detail
        return about(title, Check(name=name, passed=False, detail=f"Suspect: {reason}"))
    if apart := differing(regions, alpha=alpha):
        others = len(apart) - 1
        more = f" ({others} more metric{' differs' if others == 1 else 's differ'} too)" if others else ""
        detail = (
            f"{DIFFERS}: {_range(apart[0], known)}{more}. That is further apart than chance explains, and more than a "
            "fifth of their mean: the comparison stands in each region, and their average is no headline."
        )
        return Check(name=name, passed=True, detail=detail, p=apart[0].p)
    against = ways[1]
    if isinstance(against, NotEstimable):
        return about(title, Check(name=name, passed=None, detail=f"Cannot tell: {against.reason}."))
    looked = [*(["the weeks before"] if pre_trend.passed else []), *(e.metric for e in asked)]
    missing = [*(["the weeks before"] if pre_trend.passed is None else [])]
    missing += [e.metric for e in placebos if isinstance(e, NotEstimable)]
    if not looked:
        nowhere = "Cannot tell: nothing before the launch could be looked at."
        return about(title, Check(name=name, passed=None, detail=nowhere))
    effect = ways[-1] if len(ways) > 3 and isinstance(ways[-1], Estimate) else against
    unsure = effect.low <= 0 <= effect.high
    detail = "control lived through the same days, and nothing stands out where the launch cannot be at work "
    detail = f"{'Cannot tell' if unsure else 'Stands'}: {detail}({'; '.join(looked)})"
    detail += ", but the effect itself cannot be told from chance." if unsure else "."
    if not unsure and abs(effect.diff) < max((e.mde for e in asked if e.metric == did.IN_TIME), default=0.0):
        detail += (
            " A drift as large as the effect would probably not have been seen: the draw of the arms rules it out."
        )
    detail += f" Could not be asked: {'; '.join(missing)}." if missing else ""
    return about(title, Check(name=name, passed=None if unsure else True, detail=detail))


def _listed(names: Sequence[str]) -> str:
    """Write a list as words.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
