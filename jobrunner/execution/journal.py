"""What this supervisor has spawned, in a local file that outlives it: recovery ends what is left of it.

Each supervisor appends to a file of its own, which it keeps locked. A line is a JSON array:

    ["boot", boot id]                                the first line
    ["began", run id, pid, start time, owner]        right after the spawn
    ["over", run id, pid]                            nothing of it is left
    ["kept", run id, owner]                          its background children may live on (`leftovers: keep`)

A file that is not locked belongs to a dead supervisor. It is removed when nothing that it names is alive and
none of its owners has a run that is not yet resolved.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..machine import boot_id, process_start
from .family import runs_alive

FOLDER = "journal"
LONGEST = 1024 * 1024  # bytes; a longer journal is written anew, without what is over
NEW = ".new"
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


class Spawn(NamedTuple):
    """A process that was started for a run, known by pid and start time (clock ticks since boot)."""

    run_id: str
    pid: int
    start: int
    owner: str


@dataclass(slots=True)
class Past:
    """What a dead supervisor's journal says."""

    path: Path
    boot: str = ""
    open: dict[tuple[str, int], Spawn] = field(default_factory=dict)  # began, and not over
    begun: dict[str, str] = field(default_factory=dict)  # run id: owner
    kept: dict[str, str] = field(default_factory=dict)  # run id: owner

    @property
    def owners(self) -> set[str]:
        return {*self.begun.values(), *self.kept.values()}

    def note(self, line: list[object]) -> None:
        """Take in one line."""
        match line:
            case ["boot", str(boot)]:
                self.boot = boot
            case ["began", str(run), int(pid), int(start), str(owner)]:
                self.open[run, pid] = Spawn(run, pid, start, owner)
                self.begun[run] = owner
            case ["over", str(run), int(pid)]:
                self.open.pop((run, pid), None)
            case ["kept", str(run), str(owner)]:
                self.kept[run] = owner


class Journal:
    """The journal of this process. A full disk loses lines, never a run: recovery looks at processes too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}-{os.urandom(8).hex()}"
        self._open: dict[tuple[str, int], Spawn] = {}
        self._kept: dict[str, str] = {}
        self._fd = -1
        self._size = 0
        self._limit = LONGEST
        self._torn = False  # the last line was cut short
        with suppress(OSError):
            self._begin_file()

    @classmethod
    def opened(cls, state_folder: str) -> Journal:
        """A journal in this folder (made with mode 0700); use it as a context manager."""
        folder = Path(state_folder) / FOLDER
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; it is removed when it has nothing to tell."""
        if self._fd < 0:
            return
        if not self._open and not self._kept:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def began(self, spawn: Spawn) -> None:
        """This process was started."""
        self._open[spawn.run_id, spawn.pid] = spawn
        self._append(["began", *spawn])

    def over(self, run_id: str, pid: int) -> None:
        """Nothing is left of this process that is to be ended."""
        self._open.pop((run_id, pid), None)
        self._append(["over", run_id, pid])
        if self._size > self._limit:
            self._shorten()

    def kept(self, run_id: str, owner: str) -> None:
        """The background children of this run may live on."""
        self._kept[run_id] = owner
        self._append(["kept", run_id, owner])

    def past(self) -> list[Past]:
        """The journals of dead supervisors."""
        return list(self._read_past())

    def forget(self, past: Past) -> None:
        """Remove a dead supervisor's journal."""
        past.path.unlink(missing_ok=True)

    def _append(self, line: Sequence[object]) -> None:
        text = b"\n" + _text(line) if self._torn else _text(line)
        try:
            self._torn = os.write(self._fd, text) != len(text)
        except OSError:
            self._torn = True
        self._size += len(text)

    def _shorten(self) -> None:
        """Write the journal anew, without what is over."""
        self._limit = 2 * self._size + LONGEST
        if self._kept:
            alive = runs_alive()
            self._kept = {run: owner for run, owner in self._kept.items() if run in alive}
        try:
            self._begin_file()
        except OSError:  # no room or no descriptor: the long file still says the truth
            return
        self._limit = 2 * self._size + LONGEST

    def _begin_file(self) -> None:
        """Begin a file with what is not over, and put it in the place of the present one."""
        fresh = self._path.with_suffix(NEW)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = _text(["boot", boot_id()], *self._standing())
            if os.write(fd, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.rename(fresh, self._path)
        except OSError:
            os.close(fd)
            fresh.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._torn = fd, len(text), False

    def _standing(self) -> Iterator[Sequence[object]]:
        yield from (["began", *spawn] for spawn in self._open.values())
        yield from (["kept", run_id, owner] for run_id, owner in self._kept.items())

    def _read_past(self) -> Iterator[Past]:
        for path in sorted(self._folder.glob("*")):
            if path.suffix == NEW:
                _remove_if_abandoned(path)
            elif path != self._path and (lines := _lines_of_the_dead(path)) is not None:
                past = Past(path)
                for line in lines:
                    past.note(line)
                yield past


def _text(*lines: Sequence[object]) -> bytes:
    return "".join([_encode(line) + "\n" for line in lines]).encode()


def _remove_if_abandoned(path: Path) -> None:
    """Remove what a supervisor left that died while it shortened its journal."""
    pid = path.name.partition("-")[0]
    if pid.isdigit() and process_start(int(pid)) is None:
        path.unlink(missing_ok=True)


def _lines_of_the_dead(path: Path) -> list[list[object]] | None:
    """The lines of a journal that nobody holds; None when its supervisor lives."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return list(_parsed(file))
    except OSError:  # locked, or removed meanwhile
        return None


def _parsed(raw: Iterable[bytes]) -> Iterator[list[object]]:
    for line in raw:
        try:
            read = json.loads(line)
        except ValueError:  # cut short by a full disk or by the death of its writer
            continue
        if isinstance(read, list):
            yield read
