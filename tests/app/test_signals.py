"""Signals in immediate mode and by hand: each of them, at its time, after what it tells of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobrunner import JobRunner, Notice, State, chain, group
from jobrunner.testing import by_hand, let_pass, run_until_idle


@pytest.fixture
def jobs() -> Iterator[JobRunner]:
    with JobRunner(immediate=True) as made:
        yield made


def ear_of(jobs: JobRunner, *signals: str) -> list[str]:
    """What receivers hear from now on: "task signal"."""
    heard: list[str] = []

    @jobs.signal(*signals)
    def listen(notice: Notice) -> None:
        heard.append(f"{notice.task} {notice.signal.value}")

    return heard


def test_a_revoked_run_is_told_as_revoked(jobs: JobRunner) -> None:
    heard = ear_of(jobs)

    @jobs.task
    def add(a: int) -> int:
        return a

    add.revoke(once=True)
    assert add(1).state is State.CANCELLED
    assert heard == ["add enqueued", "add revoked"]
    assert add(2).get() == 2
    assert heard[2:] == ["add enqueued", "add executing", "add complete"]


def test_a_run_that_expires_is_told_as_expired(jobs: JobRunner) -> None:
    heard = ear_of(jobs)

    @jobs.task
    def add(a: int) -> int:
        return a

    jobs.pause("add")
    handle = add.schedule((1,), expires=5)
    handle.wait(timeout=6)
    assert handle.state is State.EXPIRED
    assert heard == ["add enqueued", "add expired"]


def test_a_cancelled_run_is_told_once_however_it_waited(jobs: JobRunner) -> None:
    heard = ear_of(jobs)

    @jobs.task(retries=1, retry_delay="1h")
    def fails() -> None:
        raise ValueError

    @jobs.task
    def other() -> None: ...

    handle = fails()
    assert handle.cancel()
    assert heard == [f"fails {each}" for each in ("enqueued", "executing", "error", "retrying", "cancelled")]
    heard.clear()
    other()
    assert heard == ["other enqueued", "other executing", "other complete"]


def test_each_run_that_waits_for_its_rate_is_told_once(jobs: JobRunner) -> None:
    # rule 18: it waits, takes no slot, and costs no retry
    heard = ear_of(jobs, "rate_limited", "executing")

    @jobs.task(rate_limit="2/1h")
    def send(n: int) -> int:
        return n

    handles = send.map([(n,) for n in range(5)])
    told = ["send executing", "send executing", *["send rate_limited"] * 3]
    assert heard == told
    assert handles.get() == list(range(5))
    assert heard == [*told, *["send executing"] * 3]
    assert [handle.record().attempt for handle in handles] == [1] * 5


def test_an_attempt_that_waits_for_its_rate_again_is_told_again(jobs: JobRunner) -> None:
    heard = ear_of(jobs, "rate_limited", "error")

    @jobs.task(rate_limit="1/1h", retries=1, retry_delay=0)
    def send() -> None:
        raise ValueError

    send().wait()
    assert heard == ["send error", "send rate_limited", "send error"]


def test_a_busy_lock_is_told_when_it_ends_the_run(jobs: JobRunner) -> None:
    # rule 17
    heard = ear_of(jobs, "locked", "skipped", "error")

    @jobs.task(lock="database")
    def holder() -> list[State]:
        return [skips().wait(), fails().wait()]

    @jobs.task(lock={"name": "database", "on_busy": "skip"})
    def skips() -> None: ...

    @jobs.task(lock={"name": "database", "on_busy": "fail"})
    def fails() -> None: ...

    assert holder().get() == ["skipped", "failed"]
    assert heard == ["skips locked", "fails locked"]


def test_a_pipeline_is_told_of_as_one_and_its_steps_as_they_go(jobs: JobRunner) -> None:
    # rule 35: all rows are there at once; a step that waits for another is told of when it executes
    heard = ear_of(jobs)

    @jobs.task
    def one(n: int = 1) -> int:
        return n

    @jobs.task
    def add(*numbers: Any) -> int:
        return len(numbers)

    assert jobs.enqueue(one.s(1).then(add, 2)).get() == 2
    assert heard == [
        *("(pipeline) enqueued", "one enqueued", "one executing", "one complete"),
        *("add executing", "add complete", "(pipeline) complete"),
    ]
    heard.clear()
    jobs.enqueue(group([one.s(), one.s()]).options(delay=60))
    assert heard == ["(pipeline) scheduled", "one scheduled", "one scheduled"]


def test_a_failed_pipeline_tells_what_was_skipped_and_that_it_failed(jobs: JobRunner) -> None:
    heard = ear_of(jobs, "error", "skipped", "complete", "cancelled")

    @jobs.task
    def fails() -> None:
        raise ValueError

    @jobs.task
    def after(*_: object) -> None: ...

    jobs.enqueue(chain(fails.s(), group([after.s(), after.s()]), after.s())).wait()
    assert heard[0] == "fails error"
    assert sorted(heard[1:]) == ["(pipeline) error", "after skipped", "after skipped", "after skipped"]


def test_callbacks_are_told_as_enqueued(jobs: JobRunner) -> None:
    heard = ear_of(jobs, "enqueued", "complete")

    @jobs.task
    def after() -> None: ...

    @jobs.task(on_success=["after"])
    def before() -> None: ...

    before()
    assert heard == ["before enqueued", "before complete", "after enqueued", "after complete"]


def test_ticks_are_told_as_enqueued_missed_and_skipped(jobs: JobRunner) -> None:
    heard = ear_of(jobs)

    @jobs.periodic_task("0 * * * *", catch_up="none")
    def hourly() -> None: ...

    with by_hand(jobs) as clock:
        run_until_idle(jobs)
        let_pass(jobs, "1h")
        assert heard == ["hourly enqueued", "hourly executing", "hourly complete"]
        jobs.pause("hourly")
        let_pass(jobs, "1h")
        assert heard[3:] == ["hourly skipped"]
        jobs.resume("hourly")
        run_until_idle(jobs)
        clock.advance("3h10m")
        run_until_idle(jobs)
        assert set(heard[4:]) == {"hourly missed"}


def test_a_map_over_its_input_tells_of_its_members(jobs: JobRunner) -> None:
    heard = ear_of(jobs, "enqueued", "scheduled")

    @jobs.task
    def numbers() -> list[int]:
        return [1, 2, 3]

    @jobs.task
    def twice(n: int) -> int:
        return 2 * n

    assert jobs.enqueue(numbers.s().then(twice.each())).get() == [2, 4, 6]
    assert heard == ["(pipeline) enqueued", "numbers enqueued", *["twice enqueued"] * 3]


def test_a_timeout_is_told_as_one_and_then_what_comes_of_it(jobs: JobRunner) -> None:
    heard = ear_of(jobs, "timeout", "retrying", "error")

    with by_hand(jobs) as clock:

        @jobs.task(timeout="10s", retries=1, retry_delay=0)
        def slow() -> None:
            clock.advance("11s")

        slow()
        run_until_idle(jobs)
        let_pass(jobs, "1s")
    assert heard == ["slow timeout", "slow retrying", "slow timeout"]
