"""D12: the disk is full, for 20 s in the full form. Nothing is lost, and work goes on by itself."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from jobrunner.durations import SECOND
from jobrunner.model import State
from tests.drills.checker import CLOCK, client, finished
from tests.live import Project, wait_until

SIZE = 48 * 1024 * 1024
FLOOR = SIZE // 20
FILE = """
pools: {default: {slots: 2}}
tasks:
  work: {call: "time:sleep"}
  talk: {command: "head -c 300000 /dev/zero | tr '\\\\0' x; sleep 0.1"}
"""


@pytest.fixture
def small(project: Project) -> Iterator[Project]:
    """A project on a disk of its own, of 48 MiB."""
    disk = project.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a disk to fill cannot be mounted here: {mounted.stderr.decode().strip()}")
    on_disk = replace(project, folder=disk)
    try:
        yield on_disk
        on_disk.close()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(folder: Path, *, leave: int) -> Path:
    """Take what is free, but for so many bytes."""
    path = folder / "filler"
    with suppress(OSError), path.open("ab", buffering=0) as file:  # ENOSPC
        while (more := free(folder) - leave) > 0:
            file.write(bytes(min(more, 65536)))
    return path


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.mark.drill
def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room(
    small: Project, full_drills: bool
) -> None:
    # I1, I11, rule 34
    small.write(FILE)
    supervisor = small.start()
    with client(small) as storage:
        ids = [run_of(small, *each) for each in [("work", "[0.01]"), ("talk",)] * 4]
        filler = fill(small.folder, leave=0)
        supervisor.wait_for("shortage", kind="disk")
        asked = [small.jobrunner("enqueue", "work", "--args", "[0.01]") for _ in range(3)]
        ids += [each.stdout.strip() for each in asked if each.returncode == 0]
        told = [each.stderr for each in asked]
        threading.Event().wait(20 if full_drills else 1)  # the length of the fault
        assert supervisor.process.poll() is None, supervisor.log()
        filler.unlink()
        freed = CLOCK.monotonic()
        ids.append(run_of(small, "work", "[0.01]"))
        runs = finished(storage, ids)
    took = (CLOCK.monotonic() - freed) / SECOND
    print(f"{len(ids)} runs, 0 lost; all done {took:.1f} s after there was room, to hold: 10 s")
    assert {run.state for run in runs} == {State.SUCCEEDED}
    assert all("disk" in each for each in told), told
    supervisor.wait_for("shortage-over", kind="disk")
    if full_drills:  # a figure to hold on a machine that does nothing else
        assert took <= 10


@pytest.mark.drill
def test_below_the_floor_nothing_is_claimed_and_everybody_is_told(small: Project) -> None:
    small.write(FILE)
    supervisor = small.start()
    filler = fill(small.folder, leave=FLOOR // 2)
    supervisor.wait_for("shortage", kind="disk")
    wait_until(lambda: trouble(small) is not None, supervisor.log)
    done = small.jobrunner("enqueue", "work", "--args", "[0]")
    assert done.returncode == 0, done
    assert "nothing is claimed at present; the run waits: only" in done.stderr
    assert "✗ nothing is claimed: only" in small.jobrunner("status").stdout
    run_id = done.stdout.strip()
    with client(small) as storage:
        assert storage.wait(run_id, 3.0).state is State.QUEUED
        filler.unlink()
        finished(storage, [run_id])
    wait_until(lambda: trouble(small) is None, supervisor.log)


def trouble(project: Project) -> object:
    return project.answer("status")["supervisors"][0]["trouble"]


def run_of(project: Project, task: str, args: str = "[]") -> str:
    done = project.jobrunner("enqueue", task, "--args", args)
    assert done.returncode == 0, done
    return done.stdout.strip()
