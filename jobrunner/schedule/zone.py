"""Time zones as segments of constant offset, and the name of the machine's own zone.

Instants are seconds since the Unix epoch, UTC; wall seconds are an instant plus the offset in force.
"""

from __future__ import annotations

import difflib
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from .errors import ScheduleError

DAY: Final = 86_400
_SCAN_STEP: Final = 2 * DAY  # in the whole database no two changes of a zone are closer than four days
_MEMORY: Final = 2 * DAY  # longer than any stretch that was ever repeated (a whole day, at the date line)
_FOREVER: Final = 10**15
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_LOCALTIME: Final = Path("/etc/localtime")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch [start, end) of instants with one offset; it may end where nothing changes, at a new year."""

    start: int
    end: int
    offset: int

    @property
    def wall_start(self) -> int:
        """What the local clock shows at the first instant."""
        return self.start + self.offset

    @property
    def wall_end(self) -> int:
        """What the local clock would show at the end, had the offset not changed."""
        return self.end + self.offset


class Zone:
    """A zone, asked by instant. Segments are found once per year and kept; safe to share among threads."""

    __slots__ = ("_years", "name", "tzinfo")

    def __init__(self, name: str, info: tzinfo) -> None:
        self.name = name
        self.tzinfo = info
        self._years: dict[int, tuple[Segment, ...]] = {}

    @property
    def fixed(self) -> bool:
        """True for an offset that never changes by construction."""
        return isinstance(self.tzinfo, timezone) or self.name in ("UTC", "Etc/UTC")

    def offset(self, instant: int) -> int:
        """Seconds east of UTC at an instant."""
        delta = (_EPOCH + timedelta(seconds=instant)).astimezone(self.tzinfo).utcoffset()
        return (delta or timedelta()) // _SECOND

    def segment_at(self, instant: int) -> Segment:
        """The segment that holds an instant. Raises OverflowError outside the years 1 to 9999."""
        if self.fixed:
            return self._always()
        year = (_EPOCH + timedelta(seconds=instant)).year
        segments = self._years.get(year)
        if segments is None:
            segments = self._years[year] = tuple(self._scan(year))
        return segments[bisect_right(segments, instant, key=_start) - 1]

    def following(self, segment: Segment) -> Segment:
        """The segment after this one."""
        return self.segment_at(segment.end)

    def preceding(self, segment: Segment) -> Segment:
        """The segment before this one."""
        return self.segment_at(segment.start - 1)

    def high_water(self, instant: int) -> int:
        """The latest wall second that the local clock has shown up to and at this instant."""
        segment = self.segment_at(instant)
        mark = instant + segment.offset
        while segment.start > instant - _MEMORY:
            segment = self.preceding(segment)
            mark = max(mark, segment.wall_end - 1)
        return mark

    def reaching(self, wall: int) -> Segment:
        """The first segment in which the local clock shows `wall` or, across a gap, something later."""
        segment = self.segment_at(wall - DAY)  # no offset is as large as a day
        while segment.wall_end <= wall:
            segment = self.following(segment)
        return segment

    def gap_before(self, segment: Segment) -> int:
        """Wall seconds that were left out where this segment begins; negative when some were repeated."""
        return segment.wall_start - self.preceding(segment).wall_end

    def changes(self, after: int, until: int) -> Iterator[Segment]:
        """The segments that begin in (after, until] with another offset than the one before."""
        segment = self.segment_at(after)
        while segment.end <= until:
            before, segment = segment, self.following(segment)
            if segment.offset != before.offset:
                yield segment

    def _always(self) -> Segment:
        segments = self._years.get(0)
        if segments is None:
            segments = self._years[0] = (Segment(-_FOREVER, _FOREVER, self.offset(0)),)
        return segments[0]

    def _scan(self, year: int) -> Iterator[Segment]:
        start = (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
        days = 366 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 365
        end = start + days * DAY
        offset = self.offset(start)
        for low in range(start, end, _SCAN_STEP):
            high = min(low + _SCAN_STEP, end - 1)
            if self.offset(high) != offset:
                change = self._bisect(low, high, offset)
                yield Segment(start, change, offset)
                start, offset = change, self.offset(high)
        yield Segment(start, end, offset)

    def _bisect(self, low: int, high: int, offset: int) -> int:
        """The instant in (low, high] at which the offset stops being `offset`."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.offset(middle) == offset else (low, middle)
        return high


def _start(segment: Segment) -> int:
    return segment.start


# ---- zones by name ---------------------------------------------------------------------------------------


def zone_of(given: str | tzinfo | None) -> Zone:
    """The zone that is meant: an IANA name, a tzinfo, or None for the machine's own.

    Raises ScheduleError for a name that is not in the time zone database, with the nearest names.
    """
    if given is None:
        return _machine_zone()
    if isinstance(given, tzinfo):
        return _zone_of_info(given)
    if not isinstance(given, str):
        raise ScheduleError(f"not a time zone: got {given!r}, expected a name such as Europe/Paris")
    return _named(given)


def forget_zones() -> None:
    """Drops what is remembered of the zones, so that a new time zone database is read; for reloads."""
    _named.cache_clear()
    _known_zones.cache_clear()
    ZoneInfo.clear_cache()


@lru_cache(maxsize=1024)
def _named(name: str) -> Zone:
    if offset := re.fullmatch(r"UTC([+-])(\d\d):(\d\d)", name, re.ASCII):
        delta = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return Zone(name, timezone(-delta if offset[1] == "-" else delta))
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder such as `Europe`
        raise ScheduleError(
            f"unknown time zone: got {name!r}, expected an IANA name such as Europe/Paris",
            help=_suggest_zone(name),
            token=name,
        ) from None


def _suggest_zone(name: str) -> str:
    known = _known_zones()
    wanted = name.strip().replace(" ", "_").lower()
    near = known.get(wanted) or known.get(wanted.rpartition("/")[2])
    if near is None:
        close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.6)
        near = known[close[0]] if close else None
    return f"did you mean {near!r}?" if near else "the names are those of the IANA time zone database"


@lru_cache(maxsize=1)
def _known_zones() -> dict[str, str]:
    """Lower-case name, and lower-case city where it is not itself a zone, to the name as it is written."""
    names = sorted(available_timezones())
    cities = {name.rpartition("/")[2].lower(): name for name in names if not name.startswith("Etc/")}
    return cities | {name.lower(): name for name in names}


def _zone_of_info(info: tzinfo) -> Zone:
    if isinstance(info, ZoneInfo) and info.key and _is_zone(info.key):
        return _named(info.key)  # shares what is known of its segments
    return _named("UTC") if info == UTC else Zone(str(info), info)


def _machine_zone() -> Zone:
    """The zone of TZ, or of the link /etc/localtime, or of that file's content, or UTC: as the C library."""
    name = os.environ.get("TZ", "").removeprefix(":")
    for candidate in (name, _zone_of_path(name), _zone_of_path(_link())):
        if candidate and _is_zone(candidate):
            return _named(candidate)
    return _zone_of_file()


def _link() -> str:
    try:
        return str(_LOCALTIME.resolve(strict=True))
    except OSError:
        return ""


def _zone_of_path(path: str) -> str:
    _, found, name = path.rpartition("zoneinfo/")
    return name.removeprefix("posix/").removeprefix("right/") if found else ""


def _is_zone(name: str) -> bool:
    try:
        return bool(_named(name))
    except ScheduleError:
        return False


def _zone_of_file() -> Zone:
    try:
        with _LOCALTIME.open("rb") as file:
            return Zone("localtime", ZoneInfo.from_file(file, key="localtime"))
    except (OSError, ValueError):
        return _named("UTC")
