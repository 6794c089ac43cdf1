"""Drain no-op callables through a real supervisor on SQLite; with --huey, through huey's consumer as well.

    python -m benchmarks.drain [--runs 20000] [--repeat 3] [--huey]

The clock runs from the start of the first run to the end of the last one, as their rows say: starting
interpreters and compiling the file are left out on both sides. CPU is that of the supervisor's own process,
as the kernel counts it; what a supervisor with nothing to do takes is subtracted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jobrunner.birth import new_run
from jobrunner.clock import SystemClock
from jobrunner.ids import new_id
from jobrunner.model import Trigger
from jobrunner.storage import open_storage

FILE = """
pools:
  default: {kind: process, slots: 2}
tasks:
  nothing: {call: "nothing:nothing"}
"""
MODULE = "def nothing():\n    return 1  # huey does not store a None\n"


class Drained(NamedTuple):
    """One repetition."""

    runs: int
    seconds: float
    cpu: float | None  # seconds of the supervisor; None: not measured


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="drain no-op callables, print runs per second")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--huey", action="store_true", help="compare with huey, if it is installed")
    given = parser.parse_args(arguments)
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    print(f"{given.runs} no-op calls, median of {given.repeat} (least to most)\n")
    ours = measured(lambda folder: drain(folder, given.runs), given.repeat)
    show("jobrunner: WAL, synchronous=FULL, results stored, 2 process slots", ours)
    if given.huey:
        compare(ours, given.runs, given.repeat)


def measured(drain_once: Callable[[Path], Drained], repeat: int) -> list[Drained]:
    return [in_new_folder(drain_once) for _ in range(repeat)]


def in_new_folder(drain_once: Callable[[Path], Drained]) -> Drained:
    with tempfile.TemporaryDirectory(prefix="jobrunner-drain-") as folder:
        return drain_once(Path(folder))


def show(name: str, found: Sequence[Drained]) -> None:
    rates = sorted(each.runs / each.seconds for each in found)
    print(f"{name}\n  {statistics.median(rates):,.0f} runs/s ({rates[0]:,.0f} to {rates[-1]:,.0f})")
    costs = sorted(each.cpu / each.runs * 1e6 for each in found if each.cpu is not None)
    if costs:
        middle = statistics.median(costs)
        print(f"  {middle:.1f} us of supervisor CPU per run ({costs[0]:.1f} to {costs[-1]:.1f})")


# --- jobrunner ------------------------------------------------------------------------------------


def drain(folder: Path, runs: int) -> Drained:
    file, database = folder / "jobs.yaml", folder / ".jobrunner/jobs.db"
    file.write_text(FILE)
    (folder / "nothing.py").write_text(MODULE)
    idle = serve(file)  # publishes the catalogue; nothing is queued yet
    fill(f"sqlite:///{database}", runs)
    cpu = serve(file) - idle
    return Drained(runs, span(database, runs), cpu)


def serve(file: Path) -> float:
    """Run the supervisor until nothing is left to do; the CPU seconds of its own process."""
    command = [sys.executable, "-m", "jobrunner", "run", str(file), "--drain", "--log-level", "error"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
    assert process.returncode == 0, f"the supervisor ended with {process.returncode}"
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime + stime: fields 14 and 15


def fill(url: str, runs: int) -> None:
    storage, now = open_storage(url), SystemClock().now()
    entry = storage.entry("nothing")
    assert entry is not None
    storage.add(
        [
            new_run(entry, run_id=new_id(now), trigger=Trigger.ENQUEUE, now=now, due_at=now)
            for _ in range(runs)
        ]
    )
    storage.close()


def span(database: Path, runs: int) -> float:
    """Seconds from the first start to the last end."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        done, first, last = connection.execute(
            "select count(*), min(started_at), max(finished_at) from runs where state = 'succeeded'"
        ).fetchone()
    assert done == runs, f"{done} of {runs} succeeded"
    return float(last - first) / 1e6


# --- huey -----------------------------------------------------------------------------------------

HUEY = """
import itertools, os, sys, threading, time
from huey import SqliteHuey
from huey.signals import SIGNAL_COMPLETE

file, runs, workers, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), eval(sys.argv[4])
huey = SqliteHuey(filename=file, **options)
counter, done = itertools.count(1), threading.Event()

@huey.task()
def nothing():
    return 1

@huey.signal(SIGNAL_COMPLETE)
def completed(signal, task):
    if next(counter) == runs:
        done.set()

for _ in range(runs):
    nothing()
consumer = huey.create_consumer(workers=workers, periodic=False)
began = time.perf_counter()
consumer.start()
done.wait()
print(time.perf_counter() - began, flush=True)
os._exit(0)
"""


def compare(ours: Sequence[Drained], runs: int, repeat: int) -> None:
    if importlib.util.find_spec("huey") is None:
        print("\nhuey is not installed here: nothing to compare with")
        return
    for options in ("{}", "{'fsync': False}"):
        for workers in (1, 4):
            found = measured(partial(drain_huey, runs=runs, workers=workers, options=options), repeat)
            show(f"\nhuey: SqliteHuey({options}), results stored, {workers} thread(s)", found)
            ratios = [a.runs / a.seconds / (b.runs / b.seconds) for a, b in zip(ours, found, strict=True)]
            print(f"  jobrunner is at {statistics.median(ratios):.1f} times this rate")


def drain_huey(folder: Path, *, runs: int, workers: int, options: str) -> Drained:
    command = [sys.executable, "-c", HUEY, str(folder / "huey.db"), str(runs), str(workers), options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return Drained(runs, float(done.stdout), None)


if __name__ == "__main__":
    main()
