"""Starting a process: as `Popen` does it, without what nobody here asks of it.

The loop starts commands, and ticks wait for the loop: `Popen` takes twice as long as the kernel needs. The
call below is its own, in C: a vfork, for which no large supervisor has to be copied; a session; descriptors;
and a pipe that tells why the program could not be executed. It is not public: a Python that is not known here
is asked by way of `Popen`.
"""

from __future__ import annotations

import _posixsubprocess
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

_IS_KNOWN: Final = sys.version_info < (3, 15)
_MAY_VFORK: Final = (True,) if sys.version_info < (3, 14) else ()  # since then it always may
_fork_exec: Callable[..., int] = _posixsubprocess.fork_exec
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_LARGEST_FAILURE: Final = 4096
_FIRST_FREE: Final = 3  # after the streams


class Launch(NamedTuple):
    """What a process is to become. `status` is the reading end of the launcher's pipe, -1 without one."""

    argv: list[str]
    environment: Mapping[str, str]
    cwd: str
    passed: tuple[int, ...] = ()
    status: int = -1


class Streams(NamedTuple):
    """The descriptors that become stdin, stdout and stderr; -1: this process's own."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


def start(launch: Launch, streams: Streams, *, is_leader: bool) -> int:
    """Start a program, with these descriptors and no others; gives its pid. `is_leader`: in a new session.

    Whoever calls waits for its end. Raises OSError, with the folder or the program as its `filename`, and
    ValueError for texts that no program can be given.
    """
    if not _IS_KNOWN:
        return _by_popen(launch, streams, is_leader=is_leader)
    told, tell = _pipe()
    try:
        try:
            pid = _fork(launch, streams, (told, tell), is_leader=is_leader)
        finally:
            os.close(tell)
        failure = _all_of(told)
    finally:
        os.close(told)
    if failure:
        os.waitid(os.P_PID, pid, os.WEXITED)
        raise _error(failure, launch)
    return pid


def _fork(launch: Launch, streams: Streams, pipe: tuple[int, int], *, is_leader: bool) -> int:
    # No user, group or preexec_fn: with one of them it forks, which costs ten times as much.
    return _fork_exec(
        launch.argv,
        _candidates(launch.argv[0], launch.environment),
        True,  # close all other descriptors
        tuple(sorted((*launch.passed, pipe[1]))),
        launch.cwd,
        [f"{name}={text}".encode(_ENCODING, _ERRORS) for name, text in launch.environment.items()],
        *(streams.stdin, -1, -1, streams.stdout, -1, streams.stderr),
        *pipe,
        True,  # default signals for those that Python ignores
        is_leader,
        *(-1, None, None, None, -1),  # group of processes, group, groups, user, umask
        None,  # preexec_fn
        *_MAY_VFORK,
    )


def _candidates(program: str, environment: Mapping[str, str]) -> list[bytes]:
    if "/" in program:
        return [os.fsencode(program)]
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    paths = [f"{folder}/{program}" if folder else program for folder in folders]
    return os.fsencode("\0".join(paths)).split(b"\0")


def _pipe() -> tuple[int, int]:
    """A pipe whose writing end is none of the streams, should one of these be closed here."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    if tell < _FIRST_FREE:
        low, tell = tell, fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
        os.close(low)
    return told, tell


def _all_of(fd: int) -> bytes:
    read = part = os.read(fd, _LARGEST_FAILURE)
    while part:
        part = os.read(fd, _LARGEST_FAILURE)
        read += part
    return read


def _error(failure: bytes, launch: Launch) -> OSError:
    """What the child has written: `OSError:2:` of its exec, `OSError:2:noexec` before it (of chdir)."""
    _, number, words = failure.decode("ascii", "backslashreplace").split(":", 2)
    found = int(number, 16)
    where = launch.cwd if words.startswith("noexec") else launch.argv[0]
    return OSError(found, os.strerror(found), where)


def _by_popen(launch: Launch, streams: Streams, *, is_leader: bool) -> int:
    stdin, stdout, stderr = (None if each < 0 else each for each in streams)
    process = subprocess.Popen(
        launch.argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=launch.cwd,
        env=launch.environment,
        start_new_session=is_leader,
        pass_fds=launch.passed,
    )
    process.returncode = 0  # or it would wait for it when it is thrown away
    return process.pid
