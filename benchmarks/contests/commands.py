"""P7: a thousand times `true`, output captured, beside `xargs -P` and who else runs commands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import commands, rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.measure import Contest, Entrant, Goal, Missing
from jobrunner.execution.leftovers import become_subreaper

RUNS = 1_000
CRON = """\
defaults:
  schedule: {schedule}
  captureStdout: true
  concurrencyPolicy: Allow
jobs:
"""
JOB = "  - {{name: job-{number}, command: [/bin/sh, -c, 'date +%s%N >> {folder}/done']}}\n"


def rate(folder: Path, *, slots: int, is_ours: bool) -> float:
    _ = folder
    if is_ours:
        become_subreaper()
    return commands.rate(commands.ours if is_ours else commands.xargs, RUNS, slots)


def huey(folder: Path, *, slots: int) -> float:
    peer = rivals.Peer(
        name="huey",
        settings=rivals.NO_FSYNC,
        app="huey_app",
        store="sqlite-nofsync",
        workers=[["huey_consumer", "huey_app.huey", "-w", str(slots), "-q", "-n"]],
    )
    rivals.new_tally(folder)
    rivals.ask(peer, folder, {}, "fill", "true", str(RUNS))
    with rivals.serving(peer, folder, {}):
        return rivals.until_tallied(folder, RUNS)


def cron_like(folder: Path, *, program: str) -> float:
    """A thousand jobs of one and the same minute; from the first end to the last one."""
    jobs = "".join(JOB.format(number=number, folder=folder) for number in range(RUNS))
    (folder / "jobs.yaml").write_text(CRON.format(schedule='"* * * * *"') + jobs)
    peer = rivals.Peer(
        name=program, settings="", app="", store="", workers=[[program, "-c", str(folder / "jobs.yaml")]]
    )
    done, end = folder / "done", time.monotonic() + 150
    with rivals.serving(peer, folder, {}):
        while not done.exists() or done.read_text().count("\n") < RUNS:
            if time.monotonic() > end:
                raise Missing(f"{program} did not run {RUNS:,} jobs in 150 s")
            time.sleep(0.1)
    moments = sorted(int(line) for line in done.read_text().splitlines()[:RUNS])
    return RUNS / ((moments[-1] - moments[0]) / 1e9)


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    _ = servers
    return [_of(slots, sizes) for slots in (4, 16)]


def _of(slots: int, sizes: Sizes) -> Contest:
    xargs = f"xargs -P {slots}"
    entrants = [
        Entrant(
            name="jobrunner",
            settings="output captured, journal written",
            attempt=partial(rate, slots=slots, is_ours=True),
            is_ours=True,
        ),
        Entrant(name=xargs, settings="nothing kept", attempt=partial(rate, slots=slots, is_ours=False)),
        Entrant(name="huey + subprocess", settings=rivals.NO_FSYNC, attempt=partial(huey, slots=slots)),
    ]
    if not sizes.is_quick and slots == 16:
        entrants += [
            Entrant(name=each, settings="no limit of slots", attempt=partial(cron_like, program=each))
            for each in ("yacron", "cronstable")
        ]
    return Contest(
        target="P7",
        name=f"{RUNS:,} x true in {slots} slots",
        unit="commands/s",
        goal=Goal(text=">= 0.8 x xargs -P", ratio=0.8, peer=xargs),
        entrants=entrants,
        repeat=sizes.repeat,
    )
