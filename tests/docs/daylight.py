"""docs/daylight-saving.md, made from what Debian's cron does and from this project's own schedules:

python -m tests.docs.daylight > docs/daylight-saving.md
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from jobrunner.durations import HOUR, Micros, from_micros, to_micros
from jobrunner.schedule import Schedule

FACTS: Final = Path(__file__).with_name("daylight.json")
"""Starts of Debian's cron 3.0pl1, by zone, night and expression: local times with offset, one for each start.

Those of New York are what the program itself was seen to do; a test holds all of them against a model of its
loop.
"""
BEFORE: Final[Micros] = 2 * HOUR  # how much of a night is shown
AFTER: Final[Micros] = 3 * HOUR
MANY: Final = 6  # starts of a row; more are told by their pace


class Night(NamedTuple):
    """A change of the clocks: the instant, what is lost or repeated, and the expressions that show it."""

    name: str
    change: str
    words: str
    expressions: Sequence[str]


class Place(NamedTuple):
    """A zone and its two nights."""

    zone: str
    nights: Sequence[Night]


def spring(change: str, words: str, *, hour: int, minute: int = 30) -> Night:
    """A night that skips local times; `hour` and `minute` lie in what is skipped."""
    around = ",".join(str(each % 24) for each in (hour - 1, hour, hour + 1))
    around = f"{hour - 1}-{hour + 1}" if 0 < hour < 23 else around
    return Night(
        "spring",
        change,
        words,
        (
            f"{minute} {hour} * * *",
            f"*/20 {hour} * * *",
            f"0-59/20 {hour} * * *",
            f"15 {around} * * *",
            "45 0-23 * * *",
            "30 * * * *",
            "*/10 * * * *",
        ),
    )


def autumn(change: str, words: str, *, hour: int, minute: int = 30) -> Night:
    """A night that repeats local times; `hour` and `minute` lie in what is repeated."""
    once = f"{minute} {hour} * * *"
    return Night("autumn", change, words, (once, "30 * * * *", "*/10 * * * *", "45 0-23 * * *"))


PLACES: Final = (
    Place(
        "America/New_York",
        (
            spring("2025-03-09T07:00+00:00", "02:00 becomes 03:00", hour=2),
            autumn("2025-11-02T06:00+00:00", "02:00 becomes 01:00", hour=1),
        ),
    ),
    Place(
        "Europe/London",
        (
            spring("2025-03-30T01:00+00:00", "01:00 becomes 02:00", hour=1),
            autumn("2025-10-26T01:00+00:00", "02:00 becomes 01:00", hour=1),
        ),
    ),
    Place(
        "Australia/Lord_Howe",
        (
            spring("2025-10-04T15:30+00:00", "02:00 becomes 02:30", hour=2, minute=15),
            autumn("2025-04-05T15:00+00:00", "02:00 becomes 01:30", hour=1, minute=45),
        ),
    ),
    Place(
        "Antarctica/Troll",
        (
            spring("2025-03-30T01:00+00:00", "01:00 becomes 03:00", hour=2),
            autumn("2025-10-26T01:00+00:00", "03:00 becomes 01:00", hour=1),
        ),
    ),
    Place(
        "Africa/Cairo",
        (
            spring("2025-04-24T22:00+00:00", "00:00 becomes 01:00", hour=0),
            autumn("2025-10-30T21:00+00:00", "24:00 becomes 23:00", hour=23),
        ),
    ),
    Place(
        "Pacific/Apia",
        (
            spring("2011-12-30T10:00+00:00", "30 December 2011 is skipped", hour=2),
            autumn("2012-03-31T14:00+00:00", "04:00 becomes 03:00", hour=3),
        ),
    ),
)


def window(night: Night) -> tuple[Micros, Micros]:
    """The instants that are shown, [from, to)."""
    change = to_micros(datetime.fromisoformat(night.change))
    return change - BEFORE, change + AFTER


def ours(zone: str, night: Night, expression: str) -> list[str]:
    """The ticks of this project's schedule, as the facts write them."""
    start, end = window(night)
    schedule = Schedule.parse(expression, zone)
    found: list[str] = []
    tick = schedule.next_us(start - 1)
    while tick is not None and tick < end:
        found.append(local(tick, zone))
        tick = schedule.next_us(tick)
    return found


def local(instant: Micros, zone: str) -> str:
    return from_micros(instant, ZoneInfo(zone)).isoformat(timespec="minutes")


Facts = Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]


def facts() -> Facts:
    """What Debian's cron does: zone, night, expression, starts."""
    read: Facts = json.loads(FACTS.read_text(encoding="utf-8"))
    return read


# ---- the page --------------------------------------------------------------------------------------------

HEAD: Final = """\
# When the clocks change, zone by zone

What Debian's cron does in the night in which the clocks change, and what jobrunner does: the same, but for
times that fall on one instant, which are one tick. cron starts the command once for each of them (`x3`). The
rule is told in [schedules.md](schedules.md#when-the-clocks-change).

The hours of the expressions are those that the zone skips or repeats. Shown are two hours before the change
and three hours after it, in local time. This page is made by `python -m tests.docs.daylight`; a test compares
its columns with each other, with a model of cron's minute loop, and with what the program does.
"""


def page() -> str:
    """The whole page."""
    known = facts()
    parts = [HEAD]
    for place in PLACES:
        parts.append(f"## {place.zone}\n")
        for night in place.nights:
            day = local(window(night)[0] + BEFORE, place.zone)[:10]
            parts.append(f"{day}: {night.words}.\n")
            parts.append(_table(place.zone, night, known[place.zone][night.name]))
    return "\n".join(parts)


def _table(zone: str, night: Night, known: Mapping[str, Sequence[str]]) -> str:
    rows = [f"| {night.name} | Debian's cron | jobrunner |", "|---|---|---|"]
    for expression in night.expressions:
        cron, mine = _cell(known[expression]), _cell(ours(zone, night, expression))
        rows.append(f"| `{expression}` | {cron} | {mine} |")
    return "\n".join(rows) + "\n"


def _cell(starts: Sequence[str]) -> str:
    if not starts:
        return "not at all"
    if len(set(starts)) > MANY:
        return _pace(starts)
    shown = (f"{at[11:]}{f' x{count}' if count > 1 else ''}" for at, count in Counter(starts).items())
    return ", ".join(_without_offset(shown, starts))


def _without_offset(shown: Iterator[str], starts: Sequence[str]) -> Iterator[str]:
    """Offsets are shown where a local time comes twice, or the day changes its offset in between."""
    offsets = {at[16:] for at in starts}
    for text in shown:
        yield text if len(offsets) > 1 else text[:5] + text[11:]


def _pace(starts: Sequence[str]) -> str:
    times = [datetime.fromisoformat(at) for at in dict.fromkeys(starts)]
    gaps = {later - sooner for sooner, later in pairwise(times)}
    assert len(gaps) == 1, "a row of many starts is shown by its pace: it must have one"
    return f"every {gaps.pop() // timedelta(minutes=1)} minutes, without a pause"


if __name__ == "__main__":
    print(page(), end="")
