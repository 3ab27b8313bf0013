"""What a significant result is worth: how often it is false, how much it overstates, how often its sign is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from scipy import optimize, special, stats

from helpers.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd


def false_positive_risk(prior: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Say which share of significant gains is false, if a share `prior` of all ideas works.

    Only gains count as finds, so ideas that do not work come up with alpha / 2 (Kohavi, Deng and Vermeer 2022).
    It is not the p-value of any one result, nor the risk of one whose p is known: see `least_risk`.

    >>> round(false_positive_risk(0.10), 2)
    0.22
    """
    for name, share in (("prior", prior), ("power", power), ("alpha", alpha)):
        if not 0 < share < 1:
            raise ParameterError(f"{name} is {share:g}, must lie between 0 and 1")
    false = alpha / 2 * (1 - prior)
    return false / (false + power * prior)


def least_risk(prior: float, *, p: float) -> float:
    """Say how often at least a result with this very p is false, if a share `prior` of all ideas works.

    Where small effects are more usual than large ones, to either side alike, they make a p like this at most
    1 / (-e p ln p) times as likely as no effect does (Sellke, Bayarri and Berger 2001, The American Statistician 55:62,
    for p below 1 / e). This is a bound: the risk itself depends on how large effects are.

    Raises:
        ParameterError: `prior` does not lie between 0 and 1, or `p` not from 0 to 1.

    >>> [round(least_risk(0.5, p=p), 3) for p in (0.05, 0.01, 0.001)]
    [0.289, 0.111, 0.018]
    """
    if not 0 < prior < 1 or not 0 <= p <= 1:
        raise ParameterError(
            f"prior is {prior:g} and p {p:g}: the first must lie between 0 and 1, the other from 0 to 1"
        )
    odds = -math.e * p * math.log(p) if 0 < p < 1 / math.e else float(p > 0)
    return odds * (1 - prior) / (odds * (1 - prior) + prior)


def exaggeration(power: float, *, alpha: float = 0.05) -> float:
    """Say by which factor significant results overstate the true effect on average (type M: Gelman and Carlin 2014).

    `power` is that of the two-sided test, findings of the wrong sign included; above alpha.

    >>> round(exaggeration(0.2), 2), round(exaggeration(0.8), 2)
    (2.26, 1.12)
    """
    return exaggeration_of(_effect(power, alpha), alpha=alpha)


def exaggeration_of(effect: float, *, alpha: float = 0.05) -> float:
    """Say the same for a true effect of so many standard errors, above 0.

    >>> round(exaggeration_of(2.8), 2), exaggeration_of(40.0)
    (1.13, 1.0)
    """
    bound = float(special.ndtri(1 - alpha / 2))
    above = effect * special.ndtr(effect - bound) + stats.norm.pdf(bound - effect)
    below = -effect * special.ndtr(-effect - bound) + stats.norm.pdf(bound + effect)
    return float((above + below) / (special.ndtr(effect - bound) + special.ndtr(-effect - bound)) / effect)


def wrong_sign(power: float, *, alpha: float = 0.05) -> float:
    """Say which share of significant results has the wrong sign (type S: Gelman and Carlin 2014).

    >>> round(wrong_sign(0.06), 2)
    0.2
    """
    return float(special.ndtr(-special.ndtri(1 - alpha / 2) - _effect(power, alpha)) / power)


def any_false_alarm(metrics: int, *, alpha: float = 0.05) -> float:
    """Say how likely at least one of so many independent metrics raises a false alarm: 1 - (1 - alpha)^m.

    >>> round(any_false_alarm(30), 2)
    0.79
    """
    if metrics < 0 or not 0 < alpha < 1:
        raise ParameterError(f"metrics is {metrics}, must be at least 0, and alpha {alpha:g} between 0 and 1")
    return 1 - (1 - alpha) ** metrics


def worth(chances: Sequence[float], *, prior: float, alpha: float = 0.05) -> pd.DataFrame:
    """Lay out what a significant result is worth at each of these chances of finding the effect."""
    import pandas as pd

    return pd.DataFrame(
        {
            "power": chance,
            "false among significant gains": false_positive_risk(prior, power=chance, alpha=alpha),
            "overstated by a factor of": exaggeration(chance, alpha=alpha),
            "wrong sign": wrong_sign(chance, alpha=alpha),
        }
        for chance in chances
        if alpha < chance < 1
    )


def overload(counts: Iterable[int], *, alpha: float = 0.05) -> pd.DataFrame:
    """Lay out how likely a false alarm is when so many metrics are read without correction."""
    import pandas as pd

    rows = [(m, any_false_alarm(m, alpha=alpha)) for m in sorted(set(counts))]
    return pd.DataFrame(rows, columns=["metrics read", "chance of a false alarm"])


def _effect(power: float, alpha: float) -> float:
    """Give the effect, in standard errors, that a two-sided test finds with this power."""
    if not 0 < alpha < power < 1:
        raise ParameterError(f"power is {power:g}, must lie above alpha ({alpha:g}) and below 1")
    bound = float(special.ndtri(1 - alpha / 2))

    def gap(size: float) -> float:
        return float(special.ndtr(size - bound) + special.ndtr(-size - bound) - power)

    return float(optimize.brentq(gap, 0, bound + math.fabs(float(special.ndtri(power))) + 1, xtol=1e-13))
