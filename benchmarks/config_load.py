"""How long a large jobs.yaml takes to compile: in this process, phase by phase, and in a child."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from jobrunner.config.child import compile_in_child
from jobrunner.config.compile import compile_file
from jobrunner.config.load import load_nodes
from jobrunner.config.problems import Findings

REPETITIONS = 3
TASK = """\
  task-{i}:
    description: Task number {i}
    command: /usr/bin/env true {i}
    schedule: "{minute} {hour} * * *"
    timeout: 1h
    retries: {{max: 3, delay: 10s}}
    env: {{NUMBER: {i}, VERSION: 3.10}}
    lock: database
    priority: {priority}
"""


def text_of(tasks: int) -> str:
    """A file with so many different tasks."""
    parts = (TASK.format(i=i, minute=i % 60, hour=i // 60 % 24, priority=i % 10) for i in range(tasks))
    return "".join(["timezone: Europe/Paris\nlocks: {database: {slots: 4}}\ntasks:\n", *parts])


def best(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of the quickest repetition."""
    times = []
    for _ in range(REPETITIONS):
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(times)


def nodes_of(text: str) -> None:
    """The nodes alone, with the collector off, as `compile_file` reads them."""
    gc.disable()
    try:
        load_nodes(text, "jobs.yaml", Findings())
    finally:
        gc.enable()


def measure(path: Path, tasks: int) -> None:
    """Print the figures of one size."""
    text = text_of(tasks)
    path.write_text(text, encoding="utf-8")
    nodes = best(lambda: nodes_of(text))
    whole = best(lambda: compile_file(str(path), environ=os.environ))
    child = best(lambda: compile_in_child(str(path)))
    size = len(text) / 1e6
    print(f"{tasks:>7,} {size:>6.2f} {nodes[0]:>9.2f} {whole[0]:>11.2f} {child[1]:>10.2f} {child[0]:>11.2f}")


def main() -> None:
    """Print a table; times in seconds, the best of a few repetitions."""
    libyaml = "with" if hasattr(yaml, "CSafeLoader") else "without"
    python = sys.version.split()[0]
    print(f"Python {python}, PyYAML {yaml.__version__} {libyaml} libyaml, {os.cpu_count()} cores")
    print("  tasks     MB nodes CPU compile CPU child wall parent CPU")
    with tempfile.TemporaryDirectory() as folder:
        for tasks in (100, 1_000, 10_000):
            measure(Path(folder) / "jobs.yaml", tasks)


if __name__ == "__main__":
    main()
