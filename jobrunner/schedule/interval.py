"""Ticks that need no cron: an interval of elapsed time, a single moment, and none at all."""

from __future__ import annotations

from dataclasses import dataclass

from jobrunner.durations import Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Ticks at offset + n * period since the Unix epoch: the same on every machine, untouched by zones."""

    period: Micros
    offset: Micros = 0

    def next_us(self, after: Micros) -> Micros | None:
        """The first tick later than `after`."""
        return self.offset + ((after - self.offset) // self.period + 1) * self.period

    def previous_us(self, before: Micros) -> Micros | None:
        """The last tick earlier than `before`."""
        return self.offset + (before - self.offset - 1) // self.period * self.period

    def count_us(self, after: Micros, until: Micros) -> int:
        """How many ticks lie in (after, until]."""
        return max(0, (until - self.offset) // self.period - (after - self.offset) // self.period)


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """One tick, at `instant`."""

    instant: Micros

    def next_us(self, after: Micros) -> Micros | None:
        """The tick, when it is later than `after`."""
        return self.instant if self.instant > after else None

    def previous_us(self, before: Micros) -> Micros | None:
        """The tick, when it is earlier than `before`."""
        return self.instant if self.instant < before else None

    def count_us(self, after: Micros, until: Micros) -> int:
        """1 when the tick lies in (after, until], else 0."""
        return int(after < self.instant <= until)


@dataclass(frozen=True, slots=True)
class Never:
    """No tick that a clock could name: a start of the machine is an event."""

    def next_us(self, after: Micros) -> Micros | None:  # noqa: ARG002 - the shape of every rule
        """None."""
        return None

    def previous_us(self, before: Micros) -> Micros | None:  # noqa: ARG002
        """None."""
        return None

    def count_us(self, after: Micros, until: Micros) -> int:  # noqa: ARG002
        """0."""
        return 0
