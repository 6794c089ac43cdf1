"""What stands in the way of a task's next tick, and what becomes of both (semantics 8): pure rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..durations import Micros
from ..model import Condition, Edge, NewRun, State, Trigger
from . import Tick

IN_THE_WAY = frozenset({State.QUEUED, State.RUNNING, State.RETRYING})


class Standing(NamedTuple):
    """A run of the tick's task that is not final."""

    id: str
    state: State
    trigger: str
    tick: Micros | None
    due_at: Micros
    is_root: bool  # of a pipeline
    is_behind: bool  # it waits (a root: one of its steps does) for another run to end


def is_in_the_way(run: Standing, now: Micros) -> bool:
    """A run by hand dated for later is not; a tick's run that waits out its jitter is."""
    if run.state is State.WAITING:
        return run.is_root and not run.is_behind and (run.tick is not None or run.due_at <= now)
    return run.state in IN_THE_WAY or (run.state is State.SCHEDULED and run.tick is not None)


def is_superseded(run: Standing) -> bool:
    """Whether it is an earlier tick that still waits for what is in the way: a newer one takes its place."""
    return run.state is State.WAITING and run.is_behind and run.trigger == Trigger.SCHEDULE


def naming(refused: NewRun, holder: str) -> NewRun:
    """The skipped row, with the run that stood in its way."""
    detail = json.loads(refused.detail) if refused.detail else {}
    return refused._replace(detail=json.dumps({**detail, "holder": holder}))


def behind(tick: Tick, holders: Iterable[str]) -> list[NewRun]:
    """The tick's runs, waiting until all of these have ended."""
    edges = tuple(Edge(holder, Condition.FINAL.value) for holder in holders)
    runs: Sequence[NewRun] = () if tick.run is None else (tick.run, *tick.members)
    return [_behind(run, edges) if edges else run for run in runs]


def _behind(run: NewRun, edges: tuple[Edge, ...]) -> NewRun:
    if run.after or run.join is not None or run.state.is_final:
        return run
    return run._replace(state=State.WAITING, after=edges)
