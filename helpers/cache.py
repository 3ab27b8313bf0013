"""The cache: what takes long is kept in files, each named by everything that it depends on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import platformdirs


def folder() -> Path:
    """Say where simulated services and what was read from data are kept: PREMIERE_CACHE, or the user's cache folder."""
    return Path(os.environ.get("PREMIERE_CACHE") or platformdirs.user_cache_dir("premiere"))


def key(*facts: object, code: Iterable[ModuleType] = ()) -> str:
    """Name something by facts, as they print, and by the source of the modules and packages that make it."""
    files = [Path(str(module.__file__)) for module in code]
    source = [p for file in files for p in (sorted(file.parent.glob("*.py")) if file.stem == "__init__" else [file])]
    return hashlib.sha256(repr(facts).encode() + b"".join(p.read_bytes() for p in source)).hexdigest()[:16]


def kept(path: Path, write: Callable[[Path], object]) -> Path:
    """Give a file of the cache; where it is not there yet, it is written beside its place and renamed into it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            write(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path
