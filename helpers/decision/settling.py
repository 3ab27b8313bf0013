"""What would settle a claim that is open: how many times the accounts, or how many days."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scipy import optimize, stats

from helpers.metrics import Bound
from helpers.results import Aim, Claim, Estimate, More

Longer = Callable[[float], int | None]


def more(
    e: Estimate, bound: Bound, *, aim: Aim, better: int, power: float, together: int = 1, longer: Longer | None = None
) -> More | None:
    """Say how many times the accounts of both arms would settle an open claim, those that were read among them.

    What was found counts for its share u = 1 / factor of all accounts, and the others are taken to show no harm (or
    change beyond the margin), or a gain as large as asked. The claim is then made with the power of the launch:
    conditional power (Lan, Simon and Halperin 1982; Jennison and Turnbull 2000, sec. 10.2), solved for the accounts.
    None where harm is established on the harmful side of 0 already, because more accounts would not rule it out; and
    where the bound is relative and the control's value does not allow a relative interval.

    A margin relative to a control that is itself estimated is kept where t - (1 + m) c is not 0 for certain, whose
    variance is var(t) + (1 + m)^2 var(c) (Kieser and Hauschke 1999): of a rise by half, 1.6 times that of t - c.

    Args:
        e: the estimate; of a success metric, its `mde` is that of alpha over the number of them.
        bound: margin, target or what is to be detected.
        aim: superiority for success metrics.
        better: 1 where higher is better, else -1.
        power: of the launch.
        together: guardrails that must all pass; each gets the power 1 - (1 - power) / together (Schultzberg, Ankargren
            and Frånberg 2024), and an equivalence half the error on either side of that.
        longer: says how many days would do what so many times the accounts would.
    """
    reach = abs(bound.value * (e.control if bound.relative else 1))
    if not reach or (bound.relative and e.rel_low is None):
        return None
    harm, miss, wider = -better * e.diff, (1 - power) / together, 1.0
    if aim == "superiority":
        harm, condition = reach + harm, "if it is as large as asked"
        half = e.mde - float(stats.norm.ppf(power)) * e.se
    else:
        condition = "if there is none"
        if aim == "equivalence":
            harm, miss = abs(e.diff), miss / 2
        upper = e.diff > 0 if aim == "equivalence" else better < 0
        half = e.high - e.diff if upper else e.diff - e.low
        if not e.low < 0 < e.high and harm > 0:
            return None
        if bound.relative and half > 0:
            wider = _wider(e, abs(bound.value) if upper else -abs(bound.value), half)
    spread, half = wider * float(stats.norm.isf(miss)) * e.se, wider * half

    def beyond(u: float) -> float:
        return harm * u + spread * math.sqrt(u * (1 - u)) + half * math.sqrt(u) - reach

    if beyond(1.0) <= 0:
        return None
    factor = 1 / float(optimize.brentq(beyond, 0.0, 1.0, xtol=1e-15))
    return More(factor=factor, condition=condition, days=longer(factor) if longer else None)


def _wider(e: Estimate, margin: float, half: float) -> float:
    """Say how many times as far from t - (1 + margin) c its limit lies as that of t - c, which is `half` away.

    The relative limit on this side, r, is where t - (1 + r) c is as far from 0 as its own limit. That tells which share
    of the variance is the control's.
    """
    limit = 1 + float(e.rel_high if margin > 0 else e.rel_low)  # type: ignore[arg-type]
    apart = limit**2 - 1
    share = (((e.treatment - limit * e.control) / half) ** 2 - 1) / apart if abs(apart) > 1e-6 else 0.5
    return math.sqrt(1 + ((1 + margin) ** 2 - 1) * min(max(share, 0.0), 1.0))


def words(claims: Sequence[Claim]) -> str:
    """Say in a sentence which further accounts of each arm, or days instead, would settle all of these claims.

    Empty if none do.
    """
    found = [(c.more, c.estimate) for c in claims if c.more and isinstance(c.estimate, Estimate)]
    if not claims or len(found) < len(claims) or len({m.condition for m, _ in found}) > 1:
        return ""
    treated, control = (
        f"{float(f'{max((m.factor - 1) * n for m, n in arm):.2g}'):,.0f}"
        for arm in zip(*(((m, e.n_treatment), (m, e.n_control)) for m, e in found), strict=True)
    )
    accounts = f"{treated} more accounts in each arm" if treated == control else (
        f"{treated} more treated and {control} more control accounts"
    )  # fmt: skip
    days = [m.days for m, _ in found]
    known = [d for d in days if d is not None]
    instead = f", or {max(known):,} days in all," if len(known) == len(days) else ""
    condition = found[0][0].condition
    return f"{condition[0].upper()}{condition[1:]}, about {accounts}{instead} would show it."
