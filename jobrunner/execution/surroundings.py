"""What a call finds around itself in a worker, set before it and put back after it.

Environment, current folder, umask, signal handlers, the standard streams and their descriptors: a call may
change all of them, and the next one finds them as they were. A call that changes nothing pays a few
microseconds of looking.
"""

from __future__ import annotations

import fcntl
import io
import os
import signal
import sys
import termios
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, TextIO, cast

from .environment import moment_text
from .wire import Order

_GUARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE)
_FIRST_SAVED_FD: Final = 200  # out of the way of a task that closes "all" low descriptors

# signal.getsignal and its like turn numbers into enum members, which costs more than all the rest here.
_plain_signal = import_module("_signal")
_handler_of: Callable[[int], object] = _plain_signal.getsignal
_set_mask: Callable[[int, tuple[int, ...]], object] = _plain_signal.pthread_sigmask

Variables = dict[bytes, bytes]


class Surroundings:
    """The state of this process that belongs to nobody's call."""

    def __init__(self) -> None:
        self._environ = os.environ
        # The mapping under os.environ: comparing and filling it directly is what keeps a call cheap.
        self._now: Variables = os.environ._data  # type: ignore[attr-defined]
        self._plain: Variables = dict(self._now)
        self._expected: Variables = dict(self._now)
        self._added: Mapping[bytes, bytes] = {}
        self._folder = ("", "")
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._recursion = sys.getrecursionlimit()
        self._saved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_SAVED_FD) for fd in (0, 1, 2)]
        self._pending = bytearray(4)
        self._handlers: list[tuple[signal.Signals, object]] = []
        self._open_streams()

    def guard_signals(self) -> None:
        """Take the handlers of now as those to be put back."""
        self._handlers = [(number, _handler_of(number)) for number in _GUARDED]

    # ---- before a call ---------------------------------------------------------------------------

    def enter(self, added: Mapping[bytes, bytes], own: Mapping[bytes, bytes], folder: str) -> None:
        """Set the environment and the current folder. Raises OSError when the folder is not usable.

        `added` is the same object for all plain calls of a task; `own` holds the run's own variables, the
        same names for every run.
        """
        if added is not self._added:
            self._become({**self._plain, **added})
            self._added = added
        for name, value in own.items():
            if self._expected.get(name) != value:
                self._set(name, value)
        self._go_to(folder)

    def _go_to(self, folder: str) -> None:
        if self._folder == (folder, _here()):
            return
        os.chdir(folder)
        self._folder = (folder, _here())

    # ---- after a call ----------------------------------------------------------------------------

    def leave(self) -> None:
        """Put back what the call may have changed, and flush what it has written."""
        self._flush()
        self._restore_streams()
        for fd, saved in enumerate(self._saved):
            os.dup2(saved, fd)
        os.umask(self._umask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _set_mask(signal.SIG_SETMASK, ())
        for number, handler in self._handlers:
            if _handler_of(number) != handler:
                signal.signal(number, cast("signal.Handlers", handler))
        if sys.getrecursionlimit() != self._recursion:
            sys.setrecursionlimit(self._recursion)
        self._restore_environment()

    def has_output(self) -> bool:
        """Whether something that was written lies in a pipe, not yet taken by the supervisor."""
        return self._waiting_in(self._saved[1]) or self._waiting_in(self._saved[2])

    def _waiting_in(self, pipe: int) -> bool:
        fcntl.ioctl(pipe, termios.FIONREAD, self._pending)
        return any(self._pending)

    # ---- environment -----------------------------------------------------------------------------

    def _restore_environment(self) -> None:
        if os.environ is not self._environ:
            os.environ = self._environ  # noqa: B003 - a call replaced the mapping itself
        if self._now != self._expected:
            self._become(dict(self._expected))

    def _become(self, wanted: Variables) -> None:
        for name in [name for name in self._now if name not in wanted]:
            os.unsetenv(name)
            del self._now[name]
        for name, value in wanted.items():
            if self._now.get(name) != value:
                os.putenv(name, value)
                self._now[name] = value
        self._expected = wanted

    def _set(self, name: bytes, value: bytes) -> None:
        os.putenv(name, value)
        self._now[name] = value
        self._expected[name] = value

    # ---- streams ---------------------------------------------------------------------------------

    def _open_streams(self) -> None:
        # Line by line, so that `logs -f` sees a print as it happens and a crash loses none.
        self._streams = (_reader(0), _writer(1), _writer(2))
        self._restore_streams()

    def _restore_streams(self) -> None:
        stdin, stdout, stderr = self._streams
        if stdin.closed or stdout.closed or stderr.closed:
            self._open_streams()
            return
        sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc, assignment]
        sys.stdout = sys.__stdout__ = stdout  # type: ignore[misc, assignment]
        sys.stderr = sys.__stderr__ = stderr  # type: ignore[misc, assignment]

    def _flush(self) -> None:
        _, stdout, stderr = self._streams
        _flush(stdout)
        _flush(stderr)
        if sys.stdout is not stdout or sys.stderr is not stderr:
            _flush(sys.stdout)
            _flush(sys.stderr)


def _flush(stream: TextIO) -> None:
    try:  # noqa: SIM105 - `suppress` costs more than the flush
        stream.flush()
    except Exception:  # noqa: S110 - a stream of the task's making, or closed by it
        pass


def _reader(fd: int) -> TextIO:
    return open(fd, encoding="utf-8", errors="surrogateescape", closefd=False)


def _writer(fd: int) -> TextIO:
    raw = io.FileIO(fd, "w", closefd=False)
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # the folder was removed under us


def own_variables(order: Order) -> dict[bytes, bytes]:
    """The variables that differ from run to run."""
    return {
        b"JOBRUNNER_RUN_ID": order.run_id.encode(),
        b"JOBRUNNER_ATTEMPT": order.attempt.encode(),
        b"JOBRUNNER_TRIGGER": order.trigger.encode(),
        b"JOBRUNNER_MISSED": order.missed.encode(),
        b"JOBRUNNER_SCHEDULED_AT": moment_text(order.due_at if order.tick is None else order.tick).encode(),
    }
