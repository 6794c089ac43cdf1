"""Moments and durations as they are typed on the command line."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final

from jobrunner.durations import DurationError, Micros, parse_duration, to_micros
from jobrunner.errors import UsageError

from .words import local

_DAYS: Final = {"yesterday": -1, "today": 0, "tomorrow": 1}
_CLOCK: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_FORMS: Final = "2026-11-24T02:30+01:00, '2026-11-24 02:30', 'tomorrow 02:30', 'today 02:30' or 02:30"


def duration(text: str, option: str) -> Micros:
    """A duration given to an option. Raises UsageError."""
    try:
        return parse_duration(text)
    except DurationError as error:
        raise UsageError(f"{option}: {error.message}", help=error.help) from None


def moment(text: str, option: str, *, now: Micros, zone: tzinfo | None) -> Micros:
    """An instant given to an option: RFC 3339, a naive time in the zone, a day's name and a time, or `now`.

    Raises UsageError.
    """
    found = _read(text.strip(), now, zone)
    if found is None:
        raise UsageError(f"{option}: not a time: {text!r}", help=f"write {_FORMS}")
    return found


def past(text: str, option: str, *, now: Micros, zone: tzinfo | None) -> Micros:
    """The same, or how long ago: `7d`, `2h ago`. Raises UsageError."""
    back = text.strip().removesuffix("ago").rstrip()
    try:
        return now - parse_duration(back) if not back.isdigit() else moment(text, option, now=now, zone=zone)
    except DurationError:
        found = _read(text.strip(), now, zone)
    if found is None:
        raise UsageError(f"{option}: not a time: {text!r}", help=f"write 7d, 2h, {_FORMS}")
    return found


def _read(text: str, now: Micros, zone: tzinfo | None) -> Micros | None:
    if text == "now":
        return now
    today = local(now, zone).date()
    if _CLOCK.fullmatch(text):
        return _at(today, text, zone)
    word, _, clock = text.partition(" ")
    if word in _DAYS:
        return _at(today + timedelta(days=_DAYS[word]), clock.strip() or "00:00", zone)
    return _absolute(text, zone)


def _at(day: date, clock: str, zone: tzinfo | None) -> Micros | None:
    parts = _CLOCK.fullmatch(clock)
    if parts is None:
        return None
    try:
        at = time(int(parts[1]), int(parts[2]), int(parts[3] or 0))
    except ValueError:
        return None
    return _instant(datetime.combine(day, at), zone)


def _absolute(text: str, zone: tzinfo | None) -> Micros | None:
    if not _DATE.match(text):
        return None  # fromisoformat reads more than people mean: 20261124, 2026-W48
    try:
        return _instant(datetime.fromisoformat(text), zone)
    except (ValueError, OverflowError):
        return None


def _instant(moment: datetime, zone: tzinfo | None) -> Micros:
    if moment.utcoffset() is not None:
        return to_micros(moment)
    return to_micros(moment.astimezone() if zone is None else moment.replace(tzinfo=zone))
