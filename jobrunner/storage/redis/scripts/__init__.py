"""The script that does everything: Lua, so that a call is one step of the server, with nobody beside it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

# In this order: what is used stands above its use.
PARTS = (
    "core",
    "rows",
    "edges",
    "adding",
    "settles",
    "reads",
    "owners",
    "control",
    "ticks",
    "claims",
    "leaving",
    "main",
)


class Script(NamedTuple):
    """The text of the script, and the name under which a server remembers it."""

    text: str
    sha: str


@cache
def script() -> Script:
    """The script, read once."""
    folder = Path(__file__).parent
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in PARTS)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
