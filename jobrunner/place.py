"""Where the files beside a storage lie: derived from its URL alone, so that every process finds the same."""

from __future__ import annotations

import os


def storage_file(url: str) -> str | None:
    """The database file that a `sqlite:///PATH` URL names, absolute; None for a storage without a file."""
    scheme, _, path = url.partition("://")
    if scheme != "sqlite":
        return None
    return os.path.abspath(path.removeprefix("/"))


def state_folder(url: str) -> str:
    """The folder of the database file, where journal and output lie too.

    A storage without a file has a folder of its own for each process: nobody else can see its runs.
    """
    file = storage_file(url)
    if file is not None:
        return os.path.dirname(file)
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "jobrunner", f"memory-{os.getpid()}")


def output_root(url: str) -> str:
    """The folder below which captured output is kept."""
    return os.path.join(state_folder(url), "output")
