"""How far a pipeline has come, for `why`."""

from __future__ import annotations

from collections.abc import Iterator

from jobrunner.ids import short_id
from jobrunner.model import Run, State
from jobrunner.storage import RunFilter, Storage

from .tree import MOST, in_order, progress
from .words import standing

MOST_NAMED = 5  # runs that one sentence names


def pipeline_words(storage: Storage, root: Run) -> Iterator[str]:
    """How far a pipeline has come, or how it ended."""
    rows = storage.runs(RunFilter(pipeline=root.id, limit=MOST))
    members = in_order([run for run in rows if run.id != root.id])
    done, known = progress(members)
    if root.state.is_final:
        yield f"Run {short_id(root.id)} ended: {standing(root)}; {done} of {known} steps were over."
        if root.error:
            yield f"It failed with {root.error}."
        return
    yield f"Run {short_id(root.id)} is running: {done} of {known} steps are over."
    open_steps = [run for run in members if run.join is None and run.state in _MOVING]
    if open_steps:
        yield f"Now: {_named(open_steps)}."


_MOVING = (State.RUNNING, State.QUEUED, State.RETRYING, State.SCHEDULED)


def _named(runs: list[Run]) -> str:
    told = [f"{run.task} ({short_id(run.id)}, {standing(run)})" for run in runs[:MOST_NAMED]]
    rest = len(runs) - len(told)
    return ", ".join(told) + (f" and {rest} more" if rest else "")
