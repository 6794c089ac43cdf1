"""One invocation of the command line: what the global options said, and what follows from them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, NoReturn

from jobrunner.clock import Clock, SystemClock
from jobrunner.errors import ConfigError, NotFound, StorageError, StorageMissing, StorageRefused

if TYPE_CHECKING:  # what only some commands need is imported when they ask: `--help` is felt
    from jobrunner.catalogue import Catalogue, Entry
    from jobrunner.durations import Micros
    from jobrunner.storage import Storage, Supervisor

    from .screen import Screen


@dataclass(slots=True, kw_only=True)
class Session:
    """What a command needs to know; the fields without a default are set by the global options."""

    config: str | None = None
    backend: str | None = None
    color: str = "auto"
    json: bool = False
    clock: Clock = field(default_factory=SystemClock)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    arguments: tuple[str, ...] = ()  # as typed, for messages
    _url: str | None = None
    _storage: Storage | None = None

    # ---- where

    def config_file(self) -> str:
        """The jobs.yaml that is meant, relative when it lies below here. Raises ConfigError without one."""
        found = self.config_or_none()
        if found is None:
            raise ConfigError(
                "no jobs.yaml here, nor in a folder above, nor in ~/.config/jobrunner or /etc/jobrunner",
                help="make one with: jobrunner init   or name it: jobrunner -c FILE ...",
            )
        near = os.path.relpath(found)
        return found if near.startswith(os.pardir) else near

    def config_or_none(self) -> str | None:
        """The same, or None. Raises ConfigError when a file that was named is not there."""
        from jobrunner.config.discover import find_config

        found = find_config(self.config, self.environ, os.getcwd())
        return None if found is None else str(found)

    def has_file(self) -> bool:
        """Whether a file is to be read beside the storage: not when `--backend` names the storage alone."""
        return self.backend is None and self.config_or_none() is not None

    def url(self) -> str:
        """The URL of the storage: `--backend`, JOBRUNNER_BACKEND, or what the file says (read once)."""
        if self._url is None:
            self._url = self.backend or self.environ.get("JOBRUNNER_BACKEND") or self._url_of_file()
        return self._url

    def _url_of_file(self) -> str:
        from jobrunner.config.discover import backend_of

        return backend_of(self.config_file(), self.environ)

    def place(self) -> str:
        """Where the storage lies, for messages: its file, or its URL."""
        from jobrunner.place import storage_file

        return storage_file(self.url()) or self.place_url()

    def place_url(self) -> str:
        """The URL of the storage, without a password: for people and for `--json`."""
        from jobrunner.place import shown

        return shown(self.url())

    # ---- storage

    def exists(self) -> bool:
        """Whether a storage lies at the URL; where no file tells, it is opened. Raises StorageError then."""
        from jobrunner.place import storage_file

        file = storage_file(self.url())
        if file is not None:
            return _may_be_there(file)
        try:
            self.storage()
        except StorageMissing:
            return False
        return True

    def storage(self, *, create: bool = False) -> Storage:
        """The storage, opened once. Raises StorageError; one of somebody else says so."""
        if self._storage is None:
            from jobrunner.storage import open_storage

            url = self.url()
            if url.startswith("memory:"):
                raise StorageRefused(
                    f"{url} lives in the process that opened it: no other process can see it",
                    help="let backend: name another storage, sqlite:///jobs.db for example",
                )
            try:
                self._storage = open_storage(url, create=create)
            except (StorageError, OSError) as error:
                raise self._explained(url, error) from None
        return self._storage

    def _explained(self, url: str, error: StorageError | OSError) -> StorageError:
        from jobrunner.place import shown, storage_file

        file = storage_file(url)
        owner = None if file is None else _foreign_owner(file)
        if owner is not None:
            import shlex

            command = shlex.join(["sudo", "-u", owner, "jobrunner", *self.arguments])
            return StorageRefused(f"the storage {file} belongs to {owner}", help=command)
        if isinstance(error, StorageError):
            return error
        return StorageRefused(f"cannot open {shown(url)}: {error}")

    @contextmanager
    def closing(self) -> Iterator[Session]:
        """Closes what was opened."""
        try:
            yield self
        finally:
            if self._storage is not None:
                self._storage.close()
                self._storage = None

    # ---- tasks

    def entry(self, name: str) -> Entry:
        """A task of the published catalogue. Raises NotFound with the nearest names."""
        return self.entry_or_none(name) or self._no_such_task(name)

    def entry_or_none(self, name: str) -> Entry | None:
        """The same, or None."""
        return self.storage().entry(name) if self.exists() else None

    def _no_such_task(self, name: str) -> NoReturn:
        from jobrunner.client import unknown_task

        catalogue = self.published()
        if catalogue is not None:
            raise unknown_task(name, catalogue.tasks)
        if self.has_file():
            from .files import plan_of

            plan = plan_of(self)  # a file that no supervisor could start with says so here
            tasks = {**plan.tasks, **plan.pipelines}
            if name not in tasks:
                raise unknown_task(name, tasks)
        raise NotFound(
            f"nobody knows of {name} yet: no supervisor has run on {self.place()}",
            help=f"start it: {self.start_command()}",
        )

    def published(self) -> Catalogue | None:
        """The catalogue in the storage, None when nothing was published yet."""
        return self.storage().catalogue() if self.exists() else None

    def zone(self) -> tzinfo | None:
        """The zone of the file as it was published; None, the machine's, when that is not known."""
        catalogue = self.published()
        return None if catalogue is None else zone_named(catalogue.timezone)

    def is_supervised(self) -> bool:
        """Whether a supervisor is alive on the storage."""
        return bool(self.supervisors())

    def supervisors(self) -> list[Supervisor]:
        """Those that are alive."""
        return [each for each in self.storage().supervisors(self.now()) if each.alive]

    def start_command(self) -> str:
        """The line to type when no supervisor is there."""
        import shlex

        file = self._config_if_any()
        return shlex.join(["jobrunner", "run", file or "jobs.yaml"])

    def _config_if_any(self) -> str | None:
        try:
            return self.config_or_none()
        except ConfigError:
            return None

    # ---- out

    def now(self) -> Micros:
        return self.clock.now()

    def screen(self, zone: tzinfo | None = None) -> Screen:
        """Stdout, for the answer."""
        from .screen import Screen, is_terminal, wants_colour

        tty = is_terminal(sys.stdout)
        colour = wants_colour(self.color, self.environ, tty=tty)
        return Screen(stream=sys.stdout, tty=tty, colour=colour, now=self.now(), zone=zone)


def zone_named(name: str) -> tzinfo | None:
    """A zone by its IANA name; None, the machine's, when this machine does not know it."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _may_be_there(file: str) -> bool:
    """True for a file in a folder that does not let us look, too."""
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _foreign_owner(file: str) -> str | None:
    """The owner of a file or of its nearest visible folder, if that is somebody else who keeps us out."""
    from jobrunner.config.reading import folders_above

    for place in (file, *folders_above(file)):
        try:
            status = os.stat(place)
        except OSError:
            continue
        kept_out = not os.access(place, os.R_OK | os.W_OK | (os.X_OK if place != file else 0))
        return user_name(status.st_uid) if kept_out and status.st_uid != os.geteuid() else None
    return None


def user_name(uid: int) -> str:
    """The name of a user, or `#ID` for one without."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
