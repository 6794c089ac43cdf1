"""`jobrunner exec`: a task once, in this terminal, as the service would run it."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess

import pytest

from jobrunner.execution.family import process
from tests.live import COMMAND, LiveSupervisor, Project, clean_environment

CALLABLES = """
import os, sys, time
import jobrunner

def told(*args, **kwargs):
    run = jobrunner.current_run()
    print(os.getcwd(), os.environ["COLOUR"], run.task, run.trigger, sys.stdin.read() == "")
    return [list(args), kwargs]

def fails():
    raise ValueError("no such colour")

def leaves():
    sys.exit(7)

def lasts():
    try:
        time.sleep(600)
    finally:
        print("tidied up")
"""
FILE = """
env: {COLOUR: blue}
tasks:
  told: {call: "shop:told", args: [1], kwargs: {a: 2}}
  fails: {call: "shop:fails"}
  leaves: {call: "shop:leaves"}
  lasts: {call: "shop:lasts", timeout: 500ms}
  nowhere: {call: "nowhere:x"}
  command:
    command: |
      pwd; umask; nice; ulimit -n
      echo "$COLOUR $1 $JOBRUNNER_ARG_WHO $JOBRUNNER_TRIGGER"; cat; exit 3
    umask: 0027
    nice: 9
    limits: {nofile: 99}
    cwd: sub
  reads: {command: cat, stdin: "of the task"}
  plain: {command: 'echo "$TMPDIR:$OTHER"'}
  hangs: {command: "trap 'echo asked; exit 5' TERM; sleep 600 & wait", timeout: 500ms}
  waits: {command: "echo ready; sleep 600"}
  missing: {command: no-such-program}
  absent: {command: [no-such-program]}
  killed: {command: 'kill -KILL $$'}
  leftovers: {command: 'sleep 600 & echo $!', kill_after: 1s}
  switched: {command: id, user: USER, cwd: /}
"""


@pytest.fixture
def shop(project: Project) -> Project:
    user = next((each.pw_name for each in pwd.getpwall() if each.pw_uid != 0), "root")
    own = user if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    project.write(FILE.replace("USER", own))
    project.write(CALLABLES, "shop.py")
    (project.folder / "sub").mkdir()
    return project


def test_a_command_finds_everything_that_the_service_gives(shop: Project) -> None:
    done = shop.jobrunner("exec", "command", "--args", '["one"]', "--args", "who=ana", stdin="not for it")
    lines = done.stdout.splitlines()
    assert lines == [str(shop.folder / "sub"), "0027", "9", "99", "blue one ana exec"]
    assert done.returncode == 3


def test_the_input_is_the_tasks_own(shop: Project) -> None:
    assert shop.jobrunner("exec", "reads", stdin="of the terminal").stdout == "of the task"


def test_a_pipeline_is_for_the_service(shop: Project) -> None:
    with shop.file.open("a") as file:
        file.write("pipelines:\n  line: {steps: [{parallel: [told, fails]}, command]}\n")
    done = shop.jobrunner("exec", "line")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'line' is a pipeline: its steps wait for one another in the service" in done.stderr
    assert "jobrunner enqueue line --wait, or one of its steps: jobrunner exec told" in done.stderr


def test_nothing_is_recorded(shop: Project) -> None:
    assert shop.jobrunner("exec", "reads").returncode == 0
    assert not (shop.folder / ".jobrunner").exists()


def test_a_callable_runs_as_in_a_worker_and_its_result_is_printed(shop: Project) -> None:
    done = shop.jobrunner("exec", "told", "--args", "b:=3", stdin="not for it")
    told, result = done.stdout.splitlines()
    assert told == f"{shop.folder} blue told exec True"
    assert json.loads(result) == [[1], {"a": 2, "b": 3}]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("task", "code", "words"),
    [
        ("fails", 1, "ValueError: no such colour"),
        ("leaves", 7, ""),
        ("nowhere", 126, "cannot be imported"),
        ("missing", 127, "command not found; PATH="),
        ("absent", 126, "could not start: cannot run no-such-program"),
        ("killed", 137, "ended by SIGKILL"),
        ("hangs", 124, "not done within its timeout of 500 ms"),
        ("lasts", 124, "TaskTimeout"),
        ("nobody", 4, "no task 'nobody'"),
    ],
)
def test_the_exit_code_says_how_it_ended(task: str, code: int, words: str, shop: Project) -> None:
    done = shop.jobrunner("exec", task, timeout=60)
    assert (done.returncode, words in done.stderr) == (code, True), done


@pytest.mark.parametrize(("task", "words"), [("hangs", "asked\n"), ("lasts", "tidied up\n")])
def test_a_timeout_lets_it_tidy_up(task: str, words: str, shop: Project) -> None:
    assert shop.jobrunner("exec", task, timeout=60).stdout == words


def test_what_it_leaves_behind_is_ended(shop: Project) -> None:
    done = shop.jobrunner("exec", "leftovers", timeout=60)
    assert done.returncode == 0
    left = process(int(done.stdout))
    assert left is None or left.is_dead


def test_term_ends_the_command_too(shop: Project) -> None:
    child = subprocess.Popen(
        [*COMMAND, "exec", "waits"],
        cwd=shop.folder,
        env=clean_environment(shop.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    with child.stdout as stdout:
        assert stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 128 + signal.SIGTERM
        assert stdout.read() == b""  # nobody holds the other end any more


def test_the_environment_can_be_looked_at(shop: Project) -> None:
    done = shop.jobrunner("exec", "command", "--show-env", "--args", "who=an a")
    lines = done.stdout.splitlines()
    assert lines == sorted(lines)
    assert {"COLOUR=blue", "JOBRUNNER_ARG_WHO='an a'", "JOBRUNNER_TASK=command"} <= set(lines)
    assert "with the environment of this terminal" in done.stderr
    document = shop.answer("exec", "told", "--show-env")
    assert (document["COLOUR"], document["JOBRUNNER_TRIGGER"]) == ("blue", "exec")
    assert "NO_COLOR" not in document


def test_the_environment_is_that_of_the_running_service(shop: Project) -> None:
    environment = {**clean_environment(shop.folder), "TMPDIR": "/var/tmp", "OTHER": "secret"}
    supervisor = LiveSupervisor(shop.file, env=environment)
    try:
        supervisor.wait_for("ready")
        done = shop.jobrunner("exec", "plain")
    finally:
        supervisor.close()
    assert (done.stdout, done.stderr) == ("/var/tmp:\n", "")


def test_the_user_is_the_tasks(shop: Project) -> None:
    done = shop.jobrunner("exec", "switched")
    user = next(line for line in shop.file.read_text().splitlines() if "user:" in line)
    assert f"({user.partition('user: ')[2].partition(',')[0]})" in done.stdout
