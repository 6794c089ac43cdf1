"""The storage of one process, in memory: handle (`store`), contents (`house`), changes (`turn`), reads."""

from .store import MemoryStorage

__all__ = ["MemoryStorage"]
