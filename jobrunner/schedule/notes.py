"""What the next changes of the clocks do to a schedule, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from jobrunner.durations import SECOND, Micros, from_micros

from .cron import CronRule
from .fields import ALL_HOURS
from .interval import Once
from .parse import Parts
from .wall import LONG_GAP
from .words import WEEKDAYS, clock
from .zone import DAY, Segment, Zone

_HORIZON: Final = 400 * DAY  # every yearly change of the clocks, with room for a date that moves


@dataclass(frozen=True, slots=True, kw_only=True)
class DaylightNote:
    """One sentence on a gap or a repeated stretch that holds a time of the schedule."""

    gap: bool
    sentence: str


def daylight_notes(parts: Parts, after: Micros) -> tuple[DaylightNote, ...]:
    """The first gap and the first repeated stretch after a moment that hold a time of the schedule."""
    rule = parts.rule
    if isinstance(rule, Once) and parts.wall is not None and rule.instant > after:
        return tuple(_of_moment(parts.zone, parts.wall))
    if not isinstance(rule, CronRule):
        return ()
    if rule.fields.wildcard and rule.fields.hours == ALL_HOURS:
        return ()  # an even cadence through both changes: nothing to say
    try:
        return tuple(_first_of_each(_of_changes(rule, after // SECOND)))
    except OverflowError:  # at the end of the calendar nothing changes any more
        return ()


def _first_of_each(notes: Iterator[DaylightNote]) -> Iterator[DaylightNote]:
    seen: set[bool] = set()
    for note in notes:
        if note.gap not in seen:
            seen.add(note.gap)
            yield note


def _of_changes(rule: CronRule, after: int) -> Iterator[DaylightNote]:
    for segment in rule.zone.changes(after, after + _HORIZON):
        gap = rule.zone.gap_before(segment)
        note = _of_gap(rule, segment, gap) if gap > 0 else _of_repeat(rule, segment, -gap)
        if note is not None:
            yield note


def _of_gap(rule: CronRule, segment: Segment, gap: int) -> DaylightNote | None:
    start = segment.wall_start - gap
    count = rule.calendar.count(start - 1, segment.wall_start - 1)
    first = rule.calendar.after(start - 1)
    if count == 0 or first is None:
        return None
    many = count > 1
    what = f"{_times(first, count)} {'do' if many else 'does'} not exist"
    if rule.fields.wildcard or gap >= LONG_GAP:
        return DaylightNote(gap=True, sentence=f"{what}: {'do' if many else 'does'} not run.")
    fate = "run once, at" if many else "runs at"
    return DaylightNote(gap=True, sentence=f"{what}: {fate} {_later(first, segment.wall_start)}.")


def _of_repeat(rule: CronRule, segment: Segment, repeated: int) -> DaylightNote | None:
    start, end = segment.wall_start, segment.wall_start + repeated
    count = rule.calendar.count(start - 1, end - 1)
    first = rule.calendar.after(start - 1)
    if count == 0 or first is None:
        return None
    many = count > 1
    times = "twice" if rule.fields.wildcard else "once"
    what = f"{_times(first, count)} {'happen' if many else 'happens'} twice"
    fate = f"{'each runs' if many else 'runs'} {times}"
    return DaylightNote(gap=False, sentence=f"{what}: {fate}.")


def _of_moment(zone: Zone, wall: int) -> Iterator[DaylightNote]:
    """A one-off moment without an offset, inside a gap or a repeated stretch."""
    segment = zone.reaching(wall)
    if wall < segment.wall_start:
        sentence = f"{_date(wall)} {clock(wall)} does not exist: runs at {_later(wall, segment.wall_start)}."
        yield DaylightNote(gap=True, sentence=sentence)
    elif segment.start < zone.following(segment).start and zone.following(segment).wall_start <= wall:
        yield DaylightNote(gap=False, sentence=f"{_date(wall)} {clock(wall)} happens twice: runs once.")


def _times(first: int, count: int) -> str:
    times = f"{_date(first)} {clock(first)}"
    return times if count == 1 else f"{times} and {count - 1} more"


def _later(nominal: int, actual: int) -> str:
    same_day = nominal // DAY == actual // DAY
    return clock(actual) if same_day else f"{_date(actual)} {clock(actual)}"


def _date(wall: int) -> str:
    moment = from_micros(wall * SECOND, UTC)
    return f"{WEEKDAYS[moment.isoweekday() % 7]} {moment:%Y-%m-%d}"
