"""`overlap` and `catch_up` end to end: a real supervisor, real commands, a storage that was left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise

from jobrunner.durations import MINUTE
from jobrunner.model import Run, State
from jobrunner.storage import RunFilter
from tests.drills.checker import client
from tests.live import LiveSupervisor, Project, wait_until


def runs_of(project: Project, task: str) -> list[Run]:
    """Oldest first."""
    with client(project) as storage:
        return list(reversed(storage.runs(RunFilter(tasks=(task,), limit=1000))))


def wait_for(
    supervisor: LiveSupervisor, project: Project, task: str, state: State, count: int = 1
) -> list[Run]:
    """So many runs of the task in this state, once they are there."""

    def found() -> list[Run]:
        return [run for run in runs_of(project, task) if run.state is state]

    wait_until(lambda: len(found()) >= count, supervisor.log)
    return found()


def test_queue_lets_the_newest_tick_wait_for_the_run_before_it(project: Project) -> None:
    # rule 8: `queue` lets one wait (a newer one replaces it: superseded)
    project.write("""
tasks:
  slow: {command: while test ! -e go; do sleep 0.05; done, schedule: every 1s, overlap: queue}
""")
    supervisor = project.start()
    superseded = wait_for(supervisor, project, "slow", State.CANCELLED, 2)
    assert {run.reason for run in superseded} == {"superseded"}
    assert {run.attempt for run in superseded} == {0}
    rows = runs_of(project, "slow")
    assert sum(run.state is State.WAITING for run in rows) == 1
    assert sum(run.state is State.RUNNING for run in rows) == 1
    (project.folder / "go").touch()
    first, second = wait_for(supervisor, project, "slow", State.SUCCEEDED, 2)[:2]
    assert first.finished_at is not None
    assert second.started_at is not None
    assert second.started_at >= first.finished_at


def test_replace_ends_the_running_run_without_a_retry(project: Project) -> None:
    # rule 8: `replace` ends the running one (TERM, KILL), state cancelled, reason superseded, no retries
    project.write("""
tasks:
  slow: {command: echo $$ >> began; exec sleep 60, schedule: every 1s, overlap: replace, retries: 3}
""")
    supervisor = project.start()
    ended = wait_for(supervisor, project, "slow", State.CANCELLED, 2)
    assert {run.reason for run in ended} == {"superseded"}
    assert {(run.attempt, run.outcome) for run in ended if run.attempt} == {(1, "cancelled")}
    running = [run for run in runs_of(project, "slow") if run.state is State.RUNNING]
    assert len(running) <= 1


def test_all_missed_ticks_run_one_behind_the_other(project: Project) -> None:
    # rule 9: oldest first, one behind the other, exempt from overlap, at most catch_up_limit
    project.write("""
tasks:
  each:
    command: echo "began $JOBRUNNER_SCHEDULED_AT $JOBRUNNER_MISSED" >> log; sleep 0.1; echo ended >> log
    schedule: every 10m
    catch_up: all
    catch_up_limit: 4
""")
    first = project.start()
    first.stop()
    with closing(sqlite3.connect(project.folder / ".jobrunner" / "jobs.db")) as database, database:
        database.execute("update schedules set watermark = watermark - ?", (60 * MINUTE,))
    supervisor = project.start()
    ran = wait_for(supervisor, project, "each", State.SUCCEEDED, 4)
    assert [run.trigger for run in ran] == ["catch-up"] * 4
    ticks = [run.tick or 0 for run in ran]
    assert ticks == sorted(ticks)
    assert [later - sooner for sooner, later in pairwise(ticks)] == [10 * MINUTE] * 3
    lines = (project.folder / "log").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["began", "ended"] * 4
    assert {line.split()[2] for line in lines[::2]} == {"1"}
    skipped = [run for run in runs_of(project, "each") if run.state is State.SKIPPED]
    assert {run.reason for run in skipped} == {"missed (supervisor down)"}
    assert len(skipped) in (2, 3)
