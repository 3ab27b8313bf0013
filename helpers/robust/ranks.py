"""Methods that compare order or labels instead of amounts: rank tests, the shift, the permutation of the arms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import optimize, stats

from helpers.errors import ParameterError, did_you_mean
from helpers.results import Estimate, NotEstimable, figures
from helpers.robust import bootstrap, values

if TYPE_CHECKING:
    import numpy.typing as npt

    from helpers.robust.accounts import Arms

    Floats = npt.NDArray[np.float64]

_ADDED = "assumes that the launch adds the same amount to everybody; relative to the control's median"
RankTest = Literal["brunner-munzel", "mann-whitney"]


def rank(
    arms: Arms, test: RankTest = "brunner-munzel", *, level: float = 0.95, power: float = 0.8
) -> Estimate | NotEstimable:
    """Estimate the chance that a treated account has more than a control account, ties counted half, against one half.

    Brunner and Munzel (2000) test that this chance is one half, whatever the two shapes; Mann and Whitney (1947) test
    that the two distributions are the same. Neither tests medians or means: medians can differ while the chance is one
    half, and the other way round. The interval is Brunner and Munzel's in both cases. `treatment` is the chance and
    `control` one half, what it would be if chance alone decided.

    Raises:
        ParameterError: the test is not one of the two.
    """
    values.check(level, power)
    if test not in get_args(RankTest):
        raise ParameterError(f"test is {test!r}; {did_you_mean(test, get_args(RankTest))}")
    if refusal := arms.refusal():
        return refusal
    n = np.array(arms.n)
    pooled = stats.rankdata(arms.pooled)
    ranks = pooled[: n[0]], pooled[n[0] :]
    chance = float((ranks[1].mean() - (n[1] + 1) / 2) / n[0])
    beside = [r - stats.rankdata(x) for r, x in zip(ranks, (arms.control, arms.treatment), strict=True)]
    share = np.array([b.var(ddof=1) for b in beside]) / n[::-1] ** 2 / n
    same = stats.mannwhitneyu(arms.treatment, arms.control, alternative="two-sided").pvalue
    if not share.sum() > 0:
        return arms.unable(f"no account of one arm lies among those of the other; Mann-Whitney p = {same:.3g}")
    se, df = float(np.sqrt(share.sum())), share.sum() ** 2 / (share**2 / (n - 1)).sum()
    q = float(stats.t.isf((1 - level) / 2, df))
    over = chance - 0.5
    name = "Brunner-Munzel" if test == "brunner-munzel" else "Mann-Whitney, with the interval of Brunner-Munzel"
    return Estimate(
        metric=arms.metric,
        control=0.5,
        treatment=chance,
        diff=over,
        se=se,
        low=max(over - q * se, -0.5),
        high=min(over + q * se, 0.5),
        rel=None,
        rel_low=None,
        rel_high=None,
        p=float(2 * stats.t.sf(abs(over) / se, df) if test == "brunner-munzel" else same),
        n_control=arms.n[0],
        n_treatment=arms.n[1],
        method=f"{name}: chance of a treated account to have more",
        mde=float(stats.norm.isf((1 - level) / 2) + stats.norm.ppf(power)) * se,
        level=level,
        note="; ".join(filter(None, ["a chance beside one half, not an amount", arms.once])),
    )


def shift(arms: Arms, *, level: float = 0.95, power: float = 0.8) -> Estimate | NotEstimable:
    """Estimate the one amount that, taken from every treated account, makes the arms alike (Hodges and Lehmann 1963).

    It is the median of all differences between a treated and a control account; its interval holds the shifts that
    Mann and Whitney's test, corrected for ties and continuity, does not refuse. Where so many pairs are tied that it
    refuses every shift but one, there is no interval and so no answer. It means something only if the launch
    adds the same amount to everybody, and a person who watched nothing shows that it does not. `control` is that arm's
    median, `treatment` the same plus the shift.
    """
    values.check(level, power)
    if refusal := arms.refusal():
        return refusal
    c, t = np.sort(arms.control), np.sort(arms.treatment)
    width = max(t[-1] - c[0], c[-1] - t[0])
    if not width > 0:
        return arms.unable("the values do not vary within either arm")

    def more(by: float, correct: float) -> tuple[float, float]:
        """Count pairs in which a treated account less the shift has more, from its expectation; and its error."""
        moved = t - by
        wins = (np.searchsorted(c, moved, "left") + np.searchsorted(c, moved, "right")).sum() / 2 - len(c) * len(t) / 2
        ties = np.unique(np.concatenate([c, moved]), return_counts=True)[1].astype(float)
        n = len(c) + len(t)
        sigma = np.sqrt(len(c) * len(t) / 12 * (n + 1 - (ties**3 - ties).sum() / (n * (n - 1))))
        return float(wins - correct * np.sign(wins)), float(sigma)

    q, near = float(stats.norm.isf((1 - level) / 2)), 4e-9 * width

    def root(z: float, correct: float) -> float:
        def off(by: float) -> float:
            wins, sigma = more(by, correct)
            return wins - z * sigma if sigma > 0 else -z if z else wins

        found = float(optimize.bisect(off, -width - 1e-9, width + 1e-9, xtol=near / 4))
        return 0.0 if abs(found) < near else found  # where the arms are tied at 0 the count jumps just there

    try:
        middle, low, high = root(0, 0), root(q, 0.5), root(-q, 0.5)
    except ValueError:
        return arms.unable("so few accounts do not bound the shift")
    if high - low < near:
        at = f"every shift but {figures(middle, 4)} is refused, so that it has no interval"
        return arms.unable(f"so many accounts have the same amount that {at}")
    wins, sigma = more(0.0, 0.5)
    start = float(np.median(c))
    se = (high - low) / (2 * q)
    rel = (middle / start, low / start, high / start) if start > 0 else (None, None, None)
    return Estimate(
        metric=arms.metric,
        control=start,
        treatment=start + middle,
        diff=middle,
        se=se,
        low=low,
        high=high,
        rel=rel[0],
        rel_low=rel[1],
        rel_high=rel[2],
        p=float(min(1.0, 2 * stats.norm.sf(abs(wins) / sigma))) if sigma > 0 else 1.0,
        n_control=arms.n[0],
        n_treatment=arms.n[1],
        method="Hodges-Lehmann shift",
        mde=float(q + stats.norm.ppf(power)) * se,
        level=level,
        note="; ".join(filter(None, [_ADDED, arms.once])),
    )


def permutation(
    arms: Arms, *, rng: np.random.Generator, replicates: int = 2_000, level: float = 0.95, power: float = 0.8
) -> Estimate | NotEstimable:
    """Compare the means by dealing the labels of the arms anew, with Welch's t as the number that is compared.

    The p-value is exact for the sharp null: that no account's amount depends on its arm. Because the difference is
    divided by its error each time, it also holds in large samples for equal means alone (Janssen 1997; Chung and Romano
    2013). A small one therefore speaks against chance, and says nothing about whom or how many. Labels are dealt over
    distinct values or, where they are too many, blocks of neighbours (multivariate hypergeometric counts).

    Args:
        arms: the accounts; their past is not used.
        rng: the source of randomness.
        replicates: deals; p is never below 1 / (replicates + 1).
        level: confidence level of the interval, which the dealt t values bound.
        power: with which `mde` would be found.
    """
    values.check(level, power)
    if refusal := arms.refusal():
        return refusal
    scale = float(np.abs(arms.pooled).max()) or 1.0
    pooled = arms.pooled / scale
    blocks = bootstrap.compress(np.column_stack([pooled, pooled**2]))
    n = np.array(arms.n)

    def t_of(sums: Floats, squares: Floats) -> tuple[Floats, Floats]:
        """Give the difference and its error from the sums (2, r) of both arms."""
        mean = sums / n[:, None]
        share = (squares / n[:, None] - mean**2) / (n[:, None] - 1)
        return mean[1] - mean[0], np.sqrt(np.maximum(share, 0).sum(axis=0))

    own = [np.array([[(x / scale).sum()], [((x / scale) ** 2).sum()]]) for x in (arms.control, arms.treatment)]
    diff, se = t_of(*np.array(own).swapaxes(0, 1))
    if not se[0] > 0:
        return arms.unable("the values do not vary within either arm")
    counts = rng.multivariate_hypergeometric(blocks.count, n[1], size=replicates, method="marginals")
    dealt = counts @ blocks.value
    total = blocks.count @ blocks.value
    sums, squares = (np.array([total[i] - dealt[:, i], dealt[:, i]]) for i in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(np.divide(*t_of(sums, squares)))
    t = np.where(np.isnan(t), 0, t)
    p = float((1 + (t >= abs(diff[0]) / se[0] - 1e-9).sum()) / (replicates + 1))
    q = float(np.quantile(t, level))
    each = np.array([x.std(ddof=1) / np.sqrt(len(x)) for x in (arms.control, arms.treatment)])
    value = np.array([arms.control.mean(), arms.treatment.mean()])
    return values.contrast(
        arms.metric,
        value,
        q * each,
        q * each,
        n=arms.n,
        p=p,
        q=q,
        method=f"permutation of the arms, Welch's t, {replicates:,} deals",
        level=level,
        power=power,
        note=arms.once,
    )
