"""A disk for SQLite that notes what is written and synced, fails when told, and shows what a cut leaves.

SQLite calls the operating system through a table of functions (its VFS, sqlite.org/vfs.html). The one made
here passes everything on to the usual one and notes the order of writes, truncations and syncs of files and
of the folder. From these notes comes what may be on disk when the power goes: everything up to the last sync,
and of what was written since then any part, whatever its order, in blocks of 512 bytes. Names that are new or
gone count from the sync of the folder on, or sooner, in their order.
"""

from __future__ import annotations

import ctypes
import os
import random
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobrunner.storage.sqlite import database

BLOCK = 512  # bytes that reach a disk as a whole
NAME = "noting"  # of the VFS
_LIBRARIES = ("libsqlite3.so.0", "libsqlite3.so")
_IOERR_WRITE, _IOERR_FSYNC, _IOERR_TRUNCATE, _FULL = 778, 1034, 1546, 13
_OPEN_CREATE = 0x4

_pointer, _int, _long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_WRITE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _long)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _pointer, _long)
_SYNC = ctypes.CFUNCTYPE(_int, _pointer, _int)
_CLOSE = ctypes.CFUNCTYPE(_int, _pointer)
# The name stays where it is, for SQLite keeps the pointer.
_OPEN = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _pointer, _int, ctypes.POINTER(_int))
_DELETE = ctypes.CFUNCTYPE(_int, _pointer, ctypes.c_char_p, _int)
_FOLDER = ctypes.CFUNCTYPE(_int, ctypes.c_char_p, ctypes.POINTER(_int))
_SET_CALL = ctypes.CFUNCTYPE(_int, _pointer, ctypes.c_char_p, _pointer)
_GET_CALL = ctypes.CFUNCTYPE(_pointer, _pointer, ctypes.c_char_p)


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("version", _int),
        *((name, _pointer) for name in ("close", "read", "write", "truncate", "sync", "size", "lock")),
        *((name, _pointer) for name in ("unlock", "reserved", "control", "sector", "traits")),
        *(
            (name, _pointer)
            for name in ("shm_map", "shm_lock", "shm_barrier", "shm_unmap", "fetch", "unfetch")
        ),
    ]


class _File(ctypes.Structure):
    """sqlite3_file: what begins with its methods."""

    _fields_ = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = [
        *((name, _int) for name in ("version", "file_size", "longest_path")),
        ("following", _pointer),
        ("name", ctypes.c_char_p),
        ("data", _pointer),
        *((name, _pointer) for name in ("open", "delete", "access", "full_path", "dl_open", "dl_error")),
        *((name, _pointer) for name in ("dl_sym", "dl_close", "randomness", "sleep", "time", "last_error")),
        *((name, _pointer) for name in ("time64", "set_call", "get_call", "next_call")),
    ]


class Note(NamedTuple):
    """One thing that was asked of the disk."""

    what: str  # write, truncate, sync: of a file; name, unname, folder: of the folder
    file: int = 0  # a number of its own, whatever it is called
    at: int = 0  # where; or the new size
    data: bytes = b""
    name: str = ""


Fail = Callable[[str], int]  # (write | truncate | sync) -> the error to answer with; 0: none


def _never(_what: str) -> int:
    return 0


@dataclass
class Disk:
    """The notes of one folder."""

    folder: Path
    notes: list[Note] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)  # as the running processes see them
    fail: Fail = _never
    _files: int = 0

    def named(self, path: str, *, other: str | None = None) -> None:
        """A name is new: of a new file, or of the one that has another name already."""
        if not self._is_here(path):
            return
        name = os.path.basename(path)
        self._files += other is None
        number = self._files if other is None else self.names[os.path.basename(other)]
        self.names[name] = number
        self.notes.append(Note("name", number, name=name))

    def unnamed(self, path: str) -> None:
        """A name is gone."""
        if self._is_here(path) and self.names.pop(os.path.basename(path), None) is not None:
            self.notes.append(Note("unname", name=os.path.basename(path)))

    def note(self, what: str, file: int = 0, at: int = 0, data: bytes = b"") -> None:
        self.notes.append(Note(what, file, at, data))

    def number(self, path: str) -> int | None:
        """Of a file of this folder whose bytes count."""
        if not self._is_here(path) or path.endswith("-shm"):
            return None
        return self.names.get(os.path.basename(path))

    def _is_here(self, path: str) -> bool:
        return os.path.dirname(path) == str(self.folder)


# --- what a power cut leaves ------------------------------------------------------------------------


Keep = Callable[[Note], bytes | None]  # what of an unsynced write is on disk; None: nothing


def left(notes: list[Note], keep: Keep, names_kept: float) -> dict[str, bytes]:
    """The files of the folder after the power went behind these notes."""
    files = _Files()
    for note in notes:
        files.take(note)
    return files.left(keep, names_kept)


class _Files:
    """What is on disk for certain, and what may be."""

    def __init__(self) -> None:
        self.certain: dict[int, bytearray] = {}
        self.pending: dict[int, list[Note]] = {}
        self.names: dict[str, int] = {}
        self.unsure: list[Note] = []

    def take(self, note: Note) -> None:
        if note.what == "folder":
            for each in self.unsure:
                _rename(self.names, each)
            self.unsure = []
        elif note.what in ("name", "unname"):
            self.unsure.append(note)
        elif note.what == "sync":
            for each in self.pending.pop(note.file, []):
                _apply(self.certain.setdefault(note.file, bytearray()), each, each.data)
        else:
            self.pending.setdefault(note.file, []).append(note)

    def left(self, keep: Keep, names_kept: float) -> dict[str, bytes]:
        names = dict(self.names)
        for note in self.unsure[: round(len(self.unsure) * names_kept)]:
            _rename(names, note)
        return {name: self._bytes(number, keep) for name, number in names.items()}

    def _bytes(self, number: int, keep: Keep) -> bytes:
        found = bytearray(self.certain.get(number, b""))
        for note in self.pending.get(number, ()):
            kept = keep(note)
            if kept is not None:
                _apply(found, note, kept)
        return bytes(found)


def _rename(names: dict[str, int], note: Note) -> None:
    if note.what == "name":
        names[note.name] = note.file
    else:
        names.pop(note.name, None)


def _apply(content: bytearray, note: Note, data: bytes) -> None:
    if note.what == "truncate":
        del content[note.at :]
        return
    content.extend(bytes(max(0, note.at - len(content))))
    content[note.at : note.at + len(data)] = data


def nothing_more(_note: Note) -> bytes | None:
    """The cruellest disk: what was not synced is gone."""
    return None


def everything(note: Note) -> bytes | None:
    """As after the death of the processes alone."""
    return note.data


def any_part(chance: random.Random) -> Keep:
    """Some writes, some not, some to a block in the middle of them."""

    def keep(note: Note) -> bytes | None:
        luck = chance.random()
        if luck < 0.4:
            return None
        if luck < 0.8 or not note.data:
            return note.data
        blocks = range(BLOCK - note.at % BLOCK, len(note.data) + BLOCK, BLOCK)
        return note.data[: chance.choice(blocks)]

    return keep


# --- the VFS -----------------------------------------------------------------------------------------


@contextmanager
def noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Every database that the project opens within the block is noted. Skips where that cannot be."""
    disk = Disk(folder)
    library = _library()
    vfs = _Noting(library, disk)
    vfs.register()
    try:
        with monkeypatch.context() as patched:
            _note_names(patched, disk)
            real = database._opened
            patched.setattr(
                database, "_opened", lambda path, how, patience: real(path, f"{how}&vfs={NAME}", patience)
            )
            yield disk
    finally:
        vfs.unregister()


def _library() -> Any:
    """The very library that Python's sqlite3 uses."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.sqlite3_libversion.restype = ctypes.c_char_p
        if library.sqlite3_libversion().decode() == sqlite3.sqlite_version:
            return library
    pytest.skip("Python's SQLite is no shared library of its own here: nobody can note what it writes")


def _note_names(patched: pytest.MonkeyPatch, disk: Disk) -> None:
    """What the storage itself does to names, by the functions of `os`."""
    real_open, real_link, real_unlink, real_fsync = os.open, os.link, os.unlink, os.fsync

    def opened(path: Any, flags: int, *more: Any, **given: Any) -> int:
        is_new = bool(flags & os.O_CREAT) and not os.path.exists(path)
        fd = real_open(path, flags, *more, **given)
        if is_new:
            disk.named(os.fspath(path))
        return fd

    def linked(old: Any, new: Any, **given: Any) -> None:
        real_link(old, new, **given)
        disk.named(os.fspath(new), other=os.fspath(old))

    def unlinked(path: Any, **given: Any) -> None:
        real_unlink(path, **given)
        disk.unnamed(os.fspath(path))

    def synced(fd: int) -> None:
        real_fsync(fd)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            disk.note("folder")

    for name, function in (("open", opened), ("link", linked), ("unlink", unlinked), ("fsync", synced)):
        patched.setattr(os, name, function)


class _Noting:
    """The VFS. What C calls lives as long as this object."""

    def __init__(self, library: Any, disk: Disk) -> None:
        self._library = library
        self._disk = disk
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._real = library.sqlite3_vfs_find(None).contents
        self._vfs = _Vfs.from_buffer_copy(self._real)
        self._vfs.following, self._vfs.name = None, NAME.encode()
        self._calls = [_OPEN(self._open), _DELETE(self._delete), _FOLDER(self._open_folder)]
        self._vfs.open, self._vfs.delete = (_address(each) for each in self._calls[:2])
        self._methods: dict[int, _Methods] = {}  # by the address of the real ones
        self._functions: list[Any] = []
        self._numbers: dict[int, int] = {}  # of the files open, by the address of their handle
        self._real_open = _OPEN(self._real.open)
        self._real_delete = _DELETE(self._real.delete)
        self._real_folder = _FOLDER(
            _GET_CALL(self._real.get_call)(ctypes.addressof(self._real), b"openDirectory")
        )

    def register(self) -> None:
        assert self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 0) == 0
        self._set_folder_call(_address(self._calls[2]))

    def unregister(self) -> None:
        self._set_folder_call(None)
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def _set_folder_call(self, function: int | None) -> None:
        """SQLite syncs a folder right after it has opened it by this call, and opens it for nothing else."""
        set_call = _SET_CALL(self._real.set_call)
        assert set_call(ctypes.addressof(self._real), b"openDirectory", function) == 0

    def _open_folder(self, path: bytes, fd: Any) -> int:
        answer = int(self._real_folder(path, fd))
        if os.path.dirname(os.fsdecode(path)) == str(self._disk.folder):
            self._disk.note("folder")
        return answer

    def _open(self, vfs: int, name: int | None, file: int, flags: int, given: Any) -> int:
        path = "" if name is None else os.fsdecode(ctypes.string_at(name))
        is_new = bool(flags & _OPEN_CREATE) and bool(path) and not os.path.exists(path)
        answer = int(self._real_open(vfs, name, file, flags, given))
        if answer == 0:
            if is_new:
                self._disk.named(path)
            number = self._disk.number(path)
            if number is not None:
                self._numbers[file] = number
                handle = _File.from_address(file)
                handle.methods = ctypes.pointer(self._noting(handle.methods.contents))
        return answer

    def _delete(self, vfs: int, name: bytes, syncs: int) -> int:
        answer = int(self._real_delete(vfs, name, syncs))
        if answer == 0:
            self._disk.unnamed(os.fsdecode(name))
            if syncs:
                self._disk.note("folder")
        return answer

    def _noting(self, real: _Methods) -> _Methods:
        """The methods of a file, those that write noted."""
        address = ctypes.addressof(real)
        if address not in self._methods:
            made = _Methods.from_buffer_copy(real)
            made.write = self._kept(_WRITE(self._writing(_WRITE(real.write))))
            made.truncate = self._kept(_TRUNCATE(self._truncating(_TRUNCATE(real.truncate))))
            made.sync = self._kept(_SYNC(self._syncing(_SYNC(real.sync))))
            made.close = self._kept(_CLOSE(self._closing(_CLOSE(real.close))))
            self._methods[address] = made
        return self._methods[address]

    def _kept(self, function: Any) -> int:
        self._functions.append(function)
        return _address(function)

    def _writing(self, real: Any) -> Callable[[int, int, int, int], int]:
        def write(file: int, data: int, length: int, at: int) -> int:
            if error := self._disk.fail("write"):
                return error
            answer = int(real(file, data, length, at))
            self._disk.note("write", self._numbers[file], at, ctypes.string_at(data, length))
            return answer

        return write

    def _truncating(self, real: Any) -> Callable[[int, int], int]:
        def truncate(file: int, size: int) -> int:
            if error := self._disk.fail("truncate"):
                return error
            answer = int(real(file, size))
            self._disk.note("truncate", self._numbers[file], size)
            return answer

        return truncate

    def _syncing(self, real: Any) -> Callable[[int, int], int]:
        def sync(file: int, how: int) -> int:
            if error := self._disk.fail("sync"):
                return error
            answer = int(real(file, how))
            self._disk.note("sync", self._numbers[file])
            return answer

        return sync

    def _closing(self, real: Any) -> Callable[[int], int]:
        def close(file: int) -> int:
            self._numbers.pop(file, None)
            answer: int = real(file)
            return answer

        return close


def _address(function: Any) -> int:
    found = ctypes.cast(function, _pointer).value
    assert found is not None
    return found


def failing(every: int, what: str, *, full: bool) -> Fail:
    """Every n-th call of this kind fails: the disk is broken, or full."""
    errors = {"write": _IOERR_WRITE, "truncate": _IOERR_TRUNCATE, "sync": _IOERR_FSYNC}
    count = 0

    def fail(called: str) -> int:
        nonlocal count
        if called != what:
            return 0
        count += 1
        if count % every:
            return 0
        return _FULL if full and what == "write" else errors[what]

    return fail


def put(files: Mapping[str, bytes], folder: Path) -> None:
    """Write what a power cut has left into a folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
