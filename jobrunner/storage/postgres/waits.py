"""What waits for others: edges, resolving, adding, cancelling. Whoever calls is alone in its transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ...durations import Micros
from ...edges import TIMEOUT, Resolution, Waiting, missing, resolve
from ...model import FINAL, Condition, Edge, Input, NewRun, Reason, State
from .arrays import columns, literal
from .database import Connection
from .rows import insert

_JOIN = """
    insert into edges (run, place, predecessor, condition, is_done)
    select run, place, predecessor, condition, not exists (
        select 1 from runs where id = predecessor and finished_at is null offset 0)
    from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[])
        as new (run, place, predecessor, condition)
"""

_DONE = """
    update edges set is_done = true
    from unnest(%s::text[]) as ended (id)
    where predecessor = ended.id and not is_done
    returning run
"""

_TO_LOOK_AT = """
    select seq, id, created_at, due_at, expires_at, joins, cancel_reason
    from runs
    where seq = any(%s::bigint[]) and state = 'waiting'
        and (joins is null or not exists (select 1 from edges where run = seq and not is_done offset 0))
    order by seq
"""

# A predecessor that is gone has no row: its columns are null.
_INPUTS = """
    select run, predecessor, condition, id, task, state, result, reason, outcome, error, exit_code, attempt
    from edges left join runs on id = predecessor
    where run = any(%s::bigint[])
    order by run, place
"""

_RESOLVE = """
    update runs
    set state = new.state, due_at = coalesce(new.due_at, runs.due_at),
        expires_at = case when new.finished_at is null then new.expires_at else runs.expires_at end,
        reason = new.reason, outcome = new.outcome, result = new.result, error = new.error,
        finished_at = new.finished_at
    from unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[],
        %s::text[], %s::bigint[])
        as new (seq, state, due_at, expires_at, reason, outcome, result, error, finished_at)
    where runs.seq = new.seq
"""

_EDGES = """
    select r.id, e.predecessor, e.condition
    from runs r join edges e on e.run = r.seq
    where r.id = any(%s::text[])
    order by e.run, e.place
"""


# --- resolving --------------------------------------------------------------------------------------


def resolve_all(connection: Connection, ended: Collection[str], born: Collection[int], now: Micros) -> bool:
    """Let go on what has nothing to wait for any more; what ends by that lets others go on in turn.

    `ended` are ids of runs that have become final, `born` numbers of runs that have begun to wait. True when
    a run can be claimed by that.
    """
    frees = False
    while ended or born:
        freed = {*born, *_freed(connection, ended)}
        ended, some = _look(connection, freed, now)
        frees |= some
        born = ()
    return frees


def _freed(connection: Connection, ended: Collection[str]) -> Iterable[int]:
    """The runs that have waited for these."""
    if not ended:
        return ()
    return (run for (run,) in connection.execute(_DONE, (literal(ended),)).fetchall())


def _look(connection: Connection, seqs: Collection[int], now: Micros) -> tuple[list[str], bool]:
    """Resolve what can be resolved among these: the ids of what ended, and whether anything goes on."""
    if not seqs:
        return [], False
    rows = connection.execute(_TO_LOOK_AT, (literal(seqs),)).fetchall()
    inputs = inputs_of(connection, [row[0] for row in rows])
    found = []
    for seq, run_id, *waiting in rows:
        resolution = resolve(Waiting(*waiting), _that_count(inputs.get(seq, ())), now)
        if resolution is not None:
            found.append((seq, run_id, resolution))
    _apply(connection, found, now)
    ended = [run_id for _, run_id, then in found if then.state is None or then.state in FINAL]
    return ended, len(ended) < len(found)


def _that_count(inputs: Iterable[Input]) -> list[Input]:
    """Without those that are gone, where their end is all the same."""
    return [each for each in inputs if each.task or each.condition != Condition.FINAL]


def _apply(connection: Connection, found: Sequence[tuple[int, str, Resolution]], now: Micros) -> None:
    rows = [(seq, *_row(then, now)) for seq, _, then in found if then.state is not None]
    if rows:
        connection.execute(_RESOLVE, columns(rows))
    gone = [seq for seq, _, then in found if then.state is None]
    if gone:
        remove(connection, gone)


def _row(then: Resolution, now: Micros) -> tuple[object, ...]:
    state = then.state.value if then.state is not None else ""
    if then.state in FINAL:
        return state, None, None, then.reason, then.outcome, then.result, then.error, now
    return state, then.due_at, then.expires_at, None, None, None, None, None


def remove(connection: Connection, seqs: Collection[int]) -> None:
    """Forget these runs, and what they left."""
    gone = (literal(seqs),)
    connection.execute("delete from runs where seq = any(%s::bigint[])", gone)
    connection.execute("delete from edges where run = any(%s::bigint[])", gone)
    connection.execute("delete from attempts where seq = any(%s::bigint[])", gone)


def inputs_of(connection: Connection, seqs: Sequence[int]) -> dict[int, list[Input]]:
    """The ends of the predecessors of these runs, in the order of their edges."""
    if not seqs:
        return {}
    rows = connection.execute(_INPUTS, (literal(seqs),)).fetchall()
    return {seq: [_input(*row[1:]) for row in group] for seq, group in groupby(rows, key=lambda row: row[0])}


def _input(predecessor: str, condition: str, run_id: str | None, task: str, state: str, *end: Any) -> Input:
    if run_id is None:
        return missing(predecessor, condition)
    return Input(run_id, task, State(state), condition, *end)


def edges_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
    """The edges of these runs, for each that has some."""
    rows = connection.execute(_EDGES, (literal(run_ids),)).fetchall()
    groups = groupby(rows, key=lambda row: row[0])
    return {run_id: tuple(Edge(row[1], row[2]) for row in group) for run_id, group in groups}


# --- adding -----------------------------------------------------------------------------------------


class Added(NamedTuple):
    """What became of the runs that were to be added."""

    seqs: dict[str, int]  # of those that were added, by their ids
    frees: bool  # another run can be claimed by that


def add_all(connection: Connection, runs: Sequence[NewRun], now: Micros) -> Added:
    """Add runs, and resolve those that wait; what belongs to a pipeline whose root is refused is refused."""
    known = {run.id for run in runs}
    seqs: dict[str, int] = {}
    frees = False
    for batch in _batches(runs):
        if batch[0].replaces:
            frees |= _take_key(connection, batch[0], now)
        let_in = [run for run in batch if run.pipeline not in known or run.pipeline in seqs or batch is runs]
        seqs |= insert(connection, let_in)
    waiting = [run for run in runs if run.state is State.WAITING and run.id in seqs]
    join(connection, [(seqs[run.id], run.after) for run in waiting])
    frees |= resolve_all(connection, (), [seqs[run.id] for run in waiting], now)
    return Added(seqs, frees)


def answers(runs: Sequence[NewRun], ids: Collection[str]) -> list[bool]:
    """For each run whether it was added; of two with one id only the first was."""
    seen: set[str] = set()
    found = []
    for run in runs:
        found.append(run.id in ids and run.id not in seen)
        seen.add(run.id)
    return found


def _batches(runs: Sequence[NewRun]) -> list[Sequence[NewRun]]:
    """All at once; unless a root may be refused: then its members come after it; or keys change hands."""
    if any(run.replaces for run in runs):
        return [[run] for run in runs]
    if not any(run.unique is not None for run in runs):
        return [runs] if runs else []
    roots, members = ([run for run in runs if (run.pipeline is None) is first] for first in (True, False))
    return [batch for batch in (roots, members) if batch]


def join(connection: Connection, waiting: Sequence[tuple[int, Sequence[Edge]]]) -> None:
    """Let these runs wait for these others."""
    rows = [
        (seq, place, edge.run_id, str(edge.condition))
        for seq, edges in waiting
        for place, edge in enumerate(edges)
    ]
    if rows:
        connection.execute(_JOIN, columns(rows))


def is_simple(runs: Sequence[NewRun]) -> bool:
    """Whether these runs depend on no run but each other: nobody else's write can matter to them."""
    own = {run.id for run in runs}
    return not any(run.replaces or any(edge.run_id not in own for edge in run.after) for run in runs)


def _take_key(connection: Connection, run: NewRun, now: Micros) -> bool:
    """Free the key that this run takes over; True when another run can be claimed by that."""
    holder = connection.execute(
        "select seq, id, joins is not null from runs where unique_key = %s and finished_at is null"
        " and not exists (select 1 from runs known where known.id = %s)",
        (run.unique, run.id),
    ).fetchone()
    if holder is None:
        return False
    seq, run_id, is_root = holder
    if has_begun(connection, seq, is_root=is_root):
        connection.execute("update runs set unique_key = null where seq = %s", (seq,))
        return False
    done = cancel(connection, [run_id], now, Reason.SUPERSEDED.value)
    return resolve_all(connection, done.ended, done.born, now)


_RUNS = "select 1 from runs where seq = %s and state = 'running'"
_HAS_STEPS_CLAIMED = """
    select 1 from runs
    where pipeline = (select id from runs where seq = %s) and claim_no > 0
    limit 1
"""


def has_begun(connection: Connection, seq: int, *, is_root: bool) -> bool:
    """Whether it runs; of a pipeline whether one of its steps was claimed."""
    text = _HAS_STEPS_CLAIMED if is_root else _RUNS
    return connection.execute(text, (seq,)).fetchone() is not None


# --- cancelling -------------------------------------------------------------------------------------


class Cancelled:
    """What a cancel did."""

    def __init__(self) -> None:
        self.has_found = False  # some of those asked for were not final
        self.ended: list[str] = []
        self.born: list[int] = []  # what stands for others: to be looked at


_UNFINISHED = """
    select seq, id, joins is not null, state = 'running' from runs
    where id = any(%s::text[]) and finished_at is null
"""

_BELOW = """
    select r.seq, r.id, r.joins is not null, r.state = 'running'
    from edges e join runs r on r.id = e.predecessor
    where e.run = any(%s::bigint[]) and r.finished_at is null
"""

_MARK = """
    update runs set cancel_reason = coalesce(cancel_reason, %s)
    where seq = any(%s::bigint[])
"""

_END = """
    update runs set state = 'cancelled', reason = %s, finished_at = %s
    where seq = any(%s::bigint[])
"""


def cancel_each(connection: Connection, run_ids: Sequence[str], now: Micros, reason: str) -> list[bool]:
    """Cancel these one after the other: for each whether it was not final yet."""
    each_done = [cancel(connection, [run_id], now, reason) for run_id in run_ids if "\0" not in run_id]
    ended = [run_id for done in each_done for run_id in done.ended]
    resolve_all(connection, ended, [seq for done in each_done for seq in done.born], now)
    answers = iter(each_done)
    return ["\0" not in run_id and next(answers).has_found for run_id in run_ids]


def cancel(connection: Connection, run_ids: Sequence[str], now: Micros, reason: str) -> Cancelled:
    """End runs that are not running, and what is below them; mark the others."""
    done = Cancelled()
    if not run_ids:
        return done
    first = connection.execute(_UNFINISHED, (literal(run_ids),)).fetchall()
    done.has_found = bool(first)
    _end(connection, first, now, reason, done)
    below = Reason.CANCELLED.value if reason == TIMEOUT else reason
    seen = {row[0] for row in first}
    level = [row for row in first if row[2]]
    while level:
        rows = connection.execute(_BELOW, (literal(row[0] for row in level),)).fetchall()
        rows = [row for row in dict.fromkeys(rows) if row[0] not in seen]
        seen |= {row[0] for row in rows}
        _end(connection, rows, now, below, done)
        level = [row for row in rows if row[2]]
    return done


def _end(
    connection: Connection, rows: Sequence[tuple[Any, ...]], now: Micros, reason: str, done: Cancelled
) -> None:
    marked = [seq for seq, _, is_join, is_running in rows if is_join or is_running]
    if marked:
        connection.execute(_MARK, (reason, literal(marked)))
    done.born += [seq for seq, _, is_join, _ in rows if is_join]
    ended = [(seq, run_id) for seq, run_id, is_join, is_running in rows if not is_join and not is_running]
    if ended:
        connection.execute(_END, (reason, now, literal(seq for seq, _ in ended)))
    done.ended += [run_id for _, run_id in ended]
