"""The table of what became of each capability: every row has a verdict, and a test that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.blocks import ROOT

PAGE = ROOT / "docs/from-huey.md"
TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


def rows() -> Iterator[list[str]]:
    """The cells of each row, without the heads."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "huey":
            yield cells


def known() -> set[str]:
    """The names of all tests."""
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "jobrunner/testing").glob("*.py")]
    return {name for file in files for name in TEST.findall(file.read_text(encoding="utf-8"))}


ROWS = list(rows())


@pytest.mark.parametrize("cells", ROWS, ids=[cells[0] for cells in ROWS])
def test_a_row_says_what_became_of_it_and_how(cells: list[str]) -> None:
    capability, verdict, how, shown = cells
    assert capability
    assert verdict in ("same", "better", "not taken")
    assert verdict == "same" or how
    assert re.fullmatch(r"(`test_\w+`(, )?)+", shown)


def test_every_row_names_tests_that_exist() -> None:
    named = {name for cells in ROWS for name in re.findall(r"`(test_\w+)`", cells[-1])}
    assert named - known() == set()


def test_the_inventory_is_whole() -> None:
    """Its sections, and about as many rows as it has."""
    heads = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(heads) == 13
    assert len(ROWS) >= 110
