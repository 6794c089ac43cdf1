"""The notices that are not delivered yet, a file each: they outlive the supervisor that wrote them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from ..digest import sha256
from ..plain import from_plain, to_plain
from . import Notice

FOLDER = "notices"


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

    def left_by_others(self, alive: Collection[str]) -> list[Notice]:
        """The notices of supervisors that are not alive; what is damaged is removed."""
        return [notice for notice in self.notices() if notice.owner not in alive]

    def notices(self) -> Iterator[Notice]:
        """All notices, the oldest first."""
        found = [notice for path in self._folder.glob("*.json") if (notice := _read(path)) is not None]
        yield from sorted(found, key=lambda notice: notice.born_at)

    def close(self) -> None:
        """Remove the folder, if nothing is left in it."""
        with suppress(OSError):
            self._folder.rmdir()

    def _path(self, notice: Notice) -> Path:
        name = sha256("\0".join(notice.key).encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{name[:32]}.json"


def _read(path: Path) -> Notice | None:
    try:
        return from_plain(Notice, json.loads(path.read_bytes()))
    except (ValueError, TypeError, AttributeError, KeyError):
        path.unlink(missing_ok=True)
    except OSError:  # somebody delivered it meanwhile
        pass
    return None
