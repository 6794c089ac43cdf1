"""The process behind `jobrunner run`: wires loop, storage, scheduler, dispatcher, janitor and executors.

It starts in this order, and ends in the reverse one:

    storage open -> ownership (or stand by) -> recovery of dead runs -> catalogue -> schedules -> ready
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from enum import Enum

from . import janitor as recovery
from .catalogue import catalogue_of, entry_of
from .clock import Clock, SystemClock
from .dispatcher import Dispatcher
from .durations import SECOND, Micros
from .errors import OwnerLost, StorageError, StorageUnavailable
from .events import Emit, Hurrying, Ready, Recovered, StandingBy, Stopped, Stopping, StorageTrouble
from .execution import Executor, Loop, Sink
from .execution.commands import CommandExecutor
from .execution.journal import Journal
from .execution.leftovers import become_subreaper, end_leftovers
from .execution.pool import ProcessPool
from .ids import new_id
from .janitor import Janitor
from .loop import EventLoop, LoopTimer
from .machine import boot_id, hostname, process_start
from .model import Ending, Reason, State
from .output import remove, tail
from .place import output_root, state_folder
from .plan import Plan, Pool, PoolKind, Task
from .retention import sweep_output
from .scheduler import SPREAD, Scheduler, boot_key, timetables
from .service import Service, running
from .storage import OwnerInfo, OwnerStatus, Pause, RunFilter, Storage, open_storage

STANDBY_LOOK: Micros = SECOND // 4
START_PAUSE: Micros = SECOND  # between two tries to open a storage that does not answer
LAST_GRACE: Micros = 3 * SECOND // 2  # after the last KILL, for its completions to be written
LAST_WORD = 0.3  # seconds, for a storage that still hangs at a forced end: nobody waits for it then
LEFT_PAUSE: Micros = 30 * SECOND  # between two looks at runs whose processes could not be ended
HURRY: Micros = SECOND  # TERM to KILL after a second signal: the whole end takes at most 2 s (semantics 29)
TAIL_BYTES = 4096  # of a failed run's output, for its callbacks


class Until(Enum):
    """When a supervisor ends by itself."""

    SIGNAL = "signal"
    ONCE = "once"  # what is due now has been done
    DRAINED = "drained"  # nothing is queued, retrying or running


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
    ) -> None:
        self._plan = plan
        self._emit = emit
        self._until = until
        self._schedule = schedule
        self._clock = clock or SystemClock()
        self._loop = EventLoop(self._clock)
        self._owner = new_id(self._clock.now())
        self._started_at = self._clock.now()
        self._signals = 0
        self._stopping = False
        self._forced = False  # the end came before everything was written
        self._lost = False
        self._stuck = 0
        self._pauses: tuple[Pause, ...] = ()
        self._executors: dict[str, Executor] = {}
        self._deadline: LoopTimer | None = None
        self._left: Recovered | None = None

    # --- life ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until a signal, or until the work asked for is done.

        Raises StorageRefused, UsageError, and OwnerLost when another supervisor has taken over.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited SIG_IGN would swallow exit codes
        become_subreaper()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._asked_to_stop)
        try:
            storage = self._opened()
            if storage is not None:
                self._work(storage)
        finally:
            self._loop.close()
        if self._lost:
            raise OwnerLost(
                "this supervisor is no longer the owner of its storage; what it ran was ended",
                help="start it again: the next start recovers",
            )

    def _opened(self) -> Storage | None:
        """The storage, as its owner (waited for when it may answer later); None when a signal came first."""
        while not self._stopping:
            try:
                storage = open_storage(self._plan.backend)
            except StorageUnavailable as trouble:
                self._emit(StorageTrouble(str(trouble), trouble.help, START_PAUSE))
                self._pause(START_PAUSE)
                continue
            entered = False
            try:
                entered = self._enter(storage)
            finally:
                if not entered:
                    storage.close()
            if entered:
                return storage
        return None

    def _enter(self, storage: Storage) -> bool:
        told = False
        while not self._stopping:
            try:
                if storage.enter(self._owner_info(), self._status()):
                    return True
            except StorageUnavailable as trouble:
                self._emit(StorageTrouble(str(trouble), trouble.help, START_PAUSE))
                self._pause(START_PAUSE)
                continue
            if not told:
                self._emit(StandingBy(storage.url))
                told = True
            self._pause(STANDBY_LOOK)
        return False

    def _pause(self, time: Micros) -> None:
        """Let signals in while waiting."""
        end = self._loop.monotonic() + time
        while not self._stopping and (rest := end - self._loop.monotonic()) > 0:
            self._loop.turn(rest)

    def _work(self, storage: Storage) -> None:
        with Journal.opened(state_folder(self._plan.backend)) as self._journal:
            self._until_answered(lambda: self._recover(storage))
            with running(self._loop, "storage") as service:
                try:
                    self._wire(storage, service)
                    self._until_answered(lambda: self._publish(storage))
                    if not self._stopping:
                        self._begin(storage)
                        self._loop.run()
                finally:
                    left = self._dispatcher.unwritten  # before they are closed
                    for executor in self._executors.values():
                        executor.close()
            self._leave(storage, service)
            self._emit(Stopped(self._dispatcher.interrupted, self._stuck, left))

    def _until_answered(self, ask: Callable[[], None]) -> None:
        """Do this; while the storage does not answer, try again."""
        while not self._stopping:
            try:
                ask()
            except StorageUnavailable as trouble:
                self._emit(StorageTrouble(str(trouble), trouble.help, START_PAUSE))
                self._pause(START_PAUSE)
            else:
                return

    def _leave(self, storage: Storage, service: Service) -> None:
        if service.is_hung:
            return  # its thread is inside the storage; the end of the process gives back everything
        try:
            if not self._forced and self._dispatcher.is_settled and not self._dispatcher.running:
                storage.leave(self._owner, self._clock.now())
        except StorageError as trouble:  # the next start finds a dead owner with nothing to recover
            self._emit(StorageTrouble(str(trouble), trouble.help, 0))
        finally:
            storage.close()

    # --- start --------------------------------------------------------------------------------------

    def _recover(self, storage: Storage) -> None:
        self._left = self._resolved(storage)

    def _resolved(self, storage: Storage) -> Recovered | None:
        entries = {name: entry_of(task) for name, task in self._plan.tasks.items()}
        return recovery.recover(
            storage,
            self._owner,
            entries,
            self._clock.now(),
            end_leftovers=lambda owners: end_leftovers(self._journal, owners),
        )

    def _tell_recovered(self, done: Recovered | None) -> None:
        """Say what was recovered; what could not be is tried again later."""
        if done is None:
            return
        self._emit(done)
        if done.left:
            self._recover_later()

    def _recover_again(self) -> None:
        self._service.ask(
            lambda: self._resolved(self._storage),
            self._recovered_again,
            lambda _error: self._recover_later(),
        )

    def _recover_later(self) -> None:
        self._loop.after(LEFT_PAUSE, self._recover_again)

    def _recovered_again(self, done: Recovered | None) -> None:
        self._tell_recovered(done)
        self._dispatcher.wake()

    def _wire(self, storage: Storage, service: Service) -> None:
        root = output_root(self._plan.backend)
        self._dispatcher = Dispatcher(
            plan=self._plan,
            owner=self._owner,
            loop=self._loop,
            storage=storage,
            service=service,
            emit=self._emit,
            tail=lambda run_id, attempt: tail(root, run_id, attempt, TAIL_BYTES).decode(errors="replace"),
            on_control=self._read_pauses,
            on_quiet=self._quiet,
            on_lost=self._lose,
        )
        self._scheduler = Scheduler(
            loop=self._loop,
            storage=storage,
            service=service,
            emit=self._emit,
            is_paused=self._is_paused,
            look_at_clock=lambda: self._janitor.look_at_clock(),
            on_added=self._dispatcher.wake,
            on_lost=self._lose,
        )
        self._janitor = Janitor(
            owner=self._owner,
            loop=self._loop,
            storage=storage,
            service=service,
            emit=self._emit,
            retention=lambda: self._plan.retention,
            status=self._status,
            remove_output=lambda run_ids: remove(root, run_ids),
            sweep_output=lambda share, now: sweep_output(root, share, self._plan, storage, now),
            on_change=self._dispatcher.wake,
            on_jump=self._jumped,
            on_lost=self._lose,
        )
        self._service = service
        self._storage = storage
        self._executors = {pool.name: self._executor(pool, root) for pool in self._plan.pools.values()}
        self._dispatcher.serve(self._executors)

    def _executor(self, pool: Pool, root: str) -> Executor:
        loop: Loop = self._loop
        sink: Sink = self._dispatcher
        if pool.kind is PoolKind.COMMAND:
            return CommandExecutor(pool, loop, sink, root, self._journal)
        return ProcessPool(pool, loop, sink, output_root=root, pythonpath=self._plan.pythonpath)

    def _publish(self, storage: Storage) -> None:
        catalogue = catalogue_of(self._plan)
        boot = boot_id()
        boots = tuple(boot_key(key, boot) for key in catalogue.schedules)
        storage.publish(self._owner, catalogue, keep=(*catalogue.schedules, *boots))
        self._pauses = tuple(storage.pauses(self._clock.now()))
        self._tables = timetables(self._plan, storage, boot, self._clock.now()) if self._schedule else []

    def _begin(self, storage: Storage) -> None:
        self._tell_recovered(self._left)
        fd = storage.wake_fd()
        if fd is not None:
            self._loop.watch(fd, read=self._woken)
        self._scheduler.start(self._tables)
        self._dispatcher.wake()
        self._janitor.start()
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
            )
        )

    # --- while it runs ------------------------------------------------------------------------------

    def _woken(self) -> None:
        self._storage.woken()
        self._dispatcher.wake()

    def _jumped(self, reason: Reason) -> None:
        self._scheduler.jumped(reason)
        self._dispatcher.wake()

    def _is_paused(self, task: Task) -> bool:
        targets, now = {"all", f"task:{task.name}", f"pool:{task.pool}"}, self._loop.now()
        return any(p.target in targets and (p.until is None or p.until > now) for p in self._pauses)

    def _read_pauses(self) -> None:
        now = self._loop.now()
        self._service.ask(lambda: self._storage.pauses(now), self._take_pauses, self._read_pauses_later)

    def _read_pauses_later(self, _error: Exception) -> None:
        self._loop.after(START_PAUSE, self._read_pauses)

    def _take_pauses(self, pauses: list[Pause]) -> None:
        self._pauses = tuple(pauses)

    def _lose(self) -> None:
        """This owner was voided: nothing of it may be written; what runs is ended, a new start recovers."""
        self._lost = self._forced = True
        self._loop.stop()

    def _owner_info(self) -> OwnerInfo:
        return OwnerInfo(
            id=self._owner,
            host=hostname(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()) or 0,
            boot_id=boot_id(),
            started_at=self._started_at,
            config=self._plan.file,
            config_hash=self._plan.hash,
        )

    def _status(self) -> OwnerStatus:
        return OwnerStatus(
            config_hash=self._plan.hash,
            config_loaded_at=self._started_at,
            config_error=None,
            draining=self._stopping,
            workers=sum(each.workers() for each in self._executors.values()),
            busy={name: each.busy() for name, each in self._executors.items()},
        )

    # --- the end ------------------------------------------------------------------------------------

    def _asked_to_stop(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._stop()
        elif self._signals == 2:
            self._hurry()

    def _stop(self) -> None:
        """Stop claiming and scheduling at once; what runs may finish until the deadline (semantics 29)."""
        self._stopping = True
        if not self._executors:
            self._loop.stop()
            return
        self._scheduler.stop()
        self._dispatcher.stop_claiming()
        for executor in self._executors.values():
            executor.recall()
        self._emit(Stopping(self._dispatcher.running, self._plan.shutdown_timeout))
        self._janitor.report()
        self._deadline = self._loop.after(self._plan.shutdown_timeout, self._interrupt)
        if self._dispatcher.is_settled and not self._dispatcher.running:
            self._finish(stuck=0)

    def _interrupt(self) -> None:
        self._dispatcher.end_all(Ending.INTERRUPTED)
        longest = max((task.kill_after for task in self._plan.tasks.values()), default=0)
        self._deadline = self._loop.after(longest + LAST_GRACE, self._force)

    def _hurry(self) -> None:
        """A second signal: TERM now, KILL a second later."""
        if not self._executors:
            return
        self._emit(Hurrying(self._dispatcher.running))
        if self._deadline is not None:
            self._deadline.cancel()
        self._dispatcher.end_all(Ending.INTERRUPTED, grace=HURRY)
        self._deadline = self._loop.after(HURRY + HURRY // 2, self._force)

    def _force(self) -> None:
        """The end of patience: what is not written now is recovered at the next start."""
        self._forced = True
        self._service.patience = LAST_WORD
        self._loop.stop()

    def _quiet(self) -> None:
        """Nothing runs and everything is written: the moment to end, if the end is asked for."""
        if self._stopping:
            self._finish(stuck=0)
        elif self._until is not Until.SIGNAL and self._dispatcher.is_idle and self._scheduler.is_quiet:
            self._service.ask(self._work_left, self._maybe_finish, self._ask_later)

    def _ask_later(self, _error: Exception) -> None:
        """Whether work is left is asked again in the quiet after another turn."""
        self._loop.after(START_PAUSE, self._dispatcher.wake)

    def _work_left(self) -> tuple[bool, int]:
        """Whether a run is still to come, and how many wait that nobody here can claim."""
        soon = self._loop.now() + SPREAD  # catch-up runs are spread: they are due now, all the same
        scheduled = self._storage.runs(RunFilter(states=(State.SCHEDULED,), limit=1000))
        coming = any(run.due_at <= soon and run.tick is not None for run in scheduled)
        if self._until is Until.DRAINED:
            coming = coming or bool(self._storage.runs(RunFilter(states=(State.RETRYING,), limit=1)))
        stuck = self._storage.runs(RunFilter(states=(State.QUEUED,), limit=1000))
        return coming, len(stuck)

    def _maybe_finish(self, left: tuple[bool, int]) -> None:
        coming, stuck = left
        if not coming and self._dispatcher.is_idle and self._scheduler.is_quiet:
            self._finish(stuck)

    def _finish(self, stuck: int) -> None:
        self._stuck = stuck
        self._loop.stop()
