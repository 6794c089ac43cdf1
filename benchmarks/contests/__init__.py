"""The contests, by target: each module has `contests(sizes, servers)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import Contest


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    name: str
    runs: int  # to be drained by us
    quick_runs: int  # by peers that do some thousands a second
    slow_runs: int  # by peers that do some hundreds a second
    enqueued: int  # one by one
    many: int  # in one call
    moments: int  # enqueues whose start is timed
    rests: int  # the same after a rest of one to two seconds each
    commands: int
    rest: float  # seconds of observation of what is idle
    million: int
    fives: int  # calls of 5 ms
    repeat: int = 3
    is_quick: bool = False  # the targets that are felt first, and one more peer

    @property
    def is_tiny(self) -> bool:
        """Whether only that it works is asked."""
        return self.name == "tiny"


FULL = Sizes(
    name="full",
    runs=20_000,
    quick_runs=5_000,
    slow_runs=1_000,
    enqueued=2_000,
    many=10_000,
    moments=200,
    rests=60,
    commands=1_000,
    rest=30.0,
    million=1_000_000,
    fives=2_000,
)
QUICK = Sizes(
    name="quick",
    runs=20_000,
    quick_runs=5_000,
    slow_runs=1_000,
    enqueued=1_000,
    many=10_000,
    moments=100,
    rests=10,
    commands=1_000,
    rest=10.0,
    million=100_000,
    fives=1_000,
    repeat=2,
    is_quick=True,
)
TINY = Sizes(
    name="tiny",
    runs=400,
    quick_runs=200,
    slow_runs=50,
    enqueued=64,
    many=400,
    moments=10,
    rests=3,
    commands=40,
    rest=2.0,
    million=4_000,
    fives=100,
    repeat=1,
)

Servers = Mapping[str, str]  # REDIS, POSTGRES: URLs; what is not there is missing
Contests = Callable[[Sizes, Servers], Sequence[Contest]]
