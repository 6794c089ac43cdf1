"""All targets beside their peers, in one run; the results go to docs/benchmarks.md.

    python -m benchmarks.suite [--quick] [--only P1,P3] [--no-docs]

The peers are installed at pinned versions into an environment of their own (.venv-bench). Redis and
PostgreSQL are started here, on free loopback ports, and ended again. A run on a machine that does something
else meanwhile shows it by the distance between least and most.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import report, rivals, servers
from benchmarks.contests import (
    Contests,
    Sizes,
    commands,
    doors,
    drain,
    enqueue,
    idle,
    latency,
    lateness,
    scale,
)
from benchmarks.measure import Contest, Missing, Outcome, hold, load, save

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
FULL: tuple[Contests, ...] = (
    drain.contests,
    enqueue.contests,
    latency.contests,
    lateness.contests,
    idle.contests,
    commands.contests,
    doors.contests,
    scale.contests,
)
QUICK: tuple[Contests, ...] = (
    drain.contests,
    enqueue.contests,
    latency.contests,
    commands.contests,
    doors.contests,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="every target beside its peers")
    parser.add_argument("--quick", action="store_true", help="P1, P3, P4, P7, P8, under five minutes")
    parser.add_argument("--only", default="", help="targets, by comma: P1,P3")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-docs", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    rivals.make_environment()
    sizes = Sizes(is_quick=given.quick, repeat=2 if given.quick else given.repeat)
    wanted = {each.strip().upper() for each in given.only.split(",") if each.strip()}
    outcomes = measure(sizes, wanted)
    name = "quick" if given.quick else "full"
    report.show(outcomes, before=_before(RESULTS / f"{name}.json"))
    if not given.no_docs and not wanted:
        save(RESULTS / f"{name}.json", machine(), outcomes)
        if not given.quick:
            report.write(ROOT / "docs", machine(), outcomes)


def _before(path: Path) -> list[Outcome]:
    return load(path)[1] if path.exists() else []


def measure(sizes: Sizes, wanted: set[str]) -> list[Outcome]:
    """Hold every contest that is wanted (none named: all)."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobrunner-bench-")))
        running = _servers(scratch, stack)
        found = [each for make in (QUICK if sizes.is_quick else FULL) for each in make(sizes, running)]
        chosen = [each for each in found if not wanted or each.target in wanted]
        return [_held(contest, scratch) for contest in chosen]


def _servers(scratch: Path, stack: ExitStack) -> dict[str, str]:
    running: dict[str, str] = {}
    for name, start in (("REDIS", servers.redis), ("POSTGRES", servers.postgres)):
        folder = scratch / name.lower()
        folder.mkdir()
        with contextlib.suppress(Missing):
            running[name] = stack.enter_context(start(folder))
    return running


def _held(contest: Contest, scratch: Path) -> Outcome:
    began = time.monotonic()
    print(f"{contest.target:4} {contest.name} ...", end="", flush=True)
    result = hold(contest, _folders(scratch))
    print(f" {time.monotonic() - began:.0f} s", flush=True)
    return result


def _folders(scratch: Path) -> Callable[[], Path]:
    numbers: Iterator[int] = itertools.count(1)
    made: list[Path] = []

    def new() -> Path:
        while made:  # a million rows here and there would fill the disk
            shutil.rmtree(made.pop(), ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"turn{next(numbers)}-", dir=scratch))
        made.append(folder)
        return folder

    return new


def machine() -> dict[str, str]:
    """What the figures were measured on; no name of it."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
        "system": f"Linux {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }


if __name__ == "__main__":
    main()
