"""`jobrunner status`: is it running, what runs, what failed, what is next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobrunner.durations import DAY, HOUR, MINUTE, SECOND
from jobrunner.model import State
from jobrunner.plan import Retries, ScheduleRule, Task
from tests.builders import NOON, a_callable, a_run, a_task
from tests.cli.desk import Desk, Stage

Open = Callable[..., Stage]


def scheduled(text: str, words: str) -> tuple[ScheduleRule, ...]:
    return (ScheduleRule(key=text, source=text, timezone="Europe/Paris", text=text, words=words),)


def tasks() -> list[Task]:
    return [
        a_task("backup", schedules=scheduled("30 2 * * *", "02:30 every day"), retries=Retries(max=3)),
        a_task("cleanup", schedules=scheduled("0 4 * * 0", "Sun 04:00"), description="Old files"),
        a_callable("resize"),
    ]


def test_it_shows_what_runs_what_failed_and_what_is_next(desk: Desk, stage: Open) -> None:
    theatre = stage(*tasks())
    theatre.has_run("backup")
    theatre.has_run("backup", State.FAILED, "exit 1", exit_code=1)
    theatre.has_run("resize", State.RETRYING, "exception OSError", due_at=NOON)
    (again,) = theatre.exchange()
    theatre.ended(again, failures=1)
    theatre.begun(a_run("resize", lane="pool:default", pool="default"))
    theatre.storage.add([a_run("resize", lane="pool:default", pool="default")])
    desk("pause", "cleanup", "--reason", "too hot")
    desk.clock.at += 14 * SECOND
    assert (
        desk("status").shown(desk.folder)
        == """\
● running   jobs.yaml (loaded 2026-11-23T12:58:00+01:00) · pid 4711 on web1 · up since 2026-11-20T13:00:00+01:00 · 4 workers, 1 busy
  storage   sqlite FOLDER/jobs.db · SIZE · 1 queued (oldest 14 s)
  ✗ 1 failing · 1 paused · 24 h: 2 ok, 1 failed, 1 retried

  TASK     SCHEDULE         LAST RUN                                   TOOK  LAST 20  NEXT
✗ backup   02:30 every day  ✗ exit 1, 2026-11-23T13:00:02+01:00        2 s   ✓✗       2026-11-23T13:07:00+01:00
‖ cleanup  Sun 04:00        never                                      —              paused by ana, 2026-11-23T13:00:00+01:00: too hot
● resize   on demand        ● running since 2026-11-23T13:00:00+01:00  —     ↻        1 queued
exit 0
"""  # noqa: E501
    )


def test_on_a_terminal_times_are_relative(desk: Desk, stage: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    theatre = stage(*tasks())
    theatre.has_run("backup", State.FAILED, "exit 1", exit_code=1)
    theatre.begun(a_run("resize", lane="pool:default", pool="default"))
    desk.clock.at += 14 * SECOND
    assert (
        desk("status", "--color", "never", tty=True).shown(desk.folder)
        == """\
● running   jobs.yaml (loaded 12:58, 2 min ago) · pid 4711 on web1 · up 3 days · 4 workers, 1 busy
  storage   sqlite FOLDER/jobs.db · SIZE · 0 queued
  ✗ 1 failing · 24 h: 0 ok, 1 failed, 0 retried

  TASK     SCHEDULE         LAST RUN            TOOK  LAST 20  NEXT
✗ backup   02:30 every day  ✗ exit 1, 12 s ago  2 s   ✗        13:07 (in 6 min)
  cleanup  Sun 04:00        never               —              13:07 (in 6 min)
● resize   on demand        ● running 14 s      —
exit 0
"""
    )


def test_a_run_that_waits_for_its_retry_says_which_and_when(desk: Desk, stage: Open) -> None:
    theatre = stage(*tasks())
    theatre.has_run("backup", State.RETRYING, "exit 1", due_at=NOON + 4 * MINUTE)
    assert "retry 1/3 at 2026-11-23T13:04:00+01:00" in desk("status").out
    assert "retry 1/3 in 4 min" in desk("status", tty=True).out


def test_nobody_there_is_exit_code_3_with_the_line_to_type(desk: Desk, stage: Open) -> None:
    theatre = stage(*tasks())
    theatre.storage.add([a_run("backup")])
    theatre.storage.leave(theatre.owner.id, NOON)
    desk.clock.at += 2 * HOUR + 11 * MINUTE
    assert (
        desk("status").shown(desk.folder)
        == """\
○ stopped   no supervisor has reported on FOLDER/jobs.db since 2026-11-23T13:00:00+01:00 (last: pid 4711 on web1)
  1 run queued: it waits
  start it: jobrunner run jobs.yaml
exit 3
"""  # noqa: E501
    )
    told = desk("status", tty=True)
    assert "no supervisor has reported on" in told.out
    assert "for 2 h 11 min (last: pid 4711 on web1)" in told.out
    answer = desk("status", "--json")
    assert (answer.code, answer.document["running"]) == (3, False)


def test_a_killed_supervisor_is_not_shown_as_alive(desk: Desk, stage: Open) -> None:
    stage(*tasks()).close()  # its lock is gone, and it has not left
    assert desk("status").code == 3


def test_before_the_first_start_there_is_nothing_to_open_or_to_make(desk: Desk) -> None:
    assert (
        desk("status").shown(desk.folder)
        == """\
○ stopped   no supervisor has run on FOLDER/jobs.db yet
  start it: jobrunner run jobs.yaml
exit 3
"""
    )
    assert desk("status", "--json").document["tasks"] == []
    assert list(desk.folder.iterdir()) == []


def test_the_json_document_holds_its_contract(desk: Desk, stage: Open) -> None:
    theatre = stage(*tasks())
    theatre.has_run("backup", State.FAILED, "exit 1", exit_code=1)
    document: dict[str, Any] = desk("status", "--json").document
    assert set(document) >= {"running", "supervisors", "backend", "counts", "tasks", "pools"}
    assert set(document["supervisors"][0]) >= {
        *("id", "host", "pid", "started_at", "heartbeat_at"),
        *("config", "config_hash", "config_error", "draining"),
    }
    backup = document["tasks"][0]
    assert set(backup) >= {
        *("name", "kind", "enabled", "paused", "schedule", "schedule_text", "next_at"),
        *("running", "queued", "last_run", "blocked"),
    }
    assert (backup["next_at"], backup["last_run"]["exit_code"]) == ("2026-11-23T12:07:00Z", 1)
    assert document["counts"]["failed"] == 1
    assert {"name": "commands", "kind": "command", "slots": 8, "busy": 1} in document["pools"]


def test_failing_shows_only_tasks_whose_last_end_was_a_failure(desk: Desk, stage: Open) -> None:
    theatre = stage(*tasks())
    theatre.has_run("backup", State.FAILED, "exit 1")
    theatre.has_run("resize")
    theatre.storage.add([a_run("backup", id="00000000-0000-7000-8000-00000000000c")])
    desk("cancel", "00000000-0000-7000-8000-00000000000c")  # a cancelled run makes no task well
    document = desk("status", "--failing", "--json").document
    assert [each["name"] for each in document["tasks"]] == ["backup"]
    theatre.has_run("backup")
    assert "no task is failing" in desk("status", "--failing").out


def test_one_task_is_shown_with_its_last_runs(desk: Desk, stage: Open) -> None:
    theatre = stage(*tasks())
    theatre.has_run("cleanup")
    answer = desk("status", "cleanup")
    assert answer.code == 0
    assert "Old files" in answer.out
    assert "TRIGGER" in answer.out
    assert "backup" not in answer.out


def test_a_mistyped_task_comes_with_the_nearest_name(desk: Desk, stage: Open) -> None:
    stage(*tasks())
    answer = desk("status", "bakup")
    assert (answer.code, answer.out) == (4, "")
    assert answer.err == "error: no task 'bakup'\nhelp: did you mean 'backup'?\n"


def test_hostile_stored_text_does_not_reach_a_terminal(desk: Desk, stage: Open) -> None:  # guarantee S9
    theatre = stage(*tasks())
    theatre.has_run("backup", State.FAILED, "exception \x1b[2JError")
    for tty in (True, False):
        assert "\x1b[2J" not in desk("status", "--color", "never", tty=tty).out


def test_colour_is_for_terminals_unless_asked_for(desk: Desk, stage: Open) -> None:
    stage(*tasks())
    assert "\x1b[" in desk("status", tty=True).out
    assert "\x1b[" not in desk("status").out
    assert "\x1b[" in desk("status", "--color", "always").out
    desk.environ["NO_COLOR"] = "1"
    assert "\x1b[" not in desk("status", tty=True).out
    assert "\x1b[" in desk("--color", "always", "status").out
    desk.environ.pop("NO_COLOR")
    desk.environ["FORCE_COLOR"] = "1"
    assert "\x1b[" in desk("status").out


def test_older_runs_are_said_by_their_day(desk: Desk, stage: Open) -> None:
    stage(*tasks()).has_run("backup")
    desk.clock.at += 8 * DAY
    assert "✓ Mon 23 Nov" in desk("status", tty=True).out
