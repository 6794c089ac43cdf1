"""Ten crontabs and the files that they become.

The files lie under goldens/; `SNAPSHOTS=write pytest tests/crontab/test_goldens.py` writes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobrunner.crontabs.parse import Kind, read_crontab
from jobrunner.crontabs.translate import Imported
from jobrunner.crontabs.write import write
from tests.crontab.imports import CRONTABS, OPTIONS, compiled, imported, text_of

GOLDENS = Path(__file__).parent / "goldens"
every_crontab = pytest.mark.parametrize("name", CRONTABS)


def reported(found: Imported) -> str:
    lines = []
    for report in found.reports:
        if not report.is_comment:
            lines.append(f"line {report.line}: {report.task or '-'}\n")
            lines += [f"    {note}\n" for note in report.notes]
    return "".join(lines)


@every_crontab
def test_a_crontab_becomes_this_file(name: str) -> None:
    found = imported(text_of(name), **OPTIONS.get(name, {}))
    text = f"{write(found)}\n--- report\n{reported(found)}"
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@every_crontab
def test_the_file_is_valid_and_has_every_task(name: str, tmp_path: Path) -> None:
    found = imported(text_of(name), **OPTIONS.get(name, {}))
    plan = compiled(write(found), tmp_path).plan
    assert plan is not None
    assert list(plan.tasks) == [task.name for task in found.tasks]
    for task in found.tasks:
        made = plan.tasks[task.name]
        assert (made.command, made.stdin) == (task.settings["command"], task.settings.get("stdin"))
        assert dict(made.env) == dict(task.env)
        assert made.cwd == task.env["HOME"]
        assert made.enabled is task.is_enabled


@every_crontab
def test_cron_s_ways_are_kept(name: str, tmp_path: Path) -> None:
    plan = compiled(
        write(imported(text_of(name), **OPTIONS.get(name, {}) | {"lifting": False})), tmp_path
    ).plan
    assert plan is not None
    for task in plan.tasks.values():
        assert (task.overlap, task.catch_up, task.leftovers) == ("allow", "none", "keep")
        assert task.on_interrupt == "fail"


@every_crontab
def test_every_line_is_accounted_for(name: str) -> None:
    text = text_of(name)
    lines = [line.number for line in read_crontab(text) if line.kind is not Kind.BLANK]
    assert [report.line for report in imported(text, **OPTIONS.get(name, {})).reports] == lines


def test_there_are_ten() -> None:
    assert len(CRONTABS) == 10
    assert {path.stem for path in GOLDENS.iterdir()} == set(CRONTABS)
