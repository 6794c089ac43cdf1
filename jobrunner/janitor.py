"""The janitor's turns: recovery of dead supervisors' runs, heartbeat, the net under wake-ups, retention."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from . import composition, lifecycle
from .catalogue import Entry
from .clock import Clock
from .durations import SECOND, Micros
from .errors import OwnerLost
from .events import Emit, HousekeepingFailed, Recovered
from .loop import EventLoop
from .model import Cause, Claim, Ended, Ending, NewRun, Reason, Run, Settle, State
from .plan import Retention
from .retention import SHARES
from .service import Service
from .storage import OwnerInfo, OwnerStatus, Storage

BEAT: Micros = 2 * SECOND  # the net under the wake-ups, and how soon a clock step is seen
HEARTBEAT_BEATS = 5
PRUNE_BEATS = 300  # ten minutes
SWEEP_BEATS = 30  # one share of the output folder each minute: all of it every few hours
PRUNE_BATCH = 1_000  # runs removed in one write: claims go on between two of them

Before = Callable[[list[tuple[Run, Settle]]], None]  # runs, and their ends
After = Callable[[list[tuple[str, Settle]]], None]  # tasks, and the ends of their runs
Wake = Callable[[], None]


class Orphan(NamedTuple):
    """A running run of a dead supervisor."""

    run: Run
    owner: OwnerInfo


def resolve(
    orphans: Collection[Orphan],
    alive: Collection[str],
    begun: Collection[str],
    entries: Mapping[str, Entry],
    now: Micros,
) -> list[Settle]:
    """The rows of orphans. `alive` are run ids whose processes could not be ended: they are left for later.

    `begun` are run ids whose process was journalled: they had started, reported or not.
    """
    return [
        _resolve(orphan, orphan.run.id in begun, entries, now)
        for orphan in orphans
        if orphan.run.id not in alive
    ]


def _resolve(orphan: Orphan, begun: bool, entries: Mapping[str, Entry], now: Micros) -> Settle:
    run = orphan.run
    started = run.started_at if run.started_at is not None or not begun else run.due_at
    if run.cancel_requested:
        return _cancelled(orphan, started, now)
    policy = lifecycle.policy_of(run.policy)
    ended = Ended(Ending.INTERRUPTED, started_at=started, ended_at=now, pid=run.pid)

    def follow(state: State, why: str) -> tuple[NewRun, ...]:
        cause = Cause(task=run.task, run_id=run.id, state=state.value, reason=why)
        return composition.called(entries, policy.on_failure, cause, run.created_at, now)

    return lifecycle.settle_orphan(claim_of(run), orphan.owner.id, policy, ended, callbacks=follow)


def _cancelled(orphan: Orphan, started: Micros | None, now: Micros) -> Settle:
    """A person had asked for its end: the end of its supervisor was that end."""
    run = orphan.run
    row = lifecycle.refuse(claim_of(run), orphan.owner.id, State.CANCELLED, Reason.CANCELLED, now)
    if started is None:
        return row
    outcome = Ending.CANCELLED.value
    return row._replace(outcome=outcome, attempt=run.attempt, started_at=started, pid=run.pid)


def claim_of(run: Run) -> Claim:
    """The claim under which a row is running."""
    return Claim(
        seq=run.seq,
        id=run.id,
        task=run.task,
        claim_no=run.claim_no,
        attempt=run.attempt,
        failures=run.failures,
        crashes=run.crashes,
        payload=run.payload,
        priority=run.priority,
        due_at=run.due_at,
        created_at=run.created_at,
        trigger=run.trigger.value,
        pool=run.pool,
        tick=run.tick,
        missed=run.missed,
        policy=run.policy,
        options=run.options,
        cause=run.cause,
    )


def recover(
    storage: Storage,
    owner: str,
    entries: Mapping[str, Entry],
    now: Micros,
    *,
    end_leftovers: Callable[[set[str]], tuple[int, set[str], set[str]]],
    before: Before = lambda _ends: None,
    after: After = lambda _ends: None,
) -> Recovered | None:
    """Resolve every run of dead supervisors; their processes are gone before their runs go on (semantics 32).

    `end_leftovers(dead owner ids)` gives how many processes it ended, the run ids that it could not end,
    and the run ids that were journalled as started. `before` sees each run with its end, before that is
    written, `after` sees the task and the end of those that were.
    """
    orphans = [Orphan(run, info) for run, info in storage.orphans(owner)]
    ended, alive, begun = end_leftovers({orphan.owner.id for orphan in orphans})
    settles = resolve(orphans, alive, begun, entries, now)
    if not orphans and not ended:
        return None
    runs = {orphan.run.id: orphan.run for orphan in orphans}
    before([(runs[settle.id], settle) for settle in settles])
    written = storage.settle(settles)
    after([(runs[each.id].task, each) for each, holds in zip(settles, written, strict=True) if holds])
    failed = sum(settle.state is State.FAILED for settle in settles)
    requeued = sum(settle.state is State.QUEUED for settle in settles)
    return Recovered(requeued, failed, ended, len(orphans) - len(settles))


class ClockWatch:
    """Tells a step of the wall clock and a suspend from the passing of time (semantics 5)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asleep = self._sleep_so_far()
        self._offset = self._offset_now()

    def look(self) -> Reason | None:
        """What happened since the last look: suspended, stepped, or (None) nothing above a second."""
        asleep, offset = self._sleep_so_far(), self._offset_now()
        slept, stepped = asleep - self._asleep, offset - self._offset
        self._asleep, self._offset = asleep, offset
        if slept > SECOND:
            return Reason.MISSED_SUSPENDED
        return Reason.MISSED_CLOCK if abs(stepped) > SECOND else None

    def _sleep_so_far(self) -> Micros:
        return self._clock.boottime() - self._clock.monotonic()

    def _offset_now(self) -> Micros:
        return self._clock.now() - self._clock.boottime()


class Janitor:
    """Everything that is done now and then."""

    def __init__(
        self,
        *,
        owner: str,
        loop: EventLoop,
        storage: Storage,
        service: Service,
        emit: Emit,
        retention: Callable[[], Retention],
        status: Callable[[], OwnerStatus],
        remove_output: Callable[[list[str]], None],
        sweep_output: Callable[[int, Micros], object],
        on_change: Callable[[], None],
        on_jump: Callable[[Reason], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._storage = storage
        self._service = service
        self._emit = emit
        self._retention = retention
        self._status = status
        self._remove_output = remove_output
        self._sweep_output = sweep_output
        self._on_change = on_change
        self._on_jump = on_jump
        self._on_lost = on_lost
        self._watch = ClockWatch(loop.clock)
        self._beats = 0
        self._is_looking = False  # the last look has not come to its turn yet

    def start(self) -> None:
        """Begin the beat."""
        self._loop.after(BEAT, self._beat)

    def _beat(self) -> None:
        self._beats += 1
        self.look_at_clock()
        if not self._is_looking:  # while a storage hangs, what is asked of it must not pile up
            self._ask_storage()
        self._loop.after(BEAT, self._beat)

    def look_at_clock(self) -> None:
        """Tell those who go by the wall clock when it moved otherwise than by passing."""
        jumped = self._watch.look()
        if jumped is not None:
            self._on_jump(jumped)

    def _ask_storage(self) -> None:
        self._is_looking = True
        self._service.watch(self._look, self._on_change, self._look_failed)
        if self._beats % HEARTBEAT_BEATS == 0 and self._storage.lease is None:  # a lease has its keeper
            self.report()
        if self._beats % PRUNE_BEATS == PRUNE_BEATS // 10:
            self.prune()
        if self._beats % SWEEP_BEATS == 0:
            self.sweep()

    def _look(self) -> bool:
        self._is_looking = False
        return self._storage.changed()

    def _look_failed(self, error: Exception) -> None:
        """The dispatcher finds out by itself whether the storage answers, and says so."""
        if isinstance(error, OwnerLost):
            self._on_lost()
        else:
            self._on_change()

    def report(self) -> None:
        """Send a heartbeat now."""
        status, now = self._status(), self._loop.now()
        self._service.ask(
            lambda: self._storage.heartbeat(self._owner, status, now), lambda _: None, self._trouble
        )

    def prune(self) -> None:
        """Remove what is past the retention, batch after batch, each a write of its own."""
        retention, now = self._retention(), self._loop.now()
        self._service.ask(
            lambda: self._prune_batch(retention, now),
            lambda removed: self.prune() if removed >= PRUNE_BATCH else None,
            self._trouble,
        )

    def sweep(self) -> None:
        """Remove captured output past its time from the next share of its folder."""
        share, now = self._beats // SWEEP_BEATS % SHARES, self._loop.now()
        self._service.ask(lambda: self._sweep_output(share, now), lambda _: None, self._trouble)

    def _prune_batch(self, retention: Retention, now: Micros) -> int:
        removed = self._storage.prune(retention, now, limit=PRUNE_BATCH)
        self._remove_output(removed)
        return len(removed)

    def _trouble(self, error: Exception) -> None:
        """It is done again when its time comes, whatever it was; nothing here may fail in silence."""
        if isinstance(error, OwnerLost):
            self._on_lost()
        else:
            self._emit(HousekeepingFailed(str(error)))


__all__ = ["ClockWatch", "Janitor", "Orphan", "Wake", "claim_of", "recover", "resolve"]
