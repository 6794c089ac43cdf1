"""The JSON documents of the command line. Fields are added, never renamed; durations are seconds."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

from jobrunner.catalogue import Entry
from jobrunner.codec import decode, decode_arguments
from jobrunner.durations import SECOND, Micros
from jobrunner.errors import JobRunnerError
from jobrunner.model import Attempt, Run

from .words import rfc3339

Document: TypeAlias = dict[str, object]
_INSTANTS: Final = ("from", "to")  # of a fold of missed ticks


def seconds(start: Micros | None, end: Micros | None) -> float | None:
    """A duration in seconds; None while one of its ends is open."""
    return None if start is None or end is None else max(0, end - start) / SECOND


def run_document(run: Run, entry: Entry | None, attempts: Sequence[Attempt] | None = None) -> Document:
    """A run, with its attempts where they are asked for."""
    args, kwargs = arguments_of(run)
    document: Document = {
        "id": run.id,
        "task": run.task,
        "state": run.state.value,
        "reason": run.reason,
        "trigger": run.trigger.value,
        "tick": rfc3339(run.tick),
        "missed": run.missed,
        "due_at": rfc3339(run.due_at),
        "created_at": rfc3339(run.created_at),
        "started_at": rfc3339(run.started_at),
        "finished_at": rfc3339(run.finished_at),
        "expires_at": rfc3339(run.expires_at),
        "duration": seconds(run.started_at, run.finished_at),
        "attempt": run.attempt,
        "max_attempts": max_attempts(run, entry),
        "exit_code": run.exit_code,
        "signal": run.signal,
        "outcome": run.outcome,
        "error": run.error,
        "result": result_of(run),
        "priority": run.priority,
        "args": args,
        "kwargs": kwargs,
        "pipeline": run.pipeline,
        "step": run.step,
        "unique": None if run.unique is None else run.unique.partition(":")[2],
        "pool": run.pool,
        "host": run.host,
        "pid": run.pid,
        "detail": detail_of(run),
    }
    if attempts is not None:
        document["attempts"] = [attempt_document(each) for each in attempts]
    return document


def attempt_document(attempt: Attempt) -> Document:
    """One try of a run."""
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339(attempt.ended_at),
        "duration": seconds(attempt.started_at, attempt.ended_at),
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "error": attempt.error,
        "host": attempt.host,
        "pid": attempt.pid,
    }


def max_attempts(run: Run, entry: Entry | None) -> int | None:
    """Tries that the run may take in all: its own option, else the task's; None when neither is known."""
    own = json.loads(run.options).get("retries") if run.options else None
    if own is not None:
        return 1 + int(own)
    return entry.max_attempts if entry else None


def arguments_of(run: Run) -> tuple[object, object]:
    """The arguments as plain JSON; (None, None) for a payload that cannot be read."""
    try:
        args, kwargs = decode_arguments(run.payload)
    except (JobRunnerError, ValueError):
        return None, None
    return as_json(args), as_json(kwargs)


def result_of(run: Run) -> object:
    """The result as plain JSON; None when there is none, or it cannot be read."""
    if run.result is None:
        return None
    try:
        return as_json(decode(run.result))
    except (JobRunnerError, ValueError):
        return None


def result_text(run: Run) -> str | None:
    """The result as it is printed: a text as it is, everything else as JSON; None when there is none."""
    if run.result is None:
        return None
    value = result_of(run)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def detail_of(run: Run) -> object:
    """What a row says of itself: the holder of an overlap, a fold's ends and count, what a retry repeats."""
    if run.detail is None:
        return None
    detail = json.loads(run.detail)
    for name in _INSTANTS:
        if isinstance(detail.get(name), int):
            detail[name] = rfc3339(detail[name])
    return detail


def as_json(value: object) -> object:
    """A stored value without the tags it is stored with: tuples and sets become arrays, the rest texts."""
    if isinstance(value, Enum):
        return as_json(value.value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else str(as_json(key)): as_json(item) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((as_json(item) for item in value), key=repr)
    return _scalar(value)


def _scalar(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode()
    return str(value)
