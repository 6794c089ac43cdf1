"""The storage in a folder, without any database: the memory storage, a journal, and a lock.

store    the contract: memory's methods, each under the lock, caught up before and written after
journal  the one file in force: a snapshot, then one record for each write, one sync each
records  between the house and its records: what has changed, as it is now
"""

from .store import FileStorage

__all__ = ["FileStorage"]
