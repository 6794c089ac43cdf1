"""A slow second implementation: a clock that is watched minute by minute, and expressions with known sets."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

MINUTE = timedelta(minutes=1)
LONG_GAP = 3 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An expression together with the sets that it was written from."""

    text: str
    minutes: Set[int]
    hours: Set[int]
    days: Set[int]
    months: Set[int]
    weekdays: Set[int]
    both_days: bool
    wildcard: bool

    def matches_day(self, day: date) -> bool:
        by_date, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        either = (by_date and by_week) if self.both_days else (by_date or by_week)
        return day.month in self.months and either

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self.matches_day(wall.date())


def watched(written: Written, zone: ZoneInfo, start: datetime, stop: datetime) -> list[datetime]:
    """The ticks in (start, stop] of whole minutes UTC, by watching the local clock for two days before."""
    now, found = start - timedelta(days=2), []
    mark = _wall(now, zone)
    while now < stop:
        now += MINUTE
        wall = _wall(now, zone)
        fires = written.matches(wall) if written.wildcard else _reached(written, mark, wall)
        mark = max(mark, wall)
        if fires and now > start:
            found.append(now)
    return found


def _reached(written: Written, mark: datetime, wall: datetime) -> bool:
    """Whether a fixed time lies between the old and the new high-water mark (rule 3)."""
    left_out = (wall - mark) // MINUTE - 1
    if left_out >= LONG_GAP:
        return written.matches(wall)
    return any(written.matches(mark + step * MINUTE) for step in range(1, left_out + 2))


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


# ---- expressions ------------------------------------------------------------------------------------------


def field(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """The text of a field and the set it means."""
    everything = range(low, high + 1)
    size = len(everything)
    value = st.integers(low, high)
    star = st.just(("*", frozenset(everything)))
    stepped = st.integers(1, size).map(lambda step: (f"*/{step}", frozenset(everything[::step])))
    single = value.map(lambda number: (str(number), frozenset({number})))
    between = st.tuples(value, value, st.integers(1, size)).map(lambda parts: _range(low, size, *parts))
    listed = st.lists(single | between, min_size=2, max_size=3).map(
        lambda terms: (
            ",".join(text for text, _ in terms),
            frozenset().union(*(values for _, values in terms)),
        )
    )
    return star | stepped | single | between | listed


def _range(low: int, size: int, first: int, last: int, step: int) -> tuple[str, frozenset[int]]:
    span = (last - first) % size
    values = frozenset(low + (first - low + move) % size for move in range(0, span + 1, step))
    return f"{first}-{last}/{step}", values


@st.composite
def expressions(draw: st.DrawFn) -> Written:
    """Five random fields that some date matches."""
    minutes, hours = draw(field(0, 59)), draw(field(0, 23))
    days, months, weekdays = draw(field(1, 31)), draw(field(1, 12)), draw(field(0, 6))
    return written(minutes, hours, days, months, weekdays)


@st.composite
def daily_expressions(draw: st.DrawFn) -> Written:
    """Random times of every day, so that a short window holds some."""
    every_day = ("*", frozenset(range(1, 32)))
    every_month, every_weekday = ("*", frozenset(range(1, 13))), ("*", frozenset(range(7)))
    return written(draw(field(0, 59)), draw(field(0, 23)), every_day, every_month, every_weekday)


def written(*fields: tuple[str, frozenset[int]]) -> Written:
    (minute, minutes), (hour, hours), (day, days), (month, months), (weekday, weekdays) = fields
    return Written(
        text=f"{minute} {hour} {day} {month} {weekday}",
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=weekdays,
        both_days=day.startswith("*") or weekday.startswith("*"),
        wildcard=minute.startswith("*") or hour.startswith("*"),
    )


def has_dates(expression: Written) -> bool:
    """Whether any date of 28 years matches: every calendar there is."""
    first = date(2001, 1, 1)
    return any(expression.matches_day(first + timedelta(days=day)) for day in range(28 * 366))
