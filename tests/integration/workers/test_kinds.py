"""The kinds thread, greenlet and async: one real worker, several calls side by side. Rules 13 to 16."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.codec import decode
from jobrunner.durations import MILLISECOND, SECOND
from jobrunner.model import Ended, Ending
from jobrunner.plan import PoolKind
from tests.integration.workers.stand import Stand
from tests.integration.workers.test_ends import _is_alive
from tests.stage import AnHourAgo

SHORT = 300 * MILLISECOND
THREAD, GREENLET, ASYNC = PoolKind.THREAD, PoolKind.GREENLET, PoolKind.ASYNC
every_kind = pytest.mark.parametrize("kind", [THREAD, GREENLET, ASYNC])


@pytest.fixture
def stand(tmp_path: Path, kind: PoolKind) -> Iterator[Stand]:
    """A pool of four slots."""
    with Stand(tmp_path, slots=4, kind=kind) as made:
        yield made


def spans(ends: list[Ended]) -> list[tuple[int, int]]:
    found = [decode(ended.result or "") for ended in ends]
    return [each for each in found if isinstance(each, tuple)]


@every_kind
def test_a_start_is_reported_though_the_wall_clock_was_set_back_after_it(stand: Stand) -> None:
    # rule 5; what waits behind a call that lasts is called back only when that is known
    call = stand.call("sleep", 600)
    stand.pool.start([call])
    stand.loop.clock = AnHourAgo()
    stand.wait_for_start(call)


# ---- side by side --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), [(GREENLET, "times"), (ASYNC, "times_async"), (THREAD, "times"), (ASYNC, "times")]
)
def test_calls_that_wait_for_a_second_overlap(tmp_path: Path, kind: PoolKind, name: str) -> None:
    number = 40 if (kind, name) in [(THREAD, "times"), (ASYNC, "times")] else 200
    with Stand(tmp_path, slots=number, kind=kind) as stand:
        ends = stand.run(*[stand.call(name, 1.0) for _ in range(number)])
        found = spans(ends)
        assert len(found) == number
        assert max(begun for begun, _ in found) < min(ended for _, ended in found), "all at one moment"
        assert len({ended.pid for ended in ends}) == 1


def test_two_calls_that_compute_run_at_once_in_the_process_pool(tmp_path: Path) -> None:
    with Stand(tmp_path) as stand:
        ends = stand.run(*[stand.call("times", 0.5) for _ in range(2)])
        (one, other), pids = spans(ends), {ended.pid for ended in ends}
        assert max(one[0], other[0]) < min(one[1], other[1])
        assert len(pids) == 2


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((THREAD, "own_run"), (GREENLET, "own_run"), (ASYNC, "own_run_async"), (ASYNC, "own_run")),
        (THREAD, "own_run_async"),
    ],
)
def test_each_call_has_its_own_current_run(stand: Stand, name: str) -> None:
    calls = [stand.call(name, 0.1) for _ in range(12)]
    ends = stand.run(*calls)
    assert [decode(ended.result or "") for ended in ends] == [[call.run_id] * 2 for call in calls]


@every_kind
def test_at_most_so_many_calls_as_there_are_slots_execute_at_a_time(stand: Stand) -> None:
    found = spans(stand.run(*[stand.call("times", 0.05) for _ in range(20)]))
    moments = sorted([(begun, 1) for begun, _ in found] + [(ended, -1) for _, ended in found])
    at_once = [sum(step for _, step in moments[: number + 1]) for number in range(len(moments))]
    assert 2 <= max(at_once) <= 4


@every_kind
def test_what_a_call_writes_is_its_own(stand: Stand) -> None:
    calls = [stand.call("speak_slowly", f"word{number}") for number in range(4)]
    stand.run(*calls)
    for number, call in enumerate(calls):
        word = f"word{number}"
        assert stand.output(call) == (f"{word} {word}\n".encode(), word.encode())


@every_kind
def test_what_a_child_writes_belongs_to_the_call_when_it_is_alone(stand: Stand) -> None:
    call = stand.call("by_a_child", "written")
    stand.run(call)
    assert stand.output(call)[0] == b"written"


@every_kind
def test_many_short_calls_are_sent_ahead_and_all_end_once(stand: Stand) -> None:
    ends = stand.run(*[stand.call("nothing") for _ in range(500)])
    assert {(ended.ending, ended.result) for ended in ends} == {(Ending.OK, "null")}


# ---- outcomes ------------------------------------------------------------------------------------


# rule 13
@every_kind
@pytest.mark.parametrize(
    ("name", "args", "outcome"),
    [
        ("add", [1, 2], "ok"),
        ("fail", [], "exception ValueError"),
        ("leave", [3], "exit 3"),
        ("leave_process", [3], "exit 3"),
        ("interrupt", [], "exception KeyboardInterrupt"),
        ("exhaust", [], "exception MemoryError"),
        ("strange_init", [], "exception StrangeInit"),
        ("unstorable", [], "result not storable"),
        ("add", [1], "bad arguments"),
        ("ask_again", [], "retry asked"),
        ("give_up", [], "cancelled"),
        ("segfault", [], "crashed"),
        ("close_streams", [], "ok"),
        ("change_recursion", [], "ok"),
        ("no_such_function", [], "could not start"),
    ],
)
def test_a_call_has_the_outcome_that_it_has_in_a_process(
    stand: Stand, name: str, args: list[object], outcome: str
) -> None:
    assert stand.one(name, *args).outcome == outcome
    assert stand.one("add", 1, 1).result == "2"


@pytest.mark.parametrize(
    ("kind", "outcome"), [(THREAD, "ok"), (ASYNC, "ok"), (GREENLET, "exception UsageError")]
)
def test_an_async_def_runs_where_there_is_an_event_loop_for_it(stand: Stand, outcome: str) -> None:
    ended = stand.one("asleep", 0.01)
    assert ended.outcome == outcome
    if outcome != "ok":
        assert "give its task a pool of kind async, thread or process" in (ended.error or "")


@every_kind
def test_a_run_with_an_environment_of_its_own_does_not_start(stand: Stand) -> None:
    ended = stand.one("variables", env={"A": "1"})
    assert ended.ending is Ending.COULD_NOT_START
    assert "environment of its own" in (ended.error or "")


@every_kind
def test_hooks_are_called_in_every_kind_of_worker(stand: Stand) -> None:
    from tests.integration.workers.test_hooks import hooked

    first = stand.call(hooked("log"))
    said = decode(stand.run(first)[0].result or "")
    assert said == ["startup", "before log", "executing 1", first.run_id]


# ---- ends by force -------------------------------------------------------------------------------


# rule 14: soft, final at once, and the worker is replaced
@pytest.mark.parametrize("kind", [THREAD])
def test_a_thread_over_its_time_is_final_though_it_goes_on(stand: Stand) -> None:
    neighbour, call = stand.call("times", 2.0), stand.call("sleep", 3600, timeout=SHORT)
    stand.pool.start([neighbour, call])
    ended = stand.wait_for(call)[0]
    assert ended.ending is Ending.TIMEOUT
    assert ended.error is not None
    assert ended.error.startswith("timed out after 300 ms")
    assert "goes on" in ended.error
    assert "time.sleep(seconds)" in ended.error
    assert ended.signal is None
    assert neighbour.seq not in stand.over, "it goes on as well"
    assert stand.one("add", 1, 1).pid != ended.pid, "a fresh worker takes the next calls"
    assert stand.wait_for(neighbour)[0].ending is Ending.OK
    assert ended.pid is not None
    pid = ended.pid
    stand.until(lambda: not _is_alive(pid), "for the old worker, which holds nothing but the lost thread")


# rule 14
@pytest.mark.parametrize(
    ("kind", "name"), [(THREAD, "spin"), (GREENLET, "sleep"), (ASYNC, "asleep"), (ASYNC, "spin")]
)
def test_a_call_that_takes_its_end_leaves_its_worker_whole(stand: Stand, name: str) -> None:
    before = stand.one("nothing").pid
    arguments = [] if name == "spin" else [3600]
    call = stand.call(stand.task(name, kill_after=60 * SECOND), *arguments, timeout=SHORT)
    ended = stand.run(call)[0]
    assert ended.ending is Ending.TIMEOUT
    assert "goes on" not in (ended.error or "")
    assert name in (ended.error or ""), "the traceback says where it was"
    assert stand.one("nothing").pid == before


# rule 14: `except Exception` swallows no timeout
@pytest.mark.parametrize(("kind", "name"), [(THREAD, "swallow"), (GREENLET, "swallow")])
def test_except_exception_does_not_swallow_a_timeout(stand: Stand, name: str) -> None:
    assert stand.one(name, timeout=SHORT).ending is Ending.TIMEOUT


@pytest.mark.parametrize(("kind", "name"), [(GREENLET, "tidy"), (ASYNC, "tidy_async")])
def test_finally_blocks_run_at_a_timeout(stand: Stand, tmp_path: Path, name: str) -> None:
    ended = stand.run(stand.call(name, str(tmp_path / "tidied"), timeout=SHORT))[0]
    assert ended.ending is Ending.TIMEOUT
    assert (tmp_path / "tidied").read_text() == "tidied"


@every_kind
def test_a_call_that_asks_is_told_that_it_is_cancelled(stand: Stand) -> None:
    call = stand.call("wait_until_cancelled")
    stand.pool.start([call])
    stand.wait_for_start(call)
    stand.pool.end(call, Ending.CANCELLED)
    assert stand.wait_for(call)[0].ending is Ending.CANCELLED


# rule 14, 15: a worker that does not yield is replaced, its neighbours go back
@pytest.mark.parametrize(
    ("kind", "name", "beside"), [(GREENLET, "spin", "sleep"), (ASYNC, "spin_async", "asleep")]
)
def test_a_call_that_never_yields_is_killed_and_its_neighbours_go_back(
    stand: Stand, name: str, beside: str
) -> None:
    neighbour = stand.call(beside, 3600)
    stand.pool.start([neighbour])
    stand.wait_for_start(neighbour)
    call = stand.call(stand.task(name, kill_after=SHORT), timeout=SHORT)
    stand.pool.start([call])
    killed, interrupted = stand.wait_for(call, neighbour)
    assert (killed.ending, killed.signal) == (Ending.TIMEOUT, "SIGKILL")
    assert interrupted.ending is Ending.INTERRUPTED
    assert stand.one("nothing").ending is Ending.OK


@pytest.mark.parametrize(("kind", "name"), [(GREENLET, "ignore_the_end"), (ASYNC, "ignore_the_end_async")])
def test_a_call_that_ignores_its_end_is_left_behind_and_harms_no_neighbour(
    stand: Stand, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "dots"
    neighbour = stand.call("times" if name == "ignore_the_end" else "times_async", 3.0)
    call = stand.call(stand.task(name, kill_after=SHORT), str(path), timeout=SHORT)
    stand.pool.start([neighbour, call])
    ended = stand.wait_for(call)[0]
    assert ended.ending is Ending.TIMEOUT
    assert "goes on" in (ended.error or "")
    assert neighbour.seq not in stand.over
    assert stand.wait_for(neighbour)[0].ending is Ending.OK
    pid = ended.pid
    assert pid is not None
    stand.until(lambda: not _is_alive(pid), "for the old worker")


@pytest.mark.parametrize("kind", [THREAD])
def test_an_interrupted_thread_is_ended_with_its_worker(stand: Stand) -> None:
    """Rule 15: its run is queued again, so that nothing of it may go on."""
    call = stand.call(stand.task("sleep", kill_after=SHORT), 3600)
    stand.pool.start([call])
    stand.wait_for_start(call)
    stand.pool.end(call, Ending.INTERRUPTED)
    ended = stand.wait_for(call)[0]
    assert ended.ending is Ending.INTERRUPTED
    assert ended.pid is not None
    assert not _is_alive(ended.pid)


@every_kind
def test_an_end_asked_for_before_the_start_recalls_the_call(stand: Stand) -> None:
    call = stand.call("nothing")
    stand.pool.start([call])
    stand.pool.end(call, Ending.CANCELLED)  # its worker is still starting
    assert stand.wait_for(call)[0].ending is Ending.RECALLED
    assert stand.one("nothing").ending is Ending.OK


# ---- death ---------------------------------------------------------------------------------------


# rule 15, 16
@every_kind
def test_all_started_calls_of_a_killed_worker_crash_and_the_rest_go_back(
    stand: Stand, kind: PoolKind
) -> None:
    name = "asleep" if kind is ASYNC else "sleep"
    stand.run(*[stand.call(name, 0) for _ in range(200)])  # learnt as short
    calls = [stand.call(name, 3600) for _ in range(3)]
    stand.pool.start(calls)
    for call in calls:
        stand.wait_for_start(call)
    pid = stand.pool._hosts[0].pid  # type: ignore[union-attr]
    os.kill(pid, signal.SIGSTOP)  # what comes now, it will never begin
    behind = [stand.call(name, 0) for _ in range(10)]
    stand.pool.start(behind)
    os.kill(pid, signal.SIGKILL)
    assert {(ended.ending, ended.signal) for ended in stand.wait_for(*calls)} == {(Ending.CRASHED, "SIGKILL")}
    assert {ended.ending for ended in stand.wait_for(*behind)} == {Ending.RECALLED}
    assert stand.one("nothing").ending is Ending.OK


# rule 15
@every_kind
def test_what_waits_behind_calls_that_last_comes_back(stand: Stand, kind: PoolKind) -> None:
    name = "asleep" if kind is ASYNC else "sleep"
    stand.run(*[stand.call(name, 0) for _ in range(200)])  # learnt as short
    calls = [stand.call(name, 3600) for _ in range(4)]
    behind = [stand.call(name, 0) for _ in range(10)]
    stand.pool.start([*calls, *behind])
    assert {ended.ending for ended in stand.wait_for(*behind)} == {Ending.RECALLED}
    assert stand.pool.room() == 0
    assert not any(call.seq in stand.over for call in calls)


@every_kind
def test_a_call_that_ends_its_worker_beside_others_is_a_crash_of_all(stand: Stand, kind: PoolKind) -> None:
    neighbour = stand.call("asleep" if kind is ASYNC else "sleep", 3600)
    stand.pool.start([neighbour])
    stand.wait_for_start(neighbour)
    call = stand.call("leave_process", 3)
    stand.pool.start([call])
    assert {ended.ending for ended in stand.wait_for(call, neighbour)} == {Ending.CRASHED}


@every_kind
def test_a_retired_pool_finishes_what_has_begun_and_ends_its_worker(stand: Stand) -> None:
    call = stand.call("times", 0.3)
    stand.pool.start([call])
    stand.wait_for_start(call)
    stand.pool.retire()
    assert stand.pool.room() == 0
    assert stand.wait_for(call)[0].ending is Ending.OK
    stand.until(lambda: stand.pool.workers() == 0, "for the worker to leave")


@every_kind
def test_close_leaves_no_process_and_no_descriptor(tmp_path: Path, kind: PoolKind) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with Stand(tmp_path, slots=4, kind=kind) as stand:
        call = stand.call("sleep", 3600)
        stand.pool.start([call])
        stand.wait_for_start(call)
        pid = stand.pool._hosts[0].pid  # type: ignore[union-attr]
    assert not _is_alive(pid)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_missing_gevent_is_answered_with_the_line_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "gevent.py").write_text("raise ImportError")
    with Stand(tmp_path, kind=GREENLET, env={"PYTHONPATH": str(tmp_path)}) as stand:
        assert "-m pip install 'jobrunner[gevent]'" in stand.waits("nothing")


@every_kind
def test_tasks_that_differ_in_folder_or_environment_share_no_worker(stand: Stand, tmp_path: Path) -> None:
    """As during a reload: attempts of the old definitions go on beside those of the new ones (rule 26)."""
    old = stand.task("variables", env={"ZOO_VERSION": "old"}, cwd=str(tmp_path))
    new = stand.task("variables", env={"ZOO_VERSION": "new"})
    ends = stand.run(*[stand.call(task) for task in (old, new, old, new)])
    found = [decode(ended.result or "") for ended in ends]
    versions = [each.get("ZOO_VERSION") for each in found if isinstance(each, dict)]
    assert versions == ["old", "new", "old", "new"]
    assert stand.pool.workers() == 2
