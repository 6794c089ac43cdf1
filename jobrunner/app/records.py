"""Runs and attempts as a program reads them: moments are aware datetimes in UTC, durations are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from ..codec import decode, decode_arguments
from ..durations import SECOND, Micros, from_micros
from ..errors import RunCancelled, RunError, RunExpired, RunSkipped, TaskFailed
from ..model import Attempt, Run, State

_ERRORS: Final[dict[State, type[RunError]]] = {
    State.CANCELLED: RunCancelled,
    State.EXPIRED: RunExpired,
    State.SKIPPED: RunSkipped,
}


class AttemptRecord(NamedTuple):
    """One try of a run; `outcome` None: it is still going."""

    number: int
    outcome: str | None
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    exit_code: int | None
    signal: str | None
    error: str | None
    host: str | None
    pid: int | None


class RunRecord:
    """A run as it was when it was read."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __repr__(self) -> str:
        return f"RunRecord(id={self.id!r}, task={self.task!r}, state={self.state.value!r})"

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def task(self) -> str:
        return self._run.task

    @property
    def state(self) -> State:
        return self._run.state

    @property
    def reason(self) -> str | None:
        """Why it did not run, or is final otherwise than by its own attempt."""
        return self._run.reason

    @property
    def trigger(self) -> str:
        """Why it exists: "schedule", "enqueue", "pipeline", "callback", "retry" or "catch-up"."""
        return self._run.trigger.value

    @property
    def tick(self) -> datetime | None:
        """The moment that its schedule names."""
        return _moment(self._run.tick)

    @property
    def missed(self) -> int:
        """How many missed ticks it stands for, itself included."""
        return self._run.missed

    @property
    def due_at(self) -> datetime:
        return from_micros(self._run.due_at)

    @property
    def created_at(self) -> datetime:
        return from_micros(self._run.created_at)

    @property
    def expires_at(self) -> datetime | None:
        return _moment(self._run.expires_at)

    @property
    def started_at(self) -> datetime | None:
        """When its latest attempt began."""
        return _moment(self._run.started_at)

    @property
    def finished_at(self) -> datetime | None:
        return _moment(self._run.finished_at)

    @property
    def duration(self) -> float | None:
        """Seconds that its latest attempt took; None while it has not ended."""
        return _seconds(self._run.started_at, self._run.finished_at)

    @property
    def attempt(self) -> int:
        """The number of its latest attempt, from 1; 0 before the first."""
        return self._run.attempt

    @property
    def failures(self) -> int:
        """How many attempts have failed."""
        return self._run.failures

    @property
    def outcome(self) -> str | None:
        """How its latest attempt ended: "ok", "exception ValueError", "timeout", ..."""
        return self._run.outcome

    @property
    def exit_code(self) -> int | None:
        return self._run.exit_code

    @property
    def signal(self) -> str | None:
        return self._run.signal

    @property
    def error(self) -> str | None:
        """Message and traceback of its latest attempt."""
        return self._run.error

    @property
    def result(self) -> object:
        """What it returned; None too for a run that has no result (any more)."""
        return None if self._run.result is None else decode(self._run.result)

    @property
    def has_result(self) -> bool:
        """Whether a result is stored: None is one like any other."""
        return self._run.result is not None

    @property
    def args(self) -> tuple[object, ...]:
        return tuple(decode_arguments(self._run.payload)[0])

    @property
    def kwargs(self) -> dict[str, object]:
        return decode_arguments(self._run.payload)[1]

    @property
    def step(self) -> str | None:
        """Its place in its pipeline: "1", "2.1"; None for a root and for a plain run."""
        return self._run.step

    @property
    def pipeline(self) -> str | None:
        """The id of the root of its pipeline."""
        return self._run.pipeline

    @property
    def priority(self) -> int:
        return self._run.priority

    @property
    def pool(self) -> str:
        return self._run.pool

    @property
    def host(self) -> str | None:
        return self._run.host

    @property
    def pid(self) -> int | None:
        return self._run.pid

    @property
    def is_final(self) -> bool:
        return self._run.state.is_final


def attempt_record(attempt: Attempt) -> AttemptRecord:
    """An attempt of the storage, for a program."""
    return AttemptRecord(
        number=attempt.number,
        outcome=attempt.outcome,
        started_at=_moment(attempt.started_at),
        finished_at=_moment(attempt.ended_at),
        duration=_seconds(attempt.started_at, attempt.ended_at),
        exit_code=attempt.exit_code,
        signal=attempt.signal,
        error=attempt.error,
        host=attempt.host,
        pid=attempt.pid,
    )


def result_of(run: Run) -> object:
    """The result of a final run. Raises TaskFailed, RunCancelled, RunExpired or RunSkipped without one."""
    if run.state is State.SUCCEEDED:
        return None if run.result is None else decode(run.result)
    raise error_of(run)


def error_of(run: Run) -> RunError:
    """The error that stands for the end of a run that did not succeed."""
    kind = _ERRORS.get(run.state, TaskFailed)
    error, traceback = _parts(run.error or "")
    why = error if run.state is State.FAILED and error else run.reason or run.outcome or ""
    return kind(
        f"run {run.id} of {run.task} {_verb(run.state)}{': ' + why if why else ''}",
        run_id=run.id,
        task=run.task,
        state=run.state.value,
        reason=run.reason,
        outcome=run.outcome,
        error=error,
        traceback=traceback,
    )


def _verb(state: State) -> str:
    return (
        "failed"
        if state is State.FAILED
        else f"was {state.value}"
        if state is not State.EXPIRED
        else "expired"
    )


def _parts(text: str) -> tuple[str, str]:
    """Message and traceback, as a worker wrote them: parted by the line that begins a traceback."""
    message, mark, rest = text.partition("\n\nTraceback (most recent call last):\n")
    return message, "Traceback (most recent call last):\n" + rest if mark else ""


def _moment(at: Micros | None) -> datetime | None:
    return None if at is None else from_micros(at)


def _seconds(start: Micros | None, end: Micros | None) -> float | None:
    return None if start is None or end is None else max(0, end - start) / SECOND
