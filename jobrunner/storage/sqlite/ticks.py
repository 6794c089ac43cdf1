"""Schedules: watermarks, ticks moved by compare-and-set, and the overlap judged in the same write."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from ...durations import Micros
from .. import Tick, Verdict
from ..overlap import naming
from .rows import insert

# For each state one look into the index, however many runs of the task wait.
_HOLDER = """
    select id from runs
    where seq = (
        select min(seq) from (
            select min(seq) as seq from runs indexed by runs_live
            where task = :task and state = 'queued' and finished_at is null
            union all
            select min(seq) from runs indexed by runs_live
            where task = :task and state = 'running' and finished_at is null
            union all
            select min(seq) from runs indexed by runs_live
            where task = :task and state = 'retrying' and finished_at is null
            union all
            select min(seq) from runs indexed by runs_live
            where task = :task and state = 'scheduled' and finished_at is null and tick is not null
        )
    )
"""


def watermarks(
    connection: sqlite3.Connection, keys: Mapping[str, Micros | None], now: Micros
) -> dict[str, Micros]:
    """The watermarks of these schedules; new ones start at `now`."""
    connection.executemany(
        "insert into schedules (key, watermark, next_at) values (?, ?, ?)"
        " on conflict (key) do update set next_at = excluded.next_at where next_at is not excluded.next_at",
        [(key, now, next_at) for key, next_at in keys.items()],
    )
    rows = connection.execute("select key, watermark from schedules").fetchall()
    return {key: watermark for key, watermark in rows if key in keys}


def next_ticks(connection: sqlite3.Connection) -> dict[str, Micros | None]:
    return dict(connection.execute("select key, next_at from schedules").fetchall())


def forget_all_but(connection: sqlite3.Connection, keep: Collection[str]) -> None:
    """Remove the watermarks of schedules that are no more."""
    kept = frozenset(keep)
    known = connection.execute("select key from schedules").fetchall()
    gone = [(key,) for (key,) in known if key not in kept]
    connection.executemany("delete from schedules where key = ?", gone)


def tick_all(connection: sqlite3.Connection, ticks: Sequence[Tick]) -> list[Verdict]:
    """Account for ticks, in this order: a later one sees the runs of those before it."""
    return [_tick(connection, tick) for tick in ticks]


def _tick(connection: sqlite3.Connection, tick: Tick) -> Verdict:
    row = connection.execute("select watermark from schedules where key = ?", (tick.schedule,)).fetchone()
    if row is not None and row[0] != tick.expected:
        return Verdict(row[0], accounted=False)
    connection.execute(
        "insert or replace into schedules (key, watermark, next_at) values (?, ?, ?)",
        (tick.schedule, tick.tick, tick.next_at),
    )
    if tick.run is None:
        return Verdict(tick.tick, accounted=True)
    holder = None if tick.refused is None else _holder(connection, tick.run.task)
    if holder is not None and tick.refused is not None:
        insert(connection, naming(tick.refused, holder))
    else:
        insert(connection, tick.run)
    return Verdict(tick.tick, accounted=True, holder=holder)


def _holder(connection: sqlite3.Connection, task: str) -> str | None:
    row = connection.execute(_HOLDER, {"task": task}).fetchone()
    return None if row is None else row[0]
