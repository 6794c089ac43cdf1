"""D1: kill -9 of workers while runs are going. 200 during 5,000 runs in the full form."""

from __future__ import annotations

import random
import threading

import pytest

from jobrunner.durations import SECOND, Micros
from tests.drills.checker import (
    CLOCK,
    MARKS,
    check,
    client,
    enqueue,
    finished,
    kill_one,
    marks,
    percentile,
    workers,
)
from tests.live import Project

FILE = """
pools:
  default: {kind: process, slots: 2}
tasks:
  work: {call: "marked:work", max_crashes: 1000}
"""


@pytest.mark.drill
def test_killed_workers_lose_no_run_and_repeat_none_that_succeeded(
    project: Project, full_drills: bool
) -> None:
    # rules 15 and 16
    runs, kills = (5_000, 200) if full_drills else (300, 12)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    project.write(MARKS, "marked.py")
    project.write(FILE)
    supervisor = project.start()
    with client(project) as storage:
        ids = enqueue(storage, "work", [{"seconds": 0.01}] * runs)
        done = threading.Event()
        killed: dict[int, Micros] = {}

        def kill_now_and_then() -> None:
            while len(killed) < kills and not done.wait(chance.uniform(0.02, 0.1)):
                at_work = {mark.pid for mark in marks(project)} & set(workers(supervisor)) - set(killed)
                at = CLOCK.now()
                if (pid := kill_one(sorted(at_work), chance)) is not None:
                    killed[pid] = at

        killer = threading.Thread(target=kill_now_and_then, daemon=True)
        killer.start()
        try:
            final = finished(storage, ids)
        finally:
            done.set()
            killer.join()
        verdict = check(ids, final, marks(project))
        waits = [
            (attempt.ended_at - killed[attempt.pid]) / SECOND
            for run in final
            if run.crashes
            for attempt in storage.attempts(run.id)
            if attempt.outcome == "crashed" and attempt.pid in killed and attempt.ended_at is not None
        ]
    print(f"{len(killed)} workers killed, {len(verdict.lost)} runs lost, {verdict.repeated} repeated")
    print(f"{len(waits)} runs queued again, after {percentile(waits, 99):.3f} s (p99), wanted: 1 s")
    assert killed
    assert (verdict.lost, verdict.unexpected, verdict.after_success) == (set(), set(), set())
    assert verdict.repeated <= len(killed)  # I5: at most one per kill, its call in progress
    assert sum(run.crashes for run in final) <= len(killed)
    if full_drills:  # a figure to hold on a machine that does nothing else
        assert len(killed) == kills
        assert percentile(waits, 99) <= 1
