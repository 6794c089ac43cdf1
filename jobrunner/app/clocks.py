"""Clocks that can be moved forward: waiting costs no time where nobody else lives by it."""

from __future__ import annotations

from typing import Protocol

from ..clock import Clock, SystemClock
from ..durations import Micros


class MovableClock(Clock, Protocol):
    """A clock that can be moved."""

    def jump(self, time: Micros) -> None:
        """Let this time have passed."""
        ...


class ShiftedClock(SystemClock):
    """The clocks of this machine, ahead of it by all jumps so far."""

    def __init__(self) -> None:
        self._ahead: Micros = 0

    def now(self) -> Micros:
        return super().now() + self._ahead

    def monotonic(self) -> Micros:
        return super().monotonic() + self._ahead

    def boottime(self) -> Micros:
        return super().boottime() + self._ahead

    def jump(self, time: Micros) -> None:
        self._ahead += time
