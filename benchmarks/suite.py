"""All targets beside their peers, in one run; the results go to docs/benchmarks.md.

    python -m benchmarks.suite [--quick | --tiny] [--only P1,P3] [--fresh] [--no-docs]

The peers are installed at pinned versions into an environment of their own (.venv-bench). Redis and
PostgreSQL are started here, on free loopback ports, and ended again. A run that is cut short goes on where
it was (`--fresh`: from the beginning); `--only` measures some targets again and leaves the rest of the record
as it is. `--tiny` does everything once with very little: whether it all works, not how fast it is.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import itertools
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks import record, report, rivals, servers
from benchmarks.contests import (
    FULL,
    QUICK,
    TINY,
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
from benchmarks.measure import Contest, Missing, Outcome, hold
from benchmarks.record import Record

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
IN_QUICK: tuple[Contests, ...] = (
    drain.contests,
    enqueue.contests,
    latency.contests,
    commands.contests,
    doors.contests,
)
IN_FULL: tuple[Contests, ...] = (*IN_QUICK, lateness.contests, idle.contests, scale.contests)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="every target beside its peers")
    parser.add_argument("--quick", action="store_true", help="P1, P3, P4, P7, P8, under five minutes")
    parser.add_argument("--tiny", action="store_true", help="everything once, with very little")
    parser.add_argument("--only", default="", help="targets, by comma: P1,P3")
    parser.add_argument("--fresh", action="store_true", help="forget what a run that was cut short measured")
    parser.add_argument("--repeat", type=int, help="repetitions of each entrant, instead of three")
    parser.add_argument("--no-docs", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else TINY if given.tiny else FULL
    is_full = sizes is FULL
    sizes = replace(sizes, repeat=given.repeat or sizes.repeat)
    wanted = frozenset(each.strip().upper() for each in given.only.split(",") if each.strip())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and peers are ended on the way out
    as_installed()
    rivals.make_environment()
    run(sizes, wanted, is_fresh=given.fresh, is_recorded=is_full and not given.no_docs)


def as_installed() -> None:
    """Let our programs start as installed ones do: settings of this shell aside, their modules compiled."""
    for name in [each for each in os.environ if each.startswith(("JOBRUNNER_", "PYTHON"))]:
        if name != "JOBRUNNER_BENCH_VENV":
            del os.environ[name]
    compileall.compile_dir(ROOT / "jobrunner", quiet=1)
    compileall.compile_dir(ROOT / "benchmarks", quiet=1)


def run(sizes: Sizes, wanted: frozenset[str], *, is_fresh: bool, is_recorded: bool) -> None:
    """Hold the contests, print the table, and (`is_recorded`) write the record and its page."""
    under_way, last = RESULTS / f"{sizes.name}.under-way.json", RESULTS / f"{sizes.name}.json"
    if is_fresh:
        under_way.unlink(missing_ok=True)
    so_far = record.resumed(under_way, machine())
    before = record.load(last)
    with ExitStack() as stack:
        contests, scratch = _prepared(sizes, stack)
        _hold_all(
            [each for each in contests if not wanted or each.target in wanted], scratch, so_far, under_way
        )
    report.show(list(so_far.outcomes.values()), before=list(before.outcomes.values()))
    if is_recorded or sizes.is_quick:
        order = [(each.target, each.name) for each in contests]
        record.save(last, before.merged(so_far, order))
    if is_recorded:
        report.write(ROOT / "docs", record.load(last))
    under_way.unlink(missing_ok=True)


def _prepared(sizes: Sizes, stack: ExitStack) -> tuple[list[Contest], Path]:
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobrunner-bench-")))
    running = _servers(scratch, stack)
    makers = IN_QUICK if sizes.is_quick else IN_FULL
    found = [contest for make in makers for contest in make(sizes, running)]
    return sorted(found, key=lambda each: int(each.target[1:])), scratch


def _hold_all(contests: Sequence[Contest], scratch: Path, so_far: Record, under_way: Path) -> None:
    folders = _folders(scratch)
    for contest in contests:
        key = contest.target, contest.name
        if key in so_far.outcomes:
            print(f"{contest.target:4} {contest.name}: held before", flush=True)
            continue
        so_far.outcomes[key] = _held(contest, folders)
        record.save(under_way, so_far)


def _servers(scratch: Path, stack: ExitStack) -> dict[str, str]:
    running: dict[str, str] = {}
    for name, start in (("REDIS", servers.redis), ("POSTGRES", servers.postgres)):
        folder = scratch / name.lower()
        folder.mkdir()
        with contextlib.suppress(Missing):
            running[name] = stack.enter_context(start(folder))
    return running


def _held(contest: Contest, folders: Callable[[], Path]) -> Outcome:
    began = time.monotonic()
    print(f"{contest.target:4} {contest.name} ...", end="", flush=True)
    result = replace(hold(contest, folders), held_at=time.strftime("%Y-%m-%d %H:%M"))
    print(f" {time.monotonic() - began:.0f} s: {report.verdict(result)}", flush=True)
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
    """What the figures were measured on, and of which sources; no name of the machine."""
    return {
        "cores": str(os.cpu_count()),
        "system": f"Linux {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **servers.versions(),
        "sources": _sources(),
    }


def _sources() -> str:
    """The last commit that changed the program, and a + where it was changed since."""
    git = ["git", "-C", str(ROOT)]
    last = [*git, "log", "-1", "--format=%h", "--", "jobrunner"]
    done = subprocess.run(last, capture_output=True, text=True, check=False)
    clean = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "jobrunner"], check=False).returncode == 0
    return (done.stdout.strip() or "unknown") + ("" if clean else "+")


if __name__ == "__main__":
    main()
