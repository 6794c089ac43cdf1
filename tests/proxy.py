"""A TCP proxy on the loopback that loses what it is told to lose: answers, connections, everything."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from enum import Enum

CHUNK = 65536
LOOK = 0.05  # seconds between two looks at whether the proxy is over


class Mode(Enum):
    """What becomes of what passes."""

    PASS = "pass"
    CUT = "cut"  # the question arrives, the answer does not: the connection ends instead
    HOLE = "hole"  # nothing passes, and nobody is told
    REFUSE = "refuse"  # connections end at once


class Proxy:
    """Stands between clients and a server; one thread moves everything."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._from_client: set[socket.socket] = set()
        self.mode = Mode.PASS
        self.cuts = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(10.0)
        for each in list(self._other):
            each.close()
        self._listener.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            if self.mode is Mode.HOLE:
                self._over.wait(LOOK)
                continue
            for key, _ in self._selector.select(LOOK):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._move(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.mode is Mode.REFUSE:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 1.0)
        except OSError:
            client.close()
            return
        self._other |= {client: server, server: client}
        self._from_client.add(client)
        for each in (client, server):
            self._selector.register(each, selectors.EVENT_READ)

    def _move(self, source: socket.socket) -> None:
        if source not in self._other:
            return
        is_answer = source not in self._from_client
        data = b""
        with suppress(OSError):
            data = source.recv(CHUNK)
        if not data or self.mode is Mode.REFUSE or (self.mode is Mode.CUT and is_answer):
            self.cuts += bool(data)
            self._drop(source)
            return
        try:
            self._other[source].sendall(data)
        except OSError:
            self._drop(source)

    def _drop(self, source: socket.socket) -> None:
        for each in (source, self._other[source]):
            self._selector.unregister(each)
            self._other.pop(each)
            self._from_client.discard(each)
            each.close()
