"""One worker of a pool from the supervisor's side: the calls it holds, and what becomes of them.

A worker executes its calls in the order in which it got them, so the first unanswered one, the head, is the
one executing. A head that lasts is noticed by `look`, which the pool calls every few milliseconds while
there is one not yet known to last: only then is its start reported, its timeout armed, its output read
while it runs, and what waits behind it called back. Short calls cost none of this.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from ..durations import SECOND, Micros, format_duration
from ..model import Ended, Ending
from . import Backing, Call, Loop, Sink, Timer, wire
from .family import Mark
from .holding import (
    BUDGET,
    DEEPEST,
    FIND_LIMIT,
    FROM_OUTSIDE,
    KEPT,
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
from .written import Written

TERM_AFTER: Final[Micros] = SECOND // 4  # the worker ends its call by itself, if its threads can run
STUCK_AFTER: Final[Micros] = SECOND  # without an answer about its output
LAST_WORD: Final[Micros] = SECOND  # from a worker's last word to its end


class Held(NamedTuple):
    """A call in a worker's hands."""

    call: Call
    definition: Definition
    cost: Micros
    is_first: bool  # sent when the worker held nothing: its start is reported before it begins


class Owner(Protocol):
    """The pool, as its members need it."""

    def learned(self, took: Micros, calls: int) -> None:
        """So many calls took so long together."""
        ...

    def ready(self, member: Member) -> None:
        """This worker has started."""
        ...

    def gone(self, member: Member) -> None:
        """This worker is no more; what it held is reported next."""
        ...

    def could_not_start(self, calls: list[Call], reason: str, *, was_killed: bool) -> None:
        """A worker died before it was ready: of itself, or killed by somebody."""
        ...


class Member:
    """A worker and its calls."""

    def __init__(
        self,
        owner: Owner,
        loop: Loop,
        sink: Sink,
        output_root: str,
        start: Callable[[Member], WorkerProcess],
        *,
        backing: Backing,
        most: int | None = None,
    ) -> None:
        """Start it; it takes `most` calls, ever. Raises OSError when that is not possible."""
        self._owner = owner
        self._loop = loop
        self._sink = sink
        self._process = start(self)
        self._backing = backing
        self._replies = Replies(backing.ask, self._process.send)
        self._written = Written(self._process, output_root, self._head_call)
        self.pid = self._process.pid
        self.calls: dict[int, Held] = {}  # by number, in order
        self.expected: Micros = 0  # work that waits
        self.born = loop.monotonic()
        self.left = MANY if most is None else most  # calls that it may still be given
        self.served = 0
        self.served_before = 0  # at the pool's last look for idle workers
        self.is_leaving = False
        self.is_ready = False
        self._is_done = False  # it begins no other call
        self._known: set[int] = set()  # definitions sent
        self._unsent: list[str] = []
        self._begun = 0  # the call whose begin the worker has reported
        self._begun_at: Micros | None = None  # None: it is still finding its callable
        self._free_since: Micros = 0  # when the call before the head ended
        self._seen = 0  # the head at the last look
        self._lasting = 0  # the head whose start was reported
        self._forces: dict[int, Force] = {}
        self._last_word: str | None = None  # the error text of a head that ended by force
        self._timers: dict[str, Timer] = {}
        self._set("start", START_LIMIT, self.kill)

    @property
    def is_open(self) -> bool:
        """Whether it takes another call."""
        if self.is_leaving or self._lasting or self._forces or (self.calls and not self.is_ready):
            return False  # one call is enough for a worker that is still starting
        return self.expected < BUDGET and len(self.calls) < DEEPEST and self.left > 0

    @property
    def keeps(self) -> bool:
        """Whether it takes another call for which there was room when it was claimed."""
        is_able = self.is_ready and not (self.is_leaving or self._lasting or self._forces)
        return is_able and self.expected < KEPT and len(self.calls) < DEEPEST and self.left > 0

    @property
    def waits(self) -> int:
        """1 when the call that it executes waits for another run: it leaves its slot so long."""
        return min(1, self._replies.waits) if self.calls else 0

    # ---- calls in --------------------------------------------------------------------------------

    def add(self, number: int, call: Call, definition: Definition) -> None:
        """Hold this call; `flush` sends it."""
        if definition.number not in self._known:
            self._known.add(definition.number)
            self._unsent.append(definition.line)
        is_first, cost = not self.calls, definition.cost
        self.calls[number] = Held(call, definition, cost, is_first)
        self.expected += cost
        self.left -= 1
        self._unsent.append(wire.call_line("F" if is_first else "C", number, definition.number, call))

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
        if self.calls:
            self._process.send(b"R\n")

    def leave(self) -> None:
        """Let it finish what it executes, and end."""
        if not self.is_leaving:
            self.is_leaving = True
            self._process.send(b"R\nQ\n")
            self._limit_leaving()

    def _limit_leaving(self) -> None:
        if self.is_leaving and not self.calls:
            self._set("leave", LEAVE_LIMIT, self.kill)

    def kill(self) -> None:
        """KILL the process and its group, without waiting."""
        self._process.signal_group(signal.SIGKILL)

    def close(self, patience: Micros) -> None:
        """KILL it, see it gone, and release everything; reports nothing."""
        mark = self._head_mark()
        self._forget_timers()
        self.calls.clear()
        self._written.finish()
        self._replies.close()
        self._process.kill(patience)
        self._process.end_relatives(mark)
        self._process.close()

    # ---- answers ---------------------------------------------------------------------------------

    def take_lines(self) -> None:
        """The worker has sent something."""
        lines = self._process.lines()
        if lines is not None:
            self._believe(lines)

    def _believe(self, lines: list[str]) -> None:
        try:
            self._take(lines)
        except (ValueError, KeyError, TypeError, IndexError):
            self.kill()  # a callable has written to its worker's socket: nothing there can be believed now

    def _take(self, lines: list[str]) -> None:
        """The hot path: one K line a call."""
        took_all = count = 0
        for line in lines:
            if line[0] != "K":
                self._take_rare(line)
                continue
            _, number, started, took_text, result = line.split("\t", 4)
            begun, took = int(started), int(took_text)
            held = self._pop(int(number), begun + took)
            held.definition.learn(took)
            took_all += took
            count += 1
            output = self._written.finish() if self._written.is_active else None
            ended = Ended(Ending.OK, begun, begun + took, result or None, pid=self.pid, output=output)
            self._sink.ended(held.call, ended)
        if count:
            self.served += count
            self._owner.learned(took_all, count)

    def _pop(self, number: int, at: Micros) -> Held:
        """The held call that is over; the one behind it is the head now."""
        held = self.calls.pop(number)
        self.expected = self.expected - held.cost if self.calls else 0
        self._free_since = at
        self._lasting = 0
        if self._timers:
            self._forget_timers()
        if self._forces:
            self._forces.pop(number, None)
            self._arm_head()
        if self.is_leaving:
            self._limit_leaving()
        elif self.left <= 0 and not self.calls:
            self.leave()
        return held

    def _take_rare(self, line: str) -> None:
        kind, *fields = line.split("\t", 4)
        if kind in "kEe":
            self._take_answer(kind, *fields)
        elif kind in "Xx":
            self._take_last_word(kind, *fields)
        elif kind == "B":
            self._take_back(int(fields[0]))
        elif kind == "P":
            if int(fields[0]) == self._head():
                self._drop("stuck")
                self._written.follow()
        elif kind == "M":
            held = self.calls.get(int(fields[1]))
            self._replies.take(int(fields[0]), None if held is None else held.call, fields[2])
        else:
            self._take_of_worker(kind, *fields)

    def _take_of_worker(self, kind: str, *fields: str) -> None:
        if kind == "Z":
            self.is_leaving = self._is_done = True
        elif kind == "H":
            self._become_ready()
        elif kind == "G":
            self._backing.receive(fields[0], json.loads(fields[1]))
        else:
            self._take_start(kind, *fields)

    def _take_start(self, kind: str, number: str, at: str | None = None) -> None:
        self._begun = int(number)
        if kind == "L":
            self._begun_at = None
            self._set("find", FIND_LIMIT, self._find_takes_too_long)
        elif kind == "S" and at is not None:
            self._begun_at = int(at)
            self._drop("find")
        else:
            raise ValueError(kind)

    def _take_answer(self, kind: str, number: str, started: str, took_text: str, text: str) -> None:
        if kind.islower():
            self._written.drain()
            self._process.send(b"A\n")
        begun, took = int(started), int(took_text)
        output = self._written.finish()
        held = self._pop(int(number), begun + took)
        self._learn(held.definition, took)
        ended = Ended(Ending.OK, result=text or None) if kind == "k" else described(text)
        ended = ended._replace(started_at=begun, ended_at=begun + took, pid=self.pid, output=output)
        self._sink.ended(held.call, ended)

    def _learn(self, definition: Definition, took: Micros) -> None:
        definition.learn(took)
        self.served += 1
        self._owner.learned(took, 1)

    def _take_last_word(self, kind: str, number: str, started: str, _took: str, text: str) -> None:
        """A call that ended by force; it is reported when nothing of the worker is left."""
        self._begun, self._begun_at = int(number), int(started)
        self._last_word = json.loads(text).get("error", "")
        self._set("kill", LAST_WORD, self.kill)
        if kind.islower():
            self._written.drain()
            self._process.send(b"A\n")

    def _take_back(self, number: int) -> None:
        held = self.calls.pop(number)
        self.left += 1
        self.expected = self.expected - held.cost if self.calls else 0
        if self._forces.pop(number, None) is not None:
            self._drop("term")
            self._drop("kill")
        self._report_back(held)

    def _report_back(self, held: Held) -> None:
        self._sink.ended(held.call, Ended(Ending.RECALLED, ended_at=self._loop.now()))

    def _become_ready(self) -> None:
        self.is_ready = True
        self._drop("start")
        self._written.end_of_start()
        self._process.send(b"A\n")
        self._owner.ready(self)

    # ---- heads that last -------------------------------------------------------------------------

    def _head(self) -> int:
        return next(iter(self.calls), 0)

    def _head_call(self) -> Call | None:
        return next(iter(self.calls.values())).call if self.calls else None

    def _head_mark(self) -> Mark | None:
        """What the children of the executing call are known by."""
        call = self._head_call()
        return None if call is None else Mark(call.owner, call.run_id)

    def look(self) -> bool:
        """Notice a head that lasts; gives whether to look again."""
        head = self._head()
        if not head:
            return False
        if head == self._lasting:
            return len(self.calls) > 1  # the one behind it may begin before it is called back
        if head == self._seen and self._is_executing(head):
            self._lasts(head)
            return False
        self._seen = head
        return True

    def _is_executing(self, head: int) -> bool:
        if self._begun == head:
            return self._begun_at is not None
        return not self.calls[head].is_first  # it begins by itself, right after the one before it

    def _lasts(self, head: int) -> None:
        self._lasting = head
        call, at = self.calls[head].call, self._started_at(head)
        self._sink.started(call, at, self.pid)
        if call.timeout is not None and head not in self._forces:
            # The wall clock may have been stepped meanwhile: at most what a few looks may take.
            elapsed = min(max(0, self._loop.now() - at), SECOND)
            self._set("timeout", max(0, call.timeout - elapsed), self._time_out)
        self._process.send(wire.line("P", head))
        self._set("stuck", STUCK_AFTER, self._written.follow)
        if len(self.calls) > 1:
            self.recall()

    def _started_at(self, head: int) -> Micros:
        if self._begun == head and self._begun_at is not None:
            return self._begun_at
        return self._free_since

    def _time_out(self) -> None:
        head = self._head()
        call = self.calls[head].call
        text = f"timed out after {format_duration(call.timeout or 0)}"
        self.force(head, Force(Ending.TIMEOUT, call.task.kill_after, text))

    def _find_takes_too_long(self) -> None:
        head = self._head()
        call = self.calls[head].call.task.call
        text = f"{call} cannot be imported: that took longer than {format_duration(FIND_LIMIT)}"
        self.force(head, Force(Ending.COULD_NOT_START, SECOND, text))

    # ---- ends by force ---------------------------------------------------------------------------

    def force(self, number: int, force: Force) -> None:
        """End this call: TERM, then KILL. A second wish can only shorten the time."""
        earlier = self._forces.get(number)
        if earlier is not None:
            force = earlier._replace(grace=min(earlier.grace, force.grace))
        self._forces[number] = force
        self._process.send(wire.line("T", number, force.ending.value))
        self._arm_head()

    def _arm_head(self) -> None:
        force = self._forces.get(self._head())
        if force is None or self._last_word is not None:
            return
        self._drop("timeout")
        self._set("term", min(TERM_AFTER, force.grace), self._term)
        self._set("kill", force.grace, self.kill)

    def _term(self) -> None:
        """To the children of a call whose worker cannot run its threads; in itself it hurts no other call."""
        self._process.signal_group(signal.SIGTERM)

    # ---- the end ---------------------------------------------------------------------------------

    def take_death(self) -> None:
        """The process is over: take what it still said, end what is left of it, report what it held."""
        while (lines := self._process.lines()) is not None:
            self._believe(lines)
        self._written.drain()
        said = "" if self.is_ready else self._written.end_of_start()
        death = self._process.reap()
        self._process.end_relatives(self._head_mark())
        self._forget_timers()
        self._replies.close()
        output = self._written.finish()
        self._process.close()
        held, self.calls = list(self.calls.items()), {}
        self._owner.gone(self)
        if not self.is_ready:
            self._report_no_start([each.call for _, each in held], death, said)
        elif held:
            self._report_head(*held[0], death, output)
            for _, each in held[1:]:
                self._report_back(each)

    def _report_no_start(self, calls: list[Call], death: Death, said: str) -> None:
        reason = f"the worker did not start: {words(death)}"
        text = f"{reason}\n{said}" if said else reason
        self._owner.could_not_start(calls, text, was_killed=death.signal in FROM_OUTSIDE)

    def _report_head(self, number: int, held: Held, death: Death, output: str | None) -> None:
        begins_by_itself = not held.is_first and not self._is_done
        if self._begun != number and not begins_by_itself:
            self._report_back(held)
            return
        ended = self._judged(self._forces.get(number), death)
        self._sink.ended(
            held.call,
            ended._replace(
                started_at=self._started_at(number), ended_at=self._loop.now(), pid=self.pid, output=output
            ),
        )

    def _judged(self, force: Force | None, death: Death) -> Ended:
        if force is not None:
            return Ended(force.ending, error=joined(force.error, self._last_word), signal=death.signal)
        if death.signal is not None:
            text = f"the worker was ended by {death.signal} while it executed this call"
            return Ended(Ending.CRASHED, error=text, signal=death.signal)
        text = f"the call ended its process with exit code {death.exit_code}"
        return Ended(Ending.EXIT, error=text, exit_code=death.exit_code)

    # ---- timers ----------------------------------------------------------------------------------

    def _set(self, name: str, delay: Micros, callback: Callable[[], None]) -> None:
        self._drop(name)
        self._timers[name] = self._loop.after(delay, callback)

    def _drop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _forget_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
