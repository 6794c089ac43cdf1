"""Hooks that modules register, in real workers."""

from __future__ import annotations

from pathlib import Path

from jobrunner.codec import decode
from jobrunner.model import Ending
from jobrunner.plan import Task
from tests.integration.workers.stand import Stand


def hooked(name: str) -> Task:
    return Task(name=name, call=f"hooked:{name}")


def test_hooks_are_called_around_each_attempt_and_startup_ones_once(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        first, second = stand.call(hooked("log")), stand.call(hooked("log"))
        begin = ["startup", "before log", "executing 1", first.run_id]
        assert decode(stand.run(first)[0].result or "") == begin
        result = decode(stand.run(second)[0].result or "")
        assert result == [*begin, f"after log {begin} NoneType", "before log", "executing 1", second.run_id]


def test_a_hook_may_cancel_the_run_before_its_task_is_called(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        ended = stand.one(hooked("refused"))
        assert (ended.ending, ended.retry, ended.error) == (Ending.CANCELLED, False, "not today")
        said = decode(stand.one(hooked("log")).result or "")
        assert isinstance(said, list)
        assert "it was called" not in said


def test_a_failing_hook_is_reported_in_the_output_and_the_task_runs(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        call = stand.call(hooked("unlucky"))
        assert stand.run(call)[0].result == '"called"'
        assert b"ValueError: a hook that fails" in stand.output(call)[1]


def test_hooks_after_an_attempt_see_what_it_raised(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        assert stand.one(hooked("failing")).outcome == "exit 4"
        said = decode(stand.one(hooked("log")).result or "")
        assert isinstance(said, list)
        assert "after failing None SystemExit" in said
