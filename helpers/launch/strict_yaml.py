"""YAML as plain values with line numbers: no tags, no aliases, no key twice, and NO stays a country."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from helpers.errors import LaunchError, did_you_mean

MAX_BYTES = 64 * 1024  # a launch file is a page of text; anything longer is a mistake or an attack


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without aliases (which can blow up), and with true and false as the only flags (NO is a country)."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own name and form)
        first: [(tag, rx) for tag, rx in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not allowed; write the value out", problem_mark=mark
            )
        return super().compose_node(parent, index)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), list("tTfF")
)

Lines = dict[tuple[str | int, ...], int]


def line(lines: Lines, place: tuple[str | int, ...]) -> int:
    """Say on which line a key stands, or the nearest key around it; 0 where the file has none of them.

    >>> line({(): 1, ("metrics",): 4}, ("metrics", "north_star"))
    4
    """
    return next((lines[place[:i]] for i in range(len(place), 0, -1) if place[:i] in lines), 0)


def where(lines: Lines, place: tuple[str | int, ...]) -> str:
    """Say where a key stands: on its line, or in which section it is missing.

    >>> known = {(): 1, ("metrics",): 4}
    >>> where(known, ("metrics",)), where(known, ("metrics", "north_star")), where(known, ("arms",))
    ('line 4', 'in the section of line 4', 'at the top level')
    """
    if not (found := line(lines, place)):
        return "at the top level"
    return f"line {found}" if place in lines else f"in the section of line {found}"


def read(path: Path) -> tuple[Any, Lines]:
    """Read a YAML file into plain values, with the line on which each key stands."""
    if path.is_dir():
        raise LaunchError(f"{path}: is a folder; name the launch file in it")
    if not path.is_file():
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.y*ml"))) if path.parent.is_dir() else ""
        raise LaunchError(f"{path}: there is no such launch file; {near or 'check the path'}")
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise LaunchError(f"{path}: {len(raw):,} bytes are too many for a launch file; at most {MAX_BYTES:,} are read")
    try:
        loader = _StrictLoader(raw.decode("utf-8"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise LaunchError(
                f"{path}: expected a launch (keys and values), found {'a list or text' if node else 'nothing'}"
            )
        lines: Lines = {}
        return _plain(loader, node, (), lines), lines
    except UnicodeDecodeError as error:
        raise LaunchError(f"{path}: is not text in UTF-8 (byte {error.start}); save it as UTF-8") from None
    except RecursionError:
        raise LaunchError(f"{path}: is nested too deeply for a launch file") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise LaunchError(f"{path}, line {line}: is not valid YAML here: {_plainly(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise LaunchError(f"{path}: is not valid YAML: {str(error).splitlines()[0]}") from None


_FAULTS = (  # how the parser's words begin, and plain ones
    ("mapping values are not allowed", "a key is indented too far, or a text with ': ' in it needs quotes"),
    ("expected <block end>, but found '<block", "it is not in one column with the other lines of its section{since}"),
    ("expected <block end>", "it does not fit the lines before it: keys mixed with '- ', or a bracket too many{since}"),
    ("found character '\\t'", "a tab stands where spaces must"),
    ("found character", "a text that begins with {sign} needs quotes"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing{since}"),
    ("found unexpected end of stream", "a quotation mark is not closed{since}"),
    ("could not find expected ':'", "a key without ':'{since}"),
)


def _plainly(error: yaml.MarkedYAMLError) -> str:
    """Say in plain words what the parser found; in its own where they are not known here."""
    problem = error.problem or ""
    begin = error.context_mark.line + 1 if error.context_mark else None
    here = error.problem_mark.line + 1 if error.problem_mark else None
    since = "" if begin in (None, here) else f" (begun in line {begin})"
    sign = next(iter(re.findall(r"'.'", problem)), "")
    told = next((words for start, words in _FAULTS if problem.startswith(start)), "{problem}")
    return told.format(since=since, sign=sign, problem=problem)


def _plain(loader: yaml.SafeLoader, node: yaml.Node, at: tuple[str | int, ...], lines: Lines) -> Any:
    """Turn a YAML node into plain values; remember lines; refuse tags and keys that stand twice."""
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node)
            if not isinstance(key, str) or key in result:
                problem = f"key {key!r} stands here twice" if isinstance(key, str) else f"key {key!r} is not text"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            result[key] = _plain(loader, value_node, (*at, key), lines)
            lines[(*at, key)] = key_node.start_mark.line + 1
        return result
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_plain(loader, child, (*at, i), lines) for i, child in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode) or node.tag.rpartition(":")[2] not in {
        "str", "int", "float", "bool", "null", "timestamp",
    }:  # fmt: skip
        raise yaml.MarkedYAMLError(
            problem=f"the tag {node.tag} is not allowed; write plain values", problem_mark=node.start_mark
        )
    try:
        return loader.construct_object(node)
    except ValueError:  # looks like a day and is none
        problem = f"{node.value!r} is no day; write YYYY-MM-DD, such as 2026-11-21"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
