"""Extra locks of running runs in a memory storage. Whoever calls holds the lock."""

from __future__ import annotations

from ...model import State
from .house import House, Row
from .turn import held_locks

Fence = tuple[str, int, int]  # owner, seq, claim number


def acquire(house: House, fence: Fence, lock: str, slots: int) -> bool:
    """Give the run one more lock, if one of its slots is free."""
    row = _running(house, fence)
    if row is None:
        return False
    if lock == row.lock or lock in row.extra_locks:
        return True
    if held_locks(house)[lock] >= slots:
        return False
    row.extra_locks.add(lock)
    house.touched.add(row.run.seq)
    return True


def release(house: House, fence: Fence, lock: str) -> bool:
    """Take it away again."""
    row = _running(house, fence)
    if row is None or lock not in row.extra_locks:
        return False
    row.extra_locks.discard(lock)
    house.touched.add(row.run.seq)
    return True


def _running(house: House, fence: Fence) -> Row | None:
    owner, seq, claim_no = fence
    row = house.rows.get(seq)
    if row is None or row.run.state is not State.RUNNING:
        return None
    return row if (row.run.owner, row.run.claim_no) == (owner, claim_no) else None
