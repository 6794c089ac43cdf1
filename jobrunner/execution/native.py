"""The system's own threads, locks and sleep, also where gevent has put its own in their place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol


class Lock(Protocol):
    """A lock of the system."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...

    def __enter__(self) -> bool: ...

    def __exit__(self, *_exception: object) -> None: ...


def _original(module: str, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(__import__(module), name)


def start_thread(function: Callable[[], object]) -> None:
    """Start a thread of the system that nothing waits for at the end of the process."""
    _original("_thread", "start_new_thread")(function, ())


def new_lock() -> Lock:
    """A lock of the system: to wait for it stops the whole thread."""
    lock: Lock = _original("_thread", "allocate_lock")()
    return lock


def sleep(seconds: float) -> None:
    """Let this thread sleep."""
    _original("time", "sleep")(seconds)
