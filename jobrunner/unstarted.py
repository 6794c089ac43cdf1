"""Runs that end without passing a loop of the supervisor: cancelled while they waited, revoked, expired.

The storage ends them in its own writes, so they are looked for: each second, among the latest that ended so,
and only while a receiver waits for such a signal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .durations import SECOND, Micros
from .hooks import Notice, Signal
from .loop import EventLoop
from .model import Reason, Run, State
from .service import Service
from .storage import RunFilter, Storage

LOOK: Final[Micros] = SECOND
MOST: Final = 200  # of the latest, in one look
SIGNALS: Final = frozenset({Signal.CANCELLED, Signal.REVOKED, Signal.EXPIRED})
_ENDS: Final = RunFilter(states=(State.CANCELLED, State.EXPIRED), limit=MOST)


class Unstarted:
    """Tells of each such run once; where several supervisors share a storage, the oldest of them tells."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        service: Service,
        storage: Storage,
        owner: str,
        tell: Callable[[list[Notice]], None],
    ) -> None:
        self._loop = loop
        self._service = service
        self._storage = storage
        self._owner = owner
        self._tell = tell
        self._since: Micros | None = None  # None: nobody has asked yet
        self._seen: set[str] = set()

    def watch(self) -> None:
        """Look from now on."""
        if self._since is None:
            self._since = self._loop.now()
            self._look()

    def _look(self) -> None:
        now = self._loop.now()
        self._service.ask(lambda: self._ended(now), self._found, lambda _error: self._look_later())

    def _look_later(self) -> None:
        self._loop.after(LOOK, self._look)

    def _ended(self, now: Micros) -> list[Run]:
        """The latest that ended so; on the storage thread."""
        if self._storage.lease is not None and not self._is_oldest(now):
            return []
        return self._storage.runs(_ENDS)

    def _is_oldest(self, now: Micros) -> bool:
        living = [each.owner for each in self._storage.supervisors(now) if each.alive]
        return min(living, key=lambda owner: (owner.started_at, owner.id)).id == self._owner

    def _found(self, runs: list[Run]) -> None:
        new = [run for run in runs if run.id not in self._seen and self._is_news(run)]
        self._seen = {run.id for run in runs}
        self._tell([_notice(run) for run in reversed(new)])
        self._look_later()

    def _is_news(self, run: Run) -> bool:
        """Whether it ended since then, and not by the end of an attempt: that is told already."""
        ended = run.finished_at or 0
        return self._since is not None and ended >= self._since and run.outcome != "cancelled"


def _notice(run: Run) -> Notice:
    return Notice(
        signal=_signal(run),
        task=run.task,
        run_id=run.id,
        at=run.finished_at or 0,
        attempt=run.attempt,
        reason=run.reason,
    )


def _signal(run: Run) -> Signal:
    if run.state is State.EXPIRED:
        return Signal.EXPIRED
    return Signal.REVOKED if run.reason == Reason.REVOKED.value else Signal.CANCELLED
