"""How runs come into being: pure functions from a catalogue entry and an occasion to a `NewRun`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .catalogue import Entry
from .codec import encode_arguments
from .durations import Micros
from .ids import derived_id
from .model import Cause, NewRun, Reason, State, Trigger
from .plain import to_plain


def new_run(
    entry: Entry,
    *,
    run_id: str,
    trigger: Trigger,
    now: Micros,
    due_at: Micros,
    payload: str | None = None,
    priority: int | None = None,
    expires: Micros | None = None,
    options: str | None = None,
    cause: str | None = None,
    detail: str | None = None,
    schedule: str | None = None,
    tick: Micros | None = None,
    missed: int = 0,
) -> NewRun:
    """A run of this task; what is None is the task's own. `expires` counts from `due_at` (semantics 19)."""
    patience = entry.expires if expires is None else expires
    return NewRun(
        id=run_id,
        task=entry.name,
        state=State.SCHEDULED if due_at > now else State.QUEUED,
        trigger=trigger,
        lane=entry.lane,
        pool=entry.pool,
        due_at=due_at,
        created_at=now,
        payload=own_payload(entry) if payload is None else payload,
        priority=entry.priority if priority is None else priority,
        expires_at=None if patience is None else due_at + patience,
        schedule=schedule,
        tick=tick,
        missed=missed,
        policy=entry.policy,
        options=options,
        cause=cause,
        detail=detail,
    )


def own_payload(entry: Entry) -> str:
    """The encoded arguments that the task's definition gives."""
    return encode_arguments(entry.args, entry.kwargs)


def of_tick(
    entry: Entry,
    *,
    schedule: str,
    tick: Micros,
    now: Micros,
    due_at: Micros,
    payload: str,
    missed: int = 0,
    run_id: str | None = None,
) -> NewRun:
    """The run of a tick; `run_id` is its `tick_id`, where somebody has worked that out before.

    `missed` counts the missed ticks it stands for, itself included; 0 for a tick in time (semantics 9).
    """
    return new_run(
        entry,
        run_id=tick_id(entry.name, payload, tick) if run_id is None else run_id,
        trigger=Trigger.CATCH_UP if missed else Trigger.SCHEDULE,
        now=now,
        due_at=due_at,
        payload=payload,
        schedule=schedule,
        tick=tick,
        missed=missed,
    )


def tick_id(task: str, payload: str, tick: Micros) -> str:
    """The id of a tick's run, which can exist only once: it is the same on every machine (semantics 7)."""
    return derived_id(tick, "tick", task, payload, str(tick))


def not_run(run: NewRun, reason: Reason, *, detail: Mapping[str, object] | None = None) -> NewRun:
    """The row that says why this tick did not run."""
    return run._replace(
        state=State.SKIPPED,
        reason=reason.value,
        trigger=Trigger.SCHEDULE,
        due_at=run.tick or run.due_at,
        missed=0,
        expires_at=None,
        detail=json.dumps(detail) if detail else None,
    )


def callback(entry: Entry, *, cause: Cause, born: Micros, now: Micros) -> NewRun:
    """The run of an `on_success` or `on_failure` task; its id follows from the run behind it."""
    return new_run(
        entry,
        run_id=derived_id(born, "callback", cause.run_id, cause.state, entry.name),
        trigger=Trigger.CALLBACK,
        now=now,
        due_at=now,
        cause=json.dumps(to_plain(cause)),
    )


def callbacks(
    entries: Mapping[str, Entry], names: tuple[str, ...], cause: Cause, born: Micros, now: Micros
) -> tuple[NewRun, ...]:
    """The runs that a final run, born at `born`, enqueues; names that nobody knows are left out."""
    known = [entries[name] for name in names if name in entries]
    return tuple(callback(entry, cause=cause, born=born, now=now) for entry in known)
