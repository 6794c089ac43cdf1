"""A statement that is sent as text with its values in it, so that others may go with it in one message.

A session prepares it once. Behind a pooler each transaction may meet another session: it is sent whole then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PLACE = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement with the places $1, $2... and the kinds of the values that stand there."""

    name: str
    kinds: tuple[str, ...]
    text: str

    @property
    def preparing(self) -> str:
        return f"prepare {self.name} ({', '.join(self.kinds)}) as {self.text}"

    def prepared(self, values: Sequence[object]) -> str:
        """How a session that has prepared it is asked."""
        return f"execute {self.name} ({', '.join(map(quoted, values))})"

    def whole(self, values: Sequence[object]) -> str:
        """How any other is."""
        written = [f"({quoted(value)})::{kind}" for value, kind in zip(values, self.kinds, strict=True)]
        return _PLACE.sub(lambda found: written[int(found[1]) - 1], self.text)


def quoted(value: object) -> str:
    """A value in a statement. The form with `E` means the same however the server is set.

    Raises ValueError for NUL, at which a statement would end.
    """
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if "\0" in text:
        raise ValueError("a text with NUL")
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
