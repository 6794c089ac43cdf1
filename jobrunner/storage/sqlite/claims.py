"""Claims: what is due is promoted, what came too late expires, and the best of the open lanes is taken."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence

from ...durations import Micros
from ...edges import TIMEOUT
from ...model import Claim, Reason
from .. import ExchangeRequest
from .. import lanes as shared
from ..lanes import NOBODY, Effort, OpenLane, Others
from .rows import PAYLOAD, body_of
from .waits import Changes, cancel, inputs_of, resolve_all

MOST_PROMOTED = 500  # in one exchange: bounds the length of a transaction
MOST_EXPIRED = 500

# A loose index scan: one step per lane, however many runs wait in it.
_LANES = """
    with recursive lanes (lane) as (
        select min(lane) from runs where state = 'queued'
        union all
        select (select min(lane) from runs where state = 'queued' and lane > lanes.lane)
        from lanes
        where lanes.lane is not null
    )
    select lane from lanes where lane is not null
"""

_CLAIM = (
    "seq, id, task, claim_no + {0}, attempt + {0}, failures, crashes, payload, priority, due_at, created_at,"
    " trigger, pool, tick, missed, policy, options, cause, null, pipeline, pipeline_name, step, compose"
)

_HEADS = f"""
    select {_CLAIM.format(1)}
    from runs
    where state = 'queued' and lane = ? and (expires_at is null or expires_at > ? or claim_no > 0)
    order by priority desc, due_at, seq
"""  # noqa: S608

# What stands behind strangers: their rows are looked at by number, task and pipeline only.
_BEHIND = f"""
    select {_CLAIM.format(1)}
    from runs
    where seq in (
        select seq
        from (
            select seq, task, pipeline_name
            from runs
            where state = 'queued' and lane = :lane
                and (expires_at is null or expires_at > :now or claim_no > 0)
            order by priority desc, due_at, seq
            limit {shared.MOST_PASSED})
        where task not in (select value from json_each(:tasks))
            and (pipeline_name is null or pipeline_name not in (select value from json_each(:pipelines)))
        limit :size)
    order by priority desc, due_at, seq
"""  # noqa: S608

_MINE = f"""
    select {_CLAIM.format(0)}
    from runs
    where state = 'running' and owner = ?
    order by seq
"""  # noqa: S608

_TAKE = """
    update runs
    set state = 'running', owner = ?, host = ?, lock = ?, claim_no = claim_no + 1, attempt = attempt + 1,
        started_at = null, pid = null, outcome = null, exit_code = null, signal = null, error = null,
        result = null, output = null, reason = null
    where seq in (select value from json_each(?))
"""

_MOVE = "update runs set lane = ? where seq = ?"

_DUE = """
    select seq from runs
    where state in ('scheduled', 'retrying') and due_at <= ?
    order by due_at
    limit ?
"""

_LATE = """
    select seq, id from runs
    where state = 'queued' and expires_at is not null and claim_no = 0 and expires_at <= ?
    order by expires_at
    limit ?
"""

_TIMED_OUT = """
    select id from runs
    where state = 'waiting' and joins is not null and expires_at is not null and cancel_reason is null
        and expires_at <= ?
    order by expires_at
    limit ?
"""

# The first column tells what a row is of: a pause, a mark to be used once or not, a lock and its holders.
_HELD = """
    select 'pause', target, 0 from pauses where until is null or until > :now
    union all
    select 'mark', target, once from revocations where until is null or until > :now
    union all
    select 'lock', lock, count(*) from runs
    where state = 'running' and lock is not null
    group by lock
    union all
    select 'lock', lock, 1 from extra_locks
    where exists (
        select 1 from runs
        where runs.seq = extra_locks.seq and runs.claim_no = extra_locks.claim_no and state = 'running')
"""

_STARTS = "select number from starts where task = ? and window = ?"

_COUNT_STARTS = """
    insert into starts (task, window, number) values (:task, :window, :number)
    on conflict (task) do update
    set number = iif(window = :window, number, 0) + :number, window = :window
"""

_CANCELS = """
    select seq, claim_no from runs indexed by runs_to_cancel
    where state = 'running' and cancel_reason is not null and owner = ?
"""

_NEXT = """
    select min(at) from (
        select min(due_at) as at from runs where state in ('scheduled', 'retrying')
        union all
        select min(expires_at) from runs
        where state = 'queued' and expires_at is not null and claim_no = 0
        union all
        select min(expires_at) from runs
        where state = 'waiting' and joins is not null and expires_at is not null and cancel_reason is null
        union all
        select min(until) from pauses where until > ?
    )
"""


def promote(connection: sqlite3.Connection, now: Micros) -> bool:
    """Queue what is due; True when there is more of it."""
    due = connection.execute(_DUE, (now, MOST_PROMOTED)).fetchall()
    connection.executemany("update runs set state = 'queued' where seq = ?", due)
    return len(due) == MOST_PROMOTED


def expire(connection: sqlite3.Connection, now: Micros, changes: Changes) -> bool:
    """End what was not started in time; True when there is more of it."""
    late = connection.execute(_LATE, (now, MOST_EXPIRED)).fetchall()
    connection.executemany(
        "update runs set state = 'expired', reason = ?, finished_at = ? where seq = ?",
        [(Reason.EXPIRED.value, now, seq) for seq, _ in late],
    )
    changes.ended += [run_id for _, run_id in late]
    return len(late) == MOST_EXPIRED


def time_out(connection: sqlite3.Connection, now: Micros, changes: Changes) -> bool:
    """Cancel the pipelines whose time is up; True when there is more of it."""
    late = connection.execute(_TIMED_OUT, (now, MOST_EXPIRED)).fetchall()
    for (run_id,) in late:
        cancel(connection, run_id, now, TIMEOUT, changes)
    return len(late) == MOST_EXPIRED


def has_due(connection: sqlite3.Connection, now: Micros) -> bool:
    """Whether there is something that `next_due` names and whose time has come."""
    at = next_due(connection, now)
    return at is not None and at <= now


def choose(
    connection: sqlite3.Connection,
    request: ExchangeRequest,
    used_pools: frozenset[str],
    effort: Effort = shared.THOROUGH,
) -> shared.Choice:
    """What a claim would take now. Reads only."""
    lanes = waiting_lanes(connection)
    if not lanes:
        return shared.Choice()
    now = request.now
    floor = shared.Floor(request.rules, used_pools, _held(connection, request, lanes), now)
    return shared.choose(
        floor, lanes, request.want, lambda lane, others: _waiting(connection, lane, others, now), effort
    )


def waiting_lanes(connection: sqlite3.Connection) -> list[str]:
    """The lanes in which runs wait."""
    return [lane for (lane,) in connection.execute(_LANES).fetchall()]


def _waiting(connection: sqlite3.Connection, lane: OpenLane, others: Others, now: Micros) -> Iterator[Claim]:
    """The lane's runs, best first; read as far as somebody asks."""
    if others == NOBODY:
        return _read(connection.execute(_HEADS, (lane.name, now)), lane.limit + 1)
    size = lane.limit + 1 + shared.MOST_STRANGERS
    asked = {
        "lane": lane.name,
        "now": now,
        "tasks": json.dumps(sorted(others.tasks)),
        "pipelines": json.dumps(sorted(others.pipelines)),
        "size": size,
    }
    return _read(connection.execute(_BEHIND, asked), size)


def _read(cursor: sqlite3.Cursor, size: int) -> Iterator[Claim]:
    """So many at a time."""
    try:
        while rows := cursor.fetchmany(size):
            yield from (Claim(*row) for row in rows)
    finally:
        cursor.close()


def _held(connection: sqlite3.Connection, request: ExchangeRequest, lanes: Sequence[str]) -> shared.Held:
    paused: set[str] = set()
    marks: dict[str, bool] = {}
    locks: dict[str, int] = {}
    for kind, name, number in connection.execute(_HELD, {"now": request.now}).fetchall():
        if kind == "pause":
            paused.add(name)
        elif kind == "mark":
            marks[name] = bool(number)
        else:
            locks[name] = locks.get(name, 0) + number
    return shared.Held(paused, marks, locks, _starts(connection, request, lanes))


def _starts(connection: sqlite3.Connection, request: ExchangeRequest, lanes: Sequence[str]) -> dict[str, int]:
    found = {}
    for task, rate in shared.rated(request.rules, lanes).items():
        row = connection.execute(_STARTS, (task, shared.window_of(rate, request.now))).fetchone()
        found[task] = row[0] if row else 0
    return found


def take(
    connection: sqlite3.Connection, choice: shared.Choice, request: ExchangeRequest, host: str
) -> list[Claim]:
    """Write the choice: its claims are running from now on."""
    connection.executemany(_MOVE, [(lane, seq) for seq, lane in choice.strangers])
    by_lock: dict[str | None, list[int]] = {}
    for each in choice.claims:
        by_lock.setdefault(each.lock, []).append(each.claim.seq)
    for lock, seqs in by_lock.items():
        connection.execute(_TAKE, (request.owner, host, lock, str(seqs)))
    _count_starts(connection, choice, request)
    _revoke(connection, choice, request.now)
    return [_whole(connection, each.claim) for each in choice.claims]


def _count_starts(connection: sqlite3.Connection, choice: shared.Choice, request: ExchangeRequest) -> None:
    for task, number in choice.starts.items():
        rate = request.rules.tasks[task].rate
        window = shared.window_of(rate, request.now) if rate is not None else 0
        connection.execute(_COUNT_STARTS, {"task": task, "window": window, "number": number})


def _revoke(connection: sqlite3.Connection, choice: shared.Choice, now: Micros) -> None:
    changes = Changes()
    for run_id in choice.revoked:
        cancel(connection, run_id, now, Reason.REVOKED.value, changes)
    for target in choice.marks:
        connection.execute("delete from revocations where target = ?", (target,))
    resolve_all(connection, changes, now)


def _whole(connection: sqlite3.Connection, claim: Claim) -> Claim:
    """The claim with its payload, wherever that lies, and its inputs."""
    if not claim.payload:
        claim = claim._replace(payload=body_of(connection, claim.seq, PAYLOAD))
    if claim.compose is None:
        return claim
    return claim._replace(inputs=inputs_of(connection, claim.seq))


def cancels(connection: sqlite3.Connection, owner: str) -> list[tuple[int, int]]:
    """The claims of this owner whose runs a client wants cancelled."""
    return connection.execute(_CANCELS, (owner,)).fetchall()


def next_due(connection: sqlite3.Connection, now: Micros) -> Micros | None:
    """When time will change something: a run due, one too late, a pause over."""
    at: Micros | None = connection.execute(_NEXT, (now,)).fetchone()[0]
    return at


def claimed_by(connection: sqlite3.Connection, owner: str) -> list[Claim]:
    """The claims under which runs are running for this owner."""
    rows = connection.execute(_MINE, (owner,)).fetchall()
    return [_whole(connection, Claim(*row)) for row in rows]
