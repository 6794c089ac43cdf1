"""Questions about the configuration, answered by a child process while the loop goes on.

    ask -> [socket: arguments, and files for stdin, stdout, stderr] -> clerk -- fork --> answers, and ends
                                                                        ^ has imported what answers need

The child, the clerk, stays for a minute: its imports take half a second, an answer a hundredth of one. Each
answer is made by a fork of it, so that none knows of another, and none can spoil the next.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from .durations import MILLISECOND, MINUTE, SECOND, Micros
from .loop import EventLoop, LoopTimer

COMMAND: Final = (sys.executable, "-P", "-m", "jobrunner.config", "stay")
STAYS: Final[Micros] = MINUTE  # without a question
BEGINS: Final[Micros] = 15 * SECOND  # for it to import what it needs; later than that it hangs
LEAVES: Final[Micros] = SECOND  # for it to end what it does, and itself
MOST_SAID: Final = 2000  # characters of stderr that are told


class Question(NamedTuple):
    """What `python -m jobrunner.config` is to do, what it reads, and how long it may take."""

    arguments: tuple[str, ...]
    patience: Micros
    stdin: bytes = b""


class Answer(NamedTuple):
    """What came out of it: `trouble` says why there is no answer to rely on, "" when there is."""

    output: bytes
    trouble: str = ""


class _Asked(NamedTuple):
    """A question under way."""

    then: Callable[[Answer], None]
    output: int  # descriptors of what it has written
    said: int
    patience: Micros
    timer: LoopTimer


class _Child(NamedTuple):
    """The process, and the way to it."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    pidfd: int


class Inquiry:
    """One question that was asked."""

    def __init__(self, clerk: Clerk, number: int) -> None:
        self._clerk = clerk
        self._number = number

    def close(self) -> None:
        """KILL what answers it; nobody is called back. Does nothing when it has been answered."""
        self._clerk.forget(self._number)


class Clerk:
    """Starts its process when something is asked, and lets it go when nothing was for a while."""

    def __init__(self, loop: EventLoop, *, stays: Micros = STAYS) -> None:
        self._loop = loop
        self._stays = stays
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._child: _Child | None = None
        self._leaving: LoopTimer | None = None

    def ask(self, question: Question, then: Callable[[Answer], None]) -> Inquiry:
        """Call back once, on the loop, with the answer. Raises OSError when it cannot be asked."""
        number, files = next(self._numbers), list[int]()
        try:
            files += (_file() for _ in range(3))
            _fill(files[0], question.stdin)
            self._send({"number": number, "arguments": question.arguments}, files)
        except OSError:
            _close(files)
            raise
        os.close(files[0])
        timer = self._loop.after(min(BEGINS, question.patience), partial(self._late, number))
        self._asked[number] = _Asked(then, files[1], files[2], question.patience, timer)
        self._stay()
        return Inquiry(self, number)

    def forget(self, number: int) -> None:
        """This answer is not wanted any more."""
        asked = self._asked.pop(number, None)
        if asked is not None:
            asked.timer.cancel()
            _close(asked[1:3])
            with suppress(OSError):  # it has ended: so has what it did
                self._send({"end": number})
            self._stay()

    def close(self) -> None:
        """End the process and everything it does, and see it gone; nobody is called back."""
        for number in list(self._asked):
            self.forget(number)
        self._leave()

    # --- answers ------------------------------------------------------------------------------------

    def _late(self, number: int) -> None:
        """It may be the clerk itself that hangs: the next question is asked of another one."""
        then = self._asked[number].then
        self.forget(number)
        self._end()
        then(Answer(b"", "took too long"))

    def _end(self) -> None:
        """KILL the process; what else was asked of it has no answer."""
        if self._child is not None:
            self._child.process.send_signal(signal.SIGKILL)
            self._died()

    def _readable(self) -> None:
        while self._child is not None:
            try:
                message = self._child.link.recv(4096)
            except OSError:  # there is nothing more, or it is dead: that is seen by its pidfd
                return
            if not message:
                self._loop.unwatch(self._child.link.fileno())
                return
            told = json.loads(message)
            if "code" in told:
                self._answered(told["number"], told["code"])
            else:
                self._begun(told["number"])

    def _begun(self, number: int) -> None:
        """The clerk is well: how long the answer takes is its question's own affair now."""
        asked = self._asked.get(number)
        if asked is not None:
            asked.timer.cancel()
            timer = self._loop.after(asked.patience, partial(self._late, number))
            self._asked[number] = asked._replace(timer=timer)

    def _answered(self, number: int, code: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:  # forgotten meanwhile
            return
        asked.timer.cancel()
        output, said = (_content(fd) for fd in (asked.output, asked.said))
        self._stay()
        asked.then(Answer(output, "" if code == 0 else _trouble(code, said)))

    # --- the process --------------------------------------------------------------------------------

    def _send(self, message: dict[str, object], files: list[int] | None = None) -> None:
        """Raises OSError."""
        if self._child is None:
            if files is None:
                return
            self._child = self._started()
        socket.send_fds(self._child.link, [json.dumps(message).encode()], files or [])

    def _started(self) -> _Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                process = subprocess.Popen(
                    [*COMMAND, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        child = _Child(process, ours, os.pidfd_open(process.pid))
        self._loop.watch(ours.fileno(), read=self._readable)
        self._loop.watch(child.pidfd, read=self._died)
        return child

    def _died(self) -> None:
        """It has ended by itself: what was asked of it has no answer."""
        self._readable()
        code = self._collect()
        for number in list(self._asked):
            self._answered(number, code or 1)

    def _stay(self) -> None:
        """From the last answer on it stays for a while."""
        if self._leaving is not None:
            self._leaving.cancel()
        self._leaving = None if self._asked else self._loop.after(self._stays, self._leave)

    def _leave(self) -> None:
        """End it: it ends what it does, and itself, when nobody can ask any more."""
        if self._leaving is not None:
            self._leaving.cancel()
        child = self._child
        if child is None:
            return
        child.link.shutdown(socket.SHUT_RDWR)
        if not _is_gone(child, LEAVES):
            child.process.send_signal(signal.SIGKILL)
        self._collect()

    def _collect(self) -> int:
        """Release everything of the dead process; how it ended."""
        child, self._child = self._child, None
        if child is None:
            return 0
        for fd in (child.link.fileno(), child.pidfd):
            self._loop.unwatch(fd)
        child.link.close()
        is_gone = _is_gone(child, LEAVES)
        os.close(child.pidfd)
        # One that not even KILL ends, in the middle of a call to a disk that hangs, is not waited for.
        return child.process.wait() if is_gone else -signal.SIGKILL


def awaited(clerk: Clerk, loop: EventLoop, question: Question, is_over: Callable[[], bool]) -> Answer | None:
    """The answer, waited for by a loop that does not run by itself yet; None when the end came first."""
    answers: list[Answer] = []
    try:
        inquiry = clerk.ask(question, answers.append)
    except OSError as error:
        return Answer(b"", f"cannot be started: {error.strerror}")
    try:
        while not answers and not is_over():
            loop.turn()
    finally:
        inquiry.close()
    return answers[0] if answers else None


def _is_gone(child: _Child, patience: Micros) -> bool:
    """Whether it has ended, or does so soon."""
    poll = select.poll()
    poll.register(child.pidfd, select.POLLIN)
    return bool(poll.poll(patience // MILLISECOND))


def _trouble(code: int, said: bytes) -> str:
    how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
    words = said.decode("utf-8", "replace").strip()[-MOST_SAID:]
    return f"{how}: {words}" if words else how


# --- files without a name -----------------------------------------------------------------------------------


def _file() -> int:
    return os.memfd_create("inquiry", os.MFD_CLOEXEC)


def _fill(fd: int, content: bytes) -> None:
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)


def _content(fd: int) -> bytes:
    """All that is in the file, which is closed."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


def _close(files: list[int] | tuple[int, ...]) -> None:
    for fd in files:
        os.close(fd)
