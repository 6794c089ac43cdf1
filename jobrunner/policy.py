"""What a schedule's due ticks become: run, run late, or a row that says why not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
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
    def detail(self) -> Mapping[str, object] | None:
        """What a fold says of itself."""
        if self.first is None:
            return None
        return {"from": self.first, "to": self.tick, "count": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class TickPolicy:
    """The keys of a task that decide about its ticks."""

    catch_up: CatchUp = CatchUp.ONE
    window: Micros = 24 * 3600 * SECOND
    limit: int = 100  # of CatchUp.ALL: the latest so many
    refused: Reason | None = None  # paused, disabled or blocked: no tick runs, each has its row


def due_ticks(
    schedule: Ticks, watermark: Micros, now: Micros, policy: TickPolicy, missed_because: Reason
) -> list[Due]:
    """The rows for all ticks in (watermark, now], oldest first: together they account for each exactly once.

    The work does not grow with the length of a gap: misses are counted, not looped over (semantics 6).
    """
    line = max(watermark, now - LATE - 1)  # ticks after it are just late
    missed = schedule.count_us(watermark, line) if line > watermark else 0
    if not missed:
        return _in_time(schedule, watermark, now, policy)
    if policy.refused is None and policy.catch_up is CatchUp.ONE:
        return _caught_up(schedule, watermark, now, policy, missed_because)
    if policy.refused is None and policy.catch_up is CatchUp.ALL:
        return _all_caught_up(schedule, watermark, now, policy, missed_because)
    last = schedule.previous_us(line + 1) or watermark
    reason = policy.refused or missed_because
    rows = _skipped(schedule, watermark, last, missed, reason)
    return [*rows, *_in_time(schedule, last, now, policy)]


def _in_time(schedule: Ticks, watermark: Micros, now: Micros, policy: TickPolicy) -> list[Due]:
    """Ticks that are at most LATE: at most as many as LATE has room for."""
    rows: list[Due] = []
    tick = schedule.next_us(watermark)
    while tick is not None and tick <= now:
        decision = Decision.RUN if policy.refused is None else Decision.SKIP
        rows.append(Due(tick, decision, policy.refused))
        tick = schedule.next_us(tick)
    return rows


def _caught_up(
    schedule: Ticks, watermark: Micros, now: Micros, policy: TickPolicy, because: Reason
) -> list[Due]:
    """A gap up to now: its latest tick runs for all of them, were it only just late (semantics 9).

    Were the just late ticks behind a miss to run as well, the catch-up run would stand in their way.
    """
    count, last = schedule.count_us(watermark, now), schedule.previous_us(now + 1)
    if last is None:
        return []
    if last < now - policy.window:
        return _skipped(schedule, watermark, last, count, because)
    before = schedule.previous_us(last)
    earlier = _skipped(schedule, watermark, before, count - 1, because) if before is not None else []
    return [*earlier, Due(last, Decision.CATCH_UP, because, missed=count)]


def _all_caught_up(
    schedule: Ticks, watermark: Micros, now: Micros, policy: TickPolicy, because: Reason
) -> list[Due]:
    """A gap up to now: each of its ticks runs, the latest `limit` of those inside the window (semantics 9).

    Those that are only just late stand in the same line: a run in time would not wait for the ones before it.
    """
    count = schedule.count_us(watermark, now)
    first, running = _latest(schedule, watermark, now, policy)
    before = schedule.previous_us(now + 1) if first is None else schedule.previous_us(first)
    rows: list[Due] = []
    if before is not None and count > running:
        rows = _skipped(schedule, watermark, before, count - running, because)
    tick = first
    while tick is not None and tick <= now:
        rows.append(Due(tick, Decision.CATCH_UP, because, missed=1))
        tick = schedule.next_us(tick)
    return rows


def _latest(schedule: Ticks, watermark: Micros, now: Micros, policy: TickPolicy) -> tuple[Micros | None, int]:
    """The first of the ticks that are run, and how many they are."""
    oldest = max(watermark + 1, now - policy.window)
    first, running = None, 0
    tick = schedule.previous_us(now + 1)
    while tick is not None and tick >= oldest and running < policy.limit:
        first, running = tick, running + 1
        tick = schedule.previous_us(tick)
    return first, running


def _skipped(schedule: Ticks, watermark: Micros, last: Micros, count: int, reason: Reason) -> list[Due]:
    """The rows of `count` ticks after the watermark that did not run, the last of them at `last`."""
    if count > FOLD_ABOVE:
        first = schedule.next_us(watermark)
        return [Due(last, Decision.SKIP, reason, first=first, size=count)]
    rows: list[Due] = []
    tick = watermark
    for _ in range(count):
        following = schedule.next_us(tick)
        if following is None:
            break
        rows.append(Due(following, Decision.SKIP, reason))
        tick = following
    return rows
