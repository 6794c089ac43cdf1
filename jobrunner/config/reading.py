"""Reads a configuration file through one descriptor, after looking at what that descriptor is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..durations import format_size
from .problems import LINE_BREAKS, Findings, Place

LARGEST: Final = 16 * 1024 * 1024  # bytes
_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Source(NamedTuple):
    """A file that was read: the name by which problems know it, its absolute path, and its content."""

    name: str
    path: str
    content: bytes
    text: str

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)


def read_source(path: str, name: str, findings: Findings, *, at: Place | None = None) -> Source | None:
    """The file at `path`; None when it cannot be used, which is then among the findings.

    `at` is the place that names the file, where a missing one is reported; None: the file itself.
    """
    place = at or Place(name)
    try:
        # O_NONBLOCK: opening a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        findings.unreadable(place, *_cannot_open(name, error))
        return None
    try:
        content = _content(descriptor, path, name, place, findings)
    except OSError as error:
        findings.unreadable(place, "file-unreadable", f"cannot read {name}: {error.strerror}")
        return None
    finally:
        os.close(descriptor)
    return None if content is None else _decoded(content, os.path.abspath(path), name, findings)


def _cannot_open(name: str, error: OSError | ValueError) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "file-missing", f"there is no file {name}"
    if isinstance(error, PermissionError):
        return "file-unreadable", f"cannot read {name}: {_who()} is not allowed to"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return "file-unreadable", f"cannot open {name}: {reason}"


def _who() -> str:
    return f"user {os.geteuid()}"


def _content(descriptor: int, path: str, name: str, place: Place, findings: Findings) -> bytes | None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        findings.unreadable(place, "file-not-regular", f"{name} is {kind}, expected a regular file")
        return None
    for message, hint in intruders(descriptor, path, name):
        if os.geteuid() == 0:
            findings.error(place, "file-writable-by-others", message, hint=hint)
        else:
            findings.warning(place, "file-writable-by-others", message, hint=hint)
    content = b"" if status.st_size > LARGEST else _all_of(descriptor)
    if status.st_size > LARGEST or len(content) > LARGEST:
        findings.unreadable(
            place, "file-too-large", f"{name} is larger than {format_size(LARGEST)}, which is the limit"
        )
        return None
    return content


def _all_of(descriptor: int) -> bytes:
    parts, size = [], 0
    while size <= LARGEST and (part := os.read(descriptor, 1 << 20)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def intruders(descriptor: int, path: str, name: str) -> Iterator[tuple[str, str]]:
    """What lets other users change an open file: itself, or a folder above it that is not sticky.

    What is written in the file is run, so whoever can write it can run anything. Where nothing can be
    written, modes say nothing: a ConfigMap of Kubernetes is a folder of mode 0777, mounted read-only.
    """
    status = os.fstat(descriptor)
    may_write = status.st_mode & stat.S_IWOTH or _written_by_group(status)
    if may_write and not _is_read_only(descriptor):
        yield f"{name} can be written by other users", f"chmod go-w {name}"
    given = folders_above(os.path.abspath(path))
    real = folders_above(os.readlink(f"/proc/self/fd/{descriptor}"))
    for folder in dict.fromkeys([*given, *real]):
        above = os.stat(folder)
        if above.st_mode & stat.S_ISVTX:
            continue
        near = folder in (given[0], real[0])
        may_write = above.st_mode & stat.S_IWOTH or (near and _written_by_group(above))
        if may_write and not _is_read_only(folder):
            yield f"{name} lies below {folder}, which other users can write", f"chmod go-w {folder}"


def folders_above(path: str) -> list[str]:
    """The folders above an absolute path, the nearest first."""
    folders = [os.path.dirname(path)]
    while (above := os.path.dirname(folders[-1])) != folders[-1]:
        folders.append(above)
    return folders


def _is_read_only(place: int | str) -> bool:
    """Whether it lies on a file system that is mounted read-only."""
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def _written_by_group(status: os.stat_result) -> bool:
    """A group other than root's and the user's own counts as others."""
    return bool(status.st_mode & stat.S_IWGRP) and status.st_gid not in (0, os.getegid())


def _decoded(content: bytes, path: str, name: str, findings: Findings) -> Source | None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        findings.unreadable(
            place_of_index(name, before, len(before)),
            "file-not-utf8",
            f"byte 0x{content[error.start]:02x} is not UTF-8, the encoding of this file",
            hint=f"convert it: iconv -f latin1 -t utf-8 {name}",
        )
        return None
    return Source(name=name, path=path, content=content, text=text)


def place_of_index(name: str, text: str, index: int) -> Place:
    """The line and column of a character of a text."""
    breaks = list(LINE_BREAKS.finditer(text, 0, index))
    start = breaks[-1].end() if breaks else 0
    return Place(name, len(breaks) + 1, index - start + 1)
