"""One attempt here, in this terminal: with everything that the service would give it, but no record.

A command, or a callable in a process of its own. Both stay in the terminal's own group of processes, so that
Ctrl-C reaches them as it would reach any program.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from ..clock import SystemClock
from ..durations import MILLISECOND, Micros
from ..plan import Pool
from . import Call
from .environment import command_environment
from .family import Mark, Process, relatives
from .forking import Launch, Streams, start
from .launch import launch_of
from .leftovers import KILL, TERM, end_all
from .process import added_path, with_path
from .spawn import CouldNotStart, Exit, Prepared, Spawned, free_signals, stdin_of, why

_ALONE: Final = "jobrunner.execution.alone"
_CLOCK: Final = SystemClock()
_LONGEST_POLL: Final = 2**31 - 1  # milliseconds, 24 days: poll(2) takes no more


class Over(NamedTuple):
    """How it went. `refusal`: why it could not start."""

    exit: Exit
    path: str  # the PATH that it got
    refusal: str | None = None
    timed_out: bool = False
    asked: int | None = None  # the signal by which this process was asked to end


# ---- start -----------------------------------------------------------------------------------------------


def start_command(call: Call, prepared: Prepared) -> Spawned:
    """Start a call's command on the streams of this process. Raises CouldNotStart."""
    argv, environment, identity = prepared
    free_signals()
    opened: list[int] = []
    try:
        stdin = stdin_of(call.task, opened)
        launch = launch_of(call.task, argv, environment, identity=identity, opened=opened)
        pid = start(launch, Streams(stdin), is_leader=False)
        if launch.status >= 0:
            opened.remove(launch.status)
        return Spawned(pid, -1, -1, environment.get("PATH", os.defpath), launch.status)
    except (OSError, ValueError) as error:
        raise CouldNotStart(why(error, argv, call.task.cwd, environment)) from None
    finally:
        for fd in opened:
            os.close(fd)


def start_callable(
    call: Call, pool: Pool, inherited: Mapping[str, str], pythonpath: tuple[str, ...]
) -> Spawned:
    """Start a call's callable in an interpreter of its pool. Raises CouldNotStart."""
    free_signals()
    base = {**inherited, **pool.env}
    added = added_path(pool.python)
    order = {
        "pythonpath": list(pythonpath),
        "added": added,
        "environment": command_environment(base, call),
        "cwd": call.task.cwd,
        "call": call.task.call,
        "payload": call.payload,
        "store_result": call.task.store_result,
        "run": [call.run_id, call.task.name, call.trigger, call.due_at],
        "deadline": None if call.timeout is None else _CLOCK.monotonic() + call.timeout,
    }
    python = pool.python or sys.executable
    memory = os.memfd_create("call")
    opened = [memory]
    try:
        os.write(memory, json.dumps(order).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        argv = [python, "-P", "-m", _ALONE, str(memory)]
        environment = {**with_path(base, added), **_marks(call)}
        opened.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        launch = Launch(argv, environment, "/", (memory,))
        pid = start(launch, Streams(opened[-1]), is_leader=False)
        return Spawned(pid, -1, -1, "")
    except OSError as error:
        raise CouldNotStart(f"cannot run {python}: {(error.strerror or '').lower()}") from None
    finally:
        for fd in opened:
            os.close(fd)


def _marks(call: Call) -> dict[str, str]:
    environment = command_environment({}, call)
    return {name: text for name, text in environment.items() if name.startswith("JOBRUNNER_")}


# ---- to its end ------------------------------------------------------------------------------------------


def run(call: Call, start: Callable[[], Spawned]) -> Over:
    """Start it and wait for its end; bring that about after its timeout, or when this process is to end.

    Raises what `start` raises.
    """
    with _asked_to_end() as asked:  # before there is anything that could be left behind
        process = start()
        _wait(process.pidfd, asked, call.timeout)
        number, over = _number_in(asked), process.exit()
        timed_out = over is None and number is None
        if over is None:
            gently = TERM._replace(patience=call.task.kill_after)
            end_all(lambda: _family(process, call), (gently, KILL), _CLOCK)
            over = process.exit()
    refusal = None if over is None else process.refusal(call.task)
    went_well = over is not None and over.code in call.task.success_codes
    if not (went_well and call.task.leftovers == "keep"):
        end_all(lambda: _family(process, call), (TERM, KILL), _CLOCK)
    process.collect()
    return Over(over or Exit(None, None), process.path, refusal, timed_out=timed_out, asked=number)


def _family(process: Spawned, call: Call) -> list[Process]:
    mark = Mark(call.owner, call.run_id)
    return relatives((), lambda found: found == mark, others=(process.pid,), since=process.start)


def _wait(pidfd: int, asked: int, timeout: Micros | None) -> None:
    """Wait for the end or for a signal, for `timeout` at most."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(asked, select.POLLIN)
    longest = None if timeout is None else max(1, timeout // MILLISECOND)
    poll.poll(None if longest is None or longest > _LONGEST_POLL else longest)


@contextmanager
def _asked_to_end() -> Iterator[int]:
    """A descriptor that holds the number of TERM or HUP, once it has come.

    INT and QUIT come from the terminal, and go to the command as well: what they mean is for it to say.
    """
    told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def note(number: int, _frame: object) -> None:
        os.write(tell, bytes([number]))

    def nothing(_number: int, _frame: object) -> None:
        return

    handlers = {signal.SIGTERM: note, signal.SIGHUP: note, signal.SIGINT: nothing, signal.SIGQUIT: nothing}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    }
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(told)
        os.close(tell)


def _number_in(told: int) -> int | None:
    try:
        return os.read(told, 1)[0]
    except BlockingIOError:
        return None
