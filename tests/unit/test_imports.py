"""What a process must not have imported: seconds, megabytes and other people's code stay outside."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded(statement: str) -> set[str]:
    """The packages that this statement leaves in a fresh process."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_supervisor_validates_nothing_itself() -> None:
    assert loaded("import jobrunner.serve").isdisjoint({"pydantic", "yaml", "watchfiles", "asyncio"})


def test_a_worker_knows_neither_storage_nor_schedules() -> None:
    strangers = {"sqlite3", "pydantic", "yaml", "croniter", "click", "watchfiles"}
    assert loaded("import jobrunner.execution.worker").isdisjoint(strangers)


@pytest.mark.parametrize("name", ["current_run", "RetryRun", "CancelRun"])
def test_what_a_task_imports_costs_no_schedules(name: str) -> None:
    assert loaded(f"from jobrunner import {name}").isdisjoint({"croniter", "pydantic", "sqlite3"})
