"""What the calls of a worker ask of the supervisor, and who waits for which answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..context import run_here
from ..errors import UsageError
from . import native, wire

if TYPE_CHECKING:
    import asyncio


class Opens(Protocol):
    """What another thread opens for somebody who waits."""

    def open(self) -> None:
        """From any thread, at most once."""
        ...


class Gate(Opens, Protocol):
    """What somebody waits at until another thread opens it."""

    def wait(self) -> None: ...


class NativeGate:
    """A gate at which the whole thread waits; in the main thread a signal's handler may raise there."""

    def __init__(self) -> None:
        self._lock = native.new_lock()
        self._lock.acquire()

    def wait(self) -> None:
        self._lock.acquire()

    def open(self) -> None:
        self._lock.release()


class _LoopGate:
    """A gate at which a coroutine waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.opened: asyncio.Future[None] = loop.create_future()

    def open(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._open_here)

    def _open_here(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)


@dataclass(slots=True, eq=False)
class _Question:
    gate: Opens
    call: int
    is_wait: bool  # for another run
    answer: str | None = None
    is_open: bool = False


class Questions:
    """The questions that are open; `context.Asking` for the calls of this process."""

    def __init__(
        self,
        url: str,
        send: Callable[[bytes], None],
        *,
        call: Callable[[], int],
        new_gate: Callable[[], Gate] = NativeGate,
    ) -> None:
        """`call` gives the number of the call that is executing here, 0 outside of one."""
        self.url = url
        self._send = send
        self._call = call
        self._new_gate = new_gate
        self._numbers = itertools.count(1)
        self._open: dict[int, _Question] = {}

    def ask(self, text: str) -> str:
        """Send a question and wait for its answer. Raises what ends the call meanwhile."""
        gate = self._new_gate()
        with self._asked(gate, text) as question:
            gate.wait()
        return _answer_of(question)

    async def aask(self, text: str) -> str:
        """`ask` for a coroutine: its event loop goes on meanwhile."""
        import asyncio

        gate = _LoopGate(asyncio.get_running_loop())
        with self._asked(gate, text) as question:
            await gate.opened
        return _answer_of(question)

    @contextmanager
    def _asked(self, gate: Opens, text: str) -> Iterator[_Question]:
        number, call = next(self._numbers), self._call()
        question = self._open[number] = _Question(gate, call, text.startswith(wire.WAITS))
        try:
            self._send(wire.line("M", number, call, text))
            yield question
        finally:
            del self._open[number]
            if question.answer is None:
                self._send(wire.line("M", number, call, ""))  # nobody wants to know any more

    @property
    def waits(self) -> int:
        """How many calls wait for another run: so many more may execute here."""
        return len({question.call for question in list(self._open.values()) if question.is_wait})

    def take(self, number: int, text: str) -> None:
        """The answer has come; on the reader's thread."""
        question = self._open.get(number)
        if question is not None:
            question.answer = text
            self._let_go(question)

    def end(self, call: int) -> None:
        """This call is over, or is to end: it waits for nothing more."""
        for question in list(self._open.values()):
            if question.call == call:
                self._let_go(question)

    def _let_go(self, question: _Question) -> None:
        if not question.is_open:
            question.is_open = True
            question.gate.open()


def _answer_of(question: _Question) -> str:
    if question.answer is None:
        run = run_here()
        if run is not None:
            run.check()
        raise UsageError("the run that asked is over")
    return question.answer
