"""The storage of a JobRunner: found and opened at the first call, and anew in a forked child."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from ..context import asking
from ..errors import ConfigError, UsageError
from ..storage import ClientStorage, open_storage

_left_behind: list[ClientStorage] = []  # opened before a fork: kept, so that nothing closes them here


class Opening:
    """One storage for all threads of a process."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._storage: ClientStorage | None = None

    def storage(self) -> ClientStorage:
        """The storage, open. Raises ConfigError when it is not said which, StorageError when it cannot be."""
        if self._storage is not None and self._process == os.getpid():
            return self._storage
        self._leave_parent()
        with self._lock:
            if self._storage is None:
                self._storage = self._opened()
            return self._storage

    def _opened(self) -> ClientStorage:
        """Inside a task, what its supervisor has open is asked by way of the supervisor."""
        way = asking()
        try:
            url = self._url()
        except ConfigError:
            if way is None:
                raise
            url = way.url
        if way is None or way.url != url:
            _demand_within_reach(url)
            return open_storage(url)
        from ..storage.remote import RemoteStorage

        return RemoteStorage(way)

    def close(self) -> None:
        """Close it; the next call opens it again."""
        self._leave_parent()
        with self._lock:
            storage, self._storage = self._storage, None
        if storage is not None:
            storage.close()

    def _leave_parent(self) -> None:
        """What a parent process has opened is the parent's, and its lock may be held for ever."""
        if self._process == os.getpid():
            return
        if self._storage is not None:
            _left_behind.append(self._storage)
        self._process, self._lock, self._storage = os.getpid(), threading.Lock(), None


def _demand_within_reach(url: str) -> None:
    """What is kept in the memory of a supervisor is not to be had from another process."""
    if url == "memory://":
        raise UsageError(
            "memory:// is the memory of a supervisor: nothing that is enqueued here would reach it",
            help="enqueue from inside its tasks, or write backend: sqlite:///PATH; for tests immediate=True",
        )


def url_of(file: str | None, backend: str | None) -> str:
    """The URL that a JobRunner means: its backend, that of its file, else as the command line finds it.

    Raises ConfigError when there is neither.
    """
    from ..config.discover import backend_of, find_config

    given = backend or (os.environ.get("JOBRUNNER_BACKEND") if file is None else None)
    if given:
        return given
    found = find_config(file, os.environ, os.getcwd())
    if found is None:
        raise ConfigError(
            "no jobs.yaml here, nor in a folder above, nor in ~/.config/jobrunner or /etc/jobrunner",
            help='name it, JobRunner("path/jobs.yaml"), or a storage, JobRunner(backend="sqlite:///jobs.db")',
        )
    return backend_of(found, os.environ)


def absolute_backend(url: str) -> str:
    """The URL with the path of a database counted from the present folder, for good.

    A worker may be in another folder (a task's `cwd`): there, a relative path is that of the supervisor's
    storage when that ends with it.
    """
    from ..place import storage_file

    path, way = storage_file(url), asking()
    if path is None:
        return url
    scheme, _, rest = url.partition("://")
    relative = os.path.normpath(rest.removeprefix("/"))
    if way is not None and not os.path.isabs(relative) and way.url.endswith(f"/{relative}"):
        return way.url
    return f"{scheme}:///{path}"
