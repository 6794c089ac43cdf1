"""The one file in force, `state.N`: a snapshot, then a line for each write; a line has its checksum.

A writer holds the lock, appends one line, and syncs it before it is acknowledged. When the file has grown,
the writer writes `state.N+1` with a new snapshot, syncs it, and removes `state.N`: whoever has that one open
finds it unlinked, and opens the new one. The last line of a file may be half a line (a writer died), or have
holes (the power went before all of its blocks were written): it was never acknowledged, and the next writer
cuts it off. Any other bad line is damage.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from ...errors import StorageRefused, StorageUnavailable

FORMAT: Final = 1
GROWTH: Final = 4 * 1024 * 1024  # bytes of records after which a new snapshot is written, at least
_NAME: Final = re.compile(r"state\.([0-9]+)")
_DRAFT: Final = re.compile(r"draft\.[0-9]+")  # of a snapshot


def line_of(record: object) -> bytes:
    """A record as it lies in the file."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


class Damaged(StorageRefused):
    """What was read does not fit what was read before, or is damaged."""


class Journal:
    """The file in force, as far as this process has read it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._fd: int | None = None
        self._number = 0
        self._read = 0  # bytes of whole lines taken in
        self._snapshot = 0  # bytes of the snapshot at its beginning

    # --- reading ------------------------------------------------------------------------------------

    def news(self) -> Iterator[tuple[bool, Any]]:
        """What others wrote since the last look: (whether it is a snapshot, which replaces all, record).

        Raises StorageRefused for a damaged file.
        """
        with self._faults("read"):
            if self._fd is None or self._is_replaced():
                self._open()
            while True:
                lines = self._lines()
                for line in lines:
                    if self._is_torn(line):
                        return
                    yield self._read == 0, self._record(line)
                    self._read += len(line)
                    if self._snapshot == 0:
                        self._snapshot = self._read
                if not self._is_replaced():
                    return
                self._open()

    def _open(self) -> None:
        self.close()
        number = _newest(self.folder)
        if number is None:
            raise StorageRefused(
                f"there is no storage in {self.folder}", help="start the supervisor once (jobrunner run FILE)"
            )
        self._fd = os.open(self._path(number), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._number, self._read, self._snapshot = number, 0, 0

    def _is_replaced(self) -> bool:
        assert self._fd is not None
        return os.fstat(self._fd).st_nlink == 0 or os.path.exists(self._path(self._number + 1))

    def _lines(self) -> list[bytes]:
        """The whole lines that were not taken in yet."""
        assert self._fd is not None
        if os.fstat(self._fd).st_size < self._read:
            raise Damaged(f"{self._path(self._number)} has become shorter", help="somebody has cut it")
        parts: list[bytes] = []
        at = self._read
        while part := os.pread(self._fd, 1 << 20, at):
            parts.append(part)
            at += len(part)
        return [line for line in b"".join(parts).splitlines(keepends=True) if line.endswith(b"\n")]

    def _is_torn(self, line: bytes) -> bool:
        """Whether it is the last one, and blocks of it never reached the disk: they read as zeros."""
        assert self._fd is not None
        is_last = self._read + len(line) == os.fstat(self._fd).st_size
        return is_last and self._read > 0 and b"\0" in line

    def _record(self, line: bytes) -> Any:
        checksum, _, text = line[:-1].partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            raise Damaged(
                f"{self._path(self._number)} is damaged at byte {self._read}",
                help="keep a copy of the folder; move it away to start anew",
            )
        record = json.loads(text)
        if self._read == 0 and record.get("format") != FORMAT:
            raise StorageRefused(
                f"{self._path(self._number)} was made by another version of jobrunner",
                help="use the newer one here too",
            )
        return record

    # --- writing: whoever calls holds the lock, and has taken in the news --------------------------------

    def append(self, record: object) -> None:
        """Write one record, and return when it is on disk; else nothing of it is there."""
        assert self._fd is not None
        line = line_of(record)
        with self._faults("write"):
            try:
                if os.fstat(self._fd).st_size != self._read:
                    os.ftruncate(self._fd, self._read)  # half a line of a writer that died
                _write(self._fd, line)
                os.fdatasync(self._fd)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._fd, self._read)
                    os.fdatasync(self._fd)
                raise
        self._read += len(line)

    @property
    def has_grown(self) -> bool:
        """Whether a new snapshot is due."""
        return self._read - self._snapshot > max(GROWTH, 2 * self._snapshot)

    def begin_anew(self, snapshot: object) -> None:
        """Put another file in force, which begins with this snapshot."""
        number = self._number + 1
        with self._faults("write"):
            draft = os.path.join(self.folder, f"draft.{os.getpid()}")
            self._remove(
                lambda name: _DRAFT.fullmatch(name) is not None
            )  # of writers that died, or had no room
            line = line_of(snapshot)
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write(fd, line)
                os.fsync(fd)
            except OSError:
                os.unlink(draft)
                raise
            finally:
                os.close(fd)
            os.rename(draft, self._path(number))
            _sync_folder(self.folder)
            self._remove(lambda name: _number(name) < number)
            self._open()
            self._read = self._snapshot = len(line)

    def _remove(self, is_old: Callable[[str], bool]) -> None:
        for name in filter(is_old, os.listdir(self.folder)):
            os.unlink(os.path.join(self.folder, name))

    def size(self) -> int:
        """Bytes on disk."""
        return 0 if self._fd is None else os.fstat(self._fd).st_size

    def mark(self) -> tuple[int, int]:
        """What changes with every write of anybody."""
        if self._fd is None or self._is_replaced():
            return self._number, -1
        return self._number, os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"state.{number}")

    def _faults(self, what: str) -> _Faults:
        return _Faults(self.folder, what)


class _Faults:
    """An error of the disk in the project's words."""

    def __init__(self, folder: str, what: str) -> None:
        self._folder = folder
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, PermissionError):
            raise StorageRefused(
                f"cannot {self._what} {self._folder}: {error.strerror}",
                help=f"the folder must be writable by uid {os.geteuid()}",
            ) from error
        if isinstance(error, OSError):
            raise StorageUnavailable(
                f"cannot {self._what} {self._folder}: {error.strerror}",
                help="look at the disk; work resumes by itself",
            ) from error


def make(folder: str, snapshot: object) -> None:
    """Make the first file of a folder, unless somebody is faster."""
    with _Faults(folder, "make"):
        _make_folder(folder)
        if _newest(folder) is not None:
            _sync_folder(folder)  # whoever has just made it may have died before
            return
        draft = os.path.join(folder, f"draft.{os.getpid()}.{os.urandom(4).hex()}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(fd, line_of(snapshot))
            os.fsync(fd)
            with suppress(FileExistsError):
                os.link(draft, os.path.join(folder, "state.1"))
        finally:
            os.close(fd)
            os.unlink(draft)
        _sync_folder(folder)


def _make_folder(folder: str) -> None:
    """With its parents; each name that is new is on disk when this returns."""
    parent = os.path.dirname(folder)
    if not os.path.isdir(folder) and parent != folder:
        _make_folder(parent)
        os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.access(parent, os.R_OK):  # else it was there before
        _sync_folder(parent)


def _number(name: str) -> float:
    """Of a state; of any other file more than all of them."""
    found = _NAME.fullmatch(name)
    return math.inf if found is None else int(found[1])


def exists(folder: str) -> bool:
    """Whether a storage is there."""
    return os.path.isdir(folder) and _newest(folder) is not None


def _newest(folder: str) -> int | None:
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return max((int(each[1]) for each in found if each is not None), default=None)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(folder: str) -> None:
    """Without this a power cut may take a file's name away again."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
