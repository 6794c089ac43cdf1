"""The process that watches files for a supervisor: `python -m jobrunner.watch`.

It reads {"paths": [...], "fingerprint": "..."} from stdin, one line; a later line replaces it. It writes the
fingerprint of what the files hold, one line, when that is another one and has stood still for a moment: a
half-written file is not taken. It ends when its stdin does, that is with its supervisor.

A process of its own, since watchfiles costs a thread, several wake-ups a second and 60 ms of import.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from watchfiles import watch

from ..fingerprint import fingerprint, folders_of

STEP: Final = 200  # milliseconds between two looks at what has happened
GROUPED: Final = 400  # milliseconds: a folder that is never quiet is looked at so often
NET: Final = 5_000  # milliseconds: network file systems tell nothing, and folders themselves are replaced
SETTLED: Final = 0.2  # seconds in which a file must not change to be taken as whole
NO_WATCH: Final = 1.0  # seconds between two looks where nothing tells of changes


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be watched, and the fingerprint that is known already."""

    paths: tuple[str, ...]
    known: str


class Orders:
    """Orders that come in by stdin. `is_set` is what watchfiles asks at each of its looks."""

    def __init__(self) -> None:
        self._rest = b""
        self.is_over = False

    def is_set(self) -> bool:
        """Whether there is something to read, were it the end."""
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Wait for an order; whether there is something to read."""
        return bool(select.select([0], [], [], seconds)[0])

    def latest(self) -> Order | None:
        """The last of the orders that are there; waits for one. None at the end."""
        while b"\n" not in self._rest or self.is_set():
            read = os.read(0, 1 << 16)
            if not read:
                self.is_over = True
                return None
            self._rest += read
        lines, _, self._rest = self._rest.rpartition(b"\n")
        said = json.loads(lines.rpartition(b"\n")[2])
        return Order(tuple(said["paths"]), said["fingerprint"])


def main() -> None:
    """Serve until stdin ends."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the supervisor; its end is the end of this one
    orders = Orders()
    while (order := orders.latest()) is not None:
        _follow(order, orders)


def _follow(order: Order, orders: Orders) -> None:
    told = order.known
    while not orders.is_set():
        folders = folders_of(order.paths)
        told = _tell(order, told, orders)
        for _ in _changes(folders, orders):
            told = _tell(order, told, orders)
            if orders.is_set() or folders_of(order.paths) != folders:
                break


def _changes(folders: list[str], orders: Orders) -> Iterator[object]:
    """One item for each change in the folders, and one now and then."""
    try:
        yield from watch(
            *folders,
            watch_filter=None,
            recursive=False,
            step=STEP,
            debounce=GROUPED,
            rust_timeout=NET,
            yield_on_timeout=True,
            stop_event=orders,
            raise_interrupt=False,
        )
    except (
        OSError,
        RuntimeError,
    ):  # a folder has just gone, or the kernel watches nothing more for this user
        orders.wait(NO_WATCH)
        yield None


def _tell(order: Order, told: str, orders: Orders) -> str:
    """Say what the files hold, once it is news and stands still; gives what was said last."""
    found = fingerprint(order.paths)
    while found != told and not orders.wait(SETTLED):
        before, found = found, fingerprint(order.paths)
        if found == before:
            sys.stdout.write(found + "\n")
            sys.stdout.flush()
            return found
    return told


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the supervisor is gone
        os._exit(0)
