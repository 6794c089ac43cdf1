"""Which of the pauses that are in force holds a task back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..durations import Micros
from ..model import pool_lane, task_lane
from . import Pause


class Pausable(Protocol):
    """A task, a pipeline, or the entry of either."""

    @property
    def name(self) -> str: ...
    @property
    def pool(self) -> str: ...


def pause_of(pauses: Iterable[Pause], task: Pausable, now: Micros) -> Pause | None:
    """The pause that holds this task back now: its own, its pool's, or everybody's."""
    found = {each.target: each for each in pauses if each.until is None or each.until > now}
    targets = (task_lane(task.name), pool_lane(task.pool), "all")
    return next((found[target] for target in targets if target in found), None)
