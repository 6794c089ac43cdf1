"""Durations, sizes and instants: what is read, what is refused, what is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner.durations import (
    DAY,
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    WEEK,
    DurationError,
    SizeError,
    format_duration,
    format_size,
    from_micros,
    parse_duration,
    parse_size,
    to_micros,
)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("500ms", 500 * MILLISECOND),
        ("90s", 90 * SECOND),
        ("15m", 15 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1h 30m", 90 * MINUTE),
        ("2d", 2 * DAY),
        ("1w", WEEK),
        ("1w2d3h4m5s6ms", WEEK + 2 * DAY + 3 * HOUR + 4 * MINUTE + 5 * SECOND + 6 * MILLISECOND),
        ("5 m", 5 * MINUTE),
        (" 5m ", 5 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("0.001ms", 1),
        ("90", 90 * SECOND),
        ("0", 0),
        (90, 90 * SECOND),
        (1.5, 1_500_000),
        (0.1, 100_000),  # exact: never through binary fractions
        (0, 0),
    ],
)
def test_a_duration_is_read_exactly(given_: str | int | float, expected: int) -> None:
    assert parse_duration(given_) == expected


@pytest.mark.parametrize(
    ("given_", "help_text"),
    [
        ("-5m", "a duration is never negative"),
        (-5, "a duration is never negative"),
        ("1:30", "write 1h30m or 1m30s"),
        ("1M", "months and years differ in length: write days, or 1m for minutes"),
        ("2 months", "months and years differ in length: write days, or 2m for minutes"),
        ("5 parsecs", "units: 1w = 7d, 1d = 24h, 1h = 60m, 1m = 60s, 1s = 1000ms; a bare number is seconds"),
        ("5S", "units: "),
        ("", "units: "),
        ("m", "units: "),
        ("30m1h", "units: "),
        ("1h1h", "units: "),
        ("1h30", "units: "),
        ("\N{SUPERSCRIPT TWO}s", "units: "),
        (True, "units: "),
        (float("nan"), "units: "),
        (float("inf"), "units: "),
    ],
)
def test_what_is_no_duration_is_refused_with_what_to_write(given_: str | int | float, help_text: str) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(given_)
    assert caught.value.message == (
        f"not a duration: got {given_!r}, expected a number with w, d, h, m, s or ms, such as 90s or 1h30m"
    )
    assert caught.value.help.startswith(help_text)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("given_", ["0.0001ms", "99999w", 1e-9, 10**12])
def test_a_duration_has_bounds(given_: str | int | float) -> None:
    with pytest.raises(DurationError):
        parse_duration(given_)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (0, "0 ms"),
        (999, "0 ms"),
        (80 * MILLISECOND, "80 ms"),
        (310 * MILLISECOND, "310 ms"),
        (999_999, "999 ms"),
        (2_100_000, "2.1 s"),
        (4 * SECOND, "4 s"),
        (48_900_000, "48 s"),
        (90 * SECOND, "1 m 30 s"),
        (12 * MINUTE, "12 m"),
        (12 * MINUTE + 40 * SECOND, "12 m"),
        (2 * HOUR, "2 h"),
        (90 * MINUTE, "1 h 30 min"),
        (2 * HOUR + 11 * MINUTE, "2 h 11 min"),
        (17 * HOUR + 58 * MINUTE, "17 h 58 min"),
        (3 * DAY, "3 d"),
        (3 * DAY + 4 * HOUR, "3 d 4 h"),
        (-4 * SECOND, "-4 s"),
    ],
)
def test_a_duration_is_said_in_words(duration: int, words: str) -> None:
    assert format_duration(duration) == words


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("10MiB", 10 * 2**20),
        ("10MB", 10**7),
        ("10 MB", 10**7),
        ("1.5kB", 1500),
        ("512", 512),
        (512, 512),
        ("7B", 7),
    ],
)
def test_a_size_is_read_in_bytes(given_: str | int, expected: int) -> None:
    assert parse_size(given_) == expected


@pytest.mark.parametrize("given_", ["10M", "10 parsecs", "", "-1", -1, True, 1.5, None, "0.5B"])
def test_what_is_no_size_is_refused(given_: str) -> None:
    with pytest.raises(SizeError, match="size"):
        parse_size(given_)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (12_345_678, "12 MB"),
        (10 * 2**20, "10 MiB"),
        (2**30, "1 GiB"),
        (3 * 10**9, "3 GB"),
    ],
)
def test_a_size_is_said_in_words(size: int, words: str) -> None:
    assert format_size(size) == words


def test_an_instant_is_exact_in_every_zone() -> None:  # rule 1
    moment = datetime(2025, 11, 2, 1, 30, 0, 123456, tzinfo=ZoneInfo("America/New_York"), fold=1)
    instant = to_micros(moment)
    assert instant == to_micros(datetime(2025, 11, 2, 6, 30, 0, 123456, tzinfo=UTC))
    back = from_micros(instant, ZoneInfo("America/New_York"))
    assert (back, back.fold) == (moment, 1)
    assert from_micros(0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_naive_moment_is_refused() -> None:  # rule 1
    with pytest.raises(ValueError, match="has no zone: expected an aware datetime"):
        to_micros(datetime(2026, 1, 1))  # noqa: DTZ001


@settings(deadline=None, database=None, print_blob=True)
@given(instant=st.integers(-62_000_000_000_000_000, 253_000_000_000_000_000), minutes=st.integers(-840, 840))
def test_instants_survive_the_way_through_datetime(instant: int, minutes: int) -> None:
    assert to_micros(from_micros(instant, timezone(timedelta(minutes=minutes)))) == instant
