"""What people reach for when a few accounts are very heavy, each labelled with what it really estimates.

No two of these answer the same question. Which one is right is decided by the question, before the data are seen: a
method that was chosen because its answer pleased has an error rate that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from helpers.results import Estimate, NotEstimable, nothing
from helpers.robust import bootstrap, estimators, quantiles, ranks
from helpers.robust.accounts import Arms

NO_STORIES = "there are no amounts to invent launches with: a share has none, or hardly anybody in control has any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way to compare two arms: its name, what it estimates in words, and its answer."""

    name: str
    estimand: str
    estimate: Estimate | NotEstimable


def readings(
    arms: Arms,
    *,
    rng: np.random.Generator,
    cap: float = 0.99,
    trim: float = 0.2,
    offset: float = 1.0,
    replicates: int = 2_000,
    level: float = 0.95,
) -> list[Reading]:
    """Answer with every method that people reach for, and say in words what each one estimates.

    A share has no heavy accounts to reach for them: it is answered by the mean alone.

    Args:
        arms: the accounts.
        rng: for the permutation.
        cap: quantile of the accounts that have something, both arms together, at which amounts are capped.
        trim: share trimmed at each end.
        offset: added before logarithms are taken, in the metric's unit.
        replicates: deals of the permutation.
        level: confidence level.
    """
    limit, added = estimators.limit(arms, cap), f"{offset:,.4g}" + f" (in {arms.unit})" * bool(arms.unit)
    exponent = estimators.box_cox(arms, offset)
    power = arms.refusal() or (
        arms.unable("amounts below 0 have no power mean" if np.ptp(arms.pooled) else "all have the same amount")
        if exponent is None
        else estimators.power_mean(arms, exponent, offset, level=level)
    )
    answers: list[tuple[str, str, Estimate | NotEstimable]] = [
        ("mean", "what the average account gains, and so the whole service", estimators.mean(arms, level=level)),
        (
            f"mean, capped at the {100 * cap:.4g}% point of those that have any",
            estimators.limited(arms, limit),
            estimators.capped(arms, limit, level=level),
        ),
        (
            f"trimmed mean, {trim:.0%} at each end",
            f"the average of the middle {1 - 2 * trim:.0%} of each arm, whoever they are",
            estimators.trimmed(arms, trim, level=level),
        ),
        (
            "median",
            "the height of the middle of each distribution, not the change of a typical account",
            middle(arms, level=level),
        ),
        (
            "rank test (Brunner-Munzel)",
            "the chance that a treated account has more than a control account, beside one half",
            ranks.rank(arms, level=level),
        ),
        (
            "rank test (Mann-Whitney)",
            "the same chance; its p asks whether the two distributions are one",
            ranks.rank(arms, "mann-whitney", level=level),
        ),
        (
            "shift (Hodges-Lehmann)",
            "the amount added to everybody, if everybody got the same",
            ranks.shift(arms, level=level),
        ),
        (
            "permutation of the arms",
            "the mean again; its p asks whether any account's amount depends on its arm",
            ranks.permutation(arms, rng=rng, replicates=replicates, level=level),
        ),
        ("logarithm", "a common factor, among amounts that are all above 0", estimators.power_mean(arms, level=level)),
        (
            f"logarithm after adding {offset:,.4g}",
            f"a factor on amounts plus {added}; the offset is part of the question",
            estimators.power_mean(arms, offset=offset, level=level),
        ),
        (
            f"Box-Cox after adding {offset:,.4g}" + ("" if exponent is None else f", exponent {exponent:.3g}"),
            "a mean on a bent scale, turned back; the bend is found without seeing the arm",
            power,
        ),
    ]
    if arms.control_before.shape[1]:
        same = "the mean again; the past taken out by"
        answers[1:1] = [
            ("mean (ANCOVA)", f"{same} one slope within both arms", estimators.regression(arms, "common", level=level)),
            ("mean (Lin)", f"{same} a slope for each arm", estimators.regression(arms, "own", level=level)),
        ]
    told = answers[:1] if arms.shares else answers
    return [Reading(name=name, estimand=estimand, estimate=e) for name, estimand, e in told]


def middle(arms: Arms, *, level: float = 0.95) -> Estimate | NotEstimable:
    """Compare the medians of two arms, each account counting once."""
    if refusal := arms.refusal():
        return refusal
    (median,) = quantiles.difference(arms.control, arms.treatment, [0.5], metric=arms.metric, level=level)
    return _noted(median, arms.once)


def side_by_side(
    stories: Mapping[str, Arms], *, rng: np.random.Generator, replicates: int = 2_000, level: float = 0.95
) -> pd.DataFrame:
    """Answer several stories with every method: difference and p of each, and which of them it finds at the level.

    Without rows where there are no stories.
    """
    columns: dict[str, list[object]] = {}
    found: list[list[str]] = []
    for story, arms in stories.items():
        answers = readings(arms, rng=rng, replicates=replicates, level=level)
        columns["method"] = [r.name.partition(", exponent")[0] for r in answers]
        for key in ("diff", "p"):
            numbers = (getattr(r.estimate, key, np.nan) for r in answers)
            columns[f"{story}: {key}"] = [float(f"{x:.2g}") for x in numbers]
        found.append([story * (getattr(r.estimate, "p", 1.0) < 1 - level) for r in answers])
    finds = [" and ".join(filter(None, names)) or "neither" for names in zip(*found, strict=True)]
    return pd.DataFrame(columns | {"finds that": finds}) if stories else nothing(NO_STORIES)


def curve(arms: Arms, *, level: float = 0.95) -> pd.DataFrame:
    """Compare the arms along their quantiles; without rows where no effect may be read from them, and for shares."""
    none = np.empty(0)
    pair = (none, none) if arms.refusal() or arms.shares else (arms.control, arms.treatment)
    found = quantiles.curve(*pair, level=level)
    found.attrs["why"] = arms.why_not_amounts
    return found


def resampled(
    arms: Arms, statistics: Sequence[bootstrap.Statistic], *, rng: np.random.Generator, level: float = 0.95
) -> list[Estimate | NotEstimable]:
    """Compare statistics by the bootstrap, without what was known from before.

    A mean is weighted where the accounts have weights; the strata of the draw are not kept apart. Of a share there is
    nothing but the mean.
    """
    if refusal := arms.refusal():
        return [refusal] * len(statistics)
    found = []
    for s in statistics if not arms.shares else [bootstrap.MEAN]:
        rows, of, said = [arms.control, arms.treatment], s, arms.once
        if arms.weights and s is bootstrap.MEAN:
            rows = [np.column_stack([w * x, w]) for w, x in zip(arms.weights, rows, strict=True)]
            of, said = bootstrap.RATIO, "weighted to the population"
        e = bootstrap.difference(rows[0], rows[1], of, rng=rng, metric=arms.metric, level=level)
        found.append(_noted(e, said))
    return found


def _noted(e: Estimate | NotEstimable, said: str) -> Estimate | NotEstimable:
    """Add to what the reader of an estimate must know."""
    return replace(e, note="; ".join(filter(None, [e.note, said]))) if isinstance(e, Estimate) else e


def questions(answers: Sequence[Reading]) -> pd.DataFrame:
    """Lay out what each method estimates; without rows where there is one alone, as of a share."""
    columns = ["method", "what it estimates", "note"]
    return to_frame(answers)[columns] if len(answers) > 1 else nothing("of a share there is only the mean", columns)


def to_frame(answers: Sequence[Reading]) -> pd.DataFrame:
    """Lay readings out: method, what it estimates, its numbers, the relative effect in words, or why there are none."""
    rows = []
    for r in answers:
        e, row = r.estimate, {"method": r.name, "what it estimates": r.estimand}
        relative = [x for x in (getattr(e, key, None) for key in ("rel", "rel_low", "rel_high")) if x is not None]
        if isinstance(e, Estimate):
            keys = ("control", "treatment", "diff", "low", "high", "p", "rel", "mde")
            words = "{:+.1%} ({:+.1%} to {:+.1%})".format(*relative) if len(relative) == 3 else None
            rows.append(row | {key: getattr(e, key) for key in keys} | {"relative": words, "note": e.note})
        else:
            rows.append(row | {"note": f"not estimable: {e.reason}"})
    return pd.DataFrame(rows)
