"""What the calls of one worker write: read from its pipes, kept in a file for each call that writes.

The pipes are read here and not in the worker, so that a callable which writes while it keeps every thread of
its process from running (C code that holds the GIL) cannot fill its pipe and wait for ever. Nothing is read
for a call that is short and silent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..output import OutputFile, Stream
from ..redact import RedactedStream, redactor_of
from . import Call
from .process import WorkerProcess

MOST_EARLY: Final = 4096  # bytes kept of what a worker says before it is ready
MOST_DRAINED: Final = 1024 * 1024  # bytes; a pipe holds no more, but a background process writes for ever
_CHUNK: Final = 64 * 1024
_STREAMS: Final = (Stream.STDOUT, Stream.STDERR)


class Written:
    """The reader of one worker's pipes."""

    def __init__(self, process: WorkerProcess, root: str, head: Callable[[], Call | None]) -> None:
        self._process = process
        self._root = root
        self._head = head
        self._file: OutputFile | None = None
        self._clean: tuple[RedactedStream, ...] = ()  # one for each stream of the head
        self._early = b""
        self.is_active = True  # something is watched, or a file is open
        process.watch_output(self._take_early)

    # ---- before the worker is ready --------------------------------------------------------------

    def _take_early(self, stream: int) -> None:
        self._early = (self._early + self._process.read_output(stream, _CHUNK))[-MOST_EARLY:]

    def end_of_start(self) -> str:
        """The worker is ready, or never will be; gives the end of what it said until now."""
        self._take_early(0)
        self._take_early(1)
        self._process.unwatch_output()
        self.is_active = False
        return self._early.decode("utf-8", "backslashreplace").strip()

    # ---- calls -----------------------------------------------------------------------------------

    def follow(self) -> None:
        """Read while the head executes."""
        self.is_active = True
        self._process.watch_output(self._read)

    def _read(self, stream: int) -> None:
        self._take(stream)

    def drain(self) -> None:
        """Read what lies in the pipes: all that the head has written, since its worker waits."""
        for stream in (0, 1):
            left = MOST_DRAINED
            while left > 0 and (taken := self._take(stream)):
                left -= taken

    def finish(self) -> str | None:
        """The head is over: end its file; gives its sizes as JSON, None if it wrote nothing."""
        self.is_active = False
        self._process.unwatch_output()
        if self._file is None:
            return None
        for stream, clean in zip(_STREAMS, self._clean, strict=True):
            if rest := clean.rest():
                self._file.write(stream, rest)
        sizes = self._file.close()
        self._file = None
        return sizes

    def _take(self, stream: int) -> int:
        read = self._process.read_output(stream, _CHUNK)
        call = self._head()
        if read and call is not None:
            if self._file is None:
                self._file = self._open(call)
            self._file.write(_STREAMS[stream], self._clean[stream].feed(read))
        return len(read)

    def _open(self, call: Call) -> OutputFile:
        self.is_active = True
        redactor = redactor_of(call.task.secrets)
        self._clean = (RedactedStream(redactor), RedactedStream(redactor))
        return OutputFile(self._root, call.run_id, call.attempt, max_size=call.task.output.max_size)
