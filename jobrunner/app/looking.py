"""The part of a JobRunner that looks at runs and intervenes: lists, counts, cancel, retry, pauses, marks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, cast

from .. import client
from ..catalogue import Entry
from ..clock import Clock
from ..durations import Micros, to_micros
from ..errors import NotFound, UsageError
from ..ids import new_id
from ..model import NewRun, Run, State
from ..storage import ClientStorage, Pause, Revocation, RunFilter
from ..storage.pausing import end_pause
from .adding import Making
from .births import Entries, pipeline_entry
from .handle import RunHandle
from .moments import instant
from .records import RunRecord

if TYPE_CHECKING:
    from .runner import JobRunner
    from .task import Task


class Looking:
    """What needs a storage and a clock, and the name of nothing but runs, tasks and pools."""

    @property
    def storage(self) -> ClientStorage:
        """The storage behind it, open."""
        raise NotImplementedError

    @property
    def clock(self) -> Clock:
        raise NotImplementedError

    def _demand_task(self, name: str) -> None:
        """Raise NotFound when nobody knows this task."""
        raise NotImplementedError

    def _entries(self, tasks: Mapping[str, Task[..., Any]], published: Entries) -> Entries:
        """What is known of tasks, by name; `tasks` are those at hand."""
        raise NotImplementedError

    def _add(self, make: Making) -> list[RunHandle[Any]]:
        raise NotImplementedError

    def _changed(self) -> None:
        """Something was cancelled."""
        raise NotImplementedError

    # ---- runs

    def run(self, run_id: str) -> RunRecord:
        """A run as it is now, by its id or a unique beginning or ending. Raises NotFound, AmbiguousRun."""
        return RunRecord(self.storage.run(run_id))

    def handle(self, run_id: str) -> RunHandle[Any]:
        """A handle on a run, by the same."""
        run = self.storage.run(run_id)
        return RunHandle(cast("JobRunner", self), run.id, run.task)

    def runs(
        self,
        *,
        state: str | Iterable[str] = (),
        task: str | Iterable[str] = (),
        trigger: str | Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> list[RunRecord]:
        """Runs, newest first: of these states, tasks and triggers, created from `since` until `until`."""
        if limit < 1:
            raise UsageError(f"limit: got {limit}, expected at least 1")
        which = RunFilter(
            tasks=_texts(task),
            states=tuple(_state(each) for each in _texts(state)),
            triggers=_texts(trigger),
            since=self._instant(since),
            until=self._instant(until),
            limit=limit,
        )
        return [RunRecord(run) for run in self.storage.runs(which)]

    def counts(self) -> dict[str, int]:
        """How many runs are in each state; exact up to 10,000, one more means more."""
        found = self.storage.overview(self.clock.now(), tasks=()).counts
        return {state.value: found.get(state, 0) for state in State}

    def cancel(self, run_id: str) -> bool:
        """End a run: at once when it is not running, else by its supervisor. False: it was final already."""
        return self._cancel_all([self.storage.run(run_id).id])[0]

    def retry(self, run_id: str) -> RunHandle[Any]:
        """Run a final run once more, with its arguments and options. UsageError: it is not final.

        A pipeline (or the one that a step belongs to) goes on from what has failed; what has succeeded
        keeps its result.
        """
        run, now = self.storage.run(run_id), self.clock.now()
        if run.pipeline is not None:
            run = self.storage.run(run.pipeline)

        def make(published: Entries) -> Sequence[NewRun]:
            entry = published(run.task)
            if run.join is not None:
                return self._retried(run, entry or pipeline_entry(), now, published)
            return [client.retry(entry, run, run_id=new_id(now), now=now)]

        return self._add(make)[0]

    def _retried(self, root: Run, entry: Entry, now: Micros, published: Entries) -> tuple[NewRun, ...]:
        from ..composition import WHOLE, retried

        again = client.retry(entry, root, run_id=new_id(now), now=now)
        rows = self.storage.runs(RunFilter(pipeline=root.id, limit=WHOLE))
        return retried(again, entry, rows, self._entries({}, published))

    # ---- pauses

    def pause(
        self,
        task: str | None = None,
        *,
        pool: str | None = None,
        until: datetime | None = None,
        reason: str = "",
    ) -> None:
        """Start no runs of a task, of a pool, or (neither is named) at all; until `until`, or `resume`.

        Enqueues wait meanwhile, and ticks are recorded as skipped. NotFound: an unknown task or pool.
        """
        target = self._target(task, pool)
        if pool is not None:
            self._demand_pool(pool)
        pause = Pause(
            target=target, since=self.clock.now(), until=self._instant(until), by=_user(), reason=reason
        )
        self.storage.pause(pause)

    def resume(self, task: str | None = None, *, pool: str | None = None) -> bool:
        """End that pause; False when there was none."""
        return end_pause(self.storage, self._target(task, pool), self.clock.now())

    def _target(self, task: str | None, pool: str | None) -> str:
        if task is not None and pool is not None:
            raise UsageError("a task or a pool, not both", help="make two calls")
        if task is not None:
            self._demand_task(task)
            return f"task:{task}"
        return "all" if pool is None else f"pool:{pool}"

    def _demand_pool(self, name: str) -> None:
        """Raise NotFound for a pool that nobody has published; before anything is, any may be meant."""
        catalogue = self.storage.catalogue()
        known = [] if catalogue is None else [pool.name for pool in catalogue.pools]
        if known and name not in known:
            help_line = client.nearest(name, known) or f"pools: {', '.join(known)}"
            raise NotFound(f"no pool {name!r}", help=help_line)

    # ---- marks

    def _revoke(self, target: str, *, once: bool = False, until: datetime | None = None) -> None:
        end, now = self._instant(until), self.clock.now()
        self.storage.revoke(Revocation(target=target, since=now, until=end, once=once, by=_user()))

    def _restore(self, target: str) -> bool:
        return self.storage.restore(target)

    def _is_revoked(self, target: str) -> bool:
        return any(each.target == target for each in self.storage.revocations(self.clock.now()))

    # ---- inside

    def _steps(self, root: str) -> list[RunRecord]:
        from ..composition import WHOLE

        found = self.storage.runs(RunFilter(pipeline=root, limit=WHOLE))
        return sorted((RunRecord(run) for run in found if run.step), key=_place_of)

    def _instant(self, moment: datetime | None) -> Micros | None:
        if moment is None:
            return None
        return to_micros(moment) if moment.tzinfo else instant(moment, self._zone())

    def _zone(self) -> tzinfo | None:
        """The zone of the published file; None, this machine's, when it is not known."""
        from zoneinfo import ZoneInfo

        catalogue = self.storage.catalogue()
        return None if catalogue is None else ZoneInfo(catalogue.timezone)

    def _cancel_all(self, run_ids: Sequence[str]) -> list[bool]:
        done = self.storage.cancel(run_ids, self.clock.now())
        self._changed()
        return done


def _texts(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        known = ", ".join(each.value for each in State)
        raise UsageError(f"there is no state {name!r}", help=f"states: {known}") from None


def _user() -> str:
    """Who asks: behind sudo, the person and not root."""
    import getpass

    for name in ("SUDO_USER", "LOGNAME", "USER"):
        if os.environ.get(name):
            return os.environ[name]
    return getpass.getuser()


def _place_of(record: RunRecord) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else 0, part) for part in (record.step or "").split(".")]
