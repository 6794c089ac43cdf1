"""What a service may run out of: room on its disk, descriptors, memory. Claims are held back before it does.

    measure (a few reads of the kernel) -> shortages (pure) -> events, and hold or let go of claims

In WAL mode a full disk refuses to delete and to copy the log as well, so nothing is claimed any more while
there is still room for the ends of what runs.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from typing import Final, NamedTuple

from .durations import SECOND, Micros, format_size
from .events import Emit, Shortage, ShortageOver
from .heap import give_back
from .loop import EventLoop

BEAT: Final[Micros] = 2 * SECOND  # with the janitor's: one wake-up for both
TIDY_BEATS: Final = 60  # until memory that nobody uses is given back
MOST_FLOOR: Final = 64 * 1024 * 1024  # bytes that are kept free; of a small file system, a twentieth of it
SPARE_DESCRIPTORS: Final = 64  # kept for the ends of what runs, and for a reload; of few, a quarter
CLEARLY: Final = 1.25  # so much more than is needed ends a shortage
NEARLY: Final = 0.9  # of the memory that the kernel allows: worth a word
_CGROUP: Final = "/sys/fs/cgroup"


class Reading(NamedTuple):
    """What was measured; None where nothing limits, or nobody can tell."""

    free: int | None = None  # bytes that the service may still write
    room: int = 0  # bytes of the file system
    descriptors: int = 0
    most_descriptors: int | None = None
    memory: int = 0  # of the service and all its tasks, in bytes
    most_memory: int | None = None


def shortages(reading: Reading, before: Collection[str] = ()) -> list[Shortage]:
    """What is short. What was short `before` is so until there is clearly enough."""
    checks = {"disk": _disk, "descriptors": _descriptors, "memory": _memory}
    found = (check(reading, CLEARLY if kind in before else 1.0) for kind, check in checks.items())
    return [each for each in found if each is not None]


def floor_of(room: int) -> int:
    """Bytes below which nothing is claimed on a file system of this size."""
    return min(MOST_FLOOR, room // 20)


def _disk(reading: Reading, margin: float) -> Shortage | None:
    floor = floor_of(reading.room)
    if reading.free is None or reading.free >= floor * margin:
        return None
    words = f"only {format_size(max(0, reading.free))} free on its disk (floor: {format_size(floor)})"
    return Shortage("disk", words, holds=True)


def _descriptors(reading: Reading, margin: float) -> Shortage | None:
    most = reading.most_descriptors
    if most is None or reading.descriptors <= most - min(SPARE_DESCRIPTORS, most // 4) * margin:
        return None
    words = f"{reading.descriptors} of {most} file descriptors in use (LimitNOFILE= raises the limit)"
    return Shortage("descriptors", words, holds=True)


def _memory(reading: Reading, margin: float) -> Shortage | None:
    most = reading.most_memory
    if most is None or reading.memory * margin < most * NEARLY:
        return None
    words = f"{format_size(reading.memory)} of {format_size(most)} memory in use, tasks included (MemoryMax=)"
    return Shortage("memory", words, holds=False)


# --- measuring ----------------------------------------------------------------------------------------------


def measure(folder: str) -> Reading:
    """What this process, its cgroup and the file system of `folder` say now."""
    free, room = space_of(folder) or (None, 0)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    memory, most_memory = _memory_of(_own_group())
    return Reading(
        free=free,
        room=room,
        descriptors=_descriptors_in_use(soft),
        most_descriptors=None if soft == resource.RLIM_INFINITY else soft,
        memory=memory,
        most_memory=most_memory,
    )


def _descriptors_in_use(most: int) -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # there is not even one for this question
        return most


def space_of(folder: str) -> tuple[int, int] | None:
    """Bytes that may be written below a folder, and bytes of its file system; None when nobody can tell."""
    with suppress(OSError):
        found = os.statvfs(folder)
        if found.f_blocks:  # some virtual file systems have no size
            return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return None


@cache
def _own_group() -> str:
    """The folder of this process's cgroup v2; "" without one. Asked once: a service stays in its own."""
    with suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        line = next((each for each in file if each.startswith("0::")), "")
        return _CGROUP + line[3:].strip() if line else ""
    return ""


def _memory_of(group: str) -> tuple[int, int | None]:
    """Bytes in use and allowed, in this cgroup or the nearest one above that limits them."""
    while group.startswith(_CGROUP + "/"):
        with suppress(OSError, ValueError):
            return _number(f"{group}/memory.current"), _number(f"{group}/memory.max")
        group = os.path.dirname(group)
    return 0, None


def _number(path: str) -> int:
    """Raises ValueError for `max`."""
    with open(path, encoding="ascii") as file:
        return int(file.read())


# --- watching -----------------------------------------------------------------------------------------------


class Vitals:
    """Looks at each beat; says what is short once, and that it is over."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        emit: Emit,
        look: Callable[[], Reading],
        on_change: Callable[[str | None], None],
    ) -> None:
        self._loop = loop
        self._emit = emit
        self._look = look
        self._on_change = on_change  # is told the trouble
        self._short: dict[str, Shortage] = {}
        self._beats = 0

    @property
    def trouble(self) -> str | None:
        """Why nothing is to be claimed; None when there is enough of everything."""
        return "; ".join(each.words for each in self._short.values() if each.holds) or None

    def start(self) -> None:
        """Look now, and at each beat."""
        self.look()
        self._beats += 1
        if self._beats % TIDY_BEATS == 0:
            give_back()
        self._loop.after(BEAT, self.start)

    def look(self) -> None:
        """Look once."""
        before, self._short = self._short, {each.kind: each for each in shortages(self._look(), self._short)}
        for kind in self._short.keys() - before.keys():
            self._emit(self._short[kind])
        for kind in before.keys() - self._short.keys():
            self._emit(ShortageOver(kind))
        if before.keys() != self._short.keys():
            self._on_change(self.trouble)
