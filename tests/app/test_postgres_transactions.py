"""`options(connection=...)`: a run that exists when the caller's transaction is committed, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row, scalar_row

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


def test_two_enqueues_with_one_key_in_a_transaction_are_one_run(jobs: JobRunner, postgres_url: str) -> None:
    """The second one finds the first at once, though nobody else can see it yet."""
    with psycopg.connect(read(postgres_url).conninfo) as connection:
        keyed = jobs["add"].options(connection=connection, unique_key="order 7")
        first, second = jobs.enqueue(keyed, 1, 2), jobs.enqueue(keyed, 1, 2)
        assert (second.id, first.is_new, second.is_new) == (first.id, True, False)
        connection.rollback()
    with pytest.raises(NotFound):
        jobs.storage.run(first.id)


def test_a_key_that_gets_free_meanwhile_is_taken_in_the_transaction_alone(
    jobs: JobRunner, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I2: what nobody commits never was
    holder = jobs.enqueue(jobs["add"].options(unique_key="order 8"), 1, 2)
    storage: Any = jobs.storage
    look = storage.holder_on

    def ends_first(connection: object, unique: str) -> str | None:
        holder.cancel()
        found: str | None = look(connection, unique)
        return found

    monkeypatch.setattr(storage, "holder_on", ends_first)
    with psycopg.connect(read(postgres_url).conninfo) as connection:
        handle = jobs.enqueue(jobs["add"].options(connection=connection, unique_key="order 8"), 7, 8)
        assert handle.is_new
        assert handle.id != holder.id
        connection.rollback()
    with pytest.raises(NotFound):
        jobs.storage.run(handle.id)


@pytest.mark.parametrize("rows", [dict_row, namedtuple_row, scalar_row])
def test_a_connection_is_left_as_it_was(jobs: JobRunner, postgres_url: str, rows: Any) -> None:
    with psycopg.connect(read(postgres_url).conninfo, row_factory=rows) as connection:
        handle = jobs.enqueue(jobs["add"].options(connection=connection, unique_key=str(rows)), 1, 2)
        assert connection.row_factory is rows
        found = connection.execute("select current_setting('search_path') as path").fetchone()
        connection.commit()
    assert "jobrunner" not in str(found)
    assert jobs.storage.run(handle.id).task == "add"


def test_a_connection_to_another_database_is_refused(jobs: JobRunner, postgres_url: str) -> None:
    with (
        psycopg.connect(read(postgres_url).conninfo, dbname="postgres") as connection,
        pytest.raises(UsageError, match=r"leads to the database 'postgres' on .*, where .* has no tables"),
    ):
        jobs.enqueue(jobs["add"].options(connection=connection), 1, 2)
