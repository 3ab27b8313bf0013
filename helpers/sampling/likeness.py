"""How like the population the drawn accounts are: attribute by attribute, and in all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers import moments, schema
from helpers.moments import Moments
from helpers.results import Check
from helpers.sampling.drawing import hold

BALANCE_LIMIT = 0.1  # a standardised difference above this is called imbalance (Austin 2009, Stat Med 28:3083)
RATIO_LIMITS = (0.5, 2.0)  # variance ratios outside are called imbalance (Rubin 2001, Health Serv Outcomes Res 2:169)
MEAN, MISSING = "mean", "missing"
_FEWEST = 5  # accounts expected in an arm, below which a level is no covariate of its own in the joint test
_WEIGHTED = {"w": _.w.sum(), "wx": (_.w * _.x).sum(), "wxx": (_.w * _.x * _.x).sum()}
_PLAIN = {"n": _.x.count(), "sum": _.x.sum(), "square": (_.x * _.x).sum()}


def balance(
    frame: ibis.Table, assigned: ibis.Table, attributes: Sequence[str], *, account: str = "account"
) -> pd.DataFrame:
    """Compare every arm with the population, level by level.

    Args:
        frame: one row per account of the population, with the attributes.
        assigned: account and arm of the drawn accounts; with `inclusion_probability`, arms are weighted by its inverse,
            so that an oversampled arm is compared as what it stands for.
        attributes: text, flag or number columns; numbers are compared by their mean and by how many are missing, the
            others by level.
        account: the id column of both.

    Returns:
        attribute, level ("mean" for a number), arm, population, sample (shares or means), std_diff, the difference
        over the pooled standard deviation (Austin 2009, eq. 1 and 2), and var_ratio, the arm's variance over the
        population's, of numbers. A small difference says that the arm looks like the population in this attribute,
        not in what was not measured.
    """
    weight = 1 / _.inclusion_probability if "inclusion_probability" in assigned.columns else ibis.literal(1.0)
    drawn = assigned.select(account, "arm", w=weight)
    joined = hold(frame.select(account, *attributes).left_join(drawn, account).select("arm", "w", *attributes))
    parts = [_profile(joined, name) for name in attributes]
    columns = ["attribute", "level", "arm", "population", "sample", "std_diff", "var_ratio"]
    if not parts:
        return pd.DataFrame({c: pd.Series(dtype=str if c in columns[:3] else float) for c in columns})
    merged = pd.concat(parts, ignore_index=True)
    spread = np.sqrt((merged["variance"] + merged["population_variance"]) / 2)
    gap = merged["sample"] - merged["population"]
    merged["std_diff"] = np.where(gap.abs() < 1e-12, 0.0, gap / spread.where(spread > 0))
    return merged.reindex(columns=columns)


def _profile(joined: ibis.Table, name: str) -> pd.DataFrame:
    """Put every arm's shares, or mean, of one attribute beside the population's; rows without an arm were not drawn."""
    column = joined[name]
    rows = joined.select("arm", "w", x=column)
    if column.type().is_numeric():
        number = _against(rows.filter(~_.x.isnull()).mutate(x=_.x.cast("float64")), MEAN)
        number["var_ratio"] = number["variance"] / number["population_variance"].replace(0.0, np.nan)
        absent = _against(rows.mutate(x=_.x.isnull().cast("float64")), MISSING)
        table = pd.concat([number, absent[absent["population"] > 0]])
    else:
        rows = rows.mutate(x=_.x.cast("string").fill_null(schema.UNKNOWN))
        sums = rows.aggregate(by=["arm", "x"], w=_.w.sum(), n=_.count()).execute()
        sums["arm"] = sums["arm"].fillna("")
        weight, count = (sums.pivot_table(index="x", columns="arm", values=v, fill_value=0) for v in ("w", "n"))
        shares, population = weight / weight.sum(), count.sum(axis=1) / count.to_numpy().sum()
        table = shares.rename_axis("level").reset_index().melt("level", var_name="arm", value_name="sample")
        table["population"] = table["level"].map(population)
        for one, variance in (("sample", "variance"), ("population", "population_variance")):
            table[variance] = table[one] * (1 - table[one])
        table = table[table["arm"] != ""]
    return table.assign(attribute=name).sort_values(["level", "arm"], key=lambda c: c.replace({MEAN: ""}))


def _against(rows: ibis.Table, level: str) -> pd.DataFrame:
    """Find weighted mean and variance of x in every arm, and its plain ones over all rows."""
    sums = rows.aggregate(by="arm", **_WEIGHTED, **_PLAIN).execute()
    n, total, square = sums[["n", "sum", "square"]].sum()
    mean = total / n if n else np.nan
    arms = sums.dropna(subset="arm")
    sample = arms["wx"] / arms["w"]
    spread = (arms["wxx"] / arms["w"] - sample**2).clip(lower=0) * arms["n"] / (arms["n"] - 1).where(arms["n"] > 1)
    whole = max(square / n - mean**2, 0) * n / (n - 1) if n > 1 else np.nan
    return pd.DataFrame(
        {
            "level": level,
            "arm": arms["arm"],
            "sample": sample,
            "variance": spread,
            "population": mean,
            "population_variance": whole,
        }
    )


def joint(
    frame: ibis.Table, assigned: ibis.Table, attributes: Sequence[str], *, strata: ibis.Table | None = None
) -> pd.DataFrame:
    """Test whether all attributes of an arm together lie as near the population's as a random draw leaves them.

    The omnibus test of Hansen and Bowers (2008, Statistical Science 23:219, eq. 8): the differences between the arm's
    and the population's means, weighted over strata, against the covariance that drawing without replacement within
    strata gives them. A level of which an arm expects fewer than five accounts is no covariate of its own.

    Args:
        frame: account and the attributes.
        assigned: account and arm.
        attributes: as in `balance`.
        strata: account and stratum of every account that could have been drawn, where the draw was stratified.

    Returns:
        arm, chi2, df, p. A large p does not show that an arm is alike in what was not measured; a small one shows that
        chance alone hardly made this arm, however small each difference is. Without rows where nothing varies.
    """
    if not attributes:
        return pd.DataFrame(columns=["arm", "chi2", "df", "p"])
    sizes = assigned.aggregate(by="arm", n=_.count()).execute().set_index("arm")["n"]
    rows = frame.left_join(assigned.select("account", arm_="arm"), "account")
    rows = rows.select("account", *attributes, arm=_.arm_.fill_null(""))
    rows = hold(rows.join(strata, "account") if strata is not None else rows.mutate(stratum=ibis.literal("all")))
    columns = _covariates(rows, attributes, int(sizes.min()))
    if not columns:
        return pd.DataFrame(columns=["arm", "chi2", "df", "p"])
    coded = rows.select("stratum", "arm", **columns)
    pairs = list(combinations_with_replacement(columns, 2))
    read = moments.from_table(coded, columns=list(columns), pairs=pairs, by=["stratum", "arm"])
    population = read.pool(by=["stratum"])
    arms = read.split("arm", list(sizes.index))
    tests = [{"arm": arm, **_omnibus(population, one)} for arm, one in zip(sizes.index, arms, strict=True)]
    return pd.DataFrame([t for t in tests if t["df"]], columns=["arm", "chi2", "df", "p"])


def _covariates(rows: ibis.Table, attributes: Sequence[str], fewest: int) -> dict[str, ibis.Value]:
    """Code attributes as numbers: levels as 0 and 1 without the most common one, numbers with a flag for missing."""
    coded: dict[str, ibis.Value] = {}
    total = int(rows.count().execute())

    def add(value: ibis.Value) -> None:
        coded[f"x{len(coded)}"] = value.cast("float64")

    for name in attributes:
        column = rows[name]
        if column.type().is_numeric():
            mean, known = rows.aggregate(mean=column.mean(), known=column.count()).execute().iloc[0]
            if known:
                add(column.cast("float64").fill_null(float(mean)))
            if (total - known) * fewest / total >= _FEWEST:
                add(column.isnull())
            continue
        level = column.cast("string").fill_null(schema.UNKNOWN)
        counts = rows.select(level=level).aggregate(by="level", n=_.count()).execute()
        counts = counts.sort_values(["n", "level"], ascending=[False, True])
        for one in counts.loc[counts["n"] * fewest / total >= _FEWEST, "level"].iloc[1:]:
            add(level == one)
    return coded


def _omnibus(population: Moments, arm: Moments) -> dict[str, float]:
    """Compare one arm's means with the population's, over strata that hold accounts of the arm."""
    n, size = arm.n, population.n
    used = n > 0
    share = (size / size[used].sum())[used]
    gap = share @ (arm.mean - population.mean)[used]
    spread = (population.scatter / np.maximum(size - 1, 1)[:, None, None])[used]
    left_to_chance = share**2 * (1 - n[used] / size[used]) / n[used]
    covariance = np.einsum("h,hij->ij", left_to_chance, spread)
    scale = np.sqrt(np.einsum("h,hii->i", size[used] / size[used].sum(), spread))
    error = np.sqrt(np.diag(covariance))
    free = error > 1e-9 * np.maximum(scale, 1e-300)  # what the strata fix does not vary
    if not free.any():
        return {"chi2": 0.0, "df": 0, "p": 1.0}
    z, correlation = gap[free] / error[free], covariance[np.ix_(free, free)] / np.outer(error[free], error[free])
    values, vectors = np.linalg.eigh(correlation)
    kept = values > 1e-8
    chi2 = float((((vectors.T @ z) ** 2)[kept] / values[kept]).sum())
    df = int(kept.sum())
    return {"chi2": chi2, "df": df, "p": float(stats.chi2.sf(chi2, df))}


def by_chance(
    tests: pd.DataFrame, *, name: str = "Drawn by chance", whole: str = "the population", alpha: float = 0.001
) -> Check:
    """Read the joint tests of all arms as one check: the smallest p times their number against `alpha`.

    However many attributes there are, a sound draw fails this in at most one launch in a thousand.
    """
    if tests.empty:
        return Check(name=name, passed=None, detail="No attribute varies, so nothing can be tested over all of them.")
    worst = tests.iloc[int(tests["p"].to_numpy().argmin())]
    p = min(1.0, float(worst["p"]) * len(tests))
    passed = p >= alpha
    lead = (
        f"Over all attributes together the arms differ from {whole} as chance lets them"
        if passed
        else f"Over all attributes together arm {worst['arm']} differs from {whole} by more than chance does"
    )
    detail = f"{lead}: chi-square {worst['chi2']:.1f} on {worst['df']:.0f} degrees of freedom in arm {worst['arm']}."
    return Check(name=name, passed=bool(passed), detail=detail, p=p)
