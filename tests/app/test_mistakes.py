"""Mistakes of callers: said at the caller, with what was got, what was wanted, and the next step."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import JobRunner, UsageError, chain, group
from jobrunner.app.declarations import describe
from jobrunner.config.discover import find_config
from jobrunner.errors import ConfigError, JobRunnerError, NotFound
from jobrunner.testing import by_hand


@pytest.fixture
def jobs() -> Iterator[JobRunner]:
    with JobRunner(immediate=True) as made:
        yield made


def add(a: int, b: int) -> int:
    return a + b


def nested(node: Any) -> Any:
    for _ in range(500):
        node = group([node])
    return node


MISTAKES: list[tuple[str, Callable[[Any, Any], object]]] = [
    ("expected a task, its name, or a pipeline", lambda task, jobs: jobs.enqueue(len, [1])),
    ("expected a task, its name, or a pipeline", lambda task, jobs: jobs.enqueue(jobs.enqueue(task, 1, 2))),
    (r"expected \(task or its name, args, kwargs\)", lambda task, jobs: jobs.enqueue_many([("add", [1, 2])])),
    ("expected the arguments as a tuple", lambda task, jobs: task.schedule(1)),
    (
        "eta: got '2030-01-01', expected a datetime",
        lambda task, jobs: task.schedule((1, 2), eta="2030-01-01"),
    ),
    ("nested too deep", lambda task, jobs: jobs.enqueue(nested(task.s(1, 2)))),
    ("limit: got -1", lambda task, jobs: jobs.runs(limit=-1)),
    (r"jobs.lock\(\) was called where no run is executing", lambda task, jobs: jobs.lock("database")),
    ("no pool 'defalt'", lambda task, jobs: jobs.pause(pool="defalt")),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES)
def test_a_mistake_is_said_in_words(
    jobs: JobRunner, words: str, mistake: Callable[[Any, Any], object]
) -> None:
    task = jobs.task(add)
    with pytest.raises(JobRunnerError, match=words):
        mistake(task, jobs)


def test_a_traceback_shows_the_next_step(jobs: JobRunner) -> None:
    jobs.task(add)
    jobs.enqueue("add", 1, 2)
    with pytest.raises(NotFound) as caught:
        jobs.enqueue("ad", 1)
    assert traceback.format_exception(caught.value)[-1].rstrip() == "did you mean 'add'?"


def test_before_a_first_supervisor_it_is_said_that_there_was_none(tmp_path: Path) -> None:
    with JobRunner(backend=f"sqlite:///{tmp_path}/jobs.db") as jobs, pytest.raises(NotFound) as caught:
        jobs.enqueue("numbers")
    assert str(caught.value).startswith("nobody knows of numbers yet: no supervisor has run on sqlite:")
    assert caught.value.help == "start it: jobrunner run MODULE:JOBS"


def test_the_memory_of_a_supervisor_is_out_of_reach() -> None:
    with JobRunner(backend="memory://") as jobs:
        task = jobs.task(add)
        with pytest.raises(UsageError, match="nothing that is enqueued here would reach it"):
            task(1, 2)


def test_a_pipeline_is_not_rescheduled(jobs: JobRunner) -> None:
    task = jobs.task(add)
    with by_hand(jobs):
        handle = jobs.enqueue(chain(task.s(1, 2), task.s(3)).options(delay=60))
        for each in (handle, jobs.handle(handle.steps()[0].id)):
            with pytest.raises(UsageError, match="it cannot be rescheduled"):
                each.reschedule(delay=5)


def test_the_connection_of_a_caller_is_that_of_all_calls_of_a_write(jobs: JobRunner) -> None:
    task = jobs.task(add)
    one = task.options(connection=object())
    with pytest.raises(UsageError, match="memory takes no connection"):
        one.map([(1, 2), (3, 4)])
    with pytest.raises(UsageError, match="the same one, or none"):
        jobs.enqueue_many([(one, [1, 2], {}), (task, [1, 2], {})])
    assert jobs.runs() == []


def test_a_python_module_in_the_place_of_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "ok.py").touch()
    for name in ("ok.py", "ok"):
        with pytest.raises(ConfigError, match=f"{name} is a Python module") as caught:
            find_config(name, {}, tmp_path)
        assert caught.value.help == "name the JobRunner in it: ok:jobs, if it is called jobs there"


def test_a_lambda_is_no_task_of_a_module() -> None:
    jobs = JobRunner(backend="sqlite:///jobs.db")
    task = jobs.task(name="nothing")(lambda: None)
    assert (
        describe(task)["error"] == "it is a lambda, which has no name that a worker finds it by: write a def"
    )
