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
from benchmarks.measure import Contest, Entrant, Goal
from jobrunner.config.child import compile_in_child

COMMANDS = ("--help", "enqueue", "status")


def above_bare(folder: Path, *, command: str) -> float:
    """Milliseconds of CPU above `python -c pass`."""
    (folder / "jobs.yaml").write_text(cli_startup.JOBS)
    start = [sys.executable, "-c", cli_startup.SCRIPT]
    variables = cli_startup.environment(str(folder))
    publish = [*start, "run", "--once", "--no-schedule"]
    subprocess.run(publish, cwd=folder, env=variables, capture_output=True, check=True)
    bare = cli_startup.cpu_ms([sys.executable, "-c", "pass"], str(folder))
    return cli_startup.cpu_ms([*start, *cli_startup.COMMANDS[command]], str(folder)) - bare


def huey_help(folder: Path) -> float:
    bare = cli_startup.cpu_ms([rivals.binary("python"), "-c", "pass"], str(folder))
    return cli_startup.cpu_ms([rivals.binary("huey_consumer"), "--help"], str(folder)) - bare


def load(folder: Path, *, tasks: int) -> float:
    """Seconds of wall time until the supervisor has the plan."""
    file = folder / "jobs.yaml"
    file.write_text(config_load.text_of(tasks))
    began = time.perf_counter()
    compile_in_child(str(file))
    return time.perf_counter() - began


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    _ = servers
    help_peer = Entrant(name="huey_consumer --help", settings="", attempt=huey_help)
    starts = [
        Contest(
            target="P8",
            name=f"jobrunner {command}: CPU above python -c pass",
            unit="ms",
            goal=Goal(text="<= 90 ms", bound=90.0),
            entrants=[
                Entrant(
                    name="jobrunner",
                    settings="best of 20",
                    attempt=partial(above_bare, command=command),
                    is_ours=True,
                ),
                *([help_peer] if command == "--help" else []),
            ],
            more_is_better=False,
            repeat=1,
        )
        for command in COMMANDS
    ]
    if sizes.is_quick:
        return starts
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
        for tasks, bound in ((1_000, 0.5), (10_000, 5.0))
    ]
    return [*starts, *loads]
