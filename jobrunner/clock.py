"""The only module that asks the system for the time."""

from __future__ import annotations

import time
from typing import Protocol

from .durations import Micros

__all__ = ["Clock", "Micros", "SystemClock"]


class Clock(Protocol):
    """What time it is, in integer microseconds; a parameter wherever time matters."""

    def now(self) -> Micros:
        """The wall clock: microseconds since the Unix epoch, UTC. A person or NTP may step it."""
        ...

    def monotonic(self) -> Micros:
        """A clock that no step moves and that stands still during suspend: for durations."""
        ...

    def boottime(self) -> Micros:
        """A clock that no step moves and that goes on during suspend: for leases and misses."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> Micros:
        return time.time_ns() // 1000

    def monotonic(self) -> Micros:
        return time.monotonic_ns() // 1000

    def boottime(self) -> Micros:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
