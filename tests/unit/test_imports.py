"""What a process must not have imported: seconds, megabytes and other people's code stay outside."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jobrunner


def loaded(statement: str) -> set[str]:
    """The packages that this statement leaves in a fresh process."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


FIRST_TICK = "from jobrunner.schedule import Schedule; Schedule.parse('5 4 * * *', 'UTC').next_us(0)"


def test_the_supervisor_validates_nothing_itself() -> None:
    assert loaded("import jobrunner.serve, jobrunner.supervisor").isdisjoint(
        {"pydantic", "yaml", "watchfiles", "asyncio"}
    )


def test_neither_openssl_nor_croniter_is_loaded_before_a_tick_asks_for_it() -> None:
    strangers = {"_hashlib", "croniter", "dateutil"}
    assert loaded("import jobrunner.serve, jobrunner.supervisor, jobrunner.storage.sqlite").isdisjoint(
        strangers
    )
    assert loaded("import jobrunner.config.compile").isdisjoint({"croniter", "dateutil"})
    assert "croniter" in loaded(FIRST_TICK)


def test_the_first_tick_starts_no_process() -> None:
    # croniter, left to itself, starts `file` at its import
    told = (
        "import sys; sys.addaudithook(lambda name, _: print(name) if name == 'subprocess.Popen' else None);"
    )
    asked = "import platform; assert platform.architecture(), 'it is given back';"
    done = subprocess.run([sys.executable, "-c", f"{told} {FIRST_TICK}"], capture_output=True, check=True)
    assert done.stdout == b""
    done = subprocess.run(
        [sys.executable, "-c", f"{told} {FIRST_TICK}; {asked}"], capture_output=True, check=True
    )
    assert done.stdout == b"subprocess.Popen\n"


def test_a_worker_knows_neither_storage_nor_schedules() -> None:
    strangers = {"sqlite3", "pydantic", "yaml", "croniter", "click", "watchfiles"}
    assert loaded("import jobrunner.execution.worker").isdisjoint(strangers)


@pytest.mark.parametrize("name", ["current_run", "RetryRun", "CancelRun"])
def test_what_a_task_imports_costs_no_schedules(name: str) -> None:
    assert loaded(f"from jobrunner import {name}").isdisjoint({"croniter", "pydantic", "sqlite3"})


def test_the_package_alone_loads_nothing_of_itself() -> None:
    code = "import jobrunner, sys; print(*(name for name in sys.modules if name.startswith('jobrunner')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["jobrunner"]


HEAVY = {"pydantic", "yaml", "croniter", "click", "watchfiles", "asyncio", "sqlite3", "redis", "psycopg"}


def test_a_program_with_tasks_pays_for_nothing_but_them() -> None:
    declare = "from jobrunner import JobRunner, crontab; jobs = JobRunner(backend='memory://');"
    assert loaded(f"{declare} jobs.task(print)").isdisjoint(HEAVY)
    assert loaded(f"{declare} jobs.periodic_task(crontab(minute=0))(print)").isdisjoint(HEAVY)


def test_an_enqueue_opens_its_storage_and_nothing_else() -> None:
    statement = "import tempfile, os; os.chdir(tempfile.mkdtemp()); from jobrunner import JobRunner;"
    statement += "jobs = JobRunner(backend='sqlite:///jobs.db'); jobs.task(len)([1])"
    assert loaded(statement).isdisjoint(HEAVY - {"sqlite3"})


@pytest.mark.parametrize("name", jobrunner.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(jobrunner, name) is not None
