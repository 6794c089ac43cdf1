"""D6, D7: SIGTERM while slots are busy, shorter and longer than the deadline; a second signal; a storm."""

from __future__ import annotations

import signal

import pytest

from jobrunner.durations import SECOND
from jobrunner.model import State
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
