"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.live import Project

# Examples are the same in every run: a failure can be met again. No deadline: machines are busy.
settings.register_profile("jobrunner", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("jobrunner")


@pytest.fixture(autouse=True)
def _nothing_set_for_jobrunner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has set in the shell decides no test."""
    for name in [name for name in os.environ if name.startswith("JOBRUNNER_")]:
        if name not in ("JOBRUNNER_DRILLS", "JOBRUNNER_REFERENCE_DATA"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def full_drills() -> bool:
    """Whether drills run in their full length (`make drills`) or in the short form of the ordinary run."""
    return os.environ.get("JOBRUNNER_DRILLS") == "full"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty folder to write a jobs.yaml into and to run it."""
    made = Project(tmp_path)
    try:
        yield made
    finally:
        made.close()
