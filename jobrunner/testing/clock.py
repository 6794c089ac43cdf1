"""A clock for tests: it stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..durations import MILLISECOND, Micros, from_micros, parse_duration, to_micros

START = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday


class FakeClock:
    """Stands at `start` (a Monday noon unless said otherwise) and goes on by `advance` alone."""

    def __init__(self, start: datetime = START) -> None:
        self._now = to_micros(start)
        self._monotonic: Micros = MILLISECOND

    def __repr__(self) -> str:
        return f"FakeClock({self.moment.isoformat()})"

    @property
    def moment(self) -> datetime:
        """What time it is, in UTC."""
        return from_micros(self._now)

    def advance(self, time: float | str | timedelta) -> None:
        """Let this time have passed, at once: seconds, "1h30m", or a timedelta."""
        seconds = time.total_seconds() if isinstance(time, timedelta) else time
        self.jump(parse_duration(seconds))

    def jump(self, time: Micros) -> None:
        """The same in microseconds."""
        self._now += time
        self._monotonic += time

    def now(self) -> Micros:
        return self._now

    def monotonic(self) -> Micros:
        return self._monotonic

    def boottime(self) -> Micros:
        return self._monotonic
