"""Extra locks of running runs: they end with the attempt, since one of an older claim counts no more."""

from __future__ import annotations

import sqlite3

Fence = tuple[str, int, int]  # owner, seq, claim number

_RUNNING = "select lock from runs where owner = ? and seq = ? and claim_no = ? and state = 'running'"

_MINE = "select 1 from extra_locks where seq = ? and claim_no = ? and lock = ?"

_HOLDERS = """
    select
        (select count(*) from runs where state = 'running' and lock = :lock and lock is not null)
        + (select count(*) from extra_locks
            where lock = :lock and exists (
                select 1 from runs
                where runs.seq = extra_locks.seq and runs.claim_no = extra_locks.claim_no
                    and state = 'running'))
"""

_FORGET = """
    delete from extra_locks
    where not exists (
        select 1 from runs
        where runs.seq = extra_locks.seq and runs.claim_no = extra_locks.claim_no and state = 'running')
"""


def acquire(connection: sqlite3.Connection, fence: Fence, lock: str, slots: int) -> bool:
    """Give the run one more lock, if one of its slots is free."""
    row = connection.execute(_RUNNING, fence).fetchone()
    if row is None:
        return False
    if row[0] == lock or connection.execute(_MINE, (*fence[1:], lock)).fetchone():
        return True
    connection.execute(_FORGET)
    if connection.execute(_HOLDERS, {"lock": lock}).fetchone()[0] >= slots:
        return False
    connection.execute("insert into extra_locks (seq, claim_no, lock) values (?, ?, ?)", (*fence[1:], lock))
    return True


def release(connection: sqlite3.Connection, fence: Fence, lock: str) -> bool:
    """Take it away again."""
    if connection.execute(_RUNNING, fence).fetchone() is None:
        return False
    return (
        connection.execute(
            "delete from extra_locks where seq = ? and claim_no = ? and lock = ?", (*fence[1:], lock)
        ).rowcount
        > 0
    )
