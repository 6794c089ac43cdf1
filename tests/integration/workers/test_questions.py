"""What calls ask of the supervisor over their worker's socket, in every kind of worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobrunner.codec import decode
from jobrunner.durations import MILLISECOND, SECOND
from jobrunner.model import Ending
from jobrunner.plan import PoolKind
from tests.integration.workers.stand import Stand

SHORT = 300 * MILLISECOND
PROCESS, THREAD, GREENLET, ASYNC = list(PoolKind)[:4]
every_kind = pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((PROCESS, "ask"), (THREAD, "ask"), (GREENLET, "ask"), (ASYNC, "ask_async")),
        *((PROCESS, "ask_awaiting"), (THREAD, "ask_awaiting"), (ASYNC, "ask_awaiting")),
    ],
)
side_by_side = pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((THREAD, "ask"), (GREENLET, "ask"), (ASYNC, "ask_async"), (ASYNC, "ask")),
        *((THREAD, "ask_awaiting"), (ASYNC, "ask_awaiting")),
    ],
)


@every_kind
def test_a_question_is_answered_and_the_supervisor_knows_who_asked(
    tmp_path: Path, kind: PoolKind, name: str
) -> None:
    with Stand(tmp_path, slots=4, kind=kind) as stand:
        calls = [stand.call(name, f"question {number}") for number in range(20)]
        ends = stand.run(*calls)
        answers = [decode(ended.result or "") for ended in ends]
        assert answers == [f"question {number} of {call.run_id}" for number, call in enumerate(calls)]


@pytest.mark.parametrize(("kind", "whose"), [(PROCESS, "run-1"), (THREAD, "nobody")])
def test_a_thread_that_a_call_starts_is_its_own_in_a_process_alone(
    tmp_path: Path, kind: PoolKind, whose: str
) -> None:
    with Stand(tmp_path, kind=kind) as stand:
        assert decode(stand.one("ask_from_a_thread", "who").result or "") == f"who of {whose}"


@side_by_side
def test_other_calls_go_on_while_one_waits_for_its_answer(tmp_path: Path, kind: PoolKind, name: str) -> None:
    with Stand(tmp_path, slots=2, kind=kind) as stand:
        waiting = stand.call(name, "later")
        stand.pool.start([waiting])
        stand.until(lambda: bool(stand.kept), "for the question")
        assert [ended.result for ended in stand.run(*[stand.call("add", 1, n) for n in range(5)])] == list(
            "12345"
        )
        assert waiting.seq not in stand.over
        call, reply = stand.kept[0]
        assert call == waiting
        reply.send("now")
        assert stand.wait_for(waiting)[0].result == '"now"'


# rule 14: even a thread ends at once when it waits here
@every_kind
def test_the_end_of_a_call_ends_its_wait(tmp_path: Path, kind: PoolKind, name: str) -> None:
    with Stand(tmp_path, slots=2, kind=kind) as stand:
        call = stand.call(stand.task(name, kill_after=60 * SECOND), "later", timeout=SHORT)
        ended = stand.run(call)[0]
        assert ended.ending is Ending.TIMEOUT
        assert "goes on" not in (ended.error or "")
        stand.until(lambda: not stand.kept[0][1].is_wanted, "for the question to be taken back")
        stand.kept[0][1].send("too late")  # it harms nobody
        assert stand.one("nothing").ending is Ending.OK


@every_kind
def test_nobody_waits_in_a_dead_worker(tmp_path: Path, kind: PoolKind, name: str) -> None:
    with Stand(tmp_path, slots=2, kind=kind) as stand:
        call = stand.call(name, "later")
        stand.pool.start([call])
        stand.wait_for_start(call)
        stand.until(lambda: bool(stand.kept), "for the question")
        pid = decode(stand.one("whoami").result or "") if kind is not PROCESS else stand.pool._members[0].pid  # type: ignore[union-attr]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        assert stand.wait_for(call)[0].ending is Ending.CRASHED
        assert not stand.kept[0][1].is_wanted
        stand.kept[0][1].send("too late")
        assert stand.one("nothing").ending is Ending.OK
