"""Our side: a jobs.yaml in a folder, its supervisor as a process, and what its storage tells."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.crew import Crew, at_work
from benchmarks.measure import Missing
from benchmarks.rivals import PATIENCE, PROGRAMS
from jobrunner.birth import new_run
from jobrunner.clock import SystemClock
from jobrunner.ids import new_id
from jobrunner.model import NewRun, State, Trigger
from jobrunner.storage import RunFilter, Storage, open_storage

SQLITE = "fsync at each commit (WAL, synchronous=FULL)"
START = 20.0  # seconds until a supervisor must be there
CALLS = """
backend: {backend}
pythonpath: [{programs}]
env: {{TALLY: "{folder}/tally", MOMENTS: "{folder}/moments"}}
retention: {{max_runs: 1000000}}
pools:
  default: {{kind: process, slots: {slots}}}
tasks:
  nothing: {{call: "ours:nothing"}}
  note: {{call: "ours:note"}}
  five: {{call: "ours:five"}}
"""


class Site:
    """One file and its storage."""

    def __init__(
        self, folder: Path, *, backend: str | None = None, text: str = CALLS, slots: int = 2
    ) -> None:
        self.folder = folder
        self.file = folder / "jobs.yaml"
        self.backend = backend or f"sqlite:///{folder}/jobs.db"
        filled = text.format(backend=self.backend, programs=PROGRAMS, slots=slots, folder=folder)
        self.file.write_text(filled)
        self.clock = SystemClock()

    def _variables(self) -> dict[str, str]:
        return {name: text for name, text in os.environ.items() if not name.startswith("JOBRUNNER_")}

    def _command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "jobrunner", "run", str(self.file), "--log-level", "error", *more]

    def publish(self) -> None:
        """Let a supervisor publish the catalogue, and end."""
        done = subprocess.run(
            self._command("--once", "--no-schedule"),
            env=self._variables(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        if done.returncode != 0:
            raise Missing(f"jobrunner did not start: {done.stderr.strip()[-300:]}")

    @contextmanager
    def serving(self, *more: str) -> Iterator[Crew]:
        """A supervisor that works; it gets SIGTERM at the end."""
        log = self.folder / "supervisor.log"
        with at_work([self._command(*more)], log, self._variables(), self.folder) as crew:
            yield crew

    def until_there(self, count: int = 1) -> None:
        """Wait until so many supervisors are alive."""
        end = time.monotonic() + START
        with self.storage() as storage:
            while sum(each.alive for each in storage.supervisors(self.clock.now())) < count:
                if time.monotonic() > end:
                    raise Missing("the supervisor did not come up")
                time.sleep(0.05)

    @contextmanager
    def storage(self) -> Iterator[Storage]:
        storage = open_storage(self.backend)
        try:
            yield storage
        finally:
            storage.close()

    def runs(self, storage: Storage, task: str, count: int) -> list[NewRun]:
        """New runs of a task, not added yet."""
        entry, now = storage.entry(task), self.clock.now()
        assert entry is not None, task
        return [
            new_run(entry, run_id=new_id(now), trigger=Trigger.ENQUEUE, now=now, due_at=now)
            for _ in range(count)
        ]

    def demand(self, task: str, count: int) -> None:
        """Raise Missing unless so many runs of the task have succeeded, each at its first attempt."""
        which = RunFilter(tasks=(task,), states=(State.SUCCEEDED,), limit=count + 1)
        with self.storage() as storage:
            end = time.monotonic() + START
            while len(found := storage.runs(which)) < count and time.monotonic() < end:
                time.sleep(0.2)
        again = sum(each.attempt > 1 for each in found)
        if len(found) != count or again:
            raise Missing(f"{len(found):,} of {count:,} runs succeeded, {again} of them more than once")

    def fill(self, task: str, count: int) -> None:
        with self.storage() as storage:
            for start in range(0, count, 5_000):
                storage.add(self.runs(storage, task, min(5_000, count - start)))


def proc_cpu(pid: int) -> float:
    """Seconds of processor time that the threads of a process have used, by the scheduler's own count."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def proc_wakes(pid: int) -> int:
    """How often the threads of a process went to sleep by themselves."""
    return sum(_status(each)["voluntary_ctxt_switches"] for each in Path(f"/proc/{pid}/task").iterdir())


def proc_memory(pid: int) -> float:
    """Resident MiB."""
    return _status(Path(f"/proc/{pid}"))["VmRSS"] / 1024


def children_of(pid: int) -> list[int]:
    """The processes below this one."""
    nearest = [int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in _children(task)]
    return nearest + [below for each in nearest for below in children_of(each)]


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def _status(folder: Path) -> Mapping[str, int]:
    lines = (line.split() for line in (folder / "status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
