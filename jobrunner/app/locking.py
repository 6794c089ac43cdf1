"""`with jobs.lock(...)`: one more lock of the run that executes the block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..context import current_run
from ..errors import LockBusy


class Locks(Protocol):
    """What gives locks to the run that asks."""

    def acquire(self, lock: str, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds (None: for ever) for one of its slots. False: it was not free."""
        ...

    def release(self, lock: str) -> bool:
        """Give it back; False when the run does not hold it."""
        ...


@contextmanager
def held(locks: Locks, name: str, timeout: float | None) -> Iterator[None]:
    """Hold a lock for the length of a block. Raises LockBusy when it is not free in time."""
    run = current_run()
    if not locks.acquire(name, timeout):
        waited = "" if not timeout else f" after {timeout:g} s"
        raise LockBusy(f"lock {name!r} is busy{waited}: run {run.id} of {run.task} did not get it")
    try:
        yield
    finally:
        locks.release(name)
