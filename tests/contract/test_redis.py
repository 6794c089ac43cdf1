"""The storage contract on Redis, on every version at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from jobrunner.ids import new_id
from jobrunner.storage import Storage
from jobrunner.storage.redis.store import RedisStorage
from jobrunner.testing import LeasedStorageContract
from jobrunner.testing.desk import NOON, Opener


class TestRedis(LeasedStorageContract):
    """One namespace of a server, as supervisors and clients use it."""

    @pytest.fixture
    def opened(self, redis_url: str) -> Iterator[Opener]:
        url = f"{redis_url}?namespace={new_id(NOON)}"
        with ExitStack() as handles:

            def opened() -> Storage:
                storage = RedisStorage.open(url, server_time=False)
                handles.callback(storage.close)
                return storage

            yield opened
