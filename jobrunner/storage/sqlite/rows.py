"""Between rows and values: what is written for a new run, and how a run is read back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from ...model import FINAL, Attempt, Edge, NewRun, Run, State, Trigger
from ..attempts import all_attempts
from .many import Many
from .schema import LARGE

Row = tuple[object, ...]

PAYLOAD, RESULT, ERROR = 0, 1, 2  # keys in `bodies`: seq * 4 + one of these

_RUNS = Many(
    """
    insert into runs (id, task, state, trigger, lane, pool, due_at, created_at, payload, priority, expires_at,
        schedule, tick, missed, reason, policy, options, cause, detail, finished_at, outcome, result,
        unique_key, joins, pipeline, pipeline_name, step, compose)
    """,
    28,
    "on conflict do nothing",
)
INSERT = _RUNS.one

# What a plain tick's row has; the rest is null.
_TICKS = Many(
    """
    insert into runs (id, task, state, trigger, lane, pool, due_at, created_at, payload, priority, expires_at,
        schedule, tick, missed, reason, policy, detail, finished_at)
    """,
    18,
    "on conflict do nothing",
)

RUN = """
    seq, id, task, state, reason, trigger, schedule, tick, missed, due_at, created_at, started_at,
    finished_at, expires_at, claim_no, attempt, failures, crashes, priority, pool, lane, owner, host, pid,
    outcome, exit_code, signal, error, result, payload, policy, options, cause, detail, output,
    cancel_reason is not null, unique_key, joins, pipeline, pipeline_name, step, compose
"""
_BY_SEQ = f"select {RUN} from runs where seq = ?"  # noqa: S608 - columns
_NAMES = Run._fields
_ERROR, _RESULT, _PAYLOAD = (_NAMES.index(name) for name in ("error", "result", "payload"))

_EDGES = """
    select before, condition from edges
    where seq = (select seq from runs where id = ?)
    order by place
"""

_ATTEMPT_NAMES = tuple(name for name in Attempt._fields if name != "run_id")
_EARLIER = f"select {', '.join(_ATTEMPT_NAMES)} from attempts where seq = ? order by number"  # noqa: S608


def insert(connection: sqlite3.Connection, run: NewRun) -> bool:
    """Add a run, and what it waits for; False when its id is there already, or its key is held."""
    cursor = connection.execute(INSERT, new_row(run))
    if cursor.rowcount == 0:
        return False
    seq = cursor.lastrowid or 0
    for kind, text in ((PAYLOAD, run.payload), (RESULT, run.result)):
        if text is not None and (len(text) > LARGE or not text):
            put_body(connection, seq, kind, text)
    put_edges(connection, seq, run.after)
    return True


def insert_ticks(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> None:
    """Add the runs of plain ticks; one whose id is there already stays as it is."""
    _TICKS.write(connection, [_tick_row(run) for run in runs])


def _tick_row(run: NewRun) -> Row:
    state = run.state
    return (
        run.id,
        run.task,
        state.value,
        run.trigger.value,
        *run[_LANE:_OPTIONS],
        run.detail,
        run.created_at if state in FINAL else None,
    )


def is_plain_tick(run: NewRun) -> bool:
    """Whether such a row is all there is to it."""
    if not 0 < len(run.payload) <= LARGE or run.state in _ENTANGLED:
        return False
    return run.options is None and run.cause is None and run[_UNIQUE:] == _NOTHING


_LANE, _OPTIONS, _UNIQUE = (NewRun._fields.index(name) for name in ("lane", "options", "unique"))
_NOTHING = tuple(NewRun._field_defaults[name] for name in NewRun._fields[_UNIQUE:])


def insert_plain(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> int:
    """Add plain runs; how many were: not those whose id is there already."""
    before = connection.total_changes
    _RUNS.write(connection, [new_row(run) for run in runs])
    return connection.total_changes - before


def is_plain(run: NewRun) -> bool:
    """Whether its row is all there is to it."""
    is_short = 0 < len(run.payload) <= LARGE
    return is_short and run.unique is None and run.pipeline is None and run.state not in _ENTANGLED


_ENTANGLED = frozenset({State.WAITING, State.SUCCEEDED})  # with edges of their own, or with a result


def put_edges(connection: sqlite3.Connection, seq: int, edges: Sequence[Edge]) -> None:
    """Note what a run waits for."""
    connection.executemany(
        "insert into edges (seq, place, before, condition) values (?, ?, ?, ?)",
        [(seq, place, edge.run_id, edge.condition) for place, edge in enumerate(edges)],
    )


def new_row(run: NewRun) -> Row:
    """The parameters of `INSERT`. A payload that is too long for the row is left out of it."""
    return (
        run.id,
        run.task,
        run.state.value,
        run.trigger.value,
        run.lane,
        run.pool,
        run.due_at,
        run.created_at,
        run.payload if len(run.payload) <= LARGE else "",
        run.priority,
        run.expires_at,
        run.schedule,
        run.tick,
        run.missed,
        run.reason,
        run.policy,
        run.options,
        run.cause,
        run.detail,
        run.created_at if run.state in FINAL else None,
        "ok" if run.state is State.SUCCEEDED else None,
        short(run.result),
        run.unique,
        run.join,
        run.pipeline,
        run.pipeline_name,
        run.step,
        run.compose,
    )


def edges_of(connection: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
    """The edges of these runs, for each that has some."""
    found: dict[str, tuple[Edge, ...]] = {}
    for run_id in run_ids:
        rows = connection.execute(_EDGES, (run_id,)).fetchall()
        if rows:
            found[run_id] = tuple(Edge(*row) for row in rows)
    return found


def put_body(connection: sqlite3.Connection, seq: int, kind: int, body: str) -> None:
    connection.execute("insert or replace into bodies (key, body) values (?, ?)", (seq * 4 + kind, body))


def body_of(connection: sqlite3.Connection, seq: int, kind: int) -> str:
    row = connection.execute("select body from bodies where key = ?", (seq * 4 + kind,)).fetchone()
    return row[0] if row else ""


def short(text: str | None) -> str | None:
    """What stands in the row for this text: itself, or '' for one that lies in `bodies`."""
    return "" if text is not None and len(text) > LARGE else text


def read_runs(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[Run]:
    """The runs with these numbers, in this order."""
    runs = (read_run(connection, seq) for seq in seqs)
    return [run for run in runs if run is not None]


def read_run(connection: sqlite3.Connection, seq: int) -> Run | None:
    row = connection.execute(_BY_SEQ, (seq,)).fetchone()
    return None if row is None else run_of(connection, row)


def run_of(connection: sqlite3.Connection, row: Row) -> Run:
    """The run of a row of `RUN`, with what lies outside of it."""
    fields: list[Any] = list(row)
    for place, kind in ((_PAYLOAD, PAYLOAD), (_RESULT, RESULT), (_ERROR, ERROR)):
        if fields[place] == "":
            fields[place] = body_of(connection, fields[0], kind)
    given = dict(zip(_NAMES, fields, strict=True))
    given["state"] = State(given["state"])
    given["trigger"] = Trigger(given["trigger"])
    given["cancel_requested"] = bool(given["cancel_requested"])
    return Run(**given)


def attempts_of(connection: sqlite3.Connection, run: Run) -> list[Attempt]:
    """Every attempt of a run: the earlier ones, and the one that its row describes."""
    rows: list[Row] = connection.execute(_EARLIER, (run.seq,)).fetchall()
    return all_attempts(run, (_attempt_of(run.id, row) for row in rows))


def _attempt_of(run_id: str, row: Row) -> Attempt:
    fields: dict[str, Any] = dict(zip(_ATTEMPT_NAMES, row, strict=True))
    return Attempt(run_id=run_id, **fields)
