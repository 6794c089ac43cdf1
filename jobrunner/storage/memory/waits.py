"""What waits for others in a memory storage: resolving, adding, cancelling. Whoever calls holds the lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...durations import Micros
from ...edges import TIMEOUT, Resolution, Waiting, missing, resolve
from ...model import FINAL, Condition, Edge, Input, NewRun, Reason, Run, State
from .house import House, Row

# --- resolving --------------------------------------------------------------------------------------


def resolve_all(house: House, now: Micros) -> None:
    """Let go on what has nothing to wait for any more; what ends by that lets others go on in turn."""
    while house.ended or house.born:
        ended, house.ended = house.ended, []
        freed, house.born = set(house.born), []
        for seq in freed:
            _mark_done(house, house.rows.get(seq))
        for run_id in ended:
            freed |= _free(house, run_id)
        for seq in sorted(freed):
            _look(house, seq, now)


def _mark_done(house: House, row: Row | None) -> None:
    if row is not None:
        for run_id in [each for each in row.undone if _is_over(house, each)]:
            house.part(row, run_id)


def _is_over(house: House, run_id: str) -> bool:
    seq = house.ids.get(run_id)
    return seq is None or house.rows[seq].run.state in FINAL


def _free(house: House, run_id: str) -> set[int]:
    """The runs that have waited for this one."""
    followers = set(house.followers.pop(run_id, ()))
    for seq in followers:
        house.rows[seq].undone.discard(run_id)
    return followers


def _look(house: House, seq: int, now: Micros) -> None:
    row = house.rows.get(seq)
    if row is None or row.run.state is not State.WAITING or (row.run.join is not None and row.undone):
        return
    resolution = resolve(_waiting(row), inputs_of(house, row.edges), now)
    if resolution is not None:
        _apply(house, row.run, resolution, now)


def _waiting(row: Row) -> Waiting:
    run = row.run
    return Waiting(run.created_at, run.due_at, run.expires_at, run.join, row.cancel_reason)


def inputs_of(house: House, edges: Sequence[Edge]) -> tuple[Input, ...]:
    """The ends of predecessors, in their order; one that is gone is given where its end matters."""
    inputs = (input_of(house, edge) for edge in edges)
    return tuple(each for each in inputs if each is not None)


def input_of(house: House, edge: Edge) -> Input | None:
    """The end of one predecessor, as far as it got; None for one that is gone, where that is all the same."""
    seq = house.ids.get(edge.run_id)
    if seq is None:
        return None if edge.condition == Condition.FINAL else missing(edge.run_id, edge.condition)
    run = house.rows[seq].run
    end = (run.result, run.reason, run.outcome, run.error, run.exit_code, run.attempt)
    return Input(run.id, run.task, run.state, edge.condition, *end)


def _apply(house: House, run: Run, then: Resolution, now: Micros) -> None:
    if then.state is None:
        house.ended.append(house.remove(run.seq))
    elif then.state in FINAL:
        end = {"reason": then.reason, "outcome": then.outcome, "result": then.result, "error": then.error}
        house.update(run.seq, state=then.state, finished_at=now, **end)
    else:
        house.update(run.seq, state=then.state, due_at=then.due_at, expires_at=then.expires_at)


# --- adding -----------------------------------------------------------------------------------------


def add_all(house: House, runs: Sequence[NewRun], now: Micros) -> list[bool]:
    """Add runs; what belongs to a pipeline whose root is refused is refused with it."""
    refused: set[str] = set()
    answers = []
    for run in runs:
        added = run.pipeline not in refused and _add(house, run, now)
        if not added:
            refused.add(run.id)
        answers.append(added)
    return answers


def _add(house: House, run: NewRun, now: Micros) -> bool:
    if run.id in house.ids or not _gets_key(house, run, now):
        return False
    house.insert(run)
    return True


def _gets_key(house: House, run: NewRun, now: Micros) -> bool:
    holder = None if run.unique is None or run.state in FINAL else house.keys.get(run.unique)
    if holder is None:
        return True
    if not run.replaces:
        return False
    held = house.rows[holder].run
    if has_begun(house, held):
        del house.keys[run.unique or ""]
        house.update(holder, unique=None)
    else:
        cancel(house, held.id, now, Reason.SUPERSEDED.value)
        resolve_all(house, now)
    return True


def has_begun(house: House, run: Run) -> bool:
    """Whether it runs; of a pipeline whether one of its steps was claimed."""
    if run.join is None:
        return run.state is State.RUNNING
    return any(house.rows[seq].run.claim_no > 0 for seq in house.pipelines.get(run.id, ()))


# --- cancelling -------------------------------------------------------------------------------------


def cancel(house: House, run_id: str, now: Micros, reason: str) -> bool:
    """End a run that is not running; mark one that is. False: it was final, or is not there."""
    row = house.rows.get(house.ids.get(run_id, 0))
    if row is None or row.run.state in FINAL:
        return False
    if row.run.join is None:
        _end(house, row, now, reason)
        return True
    row.cancel_reason = row.cancel_reason or reason
    house.update(row.run.seq, cancel_requested=True)
    below = Reason.CANCELLED.value if reason == TIMEOUT else reason
    for each in list(_below(house, row)):
        _end(house, each, now, below)
    house.born.append(row.run.seq)
    return True


def _below(house: House, row: Row) -> Iterator[Row]:
    """What a row stands for, itself left out; not over yet."""
    for edge in row.edges:
        member = house.rows.get(house.ids.get(edge.run_id, 0))
        if member is not None and member.run.state not in FINAL:
            if member.run.join is not None:
                yield from _below(house, member)
            yield member


def _end(house: House, row: Row, now: Micros, reason: str) -> None:
    if row.run.state is State.RUNNING or row.run.join is not None:
        row.cancel_reason = row.cancel_reason or reason
        house.update(row.run.seq, cancel_requested=True)
    else:
        house.update(row.run.seq, state=State.CANCELLED, reason=reason, finished_at=now)
