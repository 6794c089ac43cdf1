"""Columns of values as PostgreSQL's array literals: a whole batch of rows in a few parameters.

Written here because psycopg dumps a list value by value, which takes ten times as long for a large batch.
Source of the form: PostgreSQL's manual, 8.15.2 and 8.15.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Row = tuple[object, ...]


def columns(rows: Sequence[Row]) -> list[str]:
    """One literal for each column of the rows; there must be a row."""
    return [literal(column) for column in zip(*rows, strict=True)]


def literal(values: Iterable[object]) -> str:
    """`{1,NULL,"text"}`."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)  # an integer, or `true` and `false` as Python and SQL both read them
