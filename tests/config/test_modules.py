"""Decorated tasks: `modules:` in a file, and a JobRunner in its place; both are read as the file is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobrunner.config import declared
from jobrunner.config.child import compile_in_child
from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from jobrunner.config.discover import backend_of, find_config, target_of
from jobrunner.config.effective import effective
from jobrunner.durations import MINUTE, SECOND
from jobrunner.plan import Plan

HEAD = "from jobrunner import JobRunner, crontab\njobs = JobRunner(backend='sqlite:///jobs.db')\n"
FILE = "modules: [demo]\ndefaults: {timeout: 1m}\n"


def compiled(folder: Path, code: str, file: str = FILE, **others: str) -> Compiled:
    """The file beside a module `demo` and others."""
    (folder / "jobs.yaml").write_text(file)
    (folder / "demo.py").write_text(HEAD + code)
    for name, text in others.items():
        (folder / f"{name}.py").write_text(text)
    return compile_file(str(folder / "jobs.yaml"), environ=dict(os.environ))


def plan_of(found: Compiled) -> Plan:
    assert found.plan is not None, found.rendered
    return found.plan


def problem_of(found: Compiled) -> str:
    """The only problem, as `file:line: message`."""
    assert len(found.problems) == 1, found.rendered
    (problem,) = found.problems
    return f"{os.path.basename(problem.file)}:{problem.line}: {problem.message}"


ADD = '''
@jobs.task(retries=2, retry_delay="3s", priority=5, lock="database")
def add(a, b):
    """Adds.

    And says no more.
    """
    return a + b
'''


def test_decorated_tasks_join_those_of_the_file(tmp_path: Path) -> None:
    found = compiled(tmp_path, ADD, FILE + "tasks:\n  tidy: {command: 'true'}\n")
    plan = plan_of(found)
    assert list(plan.tasks) == ["tidy", "add"]
    add = plan.tasks["add"]
    assert (add.call, add.description, add.parameters) == ("demo:add", "Adds.", ("a", "b"))
    assert (add.retries.max, add.retries.delay, add.priority, add.line) == (2, 3 * SECOND, 5, 4)
    assert (add.cwd, add.pool, add.timeout) == (str(tmp_path), "default", MINUTE)  # as the file's own tasks
    assert plan.locks == {"database": 1}


def test_pipelines_of_the_file_name_decorated_tasks(tmp_path: Path) -> None:
    file = FILE + "pipelines:\n  sums: {steps: [add, {parallel: [add, add]}], on_failure: [add]}\n"
    assert list(plan_of(compiled(tmp_path, ADD, file)).pipelines) == ["sums"]
    found = compiled(
        tmp_path, ADD, FILE + "pipelines:\n  add: {steps: [tidy]}\ntasks: {tidy: {command: x}}\n"
    )
    assert problem_of(found) == "jobs.yaml:4: 'add' is a task too: tasks and pipelines share their names"


def test_a_file_may_hold_nothing_but_modules(tmp_path: Path) -> None:
    assert list(plan_of(compiled(tmp_path, ADD)).tasks) == ["add"]


def test_the_files_word_goes_over_that_of_the_decorator(tmp_path: Path) -> None:
    file = FILE + "tasks:\n  add: {call: 'demo:add', priority: 1, timeout: 5s, schedule: daily}\n"
    add = plan_of(compiled(tmp_path, ADD, file)).tasks["add"]
    assert (add.priority, add.timeout, add.retries.max) == (1, 5 * SECOND, 2)
    assert [rule.text for rule in add.schedules] == ["daily"]
    bare = plan_of(compiled(tmp_path, ADD, FILE + "tasks:\n  add: {priority: 1}\n")).tasks["add"]
    assert (bare.call, bare.priority, bare.parameters) == ("demo:add", 1, ("a", "b"))


def test_the_same_callable_under_another_name_is_another_task(tmp_path: Path) -> None:
    file = FILE + "tasks:\n  sum: {call: 'demo:add'}\n"
    assert list(plan_of(compiled(tmp_path, ADD, file)).tasks) == ["sum", "add"]


def test_a_name_for_two_things_is_refused(tmp_path: Path) -> None:
    found = compiled(tmp_path, ADD, FILE + "tasks:\n  add: {command: 'true'}\n")
    assert problem_of(found) == (
        f"demo.py:4: task 'add' is declared twice, first in {tmp_path}/jobs.yaml on line 4"
    )


def test_schedules_of_every_form_are_read(tmp_path: Path) -> None:
    code = """
@jobs.periodic_task("*/5 * * * *", timezone="Europe/Paris", overlap="allow")
def a(): ...
@jobs.periodic_task(crontab(day=1, day_of_week=1, minute=0, hour=3))
def b(): ...
@jobs.periodic_task("every 90s")
def c(): ...
@jobs.periodic_task({"every": 60, "offset": 5})
def d(): ...
"""
    tasks = plan_of(compiled(tmp_path, code)).tasks
    rules = {name: task.schedules[0] for name, task in tasks.items()}
    assert {name: rule.text for name, rule in rules.items()} == {
        "a": "*/5 * * * *",
        "b": "0 3 1 * 1",
        "c": "every 90s",
        "d": "every 1m offset 5s",
    }
    assert (rules["a"].timezone, rules["b"].source) == ("Europe/Paris", {"cron": "0 3 1 * 1", "days": "all"})


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("@jobs.task(timeout='soon')\ndef f(): ...\n", "demo.py:3: timeout: not a duration: got 'soon'"),
        ("@jobs.task(pool='i/o')\ndef f(): ...\n", "demo.py:3: pool: not a name"),
        ("@jobs.task(pool='gpu')\ndef f(): ...\n", "demo.py:3: unknown pool 'gpu'"),
        ("\n@jobs.periodic_task('61 * * * *')\ndef f(): ...\n", "demo.py:4: schedule: "),
        ("@jobs.task(kwargs={'a': print})\ndef f(a): ...\n", "demo.py:3: task 'f': its options cannot be"),
        (
            "def make():\n  @jobs.task\n  def f(): ...\nmake()\n",
            "demo.py:4: task 'f': it is declared inside a function",
        ),
        (
            "@jobs.task(name='one')\ndef f(): ...\n@jobs.task(name='two')\ndef f(): return 2\n",
            "demo.py:3: task 'one': demo:f is something else than this function",
        ),
        ("raise ValueError('no')\n", "jobs.yaml:1: modules: importing demo failed: ValueError: no"),
        ("import nowhere\n", "jobs.yaml:1: modules: importing demo failed: there is no module 'nowhere'"),
        ("import sys; sys.exit(3)\n", "jobs.yaml:1: modules: importing demo failed: SystemExit: 3"),
        (
            "import os; os._exit(3)\n",
            "jobs.yaml:1: modules: importing demo ended the process with exit code 3",
        ),
        (
            "import os; os.kill(os.getpid(), 11)\n",
            "jobs.yaml:1: modules: importing demo ended the process with signal 11",
        ),
    ],
)
def test_what_is_wrong_is_reported_where_it_is_written(tmp_path: Path, code: str, problem: str) -> None:
    assert problem_of(compiled(tmp_path, code)).startswith(problem)


def test_a_module_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "PATIENCE", 1.0)
    found = compiled(tmp_path, "while True: pass\n")
    assert problem_of(found) == "jobs.yaml:1: modules: importing demo took longer than 1 s"


def test_a_bad_module_does_not_hide_what_is_wrong_with_the_next(tmp_path: Path) -> None:
    file = "modules: [demo, dead, absent, fine]\ntasks: {}\n"
    found = compiled(tmp_path, ADD, file, dead="import os; os._exit(1)", fine=HEAD)
    assert [problem.message for problem in found.problems] == [
        "modules: importing dead ended the process with exit code 1",
        "modules: there is no module 'absent'",
    ]


def test_a_task_counts_once_however_often_it_is_imported(tmp_path: Path) -> None:
    file = "modules: [demo, other]\n"
    found = compiled(tmp_path, ADD, file, other="from demo import add, jobs\nimport demo\n")
    assert list(plan_of(found).tasks) == ["add"]


def test_modules_print_into_nothing(tmp_path: Path) -> None:
    code = "import os\nprint('{')\nos.write(1, b'x')\n" + ADD
    assert list(plan_of(compiled(tmp_path, code)).tasks) == ["add"]


def test_changed_options_are_a_changed_configuration(tmp_path: Path) -> None:
    first = plan_of(compiled(tmp_path, ADD)).hash
    assert plan_of(compiled(tmp_path, ADD)).hash == first
    assert plan_of(compiled(tmp_path, ADD.replace("priority=5", "priority=6"))).hash != first


def test_show_knows_the_settings_of_a_decorated_task(tmp_path: Path) -> None:
    compiled(tmp_path, ADD)
    settings = {
        each.key: each for each in effective(str(tmp_path / "jobs.yaml"), "add", environ=dict(os.environ))
    }
    assert (settings["priority"].value, settings["priority"].origin) == (5, "demo.py:4")
    assert settings["timeout"].origin == f"{tmp_path}/jobs.yaml:2 (defaults)"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("shop/jobs.py", "write shop.jobs"), ("shop:jobs", "such as shop.jobs"), ("1", "such as shop.jobs")],
)
def test_what_is_no_module_name_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    found = compiled(tmp_path, "", f"modules: ['{name}']\ntasks: {{}}\n")
    assert [(each.code, each.help) for each in found.problems] == [("bad-value", hint)]


# ---- a JobRunner in the place of a file ------------------------------------------------------------------


def served(folder: Path, code: str, name: str = "demo:jobs") -> Compiled:
    (folder / "demo.py").write_text(code)
    return compile_in_child(str(folder / name), environ=dict(os.environ))


def test_a_runner_is_served_with_its_tasks_and_its_storage(tmp_path: Path) -> None:
    plan = plan_of(served(tmp_path, HEAD + ADD))
    assert plan.file == f"{tmp_path}/demo:jobs"
    assert list(plan.tasks) == ["add"]
    assert (plan.pythonpath, plan.tasks["add"].cwd) == ((str(tmp_path),), str(tmp_path))
    assert plan.watched == (f"{tmp_path}/demo.py",)
    assert plan.backend == f"sqlite:///{tmp_path}/jobs.db"
    assert backend_of(plan.file, dict(os.environ)) == plan.backend


def test_a_runner_with_a_file_serves_both(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("defaults: {priority: 2}\ntasks:\n  tidy: {command: 'true'}\n")
    plan = plan_of(served(tmp_path, HEAD.replace("backend='sqlite:///jobs.db'", "'my.yaml'") + ADD))
    assert (list(plan.tasks), plan.tasks["tidy"].priority) == (["tidy", "add"], 2)
    assert plan.backend == f"sqlite:///{tmp_path}/.jobrunner/my.db"
    assert plan.file == f"{tmp_path}/demo:jobs"


def test_a_runner_that_names_nothing_means_the_file_that_the_command_line_finds(tmp_path: Path) -> None:
    code = HEAD.replace("backend='sqlite:///jobs.db'", "") + ADD
    environ = {**os.environ, "HOME": str(tmp_path)}
    (tmp_path / "demo.py").write_text(code)
    without = compile_in_child(str(tmp_path / "demo:jobs"), environ=environ)
    assert problem_of(without) == "demo:jobs:0: this JobRunner names no storage, and there is no jobs.yaml"
    (tmp_path / "jobs.yaml").write_text("tasks: {}\n")
    assert plan_of(served(tmp_path, code)).backend == f"sqlite:///{tmp_path}/.jobrunner/jobs.db"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("demo:job", "demo has no 'job'", "did you mean demo:jobs?"),
        ("demo:crontab", "demo:crontab is a _Maker, expected a JobRunner", "did you mean demo:jobs?"),
        ("dem:jobs", "there is no module 'dem'", ""),
    ],
)
def test_a_runner_that_is_not_there_is_named(tmp_path: Path, name: str, message: str, hint: str) -> None:
    found = served(tmp_path, HEAD, name)
    (problem,) = found.problems
    assert (problem.message, problem.help.startswith(hint)) == (message, True)


def test_a_path_is_a_runner_only_where_no_file_has_that_name(tmp_path: Path) -> None:
    assert target_of("shop.jobs:jobs.inner") == (os.getcwd(), "shop.jobs:jobs.inner")
    for path in ("jobs.yaml", "demo", "demo:", ":jobs", "de mo:jobs", "1:2"):
        assert target_of(path) is None
    (tmp_path / "demo:jobs").touch()
    assert target_of(str(tmp_path / "demo:jobs")) is None
    assert find_config("demo:jobs", {}, str(tmp_path.parent)) is not None
