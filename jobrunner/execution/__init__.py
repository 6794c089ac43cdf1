"""The execution contract: how the dispatcher talks to whatever executes attempts.

Everything here happens on the supervisor's event loop. An executor never opens the storage and never
decides what becomes of a run: it reports starts and ends, and `lifecycle` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from ..durations import MILLISECOND, Micros
from ..model import Ended, Ending
from ..plan import Task

LASTS: Final[Micros] = 20 * MILLISECOND  # the start of an attempt that takes longer is reported


class Call(NamedTuple):
    """One attempt to be made."""

    seq: int
    claim_no: int
    run_id: str
    attempt: int
    task: Task  # the definition that this attempt keeps, whatever a reload brings
    payload: str  # encoded arguments (codec)
    trigger: str
    tick: Micros | None
    missed: int
    due_at: Micros
    timeout: Micros | None
    owner: str
    cause: str | None = None  # JSON of model.Cause
    env: tuple[tuple[str, str], ...] = ()  # the run's own additions


class Timer(Protocol):
    """A call that the loop will make."""

    def cancel(self) -> None:
        """Forget it; does nothing when it was made already."""
        ...


class Loop(Protocol):
    """What executors need of the event loop. All callbacks run on its thread, one at a time."""

    def now(self) -> Micros:
        """The wall clock."""
        ...

    def monotonic(self) -> Micros: ...

    def watch(
        self, fd: int, *, read: Callable[[], None] | None, write: Callable[[], None] | None = None
    ) -> None:
        """Call back while `fd` is ready; replaces an earlier watch of it."""
        ...

    def unwatch(self, fd: int) -> None:
        """Stop watching; does nothing when it is not watched. Call it before closing the descriptor."""
        ...

    def after(self, delay: Micros, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay` microseconds of monotonic time from now."""
        ...


class Sink(Protocol):
    """Where executors report; the dispatcher is one."""

    def started(self, call: Call, at: Micros, pid: int | None) -> None:
        """The attempt has begun; not told of one that is soon over, whose end says all."""
        ...

    def ended(self, call: Call, ended: Ended) -> None:
        """The attempt is over, or (`Ending.RECALLED`) came back before it had begun. Once for each call."""
        ...


class Reply(Protocol):
    """The way back for the answer to a question of a call."""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        ...

    def send(self, text: str) -> None:
        """Answer; does nothing when nobody waits any more."""
        ...


Ask = Callable[[Call | None, str, Reply], None]
"""What a call (None: no call of its worker) asks of the storage; answered by the reply, sooner or later."""


def _nobody(_module: str, _signals: Sequence[str]) -> None:
    """No signals are sent here."""


class Backing(NamedTuple):
    """What stands behind the calls of a pool: the storage, by way of the supervisor alone."""

    url: str
    ask: Ask
    receive: Callable[[str, Sequence[str]], None] = _nobody  # a module has receivers for these signals


class Executor(Protocol):
    """The slots of one pool."""

    def room(self) -> int:
        """How many more calls it takes now (prefetch included)."""
        ...

    def busy(self) -> int:
        """How many attempts are executing."""
        ...

    def workers(self) -> int:
        """How many worker processes are alive (0 for commands)."""
        ...

    def start(self, calls: list[Call]) -> None:
        """Execute these, in this order; never raises for a call's sake."""
        ...

    def end(self, call: Call, ending: Ending, *, grace: Micros | None = None) -> None:
        """End a call by force: TERM, then KILL after `grace` (None: the task's `kill_after`).

        It is reported as `ending` (cancelled, interrupted), or as recalled when it had not begun.
        Does nothing for a call that is over.
        """
        ...

    def recall(self) -> None:
        """Report every call that has not begun as recalled, at once; no worker gets another one."""
        ...

    def retire(self) -> None:
        """Take no more calls, finish those begun, then end the workers."""
        ...

    def close(self) -> None:
        """End every process of this pool now (KILL) and release all descriptors; reports nothing more."""
        ...
