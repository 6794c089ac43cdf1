"""A program's tasks in its tests: executed at once, or by hand under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from ..app.bench import Bench
from ..app.moments import duration
from ..app.runner import JobRunner
from ..errors import UsageError
from .clock import FakeClock


@contextmanager
def immediate(jobs: JobRunner) -> Iterator[JobRunner]:
    """For the length of a block every call is executed at once, in the caller, on an empty storage."""
    jobs._sit_down()
    try:
        yield jobs
    finally:
        jobs._get_up()


@contextmanager
def by_hand(jobs: JobRunner, clock: FakeClock | None = None) -> Iterator[FakeClock]:
    """For the length of a block calls wait in an empty storage until `run_until_idle` or `let_pass`.

    Time stands still but for what the test moves; schedules fire as it passes.
    """
    clock = clock or FakeClock()
    jobs._sit_down(clock, by_hand=True)
    try:
        yield clock
    finally:
        jobs._get_up()


def run_until_idle(jobs: JobRunner) -> int:
    """Execute whatever is due, and what follows from it, here; how many attempts that were."""
    return _bench_of(jobs).run_until_idle()


def let_pass(jobs: JobRunner, time: float | str | timedelta) -> int:
    """Let time pass: whatever becomes due meanwhile is executed at its own moment; how many attempts."""
    return _bench_of(jobs).let_pass(duration(time, "time"))


def _bench_of(jobs: JobRunner) -> Bench:
    if jobs._bench is None:
        raise UsageError(
            "this JobRunner does not execute anything itself",
            help="inside `with by_hand(jobs)`, `with immediate(jobs)`, or for JobRunner(immediate=True)",
        )
    return jobs._bench
