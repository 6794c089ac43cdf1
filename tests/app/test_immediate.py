"""Immediate mode and tests by hand: the real loops in the caller, with the real outcomes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobrunner import (
    CancelRun,
    JobRunner,
    LockBusy,
    ResultTimeout,
    RetryRun,
    RunCancelled,
    RunExpired,
    State,
    TaskFailed,
    UsageError,
    crontab,
    current_run,
)
from jobrunner.testing import FakeClock, by_hand, immediate, let_pass, run_until_idle

pytest_plugins = ["jobrunner.testing.fixtures"]


@pytest.fixture
def jobs() -> Iterator[JobRunner]:
    with JobRunner(immediate=True) as made:
        yield made


def test_a_call_is_executed_before_it_returns(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    @jobs.task
    async def later(a: int) -> list[int]:
        await asyncio.sleep(0)
        return [a]

    assert (add(1, 2).state, add(1, 2).result()) == (State.SUCCEEDED, 3)
    assert add.map([(1, 2), (3, 4)]).get() == [3, 7]
    assert later(1).get() == [1]
    assert jobs.enqueue("add", 1, b=1).get() == 2


def test_coroutines_use_it_too(jobs: JobRunner) -> None:
    @jobs.task
    async def later(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    async def main() -> list[int]:
        first = await jobs.aenqueue(later, 1)
        second = await asyncio.to_thread(later.schedule, (2,), delay="1h")
        return [await first.aget(timeout=5), await second.aget()]

    assert asyncio.run(main()) == [2, 3]


def test_values_go_through_the_same_encoding_as_the_real_thing(jobs: JobRunner) -> None:
    given: list[Any] = []

    @jobs.task
    def take(value: object) -> object:
        given.append(value)
        return value

    sent = {"a": (1, {2})}
    assert take(sent).get() == sent
    assert given[0] is not sent
    with pytest.raises(TypeError, match="a lambda cannot be stored"):
        take(lambda: None)


def test_a_result_that_cannot_be_stored_fails_the_run_in_the_test_too(jobs: JobRunner) -> None:
    @jobs.task(retries=3)
    def unstorable() -> object:
        return object()

    with pytest.raises(TaskFailed, match="an object cannot be stored") as caught:
        unstorable().get()
    assert caught.value.outcome == "result not storable"


def test_an_error_is_that_of_the_handle_with_its_traceback(jobs: JobRunner) -> None:
    @jobs.task
    def broken() -> None:
        raise ValueError("no such colour")

    handle = broken()  # raises nothing here
    with pytest.raises(TaskFailed) as caught:
        handle.get()
    error = caught.value
    assert (error.error, error.outcome) == ("ValueError: no such colour", "exception ValueError")
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert "in broken" in error.traceback
    assert "jobrunner" not in error.traceback
    assert (error.run_id, error.task, error.state) == (handle.id, "broken", "failed")


@pytest.mark.parametrize("how", [lambda: sys.exit(3), lambda: None])
def test_leaving_the_process_is_a_failure_of_the_run(jobs: JobRunner, how: Callable[[], object]) -> None:
    @jobs.task
    def leaving() -> object:
        return how()

    handle = leaving()
    assert handle.record().outcome == ("exit 3" if handle.state is State.FAILED else "ok")


def test_none_is_a_result_like_any_other(jobs: JobRunner) -> None:
    @jobs.task
    def nothing() -> None: ...

    handle = nothing()
    assert (handle.get(), handle.record().has_result, handle.is_ready()) == (None, True, True)


def test_retries_wait_for_their_delay_and_waiting_takes_no_time(jobs: JobRunner) -> None:
    @jobs.task(retries=2, retry_delay="1h")
    def flaky() -> int:
        if current_run().attempt < 3:
            raise ConnectionError
        return current_run().attempt

    handle = flaky()
    assert handle.state is State.RETRYING
    with pytest.raises(ResultTimeout):
        handle.get(timeout="30m")
    assert handle.get(timeout="4h") == 3
    assert [each.outcome for each in handle.attempts()] == ["exception ConnectionError"] * 2 + ["ok"]


def test_a_retry_asked_for_by_the_task_costs_none(jobs: JobRunner) -> None:
    @jobs.task
    def polite() -> int:
        if current_run().attempt < 4:
            raise RetryRun(delay=60)
        return current_run().attempt

    handle = polite()
    assert (handle.get(), handle.record().failures) == (4, 0)


@pytest.mark.parametrize(
    ("retries", "retry", "attempts"),
    [(2, None, 3), (2, False, 1), (0, None, 1), (0, True, 2), (2, True, 4)],
)
def test_a_task_may_cancel_its_run(jobs: JobRunner, retries: int, retry: bool | None, attempts: int) -> None:
    @jobs.task(retries=retries, retry_delay=0)
    def giving_up() -> None:
        raise CancelRun("no use", retry=retry)

    handle = giving_up()
    with pytest.raises(RunCancelled):
        handle.get()
    assert handle.record().attempt == attempts


def test_a_delayed_call_stays_until_somebody_waits_for_it(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    handle = add.schedule((3, 4), delay="1d")
    add(1, 1)
    assert handle.state is State.SCHEDULED
    assert handle.get() == 7


def test_expired_and_paused_runs_are_not_executed(jobs: JobRunner) -> None:
    done: list[int] = []

    @jobs.task
    def note(a: int) -> None:
        done.append(a)

    expired = note.schedule((1,), expires=0)
    with pytest.raises(RunExpired):
        expired.get()
    note.pause()
    paused = note(2)
    with pytest.raises(ResultTimeout):
        paused.get()
    note.resume()
    assert (paused.get(), done) == (None, [2])


def test_revoked_runs_are_cancelled_instead_of_being_started(jobs: JobRunner) -> None:
    done: list[int] = []

    @jobs.task
    def note(a: int) -> None:
        done.append(a)

    note.revoke()
    revoked = note(1)
    assert (revoked.state, revoked.record().reason) == (State.CANCELLED, "revoked")
    with pytest.raises(RunCancelled, match="revoked"):
        revoked.get()
    note.restore()
    note.revoke(once=True)
    assert [note(n).state for n in (2, 3)] == [State.CANCELLED, State.SUCCEEDED]
    waiting = note.schedule((4,), delay=60)
    waiting.revoke()
    assert waiting.wait() is State.CANCELLED
    restored = note.schedule((5,), delay=60)
    restored.revoke()
    restored.restore()
    assert (restored.wait(), done) == (State.SUCCEEDED, [3, 5])


def test_a_unique_key_is_free_once_its_run_has_ended(jobs: JobRunner) -> None:
    @jobs.task
    def send(order: int) -> int:
        again = send.schedule((order + 1,), unique_key="x")
        return int(again.is_new)

    handle = send.schedule((1,), unique_key="x")
    assert (handle.is_new, handle.get()) == (True, 0)
    assert send.schedule((2,), unique_key="x").is_new


def test_priority_decides_among_what_waits(jobs: JobRunner) -> None:
    """Six runs of three priorities: 100, 120, 10, 12, 0, 2."""
    with by_hand(jobs):
        order: list[int] = []

        @jobs.task
        def note(a: int) -> None:
            order.append(a)

        for number, priority in [(0, 0), (10, 1), (100, 2), (2, 0), (12, 1), (120, 2)]:
            note.schedule((number,), priority=priority)
        assert run_until_idle(jobs) == 6
        assert order == [100, 120, 10, 12, 0, 2]


def test_a_task_may_wait_for_what_it_enqueues(jobs: JobRunner) -> None:
    @jobs.task
    def leaf(n: int) -> int:
        return n + 1

    @jobs.task
    def root(n: int) -> tuple[str, int, int]:
        handle = leaf(n)
        before = handle.state
        return before.value, handle.get(), int(current_run().task == "root")

    assert root(1).get() == ("queued", 2, 1)


def test_a_busy_lock_is_waited_for(jobs: JobRunner) -> None:
    @jobs.task(lock="database")
    def inner() -> str:
        return "in"

    @jobs.task(lock="database")
    def outer() -> str:
        try:
            return inner().get()
        except ResultTimeout:
            return "busy"

    assert outer().get() == "busy"
    assert jobs.runs(task="inner")[0].result == "in"  # afterwards


def test_a_task_takes_one_more_lock_for_a_block(jobs: JobRunner) -> None:
    @jobs.task(lock="database")
    def other() -> str:
        return "in"

    @jobs.task
    def outer() -> list[str]:
        found = []
        with jobs.lock("database"):
            waiting = other()
            with pytest.raises(ResultTimeout):
                waiting.get()
            found.append(waiting.state.value)
        return [*found, waiting.get()]

    assert outer().get() == ["queued", "in"]
    with pytest.raises(UsageError, match="where no run is executing"), jobs.lock("database"):
        pass


def test_a_lock_that_is_held_by_another_run_is_busy(jobs: JobRunner) -> None:
    @jobs.task(lock="database")
    def holder() -> str:
        return taker().get()

    @jobs.task
    def taker() -> str:
        try:
            with jobs.lock("database", timeout=1):
                return "held"
        except LockBusy as error:
            return str(error).partition(":")[0]

    assert holder().get() == "lock 'database' is busy after 1 s"
    assert taker().get() == "held"


def test_signals_tell_of_every_end(jobs: JobRunner) -> None:
    heard: list[str] = []

    @jobs.signal()
    def listen(notice: Any) -> None:
        heard.append(notice.signal.value)
        if notice.signal == "complete":
            assert jobs.run(notice.run_id).has_result  # after the write

    def of(handle: Any) -> list[str]:
        handle.wait()
        said, heard[:] = heard[:], []
        return said

    @jobs.task(retries=1, retry_delay=0)
    def task(what: str) -> int:
        if what == "fail":
            raise ValueError
        if what == "cancel":
            raise CancelRun(retry=False)
        if what == "again" and current_run().attempt == 1:
            raise RetryRun(delay=0)
        return 1

    assert of(task("ok")) == ["enqueued", "executing", "complete"]
    assert of(task("fail")) == [
        *("enqueued", "executing", "error", "retrying"),
        *("executing", "error"),
    ]
    assert of(task("cancel")) == ["enqueued", "executing", "cancelled"]
    assert of(task("again")) == ["enqueued", "executing", "retrying", "executing", "complete"]
    assert of(task.schedule(("ok",), delay=5)) == ["scheduled", "executing", "complete"]
    waiting = task.schedule(("ok",), delay=5)
    waiting.cancel()
    assert of(waiting) == ["scheduled", "cancelled"]


def test_a_receiver_that_fails_is_reported_and_hurts_nobody(
    jobs: JobRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    @jobs.signal("complete")
    def broken(notice: Any) -> None:
        raise ValueError("deaf")

    @jobs.task
    def add() -> int:
        return 1

    assert add().get() == 1
    assert "deaf" in capsys.readouterr().err


def test_a_connection_of_the_caller_is_for_storages_that_take_one(jobs: JobRunner) -> None:
    @jobs.task
    def add() -> int:
        return 1

    with pytest.raises(UsageError, match="memory takes no connection"):
        add.schedule(connection=object())
    assert jobs.runs() == []


def test_a_late_call_is_a_timeout(jobs: JobRunner) -> None:
    with by_hand(jobs) as clock:

        @jobs.task(timeout="10s")
        def slow(checks: bool) -> float | None:
            left = current_run().time_remaining
            clock.advance("11s")
            if checks:
                current_run().check()
            return left

        handles = [slow(True), slow(False)]
        run_until_idle(jobs)
        assert [handle.record().outcome for handle in handles] == ["timeout", "timeout"]


def test_hooks_surround_each_attempt_and_signals_tell_of_it(jobs: JobRunner) -> None:
    said: list[object] = []
    jobs.on_startup(lambda: said.append("startup"))
    jobs.pre_execute(lambda run: said.append(f"before {run.task}"))

    @jobs.post_execute
    def after(run: object, result: object, error: object) -> None:
        said.append(f"after {result} {type(error).__name__}")

    @jobs.signal("enqueued", "executing")
    def heard(notice: Any) -> None:
        said.append(notice.signal.value)

    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    add(1, 2)
    add("1", 2)  # type: ignore[arg-type]
    assert said == [
        *("enqueued", "startup", "before add", "executing", "after 3 NoneType"),
        *("enqueued", "before add", "executing", "after None TypeError"),
    ]
    assert (jobs.disconnect(after), jobs.disconnect(after)) == (True, False)
    assert jobs.disconnect(heard, "enqueued") is True
    said.clear()
    add(1, 2)
    assert said == ["before add", "executing"]
    with pytest.raises(UsageError, match="no signal 'done'"):
        jobs.signal("done")


def test_a_hook_may_cancel_the_run(jobs: JobRunner) -> None:
    @jobs.pre_execute
    def refuse(run: object) -> None:
        raise CancelRun("not today", retry=False)

    @jobs.task(retries=5)
    def add() -> None: ...

    assert (add().state, add().record().attempt) == (State.CANCELLED, 1)


def test_the_mode_may_be_switched_and_touches_no_real_storage(tmp_path: Path) -> None:
    with JobRunner(backend=f"sqlite:///{tmp_path}/jobs.db") as jobs:

        @jobs.task
        def add(a: int, b: int) -> int:
            return a + b

        waiting = add(1, 2)
        jobs.immediate = True
        assert (add(1, 2).get(), jobs.counts()["queued"]) == (3, 0)
        jobs.immediate = False
        assert (waiting.state, len(jobs.runs())) == (State.QUEUED, 1)
        with immediate(jobs):
            assert add(3, 4).get() == 7
        assert jobs.immediate is False


def test_a_file_gives_its_tasks_their_options(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(
        "tasks:\n  add: {retries: 3}\n  tidy: {command: 'true'}\n"
        "  join: {call: 'os.path:join', args: [a, b]}\n"
    )
    with JobRunner(tmp_path / "jobs.yaml", immediate=True) as jobs:

        @jobs.task(retries=1, retry_delay=0)
        def add() -> None:
            raise ValueError

        handle = add()
        assert (handle.wait(), len(handle.attempts())) == (State.FAILED, 4)
        assert jobs.enqueue("join").get() == "a/b"
        with pytest.raises(TaskFailed, match="only Python functions"):
            jobs.enqueue("tidy").get()


def test_schedules_fire_as_time_passes(
    jobs_by_hand: Callable[[JobRunner], JobRunner], fake_clock: FakeClock
) -> None:
    jobs = jobs_by_hand(JobRunner(backend="memory://"))
    ticks: list[datetime | None] = []

    @jobs.periodic_task(crontab(minute="*/15"))
    def quarter() -> None:
        ticks.append(current_run().tick)

    assert run_until_idle(jobs) == 0
    assert let_pass(jobs, "1h") == 4
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert ticks == [noon + timedelta(minutes=n) for n in (15, 30, 45, 60)]
    assert fake_clock.moment == noon + timedelta(hours=1)
    fake_clock.advance("3h")  # a gap: the latest tick runs for all (semantics 9)
    assert run_until_idle(jobs) == 1
    assert jobs.runs(trigger="catch-up")[0].missed == 12


def test_by_hand_nothing_runs_until_it_is_told_to(jobs: JobRunner) -> None:
    with by_hand(jobs) as clock:

        @jobs.task(retries=1, retry_delay="10m")
        def flaky() -> None:
            raise ValueError

        handle = flaky()
        assert handle.state is State.QUEUED
        assert (run_until_idle(jobs), handle.state) == (1, State.RETRYING)
        with pytest.raises(ResultTimeout):
            handle.get(timeout=3600)  # waiting does not move this clock
        clock.advance("11m")
        assert (run_until_idle(jobs), handle.state) == (1, State.FAILED)


def test_only_what_executes_itself_can_be_told_to() -> None:
    with pytest.raises(UsageError, match="does not execute anything itself"):
        run_until_idle(JobRunner(backend="memory://"))
