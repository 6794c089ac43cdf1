"""Ticks of a gap in a part of which the task was paused: a pause holds what falls into it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .durations import Micros
from .model import Reason
from .policy import Decision, Due, Gap, TickPolicy, Ticks, due_ticks


class Break(NamedTuple):
    """From `since` until just before `until`; None: it lasts."""

    since: Micros
    until: Micros | None

    def holds(self, tick: Micros) -> bool:
        return self.since <= tick and (self.until is None or tick < self.until)


def are_over(breaks: Sequence[Break], moment: Micros) -> bool:
    """Whether nothing after this moment falls into one of them."""
    return all(each.until is not None and each.until <= moment for each in breaks)


def due_between_breaks(
    schedule: Ticks,
    watermark: Micros,
    now: Micros,
    policy: TickPolicy,
    because: Reason,
    breaks: Sequence[Break],
) -> list[Due]:
    """As `due_ticks`; a tick inside a break is final as skipped, whenever one comes to it (semantics 10).

    While a break lasts nothing is caught up: what was missed before it is only recorded.
    """
    parts = list(_parts(watermark, now, breaks))
    held = [(after, until) for after, until in parts if _is_held(until, breaks)]
    if not held or policy.refused is not None:
        return due_ticks(schedule, watermark, now, policy, because)
    free = [part for part in parts if part not in held]
    rows: list[Due] = []
    if not _is_held(now, breaks):
        found = due_ticks(_Outside(schedule, held), watermark, now, policy, because)
        rows = [each for each in found if each.decision is not Decision.SKIP]
    first = min((each.tick for each in rows), default=now + 1)
    for chosen, reason in ((held, Reason.PAUSED), (free, because)):
        for after, until in chosen:
            end = until + 1 if reason is Reason.PAUSED else min(until + 1, first)
            rows += Gap(schedule, after, until, until, reason).skipped(end)
    return sorted(rows, key=lambda each: each.tick)


def _parts(watermark: Micros, now: Micros, breaks: Sequence[Break]) -> Iterator[tuple[Micros, Micros]]:
    """The time in (watermark, now], cut where a break begins or ends: (after, until]."""
    cuts = {each.since - 1 for each in breaks} | {each.until - 1 for each in breaks if each.until is not None}
    before = watermark
    for cut in sorted(cut for cut in cuts if watermark < cut < now):
        yield before, cut
        before = cut
    if before < now:
        yield before, now


def _is_held(moment: Micros, breaks: Sequence[Break]) -> bool:
    return any(each.holds(moment) for each in breaks)


class _Outside:
    """A schedule without its ticks in these parts of the time, which do not overlap."""

    def __init__(self, schedule: Ticks, held: Sequence[tuple[Micros, Micros]]) -> None:
        self._schedule = schedule
        self._held = held

    def next_us(self, after: Micros) -> Micros | None:
        tick = self._schedule.next_us(after)
        for start, end in self._held:
            if tick is not None and start < tick <= end:
                tick = self._schedule.next_us(end)
        return tick

    def previous_us(self, before: Micros) -> Micros | None:
        tick = self._schedule.previous_us(before)
        for start, end in reversed(self._held):
            if tick is not None and start < tick <= end:
                tick = self._schedule.previous_us(start + 1)
        return tick

    def count_us(self, after: Micros, until: Micros) -> int:
        count = self._schedule.count_us(after, until)
        for start, end in self._held:
            low, high = max(after, start), min(until, end)
            if low < high:
                count -= self._schedule.count_us(low, high)
        return count
