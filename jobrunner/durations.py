"""Durations, instants and sizes as integers, and the words in which people read and write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias

__all__ = [
    "DAY",
    "EPOCH",
    "HOUR",
    "MILLISECOND",
    "MINUTE",
    "SECOND",
    "WEEK",
    "DurationError",
    "Micros",
    "SizeError",
    "format_duration",
    "format_size",
    "from_micros",
    "parse_duration",
    "parse_size",
    "to_micros",
]

Micros: TypeAlias = int
"""Microseconds; an instant is microseconds since the Unix epoch, UTC."""

MILLISECOND: Final[Micros] = 1_000
SECOND: Final[Micros] = 1_000_000
MINUTE: Final[Micros] = 60 * SECOND
HOUR: Final[Micros] = 60 * MINUTE
DAY: Final[Micros] = 24 * HOUR
WEEK: Final[Micros] = 7 * DAY
LONGEST: Final[Micros] = 100 * 366 * DAY

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_DURATION_UNITS: Final[Mapping[str, int]] = {
    "w": WEEK,
    "d": DAY,
    "h": HOUR,
    "m": MINUTE,
    "s": SECOND,
    "ms": MILLISECOND,
}
_SIZE_UNITS: Final[Mapping[str, int]] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_BARE: Final = re.compile(_NUMBER, re.ASCII)
_PART: Final = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]+)", re.ASCII)
_SIZE: Final = re.compile(rf"({_NUMBER})\s*([A-Za-z]+)", re.ASCII)


class DurationError(ValueError):
    """Text or number that is no duration; `message` says what, got and wanted, `help` the next step."""

    def __init__(self, message: str, *, help: str = "") -> None:  # noqa: A002 - the word of every error here
        super().__init__(f"{message} ({help})" if help else message)
        self.message = message
        self.help = help


class SizeError(ValueError):
    """Text or number that is no size; `message` says what, got and wanted, `help` the next step."""

    def __init__(self, message: str, *, help: str = "") -> None:  # noqa: A002 - the word of every error here
        super().__init__(f"{message} ({help})" if help else message)
        self.message = message
        self.help = help


# ---- durations -------------------------------------------------------------------------------------------


def parse_duration(value: str | int | float) -> Micros:
    """Reads `500ms`, `90s`, `15m`, `1h30m`, `2d`, `1w` or a bare number of seconds; gives microseconds.

    Raises DurationError for everything else: negative values, `1:30`, `1M`, unknown units, units that
    are repeated or not in descending order, and more than a hundred years.
    """
    amount = _from_text(value) if isinstance(value, str) else _from_number(value)
    if amount != int(amount):
        raise DurationError(f"duration {value!r} is finer than a microsecond", help=_duration_help(value))
    if amount > LONGEST:
        raise DurationError(f"duration {value!r} is longer than a hundred years", help=_duration_help(value))
    return int(amount)


def _from_number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _no_duration(value)
    seconds = Decimal(repr(value))
    if not seconds.is_finite() or seconds < 0:
        raise _no_duration(value)
    return seconds * SECOND


def _from_text(text: str) -> Decimal:
    stripped = text.strip()
    if _BARE.fullmatch(stripped):
        return Decimal(stripped) * SECOND
    total, units, at = Decimal(0), list(_DURATION_UNITS), 0
    while at < len(stripped):
        part = _PART.match(stripped, at)
        if part is None or part[2] not in units:
            raise _no_duration(text)
        total += Decimal(part[1]) * _DURATION_UNITS[part[2]]
        units = units[units.index(part[2]) + 1 :]  # each unit once, the larger one first
        at = part.end()
    if not stripped:
        raise _no_duration(text)
    return total


def _no_duration(value: object) -> DurationError:
    return DurationError(
        f"not a duration: got {value!r}, expected a number with w, d, h, m, s or ms, such as 90s or 1h30m",
        help=_duration_help(value),
    )


def _duration_help(value: object) -> str:
    text = str(value).strip()
    if text.startswith("-"):
        return "a duration is never negative"
    if clock := re.fullmatch(r"([0-9]+):([0-9]{2})(?::([0-9]{2}))?", text, re.ASCII):
        return f"write {clock[1]}h{clock[2]}m or {clock[1]}m{clock[2]}s"
    if months := re.fullmatch(r"([0-9]+)\s*(?:M|mo|months?|y|years?)", text, re.ASCII):
        return f"months and years differ in length: write days, or {months[1]}m for minutes"
    return "units: 1w = 7d, 1d = 24h, 1h = 60m, 1m = 60s, 1s = 1000ms; a bare number is seconds"


def format_duration(duration: Micros) -> str:
    """Says a duration in the words of the command line: `80 ms`, `2.1 s`, `12 m`, `2 h 11 min`, `3 d 4 h`.

    Exact below ten seconds to a tenth (below one to the millisecond); coarser as it grows. Never rounds
    up to a unit that was not reached.
    """
    if duration < 0:
        return f"-{format_duration(-duration)}"
    if duration < SECOND:
        return f"{duration // MILLISECOND} ms"
    if duration < MINUTE:
        return _seconds(duration)
    if duration < HOUR:
        return _minutes(duration)
    if duration < DAY:
        return _two(duration, HOUR, "h", MINUTE, "min")
    return _two(duration, DAY, "d", HOUR, "h")


def _seconds(duration: Micros) -> str:
    tenths = duration // (100 * MILLISECOND)
    if tenths >= 100 or tenths % 10 == 0:
        return f"{tenths // 10} s"
    return f"{tenths // 10}.{tenths % 10} s"


def _minutes(duration: Micros) -> str:
    if duration >= 10 * MINUTE:
        return f"{duration // MINUTE} m"
    return _two(duration, MINUTE, "m", SECOND, "s")


def _two(duration: Micros, large: int, large_word: str, small: int, small_word: str) -> str:
    rest = duration % large // small
    whole = f"{duration // large} {large_word}"
    return f"{whole} {rest} {small_word}" if rest else whole


# ---- sizes -----------------------------------------------------------------------------------------------


def parse_size(value: str | int) -> int:
    """Reads `10MiB`, `10MB` or a bare number of bytes; gives bytes. Raises SizeError for everything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if not isinstance(value, str):
        raise _no_size(value)
    text = value.strip()
    if text.isascii() and text.isdigit():
        return int(text)
    parts = _SIZE.fullmatch(text)
    if parts is None or parts[2] not in _SIZE_UNITS:
        raise _no_size(value)
    return _whole_bytes(value, parts[1], _SIZE_UNITS[parts[2]])


def _whole_bytes(value: str, number: str, unit: int) -> int:
    try:
        amount = Decimal(number) * unit
    except InvalidOperation:  # pragma: no cover - the pattern admits only plain numbers
        raise _no_size(value) from None
    if amount != int(amount):
        raise SizeError(f"size {value!r} is not a whole number of bytes", help="write a smaller unit")
    return int(amount)


def _no_size(value: object) -> SizeError:
    return SizeError(
        f"not a size: got {value!r}, expected bytes or a number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB",
        help="10MB is 10,000,000 bytes, 10MiB is 10,485,760",
    )


def format_size(size: int) -> str:
    """Says a size in bytes in words: `512 B`, `1.5 kB`, `12 MB`; whole binary megabytes as `10 MiB`."""
    for word in ("TiB", "GiB", "MiB"):
        if size and size % _SIZE_UNITS[word] == 0:
            return f"{size // _SIZE_UNITS[word]} {word}"
    for word in ("TB", "GB", "MB", "kB"):
        if size >= _SIZE_UNITS[word]:
            return f"{_one_decimal(size, _SIZE_UNITS[word])} {word}"
    return f"{size} B"


def _one_decimal(size: int, unit: int) -> str:
    tenths = size * 10 // unit
    return f"{tenths // 10}.{tenths % 10}" if tenths < 100 and tenths % 10 else f"{tenths // 10}"


# ---- instants --------------------------------------------------------------------------------------------


def to_micros(moment: datetime) -> Micros:
    """Gives the microseconds from the Unix epoch to a datetime; exact. Raises ValueError when it is naive."""
    if moment.utcoffset() is None:
        raise ValueError(
            f"moment {moment.isoformat()} has no zone: expected an aware datetime, such as one in UTC"
        )
    return (moment - EPOCH) // _MICROSECOND


def from_micros(instant: Micros, zone: tzinfo = UTC) -> datetime:
    """Gives the datetime of an instant in a zone; exact. Raises OverflowError outside years 1 to 9999."""
    return (EPOCH + timedelta(microseconds=instant)).astimezone(zone)
