"""The URL of the storage: the file's word, or a database beside the file, never by the current folder."""

from __future__ import annotations

import os

from ..errors import UsageError

BACKENDS = ("sqlite", "file", "postgresql", "redis", "rediss", "unix", "memory")
# Scheme -> the package of its storage, in whose `address` such a URL is read.
SERVERS = {
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "postgresql": "postgres",
    "postgres": "postgres",
}


class BackendError(ValueError):
    """A backend that cannot be used; `help` is the next step."""

    def __init__(self, code: str, message: str, *, help: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help


def backend_url(given: str | None, path: str) -> str:
    """The URL in force for the file at an absolute path. Raises BackendError."""
    folder = os.path.dirname(path)
    if given is None:
        stem = os.path.splitext(os.path.basename(path))[0]
        return f"sqlite:///{folder}/.jobrunner/{stem}.db"
    scheme, colon, rest = given.strip().partition("://")
    if colon and scheme in SERVERS:
        return _of_server(scheme, given.strip())
    if colon and scheme not in BACKENDS and _is_foreign(scheme):
        return given.strip()
    if not colon or scheme not in BACKENDS:
        raise BackendError(
            "bad-value",
            f"got {given!r}, expected a URL such as sqlite:///jobs.db or memory://",
            help="" if colon else f"write sqlite:///{given}",
        )
    if scheme == "file":
        return _folder(given, rest, folder)
    return _sqlite(given, rest, folder) if scheme == "sqlite" else "memory://"


def _of_server(scheme: str, given: str) -> str:
    from importlib import import_module  # one of them, and no driver

    try:
        import_module(f"jobrunner.storage.{SERVERS[scheme]}.address").read(given)
    except UsageError as error:
        raise BackendError("bad-value", error.message, help=error.help) from None
    return given


def _is_foreign(scheme: str) -> bool:
    """Whether somebody else's storage goes by this scheme."""
    from importlib.metadata import entry_points

    return bool(entry_points(group="jobrunner.storages", name=scheme))


def _folder(given: str, rest: str, folder: str) -> str:
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path.rstrip("/"):
        raise BackendError(
            "bad-value",
            f"got {given!r}, expected the path of a folder after three slashes",
            help="file:///queue lies beside this file, file:////var/lib/queue is absolute",
        )
    return f"file:///{os.path.normpath(os.path.join(folder, os.path.expanduser(path)))}"


def _sqlite(given: str, rest: str, folder: str) -> str:
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path.endswith("/"):
        raise BackendError(
            "bad-value",
            f"got {given!r}, expected the path of a database after three slashes",
            help="sqlite:///jobs.db lies beside this file, sqlite:////var/lib/jobs.db is absolute",
        )
    return f"sqlite:///{os.path.normpath(os.path.join(folder, os.path.expanduser(path)))}"
