"""What `check` warns of: schedules that meet or never come, programs and folders that are not there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobrunner.config.compile import compile_file

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def codes(folder: Path, task: str) -> list[str]:
    file = folder / "jobs.yaml"
    file.write_text(f"timezone: UTC\ntasks:\n  a: {{command: date, {task}}}\n")
    found = compile_file(str(file), environ={"PATH": "/usr/bin:/bin"}, now=NOW)
    assert not found.errors, found.rendered
    return [each.code for each in found.problems]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("schedule: [{every: 10s, args: [a]}, {every: 10s, args: [b]}]", ["same-moment"]),
        ("schedule: [{every: 10s, args: [a]}, {every: 30s, args: [b]}]", ["same-moment"]),
        ("schedule: [{every: 10s, args: [a]}, {every: 10s, offset: 5s, args: [b]}]", []),
        ("schedule: [{every: 10s, args: [a]}, {every: 10s, args: [b]}], overlap: allow", []),
        ("schedule: [{every: 10s}, {every: 30s}]", []),  # one tick where they meet
        ("schedule: {at: 2020-01-01T00:00}", ["no-tick-to-come"]),
        ("schedule: {at: 2027-01-01T00:00}", []),
        ("schedule: reboot", []),
        ("schedule: [{cron: '0 5 * * *', args: [a]}, {cron: '0 6 * * *', args: [b]}]", []),
    ],
)
def test_schedules_that_take_ticks_from_one_another_are_a_warning(
    task: str, expected: list[str], tmp_path: Path
) -> None:
    # rules 7 and 8
    assert codes(tmp_path, task) == expected


def test_a_file_that_may_not_be_run_is_not_said_to_be_missing(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("tasks:\n  a: {command: [/etc/passwd]}\n  b: {command: [/no/such]}\n")
    found = compile_file(str(file), environ={"PATH": "/usr/bin:/bin"}, importing=True)
    assert [each.message for each in found.problems] == [
        "'/etc/passwd' is no program that may be run",
        "there is no program '/no/such'",
    ]


def test_a_folder_that_is_not_there_is_a_warning_once(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    tasks = "  a: {command: date}\n  b: {command: date}\n  c: {command: date, cwd: .}\n"
    text = f"defaults: {{cwd: /no/such}}\ntasks:\n{tasks}"
    file.write_text(text)
    found = compile_file(str(file), environ={"PATH": "/usr/bin:/bin"}, importing=True)
    assert [(each.code, each.line) for each in found.problems] == [("folder-not-found", 1)]
