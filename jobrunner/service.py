"""The only place where a thread starts: a service that does what the loop asks, in order, aside."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")
Work = Callable[[], None]


class Hands(Protocol):
    """Where answers go: an event loop."""

    def hand_over(self, callback: Callable[[], None]) -> None: ...


class Service:
    """Work done by one thread; every answer comes back on the loop's thread."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.patience = 5.0  # seconds, for work already asked for when the block is left
        self.is_hung = False  # it did not end within this

    def ask(
        self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]
    ) -> None:
        """Do `work` aside, then call `then(answer)` or `failed(error)` on the loop."""
        self._work.put(lambda: self._do(work, then, failed))

    def watch(
        self, work: Callable[[], bool], then: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Do `work` aside; only if it gives True, or fails, the loop is woken."""
        self._work.put(lambda: self._look(work, then, failed))

    def _look(
        self, work: Callable[[], bool], then: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        try:
            found = work()
        except Exception as error:
            caught = error
            self._hands.hand_over(lambda: failed(caught))
        else:
            if found:
                self._hands.hand_over(then)

    def _do(
        self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]
    ) -> None:
        try:
            answer = work()
        except Exception as error:
            caught = error
            self._hands.hand_over(lambda: failed(caught))
        else:
            self._hands.hand_over(lambda: then(answer))

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _finish(self) -> None:
        self._work.put(None)


@contextmanager
def running(hands: Hands, name: str) -> Iterator[Service]:
    """A service for the length of a block. On leaving, work already asked for is finished.

    A thread that hangs (a storage that does not answer) is left behind after its `patience`: it is a daemon,
    so the process still ends.
    """
    service = Service(hands)
    thread = threading.Thread(target=service._serve, name=name, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service._finish()
        thread.join(service.patience)
        service.is_hung = thread.is_alive()
