"""A question that a child process answers on stdout, while the loop goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from .durations import Micros
from .loop import EventLoop

MOST_READ = 1 << 20  # bytes in one turn of the loop
MOST_SAID = 4096  # bytes of stderr that are kept


class Question(NamedTuple):
    """A command, what it reads, and how long it may take."""

    command: tuple[str, ...]
    patience: Micros
    stdin: bytes = b""
    environ: Mapping[str, str] | None = None  # None: this process's


class Answer(NamedTuple):
    """What came out of it: `trouble` says why there is no answer to rely on, "" when there is."""

    output: bytes
    trouble: str = ""


class Inquiry:
    """One child; calls back once, on the loop, when it has ended or time is up."""

    def __init__(self, loop: EventLoop, question: Question, then: Callable[[Answer], None]) -> None:
        self._loop = loop
        self._then = then
        self._output = bytearray()
        self._said = bytearray()
        self._is_late = False
        self._child = _start(question)
        self._pidfd = os.pidfd_open(self._child.pid)
        self._pipes = {each.fileno(): each for each in (self._child.stdout, self._child.stderr) if each}
        for fd in self._pipes:
            os.set_blocking(fd, False)
            loop.watch(fd, read=partial(self._readable, fd))
        loop.watch(self._pidfd, read=self._ended)
        self._timer = loop.after(question.patience, self._late)

    def close(self) -> None:
        """KILL the child and what it started; nobody is called back."""
        if self._pidfd >= 0:
            self._kill()
            self._release()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _late(self) -> None:
        self._is_late = True
        self._kill()

    def _readable(self, fd: int) -> None:
        self._read(fd)

    def _read(self, fd: int) -> bool:
        """Take what one read gives; False when there is nothing more now."""
        try:
            data = os.read(fd, MOST_READ)
        except BlockingIOError:
            return False
        if not data:
            self._loop.unwatch(fd)
        elif self._child.stdout is not None and fd == self._child.stdout.fileno():
            self._output += data
        else:
            self._said = (self._said + data)[-MOST_SAID:]
        return bool(data)

    def _ended(self) -> None:
        for fd in self._pipes:
            while self._read(fd):
                pass
        code = self._release()
        said = self._said.decode("utf-8", "replace").strip()
        trouble = "took too long" if self._is_late else ""
        if not trouble and code != 0:
            how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
            trouble = f"{how}: {said[-2000:]}" if said else how
        self._then(Answer(bytes(self._output), trouble))

    def _release(self) -> int:
        self._timer.cancel()
        code = self._child.wait()
        for fd, pipe in self._pipes.items():
            self._loop.unwatch(fd)
            pipe.close()
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        return code


def awaited(loop: EventLoop, question: Question, is_over: Callable[[], bool]) -> Answer | None:
    """The answer, waited for by a loop that does not run by itself yet; None when the end came first."""
    answers: list[Answer] = []
    try:
        inquiry = Inquiry(loop, question, answers.append)
    except OSError as error:
        return Answer(b"", f"cannot be started: {error.strerror}")
    try:
        while not answers and not is_over():
            loop.turn()
    finally:
        inquiry.close()
    return answers[0] if answers else None


def _start(question: Question) -> subprocess.Popen[bytes]:
    """Start the child. Raises OSError."""
    fd = os.memfd_create("question", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(question.stdin)
        os.lseek(fd, 0, os.SEEK_SET)
        return subprocess.Popen(
            question.command,
            env=question.environ,
            stdin=fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    finally:
        os.close(fd)
