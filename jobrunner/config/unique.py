"""Unique keys and rate limits, as they are written."""

from __future__ import annotations

import re
from typing import Any, Final

from ..durations import parse_duration
from ..errors import UsageError
from ..plan import RateLimit, Unique
from .kinds import refuse, spell

_RATE: Final = re.compile(r"([0-9]{1,9})\s*/\s*(\S+)", re.ASCII)


def rate(value: object) -> str:
    """`N/duration`."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    hint = "write N/duration: 100/1m, 1/10s, 5000/1h"
    if found is None:
        raise refuse("bad-value", f"got {spell(value)}, expected a number of starts and a duration", hint)
    if int(found[1]) < 1 or _window(found[2]) < 1:
        raise refuse("bad-value", f"got {spell(value)}, expected at least one start and a time", hint)
    return str(value)


def _window(text: str) -> int:
    try:
        return parse_duration(text if not text.isalpha() else f"1{text}")
    except (UsageError, ValueError) as error:
        raise refuse("not-a-duration", f"got {text!r} after '/', expected a duration: {error}") from None


def rate_of(text: str | None) -> RateLimit | None:
    """The rate of a text that was checked."""
    found = _RATE.fullmatch(text) if text is not None else None
    return None if found is None else RateLimit(limit=int(found[1]), window=_window(found[2]))


def unique_of(model: Any) -> Unique | None:
    """The unique key of a model."""
    return None if model is None else Unique(key=model.key, replaces=model.on_conflict == "replace")
