"""D6, D7: SIGTERM while slots are busy, shorter and longer than the deadline; a second signal; a storm."""

from __future__ import annotations

import signal

import pytest

from jobrunner.durations import SECOND
from jobrunner.model import State
from jobrunner.storage import RunFilter
from tests.drills.checker import CLOCK, client, enqueue, finished
from tests.live import LiveSupervisor, Project

FILE = """
shutdown_timeout: {patience}
pools:
  commands: {{slots: 8}}
tasks:
  slow:
    command: |
      echo $$ >> begun
      sleep {seconds} & wait
    kill_after: 1s
  stubborn:
    command: |
      trap '' TERM
      echo $$ >> begun
      while :; do sleep 1; done
    kill_after: 1s
"""


GATED = """
shutdown_timeout: 60s
pools:
  commands: {slots: 8}
tasks:
  gated: {command: "until [ -e gate ]; do sleep 0.05; done", on_success: [told], kill_after: 1s}
  told: {command: "true"}
"""


def all_begun(project: Project, supervisor: LiveSupervisor, task: str, count: int = 8) -> list[str]:
    """Enqueue runs and wait until each of them executes."""
    with client(project) as storage:
        ids = enqueue(storage, task, [{}] * count)
    for run_id in ids:
        supervisor.wait_for("started", run=run_id)
    return ids


def start(project: Project, *, patience: str, seconds: str = "60") -> LiveSupervisor:
    project.write(FILE.format(patience=patience, seconds=seconds))
    return project.start("--log-level", "debug")


def states(project: Project, ids: list[str]) -> list[State]:
    with client(project) as storage:
        return [storage.run(run_id).state for run_id in ids]


@pytest.mark.drill
def test_runs_shorter_than_the_deadline_finish(project: Project) -> None:
    # rule 29
    supervisor = start(project, patience="60s", seconds="2")
    ids = all_begun(project, supervisor, "slow")
    assert supervisor.stop() == 0
    assert states(project, ids) == [State.SUCCEEDED] * 8


@pytest.mark.drill
def test_runs_longer_than_the_deadline_are_queued_again(project: Project, full_drills: bool) -> None:
    # rules 15 and 29: interrupted, not failed; no retry is used up
    supervisor = start(project, patience="300ms")
    ids = all_begun(project, supervisor, "slow")
    began = CLOCK.monotonic()
    assert supervisor.stop() == 0
    took = CLOCK.monotonic() - began
    assert states(project, ids) == [State.QUEUED] * 8
    with client(project) as storage:
        assert [attempt.outcome for attempt in storage.attempts(ids[0])] == ["interrupted"]
        assert storage.run(ids[0]).failures == 0
    print(f"stopped after {took / SECOND:.2f} s, wanted: 3.3 s")
    if full_drills:  # shutdown_timeout + kill_after + 2 s: to hold on a machine that does nothing else
        assert took <= 3.3 * SECOND


@pytest.mark.drill
def test_what_ignores_the_signal_is_killed_and_queued_again(project: Project) -> None:
    # rules 14 and 29
    supervisor = start(project, patience="300ms")
    ids = all_begun(project, supervisor, "stubborn", count=2)
    assert supervisor.stop() == 0
    assert states(project, ids) == [State.QUEUED] * 2


@pytest.mark.drill
def test_a_second_signal_ends_it_at_once(project: Project, full_drills: bool) -> None:
    # rule 29: a second signal shortens the end
    supervisor = start(project, patience="10m")
    ids = all_begun(project, supervisor, "stubborn", count=4)
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.wait_for("stopping")
    began = CLOCK.monotonic()
    assert supervisor.insist(signal.SIGINT) == 0
    took = CLOCK.monotonic() - began
    assert states(project, ids) == [State.QUEUED] * 4
    print(f"stopped {took / SECOND:.2f} s after the second signal, wanted: 2 s and its own end")
    if full_drills:
        assert took <= 2.5 * SECOND


@pytest.mark.drill
def test_signals_of_one_instant_are_one_wish(project: Project) -> None:
    # rule 29: what signals a process and then its group as well has not lost its patience
    supervisor = start(project, patience="60s", seconds="2")
    ids = all_begun(project, supervisor, "slow", count=2)
    supervisor.process.send_signal(signal.SIGSTOP)  # so that both are there when it looks, however late
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        supervisor.process.send_signal(number)
    assert supervisor.wait() == 0
    assert states(project, ids) == [State.SUCCEEDED] * 2


@pytest.mark.drill
def test_a_storm_of_signals_leaves_no_traceback(project: Project) -> None:
    supervisor = start(project, patience="10m")
    all_begun(project, supervisor, "slow", count=2)
    for _ in range(50):
        if supervisor.process.poll() is None:
            supervisor.process.send_signal(signal.SIGTERM)
    supervisor.wait_for("stopping")
    assert supervisor.insist() == 0  # the kernel may have made one of them all
    assert supervisor.words == []  # every line of the log was one of ours


@pytest.mark.drill
def test_what_was_interrupted_goes_on_at_the_next_start(project: Project) -> None:
    # rule 15
    supervisor = start(project, patience="200ms", seconds="60")
    ids = all_begun(project, supervisor, "slow", count=3)
    supervisor.stop()
    start(project, patience="200ms", seconds="0.1")
    with client(project) as storage:
        assert [run.state for run in finished(storage, ids)] == [State.SUCCEEDED] * 3
        assert [run.crashes for run in finished(storage, ids)] == [0] * 3


@pytest.mark.drill
def test_callbacks_of_the_last_completions_are_enqueued_and_the_drain_is_shown(project: Project) -> None:
    # rule 29
    project.write(GATED)
    supervisor = project.start("--log-level", "debug")
    ids = all_begun(project, supervisor, "gated")
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.wait_for("stopping")
    [told] = [each for each in project.answer("status")["supervisors"] if each["alive"]]
    assert told["draining"] is True
    assert "stopping" in project.jobrunner("status").stdout
    waits = project.answer("enqueue", "told")["id"]  # accepted, and left for the next start
    (project.folder / "gate").touch()
    assert supervisor.wait() == 0
    with client(project) as storage:
        assert {storage.run(run_id).state for run_id in ids} == {State.SUCCEEDED}
        queued = storage.runs(RunFilter(tasks=("told",), limit=100))
    assert len(queued) == 9
    assert {run.state for run in queued} == {State.QUEUED}
    project.start()
    with client(project) as storage:
        assert {run.state for run in finished(storage, [waits, *(run.id for run in queued)])} == {
            State.SUCCEEDED
        }


@pytest.mark.drill
def test_a_restart_in_the_middle_of_eight_busy_slots_loses_nothing(project: Project) -> None:
    # rules 15 and 29: what `systemctl restart` does
    project.write(GATED.replace("60s", "100ms"))
    first = project.start("--log-level", "debug")
    assert first.wait_for("ready")["silence"] is None
    ids = all_begun(project, first, "gated")
    assert first.stop() == 0
    (project.folder / "gate").touch()
    second = project.start()
    silence = second.wait_for("ready")["silence"]
    assert silence is not None
    assert silence >= 0
    print(f"nobody scheduled for {silence:.2f} s, and `status` says so")
    assert "without one" in project.jobrunner("status").stdout
    with client(project) as storage:
        runs = finished(storage, ids)
    assert {(run.state, run.crashes, run.failures) for run in runs} == {(State.SUCCEEDED, 0, 0)}


@pytest.mark.drill
def test_signals_that_are_meant_for_others_end_nobody(project: Project) -> None:
    # F09
    project.write(GATED)
    supervisor = project.start("--log-level", "debug")
    [run_id] = all_begun(project, supervisor, "gated", count=1)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGCHLD, signal.SIGCONT) * 20:
        supervisor.process.send_signal(number)
    (project.folder / "gate").touch()
    assert supervisor.wait_for("attempt", run=run_id)["state"] == "succeeded"
    assert supervisor.process.poll() is None
    assert supervisor.words == []
