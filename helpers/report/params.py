"""The parameters a notebook declares, and the values it is given, checked before anything runs."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.errors import ParameterError, did_you_mean

if TYPE_CHECKING:
    from nbformat import NotebookNode

Value = int | float | str | bool
_TYPES: dict[str, type[Value]] = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One line of a notebook's parameters cell: `days: int = 28  # length of the window`."""

    name: str
    type: type[Value]
    default: Value
    meaning: str = ""


def declared(notebook: NotebookNode, *, where: str) -> dict[str, Parameter]:
    """Read what a notebook declares in its one cell tagged `parameters`, without running it.

    Raises:
        ParameterError: there is not exactly one such cell, or a line is not `name: type = literal  # meaning`
            with one of the types int, float, str and bool.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{where} has {len(cells)} cells tagged 'parameters', expected one")
    try:
        body = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ParameterError(f"{where}, parameters cell, line {error.lineno}: {error.msg}") from None
    lines = cells[0].source.splitlines()
    found = (_parameter(node, lines, where=where) for node in body if not _is_docstring(node))
    return {parameter.name: parameter for parameter in found}


def resolve(
    parameters: Mapping[str, Parameter], given: Mapping[str, str], *, where: str = "the notebook"
) -> dict[str, Value]:
    """Turn the texts given on the command line into values of the declared types; the rest keep their defaults.

    Texts stay as typed where a text is declared ("NO" is not false, "007" is not 7).

    Raises:
        ParameterError: a name is not declared, or a text is not of its type.

    >>> days = Parameter(name="days", type=int, default=28)
    >>> resolve({"days": days}, {"days": "14"})
    {'days': 14}
    >>> resolve({"days": days}, {"day": "14"})
    Traceback (most recent call last):
    helpers.errors.ParameterError: the notebook has no parameter 'day'; did you mean 'days'?
    """
    for name in given:
        if name not in parameters:
            raise ParameterError(f"{where} has no parameter {name!r}; {did_you_mean(name, parameters)}")
    return {
        name: _value(given[name], parameter, where=where) if name in given else parameter.default
        for name, parameter in parameters.items()
    }


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _parameter(node: ast.stmt, lines: list[str], *, where: str) -> Parameter:
    place = f"{where}, parameters cell, line {node.lineno}"
    form = "write `name: type = literal  # meaning`"
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value):
        raise ParameterError(f"{place}: {form}, got {ast.unparse(node)!r}")
    kind = _TYPES.get(ast.unparse(node.annotation))
    if kind is None:
        raise ParameterError(f"{place}: type {ast.unparse(node.annotation)!r} is not one of {', '.join(_TYPES)}")
    try:
        default: Any = ast.literal_eval(node.value)
    except ValueError:
        raise ParameterError(f"{place}: {ast.unparse(node.value)!r} is not a literal; {form}") from None
    if type(default) is not kind and not (kind is float and type(default) is int):
        raise ParameterError(f"{place}: {node.target.id} is declared {kind.__name__}, but its value is {default!r}")
    rest = lines[(node.end_lineno or 1) - 1].encode()[node.end_col_offset :].decode()  # ast counts columns in bytes
    return Parameter(name=node.target.id, type=kind, default=kind(default), meaning=rest.partition("#")[2].strip())


def _value(text: str, parameter: Parameter, *, where: str) -> Value:
    try:
        if parameter.type is bool:
            return {"true": True, "false": False}[text.lower()]
        value = parameter.type(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError  # noqa: TRY301
    except (ValueError, KeyError):
        expected = {"int": "a whole number", "float": "a finite number", "bool": "true or false"}
        kind = parameter.type.__name__
        raise ParameterError(
            f"{where}: {parameter.name} is {text!r}, expected {expected[kind]} (its default is {parameter.default!r})"
        ) from None
    return value
