"""Files of `KEY=VALUE` lines: quotes, comments and `export` are understood, nothing is expanded."""

from __future__ import annotations

import re
from typing import Final

from .problems import Findings, Place

_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$", re.ASCII)
_QUOTED: Final = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


def parse_environment(text: str, name: str, findings: Findings) -> dict[str, str]:
    """The variables of a file, later lines over earlier ones; lines that cannot be read are findings."""
    variables: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.match(line.rstrip("\r"))
        value = None if found is None else _value(found[2])
        if found is None or value is None or "\0" in value:
            _refuse(Place(name, number, 1, max(1, len(line))), findings)
            continue
        variables[found[1]] = value
    return variables


def _value(text: str) -> str | None:
    """The value after `=`; None when its quotes are not closed or something follows them."""
    if text[:1] not in ("'", '"'):
        return re.sub(r"(^|\s+)#.*$", "", text).rstrip()
    quoted = _QUOTED.match(text)
    rest = "" if quoted is None else text[quoted.end() :].strip()
    if quoted is None or (rest and not rest.startswith("#")):
        return None
    if quoted[1] is not None:
        return quoted[1]
    return re.sub(r"\\(.)", lambda each: _ESCAPES.get(each[1], each[1]), quoted[2], flags=re.DOTALL)


def _refuse(place: Place, findings: Findings) -> None:
    findings.error(
        place,
        "env-file-line",
        "not a line of an env file, expected KEY=VALUE",
        hint="quotes must be closed; a comment begins with #",
    )
