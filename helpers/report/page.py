"""An executed notebook as one offline page: the answer first, then the story, then how it was made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import unescape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.report import readout, table, theme

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from helpers.report.record import Record

_HEADING = re.compile(r"^# +(?:\d+ +)?(.+?)\s*$", re.MULTILINE)
NO_TRUTH = "there is no planted truth to set beside it"
_LAST_HEADING = re.compile(r"(.*<h\d .*?</h\d>\n?)?(.*)", re.DOTALL)
_ABSENT = re.compile(r'<p class="absent"><em>[^:]*: (.*?)\.</em></p>')
_PATH = re.compile(r"(?<![\w:/.~…])(?:[A-Za-z]:\\|/)(?:[^\s/\\'\":,;<>\x1b]+[/\\])+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """Another page of the same run, for the way through them."""

    notebook: str
    title: str


@dataclass(frozen=True, slots=True)
class _Heading:
    level: int
    anchor: str
    text: str


@dataclass(slots=True)
class _Writer:
    """Turns a notebook's texts into HTML, and collects the headings on the way."""

    root: Path
    headings: list[_Heading] = field(default_factory=list)
    tables: int = 0


def title(notebook: NotebookNode, default: str) -> str:
    """Read the question that a notebook asks in its first heading, without its number."""
    found = (_HEADING.search(cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    return next((match[1] for match in found if match), default).replace("`", "")


def result(notebook: NotebookNode) -> dict[str, Any] | None:
    """Return the last Readout that a notebook displayed, as JSON; None where it displayed none."""
    shown = [o.data[readout.MIME] for o in _outputs(notebook) if readout.MIME in o.get("data", {})]
    return shown[-1] if shown else None


def render(notebook: NotebookNode, record: Record, *, siblings: Sequence[Sibling], root: Path) -> str:
    """Write the page of an executed notebook; paths in its outputs are shown relative to `root`, or cut."""
    writer = _Writer(root)
    seen_title = False
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = cell.source
            if not seen_title and _HEADING.search(source):
                source, seen_title = _HEADING.sub("", source, count=1), True
            shown: dict[str, Any] = {"kind": "text", "html": _markdown(source, writer)}
        elif cell.cell_type == "code":
            outputs = [piece for output in cell.outputs if (piece := _output(output, writer))]
            shown = {"kind": "code", "label": _label(cell), "html": _code(cell.source), "outputs": outputs}
        else:
            continue
        cells.append(shown | {"reveal": "reveal" in cell.metadata.get("tags", [])})
    places = [sibling.notebook for sibling in siblings]
    here = places.index(record.notebook) if record.notebook in places else 0
    return theme.render(
        "page.html.j2",
        script="page.js",
        record=record,
        cells=_folded(cells),
        answer=_answer(notebook) if not record.error else None,
        headings=writer.headings,
        siblings=siblings,
        previous=siblings[here - 1] if here > 0 else None,
        following=siblings[here + 1] if here + 1 < len(siblings) else None,
    )


def shorten(text: str, root: Path) -> str:
    """Take absolute paths and memory addresses out of a text, so that it says the same on every machine.

    >>> shorten("open('/home/ada/premiere/data/a.csv') at 0x7f21", Path("/home/ada/premiere"))
    "open('data/a.csv')"
    >>> shorten('File /usr/lib/python3.11/site-packages/pandas/core/frame.py:12', Path("/srv"))
    'File pandas/core/frame.py:12'
    """
    text = text.replace(f"{root}/", "")
    text = re.sub(r"/[^\s'\"\x1b]{0,300}/ipykernel_\d+/\d+\.py", "cell", text)
    text = re.sub(r"[/~][^\s'\"\x1b]{0,300}/site-packages/", "", text)
    text = _PATH.sub("…/", text)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _folded(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fold every part that has nothing to show: its heading and the reason stay, its words are there to be opened.

    A part is a text with the code below it. Folded parts under one heading become one. A reason is given in full once,
    then up to its first semicolon.
    """
    starts = [i for i, cell in enumerate(cells) if cell["kind"] == "text" or not i]
    found: list[dict[str, Any]] = []
    for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
        part, codes = cells[start], cells[start + 1 : end]
        reasons = [piece.get("why") for code in codes for piece in code["outputs"]]
        if any(code["reveal"] for code in codes):
            reasons = [why and NO_TRUTH for why in reasons]
        if part["kind"] != "text" or not reasons or None in reasons:
            found += cells[start:end]
            continue
        head, words = _LAST_HEADING.fullmatch(part["html"]).groups()  # type: ignore[union-attr]  # it matches all
        if head:
            found.append(part | {"html": head})
        if not (found and found[-1]["kind"] == "absent"):
            found.append({"kind": "absent", "reasons": {}, "html": "", "codes": [], "reveal": False})
        found[-1]["reasons"] |= dict.fromkeys(reasons)
        found[-1]["html"] += words
        found[-1]["codes"] += codes
    told: set[str] = set()
    for cell in (cell for cell in found if cell["kind"] == "absent"):
        reasons = [why for why in cell["reasons"] if why != table.UNKNOWN] or [table.UNKNOWN]
        cell["reasons"] = [why.partition(";")[0] if why in told else why for why in reasons]
        told |= set(reasons)
    return found


def _outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _answer(notebook: NotebookNode) -> str | None:
    shown = [o.data["text/html"] for o in _outputs(notebook) if readout.MIME in o.get("data", {})]
    return _joined(shown[-1]) if shown else None


def _label(cell: NotebookNode) -> str:
    tags = cell.metadata.get("tags", [])
    return "Defaults" if "parameters" in tags else "This run" if "injected-parameters" in tags else "Code"


def _output(output: NotebookNode, writer: _Writer) -> dict[str, str] | None:
    """Choose the richest form of an output that a page can hold."""
    if output.output_type == "stream":
        label = "Printed output" if output.name == "stdout" else "Warnings"
        return {"kind": "log", "label": label, "html": _terminal(_joined(output.text), writer.root)}
    if output.output_type == "error":
        return {"kind": "error", "html": _terminal(_traceback(output), writer.root)}
    data = output.data
    if "application/vnd.jupyter.widget-view+json" in data:  # a progress bar: nothing is left of it after the run
        return None
    if readout.MIME in data:
        return {"kind": "moved", "html": ""}
    if "text/html" in data:
        html = _joined(data["text/html"])
        if nothing := _ABSENT.search(html):
            return {"kind": "absent", "html": html, "why": unescape(nothing[1])}
        writer.tables += "<table" in html
        html = re.sub(r"\bT_[0-9a-f]{5}(?=[_\" {#])", f"T_{writer.tables}", html)  # a Styler draws its id at random
        html = re.sub(r"<th((?: class=\"blank[^\"]*\")?) *>(?:&nbsp;)?</th>", r"<td\1></td>", html)  # heads no column
        alone = "<table" in html and "<figure" not in html
        return {"kind": "table" if alone else "html", "label": f"Table {writer.tables}", "html": html}
    if "text/markdown" in data:
        return {"kind": "text", "html": _markdown(_joined(data["text/markdown"]), writer)}
    if "image/svg+xml" in data:
        return {"kind": "html", "html": _joined(data["image/svg+xml"])}
    for mime in ("image/png", "image/jpeg"):
        if mime in data:
            return {"kind": "image", "html": f"data:{mime};base64,{_joined(data[mime]).replace(chr(10), '')}"}
    if "text/plain" in data:
        return {"kind": "plain", "html": _terminal(_joined(data["text/plain"]), writer.root)}
    return None


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _terminal(text: str, root: Path) -> str:
    """Write terminal text as HTML; its colours become classes, which each theme keeps legible."""
    from nbconvert.filters.ansi import ansi2html

    return re.sub(r' style="[^"]*"', "", str(ansi2html(shorten(text, root))))  # type: ignore[no-untyped-call]


def _traceback(output: NotebookNode) -> str:
    """Keep the notebook's own frames, the last one, and the error itself."""
    texts = [frame.strip("\n") for frame in output.traceback]
    frames = [t for t in texts if _plain_text(t).strip("- \n") and "Traceback (most recent" not in _plain_text(t)]
    kept = [frame for frame in frames[:-2] if "Cell In[" in _plain_text(frame)] + frames[-2:]
    left_out = len(frames) - len(kept)
    note = [f"… frames left out: {left_out} …"] if left_out else []
    return "\n\n".join([*kept[:-2], *note, *kept[-2:]]) or f"{output.ename}: {output.evalue}"


def _plain_text(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def _code(source: str) -> str:
    from nbconvert.filters.highlight import Highlight2HTML

    highlight = Highlight2HTML(pygments_lexer="ipython3")  # type: ignore[no-untyped-call]
    return str(highlight(source)) if source.strip() else ""


def _markdown(source: str, writer: _Writer) -> str:
    """Write Markdown as HTML; markup inside it appears as text, formulas become MathML, images are not loaded."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def heading(self, text: str, level: int, **_: object) -> str:
            words = re.sub(r"<[^>]+>", "", text)
            anchor = re.sub(r"\W+", "-", words.lower()).strip("-") or "section"
            taken = {"main", "run-record", *(heading.anchor for heading in writer.headings)}
            anchor = next(a for n in count(1) if (a := anchor if n == 1 else f"{anchor}-{n}") not in taken)
            writer.headings.append(_Heading(level, anchor, words))
            return f'<h{level} id="{anchor}">{text}</h{level}>\n'

        def table(self, text: str) -> str:
            writer.tables += 1
            region = f'<div class="scroll" tabindex="0" role="group" aria-label="Table {writer.tables}">'
            return f"{region}<table>{text}</table></div>\n"

        def block_math(self, body: str) -> str:
            return _formula(body, "block")

        def inline_math(self, body: str) -> str:
            return _formula(body, "inline")

        def latex_environment(self, name: str, body: str) -> str:
            return _formula(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

        def image(self, text: str, url: str, title: str | None = None) -> str:
            return self.link(text or url, url, title)

    return MarkdownWithMath(renderer=Renderer(escape=True, allow_harmful_protocols=False)).render(source)


def _formula(source: str, display: str) -> str:
    """Turn LaTeX into MathML; what cannot be read is shown as it was written."""
    from html import escape

    from latex2mathml.converter import convert

    try:
        formula = str(convert(source.strip(), display=display))
    except Exception:
        return f"<code>{escape(source.strip())}</code>"
    if display == "inline":
        return formula
    return f'<span class="formula scroll" tabindex="0" role="group" aria-label="Formula">{formula}</span>'
