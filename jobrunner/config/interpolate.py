"""`${VAR}` in values, in the grammar of Compose: only braces count, a bare `$VAR` stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR: Final = re.compile(r":?[-?+]")
_DEEPEST: Final = 20


class InterpolationError(ValueError):
    """A variable that is not set, or a `${` that cannot be read; `help` is the next step."""

    def __init__(self, code: str, message: str, *, help: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help


def interpolate(text: str, variables: Mapping[str, str], used: dict[str, str | None]) -> str:
    """The text with `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `${VAR:+other}` and `$$` replaced.

    What was looked up is noted in `used`. Raises InterpolationError.
    """
    if "$" not in text:
        return text
    done, _ = _Reader(text, variables, used).until_end(0, 0)
    return done


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, str], used: dict[str, str | None]) -> None:
        self._text = text
        self._variables = variables
        self._used = used

    def until_end(self, at: int, depth: int) -> tuple[str, int]:
        """The replaced text from `at` to the end, or to the brace that closes this level."""
        parts: list[str] = []
        while at < len(self._text):
            if depth and self._text[at] == "}":
                return "".join(parts), at + 1
            piece, at = self._piece(at, depth)
            parts.append(piece)
        if depth:
            raise InterpolationError(
                "variable-syntax",
                f"got {self._text!r}, expected a '}}' for every '${{'",
                help="write $$ for one $",
            )
        return "".join(parts), at

    def _piece(self, at: int, depth: int) -> tuple[str, int]:
        if self._text.startswith("$$", at):
            return "$", at + 2
        if self._text.startswith("${", at):
            return self._variable(at + 2, depth + 1)
        return self._text[at], at + 1

    def _variable(self, at: int, depth: int) -> tuple[str, int]:
        name = _NAME.match(self._text, at)
        operator = _OPERATOR.match(self._text, name.end()) if name else None
        if (
            name is None
            or depth > _DEEPEST
            or not (operator or self._text[name.end() : name.end() + 1] == "}")
        ):
            raise InterpolationError(
                "variable-syntax",
                f"got {self._text!r}, expected ${{NAME}}, ${{NAME:-default}} or ${{NAME:?message}}",
                help="write $$ for one $",
            )
        if operator is None:
            return self._value(name[0]), name.end() + 1
        start = operator.end()
        return self._operate(name[0], operator[0], start, depth)

    def _operate(self, name: str, operator: str, start: int, depth: int) -> tuple[str, int]:
        value = self._look_up(name)
        missing = not value if operator[0] == ":" else value is None
        wanted = missing != (operator[-1] == "+")  # whether the word after the operator counts
        word, end = self.until_end(start, depth) if wanted else ("", self._closing(start, depth))
        if operator[-1] == "+":
            return word, end
        if not missing:
            return value or "", end
        if operator[-1] == "?":
            raise InterpolationError("variable-unset", f"{name}: {word or 'is not set'}", help=f"set {name}")
        return word, end

    def _closing(self, start: int, depth: int) -> int:
        """Behind the brace that closes this level, whatever is written before it."""
        return _Reader(self._text, _Anything(), {}).until_end(start, depth)[1]

    def _value(self, name: str) -> str:
        value = self._look_up(name)
        if value is None:
            raise InterpolationError(
                "variable-unset",
                f"variable {name} is not set, expected a value or a default",
                help=f"set it, or write ${{{name}:-default}}",
            )
        return value

    def _look_up(self, name: str) -> str | None:
        value = self._variables.get(name)
        self._used[name] = value
        return value


class _Anything(dict[str, str]):
    """Every variable is set: for text that is read only to find its end."""

    def get(self, _name: str, _default: object = None) -> str:
        return "x"
