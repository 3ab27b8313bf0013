"""The notebooks as they lie in git: no outputs, one skeleton, short cells, and truth only where it says so."""

import ast
import itertools
import json
import re
from pathlib import Path

import pytest

BOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=BOOKS, ids=lambda p: p.stem)
def book(request):
    return json.loads(request.param.read_text(encoding="utf-8")) | {"stem": request.param.stem}


def source(cell):
    return "".join(cell["source"])


def code(book):
    return [c for c in book["cells"] if c["cell_type"] == "code"]


def prose(book):
    return "\n\n".join(source(c) for c in book["cells"] if c["cell_type"] == "markdown")


def tagged(book, tag):
    return [c for c in book["cells"] if tag in c["metadata"].get("tags", [])]


def test_outputs_and_counts_are_stripped_and_the_kernel_is_plain(book):
    assert all(not c["outputs"] and c["execution_count"] is None for c in code(book))
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    ids = [c["id"] for c in book["cells"]]
    assert len(set(ids)) == len(ids)


def test_cells_are_few_and_short_and_define_nothing(book):
    assert len(book["cells"]) <= 30
    for cell in code(book):
        assert source(cell).count("\n") < 10, source(cell)
        kinds = {type(n) for n in ast.walk(ast.parse(source(cell)))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.Try}, source(
            cell
        )


def test_prose_teaches(book):
    assert len(prose(book).split()) >= 60 * len(code(book))


def test_the_skeleton_stands_in_its_order(book):
    first, parameters, imports = book["cells"][:3]
    assert re.match(rf"# {book['stem'][:2]} .+\?\n", source(first))
    assert tagged(book, "parameters") == [parameters]
    assert source(parameters).startswith('launch: str = "../launches/show_premiere.yaml"  # ')
    assert source(imports).startswith("from helpers import ")
    headings = re.findall(r"^## (.+)$", prose(book), flags=re.MULTILINE)
    wanted = ["A picture before any model", "The estimate", "Trying to break it", "What this cannot tell"]
    places = [next((i for i, h in enumerate(headings) if h.startswith(w)), None) for w in wanted]
    if book["stem"] != "00_overview":  # which deliberately shows no effect
        assert None not in places, dict(zip(wanted, places, strict=True))
    known = [p for p in places if p is not None]
    assert known == sorted(known)
    assert "Readout(" in source(code(book)[-1])


def test_there_is_one_title_and_no_heading_level_is_skipped(book):
    levels = [len(m) for m in re.findall(r"^(#+) ", prose(book), flags=re.MULTILINE)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_truth_is_opened_in_cells_marked_reveal_only(book):
    assert [c for c in code(book) if ".reveal(" in source(c)] == tagged(book, "reveal")
