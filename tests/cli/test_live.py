"""Three terminals: the service in one, the command line in the others."""

from __future__ import annotations

import subprocess

import pytest

from tests.live import PATIENCE, Project

JOBS = """\
tasks:
  greet: {command: 'echo "hello ${1:-world}"; exit "${JOBRUNNER_ARG_CODE:-0}"'}
  gate: {command: 'echo begun; read -r _ < gate; echo over; echo aside >&2'}
  sleeper: {command: 'echo asleep; exec sleep 600'}
  add: {call: 'operator:add'}
"""


@pytest.fixture
def live(project: Project) -> Project:
    project.write(JOBS)
    subprocess.run(["mkfifo", str(project.folder / "gate")], check=True)
    project.start()
    return project


def test_wait_prints_what_a_command_or_a_callable_gave(live: Project) -> None:
    said = live.jobrunner("enqueue", "greet", "--args", '["ana"]', "--wait")
    assert (said.returncode, said.stdout, said.stderr) == (0, "hello ana\n", "")
    assert live.jobrunner("enqueue", "add", "--args", "[40, 2]", "--wait").stdout == "42\n"


def test_exit_status_passes_the_commands_code_on(live: Project) -> None:
    done = live.jobrunner("enqueue", "greet", "--args", "code=7", "--wait", "--exit-status")
    assert (done.returncode, done.stdout) == (7, "")
    assert "failed, exit 7" in done.stderr
    assert live.jobrunner("enqueue", "greet", "--args", "code=7", "--wait").returncode == 1


def test_logs_are_followed_until_the_run_is_final(live: Project) -> None:
    run = live.jobrunner("enqueue", "gate").stdout.strip()
    with live.client("logs", "-f", run) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "begun\n"
        (live.folder / "gate").write_text("go\n")
        rest, _ = follower.communicate(timeout=PATIENCE)
    assert sorted(rest.splitlines()) == ["aside", "over"]
    assert follower.returncode == 0


def test_wait_with_logs_shows_the_output_on_stderr_and_the_result_on_stdout(live: Project) -> None:
    with live.client("enqueue", "gate", "--wait", "--logs") as client:
        assert client.stderr is not None
        assert client.stderr.readline() == "begun\n"
        (live.folder / "gate").write_text("go\n")
        out, err = client.communicate(timeout=PATIENCE)
    assert (client.returncode, out) == (0, "begun\nover\n")
    assert sorted(err.splitlines()) == ["aside", "over"]


def test_a_running_run_is_cancelled_and_says_so(live: Project) -> None:
    with live.client("enqueue", "sleeper", "--wait", "--logs", "--json") as client:
        assert client.stderr is not None
        assert client.stderr.readline() == "asleep\n"
        assert live.answer("cancel", "sleeper")["ending"]
        out, _ = client.communicate(timeout=PATIENCE)
    assert client.returncode == 1
    assert '"state": "cancelled"' in out


def test_status_knows_its_supervisor(live: Project) -> None:
    document = live.answer("status")
    assert document["running"] is True
    assert document["supervisors"][0]["config"] == str(live.file)
    assert live.jobrunner("status").stdout.startswith("● running   jobs.yaml (loaded ")


def test_once_runs_what_is_queued_and_ends(project: Project) -> None:
    project.write(JOBS)
    assert project.jobrunner("run", "--once").returncode == 0
    run = project.jobrunner("enqueue", "greet").stdout.strip()
    assert project.jobrunner("run", "--drain").returncode == 0
    assert project.answer("show", run)["result"] == "hello world"
    assert project.jobrunner("status").returncode == 3
