"""`jobrunner doctor`: every line a finding, each trouble with its next step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobrunner.cli.symptoms import Verdict, unit_finding
from jobrunner.durations import DAY, MINUTE
from jobrunner.storage.health import Version, is_wal_mended
from tests.builders import NOON, a_task
from tests.cli.desk import Answer, Desk, Stage

FILE = "backend: sqlite:///{folder}/jobs.db\ntasks:\n  backup: {{command: [/bin/true]}}\n{more}"
CHECKS = {
    "versions",
    "file",
    "storage",
    "integrity",
    "driver",
    "permissions",
    "disk",
    "service",
    "clock",
    "zones",
}


def examined(desk: Desk, *options: str, more: str = "") -> Answer:
    (desk.folder / "jobs.yaml").write_text(FILE.format(folder=desk.folder, more=more))
    return desk("doctor", *options)


def verdicts(desk: Desk, check: str, *, more: str = "") -> list[tuple[str, str]]:
    """The verdicts and the next steps of one check."""
    found: list[dict[str, Any]] = examined(desk, "--json", more=more).document["checks"]
    return [(each["verdict"], each["help"]) for each in found if each["check"] == check]


def test_a_healthy_installation_has_no_failure(desk: Desk, stage: Callable[..., Stage]) -> None:
    stage(a_task())
    answer = examined(desk)
    assert answer.code == 0, answer
    assert "✓ ok    integrity   no damage found" in answer.out
    assert answer.out.splitlines()[-1].startswith("0 failures")


def test_the_document_has_every_check(desk: Desk, stage: Callable[..., Stage]) -> None:
    stage(a_task())
    document = examined(desk, "--json").document
    assert {each["check"] for each in document["checks"]} >= CHECKS | {"limits", "commands", "unit"}
    assert document["verdict"] in ("ok", "warn")


def test_notifications_that_do_not_arrive_are_a_failure(desk: Desk, stage: Callable[..., Stage]) -> None:
    opened = stage(a_task())
    status = opened.status._replace(untold=3, untold_because="mail by mx: connection refused")
    opened.storage.heartbeat(opened.owner.id, status, opened.now)
    answer = examined(desk)
    assert answer.code == 1
    assert "3 notifications not delivered: mail by mx: connection refused" in answer.out
    assert "jobrunner notify --test" in answer.out


def test_an_invalid_file_is_exit_5_and_the_rest_is_examined_all_the_same(desk: Desk) -> None:
    answer = examined(desk, more="  broken: {comand: x}\n")
    assert answer.code == 5
    assert "did you mean 'command'" in answer.out
    assert "zone data from" in answer.out


def test_a_storage_that_is_not_there_yet_is_told_with_the_line_that_makes_it(desk: Desk) -> None:
    ((verdict, step),) = verdicts(desk, "storage")
    assert (verdict, step.startswith("jobrunner run ")) == ("warn", True)


def test_a_damaged_storage_fails_with_what_to_do(desk: Desk) -> None:
    (desk.folder / "jobs.db").write_bytes(b"no database" * 1000)
    answer = examined(desk)
    assert answer.code == 1
    assert ".recover" in answer.out


def test_a_storage_that_others_can_read_is_told_with_the_command(
    desk: Desk, stage: Callable[..., Stage]
) -> None:
    stage(a_task())
    (desk.folder / "jobs.db").chmod(0o644)
    ((verdict, step),) = verdicts(desk, "permissions")
    assert (verdict, f"chmod 600 {desk.folder}/jobs.db" in step) == ("warn", True)


def test_a_clock_that_was_set_back_is_seen_by_the_newest_run(desk: Desk, stage: Callable[..., Stage]) -> None:
    stage(a_task()).has_run("backup")
    desk.clock.at = NOON - DAY
    assert [verdict for verdict, _ in verdicts(desk, "clock")] == ["warn"]


def test_a_clock_that_was_never_set_fails(desk: Desk) -> None:
    desk.clock.at = MINUTE
    assert [verdict for verdict, _ in verdicts(desk, "clock")] == ["fail"]


@pytest.mark.parametrize(
    ("task", "verdict"),
    [
        ("{command: [no-such-program, x]}", "warn"),
        ("{command: no-such-program --all}", "warn"),
        ("{command: 'no-such-program x', env: {PATH: /nowhere}}", "warn"),
        ("{command: 'cd / && ls'}", "ok"),
        ("{command: 'if true; then ls; fi'}", "ok"),
        ("{command: 'LANG=C ls | wc'}", "ok"),
        ("{command: '(ls)'}", "ok"),
    ],
)
def test_the_program_of_every_command_is_looked_for_on_its_path(desk: Desk, task: str, verdict: str) -> None:
    assert {found for found, _ in verdicts(desk, "commands", more=f"  task: {task}\n")} == {verdict}


@pytest.mark.parametrize(
    ("version", "mended"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
    ],
)
def test_the_versions_of_sqlite_that_can_damage_their_log_are_known(
    version: Version, *, mended: bool
) -> None:
    assert is_wal_mended(version) is mended


ACTIVE = {"ActiveState": "active", "NRestarts": "0", "StatusText": "1 running"}
FAILED = {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "5"}


@pytest.mark.parametrize(
    ("states", "verdict", "words", "step"),
    [
        (ACTIVE, Verdict.OK, "is active: 1 running", ""),
        ({**ACTIVE, "NRestarts": "3"}, Verdict.WARN, "started anew 3 times", "-p warning"),
        (FAILED, Verdict.FAIL, "exit 5", "-n 50"),
    ],
)
def test_the_state_of_each_unit_is_told(
    states: dict[str, str], verdict: Verdict, words: str, step: str
) -> None:
    found = unit_finding("--user jobrunner@shop.service", states)
    assert (found.check, found.verdict) == ("unit", verdict)
    assert found.words.startswith("jobrunner@shop.service ")
    assert words in found.words
    assert step in found.help
    assert not step or found.help.startswith("journalctl --user -u jobrunner@shop.service")
