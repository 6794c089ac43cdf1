"""The end of a supervisor: asked for by a signal, by a second one, or by itself when its work is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .dispatcher import Dispatcher
from .durations import SECOND, Micros
from .events import Emit, Hurrying, Stopping
from .herald import Herald
from .janitor import Janitor
from .listener import Listener
from .loop import EventLoop, LoopTimer
from .model import Ending, State
from .plan import Plan
from .pools import Pools
from .scheduler import Scheduler
from .service import Service
from .storage import RunFilter, Storage
from .ticking import SPREAD
from .until import Until

LAST_GRACE: Micros = 3 * SECOND // 2  # after the last KILL, for its completions to be written
LAST_WORD = 0.3  # seconds, for a storage that still hangs at a forced end: nobody waits for it then
ONE_WISH: Micros = SECOND // 4  # `timeout` and service managers signal a process and then its group as well
TELLING: Micros = 10 * SECOND  # at an orderly end, for notifications to be delivered; the rest is told later
HURRY: Micros = SECOND  # TERM to KILL after a second signal: the whole end takes at most 2 s (semantics 29)
PARTING: Micros = 6 * SECOND  # at an orderly end, for workers to leave: they take five at most
ASK_PAUSE: Micros = SECOND  # before a storage that did not answer is asked again whether work is left


class Crew(NamedTuple):
    """Everything that has to come to its end."""

    scheduler: Scheduler
    dispatcher: Dispatcher
    janitor: Janitor
    herald: Herald
    listener: Listener
    pools: Pools
    service: Service
    storage: Storage


class Stop:
    """Stops claiming and scheduling at once, waits, insists, and at last ends the loop (semantics 29)."""

    def __init__(self, *, loop: EventLoop, emit: Emit, plan: Callable[[], Plan], until: Until) -> None:
        self._loop = loop
        self._emit = emit
        self._plan = plan
        self.until = until
        self._crew: Crew | None = None
        self._asked_at: Micros | None = None
        self.is_hurried = False
        self._deadline: LoopTimer | None = None
        self.is_asked = False
        self.is_forced = False  # the end came before everything was written
        self.stuck = 0  # runs that nobody here can claim

    def serve(self, crew: Crew) -> None:
        """From now on there is something that has to end in order."""
        self._crew = crew

    # --- signals ------------------------------------------------------------------------------------

    def on_signal(self) -> None:
        """A first signal stops, a second one hurries; those of one instant are one wish."""
        now = self._loop.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self._stop()
        elif not self.is_hurried and now - self._asked_at >= ONE_WISH:
            self.is_hurried = True
            self._hurry()

    def _stop(self) -> None:
        self.is_asked = True
        if self._crew is None:
            self._loop.stop()
            return
        self._crew.scheduler.stop()
        self._crew.dispatcher.stop_claiming()
        self._crew.pools.recall()
        patience = self._plan().shutdown_timeout
        self._emit(Stopping(self._crew.dispatcher.running, patience))
        self._crew.janitor.report()
        self._deadline = self._loop.after(patience, self._interrupt)
        if self._crew.dispatcher.is_settled and not self._crew.dispatcher.running:
            self._finish(stuck=0)

    def _interrupt(self) -> None:
        if self._crew is None:
            return
        self._crew.dispatcher.end_all(Ending.INTERRUPTED)
        longest = max((task.kill_after for task in self._plan().tasks.values()), default=0)
        self._deadline = self._loop.after(longest + LAST_GRACE, self.force)

    def _hurry(self) -> None:
        """A second signal: TERM now, KILL a second later."""
        if self._crew is None:
            return
        self._emit(Hurrying(self._crew.dispatcher.running))
        if self._deadline is not None:
            self._deadline.cancel()
        self._crew.dispatcher.end_all(Ending.INTERRUPTED, grace=HURRY)
        self._deadline = self._loop.after(HURRY + HURRY // 2, self.force)

    def force(self) -> None:
        """The end of patience: what is not written now is recovered at the next start."""
        self.is_forced = True
        if self._crew is not None:
            self._crew.service.patience = LAST_WORD
        self._loop.stop()

    # --- after the last turn ------------------------------------------------------------------------

    def part(self) -> None:
        """Workers leave in order: what their modules do at the end of a process is done; then all is told."""
        if self._crew is None:
            return
        self._crew.pools.part()
        end = self._loop.monotonic() + PARTING
        while self._crew.pools.workers() and self._is_patient and (rest := end - self._loop.monotonic()) > 0:
            self._loop.turn(rest)
        if self._is_patient:
            self._crew.listener.finish()

    @property
    def _is_patient(self) -> bool:
        return not (self.is_hurried or self.is_forced)

    # --- by itself ----------------------------------------------------------------------------------

    def quiet(self) -> None:
        """Nothing runs and everything is written: the moment to end, if the end is asked for."""
        if self._crew is None:
            return
        if self.is_asked:
            self._finish(stuck=0)
        elif self.until is not Until.SIGNAL and self._is_quiet(self._crew):
            crew = self._crew
            crew.service.ask(lambda: self._work_left(crew.storage), self._maybe_finish, self._ask_later)

    def _is_quiet(self, crew: Crew) -> bool:
        return crew.dispatcher.is_idle and crew.scheduler.is_quiet

    def _ask_later(self, _error: Exception) -> None:
        """Whether work is left is asked again in the quiet after another turn."""
        if self._crew is not None:
            self._loop.after(ASK_PAUSE, self._crew.dispatcher.wake)

    def _work_left(self, storage: Storage) -> tuple[bool, int]:
        """Whether a run is still to come, and how many wait that nobody here can claim."""
        soon = self._loop.now() + SPREAD  # catch-up runs are spread: they are due now, all the same
        scheduled = storage.runs(RunFilter(states=(State.SCHEDULED,), limit=1000))
        coming = any(run.due_at <= soon and run.tick is not None for run in scheduled)
        if self.until is Until.DRAINED:
            coming = coming or bool(storage.runs(RunFilter(states=(State.RETRYING,), limit=1)))
        stuck = storage.runs(RunFilter(states=(State.QUEUED,), limit=1000))
        return coming, len(stuck)

    def _maybe_finish(self, left: tuple[bool, int]) -> None:
        coming, stuck = left
        if not coming and self._crew is not None and self._is_quiet(self._crew):
            self._finish(stuck)

    def _finish(self, stuck: int) -> None:
        self.stuck = stuck
        if self._crew is not None:
            self._crew.herald.wind_up(self._end, TELLING)

    def _end(self) -> None:
        """All is told; work that came meanwhile goes on, unless a signal asked for the end."""
        if self.is_asked or (self._crew is not None and self._is_quiet(self._crew)):
            self._loop.stop()
