"""D13: a database that somebody else holds for 30 s, and twelve damaged ones.

A file that cannot be written: tests/contract/test_sqlite_faults.py, as a user whom permissions concern.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobrunner.durations import SECOND
from jobrunner.model import State
from jobrunner.storage import Storage, open_storage
from jobrunner.testing.desk import a_run
from tests.contract.test_sqlite_faults import DAMAGES, fingerprint
from tests.drills.checker import CLOCK, enqueue, finished
from tests.live import LiveSupervisor, Project

RESUMED_BY = 15.0  # seconds after the end of the fault (I11)

FILE = """
backend: sqlite:///jobs.db
shutdown_timeout: 1m
tasks:
  greet: {command: echo hello}
"""


def database(project: Project) -> Path:
    return project.folder / "jobs.db"


def client(project: Project, *, create: bool = False) -> Storage:
    return open_storage(f"sqlite:///{database(project)}", create=create)


def works(project: Project, since: int) -> float:
    """Seconds from that moment to the end of a run that was enqueued after it."""
    with closing(client(project)) as storage:
        [run] = finished(storage, enqueue(storage, "greet", [{}]))
        assert run.state is State.SUCCEEDED
        return ((run.finished_at or 0) - since) / SECOND


@pytest.fixture
def supervisor(project: Project) -> LiveSupervisor:
    project.write(FILE)
    return project.start()


@pytest.mark.drill
def test_a_database_that_somebody_holds_is_waited_for(
    project: Project, supervisor: LiveSupervisor, full_drills: bool
) -> None:  # rules 33 and 34
    held_for = 30.0 if full_drills else 7.0  # longer than the patience of one call
    with closing(client(project)) as storage:
        before = enqueue(storage, "greet", [{}] * 20)
        with closing(sqlite3.connect(database(project), isolation_level=None)) as other:
            other.execute("begin immediate")
            refused = project.jobrunner("enqueue", "greet")
            threading.Event().wait(held_for)
            other.execute("rollback")
        back = CLOCK.now()
        took = works(project, back)
        assert {run.state for run in finished(storage, before)} == {State.SUCCEEDED}
    print(f"held for {held_for:g} s; work again after {took:.1f} s")
    assert refused.returncode == 1
    assert f"pid {os.getpid()}" in refused.stderr
    assert "Traceback" not in refused.stderr + supervisor.log()
    assert took <= RESUMED_BY
    assert supervisor.stop() == 0


@pytest.mark.drill
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_database_is_refused_and_left_as_it_is(
    project: Project, damage: Callable[[Path], None]
) -> None:
    project.write(FILE)
    with closing(client(project, create=True)) as storage:
        storage.add([a_run() for _ in range(500)])
    damage(database(project))
    before = fingerprint(database(project))
    for command in (("run", "jobs.yaml"), ("enqueue", "greet", "--force"), ("history",)):
        done = project.jobrunner(*command)
        assert done.returncode == 1, (command, done)
        assert str(database(project)) in done.stderr
        assert "help: " in done.stderr
        assert "Traceback" not in done.stderr
    assert fingerprint(database(project)) == before
