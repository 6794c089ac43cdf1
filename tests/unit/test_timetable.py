"""The agenda: which timetables are due, in which order; and what is known of a tick before its moment."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import cast

import pytest

from jobrunner.birth import tick_id
from jobrunner.catalogue import entries_of
from jobrunner.durations import MINUTE, SECOND, Micros
from jobrunner.plan import Plan, ScheduleRule
from jobrunner.schedule import Schedule
from jobrunner.timetable import Agenda, Timetable
from tests.builders import NOON, a_task


def a_table(place: int = 0, *, next_at: Micros | None = NOON + MINUTE, source: str = "every 1m") -> Timetable:
    rule = ScheduleRule(key=f"k{place}", source=source, timezone="UTC", text=source, words=source)
    task = a_task("beat", schedules=(rule,))
    plan = Plan(file="", hash="", backend="", timezone="UTC", tasks={"beat": task})
    entries = entries_of(plan)
    schedule = Schedule.parse(source, "UTC")
    return Timetable(task, entries["beat"], entries, rule, schedule, "{}", NOON, next_at, place)


def places(tables: Iterable[Timetable]) -> list[int]:
    return [table.place for table in tables]


def test_what_is_due_comes_by_moment_and_then_by_place() -> None:
    later = [a_table(place, next_at=NOON + 2) for place in (1, 0)]
    agenda = Agenda([*later, a_table(3, next_at=NOON + 1), a_table(2, next_at=NOON + 1), a_table(9)])
    assert places(agenda.due(NOON + 2)) == [2, 3, 0, 1]
    assert (places(agenda), agenda.moment()) == ([9], NOON + MINUTE)


def test_what_nobody_has_asked_for_stays() -> None:
    agenda = Agenda(a_table(place, next_at=NOON) for place in (4, 2, 0, 3, 1))
    assert places(islice(agenda.due(NOON), 2)) == [0, 1]
    assert (agenda.moment(), places([cast(Timetable, agenda.first())])) == (NOON, [2])
    agenda.add(a_table(0, next_at=NOON))
    assert places(agenda.due(NOON)) == [0, 2, 3, 4]
    assert (agenda.moment(), agenda.first(), places(agenda.due(NOON))) == (None, None, [])


def test_a_timetable_without_another_tick_is_on_no_agenda() -> None:
    assert places(Agenda([a_table(next_at=None)])) == []


def test_what_is_known_of_a_tick_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table, asked = a_table(), list[Micros]()

    def next_us(_self: Schedule, after: Micros) -> Micros:
        asked.append(after)
        return after + MINUTE

    monkeypatch.setattr(Schedule, "next_us", next_us)
    table.look_ahead()
    table.look_ahead()
    known = table.ahead_of(NOON + MINUTE)
    assert known == (NOON + MINUTE, NOON + 2 * MINUTE, tick_id("beat", "{}", NOON + MINUTE))
    table.watermark = NOON + MINUTE
    table.move_on()
    assert (table.next_at, table.ahead, asked) == (NOON + 2 * MINUTE, None, [NOON + MINUTE])


def test_with_another_watermark_than_the_one_expected_the_next_tick_is_worked_out_anew() -> None:
    table = a_table()
    table.look_ahead()
    table.watermark = NOON + 5 * MINUTE + SECOND
    table.move_on()
    assert table.next_at == NOON + 6 * MINUTE


def test_nothing_is_known_of_a_start_before_it() -> None:
    table = a_table(next_at=0, source="reboot")
    table.look_ahead()
    assert table.ahead is None
    table.move_on()
    assert table.next_at is None
    table.watermark = 0
    table.move_on()
    assert table.next_at == 0
