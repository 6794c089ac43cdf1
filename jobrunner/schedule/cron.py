"""Nominal times of a cron expression: croniter for the next and the previous one, bit sets to count.

croniter never sees a zone, a name, a step or a wrapping range: it is fed with explicit numbers and with
wall seconds, where its answers agree with the bit sets. What it does not know or reads differently
(`LW`, `L-3`, `15W`, `5#3`, `5L`) goes by the bit sets alone.
"""

from __future__ import annotations

import platform
import threading
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from jobrunner.durations import SECOND, Micros

from .fields import (
    ALL_DAYS,
    ALL_HOURS,
    ALL_MINUTES,
    ALL_MONTHS,
    ALL_SECONDS,
    ALL_WEEKDAYS,
    Calendar,
    Fields,
    bits,
    without_impossible_days,
)
from .wall import FixedTimes, WildcardTimes
from .zone import Zone

if TYPE_CHECKING:
    from croniter import croniter

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - wall seconds: naive on purpose
_SECOND: Final = timedelta(seconds=1)
_KEPT_PER_THREAD: Final = 16_384
_ARCHITECTURE: Final = platform.architecture


class _Croniters(threading.local):
    """This thread's croniter objects: one that is shared between threads gives wrong answers."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, bool], croniter] = {}

    def get(self, text: str, day_or: bool) -> croniter:
        found = self.kept.get((text, day_or))
        if found is None:
            if len(self.kept) >= _KEPT_PER_THREAD:
                self.kept.clear()
            found = self.kept[text, day_or] = _croniter_type()(text, _EPOCH, day_or=day_or)
        return found


_croniters = _Croniters()


@cache
def _croniter_type() -> type[croniter]:
    """Imported when the first tick is asked for: most processes read schedules and never ask.

    At its import croniter asks `platform.architecture` for the size of a pointer, which it knows already;
    that starts the program `file`. Without an answer it goes by what it knows.
    """
    platform.architecture = _unanswered  # type: ignore[assignment]
    try:
        from croniter import croniter
    finally:
        platform.architecture = _ARCHITECTURE
    return croniter


def _unanswered(*_: object) -> NoReturn:
    raise RuntimeError


class CronNominal:
    """Nominal wall seconds of a plain expression, next and previous by croniter."""

    __slots__ = ("_calendar", "_day_or", "_fields", "_text")

    def __init__(self, fields: Fields, calendar: Calendar) -> None:
        self._calendar = calendar
        self._fields = fields
        self._text = ""  # spelt when the first tick is asked for
        self._day_or = False

    def after(self, wall: int) -> int | None:
        """The first nominal wall second later than `wall`; None beyond the year 9999."""
        try:
            start = _EPOCH + timedelta(seconds=wall)
            found = self._croniter().get_next(datetime, start_time=start)
        except (ValueError, OverflowError):  # croniter walks off the calendar in either way
            return self._calendar.after(wall)
        return (found - _EPOCH) // _SECOND

    def before(self, wall: int) -> int | None:
        """The last nominal wall second earlier than `wall`; None before the year 1."""
        try:
            start = _EPOCH + timedelta(seconds=wall)
            found = self._croniter().get_prev(datetime, start_time=start)
        except (ValueError, OverflowError):
            return self._calendar.before(wall)
        return (found - _EPOCH) // _SECOND

    def _croniter(self) -> croniter:
        if not self._text:
            fields = without_impossible_days(self._fields)
            self._day_or = not fields.both_days and fields.days != 0 and not fields.every_day
            self._text = _spell(fields)  # last: another thread may look at it meanwhile
        return _croniters.get(self._text, self._day_or)

    def count(self, after: int, until: int) -> int:
        """How many nominal wall seconds lie in (after, until]."""
        return self._calendar.count(after, until)


def _spell(fields: Fields) -> str:
    """The expression for croniter: explicit numbers, `*` only for a whole field, seconds last."""
    days, weekdays = fields.days, fields.weekdays
    if fields.every_day:
        days, weekdays = ALL_DAYS, ALL_WEEKDAYS
    elif days == 0:  # no month has these days: what is left is the weekdays
        days = ALL_DAYS
    parts = [
        _numbers(fields.minutes, ALL_MINUTES),
        _numbers(fields.hours, ALL_HOURS),
        _numbers(days, ALL_DAYS),
        _numbers(fields.months, ALL_MONTHS),
        _numbers(weekdays, ALL_WEEKDAYS),
    ]
    if fields.seconds != 1:
        parts.append(_numbers(fields.seconds, ALL_SECONDS))
    return " ".join(parts)


def _numbers(mask: int, everything: int) -> str:
    return "*" if mask == everything else ",".join(map(str, bits(mask)))


class _Times(Protocol):
    def next(self, at: int) -> int | None: ...
    def previous(self, at: int) -> int | None: ...
    def count(self, after: int, until: int) -> int: ...


class CronRule:
    """The ticks of a cron expression in a zone; instants in microseconds, ticks on whole seconds."""

    __slots__ = ("_times", "calendar", "fields", "zone")

    def __init__(self, fields: Fields, zone: Zone, calendar: Calendar) -> None:
        self.fields = fields
        self.zone = zone
        self.calendar = calendar
        nominal = CronNominal(fields, calendar) if fields.plain else calendar
        self._times: _Times = (WildcardTimes if fields.wildcard else FixedTimes)(zone, nominal)

    def next_us(self, after: Micros) -> Micros | None:
        """The first tick later than `after`."""
        return _micros(self._times.next(after // SECOND))

    def previous_us(self, before: Micros) -> Micros | None:
        """The last tick earlier than `before`."""
        return _micros(self._times.previous(-(-before // SECOND)))

    def count_us(self, after: Micros, until: Micros) -> int:
        """How many ticks lie in (after, until]."""
        return self._times.count(after // SECOND, until // SECOND)


def _micros(seconds: int | None) -> Micros | None:
    return None if seconds is None else seconds * SECOND
