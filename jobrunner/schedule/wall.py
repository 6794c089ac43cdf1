"""From nominal wall times to instants: the daylight saving rule of Debian's cron, over segments.

A *wildcard* expression (minute or hour begins with `*`) fires whenever the local clock shows a matching
time. Every other one is *fixed*: a matching time fires when the local clock's high-water mark reaches it.

    spring   01:59:59 -> 03:00:00   fixed 02:30 fires at 03:00; a wildcard has nothing in the gap
    autumn   01:59:59 -> 01:00:00   fixed 01:30 fires in the first pass; a wildcard in both

All numbers are seconds; `at`, `after` and `until` are instants.
"""

from __future__ import annotations

from typing import Final, Protocol

from .zone import DAY, Segment, Zone

LONG_GAP: Final = 3 * 3600
"""A gap this long or longer loses its fixed times, as in Debian's cron."""


class Nominal(Protocol):
    """The matching times of a wall clock that knows no zone."""

    def after(self, wall: int) -> int | None:
        """The first one later than `wall`."""

    def before(self, wall: int) -> int | None:
        """The last one earlier than `wall`."""

    def count(self, after: int, until: int) -> int:
        """How many there are in (after, until]."""


class WildcardTimes:
    """Fires at every instant whose wall clock matches."""

    __slots__ = ("_nominal", "_zone")

    def __init__(self, zone: Zone, nominal: Nominal) -> None:
        self._zone = zone
        self._nominal = nominal

    def next(self, at: int) -> int | None:
        """The first tick later than `at`."""
        segment = self._zone.segment_at(at + 1)
        wall = at + segment.offset
        found = self._nominal.after(wall)
        while found is not None and found >= segment.wall_end:
            segment = self._later(segment, wall, found)
            start = segment.wall_start - 1
            if not wall <= start < found:  # otherwise `found` is still the first one after `start`
                found = self._nominal.after(start)
            wall = start
        return None if found is None else found - segment.offset

    def previous(self, at: int) -> int | None:
        """The last tick earlier than `at`."""
        segment = self._zone.segment_at(at - 1)
        wall = at + segment.offset
        found = self._nominal.before(wall)
        while found is not None and found < segment.wall_start:
            segment = self._earlier(segment, wall, found)
            end = segment.wall_end
            if not found < end <= wall:
                found = self._nominal.before(end)
            wall = end
        return None if found is None else found - segment.offset

    def count(self, after: int, until: int) -> int:
        """How many ticks lie in (after, until]."""
        total, at = 0, after + 1
        while at <= until:
            segment = self._zone.segment_at(at)
            last = min(until, segment.end - 1)
            total += self._nominal.count(at - 1 + segment.offset, last + segment.offset)
            at = segment.end
        return total

    def _later(self, segment: Segment, wall: int, found: int) -> Segment:
        """The next segment worth asking; years in which nothing can match are jumped over."""
        upcoming = self._zone.following(segment)
        if upcoming.wall_start <= wall:  # a repeated stretch shows times at or before `wall` again
            return upcoming
        return self._zone.segment_at(max(segment.end, found - 2 * DAY))

    def _earlier(self, segment: Segment, wall: int, found: int) -> Segment:
        preceding = self._zone.preceding(segment)
        if preceding.wall_end > wall:
            return preceding
        return self._zone.segment_at(min(segment.start - 1, found + 2 * DAY))


class FixedTimes:
    """Fires when the local clock's high-water mark first reaches a matching time."""

    __slots__ = ("_nominal", "_zone")

    def __init__(self, zone: Zone, nominal: Nominal) -> None:
        self._zone = zone
        self._nominal = nominal

    def next(self, at: int) -> int | None:
        """The first tick later than `at`."""
        wall = self._nominal.after(self._zone.high_water(at))
        while wall is not None:
            segment = self._zone.reaching(wall)
            tick = arrival(self._zone, segment, wall)
            if tick is not None:
                return tick
            wall = self._nominal.after(segment.wall_start - 1)
        return None

    def previous(self, at: int) -> int | None:
        """The last tick earlier than `at`."""
        wall = self._nominal.before(self._zone.high_water(at - 1) + 1)
        while wall is not None:
            segment = self._zone.reaching(wall)
            tick = arrival(self._zone, segment, wall)
            if tick is not None:
                return tick
            wall = self._nominal.before(self._zone.preceding(segment).wall_end)
        return None

    def count(self, after: int, until: int) -> int:
        """How many ticks lie in (after, until]."""
        if until <= after:
            return 0
        total = self._nominal.count(self._zone.high_water(after), self._zone.high_water(until))
        return total - sum(self._swallowed(start) for start in self._zone.changes(after, until))

    def _swallowed(self, segment: Segment) -> int:
        """How many ticks fewer than nominal times there are because of the gap before this segment."""
        gap = self._zone.gap_before(segment)
        if gap <= 0:
            return 0
        shown = self._zone.high_water(segment.start - 1)
        if gap >= LONG_GAP:
            return self._nominal.count(shown, segment.wall_start - 1)
        return max(0, self._nominal.count(shown, segment.wall_start) - 1)


def arrival(zone: Zone, segment: Segment, wall: int) -> int | None:
    """The instant at which a fixed wall time fires in the segment that reaches it; None in a long gap."""
    if wall >= segment.wall_start:
        return wall - segment.offset
    return segment.start if zone.gap_before(segment) < LONG_GAP else None
