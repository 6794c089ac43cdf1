"""What `status` shows: counts that stop at a limit, and a summary of each task."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ...durations import DAY, Micros
from ...model import Run, State
from .. import COUNT_LIMIT, DayStats, Overview, TaskSummary
from .claims import waiting_lanes
from .history import source_of
from .rows import read_run

_MOST_GROUPS = 1_000  # lanes and priorities looked at for the oldest queued run

# The first run of a lane and a priority is the oldest of them: one step from each group to the next.
_NEXT_GROUP = """
    select priority, due_at from runs
    where state = 'queued' and lane = ? and priority < ?
    order by priority desc, due_at
    limit 1
"""

# Counts come from the indexes, which say nothing of a damaged table: "none" would be a lie then.
_NEWEST = "select payload from runs where seq = (select max(seq) from runs)"

_DAY = """
    select count(*) from (
        select 1 from runs where state = ? and finished_at is not null and finished_at >= ? limit ?)
"""

_RETRIED = "select count(*) from (select distinct seq from attempts where ended_at >= ? limit ?)"

_LIVE_TASKS = """
    with recursive live (task) as (
        select min(task) from runs where finished_at is null
        union all
        select (select min(task) from runs where finished_at is null and task > live.task)
        from live
        where live.task is not null
    )
    select task from live where task is not null
"""

_FIRST = """
    select min(seq) from runs indexed by runs_live
    where task = ? and state = ? and finished_at is null
"""

_LIVE = """
    select count(*) from (
        select 1 from runs indexed by runs_live
        where task = ? and state = ? and finished_at is null
        limit ?)
"""

_ROOTS = """
    select count(*), min(seq) from runs indexed by runs_roots
    where task = ? and joins is not null and pipeline is null and finished_at is null
"""

_RECENT = """
    select seq, state, failures, finished_at - started_at
    from runs indexed by runs_done_by_task
    where task = ? and finished_at is not null and state <> 'skipped'
    order by finished_at desc, seq desc
    limit ?
"""

_HIGHEST = 2**62


class _Live(NamedTuple):
    queued: int = 0
    running: int = 0
    waiting_retry: Run | None = None
    current: Run | None = None


def counts(connection: sqlite3.Connection) -> dict[State, int]:
    """Runs by state, exact up to COUNT_LIMIT."""
    return {state: _count(connection, state) for state in State}


def _count(connection: sqlite3.Connection, state: State) -> int:
    number: int = connection.execute(
        f"select count(*) from (select 1 from {source_of(state)} limit ?)",  # noqa: S608
        (COUNT_LIMIT + 1,),
    ).fetchone()[0]
    return number


def overview(
    connection: sqlite3.Connection, now: Micros, tasks: Sequence[str], recent: int, size: int
) -> Overview:
    connection.execute(_NEWEST).fetchall()
    live = _lives(connection)
    return Overview(
        counts=counts(connection),
        oldest_queued=min(_group_heads(connection), default=None),
        day=_day(connection, now - DAY),
        size=size,
        tasks=tuple(_summary(connection, task, live.get(task, _Live()), recent) for task in tasks),
    )


def _group_heads(connection: sqlite3.Connection) -> Iterator[Micros]:
    """When the oldest run of each lane and priority became due."""
    left = _MOST_GROUPS
    for lane in waiting_lanes(connection):
        priority = _HIGHEST
        while left and (row := connection.execute(_NEXT_GROUP, (lane, priority)).fetchone()):
            priority, due_at = row
            left -= 1
            yield due_at


def _day(connection: sqlite3.Connection, since: Micros) -> DayStats:
    ok, failed = (
        connection.execute(_DAY, (state.value, since, COUNT_LIMIT + 1)).fetchone()[0]
        for state in (State.SUCCEEDED, State.FAILED)
    )
    retried = connection.execute(_RETRIED, (since, COUNT_LIMIT + 1)).fetchone()[0]
    return DayStats(ok=ok, failed=failed, retried=retried)


def live_tasks(connection: sqlite3.Connection) -> list[str]:
    """The tasks with runs that are not over."""
    return [task for (task,) in connection.execute(_LIVE_TASKS).fetchall()]


def _lives(connection: sqlite3.Connection) -> Mapping[str, _Live]:
    return {task: _live(connection, task) for task in live_tasks(connection)}


def _live(connection: sqlite3.Connection, task: str) -> _Live:
    return _Live(
        queued=_number(connection, task, State.QUEUED),
        running=_number(connection, task, State.RUNNING) + _roots(connection, task)[0],
        waiting_retry=_first(connection, task, State.RETRYING),
        current=_first(connection, task, State.RUNNING) or _roots(connection, task)[1],
    )


def _roots(connection: sqlite3.Connection, task: str) -> tuple[int, Run | None]:
    """How many pipelines of this name are not over, and the oldest of them."""
    number, first = connection.execute(_ROOTS, (task,)).fetchone()
    return number, None if first is None else read_run(connection, first)


def _number(connection: sqlite3.Connection, task: str, state: State) -> int:
    number: int = connection.execute(_LIVE, (task, state.value, COUNT_LIMIT + 1)).fetchone()[0]
    return number


def _first(connection: sqlite3.Connection, task: str, state: State) -> Run | None:
    seq = connection.execute(_FIRST, (task, state.value)).fetchone()[0]
    return None if seq is None else read_run(connection, seq)


def _summary(connection: sqlite3.Connection, task: str, live: _Live, recent: int) -> TaskSummary:
    rows = connection.execute(_RECENT, (task, max(1, recent))).fetchall()
    took = [time for _, state, _, time in rows if state == "succeeded" and time is not None]
    return TaskSummary(
        task=task,
        queued=live.queued,
        running=live.running,
        waiting_retry=live.waiting_retry,
        current=live.current,
        last=read_run(connection, rows[0][0]) if rows else None,
        recent=tuple((State(state), failures) for _, state, failures, _ in reversed(rows[:recent])),
        typical=_median(took),
    )


def _median(times: list[Micros]) -> Micros | None:
    """As `statistics.median`, whose import every client would feel."""
    if not times:
        return None
    ordered, middle = sorted(times), len(times) // 2
    return round((ordered[middle] + ordered[~middle]) / 2)
