"""`jobrunner enqueue`: one run more, and its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from jobrunner.codec import decode_arguments
from jobrunner.durations import MINUTE
from jobrunner.model import Claim, State
from jobrunner.plan import Retries
from tests.builders import NOON, a_callable, a_task
from tests.cli.desk import Answer, Desk, Stage, a_result

Open = Callable[..., Stage]


@pytest.fixture
def theatre(stage: Open) -> Stage:
    return stage(a_task("backup"), a_callable("resize", kwargs={"width": 800}, retries=Retries(max=2)))


def in_the_wings(theatre: Stage, desk: Desk, *arguments: str, **ending: object) -> Answer:
    """Gives a waiting command line while this stage runs what it enqueues."""
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(desk(*arguments)), daemon=True)
    client.start()
    claim: Claim | None = None
    while client.is_alive() and claim is None:
        claim = next(iter(theatre.exchange()), None)
        client.join(0.01)
    assert claim is not None
    theatre.ended(claim, **ending)  # type: ignore[arg-type]
    client.join(60)
    return answers[0]


def test_stdout_is_the_id_and_nothing_else(desk: Desk, theatre: Stage) -> None:
    answer = desk("enqueue", "resize", "--args", '{"image": 42}', "--args", "title=Sea")
    assert (answer.code, answer.err) == (0, "")
    run = theatre.storage.run(answer.out.strip())
    assert answer.out == run.id + "\n"
    assert decode_arguments(run.payload) == ([], {"width": 800, "image": 42, "title": "Sea"})
    assert run.state is State.QUEUED


def test_json_says_when_it_is_due(desk: Desk, theatre: Stage) -> None:
    document = desk(
        "enqueue", "resize", "--in", "10m", "--priority", "7", "--expires", "1h", "--json"
    ).document
    assert set(document) == {"id", "task", "state", "due_at"}
    assert (document["state"], document["due_at"]) == ("scheduled", "2026-11-23T12:10:00Z")
    run = theatre.storage.run(document["id"])
    assert (run.priority, run.expires_at) == (7, NOON + 70 * MINUTE)


def test_a_naive_time_is_in_the_zone_of_the_file(desk: Desk, theatre: Stage) -> None:
    document = desk("enqueue", "resize", "--at", "tomorrow 02:30", "--json").document
    assert document["due_at"] == "2026-11-24T01:30:00Z"  # Paris


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["resiz"], 4, "error: no task 'resiz'\nhelp: did you mean 'resize'?"),
        (["resize", "--in", "1m", "--at", "now"], 2, "--in and --at exclude each other"),
        (["resize", "--in", "soon"], 2, "--in: not a duration"),
        (["resize", "--at", "someday"], 2, "--at: not a time"),
        (["resize", "--timeout", "1s"], 2, "need --wait"),
        (["resize", "--args", "nonsense"], 2, "--args: cannot read 'nonsense'"),
        (["resize", "--piority", "1"], 2, "'--priority'"),
        (["backup", "--args", '["a\\u0000b"]'], 2, "holds a NUL"),
        (["../etc", "--force"], 2, "cannot be the name of a task"),
    ],
)
def test_a_mistake_adds_nothing(
    desk: Desk, theatre: Stage, arguments: list[str], code: int, said: str
) -> None:
    answer = desk("enqueue", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert sum(theatre.storage.overview(NOON).counts.values()) == 0


def test_an_unknown_task_is_enqueued_by_force_and_waits(desk: Desk, theatre: Stage) -> None:  # rule 20
    run = theatre.storage.run(desk("enqueue", "later", "--force").out.strip())
    assert (run.state, run.lane) == (State.QUEUED, "task:later")


def test_without_a_storage_no_typing_error_makes_one(desk: Desk) -> None:
    answer = desk("enqueue", "resize")
    assert answer.code == 4
    assert "no supervisor has run on" in answer.err
    assert "jobrunner run jobs.yaml" in answer.err
    assert list(desk.folder.iterdir()) == []


def test_before_the_first_start_the_file_tells_a_typing_error_from_a_task_to_come(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text("tasks:\n  resize: {command: echo}\n")
    come = desk("enqueue", "resize", "--json")
    assert (come.code, come.error["code"]) == (4, "not-found")
    assert come.error["help"] == f"start it: jobrunner run {desk.folder}/jobs.yaml"
    mistyped = desk("enqueue", "resise")
    assert (mistyped.code, mistyped.err) == (4, "error: no task 'resise'\nhelp: did you mean 'resize'?\n")
    (desk.folder / "jobs.yaml").write_text("tasks:\n  resize: {comand: echo}\n")
    invalid = desk("enqueue", "resize")
    assert invalid.code == 5
    assert "unknown key 'comand'" in invalid.err
    assert [each.name for each in desk.folder.iterdir()] == ["jobs.yaml"]


def test_it_says_when_nobody_is_there_to_run_it(desk: Desk, theatre: Stage) -> None:
    theatre.storage.leave(theatre.owner.id, NOON)
    answer = desk("enqueue", "resize")
    assert answer.code == 0
    assert answer.err == (
        "warning: no supervisor is running; the run waits. Start one: jobrunner run jobs.yaml\n"
    )


def test_it_says_when_the_task_is_paused(desk: Desk, theatre: Stage) -> None:
    desk("pause", "--pool", "default")
    assert "warning: resize is paused" in desk("enqueue", "resize").err
    assert desk("enqueue", "backup").err == ""


# ---- --wait ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "printed"),
    [("done\n", "done\n"), ("done", "done\n"), ({"a": (1, 2)}, '{"a": [1, 2]}\n'), (None, "null\n")],
)
def test_wait_prints_the_result(desk: Desk, theatre: Stage, result: object, printed: str) -> None:
    answer = in_the_wings(theatre, desk, "enqueue", "resize", "--wait", result=a_result(result))
    assert (answer.code, answer.out, answer.err) == (0, printed, "")


def test_wait_prints_nothing_when_no_result_is_kept(desk: Desk, theatre: Stage) -> None:
    answer = in_the_wings(theatre, desk, "enqueue", "resize", "--wait")
    assert (answer.code, answer.out) == (0, "")


def test_a_failed_run_is_exit_code_1_with_its_error(desk: Desk, theatre: Stage) -> None:
    ending = {"state": State.FAILED, "outcome": "exception ValueError", "error": "ValueError: too wide"}
    answer = in_the_wings(theatre, desk, "enqueue", "resize", "--wait", **ending)
    assert (answer.code, answer.out) == (1, "")
    assert "failed, exception ValueError\nValueError: too wide\n" in answer.err


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ({"exit_code": 0}, 0),
        ({"state": State.FAILED, "outcome": "exit 3", "exit_code": 3}, 3),
        ({"state": State.FAILED, "outcome": "signal SIGKILL", "signal": "SIGKILL"}, 137),
        ({"state": State.FAILED, "outcome": "could not start"}, 1),
    ],
)
def test_exit_status_passes_a_commands_own_code_on(
    desk: Desk, theatre: Stage, ending: dict[str, object], code: int
) -> None:
    answer = in_the_wings(theatre, desk, "enqueue", "backup", "--wait", "--exit-status", **ending)
    assert answer.code == code


def test_wait_with_json_prints_the_run(desk: Desk, theatre: Stage) -> None:
    answer = in_the_wings(theatre, desk, "enqueue", "resize", "--wait", "--json", result=a_result(7))
    document = answer.document
    assert (document["state"], document["result"], document["max_attempts"]) == ("succeeded", 7, 3)
    assert document["duration"] == 2.0


def test_a_timeout_is_exit_code_124_and_the_run_goes_on(desk: Desk, theatre: Stage) -> None:
    answer = desk("enqueue", "resize", "--wait", "--timeout", "10ms")
    assert (answer.code, answer.out) == (124, "")
    assert "is still queued after 10 ms\nhelp: it goes on: jobrunner show" in answer.err
    told = desk("enqueue", "resize", "--wait", "--timeout", "10ms", "--json")
    assert (told.code, told.document["state"], told.error["code"]) == (124, "queued", "timeout")
    assert theatre.storage.overview(NOON).counts[State.QUEUED] == 2
