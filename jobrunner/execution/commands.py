"""The slots of a command pool: commands are started, watched, ended by force, and reported.

    started --(exit)--------------------> exited --(nothing is left)--> over
       \\--(timeout, cancel: TERM)--> ending --(exit)--^  \\--(something is left: TERM, KILL)--^
                                       \\--(kill_after: KILL)

The end of a command is its exit, told by its pidfd: never the end of a pipe, which a grandchild may hold open
for ever. What it leaves behind is ended before it is reported, so that no two attempts of a run meet.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ..durations import MILLISECOND, SECOND, Micros, format_duration
from ..model import Ended, Ending
from ..output import OutputFile, Stream
from ..plan import Pool
from . import LASTS, Call, Loop, Sink, Timer
from .capture import Capture, NotStorable
from .environment import allowed
from .family import Mark, Process, living, relatives, send
from .journal import Journal, Spawn
from .leftovers import KILL, Orphans, end_all
from .spawn import (
    BadArguments,
    CouldNotStart,
    Exit,
    Spawned,
    free_signals,
    prepare,
    shell_says,
    spawn,
)

CHUNK: Final = 64 * 1024  # bytes read in one turn of the loop
MOST_DRAINED: Final = 1024 * 1024  # bytes read after the exit: no pipe holds more, unless somebody writes on
LEFTOVER_GRACE: Micros = SECOND // 2  # TERM to KILL for what a command left when it ended by itself
KILL_PATIENCE: Micros = SECOND  # after KILL: what still lives then cannot be ended
FIRST_LOOK: Micros = 2 * MILLISECOND
LAST_LOOK: Micros = 100 * MILLISECOND
SWEEP: Micros = 5 * SECOND  # between two looks for dead orphans


@dataclass(slots=True, eq=False)
class _Command:
    """One attempt that has begun."""

    call: Call
    process: Spawned
    capture: Capture
    started_at: Micros
    since: Micros  # the same, monotonic: the wall clock may be stepped
    pipes: dict[int, Stream]
    timer: Timer | None = None  # the timeout; once it is being ended: KILL
    look: Timer | None = None
    ending: Ending | None = None  # decided
    exit: Exit | None = None
    refusal: str | None = None  # why the launcher did not become the command
    ended_at: Micros = 0
    kill_at: Micros | None = None  # monotonic
    killed_at: Micros | None = None
    pause: Micros = FIRST_LOOK
    family: list[Process] = field(default_factory=list)  # what lived at the last look
    told: set[Process] = field(default_factory=set)  # who got TERM
    stuck: int = 0  # processes that KILL did not end
    is_reported: bool = False  # its start
    is_over: bool = False


class CommandExecutor:
    """Executes the calls of one pool of kind `command`. Everything happens on the loop."""

    def __init__(self, pool: Pool, loop: Loop, sink: Sink, output_root: str, journal: Journal) -> None:
        free_signals()
        self._slots = pool.slots
        self._loop = loop
        self._sink = sink
        self._output_root = output_root
        self._journal = journal
        self._inherited = allowed(os.environ)
        self._pool_env = pool.env
        self._commands: dict[str, _Command] = {}  # by run id
        self._pids: set[int] = set()
        self._orphans = Orphans()
        self._retired = False
        self._sweeper = loop.after(SWEEP, self._sweep)
        self._looking: Timer | None = None  # for starts to be reported

    # --- the contract -------------------------------------------------------------------------------

    def room(self) -> int:
        return 0 if self._retired else max(0, self._slots - len(self._commands))

    def busy(self) -> int:
        return len(self._commands)

    def workers(self) -> int:
        return 0

    def start(self, calls: list[Call]) -> None:
        for call in calls:
            self._start(call)

    def end(self, call: Call, ending: Ending, *, grace: Micros | None = None) -> None:
        command = self._commands.get(call.run_id)
        if command is not None:
            self._end(command, ending, call.task.kill_after if grace is None else grace)

    def recall(self) -> None:
        """Nothing waits here: commands start at once."""

    def retire(self) -> None:
        self._retired = True

    def close(self) -> None:
        commands = list(self._commands.values())
        if commands and not self._kill_all(commands):
            for command in commands:
                self._journal.over(command.call.run_id, command.process.pid)
        for command in commands:
            self._let_go(command)
        self._sweeper.cancel()
        _cancel(self._looking)
        self._orphans.close()

    def _kill_all(self, commands: list[_Command]) -> list[Process]:
        """KILL everything of these commands; gives what lives all the same."""
        for command in commands:
            command.process.signal_group(signal.SIGKILL)
        marks = {_mark(command) for command in commands}
        return end_all(lambda: relatives(self._pids, marks.__contains__), (KILL,), self._loop).left

    def _sweep(self) -> None:
        """Collect dead orphans, now and then."""
        self._orphans.collect_dead(self._pids, self._loop.monotonic())
        self._sweeper = self._loop.after(SWEEP, self._sweep)

    # --- start --------------------------------------------------------------------------------------

    def _start(self, call: Call) -> None:
        at = self._loop.now()  # nothing that the command does is earlier
        try:
            process = self._spawn(call)
        except BadArguments as why:
            self._refuse(call, at, Ending.BAD_ARGUMENTS, str(why))
        except CouldNotStart as why:
            self._refuse(call, at, Ending.COULD_NOT_START, str(why))
        else:
            self._begin(call, at, process)

    def _spawn(self, call: Call) -> Spawned:
        return spawn(call, prepare(call, self._inherited, self._pool_env))

    def _refuse(self, call: Call, at: Micros, ending: Ending, error: str) -> None:
        self._sink.ended(call, Ended(ending, started_at=at, ended_at=self._loop.now(), error=error))

    def _begin(self, call: Call, at: Micros, process: Spawned) -> None:
        self._journal.began(Spawn(call.run_id, process.pid, process.start, call.owner))
        file = OutputFile(self._output_root, call.run_id, call.attempt, max_size=call.task.output.max_size)
        pipes = {process.stdout: Stream.STDOUT, process.stderr: Stream.STDERR}
        since = self._loop.monotonic()
        command = _Command(call, process, Capture(call.task, file), at, since, pipes)
        self._commands[call.run_id] = command
        self._pids.add(process.pid)
        self._loop.watch(process.pidfd, read=partial(self._exited, command))
        for fd in pipes:
            self._loop.watch(fd, read=partial(self._readable, command, fd))
        if call.timeout is not None:
            command.timer = self._loop.after(call.timeout, partial(self._timed_out, command))
        if self._looking is None:
            self._looking = self._loop.after(LASTS, self._report_starts)

    def _report_starts(self) -> None:
        """Report the starts of commands that last: of the others the end says all. The journal knows both."""
        now, unreported = self._loop.monotonic(), False
        for command in [each for each in self._commands.values() if not each.is_reported]:
            if now - command.since < LASTS:
                unreported = True
            else:
                command.is_reported = True
                self._sink.started(command.call, command.started_at, command.process.pid)
        self._looking = self._loop.after(LASTS, self._report_starts) if unreported else None

    # --- output -------------------------------------------------------------------------------------

    def _readable(self, command: _Command, fd: int) -> None:
        self._read(command, fd)

    def _read(self, command: _Command, fd: int) -> int:
        """Take what one read gives; how many bytes. At its end the pipe is closed."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return 0
        if data:
            command.capture.take(command.pipes[fd], data)
        else:
            self._close_pipe(command, fd)
        return len(data)

    def _drain(self, command: _Command) -> None:
        """Take what lies in the pipes; no more than they hold, for somebody may go on writing."""
        for fd in list(command.pipes):
            rest = MOST_DRAINED
            while rest > 0 and (size := self._read(command, fd)):
                rest -= size

    def _close_pipe(self, command: _Command, fd: int) -> None:
        self._loop.unwatch(fd)
        os.close(fd)
        del command.pipes[fd]

    # --- the end by force ---------------------------------------------------------------------------

    def _timed_out(self, command: _Command) -> None:
        self._end(command, Ending.TIMEOUT, command.call.task.kill_after)

    def _end(self, command: _Command, ending: Ending, grace: Micros) -> None:
        """TERM to all of it, and KILL after `grace`; the first reason holds, the shortest grace wins."""
        if command.ending is None:
            self._exited(command)  # its own end may lie there, not yet looked at
        if command.is_over:
            return
        if command.ending is None:
            command.ending = ending
            command.family = self._family(command)
            self._terminate(command)
        self._kill_within(command, grace)

    def _terminate(self, command: _Command) -> None:
        """TERM to the group, at first, and to those of the family that are elsewhere; once for each.

        CONT follows, for a stopped process takes TERM only when it goes on.
        """
        first = not command.told
        if first:
            command.process.signal_group(signal.SIGTERM, signal.SIGCONT)
        for each in set(command.family) - command.told:
            if not first or each.group != command.process.pid:
                send(each, signal.SIGTERM, signal.SIGCONT)
        command.told.update(command.family)

    def _family(self, command: _Command) -> list[Process]:
        """Everything that lives of a command: its session, its marks, and the children of all these."""
        leader = command.process
        try:
            orphans = self._orphans_of(command)
            marks = {_mark(command)}
            return relatives({leader.pid}, marks.__contains__, others=orphans, since=leader.start)
        except OSError:  # no descriptor left to look with: somebody may live
            return [Process(leader.pid, "", 0, leader.pid, leader.pid, leader.start)]

    def _orphans_of(self, command: _Command) -> list[int]:
        return self._orphans.of(command.process.pid, command.call.run_id, self._pids)

    def _kill_within(self, command: _Command, grace: Micros) -> None:
        at = self._loop.monotonic() + grace
        if command.killed_at is not None or (command.kill_at is not None and command.kill_at <= at):
            return
        _cancel(command.timer)
        command.kill_at = at
        command.timer = self._loop.after(grace, partial(self._kill, command))

    def _kill(self, command: _Command) -> None:
        command.killed_at = self._loop.monotonic()
        command.process.signal_group(signal.SIGKILL)
        command.family = self._family(command)
        for each in command.family:
            send(each, signal.SIGKILL)
        if command.exit is not None:
            self._look_soon(command)

    # --- the exit -----------------------------------------------------------------------------------

    def _exited(self, command: _Command) -> None:
        found = command.process.exit()
        if found is None:
            return
        self._loop.unwatch(command.process.pidfd)
        command.exit, command.ended_at = found, self._loop.now()
        if command.ending is not None:
            self._look(command)
            return
        command.refusal = command.process.refusal(command.call.task)
        command.ending = _own_ending(command, found)
        _cancel(command.timer)
        self._drain(command)
        if not self._orphans_of(command):
            self._finish(command)
        elif command.ending is Ending.OK and command.call.task.leftovers == "keep":
            self._journal.kept(command.call.run_id, command.call.owner)
            self._finish(command)
        else:
            self._kill_within(command, LEFTOVER_GRACE)
            self._look(command)

    def _look(self, command: _Command) -> None:
        """See whether something is left of it; what is, is ended. Reported when nothing is."""
        command.family = list(living(command.family)) or self._family(command)
        if not command.family or self._is_hopeless(command):
            command.stuck = len(command.family)
            self._finish(command)
            return
        if command.killed_at is None:
            self._terminate(command)
        else:
            for each in command.family:
                send(each, signal.SIGKILL)
        self._look_soon(command)

    def _is_hopeless(self, command: _Command) -> bool:
        return command.killed_at is not None and self._loop.monotonic() - command.killed_at > KILL_PATIENCE

    def _look_soon(self, command: _Command) -> None:
        _cancel(command.look)
        command.look = self._loop.after(command.pause, partial(self._look, command))
        command.pause = min(2 * command.pause, LAST_LOOK)

    def _finish(self, command: _Command) -> None:
        self._drain(command)
        if not command.stuck:
            self._journal.over(command.call.run_id, command.process.pid)
        self._let_go(command)
        self._sink.ended(command.call, _ended(command))

    def _let_go(self, command: _Command) -> None:
        """Release everything that this command holds here."""
        command.is_over = True
        _cancel(command.timer)
        _cancel(command.look)
        for fd in list(command.pipes):
            self._close_pipe(command, fd)
        self._loop.unwatch(command.process.pidfd)
        command.capture.close()
        command.process.collect()
        self._pids.discard(command.process.pid)
        del self._commands[command.call.run_id]


def _cancel(timer: Timer | None) -> None:
    if timer is not None:
        timer.cancel()


def _mark(command: _Command) -> Mark:
    return Mark(command.call.owner, command.call.run_id)


# --- the report -----------------------------------------------------------------------------------------


def _own_ending(command: _Command, found: Exit) -> Ending:
    """What a command's own exit means (semantics 13)."""
    if command.refusal is not None:
        return Ending.COULD_NOT_START
    if found.signal is not None:
        return Ending.SIGNAL
    if found.code is None:  # nobody can say how it ended: never shown as success
        return Ending.CRASHED
    return Ending.OK if found.code in command.call.task.success_codes else Ending.EXIT


def _ended(command: _Command) -> Ended:
    ending, result, error = command.ending or Ending.CRASHED, None, None
    if ending is Ending.OK:
        try:
            result = command.capture.result()
        except NotStorable as why:
            ending, error = Ending.NOT_STORABLE, str(why)
    else:
        error = _error(command, ending)
    found = command.exit if command.exit and command.refusal is None else Exit(None, None)
    return Ended(
        ending,
        started_at=command.started_at,
        ended_at=command.ended_at,
        result=result,
        error=error,
        exit_code=found.code,
        signal=found.signal,
        pid=command.process.pid,
        output=command.capture.close(),
    )


def _error(command: _Command, ending: Ending) -> str:
    """What happened, and the last words on stderr."""
    lines = [_what(command, ending)]
    if command.stuck:
        lines.append(f"{command.stuck} of its processes could not be ended")
    if words := command.capture.last_words():
        lines.append(words)
    return "\n".join(lines)


def _what(command: _Command, ending: Ending) -> str:
    found = command.exit or Exit(None, None)
    match ending:
        case Ending.EXIT:
            return f"exit {found.code}{_hint(command, found.code)}"
        case Ending.SIGNAL:
            return f"ended by {found.signal}{_LIMIT_SAYS.get(found.signal or '', '')}"
        case Ending.COULD_NOT_START:
            return command.refusal or ending.value
        case Ending.TIMEOUT:
            return f"not done within its timeout of {format_duration(command.call.timeout or 0)}"
        case Ending.CRASHED:
            return "its exit status was taken by somebody else: how it ended is not known"
    return ending.value


def _hint(command: _Command, code: int | None) -> str:
    said = shell_says(command.call.task, code, command.process.path)
    return f" ({said})" if said else ""


_LIMIT_SAYS: Final = {
    "SIGXCPU": " (its limit of processor time)",
    "SIGXFSZ": " (its limit of a file's size)",
}
