"""May the effects be read at all? Questions about the data, asked before any effect is looked at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from helpers import anytime
from helpers.errors import ParameterError
from helpers.results import Check, Estimate, NotEstimable, counted, figures

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

ALPHA = 0.001  # of each check, whatever it looks at: small, because a failure stops the reading of the launch
LOST = "an arm has lost logs, or people, and what is left of it cannot be compared"
TOLERATED = 0.01  # what a launch itself may do to who is seen and what is logged; beyond it logs are suspected
RETURNS = 0.9  # the share of regular accounts that must come back for their absence to mean anything


def srm(counts: Mapping[str, int], expected: Mapping[str, float] | None, alpha: float = ALPHA) -> Check:
    """Ask whether the arms hold as many accounts as planned (sample ratio mismatch), by Pearson's chi-square.

    A pass does not prove that the assignment was sound: losses of equal size in both arms go unseen.

    Args:
        counts: observed accounts of each arm.
        expected: planned shares or numbers of the same arms, above 0; None where no split was planned.
        alpha: how rarely a sound assignment may fail.

    Raises:
        ParameterError: the arms differ between the two, a count is negative, or a planned share is not above 0.

    >>> srm({"control": 600, "early": 400}, {"control": 1, "early": 1}).passed
    False
    """
    name = "Arm counts"
    if expected is None:
        return Check(name=name, passed=None, detail="No split was planned, so the arm counts could not be checked.")
    if counts.keys() != expected.keys():
        raise ParameterError(f"the arms counted are {', '.join(counts)}, but those planned are {', '.join(expected)}")
    if any(n < 0 for n in counts.values()) or not all(share > 0 for share in expected.values()):
        raise ParameterError(
            f"counts must be 0 or more and planned shares above 0, got {dict(counts)} and {dict(expected)}"
        )
    n, planned = sum(counts.values()), sum(expected.values())
    if len(counts) < 2 or n == 0:
        return Check(name=name, passed=None, detail="Arm counts need at least two arms and one account.")

    p = float(stats.chisquare(list(counts.values()), [n * expected[arm] / planned for arm in counts]).pvalue)
    split = ", ".join(
        f"{arm} {observed:,} ({observed / n:.2%}, planned {expected[arm] / planned:.2%})"
        for arm, observed in counts.items()
    )
    if p >= alpha:
        return Check(name=name, passed=True, detail=f"The arms are as large as planned, within chance: {split}.", p=p)
    detail = (
        f"The arms are not as large as planned: {split}. Chance alone does this in fewer than {alpha:.1%} of launches: "
        "accounts were lost, added or moved, hardly at random, so the effects cannot be trusted until it is known why."
    )
    return Check(name=name, passed=False, detail=detail, p=p)


def srm_by(counts: pd.DataFrame, alpha: float = ALPHA, *, planned: bool = True, of: str = "accounts") -> Check:
    """Ask whether every slice of the accounts is split as planned, and name the one that is not.

    Each arm's count in a slice is held against a binomial draw (exact, two-sided); the smallest p times the number of
    such counts is compared with `alpha`. A loss that the total hides shows where it happened: three per cent of an arm
    are thirty of a group that is a tenth of it. Missing attributes are a level like any other.

    Args:
        counts: attribute, level, arm, n, and planned (the arm's planned share of the level), a row for each arm.
        alpha: how rarely a sound assignment may fail over all slices together.
        planned: whether the launch planned a split; without one, shares are those of all accounts together.
        of: what was counted, such as the households that were drawn.

    Raises:
        ParameterError: a planned share is not between 0 and 1, or a count is negative.
    """
    name = "Arm counts by slice"
    n, share = counts["n"].to_numpy(np.int64), counts["planned"].to_numpy(np.float64)
    if (n < 0).any() or not ((share > 0) & (share < 1)).all():
        raise ParameterError("counts by slice need n of 0 or more and planned shares between 0 and 1")
    total = counts.groupby(["attribute", "level"], sort=False)["n"].transform("sum").to_numpy()
    table = counts.assign(total=total, p=_binomial(n, total, share), residual=_residual(n, total, share))
    arms = list(dict.fromkeys(table["arm"]))
    asked = table[(table["total"] > 0) & table["arm"].isin(arms if len(arms) > 2 else arms[1:])]
    if asked.empty:
        return Check(name=name, passed=None, detail="There is no attribute by which the arm counts could be split.")
    worst = asked.iloc[int(asked["p"].argmin())]
    p = min(1.0, float(worst["p"]) * len(asked))
    slices, attributes = asked.groupby(["attribute", "level"]).ngroups, ", ".join(dict.fromkeys(asked["attribute"]))
    where, split = f"{worst['attribute']} {worst['level']}", "as planned" if planned else f"like all {of} together"
    due = "were planned" if planned else "would be its share"
    said = (
        f"{worst['arm']} holds {worst['n']:,} {of} where {worst['total'] * worst['planned']:,.0f} {due} "
        f"({worst['residual']:+.1f} standard errors)"
    )
    if p >= alpha:
        detail = f"In {slices} slices ({attributes}) the arms are split {split}, within chance. "
        detail += f"Farthest off is {where}: {said}."
        return Check(name=name, passed=True, detail=detail, p=p)
    same = (asked["attribute"] == worst["attribute"]) & (asked["arm"] == worst["arm"])
    rest = asked[same & (asked["level"] != worst["level"])]
    detail = f"The arms are not split {split} in {where}: {said}."
    if len(rest) and planned:
        n, total = np.array([rest["n"].sum()]), np.array([rest["total"].sum()])
        alone = _binomial(n, total, np.array([(rest["total"] * rest["planned"]).sum()]) / total)[0] >= alpha
        detail += f" The other levels of {worst['attribute']} together are "
        detail += f"as planned: the cause follows {worst['attribute']}." if alone else "not as planned either."
    return Check(name=name, passed=False, detail=detail, p=p)


def srm_so_far(counts: pd.DataFrame, expected: Mapping[str, float], *, accounts: int, alpha: float = ALPHA) -> Check:
    """Ask every day whether the arms fill as planned; whoever looks daily raises no more false alarms than once.

    Args:
        counts: a row for each day, a column for each arm: accounts that came on that day.
        expected: planned shares or numbers of the same arms, above 0.
        accounts: how many are to come in all: where the check is most alert.
        alpha: how rarely a sound assignment may fail, over all days together.

    Raises:
        ParameterError: the arms differ between the two, or a count or share is out of range.
    """
    name = "Arm counts day by day"
    if set(counts) != set(expected):
        raise ParameterError(f"the arms counted are {list(counts)}, but those planned are {list(expected)}")
    if not len(counts) or not counts.to_numpy().sum():
        return Check(name=name, passed=None, detail="Nobody has come yet, so the arm counts could not be checked.")
    arms = [str(arm) for arm in counts]
    p = anytime.split_p(counts.cumsum(), [expected[arm] for arm in arms], tuned_for=accounts, alpha=alpha)
    days = f"{len(counts)} day{'s' * (len(counts) > 1)}"
    if p[-1] >= alpha:
        detail = f"On {days} so far the arms have filled as planned, within chance, however often it was looked at."
        return Check(name=name, passed=True, detail=detail, p=float(p[-1]))
    first = int(np.argmax(p < alpha))
    came, planned = counts.iloc[: first + 1].sum().astype(int), sum(expected.values())
    split = ", ".join(
        f"{arm} {n:,} ({n / came.sum():.2%}, planned {expected[arm] / planned:.2%})"
        for arm, n in zip(arms, came, strict=True)
    )
    day = counts.index[first]
    since = f"{day:%Y-%m-%d}" if isinstance(day, dt.date) else day
    detail = f"Since {since} the arms are known not to fill as planned; by then {split}."
    return Check(name=name, passed=False, detail=detail, p=float(p[-1]))


def returned(seen: pd.DataFrame, control: str, alpha: float = ALPHA) -> Check:
    """Ask whether accounts seen shortly before the launch were seen again equally often, log by log.

    People who came last week come back, whatever a launch does; an arm in which fewer do has lost logs, or people.
    Only a difference beyond `TOLERATED` (relative to control) counts, because a launch may move a few. Logs that lose
    some rows of every account go unseen: the rows per account are told, but a launch may change those. A log that knows
    nobody of an arm from before, though so many of the others that chance does not leave it out, has lost this arm.

    Args:
        seen: log, arm, accounts (of the arm), regulars (those seen before), again (those of them seen after), rows (per
            account, after).
        control: the arm that the others are compared with.
        alpha: how rarely a sound launch may fail, over all logs and arms together.
    """
    name = "Seen again"
    if gone := lost(seen, alpha):
        return gone
    smooth = (seen["again"] + 1) / (seen["regulars"] + 2)  # keeps the error above 0 where nobody stayed away
    shares = seen.assign(share=seen["again"] / seen["regulars"], se=np.sqrt(smooth * (1 - smooth) / seen["regulars"]))
    pairs = _against(shares, control, by="log")
    asked = pairs[pairs["share_control"] >= RETURNS]
    if asked.empty:
        why = "too few of its accounts come back anyway" if len(pairs) else "no log reaches back before the launch"
        return Check(name=name, passed=None, detail=f"Whether an arm lost logs could not be asked: {why}.")
    worst, p = _farthest(asked, TOLERATED * asked["share_control"])
    detail = (
        f"Of the accounts seen in {worst['log']} before the launch, {worst['share']:.2%} of {worst['arm']} and "
        f"{worst['share_control']:.2%} of {control} were seen again, with {worst['rows']:.4g} and "
        f"{worst['rows_control']:.4g} rows an account"
    )
    if p >= alpha:
        gap, se = (asked["share"] - asked["share_control"]).abs(), np.hypot(asked["se"], asked["se_control"])
        most = float(((gap + stats.norm.isf(0.025 / len(asked)) * se) / asked["share_control"]).max())
        detail += f": no loss of accounts beyond {TOLERATED:.0%} is shown; up to {most:.1%} is not ruled out."
        return Check(name=name, passed=True, detail=detail, p=p)
    return Check(name=name, passed=False, detail=f"{detail}: {LOST}.", p=p)


def lost(seen: pd.DataFrame, alpha: float = ALPHA, *, largest: int = 1) -> Check | None:
    """Say which log knows nobody of an arm from before the launch, though chance does not leave it out; else nothing.

    Args:
        seen: as for `returned`.
        alpha: how rarely a sound launch may fail, over all logs and arms together.
        largest: accounts of the largest cluster: at least so many fewer were drawn by themselves as the log knows.
    """
    known, everyone = (seen.groupby("log")[c].transform("sum") for c in ("regulars", "accounts"))
    drawn = (known / largest).round()
    found = seen.assign(known=known, chance=(1 - seen["accounts"] / everyone) ** drawn * len(seen))
    found = found[(found["regulars"] == 0) & (found["chance"] < alpha)]
    if found.empty:
        return None
    worst = found.nsmallest(1, "chance").iloc[0]
    others = f"{worst['known']:,.0f} accounts of other arms and none of {worst['arm']}"
    detail = f"Before the launch {worst['log']} knows {others}: {LOST}."
    return Check(name="Seen again", passed=False, detail=detail, p=float(worst["chance"]))


def missing(nulls: pd.DataFrame, control: str, alpha: float = ALPHA) -> Check:
    """Ask whether values are missing equally often in all arms, column by column; errors are worked out over accounts.

    Only a difference beyond `TOLERATED` (as a share of rows) counts: a launch may move who uses which device.

    Args:
        nulls: column, arm, share (of rows without a value) and se (its standard error), a row for each.
        control: the arm that the others are compared with.
        alpha: how rarely a sound launch may fail, over all columns and arms together.
    """
    name = "Missing values"
    pairs = _against(nulls, control, by="column")
    if pairs.empty:
        return Check(name=name, passed=None, detail="Nothing to ask: no column of these data may lack values.")
    worst, p = _farthest(pairs, TOLERATED)
    said = f"{worst['column']}, {worst['share']:.2%} in {worst['arm']} and {worst['share_control']:.2%} in {control}"
    if p >= alpha:
        many = pairs["column"].nunique()
        columns = f"{counted(many, 'column')} that may lack values"
        none = not (pairs["share"].any() or pairs["share_control"].any())
        lack = f"{'lack' if many > 1 else 'lacks'} them about as often in all arms, at most {said}"
        detail = f"Of {columns} none does." if none else f"{columns.capitalize()} {lack}."
        return Check(name=name, passed=True, detail=detail, p=p)
    detail = f"Values are missing unequally: {said}. Whatever fills or drops them treats the arms differently."
    return Check(name=name, passed=False, detail=detail, p=p)


def one_arm_each(accounts: int, *, repeated: int, switched: int) -> Check:
    """Say whether every account stands once and in one arm; any that does not makes its comparison meaningless."""
    name = "One arm each"
    if not repeated and not switched:
        return Check(name=name, passed=True, detail=f"Each of {accounts:,} accounts stands once, in one arm.")
    detail = f"Of {accounts:,} accounts {switched:,} stand in more than one arm and {repeated:,} more than once."
    return Check(name=name, passed=False, detail=detail)


def alike(name: str, found: Mapping[str, int], n: Mapping[str, int], *, what: str, alpha: float = ALPHA) -> Check:
    """Ask whether accounts of a kind that a sound launch cannot make are as many in every arm, by Fisher's exact test.

    Each treatment is held against control; the smallest p times their number is compared with `alpha`. More of them in
    one arm means that the launch, or the assignment, made them: what removes or excludes them then removes an effect.

    Args:
        name: of the check.
        found: accounts of the kind in each arm, control first.
        n: all accounts of the same arms.
        what: what is true of them, in words that follow "12 of 3,000 accounts of control".
        alpha: how rarely a sound launch may fail.

    >>> alike("Bots", {"old": 1, "new": 9}, {"old": 900, "new": 900}, what="are bots").detail
    '1 of 900 accounts of old and 9 of 900 of new are bots: as many in each arm, within chance.'
    """
    control, *treatments = ((found[arm], n[arm] - found[arm]) for arm in found)
    p = min((float(stats.fisher_exact([control, t]).pvalue) for t in treatments), default=1.0)
    p, passed = min(1.0, p * len(treatments)), p * len(treatments) >= alpha
    first, *rest = (f"{found[arm]:,} of {n[arm]:,}" for arm in found)
    arms = list(found)
    others = " and ".join(f"{said} of {arm}" for said, arm in zip(rest, arms[1:], strict=True))
    detail = f"{first} accounts of {arms[0]} and {others} {what}: "
    detail += (
        "as many in each arm, within chance."
        if passed
        else "more in one arm than chance allows, so that the launch, or who was assigned, made them."
    )
    return Check(name=name, passed=passed, detail=detail, p=p)


def false_alarms(checks: Iterable[Check], alpha: float = ALPHA) -> str:
    """Say how often the checks together stop a sound launch: each with a p does so in at most `alpha` of launches."""
    n = sum(check.p is not None for check in checks)
    if n == 1:
        return f"One check leaves room for chance. It stops at most {alpha:.1%} of sound launches."
    return (
        f"{n} checks leave room for chance. Each stops at most {alpha:.1%} of sound launches, however many slices or "
        f"columns it looks at; all together at most {n * alpha:.1%}."
    )


def pre_period(estimates: Sequence[Estimate | NotEstimable], alpha: float = ALPHA) -> Check:
    """Ask whether the arms differed already before the launch, over all metrics at once.

    The smallest p times their number is compared with `alpha`: the first step of Holm (1979), which decides whether any
    metric differs. A pass does not show that the arms are alike, only that no large difference was there.

    Args:
        estimates: the launch's comparison, made in the window before assignment; what is not estimable is left out.
        alpha: how rarely a sound assignment may fail.
    """
    name = "Before the launch"
    asked = [e for e in estimates if isinstance(e, Estimate)]
    if not asked:
        return Check(name=name, passed=None, detail="No metric could be compared before the launch.")
    worst = min(asked, key=lambda e: e.p)
    p = min(1.0, worst.p * len(asked))
    where = "".join(f", {column} {label}" for column, label in worst.slice.items())
    if p >= alpha:
        detail = f"Before the launch the arms differed on none of {len(asked)} metrics by more than chance allows."
        if len(asked) == 1:
            only = f"{worst.metric}, the only one asked"
            detail = f"Before the launch the arms differed no more on {only}, than chance allows."
        return Check(name=name, passed=True, detail=detail, p=p)
    arms = f"{figures(worst.control, 4)} in control and {figures(worst.treatment, 4)} in treatment"
    detail = f"The arms differed before the launch: {worst.metric}{where} was {arms}. "
    detail += "What is read afterwards would mix this difference with the effect."
    return Check(name=name, passed=False, detail=detail, p=p)


def _binomial(n: Integers, total: Integers, share: Floats) -> Floats:
    """Give the two-sided p of counts under binomial draws: twice the smaller tail."""
    tails = np.minimum(stats.binom.cdf(n, total, share), stats.binom.sf(n - 1, total, share))
    return np.minimum(2 * tails, 1.0)


def _residual(n: Integers, total: Integers, share: Floats) -> Floats:
    return (n - total * share) / np.sqrt(np.maximum(total * share * (1 - share), 1e-12))


def _against(shares: pd.DataFrame, control: str, *, by: str) -> pd.DataFrame:
    """Put the control's numbers beside those of each other arm."""
    base = shares[shares["arm"] == control].drop(columns="arm")
    return shares[shares["arm"] != control].merge(base, on=by, suffixes=("", "_control")).dropna()


def _farthest(pairs: pd.DataFrame, tolerated: pd.Series | float) -> tuple[pd.Series, float]:
    """Find the pair of shares that differs most surely by more than is tolerated; its p times the number of pairs."""
    gap = np.asarray((pairs["share"] - pairs["share_control"]).abs() - tolerated)
    se = np.hypot(pairs["se"].to_numpy(), pairs["se_control"].to_numpy())
    z = np.divide(gap, se, out=np.where(gap > 0, np.inf, -np.inf), where=se > 0)
    return pairs.iloc[int(np.argmax(z))], min(1.0, float(stats.norm.sf(z.max())) * len(pairs))
