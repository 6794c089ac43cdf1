"""The grammar of an expression: what each field means, and the words with which the rest is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from jobrunner.schedule import Schedule, ScheduleError
from jobrunner.schedule.fields import bits
from jobrunner.schedule.text import parse_expression

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("7", [7]),
        ("07", [7]),
        ("5-5", [5]),
        ("1,3,5", [1, 3, 5]),
        ("10-14", [10, 11, 12, 13, 14]),
        ("10-14/2", [10, 12, 14]),
        ("*/15", [0, 15, 30, 45]),
        ("5/15", [5, 20, 35, 50]),  # 5-59/15
        ("59/15", [59]),
        ("58-1", [0, 1, 58, 59]),  # wraps
        ("50-10/10", [0, 10, 50]),  # wraps in step
        ("*/40", [0, 40]),
        ("*/60", [0]),
        ("*/15,59", [0, 15, 30, 45, 59]),
    ],
)
def test_minutes(text: str, minutes: list[int]) -> None:
    assert bits(parse_expression(f"{text} * * * *").fields.minutes) == minutes


@pytest.mark.parametrize(
    ("text", "weekdays"),
    [
        ("0", [0]),
        ("7", [0]),  # 0 and 7 are Sunday (rule 2)
        ("sun", [0]),
        ("MON-Fri", [1, 2, 3, 4, 5]),
        ("5-7", [0, 5, 6]),
        ("fri-mon", [0, 1, 5, 6]),
        ("sat-sun", [0, 6]),
        ("fri-tue/2", [0, 2, 5]),
        ("7-2", [0, 1, 2]),
        ("0-7", [0, 1, 2, 3, 4, 5, 6]),
        ("1/2", [1, 3, 5]),
        ("?", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_weekdays(text: str, weekdays: list[int]) -> None:  # rule 2
    assert bits(parse_expression(f"0 0 * * {text}").fields.weekdays) == weekdays


@pytest.mark.parametrize(
    ("text", "months"), [("jan", [1]), ("nov-feb", [1, 2, 11, 12]), ("*/5", [1, 6, 11]), ("10/2", [10, 12])]
)
def test_months(text: str, months: list[int]) -> None:
    assert bits(parse_expression(f"0 0 1 {text} *").fields.months) == months


def test_hours_wrap_over_midnight() -> None:
    assert bits(parse_expression("0 22-2 * * *").fields.hours) == [0, 1, 2, 22, 23]


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("0 0 13 * 5", False),
        ("0 0 */2 * 1", True),  # odd days AND Monday
        ("0 0 1 * */2", True),
        ("0 0 1-31 * 1", False),  # no star: every day
        ("0 0 1,*/2 * 1", False),  # does not begin with a star
        ("0 0 ? * 1", True),
    ],
)
def test_the_star_rule_joins_the_day_fields(text: str, both: bool) -> None:  # rule 2
    assert parse_expression(text).fields.both_days is both


def dates(text: str, count: int) -> list[str]:
    return [f"{tick:%m-%d}" for tick in Schedule.parse(text, "UTC").ticks(START, count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 L * *", ["01-31", "02-28", "03-31"]),
        ("0 0 15,l * *", ["01-15", "01-31", "02-15"]),
        ("0 0 L-3 * *", ["01-28", "02-25", "03-28"]),
        ("0 0 L-30 * *", ["03-01", "05-01", "07-01"]),  # not the first one: midnight is past
        ("0 0 LW * *", ["01-30", "02-27", "03-31"]),
        ("0 0 15W * *", ["01-15", "02-16", "03-16"]),
        ("0 0 1W * ?", ["02-02", "03-02", "04-01"]),
        ("0 0 31W * *", ["01-30", "02-27", "03-31"]),
        ("0 0 * * 5#3", ["01-16", "02-20", "03-20"]),
        ("0 0 * * FRI#3", ["01-16", "02-20", "03-20"]),
        ("0 0 * * mon-wed#1", ["01-05", "01-06", "01-07"]),
        ("0 0 * * 0#5", ["03-29", "05-31", "08-30"]),
        ("0 0 * * 5L", ["01-30", "02-27", "03-27"]),
        ("0 0 * * L5", ["01-30", "02-27", "03-27"]),
        ("0 0 * * friL", ["01-30", "02-27", "03-27"]),
        ("0 0 * * 7L", ["01-25", "02-22", "03-29"]),
        ("0 0 L * 5", ["01-02", "01-09", "01-16"]),  # either one: no star
        ("0 0 * * 1#1,5L", ["01-05", "01-30", "02-02"]),
    ],
)
def test_days_counted_from_the_end_or_by_week(text: str, expected: list[str]) -> None:
    assert dates(text, 3) == expected


def test_leap_days_come_every_four_years_but_not_in_2100() -> None:
    ticks = Schedule.parse("0 0 29 2 *", "UTC").ticks(datetime(2093, 1, 1, tzinfo=UTC), 2)
    assert [tick.year for tick in ticks] == [2096, 2104]


def test_a_leap_day_on_a_sunday_is_found_forty_years_away() -> None:
    after = datetime(2088, 3, 1, tzinfo=UTC)  # 2088-02-29 is a Sunday, 2100 has none
    assert Schedule.parse("0 0 29 2 */7", "UTC").ticks(after, 1)[0].isoformat() == "2128-02-29T00:00:00+00:00"


def test_or_holds_when_one_side_never_comes() -> None:  # rule 2
    assert dates("0 0 31 2 1", 2) == ["02-02", "02-09"]


@pytest.mark.parametrize("text", ["  30  2 * * *\n", "30\t2 * * *", "30 02 * * *"])
def test_blanks_and_leading_zeros_do_not_matter(text: str) -> None:
    tick = Schedule.parse(text, "UTC").next_after(START)
    assert tick == datetime(2026, 1, 1, 2, 30, tzinfo=UTC)


# ---- H ----------------------------------------------------------------------------------------------------


def test_h_is_stable_and_differs_by_name() -> None:
    one = Schedule.parse("H H * * *", "UTC", name="backup")
    again = Schedule.parse("h h * * *", "UTC", name="backup")
    others = {Schedule.parse("H H * * *", "UTC", name=f"task {number}").key for number in range(50)}
    assert one.key == again.key
    assert len(others) > 45
    assert one.text == "H H * * *"


@pytest.mark.parametrize("name", ["", "a", "backup", "\N{SNOWMAN}"])
def test_h_stays_inside_its_range(name: str) -> None:
    fields = parse_expression("H(10-15) H(0-2) H H H", name=name).fields
    assert set(bits(fields.minutes)) <= set(range(10, 16))
    assert set(bits(fields.hours)) <= {0, 1, 2}
    assert set(bits(fields.days)) <= set(range(1, 29))  # a day that every month has
    stepped = bits(parse_expression("H/15 * * * *", name=name).fields.minutes)
    assert len(stepped) == 4
    assert {later - earlier for earlier, later in pairwise(stepped)} == {15}
    assert len(bits(parse_expression("H(0-29)/10 * * * *", name=name).fields.minutes)) == 3


# ---- refusals ---------------------------------------------------------------------------------------------

FIVE = "expected five: minute hour day-of-month month day-of-week"
SIX = (
    'if seconds come first, write {cron: "30 2 * * *", seconds: "0"}; '
    'if the year comes last, write "0 30 2 * *" (years are not supported)'
)
KNOWN = (
    "known are hourly, daily, midnight, weekly, monthly, yearly, annually, reboot, "
    '"every 90s" and five cron fields'
)
TERM = "expected '*', a number, a range (1-5), a step (*/15) or a list (1,3)"


@pytest.mark.parametrize(
    ("text", "message", "help_text"),
    [
        (
            "0 30 2 * * *",
            f"got six fields in '0 30 2 * * *', {FIVE}",
            SIX,
        ),
        ("* * * *", f"got 4 fields in '* * * *', {FIVE}", 'such as "30 2 * * *" for 02:30 every day'),
        (
            "* * * * * * *",
            f"got 7 fields in '* * * * * * *', {FIVE}",
            'such as "30 2 * * *" for 02:30 every day',
        ),
        (
            "*/90 * * * *",
            "minute: step 90 in '*/90' is larger than the field, expected 1 to 60",
            "for a steady interval write: every 90m",
        ),
        ("*/0 * * * *", "minute: got step 0 in '*/0', expected 1 to 60", ""),
        (
            "1,* * * * *",
            "minute: got '*' inside the list '1,*', expected '*' alone or a list without it",
            "'*' already means every minute; drop the rest, or drop the '*'",
        ),
        (
            "30 2 31 2 *",
            "no date ever matches '30 2 31 2 *': February has no day 31",
            "write L for the last day of the month",
        ),
        (
            "0 0 31 4,6 *",
            "no date ever matches '0 0 31 4,6 *': none of April, June has a day 31",
            "write L for the last day of the month",
        ),
        ("0 0 L-29 2 *", "no date ever matches '0 0 L-29 2 *': no month is long enough", ""),
        (
            "R * * * *",
            f"minute: got 'R', {TERM}",
            "R is drawn anew at every load: write H, which is as even and stays the same",
        ),
        (
            "0~30 * * * *",
            f"minute: got '0~30', {TERM}",
            "a random value is drawn anew at every load: write H(0-30)",
        ),
        ("60 * * * *", "minute: 60 is out of range, expected 0 to 59", ""),
        ("0 24 * * *", "hour: 24 is out of range, expected 0 to 23", ""),
        ("0 0 0 * *", "day of month: 0 is out of range, expected 1 to 31", ""),
        ("0 0 * 13 *", "month: 13 is out of range, expected 1 to 12", ""),
        ("0 0 * * 8", "day of week: 8 is out of range, expected 0 to 7", ""),
        ("0 0 * * MONDAY", f"day of week: got 'MONDAY', {TERM}", "names have three letters: write 'mon'"),
        (
            "0 0 * * Fro",
            "day of week: got 'Fro', expected a name of three letters or a number",
            "did you mean 'fri'?",
        ),
        (
            "0 0 * Mai *",
            "month: got 'Mai', expected a name of three letters or a number",
            "did you mean 'may'?",
        ),
        ("abc * * * *", "minute: got 'abc', expected a number", "numbers run from 0 to 59"),
        ("? * * * *", "minute: got '?', expected it in a day field only", "write '*'"),
        ("-5 * * * *", f"minute: got '-5', {TERM}", "numbers run from 0 to 59"),
        ("1-5/2/2 * * * *", f"minute: got '1-5/2/2', {TERM}", "numbers run from 0 to 59"),
        ("1, * * * *", f"minute: got '', {TERM}", "numbers run from 0 to 59"),
        (
            "* * * * L",
            f"day of week: got 'L', {TERM}",
            "the last Friday of the month is 5L; the last day of the month is L in the day-of-month field",
        ),
        (
            "* * * * 15W",
            f"day of week: got '15W', {TERM}",
            "W belongs into the day-of-month field; Monday to Friday is 1-5",
        ),
        (
            "0 0 * * 5#6",
            "day of week: got number 6 in '5#6', expected 1 to 5",
            "'5#3' is the month's third Friday",
        ),
        (
            "0 0 L-31 * *",
            "day of month: got 'L-31', expected L-1 to L-30",
            "L-3 is three days before the month's last one",
        ),
        (
            "0 0 15W * 5",
            "'15W' needs the other day field free: got '5' beside it, expected '*'",
            "programs disagree on whether both must match: write two schedules",
        ),
        (
            "0 0 1-7 * 1#1",
            "'1#1' needs the other day field free: got '1-7' beside it, expected '*'",
            "programs disagree on whether both must match: write two schedules",
        ),
        ("H(20-10) * * * *", "minute: got 'H(20-10)', expected H(low-high) with low up to high", ""),
        ("0 0 * * *\N{NO-BREAK SPACE}", f"day of week: got '*\\xa0', {TERM}", "numbers run from 0 to 7"),
        (
            "@every 5m",
            "not a schedule: got '@every 5m', expected an interval without @",
            'write "every 5m"',
        ),
        (
            "@every_minute",
            "not a schedule: got '@every_minute', expected five cron fields, a nickname or an interval",
            'write "every 1m"',
        ),
        (
            "@dayly",
            "not a schedule: got '@dayly', expected five cron fields, a nickname or an interval",
            "did you mean 'daily'?",
        ),
        (
            "@noon",
            "not a schedule: got '@noon', expected five cron fields, a nickname or an interval",
            KNOWN,
        ),
        (
            "CRON_TZ=UTC 0 0 * * *",
            "got a zone inside the expression 'CRON_TZ=UTC 0 0 * * *', expected five cron fields",
            'write {cron: "0 0 * * *", timezone: UTC}',
        ),
        (
            "2026-12-24T18:00",
            "not a schedule: got the moment '2026-12-24T18:00', expected five cron fields or an interval",
            "write {at: 2026-12-24T18:00}",
        ),
        ("", "not a schedule: got '', expected five cron fields or an interval", ""),
    ],
)
def test_a_refusal_says_what_got_wanted_and_what_to_write(text: str, message: str, help_text: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.parse(text, "UTC")
    assert (caught.value.message, caught.value.help) == (message, help_text)
    assert caught.value.token in text
    assert str(caught.value) == (f"{message} ({help_text})" if help_text else message)
