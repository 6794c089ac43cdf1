"""When a worker has done enough: after so many calls, at some age, above some memory (keys of a pool)."""

from __future__ import annotations

import os
from typing import Final

from ..durations import SECOND, Micros
from ..plan import Pool

LOOK_FOR_WEAR: Final[Micros] = SECOND
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def is_watched(pool: Pool) -> bool:
    """Whether its workers are to be looked at now and then."""
    return pool.max_age is not None or pool.max_memory is not None


def look_every(pool: Pool) -> Micros:
    """How often: a short age is kept well enough."""
    return LOOK_FOR_WEAR if pool.max_age is None else max(SECOND // 20, min(LOOK_FOR_WEAR, pool.max_age // 4))


def is_worn(pool: Pool, *, age: Micros, pid: int) -> bool:
    """Whether a worker of this age should be replaced."""
    if pool.max_age is not None and age >= pool.max_age:
        return True
    return pool.max_memory is not None and resident(pid) > pool.max_memory


def resident(pid: int) -> int:
    """The memory of a process in bytes; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
