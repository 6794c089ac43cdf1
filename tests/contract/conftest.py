"""Servers for the contract: one for each version at hand, test session and worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import GIVEN, a_redis, versions_at_hand


@pytest.fixture(scope="session", params=versions_at_hand())
def redis_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis that lives as long as the tests."""
    version: str = request.param
    if version == GIVEN:
        yield GIVEN
        return
    with a_redis(tmp_path_factory.mktemp(f"redis-{version}"), version) as server:
        yield server.url
