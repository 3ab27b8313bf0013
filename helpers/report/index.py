"""reports/index.html: every run that left a page, newest first, any two of them side by side, and what stands alone.

Two kinds of page belong to no run: the plans (`plans/<launch>.html`) and the portrait of the simulated service.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from helpers.report import readout, theme
from helpers.report.record import Record
from helpers.results import Estimate

PLANS, PORTRAIT = "plans", "portrait.html"  # below the folder of all reports


def write(out: Path) -> Path:
    """Rewrite the index over all reports below a folder; files that are no reports are named on it, not followed.

    Returns:
        The path of the index.
    """
    pages, skipped = [], []
    for path in sorted(out.glob("*/*/*.json")):
        try:
            pages.append(_entry(path, out))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            skipped.append((path.relative_to(out).as_posix(), f"{type(error).__name__}: {error}".splitlines()[0][:200]))
    pages.sort(key=lambda entry: entry["notebook"])
    pages.sort(key=lambda entry: entry["run"])
    runs = [_run(list(group)) for _, group in groupby(pages, key=lambda entry: entry["run"])]
    runs.sort(key=lambda run: (run["date"], run["started"]), reverse=True)
    plans = {path.stem: quote(path.relative_to(out).as_posix()) for path in sorted(out.glob(f"{PLANS}/*.html"))}
    html = theme.render(
        "index.html.j2",
        script="index.js",
        runs=runs,
        plans=plans,
        portrait=PORTRAIT if (out / PORTRAIT).exists() else "",
        skipped=skipped,
        pages=pages,
        decisions=readout.DECISIONS,
        launches=sorted({(page["launch"], page["launch_title"]) for page in pages}),
        failed=sum(page["status"] == "failed" for page in pages),
    )
    write_whole(out / "index.html", html)
    return out / "index.html"


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and move it there, so that nobody ever sees a part of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _entry(path: Path, out: Path) -> dict[str, Any]:
    """Read one report as far as the index shows it."""
    values = json.loads(path.read_text(encoding="utf-8"))
    record = Record.from_json(values)
    decision = values.get("decision")
    if decision is not None and decision not in readout.DECISIONS:
        raise ValueError(f"decision {decision!r} is not known")
    headline = record.error.splitlines()[0] if record.error else values["headline"]
    return {
        "id": path.relative_to(out).with_suffix("").as_posix(),
        "href": quote(path.relative_to(out).with_suffix(".html").as_posix()),
        "run": path.parent.relative_to(out).as_posix(),
        "notebook": record.notebook,
        "number": record.number,
        "title": record.title,
        "launch": record.launch,
        "launch_title": record.launch_title,
        "launch_hash": record.launch_hash,
        "data_hash": record.data_hash,
        "date": record.date,
        "started": record.started,
        "seconds": record.seconds,
        "status": record.status,
        "decision": decision,
        "headline": str(headline),
        "parameters": {p.name: json.dumps(p.value, ensure_ascii=False) for p in record.parameters},
        "changed": [f"{p.name}={json.dumps(p.value, ensure_ascii=False)}" for p in record.parameters if p.changed],
        "estimates": _estimates(values),
    }


def _estimates(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Prepare the estimates for comparison: words for people, and three numbers for the drawing."""
    claims = {claim["metric"]: claim for claim in values.get("claims", [])}
    found = []
    for raw in values["estimates"]:
        estimate = Estimate(**raw)
        claim = claims.get(estimate.metric, {})
        words = readout.describe(estimate, claim.get("unit", ""))
        slices = ", ".join(f"{key}: {value}" for key, value in estimate.slice.items())
        step = f" {words['step']}" if words["step"] else ""
        found.append(
            {
                "key": f"{estimate.metric} {slices} {estimate.method}",
                "title": " · ".join(filter(None, (claim.get("title", estimate.metric), slices))),
                "unit": "" if step else claim.get("unit", ""),
                "change": words["change"] + step,
                "interval": f"{words['low']} to {words['high']}{step}",
                "ends": [estimate.low, estimate.diff, estimate.high],
            }
        )
    return found


def _run(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the pages of one run; it is as new as its newest page."""
    return {
        "date": pages[0]["date"],
        "started": max(page["started"] for page in pages),
        "launch": pages[0]["launch"],
        "launch_title": pages[0]["launch_title"],
        "folder": pages[0]["run"].rpartition("/")[2],
        "pages": pages,
        "failed": sum(page["status"] == "failed" for page in pages),
    }
