"""Standard streams of a worker with several calls at once: each text goes to the call that wrote it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TextIO

MOST_PENDING: Final = 8 * 1024  # bytes of a line that has no end yet
MOST_AT_ONCE: Final = 32 * 1024  # bytes in one line to the supervisor

Send = Callable[[int, bytes], None]  # (0 stdout, 1 stderr; bytes)


class Writing:
    """What one call has written and not yet sent; a line goes out when it is complete."""

    __slots__ = ("_pending", "_send", "call")

    def __init__(self, call: int, send: Send) -> None:
        self.call = call  # its number
        self._send = send
        self._pending = (bytearray(), bytearray())

    def write(self, stream: int, data: bytes) -> None:
        pending = self._pending[stream]
        pending += data
        if b"\n" in data or len(pending) > MOST_PENDING:
            self._flush(stream)

    def flush(self) -> None:
        for stream in (0, 1):
            self._flush(stream)

    def _flush(self, stream: int) -> None:
        pending = self._pending[stream]
        data = bytes(pending)
        pending.clear()
        for start in range(0, len(data), MOST_AT_ONCE):
            self._send(stream, data[start : start + MOST_AT_ONCE])


_writing: ContextVar[Writing | None] = ContextVar("jobrunner.writing", default=None)


def write_as(writing: Writing | None) -> None:
    """What is written in this context from now on belongs to this call; None: to none."""
    _writing.set(writing)


def call_here() -> int:
    """The number of the call that executes in this context; 0 outside of one."""
    writing = _writing.get()
    return 0 if writing is None else writing.call


class CallStream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of such a worker. What no call writes goes to the descriptor itself."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, number: int, real: TextIO) -> None:
        self._number = number
        self._real = real
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        self.write_bytes(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        writing = _writing.get()
        if writing is None:
            self._real.buffer.write(data)
            self._real.flush()
        else:
            writing.write(self._number, data)

    def flush(self) -> None:
        writing = _writing.get()
        if writing is not None:
            writing.flush()

    def fileno(self) -> int:
        return self._real.fileno()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: it belongs to the other calls too."""


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, stream: CallStream) -> None:
        self._stream = stream

    def write(self, data: object) -> int:
        written = bytes(data)  # type: ignore[call-overload]
        self._stream.write_bytes(written)
        return len(written)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing, as above."""
