"""Options of calls: which hold for a pipeline, for a step, for a copy; and none of them is ignored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import JobRunner, State, TaskFailed, UsageError, chain, current_run, group
from jobrunner.testing import by_hand, let_pass, run_until_idle


@pytest.fixture
def jobs() -> Iterator[JobRunner]:
    with JobRunner(immediate=True) as made:
        yield made


def test_an_id_is_that_of_one_run(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    with pytest.raises(UsageError, match="id: an id is that of one run"):
        add.options(id="same").map([(1, 2), (3, 4)])
    with pytest.raises(UsageError, match="id: an id is that of one run"):
        jobs.enqueue_many([(add.options(id="same"), [n, n], {}) for n in range(2)])
    assert jobs.runs() == []
    assert add.options(id="same").map([(1, 2)]).get() == [3]


def test_a_rescheduled_run_keeps_its_unique_key(jobs: JobRunner) -> None:
    @jobs.task(unique="{a}")
    def add(a: int) -> int:
        return a

    first = add.schedule((1,), delay=60)
    later = first.reschedule(delay=120)
    assert (first.state, first.record().reason) == (State.CANCELLED, "superseded")
    again = add(1)
    assert (again.is_new, again.id) == (False, later.id)
    other = later.reschedule(unique_key="mine")
    assert (add(1).is_new, other.state) == (True, State.SCHEDULED)
    assert add.schedule((2,), unique_key="mine", delay=60).id == other.id


def test_a_retry_holds_the_key_of_what_it_repeats(jobs: JobRunner) -> None:
    @jobs.task(unique="{a}")
    def fails(a: int) -> None:
        raise ValueError

    first = fails(1)
    jobs.pause("fails")
    again = first.retry()
    assert (again.is_new, fails(1).id) == (True, again.id)
    assert (first.retry().is_new, first.retry().id) == (False, again.id)


def test_a_call_with_a_handler_has_its_options_once(jobs: JobRunner) -> None:
    seen: list[object] = []

    @jobs.task
    def fails(a: int) -> None:
        seen.append((a, current_run().attempt))
        raise ValueError

    @jobs.task
    def told(what: str) -> None:
        seen.append(what)

    with by_hand(jobs):
        call = fails.options(delay="2s", retries=1, retry_delay=0, id="mine").s(7).error(told, "x")
        assert jobs.enqueue(call).id == "mine"
        assert let_pass(jobs, "1s") == 0
        assert let_pass(jobs, "1s") == 3
        assert seen == [(7, 1), (7, 2), "x"]


def test_a_pipeline_expires_when_it_has_not_begun_in_time(jobs: JobRunner) -> None:
    # rule 19: it bounds the first start, from the moment at which it is due
    @jobs.task
    def one() -> int:
        return 1

    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    with by_hand(jobs):
        jobs.pause("one")
        handle = jobs.enqueue(one.s().then(add, 2).options(expires="5s", delay="10s"))
        let_pass(jobs, "14s")
        assert not handle.is_ready()
        let_pass(jobs, "2s")
        assert [(step.state, step.reason) for step in handle.steps()] == [
            ("expired", "expired"),
            ("skipped", "upstream failed"),
        ]
        with pytest.raises(TaskFailed):
            handle.result()
        jobs.resume("one")
        late = jobs.enqueue(one.s().then(add.options(delay="1h").s(2)).options(expires="5s"))
        run_until_idle(jobs)
        let_pass(jobs, "1h")
        assert late.result() == 3


def test_what_a_pipeline_cannot_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(
        "tasks: {one: {command: 'true'}}\npipelines: {line: {steps: [one], timeout: 3s}}\n"
    )
    with JobRunner(tmp_path / "jobs.yaml", immediate=True) as jobs:

        @jobs.task
        def two(n: int = 2) -> int:
            return n

        for refused in (
            lambda: jobs.enqueue(chain(two.s(), two.s()).options(retries=2)),
            lambda: jobs["line"].schedule(retry_delay=1),
            lambda: jobs.enqueue(group([two.s()]).options(retry_delay=1)),
        ):
            with pytest.raises(UsageError, match="cannot be given to a pipeline"):
                refused()
        for refused in (
            lambda: jobs.enqueue(two.s().then(jobs["line"].options(timeout=1).s())),
            lambda: jobs.enqueue(two.s().then(jobs["line"].options(retries=1).s())),
            lambda: jobs.enqueue(jobs["line"].options(priority=1).s().then(two)),
        ):
            with pytest.raises(UsageError, match="'line' is a pipeline"):
                refused()
        jobs.pause("one")
        now = jobs.clock.now()
        bounded = jobs["line"].schedule(timeout=1)
        assert 0 < (jobs.storage.run(bounded.id).expires_at or 0) - now < 2_000_000
