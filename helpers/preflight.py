"""Preflight: what validity asks about a study, counted by the engine from its assignments and logs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import reduce
from operator import or_
from typing import Any

import ibis
import numpy as np
import pandas as pd
from ibis import _

from helpers import assignment, sampling, schema, units, validity
from helpers.metrics import UNITS_TABLE
from helpers.moments import WEIGHT
from helpers.results import Check, figures
from helpers.study import Study
from helpers.units.query import STRATUM, anchor

ATTRIBUTES = ("device", "region", "country", "tenure", "age_band", "engagement")
IMPOSSIBLE = "Impossible accounts"
REMOVED = "Removed accounts"
RECENT_DAYS = 7  # whoever was seen this shortly before the launch is expected back
SHOWN = 5  # arms named in a sentence
SEEN = ["accounts", "regulars", "again", "rows"]
LOGS = {  # and what may lack values
    "app_opens": (),
    "sessions": ("device", "app_version"),
    "impressions": ("session",),
    "plays": ("profile",),
}


def checks(data: Study) -> tuple[Check, ...]:
    """Ask of accounts and logs what has to be so before an effect is read; the totals and the past are asked elsewhere.

    What was answered once is kept, as the units table is.

    Raises:
        DataError: the data lack a column that the launch names.
    """
    code = [sys.modules[__name__], validity, assignment, sampling]
    answers = units.told(data, "checks", lambda: [asdict(check) for check in _asked(data)], code=code)
    return (*(Check(**answer) for answer in answers), *begun(data))


def _asked(data: Study) -> tuple[Check, ...]:
    """Ask all of it."""
    seen, nulls = logged(data)
    control = data.launch.arms.control
    gone = validity.lost(seen, largest=_largest(data))  # of many clusters chance leaves no arm out either
    counted = (
        *filling(data),
        validity.srm_by(slices(data), planned=data.launch.sampling is not None),
        *(() if gone else (validity.returned(seen, control),)),
        validity.missing(nulls, control),
        *nobody(data),
        *removed(data),
        *excluded(data),
    )
    told = (*((gone,) if gone else ()), *treated(data), *strangers(data), *arms_alone(data))
    return (one_arm_each(data), *drawn_together(data), *strata_together(data), *_of_accounts(data, counted), *told)


def filling(data: Study) -> tuple[Check, ...]:
    """Ask of every day on which accounts came whether the arms fill as planned; nothing where that is not known."""
    counts, planned = arrivals(data), data.launch.sampling
    if planned is None or counts.empty:
        return ()
    accounts = max(int(counts.to_numpy().sum()), sum(planned.n.values()))
    return (validity.srm_so_far(counts, planned.n, accounts=accounts),)


def nobody(data: Study) -> tuple[Check, ...]:
    """Count by arm the accounts that were removed because nobody can have so much; nothing where no limit was set."""
    limits = data.launch.outliers.impossible_above if data.launch.outliers else {}
    if not limits:
        return ()
    what = " or ".join(f"{data.launch.titles[name]} above {figures(limit, 4)}" for name, limit in limits.items())
    if (gone := units.impossible(data)) is None:
        detail = f"Whether any account has the impossible ({what}) could not be asked: these data do not hold it."
        return (Check(name=IMPOSSIBLE, passed=None, detail=detail),)
    found, n = _by_arm(data, gone), _by_arm(data, data.assignments)
    return (validity.alike(IMPOSSIBLE, found, n, what=f"were removed as impossible ({what})"),)


def removed(data: Study) -> tuple[Check, ...]:
    """Count by arm the accounts that the launch removes by a flag, and those that stay in because it came too late.

    It is open where the data do not say when the flags were set: the launch may have made one.
    """
    if (found := units.flagged(data)) is None or data.launch.outliers is None:
        return ()
    rule, n = data.launch.outliers, _by_arm(data, data.assignments)
    what = ", ".join(map(sampling.describe, rule.remove))
    early, late = (_by_arm(data, found.filter(found.late == is_late)) for is_late in (False, True))
    check = validity.alike(REMOVED, early, n, what=f"were removed, as the launch says of {what}")
    if check.passed and rule.flagged_at is None and sum(early.values()):
        unknown = "When they were flagged is not in the data ('flagged_at'): the launch itself must not have led to it."
        check = replace(check, passed=None, detail=f"{check.detail} {unknown}")
    if not sum(late.values()):
        return (check,)
    since = validity.alike(
        "Flagged too late", late, n, what=f"were flagged ({what}) only since the assignment, and stay in"
    )
    return check, replace(since, passed=since.passed or None)


def treated(data: Study) -> tuple[Check, ...]:
    """Say of how many accounts in each arm a missing value of an own table was set to 0, or which were left out for it.

    Nothing where there are none. Whether they are as many in both arms asks `validity.missing`.
    """
    policy = data.launch.data.missing
    if UNITS_TABLE not in data.tables or policy == "refuse":
        return ()
    if not (lacks := _lacks(data)):
        return ()
    found = data.assignments.aggregate(
        by="arm", n=reduce(or_, lacks.values()).sum(), **{c: v.sum() for c, v in lacks.items()}
    )
    counts = found.execute().set_index("arm").reindex(list(data.launch.arms.names), fill_value=0)
    if not counts["n"].any():
        return ()
    n = _by_arm(data, data.assignments)
    arms = _listed(f"{lacking:,} of {n[str(arm)]:,} of {arm}" for arm, lacking in counts["n"].items())
    columns = ", ".join(c for c in lacks if counts[c].any())
    done = "were set to 0" if policy == "zero" else "are left out"
    lead = "Missing values" if policy == "zero" else "Accounts with a missing value"
    detail = f"{lead} ({columns}) {done}, as the launch says: {arms}."
    return (Check(name="Missing values treated", passed=True, detail=detail),)


def begun(data: Study) -> tuple[Check, ...]:
    """Say which logs begin later than the launch says; nothing of those that begin with it, which have no past."""
    read, days = {t for p in data.launch.plan for t in p.metric.tables}, data.launch.pre_days
    said = [
        f"Of table {name!r} only {before} of {days} days before the launch are there: what reads it is not adjusted."
        for name, (before, _after) in data.held.items()
        if name in read and 0 < before < days
    ]
    detail = " ".join([*([data.begun] if data.begun else []), *said])
    return (Check(name="Days before", passed=None, detail=detail),) if detail else ()


def arms_alone(data: Study) -> tuple[Check, ...]:
    """Say of a launch with several treatments that each is judged as if it were the only one; nothing of one."""
    k, error = len(data.launch.arms.treatment), data.launch.error() / 2
    if k < 2:
        return ()
    detail = (
        f"Each of {k} treatments is judged against {data.launch.arms.control} at the full error rate: if none of them "
        f"does anything, at least one looks like a gain in up to {k * error:.1%} of launches, where a single one would "
        f"in {error:.1%}. Name beforehand which one decides, or divide 'alpha' by {k}."
    )
    return (Check(name="Several treatments", passed=None, detail=detail),)


def strangers(data: Study) -> tuple[Check, ...]:
    """Say how many accounts are left out because their arm is none of the launch's, or missing; nothing of none.

    Those of later stages that the launch names are as planned; whether the others should be in an arm nobody knows.
    """
    names, later = data.launch.arms.names, data.launch.sampling.later if data.launch.sampling else {}
    counted = data.everyone.filter(~_.arm.isin(names).fill_null(False)).aggregate(by="arm", n=_.count()).execute()
    if counted.empty:
        return ()
    arms = _listed(
        f"{n:,} without an arm" if arm is None or arm != arm else f"{n:,} of {arm}"
        for arm, n in counted.sort_values("n", ascending=False).itertuples(index=False)
    )
    detail = f"Left out, because they are in no arm of this launch: {counted['n'].sum():,} accounts ({arms})."
    known = True if set(counted["arm"]) <= set(later) else None
    return (Check(name="Other arms", passed=known, detail=detail),)


def _listed(parts: Iterable[str]) -> str:
    """Put parts of a sentence in a row, the first few of many."""
    first = list(parts)
    more = f" and {len(first) - SHOWN} more arms" if len(first) > SHOWN else ""
    return ", ".join(first[:SHOWN]) + more


def excluded(data: Study) -> tuple[Check, ...]:
    """Count by arm the accounts that were assigned although the plan, or a flag of the contract, excludes them.

    They stay in, unless the launch removes them: what the plan excludes was to be left out by the draw. Nothing where
    there are none.
    """
    assigned = data.assignments
    taken = data.launch.outliers.remove if data.launch.outliers else ()
    frame = data.tables.get("accounts", assigned)
    rules = [
        rule
        for rule in assignment.exclusions(data.launch, frame)
        if (rule if isinstance(rule, str) else rule.column) in frame.columns and rule not in taken
    ]
    if not rules:
        return ()
    if (gone := units.flagged(data)) is not None:
        assigned = assigned.anti_join(gone.filter(~gone.late), "account")
    out = frame.anti_join(sampling.eligible(frame, rules), "account").select(account=_.account.cast("string"))
    found = _by_arm(data, assigned.select("arm", account=_.account.cast("string")).semi_join(out, "account"))
    if not sum(found.values()):
        return ()
    what = f"carry what excludes an account ({', '.join(map(sampling.describe, rules))}), and stay in"
    return (validity.alike("Excluded accounts", found, _by_arm(data, data.assignments), what=what),)


def _by_arm(data: Study, rows: ibis.Table) -> dict[str, int]:
    """Count rows by arm, control first."""
    counted = rows.aggregate(by="arm", n=_.count()).execute().set_index("arm")["n"]
    return {arm: int(counted.get(arm, 0)) for arm in data.launch.arms.names}


def one_arm_each(data: Study) -> Check:
    """Count accounts that stand in the assignments more than once, or in more than one arm."""
    assigned = data.assignments
    rows, accounts = assigned.aggregate(n=_.count(), accounts=_.account.nunique()).execute().iloc[0]
    switched = 0
    if rows != accounts:
        switched = assigned.aggregate(by="account", arms=_.arm.nunique()).filter(_.arms > 1).count().execute()
    return validity.one_arm_each(int(accounts), repeated=int(rows - accounts), switched=int(switched))


def drawn_together(data: Study) -> tuple[Check, ...]:
    """Ask whether each cluster is whole, in one arm; nothing is asked where the launch drew single accounts.

    Errors are then worked out over clusters. Where the data do not say which accounts were drawn together, they are
    over accounts: of regions far too small, so that no effect is read; of households as if each were alone, which is
    said.
    """
    name, unit = "Drawn together", data.launch.unit
    if unit is None or not unit.together:
        return ()
    what = f"The launch drew {unit.randomised}s"
    if units.CLUSTER not in units.design(data):
        detail = f"{what}, and no column {data.launch.cluster!r} says which accounts share one: errors over accounts"
        detail += " are too small. Name the column under 'unit: {cluster: …}'."
        return (Check(name=name, passed=None if unit.randomised == "household" else False, detail=detail),)
    drawn = units.drawn(data).aggregate(by=units.CLUSTER, arms=_.arm.nunique(), accounts=_.count())
    n, split, most = drawn.aggregate(n=_.count(), split=(_.arms > 1).sum(), most=_.accounts.max()).execute().iloc[0]
    if split:
        detail = f"{what}, but {split:,} of {n:,} have accounts in several arms: they were not drawn whole."
        return (Check(name=name, passed=False, detail=detail),)
    if most == 1:
        detail = f"{what}, and one account stands for each: errors over accounts are right."
        return (Check(name=name, passed=True, detail=detail),)
    detail = f"{what} ({n:,} of them), each whole in one arm: errors are worked out over them."
    if units.scarce(data, int(n)):
        detail += " So few can show large effects only; p and intervals are those of the wild cluster bootstrap."
    return (Check(name=name, passed=True, detail=detail),)


def strata_together(data: Study) -> tuple[Check, ...]:
    """Ask whether the clusters of each stratum are split like all; not where weights say how they were drawn."""
    design = units.design(data)
    if not {STRATUM, units.CLUSTER} <= set(design) or WEIGHT in design or data.launch.unit is None:
        return ()
    drawn = units.drawn(data).group_by(units.CLUSTER)
    drawn = drawn.aggregate(arm=_.arm.min(), level=_[STRATUM].min(), strata=_[STRATUM].nunique())
    if drawn.strata.max().execute() > 1:  # they were not drawn within strata
        return ()
    n = drawn.aggregate(by=["level", "arm"], n=_.count()).execute().pivot_table("n", "level", "arm", fill_value=0)
    whole, planned = n.sum() / n.to_numpy().sum(), data.launch.sampling is not None
    counts = n.melt(ignore_index=False, value_name="n").reset_index().astype({"n": int})
    counts["planned"] = counts["arm"].map(_planned(data) if planned else whole)
    of = f"{data.launch.unit.randomised}s"
    check = validity.srm_by(counts.assign(attribute="stratum"), planned=planned, of=of)
    return (replace(check, name="Strata drawn together"),)


def _largest(data: Study) -> int:
    """Count the accounts of the largest cluster; 1 where accounts were drawn by themselves."""
    if units.CLUSTER not in units.design(data):
        return 1
    return int(units.drawn(data).aggregate(by=units.CLUSTER, n=_.count()).n.max().execute() or 1)


def _of_accounts(data: Study, asked: Iterable[Check]) -> Iterator[Check]:
    """Hold nothing against a launch that drew clusters, where a question takes each account for drawn by itself.

    Such a question fails too often then: one that passes has passed all the same.
    """
    told = units.together(data, "this count")
    for check in asked:
        if told and check.passed is False:
            yield replace(check, passed=None, p=None, detail=f"{check.detail} Not held against the launch: {told}.")
        else:
            yield check


def slices(data: Study) -> pd.DataFrame:
    """Count the arms in every level of every attribute known before the launch, and on every day of assignment.

    The planned share is that of the launch, or where none was planned that of all accounts together. Where the design
    treats strata differently, the arms' inclusion probabilities say what was planned for each level. Strata without
    weights are such an attribute: estimates put their accounts together as they came, so that all must be split alike.

    Returns:
        attribute, level, arm, n, planned: a row for each combination; a missing attribute is a level of its own.
    """
    assigned, names = _described(data)
    design = _design(data)
    keys = [] if design is None else ["stratum"]
    widths = assigned.aggregate(**{name: assigned[name].nunique() for name in names}).execute().iloc[0] if names else {}
    whole = _planned(data)
    parts = []
    for name in (n for n in names if 1 < widths[n] <= units.MOST_LEVELS):
        counted = assigned.aggregate(by=[name, "arm", *keys], n=_.count()).execute().rename(columns={name: "level"})
        total = counted.groupby(["level", *keys])["n"].sum()
        cells = total.to_frame("total").reset_index().merge(whole.to_frame("share").reset_index(), how="cross")
        if design is not None:
            cells = cells.drop(columns="share").merge(design, on=["stratum", "arm"])
        expected = (cells["total"] * cells["share"]).groupby([cells["level"], cells["arm"]]).sum()
        n = counted.groupby(["level", "arm"])["n"].sum().reindex(expected.index, fill_value=0)
        part = pd.DataFrame({"n": n, "planned": expected / expected.groupby("level").transform("sum")})
        parts.append(part.reset_index().assign(attribute=name.replace("_", " ")))
    columns = ["attribute", "level", "arm", "n", "planned"]
    found = pd.concat(parts, ignore_index=True)[columns] if parts else _frame(columns[:3], columns[3:])
    order = {arm: i for i, arm in enumerate(data.launch.arms.names)}
    return found.sort_values(["attribute", "level", "arm"], key=lambda c: c.map(order) if c.name == "arm" else c)


def arrivals(data: Study) -> pd.DataFrame:
    """Count the accounts assigned on each day (UTC): a row for each day, a column for each arm, control first."""
    assigned = data.assignments
    if "assigned_at" not in assigned.columns:
        return pd.DataFrame(columns=list(data.launch.arms.names))
    counted = assigned.aggregate(by=["arm", assigned.assigned_at.date().name("day")], n=_.count()).execute()
    by_day = counted.pivot_table(index="day", columns="arm", values="n", fill_value=0).astype(int)
    return by_day[list(data.launch.arms.names)]


def logged(data: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count who was seen before and after the launch in each log, and which values are missing, by arm.

    Returns:
        log, arm, accounts, regulars, again, rows (per account); and column, arm, share, se (over accounts). Both are
        empty for a table with a row per account, except that columns are counted whose missing values are dropped or
        set to 0.
    """
    seen, nulls = [_frame(["log", "arm"], SEEN)], [_frame(["column", "arm"], ["share", "se"])]
    if UNITS_TABLE in data.tables:
        return seen[0], nulls[0] if data.launch.data.missing == "refuse" else _lacking(data)
    accounts = data.assignments.aggregate(by="arm", accounts=_.count()).execute().set_index("arm")["accounts"]
    for name in (log for log in LOGS if log in data.tables):
        read = _read_log(data, name).set_index("arm").reindex(accounts.index, fill_value=0).astype(float)
        counts = read.assign(log=name, accounts=accounts, rows=read["rows"] / accounts)
        seen.append(counts.reset_index()[["log", "arm", *SEEN]])
        for column in (c for c in LOGS[name] if f"{c}|nulls" in read):
            counted = (read[f"{column}|{what}"] for what in ("nulls", "squares", "products"))
            share = _share(read["rows"], read["squares"], *counted)
            nulls.append(share.assign(column=f"{column} of {name}").reset_index())
    return pd.concat(seen[1:] or seen, ignore_index=True), pd.concat(nulls[1:] or nulls, ignore_index=True)


def _frame(texts: list[str], numbers: list[str]) -> pd.DataFrame:
    """Make a table without rows."""
    return pd.DataFrame({c: pd.Series(dtype=str) for c in texts} | {c: pd.Series(dtype=float) for c in numbers})


def _described(data: Study) -> tuple[ibis.Table, list[str]]:
    """Open the assignments with what was known of each account beforehand, and name those columns."""
    assigned, wanted = _drawn(data), list(dict.fromkeys([*data.launch.segments, *ATTRIBUTES]))
    if UNITS_TABLE in data.tables:
        names = list(data.launch.segments)
    else:
        accounts = data.tables.get("accounts")
        names = [] if accounts is None else [n for n in wanted if n in accounts.columns]
        if accounts is not None and names:
            mine = accounts.select(*names, account=_.account.cast(assigned.account.type()))
            kept = assigned.drop(*(n for n in names if n in assigned.columns))
            assigned = kept.left_join(mine, "account").drop("account_right")
    if "stratum" in assigned.columns and "chance" not in assigned.columns:  # without weights, all are split alike
        names = list(dict.fromkeys([*names, "stratum"]))
    assigned = assigned.mutate(**{n: assigned[n].cast("string").fill_null(schema.UNKNOWN) for n in names})
    if "assigned_at" in assigned.columns:
        names, assigned = [*names, "day_assigned"], assigned.mutate(day_assigned=_.assigned_at.date().cast("string"))
    return assigned, names


def _planned(data: Study) -> pd.Series:
    """Give each arm's planned share of all accounts; its share as it is where nothing was planned."""
    if data.launch.sampling:
        parts = pd.Series(dict(data.launch.sampling.n), dtype=float)
    else:
        parts = data.assignments.aggregate(by="arm", n=_.count()).execute().set_index("arm")["n"].astype(float)
    return (parts / parts.sum()).rename_axis("arm")


def _drawn(data: Study) -> ibis.Table:
    """Open the assignments; as far as they tell how the accounts were drawn, with the columns stratum and chance."""
    assigned, own = data.assignments, data.launch.data
    if UNITS_TABLE in data.tables:
        if own.stratum is None:
            return assigned
        assigned = assigned.mutate(stratum=assigned[own.stratum].cast("string"))
        return assigned if own.weight is None else assigned.mutate(chance=1 / assigned[own.weight].cast("float64"))
    if not {"stratum", "inclusion_probability"} <= set(assigned.columns):
        return assigned
    return assigned.mutate(chance=_.inclusion_probability)


def _design(data: Study) -> pd.DataFrame | None:
    """Read the planned share of each arm in each stratum; None where assignments do not say, or contradict the plan."""
    assigned = _drawn(data)
    if not {"stratum", "chance"} <= set(assigned.columns):
        return None
    found = assigned.aggregate(by=["stratum", "arm"], n=_.count(), chance=_.chance.mean()).execute()
    chance = found.pivot_table(index="stratum", columns="arm", values="chance")
    if chance.empty or chance.isna().to_numpy().any() or found["stratum"].isna().any():
        return None
    share = chance.div(chance.sum(axis=1), axis=0)
    whole = share.mul(found.groupby("stratum")["n"].sum(), axis=0).sum() / found["n"].sum()
    if not np.allclose(whole, _planned(data).reindex(whole.index), rtol=0.02):
        return None
    return share.reset_index().melt(id_vars="stratum", var_name="arm", value_name="share")


def _read_log(data: Study, name: str) -> pd.DataFrame:
    """Aggregate one log to a row per arm: who was seen when, rows, and sums of products of rows and missing values."""
    time, columns = schema.table(name).time, [c for c in LOGS[name] if c in data.table(name).columns]
    assigned = data.assignments.select("account", "arm", since=anchor(data))
    log = data.table(name).select(*columns, at=_[time], account=_.account.cast(assigned.account.type()))
    near = log.join(assigned, "account").filter(
        _["at"] >= _.since - ibis.interval(days=RECENT_DAYS), _["at"] < _.since + ibis.interval(days=data.launch.days)
    )
    after = near["at"] >= near.since
    per_account = near.aggregate(
        by=["account", "arm"],
        before=(~after).any(),
        rows=after.sum(),
        **{column: (after & near[column].isnull()).sum() for column in columns},
    )
    return per_account.aggregate(
        by="arm",
        regulars=_.before.sum(),
        again=(_.before & (_["rows"] > 0)).sum(),
        rows=_["rows"].sum(),
        squares=(_["rows"] * _["rows"]).sum(),
        **{f"{c}|nulls": per_account[c].sum() for c in columns},
        **{f"{c}|squares": (per_account[c] * per_account[c]).sum() for c in columns},
        **{f"{c}|products": (per_account[c] * per_account["rows"]).sum() for c in columns},
    ).execute()


def _share(rows: pd.Series, squares: pd.Series, nulls: pd.Series, null_squares: pd.Series, products: pd.Series) -> Any:
    """Give the share of rows without a value, and its standard error over accounts (the delta method)."""
    share = nulls / rows
    scatter = null_squares - 2 * share * products + share**2 * squares
    return pd.DataFrame({"share": share, "se": np.sqrt(scatter.clip(lower=0)) / rows})


def _lacks(data: Study) -> dict[str, Any]:
    """Say of each own column that the measurable metrics read, by its name, whether an account has no number there."""
    columns = {
        str(m.column)
        for p in units.measurable(data)
        for m in (*p.metric.measures, *units.covariates(data, p.metric))
        if m.table == UNITS_TABLE
    }
    numbers = {c: data.assignments[c].cast("float64") for c in sorted(columns)}
    return {c: (n.isnull() | n.isnan() | n.isinf()).fill_null(True) for c, n in numbers.items()}


def _lacking(data: Study) -> pd.DataFrame:
    """Count the missing values of own columns, before accounts are dropped for them or they are set to 0."""
    lacks = _lacks(data)
    shares = {f"share {i}": lack.mean() for i, lack in enumerate(lacks.values())}  # columns may have any name
    found = data.assignments.aggregate(by="arm", accounts=_.count(), **shares).execute()
    each = [found[["arm", "accounts"]].assign(column=c, share=found[i]) for c, i in zip(lacks, shares, strict=True)]
    long = pd.concat(each, ignore_index=True)
    return long.assign(se=np.sqrt(long["share"] * (1 - long["share"]) / long["accounts"])).drop(columns="accounts")
