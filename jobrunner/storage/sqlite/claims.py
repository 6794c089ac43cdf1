"""Claims: what is due is promoted, what came too late expires, and the best of the open lanes is taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from ...durations import Micros
from ...model import Claim, Reason
from .. import ExchangeRequest
from ..lanes import MOST_STRANGERS, Choice, Floor, OpenLane
from .rows import PAYLOAD, body_of

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
    " trigger, pool, tick, missed, policy, options, cause, null"
)

_HEADS = f"""
    select {_CLAIM.format(1)}
    from runs
    where state = 'queued' and lane = ? and (expires_at is null or expires_at > ? or claim_no > 0)
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

_MOVE = "update runs set lane = 'task:' || task where seq = ?"

_DUE = """
    select seq from runs
    where state in ('scheduled', 'retrying') and due_at <= ?
    order by due_at
    limit ?
"""

_LATE = """
    select seq from runs
    where state = 'queued' and expires_at is not null and claim_no = 0 and expires_at <= ?
    order by expires_at
    limit ?
"""

_HELD = """
    select lock, count(*) from runs
    where state = 'running' and lock is not null
    group by lock
"""

_PAUSED = "select target from pauses where until is null or until > ?"

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
        select min(until) from pauses where until > ?
    )
"""


def promote(connection: sqlite3.Connection, now: Micros) -> bool:
    """Queue what is due; True when there is more of it."""
    due = connection.execute(_DUE, (now, MOST_PROMOTED)).fetchall()
    connection.executemany("update runs set state = 'queued' where seq = ?", due)
    return len(due) == MOST_PROMOTED


def expire(connection: sqlite3.Connection, now: Micros) -> bool:
    """End what was not started in time; True when there is more of it."""
    late = connection.execute(_LATE, (now, MOST_EXPIRED)).fetchall()
    connection.executemany(
        "update runs set state = 'expired', reason = ?, finished_at = ? where seq = ?",
        [(Reason.EXPIRED.value, now, seq) for (seq,) in late],
    )
    return len(late) == MOST_EXPIRED


def has_due(connection: sqlite3.Connection, now: Micros) -> bool:
    """Whether there is something to promote or to expire."""
    return bool(
        connection.execute(_DUE, (now, 1)).fetchall() or connection.execute(_LATE, (now, 1)).fetchall()
    )


def choose(connection: sqlite3.Connection, request: ExchangeRequest, used_pools: frozenset[str]) -> Choice:
    """What a claim would take now. Reads only."""
    lanes = waiting_lanes(connection)
    if not lanes:
        return Choice()
    floor = Floor(request.rules, used_pools, _paused(connection, request.now), _held(connection))
    choice = Choice()
    by_pool: dict[str, list[Claim]] = {}
    for lane in floor.open_lanes(lanes, request.want):
        heads = by_pool.setdefault(lane.pool, [])
        choice.more |= _read(connection, lane, request.now, floor, heads, choice.strangers)
    for pool, heads in by_pool.items():
        best = floor.choose(heads, request.want.get(pool, 0))
        choice.claims += best.claims
        choice.more |= best.more
    choice.more |= bool(choice.strangers)  # they may be claimed from where they are sent
    return choice


def waiting_lanes(connection: sqlite3.Connection) -> list[str]:
    """The lanes in which runs wait."""
    return [lane for (lane,) in connection.execute(_LANES).fetchall()]


def _read(
    connection: sqlite3.Connection,
    lane: OpenLane,
    now: Micros,
    floor: Floor,
    heads: list[Claim],
    strangers: list[Claim],
) -> bool:
    """Read the lane's heads; True when it was left before its end for another cause than a busy lock."""
    left, moved = lane.limit, 0
    belongs: dict[str, bool] = {}
    for claim in _heads(connection, lane.name, now, lane.limit + 1):
        task = claim.task
        if task not in belongs:
            belongs[task] = floor.belongs(lane.name, task)
        if belongs[task]:
            if left == 0:
                return not lane.is_locked
            heads.append(claim)
            left -= 1
        else:
            strangers.append(claim)
            moved += 1
            if moved == MOST_STRANGERS:
                return True
    return False


def _heads(connection: sqlite3.Connection, lane: str, now: Micros, size: int) -> Iterator[Claim]:
    """The lane's runs, best first; read as far as somebody asks, about so many at a time."""
    cursor = connection.execute(_HEADS, (lane, now))
    try:
        while rows := cursor.fetchmany(size):
            yield from map(Claim._make, rows)
    finally:
        cursor.close()


def _paused(connection: sqlite3.Connection, now: Micros) -> frozenset[str]:
    return frozenset(target for (target,) in connection.execute(_PAUSED, (now,)).fetchall())


def _held(connection: sqlite3.Connection) -> Mapping[str, int]:
    return dict(connection.execute(_HELD).fetchall())


def take(connection: sqlite3.Connection, choice: Choice, owner: str, host: str) -> list[Claim]:
    """Write the choice: its claims are running from now on."""
    connection.executemany(_MOVE, [(claim.seq,) for claim in choice.strangers])
    by_lock: dict[str | None, list[int]] = {}
    for each in choice.claims:
        by_lock.setdefault(each.lock, []).append(each.claim.seq)
    for lock, seqs in by_lock.items():
        connection.execute(_TAKE, (owner, host, lock, str(seqs)))
    return [_whole(connection, each.claim) for each in choice.claims]


def _whole(connection: sqlite3.Connection, claim: Claim) -> Claim:
    """The claim with its payload, wherever that lies."""
    if claim.payload:
        return claim
    return claim._replace(payload=body_of(connection, claim.seq, PAYLOAD))


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
    return [_whole(connection, Claim._make(row)) for row in rows]
