"""Who goes on watching: survival from episode to episode, in which a late starter is censored and no quitter."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers import clock, reception, schema, segments, units
from helpers.errors import ParameterError
from helpers.inference import holm
from helpers.metrics import UNITS_TABLE, Condition, Measure
from helpers.moments import WEIGHT
from helpers.results import Check, NotEstimable, closed, nothing
from helpers.survival.kaplan_meier import bounds

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.launch import Launch
    from helpers.study import Study

    Floats = npt.NDArray[np.float64]

_OF_SHOW = (Condition(column="is_launch_title", value=True),)
_DAY = 86_400
THIS = (sys.modules[__name__],)
HOOKED = 0.7  # share of an episode's viewers who finish, from which it counts as the one that hooks (Netflix 2016)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewers:
    """The viewers of the launch title in one arm, counted by how far they got and when they began.

    `counts` has a row per `start_day`, `watched` (episodes after which they could be seen to go on or not), `left`
    (whether they did not) and any segment, with `viewers`, the sum of their `weight` and that of its `squares` (where
    these are missing, each counts as one). A viewer leaves after an episode when so many further
    `visits` hold no later one; one whose visits had not yet been so many is censored there. Counting visits, not days,
    keeps those who come seldom from looking like those who lost interest. `weeks` has hours by week of the launch.
    `states` says what became of all. `elsewhere` began in another episode than the first and are not read. `level` is
    that of all intervals made from it.
    """

    counts: pd.DataFrame
    weeks: pd.DataFrame
    states: pd.Series[float]
    episodes: int
    visits: int
    elsewhere: int
    level: float = 0.95


def read(
    data: Study,
    *,
    treatment: str = "",
    visits: int = 4,
    by: Sequence[str] = (),
    episodes: int = 0,
    checks: Sequence[Check] = (),
) -> Viewers | NotEstimable:
    """Count the launch title's viewers in the treatment arm; only counts leave the engine.

    Args:
        data: the study.
        treatment: the arm; empty means the launch's first.
        visits: how many visits may pass without a further episode before that counts as leaving, at least 1.
        by: attributes to count by, columns of table `accounts`; those that are not there are left out.
        episodes: how many the show has; 0 means as many as the launch says, or else as somebody of any arm watched.
        checks: of the data; where one failed, nothing is read.

    Returns:
        The counts, or why there are none: no launch title, no episodes, nobody watched. Viewers chose to watch: their
        numbers describe them and compare no arms. Where accounts were drawn with unequal probabilities, shares are
        those of the population.
    """
    launch = data.launch
    if reason := closed(checks) or units.together(data, "what viewers do from episode to episode"):
        return NotEstimable(metric="episodes", reason=reason)
    if visits < 1:
        raise ParameterError(f"visits is {visits}, must be at least 1")
    if UNITS_TABLE in data.tables:
        return NotEstimable(metric="episodes", reason="these data are one table with a row per account, without plays")
    for table, column in (("plays", "episode"), ("titles", "is_launch_title"), ("sessions", "started_at")):
        if table not in data.tables or column not in data.tables[table].columns:
            reason = f"it needs column {column!r} of table {table!r}, which is not among the data"
            return NotEstimable(metric="episodes", reason=reason)
    if "assigned_at" in data.assignments.columns and data.assignments.assigned_at.nunique().execute() > 1:
        return NotEstimable(
            metric="episodes", reason="accounts were assigned at different times; one launch day is read"
        )
    name = launch.judged(treatment)
    arm = units.drawn(data).filter(_.arm == name).select("account")
    seen = units.kept(data, "viewers", _episodes(data, arm), "episodes", name, code=THIS)
    totals = seen.aggregate(viewers=_.account.nunique(), first=_.account.nunique(where=_.episode == 1)).execute()
    viewers, first = int(totals["viewers"].iloc[0]), int(totals["first"].iloc[0])
    if not first:
        return NotEstimable(metric="episodes", reason="nobody in the arm watched a first episode of the launch title")
    episodes = episodes or reception.last_episode(data)
    if episodes < 2:
        return NotEstimable(metric="episodes", reason="the launch title has one part only, so that nobody can go on")
    people = _people(data, arm, seen, episodes=episodes, visits=visits)
    people = units.kept(data, "viewers", people, "people", name, episodes, visits, code=THIS)
    by = [c for c in by if "accounts" in data.tables and c in data.tables["accounts"].columns]
    if by:
        people = people.join(_attributes(data, by), "account")
    if units.weighted(data):
        people = people.join(units.load(data).select("account", weight=WEIGHT), "account")
        people = people.mutate(weight=_.weight / people.weight.mean().as_scalar())  # so that they sum to the viewers
    else:
        people = people.mutate(weight=ibis.literal(1.0))
    sums = {"viewers": _.count(), "weight": _.weight.sum(), "squares": (_.weight * _.weight).sum()}
    counts = people.aggregate(by=["start_day", "watched", "left", *by], **sums).execute()
    states = people.aggregate(by="state", n=_.weight.sum()).execute().set_index("state")["n"]
    return Viewers(
        counts=counts.sort_values(["start_day", "watched", "left", *by], ignore_index=True),
        weeks=_weeks(data, people, name, episodes),
        states=states.reindex(["finished", "still watching", "lapsed"], fill_value=0.0),
        episodes=episodes,
        visits=visits,
        elsewhere=viewers - first,
        level=1 - launch.error(),
    )


def curve(viewers: Viewers | NotEstimable) -> pd.DataFrame:
    """Estimate the survival of all viewers from episode to episode; no rows where there are none. See `survival`."""
    if isinstance(viewers, NotEstimable):
        return nothing(viewers.reason, _SURVIVAL)
    return survival(viewers.counts, viewers.episodes, level=viewers.level)


def survival(counts: pd.DataFrame, episodes: int, *, level: float = 0.95, at_least: int = 10) -> pd.DataFrame:
    """Estimate the share of viewers that reaches each episode (Kaplan-Meier), and of those, the share that finishes.

    Intervals on the log(-log) scale, with errors by the infinitesimal jackknife, which weights enter as they are and
    which are Greenwood's without (R's `survfit(robust = TRUE)`). An episode that fewer than `at_least` viewers were
    observed to reach is left out, and so is everything after it: a curve does not go on where nobody could be watched.
    Weighted viewers are counted by their effective number (Kish 1965), that of these rows alone.
    Whoever reaches a later episode has survived all earlier ones: its hazard is of the keenest, not of everybody.

    Returns:
        A row per episode: at_risk, left, hazard (share of those at risk who leave after it; missing for the last),
        reached with low and high, finish with finish_low and finish_high (missing where the end was not observed).

    >>> one = pd.DataFrame({"watched": [1, 2, 1], "left": [True, False, False], "viewers": [40, 50, 10]})
    >>> survival(one, 3)[["episode", "at_risk", "reached"]].values.tolist()
    [[1.0, 100.0, 1.0], [2.0, 50.0, 0.6], [3.0, 50.0, 0.6]]
    """
    rows = counts[counts["watched"] > 0]
    time, event, (weight, squares) = rows["watched"].to_numpy(), rows["left"].to_numpy(dtype=bool), _weight(rows)
    steps = np.arange(1, episodes)[:, None]
    here, leaves = time >= steps, (time == steps) & event
    known = int(np.cumprod(here @ weight >= at_least).sum())
    if not known:
        return pd.DataFrame(columns=_SURVIVAL)
    here, leaves, q = here[:known], leaves[:known], stats.norm.isf((1 - level) / 2)
    at_risk, left = here @ weight, leaves @ weight
    hazard = left / at_risk
    moved = (here * hazard[:, None] - leaves) / np.maximum(at_risk - left, 1e-9)[:, None]  # of log(1 - hazard), by each
    reached, path = np.append(1, np.cumprod(1 - hazard)), np.vstack([np.zeros(len(rows)), np.cumsum(moved, axis=0)])
    low, high = bounds(reached, path**2 @ squares, q)
    frame = pd.DataFrame(
        {
            "episode": np.arange(1, known + 2),
            "at_risk": np.append(at_risk, np.nan),
            "left": np.append(left, np.nan),
            "hazard": np.append(hazard, np.nan),
            "reached": reached,
            "low": low,
            "high": high,
        }
    )
    frame.loc[known, "at_risk"] = weight[time >= episodes - 1].sum() - left[-1] if known == episodes - 1 else np.nan
    if known == episodes - 1:
        rest = np.divide(reached[-1], reached, out=np.full_like(reached, np.nan), where=reached > 0)
        frame["finish"] = rest
        frame["finish_low"], frame["finish_high"] = bounds(rest, (path[-1] - path) ** 2 @ squares, q)
    return frame.reindex(columns=_SURVIVAL)


def by_segment(viewers: Viewers | NotEstimable, segment: str) -> pd.DataFrame:
    """Compare the share that finishes between the levels of a segment: alone, and drawn together (`segments.shrink`).

    The p of a level asks whether it differs from all others together, corrected over the levels (Holm). Levels differ
    in who is in them: nothing here says that moving a viewer to another level would change what it does.

    Returns:
        A row per level that was watched to the end: level, viewers, finish, low, high, shrunken with its limits (from
        three levels on), p_adjusted; these only where some of a level finished, and some did not.
    """
    columns = ["level", "viewers", "finish", "low", "high", "shrunken", "shrunken low", "shrunken high", "p_adjusted"]
    if isinstance(viewers, NotEstimable) or segment not in viewers.counts:
        return nothing(getattr(viewers, "reason", f"the accounts have no attribute '{segment}'"), columns)
    rows: list[dict[str, Any]] = []
    for level, counts in viewers.counts.groupby(segment):
        reached = survival(counts, viewers.episodes, level=viewers.level)
        if len(reached) == viewers.episodes:
            end, n = reached.iloc[-1], int(counts["viewers"].sum())
            rows.append({"level": level, "viewers": n, **dict(end[["low", "high"]]), "finish": end["reached"]})
    frame = pd.DataFrame(rows, columns=columns)
    if len(frame) < 2:
        return frame
    y = frame["finish"].to_numpy(dtype=float)
    se = (frame["high"] - frame["low"]).to_numpy(dtype=float) / (2 * stats.norm.isf((1 - viewers.level) / 2))
    told = se > 0  # not where everybody of a level finishes, or nobody: such a share has no error to weigh it by
    if told.sum() < 2:
        return frame
    weight = se[told] ** -2
    rest = weight.sum() - weight
    others = (weight @ y[told] - y[told] * weight) / rest
    frame.loc[told, "p_adjusted"] = holm(2 * stats.norm.sf(np.abs(y[told] - others) / np.sqrt(1 / weight + 1 / rest)))
    if told.sum() >= segments.FEWEST:
        shrunken = segments.shrink(y[told].tolist(), se[told].tolist(), level=viewers.level)
        for column, values in zip(("shrunken", "shrunken low", "shrunken high"), shrunken, strict=True):
            frame.loc[told, column] = values
    return frame


def hooked(curve: pd.DataFrame, share: float = HOOKED) -> int | None:
    """Find the first episode whose viewers finish the show with at least this share; None where no end was observed.

    >>> hooked(pd.DataFrame({"episode": [1, 2, 3], "finish": [0.4, 0.72, 1.0]}))
    2
    """
    found = curve.loc[curve["finish"] >= share, "episode"]
    return None if found.empty else int(found.iloc[0])


def cohorts(viewers: Viewers | NotEstimable) -> pd.DataFrame:
    """Lay out the share of each start week's viewers that reaches each episode; missing where it was not observed.

    Returns:
        A row per start week and episode: week (1, 2, …), episode, reached, low, high, viewers (of the week).
    """
    if isinstance(viewers, NotEstimable):
        return nothing(viewers.reason, ["week", "viewers", "episode", "reached", "low", "high"])
    parts = []
    for week, rows in viewers.counts.groupby(viewers.counts["start_day"] // 7):
        reached = survival(rows, viewers.episodes, level=viewers.level)
        if len(reached):
            parts.append(reached.assign(week=int(str(week)) + 1, viewers=int(rows["viewers"].sum())))
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["week", "viewers", *_SURVIVAL])
    return frame[["week", "viewers", "episode", "reached", "low", "high"]]


def weeks(viewers: Viewers | NotEstimable) -> pd.DataFrame:
    """Lay out the show's hours by week of the launch, per viewer and per viewer with episodes left."""
    columns = ["week", "hours", "begun", "episodes_left", "hours_per_viewer", "hours_per_viewer_with_episodes_left"]
    return nothing(viewers.reason, columns) if isinstance(viewers, NotEstimable) else viewers.weeks[columns]


def words(viewers: Viewers | NotEstimable, *, told: str = "") -> str:
    """Say what became of the viewers: finishers have not lapsed. A share that was `told` is left out."""
    if isinstance(viewers, NotEstimable):
        return f"Going on from episode to episode could not be read: {viewers.reason}."
    n, shares = round(viewers.states.sum()), viewers.states / viewers.states.sum()
    counts = viewers.counts
    weighted = "weight" in counts and not np.allclose(counts["weight"], counts["viewers"])
    ends, at = curve(viewers), hooked(curve(viewers))
    end = ends.iloc[-1] if len(ends) == viewers.episodes else None
    finish = "; how many will finish was not observed for long enough"
    if end is not None:
        share = f"{end['reached']:.0%} finish ({end['low']:.0%} to {end['high']:.0%})"
        finish = "" if share in told else f"; followed to their end, {share}"
    hook = "" if at is None else f" Episode {at} is the first whose viewers finish with at least {HOOKED:.0%}."
    who = f"{n:,} viewers{', weighted to the population,' * weighted}"
    return (
        f"Of {who} {shares['finished']:.0%} finished, {shares['still watching']:.0%} were still watching and "
        f"{shares['lapsed']:.0%} had stopped before the end{finish}.{hook}"
    )


def finishing(viewers: Viewers | NotEstimable, launch: Launch) -> Check | None:
    """Hold the share who finish against comparable titles: the benchmark of a limited series, whose hours must fall.

    Returns:
        passed is False where fewer finish than of the middle half of `comparables: {finished: […]}`, None where that
        cannot be told. None instead of a Check where the launch is no limited series.
    """
    if launch.show is None or launch.show.format != "limited":
        return None
    name, comparable = "Viewers finish it", launch.comparables.get("finished", ())
    ends = curve(viewers)
    if isinstance(viewers, NotEstimable) or len(ends) < viewers.episodes:
        reason = getattr(viewers, "reason", "no viewers were followed to its end")
        return Check(name=name, passed=None, detail=f"How many finish could not be read: {reason}.")
    share, low, high = ends.iloc[-1][["reached", "low", "high"]]
    standing = reception.beside(low, high, comparable)
    detail = f"Of those who began it {share:.0%} finish ({low:.0%} to {high:.0%})"
    if not comparable:
        return Check(name=name, passed=None, detail=f"{detail}; the launch names no comparable titles beside that.")
    titles = f"comparable titles {min(comparable):.0%} to {max(comparable):.0%}"
    words = {"under": "fewer than", "above": "more than", "in line": "as many as"}
    if standing == "cannot tell":
        return Check(name=name, passed=None, detail=f"{detail}; whether that is usual cannot be told ({titles}).")
    return Check(name=name, passed=standing != "under", detail=f"{detail}, {words[standing]} usual ({titles}).")


def honeymoon(viewers: Viewers | NotEstimable, *, strata: str = "") -> Check:
    """Ask whether viewers go on less, the later they began (log-rank test for trend).

    The trend is in what would be left of a launch's excitement on the start day if it halved every week: a show that is
    carried by its launch keeps its first viewers better than later ones. First viewers may also be keener to begin
    with: `strata` compares within the levels of an account's attribute, such as past viewing; what that attribute
    does not hold stays mixed in.

    Returns:
        passed is False where later viewers go on less within `strata`; None where there is too little to compare, or
        they go on less and no strata are known, so that they may be other people.
    """
    name = "Later viewers go on like the first"
    if isinstance(viewers, NotEstimable):
        return Check(name=name, passed=None, detail=f"Viewers could not be compared: {viewers.reason}.")
    rows = viewers.counts[viewers.counts["watched"] > 0]
    late = rows["start_day"] >= 7
    if rows[late]["viewers"].sum() < 30 or rows[~late]["viewers"].sum() < 30:
        detail = (
            "Too few viewers began after the first week, or in it, and were watched for long enough to compare them."
        )
        return Check(name=name, passed=None, detail=detail)
    z = trend(rows, 1 - 0.5 ** (rows["start_day"] / 7), strata if strata in rows else "")
    if z is None:
        return Check(name=name, passed=None, detail="Nobody left, or all began on the same day.")
    p = float(2 * stats.norm.sf(abs(z)))
    parts = [survival(rows[late == is_late], viewers.episodes) for is_late in (False, True)]
    episode = min(int(part["episode"].max()) for part in parts)
    first, later = (float(part.loc[part["episode"] == episode, "reached"].iloc[0]) for part in parts)
    shares = (
        f"episode {episode} is reached by {first:.0%} of those who began in the first week, {later:.0%} of the others"
    )
    if p < 1 - viewers.level:
        way = "less" if z > 0 else "longer"
        detail = f"The later viewers began, the {way} they go on: {shares}."
        if z > 0 and strata not in rows:
            detail += " Who begins later may be less keen to begin with, and nothing known of them from before tells."
            return Check(name=name, passed=None, detail=detail, p=p)
        return Check(name=name, passed=z < 0, detail=detail, p=p)
    detail = f"That later viewers go on less than first ones does not stand out from chance: {shares}."
    return Check(name=name, passed=True, detail=detail, p=p)


def trend(rows: pd.DataFrame, score: Any, strata: str = "") -> float | None:
    """Test whether leaving goes with a score of the viewers: the log-rank test for trend (Tarone 1975), as a z.

    None where nobody left, or all who could leave have the same score.

    With a score of 0 and 1 its square is the log-rank test of two groups (Mantel 1966). Levels count by their own
    effective numbers of viewers.

    Args:
        rows: counts as in `Viewers`.
        score: a number for each row; z is above 0 where higher scores leave sooner.
        strata: a column within whose levels viewers are compared.
    """
    excess = variance = 0.0
    weighted = rows.assign(_score=np.asarray(score, dtype=np.float64))
    for _level, part in weighted.groupby(strata) if strata else [("", weighted)]:
        x, (n, squares) = part["_score"].to_numpy(), _weight(part)
        watched, left = part["watched"].to_numpy(), part["left"].to_numpy(dtype=bool)
        for k in np.unique(watched[left]):
            here, leaves = watched >= k, n * (left & (watched == k))
            size, lost = n[here].sum(), leaves.sum()
            off = x - n[here] @ x[here] / size
            excess += leaves @ off
            variance += lost * (size - lost) / (max(size - 1, 1) * size) * (squares[here] @ off[here] ** 2)
    return float(excess / np.sqrt(variance)) if variance > 0 else None


def _weight(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Give what the viewers of each row count for, and its squares, so that all sum to their effective number."""
    names = ("weight", "squares") if "weight" in rows else ("viewers", "viewers")
    weight, squares = (rows[name].to_numpy(dtype=np.float64) for name in names)
    part = weight.sum() / squares.sum() if len(rows) else 1.0
    return part * weight, part**2 * squares


_SURVIVAL = [
    "episode", "at_risk", "left", "hazard", "reached", "low", "high", "finish", "finish_low", "finish_high",
]  # fmt: skip


def _attributes(data: Study, names: Sequence[str]) -> ibis.Table:
    """Open attributes of the accounts as text."""
    accounts = data.table("accounts")
    filled = {name: accounts[name].cast("string").fill_null(schema.UNKNOWN) for name in names}
    return accounts.select(account=accounts.account.cast(data.assignments.account.type()), **filled)


def _episodes(data: Study, arm: ibis.Table) -> ibis.Table:
    """Find when each account of the arm first played each episode, in days from its assignment."""
    measure = Measure(table="plays", agg="sum", column="episode", where=_OF_SHOW)
    plays = units.near(data, measure).filter(_["at"] >= _.anchor).semi_join(arm, "account")
    plays = plays.mutate(day=_since(plays), episode=_.value.cast("int64"))
    return plays.aggregate(by=["account", "episode"], day=_.day.min())


def _people(data: Study, arm: ibis.Table, seen: ibis.Table, *, episodes: int, visits: int) -> ibis.Table:
    """Give each viewer a row: when it began, how far it could be watched, whether it left there, what became of it."""
    first = seen.filter(_.episode == 1).select("account", began=_.day)
    seen = seen.filter(_.episode <= episodes).join(first, "account").filter(_.day >= _.began)
    order = ibis.window(group_by="account", order_by=["day", "episode"])
    steps = seen.mutate(position=ibis.row_number().over(order) + 1, following=_.day.lead().over(order))

    came = units.near(data, Measure(table="sessions", agg="count")).filter(_["at"] >= _.anchor)
    came = came.semi_join(arm, "account").select("account", day=_since(came), visit=1, position=ibis.null("int64"))
    line = came.union(steps.select("account", "day", visit=0, position=_.position.cast("int64")))
    running = ibis.window(group_by="account", order_by=["day", ibis.desc("visit")], preceding=None, following=0)
    line = line.mutate(visits=_.visit.sum().over(running).cast("int64"))
    ends = line.filter(_.visit == 1).select("account", after=_.visits, until=_.day)
    at = line.filter(_.visit == 0).select("account", "position", after=_.visits + visits + 1)
    steps = steps.join(
        at.left_join(ends, ["account", "after"]).select("account", "position", "until"), ["account", "position"]
    )

    observed = ~steps.until.isnull()
    goes_on = observed & (steps.following < steps.until).fill_null(False)
    steps = steps.mutate(stops=~goes_on, leaves=observed & ~goes_on, ends=steps.position >= episodes)
    people = steps.aggregate(
        by="account",
        began=_.began.min(),
        newest=_.day.max(),
        reached=_.position.max(),
        gone=_.leaves.cast("int64").argmax(_.position),
        stop=_.position.min(where=_.stops | _.ends),
    ).join(steps.select("account", stop="position", leaves="leaves", ends="ends"), ["account", "stop"])
    left = people.leaves & ~people.ends
    watched = left.ifelse(people.stop, people.stop - 1)
    finished = people.reached >= episodes
    return people.select(
        "account",
        start_day=people.began.floor().cast("int64"),
        watched=watched.cast("int64"),
        left=left,
        state=ibis.cases((finished, "finished"), (people.gone == 1, "lapsed"), else_="still watching"),
        finish_day=finished.ifelse(people.newest, None),
    )


def _since(events: ibis.Table) -> Any:
    """Give the time of each event in days from its account's assignment."""
    return (clock.seconds(events["at"]) - clock.seconds(events.anchor)) / _DAY


def _weeks(data: Study, people: ibis.Table, arm: str, episodes: int) -> pd.DataFrame:
    """Set each week's hours of the show beside all who have begun, and beside those who have episodes left."""
    hours = Measure(table="plays", agg="sum", column="watch_minutes", scale=1 / 60, where=_OF_SHOW)
    plays = units.near(data, hours).filter(_["at"] >= _.anchor).join(people.select("account", "weight"), "account")
    week = (_since(plays) / 7).floor().cast("int64")
    found = plays.aggregate(by=week.name("week"), hours=(_.value * _.weight).sum())
    found = units.kept(data, "viewers", found, "hours", arm, episodes, code=THIS)
    watched = found.execute().set_index("week")["hours"]
    last = (_.finish_day / 7).floor().cast("int64").name("last")
    spans = people.aggregate(
        by=[(_.start_day // 7).cast("int64").name("first"), last], viewers=_.weight.sum()
    ).execute()
    done = spans["last"].astype(float).fillna(np.inf)
    rows: list[dict[str, Any]] = []
    for nth in range(data.launch.days // 7):
        begun = spans["first"] <= nth
        rows.append(
            {
                "week": nth + 1,
                "hours": float(watched.get(nth, 0.0)),
                "begun": round(spans.loc[begun, "viewers"].sum()),
                "episodes_left": round(spans.loc[begun & (done >= nth), "viewers"].sum()),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.assign(
        hours_per_viewer=frame["hours"] / frame["begun"].where(frame["begun"] > 0),
        hours_per_viewer_with_episodes_left=frame["hours"] / frame["episodes_left"].where(frame["episodes_left"] > 0),
    )
