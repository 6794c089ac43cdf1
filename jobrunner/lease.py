"""The lease of a supervisor on a storage that tells life by leases, and what it does when it cannot renew it.

    last success sent          15 s             20 s     27 s        30 s
    |---------- all is well ---|-- no starts ---|-- TERM -|-- KILL ---|-- others may take its runs

The time counts from the moment at which the last renewal that succeeded was sent, on the clock that goes on
while the machine sleeps. After TERM this owner is done for, whatever the storage says then: the supervisor
goes on under a new id (semantics 33).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from .dispatcher import Dispatcher
from .durations import SECOND, Micros
from .errors import OwnerLost
from .events import Emit, LeaseEnded, LeaseLate
from .loop import EventLoop
from .model import Ending
from .pools import Pools
from .recovery import LOOK_PAUSE
from .service import Service
from .storage import OwnerStatus, Storage
from .trouble import Trouble

RENEW: Micros = 10 * SECOND
NO_STARTS, TERM, KILL, OVER = 15 * SECOND, 20 * SECOND, 27 * SECOND, 29 * SECOND
LOOK: Micros = SECOND  # how often the age of the lease is looked at


class Stage(IntEnum):
    """How far the end of a lease has come."""

    HELD = 0
    NO_STARTS = 1
    TERM = 2
    KILL = 3
    OVER = 4


def stage_at(age: Micros) -> Stage:
    """The stage of a lease whose last renewal was sent so long ago."""
    return Stage(sum(age >= bound for bound in (NO_STARTS, TERM, KILL, OVER)))


class LeaseKeeper:
    """Renews the lease, ends this supervisor's work in time when it cannot, and looks for dead others."""

    def __init__(
        self,
        *,
        owner: str,
        loop: EventLoop,
        storage: Storage,
        service: Service,
        renewals: Service,
        emit: Emit,
        trouble: Trouble,
        status: Callable[[], OwnerStatus],
        dispatcher: Dispatcher,
        pools: Pools,
        recover: Callable[[], None],
        on_lost: Callable[[], None],
        on_over: Callable[[], None],
    ) -> None:
        """`renewals` has a thread of its own: one call that takes long must not cost the lease.

        `on_lost`: somebody has voided this owner. `on_over`: it has ended its work itself."""
        self._owner = owner
        self._loop = loop
        self._storage = storage
        self._service = service
        self._renewals = renewals
        self._emit = emit
        self._trouble = trouble
        self._status = status
        self._dispatcher = dispatcher
        self._pools = pools
        self._recover = recover
        self._on_lost = on_lost
        self._on_over = on_over
        self._sent = loop.clock.boottime()  # of the last renewal that succeeded
        self._is_sure = False  # the first renewal went through
        self._is_asking = False
        self._is_finding = False
        self._next_renewal: Micros = 0
        self._next_find: Micros = 0
        self._stage = Stage.HELD

    def start(self) -> None:
        """Renew, and look, from now on. Until the first renewal nothing is started."""
        self._dispatcher.may_start = self.may_start
        self._look()

    def may_start(self) -> bool:
        """Whether work may begin now: the lease is known to be held for long enough."""
        return self._is_sure and self._stage is Stage.HELD and self._age() < NO_STARTS

    def _age(self) -> Micros:
        return self._loop.clock.boottime() - self._sent

    # --- looks --------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._move_to(max(self._kept_stage(), stage_at(self._age())))
        now = self._loop.clock.boottime()
        if not self._is_asking and now >= self._next_renewal:
            self._renew()
        if not self._is_asking and not self._is_finding and now >= self._next_find:
            self._find()
        self._loop.after(LOOK, self._look)

    def _kept_stage(self) -> Stage:
        """After TERM there is no way back for this owner."""
        return self._stage if self._stage >= Stage.TERM else Stage.HELD

    def _move_to(self, stage: Stage) -> None:
        before, self._stage = self._stage, stage
        for passed in range(before + 1, stage + 1):
            self._reach(Stage(passed))
        if self._stage >= Stage.TERM and self._is_finished():
            self._on_over()

    def _is_finished(self) -> bool:
        """Whether nothing runs any more; what cannot be ended in time is ended with the executors."""
        return not self._dispatcher.running or self._stage is Stage.OVER

    def _reach(self, stage: Stage) -> None:
        if stage is Stage.NO_STARTS:
            self._emit(LeaseLate(self._age(), TERM - NO_STARTS))
            self._pools.recall()
        elif stage is Stage.TERM:
            self._emit(LeaseEnded(self._dispatcher.running))
            self._dispatcher.end_all(Ending.INTERRUPTED, grace=KILL - TERM)
        elif stage is Stage.KILL:
            self._dispatcher.end_all(Ending.INTERRUPTED, grace=0)

    # --- renewals -----------------------------------------------------------------------------------

    def _renew(self) -> None:
        self._is_asking = True
        self._next_renewal = self._loop.clock.boottime() + RENEW
        status, now = self._status(), self._loop.now()

        def renewed() -> Micros:
            sent = self._loop.clock.boottime()
            self._storage.heartbeat(self._owner, status, now)
            return sent

        self._renewals.ask(renewed, self._renewed, self._not_renewed)

    def _renewed(self, sent: Micros) -> None:
        self._is_asking = False
        self._trouble.over("renewal")
        self._sent = max(self._sent, sent)
        if not self._is_sure or self._stage is Stage.NO_STARTS:
            self._is_sure = True
            self._move_to(max(self._kept_stage(), stage_at(self._age())))
            self._dispatcher.wake()

    def _not_renewed(self, error: Exception) -> None:
        self._is_asking = False
        self._next_renewal = 0
        if isinstance(error, OwnerLost):
            self._on_lost()
        else:
            self._trouble.met("renewal", error, LOOK)

    # --- dead supervisors ---------------------------------------------------------------------------

    def _find(self) -> None:
        self._is_finding = True
        self._next_find = self._loop.clock.boottime() + LOOK_PAUSE
        self._service.ask(lambda: bool(self._storage.orphans(self._owner)), self._found, self._not_found)

    def _found(self, somebody: bool) -> None:
        self._is_finding = False
        if somebody:
            self._recover()
        else:
            self._trouble.over("orphans")

    def _not_found(self, error: Exception) -> None:
        self._is_finding = False
        self._trouble.met("orphans", error, LOOK_PAUSE)


__all__ = ["LeaseKeeper", "Stage", "stage_at"]
