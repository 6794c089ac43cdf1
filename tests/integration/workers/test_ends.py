"""Ends by force: timeouts, cancels, interruptions, recalls, deaths. Rules 14, 15, 16."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobrunner.codec import decode
from jobrunner.durations import MILLISECOND, SECOND
from jobrunner.execution import Call
from jobrunner.execution.holding import BUDGET
from jobrunner.model import Ended, Ending
from tests.integration.workers.stand import Stand

SHORT = 200 * MILLISECOND
ROOT = Path(__file__).parents[3]


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# rule 14
@pytest.mark.parametrize(
    ("name", "args"), [("spin", ()), ("sleep", (3600,)), ("asleep", (3600,)), ("swallow", ())]
)
def test_a_call_over_its_time_is_ended_by_term(stand: Stand, name: str, args: tuple[object, ...]) -> None:
    task = stand.task(name, kill_after=60 * SECOND)
    call = stand.call(task, *args, timeout=SHORT)
    ended = stand.run(call)[0]
    assert ended.ending is Ending.TIMEOUT
    assert ended.signal is None, "no KILL was needed"
    assert call in stand.begun
    assert ended.error is not None
    assert ended.error.startswith("timed out after 200 ms")
    assert name == "asleep" or name in ended.error, "the traceback says where it was"
    assert ended.pid is not None
    assert not _is_alive(ended.pid)
    assert stand.one("add", 1, 1).result == "2"


# rule 14
@pytest.mark.parametrize("name", ["stubborn", "hold_the_gil"])
def test_a_call_that_term_does_not_end_is_killed(stand: Stand, name: str) -> None:
    ended = stand.run(stand.call(stand.task(name, kill_after=SHORT), timeout=SHORT))[0]
    assert (ended.ending, ended.signal) == (Ending.TIMEOUT, "SIGKILL")


@pytest.mark.parametrize("name", ["tidy", "tidy_async"])
def test_finally_blocks_run_at_a_timeout(stand: Stand, tmp_path: Path, name: str) -> None:
    ended = stand.run(stand.call(name, str(tmp_path / "tidied"), timeout=SHORT))[0]
    assert ended.ending is Ending.TIMEOUT
    assert (tmp_path / "tidied").read_text() == "tidied"


# invariant I7
@pytest.mark.parametrize("name", ["with_a_child", "with_an_escapee"])
def test_the_children_of_a_call_over_its_time_are_ended(stand: Stand, tmp_path: Path, name: str) -> None:
    path = tmp_path / "child"
    call = stand.call(stand.task(name, kill_after=SHORT), str(path), timeout=10 * SHORT)
    stand.pool.start([call])
    assert stand.wait_for(call)[0].ending is Ending.TIMEOUT
    child = int(path.read_text())
    stand.until(lambda: not _is_alive(child), "for the end of a child")


@pytest.mark.parametrize("ending", [Ending.CANCELLED, Ending.INTERRUPTED])
def test_a_running_call_is_ended_as_asked(stand: Stand, ending: Ending) -> None:
    call = stand.call("sleep", 3600)
    stand.pool.start([call])
    stand.wait_for_start(call)
    stand.pool.end(call, ending)
    assert stand.wait_for(call)[0].ending is ending
    stand.pool.end(call, ending)  # it is over: nothing happens
    assert stand.one("nothing").ending is Ending.OK


def test_a_second_wish_shortens_the_grace(stand: Stand) -> None:
    call = stand.call(stand.task("stubborn", kill_after=3600 * SECOND))
    stand.pool.start([call])
    stand.wait_for_start(call)
    stand.pool.end(call, Ending.CANCELLED)
    stand.pool.end(call, Ending.INTERRUPTED, grace=0)
    ended = stand.wait_for(call)[0]
    assert (ended.ending, ended.signal) == (Ending.CANCELLED, "SIGKILL")


def test_an_end_asked_for_before_the_start_recalls_the_call(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        call = stand.call("nothing")
        stand.pool.start([call])
        stand.pool.end(call, Ending.CANCELLED)  # its worker is still starting
        assert stand.wait_for(call)[0].ending is Ending.RECALLED
        assert stand.one("nothing").ending is Ending.OK


def test_a_term_that_nobody_asked_for_hurts_no_call(stand: Stand) -> None:
    others = _children()
    call = stand.call("sleep", 0.5)
    stand.pool.start([call])
    stand.wait_for_start(call)
    pid = decode(stand.one("whoami").result or "")
    assert isinstance(pid, int)
    for each in _children() - others:
        os.kill(each, signal.SIGTERM)
    assert stand.wait_for(call)[0].result == '"slept"'
    assert _is_alive(pid)


def _children() -> set[int]:
    """Of this process: workers, and what other tests have left or started here."""
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return {int(pid) for pid in children.read().split()}


# rule 16
def test_exactly_the_executing_call_of_a_killed_worker_is_crashed(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        stand.run(*[stand.call("nothing") for _ in range(100)])
        marker = tmp_path / "marker"
        blocker = stand.call(stand.task("block_until", kill_after=SECOND), str(marker))
        behind = [stand.call("nothing") for _ in range(20)]
        # The task of the blocker is unknown here, so it is sent last; those behind it go first.
        stand.pool.start([*behind[:10], blocker, *behind[10:]])
        stand.until(lambda: marker.exists() and marker.read_text() != "", "for the blocker")
        os.kill(int(marker.read_text()), signal.SIGKILL)
        ends = stand.wait_for(*behind, blocker)
        assert (ends[-1].ending, ends[-1].signal) == (Ending.CRASHED, "SIGKILL")
        assert {ended.ending for ended in ends[:10]} == {Ending.OK}
        assert {ended.ending for ended in ends[10:-1]} == {Ending.RECALLED}
        assert stand.one("nothing").ending is Ending.OK


def test_what_waits_behind_a_long_call_comes_back_unharmed(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        stand.run(*[stand.call("sleep", 0) for _ in range(100)])  # learnt as short
        marker = stand.call("sleep", 3600)
        behind = [stand.call("sleep", 0) for _ in range(20)]
        stand.pool.start([marker, *behind])
        assert {ended.ending for ended in stand.wait_for(*behind)} == {Ending.RECALLED}
        assert stand.pool.room() == 0
        stand.pool.end(marker, Ending.CANCELLED)
        assert stand.wait_for(marker)[0].ending is Ending.CANCELLED


def test_what_had_room_when_it_was_claimed_is_begun_though_the_file_was_loaded_anew(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        stand.run(*[stand.call("nothing") for _ in range(100)])
        again = replace(stand.task("nothing"))  # the same words, another value
        ends = started(stand, [stand.call(again) for _ in range(max(2, stand.pool.room() // 2))])
        assert {ended.ending for ended in ends} == {Ending.OK}


def test_what_had_room_when_it_was_claimed_is_begun_though_calls_seem_to_take_longer(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        stand.run(*[stand.call("nothing") for _ in range(100)])
        (known,) = stand.pool._definitions.values()
        known.mean = BUDGET // 25
        ends = started(stand, [stand.call("nothing") for _ in range(50)])
        assert {ended.ending for ended in ends} == {Ending.OK}


def started(stand: Stand, calls: list[Call]) -> list[Ended]:
    """The ends of calls that were all handed over at once."""
    stand.pool.start(calls)
    return stand.wait_for(*calls)


def test_a_timeout_counts_for_a_call_that_waited_in_the_worker(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        stand.run(*[stand.call("sleep", 0) for _ in range(100)])
        calls = [stand.call("sleep", 0), stand.call("sleep", 3600, timeout=SHORT), stand.call("sleep", 0)]
        stand.pool.start(calls)
        ends = [ended.ending for ended in stand.wait_for(*calls)]
        assert ends == [Ending.OK, Ending.TIMEOUT, Ending.RECALLED]


def test_recall_gives_back_all_that_has_not_begun(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        stand.run(*[stand.call("sleep", 0) for _ in range(100)])
        calls = [stand.call("sleep", 0.3)] + [stand.call("sleep", 0) for _ in range(30)]
        stand.pool.start(calls)
        stand.pool.recall()
        ends = stand.wait_for(*calls)
        assert {ended.ending for ended in ends} <= {Ending.OK, Ending.RECALLED}
        assert ends[-1].ending is Ending.RECALLED


def test_a_retired_pool_finishes_what_has_begun_and_ends_its_workers(stand: Stand) -> None:
    calls = [stand.call("sleep", 0.3), stand.call("sleep", 0.3)]
    stand.pool.start(calls)
    for call in calls:
        stand.wait_for_start(call)
    stand.pool.retire()
    assert stand.pool.room() == 0
    assert [ended.result for ended in stand.wait_for(*calls)] == ['"slept"', '"slept"']
    stand.until(lambda: stand.pool.workers() == 0, "for the workers to leave")
    late = stand.call("nothing")
    stand.pool.start([late])
    assert stand.over[late.seq].ending is Ending.RECALLED


def test_threads_that_calls_left_do_not_keep_a_worker(stand: Stand) -> None:
    assert stand.one("leave_threads").ending is Ending.OK
    stand.pool.retire()
    stand.until(lambda: stand.pool.workers() == 0, "for the workers to leave")


# invariant I7
def test_the_children_that_calls_left_end_with_their_worker(stand: Stand) -> None:
    child = decode(stand.one("leave_a_child").result or "")
    assert isinstance(child, int)
    assert _is_alive(child)
    stand.pool.close()
    stand.until(lambda: not _is_alive(child), "for the end of a child")


def test_close_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    before, others = sorted(os.listdir("/proc/self/fd")), _children()
    with Stand(tmp_path) as stand:
        calls = [stand.call("sleep", 3600), stand.call("stubborn")]
        stand.pool.start(calls)
        for call in calls:
            stand.wait_for_start(call)
        pids = _children() - others
        assert len(pids) >= 2
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not any(_is_alive(pid) for pid in pids - _children())


SUPERVISOR = """
import sys
from pathlib import Path
from tests.integration.workers.stand import Stand
with Stand(Path(sys.argv[1])) as stand:
    calls = [stand.call(sys.argv[2]), stand.call("leave_a_child"), stand.call("whoami")]
    stand.pool.start(calls[:1])
    stand.wait_for_start(calls[0])
    print(*[stand.run(call)[0].result for call in calls[1:]], stand.pool._members[0].pid, flush=True)
    sys.stdin.read()
"""


# drill D2 at the pool: the death of the supervisor
@pytest.mark.parametrize("name", ["swallow", "stubborn", "spin"])
def test_workers_end_with_their_supervisor(tmp_path: Path, name: str) -> None:
    script = [sys.executable, "-c", SUPERVISOR, str(tmp_path), name]
    with subprocess.Popen(
        script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        assert all(_is_alive(pid) for pid in pids)
        supervisor.kill()
        supervisor.wait()
    with Stand(tmp_path) as stand:
        stand.until(lambda: not any(_is_alive(pid) for pid in pids), "for orphans to end")


# ---- prefetch ------------------------------------------------------------------------------------


def test_calls_that_claim_their_start_are_never_sent_ahead(tmp_path: Path) -> None:
    """Rule 15: with `on_interrupt: fail` the claim itself is the start, nothing is prefetched."""
    with Stand(tmp_path, slots=2) as stand:
        stand.run(*[stand.call("nothing") for _ in range(200)])
        assert stand.pool.room() > 2, "short calls may wait in workers"
        careful = stand.task("sleep", on_interrupt="fail")
        calls = [stand.call(careful, 0.2) for _ in range(6)]
        stand.pool.start(calls)
        back = [call for call in calls if call.seq in stand.over]
        assert [stand.over[call.seq].ending for call in back] == [Ending.RECALLED] * 4
        assert stand.pool.room() == 0
        assert {ended.ending for ended in stand.wait_for(*calls)} == {Ending.OK, Ending.RECALLED}


def test_a_pool_of_unknown_tasks_takes_one_call_a_worker(stand: Stand) -> None:
    assert stand.pool.room() == 2
    calls = [stand.call("sleep", 0.2), stand.call("sleep", 0.2)]
    stand.pool.start(calls)
    assert (stand.pool.room(), stand.pool.busy(), stand.pool.workers()) == (0, 2, 2)
    stand.wait_for(*calls)
    assert stand.pool.busy() == 0


def test_calls_are_spread_over_the_workers(stand: Stand) -> None:
    stand.run(*[stand.call("sleep", 0.05) for _ in range(2)])  # both workers are there
    ends: list[Ended] = stand.run(*[stand.call("whoami") for _ in range(200)])
    assert len({ended.pid for ended in ends}) == 2


def test_workers_are_started_only_when_needed(stand: Stand) -> None:
    assert stand.pool.workers() == 0
    for _ in range(5):
        stand.one("nothing")
    assert stand.pool.workers() == 1


def test_many_calls_of_every_kind_all_end_once(stand: Stand) -> None:
    names = ["nothing", "fail", "shout", "leave", "asleep", "leave_process"]
    arguments: dict[str, list[object]] = {"asleep": [0.001], "leave_process": [5]}
    calls: list[Call] = [stand.call(name, *arguments.get(name, [])) for name in names * 10]
    ends = stand.run(*calls)
    wanted = [Ending.OK, Ending.EXCEPTION, Ending.OK, Ending.EXIT, Ending.OK, Ending.EXIT]
    assert [ended.ending for ended in ends] == wanted * 10


# rule 15: calls that had not started are not counted
def test_a_worker_killed_while_it_starts_gives_its_call_back(tmp_path: Path) -> None:
    others = _children()
    with Stand(tmp_path, slots=1) as stand:
        call = stand.call("nothing")
        stand.pool.start([call])
        for _ in range(3):
            stand.until(lambda: stand.pool.workers() > 0, "for a worker")
            (pid,) = _children() - others
            os.kill(pid, signal.SIGKILL)
            stand.until(lambda pid=pid: pid not in _children(), "for its end")  # type: ignore[misc]
        assert stand.wait_for(call)[0].ending is Ending.RECALLED
        assert stand.one("nothing").ending is Ending.OK
        assert not stand.told  # it was nobody's fault here
