"""D14 on PostgreSQL: two and four supervisors side by side, one of them killed; a machine that is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import closing

import pytest

from jobrunner.durations import SECOND
from jobrunner.model import State
from jobrunner.storage.postgres.store import PostgresStorage
from tests.drills.checker import CLOCK, enqueue, finished
from tests.drills.side_by_side import side_by_side
from tests.live import COMMAND, Project, clean_environment, wait_until


@pytest.mark.drill
@pytest.mark.parametrize("supervisors", [2, 4])
def test_supervisors_side_by_side_do_each_run_and_each_tick_once(
    project: Project, postgres_url: str, full_drills: bool, supervisors: int
) -> None:  # rules 7, 15, 31, 32
    if full_drills:
        side_by_side(project, postgres_url, supervisors=supervisors, schedules=50, ticks=1_000, runs=10_000)
    else:
        side_by_side(project, postgres_url, supervisors=supervisors, schedules=10, ticks=40, runs=400)


LOST = """
backend: "{url}"
tasks:
  held:
    command: |
      echo "$JOBRUNNER_ATTEMPT" >> effects
      [ -e second ] || sleep 1000
"""


@pytest.mark.drill
def test_the_runs_of_a_lost_machine_go_on_within_its_lease(
    project: Project, postgres_url: str, full_drills: bool
) -> None:  # rules 32 and 33
    """In a pid namespace of its own the lost one is not provably dead here: its lease alone tells."""
    if not full_drills:
        pytest.skip("waits for a lease of 30 s: make drills")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare(1)")
    project.write(LOST.format(url=postgres_url))
    elsewhere = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *COMMAND, "run", str(project.file)],
        cwd=project.folder,
        env=clean_environment(project.folder),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with closing(PostgresStorage.open(postgres_url)) as storage:
            wait_until(lambda: storage.entry("held") is not None, lambda: "it does not start")
            [run_id] = enqueue(storage, "held", [{}])
            wait_until(lambda: (project.folder / "effects").exists(), lambda: "the run does not start")
            project.start()
            project.write("", "second")
            elsewhere.kill()
            lost = CLOCK.now()
            [run] = finished(storage, [run_id], patience=90)
    finally:
        elsewhere.kill()
        elsewhere.wait()
    took = ((run.finished_at or 0) - lost) / SECOND
    print(f"the run of the lost machine was done {took:.1f} s after its loss; a lease is 30 s")
    assert (run.state, run.attempt, run.crashes) == (State.SUCCEEDED, 2, 1)
    assert (project.folder / "effects").read_text() == "1\n2\n"
    assert took <= 30 + 10  # the lease, and a turn of a busy machine
