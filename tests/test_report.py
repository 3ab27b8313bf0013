"""The report runner, from a parameter's text to the index over all runs."""

from __future__ import annotations

import ast
import datetime as dt
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colors
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import plots, results
from helpers.errors import ParameterError, ReportError
from helpers.report import figure, index, kernels, page, params, readout, record, runner, table, theme
from helpers.report.readout import Readout
from helpers.results import Check, Claim, Estimate, NotEstimable, Verdict

ROOT = Path(__file__).resolve().parents[1]
DAY = dt.date(2026, 11, 22)
HOSTILE = "<script>alert(1)</script>"
LAUNCH = 'launch: str = "../launches/show_premiere.yaml"  # the launch file'
END = 'from helpers.report.readout import Readout\nReadout(headline="Viewing rose.", answer=("Viewing rose by 4%.",))'


def notebook(*cells: str, title: str = "# 04 Did it work?", parameters: str = LAUNCH, tags: tuple[str, ...] = ()):
    """Write cells down: Markdown where one begins with '#' or '>', else code; `tags` go to the last."""
    made = [new_markdown_cell(title), new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    made += [new_markdown_cell(c) if c[0] in "#>" else new_code_cell(c) for c in cells]
    made[-1].metadata["tags"] = [*made[-1].metadata.get("tags", []), *tags]
    return new_notebook(cells=made)


def save(folder: Path, **notebooks) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in notebooks.items():
        nbformat.write(content, folder / f"{name.lstrip('n')}.ipynb")
    return folder


def subject(folder: Path, name: str = "show_premiere", title: str = "Northern Lights") -> runner.Subject:
    path = folder / "launches" / f"{name}.yaml"
    return runner.Subject(name=name, title=title, path=path, content_hash="c0ffee", data_hash="deca1d")


def estimate(**changes) -> Estimate:
    numbers = {
        "control": 6.05, "treatment": 6.29, "diff": 0.24, "se": 0.066, "low": 0.11, "high": 0.37,
        "rel": 0.0397, "rel_low": 0.018, "rel_high": 0.061, "p": 0.0003,
    }  # fmt: skip
    names = {"metric": "hours", "n_control": 30_000, "n_treatment": 10_000, "method": "Welch", "mde": 0.19}
    return Estimate(**names | numbers | changes)


def claim(answer: Estimate | NotEstimable, **changes) -> Claim:
    told = {"title": "Hours watched", "unit": "h/week", "role": "north_star", "better": "higher"}
    return Claim(metric="hours", estimate=answer, **told | {"status": "better", "words": "Higher."} | changes)


class Markup(HTMLParser):
    """What a browser would make of a page: its tags, and its text without scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag):
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data):
        self.text += "" if self._inside else data


# Parameters


def test_parameters_are_read_with_type_default_and_meaning_and_without_running_them():
    cell = 'a: int = -3  # how "many" # times\nb: float = 2\nc: str = "é # no"  # text\nd: bool = False'
    found = params.declared(notebook(parameters=cell), where="04")
    assert [(p.name, p.type, p.default, p.meaning) for p in found.values()] == [
        ("a", int, -3, 'how "many" # times'),
        ("b", float, 2.0, ""),
        ("c", str, "é # no", "text"),
        ("d", bool, False, ""),
    ]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("a = 1", "write `name: type = literal"),
        ("a: int = 2 * 3", "is not a literal"),
        ("a: int = open('x')", "is not a literal"),
        ("a: list = []", "'list' is not one of int, float, str, bool"),
        ("a: int = 'x'", "declared int, but its value is 'x'"),
        ("a: int = True", "declared int, but its value is True"),
        ("a: int = = 1", "parameters cell, line 1"),
    ],
)
def test_a_parameters_cell_that_is_not_plain_is_refused(cell, told):
    with pytest.raises(ParameterError, match=re.escape(told)):
        params.declared(notebook(parameters=cell), where="04")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("str", "NO", "NO"), ("str", "007", "007"), ("bool", "TRUE", True), ("int", "-7", -7), ("float", "1e-3", 0.001)],
)
def test_texts_become_values_of_the_declared_type_only(kind, text, value):
    default = {"str": '"x"', "bool": "False", "int": "1", "float": "1.0"}[kind]
    declared = params.declared(notebook(parameters=f"a: {kind} = {default}"), where="04")
    found = params.resolve(declared, {"a": text})["a"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", "1.5"), ("int", "x"), ("float", "nan"), ("float", "-inf"), ("bool", "yes"), ("bool", "1")],
)
def test_texts_of_another_type_are_refused_with_name_and_value(kind, text):
    default = {"bool": "False", "int": "1", "float": "1.0"}[kind]
    declared = params.declared(notebook(parameters=f"a: {kind} = {default}"), where="04")
    with pytest.raises(ParameterError, match=re.escape(f"a is {text!r}, expected ")):
        params.resolve(declared, {"a": text})


@given(st.text())
def test_a_text_parameter_keeps_every_character(text):
    parameter = params.Parameter(name="a", type=str, default="")
    assert params.resolve({"a": parameter}, {"a": text}) == {"a": text}


# Readout


def test_readout_json_carries_exactly_the_fields_of_estimate_and_the_verdict():
    missing = NotEstimable(metric="score", reason="the surveys table is missing")
    verdict = Verdict(decision="HOLD", sentence="Hold.", reasons=("Churn is not known.",))
    made = Readout(
        headline="One.", answer=("Two.",), claims=(claim(estimate()), claim(missing)), verdict=verdict,
        checks=(Check(name="Sample ratio", passed=True, detail="as planned", p=0.4),),
    ).to_json()  # fmt: skip
    assert list(made) == [
        "headline", "answer", "decision", "estimates", "not_estimable", "claims", "checks", "verdict", "planned",
    ]  # fmt: skip
    assert [list(e) for e in made["estimates"]] == [[f.name for f in fields(Estimate)]]
    assert made["estimates"][0] == asdict(estimate())
    assert made["not_estimable"][0]["reason"] == "the surveys table is missing"
    assert made["decision"] == made["verdict"]["decision"] == "HOLD"
    assert json.loads(json.dumps(made, allow_nan=False)) == made


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float64("-inf"), np.float32("nan")])
def test_readout_refuses_what_is_not_a_number_and_says_where(bad):
    with pytest.raises(ParameterError, match=r"Readout\.estimates\[0\]\.mde is .*NotEstimable"):
        Readout(headline="One.", answer=("Two.",), claims=(claim(estimate(mde=bad)),))


def test_readout_turns_numpy_scalars_into_plain_numbers():
    made = Readout(headline="One.", answer=("Two.",), estimates=(estimate(n_control=np.int64(5), se=np.float64(0.5)),))
    assert [type(made.to_json()["estimates"][0][name]) for name in ("n_control", "se")] == [int, float]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((), "one to three sentences"),
        (("a.", "b.", "c.", "d."), "one to three sentences"),
        ("One sentence.", "one to three sentences"),
        (("word " * 121,), "121 words"),
        ((" ",), "must say something"),
        (("The p-value is small.",), "'p-value' is not plain"),
        (("We used α = 5%.",), "'α' is not plain"),
        (("Early access had no effect on churn.",), "'no effect'"),
        (("Churn is unchanged.",), "'unchanged'"),
    ],
)
def test_an_answer_that_is_long_or_not_plain_is_refused(answer, told):
    with pytest.raises(ParameterError, match=re.escape(told)):
        Readout(headline="One.", answer=answer)


def test_a_decision_must_be_known_and_agree_with_the_verdict():
    with pytest.raises(ParameterError, match="'MAYBE' is not one of"):
        Readout(headline="One.", answer=("Two.",), decision="MAYBE")
    verdict = Verdict(decision="HOLD", sentence="Hold.")
    with pytest.raises(ParameterError, match="SHIP contradicts the verdict HOLD"):
        Readout(headline="One.", answer=("Two.",), decision="SHIP", verdict=verdict)


def test_numbers_are_written_in_their_unit_to_the_decimals_the_interval_supports():
    share = estimate(control=0.0231, treatment=0.0239, diff=0.0008, low=-0.0027, high=0.0043)
    words = readout.describe(share, "share")
    assert [words[k] for k in ("control", "treatment", "change", "low", "high", "step")] == [
        "2.31%", "2.39%", "+0.08", "−0.27", "+0.43", "pp",
    ]  # fmt: skip
    wide = readout.describe(estimate(control=0.5, treatment=0.9, diff=0.4, low=-0.7, high=1.5, rel=None), "share")
    assert [wide["low"], wide["high"]] == ["−70", "+100"]  # no share moves by more than 100 percentage points
    hours = readout.describe(estimate(), "h/week")
    assert [hours[k] for k in ("control", "change", "step", "relative")] == ["6.05", "+0.24", "", "+4.0%"]
    assert readout.describe(estimate(rel=None, rel_low=None, rel_high=None), "h")["relative"] == ""
    assert (
        readout.describe(estimate(rel=18.351, rel_low=None, rel_high=None), "h")["relative"] == ""
    )  # of nearly nothing


@given(st.floats(-1e9, 1e9), st.integers(0, 6))
def test_a_written_number_reads_back_within_its_rounding(value, digits):
    written = readout.number(value, digits, signed=True)
    assert float(written.replace(",", "").replace("−", "-")) == pytest.approx(value, abs=0.51 * 10**-digits, rel=1e-12)
    assert not re.match(r"[+−]0\.?0*$", written)


def test_scorecard_escapes_names_marks_the_bound_and_says_why_a_number_is_missing():
    rows = (
        claim(estimate(), title=HOSTILE, bound=0.3, bound_text="+5%", status="cannot tell"),
        claim(NotEstimable(metric="score", reason="no <answers>"), status="not estimable", bound_text="+7%"),
    )
    made = Markup(Readout(headline="One.", answer=(HOSTILE,), claims=rows).to_html())
    assert not [tag for tag, _ in made.tags if tag == "script"]
    assert made.text.count(HOSTILE) == 2
    assert "Cannot be estimated: no <answers>" in made.text
    assert "cannot tell Higher." in made.text
    assert "target +7%" in made.text  # where no words say what was asked
    assert [a["class"] for tag, a in made.tags if tag == "line"] == ["bound good", "zero", "range"]
    assert "no effect" not in made.text.lower()


def test_what_was_planned_for_the_decision_stands_below_the_answer_as_it_was_written():
    verdict = Verdict(decision="HOLD", sentence="Hold: wait.")
    text = f"no effect on p-values {HOSTILE} " + "word " * 130  # the launch's own words are not the first screen's
    made = Markup(Readout(headline="One.", answer=("Two.",), verdict=verdict, planned=text).to_html())
    assert not [tag for tag, _ in made.tags if tag == "script"]
    assert f"Planned beforehand for HOLD: no effect on p-values {HOSTILE}" in made.text
    assert Readout(headline="One.", answer=("Two.",), verdict=verdict, planned=text).to_json()["planned"] == text
    assert "Planned" not in Markup(Readout(headline="One.", answer=("Two.",), verdict=verdict).to_html()).text


def test_an_estimate_without_a_claim_has_the_title_with_its_suffix_and_the_unit():
    late = Readout(
        headline="One.", answer=("Two.",), estimates=(replace(estimate(), metric="hours: late"),),
        titles={"hours": "Hours watched"}, unit="h/week",
    )  # fmt: skip
    assert "Hours watched: late<small>h/week</small>" in late.to_html()
    share = Readout(
        headline="One.", answer=("Two.",), estimates=(estimate(diff=0.02, low=0.01, high=0.03),), unit="share"
    )
    assert "+2.0 pp" in Markup(share.to_html()).text


@pytest.mark.parametrize(
    ("better", "bound", "tone", "right"),
    [("higher", 0.3, "good", True), ("lower", 0.3, "bad", True), ("higher", -0.3, "bad", False), ("lower", -0.3, "good", False)],
)  # fmt: skip
def test_the_tinted_zone_is_where_a_target_is_reached_or_a_margin_crossed(better, bound, tone, right):
    zone = readout._drawing(estimate(), claim(estimate(), better=better, bound=bound))["zones"][0]
    assert zone["tone"] == tone
    assert (zone["x"] > 60) == right  # zero is drawn at 60
    assert (zone["x"], zone["x"] + zone["width"])[right] == (0, 120)[right]


# Figures


@pytest.fixture
def axes():
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    with plt.rc_context():
        figure.use_theme()
        yield plt.subplots()[1]
        plt.close("all")


def test_a_chart_is_svg_with_text_and_with_colours_that_follow_the_theme(axes):
    axes.plot([1, 2], [3, 4], label=HOSTILE)
    axes.fill_between([1, 2], [3, 4], color=figure.GOOD)
    axes.set_title("Hours per week")
    axes.legend()
    shown = figure.show(
        axes, caption=f"It rose {HOSTILE}", alt='A "line" that rises', data=pd.DataFrame({"x": [HOSTILE]})
    )
    made = Markup(shown._repr_html_())
    assert "Hours per week" in made.text
    assert "script" not in {tag for tag, _ in made.tags}
    assert 'A "line" that rises' in {a.get("aria-label") for _, a in made.tags}
    assert {"s1", "good", "ink"} <= set(re.findall(r"var\(--(\w+)", shown.svg))
    assert not re.findall(r": #[0-9a-f]{6}", shown.svg)  # no colour is left outside a variable
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", shown.svg)


def test_ids_of_two_charts_never_meet_and_a_chart_is_the_same_twice(axes):
    import matplotlib.pyplot as plt

    def draw(alt: str) -> str:
        chart, one = plt.subplots()
        one.plot([1, 2], [3, 4], marker="o")
        return figure.show(chart, caption="It rose.", alt=alt).svg

    first, second = draw("one"), draw("two")
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
    assert all(set(re.findall(r"[(\"]#([\w-]+)", svg)) <= own for svg, own in zip((first, second), ids, strict=True))
    assert draw("one") == first


def test_many_points_become_an_image_and_few_do_not(axes):
    axes.scatter(np.arange(5_000), np.arange(5_000))
    heavy = figure.show(axes, caption="Many.", alt="Many points.").svg
    assert "data:image/png" in heavy
    assert len(heavy) < 200_000
    import matplotlib.pyplot as plt

    axes = plt.subplots()[1]
    axes.scatter([1], [2])
    assert "<image" not in figure.show(axes, caption="Few.", alt="Few points.").svg


@pytest.mark.parametrize("missing", ["caption", "alt"])
def test_a_chart_without_words_is_refused(axes, missing):
    with pytest.raises(ParameterError, match=missing):
        figure.show(axes, **{"caption": "c", "alt": "a"} | {missing: " "})


def test_a_long_table_behind_a_chart_is_cut_and_says_so(axes):
    gap = figure.show(axes, caption="c", alt="a", data=pd.DataFrame({"x": [1.5, None], "why": [None, "few"]}))
    assert re.findall("<td>(.*?)</td>", gap.table) == ["1.5", "–", "–", "few"]
    shown = figure.show(axes, caption="c", alt="a", data=pd.DataFrame({"x": range(1_000)}))
    assert "The first 200 of 1,000 rows." in shown._repr_html_()
    assert "<td>200</td>" not in shown.table


# Plan


def test_only_takes_numbers_and_beginnings_of_names(tmp_path):
    books = save(tmp_path / "n", n00_overview=notebook(), n04_analysis=notebook(), n10_bias=notebook())
    for wanted, names in [
        ("4", ["04_analysis"]),
        ("04_an", ["04_analysis"]),
        ("0", ["00_overview"]),
        ("10", ["10_bias"]),
    ]:
        assert [job.name for job in runner.plan([subject(tmp_path)], books, {}, [wanted])] == names
    with pytest.raises(ParameterError, match=r"no notebook is '04_anlysis'; did you mean '04_analysis'\?"):
        runner.plan([subject(tmp_path)], books, {}, ["04_anlysis"])


def test_parameters_go_to_the_notebooks_that_declare_them_and_to_none_other(tmp_path):
    books = save(
        tmp_path / "n", n04_a=notebook(parameters=LAUNCH + "\nseed: int = 1  # for the draw"), n05_b=notebook()
    )
    one, other = runner.plan([subject(tmp_path)], books, {"seed": "7"})
    assert one.injected == {"launch": "../launches/show_premiere.yaml", "seed": 7}
    assert other.injected == {"launch": "../launches/show_premiere.yaml"}
    assert [(s.name, s.value, s.default, s.changed, s.meaning) for s in one.settings] == [
        ("seed", 7, 1, True, "for the draw")
    ]
    with pytest.raises(ParameterError, match=r"no chosen notebook has a parameter 'sede'; did you mean 'seed'\?"):
        runner.plan([subject(tmp_path)], books, {"sede": "7"})
    with pytest.raises(ParameterError, match="'launch' is set for each launch"):
        runner.plan([subject(tmp_path)], books, {"launch": "x"})


def test_a_folder_without_notebooks_and_a_broken_one_are_told(tmp_path):
    with pytest.raises(ReportError, match="no numbered notebooks"):
        runner.plan([subject(tmp_path)], tmp_path, {})
    (tmp_path / "04_x.ipynb").write_text("{")
    with pytest.raises(ReportError, match=r"04_x\.ipynb cannot be read as a notebook"):
        runner.plan([subject(tmp_path)], tmp_path, {})


def test_progress_goes_on_where_nobody_reads_it_any_more(tmp_path, monkeypatch):
    jobs = runner.plan([subject(tmp_path)], save(tmp_path / "n", n01_a=notebook(END)), {})
    ended = record.Record(**dict.fromkeys(record.Record.__dataclass_fields__, ""))  # a record of nothing
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        progress = runner._Progress(jobs)
        for _ in range(2):
            progress.finish(jobs[0], replace(ended, seconds=1.5), "HOLD")


def test_progress_is_live_on_a_terminal_and_one_line_each_elsewhere(tmp_path, monkeypatch):
    books = save(tmp_path / "n", n01_a=notebook(END), n02_b=notebook(END))
    jobs = runner.plan([subject(tmp_path)], books, {})
    ended = record.Record(**dict.fromkeys(record.Record.__dataclass_fields__, ""))  # a record of nothing
    ended = replace(ended, seconds=1.5, error="KeyError: 'x'\nmore")
    for live, said in ((False, ""), (True, "  …      show_premiere/01_a  cell 1 of 3\n")):
        out = io.StringIO()
        out.isatty = lambda live=live: live
        monkeypatch.setattr(sys, "stdout", out)
        progress = runner._Progress(jobs)
        progress.update(jobs[0], 1, 3)
        assert out.getvalue() == said
        progress.finish(jobs[0], ended, None)
        lines = out.getvalue().split("\n")
        assert lines[-2].removeprefix("\x1b[1A\x1b[J") == "  failed show_premiere/01_a    1.5 s  KeyError: 'x'"


# Page


def write_page(*cells, outputs=(), title="# 04 Did it work?", error="", tags=()) -> str:
    book = notebook(*cells, title=title, tags=tags)
    if outputs:
        book.cells.append(new_code_cell("x", execution_count=1, outputs=list(outputs)))
    made = record.Record(
        notebook="04_analysis", title=page.title(book, "04"), launch="show", launch_title=HOSTILE, launch_path="x",
        launch_hash="c0ffee", data_hash="deca1d", date="2026-11-22", started="2026-11-22 09:00:00 UTC", seconds=1.0,
        commit="not in git", versions={"Python": "3.11"}, error=error,
    )  # fmt: skip
    return page.render(book, made, siblings=[], root=Path("/home/ada/premiere"))


def test_markup_in_titles_texts_and_outputs_appears_as_text():
    stream = nbformat.v4.new_output("stream", name="stdout", text=HOSTILE)
    links = "[x](javascript:alert(1)) ![y](attachment:none.png) ![z](https://example.org/z.png)"
    mark = nbformat.v4.new_output("display_data", data={"text/markdown": f"{HOSTILE} {links}"})
    made = Markup(
        write_page(f"# {HOSTILE}\n\n<img src=x onerror=alert(1)>", outputs=[stream, mark], title=f"# 04 {HOSTILE}")
    )
    assert [tag for tag, _ in made.tags].count("script") == 1  # the page's own
    assert "img" not in {tag for tag, _ in made.tags}  # no picture is loaded
    assert not [a for _, a in made.tags if any(name.startswith("on") for name in a)]
    assert not [a for _, a in made.tags if (a.get("href") or "").startswith("javascript:")]
    assert made.text.count(HOSTILE) >= 5


def test_the_policy_allows_the_pages_own_script_and_nothing_else():
    made = Markup(write_page())
    policy = next(a["content"] for tag, a in made.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert not [a for tag, a in made.tags if tag in ("link", "img", "iframe") or (tag == "script" and "src" in a)]


def test_formulas_become_mathml_and_broken_ones_stay_readable():
    made = write_page(r"> $\Delta = \frac{a}{b}$", r"> $$\begin{x} \frac{$$", "> a < b and `code`")
    assert "<mfrac>" in made
    assert r"\frac{" in Markup(made).text


def test_headings_make_contents_with_anchors_of_their_own():
    made = write_page("## Method `x`", "## Method `x`", "### Größe & more", "## Run record")
    links = re.findall(r'<li class="level\d"><a href="#([^"]+)">', made)
    anchors = re.findall(r'<h[23] id="([^"]+)"', made)
    assert links == anchors
    assert len(set(anchors)) == 5


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(("share", dtype) for dtype in ("object", "str", "string", "boolean", "Float64", "Int64", "category")),
        *(("p", dtype) for dtype in ("object", "float64", "Float64")),
    ],
)
@pytest.mark.parametrize("values", [[None, 1], [None, None]])
def test_a_missing_cell_is_a_dash_whatever_its_type(name, dtype, values):
    known = {"str": "1", "string": "1", "boolean": True}.get(dtype, 1)
    column = pd.Series([None if v is None else known for v in values], dtype=dtype)
    shown = table.show(pd.DataFrame({"method": ["mean", "median"], name: column}))
    for text in (shown.html, shown.text):
        assert text.count("–") == values.count(None)
        assert not {"None", "NaN", "nan", "NA"} & set(re.findall(r"\w+", text))


def test_tiny_p_values_and_what_rounding_leaves_are_no_rows_of_zeros(axes):
    left = 0.3 - 0.1 * 3
    html = table.show(pd.DataFrame({"everybody gains: p": [1e-17, np.nan], "diff": [left, 1e-6]})).html
    assert re.findall(r"<td>(.*?)</td>", html) == ["&lt; 0.001", "0", "–", "0.000001"]
    assert left < 0
    below = figure.show(axes, caption="c", alt="a", data=pd.DataFrame({"q": [1e-17], "after correction": [0.0], "gained": [True]})).table  # fmt: skip
    assert re.findall(r"<td>(.*?)</td>", below) == ["&lt; 0.001", "&lt; 0.001", "yes"]


def cells_of(*sources, **outputs):
    """Render a notebook in which the code cell "a" has shown outputs["a"], and so on."""
    book = notebook(*sources)
    for cell in book.cells:
        if cell.cell_type == "code" and cell.source in outputs:
            shown = outputs[cell.source]
            cell.outputs = [nbformat.v4.new_output("display_data", data={"text/html": s._repr_html_()}) for s in shown]
    made = record.Record(
        notebook="04_analysis", title="t", launch="show", launch_title="t", launch_path="x", launch_hash="c", data_hash="d",
        date="2026-11-22", started="2026-11-22 09:00:00 UTC", seconds=1.0, commit="c", versions={}, error="",
    )  # fmt: skip
    html = page.render(book, made, siblings=[], root=Path("/home/ada/premiere"))
    folded = re.findall(r'<div class="cell absent">(.*?)\n</div>', html, re.DOTALL)
    return html, folded, re.sub(r'<div class="cell absent">.*?\n</div>', "", html, flags=re.DOTALL)


def test_a_part_with_nothing_to_show_keeps_its_heading_and_its_reason_and_folds_its_words(axes):
    none = table.show(results.nothing("no log; a course needs one", ["day"]))
    unknown = table.show(pd.DataFrame())
    axes.text(0, 0, figure.NOTHING)
    frame = figure.show(axes, caption="It rose.", alt="A line.", data=results.nothing("it's <gone>"))
    some = table.show(pd.DataFrame({"x": [1]}))
    html, folded, rest = cells_of(
        *("> Before.\n\n## Course\n\nThe line rises.", "a", "> And so does this.", "b"),
        *("## Other\n\nThis stands.", "c", "## Last\n\nHere too.", "d", "> Mixed.", "e"),
        a=[none, frame], b=[unknown], c=[some], d=[none], e=[some, none],
    )  # fmt: skip
    assert len(folded) == 2
    assert "Left out: no log; a course needs one; it&#39;s &lt;gone&gt;.</p>" in folded[0]  # one reason is not known
    assert "The line rises." in folded[0] and "And so does this." in folded[0]  # noqa: PT018
    assert "Left out: no log.</p>" in folded[1]  # told in full above
    assert "Here too." in folded[1]
    assert re.search(r"Before\..*<h2.*Course</h2>.*Other</h2>.*This stands\..*Last</h2>.*Mixed\.", rest, re.DOTALL)
    assert "rises" not in rest
    assert "Nothing to show: no log; a course needs one." in rest  # beside something, it stays where it is
    assert html.count("<svg") == 0  # no empty frame


def test_a_table_of_reasons_alone_is_their_sentence_and_one_with_an_estimate_is_a_table():
    missing = [NotEstimable(metric=m, reason="no log") for m in "ab"]
    assert table.show(results.to_frame(missing)).html.count("no log") == 1
    assert "<table" not in table.show(results.to_frame(missing), ["metric", "diff"]).html
    assert "<table" in table.show(results.to_frame([*missing, estimate()])).html


def test_what_the_answer_says_already_is_no_row_of_the_scorecard():
    missing = NotEstimable(metric="score", reason="no log holds it")
    other = replace(missing, metric="other", reason="no clock")
    made = Readout(headline="One.", answer=("Cannot tell: no log holds it.",), estimates=(missing, other))
    assert made.to_html().count("Cannot be estimated") == 1
    assert len(made.to_json()["not_estimable"]) == 2


def test_tables_lose_random_ids_and_headers_that_head_nothing():
    table = pd.DataFrame({"a": [1, 2]}, index=["x", "y"]).style.to_html()
    one, two = (write_page(outputs=[nbformat.v4.new_output("display_data", data={"text/html": t})]) for t in (
        table, pd.DataFrame({"a": [1, 2]}, index=["x", "y"]).style.to_html()))  # fmt: skip
    assert one == two
    assert "&nbsp;</th>" not in one


def test_a_traceback_is_short_and_names_no_place_of_this_machine():
    frames = ["-----", "KeyError   Traceback (most recent call last)", "Cell In[3], line 1\n----> 1 f()"]
    frames += [f"File /usr/lib/python3.11/site-packages/pandas/{i}.py:12, in g()" for i in range(9)]
    frames += ["KeyError: '/home/ada/premiere/data/x.csv and /mnt/store/deep/y.csv'"]
    error = nbformat.v4.new_output("error", ename="KeyError", evalue="x", traceback=frames)
    made = Markup(write_page(outputs=[error], error="KeyError: x")).text
    assert "frames left out: 8" in made
    assert "File pandas/8.py:12" in made
    assert "'data/x.csv and …/y.csv'" in made
    assert "/usr" not in made
    assert "This notebook did not finish." in made


@given(st.text(alphabet="ab/.\\ '~:", max_size=40))
def test_shortening_twice_changes_nothing_more(text):
    once = page.shorten(text, Path("/home/ada/premiere"))
    assert page.shorten(once, Path("/home/ada/premiere")) == once


def test_a_long_text_without_spaces_is_shortened_in_no_time():
    blob, start = "a/b+" * 250_000, time.perf_counter()
    page.shorten(blob, Path("/home/ada/premiere"))
    assert time.perf_counter() - start < 10  # unbounded patterns grow with its square


def test_planted_truth_is_labelled():
    assert "Planted truth" in Markup(write_page("> The lift is 4%.", tags=("reveal",))).text
    assert "Planted truth" not in Markup(write_page("> The lift is 4%.")).text


# Runs: one batch, looked at from many sides


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Run good and bad notebooks once on one launch, and the good one again."""
    home = tmp_path_factory.mktemp("premiere")
    rich = notebook(
        "import os, sys; from pathlib import Path; print(Path.cwd().name, launch, text)",
        "import pandas as pd; pd.DataFrame({'a': ['<b>']}).style.format(escape='html')",
        END,
        parameters=LAUNCH + '\ntext: str = "a"  # any text',
    )
    books = save(
        home / "notebooks",
        n04_good=rich,
        n05_raises=notebook("print('before')", "open('/nowhere/at/all.csv')", "1", title="# 05 Where?"),
        n06_exits=notebook("import sys; sys.exit(0)", END, title="# 06 Exit?"),
        n07_dies=notebook("print('kept', flush=True); import os, time; time.sleep(0.3); os._exit(3)", END),
        n08_silent=notebook("1 + 1", title="# 08 Silent?"),
    )
    jobs = runner.plan([subject(home, title=HOSTILE)], books, {"text": "NO"})
    out = home / "reports"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        codes = [runner.run(jobs, out=out, date=DAY, workers=2, replace=False)]
        codes += [runner.run(jobs[:1], out=out, date=DAY, workers=1, replace=False)]
        codes += [runner.run(jobs[:1], out=out, date=DAY, workers=1, replace=True)]
    return home, out, codes


def report(out: Path, name: str, folder: str = "show_premiere") -> dict:
    return json.loads((out / "2026-11-22" / folder / f"{name}.json").read_text())


def test_a_failing_notebook_fails_the_run_and_stops_no_other(batch):
    _, out, codes = batch
    assert codes == [1, 0, 0]
    made = sorted(path.name for path in (out / "2026-11-22" / "show_premiere").iterdir())
    names = ["04_good", "05_raises", "06_exits", "07_dies", "08_silent"]
    kept = [f"{name}.ipynb" for name in names[1:]]
    assert made == sorted([f"{name}.{kind}" for name in names for kind in ("html", "json")] + kept)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("05_raises", "FileNotFoundError: [Errno 2] No such file or directory: '…/all.csv'"),
        ("06_exits", "the notebook stopped before its last cell; was exit called?"),
        ("07_dies", "the kernel died: out of memory, killed, or crashed"),
        ("08_silent", "the notebook displayed no Readout; end it with one"),
    ],
)
def test_each_way_to_fail_is_told_on_its_page_and_gives_no_result(batch, name, error):
    _, out, _ = batch
    made = report(out, name)
    assert (made["status"], made["error"], made["estimates"], made["verdict"]) == ("failed", error, [], None)
    assert error in Markup((out / "2026-11-22" / "show_premiere" / f"{name}.html").read_text()).text


def test_a_killed_kernel_leaves_what_it_had_printed(batch):
    _, out, _ = batch
    folder = out / "2026-11-22" / "show_premiere"
    assert "kept" in Markup((folder / "07_dies.html").read_text()).text
    assert "kept" in (folder / "07_dies.ipynb").read_text()


def test_notebooks_run_in_their_folder_with_the_launch_and_the_texts_as_typed(batch):
    home, out, _ = batch
    text = Markup((out / "2026-11-22" / "show_premiere" / "04_good.html").read_text()).text
    assert "notebooks ../launches/show_premiere.yaml NO" in text
    assert report(out, "04_good")["parameters"] == [
        {"name": "text", "value": "NO", "default": "a", "meaning": "any text"}
    ]
    assert Path.cwd() != home / "notebooks"


def test_a_second_run_of_a_day_gets_its_own_folder_unless_told_to_replace(batch):
    _, out, _ = batch
    assert sorted(path.name for path in (out / "2026-11-22").iterdir()) == ["show_premiere", "show_premiere.2"]


def test_two_runs_differ_in_dates_and_times_alone(batch):
    _, out, _ = batch

    def timeless(folder: str, kind: str) -> str:
        text = (out / "2026-11-22" / folder / f"04_good.{kind}").read_text()
        text = re.sub(r"2026-11-22 \d\d:\d\d:\d\d UTC|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "WHEN", text)
        return re.sub(r"\d+\.\d s|\"seconds\": [\d.]+", "SECONDS", text)

    assert timeless("show_premiere", "html") == timeless("show_premiere.2", "html")
    assert timeless("show_premiere", "json") == timeless("show_premiere.2", "json")


def test_pages_carry_no_place_of_this_machine_and_no_remote_address(batch):
    home, out, _ = batch
    for path in out.rglob("*.html"):
        text = path.read_text()
        assert str(home) not in text
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)


def test_a_folder_that_cannot_be_written_is_told_before_a_kernel_starts(tmp_path):
    books = save(tmp_path / "n", n04_a=notebook(END))
    jobs = runner.plan([subject(tmp_path)], books, {})
    (tmp_path / "taken").write_text("")
    with pytest.raises(ReportError, match="reports cannot be written to"):
        runner.run(jobs, out=tmp_path / "taken", date=DAY, workers=1, replace=False)
    with pytest.raises(ReportError, match="0 workers"):
        runner.run(jobs, out=tmp_path, date=DAY, workers=0, replace=False)


@pytest.mark.skipif(not kernels.FORKS, reason="kernels are forked on Linux only")
def test_forked_kernels_are_fresh_processes_with_the_imports_done(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    look = """import os, sys
from pathlib import Path
print("ready", "statsmodels.api" in sys.modules, "fresh", "mark" not in globals(), "in", Path.cwd().name, sys.argv[0])
mark, sys.modules["mark"], os.environ["MARK"] = 1, sys, "x"; Path("pids").open("a").write(f"{os.getpid()} ")"""
    plot = "assert 'mark' not in sys.modules or mark\nimport matplotlib.pyplot as plt; plt.plot([1, 2]);"
    books = {f"n0{i}_x": notebook(look, plot, END) for i in (1, 2)}
    books["n03_dies"] = notebook(look, "os._exit(3)", END)
    jobs = runner.plan([subject(tmp_path)], save(tmp_path / "notebooks", **books), {})
    assert runner.run(jobs, out=tmp_path / "out", date=DAY, workers=1, replace=False) == 1
    for name in ("01_x", "02_x"):
        text = (tmp_path / "out" / "2026-11-22" / "show_premiere" / f"{name}.html").read_text()
        assert "ready True fresh True in notebooks ipykernel_launcher" in text
        assert "data:image/png" in text  # a chart that is only drawn is displayed, as in any kernel
    assert report(tmp_path / "out", "03_dies")["error"].startswith("the kernel died")
    pids = [int(pid) for pid in (tmp_path / "notebooks" / "pids").read_text().split()]
    assert len(set(pids)) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


SCRIPT = """
import datetime, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background shell turns off
from pathlib import Path
from helpers.report import runner
home = Path(sys.argv[1])
one = runner.Subject(name="show", title="Show", path=home / "x.yaml", content_hash="c", data_hash="d")
jobs = runner.plan([one], home / "notebooks", {})
sys.exit(runner.run(jobs, out=home / "reports", date=datetime.date(2026, 11, 22), workers=2, replace=False))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_an_interrupt_kills_the_kernels_and_leaves_whole_pages_only(tmp_path):
    slow = "import os, time; from pathlib import Path; Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = {}
    for sent in (signal.SIGINT, signal.SIGTERM):
        home = tmp_path / sent.name
        save(home / "notebooks", n01_fast=notebook(END, title="# 01 Fast?"), n02_slow=notebook(slow, END))
        command = [sys.executable, "-c", SCRIPT, str(home)]
        running[sent] = home, subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for sent, (home, process) in running.items():
        folder, pid = home / "reports" / "2026-11-22" / "show", home / "notebooks" / "pid"
        deadline = time.monotonic() + 60
        while not ((folder / "01_fast.json").exists() and pid.exists() and pid.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(sent)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == runner.INTERRUPTED
        assert "Interrupted: 1 of 2 pages written." in said
        assert sorted(path.name for path in folder.iterdir()) == ["01_fast.html", "01_fast.json"]
        assert "02_slow" not in (folder / "01_fast.html").read_text()  # the way through leads to no missing page
        assert "01_fast" in (home / "reports" / "index.html").read_text()
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


# Index


def test_the_index_lists_every_run_newest_first_with_what_was_changed(batch):
    _, out, _ = batch
    text = (out / "index.html").read_text()
    listed = re.findall(r'data-id="([^"]+)"', text)
    assert listed[0] == "2026-11-22/show_premiere/04_good"  # replaced last
    assert sorted(listed) == sorted(p.relative_to(out).with_suffix("").as_posix() for p in out.glob("*/*/*.json"))
    assert "text=&#34;NO&#34;" in text
    assert HOSTILE in Markup(text).text
    assert all((out / href).exists() for href in re.findall(r'<a href="([^"#]+)"', text))


def test_foreign_and_broken_files_are_named_and_never_stop_the_index(batch, tmp_path):
    _, out, _ = batch
    folder = tmp_path / "2026-11-22" / "show"
    folder.mkdir(parents=True)
    good = report(out, "04_good")
    broken = {
        "cut": json.dumps(good)[:100],
        "foreign": '{"a": 1}',
        "list": "[]",
        "deep": "[" * 100_000,
        "decision": json.dumps(good | {"decision": HOSTILE}),
        "seconds": json.dumps(good | {"seconds": "x"}),
        "estimates": json.dumps(good | {"estimates": [{"metric": "x"}]}),
        "title": json.dumps(good | {"title": 5}),
        "nan": json.dumps(good | {"estimates": [asdict(estimate(low=float("nan")))]}),
    }
    (folder / "good.json").write_text(json.dumps(good | {"title": f"{HOSTILE} & co"}))
    for name, text in broken.items():
        (folder / f"{name}.json").write_text(text)
    text = index.write(tmp_path).read_text()
    assert re.findall(r'data-id="([^"]+)"', text) == ["2026-11-22/show/good"]
    assert all(f"<code>2026-11-22/show/{name}.json</code>" in text for name in broken)
    assert HOSTILE not in text


def test_the_index_leads_to_the_plan_of_a_launch_and_to_the_portrait(batch, tmp_path):
    out = Path(shutil.copytree(batch[1], tmp_path / "reports"))
    (out / index.PLANS).mkdir()
    assert ">plan</a>" not in index.write(out).read_text()
    name = next(out.glob("*/*/*.json")).parent.name.partition(".")[0]
    (out / index.PLANS / f"{name}.html").write_text("plan")
    (out / index.PORTRAIT).write_text("portrait")
    links = [a["href"] for tag, a in Markup(index.write(out).read_text()).tags if tag == "a"]
    assert f"{index.PLANS}/{name}.html" in links
    assert index.PORTRAIT in links


def test_an_empty_folder_has_an_index_that_says_so(tmp_path):
    assert "No reports yet." in index.write(tmp_path).read_text()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "index.html"
    index.write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        index.write_whole(path, "\ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    assert path.read_text() == "old"


# Record and theme


def test_a_record_reads_back_what_it_wrote(batch):
    _, out, _ = batch
    made = report(out, "04_good")
    again = record.Record.from_json(made)
    assert json.loads(json.dumps(again.to_json())).items() <= made.items()
    assert replace(again, error="x").status == "failed"


def test_the_commit_is_named_with_its_changes_and_absent_outside_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert record.commit(tmp_path) == "not in git"
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    subprocess.run([*run, "init", "-q"], check=True)
    (tmp_path / "a").write_text("1")
    subprocess.run([*run, "add", "a"], check=True)
    subprocess.run([*run, "commit", "-qm", "one"], check=True)
    assert re.fullmatch(r"[0-9a-f]{12}", record.commit(tmp_path))
    (tmp_path / "a").write_text("2")
    assert record.commit(tmp_path).endswith(", with uncommitted changes")


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", ["light.css", "dark.css"])
def test_colours_of_text_keep_a_contrast_of_at_least_four_and_a_half_in_both_themes(name):
    colour = dict(re.findall(r"--([\w-]+): *(#\w+)", theme.asset(name)))
    assert colour.keys() == theme.colours().keys()
    grounds = {"paper", "panel"}
    pairs = [
        (text, ground) for ground in grounds for text in colour.keys() - grounds - {"line"} if not text.endswith("bg")
    ]
    pairs += [(tone, f"{tone}bg") for tone in ("good", "bad", "warn", "plain", "accent")]
    pairs += [("ink", f"{tone}bg") for tone in ("good", "bad", "warn", "plain", "accent")]
    for one, other in pairs:
        bright, dim = sorted((luminance(colour[one]), luminance(colour[other])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (one, other)


def test_the_report_package_knows_no_statistics():
    for path in (ROOT / "helpers" / "report").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            ours = {name for name in names if name.startswith("helpers") and not name.startswith("helpers.report")}
            assert ours <= {"helpers.errors", "helpers.results", "helpers.wording"}, path.name
            assert not {"scipy", "statsmodels", "seaborn"} & {name.partition(".")[0] for name in names}, path.name


def test_shares_in_a_heat_map_are_written_in_a_colour_that_stands_out_from_their_cell():
    """Contrast as WCAG 2.2 defines it, of matplotlib's own colours: at least 4.5 for text of this size."""
    shares = pd.DataFrame(np.linspace(0, 1, 101).reshape(1, -1))
    ax = plots.heat(shares, labels=("", ""))
    cells = ax.collections[0].get_facecolors()
    assert len(ax.texts) == len(cells) == 101
    for text, cell in zip(ax.texts, cells, strict=True):
        bright, dark = sorted((_luminance(colors.to_rgb(text.get_color())), _luminance(cell[:3])), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5
        assert text.get_color() not in theme.colours().values()  # it must not turn over in the dark


def _luminance(rgb):
    return sum(
        w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
        for w, v in zip((0.2126, 0.7152, 0.0722), rgb, strict=True)
    )
