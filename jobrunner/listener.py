"""Signals that arise in the supervisor, told to the receivers of user code: in a worker of their own.

    a loop's event --> notices --(written)--> waiting --> the listener worker, some at a time, in order

A notice is told after the write that it is about, and at most once: what waits when the supervisor ends, or
when too many wait, is not told at all.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .codec import encode_arguments
from .durations import SECOND
from .events import AttemptEnded, Emit, Event, MapGrown, RateReached, ReceiverFailed, ReceiverSaid, RunRefused
from .execution import Backing, Call
from .execution.pool import ProcessPool
from .execution.start import HEAR
from .hooks import Notice
from .lookout import Lookout
from .loop import EventLoop
from .model import Ended, Ending, Settle
from .notices import notices_of, recovered
from .output import remove, tail
from .plain import to_plain
from .plan import Plan, Pool, Task
from .service import Service
from .storage import Storage

MOST_WAITING: Final = 10_000  # notices; beyond, the oldest is dropped
MOST_AT_ONCE: Final = 100  # notices in one call of the worker
LONG: Final = 8_000  # characters of errors; after these no other notice joins the call
LAST_MOMENT: Final = 3 * SECOND // 2  # for what waits at an orderly end
NAME: Final = "signals"  # of the pool and the task of the listener, which no file knows
_TAIL: Final = 2000  # bytes of what a receiver has written


class Listener:
    """Receivers and what they are told; the `Sink` of its one worker."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        service: Service,
        storage: Storage,
        emit: Emit,
        plan: Plan,
        owner: str,
        output_root: str,
        backing: Backing,
    ) -> None:
        self._loop = loop
        self._emit = emit
        self._plan = plan
        self._owner = owner
        self._output_root = output_root
        self._backing = backing
        self._modules: dict[str, frozenset[str]] = {}  # and the signals that their receivers wait for
        self._wanted: frozenset[str] = frozenset()
        self._unwritten: dict[tuple[str, int], list[Notice]] = {}
        self._waiting: deque[Notice] = deque(maxlen=MOST_WAITING)
        self._told: list[Notice] = []  # what the worker has
        self._numbers = itertools.count(1)
        self._pool: ProcessPool | None = None
        self._lookout = Lookout(
            loop=loop,
            service=service,
            storage=storage,
            owner=owner,
            tell=lambda notices: self._tell(self._wanted_of(notices)),
        )
        self._task = Task(name=NAME, call=HEAR, kill_after=SECOND, store_result=False)
        self.adopt(plan)

    # ---- who listens -----------------------------------------------------------------------------

    def adopt(self, plan: Plan) -> None:
        """The modules of this plan have these receivers; a fresh worker imports them."""
        self._plan = plan
        self._lookout.adopt(plan)
        for module, signals in plan.receivers.items():
            self.receive(module, signals)
        if self._pool is not None:
            self._pool.retire()
            self._pool = None

    def receive(self, module: str, signals: Sequence[str]) -> None:
        """A worker has imported a module with receivers for these signals."""
        self._modules[module] = frozenset(signals)
        self._wanted = frozenset().union(*self._modules.values())
        self._lookout.watch(self._wanted)

    # ---- what happens ----------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """An event of a loop: what is told of it waits for the write, where there is one to come."""
        if not self._wanted:
            return
        if isinstance(event, AttemptEnded | RunRefused | MapGrown):
            notices = self._wanted_of(notices_of(event))
            if notices:
                self._unwritten[event.settle.id, event.settle.claim_no] = notices
        elif isinstance(event, RateReached):
            self._lookout.left_behind(event.tasks)
        else:
            self._tell(self._wanted_of(notices_of(event)))

    def recovered(self, ends: Iterable[tuple[str, Settle]]) -> None:
        """These runs of dead supervisors, of these tasks, were resolved."""
        for task, settle in ends:
            self._tell(self._wanted_of(recovered(task, settle)))

    def _wanted_of(self, notices: Iterable[Notice]) -> list[Notice]:
        return [notice for notice in notices if notice.signal in self._wanted]

    def written(self, settles: Sequence[Settle]) -> None:
        """These are in the storage now."""
        if self._unwritten:
            for settle in settles:
                self._tell(self._unwritten.pop((settle.id, settle.claim_no), ()))

    # ---- telling ---------------------------------------------------------------------------------

    def _tell(self, notices: Iterable[Notice]) -> None:
        self._waiting.extend(notices)
        self._feed()

    def _feed(self) -> None:
        """Hand over what waits, once the worker is done with what it had: they are heard in their order."""
        if self._waiting and not self._told and self._open().room() > 0:
            self._told = self._next_few()
            self._open().start([self._call(self._told)])

    def _next_few(self) -> list[Notice]:
        """What one call carries: with many long errors its payload would be too long."""
        few: list[Notice] = []
        long = 0
        while self._waiting and len(few) < MOST_AT_ONCE and long < LONG:
            few.append(self._waiting.popleft())
            long += len(few[-1].error or "")
        return few

    def _open(self) -> ProcessPool:
        if self._pool is None:
            pool = self._plan.pools.get("default", Pool(name="default"))
            self._pool = ProcessPool(
                Pool(name=NAME, slots=1, python=pool.python, env=pool.env),
                self._loop,
                self,
                output_root=self._output_root,
                backing=self._backing,
                pythonpath=self._plan.pythonpath,
            )
        return self._pool

    def _call(self, notices: Sequence[Notice]) -> Call:
        return Call(
            seq=next(self._numbers),
            claim_no=1,
            run_id=f"{NAME}-{self._owner}",
            attempt=1,
            task=self._task,
            payload=encode_arguments([list(self._modules), [to_plain(each) for each in notices]], {}),
            trigger="signal",
            tick=None,
            missed=0,
            due_at=notices[0].at,
            timeout=None,
            owner=self._owner,
        )

    def started(self, call: Call, at: int, pid: int | None) -> None:
        """Nothing: a receiver may take its time."""

    def ended(self, call: Call, ended: Ended) -> None:
        """The receivers have heard; what they wrote, or what went wrong, is said in the log."""
        told, self._told = self._told, []
        if ended.ending is Ending.RECALLED:
            self._waiting.extendleft(reversed(told))  # they had not begun: another worker hears them
        if ended.output is not None:
            text = tail(self._output_root, call.run_id, call.attempt, _TAIL).decode(errors="replace")
            remove(self._output_root, [call.run_id])
            self._emit(ReceiverSaid(text.strip()))
        if ended.ending not in (Ending.OK, Ending.RECALLED):
            self._emit(ReceiverFailed(f"{ended.outcome}: {ended.error or ''}"))
        self._feed()

    def finish(self) -> None:
        """Let the receivers hear what waits, and leave, for a moment; nothing runs any more but this loop."""
        self._turn_while(lambda: bool(self._waiting or self._told))
        if self._pool is not None:
            self._pool.retire()
            self._turn_while(lambda: self._pool is not None and self._pool.workers() > 0)

    def _turn_while(self, holds: Callable[[], bool]) -> None:
        end = self._loop.monotonic() + LAST_MOMENT
        while holds() and (rest := end - self._loop.monotonic()) > 0:
            self._loop.turn(rest)

    def close(self) -> None:
        """End the worker now."""
        if self._pool is not None:
            self._pool.close()
