"""Diversity of what an arm watches: inequality among items (Gini) and how many of them are reached, with intervals.

Both describe an arm as a whole, and no account has a value of its own. Chance is in which accounts were drawn, so the
accounts are shared out over groups by a salted hash, and each group in turn is left out: the delete-a-group jackknife
(Kott 2001, The delete-a-group jackknife; Shao and Tu 1995, The Jackknife and Bootstrap, ch. 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis
import numpy as np
import pandas as pd
from ibis import _
from scipy import special

from helpers import units
from helpers.errors import ParameterError
from helpers.metrics import Metric
from helpers.moments import WEIGHT
from helpers.results import Estimate, NotEstimable
from helpers.robust import values
from helpers.study import Study
from helpers.units import query

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

GROUPS = 100
LEAST = 30  # accounts in an arm
FULL = 0.99  # of a catalogue
SALT = "diversity"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arm:
    """One arm in groups of accounts: how many each holds, and what they add to each item.

    Attributes:
        sizes: (g,) accounts; where their weights are unequal, their share of the effective number (Kish 1965).
        items: (g, k) for Gini the amount (minutes), for coverage the accounts that reached the item, as in `sizes`.
        accounts: how many were assigned; without it, as many as `sizes` says.
    """

    sizes: Floats
    items: Floats
    accounts: int | None = None

    @property
    def worth(self) -> float:
        """Count the accounts, of unequal weight by their effective number."""
        return float(self.sizes.sum())

    @property
    def n(self) -> int:
        """Count the accounts that were assigned."""
        return round(self.worth) if self.accounts is None else self.accounts

    @property
    def total(self) -> Floats:
        """Add the groups up (k,)."""
        return np.asarray(self.items.sum(axis=0))

    def parts(self, m: float) -> Floats:
        """Add up, from each group on, as many groups in a row (in a circle) as hold m accounts, the last in part."""
        many = len(self.sizes) * m / self.worth
        whole = min(int(many), len(self.sizes) - 1)
        round_ = np.concatenate([self.items, self.items])
        summed = np.concatenate([np.zeros((1, round_.shape[1])), np.cumsum(round_, axis=0)])
        first = np.arange(len(self.sizes))
        found = summed[first + whole] - summed[first] + (many - whole) * round_[first + whole]
        return np.maximum(found, 0)

    @property
    def without(self) -> Floats:
        """Leave out each group in turn (g, k)."""
        return np.maximum(self.total - self.items, 0)  # not -1e-12, where all of an item is one group's


def gini(amounts: Floats, k: int | None = None) -> Floats:
    """Give the Gini coefficient of amounts along the last axis: half the relative mean absolute difference.

    0 where all items get the same, 1 - 1 / k where one of k gets everything. NaN where there is nothing at all. It says
    nothing about which items are on top.

    Args:
        amounts: (..., j) what each item has, 0 or more.
        k: the number of items, where those that have nothing are not all among them.

    >>> gini(np.array([[1.0, 1.0], [0.0, 2.0]]), k=4)
    array([0.5 , 0.75])
    """
    x, k = np.sort(amounts, axis=-1), k or amounts.shape[-1]
    rank = np.arange(k - x.shape[-1], k) + 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(x @ (2 * rank - k - 1) / (k * x.sum(axis=-1)))


def rarefied(reached: Floats, n: npt.ArrayLike, m: int) -> Floats:
    """Give the number of items that m of n accounts reach on average, over all ways of choosing them.

    The sum over items of 1 - C(n - f, m) / C(n, m), where f of n accounts reached the item (Hurlbert 1971, eq. 3, with
    accounts in the place of individuals: Colwell et al. 2012, eq. 17). At m = n it is the number reached.

    Args:
        reached: (..., k) accounts that reached each item, 0 to n.
        n: (...) accounts.
        m: accounts that are chosen, 1 to n.

    Raises:
        ParameterError: `m` is below 1 or above some n.

    >>> float(rarefied(np.array([1.0, 2.0]), 2, 1))  # either account reaches the second, one of them the first
    1.5
    """
    n = np.asarray(n, dtype=np.float64)
    if not 1 <= m <= n.min():
        raise ParameterError(f"m is {m}, must lie between 1 and the number of accounts, {n.min():.0f}")
    rest = n[..., None] - reached  # accounts that did not reach it
    log_ways = special.gammaln(rest + 1) - special.gammaln(np.maximum(rest - m, 0) + 1)
    log_all = special.gammaln(n + 1) - special.gammaln(n - m + 1)
    missed = np.where(rest >= m, np.exp(log_ways - log_all[..., None]), 0)
    return np.asarray((1 - missed).sum(axis=-1))


def inequality(
    control: Arm,
    treatment: Arm,
    *,
    catalogue: int,
    what: str = "items",
    metric: str = "gini",
    level: float = 0.95,
    power: float = 0.8,
) -> Estimate | NotEstimable:
    """Compare the Gini coefficients of two arms over the same items, those that have nothing included.

    Few accounts make items look less equal than many do, because chance is unequal too. So both coefficients are those
    of as many accounts as the smaller arm has: that of the larger is averaged over parts of that size. The interval is
    Welch's t over the pseudo-values of the groups.

    Args:
        control: its groups, each with the amount of every item.
        treatment: likewise, the items in the same order.
        catalogue: the number of items that could have something, k or more.
        what: what the items are, in words.
        metric: its name.
        level: confidence level.
        power: with which `mde` would be found.

    Raises:
        ParameterError: `level` or `power` is out of range, or the catalogue is smaller than what was reached.
    """
    if (few := _few(control, treatment, catalogue, metric, level, power)) is not None:
        return few
    arms, m = (control, treatment), min(control.worth, treatment.worth)
    parts, left = [gini(a.parts(m), catalogue) for a in arms], [gini(a.without, catalogue) for a in arms]
    for name, seen in zip(("control", "treatment"), zip(parts, left, strict=True), strict=True):
        if not np.isfinite(np.concatenate(seen)).all():
            reason = f"{name} has no amounts, or those of a few of its accounts alone"
            return NotEstimable(metric=metric, reason=reason, n_control=control.n, n_treatment=treatment.n)
    value = np.array([p.mean() for p in parts])
    method = f"Gini coefficient over {catalogue:,} {what} of {m:,.0f} accounts"
    return _contrast(arms, value, left, metric=metric, method=method, level=level, power=power)


def reach(
    control: Arm,
    treatment: Arm,
    *,
    catalogue: int,
    what: str = "items",
    metric: str = "coverage",
    level: float = 0.95,
    power: float = 0.8,
) -> Estimate | NotEstimable:
    """Compare the share of a catalogue that equally many accounts of either arm reach.

    More accounts reach more items, so both arms are rarefied to m accounts: a quarter of the smaller arm. (With m = c n
    and x accounts expected to reach an item, the jackknife gives x c^2 / (1 - exp(-x c^2)) times the variance: nearly
    1 for the rare items that decide, but too much where c is near 1.)

    Arguments and errors are those of `inequality`, but that the items of the arms hold how many accounts reached them.
    """
    if (few := _few(control, treatment, catalogue, metric, level, power)) is not None:
        return few
    arms, m = (control, treatment), max(round(min(control.worth, treatment.worth)) // 4, 1)
    value = np.array([rarefied(a.total, a.worth, m) for a in arms]) / catalogue
    left = [rarefied(a.without, a.worth - a.sizes, m) / catalogue for a in arms]
    method = f"share of {catalogue:,} {what} that {m:,} accounts reach (rarefaction)"
    note = f"so many accounts reach nearly all {what}: what is left to tell apart is little" * bool(value.min() > FULL)
    return _contrast(arms, value, left, metric=metric, method=method, level=level, power=power, note=note)


def compare(data: Study, metric: Metric, *, treatment: str, level: float | None = None) -> Estimate | NotEstimable:
    """Compare a launch's metric of kind gini or coverage between treatment and control.

    One query reads amounts (or accounts) by arm, group and item. The items are those that stand in `titles`, and those
    that either arm reached; events without an item are left out. Groups keep the strata of the draw, and everything
    counts with the weights of the accounts. The interval is at the launch's level if none is given.

    Raises:
        DataError: the data break the contract.
    """
    launch, names = data.launch, (data.launch.arms.control, treatment)
    if apart := units.together(data, f"a {metric.kind}", few=True):
        return NotEstimable(metric=metric.name, reason=apart)
    groups = _groups(data, names)
    one = groups[WEIGHT]
    sizes = groups.aggregate(by=["arm", "group"], n=groups.count(), weight=one.sum(), square=(one**2).sum()).execute()
    events = query.items(data, metric)
    if metric.kind == "coverage":
        events = events.select("account", "item").distinct().mutate(amount=1.0)
    rows = events.join(groups, "account")
    rows = rows.aggregate(by=["arm", "group", "item"], total=(rows["amount"] * rows[WEIGHT]).sum()).execute()
    rows = rows[rows["total"] != 0]
    code, known = pd.factorize(rows["item"], sort=True)
    control, treated = (_arm(sizes[sizes["arm"] == n], rows, code, len(known), n) for n in names)
    if (rows["total"] < 0).any():
        reason = f"some {metric.over} has a negative amount"
        return NotEstimable(metric=metric.name, reason=reason, n_control=control.n, n_treatment=treated.n)
    catalogue, what = len({*known, *_catalogue(data, str(metric.over))}), f"{metric.over}s"
    level, power = level or 1 - launch.error(metric.name), launch.decision.power
    question = inequality if metric.kind == "gini" else reach
    return question(control, treated, catalogue=catalogue, what=what, metric=metric.name, level=level, power=power)


def _groups(data: Study, arms: tuple[str, str]) -> ibis.Table:
    """Share the accounts of each arm out over groups of equal size, across the strata of the draw; clusters whole."""
    accounts = units.drawn(data).filter(_.arm.isin(arms))
    whole = accounts[units.CLUSTER if units.CLUSTER in accounts.columns else "account"].cast("string")
    key = (ibis.literal(f"{SALT}:") + whole).hexdigest("sha256")
    strata = [c for c in (units.STRATUM,) if c in accounts.columns and units.CLUSTER not in accounts.columns]
    order = [*(accounts[c] for c in strata), key]
    weight = accounts[WEIGHT] if WEIGHT in accounts.columns else ibis.literal(1.0)
    nth = ibis.dense_rank().over(group_by="arm", order_by=order)
    return accounts.select("account", "arm", group=nth % GROUPS, **{WEIGHT: weight})


def _arm(sizes: pd.DataFrame, rows: pd.DataFrame, code: npt.NDArray[np.int64], k: int, name: str) -> Arm:
    """Lay one arm's rows out as groups by items, in effective accounts."""
    g, mine = len(sizes), (rows["arm"] == name).to_numpy()
    at = rows["group"].to_numpy(np.int64)[mine] * k + code[mine]
    items = np.bincount(at, rows["total"].to_numpy(np.float64)[mine], g * k).reshape(g, k)
    weight = sizes.sort_values("group")["weight"].to_numpy(np.float64)
    factor = weight.sum() / max(sizes["square"].sum(), 1e-300)
    return Arm(sizes=factor * weight, items=factor * items, accounts=int(sizes["n"].sum()))


def _catalogue(data: Study, over: str) -> list[object]:
    """List all items that there are, where a table says so."""
    if "titles" not in data.tables or over not in data.tables["titles"].columns:
        return []
    return list(data.tables["titles"].select(over).distinct().drop_null().execute()[over])


def _few(control: Arm, treatment: Arm, catalogue: int, metric: str, level: float, power: float) -> NotEstimable | None:
    values.check(level, power)
    if catalogue < (k := control.items.shape[1]):
        raise ParameterError(f"catalogue is {catalogue}, fewer than the {k} items that were reached")
    return values.too_few(metric, (control.n, treatment.n), LEAST)


def _contrast(
    arms: tuple[Arm, Arm],
    value: Floats,
    left: list[Floats],
    *,
    metric: str,
    method: str,
    level: float,
    power: float,
    note: str = "",
) -> Estimate | NotEstimable:
    """Contrast two values by Welch's t; `left` are those of each arm without each of its groups."""
    n, groups = (arms[0].n, arms[1].n), np.array([len(x) for x in left], dtype=np.float64)
    error = np.array([(len(x) - 1) ** 2 * x.var(ddof=1) for x in left]) / groups  # of the mean pseudo-value
    if not error.sum() > 0:
        reason = "it is the same whichever accounts are left out, so its error cannot be told"
        return NotEstimable(metric=metric, reason=reason, n_control=n[0], n_treatment=n[1])
    method += f", jackknife over {groups.min():.0f} groups of accounts in each arm"
    if any(a.worth < 0.995 * a.n for a in arms):
        method += ", weighted to the population"
    return values.welch(metric, value, error, groups, n=n, method=method, level=level, power=power, note=note)
