"""Whether a storage is whole, as far as a client can tell: version, damage, what it may lose."""

from __future__ import annotations

from typing import Final, NamedTuple

Version = tuple[int, int, int]

# Before these, two connections that write and copy the log at once could damage it (sqlite.org/wal.html).
WAL_MENDED: Final[Version] = (3, 51, 3)
WAL_MENDED_TOO: Final[tuple[Version, ...]] = ((3, 50, 7), (3, 44, 6))
CHECK_SECONDS: Final = 30.0


class Health(NamedTuple):
    """What was found."""

    driver: str  # "SQLite 3.51.3"
    weakness: str = ""  # of this version, or of how the server is set
    help: str = ""
    keeps: str = ""  # what a server keeps, where that depends on its settings


def examine(url: str, *, seconds: float = CHECK_SECONDS) -> Health:
    """Look for damage, for at most so long. Raises StorageError for what is damaged or out of reach."""
    scheme = url.partition(":")[0]
    if scheme in ("redis", "rediss", "unix"):
        from .redis import durability as of_redis

        return of_redis.examine(url)
    if scheme in ("postgresql", "postgres"):
        from .postgres import durability as of_postgres

        return of_postgres.examine(url)
    return _of_sqlite(url, seconds) if scheme == "sqlite" else Health(scheme)


def _of_sqlite(url: str, seconds: float) -> Health:
    from .sqlite.database import Database, library_version, path_of

    database = Database(path_of(url), create=False)
    try:
        database.check(seconds)
    finally:
        database.close()
    version = library_version()
    driver = f"SQLite {'.'.join(map(str, version))}"
    if is_wal_mended(version):
        return Health(driver)
    return Health(
        driver,
        "this version can damage its log when two processes copy it at once; jobrunner lets only one do so",
        "leave the file to jobrunner while it runs; SQLite 3.51.3, 3.50.7 and 3.44.6 have it mended",
    )


def is_wal_mended(version: Version) -> bool:
    """Whether SQLite of this version is free of the fault."""
    return version >= WAL_MENDED or any(
        version[:2] == mended[:2] and version >= mended for mended in WAL_MENDED_TOO
    )
