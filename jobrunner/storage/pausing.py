"""Which of the pauses that are in force holds a task back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ..durations import Micros
from ..model import pool_lane, task_lane
from . import ClientStorage, Pause, Storage


class Pausable(Protocol):
    """A task, a pipeline, or the entry of either."""

    @property
    def name(self) -> str: ...
    @property
    def pool(self) -> str: ...


def pauses_over(pauses: Sequence[Pause], task: Pausable) -> Sequence[Pause]:
    """All pauses of this task, its pool and everybody, those that are over too."""
    if not pauses:
        return ()
    targets = (task_lane(task.name), pool_lane(task.pool), "all")
    return [each for each in pauses if each.target in targets]


def known_pauses(storage: Storage) -> list[Pause]:
    """The pauses in force, and of each target the last one that is over: it stays until the next."""
    return storage.pauses(0)


def end_pause(storage: ClientStorage, target: str, now: Micros) -> bool:
    """End a pause now; it stays known, for ticks inside it that nobody has come to yet (semantics 10)."""
    for pause in storage.pauses(now):
        if pause.target == target:
            storage.pause(pause._replace(until=max(now, pause.since)))
            return True
    return False


def pause_of(pauses: Iterable[Pause], task: Pausable, now: Micros) -> Pause | None:
    """The pause that holds this task back now: its own, its pool's, or everybody's."""
    found = {each.target: each for each in pauses if each.until is None or each.until > now}
    targets = (task_lane(task.name), pool_lane(task.pool), "all")
    return next((found[target] for target in targets if target in found), None)
