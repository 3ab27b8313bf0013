"""Rules about how it is judged: size, error rates, stopping, units, outliers, sampling, privacy, and what follows."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import get_args

from helpers.launch.context import UNITS, Outliers
from helpers.launch.entry import Planned
from helpers.linter.rule import Hit, Rule, Subject, power, size
from helpers.results import SUCCESS, Decision, figures

HOPELESS = 0.8  # a guardrail whose standard error is more than so much of its margin can hardly pass
PAST_LIFT = 0.05  # where the launch does not say which lifts its past has seen
SEGMENTS, PER_SEGMENT = 5, 1_000
SMALL_CELL = 10
_IDENTIFIER = re.compile(
    r"(^|_)(e?mail|phone|msisdn|(first|last|full|family)_?name|surname|address|street|ssn|iban|passport|"
    r"credit_?card|card_?number|ip|ip_?address|birth_?date|date_of_birth|dob)(_|$)",
    re.I,
)


def _success(s: Subject) -> list[Planned]:
    return [p for p in s.launch.plan if p.role in SUCCESS]


def _unwritten(s: Subject, key: str) -> bool:
    """Say whether a key of 'decision' was left to its default."""
    return key not in s.launch.decision.model_fields_set


def _size(s: Subject) -> Iterator[Hit]:
    if s.launch.sampling is None:
        yield Hit("E", ("sampling",), "no number of accounts is planned", "write 'sampling: {n: {arm: accounts, …}}'")
    elif s.arms is None:
        yield Hit("E", ("sampling", "n"), "the split is planned, its size is not", "write accounts instead of parts")
    if _unwritten(s, "power"):
        yield Hit("E", ("decision",), "no power is written down", "write 'power: 0.8' under 'decision'")


def _alpha(s: Subject) -> Iterator[Hit]:
    if _unwritten(s, "alpha"):
        yield Hit("E", ("decision",), "no alpha is written down", "write 'alpha: 0.05' under 'decision'")


def _correction(s: Subject) -> Iterator[Hit]:
    if len(_success(s)) > 1 and (_unwritten(s, "correction") or s.launch.decision.correction == "none"):
        yield Hit(
            "E",
            ("decision",),
            f"{len(_success(s))} success metrics and no correction",
            "write 'correction: holm' under 'decision'",
        )
    if (k := len(s.launch.arms.treatment)) > 1:
        said = f"{k} treatments, each judged at the full alpha"
        yield Hit("W", ("arms",), said, f"divide 'alpha' by {k}, or say in 'stopping' which of them decides")


def _novelty(s: Subject) -> Iterator[Hit]:
    if not s.launch.decision.novelty.strip():
        yield Hit(
            "W",
            ("decision",),
            "no plan for novelty",
            "write under 'decision: {novelty: …}' which early and late days, or new and old members, are compared",
        )


def _stopping(s: Subject) -> Iterator[Hit]:
    if not s.launch.decision.stopping.strip():
        yield Hit(
            "E",
            ("decision",),
            "no stopping rule",
            "write under 'decision: {stopping: …}' on which day it is read, and what may end it earlier",
        )


def _unit(s: Subject) -> Iterator[Hit]:
    if s.launch.unit is None:
        yield Hit("E", ("unit",), "no unit of randomisation", "write 'unit: {randomised: account, analysed: account}'")


def _powered(s: Subject) -> Iterator[Hit]:
    star = s.launch.plan[0]
    asked, at = star.target or star.detect, ("metrics", "north_star")
    if asked is None:
        yield Hit(
            "W",
            at,
            "the primary metric has neither 'target' nor 'detect': which change must be seen?",
            "write under 'detect' which change would be worth acting on",
        )
    elif (spread := s.spread(star)) is None:
        alike = "lint with --data: no planning number tells how alike the accounts of a cluster are"
        needed = alike if s.launch.cluster else "give 'baseline:' and 'sd:' from earlier weeks, or lint with --data"
        yield Hit("W", at, "the power of the primary metric is not known before data", needed)
    else:
        chance = power(size(asked, spread.baseline), spread.se, s.launch.alpha(star))
        if chance < 0.8:
            yield Hit(
                "E" if chance < 0.5 else "W",
                at,
                f"a true change of {asked.text} in the primary metric would be found in {chance:.0%} of cases",
                "plan more accounts or days, or ask for what can be seen",
            )


def _achievable(s: Subject) -> Iterator[Hit]:
    for at, p in s.entries():
        spread = s.spread(p)
        if p.limit is None or spread is None or not (p.role == "guardrail" or p.equivalence):
            continue
        margin, what = size(p.limit, spread.baseline), "guardrail" if p.role == "guardrail" else "metric"
        error = spread.beside(p.limit)
        chance = power(margin, error, s.launch.error(p.metric.name))
        chance = max(2 * chance - 1, 0) if p.equivalence else chance  # both sides have to be excluded
        if margin == 0 or error > HOPELESS * margin:
            yield Hit(
                "E",
                at,
                f"{what} '{p.metric.name}' has an error ({figures(error)}) of more than {HOPELESS:.0%} of its "
                f"margin {p.limit.text} ({figures(margin)}): a harmless launch would pass in {chance:.0%} of cases",
                "plan more accounts, widen the margin with its owner, or watch it without letting it decide",
            )
        elif chance < s.launch.decision.power:
            yield Hit(
                "W",
                at,
                f"a harmless launch passes {what} '{p.metric.name}' ({p.limit.text}) in {chance:.0%} of cases",
                "plan more accounts or days, or a margin that can be shown",
            )


def _finer(s: Subject) -> Iterator[Hit]:
    unit = s.launch.unit
    if unit and UNITS.index(unit.analysed) > UNITS.index(unit.randomised) and not unit.errors:
        yield Hit(
            "E",
            ("unit",),
            f"{unit.randomised}s were drawn, {unit.analysed}s are analysed as if they had been",
            f"write 'errors: cluster' or 'errors: delta', or analyse {unit.randomised}s",
        )
    elif unit and unit.together and unit.errors == "delta":
        yield Hit(
            "W",
            ("unit", "errors"),
            f"{unit.randomised}s were drawn; errors are worked out over them, whatever 'errors' says",
            "write 'errors: cluster'",
        )
    if unit and unit.randomised == "region" and unit.together:
        yield Hit(
            "W",
            ("unit", "randomised"),
            "regions are few and unlike one another: only large effects show, and of 3 and 4 nothing",
            "draw accounts or households, or say in 'overrides: {R9: …}' how many regions are drawn and why",
        )


def _horizon(s: Subject) -> Iterator[Hit]:
    dates, days = s.launch.dates, s.launch.days
    if dates is None:
        yield Hit("W", ("dates",), "no horizon is planned", "write 'dates: {start: …, days: 28}'")
        return
    at = ("dates", "days")
    if days % 7:
        yield Hit("W", at, f"{days} days are not whole weeks; weekdays differ", "plan a multiple of 7 days")
    if days < 14:
        yield Hit("W", at, f"{days} days are fewer than two weeks", "plan at least 14 days")
    for place, p in s.entries():
        if p.metric.window_days and p.metric.window_days > days:
            yield Hit(
                "W",
                place,
                f"'{p.metric.name}' needs {p.metric.window_days} days, the launch observes {days}",
                "lengthen the launch or shorten the metric's window",
            )


def _segments(s: Subject) -> Iterator[Hit]:
    segments, at = s.launch.segments, ("segments",)
    if not segments:
        yield Hit("W", at, "no segments are declared", "name the few in which the effect may differ, before it is seen")
    elif len(segments) > SEGMENTS:
        yield Hit(
            "W",
            at,
            f"{len(segments)} segments are declared; in one of so many chance makes a difference",
            f"keep at most {SEGMENTS}",
        )
    elif s.arms and min(s.arms) < PER_SEGMENT * len(segments):
        yield Hit(
            "W",
            at,
            f"{len(segments)} segments for {min(s.arms):,} accounts in the smaller arm",
            f"plan {PER_SEGMENT:,} accounts a segment, or fewer segments",
        )


def _outliers(s: Subject) -> Iterator[Hit]:
    if s.launch.outliers in (None, Outliers()) and any(
        p.metric.kind in ("mean", "count") and p.metric.cap is None for p in s.launch.plan
    ):
        yield Hit("W", ("outliers",), "no rule for outliers", "write 'outliers: {rule: …}', also when all stay in")


def _kinds(s: Subject) -> Iterator[Hit]:
    for at, p in s.entries():
        kind, numerator = p.metric.kind, p.metric.numerator
        wrong = {
            "proportion": numerator.agg not in ("any", "value") and numerator.at_least is None,
            "mean": numerator.agg == "any" and numerator.per is None,
            "count": numerator.agg in ("any", "mean", "min", "max"),
        }.get(kind, False)
        if wrong:
            yield Hit(
                "W",
                at,
                f"'{p.metric.name}': kind '{kind}' does not fit '{numerator.agg}' of events",
                "a proportion is 'any' of an event, a count counts, a mean sums",
            )


def _twyman(s: Subject) -> Iterator[Hit]:
    past = s.launch.decision.past_lifts
    limit = abs(past.value) if past and past.relative else PAST_LIFT
    known = "past lifts here" if past else "lifts that mature services see (assumed; give 'past_lifts')"
    for at, p in s.entries():
        if p.target and p.target.relative and abs(p.target.value) > limit:
            yield Hit(
                "I",
                at,
                f"the target {p.target.text} of '{p.metric.name}' is beyond {limit:.0%}, the top 5% of {known}",
                "check whether a gain of this size was ever true; plan for a smaller one",
            )


def _sampling(s: Subject) -> Iterator[Hit]:
    frame, sampling = s.launch.frame, s.launch.sampling
    if frame is None:
        yield Hit("W", ("frame",), "not said how accounts came into the frame", "write 'frame: {recruited: random}'")
        return
    population = sampling is not None and sampling.objective == "population"
    if population and sampling is not None and any(not isinstance(rule, str) for rule in sampling.exclude or ()):
        yield Hit(
            "W",
            ("sampling", "exclude"),
            "some accounts are excluded by their attributes: the population is then what is left",
            "say so in 'context: {who: …}', and do not speak for the others",
        )
    if frame.recruited != "random":
        if population and not frame.weights.strip():
            yield Hit(
                "E",
                ("frame", "recruited"),
                f"{frame.recruited} accounts are to speak for the population, without weights",
                "draw at random, say under 'weights' how they are weighted, or change 'objective'",
            )
        yield Hit(
            "W",
            ("frame", "recruited"),
            "who joins of their own will is keener than the rest, weights or not",
            "randomise the invitation, and compare those who were invited",
        )
    if frame.devices_left_out:
        yield Hit(
            "W",
            ("frame", "devices_left_out"),
            f"not covered: {', '.join(frame.devices_left_out)}",
            "cover them, or speak of the covered devices only",
        )
    if frame.needs:
        yield Hit(
            "I",
            ("frame", "needs"),
            f"accounts without {frame.needs} cannot use it: what it does for the others is not its effect on everybody",
            "draw some without it, read their effect in 05, and open it to them only then",
        )
    if frame.left_out and population:
        yield Hit(
            "E",
            ("frame", "left_out"),
            f"the population is to be estimated without: {', '.join(frame.left_out)}",
            "no weight makes up for a group of which nobody is there: include it, or change 'objective'",
        )


def _privacy(s: Subject) -> Iterator[Hit]:
    launch, privacy = s.launch, s.launch.privacy
    strata = launch.sampling.strata if launch.sampling else ()
    named = [
        ("data", launch.data.account),
        *(("segments", c) for c in launch.segments),
        *(("sampling", c) for c in strata),
    ]
    named += [("metrics", str(m.column)) for p in launch.plan for m in p.metric.measures if m.column]
    for part, column in dict.fromkeys(named):
        if _IDENTIFIER.search(column):
            yield Hit(
                "E", (part,), f"column '{column}' looks like a direct identifier", "use a pseudonym, or leave it out"
            )
    for key, value in (("legal_basis", privacy.legal_basis.strip()), ("retention_days", privacy.retention_days)):
        if not value:
            yield Hit("E", ("privacy",), f"no {key}", f"write '{key}:' under 'privacy'")
    if privacy.minors == "included" or "minors" not in privacy.model_fields_set:
        yield Hit("E", ("privacy",), "minors are not excluded", "write 'minors: excluded' under 'privacy'")
    if privacy.k < SMALL_CELL:
        yield Hit(
            "W", ("privacy", "k"), f"groups of {privacy.k} accounts may be shown", f"show none below {SMALL_CELL}"
        )


def _calendar(s: Subject) -> Iterator[Hit]:
    launch = s.launch
    if launch.calendar is None:
        yield Hit(
            "W",
            ("calendar",),
            "nobody looked at the calendar",
            "list holidays, campaigns and changes of price; [] if none",
        )
        return
    if launch.dates is None:
        return
    first = launch.dates.start - dt.timedelta(days=launch.pre_days)
    last = launch.dates.start + dt.timedelta(days=launch.days - 1)
    for i, event in enumerate(launch.calendar):
        if event.start <= last and event.last >= first:
            yield Hit(
                "W",
                ("calendar", i),
                f"'{event.event}' ({event.start} to {event.last}) falls into the launch or before it",
                "move the launch, or compare with control only, never with the weeks before",
            )


def _rollout(s: Subject) -> Iterator[Hit]:
    told = s.launch.rollout.model_dump() if s.launch.rollout else {}
    if missing := [
        key for key in ("holdback", "capacity_limit", "rollback_owner") if not str(told.get(key, "")).strip()
    ]:
        yield Hit(
            "W", ("rollout",), f"not said: {', '.join(missing)}", "write them under 'rollout' before the first stage"
        )


def _decision(s: Subject) -> Iterator[Hit]:
    if missing := [verdict for verdict in get_args(Decision) if verdict not in s.launch.decision.actions]:
        yield Hit(
            "E",
            ("decision", "actions"),
            f"no action for: {', '.join(missing)}",
            "say under 'decision: {actions: …}' what is done at each verdict, also when nothing can be told",
        )


_ESTIMATE, _ANSWER, _SEE = (
    "04_analysis: The estimate",
    "04_analysis: The answer",
    "03_metrics: The estimate: what can each metric see?",
)
RULES = (
    Rule(
        id="R1",
        title="Size and power",
        check=_size,
        section="00_overview: How small an effect could be seen",
        why="without a planned size nobody knows which answers are possible",
    ),
    Rule(
        id="R2",
        title="Alpha",
        check=_alpha,
        section=_ESTIMATE,
        why="how often one is willing to be fooled is a decision, and no default",
    ),
    Rule(
        id="R3",
        title="Correction",
        check=_correction,
        section=_ESTIMATE,
        why="the more successes are tried, the more often one comes by chance",
    ),
    Rule(
        id="R4",
        title="Novelty",
        check=_novelty,
        section="04_analysis: What this cannot tell",
        why="people try what is new; the first week is not the second year",
    ),
    Rule(
        id="R5",
        title="Stopping rule",
        check=_stopping,
        section="04_analysis: What this cannot tell",
        why="who may stop at any good day finds effects in launches that do nothing",
    ),
    Rule(
        id="R6",
        title="Unit",
        check=_unit,
        section="04_analysis: The estimate",
        why="what was drawn by chance is what can be compared",
    ),
    Rule(
        id="R7",
        title="Power of the primary",
        check=_powered,
        section=_SEE,
        why="a launch that cannot see its own target wastes its accounts, and what it finds is exaggerated",
    ),
    Rule(
        id="R8",
        title="Power of the guardrails",
        check=_achievable,
        section=_SEE,
        why="a guardrail that cannot pass stops every launch, and is soon ignored",
    ),
    Rule(
        id="R9",
        title="Finer than drawn",
        check=_finer,
        section="03_metrics: Trying to break it: the copied formula",
        why="events of one account resemble each other; counting them as people makes errors too small",
    ),
    Rule(
        id="R10",
        title="Horizon",
        check=_horizon,
        section="04_analysis: What this cannot tell",
        why="weekdays differ, and what is read too early is novelty",
    ),
    Rule(
        id="R11",
        title="Segments",
        check=_segments,
        section="04_analysis: What this cannot tell",
        why="among many groups one always looks special; afterwards it is easily believed",
    ),
    Rule(
        id="R12",
        title="Outliers",
        check=_outliers,
        section="03_metrics: A picture before any model",
        why="a rule chosen after the outlier was seen chooses the result",
    ),
    Rule(
        id="R13",
        title="Kind of metric",
        check=_kinds,
        section="03_metrics: The dictionary",
        why="a test for shares on minutes, or for counts on shares, has the wrong error",
    ),
    Rule(
        id="R14",
        title="Too good to be planned",
        check=_twyman,
        section="04_analysis: The answer",
        why="a figure that looks surprising is usually wrong; a plan that needs one usually fails",
    ),
    Rule(
        id="S1",
        title="Sampling",
        check=_sampling,
        section="01_sampling: What this cannot tell",
        why="accounts speak for those who could have been drawn in their place",
    ),
    Rule(
        id="P1",
        title="Privacy",
        check=_privacy,
        section="00_overview: What was asked",
        why="viewing histories are personal; what need not be there cannot leak",
    ),
    Rule(
        id="C1",
        title="Calendar",
        check=_calendar,
        section="04_analysis: What this cannot tell",
        why="a holiday moves viewing more than any launch does",
    ),
    Rule(
        id="L1",
        title="Rollout",
        check=_rollout,
        section="04_analysis: The answer",
        why="what went well small can fail large; somebody must be able to take it back",
    ),
    Rule(
        id="D1",
        title="Decision rule",
        check=_decision,
        section=_ANSWER,
        why="an outcome without an action is argued about when its price is known",
    ),
)
