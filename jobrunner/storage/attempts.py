"""All attempts of a run: the earlier ones that a storage kept, and the one that the run's row describes."""

from __future__ import annotations

from collections.abc import Iterable

from ..model import Attempt, Run, Settle


def all_attempts(run: Run, earlier: Iterable[Attempt]) -> list[Attempt]:
    """Oldest first. An attempt that was kept already is told as it was kept."""
    told = {attempt.number: attempt for attempt in earlier}
    if run.attempt > 0:
        told.setdefault(run.attempt, latest_attempt(run))
    return list(told.values())


def latest_attempt(run: Run) -> Attempt:
    """The attempt that a run's own row describes."""
    return Attempt(
        run_id=run.id,
        number=run.attempt,
        outcome=run.outcome,
        started_at=run.started_at,
        ended_at=run.finished_at,
        exit_code=run.exit_code,
        signal=run.signal,
        error=run.error,
        host=run.host,
        pid=run.pid,
        output=run.output,
    )


def ended_attempt(run: Run, settle: Settle) -> Attempt:
    """The attempt that a settle ends, to be kept because another one follows."""
    return Attempt(
        run_id=run.id,
        number=settle.attempt,
        outcome=settle.outcome,
        started_at=settle.started_at,
        ended_at=settle.ended_at,
        exit_code=settle.exit_code,
        signal=settle.signal,
        error=settle.error,
        host=run.host,
        pid=settle.pid,
        output=settle.output,
    )
