"""Engagement against satisfaction: the four things that a launch can do to people, and whether the data tell which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scipy import stats

from helpers.results import Claim, Estimate, NotEstimable, nothing

if TYPE_CHECKING:
    import pandas as pd

Label = Literal["healthy growth", "hollow engagement", "fewer but better", "harm", "cannot tell"]
LABELS: dict[tuple[bool, bool], Label] = {
    (True, True): "healthy growth",
    (True, False): "hollow engagement",
    (False, True): "fewer but better",
    (False, False): "harm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quadrant:
    """Where a launch lies: two changes, each so that more is better, with intervals that hold together at `level`.

    `x` and `y` are low, point and high of engagement and satisfaction, in per cent where `relative`, else in the
    metrics' own units. `possible` lists what the joint interval leaves open.
    """

    label: Label
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    titles: tuple[str, str]
    relative: tuple[bool, bool]
    level: float
    possible: tuple[Label, ...]
    words: str


def read(engagement: Claim, satisfaction: Claim) -> Quadrant | NotEstimable:
    """Read engagement and satisfaction together.

    The joint interval is the rectangle of both intervals, each widened to half the error rate (Bonferroni): it
    contains both true changes at once at least as often as a single interval contains one, however they hang
    together. The launch is in a quadrant only if all of the rectangle is; otherwise nobody can tell yet, which is no
    sign of a balance.
    """
    for claim in (engagement, satisfaction):
        if isinstance(claim.estimate, NotEstimable):
            return claim.estimate
    (x_ends, x_relative, one), (y_ends, y_relative, other) = _side(engagement), _side(satisfaction)
    possible = tuple(
        label for (up, liked), label in LABELS.items() if _reaches(x_ends, up=up) and _reaches(y_ends, up=liked)
    )
    label: Label = possible[0] if len(possible) == 1 else "cannot tell"
    titles = (engagement.title, satisfaction.title)
    if label == "cannot tell":
        words = f"Which of these it is cannot be told yet: {', '.join(possible)}."
    else:
        words = f"{titles[0]} and {titles[1].lower()} together say: {label}."
    return Quadrant(
        label=label,
        x=x_ends,
        y=y_ends,
        titles=titles,
        relative=(x_relative, y_relative),
        level=(one + other) / 2,
        possible=possible,
        words=words,
    )


def find(claims: Sequence[Claim]) -> Quadrant | NotEstimable:
    """Read a launch's north star against the first of its satisfaction metrics that could be estimated."""
    liked = [c for c in claims if c.role == "satisfaction"]
    measured = [c for c in liked if isinstance(c.estimate, Estimate)]
    star = claims[0]
    if not liked:
        return NotEstimable(metric=star.metric, reason="the plan has no satisfaction metric beside the north star")
    return read(star, (measured or liked)[0])


def _reaches(ends: tuple[float, float, float], *, up: bool) -> bool:
    return ends[2] > 0 if up else ends[0] < 0


def _side(claim: Claim) -> tuple[tuple[float, float, float], bool, float]:
    """Give a claim's change and its widened interval, so that more is better; relative where that is possible."""
    e = claim.estimate
    if isinstance(e, NotEstimable):
        raise TypeError(f"{claim.metric} has no estimate")
    if e.rel is None or e.rel_low is None or e.rel_high is None:
        relative, (low, point, high) = False, (e.low, e.diff, e.high)
    else:
        relative, (low, point, high) = True, (100 * e.rel_low, 100 * e.rel, 100 * e.rel_high)
    wider = float(stats.norm.isf((1 - e.level) / 4) / stats.norm.isf((1 - e.level) / 2))
    low, high = point - wider * (point - low), point + wider * (high - point)
    return ((low, point, high) if claim.better == "higher" else (-high, -point, -low)), relative, e.level


def words(read: Quadrant | NotEstimable) -> str:
    """Say where the launch lies, or why nobody can say."""
    return f"Not drawn: {read.reason}." if isinstance(read, NotEstimable) else read.words


def to_frame(read: Quadrant | NotEstimable) -> pd.DataFrame:
    """Lay both changes out, a row each; without rows where they could not be read."""
    import pandas as pd

    columns = ["metric", "low", "change", "high", "in per cent"]
    if isinstance(read, NotEstimable):
        return nothing(read.reason, columns)
    sides = zip(read.titles, (read.x, read.y), read.relative, strict=True)
    return pd.DataFrame([(title, *ends, relative) for title, ends, relative in sides], columns=columns)
