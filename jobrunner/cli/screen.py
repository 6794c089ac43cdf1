"""Where answers are written: a terminal (colour, width, relative times) or a pipe (none of these)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Final, NamedTuple, TextIO

from jobrunner.durations import Micros

from . import words

_CODES: Final = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "dim": 2, "bold": 1}
_GAP: Final = "  "
_NARROWEST: Final = 8


class Cell(NamedTuple):
    """A piece of a table: its text, and a colour for it."""

    text: str
    colour: str | None = None


class Screen(NamedTuple):
    """One stream, and how to write for whoever reads it."""

    stream: TextIO
    tty: bool
    colour: bool
    now: Micros
    zone: tzinfo | None = None

    def line(self, text: str = "") -> None:
        self.stream.write(text + "\n")

    def paint(self, text: str, colour: str | None) -> str:
        code = _CODES.get(colour or "")
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code is not None and text else text

    def past(self, instant: Micros) -> str:
        """An instant behind us: relative on a terminal, absolute with its offset in a pipe."""
        return words.ago(instant, self.now, self.zone) if self.tty else words.absolute(instant, self.zone)

    def coming(self, instant: Micros) -> str:
        """An instant before us."""
        return words.ahead(instant, self.now, self.zone) if self.tty else words.absolute(instant, self.zone)

    def text(self, text: str) -> str:
        """Stored text of several lines: escaped on a terminal, as it is in a pipe."""
        return words.several_lines(text) if self.tty else text

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Cell]], *, lead: int = 0) -> None:
        """Aligned columns; `lead` columns at the left (symbols) have no gap of their own behind them."""
        widths = [max(len(name), *(len(row[i].text) for row in rows), 0) for i, name in enumerate(header)]
        if self.tty:
            import shutil

            widths = _fitted(widths, shutil.get_terminal_size().columns)
        self._row([Cell(name, "dim") for name in header], widths, lead)
        for row in rows:
            self._row(row, widths, lead)

    def _row(self, cells: Sequence[Cell], widths: Sequence[int], lead: int) -> None:
        parts: list[str] = []
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            text = cell.text if len(cell.text) <= width else cell.text[: width - 1] + "…"
            gap = " " if index < lead else _GAP
            pad = "" if _is_rest_empty(cells, index) else " " * (width - len(text)) + gap
            parts.append(self.paint(text, cell.colour) + pad)
        self.line("".join(parts).rstrip(" "))

    def json(self, document: object, *, one_line: bool = False) -> None:
        """One document, for programs; indented for a person who looks at it."""
        import json

        self.line(json.dumps(document, ensure_ascii=False, indent=2 if self.tty and not one_line else None))

    def facts(self, facts: Mapping[str, str]) -> None:
        """`name  value` lines; continuation lines of a value are indented below it."""
        width = max((len(name) for name in facts), default=0)
        for name, value in facts.items():
            first, *others = value.split("\n")
            self.line(f"{self.paint(name.ljust(width), 'dim')}  {first}".rstrip(" "))
            for other in others:
                self.line(f"{' ' * width}  {other}".rstrip(" "))


def _is_rest_empty(cells: Sequence[Cell], index: int) -> bool:
    return not any(cell.text for cell in cells[index + 1 :])


def _fitted(widths: Sequence[int], most: int) -> list[int]:
    """Widths that fit into a terminal: the widest column gives way first."""
    fitted = list(widths)
    room = most - len(_GAP) * (len(fitted) - 1)
    while sum(fitted) > room and max(fitted) > _NARROWEST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is likely to look at this stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def wants_colour(choice: str, environ: Mapping[str, str], *, tty: bool) -> bool:
    """`--color` goes before NO_COLOR, NO_COLOR before FORCE_COLOR, and all before a guess."""
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return tty and environ.get("TERM") != "dumb"


def say(message: str) -> None:
    """Talk: stderr, so that the answer on stdout stays alone."""
    sys.stderr.write(message + "\n")
