"""Timetables: how far a schedule's ticks are accounted for, what comes next, and which comes first."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from . import birth
from .catalogue import Entry, entries_of, scheduled
from .codec import encode_arguments
from .durations import Micros
from .plan import Pipeline, Plan, ScheduleRule, Task
from .schedule import Schedule
from .storage import Storage


class Ahead(NamedTuple):
    """What can be known of a tick before its moment."""

    tick: Micros
    following: Micros | None  # the tick after it
    run_id: str


_place = attrgetter("place")


@dataclass(slots=True)
class Timetable:
    """One schedule of one task or pipeline, and how far its ticks are accounted for."""

    task: Task | Pipeline
    entry: Entry
    entries: Mapping[str, Entry]  # of all: a pipeline's steps are among them
    rule: ScheduleRule
    schedule: Schedule
    payload: str
    watermark: Micros
    next_at: Micros | None
    place: int = 0  # in the file: of two that are due at once the first one goes first, each time
    ahead: Ahead | None = None  # of the tick at `next_at`, once somebody has looked
    is_unsure: bool = False  # an answer was lost: whether its last ticks were written is not known

    def look_ahead(self) -> None:
        """Work out, once, what its next tick needs beside its moment."""
        if self.ahead is None and self.next_at is not None and self.schedule.kind != "reboot":
            self.ahead = self.ahead_of(self.next_at)

    def ahead_of(self, tick: Micros) -> Ahead:
        """The same of any tick; what is known is not worked out again."""
        if self.ahead is not None and self.ahead.tick == tick:
            return self.ahead
        return Ahead(tick, self.schedule.next_us(tick), birth.tick_id(self.entry.name, self.payload, tick))

    def move_on(self) -> None:
        """Turn to the tick after the watermark. `reboot` has one a boot: none after a watermark was set."""
        ahead, self.ahead = self.ahead, None
        if self.schedule.kind == "reboot":
            self.next_at = None if self.watermark else 0
        elif ahead is not None and ahead.tick == self.watermark:
            self.next_at = ahead.following
        else:
            self.next_at = self.schedule.next_us(self.watermark)


class Agenda:
    """Timetables by the moment of their next tick: thousands share one, which a heap would sort each time."""

    def __init__(self, tables: Iterable[Timetable] = ()) -> None:
        self._moments: list[Micros] = []  # a heap
        self._at: dict[Micros, list[Timetable]] = {}
        for table in tables:
            self.add(table)

    def add(self, table: Timetable) -> None:
        """Note it, unless it has no tick any more."""
        if table.next_at is None:
            return
        if table.next_at in self._at:
            self._at[table.next_at].append(table)
        else:
            self._at[table.next_at] = [table]
            heapq.heappush(self._moments, table.next_at)

    def __iter__(self) -> Iterator[Timetable]:
        return (table for tables in self._at.values() for table in tables)

    def moment(self) -> Micros | None:
        """Of the next tick."""
        return self._moments[0] if self._moments else None

    def first(self) -> Timetable | None:
        """The one whose tick is next."""
        return min(self._at[self._moments[0]], key=_place) if self._moments else None

    def due(self, now: Micros) -> Iterator[Timetable]:
        """Take out what is due, in order; what nobody has asked for stays."""
        while self._moments and self._moments[0] <= now:
            tables = self._at[self._moments[0]]
            tables.sort(key=_place, reverse=True)
            while tables:
                table = tables.pop()
                if not tables:
                    del self._at[heapq.heappop(self._moments)]
                yield table


def timetables(
    plan: Plan, storage: Storage, boot_id: str, now: Micros, *, reboots: Collection[str] | None = None
) -> list[Timetable]:
    """The timetables of a plan, with their watermarks from the storage.

    At a reload only those `reboots` are taken that were waiting already: it is no start (semantics 11).

    A schedule that was never seen before starts at `now` (semantics 11); `reboot` has a watermark of its
    own for each boot, which starts at 0: it fires at a supervisor's start unless this boot has its row.
    """
    entries = entries_of(plan)
    tables = [_timetable(each, rule, boot_id, entries) for each in scheduled(plan) for rule in each.schedules]
    for place, table in enumerate(tables):
        table.place = place
    if reboots is not None:
        tables = [each for each in tables if each.schedule.kind != "reboot" or each.rule.key in reboots]
    for reboot, start in ((False, now), (True, 0)):
        chosen = [table for table in tables if (table.schedule.kind == "reboot") is reboot]
        marks = storage.watermarks({t.rule.key: t.schedule.next_us(now) for t in chosen}, start)
        for table in chosen:
            table.watermark = marks[table.rule.key]
            table.move_on()
    return tables


def _timetable(
    task: Task | Pipeline, rule: ScheduleRule, boot_id: str, entries: Mapping[str, Entry]
) -> Timetable:
    schedule = Schedule.parse(rule.source, rule.timezone, name=task.name)
    if schedule.kind == "reboot":
        rule = ScheduleRule(
            key=boot_key(rule.key, boot_id),
            source=rule.source,
            timezone=rule.timezone,
            text=rule.text,
            words=rule.words,
            args=rule.args,
            kwargs=rule.kwargs,
        )
    entry = entries[task.name]
    return Timetable(task, entry, entries, rule, schedule, _payload(task, rule), 0, None)


def boot_key(key: str, boot_id: str) -> str:
    """The key of a `reboot` schedule's watermark in this boot."""
    return f"{key}|boot {boot_id}"


def _payload(task: Task | Pipeline, rule: ScheduleRule) -> str:
    """A schedule's own args replace the task's, its kwargs are merged over them."""
    kwargs: Mapping[str, object] = {**task.kwargs, **(rule.kwargs or {})}
    return encode_arguments(task.args if rule.args is None else rule.args, kwargs)
