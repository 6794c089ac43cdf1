"""Extra locks of running runs: taken and given back while the attempt goes on."""

from __future__ import annotations

from .database import Connection

Fence = tuple[str, int, int]  # owner, seq, claim number

_LOCKS = """
    select lock, coalesce(extra_locks, '{}') from runs
    where owner = %s and seq = %s and claim_no = %s and state = 'running'
"""

_HOLDERS = """
    select count(*) from runs
    where state = 'running' and (lock is not null or extra_locks is not null)
        and (lock = %(lock)s or %(lock)s = any(extra_locks))
"""


def acquire(connection: Connection, fence: Fence, lock: str, slots: int) -> bool:
    """Give the run one more lock, if one of its slots is free."""
    row = connection.execute(_LOCKS, fence).fetchone()
    if row is None:
        return False
    if lock == row[0] or lock in row[1]:
        return True
    holders = connection.execute(_HOLDERS, {"lock": lock}).fetchone()
    if holders is not None and holders[0] >= slots:
        return False
    connection.execute(
        "update runs set extra_locks = array_append(extra_locks, %s) where seq = %s", (lock, fence[1])
    )
    return True


def release(connection: Connection, fence: Fence, lock: str) -> bool:
    """Take it away again."""
    row = connection.execute(_LOCKS, fence).fetchone()
    if row is None or lock not in row[1]:
        return False
    connection.execute(
        "update runs set extra_locks = nullif(array_remove(extra_locks, %s), '{}') where seq = %s",
        (lock, fence[1]),
    )
    return True
