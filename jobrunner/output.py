"""Captured output: one file for each attempt that wrote anything, capped, with head and tail kept.

    header   magic, size of the head, size of a segment, how much was written in all (0: still growing)
    head     the first half of the cap
    ring     eight segments, used in turn, for the other half: the oldest one is used anew

Head and segments are parts. A part begins with its turn (0 for the head, then 1, 2, 3, ...) and how many of
its bytes are in use; then come frames, in the order in which the bytes arrived: stream, length, position,
bytes. The position is the number of bytes that the attempt wrote before these; where it is ahead of what a
reader has seen, that many bytes were dropped, whatever the reason. No frame crosses a part. The writer puts
the frame first and the count of used bytes last, so a reader may follow a file that grows; it looks at the
turn again after reading, in case the ring has come round.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple

from .digest import sha256
from .durations import Micros

__all__ = [
    "SHARES",
    "OutputFile",
    "OutputReader",
    "Record",
    "Stream",
    "output_path",
    "read_output",
    "remove",
    "sweep",
    "tail",
]

CHUNK: Final = 64 * 1024  # bytes of one record at most: what a reader holds at a time
SHARES: Final = 256  # folders below the root, by a checksum of the run id
SEGMENTS: Final = 8  # so the tail that is kept is between 7/8 and 8/8 of half the cap
SMALLEST_RING: Final = 4096  # below this cap there is a head only
_LARGEST: Final = 1 << 40  # bytes of a part that can be true
_MAGIC: Final = b"jobrunner-out-1\n"
_HEADER: Final = struct.Struct("<16sQQQ")
_PART: Final = struct.Struct("<QQ")
_FRAME: Final = struct.Struct("<BIQ")


class Stream(Enum):
    """Where a record comes from. A gap stands for what was dropped: its bytes are a mark, to be shown."""

    STDOUT = "stdout"
    STDERR = "stderr"
    GAP = "gap"


_NUMBERS: Final = {Stream.STDOUT: 1, Stream.STDERR: 2}
_STREAMS: Final = {number: stream for stream, number in _NUMBERS.items()}


class Record(NamedTuple):
    """Bytes, at most `CHUNK`, in the order in which they arrived."""

    stream: Stream
    data: bytes


# --- places ---------------------------------------------------------------------------------------------


def output_path(root: str, run_id: str, attempt: int) -> str:
    """The file of an attempt: made from the id, so that no id can name a place outside `root`."""
    return f"{_run_folder(root, run_id)}/{int(attempt)}"


_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,120}", re.ASCII)


def _run_folder(root: str, run_id: str) -> str:
    raw = run_id.encode(errors="surrogatepass")
    name = run_id if _SAFE_ID.fullmatch(run_id) else f"={sha256(raw).hexdigest()}"
    return f"{root}/{zlib.crc32(raw) & 0xFF:02x}/{name}"


def remove(root: str, run_ids: Iterable[str]) -> None:
    """Remove what these runs wrote; what is not there, or cannot be removed, is left."""
    for run_id in run_ids:
        shutil.rmtree(_run_folder(root, run_id), ignore_errors=True)


class _Shape(NamedTuple):
    """Where the parts of a file lie."""

    head: int  # bytes of frames in the head
    segment: int  # bytes of frames in each segment; 0: there is no ring

    def size_of(self, turn: int) -> int:
        return self.segment if turn else self.head

    def offset_of(self, turn: int) -> int:
        if turn == 0:
            return _HEADER.size
        index = (turn - 1) % SEGMENTS
        return _HEADER.size + _PART.size + self.head + index * (_PART.size + self.segment)


def _shape_for(max_size: int) -> _Shape:
    if max_size < SMALLEST_RING:
        return _Shape(max_size, 0)
    head = max_size // 2
    return _Shape(head, (max_size - head) // SEGMENTS)


def sweep(root: str, share: int, latest: Micros, limit_of: Callable[[str], Micros]) -> int:
    """Remove old output from one of SHARES shares of the folder; gives how many runs lost theirs.

    Output last written before `limit_of(run id)` goes; nothing written at or after `latest` is asked for.
    """
    old = [
        run
        for run, written in _written(f"{root}/{share:02x}")
        if written < latest and written < limit_of(run)
    ]
    for name in old:
        shutil.rmtree(f"{root}/{share:02x}/{name}", ignore_errors=True)
    return len(old)


def _written(folder: str) -> Iterator[tuple[str, Micros]]:
    """The runs of a folder, and when each wrote last."""
    try:
        with os.scandir(folder) as runs:
            names = [run.name for run in runs]
    except OSError:
        return
    for name in names:
        try:
            with os.scandir(f"{folder}/{name}") as files:
                yield name, max((file.stat().st_mtime_ns // 1000 for file in files), default=0)
        except OSError:  # gone meanwhile
            continue


# --- writing --------------------------------------------------------------------------------------------


class OutputFile:
    """The writer of one attempt. Nothing that the disk does fails the attempt: what is lost is counted.

    The file (0600, in folders of 0700) is made by the first bytes. `max_size` bounds its frames, in bytes.
    """

    def __init__(self, root: str, run_id: str, attempt: int, *, max_size: int) -> None:
        self._place = (root, run_id, attempt)
        self._shape = _shape_for(max_size)
        self._fd = -1
        self._sizes: dict[Stream, int] = {}
        self._position = 0  # bytes written by the attempt
        self._turn = 0
        self._used = 0
        self._head_bytes = 0  # bytes of output kept in the head
        self._ring_bytes: deque[int] = deque()  # and in each segment, oldest first

    def write(self, stream: Stream, data: bytes) -> None:
        """Keep these bytes: a follower sees them at once."""
        self._sizes[stream] = self._sizes.get(stream, 0) + len(data)
        view, end = memoryview(data), self._position + len(data)
        try:
            while view:
                taken = self._keep(stream, view)
                self._position += taken
                view = view[taken:]
        except OSError:  # disk full, over quota, folder gone: these bytes are lost, later ones may not be
            self._position = end

    def close(self) -> str | None:
        """End the file. Gives JSON `{"stdout", "stderr", "dropped"}` in bytes, or None if nothing came.

        May be called again.
        """
        if self._fd >= 0:
            self._note_total()
            os.close(self._fd)
            self._fd = -1
        if not self._position:
            return None
        sizes = {each.value: self._sizes.get(each, 0) for each in (Stream.STDOUT, Stream.STDERR)}
        return json.dumps({**sizes, "dropped": self.dropped}, separators=(",", ":"))

    @property
    def dropped(self) -> int:
        """How many of the bytes that came are not in the file (any more)."""
        return self._position - self._head_bytes - sum(self._ring_bytes)

    def _keep(self, stream: Stream, data: memoryview) -> int:
        """Write one frame of these bytes; how many it took."""
        if self._fd < 0:
            self._open()
        room = self._room()
        if room <= 0:
            self._next_part()
            room = self._room()
        taken = data[: min(room, CHUNK)]
        start = self._shape.offset_of(self._turn)
        frame = _FRAME.pack(_NUMBERS[stream], len(taken), self._position) + taken
        self._put(frame, start + _PART.size + self._used)
        self._put(_PART.pack(self._turn, self._used + len(frame)), start)
        self._used += len(frame)
        self._count(len(taken))
        return len(taken)

    def _room(self) -> int:
        return self._shape.size_of(self._turn) - self._used - _FRAME.size

    def _next_part(self) -> None:
        if not self._shape.segment:
            raise OSError(errno.ENOSPC, "the cap is reached")
        self._put(_PART.pack(self._turn + 1, 0), self._shape.offset_of(self._turn + 1))
        self._turn, self._used = self._turn + 1, 0
        self._ring_bytes.append(0)
        if len(self._ring_bytes) > SEGMENTS:
            self._ring_bytes.popleft()

    def _count(self, size: int) -> None:
        if self._turn:
            self._ring_bytes[-1] += size
        else:
            self._head_bytes += size

    def _open(self) -> None:
        if self._shape.head <= _FRAME.size:
            raise OSError(errno.ENOSPC, "nothing is to be kept")
        fd = _create(output_path(*self._place))
        try:
            _put(fd, _HEADER.pack(_MAGIC, *self._shape, 0), 0)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def _note_total(self) -> None:
        try:
            self._put(_HEADER.pack(_MAGIC, *self._shape, self._position), 0)
        except OSError:
            return  # over a full disk old bytes can be replaced; elsewhere only the last mark is missing

    def _put(self, data: bytes, offset: int) -> None:
        _put(self._fd, data, offset)


def _put(fd: int, data: bytes, offset: int) -> None:
    if os.pwrite(fd, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))
        return os.open(path, flags, 0o600)


def _make_folder(path: str) -> None:
    """The folder and those above it, all 0700: `os.makedirs` gives its mode to the last one only."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))
        _make_folder(path)


# --- reading --------------------------------------------------------------------------------------------


class OutputReader:
    """Reads an attempt's output from its begin, and goes on where it was when the file has grown."""

    def __init__(self, root: str, run_id: str, attempt: int) -> None:
        self._path = output_path(root, run_id, attempt)
        self._fd = -1
        self._shape = _Shape(0, 0)
        self._turn = 0
        self._offset = 0  # in the part
        self._position = 0  # bytes seen or known to be dropped

    def __enter__(self) -> OutputReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, limit: int = 16 * CHUNK) -> list[Record]:
        """The next records, of about `limit` bytes together; [] when there is nothing new, or no file yet."""
        records: list[Record] = []
        size = 0
        if self._fd < 0 and not self._open():
            return records
        while size < limit and (frame := self._next_frame()) is not None:
            records.extend(self._with_gap(frame))
            size += len(frame.data)
        if size < limit:
            records.extend(self._last_gap())
        return records

    def _open(self) -> bool:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        header = os.pread(fd, _HEADER.size, 0)
        magic, *shape, _ = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
        if magic != _MAGIC or max(shape) > _LARGEST:  # just made, or damaged
            os.close(fd)
            return False
        self._fd, self._shape = fd, _Shape(*shape)
        return True

    def _next_frame(self) -> _Frame | None:
        while True:
            turn, used = self._part(self._turn)
            if turn < self._turn:  # not begun
                return None
            if turn > self._turn:  # the ring has come round
                self._turn, self._offset = self._oldest(), 0
            elif self._offset >= used:
                if self._part(self._turn + 1)[0] <= self._turn:
                    return None
                self._turn, self._offset = self._turn + 1, 0
            else:
                frame = self._frame(used)
                if self._part(self._turn)[0] == self._turn:
                    self._offset = used if frame is None else self._offset + _FRAME.size + len(frame.data)
                    if frame is not None:
                        return frame

    def _part(self, turn: int) -> tuple[int, int]:
        """The turn that a part is in now, and its bytes in use."""
        if turn and not self._shape.segment:
            return 0, 0
        raw = os.pread(self._fd, _PART.size, self._shape.offset_of(turn))
        now, used = _unpacked(_PART, raw)
        return int(now), min(int(used), self._shape.size_of(turn))

    def _oldest(self) -> int:
        """The first turn after the present one that is still there."""
        turns = (self._part(turn)[0] for turn in range(1, SEGMENTS + 1))
        return min((turn for turn in turns if turn > self._turn), default=self._turn + 1)

    def _frame(self, used: int) -> _Frame | None:
        """The frame at the offset; None when the file is damaged there."""
        start = self._shape.offset_of(self._turn) + _PART.size + self._offset
        number, length, position = _unpacked(_FRAME, os.pread(self._fd, _FRAME.size, start))
        stream = _STREAMS.get(int(number))
        if stream is None or not 0 < length <= min(CHUNK, used - self._offset - _FRAME.size):
            return None
        return _Frame(stream, os.pread(self._fd, int(length), start + _FRAME.size), int(position))

    def _with_gap(self, frame: _Frame) -> Iterator[Record]:
        if frame.position > self._position:
            yield _gap(frame.position - self._position)
        yield Record(frame.stream, frame.data)
        self._position = frame.position + len(frame.data)

    def _last_gap(self) -> Iterator[Record]:
        total = int(_unpacked(_HEADER, os.pread(self._fd, _HEADER.size, 0))[3])
        if total > self._position:
            yield _gap(total - self._position)
            self._position = total


class _Frame(NamedTuple):
    stream: Stream
    data: bytes
    position: int


def _unpacked(shape: struct.Struct, raw: bytes) -> tuple[int, ...]:
    """What a structure holds; what lies behind the end of the file is zero."""
    return shape.unpack(raw.ljust(shape.size, b"\0"))


def _gap(size: int) -> Record:
    return Record(Stream.GAP, b"\n[... %s bytes dropped ...]\n" % f"{size:,}".encode())


def read_output(root: str, run_id: str, attempt: int) -> Iterator[Record]:
    """All records of an attempt; none when it wrote nothing."""
    with OutputReader(root, run_id, attempt) as reader:
        while records := reader.read():
            yield from records


def tail(root: str, run_id: str, attempt: int, limit: int) -> bytes:
    """The last `limit` bytes of an attempt's output, both streams, in the order in which they arrived."""
    end = bytearray()
    for record in read_output(root, run_id, attempt):
        if record.stream is not Stream.GAP:
            end += record.data
            del end[: max(0, len(end) - limit)]
    return bytes(end)
