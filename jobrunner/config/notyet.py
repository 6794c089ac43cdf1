"""What the vocabulary has and this version has not: strike a line out when its behaviour exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NOT_YET: Final[Mapping[str, frozenset[str]]] = {
    "task": frozenset(
        {
            "catch_up_limit",
        }
    ),
}
"""Keys, by the kind of mapping they stand in."""

OVERLAP_LATER: Final = ("queue", "replace")
CATCH_UP_LATER: Final = ("all",)
BACKENDS: Final = ("sqlite", "file", "postgresql", "redis", "rediss", "unix", "memory")
BACKENDS_LATER: Final[tuple[str, ...]] = ()
