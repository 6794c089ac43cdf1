"""The clerk: takes questions from a socket, and answers each in a fork that ends with its answer.

Nothing of a file is ever read in this process: it only imports, so that its forks need not.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

from ..execution.start import die_with_parent
from .aftermath import end_what_was_started

Main = Callable[[list[str]], int]

MOST: Final = 65536  # bytes of one question
NEEDS: Final = {"compile": "compile", "look": "looked"}  # by the first argument: what its answer imports


class _Work(NamedTuple):
    """A fork that answers."""

    number: int
    pid: int


def stay(link: socket.socket, main: Main) -> NoReturn:
    """Answer until nobody can ask any more; then end, with everything that is under way."""
    clerk = _Clerk(link, main)
    clerk.poll.register(link, select.POLLIN)
    while all(clerk.turn(fd) for fd, _ in clerk.poll.poll()):
        pass
    clerk.end(*clerk.works)
    for work in clerk.works.values():
        end_what_was_started(work.pid)
    os._exit(0)


class _Clerk:
    def __init__(self, link: socket.socket, main: Main) -> None:
        self._link = link
        self._main = main
        self.works: dict[int, _Work] = {}  # by pidfd
        self.poll = select.poll()

    def turn(self, fd: int) -> bool:
        """Something has come from here; whether to go on."""
        if fd != self._link.fileno():
            self._tell_end(fd)
            return True
        message, files, _, _ = socket.recv_fds(self._link, MOST, 3)
        if message:
            self._take(json.loads(message), files)
        return bool(message)

    def _take(self, order: dict[str, object], files: list[int]) -> None:
        if "end" in order:
            self.end(*(fd for fd, work in self.works.items() if work.number == order["end"]))
        else:
            self._begin(order, files)

    def _begin(self, order: dict[str, object], files: list[int]) -> None:
        number, arguments = order["number"], order["arguments"]
        if not isinstance(number, int) or not isinstance(arguments, list):
            raise TypeError(order)
        _prepare(arguments)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._link.close()
            _answer(self._main, arguments, files, parent)
        for file in files:
            os.close(file)
        self._tell({"number": number, "begun": True})
        pidfd = os.pidfd_open(pid)
        self.works[pidfd] = _Work(number, pid)
        self.poll.register(pidfd, select.POLLIN)

    def end(self, *pidfds: int) -> None:
        """KILL these and what they have started; their ends are seen like others."""
        for work in map(self.works.__getitem__, pidfds):
            with suppress(ProcessLookupError):
                os.kill(work.pid, signal.SIGKILL)  # it may not have its group yet
                os.killpg(work.pid, signal.SIGKILL)

    def _tell_end(self, pidfd: int) -> None:
        work = self.works.pop(pidfd)
        self.poll.unregister(pidfd)
        os.close(pidfd)
        how = os.waitid(os.P_PID, work.pid, os.WEXITED | os.WNOWAIT)  # its pid is its own until it is reaped
        if how is None or how.si_code != os.CLD_EXITED or how.si_status:
            end_what_was_started(work.pid)  # it could not do so itself
        code = os.waitstatus_to_exitcode(os.waitpid(work.pid, 0)[1])
        self._tell({"number": work.number, "code": code})

    def _tell(self, message: dict[str, object]) -> None:
        with suppress(OSError):  # nobody is there any more: that is seen next
            self._link.send(json.dumps(message).encode())


def _prepare(arguments: Sequence[str]) -> None:
    """Import what the answer needs. What is wrong there is told by the fork, which tries it again."""
    module = NEEDS.get(arguments[0] if arguments else "")
    if module is not None:
        with suppress(Exception):
            importlib.import_module(f".{module}", __package__)
        gc.freeze()


def _answer(main: Main, arguments: list[str], files: list[int], parent: int) -> NoReturn:
    """In the fork: stdin, stdout and stderr are the files of the question."""
    code = 1
    try:
        os.setsid()
        die_with_parent(parent, signal.SIGKILL)
        for number, file in enumerate(files):
            os.dup2(file, number)
        code = main(arguments)
        sys.stdout.flush()
    except BaseException:  # whatever it is, the clerk's own loop must not be entered again
        traceback.print_exc()
    finally:
        os._exit(code)
