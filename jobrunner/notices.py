"""What the loops report as the signals that receivers hear. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from .events import AttemptEnded, Event, RunRefused, TickRefused
from .hooks import Notice, Signal
from .model import MISSED, Claim, Ended, Ending, Settle, State

_FINAL: Final[Mapping[State, Signal]] = {
    State.SUCCEEDED: Signal.COMPLETE,
    State.CANCELLED: Signal.CANCELLED,
}


def notices_of(event: Event) -> Iterator[Notice]:
    """The notices of an event, in the order in which they are to be heard."""
    if isinstance(event, AttemptEnded):
        for signal in _of_attempt(event.ended, event.settle):
            yield _attempt_notice(signal, event.claim, event.settle)
    elif isinstance(event, RunRefused):
        yield Notice(
            signal=Signal.LOCKED,
            task=event.task,
            run_id=event.settle.id,
            at=event.settle.ended_at,
            reason=event.settle.reason,
        )
    elif isinstance(event, TickRefused):
        signal = Signal.MISSED if event.reason in MISSED else Signal.SKIPPED
        run = event.run
        yield Notice(signal=signal, task=run.task, run_id=run.id, at=run.created_at, reason=event.reason)


def _of_attempt(ended: Ended, settle: Settle) -> Iterator[Signal]:
    """A failure is told as such, and then what comes of it."""
    if ended.ending is Ending.INTERRUPTED:
        yield Signal.INTERRUPTED
        return
    if ended.ending is Ending.TIMEOUT:
        yield Signal.TIMEOUT
    elif settle.state is State.FAILED or (
        settle.state is State.RETRYING and ended.ending not in (Ending.RETRY_ASKED, Ending.CANCELLED)
    ):
        yield Signal.ERROR
    if settle.state is State.RETRYING:
        yield Signal.RETRYING
    elif settle.state in _FINAL:
        yield _FINAL[settle.state]


def _attempt_notice(signal: Signal, claim: Claim, settle: Settle) -> Notice:
    return Notice(
        signal=signal,
        task=claim.task,
        run_id=claim.id,
        at=settle.ended_at,
        attempt=claim.attempt,
        outcome=settle.outcome,
        reason=settle.reason,
        error=settle.error,
    )
