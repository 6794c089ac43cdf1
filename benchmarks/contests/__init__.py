"""The contests, by target: each module has `contests(sizes, servers)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import Contest


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    runs: int = 20_000
    slow_runs: int = 2_000  # for peers that do some hundreds a second
    repeat: int = 3
    is_quick: bool = False


Servers = Mapping[str, str]  # REDIS, POSTGRES: URLs; what is not there is missing
Contests = Callable[[Sizes, Servers], Sequence[Contest]]
