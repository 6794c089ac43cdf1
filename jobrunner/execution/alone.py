"""A callable alone in this process, for `jobrunner exec`: found, called and described as a worker does it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from .. import context
from ..clock import SystemClock
from ..codec import decode, decode_arguments
from ..context import CurrentRun, TaskCancelled, TaskTimeout
from ..durations import Micros
from ..errors import PayloadError
from ..model import Ending
from . import calling
from .calling import Caller, Outcome
from .start import forget_path

COULD_NOT_START: Final = 126  # as a shell, of a program that it cannot execute
_CLOCK: Final = SystemClock()


def main() -> int:
    """`python -m jobrunner.execution.alone FD`; gives the exit code."""
    with open(int(sys.argv[1]), encoding="utf-8") as file:
        order: dict[str, Any] = json.load(file)
    sys.path[:0] = order["pythonpath"]
    if order["added"] is not None:
        forget_path(order["added"])
    outcome = _attempt(order)
    context.enter(None)
    return _report(outcome)


def _attempt(order: Mapping[str, Any]) -> Outcome:
    os.environ.clear()
    os.environ.update(order["environment"])
    try:
        os.chdir(order["cwd"])
    except OSError as error:
        text = f"the folder {order['cwd']!r} (cwd) is not usable: {error.strerror}"
        return Outcome(Ending.COULD_NOT_START, error=text)
    context.enter(_current_run(order["deadline"], *order["run"]))
    try:
        function = calling.find(order["call"])
    except BaseException as error:
        return calling.not_found(order["call"], error)
    return _call(function, order)


def _call(function: Callable[..., object], order: Mapping[str, Any]) -> Outcome:
    try:
        args, kwargs = decode_arguments(order["payload"])
    except PayloadError as error:
        return Outcome(Ending.BAD_ARGUMENTS, error=error.message)
    try:
        result = Caller().call(function, args, kwargs)
        return calling.success(result, store=order["store_result"])
    except BaseException as error:
        return calling.failure(error, function, (args, kwargs))


def _current_run(deadline: Micros | None, run_id: str, task: str, trigger: str, due_at: Micros) -> CurrentRun:
    ending: list[str] = []

    def on_term(_number: int, _frame: FrameType | None) -> None:
        if ending:
            return
        is_late = deadline is not None and _CLOCK.monotonic() >= deadline
        ending.append(Ending.TIMEOUT.value if is_late else Ending.CANCELLED.value)
        raise TaskTimeout if is_late else TaskCancelled(ending[0])

    signal.signal(signal.SIGTERM, on_term)
    return CurrentRun(
        id=run_id,
        task=task,
        attempt=1,
        trigger=trigger,
        missed=0,
        tick=None,
        due_at=due_at,
        cause=None,
        deadline=deadline,
        clock=_CLOCK,
        ending=lambda: ending[0] if ending else None,
    )


def _report(outcome: Outcome) -> int:
    """The result on stdout, what went wrong on stderr."""
    sys.stdout.flush()
    if outcome.error:
        print(outcome.error.rstrip(), file=sys.stderr)  # noqa: T201
    if outcome.ending is Ending.OK:
        result = None if outcome.result is None else decode(outcome.result)
        if result is not None:
            print(result if isinstance(result, str) else outcome.result)  # noqa: T201
        return 0
    if outcome.ending is Ending.EXIT:
        return outcome.exit_code or 0
    if not outcome.error:
        print(outcome.ending.value, file=sys.stderr)  # noqa: T201
    return COULD_NOT_START if outcome.ending is Ending.COULD_NOT_START else 1


if __name__ == "__main__":
    sys.exit(main())
