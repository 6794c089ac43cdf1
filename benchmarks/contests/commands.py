"""P7: a thousand times `true`, output captured, beside `xargs -P` and who else runs commands."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import commands, rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.measure import Contest, Entrant, Goal, Missing
from jobrunner.execution.leftovers import become_subreaper

CRON = """\
defaults:
  captureStdout: true
  concurrencyPolicy: Allow
jobs:
"""
JOB = """\
  - name: job-{number}
    schedule: "@reboot"
    command:
      - touch
      - {folder}/done/{number}
"""


def rate(folder: Path, *, slots: int, runs: int, is_ours: bool) -> float:
    _ = folder
    if is_ours:
        become_subreaper()
    return commands.rate(commands.ours if is_ours else commands.xargs, runs, slots)


def huey(folder: Path, *, slots: int, runs: int) -> float:
    peer = replace(
        rivals.HUEY_SQLITE_FAST, workers=[["huey_consumer", "huey_app.huey", "-w", str(slots), "-q", "-n"]]
    )
    rivals.new_tally(folder)
    rivals.ask(peer, folder, {}, "fill", "true", str(runs))
    with rivals.serving(peer, folder, {}) as crew:
        return rivals.until_tallied(folder, runs, crew)


def cron_like(folder: Path, *, program: str, runs: int) -> float:
    """So many jobs at its start, all at once: it knows no limit. From the first end to the last one."""
    jobs = "".join(JOB.format(number=number, folder=folder) for number in range(runs))
    (folder / "jobs.yaml").write_text(CRON + jobs)
    peer = rivals.Peer(
        name=program, settings="", app="", store="", workers=[[program, "-c", str(folder / "jobs.yaml")]]
    )
    done, end = folder / "done", time.monotonic() + rivals.PATIENCE
    done.mkdir()
    with rivals.serving(peer, folder, {}) as crew:
        while len(os.listdir(done)) < runs:
            crew.check()
            if time.monotonic() > end:
                raise Missing(f"{program} did not run {runs:,} jobs in {rivals.PATIENCE:.0f} s")
            time.sleep(0.1)
    moments = sorted(each.stat().st_mtime_ns for each in done.iterdir())
    return runs / ((moments[-1] - moments[0]) / 1e9)


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    _ = servers
    return [_of(slots, sizes) for slots in (4, 16)]


def _of(slots: int, sizes: Sizes) -> Contest:
    xargs, runs = f"xargs -P {slots}", sizes.commands
    entrants = [
        Entrant(
            name="jobrunner",
            settings="output captured, journal written",
            attempt=partial(rate, slots=slots, runs=runs, is_ours=True),
            is_ours=True,
        ),
        Entrant(
            name=xargs,
            settings="nothing kept",
            attempt=partial(rate, slots=slots, runs=runs, is_ours=False),
            is_aside=True,
        ),
        Entrant(
            name="huey + subprocess",
            settings=rivals.NO_FSYNC,
            attempt=partial(huey, slots=slots, runs=runs),
        ),
    ]
    if not sizes.is_quick and slots == 16:
        entrants += [
            Entrant(
                name=each,
                settings="output captured, no limit of slots",
                attempt=partial(cron_like, program=each, runs=runs),
            )
            for each in ("yacron", "cronstable")
        ]
    return Contest(
        target="P7",
        name=f"{runs:,} x true in {slots} slots",
        unit="commands/s",
        goal=Goal(text=">= 0.8 x xargs -P, ahead of the others", ratio=0.8, peer=xargs, is_ahead=True),
        entrants=entrants,
        repeat=sizes.repeat,
        note="yacron and cronstable run `touch`, so that the end of each can be seen" if slots == 16 else "",
    )
