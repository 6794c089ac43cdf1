"""What happens to runs in the storage's own writes passes no loop of the supervisor: it is looked out for.

A run that is cancelled, revoked or expires while it waits, a step that is skipped, the end of a pipeline:
each second, among the latest. Runs that wait for their rate: when an exchange has left some of them behind.
All that only while a receiver waits for such a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .composition import ANONYMOUS
from .durations import SECOND, Micros
from .hooks import Notice, Signal
from .loop import EventLoop
from .model import Ending, Reason, Run, State, Trigger
from .plan import Plan
from .service import Service
from .storage import RunFilter, Storage

LOOK: Final[Micros] = SECOND
GLANCE: Final[Micros] = SECOND // 10  # between two looks at runs that wait for their rate
MOST: Final = 200  # of the latest, in one look
_SIGNALS: Final[Mapping[State, Signal]] = {
    State.SUCCEEDED: Signal.COMPLETE,
    State.FAILED: Signal.ERROR,
    State.CANCELLED: Signal.CANCELLED,
    State.EXPIRED: Signal.EXPIRED,
    State.SKIPPED: Signal.SKIPPED,
}
_CUT_OFF: Final = frozenset({Signal.CANCELLED, Signal.REVOKED, Signal.EXPIRED})
_OF_PIPELINES: Final = frozenset({Signal.COMPLETE, Signal.ERROR, Signal.TIMEOUT})


@dataclass(slots=True)
class Ends:
    """Ends of runs that no loop has reported, each told once. Pure: runs in, notices out."""

    since: Micros
    pipelines: tuple[str, ...] = ()
    _seen: set[str] = field(default_factory=set)

    def filters(self, wanted: Collection[Signal]) -> list[RunFilter]:
        """What is to be listed for these signals."""
        found = []
        if _CUT_OFF.intersection(wanted):
            found.append(RunFilter(states=(State.CANCELLED, State.EXPIRED), limit=MOST))
        if Signal.SKIPPED in wanted:
            found.append(RunFilter(states=(State.SKIPPED,), triggers=(Trigger.PIPELINE,), limit=MOST))
        if _OF_PIPELINES.intersection(wanted):
            ends = (State.SUCCEEDED, State.FAILED)
            found.append(RunFilter(states=ends, tasks=(*self.pipelines, ANONYMOUS), limit=MOST))
        return found

    def news(self, runs: Iterable[Run]) -> list[Notice]:
        """The notices of those that are new, in the order of their ends."""
        listed = [run for run in runs if self._is_aside(run)]
        new = [run for run in listed if run.id not in self._seen]
        self._seen = {run.id for run in listed}
        return [_end_of(run) for run in sorted(new, key=lambda run: (run.finished_at or 0, run.seq))]

    def _is_aside(self, run: Run) -> bool:
        """Whether it ended since then, and in no way that a loop reports."""
        if (run.finished_at or 0) < self.since or (run.join is not None and run.pipeline is not None):
            return False
        if run.state is State.SKIPPED:
            return run.reason == Reason.UPSTREAM_FAILED.value
        return run.join is not None or run.outcome != Ending.CANCELLED.value


@dataclass(slots=True)
class HeldBack:
    """Runs that wait for the next window of their rate; each is told once for each of its attempts. Pure."""

    _seen: dict[str, set[tuple[str, int]]] = field(default_factory=dict)

    def filter(self, tasks: Iterable[str]) -> RunFilter:
        """What is to be listed when an exchange has left runs of these tasks behind."""
        return RunFilter(tasks=tuple(sorted(tasks)), states=(State.QUEUED,), limit=MOST)

    def news(self, tasks: Iterable[str], runs: Iterable[Run], at: Micros) -> list[Notice]:
        """The notices of those that are new, the one first that was enqueued first."""
        listed = list(runs)
        new = [run for run in listed if (run.id, run.attempt) not in self._seen.get(run.task, ())]
        for task in tasks:
            self._seen[task] = {(run.id, run.attempt) for run in listed if run.task == task}
        return [_held_back(run, at) for run in sorted(new, key=lambda run: run.seq)]


class Lookout:
    """Looks; where several supervisors share a storage, the oldest of them tells."""

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
        self._wanted: frozenset[str] = frozenset()
        self._ends: Ends | None = None  # None: nobody has asked yet
        self._pipelines: tuple[str, ...] = ()
        self._is_looking = False
        self._held_back = HeldBack()
        self._limited: set[str] = set()  # tasks whose runs are to be looked at
        self._is_glancing = False

    def adopt(self, plan: Plan) -> None:
        """These are the pipelines from now on."""
        self._pipelines = tuple(plan.pipelines)

    def watch(self, wanted: frozenset[str]) -> None:
        """Receivers wait for these signals from now on."""
        self._wanted = wanted
        if self._ends is None:
            self._ends = Ends(self._loop.now())
        if not self._is_looking:
            self._look()

    def left_behind(self, tasks: Iterable[str]) -> None:
        """An exchange has left runs of these tasks waiting for their rate."""
        if Signal.RATE_LIMITED in self._wanted:
            self._limited.update(tasks)
            if not self._is_glancing:
                self._glance()

    # ---- each second -----------------------------------------------------------------------------

    def _look(self) -> None:
        assert self._ends is not None
        self._ends.pipelines = self._pipelines
        which = self._ends.filters([Signal(each) for each in self._wanted])
        self._is_looking = bool(which)
        if which:
            self._service.ask(lambda: self._list(which), self._found, lambda _error: self._look_later())

    def _look_later(self) -> None:
        self._loop.after(LOOK, self._look)

    def _found(self, runs: list[Run]) -> None:
        assert self._ends is not None
        self._tell(self._ends.news(runs))
        self._look_later()

    # ---- rates -----------------------------------------------------------------------------------

    def _glance(self) -> None:
        tasks, self._limited = self._limited, set()
        self._is_glancing = bool(tasks)
        if not tasks:
            return
        which = self._held_back.filter(tasks)

        def found(runs: list[Run]) -> None:
            self._tell(self._held_back.news(tasks, runs, self._loop.now()))
            self._loop.after(GLANCE, self._glance)

        def failed(_error: Exception) -> None:
            self._limited |= tasks
            self._loop.after(LOOK, self._glance)

        self._service.ask(lambda: self._list([which]), found, failed)

    # ---- on the storage thread -------------------------------------------------------------------

    def _list(self, filters: Iterable[RunFilter]) -> list[Run]:
        if self._storage.lease is not None and not self._is_oldest():
            return []
        return [run for which in filters for run in self._storage.runs(which)]

    def _is_oldest(self) -> bool:
        living = [each.owner for each in self._storage.supervisors(self._loop.now()) if each.alive]
        return min(living, key=lambda owner: (owner.started_at, owner.id)).id == self._owner


def _end_of(run: Run) -> Notice:
    return Notice(
        signal=_signal(run),
        task=run.task,
        run_id=run.id,
        at=run.finished_at or 0,
        attempt=run.attempt,
        outcome=run.outcome,
        reason=run.reason,
        error=run.error,
    )


def _signal(run: Run) -> Signal:
    if run.reason == Reason.REVOKED.value:
        return Signal.REVOKED
    if run.state is State.FAILED and run.outcome == Ending.TIMEOUT.value:
        return Signal.TIMEOUT
    return _SIGNALS[run.state]


def _held_back(run: Run, at: Micros) -> Notice:
    return Notice(signal=Signal.RATE_LIMITED, task=run.task, run_id=run.id, at=at, attempt=run.attempt)
