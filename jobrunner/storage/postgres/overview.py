"""What `status` shows: counts that stop at a limit, and a summary of each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...durations import DAY, Micros
from ...model import Run, State
from .. import COUNT_LIMIT, DayStats, Overview, TaskSummary
from .arrays import literal
from .database import Connection, Turn
from .rows import read_runs

# The first run of a lane and a priority is the oldest of them: one step from each group to the next.
_OLDEST = """
    with recursive heads (lane, priority, due_at) as (
        (select lane, priority, due_at from runs where state = 'queued'
            order by lane, priority desc, due_at limit 1)
        union all
        select following.lane, following.priority, following.due_at
        from heads
        cross join lateral (
            (select lane, priority, due_at from runs
                where state = 'queued' and lane = heads.lane and priority < heads.priority
                order by lane, priority desc, due_at limit 1)
            union all
            (select lane, priority, due_at from runs
                where state = 'queued' and lane > heads.lane
                order by lane, priority desc, due_at limit 1)
            limit 1
        ) following
    )
    select min(due_at) from (select due_at from heads limit 1000) first
"""

_COUNTS = " union all ".join(
    f"select '{state.value}', (select count(*) from ("  # noqa: S608 - our words
    f"select 1 from runs where state = '{state.value}' limit {COUNT_LIMIT + 1}) few)"
    for state in State
)

_DAY = """
    select count(*) from (
        select 1 from runs where state = %s and finished_at is not null and finished_at >= %s limit %s) few
"""

_RETRIED = """
    select count(*) from (
        select distinct seq from (
            select seq from attempts where ended_at >= %s order by ended_at limit %s) few) runs
"""

_OF = "from runs r where r.task = names.task and state"
_ROOTS = f"{_OF} = 'waiting' and joins is not null and pipeline is null"
_MOST = f"limit {COUNT_LIMIT + 1}"

# For each task a few short looks into the index, and the numbers of the runs that are shown of it.
_TASKS = f"""
    select task,
        (select count(*) from (select 1 {_OF} = 'queued' {_MOST}) few),
        (select count(*) from (select 1 {_OF} = 'running' {_MOST}) few)
            + (select count(*) from (select 1 {_ROOTS} {_MOST}) few),
        (select seq {_OF} = 'retrying' order by seq limit 1),
        least(
            (select seq {_OF} = 'running' order by seq limit 1),
            (select seq {_ROOTS} order by seq limit 1))
    from unnest(%s::text[]) with ordinality as names (task, place)
    order by place
"""  # noqa: S608 - our words

_RECENT = """
    select names.task, done.*
    from unnest(%s::text[]) as names (task)
    cross join lateral (
        select seq, state, failures, finished_at - started_at
        from runs r
        where r.task = names.task and finished_at is not null and state <> 'skipped'
        order by finished_at desc, seq desc
        limit %s
    ) done
"""


def counts(connection: Connection) -> dict[State, int]:
    """Runs by state, exact up to COUNT_LIMIT."""
    return {State(state): number for state, number in connection.execute(_COUNTS).fetchall()}


def overview(turn: Turn, since: Micros, tasks: Sequence[str], recent: int) -> Overview:
    """`since`: the moment of the call, less a day."""
    connection = turn.connection
    return Overview(
        counts=counts(connection),
        oldest_queued=_number(connection, _OLDEST),
        day=_day(connection, since - DAY),
        size=_number(
            connection,
            "select sum(pg_total_relation_size(oid))::bigint from pg_class"
            " where relnamespace = current_schema()::regnamespace and relkind = 'r'",
        )
        or 0,
        tasks=tuple(_summaries(connection, tasks, recent)) if tasks else (),
    )


def _number(connection: Connection, text: str, values: Sequence[object] | None = None) -> int | None:
    row = connection.execute(text, values).fetchone()
    return row[0] if row else None


def _day(connection: Connection, since: Micros) -> DayStats:
    ok, failed = (
        _number(connection, _DAY, (state.value, since, COUNT_LIMIT + 1)) or 0
        for state in (State.SUCCEEDED, State.FAILED)
    )
    retried = _number(connection, _RETRIED, (since, COUNT_LIMIT + 1)) or 0
    return DayStats(ok=ok, failed=failed, retried=retried)


def _summaries(connection: Connection, tasks: Sequence[str], recent: int) -> list[TaskSummary]:
    names = literal(tasks)
    live = connection.execute(_TASKS, (names,)).fetchall()
    done: dict[str, list[tuple[Any, ...]]] = {}
    for task, *row in connection.execute(_RECENT, (names, max(1, recent))).fetchall():
        done.setdefault(task, []).append(tuple(row))
    shown = [seq for row in live for seq in row[3:5] if seq] + [rows[0][0] for rows in done.values()]
    runs = {run.seq: run for run in read_runs(connection, shown)} if shown else {}
    return [_summary(row, done.get(row[0], []), recent, runs) for row in live]


def _summary(
    live: Sequence[Any], done: Sequence[tuple[Any, ...]], recent: int, runs: dict[int, Run]
) -> TaskSummary:
    task, queued, running, retrying, current = live
    took = [time for _, state, _, time in done if state == "succeeded" and time is not None]
    return TaskSummary(
        task=task,
        queued=queued,
        running=running,
        waiting_retry=runs.get(retrying),
        current=runs.get(current),
        last=runs.get(done[0][0]) if done else None,
        recent=tuple((State(state), failures) for _, state, failures, _ in reversed(done[:recent])),
        typical=_median(took),
    )


def _median(times: list[Micros]) -> Micros | None:
    """As `statistics.median`, whose import every client would feel."""
    if not times:
        return None
    ordered, middle = sorted(times), len(times) // 2
    return round((ordered[middle] + ordered[~middle]) / 2)
