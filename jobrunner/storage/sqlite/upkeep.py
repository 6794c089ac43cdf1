"""The write-ahead log is copied into the database by one process at a time, the owner when there is one.

SQLite before 3.51.3 (3.50.7, 3.44.6) can damage a database: a copy that begins while all of the log is copied
already may meet a writer that begins the log anew at that very moment (sqlite.org/wal.html, "the WAL-reset
bug"). So whoever copies holds a lock, and has held it since before a commit of its own: what it has just
written nobody else can have copied. The owner holds it for all its life, and lets SQLite copy in its commits,
after every so many pages. Where no owner lives, a client takes it for one write, each so many writes of its
own: the log is then written over again. A file that grows is dearer to sync than one that does not: its new
size is a second thing to be put on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...errors import StorageError
from ..beside import LockFile
from .database import Database

LONGEST_LOG = 64 * 1024 * 1024  # bytes: a log that readers kept from being reused is cut again
STEP = 16 * 1024 * 1024  # bytes by which it must have grown before the next try
COPIED_WRITES = 200  # of a client, after which it copies the log: 5 MB of single enqueues


class Upkeep:
    """Looks at the size of the log after writes, and cuts it when it is long."""

    def __init__(self, database: Database, lock_file: LockFile) -> None:
        self._database = database
        self._lock_file = lock_file
        self._tried_at = 0
        self._copied_at = 0  # of the writes of this process

    @contextmanager
    def around_write(self) -> Iterator[None]:
        """A write of a client: now and then one that copies the log, unless an owner lives to do it."""
        if not self._is_time_to_copy() or not self._takes_turn():
            yield
            return
        try:
            with self._database.copying():
                yield
        finally:
            self._lock_file.end_copying()

    def _is_time_to_copy(self) -> bool:
        """Whether so many writes have passed; where an owner lives, or another copies, as many more will."""
        is_time = self._database.writes - self._copied_at >= COPIED_WRITES and not self._lock_file.is_owner
        if is_time:
            self._copied_at = self._database.writes
        return is_time

    def as_client(self) -> None:
        """Cut a long log unless an owner lives: that is its work."""
        if self._is_due() and self._takes_turn():
            try:
                self._cut()
            finally:
                self._lock_file.end_copying()

    def as_owner(self) -> None:
        """Cut a long log."""
        if self._is_due():
            self._cut()

    def _takes_turn(self) -> bool:
        try:
            return self._lock_file.take_copying()
        except OSError:  # no permission for the lock file: somebody else will do it
            return False

    def _is_due(self) -> bool:
        size = self._database.log_size()
        if size < self._tried_at:
            self._tried_at = size
        return size > max(LONGEST_LOG, self._tried_at + STEP)

    def _cut(self) -> None:
        """No write that was acknowledged fails for this: the log may stay long for a while."""
        with suppress(StorageError):
            self._database.cut_log()
        self._tried_at = self._database.log_size()
