"""Steps of pipelines as the dispatcher meets them: what an attempt is given, and what grows instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from . import composition
from .composition import MAP, MAP_POOL
from .model import Claim, pool_lane, task_lane
from .plain import to_plain
from .plan import Task
from .storage import TaskRule

POOL: Final = MAP_POOL

WANT: Final[Mapping[str, int]] = {POOL: 20}  # maps that grow in one turn
INPUT_LIMIT: Final = 32 * 1024  # bytes of the variable; on stdin there is all of it

Tail = Callable[[str, int], str]  # (run id, attempt) -> the end of its captured output


def rules_of(pipelines: Iterable[str]) -> dict[str, TaskRule]:
    """The claim rules of what is no task: maps that grow, runs by the names of pipelines that unfold."""
    named = {name: TaskRule(lane=task_lane(name), pool=POOL) for name in pipelines}
    return {MAP: TaskRule(lane=pool_lane(POOL), pool=POOL), **named}


class Prepared(NamedTuple):
    """What an attempt of a run is given."""

    task: Task
    payload: str
    cause: str | None = None  # JSON of model.Cause
    env: tuple[tuple[str, str], ...] = ()


def prepared(claim: Claim, task: Task, tail: Tail) -> Prepared:
    """What this claim's attempt is given. Raises ValueError for a damaged row."""
    if claim.compose is None:
        return Prepared(task, claim.payload, claim.cause)
    ended = composition.called_for(claim)
    if ended is not None:
        cause = composition.cause_of(claim, tail(ended.run_id, ended.attempt))
        return Prepared(task, claim.payload, json.dumps(to_plain(cause)))
    call = composition.compose(claim, is_command=task.call is None)
    return Prepared(_reading(task, call.input), call.payload, claim.cause, _variables(call.input))


def _reading(task: Task, text: str | None) -> Task:
    """A command with its input on stdin, unless it has a text of its own there."""
    return task if text is None or task.stdin is not None else replace(task, stdin=text)


def _variables(text: str | None) -> tuple[tuple[str, str], ...]:
    if text is None or len(text) > INPUT_LIMIT:
        return ()
    return (("JOBRUNNER_INPUT", text),)
