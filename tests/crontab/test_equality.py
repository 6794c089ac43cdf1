"""The model of cron's minute loop, and the year that is compared."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jobrunner.crontabs.equality import (
    Comparison,
    compare,
    compare_all,
    explain,
    moment_of,
    starts,
    stretches_of,
    summary,
)
from jobrunner.crontabs.fields import read_fields
from jobrunner.crontabs.parse import Dialect
from jobrunner.crontabs.write import write
from jobrunner.durations import MINUTE, to_micros
from jobrunner.schedule import Schedule
from tests.crontab.imports import compiled, imported

NEW_YORK = "America/New_York"
AFTER = to_micros(datetime(2025, 1, 1, tzinfo=UTC))


def minute(text: str, zone: ZoneInfo) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=zone)) // MINUTE


def started(expression: str, day: str, zone: str = NEW_YORK) -> list[str]:
    """When Debian's cron starts a command between 01:00 and 04:00 of a day."""
    info = ZoneInfo(zone)
    first, last = minute(f"{day}T00:59", info), minute(f"{day}T04:00", info)
    stretches = stretches_of(info, first, last)
    found = starts(read_fields(expression.split()), stretches)
    return [f"{moment_of(each, info):%H:%M %Z}" for each in found]


def compared(expression: str, zone: str = NEW_YORK, **options: str) -> Comparison:
    sets = read_fields(options.get("cron", expression).split())
    return compare("x", sets, [Schedule.parse(expression, zone)], ZoneInfo(zone), AFTER)


# ---- cron: what the unmodified program was seen to do ----------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["03:00 EDT"]),
        ("*/20 2 * * *", []),
        ("0-59/20 2 * * *", ["03:00 EDT"] * 3),
        ("15 1-3 * * *", ["01:15 EST", "03:00 EDT", "03:15 EDT"]),
        ("45 0-23 * * *", ["01:45 EST", "03:00 EDT", "03:45 EDT"]),
        ("30 * * * *", ["01:30 EST", "03:30 EDT"]),
        ("0 3 * * *", ["03:00 EDT"]),
    ],
)
def test_in_spring_cron_does_this(expression: str, expected: list[str]) -> None:
    assert started(expression, "2025-03-09") == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 1 * * *", ["01:30 EDT"]),
        ("30 * * * *", ["01:30 EDT", "01:30 EST", "02:30 EST", "03:30 EST"]),
        ("*/30 1 * * *", ["01:00 EDT", "01:30 EDT", "01:00 EST", "01:30 EST"]),
        ("45 0-23 * * *", ["01:45 EDT", "02:45 EST", "03:45 EST"]),
    ],
)
def test_in_autumn_cron_does_this(expression: str, expected: list[str]) -> None:
    assert started(expression, "2025-11-02") == expected


def test_a_skipped_day_is_more_than_cron_makes_up_for() -> None:
    zone = ZoneInfo("Pacific/Apia")
    stretches = list(stretches_of(zone, minute("2011-12-29T22:00", zone), minute("2011-12-31T02:00", zone)))
    assert len(stretches) == 2
    assert [
        f"{moment_of(each, zone):%d %H:%M}"
        for each in starts(read_fields(["30", "0-1", "*", "*", "*"]), stretches)
    ] == ["31 00:30", "31 01:30"]


# ---- both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zone", [NEW_YORK, "Europe/London", "Australia/Lord_Howe", "Antarctica/Troll", "UTC"]
)
@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "15 2,5 * * *", "0 0 */2 * 1", "0 0 13 * 5", "1 1 29 2 *"]
)
def test_a_year_shows_no_difference(expression: str, zone: str) -> None:
    found = compared(expression, zone)
    assert found.differences == ()
    assert found.cron == found.jobrunner


@pytest.mark.parametrize("expression", ["*/5 * * * *", "* 1-3 * * *", "*/7 2 * * *"])
def test_a_year_of_many_ticks_shows_no_difference(expression: str) -> None:
    found = compared(expression)
    assert found.differences == ()
    assert found.cron == found.jobrunner


def test_ticks_that_fall_on_one_instant_are_one_here_and_several_there() -> None:
    found = compared("0-59/20 2 * * *")
    (difference,) = found.differences
    assert (difference.cron, difference.jobrunner, found.at_changes) == (3, 1, True)
    assert explain(difference) == "cron starts it 3 times at once, jobrunner once"
    assert summary([found]) == f"a year compared with cron, {found.cron} ticks: 1 difference, at DST"
    assert moment_of(difference.minute, ZoneInfo(NEW_YORK)).isoformat() == "2025-03-09T03:00:00-04:00"


@pytest.mark.parametrize(
    ("cron", "here"),
    [("0 12 * * *", "1 12 * * *"), ("*/5 * * * *", "1-59/5 * * * *"), ("0 0 1 1 *", "0 0 2 1 *")],
)
def test_a_schedule_that_says_something_else_is_found_out(cron: str, here: str) -> None:
    found = compared(here, cron=cron)
    assert found.differences
    assert not found.at_changes
    assert "DST" not in summary([found])


def test_what_cron_never_runs_is_never_run() -> None:
    found = compare("x", None, [], ZoneInfo("UTC"), AFTER)
    assert (found.cron, found.jobrunner, found.differences) == (0, 0, ())


def test_a_whole_crontab_is_compared_as_its_new_file_is_understood(tmp_path: Path) -> None:
    text = (
        "@reboot a\n30 2 * * * b\n0 22-2 * * * c\n0~9 1 * * * d\nCRON_TZ=America/New_York\n0,30 2 * * * e\n"
    )
    found = imported(text, dialect=Dialect.CRONIE)
    plan = compiled(write(found), tmp_path).plan
    assert plan is not None
    by_task = {each.task: each for each in compare_all(found.tasks, plan, AFTER)}
    assert by_task.keys() == {"b", "c", "e"}
    assert (by_task["c"].cron, by_task["c"].jobrunner) == (0, 0)
    assert by_task["e"].timezone == NEW_YORK
    assert len(by_task["e"].differences) == 1
