"""How a worker's process begins and ends, and what it knows of its tasks: shared by the kinds of workers."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from .. import hooks
from . import wire
from .environment import OWNER

HEAR: Final = "jobrunner.execution.listening:hear"  # what a listener worker calls
LEAVING: Final = 5.0  # seconds for what callables have registered for the end of the process
LARGEST_READ: Final = 64 * 1024
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


class Welcome(NamedTuple):
    """The supervisor's first line, and what was read beyond it."""

    settings: dict[str, Any]
    unread: bytes


def begin(link: int, supervisor: int) -> Welcome:
    """Tie this process to its supervisor, put its signals in order, take the first line."""
    os.set_inheritable(link, False)
    die_with_parent(supervisor, signal.SIGTERM)  # a back-up of the reader thread
    for number in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # what the supervisor ignores is inherited over exec
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    faulthandler.enable(2)  # a segfault shows where it was, in the output of the call
    return _welcome(link)


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Let the kernel send this signal at the parent's death; ends this process if that has been already."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _welcome(link: int) -> Welcome:
    read = b""
    while b"\n" not in read:
        more = os.read(link, LARGEST_READ)
        if not more:
            os._exit(1)
        read += more
    first, _, unread = read.partition(b"\n")
    welcome = json.loads(first[2:])
    if welcome["version"] != wire.VERSION:
        sys.exit(f"this interpreter has another version of jobrunner than the supervisor: {sys.executable}")
    sys.path[:0] = welcome["pythonpath"]
    if welcome["added"] is not None:
        forget_path(welcome["added"])
    return Welcome(welcome, unread)


def forget_path(added: str) -> None:
    """PYTHONPATH as it was before the pool put this package in front of it: children do not need that."""
    before = os.environ.get("PYTHONPATH", "").removeprefix(added).removeprefix(os.pathsep)
    if before:
        os.environ["PYTHONPATH"] = before
    else:
        os.environ.pop("PYTHONPATH", None)


def limit_leaving() -> None:
    """Threads and exit handlers that callables left behind get a while, not for ever."""
    last = threading.Timer(LEAVING, os._exit, (0,))
    last.daemon = True
    last.start()


def end_group() -> NoReturn:
    """KILL for this process and the children of its calls."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


class Ears:
    """What this process has told of its receivers."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._told = 0

    def tell(self, call: str) -> None:
        """A callable was imported: if that brought receivers, the supervisor is told of them.

        Those of `executing` are called here.
        """
        if hooks.receivers() > self._told:
            self._told = hooks.receivers()
            wanted = hooks.signals() - {hooks.Signal.EXECUTING}
            self._send(wire.line("G", call.partition(":")[0], wire.packed(sorted(wanted))))


# ---- tasks -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Definition:
    """A task, as this worker knows it."""

    name: str
    call: str
    env: dict[bytes, bytes]  # declared and fixed
    fixed: dict[bytes, bytes]  # what no declaration overrides
    cwd: str
    store_result: bool
    is_hooked: bool = True  # False: of this program itself
    function: Callable[..., object] | None = None


def definition_of(plain: dict[str, object]) -> Definition:
    declared = plain["env"]
    assert isinstance(declared, dict)
    name = str(plain["name"])
    fixed = encoded({"JOBRUNNER_TASK": name, OWNER: plain["owner"]})
    return Definition(
        name=name,
        call=str(plain["call"]),
        env={**encoded(declared), **fixed},
        fixed=fixed,
        cwd=str(plain["cwd"]),
        store_result=bool(plain["store_result"]),
        is_hooked=plain["call"] != HEAR,
    )


def encoded(variables: dict[str, object]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(str(value)) for name, value in variables.items()}
