"""The owner's lock file and the wake-up socket that lie beside a storage on this machine."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ..digest import sha256

if TYPE_CHECKING:
    from socket import socket

_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid
_OWNER, _COPYING = 0, 1  # bytes of the lock file
_PATIENCE, _LOOK = 2.0, 0.01  # seconds: for a client that is copying the log while an owner enters
_LONGEST_NAME = 80  # bytes: with "/proc/self/fd/NUMBER/" before it, it fits into the 107 of a Unix address


class LockFile:
    """Open-file-description locks on `DATABASE.lock`: they end with the process, and with nothing else.

    Byte 0 is held by the owner, byte 1 by whoever copies the log into the database: the owner for all its
    life, a client for a moment. The database file itself must never be opened and closed by this process:
    that would drop SQLite's own locks on it.
    """

    def __init__(self, database: str) -> None:
        self._path = database + ".lock"
        self._fd: int | None = None
        self.is_owner = False

    def take(self) -> bool:
        """Become the owner; False while another one lives."""
        if not self.is_owner:
            self.is_owner = self._lock(_OWNER) and self._wait_for_copying()
            if not self.is_owner:
                self.release()
        return self.is_owner

    def take_copying(self) -> bool:
        """Become the one who copies the log; False while somebody else is."""
        return self._lock(_COPYING)

    def end_copying(self) -> None:
        """Let others copy the log."""
        if self._fd is not None and not self.is_owner:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, _COPYING))

    def _wait_for_copying(self) -> bool:
        pause = threading.Event()
        looks = round(_PATIENCE / _LOOK)
        return any(self._lock(_COPYING) or pause.wait(_LOOK) for _ in range(looks))

    def is_held(self) -> bool:
        """Whether an owner lives; asked without taking the lock."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_RDLCK, _OWNER))
            kind: int = struct.unpack_from(_FLOCK, answer)[0]
            return kind != fcntl.F_UNLCK
        finally:
            os.close(fd)

    def release(self) -> None:
        """Give up every lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.is_owner = False

    def _lock(self, byte: int) -> bool:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, byte))
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: fcntl(2) allows both
            return False
        return True


def _flock(kind: int, byte: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)


class Bell:
    """Where the owner listens: a datagram socket `DATABASE.wake`; a byte says "look, something changed"."""

    def __init__(self, database: str) -> None:
        self._folder = os.path.dirname(database)
        self._name = _socket_name(os.path.basename(database))
        self._directory: int | None = None
        self._ear: socket | None = None
        self._hand: socket | None = None

    def listen(self) -> None:
        """Bind the socket; only the holder of the owner's lock may."""
        if self._ear is not None:
            return
        with suppress(FileNotFoundError):
            os.unlink(self._socket())  # a dead owner's
        ear = _datagrams()
        try:
            ear.bind(self._address())
            os.chmod(self._socket(), 0o600)
        except OSError:
            ear.close()
            raise
        self._ear = ear

    def ring(self) -> None:
        """Wake the owner; nobody there, or one with enough wake-ups waiting already, is no trouble."""
        if self._hand is None:
            self._hand = _datagrams()
        with suppress(OSError):
            self._hand.sendto(b"\1", self._address())

    def fd(self) -> int | None:
        """What becomes readable when somebody rang."""
        return None if self._ear is None else self._ear.fileno()

    def hush(self) -> None:
        """Take in what was rung."""
        if self._ear is None:
            return
        with suppress(BlockingIOError):
            while self._ear.recv(1):
                pass

    def close(self) -> None:
        if self._ear is not None:
            with suppress(OSError):
                os.unlink(self._socket())
            self._ear.close()
        if self._hand is not None:
            self._hand.close()
        if self._directory is not None:
            os.close(self._directory)
        self._ear = self._hand = self._directory = None

    def _socket(self) -> str:
        return os.path.join(self._folder, self._name)

    def _address(self) -> str:
        """A Unix address ends at 107 bytes, a path does not: the folder is named by its descriptor."""
        if self._directory is None:
            self._directory = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{self._name}"


def _datagrams() -> socket:
    import socket  # whoever only reads starts without it

    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    made.setblocking(False)
    return made


def _socket_name(database: str) -> str:
    if len(os.fsencode(database)) <= _LONGEST_NAME:
        return f"{database}.wake"
    return f"{sha256(os.fsencode(database)).hexdigest()[:16]}.wake"
