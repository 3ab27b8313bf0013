"""May the effects be read at all? Questions about the data, asked before any effect is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scipy import stats

from helpers.errors import ParameterError
from helpers.results import Check, Estimate, NotEstimable


def srm(counts: Mapping[str, int], expected: Mapping[str, float] | None, alpha: float = 0.001) -> Check:
    """Ask whether the arms hold as many accounts as planned (sample ratio mismatch), by Pearson's chi-square.

    A pass does not prove that the assignment was sound: losses of equal size in both arms go unseen.

    Args:
        counts: observed accounts of each arm.
        expected: planned shares or numbers of the same arms, above 0; None where no split was planned.
        alpha: how rarely a sound assignment may fail; small, because a failure stops the reading of the launch.

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


def pre_period(estimates: Sequence[Estimate | NotEstimable], alpha: float = 0.001) -> Check:
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
        return Check(name=name, passed=True, detail=detail, p=p)
    detail = (
        f"The arms differed before the launch: {worst.metric}{where} was {worst.control:.4g} in control and "
        f"{worst.treatment:.4g} in treatment. What is read afterwards would mix this difference with the effect."
    )
    return Check(name=name, passed=False, detail=detail, p=p)


def gate(checks: Iterable[Check]) -> bool:
    """Say whether effects may be read: no check failed. One that could not be asked does not close the gate."""
    return all(check.passed is not False for check in checks)
