"""A crontab as values: each line as Debian's cron or cronie reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from .fields import Refused, Sets, read_fields

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
REBOOT: Final = "@reboot"
_VARIABLE: Final = re.compile(
    r"""[ \t]*(?:(?P<quote>["'])(?P<quoted>.*?)(?P=quote)|(?P<bare>[^\s=]+?))\s*=\s*(?P<value>.*)$""",
    re.DOTALL | re.ASCII,
)
_FIVE: Final = re.compile(
    r"[ \t]*(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)(?:[ \t]+(.*))?$", re.DOTALL | re.ASCII
)
_NICKNAME: Final = re.compile(r"[ \t]*(@\S*)(?:[ \t]+(.*))?$", re.DOTALL | re.ASCII)
_USER: Final = re.compile(r"(\S+)(?:[ \t](.*))?$", re.DOTALL | re.ASCII)


class Dialect(StrEnum):
    """Whose crontab it is."""

    DEBIAN = "debian"
    CRONIE = "cronie"


class Kind(StrEnum):
    """What a line is."""

    BLANK = "blank"
    COMMENT = "comment"
    VARIABLE = "variable"
    TASK = "task"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line. Of a task: when, who, what; `refusal` is what cron says of a line that it does not take."""

    number: int
    text: str
    kind: Kind
    notes: tuple[str, ...] = ()
    name: str = ""
    value: str = ""
    when: str = ""
    """Five fields with single blanks, a nickname, or `@reboot`."""
    sets: Sets | None = None
    """None: `@reboot`, values that cronie draws at random, or refused fields."""
    user: str | None = None
    command: str = ""
    stdin: str | None = None
    refusal: str = ""


def read_crontab(text: str, *, dialect: Dialect = Dialect.DEBIAN, system: bool = False) -> list[Line]:
    """All lines, in order. Never raises: what cannot be read is a line of kind `refused`."""
    rows = text.removeprefix("\ufeff").split("\n")
    unended = rows[-1] != ""
    if not unended:
        rows.pop()
    lines = [_line(number, row, dialect, system) for number, row in enumerate(rows, 1)]
    if unended and lines[-1].kind in (Kind.TASK, Kind.VARIABLE):
        lines[-1] = _noted(lines[-1], _UNENDED[dialect])
    return lines


_UNENDED: Final = {
    Dialect.DEBIAN: "the last line has no newline: Debian's cron ignores such a file as a whole",
    Dialect.CRONIE: "the last line has no newline: cronie ignores this line",
}


def _noted(line: Line, *notes: str) -> Line:
    return replace(line, notes=(*line.notes, *notes))


def _line(number: int, row: str, dialect: Dialect, system: bool) -> Line:
    text = row.rstrip("\r")
    notes = ("the line ended in a carriage return, which cron hands to the command",) if text != row else ()
    stripped = text.strip(" \t")
    if not stripped:
        return Line(number=number, text=text, kind=Kind.BLANK)
    if stripped.startswith("#"):
        return Line(number=number, text=text, kind=Kind.COMMENT)
    found = _variable(number, text, dialect) or _task(number, text, dialect, system)
    return _noted(found, *notes) if notes else found


# ---- variables -------------------------------------------------------------------------------------------


def _variable(number: int, text: str, dialect: Dialect) -> Line | None:
    """A line `NAME = value`, by the state machine of cron's env.c; None for any other line."""
    found = _VARIABLE.match(text)
    if found is None:
        return None
    name = found["quoted"] if found["quote"] else found["bare"]
    if not name or (not found["quote"] and name[0] in "\"'"):
        return None
    value, notes = found["value"], list[str]()
    if value[:1] in ("'", '"'):
        quoted = re.fullmatch(r"""(["'])(.*?)\1\s*""", value, re.DOTALL | re.ASCII)
        if quoted is None:
            return None
        value = quoted[2]
    elif not value:
        if dialect is Dialect.DEBIAN:
            notes.append("Debian's cron refuses an empty value without quotes, and the whole file with it")
    else:
        value = value.rstrip(" \t\r\f\v")
        notes.extend(_odd_value(value))
    return Line(number=number, text=text, kind=Kind.VARIABLE, name=name, value=value, notes=tuple(notes))


def _odd_value(value: str) -> Iterator[str]:
    if re.search(r"\s#", value):
        yield "what follows '#' belongs to the value: cron knows no comment behind it"
    if re.search(r"\$[A-Za-z_{(]", value):
        yield "cron does not expand variables here: the value holds the '$' as it is written"


# ---- tasks -----------------------------------------------------------------------------------------------


def _task(number: int, text: str, dialect: Dialect, system: bool) -> Line:
    unlogged = dialect is Dialect.CRONIE and text.lstrip(" \t").startswith("-")
    row = text.lstrip(" \t")[1:] if unlogged else text  # cronie: `-` keeps the line out of its log
    found = _NICKNAME.match(row) or _FIVE.match(row)
    if found is None:
        why = "cron refuses this line: it is neither a variable nor five fields and a command"
        return Line(number=number, text=text, kind=Kind.REFUSED, refusal=why)
    words, rest = found.groups()[:-1], found.groups()[-1] or ""
    when = " ".join(words)
    sets, refusal = _sets(when, dialect)
    user, rest = _user(rest) if system else (None, rest)
    if rest.startswith("*") or user == "*":
        why = "cron refuses this line: it has six fields of time"
        return Line(number=number, text=text, kind=Kind.REFUSED, refusal=why)
    command, stdin = split_command(rest, dialect)
    if not command.strip():
        why = "no command: cron would run an empty one" if rest.strip() or not system else "no command"
        return Line(number=number, text=text, kind=Kind.REFUSED, refusal=why)
    return Line(
        number=number,
        text=text,
        kind=Kind.TASK,
        when=when,
        sets=sets,
        user=user,
        command=command,
        stdin=stdin,
        refusal=refusal,
        notes=tuple(_odd_command(rest, command, stdin)),
    )


def _sets(when: str, dialect: Dialect) -> tuple[Sets | None, str]:
    """The sets, or why cron refuses the line. Nicknames are case sensitive, as in cron."""
    if when == REBOOT:
        return None, ""
    if when.startswith("@") and when not in NICKNAMES:
        return None, "bad time specifier"
    words = NICKNAMES.get(when, when).split(" ")
    if dialect is Dialect.CRONIE and any("~" in word for word in words):
        return None, ""
    try:
        return read_fields(words), ""
    except Refused as why:
        return None, str(why)


def _user(rest: str) -> tuple[str, str]:
    found = _USER.match(rest)
    return (found[1], found[2] or "") if found else ("", "")


def split_command(text: str, dialect: Dialect) -> tuple[str, str | None]:
    r"""The command before the first bare `%`, and the text for stdin behind it, None without any.

    `\%` is `%`; Debian's cron also turns `\\` into `\` in the command.
    """
    freed = "%\\" if dialect is Dialect.DEBIAN else "%"
    command: list[str] = []
    escaped = False
    for at, char in enumerate(text):
        if escaped:
            if char in freed:
                command.pop()
            command.append(char)
            escaped = False
        elif char == "%":
            return "".join(command), _stdin(text[at + 1 :]) or None
        else:
            command.append(char)
            escaped = char == "\\"
    return "".join(command), None


def _stdin(text: str) -> str:
    r"""`%` is a newline, `\%` is `%`, and the text ends with a newline."""
    lines = re.sub(r"\\?%", lambda each: "%" if each[0] == "\\%" else "\n", text)
    return lines if not lines or lines.endswith("\n") else f"{lines}\n"


def _odd_command(raw: str, command: str, stdin: str | None) -> Iterator[str]:
    if stdin is not None and _is_cut(command):
        yield "'%' ends the command, even inside quotes: what follows is its stdin. Was '\\%' meant?"
    elif stdin is not None and re.search(r"\bdate\b[^|;&]*\+$", command):
        yield "'%' ends the command: 'date +%...' in a crontab must be written 'date +\\%...'"
    if "\\\\" in raw and command.count("\\\\") < raw.count("\\\\"):
        yield "cron turns '\\\\' into '\\': the command is what cron makes of it"
    if re.search(r"(?:^|\s)#[^'\"]*>", command):
        yield "'#' begins a comment for the shell: the redirection behind it is lost"


def _is_cut(command: str) -> bool:
    """Whether quotes or brackets are open at the end."""
    odd = any(command.count(quote) % 2 for quote in "\"'`")
    return odd or command.count("(") != command.count(")")
