"""Rules about what is measured: vanity, overload, guardrails, counter-metrics, and the question behind it all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from helpers.launch.entry import Planned
from helpers.launch.families import family
from helpers.linter.rule import Hit, Rule, Subject
from helpers.metrics import CATALOGUE, UNITS_TABLE, Measure
from helpers.power import belief

FAMILIES = {
    "netflix": ("retention", "satisfaction", "technical", "ecosystem", "support"),
    "prime": ("retention", "satisfaction", "technical", "ecosystem", "support", "effort"),
}
COUNTERS = {  # what suffers when a target is reached the wrong way
    "hours": "intentional_start_share or regret_rate",
    "start": "a completion rate",
    "session": "browse_to_play, or the time to the first play",
    "discovery": "the share of small creators",
    "opens": "notification opt-outs, or survey_score",
    "browse_to_play": "regret_rate",
}
SUCCESS_LIMIT, DECISION_LIMIT = 5, 7
_TOTAL = re.compile(
    r"\b(total|cumulative|overall number|grand|all[- ]time|so far|registered|registrations|sign-?ups|downloads)\b", re.I
)
_PER = re.compile(r"\b(per|share|rate|average|mean|of (all|assigned))\b", re.I)
_ONE_ARM = re.compile(r"\b(from|of|by) the new (algorithm|ranking|model|feature|page)\b", re.I)


def _own_words(p: Planned) -> str:
    """Join a metric's name and title; a catalogue metric's words are known to be sound."""
    known = CATALOGUE.get(p.metric.name)
    words = "" if known and known.title == p.metric.title else f"{p.metric.name} {p.metric.title}"
    return words.replace("_", " ")


def _vanity(s: Subject) -> Iterator[Hit]:
    for at, p in s.entries():
        words = _own_words(p)
        if (found := _TOTAL.search(words)) and not _PER.search(words) and p.metric.denominator is None:
            yield Hit(
                "E",
                at,
                f"'{p.metric.name}' speaks of a total ({found[0]!r})",
                "name the number per assigned account, and say over which window",
            )


def _moving_denominator(s: Subject) -> Iterator[Hit]:
    star = s.launch.plan[0]
    if (bottom := star.metric.denominator) is not None:
        yield Hit(
            "W",
            ("metrics", "north_star"),
            f"the primary metric divides by {_moving(bottom)}",
            "make the numerator per assigned account primary, and keep the ratio as its decomposition",
        )


def _moving(bottom: Measure) -> str:
    what = bottom.column or "units" if bottom.table == UNITS_TABLE else bottom.table
    return f"'{what}', whose number the launch itself can change"


def _one_arm(s: Subject) -> Iterator[Hit]:
    for at, p in s.entries():
        columns = {c.column for m in p.metric.measures for c in m.where}
        if columns & {"recommended", "is_launch_title"}:
            what = "what only the treatment can have"
        elif _ONE_ARM.search(_own_words(p)):
            what = "what the words tie to the treatment alone"
        else:
            continue
        yield Hit(
            "W",
            at,
            f"'{p.metric.name}' counts {what}; in control it is 0 or not defined",
            "score both arms alike (shadow_recommended), or read it as a description of the treatment",
        )


def _overload(s: Subject) -> Iterator[Hit]:
    roles = [p.role for p in s.launch.plan]
    supporting = roles.count("supporting")
    deciding = 1 + supporting + roles.count("guardrail")
    alpha = s.launch.error()
    for n, limit, layer, what in (
        (supporting, SUCCESS_LIMIT, "supporting", "supporting metrics"),
        (deciding, DECISION_LIMIT, "", "metrics take part in the decision"),
    ):
        if n > limit:
            yield Hit(
                "W",
                ("metrics", *([layer] if layer else [])),
                f"{n} {what}, at most {limit} are kept in mind; uncorrected, {n} tests at {alpha:.0%} would "
                f"give a false alarm in {belief.any_false_alarm(n, alpha=alpha):.0%} of launches that change nothing",
                "rank them, and move those that decide nothing to 'operational' or 'satisfaction'",
            )


def _layers(s: Subject) -> Iterator[Hit]:
    filled = {p.role for p in s.launch.plan}
    for layer in ("supporting", "operational", "satisfaction"):  # of guardrails speaks G1
        if layer not in filled:
            yield Hit("E", ("metrics",), f"the layer '{layer}' is empty", f"name at least one metric under '{layer}'")


def _one_north_star(_: Subject) -> Iterator[Hit]:
    yield from ()  # a launch that can be loaded has exactly one; `lint_file` speaks of those that have not


def _guardrails(s: Subject) -> Iterator[Hit]:
    if not any(p.role == "guardrail" for p in s.launch.plan):
        yield Hit(
            "E",
            ("metrics",),
            "there is no guardrail",
            "ask what could go wrong, and give each answer a metric with a margin under 'guardrails'",
        )


def _families(s: Subject) -> Iterator[Hit]:
    guarded = {family(p) for p in s.launch.plan if p.role == "guardrail"}
    missing = [f for f in FAMILIES[s.launch.service] if f not in guarded]
    if missing and guarded:
        yield Hit(
            "W",
            ("metrics", "guardrails"),
            f"no guardrail watches: {', '.join(missing)}",
            "add one each, or write 'family:' beside the guardrail that covers it",
        )


def _whole_guardrails(s: Subject) -> Iterator[Hit]:
    for at, p in s.entries():
        if p.role != "guardrail":
            continue
        named = {"harm": p.harm, "owner": p.owner, "on_breach": p.on_breach}
        if missing := [key for key, value in named.items() if not value.strip()]:
            yield Hit(
                "E",
                at,
                f"guardrail '{p.metric.name}' lacks {', '.join(missing)}",
                "say whom its breach harms, who owns it, and what is done on a breach",
            )
        if s.spread(p) is None:
            yield Hit(
                "I",
                at,
                f"guardrail '{p.metric.name}' has its margin in one scale only ({_text(p)})",
                "give 'baseline:' (and 'sd:'), so that it stands in the plan relative and absolute",
            )


def _text(p: Planned) -> str:
    return p.limit.text if p.limit else "none"


def _premortem(s: Subject) -> Iterator[Hit]:
    names = {p.metric.name for p in s.launch.plan}
    if not s.launch.risks:
        yield Hit(
            "W",
            ("risks",),
            "no pre-mortem: nobody wrote down what could go wrong",
            "list risks, each with the metric that would show it, or with who accepted it",
        )
    for i, risk in enumerate(s.launch.risks):
        if risk.metric and risk.metric not in names:
            yield Hit(
                "W",
                ("risks", i),
                f"risk '{risk.risk}' points to '{risk.metric}', which is not in the plan",
                "name a metric of the plan, or who accepts the risk",
            )
        elif not risk.metric and not risk.accepted.strip():
            yield Hit(
                "W",
                ("risks", i),
                f"risk '{risk.risk}' has no metric and nobody accepted it",
                "write 'metric:' or 'accepted:' with a name",
            )


def _counters(s: Subject) -> Iterator[Hit]:
    names = {p.metric.name for p in s.launch.plan}
    for at, p in s.entries():
        if p.role not in ("north_star", "supporting") or (p.target is None and not p.counter):
            continue
        hint = next((c for word, c in COUNTERS.items() if word in p.metric.name), "what would suffer if it were gamed")
        if not p.counter:
            yield Hit("W", at, f"'{p.metric.name}' has a target and no counter-metric", f"add 'counter:', {hint}")
        elif p.counter not in names:
            yield Hit(
                "W",
                at,
                f"the counter-metric '{p.counter}' of '{p.metric.name}' is not in the plan",
                "add it to a layer of the plan, so that it is measured",
            )


def _orphans(s: Subject) -> Iterator[Hit]:
    names = {p.metric.name for p in s.launch.plan}
    for at, p in s.entries():
        if p.drives and (p.drives not in names or p.drives == p.metric.name):
            yield Hit(
                "E",
                (*at, "drives"),
                f"'{p.metric.name}' drives '{p.drives}', no other metric of the plan",
                "name the metric that it is meant to move; without 'drives' that is the north star",
            )


def _context(s: Subject) -> Iterator[Hit]:
    told = s.launch.context.model_dump() if s.launch.context else {}
    fix = "ask whoever wants the launch, and write it down"
    fix += "" if told else "; until there is a 'context' this is a reading, and no objection stops its report"
    asked = {name: str(told.get(name) or "") for name in ("feature", "who", "where", "when", "constraint", "decision")}
    asked |= {"question": s.launch.question, "decision_owner": s.launch.decision_owner}
    if empty := [name for name, value in asked.items() if not value.strip()]:
        yield Hit("E", ("context",), f"not said: {', '.join(empty)}", fix)


def _customer(s: Subject) -> Iterator[Hit]:
    if s.launch.service == "prime":
        for at, p in s.entries():
            if not p.customer.strip():
                yield Hit(
                    "W",
                    at,
                    f"'{p.metric.name}' is not put in the customer's terms",
                    "add 'customer:', one line on what it means for a customer",
                )


RULES = (
    Rule(
        id="K1",
        title="Context",
        check=_context,
        section="00_overview: What was asked",
        why="a metric is right or wrong only for a decision; who, where and when decide what can be measured",
    ),
    Rule(
        id="V1",
        title="Vanity",
        check=_vanity,
        section="03_metrics: The number that always goes up",
        why="a total grows with the service, whatever the launch does, and has no comparison",
    ),
    Rule(
        id="V2",
        title="Moving denominator",
        check=_moving_denominator,
        section="03_metrics: The dictionary",
        why="a launch that wakes light users lowers a number per viewer while everybody watches more",
    ),
    Rule(
        id="V3",
        title="Defined in one arm",
        check=_one_arm,
        section="03_metrics: Trying to break it: the copied formula",
        why="a comparison with nothing is always a success",
    ),
    Rule(
        id="O1",
        title="Overload",
        check=_overload,
        section="03_metrics: The dictionary",
        why="the more numbers decide, the easier one of them looks good by chance",
    ),
    Rule(
        id="O2",
        title="One north star",
        check=_one_north_star,
        section="03_metrics: The dictionary",
        why="two first priorities cannot both be first when they disagree",
    ),
    Rule(
        id="O4",
        title="Layers",
        check=_layers,
        section="03_metrics: The dictionary",
        why="what drives the north star, whether it works technically and whether people are glad are three questions",
    ),
    Rule(
        id="O3",
        title="Orphan",
        check=_orphans,
        section="03_metrics: The dictionary",
        why="a metric that drives nothing of the plan cannot support it",
    ),
    Rule(
        id="G1",
        title="Guardrails",
        check=_guardrails,
        section="03_metrics: The number that always goes up",
        why="a launch that is judged by its gains alone can only succeed",
    ),
    Rule(
        id="G2",
        title="Families of harm",
        check=_families,
        section="03_metrics: What this cannot tell",
        why="harm shows where nobody looked: leaving, disliking, failing, crowding out, calling for help",
    ),
    Rule(
        id="G3",
        title="Whole guardrails",
        check=_whole_guardrails,
        section="04_analysis: The answer",
        why="a guardrail without margin, owner and action is a chart",
    ),
    Rule(
        id="G4",
        title="Pre-mortem",
        check=_premortem,
        section="03_metrics: What this cannot tell",
        why="a risk that was named beforehand is looked for; one that was not is explained away",
    ),
    Rule(
        id="G5",
        title="Counter-metrics",
        check=_counters,
        section="03_metrics: Engagement or satisfaction?",
        why="a number becomes worse as a measure once it is a target",
    ),
    Rule(
        id="C2",
        title="Customer's terms",
        check=_customer,
        section="03_metrics: The dictionary",
        why="a metric that cannot be said in the customer's terms may not be about the customer",
    ),
)
