"""Cron's own reading of its five time fields, apart from `jobrunner.schedule`: the two are compared.

It follows `entry.c` of Debian's cron 3.0pl1; cronie reads the same, and `~` besides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_WORD: Final = re.compile(r"[0-9A-Za-z]+", re.ASCII)
_MOST_DIGITS: Final = 9
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Field(NamedTuple):
    """What one field may hold."""

    name: str
    low: int
    high: int
    names: Sequence[str] = ()


FIELDS: Final = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day-of-month", 1, 31),
    Field("month", 1, 12, _MONTHS),
    Field("day-of-week", 0, 7, _WEEKDAYS),
)


class Refused(ValueError):
    """Cron refuses the text; the message is cron's own, such as `bad minute`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """What cron makes of five fields. Weekdays count from Sunday = 0."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both_days: bool
    """A day field begins with `*`: both must match; otherwise either one does."""
    wildcard: bool
    """The minute or the hour begins with `*`: cron follows the wall clock."""

    @property
    def values(self) -> tuple[frozenset[int], ...]:
        """The five sets in the order in which they are written."""
        return self.minutes, self.hours, self.days, self.months, self.weekdays


def read_fields(words: Sequence[str]) -> Sets:
    """The sets of five words. Raises Refused."""
    sets = [_list(word, field) for word, field in zip(words, FIELDS, strict=True)]
    minute, hour, day, _, weekday = words
    return Sets(
        minutes=sets[0],
        hours=sets[1],
        days=sets[2],
        months=sets[3],
        weekdays=frozenset(each % 7 for each in sets[4]),
        both_days=day.startswith("*") or weekday.startswith("*"),
        wildcard=minute.startswith("*") or hour.startswith("*"),
    )


def _list(word: str, field: Field) -> frozenset[int]:
    """The members of a list; cron stops at what it does not know, and ignores the rest of the word."""
    values: set[int] = set()
    at, more = 0, True
    while more:
        members, at = _range(word, at, field)
        values.update(members)
        more = word.startswith(",", at)
        at += 1
    return frozenset(values)


def _range(word: str, at: int, field: Field) -> tuple[range, int]:
    if word.startswith("*", at):
        low, high, at = field.low, field.high, at + 1
    else:
        low, at = _number(word, at, field)
        if word.startswith("/", at):  # a step needs a range
            raise Refused(f"bad {field.name}")
        if not word.startswith("-", at):
            return _within(range(low, low + 1), field), at
        high, at = _number(word, at + 1, field)
    step = 1
    if word.startswith("/", at):
        step, at = _number(word, at + 1, field._replace(names=()))
    if step == 0:
        raise Refused(f"bad {field.name}")
    return _within(range(low, high + 1, step), field), at


def _within(members: range, field: Field) -> range:
    """The same, when no member lies outside the field; a range that runs backwards has no members."""
    if members and (members[0] < field.low or members[-1] > field.high):
        raise Refused(f"bad {field.name}")
    return members


def _number(word: str, at: int, field: Field) -> tuple[int, int]:
    found = _WORD.match(word, at)
    if found is None or len(found[0]) > _MOST_DIGITS:
        raise Refused(f"bad {field.name}")
    if found[0].isdigit():
        return int(found[0]), found.end()
    if found[0].lower() not in field.names:
        raise Refused(f"bad {field.name}")
    return field.names.index(found[0].lower()) + field.low, found.end()
