"""What becomes of a waiting run as its predecessors end: pure rules that every storage shares.

plain run       after ok(a)           -> queued, or skipped: upstream failed
handler         after failed(a)       -> queued, or removed: it was for nothing
behind another  after final(a)        -> queued
join            after final(a, b, c)  -> succeeded, failed or cancelled, as `Join` says
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from .durations import Micros
from .model import FINAL, Condition, Input, Join, Reason, State

FAILED = frozenset({State.FAILED, State.EXPIRED})
TIMEOUT = "timeout"  # the reason with which a pipeline is cancelled whose time is up


class Waiting(NamedTuple):
    """The part of a waiting row that decides."""

    created_at: Micros
    due_at: Micros
    expires_at: Micros | None
    join: str | None
    cancel_reason: str | None  # a client wants it cancelled (or its time is up)


class Resolution(NamedTuple):
    """What a waiting run becomes. `state` None: its row is removed."""

    state: State | None
    due_at: Micros = 0  # queued and scheduled ones
    expires_at: Micros | None = None
    reason: str | None = None  # final ones
    outcome: str | None = None
    result: str | None = None
    error: str | None = None  # a join that failed with a member: which, and why


def resolve(row: Waiting, inputs: Sequence[Input], now: Micros) -> Resolution | None:
    """What becomes of the row, given all its predecessors that are there; None: it waits on.

    A predecessor that is not there counts as final: the caller leaves it out of `inputs` for a `final`
    edge, and gives it as `missing` for another.
    """
    if row.join is not None:
        return _joined(row, inputs)
    for each in inputs:
        if each.state in FINAL and not _fits(each):
            return _in_vain(inputs)
    if any(each.state not in FINAL for each in inputs):
        return None
    return _begins(row, now)


def missing(run_id: str, condition: str) -> Input:
    """A predecessor whose row is gone: final, neither well nor badly."""
    return Input(run_id, "", State.SKIPPED, condition, None, None, None, None, None, 0)


def _fits(each: Input) -> bool:
    if each.condition == Condition.OK:
        return each.state is State.SUCCEEDED
    return each.condition == Condition.FINAL or each.state in FAILED


def _in_vain(inputs: Sequence[Input]) -> Resolution:
    if any(each.condition == Condition.FAILED for each in inputs):
        return Resolution(None)
    return Resolution(State.SKIPPED, reason=Reason.UPSTREAM_FAILED.value)


def _begins(row: Waiting, now: Micros) -> Resolution:
    """It is due its own delay after this moment; what bounds its start moves along (semantics 19)."""
    due_at = now + max(0, row.due_at - row.created_at)
    moved = due_at - row.due_at
    expires_at = None if row.expires_at is None else row.expires_at + moved
    return Resolution(State.SCHEDULED if due_at > now else State.QUEUED, due_at, expires_at)


def _joined(row: Waiting, inputs: Sequence[Input]) -> Resolution | None:
    if any(each.state not in FINAL for each in inputs):
        return None
    if row.cancel_reason == TIMEOUT:
        return Resolution(State.FAILED, outcome=TIMEOUT)
    if row.cancel_reason is not None:
        return Resolution(State.CANCELLED, reason=row.cancel_reason)
    well = all(each.state is State.SUCCEEDED for each in inputs)
    if not well and row.join != Join.LIST_ANY:
        return Resolution(State.FAILED, reason=Reason.UPSTREAM_FAILED.value, error=_culprit(inputs))
    return Resolution(State.SUCCEEDED, outcome="ok", result=_result(row.join, inputs))


def _culprit(inputs: Sequence[Input]) -> str:
    """`TASK (RUN): why` of the first member that did not succeed; of a block, what it says itself."""
    bad = [each for each in inputs if each.state is not State.SUCCEEDED]
    first = next((each for each in bad if each.state is not State.SKIPPED), bad[0])
    if first.reason == Reason.UPSTREAM_FAILED and first.error is not None:
        return first.error
    return f"{first.task} ({first.run_id}): {_why(first)}"


def _why(each: Input) -> str:
    return each.reason or each.outcome or each.state.value


def _result(join: str | None, inputs: Sequence[Input]) -> str | None:
    if join == Join.LAST:
        return inputs[-1].result if inputs else None
    return "[" + ",".join(_member(each) for each in inputs) + "]"


def _member(each: Input) -> str:
    """A member's result in the list: `codec` writes a list of results as the list of their texts."""
    return (each.result or "null") if each.state is State.SUCCEEDED else failure(each)


def failure(each: Input) -> str:
    """The encoded `Failure` that stands in the place of a result that is not there (codec: `$failure`)."""
    plain = {
        "task": each.task,
        "run_id": each.run_id,
        "state": each.state.value,
        "reason": _why(each),
        "error": each.error,
    }
    return json.dumps({"$failure": plain}, separators=(",", ":"))
