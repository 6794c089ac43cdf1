"""The starts of a pool's workers: after one that failed there is a pause, the longer the oftener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..durations import MILLISECOND, SECOND, Micros
from . import Loop, Timer

FIRST_PAUSE: Final[Micros] = SECOND  # after a worker that did not start; doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Final[Micros] = 10 * SECOND  # so that work goes on within 15 s of the fault's end (I11)
FIRST_REST: Final[Micros] = 20 * MILLISECOND  # after one that was killed from outside while it started
LONGEST_REST: Final[Micros] = SECOND

Tell = Callable[[str | None], None]  # why workers do not start; None: they do again


class Starts:
    """Whether a worker may be started now. Calls wait so long: that none starts is no fault of theirs."""

    def __init__(self, loop: Loop, again: Callable[[], None], *, tell: Tell, patient: bool) -> None:
        """`again` is called at the end of each pause. Without patience there is no other try."""
        self._loop = loop
        self._again = again
        self._tell = tell
        self._is_patient = patient
        self._failed = 0
        self._pause: Timer | None = None
        self._why: str | None = None  # of the last one that did not start by itself
        self.has_given_up = False
        self._is_closed = False

    @property
    def is_pausing(self) -> bool:
        return self._pause is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether the last start failed: until one succeeds, nothing is promised on account of others."""
        return self._failed > 0

    @property
    def is_allowed(self) -> bool:
        return self._pause is None and not self.has_given_up

    def succeeded(self) -> None:
        self._failed = 0
        self.has_given_up = False
        self._say(None)

    def failed(self, why: str, *, was_killed: bool) -> None:
        """A worker died before it was ready: of itself, or killed by somebody."""
        if self._is_closed:
            return
        if not was_killed:
            self._say(why)
            self.has_given_up = not self._is_patient
        if self.is_pausing or self.has_given_up:
            return  # one of those that were started together
        self._failed += 1
        first, longest = (FIRST_REST, LONGEST_REST) if was_killed else (FIRST_PAUSE, LONGEST_PAUSE)
        pause = min(longest, first << min(self._failed - 1, 10))
        self._pause = self._loop.after(pause, self._over)

    def _say(self, why: str | None) -> None:
        if why != self._why and not self._is_closed:
            self._why = why
            self._tell(why)

    def _over(self) -> None:
        self._pause = None
        self._again()

    def close(self) -> None:
        """No pause, and no call at its end; what comes from now on is not told."""
        self._is_closed = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
