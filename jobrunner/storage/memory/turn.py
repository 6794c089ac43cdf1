"""The turn of a memory storage: settles, promotion, claims. Whoever calls holds the lock."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from ...durations import Micros
from ...edges import TIMEOUT, missing
from ...errors import OwnerLost, PayloadError
from ...model import FINAL, Claim, Input, NewRun, Reason, Run, Settle, Started, State
from .. import ExchangeRequest, Supervisor
from .. import lanes as shared
from ..attempts import ended_attempt
from ..fences import Fence, holds, is_repeated, quarantined, with_cancel
from . import waits
from .house import House, Row

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
    waits.add_all(house, settle.follow, settle.ended_at)
    if settle.state is State.WAITING:
        house.update(run.seq, join=settle.join)
        house.join(run.seq, settle.after)


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


def time_out(house: House, now: Micros) -> bool:
    """Cancel the pipelines whose time is up; True when there is more of it."""
    for _ in range(MOST_EXPIRED):
        first = house.next_timeout()
        if first is None or first[0] > now:
            return False
        waits.cancel(house, house.rows[first[1]].run.id, now, TIMEOUT)
    return True


def choose(house: House, request: ExchangeRequest, used_pools: frozenset[str]) -> shared.Choice:
    """What a claim takes now."""
    lanes = house.waiting_lanes()
    floor = shared.Floor(request.rules, used_pools, _held(house, request, lanes), request.now)
    return shared.choose(
        floor,
        lanes,
        request.want,
        lambda lane, _: _heads(house, lane.name, request.now),
        shared.THOROUGH._replace(looks=1),  # to read on would cost more than to send all away, turn by turn
    )


def _held(house: House, request: ExchangeRequest, lanes: Iterable[str]) -> shared.Held:
    now = request.now
    starts = {}
    for task, rate in shared.rated(request.rules, lanes).items():
        window, number = house.starts.get(task, (0, 0))
        starts[task] = number if window == shared.window_of(rate, now) else 0
    return shared.Held(
        paused={each.target for each in house.pauses.values() if each.until is None or each.until > now},
        revoked={
            each.target: each.once
            for each in house.revocations.values()
            if each.until is None or each.until > now
        },
        locks=held_locks(house),
        starts=starts,
    )


def held_locks(house: House) -> Counter[str]:
    """How many running runs hold each lock."""
    rows = [house.rows[seq] for seq in house.running]
    own = [row.lock for row in rows if row.lock is not None]
    return Counter([*own, *(lock for row in rows for lock in row.extra_locks)])


def _heads(house: House, lane: str, now: Micros) -> Iterator[Claim]:
    """The lane's runs that have not come too late, best first."""
    for run in house.heads(lane):
        if run.expires_at is None or run.expires_at > now or run.claim_no > 0:
            yield claim_of(house, run, following=1)


def take(house: House, choice: shared.Choice, request: ExchangeRequest) -> list[Claim]:
    """Write the choice: its claims are running from now on."""
    for seq, lane in choice.strangers:
        house.update(seq, lane=lane)
    host = house.supervisors[request.owner].owner.host
    for claim, lock in choice.claims:
        house.update(
            claim.seq,
            state=State.RUNNING,
            owner=request.owner,
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
    _count_starts(house, choice, request)
    _revoke(house, choice, request.now)
    return [each.claim for each in choice.claims]


def _count_starts(house: House, choice: shared.Choice, request: ExchangeRequest) -> None:
    for task, number in choice.starts.items():
        rate = request.rules.tasks[task].rate
        window = shared.window_of(rate, request.now) if rate is not None else 0
        before = house.starts.get(task, (0, 0))
        house.starts[task] = window, number + (before[1] if before[0] == window else 0)


def _revoke(house: House, choice: shared.Choice, now: Micros) -> None:
    for run_id in choice.revoked:
        waits.cancel(house, run_id, now, Reason.REVOKED.value)
    for target in choice.marks:
        house.revocations.pop(target, None)
    waits.resolve_all(house, now)


def cancels(house: House, owner: str) -> list[tuple[int, int]]:
    """The claims of this owner whose runs a client wants cancelled."""
    rows = (house.rows[seq] for seq in sorted(house.running))
    wanted = (row.run for row in rows if row.cancel_reason is not None)
    return [(run.seq, run.claim_no) for run in wanted if run.owner == owner]


def next_due(house: House, now: Micros) -> Micros | None:
    """When time will change something: a run due or too late, a pipeline's time up, a pause over."""
    firsts = (house.next_due(), house.next_expiry(), house.next_timeout())
    ends = [each.until for each in house.pauses.values() if each.until is not None and each.until > now]
    return min([*(first[0] for first in firsts if first is not None), *ends], default=None)


def claim_of(house: House, run: Run, *, following: int = 0) -> Claim:
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
        pipeline=run.pipeline,
        pipeline_name=run.pipeline_name,
        step=run.step,
        compose=run.compose,
        inputs=() if run.compose is None else _inputs(house, run),
    )


def _inputs(house: House, run: Run) -> tuple[Input, ...]:
    return tuple(
        waits.input_of(house, edge) or missing(edge.run_id, edge.condition)
        for edge in house.rows[run.seq].edges
    )


def ring(house: House) -> None:
    """Wake the owner."""
    if house.bell is not None:
        os.eventfd_write(house.bell, 1)
