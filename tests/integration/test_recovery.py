"""What a killed supervisor left, and what the next one makes of it."""

from __future__ import annotations

from jobrunner.model import Run, State
from jobrunner.storage import RunFilter
from tests.drills.checker import client, enqueue, finished
from tests.live import LiveSupervisor, Project
from tests.stage import processes_of_run

FILE = """
tasks:
  held:
    command: |
      trap '' TERM
      while [ ! -e go ]; do sleep 0.05; done
    kill_after: 1s
  once: {command: "while [ ! -e go ]; do sleep 0.05; done", on_interrupt: fail, on_failure: [page]}
  fragile: {command: "while [ ! -e go ]; do sleep 0.05; done", max_crashes: 1, on_failure: [page]}
  page: {command: 'echo "$JOBRUNNER_FAILED_TASK $JOBRUNNER_FAILED_REASON" >> pages'}
"""


def begun(project: Project, *tasks: str) -> tuple[LiveSupervisor, list[str]]:
    """A supervisor, and a run of each of these tasks that executes until there is a file `go`."""
    project.write(FILE)
    supervisor = project.start("--log-level", "debug")
    with client(project) as storage:
        ids = [enqueue(storage, task, [{}])[0] for task in tasks]
    for run_id in ids:
        supervisor.wait_for("started", run=run_id)
    return supervisor, ids


def runs_of(project: Project, task: str) -> list[Run]:
    with client(project) as storage:
        return storage.runs(RunFilter(tasks=(task,)))


def test_what_a_dead_supervisor_left_is_ended_before_its_run_goes_on(project: Project) -> None:
    # rule 32; a command outlives its supervisor's kill -9
    first, [run_id] = begun(project, "held")
    first.kill()
    left = processes_of_run(run_id)
    assert left
    second = project.start("--log-level", "debug")
    assert second.wait_for("recovered")["requeued"] == 1
    second.wait_for("started", run=run_id, attempt=2)
    assert not left & processes_of_run(run_id)
    project.write("", "go")
    with client(project) as storage:
        [run] = finished(storage, [run_id])
    assert (run.state, run.attempt, run.crashes, run.failures) == (State.SUCCEEDED, 2, 1, 0)


def test_recovery_fails_what_may_start_only_once_and_what_crashed_too_often(project: Project) -> None:
    # rule 15, with their callbacks
    first, ids = begun(project, "once", "fragile")
    first.kill()
    project.start()
    with client(project) as storage:
        once, fragile = finished(storage, ids)
        finished(storage, [run.id for run in runs_of(project, "page")])
    assert (once.state, once.reason) == (State.FAILED, "interrupted")
    assert (fragile.state, fragile.reason) == (State.FAILED, "too many crashes")
    pages = (project.folder / "pages").read_text().splitlines()
    assert sorted(pages) == ["fragile too many crashes", "once interrupted"]


def test_a_run_that_was_being_cancelled_is_cancelled_by_recovery(project: Project) -> None:
    first, [run_id] = begun(project, "held")
    assert project.jobrunner("cancel", run_id).returncode == 0
    first.kill()
    project.start()
    with client(project) as storage:
        [run] = finished(storage, [run_id])
    assert (run.state, run.reason, run.attempt) == (State.CANCELLED, "cancelled", 1)
    assert processes_of_run(run_id) == set()


def test_a_stand_by_takes_over_what_was_running(project: Project) -> None:
    # rules 31 and 32
    first, [run_id] = begun(project, "held")
    second = project.start(ready=False)
    second.wait_for("standing-by")
    first.kill()
    assert second.wait_for("recovered")["requeued"] == 1
    project.write("", "go")
    with client(project) as storage:
        [run] = finished(storage, [run_id])
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)


def test_a_stand_by_ends_when_it_is_asked_to(project: Project) -> None:
    # rule 29, before it ever worked
    project.write(FILE)
    first = project.start()
    second = project.start(ready=False)
    second.wait_for("standing-by")
    assert second.stop() == 0
    assert first.process.poll() is None


def test_an_end_in_order_leaves_nothing_to_recover(project: Project) -> None:
    project.write(FILE)
    assert project.start().stop() == 0
    second = project.start()
    assert second.stop() == 0
    assert not any(event["event"] == "recovered" for event in second.events)
