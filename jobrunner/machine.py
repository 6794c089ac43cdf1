"""This machine and its processes: host name, boot id, and whether a process is still the same one."""

from __future__ import annotations

import os
import signal
from functools import cache

_STATE, _START = 0, 19  # fields 3 and 22 of /proc/PID/stat, counted after the command's name (proc(5))


def hostname() -> str:
    """The name of this machine."""
    return os.uname().nodename


@cache
def boot_id() -> str:
    """The kernel's id of this boot (a UUID); "" where the kernel tells none."""
    try:
        return _text("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return ""


@cache
def pid_space() -> str:
    """Where a pid means a process: this boot and this pid namespace; "" where the kernel tells neither."""
    try:
        return f"{boot_id()} {os.readlink('/proc/self/ns/pid')}" if boot_id() else ""
    except OSError:
        return ""


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[_START])


def is_alive(pid: int, start: int) -> bool:
    """Whether the process `pid` that started at `start` still runs; a pid used anew is somebody else."""
    fields = _stat(pid)
    return fields is not None and int(fields[_START]) == start and fields[_STATE] not in ("Z", "X")


def obey_as_process_one() -> None:
    """Let SIGTERM and SIGINT end this process at once, when it is process 1 and has not begun anything yet.

    For process 1 the kernel drops signals that have no handler: a container would not stop before its KILL.
    """
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGINT):
            # No exception: it could be swallowed by whatever is being done at that moment.
            signal.signal(number, lambda _number, _frame: os._exit(0))


def process_name(pid: int) -> str:
    """The command name of a process; "" when there is no such process."""
    try:
        return _text(f"/proc/{pid}/comm").strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    try:
        text = _text(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name stands in parentheses and may hold spaces and parentheses itself: the last one ends it.
    return text[text.rindex(")") + 2 :].split()


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # pathlib: 10 ms that every client would pay
        return file.read()
