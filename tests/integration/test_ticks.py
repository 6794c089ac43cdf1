"""Schedules served by a real supervisor: one row per tick, across restarts and stand-by."""

from __future__ import annotations

from jobrunner.durations import SECOND
from jobrunner.model import Run, State
from jobrunner.storage import RunFilter
from tests.drills.checker import client
from tests.live import LiveSupervisor, Project

EACH_SECOND = """
tasks:
  beat: {command: "true", schedule: every 1s}
"""


def ticks(project: Project) -> list[Run]:
    with client(project) as storage:
        return [run for run in storage.runs(RunFilter(limit=1000)) if run.tick is not None]


def wait_for_ticks(supervisor: LiveSupervisor, count: int) -> None:
    """Wait until this many attempts have ended."""
    seen: set[str] = set()
    while len(seen) < count:
        event = supervisor.wait_for_next("attempt", seen)
        seen.add(event["run"])


def test_each_tick_is_one_row_across_a_restart(project: Project) -> None:
    # rules 6, 7 and 11: no tick before the first deployment, none twice, none left out
    project.write(EACH_SECOND)
    for _ in range(2):
        supervisor = project.start()
        wait_for_ticks(supervisor, 3)
        assert supervisor.stop() == 0
    rows = sorted(run.tick or 0 for run in ticks(project))
    assert len(rows) >= 6
    assert rows == list(range(rows[0], rows[-1] + SECOND, SECOND))


def test_a_second_supervisor_stands_by_and_takes_over(project: Project) -> None:
    # rules 31 and 32
    project.write(EACH_SECOND)
    first = project.start()
    wait_for_ticks(first, 1)
    second = project.start(ready=False)
    second.wait_for("standing-by")
    first.kill()
    second.wait_for("ready")
    wait_for_ticks(second, 2)
    second.stop()
    rows = sorted(run.tick or 0 for run in ticks(project))
    assert len(rows) == len(set(rows))


def test_a_tick_that_finds_an_earlier_run_is_skipped_and_names_it(project: Project) -> None:
    # rule 8
    project.write("""
tasks:
  slow: {command: sleep 2.5, schedule: every 1s}
""")
    supervisor = project.start()
    supervisor.wait_for("skipped", task="slow", reason="overlap")
    supervisor.stop()
    rows = ticks(project)
    [skipped, *_] = [run for run in rows if run.state is State.SKIPPED]
    assert skipped.reason == "overlap"
    assert skipped.detail is not None
    assert any(run.id in skipped.detail for run in rows if run.state is not State.SKIPPED)


def test_once_does_what_is_due_and_ends(project: Project) -> None:
    project.write("""
tasks:
  at-boot: {command: echo booted, schedule: reboot}
  later: {command: "true", schedule: every 1w}
""")
    supervisor = project.start("--once", ready=False)
    assert supervisor.wait() == 0
    supervisor.wait_for("attempt", task="at-boot", state="succeeded")
    again = project.start("--once", ready=False)
    assert again.wait() == 0
    # rule 11: reboot fires once per boot
    assert [run.task for run in ticks(project)] == ["at-boot"]


def test_drain_ends_when_nothing_is_queued_retrying_or_running(project: Project) -> None:
    project.write("""
tasks:
  flaky: {command: "test $JOBRUNNER_ATTEMPT -ge 2", retries: {max: 3, delay: 200ms}, schedule: reboot}
""")
    assert project.start("--drain", ready=False).wait() == 0
    [run] = ticks(project)
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)
