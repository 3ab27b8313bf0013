"""Gains in the events themselves: those that play by themselves, just count, or are taken from elsewhere."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import ibis

from helpers import inference, moments, schema, units
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import Moments
from helpers.results import Check, Estimate, NotEstimable
from helpers.scorecard import Scorecard
from helpers.study import Study

AUTOPLAY = ("autoplay_next", "autoplay_preview")
THRESHOLDS = (  # at which an event begins to count: table, column, place, unit
    ("plays", "watch_minutes", 2.0, "min"),
    ("plays", "watch_minutes", 5.0, "min"),
    ("plays", "completed_share", 0.7, "of the title"),
    ("sessions", "seconds_to_first_play", 300.0, "s"),
)
BUNCHED = 0.02
LOST = 0.5  # of a gain: where more is taken from elsewhere, most of it is displaced
PLACES = 8  # of a way of parting the hours that are looked at one by one: those with most


def autoplay(data: Study, card: Scorecard) -> Check:
    """Ask whether more hours are left of a gain when those that played by themselves are taken out (H6)."""
    name = "Gain without autoplay"
    star = card.claims[0]
    lacking = _lacking(data, "plays", "initiation", "watch_minutes")
    if (
        lacking
        or not isinstance(star.estimate, Estimate)
        or "watch_minutes" not in _columns(data.launch.plan[0].metric)
    ):
        return Check(name=name, passed=None, detail=f"Not asked, because {lacking or 'the north star is not viewing'}.")
    if star.estimate.low <= 0:
        return Check(name=name, passed=None, detail="Not asked, because viewing did not rise for certain.")
    plays = data.table("plays")
    chosen = plays.initiation.notin(AUTOPLAY).fill_null(True)
    read = _by_account(
        data, "plays", all=plays.watch_minutes.sum() / 60, chosen=plays.watch_minutes.sum(where=chosen) / 60
    )
    whole, kept = (_contrast(data, read, card.treatment, column) for column in ("all", "chosen"))
    if not isinstance(whole, Estimate) or not isinstance(kept, Estimate):
        return Check(name=name, passed=None, detail="Not asked, because the hours could not be compared.")
    limits = f"({kept.low:+.2f} to {kept.high:+.2f})"
    said = f"{whole.diff:+.2f} h an account{_plainly(data)}, without autoplay {kept.diff:+.2f} {limits}"
    if kept.low > 0:
        return Check(name=name, passed=True, detail=f"Viewing rose, and not by autoplay alone: {said}.")
    return Check(name=name, passed=False, detail=f"The gain vanishes without what played by itself: {said}.")


def bunching(data: Study, card: Scorecard) -> Check:
    """Ask whether events gather just beyond a counting threshold in the treatment (H2): gaming of the definition.

    Of the events within a fifth of the threshold, the share that just counts is compared between the arms, over
    accounts, at alpha divided by the number of thresholds. A launch that truly moves everything moves this share
    a little as well; so less than two percentage points are let pass.
    """
    name = "Events just beyond a threshold"
    asked = [(t, c, at, unit) for t, c, at, unit in THRESHOLDS if not _lacking(data, t, c)]
    if not asked:
        return Check(name=name, passed=None, detail="Not asked, because the data hold no events with a threshold.")
    told, places, most, why = [], [], 0.0, ""
    for table, column, at, unit in asked:
        value = data.table(table)[column]
        near, beyond = value.between(0.8 * at, 1.2 * at), value >= at if unit != "s" else value <= at
        read = _by_account(data, table, near=near.sum(), beyond=(near & beyond).sum())
        e = _contrast(data, read, card.treatment, "beyond", "near", level=1 - data.launch.error() / len(asked))
        if isinstance(e, NotEstimable):
            why = e.reason
            continue
        places.append(f"{column} at {at:g} {unit}")
        most = max(most, e.high)
        if e.low > 0 and e.diff >= BUNCHED:
            told.append(
                f"{column} at {at:g} {unit}: {e.treatment:.1%} of the events near it just count, not {e.control:.1%}"
            )
    if told:
        return Check(name=name, passed=False, detail=f"{'; '.join(told)}. Was the definition gamed?")
    if not places:
        return Check(name=name, passed=None, detail=f"Cannot tell: {why}.")
    detail = f"No gathering beyond {100 * BUNCHED:g} percentage points is certain just beyond {', '.join(places)}"
    return Check(name=name, passed=True, detail=f"{detail}; up to {100 * most:.2g} points are not ruled out.")


def displacement(data: Study, card: Scorecard) -> Check:
    """Ask whether hours that were gained in one place were lost in another (H5): title, device, row, start or half.

    The hours of an account are parted in several ways, by what the data know. A part is matched by a loss if its gain
    is certain, and certainly more than half of it is missing in the other parts, while all hours together did not
    rise for certain. The intervals hold for all parts together (Bonferroni). Hours have an end for everybody, so that a
    new title always displaces something: what it gains net is the number to read.
    """
    name = "Gain matched by a loss"
    if lacking := _lacking(data, "plays", "watch_minutes"):
        return Check(name=name, passed=None, detail=f"Not asked, because {lacking}.")
    hours, ways = _parted(data)
    parts = [(way, place) for way in ways for place in _places(hours, way)]
    whole = hours["hours"].sum()
    numbers = {"all": whole}
    for i, (way, place) in enumerate(parts):
        part = hours["hours"].sum(where=hours[f"by {way}"] == place).fill_null(0.0)
        numbers |= {f"part {i}": part, f"rest {i}": whole - part, f"most {i}": whole - (1 - LOST) * part}
    read = _moments(data, hours.aggregate(by="account", **numbers), [(n, n) for n in numbers])
    net = _contrast(data, read, card.treatment, "all", level=1 - data.launch.error())
    if not parts or not isinstance(net, Estimate):
        return Check(name=name, passed=None, detail="Not asked, because the hours cannot be parted and compared.")
    told: list[str] = []
    kept: list[str] = []
    level = 1 - data.launch.error() / len(parts)
    for i, (way, place) in enumerate(parts):
        part, rest, most = (_contrast(data, read, card.treatment, f"{n} {i}", level=level) for n in _OF_A_PART)
        new = place == "of the launch"  # what it takes from the others is always told
        if isinstance(part, Estimate) and isinstance(rest, Estimate) and part.low > 0 and (new or rest.high < 0):
            said = (
                f"{part.diff:+.2f} ({part.low:+.2f} to {part.high:+.2f}) for the {way} '{place}', "
                f"{rest.diff:+.2f} ({rest.low:+.2f} to {rest.high:+.2f}) elsewhere"
            )
            mainly = isinstance(most, Estimate) and most.high < 0 and net.low <= 0
            (told if mainly else kept).append(said)
    in_all = f"net {net.diff:+.2f} ({net.low:+.2f} to {net.high:+.2f}) hours an account{_plainly(data)}"
    if told:
        return Check(name=name, passed=False, detail=f"Hours moved rather than rose: {'; '.join(told)}; {in_all}.")
    detail = f"Parted by {', '.join(ways)}, no gain is certain to be mainly a loss elsewhere; {in_all}."
    return Check(name=name, passed=True, detail=detail + (f" Gained: {'; '.join(kept)}." if kept else ""))


_OF_A_PART = ("part", "rest", "most")


def _parted(data: Study) -> tuple[ibis.Table, list[str]]:
    """Add hours up by account and every way of parting them that the data allow (columns `by …`); name the ways."""
    days, own = data.launch.days, data.assignments.account.type()
    events = _inside(data, "plays")
    ways = {"start": events["initiation"]} if not _lacking(data, "plays", "initiation") else {}
    if days >= 14:
        late = events["started_at"] >= _start(data) + dt.timedelta(days=days // 14 * 7)
        ways["weeks"] = late.ifelse("later", "first")
    plays = events.select(
        "session",
        "title",
        "watch_minutes",
        **{f"by {way}": label for way, label in ways.items()},
        account=events["account"].cast(own),
    )
    for way, table, keys in (
        ("title", "titles", ["title"]),
        ("device", "sessions", ["account", "session"]),
        ("row", "impressions", ["account", "session", "title"]),
    ):
        column = "is_launch_title" if way == "title" else way
        if _lacking(data, table, column, *keys):
            continue
        places = data.table(table)
        if "account" in keys:  # a session may have begun on the day before
            places = _inside(data, table, earlier=1)
            places = places.mutate(account=places["account"].cast(own))
        places = places.group_by(keys).aggregate(**{f"by {way}": places[column].min()})
        plays = plays.left_join(places, keys).drop(*(f"{key}_right" for key in keys))
    if "by title" in plays.columns:
        of_launch = plays["by title"].fill_null(False)
        plays = plays.mutate(**{"by title": of_launch.ifelse("of the launch", "other")})
    names = [c.removeprefix("by ") for c in plays.columns if c.startswith("by ")]
    labels = {f"by {name}": plays[f"by {name}"].fill_null("none") for name in names}
    plays = plays.mutate(**labels)
    return plays.aggregate(by=["account", *labels], hours=plays["watch_minutes"].sum() / 60).cache(), names


def _places(hours: ibis.Table, way: str) -> list[str]:
    """List the parts that most hours fall into; a single one parts nothing."""
    found = hours.aggregate(by=f"by {way}", hours=hours["hours"].sum()).order_by(ibis.desc("hours"), f"by {way}")
    places = found.limit(PLACES).execute()[f"by {way}"].tolist()
    return places if len(places) > 1 else []


def _plainly(data: Study) -> str:
    """Say in what hours of the launch's days may differ from the scorecard's."""
    return f" (the past not taken out{', each account counting once' * units.weighted(data)})"


def _lacking(data: Study, table: str, *columns: str) -> str:
    """Say what the data lack of a table and its columns; empty where nothing."""
    if table not in data.tables:
        return f"the data have no table '{table}'"
    absent = [c for c in columns if c not in data.tables[table].columns]
    return f"'{table}' has no column '{absent[0]}'" if absent else ""


def _columns(metric: Metric) -> set[str | None]:
    return {base.column for m in metric.measures for base in m.bases}


def _start(data: Study) -> dt.datetime:
    first = data.launch.dates.start if data.launch.dates else dt.date.min
    return dt.datetime.combine(first, dt.time(), tzinfo=dt.UTC)


def _inside(data: Study, table: str, earlier: int = 0) -> ibis.Table:
    """Open the events of the launch's days, and of so many earlier ones."""
    events, start = data.table(table), _start(data)
    time, end = events[str(schema.table(table).time)], start + dt.timedelta(days=data.launch.days)
    return events.filter((time >= start - dt.timedelta(days=earlier)) & (time < end))


def _by_account(data: Study, table: str, **numbers: ibis.Value) -> Moments:
    """Sum events of the launch's days by assigned account, zeros included, and give the moments of each arm."""
    found = _inside(data, table).aggregate(by="account", **numbers)
    return _moments(data, found, [(a, b) for a in numbers for b in numbers])


def _moments(data: Study, found: ibis.Table, pairs: Sequence[tuple[str, str]]) -> Moments:
    """Put a row for every assigned account beside what was found, zeros included, and give the moments of each arm."""
    own = ["account", "arm", *(c for c in units.design(data) if c == units.CLUSTER)]
    accounts, names = units.drawn(data).select(*own), [c for c in found.columns if c != "account"]
    rows = accounts.left_join(found.mutate(account=found.account.cast(accounts.account.type())), "account")
    cluster = [units.CLUSTER] * bool(units.clusters(data))
    rows = rows.select("arm", *cluster, **{name: rows[name].cast("float64").fill_null(0.0) for name in names})
    if not cluster:
        return moments.from_table(rows, columns=names, pairs=pairs, by=["arm"])
    columns = [*names, moments.WEIGHT]  # here the number of a cluster's accounts
    pairs = [*pairs, *((name, moments.WEIGHT) for name in columns)]
    return moments.from_table(rows, columns=columns, pairs=pairs, by=["arm"], cluster=units.CLUSTER)


def _contrast(
    data: Study, read: Moments, treatment: str, top: str, bottom: str | None = None, *, level: float = 0.95
) -> Estimate | NotEstimable:
    """Compare a column, or the ratio of two, between the arms."""
    if apart := units.together(data, "a question about events", few=True):
        return NotEstimable(metric=top, reason=apart)
    metric = Metric(
        name=top,
        title="",
        kind="ratio" if bottom else "mean",
        numerator=Measure(table=UNITS_TABLE, agg="value", column=top),
        denominator=Measure(table=UNITS_TABLE, agg="value", column=bottom) if bottom else None,
        better="higher",
        unit="",
        covariates=(),
    )
    control = data.launch.arms.control
    (answer,) = inference.compare(read, metric, control=control, treatment=treatment, days=1, pre_days=1, level=level)
    return answer
