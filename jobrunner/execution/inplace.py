"""One attempt in the process of the caller, which waits for it: for immediate mode and for tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .. import context
from ..clock import Clock
from ..codec import decode_arguments
from ..context import CurrentRun, TaskCancelled, TaskTimeout, current_run
from ..durations import Micros
from ..errors import PayloadError, UsageError
from ..hooks import Hooks, Notice, Signal
from ..model import Ended, Ending
from . import Call, calling
from .calling import Caller, Outcome

Ends = Callable[[], str | None]  # why the attempt is to be ended, asked by `current_run().check()`

_caller = Caller()


def attempt(call: Call, function: Callable[..., object], clock: Clock, ends: Ends, hooks: Hooks) -> Ended:
    """Call the function as a worker would, through the same encoding, and describe the end.

    Nothing here can end a call by force: one that has run longer than its timeout ends when it returns, or
    calls `current_run().check()`, and is a timeout all the same.
    """
    started, begun = clock.now(), clock.monotonic()
    deadline = None if call.timeout is None else begun + call.timeout

    def ending() -> str | None:
        is_late = deadline is not None and clock.monotonic() >= deadline
        return ends() or (Ending.TIMEOUT.value if is_late else None)

    outcome = _called(call, function, _run_of(call, deadline, clock, ending), hooks)
    forced = ending()
    return Ended(
        ending=outcome.ending if forced is None else Ending(forced),
        started_at=started,
        ended_at=clock.now(),
        result=outcome.result if forced is None else None,
        error=outcome.error,
        exit_code=outcome.exit_code,
        exception=outcome.exception,
        exceptions=outcome.exceptions,
        retry=outcome.retry,
        delay=outcome.delay,
        pid=os.getpid(),
    )


def _run_of(call: Call, deadline: Micros | None, clock: Clock, ending: Ends) -> CurrentRun:
    return CurrentRun(
        id=call.run_id,
        task=call.task.name,
        attempt=call.attempt,
        trigger=call.trigger,
        missed=call.missed,
        tick=call.tick,
        due_at=call.due_at,
        cause=call.cause,
        deadline=deadline,
        clock=clock,
        ending=ending,
    )


def _called(call: Call, function: Callable[..., object], run: CurrentRun, hooks: Hooks) -> Outcome:
    try:
        args, kwargs = decode_arguments(call.payload)
    except PayloadError as error:
        return Outcome(Ending.BAD_ARGUMENTS, error=error.message)
    try:
        with _inside(run):
            result = _hooked(run, lambda: _caller.call(function, args, kwargs), hooks)
        return calling.success(result, store=call.task.store_result)
    except (TaskTimeout, TaskCancelled) as error:
        return Outcome(Ending.CANCELLED, error=calling.traceback_text(error))
    except KeyboardInterrupt:
        raise  # Ctrl-C in a test ends the test
    except BaseException as error:
        return calling.failure(error, function, (args, kwargs))


def _hooked(run: CurrentRun, call: Callable[[], object], hooks: Hooks) -> object:
    """As in a worker, but with the hooks of one JobRunner: this process may hold others."""
    hooks.start()
    hooks.enter(run)
    executing = Notice(
        signal=Signal.EXECUTING, task=run.task, run_id=run.id, at=run.now(), attempt=run.attempt
    )
    hooks.send(executing)
    try:
        result = call()
    except BaseException as error:
        hooks.leave(run, None, error)
        raise
    hooks.leave(run, result, None)
    return result


@contextmanager
def _inside(run: CurrentRun) -> Iterator[None]:
    """Make it the current run; the one around it, which may wait for it, comes back afterwards."""
    try:
        outer = current_run()
    except UsageError:
        outer = None
    context.enter(run)
    try:
        yield
    finally:
        context.enter(outer)
