"""The short way of clients and the child process: what they answer, and what they never import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner.config.child import compile_in_child
from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import from_text, to_text
from jobrunner.config.discover import backend_of, find_config
from jobrunner.errors import ConfigError

HEAVY = ("pydantic", "croniter", "yaml", "click", "watchfiles", "sqlite3", "asyncio")


def imported(script: str, *arguments: str) -> list[str]:
    """The heavy modules that a script has imported when it ends."""
    ending = f"\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script + ending, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split("\n")[-2].split()


# ---- discover --------------------------------------------------------------------------------------------


def test_the_file_that_is_meant(tmp_path: Path) -> None:
    below, home = tmp_path / "project/below", tmp_path / "home"
    for folder in (below, home / ".config/jobrunner"):
        folder.mkdir(parents=True)
    environ = {"HOME": str(home)}
    assert (
        find_config(None, environ, below) is None
        or find_config(None, environ, below) == "/etc/jobrunner/jobs.yaml"
    )
    (home / ".config/jobrunner/jobs.yaml").touch()
    assert find_config(None, environ, below) == f"{home}/.config/jobrunner/jobs.yaml"
    (tmp_path / "project/jobs.yaml").touch()
    assert find_config(None, environ, below) == f"{tmp_path}/project/jobs.yaml"
    (tmp_path / "other.yaml").touch()
    environ["JOBRUNNER_CONFIG"] = f"{tmp_path}/other.yaml"
    assert find_config(None, environ, below) == f"{tmp_path}/other.yaml"
    assert find_config("../jobs.yaml", environ, below) == str(below / "../jobs.yaml")


@pytest.mark.parametrize(("explicit", "environ"), [("x.yaml", {}), (None, {"JOBRUNNER_CONFIG": "x.yaml"})])
def test_a_file_that_was_named_must_be_there(
    explicit: str | None, environ: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"there is no file x\.yaml"):
        find_config(explicit, environ, tmp_path)


BACKENDS = [
    "tasks: {}",
    "# backend: memory://\ntasks: {a: {command: backend: x}}",
    "tasks:\n  a:\n    command: |\n      backend: memory://\n",
    "backend: memory://\ntasks: {}",
    "tasks: {}\nbackend: 'memory://'  # comment\n",
    'tasks: {}\n"backend": sqlite:///x.db',
    "backend:\n  sqlite:///x.db\ntasks: {}",
    "{backend: sqlite:////tmp/x.db, tasks: {}}",
    "x-a: &a sqlite:///../a.db\nbackend: *a\ntasks: {}",
    "x-a: &a {backend: memory://}\n<<: *a\ntasks: {}",
    "backend: sqlite:///${NAME}.db\ntasks: {}",
    "env_file: .env\nbackend: sqlite:///${OTHER:-x}.db\ntasks: {}",
    "backend: sqlite:///~/x.db\ntasks: {}",
    "backend: null\ntasks: {}",
    '"\\x62ackend": memory://\ntasks: {}',
    "backend: !!str memory://\ntasks: {}",
    "backend: 'sqlite:///a''b.db'\ntasks: {}",
    "backend: redis://queue.example/1?namespace=shop\ntasks: {}",
    "backend: unix:///run/redis.sock\ntasks: {}",
]


@pytest.mark.parametrize("text", BACKENDS)
def test_clients_find_the_storage_where_the_plan_has_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(text.replace("command: backend: x", "command: x"))
    (tmp_path / ".env").write_text("OTHER=from-env-file\n")
    environ = {"NAME": "n", "HOME": "/home/ana"}
    plan = compile_file(str(file), environ=environ).plan
    assert plan is not None
    assert backend_of(str(file), environ) == plan.backend
    assert plan.backend.partition("://")[0] in ("memory", "redis", "sqlite", "unix")


def test_clients_find_the_storage_of_a_file_whose_tasks_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("backend: sqlite:///x.db\ntasks:\n\t- [\n")
    assert backend_of(str(file), {}) == f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize("text", ["backend: file://x\n", "backend: x\n", "backend: [a]\n", "backend: ${X}\n"])
def test_clients_are_told_when_the_storage_is_not_to_be_found(text: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(text + "tasks: {}\n")
    with pytest.raises(ConfigError):
        backend_of(str(file), {})
    with pytest.raises(ConfigError, match="there is no file"):
        backend_of(str(tmp_path / "none.yaml"), {})


@pytest.mark.parametrize("text", ["tasks: {}\n", "backend: sqlite:///x.db\ntasks: {}\n"])
def test_the_short_way_imports_nothing_heavy(text: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(text)
    script = (
        "import os, sys\nfrom jobrunner.config.discover import backend_of, find_config\n"
        "print(backend_of(find_config(None, os.environ, sys.argv[1]), os.environ))"
    )
    assert imported(script, str(tmp_path)) == []


# ---- child -----------------------------------------------------------------------------------------------


def test_the_parent_of_the_child_imports_nothing_heavy(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("tasks: {a: {command: date, schedule: daily}}")
    script = (
        "import sys\nfrom jobrunner.config.child import compile_in_child\n"
        "assert compile_in_child(sys.argv[1]).plan.tasks"
    )
    assert imported(script, str(file)) == []


def test_the_child_gives_the_same_plan(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "env: {A: '${X}'}\ntasks: {a: {command: date, schedule: {every: 90s, args: [1, {b: c}]}, retries: 3}}"
    )
    environ = {**os.environ, "X": "1"}
    assert compile_in_child(str(file), environ=environ).plan == compile_file(str(file), environ=environ).plan


def test_the_child_gives_every_problem_and_its_rendering(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("tasks: {a: {comand: date, timeout: x}, b: {command: x}}")
    here, there = compile_file(str(file), environ=os.environ), compile_in_child(str(file))
    assert there.plan is None
    assert there.problems == here.problems
    assert there.rendered == here.rendered
    assert "did you mean 'command'?" in there.rendered


def test_the_child_is_not_led_astray_by_modules_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("yaml.py", "pydantic.py", "jobrunner.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit(3)")
    (tmp_path / "jobs.yaml").write_text("tasks: {}")
    monkeypatch.chdir(tmp_path)
    assert compile_in_child("jobs.yaml").plan is not None


def test_a_child_that_gives_no_answer_is_an_error_not_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no interpreter here >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ConfigError, match="ended with 3 and gave no plan: no interpreter here"):
        compile_in_child("jobs.yaml")


def test_a_child_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    with pytest.raises(ConfigError, match="longer than"):
        compile_in_child("jobs.yaml", patience=0.2)


def test_what_was_compiled_survives_as_text(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text("locks: {unused: {}}\ntasks: {a: {command: date}}")
    compiled = compile_file(str(tmp_path / "jobs.yaml"), environ={})
    again = from_text(to_text(compiled))
    assert (again.plan, again.problems, again.rendered) == (
        compiled.plan,
        compiled.problems,
        compiled.rendered,
    )
    document = json.loads(to_text(compiled))
    assert set(document["problems"][0]) >= {"file", "line", "column", "severity", "code", "message", "help"}


@pytest.mark.parametrize("arguments", [[], ["compile"], ["jobs.yaml"], ["compile", "--", "a", "b"]])
def test_the_door_of_the_child_refuses_wrong_use(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner.config", *arguments], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, b"")
