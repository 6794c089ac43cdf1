"""Deaths in the middle of things: what other queues lose, or hold for ever, goes on here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import State, TaskFailed, chord
from tests.app.conftest import Import
from tests.live import Project, wait_until

TASKS = '''
import os, time
from jobrunner import JobRunner, current_run

jobs = JobRunner("jobs.yaml")


def wait_for(name):
    """Until somebody makes this file; a minute at most."""
    for _ in range(1200):
        if os.path.exists(name):
            return
        time.sleep(0.05)
    raise TimeoutError(name)


@jobs.task
def member(n):
    with open(f"member-{n}.{current_run().attempt}", "w") as file:
        file.write(str(os.getpid()))
    if n == 2:
        wait_for("go")
    return n


@jobs.task
def total(values):
    with open("totals", "a") as file:
        file.write(f"{values}\\n")
    return sum(values)


@jobs.task(lock="database")
def holder(name):
    with open(f"{name}.{current_run().attempt}", "w") as file:
        file.write(str(os.getpid()))
    wait_for(f"{name}-go")
    return name


@jobs.task(timeout=0.5, kill_after=0.5)
def stubborn():
    for _ in range(600):
        try:
            time.sleep(0.1)
        except Exception:
            pass


@jobs.task(on_interrupt="fail")
def once():
    with open("once.1", "w") as file:
        file.write(str(os.getpid()))
    wait_for("go")
'''


@pytest.fixture
def app(project: Project, import_here: Import) -> Any:
    project.write("modules: [deaths]\npools: {default: {slots: 3}}\n")
    project.write(TASKS, "deaths.py")
    return import_here("deaths")


def pid_in(path: Path) -> int:
    """The process that has written its id there; waited for."""
    wait_until(lambda: path.exists() and path.read_text() != "", lambda: f"no {path.name}")
    return int(path.read_text())


def after_death(project: Project, app: Any, kill: Callable[[int], None]) -> None:
    """Kill something while the second of three members runs: the chord calls back once, with all three."""
    handle = app.jobs.enqueue(chord([app.member.s(n) for n in (1, 2, 3)], app.total))
    pid = pid_in(project.folder / "member-2.1")
    wait_until(lambda: [each.state for each in handle.steps()].count(State.SUCCEEDED) == 2, project.logs)
    wait_until(lambda: any(s.args == (2,) and s.started_at is not None for s in handle.steps()), project.logs)
    kill(pid)
    pid_in(project.folder / "member-2.2")
    (project.folder / "go").touch()
    assert handle.get(timeout=60) == 6
    assert (project.folder / "totals").read_text() == "[1, 2, 3]\n"
    second = next(each for each in handle.steps() if each.args == (2,))
    assert [each.outcome for each in app.jobs.handle(second.id).attempts()][1:] == ["ok"]


def test_a_worker_killed_in_the_middle_of_a_chord_loses_nothing(project: Project, app: Any) -> None:
    project.start()
    after_death(project, app, lambda pid: os.kill(pid, signal.SIGKILL))


def test_a_supervisor_killed_in_the_middle_of_a_chord_loses_nothing(project: Project, app: Any) -> None:
    supervisor = project.start()

    def kill(_pid: int) -> None:
        supervisor.kill()
        project.start()

    after_death(project, app, kill)


def test_a_lock_ends_with_its_dead_holder(project: Project, app: Any) -> None:
    project.start()
    first = app.holder("first")
    pid = pid_in(project.folder / "first.1")
    second = app.holder("second")
    os.kill(pid, signal.SIGKILL)
    (project.folder / "first-go").touch()
    (project.folder / "second-go").touch()
    assert (second.get(timeout=60), first.get(timeout=60)) == ("second", "first")
    assert len(first.attempts()) == 2


def test_no_task_can_swallow_its_timeout(project: Project, app: Any) -> None:
    project.start()
    with pytest.raises(TaskFailed) as caught:
        app.stubborn().get(timeout=60)
    assert caught.value.outcome == "timeout"


def test_a_run_that_must_not_be_repeated_fails_when_its_worker_dies(project: Project, app: Any) -> None:
    project.start()
    handle = app.once()
    os.kill(pid_in(project.folder / "once.1"), signal.SIGKILL)
    with pytest.raises(TaskFailed) as caught:
        handle.get(timeout=60)
    assert caught.value.reason == "interrupted"
    assert not (project.folder / "once.2").exists()


def test_a_waiter_of_a_cancelled_run_is_told(project: Project, app: Any) -> None:
    """Also when the run was cancelled while it was being executed."""
    project.start()
    handle = app.once()
    pid_in(project.folder / "once.1")
    assert handle.cancel() is True
    assert handle.wait(timeout=60) is State.CANCELLED
