"""What the loops report as the signals that receivers hear. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from .events import AttemptEnded, Event, MapGrown, RunRefused, TickRefused, TicksAdded
from .hooks import Notice, Signal
from .model import MISSED, Claim, Ended, Ending, NewRun, Settle, State

_FINAL: Final[Mapping[State, Signal]] = {
    State.SUCCEEDED: Signal.COMPLETE,
    State.CANCELLED: Signal.CANCELLED,
}
_CUT_SHORT: Final = frozenset({Ending.INTERRUPTED, Ending.CRASHED})  # by no fault of the call's own
_ASKED: Final = frozenset({Ending.RETRY_ASKED, Ending.CANCELLED})  # by the task itself


def notices_of(event: Event) -> Iterator[Notice]:
    """The notices of an event, in the order in which they are to be heard."""
    if isinstance(event, AttemptEnded):
        for signal in _of_attempt(event.ended, event.settle):
            yield _attempt_notice(signal, event.claim, event.settle)
        yield from births(event.settle.follow)
    elif isinstance(event, MapGrown):
        yield from births(event.settle.follow)
    elif isinstance(event, RunRefused):
        yield _of_settle(Signal.LOCKED, event.task, event.settle)
        yield from births(event.settle.follow)
    elif isinstance(event, TicksAdded):
        yield from births(event.runs)
    elif isinstance(event, TickRefused):
        signal = Signal.MISSED if event.reason in MISSED else Signal.SKIPPED
        run = event.run
        yield Notice(signal=signal, task=run.task, run_id=run.id, at=run.created_at, reason=event.reason)


def births(runs: Iterable[NewRun]) -> Iterator[Notice]:
    """That runs were added: due now, or later. A step that waits for another one is not told of."""
    for run in runs:
        if _is_told(run):
            is_later = run.state is State.SCHEDULED or (run.join is not None and run.due_at > run.created_at)
            signal = Signal.SCHEDULED if is_later else Signal.ENQUEUED
            yield Notice(signal=signal, task=run.task, run_id=run.id, at=run.created_at)


def _is_told(run: NewRun) -> bool:
    """Whether it is on its way: not final from birth, no block of a pipeline, no step that may never run."""
    return run.state in (State.QUEUED, State.SCHEDULED) or (
        run.state is State.WAITING and run.pipeline is None
    )


def recovered(task: str, settle: Settle) -> Iterator[Notice]:
    """That a run of a dead supervisor was resolved."""
    if settle.outcome == Ending.INTERRUPTED.value:
        yield _of_settle(Signal.INTERRUPTED, task, settle)
    if settle.state is State.FAILED:
        yield _of_settle(Signal.ERROR, task, settle)
    elif settle.state is State.CANCELLED:
        yield _of_settle(Signal.CANCELLED, task, settle)
    yield from births(settle.follow)


def _of_attempt(ended: Ended, settle: Settle) -> Iterator[Signal]:
    """A failure is told as such, and then what comes of it."""
    if ended.ending in _CUT_SHORT:
        yield Signal.INTERRUPTED
    if ended.ending is Ending.TIMEOUT:
        yield Signal.TIMEOUT
    elif settle.state is State.FAILED or (settle.state is State.RETRYING and ended.ending not in _ASKED):
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


def _of_settle(signal: Signal, task: str, settle: Settle) -> Notice:
    return Notice(
        signal=signal,
        task=task,
        run_id=settle.id,
        at=settle.ended_at,
        attempt=settle.attempt,
        outcome=settle.outcome,
        reason=settle.reason,
        error=settle.error,
    )
