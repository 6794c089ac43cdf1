"""The rows of one task, as `why` looks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from jobrunner.durations import MINUTE, Micros
from jobrunner.errors import NotFound
from jobrunner.model import Run, State, Trigger
from jobrunner.storage import RunFilter, Storage

PAGE = 1_000  # rows of one read
MOST_PAGES = 200
MOVING = (State.RUNNING, State.QUEUED, State.RETRYING, State.SCHEDULED, State.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a storage knows of a task, whether its file still names it or not."""

    storage: Storage
    task: str

    def latest(self) -> Run | None:
        """What has not ended yet, the oldest of it; else the newest row."""
        live = self.storage.runs(RunFilter(tasks=(self.task,), states=MOVING))
        newest = live or self.storage.runs(RunFilter(tasks=(self.task,), limit=1))
        return newest[-1] if newest else None

    def of_tick(self, run_id: str, tick: Micros) -> Run | None:
        """The row of a tick: its own, whose id follows from it, or the one of its gap."""
        try:
            return self.storage.run(run_id)
        except NotFound:
            return next((row for row in self._after(tick) if is_of(row, tick)), None)

    def at(self, moment: Micros) -> Run | None:
        """A row of this minute, whatever schedule or hand it came from: of a tick, or else enqueued then."""
        rows = list(self._after(moment))
        of_ticks = (row for row in rows if row.tick is not None and _is_in_minute(row.tick, moment))
        by_hand = (row for row in rows if row.tick is None and _is_in_minute(row.created_at, moment))
        folds = (row for row in rows if is_of(row, moment))
        return next((row for found in (of_ticks, folds, by_hand) for row in found), None)

    def caught_up_for(self, run: Run) -> Run | None:
        """The run that stands for a missed tick, and others: it was written with the row of that one."""
        which = RunFilter(triggers=(Trigger.CATCH_UP.value,), since=run.created_at, until=run.created_at + 1)
        same = (row for row in self._pages(which) if row.schedule == run.schedule)
        return next((row for row in same if row.missed > 1 and (row.tick or 0) > (run.tick or 0)), None)

    def in_place_of(self, run: Run) -> Run | None:
        """The first newer run that was there when this one was superseded."""
        which = RunFilter(since=run.created_at, until=(run.finished_at or 0) + 1)
        newer = [row for row in self._pages(which) if row.seq > run.seq]
        return newer[-1] if newer else None

    def _after(self, moment: Micros) -> Iterator[Run]:
        """The rows among which that of a tick is: written soon after it, or when its gap was over."""
        yield from self._pages(RunFilter(since=moment, until=moment + 2 * MINUTE))
        yield from self._pages(RunFilter(states=(State.SKIPPED,), since=moment))
        yield from self._pages(RunFilter(triggers=(Trigger.CATCH_UP.value,), since=moment))

    def _pages(self, which: RunFilter) -> Iterator[Run]:
        """All rows that fit, newest first."""
        which = which._replace(tasks=(self.task,), limit=PAGE)
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            page = self.storage.runs(which)
            found = [row for row in page if row.id not in seen]
            yield from found
            if len(page) < PAGE or not found:
                return
            seen.update(row.id for row in found)
            which = which._replace(until=page[-1].created_at + 1)


def is_of(row: Run, tick: Micros) -> bool:
    """Whether this row accounts for this tick: it is its own, or one of several that it stands for."""
    detail = json.loads(row.detail) if row.detail else {}
    return row.tick == tick or ("count" in detail and detail["from"] <= tick <= detail["to"])


def _is_in_minute(instant: Micros, moment: Micros) -> bool:
    return moment <= instant < moment + MINUTE
