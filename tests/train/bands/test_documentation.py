"""docs/bands.md: its tables are those of the code, and the tests that it names are there."""

import re
from pathlib import Path

import pytest
from fp_potential.train.bands.bundle.keys import markdown

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "bands.md").read_text(encoding="utf-8")
CHECKLIST = PAGE.partition("## Checklist")[2].split("\n\n")[2].splitlines()[2:]


def test_tables_of_keys():
    """Written by ``fixedpoint bands keys --markdown``."""
    assert markdown() in PAGE


@pytest.mark.parametrize("row", CHECKLIST, ids=lambda row: row.split("|")[1].strip()[:40])
def test_checklist(row):
    """No cell is empty; the files and tests of a row exist."""
    statement, here, tests = (cell.strip() for cell in row.strip("|").split("|"))
    assert statement and here and tests
    for file in re.findall(r"`((?:fp_potential|train)/[\w/]+\.py)`", here):
        assert (ROOT / file).is_file(), file
    found = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
    assert found
    for file, name in found:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"
