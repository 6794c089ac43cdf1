"""The storage contract, run against each storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from jobrunner.ids import new_id
from jobrunner.storage import Storage, open_storage
from jobrunner.testing import StorageContract
from jobrunner.testing.desk import NOON, Opener


def openings(url: str) -> Iterator[Opener]:
    """Handles on one storage; all are closed in the end."""
    with ExitStack() as handles:

        def opened() -> Storage:
            storage = open_storage(url)
            handles.callback(storage.close)
            return storage

        yield opened


class TestSqlite(StorageContract):
    """One file, as a service and its clients use it."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Opener]:
        yield from openings(f"sqlite:///{tmp_path}/state/jobs.db")


class TestMemory(StorageContract):
    """One process."""

    @pytest.fixture
    def opened(self) -> Iterator[Opener]:
        url = f"memory://{new_id(NOON)}"
        with closing(open_storage(url)):  # it lives as long as one of its handles
            yield from openings(url)


class TestFile(StorageContract):
    """A folder, as a service and its clients use it."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Opener]:
        yield from openings(f"file:///{tmp_path}/state")
