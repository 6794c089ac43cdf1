"""Whether a run stands in the way of its task's next tick (semantics 8): pure rules for every storage."""

from __future__ import annotations

import json

from ..model import NewRun, State

IN_THE_WAY = frozenset({State.QUEUED, State.RUNNING, State.RETRYING})


def is_in_the_way(state: State, tick: int | None) -> bool:
    """A run by hand dated for later is not; a tick's run that waits out its jitter is."""
    return state in IN_THE_WAY or (state is State.SCHEDULED and tick is not None)


def naming(refused: NewRun, holder: str) -> NewRun:
    """The skipped row, with the run that stood in its way."""
    detail = json.loads(refused.detail) if refused.detail else {}
    return refused._replace(detail=json.dumps({**detail, "holder": holder}))
