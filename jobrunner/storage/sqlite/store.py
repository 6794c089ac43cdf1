"""The SQLite storage: the contract's methods, each one transaction of the rooms beside this one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...catalogue import Catalogue, Entry
from ...clock import SystemClock
from ...durations import MILLISECOND, SECOND, Micros
from ...model import Attempt, Claim, Edge, NewRun, Run, Settle
from .. import (
    Exchange,
    ExchangeRequest,
    Overview,
    OwnerInfo,
    OwnerStatus,
    Pause,
    Revocation,
    RunFilter,
    Supervisor,
    Tick,
    Verdict,
)
from .. import lanes as shared
from ..beside import Bell, LockFile
from ..published import Published
from . import claims, control, faults, history, locks, owners, removed, retention, rows, settles, ticks
from . import overview as summary
from .adding import Adder
from .database import BUSY_TIMEOUT, PREFIX, Database, path_of
from .upkeep import Upkeep
from .waits import Changes, cancel, resolve_all

if TYPE_CHECKING:
    from ...plan import Retention

SHORTEST_LOOK, LONGEST_LOOK = 2 * MILLISECOND, 20 * MILLISECOND  # of `wait`, at the version of the database
CHECK_SECONDS = 2.0  # for the look for damage when a supervisor enters


class SqliteStorage:
    """A storage in one file, for the processes of one machine. May be used from several threads."""

    lease: Micros | None = None  # the lock file tells who lives

    def __init__(self, database: Database) -> None:
        self.url = PREFIX + database.path
        self._database = database
        self._lock_file = LockFile(database.path)
        self._bell = Bell(database.path)
        self._upkeep = Upkeep(database, self._lock_file)
        self._adder = Adder(database, self._upkeep, self._written)
        self._pools = shared.Pools()
        self._host = ""
        self._is_told = False  # somebody rang: no turn has looked since then
        self._seen_version = database.foreign_version()

    @classmethod
    def open(cls, url: str, *, create: bool = True, busy_timeout: float = BUSY_TIMEOUT) -> SqliteStorage:
        """Open (or make) the database that a URL names; `busy_timeout` in seconds.

        Raises StorageRefused for what is no database of ours, StorageUnavailable when it does not answer.
        """
        return cls(Database(path_of(url), create=create, busy_timeout=busy_timeout))

    # --- writes of clients --------------------------------------------------------------------------

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        if not runs:
            return []
        return self._adder.add(runs) or []

    def add_if(self, runs: Sequence[NewRun], marks: Mapping[str, str]) -> list[bool] | None:
        return self._adder.add(runs, marks)

    def cancel(self, run_ids: Sequence[str], now: Micros, *, reason: str = "cancelled") -> list[bool]:
        changes = Changes()
        with self._database.writing() as connection:
            done = [cancel(connection, run_id, now, reason, changes) for run_id in run_ids]
            resolve_all(connection, changes, now)
        self._written()
        return done

    def pause(self, pause: Pause) -> None:
        with self._database.writing() as connection:
            control.pause(connection, pause)
        self._written()

    def resume(self, target: str) -> bool:
        with self._database.writing() as connection:
            found = control.resume(connection, target)
        self._written()
        return found

    def pauses(self, now: Micros) -> list[Pause]:
        with self._database.reading() as connection:
            return control.pauses(connection, now)

    def revoke(self, revocation: Revocation) -> None:
        with self._database.writing() as connection:
            control.revoke(connection, revocation)
        self._written()

    def restore(self, target: str) -> bool:
        with self._database.writing() as connection:
            found = control.restore(connection, target)
        self._written()
        return found

    def revocations(self, now: Micros) -> list[Revocation]:
        with self._database.reading() as connection:
            return control.revocations(connection, now)

    def _written(self) -> None:
        """Tell the supervisor, and mind the log when there is none."""
        self._bell.ring()
        if not self._lock_file.is_owner:
            self._upkeep.as_client()

    # --- schedules ----------------------------------------------------------------------------------

    def watermarks(self, keys: Mapping[str, Micros | None], now: Micros) -> dict[str, Micros]:
        with self._database.writing() as connection:
            return ticks.watermarks(connection, keys, now)

    def tick(self, ticks_: Sequence[Tick]) -> list[Verdict]:
        with self._database.writing() as connection:
            return ticks.tick_all(connection, ticks_)

    # --- the supervisor -----------------------------------------------------------------------------

    def enter(self, owner: OwnerInfo, status: OwnerStatus) -> bool:
        try:
            if not self._lock_file.take():
                return False
            self._move_in(owner, status)
        except OSError as error:
            self._give_up()
            raise faults.beside(self._database.path, error) from error
        except BaseException:
            self._give_up()
            raise
        self._host = owner.host
        return True

    def _move_in(self, owner: OwnerInfo, status: OwnerStatus) -> None:
        self._database.check(CHECK_SECONDS)
        self._database.own()
        self._bell.listen()
        with self._database.writing() as connection:
            owners.enter(connection, owner, status)

    def heartbeat(self, owner: str, status: OwnerStatus, now: Micros) -> None:
        with self._database.writing() as connection:
            owners.heartbeat(connection, owner, status, now)
        self._upkeep.as_owner()

    def leave(self, owner: str, now: Micros) -> None:
        with self._database.writing() as connection:
            owners.leave(connection, owner, now)
        self._database.disown()
        self._give_up()

    def _give_up(self) -> None:
        self._bell.close()  # before the lock: the next owner binds the same name
        self._lock_file.release()

    def publish(self, owner: str, catalogue: Catalogue, *, keep: Sequence[str], now: Micros) -> None:
        with self._database.writing() as connection:
            owners.demand_in_force(connection, owner)
            control.publish(connection, catalogue)
            ticks.forget_all_but(connection, keep)
            removed.cancel_removed(connection, catalogue.tasks, now)

    def exchange(self, request: ExchangeRequest) -> Exchange:
        is_told, self._is_told = self._is_told, False
        if not (is_told or request.settled or request.started):
            with self._database.reading() as connection:
                idle = self._idle(connection, request)
            if idle is not None:
                return idle
        with self._database.writing() as connection:
            return self._exchange(connection, request)

    def _idle(self, connection: sqlite3.Connection, request: ExchangeRequest) -> Exchange | None:
        """The answer to a turn that writes nothing; None when there is something to write."""
        owners.demand_in_force(connection, request.owner)
        if claims.has_due(connection, request.now):
            return None
        version = control.version(connection)
        if version != request.control_version:
            return self._answer(connection, request, version)
        choice = claims.choose(connection, request, self._used(request), shared.GLANCE)
        return None if choice else self._answer(connection, request, version, choice)

    def _exchange(self, connection: sqlite3.Connection, request: ExchangeRequest) -> Exchange:
        now, changes = request.now, Changes()
        changes.is_awaited = owners.demand_in_force(connection, request.owner)
        settles.mark_started(connection, request.started)
        held = settles.settle_all(connection, request.settled, changes)
        more = claims.promote(connection, now) | claims.expire(connection, now, changes)
        more |= claims.time_out(connection, now, changes)
        resolve_all(connection, changes, now)
        answer = self._claim(connection, request, more=more)
        refused = [settle for settle, holds in zip(request.settled, held, strict=True) if not holds]
        return answer._replace(refused=refused)

    def _claim(self, connection: sqlite3.Connection, request: ExchangeRequest, *, more: bool) -> Exchange:
        version = control.version(connection)
        if version != request.control_version:
            return self._answer(connection, request, version)._replace(more=more)
        choice = claims.choose(connection, request, self._used(request))
        claimed = claims.take(connection, choice, request, self._host)
        answer = self._answer(connection, request, version, choice)
        return answer._replace(claimed=claimed, more=more or choice.more)

    def _answer(
        self,
        connection: sqlite3.Connection,
        request: ExchangeRequest,
        version: int,
        choice: shared.Choice | None = None,
    ) -> Exchange:
        choice = shared.Choice() if choice is None else choice
        return Exchange(
            claimed=[],
            refused=[],
            cancels=claims.cancels(connection, request.owner),
            control_version=version,
            next_due=shared.earliest(claims.next_due(connection, request.now), choice.reopens),
            more=False,
            now=request.now,
            limited=choice.limited,
        )

    def _used(self, request: ExchangeRequest) -> frozenset[str]:
        return self._pools.used(request.rules)

    def orphans(self, owner: str) -> list[tuple[Run, OwnerInfo]]:
        with self._database.reading() as connection:
            return owners.orphans(connection, owner)

    def settle(self, settled: Sequence[Settle]) -> list[bool]:
        changes = Changes()
        with self._database.writing() as connection:
            written = settles.settle_all(connection, settled, changes)
            resolve_all(connection, changes, max((settle.ended_at for settle in settled), default=0))
            return written

    def claimed_by(self, owner: str) -> list[Claim]:
        with self._database.reading() as connection:
            return claims.claimed_by(connection, owner)

    def acquire(self, owner: str, seq: int, claim_no: int, lock: str, slots: int) -> bool:
        with self._database.writing() as connection:
            return locks.acquire(connection, (owner, seq, claim_no), lock, slots)

    def release(self, owner: str, seq: int, claim_no: int, lock: str) -> bool:
        with self._database.writing() as connection:
            return locks.release(connection, (owner, seq, claim_no), lock)

    def prune(self, retention_: Retention, now: Micros, *, limit: int = 1000) -> list[str]:
        with self._database.writing() as connection:
            gone = retention.remove_runs(connection, retention_, now, limit)
            retention.remove_results(connection, now - retention_.results, limit)
        return [run_id for _, run_id in gone]

    # --- reads of clients ---------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        with self._database.reading() as connection:
            return history.find(connection, run_id)

    def runs(self, which: RunFilter) -> list[Run]:
        with self._database.reading() as connection:
            return history.runs(connection, which)

    def attempts(self, run_id: str) -> list[Attempt]:
        with self._database.reading() as connection:
            return rows.attempts_of(connection, history.find(connection, run_id))

    def edges(self, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
        with self._database.reading() as connection:
            return rows.edges_of(connection, run_ids)

    def wait(self, run_id: str, timeout: float | None) -> Run:
        clock, pause = SystemClock(), threading.Event()
        end = None if timeout is None else clock.monotonic() + round(timeout * SECOND)
        look = SHORTEST_LOOK
        while True:
            version = self._database.version()  # before the run is read: no change falls between the two
            run = self.run(run_id)
            if run.state.is_final:
                return run
            while self._database.version() == version:
                left = LONGEST_LOOK if end is None else end - clock.monotonic()
                if left <= 0:
                    return run
                pause.wait(min(look, left) / SECOND)
                look = min(LONGEST_LOOK, look * 5 // 4 + 1)

    def overview(self, now: Micros, *, tasks: Sequence[str] | None = None, recent: int = 20) -> Overview:
        with self._database.reading() as connection:
            chosen = control.task_names(connection) if tasks is None else tasks
            return summary.overview(connection, now, chosen, recent, self._database.size())

    def catalogue(self) -> Catalogue | None:
        with self._database.reading() as connection:
            return control.catalogue(connection)

    def entry(self, task: str) -> Entry | None:
        return self.published(task).entry

    def published(self, task: str) -> Published:
        with self._database.reading() as connection:
            return control.published(connection, task)

    def next_ticks(self) -> dict[str, Micros | None]:
        with self._database.reading() as connection:
            return ticks.next_ticks(connection)

    def supervisors(self, now: Micros) -> list[Supervisor]:  # noqa: ARG002 - a lease would need it
        is_held = self._lock_file.is_held()
        with self._database.reading() as connection:
            return owners.supervisors(connection, is_held=is_held)

    # --- wake-ups -----------------------------------------------------------------------------------

    def wake_fd(self) -> int | None:
        return self._bell.fd()

    def woken(self) -> None:
        self._bell.hush()
        self._is_told = True

    def changed(self) -> bool:
        version = self._database.foreign_version()
        changed, self._seen_version = version != self._seen_version, version
        return changed

    def close(self) -> None:
        self._database.close()
        self._give_up()
