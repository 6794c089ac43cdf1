"""Calls side by side in threads: the kind `thread`.

A thread cannot be ended from outside: an exception is put into it, which arrives when it next executes Python
code. What sleeps, or waits in C code, goes on until then.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from .. import hooks
from ..context import CurrentRun
from . import calling
from .calling import Caller
from .questions import Gate, NativeGate
from .workshop import Work, Workshop, exception_for


def inject(ident: int, exception: type[BaseException] | None) -> None:
    """Let this exception be raised in a thread of this process; None takes back one not yet raised."""
    import ctypes

    wanted = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), wanted)


def frames_of(ident: int) -> list[traceback.FrameSummary]:
    """Where a thread is, outermost frame first."""
    frame = sys._current_frames().get(ident)
    return [] if frame is None else list(traceback.extract_stack(frame))


def call_with(caller: Caller, run: CurrentRun, work: Work) -> object:
    """Make the call of this work, with the hooks of this process around it."""
    function = work.definition.function
    assert function is not None
    if hooks.registered():
        return calling.hooked(run, lambda: caller.call(function, work.args, work.kwargs))
    return caller.call(function, work.args, work.kwargs)


class Threads:
    """At most so many threads, started when there is work for them."""

    def __init__(self, workshop: Workshop, most: int) -> None:
        self._workshop = workshop
        self._most = most
        self._started = 0
        self._orders: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each order that came
        self._changed = threading.Semaphore(0)

    def call(self, hook: Callable[..., object], /) -> object:
        return Caller().call(hook, [], {})

    def new_gate(self) -> Gate:
        return NativeGate()

    def serve(self) -> None:
        while not self._workshop.is_done:
            self._changed.acquire()  # a signal's handler is called meanwhile

    def wake(self, orders: int) -> None:
        for _ in range(orders):
            self._orders.put(None)
        while self._started < min(self._most + self._workshop.waits, self._workshop.held):
            self._started += 1
            threading.Thread(target=self._work, name=f"slot-{self._started}", daemon=True).start()
        self._changed.release()

    def end(self, work: Work) -> None:
        assert work.ends is not None
        inject(work.place, exception_for(work.ends))
        self._workshop.asked(work, frames_of(work.place))

    def release(self, work: Work) -> None:
        if work.ends is not None:
            inject(work.place, None)

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the reader's mask is not for children of calls
        caller, ident = Caller(), threading.get_ident()
        while True:
            self._orders.get()
            work = self._workshop.next(ident)
            if work is not None:  # else it went back meanwhile
                self._workshop.attempt(work, lambda run, work: call_with(caller, run, work))
                self._changed.release()


def make(workshop: Workshop, most: int) -> Threads:
    """The kind, for so many calls at a time."""
    return Threads(workshop, most)
