"""Moments and durations as they are typed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from jobrunner.cli.moments import duration, moment, past
from jobrunner.durations import DAY, HOUR, MINUTE, to_micros
from jobrunner.errors import UsageError
from tests.builders import NOON

PARIS = ZoneInfo("Europe/Paris")  # noon UTC is 13:00 there


def at(text: str) -> int:
    return to_micros(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-23T12:00:00+00:00"),
        ("2026-11-24T02:30:00Z", "2026-11-24T02:30:00+00:00"),
        ("2026-11-24T02:30-05:00", "2026-11-24T02:30:00-05:00"),
        ("2026-11-24T02:30", "2026-11-24T02:30:00+01:00"),
        ("2026-11-24 02:30:15", "2026-11-24T02:30:15+01:00"),
        ("2026-11-24", "2026-11-24T00:00:00+01:00"),
        ("today 02:30", "2026-11-23T02:30:00+01:00"),
        ("tomorrow 02:30", "2026-11-24T02:30:00+01:00"),
        ("yesterday", "2026-11-22T00:00:00+01:00"),
        ("14:05", "2026-11-23T14:05:00+01:00"),
        ("2027-03-28T02:30", "2027-03-28T03:30:00+02:00"),  # inside the gap
    ],
)
def test_a_moment_without_an_offset_is_read_in_the_zone(text: str, expected: str) -> None:
    assert moment(text, "--at", now=NOON, zone=PARIS) == at(expected)


@pytest.mark.parametrize(
    "text", ["7 parsecs", "20261124", "2026-W48", "25:00", "today 2", "2026-02-30", "", "-1d"]
)
def test_what_is_no_moment_is_refused_with_the_forms(text: str) -> None:
    for read in (moment, past):
        with pytest.raises(UsageError, match="--at: not a time") as refused:
            read(text, "--at", now=NOON, zone=PARIS)
        assert "tomorrow 02:30" in refused.value.help


@pytest.mark.parametrize(("text", "back"), [("7d", 7 * DAY), ("2h ago", 2 * HOUR), ("1h30m", 90 * MINUTE)])
def test_the_past_may_be_said_as_a_duration(text: str, back: int) -> None:
    assert past(text, "--since", now=NOON, zone=PARIS) == NOON - back


def test_the_past_may_be_said_as_a_moment() -> None:
    assert past("yesterday 12:00", "--since", now=NOON, zone=None) < NOON
    assert past("2026-11-20", "--since", now=NOON, zone=PARIS) == at("2026-11-20T00:00:00+01:00")


def test_a_wrong_duration_names_its_option() -> None:
    assert duration("1h30m", "--in") == 90 * MINUTE
    with pytest.raises(UsageError, match="--in: not a duration"):
        duration("soon", "--in")
