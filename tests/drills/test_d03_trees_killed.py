"""D3: the supervisor and everything below it is killed at once. 20 times in the full form."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress

import pytest

from jobrunner.durations import SECOND
from jobrunner.model import State
from jobrunner.storage import RunFilter
from tests.drills.checker import CLOCK, MARKS, check, client, enqueue, finished, marks
from tests.live import LiveSupervisor, Project, processes_of

FILE = """
pools:
  default: {kind: process, slots: 2}
  commands: {slots: 4}
tasks:
  work: {call: "marked:work", max_crashes: 1000}
  shell:
    command: |
      echo "start $JOBRUNNER_RUN_ID $JOBRUNNER_ATTEMPT $$ $(date +%s%N)" >> marks.log
      sleep 0.2
      echo "end $JOBRUNNER_RUN_ID $JOBRUNNER_ATTEMPT $$ $(date +%s%N)" >> marks.log
    max_crashes: 1000
"""


def kill_tree(project: Project, supervisor: LiveSupervisor) -> None:
    """Everything at once, as a machine or a container dies: nobody notices anybody's death."""
    supervisor.process.send_signal(signal.SIGSTOP)  # it starts nothing more
    for pid in [*processes_of(project.folder), supervisor.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    supervisor.wait()


@pytest.mark.drill
def test_a_killed_tree_is_resolved_at_the_next_start(project: Project, full_drills: bool) -> None:
    # rules 15 and 32
    kills = 20 if full_drills else 3
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    project.write(MARKS, "marked.py")
    project.write(FILE)
    ids: list[str] = []
    resolved: list[float] = []
    supervisor = project.start()
    for _ in range(kills):
        with client(project) as storage:
            ids += enqueue(storage, "work", [{"seconds": 0.02}] * 40)
            ids += enqueue(storage, "shell", [{}] * 8)
        threading.Event().wait(chance.uniform(0.05, 0.5))  # a random moment of its work
        kill_tree(project, supervisor)
        with client(project) as storage:
            running = {run.id for run in storage.runs(RunFilter(states=(State.RUNNING,), limit=1000))}
        began = CLOCK.monotonic()
        supervisor = project.start()
        resolved.append((CLOCK.monotonic() - began) / SECOND)
        told = [each for each in supervisor.events if each["event"] == "recovered"]
        assert bool(told) == bool(running)
        assert sum(each["requeued"] for each in told) == len(running)  # all of them, before it was ready
    with client(project) as storage:
        final = finished(storage, ids)
    verdict = check(ids, final, marks(project))
    print(f"{kills} trees killed, {len(ids)} runs, {len(verdict.lost)} lost, {verdict.repeated} repeated")
    print(f"resolved and ready {max(resolved):.2f} s after the start at the latest, wanted: 2 s")
    assert (verdict.lost, verdict.unexpected, verdict.after_success) == (set(), set(), set())
    assert verdict.repeated <= kills * (64 + 2 + 4)  # I5
    if full_drills:  # a figure to hold on a machine that does nothing else
        assert max(resolved) <= 2
