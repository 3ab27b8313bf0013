"""The register: which plan stood when data were first opened, and whether a result still is what was planned.

Beside the launch file lies `<name>.opened.jsonl`, a line for each plan under which each state of the data was opened.
Lines are only ever added, so that it can be read, and kept in git. For a simulated launch, or where the launch's folder
cannot be written, it lies in the user's cache.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from helpers import cache, sampling
from helpers.errors import DataError
from helpers.launch import Launch
from helpers.launch.context import Outliers
from helpers.launch.entry import Planned
from helpers.results import SUCCESS

SEGMENTS = "the list of segments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One line of the register: on this day, data of this fingerprint were opened with this plan."""

    date: str
    plan: str
    data: str
    decisive: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a result may call itself, and the sentences that say why.

    *Confirmatory* means that what decides was written down before data were first opened by a report, and still is
    what it was. It cannot know what was looked at elsewhere.
    """

    label: Literal["confirmatory", "exploratory"]
    why: tuple[str, ...]


def removed(rule: Outliers) -> str:
    """Write in words by which flags accounts are removed, and which of these count."""
    flags = ", ".join(map(sampling.describe, rule.remove))
    return flags + (f" (set before the assignment, by {rule.flagged_at})" if rule.flagged_at else "")


def decisive(launch: Launch) -> dict[str, str]:
    """Lay out what must not change once data were seen: from the primary metric and its margins to segments and stage.

    >>> from pathlib import Path
    >>> from helpers.launch import load
    >>> decisive(load(Path(__file__).parents[1] / "launches" / "show_premiere.yaml"))["alpha"]
    '0.05'
    """
    star, rule = launch.plan[0], launch.decision
    found = {
        "the primary metric": f"{star.metric.name} ({_definition(star)})",
        "alpha": rule.alpha.written,
        "the correction": rule.correction,
        "the stopping rule": rule.stopping or "none",
        "the looks": ", ".join(map(str, rule.looks)) or "one, at the end",
        "the horizon": f"{launch.horizon} days" + (f" from {launch.dates.start}" if launch.dates else ""),
        "the arms": ", ".join(launch.arms.names),
        SEGMENTS: ", ".join(sorted(launch.segments)) or "none",
    }
    if launch.unit and launch.unit.together:
        found["what was drawn"] = f"{launch.unit.randomised}s, by column '{launch.cluster}'"
    if rule.poststratify:
        found["the post-stratification"] = f"by {', '.join(rule.poststratify)}"
    if rule.stage == "last":
        found["the stage"] = "the last"
    if launch.outliers and launch.outliers.impossible_above:
        limits = launch.outliers.impossible_above.items()
        found["what is impossible"] = ", ".join(f"{metric} above {limit:g}" for metric, limit in limits)
    if launch.outliers and launch.outliers.remove:
        found["who is removed"] = removed(launch.outliers)
    if launch.outliers and launch.outliers.heavy_viewers_are_target:
        by = f", by {launch.outliers.heavy_by}" if launch.outliers.heavy_by else ""
        found["the target"] = f"those who watch most{by}"
    if launch.outliers and launch.outliers.caps != "pooled" and any(p.metric.cap for p in launch.plan):
        found["the amounts that caps are taken from"] = "those before the launch"
    if launch.show:
        found["the format of the show"] = launch.show.format
    for p in launch.plan:
        if p.limit:
            found[f"the margin of {p.metric.name}"] = f"{p.limit.text} ({_definition(p)})"
        if p.target:
            found[f"the target of {p.metric.name}"] = f"{p.target.text} ({_definition(p)})"
        elif p.detect and p.role in SUCCESS:
            found[f"the smallest gain of {p.metric.name} that is worth having"] = f"{p.detect.text} ({_definition(p)})"
    return found


def path(launch: Launch) -> Path:
    """Say where the register of a launch lies."""
    name = f"{launch.name}.opened.jsonl"
    if launch.data.source != "simulate" and os.access(launch.folder, os.W_OK):
        return launch.folder / name
    place = hashlib.sha256(str(launch.folder).encode()).hexdigest()[:12]
    return cache.folder() / "opened" / place / name


def read(launch: Launch) -> list[Opening]:
    """Read the register, oldest line first; empty where data were never opened.

    Raises:
        DataError: a line cannot be read; file and line are named.
    """
    where = path(launch)
    try:
        lines = where.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where.name}: the register of openings cannot be read: {error}") from None
    found = []
    for i, line in enumerate(lines, start=1):
        try:
            found.append(_opening(line))
        except (ValueError, TypeError, RecursionError):
            raise DataError(
                f"{where.name}, line {i}: is no line of a register of openings; restore the file from version control"
            ) from None
    return found


def _opening(line: str) -> Opening:
    opening = Opening(**json.loads(line))
    dt.date.fromisoformat(opening.date)
    if not all(isinstance(v, str) for v in (opening.plan, opening.data, *dict(opening.decisive).values())):
        raise TypeError("a value is not a text")
    return opening


def note(launch: Launch, fingerprint: str | None, today: dt.date) -> None:
    """Note that data are opened with this plan, unless the register says so already.

    Raises:
        DataError: the register cannot be read or written.
    """
    opening = Opening(
        date=today.isoformat(),
        plan=launch.content_hash,
        data=fingerprint or f"not known, on {today}",
        decisive=decisive(launch),
    )
    if any((o.plan, o.data) == (opening.plan, opening.data) for o in read(launch)):
        return
    where = path(launch)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:  # one write of one line: several processes may add to the same file
            os.write(handle, (json.dumps(asdict(opening), ensure_ascii=False) + "\n").encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise DataError(f"{where}: the register of openings cannot be written: {error.strerror}") from None


def standing(launch: Launch) -> Standing:
    """Say whether a result is confirmatory or exploratory, by the plan that stood when data were first opened."""
    try:
        openings = read(launch)
    except DataError as error:
        return Standing(label="exploratory", why=(f"{error}.",))
    if launch.context is None:
        why = "No plan was written before the data were opened (the launch has no 'context')."
        return Standing(label="exploratory", why=(why,))
    if not openings:
        return Standing(label="confirmatory", why=(f"Plan {launch.content_hash}; no data were opened with it yet.",))
    first = openings[0]
    now = {k: v for k, v in decisive(launch).items() if k != SEGMENTS or k in first.decisive}  # older lines lack them
    if changed := changes(first.decisive, now):
        since = f"Data were first opened on {first.date}, with plan {first.plan}. Since then:"
        return Standing(label="exploratory", why=(since, *changed))
    why = f"What decides stands as it did when data were first opened, on {first.date}, with plan {first.plan}."
    return Standing(label="confirmatory", why=(why,))


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Say in a sentence each what was added, dropped or changed.

    >>> changes({"alpha": "0.05"}, {"alpha": "0.1", "the margin of churn": "+5%"})
    ('alpha was 0.05 and is now 0.1.', 'the margin of churn was added: +5%.')
    """
    said = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old is None:
            said.append(f"{key} was added: {new}.")
        elif new is None:
            said.append(f"{key} was dropped: it was {old}.")
        elif old != new:
            said.append(f"{key} was {old} and is now {new}.")
    return tuple(said)


def _definition(p: Planned) -> str:
    """Write a metric's definition in one line: kind, measures, window, cap."""
    m = p.metric
    parts: list[Any] = [m.kind, " / ".join(m.column(x) for x in m.measures), f"{m.better} is better"]
    parts += [f"{m.window_days} days"] * bool(m.window_days) + [f"cap {m.cap}"] * bool(m.cap)
    return ", ".join(parts)
