"""Reception: how a title was met. Did people come across it, did they start, did they go on, and what did they say?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Literal

import ibis
import numpy as np
import pandas as pd
from ibis import _

from helpers import inference, moments, power, schema, units
from helpers.launch.context import Milestone
from helpers.metrics import UNITS_TABLE, Bound, Measure, Metric
from helpers.moments import WEIGHT
from helpers.power.design import Design
from helpers.power.outcome import proportion
from helpers.results import Average, Check, NotEstimable, nothing
from helpers.study import Study
from helpers.units import STRATUM

Standing = Literal["under", "in line", "above", "cannot tell"]
WATCHED = 0.7  # of an episode, from which on it counts as watched
OPEN = "whether those who did went on cannot be told."
FEWEST = 4  # comparable titles, for quartiles to mean something
STEPS: dict[
    Milestone, tuple[str, Milestone | None]
] = {  # name: in words, and the step among whose accounts it is counted
    "shown": ("came across the title", None),
    "started": ("started it", "shown"),
    "pilot": ("watched the first episode", "started"),
    "second": ("began the second", "pilot"),
    "finished": ("watched the last", "started"),
}


REASONS = [
    *("attribute", "level", "starters", "left in the first episode", "no second episode", "unfinished, last seen in"),
    *("thumb down or hidden", "survey score"),
]
CELLS = (  # of the follow-up test
    ("1", "as now", "as now"),
    ("2", "more prominent", "as now"),
    ("3", "as now", "another promise"),
    ("4", "more prominent", "another promise"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the way through a title: the share of those in `among` that took it, and of all accounts.

    `standing` compares the first share with what comparable titles reached, where the launch names some.
    """

    name: str
    title: str
    among: str
    share: Average | NotEstimable
    of_all: Average | NotEstimable
    comparable: tuple[float, ...] = ()
    standing: Standing = "cannot tell"


def funnel(data: Study, *, treatment: str = "", checks: Iterable[Check] = ()) -> tuple[Step, ...] | NotEstimable:
    """Follow the treated accounts from the first sight of the launch title to its last episode.

    Each step counts accounts that also took every earlier one, weighted as the launch's metrics are. From step to step
    the shares describe a smaller and keener group: they are no effect of anything.

    Args:
        data: the study; needs plays with episodes and titles. Without impressions the first step is not estimable.
        treatment: the arm; empty means the launch's first.
        checks: of the data; where one failed, nothing is shown.
    """
    if obstacle := _obstacle(data, checks):
        return NotEstimable(metric="funnel", reason=obstacle)
    arm = data.launch.judged(treatment)
    flags = _flags(data, arm).cache()
    steps: list[Milestone] = [name for name in STEPS if name in flags.columns]

    def share(of: Milestone, among: Milestone | None) -> Average | NotEstimable:
        """Average a step's flag over the accounts that took the step before."""
        rows = flags if among is None else flags.filter(flags[among] > 0)
        if among is not None and not rows.count().execute():
            return NotEstimable(metric=of, reason="nobody came so far")
        return _averages(data, rows, of, arm=arm)[0]

    missing = NotEstimable(metric="shown", reason="it needs table 'impressions', which is not among the data")
    found = []
    for name, (title, among) in STEPS.items():
        base = among if among in steps else None
        known, comparable = name in steps, tuple(data.launch.comparables.get(name, ()))
        of_base = share(name, base) if known else missing
        found.append(
            Step(
                name=name,
                title=title,
                among=STEPS[base][0] if base else "all accounts",
                share=of_base,
                of_all=share(name, None) if known else missing,
                comparable=comparable,
                standing=against(of_base, comparable),
            )
        )
    return tuple(found)


def _obstacle(data: Study, checks: Iterable[Check]) -> str:
    """Say why the way through the title cannot be shown; nothing where it can."""
    if failed := [c.name for c in checks if c.passed is False]:
        return f"not shown, because the check '{failed[0]}' failed"
    if apart := units.together(data, "the way through a title", few=True):
        return apart
    lacking = next((t for t in ("plays", "titles") if t not in data.tables), None)
    if lacking or "episode" not in data.table("plays").columns:
        what = f"table {lacking!r}" if lacking else "column 'episode' of table 'plays'"
        return f"it needs {what}, which is not among the data"
    return ""


def _averages(
    data: Study,
    rows: ibis.Table,
    of: str,
    *,
    arm: str,
    by: str = "",
    kind: Literal["proportion", "mean"] = "proportion",
) -> list[Average | NotEstimable]:
    """Average a column over an arm's accounts, weighted as they were drawn; in slices without strata of the draw."""
    own = Measure(table=UNITS_TABLE, agg="value", column=of)
    metric = Metric(name=of, title=of, kind=kind, numerator=own, better="higher", unit="")
    weighted = WEIGHT in units.design(data)
    cluster = units.CLUSTER if units.clusters(data) else None
    stratum = STRATUM if STRATUM in units.design(data) and not (by or cluster) else None
    columns, pairs = inference.needed(metric, adjust=False, weighted=weighted or cluster is not None)
    groups = ["arm", *filter(None, (stratum, by))]
    read = moments.from_table(rows, columns=columns, pairs=pairs, by=groups, weighted=weighted, cluster=cluster)
    level = 1 - data.launch.error()
    return inference.average(read, metric, of=arm, stratum=stratum, days=data.launch.days, level=level)


def _flags(data: Study, arm: str) -> ibis.Table:
    """Lay out who took each step and all before it: a row per account of the arm, with its weight and stratum."""
    assigned = units.drawn(data).filter(_.arm == arm)
    plays = _since(data, "plays", arm)
    whole = plays.completed_share >= WATCHED if "completed_share" in plays.columns else ibis.literal(True)
    final = last_episode(data)
    seen = plays.aggregate(
        by="account",
        started=_.count() > 0,
        pilot=((plays.episode == 1) & whole).any(),
        second=(plays.episode >= 2).any(),
        finished=((plays.episode == final) & whole).any(),
    )
    flags = assigned.select("account", "arm", *units.design(data)).left_join(seen, "account").drop("account_right")
    reached = ibis.literal(True)
    if "impressions" in data.tables:
        shown = _since(data, "impressions", arm).select("account").union(plays.select("account"), distinct=True)
        flags = flags.left_join(shown.mutate(shown=True), "account").drop("account_right")
    for name in STEPS:
        if name in flags.columns:
            reached = reached & flags[name].fill_null(False)
            flags = flags.mutate(**{name: reached.cast("float64")})
            reached = flags[name] > 0
    return flags


def last_episode(data: Study) -> int:
    """Give the number of the launch title's last episode: as the launch says, or else the last played in any arm.

    It is the same for every arm and segment; 0 where nobody played any.
    """
    if data.launch.show and data.launch.show.episodes:
        return data.launch.show.episodes
    seen = _since(data, "plays", *data.launch.arms.names).episode.max().execute()
    return 0 if pd.isna(seen) else int(seen)


def _since(data: Study, name: str, *arms: str) -> ibis.Table:
    """Open these arms' events of the launch's window: of the launch title, where the table names titles."""
    windows = units.drawn(data).filter(_.arm.isin(arms)).select("account", start=units.anchor(data))
    events, time = data.table(name), schema.table(name).time
    events = events.mutate(account=_.account.cast(windows.account.type()))
    if "title" in events.columns:
        events = events.semi_join(data.table("titles").filter(_.is_launch_title), "title")
    near = events.join(windows, "account")
    return near.filter((_[time] >= _.start) & (_[time] < _.start + ibis.interval(days=data.launch.days)))


def against(value: Average | NotEstimable, comparable: Sequence[float]) -> Standing:
    """Say where a share stands among comparable titles: by its interval against their middle half.

    Under or above: the whole interval lies outside the quartiles. In line: it lies between them. Else, and with fewer
    than four titles, it cannot be told. Titles that are comparable are a judgement, and a small sample themselves.

    >>> against(NotEstimable(metric="finished", reason="no plays"), [0.3, 0.4, 0.5, 0.6])
    'cannot tell'
    """
    return "cannot tell" if isinstance(value, NotEstimable) else beside(value.low, value.high, comparable)


def beside(low: float, high: float, comparable: Sequence[float]) -> Standing:
    """Say where an interval stands among comparable titles; see `against`.

    >>> beside(0.2, 0.3, [0.32, 0.43, 0.51, 0.59, 0.73])
    'under'
    """
    if len(comparable) < FEWEST:
        return "cannot tell"
    lower, upper = np.quantile(comparable, [0.25, 0.75])
    if high < lower:
        return "under"
    if low > upper:
        return "above"
    return "in line" if low >= lower and high <= upper else "cannot tell"


def diagnosis(steps: tuple[Step, ...] | NotEstimable) -> str:
    """Say in one sentence whether the title was not found or not liked, as far as the comparable titles tell.

    >>> diagnosis(NotEstimable(metric="funnel", reason="there are no plays"))
    'The way through the title cannot be followed: there are no plays.'
    """
    if isinstance(steps, NotEstimable):
        return f"The way through the title cannot be followed: {steps.reason}."
    standing = {s.name: s.standing for s in steps}
    if not any(s.comparable for s in steps):
        return "The launch names no comparable titles, so nothing says which of these shares is low."
    liked = {standing[name] for name in ("pilot", "second", "finished")}
    shown = next(s.share for s in steps if s.name == "shown")
    came = isinstance(shown, Average) and shown.value > 0
    went_on = bool(liked & {"in line", "above"})
    if standing["shown"] == "under":
        lead = "Fewer came across the title than across comparable ones"
        if "under" in liked:
            return f"{lead}, and fewer of them went on: place and content."
        return f"{lead}; " + ("those who did went on: it was not found." if went_on else OPEN)
    if "under" in liked:
        lead = "People came across the title, but fewer" if came else "Fewer"
        return f"{lead} went on than with comparable ones: it was not liked enough."
    if standing["started"] == "under":
        lead = "People came across the title and few started it" if came else "Fewer started it than comparable titles"
        why = "its picture or its promise" if came else "its place, its picture or its promise"
        return lead + (f", but those went on: {why}." if went_on else f"; {OPEN}")
    if "above" in {standing["shown"], standing["started"], *liked}:
        return "No step falls short of comparable titles, and at least one goes beyond them."
    return "No step is shown to fall short of comparable titles."


def to_frame(steps: tuple[Step, ...] | NotEstimable) -> pd.DataFrame:
    """Lay the steps out as a table; without rows where they could not be followed."""
    columns = ["step", "among", "share", "low", "high", "of all accounts", "comparable titles", "standing"]
    if isinstance(steps, NotEstimable):
        return nothing(steps.reason, columns)
    return pd.DataFrame(
        [
            {
                "step": s.title,
                "among": s.among,
                "share": _of(s.share, "value"),
                "low": _of(s.share, "low"),
                "high": _of(s.share, "high"),
                "of all accounts": _of(s.of_all, "value"),
                "comparable titles": ", ".join(f"{share:.0%}" for share in s.comparable),
                "standing": s.share.reason if isinstance(s.share, NotEstimable) else s.standing if s.comparable else "",
            }
            for s in steps
        ],
        columns=columns,
    )


def _of(average: Average | NotEstimable, name: str) -> float | None:
    return None if isinstance(average, NotEstimable) else float(getattr(average, name))


def reasons(data: Study, *, by: Sequence[str] = (), treatment: str = "", checks: Iterable[Check] = ()) -> pd.DataFrame:
    """Lay out, by segment, where starters stopped and what they said: no row of fewer than `privacy.k` accounts.

    Args:
        data: the study.
        by: attributes of the accounts; empty means the segments of the launch.
        treatment: the arm; empty means the launch's first.
        checks: of the data; where one failed, nothing is shown.

    Returns:
        attribute, level, starters; then in words, weighted as the accounts were drawn: the shares, with intervals, that
        left within the first episode and that never began a second; the episode in which those who did not finish were
        most often last seen, their share, and the minute of it by which half of them had gone; the share that put a
        thumb down or hid the title; the mean of the survey's scores. What fewer than k accounts say is left out. All of
        it points to reasons and proves none: those who stopped say less, and those who began late may still go on.
    """
    by, arm, k = by or data.launch.segments, data.launch.judged(treatment), data.launch.privacy.k
    known = set(data.table("accounts").columns) if "accounts" in data.tables else set()
    if (why := _obstacle(data, checks)) or not by or not set(by) <= known:
        absent = "the segments are no columns of the accounts" if by else "the launch names no segments"
        return nothing(why or absent, REASONS)
    rows = _starters(data, arm, by).cache()
    accounts = rows.execute()
    accounts = accounts.assign(weight=accounts.get(WEIGHT, 1.0))

    def told(column: str, name: str) -> dict[str, str | None]:
        """Average a column by level, in words; without levels where nobody has a value."""
        if not accounts[column].notna().any():
            return {}
        kind: Literal["proportion", "mean"] = "mean" if column == "score" else "proportion"
        answered = rows.filter(~rows[column].isnull())
        return {a.slice[name]: _words(a) for a in _averages(data, answered, column, arm=arm, by=name, kind=kind)}

    found = []
    for name in by:
        shares = {column: told(column, name) for column in ("stopped", "alone", "unhappy", "score")}
        for level, part in accounts.groupby(name):
            if len(part) < k:
                continue
            unfinished, answers = part[part["finished"] == 0], int(part["score"].notna().sum())
            found.append(
                {
                    "attribute": name,
                    "level": level,
                    "starters": len(part),
                    "left in the first episode": shares["stopped"].get(level),
                    "no second episode": shares["alone"].get(level),
                    "unfinished, last seen in": _last(unfinished) if len(unfinished) >= k else None,
                    "thumb down or hidden": shares["unhappy"].get(level),
                    "survey score": f"{shares['score'].get(level)}, of {answers:,}" if answers >= k else None,
                }
            )
    return pd.DataFrame(found, columns=REASONS)


def _starters(data: Study, arm: str, by: Sequence[str]) -> ibis.Table:
    """Lay out the accounts of an arm that started the title: their levels, how far they came, what they said."""
    flags, plays = _flags(data, arm).filter(_.started > 0), _since(data, "plays", arm)
    kind = flags.account.type()
    people = data.table("accounts").select(
        account=_.account.cast(kind), **{name: _[name].cast("string").fill_null(schema.UNKNOWN) for name in by}
    )
    last = plays.group_by("account").mutate(last=_.episode.max()).filter(_.episode == _.last)
    seen = last.aggregate(by="account", last=_.last.max(), minutes=_.watch_minutes.sum())
    rows = flags.join(people, "account").left_join(seen, "account").drop("account_right")
    rows = rows.mutate(
        stopped=1 - _.pilot, alone=1 - _.second, unhappy=ibis.null("float64"), score=ibis.null("float64")
    )
    if "feedback" in data.tables:
        said = _since(data, "feedback", arm)
        bad = [(said[c] == bad).fill_null(False) for c, bad in (("thumb", "down"), ("hide", True)) if c in said.columns]
        unhappy = said.filter(reduce(or_, bad, ibis.literal(False))).select("account").distinct().mutate(bad=1.0)
        rows = rows.left_join(unhappy, "account").drop("account_right").mutate(unhappy=_.bad.fill_null(0.0)).drop("bad")
    if "surveys" in data.tables and "score" in data.table("surveys").columns:
        score = _since(data, "surveys", arm).aggregate(by="account", mean=_.score.mean())
        rows = rows.left_join(score, "account").drop("account_right").mutate(score=_["mean"]).drop("mean")
    return rows


def _words(a: Average | NotEstimable) -> str | None:
    """Write a share, or the mean of a score, with its interval."""
    if isinstance(a, NotEstimable):
        return None
    if a.metric == "score":
        return f"{a.value:.2f} ({a.low:.2f} to {a.high:.2f})"
    return f"{a.value:.0%} ({max(100 * a.low, 0):.0f} to {a.high:.0%})"


def _last(rows: pd.DataFrame) -> str:
    """Name the episode in which most of these accounts, by weight, were last seen, and when half of them had gone."""
    share = rows.groupby("last")["weight"].sum() / rows["weight"].sum()
    there = rows[rows["last"] == share.idxmax()].sort_values("minutes")
    half = np.searchsorted(there["weight"].cumsum() / there["weight"].sum(), 0.5 - 1e-9)
    return f"episode {share.idxmax()} ({share.max():.0%}), half by minute {there['minutes'].iloc[int(half)]:.0f}"


def follow_up(
    way: tuple[Step, ...] | NotEstimable, effect: Bound, *, alpha: float = 0.05, chance: float = 0.8
) -> pd.DataFrame:
    """Plan the test that tells place from promise: two placements by two messages, every account in one of four cells.

    The effect of each factor is read over both levels of the other, so that one set of accounts answers both; that the
    two together do more or less than their sum is a difference of differences and needs four times the accounts.

    Args:
        way: of the launch title, as `funnel` gives it: what is planned with is the share of accounts that started it.
        effect: the change of that share that would matter, of either factor.
        alpha: two-sided, divided between the two factors.
        chance: the power.

    Returns:
        cell, placement, message, and accounts: to tell what either does, and what both do beyond their sum. The last
        row adds the four cells up. Where nothing can be planned, one row says why.

    Raises:
        ParameterError: `alpha` or `chance` is out of range, or the effect is none.
    """
    started = way if isinstance(way, NotEstimable) else next(s.of_all for s in way if s.name == "started")
    if isinstance(started, NotEstimable):
        return pd.DataFrame({"no plan": [f"nobody knows how many would start: {started.reason}"]})
    moved = started.value + effect.value * (started.value if effect.relative else 1)
    if not 0 < started.value < 1 or not 0 < moved < 1:
        out = f"a change of {effect.text} leads out of 0 to 100%"
        out = out if 0 < started.value < 1 else "a share that does not vary says nothing of how many it needs"
        reason = f"{started.value:.1%} of accounts started the title, and {out}"
        return pd.DataFrame({"no plan": [reason]})
    design = Design(alpha=alpha, power=chance, successes=2)
    half = power.sample_size(proportion(started.value), effect=effect, design=design).n_treatment
    cell = math.ceil(half / 2)
    rows = [(name, place, said, cell, 4 * cell) for name, place, said in CELLS]
    return pd.DataFrame(
        [*rows, ("in all", "", "", 4 * cell, 16 * cell)],
        columns=["cell", "placement", "message", "accounts for either", "accounts for both together"],
    )
