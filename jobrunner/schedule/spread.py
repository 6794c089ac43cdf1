"""A stable spread: the same name always gives the same number, and different names differ."""

from __future__ import annotations

from jobrunner.digest import sha256

_PREFIX = "jobrunner:spread:"


def spread(name: str, span: int) -> int:
    """Gives a number from 0 to `span`, both included, that depends on the name alone.

    The unit is the caller's. The first eight bytes of SHA-256 decide, so that the number is the same on
    every machine, in every process and after every restart. Raises ValueError for a negative span.
    """
    if span < 0:
        raise ValueError(f"a spread needs a span of at least 0, got {span}")
    digest = sha256((_PREFIX + name).encode()).digest()
    return int.from_bytes(digest[:8], "big") % (span + 1)
