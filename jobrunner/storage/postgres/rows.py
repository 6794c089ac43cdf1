"""Between rows and values: what is written for a new run, and how a run is read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...model import FINAL, Attempt, NewRun, Run, State, Trigger
from ..attempts import all_attempts
from .arrays import Row, columns, literal
from .database import Connection

# Column, its type, in the order of `values`.
NEW = (
    ("id", "text"),
    ("task", "text"),
    ("state", "text"),
    ("trigger", "text"),
    ("lane", "text"),
    ("pool", "text"),
    ("due_at", "bigint"),
    ("created_at", "bigint"),
    ("payload", "text"),
    ("priority", "bigint"),
    ("expires_at", "bigint"),
    ("schedule", "text"),
    ("tick", "bigint"),
    ("missed", "bigint"),
    ("reason", "text"),
    ("policy", "text"),
    ("options", "text"),
    ("cause", "text"),
    ("detail", "text"),
    ("unique_key", "text"),
    ("joins", "text"),
    ("pipeline", "text"),
    ("pipeline_name", "text"),
    ("step", "text"),
    ("compose", "text"),
    ("result", "text"),
    ("outcome", "text"),
    ("finished_at", "bigint"),
)
NAMES = ", ".join(name for name, _ in NEW)
# A sequence number is given after the sort: the order of the batch is the order of enqueue.
_INSERT = f"""
    insert into runs ({NAMES})
    select {NAMES}
    from unnest({", ".join(f"%s::{kind}[]" for _, kind in NEW)}) with ordinality as new ({NAMES}, place)
    order by place
    on conflict do nothing
    returning id, seq
"""  # noqa: S608 - columns

RUN = """
    seq, id, task, state, reason, trigger, schedule, tick, missed, due_at, created_at, started_at,
    finished_at, expires_at, claim_no, attempt, failures, crashes, priority, pool, lane, owner, host, pid,
    outcome, exit_code, signal, error, result, payload, policy, options, cause, detail, output,
    cancel_reason is not null, unique_key, joins, pipeline, pipeline_name, step, compose
"""
_BY_SEQS = f"select {RUN} from runs where seq = any(%s::bigint[])"  # noqa: S608 - columns
_STATE, _TRIGGER = Run._fields.index("state"), Run._fields.index("trigger")

_ATTEMPT_NAMES = tuple(name for name in Attempt._fields if name != "run_id")
_EARLIER = f"select {', '.join(_ATTEMPT_NAMES)} from attempts where seq = %s order by number"  # noqa: S608


def insert(connection: Connection, runs: Sequence[NewRun]) -> dict[str, int]:
    """Add runs in this order; id -> seq of those that were added: not there already, their key free."""
    if not runs:
        return {}
    return dict(connection.execute(_INSERT, columns([values(run) for run in runs])).fetchall())


def values(run: NewRun) -> Row:
    return (
        run.id,
        run.task,
        run.state.value,
        run.trigger.value,
        run.lane,
        run.pool,
        run.due_at,
        run.created_at,
        run.payload,
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
        run.unique,
        run.join,
        run.pipeline,
        run.pipeline_name,
        run.step,
        run.compose,
        run.result,
        "ok" if run.state is State.SUCCEEDED else None,
        run.created_at if run.state in FINAL else None,
    )


def read_runs(connection: Connection, seqs: Sequence[int]) -> list[Run]:
    """The runs with these numbers, in this order."""
    found = {run.seq: run for run in map(run_of, connection.execute(_BY_SEQS, (literal(seqs),)).fetchall())}
    return [found[seq] for seq in seqs if seq in found]


def read_run(connection: Connection, seq: int) -> Run | None:
    return next(iter(read_runs(connection, [seq])), None)


def run_of(row: tuple[Any, ...]) -> Run:
    """The run of a row of `RUN`."""
    fields = list(row)
    fields[_STATE] = State(fields[_STATE])
    fields[_TRIGGER] = Trigger(fields[_TRIGGER])
    return Run._make(fields)


def attempts_of(connection: Connection, run: Run) -> list[Attempt]:
    """Every attempt of a run: the earlier ones, and the one that its row describes."""
    rows = connection.execute(_EARLIER, (run.seq,)).fetchall()
    earlier = (Attempt(run_id=run.id, **dict(zip(_ATTEMPT_NAMES, row, strict=True))) for row in rows)
    return all_attempts(run, earlier)
