"""The reads of a memory storage. Whoever calls holds the lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from ...durations import DAY, Micros
from ...errors import AmbiguousRun, NotFound
from ...model import FINAL, Run, State
from .. import COUNT_LIMIT, DayStats, Overview, RunFilter, TaskSummary
from .house import House


def find(house: House, run_id: str) -> Run:
    """The run with this id, or with this unique beginning or ending."""
    if run_id in house.ids:
        return house.rows[house.ids[run_id]].run
    found = [each for each in house.ids if run_id and (each.startswith(run_id) or each.endswith(run_id))]
    if not found:
        raise NotFound(f"there is no run {run_id!r}", help="jobrunner history lists the runs")
    if len(found) > 1:
        raise AmbiguousRun(
            f"the run id {run_id!r} fits more than one run", help="give more of its characters"
        )
    return house.rows[house.ids[found[0]]].run


def runs(house: House, which: RunFilter) -> list[Run]:
    """The newest runs that fit, by order of enqueue."""
    newest = (house.rows[seq].run for seq in sorted(house.rows, reverse=True))
    fitting = (run for run in newest if _fits(run, which))
    return [run for _, run in zip(range(which.limit), fitting, strict=False)]


def _fits(run: Run, which: RunFilter) -> bool:
    return (
        (which.pipeline is None or which.pipeline in (run.id, run.pipeline))
        and (which.unique is None or (run.unique == which.unique and run.state not in FINAL))
        and (not which.tasks or run.task in which.tasks)
        and (not which.states or run.state in which.states)
        and (not which.triggers or run.trigger in which.triggers)
        and (which.since is None or run.created_at >= which.since)
        and (which.until is None or run.created_at < which.until)
    )


def finished(house: House) -> list[Run]:
    """The finished runs, those first that finished first."""
    done = [row.run for row in house.rows.values() if row.run.state in FINAL]
    return sorted(done, key=finished_at)


def finished_at(run: Run) -> tuple[Micros, int]:
    return run.finished_at or 0, run.seq


def overview(house: House, now: Micros, tasks: Iterable[str], recent: int) -> Overview:
    all_runs = [row.run for row in house.rows.values()]
    counts = Counter(run.state for run in all_runs)
    return Overview(
        counts={state: min(counts[state], COUNT_LIMIT + 1) for state in State},
        oldest_queued=min((run.due_at for run in all_runs if run.state is State.QUEUED), default=None),
        day=_day(house, now - DAY),
        size=0,
        tasks=tuple(_summary([run for run in all_runs if run.task == task], task, recent) for task in tasks),
    )


def _day(house: House, since: Micros) -> DayStats:
    states = Counter(run.state for run in finished(house) if (run.finished_at or 0) >= since)
    retried = sum(any((each.ended_at or 0) >= since for each in kept) for kept in house.attempts.values())
    return DayStats(ok=states[State.SUCCEEDED], failed=states[State.FAILED], retried=retried)


def _is_open_root(run: Run) -> bool:
    return run.state is State.WAITING and run.join is not None and run.pipeline is None


def _summary(mine: Sequence[Run], task: str, recent: int) -> TaskSummary:
    done = sorted(
        (run for run in mine if run.state in FINAL and run.state is not State.SKIPPED), key=finished_at
    )
    latest = done[-max(1, recent) :]
    took = [
        run.finished_at - run.started_at
        for run in latest
        if run.state is State.SUCCEEDED and run.finished_at is not None and run.started_at is not None
    ]
    running = [run for run in mine if run.state is State.RUNNING or _is_open_root(run)]
    return TaskSummary(
        task=task,
        queued=sum(run.state is State.QUEUED for run in mine),
        running=len(running),
        waiting_retry=next((run for run in mine if run.state is State.RETRYING), None),
        current=running[0] if running else None,
        last=done[-1] if done else None,
        recent=tuple((run.state, run.failures) for run in latest) if recent else (),
        typical=round(median(took)) if took else None,
    )
