"""The watch over the files of a configuration: a small process tells the supervisor of changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol

from ..durations import SECOND, Micros

COMMAND: Final = (sys.executable, "-P", "-m", __name__)
FIRST_PAUSE: Final[Micros] = SECOND  # before the process is started again; doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Final[Micros] = 30 * SECOND


class Timer(Protocol):
    """A call that the loop will make."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What is needed of the event loop."""

    def watch(
        self, fd: int, *, read: Callable[[], None] | None, write: Callable[[], None] | None = None
    ) -> None: ...

    def unwatch(self, fd: int) -> None: ...

    def after(self, delay: Micros, callback: Callable[[], None]) -> Timer: ...


class FileWatch:
    """Calls back with the new fingerprint when what the files hold has changed, and stands still again."""

    def __init__(
        self, loop: Loop, *, on_change: Callable[[str], None], on_trouble: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._order = b""
        self._child: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._unsent = b""
        self._heard = b""
        self._failures = 0
        self._pausing: Timer | None = None

    def follow(self, paths: Iterable[str], fingerprint: str) -> None:
        """Watch these paths and patterns, whose content is known by this fingerprint."""
        said = json.dumps({"paths": list(paths), "fingerprint": fingerprint})
        self._order = said.encode() + b"\n"
        if self._child is None and self._pausing is None:
            self._start()
        elif self._child is not None:
            self._send(self._order)

    def close(self) -> None:
        """End the process, and see it gone."""
        if self._pausing is not None:
            self._pausing.cancel()
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._collect()

    # --- the process --------------------------------------------------------------------------------

    def _start(self) -> None:
        self._pausing = None
        try:
            self._child = subprocess.Popen(
                COMMAND,
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._again(f"did not start: {error.strerror}")
            return
        try:
            self._pidfd = os.pidfd_open(self._child.pid)
        except OSError as error:  # no descriptor is left
            self._abandon(self._child)
            self._again(f"cannot be watched: {error.strerror}")
            return
        self._unsent = self._heard = b""
        for fd in (self._inlet, self._outlet):
            os.set_blocking(fd, False)
        self._loop.watch(self._outlet, read=self._listen)
        self._loop.watch(self._pidfd, read=self._died)
        self._send(self._order)

    def _abandon(self, child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.communicate()
        self._child = None

    @property
    def _inlet(self) -> int:
        return self._child.stdin.fileno() if self._child and self._child.stdin else -1

    @property
    def _outlet(self) -> int:
        return self._child.stdout.fileno() if self._child and self._child.stdout else -1

    def _send(self, block: bytes) -> None:
        self._unsent += block
        self._send_rest()

    def _send_rest(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._inlet, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # it is dead: that is seen by its pidfd
            self._unsent = b""
        if self._unsent:
            self._loop.watch(self._inlet, read=None, write=self._send_rest)
        else:
            self._loop.unwatch(self._inlet)

    def _listen(self) -> None:
        try:
            read = os.read(self._outlet, 4096)
        except BlockingIOError:
            return
        if not read:
            self._loop.unwatch(self._outlet)
            return
        lines = (self._heard + read).split(b"\n")
        self._heard = lines.pop()
        self._failures = 0
        if lines:
            self._on_change(lines[-1].decode())

    def _died(self) -> None:
        self._again(f"ended by itself ({self._collect()})")

    def _collect(self) -> str:
        """Release everything of the dead process; how it ended."""
        child, self._child = self._child, None
        if child is None or child.stdin is None or child.stdout is None:
            return ""
        for fd in (child.stdin.fileno(), child.stdout.fileno(), self._pidfd):
            self._loop.unwatch(fd)
        code = child.wait()
        os.close(self._pidfd)
        with suppress(OSError):
            child.stdin.close()
        child.stdout.close()
        return f"exit {code}" if code >= 0 else f"signal {-code}"

    def _again(self, why: str) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE << min(self._failures, 10))
        self._failures += 1
        self._pausing = self._loop.after(pause, self._start)
        self._on_trouble(f"the watch over the files of the configuration {why}; it is started again")
