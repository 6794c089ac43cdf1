"""`check` knows from history what a run takes, and warns of a schedule that is faster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobrunner.durations import MINUTE, SECOND, Micros
from tests.builders import NOON, a_run, a_task
from tests.cli.desk import Desk, Stage

FILE = """\
backend: sqlite:///jobs.db
timezone: Europe/Paris
tasks:
  sync:
    command: ./sync.sh
    schedule: "*/5 * * * *"
  often:
    command: ./often.sh
    schedule: [daily, every 1m]
    overlap: allow
  by-hand:
    command: ./x.sh
"""


@pytest.fixture
def took(desk: Desk, stage: Callable[..., Stage]) -> Callable[..., Desk]:
    """A desk with a file, and with so many past runs of a task that took this long."""

    def past(task: str, *durations: Micros) -> Desk:
        (desk.folder / "jobs.yaml").write_text(FILE)
        opened = stage(*(a_task(name) for name in ("sync", "often", "by-hand")))
        for duration in durations:
            [claim] = opened.begun(a_run(task))
            opened.ended(claim, started_at=NOON, ended_at=NOON + duration)
        return desk

    return past


def test_a_schedule_that_is_faster_than_its_task_is_a_warning(took: Callable[..., Desk]) -> None:
    answer = took("sync", *[7 * MINUTE] * 3)("check")
    assert answer.code == 0
    assert answer.out.startswith(
        "jobs.yaml:6:15: warning: schedule: its ticks are 5 m apart, and a run usually takes 7 m:"
        " the ticks in between are skipped\n"
    )
    assert "help: a schedule with more than 7 m between its ticks" in answer.out


def test_the_one_of_several_schedules_is_named_that_is_too_fast(took: Callable[..., Desk]) -> None:
    [problem] = took("often", *[90 * SECOND] * 3)("check", "--json").document["problems"]
    assert (problem["line"], problem["column"], problem["code"]) == (9, 23, "shorter-than-a-run")
    assert problem["message"].endswith("its runs pile up beside one another")


@pytest.mark.parametrize(
    ("task", "durations"),
    [
        ("sync", [7 * MINUTE] * 2),  # too few to be usual
        ("sync", [5 * MINUTE] * 5),  # just fits
        ("sync", [MINUTE, MINUTE, 20 * MINUTE]),  # seldom
        ("by-hand", [7 * MINUTE] * 5),  # no schedule
    ],
)
def test_a_run_that_usually_fits_is_none(
    took: Callable[..., Desk], task: str, durations: list[Micros]
) -> None:
    assert took(task, *durations)("check").out == "jobs.yaml: ok\n"


def test_without_history_nothing_is_known(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text(FILE)
    assert desk("check").out == "jobs.yaml: ok\n"
    assert not (desk.folder / "jobs.db").exists()


def test_a_damaged_history_keeps_nobody_from_checking(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text(FILE)
    (desk.folder / "jobs.db").write_text("not a database")
    assert desk("check").out == "jobs.yaml: ok\n"
