"""`options(connection=...)`: a run that exists when the caller's transaction is committed, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from jobrunner import JobRunner
from jobrunner.errors import NotFound, UsageError
from jobrunner.storage.postgres.address import read


@pytest.fixture
def jobs(postgres_url: str) -> Iterator[JobRunner]:
    jobs = JobRunner(backend=postgres_url)

    @jobs.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    yield jobs
    jobs.close()


def test_a_run_is_there_when_the_callers_transaction_is_committed(jobs: JobRunner, postgres_url: str) -> None:
    with psycopg.connect(read(postgres_url).conninfo) as connection:
        connection.execute("create temporary table orders (id int)")
        connection.execute("insert into orders values (7)")
        handle = jobs.enqueue(jobs["add"].options(connection=connection), 1, 2)
        with pytest.raises(NotFound):
            jobs.storage.run(handle.id)
        connection.commit()
        assert jobs.storage.run(handle.id).task == "add"


def test_a_run_of_a_transaction_that_is_undone_was_never_there(jobs: JobRunner, postgres_url: str) -> None:
    with psycopg.connect(read(postgres_url).conninfo) as connection:
        handle = jobs.enqueue(jobs["add"].options(connection=connection), 1, 2)
        connection.rollback()
    with pytest.raises(NotFound):
        jobs.storage.run(handle.id)


def test_what_is_no_connection_is_refused(jobs: JobRunner) -> None:
    with pytest.raises(UsageError, match="psycopg 3"):
        jobs["add"].options(connection=object())(1, 2)
