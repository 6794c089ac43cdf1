"""A pool whose workers do not start: its runs wait, everybody says why, and they go on when it is mended."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jobrunner.model import State
from jobrunner.storage import Storage
from tests.drills.checker import client, enqueue, finished
from tests.live import CLOCK, Project, wait_until

FILE = """
pools:
  default: {{kind: {kind}, slots: 2, on_startup: "work:prepare"}}
tasks:
  paid: {{call: "work:paid"}}
  shell: {{command: "true"}}
"""
WORK = """
import os

def prepare():
    if not os.path.exists("licence"):
        raise RuntimeError("no licence")

def paid():
    return "paid"
"""


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_runs_wait_for_workers_that_do_not_start(project: Project, kind: str) -> None:
    # rules 15, 16, 20 and invariants I1, I9, I11: no call fails for it, and no state lies
    project.write(FILE.format(kind=kind))
    project.write(WORK.replace('"licence"', repr(str(project.folder / "licence"))), "work.py")
    supervisor = project.start()
    with client(project) as storage:
        runs = enqueue(storage, "paid", [{}] * 3)
        said = supervisor.wait_for("no-workers")
        assert said["pool"] == "default"
        assert "RuntimeError: no licence" in said["error"]
        wait_until(lambda: "default" in stalled(storage), supervisor.log)  # before the next heartbeat
        assert "no licence" in project.jobrunner("status").stdout
        assert "No worker of pool 'default' starts" in project.jobrunner("why", "paid").stdout
        assert "no licence" in project.jobrunner("enqueue", "paid").stderr
        (shell,) = finished(storage, enqueue(storage, "shell", [{}]))  # others go on
        assert shell.state is State.SUCCEEDED
        (project.folder / "licence").touch()
        supervisor.wait_for("workers-again")
        ended = finished(storage, runs)
        assert {(run.state, run.attempt, run.failures) for run in ended} == {(State.SUCCEEDED, 1, 0)}
        wait_until(lambda: not stalled(storage), supervisor.log)


def stalled(storage: Storage) -> Mapping[str, str]:
    """What the supervisor says of pools without workers."""
    return storage.supervisors(CLOCK.now())[0].status.stalled or {}


def test_who_runs_once_waits_for_no_worker(project: Project) -> None:
    # rule 16: it ends, and what could not run is still in the queue
    project.write(FILE.format(kind="process"))
    project.write(WORK.replace('"licence"', repr(str(project.folder / "licence"))), "work.py")
    assert project.jobrunner("run", "--once").returncode == 0
    run = project.answer("enqueue", "paid")["id"]
    done = project.jobrunner("run", "--once")
    assert done.returncode == 0, done
    assert "1 queued runs cannot run here" in done.stderr
    assert project.answer("show", run)["state"] == "queued"
    (project.folder / "licence").touch()
    assert project.jobrunner("run", "--once").returncode == 0
    assert project.answer("show", run)["state"] == "succeeded"
