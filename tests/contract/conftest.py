"""Servers for the contract: one for each version at hand, test session and worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import RedisServer, a_redis


@pytest.fixture(scope="session", params=["6.2", "7.0"])
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A Redis that lives as long as the tests."""
    version: str = request.param
    with a_redis(tmp_path_factory.mktemp(f"redis-{version}"), version) as server:
        yield server
