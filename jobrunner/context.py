"""What a task sees of its own run, and the exceptions by which it talks back."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from .clock import Clock
from .durations import SECOND, Micros, from_micros, parse_duration
from .errors import UsageError

if TYPE_CHECKING:
    from .model import Cause

__all__ = ["CancelRun", "CurrentRun", "RetryRun", "TaskCancelled", "TaskTimeout", "current_run"]


class RetryRun(Exception):
    """Raised by a task: try this run again later, without using up one of its retries.

    `delay` is a number of seconds, a text such as "5m" or a timedelta; None means the task's retry delay.
    """

    def __init__(self, delay: float | str | timedelta | None = None) -> None:
        super().__init__(delay)
        self.delay: Micros | None = None if delay is None else _micros(delay)


class CancelRun(Exception):
    """Raised by a task: end this run as cancelled.

    `retry=False` ends it for good, True grants one more try, None follows the task's retries.
    """

    def __init__(self, message: str = "", *, retry: bool | None = None) -> None:
        super().__init__(message)
        self.retry = retry


class TaskTimeout(BaseException):
    """Raised inside a task whose timeout has run out; `finally` blocks still run, within `kill_after`."""


class TaskCancelled(BaseException):
    """Raised inside a task whose run is cancelled or interrupted; `finally` blocks still run."""


def _micros(delay: float | str | timedelta) -> Micros:
    if isinstance(delay, timedelta):
        return max(0, delay // timedelta(microseconds=1))
    return parse_duration(delay)


class CurrentRun:
    """The run that is executing here. Moments are aware datetimes in UTC, durations are seconds."""

    __slots__ = (
        "_cause",
        "_clock",
        "_deadline",
        "_due_at",
        "_ending",
        "_tick",
        "attempt",
        "id",
        "missed",
        "task",
        "trigger",
    )

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the word users read
        task: str,
        attempt: int,
        trigger: str,
        missed: int,
        tick: Micros | None,
        due_at: Micros,
        cause: str | None,
        deadline: Micros | None,
        clock: Clock,
        ending: Callable[[], str | None],
    ) -> None:
        self.id = id
        self.task = task
        self.attempt = attempt
        self.trigger = trigger
        self.missed = missed
        self._tick = tick
        self._due_at = due_at
        self._cause = cause
        self._deadline = deadline
        self._clock = clock
        self._ending = ending

    def now(self) -> Micros:
        """The wall clock: microseconds since the Unix epoch."""
        return self._clock.now()

    @property
    def tick(self) -> datetime | None:
        """The moment that the schedule names; None for a run that no schedule made."""
        return None if self._tick is None else from_micros(self._tick)

    @property
    def scheduled_at(self) -> datetime:
        """The tick, else the moment at which the run was due."""
        return from_micros(self._due_at if self._tick is None else self._tick)

    @property
    def cause(self) -> Cause | None:
        """For a callback: the run whose end enqueued this one."""
        if self._cause is None:
            return None
        import json

        from .model import Cause
        from .plain import from_plain

        return from_plain(Cause, json.loads(self._cause))

    @property
    def time_remaining(self) -> float | None:
        """Seconds until the timeout, never negative; None without one."""
        if self._deadline is None:
            return None
        return max(0, self._deadline - self._clock.monotonic()) / SECOND

    @property
    def is_cancelled(self) -> bool:
        """Whether this attempt is being ended: cancelled, interrupted, or timed out."""
        return self._ending() is not None

    def check(self) -> None:
        """Does nothing, or raises TaskTimeout or TaskCancelled when this attempt is being ended."""
        ending = self._ending()
        if ending is not None:
            raise TaskTimeout if ending == "timeout" else TaskCancelled(ending)


class Asking(Protocol):
    """The way from a worker to its supervisor's storage."""

    url: str  # of the storage

    def ask(self, text: str) -> str:
        """Send a question, and wait for its answer. Raises what ends the call meanwhile."""
        ...

    async def aask(self, text: str) -> str:
        """The same for a coroutine: its event loop goes on meanwhile."""
        ...


class _Here:
    """The run of a process that executes one call at a time, whichever of its threads asks."""

    run: CurrentRun | None = None
    asking: Asking | None = None
    process: int = 0  # that has it: a forked child would read its parent's answers


_mine: ContextVar[CurrentRun | None] = ContextVar("jobrunner.current_run", default=None)


def connect(asking: Asking) -> None:
    """Let what executes in this process ask the supervisor."""
    _Here.asking, _Here.process = asking, os.getpid()


def asking() -> Asking | None:
    """The way to the supervisor; None in a process that is not a worker, a child of one included."""
    return _Here.asking if _Here.process == os.getpid() else None


def enter(run: CurrentRun | None) -> None:
    """Make this the run that `current_run` gives in the whole process; None when it is over."""
    _Here.run = run


def enter_here(run: CurrentRun | None) -> None:
    """Make this the run of the present context: of one thread, greenlet or task among others."""
    _mine.set(run)


def run_here() -> CurrentRun | None:
    """The run that is executing here, if there is one."""
    return _mine.get() or _Here.run


def current_run() -> CurrentRun:
    """Gives the run that is executing here: each call of a worker that executes several has its own.

    Raises UsageError outside of a task. A thread that a task starts in a `process` pool belongs to the task;
    in the other pools hand it the run, or start it by `contextvars.copy_context().run`.
    """
    run = run_here()
    if run is None:
        raise UsageError(
            "current_run() was called where no run is executing",
            help="call it inside a task that jobrunner executes",
        )
    return run
