"""The changes of a memory storage: settles, promotion, claims, ticks. Whoever calls holds the lock."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from ...durations import Micros
from ...errors import OwnerLost, PayloadError
from ...model import FINAL, Claim, NewRun, Reason, Run, Settle, Started, State, task_lane
from .. import ExchangeRequest, Supervisor, Tick, Verdict
from ..attempts import ended_attempt
from ..fences import Fence, holds, is_repeated, quarantined, with_cancel
from ..lanes import MOST_STRANGERS, Choice, Floor, OpenLane
from ..overlap import is_in_the_way, naming
from .house import House, Row, Watermark

MOST_PROMOTED = MOST_EXPIRED = 500  # in one exchange, as in the other storages
_LARGEST = 2**63  # an integer that another storage could not hold is refused here too


def demand_in_force(house: House, owner: str) -> Supervisor:
    """The owner's entry; raises OwnerLost unless it entered, has not left, and is not dead."""
    known = house.supervisors.get(owner)
    if known is None or not known.alive:
        raise OwnerLost(
            f"supervisor {owner} is no longer the owner of this storage",
            help="it must end what it runs; the next start recovers it",
        )
    return known


def demand_storable(runs: Iterable[NewRun]) -> None:
    """Refuse what no other storage could hold: a test must not pass here alone."""
    for run in runs:
        try:
            _check(run)
        except (UnicodeError, OverflowError) as error:
            raise PayloadError(
                f"a run cannot be stored: {str(error)!a}", help="look at its arguments"
            ) from error


def _check(values: Iterable[object]) -> None:
    for value in values:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise OverflowError(f"{value} has more than 64 bits")
        elif isinstance(value, tuple):
            _check(value)


# --- settles ----------------------------------------------------------------------------------------


def mark_started(house: House, mark: Started) -> None:
    row = house.rows.get(mark.seq)
    if row is None or row.run.state is not State.RUNNING:
        return
    if (row.run.claim_no, row.run.owner) == (mark.claim_no, mark.owner):
        house.update(mark.seq, started_at=mark.started_at, pid=mark.pid)


def settle(house: House, settle: Settle) -> bool:
    """Write one settle with its follow-ups; False when its fence does not hold."""
    row = house.rows.get(settle.seq)
    if row is None:
        return False
    fence = _fence(row)
    if not holds(fence, settle):
        return is_repeated(fence, settle)
    try:
        _check(settle)
    except (UnicodeError, OverflowError) as error:
        settle = quarantined(settle, error)
    _write(house, row.run, with_cancel(fence, settle))
    return True


def _fence(row: Row) -> Fence:
    run = row.run
    counts = run.attempt, run.failures, run.crashes
    return Fence(run.id, run.state, run.claim_no, run.owner, *counts, row.cancel_reason)


def _write(house: House, run: Run, settle: Settle) -> None:
    is_final = settle.state in FINAL
    if settle.outcome is not None and not is_final:
        house.attempts[run.seq].append(ended_attempt(run, settle))
    house.update(
        run.seq,
        state=settle.state,
        outcome=settle.outcome,
        attempt=settle.attempt,
        failures=settle.failures,
        crashes=settle.crashes,
        due_at=settle.due_at,
        started_at=settle.started_at,
        finished_at=settle.ended_at if is_final else None,
        reason=settle.reason,
        result=settle.result,
        error=settle.error,
        exit_code=settle.exit_code,
        signal=settle.signal,
        pid=settle.pid,
        output=settle.output,
        owner=None,
    )
    if settle.outcome is None:
        _restore(house, run.seq, settle.attempt)
    for follower in settle.follow:
        house.insert(follower)


def _restore(house: House, seq: int, number: int) -> None:
    """A call that came back before it had begun was no attempt: the row tells of the one before again."""
    earlier = next((each for each in house.attempts.get(seq, ()) if each.number == number), None)
    if earlier is not None:
        house.update(
            seq,
            outcome=earlier.outcome,
            started_at=earlier.started_at,
            exit_code=earlier.exit_code,
            signal=earlier.signal,
            host=earlier.host,
            pid=earlier.pid,
            output=earlier.output,
            error=earlier.error,
        )


# --- claims -----------------------------------------------------------------------------------------


def promote(house: House, now: Micros) -> bool:
    """Queue what is due; True when there is more of it."""
    for _ in range(MOST_PROMOTED):
        first = house.next_due()
        if first is None or first[0] > now:
            return False
        house.update(first[1], state=State.QUEUED)
    return True


def expire(house: House, now: Micros) -> bool:
    """End what was not started in time; True when there is more of it."""
    for _ in range(MOST_EXPIRED):
        first = house.next_expiry()
        if first is None or first[0] > now:
            return False
        house.update(first[1], state=State.EXPIRED, reason=Reason.EXPIRED.value, finished_at=now)
    return True


def choose(house: House, request: ExchangeRequest, used_pools: frozenset[str]) -> Choice:
    """What a claim takes now."""
    now = request.now
    paused = {each.target for each in house.pauses.values() if each.until is None or each.until > now}
    floor = Floor(request.rules, used_pools, paused, _held(house))
    choice = Choice()
    by_pool: dict[str, list[Claim]] = {}
    for lane in floor.open_lanes(house.waiting_lanes(), request.want):
        heads = by_pool.setdefault(lane.pool, [])
        choice.more |= _read(house, lane, now, floor, heads, choice.strangers)
    for pool, heads in by_pool.items():
        best = floor.choose(heads, request.want.get(pool, 0))
        choice.claims += best.claims
        choice.more |= best.more
    choice.more |= bool(choice.strangers)
    return choice


def _held(house: House) -> Counter[str]:
    locks = (house.rows[seq].lock for seq in house.running)
    return Counter(lock for lock in locks if lock is not None)


def _read(
    house: House, lane: OpenLane, now: Micros, floor: Floor, heads: list[Claim], strangers: list[Claim]
) -> bool:
    """Read the lane's heads; True when it was left before its end for another cause than a busy lock."""
    left = lane.limit
    for run in house.heads(lane.name):
        if run.expires_at is not None and run.expires_at <= now and run.claim_no == 0:
            continue
        if not floor.belongs(lane.name, run.task):
            strangers.append(claim_of(run))
            if len(strangers) >= MOST_STRANGERS:
                return True
        elif left == 0:
            return not lane.is_locked
        else:
            heads.append(claim_of(run, following=1))
            left -= 1
    return False


def take(house: House, choice: Choice, owner: str) -> list[Claim]:
    """Write the choice: its claims are running from now on."""
    for stranger in choice.strangers:
        house.update(stranger.seq, lane=task_lane(stranger.task))
    host = house.supervisors[owner].owner.host
    for claim, lock in choice.claims:
        house.update(
            claim.seq,
            state=State.RUNNING,
            owner=owner,
            host=host,
            claim_no=claim.claim_no,
            attempt=claim.attempt,
            started_at=None,
            pid=None,
            outcome=None,
            exit_code=None,
            signal=None,
            error=None,
            result=None,
            output=None,
            reason=None,
        )
        house.rows[claim.seq].lock = lock
    return [each.claim for each in choice.claims]


def cancels(house: House, owner: str) -> list[tuple[int, int]]:
    """The claims of this owner whose runs a client wants cancelled."""
    rows = (house.rows[seq] for seq in sorted(house.running))
    wanted = (row.run for row in rows if row.cancel_reason is not None)
    return [(run.seq, run.claim_no) for run in wanted if run.owner == owner]


def next_due(house: House, now: Micros) -> Micros | None:
    """When time will change something: a run due, one too late, a pause over."""
    firsts = (house.next_due(), house.next_expiry())
    ends = [each.until for each in house.pauses.values() if each.until is not None and each.until > now]
    return min([*(first[0] for first in firsts if first is not None), *ends], default=None)


def claim_of(run: Run, *, following: int = 0) -> Claim:
    """The claim under which a run is running, or (`following` 1) the one that comes next."""
    return Claim(
        seq=run.seq,
        id=run.id,
        task=run.task,
        claim_no=run.claim_no + following,
        attempt=run.attempt + following,
        failures=run.failures,
        crashes=run.crashes,
        payload=run.payload,
        priority=run.priority,
        due_at=run.due_at,
        created_at=run.created_at,
        trigger=run.trigger.value,
        pool=run.pool,
        tick=run.tick,
        missed=run.missed,
        policy=run.policy,
        options=run.options,
        cause=run.cause,
    )


# --- clients and schedules --------------------------------------------------------------------------


def cancel(house: House, run_id: str, now: Micros, reason: str) -> bool:
    """End a run that is not running; mark one that is. False: it was final, or is not there."""
    row = house.rows.get(house.ids.get(run_id, 0))
    if row is None or row.run.state in FINAL:
        return False
    if row.run.state is State.RUNNING:
        row.cancel_reason = reason
        house.update(row.run.seq, cancel_requested=True)
    else:
        house.update(row.run.seq, state=State.CANCELLED, reason=reason, finished_at=now)
    return True


def tick_all(house: House, ticks: Sequence[Tick]) -> list[Verdict]:
    """Account for ticks, in this order: a later one sees the runs of those before it."""
    return [_tick(house, tick) for tick in ticks]


def _tick(house: House, tick: Tick) -> Verdict:
    known = house.watermarks.get(tick.schedule)
    if known is not None and known.at != tick.expected:
        return Verdict(known.at, accounted=False)
    house.watermarks[tick.schedule] = Watermark(tick.tick, tick.next_at)
    if tick.run is None:
        return Verdict(tick.tick, accounted=True)
    holder = None if tick.refused is None else _holder(house, tick.run.task)
    if holder is not None and tick.refused is not None:
        house.insert(naming(tick.refused, holder))
    else:
        house.insert(tick.run)
    return Verdict(tick.tick, accounted=True, holder=holder)


def _holder(house: House, task: str) -> str | None:
    live = (house.rows[seq].run for seq in sorted(house.live[task]))
    return next((run.id for run in live if is_in_the_way(run.state, run.tick)), None)


def ring(house: House) -> None:
    """Wake the owner."""
    if house.bell is not None:
        os.eventfd_write(house.bell, 1)
