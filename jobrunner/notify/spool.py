"""The notices that are not delivered yet, a file each: they outlive the supervisor that wrote them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..digest import sha256
from ..plain import from_plain, to_plain
from . import Notice

FOLDER = "notices"
MOST_SHOWN = 1000  # bytes of a damaged file


class Damaged(NamedTuple):
    """A file that held no notice."""

    file: str
    error: str
    content: str  # its beginning


class Left(NamedTuple):
    """What is in the spool of others: notices, the oldest first, and files that hold none."""

    notices: list[Notice]
    damaged: list[Damaged]


class Spool:
    """A folder of notices (made when the first one comes, mode 0700); any thread may write."""

    def __init__(self, state_folder: str) -> None:
        self._folder = Path(state_folder) / FOLDER

    def write(self, notice: Notice) -> None:
        """Keep this notice in the place of the one with its key. Raises OSError."""
        path = self._path(notice)
        fresh = path.with_suffix(".new")
        fd = self._opened(fresh)
        try:
            os.write(fd, json.dumps(to_plain(notice)).encode())
        finally:
            os.close(fd)
        os.rename(fresh, path)  # a process that dies here leaves the old notice whole

    def _opened(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)

    def remove(self, notice: Notice) -> None:
        """Forget this notice."""
        with suppress(OSError):
            self._path(notice).unlink()

    def left_by_others(self, alive: Collection[str]) -> Left:
        """What supervisors have left that are not alive; what is damaged is removed, whosever it was."""
        found = [each for path in self._folder.glob("*.json") if (each := _read(path)) is not None]
        notices = [each for each in found if isinstance(each, Notice) and each.owner not in alive]
        notices.sort(key=lambda notice: notice.born_at)
        return Left(notices, [each for each in found if isinstance(each, Damaged)])

    def close(self) -> None:
        """Remove the folder, if nothing is left in it."""
        with suppress(OSError):
            self._folder.rmdir()

    def _path(self, notice: Notice) -> Path:
        whose = "\0".join((*notice.key, notice.owner))  # of a pipeline, several may have one
        name = sha256(whose.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{name[:32]}.json"


def _read(path: Path) -> Notice | Damaged | None:
    """The notice in this file; None when somebody has delivered it meanwhile."""
    content = b""
    try:
        content = path.read_bytes()
        return from_plain(Notice, json.loads(content))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        path.unlink(missing_ok=True)
        return Damaged(
            str(path), f"{type(error).__name__}: {error}", content[:MOST_SHOWN].decode("utf-8", "replace")
        )
    except OSError:
        return None
