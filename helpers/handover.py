"""The hand-over: the draw as a file for those who switch the launch on, and the proof later that nobody changed it."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import ibis
import pandas as pd

from helpers import assignment, study
from helpers.errors import DataError, ParameterError, ReportError
from helpers.launch import Launch
from helpers.results import Check

KEY = "PREMIERE_KEY"  # the environment variable with the secret that pseudonyms are made with
COLUMNS = ("arm", "stratum", "inclusion_probability", "weight", "salt", "launch")
_SHORTEST = 16


def frame(launch: Launch, path: Path | None = None) -> ibis.Table:
    """Open the accounts that can be drawn: a file of their own, or the table `accounts` of the launch's data.

    Raises:
        DataError: there are none, or the file has no column of that name.
    """
    if path is None:
        tables = study.open(launch).tables
        if "accounts" not in tables:
            raise DataError(
                f"{launch.name}: the data have no table 'accounts' to draw from; name one with --frame FILE"
            )
        return tables["accounts"]
    name = launch.data.account
    table = study.read_file(study.connect_embedded(), path, as_text=(name,))
    if name not in table.columns:
        raise DataError(f"{path}: has no column {name!r}, which holds the accounts; 'data.account' names another")
    return table.rename(account=name) if name != "account" else table


def table(launch: Launch, accounts: ibis.Table, *, key: str | None) -> pd.DataFrame:
    """Draw the launch, its later stages too, as the rows of the file.

    Args:
        launch: says how.
        accounts: the frame.
        key: the secret of the pseudonyms; None writes the account ids themselves.

    Returns:
        pseudonym or account, arm, stratum, inclusion_probability, weight, salt, launch (its content hash), sorted by
        arm and id, so that the order says nothing.
    """
    salt = assignment.chosen_salt(launch, accounts)
    drawn = assignment.draw(launch, accounts, salt=salt, later=True).execute()
    name = "account" if key is None else "pseudonym"
    drawn[name] = drawn["account"] if key is None else [pseudonym(a, key) for a in drawn["account"]]
    drawn = drawn.assign(salt=salt, launch=launch.content_hash)
    return drawn[[name, *COLUMNS]].sort_values(["arm", name], ignore_index=True)


def pseudonym(account: str, key: str) -> str:
    """Turn an account id into a pseudonym: HMAC-SHA256 with a secret key.

    Who holds the key finds an account by working out the pseudonyms of all; who does not can neither find nor link it.
    The salt of the draw is no such key: it stands in the file, and with a list of ids would give every one away.

    >>> pseudonym("a1", "a key of sixteen")[:16]
    '01bcb8da1667dd11'
    """
    return hmac.new(key.encode(), account.encode(), hashlib.sha256).hexdigest()


def secret() -> str:
    """Read the key of the pseudonyms from the environment.

    Raises:
        ParameterError: it is not set, or too short to keep anything secret.
    """
    key = os.environ.get(KEY, "")
    if len(key) < _SHORTEST:
        raise ParameterError(
            f"the environment variable {KEY} {'has fewer than 16 characters' if key else 'is not set'}; it is the "
            "secret that pseudonyms are made with. Share it with the file's readers, or ask for --accounts to write ids"
        )
    return key


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write the file, CSV or Parquet, whole or not at all; one that is there is a record and stays.

    Raises:
        ReportError: the file is there, its folder is not, or it is of another kind.
    """
    if path.suffix not in study.SUFFIXES:
        raise ReportError(f"{path}: write .csv or .parquet")
    if path.exists():
        raise ReportError(f"{path}: is there already, and may be in use; name another file or move it away")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        if path.suffix == ".csv":
            rows.to_csv(unfinished, index=False)
        else:
            rows.to_parquet(unfinished, index=False)
        unfinished.replace(path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> pd.DataFrame:
    """Read such a file.

    Raises:
        DataError: it is not readable, or lacks a column.
    """
    rows = study.read_file(study.connect_embedded(), path, as_text=("account", "pseudonym", "arm", "salt", "launch"))
    ids = [c for c in ("account", "pseudonym") if c in rows.columns]
    missing = [c for c in COLUMNS if c not in rows.columns]
    if len(ids) != 1 or missing:
        lacks = missing[0] if missing else "account' or 'pseudonym"
        raise DataError(f"{path}: has no column '{lacks}'; expected a file that 'premiere draw' has written")
    frame: pd.DataFrame = rows.select(*ids, *COLUMNS).execute()
    return frame


def verify(launch: Launch, accounts: ibis.Table, file: pd.DataFrame) -> Check:
    """Draw again and compare with a file, account by account.

    The draw is the launch's as it is now. A launch that has changed in other ways since is said, and still passes.
    """
    name = "account" if "account" in file else "pseudonym"
    again = table(launch, accounts, key=None if name == "account" else secret())
    numbers = {c: pd.to_numeric(file[c], errors="coerce") for c in ("inclusion_probability", "weight")}
    file = file.assign(**{name: file[name].astype(str)}, **numbers)
    repeated = int(file[name].duplicated().sum())
    both = again.merge(file.drop_duplicates(name), on=name, how="outer", suffixes=("", "_file"), indicator="where")
    there = both["where"] == "both"
    moved = there & (both["arm"] != both["arm_file"])
    gap = (both["inclusion_probability"] - both["inclusion_probability_file"]).abs()
    other = there & ~moved & ((both["stratum"] != both["stratum_file"]) | ~(gap < 1e-9) | ~_inverse(both))
    faults = {
        "drawn but not in the file": int((both["where"] == "left_only").sum()),
        "in the file but not drawn": int((both["where"] == "right_only").sum()),
        "in another arm": int(moved.sum()),
        "with another stratum or weight": int(other.sum()),
        "in the file twice": repeated,
    }
    found = [f"{n:,} {what}" for what, n in faults.items() if n]
    hashes = sorted(set(file["launch"].dropna()) - {launch.content_hash})
    since = (
        f" The launch has changed since the file was written ({hashes[0]}, now {launch.content_hash})."
        if hashes
        else ""
    )
    if found:
        key = " Was it written with another PREMIERE_KEY?" if name == "pseudonym" and not there.any() else ""
        detail = f"The file is not the launch's draw; accounts: {', '.join(found)}.{key}{since}"
        return Check(name="The file is the draw", passed=False, detail=detail)
    detail = (
        f"The file holds the {len(again):,} accounts that the launch draws, in their arms, with their weights.{since}"
    )
    return Check(name="The file is the draw", passed=True, detail=detail)


def _inverse(both: pd.DataFrame) -> pd.Series[bool]:
    """Say where the file's weight is that of the draw."""
    return (both["weight"] - both["weight_file"]).abs() < 1e-6 * both["weight"]
