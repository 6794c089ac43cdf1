"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import settings

from jobrunner import hooks
from tests.live import Project
from tests.postgres_server import Server, empty_tables, the_server

# Examples are the same in every run: a failure can be met again. No deadline: machines are busy.
settings.register_profile("jobrunner", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("jobrunner")

# Set in many images; every process that a test starts would compile all modules anew, 0.3 s of CPU each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

POSTGRES_GIVEN = os.environ.get("JOBRUNNER_TEST_POSTGRES_URL")  # a server that is there already
LONGEST = 240.0  # seconds for one test, its fixtures included
FULL = 15  # times as many for a drill in its full length
REMINDER = 100.0  # seconds for a test that hangs to clean up, before it is reminded


@pytest.fixture(autouse=True)
def _nothing_set_for_jobrunner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has set in the shell decides no test."""
    for name in [name for name in os.environ if name.startswith("JOBRUNNER_")]:
        if name not in ("JOBRUNNER_DRILLS", "JOBRUNNER_REFERENCE_DATA"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_hooks_left_behind() -> Iterator[None]:
    """The hooks of a JobRunner that a test has made are not called for the next one."""
    before = hooks.registered()
    yield
    for each in hooks.registered():
        if each not in before:
            hooks.forget(each)


@pytest.fixture(scope="session")
def full_drills() -> bool:
    """Whether drills run in their full length (`make drills`) or in the short form of the ordinary run."""
    return os.environ.get("JOBRUNNER_DRILLS") == "full"


@pytest.fixture(autouse=True)
def _ends_in_time(full_drills: bool) -> Iterator[None]:
    """A test that hangs fails, with what it had printed; again and again, until it has cleaned up."""
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, LONGEST * (FULL if full_drills else 1), REMINDER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_long(_number: int, _frame: FrameType | None) -> None:
    pytest.fail("the test took too long: it hangs, or the machine does")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server that lives as long as the tests of this worker."""
    yield from the_server(POSTGRES_GIVEN)


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """The URL of a schema of its own, which is not made yet."""
    return postgres_server.url(namespace=f"test_{os.urandom(6).hex()}")


@pytest.fixture(scope="session")
def _shared_postgres_url(postgres_server: Server) -> str:
    return postgres_server.url(namespace=f"test_{os.urandom(6).hex()}")


@pytest.fixture
def empty_postgres_url(_shared_postgres_url: str) -> str:
    """The URL of tables that are there, and empty: making them takes longer than most tests."""
    empty_tables(_shared_postgres_url)
    return _shared_postgres_url


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """An empty folder to write a jobs.yaml into and to run it; a failed test shows what was logged there."""
    made = Project(tmp_path)
    try:
        yield made
    finally:
        try:
            made.close()
        finally:
            request.node.add_report_section("teardown", "log of the supervisors", made.logs())
