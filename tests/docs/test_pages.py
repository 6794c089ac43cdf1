"""The pages hang together: links lead somewhere, the glossary knows every word that is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jobrunner
from jobrunner.durations import SECOND
from jobrunner.model import Ending, Reason, State
from jobrunner.plan import Plan, Task
from tests.docs.blocks import PAGES, ROOT, blocks

LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)[^)]*\)")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("folder", [ROOT / "docs", ROOT / "docs/decisions"], ids=lambda path: path.name)
def test_every_page_of_a_folder_is_in_its_index(folder: Path) -> None:
    linked = set(LINK.findall((folder / "README.md").read_text()))
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} - linked == set()


def test_the_benchmarks_page_names_every_script() -> None:
    named = set(re.findall(r"^\| `(\w+\.py)`", (ROOT / "benchmarks/README.md").read_text(), re.MULTILINE))
    assert named == {script.name for script in (ROOT / "benchmarks").glob("*.py")}


def test_the_unit_shown_is_the_unit_shipped() -> None:
    unit = (ROOT / "systemd/jobrunner.service").read_text().splitlines()
    shown = [block.text.splitlines() for block in blocks(ROOT / "docs/service.md") if block.language == "ini"]
    assert [line for lines in shown for line in lines if line not in unit] == []


def test_the_unit_leaves_time_for_an_orderly_stop() -> None:
    # rule 29: shutdown_timeout, then the largest kill_after, then 2 s
    unit = (ROOT / "systemd/jobrunner.service").read_text()
    patience = int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) * SECOND
    task, plan = Task(name="any"), Plan(file="", hash="", backend="", timezone="UTC")
    assert patience > plan.shutdown_timeout + task.kill_after + 2 * SECOND


def test_the_changelog_speaks_of_this_version() -> None:
    assert f"## {jobrunner.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("word", [*State, *Reason, *Ending])
def test_the_glossary_has_every_state_reason_and_outcome(word: str) -> None:
    if word == Ending.RECALLED:
        return  # no attempt was made, so nobody ever sees it
    text = " ".join((ROOT / "docs/glossary.md").read_text().split())
    assert re.search(rf"`{re.escape(word)}( [A-Z]+)?`", text)
