"""The reference itself: no case of others lies there without a test that holds us to it."""

import re
from pathlib import Path

import pytest
import reference

TESTS = [
    p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_*.py") if p.name != Path(__file__).name
]


@pytest.mark.parametrize("case", sorted(p.stem for p in reference.FOLDER.glob("cases/*.json")) or [None])
def test_every_case_is_named_by_a_test(case):
    """In full, or as an area ("srm_chisq__{name}") in a test file that holds the rest of the name as a text."""
    if case is None:
        pytest.skip("the reference is not here")
    area, _, rest = case.partition("__")
    apart = re.compile(rf'f"{area}__{{\w+}}"'), re.compile(rf'"{re.escape(rest)}"')
    assert any(f'"{case}"' in text or all(part.search(text) for part in apart) for text in TESTS)
