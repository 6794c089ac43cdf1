"""What is really wrong where the YAML parser stumbles, and the line as it was meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from yaml.error import MarkedYAMLError, YAMLError

from .problems import LINE_BREAKS

_VALUE: Final = re.compile(
    r"^(\s*(?:-\s+)*(?:[^\s:#'\"\[{-][^:#]*?|'[^']*'|\"[^\"]*\")\s*:\s+|\s*(?:-\s+)+)(\S.*)$"
)
_SPECIAL: Final = {
    "*": "YAML gives a leading '*' a meaning of its own",
    "&": "YAML gives a leading '&' a meaning of its own",
    "!": "YAML gives a leading '!' a meaning of its own",
    "|": "YAML gives a leading '|' a meaning of its own",
    ">": "YAML gives a leading '>' a meaning of its own",
    "?": "YAML gives a leading '?' a meaning of its own",
    "@": "YAML keeps a leading '@' for itself",
    "`": "YAML keeps a leading '`' for itself",
    "%": "YAML keeps a leading '%' for itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A syntax error in words; `repaired` is the whole text with the value quoted, where that is all."""

    line: int
    column: int
    width: int = 1
    code: str = "yaml-syntax"
    message: str
    help: str = ""
    repaired: str | None = None


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where the parser was: `line`, `column` of its complaint and `since` where that part began, from 0."""

    text: str
    lines: list[str]
    problem: str
    context: str
    line: int
    column: int
    since: tuple[int, int]

    @property
    def here(self) -> str:
        return self.line_at(self.line)

    def line_at(self, number: int) -> str:
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def char_at(self, line: int, column: int) -> str:
        return self.line_at(line)[column : column + 1]


def diagnose(error: YAMLError, text: str) -> Fault:
    """The fault behind an error of the parser, libyaml's or the pure one."""
    spot = _spot(error, text)
    for look in _LOOKS:
        fault = look(spot)
        if fault is not None:
            return fault
    problem = spot.problem or str(error)
    return Fault(line=spot.line + 1, column=spot.column + 1, message=f"this is not YAML: {problem}")


def _spot(error: YAMLError, text: str) -> _Spot:
    lines = LINE_BREAKS.split(text)
    if not isinstance(error, MarkedYAMLError):
        return _Spot(text, lines, str(error), "", 0, 0, (0, 0))
    mark: Any = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    since: Any = error.context_mark
    begun = (since.line, since.column) if since is not None else (line, column)
    return _Spot(text, lines, error.problem or "", error.context or "", line, column, begun)


# ---- quoting ---------------------------------------------------------------------------------------------


def _unquoted(spot: _Spot, line: int, column: int, *, why: str = "") -> Fault:
    """The value that begins at a place must be quoted; the rest of the file is read as if it were."""
    value = _rest_of_value(spot.line_at(line), column)
    quoted = quote(value)
    hint = f"write {quoted}{_or_interval(value)}"
    return Fault(
        line=line + 1,
        column=column + 1,
        width=len(value),
        code="must-be-quoted",
        message="this value must be quoted",
        help=f"{hint}  ({why})" if why else hint,
        repaired=_with_line(
            spot, line, spot.line_at(line)[:column] + quoted + spot.line_at(line)[column + len(value) :]
        ),
    )


def _rest_of_value(line: str, column: int) -> str:
    """The value to the end of its line, or of its part of a list in brackets, without a comment."""
    rest = re.sub(r"\s+#.*$", "", line[column:])
    before = line[:column]
    if before.count("{") + before.count("[") > before.count("}") + before.count("]"):
        rest = _part_of_flow(rest)
    return rest.rstrip()


def _part_of_flow(rest: str) -> str:
    depth = 0
    for index, char in enumerate(rest):
        depth += (char in "{[") - (char in "}]")
        if depth < 0 or (depth == 0 and char == ","):
            return rest[:index]
    return rest


def quote(value: str) -> str:
    """The value in quotes that YAML takes literally: double ones where nothing needs escaping."""
    if '"' not in value and "\\" not in value:
        return f'"{value}"'
    return "'" + value.replace("'", "''") + "'"


def _or_interval(value: str) -> str:
    step = re.fullmatch(r"\*/([0-9]+) \* \* \* \*", value)
    if step and 60 % int(step[1] or 1) == 0:
        return f" or  every {step[1]}m"
    nickname = re.fullmatch(r"@(hourly|daily|midnight|weekly|monthly|yearly|reboot)", value)
    return f" or  {nickname[1]}" if nickname else ""


def _with_line(spot: _Spot, number: int, line: str) -> str:
    return "\n".join([*spot.lines[:number], line, *spot.lines[number + 1 :]])


def _value_start(line: str) -> int | None:
    found = _VALUE.match(line)
    return None if found is None else found.start(2)


# ---- what to look for, the surest first ------------------------------------------------------------------


def _tab(spot: _Spot) -> Fault | None:
    indentation = re.match(r"[ \t]*", spot.here)
    column = (indentation[0] if indentation else "").find("\t")
    if column < 0 or "\t" not in spot.char_at(spot.line, spot.column) + spot.here[: spot.column + 1]:
        return None
    return Fault(
        line=spot.line + 1,
        column=column + 1,
        code="tab",
        message="got a tab in the indentation, expected spaces",
        help="YAML does not allow tabs for indentation: replace each by two spaces",
    )


def _special_start(spot: _Spot) -> Fault | None:
    """A value that begins with a character which means something to YAML."""
    aliases = (
        "while scanning an alias",
        "while scanning an anchor",
        "while scanning a tag",
        "while parsing a tag",
    )
    if spot.context in (*aliases, "while scanning a block scalar"):
        line, column = spot.since
    elif "cannot start any token" in spot.problem or "mapping keys are not allowed" in spot.problem:
        line, column = spot.line, spot.column
    else:
        return None
    char = spot.char_at(line, column)
    if char not in _SPECIAL:
        return None
    start = _value_start(spot.line_at(line))
    inside = start is not None and start < column and spot.line_at(line)[start] in "[{"
    if start is not None and not (inside and _is_flow(spot.line_at(line)[start:])):
        column = start
    return _unquoted(spot, line, column, why=_SPECIAL.get(spot.char_at(line, column), ""))


def _is_flow(value: str) -> bool:
    """Whether a value that begins with a bracket is a list or mapping, and not the `[` of a shell."""
    return value[:1] == "{" or bool(re.match(r"\[[^\]]*(\]\s*(#.*)?)?$", value))


def _undefined_alias(spot: _Spot) -> Fault | None:
    if "undefined alias" not in spot.problem:
        return None
    fault = _unquoted(spot, spot.line, spot.column, why=_SPECIAL["*"])
    name = spot.here[spot.column + 1 : spot.column + fault.width]
    if not re.fullmatch(r"[\w-]+", name):
        return fault
    message = f"unknown anchor {name!r}, expected one that is defined further up as &{name}"
    return replace(
        fault, code="unknown-anchor", message=message, help=f'define it, or quote the text: "*{name}"'
    )


def _template(spot: _Spot) -> Fault | None:
    """`{{ x }}` and `${X}`: braces that belong to another language than YAML."""
    start = _value_start(spot.here)
    if start is None or ("flow" not in spot.context and "{{" not in spot.here):
        return None
    value = spot.here[start:]
    if value.startswith("{{"):
        return _unquoted(spot, spot.line, start, why="YAML takes {{ for the beginning of a mapping")
    braces = re.compile(r"\$\{[^}]*\}|\{\{.*?\}\}")
    found = [each.start() for each in braces.finditer(spot.here) if each.start() <= spot.column]
    if not found:
        return None
    begin = max(each.end() for each in re.finditer(r"[\[{,:]\s+|[\[{,]|^", spot.here[: found[-1]]))
    if spot.here[begin] in "'\"":
        return None
    return _unquoted(spot, spot.line, begin, why="inside {} and [] YAML reads the braces itself")


def _colon_in_value(spot: _Spot) -> Fault | None:
    if "mapping values are not allowed" not in spot.problem:
        return None
    start = _value_start(spot.here)
    if start is None or start >= spot.column or spot.here[start] in "\"'[{":
        return None
    return _unquoted(spot, spot.line, start, why="YAML takes ': ' for the end of a key")


def _missing_space(spot: _Spot) -> Fault | None:
    """`command:x`, found out at the colon of a later line."""
    if "mapping values are not allowed" not in spot.problem and "expected ':'" not in spot.problem:
        return None
    for number in range(spot.line, max(-1, spot.line - 4), -1):
        glued = re.match(r"(\s*)([A-Za-z_][\w-]*):(?=[^\s/])", spot.line_at(number))
        if glued:
            return Fault(
                line=number + 1,
                column=len(glued[1]) + 1,
                width=len(glued[2]) + 1,
                code="missing-space",
                message=f"got no space after '{glued[2]}:', expected one",
                help=f"write {glued[2]}: {spot.line_at(number)[glued.end() :].strip()}",
            )
    return None


def _missing_colon(spot: _Spot) -> Fault | None:
    if "expected ':'" not in spot.problem:
        return None
    line, column = spot.since
    words = spot.line_at(line)[column:].split()
    return Fault(
        line=line + 1,
        column=column + 1,
        width=len(spot.line_at(line).rstrip()) - column,
        code="missing-colon",
        message="got a line without ': ', expected KEY: VALUE",
        help=f"write {words[0]}: {' '.join(words[1:])}" if len(words) > 1 else "",
    )


def _indentation(spot: _Spot) -> Fault | None:
    """A line that is further in, or less far in, than the lines it should belong to."""
    known = ("mapping values are not allowed", "did not find expected key", "<block end>", "<document start>")
    start = len(spot.here) - len(spot.here.lstrip(" "))
    if not any(each in spot.problem for each in known):
        return None
    if "mapping values" not in spot.problem and spot.column != start:
        return None
    above = next((n for n in range(spot.line - 1, -1, -1) if spot.line_at(n).strip()), None)
    hint = "keys of one mapping begin in the same column"
    if above is not None:
        indent = len(spot.line_at(above)) - len(spot.line_at(above).lstrip(" "))
        hint += f"; line {above + 1} above begins in column {indent + 1}"
    return Fault(
        line=spot.line + 1,
        column=start + 1,
        width=max(1, len(spot.here.strip())),
        code="indentation",
        message="wrong indentation: this line fits none of the lines above",
        help=hint,
    )


def _never_closed(spot: _Spot) -> Fault | None:
    line, column = spot.since
    char = spot.char_at(line, column)
    if (
        "end of stream" in spot.problem
        or "document separator" in spot.problem
        or "unexpected end" in spot.problem
    ):
        kind = "quote" if char in "'\"" else "bracket"
    elif "flow" in spot.context and char in "[{":
        kind = "bracket"
    else:
        return None
    closing = {"[": "]", "{": "}"}.get(char, char)
    return Fault(
        line=line + 1,
        column=column + 1,
        code=f"unterminated-{kind}",
        message=f"this {char} is never closed"
        if kind == "quote"
        else f"this '{char}' is not closed, or a comma is missing after it",
        help=f"add {closing} where the text ends"
        if kind == "quote"
        else f"add '{closing}' at its end, and commas between its parts; quote a value with brackets in it",
    )


def _after_quotes(spot: _Spot) -> Fault | None:
    """`"echo" hi`: the quotes end before the value does."""
    if "did not find expected key" not in spot.problem and "<block end>" not in spot.problem:
        return None
    start = _value_start(spot.here)
    if start is None or start >= spot.column or spot.here[start] not in "\"'[{":
        return None
    why = "YAML ends the value where its first quotes or brackets end"
    return _unquoted(spot, spot.line, start, why=why)


def _escape(spot: _Spot) -> Fault | None:
    if "unknown escape character" not in spot.problem:
        return None
    column = spot.here.rfind("\\", 0, spot.column + 1)
    return Fault(
        line=spot.line + 1,
        column=column + 1,
        width=2,
        code="bad-escape",
        message=f"unknown escape {spot.here[column : column + 2]!r} in double quotes".replace("\\\\", "\\"),
        help="a backslash is special in double quotes: use single quotes, or write \\\\",
    )


def _dash_after_key(spot: _Spot) -> Fault | None:
    if "sequence entries are not allowed" not in spot.problem:
        return None
    start = _value_start(spot.here)
    if start is None:
        return None
    return Fault(
        line=spot.line + 1,
        column=start + 1,
        width=len(spot.here.rstrip()) - start,
        code="yaml-syntax",
        message="a list cannot begin with '-' on the line of its key",
        help=f"put it on the next line, or write [{spot.here[start:].lstrip('- ').rstrip()}]",
    )


def _several_documents(spot: _Spot) -> Fault | None:
    if "another document" not in spot.problem:
        return None
    return Fault(
        line=spot.line + 1,
        column=spot.column + 1,
        width=3,
        code="several-documents",
        message="got a second document, expected one",
        help="remove the line ---, or put the rest into a file of its own and name it under include",
    )


def _too_deep(spot: _Spot) -> Fault | None:
    if "nested deeper" not in spot.problem:
        return None
    return Fault(line=spot.line + 1, column=spot.column + 1, code="too-deep", message=spot.problem)


_LOOKS: Final[tuple[Callable[[_Spot], Fault | None], ...]] = (
    _too_deep,
    _several_documents,
    _tab,
    _special_start,
    _undefined_alias,
    _template,
    _escape,
    _colon_in_value,
    _missing_space,
    _missing_colon,
    _dash_after_key,
    _after_quotes,
    _indentation,
    _never_closed,
)
