"""What a path or a text tells of a crontab: whether it has a user column, and whose it is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .parse import Kind, Line, read_crontab

_SPOOLS: Final = ("/var/spool/cron/crontabs", "/var/spool/cron", "/var/cron/tabs")
_IGNORED: Final = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What is known before the first line is read."""

    system: bool = False
    user: str | None = None
    notes: tuple[str, ...] = ()


def recognise(path: str) -> Recognised:
    """What the path of a crontab says of it."""
    folder, _, name = os.path.abspath(path).rpartition("/")
    if folder in _SPOOLS:
        return Recognised(user=name)
    if folder == "/etc/cron.d":
        ignored = f"Debian's cron ignores files called {name}: none of this ever ran"
        return Recognised(system=True, notes=(ignored,) if _IGNORED.search(name) else ())
    return Recognised(system=(folder, name) == ("/etc", "crontab"))


def is_anacrontab(path: str) -> bool:
    """Whether this is anacron's file, which has another form."""
    return os.path.basename(path) == "anacrontab"


def guess(text: str, is_user: Callable[[str], bool]) -> Recognised:
    """Whether every task seems to have a user in sixth place: taken so when root is among them."""
    lines = [line for line in read_crontab(text) if line.kind is Kind.TASK]
    first = [_first_word(line) for line in lines]
    if not lines or not all(_takes_user(line, is_user) for line in lines):
        return Recognised(notes=tuple(_doubts(lines)))
    if "root" not in first:
        return Recognised(notes=(f"is '{first[0]}' a user, in sixth place? Then import it with --system",))
    return Recognised(system=True, notes=("every line has a user in sixth place: read as a system crontab",))


def _first_word(line: Line) -> str:
    return (line.command.split(None, 1) or [""])[0]


def _takes_user(line: Line, is_user: Callable[[str], bool]) -> bool:
    words = line.command.split(None, 1)
    return len(words) == 2 and (words[0] == "root" or is_user(words[0]))


def _doubts(lines: list[Line]) -> list[str]:
    odd = [line for line in lines if _first_word(line) == "root"]
    return (
        [f"line {odd[0].number} begins with 'root': if that is a user, import with --system"] if odd else []
    )
