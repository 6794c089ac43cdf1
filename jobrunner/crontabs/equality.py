"""A year under cron's rules beside a year under the new file: the differences, tick by tick.

Cron's side is a model of its own, of the minute loop in Debian's `cron.c`; it shares nothing with
`jobrunner.schedule`. The loop counts minutes of the local clock and
remembers the latest one that it has seen:

    one minute on         both kinds
    2 to 5 minutes on     each minute, both kinds
    6 to 180 minutes on   wildcard: this minute; fixed: each minute that was passed
    up to 180 back        wildcard only, until the latest minute is reached again
    anything else         this minute, both kinds
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

from ..durations import MINUTE, Micros, from_micros
from ..plan import Plan
from ..schedule import Schedule
from ..schedule.zone import zone_of
from .fields import Sets
from .translate import ImportedTask
from .when import day_matches

YEAR: Final[Micros] = 366 * 1440 * MINUTE
_FEW: Final = (
    12_000  # ticks a year that are compared one by one everywhere; more: around changes of the clocks
)
_HOUR: Final = 60
_NEAR: Final = 2 * 1440  # minutes around a change of the clocks
_LOOK: Final = 15  # minutes between two looks at the offset of a zone
_SOON: Final = 5  # minutes
_LONG: Final = 180
_EPOCH: Final = date(1970, 1, 1).toordinal()
_DAY: Final = 1440


class Stretch(NamedTuple):
    """Minutes since 1970 (UTC) from `start` up to `end`; the local clock is `offset` minutes ahead."""

    start: int
    end: int
    offset: int


class Start(NamedTuple):
    """A minute in which one of the two starts a command more often than the other."""

    minute: int
    cron: int
    jobrunner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a year showed of one task."""

    task: str
    timezone: str
    after: Micros
    until: Micros
    cron: int
    jobrunner: int
    differences: tuple[Start, ...] = ()
    changes: tuple[int, ...] = ()
    """Minutes in which the clocks of the zone change."""

    @property
    def at_changes(self) -> bool:
        """Whether every difference lies at a change of the clocks."""
        return all(any(abs(each.minute - at) <= _LONG for at in self.changes) for each in self.differences)


def compare(
    task: str, sets: Sets | None, schedules: Sequence[Schedule], zone: tzinfo, after: Micros
) -> Comparison:
    """Compares the year after the minute of `after`. `sets` None: cron never starts it."""
    first = after // MINUTE + 1
    last = first + YEAR // MINUTE
    stretches = stretches_of(zone, first, last)
    changes = tuple(each.start for each in stretches[1:])
    cron = Counter(starts(sets, stretches)) if sets is not None else Counter[int]()
    total, differences = _compared(cron, schedules, changes, first, last)
    return Comparison(
        task=task,
        timezone=str(zone),
        after=first * MINUTE,
        until=last * MINUTE,
        cron=cron.total(),
        jobrunner=total,
        differences=tuple(differences),
        changes=changes,
    )


# ---- cron ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def stretches_of(zone: tzinfo, first: int, last: int) -> tuple[Stretch, ...]:
    """The minutes in [first, last) cut at the changes of the zone's clocks."""
    return tuple(_stretches(zone, first, last))


def _stretches(zone: tzinfo, first: int, last: int) -> Iterator[Stretch]:
    start, offset = first, _offset(zone, first)
    for minute in range(first + _LOOK, last, _LOOK):
        if _offset(zone, minute) != offset:
            change = next(m for m in range(minute - _LOOK + 1, minute + 1) if _offset(zone, m) != offset)
            yield Stretch(start, change, offset)
            start, offset = change, _offset(zone, change)
    yield Stretch(start, last, offset)


def _offset(zone: tzinfo, minute: int) -> int:
    ahead = from_micros(minute * MINUTE, zone).utcoffset()
    return 0 if ahead is None else round(ahead / timedelta(minutes=1))


def starts(sets: Sets, stretches: Sequence[Stretch]) -> Iterator[int]:
    """The minutes (UTC) in which cron starts the command; one that it starts twice comes twice."""
    seen = stretches[0].start + stretches[0].offset - 1  # the latest local minute
    for start, end, offset in stretches:
        now, last = start + offset, end + offset - 1
        ahead = now - seen
        if (ahead > _SOON and sets.wildcard) or ahead > _LONG or ahead <= -_LONG:
            seen = now - 1
        elif ahead > 1:  # minutes that were passed are started at once
            yield from (start for _ in matching(sets, seen + 1, now - 1))
            seen = now - 1
        elif ahead < 1 and sets.wildcard:
            yield from (minute - offset for minute in matching(sets, now, min(last, seen)))
        yield from (minute - offset for minute in matching(sets, seen + 1, last))
        seen = max(seen, last)


def matching(sets: Sets, first: int, last: int) -> Iterator[int]:
    """The local minutes in [first, last] that the five fields match, ascending."""
    times = [hour * 60 + minute for hour in sorted(sets.hours) for minute in sorted(sets.minutes)]
    for day in range(first // _DAY, last // _DAY + 1):
        if day_matches(sets, date.fromordinal(_EPOCH + day)):
            yield from (at for time in times if first <= (at := day * _DAY + time) <= last)


# ---- jobrunner, and both ---------------------------------------------------------------------------------


def _compared(
    cron: Counter[int], schedules: Sequence[Schedule], changes: Sequence[int], first: int, last: int
) -> tuple[int, list[Start]]:
    """How many ticks the new file has, and where the two differ."""
    total = sum(each.count_us(first * MINUTE - 1, last * MINUTE - 1) for each in schedules)
    if max(total, cron.total()) <= _FEW:
        return total, list(_differences(cron, schedules, first, last))
    windows = sorted({*_suspicious(cron, schedules, first, last), *_near(changes, first, last)})
    return total, [
        each for start in windows for each in _differences(cron, schedules, start, min(start + _HOUR, last))
    ]


def _suspicious(cron: Counter[int], schedules: Sequence[Schedule], first: int, last: int) -> Iterator[int]:
    """The hours in which the two have different numbers of ticks, by counting them."""
    by_hour: Counter[int] = Counter()
    for minute, number in cron.items():
        by_hour[(minute - first) // _HOUR] += number
    for hour, start in enumerate(range(first, last, _HOUR)):
        end = min(start + _HOUR, last)
        if sum(each.count_us(start * MINUTE - 1, end * MINUTE - 1) for each in schedules) != by_hour[hour]:
            yield start


def _near(changes: Sequence[int], first: int, last: int) -> Iterator[int]:
    """The hours around the changes of the clocks, and those of the first two days."""
    for change in (first, *changes):
        low = max(first, change - _NEAR) - first
        yield from range(first + low // _HOUR * _HOUR, min(last, change + _NEAR), _HOUR)


def _differences(cron: Counter[int], schedules: Sequence[Schedule], first: int, last: int) -> Iterator[Start]:
    ours = Counter(tick // MINUTE for each in schedules for tick in _ticks(each, first, last))
    narrow = last - first <= _HOUR
    theirs = {minute: cron[minute] for minute in (range(first, last) if narrow else cron) if cron[minute]}
    for minute in sorted(ours.keys() | theirs.keys()):
        if theirs.get(minute, 0) != ours[minute]:
            yield Start(minute, theirs.get(minute, 0), ours[minute])


def _ticks(schedule: Schedule, first: int, last: int) -> Iterator[Micros]:
    tick = schedule.next_us(first * MINUTE - 1)
    while tick is not None and tick < last * MINUTE:
        yield tick
        tick = schedule.next_us(tick)


# ---- a whole crontab -------------------------------------------------------------------------------------


def compare_all(tasks: Sequence[ImportedTask], plan: Plan, after: Micros) -> list[Comparison]:
    """One comparison for each task that has ticks, with the schedules as the new file was understood."""
    known: dict[tuple[str, str, bool], Comparison] = {}
    found = []
    for task in tasks:
        rules = plan.tasks[task.name].schedules
        if not rules or rules[0].text == "reboot" or (task.line.sets is None and task.when.runs):
            continue  # no ticks, or ticks that cron draws at random
        key = rules[0].key.partition(": ")[2], task.line.when, task.when.runs
        if key not in known:
            schedules = [Schedule.parse(rule.source, rule.timezone, name=task.name) for rule in rules]
            sets, running = (task.line.sets, schedules) if task.when.runs else (None, [])
            known[key] = compare(task.name, sets, running, zone_of(rules[0].timezone).tzinfo, after)
        found.append(replace(known[key], task=task.name, timezone=rules[0].timezone))
    return found


# ---- in words --------------------------------------------------------------------------------------------


def explain(difference: Start) -> str:
    """One difference, as a person would say it."""
    if difference.jobrunner and difference.cron > difference.jobrunner:
        return f"cron starts it {difference.cron} times at once, jobrunner once"
    if difference.cron:
        return "cron starts it, jobrunner does not"
    return "jobrunner starts it, cron does not"


def summary(comparisons: Sequence[Comparison]) -> str:
    """All of them in one sentence."""
    ticks = sum(each.cron for each in comparisons)
    number = sum(len(each.differences) for each in comparisons)
    if not number:
        return f"a year compared with cron, {ticks} ticks: no difference"
    all_at = all(each.at_changes for each in comparisons)
    where = ", all at DST" if all_at and number > 1 else ", at DST" if all_at else ""
    return f"a year compared with cron, {ticks} ticks: {number} difference{'s' * (number != 1)}{where}"


def moment_of(minute: int, zone: tzinfo) -> datetime:
    """A minute since 1970 as a moment in a zone."""
    return from_micros(minute * MINUTE, zone)
