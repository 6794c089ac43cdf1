"""Puts a plan in force: in the storage, for clients, and then in the loops of the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from .catalogue import catalogue_of, scheduled
from .durations import SECOND, Micros
from .errors import StorageUnavailable
from .events import Emit, RunsRemoved
from .loop import EventLoop
from .machine import boot_id
from .model import Reason, Run, State, Trigger
from .plan import Plan
from .schedule import forget_zones
from .stopping import Crew
from .storage import RunFilter, Storage
from .timetable import Timetable, boot_key, timetables
from .trouble import Trouble

TRY_AGAIN: Micros = SECOND  # after a storage that did not answer
SWEEP_AGAIN: Micros = 2 * SECOND  # an attempt that ended by the old plan may have been on its way
MOST_REMOVED = 500  # runs cancelled in one write

_WAITING = (State.SCHEDULED, State.QUEUED)
_TICKS = (Trigger.SCHEDULE.value, Trigger.CATCH_UP.value)


def publish(storage: Storage, owner: str, plan: Plan, now: Micros) -> None:
    """Tell clients about the plan, and forget the schedules that it does not have."""
    catalogue, boot = catalogue_of(plan), boot_id()
    boots = (boot_key(key, boot) for key in catalogue.schedules)
    storage.publish(owner, catalogue, keep=(*catalogue.schedules, *boots), now=now)


def cancel_removed(storage: Storage, owner: str, gone: Collection[str], now: Micros) -> int:
    """Cancel the ticks and retries of tasks that are no more (semantics 20); how many there were.

    What a person has enqueued stays in the queue, and so does what another supervisor that lives has.
    """
    names = tuple(_had_by_nobody(storage, owner, gone, now)) if gone else ()
    if not names:
        return 0
    doomed = (
        RunFilter(tasks=names, states=(State.RETRYING,), limit=MOST_REMOVED),
        RunFilter(tasks=names, states=_WAITING, triggers=_TICKS, limit=MOST_REMOVED),
        RunFilter(tasks=names, states=_WAITING, limit=MOST_REMOVED),  # retries that are due already
    )
    return sum(_cancel_all(storage, which, now) for which in doomed)


def _had_by_nobody(storage: Storage, owner: str, gone: Collection[str], now: Micros) -> list[str]:
    """Those of these tasks that no other supervisor has published.

    Before its own catalogue is replaced this one cannot tell; to publish cancels what nobody has.
    """
    if not any(each.alive and each.owner.id != owner for each in storage.supervisors(now)):
        return sorted(gone)
    return sorted(name for name in gone if storage.entry(name) is None)


def _cancel_all(storage: Storage, which: RunFilter, now: Micros) -> int:
    count = 0
    while ids := [run.id for run in storage.runs(which) if _goes_with_its_task(run)]:
        done = sum(storage.cancel(ids, now, reason=Reason.REMOVED.value))
        if not done:  # all of them have begun, or ended, this very moment
            break
        count += done
    return count


def _goes_with_its_task(run: Run) -> bool:
    return run.state is State.RETRYING or run.failures > 0 or run.tick is not None


def removed_since(storage: Storage, plan: Plan) -> set[str]:
    """The tasks that were published last and are not in this plan."""
    before = storage.catalogue()
    return set() if before is None else set(before.tasks) - {each.name for each in scheduled(plan)}


class _Stored(NamedTuple):
    """What the storage gave back: how many runs went with their tasks, and the timetables."""

    removed: int
    tables: list[Timetable]


class Adoption:
    """Moves a working supervisor to another plan; running attempts are left alone (semantics 26)."""

    def __init__(
        self,
        *,
        crew: Crew,
        owner: str,
        loop: EventLoop,
        emit: Emit,
        trouble: Trouble,
        schedule: bool,
        on_fresh: Callable[[Plan], None],
    ) -> None:
        """`on_fresh` is told of plans whose Python code is to be used anew."""
        self._crew = crew
        self._owner = owner
        self._loop = loop
        self._emit = emit
        self._trouble = trouble
        self._schedule = schedule
        self._on_fresh = on_fresh

    def adopt(self, plan: Plan, gone: Collection[str], *, fresh: bool, then: Callable[[str], None]) -> None:
        """Put it in force, with fresh workers or not; `then("")`, or `then(why not)` with nothing changed."""
        forget_zones()  # the machine may have got new ones since the last time
        self._crew.scheduler.hold()  # no tick of an old schedule after the new ones are written
        reboots = self._crew.scheduler.reboots()
        self._ask(plan, gone, reboots, lambda stored: self._adopted(plan, gone, stored, fresh, then), then)

    def _ask(
        self,
        plan: Plan,
        gone: Collection[str],
        reboots: Collection[str],
        done: Callable[[_Stored], None],
        then: Callable[[str], None],
    ) -> None:
        def failed(error: Exception) -> None:
            if isinstance(error, StorageUnavailable):
                self._trouble.met("reload", error, TRY_AGAIN)
                self._loop.after(TRY_AGAIN, lambda: self._ask(plan, gone, reboots, done, then))
                return
            self._trouble.over("reload")  # the reload is; whoever asked for it hears why
            self._crew.scheduler.go_on()
            then(f"the storage refused it: {error}")

        now = self._loop.now()
        self._crew.service.ask(lambda: self._store(plan, gone, reboots, now), done, failed)

    def _store(self, plan: Plan, gone: Collection[str], reboots: Collection[str], now: Micros) -> _Stored:
        """On the service: everything that the storage has to know, in an order that may be cut anywhere."""
        storage = self._crew.storage
        removed = cancel_removed(storage, self._owner, gone, now)
        publish(storage, self._owner, plan, now)
        if not self._schedule:
            return _Stored(removed, [])
        return _Stored(removed, timetables(plan, storage, boot_id(), now, reboots=reboots))

    def _adopted(
        self,
        plan: Plan,
        gone: Collection[str],
        stored: _Stored,
        fresh: bool,
        then: Callable[[str], None],
    ) -> None:
        self._trouble.over("reload")
        self._crew.dispatcher.adopt_plan(plan)
        self._crew.herald.adopt_plan(plan)
        self._crew.listener.adopt(plan)
        self._crew.dispatcher.serve(self._crew.pools.adopt(plan, fresh=fresh))
        if fresh:
            self._on_fresh(plan)
        self._crew.scheduler.start(stored.tables)
        self._crew.dispatcher.wake()
        self._tell(stored.removed)
        if gone:
            self._sweep_later(gone)
        then("")

    def _sweep_later(self, gone: Collection[str]) -> None:
        self._loop.after(SWEEP_AGAIN, lambda: self._sweep(gone))

    def _sweep(self, gone: Collection[str]) -> None:
        now = self._loop.now()
        self._crew.service.ask(
            lambda: cancel_removed(self._crew.storage, self._owner, gone, now),
            self._tell,
            lambda _error: self._sweep_later(gone),
        )

    def _tell(self, removed: int) -> None:
        if removed:
            self._emit(RunsRemoved(removed))
