"""Where the files beside a storage lie: derived from its URL alone, so that every process finds the same."""

from __future__ import annotations

import os
import re

LONGEST_NAME = 200  # characters of a folder's name


def storage_file(url: str) -> str | None:
    """The database that `sqlite:///PATH` names, or the folder of `file:///PATH`, absolute; else None."""
    scheme, _, path = url.partition("://")
    if scheme not in ("sqlite", "file"):
        return None
    return os.path.abspath(path.removeprefix("/"))


def state_folder(url: str) -> str:
    """The folder of the storage, where journal and output lie too.

    A storage on a server has a folder of this user's: what runs here is told here, also after a restart.
    One in memory has a folder of its own for each process: nobody else can see its runs.
    """
    file = storage_file(url)
    if file is not None:
        return file if url.startswith("file:") else os.path.dirname(file)
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    is_memory = url.partition("://")[0] == "memory"
    return os.path.join(home, "jobrunner", f"memory-{os.getpid()}" if is_memory else _server_name(url))


def _server_name(url: str) -> str:
    """A file name for a storage on a server: where it lies, whoever may ask there."""
    scheme, _, rest = url.partition("://")
    where, _, query = rest.partition("?")
    names = [
        each for each in query.split("&") if each.partition("=")[0] in ("namespace", "host", "port", "dbname")
    ]
    kind = {"postgres": "postgresql", "rediss": "redis"}.get(scheme, scheme)
    words = [kind, where.rpartition("@")[2], *sorted(names)]
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", "_".join(words))[:LONGEST_NAME]


def shown(url: str) -> str:
    """The URL as people may see it: without the password."""
    scheme, separator, rest = url.partition("://")
    where, mark, query = rest.partition("?")
    user, at, server = where.rpartition("@")
    if ":" in user:
        user = f"{user.partition(':')[0]}:***"
    query = re.sub(r"(?i)(^|&)((?:ssl)?password)=[^&#]*", r"\1\2=***", query)
    return f"{scheme}{separator}{user}{at}{server}{mark}{query}"


def output_root(url: str) -> str:
    """The folder below which captured output is kept."""
    return os.path.join(state_folder(url), "output")
