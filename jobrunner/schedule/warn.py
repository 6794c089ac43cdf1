"""What is odd about a schedule that is nevertheless accepted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from jobrunner.durations import Micros

from .cron import CronRule
from .errors import ScheduleWarning
from .fields import ALL_DAYS, ALL_WEEKDAYS, Fields, bits
from .notes import daylight_notes
from .parse import Parts
from .text import Expression
from .words import MONTHS

_ANEW_WITH: Final = {
    "second": "minute",
    "minute": "hour",
    "hour": "day",
    "day of month": "month",
    "month": "year",
    "day of week": "week",
}
_EVERY_UNIT: Final = {"second": "s", "minute": "m", "hour": "h", "day of month": "d"}
_SHORTEST_MONTHS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_A_FEW_DAYS: Final = 5


def warnings_of(parts: Parts, after: Micros | None) -> tuple[ScheduleWarning, ...]:
    """All warnings of a schedule; those about daylight saving only with a moment to look from."""
    return tuple(_warnings(parts, after))


def _warnings(parts: Parts, after: Micros | None) -> Iterator[ScheduleWarning]:
    if isinstance(parts.rule, CronRule) and parts.expression is not None:
        yield from _uneven(parts.expression, both=_both(parts.rule.fields, parts.expression))
        yield from _two_days(parts.rule.fields, parts.expression)
        yield from _missing_day(parts.rule.fields, parts.expression)
    if after is not None:
        yield from _daylight(parts, after)


def _both(fields: Fields, expression: Expression) -> bool:
    """Whether both day fields restrict, and a date must match both: one of them begins with `*` (rule 2)."""
    day, weekday = (expression.resolved.split(" ")[place] for place in (2, 4))
    return fields.both_days and fields.plain and "*" not in (day, weekday) and "?" not in (day, weekday)


def _uneven(expression: Expression, *, both: bool) -> Iterator[ScheduleWarning]:
    for word, term in expression.uneven:
        if both and word.startswith("day"):
            continue  # no interval says what is meant together with the other field
        step = term.rpartition("/")[2]
        unit = _EVERY_UNIT.get(word)
        yield ScheduleWarning(
            code="uneven-step",
            message=f"{word}: {term!r} is uneven: the count starts anew with every {_ANEW_WITH[word]}",
            help=f"for a steady interval write: every {step}{unit}"
            if unit
            else "list the values that are meant",
        )


def _two_days(fields: Fields, expression: Expression) -> Iterator[ScheduleWarning]:
    if _both(fields, expression):
        yield ScheduleWarning(
            code="both-days",
            message="one of the two day fields begins with '*': a date must match both",
            help="write '*' for one of them, if either alone is meant",
        )
    days = fields.days != ALL_DAYS or not fields.plain
    weekdays = fields.weekdays != ALL_WEEKDAYS
    if fields.both_days or not (days or weekdays):
        return
    if fields.every_day:
        yield ScheduleWarning(
            code="either-day",
            message="both day fields are given and one of them has every day: runs every day",
            help="write '*' for the day field that does not matter",
        )
    else:
        yield ScheduleWarning(
            code="either-day",
            message="day of month and day of week are both given: runs when either of them matches",
            help="write '*' for one of them; the first Friday of a month is 5#1",
        )


def _missing_day(fields: Fields, expression: Expression) -> Iterator[ScheduleWarning]:
    """A day that was meant by its number, and that some of the chosen months do not have."""
    is_any = expression.resolved.split(" ")[2].startswith("*")
    days = [] if is_any or fields.days.bit_count() > _A_FEW_DAYS else bits(fields.days)
    for day in days:
        short = [month for month in bits(fields.months) if _SHORTEST_MONTHS[month] < day]
        if day >= 29 and day - 1 not in days and short:
            yield ScheduleWarning(
                code="missing-day",
                message=_without(day, short),
                help="write L for the last day of the month",
            )
    for back in sorted(fields.before_last):
        short = [month for month in bits(fields.months) if _SHORTEST_MONTHS[month] <= back]
        if short:
            names = ", ".join(MONTHS[month] for month in short)
            yield ScheduleWarning(
                code="missing-day",
                message=f"L-{back}: no such day in {names}, which the schedule leaves out",
                help="L-27 is the furthest that every month has",
            )
    for day in sorted(fields.nearest):
        short = [month for month in bits(fields.months) if _SHORTEST_MONTHS[month] < day]
        if short:
            names = ", ".join(MONTHS[month] for month in short)
            yield ScheduleWarning(
                code="missing-day",
                message=f"{day}W: no day {day} in {names}, where it is the last workday",
                help="write LW for the last workday of every month",
            )


def _without(day: int, short: list[int]) -> str:
    if day == 29:
        return "day 29: February has one only in leap years"
    names = ", ".join(MONTHS[month] for month in short)
    return f"day {day}: not in {names}, which the schedule leaves out"


def _daylight(parts: Parts, after: Micros) -> Iterator[ScheduleWarning]:
    for note in daylight_notes(parts, after):
        yield ScheduleWarning(
            code="dst-gap" if note.gap else "dst-repeat",
            message=f"{note.sentence.rstrip('.')} ({parts.zone.name})",
            help="a time outside the change of the clocks, or timezone: UTC, avoids it",
        )
