"""Whether files still hold what they held: a hash of the content of all of them, whatever their times say."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from .digest import sha256

LARGEST = 16 * 1024 * 1024  # bytes; no file of a configuration may be larger


def digest(content: bytes) -> bytes:
    """Of one file's content."""
    return sha256(content).digest()


def combined(digests: Mapping[str, bytes]) -> str:
    """Of files by absolute path; one that is not there is not among them."""
    whole = sha256()
    for path in sorted(digests):
        whole.update(os.fsencode(path) + b"\0" + digests[path])
    return whole.hexdigest()


def fingerprint(watched: Iterable[str]) -> str:
    """Of the files that these paths and patterns name now."""
    found = ((path, _content(path)) for path in _named(watched))
    return combined({path: digest(content) for path, content in found if content is not None})


def folders_of(watched: Iterable[str]) -> list[str]:
    """The folders in which something changes when one of the files does, the nearest ones that are there.

    A file that is reached through symbolic links is changed by a change of each of them: a ConfigMap is
    mounted like that, and a release is switched like that.
    """
    folders = {folder for path in watched for folder in _on_the_way(path)}
    return sorted({_nearest(folder) for folder in folders})


def _named(watched: Iterable[str]) -> Iterator[str]:
    for path in dict.fromkeys(watched):
        if glob.has_magic(path) and not os.path.lexists(path):
            yield from glob.glob(path, recursive=True)
        else:
            yield path


def _content(path: str) -> bytes | None:
    """What a regular file holds; None for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        parts, size = [], 0
        while size <= LARGEST and (part := os.read(fd, 1 << 20)):
            parts.append(part)
            size += len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def _on_the_way(path: str) -> Iterator[str]:
    """The folder of a path, and those of the links that it leads through."""
    for _ in range(40):  # as many links as the kernel follows
        link = next((each for each in _prefixes(path) if os.path.islink(each)), None)
        if link is None:
            break
        yield os.path.dirname(link)
        rest = os.path.relpath(path, link)
        target = os.path.join(os.path.dirname(link), _target(link))
        path = os.path.normpath(target if rest == "." else os.path.join(target, rest))
    yield os.path.dirname(path)


def _prefixes(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(2, len(parts) + 1))


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # it has just been replaced: the next look sees what is there then
        return ""


def _nearest(folder: str) -> str:
    """The folder, or the nearest one above that is there: that of a pattern may have to be made first."""
    while glob.has_magic(folder) and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder)
    return folder
