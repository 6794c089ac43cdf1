"""What systemd is told by the process that it started: the datagrams of sd_notify(3), and its watchdog.

READY=1  STATUS=...  WATCHDOG=1  EXTEND_TIMEOUT_USEC=...  RELOADING=1 + MONOTONIC_USEC=...  STOPPING=1
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping

from .durations import Micros

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Notifier:
    """Sends states to the service manager that started this process; does nothing when there is none."""

    def __init__(self, address: str | None = None, watchdog: Micros | None = None) -> None:
        self.watchdog = watchdog  # it wants to hear of us within this time, always
        self._address = address
        self._socket: socket.socket | None = None

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Notifier:
        """The one that the environment names; its variables are taken away: no child is to speak for us."""
        address, usec, pid = (environ.pop(name, "") for name in (_SOCKET, _WATCHDOG, _WATCHDOG_PID))
        is_ours = not pid or pid == str(os.getpid())
        watchdog = int(usec) if usec.isdecimal() and int(usec) > 0 and is_ours else None
        return cls(address if address[:1] in ("/", "@") else None, watchdog)

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def tell(self, states: Mapping[str, object]) -> bool:
        """Send these states in one datagram; never waits. False: it did not get through, send them again."""
        if self._address is None:
            return True
        lines = "\n".join(f"{name}={_one_line(value)}" for name, value in states.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._connected().sendto(lines.encode(errors="replace"), socket.MSG_DONTWAIT, address)
        except OSError:  # its queue is full, or it is being executed anew
            return False
        return True

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        return self._socket

    def close(self) -> None:
        """Give the descriptor back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _one_line(value: object) -> str:
    """A line end would begin another state: what a file or a storage said must not."""
    return "".join(c if c.isprintable() else " " for c in str(value))
