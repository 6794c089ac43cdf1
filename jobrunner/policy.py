"""What a schedule's due ticks become: run, run late, or a row that says why not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import NamedTuple, Protocol

from .durations import SECOND, Micros
from .model import Reason
from .plan import CatchUp

LATE: Micros = 60 * SECOND  # up to here late is just late; beyond it is a miss (semantics 5)
FOLD_ABOVE = 10  # more misses than this in a gap are one row (semantics 10)


class Ticks(Protocol):
    """What this module asks of a schedule; instants are microseconds, UTC."""

    def next_us(self, after: Micros) -> Micros | None: ...
    def previous_us(self, before: Micros) -> Micros | None: ...
    def count_us(self, after: Micros, until: Micros) -> int: ...


class Decision(Enum):
    """What happens to a tick."""

    RUN = "run"
    CATCH_UP = "catch up"
    SKIP = "skip"


class Due(NamedTuple):
    """One row to be written: a tick, or a fold of several ticks that ends at `tick`."""

    tick: Micros
    decision: Decision
    reason: Reason | None = None
    missed: int = 0  # CATCH_UP: the ticks it stands for, itself included
    first: Micros | None = None  # a fold: its first tick
    size: int = 1  # how many ticks it stands for

    @property
    def detail(self) -> dict[str, object]:
        """What a fold says of itself."""
        if self.first is None:
            return {}
        return {"from": self.first, "to": self.tick, "count": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class TickPolicy:
    """The keys of a task that decide about its ticks."""

    catch_up: CatchUp = CatchUp.ONE
    window: Micros = 24 * 3600 * SECOND
    limit: int = 100  # of CatchUp.ALL: the latest so many
    side_by_side: bool = False  # overlap is allowed: its runs are never in one another's way
    refused: Reason | None = None  # paused, disabled or blocked: no tick runs, each has its row


class Gap(NamedTuple):
    """Ticks that nobody has accounted for in time: those in (watermark, now]."""

    schedule: Ticks
    watermark: Micros
    last: Micros  # the latest of them
    now: Micros
    because: Reason

    def runs(self, after: Micros) -> list[Due]:
        """Its ticks after this moment, each run."""
        return [Due(tick, Decision.RUN) for tick in self.ticks(after)]

    def ticks(self, after: Micros) -> Iterator[Micros]:
        """Its ticks after this moment, oldest first."""
        tick = self.schedule.next_us(max(self.watermark, after))
        while tick is not None and tick <= self.now:
            yield tick
            tick = self.schedule.next_us(tick)

    def skipped(self, before: Micros) -> list[Due]:
        """The rows of its ticks before this moment, none of which runs; more than ten are one row."""
        last = self.schedule.previous_us(before)
        if last is None or last <= self.watermark:
            return []
        count = self.schedule.count_us(self.watermark, last)
        ticks = self.ticks(self.watermark)
        if count > FOLD_ABOVE:
            return [Due(last, Decision.SKIP, self.because, first=next(ticks, last), size=count)]
        return [Due(tick, Decision.SKIP, self.because) for tick in islice(ticks, count)]


def is_in_time(tick: Micros, following: Micros | None, now: Micros) -> bool:
    """Whether this tick is due, at most just late, and the only one: it runs, whatever the policy."""
    return now - LATE <= tick <= now and (following is None or following > now)


def due_ticks(
    schedule: Ticks, watermark: Micros, now: Micros, policy: TickPolicy, missed_because: Reason
) -> list[Due]:
    """The rows for all ticks in (watermark, now], oldest first: together they account for each exactly once.

    A tick that is at most LATE runs as if it were in time. Several of a task that allows no overlap are a
    gap: they would stand in one another's way, and none of them did at its own moment (semantics 5).
    The work does not grow with the length of a gap: misses are counted, not looped over (semantics 6).
    """
    first, last = schedule.next_us(watermark), schedule.previous_us(now + 1)
    if first is None or last is None or first > now:
        return []
    gap = Gap(schedule, watermark, last, now, policy.refused or missed_because)
    if policy.refused is not None:
        return gap.skipped(now + 1)
    if first >= now - LATE and (first == last or policy.side_by_side):
        return gap.runs(watermark)
    return _DECIDED[policy.catch_up](gap, policy)


def _not_caught_up(gap: Gap, policy: TickPolicy) -> list[Due]:
    """The misses are recorded; of what is only late at the end, as much runs as may (semantics 5 and 9)."""
    begin = gap.now - LATE
    if not policy.side_by_side:
        begin = max(begin, gap.last)
    return [*gap.skipped(begin), *gap.runs(begin - 1)]


def _caught_up(gap: Gap, policy: TickPolicy) -> list[Due]:
    """The latest tick runs for all of them, were it only just late (semantics 9).

    Were the just late ticks behind a miss to run as well, the catch-up run would stand in their way.
    """
    if gap.last < _oldest(gap.now, policy):
        return gap.skipped(gap.now + 1)
    count = gap.schedule.count_us(gap.watermark, gap.now)
    return [*gap.skipped(gap.last), Due(gap.last, Decision.CATCH_UP, gap.because, missed=count)]


def _all_caught_up(gap: Gap, policy: TickPolicy) -> list[Due]:
    """Each tick runs, the latest `limit` of those inside the window (semantics 9).

    Those that are only just late stand in the same line: a run in time would not wait for the ones before it.
    """
    begin = _first_of_all(gap, policy)
    runs = [Due(tick, Decision.CATCH_UP, gap.because, missed=1) for tick in gap.ticks(begin - 1)]
    return [*gap.skipped(begin), *runs]


def _first_of_all(gap: Gap, policy: TickPolicy) -> Micros:
    """The first of the ticks that are run; a moment after them all, when none is."""
    oldest = max(gap.watermark + 1, _oldest(gap.now, policy))
    first, running = gap.now + 1, 0
    tick: Micros | None = gap.last
    while tick is not None and tick >= oldest and running < policy.limit:
        first, running = tick, running + 1
        tick = gap.schedule.previous_us(tick)
    return first


def _oldest(now: Micros, policy: TickPolicy) -> Micros:
    """The oldest tick that is caught up; the window never cuts what is only late."""
    return now - max(policy.window, LATE)


_DECIDED: Mapping[CatchUp, Callable[[Gap, TickPolicy], list[Due]]] = {
    CatchUp.NONE: _not_caught_up,
    CatchUp.ONE: _caught_up,
    CatchUp.ALL: _all_caught_up,
}
