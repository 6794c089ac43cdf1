"""The worker: a process that executes callables, one at a time, on its main thread.

Two threads: the main one executes; the reader takes lines from the supervisor, so that cancels, recalls and
the supervisor's death are seen while a call runs. Both only ever set plain attributes that the other reads,
in the order which the comments give; there is no lock but the one around sending.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from .. import context, hooks
from ..clock import SystemClock
from ..codec import decode_arguments
from ..context import CurrentRun, TaskCancelled, TaskTimeout
from ..durations import Micros
from ..errors import PayloadError
from ..model import Ending
from . import calling, wire
from .calling import Caller, Outcome
from .questions import Questions
from .start import (
    LARGEST_READ,
    Definition,
    Ears,
    Welcome,
    begin,
    definition_of,
    encoded,
    end_group,
    limit_leaving,
)
from .surroundings import Surroundings, own_variables
from .wire import Order

LONG_CALL: Final[Micros] = 2_000  # after a longer one the next start is reported by itself


@dataclass(slots=True)
class _Inbox:
    """What the reader thread hands to the main thread."""

    orders: queue.SimpleQueue[Order | None] = field(default_factory=queue.SimpleQueue)
    taken: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue)  # the output of a call


class Worker:
    """One process' worth of executing."""

    def __init__(self, link: socket.socket, supervisor: int, welcome: Welcome) -> None:
        self._link = link
        self._unread = welcome.unread
        self._supervisor = supervisor
        self._sending = threading.Lock()
        self._inbox = _Inbox()
        self._definitions: dict[int, Definition] = {}
        self._clock = SystemClock()
        self._surroundings = Surroundings()
        self._caller = Caller()
        self._was_long = False  # the next start is reported by itself
        self._current = 0  # the number of the call being executed; main thread writes
        self._ends: dict[int, str] = {}  # calls to be ended by force, and why; reader thread writes
        self._watched = 0  # the number of the call whose output is read while it runs
        self._is_armed = False  # the signal handler may raise here
        self._questions = Questions(welcome.settings["url"], self._send, call=lambda: self._current)
        context.connect(self._questions)
        self._ears = Ears(self._send)

    # ---- the main thread -------------------------------------------------------------------------

    def serve(self) -> None:
        """Execute calls until told to leave."""
        signal.signal(signal.SIGTERM, self._on_term)
        self._surroundings.guard_signals()
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._send(wire.line("H", wire.VERSION))
        self._inbox.taken.get()  # what was written until now belongs to no call
        while (order := self._inbox.orders.get()) is not None:
            self._execute(order)
        hooks.stop()

    def _execute(self, order: Order) -> None:
        number = order.number
        self._current = number
        if number in self._ends:  # its end was asked for while it left the queue
            self._current = 0
            self._send(wire.line("B", number))
            return
        self._attempt(order)

    def _attempt(self, order: Order) -> None:
        definition = self._definitions[order.definition]
        started, begun = self._clock.now(), self._clock.monotonic()
        try:
            outcome = self._prepare(order, definition)
            if outcome is None:
                begun, started = self._clock.monotonic(), self._clock.now()
                if order.reports or self._was_long:  # its timeout runs from this very moment (rule 14)
                    self._send(wire.line("S", order.number, started))
                outcome = self._call(order, definition, begun)
        except (TaskTimeout, TaskCancelled) as error:  # it came between two lines of ours
            self._is_armed = False
            outcome = _by_force(error)
        took = self._clock.monotonic() - begun
        context.enter(None)
        self._surroundings.leave()
        self._was_long = took > LONG_CALL
        self._answer(order.number, outcome, started, took)

    def _prepare(self, order: Order, definition: Definition) -> Outcome | None:
        """Make everything ready for the call; an outcome when that is not possible."""
        try:
            self._surroundings.enter(*self._variables(order, definition), definition.cwd)
        except OSError as error:
            text = f"the folder {definition.cwd!r} (cwd) is not usable: {error.strerror}"
            return Outcome(Ending.COULD_NOT_START, error=text)
        except ValueError as error:
            return Outcome(Ending.COULD_NOT_START, error=f"the environment is not usable: {error}")
        if definition.function is None:
            return self._find(order, definition)
        return None

    def _variables(
        self, order: Order, definition: Definition
    ) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        own = own_variables(order)
        if not order.extra:
            return definition.env, own
        more = json.loads(order.extra)["env"]
        return {**definition.env, **encoded(more), **definition.fixed}, own

    def _find(self, order: Order, definition: Definition) -> Outcome | None:
        self._send(wire.line("L", order.number))
        try:
            self._arm(order.number)
            definition.function = calling.find(definition.call)
            self._is_armed = False
        except (TaskTimeout, TaskCancelled):
            raise
        except BaseException as error:
            self._is_armed = False
            return calling.not_found(definition.call, error)
        self._was_long = True
        if definition.is_hooked:
            self._ears.tell(definition.call)
        return None

    def _call(self, order: Order, definition: Definition, begun: Micros) -> Outcome:
        try:
            args, kwargs = decode_arguments(order.payload)
        except PayloadError as error:
            return Outcome(Ending.BAD_ARGUMENTS, error=error.message)
        function = definition.function
        assert function is not None
        run = self._current_run(order, definition, begun)
        context.enter(run)
        try:
            self._arm(order.number)
            if hooks.registered() and definition.is_hooked:
                result = calling.hooked(run, lambda: self._caller.call(function, args, kwargs))
            else:
                result = self._caller.call(function, args, kwargs)
            self._is_armed = False
            return calling.success(result, store=definition.store_result)
        except (TaskTimeout, TaskCancelled) as error:
            self._is_armed = False
            if order.number in self._ends:
                return _by_force(error)
            return calling.failure(error, function, (args, kwargs))
        except BaseException as error:
            self._is_armed = False
            return calling.failure(error, function, (args, kwargs))

    def _arm(self, number: int) -> None:
        """From here on the handler may raise; if the wish to end the call came before, raise now."""
        self._is_armed = True
        if number in self._ends:
            self._is_armed = False
            raise _forced(self._ends[number])

    def _current_run(self, order: Order, definition: Definition, begun: Micros) -> CurrentRun:
        number = order.number
        return CurrentRun(
            id=order.run_id,
            task=definition.name,
            attempt=int(order.attempt),
            trigger=order.trigger,
            missed=int(order.missed),
            tick=order.tick,
            due_at=order.due_at,
            cause=json.loads(order.extra)["cause"] if order.extra else None,
            deadline=None if order.timeout is None else begun + order.timeout,
            clock=self._clock,
            ending=lambda: self._ends.get(number),
        )

    def _answer(self, number: int, outcome: Outcome, started: Micros, took: Micros) -> None:
        has_output = self._surroundings.has_output()
        # First `_current` goes, then the others are looked at: the reader thread sets them first and looks
        # at `_current` afterwards, so that one of the two always sees the other.
        self._current = 0
        is_forced = number in self._ends
        holds = has_output or self._watched == number
        is_plain = outcome.ending is Ending.OK and not is_forced
        kind = "X" if is_forced else "K" if is_plain else "E"
        text = (outcome.result or "") if is_plain else wire.packed(outcome.plain())
        is_last = is_forced or outcome.is_last
        answer = f"{kind.lower() if holds else kind}\t{number}\t{started}\t{took}\t{text}\n"
        self._send(f"{answer}Z\n".encode() if is_last else answer.encode())
        if is_last:
            self._give_back()
        if holds:
            self._inbox.taken.get()
        if is_last:
            os._exit(0)  # it may hold half-done work now, or little memory: a fresh process goes on

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        """TERM ends the call it is meant for, and nothing else: not the next one, nor an idle worker.

        A service manager sends TERM to every process of the service; the supervisor alone decides then.
        """
        if os.getppid() != self._supervisor:
            end_group()
        if self._is_armed and self._current in self._ends:
            self._is_armed = False
            raise _forced(self._ends[self._current])

    # ---- the reader thread -----------------------------------------------------------------------

    def _read(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())  # signals are the main thread's
        rest = self._unread
        while True:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                self._take(line.decode())
            read = self._receive()
            if not read:
                end_group()  # the supervisor is gone: nothing that runs here has an owner any more
            rest += read

    def _receive(self) -> bytes:
        try:
            return self._link.recv(LARGEST_READ)
        except OSError:
            return b""

    def _take(self, line: str) -> None:
        kind = line[:1]
        if kind in "CF":
            self._inbox.orders.put(wire.order_of(line))
        elif kind == "A":
            self._inbox.taken.put(None)
        else:
            self._take_rare(kind, line)

    def _take_rare(self, kind: str, line: str) -> None:
        fields = line.split("\t", 2)
        if kind == "D":
            self._definitions[int(fields[1])] = definition_of(json.loads(fields[2]))
        elif kind == "P":
            self._watch(int(fields[1]))
        elif kind == "T":
            self._end(int(fields[1]), fields[2])
        elif kind == "R":
            self._give_back()
        elif kind == "N":
            self._questions.take(int(fields[1]), fields[2])
        elif kind == "Q":
            self._leave()

    def _watch(self, number: int) -> None:
        self._watched = number
        if self._current == number:
            self._send(wire.line("P", number))

    def _end(self, number: int, why: str) -> None:
        self._ends[number] = why
        if self._current == number:
            self._give_back()
            # To the children of the call too. The kernel gives it to the main thread: this one blocks it.
            os.killpg(0, signal.SIGTERM)
        elif self._take_out(number):
            del self._ends[number]
            self._send(wire.line("B", number))
        # else the main thread is just taking it, and will see `_ends`; or it is over, and its answer is out

    def _take_out(self, number: int) -> bool:
        waiting = self._waiting()
        for order in waiting:
            if order.number != number:
                self._inbox.orders.put(order)
        return any(order.number == number for order in waiting)

    def _waiting(self) -> list[Order]:
        waiting: list[Order] = []
        while True:
            try:
                order = self._inbox.orders.get_nowait()
            except queue.Empty:
                return waiting
            if order is not None:
                waiting.append(order)

    def _give_back(self) -> None:
        """Everything that waits goes back; what the main thread has taken has begun."""
        back = b"".join(wire.line("B", order.number) for order in self._waiting())
        if back:
            self._send(back)

    def _leave(self) -> None:
        """Finish what waits, then end."""
        self._inbox.orders.put(None)

    def _send(self, line: bytes) -> None:
        try:
            with self._sending:
                self._link.sendall(line)
        except OSError:
            end_group()


def _by_force(error: BaseException) -> Outcome:
    """The supervisor knows why; what it does not know is where the call was."""
    return Outcome(Ending.CANCELLED, error=calling.traceback_text(error))


def _forced(why: str) -> TaskTimeout | TaskCancelled:
    return TaskTimeout() if why == Ending.TIMEOUT else TaskCancelled(why)


def main() -> None:
    """`python -m jobrunner.execution.worker FD SUPERVISOR_PID`: started by a pool, never by hand."""
    link, supervisor = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    welcome = begin(link.fileno(), supervisor)
    # Byte code is matched by a file's second and size: that of an edit within the same second would be stale.
    sys.dont_write_bytecode = True
    caller = Caller()
    calling.call_hook(welcome.settings["on_startup"], lambda hook: caller.call(hook, [], {}))
    Worker(link, supervisor, welcome).serve()
    limit_leaving()
    calling.call_hook(welcome.settings["on_shutdown"], lambda hook: caller.call(hook, [], {}))


if __name__ == "__main__":
    main()
