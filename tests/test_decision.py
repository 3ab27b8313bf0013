"""Claims follow the interval, the verdict follows the policy over every combination, and the words stay honest."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats import weightstats
from statsmodels.stats.proportion import confint_proportions_2indep

from helpers import decision, wording
from helpers.errors import ParameterError
from helpers.inference import limits
from helpers.metrics import UNITS_TABLE, Bound, Measure, Metric
from helpers.report.readout import Readout
from helpers.results import Check, Claim, Estimate, Look, NotEstimable

FORBIDDEN = re.compile(
    r"p-value|significan|no effect|no change|maintained|unaffected|unchanged|no difference|[\u0370-\u03ff]",
    re.IGNORECASE,
)
UP10, DOWN10 = Bound(value=0.1, relative=True, text="+10%"), Bound(value=-0.1, relative=True, text="-10%")
NONE = NotEstimable(metric="m", reason="early has 0 accounts, at least 2 are needed")


def metric(better: str = "higher", title: str = "Hours watched", unit: str = "h") -> Metric:
    measure = Measure(table=UNITS_TABLE, agg="value", column="y")
    return Metric(name="m", title=title, kind="mean", numerator=measure, better=better, unit=unit)


def estimate(low: float, high: float, *, control: float = 10.0, p: float | None = None, **more) -> Estimate:
    """An interval of the relative effect; the difference follows from the control value."""
    diff = control * (low + high) / 2
    fields = {
        "metric": "m",
        "control": control,
        "treatment": control + diff,
        "diff": diff,
        "se": control * (high - low) / 3.92,
        "low": control * low,
        "high": control * high,
        "rel": (low + high) / 2,
        "rel_low": low,
        "rel_high": high,
        "p": (0.5 if low <= 0 <= high else 0.001) if p is None else p,
        "n_control": 10_000,
        "n_treatment": 10_000,
        "method": "Welch t",
        "mde": control * (high - low) / 1.4,
    }
    return Estimate(**(fields | more))


def claim(role, low, high, *, bound=None, better="higher", title="Hours watched", **more) -> Claim:
    which = "margin" if role == "guardrail" else "target"
    planned = {k: more.pop(k) for k in ("owner", "on_breach", "detect", "power", "together", "longer") if k in more}
    return decision.read(metric(better, title), estimate(low, high, **more), role=role, **{which: bound}, **planned)


# Reading one estimate


@pytest.mark.parametrize(
    ("low", "high", "status", "words"),
    [
        (0.12, 0.18, "met", "15.0% higher (between 12.0 and 18.0% higher): the target of +10% is met"),
        (0.02, 0.08, "not met", "a gain, but the target of +10% is missed"),
        (-0.02, 0.08, "not met", "3.0% higher (between 2.0% lower and 8.0% higher): the target of +10% is missed"),
        (-0.08, -0.02, "not met", "5.0% lower (between 2.0 and 8.0% lower): a loss, and the target of +10% is missed"),
        (0.05, 0.15, "cannot tell", "a gain, but whether the target of +10% is met cannot be told"),
        (-0.05, 0.15, "cannot tell", ": whether the target of +10% is met cannot be told"),
    ],
)
def test_a_target_is_met_when_the_whole_interval_lies_beyond_it(low, high, status, words):
    c = claim("supporting", low, high, bound=UP10)
    assert c.status == status
    assert words in c.words
    assert (c.bound, c.bound_text) == (pytest.approx(1.0), "+10%")


@pytest.mark.parametrize(
    ("low", "high", "status", "words"),
    [
        (-0.05, 0.05, "passed", "any harm stays within the margin of +10%"),
        (0.02, 0.08, "passed", "worse, though within the margin of +10%"),
        (-0.08, -0.02, "passed", "any harm stays within the margin of +10%"),
        (0.12, 0.3, "breached", "harm beyond the margin of +10% is established"),
        (
            -0.1,
            0.25,
            "cannot tell",
            "only a rise of more than 25% is ruled out, so harm beyond the margin of +10% remains",
        ),
        (0.05, 0.25, "cannot tell", "only a rise of more than 25% is ruled out"),
    ],
)
def test_a_guardrail_passes_when_the_whole_interval_is_inside_the_margin(low, high, status, words):
    c = claim("guardrail", low, high, bound=UP10, better="lower")
    assert c.status == status
    assert words in c.words


@pytest.mark.parametrize(("low", "high"), list(itertools.combinations([-0.3, -0.15, -0.05, 0.05, 0.15, 0.3], 2)))
@pytest.mark.parametrize("role", ["guardrail", "supporting"])
def test_a_metric_that_should_fall_reads_as_the_mirror_image_of_one_that_should_rise(role, low, high):
    up = claim(role, low, high, bound=DOWN10 if role == "guardrail" else UP10)
    down = claim(role, -high, -low, bound=UP10 if role == "guardrail" else DOWN10, better="lower")
    assert up.status == down.status
    assert decision.read(metric(), estimate(low, high), role="supporting").status == (
        decision.read(metric("lower"), estimate(-high, -low), role="supporting").status
    )


def test_a_higher_is_better_guardrail_tells_the_fall_that_is_ruled_out():
    c = claim("guardrail", -0.25, 0.1, bound=DOWN10)
    assert "only a fall of more than 25% is ruled out" in c.words
    few = replace(estimate(-22.0, 21.0, control=0.5), rel_low=None, rel_high=None)  # two answers in an arm
    told = decision.read(replace(metric(), unit="share"), few, role="guardrail", margin=DOWN10).words
    assert "(between 100 percentage points lower and 100 percentage points higher)" in told
    rare = replace(metric(), kind="proportion")  # of which no more than all can go
    e = estimate(-0.998, 135.9, control=0.002)
    c = decision.read(rare, e, role="guardrail", margin=DOWN10)
    assert c.words.endswith("a fall to nothing is not ruled out, so harm beyond the margin of -10% remains possible.")
    assert not wording.unplain(c.words)


def test_an_absolute_bound_is_read_on_the_difference_and_a_relative_one_on_the_relative_effect():
    e = estimate(0.02, 0.08, control=0.5, rel_low=0.11, rel_high=0.2)
    share = metric(unit="share")
    absolute = decision.read(share, e, role="supporting", target=Bound(value=0.02, relative=False, text="+2pp"))
    assert absolute.status == "cannot tell"
    assert "2.5 percentage points higher (between 1.0 and 4.0 percentage points higher)" in absolute.words
    assert absolute.bound == 0.02
    assert decision.read(share, e, role="supporting", target=UP10).status == "met"


def test_a_relative_bound_without_a_relative_interval_cannot_be_checked():
    e = estimate(-0.05, 0.05, rel=None, rel_low=None, rel_high=None, note="no relative effect, because ...")
    c = decision.read(metric("lower"), e, role="guardrail", margin=UP10)
    assert c.status == "cannot tell"
    assert "+10% cannot be checked, no relative effect" in c.words
    assert "h lower" in c.words


@given(
    control=st.floats(0, 5), change=st.floats(-20, 20), se=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)),
    margin=st.floats(0.01, 0.9), better=st.sampled_from(["lower", "higher"]),
)  # fmt: skip
def test_harm_beyond_a_margin_of_next_to_nothing_is_certain_only_where_the_linear_contrast_says_so(
    control, change, se, margin, better
):
    """T - (1 + m) C by its own error (Sasabuchi's test of a ratio), which the claim, knowing but that of T - C, exceeds."""
    way, half = 1 if better == "lower" else -1, 1.96 * np.hypot(*se)
    fields = {"diff": change, "low": change - half, "high": change + half, "treatment": control + change}
    e = replace(estimate(0, 0), **fields, control=control, rel=None, rel_low=None, rel_high=None)
    bound = Bound(value=way * margin, relative=True, text="m")
    c = decision.read(metric(better), e, role="guardrail", margin=bound)
    contrast = way * (change - way * margin * control)
    if c.status == "breached":
        assert contrast > 1.96 * np.hypot((1 + way * margin) * se[0], se[1])
    else:
        assert c.status == "cannot tell"
        assert contrast <= 1.96 * (1 + margin) * np.hypot(*se) + 1e-9


def test_crashes_that_control_has_none_of_are_rolled_back():
    fields = {"control": 0.0, "diff": 0.0037, "low": 0.0027, "high": 0.0047, "treatment": 0.0037}
    none = {"rel": None, "rel_low": None, "rel_high": None, "note": "no relative effect, because ..."}
    e = replace(estimate(0, 0), **fields, **none)
    c = decision.read(metric("lower", unit="share"), e, role="guardrail", margin=UP10, on_breach="roll back")
    assert c.status == "breached"
    assert c.words.endswith("percentage points higher): harm beyond the margin of +10% is established.")
    assert decision.rolls_back(c)


def test_better_needs_the_correction_for_several_metrics_and_worse_does_not():
    assert claim("north_star", 0.01, 0.05, p=0.01).status == "better"
    assert claim("north_star", 0.01, 0.05, p=0.01, p_adjusted=0.06).status == "cannot tell"
    assert claim("north_star", -0.05, -0.01, p=0.01, p_adjusted=0.06).status == "worse"


def test_a_guardrail_without_a_margin_is_read_against_zero():
    assert claim("guardrail", 0.01, 0.05, better="lower").words.endswith("worse, and no margin was set.")
    c = claim("guardrail", -0.01, 0.05, better="lower")
    assert c.status == "cannot tell"
    assert c.words.endswith("only a rise of more than 5.0% is ruled out, and no margin was set.")


def test_what_is_not_estimable_says_so():
    c = decision.read(metric(), NONE, role="guardrail", margin=DOWN10)
    assert (c.status, c.bound) == ("not estimable", None)
    assert "could not be estimated: early has 0 accounts" in c.words


def test_bounds_on_the_wrong_side_are_refused():
    with pytest.raises(ParameterError, match=r"margin \+10% of m points to the good side"):
        decision.read(metric(), NONE, role="guardrail", margin=UP10)
    with pytest.raises(ParameterError, match="target -10% of m points to the bad side"):
        decision.read(metric(), NONE, role="supporting", target=DOWN10)


@given(
    ends=st.tuples(st.floats(-0.99, 5), st.floats(-0.99, 5)),
    size=st.floats(0.001, 1),
    role=st.sampled_from(["north_star", "supporting", "guardrail", "operational", "satisfaction"]),
    better=st.sampled_from(["higher", "lower"]),
    bounded=st.booleans(),
    relative=st.booleans(),
    p_adjusted=st.sampled_from([None, 0.01, 0.9]),
)
def test_no_claim_says_that_nothing_changed(ends, size, role, better, bounded, relative, p_adjusted):
    good = 1 if better == "higher" else -1
    sign = -good if role == "guardrail" else good
    bound = Bound(value=sign * size, relative=relative, text="the bound") if bounded else None
    c = claim(role, min(ends), max(ends), bound=bound, better=better, p_adjusted=p_adjusted)
    assert not FORBIDDEN.search(c.words)
    assert c.words.endswith(".")
    assert c.words.count(". ") == 0


# The verdict

CHECKS = {"valid": (True, True), "unasked": (True, None), "invalid": (True, False)}
GUARDRAILS = {
    "none": None,
    "passed": {"low": -0.05, "high": 0.05, "bound": UP10},
    "worse within the margin": {"low": 0.01, "high": 0.05, "bound": UP10},
    "cannot tell": {"low": -0.1, "high": 0.25, "bound": UP10},
    "breached": {"low": 0.15, "high": 0.25, "bound": UP10},
    "breached, to pause": {"low": 0.15, "high": 0.25, "bound": UP10, "on_breach": "Pause", "owner": "player"},
    "no margin, worse": {"low": 0.01, "high": 0.05},
    "no margin, better": {"low": -0.05, "high": -0.01},
    "no margin, cannot tell": {"low": -0.05, "high": 0.05},
    "not estimable": "not estimable",
}
SUCCESSES = {
    "none": None,
    "met": {"low": 0.12, "high": 0.18, "bound": UP10},
    "better, target missed": {"low": 0.02, "high": 0.08, "bound": UP10},
    "better, target open": {"low": 0.05, "high": 0.15, "bound": UP10},
    "better before correction only": {"low": 0.05, "high": 0.15, "bound": UP10, "p_adjusted": 0.2},
    "open": {"low": -0.05, "high": 0.15, "bound": UP10},
    "target missed": {"low": -0.02, "high": 0.08, "bound": UP10},
    "worse, target missed": {"low": -0.08, "high": -0.02, "bound": UP10},
    "better": {"low": 0.02, "high": 0.08},
    "worse": {"low": -0.08, "high": -0.02},
    "cannot tell": {"low": -0.08, "high": 0.02},
    "to detect, open": {"low": -0.05, "high": 0.15, "detect": UP10},
    "to detect, ruled out": {"low": -0.02, "high": 0.08, "detect": UP10},
    "better, but less than to detect": {"low": 0.02, "high": 0.08, "detect": UP10},
    "not estimable": "not estimable",
}

# The policy (spec, decisions: "order of evaluation, first match wins"), with what each input is called there. Written by
# hand beside the numbers above: nothing here is read from the code.
FACTS = {
    "invalid": "check failed", "breached": "harm", "no margin, worse": "harm", "breached, to pause": "harm to pause",
    "cannot tell": "guardrail open", "no margin, cannot tell": "guardrail open", "not estimable": "guardrail open",
}  # fmt: skip
SUCCESS_FACTS = {
    "won": {"met", "better, target missed", "better, target open", "better", "better, but less than to detect"},
    "lost": {"worse, target missed", "worse"},
    "ruled out": {"target missed", "to detect, ruled out"},
    "open": {"better before correction only", "open", "cannot tell", "to detect, open"},
    "unread": {"not estimable"},
}
NO_LOSS = ("lost", "lost satisfaction")
POLICY = (  # what must be so, what must not be so, the verdict, and what its sentence begins with
    (("check failed",), (), "INVALID", "The data cannot be trusted"),  # 1. valid?
    (("harm",), (), "ROLL BACK", "Roll back: harm is established for"),  # 2. harm?
    (("harm to pause",), (), "HOLD", "Hold: pause, harm is established for"),
    (("harm to roll back in a group",), (), "ROLL BACK", "Roll back: harm that the average hides is established."),
    (("harm to pause in a group",), (), "HOLD", "Hold: pause, harm that the average hides is established."),
    (("harm in a group",), (), "HOLD", "Hold: harm that the average hides is established."),
    (("guardrail open",), (), "HOLD", "Hold: harm "),  # 3. guardrails non-inferior?
    (("won", "lost"), (), "HOLD", "Hold: "),  # 4. and 5. success that can be trusted?
    (("won", "lost satisfaction"), (), "HOLD", "Hold: "),
    (("won", "doubt"), (), "HOLD", "Hold and replicate: "),
    (("won", "last stage"), (), "SHIP", "Ship: "),  # 6. otherwise
    (("won",), (), "PROCEED", "Proceed to the next stage: "),
    (("ruled out",), ("open", "unread"), "DELAY/REWORK", "Delay and rework: the gain that was asked for is ruled out"),
    (("lost",), ("open", "unread"), "DELAY/REWORK", "Delay and rework: "),
    (("segment",), (*NO_LOSS, "doubt"), "TARGETED", "Target: over all accounts no gain is shown"),
    ((), (), "HOLD", "Hold: "),
)
FIRST, SECOND = "Hours watched", "Discovery"


def built(role, spec, **more):
    if spec is None:
        return []
    if spec == "not estimable":
        return [decision.read(metric(title=more.get("title", "Hours watched")), NONE, role=role)]
    return [claim(role, **spec, **more)]


def expected(facts):
    return next(line for line in POLICY if set(line[0]) <= facts and not set(line[1]) & facts)


def test_every_combination_gives_the_verdict_of_the_policy_and_a_sentence_that_says_why():
    seen = set()
    guards = {k: built("guardrail", v, better="lower", title="Crashes") for k, v in GUARDRAILS.items()}
    first = {k: built("north_star", v, title=FIRST) for k, v in SUCCESSES.items()}
    second = {k: built("supporting", v, title=SECOND) for k, v in SUCCESSES.items()}
    pleased = {k: built("satisfaction", SUCCESSES[k], title="Score") for k in ("none", "worse", "cannot tell")}
    doubt = Check(name="Fades", passed=False, detail="The effect of the second week is half of the first's. " * 3)
    group = Check(name="Harm in a group", passed=False, detail="Crashes in region north came out 20% higher.")
    planned = {"harm in a group": "", "harm to pause in a group": "Pause", "harm to roll back in a group": "roll back"}
    hidden = [(True, False, False, name) for name in planned]
    late = [*itertools.product((False, True), (False, True), (False, True), ("",)), *hidden]
    early = [(False, False, False, ""), *hidden]
    for check, g1, g2, s1, s2, sat in itertools.product(
        CHECKS, GUARDRAILS, ("none", "passed", "cannot tell", "breached"), SUCCESSES, SUCCESSES, pleased
    ):
        reached = check == "valid" and g2 == "none" and g1 not in FACTS  # else it was decided before all these vary
        if not reached and s2 not in ("none", "better", "worse, target missed", "not estimable"):
            continue
        common = {FACTS[x] for x in (check, g1, g2) if x in FACTS}
        of = {s: {f for f, names in SUCCESS_FACTS.items() if s in names} for s in (s1, s2)}
        common |= of[s1] | of[s2] | ({"lost satisfaction"} if sat == "worse" else set())
        checks = [Check(name=f"Check {i}", passed=p, detail=f"Detail {i}.") for i, p in enumerate(CHECKS[check])]
        claims = [*pleased[sat], *second[s2], *first[s1], *guards[g1], *guards[g2]]
        for last, doubted, where, name in late if reached else early:
            more = {"last stage": last, "doubt": doubted, "segment": where, name: True}
            harm = [replace(group, on_breach=planned[name])] if name else []
            facts = common | {name for name, so in more.items() if so}
            verdict = decision.decide(
                checks, claims, harm=harm, trust=[doubt] * doubted,
                targeted=["device tv"] * where, last_stage=last,
            )  # fmt: skip
            _, _, wanted, begins = line = expected(facts)
            assert verdict.decision == wanted, (verdict, facts)
            assert verdict.sentence.startswith(begins), (verdict, facts)
            assert len(verdict.sentence.split()) <= 60
            assert len(verdict.headline) <= 145  # two lines of a page 900 pixels wide, as seen in Chromium
            assert verdict.sentence == f"{verdict.headline} {verdict.rest}".strip()
            assert not FORBIDDEN.search(verdict.sentence)
            if wanted in ("PROCEED", "SHIP"):
                _says_what_is_left(verdict.sentence, {SECOND: s2, FIRST: s1})
            elif line in POLICY[-4:]:
                _says_what_is_so(verdict, {SECOND: of[s2], FIRST: of[s1]}, facts)
            seen.add(line)
    assert seen == set(POLICY)


def _says_what_is_left(sentence, titles):
    """Hold a sentence about a win against what is open and what falls short of its target beside it."""
    rest, _, short = sentence.partition(" Short of what was asked: ")
    _, _, left = rest.partition(" Still open: ")
    for title, spec in titles.items():
        assert (title in left) == (spec in SUCCESS_FACTS["open"] | {"better, target open"})
        assert (title in short) == (spec in SUCCESS_FACTS["ruled out"] | {"better, target missed"})


def _says_what_is_so(verdict, titles, facts):
    """Hold a sentence without a win against the facts: each metric is named where it belongs, and nowhere else."""
    said, delayed = verdict.sentence, verdict.decision == "DELAY/REWORK"
    of = {f: [t for t, mine in titles.items() if f in mine] for f in ("open", "ruled out", "lost", "unread")}
    of["lost"] = ["Score"] * ("lost satisfaction" in facts and not delayed) + of["lost"]
    phrases = {
        "open": "a gain is neither shown nor ruled out for {}",
        "ruled out": "is ruled out for {}",
        "lost": "{} got worse" if delayed else "Worse already: {}.",
        "unread": "Not estimable: {}.",
    }
    if verdict.decision == "TARGETED":
        of = {key: [] for key in of}
    elif not {"open", "ruled out", "lost", "lost satisfaction"} & facts:
        assert "names no success metric that could be read" in said
        of["unread"] = []
    for fact, phrase in phrases.items():
        assert (phrase.format(", ".join(of[fact])) in said) == bool(of[fact]), (fact, said)
        assert of[fact] or not any(phrase.format(name) in said for name in (*titles, "Score"))
    follow = "segment" in facts and not facts & {"lost", "lost satisfaction", "doubt"}
    assert ("There is a gain in device tv" in said) == (delayed and follow)
    assert ("there is one in device tv" in said) == (verdict.decision == "TARGETED")
    waits = verdict.decision == "HOLD" and "segment" in facts
    assert ("The gain in device tv has to wait" in said) == waits


def test_a_breach_that_was_planned_to_pause_names_who_decides():
    breached = claim(
        "guardrail", 0.15, 0.25, bound=UP10, better="lower", title="Crashes", owner="player", on_breach="pause"
    )
    verdict = decision.decide([], [breached])
    assert verdict.sentence == "Hold: pause, harm is established for Crashes. What happens next is decided by player."


def test_a_gain_that_is_not_trusted_is_replicated_and_a_question_not_asked_does_not_hold_it_up():
    won = claim("north_star", 0.02, 0.08)
    doubt = Check(name="Fades", passed=False, detail="It fades.")
    assert decision.decide([], [won], trust=[doubt]).sentence.endswith("cleared up first: Fades. It fades.")
    about = replace(doubt, name=f"Fades: {won.title}")
    assert decision.decide([], [won], trust=[about]).headline.endswith("cleared up first: Fades.")
    assert (
        decision.decide([], [won], trust=[Check(name="Fades", passed=None, detail="Not asked.")]).decision == "PROCEED"
    )


def test_a_gain_in_a_segment_is_followed_up_there():
    verdict = decision.decide([], [claim("north_star", -0.02, 0.12, bound=UP10)], targeted=["device tv"])
    assert (
        verdict.sentence
        == "Target: over all accounts no gain is shown, but there is one in device tv. Follow up there."
    )


@pytest.mark.parametrize(
    ("low", "high", "missed", "words"),
    [
        (-0.02, 0.08, "+10%", "neither a gain nor a loss can be told from chance, and a gain of 10% is ruled out"),
        (0.02, 0.08, "+10%", "an improvement, though one of 10% is ruled out"),
        (-0.08, -0.02, "+10%", "a deterioration"),
        (-0.02, 0.12, "", "neither a gain nor a loss can be told from chance"),
        (0.02, 0.12, "", "an improvement"),
    ],
)
def test_what_the_launch_wants_to_detect_is_the_gain_that_can_be_ruled_out(low, high, missed, words):
    up = claim("north_star", low, high, detect=UP10)
    assert (up.missed, up.meaning) == (missed, words)
    down = claim("north_star", -high, -low, detect=DOWN10, better="lower")
    assert (down.missed, down.meaning) == (missed and "-10%", words)
    assert (up.bound, up.bound_text) == (None, "")
    points = Bound(value=1.1, relative=False, text="+1.1")
    assert claim("north_star", low, 0.1, detect=points).missed == "+1.1"
    assert claim("operational", low, 0.05, detect=UP10).missed == ""


def test_harm_in_a_group_is_weighed_before_success_and_after_harm_to_all():
    won, open_ = claim("north_star", 0.02, 0.08), claim("guardrail", -0.1, 0.25, bound=UP10, better="lower")
    found = Check(name="Harm in a group", passed=False, detail="Crashes in region north came out 20% higher.")
    verdict = decision.decide([], [won, open_], harm=[found])
    assert verdict.decision == "HOLD"
    assert verdict.sentence.endswith(
        "Crashes in region north came out 20% higher. What happens next is decided by its owner."
    )
    assert verdict.reasons[0] == found.detail
    breached = claim("guardrail", 0.15, 0.25, bound=UP10, better="lower")
    assert decision.decide([], [won, breached], harm=[found]).decision == "ROLL BACK"
    for passed in (True, None):
        assert decision.decide([], [won], harm=[replace(found, passed=passed)]).decision == "PROCEED"


def test_reasons_come_in_the_order_in_which_they_were_weighed():
    checks = [Check(name="Arm counts", passed=True, detail="As planned.")]
    claims = [
        claim("operational", 0.0, 0.1, title="Delay"),
        claim("satisfaction", -0.1, 0.1, title="Score"),
        claim("supporting", -0.1, 0.1, title="Discovery"),
        claim("north_star", 0.01, 0.1, title="Hours"),
        claim("guardrail", -0.05, 0.05, bound=DOWN10, title="Retention"),
    ]
    verdict = decision.decide(checks, claims)
    firsts = [reason.split()[0] for reason in verdict.reasons]
    assert firsts == ["As", "Retention", "Hours", "Discovery", "Score", "Delay"]


def test_an_invalid_launch_gives_no_effect_among_its_reasons():
    verdict = decision.decide(
        [Check(name="Arm counts", passed=False, detail="Too few."), Check(name="Other", passed=True, detail="Fine.")],
        [claim("north_star", 0.1, 0.2)],
    )
    assert verdict.reasons == ("Too few.",)
    assert "Arm counts" in verdict.sentence
    assert "Hours" not in verdict.sentence


def settled(c, truth, *, quantile=1.96, replicates=200_000):
    """Add the accounts that a claim asks for, drawn with this true difference, and say how often that settles it."""
    e, share = c.estimate, 1 / c.more.factor
    new = np.random.default_rng(3).normal(truth, e.se / np.sqrt(c.more.factor - 1), replicates)
    diff, half = share * e.diff + (1 - share) * new, quantile * e.se * np.sqrt(share)
    if c.aim == "equivalence":
        return np.mean(np.abs(diff) + half < c.bound)
    if c.role == "guardrail":
        return np.mean(diff + half < c.bound)
    return np.mean(diff - half > 0)


@pytest.mark.parametrize(
    ("low", "high", "together", "power"),
    [(-0.1, 0.25, 1, 0.8), (-0.1, 0.25, 2, 0.9), (-0.1, 0.25, 5, 0.96), (-0.12, 0.11, 1, 0.8), (-0.2, 0.14, 4, 0.95)],
)
def test_an_undecided_guardrail_says_how_many_accounts_would_decide(low, high, together, power):
    """Of G guardrails that must all pass, each is to pass with the power 1 - 0.2 / G; 200,000 repetitions say so."""
    open_ = claim("guardrail", low, high, bound=UP10, better="lower", title="Churn", together=together)
    assert settled(open_, 0.0) == pytest.approx(power, abs=0.004)
    verdict = decision.decide([], [open_])
    assert verdict.decision == "HOLD"
    wanted = f"about {float(f'{(open_.more.factor - 1) * 10_000:.2g}'):,.0f} more accounts in each arm would show it."
    assert verdict.sentence == (
        f"Hold: harm beyond the margin cannot be ruled out yet for Churn. If there is none, {wanted}"
    )
    mirror = claim("guardrail", -high, -low, bound=DOWN10, title="Retention", together=together)
    assert mirror.more.factor == pytest.approx(open_.more.factor)


def by_fieller(c, t, errors, q=1.959964):
    """Read two independent normal means with known errors: the difference, and the ratio's interval by its quadratic."""
    v_c, v_t = np.square(errors)
    low, high = np.sort(np.roots([c**2 - q**2 * v_c, -2 * t * c, t**2 - q**2 * v_t])) - 1
    half = q * np.hypot(*errors)
    known = {"control": c, "treatment": t, "diff": t - c, "se": half / q, "low": t - c - half, "high": t - c + half}
    return replace(estimate(0, 1), **known, rel=t / c - 1, rel_low=float(low), rel_high=float(high))


@pytest.mark.parametrize(
    ("c", "t", "errors", "margin"),
    [
        (10.0, 10.0, (2.0, 2.0), 0.5),
        (10.0, 9.0, (3.0, 3.0), 1.0),
        (10.0, 10.2, (0.4, 0.9), 0.1),
        (10.0, 10.4, (0.9, 0.4), 0.15),
        (10.0, 10.0, (1.5, 1.5), -0.25),
    ],
)
def test_a_margin_relative_to_a_control_that_is_estimated_needs_the_accounts_of_a_test_of_the_ratio(
    c, t, errors, margin
):
    """Kieser and Hauschke (1999): t - (1 + m) c against its own error, in 200,000 repetitions with more accounts."""
    bound = Bound(value=margin, relative=True, text=f"{margin:+.0%}")
    better = "lower" if margin > 0 else "higher"
    open_ = decision.read(metric(better), by_fieller(c, t, errors), role="guardrail", margin=bound)
    u, rng = 1 / open_.more.factor, np.random.default_rng(6)
    new = rng.normal(c, np.array(errors)[:, None] * np.sqrt(u / (1 - u)), (2, 200_000))  # no harm
    c_all, t_all = u * np.array([[c], [t]]) + (1 - u) * new
    error = np.hypot(errors[1], (1 + margin) * errors[0]) * np.sqrt(u)
    z = (t_all - (1 + margin) * c_all) / error * np.sign(margin)
    assert np.mean(z < -1.959964) == pytest.approx(0.8, abs=0.004)


@pytest.mark.parametrize(
    ("events", "n", "margin"), [((42, 44), 2_000, 0.5), ((30, 30), 1_500, 0.5), ((10, 10), 500, 1.0)]
)
def test_rare_events_that_are_held_against_a_relative_margin_get_the_power_that_is_promised(events, n, margin):
    """The claim's own limits (Newcombe, MOVER-R) over 20,000 repetitions; of so few events they are not quite normal.

    That costs up to 4 points of power here, which was seen before the tolerance was set.
    """
    bound = Bound(value=margin, relative=True, text=f"{margin:+.0%}")

    def rel(x, n):
        shares = x / n
        _, below, above, _ = limits.score(shares, n, 1.0, 0.95)
        return limits.relative(shares, below, above, below, "fieller")

    x, one = np.array(events, float)[:, None], np.full((2, 1), float(n))
    (c,), (t,) = x / one
    _, low, high = (float(r[0]) for r in rel(x, one))
    shares = confint_proportions_2indep(events[1], n, events[0], n, method="newcomb")
    se = float(np.sqrt((x / one * (1 - x / one) / one).sum()))
    known = {"control": c, "treatment": t, "diff": t - c, "se": se, "low": shares[0], "high": shares[1]}
    e = replace(estimate(0, 1), **known, rel=t / c - 1, rel_low=low, rel_high=high)
    open_ = decision.read(metric("lower"), e, role="guardrail", margin=bound)
    more, rng = round((open_.more.factor - 1) * n), np.random.default_rng(9)
    seen = x + rng.binomial(more, sum(events) / (2 * n), (2, 20_000))
    passed = np.mean(rel(seen, np.full((2, 1), float(n + more)) + 0 * seen)[2] < margin)
    assert passed == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("asked", [{"role": "guardrail", "margin": DOWN10}, {"role": "north_star", "target": UP10}])
def test_no_accounts_are_asked_for_where_a_relative_bound_can_never_be_checked(asked):
    below = replace(estimate(-0.2, 0.2), control=-7.0, rel=None, rel_low=None, rel_high=None)
    open_ = decision.read(metric(), below, **asked)
    assert open_.status == "cannot tell"
    assert open_.more is None
    assert "more accounts" not in decision.decide([], [open_]).sentence


def test_an_open_success_says_how_many_accounts_would_show_what_was_asked():
    for asked in ({"bound": UP10}, {"detect": UP10}):
        open_ = claim("north_star", -0.05, 0.15, mde=(1.96 + 0.8416) * 2 / 3.92, **asked)
        assert settled(open_, 1.0) == pytest.approx(0.8, abs=0.004)
        said = decision.decide([], [open_]).sentence
        assert "neither shown nor ruled out for Hours watched. If it is as large as asked, about" in said
    # Of two successes each has 2.5 %: its interval has 2.24 errors to either side, which `mde` knows.
    open_ = claim("north_star", 0.01, 0.15, detect=UP10, mde=(2.2414 + 0.8416) * 1.4 / 3.92, p_adjusted=0.06)
    assert settled(open_, 1.0, quantile=2.2414) == pytest.approx(0.8, abs=0.004)
    assert "accounts" not in decision.decide([], [claim("north_star", -0.05, 0.15)]).sentence  # nothing was asked


def test_an_open_equivalence_needs_the_accounts_of_two_one_sided_tests():
    open_ = steady(-0.03, 0.03)  # nothing was found: either side then errs with half of 20 %
    assert settled(open_, 0.0) == pytest.approx(0.8, abs=0.004)
    assert settled(steady(-0.03, 0.01), 0.0) >= 0.8
    assert "about" in decision.decide([], [open_]).sentence
    assert steady(0.01, 0.03).more is None  # a change is established


def test_unequal_arms_are_told_apart_and_days_are_told_where_all_that_is_open_has_them():
    wide, narrow = (
        claim("guardrail", low, high, bound=UP10, better="lower", n_control=30_000, longer=lambda more: int(10 * more))
        for low, high in ((-0.1, 0.25), (-0.1, 0.15))
    )
    said = decision.decide([], [wide, narrow]).sentence
    extra = (wide.more.factor - 1) * 10_000
    assert f"about {float(f'{extra:.2g}'):,.0f} more treated and {float(f'{3 * extra:.2g}'):,.0f} more control" in said
    assert f"accounts, or {int(10 * wide.more.factor)} days in all, would show it" in said
    unknown = claim("guardrail", -0.1, 0.25, bound=UP10, better="lower", longer=lambda _: None)
    assert "days" not in decision.decide([], [unknown, narrow]).sentence


def test_a_guardrail_that_a_large_enough_sample_left_open_asks_for_no_more_accounts():
    near = claim("guardrail", 0.02, 0.12, bound=UP10, better="lower", title="Churn")
    assert "accounts instead" not in decision.decide([], [near]).sentence
    assert "accounts instead" not in decision.decide([], [decision.read(metric(), NONE, role="guardrail")]).sentence


def test_a_win_leads_with_its_effect_and_the_state_of_the_guardrails():
    claims = [claim("north_star", 0.02, 0.08), claim("guardrail", -0.05, 0.05, bound=DOWN10, title="Retention")]
    gain = "Hours watched came out 5.0% higher (between 2.0 and 8.0%). Every guardrail stayed within its margin."
    assert decision.decide([], claims).sentence == f"Proceed to the next stage: {gain}"
    assert decision.decide([], claims, last_stage=True).sentence == f"Ship: {gain}"
    blind = decision.decide([], claims[:1])
    assert blind.sentence.endswith(" Harm was not looked for, because the launch names no guardrail.")
    tones = [Readout(headline="One.", answer=("Two.",), claims=tuple(c), verdict=v).tone for c, v in ((claims, decision.decide([], claims)), (claims[:1], blind))]  # fmt: skip
    assert (blind.decision, tones) == ("PROCEED", ["good", "warn"])
    better = claim("guardrail", 0.01, 0.05, title="Retention")  # without a margin
    assert decision.decide([], [claims[0], better]).sentence.endswith(
        "Every guardrail stayed within its margin or got better."
    )


BLIND = "Harm was not looked for, because the launch names no guardrail."


@pytest.mark.parametrize(
    ("star", "more", "wanted"),
    [
        ({"low": -0.02, "high": 0.08, "bound": UP10}, {}, "DELAY/REWORK"),
        ({"low": -0.02, "high": 0.12, "bound": UP10}, {"targeted": ["device tv"]}, "TARGETED"),
        ({"low": -0.02, "high": 0.12, "bound": UP10}, {}, "HOLD"),
        ({"low": 0.02, "high": 0.12}, {"trust": [Check(name="Fades", passed=False, detail="It fades.")]}, "HOLD"),
    ],
)
def test_the_first_screen_gives_the_effect_and_the_state_of_the_guardrails_whatever_the_verdict(star, more, wanted):
    passed = claim("guardrail", 0.01, 0.05, bound=UP10, better="lower", title="Crashes")
    claims = [claim("north_star", **star), passed]
    verdict = decision.decide([], claims, **more)
    assert verdict.decision == wanted
    effect, state, _ = decision.answer(verdict, claims, "Measured on 5 accounts.")
    assert effect == claims[0].words
    assert state == "Every guardrail stayed within its margin (worse: Crashes)."
    assert decision.answer(verdict, claims[:1], "Measured on 5 accounts.")[1] == BLIND


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0.0, 0.05, "PROCEED"), (-0.1, 0.25, "HOLD"), (0.15, 0.25, "ROLL BACK")]
)
def test_what_the_sentence_says_of_the_guardrails_is_not_said_twice(low, high, wanted):
    claims = [claim("north_star", 0.02, 0.12), claim("guardrail", low, high, bound=UP10, better="lower")]
    verdict = decision.decide([], claims)
    assert verdict.decision == wanted
    assert re.search("within its margin|harm beyond the margin|harm is established", verdict.sentence)
    assert decision.answer(verdict, claims, "Measured on 5 accounts.") == (claims[0].words, "Measured on 5 accounts.")


def test_a_conflict_is_named():
    claims = [claim("north_star", 0.05, 0.1), claim("satisfaction", -0.2, -0.1, title="Survey score")]
    verdict = decision.decide([], claims)
    assert verdict.decision == "HOLD"
    assert (
        verdict.sentence
        == "Hold: Hours watched improved, but Survey score got worse: hollow engagement. Find out why before going on."
    )


@given(titles=st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=12))
def test_long_titles_do_not_lengthen_the_sentence(titles):
    won = [claim("supporting", 0.05, 0.1, title=t) for t in titles]
    lost = [claim("satisfaction", -0.2, -0.1, title=t) for t in titles]
    open_ = [claim("guardrail", -0.1, 0.25, bound=UP10, better="lower", title=t) for t in titles]
    for claims in (won, won + lost, open_):
        assert len(decision.decide([], claims).sentence.split()) <= 60


@pytest.mark.parametrize(("target", "expected"), [(0.2, "PROCEED"), (0.4, "DELAY/REWORK"), (None, "HOLD")])
def test_use_of_what_the_control_cannot_have_is_no_success_unless_it_meets_its_target(target, expected):
    bound = target and Bound(value=target, relative=False, text=f"+{100 * target:.0f}pp")
    ends = {"low": 0.29, "high": 0.31, "rel": None, "rel_low": None, "rel_high": None}
    started = replace(estimate(0.1, 0.2, control=0.0, p=0.0), treatment=0.3, diff=0.3, **ends)
    read = decision.read(metric("higher", "Started", "share"), started, role="supporting", target=bound)
    assert decision.decide([], [read]).decision == expected


@pytest.mark.parametrize("leaked", [0.0, 1 / 6_000, 0.01])
@pytest.mark.parametrize(("target", "expected"), [(0.2, "PROCEED"), (0.4, "DELAY/REWORK")])
def test_accounts_that_leak_into_control_do_not_change_what_its_target_decides(leaked, target, expected):
    ends = {"low": 0.29 - leaked, "high": 0.31 - leaked, "rel": None, "rel_low": None, "rel_high": None}
    if leaked:
        rel = 0.3 / leaked - 1
        ends |= {"rel": rel, "rel_low": 0.9 * rel, "rel_high": 1.1 * rel}
    started = replace(estimate(0.1, 0.2, p=0.0), control=leaked, treatment=0.3, diff=0.3 - leaked, **ends)
    bound = Bound(value=target, relative=False, text=f"+{100 * target:.0f}pp")
    read = decision.read(metric("higher", "Started", "share"), started, role="supporting", target=bound)
    verdict = decision.decide([], [read])
    assert verdict.decision == expected
    asked = "20%" if not leaked else "+20pp"
    told = f"Started reached 30.0% in the treated arm (29.0 to 31.0%); {asked} was asked."
    assert told in verdict.headline or expected != "PROCEED"
    assert read.words.startswith(
        f"Started reached 30.0% in the treated arm (29.0 to 31.0%), and control has {'next' if leaked else 'none'}"
    )


def test_a_control_that_has_a_fifth_of_it_is_no_leak_and_a_gain_over_it_is_one():
    shares = {"control": 0.06, "treatment": 0.3, "rel": 4.0, "rel_low": 3.5, "rel_high": 4.5}
    started = replace(estimate(0.1, 0.2, p=0.0), diff=0.24, low=0.22, high=0.26, **shares)
    assert decision.decide([], [decision.read(metric(), started, role="supporting")]).decision == "PROCEED"


def test_a_gain_short_of_its_target_is_a_success_and_said_to_be_short():
    """The policy's step 4 asks for superiority to 0; met, not met and cannot tell are said of a target beside it."""
    short = claim("north_star", 0.02, 0.08, bound=UP10)
    assert (short.status, decision.won([short])) == ("not met", [short])
    verdict = decision.decide([], [short])
    assert verdict.decision == "PROCEED"
    assert verdict.sentence.endswith("Short of what was asked: Hours watched.")


def test_a_hold_on_a_guardrail_does_not_hide_what_got_worse():
    # As in the Cookie Cats experiment: 7-day retention fell while 1-day retention stayed undecided.
    claims = [
        claim("north_star", -0.06, -0.02),
        claim("guardrail", -0.05, 0.2, bound=UP10, better="lower", title="Churn"),
    ]
    verdict = decision.decide([], claims)
    assert verdict.decision == "HOLD"
    assert verdict.sentence.endswith("Worse already: Hours watched.")


def test_a_gain_that_does_not_survive_the_correction_is_called_so():
    words = decision.read(metric(), estimate(0.001, 0.025, p_adjusted=0.084), role="north_star").words
    assert words.endswith("a gain on its own, but with so many metrics it may be chance.")


# Equivalence: that something stays as it is


WITHIN = Bound(value=0.02, relative=True, text="±2%")


def steady(low, high, *, role="guardrail", better="higher", bound=WITHIN, **more) -> Claim:
    planned = {k: more.pop(k) for k in ("owner", "on_breach") if k in more}
    return decision.read(
        metric(better, "Minutes"), estimate(low, high, **more), role=role, equivalence=bound, **planned
    )


@pytest.mark.parametrize(
    ("low", "high", "status", "meaning"),
    [
        (-0.015, 0.01, "passed", "unchanged within ±2%"),
        (0.005, 0.015, "passed", "higher, and within ±2%"),
        (-0.02, 0.01, "cannot tell", "a change beyond ±2% is neither shown nor ruled out"),
        (-0.03, 0.03, "cannot tell", "a change beyond ±2% is neither shown nor ruled out"),
        (0.01, 0.03, "cannot tell", "a change beyond ±2% is neither shown nor ruled out"),
        (0.021, 0.03, "breached", "a change beyond ±2% is established"),
        (-0.05, -0.03, "breached", "a change beyond ±2% is established"),
    ],
)
def test_equivalence_passes_when_the_whole_interval_lies_between_both_margins(low, high, status, meaning):
    for mirrored, said in (
        (steady(low, high), meaning),
        (steady(-high, -low, better="lower"), meaning.replace("higher", "lower")),
    ):
        assert (mirrored.status, mirrored.meaning, mirrored.aim) == (status, said, "equivalence")
        assert mirrored.bound == pytest.approx(0.2)


def test_an_absolute_equivalence_is_read_on_the_difference():
    e = estimate(-0.05, 0.05, control=0.1)  # half a percentage point either way
    for points, status in ((0.006, "passed"), (0.004, "cannot tell")):
        bound = Bound(value=points, relative=False, text=f"±{100 * points:g}pp")
        assert decision.read(metric(unit="share"), e, role="operational", equivalence=bound).status == status
    lost = replace(e, rel=None, rel_low=None, rel_high=None)
    assert decision.read(metric(), lost, role="guardrail", equivalence=WITHIN).status == "cannot tell"


def test_two_one_sided_tests_of_statsmodels_agree_with_the_interval():
    rng = np.random.default_rng(5)
    seen = set()
    for shift, n in itertools.product((0.0, 0.1, 0.2, 0.4), (60, 300, 1500)):
        control, treated = rng.normal(5, 1, n), rng.normal(5 + shift, 1.3, n)
        found = weightstats.CompareMeans.from_data(treated, control)
        low, high = found.tconfint_diff(0.05, usevar="unequal")
        bound = Bound(value=0.25, relative=False, text="±0.25")
        e = replace(estimate(0, 0.1), control=5.0, diff=(low + high) / 2, low=low, high=high)
        both = weightstats.ttost_ind(treated, control, -0.25, 0.25, usevar="unequal")[0]
        status = decision.read(metric(), e, role="guardrail", equivalence=bound).status
        assert (status == "passed") == (both < 0.025)
        seen.add(status)
    assert {"passed", "cannot tell"} <= seen


def test_at_the_margin_equivalence_is_claimed_in_at_most_two_and_a_half_per_cent():
    """4,000 launches whose true change is the margin; the error of the share is 0.25 points."""
    diff = np.random.default_rng(20261127).normal(0.2, 0.05, 4_000)  # the margin is 2 % of 10
    claimed = [steady(d / 10 - 0.0098, d / 10 + 0.0098).status == "passed" for d in diff]
    assert 0.025 - 3 * 0.0025 <= np.mean(claimed) <= 0.025 + 3 * 0.0025


def test_an_equivalence_that_is_no_margin_to_both_sides_is_refused():
    with pytest.raises(ParameterError, match="not of a success metric, because success is a gain"):
        decision.read(metric(), NONE, role="north_star", equivalence=WITHIN)
    for bad in (
        {"equivalence": DOWN10},
        {"equivalence": WITHIN, "margin": DOWN10},
        {"equivalence": WITHIN, "target": UP10},
    ):
        with pytest.raises(ParameterError, match="is a margin to both sides"):
            decision.read(metric(), NONE, role="guardrail", **bad)


def test_a_change_beyond_an_equivalence_is_called_harm_only_where_it_is():
    won = claim("north_star", 0.02, 0.08)
    verdicts = {
        "passed": (steady(-0.01, 0.01), "PROCEED", "Every guardrail stayed within its margin"),
        "open": (steady(-0.03, 0.01), "HOLD", "a change beyond the margin cannot be ruled out yet for Minutes. If"),
        "fell": (steady(-0.05, -0.03), "ROLL BACK", "harm is established for Minutes"),
        "rose": (steady(0.03, 0.05), "ROLL BACK", "a change beyond the margin is established for Minutes"),
        "pause": (
            steady(0.03, 0.05, on_breach="pause", owner="home"),
            "HOLD",
            "for Minutes. What happens next is decided by home.",
        ),
    }
    for guard, wanted, words in verdicts.values():
        verdict = decision.decide([], [won, guard])
        assert verdict.decision == wanted
        assert words in verdict.sentence
    slightly_worse = steady(-0.015, -0.005, role="satisfaction")
    assert decision.decide([], [won, slightly_worse]).decision == "PROCEED"  # within what was allowed beforehand


# The first screen


def screen(verdict, claims, basis="Measured on 10,000 accounts of early against 30,000 of control.", by_region=None):
    """Render the first screen as notebook 04 does, and give its words without the table."""
    told = decision.answer(verdict, claims, basis, by_region)
    shown = Readout(headline=verdict.sentence, answer=told, claims=tuple(claims), verdict=verdict)
    html = shown.to_html()
    box = html[html.index('<div class="answer') : html.index("</div>")].split("<details>")[0]
    return re.sub(r"<[^>]+>", " ", box)


LONG = "A very long title of a metric that somebody wrote down without thinking of those who read it " * 3
TITLES = ("Hours watched", LONG, "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3, "W" * 400)


@pytest.mark.parametrize("title", TITLES, ids=lambda t: t[:12])
def test_every_kind_of_verdict_has_a_first_screen_of_120_plain_words(title):
    def titled(role, spec, **more):
        return built(role, spec, title=title, **more) if isinstance(spec, dict) else built(role, spec)

    star = {k: titled("north_star", v) for k, v in SUCCESSES.items()}
    guards = {k: titled("guardrail", v, better="lower") for k, v in GUARDRAILS.items()}
    second = titled("supporting", SUCCESSES["better, target open"])
    doubt = Check(name="Fades", passed=False, detail=f"The effect of {title} in the second week is half as large.")
    seen = set()
    apart = {"m": f"from +31.6 pp in {title} to +46.6 pp in North America"}
    every = itertools.product(
        SUCCESSES, GUARDRAILS, (False, True), ((), (doubt,)), ((), (f"device {title}",) * 4), (False, True)
    )
    for i, (s, g, last, trust, where, failed) in enumerate(every):
        parted = apart if i % 3 == 0 else {}
        if failed and (last or trust or where):
            continue
        checks = [Check(name="Arm counts", passed=not failed, detail="As planned.")]
        claims = [*star[s], *guards[g], *(second if last else ())]
        asked = {"trust": trust, "targeted": where, "by_region": parted, "last_stage": last}
        verdict = decision.decide(checks, claims, **asked)
        words = screen(verdict, claims, f"Measured on 1 account of {title} against 2 of {title}.", parted)
        assert len(words.split()) <= 120 + 2  # the verdict itself is a label of one or two words
        assert not wording.unplain(words)
        assert not FORBIDDEN.search(words)
        seen.add(verdict.decision)
    assert seen == {"INVALID", "ROLL BACK", "HOLD", "PROCEED", "SHIP", "DELAY/REWORK", "TARGETED"}


def test_where_regions_differ_their_range_is_the_headline_and_no_average_is_on_the_first_screen():
    star = claim("north_star", 0.30, 0.32, title="Start rate")
    guard = claim("guardrail", -0.01, 0.01, bound=DOWN10, title="Crashes")
    apart = {"m": "from +31.6 pp in APAC to +46.6 pp in North America"}
    verdict = decision.decide([], [star, guard], by_region=apart)
    assert verdict.headline == f"Proceed to the next stage: Start rate: {apart['m']}."
    told = decision.answer(verdict, [star, guard], "Measured on 9 accounts.", apart)
    assert "31.0%" not in " ".join((verdict.sentence, *told))
    doubt = Check(name="Fades", passed=False, detail="It fades.")
    held = decision.decide([], [star, guard], trust=[doubt], by_region=apart)
    told = decision.answer(held, [star, guard], "Measured on 9 accounts.", apart)
    assert told[:2] == (f"Start rate: {apart['m']}.", "Every guardrail stayed within its margin.")
    second = replace(claim("supporting", 0.1, 0.2, title="Opens"), metric="opens")
    other = decision.answer(held, [star, guard, second], "Measured on 9 accounts.", {"opens": "from 1 to 2"})
    assert other[0] == "Opens: from 1 to 2."
    assert other[1].startswith("Start rate came out 31.0% higher")
    assert other[2:] == ("Every guardrail stayed within its margin. Measured on 9 accounts.",)


def test_at_an_early_look_a_gain_that_is_doubted_or_paid_for_says_so():
    star, doubt = claim("north_star", 0.02, 0.08), Check(name="Fades", passed=False, detail="It fades.")
    worse = claim("satisfaction", -0.08, -0.02, title="Thumbs")
    look = Look(day=7, planned=(7, 14))
    found = decision.decide([], [star], trust=[doubt])
    actions = {"HOLD": "four more weeks"}
    assert decision.action(found, actions) == "four more weeks"
    assert decision.action(decision.at_look(found, [star], look), actions) == ""  # it waits for the next look
    said = decision.at_look(decision.decide([], [star], trust=[doubt]), [star], look).sentence
    assert said.endswith("Hours watched improved, but is not yet trusted.")
    said = decision.at_look(decision.decide([], [star, worse]), [star, worse], look).sentence
    assert said.endswith("Hours watched improved, but Thumbs looks worse.")


def test_what_control_cannot_have_is_no_open_gain_without_a_target():
    none = {"control": 0.0, "treatment": 0.2, "diff": 0.2, "low": 0.19, "high": 0.21}
    only = replace(estimate(0.02, 0.08), **none, rel=None, rel_low=None, rel_high=None)
    free = decision.read(metric(title="Starts"), only, role="north_star")
    said = decision.decide([], [free]).sentence
    assert (
        free.words == "Starts reached 0.200 h in the treated arm (0.190 to 0.210 h), and control has none: no target "
        "says what is enough."
    )
    assert "Starts moved as it had to, for control cannot have it; no target says what is enough." in said
    assert "neither shown nor ruled out" not in said


def test_what_control_cannot_have_never_improved_it_met_its_target():
    only = {"control": 0.0, "treatment": 0.2, "diff": 0.2, "low": 0.19, "high": 0.21}
    only = replace(estimate(0.02, 0.08), **only, rel=None, rel_low=None, rel_high=None)
    enough = Bound(value=0.1, relative=False, text="+0.1")
    starts = decision.read(metric(title="Starts"), only, role="supporting", target=enough)
    worse, star = claim("satisfaction", -0.08, -0.02, title="Thumbs"), claim("north_star", 0.02, 0.08)
    assert (
        decision.decide([], [starts, worse]).headline
        == "Hold: Starts met the target, but Thumbs got worse: hollow engagement."
    )
    assert "Hold: Hours watched improved, but" in decision.decide([], [star, starts, worse]).headline
    assert "Starts met the target." in decision.decide([], [star, starts]).rest


def test_a_change_of_nothing_points_nowhere():
    assert "equal to the digits shown (between 5.0% lower and 5.0% higher)" in claim("north_star", -0.05, 0.05).words


def test_a_quantile_without_width_is_told_by_its_value_and_why_and_points_nowhere():
    stars = estimate(0.0, 0.0, control=4.0)  # the median of ratings, 4 in both arms
    same = Bound(value=0.02, relative=True, text="±2%")
    words = decision.read(metric(title="Rating", unit="stars"), stars, role="guardrail", equivalence=same).words
    equal = "a value that many share, and a change among these does not show"
    assert words == f"Rating came out at 4 stars in both arms ({equal}): unchanged within ±2%."
    claims = [decision.read(metric(), stars, role=role) for role in ("north_star", "guardrail")]
    assert not any("higher" in c.words or wording.unplain(c.words) for c in claims)


def test_names_from_the_data_that_are_not_plain_stay_in_the_tables():
    claims = [claim("north_star", -0.02, 0.12, bound=UP10)]
    verdict = decision.decide([], claims, targeted=["device unchanged β"])
    assert "in groups that were named beforehand." in verdict.sentence
    assert "β" not in screen(verdict, claims, "Measured on 5 accounts of β.")
    doubt = Check(name="Fades", passed=False, detail="It fades in β.")
    verdict = decision.decide([], [claim("north_star", 0.02, 0.08)], trust=[doubt])
    assert verdict.sentence.endswith("cleared up first: Fades.")
    assert decision.answer(verdict, [], "β") == (BLIND,)
    invalid = decision.decide([Check(name="Arm counts", passed=False, detail="Lost.")], [])
    assert decision.answer(invalid, [], "β") == ("What was measured stands in the tables below.",)


def test_unchanged_is_said_only_of_a_passed_equivalence_and_with_its_margin():
    passed, open_ = steady(-0.01, 0.01), steady(-0.03, 0.01)
    said = ("Minutes are unchanged within ±2%.",)
    assert Readout(headline="One.", answer=said, claims=(passed,)).answer == said
    for claims, answer in (((open_,), said), ((), said), ((passed,), ("Minutes are unchanged.",))):
        with pytest.raises(ParameterError, match="'unchanged' is not plain or not shown"):
            Readout(headline="One.", answer=answer, claims=claims)
    assert wording.unplain(passed.words, [passed]) == ""
    assert wording.unplain(passed.words) == "unchanged"


def test_use_of_what_the_control_cannot_have_also_says_what_is_ruled_out_for_the_north_star():
    target = Bound(value=0.2, relative=False, text="+20pp")
    ends = {"low": 0.29, "high": 0.31, "rel": None, "rel_low": None, "rel_high": None}
    started = replace(estimate(0.1, 0.2, control=0.0, p=0.0), treatment=0.3, diff=0.3, **ends)
    used = decision.read(metric("higher", "Started", "share"), started, role="supporting", target=target)
    star = claim("north_star", -0.01, 0.03)
    verdict = decision.decide([], [star, used])
    assert verdict.decision == "PROCEED"
    assert verdict.sentence.endswith("Still open: Hours watched (above +3.0% ruled out).")
    lower = claim("north_star", -0.03, 0.01, better="lower")
    assert decision.decide([], [lower, used]).sentence.endswith("Hours watched (below −3.0% ruled out).")
    missed = claim("north_star", -0.01, 0.03, bound=UP10)  # its own sentence gives its ceiling, below the verdict
    assert decision.decide([], [missed, used]).sentence.endswith("Short of what was asked: Hours watched.")
    assert "ruled out" not in decision.decide([], [claim("north_star", 0.02, 0.08), used]).sentence


def test_a_guardrail_that_is_worse_within_its_margin_is_named_even_where_much_else_has_to_be_said():
    claims = [
        claim("supporting", 0.12, 0.18, bound=UP10, title="Accounts that started the title"),
        claim("north_star", -0.01, 0.03, title="Hours watched per account and week"),
        claim("supporting", -0.02, 0.05, bound=UP10, title="Sessions per account and week"),
        claim("guardrail", 0.01, 0.05, bound=UP10, better="lower", title="Crashes"),
    ]
    assert decision.decide([], claims).sentence == (
        "Proceed to the next stage: Accounts that started the title came out 15.0% higher (between 12.0 and 18.0%). "
        "Every guardrail stayed within its margin (worse: Crashes). Still open: Hours watched per account and week "
        "(above +3.0% ruled out). Short of what was asked: Sessions per account and week."
    )
