"""The storage in one SQLite file: WAL, `synchronous=FULL`, one writer at a time, group commit.

store      the contract's methods: one transaction each
adding     new runs, group commit          claims     lanes, promotion, expiry
settles    ends of attempts, fenced        ticks      watermarks, overlap
owners     supervisors and their dead      control    cancel, pause, catalogue
history    lists, ids      overview  status           retention  what is removed
database   opening, refusing, transactions            schema     tables, indexes, versions
place      lock file and wake-up socket beside it     upkeep     the write-ahead log
"""

from .database import Database
from .store import SqliteStorage

__all__ = ["Database", "SqliteStorage"]
