"""What is suspicious about a result: patterns that have turned out to be artefacts, looked for after the estimate.

Each detector gives a `Check`. One that fails is no proof of a fault, but a reason to replicate and to look at the logs
before the result is believed; one that could not be asked says why. They decide nothing by themselves.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator, Sequence

import ibis
import numpy as np
from scipy import stats

from helpers import decision, inference, moments, quadrant, schema, scorecard, units
from helpers.launch import Launch
from helpers.launch.entry import Planned
from helpers.metrics import UNITS_TABLE, Measure, Metric
from helpers.moments import Moments
from helpers.power import belief
from helpers.register import Opening
from helpers.report.readout import percent
from helpers.results import Check, Claim, Estimate, NotEstimable
from helpers.scorecard import Scorecard
from helpers.study import Study
from helpers.wording import ABSENCE

PAST_LIFT = 0.05  # the 95th percentile of past lifts, where the launch does not say it
TWYMAN = 4.0  # prior standard deviations
AUTOPLAY = ("autoplay_next", "autoplay_preview")
THRESHOLDS = (  # at which an event begins to count: table, column, place, unit
    ("plays", "watch_minutes", 2.0, "min"),
    ("plays", "watch_minutes", 5.0, "min"),
    ("plays", "completed_share", 0.7, "of the title"),
    ("sessions", "seconds_to_first_play", 300.0, "s"),
)
INFORMING = ("Ratios that moved by their denominator", "What is likely to be left of a win", "Looks and plans")
BUNCHED = 0.02
MOVED = 0.5  # a change of an effect by so much of itself is more than rounding


def inspect(data: Study, card: Scorecard, openings: Sequence[Opening] = ()) -> tuple[Check, ...]:
    """Ask everything that these data and this plan allow.

    Args:
        data: the study.
        card: what was measured on it.
        openings: the register's lines, for the looks and plans that were tried.
    """
    launch = data.launch
    prior = prior_sd(launch)
    if any(c.passed is False for c in card.checks):
        return (
            Check(name="Suspicious patterns", passed=None, detail="Not asked, because a check of the data failed."),
        )
    return (
        divergence(card.claims, launch.plan),
        denominators(data, card),
        autoplay(data, card),
        bunching(data, card),
        composition(data, card),
        twyman(card.claims, prior),
        curse(card.claims, prior),
        tail_harm(data, card),
        forking(launch, openings),
    )


def of_trust(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Choose those that a gain must pass before it is trusted: the others inform, and hold nothing up."""
    return tuple(c for c in checks if c.name not in INFORMING)


def prior_sd(launch: Launch) -> float:
    """Give the spread of true relative lifts around zero that the 95th percentile of past lifts suggests."""
    past = launch.decision.past_lifts
    return (abs(past.value) if past and past.relative else PAST_LIFT) / float(stats.norm.isf(0.05))


def divergence(claims: Sequence[Claim], plan: Sequence[Planned]) -> Check:
    """Ask whether a metric rose while its counter-metric, or satisfaction, fell (H1: hollow engagement)."""
    name = "Gain without its counterpart"
    by_name = {c.metric: c for c in claims}
    liked = [c.metric for c in claims if c.role == "satisfaction"]
    pairs = [
        (by_name[p.metric.name], by_name[other])
        for p in plan
        if p.role in decision.SUCCESS
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
    ratios = [(p, c) for p, c in zip(data.launch.plan, card.claims, strict=True) if p.metric.denominator is not None]
    told, asked = [], 0
    for p, claim in ratios:
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
        detail = "No ratio of the plan differs between the arms, so none was moved by its denominator."
        return Check(name=name, passed=None if not ratios else True, detail=detail)
    detail = (
        "; ".join(told) + "."
        if told
        else f"Ratios that differ between the arms: {asked}; none mainly by its denominator."
    )
    return Check(name=name, passed=not told, detail=detail)


def autoplay(data: Study, card: Scorecard) -> Check:
    """Ask whether more hours are left of a gain when those that played by themselves are taken out (H6)."""
    name = "Gain without autoplay"
    star = card.claims[0]
    lacking = _lacking(data, "plays", "initiation", "watch_minutes")
    if (
        lacking
        or not isinstance(star.estimate, Estimate)
        or "watch_minutes" not in _columns(data.launch.plan[0].metric)
    ):
        return Check(name=name, passed=None, detail=f"Not asked, because {lacking or 'the north star is not viewing'}.")
    if star.estimate.low <= 0:
        return Check(name=name, passed=None, detail="Not asked, because viewing did not rise for certain.")
    plays = data.table("plays")
    chosen = plays.initiation.notin(AUTOPLAY).fill_null(True)
    read = _by_account(
        data, "plays", all=plays.watch_minutes.sum() / 60, chosen=plays.watch_minutes.sum(where=chosen) / 60
    )
    whole, kept = (_contrast(data, read, card.treatment, column) for column in ("all", "chosen"))
    if not isinstance(whole, Estimate) or not isinstance(kept, Estimate):
        return Check(name=name, passed=None, detail="Not asked, because the hours could not be compared.")
    said = f"{whole.diff:+.2f} h an account, without autoplay {kept.diff:+.2f} ({kept.low:+.2f} to {kept.high:+.2f})"
    if kept.low > 0:
        return Check(name=name, passed=True, detail=f"Viewing rose, and not by autoplay alone: {said}.")
    return Check(name=name, passed=False, detail=f"The gain vanishes without what played by itself: {said}.")


def bunching(data: Study, card: Scorecard) -> Check:
    """Ask whether events gather just beyond a counting threshold in the treatment (H2): gaming of the definition.

    Of the events within a fifth of the threshold, the share that just counts is compared between the arms, over
    accounts, at alpha divided by the number of thresholds. A launch that truly moves everything moves this share
    a little as well; so less than two percentage points are let pass.
    """
    name = "Events just beyond a threshold"
    asked = [(t, c, at, unit) for t, c, at, unit in THRESHOLDS if not _lacking(data, t, c)]
    if not asked:
        return Check(name=name, passed=None, detail="Not asked, because the data hold no events with a threshold.")
    told = []
    for table, column, at, unit in asked:
        value = data.table(table)[column]
        near, beyond = value.between(0.8 * at, 1.2 * at), value >= at if unit != "s" else value <= at
        read = _by_account(data, table, near=near.sum(), beyond=(near & beyond).sum())
        e = _contrast(data, read, card.treatment, "beyond", "near", level=1 - data.launch.decision.alpha / len(asked))
        if isinstance(e, Estimate) and e.low > 0:
            told.append(
                f"{column} at {at:g} {unit}: {e.treatment:.1%} of the events near it just count, not {e.control:.1%}"
            )
    if told:
        return Check(name=name, passed=False, detail=f"{'; '.join(told)}. Was the definition gamed?")
    places = ", ".join(f"{column} at {at:g} {unit}" for _, column, at, unit in asked)
    return Check(name=name, passed=True, detail=f"No more events than in control lie just beyond {places}.")


def composition(data: Study, card: Scorecard) -> Check:
    """Ask whether an effect depends on who happens to be in which arm (H4: Simpson): each segment weighted alike.

    The effect is averaged over the levels of each segment by their share of both arms together, and compared with the
    plain one. Under a sound draw the two agree but for chance.
    """
    name = "Composition of the arms"
    plain = {e.metric: e for e in card.plain if isinstance(e, Estimate) and not e.low <= 0 <= e.high}
    success = [p for p in data.launch.plan if p.role in decision.SUCCESS and p.metric.name in plain]
    if not data.launch.segments or not success:
        why = (
            "the launch names no segments" if not data.launch.segments else "no success metric differs between the arms"
        )
        return Check(name=name, passed=None, detail=f"Not asked, because {why}.")
    told = []
    for segment, p, slices in _slices(data, success, card.treatment):
        found = [e for e in slices if isinstance(e, Estimate)]
        if len(found) < len(slices) or not found:
            continue
        n = np.array([e.n_control + e.n_treatment for e in found])
        weighted = float(n @ [e.diff for e in found] / n.sum())
        whole = plain[p.metric.name].diff
        if weighted * whole < 0 or abs(weighted - whole) > MOVED * abs(whole):
            told.append(f"{p.metric.title} differs by {whole:.3g}, with {segment} weighted alike by {weighted:.3g}")
    if told:
        return Check(name=name, passed=False, detail=f"{'; '.join(told)}: the arms hold different people.")
    detail = f"Weighting {', '.join(data.launch.segments)} alike in both arms leaves the effects as they are."
    return Check(name=name, passed=True, detail=detail)


def twyman(claims: Iterable[Claim], prior: float) -> Check:
    """Ask whether an effect is too large to be believed at first sight (H9: Twyman's law)."""
    name = "Too good to be true"
    read = [(c, e.rel) for c in claims if isinstance(e := c.estimate, Estimate) and e.rel is not None and _differs(e)]
    big = [f"{c.title} ({percent(rel, signed=True)})" for c, rel in read if abs(rel) > TWYMAN * prior]
    limit = percent(TWYMAN * prior, digits=0)
    usual = f"{percent(prior, digits=0)}, from 'decision: {{past_lifts: …}}' or assumed"
    if big:
        detail = (
            f"Beyond {limit}, four times the usual spread of lifts ({usual}): {', '.join(big)}. "
            "Audit the logs and repeat the launch before this is believed."
        )
        return Check(name=name, passed=False, detail=detail)
    return Check(name=name, passed=True, detail=f"No effect that differs from zero is beyond {limit}.")


def curse(claims: Iterable[Claim], prior: float) -> Check:
    """Say what is likely to be left of each win (H10): the estimate drawn towards zero, and the usual exaggeration.

    With true relative lifts spread by `prior` around zero, the best guess is `rel * prior**2 / (prior**2 + se**2)`.
    The factor is by how much a significant estimate would exaggerate a true effect of that size (type M error:
    Gelman and Carlin 2014, Beyond power calculations).
    """
    name = "What is likely to be left of a win"
    told = []
    for c in claims:
        e = c.estimate
        if c.role not in decision.SUCCESS or not isinstance(e, Estimate) or e.rel is None or not _differs(e):
            continue
        se = e.se / abs(e.control)
        left = e.rel * prior**2 / (prior**2 + se**2)
        factor = belief.exaggeration_of(abs(left) / se, alpha=1 - e.level)
        told.append(
            f"{c.title}: {percent(e.rel, signed=True)} found, {percent(left, signed=True)} expected in a repetition "
            f"(a significant result at this size exaggerates by {factor:.1f})"
        )
    if not told:
        return Check(name=name, passed=None, detail="No success metric differs from zero in relative terms.")
    return Check(name=name, passed=True, detail="; ".join(told) + ".")


def tail_harm(data: Study, card: Scorecard) -> Check:
    """Ask whether a guardrail breaks its margin in some group though it may hold on average (H15).

    The intervals hold for all groups and guardrails together (Bonferroni).
    """
    name = "Harm in a group"
    guardrails = [p for p in data.launch.plan if p.role == "guardrail" and p.limit]
    if not guardrails or not data.launch.segments:
        return Check(name=name, passed=None, detail="Not asked: the launch names no guardrails or no segments.")
    told, groups, blind = [], 0, 0
    table = units.load(data)
    sizes = table.aggregate(**{segment: table[segment].nunique() for segment in data.launch.segments}).execute()
    level = 1 - data.launch.decision.alpha / (len(guardrails) * int(sizes.to_numpy().sum()))
    for segment, p, slices in _slices(data, guardrails, card.treatment, level=level):
        for e in slices:
            groups += 1
            blind += isinstance(e, NotEstimable)
            claim = decision.read(p.metric, e, role="guardrail", margin=p.margin, equivalence=p.equivalence)
            if claim.status == "breached":
                told.append(f"{p.metric.title} in {segment} {e.slice[segment]}")
    if told:
        return Check(name=name, passed=False, detail=f"Beyond the margin for certain: {'; '.join(told)}.")
    detail = (
        f"In none of {groups - blind} pairs of a group and a guardrail is the margin broken for certain; smaller harm "
        "may be there."
    )
    return Check(name=name, passed=True if groups > blind else None, detail=detail)


def forking(launch: Launch, openings: Sequence[Opening]) -> Check:
    """Ask whether the data were looked at more often, or with more plans, than was planned (H12)."""
    name = "Looks and plans"
    if not openings:
        return Check(name=name, passed=None, detail="No report has opened these data yet, so nothing was counted.")
    looks, plans = len({o.data for o in openings}), len({o.plan for o in openings})
    planned = max(1, len(launch.decision.looks))
    detail = f"States of the data that were opened: {looks}, planned {planned}. Versions of the plan: {plans}."
    if looks > planned:
        detail += " Each further look is another chance to be fooled; the intervals hold for the planned ones."
    return Check(name=name, passed=looks <= planned and plans == 1, detail=detail)


def plain_words(text: str, claims: Sequence[Claim]) -> str:
    """Put what was found in the place of sentences that say of a metric that nothing changed (H11).

    A guardrail that passed may be said to stay within its margin; that nothing changed is never shown by a test that
    found nothing.

    >>> plain_words("Churn was maintained. Hours rose.", [])
    'That nothing changed was not shown. Hours rose.'
    """
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    return " ".join(_said(s, claims) if ABSENCE.search(s) else s for s in sentences)


def _said(sentence: str, claims: Sequence[Claim]) -> str:
    words = set(re.findall(r"[a-z]{4,}", sentence.lower()))
    for c in claims:
        if words & set(re.findall(r"[a-z]{4,}", f"{c.metric} {c.title}".lower().replace("_", " "))):
            return c.words
    return "That nothing changed was not shown."


def _lacking(data: Study, table: str, *columns: str) -> str:
    """Say what the data lack of a table and its columns; empty where nothing."""
    if table not in data.tables:
        return f"the data have no table '{table}'"
    absent = [c for c in columns if c not in data.tables[table].columns]
    return f"'{table}' has no column '{absent[0]}'" if absent else ""


def _columns(metric: Metric) -> set[str | None]:
    return {base.column for m in metric.measures for base in m.bases}


def _by_account(data: Study, table: str, **numbers: ibis.Value) -> Moments:
    """Sum events of the launch's days by assigned account, zeros included, and give the moments of each arm."""
    events, launch = data.table(table), data.launch
    start = dt.datetime.combine(launch.dates.start if launch.dates else dt.date.min, dt.time(), tzinfo=dt.UTC)
    time = events[str(schema.table(table).time)]
    inside = (time >= start) & (time < start + dt.timedelta(days=launch.days))
    found = events.filter(inside).aggregate(by="account", **numbers)
    accounts = data.assignments.select("account", "arm")
    rows = accounts.left_join(found.mutate(account=found.account.cast(accounts.account.type())), "account")
    rows = rows.select("arm", **{name: rows[name].cast("float64").fill_null(0.0) for name in numbers})
    pairs = [(a, b) for a in numbers for b in numbers]
    return moments.from_table(rows, columns=list(numbers), pairs=pairs, by=["arm"])


def _contrast(
    data: Study, read: Moments, treatment: str, top: str, bottom: str | None = None, *, level: float = 0.95
) -> Estimate | NotEstimable:
    """Compare a column, or the ratio of two, between the arms."""
    metric = Metric(
        name=top,
        title="",
        kind="ratio" if bottom else "mean",
        numerator=Measure(table=UNITS_TABLE, agg="value", column=top),
        denominator=Measure(table=UNITS_TABLE, agg="value", column=bottom) if bottom else None,
        better="higher",
        unit="",
        covariates=(),
    )
    control = data.launch.arms.control
    (answer,) = inference.compare(read, metric, control=control, treatment=treatment, days=1, pre_days=1, level=level)
    return answer


def _differs(e: Estimate) -> bool:
    return not e.low <= 0 <= e.high


def _slices(
    data: Study, plan: Iterable[Planned], treatment: str, *, level: float = 0.95
) -> Iterator[tuple[str, Planned, list[Estimate | NotEstimable]]]:
    """Compare metrics within every level of each segment, without adjustment."""
    launch = data.launch
    plan = [p for p in plan if units.why_not(data, p.metric) is None]
    for segment, read in scorecard.sliced(data, launch.segments, [p.metric for p in plan]).items():
        for p in plan:
            answers = inference.compare(
                read,
                p.metric,
                control=launch.arms.control,
                treatment=treatment,
                days=p.metric.window_days or launch.days,
                pre_days=max(launch.pre_days, 1),
                level=level,
            )
            yield segment, p, answers
