"""Small simulations of their own, for what a launch's data do not hold; their truth is what the caller plants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers.timeline import clusters

if TYPE_CHECKING:
    import pandas as pd


def factorial(rng: np.random.Generator, *, n: int, show: float, marketing: float, interaction: float) -> pd.DataFrame:
    """Draw a factorial experiment: both factors by chance, each for half of the accounts, hours as skewed as real ones.

    `show` and `marketing` are the effects of one without the other, in hours, `interaction` what both together add.
    """
    import pandas as pd

    with_show, with_ad = rng.random(n) < 0.5, rng.random(n) < 0.5
    hours = rng.gamma(1.1, 10.8 / 1.1, n)  # mean 10.8 hours a week, coefficient of variation 0.95
    hours += show * with_show + marketing * with_ad + interaction * (with_show & with_ad)
    return pd.DataFrame({"show": with_show, "marketing": with_ad, "hours": hours})


def impressions(rng: np.random.Generator, *, n: int, direct: float, by_impressions: float) -> pd.DataFrame:
    """Draw an experiment in which impressions follow the treatment, and keen accounts both see and watch more.

    The treatment adds `direct` hours, and two impressions that add `by_impressions` hours together: its effect is the
    sum of both. `spend` is the region's, set before and at random: it may be adjusted for.
    """
    import pandas as pd

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
    import pandas as pd

    season = 0.02 * np.cumsum(rng.standard_normal((days, 2)), axis=0)
    week = np.array([0.95, 0.92, 0.92, 0.95, 1.05, 1.13, 1.08])[np.arange(days) % 7]
    size = rng.uniform(150, 600, regions)
    share = rng.dirichlet([2.0, 2.0], regions)
    expected = size * np.exp(season @ share.T) * week[:, None] * (1 + shock * (np.arange(days) >= start))[:, None]
    expected[start:, 0] *= 1 + lift
    return pd.DataFrame(rng.poisson(expected), columns=[f"region {nth + 1:02d}" for nth in range(regions)])


def false_alarms(rng: np.random.Generator, *, regions: int, runs: int = 60, accounts: int = 50) -> pd.DataFrame:
    """Count how often a campaign that does nothing, given to every second region, is called an effect at the 5 % level.

    Returns:
        A row per kind of errors: errors, false alarms (a share of the runs).
    """
    import pandas as pd

    region = np.repeat(np.arange(regions), accounts)
    campaign = {"campaign": (region % 2).astype(float)}
    found = []
    for _ in range(runs):
        hours = rng.standard_normal(regions)[region] + 3 * rng.standard_normal(len(region))
        found.append(clusters.three_errors(hours, campaign, "campaign", region, rng=rng, draws=399))
    frame = pd.concat(found)
    alarms = (frame["p"] < 0.05).groupby(frame["errors"], sort=False).mean()
    return alarms.rename("false alarms").reset_index()
