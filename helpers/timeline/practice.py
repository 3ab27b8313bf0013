"""Small simulations of their own, for what a launch's data do not hold; their truth is what the caller plants.

Those that a chapter shows take the launch's own course first: where it could not be measured, the chapter's question is
not asked, and nothing is simulated. Their intervals are at the level of that course.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.inference.regression import regress
from helpers.results import NotEstimable, nothing
from helpers.timeline import clusters, did, factorial, geo
from helpers.timeline.course import Course

if TYPE_CHECKING:
    import numpy.typing as npt


def four_groups(rng: np.random.Generator, *, n: int, show: float, marketing: float, interaction: float) -> pd.DataFrame:
    """Draw a factorial experiment: both factors by chance, each for half of the accounts, hours as skewed as real ones.

    `show` and `marketing` are the effects of one without the other, in hours, `interaction` what both together add.
    """
    with_show, with_ad = rng.random(n) < 0.5, rng.random(n) < 0.5
    hours = rng.gamma(1.1, 10.8 / 1.1, n)  # mean 10.8 hours a week, coefficient of variation 0.95
    hours += show * with_show + marketing * with_ad + interaction * (with_show & with_ad)
    return pd.DataFrame({"show": with_show, "marketing": with_ad, "hours": hours})


def impressions(rng: np.random.Generator, *, n: int, direct: float, by_impressions: float) -> pd.DataFrame:
    """Draw an experiment in which impressions follow the treatment, and keen accounts both see and watch more.

    The treatment adds `direct` hours, and two impressions that add `by_impressions` hours together: its effect is the
    sum of both. `spend` is the region's, set before and at random: it may be adjusted for.
    """
    region = rng.integers(0, 8, n)
    spend = rng.gamma(4.0, 0.5, 8)[region]
    treated, keen = rng.random(n) < 0.5, rng.standard_normal(n)
    seen = rng.poisson(np.exp(0.9 + 0.5 * keen)) + rng.binomial(4, 0.5, n) * treated
    hours = 10 + 2 * keen + 0.8 * spend + direct * treated + 0.5 * by_impressions * seen + rng.gamma(2.0, 2.0, n)
    return pd.DataFrame(
        {"region": region, "spend": spend, "treated": treated.astype(float), "impressions": seen, "hours": hours}
    )


def signups(
    rng: np.random.Generator, *, lift: float, shock: float = 0.0, regions: int = 20, days: int = 84, start: int = 63
) -> pd.DataFrame:
    """Draw daily sign-ups by region: a campaign in the first from `start` on, and a shock to all on the same day.

    All share a wandering season and the week, each in its own strength; `lift` and `shock` are relative.
    """
    season = 0.02 * np.cumsum(rng.standard_normal((days, 2)), axis=0)
    week = np.array([0.95, 0.92, 0.92, 0.95, 1.05, 1.13, 1.08])[np.arange(days) % 7]
    size = rng.uniform(150, 600, regions)
    share = rng.dirichlet([2.0, 2.0], regions)
    expected = size * np.exp(season @ share.T) * week[:, None] * (1 + shock * (np.arange(days) >= start))[:, None]
    expected[start:, 0] *= 1 + lift
    return pd.DataFrame(rng.poisson(expected), columns=[f"region {nth + 1:02d}" for nth in range(regions)])


def season(rng: np.random.Generator, *, n: int, effect: float, busier: float, level: float = 0.95) -> Course:
    """Draw a launch at the beginning of a busy season: four weeks before and four after, `n` accounts in each arm.

    All weeks after are `busier` times as busy for everybody, beginning with the day of the launch; `effect` is what the
    launch adds, in hours a week. Accounts differ for good (coefficient of variation 0.7) and from week to week.
    """
    week = np.arange(-4, 4)
    expected = 10.0 * np.where(week >= 0, busier, 1.0) + np.array([0.0, effect])[:, None] * (week >= 0)
    own = rng.gamma(2.0, 0.5, (2, n, 1)) * rng.gamma(4.0, 0.25, (2, n, 8))
    hours = expected[:, None, :] * own
    return Course(
        metric="hours", unit="h/week", starts=tuple((7 * week).tolist()), step_days=7, mean=hours.mean(axis=1),
        cov=np.array([np.cov(arm.T) / n for arm in hours]), n=(n, n), method="simulated", level=level,
    )  # fmt: skip


def false_alarms(
    asked: Course | NotEstimable, rng: np.random.Generator, *, regions: int, accounts: int = 100, runs: int = 200
) -> pd.DataFrame:
    """Count how often a campaign that does nothing, given to every second region, is called an effect.

    Three errors of one regression: as if accounts were independent, clustered by region, by the wild bootstrap.

    Returns:
        A row for each: errors, alpha (how often it may be), false alarms (a share of the runs), runs.
    """
    if isinstance(asked, NotEstimable):
        return nothing(asked.reason)
    region = np.repeat(np.arange(regions), accounts)
    campaign = {"campaign": (region % 2).astype(float)}

    def p_values() -> list[float]:
        hours = rng.standard_normal(regions)[region] + 3 * rng.standard_normal(len(region))
        naive = regress(hours, campaign)["p"].iloc[1]
        together = regress(hours, campaign, errors="cluster", clusters=region)["p"].iloc[1]
        return [naive, together, clusters.wild(hours, campaign, "campaign", region, rng=rng, draws=399, ends=False).p]

    p: npt.NDArray[np.float64] = np.array([p_values() for _ in range(runs)])
    alpha = 1 - asked.level
    rows = {"errors": ["accounts independent", "clustered by region", "wild cluster bootstrap"], "alpha": alpha}
    return pd.DataFrame(rows | {"false alarms": (p < alpha).mean(axis=0), "runs": runs})


def busy_season(
    asked: Course | NotEstimable, rng: np.random.Generator, *, effect: float, busier: float, n: int = 10_000
) -> pd.DataFrame:
    """Compare before with after, the arms, and both, where the season is known: a row for each, beside what is planted.

    Returns:
        effect, diff, low, high, mde, planted, covered.
    """
    if isinstance(asked, NotEstimable):
        return nothing(asked.reason)
    ways = did.three_ways(season(rng, n=n, effect=effect, busier=busier, level=asked.level))
    return factorial.differences([e for e in ways if not isinstance(e, NotEstimable)], [effect] * 3)


def two_by_two(
    asked: Course | NotEstimable,
    rng: np.random.Generator,
    *,
    show: float,
    marketing: float,
    interaction: float,
    n: int = 40_000,
) -> pd.DataFrame:
    """Estimate both main effects and the interaction of `four_groups`, beside what is planted.

    A main effect averages over the other factor, so that half of the interaction is in it.

    Returns:
        effect, diff, low, high, mde, planted, covered.
    """
    if isinstance(asked, NotEstimable):
        return nothing(asked.reason)
    rows = four_groups(rng, n=n, show=show, marketing=marketing, interaction=interaction)
    found = factorial.two_by_two(rows, factors=("show", "marketing"), outcome="hours", level=asked.level)
    return factorial.differences(found, [show + interaction / 2, marketing + interaction / 2, interaction])


def adjusted(
    asked: Course | NotEstimable, rng: np.random.Generator, *, direct: float, by_impressions: float, n: int = 40_000
) -> pd.DataFrame:
    """Estimate the effect of `impressions` alone, with what was spent before, and with what follows the treatment.

    Returns:
        model, value, se, low, high, p, planted.
    """
    if isinstance(asked, NotEstimable):
        return nothing(asked.reason)
    seen = impressions(rng, n=n, direct=direct, by_impressions=by_impressions)
    column = {name: seen[name].to_numpy(dtype=float) for name in seen.columns}
    known = {"treated": column["treated"]}
    models = {
        "treatment alone": known,
        "with spend": known | {"spend": column["spend"]},
        "with impressions": known | {"impressions": column["impressions"]},
    }
    found = clusters.in_models(column["hours"], models, "treated", level=asked.level)
    return found.assign(planted=direct + by_impressions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign in one region as a chapter shows it: the gap to its double, the two methods, and invented starts."""

    gap: pd.DataFrame
    words: str
    methods: pd.DataFrame
    tried: pd.DataFrame


def campaign(
    asked: Course | NotEstimable, rng: np.random.Generator, *, lift: float, shock: float, start: int = 63
) -> Campaign:
    """Estimate what the campaign of `signups` added: by a synthetic control, and from the region's series alone.

    `gap` has day, value, low and high (missing: a single region has no interval).
    """
    columns = ["day", "value", "low", "high"]
    if isinstance(asked, NotEstimable):
        none = nothing(asked.reason, columns)
        return Campaign(gap=none, words=f"Not simulated: {asked.reason}.", methods=none, tried=none)
    panel = signups(rng, lift=lift, shock=shock, start=start)
    own, double = panel["region 01"], geo.synthetic(panel, "region 01", start)
    return Campaign(
        gap=pd.DataFrame({"day": double.gap.index, "value": double.gap, "low": np.nan, "high": np.nan})[columns],
        words=f"Sign-ups of the region less those of its double; placebo test over 20 regions: p = {double.p:.2f}.",
        methods=geo.side_by_side(own, double, start=start, planted=lift),
        tried=geo.starts_tried(own, start, level=asked.level),
    )
