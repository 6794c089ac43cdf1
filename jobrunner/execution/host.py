"""One worker that executes several calls at once, from the supervisor's side: a host and its calls.

The worker reports the start of every call. A call whose end was asked for and which goes on all the same is
given up: its run is final, the host takes nothing new, and ends when its other calls are over. A worker that
does not even take the wish is killed, and its other calls go back (rules 14 and 15).
"""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..durations import MILLISECOND, SECOND, Micros, format_duration
from ..model import Ended, Ending
from ..output import OutputFile, Stream
from . import LASTS, Backing, Call, Loop, Sink, Timer, wire
from .holding import (
    FIND_LIMIT,
    FROM_OUTSIDE,
    LEAVE_LIMIT,
    MANY,
    START_LIMIT,
    Definition,
    Force,
    described,
    joined,
    words,
)
from .process import Death, WorkerProcess
from .replies import Replies

SOFT: Final[Micros] = 250 * MILLISECOND  # for a thread to take its exception
MOST_EARLY: Final = 4096  # bytes kept of what a worker says before it is ready
_STREAMS: Final = (Stream.STDOUT, Stream.STDERR)
_CHUNK: Final = 64 * 1024


@dataclass(slots=True, eq=False)
class Held:
    """A call in a host's hands."""

    call: Call
    definition: Definition
    begun: bool = False
    begun_at: Micros | None = None  # None: it is still finding its callable
    told_at: Micros = 0  # monotonic: when that was heard
    is_reported: bool = False
    force: Force | None = None
    where: str | None = None  # the worker has passed the wish on to the call, which was here
    file: OutputFile | None = None
    timers: list[Timer] = field(default_factory=list)

    def forget_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def written(self) -> str | None:
        """End the file of what it wrote; its sizes as JSON."""
        return None if self.file is None else self.file.close()


class Owner(Protocol):
    """The pool, as its hosts need it."""

    def learned(self, took: Micros) -> None:
        """A call took so long."""
        ...

    def ready(self, host: Host) -> None:
        """This worker has started."""
        ...

    def worn(self, host: Host) -> None:
        """This host takes no more calls."""
        ...

    def gone(self, host: Host) -> None:
        """This host is no more; what it held is reported next."""
        ...

    def could_not_start(self, calls: list[Call], reason: str, *, was_killed: bool) -> None:
        """A worker died before it was ready: of itself, or killed by somebody."""
        ...


class Host:
    """A worker and its calls."""

    def __init__(
        self,
        owner: Owner,
        loop: Loop,
        sink: Sink,
        output_root: str,
        start: Callable[[Host], WorkerProcess],
        *,
        backing: Backing,
        place: int,
        is_soft: bool,
        most: int | None = None,
    ) -> None:
        """Start it; it takes `most` calls, ever. Raises OSError when that is not possible.

        `is_soft`: it can only ask its calls to end.
        """
        self._owner = owner
        self._loop = loop
        self._sink = sink
        self._output_root = output_root
        self._is_soft = is_soft
        self.place = place  # its folder and environment, as the pool counts them
        self._process = start(self)
        self._backing = backing
        self._replies = Replies(backing.ask, self._process.send)
        self.pid = self._process.pid
        self.calls: dict[int, Held] = {}  # by number, in order
        self.born = loop.monotonic()
        self.left = MANY if most is None else most  # calls that it may still be given
        self.served = 0
        self.served_before = 0  # at the pool's last look for idle workers
        self._given_up: set[int] = set()  # calls that go on though their runs are final
        self._sacrificed_for = 0  # the call for whose sake the worker is killed
        self.is_ready = False
        self.is_leaving = False
        self._early = b""
        self._known: set[int] = set()  # definitions sent
        self._unsent: list[str] = []
        self._timers: list[Timer] = [loop.after(START_LIMIT, self.kill)]
        self._process.watch_output(self._take_output)

    @property
    def is_open(self) -> bool:
        """Whether it takes another call."""
        return self.left > 0 and not self.is_leaving

    @property
    def waits(self) -> int:
        """How many of its calls wait for another run: they leave their slots so long."""
        return min(len(self.calls), self._replies.waits)

    # ---- calls in --------------------------------------------------------------------------------

    def add(self, number: int, call: Call, definition: Definition) -> None:
        """Hold this call; `flush` sends it."""
        if definition.number not in self._known:
            self._known.add(definition.number)
            self._unsent.append(definition.line)
        self.calls[number] = Held(call, definition)
        self.left -= 1
        self._unsent.append(wire.call_line("C", number, definition.number, call))

    def flush(self) -> None:
        """Send what was added, at once."""
        self._process.send("".join(self._unsent).encode("utf-8", "backslashreplace"))
        self._unsent.clear()

    def number_of(self, call: Call) -> int | None:
        """Its number of a call; None when it does not hold it."""
        for number, held in self.calls.items():
            if held.call.run_id == call.run_id and held.call.seq == call.seq:
                return number
        return None

    def recall(self) -> None:
        """Ask for everything that has not begun."""
        if any(not held.begun for held in self.calls.values()):
            self._process.send(b"R\n")

    def leave(self) -> None:
        """Let it finish what it executes, and end."""
        if not self.is_leaving:
            self.is_leaving = True
            self._process.send(b"R\nQ\n")
        self._maybe_limit_leaving()

    def wear_out(self) -> None:
        """Take nothing more; end when what has begun is over."""
        if not self.is_leaving:
            self.leave()
            self._owner.worn(self)

    def _maybe_limit_leaving(self) -> None:
        if self.calls or not (self.is_leaving or self.left <= 0):
            return
        if not self.is_leaving:
            self.leave()
            return
        if self._given_up:
            self.kill()  # nobody waits for these
        else:
            self._timers.append(self._loop.after(LEAVE_LIMIT, self.kill))

    def kill(self) -> None:
        """KILL the process and its group, without waiting."""
        self._process.signal_group(signal.SIGKILL)

    def close(self, patience: Micros) -> None:
        """KILL it, see it gone, and release everything; reports nothing."""
        for held in self.calls.values():
            held.forget_timers()
            held.written()
        self.calls.clear()
        self._forget_timers()
        self._replies.close()
        self._process.kill(patience)
        self._process.end_relatives(None)
        self._process.close()

    # ---- answers ---------------------------------------------------------------------------------

    def take_lines(self) -> None:
        """The worker has sent something."""
        lines = self._process.lines()
        if lines is not None:
            self._believe(lines)

    def _believe(self, lines: list[str]) -> None:
        try:
            for line in lines:
                self._take(line)
        except (ValueError, KeyError, TypeError, IndexError):
            self.kill()  # a callable has written to its worker's socket: nothing there can be believed now

    def _take(self, line: str) -> None:
        kind, *fields = line.split("\t", 4)
        if kind == "H":
            self._become_ready()
        elif kind == "G":
            self._backing.receive(fields[0], json.loads(fields[1]))
        elif kind == "M":
            asking = self.calls.get(int(fields[1]))
            self._replies.take(int(fields[0]), None if asking is None else asking.call, fields[2])
        elif kind == "Z":
            self.wear_out()
        else:
            self._take_of_call(kind, int(fields[0]), fields[1:])

    def _take_of_call(self, kind: str, number: int, fields: list[str]) -> None:
        if number in self._given_up:
            if kind in "KEXB":
                self._given_up.discard(number)
            return
        held = self.calls[number]
        if kind in "KEX":
            self._take_answer(kind, number, held, *fields)
        elif kind in "SL":
            self._take_start(number, held, int(fields[0]) if kind == "S" else None)
        elif kind == "O":
            self._write(held, int(fields[0]), base64.b64decode(fields[1]))
        elif kind == "P":
            held.where = str(json.loads(fields[0]))
        elif kind == "B":
            self._take_back(number)
        else:
            raise ValueError(kind)

    def _take_start(self, number: int, held: Held, at: Micros | None) -> None:
        held.begun, held.begun_at, held.told_at = True, at, self._loop.monotonic()
        held.forget_timers()
        if held.force is not None:
            self._arm(number, held)
        elif at is None:
            held.timers.append(self._loop.after(FIND_LIMIT, lambda: self._find_takes_too_long(number)))
        elif held.call.timeout is not None:
            # The wall clock may have been stepped meanwhile: at most what a look may take.
            elapsed = min(max(0, self._loop.now() - at), SECOND)
            wait = max(0, held.call.timeout - elapsed)
            held.timers.append(self._loop.after(wait, lambda: self._time_out(number)))

    def _take_answer(
        self, kind: str, number: int, held: Held, started: str, took_text: str, text: str
    ) -> None:
        self._drain()
        begun, took = int(started), int(took_text)
        held.begun_at = begun
        if kind == "K":
            ended = Ended(Ending.OK, result=text or None)
        elif kind == "E":
            ended = described(text)
        else:
            ended = self._ended_by_force(held, json.loads(text).get("error", ""))
        if kind != "X":
            held.definition.learn(took)
            self.served += 1
            self._owner.learned(took)
        self._end(number, ended._replace(ended_at=begun + took))

    def _ended_by_force(self, held: Held, where: str | None) -> Ended:
        force = held.force or Force(Ending.CANCELLED, 0)
        return Ended(force.ending, error=joined(force.error, where))

    def _end(self, number: int, ended: Ended) -> None:
        """This call is over."""
        held = self._pop(number)
        self._sink.ended(
            held.call, ended._replace(started_at=held.begun_at, pid=self.pid, output=held.written())
        )
        self._maybe_limit_leaving()

    def _pop(self, number: int) -> Held:
        held = self.calls.pop(number)
        held.forget_timers()
        return held

    def _take_back(self, number: int) -> None:
        self.left += 1
        self._report_back(self._pop(number))
        self._maybe_limit_leaving()

    def _report_back(self, held: Held) -> None:
        self._sink.ended(held.call, Ended(Ending.RECALLED, ended_at=self._loop.now()))

    def _become_ready(self) -> None:
        self.is_ready = True
        self._forget_timers()
        self._drain()
        self._owner.ready(self)

    def look(self) -> bool:
        """Report the starts of calls that last; gives whether there are some not yet reported."""
        now, unreported = self._loop.monotonic(), False
        for held in self.calls.values():
            if held.is_reported or held.begun_at is None:
                unreported = unreported or not held.is_reported
            elif now - held.told_at < LASTS:
                unreported = True
            else:
                held.is_reported = True
                self._sink.started(held.call, held.begun_at, self.pid)
        return unreported

    @property
    def lasting(self) -> int:
        """Calls that are known to last."""
        return sum(held.is_reported for held in self.calls.values())

    # ---- output ----------------------------------------------------------------------------------

    def _take_output(self, stream: int) -> None:
        """Something that came by the descriptor: of C code, of a child, of a thread of some call."""
        read = self._process.read_output(stream, _CHUNK)
        if not self.is_ready:
            self._early = (self._early + read)[-MOST_EARLY:]
            return
        oldest = next((held for held in self.calls.values() if held.begun), None)
        if read and oldest is not None:
            self._write(oldest, stream, read)

    def _drain(self) -> None:
        for stream in (0, 1):
            self._take_output(stream)

    def _write(self, held: Held, stream: int, data: bytes) -> None:
        if held.file is None:
            call = held.call
            held.file = OutputFile(
                self._output_root, call.run_id, call.attempt, max_size=call.task.output.max_size
            )
        held.file.write(_STREAMS[stream], data)

    # ---- ends by force ---------------------------------------------------------------------------

    def _time_out(self, number: int) -> None:
        call = self.calls[number].call
        text = f"timed out after {format_duration(call.timeout or 0)}"
        self.force(number, Force(Ending.TIMEOUT, call.task.kill_after, text))

    def _find_takes_too_long(self, number: int) -> None:
        call = self.calls[number].call.task.call
        text = f"{call} cannot be imported: that took longer than {format_duration(FIND_LIMIT)}"
        self.force(number, Force(Ending.COULD_NOT_START, SECOND, text))

    def force(self, number: int, force: Force) -> None:
        """Ask this call to end. A second wish can only shorten the time."""
        held = self.calls[number]
        if held.force is not None:
            force = held.force._replace(grace=min(held.force.grace, force.grace))
        held.force = force
        self._process.send(wire.line("T", number, force.ending.value))
        self._arm(number, held)

    def _arm(self, number: int, held: Held) -> None:
        assert held.force is not None
        held.forget_timers()
        if not (held.begun or self.is_ready):
            return  # it goes back as soon as the worker reads
        grace = held.force.grace
        if held.begun and self._may_go_on(held):
            grace = min(grace, SOFT)
        held.timers.append(self._loop.after(grace, lambda: self._lose_patience(number)))

    def _may_go_on(self, held: Held) -> bool:
        """Whether the run is final at once, whatever the thread does (rule 14). Not at an interruption: the
        run is queued again then, and must not execute twice at a time."""
        return self._is_soft and held.force is not None and held.force.ending is not Ending.INTERRUPTED

    def _lose_patience(self, number: int) -> None:
        held = self.calls[number]
        assert held.force is not None
        is_stuck = held.where is None and not self._is_soft
        if is_stuck or not held.begun or held.force.ending is Ending.INTERRUPTED:
            self._sacrificed_for = number
            self.kill()
        else:
            where = f"it was here then, and goes on:\n{held.where}" if held.where else "it goes on"
            ended = self._ended_by_force(held, where)
            self._set_aside(number, held, ended._replace(ended_at=self._loop.now()))

    def _set_aside(self, number: int, held: Held, ended: Ended) -> None:
        """The run is final; the call goes on, and the worker with it until its other calls are over."""
        if held.where is None:  # C code keeps all threads of the worker from running
            grace = held.call.task.kill_after
            self._timers.append(self._loop.after(grace, lambda: self._kill_if_stuck(number)))
        self._given_up.add(number)
        self.wear_out()
        self._end(number, ended)

    def _kill_if_stuck(self, number: int) -> None:
        if number in self._given_up:
            self._sacrificed_for = number
            self.kill()

    # ---- the end ---------------------------------------------------------------------------------

    def take_death(self) -> None:
        """The process is over: take what it still said, end what is left of it, report what it held."""
        while (lines := self._process.lines()) is not None:
            self._believe(lines)
        self._drain()
        death = self._process.reap()
        self._process.end_relatives(None)  # the children of its calls carry no mark of their run
        self._forget_timers()
        self._replies.close()
        self._process.close()
        held, self.calls = self.calls, {}
        self.is_leaving = True
        self._owner.gone(self)
        if not self.is_ready:
            self._report_no_start([each.call for each in held.values()], death)
            return
        begun = sum(each.begun for each in held.values())
        for each in held.values():
            each.forget_timers()
            self._report_dead(each, death, begun - 1)

    def _report_no_start(self, calls: list[Call], death: Death) -> None:
        said = self._early.decode("utf-8", "backslashreplace").strip()
        reason = f"the worker did not start: {words(death)}"
        text = f"{reason}\n{said}" if said else reason
        self._owner.could_not_start(calls, text, was_killed=death.signal in FROM_OUTSIDE)

    def _report_dead(self, held: Held, death: Death, others: int) -> None:
        if not held.begun:
            self._report_back(held)
            return
        ended = self._judged(held, death, others)
        self._sink.ended(
            held.call,
            ended._replace(
                started_at=held.begun_at, ended_at=self._loop.now(), pid=self.pid, output=held.written()
            ),
        )

    def _judged(self, held: Held, death: Death, others: int) -> Ended:
        if held.force is not None:
            where = held.where or None
            return self._ended_by_force(held, where)._replace(signal=death.signal)
        if self._sacrificed_for:
            text = "its worker was replaced: another call there did not let the others run"
            return Ended(Ending.INTERRUPTED, error=text)
        beside = f" and {others} more" if others else ""
        if death.signal is not None:
            text = f"the worker was ended by {death.signal} while it executed this call{beside}"
            return Ended(Ending.CRASHED, error=text, signal=death.signal)
        if others:
            text = f"a call ended the worker with exit code {death.exit_code} while it executed this{beside}"
            return Ended(Ending.CRASHED, error=text)
        text = f"the call ended its process with exit code {death.exit_code}"
        return Ended(Ending.EXIT, error=text, exit_code=death.exit_code)

    def _forget_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
