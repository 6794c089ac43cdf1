"""D11: supervisors that were frozen past their lease: whatever they still write is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from jobrunner.model import State
from jobrunner.storage import open_storage
from tests.drills.checker import CLOCK, enqueue
from tests.live import Project, wait_until
from tests.servers import RedisServer, a_redis

pytestmark = pytest.mark.drill

SHORT, FULL = 2, 30
LEASE_AND_A_TURN = 45.0  # seconds; a lease is 30


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with a_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def test_late_completions_of_frozen_owners_are_refused(
    project: Project, server: RedisServer, full_drills: bool
) -> None:
    count = FULL if full_drills else SHORT
    url = f"{server.url}?namespace=frozen"
    project.write(
        f"""
backend: {url}
pools: {{default: {{kind: process, slots: 1}}, commands: {{kind: command, slots: 1}}}}
tasks:
  nap: {{command: 'while [ ! -e gate ]; do sleep 0.3; done', max_crashes: 99}}
"""
    )
    supervisors = [project.start() for _ in range(count)]
    with closing(open_storage(url)) as storage:
        ids = enqueue(storage, "nap", [{}] * count)
        wait_until(
            lambda: all(storage.run(each).started_at is not None for each in ids),
            lambda: str([storage.run(each).state for each in ids]),
        )
        owners = {storage.run(each).owner for each in ids}
        assert len(owners) == count  # each has one slot
        for supervisor in supervisors:
            os.kill(supervisor.pid, signal.SIGSTOP)
        (project.folder / "gate").touch()  # what they run ends, and they do not see it
        heir = project.start()  # on this machine too, but the frozen ones are no dead processes
        heir.wait_for("recovered", timeout=LEASE_AND_A_TURN)
        wait_until(
            lambda: all(storage.run(each).state is State.SUCCEEDED for each in ids),
            lambda: str([storage.run(each) for each in ids]),
            300.0,
        )
        settled = {each: storage.run(each) for each in ids}
        for supervisor in supervisors:
            os.kill(supervisor.pid, signal.SIGCONT)
        wait_until(
            lambda: len([s for s in storage.supervisors(CLOCK.now()) if s.alive]) == count + 1,
            lambda: str(storage.supervisors(CLOCK.now())),
        )
        assert {each: storage.run(each) for each in ids} == settled
        assert all(run.attempt == 2 for run in settled.values())
        alive = {each.owner.id for each in storage.supervisors(CLOCK.now()) if each.alive}
        assert not alive & owners  # they go on, as somebody else
    for supervisor in [*supervisors, heir]:
        assert supervisor.stop() == 0
