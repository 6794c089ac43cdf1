"""The page about the nights in which the clocks change: what it says of cron, and of this project, is so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jobrunner.crontabs.equality import starts, stretches_of
from jobrunner.crontabs.fields import read_fields
from jobrunner.durations import DAY, HOUR, MINUTE

from .daylight import PLACES, Night, facts, local, ours, page, window

PAGE = Path(__file__).parents[2] / "docs" / "daylight-saving.md"
FACTS = facts()

# As the program itself was seen to do it: New York, 2025.
SEEN = {
    ("spring", "30 2 * * *"): ["03:00"],
    ("spring", "*/20 2 * * *"): [],
    ("spring", "0-59/20 2 * * *"): ["03:00", "03:00", "03:00"],
    ("spring", "15 1-3 * * *"): ["01:15", "03:00", "03:15"],
    ("autumn", "30 1 * * *"): ["01:30"],
    ("autumn", "30 * * * *"): ["00:30", "01:30", "01:30", "02:30", "03:30"],
    ("autumn", "45 0-23 * * *"): ["00:45", "01:45", "02:45", "03:45"],
}


def rows() -> Iterator[tuple[str, Night, str]]:
    for place in PLACES:
        for night in place.nights:
            yield from ((place.zone, night, expression) for expression in night.expressions)


every_row = pytest.mark.parametrize(
    ("zone", "night", "expression"), list(rows()), ids=[f"{z}-{n.name}-{e}" for z, n, e in rows()]
)


@every_row
def test_a_row_is_cron_s_but_for_starts_of_one_instant(zone: str, night: Night, expression: str) -> None:
    # rule 3: the rule of Debian's cron, exactly, with one difference
    cron = FACTS[zone][night.name][expression]
    assert ours(zone, night, expression) == list(dict.fromkeys(cron))


@every_row
def test_the_column_of_cron_is_what_a_model_of_its_loop_does(
    zone: str, night: Night, expression: str
) -> None:
    start, end = window(night)
    stretches = stretches_of(ZoneInfo(zone), (start - DAY) // MINUTE, (end + HOUR) // MINUTE)
    modelled = starts(read_fields(expression.split()), stretches)
    shown = [local(minute * MINUTE, zone) for minute in modelled if start <= minute * MINUTE < end]
    assert shown == FACTS[zone][night.name][expression]


@pytest.mark.parametrize(("night", "expression"), list(SEEN))
def test_new_york_is_what_the_program_was_seen_to_do(night: str, expression: str) -> None:
    shown = [at[11:16] for at in FACTS["America/New_York"][night][expression]]
    assert shown == SEEN[night, expression]


def test_every_fact_is_shown() -> None:
    known = {
        (zone, night, row) for zone, nights in FACTS.items() for night in nights for row in nights[night]
    }
    assert known == {(zone, night.name, expression) for zone, night, expression in rows()}


def test_the_page_is_what_the_command_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "python -m tests.docs.daylight > docs/daylight-saving.md"
    )
