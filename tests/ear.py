"""A real datagram socket that listens as systemd does."""

from __future__ import annotations

import select
import socket


class Ear:
    """A socket that hears datagrams, one dict of states each."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.setblocking(False)

    def heard(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        while True:
            try:
                text = self._socket.recv(65536).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.split("\n")))

    def wait_for(self, state: str, value: str = "1", *, patience: float = 60.0) -> dict[str, str]:
        """The next datagram that says this; fails when none comes."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while poll.poll(patience * 1000):
            said = next((each for each in self.heard() if each.get(state) == value), None)
            if said is not None:
                return said
        raise AssertionError(f"nobody said {state}={value} within {patience} s")

    def close(self) -> None:
        self._socket.close()
