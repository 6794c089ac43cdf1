"""Captured output while it grows: from the files of attempts to a terminal, a pipe, or JSON Lines."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, TextIO

from jobrunner.ids import short_id
from jobrunner.model import Run
from jobrunner.output import OutputReader, Record, Stream, tail
from jobrunner.place import output_root

from .screen import is_terminal
from .session import Session
from .words import last_lines, several_lines

TAIL_BYTES = 16 * 1024


class Follower:
    """Reads what the attempts of one run wrote, each time from where it was."""

    def __init__(self, root: str, run_id: str, *, attempt: int | None = None) -> None:
        """`attempt` None: the current one, and those after it."""
        self._root = root
        self._run_id = run_id
        self._only = attempt
        self._attempt = attempt
        self._reader: OutputReader | None = None

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def new_records(self, run: Run) -> Iterator[tuple[int, Record]]:
        """What came since the last call, with the attempt's number; `run` as it is now."""
        if self._attempt is None:
            self._attempt = run.attempt or None
        while self._attempt is not None:
            yield from self._of_attempt(self._attempt)
            if self._only is not None or self._attempt >= run.attempt:
                return
            self.close()
            self._attempt += 1

    def _of_attempt(self, attempt: int) -> Iterator[tuple[int, Record]]:
        if self._reader is None:
            self._reader = OutputReader(self._root, self._run_id, attempt)
        while records := self._reader.read():
            for record in records:
                yield attempt, record


class Writer(Protocol):
    """Where records go."""

    def write(self, run: Run, attempt: int, record: Record) -> None: ...


@dataclass(slots=True)
class TextWriter:
    """Bytes exactly as they were captured; on a terminal and behind prefixes, text that is safe to show."""

    stream: TextIO
    prefixed: bool = False
    _decoders: dict[tuple[str, int, Stream], codecs.IncrementalDecoder] = field(default_factory=dict)
    _at_start: bool = True
    _last: str = ""

    def write(self, run: Run, attempt: int, record: Record) -> None:
        buffer = getattr(self.stream, "buffer", None)
        if buffer is not None and not self.prefixed and not is_terminal(self.stream):
            self.stream.flush()
            buffer.write(record.data)
            buffer.flush()
            return
        text = self._decoder(run, attempt, record.stream).decode(record.data)
        shown = several_lines(text.replace("\r\n", "\n"))
        self.stream.write(self._with_prefixes(run, shown) if self.prefixed else shown)
        self.stream.flush()

    def _decoder(self, run: Run, attempt: int, stream: Stream) -> codecs.IncrementalDecoder:
        """A character may be cut in two between records: each stream of each attempt has its own state."""
        key = (run.id, attempt, stream)
        if key not in self._decoders:
            self._decoders[key] = codecs.getincrementaldecoder("utf-8")("replace")
        return self._decoders[key]

    def _with_prefixes(self, run: Run, text: str) -> str:
        name = f"{run.task}/{short_id(run.id)}"
        parts = [""] if self._at_start or self._last == name else ["\n"]
        if not self._at_start and self._last != name:
            self._at_start = True
        for line in text.splitlines(keepends=True):
            parts.append(f"{name} | {line}" if self._at_start else line)
            self._at_start = line.endswith("\n")
        self._last = name
        return "".join(parts)


@dataclass(slots=True)
class JsonWriter:
    """JSON Lines."""

    stream: TextIO
    _decoders: dict[tuple[str, int, Stream], codecs.IncrementalDecoder] = field(default_factory=dict)

    def write(self, run: Run, attempt: int, record: Record) -> None:
        key = (run.id, attempt, record.stream)
        if key not in self._decoders:
            self._decoders[key] = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        line = {
            "run": run.id,
            "attempt": attempt,
            "stream": record.stream.value,
            "text": self._decoders[key].decode(record.data),
        }
        self.stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.stream.flush()


def root_of(session: Session) -> str:
    """The folder of captured output that belongs to the session's storage."""
    return output_root(session.url())


def last_output(session: Session, run: Run, most: int) -> list[str]:
    """The last lines that a run's latest attempt wrote."""
    end = tail(root_of(session), run.id, run.attempt, TAIL_BYTES)
    return last_lines(end.decode(errors="replace"), most)
