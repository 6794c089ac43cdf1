"""The storage contract on PostgreSQL, and what only a server has: leases, several supervisors, a clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from jobrunner.storage import Storage
from jobrunner.storage.postgres.store import PostgresStorage
from jobrunner.testing.desk import Opener
from jobrunner.testing.storage_contract import LeasedStorageContract


class TestPostgres(LeasedStorageContract):
    """One schema of a server, as supervisors and clients use it."""

    @pytest.fixture
    def opened(self, empty_postgres_url: str) -> Iterator[Opener]:
        with ExitStack() as handles:

            def opened() -> Storage:
                storage = PostgresStorage.open(empty_postgres_url, server_time=False)
                handles.callback(storage.close)
                return storage

            yield opened
