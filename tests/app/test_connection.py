"""An enqueue within a transaction of the caller's: both are committed, or neither is (PostgreSQL)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jobrunner import JobRunner, NotFound, State, UsageError
from jobrunner.storage.postgres.address import read


@pytest.fixture
def jobs(empty_postgres_url: str) -> Iterator[JobRunner]:
    with JobRunner(backend=empty_postgres_url) as made:
        yield made


@pytest.fixture
def connection(empty_postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The caller's own, to the same database."""
    with psycopg.connect(read(empty_postgres_url).conninfo) as made:
        yield made


def test_a_run_comes_to_be_with_the_callers_commit(
    jobs: JobRunner, connection: psycopg.Connection[Any]
) -> None:
    @jobs.task
    def confirm(order: int) -> None: ...

    handle = confirm.schedule((17,), connection=connection)
    with pytest.raises(NotFound):
        _ = handle.state
    connection.commit()
    assert (handle.state, handle.record().args) == (State.QUEUED, (17,))
    named = jobs["confirm"].options(connection=connection)(18)
    connection.rollback()
    with pytest.raises(NotFound):
        _ = named.state


def test_a_pipeline_comes_to_be_whole_or_not_at_all(
    jobs: JobRunner, connection: psycopg.Connection[Any]
) -> None:
    @jobs.task
    def step(value: int = 0) -> int:
        return value

    pipeline = step.s(1).then(step).options(connection=connection)
    kept = jobs.enqueue(pipeline)
    connection.commit()
    jobs.enqueue(pipeline)
    connection.rollback()
    assert len(kept.steps()) == 2
    assert len(jobs.runs()) == 3


def test_what_is_no_connection_is_refused(jobs: JobRunner) -> None:
    @jobs.task
    def confirm() -> None: ...

    with pytest.raises(UsageError, match="expected a connection of psycopg"):
        confirm.schedule(connection=object())
