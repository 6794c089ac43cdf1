"""`crontab(...)`: which moments its fields mean, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobrunner import Schedule, crontab

START = datetime(2011, 1, 1, tzinfo=UTC)


def values(field: str, given: int | str) -> list[int]:
    """The values of a field at which it matches, everything else being free."""
    at = {
        "minute": [(START + timedelta(minutes=n), n) for n in range(60)],
        "hour": [(START + timedelta(hours=n), n) for n in range(24)],
        "day": [(START + timedelta(days=n), n + 1) for n in range(31)],
        "month": [(START.replace(month=n), n) for n in range(1, 13)],
        "day_of_week": [(datetime(2011, 1, 2 + n, tzinfo=UTC), n) for n in range(7)],  # from a Sunday on
    }[field]
    schedule = Schedule.parse(crontab(**{field: given}).schedule, "UTC")
    return [value for moment, value in at if schedule.matches(moment)]


@pytest.mark.parametrize(
    ("field", "given", "wanted"),
    [
        ("month", "1,4,*/6,8-9", [1, 4, 7, 8, 9]),
        ("day", "*/6,1,4,8-9", [1, 4, 7, 8, 9, 13, 19, 25, 31]),
        ("day", "*/10", [1, 11, 21, 31]),
        ("hour", "8-9,*/6,1,4", [0, 1, 4, 6, 8, 9, 12, 18]),
        ("minute", "4,8-9,*/6,1", sorted({4, 8, 9, 1, *range(0, 60, 6)})),
        ("minute", "*/16", [0, 16, 32, 48]),
        ("minute", 0, [0]),
        ("minute", "0-30/5", [0, 5, 10, 15, 20, 25, 30]),
        ("hour", "9-17/4", [9, 13, 17]),
        ("hour", "22-2", [0, 1, 2, 22, 23]),
        ("minute", "50-10/5", [0, 5, 10, 50, 55]),
        ("day_of_week", "0,2", [0, 2]),
        ("day_of_week", 0, [0]),
        ("day_of_week", 7, [0]),
        ("day_of_week", "0-7", [0, 1, 2, 3, 4, 5, 6]),
        ("day_of_week", "0-7/2", [0, 2, 4, 6]),
        ("day_of_week", "1-7/2", [0, 1, 3, 5]),
        ("day_of_week", "5-7", [0, 5, 6]),
        ("day_of_week", "7-2", [0, 1, 2]),
        ("day_of_week", "7-3/2", [0, 2]),
        ("day_of_week", "5-1", [0, 1, 5, 6]),
        ("day_of_week", "1-7", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_field_means_these_values(field: str, given: int | str, wanted: list[int]) -> None:
    assert values(field, given) == wanted


@pytest.mark.parametrize(
    ("fields", "piece"),
    [
        ({"minute": 61}, "61 is not between 0 and 59"),
        ({"minute": -1}, "'-1'"),
        ({"minute": "0-61"}, "61 is not between"),
        ({"day_of_week": "*/3"}, "name the days"),
        ({"day_of_week": 8}, "8 is not between 0 and 7"),
        ({"minute": "abc"}, "'abc'"),
        ({"minute": "*abc"}, "'*abc'"),
        ({"hour": "a-b"}, "'a-b'"),
        ({"day": "1-c"}, "'1-c'"),
        ({"day": 0}, "0 is not between 1 and 31"),
        ({"minute": "0x9"}, "'0x9'"),
        ({"month": "foo"}, "'foo'"),
        ({"month": "jan"}, "'jan'"),
        ({"minute": "0-30/0"}, "the step 0"),
        ({"minute": "*/0"}, "the step 0"),
        ({"minute": "*/100"}, "the step 100"),
        ({"minute": "5/10"}, "'5/10'"),
        ({"minute": "1, 2"}, "' 2'"),
        ({"minute": "5,abc"}, "'abc'"),
        ({"minute": ""}, "''"),
        ({"minute": True}, "True"),
        ({"minute": 1.5}, "1.5"),
    ],
)
def test_what_is_no_field_is_refused_by_its_name(fields: dict[str, Any], piece: str) -> None:
    with pytest.raises(ValueError, match="crontab") as caught:
        crontab(**fields)
    assert f"crontab({next(iter(fields))}=" in str(caught.value)
    assert piece in str(caught.value)


def test_all_fields_must_match_both_day_fields_too() -> None:
    made = crontab(month="1,5", day="1,4,7", day_of_week="0,6", hour="*/4", minute="1-5,10-15,50")
    schedule = Schedule.parse(made.schedule, "UTC")
    moment = datetime(2011, 5, 1, 4, 11, tzinfo=UTC)
    assert schedule.matches(moment)
    misses = [
        moment.replace(month=6),
        moment.replace(day=2),
        moment.replace(day=4),  # a Wednesday
        moment.replace(hour=5),
        moment.replace(minute=16),
    ]
    assert not any(schedule.matches(each) for each in misses)


def test_hourly_is_minute_nought_and_daily_is_midnight() -> None:
    hourly, daily = (Schedule.parse(each.schedule, "UTC") for each in (crontab.hourly(), crontab.daily()))
    minutes = [START + timedelta(minutes=n) for n in range(24 * 60)]
    assert [each for each in minutes if hourly.matches(each)] == [
        START + timedelta(hours=n) for n in range(24)
    ]
    assert [each for each in minutes if daily.matches(each)] == [START]


def test_a_field_that_cron_reads_alike_keeps_its_text() -> None:
    """Its text decides, by the star, what happens when the clocks change (semantics 3)."""
    assert crontab(minute="*/15", hour="*").text == "*/15 * * * *"
    assert crontab(hour="*/2").text == "* */2 * * *"


def test_a_crontab_that_never_comes_is_refused_as_a_schedule() -> None:
    with pytest.raises(ValueError, match="no date ever matches"):
        Schedule.parse(crontab(minute=0, hour=0, day=30, month=2).schedule, "UTC")
