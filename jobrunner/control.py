"""The socket beside a storage on which `jobrunner reload` asks the supervisor of this machine.

    client:      {"ask": "reload", ...}\\n
    supervisor:  {...}\\n                     when it is done

The storage does not carry it: a reload concerns one process on one machine, and its answer is waited for.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from .durations import SECOND, Micros
from .errors import JobRunnerError
from .execution import Loop, Timer

LONGEST = 64 * 1024  # bytes of a request
PATIENCE: Micros = 10 * SECOND  # for a whole request
MOST = 32  # clients at a time

Document = Mapping[str, Any]


def control_path(folder: str, pid: int) -> str:
    """The socket of the supervisor with this pid; `folder` is the one beside its storage."""
    return os.path.join(folder, f"control-{pid}")


class Request:
    """What a client asks, and the way back to it."""

    def __init__(self, document: Document, answer: Callable[[Document], None]) -> None:
        self.document = document
        self.answer = answer


class ControlSocket:
    """Listens; each request is handed on, and answered whenever the answer is there."""

    def __init__(self, loop: Loop, folder: str, on_request: Callable[[Request], None]) -> None:
        """Raises OSError when there is no room for a socket in this folder."""
        self._loop = loop
        self._on_request = on_request
        self._path = control_path(folder, os.getpid())
        self._clients: set[_Client] = set()
        _forget_the_dead(folder)
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._ear.setblocking(False)
            with _address(self._path) as address:
                self._ear.bind(address)
            os.chmod(self._path, 0o600)
            self._ear.listen(MOST)
        except OSError:
            self._ear.close()
            raise
        loop.watch(self._ear.fileno(), read=self._accept)

    def close(self) -> None:
        self._loop.unwatch(self._ear.fileno())
        with suppress(OSError):
            os.unlink(self._path)
        self._ear.close()
        for client in list(self._clients):
            client.close()

    def _accept(self) -> None:
        try:
            link, _ = self._ear.accept()
        except OSError:
            return
        if len(self._clients) >= MOST or _user_of(link) not in (0, os.geteuid()):
            link.close()
            return
        self._clients.add(_Client(self._loop, link, self._on_request, self._clients.discard))


class _Client:
    def __init__(
        self,
        loop: Loop,
        link: socket.socket,
        on_request: Callable[[Request], None],
        on_end: Callable[[_Client], None],
    ) -> None:
        link.setblocking(False)
        self._loop = loop
        self._link = link
        self._on_request = on_request
        self._on_end = on_end
        self._heard = b""
        self._unsent = b""
        self._asked = False
        self._timer: Timer = loop.after(PATIENCE, self.close)
        loop.watch(link.fileno(), read=self._listen)

    def close(self) -> None:
        if self._link.fileno() >= 0:
            self._timer.cancel()
            self._loop.unwatch(self._link.fileno())
            self._link.close()
            self._on_end(self)

    def _listen(self) -> None:
        try:
            read = self._link.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        self._heard += read
        if not read or len(self._heard) > LONGEST:
            self.close()  # gone, or no client of ours
        elif b"\n" in self._heard and not self._asked:
            self._take(self._heard.partition(b"\n")[0])

    def _take(self, line: bytes) -> None:
        self._asked = True
        self._timer.cancel()
        try:
            document = json.loads(line)
        except ValueError:
            document = None
        if isinstance(document, dict):
            self._on_request(Request(document, self._answer))
        else:
            self.close()

    def _answer(self, document: Document) -> None:
        if self._link.fileno() < 0:
            return  # nobody waits for it any more
        self._unsent = json.dumps(document).encode() + b"\n"
        self._timer = self._loop.after(PATIENCE, self.close)
        self._send()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._link.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""
        if self._unsent:
            self._loop.watch(self._link.fileno(), read=None, write=self._send)
        else:
            self.close()


# --- the client ---------------------------------------------------------------------------------------


class NoAnswer(JobRunnerError):
    """The supervisor did not answer, or ended before it did."""

    code = "no-answer"


def ask(path: str, document: Document, *, patience: float) -> Document:
    """Ask the supervisor behind this socket and wait for its answer. Raises NoAnswer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as link:
            link.settimeout(patience)
            with _address(path) as address:
                link.connect(address)
            link.sendall(json.dumps(document).encode() + b"\n")
            return _answer_from(link)
    except TimeoutError:
        raise NoAnswer(f"the supervisor has not answered within {patience:g} s") from None
    except OSError as error:
        raise NoAnswer(f"the supervisor cannot be asked ({path}): {error.strerror}") from None


def _answer_from(link: socket.socket) -> Document:
    heard = b""
    while read := link.recv(1 << 16):
        heard += read
    if not heard.endswith(b"\n"):
        raise NoAnswer("the supervisor ended before it answered")
    document = json.loads(heard)
    return document if isinstance(document, dict) else {}


@contextmanager
def _address(path: str) -> Iterator[str]:
    """A Unix address ends at 107 bytes, a path does not: the folder is named by a descriptor of it."""
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def _user_of(link: socket.socket) -> int:
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def _forget_the_dead(folder: str) -> None:
    """Remove the sockets of supervisors that could not do it themselves."""
    for name in os.listdir(folder):
        head, _, pid = name.partition("-")
        if head == "control" and pid.isdigit() and _is_dead(int(pid)):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _is_dead(pid: int) -> bool:
    return pid == os.getpid() or not os.path.exists(f"/proc/{pid}")
