"""What comes out of a call, one kind at a time, and that it is reported exactly once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from jobrunner.codec import decode
from jobrunner.durations import SECOND
from jobrunner.model import Cause, Ended, Ending
from jobrunner.plain import to_plain
from tests.integration.workers.stand import Stand


def _result(ended: Ended) -> object:
    assert ended.ending is Ending.OK, ended
    assert ended.result is not None
    return decode(ended.result)


def test_a_result_comes_back_with_its_times(stand: Stand) -> None:
    ended = stand.one("add", 1, 2)
    assert _result(ended) == 3
    assert ended.started_at is not None
    assert 0 <= ended.ended_at - ended.started_at < 60 * SECOND
    assert ended.pid is not None


def test_none_is_a_result_like_any_other(stand: Stand) -> None:
    assert stand.one("nothing").result == "null"


def test_a_result_that_nobody_wants_is_not_kept(stand: Stand) -> None:
    ended = stand.one(stand.task("unstorable", store_result=False))
    assert ended.ending is Ending.OK
    assert ended.result is None


def test_tagged_values_go_both_ways(stand: Stand) -> None:
    args = [(1, 2), {3}, b"\x00\xff", {1: "one"}, "tab\tnewline\né"]
    assert _result(stand.one("echo", *args, key=(None,))) == [args, {"key": (None,)}]
    assert stand.one("tagged").result == (
        '{"when":{"$datetime":"2026-03-29T00:00:00+00:00"},'
        '"colour":{"$enum":["zoo:Colour","RED","red"]},"pair":{"$tuple":[1,2]}}'
    )


def test_a_payload_with_raw_newlines_is_one_call(stand: Stand) -> None:
    payload = '{\n\t"args": [1,\n 2],\n\t"kwargs": {}\n}\n'
    calls = [stand.call("add", payload=payload), stand.call("add", 3, 4)]
    assert [_result(ended) for ended in stand.run(*calls)] == [3, 7]


def test_a_line_inside_a_payload_defines_no_task(stand: Stand) -> None:
    evil = '{"args":[],"kwargs":{}}\nD\t9\t{"call":"os:abort"}\nC\t99\t9'
    assert stand.one("add", payload=evil).ending is Ending.BAD_ARGUMENTS
    assert _result(stand.one("add", 1, 1)) == 2


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_an_async_callable_runs_to_its_end(stand: Stand, seconds: float) -> None:
    assert _result(stand.one("asleep", seconds)) == "slept"


def test_a_task_left_on_the_event_loop_does_not_reach_the_next_call(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        assert _result(stand.one("leaves_a_task")) == "left"
        assert _result(stand.one("tasks_around")) == 1


# rule 13
@pytest.mark.parametrize(
    ("code", "recorded"), [(3, 3), (0, 0), (None, 0), (256 + 7, 7), ("words", 1), (True, 1)]
)
def test_sys_exit_is_an_exit_without_the_death_of_the_worker(
    tmp_path: Path, code: object, recorded: int
) -> None:
    with Stand(tmp_path, slots=1) as stand:
        before = _result(stand.one("whoami"))
        ended = stand.one("leave", code)
        assert (ended.ending, ended.exit_code) == (Ending.EXIT, recorded)
        assert _result(stand.one("whoami")) == before


# rule 13
@pytest.mark.parametrize("code", [0, 3, 255])
def test_a_call_that_ends_its_process_is_an_exit(stand: Stand, code: int) -> None:
    ended = stand.one("leave_process", code)
    assert (ended.ending, ended.exit_code, ended.outcome) == (Ending.EXIT, code, f"exit {code}")


# rule 15
@pytest.mark.parametrize(
    ("name", "args", "number"),
    [
        ("segfault", (), "SIGSEGV"),
        ("abort", (), "SIGABRT"),
        ("kill_self", (9,), "SIGKILL"),
        ("kill_self", (10,), "SIGUSR1"),
    ],
)
def test_a_worker_killed_under_its_call_is_a_crash(
    stand: Stand, name: str, args: tuple[object, ...], number: str
) -> None:
    ended = stand.one(name, *args)
    assert (ended.ending, ended.signal) == (Ending.CRASHED, number)
    assert ended.error is not None
    assert number in ended.error


def test_a_segfault_says_where_it_was(stand: Stand) -> None:
    call = stand.call("segfault")
    stand.run(call)
    assert b"in segfault" in stand.output(call)[1]


@pytest.mark.parametrize(
    ("name", "kind", "bases", "message"),
    [
        ("fail", "ValueError", {"Exception", "BaseException"}, "ValueError: no"),
        ("interrupt", "KeyboardInterrupt", {"BaseException"}, "KeyboardInterrupt"),
        ("recurse", "RecursionError", {"RuntimeError"}, "maximum recursion depth"),
        ("exhaust", "MemoryError", {"Exception"}, "MemoryError: simulated"),
        ("strange_init", "StrangeInit", {"zoo.StrangeInit"}, "StrangeInit"),
        ("strange_str", "StrangeStr", {"Exception"}, "its __str__ raised RuntimeError"),
        ("strange_base", "StrangeBase", {"BaseException"}, "from below Exception"),
        ("strange_kind", "Hidden", {"Exception"}, "hidden"),
        ("cyclic", "Cyclic", {"Exception"}, "first"),
        ("group", "ExceptionGroup", {"BaseExceptionGroup"}, "KeyError: 'two'"),
        ("wordy", "ValueError", {"Exception"}, "characters left out"),
        ("half_a_character", "ValueError", {"Exception"}, r"\ud800"),
        ("type_error_inside", "TypeError", {"Exception"}, "unsupported operand"),
    ],
)
def test_an_exception_is_told_by_name_message_and_traceback(
    stand: Stand, name: str, kind: str, bases: set[str], message: str
) -> None:
    ended = stand.one(name, *([1] if name == "type_error_inside" else []))
    assert (ended.ending, ended.exception) == (Ending.EXCEPTION, kind)
    assert bases <= set(ended.exceptions)
    assert ended.error is not None
    assert message in ended.error
    assert len(ended.error) <= 80 * 1024
    assert "calling.py" not in ended.error
    assert ended.error.splitlines()[0].startswith(kind)


def test_a_worker_is_replaced_after_a_memory_error(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        before = _result(stand.one("whoami"))
        assert stand.one("exhaust").outcome == "exception MemoryError"
        assert _result(stand.one("whoami")) != before


# rule 21
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unstorable", 'result["a"][3]: a lambda cannot be stored'),
        ("not_a_number", "result: the float nan cannot be stored"),
        ("contains_itself", "contains itself"),
        ("enormous", "result of 2,097,154 bytes as JSON"),
        ("strange_value", "result[0]: a zoo.StrangeValue cannot be stored"),
    ],
)
def test_a_result_that_cannot_be_stored_says_which_part(stand: Stand, name: str, message: str) -> None:
    ended = stand.one(name)
    assert ended.ending is Ending.NOT_STORABLE
    assert ended.error is not None
    assert message in ended.error


# rule 12
@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("add", [1], {}),
        ("add", [1, 2, 3], {}),
        ("add", [1], {"c": 2}),
        ("nothing", [], {"surprise": 1}),
        ("wrapped", [], {}),
    ],
)
def test_arguments_that_do_not_fit_are_bad_arguments(
    stand: Stand, name: str, args: list[object], kwargs: dict[str, object]
) -> None:
    ended = stand.run(stand.call(name, *args, **kwargs))[0]  # type: ignore[arg-type]
    assert ended.ending is Ending.BAD_ARGUMENTS
    assert ended.error is not None
    assert name in ended.error


@pytest.mark.parametrize(
    "payload", ["", "nonsense", "[]", '{"args":1,"kwargs":{}}', '{"args":[NaN],"kwargs":{}}', "{" * 200_000]
)
def test_a_damaged_payload_is_bad_arguments(stand: Stand, payload: str) -> None:
    assert stand.one("add", payload=payload).ending is Ending.BAD_ARGUMENTS


def test_a_type_error_inside_a_wrapped_callable_is_its_own(stand: Stand) -> None:
    assert stand.one("wrapped", 5).result == "5"
    assert stand.one("type_error_inside", 1).ending is Ending.EXCEPTION


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("zoo:missing", "there is no 'missing' in"),
        ("zoo:Colour.GREEN", "there is no 'GREEN' in"),
        ("zoo:__name__", "is a str, not a callable"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("broken:f", "SyntaxError"),
        ("exiting:f", "SystemExit: 4"),
    ],
)
def test_a_callable_that_cannot_be_found_could_not_start(tmp_path: Path, call: str, message: str) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "exiting.py").write_text("import sys\nsys.exit(4)\n")
    zoo = str(Path(__file__).parent)
    with Stand(tmp_path, pythonpath=(str(tmp_path), zoo)) as stand:
        ended = stand.one(stand.task("lost", call=call))
        assert ended.ending is Ending.COULD_NOT_START
        assert ended.error is not None
        assert message in ended.error
        assert f"searched:\n  {tmp_path}\n  {zoo}\n" in ended.error


def test_a_module_that_appears_later_is_found_then(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1, pythonpath=(str(tmp_path),)) as stand:
        task = stand.task("late", call="late:f")
        assert stand.one(task).ending is Ending.COULD_NOT_START
        (tmp_path / "late.py").write_text("def f():\n    return 'here'\n")
        assert _result(stand.one(task)) == "here"


def test_a_folder_that_is_not_there_could_not_start(stand: Stand, tmp_path: Path) -> None:
    ended = stand.one(stand.task("nothing", cwd=str(tmp_path / "gone")))
    assert ended.ending is Ending.COULD_NOT_START
    assert ended.error is not None
    assert "gone" in ended.error


def test_a_run_id_that_could_end_a_line_is_refused(stand: Stand) -> None:
    call = stand.call("nothing")._replace(run_id="a\tb\nQ")
    assert stand.run(call)[0].ending is Ending.COULD_NOT_START


# rule 12
@pytest.mark.parametrize(("delay", "micros"), [(None, None), (5, 5 * SECOND), ("2m", 120 * SECOND)])
def test_retry_run_asks_for_another_try(stand: Stand, delay: object, micros: int | None) -> None:
    ended = stand.one("ask_again", delay)
    assert (ended.ending, ended.delay) == (Ending.RETRY_ASKED, micros)


# rule 12
@pytest.mark.parametrize("retry", [None, True, False])
def test_cancel_run_ends_the_run(stand: Stand, retry: bool | None) -> None:
    ended = stand.run(stand.call("give_up", retry))[0]
    assert (ended.ending, ended.retry, ended.error) == (Ending.CANCELLED, retry, "no use")


def test_a_task_sees_its_run(stand: Stand) -> None:
    cause = Cause(task="backup", run_id="r", state="failed", reason="exit 1")
    call = stand.call("run_facts", timeout=60 * SECOND, cause=json.dumps(to_plain(cause)))
    call = call._replace(attempt=2, trigger="catch-up", missed=3, tick=1_600_000_000_000_000)
    facts = _result(stand.run(call)[0])
    assert isinstance(facts, dict)
    tick = facts.pop("tick")
    assert tick == facts.pop("scheduled_at")
    assert str(tick) == "2020-09-13 12:26:40+00:00"
    assert facts == {
        "id": call.run_id,
        "task": "run_facts",
        "attempt": 2,
        "trigger": "catch-up",
        "missed": 3,
        "cause": "backup",
        "has_time": True,
        "is_cancelled": False,
    }


# rules 15 and 16, invariant I11: that no worker starts is no fault of the call
def test_a_call_waits_for_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    other = tmp_path / "python9"
    with Stand(tmp_path, slots=2, python=str(other)) as stand:
        assert "python9" in stand.waits("nothing")
        assert stand.pool.room() == 0  # rule 15: the claim may be the start, so nothing is claimed
        other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        other.chmod(0o755)
        assert stand.one("nothing").ending is Ending.OK
        assert stand.told[-1] is None
        assert len(stand.told) == 2


def test_a_start_that_failed_is_tried_again_beside_workers_that_are_busy(tmp_path: Path) -> None:
    # invariant I11: else the pool would stay small, or be closed when the last of them leaves
    other = tmp_path / "python9"

    def install() -> None:
        other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        other.chmod(0o755)

    install()
    with Stand(tmp_path, slots=2, python=str(other)) as stand:
        busy = stand.call("sleep", 3600)
        stand.pool.start([busy])
        stand.wait_for_start(busy)
        other.unlink()
        assert "python9" in stand.waits("nothing")
        assert stand.pool.room() == 0
        install()
        assert stand.one("nothing").ending is Ending.OK
        assert stand.told[-1] is None


def test_a_call_waits_for_an_interpreter_with_this_package(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec "{sys.base_prefix}/bin/python3" -S -E "$@"\n')
    other.chmod(0o755)
    with Stand(tmp_path, python=str(other)) as stand:
        assert "jobrunner" in stand.waits("nothing")
