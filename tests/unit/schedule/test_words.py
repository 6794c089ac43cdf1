"""Schedules in words, their warnings, and the notes on the changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobrunner.schedule import Schedule

NOW = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("30 2 * * *", "02:30 every day"),
        ("*/15 * * * *", "every 15 min"),
        ("0,15,30,45 * * * *", "every 15 min"),
        ("* * * * *", "every minute"),
        ("*/1 * * * *", "every minute"),
        ("0 4 * * sun", "Sun 04:00"),
        ("0 4 * * 1-5", "weekdays 04:00"),
        ("0 4 * * mon,tue,wed,thu,fri", "weekdays 04:00"),
        ("0 4 * * 6,0", "weekends 04:00"),
        ("0 4 * * fri-mon", "Mon, Fri, Sat, Sun 04:00"),
        ("0 * * * *", "every hour"),
        ("@hourly", "every hour"),
        ("30 * * * *", "every hour at :30"),
        ("0,30 * * * *", "every 30 min"),
        ("5,35 * * * *", "every hour at :05 and :35"),
        ("0 */2 * * *", "every 2 h"),
        ("15 */6 * * *", "00:15, 06:15, 12:15 and 18:15 every day"),
        ("10 */4 * * *", "every 4 h at :10"),
        ("0 9-17 * * 1-5", "every hour from 09:00 to 17:00, weekdays"),
        ("*/15 9-17 * * 1-5", "every 15 min from 09:00 to 17:45, weekdays"),
        ("* 9-17 * * *", "every minute from 09:00 to 17:59"),
        ("0 2,14 * * *", "02:00 and 14:00 every day"),
        ("@weekly", "Sun 00:00"),
        ("@monthly", "day 1 of the month 00:00"),
        ("0 0 1,15 * *", "days 1 and 15 of the month 00:00"),
        ("@yearly", "1 Jan 00:00"),
        ("0 3 * 6-8 *", "03:00 every day in Jun, Jul and Aug"),
        ("0 0 L * *", "last day of the month 00:00"),
        ("0 9 LW * *", "last weekday of the month 09:00"),
        ("0 9 * * 5#3", "third Fri of the month 09:00"),
        ("0 9 * * 5L", "last Fri of the month 09:00"),
        ({"cron": "* * * * *", "seconds": "*/10"}, "every 10 s"),
        ({"cron": "* * * * *", "seconds": "*"}, "every second"),
        ("every 90s", "every 90 s"),
        ("every 1m", "every minute"),
        ("every 15m", "every 15 min"),
        ("every 1h", "every hour"),
        ("every 1d", "every day"),
        ("every 500ms", "every 500 ms"),
        ({"every": "90s", "offset": "10s"}, "every 90 s, offset 10 s"),
        ({"at": "2026-12-24T18:00"}, "once, Thu 2026-12-24 18:00"),
        ("@reboot", "at boot"),
        # no common words: the expression itself
        ("*/7 * * * *", "*/7 * * * *"),
        ("0 0 13 * 5", "0 0 13 * 5"),
        ("0 0 */2 * 1", "0 0 */2 * 1"),
        ("1,4,9,16,25 * * * *", "1,4,9,16,25 * * * *"),
        ("0 9,10,11,13,14 * * *", "0 9,10,11,13,14 * * *"),
        ("0 0 * 1-5 1", "0 0 * 1-5 1"),
        ("0 0 * 1-5 *", "0 0 * 1-5 *"),
        ("0 0 1 1,7 *", "0 0 1 1,7 *"),
        ("0 0 1-9 * *", "0 0 1-9 * *"),
        ("0 0 L-3 * *", "0 0 L-3 * *"),
        ("0 0 1,L * *", "0 0 1,L * *"),
        ("0 0 * * 1,5#3", "0 0 * * 1,5#3"),
        ({"cron": "30 2 * * *", "seconds": "5"}, "30 2 * * * seconds 5"),
    ],
)
def test_a_schedule_is_said_in_words(source: str | dict[str, object], words: str) -> None:
    assert Schedule.parse(source, "Europe/Paris").describe() == words


# ---- warnings ---------------------------------------------------------------------------------------------


def remarks(source: str, zone: str = "UTC") -> list[tuple[str, str]]:
    return [(warning.code, warning.message) for warning in Schedule.parse(source, zone).warnings()]


@pytest.mark.parametrize(
    ("text", "code", "message", "help_text"),
    [
        (
            "*/7 * * * *",
            "uneven-step",
            "minute: '*/7' is uneven: the count starts anew with every hour",
            "for a steady interval write: every 7m",
        ),
        (
            "0 0 */2 * *",
            "uneven-step",
            "day of month: '*/2' is uneven: the count starts anew with every month",
            "for a steady interval write: every 2d",
        ),
        (
            "0 0 13 * 5",
            "either-day",
            "day of month and day of week are both given: runs when either of them matches",
            "write '*' for one of them; the first Friday of a month is 5#1",
        ),
        (
            "0 0 1-31 * 1",
            "either-day",
            "both day fields are given and one of them has every day: runs every day",
            "write '*' for the day field that does not matter",
        ),
        (
            "0 0 31 * *",
            "missing-day",
            "day 31: not in Feb, Apr, Jun, Sep, Nov, which the schedule leaves out",
            "write L for the last day of the month",
        ),
        (
            "0 0 30 1-3 *",
            "missing-day",
            "day 30: not in Feb, which the schedule leaves out",
            "write L for the last day of the month",
        ),
        (
            "0 0 29 2 *",
            "missing-day",
            "day 29: February has one only in leap years",
            "write L for the last day of the month",
        ),
        (
            "0 0 */2 * 1",
            "both-days",
            "one of the two day fields begins with '*': a date must match both",
            "write '*' for one of them, if either alone is meant",
        ),
        (
            "0 0 L-30 * *",
            "missing-day",
            "L-30: no such day in Feb, Apr, Jun, Sep, Nov, which the schedule leaves out",
            "L-27 is the furthest that every month has",
        ),
        (
            "0 0 31W * *",
            "missing-day",
            "31W: no day 31 in Feb, Apr, Jun, Sep, Nov, where it is the last workday",
            "write LW for the last workday of every month",
        ),
    ],
)
def test_what_is_odd_is_accepted_with_a_warning(text: str, code: str, message: str, help_text: str) -> None:
    (warning,) = Schedule.parse(text, "UTC").warnings()
    assert (warning.code, warning.message, warning.help) == (code, message, help_text)


@pytest.mark.parametrize(
    "text",
    [
        "*/15 * * * *",
        "5/15 * * * *",
        "*/60 * * * *",
        "0 */6 * * *",
        "0 0 28 * *",
        "0 0 25-31 * *",
        "0 0 31 1,3 *",
        "0 0 15W * *",
        "0 0 L-27 * *",
        "0 0 31W 1,3 *",
    ],
)
def test_what_is_even_has_no_warning(text: str) -> None:
    assert remarks(text) == []


@pytest.mark.parametrize(
    ("text", "codes"),
    [("30 2 * * *", ["dst-gap", "dst-repeat"]), ("30 4 * * *", []), ("* * * * *", []), ("30 2 * 1 *", [])],
)
def test_a_time_inside_a_change_of_the_clocks_is_a_warning(text: str, codes: list[str]) -> None:  # rule 3
    schedule = Schedule.parse(text, "Europe/Paris")
    assert [warning.code for warning in schedule.warnings(NOW)] == codes
    assert Schedule.parse(text, "UTC").warnings(NOW) == ()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Europe/Paris"])
def test_a_single_moment_is_said_to_happen_twice_only_where_it_does(zone: str) -> None:
    # a zone without a change to come has no hour that is repeated
    assert Schedule.parse({"at": "2027-06-01T12:00"}, zone).warnings(NOW) == ()


def test_an_interval_has_no_warnings() -> None:
    assert Schedule.parse("every 7m", "Europe/Paris").warnings(NOW) == ()


# ---- notes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "zone", "notes"),
    [
        (
            "30 2 * * *",
            "Europe/Paris",
            [
                "Sun 2027-03-28 02:30 does not exist: runs at 03:00.",
                "Sun 2027-10-31 02:30 happens twice: runs once.",
            ],
        ),
        (
            "0,30 2 * * *",
            "Europe/Paris",
            [
                "Sun 2027-03-28 02:00 and 1 more do not exist: run once, at 03:00.",
                "Sun 2027-10-31 02:00 and 1 more happen twice: each runs once.",
            ],
        ),
        (
            "*/30 2 * * *",
            "Europe/Paris",
            [
                "Sun 2027-03-28 02:00 and 1 more do not exist: do not run.",
                "Sun 2027-10-31 02:00 and 1 more happen twice: each runs twice.",
            ],
        ),
        (
            "0 0 * * *",
            "America/Santiago",
            ["Sun 2027-09-05 00:00 does not exist: runs at 01:00."],
        ),
        ("30 2 * * *", "UTC", []),
        ("30 * * * *", "Europe/Paris", []),
        ("every 1h", "Europe/Paris", []),
        ({"at": "2027-03-28T02:30"}, "Europe/Paris", ["Sun 2027-03-28 02:30 does not exist: runs at 03:00."]),
        ({"at": "2027-10-31T02:30"}, "Europe/Paris", ["Sun 2027-10-31 02:30 happens twice: runs once."]),
        ({"at": "2027-10-31T02:30+01:00"}, "Europe/Paris", []),
        ({"at": "2027-10-30T02:30"}, "Europe/Paris", []),
    ],
)
def test_notes_say_what_the_next_changes_do(
    source: str | dict[str, object], zone: str, notes: list[str]
) -> None:  # rule 3
    assert list(Schedule.parse(source, zone).notes(NOW)) == notes


def test_a_skipped_day_is_noted() -> None:  # rule 3
    notes = Schedule.parse("0 12 * * *", "Pacific/Apia").notes(datetime(2011, 12, 1, tzinfo=UTC))
    assert notes[0] == "Fri 2011-12-30 12:00 does not exist: does not run."


def test_at_the_end_of_the_calendar_there_is_nothing_to_note() -> None:
    last = datetime(9999, 6, 1, tzinfo=UTC)
    assert Schedule.parse("30 2 * * *", "Europe/Paris").notes(last) == ()
