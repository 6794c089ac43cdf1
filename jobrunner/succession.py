"""How a process goes on under a new id when its lease is over, and what one id leaves to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .durations import Micros
from .model import Settle
from .plan import Plan
from .storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """An incarnation that is no owner any more, for the one that goes on in its place."""

    owner: str
    plan: Plan  # the one in force
    settles: Sequence[Settle]  # ends that it could not write: they count if nobody else has taken its runs
    ended_at: Micros
    trouble_since: Micros | None  # with the storage (monotonic)


class Succession:
    """What the former incarnation of this process has left, until it is in the storage."""

    def __init__(self, former: Former | None) -> None:
        self._former = former
        self.is_first = former is None
        self.owed: Sequence[Settle] = () if former is None else former.settles  # not in the storage yet

    def settle(self, storage: Storage) -> None:
        """Write what is owed: it counts as far as nobody was faster. Raises StorageError."""
        if self._former is not None:
            storage.settle(self.owed)
            self.owed = ()
            storage.leave(self._former.owner, self._former.ended_at)
