"""What the modules of a file have started when they were imported only to be looked at: it is ended.

A worker that imports them has it for its own life; who only looks leaves nothing behind. It is known by a
mark in its environment, wherever it has gone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from ..execution.environment import OWNER
from ..execution.family import relatives, send


def marked(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that imports modules, for this process."""
    return {**environ, OWNER: _mark(os.getpid())}


def end_what_was_started(pid: int) -> None:
    """KILL what is left of the imports that the process with this pid has asked for."""
    for each in relatives((), lambda mark: mark.owner == _mark(pid)):
        send(each, signal.SIGKILL)


def _mark(pid: int) -> str:
    return f"look-{pid}"
