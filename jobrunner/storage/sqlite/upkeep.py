"""The write-ahead log is copied into the database by one process at a time, the owner when there is one.

Older SQLite versions can damage a log when two connections copy it at once while it is written (fixed in
3.51.3, 3.50.7, 3.44.6). So clients never copy it by the way, and whoever copies holds a lock: the owner for
all its life; it lets SQLite copy after every so many pages. Where no owner lives, a client takes the lock for
a moment, each so many writes of its own: the log is then written over again. A file that grows is dearer to
sync than one that does not: its new size is a second thing to be put on the disk.
"""

from __future__ import annotations

from contextlib import suppress

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

    def as_client(self) -> None:
        """Copy the log now and then, and cut a long one, unless an owner lives: that is its work."""
        is_long = self._is_due()
        if not is_long and self._database.writes - self._copied_at < COPIED_WRITES:
            return
        self._copied_at = self._database.writes
        if self._takes_turn():
            try:
                self._cut() if is_long else self._copy()
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

    def _copy(self) -> None:
        with suppress(StorageError):
            self._database.copy_log()

    def _cut(self) -> None:
        """No write that was acknowledged fails for this: the log may stay long for a while."""
        with suppress(StorageError):
            self._database.cut_log()
        self._tried_at = self._database.log_size()
