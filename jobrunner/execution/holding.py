"""What the supervisor's side of all workers shares: definitions, wishes to end a call, words of an end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..durations import MILLISECOND, SECOND, Micros
from ..model import Ended, Ending
from ..plan import Task
from .process import Death

BUDGET: Final[Micros] = 10 * MILLISECOND  # of work that may wait in a worker
KEPT: Final[Micros] = 4 * BUDGET  # of work that was promised a place when it seemed to be less
DEEPEST: Final = 512  # calls in one worker: the budget, with calls that take no time, is fewer
OVERHEAD: Final[Micros] = 20  # of a call, beside its own duration
MANY: Final = 2**62  # calls of a worker that is never replaced for their number
START_LIMIT: Final[Micros] = 60 * SECOND  # for a worker to be ready
FIND_LIMIT: Final[Micros] = 60 * SECOND  # for the import of a callable
LEAVE_LIMIT: Final[Micros] = 10 * SECOND  # for what callables have registered for the end of a process
FROM_OUTSIDE: Final = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "unknown"})  # not of its own doing


@dataclass(slots=True)
class Definition:
    """A task as this pool knows it, and how long its calls take."""

    number: int
    task: Task
    line: str
    place: int = 0  # which folder and environment its worker has, where calls share one
    mean: Micros | None = None  # moving mean of durations; None: never executed here

    def learn(self, took: Micros) -> None:
        """It at most doubles: a call may have waited for a processor, and a worker's first for its code."""
        mean = took if self.mean is None else self.mean
        self.mean = mean + min((took - mean) >> 2, mean + OVERHEAD)

    @property
    def cost(self) -> Micros:
        """What a call adds to the work that waits; what is unknown, or must wait for nothing, fills it."""
        if self.mean is None or not self.task.may_prefetch:
            return BUDGET
        return self.mean + OVERHEAD


class Force(NamedTuple):
    """The wish to end a call."""

    ending: Ending
    grace: Micros  # from TERM to KILL
    error: str | None = None


def described(text: str) -> Ended:
    """The ending that an E line describes."""
    told = json.loads(text)
    return Ended(
        Ending(told["ending"]),
        error=told.get("error"),
        exit_code=told.get("exit_code"),
        exception=told.get("exception"),
        exceptions=tuple(told.get("exceptions", ())),
        retry=told.get("retry"),
        delay=told.get("delay"),
    )


def words(death: Death) -> str:
    return f"exit {death.exit_code}" if death.signal is None else f"ended by {death.signal}"


def joined(*texts: str | None) -> str | None:
    return "\n\n".join(text for text in texts if text) or None
