"""Calls in one worker after each other: what one leaves behind does not reach the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.codec import decode
from jobrunner.model import Ending
from tests.integration.workers.stand import Stand

CHANGES = [
    "change_folder",
    "change_folder_and_remove_it",
    "change_umask",
    "change_signals",
    "set_alarm",
    "change_environment",
    "replace_environment",
    "clear_environment",
    "change_recursion",
    "close_descriptors",
    "redirect_descriptors",
    "close_streams",
    "replace_streams",
    "shut_logging",
    "leave_threads",
    "leave_a_child",
]


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Stand]:
    """A pool of one worker."""
    with Stand(tmp_path, slots=1) as made:
        yield made


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_call_changes_is_put_back(single: Stand, tmp_path: Path, change: str) -> None:
    before = single.one("surroundings")
    arguments = [str(tmp_path / "new")] if change in CHANGES[1:2] + CHANGES[10:11] else []
    assert single.one(change, *arguments).ending is Ending.OK
    after = single.one("surroundings")
    assert after.pid == before.pid, "the same worker goes on"
    assert before.result is not None
    assert after.result is not None
    assert decode(after.result) == decode(before.result)
    call = single.call("shout", "still here")
    assert single.run(call)[0].ending is Ending.OK
    assert single.output(call) == (b"still here\n", b"")


def test_an_alarm_that_a_call_set_hurts_nobody(single: Stand) -> None:
    first = single.one("set_alarm")
    second = single.one("sleep", 0.2)
    assert (second.ending, second.pid) == (Ending.OK, first.pid)


def test_a_task_has_its_folder_and_its_environment(single: Stand, tmp_path: Path) -> None:
    task = single.task("surroundings", cwd=str(tmp_path), env={"ZOO_OWN": "1"})
    seen = decode(single.one(task).result or "")
    assert isinstance(seen, dict)
    assert (seen["cwd"], seen["zoo"]) == (os.path.realpath(tmp_path), ["ZOO_OWN"])
    plain = decode(single.one("surroundings").result or "")
    assert isinstance(plain, dict)
    assert (plain["cwd"], plain["zoo"]) == ("/", [])


def test_an_attempt_sees_the_variables_of_its_run(single: Stand) -> None:
    task = single.task("variables", env={"ZOO_TASK": "task", "ZOO_BOTH": "task", "JOBRUNNER_OWNER": "nobody"})
    call = single.call(task, env={"ZOO_BOTH": "run", "JOBRUNNER_TASK": "no"})
    call = call._replace(attempt=2, missed=4, tick=1_600_000_000_000_000, trigger="catch-up")
    assert decode(single.run(call)[0].result or "") == {
        "ZOO_TASK": "task",
        "ZOO_BOTH": "run",
        "JOBRUNNER_TASK": "variables",
        "JOBRUNNER_RUN_ID": call.run_id,
        "JOBRUNNER_ATTEMPT": "2",
        "JOBRUNNER_TRIGGER": "catch-up",
        "JOBRUNNER_MISSED": "4",
        "JOBRUNNER_SCHEDULED_AT": "2020-09-13T12:26:40+00:00",
        "JOBRUNNER_OWNER": "owner-1",
    }
    plain = single.call("variables")
    seen = decode(single.run(plain)[0].result or "")
    assert isinstance(seen, dict)
    assert seen["JOBRUNNER_RUN_ID"] == plain.run_id
    assert "ZOO_TASK" not in seen


def test_a_child_of_a_call_sees_them_too(single: Stand) -> None:
    call = single.call("variables_of_a_child")
    lines = decode(single.run(call)[0].result or "")
    assert isinstance(lines, list)
    assert f"JOBRUNNER_RUN_ID={call.run_id}" in lines
    assert not [line for line in lines if line.startswith("PYTHONPATH")]


# security S8
def test_a_worker_inherits_only_what_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_SECRET", "canary")
    with Stand(tmp_path, env={"ZOO_POOL": "yes"}) as stand:
        seen = decode(stand.one("variables").result or "")
        assert isinstance(seen, dict)
        assert "ZOO_SECRET" not in seen
        assert seen["ZOO_POOL"] == "yes"


def test_an_environment_that_cannot_be_is_said_so(single: Stand) -> None:
    ended = single.one(single.task("nothing", env={"ZOO_NUL": "a\0b"}))
    assert ended.ending is Ending.COULD_NOT_START
    assert single.one("nothing").ending is Ending.OK
