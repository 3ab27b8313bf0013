"""The roster: which accounts take part, whether they are those that the launch draws, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import pandas as pd
from ibis import _

from helpers import assignment, sampling, units
from helpers.metrics import UNITS_TABLE
from helpers.results import Check
from helpers.study import Study

PAST = "past_weekly_hours"  # the frame's number that is closest to the outcome


def frame(data: Study) -> ibis.Table:
    """Open the population: all accounts that could have been drawn; on an own table, the accounts that are there."""
    return data.tables.get("accounts", data.everyone).mutate(account=_.account.cast("string"))


def assigned(data: Study) -> ibis.Table:
    """Open account and arm of the accounts in the launch's arms."""
    return data.assignments.select("arm", account=_.account.cast("string"))


def attributes(data: Study) -> list[str]:
    """List what arms and population can be compared in: strata, segments, and numbers from before the launch."""
    launch, there = data.launch, frame(data).columns
    before = [m.column for p in launch.plan for m in units.covariates(data, p.metric) if m.table == UNITS_TABLE]
    wanted = [*(launch.sampling.strata if launch.sampling else ()), *launch.segments, PAST, *before]
    return [str(a) for a in dict.fromkeys(wanted) if a in there]


def can_redraw(data: Study) -> bool:
    """Say whether the data hold the frame and the launch the numbers that a draw needs."""
    return data.launch.sampling is not None and "accounts" in data.tables


def verify(data: Study) -> Check:
    """Draw again from the frame and compare with the assignments, account by account."""
    name = "The draw repeats"
    if not can_redraw(data):
        detail = (
            "The data hold no population frame or the launch no 'sampling', so the draw cannot be repeated from them."
        )
        return Check(name=name, passed=None, detail=detail)
    again = assignment.draw(data.launch, frame(data)).select("account", redrawn="arm")
    both = assigned(data).outer_join(ibis.memtable(again.execute()), "account")
    differ = int(both.filter((_.arm != _.redrawn).fill_null(True)).count().execute())
    n = sum(data.launch.sampling.n.values()) if data.launch.sampling else 0
    if differ:
        detail = f"{differ:,} accounts are not in the arm that the launch's own draw gives them; ask who assigned them."
        return Check(name=name, passed=False, detail=detail)
    return Check(
        name=name, passed=True, detail=f"Drawing again from the frame gives the same {n:,} accounts in the same arms."
    )


def summary(data: Study) -> pd.DataFrame:
    """Count each arm's accounts and strata, and the range of the probabilities with which they were drawn."""
    rows = data.assignments
    asked = {"accounts": _.count()}
    if "stratum" in rows.columns:
        asked["strata"] = _.stratum.nunique()
    if "inclusion_probability" in rows.columns:
        asked |= {
            "lowest_probability": _.inclusion_probability.min(),
            "highest_probability": _.inclusion_probability.max(),
        }
    return rows.aggregate(by="arm", **asked).order_by("arm").execute()


def past(data: Study, *, points: int = 101) -> pd.DataFrame:
    """Describe what population and arms watched before, by quantiles; empty where the frame has no such number."""
    accounts = frame(data)
    if PAST not in accounts.columns:
        return pd.DataFrame(
            {"arm": pd.Series(dtype=str), "share": pd.Series(dtype=float), "value": pd.Series(dtype=float)}
        )
    population = accounts.select(arm=ibis.literal("population"), value=accounts[PAST].cast("float64"))
    drawn = assigned(data).join(accounts.select("account", PAST), "account")
    arms = drawn.select("arm", value=drawn[PAST].cast("float64"))
    return units.distribution(population.union(arms), "value", points=points)


def second_draw(data: Study, *, salt: str, attributes: Sequence[str]) -> pd.DataFrame:
    """Compare the launch's draw with one of another salt: accounts shared, and the largest imbalance of each."""
    if not can_redraw(data):
        return pd.DataFrame(columns=["draw", "accounts", "shared", "by chance", "largest difference"])
    accounts, own = frame(data), assigned(data)
    other = ibis.memtable(assignment.draw(data.launch, accounts, salt=salt).execute())
    shared = int(own.join(other, "account").count().execute())
    n, population = int(own.count().execute()), int(accounts.count().execute())
    rows = []
    for name, drawn in (("the launch's", own), (f"salt {salt!r}", other)):
        gap = sampling.balance(accounts, drawn, attributes)["std_diff"].abs().max()
        rows.append(
            {
                "draw": name,
                "accounts": int(drawn.count().execute()),
                "shared": shared,
                "by chance": n * n // population,
                "largest difference": gap,
            }
        )
    return pd.DataFrame(rows)


def likeness(data: Study, balance: pd.DataFrame) -> Check:
    """Say in one sentence whether every arm looks like the population, or the accounts at hand, in every attribute."""
    whole = "population" if "accounts" in data.tables else "accounts at hand, all arms together"
    name = f"Like the {whole.partition(',')[0]}"
    if balance.empty:
        return Check(
            name=name, passed=None, detail="The data hold no attributes, so nothing says whom these accounts stand for."
        )
    worst = balance.iloc[int(balance["std_diff"].abs().to_numpy().argmax())]
    level = "" if worst["level"] == "mean" else f" {worst['level']}"
    most = f"the largest difference is {abs(worst['std_diff']):.3f} ({worst['attribute']}{level}, arm {worst['arm']})"
    passed = bool(abs(worst["std_diff"]) <= sampling.BALANCE_LIMIT)
    lead = (
        f"In every measured attribute the arms look like the {whole}" if passed else f"The arms differ from the {whole}"
    )
    return Check(
        name=name, passed=passed, detail=f"{lead}: {most}, standardised, where {sampling.BALANCE_LIMIT} is the limit."
    )
