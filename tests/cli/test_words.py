"""Times, counts and stored text in words."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from jobrunner.cli.words import absolute, ago, ahead, count, how_long, one_line, rfc3339, several_lines
from jobrunner.durations import DAY, HOUR, MINUTE, SECOND
from tests.builders import NOON

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("back", "said"),
    [
        (-SECOND, "0 s ago"),
        (12 * SECOND, "12 s ago"),
        (7 * MINUTE + 59 * SECOND, "7 min ago"),
        (5 * HOUR, "5 h ago"),
        (2 * DAY - SECOND, "1 d ago"),
        (8 * DAY, "Sun 15 Nov"),
        (400 * DAY, "Sun 19 Oct 2025"),
    ],
)
def test_the_past_is_said_coarsely(back: int, said: str) -> None:
    assert ago(NOON - back, NOON, PARIS) == said


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (-SECOND, "now"),
        (48 * SECOND, "in 48 s"),
        (7 * MINUTE, "13:07 (in 7 min)"),
        (18 * HOUR, "Tue 07:00 (in 18 h)"),
        (13 * DAY, "Sun 6 Dec 13:00 (in 13 d)"),
    ],
)
def test_the_future_is_said_with_its_clock(rest: int, said: str) -> None:
    assert ahead(NOON + rest, NOON, PARIS) == said


def test_programs_get_the_offset() -> None:
    assert absolute(NOON, PARIS) == "2026-11-23T13:00:00+01:00"
    assert rfc3339(NOON + 1) == "2026-11-23T12:00:00.000001Z"
    assert rfc3339(None) is None


def test_counts_are_exact_up_to_ten_thousand() -> None:
    assert [count(number) for number in (0, 9999, 10_000, 10_001)] == ["0", "9999", "10,000", "10,000+"]


def test_days_are_counted_in_full() -> None:
    assert [how_long(days * DAY + HOUR) for days in (0, 1, 3)] == ["1 h", "1 day", "3 days"]


def test_stored_text_cannot_speak_to_a_terminal() -> None:  # guarantee S9
    hostile = "a\x1b[31mb\r\x07\x9b\u202ec\n\td"
    assert one_line(hostile) == "a\\x1b[31mb\\r\\x07\\x9b\\u202ec\\n\\td"
    assert several_lines(hostile) == "a\\x1b[31mb\\r\\x07\\x9b\\u202ec\n\td"
    assert several_lines("naïve ✓\n") == "naïve ✓\n"
