"""A supervisor inside the caller: the real loops on a storage of their own, without processes or threads.

Runs are executed one after the other, in the thread that asks; time stands still but for what the caller's
clock does, and passes at once for whoever waits. Everything else is what the service does: claims by
priority, locks, retries, pipelines, unique keys, expiry, callbacks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ..catalogue import catalogue_of
from ..dispatcher import Dispatcher
from ..durations import SECOND, Micros
from ..errors import UsageError
from ..events import Event, RateReached
from ..execution import Call
from ..execution.inplace import attempt
from ..hooks import Hooks, Notice, Signal
from ..ids import new_id
from ..lookout import Ends, HeldBack
from ..loop import EventLoop
from ..machine import boot_id, hostname, process_start
from ..model import Ended, Ending, Run
from ..notices import notices_of
from ..plan import Plan, Task
from ..scheduler import Scheduler
from ..service import Service
from ..storage import OwnerInfo, OwnerStatus, Pause, Storage
from ..storage.pausing import known_pauses, pauses_over
from ..timetable import timetables
from ..trouble import Trouble
from .clocks import MovableClock

MOST_TURNS = 100_000  # without executing anything: a loop that never rests is a mistake of ours

T = TypeVar("T")
Failed = Callable[[Exception], None]
Find = Callable[[Task], Callable[..., object]]


class _AtOnce(Service):
    """What is asked is done at once, in this thread; the answer comes by the loop all the same."""

    def ask(self, work: Callable[[], T], then: Callable[[T], None], failed: Failed) -> None:
        self._do(work, then, failed)

    def watch(self, work: Callable[[], bool], then: Callable[[], None], failed: Failed) -> None:
        self._look(work, then, failed)


@dataclass(slots=True)
class _Here:
    """An executor that only keeps the call that is next; it is executed when the loop is left."""

    waiting: list[Call] = field(default_factory=list)
    executing: list[Call] = field(default_factory=list)  # the innermost one last
    ends: dict[tuple[int, int], Ending] = field(default_factory=dict)
    recalled: list[Call] = field(default_factory=list)

    def room(self) -> int:
        return 0 if self.waiting else 1

    def busy(self) -> int:
        return len(self.executing)

    def workers(self) -> int:
        return 0

    def start(self, calls: list[Call]) -> None:
        self.waiting.extend(calls)

    def end(self, call: Call, ending: Ending, *, grace: Micros | None = None) -> None:  # noqa: ARG002
        if call in self.waiting:
            self.waiting.remove(call)
            self.recalled.append(call)
        elif call in self.executing:
            self.ends[call.seq, call.claim_no] = ending

    def recall(self) -> None:
        self.recalled, self.waiting = [*self.recalled, *self.waiting], []

    def retire(self) -> None:
        self.recall()

    def close(self) -> None: ...


class Inline:
    """Executes what is due, and lets time pass for those who wait."""

    def __init__(
        self,
        plan: Plan,
        storage: Storage,
        clock: MovableClock,
        find: Find,
        hooks: Hooks,
        *,
        passes_time: bool,
        ticks: bool,
    ) -> None:
        self.storage = storage
        self.clock = clock
        self._plan = plan
        self._find = find
        self._hooks = hooks
        self._passes_time = passes_time
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._owner = new_id(clock.now())
        self._loop = EventLoop(clock)
        self._service = _AtOnce(self._loop)
        self._here = _Here()
        self._pauses: tuple[Pause, ...] = ()
        self._untold: list[Notice] = []
        self._ends = Ends(clock.now())
        self._held_back = HeldBack()
        self._begin(ticks=ticks)

    # ---- what callers ask

    @property
    def is_executing(self) -> bool:
        """Whether a task is being executed by this thread: it has called back."""
        return bool(self._here.executing)

    def adopt(self, plan: Plan) -> None:
        """Go on with this plan: more tasks have been declared."""
        with self._lock:
            self._plan = plan
            self._dispatcher.adopt_plan(plan)
            self._dispatcher.serve(dict.fromkeys(plan.pools, self._here))
            self._publish()

    def run_until_idle(self) -> int:
        """Execute whatever is due, and what follows from it; how many attempts that were."""
        with self._lock:
            self._dispatcher.wake()
            made = 0
            while (call := self._next()) is not None:
                self._execute(call)
                made += 1
            return made

    def wait(self, run_id: str, timeout: float | None) -> Run:
        """The run, when it is final, or when `timeout` seconds have passed, or when nothing will happen.

        Where time passes by waiting, what is not due yet (a delay, a retry) becomes due by it.
        """
        with self._lock:
            end = None if timeout is None else self.clock.monotonic() + round(timeout * SECOND)
            while True:
                self.run_until_idle()
                run = self.storage.run(run_id)
                rest = self._loop.rest()
                if run.state.is_final or not self._passes_time or not self._pass_time(rest, end):
                    return run

    def acquire(self, lock: str, timeout: float | None) -> bool:  # noqa: ARG002 - nobody could give it back
        """Give the run that is executing one more lock, if one of its slots is free now."""
        call = self._here.executing[-1]
        slots = self._plan.locks.get(lock, 1)
        return self.storage.acquire(self._owner, call.seq, call.claim_no, lock, slots)

    def release(self, lock: str) -> bool:
        call = self._here.executing[-1]
        return self.storage.release(self._owner, call.seq, call.claim_no, lock)

    def let_pass(self, time: Micros) -> int:
        """Move the clock on, and execute what becomes due at its own moment; how many attempts that were."""
        with self._lock:
            end, made = self.clock.monotonic() + time, self.run_until_idle()
            while self._pass_time(self._loop.rest(), end):
                made += self.run_until_idle()
            return made

    def _pass_time(self, rest: Micros | None, end: Micros | None) -> bool:
        """Move the clock to what is next; False when that is never, or later than `end`."""
        left = None if end is None else max(0, end - self.clock.monotonic())
        if rest is None or (left is not None and rest > left):
            self.clock.jump(left or 0)
            return False
        self.clock.jump(max(1, rest))
        return True

    def close(self) -> None:
        """Leave the storage, and give the descriptors back."""
        self.storage.close()
        self._loop.close()

    # ---- inside

    def _publish(self) -> None:
        catalogue = catalogue_of(self._plan)
        self.storage.publish(self._owner, catalogue, keep=catalogue.schedules, now=self.clock.now())

    def _begin(self, *, ticks: bool) -> None:
        now = self.clock.now()
        if not self.storage.enter(self._info(now), self._status()):
            raise UsageError("another supervisor works on this storage", help="use one of its own")
        self._publish()
        self._trouble = Trouble(self._loop, self._hear)
        self._dispatcher = Dispatcher(
            plan=self._plan,
            owner=self._owner,
            loop=self._loop,
            storage=self.storage,
            service=self._service,
            emit=self._hear,
            trouble=self._trouble,
            tail=lambda _run_id, _attempt: "",
            on_control=self._read_pauses,
            on_quiet=lambda: None,
            on_lost=lambda: None,
        )
        self._dispatcher.serve(dict.fromkeys(self._plan.pools, self._here))
        if ticks:
            self._schedule(now)

    def _schedule(self, now: Micros) -> None:
        scheduler = Scheduler(
            loop=self._loop,
            storage=self.storage,
            service=self._service,
            emit=self._hear,
            trouble=self._trouble,
            pauses_of=lambda task: pauses_over(self._pauses, task),
            look_at_clock=lambda: None,
            on_added=self._dispatcher.wake,
            on_lost=lambda: None,
        )
        scheduler.start(timetables(self._plan, self.storage, boot_id(), now))

    def _next(self) -> Call | None:
        """The next call, once the loop has done everything that can be done at this moment."""
        for _ in range(MOST_TURNS):
            if not self._loop.has_work:
                break
            self._loop.turn(0)
            self._give_back()
        if self._here.waiting:
            self._tell_reported()
            return self._here.waiting.pop(0)
        self.tell()
        return None

    def _give_back(self) -> None:
        recalled, self._here.recalled = self._here.recalled, []
        for call in recalled:
            self._dispatcher.ended(call, Ended(Ending.RECALLED, ended_at=self.clock.now()))

    def _execute(self, call: Call) -> None:
        key = call.seq, call.claim_no
        self._here.executing.append(call)
        self._dispatcher.started(call, self.clock.now(), os.getpid())
        try:
            ended = self._attempt(call, key)
        finally:
            self._here.executing.pop()
            self._here.ends.pop(key, None)
        self._dispatcher.ended(call, ended)

    def _attempt(self, call: Call, key: tuple[int, int]) -> Ended:
        try:
            function = self._find(call.task)
        except Exception as error:
            return Ended(Ending.COULD_NOT_START, ended_at=self.clock.now(), error=str(error))

        def ends() -> str | None:
            asked = self._here.ends.get(key)
            return None if asked is None else asked.value

        return attempt(call, function, self.clock, ends, self._hooks)

    # ---- what receivers hear

    def tell(self) -> None:
        """Tell the receivers what has happened since."""
        wanted = self._hooks.signals
        if wanted:
            self._ends.pipelines = tuple(self._plan.pipelines)
            runs = [run for which in self._ends.filters(wanted) for run in self.storage.runs(which)]
            self._untold += self._ends.news(runs)
        self._tell_reported()

    def _hear(self, event: Event) -> None:
        """What the loops report is told to receivers, once it is written."""
        wanted = self._hooks.signals
        if isinstance(event, RateReached) and Signal.RATE_LIMITED in wanted:
            runs = self.storage.runs(self._held_back.filter(event.tasks))
            self._untold += self._held_back.news(event.tasks, runs, self.clock.now())
        elif wanted:
            self._untold += notices_of(event)

    def _tell_reported(self) -> None:
        untold, self._untold = self._untold, []
        for notice in untold:
            self._hooks.send(notice)

    def _read_pauses(self) -> None:
        self._pauses = tuple(known_pauses(self.storage))

    def _info(self, now: Micros) -> OwnerInfo:
        return OwnerInfo(
            id=self._owner,
            host=hostname(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()) or 0,
            boot_id=boot_id(),
            started_at=now,
            config=self._plan.file,
            config_hash=self._plan.hash,
        )

    def _status(self) -> OwnerStatus:
        return OwnerStatus(
            config_hash=self._plan.hash,
            config_loaded_at=self.clock.now(),
            config_error=None,
            draining=False,
            workers=0,
            busy={},
        )
