"""The population: every account with its attributes, its past, and the traits behind them that nobody observes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.simulate.parameters import Mix
from helpers.simulate.simulation import Simulation

LATENT = ("intensity", "deviation", "active", "length", "affinity")
HISTORY_WEEKS = 4
_BLOCK = 50_000  # accounts drawn from one seed of their own


def draw(simulation: Simulation, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Draw the whole population, one row per account; the columns in `LATENT` are for the simulator alone."""
    blocks = [block(simulation, nth, own) for nth, own in enumerate(seeds(simulation, seed))]
    people = pd.concat(blocks, ignore_index=True)
    return with_engagement(people, thirds(people))


def seeds(simulation: Simulation, seed: np.random.SeedSequence) -> list[np.random.SeedSequence]:
    """Give every block of the population a seed of its own."""
    return seed.spawn(-(-simulation.accounts // _BLOCK))


def thirds(people: pd.DataFrame) -> tuple[float, float]:
    """Past weekly hours that part the accounts into equal thirds."""
    low, high = people["past_weekly_hours"].quantile([1 / 3, 2 / 3])
    return low, high


def with_engagement(people: pd.DataFrame, thirds: tuple[float, float]) -> pd.DataFrame:
    """Say which third of past viewing each account belongs to."""
    bands = np.searchsorted(thirds, people["past_weekly_hours"])
    return people.assign(engagement=pd.Categorical.from_codes(bands, pd.Index(["light", "medium", "heavy"])))


def volunteers(simulation: Simulation, people: pd.DataFrame, rng: np.random.Generator) -> pd.Series[bool]:
    """Draw who would accept an invitation: enthusiasts more than others."""
    who = simulation.people
    log_odds = who.volunteer + who.volunteer_affinity * people["affinity"]
    log_odds += who.volunteer_habit * habit(simulation, people)
    return rng.random(len(people)) < 1 / (1 + np.exp(-log_odds))


def habit(simulation: Simulation, people: pd.DataFrame) -> np.ndarray:
    """Log of each account's usual hours, in SD: how often it comes, how long it stays, in how many weeks."""
    v, (a, b) = simulation.viewing, simulation.viewing.active_week
    active = people["active"].to_numpy() * (a + b) / a - 1  # its log, to the first order
    log_hours = (
        v.intensity_sd * people["intensity"].to_numpy() + v.session_account_sd * people["length"].to_numpy() + active
    )
    sd = np.sqrt(v.intensity_sd**2 + v.session_account_sd**2 + b / (a * (a + b + 1)))
    standard: np.ndarray = log_hours / sd
    return standard


def pick(mix: Mix, uniform: np.ndarray) -> np.ndarray:
    """Turn uniform numbers into positions in a mix."""
    codes: np.ndarray = np.searchsorted(np.cumsum([share for _, share in mix])[:-1], uniform, side="right")
    return codes.astype(np.int8)


def labelled(mix: Mix, codes: np.ndarray) -> pd.Categorical[str]:
    """Give positions in a mix their labels."""
    return pd.Categorical.from_codes(codes, pd.Index([label for label, _ in mix]))


def block(simulation: Simulation, nth: int, seed: np.random.SeedSequence) -> pd.DataFrame:
    """Draw one block of the population, all but `engagement`."""
    numbers, rng = np.arange(nth * _BLOCK, min((nth + 1) * _BLOCK, simulation.accounts)), np.random.default_rng(seed)
    who, n = simulation.people, len(numbers)
    age = pick(who.age_bands, rng.random(n))
    first_year = rng.random(n) < who.first_year
    tenure_days = np.where(first_year, rng.integers(1, 365, n), 365 + rng.exponential(who.later_tenure_days, n))
    intensity = rng.standard_normal(n)
    a, b = who.affinity
    centred = rng.beta(a, b, n) - a / (a + b)
    affinity = centred * (a + b) * np.sqrt((a + b + 1) / (a * b)) + np.take(who.affinity_age, age)
    new_tv_odds = who.new_tv / (1 - who.new_tv) * np.exp(who.new_tv_intensity * intensity)
    household = np.where(rng.random(n) < who.shared_household, np.maximum(numbers - 1, 0), numbers)
    people = pd.DataFrame(
        {
            "account": [f"a{number:08d}" for number in numbers.tolist()],
            "region": labelled(who.regions, pick(who.regions, rng.random(n))),
            "age_band": labelled(who.age_bands, age),
            "tenure": pd.cut(tenure_days, [0, 364.5, 1095, np.inf], labels=["first year", "1-3 years", "3+ years"]),
            "tenure_days": tenure_days.astype(np.int32),
            "device": labelled(who.devices, pick(who.devices, rng.random(n))),
            "new_tv": rng.random(n) < new_tv_odds / (1 + new_tv_odds),
            "profiles": np.minimum(1 + rng.poisson(who.extra_profiles, n), who.max_profiles).astype(np.int32),
            "household": [f"h{number:08d}" for number in household.tolist()],
            **{
                flag: rng.random(n) < getattr(who, flag)
                for flag in ("employee", "bot_suspect", "kids_only", "test_account", "opted_out")
            },
            "intensity": intensity,
            "active": rng.beta(*simulation.viewing.active_week, n),
            "length": rng.standard_normal(n),
            "affinity": affinity,
        }
    )
    people["past_weekly_hours"], people["deviation"] = _history(simulation, people, rng)
    return people


def _history(simulation: Simulation, people: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean weekly hours in the weeks before the events begin, and the weekly deviation in which they end.

    The sum of a week's lognormal sessions is drawn at once, as a gamma variable with the same mean and variance.
    """
    v, n = simulation.viewing, len(people)
    variation = np.expm1(v.session_sd**2)
    typical = v.session_hours * np.exp(v.session_account_sd * people["length"].to_numpy() + v.session_sd**2 / 2)
    deviation = v.deviation_sd * rng.standard_normal(n)
    hours = np.zeros(n)
    for _ in range(HISTORY_WEEKS):
        deviation = next_deviation(simulation, deviation, rng)
        sessions = rng.poisson(weekly_rate(simulation, people, deviation)) * (rng.random(n) < people["active"])
        hours += np.minimum(typical * variation * rng.gamma(sessions / variation), 7 * v.day_cap_hours)
    return (hours / HISTORY_WEEKS).round(2), deviation


def next_deviation(simulation: Simulation, deviation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move every account's weekly deviation (log scale) on by one week."""
    v = simulation.viewing
    shock = v.deviation_sd * np.sqrt(1 - v.deviation_memory**2)
    moved: np.ndarray = v.deviation_memory * deviation + shock * rng.standard_normal(len(deviation))
    return moved


def weekly_rate(simulation: Simulation, people: pd.DataFrame, deviation: np.ndarray) -> np.ndarray:
    """Expected sessions with a play in an active week."""
    v = simulation.viewing
    log_rate = v.intensity_sd * people["intensity"].to_numpy() + deviation
    rate: np.ndarray = v.sessions * np.exp(log_rate - (v.intensity_sd**2 + v.deviation_sd**2) / 2)
    return rate
