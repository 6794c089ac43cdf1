"""What callers give as a time, a duration or a moment, as the integers that the core uses."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import TypeAlias

from ..durations import DurationError, Micros, parse_duration, to_micros
from ..errors import UsageError

Duration: TypeAlias = float | str | timedelta
"""Seconds, a text such as "5m" or "1h30m", or a timedelta."""


def duration(value: Duration, name: str) -> Micros:
    """Microseconds of a duration. Raises UsageError, naming the option, for what is none."""
    try:
        return parse_duration(text_of(value))
    except DurationError as error:
        raise UsageError(f"{name}: {error.message}", help=error.help) from None


def text_of(value: Duration) -> str | float:
    """A duration as jobs.yaml writes it; a float's error beyond the microsecond is nobody's wish."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return round(value, 6) if isinstance(value, float) else value


def instant(value: datetime, zone: tzinfo | None) -> Micros:
    """Microseconds since the epoch. A naive moment is in `zone`; None: the zone of this machine."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=zone) if zone is not None else value.astimezone()
    return to_micros(value)
