"""The plan as a page, and the register that says whether a result still is what was planned."""

import dataclasses
import datetime as dt
import json
import re
from pathlib import Path

import pytest

from helpers import cli, launch, linter, plan, register
from helpers.errors import DataError
from helpers.report import record

LAUNCHES = Path(__file__).parents[1] / "launches"
DAY = dt.date(2026, 11, 25)
CONTEXT = (
    "context: {feature: a gate, who: players, where: everywhere, when: in May, constraint: none, decision: keep it}\n"
)


@pytest.fixture
def gate(players):
    """Give a launch on an own table a context, and a way to change it."""
    path, _ = players
    text = path.read_text() + CONTEXT + "decision: {alpha: 0.05}\n"

    def read(old="", new=""):
        assert not old or old in text
        path.write_text(text.replace(old, new))
        return launch.load(path)

    return read


def test_a_plan_stays_confirmatory_as_long_as_what_decides_stays(gate):
    assert register.standing(gate()).label == "confirmatory"
    register.note(gate(), "data1", DAY)
    for same in (
        ("a gate", "another gate"),
        ("target: +2%", "target: +2%, owner: me"),
    ):
        assert register.standing(gate(*same)).label == "confirmatory", same


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("alpha: 0.05", "alpha: 0.1", "alpha was 0.05 and is now 0.1."),
        ("margin: -10%", "margin: -12%", "the margin of kept was -10% .* and is now -12%"),
        ("target: +2%", "target: +1%", "the target of per_session was"),
        ("name: hours, kind: mean, column: hours", "name: hours, kind: mean, column: sessions", "the primary metric was"),
        ("segments:", "dates: {start: 2026-05-04, days: 35}\nsegments:", "the horizon was 28 days and is now 35 days"),
        ("alpha: 0.05", "alpha: 0.05, stopping: when it is good", "the stopping rule was none"),
        (", target: +2%", "", "the target of per_session was dropped"),
        ("segments: [country]", "segments: []", "the list of segments was country and is now none"),
        ("segments:", "show: {format: limited}\nsegments:", "the format of the show was added: limited"),
        ("alpha: 0.05", "alpha: 0.05, stage: last", "the stage was added: the last"),
        ("name: hours, kind: mean", "name: hours, detect: +4%, kind: mean",
         r"the smallest gain of hours that is worth having was added: \+4%"),
    ],
)  # fmt: skip
def test_changing_what_decides_after_data_were_opened_makes_a_result_exploratory(gate, old, new, sentence):
    register.note(gate(), "data1", DAY)
    found = register.standing(gate(old, new))
    assert found.label == "exploratory"
    assert "first opened on 2026-11-25" in found.why[0]
    assert re.search(sentence, " ".join(found.why[1:]))
    register.note(gate(old, new), "data1", DAY)  # opening them again does not make the new plan the first
    assert register.standing(gate(old, new)).label == "exploratory"
    assert register.standing(gate()).label == "confirmatory"


def test_a_register_older_than_the_list_of_segments_does_not_speak_of_it(gate):
    register.note(gate(), "data1", DAY)
    where = register.path(gate())
    line = json.loads(where.read_text())
    del line["decisive"][register.SEGMENTS]
    where.write_text(json.dumps(line) + "\n")
    assert register.standing(gate("segments: [country]", "segments: []")).label == "confirmatory"


def test_a_launch_without_a_context_promises_nothing(players):
    found = register.standing(launch.load(players[0]))
    assert found.label == "exploratory"
    assert "no 'context'" in found.why[0]


def test_the_register_lies_beside_the_launch_and_lines_are_only_added(gate):
    one = gate()
    register.note(one, "data1", DAY)
    register.note(one, "data1", DAY + dt.timedelta(days=1))
    register.note(one, "data2", DAY + dt.timedelta(days=7))
    place = one.folder / "gate.opened.jsonl"
    assert [json.loads(line)["data"] for line in place.read_text().splitlines()] == ["data1", "data2"]
    assert [o.date for o in register.read(one)] == ["2026-11-25", "2026-12-02"]


def test_the_register_of_a_simulated_launch_lies_in_the_cache():
    assert LAUNCHES not in register.path(launch.load(LAUNCHES / "homepage.yaml")).parents


@pytest.mark.parametrize(
    "line", ["", "{}", "[1]", '{"date": "someday", "plan": "a", "data": "b", "decisive": {}}', "\x00"]
)
def test_a_spoilt_register_is_one_sentence_and_nothing_is_confirmed(gate, line):
    one = gate()
    register.note(one, "data1", DAY)
    register.path(one).write_text(register.path(one).read_text() + line + "\n")
    with pytest.raises(DataError, match=r"gate\.opened\.jsonl, line 2: is no line of a register"):
        register.note(one, "data2", DAY)
    assert register.standing(one).label == "exploratory"


@pytest.mark.parametrize("path", sorted(LAUNCHES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_launch_is_a_plan_without_a_blocking_objection(path):
    one = launch.load(path)
    assert one.context is not None
    assert not [f for f in linter.lint(one) if f.severity == "E"]


def test_the_page_holds_the_whole_plan_and_nothing_from_outside(tmp_path):
    out = plan.write(launch.load(LAUNCHES / "show_premiere.yaml"), tmp_path / "new" / "plan.html", today=DAY)
    page = out.read_text()
    for part in (
        "head of originals",                      # who decides
        "10,000 accounts at most",                # constraint
        "0.5 percentage points at a level of 2%", # churn: 25 % of 0.02, relative and absolute
        "people are carried along",               # harm
        "Watched: Survey score of those who",     # pre-mortem
        "by the head of originals, for four",     # accepted by name
        "four more weeks with the accounts",      # an action for HOLD
        "series, 8 episodes",                     # of which format the show is
        "Power at +4%",
        launch.load(LAUNCHES / "show_premiere.yaml").content_hash,
    ):  # fmt: skip
        assert part in page, part
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "default-src &#39;none&#39;" in page


def test_netflix_and_prime_differ_in_framing_and_in_the_harm_they_watch():
    pages = {
        name: plan.render(one := launch.load(LAUNCHES / f"{name}.yaml"), linter.lint(one), DAY)
        for name in ("homepage", "prime_recommendations")
    }
    assert "the value chain" in pages["homepage"]
    assert "the flywheel" not in pages["homepage"]
    assert "the flywheel" in pages["prime_recommendations"]
    assert "“I chose what I watched”" in pages["prime_recommendations"]
    assert "effort" in pages["prime_recommendations"]


def test_a_plan_names_other_metrics_by_their_titles_and_conditions_in_words():
    one = launch.load(LAUNCHES / "show_premiere.yaml")
    page = plan.render(one, [], DAY)
    counter, driven = (one.titles[m] for m in ("intentional_start_share", one.plan[0].metric.name))
    assert f"<dt>Counter-metric</dt><dd>{counter}</dd>" in page
    assert f"<dt>Drives</dt><dd>{driven}</dd>" in page
    assert "is_launch_title is true" in page
    assert "= True" not in page


def test_markup_in_a_plan_is_text(gate, tmp_path):
    evil = "<script>alert(1)</script>"
    one = gate("feature: a gate", f"feature: '{evil}'")
    page = plan.render(one, linter.lint(one), DAY)
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_command_writes_the_page_and_refuses_in_one_sentence(players, monkeypatch, capsys):
    path, _ = players
    monkeypatch.chdir(path.parent)
    assert cli.main(["plan", str(path)]) == 0
    assert (path.parent / "reports/plans/gate.html").exists()
    assert cli.main(["plan", str(path), "--out", "players.csv/plan.html"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_pages_say_what_changed_since_data_were_first_opened(gate, monkeypatch):
    one = gate()
    monkeypatch.chdir(one.folder)
    monkeypatch.setattr(linter, "blocking", lambda *_: [])  # the launch of this test is no full plan
    register.note(one, "data1", DAY)
    gate("margin: -10%", "margin: -12%")
    assert cli.main(["report", "gate.yaml", "--only", "04", "--date", "2026-11-21"]) == 0
    read = one.folder / "reports/2026-11-21/gate/04_analysis.html"
    assert '<span class="pill warn">exploratory</span>' in read.read_text()
    assert "the margin of kept was -10%" in read.read_text()
    values = json.loads(read.with_suffix(".json").read_text())
    assert (values["label"], record.Record.from_json(values).label) == ("exploratory", "exploratory")
    assert len(register.read(one)) == 2


def test_a_report_from_before_the_label_can_still_be_read():
    fields = {f.name: "x" for f in dataclasses.fields(record.Record)}
    old = {**fields, "format": record.FORMAT, "seconds": 1, "parameters": [], "versions": {}}
    del old["label"], old["remarks"]
    assert record.Record.from_json(old).label == ""


def test_a_plan_shows_what_is_to_stay_as_it_is_and_how_it_is_corrected(gate):
    one = gate("margin: -10%", "equivalence: ±5%, baseline: 0.6")
    html = plan.render(one, [], DAY)
    assert "equivalence ±5%" in html
    assert "±3 percentage points at a level of 60%" in html
    assert "corrected together (Holm" in html
    assert register.decisive(one)["the margin of kept"].startswith("±5%")
    free = gate("alpha: 0.05", "alpha: 0.05, correction: none")
    assert "not corrected" in plan.render(free, [], DAY)


def test_outliers_are_told_in_the_plans_words_and_by_what_is_done(players):
    path, _ = players
    text = path.read_text()
    path.write_text(text + "outliers: {rule: winsorise}\n")
    said = plan.outliers(launch.load(path))
    assert said == ["in the plan's words: winsorise", "nothing is capped, and nobody removed"]
    text = text.replace("column: hours, better", "column: hours, cap: 0.99, better")
    path.write_text(text + "outliers: {impossible_above: {hours: 168}}\n")  # needs no words
    said = plan.outliers(launch.load(path))
    assert said == ["Hours above 168 is impossible, and removed", "capped: Hours, caps from all arms together"]
