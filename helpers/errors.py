"""What can go wrong at the edge, each told in one sentence: what, where, what was expected, what to do."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable


class PremiereError(Exception):
    """Anything a user can mend; the command line prints it as one sentence and exits with 2."""


class LaunchError(PremiereError, ValueError):
    """The launch file asks for something that cannot be asked."""


class DataError(PremiereError, ValueError):
    """The data are not what the launch or the event contract says."""


class ParameterError(PremiereError, ValueError):
    """A parameter or argument has the wrong name, type or range."""


class ReportError(PremiereError, RuntimeError):
    """A report cannot be written where or how it was asked for."""


def hush() -> None:
    """Write to nowhere from here on, because whoever read the output, such as `head -1`, has read enough."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Name the nearest valid name, or list them all when none is near.

    >>> did_you_mean("sede", ["seed", "days"])
    "did you mean 'seed'?"
    >>> did_you_mean("x", ["seed", "days"])
    'valid: days, seed'
    """
    names = sorted(str(v) for v in valid)
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(names) or 'none'}"
