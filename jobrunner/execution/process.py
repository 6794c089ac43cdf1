"""A worker's process from the supervisor's side: its start, its socket and pipes, its signals, its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ..durations import Micros
from ..plan import Pool, PoolKind
from . import Loop, wire
from .family import Mark, relatives, send

MOST_AT_ONCE: Final = 64 * 1024  # bytes of one read: larger ones are mapped and unmapped each time
_PACKAGE_ROOT: Final = str(Path(__file__).resolve().parents[2])
_PATCHED: Final = """\
import sys
try:
    from gevent import monkey
except ImportError:
    sys.exit(f"kind greenlet needs gevent: {sys.executable} -m pip install 'jobrunner[gevent]'")
monkey.patch_all()
from jobrunner.execution.workshop import main
main()
"""
_INSTALLED: Final = ("site-packages", "dist-packages")


class Death(NamedTuple):
    """How a process ended: exactly one of the two."""

    exit_code: int | None
    signal: str | None  # "SIGKILL"


class WorkerProcess:
    """One process. Callbacks come on the loop: `on_ready` when it has sent, `on_death` when it is over."""

    def __init__(
        self,
        loop: Loop,
        *,
        pool: Pool,
        env: Mapping[str, str],
        pythonpath: tuple[str, ...],
        url: str,
        cwd: str = "/",
        on_ready: Callable[[], None],
        on_death: Callable[[], None],
    ) -> None:
        """Start it. Raises OSError when that is not possible."""
        self._loop = loop
        self._on_ready = on_ready
        self._unsent = bytearray()
        self._rest = ""
        self._link, theirs = socket.socketpair()
        self._link.setblocking(False)
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        self.outputs = tuple(reader for reader, _ in pipes)  # stdout, stderr
        added = added_path(pool.python)
        try:
            self._child = subprocess.Popen(
                [*_program(pool), str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=pipes[0][1],
                stderr=pipes[1][1],
                pass_fds=(theirs.fileno(),),
                env=with_path(env, added),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError:
            self._link.close()
            for reader in self.outputs:
                os.close(reader)
            raise
        finally:
            theirs.close()
            for _, writer in pipes:
                os.close(writer)
        self.pid = self._child.pid
        self._pidfd = self._watched()
        for reader in self.outputs:
            os.set_blocking(reader, False)
        loop.watch(self._link.fileno(), read=on_ready)
        loop.watch(self._pidfd, read=on_death)
        self.send(wire.welcome_line(os.getpid(), pythonpath, added, pool=pool, url=url))

    def _watched(self) -> int:
        """A descriptor of the process. Without one it is of no use: it is ended again, and OSError raised."""
        try:
            return os.pidfd_open(self.pid)
        except OSError:
            self._child.kill()
            self._child.wait()
            self._link.close()
            for reader in self.outputs:
                os.close(reader)
            raise

    # ---- lines -----------------------------------------------------------------------------------

    def send(self, block: bytes) -> None:
        """Send lines; never blocks. What a dead process does not take is dropped: its death is on the way."""
        if self._unsent:
            self._unsent += block
            return
        sent = self._try_to_send(block)
        if sent < len(block):
            self._unsent += block[sent:]
            self._loop.watch(self._link.fileno(), read=self._on_ready, write=self._send_rest)

    def _send_rest(self) -> None:
        sent = self._try_to_send(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.watch(self._link.fileno(), read=self._on_ready)

    def _try_to_send(self, block: bytes | bytearray) -> int:
        try:
            return self._link.send(block)
        except BlockingIOError:
            return 0
        except OSError:
            return len(block)

    def lines(self) -> list[str] | None:
        """The whole lines that one read completes; None when there is nothing to read."""
        try:
            read = self._link.recv(MOST_AT_ONCE)
        except BlockingIOError:
            return None
        except OSError:
            read = b""
        if not read:
            self._loop.unwatch(self._link.fileno())  # its death is seen by the pidfd, and by that alone
            return None
        lines = (self._rest + read.decode("ascii", "backslashreplace")).split("\n")
        self._rest = lines.pop()
        return lines

    # ---- output ----------------------------------------------------------------------------------

    def watch_output(self, on_output: Callable[[int], None]) -> None:
        """Call back with 0 (stdout) or 1 (stderr) while there is something to read."""
        for stream, reader in enumerate(self.outputs):
            self._loop.watch(reader, read=lambda stream=stream: on_output(stream))  # type: ignore[misc]

    def unwatch_output(self) -> None:
        for reader in self.outputs:
            self._loop.unwatch(reader)

    def read_output(self, stream: int, most: int = 65536) -> bytes:
        """What lies in a pipe, at most so many bytes."""
        try:
            read = os.read(self.outputs[stream], most)
        except BlockingIOError:
            return b""
        if not read:
            self._loop.unwatch(self.outputs[stream])
        return read

    # ---- the end ---------------------------------------------------------------------------------

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the worker and the children of its calls. It is not reaped yet: the id is its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def reap(self) -> Death:
        """Take the exit status of the dead process; ends what is left of its group."""
        self.signal_group(signal.SIGKILL)
        try:
            status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except ChildProcessError:
            status = None  # somebody else took it: how it ended is not known, and unknown is never success
        if status is None:
            self._child.returncode = -signal.SIGKILL
            return Death(None, "unknown")
        code, is_exit = status.si_status, status.si_code == os.CLD_EXITED
        self._child.returncode = code if is_exit else -code  # or Popen would complain, or wait for the pid
        if is_exit:
            return Death(code, None)
        return Death(None, _signal_name(code))

    def kill(self, patience: Micros) -> None:
        """KILL everything and see it gone; a process that the kernel holds longer is left to it."""
        self.signal_group(signal.SIGKILL)
        waiting = select.poll()
        waiting.register(self._pidfd, select.POLLIN)
        if waiting.poll(patience // 1000):
            self.reap()
        else:
            self._child.returncode = -signal.SIGKILL

    def end_relatives(self, mark: Mark | None) -> None:
        """KILL what is left of the dead worker's session, and what works for a run wherever it has gone."""
        for each in relatives({self.pid}, lambda found: found == mark):
            send(each, signal.SIGKILL)

    def close(self) -> None:
        """Release the descriptors."""
        for fd in (self._link.fileno(), self._pidfd, *self.outputs):
            self._loop.unwatch(fd)
        self._link.close()
        for fd in (self._pidfd, *self.outputs):
            os.close(fd)


def _program(pool: Pool) -> list[str]:
    """What executes the calls of this pool."""
    python = [pool.python or sys.executable, "-P"]
    if pool.kind is PoolKind.PROCESS:
        return [*python, "-m", "jobrunner.execution.worker"]
    if pool.kind is PoolKind.GREENLET:  # patched before anything else is imported
        return [*python, "-c", _PATCHED]
    return [*python, "-m", "jobrunner.execution.workshop"]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def added_path(python: str | None) -> str | None:
    """What PYTHONPATH needs so that our own interpreter finds this package when it is not installed."""
    if python is not None or Path(_PACKAGE_ROOT).name in _INSTALLED:
        return None
    return _PACKAGE_ROOT


def with_path(env: Mapping[str, str], added: str | None) -> dict[str, str]:
    if added is None:
        return dict(env)
    given = env.get("PYTHONPATH")
    return {**env, "PYTHONPATH": f"{added}{os.pathsep}{given}" if given else added}
