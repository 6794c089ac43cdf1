"""`jobrunner history`, `show`, `list`: runs and tasks as tables and as documents."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from jobrunner.durations import HOUR, SECOND
from jobrunner.model import Reason, State, Trigger
from jobrunner.plan import Retries, ScheduleRule
from tests.builders import NOON, a_callable, a_run, a_task
from tests.cli.desk import Desk, Stage, a_result

Open = Callable[..., Stage]

RUN_FIELDS = {
    *(
        "id",
        "task",
        "state",
        "reason",
        "trigger",
        "tick",
        "due_at",
        "created_at",
        "started_at",
        "finished_at",
    ),
    *("duration", "attempt", "max_attempts", "exit_code", "signal", "outcome", "error", "result", "priority"),
    *("args", "kwargs", "pipeline", "pool", "host"),
}
ATTEMPT_FIELDS = {
    *("number", "outcome", "started_at", "finished_at", "duration"),
    *("exit_code", "signal", "error", "host", "pid"),
}
NIGHTLY = ScheduleRule(
    key="30 2 * * *", source="30 2 * * *", timezone="UTC", text="30 2 * * *", words="02:30 every day"
)


@pytest.fixture
def theatre(stage: Open) -> Stage:
    backup = a_task("backup", retries=Retries(max=1), schedules=(NIGHTLY,), description="Nightly dump")
    return stage(backup, a_callable("resize"))


# ---- history ---------------------------------------------------------------------------------------------


def test_history_lists_runs_newest_first(desk: Desk, theatre: Stage) -> None:
    theatre.has_run("backup")
    theatre.has_run("backup", State.FAILED, "exit 3", exit_code=3)
    skipped = a_run("backup", state=State.SKIPPED, reason=Reason.MISSED_DOWN.value, trigger=Trigger.SCHEDULE)
    fold = json.dumps({"from": NOON - HOUR, "to": NOON, "count": 31})
    theatre.storage.add([skipped._replace(detail=fold, tick=NOON)])
    theatre.storage.add([a_run("resize", state=State.SCHEDULED, due_at=NOON + HOUR)])
    assert (
        desk("history").shown(desk.folder)
        == """\
  RUN                                   TASK    RESULT                                  TRIGGER   WHEN                       TOOK  TRIES
◷ RUN-ID······························  resize  scheduled                               enqueue   2026-11-23T14:00:00+01:00  —
- RUN-ID······························  backup  skipped: missed (supervisor down) x 31  schedule  2026-11-23T13:00:00+01:00  —
✗ RUN-ID······························  backup  exit 3                                  enqueue   2026-11-23T13:00:02+01:00  2 s   1
✓ RUN-ID······························  backup  ok                                      enqueue   2026-11-23T13:00:02+01:00  2 s   1
exit 0
"""  # noqa: E501
    )


def test_history_as_json_is_a_list_of_runs(desk: Desk, theatre: Stage) -> None:
    theatre.has_run("resize", result=a_result({"size": (8, 6), "tags": {"b", "a"}, "raw": b"\0"}))
    (document,) = desk("history", "--json").document
    assert set(document) >= RUN_FIELDS
    assert document["result"] == {"size": [8, 6], "tags": ["a", "b"], "raw": "AA=="}
    assert (document["started_at"], document["duration"]) == ("2026-11-23T12:00:00Z", 2.0)
    assert (document["attempt"], document["max_attempts"]) == (1, 1)


def test_history_filters(desk: Desk, theatre: Stage) -> None:
    old = theatre.has_run("backup")
    theatre.storage.add([a_run("backup", id="00000000-0000-7000-8000-0000000000aa", created_at=NOON + HOUR)])
    desk.clock.at = NOON + 2 * HOUR

    def ids(*options: str) -> list[str]:
        return [each["id"][-2:] for each in desk("history", *options, "--json").document]

    assert ids("--since", "90m") == ["aa"]
    assert ids("--until", "90m") == [old[-2:]]
    assert ids("--state", "succeeded", "--state", "failed") == [old[-2:]]
    assert ids("--trigger", "schedule") == []
    assert ids("resize") == []
    assert ids("backup", "-n", "1") == ["aa"]


def test_history_of_an_unknown_task_is_exit_code_4(desk: Desk, theatre: Stage) -> None:
    answer = desk("history", "bakcup")
    assert (answer.code, answer.out) == (4, "")
    assert "did you mean 'backup'?" in answer.err


def test_history_of_nothing_is_empty(desk: Desk) -> None:
    assert desk("history").out == "no runs\n"
    assert desk("history", "--json").document == []


def test_a_run_whose_payload_cannot_be_read_is_still_listed(desk: Desk, theatre: Stage) -> None:
    theatre.storage.add([a_run("resize", payload="{broken")])
    (document,) = desk("history", "--json").document
    assert (document["args"], document["kwargs"]) == (None, None)
    assert desk("history").code == 0
    assert desk("show", document["id"]).code == 0


# ---- show RUN --------------------------------------------------------------------------------------------


def test_show_tells_every_attempt(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run(
        "backup", State.RETRYING, "exit 3", exit_code=3, error="disk\x1b[2J full", due_at=NOON
    )
    (again,) = theatre.exchange()
    theatre.ended(again, failures=1, exit_code=0)
    document = desk("show", run, "--json").document
    assert set(document) >= RUN_FIELDS | {"attempts"}
    first, second = document["attempts"]
    assert set(first) >= ATTEMPT_FIELDS
    assert [(a["number"], a["outcome"], a["exit_code"]) for a in (first, second)] == [
        (1, "exit 3", 3),
        (2, "ok", 0),
    ]
    assert (first["error"], first["duration"]) == ("disk\x1b[2J full", 2.0)
    page = desk("show", run).out
    assert "attempt   2 of 2" in page
    assert "exit 3" in page


def test_a_run_is_found_by_a_unique_beginning_or_ending(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("resize")
    for shortened in (run, run[-8:], run[:-2]):
        assert desk("show", shortened, "--json").document["id"] == run


def test_what_is_neither_task_nor_run_is_exit_code_4(desk: Desk, theatre: Stage) -> None:
    for command in ("show", "logs", "cancel", "retry"):
        answer = desk(command, "resise", "--json")
        assert (answer.code, answer.out) == (4, "")
        assert answer.error == {
            "code": "not-found",
            "message": "no task or run 'resise'",
            "help": "did you mean 'resize'?",
        }


def test_errors_with_control_characters_are_shown_as_escapes_on_a_terminal(
    desk: Desk, theatre: Stage
) -> None:
    run = theatre.has_run("resize", State.FAILED, "exception Boom", error="line\n\x1b[2Jline")
    assert "line\n\\x1b[2Jline" in desk("show", run, "--color", "never", tty=True).out


# ---- list, show NAME -------------------------------------------------------------------------------------


def test_list_shows_what_was_published(desk: Desk, theatre: Stage) -> None:
    assert desk("list").out == (
        "TASK    SCHEDULE         KIND     POOL      DESCRIPTION\n"
        "backup  02:30 every day  command  commands  Nightly dump\n"
        "resize  on demand        call     default\n"
    )
    document = desk("list", "--json").document
    assert document["timezone"] == "Europe/Paris"
    assert [each["name"] for each in document["tasks"]] == ["backup", "resize"]
    assert document["tasks"][0]["next_at"] == "2026-11-23T12:07:00Z"


def test_list_reads_the_file_when_nothing_was_published(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text("tasks:\n  hello: {command: echo hello, schedule: every 1m}\n")
    assert "hello  every minute  command" in desk("list").out


def test_show_says_where_each_setting_comes_from(desk: Desk, theatre: Stage) -> None:
    (desk.folder / "jobs.yaml").write_text(
        'defaults: {timeout: 90m}\ntasks:\n  backup:\n    command: echo hi\n    schedule: "30 2 * * *"\n'
        "    retries: {max: 2, delay: 30s}\n"
    )
    theatre.has_run("backup")
    document = desk("show", "backup", "--json").document
    settings = {each["key"]: each for each in document["settings"]}
    assert settings["timeout"] == {"key": "timeout", "value": 5400.0, "origin": "jobs.yaml:1 (defaults)"}
    assert settings["kill_after"] == {"key": "kill_after", "value": 10.0, "origin": "default"}
    assert settings["schedule"]["origin"] == "jobs.yaml:5"
    assert settings["retries"]["value"]["delay"] == 30.0
    assert settings["retries"]["value"]["jitter"] == 0.1  # a share, no duration
    assert document["last_run"]["state"] == "succeeded"
    page = desk("show", "backup").out
    assert "1h30m" in page
    assert '"delay": "30s"' in page
    assert "next: 2026-11-23T13:07:00+01:00" in page


def test_show_of_a_storage_without_a_file_tells_what_was_published(desk: Desk, theatre: Stage) -> None:
    document = desk("--backend", desk.url, "show", "backup", "--json").document
    settings = {each["key"]: each["value"] for each in document["settings"]}
    assert (settings["description"], settings["pool"]) == ("Nightly dump", "commands")


def test_the_next_tick_of_a_task_is_a_moment_ahead(desk: Desk, theatre: Stage) -> None:
    desk.clock.at += SECOND
    assert "next: 13:06" not in desk("show", "--backend", desk.url, "backup", tty=True).out
