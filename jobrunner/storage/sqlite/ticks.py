"""Schedules: watermarks, ticks moved by compare-and-set, and the overlap judged in the same write."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...durations import Micros
from ...model import FINAL, NewRun, Reason, State
from .. import Tick, Verdict
from ..overlap import Standing, behind, is_in_the_way, is_superseded, naming
from ..stretches import accounted, stretches, with_holders
from .many import Many
from .rows import insert_ticks, is_plain_tick
from .waits import Changes, add_all, cancel, holder_of, resolve_all, seq_of

# Whether a run, or one of a pipeline's steps, waits for another run to end.
_BEHIND = """
    exists (
        select 1 from edges join runs as waiting using (seq)
        where edges.condition = 'final' and waiting.state = 'waiting' and waiting.joins is null
            and waiting.{0})
"""
_BEHIND_ROOT = _BEHIND.format("pipeline = runs.id and waiting.pipeline is not null")

# For each state one look into the index, however many runs of the task wait.
_FIRST = f"""
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
            union all
            select min(seq) from runs indexed by runs_roots
            where task = :task and joins is not null and pipeline is null and finished_at is null
                and (tick is not null or due_at <= :now) and not {_BEHIND_ROOT}
        )
    )
"""  # noqa: S608 - constants

_STANDING = f"""
    select id, state, trigger, tick, due_at, joins is not null and pipeline is null,
        case when joins is null then {_BEHIND.format("seq = runs.seq")} else {_BEHIND_ROOT} end
    from runs indexed by runs_live
    where task = ? and finished_at is null
    order by seq
"""  # noqa: S608 - constants


_WATERMARKS = "select key, watermark from schedules where key in (select value from json_each(?))"
_MOVE = Many("insert or replace into schedules (key, watermark, next_at)", 3)

# Of these tasks those that have any run that is not final: few, where ticks do not pile up.
_LIVE = """
    select value from json_each(?)
    where exists (select 1 from runs indexed by runs_live where task = value and finished_at is null)
"""

_BEHIND_OTHERS = frozenset({"queue", "replace"})


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
    verdicts = _move_all(connection, ticks)
    parts = stretches(accounted(ticks, verdicts), _is_plain)
    return with_holders(verdicts, [holder for part in parts for holder in _enter_all(connection, part)])


def _move_all(connection: sqlite3.Connection, ticks: Sequence[Tick]) -> list[Verdict]:
    """Move the watermarks that are where they are expected to be."""
    keys = json.dumps([tick.schedule for tick in ticks])
    marks: dict[str, Micros] = dict(connection.execute(_WATERMARKS, (keys,)).fetchall())
    moved: dict[str, tuple[str, Micros, Micros | None]] = {}
    verdicts = []
    for tick in ticks:
        mark = marks.get(tick.schedule, tick.expected)
        is_expected = mark == tick.expected
        if is_expected:
            mark = marks[tick.schedule] = tick.tick
            moved[tick.schedule] = (tick.schedule, mark, tick.next_at)
        verdicts.append(Verdict(mark, is_expected))
    _MOVE.write(connection, list(moved.values()))
    return verdicts


def _is_plain(tick: Tick) -> bool:
    if tick.run is None:
        return True
    return not tick.members and tick.overlap not in _BEHIND_OTHERS and is_plain_tick(tick.run)


def _enter_all(connection: sqlite3.Connection, part: Sequence[Tick]) -> list[str | None]:
    """Add the runs of a stretch of ticks, or what stands for them; the ids of the runs in their way."""
    if len(part) == 1:
        return [_enter(connection, part[0])]
    holders = _holders(connection, [tick.run for tick in part if tick.refused is not None and tick.run])
    found = [
        None if tick.refused is None or tick.run is None else holders.get(tick.run.task) for tick in part
    ]
    _add_plain(
        connection, [run for tick, holder in zip(part, found, strict=True) if (run := _row(tick, holder))]
    )
    return found


def _row(tick: Tick, holder: str | None) -> NewRun | None:
    """What a plain tick adds."""
    return tick.run if holder is None or tick.refused is None else naming(tick.refused, holder)


def _holders(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> dict[str, str]:
    """By task, the runs in the way of these, which are of different tasks."""
    if not runs:
        return {}
    asked = json.dumps([run.task for run in runs])
    live = {task for (task,) in connection.execute(_LIVE, (asked,)).fetchall()}
    found = {run.task: _first(connection, run) for run in runs if run.task in live}
    return {task: holder for task, holder in found.items() if holder is not None}


def _enter(connection: sqlite3.Connection, tick: Tick) -> str | None:
    """Add the tick's run, or what stands for it; the id of a run in its way."""
    run = tick.run
    if run is None:
        return None
    if tick.overlap in _BEHIND_OTHERS:
        return _enter_behind(connection, tick, run)
    first = None if tick.refused is None else _first(connection, run)
    if tick.refused is not None and first is not None:
        _add(connection, [naming(tick.refused, first)])
    else:
        _add(connection, [run, *tick.members])
    return first


def _first(connection: sqlite3.Connection, run: NewRun) -> str | None:
    row = connection.execute(_FIRST, {"task": run.task, "now": run.created_at}).fetchone()
    return None if row is None else row[0]


def _enter_behind(connection: sqlite3.Connection, tick: Tick, run: NewRun) -> str | None:
    """Add the tick's run behind what is in its way; what gives way to it is cancelled."""
    standing = [_standing(row) for row in connection.execute(_STANDING, (run.task,)).fetchall()]
    holders = [each for each in standing if is_in_the_way(each, run.created_at)]
    if not seq_of(connection, run.id):
        gone = [each for each in standing if is_superseded(each)]
        _end(connection, gone + (holders if tick.overlap == "replace" else []), run.created_at)
        _add(connection, behind(tick, [each.id for each in holders if _is_live(connection, each.id)]))
    return holders[0].id if holders else None


def _standing(row: Sequence[Any]) -> Standing:
    run_id, state, trigger, tick, due_at, is_root, is_behind = row
    return Standing(run_id, State(state), trigger, tick, due_at, bool(is_root), bool(is_behind))


def _end(connection: sqlite3.Connection, runs: Sequence[Standing], now: Micros) -> None:
    changes = Changes()
    for each in runs:
        cancel(connection, each.id, now, Reason.SUPERSEDED.value, changes)
    resolve_all(connection, changes, now)


def _is_live(connection: sqlite3.Connection, run_id: str) -> bool:
    row = connection.execute("select finished_at is null from runs where id = ?", (run_id,)).fetchone()
    return row is not None and bool(row[0])


def _add(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> None:
    """Add the runs of a tick, which no unique key refuses."""
    first, changes = runs[0], Changes()
    if first.unique is not None and holder_of(connection, first.unique) is not None:
        first = first._replace(unique=None)
    add_all(connection, [first, *runs[1:]], first.created_at, changes)
    resolve_all(connection, changes, first.created_at)


def _add_plain(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> None:
    insert_ticks(connection, runs)
    ended = [run for run in runs if run.state in FINAL]
    if ended:
        resolve_all(connection, Changes(ended=[run.id for run in ended]), ended[0].created_at)
