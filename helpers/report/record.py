"""What a page says about its own making: which notebook, launch, data, parameters, code and versions, and when."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

FORMAT = "premiere report 1"
_PACKAGES = ("pandas", "numpy", "scipy", "statsmodels", "ibis-framework", "duckdb", "matplotlib", "seaborn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One launch that notebooks are run on; the hashes are of what it asks and of the data it opens.

    `label` is what a result may call itself (confirmatory or exploratory), `remarks` the sentences that say why.
    """

    name: str
    title: str
    path: Path
    content_hash: str
    data_hash: str
    label: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One parameter of a run: its value against the notebook's default."""

    name: str
    value: str | float | bool
    default: str | float | bool
    meaning: str = ""

    @property
    def changed(self) -> bool:
        """Tell whether the run departs from the notebook."""
        return self.value != self.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of one notebook on one launch. `error` says in a line why it failed; empty when it finished."""

    notebook: str
    title: str
    launch: str
    launch_title: str
    launch_path: str
    launch_hash: str
    data_hash: str
    date: str
    started: str
    seconds: float
    commit: str
    versions: dict[str, str]
    parameters: tuple[Setting, ...] = ()
    error: str = ""
    label: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def status(self) -> Literal["finished", "failed"]:
        """Say how the run ended."""
        return "failed" if self.error else "finished"

    @property
    def number(self) -> str:
        """Return the number in the notebook's name: 04 of 04_analysis."""
        return self.notebook.partition("_")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, marked with its format."""
        return {"format": FORMAT, "status": self.status, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """Read a record back.

        Raises:
            KeyError, TypeError, ValueError: the values are not those of a report.
        """
        if values.get("format") != FORMAT:
            raise ValueError("it is no report of this format")
        fields = {name: values[name] for name in cls.__dataclass_fields__ if name not in {"label", "remarks"}}
        fields |= {"label": str(values.get("label", "")), "remarks": tuple(map(str, values.get("remarks", ())))}
        for name in ("notebook", "title", "launch", "launch_title", "date", "started", "error"):
            if not isinstance(fields[name], str):
                raise TypeError(f"{name} is not a text")
        fields["seconds"] = float(fields["seconds"])
        fields["parameters"] = tuple(Setting(**parameter) for parameter in fields["parameters"])
        return cls(**fields)


def commit(folder: Path) -> str:
    """Name the commit that a folder is at, and whether files differ from it; "not in git" where there is none."""

    def git(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
            capture_output=True, check=True, text=True, timeout=20,
        ).stdout.strip()  # fmt: skip

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + (", with uncommitted changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "not in git"


def versions() -> dict[str, str]:
    """List the versions of Python and of the packages that a number can depend on."""
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
