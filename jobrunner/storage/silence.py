"""How long nobody was there before a supervisor began: time in which no tick was accounted for."""

from __future__ import annotations

from collections.abc import Sequence

from ..durations import Micros
from . import Supervisor


def silence_before(owner: str, started_at: Micros, known: Sequence[Supervisor]) -> Micros | None:
    """From the end of the last one before this owner to its start; None when it is the first, or not alone.

    A supervisor that died is taken to have been there until its last heartbeat.
    """
    others = [each for each in known if each.owner.id != owner and each.owner.started_at <= started_at]
    if not others or any(each.alive for each in others):
        return None
    ends = [each.heartbeat_at if each.left_at is None else each.left_at for each in others]
    return max(0, started_at - max(ends))
