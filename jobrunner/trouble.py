"""What those who ask the storage meet: told to all as one, and over when it answers each of them again."""

from __future__ import annotations

from .durations import SECOND, Micros
from .events import Emit, StorageBack, StorageTrouble
from .loop import EventLoop

TOLD_AGAIN: Micros = 5 * SECOND  # the same words are not repeated before


class Trouble:
    """The trouble with one storage. Several ask it, and one of them may be answered when others are not.

    A server that only reads answers a turn that writes nothing; what it says to a renewal is the truth.
    """

    def __init__(self, loop: EventLoop, emit: Emit, *, since: Micros | None = None) -> None:
        """`since`: when trouble began that is not over yet, on the monotonic clock."""
        self._loop = loop
        self._emit = emit
        self._askers: set[str] = set()  # who has no answer
        self.since = since
        self._told: dict[str, Micros] = {}  # words -> when

    def met(self, asker: str, error: Exception, retry_in: Micros) -> None:
        """This asker was not answered; it asks again."""
        now = self._loop.monotonic()
        self.since = now if self.since is None else self.since
        self._askers.add(asker)
        words = str(error)
        told_at = self._told.get(words)
        if told_at is None or now - told_at >= TOLD_AGAIN:
            self._told[words] = now
            self._emit(StorageTrouble(words, getattr(error, "help", ""), retry_in))

    def over(self, asker: str) -> None:
        """This asker was answered."""
        if self.since is None:
            return
        self._askers.discard(asker)
        if not self._askers:
            self._emit(StorageBack(self._loop.monotonic() - self.since))
            self._told.clear()
            self.since = None
