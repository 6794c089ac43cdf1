"""What this PostgreSQL may lose, by the settings that are in force for this user and database."""

from __future__ import annotations

from ..health import Health
from .address import read
from .database import Database

_ASKED = "select name, setting from pg_settings where name = any(%s)"
_NAMES = ["server_version", "fsync", "full_page_writes", "synchronous_commit"]
# In the order of what is worst.
_WEAK = (
    ("fsync", "a power cut, or a crash of the machine, may destroy the database"),
    ("full_page_writes", "a power cut may damage the database"),
    ("synchronous_commit", "a crash of the server loses the last half second"),
)


def examine(url: str) -> Health:
    """Raises StorageError when it cannot be asked."""
    database = Database(read(url))
    try:
        with database.reading() as turn:
            return health(dict(turn.connection.execute(_ASKED, (_NAMES,)).fetchall()))
    finally:
        database.close()


def health(settings: dict[str, str]) -> Health:
    """The judgement."""
    driver = f"PostgreSQL {settings.get('server_version', '?')}"
    for name, loses in _WEAK:
        if settings.get(name) == "off":
            return Health(
                driver, f"{name}=off: {loses}", f"set {name} = on, for the server, the role and the database"
            )
    commits = f"synchronous_commit={settings.get('synchronous_commit', '?')}"
    return Health(driver, keeps=f"{commits}: what is acknowledged is on the disk")
