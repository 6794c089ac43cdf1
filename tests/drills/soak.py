"""D21: a day's work with its faults, for an hour (`make soak`) or as long as SOAK_SECONDS says.

Two sites do the same work side by side, each with its own file and storage:

    steady     one supervisor from the first minute to the last: its workers are killed, its file is edited,
               its commands flood, hang, fail and escape; memory, descriptors and database are measured here
    restless   the same, and its supervisor is killed or stopped again and again: nothing may be lost

What a run does is seen by the mark it leaves when it ends, not by what the storage says of it.
"""

from __future__ import annotations

import math
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from jobrunner.durations import SECOND, Micros
from jobrunner.errors import StorageError
from jobrunner.model import State
from jobrunner.storage import Storage, open_storage
from tests.drills.checker import CLOCK, children, enqueue, kill_one, workers
from tests.live import PATIENCE, LiveSupervisor, Project, processes_of, wait_until

HOUR = 3600.0
MEMORY_SLOPE = 1.0  # MiB an hour, after the warm-up
GROWTH = 1.10  # of the database's highest size, from the second quarter to the last
DESCRIPTORS = 8  # between the highest second quarter and the highest last one

WORK = """
import time
from jobrunner import current_run

def work(seconds=0.0):
    time.sleep(seconds)
    with open("marks/log", "ab", buffering=0) as log:
        log.write(f"{current_run().id}\\n".encode())

def flood():
    for _ in range(20_000):
        print("x" * 100)

def leak():
    raise ValueError("as it does each time")
"""

FILE = """
pools:
  default: {{kind: process, slots: 2}}
  commands: {{slots: 4}}
retention: {{history: 1h, results: 10m, output: 10m, max_runs: 2000}}
shutdown_timeout: 5s
defaults: {{max_crashes: 1000}}
tasks:
  work: {{call: "soaked:work", env: {{EDITION: "{edition}"}}}}
  shell:
    command: echo "$JOBRUNNER_RUN_ID" >> marks/log
    env: {{EDITION: "{edition}"}}
  tick: {{command: [/bin/true], schedule: every 1s}}
  fails: {{command: exit 3, schedule: every 5s, retries: {{max: 1, delay: 1s}}}}
  raises: {{call: "soaked:leak", schedule: every 7s}}
  hangs:
    command: trap '' TERM; sleep 60
    schedule: every 10s
    timeout: 1s
    kill_after: 1s
  escapes: {{command: setsid sleep 60 & exit 0, schedule: every 15s}}
  floods:
    command: head -c 20000000 /dev/zero | tr '\\0' 'x'
    schedule: every 20s
    output: {{max_size: 256KiB}}
  prints: {{call: "soaked:flood", schedule: every 20s, output: {{max_size: 256KiB}}}}
{more}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one supervisor and its storage take at one moment."""

    at: float  # seconds since the beginning
    memory: float  # MiB resident
    descriptors: int
    threads: int
    database: int  # bytes, with its log
    output: int  # bytes of captured output
    zombies: int


@dataclass(slots=True)
class Site:
    """One file, its storage, its supervisor, and everything that was promised to whoever enqueued."""

    name: str
    project: Project
    promised: list[str] = field(default_factory=list)
    worker_kills: int = 0
    supervisor_kills: int = 0
    stops: int = 0
    edits: int = 0
    unsaid: int = 0  # enqueues that were refused or not answered
    supervisor: LiveSupervisor = field(init=False)
    _storage: Storage | None = None

    def begin(self) -> None:
        """Write the files and start."""
        (self.project.folder / "marks").mkdir()
        self.project.write(WORK, "soaked.py")
        self.write_file()
        self.start()

    def start(self) -> None:
        self.supervisor = self.project.start("--log-level", "error", ready=False)
        self.supervisor.wait_for_ready()
        wait_until(lambda: self.storage().entry("work") is not None, self.supervisor.log)

    def storage(self) -> Storage:
        if self._storage is None:
            self._storage = open_storage(f"sqlite:///{self.database}", create=False)
        return self._storage

    @property
    def database(self) -> Path:
        return self.project.folder / ".jobrunner" / "jobs.db"

    def write_file(self) -> None:
        """Save the file anew, as editors do: aside, then renamed; every second edition has one task more."""
        more = (
            f"  extra-{self.edits}: {{command: echo extra, schedule: every 30s}}\n" if self.edits % 2 else ""
        )
        aside = self.project.write(FILE.format(edition=self.edits, more=more), ".jobs.yaml.new")
        aside.replace(self.project.file)

    def edit(self) -> None:
        self.edits += 1
        self.write_file()

    def ask_for_work(self, callables: int, commands: int) -> None:
        """Enqueue; what the storage did not acknowledge was not promised."""
        try:
            self.promised += enqueue(self.storage(), "work", [{"seconds": 0.01}] * callables)
            self.promised += enqueue(self.storage(), "shell", [{}] * commands)
        except StorageError:
            self.unsaid += 1

    def kill_worker(self, chance: random.Random) -> None:
        self.worker_kills += kill_one(workers(self.supervisor), chance) is not None

    def restart(self, chance: random.Random) -> None:
        """Kill the supervisor, or stop it in order; then start the next."""
        if chance.random() < 0.5:
            self.supervisor.kill()
            self.supervisor_kills += 1
        else:
            assert self.supervisor.stop() == 0
            self.stops += 1
        self.supervisor.close()
        self.start()

    def unfinished(self) -> int:
        counts = self.storage().overview(CLOCK.now(), tasks=()).counts
        return sum(counts.get(state, 0) for state in (State.QUEUED, State.RETRYING))

    def missing(self) -> set[str]:
        """What was promised and has left no mark."""
        return set(self.promised) - set((self.project.folder / "marks" / "log").read_text().split())

    def sample(self, at: float) -> Sample:
        pid = self.supervisor.pid
        return Sample(
            at=at,
            memory=int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20,
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            threads=len(os.listdir(f"/proc/{pid}/task")),
            database=_size(self.database) + _size(Path(f"{self.database}-wal")),
            output=sum(_size(each) for each in self.database.parent.rglob("*") if each.is_file()),
            zombies=sum(_is_zombie(child) for child in children(pid)),
        )

    def end(self) -> None:
        """Let it finish, stop it, and see that the storage is whole."""
        wait_until(lambda: not self.missing(), lambda: f"{self.name}: lost {self.missing()}", 5 * PATIENCE)
        assert self.supervisor.stop() == 0
        if self._storage is not None:
            self._storage.close()
        with closing(sqlite3.connect(self.database)) as connection:
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


@dataclass(slots=True)
class Soak:
    """The work and the faults of some time, and what was measured meanwhile."""

    folder: Path
    seconds: float
    chance: random.Random
    tell: Callable[[str], None] = print
    samples: list[Sample] = field(default_factory=list)
    survivors: dict[int, str] = field(default_factory=dict)
    steady: Site = field(init=False)
    restless: Site = field(init=False)

    def run(self) -> None:
        """All of it; raises AssertionError when something was lost, hung or left behind."""
        self.steady, self.restless = (self._site(name) for name in ("steady", "restless"))
        try:
            for site in (self.steady, self.restless):
                site.begin()
            self._work()
            for site in (self.steady, self.restless):
                site.end()
            self._see_nothing_left()
        finally:
            for site in (self.steady, self.restless):
                site.project.close()

    def _site(self, name: str) -> Site:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return Site(name, Project(folder))

    def _work(self) -> None:
        first = self.steady.supervisor.pid
        for second, at in _seconds(self.seconds):
            self._ask(second)
            self._harm(second)
            if second % self._every(10) == 0:
                self.samples.append(self.steady.sample(at))
            if second % 300 == 0 and self.samples:
                self.tell(f"{at:6.0f} s  {self.samples[-1]}")
        assert self.steady.supervisor.process.poll() is None, self.steady.supervisor.log()
        assert self.steady.supervisor.pid == first

    def _ask(self, second: int) -> None:
        """A trickle, and a flood now and then."""
        many = 200 if second % 60 == 30 else 3
        for site in (self.steady, self.restless):
            site.ask_for_work(many, 1)

    def _harm(self, second: int) -> None:
        if self.chance.random() < 0.2:
            self.steady.kill_worker(self.chance)
            self.restless.kill_worker(self.chance)
        if second % self._every(20) == 1:
            self.steady.edit()
        if second % self._every(30) == 2:
            self.restless.restart(self.chance)

    def _every(self, seconds: int) -> int:
        """A period, shortened for a soak of less than ten minutes, which shall see every fault as well."""
        return max(min(seconds, 4), round(seconds * min(1.0, self.seconds / 600)))

    def _see_nothing_left(self) -> None:
        folders = [self.steady.project.folder, self.restless.project.folder]
        wait_until(
            lambda: not any(processes_of(folder) for folder in folders),
            lambda: f"survivors: {[processes_of(folder) for folder in folders]}",
        )

    # --- the figures --------------------------------------------------------------------------------

    def warm(self) -> list[Sample]:
        """The samples after the warm-up, a quarter of the time."""
        return [each for each in self.samples if each.at >= self.seconds / 4]

    def memory_slope(self) -> float:
        """MiB an hour, by least squares over all samples after the warm-up; a line needs two of them."""
        warm = self.warm()
        if len(warm) < 2:
            return math.nan
        return statistics.linear_regression([s.at for s in warm], [s.memory for s in warm]).slope * HOUR

    def highest(self, figure: Callable[[Sample], int]) -> tuple[int, int]:
        """The highest in the second quarter of the time, and in the last one."""
        second = [s for s in self.samples if self.seconds / 4 <= s.at < self.seconds / 2]
        last = [s for s in self.samples if s.at >= self.seconds * 3 / 4]
        # A short form on a busy machine may have no sample in a quarter: all of them stand in for it.
        return max(map(figure, second or self.samples)), max(map(figure, last or self.samples))

    def report(self) -> list[str]:
        """What was done and what was measured, a line each."""
        return [self._work_done(), self._harm_done(), self._memory(), self._highs(), "0 processes left"]

    def _work_done(self) -> str:
        both = (self.steady, self.restless)
        asked, unsaid = sum(len(site.promised) for site in both), sum(site.unsaid for site in both)
        return f"{self.seconds:.0f} s; {asked} runs enqueued, 0 lost; {unsaid} enqueues not acknowledged"

    def _harm_done(self) -> str:
        kills = self.steady.worker_kills + self.restless.worker_kills
        return (
            f"{kills} workers killed; a supervisor killed {self.restless.supervisor_kills} times,"
            f" stopped {self.restless.stops} times; {self.steady.edits} edits of a file"
        )

    def _memory(self) -> str:
        memory = [each.memory for each in self.warm()] or [math.nan]
        slope = f"slope {self.memory_slope():+.2f} MiB/h (to hold: < {MEMORY_SLOPE})"
        return f"memory of the steady supervisor {memory[0]:.1f} -> {memory[-1]:.1f} MiB, {slope}"

    def _highs(self) -> str:
        pairs = (f"{name} {before:,} -> {after:,}" for name, (before, after) in self._highest().items())
        return f"highest of the second quarter -> of the last: {', '.join(pairs)}"

    def _highest(self) -> dict[str, tuple[int, int]]:
        return {
            "descriptors": self.highest(lambda sample: sample.descriptors),
            "threads": self.highest(lambda sample: sample.threads),
            "zombies": self.highest(lambda sample: sample.zombies),
            "database bytes": self.highest(lambda sample: sample.database),
            "state folder bytes": self.highest(lambda sample: sample.output),
        }

    def faults(self) -> list[str]:
        """The figures that do not hold."""
        found = self._highest()
        (open_before, open_after), (before, after) = found["descriptors"], found["database bytes"]
        return [
            *([] if self.memory_slope() < MEMORY_SLOPE else ["memory grows"]),
            *(["descriptors grow"] if open_after > open_before + DESCRIPTORS else []),
            *(["the database grows"] if after > before * GROWTH else []),
        ]


def _seconds(most: float) -> Iterator[tuple[int, float]]:
    """Second after second, each when its time has come, until so many have passed; none is made up for."""
    start: Micros = CLOCK.monotonic()
    pause = threading.Event()
    while (at := (CLOCK.monotonic() - start) / SECOND) < most:
        yield int(at), at
        following = start + (int(at) + 1) * SECOND
        pause.wait(max(0.0, (following - CLOCK.monotonic()) / SECOND))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def main() -> int:
    """`make soak`: prints its figures; ends with 1 when one of them does not hold."""
    seconds = float(os.environ.get("SOAK_SECONDS", HOUR))
    seed = int(os.environ.get("SOAK_SEED", random.randrange(2**32)))
    print(f"seed {seed}, {seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="jobrunner-soak-") as folder:
        soak = Soak(Path(folder), seconds, random.Random(seed), tell=lambda line: print(line, flush=True))
        soak.run()
    print(*soak.report(), sep="\n")
    faults = soak.faults()
    print(*(faults or ["all figures hold"]), sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
