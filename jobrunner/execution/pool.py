"""The pool of workers that executes callables, one call at a time in each worker.

Workers are started when first needed and leave when long idle. As many calls as fit into about 10 ms of
work may wait in a worker (learnt per task); the others are one to an idle worker.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final

from ..durations import MILLISECOND, MINUTE, SECOND, Micros
from ..model import Ended, Ending
from ..plan import Pool
from . import Backing, Call, Loop, Sink, Timer, wire
from .environment import OWNER, allowed
from .holding import BUDGET, DEEPEST, OVERHEAD, Definition, Force
from .member import Member
from .process import WorkerProcess
from .starts import Starts, Tell
from .wear import is_watched, is_worn, look_every

LOOK: Final[Micros] = 20 * MILLISECOND  # a call that spans two looks is one that lasts
IDLE: Final[Micros] = 5 * MINUTE
MOST_WAITING: Final = 16  # calls that leave their slots at a time: each has a process of its own
CLOSING: Final[Micros] = 2 * SECOND  # for killed workers to be gone

_by_expected = attrgetter("expected")


class ProcessPool:
    """An `Executor` of kind `process`: N workers, each executing one call on its main thread."""

    def __init__(
        self,
        pool: Pool,
        loop: Loop,
        sink: Sink,
        *,
        output_root: str,
        backing: Backing,
        pythonpath: tuple[str, ...] = (),
        tell: Tell = lambda _why: None,
        wake: Callable[[], None] = lambda: None,
        patient: bool = True,
    ) -> None:
        """`tell` hears why workers do not start; `wake` is called when they do again, and there is room.

        `patient`: they are tried again and again.
        """
        self._pool = pool
        self._loop = loop
        self._sink = sink
        self._output_root = output_root
        self._backing = backing
        self._pythonpath = pythonpath
        self._members: list[Member] = []
        self._numbers = itertools.count(1)
        self._definitions: dict[int, Definition] = {}  # by id(task); a definition keeps its task alive
        self._newest: dict[str, Definition] = {}  # by name of the task
        self._pace: Micros = BUDGET  # moving mean of a call's duration, over all tasks
        self._looking: Timer | None = None
        self._resting: Timer | None = None  # until idle workers are looked for
        self._watching: Timer | None = None  # until workers are looked at for wear
        self._successors: dict[Member, Member] = {}  # one that starts -> the one that it replaces
        self._owner = ""
        self._is_retired = False
        self._starts = Starts(loop, self._try_again, tell=tell, patient=patient)
        self._wake = wake

    # ---- what the dispatcher asks ----------------------------------------------------------------

    def room(self) -> int:
        if self._is_retired or self._starts.has_given_up:
            return 0
        free, room = self._free(), 0
        for member in self._members:
            if member.is_open and (member.calls or free > 0) and self._is_sure(member):
                room += self._room_of(member)
                free -= not member.calls
        # What no worker can begin is not claimed: with `on_interrupt: fail` the claim is the start.
        return room if self._starts.is_doubtful else room + max(0, free)

    def _is_sure(self, member: Member) -> bool:
        return member.is_ready or not self._starts.is_doubtful

    def _free(self) -> int:
        """Slots to be had. A call that waits for another run leaves its own, or both would wait for ever."""
        waiting = sum(member.waits for member in self._members)
        return self._pool.slots - self.busy() + min(waiting, MOST_WAITING)

    def _room_of(self, member: Member) -> int:
        if not member.is_ready:
            return 1
        by_time = (BUDGET - member.expected) // (self._pace + OVERHEAD)
        return max(1, min(by_time, DEEPEST - len(member.calls), member.left))

    def busy(self) -> int:
        return sum(1 for member in self._members if member.calls)

    def workers(self) -> int:
        return len(self._members)

    # ---- calls in --------------------------------------------------------------------------------

    def start(self, calls: list[Call]) -> None:
        touched: dict[Member, None] = {}
        # Choosing the least busy worker for every single call costs more than all the rest: a share each.
        share = -(-len(calls) // self._pool.slots)
        member, left = None, 0
        for call in self._sendable(calls):
            if member is None or not left or not member.is_open or not call.task.may_prefetch:
                member, left = self._place(call), share
                if member is None:
                    continue
                touched[member] = None
            left -= 1
            member.add(next(self._numbers), call, self._definition(call))
        for each in touched:
            each.flush()
            if each.left <= 0:
                self._prepare_successor(each)
        self._look_soon()

    def _sendable(self, calls: list[Call]) -> Iterator[Call]:
        for call in calls:
            if wire.is_sendable(call):
                yield call
            else:
                text = f"the row is damaged: run id {call.run_id!r:.200}"
                self._report(call, Ending.COULD_NOT_START, text)

    def _place(self, call: Call) -> Member | None:
        """The worker for this call; None: it was reported why there is none."""
        if not call.task.may_prefetch:
            self._pace = BUDGET  # only idle workers will do for its like: promise no room behind others
        self._owner = call.owner
        try:
            member = self._member_for(call)
        except OSError as error:
            self.could_not_start([call], f"the worker did not start: {error}", was_killed=False)
            return None
        if member is None:
            self._pace = BUDGET  # more was promised than is there
            self._report(call, Ending.RECALLED)
        return member

    def _definition(self, call: Call) -> Definition:
        found = self._definitions.get(id(call.task))
        if found is None:
            number = len(self._definitions) + 1
            line, known = (
                wire.definition_line(number, call.task, call.owner),
                self._newest.get(call.task.name),
            )
            # A reload of the file is no reason to forget how long calls take.
            found = Definition(number, call.task, line, mean=None if known is None else known.mean)
            self._definitions[id(call.task)] = self._newest[call.task.name] = found
        return found

    def _member_for(self, call: Call) -> Member | None:
        """An idle worker, else a new one, else one with little to do. Raises OSError."""
        if self._is_retired:
            return None
        is_free = self._free() > 0
        fitting = (each for each in self._members if each.is_open and (each.calls or is_free))
        least = min(fitting, key=_by_expected, default=None)
        if least is not None and not least.calls:
            return least
        if is_free and self._starts.is_allowed:
            return self._start_member(call.owner)
        return (least or self._keeper()) if call.task.may_prefetch else None

    def _keeper(self) -> Member | None:
        """A worker for what was promised more room than there is, since calls seem to take longer now."""
        return min(
            (each for each in self._members if each.calls and each.keeps), key=_by_expected, default=None
        )

    def _report(self, call: Call, ending: Ending, error: str | None = None) -> None:
        self._sink.ended(call, Ended(ending, ended_at=self._loop.now(), error=error))

    # ---- ends ------------------------------------------------------------------------------------

    def end(self, call: Call, ending: Ending, *, grace: Micros | None = None) -> None:
        force = Force(ending, call.task.kill_after if grace is None else grace)
        for member in self._members:
            number = member.number_of(call)
            if number is not None:
                member.force(number, force)
                return

    def recall(self) -> None:
        for member in self._members:
            member.recall()

    def retire(self) -> None:
        self._is_retired = True
        self._starts.close()
        self.recall()
        for member in self._members:
            member.leave()

    def close(self) -> None:
        self._is_retired = True
        self._starts.close()
        for timer in (self._looking, self._resting, self._watching):
            if timer is not None:
                timer.cancel()
        members, self._members = self._members, []
        for member in members:
            member.kill()
        for member in members:
            member.close(CLOSING)

    # ---- workers ---------------------------------------------------------------------------------

    def _start_member(self, owner: str) -> Member:
        env = {**allowed(os.environ), **self._pool.env, OWNER: owner}

        def start(member: Member) -> WorkerProcess:
            return WorkerProcess(
                self._loop,
                pool=self._pool,
                env=env,
                pythonpath=self._pythonpath,
                url=self._backing.url,
                on_ready=member.take_lines,
                on_death=member.take_death,
            )

        member = Member(
            self,
            self._loop,
            self._sink,
            self._output_root,
            start,
            backing=self._backing,
            most=self._pool.max_calls,
        )
        self._owner = owner
        self._members.append(member)
        if self._resting is None:
            self._resting = self._loop.after(IDLE, self._rest)
        if self._watching is None and is_watched(self._pool):
            self._watching = self._loop.after(look_every(self._pool), self._watch)
        return member

    # ---- recycling -------------------------------------------------------------------------------

    def _prepare_successor(self, old: Member) -> Member | None:
        """Start a worker before this one has ended, so that no call waits for the start."""
        if self._has_spare(old) or self._is_retired or not self._starts.is_allowed:
            return None
        try:
            return self._start_member(self._owner)
        except OSError:  # the next call that needs it is told why
            return None

    def _has_spare(self, old: Member) -> bool:
        return any(each.is_open and not each.calls for each in self._members if each is not old)

    def _watch(self) -> None:
        """Look for workers that are too old, or too large; each serves until its successor is ready."""
        self._watching = self._loop.after(look_every(self._pool), self._watch) if self._members else None
        now = self._loop.monotonic()
        replaced = set(self._successors.values())
        for member in list(self._members):
            if member.is_leaving or member in replaced or member.left <= 0:
                continue
            if is_worn(self._pool, age=now - member.born, pid=member.pid):
                self._replace(member)

    def _replace(self, member: Member) -> None:
        is_idle = not member.calls and member.served == member.served_before
        if is_idle or self._has_spare(member):
            member.leave()  # nobody needs another in its place
            return
        successor = self._prepare_successor(member)
        if successor is not None:
            self._successors[successor] = member

    def _rest(self) -> None:
        """Let workers go that have served nothing since the last time."""
        self._resting = self._loop.after(IDLE, self._rest) if self._members else None
        for member in self._members:
            if not member.calls and member.served == member.served_before:
                member.leave()
            member.served_before = member.served

    def _look_soon(self) -> None:
        if self._looking is None and self._members:
            self._looking = self._loop.after(LOOK, self._look)

    def _look(self) -> None:
        self._looking = None
        looks = [member.look() for member in self._members]
        if any(looks):
            self._look_soon()

    # ---- what members report ---------------------------------------------------------------------

    def learned(self, took: Micros, calls: int) -> None:
        self._pace += (took // calls - self._pace) * min(calls, 8) // 8

    def ready(self, member: Member) -> None:
        was_doubtful = self._starts.is_doubtful
        self._starts.succeeded()
        if was_doubtful:
            self._wake()
        old = self._successors.pop(member, None)
        if old is not None:
            old.leave()

    def gone(self, member: Member) -> None:
        self._members.remove(member)
        self._successors.pop(member, None)

    def could_not_start(self, calls: list[Call], reason: str, *, was_killed: bool) -> None:
        self._starts.failed(reason, was_killed=was_killed)
        for call in calls:
            self._report(call, Ending.RECALLED)  # it says nothing about the call

    def _try_again(self) -> None:
        """Without a call: none has to wait for the outcome in a state that says that it runs."""
        if self._is_retired or not all(each.is_ready for each in self._members):
            return  # one that starts just now will tell
        try:
            self._start_member(self._owner)
        except OSError as error:
            self.could_not_start([], f"the worker did not start: {error}", was_killed=False)
