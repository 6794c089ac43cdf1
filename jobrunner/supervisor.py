"""The process behind `jobrunner run`: wires loop, storage, scheduler, dispatcher, janitor and executors.

It starts in this order, and ends in the reverse one:

    storage open -> ownership (or stand by) -> recovery of dead runs -> catalogue -> schedules -> ready
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from .adoption import Adoption, cancel_removed, publish, removed_since
from .attending import attending
from .bridge import Bridge
from .clock import Clock, SystemClock
from .dispatcher import Dispatcher
from .durations import SECOND, Micros
from .errors import OwnerLost, StorageError
from .events import Emit, GoingOn, OwnerVoided, Ready, RunsRemoved, Stopped, StorageTrouble, both
from .execution import Backing
from .execution.journal import Journal
from .execution.leftovers import become_subreaper
from .herald import Herald
from .ids import new_id
from .janitor import Janitor
from .lease import LeaseKeeper
from .listener import Listener
from .loop import EventLoop
from .machine import boot_id, hostname, pid_space, process_start
from .model import Reason, Settle
from .notify.spool import Spool
from .opening import Opening
from .output import remove, tail
from .place import output_root, state_folder
from .plan import Plan
from .pools import Pools
from .pulse import Pulse, Sight
from .recovery import Recovery
from .reloader import Reloader, Source
from .retention import sweep_output
from .scheduler import Scheduler
from .service import Service, running
from .stopping import LAST_WORD, Crew, Stop
from .storage import OwnerInfo, OwnerStatus, Pause, Storage
from .storage.pausing import known_pauses, pauses_over
from .storage.silence import silence_before
from .succession import Former, Succession
from .systemd import Notifier
from .timetable import timetables
from .trouble import Trouble
from .until import Until
from .vitals import Vitals, measure

READ_PAUSE: Micros = SECOND  # before pauses that could not be read are read again
TAIL_BYTES = 4096  # of a failed run's output, for its callbacks


class Supervisor:
    """One incarnation: it works on one storage for one plan until it is told to stop."""

    def __init__(
        self,
        plan: Plan,
        *,
        emit: Emit,
        clock: Clock | None = None,
        until: Until = Until.SIGNAL,
        schedule: bool = True,
        notifier: Notifier | None = None,
        source: Source | None = None,
        former: Former | None = None,
    ) -> None:
        """`source` is where other plans come from while it runs; None: this one stays.

        `former` is the incarnation of this process that lost its lease, in whose place this one goes on.
        """
        self._schedule = schedule
        self._clock = clock or SystemClock()
        self._loop = EventLoop(self._clock)
        notifier = notifier or Notifier()
        self._pulse = Pulse(self._loop, notifier, self._sight)
        self._owner = new_id(self._clock.now())
        self._herald = Herald(
            loop=self._loop,
            owner=self._owner,
            plan=plan,
            spool=Spool(state_folder(plan.backend)),
            tail=self._tail,
            emit=emit,
        )
        emit = both(emit, self._herald.hear)
        self._emit = emit = both(emit, self._pulse.hear) if notifier.is_heard else emit
        self._started_at = self._clock.now()
        self._stop = Stop(loop=self._loop, emit=emit, plan=lambda: self._plan, until=until)
        self._trouble = Trouble(self._loop, emit, since=former.trouble_since if former else None)
        self._succession = Succession(former)
        self._opening = Opening(
            loop=self._loop,
            emit=emit,
            trouble=self._trouble,
            is_over=self._is_stopping,
            outlives_refusals=not self._succession.is_first,
        )
        self._reloader = Reloader(
            plan=plan,
            source=source if until is Until.SIGNAL else None,
            loop=self._loop,
            emit=emit,
            is_over=self._is_stopping,
        )
        self._lost = False
        self._silence: Micros | None = None
        self.follower: Former | None = None  # when another incarnation may go on: what it must know
        self._pauses: tuple[Pause, ...] = ()
        self._pools: Pools | None = None
        self._vitals: Vitals | None = None

    def _tail(self, run_id: str, attempt: int) -> str:
        return tail(self._output_root, run_id, attempt, TAIL_BYTES).decode(errors="replace")

    @property
    def _plan(self) -> Plan:
        return self._reloader.plan

    @property
    def _output_root(self) -> str:
        return output_root(self._plan.backend)

    def _is_stopping(self) -> bool:
        return self._stop.is_asked

    # --- life ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until a signal, or until the work asked for is done.

        Raises StorageRefused, UsageError, and OwnerLost when another supervisor has taken over.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited SIG_IGN would swallow exit codes
        become_subreaper()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._stop.on_signal)
        self._loop.on_signal(signal.SIGHUP, self._reloader.hung_up)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            self._loop.on_signal(number, _nothing)  # meant for somebody else; unasked they would end this
        self._pulse.start()
        try:
            self._live()
        finally:
            self._pulse.close()
            self._loop.close()
        if self._lost and not (self._stop.is_asked and self.follower):
            raise OwnerLost(
                "this supervisor is no longer the owner of its storage; what it ran was ended",
                help="start it again: the next start recovers",
            )

    def _live(self) -> None:
        storage: Storage | None = None
        try:
            storage = self._opening.entered(self._plan.backend, self._owner_info, self._status)
            if storage is None:
                self._emit(Stopped(0, 0, len(self._succession.owed)))
                return
            if self._opening.has_stood_by:
                self._reloader.read_again()
            self._work(storage)
        except OwnerLost:
            if storage is not None and storage.lease is None:
                raise
            if storage is not None:
                storage.close()
            self._lost = True
            self._hand_on()

    def _work(self, storage: Storage) -> None:
        with Journal.opened(state_folder(self._plan.backend)) as journal:
            recovery = Recovery(
                storage=storage,
                owner=self._owner,
                plan=self._plan,
                journal=journal,
                loop=self._loop,
                emit=self._emit,
                trouble=self._trouble,
                before=self._herald.before_recovery,
                after=self._recovered,
            )
            self._opening.until_answered(lambda: self._succession.settle(storage))
            self._opening.until_answered(recovery.resolve)
            with running(self._loop, "storage") as service:
                pools = self._wire(storage, service, journal)
                try:
                    self._opening.until_answered(lambda: self._publish(storage))
                    if not self._stop.is_asked:
                        recovery.go_on(service, self._dispatcher.wake)
                        with self._keeping_lease(storage, service, recovery), self._attending(storage):
                            self._begin(storage)
                            self._loop.run()
                        if not self._lost:
                            self._stop.part()
                finally:
                    left = self._dispatcher.unwritten  # before they are closed
                    pools.close()
                    self._listener.close()
                    self._herald.close()
            if self._lost and storage.lease is not None:
                self._hand_on(self._dispatcher.unsettled())
            self._leave(storage, service)
            if self._stop.is_asked or self.follower is None:
                left += len(self._succession.owed)
                self._emit(Stopped(self._dispatcher.interrupted, self._stop.stuck, left))

    def _leave(self, storage: Storage, service: Service) -> None:
        if service.is_hung:
            return  # its thread is inside the storage; the end of the process gives back everything
        try:
            if not self._stop.is_forced and self._dispatcher.is_settled and not self._dispatcher.running:
                storage.leave(self._owner, self._clock.now())
        except StorageError as trouble:  # the next start finds a dead owner with nothing to recover
            self._emit(StorageTrouble(str(trouble), trouble.help, 0))
        finally:
            storage.close()

    # --- leases -------------------------------------------------------------------------------------

    def _hand_on(self, settles: Sequence[Settle] = ()) -> None:
        """The lease is over: another incarnation goes on, unless this process is to end."""
        former = Former(
            owner=self._owner,
            plan=self._plan,
            settles=(*self._succession.owed, *settles),
            ended_at=self._clock.now(),
            trouble_since=self._trouble.since,
        )
        self.follower = former
        if not self._stop.is_asked:
            self._emit(GoingOn(len(former.settles)))

    @contextmanager
    def _keeping_lease(self, storage: Storage, service: Service, recovery: Recovery) -> Iterator[None]:
        if storage.lease is None:
            yield
            return
        with running(self._loop, "lease") as renewals:
            LeaseKeeper(
                owner=self._owner,
                loop=self._loop,
                storage=storage,
                service=service,
                renewals=renewals,
                emit=self._emit,
                trouble=self._trouble,
                status=self._status,
                dispatcher=self._dispatcher,
                pools=self._crew.pools,
                recover=lambda: recovery.again(service, self._dispatcher.wake),
                on_lost=self._voided,
                on_over=self._lose,
            ).start()
            renewals.patience = LAST_WORD  # at the end nobody waits for a renewal
            yield

    # --- start --------------------------------------------------------------------------------------

    def _wire(self, storage: Storage, service: Service, journal: Journal) -> Pools:
        self._storage = storage
        self._service = service
        emit = both(self._emit, lambda event: self._listener.hear(event))
        self._dispatcher = self._new_dispatcher(emit)
        self._scheduler = self._new_scheduler(emit)
        self._janitor = self._new_janitor()
        self._bridge = Bridge(
            loop=self._loop,
            service=service,
            storage=storage,
            slots_of=lambda lock: self._plan.locks.get(lock, 1),
            on_change=self._dispatcher.wake,
        )
        self._listener = self._new_listener()
        self._pools = pools = self._new_pools(journal)
        self._dispatcher.serve(pools.adopt(self._plan))
        folder = state_folder(
            self._plan.backend
        )  # of a service it stays the same: a reload changes no backend
        self._vitals = Vitals(
            loop=self._loop,
            emit=self._emit,
            look=lambda: measure(folder),
            on_change=self._shortage_changed,
        )
        self._crew = Crew(
            self._scheduler,
            self._dispatcher,
            self._janitor,
            self._herald,
            self._listener,
            pools,
            service,
            storage,
        )
        self._stop.serve(self._crew)
        return pools

    def _new_dispatcher(self, emit: Emit) -> Dispatcher:
        return Dispatcher(
            plan=self._plan,
            owner=self._owner,
            loop=self._loop,
            storage=self._storage,
            service=self._service,
            emit=emit,
            trouble=self._trouble,
            tail=self._tail,
            on_control=self._read_pauses,
            on_written=self._written,
            on_quiet=self._stop.quiet,
            on_lost=self._voided,
        )

    def _new_scheduler(self, emit: Emit) -> Scheduler:
        return Scheduler(
            loop=self._loop,
            storage=self._storage,
            service=self._service,
            emit=emit,
            trouble=self._trouble,
            pauses_of=lambda task: pauses_over(self._pauses, task),
            look_at_clock=lambda: self._janitor.look_at_clock(),
            on_added=self._dispatcher.wake,
            on_lost=self._voided,
            before=self._herald.before_ticks,
            elsewhere=self._herald.leaves,
        )

    def _new_janitor(self) -> Janitor:
        root, storage = self._output_root, self._storage
        return Janitor(
            owner=self._owner,
            loop=self._loop,
            storage=storage,
            service=self._service,
            emit=self._emit,
            retention=lambda: self._plan.retention,
            status=self._status,
            remove_output=lambda run_ids: remove(root, run_ids),
            sweep_output=lambda share, now: sweep_output(root, share, self._plan, storage, now),
            # A server that lost its last writes may have changed what is known of it here.
            on_change=self._dispatcher.wake if storage.lease is None else self._dispatcher.doubt,
            on_jump=self._jumped,
            on_lost=self._voided,
        )

    def _new_listener(self) -> Listener:
        return Listener(
            loop=self._loop,
            service=self._service,
            storage=self._storage,
            emit=self._emit,
            plan=self._plan,
            owner=self._owner,
            output_root=self._output_root,
            backing=Backing(self._plan.backend, self._bridge.ask),
        )

    def _new_pools(self, journal: Journal) -> Pools:
        backing = Backing(self._plan.backend, self._bridge.ask, self._listener.receive)
        return Pools(
            loop=self._loop,
            sink=self._dispatcher,
            output_root=self._output_root,
            journal=journal,
            backing=backing,
            emit=self._emit,
            on_change=self._janitor.report,
            wake=self._dispatcher.wake,
            patient=self._stop.until is Until.SIGNAL,
        )

    def _publish(self, storage: Storage) -> None:
        now = self._clock.now()
        removed = cancel_removed(storage, self._owner, removed_since(storage, self._plan), now)
        if removed:
            self._emit(RunsRemoved(removed))
        publish(storage, self._owner, self._plan, now)
        self._pauses = tuple(known_pauses(storage))
        if self._succession.is_first:
            self._silence = silence_before(self._owner, self._started_at, storage.supervisors(now))
        self._tables = timetables(self._plan, storage, boot_id(), now) if self._schedule else []

    def _begin(self, storage: Storage) -> None:
        fd = storage.wake_fd()
        if fd is not None:
            self._loop.watch(fd, read=self._woken)
        if self._vitals is not None:
            self._vitals.start()
        self._scheduler.start(self._tables)
        self._dispatcher.wake()
        self._janitor.start()
        self._herald.begin(storage, self._service)
        following = self._scheduler.next_tick()
        self._emit(
            Ready(
                file=self._plan.file,
                storage=storage.url,
                timezone=self._plan.timezone,
                tasks=len(self._plan.tasks),
                schedules=len(self._tables),
                pid=os.getpid(),
                next_task=following[0] if following else None,
                next_at=following[1] if following else None,
                silence=self._silence,
            )
        )

    # --- reload -------------------------------------------------------------------------------------

    def _attending(self, storage: Storage) -> AbstractContextManager[None]:
        """While it works, its file is watched and `jobrunner reload` may ask."""
        adoption = Adoption(
            crew=self._crew,
            owner=self._owner,
            loop=self._loop,
            emit=self._emit,
            trouble=self._trouble,
            schedule=self._schedule,
            on_fresh=self._listener.adopt,
        )
        return attending(
            self._reloader,
            adoption,
            loop=self._loop,
            emit=self._emit,
            folder=state_folder(storage.url),
            report=self._janitor.report,
        )

    # --- while it runs ------------------------------------------------------------------------------

    def _written(self, settles: Sequence[Settle]) -> None:
        """These are in the storage: who waits for them, and who wants to hear of them, is told."""
        self._bridge.written()
        self._listener.written(settles)

    def _recovered(self, ends: list[tuple[str, Settle]]) -> None:
        """These runs of dead supervisors were resolved; on any thread, and before anybody listens too."""
        self._loop.hand_over(lambda: self._listener.recovered(ends))

    def _woken(self) -> None:
        self._storage.woken()
        self._dispatcher.wake()

    def _jumped(self, reason: Reason) -> None:
        self._scheduler.jumped(reason)
        self._dispatcher.wake()

    def _read_pauses(self) -> None:
        self._service.ask(lambda: known_pauses(self._storage), self._take_pauses, self._read_pauses_later)

    def _read_pauses_later(self, error: Exception) -> None:
        self._trouble.met("pauses", error, READ_PAUSE)
        self._loop.after(READ_PAUSE, self._read_pauses)

    def _take_pauses(self, pauses: list[Pause]) -> None:
        self._trouble.over("pauses")
        self._pauses = tuple(pauses)

    def _shortage_changed(self, trouble: str | None) -> None:
        """Nothing is claimed while something is short, and clients are to know why."""
        if trouble is None:
            self._dispatcher.let_go()
        else:
            self._dispatcher.hold()
        self._janitor.report()

    def _voided(self) -> None:
        """The storage says that this owner is none, though its lease was held."""
        if not self._lost:
            self._emit(OwnerVoided(self._dispatcher.running))
        self._lose()

    def _lose(self) -> None:
        """This owner is none any more: nothing of it may be written; what runs is ended, others recover."""
        self._lost = self._stop.is_forced = True
        self._loop.stop()

    def _sight(self) -> Sight:
        return Sight(self._status(), self._scheduler.next_tick(), self._plan.timezone)

    def _owner_info(self) -> OwnerInfo:
        return OwnerInfo(
            id=self._owner,
            host=hostname(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()) or 0,
            boot_id=pid_space(),
            started_at=self._started_at,
            config=self._plan.file,
            config_hash=self._plan.hash,
        )

    def _status(self) -> OwnerStatus:
        return OwnerStatus(
            config_hash=self._plan.hash,
            config_loaded_at=self._reloader.loaded_at,
            config_error=self._reloader.error,
            draining=self._stop.is_asked,
            workers=self._pools.workers() if self._pools else 0,
            busy=self._pools.busy() if self._pools else {},
            untold=self._herald.waiting,
            untold_because=self._herald.trouble,
            trouble=self._vitals.trouble if self._vitals else None,
            stalled=self._pools.stalled if self._pools else None,
        )


def _nothing() -> None:
    """What some signals do."""
