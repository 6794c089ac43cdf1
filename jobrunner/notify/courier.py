"""Hands letters to the process that sends them, and takes back what became of each; never waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from ..durations import SECOND, Micros
from ..execution import Loop, Timer
from ..plain import to_plain
from .letters import Letter

LONGEST: Micros = 120 * SECOND  # for all letters of one process
_COMMAND = (sys.executable, "-P", "-m", "jobrunner.notify")
_NO_ANSWER = "the process that sends was ended before it came to this"

Answers = Sequence[str | None]  # for each letter what went wrong, None: it was delivered


class Courier:
    """One process at a time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = self._said = -1
        self._timer: Timer | None = None

    def send(self, letters: Sequence[Letter], then: Callable[[Answers], None]) -> None:
        """Send these, and call back with the answers. Raises OSError when no process can be started."""
        given = _in_memory(json.dumps([to_plain(letter) for letter in letters]).encode())
        self._said = _in_memory(b"")
        try:
            self._process = subprocess.Popen(
                _COMMAND, stdin=given, stdout=self._said, stderr=subprocess.DEVNULL, start_new_session=True
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._forget()
            raise
        finally:
            os.close(given)
        self._loop.watch(self._pidfd, read=lambda: self._ended(len(letters), then))
        self._timer = self._loop.after(LONGEST, self._kill)

    def close(self) -> None:
        """End what is still under way; its letters are sent again by the next supervisor."""
        if self._process is not None:
            self._kill()
            self._loop.unwatch(self._pidfd)
            self._forget()

    def _kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _ended(self, count: int, then: Callable[[Answers], None]) -> None:
        self._loop.unwatch(self._pidfd)
        answers = _answers(self._said, count)
        self._forget()
        then(answers)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            self._process.wait()
        for fd in (self._pidfd, self._said):
            if fd >= 0:
                os.close(fd)
        self._process, self._timer, self._pidfd, self._said = None, None, -1, -1


def _in_memory(content: bytes) -> int:
    fd = os.memfd_create("jobrunner")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _answers(fd: int, count: int) -> Answers:
    """One for each letter; a process that was ended has none for the last ones."""
    size = os.lseek(fd, 0, os.SEEK_END)
    lines = os.pread(fd, size, 0).splitlines()[:count]
    answers = [_answer(line) for line in lines]
    return [*answers, *[_NO_ANSWER] * (count - len(answers))]


def _answer(line: bytes) -> str | None:
    try:
        error = json.loads(line)["error"]
    except (ValueError, KeyError, TypeError):
        return _NO_ANSWER
    return None if error is None else str(error)
