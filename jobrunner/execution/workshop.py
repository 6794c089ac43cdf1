"""A worker that executes several calls at once: what its three kinds share.

    reader thread (the system's own)          the kind: threads, greenlets or coroutines
      takes lines from the supervisor    ->     takes orders with `next` when it has room
      ends calls by force                ->     `end`: injects or cancels
      sees the supervisor's death               `finish` answers

The reader never waits for a call, so that recalls, cancels and the supervisor's death are seen whatever the
calls do. A call belongs to the kind from `next` to `finish`; `mutex` guards what both touch.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from types import FrameType
from typing import Any, Final, Protocol

from .. import context, hooks
from ..clock import SystemClock
from ..codec import decode_arguments
from ..context import CurrentRun, TaskCancelled, TaskTimeout
from ..durations import Micros
from ..errors import PayloadError
from ..model import Ending
from . import calling, native, wire
from .calling import Outcome
from .questions import Gate, Questions
from .start import LARGEST_READ, LEAVING, Definition, Ears, Welcome, begin, definition_of, end_group
from .streams import CallStream, Writing, call_here, write_as
from .wire import Order

BY_FORCE: Final = (TaskTimeout, TaskCancelled)
_KINDS: Final = {"thread": "threads", "greenlet": "greenlets", "async": "coroutines"}
_FRAMES: Final = 12  # of a call that goes on after its end was asked for


@dataclass(slots=True, eq=False)
class Work:
    """One call that has begun here."""

    order: Order
    definition: Definition
    writing: Writing
    started: Micros
    begun: Micros
    ends: str | None = None  # it is to be ended by force, and why
    is_over: bool = False
    place: Any = None  # where it executes: what the kind needs to end it
    args: list[object] = field(default_factory=list)
    kwargs: dict[str, object] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return self.order.number

    def check(self) -> None:
        """Raises what ends it, if it is to end."""
        if self.ends is not None:
            raise exception_for(self.ends)


class Kind(Protocol):
    """How calls are executed side by side."""

    def call(self, hook: Callable[..., object], /) -> object:
        """Call a hook of the pool, before or after everything else; on the main thread."""
        ...

    def new_gate(self) -> Gate:
        """Where a call waits for an answer, and the others go on."""
        ...

    def serve(self) -> None:
        """Execute calls until `workshop.is_done`; on the main thread."""
        ...

    def wake(self, orders: int, /) -> None:
        """So many more orders are waiting, or the end is asked for; on the reader's thread."""
        ...

    def end(self, work: Work) -> None:
        """Bring this call to its end, and `workshop.asked` when that is asked of it; with the mutex held."""
        ...

    def release(self, work: Work) -> None:
        """It is over: what was asked and did not come through is taken back; with the mutex held."""
        ...


class Workshop:
    """The calls of this process."""

    def __init__(
        self, link: int, supervisor: int, welcome: Welcome, make: Callable[[Workshop, int], Kind]
    ) -> None:
        self._link = link
        self._supervisor = supervisor
        self._unread = welcome.unread
        self._sending = native.new_lock()
        self.mutex = native.new_lock()
        self._waiting: deque[Order] = deque()
        self._works: dict[int, Work] = {}
        self._definitions: dict[int, Definition] = {}
        self._clock = SystemClock()
        self._is_leaving = False
        self._settings = welcome.settings
        self._kind = make(self, welcome.settings["slots"])
        self._questions = Questions(
            welcome.settings["url"], self._send, call=call_here, new_gate=self._kind.new_gate
        )
        context.connect(self._questions)
        self._ears = Ears(self._send)

    # ---- the main thread -------------------------------------------------------------------------

    def serve(self) -> None:
        """Execute calls until told to leave."""
        signal.signal(signal.SIGTERM, self._on_term)
        calling.call_hook(self._settings["on_startup"], self._kind.call)
        self._send(wire.line("H", wire.VERSION))
        sys.stdout = CallStream(0, sys.stdout)
        sys.stderr = CallStream(1, sys.stderr)
        native.start_thread(self._read)
        self._kind.serve()
        native.start_thread(_limit_leaving)
        hooks.stop()
        calling.call_hook(self._settings["on_shutdown"], self._kind.call)

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        """A service manager sends TERM to all processes of the service; the supervisor alone decides."""
        if os.getppid() != self._supervisor:
            end_group()

    # ---- what the kind asks ----------------------------------------------------------------------

    def next(self, place: object = None) -> Work | None:
        """The next call to execute; None: none is waiting. `place`: where that will be."""
        with self.mutex:
            if not self._waiting:
                return None
            order = self._waiting.popleft()
            now = self._clock
            writing = Writing(order.number, lambda stream, data: self._write(order.number, stream, data))
            work = Work(
                order, self._definitions[order.definition], writing, now.now(), now.monotonic(), place=place
            )
            self._works[order.number] = work
            return work

    @property
    def held(self) -> int:
        """Calls that wait or execute."""
        return len(self._waiting) + len(self._works)

    @property
    def waits(self) -> int:
        """Calls that wait for another run: so many more may execute."""
        return self._questions.waits

    @property
    def is_done(self) -> bool:
        """Whether to leave: that is asked for, and nothing is left to do."""
        return self._is_leaving and not self.held

    def prepare(self, work: Work) -> Outcome | None:
        """Find the callable and read the arguments; an outcome when that is not possible."""
        definition = work.definition
        if definition.function is None:
            self._send(wire.line("L", work.number))
            try:
                definition.function = calling.find(definition.call)
            except BY_FORCE:
                raise
            except BaseException as error:
                return calling.not_found(definition.call, error)
            self._ears.tell(definition.call)
        try:
            work.args, work.kwargs = decode_arguments(work.order.payload)
        except PayloadError as error:
            return Outcome(Ending.BAD_ARGUMENTS, error=error.message)
        return None

    def enter(self, work: Work) -> CurrentRun:
        """Begin the call in this context: its timeout runs from here (rule 14). Raises what ends it."""
        run = self._current_run(work)
        context.enter_here(run)
        write_as(work.writing)
        self._send(wire.line("S", work.number, work.started))
        run.check()
        return run

    def _current_run(self, work: Work) -> CurrentRun:
        order = work.order
        work.started, work.begun = self._clock.now(), self._clock.monotonic()
        return CurrentRun(
            id=order.run_id,
            task=work.definition.name,
            attempt=int(order.attempt),
            trigger=order.trigger,
            missed=int(order.missed),
            tick=order.tick,
            due_at=order.due_at,
            cause=json.loads(order.extra)["cause"] if order.extra else None,
            deadline=None if order.timeout is None else work.begun + order.timeout,
            clock=self._clock,
            ending=lambda: work.ends,
        )

    def judge(self, work: Work, error: BaseException) -> Outcome:
        """The outcome of a call that raised."""
        if work.ends is not None:
            return _by_force(error)
        function = work.definition.function or _by_force
        return calling.failure(error, function, (work.args, work.kwargs))

    def attempt(self, work: Work, call: Callable[[CurrentRun, Work], object]) -> None:
        """Make the attempt, from its preparation to its answer, in this thread or greenlet."""
        try:
            outcome = self._outcome(work, call)
            self._close(work)
        except BY_FORCE as error:  # it came between two lines of ours
            outcome = self.judge(work, error)
            self._close(work)
        self._answer(work, outcome)

    def _outcome(self, work: Work, call: Callable[[CurrentRun, Work], object]) -> Outcome:
        try:
            outcome = self.prepare(work)
            if outcome is not None:
                return outcome
            result = call(self.enter(work), work)
            return calling.success(result, store=work.definition.store_result)
        except BaseException as error:
            return self.judge(work, error)

    def finish(self, work: Work, outcome: Outcome) -> None:
        """The call is over: answer. For a kind that makes the attempt by itself."""
        self._close(work)
        self._answer(work, outcome)

    def _answer(self, work: Work, outcome: Outcome) -> None:
        work.writing.flush()
        self._send(self._line(work, outcome))
        context.enter_here(None)
        write_as(None)
        self._works.pop(work.number, None)

    def _close(self, work: Work) -> None:
        with self.mutex:
            work.is_over = True
            self._kind.release(work)
        self._questions.end(work.number)  # of threads that it has started and not waited for

    def _line(self, work: Work, outcome: Outcome) -> bytes:
        is_plain = outcome.ending is Ending.OK and work.ends is None
        kind = "K" if is_plain else "X" if work.ends is not None else "E"
        text = (outcome.result or "") if is_plain else wire.packed(outcome.plain())
        took = self._clock.monotonic() - work.begun
        answer = f"{kind}\t{work.number}\t{work.started}\t{took}\t{text}\n"
        return f"{answer}Z\n".encode() if outcome.is_last else answer.encode()

    def asked(self, work: Work, frames: list[traceback.FrameSummary]) -> None:
        """Its end was asked of the call, which was here then."""
        where = "".join(traceback.format_list(calling.without_own(frames)[-_FRAMES:]))
        self._send(wire.line("P", work.number, wire.packed(where)))

    # ---- the reader thread -----------------------------------------------------------------------

    def _read(self) -> None:
        rest = self._unread
        while True:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                self._take(line.decode())
            if lines:
                self._kind.wake(sum(line[:1] in b"CF" for line in lines))
            read = self._receive()
            if not read:
                end_group()  # the supervisor is gone: nothing that runs here has an owner any more
            rest += read

    def _receive(self) -> bytes:
        try:
            return os.read(self._link, LARGEST_READ)
        except OSError:
            return b""

    def _take(self, line: str) -> None:
        kind = line[:1]
        if kind in "CF":
            self._waiting.append(wire.order_of(line))
        elif kind == "D":
            _, number, text = line.split("\t", 2)
            self._definitions[int(number)] = definition_of(json.loads(text))
        elif kind == "T":
            _, number, why = line.split("\t", 2)
            self._end(int(number), why)
        elif kind == "N":
            _, number, text = line.split("\t", 2)
            self._questions.take(int(number), text)
        elif kind == "R":
            self._give_back(list(self._waiting))
        elif kind == "Q":
            self._is_leaving = True

    def _end(self, number: int, why: str) -> None:
        with self.mutex:
            work = self._works.get(number)
            if work is not None and not work.is_over and work.ends is None:
                work.ends = why
                self._kind.end(work)
                self._questions.end(number)
                return
        self._give_back([order for order in self._waiting if order.number == number])

    def _give_back(self, orders: list[Order]) -> None:
        """These have not begun; what the kind has taken meanwhile has."""
        for order in orders:
            with self.mutex:
                if order not in self._waiting:
                    continue
                self._waiting.remove(order)
            self._send(wire.line("B", order.number))

    # ---- lines -----------------------------------------------------------------------------------

    def _write(self, number: int, stream: int, data: bytes) -> None:
        self._send(wire.line("O", number, stream, base64.b64encode(data).decode()))

    def _send(self, line: bytes) -> None:
        try:
            with self._sending:
                while line:
                    line = line[os.write(self._link, line) :]
        except OSError:
            end_group()


def exception_for(why: str) -> type[BaseException]:
    """What a call sees when it is ended for this reason."""
    return TaskTimeout if why == Ending.TIMEOUT else TaskCancelled


def _by_force(error: BaseException) -> Outcome:
    """The supervisor knows why; what it does not know is where the call was."""
    return Outcome(Ending.CANCELLED, error=calling.traceback_text(error))


def main() -> None:
    """`python -m jobrunner.execution.workshop FD SUPERVISOR_PID`: started by a pool, never by hand."""
    link, supervisor = int(sys.argv[1]), int(sys.argv[2])
    welcome = begin(link, supervisor)
    make = import_module(f".{_KINDS[welcome.settings['kind']]}", __package__).make
    # Byte code is matched by a file's second and size: that of an edit within the same second would be stale.
    sys.dont_write_bytecode = True
    Workshop(link, supervisor, welcome, make).serve()


def _limit_leaving() -> None:
    native.sleep(LEAVING)
    os._exit(0)


if __name__ == "__main__":
    main()
