"""`crontab(minute=..., hour=..., ...)`: cron fields as arguments, all of which must match.

A field is a whole number or a text: `*`, `*/n`, numbers, ranges `a-b` and `a-b/s` (which may wrap around, as
in `22-2`), and lists of these. Anything else is refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

Field: TypeAlias = int | str

_STEP: Final = re.compile(r"\*/([0-9]{1,3})", re.ASCII)
_RANGE: Final = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2})(?:/([0-9]{1,3}))?)?", re.ASCII)


class _Kind(NamedTuple):
    """A field of the expression: its name and its values."""

    name: str
    first: int
    last: int
    has_steps: bool = True  # whether `*/n` may be written

    @property
    def values(self) -> range:
        return range(self.first, self.last + 1)


_MINUTE: Final = _Kind("minute", 0, 59)
_HOUR: Final = _Kind("hour", 0, 23)
_DAY: Final = _Kind("day", 1, 31)
_MONTH: Final = _Kind("month", 1, 12)
_WEEKDAY: Final = _Kind("day_of_week", 0, 6, has_steps=False)


class Crontab(NamedTuple):
    """A schedule made by `crontab`. It may stand wherever a schedule may."""

    text: str  # five cron fields

    @property
    def schedule(self) -> dict[str, object]:
        """The schedule as jobs.yaml writes it."""
        return {"cron": self.text, "days": "all"}


class _Maker:
    """`crontab` itself: a function with two more functions on it."""

    def __call__(
        self,
        minute: Field = "*",
        hour: Field = "*",
        day: Field = "*",
        month: Field = "*",
        day_of_week: Field = "*",
    ) -> Crontab:
        """A schedule by its cron fields; all of them must match. 0 and 7 are Sunday.

        Raises ValueError, naming the field and what it may hold.
        """
        fields = (
            (_MINUTE, minute),
            (_HOUR, hour),
            (_DAY, day),
            (_MONTH, month),
            (_WEEKDAY, day_of_week),
        )
        return Crontab(" ".join(_field(kind, given) for kind, given in fields))

    def hourly(self) -> Crontab:
        """At minute 0 of each hour."""
        return self(minute=0)

    def daily(self) -> Crontab:
        """At 00:00 of each day."""
        return self(minute=0, hour=0)


crontab: Final = _Maker()


def _field(kind: _Kind, given: Field) -> str:
    """The field as cron text: as written where cron reads it alike, else its values."""
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise _refused(kind, given)
    text = str(given)
    if text == "*" or (_STEP.fullmatch(text) and _step(kind, text, given)):
        return text
    values = sorted({value for part in text.split(",") for value in _part(kind, part, given)})
    return "*" if values == list(kind.values) else ",".join(map(str, values))


def _part(kind: _Kind, part: str, given: Field) -> list[int]:
    if part == "*":
        return list(kind.values)
    if _STEP.fullmatch(part):
        return list(kind.values)[:: _step(kind, part, given)]
    found = _RANGE.fullmatch(part)
    if found is None:
        raise _refused(kind, given, f"{part!r} is none of these")
    first = _value(kind, int(found[1]), given)
    if found[2] is None:
        return [first % 7 if kind is _WEEKDAY else first]
    return _span(kind, first, int(found[2]), int(found[3] or 1), given)


def _span(kind: _Kind, first: int, last: int, step: int, given: Field) -> list[int]:
    """The values of a range; one that wraps around goes on at the beginning of the field."""
    _value(kind, last, given)
    if not 1 <= step <= kind.last:
        raise _refused(kind, given, f"the step {step} does not fit")
    size = len(kind.values)
    if kind is _WEEKDAY and first == 7 and last != 7:
        first = 0  # Sunday, as the beginning of the week
    length = last - first if first <= last else last - first + size
    return [(first - kind.first + offset) % size + kind.first for offset in range(0, length + 1, step)]


def _step(kind: _Kind, part: str, given: Field) -> int:
    step = int(part.removeprefix("*/"))
    if not kind.has_steps:
        raise _refused(kind, given, "a step over all days of the week means nothing: name the days")
    if not 1 <= step <= len(kind.values):
        raise _refused(kind, given, f"the step {step} does not fit")
    return step


def _value(kind: _Kind, value: int, given: Field) -> int:
    last = 7 if kind is _WEEKDAY else kind.last
    if not kind.first <= value <= last:
        raise _refused(kind, given, f"{value} is not between {kind.first} and {last}")
    return value


def _refused(kind: _Kind, given: object, why: str = "") -> ValueError:
    last = 7 if kind is _WEEKDAY else kind.last
    steps = ", */n" if kind.has_steps else ""
    return ValueError(
        f"crontab({kind.name}={given!r}): {why + '; ' if why else ''}"
        f"expected *{steps}, n, a-b, a-b/s or a list of these, {kind.first} to {last}"
    )
