"""The total-queue checker: what was acknowledged, what was attempted, what finished (after the Jepsen tests).

acknowledged - finished = lost          must be empty                     I1
attempted - acknowledged = unexpected   must be empty                     I2
starts after a recorded success         must be none                      I4
starts beyond the first = repeated      bounded by the number of faults   I5
"""

from __future__ import annotations

import math
import os
import random
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobrunner.client import enqueue as make_run
from jobrunner.clock import SystemClock
from jobrunner.durations import Micros
from jobrunner.ids import new_id
from jobrunner.model import Run, State
from jobrunner.storage import Storage, open_storage
from tests.live import PATIENCE, LiveSupervisor, Project

CLOCK = SystemClock()

# A callable that leaves a mark for its start and its end, which survive its death.
MARKS = """
import os, time
from jobrunner import current_run

def work(seconds=0.0):
    mark("start")
    time.sleep(seconds)
    mark("end")
    return current_run().attempt

def mark(what):
    run = current_run()
    with open("marks.log", "ab", buffering=0) as log:
        log.write(f"{what} {run.id} {run.attempt} {os.getpid()} {time.time_ns()}\\n".encode())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a task wrote about itself."""

    what: str
    run_id: str
    attempt: int
    pid: int
    at: Micros


def marks(project: Project) -> list[Mark]:
    """The marks of all attempts, in the order in which they were written."""
    path = project.folder / "marks.log"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [
        Mark(what=what, run_id=run, attempt=int(attempt), pid=int(pid), at=int(at) // 1000)
        for what, run, attempt, pid, at in lines
    ]


@contextmanager
def client(project: Project) -> Iterator[Storage]:
    """The project's storage, as a client opens it."""
    storage = open_storage(f"sqlite:///{project.folder}/.jobrunner/jobs.db", create=False)
    try:
        yield storage
    finally:
        storage.close()


def enqueue(storage: Storage, task: str, arguments: Sequence[dict[str, object]]) -> list[str]:
    """Enqueue a run for each set of keyword arguments; the ids that were acknowledged."""
    entry = storage.entry(task)
    assert entry is not None, f"{task} is not in the catalogue"
    now = CLOCK.now()
    runs = [make_run(entry, run_id=new_id(now), now=now, kwargs=kwargs) for kwargs in arguments]
    assert all(storage.add(runs))
    return [run.id for run in runs]


def finished(storage: Storage, run_ids: Sequence[str], patience: float = PATIENCE) -> list[Run]:
    """The runs, once they are all final; `patience` is for each of them, in the order given."""
    runs: list[Run] = []
    for run_id in run_ids:
        run = storage.wait(run_id, patience)
        assert run.state.is_final, f"{run_id} is still {run.state} after {patience} s: {run}"
        runs.append(run)
    return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the checker found."""

    lost: set[str]
    unexpected: set[str]
    after_success: set[str]
    repeated: int  # starts beyond the first, summed over all runs


def check(acknowledged: Sequence[str], runs: Sequence[Run], seen: Sequence[Mark]) -> Verdict:
    """Compare what was promised with what the storage and the marks say."""
    starts = Counter(mark.run_id for mark in seen if mark.what == "start")
    succeeded = {run.id for run in runs if run.state is State.SUCCEEDED}
    recorded = {run.id: run.finished_at or 0 for run in runs}
    after = {m.run_id for m in seen if m.what == "start" and m.at > recorded.get(m.run_id, m.at)}
    return Verdict(
        lost=set(acknowledged) - succeeded,
        unexpected=set(starts) - set(acknowledged),
        after_success=after,
        repeated=sum(count - 1 for count in starts.values()),
    )


def children(pid: int) -> list[int]:
    """The children of a process, those of all its threads."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(int(each) for each in path.read_text().split())
        except OSError:
            continue
    return found


def workers(supervisor: LiveSupervisor) -> list[int]:
    """The worker processes of a supervisor."""
    return [pid for pid in children(supervisor.pid) if b"jobrunner.execution.worker" in command_line(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_one(pids: Sequence[int], chance: random.Random) -> int | None:
    """kill -9 one of these processes: which; None when there was none."""
    if not pids:
        return None
    pid = chance.choice(list(pids))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return pid


def percentile(figures: Iterable[float], percent: int) -> float:
    """The figure that this many percent of all do not exceed; 0 when there are none."""
    ordered = sorted(figures)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0
