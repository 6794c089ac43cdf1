"""What a callable or a command did is what history says, and its neighbours never notice."""

from __future__ import annotations

from itertools import pairwise

import pytest

from jobrunner.model import Run, State
from tests.drills.checker import client, enqueue, finished
from tests.live import Project

TASKS = """
import ctypes, os, sys

def fine(): return "fine"
def raises(): raise ValueError("no such colour")
def exits(): sys.exit(3)
def leaves(): os._exit(3)
def segfaults(): ctypes.string_at(0)
def loops():
    while True: pass
def unstorable(): return lambda: None
def nothing(): return None
async def waits(): return [1, 2]
"""

FILE = """
defaults: {kill_after: 1s}
tasks:
  fine: {call: "odd:fine"}
  raises: {call: "odd:raises"}
  exits: {call: "odd:exits"}
  leaves: {call: "odd:leaves"}
  segfaults: {call: "odd:segfaults"}
  loops: {call: "odd:loops", timeout: 1s}
  unstorable: {call: "odd:unstorable"}
  nothing: {call: "odd:nothing"}
  waits: {call: "odd:waits"}
  wrong: {call: "odd:fine", args: [1, 2]}
  exit-3: {command: exit 3}
  killed: {command: kill -9 $$}
  sleeps: {command: sleep 60, timeout: 500ms}
  no-such-program: {command: [no-such-program]}
  tolerated: {command: exit 3, success_codes: [0, 3]}
"""

OUTCOMES = {
    "fine": (State.SUCCEEDED, "ok", None),
    "raises": (State.FAILED, "exception ValueError", None),
    "exits": (State.FAILED, "exit 3", None),
    "leaves": (State.FAILED, "exit 3", None),
    "segfaults": (State.FAILED, "crashed", "too many crashes"),
    "loops": (State.FAILED, "timeout", None),
    "unstorable": (State.FAILED, "result not storable", None),
    "nothing": (State.SUCCEEDED, "ok", None),
    "waits": (State.SUCCEEDED, "ok", None),
    "wrong": (State.FAILED, "bad arguments", None),
    "exit-3": (State.FAILED, "exit 3", None),
    "killed": (State.FAILED, "signal SIGKILL", None),
    "sleeps": (State.FAILED, "timeout", None),
    "no-such-program": (State.FAILED, "could not start", None),
    "tolerated": (State.SUCCEEDED, "ok", None),
}


@pytest.fixture
def ended(project: Project) -> dict[str, Run]:
    """One run of each task, all enqueued together with runs of a well-behaved neighbour between them."""
    project.write(TASKS, "odd.py")
    project.write(FILE)
    project.start()
    with client(project) as storage:
        neighbours: list[str] = []
        ids: list[str] = []
        for task in OUTCOMES:
            ids += enqueue(storage, task, [{}])
            neighbours += enqueue(storage, "fine", [{}])
        runs = finished(storage, ids)
        assert {run.state for run in finished(storage, neighbours)} == {State.SUCCEEDED}
        assert len(storage.attempts(runs[list(OUTCOMES).index("segfaults")].id)) == 3
    return {run.task: run for run in runs}


def test_every_end_has_its_own_outcome(ended: dict[str, Run]) -> None:
    # rules 13, 14 and 15
    assert {task: (run.state, run.outcome, run.reason) for task, run in ended.items()} == OUTCOMES
    assert ended["raises"].error is not None
    assert "no such colour" in ended["raises"].error
    assert (ended["exit-3"].exit_code, ended["leaves"].exit_code, ended["exits"].exit_code) == (3, 3, 3)
    assert ended["killed"].signal == "SIGKILL"
    assert (ended["nothing"].result, ended["waits"].result) == ("null", "[1,2]")


def test_retries_wait_their_delay_and_stop_at_success(project: Project) -> None:
    # rule 12
    project.write("""
tasks:
  flaky:
    command: test $JOBRUNNER_ATTEMPT -ge 3
    retries: {max: 5, delay: 100ms, backoff: 1, jitter: 0%}
""")
    project.start()
    with client(project) as storage:
        [run] = finished(storage, enqueue(storage, "flaky", [{}]))
        assert (run.state, run.attempt, run.failures) == (State.SUCCEEDED, 3, 2)
        attempts = storage.attempts(run.id)
        assert [each.outcome for each in attempts] == ["exit 1", "exit 1", "ok"]
        for before, after in pairwise(attempts):
            assert (after.started_at or 0) >= (before.ended_at or 0) + 100_000


def test_a_final_failure_enqueues_its_callback_with_what_happened(project: Project) -> None:
    project.write("""
tasks:
  breaks:
    command: echo deep trouble >&2; exit 9
    on_failure: [told]
  told:
    command: |
      echo "$JOBRUNNER_FAILED_TASK $JOBRUNNER_FAILED_EXIT_CODE"
      echo "$JOBRUNNER_FAILED_REASON $JOBRUNNER_FAILED_OUTPUT_TAIL"
""")
    supervisor = project.start()
    with client(project) as storage:
        finished(storage, enqueue(storage, "breaks", [{}]))
        told = supervisor.wait_for("attempt", task="told")
        [run] = finished(storage, [told["run"]])
    assert run.trigger == "callback"
    assert run.result == '"breaks 9\\nexit 9 deep trouble"'


def test_two_tasks_that_share_a_lock_never_run_at_once(project: Project) -> None:
    # rule 17
    project.write("""
locks: {door: {slots: 1}}
tasks:
  one: {command: "mkdir door && sleep 0.05 && rmdir door", lock: door}
  two: {command: "mkdir door && sleep 0.05 && rmdir door", lock: door}
""")
    project.start()
    with client(project) as storage:
        ids = [run for task in ("one", "two") * 6 for run in enqueue(storage, task, [{}])]
        assert {run.state for run in finished(storage, ids)} == {State.SUCCEEDED}


def test_higher_priorities_start_first_and_equal_ones_in_order(project: Project) -> None:
    # rule 18
    project.write("""
pools: {one: {kind: command, slots: 1}}
tasks:
  first: {command: "until test -e gate; do sleep 0.05; done", pool: one}
  low: {command: "true", pool: one}
  middle: {command: "true", pool: one, priority: 5}
  high: {command: "true", pool: one, priority: 10}
""")
    supervisor = project.start("--log-level", "debug")
    with client(project) as storage:
        [first] = enqueue(storage, "first", [{}])
        supervisor.wait_for("started", run=first)  # the only slot is taken, until the gate opens
        tasks = ("low", "middle", "high", "low", "high")
        ids = [run for task in tasks for run in enqueue(storage, task, [{}])]
        project.write("", "gate")
        runs = finished(storage, ids)
    by_start = sorted(runs, key=lambda run: run.started_at or 0)
    assert [run.task for run in by_start] == ["high", "high", "middle", "low", "low"]
    assert [run.seq for run in by_start[:2]] == sorted(run.seq for run in by_start[:2])


def test_a_run_that_did_not_start_in_time_has_expired(project: Project) -> None:
    # rule 19
    project.write("""
pools: {one: {kind: command, slots: 1}}
tasks:
  long: {command: "until test -e gate; do sleep 0.05; done", pool: one}
  perishable: {command: "true", pool: one, expires: 100ms}
""")
    supervisor = project.start("--log-level", "debug")
    with client(project) as storage:
        [long] = enqueue(storage, "long", [{}])
        supervisor.wait_for("started", run=long)
        [perishable] = enqueue(storage, "perishable", [{}])
        [run] = finished(storage, [perishable])  # while the slot is still taken
        project.write("", "gate")
        finished(storage, [long])
    assert (run.state, run.reason, run.attempt) == (State.EXPIRED, "expired", 0)
