"""What wakes a supervisor: notifications on a connection that only listens, behind one lasting descriptor."""

from __future__ import annotations

import select
import threading
from contextlib import suppress

import psycopg

from .database import Connection, Database

MOST_READS = 100  # in one go: who talks without a pause must not keep the loop


class Ear:
    """An epoll descriptor, in which the socket of the connection that listens lies: that may come and go."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._epoll = select.epoll()
        self._connection: Connection | None = None
        self._mutex = threading.Lock()

    def fd(self) -> int:
        """Becomes readable when somebody told something, or when the connection has ended."""
        return self._epoll.fileno()

    def listen(self) -> bool:
        """Listen, on a new connection if the last one has ended; True when it had: something may be missed.

        Raises StorageUnavailable or StorageRefused when none can be made.
        """
        with self._mutex:
            if self._connection is not None:
                return False
        connection = self._database.connect()
        try:
            connection.execute(f"listen {self._database.address.schema}")
        except BaseException:
            connection.close()
            raise
        with self._mutex:
            self._connection = connection
            self._epoll.register(connection.fileno(), select.EPOLLIN)
        return True

    def hush(self) -> bool:
        """Take in what was told, without waiting; whether any of it came from others."""
        with self._mutex:
            if self._connection is None:
                return False
            try:
                return self._heard(self._connection)
            except psycopg.Error:
                self._lose(self._connection)
                return True

    def _heard(self, connection: Connection) -> bool:
        """Read what lies there: words, and after the last ones perhaps the end of the connection."""
        pgconn = connection.pgconn
        heard = False
        for _ in range(MOST_READS):
            if not self._epoll.poll(0):
                break
            pgconn.consume_input()
            while (told := pgconn.notifies()) is not None:
                heard |= not self._database.is_own(told.be_pid)
        return heard

    def _lose(self, connection: Connection) -> None:
        with suppress(OSError, ValueError, psycopg.Error):
            self._epoll.unregister(connection.fileno())
        self._connection = None
        with suppress(psycopg.Error):
            connection.close()

    def close(self) -> None:
        with self._mutex:
            if self._connection is not None:
                self._lose(self._connection)
            if not self._epoll.closed:
                self._epoll.close()
