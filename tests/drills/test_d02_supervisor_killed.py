"""D2: kill -9 of the supervisor while runs are going. 50 times in the full form."""

from __future__ import annotations

import random
import threading

import pytest

from tests.drills.checker import MARKS, check, client, enqueue, finished, marked_with, marks, workers
from tests.live import Project

FILE = """
pools:
  default: {kind: process, slots: 2}
  commands: {slots: 2}
tasks:
  work: {call: "marked:work", max_crashes: 1000}
  shell:
    command: |
      echo "start $JOBRUNNER_RUN_ID $JOBRUNNER_ATTEMPT $$ $(date +%s%N)" >> marks.log
      sleep 0.05
      echo "end $JOBRUNNER_RUN_ID $JOBRUNNER_ATTEMPT $$ $(date +%s%N)" >> marks.log
    max_crashes: 1000
"""


@pytest.mark.drill
def test_a_killed_supervisor_loses_no_run_and_leaves_no_orphan(project: Project, full_drills: bool) -> None:
    # rules 15 and 32
    kills, batch = (50, 100) if full_drills else (4, 40)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    project.write(MARKS, "marked.py")
    project.write(FILE)
    ids: list[str] = []
    for _ in range(kills):
        supervisor = project.start()
        with client(project) as storage:
            ids += enqueue(storage, "work", [{"seconds": 0.01}] * batch)
            ids += enqueue(storage, "shell", [{}] * (batch // 4))
        threading.Event().wait(chance.uniform(0.05, 0.6))  # a random moment of its work
        supervisor.kill()
    last = project.start()
    with client(project) as storage:
        final = finished(storage, ids)
    verdict = check(ids, final, marks(project))
    mine = set(workers(last))
    print(f"{kills} kills, {len(ids)} runs, {verdict.repeated} attempts repeated")
    assert (verdict.lost, verdict.unexpected, verdict.after_success) == (set(), set(), set())
    # I5: at most the calls executed and not yet settled, per kill
    assert verdict.repeated <= kills * (64 + 2 + 2)
    assert set(marked_with("JOBRUNNER_OWNER=")) & set(marked_with(str(project.folder))) <= mine
