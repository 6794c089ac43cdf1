"""What `--args` says: the arguments of a run, in every form in which they are typed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from jobrunner.errors import UsageError

_PAIR: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)(:=|=)(.*)", re.ASCII | re.DOTALL)
_FORMS: Final = "write '{\"key\": 1}', '[1, 2]', key=text, key:=json, @file or - (stdin)"
_STDIN: Final = "-"


@dataclass(slots=True)
class Arguments:
    """Positional arguments (None: the task's own) and keyword arguments."""

    args: list[object] | None = None
    kwargs: dict[str, object] = field(default_factory=dict)


def parse_arguments(texts: Sequence[str]) -> Arguments:
    """Reads every `--args`, left to right: objects and pairs are merged, arrays follow one another.

    Raises UsageError.
    """
    found = Arguments()
    for text in texts:
        _take(found, text)
    return found


def _take(found: Arguments, text: str) -> None:
    if text == _STDIN:
        return _take_json(found, sys.stdin.read(), "stdin")
    if text.startswith("@"):
        return _take_json(found, _content(text[1:]), text)
    if text.lstrip()[:1] in ("{", "["):
        return _take_json(found, text, text)
    pair = _PAIR.fullmatch(text)
    if pair is None:
        raise UsageError(f"--args: cannot read {text!r}", help=_FORMS)
    name, sign, value = pair.groups()
    found.kwargs[name] = _json(value, text) if sign == ":=" else value
    return None


def _take_json(found: Arguments, text: str, where: str) -> None:
    value = _json(text, where)
    if isinstance(value, dict):
        found.kwargs.update(value)
    elif isinstance(value, list):
        found.args = [*(found.args or []), *value]
    else:
        raise UsageError(
            f"--args: {where} holds {type(value).__name__}, expected an object or an array", help=_FORMS
        )


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--args: cannot read the file {path!r}: {error}", help=_FORMS) from None


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--args: {where} is not JSON: {error}", help=_FORMS) from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
