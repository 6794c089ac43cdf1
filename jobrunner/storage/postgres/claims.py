"""Claims: what is due is promoted, what came too late expires, and the best of the open lanes is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...durations import Micros
from ...edges import TIMEOUT
from ...model import Claim, Reason
from .. import ExchangeRequest, Rate, Rules
from .. import lanes as shared
from ..lanes import MOST_PASSED, NOBODY, Choice, Effort, Floor, Held, OpenLane, Others
from . import owners, waits
from .arrays import columns, literal
from .database import Connection, Turn

MOST_PROMOTED = 500  # in one exchange: bounds the length of a transaction
MOST_EXPIRED = 500
MOST_STRANGERS = 2_000  # each has a new place in every index
_READ_AHEAD = 8  # rows of a lane read beyond those of use: strangers may stand among them

_DUE = "state in ('scheduled', 'retrying') and due_at <= %(now)s"
_LATE = "state = 'queued' and expires_at is not null and claim_no = 0 and expires_at <= %(now)s"
_TIMED_OUT = (
    "state = 'waiting' and expires_at is not null and joins is not null and expires_at <= %(now)s"
    " and cancel_reason is null"
)
_TO_END = "state = 'running' and cancel_reason is not null and owner = %(owner)s"
_IN_FORCE = "until is null or until > %(now)s"

# What a turn has to know before it claims, in one look. A loose index scan finds the lanes: one step for
# each, however many runs wait in it.
_SURVEY = f"""
    with recursive lanes (lane) as (
        select min(lane) from runs where state = 'queued'
        union all
        select (select min(lane) from runs where state = 'queued' and lane > lanes.lane)
        from lanes
        where lanes.lane is not null
    )
    select
        (select host from supervisors where id = %(owner)s and left_at is null and not lost),
        (select number from facts where name = 'control version'),
        exists (select 1 from runs where {_DUE}) or exists (select 1 from runs where {_LATE})
            or exists (select 1 from runs where {_TIMED_OUT}),
        array(select lane from lanes where lane is not null),
        array(select target from pauses where {_IN_FORCE}),
        array(select target from revocations where {_IN_FORCE} order by target),
        array(select once from revocations where {_IN_FORCE} order by target)
"""  # noqa: S608 - conditions

_HELD = """
    select name, count(*)
    from (
        select unnest(array_append(extra_locks, lock)) as name from runs
        where state = 'running' and (lock is not null or extra_locks is not null)) held
    where name is not null
    group by name
"""

_STARTS = """
    select task, window_no, width, number from starts
    where task = any(%s::text[])
"""

_COUNT_STARTS = """
    insert into starts (task, window_no, width, number)
    select * from unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
    on conflict (task) do update
    set number = excluded.number + case
            when starts.window_no = excluded.window_no and starts.width = excluded.width then starts.number
            else 0
        end,
        window_no = excluded.window_no, width = excluded.width
"""

_CLAIM = (
    "seq, id, task, claim_no + {0}, attempt + {0}, failures, crashes, {1}, priority, due_at, created_at,"
    " trigger, pool, tick, missed, policy, options, cause, null, pipeline, pipeline_name, step, compose"
)

# The payload is read when a run is taken: most heads of a long lane are only looked at.
_HEADS = f"""
    select lanes.name, heads.*
    from unnest(%s::text[], %s::bigint[]) as lanes (name, size)
    cross join lateral (
        select {_CLAIM.format(1, "''")}
        from runs
        where state = 'queued' and lane = lanes.name
            and (expires_at is null or expires_at > %s or claim_no > 0)
        order by priority desc, due_at, seq
        limit lanes.size
    ) heads
"""  # noqa: S608

# What stands behind strangers: their rows are looked at by number, task and pipeline only.
_BEHIND = f"""
    select {_CLAIM.format(1, "''")}
    from runs
    where seq = any(array(
        select seq
        from (
            select seq, task, pipeline_name
            from runs
            where state = 'queued' and lane = %(lane)s
                and (expires_at is null or expires_at > %(now)s or claim_no > 0)
            order by priority desc, due_at, seq
            limit {MOST_PASSED}) heads
        where task <> all(%(tasks)s::text[])
            and (pipeline_name is null or pipeline_name <> all(%(pipelines)s::text[]))
        limit %(size)s))
    order by priority desc, due_at, seq
"""  # noqa: S608

_MINE = f"""
    select {_CLAIM.format(0, "payload")}
    from runs
    where state = 'running' and owner = %s
    order by seq
"""  # noqa: S608

_TAKE = """
    update runs
    set state = 'running', owner = %s, host = %s, lock = new.lock, extra_locks = null,
        claim_no = claim_no + 1, attempt = attempt + 1, started_at = null, pid = null, outcome = null,
        exit_code = null, signal = null, error = null, result = null, output = null, reason = null
    from unnest(%s::bigint[], %s::text[]) as new (seq, lock)
    where runs.seq = new.seq and state = 'queued'
    returning runs.seq, payload
"""

_MOVE = """
    update runs set lane = new.lane
    from unnest(%s::bigint[], %s::text[]) as new (seq, lane)
    where runs.seq = new.seq
"""

_PROMOTE = f"""
    update runs set state = 'queued'
    where seq = any(array(
        select seq from runs where {_DUE} order by due_at limit {MOST_PROMOTED}))
"""  # noqa: S608

_EXPIRE = f"""
    update runs set state = 'expired', reason = %(reason)s, finished_at = %(now)s
    where seq = any(array(
        select seq from runs where {_LATE} order by expires_at limit {MOST_EXPIRED}))
    returning id
"""  # noqa: S608

_TIME_OUT = f"select id from runs where {_TIMED_OUT} order by expires_at limit {MOST_EXPIRED}"  # noqa: S608

# Which running runs are to end, and when something is due: read after a claim, since it changes both.
_AHEAD = f"""
    select
        array(select seq from runs where {_TO_END} order by seq),
        array(select claim_no from runs where {_TO_END} order by seq),
        least(
            (select min(due_at) from runs where state in ('scheduled', 'retrying')),
            (select min(expires_at) from runs
                where state = 'queued' and expires_at is not null and claim_no = 0),
            (select min(expires_at) from runs
                where state = 'waiting' and expires_at is not null and joins is not null
                    and cancel_reason is null),
            (select min(until) from pauses where until > %(now)s))
"""  # noqa: S608 - a condition


class Survey(NamedTuple):
    """What a turn has to know before it claims."""

    host: str  # the owner's
    version: int  # the control version
    is_time: bool  # something is due, or too late
    lanes: list[str]  # in which runs wait
    paused: list[str]
    revoked: list[str]
    once: list[bool]  # for each of these, whether its first run uses the mark up


def survey(turn: Turn, owner: str) -> Survey:
    """Look around for this owner. Raises OwnerLost when it is not in force."""
    row = turn.connection.execute(_SURVEY, {"now": turn.now, "owner": owner}).fetchone()
    if row is None or row[0] is None:
        raise owners.lost(owner)
    return Survey(*row)


class Passed(NamedTuple):
    """What the time that has passed did."""

    more: bool = False  # there is more of it
    frees: bool = False  # runs can be claimed by that
    ended: Sequence[str] = ()  # ids
    born: Sequence[int] = ()  # numbers of pipelines that are to be looked at


def pass_time(turn: Turn) -> Passed:
    """Queue what is due, end what was not started in time; who waits for it is for the caller to resolve."""
    connection, now = turn.connection, turn.now
    due = connection.execute(_PROMOTE, {"now": now}).rowcount
    late = connection.execute(_EXPIRE, {"now": now, "reason": Reason.EXPIRED.value}).fetchall()
    over = connection.execute(_TIME_OUT, {"now": now}).fetchall()
    done = waits.cancel(connection, [run_id for (run_id,) in over], now, TIMEOUT)
    return Passed(
        more=due >= MOST_PROMOTED or len(late) >= MOST_EXPIRED or len(over) >= MOST_EXPIRED,
        frees=due > 0,
        ended=[*(run_id for (run_id,) in late), *done.ended],
        born=done.born,
    )


def choose(
    turn: Turn,
    request: ExchangeRequest,
    seen: Survey,
    used_pools: frozenset[str],
    effort: Effort = shared.THOROUGH._replace(strangers=MOST_STRANGERS),  # noqa: B008 - a value
) -> Choice:
    """What a claim would take now. Reads only."""
    if not seen.lanes:
        return Choice()
    held = _held(turn.connection, request.rules, seen, turn.now)
    floor = Floor(request.rules, used_pools, held, turn.now)
    opened = floor.open_lanes(seen.lanes, request.want)
    heads = _Heads(turn, opened)
    return shared.choose(floor, seen.lanes, request.want, heads.of, effort)


def _held(connection: Connection, rules: Rules, seen: Survey, now: Micros) -> Held:
    locks = any(rule.lock is not None for rule in rules.tasks.values())
    rates = shared.rated(rules, seen.lanes)
    return Held(
        paused=frozenset(seen.paused),
        revoked=dict(zip(seen.revoked, seen.once, strict=True)),
        locks=dict(connection.execute(_HELD).fetchall()) if locks else {},
        starts=_starts(connection, rates, now) if rates else {},
    )


def _starts(connection: Connection, rates: Mapping[str, Rate], now: Micros) -> dict[str, int]:
    rows = connection.execute(_STARTS, (literal(rates),)).fetchall()
    return {
        task: number
        for task, window, width, number in rows
        if (window, width) == (shared.window_of(rates[task], now), rates[task].window)
    }


class _Heads:
    """The first runs of all open lanes, read together; of a lane with strangers more when asked."""

    def __init__(self, turn: Turn, lanes: Sequence[OpenLane]) -> None:
        self._turn = turn
        self._sizes = {lane.name: lane.limit + 1 + _READ_AHEAD for lane in lanes}
        self._first = self._read(self._sizes)

    def of(self, lane: OpenLane, others: Others) -> Iterator[Claim]:
        """The lane's runs, best first."""
        return self._front(lane) if others == NOBODY else self._behind(lane, others)

    def _front(self, lane: OpenLane) -> Iterator[Claim]:
        heads, size = self._first.get(lane.name, []), self._sizes[lane.name]
        yield from heads
        if len(heads) == size:
            longer = self._read({lane.name: size + MOST_STRANGERS})
            yield from longer.get(lane.name, [])[size:]

    def _behind(self, lane: OpenLane, others: Others) -> Iterator[Claim]:
        asked = {
            "lane": lane.name,
            "now": self._turn.now,
            "tasks": literal(others.tasks),
            "pipelines": literal(others.pipelines),
            "size": lane.limit + 1 + MOST_STRANGERS,
        }
        yield from map(_claim, self._turn.connection.execute(_BEHIND, asked).fetchall())

    def _read(self, sizes: Mapping[str, int]) -> dict[str, list[Claim]]:
        found: dict[str, list[Claim]] = {}
        if sizes:
            values = (literal(sizes), literal(sizes.values()), self._turn.now)
            for lane, *row in self._turn.connection.execute(_HEADS, values).fetchall():
                found.setdefault(lane, []).append(_claim(row))
        return found


def _claim(row: Sequence[Any]) -> Claim:
    return Claim._make((*row, ()))


def take(turn: Turn, choice: Choice, request: ExchangeRequest, host: str) -> list[Claim]:
    """Write the choice: its claims are running from now on."""
    connection = turn.connection
    if choice.strangers:
        connection.execute(_MOVE, columns(choice.strangers))
    claims: list[Claim] = []
    if choice.claims:
        rows = columns([(each.claim.seq, each.lock) for each in choice.claims])
        payloads: dict[int, str] = dict(connection.execute(_TAKE, (request.owner, host, *rows)).fetchall())
        taken = [each.claim for each in choice.claims if each.claim.seq in payloads]
        claims = with_inputs(connection, [claim._replace(payload=payloads[claim.seq]) for claim in taken])
    _count_starts(turn, choice, request.rules)
    _revoke(turn, choice)
    return claims


def _count_starts(turn: Turn, choice: Choice, rules: Rules) -> None:
    rows = [
        (task, shared.window_of(rate, turn.now), rate.window, number)
        for task, number in choice.starts.items()
        if (rate := rules.tasks[task].rate) is not None
    ]
    if rows:
        turn.connection.execute(_COUNT_STARTS, columns(rows))


def _revoke(turn: Turn, choice: Choice) -> None:
    if choice.revoked:
        done = waits.cancel(turn.connection, choice.revoked, turn.now, Reason.REVOKED.value)
        waits.resolve_all(turn.connection, done.ended, done.born, turn.now)
    if choice.marks:
        turn.connection.execute(
            "delete from revocations where target = any(%s::text[])", (literal(choice.marks),)
        )


def with_inputs(connection: Connection, claims: list[Claim]) -> list[Claim]:
    """The claims, those that compose their input with the ends of their predecessors."""
    composed = [claim.seq for claim in claims if claim.compose is not None]
    if not composed:
        return claims
    inputs = waits.inputs_of(connection, composed)
    return [claim._replace(inputs=tuple(inputs.get(claim.seq, ()))) for claim in claims]


class Ahead(NamedTuple):
    """What lies before an owner."""

    cancels: list[tuple[int, int]]  # its claims whose runs a client wants cancelled
    due: Micros | None  # when time will change something: a run due, one too late, a pause over


def ahead(turn: Turn, owner: str) -> Ahead:
    """What lies before this owner after its turn."""
    row = turn.connection.execute(_AHEAD, {"now": turn.now, "owner": owner}).fetchone()
    seqs, claim_nos, due = row or ((), (), None)
    return Ahead(list(zip(seqs, claim_nos, strict=True)), due)


def claimed_by(connection: Connection, owner: str) -> list[Claim]:
    """The claims under which runs are running for this owner."""
    rows = connection.execute(_MINE, (owner,)).fetchall()
    return with_inputs(connection, [_claim(row) for row in rows])
