"""Recovery at a supervisor's start, done again for runs that wait for processes which cannot be ended."""

from __future__ import annotations

from collections.abc import Callable

from . import janitor
from .catalogue import entries_of
from .durations import SECOND, Micros
from .events import Emit, Recovered
from .execution.journal import Journal
from .execution.leftovers import end_leftovers
from .loop import EventLoop
from .plan import Plan
from .service import Service
from .storage import Storage
from .trouble import Trouble

LOOK_PAUSE: Micros = 2 * SECOND  # between two looks for dead supervisors
LEFT_PAUSE: Micros = 30 * SECOND  # between two looks at runs whose processes could not be ended


class Recovery:
    """Resolves every run of dead supervisors (semantics 32)."""

    def __init__(
        self,
        *,
        storage: Storage,
        owner: str,
        plan: Plan,
        journal: Journal,
        loop: EventLoop,
        emit: Emit,
        trouble: Trouble,
        before: janitor.Before,
        after: janitor.After,
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._entries = entries_of(plan)
        self._journal = journal
        self._loop = loop
        self._emit = emit
        self._trouble = trouble
        self._before, self._after = before, after
        self._left = 0  # runs that wait for processes which cannot be ended

    def resolve(self) -> None:
        """Do it now. Raises StorageError."""
        done = self._resolved()
        if done is not None:
            self._emit(done)
            self._left = done.left

    def go_on(self, service: Service, wake: janitor.Wake) -> None:
        """Try again what was left, now and then, until all is resolved."""
        if self._left:
            self._loop.after(LEFT_PAUSE, lambda: self._again(service, wake))

    def again(self, service: Service, wake: janitor.Wake) -> None:
        """Somebody has died since: resolve what it left. Whoever found that looks again soon."""
        self._ask(service, wake, LOOK_PAUSE, lambda: None)

    def _resolved(self) -> Recovered | None:
        return janitor.recover(
            self._storage,
            self._owner,
            self._entries,
            self._loop.now(),
            end_leftovers=lambda owners: end_leftovers(self._journal, owners),
            before=self._before,
            after=self._after,
        )

    def _again(self, service: Service, wake: janitor.Wake) -> None:
        self._ask(service, wake, LEFT_PAUSE, lambda: self.go_on(service, wake))

    def _ask(self, service: Service, wake: janitor.Wake, pause: Micros, later: Callable[[], None]) -> None:
        def failed(error: Exception) -> None:
            self._trouble.met("orphans", error, pause)
            later()

        service.ask(self._resolved, lambda done: self._resolved_again(done, service, wake), failed)

    def _resolved_again(self, done: Recovered | None, service: Service, wake: janitor.Wake) -> None:
        self._trouble.over("orphans")
        if done is None:
            return
        if done.left != self._left or done.left == 0:
            self._emit(done)
        self._left = done.left
        self.go_on(service, wake)
        wake()
