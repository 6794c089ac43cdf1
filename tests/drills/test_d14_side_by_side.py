"""D14: supervisors side by side on one Redis: each tick and each run once, also when one is killed -9."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from jobrunner.ids import new_id
from jobrunner.model import Run, State, Trigger
from jobrunner.storage import RunFilter, Storage, open_storage
from tests.drills.checker import CLOCK, MARKS, check, enqueue, marks
from tests.live import Project, wait_until
from tests.servers import RedisServer, a_redis

pytestmark = pytest.mark.drill

SLOTS = 4
LEASE_AND_A_TURN = 40.0  # seconds: within these the runs of a dead supervisor go on


class Size(NamedTuple):
    """How much is done."""

    tasks: int  # each ticks every second
    ticks: int
    runs: int


SHORT, FULL = Size(3, 9, 150), Size(20, 1_000, 10_000)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with a_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def file_of(url: str, tasks: int) -> str:
    ticking = "".join(
        f"""
  tick{number}:
    call: marks:work
    schedule: every 1s
    overlap: allow
"""
        for number in range(tasks)
    )
    return f"""
backend: {url}
pools:
  default: {{kind: process, slots: {SLOTS}}}
tasks:
  work:
    call: marks:work
    max_crashes: 9
{ticking}"""


@pytest.mark.parametrize("count", [2, 4])
def test_each_tick_and_each_run_once_side_by_side(
    project: Project, server: RedisServer, full_drills: bool, count: int
) -> None:
    size = FULL if full_drills else SHORT
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}")
    project.write(MARKS, "marks.py")
    url = f"{server.url}?namespace={new_id(CLOCK.now())}"
    project.write(file_of(url, size.tasks))
    supervisors = [project.start() for _ in range(count)]
    with closing(open_storage(url)) as storage:
        acknowledged: list[str] = []
        for start in range(0, size.runs, 100):
            arguments: list[dict[str, object]] = [
                {"seconds": chance.random() / 100} for _ in range(min(100, size.runs - start))
            ]
            acknowledged += enqueue(storage, "work", arguments)
            if start == size.runs // 2 // 100 * 100:
                supervisors[0].kill()
        all_final(storage, acknowledged, size)
        for supervisor in supervisors[1:]:
            assert supervisor.stop() == 0
        runs = work_of(storage, acknowledged)
        ticked = [run for run in all_runs(storage) if run.trigger is Trigger.SCHEDULE]
    every_run_once(project, acknowledged, runs)
    every_tick_once(ticked, size)


def all_final(storage: Storage, acknowledged: list[str], size: Size) -> None:
    def ended() -> bool:
        counts = storage.overview(CLOCK.now(), tasks=()).counts
        live = counts[State.QUEUED] + counts[State.RUNNING] + counts[State.RETRYING]
        done = [run for run in all_runs(storage) if run.trigger is Trigger.SCHEDULE]
        return live <= SLOTS * 4 and len(done) >= size.ticks and not unfinished(storage, acknowledged)

    wait_until(ended, lambda: str(storage.overview(CLOCK.now(), tasks=()).counts), 600.0)


def unfinished(storage: Storage, acknowledged: list[str]) -> list[str]:
    live = [State.QUEUED, State.RUNNING, State.RETRYING, State.SCHEDULED]
    found = storage.runs(RunFilter(tasks=("work",), states=tuple(live), limit=10_000))
    return [run.id for run in found]


def all_runs(storage: Storage) -> list[Run]:
    return storage.runs(RunFilter(limit=100_000))


def work_of(storage: Storage, ids: list[str]) -> list[Run]:
    wanted = set(ids)
    return [run for run in storage.runs(RunFilter(tasks=("work",), limit=100_000)) if run.id in wanted]


def every_run_once(project: Project, acknowledged: list[str], runs: list[Run]) -> None:
    mine = set(acknowledged)
    seen = [mark for mark in marks(project) if mark.run_id in mine]
    verdict = check(acknowledged, runs, seen)
    print(verdict.repeated, "repeated by the kill")
    assert not verdict.lost
    assert not verdict.unexpected
    assert not verdict.after_success
    assert verdict.repeated <= SLOTS + 256  # what one supervisor had begun and not told (I5)
    begun_again = Counter(mark.run_id for mark in seen if mark.what == "end").most_common(1)
    assert begun_again[0][1] <= 2


def every_tick_once(ticked: list[Run], size: Size) -> None:
    assert len(ticked) >= size.ticks
    counts = Counter((run.schedule, run.tick) for run in ticked)
    assert counts.most_common(1)[0][1] == 1
    for schedule in {run.schedule for run in ticked}:
        rows = sorted((run for run in ticked if run.schedule == schedule), key=lambda run: run.tick or 0)
        for before, after in pairwise(rows):
            gap = json.loads(after.detail or "{}").get("count", 1)
            assert ((after.tick or 0) - (before.tick or 0)) // 1_000_000 == gap, (before, after)


def test_a_killed_supervisors_runs_go_on_at_once_on_the_same_machine(
    project: Project, server: RedisServer, tmp_path: Path
) -> None:  # rule 32
    url = f"{server.url}?namespace=same"
    project.write(f"backend: {url}\ntasks:\n  long: {{command: 'sleep 1; echo $JOBRUNNER_ATTEMPT'}}\n")
    first, second = project.start(), project.start()
    with closing(open_storage(url)) as storage:
        (run_id,) = enqueue(storage, "long", [{}])
        wait_until(lambda: storage.run(run_id).started_at is not None, lambda: str(storage.run(run_id)))
        owner = storage.run(run_id).owner
        dead, heir = (first, second) if pid_of(storage, owner) == first.pid else (second, first)
        dead.kill()
        heir.wait_for("recovered", timeout=10.0)
        run = storage.wait(run_id, 30.0)
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)


def pid_of(storage: Storage, owner: str | None) -> int:
    return next(each.owner.pid for each in storage.supervisors(CLOCK.now()) if each.owner.id == owner)
