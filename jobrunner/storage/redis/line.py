"""One connection, spoken to directly: redis-py makes it, and is not asked for each call.

After a rest every layer costs several times what it costs in a loop, since nothing of it lies in a cache: a
call through redis-py's client took 0.57 ms then, one like this 0.27.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, Final

from redis import ConnectionPool
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as NoAnswer

MOST_AT_ONCE: Final = 64 * 1024  # bytes of one read
NOTHING_THERE: Final = (BlockingIOError, ssl.SSLWantReadError)
_END: Final = b"\r\n"


def connected(pool: ConnectionPool) -> Any:
    """A new connection as this pool makes them, in nobody's count. Raises RedisError, OSError."""
    connection: Any = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    return connection


class Line:
    """A connection for one call at a time. Whoever gets another error than the server's own must close it."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._connection = connected(pool)
        self._socket = self._connection._sock
        self._read = b""
        self._at = 0  # what stands before it was used

    def is_over(self) -> bool:
        """Whether the server has closed it, or said what nobody has asked for."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except NOTHING_THERE:
            return False
        except OSError:
            return True
        return True

    def ask(self, words: Sequence[bytes], patience: float) -> Any:
        """The answer to one command. Raises what redis-py raises for it."""
        self._socket.settimeout(patience)
        try:
            self._socket.sendall(packed(words))
            answer = self._answer()
        except TimeoutError as error:
            raise NoAnswer("no answer in time") from error
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def close(self) -> None:
        self._connection.disconnect()

    # --- RESP2 --------------------------------------------------------------------------------------

    def _answer(self) -> Any:
        head = self._head()
        kind, text = head[:1], head[1:]
        if kind == b"$":
            return None if text == b"-1" else self._text(int(text))
        if kind == b":":
            return int(text)
        if kind == b"*":
            return None if text == b"-1" else [self._answer() for _ in range(int(text))]
        if kind == b"+":
            return text.decode()
        if kind == b"-":
            return self._connection._parser.parse_error(text.decode(errors="replace"))
        raise InvalidResponse(f"got {head[:100]!r}")

    def _head(self) -> bytes:
        while (end := self._read.find(_END, self._at)) < 0:
            self._receive(len(self._read) - self._at + 1)
        head, self._at = self._read[self._at : end], end + len(_END)
        return head

    def _text(self, length: int) -> str:
        self._receive(length + len(_END))
        begin, self._at = self._at, self._at + length + len(_END)
        return self._read[begin : begin + length].decode()

    def _receive(self, least: int) -> None:
        """Have so many bytes that were not used yet."""
        there = len(self._read) - self._at
        if there >= least:
            return
        parts = [self._read[self._at :]]
        while there < least:
            part = self._socket.recv(MOST_AT_ONCE)
            if not part:
                raise ConnectionLost("Connection closed by server.")
            parts.append(part)
            there += len(part)
        self._read, self._at = b"".join(parts), 0


def packed(words: Sequence[bytes]) -> bytes:
    """A command as RESP."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
