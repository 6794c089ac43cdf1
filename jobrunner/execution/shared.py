"""The pools of the kinds thread, greenlet and async: one worker executes all their calls side by side.

There is a second worker for a while when the first one takes nothing more: the new one serves, the old one
finishes what it has begun. And there is one more while tasks differ in folder or environment, as during a
reload: they cannot share a process.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from ..durations import Micros
from ..model import Ended, Ending
from ..plan import Pool, PoolKind
from . import LASTS, Backing, Call, Loop, Sink, Timer, wire
from .environment import OWNER, allowed
from .holding import BUDGET, DEEPEST, OVERHEAD, Definition, Force
from .host import Host
from .pool import CLOSING, IDLE
from .process import WorkerProcess
from .starts import Starts, Tell
from .wear import is_watched, is_worn, look_every

MOST_WAITING: Final = 1000  # calls that leave their slots at a time


class SharedPool:
    """An `Executor` of kind `thread`, `greenlet` or `async`."""

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
        self._hosts: list[Host] = []
        self._numbers = itertools.count(1)
        self._definitions: dict[int, Definition] = {}  # by id(task); a definition keeps its task alive
        self._pace: Micros = BUDGET  # moving mean of a call's duration, over all tasks
        self._looking: Timer | None = None
        self._resting: Timer | None = None
        self._watching: Timer | None = None  # until the worker is looked at for wear
        self._places: list[tuple[str, Mapping[str, str], str]] = []  # folder, environment, owner of workers
        self._is_retired = False
        self._starts = Starts(loop, self._try_again, tell=tell, patient=patient)
        self._wake = wake
        self._tried = 0  # the place of the last start
        self._waiting: list[Call] = []  # for the next try to start a worker of their place

    # ---- what the dispatcher asks ----------------------------------------------------------------

    def room(self) -> int:
        if self._is_retired or self._starts.has_given_up:
            return 0
        if self._starts.is_doubtful and not self._is_serving():
            return (
                0  # what no worker can begin is not claimed: with `on_interrupt: fail` the claim is the start
            )
        by_time = min(DEEPEST, BUDGET // (self._pace + OVERHEAD))
        if sum(1 for host in self._hosts if host.calls) > 1:
            by_time = 0  # each of the workers would execute so many at a time
        return max(
            0, max(self._pool.slots, by_time) - self.busy() - len(self._waiting) + self._waiting_calls()
        )

    def _waiting_calls(self) -> int:
        """Those that wait for another run: they leave their slots so long, or both would wait for ever."""
        return min(MOST_WAITING, sum(host.waits for host in self._hosts))

    def busy(self) -> int:
        return sum(len(host.calls) for host in self._hosts)

    def workers(self) -> int:
        return len(self._hosts)

    # ---- calls in --------------------------------------------------------------------------------

    def start(self, calls: list[Call]) -> None:
        touched: dict[Host, None] = {}
        for call in calls:
            host = self._place(call) if self._is_fit(call) else None
            if host is not None:
                host.add(next(self._numbers), call, self._definition(call))
                touched[host] = None
        for each in touched:
            each.flush()
        for each in touched:
            self._prepare_successor(each.place)
        self._look_soon()

    def _is_fit(self, call: Call) -> bool:
        """Whether this kind of worker can execute it; else it was reported why not."""
        if not wire.is_sendable(call):
            text = f"the row is damaged: run id {call.run_id!r:.200}"
        elif call.env:
            text = (
                f"the run has an environment of its own, which a pool of kind {self._pool.kind} cannot give"
            )
        else:
            return True
        self._report(call, Ending.COULD_NOT_START, text)
        return False

    def _place(self, call: Call) -> Host | None:
        """The host for this call; None: it was reported why there is none."""
        is_full = self.busy() - self._waiting_calls() >= self._pool.slots
        if self._is_retired or (not call.task.may_prefetch and is_full):
            self._pace = BUDGET  # more was promised than is there
            self._report(call, Ending.RECALLED)
            return None
        host = self._open(self._definition(call).place)
        if host is None and not self._starts.is_allowed:
            self._keep_or_refuse(call)
            return None
        return host or self._started_for(call)

    def _open(self, place: int) -> Host | None:
        return next((host for host in self._hosts if host.is_open and host.place == place), None)

    def _started_for(self, call: Call) -> Host | None:
        try:
            return self._start_host(self._definition(call).place)
        except OSError as error:
            text = f"the worker did not start: {error}"
            if error.filename is not None and error.filename == call.task.cwd:
                self._report(call, Ending.COULD_NOT_START, text)  # its task's own folder, nobody else's fault
            else:
                self.could_not_start([call], text, was_killed=False)
            return None

    def _definition(self, call: Call) -> Definition:
        found = self._definitions.get(id(call.task))
        if found is None:
            number = len(self._definitions) + 1
            line = wire.definition_line(number, call.task, call.owner)
            found = Definition(number, call.task, line, place=self._place_of(call))
            self._definitions[id(call.task)] = found
        return found

    def _place_of(self, call: Call) -> int:
        place = (call.task.cwd, call.task.env, call.owner)
        if place not in self._places:
            self._places.append(place)
        return self._places.index(place)

    def _is_serving(self) -> bool:
        return any(host.is_open and host.is_ready for host in self._hosts)

    def _keep_or_refuse(self, call: Call) -> None:
        """Beside calls of other places it waits for the next try, in a slot: else it were claimed at once."""
        if self._starts.is_pausing and self._is_serving():
            self._waiting.append(call)
        else:
            self._report(call, Ending.RECALLED)

    def _report(self, call: Call, ending: Ending, error: str | None = None) -> None:
        self._sink.ended(call, Ended(ending, ended_at=self._loop.now(), error=error))

    # ---- ends ------------------------------------------------------------------------------------

    def end(self, call: Call, ending: Ending, *, grace: Micros | None = None) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
            self._report(call, Ending.RECALLED)
            return
        force = Force(ending, call.task.kill_after if grace is None else grace)
        for host in self._hosts:
            number = host.number_of(call)
            if number is not None:
                host.force(number, force)
                return

    def recall(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self._report(call, Ending.RECALLED)
        for host in self._hosts:
            host.recall()

    def retire(self) -> None:
        self._is_retired = True
        self._starts.close()
        self.recall()
        for host in self._hosts:
            host.leave()

    def close(self) -> None:
        self._is_retired = True
        self._starts.close()
        for timer in (self._looking, self._resting, self._watching):
            if timer is not None:
                timer.cancel()
        hosts, self._hosts = self._hosts, []
        for host in hosts:
            host.kill()
        for host in hosts:
            host.close(CLOSING)

    # ---- workers ---------------------------------------------------------------------------------

    def _start_host(self, place: int) -> Host:
        """A new worker, in this folder and environment."""
        self._tried = place
        cwd, declared, owner = self._places[place]
        env = {**allowed(os.environ), **self._pool.env, **declared, OWNER: owner}

        def start(host: Host) -> WorkerProcess:
            return WorkerProcess(
                self._loop,
                pool=self._pool,
                env=env,
                pythonpath=self._pythonpath,
                url=self._backing.url,
                cwd=cwd,
                on_ready=host.take_lines,
                on_death=host.take_death,
            )

        is_soft = self._pool.kind is PoolKind.THREAD
        host = Host(
            self,
            self._loop,
            self._sink,
            self._output_root,
            start,
            backing=self._backing,
            place=place,
            is_soft=is_soft,
            most=self._pool.max_calls,
        )
        self._hosts.append(host)
        if self._resting is None:
            self._resting = self._loop.after(IDLE, self._rest)
        if self._watching is None and is_watched(self._pool):
            self._watching = self._loop.after(look_every(self._pool), self._watch)
        return host

    # ---- recycling -------------------------------------------------------------------------------

    def _prepare_successor(self, place: int) -> None:
        """Start a worker before the one that serves has ended, so that no call waits for the start."""
        if self._open(place) is None and self._starts.is_allowed and not self._is_retired:
            with suppress(OSError):  # the next call that needs it is told why
                self._start_host(place)

    def _watch(self) -> None:
        """Look for workers that are too old, or too large; each serves until its successor is ready."""
        self._watching = self._loop.after(look_every(self._pool), self._watch) if self._hosts else None
        now = self._loop.monotonic()
        for host in [each for each in self._hosts if each.is_open]:
            if is_worn(self._pool, age=now - host.born, pid=host.pid):
                self._replace(host)

    def _replace(self, host: Host) -> None:
        if not host.calls and host.served == host.served_before:
            host.leave()  # nobody needs it, nor another in its place
        elif sum(each.is_open and each.place == host.place for each in self._hosts) == 1:
            with suppress(OSError):
                self._start_host(host.place)

    def _rest(self) -> None:
        """Let a worker go that has served nothing since the last time."""
        self._resting = self._loop.after(IDLE, self._rest) if self._hosts else None
        for host in self._hosts:
            if not host.calls and host.served == host.served_before:
                host.leave()
            host.served_before = host.served

    def _look_soon(self) -> None:
        if self._looking is None and self._hosts:
            self._looking = self._loop.after(LASTS, self._look)

    def _look(self) -> None:
        """Report what lasts, and call back what waits behind it."""
        self._looking = None
        looks = [host.look() for host in self._hosts]
        lasting = sum(host.lasting for host in self._hosts)
        if self.busy() > self._pool.slots + self._waiting_calls() <= lasting:
            self._pace = BUDGET
            for host in self._hosts:
                host.recall()
        if any(looks):
            self._look_soon()

    # ---- what hosts report -----------------------------------------------------------------------

    def learned(self, took: Micros) -> None:
        self._pace += (took - self._pace) // 8

    def ready(self, host: Host) -> None:
        was_doubtful = self._starts.is_doubtful
        self._starts.succeeded()
        if was_doubtful:
            self._wake()
        for older in self._hosts[: self._hosts.index(host)]:
            if older.left > 0 and older.place == host.place:
                older.wear_out()  # one that has been given its last call ends by itself

    def worn(self, host: Host) -> None:
        if host.calls:
            self._prepare_successor(host.place)

    def gone(self, host: Host) -> None:
        self._hosts.remove(host)

    def could_not_start(self, calls: list[Call], reason: str, *, was_killed: bool) -> None:
        self._starts.failed(reason, was_killed=was_killed)
        for call in calls:
            self._report(call, Ending.RECALLED)  # it says nothing about the call

    def _try_again(self) -> None:
        """Without a call, unless some wait: none has to wait in a state that says that it runs."""
        waiting, self._waiting = self._waiting, []
        self.start(waiting)
        if self._is_retired or not all(each.is_ready for each in self._hosts):
            return  # one that starts just now will tell
        try:
            self._start_host(self._tried)
        except OSError as error:
            self.could_not_start([], f"the worker did not start: {error}", was_killed=False)
