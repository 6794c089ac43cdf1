"""The document that this project grew from, sentence by sentence, on SQLite and through real processes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from jobrunner import RunHandle, State
from tests.app.conftest import Import
from tests.live import Project

DEMO = """
from jobrunner import JobRunner

jobs = JobRunner(backend="sqlite:///demo.db")


@jobs.task
def add(a, b):
    return a + b


@jobs.task(retries=2, retry_delay=3)
def flaky_task():
    from jobrunner import current_run

    if current_run().attempt < 3:
        raise ConnectionError("not yet")
    return current_run().attempt


@jobs.periodic_task("*/1 * * * *")
def every_minute():
    return "every minute"
"""


def test_a_call_returns_at_once_and_its_result_comes_from_another_process(
    project: Project, import_here: Import
) -> None:
    project.write(DEMO, "demo.py")
    demo = import_here("demo")
    result: RunHandle[int] = demo.add(1, 2)
    assert (result.state, result.is_ready()) == (State.QUEUED, False)  # nobody is there yet: it waits on disk
    supervisor = project.start(serve="demo:jobs")
    assert result.get(timeout=60) == 3
    record = result.record()
    assert (record.state, record.has_result) == (State.SUCCEEDED, True)
    assert record.pid not in (None, supervisor.pid)
    assert result.get() == 3  # a result stays


def test_a_call_for_later_is_run_when_its_delay_is_over(project: Project, import_here: Import) -> None:
    project.write(DEMO, "demo.py")
    demo = import_here("demo")
    project.start(serve="demo:jobs")
    result: RunHandle[int] = demo.add.schedule((3, 4), delay=5)
    assert result.state is State.SCHEDULED
    assert result.get(timeout=60) == 7
    record = result.record()
    assert record.due_at - record.created_at == timedelta(seconds=5)
    assert record.started_at is not None
    assert record.started_at >= record.due_at


def test_a_flaky_task_is_tried_twice_more_three_seconds_apart(project: Project, import_here: Import) -> None:
    project.write(DEMO, "demo.py")
    demo = import_here("demo")
    project.start(serve="demo:jobs")
    result: RunHandle[int] = demo.flaky_task()
    assert result.get(timeout=60) == 3
    attempts = result.attempts()
    assert [each.outcome for each in attempts] == ["exception ConnectionError"] * 2 + ["ok"]
    first, second = attempts[0].finished_at, attempts[1].started_at
    assert first is not None
    assert second is not None
    assert second - first >= timedelta(seconds=3 * 0.9)  # jitter may shorten a delay by a tenth


def test_a_task_each_minute_has_a_run_for_each_minute(project: Project, import_here: Import) -> None:
    """By every second here: a minute is long. Its own schedule is read from the plan."""
    project.write(DEMO.replace('"*/1 * * * *"', '"every 1s"'), "demo.py")
    demo = import_here("demo")
    supervisor = project.start(serve="demo:jobs")
    seen: list[str] = []
    for _ in range(3):
        seen.append(str(supervisor.wait_for_next("attempt", seen, timeout=60)["run"]))
    assert {demo.jobs.handle(each).get(timeout=60) for each in seen} == {"every minute"}
    records = [demo.jobs.run(each) for each in seen]
    assert {(each.trigger, each.tick.microsecond) for each in records} == {("schedule", 0)}
    assert len({each.tick for each in records}) == 3


def test_the_tasks_join_a_file_that_names_their_module(project: Project, import_here: Import) -> None:
    project.write(DEMO.replace('backend="sqlite:///demo.db"', '"jobs.yaml"'), "demo.py")
    project.write(
        "modules: demo\ntasks:\n  add: {call: 'demo:add', priority: 3}\n  hello: {command: echo hello}\n"
    )
    demo = import_here("demo")
    project.start()
    result: RunHandle[int] = demo.add(1, 2)
    assert (result.get(timeout=60), result.record().priority) == (3, 3)
    assert demo.jobs.enqueue("hello").get(timeout=60) == "hello"
    assert project.answer("enqueue", "add", "--args", "[3, 4]", "--wait")["result"] == 7


def test_a_changed_decorator_is_in_force_within_seconds(project: Project, import_here: Import) -> None:
    """The module is the file of a JobRunner that is served: a change of it is a reload (semantics 24)."""
    project.write(DEMO, "demo.py")
    demo = import_here("demo")
    supervisor = project.start(serve="demo:jobs")
    assert demo.jobs.enqueue("add", 1, 2).record().priority == 0
    changed = DEMO.replace("@jobs.task\ndef add", "@jobs.task(priority=7)\ndef add").replace("a + b", "a * b")
    project.write(changed, "demo.py")
    supervisor.wait_for("reloaded")
    handle: RunHandle[int] = demo.jobs.enqueue("add", 3, 4)
    assert (handle.record().priority, handle.get(timeout=60)) == (7, 12)  # fresh workers have the new code


def test_a_module_that_breaks_takes_no_task_away(project: Project, import_here: Import) -> None:
    project.write(DEMO, "demo.py")
    demo = import_here("demo")
    supervisor = project.start(serve="demo:jobs")
    project.write(DEMO + "\nraise ValueError('half of it')\n", "demo.py")
    refused = supervisor.wait_for("reload-refused")
    assert "importing demo failed: ValueError: half of it" in refused["problems"]
    supervisor.wait_for("task-blocked", task="add")
    handle: RunHandle[int] = demo.add(1, 2)
    assert handle.state is State.QUEUED
    project.write(DEMO, "demo.py")
    assert handle.get(timeout=60) == 3


def test_a_coroutine_waits_without_holding_up_the_others(project: Project, import_here: Import) -> None:
    project.write(DEMO, "demo.py")
    demo = import_here("demo")
    project.start(serve="demo:jobs")

    async def main() -> tuple[list[int], int]:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        handles: list[Any] = [await demo.jobs.aenqueue("add", n, n) for n in range(5)]
        later = demo.add.schedule((20, 22), delay=0.5)
        found = await asyncio.gather(*(each.aget(timeout=60) for each in [*handles, later]))
        beating.cancel()
        return found, beats

    found, beats = asyncio.run(main())
    assert found == [0, 2, 4, 6, 8, 42]
    assert beats > 5
