"""The starts of a pool's workers: after one that failed there is a pause, the longer the oftener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..durations import MILLISECOND, SECOND, Micros
from . import Loop, Timer

FIRST_PAUSE: Final[Micros] = SECOND  # after a worker that did not start; doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Final[Micros] = 30 * SECOND
FIRST_REST: Final[Micros] = 20 * MILLISECOND  # after one that was killed from outside while it started
LONGEST_REST: Final[Micros] = SECOND


class Starts:
    """Whether a worker may be started now."""

    def __init__(self, loop: Loop, again: Callable[[], None]) -> None:
        """`again` is called at the end of each pause."""
        self._loop = loop
        self._again = again
        self._failed = 0
        self._pause: Timer | None = None

    @property
    def is_pausing(self) -> bool:
        return self._pause is not None

    def succeeded(self) -> None:
        self._failed = 0

    def failed(self, *, was_killed: bool) -> None:
        """A worker died before it was ready: of itself, or killed by somebody."""
        self._failed += 1
        first, longest = (FIRST_REST, LONGEST_REST) if was_killed else (FIRST_PAUSE, LONGEST_PAUSE)
        self.close()
        pause = min(longest, first << min(self._failed - 1, 10))
        self._pause = self._loop.after(pause, self._over)

    def _over(self) -> None:
        self._pause = None
        self._again()

    def close(self) -> None:
        """No pause, and no call at its end."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
