"""Schedules in words: from the validated sets for the common shapes, otherwise the text itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jobrunner.durations import SECOND, Micros, from_micros

from .cron import CronRule
from .fields import ALL_DAYS, ALL_HOURS, ALL_MINUTES, ALL_MONTHS, ALL_SECONDS, ALL_WEEKDAYS, Fields, bits
from .interval import Interval, Once
from .parse import Parts

WEEKDAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
MONTHS: Final = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WORKDAYS: Final = 0b0111110
_WEEKEND: Final = 0b1000001
_MOST_TIMES: Final = 4
_ORDINALS: Final = ("last", "first", "second", "third", "fourth", "fifth")
_UNITS: Final = ((86_400, "d", "day"), (3600, "h", "hour"), (60, "min", "minute"), (1, "s", "second"))


def describe(parts: Parts) -> str:
    """Says `02:30 every day`, `every 15 min`, `Sun 04:00`, `weekdays 04:00`, or gives the text."""
    if isinstance(parts.rule, Interval):
        words = _period(parts.rule.period)
        return f"{words}, offset {_amount(parts.rule.offset)}" if parts.rule.offset else words
    if isinstance(parts.rule, Once):
        moment = from_micros(parts.rule.instant, parts.zone.tzinfo)
        return f"once, {WEEKDAYS[moment.isoweekday() % 7]} {moment:%Y-%m-%d %H:%M}"
    if isinstance(parts.rule, CronRule):
        return _cron(parts.rule.fields) or parts.text
    return "at boot"


def clock(wall: int) -> str:
    """The time of day of a wall second, with seconds only where there are some."""
    minutes, second = divmod(wall % 86_400, 60)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{text}:{second:02d}" if second else text


def _period(period: Micros) -> str:
    for size, _, word in _UNITS:
        if period == size * SECOND:
            return f"every {word}"
    return f"every {_amount(period)}"


def _amount(duration: Micros) -> str:
    for size, unit, _ in _UNITS:
        if duration % (size * SECOND) == 0:
            return f"{duration // (size * SECOND)} {unit}"
    return f"{duration / 1000:g} ms"


def _cron(fields: Fields) -> str | None:
    """Day words and time words put together; None for a shape that has no common words."""
    days, times = _days(fields), _times(fields)
    if days is None or times is None:
        return None
    if times.startswith("every"):
        return times if days == "every day" else f"{times}, {days}"
    return f"{times} {days}" if days.startswith("every day") else f"{days} {times}"


# ---- times of day ----------------------------------------------------------------------------------------


def _times(fields: Fields) -> str | None:
    hours, minutes = bits(fields.hours), bits(fields.minutes)
    if fields.seconds != 1:
        return _every_seconds(fields)
    if len(hours) * len(minutes) <= _MOST_TIMES:
        return _join([f"{hour:02d}:{minute:02d}" for hour in hours for minute in minutes])
    if len(minutes) == 1:
        return _hours(fields, minutes[0])
    return _minutes(fields)


def _every_seconds(fields: Fields) -> str | None:
    step = _step(fields.seconds, ALL_SECONDS, 60)
    if step is None or fields.minutes != ALL_MINUTES or fields.hours != ALL_HOURS:
        return None
    return "every second" if step == 1 else f"every {step} s"


def _hours(fields: Fields, minute: int) -> str | None:
    """One minute of several hours: `every hour`, `every 2 h at :30`."""
    at = f" at :{minute:02d}" if minute else ""
    step = _step(fields.hours, ALL_HOURS, 24)
    if step is not None:
        return f"every hour{at}" if step == 1 else f"every {step} h{at}"
    span = _run(bits(fields.hours))
    return span and f"every hour from {span[0]:02d}:{minute:02d} to {span[1]:02d}:{minute:02d}"


def _minutes(fields: Fields) -> str | None:
    """Several minutes of an hour: `every 15 min`, `every 15 min from 09:00 to 17:45`."""
    step = _step(fields.minutes, ALL_MINUTES, 60)
    if step is None:
        marks = bits(fields.minutes)
        few = fields.hours == ALL_HOURS and len(marks) <= _MOST_TIMES
        return f"every hour at {_join([f':{minute:02d}' for minute in marks])}" if few else None
    words = "every minute" if step == 1 else f"every {step} min"
    if fields.hours == ALL_HOURS:
        return words
    span = _run(bits(fields.hours))
    return span and f"{words} from {span[0]:02d}:00 to {span[1]:02d}:{60 - step:02d}"


def _step(mask: int, everything: int, size: int) -> int | None:
    """The even step from 0 that makes exactly this set."""
    marks = bits(mask)
    if mask == everything:
        return 1
    step = size // len(marks)
    return step if len(marks) > 1 and marks == list(range(0, size, step)) else None


def _run(marks: Sequence[int]) -> tuple[int, int] | None:
    """First and last of an unbroken run."""
    unbroken = marks[-1] - marks[0] == len(marks) - 1
    return (marks[0], marks[-1]) if unbroken else None


# ---- days ------------------------------------------------------------------------------------------------


def _days(fields: Fields) -> str | None:
    if fields.every_day and fields.plain:
        return "every day" if fields.months == ALL_MONTHS else _in_months(fields)
    special = not fields.plain
    by_week = fields.weekdays != ALL_WEEKDAYS or bool(fields.nth)
    by_date = fields.days != ALL_DAYS
    if by_week and not by_date:
        return _nth_weekday(fields) if special else _weekdays(fields)
    if by_date and not by_week and fields.both_days:
        return _special_date(fields) if special else _dates(fields)
    return None


def _in_months(fields: Fields) -> str | None:
    months = bits(fields.months)
    return f"every day in {_join([MONTHS[month] for month in months])}" if len(months) <= 4 else None


def _weekdays(fields: Fields) -> str | None:
    if fields.months != ALL_MONTHS:
        return None
    if fields.weekdays == _WORKDAYS:
        return "weekdays"
    if fields.weekdays == _WEEKEND:
        return "weekends"
    monday_first = [day for day in (1, 2, 3, 4, 5, 6, 0) if fields.weekdays >> day & 1]
    return ", ".join(WEEKDAYS[day] for day in monday_first)


def _nth_weekday(fields: Fields) -> str | None:
    if len(fields.nth) != 1 or fields.weekdays or fields.months != ALL_MONTHS:
        return None
    ((weekday, number),) = fields.nth
    return f"{_ORDINALS[number]} {WEEKDAYS[weekday]} of the month"


def _dates(fields: Fields) -> str | None:
    days = bits(fields.days)
    if len(days) > _MOST_TIMES:
        return None
    months = bits(fields.months)
    if len(months) == 1:
        return f"{_join([str(day) for day in days])} {MONTHS[months[0]]}"
    if fields.months != ALL_MONTHS:
        return None
    return f"{'day' if len(days) == 1 else 'days'} {_join([str(day) for day in days])} of the month"


def _special_date(fields: Fields) -> str | None:
    if fields.days or fields.months != ALL_MONTHS:
        return None
    shape = (fields.before_last, fields.nearest, fields.last_workday)
    if shape == (frozenset({0}), frozenset(), False):
        return "last day of the month"
    if shape == (frozenset(), frozenset(), True):
        return "last weekday of the month"
    return None


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
