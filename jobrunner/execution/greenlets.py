"""Calls side by side in greenlets: the kind `greenlet`. gevent has patched the process before anything else.

A greenlet is ended when it next yields. One that never does stops all of them: the supervisor sees that its
wish was not even taken, and replaces the worker.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable

import gevent
from gevent.event import Event

from ..context import CurrentRun
from ..errors import UsageError
from .calling import Caller
from .questions import Gate
from .threads import call_with
from .workshop import Work, Workshop, exception_for


class Greenlets:
    """At most so many greenlets; a bell that any thread may ring wakes the loop."""

    def __init__(self, workshop: Workshop, most: int) -> None:
        self._workshop = workshop
        self._most = most
        self._executing = 0
        self._to_do: deque[Callable[[], object]] = deque()
        self._done = Event()
        self._caller = _Plain()
        self._bell = gevent.get_hub().loop.async_()
        self._bell.start(self._look)

    def call(self, hook: Callable[..., object], /) -> object:
        return self._caller.call(hook, [], {})

    def new_gate(self) -> Gate:
        return _Gate(self._do_soon)

    def _do_soon(self, do: Callable[[], object]) -> None:
        """Do this on the loop; from any thread."""
        self._to_do.append(do)
        self._bell.send()

    def serve(self) -> None:
        self._done.wait()

    def wake(self, _orders: int) -> None:
        self._bell.send()

    def end(self, work: Work) -> None:
        self._do_soon(lambda: self._end_now(work))

    def release(self, work: Work) -> None:
        """Nothing: what is still to be ended is looked at before it is."""

    def _look(self) -> None:
        """On the loop."""
        while self._to_do:
            self._to_do.popleft()()
        most = self._most + self._workshop.waits
        while self._executing < most and (work := self._workshop.next()) is not None:
            self._executing += 1
            work.place = gevent.spawn(self._work, work)
        if self._workshop.is_done:
            self._done.set()

    def _end_now(self, work: Work) -> None:
        if work.is_over or work.ends is None:
            return
        frame = work.place.gr_frame
        self._workshop.asked(work, [] if frame is None else list(traceback.extract_stack(frame)))
        if frame is not None:  # else it has not begun, and will see `ends` then
            work.place.kill(exception_for(work.ends)(), block=False)

    def _work(self, work: Work) -> None:
        self._workshop.attempt(work, self._call)
        self._executing -= 1
        self._bell.send()

    def _call(self, run: CurrentRun, work: Work) -> object:
        return call_with(self._caller, run, work)


class _Gate:
    """A gate at which one greenlet waits."""

    def __init__(self, do_soon: Callable[[Callable[[], object]], None]) -> None:
        self._do_soon = do_soon
        self._event = Event()

    def wait(self) -> None:
        self._event.wait()

    def open(self) -> None:
        self._do_soon(self._event.set)


class _Plain(Caller):
    """Greenlets of one thread cannot each have an event loop."""

    def _run(self, coroutine: object) -> object:
        coroutine.close()  # type: ignore[attr-defined]
        raise UsageError(
            "an async def cannot be called in a pool of kind greenlet: "
            "give its task a pool of kind async, thread or process"
        )


def make(workshop: Workshop, most: int) -> Greenlets:
    """The kind, for so many calls at a time."""
    return Greenlets(workshop, most)
