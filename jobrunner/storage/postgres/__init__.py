"""The storage in one schema of a PostgreSQL database: several supervisors side by side, leases, LISTEN.

store      the contract's methods: one transaction each
waits      edges, adding, cancelling       claims     lanes, promotion, expiry
settles    ends of attempts, fenced        ticks      watermarks, overlap
owners     supervisors, leases, the dead   control    pauses, revocations, catalogue
history    lists, ids      overview  status           retention  what is removed
database   connections, transactions       opening    refusing, migrating
address    the URL         faults    its errors       schema     tables, indexes, versions
listening  what wakes a supervisor         rows, arrays          values and columns
plain      adding in one message           statement  what is sent with its values in it

The driver is loaded when a storage is opened, not before: `address` can be read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import StorageRefused

if TYPE_CHECKING:
    from .store import PostgresStorage


def open_postgres(url: str, *, create: bool = True) -> PostgresStorage:
    """Open (or make) the schema that a URL names. Raises StorageRefused without the driver."""
    try:
        from .store import PostgresStorage
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] not in ("psycopg", "psycopg_binary", "psycopg_c"):
            raise
        raise StorageRefused(
            f"the driver for PostgreSQL is not installed ({str(error).splitlines()[0]})",
            help="pip install 'jobrunner[postgres]'",
        ) from None
    return PostgresStorage.open(url, create=create)
