"""The pages as a browser shows them: accessible, offline, and usable with keyboard, phone and printer."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers import cli
from helpers.report import figure, index, record, runner
from helpers.report.readout import Readout
from helpers.results import Check, Claim, Estimate, NotEstimable, Verdict

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

HOSTILE = "<script>document.title = 'taken'</script>"
STATUSES = ["better", "met", "cannot tell", "not met", "passed", "breached", "worse", "not estimable"]
ROLES = ["north_star", "supporting", "guardrail", "operational", "satisfaction"]


def claims(lift: float) -> tuple[Claim, ...]:
    """Twelve claims of every status and role, with long titles."""
    made = []
    for i in range(12):
        low, high = lift * (i - 3) / 5 - 0.1, lift * (i - 3) / 5 + 0.1
        estimate = Estimate(
            metric=f"metric_{i}", control=6.0, treatment=6.0 + (low + high) / 2, diff=(low + high) / 2, se=0.05, low=low,
            high=high, rel=(low + high) / 12, rel_low=low / 6, rel_high=high / 6, p=0.04, p_adjusted=0.08,
            n_control=30_000, n_treatment=10_000, method="Welch", mde=0.1,
        )  # fmt: skip
        made.append(
            Claim(
                metric=f"metric_{i}",
                title=f"Sessions in which playing starts within {i} minutes of opening",
                words="So.",
                unit=("share", "h/week", "ms")[i % 3],
                role=ROLES[i % 5],
                better="higher",
                status=STATUSES[i % 8],
                estimate=NotEstimable(metric=f"metric_{i}", reason="no surveys") if i % 8 == 7 else estimate,
                bound=None if i % 4 == 0 else 0.1,
                bound_text="" if i % 4 == 0 else "target +10%",
            )
        )
    return tuple(made)


def analysis(lift: float) -> list:
    """The cells of a rich notebook, as they stand after its run."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    with plt.rc_context():
        figure.use_theme()
        axes = plt.subplots()[1]
        axes.plot([1, 2, 3], [1, 3, 2], marker="o")
        chart = figure.show(axes, caption="It rose.", alt="A line that rises.", data=pd.DataFrame({"week": [1, 2, 3]}))
    wide = pd.DataFrame(np.arange(60).reshape(2, 30), columns=[f"column {i}" for i in range(30)])
    end = Readout(
        headline="Viewing rose.", answer=("Accounts watched more.", "We recommend to go on."), claims=claims(lift),
        verdict=Verdict(decision="PROCEED", sentence="Go on to the next stage.", reasons=("The arms are alike.",)),
        checks=(Check(name="Sample ratio", passed=True, detail="As planned."), Check(name="Loss", passed=False, detail="1%."),
                Check(name="Switching", passed=None, detail="No log.")),
    )  # fmt: skip
    outputs = [
        new_output("stream", name="stdout", text="drawn"),
        new_output("display_data", data={"text/html": chart._repr_html_()}),
        new_output("display_data", data={"text/html": wide.to_html()}),
        new_output("display_data", data={"text/html": f"<div>{HOSTILE}</div>"}),
        new_output("execute_result", data=end._repr_mimebundle_(), execution_count=2),
    ]
    formula = r"$$\Delta = \frac{\bar x_T}{\bar x_C} - 1" + " + a + b" * 12 + "$$"
    return [
        new_markdown_cell(f"# 04 Did it work, and did it harm anything? {HOSTILE}\n\nThe head of originals decides."),
        new_code_cell("seed: int = 7  # of the draw", metadata={"tags": ["parameters"]}, execution_count=1),
        new_markdown_cell(
            f"## A picture before any model\n\n{formula}\n\n> Quoted\n\n### Detail\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        ),
        new_code_cell(
            "import pandas as pd\n# a comment\nx = 'text' if True else 3.5", outputs=outputs, execution_count=2
        ),
        new_markdown_cell("The lift is 4%.", metadata={"tags": ["reveal"]}),
    ]


def failed() -> list:
    """The cells of a notebook that raised an error."""
    frames = ["----", "Traceback (most recent call last)", "\x1b[36mCell\x1b[39m In[2], \x1b[32mline 1\x1b[39m\n\x1b[32m----> 1\x1b[39m f()",
              "\x1b[31mKeyError\x1b[39m: \x1b[38;5;28;01m'x'\x1b[39;00m"]  # fmt: skip
    error = new_output("error", ename="KeyError", evalue="'x'", traceback=frames)
    return [new_markdown_cell("# 05 Where does it work?"), new_code_cell("f()", outputs=[error], execution_count=1)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> Path:
    """Two runs of one launch: the first with a failed notebook, the second with another seed."""
    out = tmp_path_factory.mktemp("reports")
    launch = runner.Subject(
        name="show", title=f"Northern Lights {HOSTILE}", path=Path("show.yaml"), content_hash="c0ffee", data_hash="deca1d"
    )  # fmt: skip
    made = record.Record(
        notebook="04_analysis", title=f"Did it work, and did it harm anything? {HOSTILE}", launch="show",
        launch_title=launch.title, launch_path="show.yaml", launch_hash="c0ffee", data_hash="deca1d", date="2026-11-22",
        started="2026-11-22 09:00:00 UTC", seconds=3.2, commit="c0ffee", versions=record.versions(),
        parameters=(record.Setting(name="seed", value=7, default=7, meaning="of the draw"),),
    )  # fmt: skip
    again = replace(made, started="2026-11-22 10:00:00 UTC", parameters=(replace(made.parameters[0], value=8),))
    broke = replace(made, notebook="05_segments", title="Where does it work?", error="KeyError: 'x'")
    for folder, one, cells in (
        ("show", made, analysis(0.3)), ("show", broke, failed()), ("show.2", again, analysis(0.5)),
    ):  # fmt: skip
        path = out / "2026-11-22" / folder
        path.mkdir(parents=True, exist_ok=True)
        jobs = [
            runner.Job(
                subject=launch, path=Path(f"notebooks/{r.notebook}.ipynb"), notebook=new_notebook(cells=cells),
                title=r.title, settings=r.parameters, injected={},
            )
            for r in ((made, broke) if folder == "show" else (again,))
        ]  # fmt: skip
        job = next(job for job in jobs if job.name == one.notebook)
        runner._publish(runner._Done(job=job, notebook=job.notebook, record=one), path, siblings=jobs)
    index.write(out)
    return out


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, reports):
    """Open a page; what it requested and what its console said lie in `page.requested` and `page.said`."""
    contexts = []

    def opened(path: str, *, width: int = 1280, dark: bool = False):
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(5_000)
        page.requested, page.said = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto((reports / path).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


ANALYSIS, FAILED, INDEX = "2026-11-22/show/04_analysis.html", "2026-11-22/show/05_segments.html", "index.html"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)], ids=["wide light", "narrow dark"])
@pytest.mark.parametrize("path", [ANALYSIS, FAILED, INDEX])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(open_page, path, width, dark):
    page = open_page(path, width=width, dark=dark)
    if path == INDEX:
        for box in page.locator("li[data-id$='04_analysis'] input").all():
            box.check()
        page.click("#compare")
    else:
        page.click("#code")
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_notebooks_own_pages_are_accessible_offline_and_fit_a_phone(open_page, players, monkeypatch):
    folder = players[0].parent
    monkeypatch.chdir(folder)
    assert cli.main(["report", "gate.yaml", "--date", "2026-11-21"]) == 0
    pages = sorted((folder / "reports/2026-11-21/gate").glob("*.html"))
    assert len(pages) == len(list(cli.NOTEBOOKS.glob("*.ipynb")))
    for path, (width, dark) in zip(pages, itertools.cycle([(1280, True), (400, False)]), strict=False):
        page = open_page(str(path), width=width, dark=dark)
        page.click("#code")
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        found = axe.Axe().run(page)
        assert found.violations_count == 0, f"{path.stem}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.requested == [path.as_uri()]
        assert page.said == []


@pytest.mark.parametrize("path", [ANALYSIS, FAILED, INDEX])
def test_a_page_requests_itself_and_nothing_else(open_page, reports, path):
    page = open_page(path)
    assert page.requested == [(reports / path).as_uri()]


def test_a_script_in_an_output_does_not_run_and_titles_are_text(open_page):
    page = open_page(ANALYSIS)
    assert page.title().startswith(f"Did it work, and did it harm anything? {HOSTILE}")
    assert HOSTILE in page.inner_text("h1")
    assert len(page.said) == 1  # the policy refused the one in the output
    assert "Content Security Policy" in page.said[0]
    listed = open_page(INDEX)
    assert HOSTILE in listed.inner_text(".run h2 >> nth=0")
    assert not listed.said


@pytest.mark.parametrize("width", [1280, 400])
def test_decision_and_answer_stand_on_the_first_screen_under_the_title(open_page, width):
    page = open_page(ANALYSIS, width=width)
    title, answer = (page.locator(selector).bounding_box() for selector in ("h1", ".answer"))
    assert title["y"] + title["height"] <= answer["y"]
    assert answer["y"] + answer["height"] <= 900
    assert "PROCEED" in page.inner_text(".answer")
    assert "Accounts watched more." in page.inner_text(".answer")


def test_the_scorecard_fits_a_laptop_and_shows_every_claim(open_page):
    page = open_page(ANALYSIS)
    assert page.locator(".score tbody").count() == 12
    assert page.evaluate("(box => box.scrollWidth - box.clientWidth)(document.querySelector('.readout .scroll'))") <= 0


def test_code_is_hidden_until_one_button_shows_all_of_it(open_page):
    page = open_page(ANALYSIS)
    code = page.locator("details.code pre")
    assert code.count() == 2
    assert not any(block.is_visible() for block in code.all())
    page.click("#code")
    assert all(block.is_visible() for block in code.all())
    page.click("#code")
    assert not any(block.is_visible() for block in code.all())


def test_the_theme_follows_the_system_until_the_button_is_used_and_is_then_kept(open_page):
    page = open_page(ANALYSIS, dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(16, 19, 23)"
    page.click("#theme")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.reload()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    line = page.evaluate("getComputedStyle(document.querySelector('.chart svg path[style*=s1]')).stroke")
    assert line == "rgb(42, 91, 208)"


def test_what_scrolls_is_reached_by_keyboard_and_what_does_not_is_no_stop(open_page):
    page = open_page(ANALYSIS)
    playwright.expect(page.locator(".readout .scroll")).not_to_have_attribute("tabindex", "0")
    wide = page.locator(".cell .scroll:has(table.dataframe) >> visible=true").last
    playwright.expect(wide).to_have_attribute("tabindex", "0")
    wide.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(400)  # scrolling is animated
    assert wide.evaluate("box => box.scrollLeft") > 0


def test_print_is_light_and_without_controls_even_from_a_dark_page(open_page):
    page = open_page(ANALYSIS, dark=True)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not any(page.locator(selector).first.is_visible() for selector in (".top", ".side", ".steps", "#code"))
    assert page.locator(".answer").is_visible()


def test_pages_of_a_run_lead_to_one_another_and_to_the_index(open_page):
    page = open_page(ANALYSIS)
    page.click("a[rel=next]")
    assert page.inner_text("h1") == "Where does it work?"
    assert "This notebook did not finish." in page.inner_text(".failed")
    page.click("a[rel=prev]")
    page.click("text=All reports")
    assert page.inner_text("h1") == "Reports"


def test_the_index_filters_by_text_decision_launch_and_status(open_page):
    page = open_page(INDEX)
    shown = lambda: [li.get_attribute("data-id") for li in page.locator(".run li").all() if li.is_visible()]  # noqa: E731
    assert shown() == ["2026-11-22/show.2/04_analysis", "2026-11-22/show/04_analysis", "2026-11-22/show/05_segments"]
    page.fill("#find", "seed=8 harm")
    assert shown() == ["2026-11-22/show.2/04_analysis"]
    page.fill("#find", "")
    page.select_option("#status", "failed")
    assert shown() == ["2026-11-22/show/05_segments"]
    assert page.inner_text("#count") == "1 of 3 shown"
    page.select_option("#status", "")
    page.select_option("#decision", "SHIP")
    assert shown() == []
    page.select_option("#decision", "PROCEED")
    page.select_option("#launch", "show")
    assert len(shown()) == 2


def test_two_runs_are_compared_and_the_comparison_has_an_address(open_page):
    page = open_page(INDEX)
    assert page.is_disabled("#compare")
    for box in page.locator("li[data-id$='04_analysis'] input").all():
        box.check()
    page.click("#compare")
    rows = [row.inner_text().split("\n") for row in page.locator("#comparison tbody tr").all()]
    said = {row[0]: " ".join(row[1:]).split("\t") for row in rows}
    assert [text.strip() for text in said["seed"]][:3] == ["parameter", "7", "8"]  # the earlier run stands first
    titles = page.locator("#comparison tbody th").all_inner_texts()
    assert sum("Sessions in which" in title for title in titles) == 11  # one of twelve is not estimable
    assert page.locator("#comparison svg circle").count() == 22
    assert "Launch file" in page.inner_text("#comparison p")
    page.reload()
    assert page.locator("#comparison").is_visible()
