"""A Redis that came back without its last writes, as its snapshots allow: work goes on, and no state lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobrunner.client import enqueue as make_run
from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.ids import new_id
from jobrunner.model import Run, State
from jobrunner.storage import Storage, open_storage
from tests.drills.checker import enqueue
from tests.live import Project, wait_until
from tests.servers import RedisServer, a_redis

FILE = """
backend: {url}
tasks:
  slow: {{command: 'echo began >> starts; while [ ! -e gate ]; do sleep 0.02; done', retries: 0}}
  bad: {{command: 'while [ ! -e second ]; do sleep 0.02; done; exit 3', retries: 0}}
  quick: {{command: 'true'}}
"""
CLOCK = SystemClock()
DELAY = 2 * SECOND  # until a run is due: time to take a snapshot before


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps what was there at the last SAVE."""
    with a_redis(tmp_path / "redis") as server:
        yield server


def lose_writes(server: RedisServer) -> None:
    server.kill()
    server.start()


def running(storage: Storage, run_id: str) -> Run:
    wait_until(lambda: storage.run(run_id).started_at is not None, lambda: str(storage.run(run_id)))
    return storage.run(run_id)


def ended(storage: Storage, run_id: str) -> State:
    wait_until(lambda: storage.run(run_id).state.is_final, lambda: str(storage.run(run_id)))
    return storage.run(run_id).state


def test_a_run_that_is_given_out_again_goes_on_once(project: Project, forgetful: RedisServer) -> None:
    # rules 33 and 34, I9: the server has forgotten the claim of what is running here
    project.write(FILE.format(url=forgetful.url))
    supervisor = project.start()
    with closing(open_storage(forgetful.url)) as storage:
        entry = storage.entry("slow")
        assert entry is not None
        now = CLOCK.now()
        run = make_run(entry, run_id=new_id(now), now=now)._replace(state=State.SCHEDULED, due_at=now + DELAY)
        assert storage.add([run]) == [True]
        with forgetful.client() as client:
            client.save()
        assert storage.run(run.id).state is State.SCHEDULED
        running(storage, run.id)
        lose_writes(forgetful)
        wait_until(lambda: storage.run(run.id).state is State.RUNNING, lambda: str(storage.run(run.id)))
        (project.folder / "gate").touch()
        assert ended(storage, run.id) is State.SUCCEEDED
    assert (project.folder / "starts").read_text() == "began\n"
    assert len(supervisor.ended("slow")) == 1
    assert supervisor.stop() == 0


def test_a_run_that_was_forgotten_ends_no_other(project: Project, forgetful: RedisServer) -> None:
    # I3 and I9: numbers are given out again, to another run
    project.write(FILE.format(url=forgetful.url))
    supervisor = project.start()
    with closing(open_storage(forgetful.url)) as storage:
        with forgetful.client() as client:
            client.save()
        (lost,) = enqueue(storage, "slow", [{}])
        forgotten = running(storage, lost)
        lose_writes(forgetful)
        (other,) = enqueue(storage, "bad", [{}])
        assert running(storage, other).seq == forgotten.seq
        (project.folder / "gate").touch()
        assert supervisor.wait_for("late")["run"] == lost
        assert storage.run(other).state is State.RUNNING
        (project.folder / "second").touch()
        assert ended(storage, other) is State.FAILED
        assert storage.run(other).exit_code == 3
    assert supervisor.stop() == 0


def test_what_ended_and_was_forgotten_runs_again(project: Project, forgetful: RedisServer) -> None:
    # rule 34: no row is left running that nobody runs
    project.write(FILE.format(url=forgetful.url))
    supervisor = project.start()
    with closing(open_storage(forgetful.url)) as storage:
        (run_id,) = enqueue(storage, "slow", [{}])
        running(storage, run_id)
        with forgetful.client() as client:
            client.save()
        (project.folder / "gate").touch()
        assert ended(storage, run_id) is State.SUCCEEDED
        lose_writes(forgetful)
        assert ended(storage, run_id) is State.SUCCEEDED
    assert (project.folder / "starts").read_text() == "began\n" * 2
    assert supervisor.stop() == 0


def test_a_server_that_lost_everything_is_begun_anew(project: Project, forgetful: RedisServer) -> None:
    project.write(FILE.format(url=forgetful.url))
    supervisor = project.start()
    with closing(open_storage(forgetful.url)) as storage:
        (lost,) = enqueue(storage, "slow", [{}])
        running(storage, lost)
        lose_writes(forgetful)
        said = supervisor.wait_for("owner-voided")
        assert said["running"] == 1
        supervisor.wait_for_number(2, "ready")
        assert not [event for event in supervisor.events if event["event"] == "stopped"]
        (run_id,) = enqueue(storage, "quick", [{}])
        assert ended(storage, run_id) is State.SUCCEEDED
    assert supervisor.stop() == 0
