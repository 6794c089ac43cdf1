"""Ticks about to be written: two of one instant, those of pipelines, the line of what was missed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from . import birth, composition
from .durations import SECOND, Micros
from .model import Condition, Edge, NewRun, Reason, State
from .plan import CatchUp, Overlap, Pipeline, Task
from .storage import Tick
from .timetable import Timetable

SPREAD: Micros = 5 * SECOND  # catch-up runs start spread over this (semantics 9)


@dataclass(slots=True)
class Write:
    """A tick about to be written, and the timetable it belongs to."""

    table: Timetable
    tick: Tick
    refused: Reason | None  # why it does not run, when that is known beforehand
    behind: str | None = None  # id of the catch-up run that goes before it


def arranged(writes: list[Write], now: Micros) -> list[Write]:
    """The writes of one turn as they are to be made."""
    writes = _once(writes)
    if any(write.tick.run is not None and write.tick.run.missed for write in writes):
        writes = _spread(_in_line(writes), now)
    return [_behind(_whole(write)) for write in writes]


def overlap_of(task: Task | Pipeline, run: NewRun) -> tuple[NewRun | None, str]:
    """What the storage does when a run of the task is in the way of this one (semantics 8).

    The runs of `catch_up: all` are exempt: they wait for one another (semantics 9).
    """
    if run.missed and task.catch_up is CatchUp.ALL:
        return None, Overlap.SKIP.value
    if task.overlap is Overlap.SKIP:
        return birth.not_run(run, Reason.OVERLAP), Overlap.SKIP.value
    return None, (Overlap.SKIP if task.overlap is Overlap.ALLOW else task.overlap).value


def _once(writes: list[Write]) -> list[Write]:
    """Two schedules of a task that name one instant with the same arguments are one tick (semantics 7).

    The second one only moves its watermark: both rows would have the same id.
    """
    seen: set[str] = set()
    kept: list[Write] = []
    for write in writes:
        run = write.tick.run
        if run is not None and run.id in seen:
            write = Write(write.table, write.tick._replace(run=None, refused=None), None)
        elif run is not None:
            seen.add(run.id)
        kept.append(write)
    return kept


def _whole(write: Write) -> Write:
    """The tick of a pipeline with all its known steps."""
    run, table = write.tick.run, write.table
    if table.entry.composition is None or run is None or run.state is State.SKIPPED:
        return write
    root, *members = composition.begin(run, table.entry, table.entries.get)
    write.tick = write.tick._replace(run=root, members=tuple(members))
    return write


def _in_line(writes: list[Write]) -> list[Write]:
    """With `catch_up: all` missed ticks of a task run one behind the other, oldest first (semantics 9)."""
    last: dict[str, str] = {}
    for write in sorted(writes, key=lambda write: write.tick.tick):
        run = write.tick.run
        if run is not None and run.missed and write.table.task.catch_up is CatchUp.ALL:
            write.behind = last.get(run.task)
            last[run.task] = run.id
    return sorted(writes, key=lambda write: write.tick.tick) if last else writes


def _behind(write: Write) -> Write:
    """It waits for the end of the run before it; of a pipeline those of its steps do that begin it."""
    run, members = write.tick.run, write.tick.members
    if run is None or write.behind is None:
        return write
    if members:
        members = tuple(each if each.after else _waiting(each, write.behind) for each in members)
        write.tick = write.tick._replace(members=members)
    else:
        write.tick = write.tick._replace(run=_waiting(run, write.behind))
    return write


def _waiting(run: NewRun, before: str) -> NewRun:
    """Due as soon as the run before it has ended: its patience counts from then on."""
    patience = None if run.expires_at is None else run.expires_at - run.due_at
    return run._replace(
        state=State.WAITING,
        due_at=run.created_at,
        expires_at=None if patience is None else run.created_at + patience,
        after=(Edge(before, Condition.FINAL),),
    )


def _spread(writes: list[Write], now: Micros) -> list[Write]:
    """Catch-up runs start over a few seconds, by priority, not all at once (semantics 9)."""
    late = [write for write in writes if write.tick.run and write.tick.run.missed and not write.behind]
    late.sort(key=lambda write: -(write.tick.run.priority if write.tick.run else 0))
    for place, write in enumerate(late):
        _put_off(write, now + SPREAD * place // len(late), now)
    return writes


def _put_off(write: Write, due_at: Micros, now: Micros) -> None:
    run = write.tick.run
    if run is None:
        return
    wait = None if run.expires_at is None else run.expires_at - run.due_at
    late: NewRun = run._replace(
        state=State.SCHEDULED if due_at > now else State.QUEUED,
        due_at=due_at,
        expires_at=None if wait is None else due_at + wait,
    )
    write.tick = write.tick._replace(run=late)
