"""The scripts that do everything: Lua, so that a call is one step of the server, with nobody beside it.

The files of this folder are one text; each operation is sent what it uses of it. A script makes all of its
functions anew at every call: the whole text would take a server longer than most operations do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

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
_BEGIN: Final = re.compile(
    r"^(?=local |function )", re.MULTILINE
)  # of a definition: nothing else is at the margin
_NAMES: Final = re.compile(r"(?:local function |function |local )((?:[\w.]+, )*[\w.]+)")
_WORD: Final = re.compile(r"\w+")
_COMMENT: Final = re.compile(r"^\s*--.*\n", re.MULTILINE)


class Script(NamedTuple):
    """The text of a script, and the name under which a server remembers it."""

    text: str
    sha: str


class Piece(NamedTuple):
    """A definition: what it is called, and the words in it."""

    text: str
    names: frozenset[str]
    words: frozenset[str]


@cache
def script(operation: str) -> Script:
    """The script of an operation."""
    text = "".join(piece.text for piece in _used_by(operation))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _used_by(operation: str) -> Iterator[Piece]:
    """The pieces that this operation needs, in their order."""
    wanted, needed = {f"operations.{operation}", "answer"}, []
    for piece in reversed(_pieces()):  # its use stands below
        if piece.names & wanted:
            wanted |= piece.words
            needed.append(piece)
    return reversed(needed)


@cache
def _pieces() -> tuple[Piece, ...]:
    folder = Path(__file__).parent
    text = "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in PARTS)
    return tuple(_piece(each) for each in _BEGIN.split(_COMMENT.sub("", text)) if each.strip())


def _piece(text: str) -> Piece:
    found = _NAMES.match(text)
    assert found is not None, text
    return Piece(text, frozenset(found[1].split(", ")), frozenset(_WORD.findall(text)))
