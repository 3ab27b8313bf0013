"""Crashes: how often the app fails, per session and per account, on which device and in which version of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import inference, moments, units
from helpers.inference import limits
from helpers.metrics import Aggregation, Condition, Measure
from helpers.moments import WEIGHT
from helpers.results import Check, closed
from helpers.study import Study

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.moments import Moments

    Floats = npt.NDArray[np.float64]

TABLE, PLACES, MOST = "sessions", ("device", "app_version"), 12
COLUMNS = ["by", "where", "per", "n", "crashed", "control", "treatment", "change", "low", "high"]
_CRASHED = Condition(column="crashed", value=True)


def split(data: Study, *, treatment: str = "", checks: Iterable[Check] = ()) -> pd.DataFrame:
    """Compare crashes between the arms over all sessions, and by the device and the app version of a session.

    Two rows for each: sessions with a crash over sessions, and accounts that ever crashed there over all assigned
    accounts, which are the same people whatever they used. The device and the version of a session are chosen after the
    assignment, so that sessions in them are not: a difference says where to look, not what the launch did. Intervals
    are for one row alone, and rows of fewer accounts than the launch's privacy limit are left out. Shares are weighted
    as the launch's metrics are; n and crashed count what is in the data.

    Args:
        data: the study.
        treatment: the arm to judge; empty means the launch's first.
        checks: of the data; where one failed, nothing is compared.

    Returns:
        by, where, per, n and crashed (both arms), shares of control and treatment, change with its limits. Where the
        data lack what is asked, a row says so.
    """
    arms = (data.launch.arms.control, data.launch.judged(treatment))
    there = data.table(TABLE).columns if TABLE in data.tables else ()
    lacking = units.together(data, "a split of crashes")
    lacking = lacking or ("" if "crashed" in there else "the data have no column 'crashed' of table 'sessions'")
    if why := closed(checks) or f"not shown: {lacking}" * bool(lacking):
        return pd.DataFrame([{"by": "everything", "where": why}], columns=COLUMNS)
    places: list[tuple[str, str, tuple[Condition, ...] | None]] = [("everything", "all sessions", ())]
    for by in PLACES:
        known = _levels(data, by) if by in there else []
        places += [(by, level, (Condition(column=by, value=level),)) for level in known]
        places += [] if known else [(by, "not in the data", None)]
    wanted = {i: _cells(where) for i, (_, _, where) in enumerate(places) if where is not None}
    names = {i: [cell.name for cell in cells] for i, cells in wanted.items()}
    table = units.rows(data, [cell for cells in wanted.values() for cell in cells])
    weight = (WEIGHT,) * (WEIGHT in units.design(data))
    columns = sorted({n for one in names.values() for n in one} | set(weight))
    pairs = {(a, b) for one in names.values() for a in (*one, *weight) for b in (*one, *weight)}

    def read(*, weighted: bool) -> Sequence[Moments]:
        found = moments.from_table(table, columns=columns, pairs=pairs, by=["arm"], weighted=weighted)
        return found.split("arm", arms)

    counted = read(weighted=False)
    both = read(weighted=True) if weight else counted
    n, worth = np.array([a.n[0] for a in both]), np.array([inference.kish(a)[0] for a in both])
    level = 1 - data.launch.error("crash_rate")
    rows: list[dict[str, object]] = []
    for i, (by, where, asked) in enumerate(places):
        label: dict[str, object] = {"by": by, "where": where}
        if asked is None:
            rows.append(label)
            continue
        seen, ever, sessions, crashes = names[i]
        users, crashed_users, visits, crashed_visits = (float(n @ _of(counted, column)[0]) for column in names[i])
        each = _of(both, sessions)[0]  # sessions of an account
        if users < data.launch.privacy.k or not each.all():
            continue
        share, variance = _of(both, crashes, sessions)
        there = worth * _of(both, seen)[0]
        ends = difference(share, sessions=n * each, accounts=there, variance=variance, level=level)
        rows.append(label | _row("session", visits, crashed_visits, share, ends))
        share, variance = _of(both, ever, *weight)
        ends = difference(share, sessions=n, accounts=worth, variance=variance if weight else None, level=level)
        rows.append(label | _row("account", n.sum(), crashed_users, share, ends))
    return pd.DataFrame(rows, columns=COLUMNS)


def difference(
    share: Floats, *, sessions: Floats, accounts: Floats, variance: Floats | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Give the limits of treatment minus control for a rare share of sessions, which resemble each other in an account.

    Newcombe's hybrid score interval (1998, method 10) at the number of independent sessions that have the same error
    (Korn and Graubard 1998), at most as many as there are. An arm without a crash has no error to go by: there every
    account counts as one try, which holds however its sessions go together. The normal interval of a rate of 0.05 %
    would reach below 0 crashes, and where there are none, have no width.

    Args:
        share: (2,) of control and treatment.
        sessions: (2,) how many it is of.
        accounts: (2,) whose they are.
        variance: (2,) of the shares, over accounts; None where every session is its own account.
        level: of the interval.

    10,000 accounts without a crash in either arm:

    >>> none, n = np.zeros(2), np.full(2, 10_000.0)
    >>> tuple(round(1e4 * limit, 2) for limit in difference(none, sessions=n, accounts=n))
    (-3.84, 3.84)
    """
    worth = (
        sessions
        if variance is None
        else np.where(variance > 0, share * (1 - share) / np.where(variance > 0, variance, 1), accounts)
    )
    with np.errstate(invalid="ignore"):  # of a p that nobody reads
        _, below, above, _ = limits.score(share[:, None], np.minimum(worth, sessions)[:, None], 1.0, level)
    diff = float(share[1] - share[0])
    return diff - float(np.hypot(below[1, 0], above[0, 0])), diff + float(np.hypot(above[1, 0], below[0, 0]))


def _levels(data: Study, by: str) -> list[str]:
    """Name the levels of an attribute of sessions, the most used first, a dozen at most."""
    counted = data.table(TABLE).group_by(by).count().execute().dropna()
    return [str(level) for level in counted.sort_values(counted.columns[1], ascending=False)[by]][:MOST]


def _cells(where: tuple[Condition, ...]) -> list[units.Cell]:
    """Ask of each account: any session there, any with a crash, how many sessions, how many with a crash."""
    crashed = (*where, _CRASHED)
    asked: tuple[tuple[Aggregation, tuple[Condition, ...]], ...]
    asked = (("any", where), ("any", crashed), ("count", where), ("count", crashed))
    return [units.Cell(Measure(table=TABLE, agg=agg, where=rule), "post", None) for agg, rule in asked]


def _of(arms: Sequence[Moments], column: str, over: str | None = None) -> tuple[Floats, Floats]:
    """Give both arms' mean of a column, or its ratio to another, and the squared error of that."""
    form = inference.Form(numerator=column, denominator=over)
    read = [(a, *form.read(a)) for a in arms]
    variance = [float(w[0] @ np.nan_to_num(a.cov[0]) @ w[0] / a.n[0]) for a, _, w in read]  # NaN: of no account here
    return np.array([value[0] for _, value, _ in read]), np.array(variance)


def _row(per: str, n: float, crashed: float, share: Floats, ends: tuple[float, float]) -> dict[str, object]:
    """Lay out one comparison."""
    values = {"control": share[0], "treatment": share[1], "change": share[1] - share[0]}
    return {"per": per, "n": round(n), "crashed": round(crashed), **values, "low": ends[0], "high": ends[1]}
