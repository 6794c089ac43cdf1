"""The storage of one process: nothing outlives it. For tests, trials and embedding.

`memory://` is a new one with every opening; `memory://NAME` is one and the same for all openings of that
name in the process, as long as one of them is open.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ...catalogue import Catalogue, Entry
from ...durations import Micros
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
from ..attempts import all_attempts
from ..published import Published, Shelf
from . import leaving, limits, reads, ticks, turn, waits
from .house import House, Watermark

if TYPE_CHECKING:
    from ...plan import Retention

_SCHEME = "memory://"

_houses: dict[str, tuple[House, int]] = {}  # name -> the house, and how many have it open
_houses_lock = threading.Lock()


class MemoryStorage:
    """A handle on a storage in memory; several may share one (`memory://NAME`)."""

    lease: Micros | None = None  # an owner lives as long as its handle is open

    def __init__(self, url: str = _SCHEME) -> None:
        self.url = url
        self._name = url[len(_SCHEME) :]
        self._house = _enter_house(self._name)
        self._pools = shared.Pools()
        self._shelf = Shelf()
        self._own_writes = self._seen = 0
        self._is_closed = False

    @contextmanager
    def _writing(self, *, wakes: bool = False) -> Iterator[House]:
        with self._house.changed:
            yield self._house
            self._house.writes += 1
            self._own_writes += 1
            self._house.changed.notify_all()
            if wakes:
                turn.ring(self._house)

    @contextmanager
    def _reading(self) -> Iterator[House]:
        with self._house.changed:
            yield self._house

    # --- writes of clients --------------------------------------------------------------------------

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        return self.add_if(runs, {}) or []

    def add_if(self, runs: Sequence[NewRun], marks: Mapping[str, str]) -> list[bool] | None:
        turn.demand_storable(runs)
        with self._writing(wakes=True) as house:
            if not self._shelf.has(house.catalogue, marks):
                return None
            now = max((run.created_at for run in runs), default=0)
            added = waits.add_all(house, runs, now)
            waits.resolve_all(house, now)
            return added

    def cancel(self, run_ids: Sequence[str], now: Micros, *, reason: str = "cancelled") -> list[bool]:
        with self._writing(wakes=True) as house:
            done = [waits.cancel(house, run_id, now, reason) for run_id in run_ids]
            waits.resolve_all(house, now)
            return done

    def pause(self, pause: Pause) -> None:
        with self._writing(wakes=True) as house:
            house.pauses[pause.target] = pause
            house.control_version += 1

    def resume(self, target: str) -> bool:
        with self._writing(wakes=True) as house:
            found = house.pauses.pop(target, None) is not None
            house.control_version += found
            return found

    def pauses(self, now: Micros) -> list[Pause]:
        with self._reading() as house:
            known = sorted(house.pauses.values(), key=lambda pause: pause.target)
            return [pause for pause in known if pause.until is None or pause.until > now]

    def revoke(self, revocation: Revocation) -> None:
        with self._writing(wakes=True) as house:
            house.revocations[revocation.target] = revocation

    def restore(self, target: str) -> bool:
        with self._writing(wakes=True) as house:
            return house.revocations.pop(target, None) is not None

    def revocations(self, now: Micros) -> list[Revocation]:
        with self._reading() as house:
            known = sorted(house.revocations.values(), key=lambda mark: mark.target)
            return [mark for mark in known if mark.until is None or mark.until > now]

    # --- schedules ----------------------------------------------------------------------------------

    def watermarks(self, keys: Mapping[str, Micros | None], now: Micros) -> dict[str, Micros]:
        with self._writing() as house:
            for key, next_at in keys.items():
                house.watermarks.setdefault(key, Watermark(now, None)).next_at = next_at
            return {key: house.watermarks[key].at for key in keys}

    def tick(self, ticks_: Sequence[Tick]) -> list[Verdict]:
        turn.demand_storable([tick.run for tick in ticks_ if tick.run is not None])
        with self._writing() as house:
            return ticks.tick_all(house, ticks_)

    # --- the supervisor -----------------------------------------------------------------------------

    def enter(self, owner: OwnerInfo, status: OwnerStatus) -> bool:
        with self._writing() as house:
            if house.owner not in (None, self):
                return False
            house.owner = self
            if house.bell is None:
                house.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            for each in list(house.supervisors.values()):
                house.supervisors[each.owner.id] = each._replace(alive=False)
            house.supervisors[owner.id] = Supervisor(
                owner=owner, status=status, heartbeat_at=owner.started_at, left_at=None, alive=True
            )
            return True

    def heartbeat(self, owner: str, status: OwnerStatus, now: Micros) -> None:
        with self._writing() as house:
            known = turn.demand_in_force(house, owner)
            house.supervisors[owner] = known._replace(status=status, heartbeat_at=now)

    def leave(self, owner: str, now: Micros) -> None:
        with self._writing() as house:
            known = house.supervisors.get(owner)
            if known is not None and known.alive:
                house.supervisors[owner] = known._replace(left_at=now, alive=False)
            self._give_up(house)

    def _give_up(self, house: House) -> None:
        """What the end of a process does for the other storages."""
        if house.owner is not self:
            return
        house.owner = None
        for each in list(house.supervisors.values()):
            house.supervisors[each.owner.id] = each._replace(alive=False)
        if house.bell is not None:
            os.close(house.bell)
            house.bell = None

    def publish(self, owner: str, catalogue: Catalogue, *, keep: Sequence[str], now: Micros) -> None:
        with self._writing() as house:
            turn.demand_in_force(house, owner)
            if house.catalogue != catalogue:
                house.catalogue = catalogue
                house.control_version += 1
            leaving.cancel_removed(house, catalogue.tasks, now)
            kept = set(keep)
            house.watermarks = {key: mark for key, mark in house.watermarks.items() if key in kept}

    def exchange(self, request: ExchangeRequest) -> Exchange:
        with self._writing() as house:
            turn.demand_in_force(house, request.owner)
            for mark in request.started:
                turn.mark_started(house, mark)
            refused = [settle for settle in request.settled if not turn.settle(house, settle)]
            more = turn.promote(house, request.now) | turn.expire(house, request.now)
            more |= turn.time_out(house, request.now)
            waits.resolve_all(house, request.now)
            claimed: list[Claim] = []
            choice = shared.Choice()
            if house.control_version == request.control_version:
                choice = turn.choose(house, request, self._pools.used(request.rules))
                claimed = turn.take(house, choice, request)
                more |= choice.more
            return Exchange(
                claimed=claimed,
                refused=refused,
                cancels=turn.cancels(house, request.owner),
                control_version=house.control_version,
                next_due=shared.earliest(turn.next_due(house, request.now), choice.reopens),
                more=more,
                now=request.now,
                limited=choice.limited,
            )

    def orphans(self, owner: str) -> list[tuple[Run, OwnerInfo]]:
        with self._reading() as house:
            runs = [house.rows[seq].run for seq in sorted(house.running)]
            return [(run, house.supervisors[run.owner or ""].owner) for run in runs if run.owner != owner]

    def settle(self, settles: Sequence[Settle]) -> list[bool]:
        with self._writing() as house:
            written = [turn.settle(house, settle) for settle in settles]
            waits.resolve_all(house, max((settle.ended_at for settle in settles), default=0))
            return written

    def claimed_by(self, owner: str) -> list[Claim]:
        with self._reading() as house:
            runs = [house.rows[seq].run for seq in sorted(house.running)]
            return [turn.claim_of(house, run) for run in runs if run.owner == owner]

    def acquire(self, owner: str, seq: int, claim_no: int, lock: str, slots: int) -> bool:
        with self._writing() as house:
            return limits.acquire(house, (owner, seq, claim_no), lock, slots)

    def release(self, owner: str, seq: int, claim_no: int, lock: str) -> bool:
        with self._writing() as house:
            return limits.release(house, (owner, seq, claim_no), lock)

    def prune(self, retention: Retention, now: Micros, *, limit: int = 1000) -> list[str]:
        with self._writing() as house:
            return leaving.prune(house, retention, now, limit)

    # --- reads of clients ---------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        with self._reading() as house:
            return reads.find(house, run_id)

    def runs(self, which: RunFilter) -> list[Run]:
        with self._reading() as house:
            return reads.runs(house, which)

    def attempts(self, run_id: str) -> list[Attempt]:
        with self._reading() as house:
            run = reads.find(house, run_id)
            return all_attempts(run, house.attempts.get(run.seq, ()))

    def edges(self, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
        with self._reading() as house:
            known = {run_id: house.rows[house.ids[run_id]] for run_id in run_ids if run_id in house.ids}
            return {run_id: row.edges for run_id, row in known.items() if row.edges}

    def wait(self, run_id: str, timeout: float | None) -> Run:
        with self._reading() as house:
            house.changed.wait_for(lambda: reads.find(house, run_id).state.is_final, timeout)
            return reads.find(house, run_id)

    def overview(self, now: Micros, *, tasks: Sequence[str] | None = None, recent: int = 20) -> Overview:
        with self._reading() as house:
            known = house.catalogue.tasks if house.catalogue else ()
            return reads.overview(house, now, known if tasks is None else tasks, recent)

    def catalogue(self) -> Catalogue | None:
        with self._reading() as house:
            return house.catalogue

    def entry(self, task: str) -> Entry | None:
        with self._reading() as house:
            return house.catalogue.tasks.get(task) if house.catalogue else None

    def published(self, task: str) -> Published:
        with self._reading() as house:
            return self._shelf.of(house.catalogue, task)

    def next_ticks(self) -> dict[str, Micros | None]:
        with self._reading() as house:
            return {key: mark.next_at for key, mark in house.watermarks.items()}

    def supervisors(self, now: Micros) -> list[Supervisor]:  # noqa: ARG002 - a lease would need it
        with self._reading() as house:
            newest = sorted(house.supervisors.values(), key=lambda each: -each.owner.started_at)
            return sorted(newest, key=lambda each: not each.alive)

    # --- wake-ups -----------------------------------------------------------------------------------

    def wake_fd(self) -> int | None:
        with self._reading() as house:
            return house.bell if house.owner is self else None

    def woken(self) -> None:
        fd = self.wake_fd()
        if fd is not None:
            with suppress(BlockingIOError):
                os.eventfd_read(fd)

    def changed(self) -> bool:
        with self._reading() as house:
            foreign = house.writes - self._own_writes
            changed, self._seen = foreign != self._seen, foreign
            return changed

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with self._house.changed:
            self._give_up(self._house)
        _leave_house(self._name)


def _enter_house(name: str) -> House:
    if not name:
        return House()
    with _houses_lock:
        house, handles = _houses.get(name) or (House(), 0)
        _houses[name] = house, handles + 1
        return house


def _leave_house(name: str) -> None:
    with _houses_lock:
        if name in _houses:
            house, handles = _houses.pop(name)
            if handles > 1:
                _houses[name] = house, handles - 1
