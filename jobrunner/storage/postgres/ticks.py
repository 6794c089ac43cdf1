"""Schedules: watermarks, ticks moved by compare-and-set, and the overlap judged in the same write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...durations import Micros
from ...model import NewRun, Reason, State
from .. import Tick, Verdict
from ..overlap import Standing, behind, is_in_the_way, is_superseded, naming
from . import waits
from .arrays import columns, literal
from .database import Connection, Turn

MOST_STANDING = 10_000  # runs of one task that one tick is judged by

_KNOWN = """
    insert into schedules (key, watermark, next_at)
    select key, watermark, next_at from unnest(%s::text[], %s::bigint[], %s::bigint[])
        as new (key, watermark, next_at)
    on conflict (key) do update set next_at = excluded.next_at
    where schedules.next_at is distinct from excluded.next_at
"""

# Where nobody has looked yet, there is no watermark, and every one is expected.
_MOVE = """
    insert into schedules (key, watermark, next_at) values (%s, %s, %s)
    on conflict (key) do update set watermark = excluded.watermark, next_at = excluded.next_at
    where schedules.watermark = %s
"""

# The last column: whether it (of a pipeline: one of its steps) waits for another run to end.
_STANDING = """
    select id, state, trigger, tick, due_at, joins is not null and pipeline is null,
        state = 'waiting' and (
            joins is null and exists (select 1 from edges where run = seq and condition = 'final')
            or joins is not null and pipeline is null and exists (
                select 1 from runs m join edges e on e.run = m.seq
                where m.pipeline = r.id and m.state = 'waiting' and m.joins is null
                    and e.condition = 'final'))
    from runs r
    where task = %s and state = any(%s::text[])
    order by seq
    limit %s
"""

# For each state one look into the index, however many runs of the task wait.
_OF = "(select seq from runs where task = %(task)s and state"
_HOLDER = f"""
    select id from runs
    where seq = (
        select min(seq) from (
            {_OF} = 'queued' order by seq limit 1)
            union all
            {_OF} = 'running' order by seq limit 1)
            union all
            {_OF} = 'retrying' order by seq limit 1)
            union all
            {_OF} = 'scheduled' and tick is not null order by seq limit 1)
        ) holders
    )
"""  # noqa: S608 - our words


def watermarks(turn: Turn, keys: Mapping[str, Micros | None], given: Micros) -> dict[str, Micros]:
    """The watermarks of these schedules; new ones start at the caller's `given` moment."""
    if not keys:
        return {}
    turn.connection.execute(_KNOWN, columns([(key, given, next_at) for key, next_at in keys.items()]))
    rows = turn.connection.execute(
        "select key, watermark from schedules where key = any(%s::text[])", (literal(keys),)
    ).fetchall()
    return dict(rows)


def next_ticks(turn: Turn) -> dict[str, Micros | None]:
    return dict(turn.connection.execute("select key, next_at from schedules").fetchall())


def tick_all(turn: Turn, ticks: Sequence[Tick]) -> list[Verdict]:
    """Account for ticks, in this order: a later one sees the runs of those before it."""
    return [_tick(turn, tick) for tick in ticks]


def _tick(turn: Turn, tick: Tick) -> Verdict:
    moved = turn.connection.execute(_MOVE, (tick.schedule, tick.tick, tick.next_at, tick.expected)).rowcount
    if not moved:
        row = turn.connection.execute(
            "select watermark from schedules where key = %s", (tick.schedule,)
        ).fetchone()
        return Verdict(row[0] if row else tick.expected, accounted=False)
    holder = None if tick.run is None else _enter(turn, tick, tick.run)
    return Verdict(tick.tick, accounted=True, holder=holder)


def _enter(turn: Turn, tick: Tick, run: NewRun) -> str | None:
    """Add the tick's run, or what stands for it; the id of a run in its way."""
    if tick.overlap in ("queue", "replace"):
        return _queue(turn, tick, run)
    first = None if tick.refused is None else _first_in_the_way(turn, run)
    if tick.refused is not None and first is not None:
        _add(turn, [naming(tick.refused, first)])
        return first
    _add(turn, [run, *tick.members])
    return None


def _first_in_the_way(turn: Turn, run: NewRun) -> str | None:
    """The run in the way that was enqueued first."""
    row = turn.connection.execute(_HOLDER, {"task": run.task}).fetchone()
    roots = [
        each for each in _standing(turn, run.task, [State.WAITING]) if is_in_the_way(each, run.created_at)
    ]
    return _earlier(turn.connection, [row[0] if row else None, roots[0].id if roots else None])


def _earlier(connection: Connection, run_ids: Sequence[str | None]) -> str | None:
    known = [run_id for run_id in run_ids if run_id is not None]
    if len(known) < 2:
        return known[0] if known else None
    row = connection.execute(
        "select id from runs where id = any(%s::text[]) order by seq limit 1", (literal(known),)
    ).fetchone()
    return row[0] if row else None


def _queue(turn: Turn, tick: Tick, run: NewRun) -> str | None:
    """Let the tick's run wait for what is in its way, in the place of an earlier one that did."""
    live = [state for state in State if not state.is_final]
    standing = _standing(turn, run.task, live)
    holders = [each for each in standing if is_in_the_way(each, run.created_at)]
    known = turn.connection.execute("select 1 from runs where id = %s", (run.id,)).fetchone()
    if known is None:
        _add(turn, behind(tick, _give_way(turn, tick, standing, holders)))
    return holders[0].id if holders else None


def _give_way(turn: Turn, tick: Tick, standing: Sequence[Standing], holders: Sequence[Standing]) -> list[str]:
    """End what gives way to the tick; the ids of the runs that it has to wait for."""
    gone = [each.id for each in standing if is_superseded(each)]
    if tick.overlap == "replace":
        gone += [each.id for each in holders]
    done = waits.cancel(turn.connection, gone, turn.now, Reason.SUPERSEDED.value)
    waits.resolve_all(turn.connection, done.ended, done.born, turn.now)
    rows = turn.connection.execute(
        "select id from runs where id = any(%s::text[]) and finished_at is null order by seq",
        (literal(each.id for each in holders),),
    ).fetchall()
    return [run_id for (run_id,) in rows]


def _standing(turn: Turn, task: str, states: Sequence[State]) -> list[Standing]:
    """The runs of a task in these states, in the order of their enqueue."""
    rows = turn.connection.execute(
        _STANDING, (task, literal(state.value for state in states), MOST_STANDING)
    ).fetchall()
    return [Standing(run_id, State(state), *rest) for run_id, state, *rest in rows]


def _add(turn: Turn, runs: Sequence[NewRun]) -> None:
    """Add the runs of a tick, which no unique key refuses."""
    first = runs[0]
    if first.unique is not None and _is_held(turn.connection, first.unique):
        first = first._replace(unique=None)
    waits.add_all(turn.connection, [first, *runs[1:]], turn.now)


def _is_held(connection: Connection, key: str) -> bool:
    row = connection.execute(
        "select 1 from runs where unique_key = %s and finished_at is null", (key,)
    ).fetchone()
    return row is not None
