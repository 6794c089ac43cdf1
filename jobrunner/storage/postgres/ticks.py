"""Schedules: watermarks, ticks moved by compare-and-set, and the overlap judged in the same write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...durations import Micros
from ...model import NewRun, Reason, State
from .. import Tick, Verdict
from ..overlap import Standing, behind, is_in_the_way, is_superseded, naming
from ..stretches import accounted, stretches, with_holders
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

_WATERMARKS = "select key, watermark from schedules where key = any(%s::text[])"

_MOVE = """
    insert into schedules (key, watermark, next_at)
    select key, watermark, next_at from unnest(%s::text[], %s::bigint[], %s::bigint[])
        as new (key, watermark, next_at)
    on conflict (key) do update set watermark = excluded.watermark, next_at = excluded.next_at
"""

# Of these tasks those that have any run that is not final: few, where ticks do not pile up.
_LIVE = """
    select task from unnest(%s::text[]) as asked (task)
    where exists (select 1 from runs where runs.task = asked.task and runs.state = any(%s::text[]))
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

_LIVE_STATES = tuple(state for state in State if not state.is_final)
_BEHIND_OTHERS = frozenset({"queue", "replace"})

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
    return dict(turn.connection.execute(_WATERMARKS, (literal(keys),)).fetchall())


def next_ticks(turn: Turn) -> dict[str, Micros | None]:
    return dict(turn.connection.execute("select key, next_at from schedules").fetchall())


def tick_all(turn: Turn, ticks: Sequence[Tick]) -> list[Verdict]:
    """Account for ticks, in this order: a later one sees the runs of those before it."""
    verdicts = _move_all(turn, ticks)
    parts = stretches(accounted(ticks, verdicts), _is_plain)
    return with_holders(verdicts, [holder for part in parts for holder in _enter_all(turn, part)])


def _move_all(turn: Turn, ticks: Sequence[Tick]) -> list[Verdict]:
    """Move the watermarks that are where they are expected to be; nobody else moves one meanwhile.

    Where nobody has looked yet, there is no watermark, and every one is expected.
    """
    rows = turn.connection.execute(_WATERMARKS, (literal(tick.schedule for tick in ticks),)).fetchall()
    marks: dict[str, Micros] = dict(rows)
    moved: dict[str, tuple[str, Micros, Micros | None]] = {}
    verdicts = []
    for tick in ticks:
        mark = marks.get(tick.schedule, tick.expected)
        is_expected = mark == tick.expected
        if is_expected:
            mark = marks[tick.schedule] = tick.tick
            moved[tick.schedule] = (tick.schedule, mark, tick.next_at)
        verdicts.append(Verdict(mark, is_expected))
    if moved:
        turn.connection.execute(_MOVE, columns(list(moved.values())))
    return verdicts


def _is_plain(tick: Tick) -> bool:
    run = tick.run
    if run is None:
        return True
    is_alone = not tick.members and run.unique is None and run.pipeline is None
    return is_alone and run.state is not State.WAITING and tick.overlap not in _BEHIND_OTHERS


def _enter_all(turn: Turn, part: Sequence[Tick]) -> list[str | None]:
    """Add the runs of a stretch of ticks, or what stands for them; the ids of the runs in their way."""
    if len(part) == 1:
        return [_enter(turn, part[0])]
    holders = _holders(turn, [tick.run for tick in part if tick.refused is not None and tick.run])
    found: list[str | None] = []
    rows: list[NewRun] = []
    for tick in part:
        holder = None if tick.refused is None or tick.run is None else holders.get(tick.run.task)
        row = tick.run if holder is None or tick.refused is None else naming(tick.refused, holder)
        rows += [] if row is None else [row]
        found.append(holder)
    if rows:
        waits.add_all(turn.connection, rows, turn.now)
    return found


def _holders(turn: Turn, runs: Sequence[NewRun]) -> dict[str, str]:
    """By task, the runs in the way of these, which are of different tasks."""
    if not runs:
        return {}
    asked = (literal(run.task for run in runs), literal(state.value for state in _LIVE_STATES))
    live = {task for (task,) in turn.connection.execute(_LIVE, asked).fetchall()}
    found = {run.task: _first_in_the_way(turn, run) for run in runs if run.task in live}
    return {task: holder for task, holder in found.items() if holder is not None}


def _enter(turn: Turn, tick: Tick) -> str | None:
    """Add the tick's run, or what stands for it; the id of a run in its way."""
    run = tick.run
    if run is None:
        return None
    if tick.overlap in _BEHIND_OTHERS:
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
    standing = _standing(turn, run.task, _LIVE_STATES)
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
