"""How a command's process comes to be: started as it is, or by way of the launcher.

The launcher (`launcher.py`) is taken only for a task that has `user`, `group`, `umask`, `nice` or `limits`:
it costs the start of a bare interpreter, some 15 ms.
"""

from __future__ import annotations

import errno
import marshal
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ..durations import SECOND
from ..plan import Limits, Task
from .forking import Launch
from .identity import Identity

RESOURCES: Final[Mapping[str, int]] = {
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "cpu": resource.RLIMIT_CPU,
    "memory": resource.RLIMIT_AS,
    "fsize": resource.RLIMIT_FSIZE,
    "core": resource.RLIMIT_CORE,
}
_LAUNCHER: Final = str(Path(__file__).with_name("launcher.py"))
_NOTHING: Final = (None, None, None, None, Limits())
_LARGEST_REASON: Final = 4096


def needs_launcher(task: Task) -> bool:
    """Whether something is to be set that only the process itself can set."""
    return (task.user, task.group, task.umask, task.nice, task.limits) != _NOTHING


def launch_of(
    task: Task,
    argv: list[str],
    environment: Mapping[str, str],
    *,
    identity: Identity | None,
    opened: list[int],
) -> Launch:
    """How to start this command; descriptors that the caller is to close are put into `opened`."""
    if not needs_launcher(task):
        return Launch(argv, environment, task.cwd)
    specification = os.memfd_create("launch")
    opened.append(specification)
    with open(specification, "wb", closefd=False) as file:
        marshal.dump(_wanted(task, argv, environment, identity), file)
    os.lseek(specification, 0, os.SEEK_SET)
    status, theirs = os.pipe2(os.O_CLOEXEC)
    opened += (status, theirs)
    os.set_blocking(status, False)
    launcher = [sys.executable, "-I", "-S", _LAUNCHER, str(specification), str(theirs)]
    return Launch(launcher, _own_environment(environment), "/", (specification, theirs), status)


def _wanted(
    task: Task, argv: list[str], environment: Mapping[str, str], identity: Identity | None
) -> dict[str, object]:
    limits = [
        (name, number, value // SECOND if name == "cpu" else value)
        for name, number in RESOURCES.items()
        if (value := getattr(task.limits, name)) is not None
    ]
    return {
        "argv": [os.fsencode(each) for each in argv],
        "environment": {os.fsencode(name): os.fsencode(text) for name, text in environment.items()},
        "cwd": os.fsencode(task.cwd),
        "umask": task.umask,
        "nice": task.nice,
        "limits": limits,
        "identity": None if identity is None else (identity.uid, identity.gid, list(identity.groups)),
        "doing": "",
    }


def _own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the launcher itself gets: the marks by which it is found, and the way to its libraries.

    Nothing that a file declares: a user's LD_PRELOAD is not for a process that is still root.
    """
    marks = {name: text for name, text in environment.items() if name.startswith("JOBRUNNER_")}
    libraries = os.environ.get("LD_LIBRARY_PATH")
    return marks if libraries is None else {**marks, "LD_LIBRARY_PATH": libraries}


# ---- why it failed ---------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """What the launcher could not do: `doing` is the key concerned, "" for the program itself."""

    doing: str
    error: OSError


def failure_in(status: int) -> Failure | None:
    """What the launcher has written before it ended; None when it has become the command."""
    try:
        written = os.read(status, _LARGEST_REASON)
    except BlockingIOError:
        return None
    if not written:
        return None
    doing, number, text = marshal.loads(written)  # noqa: S302 - from our own launcher
    return Failure(doing, OSError(number, os.strerror(number) if number else text))


def words_of(failure: Failure, task: Task) -> str:
    """Why a key of a task could not be followed."""
    reason = (failure.error.strerror or "").lower()
    who = f" as user {task.user}" if task.user else ""
    if failure.doing == "cwd":
        return f"cannot run in the folder {task.cwd}{who}: {reason}"
    if failure.doing == "user":
        wanted = " and ".join(
            f"{key} {value}" for key, value in (("user", task.user), ("group", task.group)) if value
        )
        return f"cannot run as {wanted}: {reason}"
    key = failure.doing if failure.doing == "nice" else f"limits.{failure.doing}"
    return f"cannot set {key}: {reason}"


def denied(failure: Failure) -> bool:
    """Whether the user may not run the program: root, who asks, could not see that for itself."""
    return failure.doing == "" and failure.error.errno == errno.EACCES
