"""P8 and P9: what a command costs before it does anything, and how long a large file takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import cli_startup, config_load, rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.crew import Crew
from benchmarks.measure import Contest, Entrant, Goal, Missing
from benchmarks.site import Site
from jobrunner.config.child import compile_in_child

HELPS = (("huey_consumer", "--help"), ("rq", "--help"), ("saq", "--help"), ("dramatiq", "--help"))
LARGE = ((1_000, 0.5), (10_000, 5.0))  # tasks, seconds
NOTICED = 1.0  # seconds
COMMANDS = ("--help", "enqueue", "status")


def above_bare(folder: Path, *, command: str, best_of: int) -> float:
    """Milliseconds of CPU above `python -c pass`."""
    (folder / "jobs.yaml").write_text(cli_startup.JOBS)
    start = [sys.executable, "-c", cli_startup.SCRIPT]
    variables = cli_startup.environment(str(folder))
    publish = [*start, "run", "--once", "--no-schedule"]
    subprocess.run(publish, cwd=folder, env=variables, capture_output=True, check=True)
    bare = cli_startup.cpu_ms([sys.executable, "-c", "pass"], str(folder), best_of)
    return cli_startup.cpu_ms([*start, *cli_startup.COMMANDS[command]], str(folder), best_of) - bare


def their_help(folder: Path, *, words: Sequence[str], best_of: int) -> float:
    bare = cli_startup.cpu_ms([rivals.binary("python"), "-c", "pass"], str(folder), best_of)
    command = [rivals.binary(words[0]), *words[1:]]
    done = subprocess.run(
        command, cwd=folder, env=rivals.surroundings(folder), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise Missing(f"{' '.join(words)} ended with {done.returncode}")
    return cli_startup.cpu_ms(command, str(folder), best_of) - bare


def load(folder: Path, *, tasks: int) -> float:
    """Seconds of wall time until the supervisor has the plan."""
    file = folder / "jobs.yaml"
    file.write_text(config_load.text_of(tasks))
    began = time.perf_counter()
    compile_in_child(str(file))
    return time.perf_counter() - began


def reload(folder: Path, *, tasks: int) -> float:
    """Seconds from an edit that adds a task until a client finds that task."""
    site = Site(folder, text="")
    text = f"backend: {site.backend}\n{config_load.text_of(tasks)}"
    site.file.write_text(text)
    with site.serving() as crew, site.storage() as storage:
        end = time.monotonic() + rivals.PATIENCE
        while storage.entry("task-0") is None:
            _pause(crew, end)
        time.sleep(2)  # the watch has begun
        beside = folder / "beside.yaml"
        beside.write_text(text + "  added: {command: echo added}\n")
        began = time.perf_counter()
        beside.rename(site.file)
        while storage.entry("added") is None:
            _pause(crew, end)
        return time.perf_counter() - began


def _pause(crew: Crew, end: float) -> None:
    crew.check()
    if time.monotonic() > end:
        raise Missing("the edit was not taken")
    time.sleep(0.005)


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    _ = servers
    best_of = 1 if sizes.is_tiny else 10
    peers = [
        Entrant(
            name=f"{words[0]} --help", settings="", attempt=partial(their_help, words=words, best_of=best_of)
        )
        for words in (HELPS[:1] if sizes.is_quick else HELPS)
    ]
    starts = [
        Contest(
            target="P8",
            name=f"jobrunner {command}: CPU above python -c pass",
            unit="ms",
            goal=Goal(text="<= 90 ms", bound=90.0),
            entrants=[
                Entrant(
                    name="jobrunner",
                    settings=f"the best of {best_of}",
                    attempt=partial(above_bare, command=command, best_of=best_of),
                    is_ours=True,
                ),
                *(peers if command == "--help" else []),
            ],
            more_is_better=False,
            repeat=1,
        )
        for command in COMMANDS
    ]
    if sizes.is_quick:
        return starts
    large = LARGE[:1] if sizes.is_tiny else LARGE
    loads = [
        Contest(
            target="P9",
            name=f"load and validate {tasks:,} tasks, in a child",
            unit="s",
            goal=Goal(text=f"<= {bound:g} s", bound=bound),
            entrants=[
                Entrant(name="jobrunner", settings="", attempt=partial(load, tasks=tasks), is_ours=True)
            ],
            more_is_better=False,
            repeat=sizes.repeat,
        )
        for tasks, bound in large
    ]
    return [*starts, *loads, *(_reload(tasks, bound) for tasks, bound in large)]


def _reload(tasks: int, bound: float) -> Contest:
    mine = Entrant(name="jobrunner", settings="", attempt=partial(reload, tasks=tasks), is_ours=True)
    return Contest(
        target="P9",
        name=f"one edit in a file of {tasks:,} tasks, until clients know it",
        unit="s",
        goal=Goal(text=f"<= {bound + NOTICED:g} s", bound=bound + NOTICED),
        entrants=[mine],
        more_is_better=False,
        repeat=1,
        note=f"the load itself and {NOTICED:g} s in which an edit is noticed and seen to be whole",
    )
