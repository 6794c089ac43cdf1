"""What holds for every schedule at every moment, tried with random ones (hypothesis prints how to repeat)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from jobrunner.durations import DAY, SECOND, Micros, from_micros, to_micros
from jobrunner.schedule import Schedule, ScheduleError
from jobrunner.schedule.cron import CronNominal
from jobrunner.schedule.fields import Calendar
from jobrunner.schedule.text import parse_expression

from .oracle import Written, daily_expressions, expressions, has_dates, watched

repeatable = settings(
    database=None,
    deadline=None,
    print_blob=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

ZONES = (
    "UTC",
    "America/New_York",
    "Europe/London",
    "Europe/Dublin",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/St_Johns",
    "America/Santiago",
    "America/Havana",
    "Pacific/Apia",
    "Asia/Gaza",
    "Asia/Kathmandu",
)
CHANGES = (
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 10, 29, 21, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 3, 8, 5, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Asia/Pyongyang", datetime(2018, 5, 4, 15, tzinfo=UTC)),
)
zones = st.sampled_from(ZONES)
moments = st.integers(
    to_micros(datetime(2009, 1, 1, tzinfo=UTC)), to_micros(datetime(2037, 1, 1, tzinfo=UTC))
)


def parse(expression: Written, zone: str) -> Schedule:
    try:
        return Schedule.parse(expression.text, zone)
    except ScheduleError:
        assume(False)
        raise


@repeatable
@given(expression=expressions())
def test_a_text_means_its_sets_or_is_refused_because_no_date_matches(expression: Written) -> None:  # rule 2
    fields = parse_expression(expression.text).fields
    if not Calendar(fields).has_dates():
        assert not has_dates(expression)
        with pytest.raises(ScheduleError, match="no date ever matches"):
            Schedule.parse(expression.text, "UTC")
    assert _bits(fields.minutes) == expression.minutes
    assert _bits(fields.hours) == expression.hours
    assert _bits(fields.days) == expression.days
    assert _bits(fields.months) == expression.months
    assert _bits(fields.weekdays) == expression.weekdays
    assert (fields.both_days, fields.wildcard) == (expression.both_days, expression.wildcard)


def _bits(mask: int) -> set[int]:
    return {bit for bit in range(60) if mask >> bit & 1}


@repeatable
@given(expression=daily_expressions(), change=st.sampled_from(CHANGES), shift=st.integers(-300, 300))
@example(
    expression=Written(
        text="30 2 * * *",
        minutes={30},
        hours={2},
        days=set(range(1, 32)),
        months=set(range(1, 13)),
        weekdays=set(range(7)),
        both_days=True,
        wildcard=False,
    ),
    change=CHANGES[0],
    shift=0,
)
def test_ticks_around_a_change_are_those_of_a_watched_clock(
    expression: Written, change: tuple[str, datetime], shift: int
) -> None:  # rule 3
    zone, moment = change
    schedule = parse(expression, zone)
    start = moment + timedelta(minutes=shift - 400)
    stop = moment + timedelta(minutes=shift + 400)
    expected = watched(expression, ZoneInfo(zone), start, stop)
    found, at = [], schedule.next_after(start)
    while at is not None and at <= stop:
        found.append(at.astimezone(UTC))
        at = schedule.next_after(at)
    assert found == expected
    assert schedule.count(start, stop) == len(expected)
    backwards, at = [], schedule.previous_before(stop + timedelta(microseconds=1))
    while at is not None and at > start:
        backwards.append(at.astimezone(UTC))
        at = schedule.previous_before(at)
    assert backwards[::-1] == expected


@repeatable
@given(expression=expressions(), zone=zones, after=moments)
def test_next_is_later_and_previous_leads_back(
    expression: Written, zone: str, after: Micros
) -> None:  # rule 3
    schedule = parse(expression, zone)
    tick = schedule.next_us(after)
    assert tick is not None
    assert tick > after
    assert tick % SECOND == 0
    assert schedule.count_us(after, tick) == 1
    following = schedule.next_us(tick)
    assert following is not None
    assert schedule.previous_us(following) == tick
    assert schedule.matches(from_micros(tick))
    between = schedule.previous_us(tick)
    assert between is None or between <= after


@repeatable
@given(expression=expressions(), zone=zones, a=moments, b=moments, c=moments)
def test_counts_add_up(expression: Written, zone: str, a: Micros, b: Micros, c: Micros) -> None:  # rule 6
    schedule = parse(expression, zone)
    a, b, c = sorted((a, b, c))
    assert schedule.count_us(a, b) + schedule.count_us(b, c) == schedule.count_us(a, c)


@repeatable
@given(expression=expressions(), zone=zones, after=moments, span=st.integers(1, 400 * DAY))
def test_a_listing_is_as_long_as_its_count(expression: Written, zone: str, after: Micros, span: int) -> None:
    schedule = parse(expression, zone)
    count = schedule.count_us(after, after + span)
    ticks = schedule.ticks(from_micros(after), min(count, 60))
    assert len(ticks) == min(count, 60)
    assert all(earlier.astimezone(UTC) < later.astimezone(UTC) for earlier, later in pairwise(ticks))
    if count <= 60:
        assert not ticks or to_micros(ticks[-1]) <= after + span
        following = schedule.next_us(to_micros(ticks[-1]) if ticks else after)
        assert following is None or following > after + span


@repeatable
@given(expression=expressions(), wall=st.integers(0, 4_000_000_000))
def test_the_library_and_the_bit_sets_agree(expression: Written, wall: int) -> None:  # rule 2
    fields = parse_expression(expression.text).fields
    calendar = Calendar(fields)
    assume(calendar.has_dates())
    nominal = CronNominal(fields, calendar)
    assert nominal.after(wall) == calendar.after(wall)
    assert nominal.before(wall) == calendar.before(wall)


@settings(repeatable, max_examples=40)  # it walks second by second where a field is `*`
@given(expression=expressions(), after=moments)
def test_cronsim_agrees_in_utc(expression: Written, after: Micros) -> None:  # rule 2
    assume("-" not in expression.text)  # it refuses ranges that wrap
    schedule = parse(expression, "UTC")
    start = from_micros(after - after % SECOND)
    other = CronSim(expression.text, start)
    assert schedule.ticks(start, 3) == [next(other) for _ in range(3)]


@repeatable
@given(
    period=st.integers(1, 10**6).map(lambda tenths: tenths * 100_000),
    offset=st.integers(0, 10**6),
    after=moments,
    steps=st.integers(0, 10**6),
)
def test_an_interval_is_arithmetic(period: Micros, offset: int, after: Micros, steps: int) -> None:
    offset %= period // 100_000
    source = {"every": period / SECOND, "offset": offset * 100_000 / SECOND}
    schedule = Schedule.parse(source, "UTC")
    tick = schedule.next_us(after)
    assert tick is not None
    assert 0 < tick - after <= period
    assert (tick - offset * 100_000) % period == 0
    assert schedule.previous_us(tick + 1) == tick
    assert schedule.count_us(after, tick + steps * period) == steps + 1
