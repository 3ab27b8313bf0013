"""A design tried many times over: is everybody's chance as stated, is the mean unbiased, do intervals cover?"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import stats

from helpers.sampling.drawing import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What many draws of one design came to.

    `exact`: every draw had every arm's total. `inside`: share of accounts that came as often as their probability says,
    within 1.96 standard deviations of a binomial count. `means` has a row per arm: bias, error (the standard deviation
    of the weighted means over the draws), stated (the standard error that a draw gives itself) and covered (the share
    of 95 % intervals that hold the population's mean).
    """

    exact: bool
    inside: float
    means: pd.DataFrame


def repeat(plan: Plan, outcome: ibis.Table, *, times: int, salt: str) -> Repeats:
    """Draw `times` over and compare with what the design promises.

    Args:
        plan: the draw; each account stands for itself (households are not looked at).
        outcome: account and y, for every account of the frame.
        times: draws; 2,000 tell a coverage to half a percentage point.
        salt: of the draws.
    """
    drawn = plan.redraw(times, salt=salt)
    counts = drawn.aggregate(by=["account", "arm", "inclusion_probability"], drawn=_.count()).execute()
    p = counts["inclusion_probability"]
    z = (counts["drawn"] - times * p) / np.sqrt(times * p * (1 - p)).where(p < 1)
    asked = ["nth", "arm", "stratum"]
    parts = drawn.join(outcome, "account").aggregate(by=asked, n=_.count(), mean=_.y.mean(), variance=_.y.var())
    rows = parts.execute().merge(plan.cuts[["arm", "stratum", "size"]], on=["arm", "stratum"])
    wanted = plan.cuts.groupby("arm")["n"].sum()
    totals = rows.groupby(["nth", "arm"])["n"].sum().unstack()  # noqa: PD010  (rows are unique)
    population, truth = plan.cuts.groupby("arm")["size"].sum().iloc[0], float(outcome.y.mean().execute())
    share = rows["size"] / population
    rows["mean"] *= share
    rows["variance"] *= share**2 * (1 - rows["n"] / rows["size"]) / rows["n"]
    draws = rows.groupby(["arm", "nth"])[["mean", "variance"]].sum()
    draws["covered"] = (draws["mean"] - truth).abs() <= stats.norm.isf(0.025) * np.sqrt(draws["variance"])
    by = draws.groupby("arm")
    means = pd.DataFrame(
        {
            "bias": by["mean"].mean() - truth,
            "error": by["mean"].std(),
            "stated": np.sqrt(by["variance"].mean()),
            "covered": by["covered"].mean(),
        }
    )
    return Repeats(
        exact=bool((totals == wanted).all(axis=None)),
        inside=float((z.abs() <= stats.norm.isf(0.025))[p < 1].mean()),
        means=means.reset_index(),
    )
