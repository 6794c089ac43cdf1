"""Daylight saving: the rule of Debian's cron, with ticks of one instant counted once (rule 3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from jobrunner.schedule import Schedule

EDT, EST = "-04:00", "-05:00"


def fires(text: str, zone: str, day: str) -> list[str]:
    """The ticks of a local day (from its first instant up to the next day's first), as `HH:MM+HH:MM`."""
    schedule, found = Schedule.parse(text, zone), []
    first = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    last = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=ZoneInfo(zone))
    start, stop = (moment.astimezone(UTC) - timedelta(seconds=1) for moment in (first, last))
    tick = schedule.next_after(start)
    while tick is not None and tick.astimezone(UTC) <= stop:
        found.append(f"{tick:%H:%M}{tick.isoformat()[-6:]}")
        tick = schedule.next_after(tick)
    assert schedule.count(start, stop) == len(found)
    return found


# ---- the measured table: New York, spring 2025-03-09 (01:59:59 EST -> 03:00 EDT) ---------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["03:00-04:00"]),  # rule 3: fixed, the instant the gap ends
        ("*/20 2 * * *", []),  # rule 3: wildcard, nothing inside a gap
        ("0-59/20 2 * * *", ["03:00-04:00"]),  # rule 3: one instant is one tick
        ("15 1-3 * * *", ["01:15-05:00", "03:00-04:00", "03:15-04:00"]),
        ("0 1-3 * * *", ["01:00-05:00", "03:00-04:00"]),  # 02:00 and 03:00 are one instant
        ("0 2 * * *", ["03:00-04:00"]),
        ("30 2,3 * * *", ["03:00-04:00", "03:30-04:00"]),
        ("0 */2 * * *", [f"{hour:02d}:00{EST if hour < 2 else EDT}" for hour in (0, *range(4, 24, 2))]),
    ],
)
def test_new_york_in_spring(text: str, expected: list[str]) -> None:  # rule 3
    assert fires(text, "America/New_York", "2025-03-09") == expected


def test_a_fixed_range_of_hours_gains_a_tick_at_the_end_of_the_gap() -> None:  # rule 3
    found = fires("45 0-23 * * *", "America/New_York", "2025-03-09")
    assert found[:4] == ["00:45-05:00", "01:45-05:00", "03:00-04:00", "03:45-04:00"]
    assert len(found) == 24


@pytest.mark.parametrize(("text", "count"), [("30 * * * *", 23), ("*/10 * * * *", 138), ("* * * * *", 1380)])
def test_a_wildcard_keeps_an_even_cadence_in_spring(text: str, count: int) -> None:  # rule 3
    ticks = Schedule.parse(text, "America/New_York").ticks(datetime(2025, 3, 9, 4, 59, 59, tzinfo=UTC), count)
    assert ticks[-1] < datetime(2025, 3, 10, 4, 0, tzinfo=UTC)
    assert len({later.astimezone(UTC) - earlier.astimezone(UTC) for earlier, later in pairwise(ticks)}) == 1


# ---- autumn 2025-11-02 (01:59:59 EDT -> 01:00 EST) ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 1 * * *", ["01:30-04:00"]),  # rule 3: the first pass only
        ("0,30 1 * * *", ["01:00-04:00", "01:30-04:00"]),
        ("*/30 1 * * *", ["01:00-04:00", "01:30-04:00", "01:00-05:00", "01:30-05:00"]),  # both passes
        ("59 0,1 * * *", ["00:59-04:00", "01:59-04:00"]),
        ("0 2 * * *", ["02:00-05:00"]),
    ],
)
def test_new_york_in_autumn(text: str, expected: list[str]) -> None:  # rule 3
    assert fires(text, "America/New_York", "2025-11-02") == expected


def test_a_fixed_range_of_hours_pauses_for_the_repeated_hour() -> None:  # rule 3
    found = fires("45 0-23 * * *", "America/New_York", "2025-11-02")
    assert found[:3] == ["00:45-04:00", "01:45-04:00", "02:45-05:00"]
    assert len(found) == 24


@pytest.mark.parametrize(("text", "count"), [("30 * * * *", 25), ("*/10 * * * *", 150), ("* * * * *", 1500)])
def test_a_wildcard_keeps_an_even_cadence_in_autumn(text: str, count: int) -> None:  # rule 3
    assert len(fires(text, "America/New_York", "2025-11-02")) == count


@pytest.mark.parametrize("minute", [0, 15, 29, 30, 31, 59])
def test_a_start_in_the_second_pass_does_not_fire_again(minute: int) -> None:  # rule 3
    schedule = Schedule.parse("30 1 * * *", "America/New_York")
    second_pass = datetime(2025, 11, 2, 6, minute, tzinfo=UTC)  # 01:xx EST
    tick = schedule.next_after(second_pass)
    assert tick is not None
    assert tick.isoformat() == "2025-11-03T01:30:00-05:00"
    before = schedule.previous_before(second_pass)
    assert before is not None
    assert before.isoformat() == "2025-11-02T01:30:00-04:00"


# ---- other zones ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "text", "expected"),
    [
        # London: 00:59:59 GMT -> 02:00 BST, and back at 02:00 BST -> 01:00 GMT
        ("Europe/London", "2026-03-29", "30 1 * * *", ["02:00+01:00"]),
        ("Europe/London", "2026-10-25", "30 1 * * *", ["01:30+01:00"]),
        ("Europe/London", "2026-10-25", "*/30 1 * * *", [
            "01:00+01:00", "01:30+01:00", "01:00+00:00", "01:30+00:00",
        ]),
        # Lord Howe: half an hour
        ("Australia/Lord_Howe", "2026-10-04", "15 2 * * *", ["02:30+11:00"]),
        ("Australia/Lord_Howe", "2026-10-04", "*/15 2 * * *", ["02:30+11:00", "02:45+11:00"]),
        ("Australia/Lord_Howe", "2026-04-05", "45 1 * * *", ["01:45+11:00"]),
        ("Australia/Lord_Howe", "2026-04-05", "*/15 1 * * *", [
            "01:00+11:00", "01:15+11:00", "01:30+11:00", "01:45+11:00", "01:30+10:30", "01:45+10:30",
        ]),
        # Troll: two hours, 01:00 -> 03:00 and 03:00 -> 01:00
        ("Antarctica/Troll", "2026-03-29", "30 1,2 * * *", ["03:00+02:00"]),
        ("Antarctica/Troll", "2026-10-25", "30 1,2 * * *", ["01:30+02:00", "02:30+02:00"]),
        # Cairo: the gap is at midnight, 00:00 -> 01:00
        ("Africa/Cairo", "2026-04-24", "0 0 * * *", ["01:00+03:00"]),
        ("Africa/Cairo", "2026-10-29", "30 23 * * *", ["23:30+03:00"]),
        # Apia: 2011-12-30 was skipped; a gap of a day loses its fixed times
        ("Pacific/Apia", "2011-12-31", "0 12 * * *", ["12:00+14:00"]),
    ],
)  # fmt: skip
def test_gaps_and_repeats_of_any_size(zone: str, day: str, text: str, expected: list[str]) -> None:  # rule 3
    assert fires(text, zone, day) == expected


def test_a_skipped_day_loses_its_ticks() -> None:  # rule 3: a gap of three hours or more
    schedule = Schedule.parse("0 12 * * *", "Pacific/Apia")
    ticks = schedule.ticks(datetime(2011, 12, 28, 23, 0, tzinfo=UTC), 2)
    assert [tick.isoformat() for tick in ticks] == ["2011-12-29T12:00:00-10:00", "2011-12-31T12:00:00+14:00"]
    after_the_gap = datetime(2011, 12, 30, 12, 0, tzinfo=UTC)
    before = schedule.previous_before(after_the_gap)
    assert before is not None
    assert before.isoformat() == "2011-12-29T12:00:00-10:00"
    assert schedule.count(datetime(2011, 12, 28, 12, tzinfo=UTC), datetime(2011, 12, 31, tzinfo=UTC)) == 3


def test_a_schedule_in_utc_is_untouched_by_any_change() -> None:  # rule 4
    schedule = Schedule.parse("30 1 * * *", "UTC")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ticks = schedule.ticks(start, 365)
    assert {tick.strftime("%H:%M%z") for tick in ticks} == {"01:30+0000"}
    assert ticks[-1] - ticks[0] == timedelta(days=364)


def test_an_interval_is_elapsed_time_through_both_changes() -> None:  # rule 3
    schedule = Schedule.parse("every 1h", "America/New_York")
    for day in (datetime(2025, 3, 9, 4, tzinfo=UTC), datetime(2025, 11, 2, 3, tzinfo=UTC)):
        ticks = [tick.astimezone(UTC) for tick in schedule.ticks(day, 6)]
        assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(hours=1)}


def test_answers_carry_the_right_fold() -> None:  # rule 1
    ticks = Schedule.parse("*/30 1 * * *", "America/New_York").ticks(datetime(2025, 11, 2, 4, tzinfo=UTC), 4)
    assert [tick.fold for tick in ticks] == [0, 0, 1, 1]


def test_a_moment_in_any_zone_asks_the_same_question() -> None:  # rule 1
    schedule = Schedule.parse("30 1 * * *", "America/New_York")
    moment = datetime(2025, 11, 2, 5, 30, tzinfo=UTC)
    elsewhere = moment.astimezone(ZoneInfo("Asia/Tokyo"))
    local = moment.astimezone(ZoneInfo("America/New_York"))
    assert schedule.next_after(moment) == schedule.next_after(elsewhere) == schedule.next_after(local)
    assert schedule.matches(local)
    assert not schedule.matches(local.replace(fold=1))  # the second 01:30
