"""What a program asks to be called for: a worker's start and end, each attempt, and signals.

Each JobRunner has its `Hooks`; those that are registered here are the ones of this process: a worker calls
them for every attempt that it makes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from .context import CancelRun, CurrentRun, TaskCancelled, TaskTimeout
from .durations import Micros


class Signal(StrEnum):
    """What a receiver may wait for."""

    ENQUEUED = "enqueued"
    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    COMPLETE = "complete"
    ERROR = "error"
    RETRYING = "retrying"
    CANCELLED = "cancelled"
    REVOKED = "revoked"
    EXPIRED = "expired"
    LOCKED = "locked"
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    MISSED = "missed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a receiver is told. `at` is in microseconds since the Unix epoch."""

    signal: Signal
    task: str
    run_id: str
    at: Micros
    attempt: int = 0  # the attempt that it is about; 0: none has been made
    outcome: str | None = None  # of that attempt: "ok", "exception ValueError", "exit 3", ...
    reason: str | None = None  # why the run is final, or did not run
    error: str | None = None  # message and traceback


Startup = Callable[[], object]
Shutdown = Callable[[], object]
Before = Callable[[CurrentRun], object]
After = Callable[[CurrentRun, object, "BaseException | None"], object]
Receiver = Callable[[Notice], object]

_BY_FORCE = (TaskTimeout, TaskCancelled)  # the call itself is to end: no hook may swallow that


@dataclass(slots=True, eq=False)
class Hooks:
    """The hooks of one JobRunner, in the order in which they were given."""

    startup: list[Startup] = field(default_factory=list)
    shutdown: list[Shutdown] = field(default_factory=list)
    before: list[Before] = field(default_factory=list)  # pre_execute; may raise CancelRun
    after: list[After] = field(default_factory=list)  # post_execute: run, result, exception
    _receivers: list[tuple[Receiver, frozenset[Signal]]] = field(default_factory=list)
    _started: int = 0  # so many of `startup` have been called in this process

    def listen(self, receiver: Receiver, signals: Iterable[Signal] = ()) -> None:
        """Call this receiver for these signals; for all of them when none is named."""
        self._receivers.append((receiver, frozenset(signals) or frozenset(Signal)))

    def disconnect(self, receiver: Receiver, signals: Iterable[Signal] = ()) -> bool:
        """Forget a receiver, for these signals or wholly. False: it was not connected."""
        away = frozenset(signals) or frozenset(Signal)
        hit = [wanted for each, wanted in self._receivers if each == receiver and wanted & away]
        left = [(each, wanted - away if each == receiver else wanted) for each, wanted in self._receivers]
        self._receivers = [(each, wanted) for each, wanted in left if wanted]
        return bool(hit)

    @property
    def receivers(self) -> int:
        """How many receivers are connected."""
        return len(self._receivers)

    @property
    def signals(self) -> frozenset[Signal]:
        """The signals that somebody waits for."""
        return frozenset().union(*(wanted for _, wanted in self._receivers))

    def start(self) -> None:
        """Call the startup hooks that were not called yet."""
        while self._started < len(self.startup):
            self._started += 1
            _isolated(self.startup[self._started - 1])

    def stop(self) -> None:
        """Call the shutdown hooks, the last one given first."""
        for hook in reversed(self.shutdown):
            _isolated(hook)

    def enter(self, run: CurrentRun) -> None:
        """Call what is to be called before an attempt. Raises CancelRun when a hook does."""
        for hook in self.before:
            _isolated(hook, run, let_through=(CancelRun, *_BY_FORCE))

    def leave(self, run: CurrentRun, result: object, error: BaseException | None) -> None:
        """Call what is to be called after an attempt that has begun."""
        for hook in self.after:
            _isolated(hook, run, result, error, let_through=_BY_FORCE)

    def send(self, notice: Notice) -> None:
        """Call the receivers that wait for this signal, one after the other."""
        for receiver, wanted in list(self._receivers):
            if notice.signal in wanted:
                _isolated(receiver, notice, let_through=_BY_FORCE)


def _isolated(
    hook: Callable[..., object], *arguments: object, let_through: tuple[type[BaseException], ...] = ()
) -> None:
    """Call it; what it raises is written to stderr, and hurts neither the call nor the other hooks."""
    try:
        hook(*arguments)
    except let_through:
        raise
    except Exception:
        import traceback

        name = getattr(hook, "__qualname__", repr(hook))
        print(f"hook {name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)  # noqa: T201


# ---- the hooks of this process ---------------------------------------------------------------------------

_registered: tuple[Hooks, ...] = ()


def register(hooks: Hooks) -> None:
    """Let the workers of this process call these hooks: a JobRunner does it for its own."""
    global _registered
    if hooks not in _registered:
        _registered = (*_registered, hooks)


def forget(hooks: Hooks) -> None:
    """The opposite: for a JobRunner of a test."""
    global _registered
    _registered = tuple(each for each in _registered if each is not hooks)


def registered() -> tuple[Hooks, ...]:
    """The hooks of this process."""
    return _registered


def start() -> None:
    """Call the startup hooks that were not called yet in this process."""
    for each in _registered:
        each.start()


def stop() -> None:
    """Call the shutdown hooks of this process."""
    for each in reversed(_registered):
        each.stop()


def enter(run: CurrentRun) -> None:
    """An attempt is about to begin. Raises CancelRun when a hook does."""
    for each in _registered:
        each.enter(run)


def leave(run: CurrentRun, result: object, error: BaseException | None) -> None:
    """An attempt that had begun is over."""
    for each in _registered:
        each.leave(run, result, error)


def send(notice: Notice) -> None:
    """Tell the receivers of this process."""
    for each in _registered:
        each.send(notice)


def signals() -> frozenset[Signal]:
    """The signals that somebody in this process waits for."""
    return frozenset().union(*(each.signals for each in _registered))


def receivers() -> int:
    """How many receivers this process has."""
    return sum(each.receivers for each in _registered)
