"""Why a tick did not run, from the row that says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jobrunner.durations import SECOND, Micros, format_duration
from jobrunner.errors import NotFound
from jobrunner.ids import short_id
from jobrunner.model import MISSED, Reason, Run
from jobrunner.notify.whole import is_root
from jobrunner.plan import CatchUp, Pipeline, Task
from jobrunner.storage import Pause, Storage

from .why_rows import Rows

Clock = Callable[[Micros], str]

_CAUSES = {
    Reason.MISSED_DOWN: "No supervisor was there at that time",
    Reason.MISSED_SUSPENDED: "The machine was asleep at that time",
    Reason.MISSED_CLOCK: "The clock of the machine was set forward past that time",
    Reason.MISSED_HELD_UP: "The supervisor was there, but its storage, the machine or a reload held it up",
}


def skipped_words(rows: Rows, run: Run, clock: Clock, task: Task | Pipeline) -> Iterator[str]:
    """The story of a row that stands for a tick, or several, that did not run."""
    detail = json.loads(run.detail) if run.detail else {}
    yield f"No run: skipped ({run.reason})."
    if "count" in detail:
        first, last = clock(detail["from"]), clock(detail["to"])
        yield f"It is one of {detail['count']} ticks from {first} to {last}."
    if "holder" in detail:
        yield from _holder(rows.storage, run, str(detail["holder"]), clock)
    if "pause" in detail:
        yield f"{_was_paused(detail['pause'], clock)}."
    if "why" in detail:
        yield f"It was blocked then: {str(detail['why']).rstrip('.')}."
    if run.reason in MISSED:
        yield from _missed(rows, run, clock, task)


def paused_words(pause: Pause, clock: Clock) -> str:
    """`backup is paused by ana since 21:00, until 08:00 (the disk is changed)`."""
    return f"{_paused(pause.target)} is paused{_by_whom(pause, clock)}"


def _was_paused(told: Mapping[str, Any], clock: Clock) -> str:
    pause = Pause(**told)
    return f"{_paused(pause.target)} was paused{_by_whom(pause, clock)}"


def _paused(target: str) -> str:
    kind, _, name = target.partition(":")
    return {"task": name, "pool": f"The pool {name}"}.get(kind, "Everything")


def _by_whom(pause: Pause, clock: Clock) -> str:
    who = f" by {pause.by}" if pause.by else ""
    end = f" until {clock(pause.until)}" if pause.until is not None else " until somebody resumes it"
    reason = f" ({pause.reason})" if pause.reason else ""
    return f"{who} since {clock(pause.since)},{end}{reason}"


def _holder(storage: Storage, run: Run, run_id: str, clock: Clock) -> Iterator[str]:
    try:
        holder = storage.run(run_id)
    except NotFound:
        yield f"Run {short_id(run_id)} was not final; retention has removed it since."
        return
    if run.tick is not None and holder.created_at > run.tick + SECOND:
        yield f"Nobody came to this tick before {clock(run.created_at)}; by then another run was in its way."
    began = "had not started" if holder.started_at is None else f"started {clock(holder.started_at)}"
    if is_root(holder):  # a pipeline: its steps have started, or not
        began = f"due {clock(holder.due_at)}"
    end = "has not ended yet" if holder.finished_at is None else f"ended at {clock(holder.finished_at)}"
    yield f"Run {short_id(run_id)}, {began}, was not final; it {end}."


def _missed(rows: Rows, run: Run, clock: Clock, task: Task | Pipeline) -> Iterator[str]:
    yield f"{_CAUSES[Reason(run.reason or '')]}; it was accounted for at {clock(run.created_at)}."
    later = rows.caught_up_for(run)
    if later is not None:
        yield f"Run {short_id(later.id)} caught up for it, with the tick of {clock(later.tick or 0)}."
    else:
        yield f"Nothing caught up for it{_because(run, task)}."


def _because(run: Run, task: Task | Pipeline) -> str:
    """As the file has it now."""
    if task.catch_up is CatchUp.NONE:
        return ": catch_up is none"
    if run.created_at - (run.tick or 0) > task.catch_up_window:
        return f": it was older than the catch_up_window of {format_duration(task.catch_up_window)}"
    limit = f": only the latest {task.catch_up_limit} of a gap are run (catch_up_limit)"
    return limit if task.catch_up is CatchUp.ALL else ""
