"""The time of a crontab line as a schedule that names the same ticks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from ..schedule import Schedule, ScheduleError
from ..schedule.fields import Fields, bits
from ..schedule.text import parse_expression
from .fields import FIELDS, Field, Sets
from .parse import REBOOT, Kind, Line

_CYCLE: Final = 28 * 366  # days in which every date meets every weekday
_FROM: Final = date(2000, 1, 1)
_RANDOM: Final = re.compile(r"([0-9]*)~([0-9]*)(/[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """A schedule as text; `problem` says why there is none."""

    text: str = ""
    notes: tuple[str, ...] = ()
    runs: bool = True
    """Whether cron ever starts the line: what never ran does not begin to by being imported."""
    problem: str = ""


def schedule_of(line: Line) -> When:
    """The schedule of a line of kind `task`."""
    assert line.kind is Kind.TASK
    if line.when == REBOOT:
        return When(text="reboot")
    if line.refusal:
        return _refused(line)
    if line.sets is None:
        return _random(line.when)
    text = line.when.removeprefix("@")
    if not _ever(line.sets):
        return _never(text)
    if _same(text, line.sets):
        return When(text=text)
    exact = _spelled(text.split(" "), line.sets)
    note = f"cron reads '{text}' as '{exact}'"
    if _accepted(text):
        note += f"; jobrunner would read '{text}' otherwise"
    return When(text=exact, notes=(note,))


def _refused(line: Line) -> When:
    """Cron does not take it. What jobrunner understands is kept, but not begun."""
    text = line.when.removeprefix("@").lower() if line.when.startswith("@") else line.when
    try:
        Schedule.parse(text, "UTC")
    except ScheduleError as error:
        return When(problem=f"cron refuses it ({line.refusal}), and so does jobrunner: {error.message}")
    note = f"cron refuses this line ({line.refusal}), so it never ran: disabled"
    return When(text=text, notes=(note,), runs=False)


def _random(when: str) -> When:
    """`0~59`, which cronie draws anew at every load, becomes `H(0-59)`, which stays."""
    words = [_hashed(word, field) for word, field in zip(when.split(" "), FIELDS, strict=True)]
    text = " ".join(words)
    if not _accepted(text):
        return When(problem=f"'{when}' has no schedule that says the same")
    return When(text=text, notes=("'~' is drawn anew by cronie; H stays the same for this task",))


def _hashed(word: str, field: Field) -> str:
    return _RANDOM.sub(lambda each: f"H({each[1] or field.low}-{each[2] or field.high}){each[3] or ''}", word)


def _never(text: str) -> When:
    note = f"cron accepts '{text}' and never runs it: disabled"
    if not _accepted(text):
        return When(problem=f"cron accepts '{text}' and never runs it: no such date comes")
    return When(text=text, notes=(note,), runs=False)


def _accepted(text: str) -> bool:
    try:
        Schedule.parse(text, "UTC")
    except ScheduleError:
        return False
    return True


def _same(text: str, sets: Sets) -> bool:
    """Whether jobrunner reads the same sets out of the text, and the same two flags."""
    try:
        fields = parse_expression(text).fields
    except ScheduleError:
        return False
    return _accepted(text) and fields.plain and _masks(fields) == sets.values and _flags(fields, sets)


def _masks(fields: Fields) -> tuple[frozenset[int], ...]:
    masks = (fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays)
    return tuple(frozenset(bits(mask)) for mask in masks)


def _flags(fields: Fields, sets: Sets) -> bool:
    return fields.wildcard is sets.wildcard and fields.both_days is sets.both_days


def _ever(sets: Sets) -> bool:
    """Whether any date of the calendar's cycle matches, and any time of day."""
    if not (sets.minutes and sets.hours and sets.months):
        return False
    days = (_FROM + timedelta(days=number) for number in range(_CYCLE))
    return any(day_matches(sets, day) for day in days)


def day_matches(sets: Sets, day: date) -> bool:
    """Cron's test of a date: both day fields when one begins with `*`, else either one."""
    by_date, by_week = day.day in sets.days, day.isoweekday() % 7 in sets.weekdays
    matches = (by_date and by_week) if sets.both_days else (by_date or by_week)
    return matches and day.month in sets.months


def _spelled(words: Sequence[str], sets: Sets) -> str:
    """The sets as explicit lists; a leading `*`, which cron looks at, stays one."""
    fields = zip(words, FIELDS, sets.values, strict=True)
    return " ".join(_field(word, field, values) for word, field, values in fields)


def _field(word: str, field: Field, values: frozenset[int]) -> str:
    high = 6 if field.high == 7 else field.high
    if word.startswith("*"):
        steps = range(1, high - field.low + 2)
        fitting = (step for step in steps if values == frozenset(range(field.low, high + 1, step)))
        step = next(fitting, None)
        if step is not None:
            return "*" if step == 1 else f"*/{step}"
    if len(values) == high - field.low + 1:
        return f"{field.low}-{high}"
    return ",".join(str(value) for value in sorted(values))
