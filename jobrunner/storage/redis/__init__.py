"""The storage in one namespace of a Redis server: several supervisors side by side, leases, PUBLISH.

store      the contract's methods: one call of the script each
scripts/   the script: Lua, a step of the server that nobody comes between
server     connections, what a server must be      faults     its errors
rows       runs, settles, claims as text           reads      lists, ids, status
catalogues what supervisors published              ears       what wakes a supervisor
address    the URL

The driver is loaded when a storage is opened, not before: `address` can be read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import StorageRefused

if TYPE_CHECKING:
    from .store import RedisStorage


def open_redis(url: str) -> RedisStorage:
    """Open the namespace that a URL names. Raises StorageRefused without the driver."""
    try:
        from .store import RedisStorage
    except ImportError as error:
        if (error.name or "redis").partition(".")[0] != "redis":
            raise
        raise StorageRefused(
            "the driver for Redis is not installed", help="pip install 'jobrunner[redis]'"
        ) from None
    return RedisStorage.open(url)
