"""The sets behind a cron expression, and the calendar arithmetic that bit sets make cheap.

Wall seconds are seconds since 1970-01-01T00:00 on a local clock that knows no zone. Weekdays count from
Sunday = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

ALL_SECONDS: Final = (1 << 60) - 1
ALL_MINUTES: Final = (1 << 60) - 1
ALL_HOURS: Final = (1 << 24) - 1
ALL_DAYS: Final = (1 << 32) - 2
ALL_MONTHS: Final = (1 << 13) - 2
ALL_WEEKDAYS: Final = (1 << 7) - 1

DAY_SECONDS: Final = 86_400
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_LONGEST_MONTHS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIRST_YEAR, _LAST_YEAR = 1, 9999
_FIRST_WALL: Final = (date.min.toordinal() - _EPOCH_ORDINAL) * DAY_SECONDS
_LAST_WALL: Final = (date.max.toordinal() + 1 - _EPOCH_ORDINAL) * DAY_SECONDS - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """A validated cron expression as bit sets: bit n of `minutes` stands for minute n, and so on."""

    minutes: int
    hours: int
    days: int
    months: int
    weekdays: int
    seconds: int = 1
    before_last: frozenset[int] = frozenset()
    """Days counted back from the month's last one: `L` is 0, `L-3` is 3."""
    nearest: frozenset[int] = frozenset()
    """`15W`: the weekday (Mon to Fri) nearest to the 15th, never in another month."""
    last_workday: bool = False
    """`LW`: the month's last Mon to Fri."""
    nth: frozenset[tuple[int, int]] = frozenset()
    """`5#3` is (5, 3): the third Friday; `5L` is (5, 0): the last one."""
    both_days: bool
    """Day of month and day of week must both match; otherwise either one does."""
    wildcard: bool
    """The text of the minute or of the hour begins with `*`: the ticks follow the wall clock."""

    @property
    def plain(self) -> bool:
        """The days are two sets and nothing counted from the month's end or its weeks."""
        return not (self.before_last or self.nearest or self.last_workday or self.nth)

    @property
    def every_day(self) -> bool:
        """No date is left out by the day fields (the months may still restrict)."""
        days, weekdays = self.days == ALL_DAYS, self.weekdays == ALL_WEEKDAYS
        return (days and weekdays) if self.both_days else (days or weekdays)


def bits(mask: int) -> list[int]:
    """Lists the members of a bit set, ascending."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


class Calendar:
    """The nominal times of a `Fields` on a wall clock without zones: after, before, and how many."""

    __slots__ = ("_fields", "_masks", "_per_day", "_seconds")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._masks: dict[tuple[int, int, int], int] = {}
        self._seconds = fields.seconds.bit_count()
        self._per_day = self._seconds * fields.minutes.bit_count() * fields.hours.bit_count()

    # ---- days

    def has_dates(self) -> bool:
        """True when some date matches: exact, since a month differs only by its length and first weekday."""
        return self._fields.every_day or any(
            self._mask(month, length, first)
            for month in bits(self._fields.months)
            for length in ((28, 29) if month == 2 else (_LONGEST_MONTHS[month],))
            for first in range(7)
        )

    def _month(self, year: int, month: int) -> int:
        first = date(year, month, 1).toordinal()
        return self._mask(month, _length(year, month), first % 7)

    def _mask(self, month: int, length: int, first: int) -> int:
        """The matching days of a month of `length` days whose first day is weekday `first`."""
        if not self._fields.months >> month & 1:
            return 0
        key = (month, length, first)
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = _day_mask(self._fields, length, first)
        return mask

    def _matches_day(self, day: int) -> bool:
        when = _date(day)
        return bool(self._month(when.year, when.month) >> when.day & 1)

    def _day_from(self, day: int) -> int | None:
        """The first matching day at or after `day`."""
        if day * DAY_SECONDS > _LAST_WALL:
            return None
        when = _date(day)
        year, month, mask = when.year, when.month, self._month(when.year, when.month) >> when.day << when.day
        while not mask:
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            if year > _LAST_YEAR:
                return None
            mask = self._month(year, month)
        return _day(year, month, (mask & -mask).bit_length() - 1)

    def _day_to(self, day: int) -> int | None:
        """The last matching day at or before `day`."""
        if day * DAY_SECONDS < _FIRST_WALL:
            return None
        when = _date(day)
        year, month = when.year, when.month
        mask = self._month(year, month) & ((2 << when.day) - 1)
        while not mask:
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
            if year < _FIRST_YEAR:
                return None
            mask = self._month(year, month)
        return _day(year, month, mask.bit_length() - 1)

    def _days_between(self, first: int, last: int) -> int:
        """How many days in [first, last) match, a month at a time."""
        count, when, end = 0, _date(first), _date(last)
        year, month = when.year, when.month
        while (year, month) <= (end.year, end.month):
            mask = self._month(year, month)
            if (year, month) == (when.year, when.month):
                mask = mask >> when.day << when.day
            if (year, month) == (end.year, end.month):
                mask &= (1 << end.day) - 1
            count += mask.bit_count()
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return count

    # ---- times

    def after(self, wall: int) -> int | None:
        """The first nominal wall second later than `wall`; None beyond the year 9999."""
        if wall >= _LAST_WALL:
            return None
        day, second = divmod(max(wall + 1, _FIRST_WALL), DAY_SECONDS)
        if self._matches_day(day):
            found = self._time_from(second)
            if found is not None:
                return day * DAY_SECONDS + found
        following = self._day_from(day + 1)
        first = self._time_from(0)
        return None if following is None or first is None else following * DAY_SECONDS + first

    def before(self, wall: int) -> int | None:
        """The last nominal wall second earlier than `wall`; None before the year 1."""
        if wall <= _FIRST_WALL:
            return None
        day, second = divmod(min(wall - 1, _LAST_WALL), DAY_SECONDS)
        if self._matches_day(day):
            found = self._time_to(second)
            if found is not None:
                return day * DAY_SECONDS + found
        preceding = self._day_to(day - 1)
        last = self._time_to(DAY_SECONDS - 1)
        return None if preceding is None or last is None else preceding * DAY_SECONDS + last

    def count(self, after: int, until: int) -> int:
        """How many nominal wall seconds lie in (after, until], without visiting them."""
        if until <= after:
            return 0
        first, last = after // DAY_SECONDS, until // DAY_SECONDS
        whole = self._per_day * self._days_between(first, last)
        return whole + self._in_day(last, until % DAY_SECONDS) - self._in_day(first, after % DAY_SECONDS)

    def _in_day(self, day: int, second: int) -> int:
        """How many nominal times of this day lie at or before its second `second`."""
        if not self._matches_day(day):
            return 0
        fields, (hour, rest) = self._fields, divmod(second, 3600)
        minute, second = divmod(rest, 60)
        hours = _below(fields.hours, hour) * fields.minutes.bit_count() * self._seconds
        if not fields.hours >> hour & 1:
            return hours
        minutes = _below(fields.minutes, minute) * self._seconds
        if not fields.minutes >> minute & 1:
            return hours + minutes
        return hours + minutes + _below(fields.seconds, second + 1)

    def _time_from(self, second: int) -> int | None:
        """The first time of day, in seconds, at or after `second`."""
        fields, (hour, rest) = self._fields, divmod(second, 3600)
        minute, second = divmod(rest, 60)
        if fields.hours >> hour & 1:
            if fields.minutes >> minute & 1 and fields.seconds >> second:
                return hour * 3600 + minute * 60 + _lowest(fields.seconds, second)
            if fields.minutes >> minute + 1:
                return hour * 3600 + _lowest(fields.minutes, minute + 1) * 60 + _lowest(fields.seconds, 0)
        if not fields.hours >> hour + 1:
            return None
        hour = _lowest(fields.hours, hour + 1)
        return hour * 3600 + _lowest(fields.minutes, 0) * 60 + _lowest(fields.seconds, 0)

    def _time_to(self, second: int) -> int | None:
        """The last time of day, in seconds, at or before `second`."""
        fields, (hour, rest) = self._fields, divmod(second, 3600)
        minute, second = divmod(rest, 60)
        if fields.hours >> hour & 1:
            if fields.minutes >> minute & 1 and _below(fields.seconds, second + 1):
                return hour * 3600 + minute * 60 + _highest(fields.seconds, second + 1)
            if _below(fields.minutes, minute):
                return hour * 3600 + _highest(fields.minutes, minute) * 60 + _highest(fields.seconds, 60)
        if not _below(fields.hours, hour):
            return None
        hour = _highest(fields.hours, hour)
        return hour * 3600 + _highest(fields.minutes, 60) * 60 + _highest(fields.seconds, 60)


def without_impossible_days(fields: Fields) -> Fields:
    """Drops days that none of the months has, which changes no date and saves a search of fifty years."""
    longest = max(_LONGEST_MONTHS[month] for month in bits(fields.months))
    return replace(fields, days=fields.days & ((2 << longest) - 1))


def _day_mask(fields: Fields, length: int, first: int) -> int:
    by_date = _dates(fields, length, first)
    by_week = _weekdays(fields, length, first)
    return by_date & by_week if fields.both_days else by_date | by_week


def _dates(fields: Fields, length: int, first: int) -> int:
    mask = fields.days & ((2 << length) - 1)
    for back in fields.before_last:
        if back < length:
            mask |= 1 << length - back
    for day in fields.nearest:
        mask |= 1 << _nearest_workday(min(day, length), length, first)
    if fields.last_workday:
        mask |= 1 << _nearest_workday(length, length, first)
    return mask


def _nearest_workday(day: int, length: int, first: int) -> int:
    weekday = (first + day - 1) % 7
    if weekday == 6:  # Saturday: the day before, unless that is another month
        return day - 1 if day > 1 else day + 2
    if weekday == 0:  # Sunday: the day after, unless that is another month
        return day + 1 if day < length else day - 2
    return day


def _weekdays(fields: Fields, length: int, first: int) -> int:
    mask = 0
    for weekday in bits(fields.weekdays):
        mask |= sum(1 << day for day in _days_of(weekday, length, first))
    for weekday, number in fields.nth:
        days = _days_of(weekday, length, first)
        if number <= len(days):
            mask |= 1 << days[number - 1]  # number 0 is the last one
    return mask


def _days_of(weekday: int, length: int, first: int) -> range:
    return range(1 + (weekday - first) % 7, length + 1, 7)


def _length(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 28 if month == 2 and not leap else _LONGEST_MONTHS[month]


def _date(day: int) -> date:
    return date.fromordinal(day + _EPOCH_ORDINAL)


def _day(year: int, month: int, day: int) -> int:
    return date(year, month, day).toordinal() - _EPOCH_ORDINAL


def _below(mask: int, bit: int) -> int:
    """How many members are smaller than `bit`."""
    return (mask & ((1 << bit) - 1)).bit_count()


def _lowest(mask: int, bit: int) -> int:
    """The smallest member that is at least `bit`; there is one."""
    mask = mask >> bit << bit
    return (mask & -mask).bit_length() - 1


def _highest(mask: int, bit: int) -> int:
    """The largest member that is smaller than `bit`; there is one."""
    return (mask & ((1 << bit) - 1)).bit_length() - 1
