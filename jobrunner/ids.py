"""Run ids: UUIDv7 texts, made by whoever creates the run, so that a repeated write is seen as one."""

from __future__ import annotations

import os

from .digest import sha256
from .durations import Micros


def new_id(now: Micros) -> str:
    """A fresh UUIDv7 (RFC 9562, 5.7) for the moment `now`."""
    return _uuid7(now, int.from_bytes(os.urandom(10), "big"))


def derived_id(moment: Micros, *parts: str) -> str:
    """The id that these parts always give: a tick's or a callback's run has the same one on every machine."""
    digest = sha256("\x1f".join(parts).encode()).digest()
    return _uuid7(moment, int.from_bytes(digest[:10], "big"))


def _uuid7(moment: Micros, random: int) -> str:
    value = (moment // 1000 & (1 << 48) - 1) << 80 | random & ((1 << 80) - 1)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def short_id(run_id: str) -> str:
    """The ending of an id, which tells runs apart; accepted wherever an id is asked for."""
    return run_id[-8:]
