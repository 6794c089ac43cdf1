"""What a command writes: to the output file, and as much in memory as its result and its error need."""

from __future__ import annotations

import json
from typing import Final

from ..codec import encode
from ..errors import PayloadError
from ..output import OutputFile, Stream
from ..plan import Task
from ..redact import RedactedStream, redactor_of

LONGEST_TEXT: Final = 64 * 1024  # bytes of stdout that are kept as a result
LONGEST_JSON: Final = 1024 * 1024
SLACK: Final = 4096  # white space around a result, not counted
ERROR_TAIL: Final = 2048  # bytes of stderr that go into an error


class NotStorable(Exception):
    """What the command wrote to stdout is not the result that its task promises."""


class Capture:
    """Takes the bytes of one attempt as they come."""

    __slots__ = ("_clean", "_file", "_limit", "_stderr", "_stdout", "_task", "_too_long")

    def __init__(self, task: Task, file: OutputFile) -> None:
        self._task = task
        self._file = file
        self._limit = _limit(task)
        self._stdout = bytearray()
        self._too_long = False
        self._stderr = bytearray()
        self._clean = _cleaners(task)

    def take(self, stream: Stream, data: bytes) -> None:
        """Keep these bytes."""
        if self._clean:
            data = self._clean[stream].feed(data)
        self._keep(stream, data)

    def _keep(self, stream: Stream, data: bytes) -> None:
        self._file.write(stream, data)
        if stream is Stream.STDERR:
            self._stderr += data[-ERROR_TAIL:]
            del self._stderr[:-ERROR_TAIL]
        elif self._limit and not self._too_long:
            self._take_result(data)

    def _take_result(self, data: bytes) -> None:
        if len(self._stdout) + len(data) > self._limit + SLACK:
            self._too_long = True
            self._stdout.clear()
        else:
            self._stdout += data

    def close(self) -> str | None:
        """End the file; gives JSON of the sizes, or None when nothing was written. May be called again."""
        self._flush()
        return self._file.close()

    def _flush(self) -> None:
        for stream, clean in self._clean.items():
            if rest := clean.rest():
                self._keep(stream, rest)

    def result(self) -> str | None:
        """The encoded result of a command that ended well; None: none to keep. Raises NotStorable."""
        self._flush()
        if not self._limit:
            return None
        if self._task.result == "json":
            return self._json()
        text = bytes(self._stdout).strip()
        if self._too_long or len(text) > self._limit:
            return None
        return encode(text.decode(errors="backslashreplace"))

    def _json(self) -> str:
        if self._too_long:
            raise NotStorable(f"stdout is not stored as a result: more than {LONGEST_JSON:,} bytes")
        try:
            return encode(json.loads(bytes(self._stdout)), what="stdout", limit=LONGEST_JSON)
        except (ValueError, RecursionError) as error:
            raise NotStorable(f"stdout is not JSON, as `result: json` says it is: {error}") from None
        except PayloadError as error:
            raise NotStorable(f"stdout is not stored as a result: {error}") from None

    def last_words(self) -> str:
        """The end of stderr, in whole lines where there are any."""
        self._flush()
        text = bytes(self._stderr)
        if len(text) == ERROR_TAIL:
            text = text.partition(b"\n")[2] or text
        return text.decode(errors="backslashreplace").strip()


def _cleaners(task: Task) -> dict[Stream, RedactedStream]:
    if not task.secrets:
        return {}
    redactor = redactor_of(task.secrets)
    return {stream: RedactedStream(redactor) for stream in (Stream.STDOUT, Stream.STDERR)}


def _limit(task: Task) -> int:
    if not task.store_result:
        return 0
    return LONGEST_JSON if task.result == "json" else LONGEST_TEXT
