"""Notifications: who is to be told of what, as values. `occasions` decides, `spool` keeps, `send` delivers.

    a run is about to end --> a notice in the spool --> the storage says that it came true --> letters
                                                            a process of its own sends them <--/

A notice is written before the row that it tells of, and taken away when it has been delivered: a supervisor
that dies in between leaves it to the next one, which asks the storage what became of the run. So nothing that
came true is lost with a process, and nothing that did not is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..durations import Micros
from ..plan import Occasion

__all__ = ["Notice", "Occasion"]

Key = tuple[Occasion, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that will have to be told, if the storage says that it came true."""

    occasion: Occasion
    task: str
    run_id: str
    owner: str  # the supervisor that foresaw it
    born_at: Micros
    claim_no: int = 0  # of the claim whose end it is; 0: of a tick
    tries: int = 0
    done: tuple[str, ...] = ()  # channels by which it was delivered
    more: int = 0  # others of this kind that are not told one by one
    steps: tuple[str, ...] = ()  # of a pipeline: the latest of its steps that this supervisor has ended

    @property
    def key(self) -> Key:
        return self.occasion, self.run_id
