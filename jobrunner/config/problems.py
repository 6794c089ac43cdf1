"""Problems of a configuration as values, collected in order, and how a terminal shows them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

MOST_SHOWN: Final = 20
WIDEST: Final = 140  # columns of a source line that are shown
LINE_BREAKS: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what YAML takes for the end of a line
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Place(NamedTuple):
    """Where something is written; lines and columns count from 1, line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0
    width: int = 1


class Problem(NamedTuple):
    """Something that is wrong (`error`) or doubtful (`warning`) in a file."""

    file: str
    line: int
    column: int
    severity: str  # error | warning
    code: str  # stable, kebab-case
    message: str  # what, got, wanted
    help: str = ""  # the next step
    width: int = 1  # columns that the caret underlines

    @property
    def is_error(self) -> bool:
        return self.severity == "error"


class Findings:
    """Collects problems while a configuration is read; gives them in the order of the files."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}
        self._files: dict[str, int] = {}
        self._settled: set[tuple[str, int, int]] = set()

    def knows(self, file: str) -> None:
        """Problems of this file come after those of the files named before."""
        self._files.setdefault(file, len(self._files))

    def error(self, place: Place, code: str, message: str, *, hint: str = "") -> None:
        self._add(place, "error", code, message, hint)

    def warning(self, place: Place, code: str, message: str, *, hint: str = "") -> None:
        self._add(place, "warning", code, message, hint)

    def unreadable(self, place: Place, code: str, message: str, *, hint: str = "") -> None:
        """An error of a value that could not be read at all: what is said of it later is left out."""
        self.error(place, code, message, hint=hint)
        self._settled.add(place[:3])

    def consequence(self, place: Place, code: str, message: str, *, hint: str = "") -> None:
        """An error, unless the value at this place could not be read in the first place."""
        if place[:3] not in self._settled:
            self.error(place, code, message, hint=hint)

    def _add(self, place: Place, severity: str, code: str, message: str, hint: str) -> None:
        self.knows(place.file)
        problem = Problem(
            file=place.file,
            line=place.line,
            column=place.column,
            severity=severity,
            code=code,
            message=message,
            help=hint,
            width=max(1, place.width),
        )
        self._found.setdefault(problem)

    @property
    def failed(self) -> bool:
        return any(problem.is_error for problem in self._found)

    def sorted(self) -> tuple[Problem, ...]:
        """All problems, by file, line and column."""
        return tuple(sorted(self._found, key=lambda each: (self._files[each.file], each.line, each.column)))


# ---- on a terminal ---------------------------------------------------------------------------------------


def render_problems(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    """The text of a list of problems: at most 20 of them, errors before warnings, in the files' order.

    `sources` are the texts of the files by the name under which the problems know them.
    """
    shown = _most_important(problems)
    lines = {file: LINE_BREAKS.split(text) for file, text in sources.items()}
    parts = [_render(problem, lines.get(problem.file, [])) for problem in shown]
    if len(problems) > len(shown):
        parts.append(f"and {len(problems) - len(shown)} more")
    parts.append(count_text(problems))
    return "\n".join(parts)


def _most_important(problems: Sequence[Problem]) -> list[Problem]:
    by_weight = sorted(range(len(problems)), key=lambda index: (not problems[index].is_error, index))
    return [problems[index] for index in sorted(by_weight[:MOST_SHOWN])]


def count_text(problems: Iterable[Problem]) -> str:
    """`2 errors, 1 warning`, or `no problems`."""
    severities = [problem.severity for problem in problems]
    counts = ((severities.count(word), word) for word in ("error", "warning"))
    return (
        ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count)
        or "no problems"
    )


def _render(problem: Problem, lines: Sequence[str]) -> str:
    where = f":{problem.line}:{problem.column}" if problem.line else ""
    parts = [f"{escape(problem.file)}{where}: {problem.severity}: {escape(problem.message)}"]
    if 0 < problem.line <= len(lines):
        parts.extend(_snippet(problem, lines[problem.line - 1]))
    if problem.help:
        parts.append(f"   = help: {escape(problem.help)}")
    return "\n".join(parts)


def _snippet(problem: Problem, line: str) -> list[str]:
    before, token = _around(problem, line)
    number = str(problem.line)
    margin = " " * len(number)
    carets = "^" * max(1, min(_columns(token), WIDEST - _columns(before)))
    shown = _cut(before + escape(line[problem.column - 1 :]))
    return [f" {margin} |", f" {number} | {shown}", f" {margin} | {' ' * _columns(before)}{carets}"]


def _around(problem: Problem, line: str) -> tuple[str, str]:
    """What is shown before the token, shortened at its left where it is long, and the token."""
    start = problem.column - 1
    before = escape(line[:start])
    if _columns(before) > WIDEST // 2:
        before = "..." + before[-(WIDEST // 2 - 3) :]
    return before, escape(line[start : start + problem.width])


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."


def _columns(text: str) -> int:
    """Terminal columns: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def escape(text: str) -> str:
    """The text with every control character spelled out: a file must not speak to the terminal."""
    return _UNSAFE.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[match[0]]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
