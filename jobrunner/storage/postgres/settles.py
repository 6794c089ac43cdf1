"""Settles: the ends of attempts, each under its fence and atomic with its follow-ups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from ...durations import Micros
from ...model import FINAL, Settle, Started, State
from ..fences import Fence, holds, is_repeated, quarantined, with_cancel
from . import waits
from .arrays import Row, columns, literal
from .database import Connection
from .faults import is_poison

_SUCCEED = """
    update runs
    set state = 'succeeded', outcome = 'ok', started_at = new.started_at, finished_at = new.ended_at,
        result = new.result, exit_code = new.exit_code, pid = new.pid, output = new.output, owner = null
    from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[],
        %s::bigint[], %s::bigint[], %s::text[])
        as new (seq, claim_no, owner, id, started_at, ended_at, result, exit_code, pid, output)
    where runs.seq = new.seq and runs.claim_no = new.claim_no and runs.owner = new.owner
        and runs.id = new.id and runs.state = 'running'
    returning new.seq, new.claim_no, new.owner, new.id,
        runs.lock is not null or runs.extra_locks is not null
"""

_SETTLE = """
    update runs
    set state = new.state, outcome = new.outcome, attempt = new.attempt, failures = new.failures,
        crashes = new.crashes, due_at = new.due_at, started_at = new.started_at,
        finished_at = new.finished_at, reason = new.reason, result = new.result, error = new.error,
        exit_code = new.exit_code, signal = new.signal, pid = new.pid, output = new.output,
        joins = coalesce(new.joins, runs.joins), owner = null
    from unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
        %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[],
        %s::bigint[], %s::text[], %s::text[])
        as new (seq, state, outcome, attempt, failures, crashes, due_at, started_at, finished_at, reason,
            result, error, exit_code, signal, pid, output, joins)
    where runs.seq = new.seq
"""

_FENCES = """
    select seq, id, state, claim_no, owner, attempt, failures, crashes, cancel_reason,
        lock is not null or extra_locks is not null
    from runs
    where seq = any(%s::bigint[])
"""

_KEEP_ATTEMPTS = """
    insert into attempts
        (seq, number, outcome, started_at, ended_at, exit_code, signal, host, pid, output, error)
    select new.seq, new.number, new.outcome, new.started_at, new.ended_at, new.exit_code, new.signal,
        runs.host, new.pid, new.output, new.error
    from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[],
        %s::bigint[], %s::text[], %s::text[])
        as new (seq, number, outcome, started_at, ended_at, exit_code, signal, pid, output, error)
        join runs on runs.seq = new.seq
    on conflict (seq, number) do update
    set outcome = excluded.outcome, started_at = excluded.started_at, ended_at = excluded.ended_at,
        exit_code = excluded.exit_code, signal = excluded.signal, host = excluded.host, pid = excluded.pid,
        output = excluded.output, error = excluded.error
"""

# A call that came back before it had begun was no attempt: the row tells of the one before again.
_RESTORE_ATTEMPTS = """
    update runs
    set outcome = a.outcome, started_at = a.started_at, exit_code = a.exit_code, signal = a.signal,
        host = a.host, pid = a.pid, output = a.output, error = a.error
    from attempts a
    where runs.seq = any(%s::bigint[]) and a.seq = runs.seq and a.number = runs.attempt
"""

_STARTED = """
    update runs
    set started_at = new.started_at, pid = new.pid
    from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[])
        as new (seq, claim_no, owner, started_at, pid)
    where runs.seq = new.seq and runs.claim_no = new.claim_no and runs.owner = new.owner
        and runs.state = 'running'
"""


Key = tuple[int, int, str, str]  # seq, claim number, owner, id: the fence


@dataclass(slots=True)
class Settled:
    """What a batch of settles did."""

    held: list[bool]  # for each whether its fence did
    ended: list[str] = field(default_factory=list)  # ids of runs that became final
    born: list[int] = field(default_factory=list)  # numbers of runs that wait now
    frees: bool = False  # a lock was let go, or a run can be claimed by that


def mark_started(connection: Connection, started: Sequence[Started]) -> None:
    """Note the starts of attempts that are still going."""
    if started:
        rows = [(each.seq, each.claim_no, each.owner, each.started_at, each.pid) for each in started]
        connection.execute(_STARTED, columns(rows))


def settle_all(connection: Connection, settles: Sequence[Settle], now: Micros) -> Settled:
    """Write settles with their follow-ups; who waits for them is for the caller to resolve."""
    done = Settled([False] * len(settles))
    if not settles:
        return done
    written = _succeed(connection, [settle for settle in settles if is_plain(settle)], done)
    rest = [settle for settle in settles if _key(settle) not in written]
    answers = _write_rest(connection, rest, done, now) if rest else {}
    done.held = [_key(settle) in written or answers.get(_key(settle), False) for settle in settles]
    return done


def settle_each(connection: Connection, settles: Sequence[Settle], now: Micros) -> Settled:
    """The same one by one: a row that cannot be stored is settled as that, and keeps no other from it."""
    done = Settled([])
    for settle in settles:
        one = _try(connection, lambda settle=settle: settle_all(connection, [settle], now))  # type: ignore[misc]
        if isinstance(one, Exception):
            error = one
            one = settle_all(connection, [quarantined(settle, error)], now)
        done.held += one.held
        done.ended += one.ended
        done.born += one.born
        done.frees |= one.frees
    return done


def _try(connection: Connection, write: Callable[[], Settled]) -> Settled | Exception:
    connection.execute("savepoint one")
    try:
        done = write()
    except Exception as error:
        if not is_poison(error) or (isinstance(error, psycopg.Error) and connection.broken):
            raise
        connection.execute("rollback to savepoint one")
        return error
    connection.execute("release savepoint one")
    return done


def is_plain(settle: Settle) -> bool:
    """Whether this is the usual end: it only fills in its row."""
    return (
        settle.state is State.SUCCEEDED
        and settle.outcome == "ok"
        and not settle.follow
        and settle.error is None
        and settle.reason is None
        and settle.signal is None
    )


def _key(settle: Settle) -> Key:
    return settle.seq, settle.claim_no, settle.owner, settle.id


def _succeed(connection: Connection, settles: Sequence[Settle], done: Settled) -> set[Key]:
    """Write the usual ends; those whose fence held."""
    if not settles:
        return set()
    rows = connection.execute(_SUCCEED, columns([_plain_row(settle) for settle in settles])).fetchall()
    done.ended += [row[3] for row in rows]
    done.frees |= any(row[4] for row in rows)
    return {row[:4] for row in rows}


def _plain_row(settle: Settle) -> Row:
    return (
        *_key(settle),
        settle.started_at,
        settle.ended_at,
        settle.result,
        settle.exit_code,
        settle.pid,
        settle.output,
    )


def _write_rest(
    connection: Connection, settles: Sequence[Settle], done: Settled, now: Micros
) -> dict[Key, bool]:
    """Judge each by the row that it meets, then write those whose fence holds; for each whether it did."""
    rows = connection.execute(_FENCES, (literal({settle.seq for settle in settles}),)).fetchall()
    fences = {row[0]: Fence(row[1], State(row[2]), *row[3:9]) for row in rows}
    answers: dict[Key, bool] = {}
    held: dict[int, Settle] = {}
    for settle in settles:
        fence = fences.get(settle.seq)
        if fence is not None and holds(fence, settle) and settle.seq not in held:
            held[settle.seq] = with_cancel(fence, settle)
            answers[_key(settle)] = True
        else:
            answers.setdefault(_key(settle), fence is not None and is_repeated(fence, settle))
    _write(connection, list(held.values()), done, now)
    done.frees |= any(row[9] for row in rows if row[0] in held)
    return answers


def _write(connection: Connection, settles: Sequence[Settle], done: Settled, now: Micros) -> None:
    if not settles:
        return
    kept = [each for each in settles if each.outcome is not None and each.state not in FINAL]
    if kept:
        connection.execute(_KEEP_ATTEMPTS, columns([_attempt_row(settle) for settle in kept]))
    connection.execute(_SETTLE, columns([_row(settle) for settle in settles]))
    recalled = [settle.seq for settle in settles if settle.outcome is None and settle.attempt > 0]
    if recalled:
        connection.execute(_RESTORE_ATTEMPTS, (literal(recalled),))
    _follow(connection, settles, done, now)


def _follow(connection: Connection, settles: Sequence[Settle], done: Settled, now: Micros) -> None:
    """Add the follow-ups; note what has become final, and what waits now."""
    done.ended += [settle.id for settle in settles if settle.state in FINAL]
    done.frees |= any(settle.state not in FINAL for settle in settles)
    for settle in settles:
        if settle.follow:
            waits.add_all(connection, settle.follow, now)
            done.frees = True
    grown = [settle for settle in settles if settle.state is State.WAITING]
    if grown:
        seqs = [settle.seq for settle in grown]
        connection.execute("delete from edges where run = any(%s::bigint[])", (literal(seqs),))
        waits.join(connection, [(settle.seq, settle.after) for settle in grown])
        done.born += seqs


def _row(settle: Settle) -> Row:
    return (
        settle.seq,
        settle.state.value,
        settle.outcome,
        settle.attempt,
        settle.failures,
        settle.crashes,
        settle.due_at,
        settle.started_at,
        settle.ended_at if settle.state in FINAL else None,
        settle.reason,
        settle.result,
        shown(settle.error),
        settle.exit_code,
        settle.signal,
        settle.pid,
        settle.output,
        settle.join,
    )


def _attempt_row(settle: Settle) -> Row:
    return (
        settle.seq,
        settle.attempt,
        settle.outcome,
        settle.started_at,
        settle.ended_at,
        settle.exit_code,
        settle.signal,
        settle.pid,
        settle.output,
        shown(settle.error),
    )


def shown(error: str | None) -> str | None:
    """An error's text is for people: a NUL in it, which PostgreSQL cannot hold, is written as `\\x00`."""
    return None if error is None else error.replace("\0", "\\x00")
