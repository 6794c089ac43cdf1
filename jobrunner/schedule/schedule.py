"""A schedule: the rule that names ticks, whatever form it was written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TypeAlias

from jobrunner.durations import Micros, from_micros, to_micros

from .errors import ScheduleWarning
from .notes import daylight_notes
from .parse import Kind, Parts, parse_parts
from .warn import warnings_of
from .words import describe

Source: TypeAlias = str | Mapping[str, object]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Schedule:
    """The rule that names ticks; immutable, and safe to share among threads.

    Moments are aware datetimes, answers are aware datetimes in the schedule's zone. The `_us` methods
    are the same in microseconds since the Unix epoch. Two schedules are equal when their `key` is.
    """

    _parts: Parts

    @classmethod
    def parse(cls, source: Source, timezone: str | tzinfo | None = None, *, name: str = "") -> Schedule:
        """Reads a schedule: cron text, a nickname, `every 90s`, `reboot`, or a mapping.

        `timezone` is an IANA name or a tzinfo; None means the machine's zone. A mapping's own `timezone`
        goes before it, and its `args` and `kwargs` are ignored here. `name` is the task's name, which
        `H` is drawn from. Raises ScheduleError.
        """
        return cls(parse_parts(source, timezone, name))

    # ---- what it is

    @property
    def kind(self) -> Kind:
        """`cron`, `every`, `at` or `reboot`."""
        return self._parts.kind

    @property
    def text(self) -> str:
        """The text as it is shown: what was written, with single blanks."""
        return self._parts.text

    @property
    def timezone(self) -> str:
        """The name of the zone in which the text is read and answers are given."""
        return self._parts.zone.name

    @property
    def key(self) -> str:
        """A stable text that identifies the schedule: what was written, `H` resolved, and the zone.

        Intervals, reboots and moments with an offset do not depend on a zone, nor does their key.
        """
        return self._parts.key

    def describe(self) -> str:
        """Says the schedule in words where they are common ones, otherwise gives its text."""
        return describe(self._parts)

    def warnings(self, after: datetime | None = None) -> tuple[ScheduleWarning, ...]:
        """What is odd about an accepted schedule.

        With a moment, a tick inside the next gap or repeated hour of the zone counts too.
        """
        return warnings_of(self._parts, None if after is None else to_micros(after))

    def notes(self, after: datetime) -> tuple[str, ...]:
        """Sentences on what the next change of the clocks in each direction does to the ticks."""
        return tuple(note.sentence for note in daylight_notes(self._parts, to_micros(after)))

    # ---- ticks as moments

    def next_after(self, moment: datetime) -> datetime | None:
        """The first tick later than `moment`; None when there is none. Raises ValueError for a naive one."""
        return self._moment(self.next_us(to_micros(moment)))

    def previous_before(self, moment: datetime) -> datetime | None:
        """The last tick earlier than `moment`; None when there is none."""
        return self._moment(self.previous_us(to_micros(moment)))

    def ticks(self, after: datetime, limit: int) -> list[datetime]:
        """The first `limit` ticks later than `after`, or as many as there are."""
        found: list[datetime] = []
        at = self.next_us(to_micros(after))
        while at is not None and len(found) < limit:
            found.append(from_micros(at, self._parts.zone.tzinfo))
            at = self.next_us(at)
        return found

    def count(self, after: datetime, until: datetime) -> int:
        """How many ticks lie in (after, until]; counted, not visited."""
        return self.count_us(to_micros(after), to_micros(until))

    def matches(self, moment: datetime) -> bool:
        """True when `moment` is exactly a tick."""
        instant = to_micros(moment)
        return self.next_us(instant - 1) == instant

    # ---- ticks as microseconds

    def next_us(self, after: Micros) -> Micros | None:
        """The first tick later than `after`; None when there is none before the year 9999 ends."""
        try:
            return self._parts.rule.next_us(after)
        except OverflowError:
            return None

    def previous_us(self, before: Micros) -> Micros | None:
        """The last tick earlier than `before`; None when there is none after the year 1 began."""
        try:
            return self._parts.rule.previous_us(before)
        except OverflowError:
            return None

    def count_us(self, after: Micros, until: Micros) -> int:
        """How many ticks lie in (after, until]; 0 when `until` is not later than `after`."""
        return self._parts.rule.count_us(after, until)

    def _moment(self, instant: Micros | None) -> datetime | None:
        return None if instant is None else from_micros(instant, self._parts.zone.tzinfo)

    # ---- as a value

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Schedule({self.text!r}, {self.timezone!r})"
