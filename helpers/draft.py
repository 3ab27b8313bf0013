"""A first launch file for a user's own table, written by looking at its columns; every guess is a comment to check."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import ibis
from ibis import _

from helpers import study
from helpers.errors import DataError, LaunchError

ARM_NAMES = ("arm", "variant", "version", "group", "treatment", "cell", "bucket", "test_group", "segment")
CONTROL_NAMES = ("control", "ctrl", "a", "0", "old", "baseline", "placebo", "off", "false", "none")
PAST_WORDS = {"before", "pre", "past", "prior", "previous", "history", "baseline"}  # columns that sharpen, not measure
WEIGHT_WORDS = {"weight", "weights", "pw", "w"}
TIME_WORDS = {"tenure", "time", "duration", "lifetime", "days", "weeks", "months"}
EVENT_STEMS = ("left", "churn", "cancel", "event")
LOWER_STEMS = ("refund", "churn", "cancel", "left", "crash", "error", "ticket", "complaint")  # the fewer the better
NOBODY_WORDS = {"bot", "bots", "test", "tester", "internal", "employee", "staff", "fraud"}  # flags of no customers
AMOUNT = r"^[^0-9A-Za-z]{0,3}[0-9][0-9.,' ]*[^0-9]{0,4}$"  # a number with a sign of money, a unit, or commas in it
MAX_ARMS = 6
MAX_LEVELS = 12
MAX_METRICS = 12


class Column(NamedTuple):
    """What one look at a column tells."""

    name: str
    type: Any
    levels: int
    binary: bool
    gaps: int
    amounts: bool


def write(table: Path, out: Path) -> Path:
    """Write a commented launch file for a CSV or Parquet table with a row per account.

    Raises:
        DataError: no column looks like the arm or like the account id.
        LaunchError: the launch file exists already.
    """
    if out.exists():
        raise LaunchError(f"{out}: exists already; name another file with --out")
    if not out.parent.is_dir():
        raise LaunchError(
            f"{out.parent}: there is no such folder for the launch file; create it, or name another with --out"
        )
    text = _text(study.read_file(study.connect_embedded(), table), table, out)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.rename(out)
    return out


def _text(rows: ibis.Table, path: Path, out: Path) -> str:
    n, columns = _look(rows)
    account = _account(columns, n, path)
    arm = _arm(columns, path)
    read = study.read_file(study.connect_embedded(), path, as_text=(account, arm))[arm]  # as `study.open` does
    levels = read.cast("string").name("level").as_table().filter(_.level.notnull())
    sizes = levels.aggregate(by="level", n=levels.count()).order_by("level").execute()
    arms = list(sizes["level"])
    control = min(
        arms, key=lambda a: (_rank(str(a).lower(), CONTROL_NAMES), "control" not in str(a).lower(), arms.index(a))
    )
    others = [c for c in columns if c.name not in {account, arm}]
    counted = [c for c in others if (c.type.is_numeric() or c.type.is_boolean()) and c.levels]
    nobody = [c.name for c in counted if c.binary and NOBODY_WORDS & _words(c)]
    counted = [c for c in counted if c.name not in nobody]
    weights = [c.name for c in counted if not c.binary and WEIGHT_WORDS & _words(c)]
    past = [c.name for c in counted if PAST_WORDS & _words(c) and c.name not in weights]
    measured = [c for c in counted if c.name not in {*past, *weights}]
    numbers = measured[:MAX_METRICS]
    if not numbers:
        raise DataError(f"{path}: has no numeric or true/false column to measure besides account and arm")
    segments = [c.name for c in others if c.type.is_string() and 2 <= c.levels <= MAX_LEVELS and not c.amounts]
    left = {c.name: _why_left(c) for c in others if c not in counted and c.name not in {*nobody, *segments}}
    left |= {c.name: f"only the first {MAX_METRICS} numbers are taken" for c in measured[MAX_METRICS:]}
    gaps = ", ".join(f"{_comment(c.name)} ({c.gaps:,})" for c in counted if c.gaps and c.name not in {*left, *weights})
    drop = ", missing: drop" if gaps else ""
    name = "".join(ch if ch.isascii() and ch.isalnum() else "_" for ch in out.stem.lower()).strip("_") or "launch"
    where = table_path(path, out)
    quoted, treatments = json.dumps, [a for a in arms if a != control]
    found = ", ".join(f"{a} ({k:,})" for a, k in zip(sizes["level"], sizes["n"], strict=True))
    first, *rest = sorted(numbers, key=lambda c: _starts(c, LOWER_STEMS))
    parts = ", ".join(f"{quoted(a)}: 1" for a in (control, *treatments))
    lines = [
        f"# Drafted from {_comment(path.name)}: {n:,} rows. Every line is a guess: read it, correct it.",
        f"name: {name}",
        f"title: {quoted(out.stem)}",
        'question: ""                # which decision does the answer serve?',
        "# with these filled in the launch is a plan, and 'premiere lint' says what it still lacks:",
        '# context: {feature: "", who: "", where: "", when: "", constraint: "", decision: ""}',
        "# show: {format: limited, episodes: 4}   # where a title is launched; 'limited' ends by itself",
        "",
        *(
            [
                f"# missing values: {gaps}. 'drop' leaves such accounts out of every metric; 'zero' reads 0 instead,",
                "# which is right where nothing written means nothing done",
            ]
            if gaps
            else []
        ),
        f"data: {{units: {quoted(where)}, account: {quoted(account)}, arm: {quoted(arm)}{drop}}}",
        *(f"# does each account stand for several? then add to 'data': weight: {quoted(w)}" for w in weights),
        f"# arms found: {_comment(found)}; accounts in other arms are left out",
        f"arms: {{control: {quoted(control)}, treatment: {quoted(treatments if treatments[1:] else treatments[0])}}}",
        "# the planned split, in accounts or parts, against which the arms are counted:",
        f"# sampling: {{n: {{{parts}}}}}",
        "",
        "metrics:",
        "  # one north star: the number that the launch is for; better is a guess, turn it where lower is better;",
        "  # covariates were measured before the launch and sharpen the answer",
        f"  north_star: {_entry(first, past)}",
    ]
    if rest:
        lines += [
            "  # what drives the north star; add 'target: +5%' where one was promised, 'cap: 0.999' against outliers"
        ]
        lines += ["  supporting:", *(f"    - {_entry(c, past)}" for c in rest), *_time(numbers)]
    lines += [
        "  # what must not break: move metrics here and say how much harm is just not accepted, for example",
        "  # guardrails:",
        "  #   - {name: churn, kind: proportion, column: churned, better: lower, margin: +10%}",
        "",
        *(
            ["# no customers? then leave them out:", f"# outliers: {{remove: [{', '.join(map(quoted, nobody))}]}}"]
            if nobody
            else []
        ),
        *(f"# not used: {_comment(name)}, {why}" for name, why in left.items()),
        f"segments: [{', '.join(map(quoted, segments))}]",
        "decision: {alpha: 0.05, power: 0.8}",
    ]
    return "\n".join(lines) + "\n"


def table_path(table: Path, out: Path) -> str:
    """Write the table's path as seen from the launch file where it stands below it, else in full."""
    table, folder = table.resolve(), out.resolve().parent
    return str(table.relative_to(folder)) if table.is_relative_to(folder) else str(table)


def _look(rows: ibis.Table) -> tuple[int, list[Column]]:
    """Count rows, and the levels and gaps of every column, in one aggregate."""
    asked: dict[str, Any] = {"rows": rows.count()}
    for i, (name, dtype) in enumerate(rows.schema().items()):
        known = rows[name].notnull()
        if dtype.is_numeric():
            number = rows[name].cast("float64")
            known &= ~(number.isnan() | number.isinf())
            asked[f"binary_{i}"] = number.isin([0.0, 1.0]).all(where=known)
        if dtype.is_string():
            asked[f"amounts_{i}"] = rows[name].re_search(AMOUNT).all(where=known)
        asked[f"levels_{i}"], asked[f"gaps_{i}"] = rows[name].nunique(where=known), (~known).sum()
    told = rows.aggregate(**asked).execute().fillna(0).iloc[0]
    return int(told["rows"]), [
        Column(
            name,
            dtype,
            levels=int(told[f"levels_{i}"]),
            binary=dtype.is_boolean() or bool(told.get(f"binary_{i}", False)),
            gaps=int(told[f"gaps_{i}"]),
            amounts=bool(told.get(f"amounts_{i}", False)),
        )
        for i, (name, dtype) in enumerate(rows.schema().items())
    ]


def _why_left(column: Column) -> str:
    """Say why a column is neither a metric nor a segment."""
    if not column.levels:
        return "it has no values"
    if column.amounts and column.levels > 1:
        return "numbers written as text: take out what is no digit ($, %, commas) to measure it"
    if column.type.is_temporal():
        return "a day or time"
    if not column.type.is_string():
        return f"it holds {column.type}"
    return "the same in every row" if column.levels == 1 else f"text with {column.levels:,} values, too many to compare"


def _account(columns: list[Column], n: int, path: Path) -> str:
    unique = [c.name for c in columns if c.levels == n and not c.type.is_floating()]
    if n == 0 or not unique:
        raise DataError(
            f"{path}: no column has a value of its own in each of the {n:,} rows; one row per account is needed"
        )
    return min(unique, key=lambda name: not any(part in name.lower() for part in ("account", "user", "id", "customer")))


def _arm(columns: list[Column], path: Path) -> str:
    few = [c for c in columns if 2 <= c.levels <= MAX_ARMS and not c.type.is_floating()]
    likely = [c for c in few if c.type.is_string() or c.name.lower() in ARM_NAMES]
    if not likely:
        raise DataError(
            f"{path}: no column looks like the arm (a text with 2 to {MAX_ARMS} values); name the right one 'arm'"
        )
    return min(likely, key=lambda c: _rank(c.name.lower(), ARM_NAMES)).name


def _rank(name: str, known: tuple[str, ...]) -> int:
    return known.index(name) if name in known else len(known)


def _words(column: Column) -> set[str]:
    return set(re.split(r"[^a-z]+", column.name.lower()))


def _starts(column: Column, stems: tuple[str, ...]) -> bool:
    return any(word.startswith(stems) for word in _words(column))


def _entry(column: Column, past: list[str]) -> str:
    name = "".join(ch if ch.isascii() and ch.isalnum() else "_" for ch in column.name.lower()).strip("_-") or "metric"
    kind = "proportion" if column.binary else "mean"
    better = "lower" if _starts(column, LOWER_STEMS) else "higher"
    before = f", covariates: [{', '.join(map(json.dumps, past))}]" if past else ""
    return f"{{name: {name[:64]}, kind: {kind}, column: {json.dumps(column.name)}, better: {better}{before}}}"


def _time(numbers: list[Column]) -> list[str]:
    """Suggest a time to an event where one column may be how long, and another whether it came."""
    time = next((c.name for c in numbers if not c.binary and TIME_WORDS & _words(c)), None)
    event = next((c.name for c in numbers if c.binary and _starts(c, EVENT_STEMS)), None)
    if time is None or event is None:
        return []
    return [
        "    # a time, and whether the event came then (1) or the account was last seen (0)? then instead of both:",
        f"    # - {{name: time_to_event, kind: time_to_event, column: {json.dumps(time)}, event: {json.dumps(event)}, "
        "better: higher}",
    ]


def _comment(text: str) -> str:
    """Keep a comment on its line, whatever the data hold."""
    return " ".join(text.split())
