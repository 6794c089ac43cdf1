"""What a settle may write, given the row it meets: pure rules that every storage shares."""

from __future__ import annotations

from typing import NamedTuple

from ..model import FINAL, Ending, Reason, Settle, State


class Fence(NamedTuple):
    """The part of a row that decides about a settle."""

    id: str
    state: State
    claim_no: int
    owner: str | None
    attempt: int
    failures: int
    crashes: int
    cancel_reason: str | None


def holds(row: Fence, settle: Settle) -> bool:
    """Whether the settle's claim is still the one in force."""
    return (
        row.state is State.RUNNING
        and row.claim_no == settle.claim_no
        and row.owner == settle.owner
        and row.id == settle.id
    )


def is_repeated(row: Fence, settle: Settle) -> bool:
    """Whether this very settle was written before: its answer was lost, and it came again."""
    if row.id != settle.id or row.claim_no != settle.claim_no or row.state is State.RUNNING:
        return False
    counts = (row.attempt, row.failures, row.crashes)
    return row.state in FINAL or counts == (settle.attempt, settle.failures, settle.crashes)


def with_cancel(row: Fence, settle: Settle) -> Settle:
    """The settle, or the end of the run when a client wanted that and the attempt would be followed."""
    if row.cancel_reason is None:
        return settle
    if settle.state is State.CANCELLED and settle.reason == Reason.CANCELLED:
        return settle._replace(reason=row.cancel_reason)
    if settle.state in FINAL:
        return settle
    return settle._replace(state=State.CANCELLED, reason=row.cancel_reason, follow=(), join=None, after=())


def quarantined(settle: Settle, error: Exception) -> Settle:
    """The settle of a run whose own row cannot be written: it must not hold up the others."""
    return settle._replace(
        state=State.FAILED,
        outcome=Ending.NOT_STORABLE.value,
        failures=settle.failures + 1,
        reason=None,
        result=None,
        error=f"the storage cannot hold this: {str(error)!a}",
        exit_code=None,
        signal=None,
        pid=None,
        output=None,
        follow=(),
        join=None,
        after=(),
    )
