"""Every form in which a schedule may be written, and what the value is."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

import pytest

from jobrunner.durations import DAY, SECOND, to_micros
from jobrunner.schedule import Schedule, ScheduleError, cron, forget_zones, spread, text, zone

START = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("nickname", "text"),
    [
        ("hourly", "0 * * * *"),
        ("daily", "0 0 * * *"),
        ("midnight", "0 0 * * *"),
        ("weekly", "0 0 * * 0"),
        ("monthly", "0 0 1 * *"),
        ("yearly", "0 0 1 1 *"),
        ("annually", "0 0 1 1 *"),
    ],
)
def test_a_nickname_is_its_expression_with_or_without_at(nickname: str, text: str) -> None:
    expected = Schedule.parse(text, "Europe/Paris")
    assert Schedule.parse(nickname, "Europe/Paris") == expected
    assert Schedule.parse(f"@{nickname}", "Europe/Paris") == expected
    assert Schedule.parse(f"@{nickname.upper()}", "Europe/Paris") == expected
    assert Schedule.parse({"cron": f"@{nickname}"}, "Europe/Paris") == expected
    assert Schedule.parse(f"@{nickname}", "Europe/Paris").kind == "cron"


def test_an_interval_is_anchored_at_the_epoch() -> None:
    schedule = Schedule.parse("every 90s", "Europe/Paris")
    assert schedule.kind == "every"
    tick = schedule.next_after(START)
    assert tick is not None
    assert to_micros(tick) % (90 * SECOND) == 0
    assert tick.tzinfo == ZoneInfo("Europe/Paris")
    assert (
        schedule == Schedule.parse({"every": "1m30s"}, "UTC") == Schedule.parse({"every": 90}, "Asia/Tokyo")
    )
    assert schedule.key == schedule.text == "every 90s"


def test_an_offset_shifts_an_interval() -> None:
    schedule = Schedule.parse({"every": "90s", "offset": "10s"}, "UTC")
    tick = schedule.next_us(0)
    assert tick == 10 * SECOND
    assert schedule.text == "every 90s offset 10s"
    assert (
        Schedule.parse({"every": 100.5, "offset": "0.0015s"}, "UTC").text == "every 100500ms offset 1.500ms"
    )
    assert schedule.previous_us(tick) == -80 * SECOND


def test_a_moment_happens_once() -> None:
    schedule = Schedule.parse({"at": "2026-12-24T18:00"}, "Europe/Paris")
    assert schedule.kind == "at"
    tick = schedule.next_after(START)
    assert tick is not None
    assert tick.isoformat() == "2026-12-24T18:00:00+01:00"
    assert schedule.next_after(tick) is None
    assert schedule.previous_before(tick) is None
    assert schedule.previous_before(tick + timedelta(microseconds=1)) == tick
    assert schedule.count(START, tick) == 1
    assert schedule.matches(tick)
    assert schedule.ticks(START, 5) == [tick]


def test_a_moment_with_an_offset_is_that_instant_in_every_zone() -> None:
    for moment in ("2026-12-24T18:00+01:00", datetime(2026, 12, 24, 17, tzinfo=UTC)):
        schedule = Schedule.parse({"at": moment}, "Asia/Tokyo")
        assert schedule.next_after(START) == datetime(2026, 12, 24, 17, tzinfo=UTC)
    assert Schedule.parse({"at": date(2026, 12, 24)}, "UTC").next_after(START) == datetime(
        2026, 12, 24, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2027-03-28T02:30", "2027-03-28T03:00:00+02:00"),  # rule 3: in the gap
        ("2027-10-31T02:30", "2027-10-31T02:30:00+02:00"),  # rule 3: the first pass
        ("2027-03-28T03:00:00.5", "2027-03-28T03:00:00.500000+02:00"),
    ],
)
def test_a_moment_without_an_offset_is_a_fixed_time(moment: str, expected: str) -> None:  # rule 3
    tick = Schedule.parse({"at": moment}, "Europe/Paris").next_after(START)
    assert tick is not None
    assert tick.isoformat() == expected


def test_a_moment_that_is_skipped_is_refused() -> None:  # rule 3
    with pytest.raises(ScheduleError, match="2011-12-30T12:00:00 does not exist in Pacific/Apia"):
        Schedule.parse({"at": "2011-12-30T12:00"}, "Pacific/Apia")


@pytest.mark.parametrize("source", ["reboot", "@reboot", {"cron": "@reboot", "args": [1]}])
def test_a_reboot_names_no_moment(source: str | dict[str, object]) -> None:  # rule 11
    schedule = Schedule.parse(source, "UTC")
    assert (schedule.kind, schedule.text, schedule.key) == ("reboot", "reboot", "reboot")
    assert schedule.next_after(START) is None
    assert schedule.previous_before(START) is None
    assert schedule.ticks(START, 3) == []
    assert schedule.count(START, START + timedelta(days=9)) == 0
    assert not schedule.matches(START)


def test_a_mapping_overrides_the_zone_and_keeps_its_arguments_to_itself() -> None:
    source = {"cron": "0 9 * * *", "timezone": "Asia/Tokyo", "args": [1], "kwargs": {"a": 2}}
    schedule = Schedule.parse(source, "Europe/Paris")
    assert schedule.timezone == "Asia/Tokyo"
    assert schedule.next_after(START) == datetime(2026, 11, 24, 0, 0, tzinfo=UTC)


def test_seconds_are_a_field_of_their_own() -> None:
    schedule = Schedule.parse({"cron": "30 2 * * *", "seconds": "*/20"}, "UTC")
    assert [f"{tick:%H:%M:%S}" for tick in schedule.ticks(START, 4)] == [
        "02:30:00",
        "02:30:20",
        "02:30:40",
        "02:30:00",
    ]
    assert schedule.text == "30 2 * * * seconds */20"
    assert schedule != Schedule.parse("30 2 * * *", "UTC")


def test_both_days_can_be_asked_for() -> None:  # rule 2
    ticks = Schedule.parse({"cron": "0 0 13 * 5", "days": "all"}, "UTC").ticks(START, 2)
    assert [f"{tick:%a %d}" for tick in ticks] == ["Fri 13", "Fri 13"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (5, 'not a schedule: got 5, expected text such as "30 2 * * *" or "every 90s", or a mapping'),
        (None, 'not a schedule: got None, expected text such as "30 2 * * *" or "every 90s", or a mapping'),
        ({}, "schedule: got nothing, expected exactly one of the keys cron, every and at"),
        (
            {"cron": "* * * * *", "every": "1m"},
            "schedule: got cron and every, expected exactly one of the keys",
        ),
        ({"crno": "* * * * *"}, "schedule: got crno, expected exactly one of the keys cron, every and at"),
        ({"every": "1m", "seconds": "*"}, "schedule: unknown key 'seconds' beside 'every'"),
        (
            {"cron": "* * * * *", "time_zone": "UTC"},
            "unknown key 'time_zone' beside 'cron'.*did you mean 'timezone'",
        ),
        ({"cron": 5}, 'cron: got 5, expected text such as "30 2 * * *"'),
        ({"cron": "* * * * *", "timezone": 5}, "timezone: got 5, expected a name such as Europe/Paris"),
        ({"cron": "* * * * *", "seconds": "1 2"}, "seconds: got '1 2', expected one cron field"),
        ({"cron": "* * * * *", "seconds": "60"}, "second: 60 is out of range, expected 0 to 59"),
        ({"cron": "* * * * *", "days": "some"}, "days: got 'some', expected any"),
        ({"every": "1ms"}, "every: got '1ms', expected at least 100ms"),
        ({"every": "0"}, "every: got '0', expected at least 100ms"),
        ({"every": "5 parsecs"}, "every: not a duration: got '5 parsecs'"),
        ({"every": [1]}, r"every: got \[1\], expected a duration such as 90s"),
        ({"every": "1m", "offset": "1h"}, "offset: got 1h, expected less than the interval of 1m"),
        ({"at": "soon"}, "at: got 'soon', expected a moment such as 2026-12-24T18:00"),
        ({"at": "2026-13-24"}, "at: got '2026-13-24', expected a moment"),
    ],
)
def test_a_form_that_is_not_one_is_refused(source: object, message: str) -> None:
    with pytest.raises(ScheduleError, match=message.replace("* * *", r"\* \* \*")):
        Schedule.parse(source, "UTC")  # type: ignore[arg-type]


# ---- zones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "help_text"),
    [
        ("Europe/Pariss", "did you mean 'Europe/Paris'?"),
        ("europe/paris", "did you mean 'Europe/Paris'?"),
        ("Paris", "did you mean 'Europe/Paris'?"),
        ("New York", "did you mean 'America/New_York'?"),
        ("Mars/Olympus", "the names are those of the IANA time zone database"),
        ("../../etc/passwd", "the names are those of the IANA time zone database"),
        ("", "the names are those of the IANA time zone database"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_name(name: str, help_text: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.parse("* * * * *", name)
    assert (
        caught.value.message == f"unknown time zone: got {name!r}, expected an IANA name such as Europe/Paris"
    )
    assert caught.value.help == help_text


def test_a_zone_may_be_a_tzinfo() -> None:
    assert Schedule.parse("0 9 * * *", UTC).timezone == "UTC"
    assert Schedule.parse("0 9 * * *", ZoneInfo("Asia/Tokyo")) == Schedule.parse("0 9 * * *", "Asia/Tokyo")
    east = Schedule.parse("0 9 * * *", timezone(timedelta(hours=2)))
    assert east.next_after(START) == datetime(2026, 11, 24, 7, tzinfo=UTC)
    assert Schedule.parse("0 9 * * *", east.timezone) == east


@pytest.mark.parametrize("value", ["Asia/Tokyo", ":Asia/Tokyo", "/usr/share/zoneinfo/Asia/Tokyo"])
def test_without_a_zone_the_machines_own_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TZ", value)
    assert Schedule.parse("0 9 * * *").timezone == "Asia/Tokyo"


def test_the_machines_zone_is_read_from_its_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "zoneinfo" / "Europe"
    folder.mkdir(parents=True)
    (folder / "Oslo").write_bytes(b"")
    link = tmp_path / "localtime"
    link.symlink_to(folder / "Oslo")
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zone, "_LOCALTIME", link)
    assert Schedule.parse("0 9 * * *").timezone == "Europe/Oslo"


def test_without_any_trace_of_a_zone_it_is_utc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", "Nowhere/At_All")
    monkeypatch.setattr(zone, "_LOCALTIME", tmp_path / "absent")
    assert Schedule.parse("0 9 * * *").timezone == "UTC"


def test_the_machines_zone_is_read_from_the_file_when_it_is_no_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied = tmp_path / "localtime"
    copied.write_bytes(resources.files("tzdata.zoneinfo.Asia").joinpath("Tokyo").read_bytes())
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zone, "_LOCALTIME", copied)
    schedule = Schedule.parse("0 9 * * *")
    assert schedule.timezone == "localtime"
    assert schedule.next_after(START) == datetime(2026, 11, 24, 0, 0, tzinfo=UTC)


def test_what_is_no_zone_is_refused() -> None:
    with pytest.raises(ScheduleError, match="not a time zone: got 5"):
        Schedule.parse("* * * * *", 5)  # type: ignore[arg-type]


def test_zones_can_be_forgotten_at_a_reload() -> None:
    before = Schedule.parse("0 9 * * *", "Europe/Paris")
    forget_zones()
    after = Schedule.parse("0 9 * * *", "Europe/Paris")
    assert before == after
    assert before.next_after(START) == after.next_after(START)


# ---- the value --------------------------------------------------------------------------------------------


def test_the_key_is_text_and_zone() -> None:  # rule 7
    paris = Schedule.parse("30  2 * * MON", "Europe/Paris")
    assert (paris.text, paris.timezone) == ("30 2 * * MON", "Europe/Paris")
    assert paris.key == "cron 30 2 * * mon Europe/Paris"
    assert paris == Schedule.parse("30 2 * * mon", "Europe/Paris")
    assert paris != Schedule.parse("30 2 * * mon", "Europe/London")
    assert paris != "30 2 * * mon"
    assert len({paris, Schedule.parse("30 2 * * mon", "Europe/Paris")}) == 1
    assert repr(paris) == "Schedule('30 2 * * MON', 'Europe/Paris')"


def test_a_schedule_can_be_copied_and_sent() -> None:
    schedule = Schedule.parse("30 2 * * *", "Europe/Paris")
    schedule.next_after(START)
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert twin == schedule
        assert twin.next_after(START) == schedule.next_after(START)


def test_a_naive_moment_is_refused() -> None:  # rule 1
    with pytest.raises(ValueError, match="has no zone: expected an aware datetime"):
        Schedule.parse("* * * * *", "UTC").next_after(datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_tick_is_exact_and_strictly_later() -> None:  # rule 3
    schedule = Schedule.parse("* * * * *", "UTC")
    minute = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    almost = minute - timedelta(microseconds=1)
    assert schedule.next_after(almost) == minute
    assert schedule.next_after(minute) == minute + timedelta(minutes=1)
    assert schedule.previous_before(minute) == minute - timedelta(minutes=1)
    assert schedule.previous_before(minute + timedelta(microseconds=1)) == minute
    assert schedule.matches(minute)
    assert not schedule.matches(almost)
    assert schedule.count(almost, minute) == 1
    assert schedule.count(minute, minute) == 0
    assert schedule.count(minute, almost) == 0


def test_a_month_of_missed_seconds_is_counted_not_visited() -> None:  # rule 6
    schedule = Schedule.parse({"cron": "* * * * *", "seconds": "*"}, "Europe/Paris")
    start = to_micros(START)
    assert schedule.count_us(start, start + 30 * DAY) == 30 * 86_400


@pytest.mark.parametrize("zone_name", ["UTC", "Europe/Paris"])
@pytest.mark.parametrize(
    "text", ["0 0 2 1 *", "0 */2 3 1 *", "0 0 3W 1 *", "0 1 L-29 * *", "59 23 30 12 *", "* 1 * 1 *"]
)
def test_at_the_ends_of_the_calendar_there_is_no_tick(zone_name: str, text: str) -> None:
    schedule = Schedule.parse(text, zone_name)
    assert schedule.next_after(datetime(9999, 12, 31, 23, 30, tzinfo=UTC)) is None
    assert schedule.previous_before(datetime(1, 1, 1, 0, 10, tzinfo=UTC)) is None
    assert schedule.previous_us(-(10**18)) is None
    assert schedule.next_us(10**18) is None


def test_the_last_year_runs_out_of_dates() -> None:
    schedule = Schedule.parse("0 12 LW 6 *", "UTC")
    assert schedule.next_after(datetime(9999, 7, 1, tzinfo=UTC)) is None
    assert schedule.previous_before(datetime(1, 5, 1, tzinfo=UTC)) is None
    daily = Schedule.parse("0 12 ? * *", "UTC")
    assert daily.next_after(datetime(9999, 12, 31, 13, tzinfo=UTC)) is None
    assert daily.previous_before(datetime(1, 1, 1, 11, tzinfo=UTC)) is None


def test_the_croniters_that_a_thread_keeps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cron, "_KEPT_PER_THREAD", 2)
    for minute in range(5):
        Schedule.parse(f"{minute} 3 * * *", "UTC").next_after(START)
    assert len(cron._croniters.kept) <= 5


def test_threads_share_a_schedule() -> None:
    schedule = Schedule.parse("*/7 1-5,9 13 * 5", "America/New_York")
    starts = [START + timedelta(hours=7 * number) for number in range(200)]
    expected = [schedule.next_after(start) for start in starts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(schedule.next_after, starts)) == expected


def test_a_spread_is_stable() -> None:
    assert spread("backup", 3600) == spread("backup", 3600)
    assert spread("backup", 0) == 0
    assert {spread(f"task {number}", 9) for number in range(200)} == set(range(10))
    assert spread("backup", 59) == 16  # a promise: it must be the same after every upgrade
    with pytest.raises(ValueError, match="at least 0"):
        spread("backup", -1)


def test_reading_a_schedule_spells_nothing_for_croniter(monkeypatch: pytest.MonkeyPatch) -> None:
    # a file of thousands of them is read in a process that never asks for a tick
    spelt: list[object] = []

    def spell(fields: object) -> str:
        spelt.append(fields)
        return "30 2 * * *"

    monkeypatch.setattr(cron, "_spell", spell)
    schedule = Schedule.parse("30 2 * * *", "UTC")
    assert schedule.describe()
    assert spelt == []
    assert schedule.previous_us(schedule.next_us(0) or 0) is not None
    assert len(spelt) == 1


def test_a_number_is_read_once_for_each_kind_of_field(monkeypatch: pytest.MonkeyPatch) -> None:
    # most fields are `*` or a number; as a month and as an hour the same one may mean something else
    first = Schedule.parse("5 5 5 5 5", "UTC")
    monkeypatch.setattr(text, "_values", _unasked)
    assert Schedule.parse("5 5 5 5 5", "UTC") == first
    with pytest.raises(AssertionError):
        Schedule.parse("5-6 5 5 5 5", "UTC")


def _unasked(*_: object) -> NoReturn:
    raise AssertionError("read again")
