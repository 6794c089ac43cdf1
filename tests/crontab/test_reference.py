"""The reference crontabs: what Debian's own parser makes of each of their lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from jobrunner.crontabs.parse import REBOOT, Kind, Line, read_crontab
from jobrunner.crontabs.translate import ImportedTask
from jobrunner.crontabs.write import write
from jobrunner.schedule.fields import bits
from jobrunner.schedule.text import parse_expression
from tests.crontab.imports import compiled, imported

pytestmark = pytest.mark.reference

CARRIAGE = "a line of a carriage return alone is blank here"
CARRIAGE_IN_COMMAND = "a carriage return at the end of a line is taken off, and reported"
EMPTY = "an empty value is taken, and reported: cronie takes it"
NOTHING = "a line without a command is reported, not made a task"

LEFT_OUT: Mapping[tuple[str, int], str] = {
    ("APSIMInitiative__apsim-web__crontab", 25): CARRIAGE,
    ("APSIMInitiative__apsim-web__crontab", 26): CARRIAGE_IN_COMMAND,
    ("synthetic-torture", 4): EMPTY,
    ("synthetic-torture", 7): EMPTY,
    ("synthetic-torture", 23): NOTHING,
}


def folder() -> Path:
    given = os.environ.get("JOBRUNNER_REFERENCE_DATA")
    data = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    return data / "crontabs"


def _names() -> list[Any]:
    found = sorted(file.stem for file in (folder() / "expected").glob("*.json"))
    if found:
        return [pytest.param(name, id=name) for name in found]
    reason = f"no reference data: {folder()} is absent (JOBRUNNER_REFERENCE_DATA)"
    return [pytest.param("", id="absent", marks=pytest.mark.skip(reason=reason))]


every_crontab = pytest.mark.parametrize("name", _names())


@lru_cache(maxsize=256)
def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder() / "expected" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def text_of(name: str) -> str:
    return (folder() / f"{name}.txt").read_bytes().decode()


def items(name: str, kind: str) -> Iterator[tuple[dict[str, Any], Line]]:
    """What is expected of a kind, each with our line of the same number."""
    system = expected(name)["format"] == "system"
    lines = {line.number: line for line in read_crontab(text_of(name), system=system)}
    for item in expected(name)["items"]:
        if item["type"] == kind and (name, item["line"]) not in LEFT_OUT:
            yield item, lines[item["line"]]


@every_crontab
def test_variables_are_what_debian_reads(name: str) -> None:
    for item, line in items(name, "env"):
        assert (line.kind, line.name, line.value) == (Kind.VARIABLE, item["name"], item["value"])


@every_crontab
def test_commands_and_users_are_what_debian_reads(name: str) -> None:
    for item, line in items(name, "job"):
        assert (line.kind, line.refusal) == (Kind.TASK, ""), item
        assert line.command.lstrip() == item["command"].lstrip()
        assert (line.stdin, line.user) == (item.get("stdin"), item.get("user"))
        assert (line.when == REBOOT) is item.get("reboot", False)


@every_crontab
def test_fields_are_what_debian_reads(name: str) -> None:
    for item, line in items(name, "job"):
        if line.when != REBOOT:
            assert line.sets is not None
            fields = ("minute", "hour", "dom", "month", "dow")
            assert [sorted(values) for values in line.sets.values] == [item[field] for field in fields]
            assert line.sets.wildcard is item["wild"]
            assert line.sets.both_days is item["day_and"] or _days_are_free(item)


@every_crontab
def test_what_debian_refuses_is_reported(name: str) -> None:
    for item, line in items(name, "error"):
        assert line.kind is Kind.REFUSED or line.refusal == item["error"]


@every_crontab
def test_the_new_file_means_what_debian_reads(name: str, tmp_path: Path) -> None:
    found = imported(text_of(name), system=expected(name)["format"] == "system")
    made = compiled(write(found), tmp_path)
    assert made.plan is not None, made.rendered
    tasks = {task.line.number: task for task in found.tasks}
    for item, line in items(name, "job"):
        task = tasks[line.number]
        read = made.plan.tasks[task.name]
        assert (read.command, read.stdin) == (item["command"].strip(" \t"), item.get("stdin"))
        if task.when.runs and not item.get("reboot"):
            _assert_same_times(task, item)


def _assert_same_times(task: ImportedTask, item: Mapping[str, Any]) -> None:
    """The schedule of the new file has the sets and the flags of the line."""
    fields = parse_expression(task.when.text).fields
    masks = (fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays)
    assert [bits(mask) for mask in masks] == [item[key] for key in ("minute", "hour", "dom", "month", "dow")]
    assert fields.plain
    assert fields.wildcard is item["wild"]
    assert fields.both_days is item["day_and"] or _days_are_free(item)


def _days_are_free(item: Mapping[str, Any]) -> bool:
    """Without a restricted day, or for a nickname, both readings are the same dates or cron does not say."""
    return len(item["dom"]) == 31 or len(item["dow"]) == 7


@every_crontab
def test_what_is_left_out_is_reported_too(name: str) -> None:
    system = expected(name)["format"] == "system"
    lines = {line.number: line for line in read_crontab(text_of(name), system=system)}
    for (file, number), reason in LEFT_OUT.items():
        if file == name and reason is not CARRIAGE:
            assert lines[number].notes or lines[number].refusal
