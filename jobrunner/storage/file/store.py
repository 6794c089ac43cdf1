"""The storage in a folder: the memory storage, whose every write is a record, synced before it counts.

Each process has the whole of it in memory, and takes in what others wrote before it looks or writes. So it is
meant for small queues: everything is read when a process opens it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...clock import SystemClock
from ...durations import MILLISECOND, SECOND, Micros
from ...errors import StorageMissing, StorageUnavailable, UsageError
from ...model import Run
from .. import Overview, OwnerInfo, OwnerStatus, Supervisor
from .. import lanes as shared
from ..beside import Bell, LockFile
from ..memory.house import House
from ..memory.store import MemoryStorage
from ..published import Shelf
from . import journal
from .journal import Damaged, Journal
from .records import Scribe, take_in

PREFIX = "file:///"
PATIENCE: Micros = 5 * SECOND  # for the lock, while others write
SHORTEST_LOOK, LONGEST_LOOK = MILLISECOND, 20 * MILLISECOND
KEPT = 20  # supervisors remembered


def folder_of(url: str) -> str:
    """The folder that a URL names: `file:///relative` (to the current folder) or `file:////absolute`."""
    if not url.startswith(PREFIX) or len(url) == len(PREFIX):
        raise UsageError(
            f"{url!r} names no folder", help="write file:///relative/folder or file:////absolute/folder"
        )
    return os.path.abspath(url[len(PREFIX) :])


class FileStorage(MemoryStorage):
    """A storage in a folder, for the processes of one machine. May be used from several threads."""

    lease: Micros | None = None  # the lock file tells who lives

    def __init__(self, folder: str) -> None:
        self.url = PREFIX + folder
        self._journal = Journal(folder)
        self._writers = LockFile(os.path.join(folder, "write"))
        self._owner_lock = LockFile(os.path.join(folder, "owner"))
        self._bell = Bell(os.path.join(folder, "state"))
        self._pools = shared.Pools()
        self._shelf = Shelf()
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._is_closed = self._is_owner = False
        self._foreign = self._seen = self._own_writes = 0
        self._forget()
        with self._reading():
            self._seen = self._foreign

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> FileStorage:
        """Open (or make) the storage that a URL names.

        Raises StorageMissing, StorageRefused for what is no storage of ours, and StorageUnavailable.
        """
        folder = folder_of(url)
        if not journal.exists(folder):
            if not create:
                raise StorageMissing(
                    f"there is no storage in {folder}",
                    help="start the supervisor once (jobrunner run FILE), or look at the path",
                )
            journal.make(folder, Scribe(House()).snapshot())
        return cls(folder)

    def _forget(self) -> None:
        """What this process remembers is not to be believed: read all of it again."""
        self._house = House()
        self._scribe = Scribe(self._house)
        self._journal.close()

    # --- one write, one read --------------------------------------------------------------------------

    @contextmanager
    def _writing(self, *, wakes: bool = False) -> Iterator[House]:
        with self._lock:
            self._demand_open()
            with self._alone():
                self._catch_up()
                try:
                    yield self._house
                    self._write()
                except BaseException:
                    self._forget()
                    raise
            if wakes:
                self._bell.ring()

    @contextmanager
    def _reading(self) -> Iterator[House]:
        with self._lock:
            self._demand_open()
            self._catch_up()
            yield self._house

    def _write(self) -> None:
        record = self._scribe.changes()
        if record is None:
            return
        self._journal.append(record)
        self._scribe.note()
        if self._journal.has_grown:
            with suppress(StorageUnavailable):  # the record is safe: a snapshot can wait
                self._journal.begin_anew(self._scribe.snapshot())

    def _catch_up(self) -> None:
        """Take in what others wrote; what does not fit (a write was taken back) is read anew, once."""
        try:
            self._take_in_news()
        except Damaged:
            self._take_in_news()

    def _take_in_news(self) -> None:
        try:
            for is_snapshot, record in self._journal.news():
                if is_snapshot:
                    self._house = House()
                    self._scribe = Scribe(self._house)
                take_in(self._house, record)
                self._foreign += 1
                self._scribe.note()
        except BaseException:
            self._forget()
            raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the writers. Raises StorageUnavailable when others have it for too long."""
        clock, pause = SystemClock(), threading.Event()
        end, look = clock.monotonic() + PATIENCE, SHORTEST_LOOK
        try:
            while not self._writers.take_copying():
                if clock.monotonic() > end:
                    raise StorageUnavailable(
                        f"{self._journal.folder} is locked for {PATIENCE // SECOND} s",
                        help="another process writes, or was stopped while it wrote",
                    )
                pause.wait(look / SECOND)
                look = min(LONGEST_LOOK, look * 2)
        except OSError as error:
            raise StorageUnavailable(
                f"cannot lock {self._journal.folder}: {error.strerror}", help="look at the folder"
            ) from error
        try:
            yield
        finally:
            self._writers.end_copying()

    def _demand_open(self) -> None:
        if self._is_closed:
            raise UsageError(f"the storage {self._journal.folder} is closed", help="open it again")
        if self._process != os.getpid():
            raise UsageError(
                f"the storage {self._journal.folder} was opened before a fork",
                help="open it in the process that uses it",
            )

    # --- the supervisor -------------------------------------------------------------------------------

    def enter(self, owner: OwnerInfo, status: OwnerStatus) -> bool:
        with self._lock:
            if not self._owner_lock.take():
                return False
            try:
                self._bell.listen()
                with self._writing() as house:
                    house.owner = None
                    self._move_in(house, owner, status)
            except BaseException:
                self._hand_over()
                raise
            self._is_owner = True
            return True

    def _move_in(self, house: House, owner: OwnerInfo, status: OwnerStatus) -> None:
        for each in list(house.supervisors.values()):
            house.supervisors[each.owner.id] = each._replace(alive=False)
        house.supervisors[owner.id] = Supervisor(
            owner=owner, status=status, heartbeat_at=owner.started_at, left_at=None, alive=True
        )
        needed = {owner.id, *(house.rows[seq].run.owner for seq in house.running)}
        newest = sorted(house.supervisors.values(), key=lambda each: -each.owner.started_at)
        for each in newest[KEPT:]:
            if each.owner.id not in needed:
                del house.supervisors[each.owner.id]

    def leave(self, owner: str, now: Micros) -> None:
        with self._writing() as house:
            known = house.supervisors.get(owner)
            if known is not None and known.alive:
                house.supervisors[owner] = known._replace(left_at=now, alive=False)
        self._hand_over()

    def _hand_over(self) -> None:
        self._is_owner = False
        self._bell.close()  # before the lock: the next owner binds the same name
        self._owner_lock.release()

    # --- reads ----------------------------------------------------------------------------------------

    def wait(self, run_id: str, timeout: float | None) -> Run:
        clock, pause = SystemClock(), threading.Event()
        end = None if timeout is None else clock.monotonic() + round(timeout * SECOND)
        look = SHORTEST_LOOK
        while True:
            with self._lock:
                mark = self._journal.mark()  # before the run is read: no change falls between the two
            run = self.run(run_id)
            if run.state.is_final:
                return run
            while self._journal.mark() == mark:
                left = LONGEST_LOOK if end is None else end - clock.monotonic()
                if left <= 0:
                    return run
                pause.wait(min(look, left) / SECOND)
                look = min(LONGEST_LOOK, look * 5 // 4 + 1)

    def overview(self, now: Micros, *, tasks: object = None, recent: int = 20) -> Overview:
        return super().overview(now, tasks=tasks, recent=recent)._replace(size=self._journal.size())  # type: ignore[arg-type]

    def supervisors(self, now: Micros) -> list[Supervisor]:
        is_held = self._owner_lock.is_held()
        found = [each._replace(alive=each.alive and is_held) for each in super().supervisors(now)]
        return sorted(found, key=lambda each: not each.alive)

    # --- wake-ups -------------------------------------------------------------------------------------

    def wake_fd(self) -> int | None:
        return self._bell.fd()

    def woken(self) -> None:
        self._bell.hush()

    def changed(self) -> bool:
        with self._reading():
            changed, self._seen = self._foreign != self._seen, self._foreign
            return changed

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._journal.close()
            self._hand_over()
            self._writers.release()
