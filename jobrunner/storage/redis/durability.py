"""What this Redis may lose, by its own settings."""

from __future__ import annotations

from redis.exceptions import ResponseError

from ..health import Health
from .address import read
from .faults import translated
from .server import Server

_JOURNAL = "redis-cli CONFIG SET appendonly yes (and the same in its configuration)"
_KEEPS_NOTHING = "it keeps nothing on disk: all runs are lost when it ends"
_SNAPSHOTS = "it keeps snapshots alone: a crash of the server loses everything since the last one"
_UNSYNCED = "appendfsync no: a power cut loses what the system had not written, half a minute and more"


def examine(url: str) -> Health:
    """Raises StorageError when it cannot be asked."""
    server = Server(read(url))
    try:
        with translated(server.shown):
            told = server.client.info("server") | server.client.info("persistence")
        return health(
            str(told.get("redis_version", "?")), _settings(server), is_journaled=told["aof_enabled"]
        )
    finally:
        server.close()


def health(version: str, settings: dict[str, str], *, is_journaled: int) -> Health:
    """The judgement; `settings` are empty when this user may not read them."""
    driver = f"Redis {version}"
    if is_journaled:
        syncs = settings.get("appendfsync", "")
        if syncs == "no":
            return Health(driver, _UNSYNCED, "redis-cli CONFIG SET appendfsync everysec")
        return Health(driver, keeps=_journal(syncs))
    if settings.get("save") == "":
        return Health(driver, _KEEPS_NOTHING, _JOURNAL)
    return Health(driver, _SNAPSHOTS, _JOURNAL)


def _journal(syncs: str) -> str:
    if syncs == "always":
        return "appendfsync always: what is acknowledged is on the disk"
    if syncs == "everysec":
        return "appendfsync everysec: a power cut loses the last second, two at worst"
    return "appendonly yes; how often it is synced this user may not see (CONFIG GET)"


def _settings(server: Server) -> dict[str, str]:
    """Empty when this user may not read them."""
    with translated(server.shown):
        try:
            return {**server.client.config_get("appendfsync"), **server.client.config_get("save")}
        except ResponseError:  # no permission, or a service that has renamed the command
            return {}
