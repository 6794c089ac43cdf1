"""The Redis storage: handle (`store`), server and its faults (`server`), values (`rows`), reads, scripts."""

from .store import RedisStorage

__all__ = ["RedisStorage"]
