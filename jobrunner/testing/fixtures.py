"""Fixtures for pytest; the conftest.py at the top says `pytest_plugins = ["jobrunner.testing.fixtures"]`.

def test_an_order_is_confirmed(immediate_jobs):
    immediate_jobs(shop.jobs)
    assert shop.confirm(17).get() == "confirmed"

def test_reminders_go_out_after_a_day(jobs_by_hand, fake_clock):
    jobs_by_hand(shop.jobs)
    shop.remind.schedule((17,), delay="1d")
    let_pass(shop.jobs, "1d")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ..app.runner import JobRunner
from .clock import FakeClock
from .inline import by_hand, immediate


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def immediate_jobs() -> Iterator[Callable[[JobRunner], JobRunner]]:
    """Makes a JobRunner execute its calls at once, until the end of the test."""
    with ExitStack() as undone:
        yield lambda jobs: undone.enter_context(immediate(jobs))


@pytest.fixture
def jobs_by_hand(fake_clock: FakeClock) -> Iterator[Callable[[JobRunner], JobRunner]]:
    """Makes a JobRunner keep its calls until `run_until_idle` or `let_pass`, under `fake_clock`."""
    with ExitStack() as undone:

        def keep(jobs: JobRunner) -> JobRunner:
            undone.enter_context(by_hand(jobs, fake_clock))
            return jobs

        yield keep
