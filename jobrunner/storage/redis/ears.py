"""Hearing of changes: the supervisor's subscription, as one descriptor that outlives its connections."""

from __future__ import annotations

import select
import threading
from typing import Any

from redis.exceptions import RedisError

from .line import MOST_AT_ONCE, NOTHING_THERE, connected
from .server import Server


class Ears:
    """A subscription to the namespace's wake-ups.

    The descriptor is an epoll in which the connection's socket is: when the connection is lost, the next
    one takes its place in it, and whoever watches the descriptor need not know.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._epoll = select.epoll()
        self._connection: Any = None
        self._lock = threading.Lock()  # the loop empties it, the storage thread connects it

    @property
    def fd(self) -> int:
        return self._epoll.fileno()

    def listen(self) -> bool:
        """Subscribe, unless that is done; whether it was done now: something may have been missed."""
        with self._lock:
            if self._connection is not None:
                return False
            connection = connected(self._server.pool)
            try:
                connection.send_command("SUBSCRIBE", f"{self._server.prefix}wake")
                connection.read_response()
            except (RedisError, OSError):
                connection.disconnect()
                raise
            self._connection = connection
            connection._sock.settimeout(0)
            self._epoll.register(connection._sock.fileno(), select.EPOLLIN)
            return True

    def empty(self) -> None:
        """Take in what was heard; never waits. It is not read: all words mean the same."""
        with self._lock:
            try:
                while self._connection is not None:
                    if not self._connection._sock.recv(MOST_AT_ONCE):
                        self._drop()
            except NOTHING_THERE:
                return
            except OSError:
                self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()  # closing the socket takes it out of the epoll

    def close(self) -> None:
        with self._lock:
            self._drop()
            self._epoll.close()
