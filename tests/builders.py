"""Builders of values with good defaults: a test names only what it is about."""

from __future__ import annotations

from typing import Any

from jobrunner.durations import SECOND, Micros
from jobrunner.execution import Backing
from jobrunner.ids import new_id
from jobrunner.model import Claim, Ended, Ending, NewRun, State, Trigger, pool_lane
from jobrunner.plan import Pool, PoolKind, Task

NOON: Micros = 1_795_435_200 * SECOND  # 2026-11-23T12:00:00Z


def a_task(name: str = "backup", **changes: Any) -> Task:
    """A shell command."""
    given: dict[str, Any] = {"command": "true", "pool": "commands", "cwd": "/"}
    return Task(name=name, **{**given, **changes})


def a_callable(name: str = "add", call: str = "tests.tasks:add", **changes: Any) -> Task:
    """A Python callable."""
    return Task(name=name, call=call, **changes)


def a_run(task: str = "backup", **changes: Any) -> NewRun:
    """A queued run that is due at noon."""
    given: dict[str, Any] = {
        "id": new_id(NOON),
        "task": task,
        "state": State.QUEUED,
        "trigger": Trigger.ENQUEUE,
        "lane": pool_lane("commands"),
        "pool": "commands",
        "due_at": NOON,
        "created_at": NOON,
    }
    return NewRun(**{**given, **changes})


def a_claim(task: str = "backup", **changes: Any) -> Claim:
    """The first claim of a run."""
    given: dict[str, Any] = {
        "seq": 1,
        "id": new_id(NOON),
        "task": task,
        "claim_no": 1,
        "attempt": 1,
        "failures": 0,
        "crashes": 0,
        "payload": '{"args":[],"kwargs":{}}',
        "priority": 0,
        "due_at": NOON,
        "created_at": NOON,
        "trigger": "enqueue",
        "pool": "commands",
        "tick": None,
        "missed": 0,
        "policy": None,
        "options": None,
        "cause": None,
    }
    return Claim(**{**given, **changes})


def an_end(ending: Ending = Ending.OK, **changes: Any) -> Ended:
    """An attempt that took one second from noon."""
    given: dict[str, Any] = {"started_at": NOON, "ended_at": NOON + SECOND}
    return Ended(ending, **{**given, **changes})


def a_pool(name: str = "commands", kind: PoolKind = PoolKind.COMMAND, slots: int = 8) -> Pool:
    return Pool(name=name, kind=kind, slots=slots)


def _unasked(_call: object, _text: str, _reply: object) -> None: ...


UNASKED = Backing("memory://", _unasked)
"""For pools whose calls ask nothing."""
