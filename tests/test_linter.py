"""The linter: each rule fires on the fault that it is for, and on nothing else; what blocks, and what a reason lifts."""

import json
import re
from pathlib import Path

import pytest
import yaml

from helpers import cli, launch, linter, metrics, study
from helpers.errors import LaunchError
from helpers.launch import families
from helpers.launch.entry import Planned
from helpers.linter.rule import power

ROOT = Path(__file__).parents[1]
SOUND = yaml.safe_load("""
name: sound
service: netflix
question: Does the new page help?
decision_owner: head of pages
context: {feature: page, who: all, where: everywhere, when: May, constraint: none, decision: keep it or not}
data: {source: tables}
arms: {control: old, treatment: new}
dates: {start: 2026-05-04, days: 28, pre_days: 28}
sampling: {n: {old: 50000, new: 50000}, strata: [region]}
metrics:
  north_star: {metric: hours_per_account_week, detect: +3%, baseline: 10.7, sd: 7.2, counter: intentional_start_share}
  supporting:
    - {metric: opens_per_account_week, target: +2%, counter: intentional_start_share}
  guardrails:
    - {metric: churn_28d, margin: +20%, harm: leaving, owner: growth, on_breach: stop, baseline: 0.02}
    - {metric: intentional_start_share, margin: -3%, harm: h, owner: o, on_breach: stop, baseline: 0.8, sd: 0.06}
    - {metric: crash_rate, margin: +50%, harm: h, owner: o, on_breach: stop, baseline: 0.0005, sd: 0.0043}
    - {metric: tickets_per_account, margin: +30%, harm: h, owner: o, on_breach: stop, baseline: 0.015, sd: 0.123}
    - {name: tail_share, family: ecosystem, kind: proportion, better: higher, margin: -3pp, harm: h, owner: o,
       on_breach: stop, baseline: 0.4, numerator: {table: plays, agg: any, where: {creator_tier: tail}}}
  operational: [start_failure_rate]
  satisfaction: [survey_score]
segments: [region, device, tenure]
decision:
  alpha: 0.05
  power: 0.8
  correction: holm
  stopping: one look on day 28
  novelty: weeks 1 and 2 against 3 and 4
  actions: {INVALID: a, ROLL BACK: b, DELAY/REWORK: c, HOLD: d, TARGETED: e, PROCEED: f, SHIP: g}
privacy: {legal_basis: terms, retention_days: 180, minors: excluded, k: 10}
unit: {randomised: account, analysed: account}
frame: {recruited: random}
outliers: {rule: all stay}
risks: [{risk: people leave, metric: churn_28d}, {risk: rain, accepted: by the head of pages}]
calendar: [{event: a holiday, start: 2026-07-01}]
rollout: {holdback: 2%, capacity_limit: 80%, rollback_owner: release}
""")
MEASURED = {"opens_per_account_week": linter.Spread(baseline=6.9, se=0.03)}
STAR = ("metrics", "north_star")
GUARDS = ("metrics", "guardrails")
OWN = {
    "name": "x",
    "kind": "mean",
    "better": "higher",
    "numerator": {"table": "plays", "agg": "sum", "column": "watch_minutes"},
}

# Rule, severity, and the one change to a sound plan that must make it fire: a path and its new value (None takes it away).
FAULTS = [
    ("K1", "E", ("context", "who"), ""),
    ("K1", "E", ("decision_owner",), None),
    ("V1", "E", STAR, OWN | {"title": "Total hours streamed so far"}),
    ("V1", "E", ("metrics", "supporting", 0), OWN | {"name": "registered_accounts"}),
    ("V2", "W", STAR, {"metric": "session_minutes", "detect": "+5%", "counter": "intentional_start_share"}),
    ("V3", "W", STAR, {"metric": "show_hours_per_account"}),
    ("V3", "W", ("metrics", "supporting", 0), OWN | {"title": "Plays from the new algorithm"}),
    ("O1", "W", ("metrics", "supporting"), [OWN | {"name": f"m{i}"} for i in range(6)]),
    ("O3", "E", ("metrics", "supporting", 0, "drives"), "revenue"),
    ("O4", "E", ("metrics", "satisfaction"), []),
    ("O4", "E", ("metrics", "operational"), None),
    ("G1", "E", GUARDS, []),
    ("G2", "W", (*GUARDS, 4), None),
    ("G3", "E", (*GUARDS, 0, "owner"), None),
    ("G3", "E", (*GUARDS, 0, "on_breach"), " "),
    ("G3", "I", (*GUARDS, 2, "sd"), None),
    ("G4", "W", ("risks",), []),
    ("G4", "W", ("risks", 0, "metric"), "revenue"),
    ("G4", "W", ("risks", 1, "accepted"), ""),
    ("G5", "W", ("metrics", "supporting", 0, "counter"), None),
    ("G5", "W", ("metrics", "supporting", 0, "counter"), "regret_rate"),
    ("R1", "E", ("sampling",), None),
    ("R1", "E", ("sampling", "n"), {"old": 1, "new": 1}),
    ("R1", "E", ("decision", "power"), None),
    ("R2", "E", ("decision", "alpha"), None),
    ("R3", "E", ("decision", "correction"), None),
    ("R3", "E", ("decision", "correction"), "none"),
    ("R4", "W", ("decision", "novelty"), None),
    ("R5", "E", ("decision", "stopping"), None),
    ("R6", "E", ("unit",), None),
    ("R7", "E", (*STAR, "detect"), "+0.8%"),  # se 0.43 % of 10.7: power 46 %
    ("R7", "W", (*STAR, "detect"), "+1%"),  # power 65 %
    ("R7", "W", (*STAR, "detect"), None),
    ("R7", "W", (*STAR, "sd"), None),
    ("R8", "E", (*GUARDS, 0, "margin"), "+5%"),  # margin 0.001, se 0.000885
    ("R8", "W", (*GUARDS, 0, "margin"), "+10%"),
    ("R8", "E", (*GUARDS, 1), {"metric": "intentional_start_share", "equivalence": "±0.05%", "harm": "h", "owner": "o",
                               "on_breach": "stop", "baseline": 0.8, "sd": 0.06}),  # margin 0.0004, se 0.00038
    ("R8", "W", ("metrics", "satisfaction", 0), {"metric": "survey_score", "equivalence": "±0.6%", "baseline": 4, "sd": 1.2}),
    ("R9", "E", ("unit", "analysed"), "session"),
    ("R9", "E", ("unit", "randomised"), "household"),
    ("R9", "W", ("unit",), {"randomised": "region", "errors": "cluster"}),
    ("R9", "W", ("unit",), {"randomised": "household", "errors": "delta"}),
    ("R10", "W", ("dates", "days"), 30),
    ("R10", "W", ("dates", "days"), 7),
    ("R10", "W", ("dates", "days"), 21),  # churn needs 28 days
    ("R11", "W", ("segments",), []),
    ("R11", "W", ("segments",), list("abcdef")),
    ("R11", "W", ("sampling", "n", "new"), 2_500),
    ("R12", "W", ("outliers",), None),
    ("R13", "W", STAR, OWN | {"kind": "proportion"}),
    ("R13", "W", STAR, OWN | {"kind": "count", "numerator": {"table": "plays", "agg": "any"}}),
    ("R14", "I", ("metrics", "supporting", 0, "target"), "+6%"),
    ("R14", "I", ("decision", "past_lifts"), "+1%"),
    ("S1", "W", ("frame",), None),
    ("S1", "W", ("sampling", "exclude"), [{"region": ["LATAM"]}]),
    ("S1", "E", ("frame", "recruited"), "volunteers"),
    ("S1", "W", ("frame",), {"recruited": "volunteers", "weights": "raked"}),
    ("S1", "W", ("frame", "devices_left_out"), ["phone"]),
    ("S1", "E", ("frame", "left_out"), ["LATAM"]),
    ("S1", "I", ("frame", "needs"), "new_tv"),
    ("P1", "E", ("segments", 0), "e_mail"),
    ("P1", "E", ("sampling", "strata", 0), "ip_address"),
    ("P1", "E", ("privacy", "legal_basis"), None),
    ("P1", "E", ("privacy", "retention_days"), None),
    ("P1", "E", ("privacy", "minors"), "included"),
    ("P1", "E", ("privacy", "minors"), None),
    ("P1", "W", ("privacy", "k"), 3),
    ("C1", "W", ("calendar",), None),
    ("C1", "W", ("calendar", 0, "start"), "2026-05-30"),
    ("C1", "W", ("calendar", 0), {"event": "a campaign", "start": "2026-04-01", "end": "2026-04-07"}),
    ("L1", "W", ("rollout",), None),
    ("L1", "W", ("rollout", "rollback_owner"), ""),
    ("D1", "E", ("decision", "actions", "HOLD"), None),
    ("C2", "W", ("service",), "prime"),
]  # fmt: skip


def changed(at=(), value=None):
    """Copy the sound plan with one value changed, or taken away."""
    spec = json.loads(json.dumps(SOUND, default=str))
    part = spec
    for key in at[:-1]:
        part = part[key]
    if at and value is None:
        del part[at[-1]]
    elif at:
        part[at[-1]] = value
    return spec


@pytest.fixture
def write(tmp_path):
    def _write(spec):
        path = tmp_path / "sound.yaml"
        path.write_text(yaml.safe_dump(json.loads(json.dumps(spec)), sort_keys=False))
        return path

    return _write


def found(path):
    return {(f.rule, f.severity) for f in linter.lint(launch.load(path), MEASURED)}


def test_a_sound_plan_meets_no_objection(write):
    assert found(write(changed())) == set()


@pytest.mark.parametrize(("rule", "severity", "at", "value"), FAULTS, ids=[f"{f[0]}-{f[1]}-{f[2][-1]}" for f in FAULTS])
def test_a_rule_fires_on_its_fault(write, rule, severity, at, value):
    assert (rule, severity) in found(write(changed(at, value)))


def test_several_treatments_each_judged_at_the_full_alpha_are_said(write):
    plan = changed(("arms", "treatment"), ["new", "newer"])
    plan["sampling"]["n"]["newer"] = plan["sampling"]["n"]["new"]
    assert ("R3", "W") in found(write(plan))
    assert not any(rule == "R3" for rule, _ in found(write(changed(("name",), "sound"))))


def test_every_rule_has_a_fault_that_it_is_tested_with():
    assert {f[0] for f in FAULTS} | {"O2"} == set(linter.RULES)


@pytest.mark.parametrize(
    ("at", "value", "rule", "n"),
    [
        (STAR, None, "O2", 0),
        (STAR, ["churn_28d", "hours_per_account_week"], "O2", 2),
        ((*GUARDS, 0, "margin"), None, "G3", 1),
    ],
)
def test_what_keeps_a_plan_from_being_loaded_is_found_in_the_file(write, at, value, rule, n):
    path = write(changed(at, value))
    (finding,) = linter.lint_file(path)
    assert (finding.rule, finding.severity) == (rule, "E")
    with pytest.raises(LaunchError):
        launch.load(path)


def test_an_equivalence_stands_in_place_of_a_margin(write):
    spec = changed((*GUARDS, 0, "margin"))
    spec["metrics"]["guardrails"][0]["equivalence"] = "±30%"
    assert "G3" not in {f.rule for f in linter.lint_file(write(spec), MEASURED)}


def test_findings_name_line_place_and_a_chapter_that_exists(write):
    path = write(changed((*GUARDS, 0, "owner"), None))
    (finding,) = linter.lint_file(path, MEASURED)
    assert finding.place == "metrics.guardrails[0]"
    assert "churn_28d" in path.read_text().splitlines()[finding.line - 1]
    assert "owner" in finding.what


@pytest.mark.parametrize("rule", linter.RULES.values(), ids=lambda r: r.id)
def test_every_rule_points_to_a_section_of_a_notebook(rule):
    stem, heading = rule.section.split(": ", 1)
    cells = json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text())["cells"]
    headings = [
        line[3:]
        for c in cells
        if c["cell_type"] == "markdown"
        for line in "".join(c["source"]).splitlines()
        if line.startswith("## ")
    ]
    assert heading in headings


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("churn_28d", "retention"), ("tickets_per_account", "support"), ("crash_rate", "technical"), ("rebuffer_ratio_p95", "technical"),
        ("tail_impression_share", "ecosystem"), ("creator_gini", "ecosystem"), ("seconds_to_first_play_p95", "effort"),
        ("effort_score", "effort"), ("regret_rate", "satisfaction"), ("intentional_start_share", "satisfaction"),
        ("hours_per_account_week", ""),
    ],
)  # fmt: skip
def test_what_a_guardrail_protects_is_read_from_what_it_measures(name, family):
    assert families.family(Planned(metric=metrics.get(name), role="guardrail")) == family


@pytest.mark.parametrize(("effect", "wanted"), [(2.8015852, 0.8), (1.959964, 0.5), (3.6048, 0.95)])
def test_power_is_that_of_the_textbook(effect, wanted):
    # Chow, Shao and Wang, Sample Size Calculations (3rd ed.), sec. 3.1: (z_0.975 + z_power) standard errors.
    assert power(effect, 1, 0.05) == pytest.approx(wanted, abs=1e-4)


def test_an_override_needs_a_reason_and_is_told(write):
    at, value = ("decision", "stopping"), None
    spec = changed(at, value) | {"overrides": {"R5": "the pilot ends with the season"}}
    findings = linter.lint(one := launch.load(write(spec)), MEASURED)
    assert not linter.blocking(one, findings)
    assert linter.overridden(findings) == (
        "Overridden: no stopping rule (rule R5). Reason given: the pilot ends with the season",
    )
    with pytest.raises(LaunchError, match="overrides"):
        launch.load(write(spec | {"overrides": {"R5": ""}}))
    other = launch.load(write(spec | {"overrides": {"R55": "x"}}))
    assert "no rule is called 'R55'" in [f.what for f in linter.blocking(other, linter.lint(other))]


def test_a_reading_without_a_context_is_advised_and_not_blocked(players):
    one = launch.load(players[0])
    findings = linter.lint(one)
    assert [f for f in findings if f.severity == "E"]
    assert linter.blocking(one, findings) == []


def test_a_metric_of_the_users_own_is_told_by_its_name(players):
    kept = next(p for p in launch.load(players[0]).plan if p.metric.name == "kept")
    assert families.family(kept) == "retention"


def test_data_tell_the_spread_where_the_plan_does_not(players):
    one = launch.load(players[0])
    spread = linter.measured(study.open(one))["hours"]
    table = players[1].rename(columns={"version": "arm"})
    residual = table["hours"] - table["hours"].cov(table["history"]) / table["history"].var() * table["history"]
    by_arm = residual.groupby(table["arm"]).var() / table["arm"].value_counts()
    assert spread.se == pytest.approx(by_arm.sum() ** 0.5, rel=1e-3)


def test_lint_says_it_for_people_and_for_programs(write, capsys):
    path = write(changed(("decision", "stopping"), None))
    assert cli.main(["lint", str(path)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"E R5 +sound\.yaml, line \d+, decision: no stopping rule", said)
    assert cli.main(["lint", str(path), "--format", "json"]) == 1
    read = json.loads(capsys.readouterr().out)
    assert {"rule": "R5", "blocks": True, "launch": "sound.yaml"}.items() <= next(
        f for f in read if f["rule"] == "R5"
    ).items()
    assert cli.main(["lint", str(ROOT / "launches" / "show_premiere.yaml")]) == 0


def test_a_report_of_a_plan_with_a_blocking_objection_is_refused_before_data_are_opened(write, capsys, monkeypatch):
    path = write(changed(("decision", "stopping"), None))
    monkeypatch.chdir(path.parent)
    assert cli.main(["report", str(path)]) == 2
    said = capsys.readouterr().err
    assert "no stopping rule (rule R5)" in said
    assert said.count("\n") == 1
    assert [p.name for p in path.parent.iterdir()] == ["sound.yaml"]
