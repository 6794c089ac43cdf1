"""Which processes belong together, as the kernel tells it: parents, sessions, and the marks of their runs.

A process is known by its pid and its start time: a pid alone may be somebody else's by now.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from ..durations import MILLISECOND, SECOND, Micros
from ..machine import is_alive
from .environment import OWNER, RUN_ID

_OWNER: Final = f"{OWNER}=".encode()
_RUN_ID: Final = f"{RUN_ID}=".encode()
_START: Final = 19  # field 22 of /proc/PID/stat, counted from the third one (proc(5))
_TICK: Final[Micros] = SECOND // os.sysconf("SC_CLK_TCK")
_LONGEST_STAT: Final = 2048  # bytes: 50 numbers and a name
_KTHREADD: Final = 2  # the parent of the kernel's own threads, which have no environment


class Process(NamedTuple):
    """A process as /proc/PID/stat tells it; `start` is in clock ticks since boot."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start: int

    @property
    def is_dead(self) -> bool:
        """Whether it has ended, collected by its parent or not."""
        return self.state in ("Z", "X")


class Mark(NamedTuple):
    """What a process's environment says of whom it works for; "" where it says nothing."""

    owner: str
    run_id: str


NO_MARK: Final = Mark("", "")
EXEC_TRIES: Final = 4  # looks at a process, a millisecond apart, that may be in the middle of exec


def process(pid: int) -> Process | None:
    """The process that has this pid now."""
    fields = _stat(pid)
    if fields is None:
        return None
    return Process(
        pid, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[_START])
    )


def start_of(pid: int) -> int:
    """When the process began, in clock ticks since boot; 0 where nothing tells."""
    fields = _stat(pid)
    return 0 if fields is None else int(fields[_START])


def start_between(before: Micros, after: Micros) -> int | None:
    """When a process began that was made between these two moments of the boot's clock, in its ticks.

    None where a tick passed in between. Nearly always this spares a look at /proc, which costs as much as a
    vfork: the kernel takes the same clock when it makes a process, and tells it in ticks of 10 ms.
    """
    ticks = (before - 1) // _TICK  # rounding, on either side
    return ticks if ticks == (after + 1) // _TICK else None


def processes() -> dict[int, Process]:
    """All processes that can be seen, by pid."""
    found = map(process, (int(name) for name in os.listdir("/proc") if name.isdigit()))
    return {each.pid: each for each in found if each is not None}


def mark_of(pid: int) -> Mark:
    """The mark in a process's environment; none when it is not readable or was cleared."""
    return marks_of([pid])[pid]


def marks_of(pids: Iterable[int]) -> dict[int, Mark]:
    """The marks of processes.

    In the middle of exec an environment is empty for a moment: such a process is looked at again, or
    who escapes just then would be missed.
    """
    environments = {pid: _read(f"/proc/{pid}/environ") for pid in pids}
    for _ in range(EXEC_TRIES):
        blank = [pid for pid, environment in environments.items() if environment == b"" and _may_exec(pid)]
        if not blank:
            break
        select.poll().poll(1)
        environments.update((pid, _read(f"/proc/{pid}/environ")) for pid in blank)
    return {pid: _mark_in(environment) for pid, environment in environments.items()}


def _may_exec(pid: int) -> bool:
    found = process(pid)
    return found is not None and not found.is_dead and _KTHREADD not in (pid, found.parent)


def _mark_in(environment: bytes | None) -> Mark:
    if not environment:
        return NO_MARK
    environment = b"\0" + environment
    return Mark(_value(environment, _OWNER), _value(environment, _RUN_ID))


def _value(environment: bytes, name: bytes) -> str:
    at = environment.find(b"\0" + name)
    if at < 0:
        return ""
    return environment[at + 1 + len(name) :].partition(b"\0")[0].decode(errors="replace")


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third one on. One read gives all of it: each command pays."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = os.read(fd, _LONGEST_STAT)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The name stands in parentheses and may hold both parentheses and spaces: the last one ends it.
    return raw[raw.rindex(b")") + 2 :].split(None, _START + 1) if raw else None


def _read(path: str) -> bytes | None:
    """What /proc tells; None when it does not: the process has ended, or is not ours to look at."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def runs_alive() -> set[str]:
    """The ids of all runs that some process is marked with."""
    return {mark.run_id for mark in marks_of(processes()).values()}


def relatives(
    sessions: Collection[int],
    belongs: Callable[[Mark], bool],
    *,
    others: Collection[int] = (),
    since: int = 0,
) -> list[Process]:
    """The living members of these sessions, the processes so marked, some others, and all their descendants.

    `since` is the start time of the oldest that can be among them. This process itself never is, whoever
    started it.
    """
    table = {pid: each for pid, each in processes().items() if each.start >= since}
    roots = {pid for pid, each in table.items() if each.session in sessions or pid in others}
    roots |= {pid for pid, mark in marks_of(table.keys() - roots).items() if belongs(mark)}
    family = _with_descendants(roots - {os.getpid()}, table)
    return [table[pid] for pid in family if not table[pid].is_dead and pid != os.getpid()]


def _with_descendants(roots: set[int], table: Mapping[int, Process]) -> set[int]:
    children: dict[int, list[int]] = {}
    for each in table.values():
        children.setdefault(each.parent, []).append(each.pid)
    family: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in family:
            family.add(pid)
            waiting.extend(children.get(pid, ()))
    return family


def living(family: Collection[Process]) -> Iterator[Process]:
    """Those of them that have not ended."""
    return (each for each in family if is_alive(each.pid, each.start))


def wait_for_exit(family: Collection[Process], longest: Micros) -> None:
    """Wait until one of them is gone; blocks, for `longest` at most."""
    with ExitStack() as stack:
        poll = select.poll()
        for each in family:
            with suppress(OSError):
                fd = os.pidfd_open(each.pid)
                stack.callback(os.close, fd)
                poll.register(fd, select.POLLIN)
        poll.poll(max(0, longest) // MILLISECOND)


def send(target: Process, *numbers: signal.Signals) -> None:
    """Send signals to exactly this process; nothing to another one that has its pid by now."""
    try:
        fd = os.pidfd_open(target.pid)
    except OSError:  # gone
        return
    try:
        now = process(target.pid)
        if now is not None and now.start == target.start:
            for number in numbers:
                signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):  # gone, or it has become another user's
        return
    finally:
        os.close(fd)
