"""Calls side by side on one event loop: the kind `async`.

`async def` callables are tasks of the loop, ended by `cancel`. Other callables are called in threads beside
it, so that they stop nobody; they are ended as in the kind `thread`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType, FrameType
from typing import Final, cast

from .. import hooks
from ..context import CurrentRun
from . import calling
from .calling import Outcome
from .questions import Gate, NativeGate
from .threads import frames_of, inject
from .workshop import Work, Workshop, exception_for

MOST_WAITING: Final = 1000  # threads of calls that wait for another run, beside those of the slots


class Coroutines:
    """At most so many tasks on one event loop."""

    def __init__(self, workshop: Workshop, most: int) -> None:
        self._workshop = workshop
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._beside = ThreadPoolExecutor(most + MOST_WAITING, thread_name_prefix="slot")

    def call(self, hook: Callable[..., object], /) -> object:
        result = hook()
        return self._loop.run_until_complete(result) if asyncio.iscoroutine(result) else result

    def new_gate(self) -> Gate:
        return NativeGate()

    def serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._workshop.is_done:
            try:
                self._loop.run_forever()
            except (KeyboardInterrupt, SystemExit):  # of a task that a call has left on the loop
                continue

    def wake(self, _orders: int) -> None:
        self._loop.call_soon_threadsafe(self._look)

    def end(self, work: Work) -> None:
        self._loop.call_soon_threadsafe(self._end_now, work)

    def release(self, work: Work) -> None:
        """Nothing: what is still to be ended is looked at before it is."""

    def _look(self) -> None:
        most = self._most + self._workshop.waits
        while len(self._tasks) < most and (work := self._workshop.next()) is not None:
            task = self._loop.create_task(self._work(work))
            work.place = task
            self._tasks.add(task)
        if self._workshop.is_done:
            self._loop.stop()

    def _end_now(self, work: Work) -> None:
        if work.is_over or work.ends is None:
            return
        with self._workshop.mutex:
            place: object = work.place
            if isinstance(place, int):
                inject(place, exception_for(work.ends))
        if isinstance(place, asyncio.Task):
            place.cancel()
        self._workshop.asked(work, _frames_at(place))

    # ---- one call --------------------------------------------------------------------------------

    async def _work(self, work: Work) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            outcome = await self._outcome(work)
        except BaseException as error:
            outcome = self._workshop.judge(work, error)
        self._workshop.finish(work, outcome)
        self._tasks.discard(task)
        self._loop.call_soon(self._look)

    async def _outcome(self, work: Work) -> Outcome:
        if work.definition.function is None:  # an import may take its time: the others go on
            outcome = await self._loop.run_in_executor(self._beside, self._workshop.prepare, work)
        else:
            outcome = self._workshop.prepare(work)
        if outcome is not None:
            return outcome
        result = await self._called(self._workshop.enter(work), work)
        return calling.success(result, store=work.definition.store_result)

    async def _called(self, run: CurrentRun, work: Work) -> object:
        function = work.definition.function
        assert function is not None
        call = partial(function, *work.args, **work.kwargs)
        if not hooks.registered():
            return await self._result(work, call)
        calling.before(run)
        try:
            result = await self._result(work, call)
        except BaseException as error:
            hooks.leave(run, None, error)
            raise
        hooks.leave(run, result, None)
        return result

    async def _result(self, work: Work, call: partial[object]) -> object:
        if inspect.iscoroutinefunction(call.func):
            return await cast("Awaitable[object]", call())
        result = await self._in_thread(work, call)
        return await result if type(result) is CoroutineType else result

    async def _in_thread(self, work: Work, call: Callable[[], object]) -> object:
        task, context = work.place, copy_context()
        work.place = None  # on its way: the thread itself looks whether it is to end
        try:
            return await self._loop.run_in_executor(self._beside, self._there, work, context, call)
        finally:
            work.place = task

    def _there(self, work: Work, context: Context, call: Callable[[], object]) -> object:
        with self._workshop.mutex:
            work.place = threading.get_ident()
        try:
            work.check()
            return context.run(call)
        finally:
            with self._workshop.mutex:
                if work.ends is not None:
                    inject(threading.get_ident(), None)
                work.place = None


def _frames_at(place: object) -> list[traceback.FrameSummary]:
    """Where a task or a thread is, outermost frame first."""
    if isinstance(place, int):
        return frames_of(place)
    if isinstance(place, asyncio.Task):
        return list(traceback.StackSummary.extract(_awaited(place.get_coro())))
    return []


def _awaited(coroutine: object) -> Iterator[tuple[FrameType, int]]:
    """The frames of a coroutine that waits, and of those that it waits for."""
    while isinstance(coroutine, CoroutineType):
        if coroutine.cr_frame is not None:
            yield coroutine.cr_frame, coroutine.cr_frame.f_lineno
        coroutine = coroutine.cr_await


def make(workshop: Workshop, most: int) -> Coroutines:
    """The kind, for so many calls at a time."""
    return Coroutines(workshop, most)
