"""`jobrunner cancel`, `retry`, `pause`, `resume`, `prune`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobrunner.durations import DAY, HOUR, SECOND
from jobrunner.model import State, Trigger
from jobrunner.output import OutputFile, Stream, output_path
from jobrunner.place import output_root
from tests.builders import NOON, a_callable, a_run, a_task
from tests.cli.desk import Desk, Stage

Open = Callable[..., Stage]


@pytest.fixture
def theatre(stage: Open) -> Stage:
    return stage(a_task("backup"), a_callable("resize"))


def states(theatre: Stage) -> list[str]:
    from jobrunner.storage import RunFilter

    return [run.state.value for run in reversed(theatre.storage.runs(RunFilter()))]


def queued(theatre: Stage, task: str = "resize", number: int = 1) -> list[str]:
    runs = [a_run(task, id=f"00000000-0000-7000-8000-{task:0>8}{i:04}") for i in range(number)]
    theatre.storage.add(runs)
    return [run.id for run in runs]


# ---- cancel ----------------------------------------------------------------------------------------------


def test_a_queued_run_is_cancelled_at_once(desk: Desk, theatre: Stage) -> None:
    (run,) = queued(theatre)
    answer = desk("cancel", run)
    assert (answer.code, answer.out, answer.err) == (0, run + "\n", "")
    assert states(theatre) == ["cancelled"]


def test_a_running_run_is_marked_for_its_supervisor(desk: Desk, theatre: Stage) -> None:
    (claim,) = theatre.begun(a_run("backup"))
    answer = desk("cancel", claim.id, "--json")
    assert answer.document == {"cancelled": [], "ending": [claim.id]}
    assert theatre.storage.run(claim.id).cancel_requested
    assert "the supervisor ends it now" in desk("cancel", claim.id).err


def test_all_live_runs_of_a_task_are_cancelled(desk: Desk, theatre: Stage) -> None:
    theatre.has_run("backup")
    mine, other = queued(theatre, "backup", 2), queued(theatre, "resize")
    assert desk("cancel", "backup", "--json").document == {"cancelled": mine[::-1], "ending": []}
    assert theatre.storage.run(other[0]).state is State.QUEUED


def test_queued_spares_what_is_running(desk: Desk, theatre: Stage) -> None:
    theatre.begun(a_run("backup"))
    queued(theatre, "resize", 2)
    assert len(desk("cancel", "--queued").out.splitlines()) == 2
    assert states(theatre) == ["running", "cancelled", "cancelled"]
    answer = desk("cancel", "--queued")
    assert (answer.code, answer.out, answer.err) == (0, "", "nothing to cancel\n")


def test_cancel_and_retry_want_to_know_what(desk: Desk, theatre: Stage) -> None:
    for command in ("cancel", "retry"):
        answer = desk(command)
        assert (answer.code, answer.out) == (2, "")
        assert f"error: {command} what?" in answer.err


def test_a_final_run_is_not_cancelled_again(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("backup")
    answer = desk("cancel", run)
    assert (answer.code, answer.out) == (0, "")
    assert "nothing to cancel" in answer.err


# ---- retry -----------------------------------------------------------------------------------------------


def test_a_retry_is_a_new_run_that_names_the_old_one(desk: Desk, theatre: Stage) -> None:
    failed = theatre.has_run("backup", State.FAILED, "exit 1")
    again = theatre.storage.run(desk("retry", failed).out.strip())
    assert (again.trigger, again.state, again.task) == (Trigger.RETRY, State.QUEUED, "backup")
    assert desk("show", again.id, "--json").document["detail"] == {"retry_of": failed}
    assert f"repeats run {failed}" in desk("show", again.id).out


def test_a_tasks_latest_unsuccessful_run_is_retried(desk: Desk, theatre: Stage) -> None:
    theatre.has_run("backup", State.FAILED, "exit 1")
    latest = theatre.has_run("backup", State.FAILED, "exit 2")
    theatre.has_run("backup")
    (document,) = desk("retry", "backup", "--json").document
    assert document["retry_of"] == latest
    assert desk("retry", "resize").code == 4  # it has no run at all


def test_failed_retries_each_failed_run_once(desk: Desk, theatre: Stage) -> None:
    first = theatre.has_run("backup", State.FAILED, "exit 1")
    second = theatre.has_run("resize", State.FAILED, "timeout")
    document = desk("retry", "--failed", "--json").document
    assert [each["retry_of"] for each in document] == [first, second]
    assert desk("retry", "--failed", "--json").document == []


def test_a_live_run_is_not_retried(desk: Desk, theatre: Stage) -> None:
    (run,) = queued(theatre)
    answer = desk("retry", run)
    assert (answer.code, answer.out) == (2, "")
    assert "only a final run is retried" in answer.err


# ---- pause, resume ---------------------------------------------------------------------------------------


def test_a_pause_holds_until_it_is_ended(desk: Desk, theatre: Stage) -> None:
    assert desk("pause", "backup", "--reason", "moving").out == "paused backup: jobrunner resume backup\n"
    (pause,) = theatre.storage.pauses(NOON)
    assert (pause.target, pause.by, pause.reason, pause.until) == ("task:backup", "ana", "moving", None)
    assert desk("resume", "backup").out == "resumed backup\n"
    assert theatre.storage.pauses(NOON) == []
    answer = desk("resume", "backup")
    assert (answer.code, answer.out, answer.err) == (0, "", "backup was not paused\n")


@pytest.mark.parametrize(
    ("arguments", "target", "until"),
    [
        (["--all"], "all", None),
        (["--pool", "commands"], "pool:commands", None),
        (["backup", "--for", "2h"], "task:backup", "2026-11-23T14:00:00Z"),
        (["backup", "--until", "tomorrow 08:00"], "task:backup", "2026-11-24T07:00:00Z"),
    ],
)
def test_a_pause_says_of_what_and_until_when(
    desk: Desk, theatre: Stage, arguments: list[str], target: str, until: str | None
) -> None:
    document = desk("pause", *arguments, "--json").document
    assert (document["target"], document["until"]) == (target, until)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "which one?"),
        (["backup", "--all"], 2, "which one?"),
        (["backup", "--for", "1h", "--until", "now"], 2, "exclude each other"),
        (["backup", "--until", "yesterday"], 2, "is over"),
        (["bakcup"], 4, "did you mean 'backup'?"),
        (["--pool", "comands"], 4, "did you mean 'commands'?"),
    ],
)
def test_a_mistaken_pause_pauses_nothing(
    desk: Desk, theatre: Stage, arguments: list[str], code: int, said: str
) -> None:
    answer = desk("pause", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert theatre.storage.pauses(NOON) == []


def test_a_resumed_task_may_still_be_paused_with_its_pool(desk: Desk, theatre: Stage) -> None:
    desk("pause", "backup")
    desk("pause", "--pool", "commands")
    assert "note: pool commands is still paused, and backup with it" in desk("resume", "backup").err


# ---- prune -----------------------------------------------------------------------------------------------


def wrote(desk: Desk, run_id: str, *, days_ago: int = 0) -> Path:
    """The output file of a run, last written so many days before noon."""
    root = output_root(desk.url)
    file = OutputFile(root, run_id, 1, max_size=1000)
    file.write(Stream.STDOUT, b"said")
    file.close()
    path = Path(output_path(root, run_id, 1))
    written = (NOON - days_ago * DAY) // SECOND
    os.utime(path, (written, written))
    return path


def test_prune_removes_runs_past_the_retention_with_their_output(desk: Desk, theatre: Stage) -> None:
    output = wrote(desk, theatre.has_run("backup"))
    assert desk("prune", "--json").document == {"removed": 0, "outputs": 0}
    assert output.exists()
    desk.clock.at = NOON + 31 * DAY
    assert desk("prune").out == "removed 1 run, and the output of 0 more\n"
    assert not output.exists()


def test_prune_goes_by_the_files_retention(desk: Desk, theatre: Stage) -> None:
    (desk.folder / "jobs.yaml").write_text("retention: {history: 1h}\ntasks: {}\n")
    theatre.has_run("backup")
    desk.clock.at = NOON + 2 * HOUR
    assert desk("prune", "--json").document == {"removed": 1, "outputs": 0}


def test_prune_removes_output_earlier_than_its_run_and_by_the_tasks_own_word(
    desk: Desk, theatre: Stage
) -> None:
    (desk.folder / "jobs.yaml").write_text("""
retention: {output: 14d}
tasks:
  backup: {command: "true"}
  resize: {command: "true", output: {keep: 20d}}
""")
    old = wrote(desk, theatre.has_run("backup"), days_ago=15)
    kept = wrote(desk, theatre.has_run("resize"), days_ago=15)
    assert desk("prune", "--json").document == {"removed": 0, "outputs": 1}
    assert (old.exists(), kept.exists()) == (False, True)
