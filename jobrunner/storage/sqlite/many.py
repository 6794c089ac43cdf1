"""Statements that write many rows at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

AT_ONCE: Final = 50  # rows in one statement


class Many:
    """An insert of any number of rows.

    `executemany` gives the interpreter's lock away for each row; while another thread computes, it gets it
    back only after some milliseconds. One statement of many rows waits once.
    """

    def __init__(self, into: str, width: int, otherwise: str = "") -> None:
        row = f"({', '.join('?' * width)})"
        self.one = f"{into} values {row} {otherwise}"
        self._many = f"{into} values {', '.join([row] * AT_ONCE)} {otherwise}"

    def write(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> None:
        """Write these rows, in their order."""
        whole = len(rows) - len(rows) % AT_ONCE
        for start in range(0, whole, AT_ONCE):
            values = tuple(chain.from_iterable(rows[start : start + AT_ONCE]))
            connection.execute(self._many, values)
        connection.executemany(self.one, rows[whole:])
