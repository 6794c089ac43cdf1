"""The PostgreSQL storage: the contract's methods, each one transaction of the rooms beside this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from ...catalogue import Catalogue, Entry
from ...clock import SystemClock
from ...durations import MILLISECOND, SECOND, Micros
from ...errors import StorageError, UsageError
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
from ..published import Published
from . import (
    address,
    claims,
    control,
    faults,
    history,
    locks,
    owners,
    plain,
    retention,
    rows,
    settles,
    ticks,
    waits,
)
from . import overview as summary
from .database import Database, Turn
from .listening import Ear
from .opening import prepare

if TYPE_CHECKING:
    from ...plan import Retention

SHORTEST_LOOK, LONGEST_LOOK = 5 * MILLISECOND, 200 * MILLISECOND  # of `wait`, at the run's state
LOOKS_IN_VAIN = 5  # of `changed`, where nobody notifies: then something may have been missed

Settling = Callable[[Any, Sequence[Settle], Micros], settles.Settled]


class PostgresStorage:
    """A storage in one schema of a PostgreSQL database. May be used from several threads."""

    lease: Micros | None = owners.LEASE

    def __init__(self, database: Database) -> None:
        self.url = database.address.url
        self._database = database
        self._ear: Ear | None = None
        self._pools = shared.Pools()
        self._process = os.getpid()
        self._is_told = False  # somebody said that there is something to do: no turn has looked since then
        self._looks = 0  # at the count of changes
        self._seen_changes = database.changes()

    @classmethod
    def open(cls, url: str, *, create: bool = True, server_time: bool = True) -> PostgresStorage:
        """Open (or make) the schema that a URL names.

        `server_time=False`: the moments that calls are given count, not the server's clock (tests use it).
        Raises UsageError for a URL that is none, StorageRefused for a database that cannot be used,
        StorageUnavailable when it does not answer.
        """
        database = Database(address.read(url), server_time=server_time)
        try:
            prepare(database, create=create)
            return cls(database)
        except BaseException:
            database.close()
            raise

    # --- writes of clients --------------------------------------------------------------------------

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        return self.add_if(runs, {}) or []

    def add_if(self, runs: Sequence[NewRun], marks: Mapping[str, str]) -> list[bool] | None:
        if not runs:
            return []
        given = max(run.created_at for run in runs)
        try:
            if plain.is_plain(runs):
                return plain.add(self._database, runs, marks, given)
            with self._database.writing(given, alone=not waits.is_simple(runs), tells=True) as turn:
                return self._add(turn, runs) if control.are_current(turn, marks) else None
        except Exception as error:
            if not faults.is_poison(error):
                raise
            raise faults.not_storable(error, runs) from error

    def _add(self, turn: Turn, runs: Sequence[NewRun]) -> list[bool]:
        return waits.answers(runs, waits.add_all(turn.connection, runs, turn.now).seqs)

    def add_on(self, connection: psycopg.Connection[Any], runs: Sequence[NewRun]) -> list[bool]:
        """Add runs within a transaction of the caller's: they come to be if it is committed, and then only.

        The connection is one of psycopg 3 to the same database. Runs that take a key over, or wait for runs
        that are there already, hold the supervisors up until the transaction ends.
        """
        if not runs:
            return []
        _demand_connection(connection)
        connection.execute("select 1")  # begins the transaction, unless each statement is one of its own
        try:
            with connection.transaction(), self._database.within(connection) as turn:
                if not waits.is_simple(runs):
                    self._database.be_alone(connection)
                return self._add(turn, runs)
        except Exception as error:
            if not faults.is_poison(error):
                raise
            raise faults.not_storable(error, runs) from error

    def holder_on(self, connection: psycopg.Connection[Any], unique: str) -> str | None:
        """The id of the run that holds a unique key, as the caller's transaction sees it."""
        _demand_connection(connection)
        with connection.transaction(), self._database.within(connection) as turn:
            return history.holder(turn.connection, unique)

    def cancel(self, run_ids: Sequence[str], now: Micros, *, reason: str = "cancelled") -> list[bool]:
        with self._database.writing(now, tells=True) as turn:
            return waits.cancel_each(turn.connection, run_ids, turn.now, reason)

    def pause(self, pause: Pause) -> None:
        with self._database.writing(tells=True) as turn:
            control.pause(turn.connection, pause)

    def resume(self, target: str) -> bool:
        with self._database.writing(tells=True) as turn:
            return control.resume(turn.connection, target)

    def pauses(self, now: Micros) -> list[Pause]:
        with self._database.reading(now) as turn:
            return control.pauses(turn)

    def revoke(self, revocation: Revocation) -> None:
        with self._database.writing(tells=True) as turn:
            control.revoke(turn.connection, revocation)

    def restore(self, target: str) -> bool:
        with self._database.writing(tells=True) as turn:
            return control.restore(turn.connection, target)

    def revocations(self, now: Micros) -> list[Revocation]:
        with self._database.reading(now) as turn:
            return control.revocations(turn)

    # --- schedules ----------------------------------------------------------------------------------

    def watermarks(self, keys: Mapping[str, Micros | None], now: Micros) -> dict[str, Micros]:
        with self._database.writing() as turn:
            return ticks.watermarks(turn, keys, now)

    def tick(self, ticks_: Sequence[Tick]) -> list[Verdict]:
        runs = [tick.run for tick in ticks_ if tick.run is not None]
        given = max((run.created_at for run in runs), default=None)
        self._is_told |= bool(runs)
        try:
            with self._database.writing(given, tells=bool(runs)) as turn:
                return ticks.tick_all(turn, ticks_)
        except Exception as error:
            if not faults.is_poison(error):
                raise
            raise faults.not_storable(error, runs) from error

    # --- the supervisor -----------------------------------------------------------------------------

    def enter(self, owner: OwnerInfo, status: OwnerStatus) -> bool:
        if self._database.address.notify and self._ear is None:
            self._ear = Ear(self._database)
            self._ear.listen()
        with self._database.writing(owner.started_at) as turn:
            return owners.enter(turn, owner, status)

    def heartbeat(self, owner: str, status: OwnerStatus, now: Micros) -> None:
        with self._database.writing(now, alone=False) as turn:
            owners.heartbeat(turn, owner, status, now)

    def leave(self, owner: str, now: Micros) -> None:
        with self._database.writing(now, tells=True) as turn:
            owners.leave(turn, owner, now)
        self._end_listening()

    def _end_listening(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None

    def publish(self, owner: str, catalogue: Catalogue, *, keep: Sequence[str], now: Micros) -> None:
        with self._database.writing(now, tells=True) as turn:
            owners.demand_in_force(turn.connection, owner)
            control.publish(turn, owner, catalogue, keep)

    def exchange(self, request: ExchangeRequest) -> Exchange:
        is_told, self._is_told = self._is_told, False
        if not (is_told or request.settled or request.started):
            with self._database.reading(request.now) as turn:
                idle = self._idle(turn, request)
            if idle is not None:
                return idle
        try:
            return self._exchange(request, settles.settle_all)
        except StorageError:
            raise
        except Exception as error:
            if not faults.is_poison(error):
                raise
        return self._exchange(request, settles.settle_each)

    def _idle(self, turn: Turn, request: ExchangeRequest) -> Exchange | None:
        """The answer to a turn that writes nothing; None when there is something to write."""
        seen = claims.survey(turn, request.owner)
        if seen.is_time:
            return None
        if seen.version != request.control_version:
            return self._answer(turn, request, seen.version)
        choice = claims.choose(turn, request, seen, self._pools.used(request.rules), shared.GLANCE)
        return None if choice else self._answer(turn, request, seen.version, choice=choice)

    def _exchange(self, request: ExchangeRequest, settle: Settling) -> Exchange:
        with self._database.writing(request.now) as turn:
            settles.mark_started(turn.connection, request.started)
            done = settle(turn.connection, request.settled, turn.now)
            seen, passed = self._move_on(turn, done, request.owner)
            choice = shared.Choice()
            claimed: list[Claim] = []
            if seen.version == request.control_version:
                choice = claims.choose(turn, request, seen, self._pools.used(request.rules))
                claimed = claims.take(turn, choice, request, seen.host)
            turn.tells = done.frees or passed.frees or bool(choice.strangers)
            refused = [each for each, held in zip(request.settled, done.held, strict=True) if not held]
            return self._answer(
                turn, request, seen.version, claimed, refused, choice=choice, more=passed.more
            )

    def _move_on(self, turn: Turn, done: settles.Settled, owner: str) -> tuple[claims.Survey, claims.Passed]:
        """What time and the ends of others bring about; and how things are then."""
        seen, passed = claims.survey(turn, owner), claims.Passed()
        if seen.is_time:
            passed = claims.pass_time(turn)
        ended, born = [*done.ended, *passed.ended], [*done.born, *passed.born]
        frees = waits.resolve_all(turn.connection, ended, born, turn.now)
        if frees or seen.is_time:
            seen, passed = claims.survey(turn, owner), passed._replace(frees=passed.frees or frees)
        return seen, passed

    def _answer(
        self,
        turn: Turn,
        request: ExchangeRequest,
        version: int,
        claimed: list[Claim] | None = None,
        refused: list[Settle] | None = None,
        *,
        choice: shared.Choice | None = None,
        more: bool = False,
    ) -> Exchange:
        cancels, due = claims.ahead(turn, request.owner)
        return Exchange(
            claimed=claimed or [],
            refused=refused or [],
            cancels=cancels,
            control_version=version,
            next_due=due if choice is None else shared.earliest(due, choice.reopens),
            more=more or (choice is not None and choice.more),
            now=turn.now,
            limited=() if choice is None else choice.limited,
        )

    def orphans(self, owner: str) -> list[tuple[Run, OwnerInfo]]:
        with self._database.reading() as turn:
            if not owners.dead(turn, owner):
                return owners.orphans(turn.connection, owner)
        with self._database.writing() as turn:
            owners.void(turn.connection, owners.dead(turn, owner))
            return owners.orphans(turn.connection, owner)

    def settle(self, settled: Sequence[Settle]) -> list[bool]:
        given = max((each.ended_at for each in settled), default=None)
        with self._database.writing(given, tells=True) as turn:
            done = settles.settle_each(turn.connection, settled, turn.now)
            waits.resolve_all(turn.connection, done.ended, done.born, turn.now)
            return done.held

    def claimed_by(self, owner: str) -> list[Claim]:
        with self._database.reading() as turn:
            return claims.claimed_by(turn.connection, owner)

    def acquire(self, owner: str, seq: int, claim_no: int, lock: str, slots: int) -> bool:
        with self._database.writing() as turn:
            return locks.acquire(turn.connection, (owner, seq, claim_no), lock, slots)

    def release(self, owner: str, seq: int, claim_no: int, lock: str) -> bool:
        with self._database.writing(tells=True) as turn:
            return locks.release(turn.connection, (owner, seq, claim_no), lock)

    def prune(self, retention_: Retention, now: Micros, *, limit: int = 1000) -> list[str]:
        with self._database.writing() as turn:
            gone = retention.remove_runs(turn.connection, retention_, now, limit)
            retention.remove_results(turn.connection, now - retention_.results, limit)
        return gone

    # --- reads of clients ---------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        with self._database.reading() as turn:
            return history.find(turn.connection, run_id)

    def runs(self, which: RunFilter) -> list[Run]:
        with self._database.reading() as turn:
            return history.runs(turn.connection, which)

    def attempts(self, run_id: str) -> list[Attempt]:
        with self._database.reading() as turn:
            return rows.attempts_of(turn.connection, history.find(turn.connection, run_id))

    def edges(self, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
        with self._database.reading() as turn:
            return waits.edges_of(turn.connection, run_ids)

    def wait(self, run_id: str, timeout: float | None) -> Run:
        clock, pause = SystemClock(), threading.Event()
        begun = clock.monotonic()
        end = None if timeout is None else begun + round(timeout * SECOND)
        while True:
            run = self.run(run_id)
            now = clock.monotonic()
            left = LONGEST_LOOK if end is None else end - now
            if run.state.is_final or left <= 0:
                return run
            look = min(LONGEST_LOOK, max(SHORTEST_LOOK, (now - begun) // 8))
            pause.wait(min(look, left) / SECOND)

    def overview(self, now: Micros, *, tasks: Sequence[str] | None = None, recent: int = 20) -> Overview:
        with self._database.reading(now) as turn:
            chosen = control.task_names(turn) if tasks is None else tasks
            return summary.overview(turn, now, chosen, recent)

    def catalogue(self) -> Catalogue | None:
        with self._database.reading() as turn:
            return control.catalogue(turn)

    def entry(self, task: str) -> Entry | None:
        return self.published(task).entry

    def published(self, task: str) -> Published:
        with self._database.reading() as turn:
            return control.published(turn, task)

    def next_ticks(self) -> dict[str, Micros | None]:
        with self._database.reading() as turn:
            return ticks.next_ticks(turn)

    def supervisors(self, now: Micros) -> list[Supervisor]:
        with self._database.reading(now) as turn:
            return owners.supervisors(turn)

    # --- wake-ups -----------------------------------------------------------------------------------

    def wake_fd(self) -> int | None:
        return None if self._ear is None else self._ear.fd()

    def woken(self) -> None:
        if self._ear is not None:
            self._is_told |= self._ear.hush()

    def changed(self) -> bool:
        has_listened_anew = self._ear is not None and self._ear.listen()
        changes = self._database.changes()
        changed, self._seen_changes = changes != self._seen_changes, changes
        return changed or has_listened_anew or self._is_long_since()

    def _is_long_since(self) -> bool:
        """Whether it is time to look, told or not, where nobody notifies.

        The count of an enqueue on a caller's connection moves before that transaction is committed.
        """
        self._looks += 1
        return not self._database.address.notify and self._looks % LOOKS_IN_VAIN == 0

    def close(self) -> None:
        if self._process == os.getpid():
            self._end_listening()
        self._database.close()


def _demand_connection(connection: object) -> None:
    if not isinstance(connection, psycopg.Connection):
        raise UsageError(
            f"got a {type(connection).__name__}, expected a connection of psycopg 3",
            help="pass the psycopg.Connection whose transaction the enqueue belongs to",
        )
