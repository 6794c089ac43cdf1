"""The edge of the program: exit codes, streams, errors, start-up; in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest

from jobrunner.cli.root import DOORS
from tests.builders import a_task
from tests.cli.desk import Desk, Stage
from tests.live import PATIENCE, Project, clean_environment

Open = Callable[..., Stage]

LIBRARIES = ("pydantic", "croniter", "watchfiles", "yaml")
SLOW = ("asyncio", "multiprocessing", "pathlib", "hashlib", "subprocess", "difflib")  # of Python's own
HEAVY = (*LIBRARIES, *SLOW)
LIST_MODULES = """
import sys
from jobrunner.cli import main
code = main(sys.argv[1:])
print("\\n".join(sys.modules), file=sys.stderr)
sys.exit(code)
"""
JOBS = "tasks:\n  hello: {command: echo hello}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["enqueue", "--force", "hello"], ["status"], ["history"]])
def test_short_commands_load_no_heavy_library(project: Project, arguments: list[str]) -> None:
    project.write(JOBS)
    project.jobrunner("enqueue", "--force", "hello")  # the storage is there
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *arguments],
        cwd=project.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout
    loaded = {name.partition(".")[0] for name in done.stderr.splitlines()}
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("command", list(DOORS))
def test_every_command_explains_itself(desk: Desk, command: str) -> None:
    answer = desk(command, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"Usage: jobrunner {command}")
    for option in ("--config", "--backend", "--color", "--json", "--help"):
        assert option in answer.out


def test_without_a_command_the_help_is_talk(desk: Desk) -> None:
    answer = desk()
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: jobrunner" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["statsu"], "No such command 'statsu'. Did you mean 'status'?"),
        (["status", "--wach"], "--watch"),
        (["status", "--color", "maybe"], "--color"),
        (["enqueue"], "TASK"),
        (["history", "--state", "lost"], "--state"),
        (["run", "--once", "--drain"], "--once and --drain exclude each other"),
        (["--backend", "nonsense", "status"], "nonsense"),
        (["--backend", "mysql://host/db", "status"], "mysql"),
    ],
)
def test_wrong_use_is_exit_code_2_without_a_traceback(desk: Desk, arguments: list[str], said: str) -> None:
    answer = desk(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "Traceback" not in answer.err
    document = desk(*arguments, "--json")
    assert document.code == 2
    assert set(document.error) == {"code", "message", "help"}


def test_no_file_anywhere_is_exit_code_5_with_the_next_step(project: Project) -> None:
    for arguments in (["status"], ["enqueue", "hello"], ["check"], ["run"]):
        done = project.jobrunner(*arguments)
        assert (done.returncode, done.stdout) == (5, "")
        assert "no jobs.yaml here" in done.stderr
        assert "jobrunner init" in done.stderr


def test_a_file_that_was_named_and_is_not_there_is_said(project: Project) -> None:
    done = project.jobrunner("-c", "missing.yaml", "status", "--json")
    assert (done.returncode, done.stdout) == (5, "")
    assert "missing.yaml" in json.loads(done.stderr)["error"]["message"]


def test_an_invalid_file_is_exit_code_5_with_all_its_problems(project: Project) -> None:
    project.write("tasks:\n  a: {comand: x}\n  b: {command: y, retries: -1}\n")
    for arguments in (["run"], ["next"], ["list"], ["run", "--check"], ["check"]):
        done = project.jobrunner(*arguments)
        shown = done.stdout + done.stderr
        assert done.returncode == 5, done
        assert "jobs.yaml:2:7: error: unknown key 'comand' in task 'a'" in shown
        assert "did you mean 'command'?" in shown
        assert "Traceback" not in shown


def test_the_file_decides_where_the_storage_lies_not_the_current_folder(project: Project) -> None:
    project.write(JOBS)
    below = project.folder / "deep" / "below"
    below.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "enqueue", "--force", "hello"],
        cwd=below,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.strip() in project.jobrunner("history").stdout
    assert (project.folder / ".jobrunner" / "jobs.db").exists()


def test_a_reader_that_leaves_early_is_no_error(project: Project) -> None:
    project.write(JOBS)
    project.jobrunner("enqueue", "--force", "hello")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "jobrunner", "history"],
            cwd=project.folder,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_interrupted_client_is_exit_code_130_and_its_run_goes_on(project: Project) -> None:
    project.write(JOBS)
    with project.client("enqueue", "--force", "hello", "--wait") as client:
        assert client.stderr is not None
        first = client.stderr.readline()  # it warns after the run was added, right before it waits
        assert "no supervisor is running" in first
        client.send_signal(signal.SIGINT)
        out, err = client.communicate(timeout=PATIENCE)
    assert (client.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert len(json.loads(project.jobrunner("history", "--json").stdout)) == 1


def test_a_locale_without_the_symbols_gets_escapes(project: Project) -> None:
    project.write(JOBS)
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "status"],
        cwd=project.folder,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 3
    assert b"\\u25cb stopped" in done.stdout
    assert done.stderr == b""


def test_the_debug_variable_shows_the_traceback(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "status"],
        cwd=project.folder,
        env={**os.environ, "JOBRUNNER_DEBUG": "1", "HOME": str(project.folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" in done.stderr


def test_a_damaged_storage_is_refused_and_left_alone(desk: Desk) -> None:
    database = desk.folder / "jobs.db"
    database.write_bytes(b"not a database" * 1000)
    before = database.read_bytes()
    for command in (["status"], ["enqueue", "hello"], ["history"]):
        answer = desk(*command)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith("error: ")
        assert "Traceback" not in answer.err
    assert database.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_storage_of_another_user_is_answered_with_the_line_to_type(desk: Desk, stage: Open) -> None:
    stage(a_task("hello")).close()
    desk("status")  # everything is imported before the change of the user
    reader, writer = os.pipe()
    with warnings.catch_warnings(), os.fdopen(reader) as answers:
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads do not matter to this child
        child = os.fork()
        if not child:
            try:
                os.setgroups([])
                os.setresuid(65534, 65534, 65534)
                os.write(writer, desk("status").err.encode())
            finally:
                os._exit(0)
        os.close(writer)
        said = answers.read()
        os.waitpid(child, 0)
    assert "belongs to root" in said
    assert "help: sudo -u root jobrunner status" in said


# ---- init, schema, check, completion ---------------------------------------------------------------------


def test_init_writes_a_file_that_is_valid_and_never_over_another(project: Project) -> None:
    done = project.jobrunner("init")
    assert (done.returncode, done.stderr) == (0, "")
    assert project.jobrunner("check", "--strict").returncode in (0, 5)  # warnings of the season aside
    assert project.answer("check")["errors"] == 0
    again = project.jobrunner("init")
    assert (again.returncode, again.stdout) == (1, "")
    assert "jobs.yaml is there already" in again.stderr


def test_the_first_file_runs(project: Project) -> None:
    project.jobrunner("init")
    project.start()
    done = project.jobrunner("enqueue", "hello", "--args", '["you"]', "--wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello you\n", "")


def test_schema_is_a_json_schema(project: Project) -> None:
    schema = json.loads(project.jobrunner("schema").stdout)
    assert "tasks" in schema["properties"]


def test_check_speaks_github(project: Project) -> None:
    project.write("tasks:\n  a: {comand: x}\n")
    done = project.jobrunner("check", "--format", "github")
    assert done.returncode == 5
    assert done.stdout.startswith(
        "::error file=jobs.yaml,line=2,col=7,title=unknown-key::unknown key 'comand'"
    )
    assert "%0A" in done.stdout


def test_check_as_json_holds_every_problem(project: Project) -> None:
    project.write("tasks:\n  a: {comand: x}\n")
    document = project.answer("check", exit_code=5)
    assert (document["file"], document["errors"], document["warnings"]) == ("jobs.yaml", 1, 0)
    assert set(document["problems"][0]) == {"file", "line", "column", "severity", "code", "message", "help"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(project: Project, shell: str) -> None:
    done = project.jobrunner("completion", shell)
    assert done.returncode == 0
    assert "_JOBRUNNER_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [("jobrunner en", "enqueue"), ("jobrunner enqueue he", "hello"), ("jobrunner status --wat", "--watch")],
)
def test_commands_options_and_tasks_are_completed(project: Project, words: str, expected: str) -> None:
    project.write(JOBS)
    project.start().stop()  # publishes the catalogue
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from jobrunner.cli import main; sys.exit(main())"],
        cwd=project.folder,
        env={
            **os.environ,
            "_JOBRUNNER_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert f"plain,{expected}" in done.stdout.splitlines()


BASH = shutil.which("bash")
COMPLETED = """
eval "$(jobrunner completion bash)"
complete -p jobrunner >&2
COMP_WORDS=({words}) COMP_CWORD={place}
_jobrunner_completion jobrunner "" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("jobrunner", "hist"), ["history"]),
        (("jobrunner", "logs", "he"), ["hello", "help-me"]),
        (("jobrunner", "--backend", "sqlite:///nowhere.db", "logs", "he"), [""]),
        (("jobrunner", "show", "RUN"), ["RUN"]),
    ],
)
def test_bash_completes_what_the_script_promises(
    project: Project, words: tuple[str, ...], expected: list[str]
) -> None:
    project.write("tasks:\n  hello: {command: echo hello}\n  help-me: {command: echo no}\n")
    project.start().stop()  # publishes the catalogue
    run = project.jobrunner("enqueue", "hello").stdout.strip()[-8:]
    program = project.write(f'#!/bin/sh\nexec {sys.executable} -m jobrunner "$@"\n', "bin/jobrunner")
    program.chmod(0o755)
    typed = " ".join(run if word == "RUN" else word for word in words)
    done = subprocess.run(
        [BASH or "bash", "--norc", "-c", COMPLETED.format(words=typed, place=len(words) - 1)],
        cwd=project.folder,
        env={**clean_environment(project.folder), "PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "_jobrunner_completion jobrunner" in done.stderr
    assert done.stdout.splitlines() == [run if word == "RUN" else word for word in expected]
