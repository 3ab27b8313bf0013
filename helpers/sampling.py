"""Who gets it: an exact, repeatable draw of accounts, and how like the population the drawn accounts are.

Everything runs as Ibis expressions inside the engine; only counts by stratum leave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis
import numpy as np
import pandas as pd
from ibis import _

from helpers import schema
from helpers.errors import DataError, ParameterError, did_you_mean

BALANCE_LIMIT = 0.1  # a standardised difference above this is called imbalance (Austin 2009, Stat Med 28:3083)


def allocate(sizes: pd.Series, n: int) -> pd.Series:
    """Share `n` accounts among strata in proportion to their sizes, by largest remainder, so that the total is exact.

    Ties go to the larger stratum, then to the earlier label. No stratum is asked for more than it has.

    Args:
        sizes: accounts in each stratum, indexed by stratum.
        n: accounts wanted in all, from 0 to the population.

    Raises:
        ParameterError: `n` is negative or more than the population.

    >>> allocate(pd.Series({"a": 50, "b": 30, "c": 20}), 9).to_dict()
    {'a': 4, 'b': 3, 'c': 2}
    """
    population = int(sizes.sum())
    if not 0 <= n <= population:
        raise ParameterError(f"n is {n:,}, must be from 0 to the population of {population:,} accounts")
    exact = sizes.to_numpy() * n / max(population, 1)
    whole = np.floor(exact).astype(int)
    order = np.lexsort((np.arange(len(sizes)), -sizes.to_numpy(), -(exact - whole)))
    whole[order[: n - whole.sum()]] += 1
    return pd.Series(whole, index=sizes.index)


def draw(
    frame: ibis.Table, *, n: Mapping[str, int], strata: Sequence[str] = (), salt: str, account: str = "account"
) -> ibis.Table:
    """Draw disjoint arms from a population, stratified in proportion, the same accounts every time.

    Accounts are ranked within their stratum by SHA-256 of salt and account id. The draw therefore does not depend on
    row order, day or engine, and an account that is added to the frame moves at most the accounts at the cut.

    Args:
        frame: one row per eligible account.
        n: arm name to accounts wanted. Arms are served in this order: the first is allocated over the population, the
            next over what remains, which differs by at most one account per stratum.
        strata: attribute columns whose combinations are the strata; a missing value is a level of its own.
        salt: a text that belongs to this launch alone; another salt gives an independent draw.
        account: the id column.

    Returns:
        account, arm, stratum, inclusion_probability (arm's accounts over the stratum's accounts), one row per drawn
        account. The probability is that of being drawn into this arm, not that of taking part.

    Raises:
        DataError: a stratum column is missing, or an account stands in the frame twice.
        ParameterError: the arms ask for more accounts than there are, or the salt is no plain text.
    """
    for column in (account, *strata):
        if column not in frame.columns:
            raise DataError(f"the frame has no column {column!r}; {did_you_mean(column, frame.columns)}")
    if not salt.isprintable():
        raise ParameterError(f"the salt {salt!r} holds characters that cannot be printed; write plain text")
    label = (
        ibis.literal(" · ").join([frame[s].cast("string").fill_null(schema.UNKNOWN) for s in strata])
        if strata
        else ibis.literal("all")
    )
    keyed = frame.select(
        account=frame[account].cast("string"),
        stratum=label,
        key=(ibis.literal(f"{salt}:") + frame[account].cast("string")).hexdigest("sha256"),
    )
    counts = keyed.aggregate(by="stratum", size=_.count(), accounts=_.account.nunique()).order_by("stratum").execute()
    twice = int((counts["size"] - counts["accounts"]).sum())
    if twice:
        raise DataError(f"{twice:,} rows of the frame repeat an account; a draw needs one row per account")
    sizes = counts.set_index("stratum")["size"]
    if sum(n.values()) > sizes.sum():
        raise ParameterError(f"the arms ask for {sum(n.values()):,} accounts, the frame has {int(sizes.sum()):,}")
    cuts = _cuts(sizes, n)
    ranked = keyed.mutate(rank=ibis.row_number().over(group_by="stratum", order_by=["key", "account"]))
    drawn = ranked.join(ibis.memtable(cuts), "stratum")
    return drawn.filter((_["rank"] >= _["first"]) & (_["rank"] < _["last"])).select(
        "account", "arm", "stratum", "inclusion_probability"
    )


def _cuts(sizes: pd.Series, n: Mapping[str, int]) -> pd.DataFrame:
    """Give every arm its own range of ranks within each stratum."""
    taken, parts = pd.Series(0, index=sizes.index), []
    for arm, wanted in n.items():
        share = allocate(sizes - taken, wanted)
        parts.append(
            pd.DataFrame(
                {
                    "stratum": sizes.index,
                    "arm": arm,
                    "first": taken.to_numpy(),
                    "last": (taken + share).to_numpy(),
                    "inclusion_probability": (share / sizes).to_numpy(),
                }
            )
        )
        taken = taken + share
    return pd.concat(parts, ignore_index=True)


def balance(
    frame: ibis.Table, assigned: ibis.Table, attributes: Sequence[str], *, account: str = "account"
) -> pd.DataFrame:
    """Compare every arm with the population, level by level.

    Args:
        frame: one row per account of the population, with the attributes.
        assigned: account and arm of the drawn accounts.
        attributes: text, flag or number columns; numbers are compared by their mean, the others by level.
        account: the id column of both.

    Returns:
        attribute, level ("mean" for a number), arm, population, sample (shares or means) and std_diff, the difference
        over the pooled standard deviation (Austin 2009, eq. 1 and 2). A small one says that the arm looks like the
        population in this attribute, not in what was not measured.
    """
    if not attributes:
        text, number = pd.Series(dtype=str), pd.Series(dtype=float)
        return pd.DataFrame(
            {"attribute": text, "level": text, "arm": text, "population": number, "sample": number, "std_diff": number}
        )
    drawn = assigned.select(account, "arm")
    joined = frame.select(account, *attributes).left_join(drawn, account).select("arm", *attributes).cache()
    merged = pd.concat([_profile(joined, name) for name in attributes], ignore_index=True)
    spread = np.sqrt((merged["variance"] + merged["population_variance"]) / 2)
    gap = merged["sample"] - merged["population"]
    merged["std_diff"] = np.where(gap == 0, 0.0, gap / spread.where(spread > 0))
    return merged[["attribute", "level", "arm", "population", "sample", "std_diff"]]


def _profile(joined: ibis.Table, name: str) -> pd.DataFrame:
    """Put every arm's shares, or mean, of one attribute beside the population's; rows without an arm were not drawn."""
    column = joined[name]
    if column.type().is_numeric():
        asked = {"sample": column.mean(), "variance": column.var()}
        arms, everyone = joined.aggregate(by="arm", **asked).execute(), joined.aggregate(**asked).execute()
        table = arms.assign(level="mean", population=everyone["sample"][0], population_variance=everyone["variance"][0])
    else:
        level = column.cast("string").fill_null(schema.UNKNOWN)
        counts = joined.aggregate(by=["arm", level.name("level")], n=_.count()).execute()
        wide = counts.pivot_table(index="level", columns=counts["arm"].fillna(""), values="n", fill_value=0)
        shares, population = wide / wide.sum(), wide.sum(axis=1) / wide.to_numpy().sum()
        table = shares.reset_index().melt("level", var_name="arm", value_name="sample")
        table["variance"] = table["sample"] * (1 - table["sample"])
        table["population"] = table["level"].map(population)
        table["population_variance"] = table["population"] * (1 - table["population"])
    drawn = table[table["arm"].fillna("") != ""]
    return drawn.assign(attribute=name).sort_values(["level", "arm"])
