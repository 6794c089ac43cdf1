"""The write-ahead log is copied into the database by one process at a time, the owner when there is one.

Older SQLite versions can damage a log when two connections write and copy it at once (fixed in 3.51.3,
3.50.7, 3.44.6). So clients never copy it by the way, and whoever copies holds a lock. The owner lets SQLite
copy after every so many pages; a client does it only when nobody else has for very long.
"""

from __future__ import annotations

from contextlib import suppress

from ...errors import StorageError
from ..beside import LockFile
from .database import Database

LONGEST_LOG = 64 * 1024 * 1024  # bytes: a log that readers kept from being reused is cut again
STEP = 16 * 1024 * 1024  # bytes by which it must have grown before the next try


class Upkeep:
    """Looks at the size of the log after writes, and cuts it when it is long."""

    def __init__(self, database: Database, lock_file: LockFile) -> None:
        self._database = database
        self._lock_file = lock_file
        self._tried_at = 0

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
