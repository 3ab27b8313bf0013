"""The launch file: what is read, what is refused, and how clearly."""

from dataclasses import asdict
from pathlib import Path

import pytest

from helpers import launch, metrics
from helpers.errors import LaunchError

SHIPPED = sorted((Path(__file__).parents[1] / "launches").glob("*.yaml"))
GOOD = """\
name: gate
data: {units: players.csv, account: user, arm: version}
arms: {control: old, treatment: new}
metrics:
  north_star: {name: kept, kind: proportion, column: kept, better: higher}
  guardrails:
    - {name: hours, kind: mean, column: hours, better: higher, margin: -2%}
"""


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "gate.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_launch_is_valid_and_named_like_its_file(path):
    assert launch.load(path).name == path.stem


def test_a_short_file_gets_sound_defaults(write):
    read = launch.load(write(GOOD))
    assert read.arms.treatment == ("new",)
    assert (read.decision.alpha.success, read.decision.power, read.days, read.pre_days) == (0.05, 0.8, 28, 0)
    kept, hours = read.plan
    assert (kept.role, kept.metric.unit) == ("north_star", "share")
    assert (hours.role, asdict(hours.margin)) == ("guardrail", {"value": -0.02, "relative": True, "text": "-2%"})


def test_a_metric_from_the_catalogue_may_change_its_window_and_nothing_else(write):
    text = GOOD.replace(
        "{name: kept, kind: proportion, column: kept, better: higher}", "{metric: churn_28d, window_days: 14}"
    )
    assert launch.load(write(text)).plan[0].metric.window_days == 14
    with pytest.raises(LaunchError, match=r"'better' belongs to a metric of your own"):
        launch.load(write(text.replace("window_days: 14", "better: higher")))


@pytest.mark.parametrize(
    ("text", "value", "relative"),
    [("+15%", 0.15, True), ("+2pp", 0.02, False), ("7 %", 0.07, True)],
)
def test_targets_are_relative_absolute_or_in_percentage_points(write, text, value, relative):
    entry = launch.load(write(GOOD.replace("column: kept,", f"column: kept, target: {text},"))).plan[0]
    assert (entry.target.value, entry.target.relative) == (value, relative)


@pytest.mark.parametrize(("key", "number"), [("target", "0.3"), ("margin", "-2")])
def test_a_bare_number_for_a_share_is_refused(write, key, number):
    with pytest.raises(LaunchError, match=rf"{key} {number} of 'kept', a share, .* write '{number}%' .*'{number}pp'"):
        launch.load(write(GOOD.replace("column: kept,", f"column: kept, {key}: {number},")))


def test_event_measures_are_read_with_their_conditions(write):
    text = GOOD.replace("units: players.csv", "source: tables").replace(
        "name: gate", "name: gate\ndates: {start: 2026-09-07, days: 14}"
    )
    text = text.replace(
        "{name: kept, kind: proportion, column: kept, better: higher}",
        "{name: quick, kind: ratio, better: higher, numerator: {table: sessions, agg: count, where: {seconds: {le: 60}, crashed: false}},"
        " denominator: {table: sessions, agg: count}}",
    )
    numerator = launch.load(write(text)).plan[0].metric.numerator
    assert numerator.where == (
        metrics.Condition(column="seconds", op="le", value=60),
        metrics.Condition(column="crashed", value=False),
    )


def test_no_stays_a_country_and_only_true_and_false_are_flags(write):
    read = launch.load(write(GOOD.replace("treatment: new", "treatment: NO")))
    assert read.arms.treatment == ("NO",)


def test_the_hash_follows_what_could_change_a_conclusion_and_nothing_else(write):
    base = launch.load(write(GOOD)).content_hash
    same = [
        GOOD.replace("name: gate", "name: gate\ntitle: Other\nquestion: Why?"),
        GOOD.replace("margin: -2%", "margin: -2%, owner: me"),
    ]
    other = [
        GOOD.replace("-2%", "-3%"),
        GOOD.replace("column: hours", "column: minutes"),
        GOOD + "decision: {alpha: 0.01}\n",
        GOOD.replace("treatment: new", "treatment: newer"),
        GOOD + "segments: [country]\n",
        GOOD + "show: {format: limited}\n",
        GOOD + "decision: {stage: last}\n",
        GOOD.replace("name: kept,", "name: kept, detect: +2%,", 1),  # futility is read against it
    ]
    assert {launch.load(write(text)).content_hash for text in same} == {base}
    assert base not in {launch.load(write(text)).content_hash for text in other}


def test_a_last_stage_has_no_later_ones(write):
    text = GOOD + "decision: {stage: last}\nsampling: {n: {old: 10, new: 10}"
    assert launch.load(write(text + "}\n")).decision.stage == "last"
    with pytest.raises(LaunchError, match=r"'decision.stage' is the last, but 'sampling.later' keeps accounts"):
        launch.load(write(text + ", later: {stage_2: 20}}\n"))


def test_arms_may_be_written_as_the_numbers_or_flags_that_they_are_in_the_data(write):
    text = (
        GOOD.replace("control: old, treatment: new", "control: 0, treatment: [1, true]")
        + "sampling: {n: {0: 5, 1: 5, true: 5}}\n"
    )
    read = launch.load(write(text.replace("{n: {0: 5, 1: 5, true: 5}}", '{n: {"0": 5, "1": 5, "true": 5}}')))
    assert read.arms.names == ("0", "1", "true")


BAD = {
    "unknown key": (GOOD + "decision: {alfa: 0.1}\n", r"gate\.yaml, line 8, decision\.alfa: unknown key; did you mean 'alpha'\?"),
    "missing key": (GOOD.replace("name: gate\n", ""), r"name: is missing and must be given"),
    "unknown metric": (GOOD.replace("{name: kept, kind: proportion, column: kept, better: higher}", "churn_30d"), r"line 5.*did you mean 'churn_28d'\?"),
    "no such format": (GOOD + "show: {format: mini}\n", r"line 8, show\.format is 'mini': it should be 'series' or 'limited'"),
    "no episodes": (GOOD + "show: {episodes: 0}\n", r"line 8, show\.episodes is 0: it should be greater than or equal to 1"),
    "wrong type": (GOOD + "decision: {alpha: often}\n", r"line 8, decision\.alpha is 'often': it should be a number above 0 and less than 0\.5, such as 0\.05 for 5%, or one for each role"),
    "out of range": (GOOD + "decision: {alpha: 1.5}\n", r"decision\.alpha is 1\.5: it should be a number above 0 and less than 0\.5"),
    "alpha in per cent": (GOOD + "decision: {alpha: 5%}\n", r"decision\.alpha is '5%': .* such as 0\.05 for 5%"),
    "alpha of a role": (GOOD + "decision: {alpha: {guardrails: 10%}}\n", r"alpha\.guardrails is '10%': .* such as 0\.05 for 5%"),
    "power in per cent": (GOOD + "decision: {power: 80%}\n", r"decision\.power is '80%': .* a share is written 0\.05, not 5%"),
    "day in another form": (GOOD + "dates: {start: 03/01/2026, days: 14}\n", r"dates\.start is '03/01/2026': it should be a day, written YYYY-MM-DD"),
    "day and hour": (GOOD + "dates: {start: 2026-03-01 10:00:00, days: 14}\n", r"dates\.start .*: it should be a day, written YYYY-MM-DD"),
    "day that is none": (GOOD + "dates: {start: 2026-13-01, days: 14}\n", r"line 8: .*'2026-13-01' is no day; write YYYY-MM-DD"),
    "indented too far": ("a: 1\n  b: 2\n", r"line 2: .* a key is indented too far, or a text with ': ' in it needs quotes"),
    "indented unevenly": ("metrics:\n  a: 1\n b: 2\n", r"line 3: .* not in one column with the other lines of its section \(begun in line 1\)"),
    "list unevenly": ("g:\n    - {name: x}\n   - {name: y}\n", r"line 3: .* not in one column with the other lines"),
    "list among keys": ("- a\nb: 1\n", r"line 2: .* keys mixed with '- '"),
    "tab": ("a:\n\t- b\n", r"line 2: .* a tab stands where spaces must"),
    "sign": ("a: @x\n", r"line 1: .* a text that begins with '@' needs quotes"),
    "open quotes": ("a: 'x\nb: 1\n", r"line 3: .* a quotation mark is not closed \(begun in line 1\)"),
    "no colon": ("a: 1\nfoo\n", r"line 3: .* a key without ':' \(begun in line 2\)"),
    "not finite": (GOOD + "decision: {alpha: .nan}\n", r"decision\.alpha"),
    "end before start": (GOOD + "dates: {start: 2026-09-07, end: 2026-09-01}\n", r"'end' \(2026-09-01\) is before 'start' \(2026-09-07\)"),
    "no bound": (GOOD.replace("-2%", "a bit"), r"line 7, metrics\.guardrails\[0\]\.margin is 'a bit': write '\+10%'"),
    "margin the wrong way": (GOOD.replace("-2%", "+2%"), r"margin \+2% points the wrong way"),
    "guardrail without margin": (GOOD.replace(", margin: -2%", ""), r"guardrail 'hours' has no 'margin'"),
    "equivalence of one side": (GOOD.replace("margin: -2%", "equivalence: -2%"), r"equivalence is '-2%': .*write '±2%'"),
    "equivalence of nothing": (GOOD.replace("margin: -2%", "equivalence: 0"), r"write '±2%'"),
    "equivalence beside a margin": (GOOD.replace("margin: -2%", "margin: -2%, equivalence: ±2%"), r"'equivalence' stands instead of 'target' and 'margin'"),
    "equivalence of a success": (GOOD.replace("column: kept,", "column: kept, equivalence: ±2%,"), r"'kept' is a success metric, and success is a gain"),
    "equivalence of a share without its unit": (GOOD.replace("kind: mean", "kind: proportion").replace("margin: -2%", "equivalence: 0.02"), r"equivalence ±0.02 of 'hours', a share, may mean two things"),
    "title with jargon": (GOOD.replace("column: kept,", "column: kept, title: p-value of keeping,"), r"the first screen of a page never says 'p-value'"),
    "unit in Greek": (GOOD.replace("kind: mean", "kind: mean, unit: μs"), r"never says 'μ'"),
    "correction unknown": (GOOD + "decision: {correction: bh}\n", r"correction is 'bh': it should be 'holm', 'bonferroni' or 'none'"),
    "metric twice": (GOOD.replace("name: hours", "name: kept"), r"metric 'kept' stands in the plan twice"),
    "no north star": (GOOD.replace("north_star", "supporting").replace("{name: kept", "[{name: kept").replace("higher}\n  g", "higher}]\n  g"), r"north_star: is missing"),
    "ratio without denominator": (GOOD.replace("kind: mean", "kind: ratio"), r"a ratio has a 'denominator'"),
    "cap on a proportion": (GOOD.replace("column: kept,", "column: kept, cap: 0.99,"), r"'cap' is for means, counts and ratios"),
    "impossible of another": (GOOD + "outliers: {rule: none, impossible_above: {hour: 9}}\n", r"'impossible_above' names 'hour', which is no mean or count of the plan; did you mean 'hours'"),
    "impossible of a share": (GOOD + "outliers: {rule: none, impossible_above: {kept: 1}}\n", r"'impossible_above' names 'kept', .*it is a proportion"),
    "removed by the arm": (GOOD + "outliers: {rule: none, remove: [{version: new}]}\n", r"'remove' names 'version', the arm; name what was known"),
    "removed by the outcome": (GOOD + "outliers: {rule: none, remove: [{hours: {gt: 9}}]}\n", r"'remove' names 'hours', what the plan measures"),
    "flagged when": (GOOD + "outliers: {rule: none, flagged_at: since}\n", r"'flagged_at' says when flags were set; name them under 'remove'"),
    "cap of the target": (GOOD.replace("column: hours,", "column: hours, cap: 0.99,") + "outliers: {rule: none, heavy_viewers_are_target: true}\n", r"'hours' has a 'cap', but 'heavy_viewers_are_target' keeps heavy viewers"),
    "caps of each arm": (GOOD + "outliers: {rule: none, caps: per_arm}\n", r"outliers\.caps is 'per_arm': it should be 'pooled' or 'before'"),
    "caps without a past": (GOOD.replace("column: hours,", "column: hours, cap: 0.99,") + "outliers: {rule: none, caps: before}\n", r"needs 'hours' over as many days before the launch as after it; there are 0 and 28"),
    "same arm twice": (GOOD.replace("treatment: new", "treatment: old"), r"every arm needs a name of its own"),
    "key twice": (GOOD + "name: other\n", r"line 8: .*key 'name' stands here twice"),
    "alias": (GOOD.replace("old", "&a old").replace("new", "*a"), r"line 3: .*aliases"),
    "python tag": (GOOD.replace("name: gate", "name: !!python/object/apply:os.system [ls]"), r"line 1: .*tag .*python.* is not allowed"),
    "no mapping": ("- a\n- b\n", r"expected a launch"),
    "empty": ("", r"found nothing"),
    "broken": ("name: [a\n", r"line 2: is not valid YAML here: a bracket is not closed, or a comma is missing \(begun in line 1\)"),
    "not text": (b"name: \xff\xfe\n", r"not text in UTF-8"),
    "too long": ("#" * 70_000, r"70,000 bytes are too many"),
    "too deep": ("a: " + "[" * 5_000, r"nested too deeply|not valid YAML"),
    "two documents": (GOOD + "---\nname: b\n", r"not valid YAML"),
    "path as name": (GOOD.replace("name: gate", "name: ../../etc"), r"name is '../../etc': use small letters"),
    "looks without dates": (GOOD + "decision: {looks: [7]}\n", r"'looks' are days of the launch: they need 'dates'"),
    "no value": (GOOD.replace("name: gate", "name:"), r"name is empty: it should be text"),
    "looks of a table": (GOOD + "dates: {start: 2026-09-07, days: 14}\ndecision: {looks: [7]}\n", r"'looks' need event tables"),
    "looks beyond the end": (GOOD + "dates: {start: 2026-09-07, days: 14}\ndecision: {looks: [7, 28]}\n", r"the last look is on day 28"),
    "arms differ from sampling": (GOOD + "sampling: {n: {old: 10, newer: 10}}\n", r"'new' stands in only one|'newer' stands in only one"),
    "nothing to open": (GOOD.replace("units: players.csv, ", ""), r"needs 'source' .* or 'units'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_sentence_that_names_file_place_and_remedy(write, text, sentence):
    with pytest.raises(LaunchError, match=sentence) as caught:
        launch.load(write(text))
    assert "gate.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused_before_it_grows(write):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(LaunchError, match="aliases"):
        launch.load(write(bomb))


def test_a_file_that_is_not_there_names_its_nearest_neighbour(write):
    path = write(GOOD)
    with pytest.raises(LaunchError, match=r"there is no such launch file; did you mean 'gate.yaml'\?"):
        launch.load(path.with_name("gates.yaml"))


def test_several_faults_are_told_at_once(write):
    with pytest.raises(LaunchError) as caught:
        launch.load(write(GOOD.replace("-2%", "x") + "decision: {alpha: often}\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_simulated_launches_cannot_ask_for_more_accounts_than_there_are(write):
    text = GOOD.replace("units: players.csv, account: user, arm: version", "source: simulate, accounts: 1000") + (
        "dates: {start: 2026-09-07, days: 28}\nsampling: {n: {old: 900, new: 200}}\n"
    )
    with pytest.raises(LaunchError, match=r"the arms ask for 1,100 accounts, the service has 1,000"):
        launch.load(write(text))


@pytest.mark.parametrize(
    ("written", "value", "relative", "text"),
    [
        ("±2%", 0.02, True, "±2%"),
        ("2%", 0.02, True, "±2%"),
        ("± 0.5pp", 0.005, False, "±0.5pp"),
        ("0.1", 0.1, False, "±0.1"),
    ],
)
def test_an_equivalence_is_a_margin_to_both_sides(write, written, value, relative, text):
    planned = launch.load(write(GOOD.replace("margin: -2%", f"equivalence: {written}"))).plan[1]
    assert (planned.limit.value, planned.limit.relative, planned.limit.text) == (value, relative, text)
    assert planned.asked == f"equivalence {text}"
    assert planned.margin is None
