"""Where the supervisor's processor time of a no-op run goes, by stage, under load.

    python -m benchmarks.stages [--runs 20000] [--backend redis://...]

A supervisor drains no-op functions while Python's own profiler counts the processor time of its two threads.
The profiler makes what is written in Python look dearer than what is written in C: the shares say where to
look, and `benchmarks.drain` says what a run costs without it.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.drain import MODULE, fill
from jobrunner.cli import main as command_line
from jobrunner.loop import EventLoop
from jobrunner.service import Service

FILE = """
{backend}
pools: {{default: {{kind: process, slots: 2}}}}
tasks: {{nothing: {{call: "nothing:nothing"}}}}
"""


class Stage(NamedTuple):
    """What a function and all below it do; `but` stands in a line of its own."""

    words: str
    thread: str  # loop | storage
    function: str  # the end of "file:function"
    but: str = ""


STAGES = (
    Stage("answers of workers read", "loop", "member.py:take_lines", but="dispatcher.py:ended"),
    Stage("ends decided, and told to listeners", "loop", "dispatcher.py:ended"),
    Stage("calls built of claims", "loop", "dispatcher.py:_admit"),
    Stage("calls sent to workers", "loop", "pool.py:start"),
    Stage("the rest of the loop", "loop", "loop.py:run", but="*"),
    Stage("ends written", "storage", "settles.py:settle_all"),
    Stage("claims read and chosen", "storage", "claims.py:choose"),
    Stage("claims written", "storage", "claims.py:take"),
    Stage("begin and commit", "storage", "database.py:writing"),
    Stage("calls of a Redis server", "storage", "server.py:call"),
    Stage("the rest of the storage thread", "storage", "service.py:_serve", but="*"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="the supervisor's processor time by stage")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--backend", default="", help="another storage than SQLite: its URL, empty")
    parser.add_argument("--supervise", nargs=2, metavar=("FOLDER", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.supervise:
        sys.exit(supervise(Path(given.supervise[0]), given.supervise[1]))
    with tempfile.TemporaryDirectory(prefix="jobrunner-stages-") as folder:
        show(profiled(Path(folder), given.runs, given.backend), given.runs)


def profiled(folder: Path, runs: int, backend: str) -> dict[str, pstats.Stats]:
    """The profiles of both threads, by thread."""
    file = folder / "jobs.yaml"
    url = backend or f"sqlite:///{folder}/jobs.db"
    file.write_text(FILE.format(backend=f"backend: {url}"))
    (folder / "nothing.py").write_text(MODULE)
    serve(folder, file)  # publishes the catalogue; nothing is queued yet
    fill(url, runs)
    serve(folder, file)
    return {thread: pstats.Stats(str(folder / f"{thread}.prof")) for thread in ("loop", "storage")}


def serve(folder: Path, file: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.stages", "--supervise", str(folder), str(file)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)


def supervise(folder: Path, file: str) -> int:
    """A supervisor until nothing is left to do; each of its two threads leaves its profile in `folder`."""
    watch(EventLoop, "run", folder / "loop.prof")
    watch(Service, "_serve", folder / "storage.prof", only="storage")
    return command_line(["run", file, "--drain", "--log-level", "error"])


def watch(owner: type[Any], name: str, into: Path, *, only: str = "") -> None:
    """Profile this method from now on: it is what a thread does all the time."""
    import threading

    whole: Callable[[Any], object] = getattr(owner, name)

    def run(self: Any) -> object:
        if only and not threading.current_thread().name.startswith(only):
            return whole(self)
        profile = cProfile.Profile(time.thread_time)
        try:
            return profile.runcall(whole, self)
        finally:
            profile.dump_stats(into)

    setattr(owner, name, run)


def show(found: dict[str, pstats.Stats], runs: int) -> None:
    spent = [(stage, seconds(found[stage.thread], stage)) for stage in STAGES]
    total = sum(each for _, each in spent)
    print(f"{runs:,} no-op runs; processor time of the supervisor under the profiler, by stage\n")
    for stage, each in spent:
        if not each:
            continue  # of another storage
        print(f"  {stage.thread:8} {stage.words:40} {100 * each / total:5.1f} %  {each / runs * 1e6:6.2f} us")


def seconds(stats: pstats.Stats, stage: Stage) -> float:
    whole = cumulative(stats, stage.function)
    if stage.but == "*":
        others = [each for each in STAGES if each.thread == stage.thread and each is not stage]
        return whole - sum(seconds(stats, each) for each in others)
    return whole - (cumulative(stats, stage.but) if stage.but else 0.0)


def cumulative(stats: pstats.Stats, function: str) -> float:
    known: dict[tuple[str, int, str], tuple[Any, ...]] = stats.stats  # type: ignore[attr-defined]
    return sum(
        float(figures[3]) for (file, _, name), figures in known.items() if f"{file}:{name}".endswith(function)
    )


if __name__ == "__main__":
    main()
