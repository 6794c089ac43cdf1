"""What leaves a memory storage: runs of tasks that are no more, and runs past the retention."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ...durations import Micros
from ...model import FINAL, Reason, Run, State
from . import reads, waits
from .house import House

if TYPE_CHECKING:
    from ...plan import Retention

_TICKS = frozenset({State.WAITING, State.SCHEDULED, State.QUEUED})


def cancel_removed(house: House, tasks: Collection[str], now: Micros) -> None:
    """Cancel retries, and ticks that do not run, of tasks that are no more (semantics 20)."""
    gone = [run for task, live in house.live.items() if task not in tasks for run in _runs(house, live)]
    for run in sorted(gone, key=lambda run: run.seq):
        if run.state is State.RETRYING or (run.tick is not None and _has_not_begun(house, run)):
            waits.cancel(house, run.id, now, Reason.REMOVED.value)
    waits.resolve_all(house, now)


def _runs(house: House, seqs: Collection[int]) -> list[Run]:
    return [house.rows[seq].run for seq in seqs]


def _has_not_begun(house: House, run: Run) -> bool:
    return run.state in _TICKS and not waits.has_begun(house, run)


def prune(house: House, retention: Retention, now: Micros, limit: int) -> list[str]:
    """Remove finished runs that are old or too many, then results that are old; the ids of the former."""
    done = reads.finished(house)
    gone: list[Run] = []
    for run in done:
        is_old = (run.finished_at or 0) < now - retention.history
        if len(gone) >= limit or not (is_old or len(gone) < len(done) - retention.max_runs):
            break
        gone += _whole(house, run)
    _remove_results(house, now - retention.results)
    return [house.remove(run.seq) for run in gone]


def _whole(house: House, run: Run) -> list[Run]:
    """A run with all that belongs to it; nothing while some of that is not final."""
    if run.pipeline is not None and run.pipeline in house.ids:
        return []  # it goes with its root
    members = _runs(house, sorted(house.pipelines.get(run.id, ())))
    return [run, *members] if all(each.state in FINAL for each in members) else []


def _remove_results(house: House, before: Micros) -> None:
    for run in reads.finished(house):
        if run.result is not None and (run.finished_at or 0) < before and not _is_needed(house, run):
            house.rows[run.seq].run = run._replace(result=None)
            house.touched.add(run.seq)


def _is_needed(house: House, run: Run) -> bool:
    """Whether its pipeline still goes on."""
    root = house.ids.get(run.pipeline or "")
    return root is not None and house.rows[root].run.state not in FINAL
