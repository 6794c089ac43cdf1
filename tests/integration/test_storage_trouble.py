"""A real supervisor whose storage does not answer: work goes on, and what ended is written when it can be."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.model import State
from tests.drills.checker import client, enqueue, finished
from tests.live import LiveSupervisor, Project
from tests.stage import processes_of_run

FILE = """
shutdown_timeout: 5m
tasks:
  held:
    command: |
      while [ ! -e go ]; do sleep 0.05; done
      echo done >> effects
"""


@contextmanager
def locked(project: Project) -> Iterator[None]:
    """Somebody else writes to the database, and does not come to an end."""
    connection = sqlite3.connect(project.folder / ".jobrunner" / "jobs.db", isolation_level=None)
    try:
        connection.execute("begin immediate")
        yield
        connection.execute("rollback")
    finally:
        connection.close()


def a_held_run(project: Project) -> tuple[LiveSupervisor, str]:
    """A supervisor, and a run that executes until there is a file `go`."""
    project.write(FILE)
    supervisor = project.start("--log-level", "debug")
    with client(project) as storage:
        [run_id] = enqueue(storage, "held", [{}])
    supervisor.wait_for("started", run=run_id)
    return supervisor, run_id


def test_a_run_that_ends_while_the_storage_is_locked_is_written_afterwards(project: Project) -> None:
    # rules 33 and 34, D13
    supervisor, run_id = a_held_run(project)
    with locked(project):
        project.write("", "go")
        supervisor.wait_for("attempt", run=run_id, state="succeeded")
        supervisor.wait_for("storage-trouble")
    supervisor.wait_for("storage-back")
    with client(project) as storage:
        [run] = finished(storage, [run_id])
        assert (run.state, run.attempt) == (State.SUCCEEDED, 1)
        [later] = finished(storage, enqueue(storage, "held", [{}]))  # it works as before
        assert later.state is State.SUCCEEDED
    assert (project.folder / "effects").read_text() == "done\n" * 2


def test_an_end_waits_for_the_storage_to_take_what_ended(project: Project) -> None:
    # rule 29: completions in this phase are recorded
    supervisor, run_id = a_held_run(project)
    with locked(project):
        supervisor.process.send_signal(signal.SIGTERM)
        supervisor.wait_for("stopping")
        project.write("", "go")
        supervisor.wait_for("attempt", run=run_id)
        supervisor.wait_for("storage-trouble")
    assert supervisor.wait() == 0
    with client(project) as storage:
        assert storage.run(run_id).state is State.SUCCEEDED
    assert supervisor.wait_for("stopped")["unwritten"] == 0


def test_a_second_signal_does_not_wait_for_the_storage(project: Project) -> None:
    # rule 29: the end takes two seconds then; what could not be written is recovered (rule 32)
    supervisor, run_id = a_held_run(project)
    clock = SystemClock()
    with locked(project):
        supervisor.process.send_signal(signal.SIGTERM)
        supervisor.wait_for("stopping")
        began = clock.monotonic()
        assert supervisor.stop() == 0
        print(f"ended {(clock.monotonic() - began) / SECOND:.2f} s after the second signal")
        assert supervisor.wait_for("stopped")["unwritten"] == 1
        assert processes_of_run(run_id) == set()
    project.write("", "go")
    project.start()
    with client(project) as storage:
        assert finished(storage, [run_id])[0].state is State.SUCCEEDED


def test_a_supervisor_that_was_declared_dead_ends_with_an_error(project: Project) -> None:
    # nothing of it may be written any more, and what it runs must not run beside what the next one starts
    supervisor, run_id = a_held_run(project)
    connection = sqlite3.connect(project.folder / ".jobrunner" / "jobs.db")
    connection.execute("update supervisors set lost = 1")
    connection.commit()
    connection.close()
    assert supervisor.wait() == 1
    assert any("no longer the owner" in line for line in supervisor.words)
    assert processes_of_run(run_id) == set()
    project.write("", "go")
    project.start()
    with client(project) as storage:
        assert finished(storage, [run_id])[0].state is State.SUCCEEDED
