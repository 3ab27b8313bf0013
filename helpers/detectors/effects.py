"""Suspicious effects: a gain without its counterpart, by its denominator, too large, or likely to shrink."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from helpers import decision, quadrant, scorecard
from helpers.decision.claims import out_of_reach
from helpers.launch import Launch
from helpers.launch.entry import Planned
from helpers.metrics import Metric
from helpers.power import belief
from helpers.report.readout import percent
from helpers.results import SUCCESS, Check, Claim, Estimate, NotEstimable
from helpers.scorecard import Scorecard
from helpers.study import Study

PAST_LIFT = 0.05  # the 95th percentile of past lifts, where the launch does not say it
TWYMAN = 4.0  # prior standard deviations
WORKING = 0.1  # of ideas, in mature services (Kohavi, Deng and Vermeer 2022: 8 to 33 % of tests succeed)
TELLING = 0.005  # a least risk below it says nothing
MOVED = 0.5  # a change of an effect by so much of itself is more than rounding


def prior_sd(launch: Launch) -> float:
    """Give the spread of true relative lifts around zero that the 95th percentile of past lifts suggests."""
    past = launch.decision.past_lifts
    return (abs(past.value) if past and past.relative else PAST_LIFT) / float(stats.norm.isf(0.05))


def prior_source(launch: Launch) -> str:
    """Say where `prior_sd` comes from."""
    past = launch.decision.past_lifts
    if past and past.relative:
        return f"from 'decision: {{past_lifts: {past.text}}}'"
    top = percent(PAST_LIFT, digits=0)
    return f"assumed, for want of 'decision: {{past_lifts: …}}': one past lift in twenty above {top}"


def divergence(claims: Sequence[Claim], plan: Sequence[Planned]) -> Check:
    """Ask whether a metric rose while its counter-metric, or satisfaction, fell (H1: hollow engagement)."""
    name = "Gain without its counterpart"
    by_name = {c.metric: c for c in claims}
    liked = [c.metric for c in claims if c.role == "satisfaction"]
    pairs = [
        (by_name[p.metric.name], by_name[other])
        for p in plan
        if p.role in SUCCESS
        for other in dict.fromkeys([*([p.counter] if p.counter in by_name else []), *liked])
    ]
    read = [q for a, b in pairs if not isinstance(q := quadrant.read(a, b), NotEstimable)]
    if not read:
        detail = "No success metric has a counter-metric or a satisfaction metric beside it that could be estimated."
        return Check(name=name, passed=None, detail=detail)
    hollow = [q for q in read if q.label == "hollow engagement"]
    if hollow:
        told = "; ".join(dict.fromkeys(f"{q.titles[0]} rose while {q.titles[1].lower()} got worse" for q in hollow))
        return Check(name=name, passed=False, detail=f"{told}: hollow engagement.")
    open_ = sum("hollow engagement" in q.possible for q in read)
    detail = f"No pair of a metric and its counterpart, of {len(read)}, shows hollow engagement"
    detail += f"; for {open_} the data leave it open." if open_ else "."
    return Check(name=name, passed=None if open_ else True, detail=detail)


def denominators(data: Study, card: Scorecard) -> Check:
    """Ask whether a ratio that changed did so mainly because its denominator did (H3)."""
    name = "Ratios that moved by their denominator"
    read = scorecard.pooled(data)
    told, asked = [], 0
    for p, claim in zip(data.launch.plan, card.claims, strict=True):
        bottom, e = p.metric.denominator, claim.estimate
        if bottom is None or not isinstance(e, Estimate) or e.rel is None or e.low <= 0 <= e.high or e.rel <= -1:
            continue
        asked += 1
        alone = Metric(
            name=p.metric.name,
            title="",
            kind="mean",
            numerator=bottom,
            better="higher",
            unit="",
            window_days=p.metric.window_days,
            covariates=(),
        )
        d = scorecard.estimate(data, read, alone, treatment=card.treatment, adjust=False)
        if not isinstance(d, Estimate) or d.rel is None or d.rel <= -1 or d.low <= 0 <= d.high:
            continue
        share = -math.log1p(d.rel) / math.log1p(e.rel)
        if share > MOVED:
            moved = percent(d.rel, signed=True)
            told.append(f"{claim.title} changed mainly because its denominator did ({moved} per account)")
    if not asked:
        detail = "Not asked: no ratio of the plan differs between the arms for certain."
        return Check(name=name, passed=None, detail=detail)
    detail = (
        "; ".join(told) + "."
        if told
        else f"Ratios that differ between the arms: {asked}; none mainly by its denominator."
    )
    return Check(name=name, passed=not told, detail=detail)


def twyman(claims: Sequence[Claim], prior: float, source: str = "") -> Check:
    """Ask whether a gain is too large to be believed at first sight (H9: Twyman's law).

    The limit is four times the usual spread of relative lifts. Where the plan itself asked for more, twice its target
    is the limit instead: what was expected is no surprise. A north star without a target, which the supporting metrics
    move, has the largest of their relative targets. Only success metrics that won are asked, and not what the control
    arm cannot have, of which there is no lift. `source` says where `prior` comes from (`prior_source`).
    """
    name = "Too good to be true"
    read = [(c, e) for c in decision.won(claims) if (e := _lift(c))]
    if not read:
        return Check(name=name, passed=None, detail="Not asked: no success metric has won by a relative lift.")
    asked = {c.metric: abs(c.bound / e.control) for c in claims if c.role in SUCCESS and c.bound and (e := _lift(c))}
    driven = max((asked[c.metric] for c in claims if c.metric in asked and c.bound_text.endswith("%")), default=0.0)
    big, raised = [], []
    for c, e in read:
        most, target = TWYMAN * prior, asked.get(c.metric, driven if c.role == "north_star" else 0.0)
        if target > most:
            most = 2 * target
            raised.append(f"{c.title} ({percent(most, digits=0)})")
        if e.rel is not None and abs(e.rel) > most:
            big.append(f"{c.title} ({percent(e.rel, signed=True)})")
    usual = ", ".join(filter(None, (percent(prior, digits=0), source)))
    limit = f"{percent(TWYMAN * prior, digits=0)}, four times the usual spread of lifts ({usual})"
    limit += f", or twice the target where the plan asked for more: {', '.join(raised)}" if raised else ""
    if big:
        detail = f"Beyond {limit}: {', '.join(big)}. Audit the logs and repeat the launch before this is believed."
        return Check(name=name, passed=False, detail=detail)
    return Check(name=name, passed=True, detail=f"No gain is beyond {limit}.")


def curse(claims: Sequence[Claim], prior: float, source: str = "") -> Check:
    """Say what is likely to be left of each win (H10): the estimate drawn towards zero, and the usual exaggeration.

    What the control arm cannot have has no relative lift, and is not among them. With true relative lifts spread by
    `prior` around zero, the best guess is `rel * prior**2 / (prior**2 + se**2)`.
    What launches like this would find on average, if that were the truth and only significant ones were told, is larger
    by the type M error (Gelman and Carlin 2014, Beyond power calculations); this very estimate may lie further off than
    that average. The last number is the least risk that this win is false, by its
    own p, if one idea in ten works (`belief.least_risk`); the risk over all wins that pass the threshold, which
    `belief.false_positive_risk` gives, is smaller for a weak win and larger for a strong one. A bound below half a per
    cent says nothing, and is not told. `source` says where `prior` comes from (`prior_source`).
    """
    name = "What is likely to be left of a win"
    told = []
    for c in decision.won(claims):
        e = _lift(c)
        if e is None or e.rel is None or not e.se > 0:  # a quantile of ties moves by steps, without an error
            continue
        se = e.se / abs(e.control)
        left = e.rel * prior**2 / (prior**2 + se**2)
        factor = belief.exaggeration_of(abs(left) / se, alpha=1 - e.level)
        risk = belief.least_risk(WORKING, p=e.p)
        told.append(
            f"{c.title}: {percent(e.rel, signed=True)} found, {percent(left, signed=True)} expected in a repetition "
            f"(were that the truth, launches whose gain stands out from chance would show "
            f"{percent(factor * left, signed=True)} on average)"
            + (f", false in at least {percent(risk, digits=0)} of cases with such a p" if risk >= TELLING else "")
        )
    if not told:
        return Check(name=name, passed=None, detail="No success metric has won by a relative lift.")
    usual = f"if {percent(WORKING, digits=0)} of ideas work and lifts spread by {percent(prior)} around zero"
    return Check(name=name, passed=True, detail=f"{'; '.join(told)}, {usual}{f' ({source})' if source else ''}.")


def _lift(claim: Claim) -> Estimate | None:
    """Give the estimate of a claim that has a relative effect on something that the control arm can have."""
    e = claim.estimate
    return e if isinstance(e, Estimate) and e.rel is not None and not out_of_reach(claim) else None
