"""What SQLite's errors mean for a person: later, or never as it is; and what to do about it."""

from __future__ import annotations

import errno
import os
import sqlite3

from ...errors import StorageError, StorageRefused, StorageUnavailable
from ...machine import process_name

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_FORBIDDEN = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_OUT_OF_REACH = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT}

# What a single row can be guilty of: too long, not encodable, no SQLite type, against a promise.
_POISON_CODES = {
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_RANGE,
}


def primary_code(error: sqlite3.Error) -> int | None:
    """The error's primary result code; None when it comes from Python's side."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_poison(error: Exception) -> bool:
    """Whether the row, and not the storage, is to blame."""
    if isinstance(error, OverflowError | UnicodeError | TypeError | ValueError):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    code = primary_code(error)
    return code in _POISON_CODES or (
        code is None
        and isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.DataError)
    )


def translated(error: sqlite3.Error, path: str, *, patience: float) -> StorageError:
    """The error of the project that says what happened to the database at `path`."""
    code = primary_code(error)
    if code in _BUSY:
        return _locked(path, patience)
    if code in _DAMAGED:
        return damaged(path, str(error))
    if code in _FORBIDDEN:
        return read_only(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return StorageUnavailable(
            f"cannot write {path}: the disk is full", help="make room; work resumes by itself"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return cannot_open(path)
    if code in _OUT_OF_REACH:
        return StorageUnavailable(
            f"cannot reach {path}: {error}", help="look at the disk and at the system's log (dmesg)"
        )
    return StorageRefused(f"{path}: {error}", help="this should not happen: please report it")


def damaged(path: str, what: str) -> StorageRefused:
    return StorageRefused(
        f"{path} is damaged or no database of jobrunner: {what}",
        help=f"keep a copy of it; move it away to start anew, or recover what is left:"
        f" sqlite3 {path} .recover | sqlite3 recovered.db",
    )


def read_only(path: str, what: str) -> StorageRefused:
    return StorageRefused(
        f"cannot write {path}: {what}",
        help=f"file and folder must be writable by uid {os.geteuid()}{_as_owner(path)}",
    )


def cannot_open(path: str) -> StorageError:
    """Nobody can tell from the code alone: look at what lies at the path."""
    if not os.access(os.path.dirname(path), os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        return StorageRefused(
            f"cannot open {path}: no permission for its folder",
            help=f"the folder must be readable and writable by uid {os.geteuid()}{_as_owner(path)}",
        )
    if os.path.exists(path) and not os.access(path, os.R_OK, effective_ids=True):
        return StorageRefused(
            f"cannot open {path}: no permission",
            help=f"it must be readable and writable by uid {os.geteuid()}{_as_owner(path)}",
        )
    return StorageUnavailable(f"cannot open {path}", help="look at the disk, and at the limit of open files")


def beside(path: str, error: OSError) -> StorageError:
    """A file that belongs beside the database (its lock, its socket) cannot be made."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return read_only(os.path.dirname(path), error.strerror or str(error))
    return StorageUnavailable(f"cannot use the folder of {path}: {error.strerror}", help="look at the disk")


def _as_owner(path: str) -> str:
    """The line to type for somebody whose storage this is not."""
    try:
        uid = os.stat(path).st_uid
    except OSError:
        return ""
    if uid == os.geteuid():
        return ""
    return f"; it belongs to another user: sudo -u {_user_name(uid)} jobrunner ..."


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"


def _locked(path: str, patience: float) -> StorageUnavailable:
    holders = [f"pid {pid} ({process_name(pid)})" for pid in lock_holders(path)]
    who = f"it is held by {', '.join(holders)}" if holders else "whoever held it has just let go"
    return StorageUnavailable(
        f"{path} is locked for more than {patience:g} s: {who}",
        help="end whatever holds a transaction open on it (a backup, an sqlite3 shell), then try again",
    )


def lock_holders(path: str) -> list[int]:
    """Who holds a write lock on the database or its index of the log, as far as the kernel tells.

    Source: /proc/locks, see proc(5). Reading it opens neither file: that would drop our own locks.
    """
    files = {_inode(path), _inode(path + "-shm")} - {None}
    try:
        with open("/proc/locks", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = (line.split() for line in lines if " POSIX " in line and " WRITE " in line and "->" not in line)
    pids = {int(words[4]) for words in found if words[5] in files}
    return sorted(pids - {os.getpid()})


def _inode(path: str) -> str | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
