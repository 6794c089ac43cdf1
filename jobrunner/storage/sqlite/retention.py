"""Retention: finished runs and results that are old or too many go, in small batches."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from ...durations import Micros
from ...model import FINAL
from .rows import RESULT

if TYPE_CHECKING:
    from ...plan import Retention

_STATES = sorted(state.value for state in FINAL)

# A step goes with its root, and a pipeline goes when all of it is final.
_FREE = """
    (pipeline is null or not exists (select 1 from runs as root where root.id = runs.pipeline))
    and not (joins is not null and exists (
        select 1 from runs as member
        where member.pipeline = runs.id and member.pipeline is not null and member.finished_at is null))
"""

# The oldest finished runs: one short look into the index for each final state.
_OLDEST = " union all ".join(
    f"select * from (select finished_at, seq, id, joins is not null as is_root from runs"  # noqa: S608
    f" where state = '{state}' and finished_at is not null and finished_at < :before and {_FREE}"
    " order by finished_at, seq limit :limit)"
    for state in _STATES
)

_MEMBERS = "select seq, id from runs where pipeline = ? and pipeline is not null order by seq"

_COUNT = "select count(*) from (select 1 from runs where finished_at is not null limit ?)"

_RESULTS = """
    select finished_at, seq from runs
    where state = 'succeeded' and finished_at is not null and finished_at >= :after
        and (pipeline is null or not exists (
            select 1 from runs as root where root.id = runs.pipeline and root.finished_at is null))
        and (finished_at, seq) > (:after, :after_seq) and finished_at < :before
    order by finished_at, seq
    limit :limit
"""

_ENDLESS: Micros = 2**62


def remove_runs(
    connection: sqlite3.Connection, retention: Retention, now: Micros, limit: int
) -> list[tuple[int, str]]:
    """Remove runs past their age, then the oldest of those that are too many; (seq, id) of each."""
    gone = _gathered(connection, now - retention.history, limit)
    if len(gone) < limit:
        finished = connection.execute(_COUNT, (retention.max_runs + limit + len(gone),)).fetchone()[0]
        excess = min(limit, finished - retention.max_runs)
        if excess > len(gone):
            gone = _gathered(connection, _ENDLESS, excess)
    _remove(connection, gone)
    return gone


def _gathered(connection: sqlite3.Connection, before: Micros, limit: int) -> list[tuple[int, str]]:
    """The oldest runs, each pipeline whole."""
    gone: list[tuple[int, str]] = []
    for seq, run_id, is_root in _oldest(connection, before, limit):
        if len(gone) >= limit:
            break
        gone.append((seq, run_id))
        if is_root:
            gone += connection.execute(_MEMBERS, (run_id,)).fetchall()
    return gone


def _oldest(connection: sqlite3.Connection, before: Micros, limit: int) -> list[tuple[int, str, int]]:
    return connection.execute(
        f"select seq, id, is_root from ({_OLDEST}) order by finished_at, seq limit :limit",  # noqa: S608
        {"before": before, "limit": limit},
    ).fetchall()


def _remove(connection: sqlite3.Connection, gone: list[tuple[int, str]]) -> None:
    seqs = [(seq,) for seq, _ in gone]
    for table in ("runs", "attempts", "edges", "extra_locks"):
        connection.executemany(f"delete from {table} where seq = ?", seqs)  # noqa: S608 - constants
    connection.executemany(
        "delete from bodies where key between ? and ?", [(seq * 4, seq * 4 + 3) for seq, _ in gone]
    )


def remove_results(connection: sqlite3.Connection, before: Micros, limit: int) -> None:
    """Remove results of runs that finished before; how far this got is noted, so that none is seen twice."""
    row = connection.execute("select number, text from facts where name = 'results removed'").fetchone()
    after, after_seq = (row[0], int(row[1])) if row else (-1, 0)
    old = connection.execute(
        _RESULTS, {"after": after, "after_seq": after_seq, "before": before, "limit": limit}
    ).fetchall()
    if not old:
        return
    seqs = [(seq,) for _, seq in old]
    connection.executemany("update runs set result = null where seq = ? and result is not null", seqs)
    connection.executemany("delete from bodies where key = ?", [(seq * 4 + RESULT,) for (seq,) in seqs])
    connection.execute(
        "insert or replace into facts (name, number, text) values ('results removed', ?, ?)",
        (old[-1][0], str(old[-1][1])),
    )
