"""`jobrunner next` with an expression: it needs no file and no storage."""

from __future__ import annotations

import pytest

from jobrunner.durations import SECOND
from tests.builders import NOON
from tests.cli.desk import Desk


def test_a_fixed_time_inside_a_gap_runs_when_the_gap_ends(desk: Desk) -> None:  # rule 3
    answer = desk(
        "next",
        "30 2 * * *",
        "--tz",
        "America/New_York",
        "--from",
        "2026-03-07T21:00:00-05:00",
        "-n",
        "2",
        "--json",
    )
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert document["ticks"] == ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]
    assert document["expression"] == "30 2 * * *"
    assert document["timezone"] == "America/New_York"
    assert document["text"] == "02:30 every day"
    assert document["notes"][0] == "Sun 2026-03-08 02:30 does not exist: runs at 03:00."


def test_it_reads_like_a_sentence(desk: Desk) -> None:
    answer = desk("next", "30 2 * * *", "--tz", "Europe/Paris", "-n", "2")
    assert answer.shown(desk.folder) == (
        "at 02:30 every day, Europe/Paris\n"
        "  Tue 2026-11-24 02:30:00 +0100   in 13 h 30 min\n"
        "  Wed 2026-11-25 02:30:00 +0100   in 1 d 13 h\n"
        "note: Sun 2027-03-28 02:30 does not exist: runs at 03:00."
        " Sun 2027-10-31 02:30 happens twice: runs once.\n"
        "exit 0\n"
    )


def test_a_nickname_needs_no_file(desk: Desk) -> None:
    answer = desk("next", "daily", "--tz", "UTC", "-n", "1", "--json")
    assert answer.document["ticks"] == ["2026-11-24T00:00:00+00:00"]


def test_every_odd_thing_about_the_text_is_a_note(desk: Desk) -> None:
    answer = desk("next", "*/7 * * * *", "--tz", "UTC", "--json")
    assert len(answer.document["ticks"]) == 5
    assert answer.document["notes"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["1 2 3"], 2, "got 3 fields in '1 2 3'"),
        (["30 2 * * *", "--tz", "Europe/Pariss"], 2, "Europe/Pariss"),
        (["30 2 * * *", "--from", "soon"], 2, "--from: not a time: 'soon'"),
        (["nothing-like-this"], 4, "no task 'nothing-like-this'"),
        (["30 2 * * *", "-n", "0"], 2, "-n"),
    ],
)
def test_a_mistake_has_its_exit_code_and_its_help(
    desk: Desk, arguments: list[str], code: int, said: str
) -> None:
    answer = desk("next", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_with_json_a_mistake_is_a_document_on_stderr(desk: Desk) -> None:
    answer = desk("next", "1 2 3", "--json")
    assert (answer.code, answer.out, answer.error["code"]) == (2, "", "usage")
    assert answer.error["message"].startswith("got 3 fields")
    assert "30 2 * * *" in answer.error["help"]


def test_reboot_says_when_it_fires(desk: Desk) -> None:
    # rule 11
    answer = desk("next", "reboot", "--tz", "UTC")
    assert answer.out.splitlines()[1] == (
        "  once, when the service starts for the first time after each boot of the machine"
    )
    assert desk("next", "reboot", "--json").document["ticks"] == []


def test_a_tick_of_this_very_second_is_now(desk: Desk) -> None:
    desk.clock.at = NOON - SECOND // 2
    assert desk("next", "0 12 * * *", "--tz", "UTC", "-n", "1").out.splitlines()[1].endswith("+0000   now")
