"""Settles: the ends of attempts, each under its fence and atomic with its follow-ups."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain

from ...model import FINAL, Settle, Started, State
from ..fences import Fence, holds, is_repeated, quarantined, with_cancel
from .faults import is_poison
from .rows import ERROR, RESULT, Row, put_body, short
from .schema import LARGE
from .waits import Changes, add_all, grow

_SUCCEED = """
    update runs
    set state = 'succeeded', outcome = 'ok', started_at = ?, finished_at = ?, result = ?, exit_code = ?,
        pid = ?, output = ?, owner = null, lock = null
    where seq = ? and claim_no = ? and owner = ? and id = ? and state = 'running'
"""

# The same for a whole block: SQLite works on it in one step, while the loop's thread has the interpreter.
# It begins with its verb: of a statement that begins with `with`, Python does not know the count.
BLOCK = 64
_SUCCEED_BLOCK = f"""
    update runs
    set state = 'succeeded', outcome = 'ok', started_at = column1, finished_at = column2, result = column3,
        exit_code = column4, pid = column5, output = column6, owner = null, lock = null
    from (values {", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * BLOCK)})
    where seq = column7 and claim_no = column8 and owner = column9 and id = column10 and state = 'running'
"""  # noqa: S608 - marks

_SETTLE = """
    update runs
    set state = ?, outcome = ?, attempt = ?, failures = ?, crashes = ?, due_at = ?, started_at = ?,
        finished_at = ?, reason = ?, result = ?, error = ?, exit_code = ?, signal = ?, pid = ?, output = ?,
        owner = null, lock = null
    where seq = ?
"""

_FENCE = """
    select id, state, claim_no, owner, attempt, failures, crashes, cancel_reason
    from runs
    where seq = ?
"""

_KEEP_ATTEMPT = """
    insert or replace into attempts (seq, number, outcome, started_at, ended_at, exit_code, signal, host, pid,
        output, error)
    select seq, ?, ?, ?, ?, ?, ?, host, ?, ?, ?
    from runs
    where seq = ?
"""

# A call that came back before it had begun was no attempt: the row tells of the one before again.
_RESTORE_ATTEMPT = """
    update runs
    set (outcome, started_at, exit_code, signal, host, pid, output, error) =
        (select outcome, started_at, exit_code, signal, host, pid, output, substr(error, 1, ?)
        from attempts
        where seq = runs.seq and number = runs.attempt)
    where seq = ? and exists (select 1 from attempts where seq = runs.seq and number = runs.attempt)
"""

_STARTED = """
    update runs
    set started_at = ?, pid = ?
    where seq = ? and claim_no = ? and owner = ? and state = 'running'
"""


def mark_started(connection: sqlite3.Connection, started: Sequence[Started]) -> None:
    """Note the starts of attempts that are still going."""
    rows = [(each.started_at, each.pid, each.seq, each.claim_no, each.owner) for each in started]
    connection.executemany(_STARTED, rows)


def settle_all(connection: sqlite3.Connection, settles: Sequence[Settle], changes: Changes) -> list[bool]:
    """Write settles; False where the fence did not hold. No bad row keeps the others from being written."""
    changes.ended += [settle.id for settle in settles]
    plain = [settle for settle in settles if is_plain(settle)]
    if plain and _succeed(connection, plain):
        if len(plain) == len(settles):
            return [True] * len(settles)
        return [is_plain(settle) or settle_one(connection, settle, changes) for settle in settles]
    return [settle_one(connection, settle, changes) for settle in settles]


def is_plain(settle: Settle) -> bool:
    """Whether this is the usual end: it only fills in its row."""
    return (
        settle.state is State.SUCCEEDED
        and settle.outcome == "ok"
        and not settle.follow
        and settle.error is None
        and settle.reason is None
        and settle.signal is None
        and (settle.result is None or 0 < len(settle.result) <= LARGE)
    )


def _succeed(connection: sqlite3.Connection, settles: list[Settle]) -> bool:
    """Write them all; if one does not go through, none is written."""
    connection.execute("savepoint plain")
    try:
        done = _fill_in(connection, [_plain_row(settle) for settle in settles])
    except Exception as error:
        if not is_poison(error):
            raise
        done = 0
    if done != len(settles):
        connection.execute("rollback to plain")
    connection.execute("release plain")
    return done == len(settles)


def _fill_in(connection: sqlite3.Connection, rows: list[Row]) -> int:
    """How many of the rows were written, whole blocks of them first."""
    done, rest = 0, len(rows) - len(rows) % BLOCK
    for start in range(0, rest, BLOCK):
        values = list(chain.from_iterable(rows[start : start + BLOCK]))
        done += connection.execute(_SUCCEED_BLOCK, values).rowcount
    return done + connection.executemany(_SUCCEED, rows[rest:]).rowcount


def _plain_row(settle: Settle) -> Row:
    return (
        settle.started_at,
        settle.ended_at,
        settle.result,
        settle.exit_code,
        settle.pid,
        settle.output,
        settle.seq,
        settle.claim_no,
        settle.owner,
        settle.id,
    )


def settle_one(connection: sqlite3.Connection, settle: Settle, changes: Changes) -> bool:
    """Write one settle with its follow-ups, or (a row that cannot be stored) its failure instead."""
    fence = _fence(connection, settle.seq)
    if fence is None:
        return False
    if not holds(fence, settle):
        return is_repeated(fence, settle)
    connection.execute("savepoint one")
    try:
        _write(connection, with_cancel(fence, settle), changes)
    except Exception as error:
        if not is_poison(error):
            raise
        connection.execute("rollback to one")
        _write(connection, quarantined(settle, error), changes)
    connection.execute("release one")
    return True


def _fence(connection: sqlite3.Connection, seq: int) -> Fence | None:
    row = connection.execute(_FENCE, (seq,)).fetchone()
    return None if row is None else Fence(row[0], State(row[1]), *row[2:])


def _write(connection: sqlite3.Connection, settle: Settle, changes: Changes) -> None:
    is_final = settle.state in FINAL
    if settle.outcome is not None and not is_final:
        connection.execute(_KEEP_ATTEMPT, _attempt_row(settle))
    connection.execute(_SETTLE, _row(settle, is_final))
    if settle.outcome is None and settle.attempt > 0:
        connection.execute(_RESTORE_ATTEMPT, (LARGE, settle.seq))
    _write_bodies(connection, settle)
    add_all(connection, settle.follow, settle.ended_at, changes)
    if settle.state is State.WAITING:
        grow(connection, settle, changes)


def _write_bodies(connection: sqlite3.Connection, settle: Settle) -> None:
    for kind, text in ((RESULT, settle.result), (ERROR, settle.error)):
        if text is not None and (len(text) > LARGE or not text):
            put_body(connection, settle.seq, kind, text)


def _row(settle: Settle, is_final: bool) -> Row:
    return (
        settle.state.value,
        settle.outcome,
        settle.attempt,
        settle.failures,
        settle.crashes,
        settle.due_at,
        settle.started_at,
        settle.ended_at if is_final else None,
        settle.reason,
        short(settle.result),
        short(settle.error),
        settle.exit_code,
        settle.signal,
        settle.pid,
        settle.output,
        settle.seq,
    )


def _attempt_row(settle: Settle) -> Row:
    return (
        settle.attempt,
        settle.outcome,
        settle.started_at,
        settle.ended_at,
        settle.exit_code,
        settle.signal,
        settle.pid,
        settle.output,
        settle.error,
        settle.seq,
    )
