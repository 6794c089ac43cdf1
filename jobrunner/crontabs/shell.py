"""Just enough of the shell's grammar to see the words of a command and where it is more than one."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<control>&&|\|\||;;|[0-9]*[<>]&[0-9-]|&>>?|[0-9]*(?:>>|<<<?|[<>]\|?)|[;|&()])"""
    r"""|(?P<word>(?:\$\((?:[^()]|\([^()]*\)|\(\([^()]*\)\))*\)|`[^`]*`|'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s;|&()<>'"`\\])+)"""
    r"""|(?P<other>\S))""",
    re.DOTALL,
)
_QUOTES: Final = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)""", re.DOTALL)


class Token(NamedTuple):
    """A word, or an operator such as `&&` or `>`; with its place in the text."""

    text: str
    is_word: bool
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Words and operators in order. Never raises: what has no end is a token of its own."""
    found = []
    for match in _TOKEN.finditer(text):
        group = match.lastgroup or "other"
        found.append(Token(match[group], group == "word", match.start(group), match.end(group)))
    return found


def unquoted(word: str) -> str:
    """A word without its quotes and backslashes; nothing is expanded."""

    def plain(match: re.Match[str]) -> str:
        if match[2] is not None:
            return re.sub(r'\\([\\$`"\n])', r"\1", match[2])
        return str(match[1] if match[1] is not None else match[3])

    return _QUOTES.sub(plain, word)
