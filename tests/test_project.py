"""The project as a whole: which module may know which, one list of dependencies, style and types."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml

from helpers.results import Decision

ROOT = Path(__file__).parents[1]
HELPERS = ROOT / "helpers"

# Data flow one way: a module may import those named beside it, and nothing on its right knows of it.
MAY_IMPORT = {
    "errors": set(),
    "results": set(),
    "wording": {"results"},
    "metrics": {"errors"},
    "launch": {"errors", "metrics", "results", "wording"},
    "schema": {"errors"},
    "sampling": {"errors", "metrics", "moments", "results", "schema"},
    "simulate": {"errors", "schema"},
    "clock": set(),
    "cache": set(),
    "logs": {"clock", "results", "schema"},
    "assignment": {"errors", "launch", "metrics", "sampling"},
    "study": {"assignment", "cache", "errors", "launch", "logs", "metrics", "sampling", "schema", "simulate"},
    "units": {"cache", "clock", "errors", "launch", "logs", "metrics", "moments", "results", "sampling", "schema", "study"},
    "moments": {"errors"},
    "inference": {"errors", "metrics", "moments", "results"},
    "weighting": {"errors", "results"},
    "adequacy": {"inference", "metrics", "moments", "results", "study", "units"},
    "causal": {"errors", "inference", "metrics", "moments", "results", "scorecard", "study", "units"},
    "sequential": {"errors", "results"},
    "anytime": {"errors", "results"},
    "validity": {"anytime", "errors", "results"},
    "power": {"errors", "inference", "metrics", "moments", "results"},
    "decision": {"errors", "metrics", "results", "wording"},
    "preflight": {"assignment", "errors", "metrics", "moments", "results", "sampling", "schema", "study", "units", "validity"},
    "diversity": {"errors", "inference", "metrics", "moments", "results", "robust", "study", "units"},
    "survival": {"errors", "inference", "metrics", "moments", "results", "robust", "study", "units"},
    "scorecard": {"adequacy", "anytime", "decision", "diversity", "errors", "inference", "launch", "logs", "metrics", "moments", "power", "preflight", "results", "robust", "sequential", "study", "survival", "units", "validity"},
    "crashes": {"inference", "metrics", "moments", "results", "study", "units"},
    "segments": {"decision", "errors", "inference", "metrics", "moments", "results", "scorecard", "study", "survival", "units"},
    "monitor": {"anytime", "errors", "inference", "metrics", "moments", "results", "scorecard", "sequential", "study", "units"},
    "reception": {"inference", "launch", "metrics", "moments", "power", "results", "schema", "study", "units"},
    "trust": {"capability", "decision", "detectors", "metrics", "register", "results", "retention", "robust", "scorecard", "study", "timeline", "units"},
    "roster": {"assignment", "errors", "metrics", "results", "sampling", "schema", "study", "units"},
    "robust": {"errors", "inference", "metrics", "moments", "report", "results", "study", "units"},
    "decomposition": {"metrics", "results", "scorecard", "study", "units"},
    "report": {"errors", "results", "wording"},
    "prospect": {"errors", "inference", "launch", "metrics", "moments", "power", "report", "results", "scorecard", "sequential", "study", "units"},
    "calculator": {"errors", "power", "prospect", "report"},
    "brief": {"inference", "launch", "metrics", "power", "prospect", "report", "results", "scorecard", "study", "units"},
    "plots": {"quadrant", "report", "results"},
    "timeline": {"cache", "clock", "errors", "inference", "metrics", "moments", "report", "results", "segments", "simulate", "study", "units"},
    "retention": {"clock", "errors", "inference", "launch", "metrics", "moments", "reception", "results", "schema", "segments", "study", "survival", "units"},
    "capability": {"errors", "metrics", "report", "results", "roster", "schema", "scorecard", "study"},
    "draft": {"errors", "study"},
    "handover": {"assignment", "errors", "launch", "results", "study"},
    "portrait": {"errors", "report", "simulate"},
    "calibration": {"anytime", "diversity", "errors", "inference", "metrics", "moments", "results", "robust", "sequential", "simulate", "survival"},
    "cli": {"brief", "calibration", "draft", "errors", "handover", "launch", "linter", "plan", "portrait", "register", "report", "scorecard", "simulate", "study", "units"},
    "quadrant": {"results"},
    "corpus": {"cache", "errors", "simulate"},
    "lessons": {"clock", "launch", "metrics", "results", "scorecard", "study"},
    "detectors": {"corpus", "decision", "errors", "inference", "launch", "metrics", "moments", "power", "quadrant", "register", "report", "results", "schema", "scorecard", "study", "units", "wording"},
    "register": {"cache", "errors", "launch", "results", "sampling"},
    "linter": {"errors", "launch", "metrics", "power", "results", "scorecard", "study"},
    "plan": {"brief", "errors", "launch", "linter", "metrics", "register", "report", "results"},
}  # fmt: skip


def modules():
    """Map each module, or package as one, to its files."""
    found = {}
    for path in sorted(HELPERS.rglob("*.py")):
        name = path.relative_to(HELPERS).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("helpers."))


def test_every_module_has_its_place_in_the_table():
    assert set(modules()) == set(MAY_IMPORT)


@pytest.mark.parametrize("module", sorted(MAY_IMPORT))
def test_modules_import_only_what_the_table_allows(module):
    used = {name for path in modules().get(module, []) for name in imported(path)} - {module}
    assert used <= MAY_IMPORT[module], f"{module} imports {sorted(used - MAY_IMPORT[module])}"


def test_the_table_has_no_cycle():
    left, order = dict(MAY_IMPORT), []
    while left:
        free = [m for m, needs in left.items() if needs <= set(order)]
        assert free, f"a cycle among {sorted(left)}"
        order += free
        left = {m: needs for m, needs in left.items() if m not in free}


def test_no_module_passes_five_hundred_lines():
    long = {
        str(p.relative_to(ROOT)): n
        for ps in modules().values()
        for p in ps
        if (n := len(p.read_text().splitlines())) > 500
    }
    assert not long


def test_every_module_is_on_the_map():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert not [m for m in modules() if f"`{m}`" not in text]


def test_rows_of_accounts_come_from_units_alone():
    """What is compiled past `units.rows` would not treat missing values as the launch says."""
    found = [
        f"{path.relative_to(HELPERS)}:{node.lineno}"
        for name, paths in modules().items()
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if name != "units"
        and (
            (isinstance(node, ast.ImportFrom) and any(a.name == "build" for a in node.names))
            or (isinstance(node, ast.Attribute) and ast.unparse(node) in ("query.build", "units.query.build"))
        )
    ]
    assert not found


def test_planted_truth_is_opened_by_no_helper():
    callers = [
        f"{path.name}:{node.lineno}"
        for paths in modules().values()
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "reveal"
    ]
    assert not callers


def names(requirements):
    return {re.match(r"[A-Za-z0-9._-]+", r)[0].lower().replace("_", "-") for r in requirements}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def lock():
    """Read the pins that hold on this Python."""
    from packaging.markers import Marker

    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)(?: ; (.+))?$", line):
            if match[3] is None or Marker(match[3]).evaluate():
                pins[match[1].lower()] = match[2]
        else:
            assert line.startswith(("#", " ")) or not line, f"not a pin: {line}"
    return pins


def test_the_lock_pins_every_direct_dependency(project, lock):
    from packaging.requirements import Requirement

    for text in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(lock[requirement.name.lower()]), text


def test_conda_names_the_same_direct_dependencies_at_the_same_pins(project):
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    pinned = [entry for entry in pip if not entry.startswith("-")]
    assert names(pinned) == names(project["dependencies"])
    assert {"-c requirements.lock", "-e ."} <= set(pip)
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    for entry in pinned:
        name, version = entry.split("==")
        assert any(line.split(" ")[0] == f"{name.split('[')[0]}=={version}" for line in lines), entry


def test_readme_says_in_a_line_what_each_dependency_is_for(project):
    readme = (ROOT / "README.md").read_text().lower()
    missing = [n for n in names(project["dependencies"]) if f"`{n}`" not in readme]
    assert not missing


def test_the_environment_runs_the_locked_versions(project, lock):
    from importlib.metadata import version

    for name in names(project["dependencies"]):
        assert version(name) == lock[name], name


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=" ".join,
)
def test_style_and_types(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]


def test_the_readme_explains_every_verdict():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [d for d in get_args(Decision) if f"\n| {d} | " not in text] == []
