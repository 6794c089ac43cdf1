"""What waits for others: resolving what has nothing to wait for any more, adding, cancelling."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...durations import Micros
from ...edges import TIMEOUT, Resolution, Waiting, missing, resolve
from ...model import FINAL, Condition, Input, NewRun, Reason, Settle, State
from .rows import ERROR, RESULT, body_of, insert, put_body, put_edges, short
from .schema import LARGE


@dataclass(slots=True)
class Changes:
    """What a transaction has changed, as far as others wait for it."""

    ended: list[str] = field(default_factory=list)  # ids of runs that may be final now
    born: list[int] = field(default_factory=list)  # seqs of runs that begin to wait, or are cancelled waiting
    is_awaited: bool | None = None  # whether anything waited for anything before; None: nobody has looked


# --- resolving --------------------------------------------------------------------------------------

_OVER = "not exists (select 1 from runs where id = edges.before and finished_at is null)"

_MARK_ENDED = f"""
    update edges set done = 1
    where done = 0 and before in (select value from json_each(?)) and {_OVER}
    returning seq
"""  # noqa: S608 - constants

_MARK_BORN = f"update edges set done = 1 where done = 0 and seq = ? and {_OVER}"  # noqa: S608 - constants

_WAITING = """
    select created_at, due_at, expires_at, joins, cancel_reason, id,
        joins is not null and exists (select 1 from edges where edges.seq = runs.seq and done = 0)
    from runs
    where seq = ? and state = 'waiting'
"""

_INPUTS = """
    select before, task, state, condition, result, reason, outcome, error, exit_code, attempt, runs.seq
    from edges left join runs on runs.id = before
    where edges.seq = ?
    order by place
"""

_IS_AWAITED = "select exists (select 1 from edges indexed by edges_open where done = 0)"


def _is_awaited(connection: sqlite3.Connection, changes: Changes) -> bool:
    if changes.is_awaited is None:
        return bool(connection.execute(_IS_AWAITED).fetchone()[0])
    return changes.is_awaited


def resolve_all(connection: sqlite3.Connection, changes: Changes, now: Micros) -> None:
    """Let go on what has nothing to wait for any more; what ends by that lets others go on in turn."""
    ended, born = changes.ended, changes.born
    changes.ended, changes.born = [], []
    if not born and not (ended and _is_awaited(connection, changes)):
        return
    connection.executemany(_MARK_BORN, [(seq,) for seq in born])
    freed = {*born, *_freed(connection, ended)}
    while freed:
        looked = (_look(connection, seq, now) for seq in sorted(freed))
        freed = _freed(connection, [run_id for run_id in looked if run_id is not None])


def _freed(connection: sqlite3.Connection, ended: Sequence[str]) -> set[int]:
    """The runs that have waited for one of these."""
    if not ended:
        return set()
    return {seq for (seq,) in connection.execute(_MARK_ENDED, (json.dumps(ended),)).fetchall()}


def _look(connection: sqlite3.Connection, seq: int, now: Micros) -> str | None:
    """Resolve one waiting run; its id if that was its end."""
    row = connection.execute(_WAITING, (seq,)).fetchone()
    if row is None or row[6]:
        return None
    resolution = resolve(Waiting(*row[:5]), inputs_of(connection, seq, gone=False), now)
    if resolution is None:
        return None
    _apply(connection, seq, resolution, now)
    return row[5] if resolution.state is None or resolution.state in FINAL else None


def inputs_of(connection: sqlite3.Connection, seq: int, *, gone: bool = True) -> tuple[Input, ...]:
    """The ends of predecessors, in order; `gone`: also those that are not there where that is no matter."""
    rows = connection.execute(_INPUTS, (seq,)).fetchall()
    return tuple(
        _input(connection, row) for row in rows if gone or row[2] is not None or row[3] != Condition.FINAL
    )


def _input(connection: sqlite3.Connection, row: tuple[object, ...]) -> Input:
    run_id, task, state, condition, result, reason, outcome, error, exit_code, attempt, seq = row
    if state is None:
        return missing(str(run_id), str(condition))
    return Input._make(
        (
            run_id,
            task,
            State(str(state)),
            condition,
            _whole(connection, seq, RESULT, result),
            reason,
            outcome,
            _whole(connection, seq, ERROR, error),
            exit_code,
            attempt,
        )
    )


def _whole(connection: sqlite3.Connection, seq: object, kind: int, text: object) -> object:
    return body_of(connection, int(str(seq)), kind) if text == "" else text


def _apply(connection: sqlite3.Connection, seq: int, then: Resolution, now: Micros) -> None:
    if then.state is None:
        connection.execute("delete from runs where seq = ?", (seq,))
        connection.execute("delete from edges where seq = ?", (seq,))
        connection.execute("delete from bodies where key between ? and ?", (seq * 4, seq * 4 + 3))
    elif then.state in FINAL:
        connection.execute(
            "update runs set state = ?, finished_at = ?, reason = ?, outcome = ?, result = ?, error = ?"
            " where seq = ?",
            (then.state.value, now, then.reason, then.outcome, short(then.result), then.error, seq),
        )
        if then.result is not None and len(then.result) > LARGE:
            put_body(connection, seq, RESULT, then.result)
    else:
        connection.execute(
            "update runs set state = ?, due_at = ?, expires_at = ? where seq = ?",
            (then.state.value, then.due_at, then.expires_at, seq),
        )


# --- adding -----------------------------------------------------------------------------------------

_HOLDER = """
    select seq, id, state, joins from runs
    where unique_key = ? and unique_key is not null and finished_at is null
"""

_IS_CLAIMED = "select exists (select 1 from runs where pipeline = ? and claim_no > 0)"


class Holder(NamedTuple):
    """Who holds a unique key."""

    seq: int
    id: str
    state: str
    joins: str | None


def holder_of(connection: sqlite3.Connection, key: str | None) -> Holder | None:
    row = connection.execute(_HOLDER, (key,)).fetchone() if key is not None else None
    return None if row is None else Holder._make(row)


def add_all(
    connection: sqlite3.Connection, runs: Sequence[NewRun], now: Micros, changes: Changes
) -> list[bool]:
    """Add runs; what belongs to a pipeline whose root is refused is refused with it."""
    refused: set[str] = set()
    answers = []
    for run in runs:
        added = run.pipeline not in refused and _add(connection, run, now, changes)
        if not added:
            refused.add(run.id)
        answers.append(added)
    return answers


def _add(connection: sqlite3.Connection, run: NewRun, now: Micros, changes: Changes) -> bool:
    if run.unique is not None and run.replaces and run.state not in FINAL:
        _take_key(connection, run, now, changes)
    if not insert(connection, run):
        return False
    if run.state is State.WAITING or run.after:
        changes.born.append(seq_of(connection, run.id))
    if run.state in FINAL:
        changes.ended.append(run.id)
    return True


def seq_of(connection: sqlite3.Connection, run_id: str) -> int:
    row = connection.execute("select seq from runs where id = ?", (run_id,)).fetchone()
    return row[0] if row else 0


def _take_key(connection: sqlite3.Connection, run: NewRun, now: Micros, changes: Changes) -> None:
    """Take the key from its holder: one that runs goes on without it, another is cancelled."""
    holder = holder_of(connection, run.unique)
    if holder is None or seq_of(connection, run.id):
        return
    if has_begun(connection, holder):
        connection.execute("update runs set unique_key = null where seq = ?", (holder.seq,))
    else:
        cancel(connection, holder.id, now, Reason.SUPERSEDED.value, changes)
        resolve_all(connection, changes, now)


def has_begun(connection: sqlite3.Connection, holder: Holder) -> bool:
    """Whether it runs; of a pipeline whether one of its steps was claimed."""
    if holder.joins is None:
        return holder.state == State.RUNNING
    return bool(connection.execute(_IS_CLAIMED, (holder.id,)).fetchone()[0])


def grow(connection: sqlite3.Connection, settle: Settle, changes: Changes) -> None:
    """Let a run that was claimed wait for others from now on."""
    connection.execute("update runs set joins = ? where seq = ?", (settle.join, settle.seq))
    connection.execute("delete from edges where seq = ?", (settle.seq,))
    put_edges(connection, settle.seq, settle.after)
    changes.born.append(settle.seq)


# --- cancelling -------------------------------------------------------------------------------------

_CANCEL = """
    update runs
    set state = 'cancelled', reason = ?, finished_at = ?
    where id = ? and state in ('waiting', 'scheduled', 'queued', 'retrying') and joins is null
"""

_ASK_TO_END = """
    update runs set cancel_reason = coalesce(cancel_reason, ?)
    where id = ? and state in ('running', 'waiting')
    returning seq, joins
"""

_MEMBERS = """
    select runs.seq, runs.id, runs.joins from edges join runs on runs.id = edges.before
    where edges.seq = ? and runs.finished_at is null
    order by place
"""


def cancel(connection: sqlite3.Connection, run_id: str, now: Micros, reason: str, changes: Changes) -> bool:
    """End a run that is not running; mark one that is. False: it was final, or is not there."""
    if _end(connection, run_id, now, reason, changes):
        return True
    marked = connection.execute(_ASK_TO_END, (reason, run_id)).fetchone()
    if marked is None or marked[1] is None:
        return marked is not None
    below = Reason.CANCELLED.value if reason == TIMEOUT else reason
    for member in list(_below(connection, marked[0])):
        if not _end(connection, member, now, below, changes):
            connection.execute(_ASK_TO_END, (below, member)).fetchall()
    changes.born.append(marked[0])
    return True


def _end(connection: sqlite3.Connection, run_id: str, now: Micros, reason: str, changes: Changes) -> bool:
    done = connection.execute(_CANCEL, (reason, now, run_id)).rowcount > 0
    if done:
        changes.ended.append(run_id)
    return done


def _below(connection: sqlite3.Connection, seq: int) -> Iterator[str]:
    """The ids of what a row stands for, itself left out; not over yet."""
    for member, run_id, joins in connection.execute(_MEMBERS, (seq,)).fetchall():
        if joins is not None:
            yield from _below(connection, member)
        yield run_id
