"""The reference cases: what programs that nobody here wrote make of an expression."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from jobrunner.schedule import Schedule, ScheduleError
from jobrunner.schedule.fields import bits
from jobrunner.schedule.text import parse_expression

pytestmark = pytest.mark.reference

SIX_FIELDS = "cron takes the sixth word for the command; here six fields are refused with both readings"
NEVER = "a date that never comes is refused here"
LARGE_STEP = "a step larger than its field is refused here"
STAR_IN_LIST = "'*' inside a list is refused here"
TWO_DAYS = "'#' beside a restricted day of month is refused here: programs disagree on its meaning"
HASH = "cron stops reading a list at '#'; here it is the number of the week, and the number must exist"
LAX = "cron reads past what it does not understand; here it is refused"

LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys(("C0820", "C0821"), SIX_FIELDS),
    "C1672": NEVER,
    **dict.fromkeys(("C0892", "C0900", "C0952", "C1083", "C1084", "C1101", "C1151"), LARGE_STEP),
    **dict.fromkeys(("C0597", "C0598", "C0601", "C0602"), LARGE_STEP),
    **dict.fromkeys(("C0645", "C0646", "C0655", "C0656", "C1433"), STAR_IN_LIST),
    **dict.fromkeys(("C1467", "C1471", "C1472", "C1474", "C1475"), TWO_DAYS),
    **dict.fromkeys(("C0741", "C0743", "C0747", "C0749", "C0751"), HASH),
    **dict.fromkeys(("C0691", "C0696", "C0847"), LAX),
}


def _folder() -> Path:
    given = os.environ.get("JOBRUNNER_REFERENCE_DATA")
    return Path(given) if given else Path(__file__).resolve().parents[4] / "shared" / "data"


@lru_cache(maxsize=1)
def _cases() -> list[dict[str, Any]]:
    file = _folder() / "cron" / "cases.json"
    if not file.is_file():
        return []
    cases: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return cases


def _of(kind: str) -> list[Any]:
    """The cases of a kind as parameters; one that skips visibly when there is no reference data."""
    cases = [case for case in _cases() if case["kind"] == kind and case["id"] not in LEFT_OUT]
    return _parameters(cases)


def _left_out() -> list[Any]:
    return _parameters([case for case in _cases() if case["id"] in LEFT_OUT])


def _parameters(cases: list[dict[str, Any]]) -> list[Any]:
    if not cases:
        reason = f"no reference data: {_folder()}/cron/cases.json is absent (JOBRUNNER_REFERENCE_DATA)"
        return [pytest.param({}, id="absent", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(case, id=case["id"]) for case in cases]


def _moment(case: dict[str, Any], text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if case.get("tz") else moment.replace(tzinfo=UTC)


def _schedule(case: dict[str, Any]) -> Schedule:
    zone = case.get("tz") or "UTC"
    if zone == "offset-only":
        return Schedule.parse(case["expr"], datetime.fromisoformat(case["start"]).tzinfo)
    return Schedule.parse(case["expr"], zone)


@pytest.mark.parametrize("case", _of("next"))
def test_next_is_what_the_reference_says(case: dict[str, Any]) -> None:  # rules 2, 3
    schedule = _schedule(case)
    start = _moment(case, case["start"])
    expected = [_moment(case, text) for text in case["expected"]]
    assert [tick.isoformat() for tick in schedule.ticks(start, len(expected))] == [
        moment.isoformat() for moment in expected
    ]
    if expected:
        assert schedule.count(start, expected[-1]) == len(expected)
    if "until" in case:
        assert schedule.count(start, _moment(case, case["until"])) == len(expected)


@pytest.mark.parametrize("case", _of("prev"))
def test_previous_is_what_the_reference_says(case: dict[str, Any]) -> None:  # rules 2, 3
    schedule = _schedule(case)
    at, found = _moment(case, case["start"]), []
    for _ in case["expected"]:
        before = schedule.previous_before(at)
        assert before is not None
        found.append(before.isoformat())
        at = before
    assert found == [_moment(case, text).isoformat() for text in case["expected"]]


@pytest.mark.parametrize("case", _of("match"))
def test_matching_is_what_the_reference_says(case: dict[str, Any]) -> None:
    assert _schedule(case).matches(_moment(case, case["start"])) is case["expected"]


@pytest.mark.parametrize("case", _of("expand"))
def test_sets_are_what_the_reference_says(case: dict[str, Any]) -> None:  # rules 2, 3
    expected = case["expected"]
    fields = parse_expression(case["expr"]).fields
    assert bits(fields.minutes) == expected["minute"]
    assert bits(fields.hours) == expected["hour"]
    assert bits(fields.days) == expected["dom"]
    assert bits(fields.months) == expected["month"]
    assert bits(fields.weekdays) == expected["dow"]
    restricted = len(expected["dom"]) < 31 or len(expected["dow"]) < 7
    assert not restricted or fields.both_days is (expected["day_logic"] == "and")
    assert fields.wildcard is (expected["dst_class"] == "wild")


@pytest.mark.parametrize("case", _of("accept"))
def test_what_the_reference_accepts_is_accepted(case: dict[str, Any]) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    assert Schedule.parse(case["expr"], "UTC").count(start, start + timedelta(days=366 * 8)) > 0


@pytest.mark.parametrize("case", _of("reject"))
def test_what_the_reference_rejects_is_rejected(case: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError):
        Schedule.parse(case["expr"], "UTC")


@pytest.mark.parametrize("case", _left_out())
def test_what_is_left_out_is_refused_with_a_reason(case: dict[str, Any]) -> None:
    if LEFT_OUT[case["id"]] == HASH and "#6" not in case["expr"]:
        assert parse_expression(case["expr"]).fields.nth
    else:
        with pytest.raises(ScheduleError):
            Schedule.parse(case["expr"], "UTC")
